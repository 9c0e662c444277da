"""The look of every figure: colour-blind-safe palette, labels from the registry, watermark, caption, files that do not change.

The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by readers with any common colour blindness; every
series also has its own marker, so that a figure survives a black-and-white printer.
"""

import io
from pathlib import Path

import matplotlib
import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eai import schema
from eai.errors import UserError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTHS_IN = {"column": 3.5, "page": 7.16}
FONT_PT = 8
NOT_GIVEN = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}


def figure(nrows: int = 1, ncols: int = 1, width: str = "page", height_in: float = 3.0):
    """A figure of publication width (column 3.5 in, page 7.16 in) and its axes, as `plt.subplots` returns them.

    It belongs to no window manager and leaves no global state: a loop over a thousand figures leaks nothing.
    """
    fig = Figure(figsize=(WIDTHS_IN[width], height_in), layout="constrained", dpi=150)
    with matplotlib.rc_context({"font.size": FONT_PT, "axes.titlesize": FONT_PT + 1}):
        axes = fig.subplots(nrows, ncols)
    return fig, axes


def label(column: str, table: str | None = None) -> str:
    """The axis label of a registered column, unit included: `energy per output token [J]`."""
    return schema.column(column, table).label


def tidy(ax: Axes, grid: str = "y") -> None:
    """Take away the upper and right frame and put a light grid behind the marks."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def colorbar(ax: Axes, artist, text: str):
    """A colour bar beside the axes in the figure's font size; returns it."""
    bar = ax.figure.colorbar(artist, ax=ax)
    bar.set_label(text, fontsize=FONT_PT)
    bar.ax.tick_params(labelsize=FONT_PT)
    return bar


def plain_ticks(axis) -> None:
    """Numbers instead of powers on a log axis, at 1, 2 and 5 of each decade."""
    axis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(matplotlib.ticker.LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))


def doubts(table: pd.DataFrame) -> list[str]:
    """What a reader must know before believing a figure: the bases that are not measured, and weights that are random."""
    found = sorted(set(table.get("basis", pd.Series(dtype=str)).dropna()) - {"measured"})
    weights = set(table.get("weights", pd.Series(dtype=str)).dropna())
    return found + (["random weights"] if weights & {"random", "random_outliers"} else [])


def watermark(ax: Axes, table: pd.DataFrame) -> list:
    """Write `estimated`, `simulated`, ... `random weights` across the axes where the table says so; returns the artists."""
    words = " / ".join(doubts(table))
    if not words:
        return []
    width_pt = 72 * ax.bbox.width / ax.figure.dpi
    size = min(26, 1.1 * width_pt / len(words))
    return [ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", rotation=20, fontsize=size, color="0.85", zorder=0)]


def caption(table: pd.DataFrame) -> str:
    """The sentence under a figure: how many blocks, what the bars are, what the energy covers and where it comes from."""
    parts = [_count(table), _interval(table)]
    if "boundary" in table:
        kinds = " ".join(sorted(set(table.get("energy_kind", pd.Series(dtype=str)).dropna())))
        parts.append(f"Energy: {kinds} {', '.join(sorted(set(table['boundary'].dropna())))}".replace("  ", " "))
    if "basis" in table:
        parts.append(f"Basis: {', '.join(sorted(set(table['basis'].dropna())))}")
    if "estimated" in set(table.get("basis", [])):
        parts.append("An estimated energy is CPU time times a stated power: it carries no information that time does not")
    return ". ".join(p for p in parts if p) + "."


def _count(table: pd.DataFrame) -> str:
    """`n = 5 blocks a point`, or the range."""
    name = next((c for c in ("n_blocks", "n_pairs") if c in table), None)
    if name is None or table.empty:
        return ""
    drawn = table.loc[table[name] > 0, name]
    unit = "blocks" if name == "n_blocks" else "paired blocks"
    missing = f"; {len(table) - len(drawn)} without {unit}" if len(drawn) < len(table) else ""
    if drawn.empty:
        return f"No {unit}"
    low, high = int(drawn.min()), int(drawn.max())
    return (f"n = {low} {unit} a point" if low == high else f"n = {low} to {high} {unit} a point") + missing


def _interval(table: pd.DataFrame) -> str:
    """What the bars of this table are."""
    if "n_pairs" in table:
        offset = ", the sensor's offset included" if "u_log" in table and (table["u_log"] > 0).any() else ""
        return f"Bars: 95 % t interval of paired log ratios{offset}"
    return "Bars: 95 % t interval of block means on the log scale, within one card" if "n_blocks" in table else ""


def save(fig: Figure, path: str | Path) -> Path:
    """Write the figure as .svg, .pdf or .png, byte for byte the same for the same figure; returns the path.

    Raises UserError for another suffix.
    """
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in NOT_GIVEN:
        raise UserError(f"figure file '{path.name}'", "a name that ends in .svg, .pdf or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rendered(fig, kind))
    return path


def rendered(fig: Figure, kind: str) -> bytes:
    """The bytes of the figure as svg, pdf or png, the same for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "eai", "font.size": FONT_PT}):
        fig.savefig(buffer, format=kind, metadata=NOT_GIVEN[kind], dpi=200)
    return buffer.getvalue()
