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
from eai.importers import cells, mappings, names
from eai.importers.reading import FILE

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
        numeric = column in ("batch_size", "input_tokens", "output_tokens", "params_b", "power_limit_w", "num_gpus", "tensor_parallel")
        out &= _relation(keys[column], lambda a, b, n=numeric: not a or not b or a == b or (not n and same_or_less_specific(a, b)))
    return out


def differ(keys: pd.DataFrame) -> np.ndarray:
    """Which pairs of rows are different configurations for certain: a key that both state differs."""
    return ~compatible(keys)


def both_state(column: pd.Series) -> np.ndarray:
    """Which pairs of rows both state this key."""
    known = (column.astype(object) != "").to_numpy()
    return known[:, None] & known[None, :]


SET_SPREAD = 0.01


def is_set(values: np.ndarray) -> bool:
    """Whether figures are one value that was set, such as the length of a load test: three or more within 1 % of each other."""
    known = values[np.isfinite(values)]
    return len(known) >= 3 and known.min() > 0 and np.ptp(known) <= SET_SPREAD * known.max()


LARGEST = 1e100  # nothing that is measured; larger figures and infinities count as not stated


@dataclass(frozen=True)
class Table:
    """`keys` (categorical text, "" = not stated), `values` and `half` (printed half-steps), row for row.

    `lines` holds each row's line in its file, header on line 1; `others` the columns that mean nothing here and may be factors (text or few
    values); `infinite` the rows of each quantity that are no finite figure.
    """

    name: str
    keys: pd.DataFrame
    values: pd.DataFrame
    half: pd.DataFrame
    lines: np.ndarray = field(repr=False)
    others: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    infinite: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

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
            self.others[part].reset_index(drop=True) if len(self.others.columns) else pd.DataFrame(),
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


def mapped(frame: pd.DataFrame, columns: dict[str, object], units: dict[str, str] | None = None) -> pd.DataFrame:
    """The table with what a mapping says of it: our name -> their column or an expression. An explicit mapping beats a recognised header.

    Raises UserError for a name that is none of ours and for columns that are not there.
    """
    known = {*quantities.QUANTITIES, *quantities.KEYS}
    found, taken = {}, set()
    for ours, theirs in columns.items():
        if ours not in known:
            turned = " (our name stands left, theirs right)" if str(theirs) in known else ""
            raise UserError(f"the mapping names '{ours}'{turned}", f"a known name{mappings.nearest(ours, known)}", "correct the mapping")
        series = mappings.evaluate(theirs, frame)
        kind, multiple = names.unit_of(ours)
        unit = str((units or {}).get(ours, ""))
        if not unit and kind and (header := mappings.column_of(theirs, frame)):
            unit = cells.header_unit(header, kind)
        if unit:
            series = pd.Series(cells.numbers(series, kind, unit, ours)[0] / multiple, index=frame.index)
        found[ours] = series
        taken |= {theirs} if theirs in frame.columns else set()
    rest = [c for c in frame if c not in taken and c not in found and not names.ambiguous(c) and names.our_column(str(c))[0] not in found]
    return pd.DataFrame(found, index=frame.index).join(frame[rest])


def _meant(frame: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Each quantity's column and factor. Raises UserError where two columns mean one quantity: a plain name beats a synonym."""
    found: dict[str, tuple[int, str, float]] = {}
    for column in map(str, frame.columns):
        if names.ambiguous(column):
            continue
        base, factor = names.our_column(column)
        if base not in quantities.QUANTITIES:
            continue
        rank = 2 if factor != 1 else int(re.sub(r"[^a-z0-9.]+", "_", column.lower()).strip("_") != base)
        if base in found and found[base][0] == rank < 2:
            raise UserError(
                f"columns '{found[base][1]}' and '{column}' both mean {base}", "one column a quantity", f"say in a mapping which is {base}"
            )
        if base not in found or rank < found[base][0] or pd.isna(frame[found[base][1]]).all():
            found[base] = (rank, column, factor)
    return {base: (column, factor) for base, (_, column, factor) in found.items()}


def build(frame: pd.DataFrame, name: str, lines: np.ndarray | None = None) -> Table:
    """The table behind a data frame, its columns recognised by their headers; `lines` are the rows' lines in their file.

    Raises UserError if two columns mean the same quantity, or no quantity is recognised.
    """
    frame = frame.reset_index(drop=True)
    keys, values, half, infinite = {}, {}, {}, {}
    location = pd.factorize(frame["location"])[0] if "location" in frame and frame["location"].nunique() > 1 else None
    for column in frame.columns:
        target = "" if names.ambiguous(str(column)) else names.our_column(str(column))[0]
        if target in quantities.KEYS and (target not in keys or target == column):
            keys[target] = _text(frame[column])
    for base, (column, factor) in _meant(frame).items():
        raw = cells.floats(frame[column])
        infinite[base] = np.flatnonzero(np.abs(raw) >= LARGEST)
        raw[~(np.abs(raw) < LARGEST)] = np.nan
        values[base] = raw * factor
        half[base] = _steps(raw, location) * factor
    if not values:
        raise UserError(
            f"no column of {name} is a quantity that the checks know ({', '.join(str(c)[:30] for c in frame.columns[:8])})",
            "columns such as energy_wh, power_w, throughput_tok_s, accuracy, eor",
            "name them in a mapping file: energy_j: their column",
        )
    _fractions(values, half)
    index = range(len(frame))
    numbers = np.arange(len(frame)) + 2 if lines is None else lines
    others = {str(c): _text(frame[c]) for c in frame.columns if _is_other(str(c), frame[c])}
    return Table(
        name, pd.DataFrame(keys, index=index), pd.DataFrame(values, index=index), pd.DataFrame(half, index=index), numbers,
        pd.DataFrame(others, index=index), infinite,
    )  # fmt: skip


def _is_other(name: str, column: pd.Series) -> bool:
    """Whether a column means nothing here and has so few values that it may be a factor."""
    target = "" if names.ambiguous(name) else names.our_column(name)[0]
    if target in quantities.KEYS or target in quantities.QUANTITIES or name.startswith(FILE) or name in ("source", "_table"):
        return False
    return 2 <= column.iloc[:MOST_COMPARED].astype(str).nunique() <= max(2, min(50, len(column) // 2))


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
