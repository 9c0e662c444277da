"""All checks on one table, and on all tables of one source together; the false-alarm rate is shared out here.

Checks that only do arithmetic on printed figures cannot fail on a table that was computed correctly. The five that weigh chance
(one value for two configurations, two values for one, two changes, product structure, scores, serial correlation) share the
table's rate of 1 % equally, by Bonferroni.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from eai.claims import accounting, affine, derived, ordering, physical, repeated, restated, scores, serial, structure
from eai.claims.findings import Finding, lines, to_frame
from eai.claims.quantities import ENERGIES
from eai.claims.tabular import Table, build, stack

FALSE_ALARM_RATE = 0.01
_STATISTICAL: dict[str, Callable[[Table, float], list[Finding]]] = {
    "one_value": repeated.one_value,
    "two_values": repeated.two_values,
    "two_changes": lambda table, alpha: repeated.two_changes(table, _changes(table), alpha),
    "structure": structure.structure,
    "scores": scores.scores,
    "serial": serial.serial,
}
_ARITHMETIC: dict[str, Callable[[Table], list[Finding]]] = {
    "derived": derived.derived,
    "reductions": derived.reductions,
    "ratios": derived.ratios,
    "mislabelled": derived.mislabelled,
    "accounting": accounting.accounting,
    "countable": scores.countable,
    "ordering": ordering.ordering,
    "affine": affine.affine_example,
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
        ref = derived.references(part, np.flatnonzero(~base[here]), base[here], x[here])
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
    mapping: dict[str, str] | None = None,
    name: str = "table",
    limits: pd.DataFrame | None = None,
    line_numbers: np.ndarray | None = None,
) -> pd.DataFrame:
    """The findings on anyone's table, one row each (findings.COLUMNS): inconsistent ones first.

    `mapping` gives our name for a column of theirs where the header does not say it. Raises UserError if no column is recognized.
    """
    table = build(frame, name, mapping, line_numbers)
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
    return framed([*across, *restated.restated(table, owner)], table, source, owner)


@np.errstate(all="ignore")
def rowwise(table: Table, limits: pd.DataFrame | None = None) -> pd.DataFrame:
    """The findings of the checks that look at one row at a time: what a file too long for memory gets, piece by piece."""
    return framed(
        [*derived.derived(table), *physical.physical(table, limits), *scores.countable(table), *affine.affine_example(table)], table
    )
