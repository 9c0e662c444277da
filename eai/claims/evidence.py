"""Published claims held against what independent public sources measured: reproduced, contradicted, mixed, or not decided.

Every comparison that a source's tables allow is one case: a change of level against reference, the claimed level against its best rival, an
exponent. A case agrees where its figure lies in the claimed range, and is against it where its 95 % interval lies outside (widened for the
number of cases, Bonferroni); what lies between is not decided. One figure is good to its source's own scatter, at best to 1.4 %; figures of
two cards differ by the gain of two sensors (5 % each) beside.

A source agrees or contradicts where nine in ten of its decided cases do; the claim is mixed where sources differ, or one is divided.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from eai.claims import evaluate, measured
from eai.claims.chance import CELL_SD
from eai.claims.evaluate import Outcome, bounds, rows_of, stated, strata
from eai.claims.findings import say, span
from eai.claims.repeated import SESSION_SD
from eai.claims.tabular import ENERGIES, FACTORS, NOISY, QUANTITIES, SPREADS

WHAT = {
    "change": "change", "range": "change", "ranking": "the best rival's excess", "exists": "the change where the other falls",
    "scaling": "exponent",
}  # fmt: skip
"""The kinds of claims that are held against others' figures, and what a case of each is."""
SCOPE = ("gpu", "model", "quantization", "task", "params_b", "batch_size", "input_tokens", "output_tokens")
NOT_MEASURED = ("estimated", "predicted", "simulated")
MOST = 0.9  # of the decided cases
HALF_PRECISION = ("fp16", "bf16")
FULL = ("unspecified_baseline", "unspecified_fp16_mixed", "fp16_mixed", "fp32", *HALF_PRECISION)


@dataclass(frozen=True)
class Cases:
    """What one source says of a claim: the figure of each case with its 95 % ends, and the rows behind."""

    low: np.ndarray
    figures: np.ndarray
    high: np.ndarray
    rows: pd.DataFrame


def gathered(tables: dict[str, pd.DataFrame], sources: dict[str, list[str]]) -> dict[str, pd.DataFrame]:
    """The measured rows of each source, models by their catalog slug. `tables` are prepared (`evaluate.prepared`)."""
    found = {}
    for source, names in sources.items():
        parts = [tables[n].dropna(axis=1, how="all") for n in names if n in tables]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        if {"gpu", "model", "quantization"} <= set(frame):
            frame = frame.assign(model=frame["model"].map(lambda name: measured.slug(name) if name else ""))
            found[source] = frame[~frame["basis"].isin(NOT_MEASURED)] if "basis" in frame else frame
    return found


def _in_scope(frame: pd.DataFrame, claim: pd.Series) -> pd.DataFrame:
    """The rows that the claim's conditions are about, the levels of its factor by the claim's own names.

    The baseline of weights below 16 bits may be half precision as well.
    """
    own, factor = measured.in_scope(frame, claim, SCOPE), claim["factor"]
    if factor not in own or claim["kind"] not in ("change", "range", "ranking"):
        return own
    claimed = [n for part in ("level", "reference") for n in evaluate.word(claim, part).split("|") if n]
    halves = HALF_PRECISION if str(claim["level"]) not in FULL else ()

    def covers(name: str, level: str) -> bool:
        return level != "" and (measured.is_named(name, level) or (name == "unspecified_baseline" and level in halves))

    named = {v: next((n for n in claimed if covers(n, v)), v) for v in own[factor].unique()}
    return own.assign(**{factor: own[factor].map(named), f"_{factor}": own[factor]})


def _cases(claim: pd.Series, frame: pd.DataFrame) -> Cases | None:
    """Every case of the claim in one source's rows."""
    kind, factor, (quantity, *second) = claim["kind"], claim["factor"], str(claim["quantity"]).split(";")
    if quantity in ENERGIES and quantity not in frame and factor not in ("task", "model"):
        quantity = "energy_j_per_1k_tok"  # the same answers: energies of a task and of a token change alike
    if quantity not in NOISY or quantity not in frame:
        return None
    frame = _in_scope(frame, claim)
    if kind in ("change", "range"):
        return _changes(evaluate.pairs(frame, factor, str(claim["level"]), str(claim["reference"]), quantity), frame, quantity, factor)
    if kind == "exists":  # for every pair shown to have less of the first quantity than its reference: the change of the second
        found = evaluate.pairs_of_all(frame[frame[quantity].notna()], claim, second[0]) if second[0] in frame else []
        less = _changes(found, frame, quantity, factor)
        return _changes([pair for pair, high in zip(found, less.high, strict=True) if high < 0], frame, second[0], "") if less else None
    if kind == "scaling":
        return _exponents(factor, frame, quantity)
    return _duels(claim, frame, quantity)


def _changes(found: list[tuple[int, int]], frame: pd.DataFrame, quantity: str, factor: str) -> Cases | None:
    """Changes [%] of one row against another.

    The log of a figure is good to the source's own scatter where it prints one, at best to that of one figure a cell.
    """
    if not found:
        return None
    name, sides = SPREADS.get(quantity, f"{quantity.split('_')[0]}_cv_pct"), [list(side) for side in zip(*found, strict=True)]
    x, cv = ([frame.loc[rows, c].to_numpy(float) if c in frame else np.zeros(len(found)) for rows in sides] for c in (quantity, name))
    cv = [np.nan_to_num(v) / 100 if name.endswith("cv_pct") else 0.0 for v in cv]
    a, b = (np.hypot(np.maximum(v, CELL_SD), SESSION_SD if factor == "gpu" else 0.0) for v in cv)
    half = float(-special.ndtri(0.025 / len(found))) * np.hypot(a, b)
    return Cases(*(100 * np.expm1(np.log(x[0] / x[1]) + s * half) for s in (-1, 0, 1)), frame.loc[[*sides[0], *sides[1]]])


def _duels(claim: pd.Series, frame: pd.DataFrame, quantity: str) -> Cases | None:
    """How much worse [%] the best rival is than the claimed level, in every group of rows that differ in the factor alone."""
    sign, factor = (-1 if QUANTITIES[quantity] else 1), claim["factor"]
    use = frame[(frame[quantity] > 0) & (frame[factor] != "")]
    mine, found = use[factor].isin(str(claim["level"]).split("|")), []
    for group in strata(use, *evaluate.apart_from(factor)):
        own, rivals = (sign * group.loc[mine[group.index] == side, quantity] for side in (True, False))
        found += [(rivals.idxmin(), own.idxmin())] if len(own) and len(rivals) else []
    cases = _changes(found, use, quantity, factor)
    return cases if cases is None or sign > 0 else Cases(-cases.high, -cases.figures, -cases.low, cases.rows)


def _exponents(factor: str, frame: pd.DataFrame, quantity: str) -> Cases | None:
    """The exponent of a quantity along a factor with its interval from the scatter about the line, where four levels or more are given."""
    from scipy import stats

    groups = [g for g in strata(frame[(frame[factor] != "") & (frame[quantity] > 0)], factor) if g[factor].nunique() >= 4]
    if not groups:
        return None
    fits = [stats.linregress(np.log(pd.to_numeric(g[factor])), np.log(g[quantity].astype(float))) for g in groups]
    slope = np.array([fit.slope for fit in fits])
    half = np.array([fit.stderr * stats.t.isf(0.025, len(g) - 2) for fit, g in zip(fits, groups, strict=True)])
    return Cases(slope - half, slope, slope + half, pd.concat(groups))


def judge(claim: pd.Series, sources: dict[str, pd.DataFrame]) -> Outcome | None:
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
    for source, cases in found.items():
        inside = (cases.figures >= low) & (cases.figures <= high) & ((cases.low > 0) | (not is_direction))
        decided = inside.sum() + ((cases.low > high) | (cases.high < low)).sum()
        share = inside.sum() / max(decided, 1)
        agrees = share >= MOST or (kind == "exists" and inside.any())
        verdict = "reproduced" if agrees else "contradicted" if share <= 1 - MOST else "mixed"
        verdicts.append(verdict if decided else "not decided")
        n, shown = len(cases.figures), span(cases.figures, unit, 3)
        median = span([np.median(cases.figures)], unit, 3)
        middle = say("{median} (median of {n}, {shown})", median=median, n=n, shown=shown) if n > 1 else shown
        parts.append(f"{source} {say(verdicts[-1])}: {middle}, {_about(cases.rows)}")
    decided = set(verdicts) - {"not decided"}
    verdict = decided.pop() if len(decided) == 1 else "mixed" if decided else "not decided"
    given, n = "" if is_direction else say(" where {stated} is stated", stated=stated(claim)), len(found)
    several = "{what} in {n} independent source{given}: {parts}" if n == 1 else "{what} in {n} independent sources{given}: {parts}"
    reason = say(several, what=say(WHAT[kind]), n=n, given=given, parts="; ".join(parts))
    return Outcome(
        verdict, reason, span(np.concatenate([c.figures for c in found.values()]), unit, 3), rows_of(*(c.rows for c in found.values()))
    )


def _about(rows: pd.DataFrame) -> str:
    """`a100_pcie_80gb, 19 models, fp16 and nf4`: what the rows of a source are about."""
    parts = []
    for name, several in (("gpu", "{n} cards"), ("model", "{n} models"), ("quantization", "{n} strategies")):
        values = [v for v in dict.fromkeys(rows.get(f"_{name}", rows[name])) if v]
        parts += [say(" and ").join(values) if len(values) <= 2 else say(several, n=len(values))] if values else []
    return ", ".join(parts)
