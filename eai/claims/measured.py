"""Published claims against an experiment's summary: reproduced, contradicted, or not covered.

A claim about a change, a difference or a kept share is about what a number is: it is reproduced if the measured 95 % interval lies
within the claim's range widened by its tolerance and the measured half-width, contradicted if the interval lies outside, and
otherwise the measurement cannot tell. A ranking is reproduced if the claimed level is shown to beat every rival in every stratum,
contradicted if one rival is shown to beat it, with intervals widened for the number of rivals (Bonferroni).
"""

import numpy as np
import pandas as pd
from scipy import stats

from eai.claims.evaluate import Outcome, bounds, stated
from eai.claims.experiment import ENERGY, KEYS, QUANTITIES, SCORES, difference, interval_of, is_named, pairs, ratio, summary_of, usable
from eai.claims.findings import number
from eai.stats.intervals import Interval

NEARLY_POINTS = 2.0
LARGE_DF = 1e6


def judge(claim: pd.Series, measured) -> Outcome | None:
    """The measured outcome of a claim, or None where the experiment does not cover it (the published verdict then stands).

    `measured` is a summary or a dict with `summary`. Kinds: change and range (ratios of level to reference), difference and equal (scores),
    value (share of the score kept), ranking. Raises UserError for a table that is no summary.
    """
    kinds = {"change": _change, "range": _change, "difference": _difference, "equal": _equal, "value": _kept, "ranking": _ranking}
    names = str(claim["quantity"]).split(";")
    if measured is None or claim["kind"] not in kinds or not all(name in QUANTITIES for name in names):
        return None
    frame = summary_of(measured)
    return None if frame is None else kinds[claim["kind"]](claim, frame, list(dict.fromkeys(QUANTITIES[n] for n in names)))


def _change(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Changes [%] of level against reference."""
    if claim["factor"] not in ("quantization", "batch_size", "model"):
        return None
    found = _paired(claim, frame, quantities[0])
    inverse = claim["quantity"] == "tokens_per_j"  # more tokens a joule is less energy a token
    values = [np.array(ratio(b, a, quantities[0]) if inverse else ratio(a, b, quantities[0])) for a, b in found]
    return _numbers(claim, found, [100 * (v - 1) for v in values], "%")


def _difference(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Differences of scores in points."""
    found = _paired(claim, frame, quantities[0]) if quantities[0] == "score" else []
    return _numbers(claim, found, [100 * np.array(difference(a, b, "score")) for a, b in found], "points")


def _paired(claim: pd.Series, frame: pd.DataFrame, quantity: str) -> list[tuple[pd.Series, pd.Series]]:
    """The usable rows of level and reference that differ in the claim's factor alone."""
    use = usable(frame, quantity, claim)
    known = use[use[quantity].notna()] if quantity in use else use[:0]
    return pairs(known, claim["factor"], str(claim["level"]), str(claim["reference"]))


def _kept(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Shares of the baseline's score that are kept [%]; values of other quantities belong to the source's own runs."""
    if quantities[0] != "score_retained":
        return None
    rows = [row for _, row in usable(frame, "score_retained", claim).iterrows()]
    return _numbers(claim, [(row,) for row in rows], [100 * np.array(interval_of(row, "score_retained")) for row in rows], "%")


def _numbers(claim: pd.Series, found: list[tuple], values: list[np.ndarray], unit: str) -> Outcome | None:
    """The verdict on values with intervals (value, low, high) against the claim's range; None without one that is known."""
    known = [(rows, v) for rows, v in zip(found, values, strict=True) if np.isfinite(v).all()]
    if not known:
        return None
    x = np.array([v for _, v in known])
    low, high, tolerance = bounds(claim)
    outside = (x[:, 1] > high + tolerance) | (x[:, 2] < low - tolerance)
    half = (x[:, 2] - x[:, 1]) / 2
    inside = (x[:, 1] >= low - tolerance - half) & (x[:, 2] <= high + tolerance + half)
    inside &= (x[:, 0] >= low - tolerance) & (x[:, 0] <= high + tolerance)
    wide = half > max(tolerance, (high - low) / 2 if np.isfinite(high) else 1.0, 1.0)
    worst = int(np.argmax(np.where(outside, np.maximum(x[:, 1] - high, low - x[:, 2]), -np.inf))) if outside.any() else 0
    shown = f"{{:+.1f}} [{{:+.1f}}, {{:+.1f}}] {unit}".format(*x[worst])
    text = f"measured {shown} (95 %; {_who(known[worst][0][0])}); {stated(claim)} is stated"
    rows = _lines([row for rows, _ in known for row in rows])
    n, what = len(known), "values" if len(known[0][0]) == 1 else "ratios" if unit == "%" else "differences"
    if outside.any():
        return Outcome("contradicted", f"{text}; {int(outside.sum())} of {n} measured {what} exclude it", shown, rows)
    if inside.all() and not wide.any():
        agree = f"all {n} measured {what} agree, half-width at most {number(half.max(), 2)} points"
        return Outcome("reproduced", f"{text}; {agree}", shown, rows)
    return Outcome("untested", f"{text}; the interval of {int((~inside | wide).sum())} of {n} {what} is too wide to tell", shown, rows)


def _equal(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Two scores said to be nearly the same: shown within two points, shown to differ, or neither."""
    found = _paired(claim, frame, quantities[0])
    points = [(a, b, 100 * np.array(difference(a, b, quantities[0]))) for a, b in found]
    points = [p for p in points if np.isfinite(p[2]).all()]
    if not points:
        return None
    x = np.array([p[2] for p in points])
    differ, near = (x[:, 1] > 0) | (x[:, 2] < 0), np.abs(x[:, 1:]).max(axis=1) <= NEARLY_POINTS
    worst = int(np.argmax(np.abs(x[:, 0])))
    shown = "{:+.1f} [{:+.1f}, {:+.1f}] points".format(*x[worst])
    text = f"measured difference {shown} (95 %; {_who(points[worst][0])})"
    rows = _lines([row for p in points for row in p[:2]])
    if differ.any():
        return Outcome("contradicted", f"{text}; {int(differ.sum())} of {len(x)} differences exclude zero", shown, rows)
    if near.all():
        return Outcome("reproduced", f"{text}; all {len(x)} lie within {NEARLY_POINTS:g} points of zero", shown, rows)
    return Outcome("untested", f"{text}; the items cannot tell two points from nothing", shown, rows)


def _ranking(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Whether the claimed level is shown to beat every rival in every stratum, for each quantity."""
    duels = [duel for quantity in quantities for duel in _duels(claim, usable(frame, quantity, claim), quantity)]
    if not duels:
        return None
    judged = [(*duel, _log_gain(duel[0], duel[1], duel[2], len(duels))) for duel in duels]
    groups: dict[tuple, list] = {}
    for own, rival, quantity, group, gain in judged:
        groups.setdefault((quantity, group, rival[claim["factor"]]), []).append((own, rival, gain))
    best = [max(rows, key=lambda r: r[2].value) for rows in groups.values()]
    beaten = [rows for rows in groups.values() if all(gain.high < 0 for _, _, gain in rows)]
    won = sum(any(gain.low > 0 for _, _, gain in rows) for rows in groups.values())
    worst = max(beaten[0], key=lambda r: r[2].value) if beaten else min(best, key=lambda r: r[2].value)
    rows = _lines([row for own, rival, *_ in judged for row in (own, rival)])
    shown = f"shown first in {won} of {len(groups)} comparisons"
    text = f"{worst[0][claim['factor']]} against {worst[1][claim['factor']]}: {_gain(worst[2])} ({_who(worst[0])})"
    if beaten:
        return Outcome("contradicted", f"{text}; {shown}, shown to be beaten in {len(beaten)}", shown, rows)
    if won == len(groups):
        return Outcome("reproduced", f"{shown}; the closest: {text}", shown, rows)
    return Outcome("untested", f"{shown}, the others are not decided; the closest: {text}", shown, rows)


def _duels(claim: pd.Series, use: pd.DataFrame, quantity: str) -> list[tuple]:
    """(own row, rival row, quantity, group): the claimed level against each other level, everything else the same."""
    factor, levels = claim["factor"], str(claim["level"]).split("|")
    if quantity not in use or use.empty:
        return []
    use = use[use[quantity].notna()]
    keys = [c for c in KEYS if c in use and c != factor]
    found = []
    for key, group in use.groupby(keys, sort=False, dropna=False):
        mine = np.array([any(is_named(level, str(v)) for level in levels) for v in group[factor]], bool)
        rows = [row for _, row in group.iterrows()]
        own, rivals = ([row for row, m in zip(rows, mine, strict=True) if m == side] for side in (True, False))
        found += [(a, b, quantity, key) for b in rivals for a in own]
    return found


def _log_gain(own: pd.Series, rival: pd.Series, quantity: str, family: int) -> Interval:
    """By what factor on the log scale the own row is better (above 0) with an interval widened for `family` comparisons."""
    found = np.log(np.array(ratio(own, rival, quantity)))
    if quantity == ENERGY:
        found = -found[[0, 2, 1]]
    df = LARGE_DF if quantity in SCORES else max(min(own.get("n_blocks", 2), rival.get("n_blocks", 2)) - 1, 1)
    wider = stats.t.isf(0.025 / family, df) / stats.t.isf(0.025, df)
    value, low, high = found
    return Interval(value, value - wider * (value - low), value + wider * (high - value))


def _gain(gain: Interval) -> str:
    """`better by x 1.21 [1.12, 1.30]`."""
    return "better by x {:.2f} [{:.2f}, {:.2f}]".format(*np.exp(np.array(gain)))


def _who(row: pd.Series) -> str:
    """The configuration of a row in a few words."""
    return ", ".join(str(row[k]) for k in ("gpu", "model", "quantization", "batch_size") if k in row)


def _lines(rows: list[pd.Series]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The rows as lines of the summary, as an editor counts them."""
    return (("measured", tuple(sorted({int(row.name) + 2 for row in rows}))),)
