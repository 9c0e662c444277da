"""The rows of an experiment that may speak about a published claim, and the ratios and differences between them.

A claim names hardware, models and strategies loosely (`int8`, `a100_pcie`); an experiment names them exactly. Energy must have been
measured by a sensor on an accelerator and have passed the gate; a score is measured wherever a published model answered, whatever the
energy beside it rests on.

Published claims against an experiment's summary: reproduced, contradicted, or not covered.

A claim about a change, a difference or a kept share is about what a number is: it is reproduced if the measured 95 % interval lies
within the claim's range widened by its tolerance and the measured half-width, contradicted if the interval lies outside, and
otherwise the measurement cannot tell. A ranking is reproduced if the claimed level is shown to beat every rival in every stratum,
contradicted if one rival is shown to beat it, with intervals widened for the number of rivals (Bonferroni).
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog
from eai.analyze.scores import retention
from eai.claims.evaluate import Outcome, bounds, meets, stated
from eai.claims.findings import number
from eai.claims.tabular import same_or_less_specific
from eai.errors import UserError
from eai.stats.intervals import Interval
from eai.stats.scores import difference_of

ENERGY = "energy_j_per_token"
SCORES = ("score", "score_retained")
QUANTITIES = {
    "energy_j_per_1k_tok": ENERGY, "energy_j_per_request": ENERGY, "energy_wh": ENERGY, "tokens_per_j": ENERGY,
    "throughput_tok_s": "throughput_tok_s", "eor": "eor", "accuracy": "score", "accuracy_pct": "score",
    "accuracy_retained_pct": "score_retained",
}  # fmt: skip
STRATEGIES = {
    "unspecified_fp16_mixed": ("fp16_mixed",),
    "unspecified_dynamic": ("dynamic",),
    "unspecified_int8": ("int8_default", "int8_pure"),
    "unspecified_int4": ("nf4", "nf4_dq", "fp4", "int4_wo", "gptq", "awq"),
    "unspecified_baseline": ("fp32",),
}
KEYS = (
    "gpu", "model", "weights", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "boundary", "energy_kind",
    "options",
)  # fmt: skip
SCOPE = ("gpu", "model", "quantization", "task", "params_b", "batch_size", "input_tokens", "output_tokens", "accounting")
NEEDED = ("gpu", "model", "quantization", "batch_size", "basis", "gate", ENERGY)


def summary_of(measured) -> pd.DataFrame | None:
    """The summary frame of whatever was given, with models by their catalog slug. Raises UserError if it is not one."""
    frame = measured.get("summary") if isinstance(measured, dict) else measured
    if frame is None:
        return None
    if absent := [c for c in NEEDED if c not in frame]:
        raise UserError(
            f"the experiment's summary lacks '{absent[0]}'",
            f"columns {', '.join(NEEDED)}",
            "run `eai report` or the analyze notebook on it first",
        )
    slugs = {name: _slug(name) for name in frame["model"].unique()}
    return frame.reset_index(drop=True).assign(model=lambda t: t["model"].map(slugs))


def _slug(model: str) -> str:
    try:
        return catalog.resolve("model", str(model))[0]
    except UserError:
        return str(model)


def usable(frame: pd.DataFrame, quantity: str, claim: pd.Series) -> pd.DataFrame:
    """The rows that may speak about this claim: the right basis, weights with what the claim needs, in the claim's scope."""
    weights = frame["weights"] if "weights" in frame else pd.Series("published", index=frame.index)
    touched = {str(claim["level"]), str(claim["reference"]), str(claim["statistic"])}
    if quantity in SCORES:
        keep = frame["basis"].isin(("measured", "estimated")) & (weights == "published")
    else:
        keep = (frame["gate"] != "rejected") & (frame["basis"] == "measured")
        keep &= (frame["gpu"] != "cpu") | (quantity == "throughput_tok_s")
        keep &= (weights != "random") | (not touched & {"int8_default", "unspecified_int8"})
    frame = with_retained(frame[keep]) if quantity == "score_retained" else frame[keep]
    return in_scope(frame, claim)


def in_scope(use: pd.DataFrame, claim: pd.Series, about: tuple[str, ...] = SCOPE) -> pd.DataFrame:
    """The rows that meet the claim's conditions, as far as they are about what an experiment varies."""
    for condition in filter(None, (c.strip() for c in str(claim["where"] if isinstance(claim["where"], str) else "").split("&"))):
        name = condition.split("=")[0].split("<")[0].split(">")[0].strip()
        if name not in about or not len(use):
            continue
        if name in ("gpu", "model", "quantization"):
            wanted = [t.strip() for t in condition.split("=", 1)[1].split("|")]
            fits = {v: any(w and is_named(w, str(v)) for w in wanted) for v in use[name].unique()}
            use = use[use[name].map(fits).astype(bool)]
        elif name == "params_b":
            use = use[meets(use.assign(params_b=use["model"].map(_params_b)), condition)]
        elif name == "accounting":
            use = use[meets(use.assign(accounting=use["energy_kind"]), condition)] if "energy_kind" in use else use[:0]
        elif name in use:
            use = use[meets(use, condition)]
    return use


def is_named(claimed: str, own: str) -> bool:
    """Whether a claim's name of a card, model or strategy covers ours: equal, less specific, or a loose strategy's several readings."""
    return own in STRATEGIES.get(claimed, ()) or same_or_less_specific(claimed, own)


@cache
def _params_b(model: str) -> float:
    """Billions of parameters of a catalog model, NaN for another."""
    try:
        return catalog.model(model).params_total / 1e9
    except UserError:
        return float("nan")


def with_retained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose score has a baseline, with the share of it that they keep; the baseline's own rows fall away."""
    if "score" not in frame or frame["score"].isna().all():
        return frame[:0].assign(score_retained=np.nan)
    kept = retention(frame.assign(n_items=frame.get("n_items", np.nan)))
    columns = [c for c in KEYS if c in kept]
    shares = ["score_retained", "score_retained_low", "score_retained_high"]
    return frame.reset_index().merge(kept[[*columns, *shares]], on=columns).set_index("index").rename_axis(None)


def pairs(use: pd.DataFrame, factor: str, level: str, reference: str) -> list[tuple[pd.Series, pd.Series]]:
    """Rows of the level with the reference row that equals them in everything else."""
    keys = [c for c in KEYS if c in use and c != factor]
    text = use[factor].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
    own, base = (use[[is_named(name, t) for t in text]] for name in (level, reference))
    found = []
    for _, row in own.iterrows():
        same = base
        for key in keys:
            same = same[(same[key] == row[key]) | (same[key].isna() & pd.isna(row[key]))]
        if len(same):
            found.append((row, same.iloc[0]))
    return found


def interval_of(row: pd.Series, quantity: str, between_cards: bool = False) -> Interval:
    """The quantity with its 95 % interval; between two cards that of the true energy, because the gains of two sensors do not cancel."""
    ends = ("_abs_low", "_abs_high") if between_cards and quantity == ENERGY else ("_low", "_high")
    return Interval(*(float(row.get(f"{quantity}{end}", np.nan)) for end in ("", *ends)))


def ratio(level: pd.Series, reference: pd.Series, quantity: str) -> Interval:
    """Ratio with its 95 % interval: the paired one of the summary where one is the other's baseline, else from both intervals."""
    if quantity == ENERGY and _is_baseline_of(reference, level):
        return Interval(*(float(level[f"ratio_to_baseline{end}"]) for end in ("", "_low", "_high")))
    if quantity == ENERGY and _is_baseline_of(level, reference):
        return Interval(*(1 / float(reference[f"ratio_to_baseline{end}"]) for end in ("", "_high", "_low")))
    apart = level["gpu"] != reference["gpu"]
    a, b = (_logs(interval_of(row, quantity, apart)) for row in (level, reference))
    half = np.hypot(a.high - a.low, b.high - b.low) / 2
    return Interval(*np.exp([a.value - b.value, a.value - b.value - half, a.value - b.value + half]))


def _is_baseline_of(base: pd.Series, row: pd.Series) -> bool:
    """Whether the row's paired ratio is to this one: its baseline strategy, all else the same."""
    same = all(
        base[k] == row[k] or (pd.isna(base[k]) and pd.isna(row[k])) for k in KEYS if k in row and k not in ("quantization", "options")
    )
    return same and row.get("baseline") == base["quantization"] != row["quantization"] and pd.notna(row.get("ratio_to_baseline_low"))


def _logs(interval: Interval) -> Interval:
    """The logarithms of an interval of a positive quantity; NaN where an end is not above zero."""
    return Interval(*(np.log(x) if x > 0 else np.nan for x in interval))


def difference(level: pd.Series, reference: pd.Series, quantity: str) -> Interval:
    """Difference of two scores with its interval, as for different items: wide, and safe where the items were the same."""
    return difference_of(interval_of(level, quantity), interval_of(reference, quantity))


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
    inverse = claim["quantity"] == "tokens_per_j"  # more tokens a joule is less energy per token
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
    wider = special.stdtrit(df, 1 - 0.025 / family) / special.stdtrit(df, 0.975)
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
