"""What else the sensors saw while the work ran: temperature, clocks, throttling, limits, load."""

import numpy as np

from eai.power.spec import Spec

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
