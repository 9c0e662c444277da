"""Meters of the processor: its own counters (RAPL), else an estimate, CPU time x a stated power of a busy thread, and whose CPU time it is.

RAPL is read through Linux powercap; AMD processors (Zen and later) appear under the same `intel-rapl` names. Counters advance about every
millisecond and wrap at `max_energy_range_uj`, which a busy package can reach in minutes: the sampler reads often enough to see each wrap.

Where no counter can be read, energy is CPU time in disguise: its basis is `estimated`, its interval wide, and it is never added to a
measured energy. Looking for children takes CPU time itself: it is done before the first reading of our own time and after the last.

A server's processes are those that listen on its port (proc(5)). Only what is certain counts: a server on another machine, in another
network namespace, of another user or behind a forwarder is not found, and the answer says so.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from eai.errors import UserError
from eai.power.meter import Clock, Device, Meter
from eai.power.readings import DeviceSpec, Row, row, to_stream

if TYPE_CHECKING:
    import pandas as pd

POWERCAP = Path("/sys/class/powercap")
TICK_S = 0.001
"""RAPL energy counters are updated about every millisecond (Intel SDM vol. 3B, 16.10.1 / 15.10.1)."""
SAMPLE_S = 1.0
GAIN_REL = {"cpu_package": 0.05, "dram": 0.10}
"""Standard uncertainty (k = 1). DRAM: within 20 % of the true power (Desrochers et al. 2016, doi:10.1145/2989081.2989088),
taken as a 95 % range. Package: the same 5 % as a GPU's sensor; no maker states one."""
WATTS_PER_THREAD = 4.0
"""W of one busy hardware thread: thermal design power / hardware threads, near the middle of the processors below."""
RANGE_FACTOR = 2.0
"""The 95 % range of that share is a factor of two either way. Makers' figures, TDP / threads: EPYC 9654 360 W / 192 = 1.9 W,
Xeon 8480+ 350 W / 112 = 3.1 W, EPYC 7763 280 W / 128 = 2.2 W, Core i7-1165G7 28 W / 8 = 3.5 W, Xeon E5-2690 v4
135 W / 28 = 4.8 W, Ryzen 9 7950X 170 W / 32 = 5.3 W, Core i9-13900K 253 W / 32 = 7.9 W: all within 1.9 to 7.9 W."""
U_GAIN_REL = 0.365
"""Relative standard uncertainty (k = 1) of a log-normal whose 95 % range is that factor: sqrt(exp((ln 2 / 1.96)^2) - 1)."""


def of_cpu(name: str) -> str:
    """The first value of that name in /proc/cpuinfo, empty where there is none."""
    with contextlib.suppress(OSError):
        if found := re.search(rf"^{name}\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M):
            return found[1].strip()
    return ""


def cpu_name() -> str:
    """The processor's model name as the kernel prints it."""
    return of_cpu("model name") or platform.machine()


@dataclass(frozen=True)
class Domain:
    """One RAPL domain: its folder, a device id, its boundary and the range [J] at which it wraps."""

    path: Path
    device_id: str
    boundary: str
    wrap_j: float

    def read_j(self) -> float:
        """The counter [J]. Raises OSError where it cannot be read (any more)."""
        return int((self.path / "energy_uj").read_text()) / 1e6


def domains(root: Path = POWERCAP) -> list[Domain]:
    """Packages and their DRAM, in the order of the sockets. `core` and `uncore` lie inside the package and `psys` around everything: adding
    them would count twice. The memory-mapped twin (`intel-rapl-mmio`) of a package is the same counter again and is left out."""
    found = []
    for path in sorted(root.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            name, socket_id = (path / "name").read_text().strip(), path.name.split(":")[1]
            wrap_j = int((path / "max_energy_range_uj").read_text()) / 1e6
            if name.startswith("package"):
                found.append(Domain(path, f"cpu-{socket_id}", "cpu_package", wrap_j))
            elif name == "dram":
                found.append(Domain(path, f"dram-{socket_id}", "dram", wrap_j))
    return found


def rapl_refusal(root: Path = POWERCAP) -> UserError | None:
    """Why RAPL cannot be read here and what to do about it; None if it can."""
    if not (found := domains(root)):
        seen = f"no {root}/intel-rapl:* (a virtual machine, a container without it, or no intel_rapl_msr module)"
        return UserError(seen, "the energy counters of the processor", "run on the host itself, or try `sudo modprobe intel_rapl_msr`")
    do = "run `sudo chmod -R a+r /sys/class/powercap/intel-rapl*/` once (until the next boot), or add a udev rule that does it"
    for domain in found:
        file = f"{domain.path}/energy_uj"
        try:
            domain.read_j()
        except PermissionError:
            return UserError(f"permission denied: {file}", "a readable energy counter", f"{do}, and start again")
        except (OSError, ValueError) as error:
            return UserError(f"cannot read {file} ({error})", "a readable energy counter", "check `dmesg`")
    return None


class RaplMeter(Meter):
    """Energy of the CPU packages and, where there is one, of the DRAM. Basis measured."""

    name, basis, boundary = "rapl", "measured", "cpu_package"

    def __init__(self, root: Path = POWERCAP, clock: Clock | None = None):
        super().__init__(clock)
        self.root, self.domains = root, domains(root)
        self._sampler, self._edges = self.clock.sampler(self._read, SAMPLE_S), []

    def devices(self) -> list[Device]:
        return [Device(d.device_id, (d.path / "name").read_text().strip(), d.boundary) for d in self.domains]

    def open(self) -> RaplMeter:
        """Itself. Raises UserError where the counters cannot be read."""
        if error := rapl_refusal(self.root):
            raise error
        return super().open()

    def start(self) -> None:
        self._sampler.start()
        self._edges = self._read()

    def stop(self) -> pd.DataFrame:
        self._edges += self._read()
        return to_stream([*self._sampler.stop(), *self._edges])

    def _read(self) -> list[Row]:
        rows = []
        for d in self.domains:
            try:
                rows.append(row(self.clock.now_s(), d.device_id, d.boundary, "energy_counter_j", d.read_j()))
            except (OSError, ValueError) as error:
                rows.append(row(self.clock.now_s(), d.device_id, d.boundary, "error", getattr(error, "errno", None) or -1))
        return rows

    def device_specs(self) -> list[DeviceSpec]:
        known = {"counter_field": "energy_counter_j", "tick_s": TICK_S, "full_rate": True}
        each = [(d.device_id, d.boundary, d.wrap_j, GAIN_REL[d.boundary]) for d in self.domains]
        return [DeviceSpec(device, boundary, self.basis, wrap_j=wrap_j, gain_rel=gain, **known) for device, boundary, wrap_j, gain in each]

    def limitations(self) -> list[str]:
        notes = ["RAPL sees the whole package: whatever else runs on this machine is in the number"]
        if not any(d.boundary == "dram" for d in self.domains):
            notes.append("this processor has no DRAM counter: memory energy is not measured")
        return notes

    def metadata(self) -> dict:
        counters = {d.device_id: {"path": str(d.path), "wrap_j": d.wrap_j} for d in self.domains}
        return {"meter": self.name, "threads": os.cpu_count(), "counters": counters, "tick_s": TICK_S}


def families(pids: Iterable[int]) -> dict[int, float]:
    """CPU seconds, with those of reaped children, of each living process of the trees below `pids`, these included."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for process in (root := psutil.Process(pid), *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):  # ended since it was listed
                    found[process.pid] = sum(process.cpu_times()[:4])
    return found


def trees_cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of processes with all below them: a server and its workers."""
    return sum(families(pids).values())


def children_cpu_s() -> float:
    """CPU seconds of this process's children, ended or running, with what they have reaped: a server that the work started counts."""
    times, own = os.times(), os.getpid()
    return times.children_user + times.children_system + sum(spent_s for pid, spent_s in families([own]).items() if pid != own)


class EstimateMeter(Meter):
    """CPU energy of this process and its children, estimated. Boundary cpu_package, basis estimated. `processes`: those of a server, which
    are billed with their children in place of this process; gone, they are lost as a card is."""

    name, basis, boundary = "estimate", "estimated", "cpu_package"

    def __init__(
        self,
        clock: Clock | None = None,
        own_s: Callable[[], float] = time.process_time,
        children_s: Callable[[], float] = children_cpu_s,
        processes: frozenset[int] = frozenset(),
    ):
        super().__init__(clock)
        self._own_s, self._children_s, self._processes, self._rows = own_s, children_s, processes, []
        if processes:
            self._own_s, self._children_s = lambda: 0.0, lambda: trees_cpu_s(processes)

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

    def device_specs(self) -> list[DeviceSpec]:
        known = {"watts_per_thread": WATTS_PER_THREAD, "tick_s": 1.0 / os.sysconf("SC_CLK_TCK"), "gain_rel": U_GAIN_REL}
        return [DeviceSpec("cpu-process", "cpu_package", self.basis, **known)]

    def limitations(self) -> list[str]:
        whose = "the server's processes" if self._processes else "this process and its children"
        return [
            f"energy is estimated: CPU time of {whose} x {WATTS_PER_THREAD:g} W per busy thread",
            f"the power of a thread is known to a factor of {RANGE_FACTOR:g} (95 %): ratios on this machine are ratios of CPU time, "
            "absolute joules are an order of magnitude",
            "memory, mainboard and power supply are not included, nor is the idle power of the machine",
        ]

    def metadata(self) -> dict:
        known = {"meter": self.name, "cpu": cpu_name(), "threads": os.cpu_count(), "watts_per_thread": WATTS_PER_THREAD}
        known |= {"watts_per_thread_range_factor": RANGE_FACTOR, "u_gain_rel": U_GAIN_REL}
        return known | {"billed": "server" if self._processes else "this process"}


FORWARDERS = {"docker-proxy", "rootlesskit", "rootlessport", "slirp4netns", "pasta", "passt", "conmon", "ssh", "sshd", "kubectl"}
FORWARDERS |= {"nginx", "haproxy", "caddy", "traefik", "envoy", "socat"}
"""Programs that listen for someone else: their CPU time is not the model's."""


@dataclass(frozen=True)
class ServerProcesses:
    """The processes of a server, or none and the reason why."""

    processes: frozenset[int] = frozenset()
    reason: str = ""


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is this machine: an address can be bound to if it is ours."""
    with contextlib.suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.bind(address)
                return True
    return False


def server_processes(host: str, port: int, pid: int = 0) -> ServerProcesses:
    """The processes of the server at an address; `pid` names its process where something else listens for it (a container, a proxy)."""

    def none(reason: str, do: str = "; name the server's process with server_pid") -> ServerProcesses:
        return ServerProcesses(reason=reason + do)

    if not is_this_machine(host):
        return none("the server is on another machine; run eai on that one", "")
    if pid and not psutil.pid_exists(pid):
        return none(f"server_pid {pid} is no process of this machine", "")
    found = {pid}
    if not pid:
        try:
            found = {c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
        except (psutil.Error, OSError, RuntimeError):
            return none("this system does not tell which process listens")
        if not found:
            return none(f"no process of this machine's network listens on port {port}")
        if not (found := found - {None}):
            return none(f"port {port} belongs to another user's process; name it with server_pid, or run as that user", "")
        if names := {p.info["name"] for p in psutil.process_iter(["name"]) if p.pid in found} & FORWARDERS:
            return none(f"{names.pop()} listens on port {port} for someone else")
    if os.getpid() in families(found):
        return none("the server runs in the process that measures, or started it; run it in a process of its own", "")
    return ServerProcesses(frozenset(found))
