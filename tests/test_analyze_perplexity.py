"""Perplexity of texts: plain arithmetic, intervals that cover, and a ratio that is paired on the texts."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment
from scipy import stats

from eai.analyze.selection import select
from eai.analyze.summary import of_texts, perplexity_against_baseline
from eai.stats.intervals import quotient_of_totals

WORDS = np.array([62, 58, 60, 71, 55, 64, 60, 59])
NATS = {"fp16": 4.3, "nf4": 4.5}


@pytest.fixture
def study():
    truth = Truth(quantizations={"fp16": 1.0, "nf4": 0.8}, tasks={"texts": 1.0})
    windows, energies = experiment(truth, 4, np.random.default_rng(0))
    names = windows.drop_duplicates("configuration_id").set_index("quantization")["configuration_id"]
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 0.3, len(WORDS))
    rows = [
        {"configuration_id": names[s], "block": b, "task": "texts", "item": f"t{i}", "metric": "word_perplexity_nats",
         "score": WORDS[i] * (NATS[s] + hard[i] + extra[i]), "words": WORDS[i], "tokens_in": WORDS[i] + 9}
        for s, extra in zip(NATS, rng.normal(0, 0.02, (2, len(WORDS))), strict=True) for b in (1, 2) for i in range(len(WORDS))
    ]  # fmt: skip
    return windows, energies, pd.DataFrame(rows), names


def test_perplexity_is_that_of_all_texts_together(study):
    items, names = study[2], study[3]
    found = of_texts(items).set_index("configuration_id").loc[names["fp16"]]
    once = items[(items["configuration_id"] == names["fp16"]) & (items["block"] == 1)]
    assert found["word_perplexity"] == pytest.approx(np.exp(once["score"].sum() / WORDS.sum()))
    assert found["token_perplexity"] == pytest.approx(np.exp(once["score"].sum() / (WORDS + 9).sum()))
    assert found["n_items"] == len(WORDS), "a text that ran in two blocks is one text"
    assert found["word_perplexity_low"] < found["word_perplexity"] < found["word_perplexity_high"]


def test_questions_have_no_perplexity(study):
    assert of_texts(study[2].assign(metric="acc")).empty


def test_the_ratio_is_paired_on_the_texts(study):
    """Texts differ far more than strategies do: only the pairing shows the planted exp(0.2)."""
    windows, energies, items, names = study
    row = perplexity_against_baseline(select(windows, energies), items, "fp16").iloc[0]
    assert (row["quantization"], row["n_pairs"], row["outcome"], row["metric"]) == ("nf4", len(WORDS), "higher", "word_perplexity")
    assert row["ratio_to_baseline_low"] < np.exp(0.2) < row["ratio_to_baseline_high"]
    se = np.log(row["ratio_to_baseline_high"] / row["ratio_to_baseline"]) / stats.t.ppf(0.975, len(WORDS) - 1)
    assert row["p"] == pytest.approx(2 * stats.t.sf(np.log(row["ratio_to_baseline"]) / se, len(WORDS) - 1))
    alone = of_texts(items).set_index("configuration_id")
    assert row["ratio_to_baseline"] == pytest.approx(
        alone.loc[names["nf4"], "word_perplexity"] / alone.loc[names["fp16"], "word_perplexity"]
    )
    assert alone.loc[names["nf4"], "word_perplexity_low"] < alone.loc[names["fp16"], "word_perplexity_high"], "unpaired, nothing shows"


def test_what_cannot_be_paired_says_so(study):
    windows, energies, items, names = study
    only = items[items["configuration_id"] == names["nf4"]]
    assert perplexity_against_baseline(select(windows, energies), only, "fp16").iloc[0]["reason"] == "the baseline was given no text"
    apart = items.assign(item=items["configuration_id"] + items["item"])
    row = perplexity_against_baseline(select(windows, energies), apart, "fp16").iloc[0]
    assert (row["outcome"], row["reason"]) == ("not_testable", "fewer than two texts that both were given")
    copied = items.merge(
        items[items["configuration_id"] == names["fp16"]][["block", "item", "score"]], on=["block", "item"], suffixes=("_own", "")
    )
    row = perplexity_against_baseline(select(windows, energies), copied, "fp16").iloc[0]
    assert (row["outcome"], row["ratio_to_baseline"]) == ("not_testable", 1.0)


def test_equal_sizes_give_the_t_interval_of_the_mean():
    values = np.random.default_rng(2).normal(10, 2, 12)
    found = quotient_of_totals(values * 7, np.full(12, 7.0))
    assert tuple(found)[1:] == pytest.approx(stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values)))


def test_unequal_sizes_cover_the_truth():
    """2,000 samples of 20 texts of 30 to 120 words: 95 % +- 2 sd of a proportion, and no bias to speak of."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(2000):
        words = rng.integers(30, 121, 20)
        found.append(quotient_of_totals(words * rng.normal(4.3, 0.3, 20), words))
    covered = np.mean([f.low <= 4.3 <= f.high for f in found])
    assert covered == pytest.approx(0.95, abs=0.015)
    assert np.mean([f.value for f in found]) == pytest.approx(4.3, abs=0.006)


def test_totals_that_cannot_be_taken_are_refused():
    assert np.isnan(quotient_of_totals([3.0], [2.0]).low) and quotient_of_totals([3.0], [2.0]).value == 1.5
    for values, sizes in (([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0])):
        with pytest.raises(ValueError, match="positive sizes"):
            quotient_of_totals(values, sizes)
