"""Figures that define one another (products, quotients, sums of parts, printed reductions), and figures that no device can produce.

Every relation is target = constant x product of inputs to whole powers. It is held in logarithms, where printed rounding is a width that
adds up: |log stated - log computed| may be as large as the widths of all figures together. Deterministic: a table computed correctly from
figures that were then rounded never fails, so these checks take no share of the false-alarm rate. A figure that is zero or negative has
no logarithm; the check `physical` names it. A sensor's error of 5 % (k = 1) is allowed twice.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from eai import catalog
from eai.claims.tabular import BASELINES, ENERGIES, PARTS, Finding, Table, check, judged, number, same_or_less_specific, say, span
from eai.errors import UserError
from eai.importers.mappings import boards


@dataclass(frozen=True)
class Relation:
    """target = constant x product of input ** power. `slack` is the relative difference that an honest source may have: the mean of a
    quotient is not the quotient of means. Rows that state all of `unless` are not computed: there the inputs mean something else. Where
    the inputs may cover more than the figure, it is `at_most` their result: only a larger one is wrong, and nothing follows from them."""

    target: str
    powers: dict[str, int]
    constant: float = 1.0
    slack: float = 0.0
    optional: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    at_most: bool = False

    @property
    def text(self) -> str:
        """`accuracy / energy_wh`."""
        top = [n for n, p in self.powers.items() if p > 0] or ["1"]
        factor = "" if self.constant == 1 else f"{self.constant:g} x "
        return factor + " x ".join(top) + "".join(f" / {n}" for n, p in self.powers.items() if p < 0)


MEANS = 0.01  # relative; twice the squared CV of 7 %, well above what a campaign with any control shows
INTEGRAL = 0.03  # mean power x time against an integral: edges of the window, up to 2 % in careful published runs
_SCALES = {3600.0: "as if J were taken for Wh, or h for s", 100.0: "as if a fraction were taken for percent", 1000.0: "a factor of 1000"}
MOST_NAMED = 20
OF_TOKENS = {"tokens_out", "output_tokens", "energy_j_per_token", "energy_j_per_1k_tok", "tokens_per_j", "throughput_tok_s"}
SUM_SLACK = 0.005  # parts and whole are read at slightly different instants
CONSTANT = 2e-4  # relative; a capped board still scatters more than this from run to run
LEAST_ROWS = 4
INTENSITY_G_PER_KWH = (1.0, 1500.0)  # hydro in Norway to lignite; life cycle, IPCC AR5 WG3 annex III
TO_J = {"energy_j": 1.0, "energy_gpu_j": 1.0, "energy_wh": 3600.0, "energy_kwh": 3.6e6}
GROSS_SHARE = 0.03  # an integral and mean power x time differ by up to 2 % in careful runs
LARGEST_BOARD_W = 1500.0
SENSOR = 0.10
LEAST_SHARE_OF_TDP = 0.05  # an accelerator that decodes draws more than this share of its board limit
RELATIONS = (
    Relation("eor", {"accuracy": 1, "energy_wh": -1}),
    Relation("tweor", {"eor": 1, "duration_s": -1}),
    Relation("energy_j", {"energy_wh": 1}, 3600.0),
    Relation("energy_wh", {"energy_j": 1}, 1 / 3600.0),
    Relation("energy_kwh", {"energy_wh": 1}, 1e-3),
    Relation("energy_wh", {"energy_kwh": 1}, 1e3, unless=("requests",)),
    Relation("energy_j", {"power_w": 1, "duration_s": 1}, slack=INTEGRAL, unless=("energy_gpu_j",)),
    Relation("energy_gpu_j", {"power_w": 1, "duration_s": 1}, slack=INTEGRAL),
    Relation("energy_j_per_token", {"energy_j": 1, "tokens_out": -1}, slack=MEANS),
    Relation("throughput_tok_s", {"tokens_out": 1, "duration_s": -1}, slack=MEANS),
    Relation("energy_j_per_1k_tok", {"energy_j": 1, "tokens_out": -1}, 1e3, MEANS),
    Relation("energy_j_per_1k_tok", {"energy_j_per_token": 1}, 1e3),
    Relation("energy_j_per_token", {"energy_j_per_1k_tok": 1}, 1e-3),
    Relation("tokens_per_j", {"energy_j_per_1k_tok": -1}, 1e3, MEANS),
    Relation("energy_j_per_request", {"energy_j": 1, "requests": -1}, slack=MEANS),
    Relation("energy_j_per_request", {"energy_j": 1, "batch_size": -1}, slack=MEANS, at_most=True),  # a run holds any number of batches
    Relation("energy_j_per_request", {"energy_j_per_1k_tok": 1, "output_tokens": 1}, 1e-3, MEANS),
    Relation("energy_kwh", {"energy_j_per_request": 1, "requests": 1, "pue": 1}, 1 / 3.6e6, MEANS, ("pue",)),
    Relation("cost_usd", {"energy_kwh": 1, "price_usd_per_kwh": 1}, slack=MEANS),
    Relation("carbon_kg", {"energy_kwh": 1, "carbon_g_per_kwh": 1}, 1e-3, MEANS),
)
BY_TARGET = {name: [r for r in RELATIONS if r.target == name] for name in dict.fromkeys(r.target for r in RELATIONS)}
Logs = tuple[np.ndarray, np.ndarray]
"""A quantity of every row as the logarithm of its value and the width that rounding leaves; NaN where not known."""


def printed(table: Table, name: str) -> Logs:
    """The printed figures of a quantity. A figure as coarse as itself may be a thousand times smaller or larger."""
    x = table.column(name)
    return table.kept(("logs", name), lambda: (np.log(np.where(x > 0, x, np.nan)), -np.log1p(-np.minimum(table.step(name) / x, 0.999))))


def follow(table: Table, relation: Relation, without: frozenset[str] = frozenset()) -> Logs | None:
    """The right-hand side of a relation, row by row; None where an input is not known at all."""
    value, width = np.full(len(table), np.log(relation.constant)), np.full(len(table), np.log1p(relation.slack))
    for name, power in relation.powers.items():
        part = known(table, name, without)
        if part is None and name not in relation.optional:
            return None
        if part is not None:
            a, b = (np.nan_to_num(p) for p in part) if name in relation.optional else part
            value, width = value + power * a, width + abs(power) * b
    if relation.unless and table.has(*relation.unless):
        value = np.where(np.all([np.isfinite(table.column(n)) for n in relation.unless], axis=0), np.nan, value)
    return value, width


def known(table: Table, name: str, without: frozenset[str] = frozenset()) -> Logs | None:
    """A quantity as printed, its gaps filled by what follows from printed ones, so that a chain (J per request to dollars) can be checked.
    Nothing comes from the columns `without`: what a figure is checked against must not come from itself."""

    def make() -> Logs | None:
        found = printed(table, name) if name in table.columns else None
        for relation in (r for r in BY_TARGET.get(name, ()) if not r.at_most):
            if found is not None and np.isfinite(found[0]).all():
                break
            if (new := follow(table, relation, without | {name})) is not None:
                found = new if found is None else tuple(np.where(np.isnan(found[0]), n, o) for n, o in zip(new, found, strict=True))
        return found if found is not None and np.isfinite(found[0]).any() else None

    return None if name in without else table.kept(("known", name, without), make)


def values(table: Table, name: str) -> np.ndarray:
    """The values of a quantity, printed or computed; NaN where neither."""
    found = known(table, name)
    return np.full(len(table), np.nan) if found is None else np.exp(found[0])


def _times(stated: float, computed: float) -> str:
    """How many times the computed figure the stated one is, with a remark near a unit's factor; empty within a factor of two."""
    if not computed or not stated > 0 or 0.5 < stated / computed < 2:
        return ""
    r = stated / computed
    remark = next((f", {words}" for factor, words in _SCALES.items() for q in (r, 1 / r) if 0.9 < q / factor < 1.1), "")
    return f"; printed / computed = {f'{r:,.0f}' if r > 100 else number(r, 3)}{remark}"


def compare(claim: str, label: str, seen, off, stated, computed, wrong, right: str, also: dict[int, int] | None = None) -> list[Finding]:
    """Findings on printed figures that do not follow, one a row, the worst first, at most MOST_NAMED of them; one if all do. `wrong(stated,
    computed)` words one of them; `also` maps a row to another that it rests on."""

    def resting(rows) -> np.ndarray:
        return np.unique([*rows, *(also[int(r)] for r in rows if int(r) in also)]).astype(np.int64) if also else np.asarray(rows, np.int64)

    rows = np.flatnonzero(off)
    if not len(rows):
        at = resting(np.flatnonzero(seen))
        return [Finding(claim, "consistent", right.format(n=int(seen.sum())), at, name=label)] if len(at) else []
    size = np.nan_to_num(np.abs(np.log(np.abs(stated[rows] / computed[rows]))), nan=np.inf)
    rows = rows[np.argsort(-size, kind="stable")]
    named = [(i, stated[i], computed[i]) for i in rows[:MOST_NAMED]]
    found = [Finding(claim, "inconsistent", wrong(a, b), resting([i]), number(a), number(b), f"{label}:{i}") for i, a, b in named]
    if len(rows) > MOST_NAMED:
        reason = f"{len(rows)} of {seen.sum()} rows do not follow {claim}; the {MOST_NAMED} worst are listed"
        found.append(Finding(claim, "inconsistent", reason, resting(np.sort(rows)), name=f"{label}:all"))
    return found


@check("a quantity and what defines it, such as eor, accuracy and energy_wh")
def derived(table: Table) -> list[Finding]:
    """Every printed figure that a relation defines, against that relation; tokens may count the prompt's, power may be of one board."""
    found, done, boards_ = [], set(), np.log(table.column("num_gpus"))
    prompts = [np.log1p(table.column(n) / table.column(m)) for n, m in (("tokens_in", "tokens_out"), ("input_tokens", "output_tokens"))]
    for relation in (r for relations in BY_TARGET.values() for r in relations if table.has(r.target)):
        target, pair = relation.target, frozenset([relation.target, *relation.powers])
        computed = None if pair in done else follow(table, relation, frozenset([target]))
        if computed is None:
            continue
        stated, claim = printed(table, target), f"{target} = {relation.text}"
        gap, width = stated[0] - computed[0], stated[1] + computed[1] + 1e-9
        seen = np.isfinite(gap) & ((gap >= -width) | (not relation.at_most))
        off = seen & (np.abs(gap) > width)
        for also in (*(prompts if {target, *relation.powers} & OF_TOKENS else ()), *([boards_] if "power_w" in relation.powers else ())):
            off &= ~(np.abs(np.abs(gap) - also) <= width)
        outcome = compare(
            claim, f"{target}:{'+'.join(relation.powers)}", seen, off, np.exp(stated[0]), np.exp(computed[0]),
            lambda a, b, t=target, r=relation: f"{t} is printed as {number(a)}; {r.text} gives {number(b)}{_times(a, b)}",
            f"{{n}} printed figures follow {claim} within rounding",
        )  # fmt: skip
        done |= {pair} if outcome else set()
        found += outcome
    return found


def references(table: Table, marked: np.ndarray, candidates: np.ndarray, energy: np.ndarray) -> dict[int, int]:
    """For each marked row the one candidate that it can be compared with: it differs in exactly one factor. Rows of the same session are
    preferred; a row with no candidate, or with several that give different energies, has none."""
    codes = np.column_stack([np.zeros(len(table)), *(table.words[f][0] for f in table.factors())])
    session, pool, out = table.groups(["session"]), np.flatnonzero(candidates & np.isfinite(energy)), {}
    for i in marked if len(marked) * len(pool) <= 4_000_000 else ():
        near = pool[(codes[pool] != codes[i]).sum(axis=1) == 1]
        same = near[session[near] == session[i]]
        near = same if len(same) else near
        if len(near) and np.ptp(energy[near]) == 0:
            out[int(i)] = int(near[0])
    return out


def changes(table: Table, energy: str) -> dict[int, int]:
    """Row -> reference row for every strategy against the baseline of the same place."""
    x, base, pairs = table.column(energy), table.is_in("quantization", BASELINES), {}
    place = table.groups(["location"])
    for name in np.unique(place):
        here = (place == name) & np.isfinite(x)
        if 2 <= here.sum() <= 2000:
            pairs |= references(table, np.flatnonzero(here & ~base), here & base, x)
    return pairs


def _quotients(table: Table, energy: str, pairs: dict[int, int]) -> np.ndarray:
    """Least, printed and greatest ratio of each row's energy to its reference's, NaN elsewhere: three columns."""
    x, h, out = table.column(energy), table.step(energy), np.full((len(table), 3), np.nan)
    i, j = np.array(list(pairs.items()), np.int64).reshape(-1, 2).T
    out[i] = np.column_stack([(x[i] + s * h[i]) / (x[j] - s * h[j]) for s in (-1, 0, 1)])
    return out


@check("energy_reduction_pct or energy_change_pct beside an energy")
def reductions(table: Table) -> list[Finding]:
    """Printed energy reductions or changes [%] against the energies they come from, whatever factor the reference differs in."""
    found = []
    for name, sign in (("energy_reduction_pct", -1), ("energy_change_pct", 1)):
        change, half = table.column(name), table.step(name)
        for energy in (e for e in ENERGIES if table.has(name, e)):
            e = table.column(energy)
            pairs = references(table, np.flatnonzero(np.isfinite(change) & np.isfinite(e)), ~np.isfinite(change), e)
            if not pairs:
                continue
            ends = 100 * sign * (_quotients(table, energy, pairs) - 1)
            seen = np.isfinite(ends).all(axis=1)
            off = seen & ((change - half > ends.max(axis=1) + 1e-9) | (change + half < ends.min(axis=1) - 1e-9))
            found += compare(
                f"{name} follows from {energy}", f"{name}:{energy}", seen, off, change, ends[:, 1],
                lambda a, b: f"{number(a)} % is printed; the energies give {number(b)} %",
                f"{{n}} printed changes follow from {energy} within rounding", pairs,
            )  # fmt: skip
            break
    return found


@check("ratio_to_baseline beside an energy")
def ratios(table: Table) -> list[Finding]:
    """Printed ratios to a baseline against the energies they come from; a baseline is the row whose ratio is 1, or that has none. Each row
    is held against the energy that explains it best, since a ratio is of a token or of a request; within `MEANS`, which the ratio of means
    and the mean of ratios may differ by. Rows of different numbers of blocks are not paired and are left out."""
    if not table.has("ratio_to_baseline"):
        return []
    ratio, half, blocks = table.column("ratio_to_baseline"), table.step("ratio_to_baseline"), np.nan_to_num(table.column("n_blocks"))
    base = ratio == 1 if (ratio == 1).any() else ~np.isfinite(ratio)
    ends, used, energies = np.full((len(table), 3), np.nan), {}, []
    for energy in (e for e in ENERGIES if table.has(e)):
        e = table.column(energy)
        pairs = references(table, np.flatnonzero(np.isfinite(ratio) & ~base & np.isfinite(e)), base, e)
        pairs = {i: j for i, j in pairs.items() if blocks[i] == blocks[j]}
        new = _quotients(table, energy, pairs)
        nearer = np.isfinite(new).all(axis=1) & ~(np.abs(new[:, 1] - ratio) >= np.abs(ends[:, 1] - ratio))
        ends[nearer] = new[nearer]
        used |= {i: pairs[i] for i in np.flatnonzero(nearer).tolist()}
        energies += [energy] if nearer.any() else []
    seen, slack, from_ = np.isfinite(ends[:, 1]), MEANS * np.abs(ends[:, 1]), " or ".join(energies)
    off = seen & ((ratio - half > ends[:, 2] + slack + 1e-12) | (ratio + half < ends[:, 0] - slack - 1e-12))
    return compare(
        f"ratio_to_baseline follows from {from_}", "ratio_to_baseline:energy", seen, off, ratio, ends[:, 1],
        lambda a, b: f"{number(a)} is printed; {from_} of the row and of its baseline gives {number(b)}",
        f"{{n}} printed ratios follow from {from_}", used,
    )  # fmt: skip


@check("a derived column without its own inputs")
def mislabelled(table: Table) -> list[Finding]:
    """A derived quantity that no definition of its own can explain, but a quotient of two other columns does, in four rows or more within
    printed rounding; by chance that is (relative step) ** rows, below 1e-8."""
    found = []
    for name in (n for n in ("eor", "tweor", "tokens_per_j") if table.has(n)):
        relation, stated = BY_TARGET[name][0], printed(table, name)
        own, rows = follow(table, relation, frozenset([name])), np.isfinite(stated[0])
        if table.has(*relation.powers) or (own is not None and (np.abs(stated[0] - own[0]) <= stated[1] + own[1])[rows].all()):
            continue
        for a, b in permutations(
            [c for c in table.columns if c not in (name, "eor", "tweor", "n_runs", "n_blocks", "n_windows", "run")], 2
        ):
            (x, w), (y, v) = printed(table, a), printed(table, b)
            both = np.isfinite(stated[0] + x - y)
            if both.sum() >= 4 and np.ptp(stated[0][both]) > 0 and (np.abs(stated[0] - x + y) <= stated[1] + w + v)[both].all():
                meaning = say(": energy per token [J], lower is better") if (a, b) == ("power_w", "throughput_tok_s") else ""
                given = {"name": name, "a": a, "b": b, "n": int(both.sum()), "formula": relation.text, "meaning": meaning}
                reason = say("the column {name} is {a} / {b} in {n} of {n} rows, not {formula}{meaning}", **given)
                found += judged(f"{name} = {relation.text}", both, both, reason, "", name, f"{a} / {b}", name)
    return found


@check("a whole energy beside two of GPU, CPU and RAM")
def parts(table: Table) -> list[Finding]:
    """The whole energy against the sum of its parts, CPU + GPU + RAM, times PUE where it is stated."""
    names = [n for n in PARTS if table.has(n)]
    whole = table.first("energy_j", "energy_wh", "energy_kwh")
    if len(names) < 2 or whole is None:
        return []
    total, steps = (sum(np.nan_to_num(of(n)) for n in names) for of in (table.column, table.step))
    pue = np.where(np.isfinite(table.column("pue")), table.column("pue"), 1.0)
    stated, half = table.column(whole) * TO_J[whole], table.step(whole) * TO_J[whole] + steps
    seen = np.isfinite(stated) & (total > 0)
    near = [np.abs(stated - total * p) <= half * (1 + 1e-9) + SUM_SLACK * total * p for p in (1.0, pue)]
    off = seen & ~near[0] & ~near[1]
    i = int(np.argmax(np.where(off, np.abs(stated / total - 1), -1)))
    added = f"the parts add up to {number(total[i])} J, x {number(stated[i] / total[i], 3)}"
    reason = f"{off.sum()} of {seen.sum()} rows: the whole is {number(stated[i])} J and {added}"
    claim = f"{whole} = " + " + ".join(n.split("_")[1].upper() for n in names)
    return judged(claim, off, seen, reason, "{n} wholes are the sum of their parts", number(stated[i]), number(total[i]))


@check("emissions and energy")
def carbon(table: Table) -> list[Finding]:
    """The carbon intensity that emissions over energy imply: possible, and whether it is one constant, which adds nothing to the energy."""
    name = table.first("energy_kwh", "energy_wh", "energy_j")
    if name is None or not table.has("carbon_kg"):
        return []
    kwh = table.column(name) * TO_J[name] / 3.6e6
    grams = 1e3 * table.column("carbon_kg") / kwh
    if not (seen := np.isfinite(grams) & (kwh > 0)).any():
        return []
    slack = 1e3 * table.step("carbon_kg") / kwh + grams * table.step(name) / table.column(name)
    (low, high), middle, claim = INTENSITY_G_PER_KWH, np.median(grams[seen]), "the implied carbon intensity is that of a grid"
    off = seen & ((grams + slack < low) | (grams - slack > high)) & (grams > 0)
    if off.any() or (np.abs(grams - middle) <= slack + 1e-6 * grams)[seen].all():
        first = number(grams[off][0], 3) if off.any() else ""
        rows = f"{off.sum()} of {seen.sum()} rows"
        wrong = f"emissions over energy give {first} gCO2/kWh in {rows}; grids lie between {low:g} and {high:,.0f}"
        right = f"one constant, {number(middle, 3)} gCO2/kWh, in {{n}} rows: emissions say nothing that the energy does not"
        return judged(claim, off, seen, wrong, right, "", first, "range")
    varies = f"{number(grams[seen].min(), 3)} to {number(grams[seen].max(), 3)} gCO2/kWh ({np.ptp(grams[seen]) / np.mean(grams[seen]):.0%})"
    reason = f"the carbon intensity varies from {varies} over {seen.sum()} rows: places or hours differ"
    verdict = "inconsistent" if table.has("carbon_g_per_kwh") and np.ptp(table.column("carbon_g_per_kwh")[seen]) == 0 else "untested"
    return [Finding("one carbon intensity serves every row", verdict, reason, np.flatnonzero(seen), name="varies")]


@check("energy and time of four configurations or more")
def constant_power(table: Table) -> list[Finding]:
    """Energy or emissions that are time x one constant over different configurations: an estimate, whatever they are called."""
    time, found, keys = table.column("duration_s"), [], table.groups(table.factors("gpu", "num_gpus"))
    place = table.groups(["gpu", "num_gpus"])
    for name in (n for n in (*TO_J, *PARTS[1:], "carbon_kg") if table.has(n, "duration_s")):
        ratio = table.column(name) / time
        fine = table.step(name) / np.abs(table.column(name)) + table.step("duration_s") / time < CONSTANT
        for p in np.unique(place[np.isfinite(ratio) & fine]):
            use = np.isfinite(ratio) & fine & (place == p) & (ratio > 0)
            if use.sum() < LEAST_ROWS or len(np.unique(keys[use])) < LEAST_ROWS or np.ptp(time[use]) < 0.05 * np.mean(time[use]):
                continue
            if np.std(ratio[use]) <= CONSTANT * np.mean(ratio[use]):
                level = f"{number(np.mean(ratio[use]) * TO_J.get(name, 1.0))} {'kg/s' if name == 'carbon_kg' else 'W'}"
                reason = f"{name} is the time x {level} in all {use.sum()} rows, whatever ran: an estimate by a constant, no measurement"
                found += judged(f"{name} was measured", use, use, reason, name=f"{name}:{p}")
    return found


@check("accuracy and n_items, printed finer than 1 / n_items")
def countable(table: Table) -> list[Finding]:
    """Scores that no whole number of right answers gives, where 1 / n is larger than the printed step: the GRIM test (Brown and Heathers
    2017, doi:10.1177/1948550616673876). A task none of whose scores fits, where those of other tasks do, is scored by a mean (ROUGE, say).
    """
    if not table.has("accuracy", "n_items"):
        return []
    p, h, n, task = table.column("accuracy"), table.step("accuracy"), table.column("n_items"), table.key("task")
    seen = np.isfinite(p) & (n > 0) & (p >= 0) & (p <= 1) & (1 / n > 2 * h) & (n == np.round(n))
    nearest = np.round(p * n) / n
    off = seen & (np.abs(nearest - p) > h + 1e-9)
    by_task = pd.Series(off[seen]).groupby(task[seen]).agg(["all", "any", "size"])
    off &= ~np.isin(task, by_task.index[by_task["all"] & (by_task["size"] >= 3) & (~by_task["any"]).any()])
    i = int(np.argmax(off))
    reason = f"{off.sum()} scores are no k / n; the first is {p[i]:.6g} of {n[i]:.0f} items, where {nearest[i]:.6g} is the nearest"
    right = "{n} scores are whole numbers of right answers"
    return judged("every score is a whole number of right answers", off, seen, reason, right, f"{p[i]:.6g}", f"{nearest[i]:.6g}")


@check("a column `best` beside an energy")
def ordering(table: Table) -> list[Finding]:
    """Marked rows (a `best` column) that another row of the same task, GPU or model beats in energy; printed ties are allowed."""
    energy, choice = table.first(*ENERGIES), table.first("quantization", "gpu", "model")
    if energy is None or not table.has("best"):
        return []
    x, h = table.column(energy), table.step(energy)
    marked = table.is_in("best", lambda text: text.lower() in ("yes", "true", "1", "best", "x", "*")) & np.isfinite(x)
    group, names, found = table.groups(table.factors(choice)), table.key(choice or "model"), []
    claim, seen = "the row marked best takes the least energy", np.isin(group, group[marked]) & np.isfinite(x)
    for i in np.flatnonzero(marked):
        rivals = np.flatnonzero((group == group[i]) & np.isfinite(x))
        j = rivals[np.argmin(x[rivals])]
        if x[j] + h[j] < x[i] - h[i]:
            reason = f"{names[i]} is marked best at {number(x[i])}, but {names[j]} has {number(x[j])} {energy}"
            found.append(Finding(claim, "inconsistent", reason, (int(i), int(j)), str(names[i]), str(names[j]), str(i)))
    return found or judged(claim, (), seen, "", f"{marked.sum()} marked rows take the least energy of their group")


@check("x, q, scale, zero_point, q_min, q_max")
def affine(table: Table) -> list[Finding]:
    """Printed codes q against the printed rule: scale, zero point and range stand in the table's own columns."""
    x, q, scale, zero, low, high = (table.column(n) for n in ("x", "q", "scale", "zero_point", "q_min", "q_max"))
    raw, claim, found = scale * x + zero, "q = clamp(round(scale x + zero_point), q_min, q_max)", []
    computed = np.clip(np.round(raw), low, high)
    seen = np.isfinite(computed) & np.isfinite(q)
    for i in np.flatnonzero(seen & (computed != q)):
        how = say(", which is rounded down instead") if np.clip(np.floor(raw[i]), low[i], high[i]) == q[i] else ""
        given = {"x": f"{x[i]:g}", "raw": f"{raw[i]:.2f}", "q": f"{computed[i]:.0f}", "stated": f"{q[i]:.0f}", "how": how}
        reason = say("x = {x} gives {raw}, so q = {q}; {stated} is printed{how}", **given)
        found.append(Finding(claim, "inconsistent", reason, (int(i),), f"{q[i]:.0f}", f"{computed[i]:.0f}", str(i)))
    return found or judged(claim, (), seen, "", "{n} codes follow the rule")


def kinds(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """`gross`, `net` or "" for each row, by session and card (else by location, else the whole table), and the idle power [W] subtracted.
    Gross energy per token is power / throughput; if idle power was subtracted, power - energy x throughput is that idle power. A set is
    gross if the median of |implied idle| is within 3 % of power, net if it lies between 3 % and half of it."""
    power, gross = table.column("power_w"), values(table, "energy_j_per_token") * table.column("throughput_tok_s")
    all_boards = power * table.column("num_gpus")
    power = np.where(np.abs(gross / all_boards - 1) <= GROSS_SHARE, all_boards, power)  # stated for one board of several
    idle = power - gross
    share = idle / power
    place = table.groups(["session", "gpu"] if table.first("session", "gpu") else ["location"])
    middle = pd.Series(share).groupby(place).transform("median").to_numpy()
    gross, net = np.isfinite(share) & (np.abs(middle) <= GROSS_SHARE), np.isfinite(share) & (middle > GROSS_SHARE) & (middle <= 0.5)
    return np.where(gross, "gross", np.where(net, "net", "")).astype(object), idle


@check("power_w, throughput_tok_s and energy_j_per_1k_tok")
def accounting(table: Table) -> list[Finding]:
    """Labels that the figures contradict, tables that mix gross and net under one label, signs that depend on it, and energies that are
    neither gross nor net of an idle power that a card may have."""
    (kind, idle), power, rate = kinds(table), table.column("power_w"), table.column("throughput_tok_s")
    if not np.isfinite(idle).any():
        return []
    label, place = table.key("accounting"), table.key("session" if table.has("session") else "location")
    claim, found = "the figures are accounted as stated", []
    wrong = (kind != "") & table.is_in("accounting", ("net", "gross")) & (kind != label)
    for name in list(dict.fromkeys(place[wrong]))[:MOST_NAMED]:
        rows = np.flatnonzero(wrong & (place == name))
        stated = table.column("idle_stated_w")[rows]
        asked = f" of {number(np.nanmedian(stated))} W idle" if np.isfinite(stated).any() else ""
        implied = f"{number(np.median(idle[rows]), 3)} W (median of {len(rows)} rows): the figures are {kind[rows[0]]}"
        reason = f"{name or table.name}: stated to be {label[rows[0]]}{asked}, but power - energy x throughput is {implied}"
        found.append(Finding(claim, "inconsistent", reason, rows, str(label[rows[0]]), str(kind[rows[0]]), f"label:{name}"))
    share, step = idle / power, table.step("power_w") / power + table.step("throughput_tok_s") / rate
    off = np.isfinite(share) & ((share < -GROSS_SHARE - step) | (share > 0.5 + step))
    i = int(np.argmax(np.where(off, np.abs(share), -1)))
    gross, energy = power[i] / rate[i], (power[i] - idle[i]) / rate[i]
    printed_ = f"{number(gross)} J per token, and {number(energy)} J is printed, x {number(energy / gross, 3)}"
    rows = f"{off.sum()} of {np.isfinite(share).sum()} rows: {number(power[i])} W / {number(rate[i])} tok/s is {printed_}"
    reason, both = f"{rows}; subtracting idle explains 0.5 to 1", (number(energy), number(gross))
    found += judged("energy per token = power / throughput", off, off, reason, "", *both, "power over rate")
    mixed = []
    for name in table.words["accounting"][1] if table.has("accounting") else [""]:
        gross, net = ((label == name) & (kind == k) for k in ("gross", "net"))
        if gross.any() and net.any():
            both, which = gross | net, f"{gross.sum()} are gross (power / throughput) and {net.sum()} are net of idle"
            reason = f"of the rows labelled '{name or 'nothing'}', {which}: they must not be compared with each other"
            mixed += judged("one label means one accounting", both, both, reason, "", str(name), "gross and net", f"mixed:{name}")
    if mixed:  # net rows whose change against their reference has the other sign when both are counted gross
        base, names, per = (kind == "net") & table.is_in("quantization", BASELINES), table.key("quantization"), power / rate
        energy = table.column("energy_j_per_1k_tok")
        for i, j in references(table, np.flatnonzero((kind == "net") & ~base), base, energy).items():
            stated, counted = 100 * (energy[i] / energy[j] - 1), 100 * (per[i] / per[j] - 1)
            if stated * counted < 0:
                name = ", ".join(f"{k}={table.key(k)[i]}" for k in ("gpu", "model", "quantization") if table.has(k))
                net = f"{stated:+.1f} % energy against {names[j]} net of {number(idle[i], 3)} W idle"
                reason = f"{name}: {net}, but {counted:+.1f} % gross: the sign rests on the accounting"
                both = (f"{stated:+.1f} %", f"{counted:+.1f} %", f"sign:{i}")
                mixed.append(Finding("the direction of the change holds gross as well", "inconsistent", reason, (i, j), *both))
    return found + mixed or judged(claim, (), kind != "", "", "{n} rows are accounted alike or as labelled", name="label")


def _board(name: str, limits: pd.DataFrame | None) -> tuple[float, float, float]:
    """How many boards a name states (`8 x NVIDIA A40`: eight), and the highest limit and lowest idle power [W] of one; NaN: unknown."""
    count, board = boards(name) if name else (1, "")
    if not board or limits is None:
        return count, np.nan, np.nan
    fits = limits[[same_or_less_specific(board, g) for g in limits["gpu"].astype(str)]]
    tdp, idle = (pd.to_numeric(fits.get(c, pd.Series(dtype=float)), errors="coerce").dropna() for c in ("tdp_w", "idle_power_w"))
    if tdp.empty:
        slug = re.sub(r"[^a-z0-9]+", "_", board.lower()).strip("_")
        known_ = [g.tdp_w for g in catalog.gpus() if g.tdp_w and same_or_less_specific(slug, g.slug)]
        with suppress(UserError):
            known_.append(catalog.gpu(board).tdp_w)
        tdp = pd.Series(known_, dtype=float)
    return count, tdp.max(), idle.min()


@check("power, energy, throughput or a score")
def physical(table: Table) -> list[Finding]:
    """Shares, signs, stated power, power implied by energy and throughput, and power implied by energy and the time behind a TWEOR. Limits
    are those of a row's boards together: the table's own columns go first, then `limits` (gpu, tdp_w, idle_power_w), then the catalog, else
    the widest sensible bounds."""
    codes, texts = table.words.get("gpu", (np.zeros(len(table), np.int64), [""]))
    known_ = np.array([_board(name, table.limits) for name in texts], dtype=float)[codes]
    own = (np.where(table.column("num_gpus") >= 1, table.column("num_gpus"), np.nan), table.column("tdp_w"), table.column("idle_power_w"))
    count, tdp, idle = (np.where(np.isnan(x), known_[:, k], x) for k, x in enumerate(own))
    tdp, idle = tdp * count, idle * count
    most, floor = np.where(np.isnan(tdp), LARGEST_BOARD_W * count, tdp), np.where(np.isnan(idle), tdp * LEAST_SHARE_OF_TDP, idle)
    score, right = table.column("accuracy"), "{n} figures are possible"
    seen = np.isfinite(score)
    found = judged(
        "scores are fractions of 1, or all in percent", seen & ((score < 0) | (score > 1)), seen,
        lambda r: f"{len(r)} of {seen.sum()} scores lie outside 0 to 1 ({span(score[r], '', 3)}): fractions and percents may be mixed",
        right, name="score",
    )  # fmt: skip
    for name, off in table.infinite.items():
        reason = f"{off.sum()} figures of {name} are infinite or beyond 1e100"
        found += judged(f"{name} is finite", off, off, reason, name=f"{name} infinite")
    for name in (*ENERGIES, "energy_kwh", "energy_gpu_j", "power_w", "throughput_tok_s", "duration_s"):
        off = table.column(name) <= 0
        found += judged(f"{name} is positive", off, off, f"{off.sum()} figures of {name} are zero or negative", name=name)

    def held(power: np.ndarray, what: str, floor: np.ndarray) -> list[Finding]:  # net rows have no lower bound, machines no board's limit
        seen = (power > 0) & ~table.is_in("boundary", ("machine", "wall", "system", "node", "server"))
        bounded = seen & np.isfinite(floor) & ~table.is_in("accounting", lambda text: text.startswith("net"))

        def above(r: np.ndarray) -> str:
            of = f" of {np.nanmax(count[r]):.0f} boards" if np.nanmax(count[r]) > 1 else ""
            times = np.nanmedian(power[r] / most[r])
            more = f", x {times:.1f}: the energy may cover more boards, or be a sum over processes that each counted all of them"
            more = more if times > 1.5 else "; a column boundary (machine) says of energies that they are not the board's alone"
            limit = f"where the board limit is {span(most[r], 'W', 3)}{of}{more if times > 1.5 or 'time' in what else ''}"
            return f"{what} of {span(power[r], 'W', 3)} in {len(r)} rows, {limit}"

        def below(r: np.ndarray) -> str:
            least = f"{span(floor[r], 'W', 3)} idle or {LEAST_SHARE_OF_TDP:.0%} of its limit"
            return f"{what} of {span(power[r], 'W', 3)} in {len(r)} of {bounded.sum()} rows, where the card draws at least {least}"

        top, low = seen & (power > most * (1 + SENSOR)), bounded & (power < floor * (1 - SENSOR))
        high = judged(f"{what} is within the board's power limit", top, seen, above, right, name=f"{what} above limit")
        return high + judged(f"{what} is above idle", low, bounded, below, right, name=f"{what} below idle")

    found += held(table.column("power_w"), "stated power", floor / count)  # which may be of one board
    implied = values(table, "energy_j_per_token") * table.column("throughput_tok_s")
    found += held(implied, "power implied by energy per token and throughput", floor)
    if energy := table.first("energy_gpu_j", "energy_j", "energy_wh", "energy_kwh"):
        found += held(table.column(energy) * TO_J[energy] / table.column("duration_s"), "power implied by energy and time", floor)
    wh, time = table.column("energy_wh"), table.column("eor") / table.column("tweor")
    power = wh * 3600 / time

    off, reason = np.isfinite(power) & (power > most * (1 + SENSOR)), ""
    if off.any():
        reason = say(
            "EOR / TWEOR implies {time} for {energy}, that is {power}; at the board limit the energy takes at least {least}",
            time=span(time[off], "s", 3), energy=span(wh[off], "Wh", 3), power=span(power[off], "W", 3),
            least=span(wh[off] * 3600 / most[off], "s", 3),
        )  # fmt: skip
    claim = "the time that EOR / TWEOR implies is possible"
    return found + judged(claim, off, np.isfinite(power), reason, right, name="time behind tweor")
