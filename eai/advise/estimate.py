"""The monthly bill of what runs today and of the best plan that may be recommended, the saving by lever, and what widens the intervals."""

from dataclasses import replace
from typing import Any

import numpy as np

from eai.advise.bill import MAKING, bill, break_even, draw_energy, work
from eai.advise.evidence import Cost, accuracy, cost, cost_or_reason, costs, scaled, sd_log
from eai.advise.launch import launch
from eai.advise.optimize import BATCHES, Plan, grid, label, recommended, search, served
from eai.advise.request import HALF, Configuration, Request, require_fit
from eai.errors import UserError
from eai.predict.predictor import wall
from eai.quantity import Quantity, plain
from eai.site import DRAWS, J_PER_KWH, SEED, interval
from eai.site import bill as electricity

WORTH = 0.01
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
    energy, rate, cited = r.energy_j_per_1k / 1e3, r.throughput, ("energy as you gave it",)
    if rate is None and r.now is not None and (known := cost_or_reason(r.now)[0]):
        rate, cited = known.throughput_tok_s.value, (*cited, "throughput from the evidence")
    step = (r.now.batch_size if r.now else 1) / rate if rate else None
    values = ((energy, "J"), (energy * rate if rate else None, "W"), (rate, "tok/s"), (step, "s"))
    return Cost(*(Quantity(value, unit=unit) for value, unit in values), "given", "given", cited)


def _better(r: Request, now: Cost) -> tuple[Plan | None, str]:
    """(the plan that `optimize` recommends if it costs less energy than the current one, a sentence about it)."""
    try:
        chosen = recommended(search(r)[0], r)
    except UserError as error:
        return None, str(error)
    if chosen is None or not chosen.quality.acceptable:
        return None, f"no configuration {'that meets the limits ' if r.limits else ''}has a known accuracy: see `eai optimize`"
    if chosen.cost.energy_j_per_token.value >= (1 - WORTH) * now.energy_j_per_token.value:
        return None, "nothing whose accuracy is known costs less than the current configuration"
    c, s = chosen.configuration, chosen.service
    if s:
        times = f"{plain(s.in_flight)} requests in flight on average, p95 {plain(s.latency_p95_s)} s"
        return chosen, f"{label(c, r)}: {chosen.work.boards} card(s), {times}"
    wait = "; it needs as many requests at once: give --requests-per-hour to see whether they come" if c.batch_size > 1 else ""
    return chosen, label(c, r) + wait


def shares(r: Request, k: Cost) -> dict[str, dict[str, float]]:
    """The share of each input in the variance of the logarithm of cost and of carbon: what to pin down first. Each sums to 1."""
    common = {"energy": sd_log(k.energy_j_per_token) ** 2, "pue": r.site.pue.sd_log**2}
    found = {}
    for name, factor in (("cost_usd", r.site.price), ("carbon_kg", r.site.carbon)):
        if factor is not None:
            parts = common | {factor.name: factor.sd_log**2}
            total = sum(parts.values())
            found[name] = {key: v / total for key, v in parts.items()} if total else {}
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
        if known is not None and (here == then or known.energy_j_per_token.value <= (1 - WORTH) * start[1]):
            end = (here, known.energy_j_per_token.value)
            steps.append([start, end, names])
            start, names = end, []
    while len(steps) > 1 and steps[-1][1][1] > (1 - WORTH) * steps[-1][0][1]:
        last = steps.pop()
        steps[-1][1], steps[-1][2] = last[1], steps[-1][2] + last[2]

    def words(c: Configuration, lever: str) -> object:
        engine = f"{c.quantization} with {c.engine}" if joined else c.engine
        return {"batch": c.batch_size, "strategy": c.quantization, "engine": engine, "card": c.cards}[lever]

    kwh, found = r.output_tokens * r.requests * r.site.pue.value / J_PER_KWH, []
    for (c, a), (d, b), names in steps:
        change = ", ".join(f"{words(c, n)} -> {words(d, n)}" for n in names)
        found.append({"lever": " and ".join(names), "change": change, "energy_fraction": 1 - b / a, "kwh": (a - b) * kwh})
    return found
