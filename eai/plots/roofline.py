"""Roofline: achieved flop/s against arithmetic intensity under the roofs of each card."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from eai.plots.style import FONT_PT, LINES, MOST_SERIES, look, nothing, number, plain, plain_ticks, series, tidy, title, watermark

GIGA, TERA = 1e9, 1e12
MOST_ROOFS = 6
ROOM = 3.0


def roofline(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the points of analyze.roofline.roofline, a marker a strategy, under the roofs of their cards; returns the artists.

    The legend states each strategy's share of its roof, and the figures of each roof: words at the roofs would cover each other. Prefill
    lies right (compute) and decode left (memory); the words stand at the foot of the axes. Beyond 16 series a colour is a strategy.
    Without a known roof none is drawn, and the title says so; beyond 6 it says how many there were.
    """
    tidy(ax, grid="both")
    points = table[table["phase"] != ""].reset_index(drop=True)
    ax.set_xlabel("arithmetic intensity [flop/byte]")
    scale, unit = (TERA, "T") if points["achieved_flop_s"].max() > 10 * TERA else (GIGA, "G")
    ax.set_ylabel(f"achieved [{unit}flop/s]")
    if points.empty:
        return nothing(ax, "no configuration whose flops can be counted")
    ax.set_xscale("log")
    ax.set_yscale("log")
    artists = []
    for i, (name, rows) in enumerate(_by_name(points)):
        value, low, high = (rows[f"achieved_flop_s{end}"] / scale for end in ("", "_low", "_high"))
        color, marker = look(i)
        style = {"color": color, "marker": marker, "markersize": 4, "capsize": 2, "linestyle": "none", "zorder": 3}
        error = [(value - low).fillna(0), (high - value).fillna(0)]
        words = ": ".join(filter(None, (name, _share(rows))))
        artists.append(ax.errorbar(rows["intensity_flop_per_byte"], value, yerr=error, label=words, **style))
    ridge = (points["peak_flop_s"] / points["bandwidth_byte_s"]).dropna()  # where both roofs meet
    x = pd.concat([points["intensity_flop_per_byte"], ridge])
    y = pd.concat([points["achieved_flop_s"], points["roof_flop_s"], points["peak_flop_s"]]).dropna() / scale
    ax.set_xlim(x.min() / ROOM, x.max() * ROOM)
    ax.set_ylim(y.min() / ROOM, y.max() * ROOM)
    for i, (phase, rows) in enumerate(points.groupby("phase")):
        middle = np.exp(np.log(rows["intensity_flop_per_byte"]).mean())
        words = {"whole": "whole call", "decode": "decode step"}.get(phase, phase)
        style = {"transform": ax.get_xaxis_transform(), "ha": "center", "fontsize": FONT_PT - 1, "color": "0.3"}
        artists.append(ax.text(middle, 0.02 + 0.07 * (i % 2), words, **style))
    roofs = points.dropna(subset=["peak_flop_s", "bandwidth_byte_s"]).drop_duplicates(["gpu", "peak_flop_s", "bandwidth_byte_s"])
    cards = list(dict.fromkeys(roofs["gpu"]))
    x = np.geomspace(*ax.get_xlim(), 200)
    for roof in roofs.head(MOST_ROOFS).to_dict("records"):
        peak, bandwidth = roof["peak_flop_s"], roof["bandwidth_byte_s"]
        speed = f"{number(peak / TERA)} Tflop/s" if peak >= TERA else f"{number(peak / GIGA)} Gflop/s"
        words = f"{roof['gpu']}, {roof['quantization']}: {speed}, {number(bandwidth / GIGA, 4)} GB/s"
        dash = LINES[cards.index(roof["gpu"]) % len(LINES)]
        artists += ax.plot(x, np.minimum(x * bandwidth, peak) / scale, color="0.4", linewidth=1, linestyle=dash, zorder=1, label=words)
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    known = "share of the roof" if points["share_of_roof"].notna().any() else None
    style = {"frameon": False, "fontsize": FONT_PT - 1, "title_fontsize": FONT_PT, "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    handles = sorted(ax.get_legend_handles_labels()[0], key=lambda handle: isinstance(handle, Line2D))  # the title is of the series
    plain(ax.legend(handles=handles, title=known, alignment="left", **style))
    without = sorted(set(points.loc[points["roof_flop_s"].isna(), "gpu"]))
    left_out, above = len(table) - len(points), int((points["share_of_roof_low"] > 1).sum())
    remarks = (
        left_out and f"{left_out} configurations not counted: {table.loc[table['phase'] == '', 'reason'].iloc[0]}",
        without and f"no peak is known for {', '.join(without)}: no roof is drawn",
        len(roofs) > MOST_ROOFS and f"{MOST_ROOFS} of {len(roofs)} roofs",
        above and f"{above} points lie above their roof: a time, a count or a peak is wrong",
    )
    title(ax, "\n".join(filter(None, remarks)))
    return artists + watermark(ax, points)


def _by_name(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each strategy and whatever varies beside it, but for the batch size and the lengths, which move along the roof."""
    found = []
    for strategy, rows in points.groupby("quantization", sort=False):
        same = series(rows.drop(columns=["batch_size", "input_tokens", "output_tokens"]))
        found += [(", ".join(filter(None, (strategy, name))), rows.loc[part.index]) for name, part in same]
    return found if len(found) <= MOST_SERIES else list(points.groupby("quantization", sort=False))


def _share(rows: pd.DataFrame) -> str:
    """The range of shares of the roof in per cent, by phase: `prefill 41 %, decode 22-35 %`; empty where no roof is known."""
    parts = []
    for phase, group in rows.groupby("phase", sort=False):
        share = 100 * group["share_of_roof"].dropna()
        ends = [f"{v:.0f}" if v >= 10 else f"{v:.2g}" for v in (share.min(), share.max())] if len(share) else []
        parts += [f"{phase} {'-'.join(dict.fromkeys(ends))} %"] if ends else []
    return ", ".join(parts)
