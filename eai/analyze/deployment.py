"""What to deploy, computed from the summary: Pareto front, deployment matrix and decision rules, each with its probability.

Choices (hardware, strategy, batch, engine and other options) compete on the same work: one model, one task or length. What scores no better
than a guess is never chosen, and is named. What varies much stays a candidate: its wide interval lowers the probability.
"""

import numpy as np
import pandas as pd

from eai import catalog, strategies
from eai.analyze.selection import CONFIGURATION, costed, split_options
from eai.errors import UserError
from eai.stats.comparisons import draw, known_error, probability_non_dominated
from eai.stats.intervals import t_quantile

DRAWS = 2_000
FEWEST_DRAWS = 200
MOST_COMPARED = 40_000_000
MODEL, WORKLOAD = ["model", "weights"], ["input_tokens", "output_tokens", "task", "task_options"]
WORK = [*MODEL, *WORKLOAD]
CHOICE = ["gpu", "quantization", "batch_size", "setup"]
NORMAL_95 = 1.96
KEPT = 0.95
WORTH = ["energy_saved", "score", "score_retained", "score_retained_low", "unit_energy_j", "units_per_s", "unit", "memory_gb"]
WORTH += ["gate", "basis"]


def at_chance(summary: pd.DataFrame) -> pd.Series:
    """For each row why its strategy may not be recommended, an empty string where nothing speaks against it.

    The lower end of the score's interval must lie above what a guess scores (0 where that is not known). What broke a strategy on a task
    broke it for that model everywhere, if full precision passes that task on the same model.
    """
    guess = summary["task"].map({task.slug: task.chance for task in catalog.tasks()}).astype(float).fillna(0.0)
    low = summary["score_low"].fillna(summary["score"])
    failed = summary["score"].notna() & (low <= guess)
    score, chance = (column.map(form.format).astype(str) for column, form in ((summary["score"], "{:.2f}"), (guess, "{:g}")))
    named = summary["task"] + ": score " + score + ", a guess has " + chance
    why = named.where(failed, "")
    full = {name for name, known in strategies.STRATEGIES.items() if not known.is_quantized}
    passes = summary[~failed & summary["score"].notna() & summary["quantization"].isin(full)]
    task, strategy = (pd.MultiIndex.from_frame(summary[[*MODEL, c]]) for c in ("task", "quantization"))
    broken = failed & task.isin(pd.MultiIndex.from_frame(passes[[*MODEL, "task"]]))
    first = dict(zip(strategy[broken][::-1], named[broken][::-1], strict=True))
    return why.where(why != "", pd.Series([first.get(key, "") for key in strategy], summary.index))


def pareto(summary: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The summary's configurations with `p_front`: the probability that nothing of their workload beats them in every objective.

    `objectives`: energy, time and score where every configuration of the workload is scored, else energy and time alone, within one model:
    the smallest model would win for being the smallest. Different lengths or tasks are different work and never beat each other. NaN where
    an error is unknown, as after one block. Fewer draws are taken where many points compete (200: one half is then known to 0.035).
    """
    table = split_options(costed(summary)).dropna(subset=["unit_energy_j", "units_per_s"]).reset_index(drop=True)
    scored = table["score"].notna().groupby([table[c] for c in WORKLOAD]).transform("all").astype(bool)
    table = table.assign(p_front=np.nan, objectives=np.where(scored, "energy, time, score", "energy, time"))
    rival = (table["model"].astype(str) + " " + table["weights"].astype(str)).where(~scored, "")
    for _, rows in table.groupby([*WORKLOAD, rival], sort=False):
        mean = [np.log(rows["unit_energy_j"]), -np.log(rows["units_per_s"])]
        se = [_se_log(rows, "unit_energy_j"), _se_log(rows, "units_per_s")]
        df = [rows["n_blocks"] - 1.0] * 2
        if scored[rows.index[0]]:
            mean.append(-rows["score"])
            se.append((rows["score_high"] - rows["score_low"]) / (2 * NORMAL_95))
            df.append(pd.Series(np.inf, rows.index))  # its interval is over items, whatever the number of blocks
        taken = int(np.clip(MOST_COMPARED / (len(rows) ** 2 * len(mean)), FEWEST_DRAWS, DRAWS))
        points = (np.column_stack(each) for each in (mean, se, df))
        table.loc[rows.index, "p_front"] = probability_non_dominated(*points, rng, taken)
    return table


def _se_log(table: pd.DataFrame, name: str) -> np.ndarray:
    """The standard error of the logarithm, read back from the t interval."""
    return np.log(table[f"{name}_high"] / table[f"{name}_low"]) / (2 * t_quantile(table["n_blocks"] - 1))


def deployment(summary: pd.DataFrame, scenarios: dict[str, dict], rng: np.random.Generator) -> pd.DataFrame:
    """For each scenario the cheapest configuration that meets its conditions, of rows that did the same work.

    A scenario is a dictionary of conditions on summary columns: `{"batch_size": 1}` (equal), `{"ttft_s_max": 0.5}`, `{"score_min": 0.6}`,
    `{"memory_peak_gb_max": 24}`; `{"best": "throughput_tok_s"}` asks for the highest of a column instead of the lowest cost. A
    configuration that lacks the number does not meet the condition. `confidence`: the probability that the chosen one is the best of the
    candidates, NaN where a candidate, be it the only one, has one block only; `runner_up` and its ratio say what the choice is worth;
    `left_out` names what may not be chosen and why (`at_chance`). Raises UserError for an unknown column.
    """
    table = summary if "left_out" in summary else split_options(costed(summary)).assign(left_out=at_chance(summary))
    rows = [{"scenario": name} | _choice(table, conditions, rng) for name, conditions in scenarios.items()]
    return pd.DataFrame(rows)


def _choice(summary: pd.DataFrame, conditions: dict, rng: np.random.Generator) -> dict:
    """The best configuration under conditions: the lowest cost, or the highest of the column that `best` names."""
    value, sign = (conditions["best"], -1) if "best" in conditions else ("unit_energy_j", 1)
    words = {k: v for k, v in conditions.items() if k != "best"}
    columns = {name: name.removesuffix("_max").removesuffix("_min") for name in words}
    for name in (value, *columns.values()):
        if name not in summary:
            raise UserError(f"condition on {name}", "a column of the summary, plain or with _min or _max")
    keep = summary[value].notna()
    for name, limit in words.items():
        stated = summary[columns[name]]
        keep &= stated.le(limit) if name.endswith("_max") else stated.ge(limit) if name.endswith("_min") else stated.eq(limit)
    barred = summary[keep & (summary["left_out"] != "")]
    left_out = "; ".join((barred["quantization"] + " (" + barred["left_out"] + ")").drop_duplicates())
    table = summary[keep & (summary["left_out"] == "")].sort_values(value, ascending=sign > 0).reset_index(drop=True)
    found = {"conditions": ", ".join(f"{k} {v}" for k, v in words.items()), "candidates": len(table), "left_out": left_out}
    if table.empty:
        return found
    best = table.iloc[0]
    se, df = _se_log(table, value), table["n_blocks"] - 1
    drawn = draw(sign * np.log(table[value]), se, df, rng, DRAWS)
    found |= {c: best[c] for c in (*CONFIGURATION, "setup", *WORTH) if c in table} | {"value": best[value]}
    found |= {"confidence": float(np.mean(drawn.argmin(axis=1) == 0)) if known_error(se, df).all() else np.nan}
    if len(table) > 1:
        second = table.iloc[1]
        named = [str(second[c]) for c in ("gpu", "quantization", "setup") if second[c]]
        found |= {"runner_up": ", ".join([*named, f"batch {second['batch_size']}"]), "runner_up_ratio": second[value] / best[value]}
    return found


def matrix(summary: pd.DataFrame, rng: np.random.Generator, retained: pd.DataFrame | None = None) -> pd.DataFrame:
    """The deployment matrix: for each model and task, one row a scenario with the hardware, strategy and batch to choose.

    Of the chosen one `energy_saved` is 1 - its ratio to the baseline, `score_retained` that of `retained` (analyze.summary.retention) and
    `memory_gb` the peak on a GPU, the loaded weights on a CPU, whose resident set keeps pages of earlier loads.
    """
    table = candidates(summary, retained)
    columns = [*WORK, "scenario", "conditions", *CHOICE, "value", "candidates", "confidence", *WORTH, "left_out", "n_cells"]
    found = [pd.DataFrame(columns=columns)]
    for key, rows in table.groupby(WORK, sort=False):
        if len(rows) > 1:
            found.append(deployment(rows, scenarios(rows), rng).assign(**dict(zip(WORK, key, strict=True)), n_cells=len(rows)))
    whole = pd.concat(found[1:] or found, ignore_index=True)
    return whole.reindex(columns=[*dict.fromkeys([*columns, *whole])])


def candidates(summary: pd.DataFrame, retained: pd.DataFrame | None = None) -> pd.DataFrame:
    """The usable rows of the summary with what each choice costs and keeps: `costed`, `setup`, `left_out` and the columns of WORTH."""
    table = split_options(costed(summary))
    table = table[table["unit_energy_j"].notna() & table["units_per_s"].notna()].reset_index(drop=True)
    memory = np.where(table["boundary"] == "gpu", table["memory_peak_gb"], table["model_gb"])
    table = table.assign(memory_gb=memory, energy_saved=1 - table["ratio_to_baseline"], left_out=at_chance(table))
    kept = ["score_retained", "score_retained_low"]
    if retained is None or retained.empty:
        return table.assign(**dict.fromkeys(kept, np.nan))
    table = table.merge(retained[[*CONFIGURATION, *kept]], on=CONFIGURATION, how="left")
    is_base = (table["quantization"] == table["baseline"]) & table["score"].notna()
    return table.assign(**{c: table[c].mask(is_base, 1.0) for c in kept})


def scenarios(table: pd.DataFrame) -> dict[str, dict]:
    """The scenarios that these candidates can tell apart: energy, speed, single requests, memory, score (the lower end of the interval
    keeps 95 %; without scores nothing does), and each hardware by itself.
    """
    found: dict[str, dict] = {"lowest energy": {}, "highest throughput": {"best": "units_per_s"}}
    if table["batch_size"].nunique() > 1:
        found["smallest batch"] = {"batch_size": int(table["batch_size"].min())}
    if table["memory_gb"].nunique() > 1:
        found["half the memory"] = {"memory_gb_max": float(f"{table['memory_gb'].max() / 2:.3g}")}
    found[f"keeps {100 * KEPT:.0f} % of the score"] = {"score_retained_low_min": KEPT}
    cards = sorted(table["gpu"].unique())
    return found | ({f"on {gpu}": {"gpu": gpu} for gpu in cards} if len(cards) > 1 else {})


def best(summary: pd.DataFrame) -> pd.DataFrame:
    """The batch that costs least of each model, task, hardware, strategy and setup: the candidates' rows."""
    table = candidates(summary)
    least = table.groupby([*WORK, "gpu", "quantization", "setup"], sort=False)["unit_energy_j"].idxmin()
    return table.loc[least].reset_index(drop=True)


def decisions(summary: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The decision rules, computed: the best strategy of each setting, neighbouring batch sizes with one answer merged (`from`, `to`), with
    the lowest confidence of the places that it joins, NaN where one of them is unknown.
    """
    table = candidates(summary)
    fixed = [c for c in ("gpu", *WORK, "setup") if c in table]
    rules: list[dict] = []
    for key, group in table.groupby(fixed, sort=True):
        for place, rows in group.groupby("batch_size", sort=True):
            choice = _choice(rows, {}, rng)
            if choice["candidates"] == 0:
                continue
            rule = dict(zip(fixed, key, strict=True)) | {"from": place, "to": place}
            rule |= {c: choice[c] for c in ("quantization", "confidence")}
            last = rules[-1] if rules else {}
            if all(last.get(c) == rule[c] for c in [*fixed, "quantization"]):
                last["to"], last["confidence"] = place, np.minimum(last["confidence"], rule["confidence"])
            else:
                rules.append(rule)
    return pd.DataFrame(rules)
