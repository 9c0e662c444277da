"""The energies of one device from its readings: counter, integral of power, or estimate, each with its uncertainty terms."""

import math
from dataclasses import replace

import numpy as np

from eai.power.alias import is_aliased, sampling_u_w
from eai.power.energy import Energy
from eai.power.spec import DeviceSpec
from eai.power.trace import at_edges, counter_delta, coverage, integrate

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
    aliased = spec.full_rate is not True and is_aliased(spec, step_time_s, duration_s)
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
    if spec.power_field not in series:
        return 0.0
    t_s, power_w = series[spec.power_field]
    inside = power_w[(t_s >= start_s) & (t_s <= stop_s)]
    return sampling_u_w(inside, stop_s - start_s, spec, aliased) * (stop_s - start_s)


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
    aliased = is_aliased(spec, step_time_s, duration_s)
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
    scatter_w = float(power_w[(t_s >= start_s) & (t_s <= stop_s)].std())
    series, aliased = {spec.power_field: (t_s, power_w)}, is_aliased(spec, step_time_s, duration_s)
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
