"""Simulated sensors on a virtual clock and a fake NVML over them, to be injected where the real binding goes.

It answers with the real binding's constants and exceptions, so the meter under test cannot tell the difference; faults are scheduled.
Time is a clock that the meter shares, so a ten-second window takes milliseconds.
"""

import bisect
import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import numpy as np

from eai.power.meter import Read, beat, next_beat
from eai.power.stream import Row


class Truth(Protocol):
    """A power curve whose energy is known: exact between any two instants."""

    start_s: float
    stop_s: float

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray: ...


@dataclass(frozen=True)
class SensorSpec:
    """A power sensor: every `update_s` (first at `phase_s`) it publishes the mean of the last `averaging_s`, `delay_s` late.

    reading = gain x mean + offset, rounded to `quantum_w`; an update comes up to `jitter_s` late.
    """

    update_s: float = 0.100
    averaging_s: float = 0.025
    phase_s: float = 0.0
    delay_s: float = 0.0
    gain: float = 1.0
    offset_w: float = 0.0
    quantum_w: float = 0.001
    jitter_s: float = 0.0

    def update_times(self, t_s: np.ndarray) -> np.ndarray:
        """When the value visible at each instant was published [s]."""
        k = np.floor((np.asarray(t_s, dtype=float) - self.phase_s) / self.update_s)
        published = self._published(k)
        return np.where(published > t_s, self._published(k - 1), published)

    def _published(self, k: np.ndarray) -> np.ndarray:
        """Lateness is a fixed function of the update's number, so that every reader sees the same sensor."""
        late = self.jitter_s * (np.sin(k * 12.9898) * 43758.5453 % 1.0)
        return self.phase_s + k * self.update_s + late

    def values(self, truth: Truth, published_s: np.ndarray) -> np.ndarray:
        """The value [W] published at each of these instants."""
        end_s = published_s - self.delay_s
        mean_w = (truth.cumulative_j(end_s) - truth.cumulative_j(end_s - self.averaging_s)) / self.averaging_s
        return np.round((self.gain * mean_w + self.offset_w) / self.quantum_w) * self.quantum_w

    def read(self, truth: Truth, t_s: np.ndarray) -> np.ndarray:
        """What a reader sees at each instant [W]."""
        return self.values(truth, self.update_times(t_s))


@dataclass(frozen=True)
class CounterSpec:
    """An energy counter that advances every `tick_s` (first at `phase_s`) in steps of `quantum_j`.

    `feed` None: full rate, it integrates the truth with `gain` and `offset_w`. Else it sums the readings of that power sensor x their
    time: then it shares every fault of the sensor. `reset_at_s`: starts at 0 again; `stale_from_s`: stops advancing.
    """

    tick_s: float = 0.100
    phase_s: float = 0.0
    quantum_j: float = 0.001
    gain: float = 1.0
    offset_w: float = 0.0
    start_j: float = 1.0e6
    feed: SensorSpec | None = None
    reset_at_s: float | None = None
    stale_from_s: float | None = None

    def _true(self, truth: Truth, t_s: np.ndarray) -> np.ndarray:
        if self.feed is None:
            return self.gain * truth.cumulative_j(t_s) + self.offset_w * t_s
        first = truth.start_s - 10.0
        count = int(np.ceil((float(np.max(t_s, initial=first)) - first) / self.feed.update_s)) + 2
        k = np.floor((first - self.feed.phase_s) / self.feed.update_s) + np.arange(max(count, 1))
        times = self.feed.phase_s + k * self.feed.update_s
        sums = np.cumsum(self.feed.values(truth, times)) * self.feed.update_s
        return sums[np.clip(np.searchsorted(times, t_s + 1e-9, "right") - 1, 0, len(sums) - 1)]

    def read(self, truth: Truth, t_s: np.ndarray) -> np.ndarray:
        """The counter [J] at each instant."""
        t_s = np.asarray(t_s, dtype=float)
        if self.stale_from_s is not None:
            t_s = np.minimum(t_s, self.stale_from_s)
        ticked = self.phase_s + np.floor((t_s - self.phase_s) / self.tick_s) * self.tick_s
        value = self.start_j + self._true(truth, ticked)
        if self.reset_at_s is not None:
            value = np.where(t_s >= self.reset_at_s, value - self.start_j - self._true(truth, np.array([self.reset_at_s])), value)
        return np.floor(value / self.quantum_j) * self.quantum_j


class VirtualClock:
    """A clock that moves only when someone waits; samplers beat while it moves, in the order of time.

    `pace`: host seconds that a second of it takes; 0 is as fast as it can.
    """

    def __init__(self, now_s: float = 1000.0, pace: float = 0.0):
        self._now_s, self.pace = now_s, pace
        self._samplers: list[VirtualSampler] = []

    def now_s(self) -> float:
        return self._now_s

    def sampler(self, read: Read, period_s: float) -> "VirtualSampler":
        return VirtualSampler(read, period_s, self)

    def sleep(self, duration_s: float) -> None:
        """Move on, letting every sampler that is due take its reading on the way."""
        end_s = self._now_s + duration_s
        while due := [s for s in self._samplers if s.due_s <= end_s]:
            sampler = min(due, key=lambda s: s.due_s)
            self._now_s = max(self._now_s, sampler.due_s)
            sampler.take()
        self._now_s = end_s
        if self.pace and duration_s > 0:
            time.sleep(self.pace * duration_s)

    def restart(self, now_s: float) -> None:
        """Begin again at `now_s`, without samplers: what follows does not depend on what was before."""
        self._now_s, self._samplers = now_s, []

    def jump(self, by_s: float) -> None:
        """Set the clock by a step, back or forth, as no monotonic clock should."""
        self._now_s += by_s


class VirtualSampler:
    """The sampler of a virtual clock: no thread, the same schedule and the same treatment of a reader that breaks."""

    def __init__(self, read: Read, period_s: float, clock: VirtualClock):
        self.read, self.period_s, self.clock = read, period_s, clock
        self.failure: Exception | None = None
        self.due_s = clock.now_s()
        self._rows: list[Row] = []

    def start(self) -> None:
        self.due_s = self.clock.now_s()
        self.clock._samplers.append(self)

    def take(self) -> None:
        if beat(self.read, self._rows, self.clock, self):
            self.due_s = next_beat(self.due_s, self.period_s, self.clock.now_s())
        else:
            self.clock._samplers.remove(self)

    def stop(self) -> list[Row]:
        if self in self.clock._samplers:
            self.clock._samplers.remove(self)
        rows, self._rows = self._rows, []
        return rows


class Timeline:
    """A power curve that grows while work runs: constant pieces one after the other, `idle_w` before, between and after them.

    A piece is added before its time passes, so that a sensor asked meanwhile sees it; energies are exact, as those of `Truth`.
    """

    def __init__(self, start_s: float, idle_w: float):
        self.idle_w = idle_w
        self._edge_s, self._power_w, self._sum_j = [start_s], [], [0.0]

    def add(self, start_s: float, duration_s: float, power_w: float) -> None:
        """Draw `power_w` from `start_s` on. Raises ValueError for a piece that begins before the last one has ended."""
        if start_s < self._edge_s[-1] or duration_s <= 0:
            raise ValueError(f"a piece of {duration_s} s at {start_s} s does not follow {self._edge_s[-1]} s")
        if start_s > self._edge_s[-1]:
            self._append(start_s, self.idle_w)
        self._append(start_s + duration_s, power_w)

    def _append(self, stop_s: float, power_w: float) -> None:
        self._sum_j.append(self._sum_j[-1] + (stop_s - self._edge_s[-1]) * power_w)
        self._edge_s.append(stop_s)
        self._power_w.append(power_w)

    @property
    def start_s(self) -> float:
        return self._edge_s[0]

    @property
    def stop_s(self) -> float:
        return self._edge_s[-1]

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray:
        """Energy [J] from the start until each instant, negative before it."""
        t_s = np.asarray(t_s, dtype=float)
        return np.array([self._until_j(t) for t in t_s.ravel().tolist()]).reshape(t_s.shape)

    def _until_j(self, t_s: float) -> float:
        piece = bisect.bisect_right(self._edge_s, t_s) - 1
        if piece < 0:
            return (t_s - self._edge_s[0]) * self.idle_w
        power_w = self._power_w[piece] if piece < len(self._power_w) else self.idle_w
        return self._sum_j[piece] + (t_s - self._edge_s[piece]) * power_w


@dataclass
class FakeCard:
    """One simulated GPU. `truth`: its power curve, fixed or growing as the work runs.

    `sensors` maps field names (power_instant_w, power_average_w, power_usage_w) to their behaviour.

    Faults: `lost_at_s` and `error_from_s` (with `error_code`) by the clock, `zero_from_s` for readings of 0, `denied` for NVML functions
    that answer NotSupported, `corrupts_below_s`: reading the counter again within this time loses `corruption` of what was added.
    """

    truth: Truth
    sensors: dict[str, SensorSpec]
    counter: CounterSpec | None = None
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA A100-SXM4-40GB"
    architecture: int = 7
    mig: bool = False
    virtual: bool = False
    processes: tuple[int, ...] = ()
    temperature_c: float = 55.0
    sm_clock_mhz: int = 1410
    power_limit_w: float = 400.0
    memory_total_bytes: int = 40 * 10**9
    memory_used_bytes: int = 16 * 10**9
    throttle_s: tuple[tuple[float, float], ...] = ()
    capped_s: tuple[tuple[float, float], ...] = ()
    lost_at_s: float | None = None
    zero_from_s: float | None = None
    error_from_s: float | None = None
    error_code: int = 999
    denied: frozenset[str] = field(default_factory=frozenset)
    corrupts_below_s: float = 0.0
    corruption: float = 0.0


def _overlap_s(spans: tuple[tuple[float, float], ...], until_s: float) -> float:
    return sum(max(min(stop, until_s) - start, 0.0) for start, stop in spans)


class FakeNvml:
    """The functions of the NVML binding that the meter uses, over `cards` on `clock`; `calls` counts them by name."""

    def __init__(self, cards: list[FakeCard], clock: VirtualClock, driver: str = "550.54.15", vbios: str = "92.00.45.00.03"):
        import pynvml

        self._real, self.cards, self.clock, self.driver, self.vbios = pynvml, cards, clock, driver, vbios
        self.calls: dict[str, int] = defaultdict(int)
        self._counter_read: dict[str, tuple[float, float]] = {}
        self._counter_loss: dict[str, float] = defaultdict(float)

    def __getattr__(self, name: str):
        """Constants and exceptions of the real binding; any function not simulated here is an error of the test."""
        value = getattr(self._real, name)
        if callable(value) and not isinstance(value, type):
            raise AttributeError(f"the fake NVML has no {name}")
        return value

    def _enter(self, function: str, card: FakeCard) -> float:
        """Count the call, raise the faults that are due, return the time."""
        self.calls[function] += 1
        now_s = self.clock.now_s()
        if card.lost_at_s is not None and now_s >= card.lost_at_s:
            raise self._real.NVMLError(self._real.NVML_ERROR_GPU_IS_LOST)
        if function in card.denied:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        if card.error_from_s is not None and now_s >= card.error_from_s:
            raise self._real.NVMLError(card.error_code)
        return now_s

    def _power_w(self, card: FakeCard, name: str, now_s: float) -> float:
        if card.zero_from_s is not None and now_s >= card.zero_from_s:
            return 0.0
        return float(card.sensors[name].read(card.truth, np.array([now_s]))[0])

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card):
        return card.uuid

    def nvmlDeviceGetName(self, card):
        return card.name

    def nvmlDeviceGetArchitecture(self, card):
        return card.architecture

    def nvmlSystemGetDriverVersion(self):
        return self.driver

    def nvmlDeviceGetVbiosVersion(self, card):
        return self.vbios

    def nvmlDeviceGetFieldValues(self, card, field_ids):
        now_s = self._enter("nvmlDeviceGetFieldValues", card)
        names = {self._real.NVML_FI_DEV_POWER_INSTANT: "power_instant_w", self._real.NVML_FI_DEV_POWER_AVERAGE: "power_average_w"}
        values = []
        for field_id in field_ids:
            name = names.get(field_id)
            known = name in card.sensors
            milliwatts = round(1e3 * self._power_w(card, name, now_s)) if known else 0
            published_s = float(card.sensors[name].update_times(np.array([now_s]))[0]) if known else 0.0
            values.append(
                SimpleNamespace(
                    fieldId=field_id,
                    nvmlReturn=0 if known else self._real.NVML_ERROR_NOT_SUPPORTED,
                    value=SimpleNamespace(uiVal=max(milliwatts, 0)),
                    timestamp=int(published_s * 1e6),
                    latencyUsec=40,
                )
            )
        return values

    def nvmlDeviceGetPowerUsage(self, card):
        now_s = self._enter("nvmlDeviceGetPowerUsage", card)
        if "power_usage_w" not in card.sensors:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        return max(round(1e3 * self._power_w(card, "power_usage_w", now_s)), 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, card):
        now_s = self._enter("nvmlDeviceGetTotalEnergyConsumption", card)
        if card.counter is None:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        value_j = float(card.counter.read(card.truth, np.array([now_s]))[0])
        before_s, before_j = self._counter_read.get(card.uuid, (-np.inf, value_j))
        if now_s - before_s < card.corrupts_below_s:
            self._counter_loss[card.uuid] += card.corruption * (value_j - before_j)
        self._counter_read[card.uuid] = (now_s, value_j)
        return int(1e3 * (value_j - self._counter_loss[card.uuid]))

    def nvmlDeviceGetViolationStatus(self, card, policy):
        now_s = self._enter("nvmlDeviceGetViolationStatus", card)
        spans = card.throttle_s if policy == self._real.NVML_PERF_POLICY_THERMAL else card.capped_s
        return SimpleNamespace(referenceTime=int(now_s * 1e6), violationTime=int(_overlap_s(spans, now_s) * 1e9))

    def nvmlDeviceGetEnforcedPowerLimit(self, card):
        self._enter("nvmlDeviceGetEnforcedPowerLimit", card)
        return round(card.power_limit_w * 1e3)

    def nvmlDeviceGetTemperature(self, card, sensor):
        self._enter("nvmlDeviceGetTemperature", card)
        return round(card.temperature_c)

    def nvmlDeviceGetClockInfo(self, card, clock):
        self._enter("nvmlDeviceGetClockInfo", card)
        return card.sm_clock_mhz if clock == self._real.NVML_CLOCK_SM else 1215

    def nvmlDeviceGetUtilizationRates(self, card):
        now_s = self._enter("nvmlDeviceGetUtilizationRates", card)
        return SimpleNamespace(gpu=100 if card.truth.start_s <= now_s <= card.truth.stop_s else 0, memory=0)

    def nvmlDeviceGetMemoryInfo(self, card):
        self._enter("nvmlDeviceGetMemoryInfo", card)
        total, used = card.memory_total_bytes, card.memory_used_bytes
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetCurrentClocksEventReasons(self, card):
        self._enter("nvmlDeviceGetCurrentClocksEventReasons", card)
        return 0

    def nvmlDeviceGetMigMode(self, card):
        self._enter("nvmlDeviceGetMigMode", card)
        return [int(card.mig), int(card.mig)]

    def nvmlDeviceGetVirtualizationMode(self, card):
        self._enter("nvmlDeviceGetVirtualizationMode", card)
        return self._real.NVML_GPU_VIRTUALIZATION_MODE_VGPU if card.virtual else self._real.NVML_GPU_VIRTUALIZATION_MODE_NONE

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        self._enter("nvmlDeviceGetComputeRunningProcesses", card)
        return [SimpleNamespace(pid=pid, usedGpuMemory=10**9) for pid in card.processes]

    def nvmlDeviceGetPersistenceMode(self, card):
        self._enter("nvmlDeviceGetPersistenceMode", card)
        return 1

    def nvmlDeviceGetEccMode(self, card):
        self._enter("nvmlDeviceGetEccMode", card)
        return [1, 1]
