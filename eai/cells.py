"""What stands in a table that somebody else wrote: cells as plain numbers (units by pint, thousands, decimal commas, `00:16:07`), and
expressions over its columns, the right side of a mapping, in `import`, `check` and `trace`.

    power_w: current_ma * voltage_v / 1e6
    tokens_out: first(new_tokens, `tokens / s` * seconds)   # the first that is stated; odd names in backticks

An expression is parsed and walked here; it can name columns, reckon and call the functions below, and nothing else. mWh and MWh are a
billion apart and differ by a capital: a unit is read as it is spelt, and a spelling that fits both is refused.
"""

import ast
import difflib
import re
from collections import Counter
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from eai.errors import UserError


def nearest(name: str, known) -> str:
    """`; the nearest: a, b` for a message, "" where nothing is near."""
    lower = {str(k).lower(): str(k) for k in known}
    near = [lower[k] for k in difflib.get_close_matches(str(name).lower(), list(lower), 3, 0.5)]
    inside = [k for low, k in lower.items() if str(name).lower().rsplit(".", 1)[-1] in low]
    found = list(dict.fromkeys([*near, *inside]))[:3]
    return f"; the nearest: {', '.join(f[:60] for f in found)}" if found else ""


def clock_seconds(text: str) -> float:
    """Seconds of `00:16:07`, `16:07` (minutes), `1 day, 2:03:04` and Slurm's `1-02:03:04`; NaN for anything else."""
    days, clock = r"(?:(\d+)(?:\s*(?:d|days?)[ ,]*|-(?=\d\d:\d\d:)))?", r"(\d+):([0-5]?\d)(?::([0-5]?\d(?:\.\d+)?))?"
    if not (match := re.fullmatch(days + clock, text.strip())):
        return float("nan")
    days, a, b, c = match.groups()
    return 86400.0 * int(days or 0) + (int(a) * 3600 + int(b) * 60 + float(c) if c is not None else int(a) * 60 + int(b))


def floats(cells: pd.Series) -> np.ndarray:
    """The cells that are numbers by themselves; NaN for the others."""
    return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()


_BINARY = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.true_divide, ast.Pow: np.power}
_COMPARED = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne"}
LONGEST = 500


def column_of(text: object, frame: pd.DataFrame) -> str | None:
    """The column that a mapping's right side names as it stands; None where it is an expression or a number."""
    return str(text) if isinstance(text, str) and text in frame.columns else None


def evaluate(text: object, frame: pd.DataFrame, used: set | None = None) -> pd.Series:
    """The column or the expression `text` over the rows of `frame`; the columns that it reads are added to `used`.

    Raises UserError for a name that is no column, with the nearest, and for anything that is no arithmetic, comparison, choice
    (`a if b == 'x' else c`), element (`names[0]`) or call of first, seconds, total, min, max, abs, round, lower or text.
    """
    if (name := column_of(text, frame)) is not None:
        (set() if used is None else used).add(name)
        return frame[name]
    if isinstance(text, bool | int | float):
        return pd.Series(text, index=frame.index)
    walk = _Walk(str(text), frame, set() if used is None else used)
    return walk.series(walk.walk(walk.tree))


class _Walk:
    """One expression over one table."""

    def __init__(self, text: str, frame: pd.DataFrame, used: set):
        self.text, self.frame, self.used = text, frame, used
        if len(text) > LONGEST:
            raise self.wrong("is too long")
        self.quoted = {f"_q{i}": name for i, name in enumerate(re.findall(r"`([^`]+)`", text))}
        places = iter(self.quoted)
        plain = re.sub(r"`[^`]+`", lambda match: next(places), text)
        try:
            self.tree = ast.parse(plain.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            found = f"no column '{text[:60]}', and it is no expression{nearest(text, frame.columns)}"
            raise UserError(found, "a column or arithmetic") from None

    def wrong(self, what: str) -> UserError:
        """The error of this expression."""
        known = "columns, numbers, + - * / and first, seconds, total, min, max, round"
        return UserError(f"the expression '{self.text[:60]}' {what}", known)

    def series(self, found: Any) -> pd.Series:
        """A value row by row."""
        return found if isinstance(found, pd.Series) else pd.Series(found, index=self.frame.index)

    def name(self, node: ast.AST) -> str | None:
        """The dotted name that a node spells, None where it spells none."""
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (head := self.name(node.value)) is not None:
            return f"{head}.{node.attr}"
        return None

    def number(self, node: ast.AST):
        """A node as numbers."""
        found = self.walk(node)
        is_text = isinstance(found, pd.Series) and not pd.api.types.is_numeric_dtype(found)
        return pd.Series(floats(found), index=found.index) if is_text else found

    def walk(self, node: ast.AST):
        """The value of a node: a Series, a number or a text. Raises UserError with the nearest names for one that is no column."""
        if (name := self.name(node)) is not None:
            if name not in self.frame.columns:
                expected = f"a column of the table{nearest(name, self.frame.columns)}"
                raise UserError(f"no column {name}", expected, "backticks go around odd names")
            self.used.add(name)
            return self.frame[name]
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as constant):
                return constant
            case ast.UnaryOp(op=ast.USub()):
                return -self.number(node.operand)
            case ast.BinOp() if type(node.op) in _BINARY:
                left, right = self.number(node.left), self.number(node.right)
                if isinstance(left, str) or isinstance(right, str):
                    raise self.wrong("reckons with text")
                with np.errstate(all="ignore"):
                    return _BINARY[type(node.op)](np.float64(left) if np.isscalar(left) else left, right)
            case ast.Compare(ops=[op]) if type(op) in _COMPARED:
                left, right = self.series(self.walk(node.left)), self.walk(node.comparators[0])
                if not isinstance(right, str):
                    left, right = pd.Series(floats(left), index=left.index), self.number(node.comparators[0])
                return getattr(left.astype(str) if isinstance(right, str) else left, _COMPARED[type(op)])(right)
            case ast.IfExp():
                test, a, b = (self.series(self.walk(part)) for part in (node.test, node.body, node.orelse))
                return a.where(test.astype(bool), b)
            case ast.Subscript(slice=ast.Constant(value=int() as place)):
                return self.walk(node.value).map(
                    lambda cell: cell[place] if isinstance(cell, list | tuple) and -len(cell) <= place < len(cell) else np.nan
                )
            case ast.Call(func=ast.Name(id="first"), keywords=[], args=[_, *_]):
                return self.first(node.args)
            case ast.Call(func=ast.Name(id="min" | "max" as called), keywords=[], args=[_, *_]):  # row by row
                parts = pd.concat([self.series(self.number(n)) for n in node.args], axis=1)
                return parts.min(axis=1) if called == "min" else parts.max(axis=1)
            case ast.Call(func=ast.Name(id="text"), keywords=[]):  # several joined to one text
                parts = [self.walk(n) for n in node.args]
                return sum((p.astype(str) if isinstance(p, pd.Series) else p for p in parts), pd.Series("", index=self.frame.index))
            case ast.Call(func=ast.Name(id="abs" | "round" as called), keywords=[], args=[one]):
                return abs(self.number(one)) if called == "abs" else np.round(self.number(one))
            case ast.Call(func=ast.Name(id="seconds"), keywords=[], args=[one]):  # of `00:16:07`
                return self.walk(one).map(lambda cell: clock_seconds(str(cell)))
            case ast.Call(func=ast.Name(id="total"), keywords=[], args=[one]):  # the sum of a list in a cell
                return self.walk(one).map(lambda cell: float(np.sum(cell)) if isinstance(cell, list) and cell else np.nan)
            case ast.Call(func=ast.Name(id="lower"), keywords=[], args=[one]):
                return self.walk(one).astype(str).str.lower()
        raise self.wrong("cannot be read")

    def first(self, nodes: list[ast.AST]) -> pd.Series:
        """The first of several that is stated; a column that the table lacks counts as not stated."""
        parts = []
        for node in nodes:
            try:
                parts.append(self.walk(node))
            except UserError as error:
                if not str(error).startswith("no column"):
                    raise
        if not parts:
            raise UserError(f"no column of '{self.text[:60]}'", f"one of them{nearest(self.text, self.frame.columns)}")
        found = pd.Series(np.nan, index=self.frame.index, dtype=object)
        for part in parts:
            is_blank = part.eq("") if isinstance(part, pd.Series) and not pd.api.types.is_numeric_dtype(part) else False
            found = found.where(found.notna() | is_blank, part)
        return found.infer_objects()


# Cells

MISSING = frozenset(("", "nan", "na", "n/a", "[n/a]", "none", "null", "-", "\u2014"))
KINDS = {
    "J": "energy, such as J, mJ, kJ, Wh, mWh, kWh",
    "s": "time, such as s, ms, us, min, h",
    "W": "power, such as W, mW, kW",
    "GB": "memory, such as GB, MB, GiB",
    "fraction": "a share: fraction or percent",
}
"""Our units and what may be converted to them."""

_SPELT = (
    "J", "kJ", "mJ", "MJ", "Wh", "kWh", "mWh", "MWh", "W", "kW", "mW", "MW", "s", "ms", "us", "ns", "min", "h", "GB", "MB", "kB", "GiB",
    "MiB",
)  # fmt: skip
ENERGY_UNITS = ("J", "kJ", "mJ", "MJ", "Wh", "kWh", "mWh", "MWh")
_ALIASES = {
    "%": "percent", "sec": "s", "secs": "s", "hr": "h", "hrs": "h", "mins": "min", "\u00b5s": "us", "\u03bcs": "us", "msec": "ms",
    "fraction": "dimensionless",
}  # fmt: skip
_NUMBER = re.compile(r"^([-+\u2212]?[\d.,'\u00a0\u202f ]*\d(?:[eE][-+]?\d+)?)\s*([^\d\s].*)?$")
_SPACED = re.compile(r"[-+]?\d{1,3}(?:['\u00a0\u202f ]\d{3})+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
_SPREAD = re.compile(r"\s*(?:±|\+/-|\+-)\s*[\d.,]+")
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?(?:[eE][-+]?\d+)?")
_SPACES = {ord(c): None for c in "'\u00a0\u202f "}


def spelt(unit: str) -> str:
    """The unit as pint spells it. Raises UserError for one that may be milli or mega, such as `mwh`."""
    unit = unit.strip()
    if unit in _SPELT:
        return unit
    unit = _ALIASES.get(unit.lower(), unit)
    fits = [s for s in _SPELT if s.lower() == unit.lower()]
    if len(fits) > 1:
        raise UserError(f"unit '{unit}' may be {' or '.join(fits)}", "a unit spelt with its capitals", f"say {' or '.join(fits)}")
    return fits[0] if fits else unit.lower() if unit.isalpha() and not unit.isupper() else unit


@cache
def factor(unit: str, wanted: str) -> float | None:
    """What a figure in `unit` is multiplied by to be in `wanted` (a key of KINDS); None where it is no such unit.

    Raises UserError for a spelling that fits two units.
    """
    wanted = "dimensionless" if wanted == "fraction" else wanted
    name = spelt(unit)
    if name == wanted:
        return 1.0
    if not re.fullmatch(r"[A-Za-z_ ]{1,24}", name):
        return None
    try:
        import pint
    except ModuleNotFoundError:
        raise UserError(f"unit '{unit}'", "the library pint, which converts units", "pip install 'eai[importers]'") from None
    try:
        return float(pint.application_registry.Quantity(1.0, name).to(wanted).magnitude)
    except (pint.errors.PintError, AttributeError, ValueError, TypeError, SyntaxError, AssertionError):
        return None


def is_unit(text: str) -> bool:
    """Whether a text is a unit, of one of KINDS or of a rate such as `tok/s`."""
    with suppress(UserError):
        is_rate = "/" in text and text.lower() not in MISSING and not re.search(r"\d/|/\d", text)
        return is_rate or text == "%" or any(factor(text, kind) is not None for kind in KINDS)
    return True


def conversion(unit: str, wanted: str, name: str) -> float:
    """`factor`, for a unit that somebody stated for `name`. Raises UserError where it is no unit of that kind."""
    found = factor(str(unit), wanted)
    if found is None:
        raise UserError(f"unit '{unit}' of {name}", f"a unit of {KINDS[wanted]}", "correct the mapping")
    return found


def plain_number(text: str) -> tuple[float, str]:
    """The number in a cell and what follows it: `1,234.5 Wh` is (1234.5, "Wh"), `25 %` is (25, "%"), `12.4 ± 0.3` 12.4, text (nan, "").

    A comma that groups anything but three digits makes the cell unreadable: decimal commas were mended as the file was read.
    """
    match = _NUMBER.match(_SPREAD.sub("", text.strip()))
    if not match:
        return float("nan"), ""
    digits = match[1].replace("\u2212", "-")
    if _SPACES.keys() & set(map(ord, digits)) and not _SPACED.fullmatch(digits):  # two numbers in one cell
        return float("nan"), ""
    digits = digits.translate(_SPACES)
    if "," in digits:
        if not _GROUPED.fullmatch(digits):
            return float("nan"), ""
        digits = digits.replace(",", "")
    try:
        return float(digits), (match[2] or "").strip()
    except ValueError:
        return float("nan"), ""


def numbers(cells: pd.Series, wanted: str = "", unit: str = "", name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """A column in `wanted` (a key of KINDS, "" for a plain number), and the positions of cells that hold something else.

    `unit` is that of cells which carry none; a unit in a cell goes before it. Infinities count as unreadable.
    """
    values = floats(cells) * (conversion(unit, wanted, name) if wanted and unit else 1.0)
    odd = np.flatnonzero(~np.isfinite(values))
    texts = cells.iloc[odd].astype(object)
    odd = odd[~texts.isna().to_numpy() & ~texts.astype(str).str.strip().str.lower().isin(MISSING).to_numpy()]
    parsed = {text: _one(text, wanted, unit) for text in cells.iloc[odd].astype(str).unique()}
    values[odd] = [parsed[text] for text in cells.iloc[odd].astype(str)]
    return values, odd[np.isnan(values[odd])]


def _one(text: str, wanted: str, unit: str) -> float:
    """One cell that is no plain number, in the wanted unit; NaN where it cannot be read."""
    if wanted == "s" and ":" in text:
        return clock_seconds(text)
    value, own = plain_number(text)
    if not np.isfinite(value) or (own and not wanted):
        return float("nan")
    times = factor(own or unit, wanted) if own or unit else 1.0
    return value * times if times is not None else float("nan")


def numeric(cells: pd.Series) -> tuple[np.ndarray, Counter, np.ndarray]:
    """A column as numbers in its commonest unit, how many cells stood in which unit ("" = none), and positions of unreadable cells."""
    values = floats(cells)
    odd = np.flatnonzero(np.isnan(values))
    odd = odd[~cells.iloc[odd].astype(str).str.strip().str.lower().isin(MISSING).to_numpy(dtype=bool)]
    seen: Counter = Counter({"": int(np.isfinite(values).sum())})
    if not len(odd):
        return values, seen, odd
    texts = cells.iloc[odd].to_numpy(dtype=object)
    parsed = {t: (clock_seconds(t), "s") if ":" in t else plain_number(t) for t in pd.unique(texts)}
    seen.update(u for u in (parsed[t][1] for t in texts if np.isfinite(parsed[t][0])))
    commonest = next((u for u, _ in seen.most_common() if u), "")
    values[odd] = [_converted(*parsed[t], commonest) for t in texts]
    return values, seen, odd[[not np.isfinite(parsed[t][0]) for t in texts]]


def _converted(value: float, unit: str, wanted: str) -> float:
    """A value brought to the wanted unit; NaN where the two have nothing in common."""
    if unit == wanted or not unit:
        return value
    for base in KINDS:
        own, other = factor(unit, base), factor(wanted, base)
        if own is not None and other is not None:
            return value * own / other
    return float("nan")


_HEADER_UNIT = re.compile(r".*?[\[(]\s*([^\])]*?)\s*[\])]\s*")
_SUFFIXES = ("kWh", "MWh", "mWh", "Wh", "kJ", "mJ", "MJ", "J", "ms", "us", "ns", "min", "h", "s", "kW", "mW", "W", "GB", "MB", "GiB", "MiB")


def header_unit(name: str, wanted: str) -> str:
    """The unit of kind `wanted` that a header states, in brackets or as its last part (`elapsed_ms`); "" where it states none.

    Raises UserError where it may be two (`energy_mwh`).
    """
    match = _HEADER_UNIT.fullmatch(str(name))
    parts = [match[1]] if match else []
    parts += [str(name).rsplit("_", 1)[-1]] if "_" in str(name) else []
    for part in parts:
        if part.lower() in ("seconds", "second", "joules", "joule", "watts", "watt", "milliseconds", "minutes", "hours", "percent", "pct"):
            part = {"pct": "percent"}.get(part.lower(), part.lower())
        elif not (match and part == match[1]) and part.lower() not in {s.lower() for s in _SUFFIXES}:
            continue
        if part and factor(part, wanted) is not None:
            return part
    return ""
