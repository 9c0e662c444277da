"""Claims about relations: who is best, what correlates, what interacts, what scales, where a sign turns."""

import numpy as np
import pandas as pd
from scipy import stats

from eai.claims import scope
from eai.claims.evaluate import Outcome, _none, _paired, bounds, rows_of, span
from eai.claims.findings import number
from eai.claims.quantities import FACTORS, QUANTITIES
from eai.claims.scores import z_of

LEAST_FOR_CORRELATION = 4
CONFIDENT = 2.576  # two-sided 1 %


def ranking(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Whether the level is best in every group of rows that differ in the factor alone; several levels may share the place.

    Several quantities, separated by `;`, are ranked each for itself. Printed ties count for the claim.
    """
    levels, factor = str(claim["level"]).split("|"), claim["factor"]
    won, lost, rows, reasons = 0, 0, [], []
    for quantity in claim["quantity"].split(";"):
        if quantity not in frame:
            continue
        use = frame[frame[quantity].notna()]
        sign = 1 if QUANTITIES[quantity].higher_is_better else -1
        others = [f for f in FACTORS if f not in (factor, "params_b") and not (f in scope.LENGTHS and factor == "quantization")]
        for _, group in use.groupby([*others, "_table"], sort=False, dropna=False):
            if group[factor].nunique() < 2 or not group[factor].isin(levels).any():
                continue
            x = sign * group[quantity].to_numpy(dtype=float)
            h = group[f"{quantity}~"].fillna(0).to_numpy() if f"{quantity}~" in group else np.zeros(len(x))
            mine = group[factor].isin(levels).to_numpy()
            best, own = int(np.argmax(x)), int(np.argmax(np.where(mine, x, -np.inf)))
            rows += rows_of(group)
            if x[own] + h[own] >= x[best] - h[best]:
                won += 1
            else:
                lost += 1
                reasons.append(
                    f"{group[factor].iloc[best]} has {number(sign * x[best])} {quantity} against "
                    f"{number(sign * x[own])} of {group[factor].iloc[own]} ({group['_table'].iloc[best]})"
                )
    if not won + lost:
        return Outcome(
            "untested", f"no group of rows compares {claim['level']} with another {factor} on {claim['quantity'].replace(';', ' or ')}"
        )
    if lost:
        return Outcome(
            "inconsistent", f"{reasons[0]}; first in {won} of {won + lost} comparisons", f"first in {won} of {won + lost}", tuple(rows)
        )
    return Outcome("consistent", f"first in all {won} comparisons that the tables allow", f"first in {won} of {won}", tuple(rows))


def equal(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Two scores said to be nearly the same: consistent while binomial error covers the difference (1 %, two-sided).

    The reason states the smallest difference that so many items could have shown.
    """
    x, _, level, reference = _paired(claim, frame, claim["quantity"])
    if not len(x) or "n_items" not in level:
        return _none(claim, frame)
    n = level["n_items"].to_numpy(dtype=float)
    z = np.array([z_of(a, b, m, m) for (a, b), m in zip(x, n, strict=True)])
    least = 100 * CONFIDENT * np.sqrt(2 * x.mean(axis=1) * (1 - x.mean(axis=1)) / n)
    d = 100 * (x[:, 0] - x[:, 1])
    rows = rows_of(level) + rows_of(reference)
    verdict = "consistent" if (np.abs(z) < CONFIDENT).all() else "inconsistent"
    return Outcome(
        verdict,
        f"the scores differ by {span(d, 'points')}, at most {np.abs(z).max():.1f} standard errors; "
        f"{n.min():.0f} items could show a difference of {least.max():.1f} points",
        span(d, "points"),
        rows,
    )


def correlation(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Correlation of two quantities over the levels of a factor, with Fisher's interval; at least four levels are needed."""
    a, b = claim["quantity"], str(claim["level"])
    if a not in frame or b not in frame:
        return _none(claim, frame)
    means = frame.groupby(claim["factor"])[[a, b]].mean().dropna()
    rows = rows_of(frame[frame[claim["factor"]].isin(means.index)])
    if len(means) < 3:
        return Outcome("untested", f"{len(means)} levels of {claim['factor']} state both {a} and {b}", "", rows)
    r = float(np.corrcoef(means[a], means[b])[0, 1])
    if len(means) < LEAST_FOR_CORRELATION:
        return Outcome(
            "untested", f"r = {r:+.2f} over the {len(means)} levels that state both: too few for an interval", f"r = {r:+.2f}", rows
        )
    ends = np.tanh(np.arctanh(r) + np.array([-1, 1]) * 1.96 / np.sqrt(len(means) - 3))
    low, high, _ = bounds(claim)
    reason = f"r = {r:+.2f} [{ends[0]:+.2f}, {ends[1]:+.2f}], n = {len(means)}"
    if ends[0] > low and ends[0] <= high:
        return Outcome("consistent", reason, f"r = {r:+.2f}", rows)
    if ends[1] < low:
        return Outcome("inconsistent", f"{reason}: the sign is the other", f"r = {r:+.2f}", rows)
    return Outcome("untested", f"{reason}: the interval holds both signs", f"r = {r:+.2f}", rows)


def synergy(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """An interaction of two factors: it needs rows that cross them, two levels of each in one table of one model and task.

    With a crossing, the interaction on the log scale (multiplicative on energy) is the mean over 2 x 2 cells; without replicates it
    has no interval and stays untested, said so with the number.
    """
    a, b, quantity = claim["factor"], str(claim["level"]), claim["quantity"]
    use = frame[frame[quantity].notna() & (frame[a] != "") & (frame[b] != "")] if quantity in frame else frame[:0]
    others = [f for f in FACTORS if f not in (a, b, "params_b")]
    contrasts, rows = [], []
    for _, group in use.groupby(others, sort=False, dropna=False) if len(use) else []:
        wide = group.pivot_table(index=a, columns=b, values=quantity)
        if wide.shape[0] > 1 and wide.shape[1] > 1:
            logs = np.log(wide.dropna())
            if len(logs) > 1:
                contrasts += list(
                    np.ravel(
                        (logs.iloc[1:, 1:].to_numpy() - logs.iloc[1:, :1].to_numpy())
                        - (logs.iloc[:1, 1:].to_numpy() - logs.iloc[:1, :1].to_numpy())
                    )
                )
                rows += rows_of(group)
    if not contrasts:
        held = "; ".join(f"{t}: {g[a].nunique()} x {g[b].nunique()}" for t, g in use.groupby("_table", sort=False)) if len(use) else "none"
        return Outcome(
            "untested",
            f"no table crosses {a} with {b} (levels of each in one table: {held}), so an interaction cannot be seen",
            "",
            rows_of(use),
        )
    effect = 100 * np.expm1(np.array(contrasts))
    return Outcome(
        "untested",
        f"interaction of {a} and {b}: {span(effect, '%')} from {len(effect)} contrasts of single "
        "figures, without repetition to judge it by",
        span(effect, "%"),
        tuple(rows),
    )


def excess(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """What share [%] of the excess of `statistic` over `reference` the level removes, pair by pair."""
    quantity, worse = claim["quantity"], str(claim["statistic"])
    better = dict(scope.pairs(frame, claim["factor"], str(claim["level"]), str(claim["reference"]), quantity))
    bad = dict(scope.pairs(frame, claim["factor"], worse, str(claim["reference"]), quantity))
    share, rows = [], []
    for i, base in better.items():
        for j, other in bad.items():
            if base == other:
                x, y, z = (float(frame.loc[k, quantity]) for k in (base, i, j))
                if z > x:
                    share.append(100 * (z - y) / (z - x))
                    rows += rows_of(frame.loc[[i, j, base]])
    if not share:
        return _none(claim, frame)
    low, high, _ = bounds(claim)
    inside = [low <= s <= high for s in share]
    verdict = "consistent" if all(inside) else "inconsistent"
    return Outcome(
        verdict,
        f"{span(share, '%')} of the excess is removed, more than {number(low)} % in {sum(inside)} of {len(share)} cases",
        span(share, "%"),
        tuple(rows),
    )


def crossover(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Where the change turns from cost to saving along `statistic`, by GPU: consistent if the brackets of two GPUs do not overlap.

    A bracket runs from the largest size that still costs more to the smallest that saves, and exists where those are in order. Two
    that are accounted differently, as far as that can be told, are not held against each other.
    """
    x, _, level, reference = _paired(claim, frame, claim["quantity"])
    if not len(x):
        return _none(claim, frame)
    size = pd.to_numeric(level[str(claim["statistic"])]).to_numpy()
    d, gpu = x[:, 0] / x[:, 1] - 1, level["gpu"].to_numpy()
    brackets = {}
    for g in dict.fromkeys(gpu):
        cost, save = size[(gpu == g) & (d > 0)], size[(gpu == g) & (d <= 0)]
        if len(cost) and len(save) and cost.max() < save.min():
            brackets[g] = (cost.max(), save.min())
    rows = rows_of(level) + rows_of(reference)
    if len(brackets) < 2:
        return Outcome("untested", f"a turning point can be bracketed on {len(brackets)} GPU only", "", rows)
    text = ", ".join(f"{g}: {a:g} to {b:g}" for g, (a, b) in brackets.items())
    apart = [(g, h) for g in brackets for h in brackets if brackets[g][1] <= brackets[h][0]]
    if not apart:
        return Outcome("untested", f"the brackets overlap ({text}), so one size could serve all", text, rows)
    kinds = {g: set(level["_accounting"][gpu == g]) for g in brackets}
    alike = [(g, h) for g, h in apart if kinds[g] == kinds[h] and len(kinds[g]) == 1]
    if not alike:
        return Outcome("untested", f"the brackets that lie apart are accounted differently ({text})", text, rows)
    g, h = alike[0]
    sizes = f"the sizes [{claim['statistic']}] between which the change turns lie apart on {g} and {h}"
    return Outcome("consistent", f"{sizes} ({text})", text, rows)


def scaling(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """The exponent of a quantity along a factor (log-log slope), where three levels or more are given with all else equal."""
    factor, quantity = claim["factor"], claim["quantity"]
    others = [f for f in FACTORS if f not in (factor, "params_b")]
    use = frame[(frame[factor] != "") & frame[quantity].notna()] if quantity in frame else frame[:0]
    slopes, rows, most = [], [], 0
    for _, group in use.groupby([*others, "_table"], sort=False, dropna=False) if len(use) else []:
        level = pd.to_numeric(group[factor])
        most = max(most, level.nunique())
        if level.nunique() >= 3:
            slopes.append(float(stats.linregress(np.log(level), np.log(group[quantity].astype(float))).slope))
            rows += rows_of(group)
    if not slopes:
        return Outcome("untested", f"no configuration gives {quantity} at three values of {factor} or more (at most {most})")
    low, high, tolerance = bounds(claim)
    verdict = "consistent" if all(low - tolerance <= s <= high + tolerance for s in slopes) else "inconsistent"
    return Outcome(verdict, f"exponent {span(slopes)} over {len(slopes)} series", span(slopes), tuple(rows))


def exists(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Whether some pair has less of the first quantity and more of the second than its reference: one case proves it."""
    first, second = claim["quantity"].split(";")
    found, rows, total = 0, [], 0
    for level in sorted(set(frame[claim["factor"]]) - {str(claim["reference"]), ""}):
        for i, j in scope.pairs(frame[frame[first].notna()], claim["factor"], level, str(claim["reference"]), second):
            total += 1
            rows += rows_of(frame.loc[[i, j]])
            if frame.loc[i, first] < frame.loc[j, first] and frame.loc[i, second] > frame.loc[j, second]:
                found += 1
    if not total:
        return _none(claim, frame)
    verdict = "consistent" if found else "inconsistent"
    return Outcome(
        verdict,
        f"{found} of {total} comparisons have less {first} and more {second} than {claim['reference']}",
        f"{found} of {total}",
        tuple(rows),
    )
