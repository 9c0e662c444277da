"""Ratios and what they are worth: every ratio to its baseline, synergy of two choices, power of the blocks, where uncertainty comes
from.
"""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from eai.analyze.summary import BUDGET_TERMS
from eai.plots.style import (
    FONT_PT,
    MOST_LINES,
    PALETTE,
    arms,
    legend,
    look,
    names,
    nothing,
    plain_ticks,
    t,
    tidy,
    title,
    watermark,
    word,
)  # fmt: skip

OUTCOMES = {
    "lower": (PALETTE[2], "v", "lower"),
    "higher": (PALETTE[1], "^", "higher"),
    "equivalent": (PALETTE[0], "D", "equal within the margin"),
    "inconclusive": ("0.45", "o", "not decided by these blocks"),
}
"""Colour, marker and the words of each outcome that has a point."""
QUANTITIES = {
    "energy_j_per_token": "energy per output token",
    "energy_j_per_request": "energy per item",
    "requests_per_second": "items per second",
    "cpu_s_per_request": "CPU time per item",
    "throughput_tok_s": "throughput",
    "power_mean_w": "mean power",
    "cpu_s_per_token": "CPU time per output token",
}


def forest(comparisons: pd.DataFrame, ax: Axes, most: int = MOST_LINES) -> list:
    """Draw one line a comparison on a log axis: ratio, 95 % interval, colour and marker by outcome; returns the artists.

    The grey band is the equivalence margin. A comparison that could not be made stands there with its reason instead of a point: leaving it
    out would make the picture better than the data. At most `most` lines are drawn; the title says how many there were.
    """
    if comparisons.empty:
        return nothing(ax, "nothing to compare")
    table = comparisons.head(most).reset_index(drop=True)
    tidy(ax, "x")
    margin = float(table["margin"].dropna().max()) if table["margin"].notna().any() else 0.0
    artists = [ax.axvspan(1 / (1 + margin), 1 + margin, color="0.93", zorder=0), ax.axvline(1.0, color="0.3", linewidth=0.8)]
    artists += _outcomes(ax, table, "ratio_to_baseline")
    ax.set_yticks(range(len(table)), names(comparisons)[: len(table)])
    if len(comparisons) > len(table):
        title(ax, t("{n} of {all} comparisons", n=len(table), all=len(comparisons)))
    quantity = " / ".join(t(QUANTITIES.get(metric, metric)) for metric in dict.fromkeys(table["metric"].astype(str)))
    baseline = ", ".join(sorted(set(table["baseline"])))
    ax.set_xlabel(t("{quantity}, ratio to {baseline}", quantity=quantity, baseline=baseline))
    return artists + watermark(ax, comparisons)


def _outcomes(ax: Axes, table: pd.DataFrame, column: str) -> list:
    """One line a row: value and interval in the look of its outcome, or why there is none; the legend names the outcomes."""
    artists, reach = [], arms(table, column)
    for y, row in enumerate(table.to_dict("records")):
        if row["outcome"] not in OUTCOMES or not np.isfinite(reach[:, y]).all() or not reach[:, y].any():
            known = f"x {row[column]:.2f}, " if pd.notna(row[column]) else ""
            why = t("not testable") + (f": {row['reason']}" if row.get("reason") else "")
            style = {"xytext": (4, 0), "textcoords": "offset points", "fontsize": FONT_PT - 1, "va": "center", "color": "0.4"}
            letters = int(ax.get_position().width * ax.figure.get_size_inches()[0] * 9)
            text = "\n".join(textwrap.wrap(known + why, max(letters, 24)))
            artists.append(ax.annotate(text, (0.0, y), xycoords=("axes fraction", "data"), **style))
            continue
        color, marker, _ = OUTCOMES[row["outcome"]]
        style = {"fmt": marker, "color": color, "markersize": 4, "elinewidth": 1.2, "capsize": 2.5}
        artists.append(ax.errorbar(row[column], y, xerr=reach[:, [y]], **style))
    ax.set_ylim(len(table) - 0.5, -0.5)
    if len(drawn := table.loc[reach.any(axis=0), [column, f"{column}_low", f"{column}_high"]]):
        low, high = min(drawn.min().min(), 1), max(drawn.max().max(), 1)
        ax.set_xscale("log")
        ax.set_xlim(low / 1.03, high * 1.03)
        plain_ticks(ax.xaxis)
    present = set(table["outcome"])
    shown = {o: ax.scatter([], [], color=c, marker=m, s=20, label=t(w)) for o, (c, m, w) in OUTCOMES.items() if o in present}
    if shown:
        legend(ax, handles=list(shown.values()))
    return artists


def synergy(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the interaction of each level (analyze.comparison.synergy): 1 means that the two choices just multiply, below 1 it saves
    more.
    """
    tidy(ax, "x")
    artists = [ax.axvline(1.0, color="0.3", linewidth=0.8), *_outcomes(ax, table, "synergy")]
    rows = table.to_dict("records")
    several = table["setting"].nunique() > 1 if "setting" in table else False
    ax.set_yticks(
        range(len(rows)),
        [", ".join([r["quantization"], word(r["factor"], r["level"]), *([r["setting"]] if several else [])]) for r in rows],
    )
    references = sorted({word(r["factor"], r["reference"]) for r in rows})
    ax.set_xlabel(t("ratio to the baseline there / ratio at {reference}", reference=", ".join(references)))
    return artists + watermark(ax, table)


def power_curves(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the power over the true ratio (analyze.comparison.power_curves), a line for each number of blocks, labelled where it is at
    0.5.
    """
    tidy(ax, "both")
    artists = [ax.axhline(0.8, color="0.3", linewidth=0.8, linestyle=":")]
    sns.lineplot(table, x="ratio", y="power", hue="n", palette=list(PALETTE[: table["n"].nunique()]), ax=ax, legend=False, linewidth=1.2)
    for i, (n, line) in enumerate(table.sort_values("ratio").groupby("n")):
        at = line.iloc[(line["power"] - 0.5).abs().argmin()]
        first = at["ratio"] == line["ratio"].min()
        style = {"xytext": (3, 6) if first else (-3, 0), "ha": "left" if first else "right", "va": "center", "fontsize": FONT_PT - 1}
        artists.append(ax.annotate(f"{n} blocks", (at["ratio"], at["power"]), textcoords="offset points", color=look(i)[0], **style))
    ax.set(xlabel="true ratio to the baseline", ylabel="probability of showing it", ylim=(0, 1.02))
    spread, family = table["sd_log"].iloc[0], table["family"].iloc[0]
    title(ax, f"spread of log ratios {100 * spread:.1f} %, family of {family} comparisons")
    return artists + watermark(ax, table)


def budget(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the uncertainty budget (analyze.summary.budgets): the relative standard uncertainty of each source.

    At most 40 configurations are drawn; the title says how many there were. A source above 20 % has a logarithmic axis.
    """
    tidy(ax, "x")
    several, named, table = len(table), names(table), table.head(MOST_LINES)
    drawn = [t for t in BUDGET_TERMS if (table[t] > 0).any()]
    artists = []
    for i, term in enumerate(drawn):
        color, marker = look(i)
        rows = table[term] > 0
        artists.append(ax.scatter(100 * table.loc[rows, term], np.flatnonzero(rows), color=color, marker=marker, s=18, label=term))
    ax.set_yticks(range(len(table)), named[: len(table)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("relative standard uncertainty, k = 1 [%]")
    if drawn and table[drawn].max().max() > 0.2:
        ax.set_xscale("log")
        plain_ticks(ax.xaxis)
    legend(ax)
    title(ax, f"{len(table)} of {several} configurations" if several > len(table) else "")
    return artists + watermark(ax, table)
