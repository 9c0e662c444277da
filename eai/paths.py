"""Where things stand. Directories: of the checkout, or of the installed package and the current folder; never relative to a notebook.

In a checkout the sourced tables, the sample and the notebooks stand in it, and results go to its `data/runs` and `figures`. Installed
by pip, the same files lie in the package's folder `share`, and results go to `data/runs` and `figures` of the current folder.
`EAI_DATA` and `EAI_FIGURES` move the written parts elsewhere (tests, a scratch disk); `EAI_CACHE` moves converted models and fits.

Plug-ins stand behind the entry points that they register; the core names none of them:

eai.commands   functions that add commands to the command line
eai.systems    modules of what can be measured besides a model in this process: require, resolve_gpu, meter, facts, System
eai.reports    modules that write an experiment's report: export
eai.engines    modules that run the jobs of a sweep: Options, require, gpus, run, outlook, within
"""

import os
import re
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from eai.errors import UserError

PACKAGE = Path(__file__).resolve().parent
IS_CHECKOUT = (PACKAGE.parent / "data" / "schema.csv").exists()
ROOT = PACKAGE.parent if IS_CHECKOUT else PACKAGE / "share"
NOTEBOOKS = ROOT / "notebooks"
WORKFLOW = ROOT / "workflow"
PACKAGED_DATA = ROOT / "data"
SAMPLE = PACKAGED_DATA / "sample"
MEASURED = PACKAGED_DATA / "measured"
CATALOG = PACKAGED_DATA / "catalog"
PUBLISHED = PACKAGED_DATA / "published"
SCHEMA = PACKAGED_DATA / "schema.csv"


def results() -> Path:
    """The directory under which results are written: the checkout, else the current folder."""
    return ROOT if IS_CHECKOUT else Path.cwd()


def runs() -> Path:
    """The directory that holds one folder an experiment."""
    return Path(os.environ.get("EAI_DATA", results() / "data")) / "runs"


def figures() -> Path:
    """The directory that holds the executed notebooks and figures, one folder an experiment."""
    return Path(os.environ.get("EAI_FIGURES", results() / "figures"))


def cache() -> Path:
    """The user's cache folder for converted models, probed sensors and fits; created by whoever writes there."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eai"
    return Path(os.environ.get("EAI_CACHE", default))


def write_whole(path: Path, text: str) -> Path:
    """Write a file under another name and rename it: whoever sees the file sees all of it. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # two processes may write one file at the same moment
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(path)


def slug(text: str) -> str:
    """The text as part of a folder name: lower case, everything but letters, digits, dot and dash turned into dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


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
