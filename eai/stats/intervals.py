"""Intervals of one quantity: t on the log scale, the coefficient of variation, a proportion.

The replicate is the block, so every `n` here counts blocks (or items, for a proportion), never windows of one block.
All functions take scalars or arrays and answer with arrays of the broadcast shape: a campaign of ten thousand
configurations is one call.

A quotient of two totals over items, such as nats over words, with the interval that items of unequal size allow.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with both ends of its interval; the ends are NaN where no interval can be stated."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def t_quantile(df, confidence: float = CONFIDENCE) -> np.ndarray:
    """The two-sided quantile of Student's t, NaN where `df` is not positive (one block has no spread)."""
    df = np.asarray(df, float)
    return np.where(df > 0, stats.t.ppf(0.5 + confidence / 2, np.where(df > 0, df, 1.0)), np.nan)


def log_t_from_moments(mean_log, sd_log, n, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean with its t interval, from the moments of the logarithms.

    Energy is positive and its errors multiply, so the interval is symmetric in the logarithm; it covers the median of a
    block's energy. Ends are NaN at n < 2.
    """
    mean_log, sd_log, n = (np.asarray(x, float) for x in (mean_log, sd_log, n))
    half = t_quantile(n - 1, confidence) * sd_log / np.sqrt(n)
    return Interval(np.exp(mean_log), np.exp(mean_log - half), np.exp(mean_log + half))


def log_t_interval(values, confidence: float = CONFIDENCE, axis: int = -1) -> Interval:
    """The geometric mean of positive block means with its t interval, along `axis`.

    Raises ValueError where a value is not positive: a zero energy was not measured.
    """
    values = np.asarray(values, float)
    if not np.all(values > 0):
        raise ValueError(f"a log-scale interval needs positive values, found {np.min(values)}")
    n = values.shape[axis]
    logs = np.log(values)
    sd = logs.std(axis=axis, ddof=1) if n > 1 else np.full(logs.mean(axis=axis).shape, np.nan)
    return log_t_from_moments(logs.mean(axis=axis), sd, n, confidence)


def sd_interval(sd, n, confidence: float = CONFIDENCE) -> Interval:
    """The standard deviation of n normal values with its chi-square interval (at n = 5 the upper end is 2.87 x the sd)."""
    sd, df = np.broadcast_arrays(np.asarray(sd, float), np.asarray(n, float) - 1)
    known = df > 0
    tail = (1 - confidence) / 2
    safe = np.where(known, df, 1.0)
    low = np.where(known, sd * np.sqrt(safe / stats.chi2.ppf(1 - tail, safe)), np.nan)
    high = np.where(known, sd * np.sqrt(safe / stats.chi2.ppf(tail, safe)), np.nan)
    return Interval(np.where(known, sd, np.nan), low, high)


def cv_interval(cv, n, confidence: float = CONFIDENCE) -> Interval:
    """The coefficient of variation (a fraction) with its chi-square interval.

    The mean's own uncertainty is left out: it matters only above a CV of about 0.3 (Vangel 1996, doi:10.1080/00031305.1996.10473537).
    """
    return sd_interval(cv, n, confidence)


def wilson_interval(successes, n, confidence: float = CONFIDENCE) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    successes, n = (x.copy() for x in np.broadcast_arrays(np.asarray(successes, float), np.asarray(n, float)))
    if not (np.all(n > 0) and np.all(successes >= 0) and np.all(successes <= n)):
        raise ValueError(f"a proportion needs 0 <= successes <= n with n > 0, found {successes} of {n}")
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(successes / n, np.asarray(low), np.asarray(high))


def with_systematic(mean_log, se_log, df, u_log, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean with an interval that holds a systematic standard uncertainty beside the statistical one.

    `u_log` is the relative standard uncertainty (k = 1) that repeats do not remove, known a priori; the two add in
    quadrature and the coverage factor is t at the Welch-Satterthwaite degrees of freedom (GUM, eq. G.2b).
    """
    combined, df_combined = combine(se_log, df, u_log)
    half = t_quantile(df_combined, confidence) * combined
    return Interval(np.exp(mean_log), np.exp(mean_log - half), np.exp(mean_log + half))


def combine(se, df, u) -> tuple[np.ndarray, np.ndarray]:
    """Standard uncertainty and effective degrees of freedom of a statistical `se` (with `df`) beside a known `u`.

    Without `u` it is exactly `(se, df)`, so that a t test stays a t test.
    """
    se, df, u = (np.asarray(x, float) for x in (se, df, u))
    combined = np.hypot(se, u)
    with np.errstate(divide="ignore", invalid="ignore"):
        df_combined = np.where((u > 0) & (se > 0), df * (combined / se) ** 4, df)
    return combined, np.where(np.isfinite(se) & (df > 0), np.minimum(df_combined, 1e9), np.nan)


def quotient_of_totals(values, sizes, confidence: float = CONFIDENCE) -> Interval:
    """Sum of `values` over sum of `sizes` with a t interval whose replicates are the items.

    Cochran 1977, Sampling Techniques, eq. 6.13: the variance is that of the residuals value - R size, so that a long item weighs by its
    length and no more. Differences of pairs on the same items may be given as values. The ends are NaN for one item. Raises ValueError for
    arrays of different length, an empty one, and sizes that are not positive.
    """
    values, sizes = np.asarray(values, float), np.asarray(sizes, float)
    if values.shape != sizes.shape or values.ndim != 1 or not len(values) or not np.all(sizes > 0):
        raise ValueError(f"totals need as many values as positive sizes, found {values.shape} and {sizes.shape}")
    n, total = len(values), sizes.sum()
    quotient = values.sum() / total
    se = np.sqrt(n * np.sum((values - quotient * sizes) ** 2) / (n - 1)) / total if n > 1 else np.nan
    half = float(t_quantile(n - 1, confidence)) * se
    return Interval(quotient, quotient - half, quotient + half)
