"""Who is beaten in everything by someone else, and how sure that is."""

import numpy as np

AS_GOOD_AS_NORMAL = 1e9  # degrees of freedom; the generator has no t distribution with infinitely many


def non_dominated(points) -> np.ndarray:
    """Which points no other point beats: shape (..., n, objectives) to (..., n), every objective to be minimized.

    A point is beaten by one that is nowhere worse and somewhere better; equal points do not beat each other.
    """
    points = np.asarray(points, float)
    a, b = points[..., :, None, :], points[..., None, :, :]
    beaten = (b <= a).all(axis=-1) & (b < a).any(axis=-1)
    return ~beaten.any(axis=-1)


def known(se, df) -> np.ndarray:
    """Whether each standard error is known: 0, or finite with degrees of freedom. One repetition has none, which is no error of 0."""
    se, df = np.broadcast_arrays(np.asarray(se, float), np.asarray(df, float))
    return (se == 0) | (np.isfinite(se) & (df > 0))


def draw(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """Draws of every objective of every point, shape (draws, n, objectives): t around the mean; `df` may be infinite (normal).

    An error of 0, or one that is not `known`, stays put: whoever states a probability asks `known` first.
    """
    mean, se, df = np.broadcast_arrays(*(np.asarray(x, float) for x in (mean, se, df)))
    noise = rng.standard_t(np.clip(np.where(df > 0, df, 1.0), None, AS_GOOD_AS_NORMAL), size=(draws, *mean.shape))
    return mean + np.where((df > 0) & np.isfinite(se), np.nan_to_num(se), 0.0) * noise


def probability_non_dominated(mean, se, df, rng: np.random.Generator, draws: int = 2_000) -> np.ndarray:
    """The probability that each point is on the Pareto front, given the errors of all; shape (n,). NaN where an own error is not `known`.

    `mean` (n, objectives) on the scale where errors are symmetric (logarithms of energy and time, minus the score). A rival whose error
    is not known counts at its mean.
    """
    drawn = draw(mean, se, df, rng, draws)
    sure = np.broadcast_to(known(se, df), np.shape(mean)).all(axis=-1)
    return np.where(sure, np.mean([non_dominated(points) for points in drawn], axis=0), np.nan)
