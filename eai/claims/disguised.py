"""Figures that are another thing in disguise: a whole that is not its parts, a constant in place of a measurement, labels of one kernel.

Parts, carbon and constant power are arithmetic on printed figures and cannot fail on measured ones; scores against chance weigh it with
the binomial; labels are compared over every configuration that two of them share.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from eai import catalog, strategies
from eai.claims.findings import Finding, number
from eai.claims.quantities import ENERGIES
from eai.claims.tabular import Table
from eai.errors import UserError

SUM_SLACK = 0.005  # parts and whole are read at slightly different instants
LEAST_ROWS = 4
CONSTANT = 2e-4  # relative; a capped board still scatters more than this from run to run
KERNEL = 0.015  # relative; repeated windows of one configuration agree as well as this
LEAST_PAIRS, LEAST_LABELS = 3, 3
INTENSITY_G_PER_KWH = (1.0, 1500.0)  # hydro in Norway to lignite; life cycle, IPCC AR5 WG3 annex III


def _rows(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(mask).tolist())


def parts(table: Table) -> list[Finding]:
    """The whole energy against the sum of its parts, CPU + GPU + RAM, times PUE where it is stated."""
    names = [n for n in ("energy_gpu_j", "energy_cpu_j", "energy_ram_j") if table.has(n)]
    whole = next((n for n in ("energy_j", "energy_wh", "energy_kwh") if table.has(n)), None)
    if len(names) < 2 or whole is None:
        return []
    to_j = {"energy_j": 1.0, "energy_wh": 3600.0, "energy_kwh": 3.6e6}[whole]
    total = sum(np.nan_to_num(table.column(n)) for n in names)
    pue = np.where(np.isfinite(table.column("pue")), table.column("pue"), 1.0)
    stated, half = table.column(whole) * to_j, table.step(whole) * to_j + sum(np.nan_to_num(table.step(n)) for n in names)
    seen = np.isfinite(stated) & (total > 0)
    near = [np.abs(stated - total * p) <= half * (1 + 1e-9) + SUM_SLACK * total * p for p in (np.ones(len(table)), pue)]
    off = seen & ~near[0] & ~near[1]
    claim = f"{whole} = " + " + ".join(n.split("_")[1].upper() for n in names)
    if not off.any():
        return (
            [Finding("parts", claim, "consistent", f"{seen.sum()} wholes are the sum of their parts", positions=_rows(seen))]
            if seen.any()
            else []
        )
    i = int(np.flatnonzero(off)[np.argmax(np.abs(stated / total - 1)[off])])
    reason = (
        f"{off.sum()} of {seen.sum()} rows: the whole is {number(stated[i])} J and the parts add "
        f"up to {number(total[i])} J, x {number(stated[i] / total[i], 3)}"
    )
    return [Finding("parts", claim, "inconsistent", reason, number(stated[i]), number(total[i]), _rows(off))]


def carbon(table: Table) -> list[Finding]:
    """The carbon intensity that emissions over energy imply: possible, and whether it is one constant, which adds nothing to the energy."""
    name = next((n for n in ("energy_kwh", "energy_wh", "energy_j") if table.has(n)), None)
    if name is None or not table.has("carbon_kg"):
        return []
    kwh = table.column(name) / {"energy_kwh": 1.0, "energy_wh": 1e3, "energy_j": 3.6e6}[name]
    grams = 1e3 * table.column("carbon_kg") / kwh
    seen = np.isfinite(grams) & (kwh > 0)
    if not seen.any():
        return []
    slack = 1e3 * table.step("carbon_kg") / kwh + grams * table.step(name) / table.column(name)
    low, high = INTENSITY_G_PER_KWH
    off = seen & ((grams + slack < low) | (grams - slack > high)) & (grams > 0)
    if off.any():
        i = int(np.flatnonzero(off)[0])
        reason = (
            f"emissions over energy give {number(grams[i], 3)} gCO2/kWh in {off.sum()} of {seen.sum()} "
            f"rows; grids lie between {low:g} and {high:,.0f}"
        )
        return [
            Finding(
                "carbon",
                "the implied carbon intensity is that of a grid",
                "inconsistent",
                reason,
                "",
                number(grams[i], 3),
                _rows(off),
                "range",
            )
        ]
    spread = np.ptp(grams[seen]) / np.mean(grams[seen])
    if (np.abs(grams - np.median(grams[seen])) <= slack + 1e-6 * grams)[seen].all():
        reason = (
            f"one constant, {number(np.median(grams[seen]), 3)} gCO2/kWh, in {seen.sum()} rows: "
            "emissions say nothing that the energy does not"
        )
        return [Finding("carbon", "the implied carbon intensity is that of a grid", "consistent", reason, "", "", _rows(seen), "range")]
    reason = (
        f"the carbon intensity varies from {number(grams[seen].min(), 3)} to {number(grams[seen].max(), 3)} "
        f"gCO2/kWh ({spread:.0%}) over {seen.sum()} rows: places or hours differ"
    )
    verdict = "inconsistent" if table.has("carbon_g_per_kwh") and np.ptp(table.column("carbon_g_per_kwh")[seen]) == 0 else "untested"
    return [Finding("carbon", "one carbon intensity serves every row", verdict, reason, "", "", _rows(seen), "varies")]


def constant_power(table: Table) -> list[Finding]:
    """Energy or emissions that are time x one constant over different configurations: an estimate, whatever they are called."""
    if not table.has("duration_s"):
        return []
    time, found = table.column("duration_s"), []
    keys = table.groups([f for f in table.factors() if f not in ("gpu", "num_gpus")])
    place = table.groups([f for f in ("gpu", "num_gpus") if f in table.keys])
    for name in ("energy_j", "energy_wh", "energy_kwh", "energy_gpu_j", "energy_cpu_j", "energy_ram_j", "carbon_kg"):
        if not table.has(name):
            continue
        ratio = table.column(name) / time
        fine = table.step(name) / np.abs(table.column(name)) + table.step("duration_s") / time < CONSTANT
        for p in np.unique(place):
            use = np.isfinite(ratio) & fine & (place == p) & (ratio > 0)
            spread_s = np.ptp(time[use]) / np.mean(time[use]) if use.sum() else 0.0
            if use.sum() < LEAST_ROWS or len(np.unique(keys[use])) < LEAST_ROWS or spread_s < 0.05:
                continue
            if np.std(ratio[use]) <= CONSTANT * np.mean(ratio[use]):
                unit = "kg/s" if name == "carbon_kg" else "W"
                level = np.mean(ratio[use]) * {"energy_wh": 3600.0, "energy_kwh": 3.6e6}.get(name, 1.0)
                reason = (
                    f"{name} is the time x {number(level)} {unit} in all {use.sum()} rows, whatever ran: an "
                    "estimate by a constant, no measurement"
                )
                found.append(Finding("constant_power", f"{name} was measured", "inconsistent", reason, "", "", _rows(use), f"{name}:{p}"))
    return found


def chance(table: Table, alpha: float) -> list[Finding]:
    """Scores at 0 or below what guessing gets, where the task's chance is known: a broken output or another metric, never a good trade."""
    if not table.has("accuracy", "task"):
        return []
    score, n = table.column("accuracy"), table.column("n_items").copy()
    level = np.full(len(table), np.nan)
    for name in np.unique(table.key("task").astype(str)):
        try:
            task = catalog.task(name)
        except UserError:
            continue
        rows = table.key("task") == name
        level[rows] = np.nan if task.chance is None else task.chance
        n[rows & ~np.isfinite(n)] = task.items
    seen = np.isfinite(score) & np.isfinite(level) & (score >= 0) & (score <= 1)
    nothing = np.isfinite(score) & (score == 0)
    if not (seen | nothing).any():
        return []
    with np.errstate(invalid="ignore"):
        p = stats.binom.cdf(np.round(score * n), n, level)
    below = (seen & (score < level) & (p < alpha / max(int(seen.sum()), 1))) | nothing
    claim = "scores are above what guessing gets"
    if below.any():
        i = int(np.flatnonzero(below)[0])
        who = ", ".join(str(table.key(k)[i]) for k in ("gpu", "model", "quantization", "task") if table.key(k)[i])
        than = f", guessing gets {level[i]:.3f}" if np.isfinite(level[i]) else ""
        reason = f"{below.sum()} scores are at 0 or below chance; {who} scores {score[i]:.3f}{than}: its output or its scoring is broken"
        return [Finding("chance", claim, "inconsistent", reason, f"{score[i]:.3f}", "", _rows(below))]
    at = seen & (p < 0.975) & (score <= level + 2 * np.sqrt(level * (1 - level) / n))
    if at.any():
        return [
            Finding(
                "chance",
                claim,
                "untested",
                f"{at.sum()} of {seen.sum()} scores cannot be told from guessing",
                positions=_rows(at),
                name="at",
            )
        ]
    return [Finding("chance", claim, "consistent", f"{seen.sum()} scores are above chance", positions=_rows(seen))] if seen.any() else []


def kernels(table: Table) -> list[Finding]:
    """Labels of strategies that differ in bits and yet agree in throughput and in energy wherever both ran: one kernel under several names.

    Two labels need three shared configurations, three labels one: whole-run figures are judged as one group too.
    """
    energy = next((e for e in ENERGIES if table.has(e)), None)
    speed = next((c for c in ("throughput_tok_s", "duration_s") if table.has(c)), None)
    if energy is None or speed is None or not table.has("quantization"):
        return []
    frame = pd.DataFrame({"q": table.key("quantization"), "e": table.column(energy), "s": table.column(speed)})
    frame["g"] = table.groups([f for f in table.factors() if f != "quantization"])
    frame = frame[(frame["q"] != "") & (frame["e"] > 0) & (frame["s"] > 0)]
    mean = frame.groupby(["g", "q"], sort=False)[["e", "s"]].mean().reset_index()
    wide_e, wide_s = (mean.pivot_table(index="g", columns="q", values=c) for c in ("e", "s"))
    labels = [q for q in wide_e.columns if wide_e[q].notna().any()]
    if len(labels) < 2 or len(labels) > 40:
        return []
    alike, compared = [], 0
    for a, b in combinations(labels, 2):
        gaps = np.maximum(np.abs(np.log(wide_e[a] / wide_e[b])), np.abs(np.log(wide_s[a] / wide_s[b]))).dropna()
        compared += len(gaps) >= LEAST_PAIRS
        if len(gaps) and gaps.max() <= KERNEL and _bits(a) != _bits(b):
            alike.append((a, b, len(gaps)))
    found = []
    for group in _groups(alike):
        pairs = [(a, b, n) for a, b, n in alike if a in group]
        if max(n for *_, n in pairs) < LEAST_PAIRS and len(group) < LEAST_LABELS:
            continue
        n = max(n for *_, n in pairs)
        rows = frame.index[frame["q"].isin(group)]
        reason = (
            f"{', '.join(sorted(group))} agree within {KERNEL:.1%} in {energy} and {speed} in all {n} configuration(s) that they share: "
            "they ran one kernel, or one of them did not apply"
        )
        found.append(
            Finding(
                "kernels",
                "labels that differ ran different kernels",
                "inconsistent",
                reason,
                "",
                "",
                tuple(np.asarray(rows, dtype=np.int64).tolist()),
                "+".join(sorted(group)),
            )
        )
    if not found and compared:
        found = [
            Finding(
                "kernels",
                "labels that differ ran different kernels",
                "consistent",
                f"{compared} pairs of labels differ",
                positions=tuple(map(int, frame.index)),
            )
        ]
    return found


def _bits(label: str) -> object:
    """Stored bits of a strategy; the label itself where it is no strategy of ours."""
    try:
        return strategies.get(label).weight_bits
    except UserError:
        return label


def _groups(alike: list[tuple]) -> list[set[str]]:
    """Labels joined by pairs that agree."""
    groups: list[set[str]] = []
    for a, b, _ in alike:
        near = [g for g in groups if a in g or b in g]
        groups = [g for g in groups if g not in near] + [set().union({a, b}, *near)]
    return groups
