"""Intervals of one quantity: t on the log scale, the coefficient of variation, a proportion, a quotient of two totals over items.

The replicate is the block, so every `n` here counts blocks (or items, for a proportion), never windows of one block.
All functions take scalars or arrays and answer with arrays of the broadcast shape.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with both ends of its interval; the ends are NaN where no interval can be stated."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def t_quantile(df, confidence: float = CONFIDENCE) -> np.ndarray:
    """The two-sided quantile of Student's t, NaN where `df` is not positive (one block has no spread)."""
    df = np.asarray(df, float)
    return special.stdtrit(np.where(df > 0, df, np.nan), 0.5 + confidence / 2)


def log_t_from_moments(mean_log, sd_log, n, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean with its t interval, from the moments of the logarithms: it covers the median of a block's energy.

    Energy is positive and its errors multiply, so the interval is symmetric in the logarithm. Ends are NaN at n < 2.
    """
    n = np.asarray(n, float)
    return with_systematic(mean_log, np.asarray(sd_log, float) / np.sqrt(n), n - 1, 0.0, confidence)


def log_t_interval(values, confidence: float = CONFIDENCE, axis: int = -1) -> Interval:
    """The geometric mean of positive block means with its t interval, along `axis`.

    Raises ValueError where a value is not positive: a zero energy was not measured.
    """
    values = np.asarray(values, float)
    if not np.all(values > 0):
        raise ValueError(f"a log-scale interval needs positive values, found {np.min(values)}")
    n, logs = values.shape[axis], np.log(values)
    sd = logs.std(axis=axis, ddof=1) if n > 1 else np.full(logs.mean(axis=axis).shape, np.nan)
    return log_t_from_moments(logs.mean(axis=axis), sd, n, confidence)


def cv_interval(cv, n, confidence: float = CONFIDENCE) -> Interval:
    """The coefficient of variation (or the standard deviation) of n values with its chi-square interval, NaN at n < 2.

    At n = 5 the upper end is 2.87 x the value. The uncertainty of the mean is left out: it matters only above a CV of about 0.3 (Vangel
    1996, doi:10.1080/00031305.1996.10473537).
    """
    cv, df = np.broadcast_arrays(np.asarray(cv, float), np.asarray(n, float) - 1)
    cv, df = np.where(df > 0, cv, np.nan), np.where(df > 0, df, np.nan)
    tail = (1 - confidence) / 2
    return Interval(cv, *(cv * np.sqrt(df / special.chdtri(df, p)) for p in (tail, 1 - tail)))


def wilson_interval(successes, n, confidence: float = CONFIDENCE) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    successes, n = np.asarray(successes, float), np.asarray(n, float)
    if not (np.all(n > 0) and np.all(successes >= 0) and np.all(successes <= n)):
        raise ValueError(f"a proportion needs 0 <= successes <= n with n > 0, found {successes} of {n}")
    return Interval(successes / n, *wilson_limits(successes, n, special.ndtri(0.5 + confidence / 2)))


def wilson_limits(x, n, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits of x in n at a normal quantile z, of a proportion in [0, 1]."""
    centre, half = 2 * x + z**2, z * np.sqrt(z**2 + 4 * x * (1 - x / n))
    return np.maximum(centre - half, 0) / (2 * (n + z**2)), np.minimum((centre + half) / (2 * (n + z**2)), 1)


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

    Cochran 1977, Sampling Techniques, eq. 6.13: the variance is that of the residuals value - R size. Differences of pairs on the same
    items may be given as values. The ends are NaN for one item. Raises ValueError for arrays of different length, an empty one, and sizes
    that are not positive.
    """
    values, sizes = np.asarray(values, float), np.asarray(sizes, float)
    if values.shape != sizes.shape or values.ndim != 1 or not len(values) or not np.all(sizes > 0):
        raise ValueError(f"totals need as many values as positive sizes, found {values.shape} and {sizes.shape}")
    n, total = len(values), sizes.sum()
    quotient = values.sum() / total
    se = np.sqrt(n * np.sum((values - quotient * sizes) ** 2) / (n - 1)) / total if n > 1 else np.nan
    half = float(t_quantile(n - 1, confidence)) * se
    return Interval(quotient, quotient - half, quotient + half)
