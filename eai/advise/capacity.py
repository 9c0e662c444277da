"""Requests that arrive at random on cards that batch: waiting, percentiles of latency, cards needed, energy in use and idle.

Arrivals are Poisson and split evenly at random over the replicas. A serving engine batches continuously: with n requests in flight a
replica makes X(n) tokens per second, so it is a birth-death chain with departures at X(min(n, B)) / length, B the most in flight (a
processor-sharing queue with a limited number in service, Yamazaki and Sakasegawa 1987; M/M/c where X is proportional to n). An arrival
sees the chain's stationary distribution; beyond B it waits, and the wait of those who wait is exponential as in M/M/c, times
(1 + cv^2) / 2 for answers whose lengths vary by cv (Allen and Cunneen: half of it where all are of one length).
transformers has no continuous batching: whoever waits when a batch ends is the next batch, at most B (bulk service, Bailey 1954), a chain
of what each batch leaves behind; times are drawn from it. Both are held against a discrete-event simulation by a test.
"""

from dataclasses import dataclass, field

import numpy as np

from eai.errors import UserError

P95 = 0.95
BUSY = 0.8
"""Replicas are added until the load is at most this share of what they can serve: beyond it, a small rise makes queues long."""
MOST_REPLICAS = 4096
DRAWN, SEED = 20_000, 7


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
        """(tokens/s, watts, seconds between tokens, order of 1..most by the time of a request, sums of log tokens/s of 0..most in flight)
        at 1 to `most` in flight: what does not change with the load."""
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
        """Whether the queue does not grow without end."""
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
        rng = np.random.default_rng(SEED)
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
    """The chain of what each batch leaves behind, for an engine that takes whoever waits as the next batch; a request that comes during a
    batch waits for its end and for the full batches before its own."""
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
    rng = np.random.default_rng(SEED)
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
