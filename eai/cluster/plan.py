"""The jobs of a sweep and how much of each is on disk: what decides which are started at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eai import jobs, lease
from eai.errors import UserError
from eai.power.simulated import is_simulated
from eai.settings import Sweep


@dataclass(frozen=True)
class Job:
    """One gpu x one model: how many windows and loads it has, how many windows are done, and the folder that holds most of them."""

    gpu: str
    model: str
    windows: int
    loads: int
    windows_done: int
    folder: Path | None

    @property
    def id(self) -> str:
        """The job's name in the workflow: its folder's without the card."""
        return f"{self.gpu}--{jobs.slug(self.model)}"

    @property
    def is_done(self) -> bool:
        """Whether every window is on disk."""
        return self.windows_done == self.windows

    @property
    def windows_left(self) -> int:
        """Windows that are missing."""
        return self.windows - self.windows_done


def plan(sweep: Sweep, experiment: Path, gpus: Sequence[str] | None = None) -> list[Job]:
    """The jobs of the sweep in the order of its lists; `gpus`: the devices by slug, otherwise looked up on this machine.

    Raises UserError for a GPU that is not here, and for two models whose folders would have one name.
    """
    devices = resolve_gpus(sweep) if gpus is None else list(gpus)
    names: dict[str, str] = {}
    for model in sweep.models:
        if (other := names.setdefault(jobs.slug(model), model)) != model:
            raise UserError(f"models '{other}' and '{model}' would share a folder", "models whose names differ in letters or digits")
    present, cells = _folders(experiment), len(sweep.configurations(devices[0], sweep.models[0]))
    return [_job(sweep, gpu, model, cells, present.get(f"{gpu}--{name}", ())) for gpu in devices for name, model in names.items()]


def resolve_gpus(sweep: Sweep) -> list[str]:
    """The slugs of the sweep's GPUs on this machine; of a server, what its processes are on.

    Raises UserError for one that is not here, and for one that is named twice.
    """
    if sweep.server:
        from eai.serving import whereabouts

        return [whereabouts.resolve_gpu(sweep)]
    needs_driver = any(g != "cpu" and not is_simulated(g) for g in sweep.gpus)
    cards = lease.present() if needs_driver else []
    found = [lease.resolve(asked, cards) for asked in sweep.gpus]
    if len(set(found)) < len(found):
        raise UserError(f"gpus {sweep.gpus} name one kind of card twice ({', '.join(found)})", "each once", "take one name out")
    return found


def _folders(experiment: Path) -> dict[str, list[Path]]:
    """Job folders by `gpu--model`, with one look at the directory: ten thousand jobs must not mean ten thousand globs."""
    found: dict[str, list[Path]] = {}
    if experiment.is_dir():
        for path in sorted(experiment.iterdir()):
            found.setdefault(path.name.rpartition("--")[0], []).append(path)
    return found


def _job(sweep: Sweep, gpu: str, model: str, cells: int, folders: Sequence[Path]) -> Job:
    """One job with what its best folder holds; keys are computed only where there is a folder to compare them with."""
    best, done = None, 0
    wanted = jobs.wanted_keys(sweep, gpu, model) if folders else set()
    for folder in folders:
        here = len(wanted & jobs.done_keys(folder))
        if here > done and not jobs.differing_settings(folder, sweep):
            best, done = folder, here
    return Job(gpu, model, cells * sweep.blocks * sweep.repeats, len(sweep.quantizations) * sweep.blocks, done, best)
