"""Runs that are called independent: is each run's figure unrelated to the one before it?"""

import numpy as np
from scipy import stats

from eai.claims.findings import Finding
from eai.claims.tabular import Table

LEAST_RUNS = 5
SHUFFLED_CELLS = 4_000_000
LEAST_SHUFFLES = 5_000


def lag_one(y: np.ndarray, group: np.ndarray) -> tuple[float, float, int]:
    """Pooled lag-1 autocorrelation within groups, its z under independence, and the number of groups.

    Rows of a group stand together, in run order.
    Each group is centred, so for n independent normal figures E[r] = -1 / n and Var[r] = (n - 2)^2 / (n^2 (n - 1))
    (Moran 1948, Biometrika 35: 255-260).
    """
    r, mean, variance = [], [], []
    for x in np.split(y, np.flatnonzero(np.diff(group)) + 1):
        n = len(x)
        if n < LEAST_RUNS or np.ptp(x) == 0:
            continue
        d = x - x.mean()
        r.append(np.sum(d[1:] * d[:-1]) / np.sum(d**2))
        mean.append(-1 / n)
        variance.append((n - 2) ** 2 / (n**2 * (n - 1)))
    if not r:
        return float("nan"), float("nan"), 0
    return float(np.mean(r)), float((np.sum(r) - np.sum(mean)) / np.sqrt(np.sum(variance))), len(r)


def _shuffled(y: np.ndarray, group: np.ndarray, observed: float) -> float:
    """The share of random orders within groups with at least the observed mean correlation; 0 where there are too many rows to shuffle.

    With few groups the mean correlation is not normal in its tail; with hundreds of rows it is.
    """
    shuffles = SHUFFLED_CELLS // len(y)
    if shuffles < LEAST_SHUFFLES:
        return 0.0
    rng = np.random.default_rng(0)
    total, groups = np.zeros(shuffles), 0
    for x in np.split(y, np.flatnonzero(np.diff(group)) + 1):
        if len(x) < LEAST_RUNS or np.ptp(x) == 0:
            continue
        d = rng.permuted(np.tile(x - x.mean(), (shuffles, 1)), axis=1)
        total += np.sum(d[:, 1:] * d[:, :-1], axis=1) / np.sum((x - x.mean()) ** 2)
        groups += 1
    return float((1 + np.sum(total / groups >= observed - 1e-12)) / (shuffles + 1))


def serial(table: Table, alpha: float) -> list[Finding]:
    """Whether consecutive runs of a configuration resemble each other: then n runs hold less than n runs' worth of information."""
    if not table.has("run"):
        return []
    columns = [c for c in ("energy_j_per_1k_tok", "energy_j_per_token", "energy_wh", "throughput_tok_s") if table.has(c)]
    found = []
    run, group = table.column("run"), table.groups(table.factors())
    order = np.lexsort((run, group))
    for column in columns:
        y = table.column(column)[order]
        keep = np.isfinite(y)
        r, z, n = lag_one(y[keep], group[order][keep])
        if not n:
            continue
        p = float(stats.norm.sf(z))
        if p < 0.05:
            # never below one over the number of shuffles: an upper bound, and printed as one
            p = max(p, _shuffled(y[keep], group[order][keep], r))
        rows = tuple(map(int, order[keep]))
        claim = "the runs of a configuration are independent trials"
        if p < alpha / len(columns):
            reason = (
                f"consecutive runs resemble each other: lag-1 correlation of {column} {r:+.2f} on average over "
                f"{n} configurations (z = {z:.1f}, p <= {p:.1g})"
            )
            found.append(Finding("serial", claim, "inconsistent", reason, "0", f"{r:+.2f}", rows, column))
        else:
            found.append(
                Finding(
                    "serial",
                    claim,
                    "consistent",
                    f"lag-1 correlation of {column} {r:+.2f} over {n} configurations, within chance",
                    "0",
                    f"{r:+.2f}",
                    rows,
                    column,
                )
            )
    return found
