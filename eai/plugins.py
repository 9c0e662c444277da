"""What plug-ins add to the core, by the entry points that they register; the core names none of them.

eai.commands   functions that add commands to the command line
eai.systems    modules of what can be measured besides a model in this process: require, resolve_gpu, meter, facts, System
eai.reports    modules that write an experiment's report: export
eai.engines    modules that run the jobs of a sweep: Options, require, gpus, run, outlook, within
"""

from functools import partial
from importlib.metadata import entry_points
from types import ModuleType

from eai.errors import UserError


def plug_in(group: str, name: str) -> ModuleType:
    """What the plug-in registered as `name` in the group `group`. Raises UserError where it is not installed, or a library of its extra is
    missing."""
    for each in entry_points(group=group, name=name):
        try:
            return each.load()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "eai":
                raise
            extra = each.module.split(".")[1]
            found = f"{error.name} is not installed, which eai.{extra} needs"
            raise UserError(found, f"the extra '{extra}'", f"run `pip install 'eai[{extra}]'`") from None
    raise UserError(f"no plug-in gives {group} '{name}'", "a complete installation", "run `pip install -e .` in the checkout again")


server = partial(plug_in, "eai.systems", "server")
"""The system under test that is a server (eai.serving.served)."""

engine = partial(plug_in, "eai.engines", "snakemake")
"""The engine that runs several jobs, here or on a cluster (eai.cluster.engine)."""

report = partial(plug_in, "eai.reports", "report")
"""What writes the report and talk of an experiment (eai.report.publishing)."""
