"""EOR and TWEOR of a task as run, with intervals that hold the items' and the blocks' uncertainty together.

The score's uncertainty comes from items (Wilson), the energy's from blocks (t on the log scale); a bootstrap over blocks alone would
leave out nearly all of it. EORs are comparable only where task, version, few-shot setting and number of items agree.
"""

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.errors import UserError
from eai.stats.intervals import Interval, log_t_from_moments, wilson_interval
from eai.stats.scores import pair, quotient, ratio_interval


def with_scores(table: pd.DataFrame, blocks: pd.DataFrame, scores: pd.DataFrame | None) -> pd.DataFrame:
    """Adds energy_wh and, where a score was measured, score, EOR, TWEOR and energy per correct answer with intervals; NaN where it was not.

    `scores`: configuration_id, score and, for intervals, n_items. Raises UserError for a score that is no fraction, for two scores
    of one configuration, and for a number of items that is not above zero.
    """
    energy = _cost(blocks, metrics.watt_hours(blocks["window_energy_j"]))
    energy_time = _cost(blocks, metrics.watt_hours(blocks["window_energy_j"]) * blocks["window_s"])
    ids = table["configuration_id"]
    table = _columns(table, "energy_wh", _of(energy, ids))
    score, n_items = _scores_of(ids, scores)
    measured = np.isfinite(score)
    known = measured & np.isfinite(n_items)
    limits = wilson_interval(np.where(known, score * n_items, 0.0), np.where(known, n_items, 1.0))
    interval = Interval(score, np.where(known, limits.low, np.nan), np.where(known, limits.high, np.nan))
    table = _columns(table.assign(n_items=n_items), "score", interval)
    window_s = _of(_cost(blocks, blocks["window_s"]), ids).value
    eor = quotient(interval, _of(energy, ids))._replace(value=metrics.eor(score, table["energy_wh"]))
    tweor = quotient(interval, _of(energy_time, ids))._replace(value=metrics.tweor(score, table["energy_wh"], window_s))
    table = _columns(_columns(table, "eor", eor), "tweor", tweor)
    return _columns(table, "energy_j_per_correct", per_correct(eor, n_items))


def per_correct(eor: Interval, n_items) -> Interval:
    """Energy per correct answer [J] from the EOR [1/Wh] over n items: the joules of the task over score x n, so its ends change places.

    Where nothing was right no joule bought an answer: infinite, with the lower end that the EOR's upper end gives.
    """
    return Interval(*(metrics.energy_per_correct(end, n_items) for end in (eor.value, eor.high, eor.low)))


def eor_ratio(items, items_baseline, energy_ratio: Interval) -> Interval:
    """The ratio of two EORs on the same items: paired score ratio (Bonett and Price) over paired energy ratio, combined by MOVER.

    `items`, `items_baseline`: 1 for right and 0 for wrong, item by item; `energy_ratio`: the ratio of energies with its interval, as
    `compare` gives it. Narrower than two EOR intervals suggest, because the same items are easy or hard for both. Raises UserError where
    the items do not match.
    """
    try:
        counts = pair(items, items_baseline)
    except ValueError as error:
        raise UserError(str(error), "the same items in the same order for both configurations") from None
    return quotient(ratio_interval(counts), energy_ratio)


def _scores_of(ids: pd.Series, scores: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray]:
    """Score and number of items of each configuration; NaN where there is none."""
    if scores is None or scores.empty:
        return np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    if scores["configuration_id"].duplicated().any():
        raise UserError("two scores of one configuration", "one row a configuration", "choose one task version and few-shot setting")
    metrics.checked_score(scores["score"])
    table = scores.set_index("configuration_id").reindex(ids)
    n_items = table["n_items"].to_numpy(float) if "n_items" in table else np.full(len(ids), np.nan)
    if np.any(n_items <= 0):
        raise UserError(f"a score over {np.nanmin(n_items):g} items", "at least one item", "leave the score out")
    return table["score"].to_numpy(float), n_items


def _cost(blocks: pd.DataFrame, cost: pd.Series) -> pd.DataFrame:
    """Geometric mean of a cost of the whole task with its t interval over blocks, by configuration."""
    logs = np.log(cost).groupby(blocks["configuration_id"])
    moments = pd.DataFrame({"mean": logs.mean(), "sd": logs.std(ddof=1), "n": logs.size()})
    interval = log_t_from_moments(moments["mean"], moments["sd"], moments["n"])
    return pd.DataFrame(interval._asdict(), index=moments.index)


def _of(costs: pd.DataFrame, ids: pd.Series) -> Interval:
    """The interval of each configuration, NaN where it has no block."""
    return Interval(*costs.reindex(ids).to_numpy(float).T)


def _columns(table: pd.DataFrame, name: str, interval: Interval) -> pd.DataFrame:
    """The table with `name`, `name_low` and `name_high`."""
    return table.assign(**{name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high})
