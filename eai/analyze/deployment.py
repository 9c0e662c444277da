"""What to deploy, computed from the summary: Pareto front, deployment matrix and decision rules, each with its probability.

The deployment matrix of a study: every hardware, strategy and batch over the same strata, and the best of them for each scenario.
"""

import numpy as np
import pandas as pd

from eai.analyze.metrics import costed
from eai.analyze.selection import CONFIGURATION
from eai.analyze.summary import gate
from eai.errors import UserError
from eai.stats.comparisons import draw, known_error, probability_non_dominated
from eai.stats.intervals import t_quantile
from eai.strategies import STRATEGIES

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
    found |= {"confidence": float(np.mean(drawn.argmin(axis=1) == 0)) if known_error(se, df).all() else np.nan}
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


CELL = ["gpu", "quantization", "batch_size"]
SAME_WORK = ["model", "weights", "input_tokens", "output_tokens", "task", "options"]
RUN = ["model", "weights"]
MEASURES = ("unit_energy_j", "units_per_s")
WORTH = ["energy_saved", "score_retained", "score_retained_low", "units_per_s", "memory_gb", "n_strata"]
KEPT = 0.95


def matrix(summary: pd.DataFrame, rng: np.random.Generator, retained: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a scenario: the hardware, strategy and batch to choose, what it saves and keeps, and how sure the choice is.

    Columns: those of deployment.deployment and `energy_saved` (against the baseline strategy on the same hardware), `score_retained`
    (NaN where no score was measured), throughput, memory and `n_strata`; `n_rejected` of the `n_cells` are no candidates, because their
    energy fails the gate. A scenario that nothing meets has 0 candidates. No row where no model, length and task was measured in
    every cell.
    """
    table = cells(summary, retained)
    if table.empty:
        return pd.DataFrame(columns=["scenario", "conditions", *CELL, "value", "candidates", "confidence", *WORTH, "basis"])
    chosen = deployment(table, scenarios(table), rng)
    chosen = chosen.reindex(columns=[*dict.fromkeys([*chosen, *CELL])])
    chosen["gpu"], chosen["quantization"] = (chosen[c].astype(object) for c in ("gpu", "quantization"))  # no candidate at all is no text
    chosen = chosen.merge(table[[*CELL, *WORTH]], on=CELL, how="left").assign(basis=summary["basis"].iloc[0])
    return chosen.assign(n_cells=len(table), n_rejected=int((table["gate"] == "rejected").sum()))


def scenarios(table: pd.DataFrame) -> dict[str, dict]:
    """The scenarios that these cells can tell apart: energy, speed, single requests, memory, score, and each hardware by itself.

    `keeps 95 % of the score` asks that the lower end of the interval does; without scores nothing meets it.
    """
    found: dict[str, dict] = {"lowest energy": {}, "highest throughput": {"best": "units_per_s"}}
    if table["batch_size"].nunique() > 1:
        found["smallest batch"] = {"batch_size": int(table["batch_size"].min())}
    if table["memory_gb"].nunique() > 1:
        found["half the memory"] = {"memory_gb_max": float(f"{table['memory_gb'].max() / 2:.3g}")}
    found[f"keeps {KEPT:.0%} of the score".replace("%", " %")] = {"score_retained_low_min": KEPT}
    cards = sorted(table["gpu"].unique())
    return found | ({f"on {gpu}": {"gpu": gpu} for gpu in cards} if len(cards) > 1 else {})


def cells(summary: pd.DataFrame, retained: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a cell (hardware, strategy, batch) over the strata that every cell has: what a choice costs on the same work.

    Energy and speed are those of a unit of work (`costed`), geometric means over strata; their 95 % interval holds the spread of the
    blocks alone, because the strata are the same for all (`_pooled`); `n_blocks` is its degrees of freedom + 1. `energy_saved`: 1 -
    geometric mean of the ratios to the baseline. `memory_gb`: the peak on a GPU, the loaded weights on a CPU, whose resident set keeps
    pages of earlier loads. `score_retained`: geometric mean of `retained` (analyze.study.retention), `_low` its lower end as if the strata
    were independent. `gate` is on the coefficient of variation pooled over strata. Empty where no stratum is complete.
    """
    table = _complete(summary)
    groups = table.groupby(CELL, sort=False)
    found = pd.concat([_pooled(groups, name) for name in MEASURES], axis=1)
    found["n_strata"], found["n_blocks"] = groups.size(), _degrees(table) + 1
    found["memory_gb"], found["ttft_s"] = groups["memory_gb"].max(), groups["ttft_s"].max()
    found["energy_saved"] = 1 - np.exp(groups["ratio_to_baseline"].agg(_mean_log))
    spread = np.sqrt((table["energy_cv"] ** 2).groupby([table[c] for c in CELL], sort=False).mean())
    found["gate"] = gate(spread, found["n_blocks"])
    return found.join(_retained(table, retained)).reset_index()


def _complete(summary: pd.DataFrame) -> pd.DataFrame:
    """The usable rows of the strata that were measured in every cell: of scored work if there is any, and never of tokens beside items."""
    summary = costed(summary)
    usable = (summary["n_blocks"] > 0) & summary[list(MEASURES)].notna().all(axis=1)
    table = _of_one_kind(summary[usable].assign(options=lambda t: t["options"].fillna("{}")))
    n_cells = len(table[CELL].drop_duplicates())
    whole = table.groupby(SAME_WORK)["configuration_id"].transform("size") == n_cells
    memory = np.where(table["boundary"] == "gpu", table["memory_peak_gb"], table["model_gb"])
    return table.assign(memory_gb=memory)[whole]


def _of_one_kind(table: pd.DataFrame) -> pd.DataFrame:
    """The scored rows if there are any; of these, or of all, the ones costed by the token, else those costed by the item."""
    scored = table["score"].notna() if "score" in table else pd.Series(False, index=table.index)
    table = table[scored] if scored.any() else table
    tokens = table["unit"] == "token"
    return table[tokens] if tokens.any() else table


def _pooled(groups, name: str) -> pd.DataFrame:
    """Geometric mean of a summary column over strata, with the interval that the spread of the blocks gives it.

    Strata of one model ran in the same blocks and err together: their standard errors add up, as if wholly correlated, with the degrees of
    freedom of the one with the fewest blocks. Those of different models ran apart: they add in quadrature.
    """
    parts = groups.obj.assign(log=np.log(groups.obj[name]))
    parts["se"] = np.log(parts[f"{name}_high"] / parts[name]) / t_quantile(parts["n_blocks"] - 1)
    by_model = parts.groupby([*CELL, *RUN], sort=False)["se"].agg(lambda v: v.sum(skipna=False))
    by_cell = parts.groupby(CELL, sort=False)
    mean = by_cell["log"].mean()
    se = np.sqrt((by_model**2).groupby(CELL, sort=False).agg(lambda v: v.sum(skipna=False))) / by_cell.size()
    df = _degrees(parts)
    half = pd.Series(t_quantile(df), df.index) * se
    return pd.DataFrame({name: np.exp(mean), f"{name}_low": np.exp(mean - half), f"{name}_high": np.exp(mean + half)})


def _degrees(table: pd.DataFrame) -> pd.Series:
    """The degrees of freedom of each cell's interval: those of each model's fewest blocks, summed over models."""
    return (table.groupby([*CELL, *RUN], sort=False)["n_blocks"].min() - 1).groupby(CELL, sort=False).sum()


def _mean_log(values: pd.Series) -> float:
    """The mean logarithm, NaN where one value is missing."""
    return float(np.log(values).mean(skipna=False))


def _retained(table: pd.DataFrame, retained: pd.DataFrame | None) -> pd.DataFrame:
    """The share of the score that each cell keeps with the lower end of its interval; the baseline keeps all of its own score."""
    columns = ["score_retained", "score_retained_low"]
    if retained is None or retained.empty:
        return pd.DataFrame(np.nan, index=pd.MultiIndex.from_frame(table[CELL].drop_duplicates()), columns=columns)
    found = table.merge(retained[[*CONFIGURATION, *columns]], on=CONFIGURATION, how="left")
    is_base = (found["quantization"] == found["baseline"]) & found["score"].notna()
    logs = pd.DataFrame({c: np.log(found[c].mask(is_base, 1.0)) for c in columns})
    found["log"], found["variance"] = logs[columns[0]], (logs[columns[0]] - logs[columns[1]]) ** 2
    groups = found.groupby(CELL, sort=False)
    mean = groups["log"].agg(lambda v: v.mean(skipna=False))
    arm = np.sqrt(groups["variance"].agg(lambda v: v.sum(skipna=False))) / groups.size()
    return np.exp(pd.DataFrame({columns[0]: mean, columns[1]: mean - arm}))


def heatmap(summary: pd.DataFrame, value: str = "energy_j_per_token", rows: str = "gpu", columns: str = "quantization") -> pd.DataFrame:
    """The geometric mean of a positive summary column over whatever else varies, rows by columns; NaN where nothing was measured.

    Only cells over the same strata are comparable: a stratum that lacks one of the cells that were measured at all is left out of all.
    Raises UserError where no stratum is complete.
    """
    table = summary[summary[value].notna()]
    others = [c for c in CONFIGURATION if c not in (rows, columns) and table[c].nunique() > 1]
    table = table.assign(log=np.log(table[value]), stratum=table.groupby(others).ngroup() if others else 0)
    complete = table.pivot_table(index="stratum", columns=[rows, columns], values="log").dropna()
    if complete.empty:
        raise UserError(f"no stratum was measured in every {rows} x {columns}", "at least one", "choose fewer levels or look at the ratios")
    wide = np.exp(complete.mean().reset_index(name="log").pivot_table(index=rows, columns=columns, values="log"))
    known = [c for c in STRATEGIES if c in wide.columns]
    return wide[[*known, *(c for c in wide.columns if c not in known)]]
