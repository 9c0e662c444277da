"""What to deploy, computed from the summary: Pareto front, deployment matrix and decision rules, each with its probability."""

import numpy as np
import pandas as pd

from eai.analyze.cost import costed
from eai.analyze.selection import CONFIGURATION
from eai.errors import UserError
from eai.stats.intervals import t_quantile
from eai.stats.pareto import draw, known, probability_non_dominated

DRAWS = 2_000
FEWEST_DRAWS = 200
MOST_COMPARED = 40_000_000
WORKLOAD = ["input_tokens", "output_tokens", "task"]
MODEL = ["model", "weights"]
NORMAL_95 = 1.96


def pareto(summary: pd.DataFrame, rng: np.random.Generator, draws: int = DRAWS) -> pd.DataFrame:
    """The summary's configurations with `p_front`: the probability that nothing of their workload beats them in every objective.

    `objectives` says which they were: energy, time and score where every configuration of the workload is scored. Without scores
    energy and time alone, within one model: else the smallest model would win for being the smallest. Hardware, strategy, batch and
    options are choices; different lengths or tasks (with their items and examples) are different work and never beat each other.
    Columns as `costed`. NaN where an error is unknown, as after a single block. Fewer draws are taken where many points compete (200 at
    least: a probability of one half is then known to 0.035).
    """
    table = costed(summary).dropna(subset=["unit_energy_j", "units_per_s"]).reset_index(drop=True)
    work = [*(table[c] for c in WORKLOAD), table["options"].where(table["unit"] == "item", "")]
    scored = table["score"].notna().groupby(work).transform("all").astype(bool)
    table = table.assign(p_front=np.nan, objectives=np.where(scored, "energy, time, score", "energy, time"))
    rival = table[MODEL].astype(str).agg(" ".join, axis=1).where(~scored, "")
    for _, rows in table.groupby([*work, rival], sort=False):
        table.loc[rows.index, "p_front"] = _p_front(rows, bool(scored[rows.index[0]]), rng, draws)
    return table


def _p_front(table: pd.DataFrame, with_score: bool, rng: np.random.Generator, draws: int) -> np.ndarray:
    """The probability of being on the front among the rows of one workload."""
    mean = [np.log(table["unit_energy_j"]), -np.log(table["units_per_s"])]
    se = [_se_log(table, "unit_energy_j"), _se_log(table, "units_per_s")]
    df = [table["n_blocks"] - 1.0] * 2
    if with_score:
        mean.append(-table["score"])
        se.append((table["score_high"] - table["score_low"]) / (2 * NORMAL_95))
        df.append(pd.Series(np.inf, table.index))  # its interval is over items, whatever the number of blocks
    draws = int(np.clip(MOST_COMPARED / (len(table) ** 2 * len(mean)), FEWEST_DRAWS, draws))
    return probability_non_dominated(np.column_stack(mean), np.column_stack(se), np.column_stack(df), rng, draws)


def _se_log(table: pd.DataFrame, name: str) -> np.ndarray:
    """The standard error of the logarithm, read back from the t interval."""
    return np.log(table[f"{name}_high"] / table[f"{name}_low"]) / (2 * t_quantile(table["n_blocks"] - 1))


def deployment(
    summary: pd.DataFrame, scenarios: dict[str, dict], rng: np.random.Generator, value: str = "unit_energy_j", draws: int = DRAWS
) -> pd.DataFrame:
    """The deployment matrix, computed: for each scenario the cheapest configuration that meets its conditions.

    A scenario is a dictionary of conditions on summary columns: `{"batch_size": 1}` (equal), `{"ttft_s_max": 0.5}`, `{"score_min": 0.6}`,
    `{"memory_peak_gb_max": 24}`; `{"best": "throughput_tok_s"}` asks for the highest of a column instead of the lowest `value`. A
    configuration that lacks the number does not meet the condition. `confidence`: the probability that the chosen one is the best of the
    candidates, NaN where a candidate, be it the only one, has one block only; `runner_up` and its ratio say what the choice is worth.
    Raises UserError for an unknown column.
    """
    table = costed(summary) if "unit_energy_j" not in summary else summary
    rows = [{"scenario": name} | _choice(table, conditions, rng, value, draws) for name, conditions in scenarios.items()]
    return pd.DataFrame(rows)


def _choice(summary: pd.DataFrame, conditions: dict, rng: np.random.Generator, value: str, draws: int) -> dict:
    """The best configuration under conditions: the lowest `value`, or the highest of the column that `best` names."""
    value, sign = (conditions["best"], -1) if "best" in conditions else (value, 1)
    conditions = {k: v for k, v in conditions.items() if k != "best"}
    keep = _column(summary, value).notna() & (summary["gate"] != "rejected")
    for name, limit in conditions.items():
        stated = _column(summary, name.removesuffix("_max").removesuffix("_min"))
        keep &= stated.le(limit) if name.endswith("_max") else stated.ge(limit) if name.endswith("_min") else stated.eq(limit)
    table = summary[keep].sort_values(value, ascending=sign > 0).reset_index(drop=True)
    words = ", ".join(f"{k} {v}" for k, v in conditions.items())
    if table.empty:
        return {"conditions": words, "candidates": 0}
    best = table.iloc[0]
    se, df = _se_log(table, value), table["n_blocks"] - 1
    drawn = draw(sign * np.log(table[value]), se, df, rng, draws)
    found = {c: best[c] for c in CONFIGURATION if c in table} | {"value": best[value], "candidates": len(table)}
    found |= {"confidence": float(np.mean(drawn.argmin(axis=1) == 0)) if known(se, df).all() else np.nan}
    if len(table) > 1:
        second = table.iloc[1]
        named = [str(second[c]) for c in ("gpu", "model", "quantization") if c in table]
        found |= {"runner_up": ", ".join([*named, f"batch {second['batch_size']}"]), "runner_up_ratio": second[value] / best[value]}
    return {"conditions": words} | found


def _column(summary: pd.DataFrame, name: str) -> pd.Series:
    """A column that a scenario names. Raises UserError where there is none."""
    if name not in summary:
        raise UserError(f"condition on {name}", "a column of the summary, plain or with _min or _max")
    return summary[name]


def decisions(summary: pd.DataFrame, rng: np.random.Generator, along: str = "batch_size", value: str = "unit_energy_j") -> pd.DataFrame:
    """The decision tree as rules, computed: the best strategy of each stratum along `along`, neighbours with one answer merged.

    One row a rule: the stratum, `from`, `to`, the strategy and the lowest confidence of the places that it joins, NaN where one
    of them is unknown.
    """
    fixed = [c for c in ("gpu", "model", "weights", "input_tokens", "output_tokens", "task") if c in summary]
    rules = []
    for key, group in costed(summary).groupby(fixed, sort=True):
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
                last["to"], last["confidence"] = place, np.minimum(last["confidence"], rule["confidence"])
            else:
                rules.append(rule)
    return pd.DataFrame(rules)
