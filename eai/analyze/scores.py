"""Item-level scores to one score a configuration, and each configuration against its baseline on the same items.

The same items are easy or hard for both, so differences are paired: McNemar's test and a bootstrap over items for the difference,
Bonett and Price's interval for the share of the score that is kept. The energy of an EOR ratio is that of the whole task as run,
paired on block.
"""

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.analyze.blocks import block_means
from eai.analyze.comparison import compare_blocks, match_baselines
from eai.analyze.selection import CONFIGURATION, Selection, in_order
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats.intervals import Interval
from eai.stats.planning import detectable_score_ratio
from eai.stats.scores import FEWEST_FOR_BOOTSTRAP, difference_interval, mcnemar_p, pair, quotient, ratio_interval

NOTHING = Interval(np.nan, np.nan, np.nan)
QUANTITIES = ("score_difference", "score_retained", "eor_ratio")
NOT_FRACTIONS = ("word_perplexity_nats",)


def of_items(items: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration: configuration_id, task, score and n_items, for `summarize(scores=...)`.

    `items`: schema.SCORES, one row an item and block. An item that ran in several blocks counts once, with its mean: repeating a
    question makes no new question. Likelihoods of texts are no scores and are left out. Raises UserError for a score that is no
    fraction and for a configuration with two tasks.
    """
    items = fractions(items)
    once = items.groupby(["configuration_id", "task", "item"], sort=False)["score"].mean()
    table = once.groupby(["configuration_id", "task"], sort=False).agg(score="mean", n_items="size").reset_index()
    if twice := table.loc[table["configuration_id"].duplicated(), "configuration_id"].tolist():
        raise UserError(f"configuration {twice[0]} is scored on two tasks", "one task a configuration")
    return table


def fractions(items: pd.DataFrame) -> pd.DataFrame:
    """The items whose score is a fraction. Raises UserError for one that is not in [0, 1]."""
    table = items[~items["metric"].isin(NOT_FRACTIONS)] if "metric" in items else items
    metrics.checked_score(table["score"])
    return table


def against_baseline(selection: Selection, items: pd.DataFrame, rng: np.random.Generator, baseline: str | None = None) -> pd.DataFrame:
    """Each scored configuration against the scored baseline of its stratum, on the items that both ran; one row a configuration.

    Columns: the configuration, baseline, n_items, score, score_baseline, score_difference, score_retained and eor_ratio (each with
    `_low`, `_high`), p (McNemar), p_holm over the table, detectable (the smallest score ratio above 1 that so many items can show),
    outcome (lower | higher | inconclusive | not_testable), basis, reason. Scores with partial credit have no McNemar test and no
    interval of the ratio; below 20 items there is no interval of the difference.
    """
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    means = fractions(items).groupby(["configuration_id", "item"])["score"].mean()
    answers = {key: scores.droplevel(0) for key, scores in means.groupby(level=0)}
    table = match_baselines(configurations, baseline)
    table = table[table["configuration_id"].isin(answers) & (table["configuration_id"] != table["baseline_id"])]
    if table.empty:
        return pd.DataFrame(columns=_columns())
    energy = compare_blocks(block_means(selection.rows), configurations, baseline, "window_energy_j").set_index("configuration_id")
    rows = [row | _compared(row, answers, energy, rng) for row in table.to_dict("records")]
    return _judged(pd.DataFrame(rows), selection.basis)


def _columns() -> list[str]:
    """The columns of `against_baseline` in order."""
    ends = [f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")]
    more = ["p", "p_holm", "detectable", "outcome", "basis", "reason"]
    return [*CONFIGURATION, "baseline", "n_items", "score", "score_baseline", *ends, *more]


def _compared(row: dict, answers: dict[str, pd.Series], energy: pd.DataFrame, rng: np.random.Generator) -> dict:
    """What the items that both ran say, and the ratio of the EORs."""
    if row["baseline_id"] not in answers:
        return {"n_items": 0, "reason": row["reason"] or "the baseline has no score"}
    pairs = [answers[row["configuration_id"]], answers[row["baseline_id"]]]
    both = pd.concat(pairs, axis=1, join="inner", keys=["own", "base"])
    if both.empty:
        return {"n_items": 0, "reason": "no item that both ran"}
    own, base = both["own"].to_numpy(), both["base"].to_numpy()
    counts = pair(own, base) if np.isin(both.to_numpy(), (0, 1)).all() else None
    retained = ratio_interval(counts) if counts else NOTHING._replace(value=own.mean() / base.mean() if base.mean() else np.nan)
    found = {"n_items": len(both), "score": own.mean(), "score_baseline": base.mean(), "reason": ""}
    found |= _ends("score_difference", _difference(own, base, rng)) | _ends("score_retained", retained)
    cost = energy.loc[row["configuration_id"]]
    ratio = Interval(*(cost[f"ratio_to_baseline{end}"] for end in ("", "_low", "_high")))
    found |= _ends("eor_ratio", quotient(retained, ratio))
    return found | {"p": mcnemar_p(counts) if counts else np.nan, "detectable": _detectable(own, base) if counts else np.nan}


def _difference(own: np.ndarray, base: np.ndarray, rng: np.random.Generator) -> Interval:
    """The difference of the scores, with its bootstrap interval where there are items enough."""
    if len(own) < FEWEST_FOR_BOOTSTRAP:
        return NOTHING._replace(value=own.mean() - base.mean())
    return difference_interval(own, base, rng)


def _detectable(own: np.ndarray, base: np.ndarray) -> float:
    """The smallest score ratio above 1 that these items can show, as alike as the two answer them; NaN where one of them never varies."""
    if np.ptp(own) == 0 or np.ptp(base) == 0:
        return np.nan
    return float(detectable_score_ratio(len(base), base.mean(), max(np.corrcoef(own, base)[0, 1], 0.0)))


def _ends(name: str, interval: Interval) -> dict[str, float]:
    """An interval as three columns."""
    return {name: float(interval.value), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def _judged(table: pd.DataFrame, basis: str) -> pd.DataFrame:
    """Adds p adjusted over the table and what may be said of the score."""
    table = table.reindex(columns=[*table.columns, *(c for c in _columns() if c not in table)])
    tested = table["p"].notna()
    table["p_holm"] = tests.adjust(table["p"].to_numpy(float))
    shown = table["p_holm"] <= tests.ALPHA
    direction = np.where(table["score_difference"] < 0, "lower", "higher")
    table["outcome"] = np.where(~tested, "not_testable", np.where(shown, direction, "inconclusive"))
    no_test = ~tested & (table["reason"] == "")
    table["reason"] = table["reason"].mask(no_test, "partial credit: no test of right against wrong")
    return in_order(table.assign(basis=basis)[_columns()])
