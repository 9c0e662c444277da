"""Run the jobs of a sweep that are not done: Snakemake with one workflow and a profile for this machine or for Slurm.

Snakemake queues, counts, submits and keeps going; which windows are missing is decided by what is on disk, never by Snakemake. Its
working directory `<experiment>/.eai` belongs to one coordinator at a time, held by a lock that dies with it: after any kill, `eai run`
again is all that is needed. The scheduler dies with its coordinator, and the jobs with their scheduler.

Snakemake does not reattach to jobs that it has submitted to Slurm before a crash, and a running job overwrites its id in Snakemake's notes
(snakemake#762). Slurm knows: every job carries its working directory and, as a comment, the rule's name.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live
from rich.table import Table

from eai import catalog, paths
from eai.cluster import forecast, single
from eai.cluster.forecast import within as within  # of the engine too: plug-ins are asked for it
from eai.cluster.single import COORDINATOR, kill_below
from eai.errors import UserError
from eai.inputs import too_long, yaml_mapping
from eai.jobs import Failure, Job, named_gpus, plan, state_dir
from eai.power.simulated import PREFIX, is_simulated
from eai.quantity import shortest
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
        folder = WORKFLOW / "profiles" / self.profile if self.profile in PROFILES else Path(self.profile)
        if too_long(str(folder)) or not (folder / "config.yaml").is_file():
            expected = f"{' or '.join(PROFILES)}, or a folder with a config.yaml"
            raise UserError(f"no profile '{self.profile}'", expected, f"see {WORKFLOW.name}/")
        return folder.resolve()

    def _setting(self, name: str) -> Any:
        return yaml_mapping(self.folder / "config.yaml", "a profile of Snakemake").get(name)

    @property
    def is_slurm(self) -> bool:
        return self._setting("executor") == "slurm"

    @property
    def partition(self) -> str:
        """The partition of Slurm that the profile names, empty if it leaves that to the cluster."""
        given = self._setting("default-resources") or ()
        given = [f"{name}={value}" for name, value in given.items()] if isinstance(given, dict) else given
        pairs = (str(entry).partition("=") for entry in (given if isinstance(given, list) else [given]))
        return next((value.strip("'\"") for name, _, value in pairs if name == "slurm_partition"), "")


def require(options: Options | None) -> None:
    """Raises UserError where the engine or its Slurm plugin is missing."""
    for name in ["snakemake"] + ["snakemake_executor_plugin_slurm"] * bool(options and options.is_slurm):
        if importlib.util.find_spec(name) is None:
            do = "run `.venv/bin/pip install -c constraints.txt -e '.[cluster]'`"
            raise UserError(f"{name} is not installed", "it, for several jobs or a profile", do)


def gpus(sweep: Sweep) -> list[str]:
    """The slugs of a sweep's GPUs for a cluster, checked against the types it offers. Raises UserError for `auto`, which only the machine
    with the card could answer, and for a card that no node has."""
    if "auto" in sweep.gpus:
        raise UserError("gpus [auto] with Slurm", "the cards by name: a login node cannot see what the others hold", "see `sinfo -o %G`")
    found = named_gpus(sweep)
    types = gres_types()
    for gpu in found:
        gres_of(gpu, types)
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
    """Write what the workflow and its jobs need to know; marks of earlier runs of these jobs are removed. Slurm is asked for a card, the
    whole node if wanted, and the node of the card that a job began on where that gives it back."""
    nodes, cards, entries = [], dict.fromkeys((job.gpu for job in jobs), ""), {}
    if options.is_slurm:
        nodes = slurm_nodes(options.partition)
        cards = {gpu: gres_of(gpu, gres_types(nodes)) for gpu in cards}
    for job in jobs:
        gres, extra = cards[job.gpu], ["--exclusive"] * options.exclusive
        if job.folder and nodes:
            node = single.nodes(state, job.id).get(job.folder.name.rpartition("--")[2], "")
            extra += [f"--nodelist={node}"] * gives_back(nodes, node, gres, options.exclusive)
        asked = {"gres": gres, "slurm_extra": " ".join(f"'{option}'" for option in extra)}
        entries[job.id] = {"gpu": job.gpu, "model": job.model} | asked
        (state / "failed" / f"{job.id}.json").unlink(missing_ok=True)
    shutil.rmtree(state / "done", ignore_errors=True)
    path, parameters = state / "plan.json", sweep.model_dump(exclude={"baseline", "experiment", "gpus", "models"})
    content = {"path": str(path), "python": sys.executable, "experiment": str(experiment), "figures": str(figures), "jobs": entries}
    # marks of our own: the scheduler of a job that a dead coordinator left behind removes its mark when that fails, which may be late
    content["done"] = f"done/{secrets.token_hex(4)}"
    limits = {"timeout_s": options.timeout_s, "runtime_min": runtime_min(options.timeout_s)}
    write_json(path, content | limits | {"parameters": parameters})
    return path


def command(state: Path, options: Options) -> list[str]:
    """The command line of the scheduler."""
    given = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), "--directory", str(state)]
    given += ["--workflow-profile", "none", "--profile", str(options.folder)]
    if (n := options.jobs) is not None:
        given += ["--jobs", str(n)] if options.is_slurm else ["--cores", str(n), "--resources", f"card={n}"]
    return given


def run(
    sweep: Sweep,
    jobs: Sequence[Job],
    experiment: Path,
    figures: Path,
    options: Options | None = None,
    watch: Callable[[], None] | None = None,
) -> list[Failure]:
    """Run the jobs to their end and return those that failed; a job whose windows are all on disk has not, whatever the scheduler says.
    `watch` is called about twice a second meanwhile, else a terminal shows it. Raises UserError where another coordinator works here,
    EngineFailed where the scheduler itself stopped before every job had its turn."""
    options = options or Options()
    with coordinate(experiment) as state:
        single.revoke(state)
        if options.is_slurm:
            reap(state)
        shutil.rmtree(state / ".snakemake" / "incomplete", ignore_errors=True)
        marks = state / json.loads(write_plan(state, sweep, jobs, experiment, figures, options).read_text())["done"]
        with Progress(jobs, experiment, state) as progress:
            code = _schedule(state, options, watch or progress.draw)
        unmarked = [j.id for j in jobs if not (marks / f"{j.id}.json").exists()]
        complete = {j.id for j in plan(sweep, experiment, list(dict.fromkeys(j.gpu for j in jobs))) if j.is_done} if unmarked else set()
        failures = []
        for job in unmarked:
            log, notebook = state / "logs" / f"{job}.log", figures / "jobs" / job / "measure.ipynb"
            try:
                error = json.loads((state / "failed" / f"{job}.json").read_text())["error"]
            except OSError:
                if job in complete:  # Slurm lost its last word (a node that did not answer in time), and Snakemake took the mark away
                    continue
                said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
                error = f"ended early: {said[0]}" if said else "was not started or was killed"
            failures.append(Failure(job, error, str(notebook if notebook.exists() else log)))
        if code < 0 or (code and not unmarked):
            how = f"was killed by signal {-code}" if code < 0 else f"stopped with exit code {code}"
            raise EngineFailed(f"the scheduler {how}; what was measured is kept, run again to go on; its log is {state / 'engine.log'}")
    return failures


class EngineFailed(Exception):
    """The scheduler stopped for a reason of its own; its log holds it."""


def _schedule(state: Path, options: Options, watch: Callable[[], None]) -> int:
    """Run the scheduler; returns its exit code. Interrupted, it is asked to end with its jobs, then made to."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if not options.is_slurm:
        environment[COORDINATOR] = str(os.getpid())
    with open(state / "engine.log", "ab") as log:
        # the kernel kills it when the coordinator dies: prctl(2)
        die = partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGKILL)
        process = subprocess.Popen(command(state, options), stdout=log, stderr=log, env=environment, preexec_fn=die)
        try:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            if process.poll() is None:  # it cancels what it has submitted, then everything below it that is left is killed
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                kill_below(process.pid)
                process.kill()
                process.wait()


def outlook(sweep: Sweep, planned: Sequence[Job], elsewhere: bool, region: str) -> dict:
    """What a run would meet: `{cannot_run, forecast, lines}`, the last for a person. `elsewhere`: not on this machine."""
    cannot = forecast.obstacles(sweep, planned, elsewhere)
    left = forecast.forecast(sweep, planned, region, cannot.cells)
    lines = [*forecast.obstacle_lines(cannot, planned), *forecast.lines(left)]
    rows = [row._asdict() for row in cannot.rows]
    return {"cannot_run": {"windows": cannot.windows, "configurations": len(rows), "rows": rows}, "forecast": left, "lines": lines}


ROWS = 12
_PLACES = {"done": "done/*/{}.json", "failed": "failed/{}.json", "running": "logs/{}.log"}
_ORDER = ("running", "failed", "waiting", "done")


class Progress:
    """What runs where, how far, and how long still: read from the jobs' own tables while they grow, and drawn where standard error is a
    terminal. `experiment` holds the job folders and `state` the coordinator's notes; what was on disk before is no progress."""

    def __init__(self, jobs: Sequence[Job], experiment: Path, state: Path):
        self.jobs, self.experiment, self.state = {j.id: j for j in jobs}, experiment, state
        self.windows, self.last, self.began_s = Counter(), {}, time.monotonic()  # by job: windows seen; (its card's mark, what came last)
        self.energy_j, self._live, self._drawn_s = 0.0, None, 0.0
        # behind the last whole line: a torn one of a killed writer is cut by the next
        self._offsets = {p: p.read_bytes().rfind(b"\n") + 1 for f in self._folders() for p in f.glob("*.jsonl")}

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exc) -> None:
        if self._live:
            self._live.stop()

    def draw(self) -> None:
        if self._live and time.monotonic() - self._drawn_s >= 1:
            self._drawn_s = time.monotonic()
            self.update()
            self._live.update(self.table(), refresh=True)

    def _folders(self) -> list[Path]:
        return [f for f in self.experiment.glob("*--*") if f.name.rpartition("--")[0] in self.jobs]

    def _new(self, path: Path) -> list[dict[str, Any]]:
        """The rows that another process appended to a table since the last look, whole lines only."""
        offset = self._offsets.get(path, 0)
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._offsets[path] = offset + len(whole + newline)
        return [json.loads(line) for line in whole.splitlines()]

    def update(self) -> None:
        for folder in self._folders():
            job, _, mark = folder.name.rpartition("--")
            windows = self._new(folder / "windows.jsonl")
            self.windows[job] += len(windows)
            self.energy_j += sum(e["energy_j"] or 0.0 for e in self._new(folder / "energies.jsonl") if e["primary"])
            for w in windows[-1:]:
                self.last[job] = f" ({mark})", f"{w['quantization']} batch {w['batch_size']}: {w['status']}"

    def table(self) -> Table:
        """What runs, then what failed, at most a screenful: the job with its card, its windows and what came last (before its first window
        the last line that it has said, such as whom it waits for); below it jobs done, windows and time left, energy so far."""
        rows = []
        for job, planned in self.jobs.items():
            status = next((name for name, place in _PLACES.items() if any(self.state.glob(place.format(job)))), "waiting")
            log, (mark, said) = self.state / "logs" / f"{job}.log", self.last.get(job, ("", ""))
            said = said or (log.read_text(errors="replace").strip().rpartition("\n")[2] if log.exists() else "")
            windows = f"{planned.windows_done + self.windows[job]}/{planned.windows}"
            rows.append((f"{planned.gpu}{mark} x {planned.model}", status, windows, said))
        done, ended = sum(row[1] == "done" for row in rows), self.windows.total()
        to_go = sum(max(j.windows_left - self.windows[j.id], 0) for j in self.jobs.values())
        clock = timedelta(seconds=int((time.monotonic() - self.began_s) / ended * to_go)) if ended else None
        left = f", about {str(clock).removeprefix('0:').removeprefix('0')} left" if ended else ""
        totals = f"{done} of {len(rows)} jobs done, {to_go} windows to go{left}, {shortest(self.energy_j)} J so far"
        drawn = Table("gpu x model", "", "windows", "last", caption=totals, caption_justify="left", expand=True)
        for row in sorted(rows, key=lambda row: _ORDER.index(row[1]))[:ROWS]:
            drawn.add_row(*row)
        return drawn


MARGIN_MIN = 10
REAP_WAIT_S = 120.0
UP, POWER_MARKS = ("idle", "mixed", "allocated", "completing"), "~#!%@^+"
"""States of a node that takes jobs (sinfo(1)), and the marks of power saving behind them; a `*` there means that it does not answer."""


def _ask(*command: str) -> str:
    """What a Slurm command prints. Raises UserError, one line, where it is missing or the cluster does not answer."""
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} is not installed", "Slurm's commands", "run on a login node of the cluster, or use --profile local")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["no answer"])[0]
        raise UserError(f"{' '.join(command[:1])}: {found}", "a cluster that answers", "check `sinfo`")
    return done.stdout


class Node(NamedTuple):
    """A node of the cluster: its GPUs by type, as the administrators named them (an untyped one is an empty name), and whether it is up."""

    name: str
    gpus: Mapping[str, int]
    is_up: bool


def slurm_nodes(partition: str = "") -> list[Node]:
    """The nodes of a partition, or of all of them; a node that does not answer, is drained or reserved counts as not up."""
    found = []
    for line in _ask("sinfo", "-h", "-N", *(["-p", partition] if partition else []), "-o", "%N|%T|%G").splitlines():
        name, state, gres = line.split("|", 2)  # gres: `gpu:h100:8(S:0-1),gpu:2,shard:h100:16`
        gpus = Counter()
        for kind, *rest in (entry.split(":") for entry in re.sub(r"\([^)]*\)", "", gres).split(",")):
            if kind == "gpu":
                number = int(rest.pop()) if rest and rest[-1].isdigit() else 1
                gpus[rest[0] if rest else ""] += number
        found.append(Node(name, dict(gpus), state.rstrip(POWER_MARKS) in UP))
    return found


def gres_types(among: Sequence[Node] | None = None) -> list[str]:
    """The types of GPU that the nodes offer, those of the whole cluster unless some are given."""
    return sorted({name for node in (slurm_nodes() if among is None else among) for name in node.gpus})


def gives_back(among: Sequence[Node], name: str, gres: str, exclusive: bool) -> bool:
    """Whether a job that asks for `gres` on the node `name` is certain to get the card that it had there. Slurm hands out the first card
    that is free: certain is a node of one such card, a whole node, and one without cards."""
    node = next((n for n in among if n.name == name), None)
    if node is None or not node.is_up:
        return False
    return exclusive or not gres or node.gpus.get(gres.split(":")[1] if gres.count(":") > 1 else "", 0) == 1


def gres_of(gpu: str, types: Sequence[str]) -> str:
    """The generic resource to ask for: one card of the type that is `gpu`, an untyped one where the cluster names none, empty for cpu. A
    simulated card takes the place of a real one where the cluster has it. Raises UserError where no type can be told to be that card."""
    if gpu == "cpu":
        return ""
    card = gpu.removeprefix(PREFIX)
    for name in filter(None, types):  # the same slug, an alias of it, or the beginning of it (`a100` for a100_sxm_80gb)
        same = name.lower() in (card, card.split("_")[0])
        with contextlib.suppress(UserError):
            same = same or catalog.gpu(name).slug == card
        if same:
            return f"gpu:{name}:1"
    if is_simulated(gpu):
        return ""
    if "" in types:
        return "gpu:1"
    named = ", ".join(filter(None, types)) or "no GPU"
    raise UserError(f"gpu '{gpu}' is not among the cluster's types ({named})", "a card that the cluster has", "see `sinfo -o %G`")


def runtime_min(timeout_s: float | None) -> int:
    """Minutes to ask for: a job's time limit with a margin for its start; 0, the partition's own, without one."""
    return 0 if timeout_s is None else -(-int(timeout_s) // 60) + MARGIN_MIN


def left_behind(state: Path) -> dict[str, str]:
    """The jobs in Slurm that were submitted from `state`, whoever their coordinator was: id -> what Slurm says it does."""
    told = (line.split("|", 3) for line in _ask("squeue", "-h", "--me", "-o", "%A|%T|%Z|%k").splitlines())
    return {job: doing for job, doing, where, comment in told if where == str(state) and comment.startswith("rule_")}


def reap(state: Path, wait_s: float = REAP_WAIT_S) -> list[str]:
    """Cancel the jobs that an earlier coordinator left in Slurm for this sweep and wait until they are gone; returns their ids. What they
    measured is on disk. A job that stays `COMPLETING` is on a node that does not answer; what may still run there ends itself, as its claim
    is revoked."""
    if reaped := list(left_behind(state)):
        _ask("scancel", *reaped)
    end_s = time.monotonic() + wait_s
    while reaped and (left := left_behind(state)):
        if time.monotonic() > end_s:
            if set(left.values()) == {"COMPLETING"}:
                break
            raise UserError(f"jobs {', '.join(left)} of an earlier run do not end", "a cluster that cancels them", "see `squeue --me`")
        time.sleep(0.5)
    return reaped
