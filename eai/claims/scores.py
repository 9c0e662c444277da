"""Scores of one model and task on several GPUs: the same weights answer the same items, so they may differ by chance at most."""

import numpy as np
import pandas as pd
from scipy import stats

from eai.claims.findings import Finding
from eai.claims.tabular import Table

MOST_GROUP = 60
MOST_PAIRS = 100_000


def z_of(p: float, q: float, n: float, m: float) -> float:
    """z of two proportions with pooled variance; 0 if they are equal."""
    pooled = (p * n + q * m) / (n + m)
    se = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return 0.0 if p == q else float((p - q) / se) if se > 0 else float("inf")


def scores(table: Table, alpha: float) -> list[Finding]:
    """Score pairs of one (model, quantization, task) on two GPUs that differ beyond binomial error, Bonferroni over pairs.

    Items are treated as drawn anew for each GPU, though they are the same items: that only widens what is allowed.
    """
    if not table.has("accuracy", "gpu", "n_items"):
        return []
    p, n = table.column("accuracy"), table.column("n_items")
    use = np.isfinite(p) & (p >= 0) & (p <= 1) & (n > 0)
    gpu = table.key("gpu")
    frame = pd.DataFrame(
        {"group": table.groups([f for f in table.factors() if f != "gpu"])[use], "gpu": gpu[use], "at": np.flatnonzero(use)}
    )
    frame = frame.drop_duplicates(["group", "gpu"])
    pairs = []
    for _, rows in frame[frame.groupby("group")["gpu"].transform("size") > 1].groupby("group")["at"]:
        at = rows.to_numpy()[:MOST_GROUP]
        pairs += [(int(a), int(b)) for x, a in enumerate(at) for b in at[x + 1 :]]
        if len(pairs) > MOST_PAIRS:
            break
    if not pairs:
        return []
    limit = stats.norm.isf(alpha / len(pairs) / 2)
    found = []
    for a, b in pairs:
        z = z_of(p[a], p[b], n[a], n[b])
        if abs(z) > limit:
            who = ", ".join(str(table.keys[k].iloc[a]) for k in ("model", "quantization", "task") if k in table.keys)
            reason = (
                f"{who} scores {p[a]:.3f} on {gpu[a]} and {p[b]:.3f} on {gpu[b]}: {abs(z):.0f} standard errors "
                f"of {n[a]:.0f} items apart, where {limit:.1f} are allowed"
            )
            found.append(
                Finding(
                    "scores", "a model scores alike on every GPU", "inconsistent", reason, f"{p[a]:.3f}", f"{p[b]:.3f}", (a, b), f"{a}:{b}"
                )
            )
    if not found:
        rows = tuple(sorted({r for pair in pairs for r in pair}))
        found = [
            Finding(
                "scores",
                "a model scores alike on every GPU",
                "consistent",
                f"{len(pairs)} pairs of scores agree within binomial error",
                positions=rows,
            )
        ]
    return found


def countable(table: Table) -> list[Finding]:
    """Scores that no whole number of right answers gives: |k / n - score| beyond the printed step for every k.

    The GRIM test (Brown and Heathers 2017, doi:10.1177/1948550616673876). It says something only where 1 / n is larger than the step.
    """
    if not table.has("accuracy", "n_items"):
        return []
    p, h, n = table.column("accuracy"), table.step("accuracy"), table.column("n_items")
    seen = np.isfinite(p) & (n > 0) & (p >= 0) & (p <= 1) & (1 / n > 2 * h) & (n == np.round(n))
    if not seen.any():
        return []
    off = np.flatnonzero(seen & (np.abs(np.round(p * n) / n - p) > h + 1e-9))
    claim = "every score is a whole number of right answers"
    if len(off):
        i = int(off[0])
        reason = (
            f"{len(off)} scores are no k / n; the first is {p[i]:.6g} of {n[i]:.0f} items, where "
            f"{np.round(p[i] * n[i]) / n[i]:.6g} is the nearest"
        )
        return [
            Finding("countable", claim, "inconsistent", reason, f"{p[i]:.6g}", f"{np.round(p[i] * n[i]) / n[i]:.6g}", tuple(map(int, off)))
        ]
    return [
        Finding(
            "countable",
            claim,
            "consistent",
            f"{seen.sum()} scores are whole numbers of right answers",
            positions=tuple(map(int, np.flatnonzero(seen))),
        )
    ]
