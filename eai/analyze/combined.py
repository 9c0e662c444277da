"""EOR and TWEOR over several tasks together: one figure for a strategy that has to do all of them.

The score is the weighted mean of the tasks' scores; energy and time are those of every task once, as run. Only configurations that ran all
tasks of the experiment, in the same versions and settings, are given a figure: an easier mixture is no efficiency.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.analyze.blocks import block_means
from eai.analyze.scores import fractions, of_items
from eai.analyze.selection import Selection, as_run, in_order
from eai.errors import UserError
from eai.stats.intervals import Interval, log_t_interval, wilson_interval
from eai.stats.scores import quotient

SAME = ["gpu", "model", "weights", "quantization", "batch_size"]
ENDS = ("", "_low", "_high")


def over_tasks(selection: Selection, items: pd.DataFrame, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a strategy and batch size: score, energy, EOR, TWEOR and energy per correct answer over all scored tasks together.

    `items`: schema.SCORES; texts have no score and stay outside. `weights`: of each task's score, equal by default. Columns: gpu, model,
    weights, quantization, batch_size, tasks, n_blocks, n_items, score, energy_wh, duration_s, eor, tweor, energy_j_per_correct (each with
    `_low`, `_high`), basis, reason. Raises UserError for weights of other tasks than those that were scored.
    """
    items = fractions(items)
    rows = selection.rows[as_run(selection.rows) & selection.rows["configuration_id"].isin(items["configuration_id"])]
    names = ["score", "energy_wh", "duration_s", "eor", "tweor", "energy_j_per_correct"]
    columns = [*SAME, "tasks", "n_blocks", "n_items", *(f"{name}{end}" for name in names for end in ENDS), "basis", "reason"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    tasks = rows[["task", "options"]].drop_duplicates().sort_values(["task", "options"]).reset_index(drop=True)
    shares = _shares(tasks["task"], weights)
    blocks, scores = block_means(rows), of_items(items).set_index("configuration_id")
    found = [
        dict(zip(SAME, key, strict=True)) | _row(own.drop_duplicates("configuration_id"), tasks, blocks, scores, shares)
        for key, own in rows.groupby(SAME, sort=False)
    ]
    found = pd.DataFrame(found, columns=columns).assign(basis=selection.basis)
    placed = in_order(found.assign(input_tokens=0, output_tokens=0, task="", options=""))
    return placed[columns]


def _shares(tasks: pd.Series, weights: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of each task, summing to 1."""
    weights = dict.fromkeys(tasks, 1.0) if weights is None else dict(weights)
    if set(weights) != set(tasks) or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise UserError(f"weights of {', '.join(weights)}", f"one that is not negative for each of {', '.join(sorted(set(tasks)))}")
    return {task: weight / sum(weights.values()) for task, weight in weights.items()}


def _row(own: pd.DataFrame, tasks: pd.DataFrame, blocks: pd.DataFrame, scores: pd.DataFrame, shares: dict[str, float]) -> dict:
    """The figures of one strategy."""
    named = {"tasks": " ".join(own["task"]), "n_blocks": 0}
    if tasks["task"].duplicated().any():
        return named | {"reason": "a task was run in several settings: name one"}
    if missing := sorted(set(tasks["task"]) - set(own["task"])):
        return named | {"reason": f"not run: {', '.join(missing)}"}
    table = own.set_index("configuration_id").join(scores[["score", "n_items"]])
    mine = blocks[blocks["configuration_id"].isin(table.index)]
    totals = mine.groupby(["job", "block"]).agg(energy_j=("window_energy_j", "sum"), s=("window_s", "sum"), n=("window_s", "size"))
    totals = totals[totals["n"] == len(table)]
    if totals.empty:
        return named | {"reason": "no block holds every task"}
    weights = table["task"].map(shares)
    score = _weighted(table["score"], table["n_items"], weights)
    right = _weighted(table["score"], table["n_items"], table["n_items"])
    energy_wh = metrics.watt_hours(totals["energy_j"])
    found = {"score": score, "energy_wh": log_t_interval(energy_wh), "duration_s": log_t_interval(totals["s"])}
    found |= {"eor": quotient(score, found["energy_wh"]), "tweor": quotient(score, log_t_interval(energy_wh * totals["s"]))}
    found |= {"energy_j_per_correct": quotient(log_t_interval(totals["energy_j"]), right)}
    ends = {f"{name}{end}": float(v) for name, interval in found.items() for end, v in zip(ENDS, interval, strict=True)}
    return named | ends | {"n_blocks": len(totals), "n_items": table["n_items"].sum(), "reason": ""}


def _weighted(score: pd.Series, n_items: pd.Series, weights: pd.Series) -> Interval:
    """A weighted sum of independent proportions with its interval recovered from Wilson's (MOVER: Zou and Donner 2008)."""
    each = wilson_interval((score * n_items).round(9), n_items)
    value = float((weights * score).sum())
    down, up = (np.sqrt(np.sum((weights.to_numpy() * (end - score.to_numpy())) ** 2)) for end in (each.low, each.high))
    return Interval(value, value - down, value + up)
