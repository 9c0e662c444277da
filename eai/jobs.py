"""Jobs of a sweep, one gpu x one model each: their windows in order, what is on disk, what would stop them, what needs no second run.

What would stop a sweep is found before any GPU second is spent: one line each, with what to do. What went into a notebook of the analysis
is remembered as one digest (notebook, parameters, the package's source, every table's content); so is what came out of it.
"""

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eai import catalog, machine, paths, tables
from eai.errors import UserError
from eai.paths import slug
from eai.power.meter import Meter
from eai.power.simulated import is_simulated, model_of
from eai.settings import EMBEDDED_MODEL, Configuration, Sweep
from eai.store import write_json
from eai.workload import models, sources

SAME_THROUGHOUT = ("window_s", "warmup_cap_s", "idle_s", "threads", "seed", "meter")
RETRIED = ("failed", "lost", "timeout")
NOT_AGAIN = "EAI_NOT_AGAIN"
"""Environment variable: attempts, separated by commas, that failed in this very run and are left for the next one."""


@dataclass(frozen=True)
class PlannedWindow:
    """One window to measure: its block, load and place in the block (all from 1), and repeat."""

    block: int
    load: int
    order: int
    repeat: int
    configuration: Configuration

    @property
    def key(self) -> tuple[int, str, int]:
        return (self.block, self.configuration.configuration_id, self.repeat)


def job_order(sweep: Sweep, gpu: str, model: str) -> list[PlannedWindow]:
    """All windows of the job `gpu` x `model` in the order of measuring; the same sweep and seed give the same order. A block holds every
    configuration once, in random order, and is the replicate. Loading a model costs far more than a window, so that those of one load stay
    together: a split-plot design (Montgomery, Design and Analysis of Experiments, chapter 14)."""
    loads: dict[str, list[Configuration]] = {}
    for configuration in sweep.configurations(gpu, model):
        loads.setdefault(configuration.quantization, []).append(configuration)
    planned: list[PlannedWindow] = []
    for block in range(1, sweep.blocks + 1):
        rng, before = np.random.default_rng([sweep.seed, block]), len(planned)
        for number, quantization in enumerate(rng.permutation(sorted(loads)), start=1):
            cells = [(c, repeat) for c in loads[str(quantization)] for repeat in range(1, sweep.repeats + 1)]
            for configuration, repeat in (cells[i] for i in rng.permutation(len(cells))):
                planned.append(PlannedWindow(block, number, len(planned) - before + 1, repeat, configuration))
    return planned


def device_mark(gpu: str, meter: Meter) -> str:
    """8 characters that tell this card, or this machine where there is none, from another."""
    if gpu == "cpu" and meter.name != "none":
        return machine.machine_mark()
    return slug(meter.devices()[0].device_id.removeprefix("GPU-"))[:8]


def finished_job(experiment: Path, sweep: Sweep, gpu: str, model: str) -> Path | None:
    """A job folder that already holds every window of the sweep, measured the same way, on whichever card; None if there is none."""
    wanted = wanted_keys(sweep, gpu, model)
    complete = (f for f in folders(experiment, gpu, model) if wanted <= done_keys(f) and not differing_settings(f, sweep))
    return next(complete, None)


def folders(experiment: Path, gpu: str, model: str) -> list[Path]:
    """The folders of a job, one a card it has begun on, sorted by name."""
    return sorted(experiment.glob(f"{gpu}--{slug(model)}--*"))


def marks(experiment: Path, gpu: str, model: str) -> list[str]:
    """The marks of the cards on which a job has begun."""
    return [folder.name.rpartition("--")[2] for folder in folders(experiment, gpu, model)]


def wanted_keys(sweep: Sweep, gpu: str, model: str) -> set[tuple[int, str, int]]:
    """The keys (block, configuration_id, repeat) of all windows of a job; the order of measuring does not matter here."""
    ids = [c.configuration_id for c in sweep.configurations(gpu, model)]
    return set(itertools.product(range(1, sweep.blocks + 1), ids, range(1, sweep.repeats + 1)))


def differing_settings(directory: Path, sweep: Sweep) -> list[str]:
    """The settings that decide how a window is measured and that differ from those of the windows already in a job folder."""
    lines = tables.read_jsonl(directory / "provenance.jsonl")
    with whole_rows(directory):
        return [name for name in SAME_THROUGHOUT if any(line["settings"].get(name) != getattr(sweep, name) for line in lines)]


def done_keys(directory: Path) -> set[tuple]:
    """Keys of the windows on disk that need no second try: failures that may be gone tomorrow do."""
    rows, not_again = tables.read_jsonl(directory / "windows.jsonl"), os.environ.get(NOT_AGAIN, "").split(",")
    with whole_rows(directory):
        last = {(row["block"], row["configuration_id"], row["repeat"]): row for row in rows}
        return {key for key, row in last.items() if row["status"] not in RETRIED or row.get("attempt") in not_again}


@contextlib.contextmanager
def whole_rows(directory: Path) -> Iterator[None]:
    """Raises UserError where the block meets a row of a job folder that lacks something, or holds what no writer of ours writes."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{directory} holds a damaged row ({why})", "rows as eai writes them", "restore it from a copy") from None


def resolve_experiment(sweep: Sweep) -> Path:
    """The folder a sweep writes to; `auto` is data/sample if that holds all of it, else a run named after the settings."""
    if sweep.experiment != "auto":
        return tables.experiment_dir(sweep.experiment)
    jobs = [("cpu" if gpu == "auto" else gpu, model) for gpu in sweep.gpus for model in sweep.models]
    sample = tables.experiment_dir("sample")
    if all(finished_job(sample, sweep, *job) for job in jobs):
        return sample
    return tables.experiment_dir(f"run-{sweep.digest()}")


WINDOW_BYTES, JOB_BYTES, ANALYSIS_BYTES = 100_000, 2_000_000, 50_000_000  # generous, of a window, a job and the notebooks with figures
HUB_TIMEOUT_S = 5.0
TICK_NS = 50_000_000  # how far a file system's clock may lie behind
TABLES = ("windows.jsonl", "energies.jsonl", "idle.jsonl", "provenance.jsonl", "scores.parquet")


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
        return f"{self.gpu}--{slug(self.model)}"

    @property
    def windows_left(self) -> int:
        return self.windows - self.windows_done

    @property
    def is_done(self) -> bool:
        return self.windows_left == 0


class Failure(NamedTuple):
    """A job that stopped: what it said, and where to read on: the executed notebook with its traceback, or the log if it had none yet."""

    job: str
    error: str
    notebook: str


def plan(sweep: Sweep, experiment: Path, gpus: Sequence[str] | None = None) -> list[Job]:
    """The jobs of the sweep in the order of its lists; `gpus`: the devices by slug, otherwise looked up on this machine (of a server, what
    its processes are on). Raises UserError for a GPU that is not here or named twice, and for models whose folders would have one name."""
    if gpus is None and sweep.server:
        gpus = [paths.server().resolve_gpu(sweep)]
    elif gpus is None:
        cards = machine.present() if any(g != "cpu" and not is_simulated(g) for g in sweep.gpus) else []
        gpus = [machine.resolve(asked, cards) for asked in sweep.gpus]
        if len(set(gpus)) < len(gpus):
            raise UserError(f"gpus {sweep.gpus} name one kind of card twice ({', '.join(gpus)})", "each once", "take one name out")
    names: dict[str, str] = {}
    for model in sweep.models:
        if (other := names.setdefault(slug(model), model)) != model:
            raise UserError(f"models '{other}' and '{model}' would share a folder", "models whose names differ in letters or digits")
    present: dict[str, list[Path]] = {}  # with one look at the directory: ten thousand jobs must not mean ten thousand globs
    for path in sorted(experiment.iterdir()) if experiment.is_dir() else ():
        present.setdefault(path.name.rpartition("--")[0], []).append(path)
    windows = len(sweep.configurations(gpus[0], sweep.models[0])) * sweep.blocks * sweep.repeats
    found = []
    for gpu in gpus:
        for name, model in names.items():
            best, done, places = None, 0, present.get(f"{gpu}--{name}", ())
            wanted = wanted_keys(sweep, gpu, model) if places else set()
            for folder in places:
                here = len(wanted & done_keys(folder))
                if here > done and not differing_settings(folder, sweep):
                    best, done = folder, here
            found.append(Job(gpu, model, windows, len(sweep.quantizations) * sweep.blocks, done, best))
    return found


def named_gpus(sweep: Sweep) -> list[str]:
    """The slugs of a sweep's GPUs as the catalog knows them, wherever they are. Raises UserError for one that it does not know."""
    return [g if g == "cpu" or (is_simulated(g) and model_of(g)) else catalog.gpu(g).slug for g in sweep.gpus]


def state_dir(experiment: Path) -> Path:
    """The folder of the coordinator's own files inside an experiment."""
    return experiment / ".eai"


def check(sweep: Sweep, planned: Sequence[Job], experiment: Path, figures: Path, options: Any, elsewhere: bool = False) -> None:
    """Nothing, if the sweep can start, here or (`elsewhere`) on a machine with its cards and models. Raises UserError for the first thing
    that would stop it: settings, folders, another sweep or protocol, an engine or profile, a disk too small, models or items that
    are not available."""
    left = [job for job in planned if not job.is_done]
    if options and options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}", "1 or more measurements at once")
    if options and options.timeout_s is not None and not 0 < options.timeout_s < float("inf"):
        raise UserError(f"--timeout {options.timeout_s:g}", "seconds that a job may take, more than 0")
    if options and options.exclusive and not options.is_slurm:
        raise UserError("--exclusive without Slurm", "--profile slurm: whole nodes are the cluster's to give")
    if sweep.meter == "nvml" and any(job.gpu == "cpu" for job in planned):
        raise UserError("meter nvml with gpu cpu", "a meter that sees the processor", "set meter to auto, or gpus to a card")
    simulated, tasks = next((job.gpu for job in left if is_simulated(job.gpu)), ""), sweep.task_cards()
    if simulated and tasks:
        found = f"task {next(iter(tasks))} on {simulated}, which loads no model and can answer nothing"
        raise UserError(found, "tasks [generate]", "or set gpus to a real device")
    for folder in (experiment, figures):
        tables.require_writable(folder)
    ours = (".eai", "figures/*.ipynb", "*/provenance.jsonl", "*/windows.jsonl")
    others = tables.other_files(experiment) if experiment in figures.parents else []
    if others and not any(any(experiment.glob(pattern)) for pattern in ours):
        found = f"{experiment} holds other files ({others[0]})"
        raise UserError(found, "a new or empty folder, or an experiment's", "choose another --out")
    present = {path.parent.name for path in experiment.glob("*/windows.jsonl")}
    mine = {name.rpartition("--")[0] for name in present} & {job.id for job in planned}
    if present and not mine:
        found = f"{experiment} holds another sweep ({min(present)})"
        raise UserError(found, "an empty folder or one of this sweep", "choose another name or --out")
    for job in (job for job in left if job.id in mine):
        for folder in folders(experiment, job.gpu, job.model):
            if differing := differing_settings(folder, sweep):
                found = f"{folder} was measured with another {', '.join(differing)}"
                raise UserError(found, "one protocol an experiment", "choose another name or --out")
    if not left:
        return
    if len(planned) > 1 or options is not None:
        paths.engine().require(options)
    needed = ANALYSIS_BYTES + sum(JOB_BYTES + WINDOW_BYTES * job.windows_left for job in left)
    place = next(f for f in (experiment, *experiment.parents) if f.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        wanted = f"about {needed / 1e6:.0f} MB for this sweep"
        raise UserError(f"{free / 1e6:.0f} MB are free at {place}", wanted, "make room, or use --out on another disk")
    may_be_elsewhere = elsewhere or (options is not None and options.is_slurm)
    if sweep.server:
        return None if may_be_elsewhere else paths.server().require(sweep, left[0].model)
    for model, is_made_up in dict.fromkeys((job.model, is_simulated(job.gpu)) for job in left):
        if is_made_up:  # needs no more than the shapes
            models.known_shapes(model)
        else:
            require_model(model, sweep.weights, may_be_elsewhere)
    for card in tasks.values():
        from eai.workload.tasks import require

        if importlib.util.find_spec("lm_eval") is None and not may_be_elsewhere:
            raise UserError(f"task {card.name} needs lm_eval, which is not installed", "lm_eval", "run `pip install lm_eval==0.4.13`")
        if card.harness:
            require(card.name, card.harness, may_be_elsewhere)


def require_model(model: str, weights: str, may_be_elsewhere: bool = False) -> None:
    """Raises UserError for a model that is neither here nor in the local cache nor on the hub (a HEAD request); with random weights its
    shapes are enough. `may_be_elsewhere`: a hub that cannot be reached from here may be reachable from a node of the cluster."""
    if model == EMBEDDED_MODEL:
        sources.gguf_file()
        return
    if Path(model).expanduser().is_dir() or model.startswith(("/", "./", "../", "~")):
        if weights == "published" or not (Path(model).expanduser() / "config.json").is_file():
            models.locate(model)
        return
    with contextlib.suppress(UserError):
        if weights != "published" and catalog.model(model):
            return
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    do, (name, pinned) = "check its name, or give a folder with safetensors", sources.at_revision(model)
    try:
        if isinstance(try_to_load_from_cache(name, "config.json", **pinned), str):
            return
        if constants.HF_HUB_OFFLINE:
            raise UserError(f"model '{model}' is not in the local cache, and the hub is switched off", "a model that is here", do)
        get_hf_file_metadata(hf_hub_url(name, "config.json", **pinned), timeout=HUB_TIMEOUT_S)
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


@cache
def source_digest() -> str:
    """A digest of every source file of the package."""
    files = sorted([*paths.PACKAGE.rglob("*.py"), *paths.PACKAGE.glob("*.csv")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Freshness:
    """What is remembered of the last analysis of an experiment, in the coordinator's folder: what went in, and what came out. `places`: the
    folders whose files a step may write, besides the experiment's own."""

    def __init__(self, experiment: Path, *places: Path):
        self.path, self._places = state_dir(experiment) / "analysis.json", (experiment, *places)
        files = [path for folder in sorted(experiment.iterdir()) for name in TABLES if (path := folder / name).exists()]
        self._inputs = f"{source_digest()} {tables.digest(files)}"
        try:
            known = json.loads(self.path.read_text())
            self._known: dict[str, dict] = {name: step for name, step in known.items() if isinstance(step, dict)}
        except (OSError, ValueError, AttributeError):
            self._known = {}
        self._began_ns = time.time_ns()

    def _digest(self, name: str, parameters: Mapping[str, Any]) -> str:
        notebook = paths.NOTEBOOKS / f"{name}.ipynb"
        text = (notebook.read_text() if notebook.exists() else "") + json.dumps(dict(parameters), sort_keys=True, default=str)
        return hashlib.sha256(f"{self._inputs} {text}".encode()).hexdigest()

    def is_fresh(self, name: str, parameters: Mapping[str, Any]) -> bool:
        """Whether nothing that goes into the step has changed, and everything that it wrote is there as it wrote it. Where it is not, the
        step is taken to begin now: what is written from here on is its own."""
        known = self._known.get(name, {})
        fresh = known.get("inputs") == self._digest(name, parameters)
        fresh = fresh and all(tables.digest([Path(path)]) == digest for path, digest in known.get("wrote", {}).items())
        self._began_ns = time.time_ns()
        return fresh

    def remember(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Note that the step has been run on what is there now, and what it wrote."""
        files = {p for place in self._places if place.is_dir() for p in place.iterdir() if p.is_file()}
        files |= {p for place in self._places[1:] if place.is_dir() for p in place.glob("report/*") if p.is_file()}
        wrote = {str(p): tables.digest([p]) for p in files if p.stat().st_mtime_ns >= self._began_ns - TICK_NS}
        self._known[name] = {"inputs": self._digest(name, parameters), "wrote": wrote}
        write_json(self.path, self._known)
