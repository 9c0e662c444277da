"""When a workload has settled, so that measuring may begin: steps as long as each other, power without a slope."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GROUPS, GROUP_STEPS, CV_LIMIT = 5, 16, 0.02
SLOPE_LIMIT_PER_S = 0.002
CAP_S = 60.0


@dataclass(frozen=True)
class Steadiness:
    """Whether the last groups are steady, their coefficient of variation (None: too few), and why."""

    steady: bool
    cv: float | None
    reason: str


def steady(latencies_s: Sequence[float], groups: int = GROUPS, group_steps: int = GROUP_STEPS, cv_limit: float = CV_LIMIT) -> Steadiness:
    """Whether the means of the last `groups` groups of `group_steps` latencies vary by at most `cv_limit` (sample sd / mean).

    Single steps jitter for harmless reasons; a group's mean moves only while clocks, caches or compilers still do.
    """
    needed = groups * group_steps
    if len(latencies_s) < needed:
        return Steadiness(False, None, f"{len(latencies_s)} of {needed} steps")
    means = np.asarray(latencies_s[-needed:], dtype=float).reshape(groups, group_steps).mean(axis=1)
    cv = float(means.std(ddof=1) / means.mean())
    return Steadiness(cv <= cv_limit, cv, f"CV {cv:.2%} of the last {groups} groups of {group_steps} steps")


def power_settled(t_s: Sequence[float], power_w: Sequence[float], limit_per_s: float = SLOPE_LIMIT_PER_S) -> bool:
    """Whether power has no slope: less than `limit_per_s` of its mean a second, by least squares. Needs three readings."""
    t_s, power_w = np.asarray(t_s, dtype=float), np.asarray(power_w, dtype=float)
    if len(t_s) < 3 or np.ptp(t_s) == 0:
        return False
    slope_w_per_s = np.polyfit(t_s - t_s.mean(), power_w, 1)[0]
    return bool(abs(slope_w_per_s) <= limit_per_s * abs(power_w.mean()))


def warm_up(
    step: Callable[[], float],
    now_s: Callable[[], float],
    cap_s: float = CAP_S,
    settled: Callable[[], bool] = lambda: True,
    group_steps: int = GROUP_STEPS,
) -> tuple[Steadiness, float]:
    """(last verdict, seconds spent): runs `step() -> latency_s` until it is steady and `settled()`, or the cap is reached.

    Runs once at least. A workload that never settles is measured all the same, but its verdict says so.
    """
    begin_s, latencies_s = now_s(), [step()]
    verdict = steady(latencies_s, group_steps=group_steps)
    while now_s() - begin_s < cap_s:
        latencies_s.append(step())
        if len(latencies_s) % group_steps == 0:
            verdict = steady(latencies_s, group_steps=group_steps)
            if verdict.steady and settled():
                break
    return verdict, now_s() - begin_s
