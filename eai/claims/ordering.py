"""Rows that a table itself marks as best, against its own figures."""

import numpy as np

from eai.claims.findings import Finding, number
from eai.claims.quantities import ENERGIES
from eai.claims.tabular import Table

_MARKS = ("yes", "true", "1", "best", "x", "*")


def ordering(table: Table) -> list[Finding]:
    """Marked rows (a `best` column) that another row of the same task, GPU or model beats in energy; printed ties are allowed."""
    energy = next((e for e in ENERGIES if table.has(e)), None)
    if energy is None or not table.has("best"):
        return []
    x, h = table.column(energy), table.step(energy)
    marked = np.isin(np.char.lower(table.key("best").astype(str)), _MARKS) & np.isfinite(x)
    choice = next((f for f in ("quantization", "gpu", "model") if table.has(f)), None)
    group = table.groups([f for f in table.factors() if f != choice])
    found = []
    for i in np.flatnonzero(marked):
        rivals = np.flatnonzero((group == group[i]) & np.isfinite(x))
        j = rivals[np.argmin(x[rivals])]
        if x[j] + h[j] < x[i] - h[i]:
            reason = f"{table.key(choice)[i]} is marked best at {number(x[i])}, but {table.key(choice)[j]} has {number(x[j])} {energy}"
            found.append(
                Finding(
                    "ordering",
                    "the row marked best takes the least energy",
                    "inconsistent",
                    reason,
                    str(table.key(choice)[i]),
                    str(table.key(choice)[j]),
                    (int(i), int(j)),
                    str(i),
                )
            )
    if not found and marked.any():
        rows = np.flatnonzero(np.isin(group, group[marked]) & np.isfinite(x))
        found = [
            Finding(
                "ordering",
                "the row marked best takes the least energy",
                "consistent",
                f"{marked.sum()} marked rows take the least energy of their group",
                positions=tuple(map(int, rows)),
            )
        ]
    return found
