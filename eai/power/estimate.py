"""The meter of last resort: CPU time x a stated power of a busy thread.

Where no hardware counter can be read, energy is CPU time in disguise: good for "which takes less work", not for watts.
So its basis is `estimated`, its interval is wide, and it is never added to a measured energy. Looking for children takes
CPU time itself: it is done before the first reading of our own time and after the last.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from eai.power.clock import Clock
from eai.power.meter import Device, MeterBase
from eai.power.spec import DeviceSpec, Spec
from eai.power.stream import Row, row, to_stream

WATTS_PER_THREAD = 4.0
"""W of one busy hardware thread: thermal design power / hardware threads, near the middle of the processors below."""

RANGE_FACTOR = 2.0
"""The 95 % range of that share is a factor of two either way. Makers' figures, TDP / threads: EPYC 9654 360 W / 192 = 1.9 W,
Xeon 8480+ 350 W / 112 = 3.1 W, EPYC 7763 280 W / 128 = 2.2 W, Core i7-1165G7 28 W / 8 = 3.5 W, Xeon E5-2690 v4
135 W / 28 = 4.8 W, Ryzen 9 7950X 170 W / 32 = 5.3 W, Core i9-13900K 253 W / 32 = 7.9 W: all within 1.9 to 7.9 W."""

U_GAIN_REL = 0.365
"""Relative standard uncertainty (k = 1) of a log-normal whose 95 % range is that factor: sqrt(exp((ln 2 / 1.96)^2) - 1)."""

PROC = Path("/proc")


def _stat(pid: int, proc: Path) -> tuple[int, float] | None:
    """(parent, CPU seconds with its reaped children) of a process from /proc/PID/stat, None once it is gone.

    The command's name may hold spaces and brackets, so fields are counted from the last closing one (proc(5)).
    """
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def families(pids: Iterable[int], proc: Path = PROC) -> dict[int, float]:
    """CPU seconds, with those of reaped children, of each living process of the trees below `pids`, these included."""
    if not proc.is_dir():
        return {}
    table = {int(p.name): s for p in proc.iterdir() if p.name.isdigit() and (s := _stat(int(p.name), proc))}
    family = set(pids)
    for _ in range(len(table)):
        grown = family | {child for child, (parent, _) in table.items() if parent in family}
        if grown == family:
            break
        family = grown
    return {pid: table[pid][1] for pid in family if pid in table}


def descendants_cpu_s(pid: int, proc: Path = PROC) -> float:
    """CPU seconds of the living descendants of a process, with what they have already reaped: a server we started counts."""
    return sum(spent_s for p, spent_s in families([pid], proc).items() if p != pid)


def trees_cpu_s(pids: Iterable[int], proc: Path = PROC) -> float:
    """CPU seconds of processes that are not ours, with all below them: a server and its workers."""
    return sum(families(pids, proc).values())


def children_cpu_s() -> float:
    """CPU seconds of this process's children, ended or running: a server that the work started counts."""
    times = os.times()
    return times.children_user + times.children_system + descendants_cpu_s(os.getpid())


class EstimateMeter(MeterBase):
    """CPU energy of this process and its children, estimated. Boundary cpu_package, basis estimated.

    `processes`: those of a server, which are billed with their children in place of this process; gone, they are lost as a card is.
    """

    name, basis, boundary = "estimate", "estimated", "cpu_package"

    def __init__(
        self,
        watts_per_thread: float = WATTS_PER_THREAD,
        clock: Clock | None = None,
        own_s: Callable[[], float] = time.process_time,
        children_s: Callable[[], float] = children_cpu_s,
        processes: frozenset[int] = frozenset(),
    ):
        super().__init__(clock)
        self.watts_per_thread, self._own_s, self._children_s, self._processes = watts_per_thread, own_s, children_s, processes
        if processes:
            self._own_s, self._children_s = lambda: 0.0, lambda: trees_cpu_s(processes)
        self._rows: list[Row] = []

    def devices(self) -> list[Device]:
        return [Device("cpu-process", cpu_name(), "cpu_package")]

    def start(self) -> None:
        children = self._row("child_cpu_time_s", self._children_s())
        self._rows = [children, self._row("cpu_time_s", self._own_s())]

    def stop(self) -> pd.DataFrame:
        own = self._row("cpu_time_s", self._own_s())
        rows = [*self._rows, own, self._row("child_cpu_time_s", self._children_s())]
        is_gone = self._processes and not families(self._processes)
        return to_stream([*rows, self._row("lost", 1.0)] if is_gone else rows)

    def _row(self, field: str, value: float) -> Row:
        return row(self.clock.now_s(), "cpu-process", "cpu_package", field, value)

    def spec(self, baseline=None, step_time_s=None) -> Spec:
        idle_w, u_idle_w = (None, 0.0)
        if baseline is not None:
            idle_w, u_idle_w = baseline.power_w.get("cpu-process"), baseline.u_power_w.get("cpu-process", 0.0)
        device = DeviceSpec(
            "cpu-process",
            "cpu_package",
            self.basis,
            watts_per_thread=self.watts_per_thread,
            tick_s=1.0 / os.sysconf("SC_CLK_TCK"),
            idle_w=idle_w,
            u_idle_w=u_idle_w,
            gain_rel=U_GAIN_REL,
        )
        return Spec(self.boundary, (device,), step_time_s)

    def limitations(self) -> list[str]:
        whose = "the server's processes" if self._processes else "this process and its children"
        return [
            f"energy is estimated: CPU time of {whose} x {self.watts_per_thread:g} W per busy thread",
            f"the power of a thread is known to a factor of {RANGE_FACTOR:g} (95 %): ratios on this machine are ratios of CPU time, "
            "absolute joules are an order of magnitude",
            "memory, mainboard and power supply are not included, nor is the idle power of the machine",
        ]

    def metadata(self) -> dict:
        return {
            "meter": self.name,
            "cpu": cpu_name(),
            "threads": os.cpu_count(),
            "watts_per_thread": self.watts_per_thread,
            "watts_per_thread_range_factor": RANGE_FACTOR,
            "u_gain_rel": U_GAIN_REL,
            "billed": "server" if self._processes else "this process",
        }


def cpu_name(cpuinfo: Path = PROC / "cpuinfo") -> str:
    """The processor's own name, or the architecture where the system does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine
