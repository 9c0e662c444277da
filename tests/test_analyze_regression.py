"""A planted regression is shown, an absent one is excluded only with evidence, and unlike things are refused."""

import dataclasses

import numpy as np
import pytest
from planted import Truth, experiment
from scipy import stats

from eai.analyze.comparison import regressions
from eai.analyze.selection import select
from eai.errors import UserError

BEFORE = Truth(quantizations={"fp16": 1.0, "nf4": 0.8}, block_sd=0.005, window_sd=0.005)


def selected(truth=BEFORE, blocks=6, seed=0, **change):
    return select(*experiment(dataclasses.replace(truth, **change), blocks, np.random.default_rng(seed)))


def test_a_regression_is_shown_where_it_was_planted_and_excluded_elsewhere():
    after = selected(quantizations={"fp16": 1.0, "nf4": 0.8 * 1.10}, seed=1)
    found = regressions(selected(), after).set_index("quantization")
    assert found["verdict"].to_dict() == {"fp16": "no_regression", "nf4": "regression"}
    assert found.loc["nf4", "ratio_low"] < 1.10 < found.loc["nf4", "ratio_high"]


def test_the_interval_is_welchs():
    before, after = selected(), selected(seed=1)
    logs = [np.log(s.rows.query("quantization == 'fp16'").eval("energy_j / tokens_out")) for s in (after, before)]
    expected = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    row = regressions(before, after).iloc[0]
    assert [row["ratio_low"], row["ratio_high"]] == pytest.approx(np.exp([expected.low, expected.high]))


def test_noise_is_inconclusive_and_one_block_not_testable():
    noisy = {"window_sd": 0.08}
    assert set(regressions(selected(blocks=3, **noisy), selected(blocks=3, seed=1, **noisy))["verdict"]) == {"inconclusive"}
    row = regressions(selected(), selected(blocks=1)).iloc[0]
    assert (row["verdict"], row["reason"]) == ("not_testable", "one block: a ratio without a spread")


def test_at_the_limit_a_regression_is_called_no_more_often_than_alpha():
    truth = dataclasses.replace(BEFORE, quantizations={f"int8_t{i}": 1.0 for i in range(1, 401)}, block_sd=0.0)
    after = dataclasses.replace(truth, base_j_per_token=3.0 * 1.03)
    found = regressions(selected(truth), selected(after, seed=1))
    assert (found["verdict"] != "inconclusive").mean() <= 0.01


def test_less_throughput_is_worse():
    after = selected(seed=1, power_w=200.0)
    assert set(regressions(selected(), after, metric="throughput_tok_s")["verdict"]) == {"regression"}
    assert set(regressions(selected(), after)["verdict"]) == {"no_regression"}


def test_two_cards_cannot_show_what_their_gains_could_make():
    before, after = selected(), selected(seed=1, quantizations={"fp16": 1.06, "nf4": 0.85})
    for s in (before, after):
        s.rows["u_gain_j"] = 0.05 * s.rows["energy_j"]
    after.rows["job"] = "another-card"
    assert set(regressions(before, after)["verdict"]) == {"inconclusive"}


def test_a_configuration_of_one_experiment_is_not_testable():
    found = regressions(selected(), selected(seed=1, quantizations={"fp16": 1.0})).set_index("quantization")
    assert found.loc["nf4", ["verdict", "reason"]].tolist() == ["not_testable", "only in one experiment"]


def test_unlike_experiments_are_refused():
    with pytest.raises(UserError, match="boundary gpu against machine"):
        regressions(selected(), selected(boundary="machine"))
    with pytest.raises(UserError, match="basis simulated against measured"):
        regressions(selected(), selected(basis="measured"))
    with pytest.raises(UserError, match="no configuration is in both"):
        regressions(selected(), selected(models={"other": 1.0}))
    with pytest.raises(UserError, match="metric joy"):
        regressions(selected(), selected(), metric="joy")
