"""Comparisons against scipy and statsmodels, and simulated type-I error, power and family-wise error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from eai.stats import comparisons as c


def paired_of(logs_a, logs_b, u_log=0.0):
    d = np.atleast_2d(logs_a) - np.atleast_2d(logs_b)
    return c.paired(d.mean(axis=1), d.std(axis=1, ddof=1), d.shape[1], u_log)


def test_paired_is_scipys_related_t_test_on_logarithms():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.02, 0.03, 7), rng.normal(0, 0.03, 7)
    expected = stats.ttest_rel(a, b)
    found = paired_of(a, b)
    low, high = expected.confidence_interval(0.95)
    assert c.p_value(found)[0] == pytest.approx(expected.pvalue)
    assert [x[0] for x in c.ratio_interval(found)] == pytest.approx(np.exp([np.mean(a - b), low, high]))


def test_welch_is_scipys_unequal_variance_test():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.1, 0.02, 5), rng.normal(0, 0.08, 9)
    expected = stats.ttest_ind(a, b, equal_var=False)
    found = c.welch(a.mean(), a.std(ddof=1), 5, b.mean(), b.std(ddof=1), 9)
    low, high = expected.confidence_interval(0.95)
    assert c.p_value(found) == pytest.approx(expected.pvalue)
    assert c.ratio_interval(found)[1:] == (pytest.approx(np.exp(low)), pytest.approx(np.exp(high)))


def test_tost_is_statsmodels_on_logarithms():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.005, 0.01, 6), rng.normal(0, 0.01, 6)
    expected = ttost_paired(a, b, -np.log(1.03), np.log(1.03))[0]
    assert c.tost_p(paired_of(a, b), 0.03)[0] == pytest.approx(expected)


@given(st.lists(st.integers(-200, 200), min_size=3, max_size=9, unique=True))
def test_swapping_the_two_inverts_the_ratio_and_keeps_every_p(thousandths):
    d = np.array(thousandths) / 1000
    a, b = paired_of(d, np.zeros(len(d))), paired_of(np.zeros(len(d)), d)
    low, high = c.ratio_interval(a)[1:]
    assert np.allclose([low, high], 1 / np.array(c.ratio_interval(b)[:0:-1]))
    assert np.allclose([c.p_value(a), c.tost_p(a)], [c.p_value(b), c.tost_p(b)])


def test_planned_power_of_equivalence_matches_a_simulation():
    """The design's own figures: 0.94 at a paired sd of 1.5 % and 0.34 at 2.8 %, five blocks, +-3 %."""
    rng = np.random.default_rng(3)
    for sd, stated in ((0.015, 0.94), (0.028, 0.34)):
        shown = c.tost_p(paired_of(rng.normal(0, sd, (20_000, 5)), np.zeros((20_000, 5)))) <= 0.05
        assert c.tost_power(sd, 5) == pytest.approx(shown.mean(), abs=0.01)
        assert c.tost_power(sd, 5) == pytest.approx(stated, abs=0.01)


def test_power_falls_with_an_offset_and_is_unknown_for_one_block():
    assert c.tost_power(0.01, 6, u_log=0.02) < c.tost_power(0.01, 6) - 0.2
    assert np.isnan(c.tost_power(0.01, 1)) and np.isnan(c.tost_power(0.0, 5))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_type_one_error_of_the_paired_test_is_five_percent(n):
    rng = np.random.default_rng(4)
    p = c.p_value(paired_of(rng.normal(0, 0.02, (20_000, n)), rng.normal(0, 0.02, (20_000, n))))
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.006)


def test_type_one_error_of_welch_stays_near_five_percent_with_unequal_spread():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 0.01, (20_000, 5)), rng.normal(0, 0.04, (20_000, 8))
    p = c.p_value(c.welch(a.mean(1), a.std(1, ddof=1), 5, b.mean(1), b.std(1, ddof=1), 8))
    assert 0.04 <= np.mean(p <= 0.05) <= 0.06


def test_equivalence_is_claimed_at_the_margin_no_more_often_than_alpha():
    rng = np.random.default_rng(6)
    at_margin = rng.normal(np.log(1.03), 0.01, (20_000, 6))
    assert np.mean(c.tost_p(paired_of(at_margin, np.zeros_like(at_margin))) <= 0.05) == pytest.approx(0.05, abs=0.006)


def test_an_offset_that_is_accounted_for_keeps_the_error_at_five_percent():
    rng = np.random.default_rng(7)
    logs = rng.normal(0, 0.02, (20_000, 1)) + rng.normal(0, 0.02, (20_000, 6))
    without, with_it = (np.mean(c.p_value(paired_of(logs, np.zeros_like(logs), u)) <= 0.05) for u in (0.0, 0.02))
    assert without > 0.3
    assert with_it == pytest.approx(0.05, abs=0.012)


def test_holm_keeps_the_family_wise_error_and_has_the_worked_values():
    """Worked by hand: 0.01, 0.02, 0.04 of three become 0.03, 0.04, 0.04; NaN takes no part."""
    assert c.adjust([0.04, np.nan, 0.01, 0.02])[[0, 2, 3]] == pytest.approx([0.04, 0.03, 0.04])
    assert np.isnan(c.adjust([0.04, np.nan])[1]) and c.adjust([0.04, np.nan])[0] == pytest.approx(0.04)
    rng = np.random.default_rng(8)
    p = c.p_value(paired_of(rng.normal(0, 1, (8 * 5_000, 5)), np.zeros((8 * 5_000, 5)))).reshape(5_000, 8)
    smallest = np.array([c.adjust(family).min() for family in p[:20]])
    assert smallest == pytest.approx(np.minimum(8 * p[:20].min(axis=1), 1)), "Holm's first step is Bonferroni's"
    assert np.mean(8 * p.min(axis=1) <= 0.05) == pytest.approx(0.05, abs=0.01)
    assert np.mean(p.min(axis=1) <= 0.05) > 0.25


def test_holm_is_statsmodels():
    p = np.random.default_rng(13).uniform(0, 0.1, 15).round(3)
    assert c.adjust(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_sign_flip_is_the_exact_permutation_test():
    d = np.random.default_rng(10).normal(0.3, 1, 9)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert c.sign_flip_p(d) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("values", [[0.1, np.nan, 0.1], [np.inf, 0.1], []])
def test_sign_flips_of_what_was_not_measured_are_not_testable(values):
    assert np.isnan(c.sign_flip_p(values))


def test_sign_flip_never_errs_more_than_alpha_and_says_when_it_cannot_decide():
    rng = np.random.default_rng(11)
    p = np.array([c.sign_flip_p(d) for d in rng.normal(0, 1, (4_000, 7))])
    assert np.mean(p <= 0.05) <= 0.055
    assert not c.sign_flip_decides(5) and c.sign_flip_decides(6)
    assert not c.sign_flip_decides(8, family=12) and c.sign_flip_decides(9, family=12)
    assert c.sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)


def test_sign_flip_of_many_pairs_is_drawn_and_agrees_with_the_t_test():
    d = np.random.default_rng(12).normal(0.4, 1, 30)
    assert c.sign_flip_p(d, rng=np.random.default_rng(0)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    with pytest.raises(ValueError, match="Generator"):
        c.sign_flip_p(d)


def test_outcomes_of_planted_cases():
    mean, sd, n = np.array([-0.1, 0.1, 0.0, 0.0, 0.5, 0.3]), np.array([0.01, 0.01, 0.01, 0.1, 0.01, 0.0]), np.array([6, 6, 6, 6, 1, 6])
    d = c.paired(mean, sd, n)
    found = c.outcome(d, c.adjust(c.p_value(d)), c.tost_p(d), c.tost_power(sd, n))
    assert list(found) == ["lower", "higher", "equivalent", "inconclusive", "not_testable", "not_testable"]


def test_equivalence_without_planned_power_stays_inconclusive():
    """A lucky small spread must not make a finding: the two tests pass, the power says it was luck."""
    d = c.paired(0.0, 0.01, 6)
    assert c.outcome(d, 1.0, c.tost_p(d), 0.5) == "inconclusive"
    assert c.outcome(d, 1.0, c.tost_p(d), 0.9) == "equivalent"
