"""Disturbances that were planted are found, and clean experiments are left in peace."""

import numpy as np
import pytest
from planted import Truth, experiment

from eai.analyze.selection import select
from eai.analyze.summary import disturbances, outliers

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
