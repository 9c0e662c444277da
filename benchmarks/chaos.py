"""Kill -9 at random moments over a simulated sweep, then compare with a run nobody touched; prints one JSON line.

    python benchmarks/chaos.py [--kills 100] [--minutes 10] [--seed 0] [--profile slurm]

A victim is drawn each time among what runs: the coordinator (`eai run`), the scheduler below it, the process of a job, the kernel of its
notebook, and with --profile slurm (on a machine whose slurmd runs under this user) the daemon of a node, which is started again as it
was. What has ended is started again by the same command. When a sweep is complete a new one begins, until the kills are used up.

The simulated card's energies depend on a window's key alone, so they must be equal to the last bit; it is slowed down
(EAI_SIMULATED_PACE), so that kills fall inside windows.
"""

import argparse
import collections
import datetime
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eai import jobs, measure, settings, tables
from eai.cluster.engine import Options

MARK = "EAI_CHAOS"
PROC = Path("/proc")
PACE = 0.02
GRACE_S, MEAN_S, START_S = 10.0, 3.0, 20.0
"""Seconds that a process may outlive its coordinator, between two kills on average, and that a kernel is waited for."""

GPU = "simulated_h200_sxm"
MODELS = ["mistralai/Mistral-7B-Instruct-v0.2", "Qwen/Qwen2-1.5B-Instruct"]
ENGINE = """import json, sys
from pathlib import Path
from eai import settings
from eai.cluster import engine
from eai.jobs import plan
sweep, out = settings.read_sweep(Path(sys.argv[1])), Path(sys.argv[2])
left = [job for job in plan(sweep, out) if not job.is_done]
if left:
    engine.run(sweep, left, out, out / "figures", engine.Options())
sys.exit(any(not job.is_done for job in plan(sweep, out)))
"""
"""A coordinator that measures and leaves the analysis out: for a small form of this program."""

ROLES = {
    "coordinator": "eai run",
    "engine": "eai.cluster import engine",
    "scheduler": "-m snakemake",
    "job": "-m eai.cluster.single",
    "kernel": "ipykernel_launcher",
}


@dataclass
class Tally:
    """What happened: kills by role, starts, sweeps completed, and everything that must stay at none."""

    kills: collections.Counter = field(default_factory=collections.Counter)
    starts: int = 0
    sweeps: int = 0
    windows: int = 0
    retried: int = 0
    wrong: list[str] = field(default_factory=list)
    longest_end_s: float = 0.0

    def document(self, seconds: float) -> dict:
        """The result as one document."""
        counts = {"kills": sum(self.kills.values()), "by_role": dict(self.kills), "starts": self.starts, "sweeps": self.sweeps}
        counts |= {"windows": self.windows, "windows_tried_again": self.retried, "longest_end_s": round(self.longest_end_s, 1)}
        return counts | {"wrong": self.wrong, "passed": not self.wrong and self.sweeps > 0, "seconds": round(seconds, 1)}


def sweep_of(round_number: int, blocks: int, models: int) -> dict:
    """The settings of one sweep; another seed each round."""
    shape = {"quantizations": ["fp16", "int8_pure", "nf4_dq"], "batch_sizes": [1, 4, 16], "input_tokens": [64], "output_tokens": [32]}
    return {"gpus": [GPU], "models": MODELS[:models], "blocks": blocks, "seed": round_number, "weights": "random_outliers"} | shape


def family(mark: str) -> dict[int, str]:
    """Process id -> role of everything that carries this run's mark in its environment; `other` for what has no part of its own."""
    found = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes():
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if command and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[int(entry.name)] = next((role for role, part in ROLES.items() if part in command), "other")
        except OSError:
            continue
    return found


def node_daemons() -> dict[int, str]:
    """Process id -> `daemon` of each slurmd on this machine, empty where none of this user runs."""
    try:
        config = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=10).stdout
        path = Path(next(line.split("=")[1].strip() for line in config.splitlines() if line.startswith("SlurmdPidFile")))
        pids = [int(file.read_text()) for file in path.parent.glob(path.name.replace("%n", "*").replace("%h", "*"))]
        return {pid: "daemon" for pid in pids if (PROC / str(pid) / "comm").read_text().strip() == "slurmd"}
    except (OSError, StopIteration, ValueError, subprocess.TimeoutExpired):
        return {}


class Chaos:
    """One campaign of kills in one folder. `options`: of `eai run`; None: the engine alone, without the analysis."""

    def __init__(self, folder: Path, kills: int, minutes: float, seed: int, blocks: int, models: int, options: list[str] | None):
        self.folder, self.kills, self.blocks, self.models, self.options = folder, kills, blocks, models, options
        self.daemons: list[subprocess.Popen] = []
        self.rng, self.tally, self.mark = np.random.default_rng(seed), Tally(), secrets.token_hex(8)
        self.end_s, self.mean_s = time.monotonic() + 60 * minutes, MEAN_S
        self.environ = os.environ | {MARK: self.mark, "EAI_LOCKS": str(folder / "locks"), "EAI_SIMULATED_PACE": str(PACE)}
        self.environ |= {"EAI_FIGURES": str(folder / "figures"), "OMP_NUM_THREADS": "1"}

    @property
    def is_over(self) -> bool:
        """Whether the kills, or the time for them, are used up."""
        return sum(self.tally.kills.values()) >= self.kills or time.monotonic() > self.end_s

    def run(self) -> Tally:
        """Sweep after sweep until the kills are used up; each is completed and compared with an undisturbed one."""
        try:
            while not self.is_over:
                self._sweep(self.tally.sweeps)
                self.tally.sweeps += 1
        finally:
            for daemon in self.daemons:
                daemon.terminate()
        return self.tally

    def _sweep(self, number: int) -> None:
        asked, out = sweep_of(number, self.blocks, self.models), self.folder / f"sweep-{number}"
        path = self.folder / f"sweep-{number}.yaml"
        path.write_text(json.dumps(asked))
        command = [sys.executable, "-c", ENGINE, str(path), str(out)]
        if self.options is not None:
            command = [str(Path(sys.executable).with_name("eai")), "run", str(path), "--out", str(out), *self.options]
        committed: set[str] = set()
        code, in_vain = None, 0
        while code != 0 and in_vain < 5:
            code, disturbed = self._start(command, out, committed)
            in_vain = 0 if disturbed else in_vain + 1
        if code != 0:
            self.tally.wrong.append(f"sweep {number} ended with {code} although nobody disturbed it")
        self._compare(asked, out, committed, number)

    def _start(self, command: list[str], out: Path, committed: set[str]) -> tuple[int, bool]:
        """Start the sweep and kill until it ends; returns its exit code and whether it was disturbed."""
        self.tally.starts += 1
        disturbed = False
        with open(self.folder / "log.txt", "ab") as log:
            process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, cwd=self.folder)
        while process.poll() is None:
            if not self.is_over and self.rng.uniform() < 2 / 3:
                self._wait_for_a_kernel(process)
            try:
                process.wait(0.2 + float(self.rng.exponential(self.mean_s)))
            except subprocess.TimeoutExpired:
                if not self.is_over:
                    disturbed |= self._kill_one()
                    committed |= {row["attempt"] for row in rows(out)}
        if not self.is_slurm or process.returncode == 0:
            self._wait_for_the_family(process.pid)
        return process.returncode, disturbed

    @property
    def is_slurm(self) -> bool:
        """Whether jobs run below Slurm's daemon: they outlive their coordinator until the next one takes them back."""
        return bool(self.options) and Options(self.options[1]).is_slurm

    def _wait_for_a_kernel(self, process: subprocess.Popen) -> None:
        """Until a notebook runs, or for START_S: two kills of three shall fall into measuring, the others anywhere."""
        end_s = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < end_s and "kernel" not in family(self.mark).values():
            time.sleep(0.1)

    def _kill_one(self) -> bool:
        """Draw a role that runs and kill one process of it; whether there was one."""
        running = family(self.mark) | (node_daemons() if self.is_slurm else {})
        roles = sorted(set(running.values()) - {"other"})
        if not roles:
            return False
        role = str(self.rng.choice(roles))
        victim = int(self.rng.choice(sorted(pid for pid, r in running.items() if r == role)))
        command = (PROC / str(victim) / "cmdline").read_bytes().split(b"\0")[:-1] if role == "daemon" else []
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if command:
            time.sleep(0.5)
            with open(self.folder / "log.txt", "ab") as log:
                self.daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        self.tally.kills[role] += 1
        return True

    def _wait_for_the_family(self, coordinator: int) -> None:
        """Nothing may outlive the coordinator for long: an orphan would go on computing on a device."""
        began_s = time.monotonic()
        while left := {pid: role for pid, role in family(self.mark).items() if role != "other"}:
            if time.monotonic() - began_s > GRACE_S:
                self.tally.wrong.append(f"{sorted(left.values())} outlived coordinator {coordinator} by {GRACE_S:g} s")
                return
            time.sleep(0.1)
        self.tally.longest_end_s = max(self.tally.longest_end_s, time.monotonic() - began_s)

    def _compare(self, asked: dict, out: Path, committed: set[str], number: int) -> None:
        """What the killed sweep holds against one that was left alone."""
        whole = self.folder / f"whole-{number}"
        os.environ.update(EAI_SIMULATED_PACE="0", EAI_LOCKS=str(self.folder / "locks"))
        measure.run(settings.sweep(**asked, experiment=str(whole)), lambda line: None)
        found, expected = energies(out), energies(whole)
        self.tally.windows += len(expected)
        self.tally.wrong += [f"sweep {number}: {text}" for text in differences(found, expected)]
        lines = rows(out)
        good = collections.Counter(key_of(row) for row in lines if row["status"] not in jobs.RETRIED)
        self.tally.retried += sum(row["status"] in jobs.RETRIED for row in lines)
        self.tally.wrong += [f"sweep {number}: {key} measured {n} times" for key, n in good.items() if n > 1]
        if gone := committed - {row["attempt"] for row in lines}:
            self.tally.wrong.append(f"sweep {number}: {len(gone)} windows that were on disk are gone")
        if overlapping(lines):
            self.tally.wrong.append(f"sweep {number}: two windows ran at once on one card")


def rows(out: Path) -> list[dict]:
    """Every line of every job's windows, whatever its status."""
    return [row for path in sorted(out.glob("*/windows.jsonl")) for row in tables.read_jsonl(path)]


def key_of(row: dict) -> tuple:
    """What makes two rows the same window: the job without its card, block, configuration and repeat."""
    return (row["job"].rpartition("--")[0], row["block"], row["configuration_id"], row["repeat"])


def energies(experiment: Path) -> dict[tuple, list[tuple]]:
    """(method, energy [J], net [J]) of each window that counts, by key; status where there is no energy."""
    windows = {row["attempt"]: row for row in tables.read_windows(experiment).to_dict("records")}
    found: dict[tuple, list[tuple]] = {key_of(row): [(row["status"],)] for row in windows.values()}
    for e in tables.read_energies(experiment).to_dict("records"):
        found[key_of(windows[e["attempt"]])].append((e["method"], e["energy_j"], e["net_energy_j"]))
    return {key: sorted(values, key=str) for key, values in found.items()}


def differences(found: dict, expected: dict) -> list[str]:
    """What differs between two experiments, empty if nothing does."""
    lost, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    other = [key for key in expected.keys() & found.keys() if expected[key] != found[key]]
    told = [(len(lost), "windows are missing"), (len(more), "windows too many"), (len(other), "windows with other energies")]
    return [f"{n} {text}" for n, text in told if n]


def overlapping(lines: list[dict]) -> bool:
    """Whether two windows of one card ran at the same time, by their start on the wall clock and the pace."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for row in (r for r in lines if r["started_at"]):
        start_s = datetime.datetime.fromisoformat(row["started_at"]).timestamp()
        spans.setdefault(row["job"].rpartition("--")[2], []).append((start_s, start_s + PACE * row["duration_s"]))
    ordered = [sorted(times) for times in spans.values()]
    return any(later[0] < earlier[1] - 0.01 for times in ordered for earlier, later in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--profile", default=None, help="local, slurm or a folder; default: local")
    arguments = parser.parse_args()
    options = ["--profile", arguments.profile] if arguments.profile else []
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), arguments.kills, arguments.minutes, arguments.seed, arguments.blocks, len(MODELS), options)
        found = chaos.run().document(time.monotonic() - began_s)
    print(json.dumps({"benchmark": "chaos", "seed": arguments.seed, "profile": arguments.profile or "local"} | found))
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
