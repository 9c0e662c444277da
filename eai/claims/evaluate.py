"""One function a kind of claim: the claim and the rows it speaks of go in, a verdict with its numbers comes out.

Numbers are compared as ranges: the claim's [low - tolerance, high + tolerance] against each figure's printed range.
"""

import ast
import operator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.claims import scope
from eai.claims.findings import lines, number
from eai.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """A verdict with its numbers; `rows` are (table, lines) of everything it rests on."""

    verdict: str
    reason: str
    computed: str = ""
    rows: tuple[tuple[str, tuple[int, ...]], ...] = ()
    low: float = field(default=float("nan"))
    high: float = field(default=float("nan"))

    def where(self) -> str:
        """The rows as text: `table:2,5; other:3`."""
        joined: dict[str, list[int]] = {}
        for table, numbers in self.rows:
            joined.setdefault(table, []).extend(numbers)
        return "; ".join(lines(t, [n - 2 for n in ns]) for t, ns in joined.items())


def rows_of(frame: pd.DataFrame) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The (table, lines) of a prepared frame's rows, reference rows of retained scores included."""
    found = list(zip(frame["_table"], frame["_lines"], strict=True))
    if "_reference_lines" in frame:
        found += [(t, r) for t, r in zip(frame["_table"], frame["_reference_lines"], strict=True) if isinstance(r, tuple)]
    return tuple(found)


def span(values, unit: str = "") -> str:
    """`-25.1 to -19.8 %`, or one figure."""
    low, high = float(np.min(values)), float(np.max(values))
    text = number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
    return f"{text} {unit}".strip()


def bounds(claim: pd.Series) -> tuple[float, float, float]:
    """The claim's low, high and tolerance as numbers; no tolerance is 0."""
    low, high = float(claim["low"]), float(claim["high"])
    tolerance = float(claim["tolerance"]) if pd.notna(claim["tolerance"]) and claim["tolerance"] != "" else 0.0
    return low, high, tolerance


def stated(claim: pd.Series) -> str:
    """The claim's figure or range with its unit."""
    if pd.isna(claim["low"]) or claim["low"] == "":
        return str(claim["level"]) if pd.notna(claim["level"]) else ""
    low, high, _ = bounds(claim)
    unit = "" if pd.isna(claim["unit"]) else str(claim["unit"])
    if np.isinf(high):
        return f"at least {number(low)} {unit}".strip()
    if low in (0, -100) and high > low:
        return f"at most {number(high)} {unit}".strip()
    return span([low, high], unit)


def _judge(claim: pd.Series, low: np.ndarray, mid: np.ndarray, high: np.ndarray, rows, what: str) -> Outcome:
    """Whether every figure's range meets the claim's; the reason counts those that do."""
    a, b, tolerance = bounds(claim)
    inside = (high >= a - tolerance - 1e-12) & (low <= b + tolerance + 1e-12)
    computed = span(mid, "" if pd.isna(claim["unit"]) else claim["unit"])
    if inside.all():
        return Outcome(
            "consistent",
            f"{what}: {computed} in {len(mid)} {'case' if len(mid) == 1 else 'cases'}, as stated",
            computed,
            rows,
            float(mid.min()),
            float(mid.max()),
        )
    how = "the one case does not agree" if len(mid) == 1 else f"{inside.sum()} of {len(mid)} cases agree"
    return Outcome(
        "inconsistent", f"{what}: {computed}, where {stated(claim)} is stated; {how}", computed, rows, float(mid.min()), float(mid.max())
    )


def _none(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """The verdict where the claim's own source holds no figure for it."""
    names = "" if pd.isna(claim["tables"]) else claim["tables"]
    if not names:
        return Outcome("untested", f"no table of the source gives {str(claim['quantity']).replace('_', ' ')}: the figure stands alone")
    scope_text = f" with {claim['where']}" if isinstance(claim["where"], str) and claim["where"] else ""
    levels = (
        f" for {claim['factor']} {claim['level']} against {claim['reference']}"
        if isinstance(claim["reference"], str) and claim["reference"]
        else ""
    )
    return Outcome("untested", f"no row of {names.replace(';', ', ')} gives {claim['quantity']}{scope_text}{levels}")


def value(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Every stated figure of a quantity against the claim."""
    name = claim["quantity"]
    figures = pd.to_numeric(frame[name], errors="coerce") if name in frame else pd.Series(dtype=float)
    use = frame.loc[figures.index[figures.notna()]]
    if use.empty:
        return _none(claim, frame)
    x = figures[use.index].to_numpy(dtype=float)
    h = use[f"{name}~"].fillna(0).to_numpy(dtype=float) if f"{name}~" in use else np.zeros(len(x))
    return _judge(claim, x - h, x, x + h, rows_of(use), name)


def _paired(claim: pd.Series, frame: pd.DataFrame, quantity: str) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Values and half-steps of level and reference rows, and the rows themselves."""
    found = scope.pairs(frame, claim["factor"], str(claim["level"]), str(claim["reference"]), quantity)
    level, reference = frame.loc[[i for i, _ in found]], frame.loc[[j for _, j in found]]
    x = np.column_stack([level[quantity], reference[quantity]]).astype(float) if found else np.zeros((0, 2))
    name = f"{quantity}~"
    h = np.column_stack([level[name].fillna(0), reference[name].fillna(0)]).astype(float) if found and name in frame else np.zeros_like(x)
    return x, h, level, reference


def change(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Changes [%] of level against reference, pair by pair; a claim about all of N levels needs all N (column `coverage`)."""
    x, h, level, reference = _paired(claim, frame, claim["quantity"])
    if not len(x):
        return _none(claim, frame)
    ends = [100 * ((x[:, 0] + s * h[:, 0]) / (x[:, 1] - s * h[:, 1]) - 1) for s in (-1, 0, 1)]
    rows = rows_of(level) + rows_of(reference)
    outcome = _judge(claim, *ends, rows, f"change of {claim['quantity']}")
    if outcome.verdict == "consistent" and isinstance(claim["coverage"], str) and claim["coverage"]:
        wanted, factor = claim["coverage"].split()
        seen = level[factor].nunique()
        if seen < int(wanted):
            return Outcome(
                "untested",
                f"{outcome.reason}, but on {seen} of the {wanted} levels of {factor} that the claim covers",
                outcome.computed,
                rows,
            )
    return outcome


def difference(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Differences of level minus reference in the quantity's own unit; scores in points."""
    quantity = "accuracy" if claim["quantity"] == "accuracy_pct" else claim["quantity"]
    scale = 100.0 if claim["quantity"] == "accuracy_pct" else 1.0
    x, h, level, reference = _paired(claim, frame, quantity)
    if not len(x):
        return _none(claim, frame)
    d, e = scale * (x[:, 0] - x[:, 1]), scale * h.sum(axis=1)
    return _judge(claim, d - e, d, d + e, rows_of(level) + rows_of(reference), f"difference of {quantity}")


def range_of_changes(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A printed range of changes: its ends must be the least and the greatest change, and both accounted alike."""
    x, _, level, reference = _paired(claim, frame, claim["quantity"])
    if not len(x):
        return _none(claim, frame)
    d = 100 * (x[:, 0] / x[:, 1] - 1)
    low, high, tolerance = bounds(claim)
    rows = rows_of(level) + rows_of(reference)
    ends = int(np.argmin(d)), int(np.argmax(d))
    kinds = [level["_accounting"].iloc[i] for i in ends]
    where = [f"{level['gpu'].iloc[i]}, {level['model'].iloc[i]}, batch {level['batch_size'].iloc[i]}" for i in ends]
    computed = span(d, "%")
    if "energy" in claim["quantity"] and all(kinds) and kinds[0] != kinds[1]:
        gross = _gross_changes(level, reference)
        also = f"; counted gross throughout it is {span(gross, '%')}" if len(gross) else ""
        low_end, high_end = (
            f"{number(d[e], 3)} % ({w}) is {k}{' of idle power' * (k == 'net')}" for e, w, k in zip(ends, where, kinds, strict=True)
        )
        reason = f"{low_end} and {high_end}: one range mixes two accountings{also}"
        return Outcome("inconsistent", reason, computed, rows, float(d.min()), float(d.max()))
    if abs(d.min() - low) <= tolerance and abs(d.max() - high) <= tolerance:
        return Outcome("consistent", f"the {len(d)} changes span {computed}, as stated", computed, rows, float(d.min()), float(d.max()))
    return Outcome(
        "inconsistent",
        f"the {len(d)} changes span {computed} ({where[0]}; {where[1]}), where {stated(claim)} is stated",
        computed,
        rows,
        float(d.min()),
        float(d.max()),
    )


def _gross_changes(level: pd.DataFrame, reference: pd.DataFrame) -> np.ndarray:
    """Changes [%] of power / throughput, for the pairs that give both."""
    a, b = (f["power_w"].to_numpy(dtype=float) / f["throughput_tok_s"].to_numpy(dtype=float) for f in (level, reference))
    d = 100 * (a / b - 1)
    return d[np.isfinite(d)]


def count(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """How many distinct configurations (or stated figures, for a numeric quantity) the tables hold."""
    names = [n for n in claim["quantity"].split(",") if n in frame]
    if not names or frame.empty:
        found, use = 0, frame[:0]
    elif len(names) == 1 and pd.api.types.is_numeric_dtype(frame[names[0]]):
        use = frame[frame[names[0]].notna()]
        found = len(use)
    else:
        use = frame[(frame[names].astype(str) != "").all(axis=1)]
        found = len(use[names].astype(str).drop_duplicates())
    low, high, _ = bounds(claim)
    unit = claim["unit"]
    shown = ""
    if len(names) == 1 and found <= 8 and not use.empty and not pd.api.types.is_numeric_dtype(use[names[0]]):
        shown = f" ({', '.join(sorted(use[names[0]].astype(str).unique()))})"
    runs = sum(len(r) for r in use["_lines"]) if len(use) else 0
    shown += f" in {runs} rows" if runs > found else ""
    verdict = "consistent" if low <= found <= high else "inconsistent"
    return Outcome(
        verdict,
        f"{found} {unit} in the tables{shown}, where {stated(claim)} {'is' if low == 1 else 'are'} stated",
        f"{found} {unit}",
        rows_of(use),
        found,
        found,
    )


def label(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A name in words against the names that the tables give."""
    names = sorted(set(frame[claim["quantity"]].dropna().astype(str)) - {""}) if claim["quantity"] in frame else []
    if not names:
        return _none(claim, frame)
    verdict = "consistent" if names == [claim["level"]] else "inconsistent"
    return Outcome(
        verdict,
        f"{claim['quantity']} is {' and '.join(names)} in the tables, where {claim['level']} is stated",
        ", ".join(names),
        rows_of(frame),
    )


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def reckon(text: str) -> float:
    """The value of an arithmetic expression of numbers, + - * / and parentheses. Raises UserError for anything else."""

    def walk(node: ast.AST) -> float:
        match node:
            case ast.Expression():
                return walk(node.body)
            case ast.Constant(value=int() | float() as v):
                return float(v)
            case ast.UnaryOp(op=ast.USub()):
                return -walk(node.operand)
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return _OPERATORS[type(node.op)](walk(node.left), walk(node.right))
        raise UserError(f"'{text}' is not plain arithmetic", "numbers with + - * / and parentheses", "correct the claim's `quantity`")

    try:
        return walk(ast.parse(text, mode="eval"))
    except (SyntaxError, ZeroDivisionError):
        raise UserError(f"'{text}' cannot be computed", "numbers with + - * / and parentheses", "correct the claim's `quantity`") from None


def arithmetic(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A worked example recomputed from the numbers it prints."""
    x = reckon(claim["quantity"])
    low, high, tolerance = bounds(claim)
    verdict = "consistent" if low - tolerance * (1 + 1e-9) <= x <= high + tolerance * (1 + 1e-9) else "inconsistent"
    return Outcome(verdict, f"{claim['quantity']} = {number(x)}, where {stated(claim)} is stated", number(x), (), x, x)


def rule(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A recommendation: no figure of the source decides it; it can only contradict another."""
    return Outcome("untested", f"no table of the source tests the statement ({claim['quantity']})")
