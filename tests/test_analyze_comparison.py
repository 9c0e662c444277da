"""Comparisons against scipy, planted truth over many seeds, and what must stay untestable."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment, true_ratio
from scipy import stats

from eai import schema
from eai.analyze.comparison import compare, contrast, regressions
from eai.analyze.selection import select
from eai.analyze.summary import summarize
from eai.errors import UserError

FOUR = Truth(quantizations={"fp16": 1.0, "bf16": 1.0, "int8_pure": 0.9, "int8_default": 1.2}, batches={1: 1.0, 8: 0.2})


def blocks_of(windows, energies, quantization):
    own = windows[windows["quantization"] == quantization].merge(energies[["attempt", "energy_j"]], on="attempt")
    return (own["energy_j"] / own["tokens_out"]).groupby(own["block"]).mean()


def test_a_row_is_scipys_paired_test_of_the_logarithms():
    windows, energies = experiment(Truth(), 6, np.random.default_rng(0))
    row = compare(windows, energies).iloc[0]
    difference = np.log(blocks_of(windows, energies, "int8_pure")) - np.log(blocks_of(windows, energies, "fp16"))
    expected = stats.ttest_1samp(difference, 0)
    low, high = expected.confidence_interval(0.95)
    assert (row["method"], row["n_pairs"]) == ("paired_t", 6)
    assert row["p"] == pytest.approx(expected.pvalue)
    found = row[["ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"]].to_list()
    assert found == pytest.approx(np.exp([difference.mean(), low, high]))


def test_planted_ratios_are_covered_and_planted_nulls_are_called_at_the_stated_rate():
    """1,000 models on cards of their own are 1,000 independent experiments in one table."""
    truth = dataclasses.replace(FOUR, models={f"m{i}": 1.0 for i in range(1000)})
    found = compare(*experiment(truth, 5, np.random.default_rng(0)))
    planted = np.array([true_ratio(truth, "a100", q, "fp16") for q in found["quantization"]])
    assert np.mean((found["ratio_to_baseline_low"] <= planted) & (planted <= found["ratio_to_baseline_high"])) == pytest.approx(
        0.95, abs=0.02
    )
    null = found["quantization"] == "bf16"
    assert 0.04 <= np.mean(found.loc[null, "p"] <= 0.05) <= 0.06
    assert not found.loc[null, "outcome"].isin(["lower", "higher"]).any()
    assert np.mean(found.loc[~null, "p"] <= 0.05) > 0.99


def test_the_family_is_declared_and_corrected_as_one():
    found = compare(*experiment(FOUR, 5, np.random.default_rng(1)))
    assert list(found.columns) == [c.name for c in schema.TABLES["comparisons"]]
    assert set(found["family"]) == {"energy_j_per_token against the baseline, 6 comparisons"}
    assert found["p_holm"].min() == pytest.approx(6 * found["p"].min())
    assert set(found["baseline"]) == {"fp16"}


def test_the_summary_carries_the_same_ratios():
    windows, energies = experiment(FOUR, 5, np.random.default_rng(2))
    ratios = compare(windows, energies).set_index("configuration_id")["ratio_to_baseline"]
    summary = summarize(windows, energies).set_index("configuration_id")["ratio_to_baseline"]
    assert summary[ratios.index].to_numpy() == pytest.approx(ratios.to_numpy())
    assert summary.drop(ratios.index).eq(1.0).all()


def test_a_gain_cancels_and_an_offset_widens():
    quiet = {"block_sd": 0.0, "window_sd": 0.002, "quantizations": {"fp16": 1.0, "int8_pure": 0.8}}
    plain = compare(*experiment(Truth(**quiet), 6, np.random.default_rng(3))).iloc[0]
    gain = compare(*experiment(Truth(**quiet, gain=1.1), 6, np.random.default_rng(3))).iloc[0]
    assert gain["ratio_to_baseline"] == pytest.approx(plain["ratio_to_baseline"])
    assert (gain["u_log"], gain["p"]) == (pytest.approx(0.0), pytest.approx(plain["p"]))
    windows, energies = experiment(Truth(**quiet), 6, np.random.default_rng(3))
    duration = windows.set_index("attempt")["duration_s"].reindex(energies["attempt"]).to_numpy()
    slower = windows["quantization"].eq("int8_pure").to_numpy()
    energies["u_offset_j"] = 5.0 * np.where(slower, 2.0, 1.0) * duration
    offset = compare(windows, energies).iloc[0]
    assert offset["u_log"] == pytest.approx(5.0 / 250, rel=0.01), "5 W of 125 W against 5 W of 250 W"
    assert (
        offset["ratio_to_baseline_high"] / offset["ratio_to_baseline_low"]
        > plain["ratio_to_baseline_high"] / plain["ratio_to_baseline_low"]
    )


def test_a_small_difference_that_the_offset_could_make_is_not_shown():
    windows, energies = experiment(
        Truth(quantizations={"fp16": 1.0, "int8_pure": 0.99}, block_sd=0, window_sd=0.001), 6, np.random.default_rng(4)
    )
    assert compare(windows, energies).iloc[0]["outcome"] == "lower"
    energies["u_offset_j"] = energies["energy_j"] * np.where(windows["quantization"] == "fp16", 0.0, 0.03)
    assert compare(windows, energies).iloc[0]["outcome"] == "inconclusive"


def test_equal_configurations_are_equivalent_only_with_enough_blocks():
    truth = Truth(quantizations={"fp16": 1.0, "bf16": 1.0}, window_sd=0.008)
    assert compare(*experiment(truth, 10, np.random.default_rng(5))).iloc[0]["outcome"] == "equivalent"
    few = compare(*experiment(truth, 2, np.random.default_rng(5))).iloc[0]
    assert few["outcome"] == "inconclusive" and few["tost_power"] < 0.8


def test_blocks_that_do_not_pair_fall_back_to_welch_and_say_so():
    windows, energies = experiment(Truth(), 10, np.random.default_rng(6))
    kept = windows[(windows["quantization"] == "fp16") == (windows["block"] <= 5)]
    row = compare(kept, energies).iloc[0]
    expected = stats.ttest_ind(*(np.log(blocks_of(kept, energies, q)) for q in ("int8_pure", "fp16")), equal_var=False)
    assert (row["method"], row["p"]) == ("welch", pytest.approx(expected.pvalue))
    assert "unpaired" in row["reason"]


def test_two_cards_do_not_pair_and_their_gains_do_not_cancel():
    windows, energies = experiment(Truth(), 6, np.random.default_rng(7))
    energies["u_gain_j"] = 0.05 * energies["energy_j"]
    second = windows["quantization"] == "int8_pure"
    for table in (windows, energies):
        table.loc[second, "job"] = "second-card"
    row = compare(windows, energies).iloc[0]
    assert (row["method"], row["u_log"]) == ("welch", pytest.approx((2 * np.log1p(0.05**2)) ** 0.5))


@pytest.mark.parametrize(
    ("change", "reason", "pairs"),
    [
        (lambda w, e: (w[w["block"] == 1], e), "one block", 1),
        (lambda w, e: (w[w["quantization"] != "fp16"], e), "no fp16 in this stratum", 0),
        (lambda w, e: (w.assign(status=w["status"].mask(w["quantization"] == "fp16", "oom")), e), "the baseline has no usable block", 0),
        (lambda w, e: (w.assign(status=w["status"].mask(w["quantization"] == "int8_pure", "oom")), e), "no usable block", 0),
        (lambda w, e: (w.assign(tokens_out=100, duration_s=1.0), e.assign(energy_j=5.0)), "do not vary", 5),
    ],
)
def test_what_cannot_be_compared_is_not_testable_and_never_significant(change, reason, pairs):
    row = compare(*change(*experiment(Truth(), 5, np.random.default_rng(8)))).iloc[0]
    assert (row["outcome"], row["method"], row["n_pairs"]) == ("not_testable", "not_testable", pairs)
    assert reason in row["reason"]
    assert row[["p", "p_holm", "ratio_to_baseline_low", "ratio_to_baseline_high"]].isna().all()


def test_one_configuration_has_nothing_to_compare():
    assert compare(*experiment(Truth(quantizations={"fp16": 1.0}), 5, np.random.default_rng(9))).empty


def test_strata_are_never_crossed():
    windows, energies = experiment(Truth(), 5, np.random.default_rng(10))
    windows["batch_size"] = windows["batch_size"].mask(windows["quantization"] == "fp16", 2)
    assert compare(windows, energies)["reason"].tolist() == ["no fp16 in this stratum"]


def test_the_baseline_with_the_same_options_is_taken():
    windows, energies = experiment(Truth(quantizations={"fp16": 1.0, "nf4": 0.7}), 5, np.random.default_rng(11))
    compiled = windows.assign(options='{"compile":true}', attempt=windows["attempt"].str.replace("0", "a", n=1))
    compiled["configuration_id"] = compiled["configuration_id"].str[::-1]
    energies_compiled = energies.assign(attempt=energies["attempt"].str.replace("0", "a", n=1), energy_j=energies["energy_j"] / 2)
    energies_compiled["configuration_id"] = energies_compiled["configuration_id"].str[::-1]
    found = compare(pd.concat([windows, compiled], ignore_index=True), pd.concat([energies, energies_compiled], ignore_index=True))
    ratios = found.set_index(["quantization", "options"])["ratio_to_baseline"]
    assert ratios["nf4", '{"compile":true}'] == pytest.approx(ratios["nf4", "{}"])
    assert ratios["fp16", '{"compile":true}'] == pytest.approx(0.5)


def test_wrong_requests_are_refused():
    windows, energies = experiment(Truth(), 3, np.random.default_rng(12))
    with pytest.raises(UserError, match="baseline fp32 was not measured"):
        compare(windows, energies, baseline="fp32")
    with pytest.raises(UserError, match="metric joy"):
        compare(windows, energies, metric="joy")


def test_throughput_compares_without_the_energys_offset():
    windows, energies = experiment(Truth(offset_w=10.0), 5, np.random.default_rng(13))
    row = compare(windows, energies, metric="throughput_tok_s").iloc[0]
    assert row["u_log"] == 0 and row["ratio_to_baseline"] == pytest.approx(1 / 0.8, rel=0.03)


def test_blocks_that_name_the_same_work_pair_across_cards():
    """The same ten prompts on two cards: a prompt costs up to five times another, the slower card 5 % more at each of them."""
    windows, energies = experiment(Truth(gpus={"a100": 1.0, "v100": 1.05}, quantizations={"fp16": 1.0}), 10, np.random.default_rng(14))
    prompt = np.linspace(1, 5, 10)[windows["block"] - 1]
    noise = np.exp(np.random.default_rng(15).normal(0, 0.01, len(windows)))
    energies["energy_j"] = 300.0 * prompt * noise * np.where(windows["gpu"] == "v100", 1.05, 1.0)
    shared = windows.assign(flags=[["shared_block"]] * len(windows))
    by_card = [np.log(energies.loc[windows["gpu"] == gpu, "energy_j"].to_numpy()) for gpu in ("v100", "a100")]
    order = [windows.loc[windows["gpu"] == gpu, "block"].to_numpy().argsort() for gpu in ("v100", "a100")]
    for table, method, test in (
        (windows, "welch", stats.ttest_ind(*by_card, equal_var=False)),
        (shared, "paired_t", stats.ttest_rel(by_card[0][order[0]], by_card[1][order[1]])),
    ):
        row = contrast(select(table, energies), "gpu", "a100").iloc[0]
        assert row["method"] == method and row["p"] == pytest.approx(test.pvalue)
    later = select(shared.assign(job="later " + shared["job"]), energies.assign(job="later " + energies["job"]))
    assert np.isfinite(regressions(select(shared, energies), later)["ratio"]).all()


@pytest.mark.parametrize("option", ['{"engine":"vllm"}', '{"num_gpus":8}', '{"tensor_parallel":2}', '{"load":"closed:4"}'])
def test_what_ran_elsewhere_or_otherwise_is_no_baseline(option):
    windows, energies = experiment(Truth(), 5, np.random.default_rng(16))
    windows["options"] = np.where(windows["quantization"] == "int8_pure", option, "{}")
    row = compare(windows, energies).iloc[0]
    assert (row["outcome"], row["reason"]) == ("not_testable", "no fp16 with the same options in this stratum")


def test_an_option_that_only_the_strategy_has_is_part_of_it():
    windows, energies = experiment(Truth(), 5, np.random.default_rng(17))
    windows["options"] = np.where(windows["quantization"] == "int8_pure", '{"group_size":128}', "{}")
    assert compare(windows, energies).iloc[0]["outcome"] == "lower"
