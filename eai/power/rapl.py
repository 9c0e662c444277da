"""CPU package and DRAM energy from the processor's own counters (RAPL), read through Linux powercap.

AMD processors (Zen and later) appear under the same `intel-rapl` names. Counters advance about every millisecond and
wrap at `max_energy_range_uj`, which a busy package can reach in minutes: the sampler reads often enough to see each wrap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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

PERMISSION_HINT = (
    "run `sudo chmod -R a+r /sys/class/powercap/intel-rapl*/` once (until the next boot), or add a udev rule that does it, and start again"
)


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
        try:
            name = (path / "name").read_text().strip()
            wrap_j = int((path / "max_energy_range_uj").read_text()) / 1e6
        except (OSError, ValueError):
            continue
        socket = path.name.split(":")[1]
        if name.startswith("package"):
            found.append(Domain(path, f"cpu-{socket}", "cpu_package", wrap_j))
        elif name == "dram":
            found.append(Domain(path, f"dram-{socket}", "dram", wrap_j))
    return found


def refusal(root: Path = POWERCAP) -> UserError | None:
    """Why RAPL cannot be read here and what to do about it; None if it can."""
    found = domains(root)
    if not found:
        found = f"no {root}/intel-rapl:* (a virtual machine, a container without it, or no intel_rapl_msr module)"
        return UserError(found, "the energy counters of the processor", "run on the host itself, or try `sudo modprobe intel_rapl_msr`")
    for domain in found:
        try:
            domain.read_j()
        except PermissionError:
            return UserError(f"permission denied: {domain.path}/energy_uj", "a readable energy counter", PERMISSION_HINT)
        except (OSError, ValueError) as error:
            return UserError(f"cannot read {domain.path}/energy_uj ({error})", "a readable energy counter", "check `dmesg`")
    return None


class RaplMeter(Meter):
    """Energy of the CPU packages and, where there is one, of the DRAM. Basis measured."""

    name, basis, boundary = "rapl", "measured", "cpu_package"

    def __init__(self, root: Path = POWERCAP, clock: Clock | None = None):
        super().__init__(clock)
        self._root, self._domains = root, domains(root)
        self._sampler = self.clock.sampler(self._read, SAMPLE_S)
        self._edges: list[Row] = []

    def devices(self) -> list[Device]:
        return [Device(d.device_id, (d.path / "name").read_text().strip(), d.boundary) for d in self._domains]

    def open(self) -> RaplMeter:
        """Itself. Raises UserError where the counters cannot be read."""
        if error := refusal(self._root):
            raise error
        return super().open()

    def close(self) -> None:
        self._sampler.stop()
        super().close()

    def start(self) -> None:
        self._edges = []
        self._sampler.start()
        self._edges += self._read()

    def stop(self) -> pd.DataFrame:
        self._edges += self._read()
        return to_stream([*self._sampler.stop(), *self._edges])

    def _read(self) -> list[Row]:
        rows = []
        for d in self._domains:
            try:
                rows.append(row(self.clock.now_s(), d.device_id, d.boundary, "energy_counter_j", d.read_j()))
            except (OSError, ValueError) as error:
                code = getattr(error, "errno", None) or -1
                rows.append(row(self.clock.now_s(), d.device_id, d.boundary, "error", code))
        return rows

    def device_specs(self) -> list[DeviceSpec]:
        known = {"counter_field": "energy_counter_j", "tick_s": TICK_S, "full_rate": True}
        return [
            DeviceSpec(d.device_id, d.boundary, self.basis, wrap_j=d.wrap_j, gain_rel=GAIN_REL[d.boundary], **known) for d in self._domains
        ]

    def limitations(self) -> list[str]:
        notes = ["RAPL sees the whole package: whatever else runs on this machine is in the number"]
        if not any(d.boundary == "dram" for d in self._domains):
            notes.append("this processor has no DRAM counter: memory energy is not measured")
        return notes

    def metadata(self) -> dict:
        counters = {d.device_id: {"path": str(d.path), "wrap_j": d.wrap_j} for d in self._domains}
        return {"meter": self.name, "threads": os.cpu_count(), "counters": counters, "tick_s": TICK_S}
