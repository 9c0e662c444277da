"""What a token and a request of a server cost at each load: one row a load, with intervals over blocks.

A server's energy per token falls as more requests share each pass over the weights, until its memory or its arithmetic is the limit;
latency rises all the way. Neither is a property of the server alone, so no row without its load.
"""

import json

import numpy as np
import pandas as pd

from eai import schema
from eai.analyze import metrics
from eai.analyze.selection import CONFIGURATION, select
from eai.analyze.served import is_served, requests
from eai.errors import UserError
from eai.stats.intervals import log_t_from_moments

TIMES = ["ttft_s", "ttft_p95_s", "itl_s", "itl_p95_s", "latency_s", "latency_p95_s"]
RATES = ["energy_j_per_token", "energy_j_per_request", "throughput_tok_s"]
COLUMNS = [c.name for c in schema.TABLES["loads"] if c.name not in schema.CONFIGURATION and c.name != "configuration_id"]


def by_load(
    windows: pd.DataFrame, energies: pd.DataFrame, boundary: str | None = None, basis: str | None = None, net: bool = False
) -> pd.DataFrame:
    """The loads table (schema.TABLES["loads"]) of an experiment: one row for each configuration of a server.

    Windows are selected as everywhere: one boundary, one basis, gross unless asked. Raises UserError where no server was measured, and
    where nothing of it is usable.
    """
    served = is_served(windows)
    if not served.any():
        raise UserError("no window of a server", "an experiment measured with the parameter server", "see docs/servers.md")
    selection = select(windows[served], energies, boundary, basis, net)
    blocks = _blocks(selection.rows)
    table = _estimates(blocks).merge(
        windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id"), on="configuration_id"
    )
    of = table["options"].map(json.loads)
    table = table.assign(server=of.map(lambda o: o["server"]), traffic=of.map(lambda o: o["load"]))
    kind, _, level = zip(*table["traffic"].str.partition(":").to_numpy(), strict=True)
    table = table.assign(traffic_kind=kind, traffic_level=np.array(level, float), boundary=selection.boundary, basis=selection.basis)
    table = table.sort_values(["server", "model", "quantization", "input_tokens", "output_tokens", "traffic_kind", "traffic_level"])
    return table[["configuration_id", *CONFIGURATION, *COLUMNS]].reset_index(drop=True)


def loads(
    windows: pd.DataFrame, energies: pd.DataFrame, boundary: str | None = None, basis: str | None = None, net: bool = False
) -> pd.DataFrame:
    """The loads table as `by_load` makes it; without rows where no server was measured or nothing of it is usable."""
    try:
        return by_load(windows, energies, boundary, basis, net)
    except UserError:
        return pd.DataFrame(columns=["configuration_id", *CONFIGURATION, *COLUMNS])


def _blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into rates, medians averaged."""
    key = ["configuration_id", "job", "block"]
    numbers = rows.astype(dict.fromkeys([*TIMES, "in_flight_mean"], float))
    numbers["served"] = requests(rows)
    groups = numbers.groupby(key, sort=False)
    sums = groups[["energy_j", "duration_s", "tokens_out", "requests", "requests_failed", "served"]].sum()
    blocks = groups[[*TIMES, "in_flight_mean"]].mean()
    blocks["energy_j_per_token"] = metrics.energy_per_token(sums["energy_j"], sums["tokens_out"])
    blocks["energy_j_per_request"] = metrics.energy_per_request(sums["energy_j"], sums["served"])
    blocks["throughput_tok_s"] = metrics.throughput(sums["tokens_out"], sums["duration_s"])
    blocks["requests_per_s"] = sums["served"] / sums["duration_s"]
    blocks[["requests", "requests_failed"]] = sums[["requests", "requests_failed"]].astype(int)
    blocks["flags"] = groups["flags"].agg(lambda flags: sorted(set().union(*flags)))
    return blocks.reset_index()


def _estimates(blocks: pd.DataFrame) -> pd.DataFrame:
    """Estimates over blocks, one row a configuration; a time that is unknown or zero in a block has no logarithm and no part in them."""
    groups = blocks.groupby("configuration_id", sort=False)
    table = groups[["in_flight_mean", "requests_per_s"]].mean()
    table["n_blocks"] = groups.size()
    table[["requests", "requests_failed"]] = groups[["requests", "requests_failed"]].sum()
    table["flags"] = groups["flags"].agg(lambda flags: sorted(set().union(*flags)))
    values = blocks[RATES].join(blocks[TIMES].where(blocks[TIMES] > 0))
    for name in values:
        logs = np.log(values[name]).groupby(blocks["configuration_id"], sort=False)
        interval = log_t_from_moments(logs.mean(), logs.std(ddof=1), logs.count())
        table[name], table[f"{name}_low"], table[f"{name}_high"] = interval
    return table.reset_index()
