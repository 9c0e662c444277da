"""The meter of last resort, CPU time x a stated power of a busy thread, and whose CPU time it is.

Where no hardware counter can be read, energy is CPU time in disguise: good for "which takes less work", not for watts.
So its basis is `estimated`, its interval is wide, and it is never added to a measured energy. Looking for children takes
CPU time itself: it is done before the first reading of our own time and after the last.

A server's processes are those that listen on its port, found in /proc as the kernel lists them (proc(5)). Only what is certain counts: a
server on another machine, in another network namespace, of another user or behind a forwarder is not found, and the answer says so.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eai.power.meter import Clock, Device, MeterBase
from eai.power.stream import DeviceSpec, Row, Spec, row, to_stream

if TYPE_CHECKING:
    import pandas as pd


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


LISTENING = "0A"
FORWARDERS = (
    "docker-proxy",
    "rootlesskit",
    "rootlessport",
    "slirp4netns",
    "pasta",
    "passt",
    "conmon",
    "ssh",
    "sshd",
    "kubectl",
    "nginx",
    "haproxy",
    "caddy",
    "traefik",
    "envoy",
    "socat",
)
"""Names of programs that listen for someone else: their CPU time is not the model's."""


@dataclass(frozen=True)
class ServerProcesses:
    """The processes of a server, or none and the reason why."""

    processes: frozenset[int] = frozenset()
    reason: str = ""


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is this machine: an address can be bound to if it is ours."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
        except OSError:
            continue
        return True
    return False


def server_processes(host: str, port: int, pid: int = 0, proc: Path = PROC) -> ServerProcesses:
    """The processes of the server at an address; `pid` names its process where something else listens for it (a container, a proxy)."""
    if not is_this_machine(host):
        return ServerProcesses(reason="the server is on another machine; run eai on that one")
    if not (proc / "net").exists():
        return ServerProcesses(reason="this system has no /proc to find the server's process in")
    if pid:
        found = frozenset([pid]) if (proc / str(pid)).is_dir() else frozenset()
        return _not_us(found, proc) if found else ServerProcesses(reason=f"server_pid {pid} is no process of this machine")
    inodes = _listening(port, proc)
    if not inodes:
        return ServerProcesses(
            reason=f"no process of this machine's network listens on port {port}; name the server's process with server_pid"
        )
    found = _holders(inodes, proc)
    if not found:
        return ServerProcesses(reason=f"port {port} belongs to another user's process; name it with server_pid, or run as that user")
    names = {_comm(p, proc) for p in found} & set(FORWARDERS)
    if names:
        return ServerProcesses(reason=f"{names.pop()} listens on port {port} for someone else; name the server's process with server_pid")
    return _not_us(found, proc)


def _not_us(found: frozenset[int], proc: Path) -> ServerProcesses:
    """The processes, unless we are one of them: then our own work cannot be told from the server's."""
    if os.getpid() in families(found, proc):
        return ServerProcesses(reason="the server runs in the process that measures, or started it; run it in a process of its own")
    return ServerProcesses(found)


def _listening(port: int, proc: Path) -> set[str]:
    """The inodes of the TCP sockets that listen on a port."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [row.split() for row in rows]
        inodes |= {f[9] for f in fields if f[3] == LISTENING and int(f[1].rpartition(":")[2], 16) == port}
    return inodes


def _holders(inodes: set[str], proc: Path) -> frozenset[int]:
    """The processes that hold one of these sockets open, as far as we may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return frozenset(int(p.name) for p in proc.iterdir() if p.name.isdigit() and _open_files(p) & wanted)


def _open_files(process: Path) -> set[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return set()
    found = set()
    for descriptor in descriptors:
        try:
            found.add(os.readlink(descriptor))
        except OSError:
            continue
    return found


def _comm(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""
