"""The formulas of the repository: each metric is computed here and nowhere else.

All take scalars, arrays or pandas columns. "Per token" always means output tokens that were produced and counted. A unit of work is an
output token, or an item where a task ran as its items come.

EOR and TWEOR are of a task as run. The score's uncertainty comes from items (Wilson), the energy's from blocks (t on the log scale); a
bootstrap over blocks alone would leave out nearly all of it. Comparable only where task, version, few-shot setting and items agree.
"""

import numpy as np
import pandas as pd

from eai.errors import UserError
from eai.stats.intervals import Interval, log_t_from_moments, wilson_interval
from eai.stats.scores import quotient

J_PER_WH = 3600.0


def _positive(name: str, values) -> None:
    """Raise UserError unless every value is above zero: a zero or negative energy, time or count was not measured."""
    array = np.asarray(values, float)
    if np.any(array <= 0):
        raise UserError(f"{name} of {np.nanmin(array):g}", "a value above zero", "treat it as not measured and leave the row out")


def energy_per_token(energy_j, tokens_out):
    """Energy per output token [J/tok]: energy over the output tokens counted in the same window."""
    _positive("energy_j", energy_j)
    _positive("tokens_out", tokens_out)
    return energy_j / tokens_out


def energy_per_request(energy_j, requests):
    """Energy per request [J], of a task per item: energy over the requests completed in the same window, whatever they produced."""
    _positive("energy_j", energy_j)
    _positive("requests", requests)
    return energy_j / requests


def tokens_per_joule(energy_j_per_token):
    """Output tokens per joule [tok/J], the inverse of the energy per output token."""
    _positive("energy_j_per_token", energy_j_per_token)
    return 1.0 / energy_j_per_token


def throughput(tokens_out, duration_s):
    """Output tokens per second [tok/s] over the whole window, all sequences of the batch together."""
    _positive("tokens_out", tokens_out)
    _positive("duration_s", duration_s)
    return tokens_out / duration_s


def mean_power(energy_j, duration_s):
    """Mean power [W]: energy over time, so that it has the energy's boundary and basis."""
    _positive("duration_s", duration_s)
    return energy_j / duration_s


def watt_hours(energy_j):
    """Energy in Wh; 1 Wh = 3600 J."""
    return energy_j / J_PER_WH


def checked_score(score):
    """The score, unchanged.

    Raises UserError unless it is a fraction in [0, 1]: 71.8 is a percentage, and every EOR would be 100 times too high.
    """
    array = np.asarray(score, float)
    outside = array[(array < 0) | (array > 1)]
    if outside.size:
        raise UserError(f"score {outside.flat[0]:g}", "a fraction in [0, 1]", "divide percentages by 100 before importing them")
    return score


def eor(score, energy_wh):
    """Energy-to-Output Ratio [1/Wh]: score over the energy of the whole task as run; higher is better.

    Comparable only where task, version, few-shot setting and number of items are the same. Raises UserError for a score that
    is not a fraction and for an energy that is not above zero.
    """
    _positive("energy_wh", energy_wh)
    return checked_score(score) / energy_wh


def tweor(score, energy_wh, duration_s):
    """Time-Weighted EOR [1/(Wh s)]: score over energy times the time of the whole task as run; higher is better."""
    _positive("duration_s", duration_s)
    return eor(score, energy_wh) / duration_s


def energy_per_correct(eor, n_items):
    """Energy per correct answer [J] of a task as run: its energy over the items it got right, score x n; infinite where that is none."""
    with np.errstate(divide="ignore"):
        return J_PER_WH / (np.asarray(eor, float) * np.asarray(n_items, float))


ENDS = ("", "_low", "_high")
TOKEN = ("energy_j_per_token", "throughput_tok_s")
ITEM = ("energy_j_per_request", "requests_per_second")
UNITS = {"token": "energy per output token [J]", "item": "energy per item of the task [J]", "both": "energy per output token or item [J]"}
SPEEDS = {"token": "output tokens per second [tok/s]", "item": "items per second [1/s]", "both": "output tokens or items per second"}


def as_run(table: pd.DataFrame) -> pd.Series:
    """Which rows are of a task run over its items as they come: those have no lengths of their own, and are costed by the item."""
    if not {"input_tokens", "output_tokens"} <= set(table.columns):
        return pd.Series(False, index=table.index)
    return table["input_tokens"].eq(0) & table["output_tokens"].eq(0)


def costed(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `unit` (token | item), `unit_energy_j` and `units_per_s`, each with `_low` and `_high` where they are known.

    Tokens and items never beat each other: whoever compares stays within a task.
    """
    items = as_run(summary)
    found = {"unit": np.where(items, "item", "token")}
    for name, token, item in zip(("unit_energy_j", "units_per_s"), TOKEN, ITEM, strict=True):
        for end in ENDS:
            own, other = (summary.get(f"{column}{end}", pd.Series(np.nan, index=summary.index)) for column in (token, item))
            found[f"{name}{end}"] = own.mask(items, other).astype(float)
    return summary.assign(**found)


def unit_label(table: pd.DataFrame, words: dict[str, str] = UNITS) -> str:
    """The axis label of the units that stand in a table: `energy per output token [J]`."""
    units = set(table["unit"])
    return words["both"] if len(units) > 1 else words[units.pop()] if units else ""


def over_blocks(values: pd.DataFrame, configuration: pd.Series) -> pd.DataFrame:
    """Geometric mean of each column over the blocks of a configuration, with its t interval: `name`, `name_low`, `name_high`, and the
    moments of its logarithm `name_mean_log`, `name_sd_log`. A block in which a value is unknown has no part in it."""
    groups = np.log(values).groupby(configuration, sort=False)
    mean, sd = groups.mean(), groups.std(ddof=1)
    found = zip((*log_t_from_moments(mean, sd, groups.count()), mean, sd), (*ENDS, "_mean_log", "_sd_log"), strict=True)
    return pd.concat([pd.DataFrame(numbers, mean.index, mean.columns).add_suffix(end) for numbers, end in found], axis=1)


def with_scores(table: pd.DataFrame, scores: pd.DataFrame | None) -> pd.DataFrame:
    """Adds, where a score was measured, score, EOR, TWEOR and energy per correct answer with intervals; NaN where it was not.

    `table`: with `energy_wh`, `energy_wh_s` and `window_s` of the whole task (`over_blocks`). `scores`: configuration_id, score and, for
    intervals, n_items. Energy per correct answer is the joules of the task over score x n: infinite where nothing was right, with the
    lower end that the EOR's upper end gives. Raises UserError for a score that is no fraction, for two scores of one configuration, and
    for a number of items that is not above zero.
    """
    scores = pd.DataFrame(columns=["configuration_id", "score"]) if scores is None else scores
    if scores["configuration_id"].duplicated().any():
        raise UserError("two scores of one configuration", "one row a configuration", "choose one task version and few-shot setting")
    checked_score(scores["score"])
    own = scores.set_index("configuration_id").reindex(table["configuration_id"]).reindex(columns=["score", "n_items"])
    score, n_items = own["score"].to_numpy(float), own["n_items"].to_numpy(float)
    if np.any(n_items <= 0):
        raise UserError(f"a score over {np.nanmin(n_items):g} items", "at least one item", "leave the score out")
    known = np.isfinite(score) & np.isfinite(n_items)
    limits = wilson_interval(np.where(known, score * n_items, 0.0), np.where(known, n_items, 1.0))
    interval = Interval(score, np.where(known, limits.low, np.nan), np.where(known, limits.high, np.nan))
    energy, energy_time = (Interval(*(table[f"{name}{end}"].to_numpy(float) for end in ENDS)) for name in ("energy_wh", "energy_wh_s"))
    per_wh = quotient(interval, energy)._replace(value=eor(score, energy.value))
    per_wh_s = quotient(interval, energy_time)._replace(value=tweor(score, energy.value, table["window_s"].to_numpy(float)))
    correct = Interval(*(energy_per_correct(end, n_items) for end in (per_wh.value, per_wh.high, per_wh.low)))  # its ends change places
    found = {"score": interval, "eor": per_wh, "tweor": per_wh_s, "energy_j_per_correct": correct}
    ends = {f"{name}{end}": values for name, each in found.items() for end, values in zip(ENDS, each, strict=True)}
    return table.assign(n_items=n_items, **ends)
