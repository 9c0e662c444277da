"""Figures: `(table, ax) -> artists`; nothing is read, nothing is computed that a table does not hold.

style     palette, labels from the registry, watermark, caption, deterministic save
costs     cost per token and throughput by strategy and batch, with intervals
ratios    forest plot of ratios to the baseline
traces    power over time, where power was sensed
study     heatmap, batch scaling, Pareto front, retention, synergy, uncertainty budget
verdicts  verdicts on claims, counted
power     how small a saving a number of blocks can show
diagrams  the framework and the decision tree
"""

from eai.plots.costs import cost, throughput
from eai.plots.diagrams import decision_tree, framework
from eai.plots.power import power_curves
from eai.plots.ratios import forest
from eai.plots.study import batch_scaling, budget, heatmap, pareto, retention, synergy
from eai.plots.style import caption, figure, save, watermark
from eai.plots.traces import power_traces, sensed
from eai.plots.verdicts import verdicts

__all__ = [
    "batch_scaling",
    "budget",
    "caption",
    "cost",
    "decision_tree",
    "figure",
    "forest",
    "framework",
    "heatmap",
    "pareto",
    "power_curves",
    "power_traces",
    "retention",
    "save",
    "sensed",
    "synergy",
    "throughput",
    "verdicts",
    "watermark",
]
