"""Figures of advice show the numbers of their tables, hollow what may not be recommended, and say what is predicted."""

import numpy as np
import pandas as pd
import pytest

from eai import plots
from eai.advise import ask
from eai.advise.frames import frame
from eai.plots import advice
from eai.predict import clean_rows, fold_errors


@pytest.fixture(scope="module")
def ranked() -> pd.DataFrame:
    return frame(ask.optimize(model="qwen2-7b", gpu="rtx5090", max_latency_s=10)["ranking"])


def test_a_frame_holds_every_quantity_with_its_ends(ranked):
    assert (ranked["energy_j_per_1k_tok_low"] < ranked["energy_j_per_1k_tok"]).all()
    assert {"quantization", "batch_size", "accuracy", "acceptable", "p_best", "basis", "evidence"} <= set(ranked)


def test_fold_errors_are_drawn_as_ratios():
    errors = fold_errors(clean_rows("gross", []), "gpu", "log_linear")
    _, ax = plots.figure()
    advice.fold_errors(errors, ax)
    (points,) = ax.collections
    assert sorted(points.get_offsets()[:, 1]) == pytest.approx(sorted(np.exp(errors["log_error"].dropna())))
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert labels[0].endswith("(19 refused)") and ax.get_yscale() == "log"


def test_the_ranking_is_hollow_where_accuracy_bars_it(ranked):
    _, ax = plots.figure()
    advice.ranking(ranked, ax)
    faces = [container.lines[0].get_markerfacecolor() for container in ax.containers]
    assert [face == "white" for face in faces] == [not ok for ok in ranked["acceptable"].head(12)] and "white" in faces
    assert "predicted" in " ".join(t.get_text() for t in ax.texts)


def test_choices_are_energy_against_time(ranked):
    _, ax = plots.figure()
    advice.choices(ranked, ax)
    drawn = np.vstack([c.get_offsets() for c in ax.collections])
    wanted = ranked.sort_values("acceptable", ascending=False, kind="stable")[["latency_s", "energy_j_per_1k_tok"]]
    assert np.asarray(drawn) == pytest.approx(wanted.to_numpy(float))


def test_shares_fill_their_bars():
    _, ax = plots.figure()
    advice.shares({"cost_usd": {"energy": 0.25, "price": 0.75}, "carbon_kg": {"energy": 0.4, "carbon": 0.6}}, ax)
    assert [bar.get_width() for bar in ax.patches] == [0.25, 0.75, 0.4, 0.6]
    assert ax.patches[1].get_x() == 0.25 and len(ax.get_legend().get_texts()) == 3
