"""Cells that a person typed: thousands separators, percent signs, decimal commas and units, brought to plain numbers."""

import re
from collections import Counter

import numpy as np
import pandas as pd

MISSING = ("", "nan", "na", "n/a", "none", "null", "-", "\u2014")
_NUMBER = re.compile(r"^([-+\u2212]?[\d.,'\u00a0\u202f ]*\d(?:[eE][-+]?\d+)?)\s*([^\d\s].*)?$")
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?(?:[eE][-+]?\d+)?")
_SPACES = {ord(c): None for c in "'\u00a0\u202f "}
# What a unit is a multiple of; Wh and J are brought to each other as well.
_UNITS = {
    "j": ("j", 1.0),
    "kj": ("j", 1e3),
    "mj": ("j", 1e-3),
    "wh": ("j", 3600.0),
    "kwh": ("j", 3.6e6),
    "mwh": ("j", 3.6),
    "w": ("w", 1.0),
    "kw": ("w", 1e3),
    "mw": ("w", 1e-3),
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "%": ("%", 1.0),
    "tok/s": ("tok/s", 1.0),
    "tokens/s": ("tok/s", 1.0),
}


def plain_number(text: str, decimal_comma: bool = False) -> tuple[float, str]:
    """The number in a cell and what follows it: `1,234.5 Wh` is (1234.5, "wh"), `25 %` is (25, "%"), text is (nan, "").

    `12,5` is a number only where commas are decimal; a comma that groups anything but three digits makes the cell unreadable.
    """
    match = _NUMBER.match(text.strip())
    if not match:
        return float("nan"), ""
    digits = match[1].replace("\u2212", "-").translate(_SPACES)
    if decimal_comma and digits.count(",") == 1:
        digits = digits.replace(".", "").replace(",", ".")
    elif "," in digits:
        if not _GROUPED.fullmatch(digits):
            return float("nan"), ""
        digits = digits.replace(",", "")
    try:
        return float(digits), (match[2] or "").strip().lower()
    except ValueError:
        return float("nan"), ""


def _converted(value: float, unit: str, wanted: str) -> float:
    """A value brought to the wanted unit; NaN where the two have nothing in common."""
    own, base = _UNITS.get(unit), _UNITS.get(wanted)
    if unit == wanted or not unit or base is None or own is None:
        return value if unit == wanted or not unit else float("nan")
    return value * own[1] / base[1] if own[0] == base[0] else float("nan")


def numeric(cells: pd.Series, decimal_comma: bool) -> tuple[np.ndarray, Counter, np.ndarray]:
    """A column as numbers in its commonest unit, how many cells stood in which unit ("" = none), and positions of unreadable cells."""
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
    odd = np.flatnonzero(np.isnan(values))
    odd = odd[~cells.iloc[odd].str.strip().str.lower().isin(MISSING).to_numpy(dtype=bool)]
    seen: Counter = Counter({"": int(np.isfinite(values).sum())})
    if not len(odd):
        return values, seen, odd
    texts = cells.iloc[odd].to_numpy(dtype=object)
    parsed = {t: plain_number(t, decimal_comma) for t in pd.unique(texts)}
    seen.update(u for u in (parsed[t][1] for t in texts if np.isfinite(parsed[t][0])))
    commonest = next((u for u, _ in seen.most_common() if u), "")
    values[odd] = [_converted(*parsed[t], commonest) for t in texts]
    return values, seen, odd[[not np.isfinite(parsed[t][0]) for t in texts]]
