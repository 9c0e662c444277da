"""Scores of tasks: items are the replicates; differences are taken on the same items; score and energy combine by MOVER."""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from eai.stats.intervals import CONFIDENCE, Interval, wilson_limits

FEWEST_FOR_BOOTSTRAP = 20


class PairedScores(NamedTuple):
    """Counts of the same items answered by two configurations: both right, only the first, only the second, neither."""

    both: int
    first: int
    second: int
    neither: int

    @property
    def n(self) -> int:
        """The number of items."""
        return self.both + self.first + self.second + self.neither


def pair(first, second) -> PairedScores:
    """The counts of two arrays of right (1) and wrong (0) answers to the same items. Raises ValueError if they do not match."""
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.size == 0 or not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError(f"paired items need two equally long arrays of 0 and 1, found shapes {a.shape} and {b.shape}")
    a, b = a.astype(bool), b.astype(bool)
    return PairedScores(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))


def mcnemar_p(counts: PairedScores) -> float:
    """The exact two-sided p of "both score the same" (McNemar 1947, doi:10.1007/BF02295996); 1 if they never disagree."""
    if counts.first + counts.second == 0:
        return 1.0
    return min(2 * float(special.bdtr(min(counts.first, counts.second), counts.first + counts.second, 0.5)), 1.0)


def difference_interval(first, second, rng: np.random.Generator, confidence: float = CONFIDENCE, draws: int = 2_000) -> Interval:
    """The difference of two mean scores on the same items with a BCa bootstrap interval over items; for any score, partial credit too.
    Raises ValueError below 20 items, where the bootstrap's coverage is too low to be used."""
    d = np.asarray(first, float) - np.asarray(second, float)
    if d.size < FEWEST_FOR_BOOTSTRAP:
        raise ValueError(f"a bootstrap needs at least {FEWEST_FOR_BOOTSTRAP} items, found {d.size}")
    if np.ptp(d) == 0:
        return Interval(d.mean(), np.nan, np.nan)
    from scipy import stats  # a second to import

    found = stats.bootstrap((d,), np.mean, n_resamples=draws, confidence_level=confidence, method="BCa", rng=rng).confidence_interval
    return Interval(d.mean(), found.low, found.high)


def difference_of(first: Interval, second: Interval) -> Interval:
    """The difference of two independent proportions with an interval recovered from theirs (MOVER without logarithms), wide and safe on the
    same items. With Wilson's it is Newcombe's method 10 (1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I)."""
    d = first.value - second.value
    low = d - np.hypot(first.value - first.low, second.high - second.value)
    return Interval(d, low, d + np.hypot(first.high - first.value, second.value - second.low))


def ratio_interval(counts: PairedScores, confidence: float = CONFIDENCE) -> Interval:
    """The ratio of two scores on the same items, first over second, with Bonett and Price's interval. Bonett and Price 2006
    (doi:10.1002/sim.2440): Wilson limits of both proportions among the items that at least one got right, narrowed by what pairing
    explains. NaN where the second never scores."""
    x1, x2 = counts.both + counts.first, counts.both + counts.second
    n = counts.both + counts.first + counts.second
    if x2 == 0:
        return Interval(np.nan, np.nan, np.nan)
    p1, p2 = (x1 + 1) / (n + 2), (x2 + 1) / (n + 2)
    pairing = math.sqrt((counts.first + counts.second + 2) / ((x1 + 1) * (x2 + 1)))
    z = special.ndtri((1 + confidence) / 2) * pairing / (math.sqrt((1 - p1) / (x1 + 1)) + math.sqrt((1 - p2) / (x2 + 1)))
    (low1, high1), (low2, high2) = wilson_limits(x1, n, z), wilson_limits(x2, n, z)
    return Interval(x1 / x2, low1 / high2, high1 / low2)


def quotient(numerator: Interval, denominator: Interval) -> Interval:
    """The quotient of two independent positive quantities with an interval recovered from theirs (MOVER on the logarithms). Zou and Donner
    2008 (doi:10.1002/sim.3095): the distance to each limit is the root of the squared distances of the parts, so skewed intervals stay
    skewed. EOR is a score (Wilson over items) over an energy (t over blocks). A numerator of zero has the limits 0 and the largest quotient
    of the two intervals."""
    with np.errstate(divide="ignore", invalid="ignore"):
        (a, a_low, a_high), (b, b_low, b_high) = (tuple(np.log(np.asarray(x, float)) for x in i) for i in (numerator, denominator))
        zero, largest = np.asarray(numerator.value) == 0, np.exp(a_high - b_low)
        low = np.where(zero, np.where(np.isfinite(largest), 0.0, np.nan), np.exp(a - b - np.hypot(a - a_low, b_high - b)))
        high = np.where(zero, largest, np.exp(a - b + np.hypot(a_high - a, b - b_low)))
    return Interval(np.asarray(numerator.value) / np.asarray(denominator.value), low, high)
