"""What is to be done: the jobs of a sweep and how much of each is on disk, what would stop them, which notebooks need no second run.

What would stop a sweep is found before any GPU second is spent: one line each, with what to do. What went into a notebook of the analysis
is remembered as one digest (notebook, parameters, the package's source, every table's content); so is what came out of it.
"""

import contextlib
import hashlib
import importlib.util
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eai import catalog, jobs, lease, paths, plugins, tables
from eai.errors import UserError
from eai.measure import simulation
from eai.power.simulated import is_simulated, model_of
from eai.settings import EMBEDDED_MODEL, Sweep
from eai.store import write_json


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
    """The jobs of the sweep in the order of its lists; `gpus`: the devices by slug, otherwise looked up on this machine. Raises UserError
    for a GPU that is not here, and for two models whose folders would have one name."""
    devices = resolve_gpus(sweep) if gpus is None else list(gpus)
    names: dict[str, str] = {}
    for model in sweep.models:
        if (other := names.setdefault(jobs.slug(model), model)) != model:
            raise UserError(f"models '{other}' and '{model}' would share a folder", "models whose names differ in letters or digits")
    present, cells = _folders(experiment), len(sweep.configurations(devices[0], sweep.models[0]))
    found = []
    for gpu in devices:
        for name, model in names.items():
            best, done, places = None, 0, present.get(f"{gpu}--{name}", ())
            wanted = jobs.wanted_keys(sweep, gpu, model) if places else set()
            for folder in places:
                here = len(wanted & jobs.done_keys(folder))
                if here > done and not jobs.differing_settings(folder, sweep):
                    best, done = folder, here
            windows, loads = cells * sweep.blocks * sweep.repeats, len(sweep.quantizations) * sweep.blocks
            found.append(Job(gpu, model, windows, loads, done, best))
    return found


def resolve_gpus(sweep: Sweep) -> list[str]:
    """The slugs of the sweep's GPUs on this machine; of a server, what its processes are on. Raises UserError for one that is not here, and
    for one that is named twice."""
    if sweep.server:
        return [plugins.server().resolve_gpu(sweep)]
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


WINDOW_BYTES = 100_000
JOB_BYTES = 2_000_000
ANALYSIS_BYTES = 50_000_000
HUB_TIMEOUT_S = 5.0
TICK_NS = 50_000_000
"""How far a file system's clock may lie behind."""


@dataclass(frozen=True)
class Failure:
    """A job that stopped: what it said, and where to read on: the executed notebook with its traceback, or the log if it had none yet."""

    job: str
    error: str
    notebook: str


def state_dir(experiment: Path) -> Path:
    """The folder of the coordinator's own files inside an experiment."""
    return experiment / ".eai"


def check(sweep: Sweep, planned: Sequence[Job], experiment: Path, figures: Path, options: Any, elsewhere: bool = False) -> None:
    """Nothing, if the sweep can start, here or (`elsewhere`) on a machine with its cards and models. Raises UserError for the first thing
    that would stop it. Settings that contradict each other, an engine or profile that is not there, a folder that cannot be written or
    holds another sweep, a disk too small for what is planned, models that do not exist. GPUs were looked for when the jobs were planned."""
    left = [job for job in planned if not job.is_done]
    _agree(sweep, planned, options)
    for folder in (experiment, figures):
        tables.require_writable(folder)
    if experiment in figures.parents:
        require_own(experiment)
    _same_sweep(sweep, planned, experiment)
    if not left:
        return
    if len(planned) > 1 or options is not None:
        plugins.engine().require(options)
    require_space(experiment, left)
    may_be_elsewhere = elsewhere or (options is not None and options.is_slurm)
    if sweep.server:
        return None if may_be_elsewhere else plugins.server().require(sweep, left[0].model)
    for model, simulated in dict.fromkeys((job.model, is_simulated(job.gpu)) for job in left):
        if simulated:  # needs no more than the shapes
            simulation.shapes(model)
        else:
            require_model(model, sweep.weights, may_be_elsewhere)
    for card in sweep.task_cards().values():
        from eai.workload import tasks

        if importlib.util.find_spec("lm_eval") is None and not may_be_elsewhere:
            raise UserError(f"task {card.name} needs lm_eval, which is not installed", "lm_eval", "run `pip install lm_eval==0.4.13`")
        if card.harness:
            tasks.require(card.name, card.harness, may_be_elsewhere)


def named_gpus(sweep: Sweep) -> list[str]:
    """The slugs of a sweep's GPUs as the catalog knows them, wherever they are. Raises UserError for one that it does not know."""
    return [g if g == "cpu" or (is_simulated(g) and model_of(g)) else catalog.gpu(g).slug for g in sweep.gpus]


def _agree(sweep: Sweep, planned: Sequence[Job], options: Any) -> None:
    """Raises UserError for settings that contradict each other."""
    if options and options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}", "1 or more measurements at once")
    if options and options.timeout_s is not None and not 0 < options.timeout_s < float("inf"):
        raise UserError(f"--timeout {options.timeout_s:g}", "seconds that a job may take, more than 0")
    if options and options.exclusive and not options.is_slurm:
        raise UserError("--exclusive without Slurm", "--profile slurm: whole nodes are the cluster's to give")
    if sweep.meter == "nvml" and any(job.gpu == "cpu" for job in planned):
        raise UserError("meter nvml with gpu cpu", "a meter that sees the processor", "set meter to auto, or gpus to a card")
    simulated = next((job.gpu for job in planned if is_simulated(job.gpu) and not job.is_done), "")
    if simulated and (names := list(sweep.task_cards())):
        found = f"task {names[0]} on {simulated}, which loads no model and can answer nothing"
        raise UserError(found, "tasks [generate]", "or set gpus to a real device")


def require_own(folder: Path) -> None:
    """Raises UserError for a folder in use that no run wrote to: results do not go between somebody's other files. A sweep.yaml may lie in
    the folder of its results."""
    ours = (".eai", "figures/*.ipynb", "*/provenance.jsonl", "*/windows.jsonl")
    others = sorted(p.name for p in folder.iterdir() if p.suffix not in (".yaml", ".yml")) if folder.is_dir() else []
    if others and not any(any(folder.glob(pattern)) for pattern in ours):
        raise UserError(f"{folder} holds other files ({others[0]})", "a new or empty folder, or an experiment's", "choose another --out")


def require_space(folder: Path, left: Sequence[Job]) -> None:
    """Raises UserError if the disk has less room than the missing windows, notebooks and figures will need, by a generous estimate."""
    needed = ANALYSIS_BYTES + sum(JOB_BYTES + WINDOW_BYTES * job.windows_left for job in left)
    folder = next(f for f in (folder, *folder.parents) if f.exists())
    if (free := shutil.disk_usage(folder).free) < needed:
        wanted = f"about {needed / 1e6:.0f} MB for this sweep"
        raise UserError(f"{free / 1e6:.0f} MB are free at {folder}", wanted, "make room, or use --out on another disk")


def _same_sweep(sweep: Sweep, planned: Sequence[Job], experiment: Path) -> None:
    """Raises UserError if the folder was measured in another way, or holds the jobs of another sweep and none of this one."""
    if not experiment.is_dir():
        return
    present = {path.parent for path in experiment.glob("*/windows.jsonl")}
    mine = {folder.name.rpartition("--")[0] for folder in present} & {job.id for job in planned}
    if present and not mine:
        other = f"{experiment} holds another sweep ({min(folder.name for folder in present)})"
        raise UserError(other, "an empty folder or one of this sweep", "choose another name or --out")
    for job in planned:
        for folder in jobs.folders(experiment, job.gpu, job.model) if not job.is_done and job.id in mine else ():
            if differing := jobs.differing_settings(folder, sweep):
                found = f"{folder} was measured with another {', '.join(differing)}"
                raise UserError(found, "one protocol an experiment", "choose another name or --out")


def require_model(model: str, weights: str, may_be_elsewhere: bool = False) -> None:
    """Raises UserError for a model that does not exist; with random weights its shapes are enough. `may_be_elsewhere`: a hub that cannot be
    reached from here may be reachable from a node of the cluster."""
    from eai.workload import models, sources

    if model == EMBEDDED_MODEL:
        sources.gguf_file()
    elif Path(model).expanduser().is_dir() or model.startswith(("/", "./", "../", "~")):
        if weights == "published" or not (Path(model).expanduser() / "config.json").is_file():
            models.locate(model)
    else:
        with contextlib.suppress(UserError):
            if weights != "published" and catalog.model(model):
                return
        _require_on_hub(model, may_be_elsewhere)


def _require_on_hub(model: str, may_be_elsewhere: bool) -> None:
    """Raises UserError if a hub id is neither in the local cache nor on the hub; a HEAD request at most."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    do = "check its name, or give a folder with safetensors"
    try:
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return
        if constants.HF_HUB_OFFLINE:
            raise UserError(f"model '{model}' is not in the local cache, and the hub is switched off", "a model that is here", do)
        get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=HUB_TIMEOUT_S)
    except HFValidationError:
        raise UserError(f"model '{model}'", "a folder, or a hub id such as org/name", do) from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "?"
        raise UserError(f"the hub does not give model '{model}' (HTTP {code})", "a model that exists and may be had", do) from None
    except UserError:
        raise
    except Exception:  # the hub's clients raise a dozen unrelated classes for "not reachable"
        if not may_be_elsewhere:
            raise UserError(f"model '{model}' is not in the local cache, and the hub cannot be reached", "a model", do) from None


TABLES = ("windows.jsonl", "energies.jsonl", "idle.jsonl", "provenance.jsonl", "scores.parquet")


@cache
def source_digest() -> str:
    """A digest of every source file of the package."""
    digest = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tables_digest(experiment: Path) -> str:
    """A digest of the content of the experiment's tables."""
    return tables.digest(path for folder in sorted(experiment.iterdir()) for name in TABLES if (path := folder / name).exists())


class Freshness:
    """What is remembered of the last analysis of an experiment, in the coordinator's folder: what went in, and what came out. `places`: the
    folders whose files a step may write, besides the experiment's own."""

    def __init__(self, experiment: Path, *places: Path):
        self.path, self._places = state_dir(experiment) / "analysis.json", (experiment, *places)
        self._inputs = f"{source_digest()} {tables_digest(experiment)}"
        try:
            known = json.loads(self.path.read_text())
            self._known: dict[str, dict] = {name: step for name, step in known.items() if isinstance(step, dict)}
        except (OSError, ValueError, AttributeError):
            self._known = {}
        self._began_ns = time.time_ns()

    def _digest(self, name: str, parameters: Mapping[str, Any]) -> str:
        """The digest of what goes into one step."""
        notebook = paths.NOTEBOOKS / f"{name}.ipynb"
        text = (notebook.read_text() if notebook.exists() else "") + json.dumps(dict(parameters), sort_keys=True, default=str)
        return hashlib.sha256(f"{self._inputs} {text}".encode()).hexdigest()

    def is_fresh(self, name: str, parameters: Mapping[str, Any]) -> bool:
        """Whether nothing that goes into the step has changed, and everything that it wrote is there as it wrote it. Where it is not, the
        step is taken to begin now: what is written from here on is its own."""
        known = self._known.get(name, {})
        written = known.get("wrote", {})
        fresh = known.get("inputs") == self._digest(name, parameters)
        fresh = fresh and all(tables.digest([Path(path)]) == digest for path, digest in written.items())
        self._began_ns = time.time_ns()
        return fresh

    def remember(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Note that the step has been run on what is there now, and what it wrote."""
        files = [p for place in self._places if place.is_dir() for p in place.iterdir() if p.is_file()]
        files += [p for place in self._places[1:] if place.is_dir() for p in place.glob("report/*") if p.is_file()]
        wrote = {str(p): tables.digest([p]) for p in set(files) if p.stat().st_mtime_ns >= self._began_ns - TICK_NS}
        self._known[name] = {"inputs": self._digest(name, parameters), "wrote": wrote}
        write_json(self.path, self._known)
