"""Deployment matrix and Pareto front: the planted best is chosen, on the same work, with its probability."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment, items

from eai.analyze import deployment
from eai.analyze.selection import ENDS, select
from eai.analyze.summary import against_baseline, of_items, retention, summarize
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
    summary = summarize(windows, energies, scores=of_items(answers))
    return summary, retention(summary, against_baseline(select(windows, energies), answers, np.random.default_rng(2)))


@pytest.fixture(scope="module")
def chosen(study):
    return of_large(deployment.matrix(study[0], np.random.default_rng(0), study[1]))


def of_large(matrix: pd.DataFrame) -> pd.DataFrame:
    """The scenarios of the large model; the small one has its own rows."""
    assert set(matrix["model"]) == {"small", "large"}
    return matrix[matrix["model"] == "large"].set_index("scenario")


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
    assert (chosen["confidence"] > 0.95).all() and (chosen["n_cells"] == 12).all()


def test_what_a_choice_saves_and_keeps_is_what_was_planted(chosen):
    row = chosen.loc["keeps 95 % of the score"]
    assert row["energy_saved"] == pytest.approx(0.2, abs=0.02) and row["score_retained"] == pytest.approx(0.79 / 0.8, abs=0.03)
    assert deployment.KEPT < row["score_retained_low"] < row["score_retained"]


def test_nothing_is_averaged_over_models_and_the_best_batch_of_each_is_named(study):
    best = deployment.best(study[0]).set_index(["model", "gpu", "quantization"])
    assert len(best) == 12 and set(best["batch_size"]) == {8}
    own = study[0].query("model == 'small' and gpu == 'v100' and quantization == 'nf4' and batch_size == 8").iloc[0]
    assert best.loc[("small", "v100", "nf4"), "unit_energy_j"] == own["energy_j_per_token"]


def test_engines_and_numbers_of_cards_are_choices_of_their_own(study):
    """The same model on eight cards: twice the energy, never averaged with one card."""
    ends = [f"energy_j_per_token{end}" for end in ENDS]
    eight = study[0].assign(options='{"num_gpus":8}', **{c: 2 * study[0][c] for c in ends})
    both = pd.concat([study[0], eight.assign(configuration_id="8" + eight["configuration_id"])], ignore_index=True)
    found = of_large(deployment.matrix(both, np.random.default_rng(0)))
    alone = of_large(deployment.matrix(study[0], np.random.default_rng(0)))
    assert found.loc["lowest energy", "value"] == alone.loc["lowest energy", "value"] and found.loc["lowest energy", "setup"] == ""
    assert found["n_cells"].eq(24).all() and len(deployment.decisions(both, np.random.default_rng(0))["setup"].unique()) == 2


def test_a_score_no_better_than_a_guess_is_never_chosen_and_is_named(study):
    """nf4 is the cheapest and broken: 0.26 of four choices. Its interval holds the guess, on this task and on unscored work beside it."""
    columns = {"score": 0.26, "score_low": 0.24, "score_high": 0.28}
    broken = study[0].assign(task="mmlu")
    nf4 = broken["quantization"] == "nf4"
    broken = broken.assign(**{c: broken[c].mask(nf4, v) for c, v in columns.items()})
    plain = broken.assign(
        task="generate", score=np.nan, score_low=np.nan, score_high=np.nan, configuration_id="p" + broken["configuration_id"]
    )
    found = deployment.matrix(pd.concat([broken, plain], ignore_index=True), np.random.default_rng(0))
    assert len(found) == 24 and "nf4" not in set(found["quantization"])
    assert found.loc[found["candidates"] > 0, "left_out"].str.contains("nf4 \\(mmlu: score 0.26, a guess has 0.25\\)").all()
    rules = deployment.decisions(broken, np.random.default_rng(0))
    assert "nf4" not in set(rules["quantization"]) and len(rules)
    assert deployment.at_chance(broken.assign(score=0.0, score_low=0.0)).ne("").all()


def test_full_precision_at_chance_says_nothing_of_other_work(study):
    """Where even fp16 guesses, the task cannot tell who is broken: plain generation keeps all its candidates."""
    guessing = study[0].assign(task="mmlu", score=0.25, score_low=0.23, score_high=0.27)
    plain = guessing.assign(task="generate", score=np.nan, score_low=np.nan, score_high=np.nan)
    why = deployment.at_chance(pd.concat([guessing, plain], ignore_index=True))
    assert (why != "").tolist() == [True] * len(guessing) + [False] * len(plain)


def test_without_scores_nothing_keeps_the_score_and_no_share_is_stated(study):
    summary = study[0].assign(score=np.nan)
    found = of_large(deployment.matrix(summary, np.random.default_rng(0)))
    assert found.loc["keeps 95 % of the score", "candidates"] == 0 and found["score_retained"].isna().all()


def test_an_unsteady_configuration_stays_a_candidate_and_its_probability_falls(study, chosen):
    """A gate of 5 % would crown a dearer one; the interval says how sure the choice is."""
    ends = {f"energy_j_per_token_{end}": study[0]["energy_j_per_token"] * factor for end, factor in (("low", 0.5), ("high", 2.0))}
    nf4 = study[0]["quantization"] == "nf4"
    noisy = study[0].assign(gate=study[0]["gate"].mask(nf4, "rejected"), **{c: study[0][c].mask(nf4, v) for c, v in ends.items()})
    found = of_large(deployment.matrix(noisy, np.random.default_rng(0), study[1])).loc["lowest energy"]
    assert (found["quantization"], found["gate"]) == ("nf4", "rejected") and found["confidence"] < chosen.loc["lowest energy", "confidence"]


def test_other_work_beside_it_changes_nothing(study, chosen):
    plain = study[0].assign(task="generate", score=np.nan, energy_j_per_token=study[0]["energy_j_per_token"].to_numpy()[::-1])
    plain["configuration_id"] = "plain" + plain["configuration_id"]
    found = deployment.matrix(pd.concat([study[0], plain], ignore_index=True), np.random.default_rng(0), study[1])
    columns = ["gpu", "quantization", "batch_size", "energy_saved", "score_retained"]
    pd.testing.assert_frame_equal(of_large(found[found["task"] != "generate"])[columns], chosen[columns], check_dtype=False)


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
    single = summarize(windows, energies, scores=of_items(items(windows, RIGHT, 200, np.random.default_rng(6))))
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


def test_a_table_without_a_usable_row_has_no_front_and_no_choice(study):
    nothing = study[0].assign(energy_j_per_token=np.nan, energy_j_per_request=np.nan)
    for found in (deployment.pareto(nothing, np.random.default_rng(0)), deployment.matrix(nothing, np.random.default_rng(0))):
        assert found.empty
