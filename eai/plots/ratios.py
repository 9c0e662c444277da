"""Forest plot: every ratio to its baseline with its interval, and what may be said of it."""

import pandas as pd
from matplotlib.axes import Axes

from eai.plots.costs import SERIES, word
from eai.plots.style import MOST_LINES, PALETTE, tidy, title, watermark

LOOK = {
    "lower": (PALETTE[2], "v"),
    "higher": (PALETTE[1], "^"),
    "equivalent": (PALETTE[0], "D"),
    "inconclusive": ("0.45", "o"),
}


def forest(comparisons: pd.DataFrame, ax: Axes) -> list:
    """Draw one line a comparison: ratio, 95 % interval, colour and marker by outcome; returns the artists.

    The grey band is the equivalence margin. A comparison that could not be made stands there with its reason instead of a
    point: leaving it out would make the picture better than the data. At most 40 lines are drawn; the title says how many there were.
    """
    table = comparisons.head(MOST_LINES).reset_index(drop=True)
    tidy(ax, grid="x")
    if table.empty:
        return [ax.text(0.5, 0.5, "nothing to compare", transform=ax.transAxes, ha="center", color="0.4")]
    margin = float(table["margin"].dropna().max()) if table["margin"].notna().any() else 0.0
    artists = [ax.axvspan(1 / (1 + margin), 1 + margin, color="0.93", zorder=0), ax.axvline(1.0, color="0.3", linewidth=0.8)]
    artists += [_line(ax, y, row) for y, row in table.iterrows()]
    ax.set_yticks(range(len(table)), names(comparisons)[: len(table)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    title(ax, f"{len(table)} of {len(comparisons)} comparisons" if len(comparisons) > len(table) else "")
    ax.set_xlabel(f"{_quantity(table)}, ratio to {', '.join(sorted(set(table['baseline'])))}")
    handles = {
        outcome: ax.scatter([], [], color=c, marker=m, s=20, label=outcome)
        for outcome, (c, m) in LOOK.items()
        if outcome in set(table["outcome"])
    }
    if handles:
        ax.legend(handles=list(handles.values()), frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return artists + watermark(ax, table)


def names(table: pd.DataFrame) -> list[str]:
    """The names of the rows: the strategy and whatever else varies between them."""
    varying = [c for c in SERIES if c in table and table[c].nunique() > 1]
    plural = table.duplicated(["quantization", *varying], keep=False)
    rows = table.assign(plural=plural).to_dict("records")
    parts = [
        [r["quantization"], *(word(c, r[c]) for c in varying), *([word("options", r["options"])] if r["plural"] else [])] for r in rows
    ]
    return [", ".join(filter(None, words)) for words in parts]


def _quantity(table: pd.DataFrame) -> str:
    """The compared quantity in words."""
    words = {
        "energy_j_per_token": "energy per output token",
        "energy_j_per_request": "energy per item",
        "requests_per_second": "items per second",
        "cpu_s_per_request": "CPU time per item",
        "throughput_tok_s": "throughput",
        "power_mean_w": "mean power",
        "cpu_s_per_token": "CPU time per output token",
    }
    return " or ".join(words.get(metric, metric) for metric in dict.fromkeys(table["metric"].astype(str)))


def _line(ax: Axes, y: int, row: pd.Series):
    """One comparison at height y."""
    if row["outcome"] not in LOOK:
        point = f"x {row['ratio_to_baseline']:.2f}, " if pd.notna(row["ratio_to_baseline"]) else ""
        return ax.annotate(
            f"{point}not testable: {row['reason']}",
            (1.0, y),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize="small",
            va="center",
            color="0.4",
        )
    color, marker = LOOK[row["outcome"]]
    ratio, low, high = row["ratio_to_baseline"], row["ratio_to_baseline_low"], row["ratio_to_baseline_high"]
    return ax.errorbar(ratio, y, xerr=[[ratio - low], [high - ratio]], fmt=marker, color=color, markersize=4, elinewidth=1, capsize=2)
