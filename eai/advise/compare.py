"""Strategies side by side at one batch on one card and engine: energy, speed, memory, rank, what each alternative costs, and paradoxes.

A ratio is taken within sources where both rows stand in one, else from two costs with the errors that they do not share.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from eai import catalog, strategies
from eai.advise import evidence
from eai.advise.bill import bill
from eai.advise.evidence import Cost, canonical, costs, measure_command, session_spread, within
from eai.advise.optimize import entry, plan, ranked, recommended, strategies_of
from eai.advise.page import percent, signed
from eai.advise.request import HALF, Configuration, Request, fits, require_fit
from eai.errors import UserError
from eai.quantity import Quantity, plain, shortest
from eai.site import NORMAL_95

WORTH = 0.05
"""A difference of less than 5 % in energy is none that a choice should rest on."""
OF_A_PLAN = ("configuration", "boards", "replicas", "load", "kwh_a_month", "usd_a_month_cards", "objective", "p_best_known")
MANY_REQUESTS = 1_000_000
LADDER_B = (0.4, 0.8, 1.5, 3, 4, 7, 9, 14, 32, 70)
"""Sizes [1e9 parameters] at which a crossing is looked for: of each the catalog's model nearest to it."""


def compare(r: Request) -> dict[str, Any]:
    """The strategies side by side. Keys: baseline, rows (by rank), not_told, paradoxes, crossovers, recommendation, against, context,
    measure. Raises UserError, with the reasons, where none can run or be predicted."""
    c = r.now
    wanted = list(dict.fromkeys((*strategies_of(r, c.engine, c.gpu), c.quantization)))
    tried = dict(zip(wanted, costs([c.with_(quantization=q) for q in wanted]), strict=True))
    known = {q: cost for q, (cost, _) in tried.items() if cost is not None}
    not_told = [{"quantization": q, "reason": reason} for q, (cost, reason) in tried.items() if cost is None]
    if not known:
        require_fit(c)
        reason = f"no strategy of {c.model.slug} at batch {c.batch_size} on {c.gpu.name}: {not_told[0]['reason']}"
        raise UserError(reason, "", "name another card, batch or engine")
    base, full = next((q for q in HALF if q in known), None), replace(r, goal="energy", given=r.given - {"requests"})
    plans = ranked([plan(c.with_(quantization=q), k, full) for q, k in known.items()], full)
    table = []
    for rank, p in enumerate(plans, start=1):
        month, (ratio, how) = bill(r, p.configuration, p.cost), ratio_to_baseline(p.configuration, known, base)
        row = {"quantization": p.configuration.quantization, "rank": rank, "ratio_evidence": how}
        row |= {name: value for name, value in entry(p, full).items() if name not in OF_A_PLAN}
        row["ratio_to_baseline"] = ratio.to_json() if ratio else None
        row["month"] = {name: month[name] for name in ("energy_kwh", "cost_usd", "carbon_kg")} | {"cards_usd": month["cards"]["usd"]}
        table.append(row)
    best = recommended(plans, full)
    chosen = next((e for e, p in zip(table, plans, strict=True) if p is best), None)
    pair = dict.fromkeys(e["quantization"] for e in (chosen, *table) if e)
    lines = against(table, chosen)
    return {
        "configuration": c.to_json(),
        "baseline": base or c.half.quantization,
        "rows": table,
        "not_told": not_told,
        "paradoxes": paradoxes(table, base),
        "crossovers": crossovers(c, known, base),
        "recommended": chosen["quantization"] if chosen else None,
        "recommendation": recommendation(table, chosen),
        "against": lines,
        "context": context(r, table, chosen, lines),
        "measure": [f"{c.cards}: {measure_command(c.with_(quantization=q), base)}" for q in list(pair)[:2]],
        "assumptions": [*r.assumptions, *(f.assumption() for f in r.site.factors)],
        "warnings": list(r.warnings),
    }


def ratio_to_baseline(c: Configuration, known: dict[str, Cost], base: str | None) -> tuple[Quantity | None, str]:
    """(energy over the baseline's, how it was taken): within sources where both stand, else from the two costs; None without a baseline."""
    if base is None:
        return None, "half precision cannot run or be predicted here"
    if canonical(c.quantization) == canonical(base):
        return Quantity(1.0, unit=""), "the baseline" if c.quantization == base else f"as {base}: the same bytes and compute"
    if pairs := source_ratios(c, base):
        half = NORMAL_95 * session_spread()[0] * float(np.sqrt(1 + 1 / len(pairs)))
        return within(np.exp(np.mean(np.log(list(pairs.values())))), half), f"within {len(pairs)} source(s): {', '.join(pairs)}"
    own, other = known[c.quantization], known[base]
    apart = np.hypot(own.sd_shared, other.sd_shared) if {own.basis, other.basis} != {"predicted"} else 0.0
    half = NORMAL_95 * float(np.sqrt(own.sd_own**2 + other.sd_own**2 + apart**2))
    ratio = within(own.energy_j_per_token.value / other.energy_j_per_token.value, half)
    return ratio, f"{own.basis} over {other.basis}, with the errors that the two do not share"


def source_ratios(c: Configuration, base: str) -> dict[str, float]:
    """Source -> energy over the baseline's in that source, for this card, shape, engine and batch size at one pair of lengths."""
    sides: tuple[dict, dict] = {}, {}
    for side, quantization in zip(sides, (c.quantization, base), strict=True):
        for row in evidence.by_key().get(evidence.key(c.with_(quantization=quantization)), ()):
            place = row["source"], str(row["input_tokens"]), str(row["output_tokens"])
            side.setdefault(place, []).append(row["energy_j_per_token"])
    logs: dict[str, list[float]] = {}
    for place in sorted(sides[0].keys() & sides[1].keys()):
        logs.setdefault(place[0], []).append(np.log(np.mean(sides[0][place]) / np.mean(sides[1][place])))
    return {source: float(np.exp(np.mean(each))) for source, each in logs.items()}


def crossovers(c: Configuration, known: dict[str, Cost], base: str | None) -> list[str]:
    """From which size on each quantized strategy costs less than half precision on this card, engine and batch: a line each, by rows and
    predictions of the catalog's dense models."""
    smaller, found = [q for q in known if strategies.get(q).is_quantized] if base else [], []
    dense = [m for m in catalog.models() if m.params_total > 0]
    ladder = dict.fromkeys(min(dense, key=lambda m: abs(np.log(m.params_total / 1e9 / size))) for size in LADDER_B)
    of_size = [c.with_(model=m, active_params=m.params_total) for m in ladder]
    tried = [each.with_(quantization=q) for each in of_size for q in (base, *smaller) if smaller]
    seen = {x: k for x, (k, _) in zip(tried, costs(tried), strict=True) if k is not None}
    for q in smaller:
        ratios = {}
        for each in of_size:
            pair = {name: seen.get(each.with_(quantization=name)) for name in (q, base)}
            if all(pair.values()):
                ratio, _ = ratio_to_baseline(each.with_(quantization=q), pair, base)
                ratios[f"{shortest(each.model.params_total / 1e9, 2)} B"] = ratio.value
        if len(ratios) < 2:
            continue
        sizes, saving = list(ratios), [value < 1 for value in ratios.values()]
        where = f"(at batch {c.batch_size}, with sizes of {sizes[0]} to {sizes[-1]} that fit both)"
        turn = next((i for i in range(len(saving)) if all(saving[i:])), None)
        if turn == 0:
            found.append(f"{q} saves energy against {base} at every size here {where}")
        elif not any(saving):
            found.append(f"{q} costs more energy than {base} at every size here {where}")
        elif turn is not None and not any(saving[:turn]):
            found.append(f"{q} saves energy against {base} from between {sizes[turn - 1]} and {sizes[turn]} on {where}")
        else:
            signs = ", ".join(f"{size} {signed(value - 1)}" for size, value in ratios.items())
            found.append(f"{q} against {base} has no one crossing: {signs} (at batch {c.batch_size})")
    return found


def paradoxes(table: list[dict], base: str | None) -> list[str]:
    """Where a smaller format costs more energy, and where lower power does, the largest first; undecided ones last."""
    found = []
    reference = next((e for e in table if e["quantization"] == base), None)
    for e in table:
        ratio = e["ratio_to_baseline"]
        if reference is None or e["accuracy"]["status"] == "reference" or ratio["value"] <= 1:
            continue
        low, high = (ratio["value"] if ratio[end] is None else ratio[end] for end in ("low", "high"))
        text = f"{e['quantization']} costs {signed(ratio['value'] - 1)} [{signed(low - 1)} to {signed(high - 1)}] energy against {base}"
        text += " (undecided: the interval includes no change)" if low <= 1 else ""
        watts = e["power_w"]["value"], reference["power_w"]["value"]
        if watts[0] < 0.97 * watts[1]:
            text += f", at {watts[0]:.0f} W instead of {watts[1]:.0f} W: lower power, lower speed, more energy per token"
        found.append((low <= 1, -ratio["value"], text))
    return [text for *_, text in sorted(found)]


def recommendation(table: list[dict], chosen: dict | None) -> str:
    """What to take and why, with what a format of less energy would save and what is not known of it."""
    first = chosen or table[0]
    sure = f"lowest with probability {percent(first['p_best'])}"
    if chosen is None:
        known = f"no format that fits has a known accuracy here. By energy alone {first['quantization']} comes first ({sure})"
        return f"{known}; score it on your task before you choose it"
    text = f"{chosen['quantization']}: rank {chosen['rank']} of {len(table)} in energy ({sure}), {chosen['accuracy']['note']}"
    if not chosen["accuracy"]["acceptable"]:
        text += "; nothing of known accuracy is left: check its score before it serves anyone"
    rivals = [e for e in table if e["rank"] < chosen["rank"] and e["accuracy"]["status"] != "broken"]
    if not rivals:
        return text
    e, saved = rivals[0], 1 - rivals[0]["energy_j_per_token"]["value"] / chosen["energy_j_per_token"]["value"]
    close = " (within 5 %: too little to decide)" if saved < WORTH else ""
    return text + f". {e['quantization']} would take {percent(saved)} less energy{close}: {e['accuracy']['note']}"


def against(table: list[dict], chosen: dict | None) -> list[dict[str, Any]]:
    """The recommended against each alternative: fractions of energy and speed more (+) or less (-), USD a month less, and a line."""
    found = []
    for e in (e for e in table if chosen and e is not chosen):
        energy, speed = (chosen[name]["value"] / e[name]["value"] - 1 for name in ("energy_j_per_token", "throughput_tok_s"))
        usd = [x["month"]["cost_usd"]["value"] for x in (e, chosen)]
        money = None if None in usd else usd[0] - usd[1]
        words = f"{percent(abs(energy))} {'less' if energy <= 0 else 'more'} energy, "
        words += f"{percent(abs(speed))} {'faster' if speed >= 0 else 'slower'}"
        words += "" if money is None else f", {plain(abs(money))} USD of electricity a month {'less' if money >= 0 else 'more'}"
        words += " (the energies are within 5 %)" if abs(np.log1p(energy)) < np.log1p(WORTH) else ""
        line = {"quantization": e["quantization"], "energy_fraction": energy, "speed_fraction": speed, "usd_a_month": money}
        found.append(line | {"text": f"against {e['quantization']}: {words}"})
    return found


def context(r: Request, table: list[dict], chosen: dict | None, lines: list[dict]) -> list[str]:
    """What the context changes: short memory, critical latency, many requests, critical accuracy, and the batch."""
    found, c = [], r.now
    if not fits(c.half):
        found.append("memory short: half precision does not fit here, so quantization is about fitting, not about saving")
    else:
        small = min(table, key=lambda e: e["vram_gb"]["value"])
        found.append(f"memory short: {small['quantization']} needs least, {small['vram_gb']['value']:.1f} GB (1e9 bytes)")
    quick = min(table, key=lambda e: e["latency_s"]["value"])
    time = f"{plain(quick['latency_s']['value'])} s per request at batch {c.batch_size}"
    found.append(f"latency critical: {quick['quantization']} is fastest, {time}")
    worst = max((a for a in lines if a["usd_a_month"]), key=lambda a: a["usd_a_month"], default=None)
    if r.requests >= MANY_REQUESTS and worst and worst["usd_a_month"] > 0:
        saved = f"saves {plain(worst['usd_a_month'])} USD of electricity a month"
        found.append(f"cost at {r.requests:,.0f} requests per month: {chosen['quantization']} instead of {worst['quantization']} {saved}")
    safe = ", ".join(e["quantization"] for e in table if e["accuracy"]["status"] in ("reference", "score")) or "none"
    found.append(f"accuracy critical: {safe} (unquantized, or with a measured score); the others need a score first")
    if c.batch_size == 1:
        found.append("batch: one at a time; batching concurrent requests saves more than any strategy")
    elif c.batch_size >= 8:
        found.append("batch: the order at batch 1 need not hold here, nor this one there")
    return found
