"""A month of a service: cards by queueing, energy in use and idle, electricity, rent or ownership, carbon of the whole life.

Arrivals are Poisson and split evenly at random over the replicas. A serving engine batches continuously: with n requests in flight a
replica makes X(n) tokens per second, so it is a birth-death chain with departures at X(min(n, B)) / length, B the most in flight (a
processor-sharing queue with a limited number in service, Yamazaki and Sakasegawa 1987; M/M/c where X is proportional to n). An arrival
sees the chain's stationary distribution; beyond B it waits, and the wait of those who wait is exponential as in M/M/c, times
(1 + cv^2) / 2 for answers whose lengths vary by cv (Allen and Cunneen: half of it where all are of one length).
transformers has no continuous batching: whoever waits when a batch ends is the next batch, at most B (bulk service, Bailey 1954), a chain
of what each batch leaves behind; times are drawn from it. Both are held against a discrete-event simulation by a test.

Energy [kWh] = energy an output token [J] x output tokens x requests x PUE / 3.6e6, gross at the GPUs' boards, in use and idle.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from eai import tables
from eai.advise.evidence import Cost, cost, idle_w, scaled
from eai.advise.request import Configuration, Request, is_module, require_fit
from eai.catalog import DRAWS, HOURS_A_MONTH, J_PER_KWH, SEED, Factor, drawn, interval
from eai.catalog import bill as electricity
from eai.errors import UserError
from eai.quantity import Quantity

P95 = 0.95
BUSY = 0.8
"""Replicas are added until the load is at most this share of what they can serve: beyond it, a small rise makes queues long."""
MOST_REPLICAS = 4096
DRAWN, QUEUE_SEED = 20_000, 7


@dataclass(frozen=True, eq=False)
class Curve:
    """What one replica does with n requests in flight: tokens/s, watts (of all its boards) and seconds between tokens, on a grid of n."""

    n: np.ndarray
    tok_s: np.ndarray
    power_w: np.ndarray
    itl_s: np.ndarray
    idle_w: float
    prefill_s: float
    continuous: bool
    _tables: dict = field(default_factory=dict, repr=False)

    def at(self, name: str, n: np.ndarray) -> np.ndarray:
        """A measure at n in flight, straight between the grid's points on both log scales."""
        return np.exp(np.interp(np.log(n), np.log(self.n), np.log(getattr(self, name))))

    def up_to(self, most: int) -> tuple[np.ndarray, ...]:
        """At 1 to `most` in flight: tokens/s, watts, seconds between tokens, order by a request's time; sums of log tokens/s from 0 on."""
        if most not in self._tables:
            n = np.arange(1, most + 1)
            rate, *others = (self.at(name, n) for name in ("tok_s", "power_w", "itl_s"))
            self._tables[most] = (rate, *others, np.argsort(n / rate, kind="stable"), np.append(0.0, np.cumsum(np.log(rate))))
        return self._tables[most]


@dataclass(frozen=True)
class Service:
    """A service in steady state: `load` (arrivals over the most it can serve), share of time idle, requests in flight, latency [s], power
    of one replica [W] (`idle_power_w`: its part while nothing is in flight). One overloaded (load >= 1) has no finite latency."""

    load: float
    idle_share: float = 0.0
    in_flight: float = np.inf
    latency_mean_s: float = np.inf
    latency_p95_s: float = np.inf
    ttft_p95_s: float = np.inf
    itl_p95_s: float = np.inf
    power_w: float = np.nan
    idle_power_w: float = 0.0

    @property
    def stable(self) -> bool:
        return self.load < 1


def serve(curve: Curve, per_s: float, most: int, tokens: float, lengths: tuple[int, ...] = ()) -> Service:
    """One replica under `per_s` requests per second, at most `most` in flight, answers of `tokens` (or the given lengths). A replica faster
    by a factor is one that sees requests come slower by it. Raises UserError for a rate that is none."""
    if not per_s > 0:
        raise UserError(f"a rate of {per_s:g} requests per second", "a number above 0", "give --requests-per-hour")
    rate, power, itl, order, sums = curve.up_to(most)
    n, speed = np.arange(most + 1), rate / tokens
    load = per_s / speed[-1] if curve.continuous else per_s * (most * tokens / rate[-1]) / most
    if load >= 1:
        return Service(float(load))
    if not curve.continuous:
        return _bulk(curve, per_s, most, tokens, float(load))
    logs = n * np.log(per_s * tokens) - sums
    weight = np.exp(logs - logs.max())
    share = weight / (weight.sum() + weight[-1] * load / (1 - load))
    waiting = float(share[-1] / (1 - load))
    queue = waiting * load / (1 - load)
    in_service = float(share @ n + most * (waiting - share[-1]))
    times = n[1:] / speed
    vary = (1 + (np.std(lengths) / np.mean(lengths)) ** 2) / 2 if lengths else 0.5
    drain = (speed[-1] - per_s) / vary
    flight = np.append(share[:-1], waiting)
    reached = np.cumsum(share[:-1][order])
    if lengths:
        rng = np.random.default_rng(QUEUE_SEED)
        seen = rng.choice(most + 1, 4000, p=flight / flight.sum())
        wait = np.where(seen == most, rng.exponential(1 / drain, 4000), 0.0)
        latency = float(np.quantile(wait + times[np.minimum(seen, most - 1)] * rng.choice(lengths, 4000) / tokens, P95))
    elif reached[-1] >= P95:
        latency = float(times[order][np.searchsorted(reached, P95)])
    else:
        latency = float(times[-1] + np.log(waiting / (1 - P95)) / drain)
    wait_p95 = max(0.0, float(np.log(waiting / (1 - P95)) / drain)) if waiting > 0 else 0.0
    step = float(itl[max(1, min(most, int(np.searchsorted(np.cumsum(flight) / flight.sum(), P95)))) - 1])
    used, idle = float(share[1:-1] @ power[:-1] + waiting * power[-1]), float(share[0] * curve.idle_w)
    mean = float((in_service + queue * vary) / per_s)
    return Service(float(load), float(share[0]), in_service, mean, latency, wait_p95 + curve.prefill_s + step, step, used + idle, idle)


def _bulk(curve: Curve, per_s: float, most: int, tokens: float, load: float) -> Service:
    """The chain of what each batch leaves behind: who comes during a batch waits for its end and for the full batches before its own."""
    rate, power, itl, *_ = curve.up_to(most)
    time = np.arange(1, most + 1) * tokens / rate
    states = 2 * most + 40
    q = np.arange(states)
    batch, left = np.clip(q, 1, most), np.maximum(q - np.clip(q, 1, most), 0)
    mean = per_s * time[batch - 1]
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, states)))])
    arrived = np.exp(q * np.log(mean[:, None]) - mean[:, None] - factorials)
    moves = np.zeros((states, states))
    for i in range(states):
        moves[i, left[i] :] = arrived[i, : states - left[i]]
        moves[i, -1] += max(0.0, 1 - moves[i].sum())
    system = np.vstack([(moves.T - np.eye(states))[:-1], np.ones(states)])
    share = np.clip(np.linalg.solve(system, np.append(np.zeros(states - 1), 1.0)), 0, None)
    share /= share.sum()
    cycle = float(share @ time[batch - 1]) + float(share[0] / per_s)
    idle_share = float(share[0] / per_s) / cycle
    rng = np.random.default_rng(QUEUE_SEED)
    came = share * mean
    alone = rng.random(DRAWN) < share[0] / (came.sum() + share[0])
    state, u = rng.choice(states, DRAWN, p=came / came.sum()), rng.random(DRAWN)
    running = time[batch[state] - 1]
    place = left[state] + rng.poisson(per_s * running * u)
    ahead = place // most
    until = running * (1 - u) + ahead * time[-1]
    size = np.clip(place - ahead * most + 1 + rng.poisson(per_s * until), 1, most)
    latency = np.where(alone, time[0], until + time[size - 1])
    p95, mean_s = float(np.quantile(latency, P95)), float(latency.mean())
    used, idle = float((share * time[batch - 1]) @ power[batch - 1]) / cycle, idle_share * curve.idle_w
    step = float(itl[min(most, max(1, int(np.searchsorted(np.cumsum(share), P95)))) - 1])
    return Service(load, idle_share, float(per_s * mean_s), mean_s, p95, p95, step, used + idle, idle)


def replicas(
    curve: Curve, per_s: float, most: int, tokens: float, limits: dict[str, float], lengths: tuple[int, ...] = (), slow: float = 1.0
) -> tuple[int, Service]:
    """(the fewest replicas that keep the load at or below 80 % and every p95 within its limit, one replica's service); where more do not
    help, those for 80 %. `limits`: by attribute of Service, held at `slow` times the expected speed."""
    capacity = curve.up_to(most)[0][-1] / tokens
    first = min(max(1, int(np.ceil(per_s / capacity / BUSY))), MOST_REPLICAS)
    start = serve(curve, per_s / first, most, tokens, lengths)

    def holds(rate: float) -> bool:
        found = serve(curve, rate / slow, most, tokens, lengths)
        return all(getattr(found, name) <= slow * limit for name, limit in limits.items())

    if not limits or not holds(1e-6 * capacity):
        return first, start
    for k in dict.fromkeys([first, first + 1, first + 2, *np.ceil(first * np.array([1.5, 2, 3, 4])).astype(int)]):
        if holds(per_s / k):
            return int(k), start if k == first else serve(curve, per_s / k, most, tokens, lengths)
    return first, start


HOURS_A_YEAR = HOURS_A_MONTH * 12
READY = 0.8
MAKING = tuple(Factor(**row) for row in tables.read_catalog("embodied").to_dict("records"))
EMBODIED, SERVER, LIFETIME = MAKING


@dataclass(frozen=True)
class Work:
    """A month of a configuration: boards kept, hours they work, energy in use and idle at the boards [J] as quantities, hours paid."""

    boards: int
    busy_hours: float
    used: Quantity
    idle: Quantity
    paid_hours: float

    @property
    def energy_j(self) -> float:
        return self.used.value + self.idle.value


def work(r: Request, c: Configuration | None, known: Cost) -> Work:
    """The month of a configuration at its stated batch. With a rate of requests its cards work at most 80 % of the month and wait for the
    rest of it; else only the hours worked count (without a configuration, of one unnamed card)."""
    tokens, n = r.output_tokens * r.requests, c.num_gpus if c else 1
    rate = known.throughput_tok_s.value
    hours = tokens / rate / 3600 if rate and np.isfinite(rate) else float("nan")
    replicas = max(1, int(np.ceil(hours / HOURS_A_MONTH / (READY if r.is_served else 1.0)))) if np.isfinite(hours) else 1
    waits = r.is_served and c is not None and np.isfinite(hours)
    still = max(0.0, replicas * HOURS_A_MONTH - hours) * n if waits else 0.0
    paid = replicas * n * HOURS_A_MONTH if r.is_served else hours * n
    idle = scaled(idle_w(c.gpu), still * 3600, "J") if c else Quantity(0.0, unit="J")
    return Work(replicas * n, hours * n, scaled(known.energy_j_per_token, tokens, "J"), idle, paid)


def draw_energy(known: Cost, rng: np.random.Generator, common: np.ndarray | None = None) -> np.ndarray:
    """Draws of the energy per token [J]; `common`: standard normal draws of the error shared with another prediction."""
    total, z = float(np.hypot(known.sd_own, known.sd_shared)), rng.standard_normal(DRAWS)
    if common is not None and known.sd_shared and total:
        z = (known.sd_own * z + known.sd_shared * common) / total
    return drawn(known.energy_j_per_token, z)


def bill(r: Request, c: Configuration | None, known: Cost, done: Work | None = None) -> dict[str, Any]:
    """The month of one configuration as it stands in answers: of the energy in use, `idle` (the same of cards that wait), `cards`,
    `life_cycle`, total_usd, usd_per_million_tokens, energy_j_per_request and its figures. What is not known is None."""
    done = done or work(r, c, known)
    rng = np.random.default_rng(SEED)
    draws = drawn(done.used, rng.standard_normal(DRAWS))
    waiting = drawn(done.idle, rng.standard_normal(DRAWS)) if done.idle.value else np.zeros(DRAWS)
    used, idle = electricity(done.used.value, draws, r.site, rng), electricity(done.idle.value, waiting, r.site, rng)
    both = electricity(done.energy_j, draws + waiting, r.site, rng) if done.idle.value else used
    hourly, how = card_hour(r, c)
    cards = scaled(hourly, done.paid_hours, "USD") if hourly and np.isfinite(done.paid_hours) else None
    total = cards or Quantity(None, unit="USD") if how.startswith("rent") else _sum([both["cost_usd"], cards], "USD")
    carbon, years = {"in_use_and_idle_kg": both["carbon_kg"]}, done.paid_hours / HOURS_A_YEAR
    for name, made in (("cards_kg", EMBODIED), ("servers_kg", SERVER)) if c else ():
        carbon[name] = Quantity(None, unit="kg")
        if np.isfinite(years):
            carbon[name] = interval(made.value / LIFETIME.value * years, made.draw(rng) / LIFETIME.draw(rng) * years, "kg")
    if c and is_module(c.gpu):
        carbon["servers_kg"] = Quantity(0.0, unit="kg")
    carbon["total_kg"] = _sum(list(carbon.values()), "kg")
    return {
        "configuration": c.to_json() if c else dict.fromkeys(("gpu", "model", "quantization", "batch_size", "engine", "num_gpus")),
        **{name: q.to_json() for name, q in used.items()},
        "idle": {name: q.to_json() for name, q in idle.items()},
        "cards": {
            "number": done.boards if c else None,
            "hours": Quantity(done.busy_hours, unit="h").to_json(),
            "usd": cards.to_json() if cards else None,
            "how": how,
        },
        "life_cycle": {name: q.to_json() for name, q in carbon.items()},
        "total_usd": total.to_json(),
        "usd_per_million_tokens": scaled(total, 1e6 / (r.output_tokens * r.requests), "USD").to_json(),
        "energy_j_per_request": (known.energy_j_per_token * r.output_tokens).to_json(),
        **known.to_json(),
    }


def _sum(parts: list[Quantity | None], unit: str) -> Quantity:
    """The sum; ends are added to ends, which is wide; empty where a part is not known."""
    known = [q for q in parts if q is not None]
    if any(q.value is None for q in known):
        return Quantity(None, unit=unit)
    ends = [sum(q.value if getattr(q, name) is None else getattr(q, name) for q in known) for name in ("value", "low", "high")]
    return Quantity(*map(float, ends), unit)


def card_hour(r: Request, c: Configuration | None) -> tuple[Quantity | None, str]:
    """(what one board costs an hour [USD] or None, how it is known): the stated rent or price over its hours, else the catalog's rent."""
    if r.rent_usd_h is not None:
        return Quantity(r.rent_usd_h, unit="USD/h"), "rent as given"
    if r.gpu_price is not None:
        hours = r.lifetime_years * HOURS_A_YEAR * (1.0 if r.is_served else r.card_utilisation)
        return Quantity(r.gpu_price / hours, unit="USD/h"), f"owned: {r.gpu_price:,.0f} USD over {r.lifetime_years:g} years"
    if c is None or (row := rents().get(c.gpu.slug)) is None:
        return None, "no rent or price of the card is known: give --rent or --gpu-price"
    return Quantity(*(row[f"usd_per_hour{end}"] for end in ("", "_low", "_high")), "USD/h"), f"rent, {row['date']}: {row['source']}"


@cache
def rents() -> dict[str, dict]:
    """GPU slug -> its row of data/catalog/rent.csv."""
    return tables.read_catalog("rent").set_index("slug").to_dict("index")


def break_even(r: Request, c: Configuration, other: Configuration, other_price_usd: float) -> dict[str, Any]:
    """From how many requests per month on one whole card each, bought for this work alone, the more expensive card is the cheaper choice.

    `requests`: the crossing with its 95 % interval; `p_crosses`: the share of draws that have one, no crossing below one half; `served`:
    what one card of each serves a month. Raises UserError where no price is known, and for a card that cannot run the request."""
    price = r.site.price
    for known, what, option in ((r.gpu_price, "price of the card", "--gpu-price"), (price, "price of electricity", "--price")):
        if known is None:
            raise UserError(f"no {what}", f"the {what}", f"give {option}")
    require_fit(other)
    rng = np.random.default_rng(SEED)
    pair = ((c, cost(c)), (other, cost(other)))
    usd_a_j = r.site.pue.draw(rng) * price.draw(rng) / J_PER_KWH
    apart = (other_price_usd - r.gpu_price) / (r.lifetime_years * 12)
    draws = [draw_energy(known, rng) * each.output_tokens * usd_a_j for each, known in pair]
    points = [known.energy_j_per_token.value * each.output_tokens * r.site.pue.value * price.value / J_PER_KWH for each, known in pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = apart / (draws[0] - draws[1])
        point = float(np.divide(apart, points[0] - points[1]))
    real = crossing[np.isfinite(crossing) & (crossing > 0)]
    served = [known.throughput_tok_s.value * 3600 * HOURS_A_MONTH / each.output_tokens for each, known in pair]
    answer = {"other": bill(r, *pair[1]), "served": served, "p_crosses": len(real) / DRAWS, "requests": None, "why": ""}
    if len(real) < DRAWS / 2 or not point > 0:
        return answer | {"why": "the card that costs more to own does not save enough electricity a request"}
    return answer | {"requests": interval(point, real, "requests").to_json()}
