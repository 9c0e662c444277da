"""Each check on a planted fault, whose size is known beforehand, and on the same table without it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simulated_studies
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai.claims import chance, checks, relations, tabular
from eai.claims.tabular import lines, parse_rows, same_or_less_specific
from eai.errors import UserError
from eai.importers import mappings

DATA = Path(__file__).parents[1] / "data"


def found(frame, check, **options):
    """The inconsistent findings of one check on a frame."""
    result = checks.check_table(frame, **options)
    return result[(result["check"] == check) & (result["verdict"] == "inconsistent")]


def study(seed=3):
    return simulated_studies.study(np.random.default_rng(seed))


def test_the_clean_table_has_no_inconsistency_and_many_checks_ran():
    result = checks.check_table(study())
    assert not (result["verdict"] == "inconsistent").any()
    assert set(result.loc[result["verdict"] == "consistent", "check"]) >= {"derived", "reductions", "physical", "one_value", "scores"}


# --- printed precision


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.integers(0, 5))
def test_half_step_covers_what_was_rounded_away(numbers, decimals):
    exact = np.array(numbers) / 7.0
    shown = np.round(exact, decimals)
    half = tabular.half_steps(shown)
    # a column may by chance look coarser than it was printed, never finer
    assert np.all(half >= 0.5 * 10.0**-decimals * (1 - 1e-9)) or np.all(shown == 0)


def test_half_step_of_six_digit_figures_grows_with_the_figure():
    half = tabular.half_steps(np.array([13.4304, 1740.34, 939.128]))
    assert half == pytest.approx([0.5e-4, 0.5e-2, 0.5e-3])


def test_unrounded_figures_have_no_step():
    assert tabular.half_steps(np.random.default_rng(0).normal(size=20)).max() == 0


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Energy (Wh)", "energy_wh"),
        ("Tokens/s", "throughput_tok_s"),
        ("Accuracy [%]", "accuracy"),
        ("\ufeffGPU", "gpu"),
        ("EOR", "eor"),
    ],
)
def test_headers_are_recognized(header, name):
    assert mappings.our_column(header)[0] == name


# --- arithmetic


def test_a_wrong_eor_is_found_with_its_value():
    frame = study()
    frame.loc[5, "eor"] = round(1.1 * frame.loc[5, "accuracy"] / frame.loc[5, "energy_wh"], 6)
    bad = found(frame, "derived")
    assert any("derived/eor" in i for i in bad["id"]) and (bad["rows"].str.contains(":7")).all()
    eor = bad[bad["id"].str.contains("/eor")].iloc[0]
    assert float(eor["computed"]) == pytest.approx(frame.loc[5, "accuracy"] / frame.loc[5, "energy_wh"], rel=1e-3)


def test_percent_taken_for_a_fraction_is_named():
    frame = study()[["gpu", "model", "quantization", "accuracy", "energy_wh", "eor"]]
    frame["eor"] = frame["eor"] * 100
    assert "fraction" in found(frame, "derived")["reason"].iloc[0]


def test_kwh_from_joules_taken_for_wh_is_named():
    frame = pd.DataFrame({"energy_j_per_request": [0.98], "requests": [500_000], "energy_kwh": [490.0]})
    (reason,) = found(frame, "derived")["reason"]
    assert "3,600" in reason and "Wh" in reason


def test_the_sum_of_a_chain_is_checked_down_to_the_cost():
    # 50 J per 1000 tokens x 200 tokens x 3.6 million requests = 36 MJ = 10 kWh, at 0.12 $/kWh = 1.20 $
    frame = pd.DataFrame(
        {"energy_j_per_1k_tok": [50.0], "output_tokens": [200], "requests": [3_600_000], "price_usd_per_kwh": [0.12], "cost_usd": [1.20]}
    )
    assert found(frame, "derived").empty
    (computed,) = found(frame.assign(cost_usd=120.0), "derived")["computed"]
    assert float(computed) == pytest.approx(1.2)


@pytest.mark.parametrize("off", [5, -5])
def test_a_wrong_reduction_rests_on_both_rows(off):
    frame = study()
    frame.loc[1, "energy_reduction_pct"] += off
    (bad,) = found(frame, "reductions").to_dict("records")
    assert parse_rows(bad["rows"]) == {("table", 2), ("table", 3)}


def test_a_column_that_is_another_quotient_is_named():
    frame = pd.DataFrame(
        {"gpu": list("abcde"), "power_w": [280, 320, 350, 165, 250], "throughput_tok_s": [156.8, 142.3, 128.7, 98.4, 118.6]}
    )
    frame["eor"] = (frame["power_w"] / frame["throughput_tok_s"]).round(2)
    (reason,) = found(frame, "mislabelled")["reason"]
    assert "power_w / throughput_tok_s" in reason and "lower is better" in reason
    assert found(frame.assign(eor=[1.1, 2.2, 1.3, 2.4, 1.5]), "mislabelled").empty


def test_a_marked_winner_that_loses_is_found():
    frame = pd.DataFrame(
        {
            "task": ["a", "a", "b", "b"],
            "quantization": ["x", "y"] * 2,
            "energy_wh": [3.14, 2.22, 3.15, 2.21],
            "best": ["", "yes", "yes", ""],
        }
    )
    (bad,) = found(frame, "ordering").to_dict("records")
    assert (bad["stated"], bad["computed"]) == ("x", "y")


def test_scores_that_no_count_gives_are_found():
    frame = pd.DataFrame({"accuracy": [0.52, 0.515, 0.5], "n_items": 50, "gpu": "a", "energy_wh": 1.0})
    (bad,) = found(frame, "countable").to_dict("records")
    assert parse_rows(bad["rows"]) == {("table", 3)}  # 25.75 of 50


# --- physics


def limits():
    return pd.DataFrame({"gpu": ["gpu-a", "gpu-b"], "tdp_w": [300.0, 300.0], "idle_power_w": [50.0, 50.0]})


@pytest.mark.parametrize(("power", "name"), [(400.0, "above limit"), (30.0, "below idle")])
def test_impossible_power_is_found(power, name):
    frame = pd.DataFrame({"gpu": ["gpu-a", "gpu-b"], "power_w": [power, 200.0], "throughput_tok_s": [10.0, 20.0]})
    bad = found(frame, "physical", limits=limits())
    assert len(bad) == 1 and name in bad["id"].iloc[0] and bad["rows"].iloc[0] == "table:2"


def test_the_energy_of_a_machine_may_be_more_than_its_board_s():
    """432 kJ in 1000 s are 432 W, where one board takes 300 W."""
    frame = pd.DataFrame({"gpu": ["gpu-a"], "energy_j": [432_100.0], "duration_s": [1000.3]})
    (reason,) = found(frame, "physical", limits=limits())["reason"]
    assert "432 W" in reason and "a column boundary (machine)" in reason
    assert found(frame.assign(boundary="machine"), "physical", limits=limits()).empty


def test_a_stated_power_may_be_of_one_board_of_several():
    """Eight boards of 50 W idle: 240 W may be one of them, 30 W is none."""
    frame = pd.DataFrame({"gpu": "gpu-a", "num_gpus": 8, "power_w": [240.1, 30.1, 2390.1]})
    (row,) = found(frame, "physical", limits=limits()).to_dict("records")
    assert "below idle" in row["id"] and row["rows"] == "table:3"


def test_power_that_energy_and_throughput_imply_is_checked():
    frame = pd.DataFrame({"gpu": ["gpu-a", "gpu-b"], "energy_j_per_token": [0.1, 4.0], "throughput_tok_s": [100.0, 50.0]})
    (reason,) = found(frame, "physical", limits=limits())["reason"]
    assert "10 W" in reason  # 0.1 J x 100 /s, where 50 W is idle


def test_a_time_shorter_than_the_energy_allows_is_found():
    # EOR / TWEOR = 0.0104 / 0.0358 = 0.29 s for 68.74 Wh = 852 kW
    frame = pd.DataFrame({"gpu": ["gpu-a"], "accuracy": [0.717], "energy_wh": [68.74], "eor": [0.0104], "tweor": [0.0358]})
    (reason,) = found(frame, "physical", limits=limits())["reason"]
    assert "0.291 s" in reason and "852,000 W" in reason and "at least 825 s" in reason  # 68.74 x 3600 J at 300 W


def test_an_energy_below_half_of_power_over_rate_is_found():
    """100 W over 10 tok/s are 10 J per token: idle may take half of it, not four fifths."""
    frame = pd.DataFrame({"gpu": ["a", "b", "c"], "power_w": 100.01, "throughput_tok_s": [10.01, 20.01, 40.01]})
    gross = frame["power_w"] / frame["throughput_tok_s"]
    assert found(frame.assign(energy_j_per_token=gross * 0.6), "accounting").empty
    (row,) = found(frame.assign(energy_j_per_token=gross * 0.2), "accounting").to_dict("records")
    assert "x 0.2" in row["reason"] and "3 of 3 rows" in row["reason"]


def test_a_carbon_intensity_is_as_coarse_as_the_printed_emissions():
    """0.01 kg of 5 Wh are 2,000 g/kWh, or 1,000 where two digits were printed: only the finer figure contradicts every grid."""
    frame = pd.DataFrame({"gpu": list("abc"), "energy_kwh": [0.005, 0.0051, 0.0049]})
    assert found(frame.assign(carbon_kg=[0.01, 0.01, 0.01]), "carbon").empty
    assert len(found(frame.assign(carbon_kg=[0.010001, 0.010102, 0.009903]), "carbon")) == 1


def test_energies_that_are_time_times_a_constant_are_found_only_where_the_times_differ():
    times = np.array([10.01, 20.02, 30.03, 40.04, 50.05, 60.06])
    frame = pd.DataFrame({"gpu": "a100", "model": [f"m{i}" for i in range(6)], "duration_s": times, "energy_j": 51.7 * times})
    assert len(found(frame, "constant_power")) == 1
    alike = frame.assign(duration_s=30.0 + 1e-4 * np.arange(1, 7), energy_j=1551.5031)
    assert found(alike, "constant_power").empty


def test_scores_at_the_level_of_guessing_are_named():
    frame = pd.DataFrame({"gpu": "a100", "model": ["m1", "m2"], "task": "mmlu", "accuracy": [0.26, 0.71], "n_items": 100})
    result = checks.check_table(frame)
    (row,) = result[(result["check"] == "chance") & (result["verdict"] == "untested")].to_dict("records")
    assert row["reason"].startswith("1 of 2 scores do not differ from guessing")


def test_a_score_over_no_items_is_not_counted():
    frame = pd.DataFrame({"gpu": "a100", "model": list("mno"), "accuracy": [0.125, 0.375, 0.875], "n_items": [8, 8, 0]})
    result = checks.check_table(frame)
    (row,) = result[(result["check"] == "countable") & (result["verdict"] == "consistent")].to_dict("records")
    assert row["reason"].startswith("2 scores")


def test_mixed_fractions_and_percents_are_found():
    frame = pd.DataFrame({"model": list("abc"), "accuracy": [0.7, 71.0, 0.69], "energy_wh": [1.0, 2.0, 3.0]})
    assert found(frame, "physical")["rows"].tolist() == ["table:3"]


# --- chance


def test_one_figure_for_two_configurations_is_found():
    energy = [326.95, 262.25, 278.91, 541.04, 674.13]
    frame = pd.DataFrame({"task": "gsm8k", "quantization": ["fp32", "int8", "fp16", "nf4", "dynamic"], "energy_wh": energy})
    assert found(frame, "one_value").empty
    (bad,) = found(frame.assign(energy_wh=[326.95, 262.25, 278.91, 541.04, 262.25]), "one_value").to_dict("records")
    assert bad["stated"] == "262.25" and parse_rows(bad["rows"]) == {("table", 3), ("table", 6)}


def test_figures_equal_on_two_gpus_are_found():
    frame = simulated_studies.campaign(np.random.default_rng(1), net=False)
    twin = frame.assign(gpu="gpu-z", power_w=frame["power_w"] * 1.2)
    bad = found(pd.concat([frame, twin], ignore_index=True), "one_value")
    assert bad["reason"].str.contains("differ in gpu").any()


def test_two_figures_for_one_configuration_are_found_through_a_shorter_name():
    frame = pd.DataFrame(
        {"gpu": ["card", "card_sxm"], "model": ["m-7b", "m-7b-chat"], "quantization": "nf4", "throughput_tok_s": [19.2, 36.4]}
    )
    (bad,) = found(frame, "two_values").to_dict("records")
    assert "19.2 and 36.4" in bad["reason"]
    assert found(frame.assign(gpu=["rtx4090", "rtx4090d"]), "two_values").empty


def test_names_are_less_specific_only_at_a_separator():
    assert same_or_less_specific("a800", "a800_sxm_80gb") and same_or_less_specific("mistral-7b-v0.2", "mistral-7b")
    assert not same_or_less_specific("rtx4090", "rtx4090d") and not same_or_less_specific("", "a")


def test_a_column_that_restates_two_gpus_is_found():
    by_gpu = pd.DataFrame({"gpu": ["a", "b"], "task": ["mmlu", "gsm8k"], "quantization": "fp32", "energy_wh": [42.29, 326.95]})
    by_task = pd.DataFrame({"task": ["mmlu", "gsm8k", "arc"], "quantization": "fp32", "energy_wh": [42.29, 326.95, 45.67]})
    result = checks.check_source({"by_gpu": by_gpu, "by_task": by_task}, "s").query("check == 'restated'")
    assert "42.29 is a's, 326.95 is b's" in result["reason"].item()
    assert parse_rows(result["rows"].item()) == {("by_gpu", 2), ("by_gpu", 3), ("by_task", 2), ("by_task", 3)}
    one = checks.check_source({"by_gpu": by_gpu.assign(gpu="a"), "by_task": by_task}, "s")
    assert one.query("check == 'restated'").empty


def test_two_signs_of_one_comparison_are_found():
    frame = pd.DataFrame(
        {
            "location": ["p", "p", "q", "q"],
            "gpu": "g",
            "model": "m",
            "quantization": ["fp16", "nf4"] * 2,
            "energy_j_per_1k_tok": [3000.0, 2700.0, 2800.0, 3400.0],
        }
    )
    (reason,) = found(frame, "two_changes")["reason"]
    assert "-10.0 %" in reason and "+21.4 %" in reason


def test_reductions_that_do_not_scatter_over_models_are_found():
    base = np.array([42.29, 39.65, 55.18, 61.02])
    rows = [
        {"model": f"m{i}", "quantization": q, "energy_wh": round(b * f, 2)}
        for i, b in enumerate(base)
        for q, f in (("fp32", 1), ("int8", 0.75), ("fp16", 0.84))
    ]
    bad = found(pd.DataFrame(rows), "structure")
    assert "-25.0, -25.0, -25.0, -25.0 %" in bad["reason"].iloc[0]


def test_a_closed_formula_is_found_and_a_stated_repeatability_is_respected():
    grid = [(g, s, b) for g in (1.0, 0.8, 1.3) for s in (1.1, 3.0, 7.6) for b in (1, 4, 8, 16)]
    frame = pd.DataFrame(
        [{"gpu": f"g{g}", "params_b": s, "batch_size": b, "throughput_tok_s": g * 120 / s * (1 + 0.25 * np.log(b))} for g, s, b in grid]
    )
    assert len(found(frame, "structure")) == 1
    noisy = frame.assign(throughput_tok_s=frame["throughput_tok_s"] * np.exp(np.random.default_rng(0).normal(0, 0.002, len(frame))))
    assert len(found(noisy, "structure")) == 1  # 0.2 % is closer than 1.4 %
    stated = noisy.assign(throughput_std_tok_s=0.006 * noisy["throughput_tok_s"], n_runs=9)
    assert found(stated, "structure").empty  # 0.6 % / sqrt(9) = 0.2 % is what the source says of itself


def test_scores_beyond_binomial_error_are_found():
    frame = pd.DataFrame(
        {
            "gpu": ["a", "b", "a", "b"],
            "model": ["m", "m", "n", "n"],
            "task": "mmlu",
            "accuracy": [0.715, 0.526, 0.718, 0.717],
            "n_items": 14042,
            "energy_wh": [1, 2, 3, 4.5],
        }
    )
    (bad,) = found(frame, "scores").to_dict("records")
    z = (0.715 - 0.526) / np.sqrt(2 * 0.6205 * 0.3795 / 14042)
    assert f"{z:.0f} standard errors" in bad["reason"]


def test_of_many_scores_apart_the_widest_are_named_and_the_rest_counted():
    """Eight cards 5 points apart: all 28 pairs differ by 8 standard errors or more (0.05 over the root of 2 x 0.25 / 14042)."""
    frame = pd.DataFrame({"gpu": list("abcdefgh"), "model": "m", "accuracy": 0.3 + 0.05 * np.arange(8), "n_items": 14042})
    bad = found(frame, "scores")
    assert len(bad) == 13 and bad["reason"].iloc[-1].startswith("28 of 28 pairs") and bad["rows"].iloc[-1] == "table:2-9"
    assert bad["reason"].str.contains("0.300 on a and 0.650 on h").sum() == 1


def test_z_of_two_proportions_agrees_with_the_chi_square_of_the_table():
    counts = np.array([[60, 40], [45, 55]])
    chi2 = stats.chi2_contingency(counts, correction=False).statistic
    assert chance.z_of(0.60, 0.45, 100, 100) ** 2 == pytest.approx(chi2)


def test_lag_one_of_independent_runs_has_the_stated_mean_and_variance():
    rng = np.random.default_rng(0)
    y, group = rng.normal(size=(4000, 10)), np.repeat(np.arange(4000), 10)
    r, z, n = chance.lag_one(y.ravel(), group)
    assert n == 4000 and r == pytest.approx(-0.1, abs=4 * np.sqrt(64 / 900 / 4000))
    each = [chance.lag_one(row, np.zeros(10))[0] for row in y[:1500]]
    assert np.var(each) == pytest.approx(64 / 900, rel=0.12)
    assert abs(z) < 4


def test_drifting_runs_are_found():
    frame = simulated_studies.runs(np.random.default_rng(2))
    frame["energy_j_per_1k_tok"] *= 1 + 0.01 * frame["run"]
    assert not found(frame, "serial").empty


# --- accounting


def test_a_net_label_on_gross_figures_is_found():
    frame = simulated_studies.campaign(np.random.default_rng(0), net=False).assign(accounting="net", idle_stated_w=45.2)
    (bad,) = found(frame, "accounting").to_dict("records")
    assert "45.2 W" in bad["reason"] and (bad["stated"], bad["computed"]) == ("net", "gross")


def test_a_sign_that_rests_on_the_accounting_is_found_with_both_changes():
    net = pd.DataFrame(
        {
            "quantization": ["fp16", "int8_pure"],
            "throughput_tok_s": [34.72, 15.47],
            "power_w": [180.74, 87.96],
            "energy_j_per_1k_tok": [4716.0, 4568.0],
            "session": "n",
        }
    )
    gross = pd.DataFrame(
        {
            "quantization": ["fp16", "nf4"],
            "throughput_tok_s": [70.0, 40.0],
            "power_w": [350.0, 200.0],
            "energy_j_per_1k_tok": [5000.0, 5000.0],
            "session": "g",
        }
    )
    frame = pd.concat([net, gross], ignore_index=True).assign(gpu="card", accounting="net")
    reasons = " | ".join(found(frame, "accounting")["reason"])
    # gross: 180.74 / 34.72 = 5.2056 J, 87.96 / 15.47 = 5.6858 J: +9.2 %; net as printed: 4568 / 4716: -3.1 %
    assert "-3.1 %" in reasons and "+9.2 %" in reasons and "must not be compared" in reasons


# --- the frame of findings


def test_lines_are_joined_and_read_back():
    assert lines("t", [0, 1, 2, 7]) == "t:2-4,9"
    assert parse_rows("t:2-4,9; u:5") == {("t", 2), ("t", 3), ("t", 4), ("t", 9), ("u", 5)}


def test_a_table_of_nothing_known_says_so():
    with pytest.raises(UserError, match="no column"):
        checks.check_table(pd.DataFrame({"foo": [1], "bar": [2]}))


def test_two_columns_of_one_meaning_are_refused():
    with pytest.raises(UserError, match="both mean energy_wh"):
        checks.check_table(pd.DataFrame({"energy_wh": [1.0], "Energy (Wh)": [2.0]}))


@pytest.mark.parametrize(
    "make",
    [
        simulated_studies.study,
        simulated_studies.runs,
        lambda r: simulated_studies.campaign(r, True),
        lambda r: simulated_studies.campaign(r, False),
    ],
)
def test_clean_tables_raise_no_alarm(make):
    """Eight tables of each shape: at 1 % a table at most, no alarm is expected in thirty-two (0.3)."""
    alarms = sum((checks.check_table(make(np.random.default_rng(seed)))["verdict"] == "inconsistent").any() for seed in range(100, 108))
    assert alarms == 0


# --- our own summaries


OWN = ("sample/summary.csv", "measured/offline-tasks-cpu/summary.csv", "measured/serving-cpu/summary.csv")


@pytest.mark.parametrize("name", OWN)
def test_our_own_tables_pass_and_a_planted_fault_is_found(name):
    """A window holds many batches, an estimated power is constant, and tokens per joule follows from joules per token."""
    frame = pd.read_csv(DATA / name)
    clean = checks.check_table(frame)
    assert not (clean["verdict"] == "inconsistent").any()
    assert (clean["check"].eq("derived") & clean["verdict"].eq("consistent")).sum() >= 2
    row = int(np.flatnonzero(frame["tokens_per_j"].notna() & frame["energy_j_per_request"].notna() & (frame["task"] == "generate"))[1])
    for column in ("tokens_per_j", "energy_j_per_request"):
        wrong = frame.copy()
        wrong.loc[row, column] *= 1.1
        bad = found(wrong, "derived")
        assert bad["id"].str.contains(f"/{column}:").any() and bad["rows"].str.fullmatch(f"table:{row + 2}").any()


def test_a_run_may_hold_any_number_of_batches_and_no_request_takes_more_than_its_share():
    """1.001 and 2.003 Wh are 3603.6 and 7210.8 J: 4 requests of 900.9 J, 12 of 600.9 J in three batches; of 4000.1 J not one batch of 4."""
    frame = pd.DataFrame({"energy_wh": [1.001, 2.003], "batch_size": [4, 4], "energy_j_per_request": [900.9, 600.9]})
    assert found(frame, "derived").empty and found(frame.assign(requests=[4, 12]), "derived").empty
    assert list(found(frame.assign(energy_j_per_request=[900.9, 4000.1]), "derived")["rows"]) == ["table:3"]
    assert list(found(frame.assign(requests=[4, 11]), "derived")["rows"]) == ["table:3"]
    total = frame.drop(columns="energy_j_per_request")
    assert relations.known(tabular.build(total, "t"), "energy_j_per_request") is None, "nothing follows from the energy over the batch"
    assert relations.known(tabular.build(total.assign(requests=[4, 12]), "t"), "energy_j_per_request") is not None


def test_an_energy_per_token_may_count_the_prompt():
    """0.3 J x (512 + 128) = 192 J, x 128 = 38.4 J; half of one of them is neither."""
    frame = pd.DataFrame(
        {"input_tokens": 512, "output_tokens": 128, "energy_j_per_1k_tok": 300.1, "energy_j_per_request": [192.1, 38.41, 96.1]}
    )
    assert list(found(frame, "derived")["rows"]) == ["table:4"]
    assert len(found(frame.drop(columns="input_tokens"), "derived")) == 2


def test_a_rate_may_count_the_prompt_and_a_power_may_be_of_one_board_of_several():
    """12,345 tokens in 61.7 s are 200.1 a second, 1000.4 with prompts four times as long; 8 x 640.3 W over 100.2 s are 513,264 J."""
    rate = pd.DataFrame(
        {"tokens_out": 12345, "duration_s": 61.7, "input_tokens": 512, "output_tokens": 128, "throughput_tok_s": [200.1, 1000.4]}
    )
    assert found(rate, "derived").empty and len(found(rate.assign(throughput_tok_s=[200.1, 600.3]), "derived")) == 1
    total = {"tokens_in": 5120, "tokens_out": 1280, "duration_s": 12.81, "energy_j": 3201.3}
    both = pd.DataFrame(total | {"throughput_tok_s": [499.6, 99.92], "energy_j_per_token": [0.5002, 2.501]})
    assert found(both, "derived").empty and len(found(both.assign(energy_j_per_token=[0.6002, 2.501]), "derived")) >= 1
    boards = {"gpu": "a", "num_gpus": 8, "power_w": 640.3, "duration_s": 100.2, "throughput_tok_s": 1000.3}
    frame = pd.DataFrame(boards | {"energy_j": [513264.5, 64158.1, 128316.1], "energy_j_per_token": [5.1209, 0.6401, 1.2802]})
    assert list(found(frame, "derived")["rows"]) == ["table:4"] and list(found(frame.iloc[:2], "accounting")["rows"]) == []
    assert found(frame.iloc[2:], "accounting")["rows"].str.contains("table:").any()


def test_only_an_estimated_power_may_lack_scatter():
    """A product of margins to all digits: 4 strategies at 5 batch sizes."""
    frame = pd.DataFrame(
        [{"quantization": f"q{i}", "batch_size": b, "power_w": 100 * 1.1**i * b**0.25} for i in range(4) for b in (1, 2, 4, 8, 16)]
    )
    for basis in ("measured", "predicted", ""):
        assert len(found(frame.assign(basis=basis), "structure")) == 1
    assert found(frame.assign(basis="estimated"), "structure").empty
