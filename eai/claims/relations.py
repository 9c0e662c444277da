"""Products and quotients that define one quantity by others, with the range that printed figures leave.

Every relation is target = constant x product of inputs to whole powers, so with positive figures the smallest and the largest
value follow from the ends of each input's printed interval.

Derived columns recomputed from their inputs: EOR, TWEOR, J per request, cost, and printed reductions.

Deterministic, with interval arithmetic over the printed rounding: a table computed correctly from figures that were then rounded
never fails, so these checks take no share of the false-alarm rate.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from eai.claims.findings import Finding, number
from eai.claims.quantities import ENERGIES
from eai.claims.tabular import Table


@dataclass(frozen=True)
class Relation:
    """target = constant x product of input ** power. `slack` is the relative difference that an honest source may have.

    Definitions have none. Means over runs have some: the mean of a quotient is not the quotient of means. `unless` names columns
    that together say that the inputs mean something else: rows that state all of them are not computed.
    """

    target: str
    powers: dict[str, int]
    constant: float = 1.0
    slack: float = 0.0
    optional: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The formula in words: `accuracy / energy_wh`."""
        top = [n for n, p in self.powers.items() if p > 0] or ["1"]
        bottom = [n for n, p in self.powers.items() if p < 0]
        factor = "" if self.constant == 1 else f"{self.constant:g} x "
        return factor + " x ".join(top) + "".join(f" / {n}" for n in bottom)


MEANS = 0.01  # relative; twice the squared CV of 7 %, well above what a campaign with any control shows
INTEGRAL = 0.03  # mean power x time against an integral: edges of the window, up to 2 % in careful published runs
WINDOWS = ("n_blocks", "n_windows")  # energies are then those of a measurement window, which holds any number of batches
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
    Relation("energy_j_per_request", {"energy_j": 1, "batch_size": -1}, slack=MEANS, unless=WINDOWS),
    Relation("energy_j_per_request", {"energy_j_per_1k_tok": 1, "output_tokens": 1}, 1e-3, MEANS),
    Relation("energy_kwh", {"energy_j_per_request": 1, "requests": 1, "pue": 1}, 1 / 3.6e6, MEANS, ("pue",)),
    Relation("cost_usd", {"energy_kwh": 1, "price_usd_per_kwh": 1}, slack=MEANS),
    Relation("carbon_kg", {"energy_kwh": 1, "carbon_g_per_kwh": 1}, 1e-3, MEANS),
)


@dataclass(frozen=True)
class Known:
    """A quantity of every row as value, low and high; NaN where neither printed nor computable."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def printed(table: Table, name: str) -> Known:
    """The printed figures of a quantity with the range their rounding leaves."""
    x, h = table.column(name), table.step(name)
    return Known(x, x - h, x + h)


def evaluate(relation: Relation, known: dict[str, Known], rows: int) -> Known:
    """The right-hand side of a relation, row by row; NaN where an input is missing or not positive."""
    value, low, high = (np.full(rows, relation.constant) for _ in range(3))
    for name, power in relation.powers.items():
        part = known.get(name)
        if part is None:
            if name in relation.optional:
                continue
            return Known(*(np.full(rows, np.nan) for _ in range(3)))
        fill = 1.0 if name in relation.optional else np.nan
        x, a, b = (np.where(np.isfinite(v), v, fill) for v in (part.value, part.low, part.high))
        a = np.where(a > 0, a, np.where(x > 0, x * 1e-3, np.nan))
        x, b = np.where(np.isnan(a), np.nan, x), np.where(np.isnan(a), np.nan, b)
        with np.errstate(divide="ignore", invalid="ignore"):
            if power == 1:
                value, low, high = value * x, low * a, high * b
            elif power == -1:
                value, low, high = value / x, low / b, high / a
            else:
                value, low, high = value * x**power, low * np.minimum(a**power, b**power), high * np.maximum(a**power, b**power)
    if relation.unless and all(n in known for n in relation.unless):
        other = np.all([np.isfinite(known[n].value) for n in relation.unless], axis=0)
        value, low, high = (np.where(other, np.nan, v) for v in (value, low, high))
    return Known(value, low, high)


def _slackened(known: Known, slack: float) -> Known:
    """A derived quantity with the slack of its relation in its range, so that what is derived from it keeps it."""
    extra = slack * np.abs(known.value)
    return Known(known.value, known.low - extra, known.high + extra) if slack else known


def complete(table: Table, without: str = "") -> dict[str, Known]:
    """Every quantity that is printed or follows from printed ones, so that a chain (J per request to dollars) can be checked.

    With `without`, as if that column were not printed: what it is checked against must not come from itself.
    """
    known = {n: printed(table, n) for n in table.values.columns if n != without}
    gaps = {n: ~np.isfinite(k.value) for n, k in known.items()}
    changed = True
    while changed:
        changed = False
        for relation in RELATIONS:
            if not all(n in known for n in relation.powers if n not in relation.optional):
                continue
            gap = gaps.get(relation.target)
            if gap is not None and not gap.any():
                continue
            new = _slackened(evaluate(relation, known, len(table)), relation.slack)
            old = known.get(relation.target)
            filled = np.isfinite(new.value) if gap is None else gap & np.isfinite(new.value)
            if not filled.any():
                continue
            known[relation.target] = (
                new
                if old is None
                else Known(*(np.where(filled, n, o) for n, o in ((new.value, old.value), (new.low, old.low), (new.high, old.high))))
            )
            gaps[relation.target] = ~np.isfinite(known[relation.target].value)
            changed = True
    return {n: k for n, k in known.items() if np.isfinite(k.value).any()}


_SCALES = {3600.0: "as if J were taken for Wh, or h for s", 100.0: "as if a fraction were taken for percent", 1000.0: "a factor of 1000"}
MOST_NAMED = 20
NOT_FACTORS = ("eor", "tweor", "n_runs", "n_blocks", "n_windows", "run")


def _scale(ratio: float) -> str:
    """A remark if the ratio is near a unit's factor, else empty."""
    for factor, words in _SCALES.items():
        for r in (ratio, 1 / ratio):
            if 0.9 < r / factor < 1.1:
                return f", {words}"
    return ""


def _compare(check: str, relation: Relation, stated: Known, computed: Known) -> list[Finding]:
    """Findings where the printed range and the computed range do not meet, one a row, the worst first; one if all agree."""
    both = np.isfinite(stated.value) & np.isfinite(computed.value)
    if not both.any():
        return []
    slack = relation.slack * np.abs(computed.value)
    off = both & ((stated.low > computed.high + slack + 1e-12) | (stated.high < computed.low - slack - 1e-12))
    rows = np.flatnonzero(off)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.abs(np.log(np.abs(stated.value / computed.value)))
    rows = rows[np.argsort(-np.nan_to_num(size[rows], nan=np.inf), kind="stable")]
    claim = f"{relation.target} = {relation.text}"
    label = f"{relation.target}:{'+'.join(relation.powers)}"
    found = []
    for i in rows[:MOST_NAMED]:
        a, b = stated.value[i], computed.value[i]
        times = (
            f"; printed / computed = {a / b:,.0f}{_scale(a / b)}"
            if b and a > 100 * b
            else f"; printed / computed = {number(a / b, 3)}{_scale(a / b)}"
            if b and a > 0 and not 0.5 < a / b < 2
            else ""
        )
        found.append(
            Finding(
                check,
                claim,
                "inconsistent",
                f"{relation.target} is printed as {number(a)}; {relation.text} gives {number(b)}{times}",
                number(a),
                number(b),
                (int(i),),
                f"{label}:{i}",
            )
        )
    if len(rows) > MOST_NAMED:
        found.append(
            Finding(
                check,
                claim,
                "inconsistent",
                f"{len(rows)} of {both.sum()} rows do not follow {claim}; the {MOST_NAMED} worst are listed",
                positions=tuple(np.asarray(rows, dtype=np.int64).tolist()),
                name=f"{label}:all",
            )
        )
    if not len(rows):
        found.append(
            Finding(
                check,
                claim,
                "consistent",
                f"{both.sum()} printed figures follow {claim} within rounding",
                positions=tuple(np.flatnonzero(both).tolist()),
                name=label,
            )
        )
    return found


def derived(table: Table) -> list[Finding]:
    """Every printed figure that a relation defines, against that relation."""
    found, done = [], set()
    for target in dict.fromkeys(r.target for r in RELATIONS if table.has(r.target)):
        known = complete(table, without=target)
        for relation in (r for r in RELATIONS if r.target == target):
            pair = frozenset([target, *relation.powers])
            if pair in done:
                continue
            outcome = _compare("derived", relation, printed(table, target), evaluate(relation, known, len(table)))
            if outcome:
                done.add(pair)
            found += outcome
    return found


def references(table: Table, marked: np.ndarray, candidates: np.ndarray, energy: np.ndarray) -> dict[int, int]:
    """For each marked row the one candidate that it can be compared with: it differs in exactly one factor.

    Rows of the same session are preferred; a row with no candidate, or with several that give different energies, has none.
    """
    factors = table.factors()
    codes = np.column_stack([table.keys[f].cat.codes for f in factors]) if factors else np.zeros((len(table), 0))
    session = table.key("session")
    pool = np.flatnonzero(candidates & np.isfinite(energy))
    out = {}
    if len(marked) * len(pool) > 4_000_000:
        return out
    for i in marked:
        near = pool[(codes[pool] != codes[i]).sum(axis=1) == 1]
        same = near[session[near] == session[i]]
        near = same if len(same) else near
        if len(near) and np.ptp(energy[near]) == 0:
            out[int(i)] = int(near[0])
    return out


def reductions(table: Table) -> list[Finding]:
    """Printed energy reductions or changes [%] against the energies they come from, whatever factor the reference differs in."""
    found = []
    for name, sign in (("energy_reduction_pct", -1), ("energy_change_pct", 1)):
        if not table.has(name):
            continue
        change = table.column(name)
        for energy in (e for e in ENERGIES if table.has(e)):
            e, h = table.column(energy), table.step(energy)
            pairs = references(table, np.flatnonzero(np.isfinite(change) & np.isfinite(e)), ~np.isfinite(change), e)
            if not pairs:
                continue
            i, j = np.array(list(pairs)), np.array(list(pairs.values()))
            ends = [100 * sign * ((e[i] + a * h[i]) / (e[j] - a * h[j]) - 1) for a in (-1, 0, 1)]
            whole = [np.full(len(table), np.nan) for _ in range(3)]
            for part, end in zip(whole, (np.minimum(ends[0], ends[2]), ends[1], np.maximum(ends[0], ends[2])), strict=True):
                part[i] = end
            relation = Relation(name, {energy: 1}, 100.0)
            outcome = _compare("reductions", relation, printed(table, name), Known(whole[1], whole[0], whole[2]))
            found += [_reworded(f, name, energy, pairs) for f in outcome]
            break
    return found


def _reworded(f: Finding, name: str, energy: str, pairs: dict[int, int]) -> Finding:
    """The finding in terms of energies and references, resting on the reference rows too."""
    rows = tuple(sorted({*f.positions, *(pairs[p] for p in f.positions if p in pairs)}))
    claim = f"{name} follows from {energy}"
    reason = (
        f"{f.stated} % is printed; the energies give {f.computed} %"
        if f.verdict == "inconsistent"
        else f"{len(f.positions)} printed changes follow from {energy} within rounding"
    )
    return Finding(f.check, claim, f.verdict, reason, f.stated, f.computed, rows, f.name)


def ratios(table: Table) -> list[Finding]:
    """Printed ratios to a baseline against the energies they come from; a baseline is the row whose ratio is 1, or that has none.

    Each row is held against the energy that explains it best, since a ratio is of a token or of a request; within `MEANS`, which the ratio
    of means and the mean of ratios may differ by. Rows of different numbers of blocks are not paired and are left out.
    """
    if not table.has("ratio_to_baseline"):
        return []
    ratio = table.column("ratio_to_baseline")
    base = ratio == 1 if (ratio == 1).any() else ~np.isfinite(ratio)
    n_blocks = table.column("n_blocks") if table.has("n_blocks") else np.ones(len(table))
    whole, used = [np.full(len(table), np.nan) for _ in range(3)], {}
    for energy in (e for e in ENERGIES if table.has(e)):
        e, h = table.column(energy), table.step(energy)
        for i, j in references(table, np.flatnonzero(np.isfinite(ratio) & ~base & np.isfinite(e)), base, e).items():
            ends = [(e[i] - h[i]) / (e[j] + h[j]), e[i] / e[j], (e[i] + h[i]) / (e[j] - h[j])]
            is_nearer = not np.isfinite(whole[1][i]) or abs(ends[1] - ratio[i]) < abs(whole[1][i] - ratio[i])
            if n_blocks[i] == n_blocks[j] and np.isfinite(ends).all() and is_nearer:
                used[i] = (energy, j)
                for part, end in zip(whole, ends, strict=True):
                    part[i] = end
    relation = Relation("ratio_to_baseline", {"energy": 1}, slack=MEANS)
    outcome = _compare("ratios", relation, printed(table, "ratio_to_baseline"), Known(whole[1], whole[0], whole[2]))
    return [_of_energies(f, used) for f in outcome]


def _of_energies(f: Finding, used: dict[int, tuple[str, int]]) -> Finding:
    """The finding in terms of the energies and the baselines' rows that it rests on."""
    energies = " or ".join(dict.fromkeys(used[p][0] for p in f.positions))
    rows = tuple(sorted({*f.positions, *(used[p][1] for p in f.positions)}))
    reason = (
        f"{f.stated} is printed; {energies} of the row and of its baseline gives {f.computed}"
        if f.verdict == "inconsistent" and f.stated
        else f"{len(f.positions)} printed ratios {'do not follow' if f.verdict == 'inconsistent' else 'follow'} from {energies}"
    )
    return Finding(f.check, f"ratio_to_baseline follows from {energies}", f.verdict, reason, f.stated, f.computed, rows, f.name)


def mislabelled(table: Table) -> list[Finding]:
    """A derived quantity that no definition of its own can explain, but a quotient or product of two other columns does.

    Four rows or more must agree within printed rounding; by chance that is (relative step) ** rows, below 1e-8.
    """
    found = []
    own = {r.target: r for r in RELATIONS if r.target in ("eor", "tweor", "tokens_per_j")}
    for name, relation in own.items():
        if not table.has(name) or all(table.has(n) for n in relation.powers):
            continue
        stated = printed(table, name)
        if _explained(table, relation, stated):
            continue
        others = [c for c in table.values if c != name and table.has(c) and c not in NOT_FACTORS]
        for a, b in permutations(others, 2):
            quotient = Relation(name, {a: 1, b: -1})
            c = evaluate(quotient, {n: printed(table, n) for n in (a, b)}, len(table))
            both = np.isfinite(stated.value) & np.isfinite(c.value)
            if both.sum() >= 4 and np.ptp(stated.value[both]) > 0 and ((stated.low <= c.high) & (stated.high >= c.low))[both].all():
                rows = tuple(np.flatnonzero(both).tolist())
                reason = f"the column {name} is {a} / {b} in {len(rows)} of {len(rows)} rows, not {relation.text}" + _meaning(a, b)
                found.append(Finding("mislabelled", f"{name} = {relation.text}", "inconsistent", reason, name, f"{a} / {b}", rows, name))
    return found


def _explained(table: Table, relation: Relation, stated: Known) -> bool:
    """Whether a quantity follows its definition in every row, its inputs being computed from other columns."""
    own = evaluate(relation, complete(table, without=relation.target), len(table))
    rows = np.isfinite(stated.value)
    slack = relation.slack * np.abs(own.value)
    return bool(((stated.low <= own.high + slack) & (stated.high >= own.low - slack))[rows].all())


def _meaning(a: str, b: str) -> str:
    """What a quotient of two columns is, where it has a name."""
    return ": energy per token [J], lower is better" if (a, b) == ("power_w", "throughput_tok_s") else ""
