"""One job of a sweep in a process of its own: `python -m eai.cluster.single PLAN JOB`.

It runs the measure notebook for one gpu x one model and writes `done/RUN/JOB.json`, or `failed/JOB.json` with the error. It ends with
whoever started it: a killed coordinator, scheduler or node daemon leaves nothing computing on a device. A load on which the kernel dies
twice becomes rows, and the rest of the job goes on; so does what a time limit leaves over.

Slurm may start a job again while its first start lives on, on a node that the controller no longer reaches. So each start writes a claim, a
new coordinator revokes them all, and whoever reads that the claim is no longer its own ends itself. The claim also remembers in which
node each card is, so that a job can be sent back to the card that it began on.
"""

import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from eai import jobs, machine, notebooks, schema, tables
from eai.errors import UserError
from eai.settings import Sweep, sweep
from eai.store import JobStore, new_attempt, write_json

COORDINATOR = "EAI_COORDINATOR"
"""Environment variable: process id of the coordinator on this machine; not set on a cluster's node, whose daemon stands in for it."""
MOST_DEATHS = 6
WATCH_S, CLAIM_S = 0.25, 2.0
"""Seconds between two looks at the starters, in this machine's memory, and at the claim, on a file system that the nodes share."""


class Claim:
    """Written to `path`: that a job is this process's own, and the node of each card, by its mark, that was ever within the job's reach."""

    def __init__(self, path: Path, known: dict[str, str]):
        self.path, self.token = path, secrets.token_hex(8)
        write_json(path, {"token": self.token, "nodes": known})

    def is_held(self) -> bool:
        """Whether nobody has claimed the job after this process; a file that cannot be read is no news."""
        try:
            return json.loads(self.path.read_text())["token"] == self.token
        except (OSError, ValueError, KeyError):
            return True


def claim(state: Path, job: str, gpu: str) -> Claim:
    """Claim a job for this process, and note the cards that it may measure on with the node they are in."""
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    here = [machine.machine_mark()] if gpu == "cpu" else [card.mark for card in machine.present(gpu)]
    return Claim(state / "claims" / f"{job}.json", nodes(state, job) | dict.fromkeys(here, node))


def revoke(state: Path) -> None:
    """End whatever still works on jobs of this sweep, before they are started anew."""
    for path in (state / "claims").glob("*.json"):
        Claim(path, nodes(state, path.stem))


def nodes(state: Path, job: str) -> dict[str, str]:
    """The node of each card that was ever within the job's reach; empty for a job that nobody claimed."""
    try:
        return json.loads((state / "claims" / f"{job}.json").read_text())["nodes"]
    except (OSError, ValueError, KeyError):
        return {}


class Orphaned(Exception):
    """The coordinator ended before the job began: measuring now would compute on a device as an orphan."""


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not, nor does a later process of the same number."""
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def starters(last: int | None) -> list[psutil.Process]:
    """The processes above this one up to `last`, or up to Slurm's step daemon; none of them may end before the job does. Raises Orphaned
    where `last` is not above: it was killed before this process had looked, and nobody will come for the job."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process().parents():
            if process.pid == 1:
                break
            found.append(process)
            if process.pid == last or (last is None and process.name() == "slurmstepd"):
                return found
    if last is not None:
        raise Orphaned(f"process {last}, which started this job, is gone")
    return found[:1]


def kill_below(pid: int) -> None:
    """End every process below `pid`, hard: what it had measured is on disk, and nothing may stay on a device. Kernels have a session of
    their own, so that a group's signal misses them."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def end_unless(holds: Callable[[], bool], every_s: float) -> threading.Thread:
    """A thread that ends this process and everything below it as soon as `holds` no longer says so."""

    def watch() -> None:
        while holds():
            time.sleep(every_s)
        kill_below(os.getpid())
        os._exit(3)

    thread = threading.Thread(target=watch, daemon=True, name="end in time")
    thread.start()
    return thread


def end_with(processes: list[psutil.Process]) -> threading.Thread:
    """A thread that ends this process and everything below it as soon as one of `processes` is gone."""
    return end_unless(lambda: all(map(is_alive, processes)), WATCH_S)


class Single:
    """A job that is being run: its part of the plan, and how often its kernel has died."""

    def __init__(self, plan_path: Path, job: str):
        content = json.loads(plan_path.read_text())
        if job not in content["jobs"]:
            raise UserError(f"no job '{job}' in {plan_path}", f"one of {len(content['jobs'])} jobs")
        self.gpu, self.model = (content["jobs"][job][name] for name in ("gpu", "model"))
        self.state, self.experiment, self.figures = plan_path.parent, Path(content["experiment"]), Path(content["figures"]) / "jobs" / job
        self.parameters = content["parameters"] | {"gpus": [self.gpu], "models": [self.model], "experiment": content["experiment"]}
        self.sweep: Sweep = sweep(**self.parameters)
        self.timeout_s: float | None = content["timeout_s"]
        self.done = self.state / content["done"] / f"{job}.json"
        self.timed_out, self.deaths = False, 0

    def run(self) -> None:
        """Measure until nothing is missing, time is up, or the kernel has died too often. Raises what stopped the job for good."""

        def stop() -> None:  # kills the kernel at the limit: a notebook cannot look at a clock while it hangs
            self.timed_out = True
            kill_below(os.getpid())

        timer = threading.Timer(self.timeout_s or threading.TIMEOUT_MAX, stop)
        timer.daemon = True
        timer.start()
        died_on: tuple[int, int] | None = None
        try:
            while True:
                try:
                    notebooks.execute("measure", self.parameters, self.figures, lambda line: print(line, flush=True))
                    return
                except notebooks.KernelDied:
                    left = self.missing()
                    if self.timed_out:
                        self._give_up("timeout", f"the job took longer than {self.timeout_s:g} s", left)
                        return
                    self.deaths += 1
                    load = (left[0].block, left[0].load) if left else None
                    if self.deaths >= MOST_DEATHS:
                        raise
                    if load == died_on:
                        self._give_up(
                            "failed", "the kernel died here twice (out of memory?)", [w for w in left if (w.block, w.load) == load]
                        )
                    died_on = load
        finally:
            timer.cancel()

    def folder(self) -> Path | None:
        """The job folder that was written last, None if the job never came so far."""
        written = [p for f in jobs.folders(self.experiment, self.gpu, self.model) if (p := f / "provenance.jsonl").exists()]
        return max(written, key=lambda p: p.stat().st_mtime).parent if written else None

    def missing(self) -> list[jobs.PlannedWindow]:
        folder = self.folder()
        done = jobs.done_keys(folder) if folder else set()
        return [w for w in jobs.job_order(self.sweep, self.gpu, self.model) if w.key not in done]

    def _give_up(self, status: str, reason: str, windows: list[jobs.PlannedWindow]) -> None:
        """Write a row for each of `windows` and leave them for the next run. Raises UserError where the job never had a folder."""
        if (folder := self.folder()) is None:
            found = f"{reason}, before anything was measured"
            raise UserError(found, "a job that comes to its first window", "give it more time or memory")
        known = tables.read_jsonl(folder / "provenance.jsonl")[-1]
        common = {c.name: None for c in schema.WINDOWS} | {"flags": [], "job": folder.name, "status": status, "reason": reason}
        common |= {"meter": known["meter"].get("meter"), "basis": known.get("basis")}
        attempts = [new_attempt() for _ in windows]
        with JobStore(folder) as store:
            for attempt, w in zip(attempts, windows, strict=True):
                own = {"attempt": attempt, "configuration_id": w.configuration.configuration_id}
                own |= {name: getattr(w, name) for name in ("block", "repeat", "order", "load")}
                store.append_window(common | w.configuration.columns() | own, [])
        os.environ[jobs.NOT_AGAIN] = ",".join(filter(None, [os.environ.get(jobs.NOT_AGAIN, ""), *attempts]))


def main(plan_path: Path, job: str) -> int:
    """Run one job; returns the exit code: 0 done (with rows for what could not be measured), 1 failed, 3 its starter is gone."""
    coordinator = os.environ.get(COORDINATOR)
    try:
        end_with(starters(int(coordinator) if coordinator else None))
    except Orphaned as gone:
        print(gone, flush=True)
        return 3
    began_s, one = time.monotonic(), Single(plan_path, job)
    try:
        if coordinator is None:
            end_unless(claim(one.state, job, one.gpu).is_held, CLAIM_S)
        one.run()
    except (UserError, notebooks.NotebookFailed) as error:
        write_json(one.state / "failed" / f"{job}.json", {"error": str(error)})
        print(error, flush=True)
        return 1
    write_json(one.done, {"seconds": round(time.monotonic() - began_s, 1), "kernel_deaths": one.deaths})
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
