"""The raw record of a window, every reading as one row, and the energies of one device in it: counter, integral of power, or estimate.

A stream is the only thing a meter produces and, with its `Spec`, the only thing `derive` reads, so storing both is enough to replay a
measurement bit for bit. Columns: `t_s` (monotonic clock of the host, s), `device_id`, `boundary` (gpu | cpu_package | dram), `field` (its
unit is in its name), `value`, and, where the driver tells them, `driver_t_us` and `latency_us`. A failed read is a row too: field `error`,
value the driver's code; a dead sampler is a row of field `sampler_error`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from eai.quantity import Budget, Quantity

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("t_s", "device_id", "boundary", "field", "value", "driver_t_us", "latency_us")
LABELS = ("device_id", "boundary", "field")
NAN = float("nan")

Row = tuple[float, str, str, str, float, float, float]


def row(t_s: float, device_id: str, boundary: str, field: str, value: float, driver_t_us: float = NAN, latency_us: float = NAN) -> Row:
    """One reading, in the order of `COLUMNS`."""
    return (t_s, device_id, boundary, field, float(value), driver_t_us, latency_us)


def to_stream(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a stream; labels are categories: 20 bytes a row instead of 150."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = [c for c in COLUMNS if c not in LABELS]
    frame[numbers] = frame[numbers].astype("float64")
    return frame.astype(dict.fromkeys(LABELS, "category"))


def split(stream: pd.DataFrame) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]:
    """`{(device_id, boundary, field): (t_s, value)}`, each in the order of time. One pass over integer codes: a comparison of strings for
    each field would dominate the replay of a long campaign."""
    if not len(stream):
        return {}
    labels = [stream[label].astype("category").cat for label in LABELS]
    codes, names = [c.codes.to_numpy().astype(np.int64) for c in labels], [c.categories.tolist() for c in labels]
    sizes = [max(len(n), 1) for n in names]
    key = (codes[0] * sizes[1] + codes[1]) * sizes[2] + codes[2]
    t_s, value = stream["t_s"].to_numpy(), stream["value"].to_numpy()
    order = np.lexsort((t_s, key))
    ends = np.flatnonzero(np.diff(key[order])) + 1
    parts = {}
    for block in np.split(order, ends):
        device, rest = divmod(int(key[block[0]]), sizes[1] * sizes[2])
        boundary, field = divmod(rest, sizes[2])
        parts[names[0][device], names[1][boundary], names[2][field]] = (t_s[block], value[block])
    return parts


@dataclass(frozen=True)
class DeviceSpec:
    """The reading instructions of one device; JSON-able, so a stored window carries its own.

    counter_field, wrap_j, tick_s   cumulative energy [J], where it wraps (None: it never does), how often it advances
    power_field, update_s, averaging_s, sample_s   power [W]: how often the sensor updates, what span a reading averages, our period
    watts_per_thread                the estimate: power of one busy thread [W]
    full_rate                       True where the counter is proven to integrate every instant, None where nobody knows
    gain_ratio, u_gain_ratio        counter / integral on a steady load, as probed; divided out before they are compared
    idle_w, u_idle_w                context idle [W], None where no baseline was measured
    gain_rel, offset_w              standard uncertainties (k = 1) of this card's gain [1] and offset [W]
    scale, shift_w                  calibration against a wall meter: true = scale * reading + shift_w * time
    shared                          whether other processes on the card are accepted
    pads_loaded                     whether the work went on before and after the window, as a server's does, so that no pad is idle
    """

    device_id: str
    boundary: str
    basis: str
    counter_field: str | None = None
    wrap_j: float | None = None
    tick_s: float = 0.0
    power_field: str | None = None
    update_s: float = 0.0
    averaging_s: float = 0.0
    sample_s: float = 0.0
    watts_per_thread: float | None = None
    full_rate: bool | None = None
    gain_ratio: float = 1.0
    u_gain_ratio: float = 0.0
    idle_w: float | None = None
    u_idle_w: float = 0.0
    gain_rel: float = 0.0
    offset_w: float = 0.0
    scale: float = 1.0
    shift_w: float = 0.0
    shared: bool = False
    pads_loaded: bool = False


@dataclass(frozen=True)
class Spec:
    """The specs of a meter's devices, the boundary it is about, and the period of the work's steps [s] if known."""

    boundary: str
    devices: tuple[DeviceSpec, ...]
    step_time_s: float | None = None

    def to_json(self) -> str:
        """One line of JSON; Python writes the shortest digits that read back to the same float, so nothing is lost."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The spec written by `to_json`. Raises ValueError or TypeError if the text is none."""
        raw = json.loads(text)
        return cls(raw["boundary"], tuple(DeviceSpec(**d) for d in raw["devices"]), raw["step_time_s"])


# The energies of one device, each with its uncertainty terms

NOT_A_NUMBER = ("disputed", "counter_reset", "invalid", "lost")
COVERAGE_FACTOR = 1.959963984540054


@dataclass(frozen=True)
class Energy:
    """`energy_j` is gross; `net_energy_j` has the context idle removed (None without a baseline). u_* are k = 1, in J. `method`: counter |
    power | estimate. `energy_j` is None where the reading failed: unmeasured is never 0. `u_net_j`: what subtracting the idle adds."""

    device_id: str
    boundary: str
    method: str
    primary: bool
    energy_j: float | None
    net_energy_j: float | None = None
    u_statistical_j: float = 0.0
    u_granularity_j: float = 0.0
    u_aliasing_j: float = 0.0
    u_idle_j: float = 0.0
    u_offset_j: float = 0.0
    u_gain_j: float = 0.0
    u_net_j: float | None = None
    basis: str = "measured"
    status: str = "ok"
    field: str = ""

    @property
    def budget(self) -> Budget:
        """The uncertainty budget in joules."""
        return Budget(self.u_statistical_j, self.u_granularity_j, self.u_aliasing_j, self.u_idle_j, self.u_offset_j, self.u_gain_j)

    @property
    def u_reading_j(self) -> float:
        """Standard uncertainty [J] of the reading itself, without the offset and the gain of the card."""
        return math.hypot(self.u_statistical_j, self.u_granularity_j, self.u_aliasing_j, self.u_idle_j)

    def net(self) -> Quantity:
        """Net energy with its 95 % interval on one card; the offset cancels, as it is in the idle power too."""
        return interval(self.net_energy_j, math.hypot(self.u_reading_j, self.u_net_j or 0.0))

    def within_card(self) -> Quantity:
        """Gross energy with the 95 % interval for comparisons on one card."""
        return interval(self.energy_j, self.budget.within_card)

    def absolute(self) -> Quantity:
        """Gross energy with the 95 % interval against the true energy."""
        return interval(self.energy_j, self.budget.absolute)

    def to_row(self) -> dict:
        """The columns of the energies table, without the window's key."""
        return asdict(self)


def interval(energy_j: float | None, u_j: float) -> Quantity:
    """The energy with its 95 % interval: log-normal with matching moments, sigma = sqrt(ln(1 + (u/E)^2)), because an energy is positive: E
    +- 1.96 u for a sensor's few percent, and never below zero for an estimate. A net energy <= 0 gets the normal interval."""
    if energy_j is None or not math.isfinite(energy_j):
        return Quantity(None, unit="J")
    if energy_j <= 0:
        return Quantity(energy_j, energy_j - COVERAGE_FACTOR * u_j, energy_j + COVERAGE_FACTOR * u_j, "J")
    factor = math.exp(COVERAGE_FACTOR * math.sqrt(math.log1p((u_j / energy_j) ** 2)))
    return Quantity(energy_j, energy_j / factor, energy_j * factor, "J")


def total(energies: Iterable[Energy], boundary: str) -> Quantity | None:
    """Sum of the primary energies of a boundary, or None if one of them is missing or not a number. Cards are independent, so their
    uncertainties (gain included) add in quadrature."""
    chosen = [e for e in energies if e.primary and e.boundary == boundary]
    if not chosen or any(e.energy_j is None or e.status in NOT_A_NUMBER for e in chosen):
        return None
    return interval(sum(e.energy_j for e in chosen), math.hypot(*(e.budget.absolute for e in chosen)))


GAP_FACTOR = 2.5
"""A pause longer than this many sampling periods is a gap: one late reading is jitter, two missing ones are not."""


def integrate(t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float) -> float:
    """Energy [J] between two instants by the trapezoid rule, the power interpolated at both edges; outside the readings the first and the
    last are held. Equal readings in a row are kept: a sensor that repeats itself says that the power stayed. Raises ValueError for an empty
    series or an interval that ends before it starts."""
    if not len(t_s):
        raise ValueError("no power readings to integrate")
    if stop_s < start_s:
        raise ValueError(f"the interval ends at {stop_s} s, before its start at {start_s} s")
    inside = slice(np.searchsorted(t_s, start_s, "right"), np.searchsorted(t_s, stop_s, "left"))
    edges_w = np.interp([start_s, stop_s], t_s, power_w)
    t = np.concatenate([[start_s], t_s[inside], [stop_s]])
    p = np.concatenate([[edges_w[0]], power_w[inside], [edges_w[1]]])
    return float(np.trapezoid(p, t))


def coverage(t_s: np.ndarray, start_s: float, stop_s: float, period_s: float) -> tuple[int, float]:
    """(readings in the interval, the share of it in gaps) of readings every `period_s`. A gap counts for what it lacks beyond one period;
    the interval's own edges count as readings only if one lies within a period beyond them."""
    lo, hi = np.searchsorted(t_s, [start_s, stop_s])
    known = np.clip(t_s[max(lo - 1, 0) : min(hi + 1, len(t_s))], start_s, stop_s)
    steps = np.diff(np.concatenate([[start_s], known, [stop_s]]))
    gaps = steps[steps > GAP_FACTOR * period_s] - period_s
    return int(hi - lo), float(gaps.sum() / (stop_s - start_s)) if stop_s > start_s else 1.0


def counter_delta(value_j: np.ndarray, wrap_j: float | None = None) -> float | None:
    """Energy [J] between the first and the last of successive counter readings. One with a range adds it at each step down (RAPL's
    `max_energy_range_uj`); one without goes down only when its driver was reloaded: None, for nobody knows what it counted."""
    steps = np.diff(value_j)
    if wrap_j is None and np.any(steps < 0):
        return None
    return float(steps.sum() + (wrap_j or 0.0) * np.count_nonzero(steps < 0))


def at_edges(t_s: np.ndarray, start_s: float, stop_s: float) -> tuple[int, int] | None:
    """Indices of the last reading at or before the start and the first at or after the stop; None if one is missing."""
    first, last = int(np.searchsorted(t_s, start_s, "right")) - 1, int(np.searchsorted(t_s, stop_s, "left"))
    return (first, last) if first >= 0 and last < len(t_s) else None


HARMONICS, AUDIBLE, FULL_DUTY = 8, 0.1, 0.95
STILL_BEATS, NEAR_BEATS, UNREAD_BEATS = 0.7, 10.0, 1.5
WAVE_REL = 0.031
"""When a window is aliased: `is_aliased`. Chosen on 10,000 simulated loads, tried on 10,000 others (benchmarks/meter_accuracy.py)."""

ALIASED_REL = 0.25
"""Standard uncertainty of an aliased reading, relative: 16 to 23 % are published (arXiv:2312.02741), the simulator's worst is 25 %.
It cannot be read off the trace: perfectly aliased readings are all alike."""


def duty(spec: DeviceSpec) -> float:
    """The share of time that the power sensor sees, 1 where it averages without holes."""
    return min(spec.averaging_s / spec.update_s, 1.0) if spec.update_s > 0 and spec.averaging_s > 0 else 1.0


def beats(spec: DeviceSpec, step_time_s: float | None, duration_s: float) -> float:
    """How often steps of this length beat with the sensor's updates while the window lasts; infinite where nothing beats. With updates
    every T, harmonic m of steps of p beats at |m / p - k / T|: the slowest counts. Harmonics of which little is left (1 / m of a
    rectangular load, |sinc(m a / p)| after the sensor's averaging; together < 0.1) do not, nor does a sensor without holes."""
    slowest = math.inf
    for m in range(1, HARMONICS + 1) if step_time_s is not None and duty(spec) <= FULL_DUTY else ():
        frequency_hz = m / step_time_s
        k = round(frequency_hz * spec.update_s)
        if k >= 1 and abs(np.sinc(frequency_hz * spec.averaging_s)) / m >= AUDIBLE:
            slowest = min(slowest, abs(frequency_hz - k / spec.update_s) * duration_s)
    return slowest


def wave_rel(power_w: np.ndarray) -> float:
    """The slowest wave in the readings of a window, relative to their mean: the larger Fourier component of 3/4 of a turn and of one, which
    a beat leaves. Half of it is the standard uncertainty of a mean at a phase that nobody knows."""
    mean_w = float(np.mean(power_w)) if len(power_w) > 4 else 0.0
    if not mean_w:
        return 0.0
    turns = np.arange(len(power_w)) / len(power_w)
    waves = [abs(np.dot(power_w - mean_w, np.exp(-2j * np.pi * k * turns))) for k in (0.75, 1.0)]
    return float(max(waves)) / len(power_w) / abs(mean_w)


def is_aliased(spec: DeviceSpec, step_time_s: float | None, duration_s: float, power_w: np.ndarray | None = None) -> bool:
    """Whether steps of this length beat with the sensor so slowly that the energy may be off by over 5 %. Below 0.7 beats the readings
    cannot tell; below 10 they can: aliased if their slowest wave is above 3.1 %. Without readings 1.5 beats are asked for."""
    found = beats(spec, step_time_s, duration_s)
    if power_w is None:
        return found < UNREAD_BEATS
    return found < STILL_BEATS or (found < NEAR_BEATS and wave_rel(power_w) > WAVE_REL)


def sampling_u_w(power_w: np.ndarray, duration_s: float, spec: DeviceSpec, aliased: bool) -> float:
    """Standard uncertainty [W] of mean power from a sensor with holes: scatter x sqrt(share unseen / updates); a quarter if aliased. The
    scatter is that of differences of readings one update apart (von Neumann), so that a ramp or a step does not count as noise."""
    stride = max(round(spec.update_s / spec.sample_s), 1) if spec.sample_s > 0 else 1
    readings = power_w[::stride]
    if len(readings) < 3 or duty(spec) > FULL_DUTY:
        return 0.0
    scatter_w = math.sqrt(float(np.mean(np.diff(readings) ** 2)) / 2)
    if aliased:
        return max(scatter_w, ALIASED_REL * abs(float(readings.mean())))
    return scatter_w * math.sqrt((1 - duty(spec)) / (duration_s / spec.update_s))


SHORT_SHARE = 0.02
MISSING_SHARE = 0.05

Series = dict[str, tuple[np.ndarray, np.ndarray]]


def nothing(spec: DeviceSpec, status: str, method: str | None = None) -> Energy:
    """An energy that could not be had: no number, a status that says so."""
    method = method or ("counter" if spec.counter_field else "power" if spec.power_field else "estimate")
    return Energy(spec.device_id, spec.boundary, method, True, None, basis=spec.basis, status=status)


def finish(spec: DeviceSpec, method: str, gross_j: float, duration_s: float, status: str, field: str, **u_j: float) -> Energy:
    """The energy with calibration, offset, gain, net and the short-window rule applied; `u_j` are the terms of the reading."""
    gross_j = spec.scale * gross_j + spec.shift_w * duration_s
    terms = {f"u_{k}_j": spec.scale * float(v) for k, v in u_j.items()}
    if status == "ok" and terms["u_granularity_j"] > SHORT_SHARE * abs(gross_j):
        status = "short_window"
    if spec.idle_w is not None:
        terms |= {"net_energy_j": gross_j - spec.idle_w * duration_s, "u_net_j": spec.u_idle_w * duration_s}
    terms |= {"u_offset_j": spec.offset_w * duration_s, "u_gain_j": spec.gain_rel * abs(gross_j)}
    return Energy(spec.device_id, spec.boundary, method, False, gross_j, basis=spec.basis, status=status, field=field, **terms)


def estimated(series: Series, start_s: float, stop_s: float, spec: DeviceSpec) -> Energy:
    """CPU time at the edges x the stated power of a busy thread [J]. Our own time is known to the nanosecond, the children's in ticks of
    the scheduler: two tick errors, uniform each."""
    spent_s = {}
    for name in ("cpu_time_s", "child_cpu_time_s"):
        t_s, value = series.get(name, (np.empty(0), np.empty(0)))
        if edges := at_edges(t_s, start_s, stop_s):
            spent_s[name] = float(value[edges[1]] - value[edges[0]])
    if "cpu_time_s" not in spent_s:
        return nothing(spec, "invalid", "estimate")
    children_s = spent_s.get("child_cpu_time_s", 0.0)
    granularity_j = spec.watts_per_thread * spec.tick_s / math.sqrt(6) if children_s else 0.0
    energy_j = spec.watts_per_thread * (spent_s["cpu_time_s"] + max(children_s, 0.0))
    return finish(spec, "estimate", energy_j, stop_s - start_s, "ok", "cpu_time_s", granularity=granularity_j)


def counted(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Energy:
    """The counter's difference between the padded edges, less the pads at idle power [J].

    Each edge reading is late by up to one tick while the device idles: two uniform errors, u = P_idle tick / sqrt(6); without an idle pad
    at the window's mean power. Pads in which the work goes on draw the mean power of the whole span, with the scatter of the readings.
    """
    if spec.counter_field not in series or (edges := at_edges(series[spec.counter_field][0], start_s, stop_s)) is None:
        return nothing(spec, "invalid", "counter")
    t_s, value_j = series[spec.counter_field]
    delta_j = counter_delta(value_j[edges[0] : edges[1] + 1], spec.wrap_j)
    if delta_j is None:
        return nothing(spec, "counter_reset", "counter")
    span_s, duration_s = float(t_s[edges[1]] - t_s[edges[0]]), stop_s - start_s
    outside_s, mean_w = span_s - duration_s, delta_j / span_s
    if spec.pads_loaded:
        all_w = series.get(spec.power_field, (None, np.empty(0)))[1]
        idle = (mean_w, float(all_w.std(ddof=1))) if len(all_w) > 1 else None
    else:
        idle = idle_power(series, start_s, spec) if float(t_s[edges[1]]) - stop_s >= spec.tick_s > 0 else None
    outside_w, u_outside_w = idle or (mean_w, abs(mean_w) if outside_s > spec.tick_s else 0.0)
    inside_w = _inside(series, start_s, stop_s, spec)
    aliased = spec.full_rate is not True and is_aliased(spec, step_time_s, duration_s, inside_w)
    holes = spec.full_rate is not True and inside_w is not None
    terms_j = {
        "granularity": abs(outside_w) * spec.tick_s / math.sqrt(6),
        "aliasing": sampling_u_w(inside_w, duration_s, spec, aliased) * duration_s if holes else 0.0,
        "idle": u_outside_w * outside_s,
    }
    status, gross_j = "aliased" if aliased else "ok", delta_j - outside_w * outside_s
    return finish(spec, "counter", gross_j, duration_s, status, spec.counter_field, **terms_j)


def idle_power(series: Series, start_s: float, spec: DeviceSpec) -> tuple[float, float] | None:
    """Idle power [W], as the sensor shows it, in the pads with its standard uncertainty: the baseline, else uniform between the last
    reading before the work and the last one of the trace, when the sensor has told all of the work; None without either."""
    if spec.idle_w is not None:
        return (spec.idle_w - spec.shift_w) / spec.scale, spec.u_idle_w / spec.scale
    t_s, power_w = series.get(spec.power_field, (np.empty(0), np.empty(0)))
    before = int(np.searchsorted(t_s, start_s, "right")) - 1
    if before < 0:
        return None
    first, last = float(power_w[before]), float(power_w[-1])
    return (first + last) / 2, abs(first - last) / math.sqrt(12)


def _inside(series: Series, start_s: float, stop_s: float, spec: DeviceSpec) -> np.ndarray | None:
    """The power readings [W] of the window; None where there is no such field."""
    t_s, power_w = series.get(spec.power_field, (None, None))
    return None if t_s is None else power_w[(t_s >= start_s) & (t_s <= stop_s)]


def integrated(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Energy:
    """The integral of the power readings over the work and the tail in which the sensor still reports it, less that tail's idle [J].

    A reading at t speaks of the time from t - averaging - update to t: integrated to the stop alone it loses what it has not yet told
    (-4.4 % at 10 s for a 1 s average). At each edge a full-time sensor leaves the trapezoid's slope between two samples, uniform over a
    sampling period; one with holes sees an edge at its next update, uniform over the hole. Where the work goes on before and after the
    window no tail is idle: the integral is taken half of that stretch T later, and with the scatter s of the readings each edge adds
    u = s T sqrt(2 / 12).
    """
    t_s, power_w = series.get(spec.power_field, (np.empty(0), np.empty(0)))
    known = power_w > 0
    t_s, power_w = t_s[known], power_w[known]
    samples, missing = coverage(t_s, start_s, stop_s, spec.sample_s)
    if not samples or missing > MISSING_SHARE:
        return nothing(spec, "invalid", "power")
    duration_s, inside_w = stop_s - start_s, power_w[(t_s >= start_s) & (t_s <= stop_s)]
    scatter_w, stretch_s = float(inside_w.std()), spec.update_s + spec.averaging_s
    aliased = is_aliased(spec, step_time_s, duration_s, inside_w)
    if spec.pads_loaded:
        energy_j, idle_j = integrate(t_s, power_w, start_s + stretch_s / 2, stop_s + stretch_s / 2), 0.0
        granularity_j, seen_w = scatter_w * stretch_s / math.sqrt(3), inside_w
    else:
        end_s = max(min(stop_s + stretch_s, float(t_s[-1])), stop_s)
        idle_w, u_idle_w = idle_power({spec.power_field: (t_s, power_w)}, start_s, spec) or (float(power_w.min()), float(np.ptp(power_w)))
        energy_j, idle_j = integrate(t_s, power_w, start_s, end_s) - idle_w * (end_s - stop_s), u_idle_w * (end_s - stop_s)
        hole_s = max(spec.update_s - spec.averaging_s, 0.0)
        granularity_j = max(float(np.median(inside_w)) - idle_w, 0.0) * math.hypot(spec.sample_s, hole_s) / math.sqrt(6)
        seen_w = _inside(series, start_s, stop_s, spec)
    aliasing_j = sampling_u_w(seen_w, duration_s, spec, aliased) * duration_s
    terms_j = {"statistical": missing * duration_s * scatter_w, "granularity": granularity_j, "aliasing": aliasing_j, "idle": idle_j}
    return finish(spec, "power", energy_j, duration_s, "aliased" if aliased else "ok", spec.power_field, **terms_j)
