"""The figures of the report and the talk in the language of the page, drawn from written tables; sizes fit a slide and a column.

They differ from those of `eai.plots` in what they are for: few marks, labels in the page's own language, the answer in the picture.
"""

import contextlib
from functools import cache

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from eai.report.facts import Facts, names
from eai.report.pages import Words, fixed, number

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8c6d31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
OUTCOMES = {"lower": (PALETTE[2], "v"), "higher": (PALETTE[1], "^"), "equivalent": (PALETTE[0], "D"), "inconclusive": ("0.45", "o")}
CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei",
       "Microsoft YaHei", "PingFang SC")  # fmt: skip
MOST_LINES = 24


@cache
def chinese_font() -> str:
    """The first installed font with Chinese characters; empty where there is none."""
    for path in font_manager.findSystemFonts():  # the cached list does not know a font that was installed after it
        if any(part in path.lower() for part in ("cjk", "wqy", "hans", "simhei", "msyh", "pingfang")):
            font_manager.fontManager.addfont(path)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK if name in installed), "")


def words_for(t: Words) -> Words:
    """The language of the figures: the page's, but English where no installed font has its characters."""
    return t if t.language == "en" or chinese_font() else Words("en")


@contextlib.contextmanager
def style(t: Words):
    """The look of every figure, with a font that has the characters of the language."""
    family = ["DejaVu Sans"] + ([chinese_font()] if t.language == "zh" and chinese_font() else [])
    look = {"font.family": family, "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
            "axes.axisbelow": True, "axes.grid": True, "grid.color": "0.9", "grid.linewidth": 0.6, "legend.frameon": False}  # fmt: skip
    with matplotlib.rc_context(look):
        yield


def sheet(width_in: float = 7.2, height_in: float = 3.0, columns: int = 1):
    """A figure and its axes, known to no window manager."""
    fig = Figure(figsize=(width_in, height_in), layout="constrained", dpi=150)
    return fig, fig.subplots(1, columns)


def doubt(ax, basis: str, t: Words) -> None:
    """Where the energy was not measured, the basis across the axes: a figure outlives its caption."""
    if basis != "measured":
        ax.text(0.5, 0.5, t(basis), transform=ax.transAxes, ha="center", va="center", rotation=15, fontsize=26, color="0.9", zorder=0)


def cost_label(unit: str, basis: str, t: Words) -> str:
    """`energy per output token [J], estimated`."""
    per = t("energy per item [J]") if unit == "item" else t("energy per output token [J]")
    return per if basis == "measured" else f"{per}, {t(basis)}"


def plain(axis, values) -> None:
    """A log axis with plain numbers, where the values span more than fivefold; else a linear one from zero."""
    values = np.asarray(values, float)
    if np.nanmax(values) / np.nanmin(values) > 5:
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: number(v, 2)))
        axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    else:
        axis.axes.set_xlim(left=0) if axis.axis_name == "x" else axis.axes.set_ylim(bottom=0)


def forest(facts: Facts, t: Words, most: int = MOST_LINES) -> Figure:
    """Every ratio to the baseline with its interval, coloured by what is shown; the strongest saving first."""
    t = words_for(t)
    table = facts.comparisons.sort_values("ratio_to_baseline", na_position="last").head(most)
    labels = [name.strip("`") for name in names(facts.comparisons.loc[table.index], t)] if len(table) else []
    with style(t):
        fig, ax = sheet(7.2, 1.0 + 0.2 * len(table))
        margin = table["margin"].max() if table["margin"].notna().any() else 0.0
        ax.axvspan(1 / (1 + margin), 1 + margin, color="0.9", zorder=0)
        ax.axvline(1, color="0.3", linewidth=0.9)
        for y, row in enumerate(table.to_dict("records")):
            if row["outcome"] not in OUTCOMES:
                ax.text(1.0, y, f"  {t('not testable')}", va="center", fontsize=8, color="0.4")
                continue
            color, marker = OUTCOMES[row["outcome"]]
            ratio = row["ratio_to_baseline"]
            error = [[ratio - row["ratio_to_baseline_low"]], [row["ratio_to_baseline_high"] - ratio]]
            ax.errorbar(ratio, y, xerr=error, fmt=marker, color=color, markersize=5, elinewidth=1.2, capsize=2)
        ax.set_yticks(range(len(table)), labels, fontsize=8)
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(t("energy, ratio to {baseline} (left of 1: less energy)", baseline=facts.baseline))
        for outcome in [o for o in OUTCOMES if o in set(table["outcome"])]:
            color, marker = OUTCOMES[outcome]
            ax.scatter([], [], color=color, marker=marker, s=24, label=t(SHOWN[outcome]))
        if ax.get_legend_handles_labels()[1]:
            ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        doubt(ax, facts.basis, t)
    return fig


SHOWN = {"lower": "lower, shown", "higher": "higher, shown", "equivalent": "equivalent", "inconclusive": "not decided",
         "not_testable": "not testable"}  # fmt: skip


def cost(facts: Facts, unit: str, t: Words, most: int = 10) -> Figure | None:
    """Cost by strategy, a series for whatever else varies; None where there are more series than an eye can tell apart."""
    t = words_for(t)
    table = facts.own[facts.own["unit"] == unit].dropna(subset=["unit_energy_j"])
    if table.empty:
        return None
    strategies = list(dict.fromkeys(table["quantization"]))
    series = pd.Series(names(table.assign(quantization=""), t), index=table.index).str.strip("`, 、")
    if series.nunique() > most:
        return None
    with style(t):
        fig, ax = sheet(7.2, 2.8)
        groups = list(table.groupby(series, sort=False))
        for i, (name, rows) in enumerate(groups):
            x = rows["quantization"].map(strategies.index) + (i - (len(groups) - 1) / 2) * min(0.16, 0.7 / len(groups))
            y = rows["unit_energy_j"]
            error = [(y - rows["unit_energy_j_low"]).fillna(0), (rows["unit_energy_j_high"] - y).fillna(0)]
            ax.errorbar(
                x, y, yerr=error, fmt=MARKERS[i % 8], color=PALETTE[i % 8], markersize=5, elinewidth=1, capsize=2, label=name or None
            )
        ax.set_xticks(range(len(strategies)), strategies)
        ax.grid(axis="x", visible=False)
        ax.set_ylabel(cost_label(unit, facts.basis, t))
        plain(ax.yaxis, table["unit_energy_j"])
        if len(groups) > 1:
            ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        doubt(ax, facts.basis, t)
    return fig


def quality(facts: Facts, t: Words) -> Figure:
    """Score against energy per item, one panel a task (three at most), hollow where the score is not shown above chance."""
    t = words_for(t)
    tasks = list(dict.fromkeys(facts.scored["task"]))[:3]
    strategies = list(dict.fromkeys(facts.scored["quantization"]))
    with style(t):
        fig, axes = sheet(7.2, 3.0, len(tasks))
        for ax, task in zip(np.atleast_1d(axes), tasks, strict=True):
            rows = facts.scored[facts.scored["task"] == task]
            for i, strategy in enumerate(strategies):
                own = rows[rows["quantization"] == strategy]
                x, y = own["unit_energy_j"], 100 * own["score"]
                error = [y - 100 * own["score_low"], 100 * own["score_high"] - y]
                face = "white" if len(own) and own["at_chance"].all() else PALETTE[i % 8]
                ax.errorbar(x, y, yerr=error, fmt=MARKERS[i % 8], color=PALETTE[i % 8], markerfacecolor=face, markersize=5, elinewidth=0.8,
                            label=strategy)  # fmt: skip
            ax.set_title(task, loc="left")
            ax.set_xlabel(cost_label(rows["unit"].iloc[0], facts.basis, t))
            plain(ax.xaxis, rows["unit_energy_j"])
            doubt(ax, facts.basis, t)
        np.atleast_1d(axes)[0].set_ylabel(t("score [%]"))
        np.atleast_1d(axes)[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def loads(facts: Facts, metrics: tuple[tuple[str, str], ...], t: Words) -> Figure:
    """Load curves against requests completed a second, one panel a metric, the legend beside; numbers: requests in flight or a second."""
    t = words_for(t)
    table = facts.loads
    series = pd.Series(names(table.drop(columns="load"), t), index=table.index).str.strip("`")
    with style(t):
        fig, axes = sheet(7.2, 2.9, len(metrics))
        for ax, (metric, label) in zip(np.atleast_1d(axes), metrics, strict=True):
            for i, (name, rows) in enumerate(table.groupby(series, sort=False)):
                rows = rows.sort_values("requests_per_s")
                y = rows[metric]
                error = [(y - rows[f"{metric}_low"]).clip(lower=0).fillna(0), (rows[f"{metric}_high"] - y).clip(lower=0).fillna(0)]
                ax.errorbar(rows["requests_per_s"], y, yerr=error, fmt=MARKERS[i % 8] + "-", color=PALETTE[i % 8],
                    markersize=4, linewidth=1,
                            capsize=2, label=name)  # fmt: skip
                for x, height, load in zip(rows["requests_per_s"], y, rows["load"], strict=True):
                    ax.annotate(load.partition(":")[2], (x, height), xytext=(4, 4), textcoords="offset points", fontsize=7, color="0.35")
            ax.set_xlabel(t("requests completed per second"))
            ax.set_ylabel(t(label))
            ax.set_ylim(0, 1.12 * np.nanmax(table[[metric, f"{metric}_high"]].to_numpy(float)))
            ax.set_xlim(0, 1.12 * table["requests_per_s"].max())
            if metric.startswith("energy"):
                doubt(ax, facts.basis, t)
        handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
        if any(labels):
            fig.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=8)
    return fig


def synergy(table: pd.DataFrame, basis: str, labels: list[str], t: Words) -> Figure:
    """The quotients of `facts.together` with their intervals around 1."""
    t = words_for(t)
    with style(t):
        fig, ax = sheet(7.2, 1.0 + 0.22 * len(table))
        ax.axvline(1, color="0.3", linewidth=0.9)
        value = table["quotient"]
        error = [value - table["quotient_low"], table["quotient_high"] - value]
        ax.errorbar(value, range(len(table)), xerr=error, fmt="o", color=PALETTE[0], markersize=5, elinewidth=1.2, capsize=2)
        ax.set_yticks(range(len(table)), labels, fontsize=8)
        ax.set_ylim(len(table) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(t("ratio there over ratio at the reference (1: the two just multiply)"))
        doubt(ax, basis, t)
    return fig


def heatmap(cells: pd.DataFrame, label: str, t: Words, empty: str = "") -> Figure:
    """A grid of numbers, rows x columns; a cell without a number is hatched and says `empty`."""
    t = words_for(t)
    with style(t):
        fig, ax = sheet(7.2, 1.1 + 0.36 * len(cells))
        values = cells.to_numpy(float)
        image = ax.imshow(np.ma.masked_invalid(values), aspect="auto", cmap="cividis_r")
        middle = np.nanmin(values) + 0.55 * (np.nanmax(values) - np.nanmin(values))
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                ax.text(j, i, number(value), ha="center", va="center", fontsize=9, color="white" if value > middle else "black")
            else:
                ax.add_patch(matplotlib.patches.Rectangle((j - 0.5, i - 0.5), 1, 1, fc="white", ec="0.85", hatch="///", linewidth=0))
                ax.text(j, i, empty, ha="center", va="center", fontsize=7.5, color="0.4",
                        bbox={"fc": "white", "ec": "none", "pad": 1.5})  # fmt: skip
        ax.set_xticks(range(cells.shape[1]), cells.columns)
        ax.set_yticks(range(len(cells)), cells.index)
        ax.grid(visible=False)
        bar = fig.colorbar(image, ax=ax)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return fig


def bars(table: pd.DataFrame, label: str, t: Words, log: bool = False) -> Figure:
    """Grouped bars of a table: a group a row, a colour a column, each with its number."""
    t = words_for(t)
    with style(t):
        fig, ax = sheet(7.2, 3.0)
        width = 0.8 / table.shape[1]
        for j, name in enumerate(table.columns):
            x = np.arange(len(table)) + (j - (table.shape[1] - 1) / 2) * width
            drawn = ax.bar(x, table[name], width * 0.92, color=PALETTE[j], label=name)
            ax.bar_label(drawn, [number(v) if np.isfinite(v) else "" for v in table[name]], fontsize=7.5, padding=1)
        ax.set_xticks(range(len(table)), table.index)
        ax.grid(axis="x", visible=False)
        ax.set_ylabel(label)
        if log:
            ax.set_yscale("log")
            low, high = np.nanmin(table.to_numpy(float)), np.nanmax(table.to_numpy(float))
            ax.set_ylim(low / 2, high * 1.9)
            ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda v, _: fixed(v, 0)))
            ax.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig


def flow(stages: list[tuple[str, list[str]]], t: Words, height_in: float = 1.9) -> Figure:
    """Boxes from left to right with arrows between them: a title and lines in each."""
    t = words_for(t)
    with style(t):
        fig, ax = sheet(7.2, height_in)
        ax.set_axis_off()
        ax.set_xlim(0, len(stages))
        ax.set_ylim(0, 1)
        for i, (title, lines) in enumerate(stages):
            shape = "round,pad=0,rounding_size=0.04"
            color = PALETTE[(0, 2, 4, 3, 1)[i % 5]]
            ax.add_patch(FancyBboxPatch((i + 0.05, 0.06), 0.84, 0.88, boxstyle=shape, ec=color, fc=color, alpha=0.14, linewidth=1))
            ax.text(i + 0.47, 0.84, t(title), ha="center", va="center", fontweight="bold", fontsize=9)
            ax.text(i + 0.47, 0.4, "\n".join(t(line) for line in lines), ha="center", va="center", fontsize=7.5, linespacing=1.6)
            if i:
                arrow = {"arrowstyle": "-|>", "color": "0.4", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
                ax.annotate("", xy=(i + 0.05, 0.5), xytext=(i - 0.11, 0.5), arrowprops=arrow)
    return fig


FRAMEWORK = [
    ("choices", ["strategy", "hardware", "batch, length, task"]),
    ("measuring", ["blocks, random order", "energy and time", "score of the task"]),
    ("metrics", ["energy per token", "EOR: score / Wh", "TWEOR: EOR / s"]),
    ("comparison", ["paired ratios", "interaction", "what is not decided"]),
    ("guidance", ["computed rules", "how sure they are", "where they hold"]),
]
