"""Foreign tables keep their boundary and basis, and what they did not measure stays unmeasured."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from eai import schema
from eai.analyze.comparison import compare
from eai.analyze.selection import select
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.importers.imports import lm_eval_scores
from eai.importers.mappings import Energy, Mapping, mapping_from, tools, with_constants
from eai.importers.windows import import_phases, import_table

LOGGER = {
    "source": "a power logger",
    "energies": [{"column": "kwh", "unit": "kWh", "boundary": "gpu", "basis": "measured"}],
    "columns": {"quantization": "method", "tokens_out": "tokens", "duration_s": "ms"},
    "units": {"duration_s": "ms"},
    "constants": {"gpu": "RTX 4090", "model": "Qwen/Qwen2.5-7B-Instruct", "batch_size": 1, "input_tokens": 512, "output_tokens": 256},
    "block": "run",
}


@pytest.fixture
def logged():
    rng = np.random.default_rng(0)
    rows = [(run, m, r * np.exp(rng.normal(0, 0.01)) / 3600, 256.0, 8000.0) for run in "abcde" for m, r in (("fp16", 1.0), ("nf4", 0.7))]
    return pd.DataFrame(rows, columns=["run", "method", "kwh", "tokens", "ms"])


def test_units_names_and_blocks_become_ours(logged):
    windows, energies = import_table(logged, mapping_from(LOGGER))
    assert list(windows.columns) == [c.name for c in schema.WINDOWS]
    assert energies["energy_j"].to_numpy() == pytest.approx(logged["kwh"] * 3.6e6)
    assert set(windows["gpu"]) == {"rtx4090"} and set(windows["model"]) == {"qwen2.5-7b-instruct"}
    assert windows["duration_s"].eq(8.0).all() and windows["block"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_runs_that_measured_everything_are_paired(logged):
    row = compare(*import_table(logged, mapping_from(LOGGER))).iloc[0]
    assert (row["method"], row["n_pairs"], row["outcome"]) == ("paired_t", 5, "lower")
    assert row["ratio_to_baseline_low"] < 0.7 < row["ratio_to_baseline_high"]


def test_repeats_without_runs_are_one_block_and_not_testable(logged):
    row = compare(*import_table(logged, mapping_from({k: v for k, v in LOGGER.items() if k != "block"}))).iloc[0]
    assert (row["outcome"], row["n_pairs"]) == ("not_testable", 1)


@pytest.mark.parametrize("nothing", [0.0, np.nan, -1.0, "n/a"])
def test_nothing_measured_is_never_the_best(logged, nothing):
    logged["kwh"] = logged["kwh"].astype(object)
    logged.loc[1, "kwh"] = nothing
    windows, energies = import_table(logged, mapping_from(LOGGER))
    assert windows.loc[1, ["status", "reason"]].tolist() == ["invalid", "the source's energy is empty or zero: not measured"]
    assert len(energies) == 9
    assert summarize(windows, energies)["energy_j_per_token"].min() > 1


def test_boundaries_of_one_row_stay_apart():
    frame = pd.DataFrame({"gpu_energy": [1e-4] * 2, "cpu_energy": [2e-4] * 2, "ram_energy": [5e-5] * 2, "duration": [10.0] * 2,
                          "gpu_model": "1 x NVIDIA A100-SXM4-40GB", "tokens": 100.0})  # fmt: skip
    base = tools()["codecarbon"]
    constants = {"model": "m", "quantization": "fp16", "batch_size": 1, "input_tokens": 8, "output_tokens": 8}
    mapping = replace(with_constants(base, constants), columns=base.columns | {"tokens_out": "tokens"})
    windows, energies = import_table(frame, mapping)
    assert energies.groupby("boundary")["energy_j"].first().to_dict() == pytest.approx({"gpu": 360.0, "cpu_package": 720.0, "dram": 180.0})
    assert summarize(windows, energies)["energy_j_per_token"].tolist() == pytest.approx([3.6])
    cpu = select(windows, energies, boundary="cpu_package")
    assert (cpu.basis, cpu.rows["energy_j"].iloc[0]) == ("estimated", pytest.approx(720.0))


def test_rates_only_give_rates_and_no_totals():
    frame = pd.DataFrame({"energy_per_token_joules": [0.5, 0.4], "model_id": ["a/b", "a/c"], "gpu_model": "H100", "task": "gpqa",
                          "max_num_seqs": 64, "output_throughput_tokens_per_sec": [800.0, 900.0], "is_stable": [True, False]})  # fmt: skip
    constants = {"quantization": "bf16", "input_tokens": 500, "output_tokens": 1000}
    windows, energies = import_table(frame, with_constants(tools()["ml-energy-3"], constants))
    table = summarize(windows, energies).set_index("model")
    assert table.loc["a/b", ["energy_j_per_token", "throughput_tok_s", "power_mean_w"]].tolist() == pytest.approx([0.5, 800.0, 400.0])
    assert np.isnan(table.loc["a/b", "energy_wh"]), "a rate has no total"
    assert table.loc["a/c", "n_blocks"] == 0 and "is_stable" in table.loc["a/c", "reason"]


def test_per_request_and_per_token_are_different():
    frame = pd.DataFrame({"e": [10.0], "n": [4.0], "tok": [400.0], "s": [2.0]})
    constants = {"gpu": "a", "model": "m", "quantization": "fp16", "batch_size": 1, "input_tokens": 8, "output_tokens": 100}
    columns = {"tokens_out": "tok", "duration_s": "s", "requests": "n"}
    found = {}
    for per in ("window", "request", "output_token"):
        mapping = Mapping("x", (Energy("e", "J", "machine", "measured", per),), columns, constants)
        found[per] = import_table(frame, mapping)[1]["energy_j"].iloc[0]
    assert found == {"window": 10.0, "request": 40.0, "output_token": 4000.0}
    del columns["requests"]
    with pytest.raises(UserError, match="number of requests"):
        import_table(frame, Mapping("x", (Energy("e", "J", "machine", "measured", "request"),), columns, constants))


def test_a_method_that_is_not_said_stays_unspecified(logged):
    logged["method"] = logged["method"].replace("nf4", "int8")
    assert set(import_table(logged, mapping_from(LOGGER))[0]["quantization"]) == {"fp16", "unspecified_int8"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"block": "nowhere"}, "no column nowhere"),
        ({"columns": {"tokens_out": "tokens"}}, "does not say quantization"),
        ({"units": {"duration_s": "J"}}, "unit 'J' of duration_s"),
        ({"colour": "red"}, "mapping keys colour"),
        ({"energies": []}, "without energies"),
        ({"energies": [{"column": "kwh", "unit": "lumen", "boundary": "gpu", "basis": "measured"}]}, "unit 'lumen'"),
        ({"energies": [{"column": "kwh", "unit": "J", "boundary": "room", "basis": "measured"}]}, "boundary 'room'"),
        ({"energies": [{"column": "kwh"}]}, "an energy of the mapping"),
        ({"columns": {"joy": "tokens"}}, "mapped to joy"),
    ],
)
def test_a_mapping_that_does_not_fit_is_one_clear_line(logged, change, match):
    with pytest.raises(UserError, match=match):
        import_table(logged, mapping_from(LOGGER | change))


def test_an_empty_table_and_an_unreadable_configuration_are_refused(logged):
    with pytest.raises(UserError, match="empty table"):
        import_table(logged[:0], mapping_from(LOGGER))
    broken = LOGGER | {"constants": LOGGER["constants"] | {"batch_size": 0}}
    with pytest.raises(UserError, match="configuration cannot be read"):
        import_table(logged, mapping_from(broken))


def test_phases_take_their_energy_from_the_log(logged):
    """100 W for 2 s and 50 W for 4 s, on two cards."""
    phases = pd.DataFrame({"start_s": [0.0, 10.0], "stop_s": [2.0, 14.0], "method": ["fp16", "nf4"], "tokens": [100.0, 100.0]})
    power = {0.0: 100.0, 10.0: 50.0}

    def energy_of(start_s, stop_s):
        return [{"device_id": card, "energy_j": power[start_s] * (stop_s - start_s)} for card in ("gpu0", "gpu1")]

    mapping = mapping_from(
        {k: v for k, v in LOGGER.items() if k not in ("block", "units")} | {"columns": {"quantization": "method", "tokens_out": "tokens"}}
    )
    windows, energies = import_phases(phases, energy_of, mapping)
    assert windows["duration_s"].tolist() == [2.0, 4.0]
    assert energies.groupby("device_id")["energy_j"].sum().to_dict() == {"gpu0": 400.0, "gpu1": 400.0}
    assert summarize(windows, energies)["energy_j_per_token"].tolist() == pytest.approx([4.0, 4.0])


LM_EVAL = {
    "results": {
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.51, "exact_match,flexible-extract": 0.53},
        "arc_challenge": {"acc,none": 0.4, "acc_norm,none": 0.44},
        "unheard_of": {"acc,none": 0.1},
    },
    "versions": {"gsm8k": 3.0},
    "n-shot": {"gsm8k": 5},
    "n-samples": {"gsm8k": {"original": 1319, "effective": 100}},
}


def test_lm_eval_scores_carry_task_metric_shots_and_items():
    table = lm_eval_scores(LM_EVAL, "abc").set_index("task")
    assert table.loc["gsm8k", ["score", "few_shot", "version", "n_items", "metric"]].tolist() == [
        0.51,
        5,
        3.0,
        100,
        "exact_match,strict-match",
    ]
    assert table.loc["arc_challenge", "score"] == 0.44 and "unheard_of" not in table.index
    chosen = lm_eval_scores(LM_EVAL, "abc", {"gsm8k": "exact_match,flexible-extract", "unheard_of": "acc"}).set_index("task")
    assert chosen.loc["gsm8k", "score"] == 0.53 and chosen.loc["unheard_of", "score"] == 0.1


@pytest.mark.parametrize(("document", "match"), [({}, "without `results`"), ({"results": {"x": {"a,none": 1}}}, "metric is known")])
def test_lm_eval_documents_that_say_nothing_are_refused(document, match):
    with pytest.raises(UserError, match=match):
        lm_eval_scores(document, "abc")
    with pytest.raises(UserError, match="has no bleu"):
        lm_eval_scores(LM_EVAL, "abc", {"gsm8k": "bleu"})
