"""The study's analyses from any experiment: tasks, hardware, strategies, distillation, retention.

Every table carries its intervals and says in `outcome` what may be concluded; an analysis that the experiment cannot support gives
an empty table or a UserError, never a guess.
"""

import numpy as np
import pandas as pd

from eai.analyze.blocks import block_means
from eai.analyze.comparison import compare_blocks, judged, log_values, match_baselines, with_differences
from eai.analyze.selection import CONFIGURATION, Selection
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats.intervals import Interval, log_t_interval
from eai.stats.scores import quotient
from eai.strategies import STRATEGIES

RATIO = ["ratio", "ratio_low", "ratio_high", "n", "method", "p", "p_holm", "outcome", "reason"]


def contrast(
    selection: Selection,
    column: str,
    reference,
    levels: list | None = None,
    metric: str = "energy_j_per_token",
    margin: float = tests.MARGIN,
) -> pd.DataFrame:
    """The ratio of each level of a configuration column to a reference level, everything else the same; one row a stratum and level.

    `task` answers task complexity (by the item where tasks ran as they come; their own options are not held equal), `gpu` hardware, `model`
    distillation, `batch_size` batching. Blocks of one job are paired; across cards Welch's test holds the gain of both sensors. Columns:
    the configuration, reference, ratio, ratio_low, ratio_high, n, method, p, p_holm, outcome, reason. Raises UserError for a column or
    reference that the experiment does not have.
    """
    if column not in CONFIGURATION:
        raise UserError(f"column {column}", f"one of {', '.join(CONFIGURATION)}")
    table = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id").reset_index(drop=True)
    if reference not in set(table[column]):
        raise UserError(f"{column} {reference} was not measured", f"one of {', '.join(map(str, sorted(set(table[column]))))}")
    own = ("task", "options") if column == "task" else (column,)
    stratum = [c for c in CONFIGURATION if c not in own]
    base = table[table[column] == reference].rename(columns={"configuration_id": "baseline_id"})[[*stratum, "baseline_id"]]
    base = base[~base.duplicated(stratum, keep=False)]
    wanted = table[column].isin(levels) if levels is not None else table[column] != reference
    table = table[wanted & (table[column] != reference)].merge(base, on=stratum, how="left")
    table["reason"] = np.where(table["baseline_id"].isna(), f"no {column} {reference} with everything else the same", "")
    table = judged(with_differences(table, log_values(block_means(selection.rows), metric)), metric, margin)
    renamed = {"ratio_to_baseline": "ratio", "ratio_to_baseline_low": "ratio_low", "ratio_to_baseline_high": "ratio_high", "n_pairs": "n"}
    table["n_pairs"] = np.where(table["method"] == "welch", np.fmin(table["n"], table["n_base"]), table["n_pairs"]).astype(int)
    return table.drop(columns="n").rename(columns=renamed).assign(reference=reference)[[*CONFIGURATION, "reference", *RATIO]]


def strategies(selection: Selection, baseline: str | None = None) -> pd.DataFrame:
    """One row a strategy: geometric mean of its ratio to the baseline over strata, for energy, throughput and power.

    The strata are the replicates: the interval says how far the mean would move over strata like these, and `n_strata` how many there were.
    `lower` and `higher` count the strata where a direction was shown for the energy.
    """
    blocks = block_means(selection.rows)
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    rows = []
    energy = compare_blocks(blocks, configurations, baseline)
    others = {m: compare_blocks(blocks, configurations, baseline, m) for m in ("throughput_tok_s", "power_mean_w")}
    for name, group in energy.groupby("quantization", sort=False):
        row = {"quantization": name, "baseline": group["baseline"].iloc[0]} | _mean_ratio("energy", group)
        for metric, table in others.items():
            row |= _mean_ratio(metric.split("_")[0], table[table["quantization"] == name])
        counts = {outcome: int((group["outcome"] == outcome).sum()) for outcome in ("lower", "higher", "equivalent", "inconclusive")}
        rows.append(row | {"n_strata": int(group["ratio_to_baseline"].notna().sum())} | counts)
    return pd.DataFrame(rows)


def _mean_ratio(name: str, table: pd.DataFrame) -> dict:
    """Geometric mean of the ratios of the strata with its t interval over strata."""
    values = table["ratio_to_baseline"].dropna().to_numpy(float)
    keys = [f"{name}_ratio", f"{name}_ratio_low", f"{name}_ratio_high"]
    return dict(zip(keys, map(float, log_t_interval(values)), strict=True)) if len(values) else dict.fromkeys(keys, np.nan)


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


def retention(summary: pd.DataFrame, pairs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Score retained against energy saved: one row a configuration with score and baseline in its stratum.

    Columns: the configuration, score_retained (ratio of scores with `_low`, `_high`), energy_saved (1 - ratio, `_low`, `_high`), n_blocks,
    n_items, basis.
    Intervals of the score are paired on the items where `pairs` (analyze.scores.against_baseline) has them; else they are as for
    different items: wide, and safe where the items were the same.
    """
    table = summary.dropna(subset=["score", "ratio_to_baseline"])
    named = table["baseline"].unique()
    matched = match_baselines(table, named[0] if len(named) == 1 else None)[["configuration_id", "baseline_id"]]
    scores = [f"score{end}" for end in ("", "_low", "_high")]
    base = table[["configuration_id", *scores]].add_suffix("_base").rename(columns={"configuration_id_base": "baseline_id"})
    both = table.merge(matched, on="configuration_id").merge(base, on="baseline_id")
    both = both[both["configuration_id"] != both["baseline_id"]].reset_index(drop=True)
    retained = quotient(*(Interval(*(both[f"{c}{side}"].to_numpy(float) for c in scores)) for side in ("", "_base")))
    saved = Interval(*(1 - both[f"ratio_to_baseline{end}"] for end in ("", "_high", "_low")))
    found = {f"{name}{end}": values for name, interval in (("score_retained", retained), ("energy_saved", saved))
             for end, values in zip(("", "_low", "_high"), interval, strict=True)}  # fmt: skip
    table = both[CONFIGURATION].assign(**found, **{c: both[c] for c in ("n_blocks", "n_items", "basis")})
    return _on_the_same_items(table, pairs, list(found)[:3]) if pairs is not None and len(pairs) else table


def _on_the_same_items(table: pd.DataFrame, pairs: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The table with the paired figures of the score where both ends of their interval are known."""
    paired = table[CONFIGURATION].merge(pairs[[*CONFIGURATION, *columns]], on=CONFIGURATION, how="left")[columns]
    known = paired.notna().all(axis=1)
    return table.assign(**{c: table[c].mask(known, paired[c]) for c in columns})
