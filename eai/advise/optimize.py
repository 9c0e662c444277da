"""A scenario -> configurations of one card, ranked by energy, each with what it rests on and the probability of being the best.

With card and site fixed, cost and carbon are energy times a constant, so one ranking serves every goal. A configuration whose
accuracy is unknown or damaged is ranked, marked and never recommended. bf16 costs what fp16 does, whose bytes and compute it shares: it
stands in a ranking only if asked for.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from eai.advise.accuracy import Accuracy, accuracy
from eai.advise.bill import bill
from eai.advise.evidence import Cost, cost_or_reason, measure_command, scaled
from eai.advise.observed import observed
from eai.advise.parameters import Request, cannot_run, fits
from eai.errors import UserError
from eai.footprint import fit
from eai.stats.comparisons import draw, probability_non_dominated

STRATEGIES = ("fp16", "int8_default", "int8_pure", "nf4", "nf4_dq")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 4_000
SEED = 7
SECONDS_A_MONTH = 365.25 / 12 * 86_400


def optimize(r: Request) -> dict:
    """The ranking of every configuration of the card that can be told, what was left out and why, and the recommendation.

    Keys: recommended (an entry of the ranking, or None), why, monthly, ranking, excluded, insights, pitfalls, transparency, measure,
    assumptions, warnings.
    Raises UserError where not one configuration can be told.
    """
    ranked, excluded = candidates(r)
    if not ranked:
        raise UserError(f"no configuration of {r.model.slug} on {r.gpu.name} can be told", "", measure_command(r))
    best = probabilities([c for _, c, _ in ranked])
    front = front_probability(ranked)
    ranking = [entry(w, c, a, p, f) for (w, c, a), p, f in zip(ranked, best, front, strict=True)]
    chosen = next((e for e in ranking if e["accuracy"]["acceptable"]), None)
    return {
        "goal": r.goal,
        "recommended": chosen,
        "why": why(chosen, ranking, r),
        "monthly": _monthly(r),
        "ranking": ranking,
        "excluded": excluded,
        "insights": insights(ranking),
        "pitfalls": pitfalls(ranking, excluded),
        "transparency": transparency(ranking),
        "measure": measure_command(r),
        "assumptions": list(r.assumptions),
        "warnings": list(r.warnings),
    }


def _monthly(r: Request) -> dict | None:
    """Energy, cost and carbon a month of the recommended configuration, None without one."""
    found = recommend(r)
    return bill(*found) if found else None


@lru_cache(maxsize=64)
def _candidates(r: Request) -> tuple[tuple, tuple]:
    ranked, excluded = [], []
    for wanted in grid(r):
        found, reason = _judge(wanted, r)
        if found is None:
            excluded.append({"configuration": wanted.configuration, "reason": reason})
        else:
            ranked.append((wanted, *found))
    return tuple(sorted(ranked, key=lambda x: x[1].energy_j_per_token.value)), tuple(excluded)


def candidates(r: Request) -> tuple[list[tuple[Request, Cost, Accuracy]], list[dict]]:
    """(configurations by energy, the others with the reason): every supported strategy and batch size on the requested card."""
    key = r.with_(assumptions=(), warnings=(), goal="energy", pue=None, price=None)
    ranked, excluded = _candidates(key)
    return list(ranked), list(excluded)


def grid(r: Request) -> Iterator[Request]:
    """Every strategy at every batch size, the requested ones among them."""
    strategies = (*STRATEGIES, *(() if r.quantization in STRATEGIES else (r.quantization,)))
    batches = sorted({*BATCHES, r.batch_size})
    return (r.with_(quantization=q, batch_size=b) for q in strategies for b in batches)


def _judge(wanted: Request, r: Request) -> tuple[tuple[Cost, Accuracy] | None, str]:
    """(cost and accuracy, "") of one configuration, or (None, why it is out)."""
    unsupported = cannot_run(r.gpu, wanted.quantization)
    if unsupported:
        return None, f"needs {unsupported}"
    if not fits(wanted):
        return None, fit(r.model, wanted.quantization, r.gpu, wanted.batch_size, r.input_tokens, r.output_tokens).explained
    known, reason = cost_or_reason(wanted)
    if known is None:
        return None, reason
    latency = known.latency_s(wanted.batch_size, r.output_tokens)
    wait_s = fill_s(r.requests, wanted.batch_size) if "requests" in r.given else 0.0
    if r.max_latency_s is not None and latency.value + wait_s > r.max_latency_s:
        waiting = f" and waits {wait_s:.3g} s for its batch to fill" if wait_s else ""
        return None, f"a request takes {latency:.3g}{waiting}, more than {r.max_latency_s:g} s"
    quality = accuracy(wanted, r.min_accuracy)
    below = quality.retained is not None and r.min_accuracy is not None and quality.retained.value < r.min_accuracy
    return (None, quality.note) if below else ((known, quality), "")


def recommend(r: Request) -> tuple[Request, Cost] | None:
    """The configuration of the lowest energy whose accuracy may be recommended, None if there is none."""
    ranked, _ = candidates(r)
    first = next(((wanted, known) for wanted, known, quality in ranked if quality.acceptable), None)
    return first and (first[0].with_(pue=r.pue, price=r.price, goal=r.goal), first[1])


def fill_s(requests: int, batch_size: int) -> float:
    """How long the first request of a batch waits for the last [s] if `requests` a month arrive evenly."""
    return (batch_size - 1) * SECONDS_A_MONTH / requests


def probabilities(costs: list[Cost]) -> np.ndarray:
    """The probability that each configuration has the lowest energy.

    Only errors that the configurations do not share count: what a card or session adds to all of them changes no ranking.
    """
    mean = np.log([c.energy_j_per_token.value for c in costs])
    drawn = draw(mean, [c.sd_own for c in costs], np.full(len(costs), 30.0), np.random.default_rng(SEED), DRAWS)
    return np.bincount(drawn.argmin(axis=1), minlength=len(costs)) / DRAWS


def front_probability(ranked: list[tuple[Request, Cost, Accuracy]]) -> np.ndarray:
    """The probability that nothing beats each configuration in both energy a token and time of a request."""
    mean = [[np.log(c.energy_j_per_token.value), np.log(c.latency_s(w.batch_size, w.output_tokens).value)] for w, c, _ in ranked]
    sd = np.array([[c.sd_own, c.sd_own] for _, c, _ in ranked])
    return probability_non_dominated(mean, sd, np.full(sd.shape, 30.0), np.random.default_rng(SEED), 400)


def entry(wanted: Request, c: Cost, quality: Accuracy, p_best: float, p_front: float) -> dict:
    """One row of the ranking, every number a quantity with its basis and evidence."""
    parts = fit(wanted.model, wanted.quantization, wanted.gpu, wanted.batch_size, wanted.input_tokens, wanted.output_tokens)
    unsure = [] if quality.acceptable else [f"accuracy {quality.status}: {quality.note}"]
    return {
        "configuration": wanted.configuration,
        "energy_j_per_1k_tok": c.energy_j_per_1k_tok.to_json(),
        "energy_j_per_request": scaled(c.energy_j_per_token, wanted.output_tokens, "J").to_json(),
        "throughput_tok_s": c.throughput_tok_s.to_json(),
        "latency_s": c.latency_s(wanted.batch_size, wanted.output_tokens).to_json(),
        "power_w": c.power_w.to_json(),
        "observed": observed(wanted),
        "vram_gb": {"value": parts.needed_gb, "low": None, "high": None, "unit": "GB"},
        "accuracy": quality.to_json(),
        "p_best": float(p_best),
        "p_front": float(p_front),
        "basis": c.basis,
        "evidence": list(c.evidence),
        "warnings": [*unsure, *c.warnings],
    }


def name(e: dict) -> str:
    """`nf4 at batch 1`."""
    return f"{e['configuration']['quantization']} at batch {e['configuration']['batch_size']}"


def why(chosen: dict | None, ranking: list[dict], r: Request) -> str:
    """Why this configuration, or why none: in one or two sentences with the numbers."""
    if chosen is None:
        return f"none is recommended: of {len(ranking)} configurations not one has a known accuracy{_floor(r)}"
    value = chosen["energy_j_per_1k_tok"]["value"]
    text = f"{name(chosen)} has the lowest energy of those whose accuracy is known{_floor(r)}"
    text += f": {value:.0f} J per 1000 tokens ({chosen['basis']})"
    cheaper = [e for e in ranking if e["energy_j_per_1k_tok"]["value"] < value]
    if cheaper:
        saved = 1 - cheaper[0]["energy_j_per_1k_tok"]["value"] / value
        text += f"; {name(cheaper[0])} would cost {saved:.0%} less, but its accuracy is {cheaper[0]['accuracy']['status']}"
    return text


def _floor(r: Request) -> str:
    return "" if r.min_accuracy is None else f" to be at least {r.min_accuracy:.0%} of the unquantized"


def insights(ranking: list[dict]) -> list[str]:
    """What the levers are worth here, computed from the ranking: batch size first, then quantization at one batch size."""
    found = []
    by = {(e["configuration"]["quantization"], e["configuration"]["batch_size"]): e for e in ranking}
    for strategy in sorted({q for q, _ in by}):
        batches = sorted(b for q, b in by if q == strategy)
        if len(batches) > 1:
            first, last = (by[strategy, b]["energy_j_per_1k_tok"]["value"] for b in (batches[0], batches[-1]))
            bases = sorted({by[strategy, b]["basis"] for b in (batches[0], batches[-1])})
            found.append(
                f"{strategy}: batch {batches[0]} to {batches[-1]} changes energy a token by {last / first - 1:+.0%} ({', '.join(bases)})"
            )
    return found


def pitfalls(ranking: list[dict], excluded: list[dict]) -> list[str]:
    """What would go wrong: quantized strategies that cost more than fp16 at the same batch size, and what nobody knows."""
    energy = {(e["configuration"]["quantization"], e["configuration"]["batch_size"]): e["energy_j_per_1k_tok"]["value"] for e in ranking}
    found = []
    for strategy in sorted({q for q, _ in energy} - {"fp16", "bf16"}):
        change = {b: energy[q, b] / energy["fp16", b] - 1 for q, b in energy if q == strategy and ("fp16", b) in energy}
        worse = sorted(b for b, c in change.items() if c > 0)
        if worse:
            sizes = f"batch {worse[0]}" + (f" to {worse[-1]}" if len(worse) > 1 else "")
            spread = sorted(change[b] for b in worse)
            found.append(f"{strategy} costs {spread[0]:+.0%} to {spread[-1]:+.0%} energy against fp16 at {sizes}")
    unknown = sorted({x["configuration"]["quantization"] for x in excluded if "cannot be predicted" in x["reason"]})
    if unknown:
        found.append(f"not told at some batch sizes, for want of rows: {', '.join(unknown)}")
    return found


def transparency(ranking: list[dict]) -> dict[str, int | str]:
    """How many entries rest on what, and the limits that hold for all of them."""
    counts = {basis: sum(e["basis"] == basis for e in ranking) for basis in sorted({e["basis"] for e in ranking})}
    limits = (
        "gross energy of the GPU's board, transformers with bitsandbytes; published rows are consecutive runs in one process, mostly 10; "
        "predictions carry intervals from leave-one-out errors over three cards"
    )
    return counts | {"limits": limits}
