"""What the blocks at hand could have shown, and what more of them would: power of the paired comparison over the true ratio."""

import numpy as np
import pandas as pd

from eai.errors import UserError
from eai.stats import planning

BLOCKS = (3, 5, 10, 20)
RATIOS = np.round(np.concatenate([np.arange(0.80, 0.99, 0.01), [0.99, 0.995, 1.0]]), 3)


def curves(ratios: pd.DataFrame, blocks: tuple[int, ...] = BLOCKS, basis: str = "measured") -> pd.DataFrame:
    """The power to show each true ratio with each number of blocks; columns: n, ratio, power, sd_log, family, basis.

    `ratios` are analyze.interaction.block_ratios; the spread is the root mean square over configurations of the standard deviation of
    their log ratios. One comparison is held against alpha divided by the size of the family, the first and hardest step of Holm.
    Raises UserError where no configuration has two paired blocks.
    """
    groups = ratios.groupby("configuration_id")["log_ratio"]
    variances, sizes = groups.var(ddof=1), groups.size()
    known = sizes >= 2
    if not known.any():
        raise UserError("no spread of paired blocks", "two blocks of one configuration and its baseline", "measure more blocks")
    sd_log = float(np.sqrt(np.average(variances[known], weights=sizes[known] - 1)))
    family = int(known.sum())
    if sd_log == 0:
        raise UserError("paired blocks that do not vary", "repeated measurements", "look at the source of these numbers")
    rows = [
        {"n": n, "ratio": float(ratio), "power": planning.power(sd_log, n, float(ratio), planning.ALPHA / family)}
        for n in blocks
        for ratio in RATIOS
    ]
    return pd.DataFrame(rows).assign(sd_log=sd_log, family=family, basis=basis)
