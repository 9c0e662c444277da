"""The look of every figure: colour-blind-safe palette, labels from the registry, watermark, caption, files that do not change.

The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by readers with any common colour blindness; every
series also has its own marker, so that a figure survives a black-and-white printer.
"""

import io
import math
from pathlib import Path

import matplotlib
import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eai import schema
from eai.errors import UserError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTHS_IN = {"column": 3.5, "page": 7.16}
FONT_PT = 8
NOT_GIVEN = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
CAPTION_KEY = {"svg": "Description", "pdf": "Subject", "png": "Description"}
MOST_DECADES = 3.0
MOST_LINES = 40
DRAWN = "Probabilities over draws from the intervals of block means"


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
    bar.ax.tick_params(which="both", labelsize=FONT_PT)
    return bar


def look(i: int) -> tuple[str, str]:
    """Colour and marker of series `i`: no two of the first 64 share both."""
    return PALETTE[i % len(PALETTE)], MARKERS[(i + i // len(PALETTE)) % len(MARKERS)]


def title(ax: Axes, text: str):
    """What a figure says above its axes, in the size of its other text, to the left; returns the artist."""
    return ax.set_title(text, loc="left", fontsize=FONT_PT)


def plain_ticks(axis) -> None:
    """Numbers instead of powers on a log axis: 1, 2 and 5 of each decade; more within one decade, only 1 beyond three."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else 1.0
    subs = (1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (2, 5)
    axis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(matplotlib.ticker.NullLocator() if decades > MOST_DECADES else matplotlib.ticker.LogLocator(subs=subs))
    axis.set_minor_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))


def percent(share: float) -> str:
    """A probability in whole per cent, never 0 % or 100 %: it was counted over a finite number of draws; `?` where unknown."""
    if not math.isfinite(share):
        return "?"
    return "> 99 %" if share > 0.99 else "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


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


def caption(table: pd.DataFrame, drawn: str = "", scores: bool = False) -> str:
    """The sentence under a figure: how many blocks, what the bars are, what the energy covers and where it comes from.

    `drawn` says what is drawn where it is not the interval of each row; with `scores` the number of items is said too.
    """
    parts = [_count(table), _items(table) if scores else "", drawn or _interval(table)]
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


def _items(table: pd.DataFrame) -> str:
    """Over how many items the scores of the table were taken."""
    found = table.loc[table["n_items"] > 0, "n_items"] if "n_items" in table else pd.Series(dtype=float)
    if found.empty:
        return ""
    low, high = int(found.min()), int(found.max())
    return f"Scores over {low if low == high else f'{low} to {high}'} items, with 95 % intervals over items"


def _interval(table: pd.DataFrame) -> str:
    """What the bars of this table are."""
    if "power" in table and "family" in table:
        return f"Power of a two-sided paired t test at 5 % after Holm over {table['family'].iloc[0]} comparisons; computed, so no bars"
    if "n_pairs" in table:
        offset = ", the sensor's offset included" if "u_log" in table and (table["u_log"] > 0).any() else ""
        return f"Bars: 95 % t interval of paired log ratios{offset}"
    return "Bars: 95 % t interval of block means on the log scale, within one card" if "n_blocks" in table else ""


def save(fig: Figure, path: str | Path, caption: str = "") -> Path:
    """Write the figure as .svg, .pdf or .png, byte for byte the same for the same figure; returns the path.

    The caption goes into the file's own description, so that number of blocks and kind of interval travel with the picture. Raises
    UserError for another suffix.
    """
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in NOT_GIVEN:
        raise UserError(f"figure file '{path.name}'", "a name that ends in .svg, .pdf or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rendered(fig, kind, caption))
    return path


def rendered(fig: Figure, kind: str, caption: str = "") -> bytes:
    """The bytes of the figure as svg, pdf or png, the same for the same figure and caption."""
    buffer = io.BytesIO()
    metadata = NOT_GIVEN[kind] | ({CAPTION_KEY[kind]: caption} if caption else {})
    with matplotlib.rc_context({"svg.hashsalt": "eai", "font.size": FONT_PT}):
        fig.savefig(buffer, format=kind, metadata=metadata, dpi=200)
    return buffer.getvalue()
