"""Figures: `(table, ax) -> artists`; nothing is read, nothing is computed that a table does not hold. Tasks stand in panels of their own.

style      the look: palette, names, panels, message, doubts, caption, deterministic files; `show` for a notebook cell
costs      cost and speed by strategy, against batch, by hardware, against a server's load; power over time; roofline
decisions  forest plot, synergy, power of the blocks, budget, Pareto front, scores, deployment matrix, tree, framework, verdicts
findings   what each figure shows, in one computed sentence
"""

from eai.plots import findings
from eai.plots.costs import (
    bars,
    batch_scaling,
    best,
    cost,
    crowded,
    heatmap,
    load_curve,
    named_series,
    power_traces,
    roofline,
    sensed,
    throughput,
)
from eai.plots.decisions import (
    budget,
    decision_tree,
    forest,
    framework,
    matrix_table,
    matrix_texts,
    pareto,
    power_curves,
    quality,
    retention,
    synergy,
    verdicts,
)
from eai.plots.style import DRAWN, caption, figure, language, message, names, percent, rendered, save, show, watermark

__all__ = [
    "DRAWN", "bars", "batch_scaling", "best", "budget", "caption", "cost", "crowded", "decision_tree", "figure", "findings", "forest",
    "framework", "heatmap", "language", "load_curve", "matrix_table", "matrix_texts", "message", "named_series", "names", "pareto",
    "percent", "power_curves", "power_traces", "quality", "rendered", "retention", "roofline", "save", "sensed", "show", "synergy",
    "throughput", "verdicts", "watermark",
]  # fmt: skip
