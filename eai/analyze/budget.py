"""Where the uncertainty of each configuration's energy comes from: the budget behind the two intervals."""

import numpy as np
import pandas as pd

from eai.analyze.blocks import block_means
from eai.analyze.selection import CONFIGURATION, Selection, in_order
from eai.quantity import Budget

SENSOR_TERMS = ("granularity", "aliasing", "idle", "offset", "gain")
TERMS = ("blocks", *SENSOR_TERMS)


def budgets(selection: Selection) -> pd.DataFrame:
    """One row a configuration: relative standard uncertainty (k = 1) of its mean energy by source, and combined.

    `blocks`: standard error of the mean over blocks on the log scale, NaN for one block. granularity, aliasing and idle are a priori
    figures for one window divided by the root of the number of windows: they are part of the spread of the blocks and stand here to be
    compared with it. offset and gain are not reduced by repeating. `within_card` = blocks and offset, `absolute` = with the gain.
    """
    rows = selection.rows
    relative = pd.DataFrame({t: rows[f"u_{t}_j"] / rows["energy_j"] for t in SENSOR_TERMS}).assign(
        configuration_id=rows["configuration_id"]
    )
    table = relative.groupby("configuration_id").mean()
    windows = rows.groupby("configuration_id").size()
    table[["granularity", "aliasing", "idle"]] = table[["granularity", "aliasing", "idle"]].div(np.sqrt(windows), axis=0)
    blocks = block_means(rows)
    logs = np.log(blocks["unit_energy_j"]).groupby(blocks["configuration_id"])
    table["blocks"] = logs.std(ddof=1) / np.sqrt(logs.size())
    combined = [
        Budget(statistical=b, offset=o, gain=g) for b, o, g in table[["blocks", "offset", "gain"]].fillna({"blocks": 0.0}).to_numpy()
    ]
    table["within_card"] = [b.within_card for b in combined]
    table["absolute"] = [b.absolute for b in combined]
    configurations = rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    columns = ["configuration_id", *CONFIGURATION, *TERMS, "within_card", "absolute"]
    return in_order(configurations.merge(table.reset_index(), on="configuration_id")[columns].assign(basis=selection.basis))
