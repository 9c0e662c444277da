"""Cells that people and tools wrote, brought to plain numbers: units by pint, thousands separators, decimal commas, `00:16:07`.

mWh and MWh are a billion apart and differ by a capital: a unit is read as it is spelt, and a spelling that fits both is refused.
"""

import re
from collections import Counter
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd

from eai.errors import UserError
from eai.expressions import clock_seconds, floats

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


@cache
def _registry():
    import pint

    return pint.UnitRegistry()


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
        return float(_registry().Quantity(1.0, name).to(wanted).magnitude)
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
