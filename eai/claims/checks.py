"""All checks on one table, and on all tables of one source together; the false-alarm rate is shared out here.

Checks that only do arithmetic on printed figures cannot fail on a table that was computed correctly. Those that weigh chance share the
table's rate of 1 % equally, by Bonferroni.
"""

import numpy as np
import pandas as pd

from eai.claims import chance, physical, relations, repeated
from eai.claims.findings import Finding, lines, to_frame
from eai.claims.tabular import MOST_COMPARED, Table, build, mapped, stack

FALSE_ALARM_RATE = 0.01
ROWWISE = (relations.derived, physical.physical, relations.countable, relations.affine)
CHECKS = (
    relations.derived, relations.reductions, relations.ratios, relations.mislabelled, relations.parts, relations.carbon,
    relations.constant_power, relations.countable, relations.ordering, relations.affine, physical.accounting, physical.physical,
    repeated.one_value, repeated.copied, repeated.two_values, repeated.two_changes, repeated.kernels,
    chance.scores, chance.chance, chance.serial, chance.structure,
)  # fmt: skip
ORDER = ("inconsistent", "not decided", "consistent", "untested")


def run(table: Table) -> list[Finding]:
    """The findings of every check on one table; a check that lacks its columns says so as `untested`."""
    share = FALSE_ALARM_RATE / sum(check.weighs_chance for check in CHECKS)
    found = []
    if len(table) > MOST_COMPARED:
        pairwise = "equal figures of different configurations and printed reductions are compared pair by pair, which was left out"
        found.append(Finding("every check applies", "untested", f"{len(table):,} rows: {pairwise}", check="size"))
    for check in CHECKS:
        name = check.__name__
        outcome = check(table, share) if check.weighs_chance else check(table)
        found += outcome or [Finding(name, "untested", f"this check needs {check.needs}", check=name)]
    return found


def framed(findings: list[Finding], name: str, numbers=None, source: str = "", owner: np.ndarray | None = None) -> pd.DataFrame:
    """Findings as a data frame, inconsistent ones first; `owner` names each row's table where several were stacked."""
    rows = []
    for f in findings:
        where, at = lines(name, f.positions, numbers), np.asarray(f.positions, dtype=np.int64)
        if owner is not None:
            where = "; ".join(lines(n, at[owner[at] == n], numbers) for n in dict.fromkeys(owner[at])) or name
        rows.append(f.row(name, where, source))
    return to_frame(sorted(rows, key=lambda row: ORDER.index(row["verdict"])))


@np.errstate(all="ignore")  # a stranger's figures may be zero or huge; what is not finite is not checked
def check_table(
    frame: pd.DataFrame,
    mapping: dict[str, object] | None = None,
    name: str = "table",
    limits: pd.DataFrame | None = None,
    line_numbers: np.ndarray | None = None,
) -> pd.DataFrame:
    """The findings on anyone's table, one row each (findings.COLUMNS): inconsistent ones first.

    `mapping`: our name -> their column or an expression, where the header does not say it. Raises UserError if no column is recognised.
    """
    table = build(mapped(frame, mapping) if mapping else frame, name, line_numbers, limits)
    return framed(run(table), name, table.lines)


@np.errstate(all="ignore")
def check_source(frames: dict[str, pd.DataFrame], source: str) -> pd.DataFrame:
    """The findings that only several tables of one source together can give: repeated and conflicting figures."""
    if len(frames) < 2:
        return to_frame([])
    table, owner = stack([build(f, n) for n, f in frames.items()], f"{source} together")
    found = [f for each in (repeated.one_value, repeated.two_values) for f in each(table, FALSE_ALARM_RATE / 2)]
    across = [f for f in found if f.verdict == "consistent" or len(set(owner[np.asarray(f.positions, np.int64)])) > 1]
    return framed([*across, *repeated.restated(table, owner)], table.name, table.lines, source, owner)


@np.errstate(all="ignore")
def rowwise(table: Table) -> pd.DataFrame:
    """The findings of the checks that look at one row at a time: what a file too long for memory gets, piece by piece."""
    return framed([f for each in ROWWISE for f in each(table)], table.name, table.lines)
