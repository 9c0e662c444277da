"""Figures: what is drawn is what the table says, doubts are written on it, files never change, and no two texts cover each other."""

import base64
import hashlib
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from planted import Truth, experiment, items
from scipy import stats

from eai import plots
from eai.analyze import comparison, deployment, roofline, summary
from eai.analyze.comparison import block_ratios, compare
from eai.analyze.deployment import decisions
from eai.analyze.selection import select
from eai.analyze.summary import against_baseline, of_items, retention, summarize
from eai.errors import UserError
from eai.plots import style

TRUTH = Truth(quantizations={"fp16": 1.0, "int8_pure": 0.8, "nf4": 1.0}, batches={1: 1.0, 8: 0.2})


@pytest.fixture(scope="module")
def tables():
    windows, energies = experiment(TRUTH, 5, np.random.default_rng(0))
    windows.loc[(windows["quantization"] == "nf4") & (windows["batch_size"] == 8), ["status", "reason"]] = ["oom", "out of memory"]
    return summarize(windows, energies), compare(windows, energies)


def texts(ax):
    return [t.get_text() for t in ax.texts]


def points(ax):
    return [c for c in ax.collections if isinstance(c, PathCollection) and len(c.get_offsets())]


def test_cost_draws_every_value_with_its_interval(tables):
    summary, _ = tables
    _, ax = plots.figure()
    plots.cost(summary, ax)
    drawn = [x for c in points(ax) for x in c.get_offsets()[:, 0]]
    assert sorted(drawn) == pytest.approx(sorted(summary["energy_j_per_token"].dropna()))
    ends = [x for c in ax.containers for bar in c.lines[2] for segment in bar.get_segments() for x in segment[:, 0]]
    assert sorted(ends) == pytest.approx(sorted(summary[["energy_j_per_token_low", "energy_j_per_token_high"]].dropna().to_numpy().ravel()))
    assert "[J" in ax.get_xlabel() and [t.get_text() for t in ax.get_yticklabels()] == ["fp16", "int8_pure", "nf4"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["batch 1", "batch 8"]


def test_a_task_is_named_without_the_lengths_it_does_not_have():
    rows = [("facts", 0, 0), ("generate", 64, 8), ("generate", 64, 24)]
    table = pd.DataFrame(rows, columns=["task", "input_tokens", "output_tokens"]).assign(quantization="fp32", options="{}")
    assert style.names(table) == ["fp32, facts", "fp32, 8 tok out, generate", "fp32, 24 tok out, generate"]


def test_a_simulated_table_is_watermarked_and_a_measured_one_is_not(tables):
    summary, _ = tables
    for table, words in ((summary, ["simulated"]), (summary.assign(basis="measured"), [])):
        _, ax = plots.figure()
        plots.throughput(table, ax)
        assert texts(ax) == words
    assert style.doubts(summary.assign(basis="estimated", weights="random")) == ["estimated", "random weights"]


def test_a_rejected_point_is_hollow(tables):
    summary, _ = tables
    _, ax = plots.figure()
    plots.cost(summary.assign(gate="rejected"), ax)
    faces = [to_hex(color) for c in points(ax) for color in c.get_facecolors()]
    assert set(faces) == {"#ffffff"}


def test_an_axis_is_cut_only_on_a_log_scale(tables):
    summary, _ = tables
    for factor, scale in ((1, "linear"), (100, "log")):
        table = summary.dropna(subset="energy_j_per_token").assign(energy_j_per_token=[1.0 * factor, 1.1, 1.2, 1.3, 1.4])
        _, ax = plots.figure()
        plots.cost(table.drop(columns=["energy_j_per_token_low", "energy_j_per_token_high"]), ax)
        assert ax.get_xscale() == scale and (scale == "log" or ax.get_xlim()[0] == 0)


def test_nothing_usable_is_said_on_the_axes(tables):
    summary, comparisons = tables
    for draw, table in ((plots.cost, summary[summary["n_blocks"] == 0]), (plots.forest, comparisons[:0])):
        _, ax = plots.figure()
        draw(table, ax)
        assert texts(ax)[0] in ("no usable window", "nothing to compare")


def test_forest_has_a_line_a_comparison_and_says_what_is_not_testable(tables):
    _, comparisons = tables
    _, ax = plots.figure()
    plots.forest(comparisons, ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["int8_pure, batch 1", "int8_pure, batch 8", "nf4, batch 1", "nf4, batch 8"]
    assert len(ax.containers) == 3
    assert any("not testable: no usable block" in t for t in texts(ax))
    drawn = [c.lines[0].get_xdata()[0] for c in ax.containers]
    assert drawn == pytest.approx(comparisons["ratio_to_baseline"].dropna())
    bars = np.array([c.lines[2][0].get_segments()[0][:, 0] for c in ax.containers])
    assert bars == pytest.approx(comparisons[["ratio_to_baseline_low", "ratio_to_baseline_high"]].dropna().to_numpy(float))


def test_tokens_and_items_never_share_an_axis(tables):
    """Two tasks, one of them counted by the item: a panel each, with its own unit."""
    summary, _ = tables
    items = summary.assign(task="facts", input_tokens=0, output_tokens=0)
    fig, ax = plots.figure()
    plots.cost(pd.concat([summary, items], ignore_index=True), ax)
    labels = [each.get_xlabel() for each in fig.axes]
    assert len(labels) == 2 and "token" in labels[0] and "item" in labels[1]
    assert [each.get_title(loc="left") for each in fig.axes] == ["generate", "facts"]


@pytest.mark.parametrize("backend", ["agg", "inline"])
def test_a_figure_shows_itself_as_an_image(tables, tmp_path, capsys, backend):
    """Under any backend a notebook gets a PNG: the figure has its own, and the formatter of the inline backend knows its class."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.core.pylabtools import select_figure_formats

    shell = InteractiveShell()
    if backend == "inline":
        select_figure_formats(shell, {"png"})
    fig, ax = plots.figure()
    plots.cost(tables[0], ax)
    data, _ = shell.display_formatter.format(fig)
    png = data["image/png"] if isinstance(data["image/png"], bytes) else base64.b64decode(data["image/png"])
    assert png.startswith(b"\x89PNG")
    InteractiveShell.clear_instance()


def test_show_puts_the_finding_above_the_figure_saves_and_prints_it(tables, tmp_path, capsys):
    fig, ax = plots.figure()
    plots.cost(tables[0], ax)
    plots.show(fig, tmp_path / "a.svg", plots.findings.cost(tables[0]))
    said = capsys.readouterr().out
    assert said.startswith("Cheapest: int8_pure, batch 8, ") and fig.get_suptitle().replace("\n", " ") in said
    assert (tmp_path / "a.svg").exists()


def test_a_dollar_in_a_name_is_text(tables, tmp_path):
    """Two dollars in a model's name would be a formula: `$$` raises, `$a$` loses its dollars."""
    odd = pd.concat([tables[0], tables[0].assign(model="$\\frac{a}$")], ignore_index=True)
    fig, ax = plots.figure()
    plots.cost(odd, ax)
    plots.message(fig, "costs $x$ and $\\frac$")
    text = plots.save(fig, tmp_path / "a.svg").read_text()
    assert "$\\frac{a}$" in text and "costs $x$" in text


def test_a_forest_read_back_from_csv_is_the_same(tables, tmp_path):
    _, comparisons = tables
    comparisons.to_csv(tmp_path / "c.csv", index=False)
    _, ax = plots.figure()
    plots.forest(pd.read_csv(tmp_path / "c.csv"), ax)
    assert any("not testable: no usable block" in t for t in texts(ax))


def test_captions_say_n_interval_and_basis(tables):
    summary, comparisons = tables
    words = plots.caption(summary)
    assert "n = 5 blocks a point; 1 without blocks" in words and "95 % t interval" in words and "Basis: simulated" in words
    assert "paired blocks" in plots.caption(comparisons)
    assert "time does not" in plots.caption(summary.assign(basis="estimated"))


def test_power_is_drawn_only_where_it_was_sensed(tables):
    windows, _ = experiment(TRUTH, 1, np.random.default_rng(1))
    t = np.arange(5.0)
    reading = {"block": 1, "device_id": "d", "field": "power_instant_w", "t_s": 100 + t, "value": 200 + t}
    rows = [pd.DataFrame(reading | {"attempt": a}) for a in windows["attempt"]]
    _, ax = plots.figure()
    plots.power_traces(pd.concat(rows), windows, ax)
    assert len(ax.lines) == len(windows) and list(ax.lines[0].get_xdata()) == list(t)
    _, ax = plots.figure()
    assert texts(ax) == [] and plots.power_traces(rows[0].assign(field="cpu_time_s"), windows, ax)
    assert texts(ax) == ["no sensor read power here"]


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_files_are_the_same_byte_for_byte(tables, tmp_path, suffix):
    def digest(name):
        fig, ax = plots.figure()
        plots.cost(tables[0], ax)
        return hashlib.sha256(plots.save(fig, tmp_path / f"{name}.{suffix}").read_bytes()).hexdigest()

    assert digest("a") == digest("b")


def test_another_kind_of_file_is_refused(tmp_path):
    fig, _ = plots.figure()
    with pytest.raises(UserError, match=r"svg, \.pdf or \.png"):
        plots.save(fig, tmp_path / "a.docx")


def test_the_palette_stays_apart_for_the_colour_blind():
    """Okabe and Ito's colours, simulated as deuteranopia (Vienot et al. 1999 matrix on linear RGB), differ pairwise."""
    matrix = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in style.PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = linear @ matrix.T
    distances = [np.linalg.norm(seen[i] - seen[j]) for i in range(len(seen)) for j in range(i)]
    assert min(distances) > 0.05


def test_no_two_of_64_series_look_alike():
    looks = [style.look(i) for i in range(64)]
    assert len(set(looks)) == 64 and {color for color, _ in looks[:8]} == set(style.PALETTE)


def test_options_are_named_only_where_they_tell_two_series_apart():
    rows = [("arithmetic", '{"limit":40}', 1), ("arithmetic", '{"limit":40}', 4), ("generate", "{}", 1), ("generate", "{}", 4)]
    table = pd.DataFrame(rows, columns=["task", "options", "batch"]).assign(quantization="fp32")
    assert [name for name, _ in style.series(table)] == ["arithmetic", "generate"]
    loads = table.assign(task="generate", options=['{"load":"closed:1"}', '{"load":"closed:4"}'] * 2)
    assert [name for name, _ in style.series(loads)] == ["load closed:1", "load closed:4"]


def test_the_finding_of_the_ratios_counts_every_outcome(tables):
    said = plots.findings.forest(tables[1])
    counts = tables[1]["outcome"].value_counts()
    assert said.startswith("Of 4 comparisons with fp16: 2 lower") and "1 not testable" in said and counts["not_testable"] == 1


EIGHT_BLOCKS = Truth(
    quantizations={"fp16": 1.0, "int8_pure": 0.8}, batches={1: 1.0, 8: 0.2}, synergy={("a100", "int8_pure"): 1.0}, window_sd=0.02
)


@pytest.fixture(scope="module")
def eight():
    return experiment(EIGHT_BLOCKS, 8, np.random.default_rng(0))


def test_the_tree_has_a_leaf_a_rule_with_its_strategy_and_probability(eight):
    rules = decisions(summarize(*eight), np.random.default_rng(0)).assign(basis="simulated")
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


def test_power_curves_are_the_simulated_share_of_shown_ratios(eight):
    """Two windows of sd 0.02 differ by 0.02 sqrt 2; the family is the two comparisons."""
    table = comparison.power_curves(block_ratios(select(*eight)), basis="simulated")
    assert table["family"].unique().tolist() == [2] and table["sd_log"].iloc[0] == pytest.approx(0.02 * 2**0.5, rel=0.35)
    sd, rng = table["sd_log"].iloc[0], np.random.default_rng(1)
    for n, ratio in ((3, 0.9), (5, 0.95), (10, 0.98), (5, 1.0)):
        d = rng.normal(np.log(ratio), sd, (20_000, n))
        shown = (stats.ttest_1samp(d, 0, axis=1).pvalue <= 0.025).mean()
        row = table[(table["n"] == n) & (table["ratio"] == ratio)].iloc[0]
        assert row["power"] == pytest.approx(shown, abs=0.012)


def test_power_curves_are_drawn_one_for_each_number_of_blocks(eight):
    table = comparison.power_curves(block_ratios(select(*eight)), basis="simulated")
    _, ax = plots.figure()
    plots.power_curves(table, ax)
    assert [t.get_text() for t in ax.texts] == ["3 blocks", "5 blocks", "10 blocks", "20 blocks", "simulated"]
    lines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert len(lines) == 4 and all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_one_block_or_constants_have_no_power_curve():
    one = block_ratios(select(*experiment(EIGHT_BLOCKS, 1, np.random.default_rng(0))))
    with pytest.raises(UserError, match="no spread of paired blocks"):
        comparison.power_curves(one)
    with pytest.raises(UserError, match="do not vary"):
        comparison.power_curves(block_ratios(select(*experiment(Truth(window_sd=0.0, block_sd=0.0), 3, np.random.default_rng(0)))).round(6))


SCORED = Truth(
    gpus={"a100_pcie": 0.7, "v100_pcie": 1.5}, models={"qwen2.5-7b-instruct": 1.0}, quantizations={"fp16": 1.0, "int8_pure": 0.8}
)
RIGHT = {"fp16": 0.8, "int8_pure": 0.7}


@pytest.fixture(scope="module")
def study():
    windows, energies = experiment(SCORED, 5, np.random.default_rng(0))
    answers = items(windows, RIGHT, 200, np.random.default_rng(1))
    chosen = select(windows, energies)
    return chosen, summarize(windows, energies, scores=of_items(answers)), against_baseline(chosen, answers, np.random.default_rng(2))


@pytest.fixture(scope="module")
def front(study):
    return deployment.pareto(study[1], np.random.default_rng(0))


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
    assert texts(axes[1]) == ["no score was measured"]


def test_quality_draws_each_score_with_its_interval(front):
    _, ax = plots.figure()
    bars, points = plots.quality(front, ax)[:2]
    assert sorted(points.get_offsets()[:, 1]) == pytest.approx(sorted(100 * front["score"]))
    ends = sorted(y for segment in bars.lines[2][0].get_segments() for y in segment[:, 1])
    assert ends == pytest.approx(sorted(100 * front[["score_low", "score_high"]].to_numpy().ravel()))


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
    assert texts(ax) == ["no score was measured"]


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
    assert said[:3] == ["a100_pcie, int8_pure, batch 1", f"{100 * row['energy_saved']:.0f} %", f"{100 * row['score_retained']:.1f} %"]
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
    assert any("312 Tflop/s, 1,555 GB/s" in w for w in legend) and "simulated" in texts(ax)
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
    assert (band.get_x(), band.get_width()) == (0.0, 4.0) and texts(ax) == ["simulated"]


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


CROSSED = Truth(
    gpus={"a100": 0.7, "v100": 1.5},
    quantizations={"fp16": 1.0, "int8_pure": 0.8},
    batches={1: 1.0, 8: 0.2},
    synergy={("v100", "int8_pure"): 1.3},
)


@pytest.fixture(scope="module")
def study_tables():
    windows, energies = experiment(CROSSED, 5, np.random.default_rng(0))
    return select(windows, energies), summarize(windows, energies)


def test_the_heatmap_prints_every_number_and_what_is_missing(study_tables):
    table = study_tables[1].pivot_table(index="gpu", columns="quantization", values="energy_j_per_token")
    table.iloc[0, 0] = np.nan
    _, ax = plots.figure()
    plots.heatmap(table, ax, basis=study_tables[1])
    words = [t.get_text() for t in ax.texts]
    assert sorted(words) == sorted(["not\nmeasured", "simulated", *(style.number(v) for v in table.to_numpy().ravel()[1:])])


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


CARDS = ("a100_pcie_40gb", "rtx4090", "rtx3090ti", "rtx4060ti_16gb", "v100_sxm_32gb", "simulated_a100_pcie_80gb")
MODELS = ("qwen2.5-7b-instruct", "deepseek-r1-distill-qwen-7b", "mistral-7b-instruct-v0.2", "yi-6b")
STRATEGIES = {"fp16": 1.0, "int8_pure": 0.8, "nf4": 1.1, "fp16_mixed": 0.95}
SIZES = [(1, 1, 2), (6, 4, 3)]


def of(cards: int, models: int, batches: int):
    """Windows and energies of so many cards, models and batch sizes."""
    truth = Truth(
        gpus={card: 1.0 + 0.2 * i for i, card in enumerate(CARDS[:cards])},
        models={model: 1.0 + 0.1 * i for i, model in enumerate(MODELS[:models])},
        quantizations=STRATEGIES,
        batches={4**i: 0.4**i for i in range(batches)},
    )
    return experiment(truth, 3, np.random.default_rng(0))


@pytest.fixture(scope="module", params=SIZES, ids=lambda s: "x".join(map(str, s)))
def drawn_from(request):
    windows, energies = of(*request.param)
    return summarize(windows, energies), select(windows, energies), compare(windows, energies)


def boxes(fig) -> list[tuple[Text, np.ndarray]]:
    """Every text that is seen with its left, bottom, right, top [px]."""
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    hidden = {id(label) for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) for label in beyond(axis)}
    seen = [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t, t.get_window_extent(renderer).extents) for t in seen if id(t) not in hidden and in_shown_axes(t)]


def in_shown_axes(text: Text) -> bool:
    """The axis of axes that are switched off is not drawn."""
    return not any(ax.axison is False and text in (*tick_texts(ax), ax.xaxis.label, ax.yaxis.label) for ax in text.get_figure().axes)


def tick_texts(ax) -> list[Text]:
    ticks = [t for axis in (ax.xaxis, ax.yaxis) for t in (*axis.get_major_ticks(), *axis.get_minor_ticks())]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def beyond(axis) -> list[Text]:
    """The labels of ticks beyond the limits of their axis, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    span = 1e-9 * (high - low)
    ticks = [t for t in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if not low - span <= t.get_loc() <= high + span]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def faults(fig) -> list[str]:
    """What covers what by more than a pixel, and what leaves the canvas. Slanted labels are held to the canvas alone."""
    found = boxes(fig)
    width, height = fig.get_size_inches() * fig.dpi
    out = [f"'{t.get_text()}' leaves the canvas" for t, b in found if min(b) < -1 or b[2] > width + 1 or b[3] > height + 1]
    upright = [(t.get_text(), b) for t, b in found if not t.get_rotation() % 90]
    pairs = itertools.combinations(upright, 2)
    return out + [f"'{a}' covers '{b}'" for (a, p), (b, q) in pairs if overlap(p, q)]


def overlap(p: np.ndarray, q: np.ndarray) -> bool:
    """Whether two boxes share more than a pixel in both directions."""
    return bool((np.minimum(p[2:], q[2:]) - np.maximum(p[:2], q[:2]) > 1).all())


def test_the_boxes_see_a_text_that_covers_another_and_one_outside():
    fig, ax = plots.figure(width="column")
    ax.text(0.5, 0.5, "one")
    ax.text(0.51, 0.5, "two")
    ax.text(0.9, 0.2, "a long text that does not fit").set_in_layout(False)
    assert [f for f in faults(fig) if "one" in f] == ["'one' covers 'two'"]
    assert any("leaves the canvas" in f for f in faults(fig))


@pytest.mark.parametrize("draw", [plots.cost, plots.throughput], ids=["cost", "throughput"])
def test_costs_and_speeds(drawn_from, draw):
    fig, ax = plots.figure()
    draw(drawn_from[0], ax)
    assert faults(fig) == []


def test_batch_scaling(drawn_from):
    fig, ax = plots.figure()
    plots.batch_scaling(drawn_from[0], ax)
    assert faults(fig) == []


def test_roofline(drawn_from):
    fig, ax = plots.figure()
    plots.roofline(roofline.roofline(drawn_from[1]), ax)
    assert faults(fig) == []


def test_forest(drawn_from):
    comparisons = drawn_from[2]
    fig, ax = plots.figure(height_in=1.2 + 0.3 * min(len(comparisons), 40))
    plots.forest(comparisons, ax)
    assert faults(fig) == []


def test_the_decision_tree(drawn_from):
    rules = decisions(drawn_from[0], np.random.default_rng(0))
    fig, ax = plots.figure(height_in=0.9 + 0.38 * min(len(rules), 12))
    plots.decision_tree(rules, ax)
    assert faults(fig) == []


def test_the_heatmap_says_interval_batch_and_n_of_every_cell(drawn_from):
    summary = drawn_from[0]
    cells = deployment.candidates(summary)
    cells = cells[(cells["model"] == cells["model"].iloc[0])]
    costs, notes = plots.best(cells)
    fig, ax = plots.figure(height_in=1.5 + 0.45 * len(costs))
    plots.heatmap(costs, ax, basis=summary, notes=notes)
    assert faults(fig) == []
    gpu, strategy = costs.index[0], costs.columns[-1]
    cell = cells[(cells["gpu"] == gpu) & (cells["quantization"] == strategy)].sort_values("unit_energy_j").iloc[0]
    ends = [f"{cell[f'unit_energy_j{end}']:.{2 if cell['unit_energy_j'] >= 1 else 3}f}" for end in ("", "_low", "_high")]
    wanted = f"{ends[0]}\n[{ends[1]} to {ends[2]}]\nbatch {cell['batch_size']}, n = {cell['n_blocks']:.0f}"
    assert wanted in [t.get_text() for t in ax.texts] and notes.shape == costs.shape


def test_many_series_are_small_points_and_a_median_of_each_card(drawn_from):
    summary = drawn_from[0]
    several = len(summary) // len(STRATEGIES)
    _, ax = plots.figure()
    plots.cost(summary, ax)
    if several <= 16:
        assert "Bars" in plots.caption(summary, plots.crowded(summary))
        return
    assert [t.get_text() for t in ax.get_legend().get_texts()] == sorted(CARDS)
    assert "Bars" not in plots.caption(summary, plots.crowded(summary))
    large = next(c for c in ax.collections if c.get_label() == "rtx4090")
    wanted = summary[(summary["gpu"] == "rtx4090") & (summary["quantization"] == "fp16")]["energy_j_per_token"].median()
    assert wanted == pytest.approx(min(large.get_offsets()[:, 0], key=lambda x: abs(x - wanted)))


def test_names_tell_the_cards_apart_even_where_the_lines_drawn_are_of_one():
    comparisons = compare(*of(6, 4, 3))
    _, ax = plots.figure()
    plots.forest(comparisons, ax)
    first = comparisons.head(40)
    assert all(card in label.get_text() for card, label in zip(first["gpu"], ax.get_yticklabels(), strict=True))


def test_many_lines_over_the_batch_are_bundled_by_strategy():
    summary = summarize(*of(6, 4, 3))
    _, ax = plots.figure()
    plots.batch_scaling(summary, ax)
    assert sorted(t.get_text() for t in ax.texts) == sorted([*STRATEGIES, "simulated"])
    thick = [line for line in ax.lines if line.get_linewidth() == 2]
    own = summary[summary["quantization"] == "nf4"].groupby("batch_size")["energy_j_per_token"].median().to_dict()
    assert len(thick) == 4 and any(pd.Series(t.get_ydata(), t.get_xdata()).to_dict() == pytest.approx(own) for t in thick)


def test_a_legend_of_few_series_covers_no_point():
    """Four clouds that fill the axes leave no corner free: the legend stands beside them."""
    rows = [(q, b, 10.0 ** (i + j / 4)) for i, q in enumerate(STRATEGIES) for j, b in enumerate((1, 2, 4, 8))]
    table = pd.DataFrame(rows, columns=["quantization", "batch_size", "energy_j_per_token"]).assign(
        gpu="cpu", basis="measured", task="generate"
    )
    fig, ax = plots.figure()
    plots.cost(table, ax)
    fig.draw(FigureCanvasAgg(fig).get_renderer())
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1


def test_numbers_of_close_points_do_not_cover_each_other():
    close = [(4.95, 0.81), (5.05, 0.79), (6.95, 0.58), (7.05, 0.57), (56.0, 0.07)]
    table = pd.DataFrame(close, columns=["units_per_s", "unit_energy_j"]).assign(
        gpu="cpu",
        quantization=[f"int8_t{i}" for i in range(5)],
        batch_size=4,
        task="facts",
        unit="item",
        p_front=0.5,
        objectives="energy, time",
    )
    fig, ax = plots.figure()
    plots.pareto(table, ax)
    numbers = [box for text, box in boxes(fig) if text in ax.texts]
    assert len(numbers) == 5 and not [pair for pair in itertools.combinations(numbers, 2) if overlap(*pair)]


def test_a_figure_speaks_the_language_of_its_page(tables):
    """Labels, legend and doubts go through the given words; text from data does not."""
    with plots.language(lambda text: f"<{text}>", False):
        _, ax = plots.figure()
        plots.forest(tables[1], ax)
        assert ax.get_xlabel().startswith("<") and texts(ax)[-1] == "<simulated>" and "int8_pure" in ax.get_yticklabels()[0].get_text()
        assert {text.get_text()[0] for text in ax.get_legend().get_texts()} == {"<"}
    _, ax = plots.figure()
    plots.forest(tables[1], ax)
    assert texts(ax)[-1] == "simulated"


@pytest.mark.skipif(not style.chinese_font(), reason="no font with Chinese characters: apt-get install fonts-noto-cjk")
def test_chinese_words_are_drawn_and_not_boxes(tables, tmp_path):
    """A missing glyph is a warning, and a warning is an error."""
    with plots.language(lambda text: "能量", True):
        fig, ax = plots.figure()
        plots.cost(pd.concat([tables[0], tables[0].assign(task="能量")]), ax)
    plots.save(fig, tmp_path / "a.svg")


def test_an_axis_of_any_range_has_ticks_a_person_reads():
    """A narrow range has several round steps, a wide one no exponent."""
    for low, high in ((0.78, 1.06), (0.6, 1.2), (1e-5, 1e-1), (10, 2e6)):
        fig, ax = plots.figure()
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        style.plain_ticks(ax.xaxis)
        fig.draw_without_rendering()
        shown = [t.get_text() for t in (*ax.get_xticklabels(), *ax.get_xticklabels(minor=True)) if low <= t.get_position()[0] <= high]
        assert len([t for t in shown if t]) >= 3 and not any("e" in t for t in shown)


def test_the_legend_of_long_server_names_stays_on_the_canvas():
    rows = [(f"a-server-of-a-long-name-{s}-0.32", float(n), n * 0.5, 1.0 / n) for s in ("one", "two", "three") for n in (1, 2, 4)]
    table = pd.DataFrame(rows, columns=["server", "traffic_level", "requests_per_s", "energy_j_per_token"]).assign(
        model="m", quantization="gguf_q4_1", input_tokens=64, output_tokens=16, basis="measured"
    )
    table["traffic"] = "closed:" + table["traffic_level"].map("{:g}".format)
    fig, axes = plots.figure(1, 2)
    for ax in axes:
        plots.load_curve(table, ax)
    assert len(fig.legends) == 1 and not [fault for fault in faults(fig) if "leaves the canvas" in fault]
