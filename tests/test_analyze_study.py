"""The study's analyses recover what a simulated 6 GPU x 6 model x 5 task x 4 strategy study planted, and nothing it did not."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment

from eai.analyze.comparison import contrast
from eai.analyze.deployment import decisions, deployment, pareto
from eai.analyze.selection import select
from eai.analyze.summary import retention, summarize
from eai.errors import UserError
from eai.stats.intervals import log_t_interval
from eai.stats.scores import pair, quotient, ratio_interval

STUDY = Truth(
    gpus={"a100": 0.6, "l40s": 0.75, "rtx4090": 0.8, "rtx3090ti": 1.0, "rtx4060ti": 0.9, "v100": 1.4},
    models={"qwen": 1.0, "distill": 0.8, "mistral": 0.95, "neural-chat": 0.95, "bloomz": 1.1, "yi": 0.85},
    quantizations={"fp16": 1.0, "int8_pure": 0.75, "fp16_mixed": 0.84, "dynamic": 1.0},
    tasks={"mmlu": 1.0, "arc_challenge": 1.0, "truthfulqa": 1.1, "hellaswag": 1.3, "gsm8k": 8.0},
)


@pytest.fixture(scope="module")
def study():
    windows, energies = experiment(STUDY, 5, np.random.default_rng(0))
    return select(windows, energies), summarize(windows, energies)


def covered(table, truth):
    return ((table["ratio_low"] <= truth) & (truth <= table["ratio_high"])).mean()


@pytest.mark.parametrize(
    ("column", "reference", "planted"),
    [("task", "mmlu", STUDY.tasks), ("gpu", "rtx3090ti", STUDY.gpus), ("model", "qwen", STUDY.models)],
)
def test_planted_ratios_of_tasks_hardware_and_models_are_covered(study, column, reference, planted):
    table = contrast(study[0], column, reference)
    truth = table[column].map(planted).astype(float) / planted[reference]
    assert len(table) == 720 * (len(planted) - 1) // len(planted)
    assert covered(table, truth) == pytest.approx(0.95, abs=0.035)
    null = truth == 1
    assert not null.any() or (table.loc[null, "p"] <= 0.05).mean() <= 0.1


def test_tasks_are_paired_within_a_card_and_gpus_are_not(study):
    assert set(contrast(study[0], "task", "mmlu")["method"]) == {"paired_t"}
    assert set(contrast(study[0], "gpu", "a100")["method"]) == {"welch"}


def test_one_pair_of_models_can_be_asked_for(study):
    table = contrast(study[0], "model", "qwen", ["distill"])
    assert set(table["model"]) == {"distill"} and (table["outcome"] == "lower").mean() > 0.9


def test_wrong_columns_and_references_are_refused(study):
    with pytest.raises(UserError, match="column colour"):
        contrast(study[0], "colour", "red")
    with pytest.raises(UserError, match="gpu h100 was not measured"):
        contrast(study[0], "gpu", "h100")


def test_retention_sets_scores_against_energy():
    windows, energies = experiment(Truth(quantizations={"fp16": 1.0, "int8_pure": 0.75}), 5, np.random.default_rng(1))
    ids = windows.drop_duplicates("configuration_id").set_index("quantization")["configuration_id"]
    scores = pd.DataFrame({"configuration_id": [ids["fp16"], ids["int8_pure"]], "score": [0.70, 0.63], "n_items": 1000})
    row = retention(summarize(windows, energies, scores=scores)).iloc[0]
    assert row["score_retained"] == pytest.approx(0.9)
    assert row["score_retained_low"] < 0.9 < row["score_retained_high"] < 1
    assert row["energy_saved_low"] < 0.25 < row["energy_saved_high"]


def test_eor_has_an_interval_that_items_dominate():
    windows, energies = experiment(Truth(), 5, np.random.default_rng(2))
    scores = pd.DataFrame({"configuration_id": windows["configuration_id"].unique(), "score": 0.7, "n_items": 100})
    row = summarize(windows, energies, scores=scores).iloc[0]
    assert row["eor"] == pytest.approx(0.7 / row["energy_wh"])
    assert row["eor_high"] / row["eor_low"] >= (row["score_high"] / row["score_low"]) > 1.2
    assert row["tweor_low"] < row["tweor"] < row["tweor_high"]


def test_the_ratio_of_two_eors_on_the_same_items_covers_the_truth():
    """Scores 0.6 and 0.5 with shared items, energy ratio 0.8: the EOR ratio is 1.2 / 0.8 = 1.5."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1_500):
        ability = rng.random(200)
        first, second = ability < 0.6, np.where(rng.random(200) < 0.8, ability < 0.5, rng.random(200) < 0.5)
        energy = log_t_interval(np.exp(rng.normal(np.log(0.8), 0.03, 5)))
        _, low, high = quotient(ratio_interval(pair(first, second)), energy)
        covered.append(low <= 1.5 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
    with pytest.raises(ValueError, match="paired items"):
        pair([1, 0], [1])


def test_the_deployment_matrix_takes_the_cheapest_that_meets_the_conditions(study):
    summary = study[1].query("task == 'mmlu' and model == 'qwen'").assign(ttft_s=lambda t: np.where(t["gpu"] == "a100", 0.9, 0.1))
    scenarios = {"any": {}, "fast": {"ttft_s_max": 0.5}, "impossible": {"score_min": 0.9}}
    table = deployment(summary, scenarios, np.random.default_rng(0)).set_index("scenario")
    assert table.loc["any", ["gpu", "quantization"]].tolist() == ["a100", "int8_pure"]
    assert table.loc["fast", "gpu"] == "l40s"
    assert table.loc["impossible", "candidates"] == 0
    assert table.loc["any", "confidence"] > 0.9 and "a100" in table.loc["any", "runner_up"]
    with pytest.raises(UserError, match="condition on beauty"):
        deployment(summary, {"x": {"beauty_min": 1}}, np.random.default_rng(0))


def test_equal_candidates_share_the_confidence():
    truth = Truth(quantizations={"fp16": 1.0, "bf16": 1.0}, block_sd=0.02, window_sd=0.02)
    summary = summarize(*experiment(truth, 5, np.random.default_rng(3)))
    choice = deployment(summary, {"any": {}}, np.random.default_rng(0)).iloc[0]
    assert 0.4 < choice["confidence"] < 0.95


def test_decision_rules_change_where_the_data_do():
    windows, energies = experiment(
        Truth(quantizations={"fp16": 1.0, "nf4": 1.0}, batches={1: 1.0, 2: 0.6, 8: 0.3, 16: 0.2}), 6, np.random.default_rng(4)
    )
    factor = np.where(windows["quantization"].eq("nf4"), np.where(windows["batch_size"] <= 2, 0.7, 1.4), 1.0)
    energies["energy_j"] *= factor
    rules = decisions(summarize(windows, energies), np.random.default_rng(0))
    assert rules[["from", "to", "quantization"]].to_numpy().tolist() == [[1, 2, "nf4"], [8, 16, "fp16"]]
    assert rules["confidence"].min() > 0.95


def test_the_front_has_the_planted_probability(study):
    summary = study[1].query("gpu == 'a100' and task == 'mmlu' and model == 'qwen'")
    table = pareto(summary, np.random.default_rng(0)).set_index("quantization")
    assert table.loc["int8_pure", "p_front"] > 0.99 and table.loc["fp16", "p_front"] < 0.05
