"""Drawings of ideas: the framework from choice to guidance, and the decision tree that computed rules make."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from eai.plots.costs import word
from eai.plots.style import FONT_PT, PALETTE, percent, watermark

STAGES = (
    ("choices", ("strategy", "hardware", "batch, length, task")),
    ("measuring", ("blocks, random order", "energy and time", "score of the task")),
    ("metrics", ("energy per token", "EOR: score / Wh", "TWEOR: EOR / s")),
    ("comparison", ("paired ratios", "interaction", "what is not decided")),
    ("guidance", ("computed rules", "their probability", "their reach")),
)
MOST_LEAVES = 12
MOST_LETTERS = 40


def framework(ax: Axes) -> list:
    """Draw the way from the three directions of choice over metrics to guidance; returns the boxes."""
    ax.set_axis_off()
    ax.set_xlim(0, len(STAGES))
    ax.set_ylim(0, 1)
    artists = []
    for i, (title, lines) in enumerate(STAGES):
        artists.append(_box(ax, i + 0.06, 0.1, 0.82, 0.8, PALETTE[i]))
        ax.text(i + 0.47, 0.78, title, ha="center", va="center", fontweight="bold", fontsize=FONT_PT + 1)
        ax.text(i + 0.47, 0.42, "\n".join(lines), ha="center", va="center", fontsize=FONT_PT - 1, linespacing=1.7)
        if i:
            _arrow(ax, (i - 0.12, 0.5), (i + 0.06, 0.5))
    return artists


def decision_tree(rules: pd.DataFrame, ax: Axes) -> list:
    """Draw the rules of analyze.deployment.decisions as a tree: setting, batch sizes, strategy with its probability; returns the leaves.

    At most 12 leaves are drawn; the drawing says how many there were.
    """
    table = rules.head(MOST_LEAVES).reset_index(drop=True)
    ax.set_axis_off()
    ax.set_xlim(0, 3)
    ax.set_ylim(-0.5 - 0.6 * (len(rules) > MOST_LEAVES), max(len(table), 2) - 0.5)
    places, leaves = {}, []
    heights = range(len(table) - 1, -1, -1)
    for y, row in zip(heights, table.to_dict("records"), strict=True):
        places.setdefault(_setting(row, rules), []).append(y)
        batches = f"batch {row['from']}" if row["from"] == row["to"] else f"batch {row['from']} to {row['to']}"
        leaves.append(_box(ax, 2.1, y - 0.4, 0.85, 0.8, PALETTE[2]))
        sure = f"{row['quantization']}\nlowest with p {percent(row['confidence'])}"
        ax.text(2.52, y, sure, ha="center", va="center", fontsize=FONT_PT - 1)
        ax.text(1.62, y + 0.06, batches, ha="center", va="bottom", fontsize=FONT_PT)
    for name, ys in places.items():
        middle = sum(ys) / len(ys)
        _box(ax, 0.05, middle - 0.4, 1.05, 0.8, PALETTE[0])
        ax.text(0.57, middle, name, ha="center", va="center", fontsize=FONT_PT - 1)
        for y in ys:
            _arrow(ax, (1.12, middle), (2.1, y))
    if len(rules) > MOST_LEAVES:
        ax.text(1.5, -0.8, f"{MOST_LEAVES} of {len(rules)} rules", ha="center", fontsize=FONT_PT, color="0.4")
    return leaves + watermark(ax, rules)


def _setting(row: dict, rules: pd.DataFrame) -> str:
    """What a rule holds for: hardware and model, and whatever else varies between rules."""
    more = [word(c, row[c]) for c in ("input_tokens", "output_tokens", "task") if rules[c].nunique() > 1]
    hardware = f"{row['gpu']}, {str(row['model']).rsplit('/', 1)[-1]}"
    lines = [hardware] if more and len(hardware) <= MOST_LETTERS else hardware.split(", ")
    return "\n".join([*lines, ", ".join(filter(None, more))]).strip()


def _box(ax: Axes, x: float, y: float, width: float, height: float, color: str):
    """A box with rounded corners and a light filling."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.04", ec=color, fc=color, alpha=0.18, linewidth=1)
    return ax.add_patch(shape)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]):
    """An arrow between two boxes."""
    style = {"arrowstyle": "-|>", "color": "0.4", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1}
    return ax.annotate("", xy=end, xytext=start, arrowprops=style)
