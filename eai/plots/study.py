"""The study's pictures: heatmap, scaling with batch, synergy, uncertainty budget."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from eai.analyze.summary import BUDGET_TERMS
from eai.plots.costs import MOST_SERIES, WORDS, series
from eai.plots.ratios import LOOK, names
from eai.plots.style import FONT_PT, MOST_LINES, PALETTE, colorbar, doubts, label, look, plain_ticks, tidy, title, watermark


def heatmap(
    table: pd.DataFrame,
    ax: Axes,
    value: str = "energy_j_per_token",
    basis: pd.DataFrame | None = None,
    notes: pd.DataFrame | None = None,
) -> list:
    """Draw a table of rows x columns (analyze.study.heatmap) with the number in every cell; an empty cell was not measured.

    The colour is on a log scale, dark for more. `basis` is the summary that the table came from, for the watermark. `notes`, of the
    same rows and columns (`best`), says under each number what it holds for.
    """
    numbers = table.to_numpy(float)
    norm = matplotlib.colors.LogNorm(np.nanmin(numbers), np.nanmax(numbers)) if np.nanmax(numbers) > np.nanmin(numbers) else None
    image = ax.imshow(np.ma.masked_invalid(numbers), cmap="cividis_r", norm=norm, aspect="auto")
    artists = [image]
    for (i, j), number in np.ndenumerate(numbers):
        text = f"{number:.3g}" if np.isfinite(number) else "not\nmeasured"
        text += f"\n{notes.iloc[i, j]}" if notes is not None and np.isfinite(number) else ""
        color = _readable_on(image.cmap(image.norm(number))) if np.isfinite(number) else "0.4"
        artists.append(ax.text(j, i, text, ha="center", va="center", color=color, fontsize=FONT_PT - (1 if notes is None else 2)))
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=35, ha="right")
    ax.set_yticks(range(table.shape[0]), table.index)
    plain_ticks(colorbar(ax, image, label(value)).ax.yaxis)
    if basis is not None:
        title(ax, " / ".join(doubts(basis)))
    return artists


def best(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lowest cost of each hardware and strategy (analyze.matrix.cells), and its interval, batch size and n in words."""
    least = cells.loc[cells.groupby(["gpu", "quantization"], sort=False)["unit_energy_j"].idxmin()]
    rows = least.to_dict("records")
    words = [
        f"[{r['unit_energy_j_low']:.3g}, {r['unit_energy_j_high']:.3g}]\nbatch {r['batch_size']}, n = {r['n_blocks']:.0f}" for r in rows
    ]
    numbers, notes = (
        least.assign(words=words).pivot_table(index="gpu", columns="quantization", values=v, aggfunc="first", sort=False)
        for v in ("unit_energy_j", "words")
    )
    return numbers, notes.reindex_like(numbers)


def _readable_on(rgba: tuple[float, float, float, float]) -> str:
    """Black or white, whichever has the higher contrast on a colour (relative luminance of WCAG 2, at which both are equal: 0.179)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3]]
    return "black" if np.dot(channels, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"


def batch_scaling(summary: pd.DataFrame, ax: Axes, metric: str = "energy_j_per_token") -> list:
    """Draw a metric against the batch size, both on log scales, a line with intervals for each strategy (and whatever else varies).

    Beyond 16 lines each is thin, in the colour of its strategy, whose median stands out; the title says so.
    """
    tidy(ax, grid="both")
    table = summary.dropna(subset=metric)
    lines = [
        (strategy, ", ".join(filter(None, (strategy, name))), rows.loc[line.index].sort_values("batch_size"))
        for strategy, rows in table.groupby("quantization", sort=False)
        for name, line in series(rows.drop(columns="batch_size"))
    ]
    if len(lines) > MOST_SERIES:
        artists = _bundles(ax, lines, metric)
        title(ax, f"{len(lines)} lines, named in the table; thick: median of each strategy")
    else:
        artists = [_scaling_line(ax, i, words, line, metric) for i, (_, words, line) in enumerate(lines)]
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sorted(table["batch_size"].unique()), minor=False)
    plain_ticks(ax.xaxis)
    ax.minorticks_off()
    plain_ticks(ax.yaxis)
    ax.set_xlabel(label("batch_size"))
    ax.set_ylabel(label(metric))
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return artists + watermark(ax, table)


def _scaling_line(ax: Axes, i: int, words: str, line: pd.DataFrame, metric: str):
    """One line over the batch sizes with its intervals."""
    error = [(line[metric] - line[f"{metric}_low"]).fillna(0), (line[f"{metric}_high"] - line[metric]).fillna(0)]
    color, marker = look(i)
    style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1, "capsize": 2}
    return ax.errorbar(line["batch_size"], line[metric], yerr=error, label=words, **style)


def _bundles(ax: Axes, lines: list[tuple[str, str, pd.DataFrame]], metric: str) -> list:
    """All lines of a strategy, thin, and their median over the lines that have every batch size, thick."""
    artists, sizes = [], max(len(line) for _, _, line in lines)
    for i, strategy in enumerate(dict.fromkeys(name for name, _, _ in lines)):
        own = [line.set_index("batch_size")[metric] for name, _, line in lines if name == strategy]
        color, marker = look(i)
        for line in own:
            artists += ax.plot(line.index, line, color=color, linewidth=0.5, alpha=0.4)
        whole = pd.concat([line for line in own if len(line) == sizes] or own)
        middle = whole.groupby(level=0).median()
        artists += ax.plot(middle.index, middle, color=color, marker=marker, markeredgecolor="black", linewidth=2, label=strategy)
    return artists


def synergy(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the interaction of each level (analyze.interaction.synergy): 1 means that the two factors just multiply, below 1 it saves more.

    A row that is not testable stands there without a point.
    """
    tidy(ax, grid="x")
    artists = [ax.axvline(1.0, color="0.3", linewidth=0.8)]
    for y, row in enumerate(table.to_dict("records")):
        if not np.isfinite(row["synergy_low"]):
            artists.append(ax.text(1.0, y, " not testable", va="center", color="0.4", fontsize="small"))
            continue
        color, marker = LOOK.get(row["outcome"], LOOK["inconclusive"])
        error = [[row["synergy"] - row["synergy_low"]], [row["synergy_high"] - row["synergy"]]]
        artists.append(ax.errorbar(row["synergy"], y, xerr=error, fmt=marker, color=color, markersize=4, capsize=2))
    ax.set_yticks(range(len(table)), [f"{r['quantization']}, {place(r['factor'], r['level'])}" for r in table.to_dict("records")])
    ax.set_ylim(len(table) - 0.5, -0.5)
    references = sorted({place(r["factor"], r["reference"]) for r in table.to_dict("records")})
    ax.set_xlabel(f"ratio to the baseline there / ratio at {', '.join(references)}")
    return artists + watermark(ax, table)


def place(factor: str, level) -> str:
    """A level of a factor in words: `batch 4`, `a100`."""
    return WORDS.get(factor, "{}").format(level)


def budget(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the uncertainty budget (analyze.budget.budgets): the relative standard uncertainty of each source, a bar a source.

    At most 40 configurations are drawn; the title says how many there were.
    """
    tidy(ax, grid="x")
    several, named, table = len(table), names(table), table.head(MOST_LINES)
    drawn = [t for t in BUDGET_TERMS if (table[t] > 0).any()]
    height = 0.8 / max(len(drawn), 1)
    artists = []
    for i, term in enumerate(drawn):
        y = np.arange(len(table)) + (i - (len(drawn) - 1) / 2) * height
        artists.append(ax.barh(y, 100 * table[term].fillna(0), height=height, color=PALETTE[i], label=term))
    ax.set_yticks(range(len(table)), named[: len(table)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("relative standard uncertainty, k = 1 [%]")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    left_out = [f"{len(table)} of {several} configurations"] if several > len(table) else []
    title(ax, "; ".join([*left_out, " / ".join(doubts(table))]))
    return artists
