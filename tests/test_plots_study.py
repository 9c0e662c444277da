"""The study's pictures draw what their tables say."""

import numpy as np
import pytest
from planted import Truth, experiment

from eai import plots
from eai.analyze import comparison, summary
from eai.analyze.selection import select
from eai.analyze.summary import summarize

TRUTH = Truth(
    gpus={"a100": 0.7, "v100": 1.5},
    quantizations={"fp16": 1.0, "int8_pure": 0.8},
    batches={1: 1.0, 8: 0.2},
    synergy={("v100", "int8_pure"): 1.3},
)


@pytest.fixture(scope="module")
def study_tables():
    windows, energies = experiment(TRUTH, 5, np.random.default_rng(0))
    return select(windows, energies), summarize(windows, energies)


def test_the_heatmap_prints_every_number_and_what_is_missing(study_tables):
    table = study_tables[1].pivot_table(index="gpu", columns="quantization", values="energy_j_per_token")
    table.iloc[0, 0] = np.nan
    _, ax = plots.figure()
    plots.heatmap(table, ax, basis=study_tables[1])
    words = [t.get_text() for t in ax.texts]
    assert sorted(words) == sorted(["not\nmeasured", "simulated", *(f"{v:.3g}" for v in table.to_numpy().ravel()[1:])])


def test_batch_scaling_has_a_line_a_strategy_and_gpu(study_tables):
    _, ax = plots.figure()
    lines = plots.batch_scaling(study_tables[1], ax)[:4]
    assert [t.get_text() for t in ax.texts] == ["fp16, a100", "fp16, v100", "int8_pure, a100", "int8_pure, v100", "simulated"]
    assert all(list(c.lines[0].get_xdata()) == [1, 8] for c in lines)
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_synergy_draws_the_planted_interaction_and_marks_the_untestable(study_tables):
    table = comparison.synergy(comparison.block_ratios(study_tables[0]), "gpu", "a100")
    untestable = table.assign(synergy_low=np.nan)
    _, axes = plots.figure(1, 2)
    drawn = plots.synergy(table, axes[0])
    assert drawn[1].lines[0].get_xdata()[0] == pytest.approx(1.3, rel=0.05)
    plots.synergy(untestable, axes[1])
    assert axes[1].texts[0].get_text().endswith("not testable")


def test_the_budget_has_the_terms_that_were_stated(study_tables):
    chosen = select(*experiment(Truth(gain=1.05), 5, np.random.default_rng(1)))
    table = summary.budgets(chosen)
    gain = 0.05
    assert table["gain"].tolist() == pytest.approx([gain] * 2)
    assert table["absolute"].to_numpy() == pytest.approx(np.hypot(table["blocks"], gain).to_numpy())
    _, ax = plots.figure()
    bars = plots.budget(table, ax)
    assert [b.get_label() for b in bars[:2]] == ["blocks", "gain"] and ax.texts[0].get_text() == "simulated"
    assert bars[1].get_offsets()[:, 0].tolist() == pytest.approx([5.0, 5.0])
