"""The deployment matrix of a study: every hardware, strategy and batch over the same strata, and the best of them for each scenario."""

import numpy as np
import pandas as pd

from eai.analyze.cost import costed
from eai.analyze.deployment import deployment
from eai.analyze.selection import CONFIGURATION
from eai.analyze.summary import gate
from eai.stats.intervals import t_quantile

CELL = ["gpu", "quantization", "batch_size"]
STRATUM = ["model", "weights", "input_tokens", "output_tokens", "task", "options"]
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
    whole = table.groupby(STRATUM)["configuration_id"].transform("size") == n_cells
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
