"""Planning against simulation, noncentral-t theory and published tables."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from eai.stats import planning as plan


def test_the_half_width_is_that_of_the_t_interval():
    assert plan.half_width(0.02, 5) == pytest.approx(np.expm1(2.7764 * 0.02 / 5**0.5), rel=1e-4)


def test_power_of_the_paired_test_matches_a_simulation():
    d = np.random.default_rng(0).normal(np.log(0.95), 0.04, (20_000, 6))
    rejected = stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.05
    assert plan.power(0.04, 6, 0.95) == pytest.approx(rejected.mean(), abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8, 0.001])
def test_power_is_the_noncentral_t_and_goes_on_where_its_routine_gives_up(n, alpha):
    """Against statsmodels' noncentral t; a saving of a half at a spread of 1 % is shown by any five blocks."""
    ratios = np.array([0.999, 0.97, 0.93, 0.9, 0.8])
    ours = np.array([plan.power(0.033, n, r, alpha) for r in ratios])
    theirs = np.array([float(TTestPower().power(abs(np.log(r)) / 0.033, n, alpha)) for r in ratios])
    known = np.isfinite(theirs)
    assert known.sum() >= 2 and ours[known] == pytest.approx(theirs[known], abs=1e-4)
    assert np.all(np.diff(ours) >= -1e-12) and plan.power(0.01, max(n, 5), 0.5, alpha) == pytest.approx(1.0, abs=1e-4)


def test_large_effects_need_few_blocks():
    assert plan.blocks_for_ratio(0.033, 0.8) == 3 and plan.power(0.033, 2, 0.8) < 0.8


def test_blocks_for_an_effect_of_one_sd_are_the_textbooks_ten():
    """Cohen 1988, one-sample t test, d = 1, two-sided alpha 0.05, power 0.8: n = 10."""
    assert plan.blocks_for_ratio(0.05, np.exp(0.05)) == 10


def test_a_family_needs_more_blocks_and_equivalence_has_its_own_number():
    assert plan.blocks_for_ratio(0.05, 0.95, family=12) > plan.blocks_for_ratio(0.05, 0.95)
    n = plan.blocks_for_equivalence(0.02)
    assert plan.tost_power(0.02, n) >= 0.8 > plan.tost_power(0.02, n - 1)


def test_what_no_affordable_number_of_blocks_shows_is_none():
    assert plan.blocks_for_ratio(10.0, 0.9999) is None


def test_the_detectable_ratio_matches_a_simulation():
    ratio = plan.detectable_score_ratio(400, 0.5)
    rng = np.random.default_rng(1)
    a, b = rng.binomial(400, 0.5 * ratio**0.5, 20_000) / 400, rng.binomial(400, 0.5 / ratio**0.5, 20_000) / 400
    z = np.log(a / b) / np.sqrt((1 - a) / (a * 400) + (1 - b) / (b * 400))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)


def test_stein_keeps_its_coverage_where_a_naive_stop_loses_it():
    """Truth 0; continue to Stein's n; the first stage's s keeps 95 %, the final s does not once n depends on it."""
    rng = np.random.default_rng(2)
    stopping = plan.Stopping(half_width=0.02, n_first=5, cap=200)
    covered, naive = [], []
    for logs in rng.normal(0, 0.03, (4_000, 200)):
        n = plan.stein_blocks(logs[:5].std(ddof=1), stopping)
        _, low, high = plan.stein_interval(logs[:n], 5)
        covered.append(low <= 1 <= high)
        naive.append(abs(logs[:5].mean()) <= stats.t.ppf(0.975, n - 1) * logs[:5].std(ddof=1) / n**0.5)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert np.mean(naive) < 0.9


def test_steins_interval_is_its_formula_with_the_first_stages_spread():
    logs = np.array([0.01, -0.02, 0.03, 0.0, 0.015, 0.2, -0.3])
    found = plan.stein_interval(logs, 5)
    half = 2.7764 * np.std(logs[:5], ddof=1) / 7**0.5
    assert [float(x) for x in found] == pytest.approx(np.exp(logs.mean() + np.array([0, -half, half])), rel=1e-5)


def test_stein_reaches_the_half_width_unless_capped():
    assert plan.stein_blocks(0.001) == 5
    assert plan.stein_blocks(1.0) == 20
    logs = np.random.default_rng(3).normal(0, 0.01, 200)
    n = plan.stein_blocks(logs[:5].std(ddof=1), plan.Stopping(cap=200))
    value, _, high = plan.stein_interval(logs[:n], 5)
    assert high / value - 1 <= 0.02 + 1e-9 and n < 200
