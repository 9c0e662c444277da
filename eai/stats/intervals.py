"""Intervals of one quantity: t on the log scale, the coefficient of variation, a proportion, a quotient of two totals over items; and what
would break their assumptions: drift, order and temperature effects, autocorrelation, outliers.

The replicate is the block, so every `n` here counts blocks (or items, for a proportion), never windows of one block. Functions of intervals
take scalars or arrays and answer with arrays of the broadcast shape.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95
FEWEST_FOR_TREND = 12


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
    """The geometric mean with its t interval, from the moments of the logarithms: it covers the median of a block. NaN at n < 2."""
    n = np.asarray(n, float)
    return with_systematic(mean_log, np.asarray(sd_log, float) / np.sqrt(n), n - 1, 0.0, confidence)


def log_t_interval(values, confidence: float = CONFIDENCE, axis: int = -1) -> Interval:
    """The geometric mean of positive block means with its t interval, along `axis`. Raises ValueError where a value is not positive."""
    values = np.asarray(values, float)
    if not np.all(values > 0):
        raise ValueError(f"a log-scale interval needs positive values, found {np.min(values)}")
    n, logs = values.shape[axis], np.log(values)
    sd = logs.std(axis=axis, ddof=1) if n > 1 else np.full(logs.mean(axis=axis).shape, np.nan)
    return log_t_from_moments(logs.mean(axis=axis), sd, n, confidence)


def cv_interval(cv, n, confidence: float = CONFIDENCE) -> Interval:
    """The coefficient of variation (or the standard deviation) of n values with its chi-square interval, NaN at n < 2. At n = 5 the upper
    end is 2.87 x the value. The uncertainty of the mean is left out: it matters only above a CV of about 0.3 (Vangel 1996,
    doi:10.1080/00031305.1996.10473537)."""
    cv, df = np.broadcast_arrays(np.asarray(cv, float), np.asarray(n, float) - 1)
    cv, df = np.where(df > 0, cv, np.nan), np.where(df > 0, df, np.nan)
    tail = (1 - confidence) / 2
    return Interval(cv, *(cv * np.sqrt(df / special.chdtri(df, p)) for p in (tail, 1 - tail)))


def wilson_interval(successes, n, confidence: float = CONFIDENCE) -> Interval:
    """A proportion with Wilson's score interval (doi:10.1080/01621459.1927.10502953). Raises ValueError unless 0 <= successes <= n > 0."""
    successes, n = np.asarray(successes, float), np.asarray(n, float)
    if not (np.all(n > 0) and np.all(successes >= 0) and np.all(successes <= n)):
        raise ValueError(f"a proportion needs 0 <= successes <= n with n > 0, found {successes} of {n}")
    return Interval(successes / n, *wilson_limits(successes, n, special.ndtri(0.5 + confidence / 2)))


def wilson_limits(x, n, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits of x in n at a normal quantile z, of a proportion in [0, 1]."""
    centre, half = 2 * x + z**2, z * np.sqrt(z**2 + 4 * x * (1 - x / n))
    return np.maximum(centre - half, 0) / (2 * (n + z**2)), np.minimum((centre + half) / (2 * (n + z**2)), 1)


def with_systematic(mean_log, se_log, df, u_log, confidence: float = CONFIDENCE) -> Interval:
    """The geometric mean with an interval that holds a systematic standard uncertainty beside the statistical one. `u_log` is the relative
    standard uncertainty (k = 1) that repeats do not remove, known a priori; the two add in quadrature and the coverage factor is t at the
    Welch-Satterthwaite degrees of freedom (GUM, eq. G.2b)."""
    combined, df_combined = combine(se_log, df, u_log)
    half = t_quantile(df_combined, confidence) * combined
    return Interval(np.exp(mean_log), np.exp(mean_log - half), np.exp(mean_log + half))


def combine(se, df, u) -> tuple[np.ndarray, np.ndarray]:
    """Standard uncertainty and effective degrees of freedom of a statistical `se` (with `df`) beside a known `u`; without `u` exactly
    `(se, df)`, so that a t test stays a t test."""
    se, df, u = (np.asarray(x, float) for x in (se, df, u))
    combined = np.hypot(se, u)
    with np.errstate(divide="ignore", invalid="ignore"):
        df_combined = np.where((u > 0) & (se > 0), df * (combined / se) ** 4, df)
    return combined, np.where(np.isfinite(se) & (df > 0), np.minimum(df_combined, 1e9), np.nan)


def quotient_of_totals(values, sizes, confidence: float = CONFIDENCE) -> Interval:
    """Sum of `values` over sum of `sizes` with a t interval whose replicates are the items. Cochran 1977, Sampling Techniques, eq. 6.13:
    the variance is that of the residuals value - R size. Differences of pairs on the same items may be given as values. The ends are NaN
    for one item. Raises ValueError for arrays of different length, an empty one, and sizes that are not positive."""
    values, sizes = np.asarray(values, float), np.asarray(sizes, float)
    if values.shape != sizes.shape or values.ndim != 1 or not len(values) or not np.all(sizes > 0):
        raise ValueError(f"totals need as many values as positive sizes, found {values.shape} and {sizes.shape}")
    n, total = len(values), sizes.sum()
    quotient = values.sum() / total
    se = np.sqrt(n * np.sum((values - quotient * sizes) ** 2) / (n - 1)) / total if n > 1 else np.nan
    half = float(t_quantile(n - 1, confidence)) * se
    return Interval(quotient, quotient - half, quotient + half)


class Effect(NamedTuple):
    """A slope with its 95 % interval and p; NaN where it cannot be estimated."""

    slope: float
    low: float
    high: float
    p: float
    n: int


def without_groups(values, *groups, tolerance: float = 1e-12, rounds: int = 200) -> np.ndarray:
    """The residuals after the means of every grouping are taken out, by alternating projections (exact at once if balanced)."""
    residuals = np.asarray(values, float)
    codes = [np.unique(np.asarray(group), return_inverse=True)[1] for group in groups]
    for _ in range(rounds):
        before = residuals
        for code in codes:
            residuals = residuals - (np.bincount(code, residuals) / np.bincount(code))[code]
        if np.abs(before - residuals).max(initial=0.0) <= tolerance:
            break
    return residuals


def covariate_effect(log_values, covariate, configuration, block) -> Effect:
    """The slope of log energy on a covariate (order in the block, temperature [degC]) beside configuration and block effects: ordinary
    least squares after both groupings are taken out of both sides (Frisch-Waugh-Lovell). 0.001 is 0.1 % for one unit of the covariate."""
    y, x = (without_groups(v, configuration, block) for v in (log_values, covariate))
    df = len(y) - len(set(configuration)) - len(set(block))
    if df < 1 or x @ x < 1e-12:
        return Effect(np.nan, np.nan, np.nan, np.nan, len(y))
    slope = (x @ y) / (x @ x)
    se = np.sqrt(np.sum((y - slope * x) ** 2) / df / (x @ x))
    half = float(t_quantile(df)) * se
    p = 2 * special.stdtr(df, -abs(slope) / se) if se > 0 else np.nan
    return Effect(float(slope), float(slope - half), float(slope + half), float(p), len(y))


def trend(values, time) -> Effect:
    """The slope of equally spaced values (one series in order of time) on `time`, with an interval that neighbours in time do not narrow.

    Errors follow an AR(1) whose correlation is estimated from the residuals and corrected for the two fitted terms
    (r + 2/n over 1 - 4/n: Marriott and Pope 1954, doi:10.1093/biomet/41.3-4.390); both sides are whitened by it (Prais and Winsten). False
    alarms at 5 %, simulated: 5 to 8 % of 30 to 300 values for a correlation up to 0.5, up to 14 % at 0.8 and 30 values, where ordinary
    least squares give 24 and 50 %, and Newey-West intervals 10 to 23 % and 22 to 39 %. NaN below 12 values or for constants.
    """
    y, x = np.asarray(values, float), np.asarray(time, float)
    n = len(y)
    if n < FEWEST_FOR_TREND or np.ptp(y) < 1e-12 or np.ptp(x) < 1e-12:
        return Effect(np.nan, np.nan, np.nan, np.nan, n)
    design = np.column_stack([np.ones(n), x])
    white_x, white_y = design, y
    for _ in range(4):  # the first pass is ordinary least squares
        fitted = np.linalg.lstsq(white_x, white_y, rcond=None)[0]
        residuals = y - design @ fitted
        scatter = np.sum((white_y - white_x @ fitted) ** 2) / (n - 3)
        variance = scatter * np.linalg.inv(white_x.T @ white_x)[1, 1]
        r = np.clip(((residuals[1:] @ residuals[:-1]) / (residuals @ residuals) + 2 / n) / (1 - 4 / n), -0.9, 0.99)
        white_x, white_y = (np.concatenate([np.sqrt(1 - r**2) * v[:1], v[1:] - r * v[:-1]]) for v in (design, y))
    se, half = np.sqrt(variance), float(t_quantile(n - 3)) * np.sqrt(variance)
    p = float(2 * special.stdtr(n - 3, -abs(fitted[1]) / se))
    return Effect(float(fitted[1]), float(fitted[1] - half), float(fitted[1] + half), p, n)


def lag_one(residuals) -> float:
    """The pooled lag-one autocorrelation along the last axis of an array (series, time)."""
    r = np.asarray(residuals, float)
    r = r - r.mean(axis=-1, keepdims=True)
    return float(np.sum(r[..., 1:] * r[..., :-1]) / np.sum(r**2))


def autocorrelation_p(series, rng: np.random.Generator, draws: int = 500) -> float:
    """The two-sided p of "no order in time" for series (n, time): each is shuffled by itself, so the bias of short series is in both."""
    r = np.atleast_2d(np.asarray(series, float))
    drawn = np.array([lag_one(rng.permuted(r, axis=1)) for _ in range(draws)])
    centre = drawn.mean()
    return float((1 + np.sum(np.abs(drawn - centre) >= abs(lag_one(r) - centre))) / (draws + 1))


def outliers(log_values, configuration, block, alpha: float = 0.05, most: int = 10) -> np.ndarray:
    """Which values stand out: the externally studentized residual of the two-way model, Bonferroni over all values. The worst is set aside
    and the rest looked at again, at most `most` times, so that two do not hide each other (Rosner 1983,
    doi:10.1080/00401706.1983.10487848). They are reported and never dropped: a slow window may be the truth. Leverage is that of a balanced
    design."""
    y, a, b = np.asarray(log_values, float), np.asarray(configuration), np.asarray(block)
    out = np.zeros(len(y), bool)
    for _ in range(most):
        kept = np.flatnonzero(~out)
        p = _outlier_p(y[kept], a[kept], b[kept])
        if not len(p) or not np.nanmin(p, initial=1.0) * len(p) <= alpha:
            break
        out[kept[np.nanargmin(p)]] = True
    return out


def _outlier_p(y, configuration, block) -> np.ndarray:
    """The two-sided p of each value's externally studentized residual; NaN where nothing is left to judge by."""
    residuals = without_groups(y, configuration, block)
    free, df = 1 + 1 / max(len(y), 1), len(y)
    for group in (configuration, block):
        _, code, counts = np.unique(group, return_inverse=True, return_counts=True)
        free, df = free - 1 / counts[code], df - len(counts)
    if df < 2 or np.sum(residuals**2) < 1e-20:
        return np.full(len(y), np.nan)
    judged = free > 1e-9
    own = np.where(judged, residuals**2 / np.where(judged, free, 1.0), 0.0)
    variance = np.maximum(np.sum(residuals**2) - own, 1e-300) / df
    return np.where(judged, 2 * special.stdtr(df, -np.sqrt(own / variance)), np.nan)
