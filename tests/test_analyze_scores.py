"""Scores of items: what was planted comes back, paired on the items, and what cannot be compared says so."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment, items
from scipy import stats

from eai.analyze import summary as summaries
from eai.analyze.selection import select
from eai.analyze.summary import retention, summarize
from eai.errors import UserError

TRUTH = Truth(quantizations={"fp16": 1.0, "int8_pure": 0.8, "nf4": 0.7}, tasks={"arithmetic": 1.0})
RIGHT = {"fp16": 0.7, "int8_pure": 0.7, "nf4": 0.5}


@pytest.fixture(scope="module")
def study():
    windows, energies = experiment(TRUTH, 5, np.random.default_rng(0))
    return windows, energies, items(windows, RIGHT, 400, np.random.default_rng(1))


def against(windows, energies, answers, seed=0):
    return summaries.against_baseline(select(windows, energies), answers, np.random.default_rng(seed)).set_index("quantization")


def test_an_item_counts_once_however_often_it_ran(study):
    answers = study[2]
    twice = pd.concat([answers, answers.assign(block=2)])
    assert summaries.of_items(twice)["n_items"].tolist() == [400] * 3
    assert summaries.of_items(twice)["score"].tolist() == summaries.of_items(answers)["score"].tolist()
    by_hand = answers.groupby("configuration_id")["score"].mean()
    assert summaries.of_items(answers).set_index("configuration_id")["score"].to_dict() == pytest.approx(by_hand.to_dict())


def test_likelihoods_of_texts_are_no_scores(study):
    text = study[2].assign(metric="word_perplexity_nats", score=37.5)
    assert summaries.of_items(text).empty and summaries.against_baseline(select(*study[:2]), text, np.random.default_rng(0)).empty
    with pytest.raises(UserError, match=r"score 37\.5"):
        summaries.of_items(text.assign(metric="acc"))


def test_the_planted_loss_is_shown_and_the_planted_null_is_not(study):
    table = against(*study)
    assert table["outcome"].to_dict() == {"int8_pure": "inconclusive", "nf4": "lower"}
    assert table.loc["nf4", "score_retained_low"] < 0.5 / 0.7 < table.loc["nf4", "score_retained_high"]
    assert table.loc["nf4", "score_difference_low"] < -0.2 < table.loc["nf4", "score_difference_high"]
    assert table.loc["int8_pure", "eor_ratio_low"] < 1 / 0.8 < table.loc["int8_pure", "eor_ratio_high"]


def test_mcnemar_is_the_binomial_test_of_the_items_that_differ(study):
    windows, _, answers = study
    names = windows.drop_duplicates("configuration_id").set_index("configuration_id")["quantization"]
    wide = answers.assign(name=answers["configuration_id"].map(names)).pivot_table(index="item", columns="name", values="score")
    only_base, only_own = int(((wide["fp16"] == 1) & (wide["nf4"] == 0)).sum()), int(((wide["fp16"] == 0) & (wide["nf4"] == 1)).sum())
    assert against(*study).loc["nf4", "p"] == pytest.approx(stats.binomtest(only_own, only_base + only_own).pvalue)


def test_the_energy_of_an_eor_ratio_is_that_of_the_task_paired_on_block(study):
    """Twice the tokens in the same task change the cost of a token and not that of the task."""
    windows, energies, answers = study
    windows = windows.assign(tokens_out=windows["tokens_out"] * np.where(windows["quantization"] == "nf4", 2, 1))
    joined = windows.merge(energies[["attempt", "energy_j"]], on="attempt")
    wide = joined.pivot_table(index="block", columns="quantization", values="energy_j")
    ratio = np.exp(np.log(wide["nf4"] / wide["fp16"]).mean())
    row = against(windows, energies, answers).loc["nf4"]
    assert row["eor_ratio"] == pytest.approx(row["score_retained"] / ratio)


def test_nothing_is_kept_of_a_baseline_without_a_score(study):
    summary = summarize(*study[:2], scores=summaries.of_items(study[2]))
    scores = ["score", "score_low", "score_high"]
    lost = summary.assign(**{c: summary[c].mask(summary["quantization"] == "fp16") for c in scores})
    assert len(retention(summary)) == 2 and retention(lost).empty


def test_paired_items_make_the_retained_share_surer(study):
    windows, energies, answers = study
    summary = summarize(windows, energies, scores=summaries.of_items(answers))
    apart, paired = (
        retention(summary).set_index("quantization"),
        retention(summary, against(*study).reset_index()).set_index("quantization"),
    )
    width = {name: np.log(t["score_retained_high"] / t["score_retained_low"]) for name, t in (("apart", apart), ("paired", paired))}
    assert (width["paired"] < 0.8 * width["apart"]).all()
    assert paired["score_retained"].to_dict() == pytest.approx(apart["score_retained"].to_dict())


def test_a_planted_null_is_called_significant_in_at_most_five_per_cent():
    """Exact McNemar is conservative: 200 models on each of which two strategies are equal; 17 is the 97.5th percentile at 5 %."""
    rng = np.random.default_rng(2)
    windows, energies = experiment(Truth(models={f"m{i}": 1.0 for i in range(200)}, tasks={"arithmetic": 1.0}), 2, rng)
    table = against(windows, energies, items(windows, {"fp16": 0.6, "int8_pure": 0.6}, 60, rng))
    assert len(table) == 200 and (table["p"] <= 0.05).sum() <= 17


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t, base: t[t["configuration_id"] != base], "the baseline has no score"),
        (
            lambda t, base: t.assign(item=t["item"].astype(str) + (t["configuration_id"] == base).map({True: "x", False: ""})),
            "no item that both",
        ),
        (lambda t, base: t.assign(score=t["score"] * 0.5), "partial credit"),
    ],
)
def test_what_cannot_be_compared_says_why(study, change, reason):
    windows, energies, answers = study
    base = windows.loc[windows["quantization"] == "fp16", "configuration_id"].iloc[0]
    table = against(windows, energies, change(answers, base))
    assert set(table["outcome"]) == {"not_testable"} and all(reason in why for why in table["reason"])


def test_few_items_have_no_bootstrap(study):
    windows, energies, answers = study
    row = against(windows, energies, answers[answers["item"] < 19]).loc["nf4"]
    assert np.isfinite(row["score_difference"]) and np.isnan(row["score_difference_low"])


def test_two_tasks_of_one_configuration_are_refused(study):
    answers = study[2]
    with pytest.raises(UserError, match="two tasks"):
        summaries.of_items(pd.concat([answers, answers.assign(task="facts")]))
