"""What a check says, and the register of checks.

A check is a function of a table (and, where it weighs chance, of the false-alarm rate it may spend) that answers findings; `judged` is the
one way from "these rows were looked at, these are off" to a finding. `@check` registers it with the columns that it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_RUNS = 400
VERDICTS = ("consistent", "inconsistent", "reproduced", "contradicted", "mixed", "not decided", "untested")
COLUMNS = ("id", "source", "claim", "verdict", "reason", "stated", "computed", "rows", "check")


@dataclass(frozen=True, eq=False)
class Finding:
    """One statement of a check about `positions` (0-based rows) of its table; `name` tells findings of one check apart."""

    check: str
    claim: str
    verdict: str
    reason: str
    stated: str = ""
    computed: str = ""
    positions: np.ndarray | tuple = ()
    name: str = ""


def judged(check: str, claim: str, off, seen, wrong: str | Callable, right: str, stated="", computed="", name="") -> list[Finding]:
    """One finding over the rows `off`, or one that all rows of `seen` pass (`right` has `{n}` of them), or none where nothing was seen.

    `wrong` is the reason, or a function from the positions of the rows that are off to it.
    """
    rows = np.flatnonzero(off)
    if len(rows):
        reason = wrong if isinstance(wrong, str) else wrong(rows)
        return [Finding(check, claim, "inconsistent", reason, stated, computed, rows, name)]
    rows = np.flatnonzero(seen)
    return [Finding(check, claim, "consistent", right.format(n=len(rows)), "", "", rows, name)] if len(rows) else []


@dataclass(frozen=True)
class Check:
    """A registered check: its name, what it needs in words, its function, and whether it weighs chance (and takes a share of the rate)."""

    name: str
    needs: str
    find: Callable
    weighs_chance: bool


CHECKS: dict[str, Check] = {}


def check(needs: str, weighs_chance: bool = False) -> Callable:
    """Register a function as the check of its name."""

    def register(find: Callable) -> Callable:
        CHECKS[find.__name__] = Check(find.__name__, needs, find, weighs_chance)
        return find

    return register


def lines(table: str, positions, numbers=None) -> str:
    """The rows as `table:line,line`, lines counted as an editor does with the header on line 1.

    `numbers` maps positions to line numbers where rows were dropped or stacked; consecutive lines are joined with a dash.
    """
    at = np.asarray(positions, dtype=np.int64)
    found = at + 2 if numbers is None else np.asarray(numbers)[at]
    if (np.diff(found) <= 0).any():
        found = np.unique(found)
    if not len(found):
        return table
    breaks = np.flatnonzero(np.diff(found) != 1)
    first, last = found[np.r_[0, breaks + 1]], found[np.r_[breaks, len(found) - 1]]
    runs = [str(a) if a == b else f"{a}-{b}" for a, b in zip(first[:MOST_RUNS], last[:MOST_RUNS], strict=True)]
    return f"{table}:{','.join(runs)}" + (f",... ({len(found):,} lines)" if len(first) > MOST_RUNS else "")


def parse_rows(rows: str) -> set[tuple[str, int]]:
    """The (table, line) pairs behind the text of `lines`, several tables separated by `; `."""
    out = set()
    for part in filter(None, rows.split("; ")):
        table, _, text = part.partition(":")
        for run in filter(None, text.split(",...")[0].split(",")):
            first, _, last = run.partition("-")
            out |= {(table, n) for n in range(int(first), int(last or first) + 1)}
    return out


def by_chance(p: float) -> str:
    """A probability in words: `p = 0.003`, `p < 0.0001`."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.1g}"


def number(value: float, digits: int = 4) -> str:
    """A figure for a sentence: 4 significant digits, `not known` for NaN."""
    if value is None or not np.isfinite(value):
        return "not known" if value is None or np.isnan(value) else ("unbounded" if value > 0 else "-unbounded")
    if value == round(value) and 1e5 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    if 1e4 <= abs(value) < 1e15:
        return f"{float(f'{value:.{digits}g}'):,.0f}"
    if 0 < abs(value) < 1e-4:
        return np.format_float_positional(value, digits, fractional=False, trim="-")
    return f"{float(f'{value:.{digits}g}'):.15g}" if 1e3 <= abs(value) < 1e4 else f"{value:.{digits}g}"


def span(values, unit: str = "", digits: int = 4) -> str:
    """`-25.1 to -19.8 %`, or one figure; NaN left out."""
    low, high = (number(float(end), digits) for end in (np.nanmin(values), np.nanmax(values)))
    return f"{low if low == high else f'{low} to {high}'} {unit}".strip()


def to_frame(rows: list[dict]) -> pd.DataFrame:
    """Findings or verdicts as a data frame with COLUMNS first; empty text where a field does not apply."""
    frame = pd.DataFrame(rows)
    for name in COLUMNS:
        if name not in frame:
            frame[name] = ""
    return frame[[*COLUMNS, *(c for c in frame if c not in COLUMNS)]]


def counts(frame: pd.DataFrame) -> dict[str, int]:
    """How many rows have each verdict, every one named."""
    return {v: int((frame["verdict"] == v).sum()) for v in VERDICTS}


def counts_by_source(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a source, one column a verdict: ready to draw as stacked bars."""
    table = pd.crosstab(frame["source"], frame["verdict"])
    return table.reindex(columns=list(VERDICTS), fill_value=0).rename_axis(columns=None).reset_index()
