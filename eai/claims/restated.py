"""Columns that restate figures of different hardware as if they were one series.

A table that does not name its GPU may repeat, digit for digit, figures that another table of the same source gives for a named one. If
its rows turn out to come from several GPUs, comparing them down the column compares hardware too.
"""

import numpy as np
import pandas as pd

from eai.claims.configuration import MOST_COMPARED, compatible
from eai.claims.findings import Finding, number
from eai.claims.printed import significant_digits
from eai.claims.quantities import ENERGIES
from eai.claims.repeated import LEAST_DIGITS, identity
from eai.claims.tabular import Table


def restated(table: Table, owner: np.ndarray) -> list[Finding]:
    """One finding for each table (of the stacked tables of a source) whose rows without a GPU equal figures of two GPUs or more.

    A figure counts where its configuration may be the same, it has at least four digits, and all its equals agree on the GPU. Two
    such ties by chance have a probability below 1e-4 for the tables this is meant for.
    """
    found = []
    for column in (c for c in ENERGIES if table.has(c) and table.has("gpu")):
        at = np.flatnonzero(np.isfinite(table.column(column)))
        if not 2 <= len(at) <= MOST_COMPARED:
            continue
        x, h = table.column(column)[at], table.step(column)[at]
        digits = np.array([significant_digits(a, b) for a, b in zip(x, h, strict=True)])
        gpu, names = table.key("gpu")[at], owner[at]
        equal = compatible(identity(table).iloc[at]) & (np.abs(x[:, None] - x[None, :]) <= 1e-9 * np.abs(x)[:, None])
        equal &= (digits >= LEAST_DIGITS)[:, None] & (names[:, None] != names[None, :])
        for name in pd.unique(names):
            mine = np.flatnonzero((names == name) & (gpu == ""))
            origin = {int(i): set(gpu[equal[i]]) - {""} for i in mine}
            sure = {i: g.pop() for i, g in origin.items() if len(g) == 1}
            if len(set(sure.values())) > 1:
                found.append(_finding(column, name, sure, x, at, equal, gpu))
    return found


def _finding(column: str, name: str, sure: dict[int, str], x: np.ndarray, at: np.ndarray, equal: np.ndarray, gpu: np.ndarray) -> Finding:
    """The finding, with each restated figure and the GPU it stands for elsewhere."""
    shown = ", ".join(f"{number(x[i], 6)} is {g}'s" for i, g in sure.items())
    reason = f"{name} names no GPU, but its figures of {column} are those of several: {shown}; its rows compare hardware as well"
    rows = {int(at[i]) for i in sure} | {int(at[j]) for i in sure for j in np.flatnonzero(equal[i] & (gpu != ""))}
    return Finding(
        "restated", f"the rows of {name} are of one GPU", "inconsistent", reason, "", shown, tuple(sorted(rows)), f"{name}:{column}"
    )
