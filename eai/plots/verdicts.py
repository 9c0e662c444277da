"""Verdicts on claims, counted by source and kind."""

import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import tidy

COLOURS = {"consistent": "#009E73", "reproduced": "#0072B2", "untested": "0.75", "inconsistent": "#D55E00", "contradicted": "#CC79A7"}
HATCHES = {"inconsistent": "//", "contradicted": "xx"}


def verdicts(table: pd.DataFrame, ax: Axes) -> list:
    """Draw a bar for each source and check, split by verdict and labelled with the counts; returns the artists.

    `table` has one row a claim or finding, with the columns id, source, check and verdict.
    """
    counts = table.pivot_table(index=["source", "check"], columns="verdict", values="id", aggfunc="count", fill_value=0)
    counts = counts.reindex(columns=[v for v in COLOURS if v in counts])
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=True, kind="stable").index]
    names = [f"{source}: {check}" for source, check in counts.index]
    artists, left = [], pd.Series(0, index=counts.index)
    for verdict in counts:
        bars = ax.barh(
            names, counts[verdict], left=left, color=COLOURS[verdict], hatch=HATCHES.get(verdict), edgecolor="white", label=verdict
        )
        texts = ax.bar_label(bars, labels=[str(n) if n else "" for n in counts[verdict]], label_type="center", fontsize=6)
        artists += [text for text in texts if text.get_text()]
        for text in artists[-sum(counts[verdict] > 0) :]:
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8})
        artists.append(bars)
        left = left + counts[verdict]
    tidy(ax, "x")
    ax.margins(y=0.01)
    ax.set_xlabel("claims or findings")
    ax.tick_params(axis="y", labelsize=6)
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    return artists
