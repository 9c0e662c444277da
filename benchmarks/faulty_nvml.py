"""Simulated cards with faults, for the tests and benchmarks of the meter: what breaks is scheduled by the clock."""

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from eai.power.simulated import ANSWERS, FACTS, SensorSpec, SimulatedCard, SimulatedNvml
from eai.power.simulated import CounterSpec as GoodCounter


@dataclass(frozen=True)
class CounterSpec(GoodCounter):
    """A counter that may be fed by a power sensor: it sums its readings x their time and shares its faults.

    `reset_at_s`: starts at 0 again; `stale_from_s`: stops advancing.
    """

    feed: SensorSpec | None = None
    reset_at_s: float | None = None
    stale_from_s: float | None = None

    def counted_j(self, truth, t_s: np.ndarray) -> np.ndarray:
        if self.feed is None:
            value = super().counted_j(truth, t_s)
        else:
            first = truth.start_s - 10.0
            count = int(np.ceil((float(np.max(t_s, initial=first)) - first) / self.feed.update_s)) + 2
            k = np.floor((first - self.feed.phase_s) / self.feed.update_s) + np.arange(max(count, 1))
            times = self.feed.phase_s + k * self.feed.update_s
            sums = np.cumsum(self.feed.values(truth, times)) * self.feed.update_s
            value = self.start_j + sums[np.clip(np.searchsorted(times, t_s + 1e-9, "right") - 1, 0, len(sums) - 1)]
        if self.reset_at_s is None:
            return value
        return np.where(t_s >= self.reset_at_s, value - super().counted_j(truth, np.array([self.reset_at_s])), value)

    def read(self, truth, t_s: np.ndarray) -> np.ndarray:
        return super().read(truth, t_s if self.stale_from_s is None else np.minimum(t_s, self.stale_from_s))


@dataclass
class FakeCard(SimulatedCard):
    """A card with faults: `error_from_s` (with `error_code`) by the clock, `zero_from_s` for readings of 0, `denied` for
    NVML functions that answer NotSupported, `corrupts_below_s`: reading the counter again within this time loses `corruption` of what was
    added.
    """

    mig: bool = False
    virtual: bool = False
    processes: tuple[int, ...] = ()
    throttle_s: tuple[tuple[float, float], ...] = ()
    capped_s: tuple[tuple[float, float], ...] = ()
    zero_from_s: float | None = None
    error_from_s: float | None = None
    error_code: int = 999
    denied: frozenset[str] = field(default_factory=frozenset)
    corrupts_below_s: float = 0.0
    corruption: float = 0.0


def _violated(nvml, card: FakeCard, policy: int) -> SimpleNamespace:
    spans = card.throttle_s if policy == nvml.NVML_PERF_POLICY_THERMAL else card.capped_s
    seconds = sum(max(min(stop, nvml.clock.now_s()) - start, 0.0) for start, stop in spans)
    return SimpleNamespace(violationTime=int(seconds * 1e9))


def _virtualization(nvml, card: FakeCard) -> int:
    return nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU if card.virtual else nvml.NVML_GPU_VIRTUALIZATION_MODE_NONE


def _energy(nvml, card: FakeCard) -> int:
    value_j, now_s = ANSWERS["TotalEnergyConsumption"](nvml, card) / 1e3, nvml.clock.now_s()
    before_s, before_j = nvml.counter_read.get(card.uuid, (-np.inf, value_j))
    if now_s - before_s < card.corrupts_below_s:
        nvml.counter_loss_j[card.uuid] += card.corruption * (value_j - before_j)
    nvml.counter_read[card.uuid] = (now_s, value_j)
    return int(1e3 * (value_j - nvml.counter_loss_j[card.uuid]))


class FakeNvml(SimulatedNvml):
    """The driver of cards with faults; `calls` counts its functions by name."""

    answers = ANSWERS | {
        "TotalEnergyConsumption": _energy,
        "ViolationStatus": _violated,
        "VirtualizationMode": _virtualization,
        "MigMode": lambda nvml, card: [int(card.mig)] * 2,
        "ComputeRunningProcesses": lambda nvml, card: [SimpleNamespace(pid=pid, usedGpuMemory=10**9) for pid in card.processes],
    }

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.calls: dict[str, int] = defaultdict(int)
        self.counter_read: dict[str, tuple[float, float]] = {}
        self.counter_loss_j: dict[str, float] = defaultdict(float)

    def _answer(self, name: str, card: FakeCard, *arguments):
        """The answer after the faults that are due."""
        self.calls[f"nvmlDeviceGet{name}"] += 1
        if f"nvmlDeviceGet{name}" in card.denied:
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        if name not in FACTS and card.error_from_s is not None and self.clock.now_s() >= card.error_from_s:
            raise self.NVMLError(card.error_code)
        return super()._answer(name, card, *arguments)

    def power_mw(self, card: FakeCard, name: str) -> int:
        return 0 if card.zero_from_s is not None and self.clock.now_s() >= card.zero_from_s else super().power_mw(card, name)
