"""Ratios, what they are worth and what to choose: forest plot, synergy, power, uncertainty budget, Pareto front, scores, tree, verdicts."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from eai.analyze.selection import SPEEDS, UNITS, unit_label
from eai.analyze.summary import BUDGET_TERMS
from eai.plots.style import (
    FONT_PT,
    MARKERS,
    MOST_LINES,
    PALETTE,
    arms,
    colorbar,
    known_strategies,
    legend,
    look,
    names,
    nothing,
    number,
    panels,
    percent,
    plain,
    plain_ticks,
    scale,
    t,
    tidy,
    title,
    watermark,
    word,
)  # fmt: skip

OUTCOMES = {
    "lower": (PALETTE[2], "v", "lower"),
    "higher": (PALETTE[1], "^", "higher"),
    "equivalent": (PALETTE[0], "D", "equal within the margin"),
    "inconclusive": ("0.45", "o", "not decided by these blocks"),
}
"""Colour, marker and the words of each outcome that has a point."""
QUANTITIES = {
    "energy_j_per_token": "energy per output token",
    "energy_j_per_request": "energy per item",
    "requests_per_second": "items per second",
    "cpu_s_per_request": "CPU time per item",
    "throughput_tok_s": "throughput",
    "power_mean_w": "mean power",
    "cpu_s_per_token": "CPU time per output token",
}


def forest(comparisons: pd.DataFrame, ax: Axes, most: int = MOST_LINES) -> list:
    """Draw one line a comparison on a log axis: ratio, 95 % interval, colour and marker by outcome; returns the artists.

    The grey band is the equivalence margin. A comparison that could not be made stands there with its reason instead of a point: leaving it
    out would make the picture better than the data. At most `most` lines are drawn; the title says how many there were.
    """
    if comparisons.empty:
        return nothing(ax, "nothing to compare")
    table = comparisons.head(most).reset_index(drop=True)
    tidy(ax, "x")
    margin = float(table["margin"].dropna().max()) if table["margin"].notna().any() else 0.0
    artists = [ax.axvspan(1 / (1 + margin), 1 + margin, color="0.93", zorder=0), ax.axvline(1.0, color="0.3", linewidth=0.8)]
    artists += _outcomes(ax, table, "ratio_to_baseline")
    ax.set_yticks(range(len(table)), names(comparisons)[: len(table)])
    if len(comparisons) > len(table):
        title(ax, t("{n} of {all} comparisons", n=len(table), all=len(comparisons)))
    quantity = " / ".join(t(QUANTITIES.get(metric, metric)) for metric in dict.fromkeys(table["metric"].astype(str)))
    ax.set_xlabel(t("{quantity}, ratio to {baseline}", quantity=quantity, baseline=", ".join(sorted(set(table["baseline"])))))
    return artists + watermark(ax, comparisons)


def _outcomes(ax: Axes, table: pd.DataFrame, column: str) -> list:
    """One line a row: value and interval in the look of its outcome, or why there is none; the legend names the outcomes."""
    artists, reach = [], arms(table, column)
    for y, row in enumerate(table.to_dict("records")):
        if row["outcome"] not in OUTCOMES or not np.isfinite(reach[:, y]).all() or not reach[:, y].any():
            known = f"x {row[column]:.2f}, " if pd.notna(row[column]) else ""
            why = t("not testable") + (f": {row['reason']}" if row.get("reason") else "")
            style = {"xytext": (4, 0), "textcoords": "offset points", "fontsize": FONT_PT - 1, "va": "center", "color": "0.4"}
            letters = int(ax.get_position().width * ax.figure.get_size_inches()[0] * 9)
            text = "\n".join(textwrap.wrap(known + why, max(letters, 24)))
            artists.append(ax.annotate(text, (0.0, y), xycoords=("axes fraction", "data"), **style))
            continue
        color, marker, _ = OUTCOMES[row["outcome"]]
        style = {"fmt": marker, "color": color, "markersize": 4, "elinewidth": 1.2, "capsize": 2.5}
        artists.append(ax.errorbar(row[column], y, xerr=reach[:, [y]], **style))
    ax.set_ylim(len(table) - 0.5, -0.5)
    if len(drawn := table.loc[reach.any(axis=0), [column, f"{column}_low", f"{column}_high"]]):
        low, high = min(drawn.min().min(), 1), max(drawn.max().max(), 1)
        ax.set_xscale("log")
        ax.set_xlim(low / 1.03, high * 1.03)
        plain_ticks(ax.xaxis)
    present = set(table["outcome"])
    if shown := [ax.scatter([], [], color=c, marker=m, s=20, label=t(w)) for o, (c, m, w) in OUTCOMES.items() if o in present]:
        legend(ax, handles=shown)
    return artists


def synergy(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the interaction of each level (analyze.comparison.synergy): at 1 the two choices just multiply, below 1 it saves more."""
    tidy(ax, "x")
    artists = [ax.axvline(1.0, color="0.3", linewidth=0.8), *_outcomes(ax, table, "synergy")]
    rows = table.to_dict("records")
    ax.set_yticks(range(len(rows)), [f"{r['quantization']}, {word(r['factor'], r['level'])}" for r in rows])
    references = sorted({word(r["factor"], r["reference"]) for r in rows})
    ax.set_xlabel(t("ratio to the baseline there / ratio at {reference}", reference=", ".join(references)))
    return artists + watermark(ax, table)


def power_curves(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the power over the true ratio (analyze.comparison.power_curves), a line for each number of blocks, labelled at 0.5."""
    tidy(ax, "both")
    artists = [ax.axhline(0.8, color="0.3", linewidth=0.8, linestyle=":")]
    sns.lineplot(table, x="ratio", y="power", hue="n", palette=list(PALETTE[: table["n"].nunique()]), ax=ax, legend=False, linewidth=1.2)
    for i, (n, line) in enumerate(table.sort_values("ratio").groupby("n")):
        at = line.iloc[(line["power"] - 0.5).abs().argmin()]
        first = at["ratio"] == line["ratio"].min()
        style = {"xytext": (3, 6) if first else (-3, 0), "ha": "left" if first else "right", "va": "center", "fontsize": FONT_PT - 1}
        artists.append(ax.annotate(f"{n} blocks", (at["ratio"], at["power"]), textcoords="offset points", color=look(i)[0], **style))
    ax.set(xlabel="true ratio to the baseline", ylabel="probability of showing it", ylim=(0, 1.02))
    title(ax, f"spread of log ratios {100 * table['sd_log'].iloc[0]:.1f} %, family of {table['family'].iloc[0]} comparisons")
    return artists + watermark(ax, table)


def budget(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the uncertainty budget (analyze.summary.budgets): the relative standard uncertainty of each source.

    At most 40 configurations are drawn; the title says how many there were. A source above 20 % has a logarithmic axis.
    """
    tidy(ax, "x")
    several, named, table = len(table), names(table), table.head(MOST_LINES)
    drawn = [t for t in BUDGET_TERMS if (table[t] > 0).any()]
    artists = []
    for i, term in enumerate(drawn):
        color, marker = look(i)
        rows = table[term] > 0
        artists.append(ax.scatter(100 * table.loc[rows, term], np.flatnonzero(rows), color=color, marker=marker, s=18, label=term))
    ax.set_yticks(range(len(table)), named[: len(table)])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel("relative standard uncertainty, k = 1 [%]")
    if drawn and table[drawn].max().max() > 0.2:
        ax.set_xscale("log")
        plain_ticks(ax.xaxis)
    legend(ax)
    title(ax, f"{len(table)} of {several} configurations" if several > len(table) else "")
    return artists + watermark(ax, table)


MOST_NAMED = 8
LEAST_NAMED = 0.05
MOST_WITH_BARS = 60
MOST_LEAVES = 16
MATRIX_COLUMNS = ("scenario", "hardware, strategy, batch", "energy saved", "score kept", "units/s", "probability")
VERDICTS = {
    "reproduced": ("#0072B2", "", "reproduced here"),
    "consistent": ("#009E73", "", "consistent: its own numbers agree"),
    "untested": ("0.75", "", "not tested: data are missing"),
    "inconsistent": ("#D55E00", "//", "inconsistent: its own numbers disagree"),
    "contradicted": ("#CC79A7", "xx", "contradicted by a measurement"),
    "mixed": ("#56B4E9", "..", "mixed: sources disagree"),
    "not decided": ("#F0E442", "oo", "not decided: within the noise"),
}
"""Colour, hatch and the words of each verdict."""
STAGES = (
    ("choices", ("strategy", "hardware", "batch, length, task")),
    ("measuring", ("random blocks", "energy and time", "score of the task")),
    ("metrics", ("energy per token", "EOR: score / Wh", "TWEOR: EOR / s")),
    ("comparison", ("paired ratios", "interaction", "what is not decided")),
    ("guidance", ("computed rules", "their probability", "their reach")),
)


def pareto(table: pd.DataFrame, ax: Axes) -> list:
    """Draw energy against throughput (analyze.deployment.pareto), a panel a task; dark points are on the front with high probability.

    Up to eight of the surest points of each panel have a number, and their names stand below.
    """
    return _front(table, ax, "units_per_s", "unit_energy_j")


def quality(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the score against the energy of an item with Wilson's interval, a panel a task; left and up is better. Named as in `pareto`."""
    table = table.dropna(subset="score").reset_index(drop=True)
    table = table.assign(**{c: 100 * table[c] for c in ("score", "score_low", "score_high")})
    return _front(table, ax, "unit_energy_j", "score") if len(table) else nothing(ax, "no score was measured")


def _front(table: pd.DataFrame, ax: Axes, x: str, y: str) -> list:
    """Points as dark as `p_front`, the surest on top; hollow and at the bottom where it is unknown."""
    fig = ax.figure
    artists, handles, found = [], [], panels(ax, table)
    labels = {"units_per_s": SPEEDS, "unit_energy_j": UNITS}
    for each, task, rows in found:
        rows = rows.assign(name=names(rows)).sort_values("p_front", na_position="first", kind="stable")
        tidy(each, "both")
        if y == "score" and len(rows) <= MOST_WITH_BARS:
            artists.append(each.errorbar(rows[x], rows[y], yerr=arms(rows, y), fmt="none", ecolor="0.6", elinewidth=0.8))
        style = {"cmap": colormaps["cividis_r"].with_extremes(bad="none"), "plotnonfinite": True, "vmin": 0, "vmax": 1, "s": 24}
        points = each.scatter(rows[x], rows[y], c=rows["p_front"], edgecolors="black", linewidths=0.6, zorder=3, **style)
        each.set(**{f"{axis}label": t(unit_label(rows, labels[c]) if c in labels else "score [%]") for axis, c in (("x", x), ("y", y))})
        for axis, column in (("x", x), ("y", y)) if y != "score" else (("x", x),):
            scale(each, axis, rows[column])
        each.margins(y=0.15)
        surest = rows.sort_values("p_front", ascending=False, kind="stable")  # those of unknown probability last
        surest = surest[~(surest["p_front"] < LEAST_NAMED)].head(MOST_NAMED)
        artists += [points, *_numbered(each, surest, x, y, len(handles) + 1)]
        prefix = f"{task}: " if task else ""
        for i, row in enumerate(surest.to_dict("records"), start=len(handles) + 1):
            handles.append(Line2D([], [], linestyle="none", label=f"{i}  {prefix}{row['name']}: {percent(row['p_front'])}"))
    colorbar(found[-1][0], points, t("probability of being on the front"))
    style = {"frameon": False, "fontsize": FONT_PT - 1, "handlelength": 0, "handletextpad": 0, "columnspacing": 3}
    plain(fig.legend(handles=handles, loc="outside lower left", ncols=2 if len(handles) > 3 else 1, **style))
    return artists + watermark(found[-1][0], table)


def _numbered(ax: Axes, rows: pd.DataFrame, x: str, y: str, first: int) -> list:
    """A number at each point, in the corner that is farthest from all points and earlier numbers."""
    artists = []
    ax.autoscale_view()
    points = ax.transData.transform(rows[[x, y]].to_numpy(float)) * 72 / ax.figure.dpi / 2  # layout may halve the axes
    corners, taken = np.array([(7.0, 6.0), (7.0, -6.0), (-7.0, 6.0), (-7.0, -6.0)]), points
    for i, (row, point) in enumerate(zip(rows.to_dict("records"), points, strict=True), start=first):
        gaps = [np.hypot(*(taken - point - corner).T).min(initial=9.0) for corner in corners]
        corner = corners[int(np.argmax(np.minimum(gaps, 9.0)))]
        taken = np.vstack([taken, point + corner])
        style = {"xytext": tuple(corner), "fontsize": FONT_PT - 1, "fontweight": "bold", "zorder": 4, "ha": "center", "va": "center"}
        artists.append(ax.annotate(str(i), (row[x], row[y]), textcoords="offset points", **style))
    return artists


def retention(table: pd.DataFrame, ax: Axes) -> list:
    """Draw the score retained against the energy saved (analyze.summary.retention) with both intervals; right and up is better.

    Beyond 60 points the intervals of single points are left out and each strategy's median stands out instead.
    """
    tidy(ax, "both")
    ax.set(xlabel=t("energy saved against the baseline [%]"), ylabel=t("score retained [%]"))
    if table.empty:
        return nothing(ax, "no score was measured")
    artists = [ax.axhline(100.0, color="0.3", linewidth=0.8), ax.axvline(0.0, color="0.3", linewidth=0.8)]
    many, several = len(table) > MOST_WITH_BARS, table["batch_size"].nunique() > 1
    for i, strategy in enumerate(known_strategies(table)):
        rows = table[table["quantization"] == strategy]
        x, y, color, marker = 100 * rows["energy_saved"], 100 * rows["score_retained"], PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        error = {} if many else {"xerr": arms(rows, "energy_saved", 100), "yerr": arms(rows, "score_retained", 100)}
        style = {"fmt": marker, "color": color, "label": strategy, "elinewidth": 0.8, "capsize": 2}
        artists.append(ax.errorbar(x, y, **error, **style, markersize=3 if many else 4, alpha=0.35 if many else 1.0))
        if many:
            artists += ax.plot(x.median(), y.median(), marker, color=color, markersize=9, markeredgecolor="black")
        for px, py, batch in zip(x, y, rows["batch_size"], strict=True) if several and not many else ():
            artists.append(ax.annotate(f"{batch}", (px, py), xytext=(4, 3), textcoords="offset points", fontsize=FONT_PT - 2, color=color))
    title(ax, f"{len(table)} configurations; large: median of each strategy" if many else "number: batch size" if several else "")
    legend(ax)
    return artists + watermark(ax, table)


def matrix_texts(row: dict) -> tuple[str, ...]:
    """One scenario of analyze.deployment.matrix in the words of MATRIX_COLUMNS: what to choose and what it is worth.

    `nothing measured meets it` where there is no candidate, `the only candidate` where there is one: nothing was weighed.
    """
    if not row["candidates"]:
        return t(row["scenario"]), t("nothing measured meets it"), "", "", "", ""
    setup = word("options", row.get("setup", ""))
    choice = ", ".join(filter(None, (row["gpu"], row["quantization"], word("batch_size", int(row["batch_size"])), setup)))
    kept = f"{number(100 * row['score_retained'])} %" if np.isfinite(row["score_retained"]) else t("not measured")
    saved = f"{number(100 * row['energy_saved'], 2)} %" if np.isfinite(row["energy_saved"]) else "-"
    sure = t("the only candidate") if row["candidates"] == 1 else percent(row["confidence"])
    return t(row["scenario"]), choice, saved, kept, number(row["units_per_s"]), sure


def matrix_table(table: pd.DataFrame) -> pd.DataFrame:
    """The deployment matrix in words: model and task where they vary, the texts of each scenario, and what may not be chosen and why."""
    rows = [dict(zip(MATRIX_COLUMNS, matrix_texts(row), strict=True)) for row in table.to_dict("records")]
    varying = [c for c in ("model", "input_tokens", "output_tokens", "task") if table[c].nunique() > 1]
    found = pd.concat([table[varying].reset_index(drop=True), pd.DataFrame(rows, columns=list(MATRIX_COLUMNS))], axis=1)
    return found.assign(**({"not to be chosen": table["left_out"].to_numpy()} if (table["left_out"] != "").any() else {}))


def decision_tree(rules: pd.DataFrame, ax: Axes) -> list:
    """Draw the rules of analyze.deployment.decisions as a tree: a question at each fork, a strategy with its probability at each leaf.

    Forks are asked only where the answer depends on them. At most 16 leaves are drawn; the drawing says how many there were.
    """
    ax.set_axis_off()
    tree, leaves = _grown(rules, ["task", "model", "weights", "gpu", "setup", "input_tokens", "output_tokens", "from"]), []
    depth, more = _place(tree, 0, leaves), len(leaves) > MOST_LEAVES
    shown = min(len(leaves), MOST_LEAVES)
    ax.set(xlim=(-0.08, depth + 1.02), ylim=(-shown + 0.4 - 0.6 * more, 0.6))
    drawn = _draw(ax, tree, shown, depth)
    if more:
        ax.text(depth / 2, -shown, f"{MOST_LEAVES} of {len(leaves)} leaves", ha="center", fontsize=FONT_PT, color="0.4")
    return drawn + watermark(ax, rules)


def _grown(rules: pd.DataFrame, questions: list[str], edge: str = "") -> dict:
    """A tree of dictionaries: `edge` (the answer that leads here), and either `rows` (a leaf) or `asks` and `branches`."""
    for i, column in enumerate(questions if rules["quantization"].nunique() > 1 else ()):
        levels = list(rules.groupby(column, sort=True)) if column in rules else []
        others = [c for c in (*questions[i + 1 :], "to", "quantization") if c in rules]
        answers = {frozenset(map(tuple, rows[others].to_numpy().tolist())) for _, rows in levels}
        if len(levels) > 1 and (len(answers) > 1 or column == "from"):
            asks = {"from": "batch size", "gpu": "hardware", "setup": "options"}.get(column, column.replace("_", " "))
            branches = [_grown(rows, questions[i + 1 :], _answer(column, value, rows)) for value, rows in levels]
            return {"edge": edge, "asks": f"{asks}?", "branches": branches}
    return {"edge": edge, "rows": rules}


def _answer(column: str, value, rows: pd.DataFrame) -> str:
    """The answer on a branch: a task's name, `1 to 4` for a range of batch sizes."""
    if column == "from":
        return f"{value}" if value == rows["to"].max() else f"{value} to {rows['to'].max()}"
    return (word("options", value) or "plain") if column == "setup" else str(value).rsplit("/", 1)[-1]


def _place(node: dict, depth: int, leaves: list[dict]) -> int:
    """Give each node its height and depth, collect the leaves from top to bottom; returns the depth of the deepest."""
    node["x"] = depth
    if "rows" in node:
        node["y"] = -len(leaves)
        leaves.append(node)
        return depth
    deepest = max([_place(branch, depth + 1, leaves) for branch in node["branches"]])
    node["y"] = float(np.mean([branch["y"] for branch in node["branches"]]))
    return deepest


def _draw(ax: Axes, node: dict, shown: int, depth: int) -> list:
    """Draw a node, its branches and what lies below; returns the leaves' boxes."""
    middle = {"ha": "center", "va": "center"}
    if "rows" in node:
        named = node["rows"]["quantization"].unique()
        sure = percent(node["rows"]["confidence"].min(skipna=False))
        box = _box(ax, depth + 0.02, node["y"] - 0.36, 0.96, 0.72, PALETTE[2])
        ax.text(depth + 0.5, node["y"] + 0.13, named[0] if len(named) == 1 else "several", fontsize=FONT_PT, fontweight="bold", **middle)
        ax.text(depth + 0.5, node["y"] - 0.17, f"cheapest, probability {sure}", fontsize=FONT_PT - 1.5, **middle)
        return [box]
    drawn, y = [], max(node["y"], -shown + 1)
    for branch in node["branches"]:
        if "rows" in branch and branch["y"] <= -shown:
            continue
        end = depth + 0.02 if "rows" in branch else branch["x"]
        ax.plot([node["x"] + 0.42, node["x"] + 0.55, end], [y, branch["y"], branch["y"]], color="0.6", linewidth=0.9, zorder=0)
        ax.text(node["x"] + 0.58, branch["y"] + 0.06, branch["edge"], ha="left", va="bottom", fontsize=FONT_PT - 1)
        drawn += _draw(ax, branch, shown, depth)
    _box(ax, node["x"] - 0.05, y - 0.26, 0.47, 0.52, PALETTE[0])
    ax.text(node["x"] + 0.185, y, node["asks"], fontsize=FONT_PT, **middle)
    return drawn


def _box(ax: Axes, x: float, y: float, width: float, height: float, color: str):
    """A box with rounded corners and a light filling."""
    style = {"boxstyle": "round,pad=0,rounding_size=0.04", "ec": color, "linewidth": 1, "fc": sns.light_palette(color, 6)[1]}
    return ax.add_patch(FancyBboxPatch((x, y), width, height, **style))


def framework(ax: Axes, stages: Sequence[tuple[str, Sequence[str]]] = STAGES) -> list:
    """Draw stages from left to right with arrows between them, a title and lines in each; by default the way from the three directions of
    choice over metrics to guidance. Returns the boxes.
    """
    ax.set_axis_off()
    ax.set(xlim=(0, len(stages)), ylim=(0, 1))
    artists = []
    for i, (head, lines) in enumerate(stages):
        artists.append(_box(ax, i + 0.03, 0.06, 0.88, 0.88, PALETTE[i]))
        ax.text(i + 0.47, 0.8, t(head), ha="center", va="center", fontweight="bold", fontsize=FONT_PT)
        ax.text(i + 0.47, 0.4, "\n".join(map(t, lines)), ha="center", va="center", fontsize=FONT_PT - 0.5, linespacing=1.7)
        if i:
            style = {"arrowstyle": "-|>", "color": "0.4", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1}
            ax.annotate("", xy=(i + 0.03, 0.5), xytext=(i - 0.09, 0.5), arrowprops=style)
    return artists


def verdicts(table: pd.DataFrame, ax: Axes) -> list:
    """Draw a bar for each source, split by verdict and labelled with the counts; returns the artists.

    `table` has one row a claim or finding, with the columns id, source and verdict.
    """
    counts = table.pivot_table(index="source", columns="verdict", values="id", aggfunc="count", fill_value=0)
    counts = counts.reindex(columns=[v for v in VERDICTS if v in counts])
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=True, kind="stable").index]
    rows, artists = [str(source).replace("_", " ") for source in counts.index], []
    for verdict, left in (counts.cumsum(axis=1) - counts).items():
        color, hatch, words = VERDICTS[verdict]
        bars = ax.barh(rows, counts[verdict], left=left, color=color, hatch=hatch, edgecolor="white", label=words)
        texts = ax.bar_label(bars, labels=[str(n) if n else "" for n in counts[verdict]], label_type="center", fontsize=6)
        for text in filter(lambda text: text.get_text(), texts):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8})
            artists.append(text)
        artists.append(bars)
    tidy(ax, "x")
    ax.margins(y=0.01)
    ax.set_xlabel("claims and findings of the checks")
    legend(ax, beside=False, loc="lower right")
    return artists
