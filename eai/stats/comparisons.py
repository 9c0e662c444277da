"""Comparisons of two configurations: ratio with interval, tests, equivalence, and what may be said of them.

The estimand is the ratio of two positive quantities, so everything is a difference of logarithms. Overlapping intervals are never "no
difference": that has less than half of Welch's power at five blocks. "No difference" is a finding only by equivalence (two one-sided
tests, Schuirmann 1987, doi:10.1007/BF01068419), and only where the power to show it was there; a comparison that cannot be made is
"not_testable", never significant. Beside them interactions, crossovers, and the Pareto front with the probability of being on it.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from eai.stats.intervals import CONFIDENCE, Interval, combine, t_quantile

ALPHA = 0.05
MARGIN = 0.03
MIN_POWER = 0.8
AS_GOOD_AS_NORMAL = 1e9  # degrees of freedom; the generator has no t distribution with infinitely many
OUTCOMES = ("lower", "higher", "equivalent", "inconclusive", "not_testable")


class Difference(NamedTuple):
    """The mean difference of logarithms, its standard error and degrees of freedom; NaN where it cannot be made. `u` is the part of `se`
    that is systematic (0 if none): it belongs in every interval and takes part in no averaging."""

    mean: np.ndarray
    se: np.ndarray
    df: np.ndarray
    u: np.ndarray
    n: np.ndarray


def paired(mean_log_ratio, sd_log_ratio, n, u_log=0.0) -> Difference:
    """The difference of pairs from the moments of their log ratios; NaN at n < 2 and for constants: they are copied, not measured."""
    mean, sd, n, u = np.broadcast_arrays(*(np.asarray(x, float) for x in (mean_log_ratio, sd_log_ratio, n, u_log)))
    testable = (n >= 2) & (sd > 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        se_statistical = np.where(testable, sd / np.sqrt(n), np.nan)
    se, df = combine(se_statistical, n - 1, u)
    return Difference(mean, se, df, u, n)


def welch(mean_log_a, sd_log_a, n_a, mean_log_b, sd_log_b, n_b, u_log=0.0) -> Difference:
    """The difference a - b of unpaired logarithms with Welch's standard error and Satterthwaite's degrees of freedom; NaN unless both have
    two blocks and some spread."""
    arrays = (mean_log_a, sd_log_a, n_a, mean_log_b, sd_log_b, n_b, u_log)
    mean_a, sd_a, n_a, mean_b, sd_b, n_b, u = np.broadcast_arrays(*(np.asarray(x, float) for x in arrays))
    testable = (n_a >= 2) & (n_b >= 2) & (np.hypot(sd_a, sd_b) > 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        var_a, var_b = sd_a**2 / n_a, sd_b**2 / n_b
        df = (var_a + var_b) ** 2 / (var_a**2 / (n_a - 1) + var_b**2 / (n_b - 1))
        se_statistical = np.where(testable, np.sqrt(var_a + var_b), np.nan)
    se, df = combine(se_statistical, np.where(testable, df, np.nan), u)
    return Difference(mean_a - mean_b, se, df, u, np.minimum(n_a, n_b))


def ratio_interval(difference: Difference, confidence: float = CONFIDENCE) -> Interval:
    """The ratio with its interval; the ends are NaN where the comparison is not testable."""
    half = t_quantile(np.nan_to_num(difference.df), confidence) * difference.se
    return Interval(np.exp(difference.mean), np.exp(difference.mean - half), np.exp(difference.mean + half))


def p_value(difference: Difference) -> np.ndarray:
    """The two-sided p of "the ratio is 1"; NaN where not testable."""
    with np.errstate(invalid="ignore"):
        return 2 * special.stdtr(difference.df, -np.abs(difference.mean / difference.se))


def one_sided_p(statistic, df) -> np.ndarray:
    """The p of "not above zero" for a t statistic; NaN where not testable."""
    with np.errstate(invalid="ignore"):
        return special.stdtr(df, -np.asarray(statistic, float))


def tost_p(difference: Difference, margin: float = MARGIN) -> np.ndarray:
    """The p of "the ratio lies outside [1/(1+margin), 1+margin]": the larger of two one-sided tests. `margin` is a fraction, symmetric on
    the log scale so that A/B and B/A get the same answer."""
    nearest = np.log1p(margin) - np.abs(difference.mean)
    return one_sided_p(nearest / difference.se, difference.df)


def tost_power(sd_log, n, margin: float = MARGIN, alpha: float = ALPHA, u_log=0.0, df=None) -> np.ndarray:
    """The power to show equivalence if the true ratio is 1, for `n` pairs whose log ratios spread by `sd_log`. Exact up to quadrature: the
    normal probability of passing both tests, averaged over the chi-square distribution of the sample variance (the integral behind Owen's
    Q, Phillips 1990, doi:10.1007/BF01063556). `df` defaults to n - 1."""
    sd, n, u = np.broadcast_arrays(*(np.asarray(x, float) for x in (sd_log, n, u_log)))
    df = np.broadcast_to(n - 1 if df is None else np.asarray(df, float), n.shape)
    power = np.full(sd.shape, np.nan)
    ok = (n >= 2) & (df > 0) & (sd > 0)
    se, df, u = sd[ok] / np.sqrt(n[ok]), df[ok], u[ok]
    nodes, weights = np.polynomial.legendre.leggauss(64)  # a row of nodes each
    distinct, where = np.unique(df, return_inverse=True)
    scale = np.sqrt(special.chdtri(distinct[:, None], (1 - nodes) / 2) / distinct[:, None])[where]
    combined, df_combined = combine(se[:, None] * scale, df[:, None], u[:, None])
    distinct, where = np.unique(df_combined, return_inverse=True)  # a quantile is slow
    critical = -special.stdtrit(distinct, alpha)[where].reshape(df_combined.shape)
    room = np.maximum(np.log1p(margin) - critical * combined, 0) / np.hypot(se, u)[:, None]
    power[ok] = (special.ndtr(room) - special.ndtr(-room)) @ weights / 2
    return power[()]


def sign_flip_p(log_ratios, draws: int = 20_000, rng: np.random.Generator | None = None) -> float:
    """The two-sided p of the sign-flip test on paired log ratios, which assumes symmetry only: exact up to 14 pairs, drawn above. NaN for
    no pair, or one that is not finite. Raises ValueError above 14 pairs without `rng`."""
    values = np.asarray(log_ratios, float)
    if not values.size or not np.isfinite(values).all():
        return float("nan")
    if len(values) <= 14:
        flips = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    elif rng is None:
        raise ValueError("more than 14 pairs are drawn at random: pass a numpy Generator")
    else:
        flips = np.vstack([np.ones(len(values)), rng.choice((-1, 1), size=(draws, len(values)))])
    means = np.abs(flips @ values)
    return float(np.mean(means >= means[0] * (1 - 1e-12)))


def sign_flip_decides(n: int, family: int = 1, alpha: float = ALPHA) -> bool:
    """Whether n pairs can be significant at all by sign flips within a family: 2 / 2**n <= alpha / family."""
    return 2.0 ** (1 - n) <= alpha / family


def adjust(p) -> np.ndarray:
    """Holm's adjusted p-values of a family (1979, Scand. J. Statist. 6:65); NaN takes no part. By hand: statsmodels' is slow."""
    p = np.asarray(p, float)
    order = np.argsort(p)[: (~np.isnan(p)).sum()]  # NaN is sorted to the end
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def outcome(difference: Difference, p_adjusted, p_equivalence, power, alpha: float = ALPHA, min_power: float = MIN_POWER) -> np.ndarray:
    """What may be said of each comparison, one of `OUTCOMES`: a shown direction first (it can be real and small); equivalence needs its own
    test and planned power >= 0.8; what is left is inconclusive, which is not "no difference"."""
    shown = np.asarray(p_adjusted, float) <= alpha
    equivalent = (np.asarray(p_equivalence, float) <= alpha) & (np.asarray(power, float) >= min_power)
    testable = np.isfinite(difference.se) & np.isfinite(np.asarray(p_adjusted, float))
    return np.select(
        [~testable, shown & (difference.mean < 0), shown & (difference.mean > 0), equivalent],
        ["not_testable", "lower", "higher", "equivalent"],
        default="inconclusive",
    )


class Crossover(NamedTuple):
    """Where a line through (x, log ratio) crosses zero, with Fieller's limits, and the slope's p; `low` and `high` are NaN and `bounded` is
    False where the data allow every crossover or none."""

    x: float
    low: float
    high: float
    slope: float
    p_slope: float
    bounded: bool


def interaction(log_ratios, log_ratios_reference) -> Difference:
    """The interaction of two factors: the mean log ratio at one level minus that at the reference, unpaired; 0: they simply multiply."""
    a, b = np.asarray(log_ratios, float), np.asarray(log_ratios_reference, float)
    sd_a, sd_b = (x.std(ddof=1) if len(x) > 1 else np.nan for x in (a, b))
    return welch(a.mean(), sd_a, len(a), b.mean(), sd_b, len(b))


def crossover(x, log_ratio, confidence: float = 0.95) -> Crossover:
    """The x at which a straight line through the points is zero, with Fieller's interval (Fieller 1954, JRSS B 16:175); `x` on the scale
    where the line is straight (the logarithm of model size or batch). Needs three points at two places."""
    x, y = np.asarray(x, float), np.asarray(log_ratio, float)
    if len(x) < 3 or np.ptp(x) == 0:
        return Crossover(np.nan, np.nan, np.nan, np.nan, np.nan, False)
    from scipy import stats  # a second to import

    fit = stats.linregress(x, y)
    slope, p = float(fit.slope), float(fit.pvalue)
    if slope == 0:
        return Crossover(np.nan, np.nan, np.nan, slope, p, False)
    df = len(x) - 2
    t2 = float(t_quantile(df, confidence)) ** 2
    residual = np.sum((y - fit.intercept - slope * x) ** 2) / df
    centre, spread, distance = x.mean(), np.sum((x - x.mean()) ** 2), -y.mean() / slope
    g = t2 * residual / (spread * slope**2)
    if g >= 1:
        return Crossover(float(centre + distance), np.nan, np.nan, slope, p, False)
    root = np.sqrt(t2 * residual * ((1 - g) / len(x) + distance**2 / spread)) / abs(slope)
    low, high = centre + (distance - root) / (1 - g), centre + (distance + root) / (1 - g)
    return Crossover(float(centre + distance), float(low), float(high), slope, p, True)


def non_dominated(points) -> np.ndarray:
    """Which points no other beats (nowhere worse and somewhere better): (..., n, objectives) to (..., n), objectives to be minimized."""
    points = np.asarray(points, float)
    a, b = points[..., :, None, :], points[..., None, :, :]
    beaten = (b <= a).all(axis=-1) & (b < a).any(axis=-1)
    return ~beaten.any(axis=-1)


def known_error(se, df) -> np.ndarray:
    """Whether each standard error is known: 0, or finite with degrees of freedom. One repetition has none, which is no error of 0."""
    se, df = np.broadcast_arrays(np.asarray(se, float), np.asarray(df, float))
    return (se == 0) | (np.isfinite(se) & (df > 0))


def draw(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """Draws of every objective of every point, shape (draws, n, objectives): t around the mean; `df` may be infinite (normal). An error of
    0, or one that is not `known`, stays put: whoever states a probability asks `known` first."""
    mean, se, df = np.broadcast_arrays(*(np.asarray(x, float) for x in (mean, se, df)))
    noise = rng.standard_t(np.clip(np.where(df > 0, df, 1.0), None, AS_GOOD_AS_NORMAL), size=(draws, *mean.shape))
    return mean + np.where((df > 0) & np.isfinite(se), np.nan_to_num(se), 0.0) * noise


def probability_non_dominated(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """The probability that each point is on the Pareto front, given the errors of all; shape (n,). NaN where an own error is not `known`; a
    rival whose error is not known counts at its mean. `mean` (n, objectives) is on the scale where errors are symmetric."""
    drawn = draw(mean, se, df, rng, draws)
    sure = np.broadcast_to(known_error(se, df), np.shape(mean)).all(axis=-1)
    return np.where(sure, np.mean([non_dominated(points) for points in drawn], axis=0), np.nan)
