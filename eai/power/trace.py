"""Energy of a power trace: the integral of readings that a sensor holds, between edges that fall between them."""

import math
from dataclasses import dataclass

import numpy as np

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
