"""Scores against published figures and simulated coverage."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from eai.stats import scores
from eai.stats.intervals import Interval, log_t_interval, wilson_interval


def test_mcnemar_is_the_exact_binomial_test():
    counts = scores.PairedScores(both=50, first=12, second=3, neither=10)
    assert scores.mcnemar_p(counts) == pytest.approx(stats.binomtest(3, 15, 0.5).pvalue)
    assert scores.mcnemar_p(scores.PairedScores(5, 0, 0, 5)) == 1.0


def test_pairs_are_counted_and_mismatches_refused():
    assert scores.pair([1, 1, 0, 0, 1], [1, 0, 1, 0, 1]) == (2, 1, 1, 1)
    for a, b in (([1, 0], [1]), ([1], [1, 0]), ([], []), ([0.5], [1])):
        with pytest.raises(ValueError, match="paired items"):
            scores.pair(a, b)


def test_the_paired_ratio_is_symmetric():
    """Swapping the two inverts value and limits; the coverage is simulated below."""
    a = scores.ratio_interval(scores.PairedScores(40, 12, 5, 43))
    b = scores.ratio_interval(scores.PairedScores(40, 5, 12, 43))
    assert a.value == pytest.approx(52 / 45)
    assert (a.low, a.high) == (pytest.approx(1 / b.high), pytest.approx(1 / b.low))
    assert np.isnan(scores.ratio_interval(scores.PairedScores(0, 3, 0, 5)).value)


def _paired_items(rng, n, p1, p2, both):
    return rng.multinomial(n, [both, p1 - both, p2 - both, 1 - p1 - p2 + both])


@pytest.mark.parametrize(("n", "p1", "p2", "both"), [(100, 0.5, 0.5, 0.4), (300, 0.7, 0.6, 0.5), (100, 0.3, 0.2, 0.15)])
def test_the_paired_ratio_covers_the_truth(n, p1, p2, both):
    rng = np.random.default_rng(0)
    found = [scores.ratio_interval(scores.PairedScores(*_paired_items(rng, n, p1, p2, both))) for _ in range(4_000)]
    assert np.mean([i.low <= p1 / p2 <= i.high for i in found]) == pytest.approx(0.95, abs=0.015)


def test_the_bootstrap_of_a_difference_covers_the_truth_and_needs_items():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        a = rng.random(150) < 0.6
        b = np.where(rng.random(150) < 0.7, a, rng.random(150) < 0.6)
        _, low, high = scores.difference_interval(a, b, rng, draws=400)
        covered.append(low <= 0 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)
    with pytest.raises(ValueError, match="20 items, found 19"):
        scores.difference_interval([1] * 19, [0] * 19, rng)
    assert np.isfinite(scores.difference_interval([1] * 12 + [0] * 8, [0, 1] * 10, rng)).all(), "twenty are enough"


def test_identical_answers_have_a_difference_and_no_interval():
    found = scores.difference_interval([1, 0] * 15, [1, 0] * 15, np.random.default_rng(2))
    assert found.value == 0 and np.isnan(found.low)


def test_eor_covers_the_truth_where_a_bootstrap_over_blocks_does_not():
    """Score 0.6 of 100 items, energy of 5 blocks with 2 % spread: nearly all uncertainty is in the items."""
    rng = np.random.default_rng(3)
    score = rng.binomial(100, 0.6, 4_000) / 100
    energy = log_t_interval(np.exp(rng.normal(np.log(40.0), 0.02, (4_000, 5))))
    found = scores.quotient(wilson_interval(np.asarray(score) * 100, 100), energy)
    truth = 0.6 / 40.0
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.012)
    blocks_only = (score / energy.high <= truth) & (truth <= score / energy.low)
    assert np.mean(blocks_only) < 0.5


def test_a_quotient_with_an_exact_part_keeps_the_others_relative_interval():
    found = scores.quotient(Interval(6.0, 6.0, 6.0), Interval(2.0, 1.5, 2.5))
    assert found == (pytest.approx(3.0), pytest.approx(6 / 2.5), pytest.approx(6 / 1.5))


@pytest.mark.parametrize(("x", "n", "y", "m"), [(9, 10, 3, 10), (0, 12, 11, 40), (56, 70, 48, 80), (5, 5, 1, 30)])
def test_a_difference_of_proportions_is_newcombes_tenth(x, n, y, m):
    found = scores.difference_of(wilson_interval(x, n), wilson_interval(y, m))
    assert (float(found.low), float(found.high)) == pytest.approx(confint_proportions_2indep(x, n, y, m, method="newcomb", compare="diff"))
    assert found.value == pytest.approx(x / n - y / m)


def test_a_score_of_zero_has_a_lower_limit_of_zero_and_an_upper_one():
    found = scores.quotient(wilson_interval(0.0, 50), Interval(10.0, 9.0, 11.0))
    assert (float(found.value), float(found.low)) == (0.0, 0.0)
    assert 0 < float(found.high) < 0.1


def test_a_score_of_zero_over_a_cost_without_interval_has_none():
    found = scores.quotient(wilson_interval(0, 40), Interval(2.0, np.nan, np.nan))
    assert found.value == 0 and np.isnan([found.low, found.high]).all()


def test_the_items_of_a_pair_are_all_that_were_asked():
    assert scores.PairedScores(50, 9, 4, 7).n == 70
