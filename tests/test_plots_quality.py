"""Pictures of quality, choice and the roof say what their tables say, and say what was not measured."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment, items

from eai import plots
from eai.analyze import deployment, roofline
from eai.analyze.scores import against_baseline, of_items, retention
from eai.analyze.selection import select
from eai.analyze.summary import summarize

TRUTH = Truth(gpus={"a100_pcie": 0.7, "v100_pcie": 1.5}, models={"qwen2.5-7b-instruct": 1.0}, quantizations={"fp16": 1.0, "int8_pure": 0.8})
RIGHT = {"fp16": 0.8, "int8_pure": 0.7}


@pytest.fixture(scope="module")
def study():
    windows, energies = experiment(TRUTH, 5, np.random.default_rng(0))
    answers = items(windows, RIGHT, 200, np.random.default_rng(1))
    chosen = select(windows, energies)
    return chosen, summarize(windows, energies, scores=of_items(answers)), against_baseline(chosen, answers, np.random.default_rng(2))


@pytest.fixture(scope="module")
def front(study):
    return deployment.pareto(study[1], np.random.default_rng(0))


def words(ax):
    return [t.get_text() for t in ax.texts]


def test_pareto_points_carry_their_probability_and_the_surest_their_name(front):
    _, ax = plots.figure()
    points = plots.pareto(front, ax)[0]
    drawn = dict(zip(points.get_offsets()[:, 1].tolist(), points.get_array().tolist(), strict=True))
    assert drawn == pytest.approx(dict(zip(front["unit_energy_j"], front["p_front"], strict=True)))
    entries = [t.get_text() for t in ax.figure.legends[0].get_texts()]
    assert entries[:2] == ["1  fp16, a100_pcie: > 99 %", "2  int8_pure, a100_pcie: > 99 %"]  # best score, least energy
    assert len(entries) == (front["p_front"] >= 0.05).sum()
    assert plots.findings.pareto(front).startswith("2 of 4 configurations are surely beaten by nothing: ")


def test_a_front_without_scores_says_so(front):
    unscored = front.assign(score=np.nan, objectives="energy, time")
    _, axes = plots.figure(1, 2)
    plots.pareto(unscored, axes[0])
    plots.quality(unscored, axes[1])
    assert "(energy and time; no score)" in plots.findings.pareto(unscored)
    assert words(axes[1]) == ["no score was measured"]


def test_quality_draws_each_score_with_its_interval(front):
    _, ax = plots.figure()
    bars, points = plots.quality(front, ax)[:2]
    assert sorted(points.get_offsets()[:, 1]) == pytest.approx(sorted(front["score"]))
    ends = sorted(y for segment in bars.lines[2][0].get_segments() for y in segment[:, 1])
    assert ends == pytest.approx(sorted(front[["score_low", "score_high"]].to_numpy().ravel()))


def test_retention_is_drawn_in_per_cent_with_both_intervals(study):
    table = retention(study[1], study[2])
    _, ax = plots.figure()
    bars = plots.retention(table, ax)[2]
    assert list(bars.lines[0].get_xdata()) == pytest.approx(list(100 * table["energy_saved"]))
    assert list(bars.lines[0].get_ydata()) == pytest.approx(list(100 * table["score_retained"]))
    ends = sorted(y for segment in bars.lines[2][1].get_segments() for y in segment[:, 1])
    assert ends == pytest.approx(sorted(100 * table[["score_retained_low", "score_retained_high"]].to_numpy().ravel()))
    text = plots.caption(table, scores=True)
    assert "Scores over 200 items" in text and "n = 5 blocks" in text and "items" not in plots.caption(table)
    _, ax = plots.figure()
    plots.retention(table[:0], ax)
    assert words(ax) == ["no score was measured"]


def test_many_points_get_the_median_of_each_strategy(study):
    table = pd.concat([retention(study[1], study[2])] * 40)
    _, ax = plots.figure()
    plots.retention(table, ax)
    large = next(line for line in ax.lines if line.get_markersize() == 9)
    assert large.get_xdata()[0] == pytest.approx(100 * table["energy_saved"].median())
    assert ax.get_title(loc="left").startswith("80 configurations; large: median")


def test_the_matrix_is_its_table_in_words(study):
    kept = retention(study[1], study[2])
    table = deployment.matrix(study[1], np.random.default_rng(0), kept)
    row = table.set_index("scenario").loc["lowest energy"]
    said = plots.matrix_table(table).set_index("scenario").loc["lowest energy"].tolist()
    assert said[:3] == ["a100_pcie, int8_pure, 1", f"{100 * row['energy_saved']:.0f} %", f"{100 * row['score_retained']:.1f} %"]
    none = table.assign(candidates=0)
    assert set(plots.matrix_texts(none.iloc[0].to_dict())[1:3]) == {"nothing measured meets it", ""}
    alone = table.iloc[0].to_dict() | {"candidates": 1, "confidence": 1.0}
    assert plots.matrix_texts(alone)[-1] == "the only candidate"


def test_the_roofline_draws_points_under_the_roofs_of_their_cards(study):
    table = roofline.roofline(study[0])
    _, ax = plots.figure()
    plots.roofline(table, ax)
    drawn = sorted(y for c in ax.containers for y in c.lines[0].get_ydata())
    scale = 1e12 if "Tflop" in ax.get_ylabel() else 1e9
    assert drawn == pytest.approx(sorted(table["achieved_flop_s"] / scale))
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    share = 100 * table.loc[(table["gpu"] == "a100_pcie") & (table["quantization"] == "fp16"), "share_of_roof"].iloc[0]
    assert f"fp16, a100_pcie: whole {share:.0f} %" in legend and ax.get_legend().get_title().get_text() == "share of the roof"
    assert any("312 Tflop/s, 1555 GB/s" in w for w in legend) and "simulated" in words(ax)
    roofs = [line for line in ax.lines if line.get_color() == "0.4"]
    assert max(max(line.get_ydata()) for line in roofs) == pytest.approx(table["peak_flop_s"].max() / scale)


def test_no_roof_is_invented_and_what_was_not_counted_is_named(study):
    rows = study[0].rows
    cpu = type(study[0])(rows.assign(gpu="cpu"), study[0].excluded, "cpu_package", "estimated", "gross")
    _, axes = plots.figure(1, 3)
    plots.roofline(roofline.roofline(cpu), axes[0])
    assert "no peak is known for cpu: no roof is drawn" in axes[0].get_title(loc="left")
    assert not [line for line in axes[0].lines if line.get_color() == "0.4"]
    gsm8k = type(cpu)(
        rows.assign(task=np.where(rows["gpu"] == "v100_pcie", "gsm8k", "generate")), cpu.excluded, "gpu", "simulated", "gross"
    )
    plots.roofline(roofline.roofline(gsm8k), axes[1])
    assert "2 configurations not counted: the lengths of gsm8k vary" in axes[1].get_title(loc="left")
    faster = roofline.roofline(study[0]).assign(share_of_roof_low=1.2)
    plots.roofline(faster, axes[2])
    assert "4 points lie above their roof" in axes[2].get_title(loc="left")


def test_a_caption_travels_with_its_file(front, tmp_path):
    fig, ax = plots.figure()
    plots.pareto(front, ax)
    text = plots.caption(front, plots.DRAWN, scores=True)
    svg = plots.save(fig, tmp_path / "a.svg", text).read_text()
    assert "<dc:description>n = 5 blocks a point. Scores over 200 items" in svg and "Probabilities over draws" in svg
    assert b"/Subject" in plots.save(fig, tmp_path / "a.pdf", text).read_bytes()
    assert b"Description" in plots.save(fig, tmp_path / "a.png", text).read_bytes()


def test_a_band_shows_where_the_windows_were_open(study):
    windows = study[0].rows[["attempt", "block", "quantization", "basis"]].head(2).assign(start_s=[10.0, 40.0], stop_s=[15.0, 44.0])
    t = np.arange(8.0)
    reading = {"block": 1, "device_id": "d", "field": "power_instant_w", "value": 200 + t}
    parts = [
        pd.DataFrame(reading | {"attempt": a, "t_s": t + s - 1.5}) for a, s in zip(windows["attempt"], windows["start_s"], strict=True)
    ]
    _, ax = plots.figure()
    plots.power_traces(pd.concat(parts), windows.assign(block=1), ax)
    assert list(ax.lines[0].get_xdata()) == pytest.approx(list(t - 1.5))
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == (0.0, 4.0) and words(ax) == ["simulated"]


def test_points_of_unknown_probability_are_hollow_and_named_with_a_question_mark(front):
    """Nobody can say how sure a point of one block is: it is drawn, without a colour, after those that are known."""
    some = front.assign(p_front=front["p_front"].where(front.index != front["p_front"].idxmax()))
    for table in (some, front.assign(p_front=np.nan)):
        unknown = int(table["p_front"].isna().sum())
        _, ax = plots.figure()
        points = plots.pareto(table, ax)[0]
        assert np.ma.count(points.get_offsets()) == 2 * len(table)
        assert (points.to_rgba(points.get_array())[:, 3] == 0).sum() == unknown
        entries = [t.get_text() for t in ax.figure.legends[0].get_texts()]
        assert [e for e in entries if e.endswith(": ?")] == entries[-unknown:]
