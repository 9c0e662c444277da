"""One value for two configurations, and two values for one configuration.

Both compare rows of one table, or of all tables of one source stacked, by what their keys say (see `configuration`).

Columns that restate figures of different hardware as if they were one series.

A table that does not name its GPU may repeat, digit for digit, figures that another table of the same source gives for a named one. If
its rows turn out to come from several GPUs, comparing them down the column compares hardware too.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from eai.claims.findings import Finding, number
from eai.claims.quantities import ENERGIES, FACTORS
from eai.claims.tabular import MOST_COMPARED, Table, both_state, compatible, is_set, significant_digits

IDENTITY = (*FACTORS[:2], "weights", *(f for f in FACTORS[2:] if f != "params_b"))
NEIGHBOURHOOD = 0.05
LEAST_DIGITS = 4
SESSION_SD = 0.05  # log scale, k = 1: gain of a card's power sensor is 5 % (arXiv 2312.02741); sessions differ by less
CHANGE_SD = 0.03  # of a ratio of two configurations in one session: gain cancels
NAMED = 12


def identity(table: Table) -> pd.DataFrame:
    """The keys that make a configuration; the model's size stands in where no model is named."""
    names = IDENTITY if table.has("model") else (*IDENTITY, "params_b")
    return table.keys[[k for k in names if k in table.keys]]


def _distinct(table: Table, column: str) -> np.ndarray:
    """Positions of the rows that state `column`, one for each configuration and value."""
    seen = np.flatnonzero(np.isfinite(table.column(column)))
    frame = identity(table).iloc[seen].assign(_value=table.column(column)[seen])
    return seen[~frame.duplicated().to_numpy()]


def one_value(table: Table, alpha: float) -> list[Finding]:
    """Figures of at least four digits that stand for two different configurations more often than chance would have it.

    Chance: two figures within 5 % of each other agree in print with probability step / (2 x 5 % x figure); the number of ties among
    all pairs of different configurations of a task is then about Poisson, its mean taken from the pairs that are close but not equal
    (one added, so that a small table has no zero). Reported if the observed number has probability below `alpha`.
    """
    columns = [c for c in (*ENERGIES, "power_w", "throughput_tok_s", "duration_s") if table.has(c)]
    columns = [c for c in columns if c != "duration_s" or not is_set(table.column(c))]
    tasks = [t for t in pd.unique(table.key("task")) if t] if table.has("task") else [""]
    found = []
    for column in columns:
        for task in tasks:
            at = _distinct(table, column)
            at = at[table.key("task")[at] == task]
            if 2 <= len(at) <= MOST_COMPARED:
                found += _one_task(table, column, task, at, alpha / len(columns) / len(tasks))
    return found


def _one_task(table: Table, column: str, task: str, at: np.ndarray, alpha: float) -> list[Finding]:
    """`one_value` among the rows `at` of one task."""
    x = table.column(column)[at]
    h = np.maximum(table.step(column)[at], 1e-15 * np.abs(x))
    keys = identity(table).iloc[at]
    digits = np.array([significant_digits(a, b) for a, b in zip(x, h, strict=True)])
    other = ~compatible(keys) & (digits >= LEAST_DIGITS)[:, None] & (digits >= LEAST_DIGITS)[None, :]
    gap = np.abs(x[:, None] - x[None, :])
    tie = np.triu(other & (gap <= 1e-9 * np.abs(x)[:, None]), 1)
    near = np.triu(other & ~tie & (gap <= NEIGHBOURHOOD * np.abs(x)[:, None]), 1)
    chance = (near.sum() + 1) * np.median(2 * h / (2 * NEIGHBOURHOOD * np.abs(x)))
    p = float(stats.poisson.sf(tie.sum() - 1, chance)) if tie.any() else 1.0
    return _ties(table, f"{column} ({task})" if task else column, keys, at, tie, p, alpha, bool(other.any()))


def _ties(
    table: Table, column: str, keys: pd.DataFrame, at: np.ndarray, tie: np.ndarray, p: float, alpha: float, tested: bool
) -> list[Finding]:
    claim = f"one figure of {column} stands for one configuration"
    if p >= alpha:
        return (
            [
                Finding(
                    "one_value",
                    claim,
                    "consistent",
                    f"no more equal figures of {column} than chance gives",
                    positions=tuple(np.asarray(at, dtype=np.int64).tolist()),
                    name=column,
                )
            ]
            if tested
            else []
        )
    x = table.column(column.split(" ")[0])[at]
    pairs = np.argwhere(tie)
    values = pd.unique(x[pairs[:, 0]])
    found = []
    for value in values[:NAMED]:
        rows = sorted({int(i) for i in pairs[x[pairs[:, 0]] == value].ravel()})
        apart = [k for k in keys if (both_state(keys[k].iloc[rows]) & ~compatible(keys[[k]].iloc[rows])).any()]
        who = "; ".join(", ".join(f"{k}={keys[k].iloc[r]}" for k in apart) for r in rows[:3])
        reason = (
            f"{number(value, 6)} is printed for {len(rows)} configurations that differ in {', '.join(apart)} "
            f"({who}); by chance: p = {p:.1g}"
        )
        found.append(
            Finding(
                "one_value", claim, "inconsistent", reason, number(value, 6), "", tuple(int(at[r]) for r in rows), f"{column}:{value:.6g}"
            )
        )
    if len(values) > NAMED:
        rows = tuple(sorted({int(at[i]) for i in pairs.ravel()}))
        found.append(
            Finding(
                "one_value",
                claim,
                "inconsistent",
                f"{len(values)} figures of {column} stand for several configurations each; {NAMED} are listed",
                positions=rows,
                name=f"{column}:all",
            )
        )
    return found


def two_values(table: Table, alpha: float) -> list[Finding]:
    """`_two_values`, where a column that nothing was read from does not explain the difference: then that column is named instead.

    A column explains it if the rows agree again once rows that differ in it count as different configurations.
    """
    found = _two_values(table, alpha)
    if not any(f.verdict == "inconsistent" for f in found):
        return found
    for name in table.others:
        if table.others[name].nunique() < 2:
            continue
        split = replace(table, keys=table.keys.assign(options=_joined(table, name)), others=pd.DataFrame())
        again = _two_values(split, alpha)
        if not any(f.verdict == "inconsistent" for f in again):
            rows = tuple(sorted({p for f in found if f.verdict == "inconsistent" for p in f.positions}))
            levels = ", ".join(list(dict.fromkeys(table.others[name].iloc[list(rows)].astype(str)))[:4])
            reason = (
                f"rows of one configuration differ, and so does column '{name}' ({levels}): it may be a "
                "factor; name it in a mapping under `options`"
            )
            return [f for f in found if f.verdict != "inconsistent"] + [
                Finding("two_values", "one configuration has one value", "untested", reason, "", "", rows, f"factor:{name}")
            ]
    return found


def _joined(table: Table, name: str) -> pd.Series:
    """The options of every row with another column among them, as a key."""
    return (pd.Series(table.key("options")) + f"{name}=" + table.others[name].astype(str).to_numpy()).astype("category")


def _two_values(table: Table, alpha: float) -> list[Finding]:
    """One configuration with two figures that no repetition explains: further apart than sessions on two cards may be.

    Two sessions are given a standard deviation of 5 % each on the log scale; with m pairs the limit is the normal quantile of
    alpha / m times sqrt(2) x 5 %, at least a factor of 1.4 in practice. Rows labelled gross and net are not compared.
    """
    found = []
    for column in [c for c in (*ENERGIES, "power_w", "throughput_tok_s", "tweor") if table.has(c)]:
        at = _distinct(table, column)
        if len(at) > MOST_COMPARED:
            found += _wide(table, column, alpha)
        if not 2 <= len(at) <= MOST_COMPARED:
            continue
        keys = identity(table).iloc[at]
        same = compatible(keys)
        for k in ("gpu", "model", "quantization", "task"):
            if k in keys:
                same &= both_state(keys[k])
        accounting = table.keys["accounting"].iloc[at].astype(object).to_numpy() if "accounting" in table.keys else np.full(len(at), "")
        same &= ~(
            ((accounting == "net")[:, None] & (accounting == "gross")[None, :])
            | ((accounting == "gross")[:, None] & (accounting == "net")[None, :])
        )
        x = table.column(column)[at]
        found += _apart(table, column, keys, at, np.triu(same & (x > 0)[:, None] & (x > 0)[None, :], 1), x, SESSION_SD, alpha)
    return found


def _apart(
    table: Table, column: str, keys: pd.DataFrame, at: np.ndarray, same: np.ndarray, x: np.ndarray, sd: float, alpha: float
) -> list[Finding]:
    """Findings for pairs in `same` whose logs differ by more than the limit, joined into one a configuration."""
    claim = f"one configuration has one {column}"
    m = int(same.sum())
    if not m:
        return []
    limit = stats.norm.isf(alpha / m / 2) * np.sqrt(2) * sd
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.abs(np.log(x)[:, None] - np.log(x)[None, :])
    off = np.argwhere(same & (gap > limit))
    if not len(off):
        return [
            Finding(
                "two_values",
                claim,
                "consistent",
                f"{m} pairs of rows of one configuration agree within a factor of {np.exp(limit):.2f}",
                positions=tuple(np.asarray(at, dtype=np.int64).tolist()),
                name=column,
            )
        ]
    clusters = _clusters(off, len(x))
    found = []
    for rows in sorted(clusters, key=lambda r: -np.ptp(np.log(x[sorted(r)])))[:NAMED]:
        order = sorted(rows, key=lambda r: x[r])
        low, high = x[order[0]], x[order[-1]]
        name = ", ".join(
            f"{k}={v}"
            for k, v in keys.iloc[order[0]].items()
            if v != "" and (both_state(keys[k].iloc[order]).all() or k in ("gpu", "model"))
        )
        found.append(
            Finding(
                "two_values",
                claim,
                "inconsistent",
                f"{name}: {column} is {_listed(x[order])} in different places, {number(high / low, 3)} times as much",
                number(low),
                number(high),
                tuple(int(at[r]) for r in order),
                f"{column}:{name}",
            )
        )
    if len(clusters) > NAMED:
        rows = tuple(sorted({int(at[r]) for c in clusters for r in c}))
        found.append(
            Finding(
                "two_values",
                claim,
                "inconsistent",
                f"{len(clusters)} configurations have more than one {column}; the {NAMED} widest are listed",
                positions=rows,
                name=f"{column}:all",
            )
        )
    return found


def _listed(values: np.ndarray) -> str:
    """The distinct figures for a sentence; the ends and their number where there are many."""
    shown = list(dict.fromkeys(number(v) for v in values))
    return " and ".join(shown) if len(shown) <= 4 else f"{shown[0]} to {shown[-1]} ({len(shown)} figures)"


def _clusters(pairs: np.ndarray, rows: int) -> list[set[int]]:
    """The rows joined by `pairs`, directly or through others."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    _, label = connected_components(graph, directed=False)
    return [set(map(int, np.flatnonzero(label == c))) for c in np.unique(label[pairs[:, 0]])]


def _wide(table: Table, column: str, alpha: float) -> list[Finding]:
    """`two_values` for a table too long to compare pair by pair: rows whose keys are equal, none left out."""
    group = table.groups(list(identity(table).columns) + (["accounting"] if "accounting" in table.keys else []))
    x = table.column(column)
    frame = pd.DataFrame({"g": group, "y": np.log(np.where(x > 0, x, np.nan))}).dropna().groupby("g")["y"].agg(["min", "max", "size"])
    frame = frame[frame["size"] > 1]
    claim = f"one configuration has one {column}"
    if frame.empty:
        return []
    limit = stats.norm.isf(alpha / float((frame["size"] * (frame["size"] - 1) / 2).sum()) / 2) * np.sqrt(2) * SESSION_SD
    off = frame[frame["max"] - frame["min"] > limit]
    if off.empty:
        return [
            Finding(
                "two_values",
                claim,
                "consistent",
                f"{len(frame):,} configurations with several rows agree within a factor of {np.exp(limit):.2f}",
                name=column,
            )
        ]
    found = []
    for g in (off["max"] - off["min"]).nlargest(NAMED).index:
        rows = np.flatnonzero(group == g)
        low, high = np.exp(off.loc[g, "min"]), np.exp(off.loc[g, "max"])
        reason = (
            f"{len(rows)} rows of one configuration give {column} from {number(low)} to {number(high)}, "
            f"{number(high / low, 3)} times as much ({len(off):,} such configurations)"
        )
        found.append(
            Finding("two_values", claim, "inconsistent", reason, number(low), number(high), tuple(map(int, rows[:50])), f"{column}:{g}")
        )
    return found


def two_changes(table: Table, changes: list[tuple[int, int]], alpha: float) -> list[Finding]:
    """One comparison with two outcomes: the change against the same reference strategy, computed in two places.

    `changes` are (row, reference row) of one place each. Sensor gain cancels, so a ratio is given 3 % a session.
    """
    energy = next((e for e in ENERGIES if table.has(e)), None)
    if energy is None or len(changes) < 2:
        return []
    i, j = np.array(changes).T
    ratio = table.column(energy)[i] / table.column(energy)[j]
    keys = identity(table).iloc[i]
    same = compatible(keys) & both_state(keys["quantization"]) if "quantization" in keys else compatible(keys)
    place = table.key("location")[i]
    same &= place[:, None] != place[None, :]
    return [
        _worded(table, f, dict(zip(map(int, i), map(int, j), strict=True)), energy)
        for f in _apart(table, energy, keys, i, np.triu(same, 1), ratio, CHANGE_SD, alpha)
    ]


def _worded(table: Table, f: Finding, reference: dict[int, int], energy: str) -> Finding:
    """The finding in percent against the reference, resting on the reference rows too."""
    rows = tuple(sorted({*f.positions, *(reference[p] for p in f.positions)}))
    if f.verdict != "inconsistent" or not f.stated:
        return Finding(
            "two_changes",
            f"one comparison has one change of {energy}",
            f.verdict,
            f.reason.replace(f"more than one {energy}", f"more than one change of {energy}"),
            positions=rows,
            name=f.name,
        )
    x = table.column(energy)
    low, high = (100 * (x[p] / x[reference[p]] - 1) for p in (f.positions[0], f.positions[-1]))
    name = f.reason.split(":")[0]
    reason = f"{name}: the change of {energy} is {low:+.1f} % in one place and {high:+.1f} % in another"
    return Finding(
        "two_changes", f"one comparison has one change of {energy}", "inconsistent", reason, f"{low:+.1f} %", f"{high:+.1f} %", rows, f.name
    )


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
