"""What a unit of work costs: by strategy, against the batch, by hardware, against a server's load, as power over time, under the roof."""

import textwrap

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from eai.analyze.selection import SPEEDS, UNITS, costed, unit_label
from eai.plots.style import (
    FONT_PT,
    LINES,
    MARKERS,
    MOST_SERIES,
    PALETTE,
    PANELS_IN_A_ROW,
    SERIES,
    arms,
    colorbar,
    interval,
    known_strategies,
    label,
    label_lines,
    legend,
    look,
    nothing,
    number,
    panels,
    plain,
    plain_ticks,
    scale,
    series,
    short,
    t,
    tidy,
    title,
    watermark,
    word,
)  # fmt: skip

MOST_TRACES = 12
NARROW_LETTERS = 8
LOAD_SERIES = ("server", "model", "quantization", "input_tokens", "output_tokens")
KINDS = {"closed": "closed: requests in flight", "open": "open: requests sent per second"}


def cost(summary: pd.DataFrame, ax: Axes) -> list:
    """Draw what a unit of work costs under each strategy, a panel a task, a colour a batch size (or whatever else varies).

    A unit is an output token, or an item of a task that ran as its items come. A point outside the gate (rejected) is hollow. Beyond 16
    series each is a small point without interval, in the colour of its GPU (or whatever varies first), whose median stands out.
    """
    return _by_strategy(summary, ax, "unit_energy_j", UNITS)


def throughput(summary: pd.DataFrame, ax: Axes) -> list:
    """Draw the output tokens (of a task: items) per second of each strategy with intervals, a panel a task."""
    return _by_strategy(summary, ax, "units_per_s", SPEEDS)


def _by_strategy(summary: pd.DataFrame, ax: Axes, column: str, words: dict[str, str]) -> list:
    """Strategies from top to bottom, one series for each combination of what else varies."""
    table = costed(summary).dropna(subset=column)
    if table.empty:
        return nothing(ax, "no usable window")
    artists, found = [], panels(ax, table)
    for i, (each, _, rows) in enumerate(found):
        tidy(each, "x")
        artists += _dots(each, rows, column, known_strategies(table))
        each.set_xlabel(t(unit_label(rows, words)))
        if i % PANELS_IN_A_ROW:
            each.set_yticklabels([])
    legend(each)
    return artists + watermark(each, table)


def _dots(ax: Axes, table: pd.DataFrame, column: str, rows_of: list[str]) -> list:
    """The points of one panel, whose lines are the strategies `rows_of`."""
    groups = list(series(table))
    several = [c for c in SERIES if c in table and 1 < table[c].nunique() <= len(PALETTE)]  # that the palette can tell apart
    common = several[0] if several and len(groups) > MOST_SERIES else ""
    if common:
        groups = [(word(common, value) or str(value), rows) for value, rows in table.groupby(common, sort=True)]
    artists = []
    for i, (name, rows) in enumerate(groups):
        shift = (i - (len(groups) - 1) / 2) * min(0.16, 0.7 / len(groups))
        y = rows["quantization"].map(rows_of.index).to_numpy(float) + shift
        color, marker = look(i)
        shown = name if common or 1 < len(groups) <= MOST_SERIES else None
        if common:
            middle, style = rows.groupby(y)[column].median(), {"edgecolors": "black", "marker": marker, "s": 26, "lw": 0.7, "zorder": 3}
            artists.append(ax.scatter(rows[column], y, c=color, s=4, alpha=0.4, linewidths=0))
            artists.append(ax.scatter(middle, middle.index, c=color, label=shown, **style))
            continue
        artists.append(ax.errorbar(rows[column], y, xerr=arms(rows, column), fmt="none", ecolor=color, elinewidth=1, capsize=2))
        face = np.where((rows["gate"] == "rejected") if "gate" in rows else np.zeros(len(rows), bool), "white", color)
        artists.append(ax.scatter(rows[column], y, c=face, edgecolors=color, marker=marker, s=22, linewidths=1, zorder=3))
        ax.scatter([], [], c=color, edgecolors=color, marker=marker, s=22, label=shown)
    ax.set_yticks(range(len(rows_of)), [short(name) for name in rows_of])
    ax.set_ylim(len(rows_of) - 0.5, -0.5)
    scale(ax, "x", table[column])
    return artists


def crowded(summary: pd.DataFrame, over: str = "") -> str:
    """What a caption says of a figure of more than 16 series, which has no bars; empty for fewer. `over`: the column on x, if not
    strategy.
    """
    table = summary[summary["n_blocks"] > 0]
    groups = [rows.drop(columns=over) for _, rows in table.groupby("quantization")] if over else [rows for _, rows in table.groupby("task")]
    many = (sum if over else max)((len(list(series(rows))) for rows in groups), **({} if over else {"default": 0})) > MOST_SERIES
    return "Large or thick: medians over series; the 95 % interval of each stands in the table" if many else ""


def batch_scaling(summary: pd.DataFrame, ax: Axes) -> list:
    """Draw the cost of a unit of work against the batch size, both on log scales, a panel a task, each line labelled at its end.

    Beyond 16 lines each is thin, in the colour of its strategy, whose median over the lines that have every size stands out.
    """
    table = costed(summary).dropna(subset="unit_energy_j")
    artists, found = [], panels(ax, table)
    for each, _, rows in found:
        tidy(each, "both")
        each.set_xscale("log", base=2)
        each.set_yscale("log")
        artists += _lines(each, rows, "unit_energy_j")
        each.set_xticks(sorted(rows["batch_size"].unique()), minor=False)
        plain_ticks(each.xaxis)
        each.minorticks_off()
        plain_ticks(each.yaxis)
        each.set(xlabel=label("batch_size"), ylabel=t(unit_label(rows, UNITS)))
    return artists + watermark(found[-1][0], table)


def _lines(ax: Axes, table: pd.DataFrame, column: str) -> list:
    """The lines of one panel and their names."""
    lines = [
        (strategy, name, rows.sort_values("batch_size"))
        for strategy in known_strategies(table)
        for name, rows in series(table[table["quantization"] == strategy].drop(columns="batch_size").assign(batch=table["batch_size"]))
        for rows in [rows.rename(columns={"batch": "batch_size"})]
    ]
    colors = dict(zip(known_strategies(table), map(look, range(99)), strict=False))
    artists, ends, sizes = [], [], table["batch_size"].nunique()
    thin = len(lines) > MOST_SERIES
    for i, (strategy, name, rows) in enumerate(lines):
        color, marker = colors[strategy] if thin or len(lines) == len(colors) else look(i)
        style = {"linewidth": 0.5, "alpha": 0.4} if thin else {"marker": marker, "markersize": 4, "linewidth": 1, "capsize": 2}
        error = {} if thin else {"yerr": arms(rows, column)}
        artists.append(ax.errorbar(rows["batch_size"], rows[column], color=color, **error, **style))
        if not thin:
            ends.append((rows["batch_size"].iloc[-1], rows[column].iloc[-1], ", ".join(filter(None, (strategy, name))), color))
    for strategy in known_strategies(table) if thin else []:
        own = [rows.set_index("batch_size")[column] for each, _, rows in lines if each == strategy]
        middle = pd.concat([line for line in own if len(line) == sizes] or own).groupby(level=0).median()
        color, marker = colors[strategy]
        artists += ax.plot(middle.index, middle, color=color, marker=marker, markeredgecolor="black", linewidth=2)
        ends.append((middle.index[-1], middle.iloc[-1], strategy, color))
    return artists + label_lines(ax, ends)


def heatmap(
    table: pd.DataFrame, ax: Axes, value: str = "energy_j_per_token", basis: pd.DataFrame | None = None, notes: pd.DataFrame | None = None
) -> list:
    """Draw a table of rows x columns (analyze.deployment.best) with the number in every cell; an empty cell was not measured.

    The colour is on a log scale, dark for more. `value` is a registered column, or the label of the colour bar in words. `basis` is the
    summary that the table came from, for its doubts. `notes`, of the same rows and columns (`best`), says under each number what it
    holds for, or why there is none.
    """
    numbers = table.to_numpy(float)
    words = np.array([[number(n) if np.isfinite(n) else "" for n in row] for row in numbers], object)
    if notes is not None:
        words = np.where(np.isfinite(numbers), words + "\n" + notes.to_numpy(object).astype(str), words)
    norm = matplotlib.colors.LogNorm(np.nanmin(numbers), np.nanmax(numbers)) if np.nanmax(numbers) > np.nanmin(numbers) else None
    style = {"fontsize": FONT_PT - (1 if notes is None else 2)}
    sns.heatmap(table.astype(float), ax=ax, cmap="cividis_r", norm=norm, annot=words, fmt="", annot_kws=style, cbar=False)
    image, missing = ax.collections[0], []
    hatched, behind = {"fc": "white", "ec": "0.85", "hatch": "///", "linewidth": 0}, {"fc": "white", "ec": "none", "pad": 1.5}
    for i, j in np.argwhere(~np.isfinite(numbers)):
        missing.append(ax.add_patch(matplotlib.patches.Rectangle((j, i), 1, 1, **hatched)))
        why = notes.iloc[i, j] if notes is not None and isinstance(notes.iloc[i, j], str) else ""
        why = "\n".join(textwrap.wrap(t(why or "not measured"), NARROW_LETTERS, break_long_words=False))
        missing.append(ax.text(j + 0.5, i + 0.5, why, ha="center", va="center", color="0.4", fontsize=FONT_PT - 1, bbox=behind))
    ax.set_xticks(np.arange(table.shape[1]) + 0.5, [short(str(c)) for c in table.columns], rotation=35 if table.shape[1] > 4 else 0)
    ax.set_yticks(np.arange(table.shape[0]) + 0.5, [short(str(i)) for i in table.index], rotation=0)
    ax.set(xlabel="", ylabel="")
    plain_ticks(colorbar(ax, image, t(value) if " " in value else label(value)).ax.yaxis)
    return [image, *missing, *(watermark(ax, basis) if basis is not None else [])]


def bars(table: pd.DataFrame, ax: Axes, value: str, is_log: bool = False) -> list:
    """Draw grouped bars of a table, a group for each row and a colour for each column, each with its number; `value` labels the axis."""
    tidy(ax, "y")
    width, artists = 0.8 / table.shape[1], []
    for j, name in enumerate(table.columns):
        x = np.arange(len(table)) + (j - (table.shape[1] - 1) / 2) * width
        artists.append(ax.bar(x, table[name], width * 0.92, color=PALETTE[j], label=name))
        ax.bar_label(artists[-1], [number(v) if np.isfinite(v) else "" for v in table[name]], fontsize=FONT_PT - 1.5, padding=1)
    ax.set_xticks(range(len(table)), ["\n".join(textwrap.wrap(str(name), 2 * NARROW_LETTERS)) for name in table.index])
    ax.set_ylabel(t(value))
    if is_log:
        ax.set_yscale("log")
        ax.set_ylim(np.nanmin(table) / 2, np.nanmax(table) * 1.9)
        plain_ticks(ax.yaxis)
    legend(ax, beside=not is_log, **{"loc": "upper left"} if is_log else {})
    return artists


def best(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lowest cost of each hardware and strategy (analyze.deployment.cells), and its interval, batch size and n in words."""
    least = cells.loc[cells.groupby(["gpu", "quantization"], sort=False)["unit_energy_j"].idxmin()]
    ends = least[["unit_energy_j", "unit_energy_j_low", "unit_energy_j_high"]].itertuples(index=False)
    held = [f"\n{word('batch_size', b)}, n = {n:.0f}" for b, n in zip(least["batch_size"], least["n_blocks"], strict=True)]
    least = least.assign(words=[interval(*e).partition(" ")[2] + h for e, h in zip(ends, held, strict=True)])
    numbers, notes = (least.pivot_table(v, "gpu", "quantization", "first", sort=False) for v in ("unit_energy_j", "words"))
    return numbers, notes.reindex_like(numbers)


def load_curve(loads: pd.DataFrame, ax: Axes, metric: str = "energy_j_per_token") -> list:
    """Draw a column of the loads table against requests completed per second; each point carries its load, each line its name.

    Closed loads are joined in the order of their concurrency, open ones are points of their own. The legend of all axes stands below the
    figure. Only an energy carries the doubts about its basis: a time is measured, wherever the energy comes from.
    """
    tidy(ax, "y")
    ax.set_xlabel(label("requests_per_s", "loads"))
    ax.set_ylabel(label(metric, "loads"))
    table = loads[loads[metric].notna()]
    if table.empty:
        return nothing(ax, "no usable window")
    artists, several = [], table["traffic"].str.partition(":")[0].nunique() > 1
    for i, (name, rows) in enumerate(table.groupby(named_series(table), sort=False)):
        for j, (kind, points) in enumerate(rows.groupby(rows["traffic"].str.partition(":")[0], sort=True)):
            points, closed = points.sort_values("traffic_level"), kind == "closed"
            style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[j], "linestyle": LINES[i % len(LINES)] if closed else ""}
            named = ", ".join(filter(None, (name, t(KINDS.get(kind, kind)) if several or not name else "")))
            x, y = points["requests_per_s"], points[metric]
            artists.append(ax.errorbar(x, y, yerr=arms(points, metric), label=named, markersize=4, linewidth=1, capsize=2, **style))
            place = {"xytext": (4, 3)} if closed else {"xytext": (-4, -8), "ha": "right"}
            for text, px, py in zip(points["traffic"].str.partition(":")[2], x, y, strict=True):
                artists.append(ax.annotate(text, (px, py), textcoords="offset points", fontsize="x-small", color="0.3", **place))
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0, right=1.08 * table["requests_per_s"].max())
    if not ax.figure.legends:
        handles, names = ax.get_legend_handles_labels()
        columns = max(1, min(len(names), int(16 * ax.figure.get_size_inches()[0] / (max(map(len, names)) + 7))))
        below = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": FONT_PT - 1}
        plain(ax.figure.legend(handles, names, **below))
    return artists + (watermark(ax, table) if metric.startswith("energy") else [])


def named_series(table: pd.DataFrame) -> list[str]:
    """For each row of loads the name of its series: what varies between the rows beside the load, empty where nothing does."""
    varying = [c for c in LOAD_SERIES if table[c].nunique() > 1]
    return [", ".join(word(c, row[c]) for c in varying) for row in table[list(LOAD_SERIES)].to_dict("records")]


def sensed_power(samples: pd.DataFrame) -> pd.DataFrame:
    """The readings that are a power which a sensor gave (a limit is a setting)."""
    field = samples["field"].astype(str)
    return samples[field.str.endswith("_w") & ~field.str.contains("limit")]


def sensed(samples: pd.DataFrame) -> bool:
    """Whether any reading is a power: where not, there is no trace to draw."""
    return len(sensed_power(samples)) > 0


def power_traces(samples: pd.DataFrame, windows: pd.DataFrame, ax: Axes) -> list:
    """Draw the sensed power of the windows of the first block over time, a colour and dash a strategy.

    The grey band is where every window drawn was still open: readings outside it are the pads that the edges of the integral need. At most
    12 windows are drawn.
    """
    tidy(ax, "y")
    ax.set_xlabel(t("time since the window began [s]"))
    ax.set_ylabel(t("power [W]"))
    power = sensed_power(samples)
    if power.empty:
        return nothing(ax, "no sensor read power here")
    block = power["block"].min()
    chosen = windows[(windows["block"] == block) & windows["attempt"].isin(power["attempt"])]
    drawn = chosen.head(MOST_TRACES)
    edges = drawn.reindex(columns=["start_s", "stop_s"]).astype(float)
    rows_of, artists = known_strategies(windows), []
    for attempt, strategy, began_s in zip(drawn["attempt"], drawn["quantization"], edges["start_s"], strict=True):
        i = rows_of.index(strategy)
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": LINES[i % len(LINES)], "linewidth": 0.9, "label": strategy}
        for _, trace in power[power["attempt"] == attempt].groupby(["device_id", "field"]):
            trace = trace.sort_values("t_s")
            artists += ax.plot(trace["t_s"] - (began_s if np.isfinite(began_s) else trace["t_s"].iloc[0]), trace["value"], **style)
    title(ax, f"block {block}: {len(drawn)} of {len(chosen)} windows")
    ax.set_ylim(bottom=0)
    legend(ax, handles=list({line.get_label(): line for line in artists}.values()))
    length_s = (edges["stop_s"] - edges["start_s"]).min()
    band = [ax.axvspan(0.0, length_s, color="0.93", zorder=0)] if np.isfinite(length_s) else []
    return [*artists, *band, *watermark(ax, drawn)]


GIGA, TERA = 1e9, 1e12
MOST_ROOFS = 6
ROOM = 3.0


def roofline(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the points of analyze.roofline.roofline, a marker a strategy, under the roofs of their cards; returns the artists.

    The legend states each strategy's share of its roof, and the figures of each roof. Beyond 16 series a colour is a strategy. Without a
    known roof none is drawn, and the title says so; beyond 6 it says how many there were.
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
    found, moving = [], ["batch_size", "input_tokens", "output_tokens"]
    for strategy, rows in points.groupby("quantization", sort=False):
        same = series(rows.drop(columns=moving))
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
