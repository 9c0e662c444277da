"""Planted synergies and crossovers are recovered; factors that only multiply show none."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment

from eai.analyze.comparison import block_ratios, crossovers, synergy
from eai.analyze.selection import select
from eai.errors import UserError

GPUS = Truth(
    gpus={"a100": 0.7, "rtx4090": 1.0, "v100": 1.5},
    quantizations={"fp16": 1.0, "int8_pure": 0.8},
    synergy={("rtx4090", "int8_pure"): 0.9},
)


def ratios(truth, seed=0, blocks=6, **change):
    return block_ratios(select(*experiment(dataclasses.replace(truth, **change), blocks, np.random.default_rng(seed))))


def test_a_planted_synergy_is_recovered_and_mere_multiplication_is_not_called_one():
    table = synergy(ratios(GPUS), "gpu", "a100").set_index("level")
    assert table.loc["rtx4090", "synergy_low"] <= 0.9 <= table.loc["rtx4090", "synergy_high"]
    assert table["outcome"].to_dict() == {"rtx4090": "lower", "v100": "inconclusive"}
    assert set(table["method"]) == {"welch"}


def test_synergy_is_covered_over_many_experiments():
    truth = dataclasses.replace(GPUS, models={f"m{i}": 1.0 for i in range(30)})
    frame = ratios(truth)
    covered = []
    for _, rows in frame.groupby("model"):
        table = synergy(rows, "gpu", "a100").set_index("level")
        planted = {"rtx4090": 0.9, "v100": 1.0}
        covered += [table.loc[g, "synergy_low"] <= t <= table.loc[g, "synergy_high"] for g, t in planted.items()]
    assert np.mean(covered) >= 0.88


def test_levels_in_the_same_blocks_are_paired():
    truth = Truth(quantizations={"fp16": 1.0, "nf4": 0.8}, batches={1: 1.0, 8: 0.2})
    row = synergy(ratios(truth), "batch_size").iloc[0]
    assert (row["method"], row["n"], row["level"], row["reference"]) == ("paired_t", 6, 8, 1)
    assert row["synergy"] == pytest.approx(1, abs=0.03)


def test_one_block_is_not_testable():
    row = synergy(ratios(GPUS, blocks=1), "gpu").iloc[0]
    assert (row["method"], row["outcome"]) == ("not_testable", "not_testable")


def test_a_single_level_or_an_unknown_factor_is_refused():
    with pytest.raises(UserError, match="at least two"):
        synergy(ratios(GPUS), "model")
    with pytest.raises(UserError, match="factor colour"):
        synergy(ratios(GPUS), "colour")
    with pytest.raises(UserError, match="h100 was not measured"):
        synergy(ratios(GPUS), "gpu", "h100")


def test_a_planted_crossover_of_model_sizes_is_within_its_interval():
    sizes = {"m1": 1.5e9, "m3": 3.8e9, "m6": 6e9, "m7": 7e9}
    windows, energies = experiment(
        Truth(quantizations={"fp16": 1.0, "nf4": 1.0}, models=dict.fromkeys(sizes, 1.0)), 6, np.random.default_rng(3)
    )
    factor = windows["model"].map(sizes).map(lambda s: np.exp(0.2 * (np.log(4.5e9) - np.log(s))))
    energies["energy_j"] *= np.where(windows["quantization"] == "nf4", factor, 1.0)
    found = crossovers(block_ratios(select(windows, energies)), "model", sizes).iloc[0]
    assert found["crossover_low"] <= 4.5e9 <= found["crossover_high"]
    assert found["within_range"] and found["slope_per_doubling"] == pytest.approx(-0.2 * np.log(2), abs=0.02)


def test_flat_ratios_rarely_have_a_bounded_crossover():
    truth = Truth(quantizations={"fp16": 1.0, "nf4": 1.0}, batches={1: 1.0, 2: 1.0, 4: 1.0}, models={f"m{i}": 1.0 for i in range(100)})
    found = crossovers(ratios(truth), "batch_size")
    assert len(found) == 100 and found["bounded"].mean() <= 0.11
    assert found.loc[~found["bounded"], "crossover"].isna().all()
    with pytest.raises(UserError, match="sizes"):
        crossovers(ratios(truth), "model")


def test_a_crossover_along_a_length_leaves_out_tasks_as_they_come():
    """They have no length: the logarithm of their 0 is no place on the line."""
    frame = ratios(Truth(quantizations={"fp16": 1.0, "nf4": 0.8}), blocks=6)
    lengths = [frame.assign(input_tokens=n, log_ratio=frame["log_ratio"] + 0.1 * np.log(n)) for n in (8, 16, 64)]
    without = crossovers(pd.concat(lengths), "input_tokens")
    assert crossovers(pd.concat([*lengths, frame.assign(input_tokens=0)]), "input_tokens").equals(without)
    assert without["bounded"].all() and without["slope_per_doubling"].iloc[0] == pytest.approx(0.1 * np.log(2))
    assert crossovers(frame.assign(input_tokens=0), "input_tokens").empty
