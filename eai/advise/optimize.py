"""A workload -> card, number, engine, precision and concurrency: ranked plans, each with its probability of meeting the limits and of
being best.

One plan is one configuration with the replicas that serve the workload. Without a rate of requests plans are ranked at full load; with one,
`capacity` gives percentiles of latency, cards, and energy in use and idle. A limit is judged by its probability, never by a point value.
A plan whose accuracy is unknown is ranked and marked; a format whose score is at or below chance is never recommended.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eai.advise.bill import EMBODIED, HOURS_A_YEAR, LIFETIME, Work, bill, card_hour, work
from eai.advise.capacity import Curve, Service, replicas, serve
from eai.advise.evidence import Accuracy, Cost, accuracy, costs, idle_w, measure_command, scaled, session_spread
from eai.advise.launch import launch, verify
from eai.advise.request import MOST_BATCH, Configuration, Request, cannot_run, fits, memory, require_fit, runs
from eai.errors import UserError
from eai.quantity import Quantity, plain
from eai.site import DRAWS, HOURS_A_MONTH, NORMAL_95, SEED

STRATEGIES = {
    "transformers": ("fp16", "int8_default", "int8_pure", "nf4", "nf4_dq"),
    "vllm": ("bf16", "fp8", "awq"),
    "sglang": ("bf16", "fp8", "awq"),
    "tensorrt-llm": ("bf16", "fp8"),
    "llama.cpp": ("gguf_q4_k_m", "gguf_q8_0"),
    "ollama": ("gguf_q4_k_m", "gguf_q8_0"),
}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NUMBERS = (1, 2, 4, 8)
SAFE = 0.9
"""A plan meets its limits if the probability that it does is at least this."""
P_SAFE_Z = 1.2816
"""The standard normal quantile of SAFE."""
DOUBTFUL = 0.05
SHORT_LIST = 40
CLOSE = 0.05
PREFILL_SHARE = 0.5
"""Reading a prompt is taken at half the card's dense peak."""
LIMITS = {"latency_p95_s": "latency_p95_s", "ttft_p95_s": "ttft_p95_s", "itl_p95_s": "itl_p95_s", "max_latency_s": "latency_p95_s"}


@dataclass(frozen=True)
class Plan:
    """A configuration with its cost, accuracy, the service it gives (None without a rate), the work of a month, and its objective.

    `objective`: of the goal: kWh, kg or USD a month, at point values; `meets`: limit -> probability that it is met.
    """

    configuration: Configuration
    cost: Cost
    quality: Accuracy
    service: Service | None
    replicas: int
    work: Work
    objective: float
    meets: dict[str, float]
    p_best: float = 0.0
    p_best_known: float = 0.0

    @property
    def p_all(self) -> float:
        """The probability that every limit is met: they share the speed's error, so the least of them."""
        return min(self.meets.values(), default=1.0)


@dataclass(frozen=True)
class Found:
    """The plans by objective, and what was left out with its reason."""

    plans: tuple[Plan, ...]
    excluded: tuple[dict[str, Any], ...]


def optimize(r: Request) -> dict[str, Any]:
    """The answer. Keys: recommended and `short_list` (entries of the ranking by role), why, month, capacity, launch, verify, ranking,
    excluded, near_misses, insights, pitfalls, transparency, measure, assumptions, warnings.

    Raises UserError, with the reasons, where not one plan is left.
    """
    found = search(r)
    if not found.plans:
        raise refusal(r, found)
    ranking = [entry(p, r) for p in found.plans]
    roles = short_list(found.plans, r)
    chosen = roles.get("recommended")
    answer = {
        "goal": r.goal,
        "use": r.use,
        "request": {"requests_a_month": r.requests, "served": r.is_served, "limits": limits_of(r)},
        "recommended": entry(chosen, r) if chosen else None,
        "short_list": {role: entry(p, r) for role, p in roles.items()},
        "why": why(chosen, roles, r, found),
        "monthly": bill(r, chosen.configuration, chosen.cost, chosen.work) if chosen else None,
        "capacity": capacity(chosen, r) if chosen and chosen.service else None,
        "launch": launch(chosen.configuration) if chosen else None,
        "verify": verify(chosen.configuration, costs([chosen.configuration])[0][0] or chosen.cost) if chosen else None,
        "ranking": ranking,
        "excluded": list(found.excluded),
        "near_misses": near_misses(found.plans, chosen, r),
        "insights": insights(found.plans, chosen, r),
        "pitfalls": pitfalls(found.plans, r),
        "transparency": transparency(found.plans),
        "measure": measures(chosen, roles, found.plans),
    }
    taken = [a for a in r.assumptions if not (a["name"] in ("batch_size", "quantization") and chosen)]
    return answer | {"assumptions": [*taken, *(f.assumption() for f in r.site.factors)], "warnings": list(r.warnings)}


def engines(r: Request) -> tuple[str, ...]:
    """The engines to choose from: the one named; for a GGUF strategy its own; for a service vLLM, unless the strategy needs transformers.

    Requests that come one by one need an engine that batches continuously; work that is a number to scale from may run under either.
    """
    if r.engine:
        return (r.engine,)
    if r.now.engine not in ("transformers", "vllm"):
        return (r.now.engine,)
    own = "quantization" in r.given and not runs("vllm", r.now.quantization)
    return ("vllm",) if r.is_served and not own else ("transformers", "vllm")


def grid(r: Request) -> tuple[list[Configuration], list[dict[str, Any]]]:
    """(every configuration that can run and fits, what cannot with the reason): cards x numbers x engines x strategies x batches."""
    made, out = [], []
    for gpu in r.gpus:
        for engine in engines(r):
            for quantization in _strategies(r, engine, gpu):
                base = r.now.with_(gpu=gpu, engine=engine, quantization=quantization, batch_size=1)
                lacks = cannot_run(base)
                if lacks:
                    out.append(
                        {"configuration": base.to_json(), "reason": f"{quantization} with {engine} needs {lacks}", "kind": "cannot_run"}
                    )
                    continue
                fitting = [base.with_(num_gpus=n) for n in _numbers(r, base) if fits(base.with_(num_gpus=n))]
                if not fitting:
                    worst = base.with_(num_gpus=_numbers(r, base)[-1])
                    out.append({"configuration": worst.to_json(), "reason": memory(worst).explained, "kind": "memory"})
                for c in fitting[:2] if r.num_gpus is None else fitting:
                    batches = sorted({b for b in BATCHES if b <= MOST_BATCH.get(engine, 256)} | {r.now.batch_size})
                    made += [c.with_(batch_size=b) for b in batches if fits(c.with_(batch_size=b))]
                    out += [
                        {
                            "configuration": c.with_(batch_size=b).to_json(),
                            "reason": memory(c.with_(batch_size=b)).explained,
                            "kind": "memory",
                        }
                        for b in batches
                        if not fits(c.with_(batch_size=b))
                    ]
    return made, out


def _strategies(r: Request, engine: str, gpu) -> tuple[str, ...]:
    """The strategies to try: the engine's usual ones, half precision as the card has it, and the one asked for."""
    usual = STRATEGIES[engine]
    if "bf16" in usual and (gpu.compute_capability or 0) < 8.0:
        usual = tuple("fp16" if q == "bf16" else q for q in usual if q != "fp8")
    asked = r.now.quantization
    own = (asked,) if "quantization" in r.given and asked not in usual and r.now.engine == engine else ()
    return (*usual, *own)


def _numbers(r: Request, c: Configuration) -> tuple[int, ...]:
    """Numbers of boards to try: as asked, else powers of two that divide the heads; transformers on one board unless asked."""
    if r.num_gpus is not None:
        return (r.num_gpus,)
    if c.engine == "transformers" or (not r.any_gpu and len(r.gpus) == 1 and not r.is_served and fits(c)):
        return (1,)
    return tuple(n for n in NUMBERS if c.model.heads % n == 0)


def search(r: Request) -> Found:
    """Every plan by objective, those that can meet no limit left out with the reason. Cached by what decides it."""
    key = replace(r, assumptions=(), warnings=(), given=r.given & {"requests", "quantization"})
    return _search(key)


_memory: dict[Request, Found] = {}


def _search(r: Request) -> Found:
    if r not in _memory:
        if len(_memory) > 32:
            _memory.clear()
        _memory[r] = _searched(r)
    return _memory[r]


def _searched(r: Request) -> Found:
    configurations, out = grid(r)
    curves: dict[tuple, list[tuple[Configuration, Cost]]] = {}
    for c, (known, reason) in zip(configurations, costs(configurations), strict=True):
        if known is None:
            out.append({"configuration": c.to_json(), "reason": reason, "kind": "not_predicted"})
        else:
            curves.setdefault((c.gpu.slug, c.num_gpus, c.engine, c.quantization), []).append((c, known))
    whole = len(r.gpus) == 1 and not r.is_served
    plans = []
    for points in curves.values():
        made = _served(points, r) if r.is_served else [_plan(c, known, r) for c, known in points]
        if whole or not made:
            plans += made
        else:
            plans.append(min(made, key=lambda p: (p.p_all < SAFE, p.objective)))
    kept, missed = [], []
    for p in plans:
        reason = _barred(p, r)
        if reason:
            missed.append({"configuration": p.configuration.to_json(), "reason": reason, "kind": "limit"})
        else:
            kept.append(p)
    kept.sort(key=lambda p: (p.objective, -p.p_all))
    known = [i for i, p in enumerate(kept) if recommendable(p)]
    kept = [replace(p, p_best=float(b)) for p, b in zip(kept, probabilities(kept, r), strict=True)]
    for i, b in zip(known, probabilities([kept[i] for i in known], r), strict=True):
        kept[i] = replace(kept[i], p_best_known=float(b))
    return Found(tuple(kept), tuple(out + missed))


def limits_of(r: Request) -> dict[str, float]:
    """The limits of time that were given, by their names."""
    return {name: getattr(r, name) for name in LIMITS if getattr(r, name) is not None}


def curve_of(points: list[tuple[Configuration, Cost]]) -> Curve:
    """What one replica does by requests in flight, from the costs of its batches."""
    c = points[0][0]
    known = sorted(points, key=lambda p: p[0].batch_size)
    rate = np.maximum.accumulate([k.throughput_tok_s.value for _, k in known])
    watts = np.array([k.energy_j_per_token.value * k.throughput_tok_s.value for _, k in known])
    peak = (c.gpu.fp16_tflops or 50.0) * 1e12 * c.num_gpus * PREFILL_SHARE
    prefill_s = 2 * c.active_params * c.input_tokens / peak
    numbers = np.array([p.batch_size for p, _ in known], float)
    itl = np.array([k.itl_s.value for _, k in known])
    return Curve(numbers, rate, watts, itl, idle_w(c.gpu).value * c.num_gpus, prefill_s, c.is_server)


def _served(points: list[tuple[Configuration, Cost]], r: Request) -> list[Plan]:
    """The plan of one replica's curve under the request's rate: the most in flight that the memory allows, less where a limit needs it.

    Cards are counted so that each limit holds at the slow end of the expected speed, which nine in ten of the draws exceed.
    """
    curve = curve_of(points)
    by_batch = {c.batch_size: (c, known) for c, known in points}
    wanted = {LIMITS[name]: value for name, value in reversed(limits_of(r).items())}
    sizes = sorted(by_batch, reverse=True)
    if "batch_size" in r.given and r.now.batch_size in by_batch:
        sizes = [r.now.batch_size]
    best: tuple[float, int, int, Service] | None = None
    for most in sizes if curve.continuous else sizes[::2]:
        slow = float(np.exp(-P_SAFE_Z * _spread(by_batch[most][1].throughput_tok_s)))
        k, service = replicas(curve, r.per_s, most, r.output_tokens, wanted, r.answers, slow)
        if not service.stable:
            continue
        over = max((getattr(service, name) / limit / slow for name, limit in wanted.items()), default=0.0)
        if best is None or over < best[0]:
            best = over, most, k, service
        if over <= 1:
            break
    if best is None:
        return []
    _, most, k, service = best
    room = next((b for b in sorted(by_batch) if b >= min(most, 2 * service.in_flight + 4)), most)
    if room < most and curve.continuous and "batch_size" not in r.given:
        tighter = serve(curve, r.per_s / k, room, r.output_tokens, r.answers)
        if tighter.stable and all(getattr(tighter, n) <= 1.01 * getattr(service, n) for n in wanted):
            most, service = room, tighter
    c, known = _at_flight(by_batch, most, service)
    return [_plan(c, known, r, k, service, curve)]


def _spread(q: Quantity) -> float:
    """Standard deviation of the logarithm behind a 95 % interval."""
    return 0.0 if q.low is None else float(np.log(q.high / q.low) / 2 / NORMAL_95)


def _at_flight(by_batch: dict[int, tuple[Configuration, Cost]], most: int, service: Service) -> tuple[Configuration, Cost]:
    """(configuration with `most` in flight, the cost at the requests that really are in flight)."""
    near = min(by_batch, key=lambda b: abs(np.log(b / max(1.0, service.in_flight))))
    known, (c, _) = by_batch[near][1], by_batch[most]
    return c, known


def _plan(c: Configuration, known: Cost, r: Request, k: int = 0, service: Service | None = None, curve: Curve | None = None) -> Plan:
    """One plan with its month, objective and probabilities."""
    quality = accuracy(c.model, c.quantization, r.min_accuracy)
    if service is None:
        done = work(r, c, known)
        k = done.boards // c.num_gpus
    else:
        seconds = HOURS_A_MONTH * 3600 * k
        used, idle = (service.power_w - service.idle_power_w) * seconds, service.idle_power_w * seconds
        parts = (scaled(_relative(q), total, "J") for q, total in ((known.energy_j_per_token, used), (idle_w(c.gpu), idle)))
        boards = k * c.num_gpus
        done = Work(boards, (1 - service.idle_share) * HOURS_A_MONTH * boards, *parts, boards * HOURS_A_MONTH)
        known = _in_use(known, used / (r.requests * r.output_tokens), service)
    return Plan(c, known, quality, service, k, done, _objective(r, c, done), _meets(c, known, r, k, service, curve))


def _in_use(known: Cost, joules: float, service: Service) -> Cost:
    """The cost with the energy a token that the service's mixture of loads gives, its interval scaled along."""
    factor = joules / known.energy_j_per_token.value
    q = known.energy_j_per_token
    ends = (None, None) if q.low is None else (q.low * factor, q.high * factor)
    return replace(known, energy_j_per_token=Quantity(joules, *ends, "J"))


def _relative(q: Quantity) -> Quantity:
    return Quantity(1.0, *((None, None) if q.low is None else (q.low / q.value, q.high / q.value)))


def _objective(r: Request, c: Configuration, done: Work) -> float:
    """What is minimized: kWh in use and idle, kg with what the cards embody, or USD; of the goal, at point values."""
    kwh = (done.used_j + done.idle_j) * r.site.pue.value / 3.6e6
    if r.goal == "energy":
        return kwh
    if r.goal == "carbon":
        return kwh * r.site.carbon.value / 1e3 + EMBODIED.value / LIFETIME.value / HOURS_A_YEAR * done.paid_hours
    hourly, how = card_hour(r, c)
    power_usd = kwh * r.site.price.value if r.site.price else 0.0
    if hourly is None:
        return float("inf") if len(r.gpus) > 1 else power_usd
    return hourly.value * done.paid_hours + (0.0 if how.startswith("rent") else power_usd)


def _meets(c: Configuration, known: Cost, r: Request, k: int, service: Service | None, curve: Curve | None) -> dict[str, float]:
    """Limit -> the probability that it is met, the speed's interval taken as log-normal; of money and power at point values."""
    found = {}
    for name, limit in limits_of(r).items():
        if service is None or curve is None:
            value = known.itl_s.value if name == "itl_p95_s" else _alone(c, known, r, name)
            needed = value / limit
        else:
            needed = _needed_speed(curve, r, k, c.batch_size, LIMITS[name], limit)
        found[name] = _p_at_least(needed, _spread(known.throughput_tok_s))
    return found


def _alone(c: Configuration, known: Cost, r: Request, name: str) -> float:
    """Time without waiting: of the whole request at its batch, or until the first token."""
    if name == "ttft_p95_s":
        return curve_of([(c, known)]).prefill_s * c.batch_size + known.itl_s.value
    return known.latency_s(c).value


def _p_at_least(needed: float, spread: float) -> float:
    """The probability that the true speed over the expected one is at least `needed`."""
    if not np.isfinite(needed):
        return 0.0
    if spread == 0:
        return float(needed <= 1)
    from scipy.special import ndtr

    return float(ndtr(-np.log(needed) / spread))


def _needed_speed(curve: Curve, r: Request, k: int, most: int, attribute: str, limit: float) -> float:
    """The factor on the speed at which a p95 just meets its limit, by bisection between a quarter and four times; inf beyond."""
    low, high = np.log(0.25), np.log(4.0)

    def is_met(log: float) -> bool:
        return getattr(serve(curve.faster(float(np.exp(log))), r.per_s / k, most, r.output_tokens, r.answers), attribute) <= limit

    if not is_met(high):
        return float("inf")
    if is_met(low):
        return 0.25
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (low, middle) if is_met(middle) else (middle, high)
    return float(np.exp((low + high) / 2))


def _barred(p: Plan, r: Request) -> str:
    """Why a plan cannot be taken at all, empty if it can: a limit that it meets with less than 5 %, a quality, money or power."""
    c = p.configuration
    for name, chance in p.meets.items():
        if chance < DOUBTFUL:
            seen = (
                getattr(p.service, LIMITS[name])
                if p.service
                else (p.cost.itl_s.value if name == "itl_p95_s" else _alone(c, p.cost, r, name))
            )
            limit = getattr(r, name)
            return f"{_SAID[name]} is {plain(seen)} s, more than {limit:g} s"
    if r.min_accuracy is not None and p.quality.retained is not None and p.quality.retained.value < r.min_accuracy:
        return p.quality.note
    boards = p.work.boards
    if r.power_budget_w is not None and boards * (c.gpu.tdp_w or 0) * r.site.pue.value > r.power_budget_w:
        return f"{boards} cards of {c.gpu.tdp_w:.0f} W need {boards * c.gpu.tdp_w / 1e3:.1f} kW, more than {r.power_budget_w / 1e3:g} kW"
    if r.budget_usd is not None:
        hourly, how = card_hour(r, c)
        if hourly is not None and hourly.value * p.work.paid_hours > r.budget_usd:
            return (
                f"{boards} cards cost {hourly.value * p.work.paid_hours:,.0f} USD "
                f"a month ({how.split(',')[0]}), more than {r.budget_usd:,.0f} USD"
            )
    return ""


_SAID = {
    "latency_p95_s": "the p95 of a request's time",
    "ttft_p95_s": "the p95 of the time to the first token",
    "itl_p95_s": "the p95 of the time between tokens",
    "max_latency_s": "the time of a request",
}


def probabilities(plans: list[Plan], r: Request) -> np.ndarray:
    """The probability that each plan has the least objective among those that meet their limits.

    Errors that predictions of one card and engine share are drawn once for all of them, so they change no rank among them, and do change
    the rank against rows and other cards. Plans beyond the first forty have none.
    """
    top = plans[:SHORT_LIST]
    found = np.zeros(len(plans))
    if not top:
        return found
    rng = np.random.default_rng(SEED)
    shared = {key: rng.standard_normal(DRAWS) for key in sorted({(p.configuration.gpu.slug, p.configuration.engine) for p in top})}
    speed = {key: rng.standard_normal(DRAWS) for key in shared}
    drawn_objectives = np.empty((len(top), DRAWS))
    for i, p in enumerate(top):
        key = (p.configuration.gpu.slug, p.configuration.engine)
        z = p.cost.sd_own * rng.standard_normal(DRAWS) + p.cost.sd_shared * shared[key]
        used = p.work.used_j / max(p.work.used_j + p.work.idle_j, 1e-9) if r.goal != "cost" else 0.0
        spread = used * np.exp(z) + (1 - used)
        from scipy.special import ndtr

        missed = ndtr(speed[key]) > p.p_all
        drawn_objectives[i] = np.where(missed, np.inf, p.objective * spread)
    winner = drawn_objectives.argmin(axis=0)
    some = np.isfinite(drawn_objectives.min(axis=0))
    found[: len(top)] = np.bincount(winner[some], minlength=len(top)) / DRAWS
    return found


def recommendable(p: Plan) -> bool:
    """Whether a plan may be recommended unasked: an accuracy that is known and kept, limits met with 90 %."""
    return p.quality.acceptable and p.p_all >= SAFE


def preferred(plans: list[Plan]) -> Plan:
    """The plan of least objective; of those within 5 % of it the unquantized one, then the faster: a difference that small decides
    nothing."""
    close = [p for p in plans if p.objective <= (1 + CLOSE) * plans[0].objective]
    return min(
        close,
        key=lambda p: (p.quality.status != "reference", -p.cost.throughput_tok_s.value if p.service is None else p.service.latency_p95_s),
    )


def recommended(plans: tuple[Plan, ...], r: Request) -> Plan | None:
    """The plan to run: of known accuracy and safe; else the likeliest to meet the limits; without a known accuracy the best with a warning.

    None where a quality was asked for that no plan is known to keep, and where every format is broken.
    """
    whole = [p for p in plans if p.quality.status != "broken"]
    known = [p for p in whole if recommendable(p)]
    if known:
        return preferred(known)
    likely = sorted((p for p in whole if p.quality.acceptable), key=lambda p: -p.p_all)
    if likely and not any(p.p_all >= SAFE for p in whole):
        return likely[0]
    if r.min_accuracy is not None:
        return likely[0] if likely else None
    safe = [p for p in whole if p.p_all >= SAFE] or sorted(whole, key=lambda p: -p.p_all)
    return safe[0] if safe else None


def short_list(plans: tuple[Plan, ...], r: Request) -> dict[str, Plan]:
    """Role -> plan: recommended (best of known accuracy), best whatever its accuracy, cheapest, fastest, smallest; broken formats never."""
    whole = [p for p in plans if p.quality.status != "broken"]
    safe = [p for p in whole if p.p_all >= SAFE] or sorted(whole, key=lambda p: -p.p_all)[:1]
    pool = [p for p in safe if p.quality.acceptable] or safe
    roles: dict[str, Plan] = {}
    chosen = recommended(plans, r)
    if chosen is not None:
        roles["recommended"] = chosen
    if safe:
        roles["best"] = safe[0]
    priced = [(q.value * p.work.paid_hours, p) for p in pool if (q := card_hour(r, p.configuration)[0]) is not None]
    if priced:
        roles["cheapest"] = min(priced, key=lambda x: x[0])[1]
    if pool:
        roles["fastest"] = min(pool, key=lambda p: p.service.latency_p95_s if p.service else p.cost.latency_s(p.configuration).value)
        roles["smallest"] = min(pool, key=lambda p: (p.work.boards * (p.configuration.gpu.memory_gb or 0), p.objective))
    return roles


def near_misses(plans: tuple[Plan, ...], chosen: Plan | None, r: Request) -> list[str]:
    """Plans that cost clearly less and meet a limit only perhaps: what a little more patience would save."""
    if chosen is None or not limits_of(r):
        return []
    found = []
    for p in plans:
        if p.p_all < SAFE and p.quality.acceptable and p.objective < 0.95 * chosen.objective:
            name = min(p.meets, key=p.meets.get)
            seen = getattr(p.service, LIMITS[name]) if p.service else _alone(p.configuration, p.cost, r, name)
            saved = 1 - p.objective / chosen.objective
            found.append(
                f"{label(p.configuration, r)} saves {saved:.0%} and meets {getattr(r, name):g} "
                f"s with probability {p.p_all:.0%} (expected {plain(seen)} s)"
            )
    return found[:3]


def label(c: Configuration, r: Request | None = None) -> str:
    """`nf4 at batch 1`, with card, number and engine where the request leaves them open."""
    several = r is None or len(r.gpus) > 1 or c.num_gpus > 1
    flight = "up to {} in flight" if c.is_server else "batch {}"
    return f"{c.quantization} with {c.engine}, {flight.format(c.batch_size)}" + (f", on {c.cards}" if several else "")


def entry(p: Plan, r: Request) -> dict[str, Any]:
    """One row of the ranking, every number a quantity with its basis and evidence."""
    c, parts = p.configuration, memory(p.configuration)
    unsure = [] if p.quality.acceptable else [f"accuracy {p.quality.status}: {p.quality.note}"]
    pressed = [f"{parts.needed_gb:.1f} of {parts.available_gb:.1f} GB: a longer prompt or another process spills"] if parts.pressed else []
    latency = Quantity(p.service.latency_p95_s, unit="s") if p.service else p.cost.latency_s(c)
    hourly, _ = card_hour(r, c)
    return {
        "configuration": c.to_json(),
        **p.cost.to_json(),
        "energy_j_per_request": Quantity(
            *(
                None if v is None else v * c.output_tokens
                for v in (p.cost.energy_j_per_token.value, p.cost.energy_j_per_token.low, p.cost.energy_j_per_token.high)
            ),
            "J",
        ).to_json(),
        "tokens_per_j": Quantity(1 / p.cost.energy_j_per_token.value, unit="tok/J").to_json(),
        "latency_s": latency.to_json(),
        "vram_gb": {"value": parts.needed_gb, "low": None, "high": None, "unit": "GB"},
        "accuracy": p.quality.to_json(),
        "boards": p.work.boards,
        "replicas": p.replicas,
        "load": None if p.service is None else p.service.load,
        "kwh_a_month": (p.work.used_j + p.work.idle_j) * r.site.pue.value / 3.6e6,
        "usd_a_month_cards": None if hourly is None else hourly.value * p.work.paid_hours,
        "objective": p.objective if np.isfinite(p.objective) else None,
        "p_meets": {**p.meets},
        "p_best": p.p_best,
        "p_best_known": p.p_best_known,
        "warnings": [*unsure, *pressed, *p.cost.warnings],
    }


def capacity(p: Plan, r: Request) -> dict[str, Any]:
    """Cards needed, how full they are, times, and what happens at twice the load with the same cards."""
    s, c = p.service, p.configuration
    curve = curve_of([(x, k) for x, (k, _) in zip(*_batches(c), strict=True) if k is not None])
    twice = serve(curve, 2 * r.per_s / p.replicas, c.batch_size, r.output_tokens, r.answers)
    wanted = {LIMITS[name]: value for name, value in limits_of(r).items()}
    needed, _ = replicas(curve, 2 * r.per_s, c.batch_size, r.output_tokens, wanted, r.answers)
    return {
        "replicas": p.replicas,
        "boards": p.work.boards,
        "requests_per_hour": r.per_s * 3600,
        "load": s.load,
        "busy_share": 1 - s.idle_share,
        "in_flight": s.in_flight,
        "latency_mean_s": s.latency_mean_s,
        "latency_p95_s": s.latency_p95_s,
        "ttft_p95_s": s.ttft_p95_s,
        "itl_p95_s": s.itl_p95_s,
        "power_w": s.power_w * p.replicas,
        "at_twice_the_load": {
            "latency_p95_s": twice.latency_p95_s if twice.stable else None,
            "stable": twice.stable,
            "replicas_needed": needed,
        },
        "model": "continuous batching as a queue with limited processor sharing"
        if c.is_server
        else "bulk service: who waits when a batch ends is the next batch",
    }


def _batches(c: Configuration) -> tuple[list[Configuration], list[tuple[Cost | None, str]]]:
    """The configuration at every batch up to its own, with their costs."""
    each = [c.with_(batch_size=b) for b in sorted({*(b for b in BATCHES if b <= c.batch_size), c.batch_size})]
    return each, costs(each)


def why(chosen: Plan | None, roles: dict[str, Plan], r: Request, found: Found) -> str:
    """Why this plan, or why none, with the numbers."""
    if chosen is None:
        known = "no plan that meets the limits has a known accuracy" if limits_of(r) else "no plan has a known accuracy"
        return f"none is recommended: {known}; the best by {r.goal} is {label(found.plans[0].configuration, r)}"
    c = chosen.configuration
    pool = sum(recommendable(p) for p in found.plans)
    if chosen.quality.acceptable:
        text = (
            f"{label(c, r)} has the lowest {r.goal} (or is within 5 % of it, "
            f"unquantized or faster) of the {pool} plans whose accuracy is known"
        )
        text += (
            f"{' and that meet the limits' if limits_of(r) else ''} ({chosen.cost.basis}; "
            f"best of these with probability {chosen.p_best_known:.0%})"
        )
    else:
        text = (
            f"{label(c, r)} has the lowest {r.goal}, but {chosen.quality.note}; no plan "
            "with a known accuracy is left: check its score before it serves anyone"
        )
    best = roles.get("best")
    if best is not None and best is not chosen and best.objective < (1 - CLOSE) * chosen.objective:
        saved = 1 - best.objective / chosen.objective
        text += (
            f"; {label(best.configuration, r)} would take {saved:.0%} less, but "
            f"{best.quality.note if not best.quality.acceptable else 'meets the limits less surely'}"
        )
    if chosen.p_all < SAFE:
        text += f"; it meets the limits with probability {chosen.p_all:.0%} only, and no plan does better"
    return text


def insights(plans: tuple[Plan, ...], chosen: Plan | None, r: Request) -> list[str]:
    """What the levers are worth here: batch, strategy, card; and whether memory presses."""
    found = []
    if chosen is None:
        return found
    here = chosen.configuration
    family = [
        p
        for p in plans
        if (p.configuration.gpu, p.configuration.num_gpus, p.configuration.engine, p.configuration.quantization)
        == (here.gpu, here.num_gpus, here.engine, here.quantization)
    ]
    if len(family) > 1:
        first, last = (f(family, key=lambda p: p.configuration.batch_size) for f in (min, max))
        change = last.cost.energy_j_per_token.value / first.cost.energy_j_per_token.value - 1
        found.append(
            f"batch: {first.configuration.batch_size} to {last.configuration.batch_size} changes the energy a token by {change:+.0%}"
        )
    for what, same in (
        ("strategy", lambda c: (c.gpu, c.num_gpus, c.engine)),
        ("engine", lambda c: (c.gpu,)),
        ("card", lambda c: (c.engine, c.quantization)),
    ):
        others = [p for p in plans if p.p_all >= SAFE and same(p.configuration) == same(here) and _differs(p.configuration, here, what)]
        if others:
            best = min(others, key=lambda p: p.objective)
            unsure = "" if best.quality.acceptable else f" (accuracy {best.quality.status})"
            found.append(
                f"{what}: the next best is {label(best.configuration)}, {best.objective / chosen.objective - 1:+.0%} {r.goal}{unsure}"
            )
    parts = memory(here)
    spare = parts.available_gb - parts.needed_gb
    found.append(
        f"memory: {parts.needed_gb:.1f} of {parts.available_gb:.1f} GB a card"
        + (", pressed: leave more room" if parts.pressed else f", {spare:.1f} GB to spare")
    )
    return found


def _differs(a: Configuration, b: Configuration, what: str) -> bool:
    return {"strategy": a.quantization != b.quantization, "engine": a.engine != b.engine, "card": a.gpu != b.gpu}[what]


def pitfalls(plans: tuple[Plan, ...], r: Request) -> list[str]:
    """What would go wrong: strategies that cost more than half precision, lower watts that cost more, and broken formats."""
    by = {
        (
            p.configuration.gpu.slug,
            p.configuration.num_gpus,
            p.configuration.engine,
            p.configuration.quantization,
            p.configuration.batch_size,
        ): p
        for p in plans
    }
    worse: dict[tuple[str, str], list[tuple[float, int, bool]]] = {}
    for (gpu, n, engine, q, b), p in by.items():
        base = by.get((gpu, n, engine, "fp16", b)) or by.get((gpu, n, engine, "bf16", b))
        if base is None or p.quality.status == "reference":
            continue
        change = p.cost.energy_j_per_token.value / base.cost.energy_j_per_token.value - 1
        if change > 0:
            worse.setdefault((q, engine), []).append((change, b, p.cost.power_w.value < base.cost.power_w.value))
    found = []
    for (q, engine), seen in worse.items():
        low, high = min(c for c, _, _ in seen), max(c for c, _, _ in seen)
        change = f"{low:+.0%} to {high:+.0%}" if len(seen) > 1 else f"{low:+.0%}"
        text = (
            f"{q} with {engine} costs {change} energy against half precision at "
            f"batch {', '.join(str(b) for b in sorted({b for _, b, _ in seen}))}"
        )
        found.append(
            text + ("; it draws fewer watts and still more joules: lower power is not lower energy" if any(w for *_, w in seen) else "")
        )
    found += [f"{label(p.configuration, r)}: {p.quality.note}" for p in plans if p.quality.status == "broken"][:1]
    return found


def transparency(plans: tuple[Plan, ...]) -> dict[str, Any]:
    """How many entries rest on what, the spread between sessions, and the limits that hold for all of them."""
    bases = [p.cost.basis for p in plans]
    sd, df = session_spread()
    return {
        "basis": {basis: bases.count(basis) for basis in sorted(set(bases))},
        "between_sessions": f"another session of the same configuration differs by {sd:.0%} (standard deviation, {df} degrees of freedom)",
        "limits": (
            "gross energy of the GPUs' boards; the host's CPU, memory and "
            "cooling only through the PUE; CV of runs in one process says nothing of another session"
        ),
    }


def measures(chosen: Plan | None, roles: dict[str, Plan], plans: tuple[Plan, ...]) -> list[str]:
    """The commands that would settle it: the recommended plan and its rival."""
    picked: dict[tuple, Plan] = {}
    for p in (chosen, roles.get("best"), *plans):
        if p is not None:
            picked.setdefault((p.configuration.gpu.slug, p.configuration.num_gpus, p.configuration.engine, p.configuration.quantization), p)
    return [f"{p.configuration.cards}: {measure_command(p.configuration)}" for p in list(picked.values())[:2]]


def refusal(r: Request, found: Found) -> UserError:
    """The error where nothing is left: its commonest reason, in the words of the case that comes nearest."""
    limits = [x for x in found.excluded if x["kind"] == "limit"]
    if limits:
        return UserError(
            f"no plan for {r.now.model.slug} meets the limits: of the nearest, {limits[0]['reason']}",
            "",
            "loosen the limit, or allow more cards (--gpu any, --num-gpus)",
        )
    unknown = [x for x in found.excluded if x["kind"] == "not_predicted"]
    if unknown:
        c = next((p for p in grid(r)[0] if p.to_json() == unknown[0]["configuration"]), r.now)
        return UserError(
            f"no configuration of {r.now.model.slug} can be predicted: {unknown[0]['reason']}", "", f"measure it: `{measure_command(c)}`"
        )
    if len(r.gpus) == 1:
        require_fit(r.now)
    reason = found.excluded[0]["reason"] if found.excluded else "nothing to choose from"
    return UserError(f"no configuration of {r.now.model.slug} can run: {reason}", "", "choose another card, or more of them")
