"""What each figure shows, in one sentence computed from its table: the title of the figure and what its notebook cell prints.

A finding names numbers with their intervals, and says where nothing was decided; it holds for any experiment, because nothing is fixed.
"""

import numpy as np
import pandas as pd

from eai.analyze.selection import ENDS, costed
from eai.analyze.summary import BUDGET_TERMS
from eai.plots.costs import sensed_power
from eai.plots.style import interval, names, number, percent
from eai.stats.planning import blocks_for_ratio

SHOWN_POWER = 0.8
SURE = 0.95
MOST_CLAUSES = 3
SAID = {"lower": "lower", "higher": "higher", "equivalent": "equal", "inconclusive": "not decided", "not_testable": "not testable"}
A_UNIT = {"token": "a token", "item": "an item"}


def _joined(clauses: list[str], more: str) -> str:
    """Clauses as one sentence; what is beyond three is counted."""
    left = len(clauses) - MOST_CLAUSES
    return "; ".join([*clauses[:MOST_CLAUSES], *([f"and {left} more {more}"] if left > 0 else [])]) + "."


def cost(summary: pd.DataFrame) -> str:
    """The cheapest configuration of each task."""
    return _extreme(summary, "unit_energy_j", {"token": "J per token", "item": "J per item"}, "Cheapest", lowest=True)


def throughput(summary: pd.DataFrame) -> str:
    """The fastest configuration of each task."""
    return _extreme(summary, "units_per_s", {"token": "tokens/s", "item": "items/s"}, "Fastest", lowest=False)


def _extreme(summary: pd.DataFrame, column: str, units: dict[str, str], head: str, lowest: bool) -> str:
    table = costed(summary).dropna(subset=column)
    if table.empty:
        return "No configuration has a usable window."
    several, clauses = table["task"].nunique() > 1, []
    for task, rows in table.groupby("task", sort=False):
        rows = rows.assign(name=names(rows))
        row = rows.loc[rows[column].idxmin() if lowest else rows[column].idxmax()]
        ends = interval(*(row[f"{column}{end}"] for end in ENDS), units[row["unit"]])
        clauses.append(f"{f'{task}: ' if several else ''}{row['name']}, {ends}")
    return f"{head}: {_joined(clauses, 'tasks')}"


def forest(comparisons: pd.DataFrame) -> str:
    """How many comparisons were decided, and the largest change."""
    if comparisons.empty:
        return "Nothing to compare: only the baseline was measured."
    counts, known = comparisons["outcome"].value_counts(), comparisons.assign(name=names(comparisons))
    known = known[known["outcome"].isin(["lower", "higher"])]
    baseline = " or ".join(sorted(set(comparisons["baseline"])))
    decided = ", ".join(f"{counts[o]} {w}" for o, w in SAID.items() if o in counts)
    if known.empty:
        return f"None of {len(comparisons)} comparisons with {baseline} shows a difference{f' ({decided})' if decided else ''}."
    row = known.loc[np.log(known["ratio_to_baseline"]).abs().idxmax()]
    ends = interval(*(row[f"ratio_to_baseline{end}"] for end in ENDS))
    return f"Of {len(comparisons)} comparisons with {baseline}: {decided}. Largest change: {row['name']}, x {ends}."


def batch_scaling(summary: pd.DataFrame) -> str:
    """What a unit costs at the largest batch against the smallest, by task."""
    table, clauses = costed(summary), []
    for task, rows in table[table["unit_energy_j"].notna()].groupby("task", sort=False):
        keys = [c for c in ("gpu", "model", "weights", "quantization", "input_tokens", "output_tokens", "options") if c in rows]
        wide = rows.pivot_table(index=keys, columns="batch_size", values="unit_energy_j")
        first, last = wide.columns.min(), wide.columns.max()
        ratio = (wide[last] / wide[first]).dropna()
        if first != last and len(ratio):
            spread = f"{number(ratio.min())} to {number(ratio.max())}" if len(ratio) > 1 else number(ratio.iloc[0])
            clauses.append(f"{task}: from batch {first} to {last} {A_UNIT[rows['unit'].iloc[0]]} costs x {spread}")
    return _joined(clauses, "tasks") if clauses else "One batch size: no scaling."


def heatmap(best: pd.DataFrame) -> str:
    """The cheapest hardware and strategy of each model and task (analyze.deployment.best)."""
    clauses = []
    several = best["model"].nunique() > 1 or best["task"].nunique() > 1
    for (model, task), rows in best.groupby(["model", "task"], sort=False):
        row = rows.loc[rows["unit_energy_j"].idxmin()]
        cost = interval(*(row[f"unit_energy_j{end}"] for end in ENDS), f"J {A_UNIT[row['unit']]}")
        where = f"{model}, {task}: " if several else ""
        clauses.append(f"{where}{row['quantization']} on {row['gpu']} at batch {row['batch_size']}, {cost}")
    return f"Cheapest: {_joined(clauses, 'models or tasks')}"


def synergy(table: pd.DataFrame) -> str:
    """How many interactions were shown, and the largest."""
    known = table[table["outcome"].isin(["lower", "higher"])]
    factor = {"batch_size": "batch", "gpu": "hardware"}.get(table["factor"].iloc[0], table["factor"].iloc[0])
    if known.empty:
        return f"Strategy and {factor} just multiply, as far as these {len(table)} interactions show: none is decided."
    row = known.loc[np.log(known["synergy"]).abs().idxmax()]
    where = f"{row['quantization']} saves {'more' if row['synergy'] < 1 else 'less'} at {factor} {row['level']} than at {row['reference']}"
    where += f", x {interval(*(row[f'synergy{end}'] for end in ENDS))}"
    return f"{len(known)} of {len(table)} interactions of strategy and {factor} are shown; the largest: {where}."


def power_curves(table: pd.DataFrame, blocks: int) -> str:
    """The saving that the blocks at hand show with a probability of 0.8, and the blocks that a saving of 3 % needs."""
    n = min(table["n"].unique(), key=lambda each: abs(each - blocks))
    shown, sd_log, family = table[(table["n"] == n) & (table["power"] >= SHOWN_POWER)], table["sd_log"].iloc[0], table["family"].iloc[0]
    needs = blocks_for_ratio(sd_log, 0.97, SHOWN_POWER, int(family)) or "more than 10,000"
    none = f"no saving up to {100 * (1 - table['ratio'].min()):.0f} %"
    what = none if shown.empty else f"a saving of {100 * (1 - shown['ratio'].max()):.1f} %"
    return f"{n} blocks show {what} with a probability of 80 %; 3 % needs {needs} blocks."


def decision_tree(rules: pd.DataFrame) -> str:
    """Which strategy is the cheapest in how many of the rules, and how sure that is."""
    clauses = [f"{name} in {n}" for name, n in rules["quantization"].value_counts().items()]
    sure = f"the least sure with a probability of {percent(rules['confidence'].min(skipna=False))}"
    return f"Cheapest strategy of {len(rules)} setting{'s' * (len(rules) > 1)}: {_joined(clauses, 'strategies')[:-1]}; {sure}."


def budget(table: pd.DataFrame) -> str:
    """The largest source of uncertainty, on average over the configurations."""
    means = table[list(BUDGET_TERMS)].mean().dropna()
    if means.empty:
        return "No source of uncertainty is known: one block, and no sensor terms."
    first = means.idxmax()
    rest = "; repeating does not reduce it" if first in ("offset", "gain") else ""
    return f"Largest source of uncertainty: {first}, {number(100 * means[first], 2)} % on average{rest}."


def roofline(table: pd.DataFrame) -> str:
    """The range of shares of the roof, by phase."""
    known = table[table["share_of_roof"].notna()]
    if known.empty:
        return "No roof is known for this hardware: only the achieved rates are drawn."
    clauses = []
    for phase, rows in known.groupby("phase", sort=False):
        row, low = rows.loc[rows["share_of_roof"].idxmax()], number(100 * rows["share_of_roof"].min(), 2)
        clauses.append(f"{phase} reaches {low} to {number(100 * row['share_of_roof'], 2)} % ({row['quantization']})")
    return f"Of the roof, {_joined(clauses, 'phases')}"


def pareto(front: pd.DataFrame) -> str:
    """Who is surely beaten by nothing of the same work."""
    known = front.assign(name=names(front)).dropna(subset="p_front")
    if known.empty:
        return "One block: whether a configuration is on the front is unknown."
    sure = known[known["p_front"] >= SURE]
    listed = "; ".join(sure["name"].head(MOST_CLAUSES)) + (f" and {len(sure) - MOST_CLAUSES} more" if len(sure) > MOST_CLAUSES else "")
    unscored = "" if "energy, time, score" in set(front["objectives"]) else " (energy and time; no score)"
    return f"{len(sure)} of {len(known)} configurations are surely beaten by nothing{unscored}{f': {listed}' if len(sure) else ''}."


def quality(front: pd.DataFrame) -> str:
    """The highest score and the cheapest configuration of each task."""
    clauses = []
    for task, rows in front.dropna(subset="score").groupby("task", sort=False):
        rows = rows.assign(name=names(rows))
        best = rows[rows["score"] == rows["score"].max()]
        who = f"{best['name'].iloc[0]} scores" if len(best) == 1 else f"{len(best)} of {len(rows)} configurations score"
        clauses.append(f"{task}: {who} {interval(*(best[f'score{end}'].iloc[0] for end in ENDS))}")
    return f"Highest score of {_joined(clauses, 'tasks')}" if clauses else "No score was measured."


def retention(kept: pd.DataFrame) -> str:
    """What the strategy that saves most keeps of the score."""
    row = kept.assign(name=names(kept)).sort_values("energy_saved").iloc[-1]
    score = [100 * row[f"score_retained{end}"] for end in ("", "_low", "_high")]
    return f"{row['name']} saves most, {100 * row['energy_saved']:.0f} %, and keeps {interval(*score)} % of the score."


def matrix(table: pd.DataFrame) -> str:
    """The choice for the lowest energy of each model and task."""
    rows = table[(table["scenario"] == "lowest energy") & (table["candidates"] > 0)]
    several = len(rows) > 1
    clauses = [f"{r.quantization} on {r.gpu} at batch {r.batch_size:.0f}, probability {percent(r.confidence)}" for r in rows.itertuples()]
    clauses = [f"{task}: {clause}" for task, clause in zip(rows["task"], clauses, strict=True)] if several else clauses
    barred = sorted({name for text in table["left_out"] for name in str(text).split("; ") if name})
    warning = f" Not to be chosen: {'; '.join(barred)}." if barred else ""
    return (f"For the lowest energy: {_joined(clauses, 'models or tasks')}" if clauses else "Nothing may be recommended.") + warning


def load_curve(loads: pd.DataFrame) -> str:
    """The load with the cheapest token and the one with the fastest first token, as far as they are known."""
    said = []
    if loads["energy_j_per_token"].notna().any():
        low = loads.loc[loads["energy_j_per_token"].idxmin()]
        said.append(f"a token is cheapest at {low['traffic']}, {interval(*(low[f'energy_j_per_token{end}'] for end in ENDS), 'J')}")
    if loads["ttft_s"].notna().any():
        fast = loads.loc[loads["ttft_s"].idxmin()]
        said.append(f"the first token comes fastest at {fast['traffic']}, {number(fast['ttft_s'])} s")
    text = "; ".join(said) or "neither the energy of a token nor the time to the first one is known"
    return f"{text[0].upper()}{text[1:]}."


def power_traces(samples: pd.DataFrame) -> str:
    """The range of the sensed power."""
    values = sensed_power(samples)["value"]
    return f"The sensor read {number(values.min())} to {number(values.max())} W inside the windows, median {number(values.median())} W."
