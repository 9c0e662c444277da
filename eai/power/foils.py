"""The methods in use elsewhere, kept to be seen failing: each turns readings into joules in a way that looks right.

They are here so that the tests and the accuracy benchmark can put their errors beside ours; nothing measures with them.
"""

import numpy as np


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
