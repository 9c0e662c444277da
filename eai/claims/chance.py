"""What chance does not give: scores that differ between cards or lie below guessing, runs alike in sequence, tables without scatter; one
value for two configurations, two values for one, and labels that differ where the figures do not.

Scores of one model and task on several GPUs differ by chance at most: weights and items are the same. Measured energies scatter: if the
logs of a table are a sum of one number per level of each factor (model, strategy, GPU, batch...) to within less than the noise of a single
measurement, then ratios are constant to more digits than were measured.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog, strategies
from eai.claims import tabular
from eai.claims.relations import changes
from eai.claims.tabular import ENERGIES, FACTORS, MOST_COMPARED, Finding, Table, by_chance, check, judged, number, say, split, together
from eai.errors import UserError

NAMED = 12  # of the findings of one kind; one more says how many there are
MOST_GROUP, MOST_SCORE_PAIRS = 60, 100_000
LEAST_RUNS = 5
SHUFFLED_CELLS, LEAST_SHUFFLES = 4_000_000, 5_000
CELL_SD = 0.014  # log scale; ratios of two configurations then scatter by 2 %, less than over the models of any published campaign
MOST_ROWS, MOST_PAIRS = 2000, 200
LEAST_MATCHED = 4
NEIGHBOURHOOD = 0.05
LEAST_DIGITS, COPIED_DIGITS = 4, 10
SESSION_SD = 0.05  # log scale, k = 1: gain of a card's power sensor is 5 % (arXiv 2312.02741); sessions differ by less
CHANGE_SD = 0.03  # of a ratio of two configurations in one session: gain cancels
KERNEL = 0.015  # relative; repeated windows of one configuration agree as well as this
LEAST_PAIRS, LEAST_LABELS, MOST_LABELS = 3, 3, 40


def z_of(p, q, n, m):
    """z of two proportions with pooled variance; 0 if they are equal."""
    pooled = (p * n + q * m) / (n + m)
    with np.errstate(all="ignore"):
        z = (p - q) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return np.where(np.equal(p, q), 0.0, np.where(np.isnan(z), np.inf, z))[()]


@check("accuracy, gpu and n_items, with one model on two GPUs", weighs_chance=True)
def scores(table: Table, alpha: float) -> list[Finding]:
    """Score pairs of one (model, quantization, task) on two GPUs that differ beyond binomial error, Bonferroni over pairs. Items are
    treated as drawn anew for each GPU, though they are the same items: that only widens what is allowed."""
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
    claim, found, off = "a model scores alike on every GPU", [], np.flatnonzero(z > limit)
    for k in np.sort(off[np.argsort(-z[off], kind="stable")[:NAMED]]):
        i, j = a[k], b[k]
        reason = say(
            "{who} scores {p} on {a} and {q} on {b}: {z} standard errors of {n} items apart, where {limit} are allowed",
            who=", ".join(str(table.key(name)[i]) for name in ("model", "quantization", "task") if table.has(name)), p=f"{p[i]:.3f}",
            a=gpu[i], q=f"{p[j]:.3f}", b=gpu[j], z=f"{z[k]:.0f}", n=f"{n[i]:.0f}", limit=f"{limit:.1f}",
        )  # fmt: skip
        found.append(Finding(claim, "inconsistent", reason, (i, j), f"{p[i]:.3f}", f"{p[j]:.3f}", f"{i}:{j}"))
    if len(off) > NAMED:
        reason = f"{len(off)} of {len(pairs)} pairs of scores differ by more than binomial error; the {NAMED} widest are listed"
        found.append(Finding(claim, "inconsistent", reason, np.unique([a[off], b[off]]), name="all"))
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
    who = ", ".join(str(table.key(k)[i]) for k in ("gpu", "model", "quantization", "task") if table.key(k)[i])
    broken = f"{who} scores {score[i]:.3f}{than}: its output or its scoring is broken"
    reason = f"{below.sum()} scores are at 0 or below chance; {broken}"
    return judged(claim, below, seen, reason, "{n} scores are above chance", f"{score[i]:.3f}")


def _runs(y: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """The centred figures of each group that has runs enough and scatter; rows of a group stand together, in run order."""
    return [x - x.mean() for x in np.split(y, np.flatnonzero(np.diff(group)) + 1) if len(x) >= LEAST_RUNS and np.ptp(x) > 0]


def lag_one(y: np.ndarray, group: np.ndarray) -> tuple[float, float, int]:
    """Pooled lag-1 autocorrelation within groups, its z under independence, and the number of groups. Each group is centred, so for n
    independent normal figures E[r] = -1 / n and Var[r] = (n - 2)^2 / (n^2 (n - 1)) (Moran 1948, Biometrika 35: 255-260)."""
    if not (runs := _runs(y, group)):
        return float("nan"), float("nan"), 0
    r, n = np.array([np.sum(d[1:] * d[:-1]) / np.sum(d**2) for d in runs]), np.array([len(d) for d in runs])
    return float(r.mean()), float((r + 1 / n).sum() / np.sqrt(((n - 2) ** 2 / (n**2 * (n - 1))).sum())), len(runs)


@check("a column `run` with five runs or more a configuration", weighs_chance=True)
def serial(table: Table, alpha: float) -> list[Finding]:
    """Whether consecutive runs of a configuration resemble each other: then n runs hold less than n runs' worth of information. With few
    groups the mean correlation is not normal in its tail: its probability is then that of random orders within groups, never below one over
    their number, and printed as an upper bound. With more rows than can be shuffled it is normal."""
    columns = [c for c in ("energy_j_per_1k_tok", "energy_j_per_token", "energy_wh", "throughput_tok_s") if table.has(c, "run")]
    group, found = table.groups(table.factors()), []
    order = np.lexsort((table.column("run"), group))
    for column in columns:
        rows = order[np.isfinite(table.column(column)[order])]
        y, groups = table.column(column)[rows], group[rows]
        r, z, n = lag_one(y, groups)
        if not n:
            continue
        p, shuffles = float(special.ndtr(-z)), SHUFFLED_CELLS // len(y)
        if p < 0.05 and shuffles >= LEAST_SHUFFLES:
            rng, total = np.random.default_rng(0), np.zeros(shuffles)
            for d in _runs(y, groups):
                orders = rng.permuted(np.tile(d, (shuffles, 1)), axis=1)
                total += np.sum(orders[:, 1:] * orders[:, :-1], axis=1) / np.sum(d**2)
            p = max(p, float((1 + np.sum(total / n >= r - 1e-12)) / (shuffles + 1)))
        verdict, reason = "consistent", f"lag-1 correlation of {column} {r:+.2f} over {n} configurations, within chance"
        if p < alpha / len(columns):
            over = f"on average over {n} configurations (z = {z:.1f}, {by_chance(p).replace('=', '<=')})"
            verdict, reason = "inconsistent", f"consecutive runs resemble each other: lag-1 correlation of {column} {r:+.2f} {over}"
        found.append(Finding("the runs of a configuration are independent trials", verdict, reason, rows, "0", f"{r:+.2f}", column))
    return found


@check("a quantity over two factors or more, at least four cells", weighs_chance=True)
def structure(table: Table, alpha: float) -> list[Finding]:
    """Quantities whose figures are a product of their margins, as a whole or between two levels of one factor, place by place. The
    interaction's sum of squares over the noise variance of a cell is at least chi-square with the interaction's degrees of freedom; its
    lower tail, Bonferroni over the tests made, must be above `alpha`. The noise is the source's own standard deviation over sqrt(n) where
    it prints one, at most CELL_SD. Columns printed too coarsely to tell are left out."""
    places = [] if len(table) > 50 * MOST_ROWS else split(table.groups(["location"]))
    wide = [rows for rows in places if len(rows) >= LEAST_MATCHED]
    factors = [f for f in table.factors() if f != "params_b" or not table.has("model")]
    found = []
    for rows in wide:
        mark, share = f":{rows[0]}" if len(places) > 1 else "", alpha / len(wide)
        columns = [c for c in (*ENERGIES, "throughput_tok_s", "power_w", "duration_s") if np.isfinite(table.column(c)[rows]).any()]
        columns = [c for c in columns if c != "duration_s" or not tabular.is_set(table.column(c)[rows])]
        levels = {f: table.words[f][0][rows] for f in factors}
        levels = {f: codes for f, codes in levels.items() if (codes != codes[0]).any()}
        for column in columns if len(levels) > 1 else ():
            x = table.column(column)[rows]
            spread, n = table.column(tabular.SPREADS.get(column, ""))[rows], np.nan_to_num(table.column("n_runs")[rows], nan=1.0)
            own = spread / x / np.sqrt(np.maximum(n, 1.0))
            own = np.median(own[np.isfinite(own)]) if np.isfinite(own).any() else np.nan
            noise = float(min(own, CELL_SD)) if own > 0 else CELL_SD
            if column == "power_w":  # an estimate is a constant by construction and claims no scatter
                x = np.where(table.is_in("basis", ("estimated",))[rows], np.nan, x)
            use = np.flatnonzero((x > 0) & (table.step(column)[rows] < CELL_SD / 3 * np.abs(x)))
            cell = together([codes[use] for codes in levels.values()], len(use))
            first = np.unique(cell, return_index=True)[1]
            if LEAST_MATCHED <= len(first) <= MOST_ROWS:
                y = np.bincount(cell, weights=np.log(x[use])) / np.bincount(cell)
                coded = {f: np.unique(codes[use][first], return_inverse=True) for f, codes in levels.items()}
                coded = {f: (table.words[f][1][names], codes) for f, (names, codes) in coded.items()}
                given = (column, coded, y, rows[use][first], noise, share / len(columns) / 2, mark)
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
    sd, shown = _percent(np.sqrt(squares / df)), ""
    small = [f for f in ("quantization", "model", "gpu") if f in coded and len(coded) == 2 and 2 <= len(coded[f][0]) <= 6]
    for factor in small[:1]:  # the nearly constant changes behind a small table, for the reader
        (other,) = (f for f in coded if f != factor)
        (names, codes), rest = coded[factor], coded[other][1]
        wide, parts = _grid(codes, rest, y)[list(dict.fromkeys(rest.tolist()))], []
        for c in list(dict.fromkeys(codes.tolist()))[1:]:
            each = 100 * np.expm1(wide[:, c] - wide[:, codes[0]])
            parts.append(f"{names[c]} {', '.join(f'{v:.1f}' for v in each if np.isfinite(v))} %")
        sentence = "; changes against {reference}, by {factor}: {changes}"
        shown = say(sentence, reference=names[codes[0]], factor=other, changes="; ".join(parts))
    reason = say(
        "{n} figures of {column} are a product of one number per level of {factors}: residual {sd} with {df} degrees of freedom, "
        "where {noise} a cell is the least to expect ({p}){changes}",
        n=len(y), column=column, factors=", ".join(coded), sd=sd, df=df, noise=_percent(noise), p=by_chance(p), changes=shown,
    )  # fmt: skip
    claim = f"{column} was measured, with the scatter of a measurement"
    return [Finding(claim, "inconsistent", reason, at, _percent(noise), sd, column + mark)]


def _grid(codes: np.ndarray, rest: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cells as a matrix, what is the same otherwise down the rows and levels across; NaN where there is no cell."""
    out = np.full((rest.max() + 1, codes.max() + 1), np.nan)
    out[rest, codes] = y
    return out


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


def identity(table: Table) -> list[str]:
    """The keys that make a configuration; the model's size stands in where no model is named."""
    names = (*FACTORS[:2], "weights", *(f for f in FACTORS[2:] if f != "params_b"), "model" if table.has("model") else "params_b")
    return [k for k in dict.fromkeys(names) if table.has(k)]


def _distinct(table: Table, column: str, among: np.ndarray | bool = True) -> np.ndarray:
    """Positions of the rows that state `column`, one for each configuration and value; all of them where there are far too many."""
    x = table.column(column)
    seen = np.flatnonzero(np.isfinite(x) & among)
    if len(seen) > 20 * MOST_COMPARED:
        return seen
    codes = together([pd.factorize(x[seen])[0], table.groups(identity(table))[seen]], len(seen))
    return seen[np.sort(np.unique(codes, return_index=True)[1])]


def _digits(table: Table, column: str, at: np.ndarray) -> np.ndarray:
    """Which of the rows `at` show LEAST_DIGITS or more."""
    x, half = table.column(column)[at], table.step(column)[at]
    return tabular.significant_digits(x, np.maximum(half, 1e-15 * np.abs(x))) >= LEAST_DIGITS


@check("energies of four digits or more for several configurations", weighs_chance=True)
def one_value(table: Table, alpha: float) -> list[Finding]:
    """Figures of at least four digits that stand for two different configurations more often than chance would have it. Chance: two figures
    within 5 % of each other agree in print with probability step / (2 x 5 % x figure); the number of ties among all pairs of different
    configurations of a task is then about Poisson, its mean taken from the pairs that are close but not equal (one added, so that a small
    table has no zero). Reported if the observed number has probability below `alpha`."""
    columns = [c for c in (*ENERGIES, "power_w", "throughput_tok_s", "duration_s") if table.has(c)]
    columns = [c for c in columns if c != "duration_s" or not tabular.is_set(table.column(c))]
    tasks = [t for t in table.words["task"][1] if t] if table.has("task") else [""]
    found, keys = [], identity(table)
    for column, task in ((c, t) for c in columns for t in tasks):
        at = _distinct(table, column, table.is_in("task", (task,)) if task else True)
        if not 2 <= len(at) <= MOST_COMPARED:
            continue
        x, h, fine = table.column(column)[at], table.step(column)[at], _digits(table, column, at)
        other = ~table.compatible(keys, at) & fine[:, None] & fine[None, :]
        if not other.any():
            continue
        gap = np.abs(x[:, None] - x[None, :])
        tie = np.triu(other & (gap <= 1e-9 * np.abs(x)[:, None]), 1)
        near = np.triu(other & ~tie & (gap <= NEIGHBOURHOOD * np.abs(x)[:, None]), 1)
        mean = (near.sum() + 1) * np.median(np.maximum(h, 1e-15 * np.abs(x)) / (NEIGHBOURHOOD * np.abs(x)))
        p = float(special.pdtrc(tie.sum() - 1, mean)) if tie.any() else 1.0
        name = f"{column} ({task})" if task else column
        claim = f"one figure of {name} stands for one configuration"
        if p >= alpha / len(columns) / len(tasks):
            found.append(Finding(claim, "consistent", f"no more equal figures of {name} than chance gives", at, name=name))
            continue
        pairs = np.argwhere(tie)
        several = pd.unique(x[pairs[:, 0]])
        for value in several[:NAMED]:
            rows, shown = at[np.unique(pairs[x[pairs[:, 0]] == value])], number(value, 6)
            apart = [k for k in keys if (table.both_state(k, rows) & ~table.compatible([k], rows)).any()]
            who = "; ".join(", ".join(f"{k}={table.key(k)[r]}" for k in apart) for r in rows[:3])
            sentence = "{figure} is printed for {n} configurations that differ in {factors} ({who}); by chance: {p}"
            reason = say(sentence, figure=shown, n=len(rows), factors=", ".join(apart), who=who, p=by_chance(p))
            found.append(Finding(claim, "inconsistent", reason, rows, shown, name=f"{name}:{value:.6g}"))
        if len(several) > NAMED:
            reason = f"{len(several)} figures of {name} stand for several configurations each; {NAMED} are listed"
            found.append(Finding(claim, "inconsistent", reason, at[np.unique(pairs)], name=f"{name}:all"))
    return found


@check("two measured quantities of four digits or more, several rows of one configuration")
def copied(table: Table) -> list[Finding]:
    """Rows of one configuration that equal each other in every measured figure: one measurement stands in the table twice. Two quantities
    that are measured apart have to agree, with at least ten digits together; an energy in two units is one of them."""
    apart = (table.first(*ENERGIES, *tabular.PARTS), "power_w", "throughput_tok_s", "duration_s", "latency_s", "ttft_s")
    columns = [c for c in apart if c and table.has(c) and not tabular.is_set(table.column(c))]
    digits = [tabular.significant_digits(table.column(c), table.step(c)) for c in columns]
    digits = np.array(digits).reshape(len(columns), len(table))
    seen = ((digits >= LEAST_DIGITS).sum(axis=0) >= 2) & (digits.sum(axis=0) >= COPIED_DIGITS)
    if not seen.any() or not identity(table):
        return []
    same = [table.groups([*identity(table), "location"]), *(pd.factorize(table.column(c))[0] for c in columns)]
    codes = together(same, len(table))
    off = seen & (np.bincount(codes[seen], minlength=codes.max() + 1)[codes] > 1)
    reason = f"{off.sum()} rows hold {len(np.unique(codes[off]))} measurements: {' and '.join(columns)} are equal to the last digit"
    return judged("a row is one measurement", off, seen, reason, "{n} rows are measurements of their own")


@check("several rows of one configuration", weighs_chance=True)
def two_values(table: Table, alpha: float) -> list[Finding]:
    """`_two_values`, where a column that nothing was read from does not explain the difference: then that column is named instead. A column
    explains it if the rows agree again once rows that differ in it count as different configurations."""
    if not identity(table):  # nothing says which rows are of one configuration
        return []
    found = _two_values(table, alpha)
    wrong = [f for f in found if f.verdict == "inconsistent"]
    for name, (codes, texts) in table.others.items() if wrong else ():
        joined = tabular.coded(pd.Series(table.key("options") + f"{name}=" + texts[codes]))
        apart = replace(table, words=table.words | {"options": joined}, others={}, cache={})
        if not any(f.verdict == "inconsistent" for f in _two_values(apart, alpha)):
            rows = np.unique(np.concatenate([f.positions for f in wrong]))
            shown = ", ".join(list(dict.fromkeys(texts[codes[rows]]))[:4])
            reason = f"rows of one configuration differ, and so does column '{name}' ({shown}): it may be a factor; name it in a mapping"
            reason, claim = f"{reason} under `options`", "one configuration has one value"
            return [f for f in found if f not in wrong] + [Finding(claim, "untested", reason, rows, name=f"factor:{name}")]
    return found


def _two_values(table: Table, alpha: float) -> list[Finding]:
    """One configuration with two figures that no repetition explains: further apart than sessions on two cards may be. Two sessions are
    given a standard deviation of 5 % each on the log scale; with m pairs the limit is the normal quantile of alpha / m times sqrt(2) x 5 %,
    at least a factor of 1.4 in practice. Rows labelled gross and net are not compared."""
    found = []
    for column in (c for c in (*ENERGIES, "power_w", "throughput_tok_s", "tweor") if table.has(c)):
        at = _distinct(table, column)
        if len(at) > MOST_COMPARED:
            found += _wide(table, column, alpha)
        elif len(at) >= 2:
            x, label = table.column(column)[at], table.key("accounting")[at]
            same = table.compatible(identity(table), at) & (x > 0)[:, None] & (x > 0)[None, :]
            for k in ("gpu", "model", "quantization", "task"):
                same &= table.both_state(k, at) if table.has(k) else True
            mixed = (label == "net")[:, None] & (label == "gross")[None, :]
            found += _apart(table, column, at, np.triu(same & ~mixed & ~mixed.T, 1), x, SESSION_SD, alpha)
    return found


def _apart(table: Table, column: str, at: np.ndarray, same: np.ndarray, x: np.ndarray, sd: float, alpha: float) -> list[Finding]:
    """Findings for pairs in `same` whose logs differ by more than the limit, joined into one a configuration."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    claim, m = f"one configuration has one {column}", int(same.sum())
    if not m:
        return []
    limit, logs = -special.ndtri(alpha / m / 2) * np.sqrt(2) * sd, np.log(x)
    off = np.argwhere(same & (np.abs(logs[:, None] - logs[None, :]) > limit))
    if not len(off):
        reason = f"{m} pairs of rows of one configuration agree within a factor of {np.exp(limit):.2f}"
        return [Finding(claim, "consistent", reason, at, name=column)]
    label = connected_components(coo_array((np.ones(len(off)), off.T), shape=(len(x), len(x))), directed=False)[1]
    clusters, found = [np.flatnonzero(label == c) for c in np.unique(label[off[:, 0]])], []
    for rows in sorted(clusters, key=lambda r: -np.ptp(logs[r]))[:NAMED]:
        order = rows[np.argsort(x[rows], kind="stable")]
        low, high, place = x[order[0]], x[order[-1]], at[order]
        stated = [k for k in identity(table) if table.key(k)[place[0]] and (table.both_state(k, place).all() or k in ("gpu", "model"))]
        name = ", ".join(f"{k}={table.key(k)[place[0]]}" for k in stated)
        shown = list(dict.fromkeys(map(number, x[order])))
        listed = " and ".join(shown) if len(shown) <= 4 else f"{shown[0]} to {shown[-1]} ({len(shown)} figures)"
        reason = f"{name}: {column} is {listed} in different places, {number(high / low, 3)} times as much"
        found.append(Finding(claim, "inconsistent", reason, place, number(low), number(high), f"{column}:{name}"))
    if len(clusters) > NAMED:
        reason = f"{len(clusters)} configurations have more than one {column}; the {NAMED} widest are listed"
        found.append(Finding(claim, "inconsistent", reason, at[np.sort(np.concatenate(clusters))], name=f"{column}:all"))
    return found


def _wide(table: Table, column: str, alpha: float) -> list[Finding]:
    """`two_values` for a table too long to compare pair by pair: rows whose keys are equal, none left out."""
    x = pd.Series(table.column(column)).where(table.column(column) > 0)
    group = table.groups([*identity(table), "accounting"])
    low, high, size = (x.groupby(group).agg(of).to_numpy() for of in ("min", "max", "size"))
    claim, several, found = f"one configuration has one {column}", size > 1, []
    if not several.any():
        return []
    limit = -special.ndtri(alpha / (size * (size - 1.0) / 2).sum() / 2) * np.sqrt(2) * SESSION_SD
    spread = np.where(several, np.log(high / low), 0)
    off = spread > limit
    for g in np.argsort(-np.nan_to_num(spread), kind="stable")[: min(NAMED, int(off.sum()))]:
        rows = np.flatnonzero(group == g)
        times = f"{number(high[g] / low[g], 3)} times as much ({off.sum():,} such configurations)"
        reason = f"{len(rows)} rows of one configuration give {column} from {number(low[g])} to {number(high[g])}, {times}"
        found.append(Finding(claim, "inconsistent", reason, rows[:50], number(low[g]), number(high[g]), f"{column}:{g}"))
    right = f"{several.sum():,} configurations with several rows agree within a factor of {np.exp(limit):.2f}"
    return found or [Finding(claim, "consistent", right, name=column)]


@check("one comparison from several places", weighs_chance=True)
def two_changes(table: Table, alpha: float) -> list[Finding]:
    """One comparison with two outcomes: the change against the same reference strategy, computed in two places. Sensor gain cancels, so a
    ratio is given 3 % a session."""
    energy = table.first(*ENERGIES)
    pairs = changes(table, energy) if energy and table.has("quantization", "location") else {}
    if len(pairs) < 2:
        return []
    at, x, place = np.array(list(pairs)), table.column(energy), table.key("location")
    same = table.compatible(identity(table), at) & table.both_state("quantization", at) & (place[at][:, None] != place[at][None, :])
    found = []
    for f in _apart(table, energy, at, np.triu(same, 1), x[at] / x[[*pairs.values()]], CHANGE_SD, alpha):
        ends, reason = ("", ""), f.reason.replace(f"more than one {energy}", f"more than one change of {energy}")
        if f.stated:
            ends = [f"{100 * (x[p] / x[pairs[p]] - 1):+.1f} %" for p in map(int, (f.positions[0], f.positions[-1]))]
            reason = f"{f.reason.split(':')[0]}: the change of {energy} is {ends[0]} in one place and {ends[1]} in another"
        rows = np.unique([*f.positions, *(pairs[int(p)] for p in f.positions)])
        found.append(Finding(f"one comparison has one change of {energy}", f.verdict, reason, rows, *ends, f.name))
    return found


def restated(table: Table, owner: np.ndarray) -> list[Finding]:
    """One finding for each table (of the stacked tables of a source) whose rows without a GPU equal, digit for digit, figures that other
    tables give for two GPUs or more: its rows compare hardware too. A figure counts where its configuration may be the same, it has at
    least four digits, and all its equals agree on the GPU. Two such ties by chance have a probability below 1e-4 for the tables this is
    meant for."""
    found = []
    for column in (c for c in ENERGIES if table.has(c, "gpu")):
        at = np.flatnonzero(np.isfinite(table.column(column)))
        if not 2 <= len(at) <= MOST_COMPARED:
            continue
        x, gpu, names = table.column(column)[at], table.key("gpu")[at], owner[at]
        equal = table.compatible(identity(table), at) & (np.abs(x[:, None] - x[None, :]) <= 1e-9 * np.abs(x)[:, None])
        equal &= _digits(table, column, at)[:, None] & (names[:, None] != names[None, :])
        for name in pd.unique(names):
            origin = {int(i): set(gpu[equal[i]]) - {""} for i in np.flatnonzero((names == name) & (gpu == ""))}
            sure = {i: g.pop() for i, g in origin.items() if len(g) == 1}
            if len(set(sure.values())) < 2:
                continue
            shown = ", ".join(f"{number(x[i], 6)} is {g}'s" for i, g in sure.items())
            reason = f"{name} names no GPU, but its figures of {column} are those of several: {shown}; its rows compare hardware as well"
            rows = np.unique([*at[list(sure)], *(at[j] for i in sure for j in np.flatnonzero(equal[i] & (gpu != "")))])
            claim = f"the rows of {name} are of one GPU"
            found.append(Finding(claim, "inconsistent", reason, rows, "", shown, f"{name}:{column}", "restated"))
    return found


@check("energy and throughput of two strategies over the same configurations")
def kernels(table: Table) -> list[Finding]:
    """Labels of strategies that differ in bits and yet agree in throughput and in energy wherever both ran: one kernel under several names.
    Two labels need three shared configurations, three labels one: whole-run figures are judged as one group too."""
    energy, speed = table.first(*ENERGIES), table.first("throughput_tok_s", "duration_s")
    if energy is None or speed is None or not table.has("quantization"):
        return []
    e, s, (codes, labels) = table.column(energy), table.column(speed), table.words["quantization"]
    use = (e > 0) & (s > 0) & ~table.is_in("quantization", ("",))
    if not 2 <= len(np.unique(codes[use])) <= MOST_LABELS:
        return []
    bits = {}  # stored, of each label; the label itself where it is no strategy of ours
    for label in labels:
        try:
            bits[label] = strategies.get(label).weight_bits
        except UserError:
            bits[label] = label
    cells = pd.DataFrame({"place": table.groups(table.factors("quantization")), "label": codes, "e": e, "s": s})[use]
    logs = [np.log(cells.pivot_table(index="place", columns="label", values=v)) for v in "es"]
    alike: list[set[str]] = []
    shared, compared, claim, found = {}, 0, "labels that differ ran different kernels", []
    for a, b in combinations(logs[0].columns, 2):
        gaps = np.maximum(*((w[a] - w[b]).abs() for w in logs)).dropna()
        compared += len(gaps) >= LEAST_PAIRS
        if len(gaps) and gaps.max() <= KERNEL and bits[labels[a]] != bits[labels[b]]:
            near = [g for g in alike if g & {labels[a], labels[b]}]
            alike = [g for g in alike if g not in near] + [{labels[a], labels[b]}.union(*near)]
            shared[labels[a]] = max(len(gaps), shared.get(labels[a], 0))
    for joined in alike:
        n, names = max(shared.get(a, 0) for a in joined), sorted(joined)
        if n >= LEAST_PAIRS or len(joined) >= LEAST_LABELS:
            agree = f"agree within {KERNEL:.1%} in {energy} and {speed} in all {n} configuration(s) that they share"
            reason = f"{', '.join(names)} {agree}: they ran one kernel, or one of them did not apply"
            off = use & table.is_in("quantization", joined)
            found += judged(claim, off, off, reason, name="+".join(names))
    return found or judged(claim, (), use & bool(compared), "", f"{compared} pairs of labels differ")
