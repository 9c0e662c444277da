"""What a check says.

A check is a function of a table (and, where it weighs chance, of the false-alarm rate it may spend) that answers findings; `judged` is the
one way from "these rows were looked at, these are off" to a finding. `@check` says what columns it needs.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

MOST_RUNS = 400
VERDICTS = ("consistent", "inconsistent", "reproduced", "contradicted", "mixed", "not decided", "untested")
COLUMNS = ("id", "source", "claim", "verdict", "reason", "stated", "computed", "rows", "check")


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

    `wrong` is the reason, or a function from the positions of the rows that are off to it.
    """
    if len(rows := np.flatnonzero(off)):
        return [Finding(claim, "inconsistent", wrong if isinstance(wrong, str) else wrong(rows), rows, stated, computed, name)]
    rows = np.flatnonzero(seen)
    return [Finding(claim, "consistent", right.format(n=len(rows)), rows, name=name)] if len(rows) else []


def lines(table: str, positions, numbers=None) -> str:
    """The rows as `table:line,line`, lines counted as an editor does with the header on line 1; consecutive ones joined with a dash.

    `numbers` maps positions to line numbers where rows were dropped or stacked.
    """
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


_SPOKEN: ContextVar[Callable[..., str]] = ContextVar(
    "spoken", default=lambda sentence, **values: sentence.format(**values) if values else sentence
)


@contextmanager
def spoken(translate: Callable[..., str]) -> Iterator[None]:
    """Within, the reasons of verdicts come in another language: `translate("{n} rows", n=3)`."""
    token = _SPOKEN.set(translate)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def say(sentence: str, **values: object) -> str:
    """A sentence filled in, in the language that is `spoken`."""
    return _SPOKEN.get()(sentence, **values)


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


def counts_by_source(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a source, one column a verdict: ready to draw as stacked bars."""
    table = pd.crosstab(frame["source"], frame["verdict"])
    return table.reindex(columns=list(VERDICTS), fill_value=0).rename_axis(columns=None).reset_index()
