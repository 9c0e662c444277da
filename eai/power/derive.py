"""`derive(stream, start_s, stop_s, spec)`: what a window's readings say, as a pure function.

The same function serves the live window and `replay`, so a stored stream gives the same numbers bit for bit. It holds the rules of
measurement: edges, pads, two estimates and the cross-check between them, which status a window gets, and its context.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eai.power.readings import SHORT_SHARE, DeviceSpec, Energy, Series, Spec, counted, estimated, integrated, nothing, split
from eai.quantity import plain

if TYPE_CHECKING:
    import pandas as pd

MEANS = {"temperature_mean_c": "temperature_c", "sm_clock_mean_mhz": "sm_clock_mhz", "mem_clock_mean_mhz": "mem_clock_mhz"}
MEANS |= {"utilization_mean_pct": "utilization_pct"}
KEYS = (
    "temperature_mean_c", "temperature_max_c", "sm_clock_mean_mhz", "mem_clock_mean_mhz", "utilization_mean_pct", "memory_used_peak_gb",
    "power_limit_w", "power_mean_w", "power_min_w", "power_max_w", "throttle_fraction", "power_capped_fraction", "cpu_threads_busy",
    "other_processes", "samples",
)  # fmt: skip
PRIORITY = ("lost", "invalid", "counter_reset", "throttled", "disputed", "aliased", "short_window", "ok")
DISPUTE_SIGMAS, DISPUTE_SHARE, THROTTLED_SHARE, CAPPED_SHARE = 3.0, 0.03, 0.005, 0.05
WHY = {
    "ok": "",
    "invalid": "readings are missing",
    "counter_reset": "the energy counter went backwards",
    "aliased": "the work's steps beat with the sensor's updates",
    "short_window": f"the window is too short: its granularity exceeds {SHORT_SHARE:.0%} of the energy",
}

Parts = dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]


def describe(parts: Parts, start_s: float, stop_s: float, spec: Spec) -> dict:
    """The context of a window over the spec's primary boundary; None where nothing was sensed. Over several cards: means are means, the
    maximum temperature and the throttled share are those of the worst card, power and its limit are sums. Throttling between samples shows
    in the cumulative violation times, which is why they are used."""
    inside: dict[str, list[np.ndarray]] = {}
    spans: dict[str, list[float]] = {}
    for (_, boundary, name), (t_s, value) in parts.items():
        if boundary != spec.boundary:
            continue
        within = value[(t_s >= start_s) & (t_s <= stop_s)]
        if len(within):
            inside.setdefault(name, []).append(within)
        if len(value) > 1:
            first = max(int(np.searchsorted(t_s, start_s, "right")) - 1, 0)  # the readings nearest outside the window
            last = min(int(np.searchsorted(t_s, stop_s, "left")), len(t_s) - 1)
            spans.setdefault(name, []).append(float(max(value[last] - value[first], 0.0)))
    duration_s = stop_s - start_s
    context = dict.fromkeys(KEYS) | {key: float(np.mean([v.mean() for v in inside[name]])) for key, name in MEANS.items() if name in inside}
    if "temperature_c" in inside:
        context["temperature_max_c"] = float(max(v.max() for v in inside["temperature_c"]))
    if "memory_used_bytes" in inside:
        context["memory_used_peak_gb"] = float(sum(v.max() for v in inside["memory_used_bytes"])) / 1e9
    if "power_limit_w" in inside:
        context["power_limit_w"] = float(sum(v[-1] for v in inside["power_limit_w"]))
    for each in [inside[name] for name in {d.power_field for d in spec.devices} & set(inside)]:
        context |= {"power_min_w": float(sum(v.min() for v in each)), "power_max_w": float(sum(v.max() for v in each))}
        context["samples"] = min(len(v) for v in each)
    for key, name in {"throttle_fraction": "violation_thermal_ns", "power_capped_fraction": "violation_power_ns"}.items():
        if name in spans:
            context[key] = max(spans[name]) / 1e9 / duration_s
    if others := [v.max() for (_, _, name), (_, v) in parts.items() if name == "other_processes"]:
        context["other_processes"] = int(max(others))
    if "cpu_time_s" in spans:
        context["cpu_threads_busy"] = (sum(spans["cpu_time_s"]) + sum(spans.get("child_cpu_time_s", []))) / duration_s
    return context


@dataclass(frozen=True)
class Derived:
    """What a stream says about one window, or about one device in it: rows of energy, context, status, flags and reason."""

    energies: tuple[Energy, ...]
    context: dict
    status: str = "ok"
    flags: tuple[str, ...] = ()
    reason: str = ""


def derive(stream: pd.DataFrame, start_s: float, stop_s: float, spec: Spec) -> Derived:
    """Energies, context, status, flags and reason of the window from `start_s` to `stop_s`. Reads nothing but its arguments: replaying it
    on the stored stream gives the same bits. The window takes the worst status of the devices within the spec's boundary; a package's
    trouble does not spoil a GPU window."""
    if not stop_s > start_s:
        energies = tuple(nothing(d, "invalid") for d in spec.devices)
        return Derived(energies, {}, "invalid", reason=f"the window ends {start_s - stop_s:.3g} s before it starts: the clock jumped")
    parts, findings = split(stream), []
    for device in spec.devices:
        series = {f: s for (device_id, _, f), s in parts.items() if device_id == device.device_id}
        findings.append(_device(series, start_s, stop_s, device, spec.step_time_s))
    energies = tuple(e for f in findings for e in f.energies)
    primary_j = [e.energy_j for e in energies if e.primary and e.boundary == spec.boundary]
    context = describe(parts, start_s, stop_s, spec)
    context["power_mean_w"] = None if not primary_j or None in primary_j else sum(primary_j) / (stop_s - start_s)
    flags = [flag for f in findings for flag in f.flags]
    flags += ["power_capped"] * ((context["power_capped_fraction"] or 0.0) > CAPPED_SHARE)
    flags += ["other_processes"] * bool(context["other_processes"])
    troubles = []
    if any(name == "sampler_error" for _, _, name in parts):
        troubles.append(("invalid", "the sampler died inside the window"))
    if (share := context["throttle_fraction"] or 0.0) > THROTTLED_SHARE:
        troubles.append(("throttled", f"thermally throttled for {share:.1%} of the window"))
    if context["other_processes"] and not all(d.shared for d in spec.devices if d.boundary == "gpu"):
        troubles.append(("invalid", "another process used the card"))
    primary = [f.status for f, d in zip(findings, spec.devices, strict=True) if d.boundary == spec.boundary]
    status = min([*primary, *(s for s, _ in troubles)] or ["invalid"], key=PRIORITY.index)
    reasons = dict.fromkeys([*(f.reason for f in findings if f.reason), *(r for _, r in troubles)])
    return Derived(energies, context, status, tuple(dict.fromkeys(flags)), "; ".join(reasons))


def _device(series: Series, start_s: float, stop_s: float, spec: DeviceSpec, step_time_s: float | None) -> Derived:
    """The energies of one device and what is wrong with them; its context is the window's. One estimate alone stands or falls with its own
    status; a GPU's is flagged. Of two the counter is primary if they agree, or if it alone is to be trusted. Where one is missing, a whole
    power trace stands in for an unread counter, not for one that was reset: then the driver went away; a counter stands without its trace
    only if it is proven to see everything."""

    def judged(energies: tuple[Energy, ...], status: str, flags: tuple[str, ...] = (), why: str | None = None) -> Derived:
        text = WHY[status] if why is None else why
        return Derived(energies, {}, status, flags, text and f"{spec.device_id}: {text}")

    if "lost" in series:
        return Derived((nothing(spec, "lost"),), {}, "lost", reason=f"{spec.device_id} was lost during the window")
    window = (series, start_s, stop_s, spec)
    counter = counted(*window, step_time_s) if spec.counter_field else None
    power = integrated(*window, step_time_s) if spec.power_field else None
    if spec.watts_per_thread is not None:
        counter, power = None, estimated(*window)
    if counter is None and power is None:
        return Derived((nothing(spec, "invalid"),), {}, "invalid", reason=f"{spec.device_id} has no energy sensor")
    if counter is None or power is None:
        energy = counter or power
        flags = ("single_method",) if spec.boundary == "gpu" else ()
        flags += ("unverified_counter",) if counter and spec.full_rate is False else ()
        return judged((replace(energy, primary=True),), energy.status, flags)
    if counter.energy_j is None or power.energy_j is None:
        good, bad = (power, counter) if counter.energy_j is None else (counter, power)
        if good is power:
            status = "counter_reset" if counter.status == "counter_reset" else power.status
        else:
            status = counter.status if spec.full_rate is True else "invalid"
        pair = tuple(replace(e, primary=e is good) for e in (counter, power))
        return judged(pair, status, (f"{bad.method}_missing",), WHY[bad.status if status != "ok" else status])
    pair = (replace(counter, primary=True), power)
    if spec.full_rate is True and power.status == "aliased":
        return judged(pair, counter.status, ("integral_aliased",))
    if not agree(counter, power, spec):
        why = f"counter {plain(counter.energy_j, 4)} J and integral {plain(power.energy_j, 4)} J disagree"
        return judged(tuple(replace(e, status="disputed") for e in pair), "disputed", why=why)
    return judged(pair, "aliased" if power.status == "aliased" else counter.status)


def agree(counter: Energy, power: Energy, spec: DeviceSpec) -> bool:
    """Whether the two estimates tell the same energy, the probed ratio of their gains divided out: the difference is within 3 combined
    standard uncertainties or 3 %. The card's gain and offset are common to both and play no part, the doubt about the ratio does."""
    expected_j = power.energy_j * spec.gain_ratio
    u_j = math.hypot(counter.u_reading_j, power.u_reading_j * spec.gain_ratio, power.energy_j * spec.u_gain_ratio)
    return abs(counter.energy_j - expected_j) <= max(DISPUTE_SIGMAS * u_j, DISPUTE_SHARE * abs(expected_j))


U_TERMS = ("statistical", "granularity", "aliasing", "idle", "offset", "gain", "net")
NUMBERS = ("energy_j", "net_energy_j", *(f"u_{term}_j" for term in U_TERMS))


def replay(windows: pd.DataFrame, energies: pd.DataFrame, samples: pd.DataFrame) -> tuple[int, list[dict]]:
    """(windows derived again, mismatches) of tables as `tables` reads them; every number must come out the same, bit for bit; a mismatch
    says attempt, what, stored and derived. Windows that the meter did not judge (out of memory, failed, imported) have nothing to derive. A
    judged window without samples, or with samples that are scattered over the table or there twice, is a mismatch: what cannot be derived
    again is not replayed."""
    import pandas as pd

    codes, names = pd.factorize(samples["attempt"], use_na_sentinel=False)
    cuts = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    if len(cuts) - 1 > len(names):
        stored = "the samples of a window are scattered over the table: sort it by attempt, keeping the order"
        return 0, [{"attempt": "", "what": "samples", "stored": stored, "derived": "each window's together"}]
    blocks = {str(names[codes[begin]]): samples.iloc[begin:end] for begin, end in itertools.pairwise(cuts)}
    kept: dict[str, list[dict]] = {}
    for row in energies.to_dict("records"):
        kept.setdefault(row["attempt"], []).append(row)
    done, mismatches = 0, []

    def check(what: str, stored, again) -> None:
        if not same(stored, again):
            mismatches.append({"attempt": attempt, "what": what, "stored": stored, "derived": again})

    for window in windows.to_dict("records"):
        if window["status"] not in PRIORITY or not isinstance(window.get("meter_spec"), str):
            continue
        attempt = window["attempt"]
        if (own := blocks.get(attempt)) is None:
            check("samples", "none", "")
            continue
        if again := int(own.duplicated(["t_s", "device_id", "boundary", "field"]).sum()):  # a sensor's clock does not stand still
            check("samples", f"{again} readings twice", "each once")
        try:
            derived = derive(own, window["start_s"], window["stop_s"], Spec.from_json(window["meter_spec"]))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            check("meter_spec and samples", "cannot be derived from", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
            continue
        done += 1
        check("status", window["status"], derived.status)
        before = {(r["device_id"], r["boundary"], r["method"]): r for r in kept.get(attempt, [])}
        after = {(e.device_id, e.boundary, e.method): e for e in derived.energies}
        for key in before.keys() | after.keys():
            if key in before and key in after:
                for name in (*NUMBERS, "primary", "status"):
                    check(f"{'/'.join(key)} {name}", before[key][name], getattr(after[key], name))
            else:
                check("/".join(key), "present" if key in before else "missing", "present" if key in after else "missing")
    return done, mismatches


def same(stored, again) -> bool:
    """Whether two values are the same to the last bit; None and NaN are both "no number"."""
    gone = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (stored, again)]
    return all(gone) or (not any(gone) and stored == again)
