"""The monthly bill of what runs today and of the best plan that may be recommended, the saving by lever, and what widens the intervals."""

from itertools import pairwise
from typing import Any

import numpy as np

from eai.advise.bill import bill, break_even, draw_energy, work
from eai.advise.evidence import Cost, accuracy, cost, cost_or_reason
from eai.advise.launch import launch
from eai.advise.optimize import label, recommended, search
from eai.advise.request import Configuration, Request, require_fit
from eai.errors import UserError
from eai.quantity import Quantity, plain
from eai.site import DRAWS, J_PER_KWH, NORMAL_95, SEED, interval
from eai.site import bill as electricity


def estimate(r: Request, other: tuple[Configuration, float] | None = None) -> dict[str, Any]:
    """The bill. Keys: current, optimized, savings, levers, optimized_note, shares, break_even, assumptions, warnings.

    Own figures (energy, with or without throughput) need no model of the catalog: then there is nothing to optimize unless one is named.
    `other`: another card and its price, for the break-even. Raises UserError where the configuration does not fit or is not known.
    """
    now = given(r)
    if r.now is None:
        return _own_figures(r, now)
    if now is None:
        require_fit(r.now)
        now = cost(r.now)
    current = bill(r, r.now, now)
    quality = accuracy(r.now.model, r.now.quantization, r.min_accuracy)
    better, why = _better(r, now)
    optimized = None
    if better is not None:
        optimized = bill(r, better.configuration, better.cost, better.work) | {
            "accuracy": better.quality.to_json(),
            "launch": launch(better.configuration),
        }
    dropped = better is not None and better.configuration.quantization != r.now.quantization
    unsure = [] if quality.acceptable else [f"accuracy {quality.status}: {quality.note}"]
    exact = ["your figure carries no interval: its own uncertainty is not in the result"] if now.basis == "given" else []
    return {
        "request": {"requests_a_month": r.requests, "requests_a_day": r.requests / 365.25 * 12},
        "current": current | {"accuracy": quality.to_json()},
        "optimized": optimized,
        "savings": savings(r, now, better) if better else None,
        "levers": levers(r, now, better.configuration, better.cost) if better else [],
        "optimized_note": why,
        "not_proposed": r.now.quantization if better and dropped and not quality.acceptable else None,
        "shares": shares(r, now),
        "break_even": break_even(r, r.now, *other) if other else None,
        "assumptions": [*r.assumptions, *(f.assumption() for f in r.site.factors), *_accounting()],
        "warnings": [*r.warnings, *unsure, *exact, *now.warnings, *_no_price(r)],
    }


def _accounting() -> list[dict]:
    """What every figure covers."""
    return [
        {"name": "boundary", "value": "gpu", "reason": "gross energy of the GPUs' boards; CPU, memory and cooling only through the PUE"}
    ]


def _no_price(r: Request) -> list[str]:
    """The warning where no price of electricity is known."""
    return [] if r.site.price else [f"no sourced price of electricity for region {r.site.region}: give --price; cost is left empty"]


def given(r: Request) -> Cost | None:
    """The user's own figures as a cost, None where no energy was given; a missing throughput comes from the evidence, if it tells."""
    if r.energy_j_per_1k is None:
        return None
    energy, rate, cited = r.energy_j_per_1k / 1e3, r.throughput, ("energy as you gave it",)
    if rate is None and r.now is not None:
        known, _ = cost_or_reason(r.now)
        rate, cited = (known.throughput_tok_s.value, (*cited, "throughput from the evidence")) if known else (None, cited)
    batch = r.now.batch_size if r.now else 1
    watts, step = (None, None) if rate is None else (energy * rate, batch / rate)
    return Cost(
        Quantity(energy, unit="J"),
        Quantity(watts, unit="W"),
        Quantity(rate, unit="tok/s"),
        Quantity(step, unit="s"),
        "given",
        "given",
        cited,
    )


def _own_figures(r: Request, now: Cost) -> dict[str, Any]:
    """The bill of own figures without a model: energy, cost and carbon; no cards beyond their hours, nothing optimized."""
    joules = now.energy_j_per_token.value * r.output_tokens * r.requests
    rng = np.random.default_rng(SEED)
    found = electricity(joules, np.full(DRAWS, joules), r.site, rng)
    rate = now.throughput_tok_s.value
    hours = Quantity(None if rate is None else r.output_tokens * r.requests / rate / 3600, unit="h")
    current = {
        "configuration": {
            "gpu": None,
            "model": None,
            "quantization": None,
            "batch_size": None,
            "input_tokens": None,
            "output_tokens": r.output_tokens,
        },
        **{name: q.to_json() for name, q in found.items()},
        "cards": {"number": None, "hours": hours.to_json(), "usd": None, "how": ""},
        "energy_j_per_request": Quantity(now.energy_j_per_token.value * r.output_tokens, unit="J").to_json(),
        **now.to_json(),
    }
    return {
        "request": {"requests_a_month": r.requests, "requests_a_day": r.requests / 365.25 * 12},
        "current": current,
        "optimized": None,
        "savings": None,
        "levers": [],
        "optimized_note": "name a model (--model, or --params-b) to see what would cost less",
        "shares": shares(r, now),
        "break_even": None,
        "assumptions": [
            *(a for a in r.assumptions if a["name"] in ("output_tokens", "requests", "region")),
            *(f.assumption() for f in r.site.factors),
            *_accounting(),
        ],
        "warnings": [*r.warnings, "your figure carries no interval: its own uncertainty is not in the result", *_no_price(r)],
    }


def _better(r: Request, now: Cost):
    """(the plan that `optimize` recommends if it costs less energy than the current one, a sentence about it)."""
    try:
        chosen = recommended(search(r).plans, r)
    except UserError as error:
        return None, str(error)
    if chosen is None or not chosen.quality.acceptable:
        return None, "no configuration meets the limits with a known accuracy"
    if chosen.cost.energy_j_per_token.value >= now.energy_j_per_token.value:
        return None, "nothing whose accuracy is known costs less than the current configuration"
    text = label(chosen.configuration, r)
    if chosen.service:
        return (
            chosen,
            (
                f"{text}: {chosen.work.boards} card(s), {plain(chosen.service.in_flight)} "
                f"requests in flight on average, p95 {plain(chosen.service.latency_p95_s)} s"
            ),
        )
    wait = (
        ""
        if chosen.configuration.batch_size == 1
        else "; it needs as many requests at once: give --requests-per-hour to see whether they come"
    )
    return chosen, text + wait


def shares(r: Request, k: Cost) -> dict[str, dict[str, float]]:
    """The share of each input in the variance of the logarithm of cost and of carbon: what to pin down first. Each sums to 1."""
    q = k.energy_j_per_token
    spread = 0.0 if q.low is None else float(np.log(q.high / q.low) / (2 * NORMAL_95))
    common = {"energy": spread**2, "pue": r.site.pue.sd_log**2}
    found = {}
    for name, factor in (("cost_usd", r.site.price), ("carbon_kg", r.site.carbon)):
        if factor is not None:
            parts = common | {factor.name: factor.sd_log**2}
            total = sum(parts.values())
            found[name] = {key: v / total for key, v in parts.items()} if total else {}
    return found


def savings(r: Request, now: Cost, better) -> dict[str, Any]:
    """What the optimized plan saves a month, in kWh, USD and kg of the energy in use, and as a fraction; negative means it costs more.

    Predictions of one card and engine share an error that cancels in the difference; anything else is drawn independently. Idle cards are
    in
    `total_kwh` where a rate was given.
    """
    rng = np.random.default_rng(SEED)
    then, c = better.cost, better.configuration
    alike = (c.gpu, c.engine) == (r.now.gpu, r.now.engine) and now.basis == then.basis == "predicted"
    common = rng.standard_normal(DRAWS) if alike else None
    tokens = r.output_tokens * r.requests
    before, after = draw_energy(now, rng, common) * tokens, draw_energy(then, rng, common) * tokens
    used = now.energy_j_per_token.value * tokens, then.energy_j_per_token.value * tokens
    money = electricity(used[0] - used[1], before - after, r.site, rng)
    found = {name: q.to_json() for name, q in money.items()}
    found["energy_fraction"] = interval(1 - used[1] / used[0], 1 - after / before, "fraction").to_json()
    kept = work(r, r.now, now)
    found["total_kwh"] = (kept.used_j + kept.idle_j - better.work.used_j - better.work.idle_j) * r.site.pue.value / J_PER_KWH
    return found


def levers(r: Request, now: Cost, then: Configuration, whole: Cost) -> list[dict[str, Any]]:
    """What each change contributes, one after the other from today's configuration: strategy and engine, batch, card.

    Each entry: lever, change, energy_fraction (of the energy before that step), kwh a month. A step that cannot run or be predicted by
    itself is joined with the next. The contributions add up to the whole; another order would share them differently.
    """
    c, steps = r.now, []
    order = [
        ("strategy", {"quantization": then.quantization}),
        ("engine", {"engine": then.engine}),
        ("batch", {"batch_size": then.batch_size}),
    ]
    order += [("card", {"gpu": then.gpu, "num_gpus": then.num_gpus})]
    path, names, here = [(c, now.energy_j_per_token.value)], [], c
    pending: list[tuple[str, dict]] = []
    for name, change in order:
        if all(getattr(here, k) == v for k, v in change.items()):
            continue
        here = here.with_(**change)
        pending.append((name, change))
        known = whole if here == then else cost_or_reason(here)[0]
        if known is not None:
            path.append((here, known.energy_j_per_token.value))
            names.append(pending)
            pending = []
    kwh = r.output_tokens * r.requests * r.site.pue.value / J_PER_KWH
    for ((before, a), (after, b)), changed in zip(pairwise(path), names, strict=True):
        said = [f"{_name(before, name)} -> {_name(after, name)}" for name, _ in changed]
        steps.append(
            {"lever": " and ".join(n for n, _ in changed), "change": ", ".join(said), "energy_fraction": 1 - b / a, "kwh": (a - b) * kwh}
        )
    return steps


def _name(c: Configuration, lever: str) -> str:
    return {"batch": str(c.batch_size), "strategy": c.quantization, "engine": c.engine, "card": c.cards}[lever]
