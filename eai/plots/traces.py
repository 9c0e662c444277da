"""Power over time inside the windows, only where a sensor read power: an estimate has no trace."""

import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import PALETTE, tidy

MOST_TRACES = 12


def _is_power(samples: pd.DataFrame) -> pd.Series:
    """Which readings are a power that a sensor gave (a limit is a setting)."""
    field = samples["field"].astype(str)
    return field.str.endswith("_w") & ~field.str.contains("limit")


def sensed(samples: pd.DataFrame) -> bool:
    """Whether any reading is a power: where not, there is no trace to draw."""
    return bool(_is_power(samples).any())


def power_traces(samples: pd.DataFrame, windows: pd.DataFrame, ax: Axes, block: int | None = None) -> list:
    """Draw the sensed power of the windows of one block (the first by default) over time, a colour a strategy; returns the artists.

    `samples` (schema.SAMPLES) are power readings where the field's name ends in `_w`, limits apart. Where none was read the axes
    say so and nothing else is drawn. At most 12 windows are drawn; the title says how many there were.
    """
    tidy(ax)
    ax.set_xlabel("time since the first reading of the window [s]")
    ax.set_ylabel("power [W]")
    power = samples[_is_power(samples)]
    if power.empty:
        return [ax.text(0.5, 0.5, "no sensor read power here", transform=ax.transAxes, ha="center", color="0.4")]
    block = power["block"].min() if block is None else block
    chosen = windows[(windows["block"] == block) & windows["attempt"].isin(power["attempt"])]
    strategies = list(dict.fromkeys(windows["quantization"]))
    artists = []
    for window in chosen.head(MOST_TRACES).itertuples():
        color = PALETTE[strategies.index(window.quantization) % len(PALETTE)]
        for _, trace in power[power["attempt"] == window.attempt].groupby(["device_id", "field"]):
            trace = trace.sort_values("t_s")
            artists += ax.plot(trace["t_s"] - trace["t_s"].iloc[0], trace["value"], color=color, linewidth=0.8, label=window.quantization)
    ax.set_title(f"block {block}: {min(len(chosen), MOST_TRACES)} of {len(chosen)} windows", loc="left")
    ax.set_ylim(bottom=0)
    handles = {line.get_label(): line for line in artists}
    ax.legend(handles=list(handles.values()), frameon=False, fontsize="small")
    return artists
