"""Rows that a table itself marks as best, against its own figures.

Affine and symmetric 8-bit quantization, the reference: q = clamp(round(x / step) + zero point), and the check of a printed example.

Formulas: Jacob et al. 2018 (arXiv 1712.05877), equation 1; symmetric: Wu et al. 2020 (arXiv 2004.09602), equation 8. A worked
example's `scale` is often 1 / step, the factor that x is multiplied by; that is what `scale` means here.

All checks on one table, and on all tables of one source together; the false-alarm rate is shared out here.

Checks that only do arithmetic on printed figures cannot fail on a table that was computed correctly. The five that weigh chance
(one value for two configurations, two values for one, two changes, product structure, scores, serial correlation) share the
table's rate of 1 % equally, by Bonferroni.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai.claims import chance, disguised, physical, relations, repeated
from eai.claims.findings import Finding, lines, number, to_frame
from eai.claims.quantities import ENERGIES
from eai.claims.tabular import Table, build, mapped, stack

_MARKS = ("yes", "true", "1", "best", "x", "*")


def ordering(table: Table) -> list[Finding]:
    """Marked rows (a `best` column) that another row of the same task, GPU or model beats in energy; printed ties are allowed."""
    energy = next((e for e in ENERGIES if table.has(e)), None)
    if energy is None or not table.has("best"):
        return []
    x, h = table.column(energy), table.step(energy)
    marked = np.isin(np.char.lower(table.key("best").astype(str)), _MARKS) & np.isfinite(x)
    choice = next((f for f in ("quantization", "gpu", "model") if table.has(f)), None)
    group = table.groups([f for f in table.factors() if f != choice])
    found = []
    for i in np.flatnonzero(marked):
        rivals = np.flatnonzero((group == group[i]) & np.isfinite(x))
        j = rivals[np.argmin(x[rivals])]
        if x[j] + h[j] < x[i] - h[i]:
            reason = f"{table.key(choice)[i]} is marked best at {number(x[i])}, but {table.key(choice)[j]} has {number(x[j])} {energy}"
            found.append(
                Finding(
                    "ordering",
                    "the row marked best takes the least energy",
                    "inconsistent",
                    reason,
                    str(table.key(choice)[i]),
                    str(table.key(choice)[j]),
                    (int(i), int(j)),
                    str(i),
                )
            )
    if not found and marked.any():
        rows = np.flatnonzero(np.isin(group, group[marked]) & np.isfinite(x))
        found = [
            Finding(
                "ordering",
                "the row marked best takes the least energy",
                "consistent",
                f"{marked.sum()} marked rows take the least energy of their group",
                positions=tuple(np.asarray(rows, dtype=np.int64).tolist()),
            )
        ]
    return found


@dataclass(frozen=True)
class Quantizer:
    """q = clamp(round(scale x + zero_point), q_min, q_max), and back."""

    scale: float
    zero_point: float
    q_min: int
    q_max: int

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """Integer codes of x, ties to even as IEEE 754 and torch round."""
        return np.clip(np.round(self.scale * np.asarray(x, dtype=float) + self.zero_point), self.q_min, self.q_max).astype(np.int64)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """The values that the codes stand for."""
        return (np.asarray(q, dtype=float) - self.zero_point) / self.scale

    @property
    def step(self) -> float:
        """The distance of neighbouring values; inside the range the error is at most half of it."""
        return 1.0 / self.scale


def affine(low: float, high: float, bits: int = 8) -> Quantizer:
    """The unsigned affine quantizer whose range covers [low, high] and holds 0 exactly.

    Raises ValueError for an empty or unbounded range.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"the range [{low}, {high}] cannot be quantized: it must be finite and not empty")
    top = 2**bits - 1
    scale = top / (high - low)
    return Quantizer(scale, float(np.clip(np.round(-low * scale), 0, top)), 0, top)


def symmetric(largest: float, bits: int = 8) -> Quantizer:
    """The signed symmetric quantizer with zero point 0 that covers [-largest, largest] (codes -127 to 127 for 8 bits).

    Raises ValueError unless `largest` is positive and finite.
    """
    if not (np.isfinite(largest) and largest > 0):
        raise ValueError(f"the largest magnitude is {largest}: it must be positive and finite")
    top = 2 ** (bits - 1) - 1
    return Quantizer(top / largest, 0.0, -top, top)


def affine_example(table: Table) -> list[Finding]:
    """Printed codes q against the printed rule: scale, zero point and range stand in the table's own columns."""
    needed = ("x", "q", "scale", "zero_point", "q_min", "q_max")
    if not table.has(*needed):
        return []
    x, q, scale, zero, low, high = (table.column(n) for n in needed)
    raw = scale * x + zero
    computed = np.clip(np.round(raw), low, high)
    seen = np.isfinite(computed) & np.isfinite(q)
    claim = "q = clamp(round(scale x + zero_point), q_min, q_max)"
    found = []
    for i in np.flatnonzero(seen & (computed != q)):
        how = ", which is rounded down instead" if np.clip(np.floor(raw[i]), low[i], high[i]) == q[i] else ""
        reason = f"x = {x[i]:g} gives {raw[i]:.2f}, so q = {computed[i]:.0f}; {q[i]:.0f} is printed{how}"
        found.append(Finding("affine", claim, "inconsistent", reason, f"{q[i]:.0f}", f"{computed[i]:.0f}", (int(i),), str(i)))
    if not found:
        found = [
            Finding("affine", claim, "consistent", f"{seen.sum()} codes follow the rule", positions=tuple(np.flatnonzero(seen).tolist()))
        ]
    return found


FALSE_ALARM_RATE = 0.01
_STATISTICAL: dict[str, Callable[[Table, float], list[Finding]]] = {
    "one_value": repeated.one_value,
    "two_values": repeated.two_values,
    "two_changes": lambda table, alpha: repeated.two_changes(table, _changes(table), alpha),
    "structure": chance.structure,
    "scores": chance.scores,
    "serial": chance.serial,
    "chance": disguised.chance,
}
_ARITHMETIC: dict[str, Callable[[Table], list[Finding]]] = {
    "derived": relations.derived,
    "reductions": relations.reductions,
    "ratios": relations.ratios,
    "mislabelled": relations.mislabelled,
    "accounting": physical.accounting,
    "countable": chance.countable,
    "ordering": ordering,
    "affine": affine_example,
    "parts": disguised.parts,
    "carbon": disguised.carbon,
    "constant_power": disguised.constant_power,
    "kernels": disguised.kernels,
}
NEEDS = {
    "derived": "a quantity and what defines it, such as eor, accuracy and energy_wh",
    "reductions": "energy_reduction_pct or energy_change_pct beside an energy",
    "ratios": "ratio_to_baseline beside an energy",
    "mislabelled": "a derived column without its own inputs",
    "accounting": "power_w, throughput_tok_s and energy_j_per_1k_tok",
    "countable": "accuracy and n_items, printed finer than 1 / n_items",
    "ordering": "a column `best` beside an energy",
    "affine": "x, q, scale, zero_point, q_min, q_max",
    "parts": "a whole energy beside two of GPU, CPU and RAM",
    "carbon": "emissions and energy",
    "constant_power": "energy and time of four configurations or more",
    "kernels": "energy and throughput of two strategies over the same configurations",
    "chance": "accuracy and a task whose chance level is known",
    "physical": "power, energy, throughput or a score",
    "one_value": "energies of four digits or more for several configurations",
    "two_values": "several rows of one configuration",
    "two_changes": "one comparison from several places",
    "structure": "a quantity over two factors or more, at least four cells",
    "scores": "accuracy, gpu and n_items, with one model on two GPUs",
    "serial": "a column `run` with five runs or more a configuration",
}
BASELINES = ("fp16", "bf16", "fp32", "unspecified_baseline", "baseline")


def _changes(table: Table) -> list[tuple[int, int]]:
    """(row, reference row) for every strategy against the baseline of the same place."""
    energy = next((e for e in ENERGIES if table.has(e)), None)
    if energy is None or not table.has("quantization", "location"):
        return []
    x, place = table.column(energy), table.key("location")
    base = np.isin(table.key("quantization"), BASELINES)
    pairs = []
    for name in pd.unique(place):
        here = np.flatnonzero((place == name) & np.isfinite(x))
        if len(here) > 2000:
            continue
        part = table.take(np.isin(np.arange(len(table)), here))
        ref = relations.references(part, np.flatnonzero(~base[here]), base[here], x[here])
        pairs += [(int(here[i]), int(here[j])) for i, j in ref.items()]
    return pairs


def run(table: Table, limits: pd.DataFrame | None = None) -> list[Finding]:
    """The findings of every check on one table, in the order of NEEDS; a check that lacks its columns says so as `untested`."""
    share = FALSE_ALARM_RATE / len(_STATISTICAL)
    outcome = {name: check(table) for name, check in _ARITHMETIC.items()}
    outcome["physical"] = physical.physical(table, limits)
    outcome |= {name: check(table, share) for name, check in _STATISTICAL.items()}
    found = []
    if len(table) > repeated.MOST_COMPARED:
        pairwise = "equal figures of different configurations and printed reductions are compared pair by pair, which was left out"
        found.append(Finding("size", "every check applies", "untested", f"{len(table):,} rows: {pairwise}"))
    for name, need in NEEDS.items():
        found += outcome[name] or [Finding(name, name, "untested", f"this check needs {need}")]
    return found


def framed(findings: list[Finding], table: Table, source: str = "", owner: np.ndarray | None = None) -> pd.DataFrame:
    """Findings as a data frame; `owner` names each row's table where several were stacked."""
    rows = []
    for f in findings:
        if owner is None:
            where = lines(table.name, f.positions, table.lines)
        else:
            names = dict.fromkeys(owner[list(f.positions)])
            where = "; ".join(lines(n, [p for p in f.positions if owner[p] == n], table.lines) for n in names) or table.name
        rows.append(
            {
                "id": f"{table.name}/{f.check}" + (f"/{f.name}" if f.name else ""),
                "source": source or table.name,
                "claim": f.claim,
                "verdict": f.verdict,
                "reason": f.reason,
                "stated": f.stated,
                "computed": f.computed,
                "rows": where,
                "check": f.check,
            }
        )
    return to_frame(rows)


@np.errstate(all="ignore")  # a stranger's figures may be zero or huge; what is not finite is not checked
def check_table(
    frame: pd.DataFrame,
    mapping: dict[str, object] | None = None,
    name: str = "table",
    limits: pd.DataFrame | None = None,
    line_numbers: np.ndarray | None = None,
) -> pd.DataFrame:
    """The findings on anyone's table, one row each (findings.COLUMNS): inconsistent ones first.

    `mapping`: our name -> their column or an expression, where the header does not say it. Raises UserError if no column is recognised.
    """
    table = build(mapped(frame, mapping) if mapping else frame, name, line_numbers)
    result = framed(run(table, limits), table)
    order = result["verdict"].map({"inconsistent": 0, "consistent": 1, "untested": 2})
    return result.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


@np.errstate(all="ignore")
def check_source(frames: dict[str, pd.DataFrame], source: str) -> pd.DataFrame:
    """The findings that only several tables of one source together can give: repeated and conflicting figures."""
    tables = [build(f, n) for n, f in frames.items()]
    if len(tables) < 2:
        return to_frame([])
    table, owner = stack(tables, f"{source} together")
    share = FALSE_ALARM_RATE / 2
    found = [f for check in (repeated.one_value, repeated.two_values) for f in check(table, share)]
    across = [f for f in found if f.verdict == "consistent" or len(set(owner[list(f.positions)])) > 1]
    return framed([*across, *repeated.restated(table, owner)], table, source, owner)


@np.errstate(all="ignore")
def rowwise(table: Table, limits: pd.DataFrame | None = None) -> pd.DataFrame:
    """The findings of the checks that look at one row at a time: what a file too long for memory gets, piece by piece."""
    return framed([*relations.derived(table), *physical.physical(table, limits), *chance.countable(table), *affine_example(table)], table)
