"""The rows that a claim speaks of: its tables stacked, filtered by its condition, and matched into pairs.

A condition reads `gpu=a800|a800_sxm_80gb & params_b<=3`; `=` takes alternatives, an empty one meaning "not stated".

One function a kind of claim: the claim and the rows it speaks of go in, a verdict with its numbers comes out.

Numbers are compared as ranges: the claim's [low - tolerance, high + tolerance] against each figure's printed range.

Claims about relations: who is best, what correlates, what interacts, what scales, where a sign turns.
"""

import ast
import operator
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from eai.claims import physical
from eai.claims.chance import CELL_SD, z_of
from eai.claims.findings import lines, number, span
from eai.claims.quantities import FACTORS, QUANTITIES, SPREADS
from eai.claims.relations import Relation, follow, known
from eai.claims.tabular import Table, build, together
from eai.errors import UserError

_CONDITION = re.compile(r"\s*([a-z_0-9]+)\s*(<=|>=|<|>|=)\s*(.*?)\s*")
LENGTHS = ("input_tokens", "output_tokens")
BASELINES = ("unspecified_baseline", "fp16", "bf16", "fp32")


def prepared(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A published table with its printed columns, every quantity that follows from them, and half-steps as `<quantity>~`.

    Also `_table`, `_lines` (a tuple), `_accounting` (gross or net as computed), CVs in percent, and scores relative to the baseline's.
    Repeated runs are averaged, their scatter becoming the CV.
    """
    out = frame.copy()
    try:
        table = build(frame, name)
    except UserError:
        table = None
    if table is not None:
        _add_known(out, table)
    out["_table"], out["_lines"] = name, [(i + 2,) for i in range(len(out))]
    out["_accounting"] = physical.kinds(table) if table is not None and table.has("power_w", "throughput_tok_s") else ""
    for f in (*FACTORS, "session", "location", "architecture"):
        out[f] = _text(out[f]) if f in out else ""
    for quantity, spread in SPREADS.items():
        if spread in out:
            out[f"{quantity.split('_')[0]}_cv_pct"] = 100 * out[spread] / out[quantity]
    if "run" in out:
        out = _averaged(out)
    return _retained(out)


def _text(column: pd.Series) -> pd.Series:
    """A key as text, numbers without a trailing .0, missing as empty."""
    return column.map(lambda v: "" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v))


OF_POWER = (
    Relation("energy_j_per_token", {"power_w": 1, "throughput_tok_s": -1}),
    Relation("energy_j_per_1k_tok", {"power_w": 1, "throughput_tok_s": -1}, 1e3),
    Relation("tokens_per_j", {"power_w": -1, "throughput_tok_s": 1}),
)
"""Gross energy per token where a table prints power and throughput but no energy at all."""


@np.errstate(all="ignore")
def _add_known(out: pd.DataFrame, table: Table) -> None:
    """Write the printed and the computed quantities of `table` into `out`."""
    computed = {name: known(table, name) for name in QUANTITIES if name not in FACTORS or name == "params_b"}
    if computed["energy_j_per_token"] is None and table.has("power_w", "throughput_tok_s"):
        computed |= {r.target: follow(table, r) for r in OF_POWER}
    for name, logs in computed.items():
        if logs is None and not table.has(name):
            continue
        value, half = (np.full(len(table), np.nan),) * 2 if logs is None else (np.exp(logs[0]), np.exp(logs[0]) * np.sinh(logs[1]))
        shown = np.isfinite(table.column(name))
        out[name], out[f"{name}~"] = np.where(shown, table.column(name), value), np.where(shown, table.step(name), half)


def _averaged(out: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration instead of one a run; `throughput_cv_pct` and its like from the runs."""
    keys = [*FACTORS, "session", "location", "architecture", "_table", "_accounting"]
    numeric = [c for c in out.select_dtypes("number") if c not in keys and c != "run"]
    grouped = out.groupby(keys, sort=False, dropna=False)
    mean = grouped[numeric].mean().reset_index()
    mean["_lines"] = grouped["_lines"].agg(lambda s: tuple(line for part in s for line in part)).to_numpy()
    for quantity in SPREADS:
        if quantity in numeric:
            mean[f"{quantity.split('_')[0]}_cv_pct"] = (100 * grouped[quantity].std() / grouped[quantity].mean()).to_numpy()
    return mean


def _retained(out: pd.DataFrame) -> pd.DataFrame:
    """Add `accuracy_retained_pct`: the score over the baseline's score of the same model, task and GPU."""
    if "accuracy" not in out or not out["quantization"].isin(BASELINES).any():
        return out
    score, half = out["accuracy"], out["accuracy~"].fillna(0)
    base = (
        out[out["quantization"].isin(BASELINES) & score.notna()]
        .drop_duplicates(["gpu", "model", "task"])
        .set_index(["gpu", "model", "task"])
    )
    at = pd.MultiIndex.from_frame(out[["gpu", "model", "task"]])
    reference, step = base["accuracy"].reindex(at).to_numpy(), base["accuracy~"].reindex(at).to_numpy()
    ratio = 100 * score / reference
    out["accuracy_retained_pct"] = np.where(out["quantization"].isin(BASELINES), np.nan, ratio)
    out["accuracy_retained_pct~"] = ratio * (half / score + step / reference)
    out["_reference_lines"] = pd.Series(base["_lines"].reindex(at).to_numpy(), index=out.index)
    return out


def meets(frame: pd.DataFrame, condition: str) -> np.ndarray:
    """Which rows meet one comparison of a condition. Raises UserError if it cannot be read."""
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise UserError(
            f"the condition '{condition}' cannot be read", "column=value|value or column<=number", "correct the claim's `where`"
        )
    name, sign, text = match.groups()
    column = frame[name] if name in frame else pd.Series(np.nan, index=frame.index)
    if sign == "=":
        return _text(column).isin([t.strip() for t in text.split("|")]).to_numpy()
    values = pd.to_numeric(column, errors="coerce").to_numpy()
    limit = float(text.split("|")[0])
    with np.errstate(invalid="ignore"):
        hit = {"<=": values <= limit, ">=": values >= limit, "<": values < limit, ">": values > limit}[sign]
    return hit | (np.isnan(values) & ("|" in text))


def select(tables: dict[str, pd.DataFrame], names: str, where: str) -> pd.DataFrame:
    """The rows of the named tables (prepared; separated by `;`) that meet every part of `where`, in printed order."""
    parts = [tables[n] for n in filter(None, names.split(";")) if n in tables]
    if not parts:
        return pd.DataFrame(columns=["_table", "_lines", *FACTORS])
    frame = pd.concat(parts, ignore_index=True)
    for condition in filter(None, (c.strip() for c in where.split("&"))):
        frame = frame[meets(frame, condition)]
    return frame.reset_index(drop=True)


def pairs(frame: pd.DataFrame, factor: str, level: str, reference: str, quantity: str) -> list[tuple[int, int]]:
    """(row, reference row) positions that differ in `factor` alone and both state `quantity`.

    The reference is sought in the same session and place, then in the same session (where the lengths of the output may differ,
    since greedy decoding stops by itself), then in the same table, then anywhere; the first rank with a candidate is taken.
    """
    if quantity not in frame or factor not in frame:
        return []
    text = {c: pd.factorize(frame[c])[0] for c in (*FACTORS, "_table", "session", "location") if c != factor}
    same = together([text[f] for f in FACTORS if f not in (factor, "params_b", *LENGTHS)], len(frame))
    exact = together([text[f] for f in LENGTHS if f != factor], len(frame))
    no_session, level_of, stated = (frame["session"] == "").to_numpy(), frame[factor].to_numpy(object), frame[quantity].notna().to_numpy()
    pool, found = np.flatnonzero((level_of == reference) & stated), []
    for i in np.flatnonzero((level_of == level) & stated):
        near = pool[same[pool] == same[i]]
        alike, table = exact[near] == exact[i], text["_table"][near] == text["_table"][i]
        session = table & (text["session"][near] == text["session"][i])
        place = session & (text["location"][near] == text["location"][i])
        for rank in (place & alike, session & (not no_session[i]), table & alike, alike):
            if rank.any():
                found.append((int(frame.index[i]), int(frame.index[near[rank][0]])))
                break
    return found


NOISE = 1.96 * np.sqrt(2) * CELL_SD  # log scale: two figures of one cell each, 95 %


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


def _within_noise(a: float, b: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which changes [%] lie so near to the claimed range that the noise of two measured figures covers the gap (95 %, log scale)."""
    with np.errstate(all="ignore"):
        gap = np.where(low > b, np.log1p(low / 100) - np.log1p(b / 100), np.log1p(a / 100) - np.log1p(high / 100))
    return np.abs(gap) <= NOISE


def _judge(claim: pd.Series, low: np.ndarray, mid: np.ndarray, high: np.ndarray, rows, what: str, noisy: bool = False) -> Outcome:
    """Whether every figure's range meets the claim's; the reason counts those that do. Changes of noisy figures that miss it by less than
    the noise of one figure a cell are not decided."""
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
    if noisy and _within_noise(a - tolerance, b + tolerance, low[~inside], high[~inside]).all():
        reason = f"{what}: {computed}, where {stated(claim)} is stated; figures good to {CELL_SD:.1%} at best cannot tell them apart"
        return Outcome("not decided", reason, computed, rows, float(mid.min()), float(mid.max()))
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
    found = pairs(frame, claim["factor"], str(claim["level"]), str(claim["reference"]), quantity)
    level, reference = frame.loc[[i for i, _ in found]], frame.loc[[j for _, j in found]]
    x = np.column_stack([level[quantity], reference[quantity]]).astype(float) if found else np.zeros((0, 2))
    name = f"{quantity}~"
    h = np.column_stack([level[name].fillna(0), reference[name].fillna(0)]).astype(float) if found and name in frame else np.zeros_like(x)
    return x, h, level, reference


def _is_noisy(quantity: str) -> bool:
    """Whether figures of a quantity scatter from run to run."""
    return quantity in QUANTITIES and QUANTITIES[quantity].noisy


def change(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Changes [%] of level against reference, pair by pair; a claim about all of N levels needs all N (column `coverage`)."""
    x, h, level, reference = _paired(claim, frame, claim["quantity"])
    if not len(x):
        return _none(claim, frame)
    ends = [100 * ((x[:, 0] + s * h[:, 0]) / (x[:, 1] - s * h[:, 1]) - 1) for s in (-1, 0, 1)]
    rows = rows_of(level) + rows_of(reference)
    outcome = _judge(claim, *ends, rows, f"change of {claim['quantity']}", _is_noisy(claim["quantity"]))
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


LEAST_FOR_CORRELATION = 4
CONFIDENT = 2.576  # two-sided 1 %


def ranking(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Whether the level is best in every group of rows that differ in the factor alone; several levels may share the place.

    Several quantities, separated by `;`, are ranked each for itself. Printed ties count for the claim.
    """
    levels, factor = str(claim["level"]).split("|"), claim["factor"]
    won, lost, close, rows, reasons = 0, 0, 0, [], []
    for quantity in claim["quantity"].split(";"):
        if quantity not in frame:
            continue
        use = frame[frame[quantity].notna()]
        sign = 1 if QUANTITIES[quantity].higher_is_better else -1
        others = [f for f in FACTORS if f not in (factor, "params_b") and not (f in LENGTHS and factor == "quantization")]
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
            elif _is_noisy(quantity) and abs(np.log(x[own] / x[best])) <= NOISE:
                close += 1
            else:
                lost += 1
                reasons.append(
                    f"{group[factor].iloc[best]} has {number(sign * x[best])} {quantity} against "
                    f"{number(sign * x[own])} of {group[factor].iloc[own]} ({group['_table'].iloc[best]})"
                )
    if not won + lost + close:
        return Outcome(
            "untested", f"no group of rows compares {claim['level']} with another {factor} on {claim['quantity'].replace(';', ' or ')}"
        )
    if close and not lost:
        reason = f"first in {won} of {won + close} comparisons; in the others the best is nearer than the noise of one figure a cell"
        return Outcome("not decided", reason, f"first in {won} of {won + close}", tuple(rows))
    if lost:
        return Outcome(
            "inconsistent",
            f"{reasons[0]}; first in {won} of {won + lost + close} comparisons",
            f"first in {won} of {won + lost + close}",
            tuple(rows),
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
    better = dict(pairs(frame, claim["factor"], str(claim["level"]), str(claim["reference"]), quantity))
    bad = dict(pairs(frame, claim["factor"], worse, str(claim["reference"]), quantity))
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
        for i, j in pairs(frame[frame[first].notna()], claim["factor"], level, str(claim["reference"]), second):
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
