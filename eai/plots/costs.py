"""Cost per token and throughput by strategy and batch size: points with intervals, never bars without."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from eai.analyze.metrics import SPEEDS, TOKEN, UNITS, costed
from eai.analyze.metrics import unit_label as cost_label
from eai.plots.style import PALETTE, label, look, plain_ticks, tidy, title, watermark

SERIES = ("gpu", "model", "weights", "input_tokens", "output_tokens", "task", "batch_size")
WORDS = {"batch_size": "batch {}", "input_tokens": "{} tok in", "output_tokens": "{} tok out", "weights": "{} weights"}
LOG_SPAN = 5.0
MOST_SERIES = 16


def cost(summary: pd.DataFrame, ax: Axes, metric: str = "energy_j_per_token") -> list:
    """Draw the cost per output token of each strategy, a series for each batch size (and whatever else varies); returns the artists.

    Tasks that ran as their items come are costed by the item, and the axis says so. `metric` is a column of the summary; its `_low`
    and `_high` are drawn where the table has them. A point outside the gate (rejected) is hollow. Without any usable point the axes
    say so. Beyond 16 series each is a small point without interval, in the colour of its GPU (or whatever varies first), whose median
    stands out; the title says so.
    """
    return _by_unit(summary, ax, metric, "unit_energy_j", UNITS)


def throughput(summary: pd.DataFrame, ax: Axes) -> list:
    """Draw the output tokens (of a task: items) per second of each strategy with intervals; returns the artists."""
    return _by_unit(summary, ax, "throughput_tok_s", "units_per_s", SPEEDS)


def _by_unit(summary: pd.DataFrame, ax: Axes, metric: str, by_unit: str, words: dict[str, str]) -> list:
    """A metric by strategy; by unit of work where the summary has tasks."""
    table = costed(summary)
    if metric not in TOKEN or not (table["unit"] == "item").any():
        return _by_strategy(summary, ax, metric)
    artists = _by_strategy(table, ax, by_unit)
    ax.set_ylabel(cost_label(table, words))
    return artists


def _by_strategy(summary: pd.DataFrame, ax: Axes, metric: str) -> list:
    """Points with intervals: strategies on x, one series for each combination of what else varies."""
    table = summary[summary[metric].notna()]
    tidy(ax)
    ax.set_ylabel(label(metric) if metric not in ("unit_energy_j", "units_per_s") else "")
    if table.empty:
        return [ax.text(0.5, 0.5, "no usable window", transform=ax.transAxes, ha="center", color="0.4")]
    strategies = list(dict.fromkeys(table["quantization"]))
    groups = list(series(table))
    common = _crowd(table) if len(groups) > MOST_SERIES else ""
    artists = []
    for i, (name, rows) in enumerate(_by_level(table, common) if common else groups):
        several = table[common].nunique() if common else len(groups)
        offset = (i - (several - 1) / 2) * min(0.16, 0.7 / several)
        x = rows["quantization"].map(strategies.index).to_numpy(float) + offset
        draw = _medians if common else _points
        artists += draw(ax, x, rows, metric, *look(i), name)
    ax.set_xticks(
        range(len(strategies)), strategies, rotation=20 if len(strategies) > 3 else 0, ha="right" if len(strategies) > 3 else "center"
    )
    _scale(ax, table[metric])
    if len(groups) > MOST_SERIES:
        of = f"; large: median of each {common.replace('_', ' ')}" if common else ""
        title(ax, f"{len(groups)} series, named in the table{of}")
    if common or 1 < len(groups) <= MOST_SERIES:
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return artists + watermark(ax, table)


def crowded(summary: pd.DataFrame, over: str = "") -> str:
    """What a caption says of a figure of more than 16 series, which has no bars; empty for fewer.

    `over`: the column on x where that is not the strategy.
    """
    table = summary[summary["n_blocks"] > 0]
    groups = [rows.drop(columns=over) for _, rows in table.groupby("quantization")] if over else [table]
    many = sum(len(list(series(rows))) for rows in groups) > MOST_SERIES
    return "Large or thick: medians over series; the 95 % interval of each stands in the table" if many else ""


def _crowd(table: pd.DataFrame) -> str:
    """The first column that varies and whose levels the palette can tell apart; empty if there is none."""
    return next((c for c in SERIES if c in table and 1 < table[c].nunique() <= len(PALETTE)), "")


def _by_level(table: pd.DataFrame, column: str) -> list[tuple[str, pd.DataFrame]]:
    """Pairs (name, rows) of the levels of one column."""
    return [(word(column, value) or str(value), rows) for value, rows in table.groupby(column, sort=True)]


def series(table: pd.DataFrame):
    """Pairs (name, rows): one for each combination of the columns that vary beside the strategy; options where they tell too little."""
    varying = [c for c in SERIES if c in table and table[c].nunique() > 1]
    if "options" in table and (table.groupby([*varying, "quantization"])["options"].nunique() > 1).any():
        varying.append("options")
    if not varying:
        return [("", table)]
    named = []
    for key, rows in table.groupby(varying, sort=True):
        words = [word(c, value) for c, value in zip(varying, key, strict=True)]
        named.append((", ".join(filter(None, words)), rows))
    return named


def word(column: str, value) -> str:
    """A value of a series in words; options as `load closed:4`, nothing for those at their default and for the lengths of a task."""
    if column == "options":
        return ", ".join(f"{name} {option}" for name, option in json.loads(value or "{}").items())
    if column in ("input_tokens", "output_tokens") and value == 0:
        return ""
    return WORDS.get(column, "{}").format(value)


def _points(ax: Axes, x: np.ndarray, rows: pd.DataFrame, metric: str, color: str, marker: str, name: str) -> list:
    """One series of points; hollow where the gate rejected the configuration."""
    value = rows[metric].to_numpy(float)
    low, high = (
        rows[f"{metric}_{end}"].to_numpy(float) if f"{metric}_{end}" in rows else np.full(len(rows), np.nan) for end in ("low", "high")
    )
    known = np.isfinite(low) & np.isfinite(high)
    error = np.where(known, [value - low, high - value], 0.0)
    bars = ax.errorbar(x, value, yerr=error, fmt="none", ecolor=color, elinewidth=1, capsize=2)
    rejected = (rows["gate"] == "rejected").to_numpy() if "gate" in rows else np.zeros(len(rows), bool)
    face = np.where(rejected, "white", color)
    points = ax.scatter(x, value, c=face, edgecolors=color, marker=marker, s=22, linewidths=1, zorder=3)
    ax.scatter([], [], c=color, edgecolors=color, marker=marker, s=22, label=name or None)
    return [bars, points]


def _medians(ax: Axes, x: np.ndarray, rows: pd.DataFrame, metric: str, color: str, marker: str, name: str) -> list:
    """The points of one level, small, and the median of each strategy, large."""
    small = ax.scatter(x, rows[metric], c=color, s=4, alpha=0.4, linewidths=0)
    middle = rows.groupby(x)[metric].median()
    large = ax.scatter(middle.index, middle, c=color, edgecolors="black", marker=marker, s=26, linewidths=0.7, zorder=3, label=name)
    return [small, large]


def _scale(ax: Axes, values: pd.Series) -> None:
    """A log axis where the values span more than fivefold, else a linear one from zero: a cut axis exaggerates."""
    if values.max() / values.min() > LOG_SPAN:
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
