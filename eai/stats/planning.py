"""How many blocks or items a question needs, answered before measuring, and Stein's two-stage stopping.

No stopping rule repairs autocorrelation: blocks in random order do, and `intervals.autocorrelation_p` tests whether they did.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from eai.stats.comparisons import ALPHA, MARGIN, MIN_POWER, tost_power
from eai.stats.intervals import CONFIDENCE, Interval, t_quantile

MOST_BLOCKS = 10_000
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Stopping:
    """A two-stage plan: `n_first` blocks, then as many as the first ones' spread asks for, at most `cap`, for a relative `half_width` of
    the 95 % interval (0.02: +-2 %)."""

    half_width: float = 0.02
    n_first: int = 5
    cap: int = 20


def _smallest(enough, start: int = 2) -> int | None:
    """The smallest n from `start` for which `enough(n)`, by doubling and bisection; None above 10,000."""
    high = start
    while not enough(high):
        high *= 2
        if high > MOST_BLOCKS:
            return None
    low = max(start, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def half_width(sd_log: float, n: int, confidence: float = CONFIDENCE) -> float:
    """The relative half-width of the t interval of n blocks (0.02: up to 2 % above the estimate)."""
    return float(np.expm1(t_quantile(n - 1, confidence) * sd_log / math.sqrt(n)))


def power(sd_log: float, n: int, ratio: float, alpha: float = ALPHA) -> float:
    """The power of the paired t test to show a true `ratio` with n blocks: the normal probability of rejection averaged over the chi-square
    distribution of the sample variance (library routines for the noncentral t give NaN for large effects)."""
    spread = np.sqrt(special.chdtri(n - 1, (1 - NODES) / 2) / (n - 1))
    critical = t_quantile(n - 1, 1 - alpha) * spread
    effect = abs(math.log(ratio)) / sd_log * math.sqrt(n)
    return float((special.ndtr(effect - critical) + special.ndtr(-effect - critical)) @ WEIGHTS / 2)


def blocks_for_ratio(sd_log: float, ratio: float, wanted: float = MIN_POWER, family: int = 1, alpha: float = ALPHA) -> int | None:
    """The number of paired blocks that show a true `ratio` with the wanted power; a `family` of comparisons shares alpha (Bonferroni)."""
    return _smallest(lambda n: power(sd_log, n, ratio, alpha / family) >= wanted)


def blocks_for_equivalence(sd_log: float, margin: float = MARGIN, wanted: float = MIN_POWER) -> int | None:
    """The number of paired blocks that show equivalence within `margin` with the wanted power if the true ratio is 1."""
    return _smallest(lambda n: tost_power(sd_log, n, margin) >= wanted)


def detectable_score_ratio(n_items: int, score: float, correlation: float = 0.0, wanted: float = MIN_POWER, alpha: float = ALPHA) -> float:
    """The smallest ratio of two scores (and so of two EORs) above 1 that n items can show, by the delta method on the logarithm; the
    `correlation` of the two configurations' items is 0 for different items, about 0.5 to 0.9 where both answer the same ones."""
    z = special.ndtri(1 - alpha / 2) + special.ndtri(wanted)
    return math.exp(z * math.sqrt(2 * (1 - correlation) * (1 - score) / (score * n_items)))


def stein_blocks(sd_first: float, plan: Stopping = Stopping()) -> int:
    """The total number of blocks that Stein's first stage asks for, never below it and never above the cap. Stein 1945
    (doi:10.1214/aoms/1177731088): n = (t(n_first - 1) s / h)**2 gives an interval of half-width h that keeps its coverage, because the mean
    of all blocks is independent of the first stage's s."""
    h = math.log1p(plan.half_width)
    asked = math.ceil((float(t_quantile(plan.n_first - 1)) * sd_first / h) ** 2)
    return min(max(plan.n_first, asked), plan.cap)


def stein_interval(logs, n_first: int, confidence: float = CONFIDENCE) -> Interval:
    """The ratio with Stein's interval: the mean of all blocks, the spread of the first `n_first` alone. Arrays along the last axis."""
    logs = np.asarray(logs, float)
    n = logs.shape[-1]
    half = t_quantile(n_first - 1, confidence) * logs[..., :n_first].std(axis=-1, ddof=1) / math.sqrt(n)
    mean = logs.mean(axis=-1)
    return Interval(np.exp(mean), np.exp(mean - half), np.exp(mean + half))
