"""`derive(stream, start_s, stop_s, spec)`: what a window's readings say, as a pure function.

The same function serves the live window and `replay`, so a stored stream gives the same numbers bit for bit. It holds
the rules of measurement: edges, pads, two estimates, the cross-check between them, which status a window gets, and its context:
temperature, clocks, throttling, limits, load.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from eai.power.readings import SHORT_SHARE, Energy, Series, counted, estimated, integrated, nothing
from eai.power.stream import DeviceSpec, Spec, split
from eai.quantity import plain

if TYPE_CHECKING:
    import pandas as pd


MEANS = {"temperature_mean_c": "temperature_c", "sm_clock_mean_mhz": "sm_clock_mhz", "mem_clock_mean_mhz": "mem_clock_mhz"}
KEYS = (
    "temperature_mean_c",
    "temperature_max_c",
    "sm_clock_mean_mhz",
    "mem_clock_mean_mhz",
    "utilization_mean_pct",
    "memory_used_peak_gb",
    "power_limit_w",
    "power_mean_w",
    "power_min_w",
    "power_max_w",
    "throttle_fraction",
    "power_capped_fraction",
    "cpu_threads_busy",
    "other_processes",
    "samples",
)

Parts = dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]


def describe(parts: Parts, start_s: float, stop_s: float, spec: Spec) -> dict:
    """The context of a window over the spec's primary boundary; None where nothing was sensed.

    Over several cards: means are means, the maximum temperature and the throttled share are those of the worst card, power and
    its limit are sums. Throttling between samples shows in the cumulative violation times, which is why they are used.
    """
    context = dict.fromkeys(KEYS)
    inside: dict[str, list[np.ndarray]] = {}
    spans: dict[str, list[float]] = {}
    for (_, boundary, name), (t_s, value) in parts.items():
        if boundary != spec.boundary:
            continue
        within = value[(t_s >= start_s) & (t_s <= stop_s)]
        if len(within):
            inside.setdefault(name, []).append(within)
        if len(value) > 1:
            spans.setdefault(name, []).append(_change_within(t_s, value, start_s, stop_s))
    duration_s = stop_s - start_s
    for key, name in MEANS.items():
        if name in inside:
            context[key] = float(np.mean([v.mean() for v in inside[name]]))
    if "temperature_c" in inside:
        context["temperature_max_c"] = float(max(v.max() for v in inside["temperature_c"]))
    if "utilization_pct" in inside:
        context["utilization_mean_pct"] = float(np.mean([v.mean() for v in inside["utilization_pct"]]))
    if "memory_used_bytes" in inside:
        context["memory_used_peak_gb"] = float(sum(v.max() for v in inside["memory_used_bytes"])) / 1e9
    if "power_limit_w" in inside:
        context["power_limit_w"] = float(sum(v[-1] for v in inside["power_limit_w"]))
    for name in {d.power_field for d in spec.devices if d.power_field} & set(inside):
        context["power_min_w"] = float(sum(v.min() for v in inside[name]))
        context["power_max_w"] = float(sum(v.max() for v in inside[name]))
        context["samples"] = int(min(len(v) for v in inside[name]))
    for key, name in {"throttle_fraction": "violation_thermal_ns", "power_capped_fraction": "violation_power_ns"}.items():
        if name in spans:
            context[key] = max(spans[name]) / 1e9 / duration_s
    if others := [v.max() for (_, _, name), (_, v) in parts.items() if name == "other_processes"]:
        context["other_processes"] = int(max(others))
    if "cpu_time_s" in spans:
        context["cpu_threads_busy"] = (sum(spans["cpu_time_s"]) + sum(spans.get("child_cpu_time_s", []))) / duration_s
    return context


def _change_within(t_s: np.ndarray, value: np.ndarray, start_s: float, stop_s: float) -> float:
    """Change of a cumulative series between the readings nearest outside the window."""
    first = max(int(np.searchsorted(t_s, start_s, "right")) - 1, 0)
    last = min(int(np.searchsorted(t_s, stop_s, "left")), len(t_s) - 1)
    return float(max(value[last] - value[first], 0.0))


PRIORITY = ("lost", "invalid", "counter_reset", "throttled", "disputed", "aliased", "short_window", "ok")
DISPUTE_SIGMAS, DISPUTE_SHARE = 3.0, 0.03
THROTTLED_SHARE = 0.005
CAPPED_SHARE = 0.05


@dataclass(frozen=True)
class Derived:
    """What a stream says about one window: rows of energy, the context, the window's status, flags and reason."""

    energies: tuple[Energy, ...]
    context: dict
    status: str
    flags: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """One device's share of a derivation."""

    energies: tuple[Energy, ...] = ()
    status: str = "ok"
    flags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = field(default=())


def derive(stream: pd.DataFrame, start_s: float, stop_s: float, spec: Spec) -> Derived:
    """Energies, context, status, flags and reason of the window from `start_s` to `stop_s`.

    Reads nothing but its arguments: replaying it on the stored stream gives the same bits. The window takes the worst status
    of the devices within the spec's boundary; a package's trouble does not spoil a GPU window.
    """
    if not stop_s > start_s:
        energies = tuple(nothing(d, "invalid") for d in spec.devices)
        return Derived(energies, {}, "invalid", reason=f"the window ends {start_s - stop_s:.3g} s before it starts: the clock jumped")
    parts = split(stream)
    findings = []
    for device in spec.devices:
        series = {f: s for (device_id, _, f), s in parts.items() if device_id == device.device_id}
        findings.append(_device(series, start_s, stop_s, device, spec.step_time_s))
    context = describe(parts, start_s, stop_s, spec) | {"power_mean_w": _mean_power(findings, spec.boundary, stop_s - start_s)}
    primary = [f for f, d in zip(findings, spec.devices, strict=True) if d.boundary == spec.boundary]
    flags = [flag for f in findings for flag in f.flags] + _remarks(context)
    troubles = list(_troubles(parts, context, spec))
    status = min([f.status for f in primary] + [s for s, _ in troubles] or ["invalid"], key=PRIORITY.index)
    reasons = [r for f in findings for r in f.reasons] + [r for _, r in troubles]
    energies = tuple(e for f in findings for e in f.energies)
    return Derived(energies, context, status, tuple(dict.fromkeys(flags)), "; ".join(dict.fromkeys(reasons)))


def _troubles(parts: dict, context: dict, spec: Spec) -> Iterator[tuple[str, str]]:
    """(status, reason) of what spoils the whole window, whatever the energies say."""
    if any(name == "sampler_error" for _, _, name in parts):
        yield "invalid", "the sampler died inside the window"
    if (share := context.get("throttle_fraction") or 0.0) > THROTTLED_SHARE:
        yield "throttled", f"thermally throttled for {share:.1%} of the window"
    if context.get("other_processes") and not all(d.shared for d in spec.devices if d.boundary == "gpu"):
        yield "invalid", "another process used the card"


def _remarks(context: dict) -> list[str]:
    """Flags that do not bar the window."""
    capped = (context.get("power_capped_fraction") or 0.0) > CAPPED_SHARE
    return ["power_capped"] * capped + ["other_processes"] * bool(context.get("other_processes"))


def _mean_power(findings: list[Finding], boundary: str, duration_s: float) -> float | None:
    """Mean power [W] over the window from the primary energies of a boundary; None if one of them is missing."""
    energies = [e.energy_j for f in findings for e in f.energies if e.primary and e.boundary == boundary]
    return None if not energies or None in energies else sum(energies) / duration_s


def _device(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Finding:
    """The energies of one device and what is wrong with them."""
    if "lost" in series:
        return Finding((nothing(spec, "lost"),), "lost", reasons=(f"{spec.device_id} was lost during the window",))
    if spec.watts_per_thread is not None:
        return _judge_single(estimated(series, start_s, stop_s, spec), spec)
    counter = counted(series, start_s, stop_s, spec, step_time_s) if spec.counter_field else None
    power = integrated(series, start_s, stop_s, spec, step_time_s) if spec.power_field else None
    if counter is None and power is None:
        return Finding((nothing(spec, "invalid"),), "invalid", reasons=(f"{spec.device_id} has no energy sensor",))
    if counter is None or power is None:
        return _judge_single(counter or power, spec)
    return _judge_pair(counter, power, spec)


def _judge_single(energy: Energy, spec: DeviceSpec) -> Finding:
    """One estimate alone stands or falls with its own status; with no second one to contradict it, a GPU's is flagged."""
    flags = ("single_method",) if spec.boundary == "gpu" else ()
    flags += ("unverified_counter",) if energy.method == "counter" and spec.full_rate is False else ()
    reasons = () if energy.status == "ok" else (f"{energy.device_id}: {_WHY[energy.status]}",)
    return Finding((replace(energy, primary=True),), energy.status, flags, reasons)


_WHY = {
    "invalid": "readings are missing",
    "counter_reset": "the energy counter went backwards",
    "aliased": "the work's steps beat with the sensor's updates",
    "short_window": f"the window is too short: its granularity exceeds {SHORT_SHARE:.0%} of the energy",
}


def _judge_pair(counter: Energy, power: Energy, spec: DeviceSpec) -> Finding:
    """Counter and integral against each other: the counter is primary if they agree, or if it alone is to be trusted."""
    if counter.energy_j is None or power.energy_j is None:
        return _judge_half(counter, power, spec)
    if spec.full_rate is True and power.status == "aliased":
        return Finding((replace(counter, primary=True), power), counter.status, ("integral_aliased",), _reasons(spec, counter.status))
    if not agree(counter, power, spec):
        reason = f"{spec.device_id}: counter {plain(counter.energy_j, 4)} J and integral {plain(power.energy_j, 4)} J disagree"
        disputed = tuple(replace(e, status="disputed", primary=e is counter) for e in (counter, power))
        return Finding(disputed, "disputed", reasons=(reason,))
    status = "aliased" if power.status == "aliased" else counter.status
    return Finding((replace(counter, primary=True), power), status, reasons=_reasons(spec, status))


def _judge_half(counter: Energy, power: Energy, spec: DeviceSpec) -> Finding:
    """One of the two is missing. A power trace that is whole can stand in for an unread counter, not for one that was reset: then the
    driver went away. A counter stands without its trace only if it is proven to see everything.
    """
    if counter.energy_j is None:
        good, bad = power, counter
        status = "counter_reset" if counter.status == "counter_reset" else power.status
    else:
        good, bad = counter, power
        status = counter.status if spec.full_rate is True else "invalid"
    pair = tuple(replace(e, primary=e is good) for e in (counter, power))
    return Finding(pair, status, (f"{bad.method}_missing",), _reasons(spec, bad.status if status != "ok" else status))


def _reasons(spec: DeviceSpec, status: str) -> tuple[str, ...]:
    return () if status == "ok" else (f"{spec.device_id}: {_WHY[status]}",)


def agree(counter: Energy, power: Energy, spec: DeviceSpec) -> bool:
    """Whether the two estimates tell the same energy, after the probed ratio of their gains is divided out.

    They disagree only if the difference is both more than 3 combined standard uncertainties and more than 3 %: gain and offset
    are common to both sensors' card and play no part, but the doubt about the ratio itself does.
    """
    expected_j = power.energy_j * spec.gain_ratio
    u_j = math.hypot(counter.u_reading_j, power.u_reading_j * spec.gain_ratio, power.energy_j * spec.u_gain_ratio)
    difference_j = abs(counter.energy_j - expected_j)
    return difference_j <= max(DISPUTE_SIGMAS * u_j, DISPUTE_SHARE * abs(expected_j))
