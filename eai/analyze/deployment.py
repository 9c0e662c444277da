"""What to deploy, computed from the summary: Pareto front, deployment matrix and decision rules, each with its probability."""

import numpy as np
import pandas as pd

from eai.analyze.selection import CONFIGURATION
from eai.errors import UserError
from eai.stats.intervals import t_quantile
from eai.stats.pareto import draw, probability_non_dominated

DRAWS = 2_000


def pareto(summary: pd.DataFrame, rng: np.random.Generator, draws: int = DRAWS) -> pd.DataFrame:
    """The summary's configurations with `p_front`: the probability that nothing beats them in energy, time and (where known) score."""
    table = summary.dropna(subset=["energy_j_per_token", "throughput_tok_s"]).reset_index(drop=True)
    mean = [np.log(table["energy_j_per_token"]), -np.log(table["throughput_tok_s"])]
    se, df = [], (table["n_blocks"] - 1).to_numpy(float)
    for name in ("energy_j_per_token", "throughput_tok_s"):
        se.append(_se_log(table, name))
    if table["score"].notna().all() and len(table):
        mean.append(-table["score"])
        se.append((table["score_high"] - table["score_low"]) / (2 * 1.96))
    p = probability_non_dominated(np.column_stack(mean), np.column_stack(se), df[:, None], rng, draws)
    return table.assign(p_front=p)


def _se_log(table: pd.DataFrame, name: str) -> np.ndarray:
    """The standard error of the logarithm, read back from the t interval."""
    return np.log(table[f"{name}_high"] / table[f"{name}_low"]) / (2 * t_quantile(table["n_blocks"] - 1))


def deployment(
    summary: pd.DataFrame, scenarios: dict[str, dict], rng: np.random.Generator, value: str = "energy_j_per_token", draws: int = DRAWS
) -> pd.DataFrame:
    """The deployment matrix, computed: for each scenario the cheapest configuration that meets its conditions.

    A scenario is a dictionary of conditions on summary columns: `{"batch_size": 1}` (equal), `{"ttft_s_max": 0.5}`, `{"score_min": 0.6}`,
    `{"memory_peak_gb_max": 24}`. A configuration that lacks the number does not meet the condition. `confidence`: the probability that
    the chosen one is the cheapest of the candidates, NaN where a candidate has one block only; `runner_up` and its ratio say what the
    choice is worth. Raises UserError for an unknown column.
    """
    rows = [{"scenario": name} | _choice(summary, conditions, rng, value, draws) for name, conditions in scenarios.items()]
    return pd.DataFrame(rows)


def _choice(summary: pd.DataFrame, conditions: dict, rng: np.random.Generator, value: str, draws: int) -> dict:
    """The cheapest configuration under conditions."""
    keep = summary[value].notna() & (summary["gate"] != "rejected")
    for name, limit in conditions.items():
        column = name.removesuffix("_max").removesuffix("_min")
        if column not in summary:
            raise UserError(f"condition on {name}", "a column of the summary, plain or with _min or _max")
        known = summary[column]
        keep &= known.le(limit) if name.endswith("_max") else known.ge(limit) if name.endswith("_min") else known.eq(limit)
    table = summary[keep].sort_values(value).reset_index(drop=True)
    words = ", ".join(f"{k} {v}" for k, v in conditions.items())
    if table.empty:
        return {"conditions": words, "candidates": 0}
    best = table.iloc[0]
    drawn = draw(np.log(table[value]), _se_log(table, value), table["n_blocks"] - 1, rng, draws)
    found = {c: best[c] for c in CONFIGURATION} | {"value": best[value], "candidates": len(table)}
    sure = len(table) == 1 or (table["n_blocks"] > 1).all()
    found |= {"confidence": float(np.mean(drawn.argmin(axis=1) == 0)) if sure else np.nan}
    if len(table) > 1:
        second = table.iloc[1]
        found |= {"runner_up": f"{second['gpu']}, {second['model']}, {second['quantization']}, batch {second['batch_size']}"}
        found |= {"runner_up_ratio": second[value] / best[value]}
    return {"conditions": words} | found


def decisions(
    summary: pd.DataFrame, rng: np.random.Generator, along: str = "batch_size", value: str = "energy_j_per_token"
) -> pd.DataFrame:
    """The decision tree as rules, computed: the best strategy of each stratum along `along`, neighbours with one answer merged.

    One row a rule: the stratum, `from`, `to`, the strategy and the lowest confidence of the places that it joins.
    """
    fixed = [c for c in ("gpu", "model", "weights", "input_tokens", "output_tokens", "task") if c in summary]
    rules = []
    for key, group in summary.groupby(fixed, sort=True):
        for place, rows in group.groupby(along, sort=True):
            choice = _choice(rows, {}, rng, value, DRAWS)
            if choice["candidates"] == 0:
                continue
            rule = dict(zip(fixed, key, strict=True)) | {
                "from": place,
                "to": place,
                "quantization": choice["quantization"],
                "confidence": choice["confidence"],
            }
            last = rules[-1] if rules else {}
            if all(last.get(c) == rule[c] for c in [*fixed, "quantization"]):
                last["to"], last["confidence"] = place, min(last["confidence"], rule["confidence"])
            else:
                rules.append(rule)
    return pd.DataFrame(rules)
