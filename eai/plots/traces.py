"""Power over time inside the windows, only where a sensor read power: an estimate has no trace."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import LINES, PALETTE, tidy, title, watermark

MOST_TRACES = 12


def _is_power(samples: pd.DataFrame) -> pd.Series:
    """Which readings are a power that a sensor gave (a limit is a setting)."""
    field = samples["field"].astype(str)
    return field.str.endswith("_w") & ~field.str.contains("limit")


def sensed(samples: pd.DataFrame) -> bool:
    """Whether any reading is a power: where not, there is no trace to draw."""
    return bool(_is_power(samples).any())


def power_traces(samples: pd.DataFrame, windows: pd.DataFrame, ax: Axes, block: int | None = None) -> list:
    """Draw the sensed power of the windows of one block (the first by default) over time, a colour and dash a strategy.

    `samples` (schema.SAMPLES) are power readings where the field's name ends in `_w`, limits apart. The grey band is where every window
    drawn was still open: readings outside it are the pads that the edges of the integral need. Where none was read the axes say so and
    nothing else is drawn. At most 12 windows are drawn; the title says how many there were.
    """
    tidy(ax)
    ax.set_xlabel("time since the window began [s]")
    ax.set_ylabel("power [W]")
    power = samples[_is_power(samples)]
    if power.empty:
        return [ax.text(0.5, 0.5, "no sensor read power here", transform=ax.transAxes, ha="center", color="0.4")]
    block = power["block"].min() if block is None else block
    chosen = windows[(windows["block"] == block) & windows["attempt"].isin(power["attempt"])]
    drawn = chosen.head(MOST_TRACES)
    strategies = list(dict.fromkeys(windows["quantization"]))
    artists = []
    for window in drawn.to_dict("records"):
        i = strategies.index(window["quantization"])
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": LINES[i % len(LINES)], "linewidth": 0.9, "label": window["quantization"]}
        for _, trace in power[power["attempt"] == window["attempt"]].groupby(["device_id", "field"]):
            trace = trace.sort_values("t_s")
            artists += ax.plot(trace["t_s"] - _began_s(window, trace), trace["value"], **style)
    title(ax, f"block {block}: {len(drawn)} of {len(chosen)} windows")
    ax.set_ylim(bottom=0)
    _legend(ax, artists)
    return [*artists, *_open(ax, drawn), *watermark(ax, drawn)]


def _began_s(window: dict, trace: pd.DataFrame) -> float:
    """When the window began on the clock of its readings [s]; the first reading where its edges were not recorded."""
    began = window.get("start_s", np.nan)
    return began if began is not None and np.isfinite(began) else trace["t_s"].iloc[0]


def _open(ax: Axes, drawn: pd.DataFrame) -> list:
    """A band from the beginning to the end of the shortest window; nothing where edges were not recorded."""
    edges = drawn.reindex(columns=["start_s", "stop_s"]).astype(float)
    length_s = (edges["stop_s"] - edges["start_s"]).min()
    return [ax.axvspan(0.0, length_s, color="0.93", zorder=0)] if np.isfinite(length_s) else []


def _legend(ax: Axes, lines: list) -> None:
    """One entry a strategy, beside the axes so that it hides no reading."""
    handles = list({line.get_label(): line for line in lines}.values())
    ax.legend(handles=handles, frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
