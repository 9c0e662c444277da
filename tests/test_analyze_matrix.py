"""Deployment matrix and Pareto front: the planted best is chosen, on the same work, with its probability."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment, items

from eai.analyze import deployment, scores
from eai.analyze.metrics import ENDS
from eai.analyze.scores import retention
from eai.analyze.selection import select
from eai.analyze.summary import summarize
from eai.errors import UserError

TRUTH = Truth(
    gpus={"a100": 0.7, "v100": 1.5},
    models={"small": 0.2, "large": 1.0},
    quantizations={"fp16": 1.0, "int8_pure": 0.8, "nf4": 0.6},
    batches={1: 1.0, 8: 0.2},
    tasks={"arithmetic": 1.0},
    synergy={("v100", "nf4"): 2.0},
)
RIGHT = {"fp16": 0.8, "int8_pure": 0.79, "nf4": 0.5}


@pytest.fixture(scope="module")
def study():
    windows, energies = experiment(TRUTH, 6, np.random.default_rng(0))
    answers = items(windows, RIGHT, 1500, np.random.default_rng(1))
    summary = summarize(windows, energies, scores=scores.of_items(answers))
    return summary, retention(summary, scores.against_baseline(select(windows, energies), answers, np.random.default_rng(2)))


@pytest.fixture(scope="module")
def chosen(study):
    return deployment.matrix(study[0], np.random.default_rng(0), study[1]).set_index("scenario")


def test_each_scenario_chooses_what_was_planted(chosen):
    """nf4 is cheapest on the a100 but loses a third of the score; on the v100 it costs more than fp16, so int8_pure wins there."""
    found = chosen[["gpu", "quantization", "batch_size"]].apply(tuple, axis=1).to_dict()
    assert found == {
        "lowest energy": ("a100", "nf4", 8),
        "highest throughput": ("a100", "nf4", 8),
        "smallest batch": ("a100", "nf4", 1),
        "keeps 95 % of the score": ("a100", "int8_pure", 8),
        "on a100": ("a100", "nf4", 8),
        "on v100": ("v100", "int8_pure", 8),
    }
    assert (chosen["confidence"] > 0.95).all() and (chosen["n_strata"] == 2).all()


def test_what_a_choice_saves_and_keeps_is_what_was_planted(chosen):
    row = chosen.loc["keeps 95 % of the score"]
    assert row["energy_saved"] == pytest.approx(0.2, abs=0.02) and row["score_retained"] == pytest.approx(0.79 / 0.8, abs=0.03)
    assert deployment.KEPT < row["score_retained_low"] < row["score_retained"]


def test_cells_are_geometric_means_over_the_same_strata(study):
    summary = study[0]
    table = deployment.cells(summary).set_index(deployment.CELL)
    own = summary[(summary["gpu"] == "v100") & (summary["quantization"] == "nf4") & (summary["batch_size"] == 8)]
    cell = table.loc[("v100", "nf4", 8)]
    assert cell["unit_energy_j"] == pytest.approx(np.sqrt(own["energy_j_per_token"].prod())) and cell["n_blocks"] == 11
    lost = deployment.cells(summary.drop(own.index[own["model"] == "small"])).set_index(deployment.CELL)
    large = own.loc[own["model"] == "large", "energy_j_per_token"].iloc[0]
    assert lost["n_strata"].eq(1).all() and lost.loc[("v100", "nf4", 8), "unit_energy_j"] == pytest.approx(large)


def test_the_interval_of_a_cell_covers_the_planted_mean():
    """200 cards of two strata each: 95 % intervals around sqrt(0.2) x base; binomial limits at 1 %."""
    cards = {f"card{i}": 1.0 for i in range(200)}
    truth = Truth(gpus=cards, models={"small": 0.2, "large": 1.0}, quantizations={"fp16": 1.0}, block_sd=0.0, window_sd=0.03)
    table = deployment.cells(summarize(*experiment(truth, 4, np.random.default_rng(3))))
    covered = (table["unit_energy_j_low"] < 3.0 * np.sqrt(0.2)) & (3.0 * np.sqrt(0.2) < table["unit_energy_j_high"])
    assert len(table) == 200 and 181 <= covered.sum() <= 198


def test_the_interval_of_a_cell_covers_where_the_strata_of_a_block_err_together():
    """Two tasks of one model in the same blocks, whose noise they share: 4 blocks are 4 replicates and not 8."""
    cards = {f"card{i}": 1.0 for i in range(200)}
    tasks = {"arithmetic": 1.0, "facts": 2.0}
    truth = Truth(gpus=cards, models={"large": 1.0}, quantizations={"fp16": 1.0}, tasks=tasks, block_sd=0.03, window_sd=0.001)
    table = deployment.cells(summarize(*experiment(truth, 4, np.random.default_rng(3))))
    covered = (table["unit_energy_j_low"] < 3.0 * np.sqrt(2)) & (3.0 * np.sqrt(2) < table["unit_energy_j_high"])
    assert table["n_strata"].eq(2).all() and table["n_blocks"].eq(4).all() and 181 <= covered.sum() <= 198


def test_without_scores_nothing_keeps_the_score_and_no_share_is_stated(study):
    summary = study[0].assign(score=np.nan)
    found = deployment.matrix(summary, np.random.default_rng(0)).set_index("scenario")
    assert found.loc["keeps 95 % of the score", "candidates"] == 0 and found["score_retained"].isna().all()


def test_where_nothing_is_steady_no_scenario_has_a_candidate(study):
    noisy = study[0].assign(energy_cv=0.2)
    found = deployment.matrix(noisy, np.random.default_rng(0), study[1])
    assert len(found) == 6 and found["candidates"].eq(0).all() and found["units_per_s"].isna().all()
    assert set(found["n_rejected"]) == set(found["n_cells"]) == {12}


def test_unscored_work_beside_the_scored_changes_nothing(study, chosen):
    """Plain generation has no score: pooled in, it would make every score unknown, and its tokens are no items."""
    plain = study[0].assign(task="generate", score=np.nan, energy_j_per_token=study[0]["energy_j_per_token"].to_numpy()[::-1])
    plain["configuration_id"] = "plain" + plain["configuration_id"]
    found = deployment.matrix(pd.concat([study[0], plain], ignore_index=True), np.random.default_rng(0), study[1]).set_index("scenario")
    columns = [*deployment.CELL, "energy_saved", "score_retained", "n_strata"]
    pd.testing.assert_frame_equal(found[columns], chosen[columns])


def test_no_complete_stratum_is_no_matrix(study):
    summary = study[0]
    holes = summary.drop(summary.index[(summary["model"] == "small") & (summary["quantization"] == "nf4")])
    holes = holes.drop(holes.index[(holes["model"] == "large") & (holes["quantization"] == "fp16")])
    assert deployment.matrix(holes, np.random.default_rng(0)).empty


def test_an_unknown_column_is_refused_in_every_kind_of_condition(study):
    for conditions in ({"joy_max": 1}, {"best": "joy"}):
        with pytest.raises(UserError, match="condition on joy"):
            deployment.deployment(study[0], {"x": conditions}, np.random.default_rng(0))


def test_a_small_model_beats_a_large_one_only_where_both_are_scored(study):
    """The small model needs a fifth of the energy at the same planted score; unscored it must not win for being small."""
    summary = study[0]
    scored = deployment.pareto(summary, np.random.default_rng(0))
    front = scored[scored["p_front"] > 0.9]
    assert set(front["model"]) == {"small"} and set(scored["objectives"]) == {"energy, time, score"}
    unscored = deployment.pareto(summary.assign(score=np.nan), np.random.default_rng(0))
    best = unscored[unscored["p_front"] > 0.9]
    assert best.groupby("model")["quantization"].agg(list).to_dict() == {"small": ["nf4"], "large": ["nf4"]}
    assert set(unscored["objectives"]) == {"energy, time"}


def test_different_work_never_beats_each_other(study):
    summary = study[0]
    longer = summary.assign(
        output_tokens=1024, energy_j_per_token=summary["energy_j_per_token"] * 10, configuration_id=lambda t: t["configuration_id"] + "x"
    )
    both = pd.concat(
        [summary, longer.assign(**{f"energy_j_per_token_{e}": summary[f"energy_j_per_token_{e}"] * 10 for e in ("low", "high")})]
    )
    found = deployment.pareto(both, np.random.default_rng(0))
    shares = found.groupby("output_tokens")["p_front"].max()
    assert (shares > 0.9).all()


def test_one_block_gives_no_probability_of_being_best_or_on_the_front():
    """A single block shows no scatter, which is not the same as having none."""
    windows, energies = experiment(TRUTH, 1, np.random.default_rng(5))
    single = summarize(windows, energies, scores=scores.of_items(items(windows, RIGHT, 200, np.random.default_rng(6))))
    assert single["score_low"].notna().all() and deployment.pareto(single, np.random.default_rng(0))["p_front"].isna().all()
    alone = {"gpu": "a100", "quantization": "nf4", "batch_size": 8, "model": "large"}
    chosen = deployment.deployment(single, {"any": {}, "alone": alone}, np.random.default_rng(0)).set_index("scenario")
    assert chosen.loc["alone", "candidates"] == 1 and chosen["confidence"].isna().all()
    assert deployment.decisions(single, np.random.default_rng(0))["confidence"].isna().all()


def test_two_blocks_do_not_widen_the_score(study):
    """Two rows alike in energy and time, whose scores differ by 3.3 standard errors of the difference: t with 1 degree would doubt it."""
    row = study[0].iloc[[0]].assign(n_blocks=2, score=0.80, score_low=0.78, score_high=0.82)
    rival = row.assign(quantization="worse", score=0.752, score_low=0.732, score_high=0.772)
    exact = {
        f"{c}{e}": 1.0 for c in ("energy_j_per_token", "throughput_tok_s", "energy_j_per_request", "requests_per_second") for e in ENDS
    }
    found = deployment.pareto(pd.concat([row, rival], ignore_index=True).assign(**exact), np.random.default_rng(0))
    assert found["p_front"].iloc[0] > 0.99 and found["p_front"].iloc[1] < 0.01


def test_a_rule_over_batches_is_no_surer_than_its_least_known_place(study):
    """Batch 8 was measured in one block only: neither order of the places may hide it."""
    one = study[0]["batch_size"].eq(8)
    for hidden in (one, ~one):
        summary = study[0].assign(n_blocks=study[0]["n_blocks"].mask(hidden, 1))
        rules = deployment.decisions(summary, np.random.default_rng(0))
        joined = rules[rules["from"] < rules["to"]]
        assert len(joined) and joined["confidence"].isna().all()
