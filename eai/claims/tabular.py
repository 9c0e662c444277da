"""How finely figures are printed, and so what range of true values each may stand for.

Only numbers reach a reader of a data frame, not their text: `0.0170` is 0.017. The decimals and the significant digits of a
whole column give the step back, because a column is printed in one format.

When two rows speak of the same configuration: names that are equal, not stated, or one a less specific form of the other.

One table, ready to be checked: keys as text, quantities in the units of `quantities`, and how finely each was printed.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.claims import quantities
from eai.errors import UserError

MOST_DECIMALS = 12
FULL_PRECISION = 15


def _fewest(values: np.ndarray, most: int) -> int:
    """The fewest decimals that reproduce every value, at most `most`."""
    for decimals in range(most):
        if np.all(np.abs(np.round(values, decimals) - values) <= 1e-12 * np.maximum(np.abs(values), 1e-3)):
            return decimals
    return most


def half_steps(values: np.ndarray) -> np.ndarray:
    """Half the printed step of each value: a figure printed as 42.29 stands for 42.285 to 42.295, so 0.005.

    The step is the coarser of the column's last decimal and of its last significant digit, which serves columns printed with
    fixed decimals and columns printed with, say, six digits. Unrounded floating point gives 0; NaN stays NaN.
    """
    out = np.full(len(values), np.nan)
    known = np.isfinite(values)
    x = values[known]
    if not len(x):
        return out
    decimals = _fewest(x, MOST_DECIMALS)
    size = np.floor(np.log10(np.abs(np.where(x == 0, 1.0, x))))
    digits = 1 + _fewest(x / 10.0**size, FULL_PRECISION - 1)
    step = np.maximum(10.0**-decimals, np.where(x == 0, 0.0, 10.0 ** (size + 1 - digits)))
    out[known] = 0.0 if decimals >= MOST_DECIMALS and digits >= FULL_PRECISION - 2 else step / 2
    return out


def significant_digits(value: float, half_step: float) -> int:
    """How many significant digits a figure shows: 42.29 has 4, 0.0170 (printed to 0.0001) has 3."""
    if not np.isfinite(value) or value == 0:
        return 0
    if half_step <= 0:
        return FULL_PRECISION
    return max(0, int(np.floor(np.log10(abs(value)) + 1e-12) - np.floor(np.log10(2 * half_step) + 1e-9)) + 1)


_BOUNDARY = re.compile(r"[-_ .]")
MOST_COMPARED = 1500


def same_or_less_specific(a: str, b: str) -> bool:
    """Whether one name is the other, or its beginning up to a separator: `a800` and `a800_sxm_80gb`, never `rtx4090` and `rtx4090d`."""
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    return bool(short) and long.startswith(short) and bool(_BOUNDARY.match(long[len(short) :]))


def _relation(column: pd.Series, test) -> np.ndarray:
    """A square matrix over the rows of `column`: `test` of each pair of its distinct values."""
    codes, names = pd.factorize(column.astype(object))
    table = np.array([[test(str(a), str(b)) for b in names] for a in names])
    return table[np.ix_(codes, codes)]


def compatible(keys: pd.DataFrame) -> np.ndarray:
    """Which pairs of rows may be the same configuration: no key that both state differs. At most MOST_COMPARED rows."""
    out = np.ones((len(keys), len(keys)), dtype=bool)
    for column in keys:
        numeric = column in ("batch_size", "input_tokens", "output_tokens", "params_b", "power_limit_w")
        out &= _relation(keys[column], lambda a, b, n=numeric: not a or not b or a == b or (not n and same_or_less_specific(a, b)))
    return out


def differ(keys: pd.DataFrame) -> np.ndarray:
    """Which pairs of rows are different configurations for certain: a key that both state differs."""
    return ~compatible(keys)


def both_state(column: pd.Series) -> np.ndarray:
    """Which pairs of rows both state this key."""
    known = (column.astype(object) != "").to_numpy()
    return known[:, None] & known[None, :]


LARGEST = 1e100  # nothing that is measured; larger figures and infinities count as not stated


@dataclass(frozen=True)
class Table:
    """`keys` (categorical text, "" = not stated), `values` and `half` (printed half-steps), row for row.

    `lines` holds each row's line in its file, header on line 1.
    """

    name: str
    keys: pd.DataFrame
    values: pd.DataFrame
    half: pd.DataFrame
    lines: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.lines)

    def has(self, *names: str) -> bool:
        """Whether every named quantity or key has at least one value."""
        return all((n in self.values and self.values[n].notna().any()) or (n in self.keys and (self.keys[n] != "").any()) for n in names)

    def column(self, name: str) -> np.ndarray:
        """The values of a quantity, NaN where not stated."""
        return self.values[name].to_numpy() if name in self.values else np.full(len(self), np.nan)

    def step(self, name: str) -> np.ndarray:
        """The printed half-steps of a quantity."""
        return self.half[name].to_numpy() if name in self.half else np.full(len(self), np.nan)

    def key(self, name: str) -> np.ndarray:
        """The text of a key, "" where not stated."""
        return self.keys[name].astype(object).to_numpy() if name in self.keys else np.full(len(self), "", dtype=object)

    def factors(self) -> list[str]:
        """The key columns that describe a configuration and are stated somewhere in this table."""
        return [f for f in quantities.FACTORS if f in self.keys and (self.keys[f] != "").any()]

    def groups(self, names: list[str]) -> np.ndarray:
        """A number a row that is the same for rows with the same values of `names`."""
        if not names:
            return np.zeros(len(self), dtype=np.int64)
        code = np.zeros(len(self), dtype=np.int64)
        for n in names:
            part = self.keys[n].cat.codes.to_numpy().astype(np.int64)
            code = pd.factorize(code * (part.max() + 2) + part)[0].astype(np.int64)
        return code

    def take(self, mask: np.ndarray) -> "Table":
        """The rows where `mask` is true."""
        part = np.asarray(mask)
        return Table(
            self.name,
            self.keys[part].reset_index(drop=True),
            self.values[part].reset_index(drop=True),
            self.half[part].reset_index(drop=True),
            self.lines[part],
        )


def _text(column: pd.Series) -> pd.Series:
    """Key texts as a categorical: numbers without a trailing .0, missing as the empty text."""
    codes, uniques = pd.factorize(column, use_na_sentinel=True)
    words = [f"{u:g}" if isinstance(u, (float, np.floating)) else str(u).strip() for u in uniques]
    known = np.array([*words, ""], dtype=object)
    return pd.Series(pd.Categorical(known[codes]), index=column.index)


def _steps(values: np.ndarray, location: np.ndarray | None) -> np.ndarray:
    """Printed half-steps, column by column of each source: two documents may print the same quantity differently."""
    if location is None:
        return half_steps(values)
    out = np.full(len(values), np.nan)
    for code in np.unique(location):
        rows = location == code
        out[rows] = half_steps(values[rows])
    return out


def build(frame: pd.DataFrame, name: str, mapping: dict[str, str] | None = None, lines: np.ndarray | None = None) -> Table:
    """The table behind a data frame; `mapping` gives our name for a column of theirs, the rest is recognized by its header.
    `lines` are the rows' lines in their file where rows were left out.

    Raises UserError if a mapped column is absent, two columns mean the same quantity, or no quantity is recognized.
    """
    mapping = mapping or {}
    if absent := [c for c in mapping if c not in frame.columns]:
        raise UserError(
            f"the mapping names column '{absent[0]}'", f"one of {', '.join(map(str, frame.columns))}", "correct the mapping file"
        )
    keys, values, half, origin = {}, {}, {}, {}
    location = pd.factorize(frame["location"])[0] if "location" in frame and frame["location"].nunique() > 1 else None
    for column in frame.columns:
        target = mapping.get(column) or quantities.plain_name(column)
        if target in quantities.KEYS:
            keys.setdefault(target, _text(frame[column].reset_index(drop=True)))
        base, factor = quantities.CONVERSIONS.get(target, (target, 1.0))
        if base not in quantities.QUANTITIES:
            continue
        if base in origin and base == target and column not in mapping:
            raise UserError(
                f"columns '{origin[base]}' and '{column}' both mean {base}",
                "one column a quantity",
                "name the right one in the mapping file",
            )
        raw = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
        if base in origin and not np.isnan(values[base]).all():
            continue
        raw[~(np.abs(raw) < LARGEST)] = np.nan
        origin[base] = column
        values[base] = raw * factor
        half[base] = _steps(raw, location) * factor
    if not values:
        raise UserError(
            f"no column of {name} is a quantity that the checks know ({', '.join(map(str, frame.columns[:8]))})",
            "columns such as energy_wh, power_w, throughput_tok_s, accuracy, eor",
            "name the columns in a mapping file",
        )
    _fractions(values, half)
    index = range(len(frame))
    numbers = np.arange(len(frame)) + 2 if lines is None else lines
    return Table(name, pd.DataFrame(keys, index=index), pd.DataFrame(values, index=index), pd.DataFrame(half, index=index), numbers)


def _fractions(values: dict[str, np.ndarray], half: dict[str, np.ndarray]) -> None:
    """An `accuracy` column whose every value is above 1 is in percent: brought to a fraction (a mixed one is left for a check)."""
    if "accuracy" in values:
        x = values["accuracy"]
        known = x[np.isfinite(x)]
        if len(known) and (known > 1.0).all():
            values["accuracy"], half["accuracy"] = x / 100, half["accuracy"] / 100


def stack(tables: list[Table], name: str) -> tuple[Table, np.ndarray]:
    """Several tables as one (keys and quantities that a table lacks are not stated), and each row's table name."""
    keys = pd.concat([t.keys.astype(object) for t in tables], ignore_index=True).fillna("").astype("category")
    for column in keys:
        keys[column] = keys[column].astype("category")
    values = pd.concat([t.values for t in tables], ignore_index=True)
    half = pd.concat([t.half for t in tables], ignore_index=True)
    owner = np.repeat([t.name for t in tables], [len(t) for t in tables])
    return Table(name, keys, values, half, np.concatenate([t.lines for t in tables])), owner
