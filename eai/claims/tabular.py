"""One table, ready to be checked, and what a check says of its rows.

Columns are brought to our names and units, keys to codes. Only numbers reach a reader of a data frame, not their text (`0.0170` is 0.017):
the decimals and the significant digits of a whole column give the printed step back, because a column is printed in one format.

A check is a function of a table (and, where it weighs chance, of the false-alarm rate it may spend) that answers findings; `judged` is the
one way from "these rows were looked at, these are off" to a finding. `@check` says what columns it needs.
"""

import csv
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eai import cells
from eai.errors import UserError
from eai.importers import mappings
from eai.importers.reading import FILE

with Path(__file__).with_name("quantities.csv").open(newline="", encoding="utf-8") as file:
    _NAMES = list(csv.DictReader(file))  # what each is: an energy, a part of one, a factor, noisy...; whether more is better; its label
ENERGIES, PARTS, NOISY, COUNTS, FACTORS, KEYS, _FIGURES = (
    tuple(row["name"] for row in _NAMES if what in row["is"].split())
    for what in ("energy", "part", "noisy", "count", "factor", "key", "quantity")
)
QUANTITIES = {row["name"]: {"more": True, "less": False, "": None}[row["better"]] for row in _NAMES if row["name"] in _FIGURES}
"""Name with unit -> whether more is better, None for neither. A table's `accuracy_pct` becomes `accuracy`, `Energy (Wh)` `energy_wh`."""
LABELS = {row["name"]: row["label"] for row in _NAMES if row["label"]}
KNOWN = frozenset((*QUANTITIES, *KEYS))
SPREADS = {"throughput_tok_s": "throughput_std_tok_s", "power_w": "power_std_w", "energy_j_per_1k_tok": "energy_std_j_per_1k_tok"}
BASELINES = ("fp16", "bf16", "fp32", "unspecified_baseline", "baseline")
MOST_DECIMALS, FULL_PRECISION, SAMPLED = 12, 15, 512
MOST_COMPARED = 1500  # rows that are compared pair by pair
LARGEST = 1e100  # nothing that is measured; larger figures and infinities count as not stated
_MARK = re.compile(r"date|stamp|time|(^|[_. ])id$|uuid|note|comment|remark|path|file|url|doubt|licence|commit")
_BOUNDARY = re.compile(r"[-_ .]")
MOST_RUNS = 400
VERDICTS = ("consistent", "inconsistent", "reproduced", "contradicted", "mixed", "not decided", "untested")
COLUMNS = ("id", "source", "claim", "verdict", "reason", "stated", "computed", "rows", "check")


def labelled(sentence: str) -> str:
    """A sentence with quantities as people read them: `energy [Wh]` for energy_wh, `accuracy retained [%]` for accuracy_retained_pct."""
    share = re.sub(r"\b([a-z]+(?:_[a-z]+)*)_pct\b", lambda name: LABELS.get(name[0], name[1].replace("_", " ") + " [%]"), str(sentence))
    return re.sub(r"\b[a-z]+(?:_[a-z0-9]+)+\b", lambda name: LABELS.get(name[0], name[0]), share)


def _fewest(values: np.ndarray, most: int, least: int = 0) -> int:
    """The fewest decimals from `least` on that reproduce every value, at most `most`; a sample says where to begin."""
    if len(values) > 2 * SAMPLED:
        least = _fewest(values[:: len(values) // SAMPLED], most, least)
    for decimals in range(least, most):
        if np.all(np.abs(np.round(values, decimals) - values) <= 1e-12 * np.maximum(np.abs(values), 1e-3)):
            return decimals
    return most


def half_steps(values: np.ndarray) -> np.ndarray:
    """Half the printed step of each value: a figure printed as 42.29 stands for 42.285 to 42.295, so 0.005. The step is the coarser of the
    column's last decimal and of its last significant digit, which serves columns printed with fixed decimals and columns printed with, say,
    six digits. Unrounded floating point gives 0; NaN stays NaN."""
    out, known = np.full(len(values), np.nan), np.isfinite(values)
    shown = values[known]
    if len(shown):
        x = np.where(shown == 0, 1.0, np.abs(shown))
        size = np.floor(np.log10(x))
        decimals, digits = _fewest(shown, MOST_DECIMALS), 1 + _fewest(x / 10.0**size, FULL_PRECISION - 1)
        step = np.maximum(10.0**-decimals, np.where(shown == 0, 0.0, 10.0 ** (size + 1 - digits)))
        out[known] = 0.0 if decimals >= MOST_DECIMALS and digits >= FULL_PRECISION - 2 else step / 2
    return out


def significant_digits(values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """How many significant digits figures show: 42.29 has 4, 0.0170 (printed to 0.0001) has 3."""
    with np.errstate(all="ignore"):
        shown = np.floor(np.log10(np.abs(values)) + 1e-12) - np.floor(np.log10(2 * half) + 1e-9) + 1
    return np.where(np.isfinite(values) & (values != 0), np.where(half <= 0, FULL_PRECISION, np.maximum(shown, 0)), 0)


def same_or_less_specific(a: str, b: str) -> bool:
    """Whether one name is the other, or its beginning up to a separator: `a800` and `a800_sxm_80gb`, never `rtx4090` and `rtx4090d`."""
    short, long = sorted((a, b), key=len)
    return a == b or (bool(short) and long.startswith(short) and bool(_BOUNDARY.match(long[len(short) :])))


def is_set(values: np.ndarray) -> bool:
    """Whether figures are one value that was set, such as the length of a load test: three or more within 1 % of each other."""
    known = values[np.isfinite(values)]
    return len(known) >= 3 and known.min() > 0 and np.ptp(known) <= 0.01 * known.max()


@dataclass(frozen=True, eq=False)
class Table:
    """Keys as codes and distinct texts ("" = not stated, the last), quantities with printed half-steps; what is never stated is absent.
    `lines` holds each row's line in its file, header on line 1; `others` the columns that mean nothing here and may be factors (text or few
    values); `infinite` the rows of each quantity that are no finite figure; `limits` what is known of boards."""

    name: str
    words: dict[str, tuple[np.ndarray, np.ndarray]]
    columns: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]
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

    def has(self, *names: str) -> bool:
        """Whether every named quantity or key has at least one value."""
        return all(n in self.words or n in self.columns for n in names)

    def first(self, *names: str) -> str | None:
        return next((n for n in names if self.has(n)), None)

    def column(self, name: str) -> np.ndarray:
        """The values of a quantity, NaN where not stated."""
        return self.columns[name] if name in self.columns else self.kept("nan", lambda: np.full(len(self), np.nan))

    def step(self, name: str) -> np.ndarray:
        """The printed half-steps of a quantity."""
        return self.steps[name] if name in self.columns else self.column(name)

    def key(self, name: str) -> np.ndarray:
        """The text of a key, "" where not stated."""
        codes, texts = self.words.get(name, (np.zeros(len(self), np.int64), np.array([""], dtype=object)))
        return self.kept(("key", name), lambda: texts[codes])

    def is_in(self, name: str, wanted) -> np.ndarray:
        """Which rows have one of the wanted texts; `wanted` may be a test of one text."""
        if name not in self.words:
            return np.zeros(len(self), bool)
        codes, texts = self.words[name]
        return np.array([wanted(t) if callable(wanted) else t in wanted for t in texts], bool)[codes]

    def factors(self, *without: str) -> list[str]:
        """The keys that describe a configuration and are stated somewhere in this table."""
        return [f for f in FACTORS if f in self.words and f not in without]

    def groups(self, names: list[str]) -> np.ndarray:
        """A number a row that is the same for rows with the same values of `names`, as far as the table states them."""
        return self.kept(("groups", *names), lambda: together([self.words[n][0] for n in names if n in self.words], len(self)))

    def compatible(self, names: list[str], at: np.ndarray) -> np.ndarray:
        """Which pairs of the rows `at` may be one configuration: of each key the texts are equal, not stated, or (names) one less specific
        than the other. At most MOST_COMPARED rows."""
        out = np.ones((len(at), len(at)), dtype=bool)
        for name in (n for n in names if n in self.words):
            codes, local = np.unique(self.words[name][0][at], return_inverse=True)
            texts = self.words[name][1][codes]
            alike, place = np.eye(len(texts), dtype=bool), {text: i for i, text in enumerate(texts)}
            alike |= (texts == "")[:, None] | (texts == "")[None, :]
            for i, text in enumerate(() if name in COUNTS else texts):
                for match in _BOUNDARY.finditer(text):
                    if match.start() and (j := place.get(text[: match.start()])) is not None:
                        alike[i, j] = alike[j, i] = True
            out &= alike[np.ix_(local, local)]
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


def split(codes: np.ndarray, at: np.ndarray | None = None) -> list[np.ndarray]:
    """The positions (or the rows `at`, in their order) of each code, one array a code."""
    at = np.arange(len(codes)) if at is None else at
    at = at[np.argsort(codes[at], kind="stable")]
    return np.split(at, np.flatnonzero(np.diff(codes[at])) + 1)


def coded(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column as codes and distinct texts: numbers without a trailing .0, missing as the empty text, which stands last."""
    try:
        codes, uniques = pd.factorize(column, use_na_sentinel=True)
    except TypeError:  # lists, of nested JSON
        codes, uniques = pd.factorize(column.astype(str), use_na_sentinel=True)
    texts = [f"{u:g}" if isinstance(u, float | np.floating) else str(u).strip() for u in uniques]
    place = {t: i for i, t in enumerate(dict.fromkeys(t for t in texts if t))}
    return np.array([*(place.get(t, len(place)) for t in texts), len(place)])[codes], np.array([*place, ""], dtype=object)


def _recognised(frame: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Each quantity's column and factor. Raises UserError where two columns mean one quantity: a plain name beats a synonym."""
    found: dict[str, tuple[int, str, float]] = {}
    doubtful = set()
    for column in map(str, frame.columns):
        base, factor = mappings.meant(column)
        if base not in QUANTITIES:
            continue
        rank = 2 if factor != 1 else int(re.sub(r"[^a-z0-9.]+", "_", column.lower()).strip("_") != base)
        rank = rank if mappings.spelt_out(column) == (base, factor) else 3  # read by its words only
        if base in found and found[base][0] == rank < 2:
            both = f"columns '{found[base][1]}' and '{column}' both mean {base}"
            raise UserError(both, "one column a quantity", f"say in a mapping which is {base}")
        if base in found and found[base][0] == rank == 3:
            doubtful.add(base)
        if base not in found or rank < found[base][0] or pd.isna(frame[found[base][1]]).all():
            found[base] = (rank, column, factor)
    return {base: (column, factor) for base, (rank, column, factor) in found.items() if not (rank == 3 and base in doubtful)}


def build(frame: pd.DataFrame, name: str, lines: np.ndarray | None = None, limits: pd.DataFrame | None = None) -> Table:
    """The table behind a data frame, its columns recognised by their headers; `lines` are the rows' lines in their file. Raises UserError
    if two columns mean the same quantity, or no quantity is recognised."""
    frame = frame.reset_index(drop=True)
    words, columns, steps, infinite = {}, {}, {}, {}
    for column in frame.columns:
        target = mappings.meant(column)[0]
        if target in KEYS and (target not in words or target == column):
            words[target] = coded(frame[column])
    words = {key: (codes, texts) for key, (codes, texts) in words.items() if len(texts) > 1}
    if not (recognised := _recognised(frame)):
        raise UserError(
            f"no column of {name} is a quantity that the checks know ({', '.join(str(c)[:30] for c in frame.columns[:8])})",
            "columns such as energy_wh, power_w, throughput_tok_s, accuracy, eor",
            "name them in a mapping file: energy_j: their column",
        )
    # two documents may print the same quantity differently: steps are those of each place
    places = split(words["location"][0]) if "location" in words and len(words["location"][1]) > 2 else [slice(None)]
    for base, (column, factor) in recognised.items():
        raw = cells.floats(frame[column])
        infinite[base] = np.abs(raw) >= LARGEST
        raw[infinite[base]] = np.nan
        known = raw[np.isfinite(raw)] * factor
        if base == "accuracy" and len(known) and (known > 1.0).all():  # all in percent; a mixed column is left for a check
            factor /= 100
        if len(known):
            columns[base], steps[base] = raw * factor, np.full(len(raw), np.nan)
            for rows in places:
                steps[base][rows] = half_steps(raw[rows]) * factor
    others = {str(c): coded(frame[c].astype(str)) for c in frame.columns if _is_other(str(c), frame[c])}
    return Table(name, words, columns, steps, np.arange(len(frame)) + 2 if lines is None else lines, others, infinite, limits)


def _is_other(name: str, column: pd.Series) -> bool:
    """Whether a column means nothing here and has so few values that it may be a factor."""
    if mappings.meant(name)[0] in KNOWN or name.startswith(FILE) or name in ("source", "_table"):
        return False
    part = column.iloc[:MOST_COMPARED].astype(str)
    is_name = not pd.api.types.is_numeric_dtype(column) and np.isnan(cells.floats(part)).all() and not _MARK.search(name.lower())
    return 2 <= part.nunique() <= (len(part) if is_name and len(column) == len(part) else max(2, min(50, len(column) // 2)))


def stack(tables: list[Table], name: str) -> tuple[Table, np.ndarray]:
    """Several tables as one (keys and quantities that a table lacks are not stated), and each row's table name."""
    keys, quantities = (dict.fromkeys(n for t in tables for n in getattr(t, part)) for part in ("words", "columns"))
    words = {k: coded(pd.Series(np.concatenate([t.key(k) for t in tables]))) for k in keys}
    columns, steps = ({q: np.concatenate([getattr(t, of)(q) for t in tables]) for q in quantities} for of in ("column", "step"))
    owner = np.repeat([t.name for t in tables], [len(t) for t in tables])
    return Table(name, words, columns, steps, np.concatenate([t.lines for t in tables])), owner


@dataclass(frozen=True, eq=False)
class Finding:
    """One statement about `positions` (0-based rows) of a table; `name` tells findings of one check apart."""

    claim: str
    verdict: str
    reason: str
    positions: np.ndarray | tuple = ()
    stated: str = ""
    computed: str = ""
    name: str = ""
    check: str = ""

    def row(self, table: str, where: str, source: str = "") -> dict[str, str]:
        """The finding as a row of `to_frame`."""
        own = {k: getattr(self, k) for k in ("claim", "verdict", "reason", "stated", "computed", "check")}
        return {"id": f"{table}/{self.check}" + (f"/{self.name}" if self.name else ""), "source": source or table, "rows": where} | own


def check(needs: str, weighs_chance: bool = False) -> Callable:
    """Make a function the check of its name, which its findings carry; `needs` in words, `weighs_chance`: it takes a share of the rate."""

    def made(find: Callable) -> Callable:
        @functools.wraps(find)
        def named(*given) -> list[Finding]:
            return [replace(f, check=find.__name__) for f in find(*given)]

        named.needs, named.weighs_chance = needs, weighs_chance
        return named

    return made


def judged(claim: str, off, seen, wrong: str | Callable, right: str = "", stated="", computed="", name="") -> list[Finding]:
    """One finding over the rows `off`, or one that all rows of `seen` pass (`right` has `{n}` of them), or none where nothing was seen.
    `wrong` is the reason, or a function from the positions of the rows that are off to it."""
    if len(rows := np.flatnonzero(off)):
        return [Finding(claim, "inconsistent", wrong if isinstance(wrong, str) else wrong(rows), rows, stated, computed, name)]
    rows = np.flatnonzero(seen)
    return [Finding(claim, "consistent", right.format(n=len(rows)), rows, name=name)] if len(rows) else []


def lines(table: str, positions, numbers=None) -> str:
    """The rows as `table:line,line`, lines counted as an editor does with the header on line 1; consecutive ones joined with a dash.
    `numbers` maps positions to line numbers where rows were dropped or stacked."""
    at = np.asarray(positions, dtype=np.int64)
    found = np.unique(at + 2 if numbers is None else np.asarray(numbers)[at])
    if not len(found):
        return table
    breaks = np.flatnonzero(np.diff(found) != 1)
    ends = zip(found[np.r_[0, breaks + 1]][:MOST_RUNS], found[np.r_[breaks, len(found) - 1]][:MOST_RUNS], strict=True)
    runs = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)
    return f"{table}:{runs}" + (f",... ({len(found):,} lines)" if len(breaks) >= MOST_RUNS else "")


def where(pairs) -> str:
    """(table, line) pairs as text: `table:2,5; other:3`."""
    joined: dict[str, list[int]] = {}
    for table, line in pairs:
        joined.setdefault(table, []).append(line - 2)
    return "; ".join(lines(table, at) for table, at in joined.items())


def parse_rows(rows: str) -> set[tuple[str, int]]:
    """The (table, line) pairs behind the text of `where`."""
    out = set()
    for part in filter(None, rows.split("; ")):
        table, _, text = part.partition(":")
        for run in filter(None, text.split(",...")[0].split(",")):
            first, _, last = run.partition("-")
            out |= {(table, n) for n in range(int(first), int(last or first) + 1)}
    return out


_SPOKEN = [lambda sentence, **values: sentence.format(**values) if values else sentence]


@contextmanager
def spoken(translate: Callable[..., str]) -> Iterator[None]:
    """Within, the reasons of verdicts come in another language: `translate("{n} rows", n=3)`."""
    _SPOKEN.append(translate)
    try:
        yield
    finally:
        _SPOKEN.pop()


def say(sentence: str, **values: object) -> str:
    """A sentence filled in, in the language that is `spoken`."""
    return _SPOKEN[-1](sentence, **values)


def by_chance(p: float) -> str:
    """A probability in words: `p = 0.003`, `p < 0.0001`."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.1g}"


def number(value: float, digits: int = 4) -> str:
    """A figure for a sentence: 4 significant digits, `not known` for NaN."""
    size = abs(value)
    if not np.isfinite(value):
        return "not known" if np.isnan(value) else "unbounded" if value > 0 else "-unbounded"
    if value == round(value) and 1e5 <= size < 1e15:
        return f"{value:,.0f}"
    if 1e4 <= size < 1e15:
        return f"{float(f'{value:.{digits}g}'):,.0f}"
    if 0 < size < 1e-4:
        return np.format_float_positional(value, digits, fractional=False, trim="-")
    return f"{float(f'{value:.{digits}g}'):.15g}" if 1e3 <= size < 1e4 else f"{value:.{digits}g}"


def span(values, unit: str = "", digits: int = 4) -> str:
    """`-25.1 to -19.8 %`, or one figure; NaN left out."""
    low, high = (number(float(end), digits) for end in (np.nanmin(values), np.nanmax(values)))
    return f"{low if low == high else say('{low} to {high}', low=low, high=high)} {unit}".strip()


def to_frame(rows: list[dict]) -> pd.DataFrame:
    """Findings or verdicts as a data frame with COLUMNS first; empty text where a field does not apply."""
    frame = pd.DataFrame(rows)
    frame = frame.assign(**{name: "" for name in COLUMNS if name not in frame})
    return frame[[*COLUMNS, *(c for c in frame if c not in COLUMNS)]]
