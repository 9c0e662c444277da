"""Disturbances that were planted are found, and clean experiments are left in peace."""

import numpy as np
import pytest
from planted import Truth, experiment
from scipy import stats

from eai.analyze.selection import select
from eai.analyze.summary import budgets, disturbances, outliers

MANY = {"fp16": 1.0, "bf16": 1.0, "int8_pure": 0.9, "int8_default": 1.2, "nf4": 0.8}


def selected(seed=0, **planted):
    return select(*experiment(Truth(quantizations=MANY, batches={1: 1.0, 8: 0.2}, **planted), 6, np.random.default_rng(seed)))


def test_a_planted_drift_is_estimated_with_its_interval():
    row = disturbances(selected(drift=0.09)).iloc[0]
    assert row["disturbance"] == "a window later in its block"
    assert row["low"] <= 0.09 / 9 <= row["high"] and row["p_holm"] < 0.01


def test_a_steady_experiment_is_rarely_called_disturbed():
    called = [disturbances(selected(seed))["p"].min() <= 0.05 / 3 for seed in range(12)]
    assert np.sum(called) <= 3


def test_what_was_not_recorded_has_no_effect_and_no_p():
    table = disturbances(selected()).set_index("disturbance")
    assert np.isnan(table.loc["a degree Celsius more", "p"])
    assert table.loc["a degree Celsius more", "n"] == 0


def test_a_temperature_effect_is_found():
    chosen = selected(1)
    temperature = 60 + np.random.default_rng(2).normal(0, 3, len(chosen.rows))
    chosen.rows["temperature_mean_c"] = temperature
    chosen.rows["energy_j"] *= np.exp(0.004 * temperature)
    row = disturbances(chosen).set_index("disturbance").loc["a degree Celsius more"]
    assert row["low"] <= 0.004 <= row["high"] and row["p_holm"] < 0.01


def test_an_outlier_is_reported_and_still_counted():
    chosen = selected(3)
    chosen.rows.loc[17, "energy_j"] *= 1.3
    found = outliers(chosen)
    assert found["attempt"].tolist() == [chosen.rows.loc[17, "attempt"]]
    assert found["ratio_to_expected"].iloc[0] == pytest.approx(1.3, rel=0.1)
    assert len(chosen.rows) == 60


def test_the_budget_is_in_shares_of_the_energy_and_only_random_terms_fall_with_the_windows():
    """Six blocks of one window: a term of 1 % of each window is 1 % / root 6 of the mean, an offset of 2 % stays 2 %."""
    chosen = selected()
    for term, share in {"granularity": 0.01, "aliasing": 0.03, "idle": 0.006, "offset": 0.02, "gain": 0.05}.items():
        chosen.rows[f"u_{term}_j"] = share * chosen.rows["energy_j"]
    found = budgets(chosen)
    random = [0.01 / 6**0.5, 0.03 / 6**0.5, 0.006 / 6**0.5]
    assert found[["granularity", "aliasing", "idle"]].to_numpy() == pytest.approx(np.tile(random, (10, 1)))
    assert found[["offset", "gain"]].to_numpy() == pytest.approx(np.tile([0.02, 0.05], (10, 1)))
    own = chosen.rows[chosen.rows["configuration_id"] == found["configuration_id"].iloc[0]]
    blocks = stats.sem(np.log(own["energy_j"] / own["tokens_out"]))
    row = found.iloc[0]
    assert (row["blocks"], row["within_card"]) == pytest.approx((blocks, np.hypot(blocks, 0.02)))
    assert row["absolute"] == pytest.approx(np.sqrt(blocks**2 + 0.02**2 + 0.05**2))


def test_the_correlation_of_neighbours_needs_four_blocks():
    last = "the block before (lag-one autocorrelation)"
    windows, energies = experiment(Truth(quantizations=MANY), 5, np.random.default_rng(4))
    for blocks, known in ((3, False), (4, True), (5, True)):
        row = disturbances(select(windows[windows["block"] <= blocks], energies)).set_index("disturbance").loc[last]
        assert np.isfinite(row[["effect", "p"]].to_numpy(float)).all() == known and row["n"] == len(MANY)
