"""What chance does not give: scores that differ between cards or lie below guessing, runs alike in sequence, tables without scatter.

Scores of one model and task on several GPUs come from the same weights and items: they differ by chance at most. Runs that are called
independent do not resemble the run before. Measured energies scatter: if the logs of a table are a sum of one number per level of each
factor (model, strategy, GPU, batch...) to within less than the noise of a single measurement, then ratios are constant to more digits than
were measured.
"""

from itertools import combinations

import numpy as np
from scipy import special

from eai import catalog
from eai.claims.findings import Finding, by_chance, check, judged, say
from eai.claims.tabular import ENERGIES, SPREADS, Table, is_set, split, together
from eai.errors import UserError

MOST_GROUP, MOST_SCORE_PAIRS = 60, 100_000


def z_of(p, q, n, m):
    """z of two proportions with pooled variance; 0 if they are equal."""
    pooled = (p * n + q * m) / (n + m)
    with np.errstate(all="ignore"):
        z = (p - q) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return np.where(np.equal(p, q), 0.0, np.where(np.isnan(z), np.inf, z))[()]


@check("accuracy, gpu and n_items, with one model on two GPUs", weighs_chance=True)
def scores(table: Table, alpha: float) -> list[Finding]:
    """Score pairs of one (model, quantization, task) on two GPUs that differ beyond binomial error, Bonferroni over pairs.

    Items are treated as drawn anew for each GPU, though they are the same items: that only widens what is allowed.
    """
    if not table.has("accuracy", "gpu", "n_items"):
        return []
    p, n, gpu = table.column("accuracy"), table.column("n_items"), table.key("gpu")
    use = np.flatnonzero(np.isfinite(p) & (p >= 0) & (p <= 1) & (n > 0))
    group = table.groups(table.factors("gpu"))
    use = use[np.unique(together([group[use], table.words["gpu"][0][use]], len(use)), return_index=True)[1]]
    pairs = []
    for at in split(group, use):
        pairs += list(combinations(np.sort(at)[:MOST_GROUP].tolist(), 2)) if len(pairs) <= MOST_SCORE_PAIRS else []
    if not pairs:
        return []
    a, b = np.array(pairs).T
    limit, z = -special.ndtri(alpha / len(pairs) / 2), np.abs(z_of(p[a], p[b], n[a], n[b]))
    claim, found = "a model scores alike on every GPU", []
    for i, j, apart in zip(a[z > limit], b[z > limit], z[z > limit], strict=True):
        who = ", ".join(str(table.key(k)[i]) for k in ("model", "quantization", "task") if table.has(k))
        reason = say(
            "{who} scores {p} on {a} and {q} on {b}: {z} standard errors of {n} items apart, where {limit} are allowed",
            who=who, p=f"{p[i]:.3f}", a=gpu[i], q=f"{p[j]:.3f}", b=gpu[j], z=f"{apart:.0f}", n=f"{n[i]:.0f}", limit=f"{limit:.1f}",
        )  # fmt: skip
        found.append(Finding(claim, "inconsistent", reason, (i, j), f"{p[i]:.3f}", f"{p[j]:.3f}", f"{i}:{j}"))
    right = f"{len(pairs)} pairs of scores agree within binomial error"
    return found or [Finding(claim, "consistent", right, np.unique([a, b]))]


@check("accuracy and a task whose chance level is known", weighs_chance=True)
def chance(table: Table, alpha: float) -> list[Finding]:
    """Scores at 0 or below what guessing gets, where the task's chance is known: a broken output or another metric, never a good trade."""
    if not table.has("accuracy", "task"):
        return []
    score, n, level = table.column("accuracy"), table.column("n_items").copy(), np.full(len(table), np.nan)
    for name in table.words["task"][1]:
        try:
            task = catalog.task(name)
        except UserError:
            continue
        rows = table.is_in("task", (name,))
        level[rows] = np.nan if task.chance is None else task.chance
        n[rows & ~np.isfinite(n)] = task.items
    seen = np.isfinite(score) & np.isfinite(level) & (score >= 0) & (score <= 1)
    right = np.round(score * n)
    p = np.where(right < n, special.betainc(n - right, right + 1, 1 - level), 1.0)  # the binomial's distribution function
    below = (seen & (score < level) & (p < alpha / max(int(seen.sum()), 1))) | (score == 0)
    claim, i, at = "scores are above what guessing gets", int(np.argmax(below)), seen & (p < 0.975)
    if at.any() and not below.any():
        reason = f"{at.sum()} of {seen.sum()} scores do not differ from guessing by more than chance"
        return [Finding(claim, "untested", reason, np.flatnonzero(at), name="at")]
    than = f", guessing gets {level[i]:.3f}" if np.isfinite(level[i]) else ""
    who = f"{table.who(i, 'gpu', 'model', 'quantization', 'task')} scores {score[i]:.3f}{than}"
    reason = f"{below.sum()} scores are at 0 or below chance; {who}: its output or its scoring is broken"
    return judged(claim, below, seen, reason, "{n} scores are above chance", f"{score[i]:.3f}")


LEAST_RUNS = 5
SHUFFLED_CELLS, LEAST_SHUFFLES = 4_000_000, 5_000


def _runs(y: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """The centred figures of each group that has runs enough and scatter; rows of a group stand together, in run order."""
    return [x - x.mean() for x in np.split(y, np.flatnonzero(np.diff(group)) + 1) if len(x) >= LEAST_RUNS and np.ptp(x) > 0]


def lag_one(y: np.ndarray, group: np.ndarray) -> tuple[float, float, int]:
    """Pooled lag-1 autocorrelation within groups, its z under independence, and the number of groups.

    Each group is centred, so for n independent normal figures E[r] = -1 / n and Var[r] = (n - 2)^2 / (n^2 (n - 1))
    (Moran 1948, Biometrika 35: 255-260).
    """
    runs = _runs(y, group)
    if not runs:
        return float("nan"), float("nan"), 0
    r, n = np.array([np.sum(d[1:] * d[:-1]) / np.sum(d**2) for d in runs]), np.array([len(d) for d in runs])
    return float(r.mean()), float((r + 1 / n).sum() / np.sqrt(((n - 2) ** 2 / (n**2 * (n - 1))).sum())), len(runs)


def _shuffled(y: np.ndarray, group: np.ndarray, observed: float) -> float:
    """The share of random orders within groups with at least the observed mean correlation; 0 where there are too many rows to shuffle.

    With few groups the mean correlation is not normal in its tail; with hundreds of rows it is.
    """
    shuffles, runs = SHUFFLED_CELLS // len(y), _runs(y, group)
    if shuffles < LEAST_SHUFFLES:
        return 0.0
    rng, total = np.random.default_rng(0), np.zeros(shuffles)
    for d in runs:
        orders = rng.permuted(np.tile(d, (shuffles, 1)), axis=1)
        total += np.sum(orders[:, 1:] * orders[:, :-1], axis=1) / np.sum(d**2)
    return float((1 + np.sum(total / len(runs) >= observed - 1e-12)) / (shuffles + 1))


@check("a column `run` with five runs or more a configuration", weighs_chance=True)
def serial(table: Table, alpha: float) -> list[Finding]:
    """Whether consecutive runs of a configuration resemble each other: then n runs hold less than n runs' worth of information."""
    columns = [c for c in ("energy_j_per_1k_tok", "energy_j_per_token", "energy_wh", "throughput_tok_s") if table.has(c, "run")]
    group, found = table.groups(table.factors()), []
    order = np.lexsort((table.column("run"), group))
    for column in columns:
        rows = order[np.isfinite(table.column(column)[order])]
        y, groups = table.column(column)[rows], group[rows]
        r, z, n = lag_one(y, groups)
        if not n:
            continue
        p = float(special.ndtr(-z))
        if p < 0.05:  # never below one over the number of shuffles: an upper bound, and printed as one
            p = max(p, _shuffled(y, groups, r))
        verdict, reason = "consistent", f"lag-1 correlation of {column} {r:+.2f} over {n} configurations, within chance"
        if p < alpha / len(columns):
            over = f"on average over {n} configurations (z = {z:.1f}, {by_chance(p).replace('=', '<=')})"
            verdict, reason = "inconsistent", f"consecutive runs resemble each other: lag-1 correlation of {column} {r:+.2f} {over}"
        found.append(Finding("the runs of a configuration are independent trials", verdict, reason, rows, "0", f"{r:+.2f}", column))
    return found


CELL_SD = 0.014  # log scale; ratios of two configurations then scatter by 2 %, less than over the models of any published campaign
MOST_ROWS, MOST_PAIRS = 2000, 200
LEAST_MATCHED = 4


def _noise(table: Table, column: str, rows: np.ndarray) -> float:
    """The least scatter of a cell's log: the source's own standard deviation over sqrt(n) where it prints one, else CELL_SD."""
    spread, n = table.column(SPREADS.get(column, ""))[rows], np.nan_to_num(table.column("n_runs")[rows], nan=1.0)
    own = spread / table.column(column)[rows] / np.sqrt(np.maximum(n, 1.0))
    own = np.median(own[np.isfinite(own)]) if np.isfinite(own).any() else np.nan
    return float(min(own, CELL_SD)) if own > 0 else CELL_SD


@check("a quantity over two factors or more, at least four cells", weighs_chance=True)
def structure(table: Table, alpha: float) -> list[Finding]:
    """Quantities whose figures are a product of their margins, as a whole or between two levels of one factor, place by place.

    The interaction's sum of squares over the noise variance of a cell is at least chi-square with the interaction's degrees of
    freedom; its lower tail, Bonferroni over the tests made, must be above `alpha`. Columns printed too coarsely to tell are left out.
    """
    places = [] if len(table) > 50 * MOST_ROWS else split(table.groups(["location"]))
    wide = [rows for rows in places if len(rows) >= LEAST_MATCHED]
    factors = [f for f in table.factors() if f != "params_b" or not table.has("model")]
    found = []
    for rows in wide:
        mark, share = f":{rows[0]}" if len(places) > 1 else "", alpha / len(wide)
        columns = [c for c in (*ENERGIES, "throughput_tok_s", "power_w", "duration_s") if np.isfinite(table.column(c)[rows]).any()]
        columns = [c for c in columns if c != "duration_s" or not is_set(table.column(c)[rows])]
        levels = {f: table.words[f][0][rows] for f in factors}
        levels = {f: codes for f, codes in levels.items() if (codes != codes[0]).any()}
        for column in columns if len(levels) > 1 else ():
            x = table.column(column)[rows]
            if column == "power_w":  # an estimate is a constant by construction and claims no scatter
                x = np.where(table.is_in("basis", ("estimated",))[rows], np.nan, x)
            use = np.flatnonzero((x > 0) & (table.step(column)[rows] < CELL_SD / 3 * np.abs(x)))
            cell = together([codes[use] for codes in levels.values()], len(use))
            first = np.unique(cell, return_index=True)[1]
            if LEAST_MATCHED <= len(first) <= MOST_ROWS:
                y = np.bincount(cell, weights=np.log(x[use])) / np.bincount(cell)
                coded = {f: np.unique(codes[use][first], return_inverse=True) for f, codes in levels.items()}
                coded = {f: (table.words[f][1][names], codes) for f, (names, codes) in coded.items()}
                given = (column, coded, y, rows[use][first], _noise(table, column, rows), share / len(columns) / 2, mark)
                found += _whole(*given) or _pairs(*given)
    return found


def _whole(column: str, coded: dict, y: np.ndarray, at: np.ndarray, noise: float, alpha: float, mark: str) -> list[Finding]:
    """Whether a whole table is a product of its margins: least squares on the main effects of its factors."""
    design = np.column_stack([np.ones(len(y)), *(np.eye(len(names))[codes][:, 1:] for names, codes in coded.values())])
    beta, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    squares, df = float(np.sum((y - design @ beta) ** 2)), len(y) - int(rank)
    p = float(special.chdtr(df, squares / noise**2)) if df >= 1 else 1.0
    if p >= alpha:
        return []
    sd = _percent(np.sqrt(squares / df))
    reason = say(
        "{n} figures of {column} are a product of one number per level of {factors}: residual {sd} with {df} degrees of freedom, "
        "where {noise} a cell is the least to expect ({p}){changes}",
        n=len(y), column=column, factors=", ".join(coded), sd=sd, df=df, noise=_percent(noise), p=by_chance(p), changes=_changes(coded, y),
    )  # fmt: skip
    claim = f"{column} was measured, with the scatter of a measurement"
    return [Finding(claim, "inconsistent", reason, at, _percent(noise), sd, column + mark)]


def _grid(codes: np.ndarray, rest: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cells as a matrix, what is the same otherwise down the rows and levels across; NaN where there is no cell."""
    out = np.full((rest.max() + 1, codes.max() + 1), np.nan)
    out[rest, codes] = y
    return out


def _changes(coded: dict, y: np.ndarray) -> str:
    """The nearly constant changes behind a small product table, for the reader; empty for a large one."""
    for factor in (f for f in ("quantization", "model", "gpu") if f in coded and len(coded) == 2 and 2 <= len(coded[f][0]) <= 6):
        (other,) = (f for f in coded if f != factor)
        (names, codes), rest = coded[factor], coded[other][1]
        wide, parts = _grid(codes, rest, y)[list(dict.fromkeys(rest.tolist()))], []
        for c in dict.fromkeys(codes.tolist()):
            shown = 100 * np.expm1(wide[:, c] - wide[:, codes[0]])
            parts += [f"{names[c]} {', '.join(f'{v:.1f}' for v in shown if np.isfinite(v))} %"] if c != codes[0] else []
        sentence = "; changes against {reference}, by {factor}: {changes}"
        return say(sentence, reference=names[codes[0]], factor=other, changes="; ".join(parts))
    return ""


def _pairs(column: str, coded: dict, y: np.ndarray, at: np.ndarray, noise: float, alpha: float, mark: str) -> list[Finding]:
    """Two levels of a factor whose ratio is constant over everything else, where the table as a whole is no product."""
    tests = []
    for factor, (names, codes) in coded.items():
        rest = together([c for f, (_, c) in coded.items() if f != factor], len(y))
        wide, place = _grid(codes, rest, y), _grid(codes, rest, at)
        for a, b in list(combinations(range(len(names)), 2))[:MOST_PAIRS]:
            d = wide[:, a] - wide[:, b]
            both = np.isfinite(d)
            if both.sum() >= LEAST_MATCHED:
                tests.append((factor, names[a], names[b], d[both], place[both][:, [a, b]].ravel().astype(np.int64)))
    claim, least, found = f"ratios of {column} scatter as measured ratios do", noise * np.sqrt(2), []
    for factor, a, b, d, rows in tests:
        p = float(special.chdtr(len(d) - 1, np.sum((d - d.mean()) ** 2) / least**2))
        if p < alpha / len(tests):
            sd = _percent(d.std(ddof=1))
            to, name = f"to {sd}, where {_percent(least)} is the least to expect ({by_chance(p)})", f"{column}:{factor}:{a}:{b}{mark}"
            reason = f"{factor} {a} over {b}: the ratio of {column} is {np.exp(d.mean()):.4f} in all {len(d)} matched pairs, {to}"
            found.append(Finding(claim, "inconsistent", reason, np.sort(rows), _percent(least), sd, name))
    right = f"{len(tests)} ratios of {column} scatter by more than {_percent(least)} or too little to tell"
    return found or ([Finding(claim, "consistent", right, at, name=column + mark)] if tests else [])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share > 1e-6 else "less than 0.0001 %"
