"""Published claims against an experiment, and against what independent public sources measured.

Of an experiment, energy counts that a sensor measured on an accelerator and that passed the gate, and scores wherever a published model
answered. A change, a difference or a kept share is reproduced if its 95 % interval lies within the claim's range widened by its tolerance
and the measured half-width, contradicted if it lies outside; a ranking if the claimed level is shown to beat every rival in every stratum,
or to be beaten by one, with intervals widened for the number of rivals (Bonferroni).

Of others' tables every comparison is one case. It agrees where its figure lies in the claimed range, and is against it where its 95 %
interval lies outside (widened for the number of cases). One figure is good to its source's own scatter, at best to 1.4 %; figures of two
cards differ by the gain of two sensors (5 % each) beside. A source agrees or contradicts where nine in ten of its decided cases do, else
it is mixed.
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog
from eai.analyze.summary import retention
from eai.claims import evaluate
from eai.claims.chance import CELL_SD, SESSION_SD
from eai.claims.evaluate import Outcome, bounds, meets, rows_of, stated, strata, word
from eai.claims.tabular import ENERGIES, FACTORS, NOISY, QUANTITIES, SPREADS, number, same_or_less_specific, say, span, where
from eai.errors import UserError
from eai.stats.intervals import Interval
from eai.stats.scores import difference_of

ENERGY = "energy_j_per_token"
SCORES = ("score", "score_retained")
MEASURED_AS = dict.fromkeys(("energy_j_per_1k_tok", "energy_j_per_request", "energy_wh", "tokens_per_j"), ENERGY) | {
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
SCOPE = ("gpu", "model", "quantization", "task", "params_b", "batch_size", "input_tokens", "output_tokens")
KEYS = (*(k for k in SCOPE if k != "params_b"), "weights", "boundary", "energy_kind", "options")
NEEDED = ("gpu", "model", "quantization", "batch_size", "basis", "gate", ENERGY)
NEARLY_POINTS = 2.0
LARGE_DF = 1e6
WHAT = {
    "change": "change", "range": "change", "ranking": "the best rival's excess", "exists": "the change where the other falls",
    "scaling": "exponent",
}  # fmt: skip
"""The kinds of claims that are held against others' figures, and what a case of each is."""
MOST = 0.9  # of the decided cases
HALF_PRECISION = ("fp16", "bf16")
FULL = ("unspecified_baseline", "unspecified_fp16_mixed", "fp16_mixed", "fp32", *HALF_PRECISION)


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
        may = (frame["gate"] != "rejected") & (frame["basis"] == "measured") & ((weights != "random") | (not touched))
        frame = frame[may & ((frame["gpu"] != "cpu") | (quantity == "throughput_tok_s"))]
    if quantity == "score_retained":  # of the rows whose score has a baseline; the baseline's own rows fall away
        if "score" not in frame or frame["score"].isna().all():
            return frame[:0].assign(score_retained=np.nan)
        kept = retention(frame.assign(n_items=frame.get("n_items", np.nan)))
        columns = [c for c in KEYS if c in kept]
        kept = kept[[*columns, "score_retained", "score_retained_low", "score_retained_high"]]
        frame = frame.reset_index().merge(kept, on=columns).set_index("index").rename_axis(None)
    frame = in_scope(frame, claim, (*SCOPE, "accounting"))
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


def by_experiment(claim: pd.Series, measured) -> Outcome | None:
    """The measured outcome of a claim, or None where the experiment does not cover it (the published verdict then stands). `measured` is a
    summary or a dict with `summary`. Kinds: change and range (ratios of level to reference), difference and equal (scores), value (share of
    the score kept; other values belong to the source's own runs), ranking. Raises UserError for a table that is no summary."""
    kind, factor, names = claim["kind"], claim["factor"], str(claim["quantity"]).split(";")
    frame = measured.get("summary") if isinstance(measured, dict) else measured
    kinds = ("change", "range", "difference", "equal", "value", "ranking")
    if frame is None or kind not in kinds or not set(names) <= set(MEASURED_AS):
        return None
    if absent := [c for c in NEEDED if c not in frame]:
        found, do = f"the experiment's summary lacks '{absent[0]}'", "run `eai report` or the analyze notebook on it first"
        raise UserError(found, f"columns {', '.join(NEEDED)}", do)
    frame = frame.reset_index(drop=True).assign(model=frame["model"].map(slug).to_numpy())
    quantity, *others = dict.fromkeys(MEASURED_AS[n] for n in names)
    if kind == "ranking":
        return _ranking(claim, frame, [quantity, *others])
    found, unit, what = [], "%", "ratios"
    if kind in ("change", "range"):
        found = _paired(claim, frame, quantity) if factor in ("quantization", "batch_size", "model") else []
        turn = -1 if claim["quantity"] == "tokens_per_j" else 1  # more tokens a joule is less energy per token
        values = [100 * (np.array(ratio(*pair[::turn], quantity)) - 1) for pair in found]
    elif kind == "value":
        found = [(row,) for _, row in usable(frame, quantity, claim).iterrows()] if quantity == "score_retained" else []
        values, what = [100 * np.array(interval_of(row, quantity)) for (row,) in found], "values"
    elif kind == "equal" or quantity == "score":  # as for different items: wide, and safe where they were the same
        found, unit, what = _paired(claim, frame, quantity), "points", "differences"
        values = [100 * np.array(difference_of(*(interval_of(row, quantity) for row in pair))) for pair in found]
    known = [(rows, v) for rows, v in zip(found, values, strict=True) if np.isfinite(v).all()] if found else []
    if not known:
        return None
    x, n, rows = np.array([v for _, v in known]), len(known), where(("measured", int(row.name) + 2) for rows, _ in known for row in rows)

    def text(i: int, of: str = "") -> tuple[str, str]:
        shown = f"{{:+.1f}} [{{:+.1f}}, {{:+.1f}}] {unit}".format(*x[i])
        return shown, f"measured {of}{shown} (95 %; {_who(known[i][0][0])})"

    if kind == "equal":
        differ, near = (x[:, 1] > 0) | (x[:, 2] < 0), np.abs(x[:, 1:]).max(axis=1) <= NEARLY_POINTS
        shown, said = text(int(np.argmax(np.abs(x[:, 0]))), "difference ")
        if differ.any():
            return Outcome("contradicted", f"{said}; {int(differ.sum())} of {n} differences exclude zero", shown, rows)
        if near.all():
            return Outcome("reproduced", f"{said}; all {n} lie within {NEARLY_POINTS:g} points of zero", shown, rows)
        return Outcome("untested", f"{said}; the items cannot tell two points from nothing", shown, rows)
    (low, high, tolerance), half = bounds(claim), (x[:, 2] - x[:, 1]) / 2
    outside = (x[:, 1] > high + tolerance) | (x[:, 2] < low - tolerance)
    inside = (x[:, 1] >= low - tolerance - half) & (x[:, 2] <= high + tolerance + half)
    inside &= (x[:, 0] >= low - tolerance) & (x[:, 0] <= high + tolerance)
    wide = half > max(tolerance, (high - low) / 2 if np.isfinite(high) else 1.0, 1.0)
    worst = int(np.argmax(np.where(outside, np.maximum(x[:, 1] - high, low - x[:, 2]), -np.inf))) if outside.any() else 0
    shown, said = text(worst)
    said = f"{said}; {stated(claim)} is stated"
    if outside.any():
        return Outcome("contradicted", f"{said}; {int(outside.sum())} of {n} measured {what} exclude it", shown, rows)
    if inside.all() and not wide.any():
        agree = f"all {n} measured {what} agree, half-width at most {number(half.max(), 2)} points"
        return Outcome("reproduced", f"{said}; {agree}", shown, rows)
    return Outcome("untested", f"{said}; the interval of {int((~inside | wide).sum())} of {n} {what} is too wide to tell", shown, rows)


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
    for own, rival, quantity, key in duels:  # by what factor on the log scale the own row is better (above 0)
        value, low, high = np.log(np.array(ratio(own, rival, quantity)))
        value, low, high = (-value, -high, -low) if quantity == ENERGY else (value, low, high)
        df = LARGE_DF if quantity in SCORES else max(min(own.get("n_blocks", 2), rival.get("n_blocks", 2)) - 1, 1)
        wider = special.stdtrit(df, 1 - 0.025 / len(duels)) / special.stdtrit(df, 0.975)
        gain = Interval(value, value - wider * (value - low), value + wider * (high - value))
        groups.setdefault(key, []).append((own, rival, gain))
    best = [max(rows, key=lambda r: r[2].value) for rows in groups.values()]
    beaten = [rows for rows in groups.values() if all(gain.high < 0 for _, _, gain in rows)]
    won = sum(any(gain.low > 0 for _, _, gain in rows) for rows in groups.values())
    own, rival, gain = max(beaten[0], key=lambda r: r[2].value) if beaten else min(best, key=lambda r: r[2].value)
    rows, shown = (
        where(("measured", int(row.name) + 2) for d in duels for row in d[:2]),
        f"shown first in {won} of {len(groups)} comparisons",
    )
    better = "better by x {:.2f} [{:.2f}, {:.2f}]".format(*np.exp(np.array(gain)))
    text = f"{own[factor]} against {rival[factor]}: {better} ({_who(own)})"
    if beaten:
        return Outcome("contradicted", f"{text}; {shown}, shown to be beaten in {len(beaten)}", shown, rows)
    if won == len(groups):
        return Outcome("reproduced", f"{shown}; the closest: {text}", shown, rows)
    return Outcome("untested", f"{shown}, the others are not decided; the closest: {text}", shown, rows)


def _who(row: pd.Series) -> str:
    return ", ".join(str(row[k]) for k in ("gpu", "model", "quantization", "batch_size") if k in row)


def gathered(tables: dict[str, pd.DataFrame], sources: dict[str, list[str]]) -> dict[str, pd.DataFrame]:
    """The measured rows of each source, models by their catalog slug. `tables` are prepared (`evaluate.prepared`)."""
    found = {}
    for source, names in sources.items():
        parts = [tables[n].dropna(axis=1, how="all") for n in names if n in tables]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        if {"gpu", "model", "quantization"} <= set(frame):
            frame = frame.assign(model=frame["model"].map(lambda name: slug(name) if name else ""))
            found[source] = frame[~frame["basis"].isin(("estimated", "predicted", "simulated"))] if "basis" in frame else frame
    return found


Cases = tuple[Interval, pd.DataFrame]
"""What one source says of a claim: the figure of each case with its 95 % ends, and the rows behind."""


def _cases(claim: pd.Series, frame: pd.DataFrame) -> Cases | None:
    """Every case of the claim in one source's rows, the levels of its factor by the claim's own names. The baseline of weights below 16
    bits may be half precision as well."""
    kind, factor, (quantity, *second) = claim["kind"], claim["factor"], str(claim["quantity"]).split(";")
    if quantity in ENERGIES and quantity not in frame and factor not in ("task", "model"):
        quantity = "energy_j_per_1k_tok"  # the same answers: energies of a task and of a token change alike
    if quantity not in NOISY or quantity not in frame:
        return None
    frame = in_scope(frame, claim)
    if factor in frame and kind in ("change", "range", "ranking"):
        claimed = [n for part in ("level", "reference") for n in word(claim, part).split("|") if n]
        halves = HALF_PRECISION if str(claim["level"]) not in FULL else ()
        covers = {
            v: [n for n in claimed if v and (is_named(n, v) or (n == "unspecified_baseline" and v in halves))]
            for v in frame[factor].unique()
        }
        frame = frame.assign(**{factor: frame[factor].map(lambda v: [*covers[v], v][0]), f"_{factor}": frame[factor]})
    if kind in ("change", "range"):
        return _changes(evaluate.pairs(frame, claim, quantity, str(claim["level"])), frame, quantity, factor)
    if kind == "exists":  # for every pair shown to have less of the first quantity than its reference: the change of the second
        found = evaluate.pairs(frame[frame[quantity].notna()], claim, second[0]) if second[0] in frame else []
        less = _changes(found, frame, quantity, factor)
        return _changes([pair for pair, high in zip(found, less[0].high, strict=True) if high < 0], frame, second[0], "") if less else None
    if kind == "scaling":  # where four levels or more are given: the exponent with its interval from the scatter about the line
        from scipy import stats

        groups = [g for g in strata(frame[(frame[factor] != "") & (frame[quantity] > 0)], factor) if g[factor].nunique() >= 4]
        fits = [stats.linregress(np.log(pd.to_numeric(g[factor])), np.log(g[quantity].astype(float))) for g in groups]
        slope = np.array([fit.slope for fit in fits])
        half = np.array([fit.stderr * stats.t.isf(0.025, len(g) - 2) for fit, g in zip(fits, groups, strict=True)])
        return (Interval(slope, slope - half, slope + half), pd.concat(groups)) if groups else None
    # how much worse [%] the best rival is than the claimed level, in every group of rows that differ in the factor alone
    sign, use, found = (-1 if QUANTITIES[quantity] else 1), frame[(frame[quantity] > 0) & (frame[factor] != "")], []
    mine = use[factor].isin(str(claim["level"]).split("|"))
    for group in strata(use, factor, ranked=True):
        own, rivals = (sign * group.loc[mine[group.index] == side, quantity] for side in (True, False))
        found += [(rivals.idxmin(), own.idxmin())] if len(own) and len(rivals) else []
    cases = _changes(found, use, quantity, factor)
    return cases if cases is None or sign > 0 else (Interval(-cases[0].value, -cases[0].high, -cases[0].low), cases[1])


def _changes(found: list[tuple[int, int]], frame: pd.DataFrame, quantity: str, factor: str) -> Cases | None:
    """Changes [%] of one row against another. The log of a figure is good to the source's own scatter where it prints one, at best to that
    of one figure a cell."""
    if not found:
        return None
    name, sides = SPREADS.get(quantity, f"{quantity.split('_')[0]}_cv_pct"), [list(side) for side in zip(*found, strict=True)]
    x, cv = ([frame.loc[rows, c].to_numpy(float) if c in frame else np.zeros(len(found)) for rows in sides] for c in (quantity, name))
    cv = [np.nan_to_num(v) / 100 if name.endswith("cv_pct") else 0.0 for v in cv]
    a, b = (np.hypot(np.maximum(v, CELL_SD), SESSION_SD if factor == "gpu" else 0.0) for v in cv)
    half = float(-special.ndtri(0.025 / len(found))) * np.hypot(a, b)
    return Interval(*(100 * np.expm1(np.log(x[0] / x[1]) + s * half) for s in (0, -1, 1))), frame.loc[[*sides[0], *sides[1]]]


def by_sources(claim: pd.Series, sources: dict[str, pd.DataFrame]) -> Outcome | None:
    """What the sources (`gathered`) other than the claim's own say of it, by how much and on what; None where none has a case."""
    kind = claim["kind"]
    if kind not in WHAT or pd.isna(claim["factor"]) or claim["factor"] not in FACTORS:
        return None
    found = {s: _cases(claim, frame) for s, frame in sources.items() if s != claim["source"]}
    found = {source: cases for source, cases in found.items() if cases is not None}
    if not found:
        return None
    is_direction = kind in ("ranking", "exists")  # agrees only where it is shown
    low, high, tolerance = (0.0, np.inf, 0.0) if is_direction else bounds(claim)
    low, high, unit = low - tolerance, high + tolerance, "" if kind == "scaling" else "%"
    verdicts, parts = [], []
    for source, (figures, rows) in found.items():
        inside = (figures.value >= low) & (figures.value <= high) & ((figures.low > 0) | (not is_direction))
        decided = inside.sum() + ((figures.low > high) | (figures.high < low)).sum()
        share = inside.sum() / max(decided, 1)
        agrees = share >= MOST or (kind == "exists" and inside.any())
        verdict = "reproduced" if agrees else "contradicted" if share <= 1 - MOST else "mixed"
        verdicts.append(verdict if decided else "not decided")
        n, shown, median = len(figures.value), span(figures.value, unit, 3), span([np.median(figures.value)], unit, 3)
        middle, about = say("{median} (median of {n}, {shown})", median=median, n=n, shown=shown) if n > 1 else shown, []
        for name, several in (("gpu", "{n} cards"), ("model", "{n} models"), ("quantization", "{n} strategies")):
            values = [v for v in dict.fromkeys(rows.get(f"_{name}", rows[name])) if v]
            about += [say(" and ").join(values) if len(values) <= 2 else say(several, n=len(values))] if values else []
        parts.append(f"{source} {say(verdicts[-1])}: {middle}, {', '.join(about)}")
    decided = set(verdicts) - {"not decided"}
    verdict = decided.pop() if len(decided) == 1 else "mixed" if decided else "not decided"
    given, n = "" if is_direction else say(" where {stated} is stated", stated=stated(claim)), len(found)
    several = "{what} in {n} independent source{given}: {parts}" if n == 1 else "{what} in {n} independent sources{given}: {parts}"
    reason, rows = (
        say(several, what=say(WHAT[kind]), n=n, given=given, parts="; ".join(parts)),
        rows_of(*(rows for _, rows in found.values())),
    )
    return Outcome(verdict, reason, span(np.concatenate([figures.value for figures, _ in found.values()]), unit, 3), rows)
