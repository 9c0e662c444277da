"""Diagnostics against statsmodels with dummies, and their error rates on data with nothing in them."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from eai.stats import intervals as d


def planted(rng, slope=0.0, n_configurations=6, n_blocks=5, sd=0.01):
    frame = pd.DataFrame([(c, b) for b in range(n_blocks) for c in range(n_configurations)], columns=["configuration", "block"])
    frame["order"] = frame.assign(u=rng.random(len(frame))).groupby("block")["u"].rank()
    effects = rng.normal(0, 0.5, n_configurations)[frame["configuration"]] + rng.normal(0, 0.05, n_blocks)[frame["block"]]
    frame["y"] = effects + slope * frame["order"] + rng.normal(0, sd, len(frame))
    return frame


def effect(f):
    return d.covariate_effect(f["y"], f["order"], f["configuration"], f["block"])


def test_a_slope_is_that_of_the_full_linear_model_also_unbalanced():
    frame = planted(np.random.default_rng(0), 0.004).drop([3, 11, 17]).reset_index(drop=True)
    expected = smf.ols("y ~ order + C(configuration) + C(block)", frame).fit()
    found = effect(frame)
    assert found.slope == pytest.approx(expected.params["order"])
    assert found.p == pytest.approx(expected.pvalues["order"])
    assert (found.low, found.high) == pytest.approx(tuple(expected.conf_int().loc["order"]))


def test_a_planted_drift_is_found_and_an_absent_one_at_the_stated_rate():
    rng = np.random.default_rng(1)
    assert effect(planted(rng, 0.01)).p < 0.001
    p = [effect(planted(rng)).p for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_covariate_without_variation_has_no_effect_to_estimate():
    frame = planted(np.random.default_rng(2)).assign(order=1.0)
    assert np.isnan(effect(frame).slope)


def test_autocorrelation_is_found_and_absent_at_the_stated_rate():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(6, 10))
    walk = np.cumsum(noise, axis=1)
    assert d.autocorrelation_p(walk, rng) < 0.01
    p = [d.autocorrelation_p(rng.normal(size=(4, 8)), rng, draws=200) for _ in range(200)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)


def test_wild_values_are_named_and_their_neighbours_are_not():
    frame = planted(np.random.default_rng(4), n_blocks=6)
    frame.loc[[8, 21], "y"] += [0.2, -0.1]
    found = d.outliers(frame["y"], frame["configuration"], frame["block"])
    assert list(np.flatnonzero(found)) == [8, 21]


def test_the_first_outlier_is_statsmodels_outlier_test():
    frame = planted(np.random.default_rng(6))
    expected = smf.ols("y ~ C(configuration) + C(block)", frame).fit().outlier_test()["unadj_p"]
    assert d._outlier_p(frame["y"], frame["configuration"], frame["block"]) == pytest.approx(expected.to_numpy())


def test_clean_experiments_accuse_somebody_at_the_stated_rate():
    rng = np.random.default_rng(5)
    accused = [d.outliers(f["y"], f["configuration"], f["block"]).any() for f in (planted(rng) for _ in range(300))]
    assert np.mean(accused) == pytest.approx(0.05, abs=0.035)


def test_a_value_that_stands_alone_in_its_block_is_judged_by_nothing():
    """Its block's effect fits it exactly: no residual is left, and no warning of a division by zero."""
    y, configuration = [1.0, 2.0, 1.1, 2.3, 1.3, 2.2, 1.2, 2.4, 9.0], [0, 1, 0, 1, 0, 1, 0, 1, 0]
    block = [0, 0, 1, 1, 2, 2, 3, 3, 4]
    p = d._outlier_p(np.array(y), configuration, block)
    assert np.isfinite(p[:8]).all() and np.isnan(p[8]) and not d.outliers(y, configuration, block)[8]


def test_constants_have_no_outliers():
    assert not d.outliers([1.0] * 6, [0, 1] * 3, [0, 0, 1, 1, 2, 2]).any()


def test_lag_one_is_of_the_deviations_whatever_their_level():
    """By hand: 1, 2, 3, 4 deviate by -1.5, -0.5, 0.5, 1.5: (0.75 - 0.25 + 0.75) / 5 = 0.25, at any level."""
    assert d.lag_one([1.0, 2, 3, 4]) == pytest.approx(0.25) == d.lag_one([[101.0, 102, 103, 104]])


def test_an_effect_without_degrees_of_freedom_is_not_told():
    """Two configurations in two blocks leave one degree for the covariate and none for its error; three blocks leave one."""

    def effect(blocks):
        n = 2 * blocks
        configuration, block = np.tile([0, 1], blocks), np.repeat(range(blocks), 2)
        return d.covariate_effect(np.array([0.0, 1, 3, 2, 1, 5])[:n], np.array([1.0, 2, 4, 3, 1, 7])[:n], configuration, block)

    assert np.isnan(effect(2).low) and np.isfinite(effect(3).low)
