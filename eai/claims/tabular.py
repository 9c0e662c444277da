"""One table, ready to be checked: keys as coded text, quantities in the units of `quantities`, and how finely each was printed.

Only numbers reach a reader of a data frame, not their text: `0.0170` is 0.017. The decimals and the significant digits of a whole column
give the printed step back, because a column is printed in one format. What is costly (steps, logarithms) is computed when a check asks.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.claims.quantities import COUNTS, FACTORS, KEYS, KNOWN, QUANTITIES
from eai.errors import UserError
from eai.importers import cells, mappings, names
from eai.importers.reading import FILE

MOST_DECIMALS = 12
FULL_PRECISION = 15
SAMPLED = 512


def _fewest(values: np.ndarray, most: int, least: int = 0) -> int:
    """The fewest decimals from `least` on that reproduce every value, at most `most`; a sample says where to begin."""
    if len(values) > 2 * SAMPLED:
        least = _fewest(values[:: len(values) // SAMPLED], most, least)
    for decimals in range(least, most):
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
    x = np.where(values[known] == 0, 1.0, np.abs(values[known]))
    if not len(x):
        return out
    decimals = _fewest(values[known], MOST_DECIMALS)
    largest = int(np.floor(np.log10(x.max())))
    sample = x[:: max(1, len(x) // SAMPLED)]
    digits = 1 + _fewest(sample / 10.0 ** np.floor(np.log10(sample)), FULL_PRECISION - 1)
    if decimals < MOST_DECIMALS and digits >= largest + 1 + decimals:  # the last decimal is the coarser everywhere
        out[known] = 10.0**-decimals / 2
        return out
    size = np.floor(np.log10(x))
    digits = 1 + _fewest(x / 10.0**size, FULL_PRECISION - 1, digits - 1)
    step = np.maximum(10.0**-decimals, np.where(values[known] == 0, 0.0, 10.0 ** (size + 1 - digits)))
    out[known] = 0.0 if decimals >= MOST_DECIMALS and digits >= FULL_PRECISION - 2 else step / 2
    return out


def significant_digits(values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """How many significant digits figures show: 42.29 has 4, 0.0170 (printed to 0.0001) has 3."""
    with np.errstate(all="ignore"):
        shown = np.floor(np.log10(np.abs(values)) + 1e-12) - np.floor(np.log10(2 * half) + 1e-9) + 1
    return np.where(np.isfinite(values) & (values != 0), np.where(half <= 0, FULL_PRECISION, np.maximum(shown, 0)), 0)


_BOUNDARY = re.compile(r"[-_ .]")
MOST_COMPARED = 1500


def same_or_less_specific(a: str, b: str) -> bool:
    """Whether one name is the other, or its beginning up to a separator: `a800` and `a800_sxm_80gb`, never `rtx4090` and `rtx4090d`."""
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    return bool(short) and long.startswith(short) and bool(_BOUNDARY.match(long[len(short) :]))


def _alike(texts: np.ndarray, is_count: bool) -> np.ndarray:
    """Which pairs of distinct texts may mean the same: equal, not stated, or (names) one less specific than the other."""
    stated = texts != ""
    out = np.eye(len(texts), dtype=bool) | ~stated[:, None] | ~stated[None, :]
    place = {text: i for i, text in enumerate(texts)}
    for i, text in enumerate(() if is_count else texts):
        for match in _BOUNDARY.finditer(text):
            if match.start() and (j := place.get(text[: match.start()])) is not None:
                out[i, j] = out[j, i] = True
    return out


SET_SPREAD = 0.01


def is_set(values: np.ndarray) -> bool:
    """Whether figures are one value that was set, such as the length of a load test: three or more within 1 % of each other."""
    known = values[np.isfinite(values)]
    return len(known) >= 3 and known.min() > 0 and np.ptp(known) <= SET_SPREAD * known.max()


LARGEST = 1e100  # nothing that is measured; larger figures and infinities count as not stated


@dataclass(frozen=True, eq=False)
class Table:
    """`words`: each key's codes and distinct texts ("" = not stated, the last); `printed`: each quantity's figures as they stand and what
    they are multiplied by; row for row.

    `lines` holds each row's line in its file, header on line 1; `others` the columns that mean nothing here and may be factors (text or few
    values); `infinite` the rows of each quantity that are no finite figure; `limits` what is known of boards.
    """

    name: str
    words: dict[str, tuple[np.ndarray, np.ndarray]]
    printed: dict[str, tuple[np.ndarray, float]]
    lines: np.ndarray
    others: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    infinite: dict[str, np.ndarray] = field(default_factory=dict)
    limits: pd.DataFrame | None = None
    cache: dict = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.lines)

    def kept(self, key, make):
        """What `make` computes, once for this table."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def _has(self, name: str) -> bool:
        if name in self.words:
            codes, texts = self.words[name]
            return bool((codes != len(texts) - 1).any())
        return name in self.printed and bool(np.isfinite(self.printed[name][0]).any())

    def has(self, *names: str) -> bool:
        """Whether every named quantity or key has at least one value."""
        return all(
            self.kept(("has", n), lambda n=n: self._has(n) or (n in self.printed and np.isfinite(self.printed[n][0]).any())) for n in names
        )

    def first(self, *names: str) -> str | None:
        """The first of these that the table has."""
        return next((n for n in names if self.has(n)), None)

    def column(self, name: str) -> np.ndarray:
        """The values of a quantity, NaN where not stated."""
        if name not in self.printed:
            return self.kept("nan", lambda: np.full(len(self), np.nan))
        return self.kept(("column", name), lambda: self.printed[name][0] * self.printed[name][1])

    def step(self, name: str) -> np.ndarray:
        """The printed half-steps of a quantity, column by column of each place: two documents may print the same quantity differently."""
        if name not in self.printed:
            return self.column(name)
        return self.kept(("step", name), lambda: self._steps(*self.printed[name]))

    def _steps(self, raw: np.ndarray, factor: float) -> np.ndarray:
        if "location" not in self.words or len(self.words["location"][1]) <= 2:
            return half_steps(raw) * factor
        codes, out = self.words["location"][0], np.full(len(raw), np.nan)
        for rows in np.split(np.argsort(codes, kind="stable"), np.flatnonzero(np.diff(np.sort(codes))) + 1):
            out[rows] = half_steps(raw[rows])
        return out * factor

    def key(self, name: str) -> np.ndarray:
        """The text of a key, "" where not stated."""
        if name not in self.words:
            return self.kept("blank", lambda: np.full(len(self), "", dtype=object))
        codes, texts = self.words[name]
        return self.kept(("key", name), lambda: texts[codes])

    def is_in(self, name: str, wanted) -> np.ndarray:
        """Which rows have one of the wanted texts; `wanted` may be a test of one text."""
        if name not in self.words:
            return np.zeros(len(self), bool)
        codes, texts = self.words[name]
        return np.array([wanted(t) if callable(wanted) else t in wanted for t in texts], bool)[codes]

    def factors(self, *without: str) -> list[str]:
        """The key columns that describe a configuration and are stated somewhere in this table."""
        return [f for f in FACTORS if f in self.words and f not in without and self.has(f)]

    def groups(self, names: list[str]) -> np.ndarray:
        """A number a row that is the same for rows with the same values of `names`."""
        return self.kept(("groups", *names), lambda: together([self.words[n][0] for n in names], len(self)))

    def compatible(self, names: list[str], at: np.ndarray) -> np.ndarray:
        """Which pairs of the rows `at` may be the same configuration: no key that both state differs. At most MOST_COMPARED rows."""
        out = np.ones((len(at), len(at)), dtype=bool)
        for name in (n for n in names if n in self.words):
            codes, local = np.unique(self.words[name][0][at], return_inverse=True)
            out &= _alike(self.words[name][1][codes], name in COUNTS)[np.ix_(local, local)]
        return out

    def both_state(self, name: str, at: np.ndarray) -> np.ndarray:
        """Which pairs of the rows `at` both state this key."""
        known = self.key(name)[at] != ""
        return known[:, None] & known[None, :]


def together(codes: list[np.ndarray], rows: int) -> np.ndarray:
    """One code a row for several columns of codes together."""
    out = np.zeros(rows, dtype=np.int64)
    for part in codes:
        out = pd.factorize(out * (int(part.max(initial=0)) + 1) + part)[0].astype(np.int64)
    return out


def _coded(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column as codes and distinct texts: numbers without a trailing .0, missing as the empty text, which stands last."""
    try:
        codes, uniques = pd.factorize(column, use_na_sentinel=True)
    except TypeError:  # lists, of nested JSON
        codes, uniques = pd.factorize(column.astype(str), use_na_sentinel=True)
    texts = [f"{u:g}" if isinstance(u, float | np.floating) else str(u).strip() for u in uniques]
    if "" in texts or len(set(texts)) < len(texts):
        place = {t: i for i, t in enumerate(dict.fromkeys(t for t in texts if t))}
        codes = np.array([*(place.get(t, len(place)) for t in texts), len(place)])[codes]
        return codes, np.array([*place, ""], dtype=object)
    return np.where(codes < 0, len(texts), codes), np.array([*texts, ""], dtype=object)


def mapped(frame: pd.DataFrame, columns: dict[str, object], units: dict[str, str] | None = None) -> pd.DataFrame:
    """The table with what a mapping says of it: our name -> their column or an expression. An explicit mapping beats a recognised header.

    Raises UserError for a name that is none of ours and for columns that are not there.
    """
    found, taken = {}, set()
    for ours, theirs in columns.items():
        if ours not in KNOWN:
            turned = " (our name stands left, theirs right)" if str(theirs) in KNOWN else ""
            raise UserError(f"the mapping names '{ours}'{turned}", f"a known name{mappings.nearest(ours, KNOWN)}", "correct the mapping")
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
    doubtful = set()
    for column in map(str, frame.columns):
        base, factor = ("", 1.0) if names.ambiguous(column) else names.our_column(column)
        if base not in QUANTITIES:
            continue
        rank = 2 if factor != 1 else int(re.sub(r"[^a-z0-9.]+", "_", column.lower()).strip("_") != base)
        rank = rank if names.spelt_out(column) == (base, factor) else 3  # read by its words only
        if base in found and found[base][0] == rank < 2:
            both = f"columns '{found[base][1]}' and '{column}' both mean {base}"
            raise UserError(both, "one column a quantity", f"say in a mapping which is {base}")
        if base in found and found[base][0] == rank == 3:
            doubtful.add(base)
        if base not in found or rank < found[base][0] or pd.isna(frame[found[base][1]]).all():
            found[base] = (rank, column, factor)
    return {base: (column, factor) for base, (rank, column, factor) in found.items() if not (rank == 3 and base in doubtful)}


def build(frame: pd.DataFrame, name: str, lines: np.ndarray | None = None, limits: pd.DataFrame | None = None) -> Table:
    """The table behind a data frame, its columns recognised by their headers; `lines` are the rows' lines in their file.

    Raises UserError if two columns mean the same quantity, or no quantity is recognised.
    """
    frame = frame.reset_index(drop=True)
    words, printed, infinite = {}, {}, {}
    for column in frame.columns:
        target = "" if names.ambiguous(str(column)) else names.our_column(str(column))[0]
        if target in KEYS and (target not in words or target == column):
            words[target] = _coded(frame[column])
    for base, (column, factor) in _meant(frame).items():
        raw = cells.floats(frame[column])
        infinite[base] = np.abs(raw) >= LARGEST
        raw[infinite[base]] = np.nan
        shown = raw[np.isfinite(raw)] * factor if base == "accuracy" else raw[:0]
        if len(shown) and (shown > 1.0).all():  # every score is above 1: in percent; a mixed column is left for a check
            factor /= 100
        printed[base] = (raw, factor)
    if not printed:
        raise UserError(
            f"no column of {name} is a quantity that the checks know ({', '.join(str(c)[:30] for c in frame.columns[:8])})",
            "columns such as energy_wh, power_w, throughput_tok_s, accuracy, eor",
            "name them in a mapping file: energy_j: their column",
        )
    numbers = np.arange(len(frame)) + 2 if lines is None else lines
    others = {str(c): _coded(frame[c].astype(str)) for c in frame.columns if _is_other(str(c), frame[c])}
    return Table(name, words, printed, numbers, others, infinite, limits)


_MARK = re.compile(r"date|stamp|time|(^|[_. ])id$|uuid|note|comment|remark|path|file|url|doubt|licence|commit")


def _is_other(name: str, column: pd.Series) -> bool:
    """Whether a column means nothing here and has so few values that it may be a factor."""
    target = "" if names.ambiguous(name) else names.our_column(name)[0]
    if target in KNOWN or name.startswith(FILE) or name in ("source", "_table"):
        return False
    part = column.iloc[:MOST_COMPARED].astype(str)
    is_name = not pd.api.types.is_numeric_dtype(column) and np.isnan(cells.floats(part)).all() and not _MARK.search(name.lower())
    return 2 <= part.nunique() <= (len(part) if is_name and len(column) == len(part) else max(2, min(50, len(column) // 2)))


def stack(tables: list[Table], name: str) -> tuple[Table, np.ndarray]:
    """Several tables as one (keys and quantities that a table lacks are not stated), and each row's table name."""
    keys, quantities = (dict.fromkeys(n for t in tables for n in getattr(t, part)) for part in ("words", "printed"))
    words = {k: _coded(pd.Series(np.concatenate([t.key(k) for t in tables]))) for k in keys}
    printed = {q: (np.concatenate([t.column(q) for t in tables]), 1.0) for q in quantities}
    steps = {("step", q): np.concatenate([t.step(q) for t in tables]) for q in quantities}
    owner = np.repeat([t.name for t in tables], [len(t) for t in tables])
    return Table(name, words, printed, np.concatenate([t.lines for t in tables]), cache=steps), owner
