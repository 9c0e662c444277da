"""The summary against plain recomputation, planted truth, and input that must not become a number."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment
from scipy import stats

from eai import schema
from eai.analyze.selection import in_order, select
from eai.analyze.summary import gate, summarize
from eai.errors import UserError

CPU = Truth(gpus={"cpu": 1.0}, quantizations={"fp32": 1.0, "nf4": 0.9}, batches={1: 1.0, 4: 0.3}, boundary="cpu_package", basis="estimated")


@pytest.fixture
def cpu():
    return experiment(CPU, 4, np.random.default_rng(0), repeats=2)


def test_one_row_is_what_plain_arithmetic_gives(cpu):
    windows, energies = cpu
    found = summarize(windows, energies).iloc[0]
    own = windows[windows["configuration_id"] == found["configuration_id"]].merge(energies[["attempt", "energy_j"]], on="attempt")
    blocks = [rows["energy_j"].sum() / rows["tokens_out"].sum() for _, rows in own.groupby("block")]
    logs = np.log(blocks)
    low, high = stats.t.interval(0.95, 3, loc=logs.mean(), scale=stats.sem(logs))
    assert found["energy_j_per_token"] == pytest.approx(stats.gmean(blocks))
    assert found["energy_j_per_token_low"] == pytest.approx(np.exp(low))
    assert found["energy_j_per_token_high"] == pytest.approx(np.exp(high))
    rates = [rows["tokens_out"].sum() / rows["duration_s"].sum() for _, rows in own.groupby("block")]
    powers = [rows["energy_j"].sum() / rows["duration_s"].sum() for _, rows in own.groupby("block")]
    assert found["throughput_tok_s"] == pytest.approx(stats.gmean(rates))
    assert found["throughput_cv"] == pytest.approx(stats.variation(rates, ddof=1))
    assert found["power_mean_w"] == pytest.approx(np.mean(powers))
    assert found["energy_cv"] == pytest.approx(stats.variation(blocks, ddof=1))
    assert found["tokens_per_j"] == pytest.approx(1 / stats.gmean(blocks))
    assert found["energy_wh"] == pytest.approx(stats.gmean(own.groupby("block")["energy_j"].mean()) / 3600)
    assert (found["n_blocks"], found["n_windows"]) == (4, 8)


def test_columns_values_and_order_are_the_registrys(cpu):
    found = summarize(*cpu)
    assert list(found.columns) == [c.name for c in schema.SUMMARY]
    assert list(found["quantization"]) == ["fp32", "fp32", "nf4", "nf4"]
    assert schema.problems("summary", found.astype(object).where(found.notna(), None).to_dict("records")) == []


def test_the_interval_covers_the_planted_energy():
    truth = Truth(quantizations={f"int8_t{i}": 1.0 for i in range(1, 401)}, block_sd=0.0, window_sd=0.05)
    found = summarize(*experiment(truth, 5, np.random.default_rng(1)), baseline="int8_t1")
    assert np.mean(found["energy_j_per_token_low"].le(3.0) & found["energy_j_per_token_high"].ge(3.0)) == pytest.approx(0.95, abs=0.03)


def test_the_absolute_interval_covers_a_sensor_that_is_wrong_and_the_one_within_the_card_does_not():
    truth = Truth(gain=1.05, block_sd=0.0, window_sd=0.003)
    found = summarize(*experiment(truth, 6, np.random.default_rng(2))).iloc[0]
    assert found["energy_j_per_token_low"] > 3.0
    assert found["energy_j_per_token_abs_low"] < 3.0 < found["energy_j_per_token_abs_high"]


def test_a_power_known_to_a_factor_of_two_gives_the_true_energy_to_a_factor_of_two(cpu):
    """The estimate's 0.365 is the relative standard deviation of a log-normal whose 95 % range is a factor of two, not that of its log."""
    windows, energies = cpu
    found = summarize(windows, energies.assign(u_gain_j=0.365 * energies["energy_j"])).iloc[0]
    se = np.log(found["energy_j_per_token_high"] / found["energy_j_per_token"]) / stats.t.ppf(0.975, 3)
    expected = 2 * np.exp(1.96 * (np.hypot(np.log(2) / 1.96, se) - np.log(2) / 1.96))
    assert found["energy_j_per_token_abs_high"] / found["energy_j_per_token"] == pytest.approx(expected, rel=2e-3)


def test_gates_stand_at_two_and_five_percent():
    assert list(gate([0.019, 0.021, 0.049, 0.051, np.nan, np.nan], [5, 5, 5, 5, 1, 0])) == [
        "ok",
        "noisy",
        "noisy",
        "rejected",
        "noisy",
        "rejected",
    ]


def test_a_configuration_without_a_usable_window_keeps_its_row_and_reason(cpu):
    windows, energies = cpu
    lost = (windows["quantization"] == "nf4") & (windows["batch_size"] == 4)
    windows.loc[lost, ["status", "reason"]] = ["oom", "out of memory"]
    row = summarize(windows, energies).query("quantization == 'nf4' and batch_size == 4").iloc[0]
    assert (row["n_blocks"], row["gate"], row["reason"]) == (0, "rejected", "8 x oom: out of memory")
    assert np.isnan(row["energy_j_per_token"]) and np.isnan(row["ratio_to_baseline"])


def test_devices_of_one_boundary_are_summed_and_a_failed_card_spoils_the_window():
    windows, energies = experiment(Truth(), 3, np.random.default_rng(3))
    both = pd.concat([energies, energies.assign(device_id="GPU-second", energy_j=2 * energies["energy_j"])], ignore_index=True)
    one, two = summarize(windows, energies), summarize(windows, both)
    assert two["energy_j_per_token"].to_numpy() == pytest.approx(3 * one["energy_j_per_token"].to_numpy())
    both.loc[len(both) - 1, "status"] = "disputed"
    assert list(select(windows, both).excluded["reason"]) == ["energy is disputed"]
    missing = select(windows, both.iloc[:-1])
    assert list(missing.excluded["reason"]) == ["energy of a device is missing"]


def test_random_terms_of_two_devices_add_in_quadrature_and_systematic_ones_linearly():
    windows, energies = experiment(Truth(), 1, np.random.default_rng(3))
    first = energies.assign(u_statistical_j=3.0, u_idle_j=6.0, u_offset_j=3.0, u_gain_j=1.0)
    second = energies.assign(device_id="GPU-second", u_statistical_j=4.0, u_idle_j=8.0, u_offset_j=4.0, u_gain_j=2.0)
    rows = select(windows, pd.concat([first, second], ignore_index=True)).rows
    assert rows[["u_statistical_j", "u_idle_j", "u_offset_j", "u_gain_j"]].drop_duplicates().to_numpy().tolist() == [[5.0, 10.0, 7.0, 3.0]]


def test_rows_stand_by_configuration_and_strategies_from_full_precision_down():
    kinds = [("b", "nf4", 1), ("a", "nf4", 1), ("a", "int8_default", 4), ("a", "int8_default", 1), ("a", "fp32", 1), ("a", "zz_unknown", 1)]
    rows = [dict.fromkeys(schema.CONFIGURATION, 0) | {"gpu": g, "quantization": q, "batch_size": b} for g, q, b in kinds]
    found = in_order(pd.DataFrame(rows))[["gpu", "quantization", "batch_size"]]
    assert list(found.itertuples(index=False, name=None)) == [kinds[k] for k in (4, 3, 2, 1, 5, 0)]


def test_the_interval_of_tweor_is_that_of_energy_times_time():
    """With a million items the score is known, and what is left is the t interval of log(Wh s) over the blocks."""
    windows, energies = experiment(Truth(), 4, np.random.default_rng(4))
    windows["duration_s"] *= np.exp(np.random.default_rng(5).normal(0, 0.05, len(windows)))
    scores = pd.DataFrame({"configuration_id": windows["configuration_id"].unique(), "score": 0.5, "n_items": 10**9})
    row = summarize(windows, energies, scores=scores).iloc[0]
    own = windows[windows["configuration_id"] == row["configuration_id"]].merge(energies, on=["configuration_id", "block"])
    logs = np.log(own["energy_j"] / 3600 * own["duration_s"])
    ends = stats.t.interval(0.95, 3, logs.mean(), logs.std(ddof=1) / 2)
    assert (row["tweor_low"], row["tweor_high"]) == pytest.approx((0.5 / np.exp(ends[1]), 0.5 / np.exp(ends[0])), rel=1e-3)


def test_boundaries_and_bases_are_never_mixed():
    windows, energies = experiment(Truth(), 4, np.random.default_rng(4))
    other = energies.assign(boundary="machine", device_id="wall", energy_j=10 * energies["energy_j"])
    alone, beside = summarize(windows, energies), summarize(windows, pd.concat([energies, other], ignore_index=True))
    pd.testing.assert_frame_equal(alone, beside)
    energies.loc[0, "basis"] = "estimated"
    assert select(windows, energies, basis="simulated").excluded["reason"].tolist() == ["basis is not simulated"]


@pytest.mark.parametrize("energy_j", [0.0, -3.0, np.nan])
def test_zero_negative_and_missing_energies_are_left_out_and_counted(energy_j):
    windows, energies = experiment(Truth(), 4, np.random.default_rng(5))
    energies.loc[0, "energy_j"] = energy_j
    selection = select(windows, energies)
    assert len(selection.rows) == len(windows) - 1
    assert selection.excluded["n"].tolist() == [1]


def test_gross_and_net_are_two_quantities(cpu):
    windows, energies = cpu
    energies["net_energy_j"] = energies["energy_j"] / 2
    gross, net = summarize(windows, energies), summarize(windows, energies, net=True)
    assert (set(gross["energy_kind"]), set(net["energy_kind"])) == ({"gross"}, {"net"})
    assert net["energy_j_per_token"].to_numpy() == pytest.approx(gross["energy_j_per_token"].to_numpy() / 2)


def test_subtracting_idle_widens_the_absolute_interval_of_net_energy(cpu):
    windows, energies = cpu
    energies["net_energy_j"] = energies["energy_j"] / 2
    exact = summarize(windows, energies, net=True).iloc[0]
    unsure = summarize(windows, energies.assign(u_net_j=0.1 * energies["net_energy_j"]), net=True).iloc[0]
    assert unsure["energy_j_per_token_abs_high"] / exact["energy_j_per_token_abs_high"] > 1.1
    assert unsure["energy_j_per_token_high"] == exact["energy_j_per_token_high"]


def test_blocks_of_two_cards_are_named(cpu):
    windows, energies = cpu
    for table in cpu:
        table["job"] = table["job"].mask(table["block"] > 2, "second-card")
    row = summarize(windows, energies).iloc[0]
    assert (row["n_blocks"], row["reason"]) == (4, "blocks of several jobs: their cards' gains differ")


def test_only_the_last_attempt_of_a_window_counts(cpu):
    windows, energies = cpu
    again = windows.iloc[[0]].assign(attempt="ffffffff")
    redone = energies.iloc[[0]].assign(attempt="ffffffff", energy_j=99.0)
    found = select(pd.concat([windows, again], ignore_index=True), pd.concat([energies, redone], ignore_index=True))
    assert len(found.rows) == len(windows) and 99.0 in set(found.rows["energy_j"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w, e: (w[:0], e), "no windows"),
        (lambda w, e: (w, e[:0]), "no usable window"),
        (lambda w, e: (w.assign(status="invalid", reason="lost samples"), e), "16|32 invalid: lost samples"),
        (lambda w, e: (w.drop(columns="tokens_out"), e), "tokens_out"),
        (lambda w, e: (w.assign(tokens_out=0), e), "no output tokens"),
    ],
)
def test_nothing_usable_is_one_clear_line(cpu, change, match):
    with pytest.raises(UserError, match=match):
        summarize(*change(*cpu))


def test_asking_for_what_was_not_measured_says_what_was(cpu):
    with pytest.raises(UserError, match="boundary gpu; found cpu_package"):
        summarize(*cpu, boundary="gpu")
    with pytest.raises(UserError, match="basis measured; found estimated"):
        summarize(*cpu, basis="measured")


def test_scores_become_eor_and_a_percentage_is_refused(cpu):
    windows, energies = cpu
    scores = pd.DataFrame({"configuration_id": windows["configuration_id"].unique()[:2], "score": [0.5, 0.25]})
    found = summarize(windows, energies, scores=scores).set_index("configuration_id")
    first = found.loc[scores["configuration_id"][0]]
    assert first["eor"] == pytest.approx(0.5 / first["energy_wh"])
    assert found["eor"].notna().sum() == 2
    with pytest.raises(UserError, match="fraction"):
        summarize(windows, energies, scores=scores.assign(score=71.8))


def test_ten_thousand_configurations_are_summarized_in_seconds():
    truth = dataclasses.replace(CPU, models={f"m{i}": 1.0 for i in range(500)}, batches={2**i: 1.0 for i in range(10)})
    windows, energies = experiment(truth, 2, np.random.default_rng(6))
    assert len(summarize(windows, energies)) == 10_000


def test_a_window_that_lacks_one_cards_energy_is_left_out_however_many_others_have_it():
    """Two cards a window; one energy of the second is missing in one window: its sum would be half of the truth."""
    windows, energies = experiment(Truth(), 4, np.random.default_rng(30))
    second = energies.assign(device_id="GPU-2")
    chosen = select(windows, pd.concat([energies, second.iloc[1:]], ignore_index=True))
    assert len(chosen.rows) == len(windows) - 1 and energies["attempt"].iloc[0] not in set(chosen.rows["attempt"])
    assert chosen.excluded[["reason", "n"]].to_numpy().tolist() == [["energy of a device is missing", 1]]


def test_a_rejected_configuration_says_why_in_words():
    windows, energies = experiment(Truth(quantizations={"fp16": 1.0}, window_sd=0.2), 5, np.random.default_rng(31))
    row = summarize(windows, energies).iloc[0]
    assert row["gate"] == "rejected" and row["reason"] == f"energy varies by {100 * row['energy_cv']:.1f} % between blocks, more than 5 %"
