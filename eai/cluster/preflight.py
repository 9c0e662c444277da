"""What would stop a sweep, found before any GPU second is spent: one line each, with what to do."""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from eai import catalog, jobs
from eai.cluster import engine, slurm
from eai.cluster.engine import Options
from eai.cluster.plan import Job
from eai.errors import UserError
from eai.measure import simulation
from eai.power.simulated import is_simulated, model_of
from eai.serving import served
from eai.settings import EMBEDDED_MODEL, Sweep
from eai.taskcards import TaskCard

WINDOW_BYTES = 100_000
JOB_BYTES = 2_000_000
ANALYSIS_BYTES = 50_000_000
HUB_TIMEOUT_S = 5.0


def check(sweep: Sweep, planned: Sequence[Job], experiment: Path, figures: Path, options: Options | None, elsewhere: bool = False) -> None:
    """Nothing, if the sweep can start, here or (`elsewhere`) on a machine with its cards and models. Raises UserError for the first thing
    that would stop it.

    Settings that contradict each other, an engine or profile that is not there, a folder that cannot be written or holds another sweep,
    a disk too small for what is planned, models that do not exist. GPUs were looked for when the jobs were planned.
    """
    left = [job for job in planned if not job.is_done]
    _agree(sweep, planned, options)
    for folder in (experiment, figures):
        require_writable(folder)
    if experiment in figures.parents:
        require_own(experiment)
    _same_sweep(sweep, planned, experiment)
    if not left:
        return
    if len(planned) > 1 or options is not None:
        engine.require_snakemake(options or Options())
    require_space(experiment, left)
    may_be_elsewhere = elsewhere or (options is not None and options.is_slurm)
    if sweep.server:
        return None if may_be_elsewhere else served.require(sweep, left[0].model)
    _require_models(sweep, left, may_be_elsewhere)
    for card in sweep.task_cards().values():
        _require_items(card, may_be_elsewhere)


def _require_models(sweep: Sweep, left: Sequence[Job], may_be_elsewhere: bool) -> None:
    """Raises UserError for the first model that does not exist; a simulated card needs no more than its shapes, a server has its own."""
    for model in dict.fromkeys(job.model for job in left if is_simulated(job.gpu)):
        simulation.shapes(model)
    for model in dict.fromkeys(job.model for job in left if not is_simulated(job.gpu)):
        require_model(model, sweep.weights, may_be_elsewhere)


def _require_items(card: TaskCard, may_be_elsewhere: bool) -> None:
    """Raises UserError for a benchmark that nothing here can run, or whose items cannot be had."""
    from eai.workload import tasks

    if importlib.util.find_spec("lm_eval") is None and not may_be_elsewhere:
        raise UserError(f"task {card.name} needs lm_eval, which is not installed", "lm_eval", "run `pip install lm_eval==0.4.13`")
    if card.harness:
        tasks.require(card.name, card.harness, may_be_elsewhere)


def named_gpus(sweep: Sweep) -> list[str]:
    """The slugs of a sweep's GPUs as the catalog knows them, wherever they are. Raises UserError for one that it does not know."""
    return [g if g == "cpu" or (is_simulated(g) and model_of(g)) else catalog.gpu(g).slug for g in sweep.gpus]


def cluster_gpus(sweep: Sweep) -> list[str]:
    """The slugs of a sweep's GPUs for a cluster, checked against the types it offers.

    Raises UserError for `auto`, which only the machine with the card could answer, and for a card that no node has.
    """
    if "auto" in sweep.gpus:
        raise UserError("gpus [auto] with Slurm", "the cards by name: a login node cannot see what the others hold", "see `sinfo -o %G`")
    found = named_gpus(sweep)
    types = slurm.gres_types()
    for gpu in found:
        slurm.gres(gpu, types)
    return found


def _agree(sweep: Sweep, planned: Sequence[Job], options: Options | None) -> None:
    """Raises UserError for settings that contradict each other."""
    if options and options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}", "1 or more measurements at once")
    if options and options.timeout_s is not None and options.timeout_s <= 0:
        raise UserError(f"--timeout {options.timeout_s:g}", "seconds that a job may take, more than 0")
    if options and options.exclusive and not options.is_slurm:
        raise UserError("--exclusive without Slurm", "--profile slurm: whole nodes are the cluster's to give")
    if sweep.meter == "nvml" and any(job.gpu == "cpu" for job in planned):
        raise UserError("meter nvml with gpu cpu", "a meter that sees the processor", "set meter to auto, or gpus to a card")
    simulated = next((job.gpu for job in planned if is_simulated(job.gpu) and not job.is_done), "")
    if simulated and (names := list(sweep.task_cards())):
        raise UserError(
            f"task {names[0]} on {simulated}, which loads no model and can answer nothing",
            "tasks [generate]",
            "or set gpus to a real device",
        )


def require_writable(folder: Path) -> None:
    """Raises UserError if `folder` cannot be written or made; nothing is made."""
    place = folder
    while not place.exists():
        place = place.parent
    why = "is not a folder" if not place.is_dir() else ""
    if not why and os.statvfs(place).f_flag & os.ST_RDONLY:
        why = "lies on a read-only file system"
    if not why and os.statvfs(place).f_blocks == 0:
        why = "is no place for files"
    if not why and not os.access(place, os.W_OK | os.X_OK):
        why = "is read-only"
    if why:
        raise UserError(f"cannot write to {folder}: {place} {why}", "a writable folder", "choose another with --out")


def require_own(folder: Path) -> None:
    """Raises UserError for a folder in use that no run wrote to: results do not go between somebody's other files.

    A sweep.yaml may lie in the folder of its results.
    """
    ours = (".eai", "figures/*.ipynb", "*/provenance.jsonl", "*/windows.jsonl")
    others = sorted(p.name for p in folder.iterdir() if p.suffix not in (".yaml", ".yml")) if folder.is_dir() else []
    if others and not any(any(folder.glob(pattern)) for pattern in ours):
        raise UserError(f"{folder} holds other files ({others[0]})", "a new or empty folder, or an experiment's", "choose another --out")


def require_new(folder: Path) -> None:
    """Raises UserError for a folder that cannot be written, or that holds anything but a sweep.yaml: nothing is mixed with an import."""
    require_writable(folder)
    if folder.is_dir() and (others := sorted(p.name for p in folder.iterdir() if p.suffix not in (".yaml", ".yml"))):
        raise UserError(f"{folder} holds {others[0]} already", "a new name, or an empty folder", "choose another --out")


def require_space(folder: Path, left: Sequence[Job]) -> None:
    """Raises UserError if the disk has less room than the missing windows, notebooks and figures will need, by a generous estimate."""
    needed = ANALYSIS_BYTES + sum(JOB_BYTES + WINDOW_BYTES * job.windows_left for job in left)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{free / 1e6:.0f} MB are free at {folder}",
            f"about {needed / 1e6:.0f} MB for this sweep",
            "make room, or use --out on another disk",
        )


def _same_sweep(sweep: Sweep, planned: Sequence[Job], experiment: Path) -> None:
    """Raises UserError if the folder was measured in another way, or holds the jobs of another sweep and none of this one."""
    if not experiment.is_dir():
        return
    present = {path.parent for path in experiment.glob("*/windows.jsonl")}
    mine = {folder.name.rpartition("--")[0] for folder in present} & {job.id for job in planned}
    if present and not mine:
        other = min(folder.name for folder in present)
        raise UserError(
            f"{experiment} holds another sweep ({other})", "an empty folder or one of this sweep", "choose another name or --out"
        )
    for job in planned:
        if job.is_done or job.id not in mine:
            continue
        for folder in jobs.folders(experiment, job.gpu, job.model):
            if differing := jobs.differing_settings(folder, sweep):
                raise UserError(
                    f"{folder} was measured with another {', '.join(differing)}",
                    "one protocol an experiment",
                    "choose another name or --out",
                )


def require_model(model: str, weights: str, may_be_elsewhere: bool = False) -> None:
    """Raises UserError for a model that does not exist; with random weights its shapes are enough.

    `may_be_elsewhere`: a hub that cannot be reached from here may be reachable from a node of the cluster.
    """
    from eai.workload import models, sources

    if model == EMBEDDED_MODEL:
        sources.gguf_file()
    elif Path(model).expanduser().is_dir() or model.startswith(("/", "./", "../", "~")):
        if weights == "published" or not (Path(model).expanduser() / "config.json").is_file():
            models.locate(model)
    elif weights == "published" or not _in_catalog(model):
        _require_on_hub(model, may_be_elsewhere)


def _in_catalog(model: str) -> bool:
    try:
        return bool(catalog.model(model))
    except UserError:
        return False


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
