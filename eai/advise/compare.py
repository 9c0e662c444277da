"""Two answers over the plans of `optimize`: strategies side by side, and the bill of a month now and optimized, by lever.

A ratio is taken within sources where both rows stand in one, else from two costs with the errors that they do not share.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from eai import catalog, strategies
from eai.advise import evidence
from eai.advise.evidence import (
    Cost,
    accuracy,
    canonical,
    cost,
    cost_or_reason,
    costs,
    launch,
    measure_command,
    scaled,
    sd_log,
    session_spread,
    within,
)
from eai.advise.month import MAKING, bill, break_even, draw_energy, work
from eai.advise.optimize import BATCHES, Plan, entry, grid, label, plan, ranked, recommended, search, served, strategies_of
from eai.advise.page import percent, signed
from eai.advise.request import HALF, MOST_HOST_W, Configuration, Request, beyond_the_card, fits, require_fit, roof_share
from eai.catalog import DRAWS, J_PER_KWH, NORMAL_95, SEED, interval
from eai.catalog import bill as electricity
from eai.errors import UserError
from eai.predict.predictor import wall
from eai.quantity import Quantity, plain, shortest

WORTH = 0.05
"""A difference of less than 5 % in energy is none that a choice should rest on."""
OF_A_PLAN = ("configuration", "boards", "replicas", "load", "kwh_a_month", "usd_a_month_cards", "objective", "p_best_known")
MANY_REQUESTS = 1_000_000
LADDER_B = (0.4, 0.8, 1.5, 3, 4, 7, 9, 14, 32, 70)
"""Sizes [1e9 parameters] at which a crossing is looked for: of each the catalog's model nearest to it."""


def compare(r: Request) -> dict[str, Any]:
    """The strategies side by side, rows by rank. Raises UserError, with the reasons, where none can run or be predicted."""
    c = r.now
    wanted = dict.fromkeys((*strategies_of(r, c.engine, c.gpu), c.quantization))
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
        table.append({"quantization": p.configuration.quantization, "rank": rank, "ratio_evidence": how})
        table[-1] |= {name: value for name, value in entry(p, full).items() if name not in OF_A_PLAN}
        table[-1]["ratio_to_baseline"] = ratio.to_json() if ratio else None
        sums = {name: month[name] for name in ("energy_kwh", "cost_usd", "carbon_kg")}
        table[-1]["month"] = sums | {"cards_usd": month["cards"]["usd"]}
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
    """From which size of the catalog's dense models on each quantized strategy costs less than half precision here: a line each."""
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


LEVER_WORTH = 0.01
"""A step that saves less than this by itself is joined with the next: half precision under another name is no lever."""
BOUNDARY = {"name": "boundary", "value": "gpu", "reason": "gross energy of the GPUs' boards; the rest of the machine only through the PUE"}


def estimate(r: Request, other: tuple[Configuration, float] | None = None) -> dict[str, Any]:
    """The bill. Keys: request, current, optimized, savings, levers, optimized_note, shares, break_even, assumptions, warnings. Own figures
    need no model. `other`: another card and its price, for the break-even. Raises UserError for what does not fit or is not known."""
    c, now = r.now, given(r)
    free = replace(r, engine=None, given=r.given - {"batch_size"})  # the batch and the engine of today bind no better plan
    if now is None:
        require_fit(c)
        costs([c, *grid(free)[0]])  # with the plans that come later, all at once: faster
        now = cost(c)
    better, why, optimized, base = None, "name a model (--model, or --params-b) to see what would cost less", None, now
    current = bill(r, c, now) | {"accuracy": None, "wall_w": None, "at_rate": None}
    warnings, taken = list(r.warnings), [a for a in r.assumptions if c or a["name"] in ("output_tokens", "requests", "region")]
    if c is not None:
        less_full = at_rate(r, now)
        if less_full is not None:
            base, flight = less_full.cost, less_full.service.in_flight
            kwh = scaled(base.energy_j_per_token, r.output_tokens * r.requests * r.site.pue.value / J_PER_KWH, "kWh")
            current["at_rate"] = {"in_flight": flight, "energy_kwh": kwh.to_json()}
        better, why = _better(free, base)
        quality = accuracy(c.model, c.quantization, r.min_accuracy)
        watts = None if now.power_w.value is None else wall(c.gpu, c.num_gpus, now.power_w).to_json()
        current |= {"accuracy": quality.to_json(), "wall_w": watts}
        warnings += quality.warnings
    if better is not None:
        optimized = bill(r, better.configuration, better.cost, better.work) | {"accuracy": better.quality.to_json()}
        optimized["launch"] = launch(better.configuration, better.replicas)
    warnings += ["your figure carries no interval: its own uncertainty is not in the result"] if now.basis == "given" else []
    implied = now.power_w.value if now.basis == "given" and c is not None and r.throughput is None else None
    if implied and implied > 2 * (c.gpu.tdp_w or np.inf) * c.num_gpus:
        rate = plain(now.throughput_tok_s.value)
        warnings.append(f"at the expected {rate} tok/s your energy is {plain(implied)} W: check its unit")
    warnings += now.warnings
    warnings += [] if r.site.price else [f"no sourced price of electricity for region {r.site.region}: give --price; cost is left empty"]
    dropped = better is not None and better.configuration.quantization != c.quantization and not quality.acceptable
    return {
        "request": {"requests_a_month": r.requests, "requests_a_day": r.requests / 365.25 * 12},
        "current": current,
        "optimized": optimized,
        "savings": savings(r, base, better) if better else None,
        "levers": levers(r, now, better.configuration, better.cost) if better and base is now else [],
        "optimized_note": why,
        "not_proposed": c.quantization if dropped else None,
        "shares": shares(r, now),
        "break_even": break_even(r, c, *other) if other else None,
        "assumptions": [*taken, *(f.assumption() for f in r.site.factors), BOUNDARY, *(f.assumption() for f in MAKING if c)],
        "warnings": warnings,
    }


def at_rate(r: Request, now: Cost) -> Plan | None:
    """Today's server under the stated rate, None where it is filled at least half: fewer in flight cost more a token each."""
    c = r.now
    if not (r.is_served and c.is_server and c.batch_size > 1 and now.basis != "given"):
        return None
    each = [c.with_(batch_size=b) for b in sorted({*(b for b in BATCHES if b < c.batch_size), c.batch_size})]
    points = [(d, known) for d, (known, _) in zip(each, costs(each), strict=True) if known is not None]
    plans = served(points, replace(r, given=r.given | {"batch_size"}))
    return plans[0] if plans and plans[0].service.in_flight < c.batch_size / 2 else None


def given(r: Request) -> Cost | None:
    """The user's own figures as a cost, None where no energy was given; a missing throughput comes from the evidence, if it has one."""
    if r.energy_j_per_1k is None:
        return None
    energy, rate, cited, c = r.energy_j_per_1k / 1e3, r.throughput, ("energy as you gave it",), r.now
    if rate is not None and c is not None:
        most = (c.gpu.tdp_w or np.inf) * c.num_gpus + MOST_HOST_W
        beyond = beyond_the_card(c.gpu, c.num_gpus, None, rate, roof_share(rate, c))
        beyond += [f"{plain(1e3 * energy)} J per 1000 tokens at {plain(rate)} tok/s are {plain(energy * rate)} W"] * (energy * rate > most)
        if beyond:
            expected = f"at most {most:,.0f} W on {c.cards} with {MOST_HOST_W:.0f} W for the host, and what its memory's bandwidth allows"
            raise UserError(beyond[0], expected, "correct the figures, --gpu or --num-gpus")
    if rate is None and r.now is not None and (known := cost_or_reason(r.now)[0]):
        rate, cited = known.throughput_tok_s.value, (*cited, "throughput from the evidence")
    step = (r.now.batch_size if r.now else 1) / rate if rate else None
    values = zip((energy, energy * rate if rate else None, rate, step), ("J", "W", "tok/s", "s"), strict=True)
    return Cost(*(Quantity(value, unit=unit) for value, unit in values), "given", "given", cited)


def _better(r: Request, now: Cost) -> tuple[Plan | None, str]:
    """(the plan that `optimize` recommends if it costs less energy than the current one, a sentence about it)."""
    try:
        chosen = recommended(search(r)[0], r)
    except UserError as error:
        return None, str(error)
    if chosen is None or not chosen.quality.acceptable:
        return None, f"no configuration {'that meets the limits ' if r.limits else ''}has a known accuracy: see `eai optimize`"
    if chosen.cost.energy_j_per_token.value >= (1 - LEVER_WORTH) * now.energy_j_per_token.value:
        return None, "nothing whose accuracy is known costs less than the current configuration"
    c, s = chosen.configuration, chosen.service
    if s:
        times = f"{plain(s.in_flight)} requests in flight on average, p95 {plain(s.latency_p95_s)} s"
        return chosen, f"{label(c, r)}: {chosen.work.boards} card(s), {times}"
    wait = "; it needs as many requests at once: give --requests-per-hour to see whether they come" if c.batch_size > 1 else ""
    return chosen, label(c, r) + wait


def shares(r: Request, k: Cost) -> dict[str, dict[str, float]]:
    """The share of each input in the variance of the logarithm of cost and of carbon: what to pin down first. Each sums to 1."""
    found = {}
    for name, factor in (("cost_usd", r.site.price), ("carbon_kg", r.site.carbon)):
        if factor is not None:
            parts = {"energy": sd_log(k.energy_j_per_token), "pue": r.site.pue.sd_log, factor.name: factor.sd_log}
            total = sum(sd**2 for sd in parts.values())
            found[name] = {key: sd**2 / total for key, sd in parts.items()} if total else {}
    return found


def savings(r: Request, now: Cost, better: Plan) -> dict[str, Any]:
    """What the optimized plan saves a month, in kWh, USD and kg of the energy in use, and as a fraction; negative: it costs more. The error
    that predictions of one card and engine share cancels. `total_kwh` has the idle cards too."""
    rng = np.random.default_rng(SEED)
    then, c, tokens = better.cost, better.configuration, r.output_tokens * r.requests
    alike = (c.gpu, c.engine) == (r.now.gpu, r.now.engine) and now.basis == then.basis == "predicted"
    common = rng.standard_normal(DRAWS) if alike else None
    before, after = draw_energy(now, rng, common) * tokens, draw_energy(then, rng, common) * tokens
    used = [k.energy_j_per_token.value * tokens for k in (now, then)]
    found = {name: q.to_json() for name, q in electricity(used[0] - used[1], before - after, r.site, rng).items()}
    found["energy_fraction"] = interval(1 - used[1] / used[0], 1 - after / before, "fraction").to_json()
    found["total_kwh"] = (work(r, r.now, now).energy_j - better.work.energy_j) * r.site.pue.value / J_PER_KWH
    return found


def levers(r: Request, now: Cost, then: Configuration, whole: Cost) -> list[dict[str, Any]]:
    """What each change contributes, one after the other from today's configuration: lever, change, energy_fraction (of the energy before
    that step), kwh a month. A step that by itself cannot run, be predicted or save is joined with the next. They add up to the whole."""
    here, joined = r.now, {r.now.quantization, then.quantization} <= set(HALF) and r.now.engine != then.engine
    order = [("engine", ("quantization", "engine"))] if joined else [("strategy", ("quantization",)), ("engine", ("engine",))]
    steps: list[list] = []
    start, names = (here, now.energy_j_per_token.value), []
    for name, fields in (*order, ("batch", ("batch_size",)), ("card", ("gpu", "num_gpus"))):
        after = here.with_(**{f: getattr(then, f) for f in fields})
        if after == here:
            continue
        here = after
        names.append(name)
        known = whole if here == then else cost_or_reason(here)[0]
        if known is not None and (here == then or known.energy_j_per_token.value <= (1 - LEVER_WORTH) * start[1]):
            end = (here, known.energy_j_per_token.value)
            steps.append([start, end, names])
            start, names = end, []
    while len(steps) > 1 and steps[-1][1][1] > (1 - LEVER_WORTH) * steps[-1][0][1]:
        last = steps.pop()
        steps[-1][1], steps[-1][2] = last[1], steps[-1][2] + last[2]
    kwh, found = r.output_tokens * r.requests * r.site.pue.value / J_PER_KWH, []
    for (c, a), (d, b), names in steps:
        engines = (f"{x.quantization} with {x.engine}" if joined else x.engine for x in (c, d))
        words = {"engine": engines, "batch": (c.batch_size, d.batch_size), "card": (c.cards, d.cards)}
        words["strategy"] = c.quantization, d.quantization
        change = ", ".join("{} -> {}".format(*words[n]) for n in names)
        found.append({"lever": " and ".join(names), "change": change, "energy_fraction": 1 - b / a, "kwh": (a - b) * kwh})
    return found
