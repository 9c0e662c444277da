"""Interactions against the two-way linear model, crossovers against planted ones."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from eai.stats.comparisons import crossover, interaction, p_value


def test_interaction_is_the_two_way_models_term():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame([(h, q, b) for h in "ab" for q in "xy" for b in range(6)], columns=["h", "q", "b"])
    frame["y"] = 0.3 * (frame["h"] == "b") - 0.2 * (frame["q"] == "y") - 0.1 * ((frame["h"] == "b") & (frame["q"] == "y"))
    frame["y"] += rng.normal(0, 0.01, len(frame))
    wide = frame.pivot_table(index=["h", "b"], columns="q", values="y")
    ratio = wide["y"] - wide["x"]
    found = interaction(ratio["b"], ratio["a"])
    fitted = smf.ols("y ~ C(h) * C(q) + C(h):C(b)", frame).fit()
    assert found.mean == pytest.approx(fitted.params["C(h)[T.b]:C(q)[T.y]"])
    assert found.mean == pytest.approx(-0.1, abs=0.02) and p_value(found) < 0.001


def test_interaction_of_one_block_is_not_testable():
    assert np.isnan(interaction([0.1], [0.2, 0.3]).se)


def test_factors_that_only_multiply_interact_at_the_stated_rate():
    rng = np.random.default_rng(1)
    p = [float(p_value(interaction(rng.normal(-0.2, 0.02, 6), rng.normal(-0.2, 0.03, 6)))) for _ in range(2_000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_crossover_covers_the_planted_one():
    rng = np.random.default_rng(2)
    x = np.repeat(np.log([1.5, 3.8, 6.0, 7.0]), 5)
    found = [crossover(x, 0.2 * (np.log(5.0) - x) + rng.normal(0, 0.03, x.size)) for _ in range(2_000)]
    bounded = [f for f in found if f.bounded]
    assert len(bounded) > 1_900
    assert np.mean([f.low <= np.log(5.0) <= f.high for f in bounded]) == pytest.approx(0.95, abs=0.015)


def test_a_crossover_without_noise_is_exact_and_on_its_own_scale():
    x = np.log([1.0, 2.0, 4.0])
    assert np.exp(crossover(x, 0.3 * (np.log(3.0) - x)).x) == pytest.approx(3.0)


def test_a_flat_line_has_no_bounded_crossover():
    rng = np.random.default_rng(3)
    assert not crossover(np.arange(12.0), rng.normal(0, 1, 12)).bounded
    assert not crossover([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]).bounded


@pytest.mark.parametrize("values", [[0.0] * 4, [0.5] * 4, [0.1, -0.2, -0.2, 0.1]])
def test_a_line_without_slope_crosses_nowhere(values):
    found = crossover([1, 2, 3, 4], values)
    assert np.isnan([found.x, found.low, found.high]).all() and found.slope == 0 and not found.bounded
