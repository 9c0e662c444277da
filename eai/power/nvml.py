"""The NVIDIA meter: which cards this process may use, the energy counter at the padded edges, instant power in between.

The only module that talks to NVML. The binding is a parameter, so a simulated card takes the same path as a real one. Limits, clocks and
modes of a card are read and recorded, never changed. What is known about a card's power sensor: published priors, replaced by what was
probed on the card itself, kept per (UUID, driver, VBIOS) in the user's cache, since a new driver may bring a new one.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eai import paths
from eai.errors import UserError
from eai.power.meter import Clock, Device, Meter
from eai.power.readings import DeviceSpec, Row, row, to_stream

if TYPE_CHECKING:
    import pandas as pd

COUNTER_TICK_S = 0.100
ARCHITECTURES = {"Pascal": 4, "Volta": 5, "Turing": 6, "Ampere": 7, "Ada Lovelace": 8, "Hopper": 9, "Blackwell": 10}
"""NVML's numbers of the catalog's architectures."""
GAIN_REL = 0.05
OFFSET_W = 8.3
"""Standard uncertainty of a sensor's offset [W]: the one with which the ratio of a 120 W to a 250 W load is off by 3.6 % rms,
as cards of arXiv:2312.02741 are: 0.036 / (1/120 - 1/250). Their gains scatter by 4.7 % rms around the truth, taken as 5 %."""
FIELDS = (("power_instant_w", "NVML_FI_DEV_POWER_INSTANT"), ("power_average_w", "NVML_FI_DEV_POWER_AVERAGE"))
PAD_MARGIN_S, CONTEXT_S = 0.010, 1.0
INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed inode of the first PID namespace (PROC_PID_INIT_INO): elsewhere NVML's process ids are not ours."""


@dataclass(frozen=True)
class Sensor:
    """Behaviour of one power field and of the energy counter of a card; `source`: published | probed | unknown. update_s: how often the
    field changes; averaging_s: what span a value averages; tick_s: how often the counter advances; full_rate: whether the counter was
    proven to see every instant (None: nobody looked)."""

    field: str
    update_s: float = 0.100
    averaging_s: float = 0.100
    tick_s: float = COUNTER_TICK_S
    full_rate: bool | None = None
    gain_ratio: float = 1.0
    u_gain_ratio: float = 0.05
    gain_rel: float = GAIN_REL
    offset_w: float = OFFSET_W
    scale: float = 1.0
    shift_w: float = 0.0
    source: str = "unknown"

    def doubts(self) -> list[str]:
        """What is not known of this sensor and what that does to the numbers."""
        notes, update_ms = [], self.update_s * 1e3
        if self.source == "unknown":
            notes.append(f"{self.field} is in no published table: update {update_ms:g} ms is an assumption until it is probed")
        if self.averaging_s < 0.95 * self.update_s:
            share = self.averaging_s / self.update_s
            notes.append(f"{self.field} sees {share:.0%} of the time: steps near a multiple of {update_ms:g} ms alias")
        if self.full_rate is None:
            notes.append("whether the energy counter sees all of the time has not been probed")
        elif not self.full_rate:
            notes.append("the energy counter is fed by the same sampling sensor: agreement of the two proves nothing")
        return notes


def prior(name: str, architecture: int, driver: str, field: str | None) -> Sensor:
    """The published behaviour of a field on a card of this product name, NVML architecture number and driver. The first row that fits
    counts: particular dies and drivers stand before their family. Unknown cards get a marked guess."""
    from eai import tables

    field = field or "power_instant_w"
    for entry in tables.read_catalog("sensors").astype(object).fillna("").to_dict("records"):
        fits = entry["field"] == field and int(entry["architecture"]) == architecture and re.search(entry["die_pattern"], name)
        if fits and (not entry["driver"] or driver.split(".")[0] == str(entry["driver"]).split(".")[0]):
            return Sensor(field, float(entry["update_ms"]) / 1e3, float(entry["averaging_ms"]) / 1e3, source="published")
    return Sensor(field)


def _stored(uuid: str) -> tuple[Path, dict]:
    """The file of what was probed on a card, and what it holds: sensors by driver, VBIOS and field."""
    path = paths.cache() / "sensors" / f"{uuid}.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = {}
    return path, found if isinstance(found, dict) else {}


def remember(uuid: str, driver: str, vbios: str, sensor: Sensor) -> bool:
    """Keep what was probed for the next run; False where the cache cannot be written, which costs only the next probe."""
    path, entries = _stored(uuid)
    try:
        paths.write_whole(path, json.dumps(entries | {f"{driver} | {vbios} | {sensor.field}": asdict(sensor)}, indent=1))
    except OSError:
        return False
    return True


def load_nvml():
    """The initialized NVML binding. Raises UserError that says why there is none."""
    try:
        import pynvml
    except ImportError:
        raise UserError("the Python package pynvml is missing", "NVIDIA's binding", "pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f"NVML: {error}", "an NVIDIA GPU with its driver", "run nvidia-smi to see what is wrong") from None
    return pynvml


def text(value) -> str:
    """NVML's strings are bytes in some versions of its binding."""
    return value.decode() if isinstance(value, bytes) else str(value)


def ask(nvml, question, default=None):
    """The answer, or the default where this card or driver does not support the question."""
    try:
        return question()
    except nvml.NVMLError:
        return default


def visible(nvml, environ: Mapping[str, str] = os.environ) -> list[tuple[str, object]]:
    """(UUID, handle) of the cards that CUDA would show to this process, in its order. CUDA_VISIBLE_DEVICES holds indices or (the beginnings
    of) UUIDs and ends at the first that does not exist. CUDA counts the fastest card first unless CUDA_DEVICE_ORDER=PCI_BUS_ID, NVML counts
    by PCI bus. Raises UserError for no visible card, an index among different cards, which is ambiguous, or a MIG slice."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    cards = [(text(nvml.nvmlDeviceGetUUID(h)), h) for h in handles]
    if (wanted := environ.get("CUDA_VISIBLE_DEVICES")) is None:
        chosen, seen = cards, "NVML lists no GPU"
    else:
        chosen, seen = [], f"CUDA_VISIBLE_DEVICES={wanted} leaves none of {len(cards)} GPUs"
        names = {text(nvml.nvmlDeviceGetName(h)) for h in handles}
        for entry in (e.strip() for e in wanted.split(",")):
            if entry.isdigit() and len(names) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
                do = "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the cards by UUID (nvidia-smi -L)"
                raise UserError(f"CUDA_VISIBLE_DEVICES={wanted} among different cards ({', '.join(sorted(names))})", "a clear choice", do)
            if entry.startswith("MIG"):
                do = "a slice has no energy sensor of its own"
                raise UserError(f"CUDA_VISIBLE_DEVICES={wanted} names a MIG slice", "a whole GPU", do)
            matches = cards[int(entry) :][:1] if entry.isdigit() else [c for c in cards if entry and c[0].startswith(entry)]
            if len(matches) != 1:
                break
            if matches[0] in chosen:  # its energy would count twice
                raise UserError(f"CUDA_VISIBLE_DEVICES={wanted} names a card twice", "each card once", "take one out")
            chosen += matches
    if not chosen:
        raise UserError(seen, "a visible NVIDIA GPU", "check CUDA_VISIBLE_DEVICES and nvidia-smi -L")
    return chosen


def card_processes(nvml, handle) -> set[int] | None:
    """Ids of the compute processes on the card, as the driver numbers them; None where it does not tell."""
    found = ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return None if found is None else {p.pid for p in found}


def other_processes(nvml, handle, ours: frozenset[int] = frozenset()) -> int | None:
    """How many compute processes other than this one, its family and `ours` (a server's) are on the card; None where that is unknown.
    In a container NVML tells the host's process ids, so one foreign id may be our own: only the ones beyond it count."""
    if (pids := card_processes(nvml, handle)) is None:
        return None
    others = pids - {os.getpid(), os.getppid()} - ours
    return len(others) - (bool(others) and len(others) == len(pids) and not _initial_namespace())


def _initial_namespace(path: Path = Path("/proc/self/ns/pid")) -> bool:
    try:
        return os.readlink(path) == INITIAL_PID_NAMESPACE
    except OSError:
        return True


def cards_of(processes: frozenset[int], nvml=None, environ=os.environ, guess: bool = True) -> list[tuple[str, str]]:
    """(UUID, name) of the visible cards on which any of these processes runs, by the driver's own list; empty if none does. In a container
    the driver's process ids are not ours: then the cards that are visible are meant, if there is one or they were chosen with
    CUDA_VISIBLE_DEVICES; none without `guess`. Raises UserError where neither tells, and without a driver."""
    nvml = nvml or load_nvml()
    found = visible(nvml, environ)
    used = [(uuid, handle) for uuid, handle in found if (card_processes(nvml, handle) or set()) & processes]
    if not used and not _initial_namespace():
        if guess and len(found) > 1 and "CUDA_VISIBLE_DEVICES" not in environ:
            wrong = f"cannot tell which of {len(found)} cards the server uses"
            raise UserError(wrong, "its processes on a card", "name the cards with CUDA_VISIBLE_DEVICES")
        used = found if guess else []
    return [(uuid, text(nvml.nvmlDeviceGetName(handle))) for uuid, handle in used]


class Card:
    """One GPU: which readings it supports, how its sensor behaves, and how to take each reading as rows of a stream."""

    def __init__(self, nvml, uuid: str, handle, clock: Clock, ours: frozenset[int] = frozenset()):
        self.nvml, self.uuid, self.handle, self.clock, self.ours = nvml, uuid, handle, clock, ours
        self.name, self.driver = text(nvml.nvmlDeviceGetName(handle)), text(nvml.nvmlSystemGetDriverVersion())
        self.vbios = text(ask(nvml, lambda: nvml.nvmlDeviceGetVbiosVersion(handle), ""))
        self.has_counter = ask(nvml, lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) is not None
        self.power_field = "power_usage_w" if ask(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle)) else None
        for name, constant in reversed(FIELDS):  # the first one that shows something
            if (value := ask(nvml, lambda c=constant: self._field(getattr(nvml, c)))) is not None and value[0] > 0:
                self.power_field = name
        architecture = ask(nvml, lambda: nvml.nvmlDeviceGetArchitecture(handle), 0)
        self.sensor = prior(self.name, int(architecture), self.driver, self.power_field)
        probed = _stored(uuid)[1].get(f"{self.driver} | {self.vbios} | {self.sensor.field}")  # under this very driver and VBIOS
        if isinstance(probed, dict) and probed.keys() == vars(self.sensor).keys():  # else another version wrote it
            self.sensor = Sensor(**probed)
        self.is_lost, self.lost_code = False, 0
        self._unsupported: set[str] = set()

    def _field(self, field_id: int) -> tuple[float, float, float]:
        """(value in W, driver time stamp in us, latency in us) of a power field. Raises NVMLError where unsupported."""
        value = self.nvml.nvmlDeviceGetFieldValues(self.handle, [field_id])[0]
        if value.nvmlReturn:
            raise self.nvml.NVMLError(value.nvmlReturn)
        return value.value.uiVal / 1e3, float(value.timestamp), float(value.latencyUsec)

    def power(self) -> list[Row]:
        """The power reading [W]."""
        if self.power_field is None:
            return []
        if self.power_field == "power_usage_w":
            return self._reading("power_usage_w", lambda: self.nvml.nvmlDeviceGetPowerUsage(self.handle) / 1e3)
        field_id = getattr(self.nvml, dict(FIELDS)[self.power_field])
        return self._reading(self.power_field, lambda: self._field(field_id))

    def edge(self) -> list[Row]:
        """What is read only at the edges: the energy counter [J], violation times [ns], the limit in force, other processes. A card that
        was lost before says so in every later window too."""
        if self.is_lost:
            return [self._row("lost", self.lost_code)]
        nvml, handle = self.nvml, self.handle
        rows = self._reading("energy_counter_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3) if self.has_counter else []
        for name, policy in (("thermal", nvml.NVML_PERF_POLICY_THERMAL), ("power", nvml.NVML_PERF_POLICY_POWER)):
            rows += self._reading(f"violation_{name}_ns", lambda p=policy: nvml.nvmlDeviceGetViolationStatus(handle, p).violationTime)
        rows += self._reading("power_limit_w", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3)
        others = other_processes(nvml, handle, self.ours)
        return rows + ([] if others is None else [self._row("other_processes", others)])

    def context(self) -> list[Row]:
        """Temperature, clocks, load, memory and event reasons."""
        nvml, handle = self.nvml, self.handle
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        asked = {
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "mem_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "utilization_pct": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "event_reasons": lambda: reasons(handle),
        }
        return [row for field, read in asked.items() for row in self._reading(field, read)]

    def _row(self, field: str, value: float, *driver: float) -> Row:
        return row(self.clock.now_s(), self.uuid, "gpu", field, value, *driver)

    def _reading(self, field: str, read) -> list[Row]:
        """One row (of a value, or of value, driver's time, latency), or one that says what went wrong; what is not supported is not asked
        again."""
        if self.is_lost or field in self._unsupported:
            return []
        nvml = self.nvml
        try:
            value = read()
            return [self._row(field, *value) if isinstance(value, tuple) else self._row(field, value)]
        except nvml.NVMLError as error:
            code = int(error.value)
        if code in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_RESET_REQUIRED):
            self.is_lost, self.lost_code = True, code
            return [self._row("lost", code)]
        if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION):
            self._unsupported.add(field)
            return []
        return [self._row("error", code)]

    def refusal(self, shared: bool) -> UserError | None:
        """Why this card cannot be measured: MIG, a virtual GPU, other processes (accepted if the user says shared), no sensor."""
        nvml, card = self.nvml, f"GPU {self.uuid}"
        if ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(self.handle)[0]):
            do = "its sensors see all slices together: turn MIG off or take another card"
            return UserError(f"{card} is in MIG mode", "a whole GPU", do)
        if ask(nvml, lambda: nvml.nvmlDeviceGetVirtualizationMode(self.handle)) == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU:
            do = "its energy is not visible from this machine"
            return UserError(f"{card} is a virtual GPU", "a physical or passed-through card", do)
        if (others := other_processes(nvml, self.handle, self.ours)) and not shared:
            do = "stop them (nvidia-smi), or accept them with shared=True"
            return UserError(f"{others} other process(es) on {card}", "a card to ourselves", do)
        if self.power_field is None and not self.has_counter:
            return UserError(f"{card} reports neither power nor energy", "a card with a power sensor", "use another card")
        return None

    def facts(self) -> dict:
        """What describes the card and its settings; None where it does not tell."""
        nvml, handle = self.nvml, self.handle
        known = {name: getattr(self, name) for name in ("uuid", "name", "driver", "vbios", "power_field")}
        return known | {
            "counter": self.has_counter,
            "sensor": asdict(self.sensor),
            "power_limit_w": ask(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
            "persistence_mode": ask(nvml, lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
            "ecc_mode": ask(nvml, lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
        }


class NvmlMeter(Meter):
    """Energy of the visible NVIDIA GPUs, one device each. `gpu`: `auto` or a slug for all visible cards, or UUIDs separated by commas.
    `shared` accepts other processes, whose energy is then in the number; `ours` are no others, those of a server."""

    name, basis, boundary = "nvml", "measured", "gpu"

    def __init__(
        self,
        nvml=None,
        gpu: str = "auto",
        clock: Clock | None = None,
        shared: bool = False,
        environ=os.environ,
        ours: frozenset[int] = frozenset(),
    ):
        super().__init__(clock)
        self._nvml, self._shared = nvml or load_nvml(), shared
        chosen = visible(self._nvml, environ)
        if gpu.startswith("GPU-"):
            wanted = gpu.split(",")
            chosen = [c for c in chosen if c[0] in wanted]
            if len(chosen) < len(wanted):
                raise UserError(f"GPU {gpu} is not visible", "the UUID of a visible GPU", "see nvidia-smi -L")
        self.cards = [Card(self._nvml, uuid, handle, self.clock, ours) for uuid, handle in chosen]
        self._beats, self._sampler = 0, self.clock.sampler(self._read, self.sample_s)

    def devices(self) -> list[Device]:
        return [Device(c.uuid, c.name, "gpu") for c in self.cards]

    @property
    def sample_s(self) -> float:
        """Sampling period [s]: half the shortest update period, so that every update is seen."""
        return min(c.sensor.update_s for c in self.cards) / 2

    @property
    def pad_s(self) -> float:
        """Idle time [s] at each edge: until every sensor has told all it averaged, and the counter has ticked."""
        tell_s = max(max(c.sensor.update_s + c.sensor.averaging_s, c.sensor.tick_s) for c in self.cards)
        return tell_s + self.sample_s + PAD_MARGIN_S

    def open(self) -> NvmlMeter:
        """Itself. Raises UserError for a card that cannot be measured."""
        if error := next((error for card in self.cards if (error := card.refusal(self._shared))), None):
            raise error
        return super().open()

    def start(self) -> None:
        self._sampler.stop()
        self._beats, self._sampler = 0, self.clock.sampler(self._read, self.sample_s)
        self._sampler.start()
        self.clock.sleep(self.pad_s)
        self._edges = [r for card in self.cards for r in card.edge()]

    def stop(self) -> pd.DataFrame:
        self.clock.sleep(self.pad_s)
        self._edges += [r for card in self.cards for r in card.edge()]
        return to_stream([*self._sampler.stop(), *self._edges])

    def _read(self) -> list[Row]:
        """Power at each beat, the slow-moving rest about once a second: more would cost time and tell nothing."""
        rows = [r for card in self.cards for r in card.power()]
        if self._beats % max(math.ceil(CONTEXT_S / self.sample_s), 1) == 0:
            rows += [r for card in self.cards for r in card.context()]
        self._beats += 1
        return rows

    def device_specs(self) -> list[DeviceSpec]:
        specs = []
        for c in self.cards:
            known = {k: v for k, v in asdict(c.sensor).items() if k not in ("field", "source")}
            known |= {"counter_field": "energy_counter_j" if c.has_counter else None, "power_field": c.power_field}
            specs.append(DeviceSpec(c.uuid, "gpu", self.basis, sample_s=self.sample_s, shared=self._shared, **known))
        return specs

    def power_w(self) -> float | None:
        """Power of all cards right now [W]; None where one of them does not answer."""
        rows = [row for card in self.cards for row in card.power() if row[3] == card.power_field]
        return sum(row[4] for row in rows) if rows and len(rows) == len(self.cards) else None

    def limitations(self) -> list[str]:
        notes = ["board power of the GPU: host, memory and power supply are not included"]
        for card in self.cards:
            notes += [f"{card.name}: {note}" for note in card.sensor.doubts()]
            notes += [] if card.has_counter else [f"{card.name}: no energy counter, the integral of power stands alone"]
        return notes

    def metadata(self) -> dict:
        return {"meter": self.name, "sample_s": self.sample_s, "pad_s": self.pad_s, "cards": [c.facts() for c in self.cards]}
