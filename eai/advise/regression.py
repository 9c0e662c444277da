"""`eai compare A B --max-regression 3%`: did an experiment get worse than another? For a CI job that must be able to say "undecided".

"Not significant" acquits nobody: `no_regression` is shown only where the whole one-sided interval lies within the limit.
"""

import re
from pathlib import Path

from eai import tables
from eai.analyze.comparison import regressions
from eai.analyze.selection import select
from eai.errors import UserError
from eai.quantity import Quantity

DEFAULT_LIMIT = 0.03


def fraction(text: str | float) -> float:
    """`3%`, `3 %` or `0.03` as 0.03. Raises UserError for anything else, and outside [0, 1]."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", str(text))
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value <= 1:
        raise UserError(f"max regression '{text}'", "a percentage such as 3% or a fraction such as 0.03", "correct it")
    return value


def regression_gate(
    before: str | Path, after: str | Path, max_regression: str | float = DEFAULT_LIMIT, metric: str = "energy_j_per_token", **selection
) -> dict:
    """Verdicts of every configuration of two experiments. `failed`: one is shown to be worse than the limit (exit 1); `undecided`: how many
    the data do not decide. `selection` goes to `analyze.selection.select`. Raises UserError where the experiments cannot be compared."""
    limit = fraction(max_regression)
    chosen = [select(tables.read_windows(e), tables.read_energies(e), **selection) for e in (before, after)]
    table = regressions(*chosen, limit=limit, metric=metric)
    known = table.astype(object).where(table.notna(), None)
    names = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "n_before", "n_after", "method"]
    names += ["p_regression", "p_no_regression", "verdict", "reason"]
    rows = [
        {name: row[name] for name in names} | {"ratio": Quantity(row["ratio"], row["ratio_low"], row["ratio_high"], "").to_json()}
        for row in known.to_dict("records")
    ]
    counts = table["verdict"].value_counts().to_dict()
    return {
        "before": str(before),
        "after": str(after),
        "metric": metric,
        "max_regression": limit,
        "basis": chosen[0].basis,
        "boundary": chosen[0].boundary,
        "rows": rows,
        "counts": counts,
        "failed": bool(counts.get("regression", 0)),
        "undecided": int(counts.get("inconclusive", 0) + counts.get("not_testable", 0)),
    }
