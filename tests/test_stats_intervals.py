"""Intervals against theory, scipy and published figures; coverage by simulation with known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai.stats.intervals import (
    combine,
    cv_interval,
    log_t_interval,
    quotient_of_totals,
    t_quantile,
    wilson_interval,
    with_systematic,
)

positive = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=12)


def test_log_t_interval_is_scipys_t_interval_of_the_logarithms():
    values = np.array([9.7, 10.4, 10.1, 9.9, 10.6])
    logs = np.log(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=logs.mean(), scale=stats.sem(logs))
    found = log_t_interval(values)
    assert found.value == pytest.approx(stats.gmean(values))
    assert (found.low, found.high) == (pytest.approx(np.exp(low)), pytest.approx(np.exp(high)))


@given(positive, st.floats(1e-3, 1e3))
def test_log_t_interval_follows_a_change_of_unit(values, factor):
    a, b = log_t_interval(values), log_t_interval(np.array(values) * factor)
    assert np.allclose(np.array(a) * factor, b, rtol=1e-9)


@given(positive)
def test_log_t_interval_of_the_inverse_is_the_inverse_interval(values):
    a, b = log_t_interval(values), log_t_interval(1 / np.array(values))
    assert np.allclose([a.low, a.high], [1 / b.high, 1 / b.low], rtol=1e-9)


def test_log_t_interval_covers_the_truth_as_often_as_it_says():
    values = np.exp(np.random.default_rng(1).normal(np.log(5.0), 0.08, size=(20_000, 5)))
    found = log_t_interval(values)
    assert np.mean((found.low <= 5.0) & (found.high >= 5.0)) == pytest.approx(0.95, abs=0.005)


def test_one_block_has_no_interval_and_a_zero_is_refused():
    found = log_t_interval([3.0])
    assert found.value == pytest.approx(3.0)
    assert np.isnan(found.low) and np.isnan(found.high)
    with pytest.raises(ValueError, match="positive"):
        log_t_interval([1.0, 0.0])


def test_t_quantile_has_the_textbook_values():
    assert t_quantile([1, 4, 9]) == pytest.approx([12.706, 2.776, 2.262], abs=5e-4)


def test_cv_interval_at_five_blocks_reaches_from_0_599_to_2_874():
    """Chi-square table, 4 degrees of freedom: 11.143 and 0.4844 at 2.5 %."""
    found = cv_interval(1.0, 5)
    assert (float(found.low), float(found.high)) == (
        pytest.approx((4 / 11.143) ** 0.5, abs=1e-4),
        pytest.approx((4 / 0.4844) ** 0.5, abs=1e-3),
    )


def test_cv_interval_covers_the_true_cv():
    values = np.random.default_rng(2).normal(100, 3, size=(20_000, 6))
    found = cv_interval(values.std(axis=1, ddof=1) / values.mean(axis=1), 6)
    assert np.mean((found.low <= 0.03) & (found.high >= 0.03)) == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
)
def test_wilson_has_newcombes_published_values(k, n, low, high):
    """Newcombe 1998, table I, method 3 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E)."""
    found = wilson_interval(k, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_refuses_what_is_no_proportion():
    with pytest.raises(ValueError, match="proportion"):
        wilson_interval(5, 4)


def test_combine_without_a_systematic_part_leaves_the_t_test_alone():
    assert combine(0.01, 4, 0.0) == (pytest.approx(0.01), pytest.approx(4))


def test_combine_has_the_gums_effective_degrees_of_freedom():
    """Equal parts: the combined variance doubles, so nu = nu_1 * 2**2 (GUM, eq. G.2b)."""
    assert combine(0.02, 5, 0.02) == (pytest.approx(0.02 * 2**0.5), pytest.approx(20))


def test_interval_with_a_systematic_part_covers_the_truth():
    rng = np.random.default_rng(3)
    logs = rng.normal(0, 0.05, size=(20_000, 1)) + rng.normal(0, 0.03, size=(20_000, 6))
    found = with_systematic(logs.mean(axis=1), logs.std(axis=1, ddof=1) / 6**0.5, 5, 0.05)
    assert np.mean((found.low <= 1) & (found.high >= 1)) == pytest.approx(0.95, abs=0.01)


def test_a_quotient_of_totals_is_cochrans():
    """By hand: R = 15/6, residuals -0.5, -1, 1.5, so s = sqrt(3 x 3.5 / 2) / 6 and t(0.975; 2) = 4.302653."""
    found = quotient_of_totals([2, 4, 9], [1, 2, 3])
    half = 4.302653 * (3 * 3.5 / 2) ** 0.5 / 6
    assert found == (pytest.approx(2.5), pytest.approx(2.5 - half, rel=1e-6), pytest.approx(2.5 + half, rel=1e-6))
    one = quotient_of_totals([6.0], [2.0])
    assert one.value == 3.0 and np.isnan(one.low) and np.isnan(one.high)
    for values, sizes in (([1, 2, 3], [1, 2]), ([1, 2], [1, 0]), ([[1], [2]], [[1], [2]]), ([], []), ([1.0], [[1.0]])):
        with pytest.raises(ValueError, match="totals need"):
            quotient_of_totals(values, sizes)
