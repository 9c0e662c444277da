"""Drawings and power curves say what their tables say."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment
from scipy import stats

from eai import plots
from eai.analyze import comparison
from eai.analyze.comparison import block_ratios
from eai.analyze.deployment import decisions
from eai.analyze.selection import select
from eai.analyze.summary import summarize
from eai.errors import UserError

TRUTH = Truth(quantizations={"fp16": 1.0, "int8_pure": 0.8}, batches={1: 1.0, 8: 0.2}, synergy={("a100", "int8_pure"): 1.0}, window_sd=0.02)


@pytest.fixture(scope="module")
def tables():
    return experiment(TRUTH, 8, np.random.default_rng(0))


def test_the_tree_has_a_leaf_a_rule_with_its_strategy_and_probability(tables):
    rules = decisions(summarize(*tables), np.random.default_rng(0)).assign(basis="simulated")
    _, ax = plots.figure()
    leaves = plots.decision_tree(rules, ax)
    words = [t.get_text() for t in ax.texts]
    assert len(rules) == 1 and len(leaves) == 2 and words == ["int8_pure", "cheapest, probability > 99 %", "simulated"]


def test_a_tree_asks_only_what_the_answer_depends_on():
    """Two cards with one answer, a task that differs by batch: one fork on the task, one on the batch below it, none on the card."""
    rule = {"gpu": "a", "model": "m", "weights": "published", "input_tokens": 0, "output_tokens": 0, "confidence": 0.9}
    rows = [("a", "sums", 1, 2, "nf4"), ("a", "sums", 4, 8, "bf16"), ("b", "sums", 1, 2, "nf4"), ("b", "sums", 4, 8, "bf16")]
    rows += [("a", "facts", 1, 8, "nf4"), ("b", "facts", 1, 8, "nf4")]
    table = pd.DataFrame([rule | dict(zip(("gpu", "task", "from", "to", "quantization"), row, strict=True)) for row in rows])
    _, ax = plots.figure()
    leaves = plots.decision_tree(table, ax)
    words = [t.get_text() for t in ax.texts]
    assert len(leaves) == 3 and "task?" in words and "batch size?" in words and "hardware?" not in words
    assert {"1 to 2", "4 to 8", "sums", "facts"} <= set(words) and words.count("nf4") == 2 and words.count("bf16") == 1


def test_a_tree_of_many_rules_says_how_many_are_not_drawn():
    rule = {
        "gpu": "a",
        "model": "m",
        "input_tokens": 1,
        "output_tokens": 1,
        "task": "t",
        "from": 1,
        "to": 1,
        "quantization": "fp16",
        "confidence": 0.9,
    }
    _, ax = plots.figure()
    leaves = plots.decision_tree(pd.DataFrame([rule | {"gpu": f"g{i:02}", "quantization": f"q{i % 2}"} for i in range(20)]), ax)
    assert len(leaves) == 16
    assert [t.get_text() for t in ax.texts][-1] == "16 of 20 leaves"


def test_the_framework_leads_from_choices_to_guidance():
    _, ax = plots.figure()
    boxes = plots.framework(ax)
    bold = [t.get_text() for t in ax.texts if t.get_fontweight() == "bold"]
    assert bold == ["choices", "measuring", "metrics", "comparison", "guidance"] and len(boxes) == 5


def test_power_curves_are_the_simulated_share_of_shown_ratios(tables):
    """Two windows of sd 0.02 differ by 0.02 sqrt 2; the family is the two comparisons."""
    table = comparison.power_curves(block_ratios(select(*tables)), basis="simulated")
    assert table["family"].unique().tolist() == [2] and table["sd_log"].iloc[0] == pytest.approx(0.02 * 2**0.5, rel=0.35)
    sd, rng = table["sd_log"].iloc[0], np.random.default_rng(1)
    for n, ratio in ((3, 0.9), (5, 0.95), (10, 0.98), (5, 1.0)):
        d = rng.normal(np.log(ratio), sd, (20_000, n))
        shown = (stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.025).mean()
        row = table[(table["n"] == n) & (table["ratio"] == ratio)].iloc[0]
        assert row["power"] == pytest.approx(shown, abs=0.012)


def test_power_curves_are_drawn_one_for_each_number_of_blocks(tables):
    table = comparison.power_curves(block_ratios(select(*tables)), basis="simulated")
    _, ax = plots.figure()
    plots.power_curves(table, ax)
    assert [t.get_text() for t in ax.texts] == ["3 blocks", "5 blocks", "10 blocks", "20 blocks", "simulated"]
    lines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 4 and all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_one_block_or_constants_have_no_power_curve():
    one = block_ratios(select(*experiment(TRUTH, 1, np.random.default_rng(0))))
    with pytest.raises(UserError, match="no spread of paired blocks"):
        comparison.power_curves(one)
    with pytest.raises(UserError, match="do not vary"):
        comparison.power_curves(block_ratios(select(*experiment(Truth(window_sd=0.0, block_sd=0.0), 3, np.random.default_rng(0)))).round(6))
