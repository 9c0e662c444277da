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
    artists = [artist for i, rows in enumerate(_by_name(points)) for artist in _points(ax, i, *rows, scale)]
    _limits(ax, points, scale)
    artists += _phases(ax, points) + _roofs(ax, points, scale)
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    known = "share of the roof" if points["share_of_roof"].notna().any() else None
    style = {"frameon": False, "fontsize": FONT_PT - 1, "title_fontsize": FONT_PT, "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    handles = sorted(ax.get_legend_handles_labels()[0], key=lambda handle: isinstance(handle, Line2D))  # the title is of the series
    plain(ax.legend(handles=handles, title=known, alignment="left", **style))
    _say(ax, table, points)
    return artists + watermark(ax, points)


def _by_name(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(name, rows) of each strategy and whatever varies beside it, but for the batch size and the lengths, which move along the roof."""
    found = []
    for strategy, rows in points.groupby("quantization", sort=False):
        same = series(rows.drop(columns=["batch_size", "input_tokens", "output_tokens"]))
        found += [(", ".join(filter(None, (strategy, name))), rows.loc[part.index]) for name, part in same]
    return found if len(found) <= MOST_SERIES else list(points.groupby("quantization", sort=False))


def _points(ax: Axes, i: int, name: str, rows: pd.DataFrame, scale: float) -> list:
    """The points of one series with their intervals."""
    value = rows["achieved_flop_s"] / scale
    error = [(value - rows["achieved_flop_s_low"] / scale).fillna(0), (rows["achieved_flop_s_high"] / scale - value).fillna(0)]
    color, marker = look(i)
    style = {"color": color, "marker": marker, "markersize": 4, "capsize": 2, "linestyle": "none"}
    words = ": ".join(filter(None, (name, _share(rows))))
    return [ax.errorbar(rows["intensity_flop_per_byte"], value, yerr=error, label=words, zorder=3, **style)]


def _share(rows: pd.DataFrame) -> str:
    """The range of shares of the roof in per cent, by phase: `prefill 41 %, decode 22-35 %`; empty where no roof is known."""
    parts = []
    for phase, group in rows.groupby("phase", sort=False):
        share = 100 * group["share_of_roof"].dropna()
        ends = [f"{v:.0f}" if v >= 10 else f"{v:.2g}" for v in (share.min(), share.max())] if len(share) else []
        parts += [f"{phase} {'-'.join(dict.fromkeys(ends))} %"] if ends else []
    return ", ".join(parts)


def _limits(ax: Axes, points: pd.DataFrame, scale: float) -> None:
    """Room for the points and for the ridge where both roofs meet."""
    ridge = (points["peak_flop_s"] / points["bandwidth_byte_s"]).dropna()
    x = pd.concat([points["intensity_flop_per_byte"], ridge])
    y = pd.concat([points["achieved_flop_s"], points["roof_flop_s"], points["peak_flop_s"]]).dropna() / scale
    ax.set_xlim(x.min() / ROOM, x.max() * ROOM)
    ax.set_ylim(y.min() / ROOM, y.max() * ROOM)


def _phases(ax: Axes, points: pd.DataFrame) -> list:
    """The name of each phase below its points, at the foot of the axes."""
    artists = []
    for i, (phase, rows) in enumerate(points.groupby("phase")):
        x = np.exp(np.log(rows["intensity_flop_per_byte"]).mean())
        words = {"whole": "whole call", "decode": "decode step"}.get(phase, phase)
        style = {"transform": ax.get_xaxis_transform(), "ha": "center", "fontsize": FONT_PT - 1, "color": "0.3"}
        artists.append(ax.text(x, 0.02 + 0.07 * (i % 2), words, **style))
    return artists


def _roofs(ax: Axes, points: pd.DataFrame, scale: float) -> list:
    """The memory and compute roofs of each card, their figures in the legend; a dash pattern a card."""
    known = _known_roofs(points)
    cards = list(dict.fromkeys(known["gpu"]))
    left, right = ax.get_xlim()
    artists = []
    for roof in known.head(MOST_ROOFS).to_dict("records"):
        x = np.geomspace(left, right, 200)
        y = np.minimum(x * roof["bandwidth_byte_s"], roof["peak_flop_s"]) / scale
        words = f"{roof['gpu']}, {roof['quantization']}: {_speed(roof['peak_flop_s'])}, {number(roof['bandwidth_byte_s'] / GIGA, 4)} GB/s"
        dash = LINES[cards.index(roof["gpu"]) % len(LINES)]
        artists += ax.plot(x, y, color="0.4", linewidth=1, linestyle=dash, zorder=1, label=words)
    return artists


def _known_roofs(points: pd.DataFrame) -> pd.DataFrame:
    """One row for each roof that has figures."""
    return points.dropna(subset=["peak_flop_s", "bandwidth_byte_s"]).drop_duplicates(["gpu", "peak_flop_s", "bandwidth_byte_s"])


def _speed(flop_s: float) -> str:
    """`312 Tflop/s`, or `44.5 Gflop/s` below one tera."""
    return f"{number(flop_s / TERA)} Tflop/s" if flop_s >= TERA else f"{number(flop_s / GIGA)} Gflop/s"


def _say(ax: Axes, table: pd.DataFrame, points: pd.DataFrame) -> None:
    """Above the axes: what could not be placed and what has no roof."""
    words = []
    if left_out := len(table) - len(points):
        words.append(f"{left_out} configurations not counted: {table.loc[table['phase'] == '', 'reason'].iloc[0]}")
    if without := sorted(set(points.loc[points["roof_flop_s"].isna(), "gpu"])):
        words.append(f"no peak is known for {', '.join(without)}: no roof is drawn")
    if (roofs := len(_known_roofs(points))) > MOST_ROOFS:
        words.append(f"{MOST_ROOFS} of {roofs} roofs")
    if above := int((points["share_of_roof_low"] > 1).sum()):
        words.append(f"{above} points lie above their roof: a time, a count or a peak is wrong")
    title(ax, "\n".join(words))
