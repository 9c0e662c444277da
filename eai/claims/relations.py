"""Products and quotients that define one quantity by others, with the range that printed figures leave.

Every relation is target = constant x product of inputs to whole powers, so with positive figures the smallest and the largest
value follow from the ends of each input's printed interval.
"""

from dataclasses import dataclass

import numpy as np

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
    Relation("energy_j", {"power_w": 1, "duration_s": 1}, slack=INTEGRAL),
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
        with np.errstate(divide="ignore", invalid="ignore"):
            value, low, high = value * x**power, low * np.minimum(a**power, b**power), high * np.maximum(a**power, b**power)
    if relation.unless and all(n in known for n in relation.unless):
        other = np.all([np.isfinite(known[n].value) for n in relation.unless], axis=0)
        value, low, high = (np.where(other, np.nan, v) for v in (value, low, high))
    return Known(value, low, high)


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
            new = evaluate(relation, known, len(table))
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
