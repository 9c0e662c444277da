"""One row a configuration and block: the replicates that every interval and comparison is built on."""

import numpy as np
import pandas as pd

from eai.analyze import metrics, served
from eai.analyze.selection import as_run

BLOCK = ["configuration_id", "job", "block"]
NOMINAL = "nominal_window"


def unit_energy(rows: pd.DataFrame) -> pd.Series:
    """Energy of one unit of work of each window [J]: of an item where a task ran as it comes, of an output token otherwise."""
    tasks = as_run(rows)
    units = rows["tokens_out"].astype(float)
    units = units.mask(tasks, rows["requests"].astype(float)) if tasks.any() else units
    return rows["energy_j"].astype(float) / units


def block_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into ratios, so that long windows weigh more.

    `window_energy_j` and `window_s` are the energy and time of one task as run: means over windows, and over the passes of a window that
    holds several; NaN for a nominal window, which stands for rates of a source that states no totals. `unit_energy_j` is the
    compared cost: of an item of a task, of an output token otherwise. Per token is NaN where no token was produced.
    """
    optional = ["cpu_time_s", "ttft_s", "memory_peak_gb", "model_bytes", "requests", "calls"]
    rows = rows.assign(**{c: np.nan for c in optional if c not in rows})
    rows = rows.assign(as_run=as_run(rows), requests=served.requests(rows))
    rows["passes"] = rows["calls"].where(rows["as_run"], 1.0).fillna(1.0).astype(float)
    nominal = rows["flags"].map(lambda flags: NOMINAL in flags) if "flags" in rows else pd.Series(False, index=rows.index)
    rows = rows.assign(nominal=nominal.astype(bool))
    groups = rows.astype(dict.fromkeys(optional, float)).groupby(BLOCK, sort=False)
    sums = groups[["energy_j", "duration_s", "tokens_out", "passes"]].sum()
    sums["tokens_out"] = sums["tokens_out"].where(sums["tokens_out"] > 0)
    requests = groups["requests"].sum(min_count=1).where(lambda n: n > 0)
    cpu_s = groups["cpu_time_s"].sum(min_count=1)
    blocks = groups.agg(
        n_windows=("energy_j", "size"),
        as_run=("as_run", "first"),
        ttft_s=("ttft_s", "mean"),
        memory_peak_gb=("memory_peak_gb", "max"),
        model_bytes=("model_bytes", "max"),
    )
    blocks["energy_j_per_token"] = metrics.energy_per_token(sums["energy_j"], sums["tokens_out"])
    blocks["throughput_tok_s"] = metrics.throughput(sums["tokens_out"], sums["duration_s"])
    blocks["power_mean_w"] = metrics.mean_power(sums["energy_j"], sums["duration_s"])
    blocks["cpu_s_per_token"] = cpu_s / sums["tokens_out"]
    blocks["energy_j_per_request"] = metrics.energy_per_request(sums["energy_j"], requests)
    blocks["requests_per_second"] = requests / sums["duration_s"]
    blocks["cpu_s_per_request"] = cpu_s / requests
    blocks["unit_energy_j"] = blocks["energy_j_per_token"].mask(blocks["as_run"], blocks["energy_j_per_request"])
    blocks["window_energy_j"] = (sums["energy_j"] / sums["passes"]).mask(groups["nominal"].any())
    blocks["window_s"] = sums["duration_s"] / sums["passes"]
    systematic = groups[["u_offset_j", "u_gain_j"]].sum()
    blocks["u_offset_relative"] = systematic["u_offset_j"] / sums["energy_j"]
    blocks["u_gain_relative"] = systematic["u_gain_j"] / sums["energy_j"]
    return blocks.reset_index()
