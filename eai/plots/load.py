"""The load curve of a server: what a token costs, or how long a request waits, against the requests it completes a second."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import LINES, MARKERS, PALETTE, label, tidy, watermark

SERIES = ("server", "model", "quantization", "input_tokens", "output_tokens")
WORDS = {"input_tokens": "{} tok in", "output_tokens": "{} tok out"}


def load_curve(loads: pd.DataFrame, ax: Axes, metric: str = "energy_j_per_token") -> list:
    """Draw a column of the loads table against requests completed a second; returns the artists.

    Closed loads are joined by a line in the order of their concurrency, open ones are points of their own; each point carries its load. A
    series for each server, model, quantization and length. `_low` and `_high` are drawn where the table has them. Only an energy carries
    the watermark of its basis: a time is measured, wherever the energy comes from.
    """
    tidy(ax)
    ax.set_xlabel(label("requests_per_s", "loads"))
    ax.set_ylabel(label(metric, "loads"))
    table = loads[loads[metric].notna()]
    if table.empty:
        return [ax.text(0.5, 0.5, "no usable window", transform=ax.transAxes, ha="center", color="0.4")]
    artists = []
    for i, (name, rows) in enumerate(table.groupby(named_series(table), sort=False)):
        kinds = rows["traffic"].str.partition(":")[0]
        for j, (kind, points) in enumerate(rows.groupby(kinds, sort=True)):
            style = {
                "color": PALETTE[i % len(PALETTE)],
                "marker": MARKERS[j],
                "linestyle": LINES[i % len(LINES)] if kind == "closed" else "",
            }
            artists += _points(ax, points.sort_values("traffic_level"), metric, ", ".join(filter(None, (name, kind))), style)
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0, right=1.08 * table["requests_per_s"].max())
    ax.legend(frameon=False, fontsize="small")
    return artists + (watermark(ax, table) if metric.startswith("energy") else [])


def named_series(table: pd.DataFrame) -> list[str]:
    """For each row the name of its series: what varies between the rows beside the load, empty where nothing does."""
    varying = [c for c in SERIES if table[c].nunique() > 1]
    return [", ".join(WORDS.get(c, "{}").format(row[c]) for c in varying) for row in table[list(SERIES)].to_dict("records")]


def _points(ax: Axes, rows: pd.DataFrame, metric: str, name: str, style: dict) -> list:
    """One series with its intervals, each point with its load beside it."""
    x, y = rows["requests_per_s"].to_numpy(float), rows[metric].to_numpy(float)
    ends = [rows.get(f"{metric}_{end}", pd.Series(np.nan, index=rows.index)).to_numpy(float) for end in ("low", "high")]
    known = np.isfinite(ends[0]) & np.isfinite(ends[1])
    error = np.where(known, [y - ends[0], ends[1] - y], 0.0)
    bars = ax.errorbar(x, y, yerr=error, label=name, markersize=4, linewidth=1, capsize=2, **style)
    place = {"xytext": (4, 3)} if style["linestyle"] else {"xytext": (-4, -8), "ha": "right"}
    texts = [
        ax.annotate(text, (px, py), textcoords="offset points", fontsize="x-small", color="0.3", **place)
        for text, px, py in zip(rows["traffic"].str.partition(":")[2], x, y, strict=True)
    ]
    return [bars, *texts]
