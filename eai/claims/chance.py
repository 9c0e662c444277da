"""Scores of one model and task on several GPUs: the same weights answer the same items, so they may differ by chance at most.

Runs that are called independent: is each run's figure unrelated to the one before it?

Tables that follow a closed formula: products of one number per row and one per column, closer than measurement allows.

Measured energies scatter. If the logs of a table are a sum of one number per level of each factor (model, strategy, GPU, batch...)
to within less than the noise of a single measurement, then ratios are constant to more digits than were measured.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from eai.claims.findings import Finding
from eai.claims.quantities import ENERGIES, SPREADS
from eai.claims.tabular import Table, is_set

MOST_GROUP = 60
MOST_SCORE_PAIRS = 100_000


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
        if len(pairs) > MOST_SCORE_PAIRS:
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
            Finding(
                "countable",
                claim,
                "inconsistent",
                reason,
                f"{p[i]:.6g}",
                f"{np.round(p[i] * n[i]) / n[i]:.6g}",
                tuple(np.asarray(off, dtype=np.int64).tolist()),
            )
        ]
    return [
        Finding(
            "countable",
            claim,
            "consistent",
            f"{seen.sum()} scores are whole numbers of right answers",
            positions=tuple(np.flatnonzero(seen).tolist()),
        )
    ]


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


CELL_SD = 0.014  # log scale; ratios of two configurations then scatter by 2 %, less than over the models of any published campaign
MOST_ROWS = 2000
MOST_PAIRS = 200
LEAST_MATCHED = 4


def _noise(table: Table, column: str) -> float:
    """The least scatter of a cell's log: the source's own standard deviation over sqrt(n) where it prints one, else CELL_SD."""
    spread = SPREADS.get(column)
    if spread and table.has(spread):
        cv = table.column(spread) / table.column(column)
        n = np.where(np.isfinite(table.column("n_runs")), table.column("n_runs"), 1.0)
        own = np.nanmedian(cv / np.sqrt(np.maximum(n, 1.0)))
        if np.isfinite(own) and own > 0:
            return float(min(own, CELL_SD))
    return CELL_SD


def _cells(table: Table, column: str, factors: list[str]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """One row a configuration (levels of the factors), the mean log value, and the first position of each."""
    x, h = table.column(column), table.step(column)
    if column == "power_w":  # an estimate is a constant by construction and claims no scatter
        x = np.where(table.key("basis") == "estimated", np.nan, x)
    use = np.flatnonzero((x > 0) & (h < CELL_SD / 3 * np.abs(x)))
    frame = table.keys[factors].iloc[use].astype(object).assign(_y=np.log(x[use]), _at=use)
    grouped = frame.groupby(factors, sort=False, dropna=False)
    cells = grouped.agg(_y=("_y", "mean"), _at=("_at", "first"), _n=("_y", "size"), _sd=("_y", "std")).reset_index()
    return cells[factors], cells, cells["_at"].to_numpy()


def _residual(levels: pd.DataFrame, y: np.ndarray) -> tuple[float, int]:
    """Residual sum of squares and degrees of freedom of y on the main effects of the factors."""
    design = np.column_stack(
        [np.ones(len(y)), *(np.eye(len(u))[c][:, 1:] for c, u in (pd.factorize(levels[f]) for f in levels) if len(u) > 1)]
    )
    beta, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.sum((y - design @ beta) ** 2)), len(y) - int(rank)


def structure(table: Table, alpha: float) -> list[Finding]:
    """The findings of `_one_place` on each place that the rows come from: a table printed together is judged together."""
    if not table.has("location") or table.keys["location"].nunique() == 1:
        return _one_place(table, alpha)
    place = table.keys["location"].cat.codes.to_numpy()
    parts = [np.flatnonzero(place == c) for c in np.unique(place)]
    parts = [p for p in parts if len(p) >= LEAST_MATCHED]
    found = []
    for rows in parts:
        part = table.take(np.isin(np.arange(len(table)), rows))
        found += [
            replace(f, positions=tuple(int(rows[p]) for p in f.positions), name=f"{f.name}:{rows[0]}")
            for f in _one_place(part, alpha / len(parts))
        ]
    return found


def _one_place(table: Table, alpha: float) -> list[Finding]:
    """Quantities whose table is a product of its margins, as a whole or between two levels of one factor.

    The interaction's sum of squares over the noise variance of a cell is at least chi-square with the interaction's degrees of
    freedom; its lower tail, Bonferroni over the tests made, must be above `alpha`. Columns printed too coarsely to tell are left out.
    """
    columns = [c for c in (*ENERGIES, "throughput_tok_s", "power_w", "duration_s") if table.has(c)]
    columns = [c for c in columns if c != "duration_s" or not is_set(table.column(c))]
    found = []
    for column in columns:
        factors = [f for f in table.factors() if f not in ("params_b",) or not table.has("model")]
        varied = [f for f in factors if table.keys[f].nunique() > 1]
        if len(varied) < 2 or len(table) > 50 * MOST_ROWS:
            continue
        levels, cells, at = _cells(table, column, varied)
        if not LEAST_MATCHED <= len(cells) <= MOST_ROWS:
            continue
        share = alpha / len(columns) / 2
        whole = _whole(table, column, levels, cells, at, share)
        found += whole or _pairs(table, column, levels, cells, at, share)
    return found


def _whole(table: Table, column: str, levels: pd.DataFrame, cells: pd.DataFrame, at: np.ndarray, alpha: float) -> list[Finding]:
    noise = _noise(table, column)
    squares, df = _residual(levels, cells["_y"].to_numpy())
    if df < 1:
        return []
    p = float(stats.chi2.cdf(squares / noise**2, df))
    sd = np.sqrt(squares / df)
    claim = f"{column} was measured, with the scatter of a measurement"
    over = ", ".join(levels)
    rows = tuple(np.asarray(at, dtype=np.int64).tolist())
    if p >= alpha:
        return []
    reason = (
        f"{len(cells)} figures of {column} are a product of one number per level of {over}: residual "
        f"{_percent(sd)} with {df} degrees of freedom, where {_percent(noise)} a cell is the least to "
        f"expect (p = {p:.1g})"
    )
    return [Finding("structure", claim, "inconsistent", reason + _ratios(levels, cells), _percent(noise), _percent(sd), rows, column)]


def _ratios(levels: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The nearly constant changes behind a small product table, for the reader; empty for a large one."""
    for factor in ("quantization", "model", "gpu"):
        if factor in levels and 2 <= levels[factor].nunique() <= 6 and levels.shape[1] == 2:
            other = next(f for f in levels if f != factor)
            wide = cells.pivot_table(index=other, columns=factor, values="_y", sort=False)
            first = wide.columns[0]
            parts = [
                f"{c} {', '.join(f'{100 * (np.exp(v) - 1):.1f}' for v in (wide[c] - wide[first]).dropna())} %" for c in wide.columns[1:]
            ]
            return f"; changes against {first}, by {other}: {'; '.join(parts)}"
    return ""


def _pairs(table: Table, column: str, levels: pd.DataFrame, cells: pd.DataFrame, at: np.ndarray, alpha: float) -> list[Finding]:
    """Two levels of a factor whose ratio is constant over everything else, where the table as a whole is no product."""
    tests = []
    for factor in levels:
        rest = [f for f in levels if f != factor]
        wide = cells.pivot_table(index=rest, columns=factor, values="_y", sort=False, dropna=False)
        place = cells.pivot_table(index=rest, columns=factor, values="_at", sort=False, dropna=False)
        for a, b in list(combinations(wide.columns, 2))[:MOST_PAIRS]:
            d = (wide[a] - wide[b]).dropna()
            if len(d) >= LEAST_MATCHED:
                rows = place.loc[d.index, [a, b]].to_numpy().ravel()
                tests.append((factor, a, b, d.to_numpy(), rows))
    claim = f"ratios of {column} scatter as measured ratios do"
    noise = _noise(table, column) * np.sqrt(2)
    found = []
    for factor, a, b, d, rows in tests:
        p = float(stats.chi2.cdf(np.sum((d - d.mean()) ** 2) / noise**2, len(d) - 1))
        if p < alpha / len(tests):
            reason = (
                f"{factor} {a} over {b}: the ratio of {column} is {np.exp(d.mean()):.4f} in all {len(d)} matched "
                f"pairs, to {_percent(d.std(ddof=1))}, where {_percent(noise)} is the least to expect (p = "
                f"{p:.1g})"
            )
            found.append(
                Finding(
                    "structure",
                    claim,
                    "inconsistent",
                    reason,
                    _percent(noise),
                    _percent(d.std(ddof=1)),
                    tuple(np.asarray(rows, dtype=np.int64).tolist()),
                    f"{column}:{factor}:{a}:{b}",
                )
            )
    if found or not tests:
        return found
    return [
        Finding(
            "structure",
            claim,
            "consistent",
            f"{len(tests)} ratios of {column} scatter by more than {_percent(noise)} or too little to tell",
            positions=tuple(np.asarray(at, dtype=np.int64).tolist()),
            name=column,
        )
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
