"""Simulated sensors over a known truth: the six kinds in the field, their faults, and the stream a meter would record of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai.power.sensor import GAIN_REL, OFFSET_W
from eai.power.spec import DeviceSpec, Spec
from eai.power.stream import COLUMNS, LABELS
from eai.power.truth import Truth

PAD_MARGIN_S = 0.010


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


@dataclass(frozen=True)
class Preset:
    """One kind of sensor in the field: its update and averaging, whether its counter sees everything, and its levels of power [W]."""

    name: str
    update_s: float
    averaging_s: float
    has_counter: bool
    full_rate: bool
    idle_w: float
    low_w: float
    high_w: float


PRESETS = (
    Preset("ga100_duty_fed", 0.100, 0.025, True, False, 80.0, 110.0, 330.0),
    Preset("gh100_instant", 0.100, 0.025, True, True, 122.0, 180.0, 560.0),
    Preset("average_1s", 0.100, 1.000, True, True, 102.0, 120.0, 280.0),
    Preset("ada_instant", 0.100, 0.100, True, True, 36.0, 120.0, 380.0),
    Preset("turing", 0.100, 0.100, True, True, 30.0, 60.0, 200.0),
    Preset("volta_20_10", 0.020, 0.010, True, True, 50.0, 90.0, 260.0),
)
"""The six kinds of arXiv:2312.02741: behaviour from its tables; powers are round figures of such cards under a decode load."""


@dataclass(frozen=True)
class SimulatedCard:
    """A power sensor and (or not) a counter, as they are on one card."""

    sensor: SensorSpec
    counter: CounterSpec | None

    def spec(self, preset: Preset, idle_w: float, u_idle_w: float, step_time_s: float | None) -> Spec:
        """The reading instructions that a meter which knows this kind of card would write."""
        device = DeviceSpec(
            "SIM-0",
            "gpu",
            "simulated",
            counter_field="energy_counter_j" if self.counter else None,
            tick_s=self.counter.tick_s if self.counter else 0.0,
            power_field="power_instant_w",
            update_s=preset.update_s,
            averaging_s=preset.averaging_s,
            sample_s=preset.update_s / 2,
            full_rate=preset.full_rate,
            u_gain_ratio=0.0,
            idle_w=idle_w,
            u_idle_w=u_idle_w,
            gain_rel=GAIN_REL,
            offset_w=OFFSET_W,
        )
        return Spec("gpu", (device,), step_time_s)


def draw_card(preset: Preset, rng: np.random.Generator, systematic: bool = True) -> SimulatedCard:
    """A card of this kind with phases, and if `systematic` its gain and offset, drawn from what the budget states."""
    gain = float(rng.normal(1.0, GAIN_REL)) if systematic else 1.0
    offset_w = float(rng.normal(0.0, OFFSET_W)) if systematic else 0.0
    sensor = SensorSpec(preset.update_s, preset.averaging_s, float(rng.uniform(0, preset.update_s)), gain=gain, offset_w=offset_w)
    if not preset.has_counter:
        return SimulatedCard(sensor, None)
    feed = None if preset.full_rate else sensor
    tick_s = 0.100
    return SimulatedCard(sensor, CounterSpec(tick_s, float(rng.uniform(0, tick_s)), gain=gain, offset_w=offset_w, feed=feed))


def record(truth: Truth, card: SimulatedCard, spec: Spec, rng: np.random.Generator, sample_jitter_s: float = 0.002) -> pd.DataFrame:
    """The stream of a padded window around the truth, as the NVML meter records it, computed in one go.

    Samples every half update from a random phase, each up to `sample_jitter_s` late; the counter once at each edge.
    """
    device = spec.devices[0]
    pad_s = max(device.update_s + device.averaging_s, device.tick_s) + device.sample_s + PAD_MARGIN_S
    first, last = truth.start_s - pad_s, truth.stop_s + pad_s
    beats = np.arange(first, last, device.sample_s)
    t_s = np.minimum(beats + rng.uniform(0, sample_jitter_s, len(beats)), last)
    parts = [(device.power_field, t_s, card.sensor.read(truth, t_s))]
    if card.counter is not None:
        edges = np.array([truth.start_s - 1e-4, last])
        parts.append((device.counter_field, edges, card.counter.read(truth, edges)))
    frames = [
        pd.DataFrame(
            {
                "t_s": t,
                "device_id": device.device_id,
                "boundary": "gpu",
                "field": name,
                "value": v,
                "driver_t_us": np.nan,
                "latency_us": np.nan,
            }
        )
        for name, t, v in parts
    ]
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)].astype(dict.fromkeys(LABELS, "category"))
