"""Power curves: how small a saving a number of blocks can show."""

import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import look, tidy, title, watermark


def power_curves(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the power over the true ratio (analyze.power.curves), a line for each number of blocks; returns the artists."""
    tidy(ax, grid="both")
    artists = [ax.axhline(0.8, color="0.3", linewidth=0.8, linestyle=":")]
    for i, (n, line) in enumerate(table.groupby("n")):
        color, marker = look(i)
        style = {"color": color, "marker": marker, "markersize": 3, "linewidth": 1}
        artists += ax.plot(line["ratio"], line["power"], label=f"{n} blocks", **style)
    ax.set_xlabel("true ratio to the baseline")
    ax.set_ylabel("probability of showing it")
    ax.set_ylim(0, 1.02)
    spread, family = table["sd_log"].iloc[0], table["family"].iloc[0]
    title(ax, f"spread of log ratios {spread:.3f}, family of {family} comparisons")
    ax.legend(frameon=False, fontsize="small")
    return artists + watermark(ax, table)
