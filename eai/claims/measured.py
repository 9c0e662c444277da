"""Published claims against an experiment's summary: reproduced, contradicted, or not covered.

A claim names hardware, models and strategies loosely (`int8`, `a100_pcie`); an experiment names them exactly. Energy must have been
measured by a sensor on an accelerator and have passed the gate; a score is measured wherever a published model answered.

A claim about a change, a difference or a kept share is reproduced if the measured 95 % interval lies within the claim's range widened
by its tolerance and the measured half-width, contradicted if the interval lies outside, and otherwise the measurement cannot tell. A
ranking is reproduced if the claimed level is shown to beat every rival in every stratum, contradicted if one rival is shown to beat it,
with intervals widened for the number of rivals (Bonferroni).
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog
from eai.analyze.scores import retention
from eai.claims.evaluate import Outcome, bounds, meets, stated, word
from eai.claims.findings import number, where
from eai.claims.tabular import same_or_less_specific
from eai.errors import UserError
from eai.stats.intervals import Interval
from eai.stats.scores import difference_of

ENERGY = "energy_j_per_token"
SCORES = ("score", "score_retained")
QUANTITIES = dict.fromkeys(("energy_j_per_1k_tok", "energy_j_per_request", "energy_wh", "tokens_per_j"), ENERGY) | {
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
NEARLY_POINTS = 2.0
LARGE_DF = 1e6


@cache
def slug(model: object) -> str:
    """The catalog's slug of a model, or its own name."""
    try:
        return catalog.resolve("model", str(model))[0]
    except UserError:
        return str(model)


@cache
def _params_b(model: str) -> float:
    """Billions of parameters of a catalog model, NaN for another."""
    try:
        return catalog.model(model).params_total / 1e9
    except UserError:
        return float("nan")


def is_named(claimed: str, own: str) -> bool:
    """Whether a claim's name of a card, model or strategy covers ours: equal, less specific, or a loose strategy's several readings."""
    return own in STRATEGIES.get(claimed, ()) or same_or_less_specific(claimed, own)


def in_scope(use: pd.DataFrame, claim: pd.Series, about: tuple[str, ...] = SCOPE) -> pd.DataFrame:
    """The rows that meet the claim's conditions, as far as they are about what an experiment varies."""
    for condition in word(claim, "where").split("&"):
        name = condition.split("=")[0].split("<")[0].split(">")[0].strip()
        if name not in about or not len(use):
            continue
        if name in ("gpu", "model", "quantization"):
            wanted = [t.strip() for t in condition.split("=", 1)[1].split("|")]
            use = use[[any(w and is_named(w, str(v)) for w in wanted) for v in use[name]]]
        elif name == "params_b":
            use = use[meets(use.assign(params_b=use["model"].map(_params_b)), condition)]
        elif name == "accounting":
            use = use[meets(use.assign(accounting=use["energy_kind"]), condition)] if "energy_kind" in use else use[:0]
        elif name in use:
            use = use[meets(use, condition)]
    return use


def usable(frame: pd.DataFrame, quantity: str, claim: pd.Series) -> pd.DataFrame:
    """The rows that may speak about this claim: the right basis, weights with what the claim needs, in the claim's scope."""
    weights = frame["weights"] if "weights" in frame else pd.Series("published", index=frame.index)
    if quantity in SCORES:
        frame = frame[frame["basis"].isin(("measured", "estimated")) & (weights == "published")]
    else:
        touched = {str(claim["level"]), str(claim["reference"]), str(claim["statistic"])} & {"int8_default", "unspecified_int8"}
        frame = frame[
            (frame["gate"] != "rejected")
            & (frame["basis"] == "measured")
            & ((frame["gpu"] != "cpu") | (quantity == "throughput_tok_s"))
            & ((weights != "random") | (not touched))
        ]
    if quantity == "score_retained":  # of the rows whose score has a baseline; the baseline's own rows fall away
        shares = ["score_retained", "score_retained_low", "score_retained_high"]
        if "score" not in frame or frame["score"].isna().all():
            return frame[:0].assign(score_retained=np.nan)
        kept = retention(frame.assign(n_items=frame.get("n_items", np.nan)))
        columns = [c for c in KEYS if c in kept]
        frame = frame.reset_index().merge(kept[[*columns, *shares]], on=columns).set_index("index").rename_axis(None)
    frame = in_scope(frame, claim)
    return frame[frame[quantity].notna()] if quantity in frame else frame[:0]


def _same(a: pd.Series, b: pd.Series, keys: list[str]) -> bool:
    return all(a[k] == b[k] or (pd.isna(a[k]) and pd.isna(b[k])) for k in keys)


def _paired(claim: pd.Series, frame: pd.DataFrame, quantity: str) -> list[tuple[pd.Series, pd.Series]]:
    """The usable rows of the level with the reference row that equals them in everything but the claim's factor."""
    use, factor = usable(frame, quantity, claim), claim["factor"]
    keys = [c for c in KEYS if c in use and c != factor]
    text = use[factor].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
    own, base = ([r for _, r in use[[is_named(str(claim[c]), t) for t in text]].iterrows()] for c in ("level", "reference"))
    found = ((row, next((b for b in base if _same(row, b, keys)), None)) for row in own)
    return [(row, reference) for row, reference in found if reference is not None]


def interval_of(row: pd.Series, quantity: str, between_cards: bool = False) -> Interval:
    """The quantity with its 95 % interval; between two cards that of the true energy, because the gains of two sensors do not cancel."""
    ends = ("_abs_low", "_abs_high") if between_cards and quantity == ENERGY else ("_low", "_high")
    return Interval(*(float(row.get(f"{quantity}{end}", np.nan)) for end in ("", *ends)))


def ratio(level: pd.Series, reference: pd.Series, quantity: str) -> Interval:
    """Ratio with its 95 % interval: the paired one of the summary where one is the other's baseline, else from both intervals."""

    def paired_with(row: pd.Series, base: pd.Series) -> bool:
        keys = [k for k in KEYS if k in row and k not in ("quantization", "options")]
        of = row.get("baseline") == base["quantization"] != row["quantization"] and pd.notna(row.get("ratio_to_baseline_low"))
        return quantity == ENERGY and of and _same(base, row, keys)

    if paired_with(level, reference):
        return interval_of(level, "ratio_to_baseline")
    if paired_with(reference, level):
        value, low, high = interval_of(reference, "ratio_to_baseline")
        return Interval(1 / value, 1 / high, 1 / low)
    ends = np.array([interval_of(row, quantity, level["gpu"] != reference["gpu"]) for row in (level, reference)])
    a, b = np.log(np.where(ends > 0, ends, np.nan))
    half = np.hypot(a[2] - a[1], b[2] - b[1]) / 2
    return Interval(*np.exp(a[0] - b[0] + np.array([0, -half, half])))


def judge(claim: pd.Series, measured) -> Outcome | None:
    """The measured outcome of a claim, or None where the experiment does not cover it (the published verdict then stands).

    `measured` is a summary or a dict with `summary`. Kinds: change and range (ratios of level to reference), difference and equal (scores),
    value (share of the score kept; other values belong to the source's own runs), ranking. Raises UserError for a table that is no summary.
    """
    kind, factor, names = claim["kind"], claim["factor"], str(claim["quantity"]).split(";")
    frame = measured.get("summary") if isinstance(measured, dict) else measured
    kinds = ("change", "range", "difference", "equal", "value", "ranking")
    if frame is None or kind not in kinds or not set(names) <= set(QUANTITIES):
        return None
    if absent := [c for c in NEEDED if c not in frame]:
        found, do = f"the experiment's summary lacks '{absent[0]}'", "run `eai report` or the analyze notebook on it first"
        raise UserError(found, f"columns {', '.join(NEEDED)}", do)
    frame = frame.reset_index(drop=True).assign(model=frame["model"].map(slug).to_numpy())
    quantities = list(dict.fromkeys(QUANTITIES[n] for n in names))
    if kind == "ranking":
        return _ranking(claim, frame, quantities)
    quantity = quantities[0]
    if kind in ("change", "range"):
        found = _paired(claim, frame, quantity) if factor in ("quantization", "batch_size", "model") else []
        turn = -1 if claim["quantity"] == "tokens_per_j" else 1  # more tokens a joule is less energy per token
        return _numbers(claim, found, [100 * (np.array(ratio(*pair[::turn], quantity)) - 1) for pair in found], "%")
    if kind == "value":
        found = [(row,) for _, row in usable(frame, quantity, claim).iterrows()] if quantity == "score_retained" else []
        return _numbers(claim, found, [100 * np.array(interval_of(row, quantity)) for (row,) in found], "%")
    if kind == "difference" and quantity != "score":
        return None
    found = _paired(claim, frame, quantity)  # as for different items: wide, and safe where they were the same
    points = [100 * np.array(difference_of(*(interval_of(row, quantity) for row in pair))) for pair in found]
    return _numbers(claim, found, points, "points") if kind == "difference" else _equal(found, points)


def _numbers(claim: pd.Series, found: list[tuple], values: list[np.ndarray], unit: str) -> Outcome | None:
    """The verdict on values with intervals (value, low, high) against the claim's range; None without one that is known."""
    known = [(rows, v) for rows, v in zip(found, values, strict=True) if np.isfinite(v).all()]
    if not known:
        return None
    x = np.array([v for _, v in known])
    (low, high, tolerance), half = bounds(claim), (x[:, 2] - x[:, 1]) / 2
    outside = (x[:, 1] > high + tolerance) | (x[:, 2] < low - tolerance)
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


def _equal(found: list[tuple], points: list[np.ndarray]) -> Outcome | None:
    """Two scores said to be nearly the same: shown within two points, shown to differ, or neither."""
    known = [(pair, x) for pair, x in zip(found, points, strict=True) if np.isfinite(x).all()]
    if not known:
        return None
    x = np.array([v for _, v in known])
    differ, near = (x[:, 1] > 0) | (x[:, 2] < 0), np.abs(x[:, 1:]).max(axis=1) <= NEARLY_POINTS
    worst = int(np.argmax(np.abs(x[:, 0])))
    shown = "{:+.1f} [{:+.1f}, {:+.1f}] points".format(*x[worst])
    text, rows = f"measured difference {shown} (95 %; {_who(known[worst][0][0])})", _lines([row for pair, _ in known for row in pair])
    if differ.any():
        return Outcome("contradicted", f"{text}; {int(differ.sum())} of {len(x)} differences exclude zero", shown, rows)
    if near.all():
        return Outcome("reproduced", f"{text}; all {len(x)} lie within {NEARLY_POINTS:g} points of zero", shown, rows)
    return Outcome("untested", f"{text}; the items cannot tell two points from nothing", shown, rows)


def _ranking(claim: pd.Series, frame: pd.DataFrame, quantities: list[str]) -> Outcome | None:
    """Whether the claimed level is shown to beat every rival in every stratum, for each quantity."""
    factor, levels, duels = claim["factor"], str(claim["level"]).split("|"), []
    for quantity in quantities:
        use = usable(frame, quantity, claim)
        for key, group in use.groupby([c for c in KEYS if c in use and c != factor], sort=False, dropna=False) if len(use) else ():
            mine = [any(is_named(level, str(v)) for level in levels) for v in group[factor]]
            own, rivals = ([row for m, (_, row) in zip(mine, group.iterrows(), strict=True) if m == side] for side in (True, False))
            duels += [(a, b, quantity, (quantity, key, b[factor])) for b in rivals for a in own]
    if not duels:
        return None
    groups: dict[tuple, list] = {}
    for own, rival, quantity, key in duels:
        groups.setdefault(key, []).append((own, rival, _log_gain(own, rival, quantity, len(duels))))
    best = [max(rows, key=lambda r: r[2].value) for rows in groups.values()]
    beaten = [rows for rows in groups.values() if all(gain.high < 0 for _, _, gain in rows)]
    won = sum(any(gain.low > 0 for _, _, gain in rows) for rows in groups.values())
    own, rival, gain = max(beaten[0], key=lambda r: r[2].value) if beaten else min(best, key=lambda r: r[2].value)
    rows, shown = _lines([row for duel in duels for row in duel[:2]]), f"shown first in {won} of {len(groups)} comparisons"
    better = "better by x {:.2f} [{:.2f}, {:.2f}]".format(*np.exp(np.array(gain)))
    text = f"{own[factor]} against {rival[factor]}: {better} ({_who(own)})"
    if beaten:
        return Outcome("contradicted", f"{text}; {shown}, shown to be beaten in {len(beaten)}", shown, rows)
    if won == len(groups):
        return Outcome("reproduced", f"{shown}; the closest: {text}", shown, rows)
    return Outcome("untested", f"{shown}, the others are not decided; the closest: {text}", shown, rows)


def _log_gain(own: pd.Series, rival: pd.Series, quantity: str, family: int) -> Interval:
    """By what factor on the log scale the own row is better (above 0) with an interval widened for `family` comparisons."""
    value, low, high = np.log(np.array(ratio(own, rival, quantity)))
    if quantity == ENERGY:
        value, low, high = -value, -high, -low
    df = LARGE_DF if quantity in SCORES else max(min(own.get("n_blocks", 2), rival.get("n_blocks", 2)) - 1, 1)
    wider = special.stdtrit(df, 1 - 0.025 / family) / special.stdtrit(df, 0.975)
    return Interval(value, value - wider * (value - low), value + wider * (high - value))


def _who(row: pd.Series) -> str:
    """The configuration of a row in a few words."""
    return ", ".join(str(row[k]) for k in ("gpu", "model", "quantization", "batch_size") if k in row)


def _lines(rows: list[pd.Series]) -> str:
    """The rows as lines of the summary, as an editor counts them."""
    return where(("measured", int(row.name) + 2) for row in rows)
