"""One row a configuration and block: the replicates that every interval and comparison is built on."""

import numpy as np
import pandas as pd

from eai.analyze import metrics

BLOCK = ["configuration_id", "job", "block"]
NOMINAL = "nominal_window"


def block_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into ratios, so that long windows weigh more.

    `window_energy_j` and `window_s` are means over windows: the energy and time of one task as run; NaN for a nominal
    window, which stands for rates of a source that states no totals.
    """
    optional = ["cpu_time_s", "ttft_s", "memory_peak_gb", "model_bytes"]
    rows = rows.assign(**{c: np.nan for c in optional if c not in rows})
    nominal = rows["flags"].map(lambda flags: NOMINAL in flags) if "flags" in rows else pd.Series(False, index=rows.index)
    rows = rows.assign(nominal=nominal.astype(bool))
    groups = rows.astype(dict.fromkeys(optional, float)).groupby(BLOCK, sort=False)
    sums = groups[["energy_j", "duration_s", "tokens_out"]].sum()
    cpu_s = groups["cpu_time_s"].sum(min_count=1)
    blocks = groups.agg(
        n_windows=("energy_j", "size"),
        ttft_s=("ttft_s", "mean"),
        memory_peak_gb=("memory_peak_gb", "max"),
        model_bytes=("model_bytes", "max"),
    )
    blocks["energy_j_per_token"] = metrics.energy_per_token(sums["energy_j"], sums["tokens_out"])
    blocks["throughput_tok_s"] = metrics.throughput(sums["tokens_out"], sums["duration_s"])
    blocks["power_mean_w"] = metrics.mean_power(sums["energy_j"], sums["duration_s"])
    blocks["cpu_s_per_token"] = cpu_s / sums["tokens_out"]
    blocks["window_energy_j"] = (sums["energy_j"] / blocks["n_windows"]).mask(groups["nominal"].any())
    blocks["window_s"] = sums["duration_s"] / blocks["n_windows"]
    systematic = groups[["u_offset_j", "u_gain_j"]].sum()
    blocks["u_offset_relative"] = systematic["u_offset_j"] / sums["energy_j"]
    blocks["u_gain_relative"] = systematic["u_gain_j"] / sums["energy_j"]
    return blocks.reset_index()
