"""Monthly energy, cost and carbon of a deployment, now and after optimization, and each input's share of the intervals' width."""

import numpy as np

from eai.advise import site
from eai.advise.bill import DRAWS, J_PER_KWH, SEED, bill, draw_energy, interval, sd_log
from eai.advise.evidence import Cost, cost
from eai.advise.optimize import fill_s, recommend
from eai.advise.parameters import Request, require_fit
from eai.errors import UserError
from eai.quantity import Quantity


def estimate(r: Request) -> dict:
    """The monthly bill of the requested configuration and of the best one that may be recommended on the same card.

    Keys: current, optimized (configuration, energy_kwh, cost_usd, carbon_kg, per request, evidence), savings, shares, assumptions,
    warnings. Raises UserError where the configuration does not fit, or neither a row nor a prediction tells its energy.
    """
    require_fit(r)
    now = given_cost(r) or cost(r)
    current = bill(r, now)
    better, why = _better(r, now)
    optimized = bill(*better) if better else None
    factors = [f for f in (site.pue(r), site.price(r), site.carbon(r)) if f]
    return {
        "current": current,
        "optimized": optimized,
        "savings": savings(r, now, *better) if better else None,
        "optimized_note": why,
        "shares": shares(r, now),
        "assumptions": [*r.assumptions, *(f.assumption() for f in factors), *_accounting()],
        "warnings": [*r.warnings, *current["warnings"], *_no_price(r)],
    }


def _accounting() -> list[dict]:
    """What every figure covers."""
    return [{"name": "boundary", "value": "gpu", "reason": "gross energy of the GPU's board; CPU, memory and cooling only through the PUE"}]


def _no_price(r: Request) -> list[str]:
    """The warning where no price is known."""
    return [] if site.price(r) else [f"no sourced price of electricity for region {r.region}: give --price; cost is left empty"]


def given_cost(r: Request) -> Cost | None:
    """The user's own figures as a cost, None where neither was given; what is missing comes from the evidence."""
    if r.energy_j_per_1k is None:
        return None
    energy = Quantity(r.energy_j_per_1k / 1e3, unit="J")
    rate, sources = r.throughput, ("energy as you gave it",)
    if rate is None:
        try:
            rate = cost(r).throughput_tok_s.value
        except UserError:
            rate = float("nan")
        sources += ("throughput from the evidence",)
    return Cost(energy, Quantity(rate, unit="tok/s"), Quantity(energy.value * rate, unit="W"), "given", sources)


def _better(r: Request, now: Cost) -> tuple[tuple[Request, Cost] | None, str]:
    """The best configuration that may be recommended and costs less than the current one, and a sentence about it."""
    try:
        found = recommend(r)
    except UserError as error:
        return None, str(error)
    if found is None:
        return None, "no configuration meets the limits with a known accuracy"
    if found[1].energy_j_per_token.value >= now.energy_j_per_token.value:
        return None, "nothing whose accuracy is known costs less than the current configuration"
    wanted = found[0]
    wait_s = fill_s(r.requests, wanted.batch_size)
    text = f"{wanted.quantization} at batch {wanted.batch_size} on the same card"
    return (
        found,
        f"{text}; {r.requests} requests a month, spread evenly, fill such a batch in {wait_s:.3g} s: offline work can wait, a chat cannot",
    )


def shares(r: Request, c: Cost) -> dict[str, dict[str, float]]:
    """The share of each input in the variance of the logarithm of cost and of carbon: what to pin down first. Each sums to 1."""
    common = {"energy": sd_log(c.energy_j_per_token) ** 2, "pue": site.pue(r).sd_log ** 2}
    factors = {"cost_usd": site.price(r), "carbon_kg": site.carbon(r)}
    found = {}
    for name, factor in factors.items():
        if factor is None:
            continue
        parts = common | {factor.name: factor.sd_log**2}
        total = sum(parts.values())
        found[name] = {k: v / total for k, v in parts.items()} if total else {}
    return found


def savings(r: Request, now: Cost, wanted: Request, then: Cost) -> dict:
    """What the optimized configuration saves a month, in kWh, USD, kg and as a fraction of the energy; negative means it costs more.

    Two predictions share the error of their card and session, which cancels in what one saves against the other; anything else is drawn
    independently. PUE, price and intensity are the site's and common to both.
    """
    rng = np.random.default_rng(SEED)
    common = rng.standard_normal(DRAWS) if now.basis == then.basis == "predicted" else None
    before, after = draw_energy(now, rng, common) * r.output_tokens, draw_energy(then, rng, common) * wanted.output_tokens
    scale = r.requests / J_PER_KWH
    drawn = (before - after) * scale * site.pue(r).draw(rng, DRAWS)
    per_request = now.energy_j_per_token.value * r.output_tokens, then.energy_j_per_token.value * wanted.output_tokens
    point = (per_request[0] - per_request[1]) * scale * site.pue(r).value
    price, carbon = site.price(r), site.carbon(r)
    money = interval(point * price.value, drawn * price.draw(rng, DRAWS), "USD") if price else Quantity(None, unit="USD").to_json()
    return {
        "energy_kwh": interval(point, drawn, "kWh"),
        "cost_usd": money,
        "carbon_kg": interval(point * carbon.value / 1e3, drawn * carbon.draw(rng, DRAWS) / 1e3, "kg"),
        "energy_fraction": interval(1 - per_request[1] / per_request[0], 1 - after / before, "fraction"),
    }
