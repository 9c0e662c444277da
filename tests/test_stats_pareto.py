"""Pareto fronts against the definition written out, and probabilities with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai.stats.pareto import non_dominated, probability_non_dominated


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
