"""A simulated study of 6 GPUs x 6 models x 5 tasks x 4 strategies, over 300 seeds: what was planted is recovered, and nothing else."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import planted
import pytest
from planted import Truth, experiment, true_ratio

from eai import paths
from eai.analyze.comparison import judged, ratios, synergy
from eai.analyze.selection import CONFIGURATION, select
from eai.errors import UserError

SEEDS, BLOCKS = 300, 5
STUDY = planted.STUDY


@pytest.fixture(scope="module")
def energies():
    return planted.logs(STUDY, BLOCKS, SEEDS, np.random.default_rng(2024))


def analysed(name, truth, energies):
    if name in ("strategies", "interactions"):
        return getattr(planted, name)(truth, energies)
    return planted.factor(truth, energies, name)


ANALYSES = ("strategies", "interactions", "gpu", "model", "task")


def test_the_study_is_the_study():
    assert [len(f) for f in (STUDY.gpus, STUDY.models, STUDY.tasks, STUDY.quantizations)] == [6, 6, 5, 4]


@pytest.mark.parametrize("name", ANALYSES)
def test_intervals_cover_what_was_planted_and_nulls_alarm_no_more_than_alpha(energies, name):
    """Bounds: the 93 to 97 % asked for; alarms at most 5 % beyond three standard errors over seeds."""
    found = planted.figures(analysed(name, STUDY, energies))
    assert found["seeds"] == SEEDS and 0.93 <= found["coverage"] <= 0.97
    assert found["wrong_direction"] == 0
    if found["nulls"]:
        assert found["null_rate"] <= 0.05 + 3 * found["null_rate_se"]
        assert found["family_error"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SEEDS)


def test_every_comparison_is_covered_not_only_their_mean(energies):
    """540 comparisons, 300 seeds each: the worst binomial share stays within five standard errors of 95 %."""
    found = planted.strategies(STUDY, energies)
    covered = (np.log(found.interval.low) <= found.truth) & (found.truth <= np.log(found.interval.high))
    assert np.abs(covered.mean(axis=0) - 0.95).max() <= 5 * np.sqrt(0.95 * 0.05 / SEEDS)


def test_both_planted_interactions_are_found_and_the_other_thirteen_are_not(energies):
    found = planted.interactions(STUDY, energies)
    shown = np.isin(found.outcome, ("lower", "higher")).mean(axis=0)
    assert np.exp(found.truth[~np.isclose(found.truth, 0)]) == pytest.approx([0.95, 1.3])
    assert (shown[~np.isclose(found.truth, 0)] > 0.99).all() and (shown[np.isclose(found.truth, 0)] < 0.03).all()


def test_where_nothing_is_planted_hardly_any_study_reports_anything(energies):
    """Holm keeps the family: at most 5 % of whole studies call any of 540 comparisons, beyond three standard errors."""
    nothing = dataclasses.replace(STUDY, quantizations=dict.fromkeys(STUDY.quantizations, 1.0), synergy={})
    found = planted.figures(planted.strategies(nothing, planted.logs(nothing, BLOCKS, SEEDS, np.random.default_rng(7))))
    assert found["nulls"] == 540 and found["family_error"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / SEEDS)
    assert found["null_rate"] == pytest.approx(0.05, abs=3 * found["null_rate_se"])


def test_the_planted_table_is_the_one_that_the_tables_are_simulated_from():
    quiet = dataclasses.replace(STUDY, block_sd=0.0, window_sd=0.0)
    table = planted.planted(STUDY)
    names = [list(f) for f in (STUDY.gpus, STUDY.models, STUDY.quantizations, STUDY.tasks)]
    windows, energy = experiment(quiet, 1, np.random.default_rng(0))
    rows = select(windows, energy).rows
    place = [rows[c].map(n.index).to_numpy() for c, n in zip(planted.AXES, names, strict=True)]
    assert np.log(rows["energy_j"] / rows["tokens_out"]).to_numpy() == pytest.approx(table[tuple(place)])
    assert true_ratio(STUDY, "v100", "int8_pure", "fp16") == pytest.approx(np.exp(table[5, 0, 1, 0] - table[5, 0, 0, 0]))


def test_arrays_and_tables_judge_alike(energies):
    """The same numbers through the tables that a user gets: ratios, intervals, p, Holm and direction agree."""
    table = planted.block_table(STUDY, energies[0])
    table["configuration_id"] = table[list(planted.AXES)].agg("|".join, axis=1)
    table = table.assign(weights="published", batch_size=1, input_tokens=1, output_tokens=1, options="{}")
    table = table.assign(u_offset_relative=0.0, u_gain_relative=0.0)
    configurations = table[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    compared = ratios(table, configurations, "fp16")
    by_table = judged(compared, "energy_j_per_token", 0.03).set_index("configuration_id")
    ids = configurations[configurations["quantization"] != "fp16"]["configuration_id"]
    by_table = by_table.loc[ids]
    by_array = planted.strategies(STUDY, energies[:1])
    for column, values in (("ratio_to_baseline", by_array.interval.value), ("ratio_to_baseline_low", by_array.interval.low),
                           ("ratio_to_baseline_high", by_array.interval.high), ("p", by_array.p), ("p_holm", by_array.p_holm)):  # fmt: skip
        assert by_table[column].to_numpy() == pytest.approx(values[0], rel=1e-9), column
    directed = by_table["outcome"].where(by_table["outcome"] != "equivalent", "inconclusive")
    assert directed.tolist() == by_array.outcome[0].tolist()


def test_interactions_of_arrays_and_tables_agree(energies):
    table = planted.block_table(STUDY, energies[1])
    base = table[table["quantization"] == "fp16"].drop(columns="quantization")
    both = table[table["quantization"] != "fp16"].merge(base, on=["gpu", "model", "task", "job", "block"], suffixes=("", "_base"))
    ratios = both.assign(log_ratio=np.log(both["energy_j_per_token"] / both["energy_j_per_token_base"]))
    by_table = synergy(ratios, "gpu", "a100").set_index(["level", "quantization"])
    order = [(g, q) for g in list(STUDY.gpus)[1:] for q in list(STUDY.quantizations)[1:]]
    by_array = planted.interactions(STUDY, energies[1:2])
    assert by_table.loc[order, "synergy"].to_numpy() == pytest.approx(by_array.interval.value[0])
    assert by_table.loc[order, "synergy_high"].to_numpy() == pytest.approx(by_array.interval.high[0])
    assert by_table.loc[order, "p_holm"].to_numpy() == pytest.approx(by_array.p_holm[0])


def test_a_dependence_that_the_analysis_does_not_know_would_be_seen():
    """Windows of a block that are copies of each other by half of their noise: the check fails, so it can fail."""
    rng = np.random.default_rng(3)
    energies = planted.logs(STUDY, BLOCKS, 100, rng)
    energies[:, :, :, 1:] += rng.normal(0, 0.02, (100, 6, 6, 3, 5, 1))
    assert planted.figures(planted.strategies(STUDY, energies))["coverage"] < 0.8


def test_an_unknown_factor_is_refused(energies):
    with pytest.raises(UserError, match="factor colour"):
        planted.factor(STUDY, energies[:2], "colour")


def test_a_study_without_nulls_states_no_null_rate():
    only = Truth(quantizations={"fp16": 1.0, "int8_pure": 0.8})
    found = planted.figures(planted.strategies(only, planted.logs(only, 4, 5, np.random.default_rng(0))))
    assert found["nulls"] == 0 and "null_rate" not in found


def test_the_benchmark_prints_one_json_line():
    program = paths.ROOT / "benchmarks" / "study_recovery.py"
    done = subprocess.run([sys.executable, str(program), "--seeds", "60"], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["seeds"] == 60 and set(ANALYSES) <= set(found) and found["strategies"]["seeds"] == 60
