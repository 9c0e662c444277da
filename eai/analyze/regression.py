"""Did it get worse? Two experiments, configuration by configuration: a regression is shown, excluded, or neither.

"Not significant" is no acquittal: that nothing got worse by more than the limit is shown only where the whole interval lies below it
(non-inferiority). Blocks of two experiments do not pair, so this is Welch's test; on the same card its offset and gain are common.
"""

import numpy as np
import pandas as pd

from eai.analyze.blocks import block_means
from eai.analyze.comparison import log_values
from eai.analyze.selection import CONFIGURATION, Selection, in_order
from eai.errors import UserError
from eai.stats import comparisons as tests

VERDICTS = ("regression", "no_regression", "inconclusive", "not_testable")
LOWER_IS_BETTER = {"energy_j_per_token": True, "cpu_s_per_token": True, "throughput_tok_s": False}


def regressions(before: Selection, after: Selection, limit: float = 0.03, metric: str = "energy_j_per_token") -> pd.DataFrame:
    """One row a configuration of both experiments: after over before with interval, p of "no worse than the limit", Holm's p, verdict.

    `limit`: a fraction, 0.03 allows 3 % more energy (or 3 % less throughput). regression: the ratio is shown to lie beyond the limit
    (one-sided, Holm over the table); no_regression: it is shown to lie within. Configurations of one experiment alone are not_testable.
    Raises UserError if boundaries, bases or gross and net differ, for an unknown metric, and if no configuration is in both.
    """
    for name in ("boundary", "basis", "kind"):
        if getattr(before, name) != getattr(after, name):
            raise UserError(f"{name} {getattr(before, name)} against {getattr(after, name)}", f"the same {name}", "ask for one explicitly")
    if metric not in LOWER_IS_BETTER:
        raise UserError(f"metric {metric}", f"one of {', '.join(LOWER_IS_BETTER)}")
    table = _both(before, after, metric)
    if not table["in_both"].any():
        raise UserError("no configuration is in both experiments", "the same models, strategies, batches and lengths", "run the same sweep")
    worse = 1.0 if LOWER_IS_BETTER[metric] else -1.0
    columns = ("mean_after", "sd_after", "n_after", "mean_before", "sd_before", "n_before", "u_log")
    difference = tests.welch(*(table[c].to_numpy(float) for c in columns))
    table["ratio"], table["ratio_low"], table["ratio_high"] = tests.ratio_interval(difference)
    distance = (worse * difference.mean - np.log1p(limit)) / difference.se
    table["p_regression"] = tests.adjust(tests.one_sided_p(distance, difference.df))
    table["p_no_regression"] = tests.adjust(tests.one_sided_p(-distance, difference.df))
    conditions = [~np.isfinite(difference.se), table["p_regression"] <= tests.ALPHA, table["p_no_regression"] <= tests.ALPHA]
    table["verdict"] = np.select(conditions, ["not_testable", "regression", "no_regression"], default="inconclusive")
    kept = ["ratio", "ratio_low", "ratio_high", "n_before", "n_after", "u_log", "p_regression", "p_no_regression", "verdict", "reason"]
    return in_order(table[["configuration_id", *CONFIGURATION, *kept]].assign(metric=metric, limit=limit))


def _both(before: Selection, after: Selection, metric: str) -> pd.DataFrame:
    """Moments of both experiments by configuration, what the sensors add, and why a comparison cannot be made."""
    moments = [_moments(s, metric).add_suffix(f"_{name}") for name, s in (("before", before), ("after", after))]
    rows = pd.concat([before.rows, after.rows])[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table = rows.join(moments[0], on="configuration_id").join(moments[1], on="configuration_id")
    table["in_both"] = table["n_before"].notna() & table["n_after"].notna()
    few = (table[["n_before", "n_after"]].min(axis=1) < 2) & table["in_both"]
    table["reason"] = np.select([~table["in_both"], few], ["only in one experiment", "one block: a ratio without a spread"], default="")
    table[["n_before", "n_after"]] = table[["n_before", "n_after"]].fillna(0).astype(int)
    same_card = table["job_before"] == table["job_after"]
    common = (table["offset_after"] - table["offset_before"]).abs()
    apart = np.sqrt((table[["offset_before", "offset_after", "gain_before", "gain_after"]].astype(float) ** 2).sum(axis=1))
    return table.assign(u_log=common.where(same_card, apart).fillna(0.0))


def _moments(selection: Selection, metric: str) -> pd.DataFrame:
    """Mean, sd and number of the logarithms, sensor terms and job of each configuration."""
    groups = log_values(block_means(selection.rows), metric).groupby("configuration_id")
    named = {"mean": ("log", "mean"), "sd": ("log", "std"), "n": ("log", "size"), "job": ("job", "first")}
    return groups.agg(**named, offset=("u_offset_relative", "mean"), gain=("u_gain_relative", "mean"))
