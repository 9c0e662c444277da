"""One value for two configurations, two values for one, and labels that differ where the figures do not.

All compare rows of one table, or of all tables of one source stacked, by what their keys say. A table that does not name its GPU may
repeat, digit for digit, figures that another table of the same source gives for a named one: then its rows compare hardware too.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special

from eai import strategies
from eai.claims.findings import Finding, by_chance, check, judged, number, say
from eai.claims.relations import changes
from eai.claims.tabular import ENERGIES, FACTORS, MOST_COMPARED, PARTS, Table, coded, is_set, significant_digits, together
from eai.errors import UserError

NEIGHBOURHOOD = 0.05
LEAST_DIGITS, COPIED_DIGITS = 4, 10
SESSION_SD = 0.05  # log scale, k = 1: gain of a card's power sensor is 5 % (arXiv 2312.02741); sessions differ by less
CHANGE_SD = 0.03  # of a ratio of two configurations in one session: gain cancels
NAMED = 12
FAR_TOO_MANY = 20 * MOST_COMPARED  # rows among which the distinct ones are not even counted


def identity(table: Table) -> list[str]:
    """The keys that make a configuration; the model's size stands in where no model is named."""
    names = (*FACTORS[:2], "weights", *(f for f in FACTORS[2:] if f != "params_b"), "model" if table.has("model") else "params_b")
    return [k for k in dict.fromkeys(names) if table.has(k)]


def _distinct(table: Table, column: str, among: np.ndarray | bool = True) -> np.ndarray:
    """Positions of the rows that state `column`, one for each configuration and value; all of them where there are far too many."""
    x = table.column(column)
    seen = np.flatnonzero(np.isfinite(x) & among)
    if len(seen) > FAR_TOO_MANY:
        return seen
    codes = together([pd.factorize(x[seen])[0], table.groups(identity(table))[seen]], len(seen))
    return seen[np.sort(np.unique(codes, return_index=True)[1])]


def _digits(table: Table, column: str, at: np.ndarray) -> np.ndarray:
    """Which of the rows `at` show LEAST_DIGITS or more."""
    x, half = table.column(column)[at], table.step(column)[at]
    return significant_digits(x, np.maximum(half, 1e-15 * np.abs(x))) >= LEAST_DIGITS


@check("energies of four digits or more for several configurations", weighs_chance=True)
def one_value(table: Table, alpha: float) -> list[Finding]:
    """Figures of at least four digits that stand for two different configurations more often than chance would have it.

    Chance: two figures within 5 % of each other agree in print with probability step / (2 x 5 % x figure); the number of ties among
    all pairs of different configurations of a task is then about Poisson, its mean taken from the pairs that are close but not equal
    (one added, so that a small table has no zero). Reported if the observed number has probability below `alpha`.
    """
    columns = [c for c in (*ENERGIES, "power_w", "throughput_tok_s", "duration_s") if table.has(c)]
    columns = [c for c in columns if c != "duration_s" or not is_set(table.column(c))]
    tasks = [t for t in table.words["task"][1] if t] if table.has("task") else [""]
    found = []
    for column in columns:
        for task in tasks:
            at = _distinct(table, column, table.is_in("task", (task,)) if task else True)
            if 2 <= len(at) <= MOST_COMPARED:
                found += _ties(table, column, task, at, alpha / len(columns) / len(tasks))
    return found


def _ties(table: Table, column: str, task: str, at: np.ndarray, alpha: float) -> list[Finding]:
    """`one_value` among the rows `at` of one task."""
    x, h, fine, keys = table.column(column)[at], table.step(column)[at], _digits(table, column, at), identity(table)
    other = ~table.compatible(keys, at) & fine[:, None] & fine[None, :]
    if not other.any():
        return []
    gap = np.abs(x[:, None] - x[None, :])
    tie = np.triu(other & (gap <= 1e-9 * np.abs(x)[:, None]), 1)
    near = np.triu(other & ~tie & (gap <= NEIGHBOURHOOD * np.abs(x)[:, None]), 1)
    chance = (near.sum() + 1) * np.median(np.maximum(h, 1e-15 * np.abs(x)) / (NEIGHBOURHOOD * np.abs(x)))
    p = float(special.pdtrc(tie.sum() - 1, chance)) if tie.any() else 1.0
    name = f"{column} ({task})" if task else column
    claim = f"one figure of {name} stands for one configuration"
    if p >= alpha:
        return [Finding(claim, "consistent", f"no more equal figures of {name} than chance gives", at, name=name)]
    pairs, found = np.argwhere(tie), []
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
    """Rows of one configuration that equal each other in every measured figure: one measurement stands in the table twice.

    Two quantities that are measured apart have to agree, with at least ten digits together; an energy in two units is one of them.
    """
    apart = (table.first(*ENERGIES, *PARTS), "power_w", "throughput_tok_s", "duration_s", "latency_s", "ttft_s")
    columns = [c for c in apart if c and table.has(c) and not is_set(table.column(c))]
    digits = np.array([significant_digits(table.column(c), table.step(c)) for c in columns]).reshape(len(columns), len(table))
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
    """`_two_values`, where a column that nothing was read from does not explain the difference: then that column is named instead.

    A column explains it if the rows agree again once rows that differ in it count as different configurations.
    """
    if not identity(table):  # nothing says which rows are of one configuration
        return []
    found = _two_values(table, alpha)
    wrong = [f for f in found if f.verdict == "inconsistent"]
    for name, (codes, texts) in table.others.items() if wrong else ():
        joined = coded(pd.Series(table.key("options") + f"{name}=" + texts[codes]))
        apart = replace(table, words=table.words | {"options": joined}, others={}, cache={})
        if not any(f.verdict == "inconsistent" for f in _two_values(apart, alpha)):
            rows = np.unique(np.concatenate([f.positions for f in wrong]))
            shown = ", ".join(list(dict.fromkeys(texts[codes[rows]]))[:4])
            reason = f"rows of one configuration differ, and so does column '{name}' ({shown}): it may be a factor; name it in a mapping"
            reason, claim = f"{reason} under `options`", "one configuration has one value"
            return [f for f in found if f not in wrong] + [Finding(claim, "untested", reason, rows, name=f"factor:{name}")]
    return found


def _two_values(table: Table, alpha: float) -> list[Finding]:
    """One configuration with two figures that no repetition explains: further apart than sessions on two cards may be.

    Two sessions are given a standard deviation of 5 % each on the log scale; with m pairs the limit is the normal quantile of
    alpha / m times sqrt(2) x 5 %, at least a factor of 1.4 in practice. Rows labelled gross and net are not compared.
    """
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


def _limit(alpha: float, pairs: float, sd: float) -> float:
    """How far apart [log] the figures of one configuration may lie."""
    return -special.ndtri(alpha / pairs / 2) * np.sqrt(2) * sd


def _apart(table: Table, column: str, at: np.ndarray, same: np.ndarray, x: np.ndarray, sd: float, alpha: float) -> list[Finding]:
    """Findings for pairs in `same` whose logs differ by more than the limit, joined into one a configuration."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    claim, m = f"one configuration has one {column}", int(same.sum())
    if not m:
        return []
    limit, logs = _limit(alpha, m, sd), np.log(x)
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
    claim, several = f"one configuration has one {column}", size > 1
    if not several.any():
        return []
    limit = _limit(alpha, (size * (size - 1.0) / 2).sum(), SESSION_SD)
    spread = np.where(several, np.log(high / low), 0)
    off = spread > limit
    if not off.any():
        reason = f"{several.sum():,} configurations with several rows agree within a factor of {np.exp(limit):.2f}"
        return [Finding(claim, "consistent", reason, name=column)]
    found = []
    for g in np.argsort(-np.nan_to_num(spread), kind="stable")[: min(NAMED, int(off.sum()))]:
        rows = np.flatnonzero(group == g)
        times = f"{number(high[g] / low[g], 3)} times as much ({off.sum():,} such configurations)"
        reason = f"{len(rows)} rows of one configuration give {column} from {number(low[g])} to {number(high[g])}, {times}"
        found.append(Finding(claim, "inconsistent", reason, rows[:50], number(low[g]), number(high[g]), f"{column}:{g}"))
    return found


@check("one comparison from several places", weighs_chance=True)
def two_changes(table: Table, alpha: float) -> list[Finding]:
    """One comparison with two outcomes: the change against the same reference strategy, computed in two places.

    Sensor gain cancels, so a ratio is given 3 % a session.
    """
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
    """One finding for each table (of the stacked tables of a source) whose rows without a GPU equal figures of two GPUs or more.

    A figure counts where its configuration may be the same, it has at least four digits, and all its equals agree on the GPU. Two
    such ties by chance have a probability below 1e-4 for the tables this is meant for.
    """
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


KERNEL = 0.015  # relative; repeated windows of one configuration agree as well as this
LEAST_PAIRS, LEAST_LABELS, MOST_LABELS = 3, 3, 40


@check("energy and throughput of two strategies over the same configurations")
def kernels(table: Table) -> list[Finding]:
    """Labels of strategies that differ in bits and yet agree in throughput and in energy wherever both ran: one kernel under several names.

    Two labels need three shared configurations, three labels one: whole-run figures are judged as one group too.
    """
    energy, speed = table.first(*ENERGIES), table.first("throughput_tok_s", "duration_s")
    if energy is None or speed is None or not table.has("quantization"):
        return []
    e, s, (codes, labels) = table.column(energy), table.column(speed), table.words["quantization"]
    use = (e > 0) & (s > 0) & ~table.is_in("quantization", ("",))
    if not 2 <= len(np.unique(codes[use])) <= MOST_LABELS:
        return []
    cells = pd.DataFrame({"place": table.groups(table.factors("quantization")), "label": codes, "e": e, "s": s})[use]
    logs = [np.log(cells.pivot_table(index="place", columns="label", values=v)) for v in "es"]
    alike: list[set[str]] = []
    shared, compared, claim, found = {}, 0, "labels that differ ran different kernels", []
    for a, b in combinations(logs[0].columns, 2):
        gaps = np.maximum(*((w[a] - w[b]).abs() for w in logs)).dropna()
        compared += len(gaps) >= LEAST_PAIRS
        if len(gaps) and gaps.max() <= KERNEL and _bits(labels[a]) != _bits(labels[b]):
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


def _bits(label: str) -> object:
    """Stored bits of a strategy; the label itself where it is no strategy of ours."""
    try:
        return strategies.get(label).weight_bits
    except UserError:
        return label
