"""Power curves whose energy is known in closed form, recordings of them by simulated sensors, and the methods in use elsewhere (foils).

What measured energies are judged by, in the tests and in benchmarks/.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from faulty_nvml import CounterSpec

from eai.power.nvml import GAIN_REL, OFFSET_W
from eai.power.readings import COLUMNS, LABELS, DeviceSpec, Spec
from eai.power.simulated import SensorSpec


@dataclass(frozen=True)
class Truth:
    """Piecewise linear power: between `edge_s[i]` and `edge_s[i + 1]` it goes from `left_w[i]` to `right_w[i]`; jumps are allowed.

    Before the first edge and after the last one the power is `idle_w`.
    """

    edge_s: np.ndarray
    left_w: np.ndarray
    right_w: np.ndarray
    idle_w: float

    def __post_init__(self):
        steps_j = np.diff(self.edge_s) * (self.left_w + self.right_w) / 2
        object.__setattr__(self, "_sum_j", np.concatenate([[0.0], np.cumsum(steps_j)]))

    @property
    def start_s(self) -> float:
        return float(self.edge_s[0])

    @property
    def stop_s(self) -> float:
        return float(self.edge_s[-1])

    @property
    def energy_j(self) -> float:
        """Energy of the work [J], from its first edge to its last."""
        return float(self._sum_j[-1])

    def cumulative_j(self, t_s: np.ndarray | float) -> np.ndarray:
        """Energy [J] from the first edge until each instant, negative before it: exact, quadratic inside a piece."""
        t_s = np.asarray(t_s, dtype=float)
        piece = np.clip(np.searchsorted(self.edge_s, t_s, "right") - 1, 0, len(self.left_w) - 1)
        since_s = np.clip(t_s - self.edge_s[piece], 0.0, (self.edge_s[piece + 1] - self.edge_s[piece]))
        slope = (self.right_w[piece] - self.left_w[piece]) / (self.edge_s[piece + 1] - self.edge_s[piece])
        inside_j = self._sum_j[piece] + since_s * (self.left_w[piece] + slope * since_s / 2)
        outside_s = np.minimum(t_s - self.edge_s[0], 0.0) + np.maximum(t_s - self.edge_s[-1], 0.0)
        return inside_j + self.idle_w * outside_s


def pieces(start_s: float, parts: list[tuple[float, float, float]], idle_w: float) -> Truth:
    """A curve from (duration_s, from_w, to_w) parts one after the other."""
    durations, left, right = (np.array(c, dtype=float) for c in zip(*parts, strict=True))
    return Truth(start_s + np.concatenate([[0.0], np.cumsum(durations)]), left, right, idle_w)


def constant(start_s: float, duration_s: float, power_w: float, idle_w: float) -> Truth:
    """A step to one power and back."""
    return pieces(start_s, [(duration_s, power_w, power_w)], idle_w)


def ramp(start_s: float, duration_s: float, from_w: float, to_w: float, idle_w: float) -> Truth:
    """Power that rises or falls linearly, as a card that warms up."""
    return pieces(start_s, [(duration_s, from_w, to_w)], idle_w)


def creep(start_s: float, duration_s: float, power_w: float, idle_w: float) -> Truth:
    """A load that a real card takes: 96 % of the rise within 50 ms, the rest over a second."""
    high_w = idle_w + 0.96 * (power_w - idle_w)
    return pieces(start_s, [(0.05, idle_w, high_w), (1.0, high_w, power_w), (duration_s - 1.05, power_w, power_w)], idle_w)


def throttle(start_s: float, duration_s: float, power_w: float, reduced_w: float, share: float, idle_w: float) -> Truth:
    """A load that is throttled to `reduced_w` for the last `share` of its time."""
    return pieces(start_s, [(duration_s * (1 - share), power_w, power_w), (duration_s * share, reduced_w, reduced_w)], idle_w)


def decode(start_s: float, duration_s: float, step_s: float, busy: float, high_w: float, low_w: float, idle_w: float) -> Truth:
    """Decode steps: a rectangular wave of period `step_s`, high for the share `busy` of it. The last step is cut at the end."""
    steps = int(np.ceil(duration_s / step_s - 1e-9))
    starts = start_s + step_s * np.arange(steps)
    edges = np.ravel(np.column_stack([starts, starts + busy * step_s]))
    edges = np.append(edges[edges < start_s + duration_s - 1e-12], start_s + duration_s)
    power_w = np.where(np.arange(len(edges) - 1) % 2 == 0, high_w, low_w).astype(float)
    return Truth(edges, power_w, power_w, idle_w)


PAD_MARGIN_S = 0.010


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


def mean_times_time(t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float, period_s: float) -> float:
    """Energy [J] as the mean of readings every `period_s` x duration: 1 s is nvidia-smi's usual log, 0.1 s a common NVML loop."""
    wanted = np.arange(start_s, stop_s, period_s)
    seen = power_w[np.clip(np.searchsorted(t_s, wanted, "right") - 1, 0, len(t_s) - 1)]
    return float(seen.mean() * (stop_s - start_s))


def inside_trapezoid(t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float) -> float:
    """Energy [J] by the trapezoid over the readings inside the window only: the pieces at both edges are lost."""
    inside = (t_s >= start_s) & (t_s <= stop_s)
    return float(np.trapezoid(power_w[inside], t_s[inside]))


def dedup_trapezoid(t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float) -> float:
    """Energy [J] after dropping repeated readings: a sensor that holds a value loses the time it held it, a constant load all of it."""
    inside = (t_s >= start_s) & (t_s <= stop_s)
    t_s, power_w = t_s[inside], power_w[inside]
    changed = np.concatenate([[True], np.diff(power_w) != 0]) if len(power_w) else np.empty(0, bool)
    return float(np.trapezoid(power_w[changed], t_s[changed]))
