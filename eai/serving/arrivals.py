"""When the requests of an open load are due."""

import itertools
from collections.abc import Iterator

import numpy as np


def arrivals_s(rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
    """Times of a Poisson process from 0 on [s]: the gaps are independent and exponential with mean 1 / rate."""
    return itertools.accumulate(rng.exponential(1.0 / rate_per_s) for _ in itertools.count())
