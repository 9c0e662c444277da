"""Figures: what is drawn is what the table says, doubts are written on it, files never change."""

import base64
import hashlib

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from planted import Truth, experiment

from eai import plots
from eai.analyze.comparison import compare
from eai.analyze.summary import summarize
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
