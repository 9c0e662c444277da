"""Run the jobs of a sweep that are not done: Snakemake with one workflow and a profile for this machine or for Slurm.

Snakemake queues, counts, submits and keeps going; which windows are missing is decided by what is on disk, never by Snakemake. Its
working directory `<experiment>/.eai` belongs to one coordinator at a time, held by a lock that dies with it: after any kill, `eai run`
again is all that is needed. The scheduler dies with its coordinator, and the jobs with their scheduler.
"""

import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from eai import paths
from eai.cluster import forecast, single, slurm
from eai.cluster.progress import Progress, View
from eai.cluster.single import COORDINATOR, kill_below
from eai.errors import UserError
from eai.inputs import too_long, yaml_mapping
from eai.plan import Failure, Job, named_gpus, state_dir
from eai.settings import Sweep
from eai.store import write_json

WORKFLOW = paths.WORKFLOW
PROFILES = ("local", "slurm")
POLL_S = 0.5
GRACE_S = 30.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    """How a sweep is run: the profile (local, slurm or a folder), jobs at once (None: the profile's), time limit of a job, whole nodes."""

    profile: str = "local"
    jobs: int | None = None
    timeout_s: float | None = None
    exclusive: bool = False

    @property
    def folder(self) -> Path:
        """The profile's folder. Raises UserError if there is none."""
        folder = WORKFLOW / "profiles" / self.profile if self.profile in PROFILES else Path(self.profile)
        if too_long(str(folder)) or not (folder / "config.yaml").is_file():
            raise UserError(
                f"no profile '{self.profile}'", f"{' or '.join(PROFILES)}, or a folder with a config.yaml", f"see {WORKFLOW.name}/"
            )
        return folder.resolve()

    @property
    def _content(self) -> dict:
        """The profile's settings. Raises UserError for a file that is none."""
        return yaml_mapping(self.folder / "config.yaml", "a profile of Snakemake")

    @property
    def is_slurm(self) -> bool:
        """Whether jobs are submitted to Slurm."""
        return self._content.get("executor") == "slurm"

    @property
    def partition(self) -> str:
        """The partition of Slurm that the profile names, empty if it leaves that to the cluster."""
        given = self._content.get("default-resources") or ()
        pairs = (str(entry).partition("=") for entry in (given if isinstance(given, list) else [given]))
        return next((value.strip("'\"") for name, _, value in pairs if name == "slurm_partition"), "")


def require(options: Options | None) -> None:
    """Raises UserError, with the command that installs it, where the engine or its Slurm plugin is missing."""
    wanted = ["snakemake", *(["snakemake_executor_plugin_slurm"] if options and options.is_slurm else [])]
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            do = "run `.venv/bin/pip install -c constraints.txt -e '.[cluster]'`"
            raise UserError(f"{name} is not installed", "it, for several jobs or a profile", do)


def gpus(sweep: Sweep) -> list[str]:
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


@contextmanager
def coordinate(experiment: Path) -> Iterator[Path]:
    """The coordinator's folder, held while the block runs. Raises UserError if another `eai run` works in this experiment."""
    state = state_dir(experiment)
    state.mkdir(parents=True, exist_ok=True)
    holder, lock = state / "coordinator", FileLock(state / "coordinator.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        by = holder.read_text() if holder.exists() else "unknown"
        raise UserError(f"another `eai run` (process {by}) works in {experiment}", "one coordinator an experiment", "wait for it") from None
    try:
        holder.write_text(str(os.getpid()))
        yield state
    finally:
        lock.release()


def write_plan(state: Path, sweep: Sweep, jobs: Sequence[Job], experiment: Path, figures: Path, options: Options) -> Path:
    """Write what the workflow and its jobs need to know; marks of earlier runs of these jobs are removed."""
    requests = _slurm_requests(state, jobs, options) if options.is_slurm else {j.id: {"gres": "", "slurm_extra": ""} for j in jobs}
    entries = {j.id: {"gpu": j.gpu, "model": j.model} | requests[j.id] for j in jobs}
    for job in entries:
        for kind in ("done", "failed"):
            (state / kind / f"{job}.json").unlink(missing_ok=True)
    path = state / "plan.json"
    content = {
        "path": str(path),
        "python": sys.executable,
        "experiment": str(experiment),
        "figures": str(figures),
        "parameters": sweep.model_dump(exclude={"baseline", "experiment", "gpus", "models"}),
        "timeout_s": options.timeout_s,
        "runtime_min": slurm.runtime_min(options.timeout_s),
        "jobs": entries,
    }
    write_json(path, content)
    return path


def _slurm_requests(state: Path, jobs: Sequence[Job], options: Options) -> dict[str, dict[str, str]]:
    """What each job asks Slurm for: a card, the whole node if wanted, and the node of the card it began on where that gives it back."""
    nodes = slurm.nodes(options.partition)
    types = slurm.gres_types(nodes)
    cards = {gpu: slurm.gres(gpu, types) for gpu in {j.gpu for j in jobs}}
    requests = {}
    for job in jobs:
        gres = cards[job.gpu]
        extra = ["--exclusive"] if options.exclusive else []
        if job.folder:
            node = single.nodes(state, job.id).get(job.folder.name.rpartition("--")[2], "")
            extra += [f"--nodelist={node}"] if slurm.gives_back(nodes, node, gres, options.exclusive) else []
        requests[job.id] = {"gres": gres, "slurm_extra": " ".join(f"'{option}'" for option in extra)}
    return requests


def command(state: Path, options: Options) -> list[str]:
    """The command line of the scheduler."""
    given = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), "--directory", str(state)]
    given += ["--workflow-profile", "none", "--profile", str(options.folder)]
    if options.jobs is not None:
        given += (
            ["--jobs", str(options.jobs)] if options.is_slurm else ["--cores", str(options.jobs), "--resources", f"card={options.jobs}"]
        )
    return given


def run(
    sweep: Sweep,
    jobs: Sequence[Job],
    experiment: Path,
    figures: Path,
    options: Options | None = None,
    watch: Callable[[], None] | None = None,
) -> list[Failure]:
    """Run the jobs to their end and return those that failed; `watch` is called about twice a second meanwhile, else a terminal shows it.

    Raises UserError where another coordinator works here, EngineFailed where the scheduler itself stopped before every job had its turn.
    """
    options = options or Options()
    with coordinate(experiment) as state:
        single.revoke(state)
        if options.is_slurm:
            slurm.reap(state)
        shutil.rmtree(state / ".snakemake" / "incomplete", ignore_errors=True)
        write_plan(state, sweep, jobs, experiment, figures, options)
        with View(Progress(jobs, experiment, state)) as view:
            code = _schedule(state, options, watch or view.update)
        failures = [f for j in jobs if (f := _failure(state, j.id, figures))]
        if code < 0 or (code and not failures):
            how = f"was killed by signal {-code}" if code < 0 else f"stopped with exit code {code}"
            raise EngineFailed(f"the scheduler {how}; what was measured is kept, run again to go on; its log is {state / 'engine.log'}")
    return failures


class EngineFailed(Exception):
    """The scheduler stopped for a reason of its own; its log holds it."""


def _failure(state: Path, job: str, figures: Path) -> Failure | None:
    """Why the job has no result, None if it has."""
    if (state / "done" / f"{job}.json").exists():
        return None
    log, notebook = state / "logs" / f"{job}.log", figures / "jobs" / job / "measure.ipynb"
    try:
        error = json.loads((state / "failed" / f"{job}.json").read_text())["error"]
    except OSError:
        said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        error = f"ended early: {said[0]}" if said else "was not started or was killed"
    return Failure(job, error, str(notebook if notebook.exists() else log))


def _schedule(state: Path, options: Options, watch: Callable[[], None]) -> int:
    """Run the scheduler; returns its exit code. Interrupted, it is asked to end with its jobs, then made to."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if not options.is_slurm:
        environment[COORDINATOR] = str(os.getpid())
    with open(state / "engine.log", "ab") as log:
        process = subprocess.Popen(command(state, options), stdout=log, stderr=log, env=environment, preexec_fn=_die_with_parent)
        try:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            if process.poll() is None:
                _stop(process)


def _die_with_parent() -> None:
    """In the new process: let the kernel kill it when the coordinator dies (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen) -> None:
    """End the scheduler: it cancels what it has submitted, then everything below it that is left is killed."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    kill_below(process.pid)
    process.kill()
    process.wait()


def within(sweep: Sweep, planned: Sequence[Job], hours: float, elsewhere: bool) -> tuple[Sweep, list[str]]:
    """The part of the sweep that shows most in so many hours, and what it can show (`budget.within`)."""
    from eai.cluster import budget

    return budget.within(sweep, planned, hours, elsewhere)


def outlook(sweep: Sweep, planned: Sequence[Job], elsewhere: bool, region: str) -> dict:
    """What a run would meet: `{cannot_run, forecast, lines}`, the last for a person. `elsewhere`: not on this machine."""
    cannot = forecast.obstacles(sweep, planned, elsewhere)
    left = forecast.forecast(sweep, planned, region, cannot.cells)
    lines = [*forecast.obstacle_lines(cannot, planned), *forecast.lines(left)]
    return {"cannot_run": cannot.to_json(), "forecast": left, "lines": lines}
