"""Figures stay readable at the size of a study: no two texts cover each other, none leaves the canvas (the renderer's boxes)."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from planted import Truth, experiment

from eai import plots
from eai.analyze import deployment, roofline
from eai.analyze.comparison import compare
from eai.analyze.deployment import decisions
from eai.analyze.selection import select
from eai.analyze.summary import summarize

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
    interval = f"[{cell['unit_energy_j_low']:.3g}, {cell['unit_energy_j_high']:.3g}]"
    wanted = f"{cell['unit_energy_j']:.3g}\n{interval}\nbatch {cell['batch_size']}, n = {cell['n_blocks']:.0f}"
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
