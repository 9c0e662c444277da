"""Whether the experiment was as random and steady as its intervals assume: effects of order, drift and temperature, outliers.

A drift that randomized blocks spread over all configurations widens the intervals and biases none; it is reported so that the
reader knows why they are wide. Nothing found here drops a window.
"""

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.analyze.blocks import block_means, unit_energy
from eai.analyze.selection import CONFIGURATION, Selection
from eai.stats import comparisons, diagnostics

COVARIATES = {
    "order": "a window later in its block",
    "load": "a model load later in its block",
    "temperature_mean_c": "a degree Celsius more",
    "warmup_s": "a second of warm-up more",
}


def effects(selection: Selection) -> pd.DataFrame:
    """One row a possible disturbance: what changes, its relative effect on the energy per token or item with 95 % interval, p, p_holm, n.

    Effects are estimated beside configuration and block (of a job). Autocorrelation of consecutive blocks stands in the last row: its
    effect column is the lag-one correlation. Columns: disturbance, effect, low, high, p, p_holm, n.
    """
    rows = selection.rows
    y = np.log(unit_energy(rows))
    block = rows.groupby(["job", "block"]).ngroup()
    found = []
    for name, words in COVARIATES.items():
        known = rows[name].notna() if name in rows else pd.Series(False, index=rows.index)
        x = rows.loc[known, name].astype(float) if known.any() else pd.Series(dtype=float)
        effect = diagnostics.covariate_effect(y[known], x, rows.loc[known, "configuration_id"], block[known])
        found.append({"disturbance": words, "effect": effect.slope, "low": effect.low, "high": effect.high, "p": effect.p, "n": effect.n})
    found.append(_autocorrelation(selection))
    table = pd.DataFrame(found)
    return table.assign(p_holm=comparisons.adjust(table["p"]))[["disturbance", "effect", "low", "high", "p", "p_holm", "n"]]


def _autocorrelation(selection: Selection) -> dict:
    """The lag-one autocorrelation of log ratios to the block's mean, over configurations that have every block of their job."""
    series = _block_series(selection)
    row = {
        "disturbance": "the block before (lag-one autocorrelation)",
        "effect": np.nan,
        "low": np.nan,
        "high": np.nan,
        "p": np.nan,
        "n": series.shape[0],
    }
    if series.shape[0] < 2 or series.shape[1] < 4 or np.ptp(series) < 1e-12:
        return row
    p = diagnostics.autocorrelation_p(series, np.random.default_rng(0))
    return row | {"effect": diagnostics.lag_one(series), "p": p}


def _block_series(selection: Selection) -> np.ndarray:
    """Residuals (configuration, block) of the job with the most complete configurations."""
    blocks = block_means(selection.rows)
    blocks["log"] = np.log(blocks["unit_energy_j"])
    tables = [t.pivot_table(index="configuration_id", columns="block", values="log").dropna().to_numpy() for _, t in blocks.groupby("job")]
    series = max(tables, key=np.size)
    return series - series.mean(axis=0, keepdims=True) - series.mean(axis=1, keepdims=True) + series.mean() if series.size else series


def outliers(selection: Selection) -> pd.DataFrame:
    """The windows whose energy per token (of a task: per item) stands out from configuration and block.

    At a 5 % chance of accusing anyone wrongly in a job. Columns: job, block, repeat, configuration, energy_j_per_token, ratio_to_expected
    (to the configuration's median). They stay in every estimate: compare the table with and without them by leaving out their `attempt`.
    """
    tokens = selection.rows["tokens_out"].astype(float)
    rows = selection.rows.assign(energy_j_per_token=metrics.energy_per_token(selection.rows["energy_j"], tokens.where(tokens > 0)))
    unit_j = unit_energy(rows)
    flagged = np.zeros(len(rows), bool)
    for _, job in rows.groupby("job"):
        place = rows.index.get_indexer(job.index)
        flagged[place] = diagnostics.outliers(np.log(unit_j[job.index]), job["configuration_id"], job["block"])
    rows["ratio_to_expected"] = unit_j / unit_j.groupby(rows["configuration_id"]).transform("median")
    columns = ["job", "block", "repeat", "attempt", "configuration_id", *CONFIGURATION, "energy_j_per_token", "ratio_to_expected"]
    return rows.loc[flagged, columns].reset_index(drop=True)
