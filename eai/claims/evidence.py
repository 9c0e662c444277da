"""Published claims held against what independent public sources measured: reproduced, contradicted, mixed, or not decided.

Every comparison that a source's tables allow is one case: a change of level against reference, the claimed level against its best rival, an
exponent. A case agrees where its figure lies in the claimed range, and is against it where its 95 % interval lies outside (widened for the
number of cases, Bonferroni); what lies between is not decided. One figure is good to its source's own scatter, at best to 1.4 %; figures of
two cards differ by the gain of two sensors (5 % each) beside.

A source agrees or contradicts where nine in ten of its decided cases do; the claim is mixed where sources differ, or one is divided.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog
from eai.claims import evaluate, measured
from eai.claims.chance import CELL_SD
from eai.claims.evaluate import LENGTHS, Outcome, bounds, rows_of, stated
from eai.claims.findings import span
from eai.claims.quantities import ENERGIES, FACTORS, QUANTITIES, SPREADS
from eai.claims.repeated import SESSION_SD
from eai.errors import UserError

KINDS = ("change", "range", "ranking", "exists", "scaling")
SCOPE = ("gpu", "model", "quantization", "task", "params_b", "batch_size", "input_tokens", "output_tokens")
NOT_MEASURED = ("estimated", "predicted", "simulated")
MOST = 0.9  # of the decided cases
HALF_PRECISION = ("fp16", "bf16")
FULL = ("unspecified_baseline", "unspecified_fp16_mixed", "fp16_mixed", "fp32", *HALF_PRECISION)
MOST_NAMED = 3


@dataclass(frozen=True)
class Cases:
    """What one source says of a claim: the figure of each case with its 95 % ends, the rows behind, and what they are about."""

    source: str
    figures: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: pd.DataFrame


def gathered(tables: dict[str, pd.DataFrame], sources: dict[str, list[str]]) -> dict[str, pd.DataFrame]:
    """The measured rows of each source, models by their catalog slug. `tables` are prepared (`evaluate.prepared`)."""
    found = {}
    for source, names in sources.items():
        parts = [tables[n].dropna(axis=1, how="all") for n in names if n in tables]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        if {"gpu", "model", "quantization"} <= set(frame):
            frame = frame.assign(model=frame["model"].map({m: _slug(m) for m in frame["model"].unique()}))
            found[source] = frame[~frame["basis"].isin(NOT_MEASURED)] if "basis" in frame else frame
    return found


def judge(claim: pd.Series, sources: dict[str, pd.DataFrame]) -> Outcome | None:
    """What the sources (`gathered`) other than the claim's own say of it; None where none of them has a comparable case."""
    if claim["kind"] not in KINDS or pd.isna(claim["factor"]) or claim["factor"] not in FACTORS:
        return None
    found = []
    for source, frame in sources.items():
        cases = _cases(claim, frame, source) if source != claim["source"] else None
        found += [cases] if cases is not None and len(cases.figures) else []
    return _together(claim, found) if found else None


def _in_scope(frame: pd.DataFrame, claim: pd.Series) -> pd.DataFrame:
    """The rows that the claim's conditions are about, the levels of its factor by the claim's own names."""
    own = measured.in_scope(frame, claim, SCOPE)
    factor = claim["factor"]
    if factor not in own or claim["kind"] not in ("change", "range", "ranking"):
        return own
    is_low = str(claim["level"]) not in FULL
    named = {v: next((n for n in _levels(claim) if _covers(n, v, is_low)), v) for v in own[factor].unique()}
    return own.assign(**{factor: own[factor].map(named), f"_{factor}": own[factor]})


def _levels(claim: pd.Series) -> list[str]:
    return [n for part in (claim["level"], claim["reference"]) if pd.notna(part) and part != "" for n in str(part).split("|")]


def _covers(claimed: str, own: str, is_low: bool) -> bool:
    """Whether a claimed level covers one of a source; the baseline of weights below 16 bits may be half precision as well."""
    return own != "" and (measured.is_named(claimed, own) or (claimed == "unspecified_baseline" and is_low and own in HALF_PRECISION))


@cache
def _slug(name: str) -> str:
    try:
        return catalog.resolve("model", name)[0] if name else ""
    except UserError:
        return name


def _cases(claim: pd.Series, frame: pd.DataFrame, source: str) -> Cases | None:
    """Every case of the claim in one source's rows."""
    quantity = str(claim["quantity"]).split(";")[0]
    if quantity in ENERGIES and quantity not in frame and claim["factor"] not in ("task", "model"):
        quantity = "energy_j_per_1k_tok"  # the same answers: energies of a task and of a token change alike
    if quantity not in QUANTITIES or quantity not in frame or not QUANTITIES[quantity].noisy:
        return None
    frame = _in_scope(frame, claim)
    if claim["kind"] in ("change", "range"):
        found = evaluate.pairs(frame, claim["factor"], str(claim["level"]), str(claim["reference"]), quantity)
        return _changes(found, frame, quantity, claim["factor"], source)
    if claim["kind"] == "exists":
        return _both_ways(claim, frame, source)
    return _exponents(claim, frame, quantity, source) if claim["kind"] == "scaling" else _duels(claim, frame, quantity, source)


def _sd(frame: pd.DataFrame, rows: list[int], quantity: str, apart: bool) -> np.ndarray:
    """The standard deviation of the logs of figures: the source's own scatter where it prints one, at least that of one figure a cell."""
    name = SPREADS.get(quantity, f"{quantity.split('_')[0]}_cv_pct")
    cv = frame.loc[rows, name].to_numpy(float) / 100 if name in frame and name.endswith("cv_pct") else np.zeros(len(rows))
    return np.hypot(np.maximum(np.nan_to_num(cv), CELL_SD), SESSION_SD if apart else 0.0)


def _changes(found: list[tuple[int, int]], frame: pd.DataFrame, quantity: str, factor: str, source: str) -> Cases | None:
    """Changes [%] of one row against another."""
    if not found:
        return None
    i, j = (list(side) for side in zip(*found, strict=True))
    logs = np.log(frame.loc[i, quantity].to_numpy(float) / frame.loc[j, quantity].to_numpy(float))
    half = _z(len(logs)) * np.hypot(_sd(frame, i, quantity, factor == "gpu"), _sd(frame, j, quantity, factor == "gpu"))
    ends = [100 * np.expm1(logs + s * half) for s in (-1, 0, 1)]
    return Cases(source, ends[1], ends[0], ends[2], frame.loc[[*i, *j]])


def _z(family: int) -> float:
    return float(-special.ndtri(0.025 / family))


def _duels(claim: pd.Series, frame: pd.DataFrame, quantity: str, source: str) -> Cases | None:
    """How much worse [%] the best rival is than the claimed level, in every group of rows that differ in the factor alone."""
    sign, factor = (-1 if QUANTITIES[quantity].higher_is_better else 1), claim["factor"]
    use = frame[(frame[quantity] > 0) & (frame[factor] != "")]
    mine, found = use[factor].isin(str(claim["level"]).split("|")), []
    if mine.all() or not mine.any():
        return None
    others = [f for f in FACTORS if f not in (factor, "params_b") and not (f in LENGTHS and factor == "quantization")]
    for _, group in use.groupby([*others, "_table"], sort=False):
        own, rivals = (sign * group.loc[mine[group.index] == side, quantity] for side in (True, False))
        found += [(rivals.idxmin(), own.idxmin())] if len(own) and len(rivals) else []
    cases = _changes(found, use, quantity, factor, source)
    if cases is None or sign > 0:
        return cases
    return Cases(source, -cases.figures, -cases.high, -cases.low, cases.rows)


def _both_ways(claim: pd.Series, frame: pd.DataFrame, source: str) -> Cases | None:
    """For every pair that has less of the first quantity than its reference, shown beyond noise: the change [%] of the second."""
    first, second = str(claim["quantity"]).split(";")
    if second not in frame:
        return None
    found = []
    for level in sorted(set(frame[claim["factor"]]) - {str(claim["reference"]), ""}):
        found += evaluate.pairs(frame[frame[first].notna()], claim["factor"], level, str(claim["reference"]), second)
    less = _changes(found, frame, first, claim["factor"], source)
    return _changes([pair for pair, high in zip(found, less.high, strict=True) if high < 0], frame, second, "", source) if less else None


def _exponents(claim: pd.Series, frame: pd.DataFrame, quantity: str, source: str) -> Cases:
    """The exponent of a quantity along a factor with its interval from the scatter about the line, where four levels or more are given."""
    from scipy import stats

    factor, found, rows = claim["factor"], [], []
    use = frame[(frame[factor] != "") & (frame[quantity] > 0)]
    for _, group in use.groupby([*(f for f in FACTORS if f not in (factor, "params_b")), "_table"], sort=False):
        if group[factor].nunique() >= 4:
            fit = stats.linregress(np.log(pd.to_numeric(group[factor])), np.log(group[quantity].astype(float)))
            found.append((fit.slope, fit.stderr * stats.t.isf(0.025, len(group) - 2)))
            rows.append(group)
    slope, half = np.array(found).T if found else (np.zeros(0), np.zeros(0))
    return Cases(source, slope, slope - half, slope + half, pd.concat(rows) if rows else use[:0])


def _range(claim: pd.Series) -> tuple[float, float]:
    """The claimed range with its tolerance; for a ranking and for `exists`, anything above 0."""
    if claim["kind"] in ("ranking", "exists"):
        return 0.0, np.inf
    low, high, tolerance = bounds(claim)
    return low - tolerance, high + tolerance


def _together(claim: pd.Series, found: list[Cases]) -> Outcome:
    """The verdict of all sources on a claim, by how much and on what."""
    a, b = _range(claim)
    unit = "" if claim["kind"] == "scaling" else "%"
    verdicts, told, rows = [], [], ()
    for cases in found:
        inside = (cases.figures >= a) & (cases.figures <= b)
        if claim["kind"] in ("ranking", "exists"):  # a direction agrees only where it is shown
            inside &= cases.low > 0
        outside = (cases.low > b) | (cases.high < a)
        decided = inside.sum() + outside.sum()
        share = inside.sum() / max(decided, 1)
        agrees = share >= MOST or (claim["kind"] == "exists" and inside.any())
        verdict = "reproduced" if agrees else "contradicted" if share <= 1 - MOST else "mixed"
        verdict = verdict if decided else "not decided"
        verdicts.append(verdict)
        middle = f"{span([np.median(cases.figures)], unit, 3)} (median of {len(cases.figures)}, {span(cases.figures, unit, 3)})"
        told.append(f"{cases.source} {verdict}: {middle if len(cases.figures) > 1 else span(cases.figures, unit, 3)}, {_about(cases.rows)}")
        rows += rows_of(cases.rows.drop_duplicates(["_table", "_lines"]))
    decided = {v for v in verdicts if v != "not decided"}
    verdict = decided.pop() if len(decided) == 1 else "mixed" if decided else "not decided"
    what = {"ranking": "the best rival's excess", "exists": "the change where the other falls", "scaling": "exponent"}.get(
        claim["kind"], "change"
    )
    given = f" where {stated(claim)} is stated" if claim["kind"] in ("change", "range", "scaling") else ""
    reason = f"{what} in {len(found)} independent source{'s' * (len(found) > 1)}{given}: {'; '.join(told)}"
    return Outcome(verdict, reason, span(np.concatenate([c.figures for c in found]), unit, 3), rows)


def _about(rows: pd.DataFrame) -> str:
    """`a100_pcie_80gb, 19 models, fp16 and nf4`: what the rows of a source are about."""
    parts = []
    for name, word in (("gpu", "cards"), ("model", "models"), ("quantization", "strategies")):
        values = [v for v in dict.fromkeys(rows.get(f"_{name}", rows[name])) if v]
        parts += [" and ".join(values) if len(values) <= MOST_NAMED - 1 else f"{len(values)} {word}"] if values else []
    return ", ".join(parts)
