"""One table, ready to be checked: keys as text, quantities in the units of `quantities`, and how finely each was printed."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.claims import quantities
from eai.claims.printed import half_steps
from eai.errors import UserError

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
