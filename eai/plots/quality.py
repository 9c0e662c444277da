"""Pictures of quality against cost: Pareto front, score against energy, score retained against energy saved, deployment matrix."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from eai.analyze.metrics import SPEEDS, unit_label
from eai.plots.ratios import names
from eai.plots.style import FONT_PT, MARKERS, PALETTE, colorbar, percent, plain_ticks, tidy, title, watermark

MOST_NAMED = 10
LEAST_NAMED = 0.05
MOST_WITH_BARS = 60
LOG_SPAN = 5.0
GAP_PT = 14.0
ROOMY_PT = 9.0


def pareto(table: pd.DataFrame, ax: Axes) -> list:
    """Draw energy against throughput (analyze.deployment.pareto), each point as dark as its probability of being on the front.

    The title says what the front weighs: without scores it is one of energy and time alone. The ten surest points are numbered and
    named beside the axes.
    """
    tidy(ax, grid="both")
    artists = [_by_probability(table["units_per_s"], table["unit_energy_j"], table, ax)]
    ax.set_xlabel(unit_label(table, SPEEDS))
    ax.set_ylabel(unit_label(table))
    _log_where_wide(ax, "x", table["units_per_s"])
    _log_where_wide(ax, "y", table["unit_energy_j"])
    unscored = "" if "energy, time, score" in set(table["objectives"]) else "; no score was measured"
    title(ax, f"front of {' / '.join(sorted(set(table['objectives'])))}{unscored}")
    artists += _named(table, "units_per_s", "unit_energy_j", ax)
    colorbar(ax, artists[0], "probability of being on the front")
    return artists + watermark(ax, table)


def quality(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the score against the energy per token (analyze.deployment.pareto) with Wilson's interval, dark where on the front.

    Left and up is better; compare within a task, a marker a task. The ten surest points are numbered and named. Without scores the
    axes say so.
    """
    tidy(ax, grid="both")
    table = table.dropna(subset="score").reset_index(drop=True)
    ax.set_xlabel(unit_label(table))
    ax.set_ylabel("task score [fraction]")
    if table.empty:
        return [ax.text(0.5, 0.5, "no score was measured", transform=ax.transAxes, ha="center", color="0.4")]
    artists = []
    for i, (task, rows) in enumerate(table.groupby("task", sort=False)):
        artists.append(_by_probability(rows["unit_energy_j"], rows["score"], rows, ax, MARKERS[i % len(MARKERS)]))
        if table["task"].nunique() > 1:
            artists[-1].set_label(task)
    colored = artists[-1]
    if len(table) <= MOST_WITH_BARS:
        error = [(table["score"] - table["score_low"]).fillna(0), (table["score_high"] - table["score"]).fillna(0)]
        artists.append(ax.errorbar(table["unit_energy_j"], table["score"], yerr=error, fmt="none", ecolor="0.6", elinewidth=0.8))
    _log_where_wide(ax, "x", table["unit_energy_j"])
    artists += _named(table, "unit_energy_j", "score", ax)
    colorbar(ax, colored, "probability of being on the front")
    return artists + watermark(ax, table)


def _by_probability(x: pd.Series, y: pd.Series, table: pd.DataFrame, ax: Axes, marker: str = "o"):
    """Points as dark as `p_front`, the surest on top; hollow and at the bottom where it is unknown."""
    order = np.argsort(table["p_front"].fillna(-1.0).to_numpy(), kind="stable")
    style = {"cmap": colormaps["cividis_r"].with_extremes(bad="none"), "plotnonfinite": True, "vmin": 0, "vmax": 1}
    style |= {"s": 24, "edgecolors": "black", "linewidths": 0.6, "zorder": 3}
    return ax.scatter(x.iloc[order], y.iloc[order], c=table["p_front"].iloc[order], marker=marker, **style)


def _log_where_wide(ax: Axes, axis: str, values: pd.Series) -> None:
    """A log axis with plain numbers where the values span more than fivefold."""
    if values.max() / values.min() > LOG_SPAN:
        getattr(ax, f"set_{axis}scale")("log")
        plain_ticks(getattr(ax, f"{axis}axis"))


def _named(table: pd.DataFrame, x: str, y: str, ax: Axes) -> list:
    """Numbers at the surest points of the front, and their names with the probability in a legend outside the axes.

    Points whose probability is unknown come last, with `?`.
    """
    rows = table.assign(name=names(table)).sort_values("p_front", ascending=False, kind="stable")
    rows = rows[~(rows["p_front"] < LEAST_NAMED)].head(MOST_NAMED)
    artists, at = [], _beside(ax, rows[[x, y]].to_numpy(float))
    for i, (row, place) in enumerate(zip(rows.to_dict("records"), at, strict=True), start=1):
        style = {"xytext": place, "fontsize": FONT_PT - 1, "fontweight": "bold", "zorder": 4, "ha": "center", "va": "center"}
        artists.append(ax.annotate(str(i), (row[x], row[y]), textcoords="offset points", **style))
        ax.plot([], [], linestyle="none", label=f"{i}  {row['name']}: {percent(row['p_front'])}")
    ax.legend(frameon=False, fontsize=FONT_PT - 1, loc="upper left", bbox_to_anchor=(1.0, 1.03), handlelength=0.8, handletextpad=0.3)
    return artists


def _beside(ax: Axes, points: np.ndarray) -> list[tuple[float, float]]:
    """Where the number of each point goes [pt from it]: the corner farthest from all points and earlier numbers, the first of equals."""
    ax.autoscale_view()
    at_pt = ax.transData.transform(points) * 72 / ax.figure.dpi / 2  # the legend beside the axes takes about half of their width
    corners = np.array([(7.0, 6.0), (7.0, -6.0), (-7.0, 6.0), (-7.0, -6.0)])
    taken, places = at_pt, []
    for point in at_pt:
        gaps = [np.hypot(*(taken - point - corner).T).min(initial=ROOMY_PT) for corner in corners]
        best = corners[int(np.argmax(np.minimum(gaps, ROOMY_PT)))]
        taken = np.vstack([taken, point + best])
        places.append(tuple(best))
    return places


def retention(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the score retained against the energy saved (analyze.study.retention) with both intervals; right and up is better.

    Beyond 60 points the intervals of single points are left out and each strategy's median stands out instead; the title says so.
    """
    tidy(ax, grid="both")
    ax.set_xlabel("energy saved against the baseline [%]")
    ax.set_ylabel("score retained [%]")
    if table.empty:
        return [ax.text(0.5, 0.5, "no score was measured", transform=ax.transAxes, ha="center", color="0.4")]
    artists = [ax.axhline(100.0, color="0.3", linewidth=0.8), ax.axvline(0.0, color="0.3", linewidth=0.8)]
    many = len(table) > MOST_WITH_BARS
    for i, (strategy, rows) in enumerate(table.groupby("quantization", sort=False)):
        style = {"color": PALETTE[i % len(PALETTE)], "label": strategy, "elinewidth": 0.8, "capsize": 2}
        error = {} if many else {"xerr": _error(rows, "energy_saved"), "yerr": _error(rows, "score_retained")}
        look = {"fmt": MARKERS[i % len(MARKERS)], "markersize": 3 if many else 4, "alpha": 0.35 if many else 1.0}
        artists.append(ax.errorbar(100 * rows["energy_saved"], 100 * rows["score_retained"], **error, **style, **look))
        if many:
            centre = 100 * rows["energy_saved"].median(), 100 * rows["score_retained"].median()
            artists += ax.plot(*centre, MARKERS[i % len(MARKERS)], color=PALETTE[i % len(PALETTE)], markersize=9, markeredgecolor="black")
    title(ax, f"{len(table)} configurations; large: median of each strategy" if many else "")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return artists + watermark(ax, table)


def _error(rows: pd.DataFrame, name: str) -> list[pd.Series]:
    """Both arms of an interval in per cent, 0 where it is not known."""
    return [100 * (rows[name] - rows[f"{name}_low"]).fillna(0), 100 * (rows[f"{name}_high"] - rows[name]).fillna(0)]


def deployment_matrix(table: pd.DataFrame, ax: Axes) -> list:
    """Draw analyze.matrix.matrix as a table of text: scenario, choice, what it saves and keeps, and how sure the choice is.

    A unit is an output token, or an item of a task. Columns are as wide as their texts; where all together are too wide for the axes the
    letters are smaller.
    """
    ax.set_axis_off()
    heads = ("scenario", "hardware, strategy, batch", "energy saved", "score kept", "units/s", "probability")
    rows = [matrix_texts(row) for row in table.to_dict("records")]
    places, size = _columns(ax, heads, rows)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(table) + 0.5, -0.7)
    artists = [ax.text(x, -0.2, head, fontsize=size, fontweight="bold", va="center") for x, head in zip(places, heads, strict=True)]
    for y, texts in enumerate(rows):
        if y % 2 == 0:
            artists.append(ax.axhspan(y + 0.1, y + 1.1, color="0.95", zorder=0))
        artists += [ax.text(x, y + 0.6, text, fontsize=size, va="center") for x, text in zip(places, texts, strict=True)]
    title(ax, left_out(table))
    return artists + watermark(ax, table)


def _columns(ax: Axes, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> tuple[list[float], float]:
    """Where each column begins, as a fraction of the axes, and the size of the letters with which all of them fit [pt].

    The width of a text is that of its outline, which does not depend on the renderer.
    """
    plain, bold = FontProperties(size=FONT_PT), FontProperties(size=FONT_PT, weight="bold")
    body = [max((_width_pt(row[i], plain) for row in rows), default=0.0) for i in range(len(heads))]
    widths = [max(_width_pt(head, bold), width) + GAP_PT for head, width in zip(heads, body, strict=True)]
    room_pt = 72 * ax.figure.get_size_inches()[0] * 0.93
    shrink = min(1.0, room_pt / sum(widths))
    spare = (1.0 - shrink * sum(widths) / room_pt) / len(widths)
    starts = np.cumsum([0.01, *(shrink * width / room_pt + spare for width in widths[:-1])])
    return starts.tolist(), FONT_PT * shrink


def _width_pt(text: str, font: FontProperties) -> float:
    """The width of a text [pt]."""
    return TextPath((0, 0), text, prop=font).get_extents().width if text.strip() else 0.0


def left_out(table: pd.DataFrame) -> str:
    """How many cells of a deployment matrix are no candidates, because their energy varies too much; empty if none."""
    rejected = int(table["n_rejected"].max()) if len(table) else 0
    return f"{rejected} of {table['n_cells'].max():.0f} cells left out: energy varies by more than 5 % between blocks" if rejected else ""


def matrix_texts(row: dict) -> tuple[str, ...]:
    """One scenario in words: what to choose and what it is worth.

    `nothing measured meets it` where there is no candidate, `the only candidate` where there is one: nothing was weighed.
    """
    if not row["candidates"]:
        return row["scenario"], "nothing measured meets it", "", "", "", ""
    choice = f"{row['gpu']}, {row['quantization']}, {row['batch_size']:.0f}"
    kept = f"{100 * row['score_retained']:.1f} %" if np.isfinite(row["score_retained"]) else "not measured"
    sure = "the only candidate" if row["candidates"] == 1 else percent(row["confidence"])
    return row["scenario"], choice, f"{100 * row['energy_saved']:.0f} %", kept, f"{row['units_per_s']:.3g}", sure
