"""Pareto fronts against the definition written out, and probabilities with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai.stats.comparisons import draw, known_error, non_dominated, probability_non_dominated


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_non_dominated_is_its_definition(points):
    def beats(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    assert list(non_dominated(points)) == [not any(beats(other, p) for other in points) for p in points]


def test_points_without_error_are_on_the_front_or_not():
    p = probability_non_dominated([[1, 2], [2, 1], [3, 3]], np.zeros((3, 2)), 4, np.random.default_rng(0), draws=50)
    assert list(p) == [1, 1, 0]


def test_the_probability_of_two_points_with_one_objective_is_that_of_a_difference():
    """Normal errors: P(a < b) = Phi(delta / sqrt(2) sd)."""
    p = probability_non_dominated([[0.0], [0.02]], np.full((2, 1), 0.02), 1e6, np.random.default_rng(1), draws=20_000)
    expected = stats.norm.cdf(0.02 / (0.02 * 2**0.5))
    assert p == pytest.approx([expected, 1 - expected], abs=0.01)


def test_equal_points_in_all_objectives_share_the_front():
    assert list(non_dominated([[1, 1], [1, 1], [1, 2]])) == [True, True, False]


def test_an_error_that_nobody_knows_gives_no_probability():
    """One repetition: the standard error is NaN or has no degrees of freedom. An error of 0 is known; rivals keep their probability."""
    nan = np.nan
    assert list(known_error([0.1, nan, 0.1, 0.0, np.inf], [4, 4, 0, 0, 4])) == [True, False, False, True, False]
    p = probability_non_dominated([[1, 2], [2, 1], [3, 3]], [[0.1, nan], [0, 0], [0.1, 0.1]], 4, np.random.default_rng(0), draws=50)
    assert np.isnan(p[0]) and list(p[1:]) == [1, 0]
    p = probability_non_dominated([[1.0], [9.0]], [[0.1], [0.1]], [[0], [4]], np.random.default_rng(0), draws=50)
    assert np.isnan(p[0]) and p[1] == 0


def test_each_objective_has_its_own_degrees_of_freedom():
    """Infinitely many is normal: the 97.5 % quantiles are 1.96 and, at 3 degrees of freedom, 3.18."""
    drawn = draw(np.zeros((1, 2)), 1.0, [[np.inf, 3]], np.random.default_rng(2), draws=100_000)[:, 0]
    assert np.quantile(drawn, 0.975, axis=0) == pytest.approx([stats.norm.ppf(0.975), stats.t.ppf(0.975, 3)], rel=0.03)
