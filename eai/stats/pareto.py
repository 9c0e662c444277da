"""Who is beaten in everything by someone else, and how sure that is."""

import numpy as np


def non_dominated(points) -> np.ndarray:
    """Which points no other point beats: shape (..., n, objectives) to (..., n), every objective to be minimized.

    A point is beaten by one that is nowhere worse and somewhere better; equal points do not beat each other.
    """
    points = np.asarray(points, float)
    a, b = points[..., :, None, :], points[..., None, :, :]
    beaten = (b <= a).all(axis=-1) & (b < a).any(axis=-1)
    return ~beaten.any(axis=-1)


def draw(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """Draws of every objective of every point, shape (draws, n, objectives): t around the mean; `se` 0 or NaN stays put."""
    mean, se, df = np.broadcast_arrays(*(np.asarray(x, float) for x in (mean, se, df)))
    noise = rng.standard_t(np.where(df > 0, df, 1.0), size=(draws, *mean.shape))
    return mean + np.where((df > 0) & np.isfinite(se), np.nan_to_num(se), 0.0) * noise


def probability_non_dominated(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """The probability that each point is on the Pareto front, given the errors of all; shape (n,).

    `mean` (n, objectives) on the scale where errors are symmetric (logarithms of energy and time, minus the score).
    """
    drawn = draw(mean, se, df, rng, draws)
    return np.mean([non_dominated(points) for points in drawn], axis=0)
