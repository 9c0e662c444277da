"""Figures: `(table, ax) -> artists`; nothing is read, nothing is computed that a table does not hold. Tasks stand in panels of their own.

style      the look: palette, names, panels, message, doubts, caption, deterministic files; `show` for a notebook cell
costs      cost and speed by strategy, against batch, by hardware, against a server's load; power over time
ratios     forest plot of ratios to the baseline, synergy, power of the blocks, uncertainty budget
decisions  Pareto front, score against energy, retention, deployment matrix in words, decision tree, framework, verdicts
roofline   achieved flop/s under the roofs of the card
findings   what each figure shows, in one computed sentence
"""

from eai.plots import findings
from eai.plots.costs import bars, batch_scaling, best, cost, crowded, heatmap, load_curve, named_series, power_traces, sensed, throughput
from eai.plots.decisions import decision_tree, framework, matrix_table, matrix_texts, pareto, quality, retention, verdicts
from eai.plots.ratios import budget, forest, power_curves, synergy
from eai.plots.roofline import roofline
from eai.plots.style import DRAWN, caption, figure, language, message, names, percent, rendered, save, show, watermark

__all__ = [
    "DRAWN", "bars", "batch_scaling", "best", "budget", "caption", "cost", "crowded", "decision_tree", "figure", "findings", "forest",
    "framework", "heatmap", "language", "load_curve", "matrix_table", "matrix_texts", "message", "named_series", "names", "pareto",
    "percent", "power_curves", "power_traces", "quality", "rendered", "retention", "roofline", "save", "sensed", "show", "synergy",
    "throughput", "verdicts", "watermark",
]  # fmt: skip
