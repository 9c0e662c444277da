"""Interactions and crossovers: differences of differences, and where a ratio passes through 1."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from eai.stats.comparisons import Difference, welch
from eai.stats.intervals import Interval


class Crossover(NamedTuple):
    """Where a line through (x, log ratio) crosses zero, with Fieller's limits, and the slope's p.

    `low` and `high` are NaN where the data allow every crossover or none: then `bounded` is False.
    """

    x: float
    low: float
    high: float
    slope: float
    p_slope: float
    bounded: bool


def interaction(log_ratios, log_ratios_reference) -> Difference:
    """The interaction of two factors: the mean log ratio at one level minus that at the reference level, unpaired.

    On log energy "additive" means multiplicative on energy, so zero says that the two factors simply multiply.
    """
    a, b = np.asarray(log_ratios, float), np.asarray(log_ratios_reference, float)
    sd_a, sd_b = (x.std(ddof=1) if len(x) > 1 else np.nan for x in (a, b))
    return welch(a.mean(), sd_a, len(a), b.mean(), sd_b, len(b))


def crossover(x, log_ratio, confidence: float = 0.95) -> Crossover:
    """The x at which a straight line through the points is zero, with Fieller's interval (Fieller 1954, JRSS B 16:175).

    `x` is on the scale where the line is straight (the logarithm of model size or batch). Needs three points at two places.
    """
    x, y = np.asarray(x, float), np.asarray(log_ratio, float)
    if len(x) < 3 or np.ptp(x) == 0:
        return Crossover(np.nan, np.nan, np.nan, np.nan, np.nan, False)
    fit = stats.linregress(x, y)
    if fit.slope == 0:
        return Crossover(np.nan, np.nan, np.nan, 0.0, float(fit.pvalue), False)
    df = len(x) - 2
    t2 = stats.t.ppf(0.5 + confidence / 2, df) ** 2
    residual = np.sum((y - fit.intercept - fit.slope * x) ** 2) / df
    centre, spread = x.mean(), np.sum((x - x.mean()) ** 2)
    g = t2 * residual / (spread * fit.slope**2)
    distance = -y.mean() / fit.slope
    if g >= 1:
        return Crossover(float(centre + distance), np.nan, np.nan, float(fit.slope), float(fit.pvalue), False)
    root = np.sqrt(t2 * residual * ((1 - g) / len(x) + distance**2 / spread)) / abs(fit.slope)
    low, high = centre + (distance - root) / (1 - g), centre + (distance + root) / (1 - g)
    return Crossover(float(centre + distance), float(low), float(high), float(fit.slope), float(fit.pvalue), True)


def as_scale(found: Crossover) -> Interval:
    """The crossover on the original scale when `x` was a logarithm."""
    return Interval(*(np.exp(v) for v in (found.x, found.low, found.high)))
