"""The look of every figure: a sober palette, names of rows, panels, direct labels, the message above and the doubts in the corner.

The palette is Okabe and Ito's (https://jfly.uni-koeln.de/color/), for readers with colour blindness too; every series also
has its own marker, so that a figure survives a black-and-white printer. Text from data is text: a `$` in a name is never mathtext.
Words of a figure are English sentences that `t` turns into the language of the page they are drawn for (`language`).
"""

import contextlib
import io
import itertools
import json
import logging
import math
import textwrap
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from eai import schema, strategies
from eai.errors import UserError
from eai.quantity import plain as shortest

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTHS_IN = {"column": 3.5, "text": 5.2, "page": 7.16}
LONGEST_NAME = 48
FONT_PT = 8
LOOK = sns.axes_style("ticks") | sns.plotting_context("paper") | {
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), FONT_PT),
    "font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans"], "text.parse_math": False, "grid.color": "0.9", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.linewidth": 0.8, "xtick.major.width": 0.8, "ytick.major.width": 0.8, "svg.hashsalt": "eai",
}  # fmt: skip
NOT_GIVEN = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
CAPTION_KEY = {"svg": "Description", "pdf": "Subject", "png": "Description"}
MOST_DECADES = 3.0
MOST_LINES = 40
MOST_SERIES = 16
PANELS_IN_A_ROW = 3
BESIDE_LETTERS = 16
LOG_SPAN = 5.0
DRAWN = "Probabilities over draws from the intervals of block means"
SERIES = ("gpu", "model", "weights", "engine", "input_tokens", "output_tokens", "task", "batch_size", "load")
WORDS = {"batch_size": "batch {n}", "input_tokens": "{n} tok in", "output_tokens": "{n} tok out", "weights": "{n} weights"}
OWN_TASKS = ("generate", "arithmetic")
CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei",
       "Microsoft YaHei", "PingFang SC")  # fmt: skip
_SPOKEN: ContextVar[tuple[Callable[[str], str], dict]] = ContextVar("spoken", default=(str, {}))


def t(text: str, **values: object) -> str:
    """A text in the language of the figure (`language`), its fields filled in."""
    found = _SPOKEN.get()[0](text)
    return found.format(**values) if values else found


@cache
def chinese_font() -> str:
    """The first installed font with Chinese characters; empty where there is none."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # one without bold letters is no news
    for path in font_manager.findSystemFonts():  # the cached list does not know a font that was installed after it
        if any(part in path.lower() for part in ("cjk", "wqy", "hans", "simhei", "msyh", "pingfang")):
            font_manager.fontManager.addfont(path)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CJK if name in installed), "")


@contextlib.contextmanager
def language(translate: Callable[[str], str], is_chinese: bool):
    """Figures made inside speak the language of `translate`; English where no installed font has Chinese characters."""
    font = chinese_font() if is_chinese else ""
    token = _SPOKEN.set((translate, {"font.family": ["DejaVu Sans", font]} if font else {}) if font or not is_chinese else (str, {}))
    try:
        with matplotlib.rc_context(_SPOKEN.get()[1]):  # a text takes its fonts when it is made
            yield
    finally:
        _SPOKEN.reset(token)


class Picture(Figure):
    """A figure that shows itself as an image wherever a notebook runs: no window manager, no pyplot state, no backend to choose."""

    look = LOOK

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def figure(nrows: int = 1, ncols: int = 1, width: str = "page", height_in: float = 3.0):
    """A figure and its axes, as `plt.subplots` returns them; a thousand leak nothing. Widths: column 3.5 in, text 5.2 in, page 7.16 in."""
    fig = Picture(figsize=(WIDTHS_IN[width], height_in), layout="constrained", dpi=150)
    fig.look = LOOK | _SPOKEN.get()[1]
    with matplotlib.rc_context(fig.look):
        axes = fig.subplots(nrows, ncols)
    for ax in np.ravel(axes):
        tidy(ax)
    return fig, axes


def panels(ax: Axes, table: pd.DataFrame, by: str = "task") -> list[tuple[Axes, str, pd.DataFrame]]:
    """(axes, name, rows) of each level of `by`, side by side in the place of `ax`; `ax` itself where there is one level.

    Tasks are counted in different units: a token of one and an item of another never stand on one axis.
    """
    groups = [(str(name), rows) for name, rows in table.groupby(by, sort=False)] if by in table else []
    if len(groups) < 2:
        return [(ax, "", table)]
    grid = ax.get_subplotspec().subgridspec(math.ceil(len(groups) / PANELS_IN_A_ROW), min(len(groups), PANELS_IN_A_ROW))
    fig, found = ax.figure, []
    ax.remove()
    for i, (name, rows) in enumerate(groups):
        with matplotlib.rc_context(getattr(fig, "look", LOOK)):
            found.append((fig.add_subplot(grid[divmod(i, PANELS_IN_A_ROW)]), name, rows))
        tidy(found[-1][0])
        title(found[-1][0], name)
    return found


def label(column: str, table: str | None = None) -> str:
    """The axis label of a registered column, unit included: `energy per output token [J]`."""
    return t(schema.column(column, table).label)


def number(value: float | None, digits: int = 3) -> str:
    """The value with `digits` significant digits and never an exponent: `0.0621`, `6,260`; `-` where it is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    return fixed(value, decimals(value, digits)) if value else "0"


def decimals(value: float, digits: int = 3) -> int:
    """The decimal places that show `digits` significant digits; negative for numbers to be rounded before the point."""
    return digits - 1 - math.floor(math.log10(abs(value))) if value else 0


def fixed(value: float, places: int) -> str:
    """The value with so many decimal places and thousands separated: `6,260`, `0.0621`."""
    return f"{round(value, places):,.{max(places, 0)}f}"


def interval(value: float, low: float | None, high: float | None, unit: str = "", digits: int = 3) -> str:
    """`0.0621 J [0.0603 to 0.0639]`: the ends have the places of the estimate; the estimate alone where there are none."""
    text = f"{number(value, digits)} {unit}".rstrip()
    if not all(v is not None and math.isfinite(v) for v in (value, low, high)):
        return text
    places = decimals(value, digits)
    return f"{text} [{t('{low} to {high}', low=fixed(low, places), high=fixed(high, places))}]"


def tidy(ax: Axes, grid: str = "") -> None:
    """Take away the upper and right frame; with `grid` (x, y, both) put a light grid behind the marks."""
    sns.despine(ax=ax)
    if grid:
        ax.grid(axis=grid, color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)


def legend(ax: Axes, beside: bool = True, **style) -> None:
    """A legend without a frame, beside the axes so that it hides nothing; none where nothing is labelled."""
    if ax.get_legend_handles_labels()[0] or "handles" in style:
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if beside else {}
        plain(ax.legend(frameon=False, fontsize=FONT_PT - 1, **place | style))


def plain(artist):
    """The artist with all its texts as text: a `$` begins no formula."""
    for text in artist.findobj(matplotlib.text.Text):
        text.set_parse_math("mathdefault" in text.get_text())  # the powers of a log axis are matplotlib's own
    return artist


def colorbar(ax: Axes, artist, text: str):
    """A colour bar beside the axes in the figure's font size; returns it."""
    bar = ax.figure.colorbar(artist, ax=ax)
    bar.set_label(text, fontsize=FONT_PT)
    bar.ax.tick_params(which="both", labelsize=FONT_PT)
    return bar


def look(i: int) -> tuple[str, str]:
    """Colour and marker of series `i`: no two of the first 64 share both."""
    return PALETTE[i % len(PALETTE)], MARKERS[(i + i // len(PALETTE)) % len(MARKERS)]


def known_strategies(table: pd.DataFrame) -> list[str]:
    """The strategies of a table, full precision first: their places are their colours in every figure."""
    found = set(table["quantization"].astype(str))
    return [*(s for s in strategies.STRATEGIES if s in found), *sorted(found - set(strategies.STRATEGIES))]


def title(ax: Axes, text: str):
    """A line above the axes, to the left, in the size of the other text; returns the artist."""
    return ax.set_title(text, loc="left", fontsize=FONT_PT, parse_math=False)


def message(fig: Figure, text: str):
    """What the figure shows, in one sentence above it; returns the artist."""
    letters = int(fig.get_size_inches()[0] * 12.5)
    style = {"x": 0.01, "ha": "left", "fontsize": FONT_PT + 1, "fontweight": "bold", "parse_math": False}
    return fig.suptitle("\n".join(textwrap.wrap(text, letters)), **style)


def label_lines(ax: Axes, ends: list[tuple[float, float, str, str]]) -> list:
    """Write each line's name at its end: (x, y, name, color) in data units; names that would touch move apart."""
    ax.autoscale_view()
    pixels = ax.transData.transform([(x, y) for x, y, _, _ in ends])[:, 1] * 72 / ax.figure.dpi
    places, order, gap = pixels.copy(), np.argsort(pixels), FONT_PT + 1.5
    for low, high in itertools.pairwise(order):
        places[high] = max(places[high], places[low] + gap)
    places -= (places - pixels).mean()
    return [
        ax.annotate(name, (x, y), xytext=(6, at - own), textcoords="offset points", color=color, va="center", annotation_clip=False,
                    fontsize=FONT_PT - 1, parse_math=False)
        for (x, y, name, color), at, own in zip(ends, places, pixels, strict=True)
    ]  # fmt: skip


def scale(ax: Axes, axis: str, values) -> None:
    """A log axis with plain numbers where the values span more than fivefold, else a linear one from zero: a cut axis exaggerates."""
    values = np.asarray(values, float)
    if np.nanmax(values) / np.nanmin(values) > LOG_SPAN:
        getattr(ax, f"set_{axis}scale")("log")
        plain_ticks(getattr(ax, f"{axis}axis"))
    else:
        getattr(ax, f"set_{axis}lim")(0, 1.08 * max(np.nanmax(values), getattr(ax, f"get_{axis}lim")()[1] / 1.08))


def plain_ticks(axis) -> None:
    """Numbers instead of powers on a log axis: round steps within half a decade, 1, 2 and 5 of each decade, only 1 beyond three."""

    def text(x: float, _: int | None = None) -> str:
        found = shortest(x)
        return found.rstrip("0").rstrip(".") if "." in found else found

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else 1.0
    if decades < 0.5:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(text))
    subs = (1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (2, 5)
    axis.set_minor_locator(LogLocator(subs=subs) if 0.5 <= decades <= MOST_DECADES else NullLocator())
    axis.set_minor_formatter(FuncFormatter(text))
    axis.set_tick_params(which="minor", labelsize=FONT_PT)


def arms(rows: pd.DataFrame, name: str, factor: float = 1.0) -> np.ndarray:
    """The lengths of an interval's arms below and above each value, shape (2, n); 0 where an end is not known."""
    value, low, high = (rows.get(f"{name}{end}", pd.Series(np.nan, rows.index)).to_numpy(float) * factor for end in ("", "_low", "_high"))
    return np.where(np.isfinite(low) & np.isfinite(high), [value - low, high - value], 0.0)


def percent(share: float) -> str:
    """A probability in whole per cent, never 0 % or 100 %: it was counted over a finite number of draws; `?` where unknown."""
    if not math.isfinite(share):
        return "?"
    return "> 99 %" if share > 0.99 else "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def word(column: str, value) -> str:
    """A value of a series in words; options as `load closed:4`, nothing for those at their default and for the lengths of a task."""
    if column == "options":
        return ", ".join(f"{name} {option}" for name, option in json.loads(value or "{}").items())
    if column in ("input_tokens", "output_tokens"):
        return "" if value == 0 else t(WORDS[column], n=f"{value:g}")
    plain = str(value).rsplit("/", 1)[-1]
    return t(WORDS[column], n=t(str(value))) if column in WORDS else t(plain) if plain in OWN_TASKS else plain


def varied(table: pd.DataFrame) -> list[str]:
    """The columns of SERIES that tell rows apart; a length varies where two lengths do, and not beside a task that has none."""
    lengths = ("input_tokens", "output_tokens")
    return [c for c in SERIES if c in table and table.loc[table[c] != 0 if c in lengths else table.index, c].nunique() > 1]


def short(name: str) -> str:
    """A name that leaves room for the axes: of one longer than 48 letters the middle is left out."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]} ... {name[5 - LONGEST_NAME // 2 :]}"


def names(table: pd.DataFrame) -> list[str]:
    """The names of the rows: the strategy and whatever else varies between them; options where nothing else tells two rows apart."""
    varying = varied(table)
    plural = table.duplicated(["quantization", *varying], keep=False) if "options" in table else [False] * len(table)
    found = []
    for row, several in zip(table.to_dict("records"), plural, strict=True):
        parts = [row["quantization"], *(word(c, row[c]) for c in varying), word("options", row["options"]) if several else ""]
        found.append(", ".join(short(str(part)) for part in parts if part))
    return found


def series(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Pairs (name, rows): one for each combination of the columns that vary beside the strategy; options where they tell too little."""
    varying = varied(table)
    if "options" in table and (table.groupby([*varying, "quantization"])["options"].nunique() > 1).any():
        varying.append("options")
    if not varying:
        yield "", table
        return
    for key, rows in table.groupby(varying, sort=True):
        yield ", ".join(filter(None, (word(c, value) for c, value in zip(varying, key, strict=True)))), rows


def doubts(table: pd.DataFrame) -> list[str]:
    """What a reader must know before believing a figure: the bases that are not measured, and weights that are random."""
    found = sorted(set(table.get("basis", pd.Series(dtype=str)).dropna()) - {"measured"})
    weights = set(table.get("weights", pd.Series(dtype=str)).dropna())
    return found + (["random weights"] if weights & {"random", "random_outliers"} else [])


def watermark(ax: Axes, table: pd.DataFrame) -> list:
    """Write `estimated`, `simulated`, ... `random weights` in the upper right corner, outside the data; returns the artists."""
    words = " / ".join(map(t, doubts(table)))
    if not words:
        return []
    head = ax.get_title(loc="left")
    lines = head.count("\n") + 1 if max(map(len, head.split("\n"))) > BESIDE_LETTERS else 0  # a long title has the corner for itself
    place = {"xycoords": "axes fraction", "xytext": (0, 3 + lines * 1.3 * FONT_PT), "textcoords": "offset points"}
    style = {"ha": "right", "va": "bottom", "fontsize": FONT_PT - 1, "color": "0.35", "fontstyle": "italic"}
    return [ax.annotate(words, (1.0, 1.0), **place, **style)]


def nothing(ax: Axes, text: str) -> list:
    """Axes without data say why."""
    return [ax.text(0.5, 0.5, t(text), transform=ax.transAxes, ha="center", color="0.4", fontsize=FONT_PT)]


def caption(table: pd.DataFrame, drawn: str = "", scores: bool = False) -> str:
    """The sentence under a figure: how many blocks, what the bars are, what the energy covers and where it comes from.

    `drawn` says what is drawn where it is not the interval of each row; with `scores` the number of items is said too.
    """
    columns, parts = set(table), []
    count = next((c for c in ("n_blocks", "n_pairs") if c in columns), None)
    if count and len(table):
        found, unit = table.loc[table[count] > 0, count], "blocks" if count == "n_blocks" else "paired blocks"
        missing = f"; {len(table) - len(found)} without {unit}" if len(found) < len(table) else ""
        parts.append(f"n = {_range(found)} {unit} a point{missing}" if len(found) else f"No {unit}")
    if scores and "n_items" in columns and (table["n_items"] > 0).any():
        parts.append(f"Scores over {_range(table.loc[table['n_items'] > 0, 'n_items'])} items, with 95 % intervals over items")
    if drawn:
        parts.append(drawn)
    elif {"power", "family"} <= columns:
        family = table["family"].iloc[0]
        parts.append(f"Power of a two-sided paired t test at 5 % after Holm over {family} comparisons; computed, so no bars")
    elif "n_pairs" in columns:
        offset = ", the sensor's offset included" if "u_log" in columns and (table["u_log"] > 0).any() else ""
        parts.append(f"Bars: 95 % t interval of paired log ratios{offset}")
    elif "n_blocks" in columns:
        parts.append("Bars: 95 % t interval of block means on the log scale, within one card")
    kinds, boundaries, bases = (sorted(set(table[c].dropna())) if c in columns else [] for c in ("energy_kind", "boundary", "basis"))
    parts += ["Energy: " + " ".join(filter(None, (" ".join(kinds), ", ".join(boundaries))))] if "boundary" in columns else []
    parts += [f"Basis: {', '.join(bases)}"] if "basis" in columns else []
    if "estimated" in bases:
        parts.append("An estimated energy is CPU time times a stated power: it carries no information that time does not")
    return ". ".join(parts) + "."


def _range(values: pd.Series) -> str:
    """`5`, or `3 to 5`."""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def show(fig: Figure, path: str | Path, finding: str, caption: str = "") -> None:
    """Put the finding above the figure, save it, print the finding and display the figure as the cell's output."""
    from IPython.display import display

    message(fig, finding)
    save(fig, path, caption)
    print(finding)
    display(fig)


def save(fig: Figure, path: str | Path, caption: str = "") -> Path:
    """Write the figure as .svg, .pdf or .png, byte for byte the same for the same figure, the caption in the file's own description;
    returns the path. Raises UserError for another suffix.
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
    with matplotlib.rc_context(getattr(fig, "look", LOOK)):
        plain(fig).savefig(buffer, format=kind, metadata=metadata, dpi=200)
    return buffer.getvalue()
