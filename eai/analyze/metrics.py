"""The formulas of the repository: each metric is computed here and nowhere else.

All take scalars, arrays or pandas columns. "Per token" always means output tokens that were produced and counted.
"""

import numpy as np

from eai.errors import UserError

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
