"""A quotient of two totals over items, such as nats over words, with the interval that items of unequal size allow."""

import numpy as np

from eai.stats.intervals import CONFIDENCE, Interval, t_quantile


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
