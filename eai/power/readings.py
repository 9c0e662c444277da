"""The energies of one device from its readings: counter, integral of power, or estimate, each with its uncertainty terms."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from eai.power.stream import DeviceSpec
from eai.quantity import Budget, Quantity

NOT_A_NUMBER = ("disputed", "counter_reset", "invalid", "lost")
COVERAGE_FACTOR = 1.959963984540054


@dataclass(frozen=True)
class Energy:
    """`energy_j` is gross; `net_energy_j` has the context idle removed (None without a baseline). u_* are k = 1, in J.

    `method`: counter | power | estimate. `energy_j` is None where the reading failed: unmeasured is never 0.
    `u_net_j` is what subtracting the idle power over the whole window adds to the uncertainty of the net energy.
    """

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
    """The energy with its 95 % interval, log-normal because an energy is positive.

    Matching moments, sigma = sqrt(ln(1 + (u/E)^2)): for the few percent of a sensor it is E +- 1.96 u to three digits,
    for an estimate good to a factor it does not reach below zero. A net energy <= 0 gets the normal interval.
    """
    if energy_j is None or not math.isfinite(energy_j):
        return Quantity(None, unit="J")
    if energy_j <= 0:
        return Quantity(energy_j, energy_j - COVERAGE_FACTOR * u_j, energy_j + COVERAGE_FACTOR * u_j, "J")
    factor = math.exp(COVERAGE_FACTOR * math.sqrt(math.log1p((u_j / energy_j) ** 2)))
    return Quantity(energy_j, energy_j / factor, energy_j * factor, "J")


def total(energies: Iterable[Energy], boundaries: tuple[str, ...]) -> Quantity | None:
    """Sum of the primary energies within these boundaries, or None if one of them is missing or not a number.

    Cards are independent, so their uncertainties (gain included) add in quadrature.
    """
    chosen = [e for e in energies if e.primary and e.boundary in boundaries]
    if not chosen or any(e.energy_j is None or e.status in NOT_A_NUMBER for e in chosen):
        return None
    return interval(sum(e.energy_j for e in chosen), math.hypot(*(e.budget.absolute for e in chosen)))


GAP_FACTOR = 2.5
"""A pause longer than this many sampling periods is a gap: one late reading is jitter, two missing ones are not."""


@dataclass(frozen=True)
class Coverage:
    """How well readings cover an interval: their number in it, the share of time in gaps, the longest pause [s]."""

    samples: int
    missing: float
    longest_s: float


def integrate(t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float) -> float:
    """Energy [J] between two instants by the trapezoid rule, with the power interpolated at both edges.

    Equal readings in a row are kept: a sensor that repeats itself says that the power stayed, so a constant series gives
    P x t. Outside the readings the first and the last are held; `coverage` tells how much of the interval that was.

    Raises ValueError for an empty series or an interval that ends before it starts.
    """
    if not len(t_s):
        raise ValueError("no power readings to integrate")
    if stop_s < start_s:
        raise ValueError(f"the interval ends at {stop_s} s, before its start at {start_s} s")
    inside = slice(np.searchsorted(t_s, start_s, "right"), np.searchsorted(t_s, stop_s, "left"))
    edges_w = np.interp([start_s, stop_s], t_s, power_w)
    t = np.concatenate([[start_s], t_s[inside], [stop_s]])
    p = np.concatenate([[edges_w[0]], power_w[inside], [edges_w[1]]])
    return float(np.trapezoid(p, t))


def coverage(t_s: np.ndarray, start_s: float, stop_s: float, period_s: float) -> Coverage:
    """How completely readings every `period_s` cover the interval.

    A gap counts for what it lacks beyond one period. The interval's own edges count as readings only if one lies within
    a period beyond them: a trace that ends early misses its end.
    """
    lo, hi = np.searchsorted(t_s, [start_s, stop_s])
    first, last = max(lo - 1, 0), min(hi + 1, len(t_s))
    known = np.clip(t_s[first:last], start_s, stop_s)
    steps = np.diff(np.concatenate([[start_s], known, [stop_s]]))
    gaps = steps[steps > GAP_FACTOR * period_s] - period_s
    duration_s = stop_s - start_s
    missing = float(gaps.sum() / duration_s) if duration_s > 0 else 1.0
    return Coverage(int(hi - lo), missing, float(steps.max()) if len(steps) else math.inf)


def counter_delta(value_j: np.ndarray, wrap_j: float | None = None) -> float | None:
    """Energy [J] between the first and the last of successive counter readings; None if the counter was reset.

    A counter with a range adds one range at each step down (RAPL's `max_energy_range_uj`). One without never goes down,
    except when its driver was reloaded: then nobody knows what it counted, and no absolute value can repair that.
    """
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
    """How often steps of this length beat with the sensor's updates while the window lasts; infinite where nothing beats.

    With updates every T, harmonic m of steps of p beats at |m / p - k / T|: the slowest counts. Harmonics of which little is left (a
    rectangular load has 1 / m of the fundamental, the sensor's own averaging passes |sinc(m a / p)|; together < 0.1) do not, nor does a
    sensor without holes.
    """
    slowest = math.inf
    for m in range(1, HARMONICS + 1) if step_time_s is not None and duty(spec) <= FULL_DUTY else ():
        frequency_hz = m / step_time_s
        k = round(frequency_hz * spec.update_s)
        if k >= 1 and abs(np.sinc(frequency_hz * spec.averaging_s)) / m >= AUDIBLE:
            slowest = min(slowest, abs(frequency_hz - k / spec.update_s) * duration_s)
    return slowest


def wave_rel(power_w: np.ndarray) -> float:
    """The slowest wave in the readings of a window, relative to their mean: the larger Fourier component of 3/4 of a turn and of one.

    It is what a beat leaves in the mean; half of it is the standard uncertainty of a mean at a phase that nobody knows.
    """
    mean_w = float(np.mean(power_w)) if len(power_w) > 4 else 0.0
    if not mean_w:
        return 0.0
    turns = np.arange(len(power_w)) / len(power_w)
    waves = [abs(np.dot(power_w - mean_w, np.exp(-2j * np.pi * k * turns))) for k in (0.75, 1.0)]
    return float(max(waves)) / len(power_w) / abs(mean_w)


def is_aliased(spec: DeviceSpec, step_time_s: float | None, duration_s: float, power_w: np.ndarray | None = None) -> bool:
    """Whether steps of this length beat with the sensor so slowly that the energy of the window may be off by over 5 %.

    Below 0.7 beats the readings cannot tell; below 10 they can: a window is aliased if their slowest wave is above 3.1 % of their mean.
    Without readings 1.5 beats are asked for.
    """
    found = beats(spec, step_time_s, duration_s)
    if power_w is None:
        return found < UNREAD_BEATS
    return found < STILL_BEATS or (found < NEAR_BEATS and wave_rel(power_w) > WAVE_REL)


def sampling_u_w(power_w: np.ndarray, duration_s: float, spec: DeviceSpec, aliased: bool) -> float:
    """Standard uncertainty [W] of mean power from a sensor with holes: scatter x sqrt(share unseen / updates); a quarter if aliased.

    The scatter is taken from differences of readings one update apart (von Neumann's successive differences), so that a ramp
    or a throttle step, which the sensor follows, does not count as noise.
    """
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
    return Energy(
        spec.device_id,
        spec.boundary,
        method,
        False,
        gross_j,
        None if spec.idle_w is None else gross_j - spec.idle_w * duration_s,
        u_offset_j=spec.offset_w * duration_s,
        u_gain_j=spec.gain_rel * abs(gross_j),
        u_net_j=None if spec.idle_w is None else spec.u_idle_w * duration_s,
        basis=spec.basis,
        status=status,
        field=field,
        **terms,
    )


def estimated(series: Series, start_s: float, stop_s: float, spec: DeviceSpec) -> Energy:
    """CPU time at the edges x the stated power of a busy thread [J].

    Our own time is known to the nanosecond, the children's in ticks of the scheduler: two tick errors, uniform each.
    """
    if "cpu_time_s" not in series or (delta_s := _edge_delta(series["cpu_time_s"], start_s, stop_s)) is None:
        return nothing(spec, "invalid", "estimate")
    children_s = _edge_delta(series["child_cpu_time_s"], start_s, stop_s) if "child_cpu_time_s" in series else 0.0
    busy_s = delta_s + max(children_s or 0.0, 0.0)
    granularity_j = spec.watts_per_thread * spec.tick_s / math.sqrt(6) if children_s else 0.0
    energy_j = spec.watts_per_thread * busy_s
    return finish(spec, "estimate", energy_j, stop_s - start_s, "ok", "cpu_time_s", granularity=granularity_j)


def _edge_delta(series: tuple[np.ndarray, np.ndarray], start_s: float, stop_s: float) -> float | None:
    edges = at_edges(series[0], start_s, stop_s)
    return None if edges is None else float(series[1][edges[1]] - series[1][edges[0]])


def counted(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Energy:
    """The counter's difference between the padded edges, less the pads at idle power [J].

    Each edge reading is late by up to one tick while the device idles, so two uniform errors of idle power x tick remain:
    u = P_idle tick / sqrt(6). A counter read without an idle pad carries the same at the window's mean power. Pads in which the work
    goes on are taken to draw the mean power of the whole span, with the scatter of the readings as their uncertainty.
    """
    failed = nothing(spec, "invalid", "counter")
    if spec.counter_field not in series:
        return failed
    t_s, value_j = series[spec.counter_field]
    if (edges := at_edges(t_s, start_s, stop_s)) is None:
        return failed
    delta_j = counter_delta(value_j[edges[0] : edges[1] + 1], spec.wrap_j)
    if delta_j is None:
        return replace(failed, status="counter_reset")
    span_s, duration_s = float(t_s[edges[1]] - t_s[edges[0]]), stop_s - start_s
    outside_s, mean_w = span_s - duration_s, delta_j / span_s
    pad_s = float(t_s[edges[1]]) - stop_s
    if spec.pads_loaded:
        idle = (mean_w, scatter) if (scatter := _scatter_w(series, spec)) is not None else None
    else:
        idle = idle_power(series, start_s, spec) if pad_s >= spec.tick_s > 0 else None
    outside_w, u_outside_w = idle or (mean_w, abs(mean_w) if outside_s > spec.tick_s else 0.0)
    aliased = spec.full_rate is not True and is_aliased(spec, step_time_s, duration_s, _inside(series, start_s, stop_s, spec))
    return finish(
        spec,
        "counter",
        delta_j - outside_w * outside_s,
        duration_s,
        "aliased" if aliased else "ok",
        spec.counter_field,
        granularity=abs(outside_w) * spec.tick_s / math.sqrt(6),
        aliasing=0.0 if spec.full_rate is True else _sampling_u_j(series, start_s, stop_s, spec, aliased),
        idle=u_outside_w * outside_s,
    )


def idle_power(series: Series, start_s: float, spec: DeviceSpec) -> tuple[float, float] | None:
    """Idle power [W], as the sensor shows it, in the pads with its standard uncertainty: the baseline, else the trace's own ends; None
    without either.

    Without a baseline it lies between the last reading before the work and the last one of the trace, when the sensor has told all
    of the work: the middle, uniform between the two.
    """
    if spec.idle_w is not None:
        return (spec.idle_w - spec.shift_w) / spec.scale, spec.u_idle_w / spec.scale
    t_s, power_w = series.get(spec.power_field, (np.empty(0), np.empty(0)))
    before = int(np.searchsorted(t_s, start_s, "right")) - 1
    if before < 0:
        return None
    first, last = float(power_w[before]), float(power_w[-1])
    return (first + last) / 2, abs(first - last) / math.sqrt(12)


def _scatter_w(series: Series, spec: DeviceSpec) -> float | None:
    """Standard deviation [W] of the power readings; None where there are not two."""
    power_w = series.get(spec.power_field, (None, np.empty(0)))[1]
    return float(power_w.std(ddof=1)) if len(power_w) > 1 else None


def _sampling_u_j(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, aliased: bool) -> float:
    """Uncertainty [J] of a sensor that sees only part of the time, from the scatter of its own readings."""
    inside = _inside(series, start_s, stop_s, spec)
    return 0.0 if inside is None else sampling_u_w(inside, stop_s - start_s, spec, aliased) * (stop_s - start_s)


def _inside(series: Series, start_s: float, stop_s: float, spec: DeviceSpec) -> np.ndarray | None:
    """The power readings [W] of the window; None where there is no such field."""
    if spec.power_field not in series:
        return None
    t_s, power_w = series[spec.power_field]
    return power_w[(t_s >= start_s) & (t_s <= stop_s)]


def integrated(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Energy:
    """The integral of the power readings over the work and the tail in which the sensor still reports it, less that tail's idle [J].

    A reading at t speaks of the time from t - averaging - update to t. Integrated to the stop alone it loses what it has not yet
    told (-4.4 % at 10 s for a 1 s average); integrated until it has told all, nothing is lost and only idle power is subtracted.
    """
    failed = nothing(spec, "invalid", "power")
    if spec.power_field not in series:
        return failed
    t_s, power_w = series[spec.power_field]
    known = power_w > 0
    t_s, power_w = t_s[known], power_w[known]
    covered = coverage(t_s, start_s, stop_s, spec.sample_s)
    if not covered.samples or covered.missing > MISSING_SHARE:
        return failed
    duration_s = stop_s - start_s
    if spec.pads_loaded:
        return _integrated_within(t_s, power_w, start_s, stop_s, spec, step_time_s, covered.missing)
    end_s = max(min(stop_s + spec.update_s + spec.averaging_s, float(t_s[-1])), stop_s)
    idle_w, u_idle_w = idle_power({spec.power_field: (t_s, power_w)}, start_s, spec) or (float(power_w.min()), float(np.ptp(power_w)))
    inside_w = power_w[(t_s >= start_s) & (t_s <= stop_s)]
    aliased = is_aliased(spec, step_time_s, duration_s, inside_w)
    return finish(
        spec,
        "power",
        integrate(t_s, power_w, start_s, end_s) - idle_w * (end_s - stop_s),
        duration_s,
        "aliased" if aliased else "ok",
        spec.power_field,
        statistical=covered.missing * duration_s * float(inside_w.std()),
        granularity=max(float(np.median(inside_w)) - idle_w, 0.0) * _edge_u_s(spec),
        aliasing=_sampling_u_j(series, start_s, stop_s, spec, aliased),
        idle=u_idle_w * (end_s - stop_s),
    )


def _integrated_within(
    t_s: np.ndarray, power_w: np.ndarray, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None, missing: float
) -> Energy:
    """The integral of readings of a work that goes on before and after the window: no tail is idle, so none is added or subtracted.

    A reading speaks of a stretch of update + averaging before it, on average of half as long ago: the integral is taken that much later.
    Each edge is blurred by that stretch T: with the scatter s of the readings on both sides, u = s T sqrt(2 / 12) an edge.
    """
    stretch_s, duration_s = spec.update_s + spec.averaging_s, stop_s - start_s
    late_s = stretch_s / 2
    inside_w = power_w[(t_s >= start_s) & (t_s <= stop_s)]
    scatter_w, series = float(inside_w.std()), {spec.power_field: (t_s, power_w)}
    aliased = is_aliased(spec, step_time_s, duration_s, inside_w)
    return finish(
        spec,
        "power",
        integrate(t_s, power_w, start_s + late_s, stop_s + late_s),
        duration_s,
        "aliased" if aliased else "ok",
        spec.power_field,
        statistical=missing * duration_s * scatter_w,
        granularity=scatter_w * stretch_s / math.sqrt(3),
        aliasing=_sampling_u_j(series, start_s, stop_s, spec, aliased),
    )


def _edge_u_s(spec: DeviceSpec) -> float:
    """Standard uncertainty [s] of where the work's two edges lie in a held trace.

    A full-time sensor keeps its energy however it is phased; only the trapezoid's slope between two samples, uniform over a sampling
    period, remains at each edge. One with holes sees an edge at its next update: uniform over the hole.
    """
    hole_s = max(spec.update_s - spec.averaging_s, 0.0)
    return math.hypot(spec.sample_s, hole_s) / math.sqrt(6)
