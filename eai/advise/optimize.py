"""A workload -> card, number, engine, precision and concurrency: ranked plans, each with its probability of meeting the limits and of
being best.

One plan is one configuration with the replicas that serve the workload. A limit is judged by its probability, never by a point value. A
plan whose accuracy is unknown is ranked and marked; a format whose score is at or below chance is never recommended.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from statistics import NormalDist
from typing import Any

import numpy as np

from eai.advise.evidence import (
    OWN,
    Accuracy,
    Cost,
    accuracy,
    costs,
    idle_w,
    inverse,
    launch,
    measure_command,
    scaled,
    sd_log,
    session_spread,
    verify,
)
from eai.advise.month import EMBODIED, HOURS_A_YEAR, LIFETIME, SERVER, Curve, Service, Work, bill, card_hour, replicas, serve, work
from eai.advise.page import name as in_words
from eai.advise.page import percent, signed
from eai.advise.request import MOST_BATCH, Configuration, Request, cannot_run, fits, is_module, memory, native, require_fit, runs
from eai.catalog import DRAWS, HOURS_A_MONTH, J_PER_KWH, SEED
from eai.errors import UserError
from eai.footprint import GGUF_ENGINES
from eai.quantity import Quantity, plain, shortest

STRATEGIES = {
    "transformers": ("fp16", "int8_default", "int8_pure", "nf4", "nf4_dq"),
    "vllm": ("bf16", "fp8", "awq"),
    "sglang": ("bf16", "fp8", "awq"),
    "tensorrt-llm": ("bf16", "fp8"),
} | dict.fromkeys(GGUF_ENGINES, ("gguf_q4_k_m", "gguf_q8_0"))
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NUMBERS = (1, 2, 4, 8)
SAFE = 0.9
"""A plan meets its limits if the probability that it does is at least this."""
SAFE_Z = NormalDist().inv_cdf(SAFE)
DOUBTFUL, CLOSE, SHORT_LIST = 0.05, 0.05, 40
PREFILL_SHARE = 0.5
"""Reading a prompt is taken at half the card's dense peak."""
OF_ALL = "gross energy of the GPUs' boards; the host's CPU, memory and cooling only through the PUE; "
OF_ALL += "the CV of runs in one process says nothing of another session"
LIMITS = {
    "latency_p95_s": ("latency_p95_s", "the p95 of a request's time"),
    "ttft_p95_s": ("ttft_p95_s", "the p95 of the time to the first token"),
    "itl_p95_s": ("itl_p95_s", "the p95 of the time between tokens"),
    "max_latency_s": ("latency_p95_s", "the time of a request"),
}
"""Limit -> (attribute of a service, its words)."""


@dataclass(frozen=True)
class Plan:
    """A configuration with its cost, accuracy, the service it gives (None without a rate), the work of a month, and its `objective`: kWh,
    kg or USD per month at point values. `meets`: limit -> probability that it is met; `times`: limit -> what is expected [s]."""

    configuration: Configuration
    cost: Cost
    quality: Accuracy
    service: Service | None
    replicas: int
    work: Work
    objective: float
    meets: dict[str, float]
    times: dict[str, float]
    curve: Curve | None = None
    p_best: float = 0.0
    p_best_known: float = 0.0

    @property
    def p_all(self) -> float:
        return min(self.meets.values(), default=1.0)  # the limits share the speed's error

    @property
    def is_safe(self) -> bool:
        return self.p_all >= SAFE

    @property
    def is_recommendable(self) -> bool:
        return self.quality.acceptable and self.is_safe

    @property
    def is_broken(self) -> bool:
        return self.quality.status == "broken"

    @property
    def family(self) -> tuple:
        c = self.configuration
        return c.gpu.slug, c.num_gpus, c.engine, c.quantization

    @property
    def latency_s(self) -> Quantity:
        """p95 of a request's time under the load, without one the time of a request with its batch."""
        return Quantity(self.service.latency_p95_s, unit="s") if self.service else self.cost.latency_s(self.configuration)


def optimize(r: Request) -> dict[str, Any]:
    """The answer. Keys: recommended and `short_list` (entries of the ranking by role), why, monthly, capacity, launch, verify, ranking,
    excluded, near_misses, insights, pitfalls, transparency, measure. Raises UserError, with the reasons, where not one plan is left."""
    plans, excluded = search(r)
    if not plans:
        raise refusal(r, excluded)
    roles = short_list(plans, r)
    chosen = roles.get("recommended")
    c = chosen.configuration if chosen else None
    rivals = [p for p in plans if p.is_recommendable and p is not chosen]
    wanted = [p for p in (chosen, roles.get("best"), *plans) if p is not None]
    pair = [wanted[0], next((p for p in wanted if p.family != wanted[0].family), None)]
    spread = "another session of a configuration differs by {} (standard deviation, {} degrees of freedom)"
    sd, df = session_spread()
    taken = [a for a in r.assumptions if not (a["name"] in ("batch_size", "quantization") and chosen)]
    return {
        "goal": r.goal,
        "use": r.use,
        "request": {"requests_a_month": r.requests, "served": r.is_served, "limits": r.limits},
        "recommended": entry(chosen, r) if chosen else None,
        "rival": entry(rivals[0], r) if chosen and rivals else None,
        "hardware": hardware(c) if chosen else None,
        "short_list": {role: entry(p, r) for role, p in roles.items()},
        "why": why(chosen, roles, r, plans),
        "monthly": bill(r, c, chosen.cost, chosen.work) if chosen else None,
        "capacity": capacity(chosen, r) if chosen and chosen.service else None,
        "launch": launch(c, chosen.replicas) if chosen else None,
        "verify": verify(c, costs([c])[0][0] or chosen.cost) if chosen else None,
        "ranking": [entry(p, r) for p in plans],
        "excluded": list(excluded),
        "near_misses": near_misses(plans, chosen, r),
        "insights": insights(plans, chosen, r) if chosen else [],
        "pitfalls": pitfalls(plans, r),
        "transparency": {
            "basis": dict(sorted(Counter(p.cost.basis for p in plans).items())),
            "between_sessions": spread.format(percent(sd), df),
            "limits": OF_ALL,
        },
        "measure": [f"{p.configuration.cards}: {measure_command(p.configuration)}" for p in pair if p],
        "assumptions": [*taken, *(f.assumption() for f in r.site.factors)],
        "warnings": list(r.warnings),
    }


def strategies_of(r: Request, engine: str, gpu) -> tuple[str, ...]:
    """The strategies to try: the engine's usual ones, half precision as the card has it, and the one asked for."""
    published, asked = native(r.now.model), r.now.quantization
    usual = [published] if published and runs(engine, published) else []
    usual += ["fp16" if q == "bf16" and (gpu.compute_capability or 8.0) < 8.0 else q for q in STRATEGIES[engine]]
    usual += [asked] if "quantization" in r.given and r.now.engine == engine else []
    return tuple(dict.fromkeys(usual))


def left_out(c: Configuration, kind: str, reason: str) -> dict[str, Any]:
    """What was left out, with its reason, as it stands in answers; `kind`: cannot_run, memory, not_predicted, no_price, limit."""
    return {"configuration": c.to_json(), "reason": reason, "kind": kind}


def grid(r: Request) -> tuple[list[Configuration], list[dict[str, Any]]]:
    """(every configuration that can run and fits, what cannot with the reason): cards x numbers x engines x strategies x batches.

    Engines: the one named; for a GGUF strategy its own; for requests that come one by one vLLM, unless the strategy needs transformers;
    else either. Numbers of boards: as asked, else powers of two that divide the heads; one of transformers, and of a module."""
    made, out, engines = [], [], ("transformers", "vllm")
    if r.engine or r.now.engine not in engines:
        engines = (r.engine or r.now.engine,)
    elif r.is_served and ("quantization" not in r.given or runs("vllm", r.now.quantization)):
        engines = ("vllm",)
    for gpu, engine in ((g, e) for g in r.gpus for e in engines):
        for quantization in strategies_of(r, engine, gpu):
            base = r.now.with_(gpu=gpu, engine=engine, quantization=quantization, batch_size=1)
            if lacks := cannot_run(base):
                out.append(left_out(base, "cannot_run", lacks))
                continue
            alone = engine == "transformers" or is_module(gpu) or (len(r.gpus) == 1 and not r.any_gpu and not r.is_served and fits(base))
            numbers = (1,) if alone else tuple(n for n in NUMBERS if base.model.heads % n == 0)
            sizes = [base.with_(num_gpus=n) for n in (numbers if r.num_gpus is None else (r.num_gpus,))]
            fitting = [c for c in sizes if fits(c)]
            if not fitting:
                out.append(left_out(sizes[-1], "memory", memory(sizes[-1]).explained))
            batches = sorted({b for b in BATCHES if b <= (256 if base.is_server else MOST_BATCH)} | {r.now.batch_size})
            for c in (each.with_(batch_size=b) for each in (fitting[:2] if r.num_gpus is None else fitting) for b in batches):
                if fits(c):
                    made.append(c)
                else:
                    out.append(left_out(c, "memory", memory(c).explained))
    return made, out


def search(r: Request) -> tuple[list[Plan], list[dict[str, Any]]]:
    """(every plan by objective, what was left out with its reason). Cached by what decides it."""
    return searched(replace(r, assumptions=(), warnings=(), given=r.given & {"requests", "quantization", "batch_size"}), tuple(OWN))


@lru_cache(maxsize=32)
def searched(r: Request, own: tuple[str, ...]) -> tuple[list[Plan], list[dict[str, Any]]]:
    """One plan of each card, number, engine and strategy, but every batch where one card is asked about."""
    configurations, out = grid(r)
    told = list(zip(configurations, costs(configurations), strict=True))
    out += [left_out(c, "not_predicted", reason) for c, (known, reason) in told if known is None]
    points = [(c, known) for c, (known, _) in told if known is not None]
    plans, whole = [], len(r.gpus) == 1 and not r.is_served
    for group in [list(g) for _, g in groupby(points, key=lambda p: replace(p[0], batch_size=1))]:
        made = served(group, r) if r.is_served else [plan(c, known, r) for c, known in group]
        plans += made if whole or not made else [min(made, key=lambda p: (not p.is_safe, p.objective))]
    out += [left_out(p.configuration, "no_price", card_hour(r, p.configuration)[1]) for p in plans if not np.isfinite(p.objective)]
    barred = [(p, _barred(p, r)) for p in plans if np.isfinite(p.objective)]
    nearest = sorted((max((p.times[n] / r.limits[n] for n in r.limits), default=0.0), i) for i, (p, reason) in enumerate(barred) if reason)
    out += [left_out(barred[i][0].configuration, "limit", barred[i][1]) for _, i in nearest]
    kept = ranked([p for p, reason in barred if not reason], r)
    known = [i for i, p in enumerate(kept) if p.is_recommendable]
    for i, b in zip(known, probabilities([kept[i] for i in known], r), strict=True):
        kept[i] = replace(kept[i], p_best_known=float(b))
    return kept, out


def ranked(plans: list[Plan], r: Request) -> list[Plan]:
    """The plans by objective, each with its probability of being best."""
    found = sorted(plans, key=lambda p: (p.objective, -p.p_all))
    return [replace(p, p_best=float(b)) for p, b in zip(found, probabilities(found, r), strict=True)]


def curve_of(points: list[tuple[Configuration, Cost]]) -> Curve:
    """What one replica does by requests in flight, from the costs of its batches."""
    known = sorted(points, key=lambda p: p[0].batch_size)
    c = known[0][0]
    n, rate, itl = np.array([(p.batch_size, k.throughput_tok_s.value, k.itl_s.value) for p, k in known], float).T
    power = np.array([k.energy_j_per_token.value for _, k in known]) * rate
    peak = (c.gpu.fp16_tflops or 50.0) * 1e12 * c.num_gpus * PREFILL_SHARE
    prefill_s = 2 * c.active_params * c.input_tokens / peak
    return Curve(n, np.maximum.accumulate(rate), power, itl, idle_w(c.gpu).value * c.num_gpus, prefill_s, c.is_server)


def served(points: list[tuple[Configuration, Cost]], r: Request) -> list[Plan]:
    """The plan of one replica's curve under the request's rate: the most in flight that the memory allows, less where a limit needs it.
    Cards are counted so that each limit holds at the slow end of the expected speed, which nine in ten of the draws exceed."""
    curve, by_batch = curve_of(points), {c.batch_size: (c, known) for c, known in points}
    wanted = {LIMITS[name][0]: value for name, value in reversed(r.limits.items())}
    own = "batch_size" in r.given and r.now.batch_size in by_batch
    sizes = [r.now.batch_size] if own else sorted(by_batch, reverse=True)[:: 1 if curve.continuous else 2]
    best: tuple[float, int, int, Service] | None = None
    for most in sizes:
        slow = float(np.exp(-SAFE_Z * sd_log(by_batch[most][1].throughput_tok_s)))
        k, service = replicas(curve, r.per_s, most, r.output_tokens, wanted, r.answers, slow)
        over = max((getattr(service, name) / limit / slow for name, limit in wanted.items()), default=0.0)
        if service.stable and (best is None or over < best[0]):
            best = over, most, k, service
        if service.stable and over <= 1:
            break
    if best is None:
        return []
    _, most, k, service = best
    room = next((b for b in sorted(by_batch) if b >= min(most, 2 * service.in_flight + 4)), most)
    if room < most and curve.continuous and not own:
        tighter = serve(curve, r.per_s / k, room, r.output_tokens, r.answers)
        if tighter.stable and all(getattr(tighter, n) <= 1.01 * getattr(service, n) for n in wanted):
            most, service = room, tighter
    c, known = by_batch[most][0], by_batch[min(by_batch, key=lambda b: abs(np.log(b / max(1.0, service.in_flight))))][1]
    seconds, boards, waits = HOURS_A_MONTH * 3600 * k, k * c.num_gpus, idle_w(c.gpu)
    used, idle = (service.power_w - service.idle_power_w) * seconds, service.idle_power_w * seconds
    parts = [scaled(q, total / q.value, "J") for q, total in ((known.energy_j_per_token, used), (waits, idle))]
    done = Work(boards, (1 - service.idle_share) * HOURS_A_MONTH * boards, *parts, boards * HOURS_A_MONTH)
    known = replace(known, energy_j_per_token=scaled(done.used, 1 / (r.requests * r.output_tokens), "J"))
    times = {name: getattr(service, LIMITS[name][0]) for name in r.limits}
    needed = {name: _needed_speed(curve, r, k, most, LIMITS[name][0], limit) for name, limit in r.limits.items()}
    meets = {name: p_at_least(speed, sd_log(known.throughput_tok_s)) for name, speed in needed.items()}
    quality = accuracy(c.model, c.quantization, r.min_accuracy)
    return [Plan(c, known, quality, service, k, done, _objective(r, c, done), meets, times, curve)]


def plan(c: Configuration, known: Cost, r: Request) -> Plan:
    """The plan of requests that wait for nobody: they run with their batch, so the limits are held against its own times."""
    done, times = work(r, c, known), {}
    for name in r.limits:
        if name == "itl_p95_s":
            times[name] = known.itl_s.value
        elif name == "ttft_p95_s":
            times[name] = curve_of([(c, known)]).prefill_s * c.batch_size + known.itl_s.value
        else:
            times[name] = known.latency_s(c).value
    meets = {name: p_at_least(times[name] / limit, sd_log(known.throughput_tok_s)) for name, limit in r.limits.items()}
    quality = accuracy(c.model, c.quantization, r.min_accuracy)
    return Plan(c, known, quality, None, done.boards // c.num_gpus, done, _objective(r, c, done), meets, times)


def _objective(r: Request, c: Configuration, done: Work) -> float:
    """What is minimized: kWh in use and idle, kg with what cards and servers embody, or USD; of the goal, at point values."""
    kwh = done.energy_j * r.site.pue.value / J_PER_KWH
    if r.goal == "energy":
        return kwh
    if r.goal == "carbon":
        made = EMBODIED.value + (0.0 if is_module(c.gpu) else SERVER.value)
        return kwh * r.site.carbon.value / 1e3 + made / LIFETIME.value / HOURS_A_YEAR * done.paid_hours
    hourly, how = card_hour(r, c)
    power_usd = kwh * r.site.price.value if r.site.price else 0.0
    if hourly is None:
        return float("inf") if len(r.gpus) > 1 else power_usd
    return hourly.value * done.paid_hours + (0.0 if how.startswith("rent") else power_usd)


def p_at_least(needed: float, spread: float) -> float:
    """The probability that the true speed over the expected one is at least `needed`, its error log-normal with this spread."""
    if not np.isfinite(needed) or spread == 0:
        return float(needed <= 1)
    return NormalDist().cdf(-float(np.log(needed)) / spread)


def _needed_speed(curve: Curve, r: Request, k: int, most: int, attribute: str, limit: float) -> float:
    """The factor on the speed at which a p95 just meets its limit, by bisection between a quarter and four times; inf beyond."""

    def is_met(speed: float) -> bool:
        return getattr(serve(curve, r.per_s / k / speed, most, r.output_tokens, r.answers), attribute) <= speed * limit

    low, high = -np.log(4.0), np.log(4.0)
    if is_met(float(np.exp(low))) or not is_met(float(np.exp(high))):
        return 0.25 if is_met(float(np.exp(high))) else float("inf")
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (low, middle) if is_met(float(np.exp(middle))) else (middle, high)
    return float(np.exp((low + high) / 2))


def _barred(p: Plan, r: Request) -> str:
    """Why a plan cannot be taken at all, empty if it can: a limit that it meets with less than 5 %, a quality, money or power."""
    c, boards = p.configuration, p.work.boards
    for name, chance in p.meets.items():
        if chance < DOUBTFUL:
            return f"{LIMITS[name][1]} is {plain(p.times[name])} s, more than {getattr(r, name):g} s"
    if r.min_accuracy is not None and p.quality.retained is not None and p.quality.retained.value < r.min_accuracy:
        return p.quality.note
    if r.power_budget_w is not None and boards * (c.gpu.tdp_w or 0) * r.site.pue.value > r.power_budget_w:
        return f"{boards} cards of {c.gpu.tdp_w:.0f} W need {boards * c.gpu.tdp_w / 1e3:.1f} kW, more than {r.power_budget_w / 1e3:g} kW"
    if r.budget_usd is not None:
        hourly, how = card_hour(r, c)
        if hourly is None:
            return f"{how}; without it a budget of {r.budget_usd:,.0f} USD cannot be judged"
        if (usd := hourly.value * p.work.paid_hours) > r.budget_usd:
            return f"{boards} cards cost {usd:,.0f} USD per month ({how.split(',')[0]}), more than {r.budget_usd:,.0f} USD"
    return ""


def probabilities(plans: list[Plan], r: Request) -> np.ndarray:
    """The probability that each plan has the least objective of those that meet their limits; beyond the first forty none."""
    top, found = plans[:SHORT_LIST], np.zeros(len(plans))
    if not top:
        return found
    rng = np.random.default_rng(SEED)
    keys = [(p.configuration.gpu.slug, p.configuration.engine) for p in top]
    shared, speed = ({key: rng.standard_normal(DRAWS) for key in sorted(set(keys))} for _ in range(2))
    drawn = np.empty((len(top), DRAWS))
    for i, (p, key) in enumerate(zip(top, keys, strict=True)):
        z = p.cost.sd_own * rng.standard_normal(DRAWS) + p.cost.sd_shared * shared[key]
        used = p.work.used.value / max(p.work.energy_j, 1e-9) if r.goal != "cost" else 0.0
        most = NormalDist().inv_cdf(p.p_all) if 0 < p.p_all < 1 else np.inf if p.p_all else -np.inf
        drawn[i] = np.where(speed[key] > most, np.inf, p.objective * (used * np.exp(z) + 1 - used))
    some = np.isfinite(drawn.min(axis=0))
    found[: len(top)] = np.bincount(drawn.argmin(axis=0)[some], minlength=len(top)) / DRAWS
    return found


def recommended(plans: list[Plan], r: Request) -> Plan | None:
    """The plan to run: of known accuracy and safe; else the likeliest to meet the limits; without a known accuracy the best with a warning.
    None where a quality was asked for that no plan is known to keep, and where every format is broken."""
    whole = [p for p in plans if not p.is_broken]
    known = [p for p in whole if p.is_recommendable]
    if known:  # of those within 5 % of the least objective the unquantized one, then the faster: so little decides nothing
        close = [p for p in known if p.objective <= (1 + CLOSE) * known[0].objective]
        speed = lambda p: p.latency_s.value if p.service else -p.cost.throughput_tok_s.value  # noqa: E731
        return min(close, key=lambda p: (p.quality.status != "reference", speed(p)))
    likely = sorted((p for p in whole if p.quality.acceptable), key=lambda p: -p.p_all)
    if r.min_accuracy is not None or (likely and not any(p.is_safe for p in whole)):
        return likely[0] if likely else None
    return min(whole, key=lambda p: (not p.is_safe, 0.0 if p.is_safe else -p.p_all), default=None)


def short_list(plans: list[Plan], r: Request) -> dict[str, Plan]:
    """Role -> plan; `best` whatever its accuracy; `fastest` by tokens per second and card where nobody waits; broken formats never."""
    whole, chosen = [p for p in plans if not p.is_broken], recommended(plans, r)
    safe = [p for p in whole if p.is_safe] or sorted(whole, key=lambda p: -p.p_all)[:1]
    if not safe:
        return {}
    pool = [p for p in safe if p.quality.acceptable] or safe
    roles = ({"recommended": chosen} if chosen is not None else {}) | {"best": safe[0]}
    if priced := [(q.value * p.work.paid_hours, p) for p in pool if (q := card_hour(r, p.configuration)[0]) is not None]:
        roles["cheapest"] = min(priced, key=lambda x: x[0])[1]
    waits = r.is_served or r.use == "chat" or r.limits
    rate = lambda p: -p.cost.throughput_tok_s.value / p.configuration.num_gpus  # noqa: E731
    roles["fastest"] = min(pool, key=lambda p: p.latency_s.value if waits else rate(p))
    return roles | {"smallest": min(pool, key=lambda p: (p.work.boards * (p.configuration.gpu.memory_gb or 0), p.objective))}


def near_misses(plans: list[Plan], chosen: Plan | None, r: Request) -> list[str]:
    """Plans that cost clearly less and meet a limit only perhaps: what a little more patience would save."""
    found, least = [], (1 - CLOSE) * chosen.objective if chosen and r.limits else 0.0
    for p in [p for p in plans if not p.is_safe and p.quality.acceptable and p.objective < least][:3]:
        name = min(p.meets, key=p.meets.get)
        saved = f"saves {percent(1 - p.objective / chosen.objective)} and meets {getattr(r, name):g} s with probability {percent(p.p_all)}"
        found.append(f"{label(p.configuration, r)} {saved} (expected {plain(p.times[name])} s)")
    return found


def label(c: Configuration, r: Request | None = None) -> str:
    """The configuration in words, with the cards where the request leaves them open."""
    return in_words(c.to_json(), cards=r is None or len(r.gpus) > 1 or c.num_gpus > 1)


def entry(p: Plan, r: Request) -> dict[str, Any]:
    """One row of the ranking, every number a quantity with its basis and evidence."""
    c, parts = p.configuration, memory(p.configuration)
    hourly, _ = card_hour(r, c)
    return {
        "configuration": c.to_json(),
        **p.cost.to_json(),
        "energy_j_per_request": (p.cost.energy_j_per_token * c.output_tokens).to_json(),
        "tokens_per_j": inverse(1, p.cost.energy_j_per_token, "tok/J").to_json(),
        "latency_s": p.latency_s.to_json(),
        "vram_gb": Quantity(parts.needed_gb, unit="GB").to_json(),
        "accuracy": p.quality.to_json(),
        "boards": p.work.boards,
        "replicas": p.replicas,
        "load": None if p.service is None else p.service.load,
        "kwh_a_month": p.work.energy_j * r.site.pue.value / J_PER_KWH,
        "usd_a_month_cards": None if hourly is None else hourly.value * p.work.paid_hours,
        "objective": p.objective if np.isfinite(p.objective) else None,
        "p_meets": {**p.meets},
        "p_best": p.p_best,
        "p_best_known": p.p_best_known,
        "warnings": [*p.quality.warnings, *parts.remarks, *p.cost.warnings],
    }


def hardware(c: Configuration) -> str:
    """Model and card in figures: parameters, layers, architecture, memory and its bandwidth, power limit."""
    total, active, g = c.model.params_total / 1e9, c.active_params / 1e9, c.gpu
    size = f"{shortest(total)} B parameters" + (f", {shortest(active)} B of them a token" if active < total else "")
    card = f"{g.name}: {g.architecture}, {g.memory_gb:g} GiB, {g.bandwidth_gb_s:,.0f} GB/s, {g.tdp_w:.0f} W"
    return f"{size} in {c.model.layers} layers; {card}"


def capacity(p: Plan, r: Request) -> dict[str, Any]:
    """Cards needed, how full they are, times, and what happens at twice the load with the same cards."""
    s, c = p.service, p.configuration
    twice = serve(p.curve, 2 * r.per_s / p.replicas, c.batch_size, r.output_tokens, r.answers)
    wanted = {LIMITS[name][0]: value for name, value in r.limits.items()}
    needed, _ = replicas(p.curve, 2 * r.per_s, c.batch_size, r.output_tokens, wanted, r.answers)
    times = ("load", "in_flight", "latency_mean_s", "latency_p95_s", "ttft_p95_s", "itl_p95_s")
    queue = "continuous batching as a queue with limited processor sharing"
    p95_s = twice.latency_p95_s if twice.stable else None
    return {
        "replicas": p.replicas,
        "boards": p.work.boards,
        "requests_per_hour": r.per_s * 3600,
        **{name: getattr(s, name) for name in times},
        "busy_share": 1 - s.idle_share,
        "power_w": s.power_w * p.replicas,
        "at_twice_the_load": {"latency_p95_s": p95_s, "stable": twice.stable, "replicas_needed": needed},
        "model": queue if c.is_server else "bulk service: who waits when a batch ends is the next batch",
    }


def why(chosen: Plan | None, roles: dict[str, Plan], r: Request, plans: list[Plan]) -> str:
    """Why this plan, or why none, with the numbers."""
    if chosen is None:
        known = f"no plan {'that meets the limits ' if r.limits else ''}has a known accuracy"
        return f"none is recommended: {known}; the best by {r.goal} is {label(plans[0].configuration, r)}"
    name, pool = label(chosen.configuration, r), sum(p.is_recommendable for p in plans)
    if chosen.quality.acceptable:
        of = f"of the {pool} plans whose accuracy is known{' and that meet the limits' if r.limits else ''}"
        sure = f"({chosen.cost.basis}; best of these with probability {percent(chosen.p_best_known)})"
        text = f"{name} has the lowest {r.goal} (or is within 5 % of it, unquantized or faster) {of} {sure}"
    else:
        check = "no plan with a known accuracy is left: check its score before it serves anyone"
        text = f"{name} has the lowest {r.goal}, but {chosen.quality.note}; {check}"
    best = roles.get("best")
    if best is not None and best is not chosen and best.objective < (1 - CLOSE) * chosen.objective:
        but = "meets the limits less surely" if best.quality.acceptable else best.quality.note
        text += f"; {label(best.configuration, r)} would take {percent(1 - best.objective / chosen.objective)} less, but {but}"
    if not chosen.is_safe:
        text += f"; it meets the limits with probability {percent(chosen.p_all)} only, and no plan does better"
    return text


def insights(plans: list[Plan], chosen: Plan, r: Request) -> list[str]:
    """What the levers are worth here: batch, strategy, engine, card; and whether memory presses."""
    here, parts, found = chosen.configuration, memory(chosen.configuration), []
    family = sorted((p for p in plans if p.family == chosen.family), key=lambda p: p.configuration.batch_size)
    if len(family) > 1:
        first, last = family[0], family[-1]
        change = last.cost.energy_j_per_token.value / first.cost.energy_j_per_token.value - 1
        sizes = f"{first.configuration.batch_size} to {last.configuration.batch_size}"
        times = [plain(p.cost.latency_s(p.configuration).value) for p in (first, last)]
        text = f"batch: {sizes} changes the energy per token by {signed(change)}, and the time of a request from"
        found.append(f"{text} {' to '.join(times)} s")
    levers = {"strategy": ("quantization", ("gpu", "num_gpus", "engine")), "engine": ("engine", ("gpu",))}
    for what, (of, same) in (levers | {"card": ("gpu", ("engine", "quantization"))}).items():
        alike = [p for p in plans if p.is_safe and all(getattr(p.configuration, name) == getattr(here, name) for name in same)]
        if best := next((p for p in alike if getattr(p.configuration, of) != getattr(here, of)), None):
            unsure = "" if best.quality.acceptable else f" (accuracy {best.quality.status})"
            change = signed(best.objective / chosen.objective - 1) if chosen.objective else "the same"
            room = f"{memory(best.configuration).needed_gb:.1f} GB per card instead of {parts.needed_gb:.1f}"
            found.append(f"{what}: the next best is {label(best.configuration)}, {change} {r.goal}, {room}{unsure}")
    used = f"memory: {percent(parts.needed_gb / parts.available_gb)} of what a card can use"
    return [*found, used + (", pressed: leave more room" if parts.pressed else ", the rest is to spare")]


def pitfalls(plans: list[Plan], r: Request) -> list[str]:
    """What would go wrong: strategies that cost more than half precision, lower watts that cost more, and broken formats."""
    by, found = {p.configuration: p for p in plans}, []
    worse: dict[tuple[str, str], list[tuple[float, int, bool]]] = {}
    for c, p in by.items():
        base = by.get(c.half)
        if base is not None and p.quality.status != "reference":
            change = p.cost.energy_j_per_token.value / base.cost.energy_j_per_token.value - 1
            cooler = p.cost.power_w.value < base.cost.power_w.value
            if change > 0:
                worse.setdefault((c.quantization, c.engine), []).append((change, c.batch_size, cooler))
    for (q, engine), seen in worse.items():
        ends = dict.fromkeys(signed(f(seen)[0]) for f in (min, max))
        batches = ", ".join(str(b) for b in sorted({b for _, b, _ in seen}))
        text = f"{q} with {engine} costs {' to '.join(ends)} energy against half precision at batch {batches}"
        cooler = any(less for *_, less in seen)
        found.append(text + ("; it draws fewer watts and still more joules: lower power is not lower energy" if cooler else ""))
    return found + [f"{label(p.configuration, r)}: {p.quality.note}" for p in plans if p.is_broken][:1]


def refusal(r: Request, excluded: list[dict[str, Any]]) -> UserError:
    """The error where nothing is left: its commonest reason, in the words of the case that comes nearest."""
    first, name = {x["kind"]: x for x in reversed(excluded)}, r.now.model.slug
    if "limit" in first:
        reason = f"no plan for {name} meets the limits: of the nearest, {first['limit']['reason']}"
        return UserError(reason, "", "loosen the limit, or allow more cards (--gpu any, --num-gpus)")
    if "no_price" in first:
        reason = first["no_price"]["reason"].partition(":")[0]
        return UserError(f"no plan for {name} can be ranked by cost: {reason}", "", "give --rent or --gpu-price, or another --goal")
    if unknown := first.get("not_predicted"):
        c = next((p for p in grid(r)[0] if p.to_json() == unknown["configuration"]), r.now)
        return UserError(f"no configuration of {name} can be predicted: {unknown['reason']}", "", f"measure it: `{measure_command(c)}`")
    if len(r.gpus) == 1:
        require_fit(r.now)
    reason = excluded[0]["reason"] if excluded else "nothing to choose from"
    return UserError(f"no configuration of {name} can run: {reason}", "", "choose another card, or more of them")
