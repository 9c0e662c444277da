"""Figures: `(table, ax) -> artists`; nothing is read, nothing is computed that a table does not hold.

style     palette, labels from the registry, watermark, caption, deterministic save
costs     cost per token and throughput by strategy and batch, with intervals
ratios    forest plot of ratios to the baseline
traces    power over time, where power was sensed
study     heatmap, batch scaling, synergy, uncertainty budget
quality   Pareto front, score against energy, score retained against energy saved, deployment matrix
roofline  achieved flop/s under the roofs of the card
load      the load curve of a server
verdicts  verdicts on claims, counted
power     how small a saving a number of blocks can show
diagrams  the framework and the decision tree
"""

from eai.plots.costs import cost, crowded, throughput
from eai.plots.diagrams import decision_tree, framework
from eai.plots.load import load_curve
from eai.plots.power import power_curves
from eai.plots.quality import deployment_matrix, matrix_texts, pareto, quality, retention
from eai.plots.ratios import forest
from eai.plots.roofline import roofline
from eai.plots.study import batch_scaling, best, budget, heatmap, synergy
from eai.plots.style import DRAWN, caption, figure, save, watermark
from eai.plots.traces import power_traces, sensed
from eai.plots.verdicts import verdicts

__all__ = [
    "DRAWN",
    "batch_scaling",
    "best",
    "budget",
    "caption",
    "cost",
    "crowded",
    "decision_tree",
    "deployment_matrix",
    "figure",
    "forest",
    "framework",
    "heatmap",
    "load_curve",
    "matrix_texts",
    "pareto",
    "power_curves",
    "power_traces",
    "quality",
    "retention",
    "roofline",
    "save",
    "sensed",
    "synergy",
    "throughput",
    "verdicts",
    "watermark",
]
