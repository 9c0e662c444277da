"""From which model size on a strategy saves energy on a card, by straight line through log ratio against log size, with Fieller's limits.

Gross and net rows give two answers and are never pooled: idle power weighs more on a slower strategy, so subtracting it flatters it.
"""

import numpy as np
import pandas as pd

from eai.predict.prediction import judged
from eai.predict.rows import ACCOUNTINGS
from eai.stats.comparisons import crossover

STRATEGIES = ("nf4", "int8_pure", "int8_default")


def crossovers(gpu: str) -> list[dict]:
    """One entry a strategy and accounting with ratios to fp16 at three sizes or more on this card, batch 1; sizes in 1e9 parameters."""
    return [found for kind in ACCOUNTINGS for q in STRATEGIES if (found := _of(gpu, q, kind)) is not None]


def ratios(gpu: str, quantization: str, accounting: str = "gross") -> pd.DataFrame:
    """Size [1e9 parameters] and energy ratio to fp16 of each session and model of the card at batch 1, as a table with sources."""
    table = judged(accounting).rows
    table = table[(table["gpu"] == gpu) & (table["batch_size"] == 1)]
    base = table[table["quantization"] == "fp16"][["session", "shape", "energy_j_per_token", "rows"]]
    both = table[table["quantization"] == quantization].merge(base, on=["session", "shape"], suffixes=("", "_fp16"))
    both["ratio"] = both["energy_j_per_token"] / both["energy_j_per_token_fp16"]
    return both.assign(params_b=both["params"] / 1e9)[["session", "shape", "params_b", "ratio", "rows", "rows_fp16"]]


def _of(gpu: str, quantization: str, accounting: str) -> dict | None:
    """The crossover of one strategy, None where fewer than three sizes were measured."""
    table = ratios(gpu, quantization, accounting)
    if table["params_b"].nunique() < 3:
        return None
    found = crossover(np.log(table["params_b"]), np.log(table["ratio"]))
    sizes, factors = ((table[c].min(), table[c].max()) for c in ("params_b", "ratio"))
    seen = f"{len(table)} ratios at {sizes[0]:.1f} to {sizes[1]:.1f} B, x {factors[0]:.2f} to {factors[1]:.2f}"
    inside = found.bounded and np.log(sizes[0]) <= found.x <= np.log(sizes[1])
    size, ends = float(np.exp(found.x)), [float(np.exp(v)) for v in (found.low, found.high)] if found.bounded else [None, None]
    text = f"{quantization} on {gpu}, {accounting} energy: "
    if inside:
        text += f"saves from about {size:.1f} [{ends[0]:.1f}, {ends[1]:.1f}] B parameters on ({seen})"
    else:
        text += f"no crossover within the measured sizes ({seen})"
    quantity = {"value": size if inside else None, "low": ends[0] if inside else None, "high": ends[1] if inside else None, "unit": "1e9"}
    cited = sorted({*table["rows"], *table["rows_fp16"]})
    return {"quantization": quantization, "accounting": accounting, "params": quantity, "text": text, "evidence": cited}
