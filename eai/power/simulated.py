"""A GPU that exists in software alone: known power over virtual time, seen through simulated sensors by the real meter.

`gpus: [simulated_h200_sxm]`, or any other NVIDIA slug of the catalog, runs the whole pipeline without a GPU and without loading a
model. Everything it yields has the basis `simulated`: it tests the measuring, it measures nothing. Its sensors behave as published for
its architecture (arXiv:2312.02741), with a gain, an offset and phases of each card's own. The driver stands where the NVML binding goes
and answers with its constants and exceptions: the meter cannot tell the difference.

Every stream begins at the same virtual second, so a window depends on nothing that ran before it. Environment:

    EAI_SIMULATED_GPUS    how many cards this machine has (1); CUDA_VISIBLE_DEVICES chooses among them as it does among real ones
    EAI_SIMULATED_PACE    host seconds that a virtual second takes (0: as fast as it can)
"""

from __future__ import annotations

import bisect
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from eai.errors import UserError
from eai.power.meter import Baseline, Clock, Read, Sampler, next_beat
from eai.power.nvml import ARCHITECTURES, GAIN_REL, OFFSET_W, NvmlMeter, visible
from eai.power.readings import Row

if TYPE_CHECKING:
    from eai.catalog import Gpu


def _last(t_s: np.ndarray, period_s: float, phase_s: float) -> np.ndarray:
    """The last beat at or before each instant."""
    return phase_s + np.floor((np.asarray(t_s, dtype=float) - phase_s) / period_s) * period_s


@dataclass(frozen=True)
class SensorSpec:
    """A power sensor: every `update_s` (first at `phase_s`) it publishes the mean of the last `averaging_s`, `delay_s` late. reading = gain
    x mean + offset, rounded to `quantum_w`. `truth` is a power curve with exact `cumulative_j(t_s)`, as a Timeline is."""

    update_s: float = 0.100
    averaging_s: float = 0.025
    phase_s: float = 0.0
    delay_s: float = 0.0
    gain: float = 1.0
    offset_w: float = 0.0
    quantum_w: float = 0.001

    def update_times(self, t_s: np.ndarray) -> np.ndarray:
        """When the value visible at each instant was published [s]."""
        return _last(t_s, self.update_s, self.phase_s)

    def values(self, truth: Timeline, published_s: np.ndarray) -> np.ndarray:
        """The value [W] published at each of these instants."""
        end_s = published_s - self.delay_s
        mean_w = (truth.cumulative_j(end_s) - truth.cumulative_j(end_s - self.averaging_s)) / self.averaging_s
        return np.round((self.gain * mean_w + self.offset_w) / self.quantum_w) * self.quantum_w

    def read(self, truth: Timeline, t_s: np.ndarray) -> np.ndarray:
        """What a reader sees at each instant [W]."""
        return self.values(truth, self.update_times(t_s))


@dataclass(frozen=True)
class CounterSpec:
    """An energy counter that integrates the truth with `gain` and `offset_w`, and advances every `tick_s` in steps of `quantum_j`."""

    tick_s: float = 0.100
    phase_s: float = 0.0
    quantum_j: float = 0.001
    gain: float = 1.0
    offset_w: float = 0.0
    start_j: float = 1.0e6

    def counted_j(self, truth: Timeline, t_s: np.ndarray) -> np.ndarray:
        """What it has counted [J] at each instant, were it not for ticks and steps."""
        return self.start_j + self.gain * truth.cumulative_j(t_s) + self.offset_w * t_s

    def read(self, truth: Timeline, t_s: np.ndarray) -> np.ndarray:
        """The counter [J] at each instant."""
        return np.floor(self.counted_j(truth, _last(t_s, self.tick_s, self.phase_s)) / self.quantum_j) * self.quantum_j


class VirtualClock(Clock):
    """A clock that moves only when someone waits; samplers beat while it moves, in the order of time. `pace`: host seconds a second."""

    def __init__(self, now_s: float = 1000.0, pace: float = 0.0):
        self._now_s, self.pace = now_s, pace
        self._samplers: list[VirtualSampler] = []

    def now_s(self) -> float:
        return self._now_s

    def sampler(self, read: Read, period_s: float) -> VirtualSampler:
        return VirtualSampler(read, period_s, self)

    def sleep(self, duration_s: float) -> None:
        """Move on, letting every sampler that is due take its reading on the way."""
        end_s = self._now_s + duration_s
        while due := [s for s in self._samplers if s.due_s <= end_s]:
            sampler = min(due, key=lambda s: s.due_s)
            self._now_s = max(self._now_s, sampler.due_s)
            if sampler.beat():
                sampler.due_s = next_beat(sampler.due_s, sampler.period_s, self._now_s)
            else:
                self._samplers.remove(sampler)
        self._now_s = end_s
        if self.pace and duration_s > 0:
            time.sleep(self.pace * duration_s)


class VirtualSampler(Sampler):
    """The sampler of a virtual clock: no thread, the same schedule and the same treatment of a reader that breaks."""

    def start(self) -> None:
        self.due_s = self.clock.now_s()
        self.clock._samplers.append(self)

    def stop(self) -> list[Row]:
        if self in self.clock._samplers:
            self.clock._samplers.remove(self)
        return super().stop()


class Timeline:
    """A power curve that grows while work runs: constant pieces one after the other, `idle_w` before, between and after them. A piece is
    added before its time passes, so that a sensor asked meanwhile sees it; energies are exact."""

    def __init__(self, start_s: float, idle_w: float):
        self.idle_w = idle_w
        self._edge_s, self._power_w, self._sum_j = [start_s], [], [0.0]

    def add(self, start_s: float, duration_s: float, power_w: float) -> None:
        """Draw `power_w` from `start_s` on. Raises ValueError for a piece that begins before the last one has ended."""
        if start_s < self._edge_s[-1] or duration_s <= 0:
            raise ValueError(f"a piece of {duration_s} s at {start_s} s does not follow {self._edge_s[-1]} s")
        for stop_s, watts in ((start_s, self.idle_w), (start_s + duration_s, power_w)):
            if stop_s > self._edge_s[-1]:
                self._sum_j.append(self._sum_j[-1] + (stop_s - self._edge_s[-1]) * watts)
                self._edge_s.append(stop_s)
                self._power_w.append(watts)

    @property
    def start_s(self) -> float:
        return self._edge_s[0]

    @property
    def stop_s(self) -> float:
        return self._edge_s[-1]

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray:
        """Energy [J] from the start until each instant, negative before it."""

        def until_j(t_s: float) -> float:
            if (piece := bisect.bisect_right(self._edge_s, t_s) - 1) < 0:
                return (t_s - self._edge_s[0]) * self.idle_w
            power_w = self._power_w[piece] if piece < len(self._power_w) else self.idle_w
            return self._sum_j[piece] + (t_s - self._edge_s[piece]) * power_w

        t_s = np.asarray(t_s, dtype=float)
        return np.array([until_j(t) for t in t_s.ravel().tolist()]).reshape(t_s.shape)


@dataclass
class SimulatedCard:
    """One simulated GPU. `truth`: its power curve, fixed or growing as the work runs. `sensors` maps field names (power_instant_w,
    power_average_w, power_usage_w) to their behaviour; from `lost_at_s` on it is lost."""

    truth: Timeline
    sensors: dict[str, SensorSpec]
    counter: CounterSpec | None = None
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA A100-SXM4-40GB"
    architecture: int = 7
    power_limit_w: float = 400.0
    memory_used_bytes: int = 16 * 10**9
    temperature_c: float = 55.0
    sm_clock_mhz: int = 1410
    lost_at_s: float | None = None


def _field_values(nvml: SimulatedNvml, card: SimulatedCard, field_ids: list[int]) -> list[SimpleNamespace]:
    names = {nvml.NVML_FI_DEV_POWER_INSTANT: "power_instant_w", nvml.NVML_FI_DEV_POWER_AVERAGE: "power_average_w"}
    found = []
    for name in (names.get(field_id) for field_id in field_ids):
        mw, stamp_us, code = 0, 0, nvml.NVML_ERROR_NOT_SUPPORTED
        if name in card.sensors:
            mw, code = nvml.power_mw(card, name), 0
            stamp_us = int(float(card.sensors[name].update_times(np.array([nvml.clock.now_s()]))[0]) * 1e6)
        found.append(SimpleNamespace(nvmlReturn=code, value=SimpleNamespace(uiVal=mw), timestamp=stamp_us, latencyUsec=40))
    return found


def _energy(nvml: SimulatedNvml, card: SimulatedCard) -> int:
    if card.counter is None:
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
    return int(1e3 * float(card.counter.read(card.truth, np.array([nvml.clock.now_s()]))[0]))


def _utilization(nvml: SimulatedNvml, card: SimulatedCard) -> SimpleNamespace:
    return SimpleNamespace(gpu=100 if card.truth.start_s <= nvml.clock.now_s() <= card.truth.stop_s else 0, memory=0)


FACTS = {
    "UUID": lambda nvml, card: card.uuid,
    "Name": lambda nvml, card: card.name,
    "Architecture": lambda nvml, card: card.architecture,
    "VbiosVersion": lambda nvml, card: nvml.vbios,
}
ANSWERS = FACTS | {
    "FieldValues": _field_values,
    "PowerUsage": lambda nvml, card: nvml.power_mw(card, "power_usage_w"),
    "TotalEnergyConsumption": _energy,
    "ViolationStatus": lambda nvml, card, policy: SimpleNamespace(violationTime=0),
    "EnforcedPowerLimit": lambda nvml, card: round(card.power_limit_w * 1e3),
    "Temperature": lambda nvml, card, sensor: round(card.temperature_c),
    "ClockInfo": lambda nvml, card, clock: card.sm_clock_mhz if clock == nvml.NVML_CLOCK_SM else 1215,
    "UtilizationRates": _utilization,
    "MemoryInfo": lambda nvml, card: SimpleNamespace(used=card.memory_used_bytes),
    "CurrentClocksEventReasons": lambda nvml, card: 0,
    "MigMode": lambda nvml, card: [0, 0],
    "VirtualizationMode": lambda nvml, card: nvml.NVML_GPU_VIRTUALIZATION_MODE_NONE,
    "ComputeRunningProcesses": lambda nvml, card: [],
    "PersistenceMode": lambda nvml, card: 1,
    "EccMode": lambda nvml, card: [1, 1],
}
"""What the driver says of a card, by the name of NVML's function without `nvmlDeviceGet`; of a card that is lost the facts alone."""


class SimulatedNvml:
    """The functions of the NVML binding that the meter uses, over `cards` on `clock`."""

    answers: Mapping[str, Callable] = ANSWERS

    def __init__(self, cards: list[SimulatedCard], clock: VirtualClock, driver: str = "550.54.15", vbios: str = "92.00.45.00.03"):
        import pynvml

        self._real, self.cards, self.clock, self.vbios = pynvml, cards, clock, vbios
        self.nvmlSystemGetDriverVersion, self.nvmlDeviceGetCount = lambda: driver, lambda: len(cards)
        self.nvmlDeviceGetHandleByIndex = cards.__getitem__

    def __getattr__(self, name: str):
        """An answer, or a constant or exception of the real binding; any function that is not simulated is an error."""
        if name.startswith("nvmlDeviceGet") and (short := name.removeprefix("nvmlDeviceGet")) in self.answers:
            return partial(self._answer, short)
        value = getattr(self._real, name)
        if callable(value) and not isinstance(value, type):
            raise AttributeError(f"the simulated NVML has no {name}")
        return value

    def _answer(self, name: str, card: SimulatedCard, *arguments):
        """What the driver says. Raises NVMLError for a card that is lost by now."""
        if name not in FACTS and card.lost_at_s is not None and self.clock.now_s() >= card.lost_at_s:
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        return self.answers[name](self, card, *arguments)

    def power_mw(self, card: SimulatedCard, name: str) -> int:
        """What a field shows now [mW]. Raises NVMLError for one that the card has not."""
        if name not in card.sensors:
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return max(round(1e3 * float(card.sensors[name].read(card.truth, np.array([self.clock.now_s()]))[0])), 0)


# The cards of this machine, by name

WIDTH = 3**0.5
"""Half width of a uniform draw of standard deviation 1: no card is wilder than its uncertainty budget can bear."""
LARGE_W = 400.0
"""Power limit from which on a card's offset is as large as published; below, it shrinks with the board."""
PREFIX = "simulated_"
START_S = 1000.0
BARE_SHARE, CONTEXT_SHARE = 0.10, 0.17
"""Idle power over the board's limit, bare and with a context: an H100 of 700 W draws 72 and 122 W."""
REST_C, HOT_C = 35.0, 75.0
"""Temperatures of an unloaded card and of one at its limit."""
SENSORS = {5: (0.020, 0.010), 7: (0.100, 0.025), 9: (0.100, 0.025)}
"""(update, averaging) [s] of the instant power by NVML's architecture number; (0.1, 0.1) for the others."""


def is_simulated(gpu: str) -> bool:
    """Whether `gpu` names a card that exists in software alone."""
    return gpu.startswith(PREFIX)


def model_of(gpu: str) -> Gpu:
    """The catalog's entry of the card that `gpu` simulates. Raises UserError for an unknown one, or one whose sensors are not known."""
    from eai import catalog

    found = catalog.gpu(gpu.removeprefix(PREFIX))
    known = [name for name, number in ARCHITECTURES.items() if number >= ARCHITECTURES["Volta"]]  # before Volta there is no energy counter
    if found.architecture not in known:
        raise UserError(
            f"cannot simulate {found.name}", f"an NVIDIA GPU of {', '.join(known)} in data/catalog/gpus.csv", "choose another slug"
        )
    return found


def _card(gpu: str, index: int) -> SimulatedCard:
    """Card `index`: its UUID is always the same, the first eight digits name a job's folder; gain, offset and phases are drawn by it from
    what the uncertainty budget states."""
    model = model_of(gpu)
    digest = hashlib.sha256(model.slug.encode()).hexdigest()
    own = f"GPU-5100{digest[:2]}{index:02x}-{digest[2:6]}-4{digest[6:9]}-8{digest[9:12]}-{digest[12:24]}"
    rng = np.random.default_rng(int(own[4:12], 16))
    architecture = ARCHITECTURES[model.architecture]
    update_s, averaging_s = SENSORS.get(architecture, (0.100, 0.100))
    gain = 1.0 + GAIN_REL * float(rng.uniform(-WIDTH, WIDTH))
    offset_w = OFFSET_W * min(model.tdp_w / LARGE_W, 1.0) * float(rng.uniform(-WIDTH, WIDTH))
    phase_s, tick_phase_s = float(rng.uniform(0, update_s)), float(rng.uniform(0, 0.100))
    return SimulatedCard(
        Timeline(START_S, BARE_SHARE * model.tdp_w),
        {"power_instant_w": SensorSpec(update_s, averaging_s, phase_s, gain=gain, offset_w=offset_w)},
        CounterSpec(0.100, tick_phase_s, gain=gain, offset_w=offset_w),
        uuid=own,
        name=f"{model.name} (simulated)",
        architecture=architecture,
        power_limit_w=model.tdp_w,
        memory_used_bytes=0,
    )


def box(gpu: str, environ: Mapping[str, str] = os.environ) -> SimulatedNvml:
    """The driver of this machine's simulated cards, on a clock of their own. Raises UserError for settings that are none."""

    def setting(name: str, kind: Callable[[str], float], low: int, high: int, wanted: str, do: str) -> float:
        text = environ.get(name, str(low))
        try:
            value = kind(text)
        except ValueError:
            value = -1
        if not low <= value <= high:
            raise UserError(f"{name}={text}", wanted, do)
        return value

    pace = setting("EAI_SIMULATED_PACE", float, 0, 10, "host seconds a virtual second, 0 to 10", "unset it for no waiting")
    count = setting("EAI_SIMULATED_GPUS", int, 1, 255, "a number from 1 to 255", "unset it for one card")
    cards = [_card(gpu, i) for i in range(count)]
    return SimulatedNvml(cards, SimulatedClock(START_S, pace), driver="simulated", vbios="simulated")


def present(gpu: str, environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """(UUID, slug) of the simulated cards that CUDA_VISIBLE_DEVICES leaves to this process, in its order."""
    return [(own, gpu) for own, _ in visible(box(gpu, environ), environ)]


class SimulatedClock(VirtualClock):
    """Virtual time in which a card works: while `work` passes, the card draws power."""

    card: SimulatedCard
    rest_w: float

    def work(self, duration_s: float, power_w: float) -> None:
        """Let time pass while the card draws `power_w`; a power above its limit is capped by it."""
        power_w = min(power_w, self.card.power_limit_w)
        self.card.truth.add(self.now_s(), duration_s, power_w)
        self.card.temperature_c = REST_C + (HOT_C - REST_C) * power_w / self.card.power_limit_w
        self.sleep(duration_s)

    def begin(self) -> None:
        """The first second again, the card at rest: what follows does not depend on what ran before."""
        self._now_s, self._samplers = START_S, []
        self.card.truth = Timeline(START_S, self.rest_w)


class SimulatedMeter(NvmlMeter):
    """The NVIDIA meter on one simulated card, the first visible one or the one named by its UUID. Basis `simulated`.
    `clock.work(duration_s, power_w)` is how work makes the card draw power."""

    name, basis = "simulated", "simulated"

    def __init__(self, gpu: str, own: str | None = None, environ: Mapping[str, str] = os.environ):
        nvml, self._limit_w = box(gpu, environ), model_of(gpu).tdp_w
        super().__init__(nvml, own or visible(nvml, environ)[0][0], nvml.clock, environ=environ)
        self.clock.card, self.clock.rest_w = self.cards[0].handle, CONTEXT_SHARE * self._limit_w
        self.clock.begin()

    def idle(self, duration_s: float = 5.0, kind: str = "context") -> Baseline:
        """Power of the card at rest; lower before anything was loaded."""
        context_w = self.clock.rest_w
        self.clock.rest_w = BARE_SHARE * self._limit_w if kind == "bare" else context_w
        try:
            return super().idle(duration_s, kind)
        finally:
            self.clock.rest_w = context_w
            self.clock.begin()

    def start(self) -> None:
        """As on a real card, from the first virtual second."""
        self.clock.begin()
        super().start()

    def limitations(self) -> list[str]:
        """That nothing was measured, before what the real meter would say."""
        return ["simulated: no GPU was there, and no number of these says anything about one", *super().limitations()]
