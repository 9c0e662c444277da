"""Requests that arrive at random on cards that batch: waiting, percentiles of latency, cards needed, energy in use and idle.

Arrivals are Poisson and split evenly at random over the replicas. A serving engine batches continuously: with n requests in flight a
replica
makes X(n) tokens a second, so it is a birth-death chain with departures at X(min(n, B)) / length, B the most in flight (a processor-sharing
queue with a limited number in service, Yamazaki and Sakasegawa 1987; M/M/c where X is proportional to n). An arrival sees the chain's
stationary
distribution; beyond B it waits, and the wait of those who wait is exponential as in M/M/c, times (1 + cv^2) / 2 for answers whose lengths
vary by cv (Allen and Cunneen: half of it where all are of one length).
transformers has no continuous batching: whoever waits when a batch ends is the next batch, at most B (bulk service, Bailey 1954), solved
as a
chain of what each batch leaves behind. Both are held against a discrete-event simulation by a test.
"""

from dataclasses import dataclass

import numpy as np

from eai.errors import UserError

P95 = 0.95
BUSY = 0.8
"""Replicas are added until the load is at most this share of what they can serve: beyond it, a small rise makes queues long."""
MOST_REPLICAS = 4096
GRID = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])


@dataclass(frozen=True)
class Curve:
    """What one replica does with n requests in flight: tokens/s, watts (of all its boards) and seconds between tokens, on a grid of n."""

    n: np.ndarray
    tok_s: np.ndarray
    power_w: np.ndarray
    itl_s: np.ndarray
    idle_w: float
    prefill_s: float
    continuous: bool

    def at(self, name: str, n: np.ndarray) -> np.ndarray:
        """A measure at n in flight, straight between the grid's points on both log scales."""
        return np.exp(np.interp(np.log(n), np.log(self.n), np.log(getattr(self, name))))

    def faster(self, factor: float) -> "Curve":
        """The same replica, all speeds times a factor."""
        return Curve(self.n, self.tok_s * factor, self.power_w, self.itl_s / factor, self.idle_w, self.prefill_s / factor, self.continuous)


@dataclass(frozen=True)
class Service:
    """A service in steady state: `load` (arrivals over the most it can serve), share of time idle, requests in flight, latency and power.

    Times in seconds; `power_w` and `idle_power_w` (its part while nothing is in flight) are the mean of one replica. An overloaded one has
    load of 1 or more and no finite latency.
    """

    load: float
    idle_share: float
    in_flight: float
    latency_mean_s: float
    latency_p95_s: float
    ttft_p95_s: float
    itl_p95_s: float
    power_w: float
    idle_power_w: float

    @property
    def stable(self) -> bool:
        """Whether the queue does not grow without end."""
        return self.load < 1


def _overloaded(load: float) -> Service:
    return Service(load, 0.0, np.inf, np.inf, np.inf, np.inf, np.inf, np.nan, 0.0)


def serve(curve: Curve, per_s: float, most: int, tokens: float, lengths: tuple[int, ...] = ()) -> Service:
    """One replica under `per_s` requests a second, at most `most` in flight, answers of `tokens` (or the given lengths).

    Raises UserError for a rate that is none.
    """
    if not per_s > 0:
        raise UserError(f"a rate of {per_s:g} requests a second", "a number above 0", "give --requests-per-hour")
    return _continuous(curve, per_s, most, tokens, lengths) if curve.continuous else _bulk(curve, per_s, most, tokens)


def _continuous(curve: Curve, per_s: float, most: int, tokens: float, lengths: tuple[int, ...]) -> Service:
    """Birth-death chain of a replica that batches continuously."""
    n = np.arange(1, most + 1)
    speed = curve.at("tok_s", n) / tokens
    load = per_s / speed[-1]
    if load >= 1:
        return _overloaded(float(load))
    logs = np.concatenate([[0.0], np.cumsum(np.log(per_s / speed))])
    weight = np.exp(logs - logs.max())
    total = weight.sum() + weight[-1] * load / (1 - load)
    share = weight / total
    waiting = float(share[-1] / (1 - load))
    queue = share[-1] * load / (1 - load) ** 2
    in_service = float(share @ np.arange(most + 1) + most * (waiting - share[-1]))
    times = n / speed
    order = np.argsort(times)
    reached = np.cumsum(share[:-1][order])
    vary = (1 + (np.std(lengths) / np.mean(lengths)) ** 2) / 2 if lengths else 0.5
    drain = (speed[-1] - per_s) / vary
    if lengths:
        rng = np.random.default_rng(7)
        seen = rng.choice(most + 1, 4000, p=np.append(share[:-1], waiting) / (share[:-1].sum() + waiting))
        wait = np.where(seen == most, rng.exponential(1 / drain, 4000), 0.0)
        latency = float(np.quantile(wait + times[np.minimum(seen, most - 1)] * rng.choice(lengths, 4000) / tokens, P95))
    elif reached[-1] >= P95:
        latency = float(times[order][np.searchsorted(reached, P95)])
    else:
        latency = float(times[-1] + np.log(waiting / (1 - P95)) / drain)
    wait_p95 = max(0.0, float(np.log(waiting / (1 - P95)) / drain)) if waiting > 0 else 0.0
    flight = np.append(share[:-1], waiting)
    at_p95 = max(1, int(np.searchsorted(np.cumsum(flight) / flight.sum(), P95)))
    itl = float(curve.at("itl_s", np.array([at_p95]))[0])
    power = curve.at("power_w", n)
    used = float(share[1:-1] @ power[:-1] + waiting * power[-1])
    idle = float(share[0] * curve.idle_w)
    mean = float((in_service + queue * vary) / per_s)
    return Service(float(load), float(share[0]), in_service, mean, latency, wait_p95 + curve.prefill_s + itl, itl, used + idle, idle)


def _bulk(curve: Curve, per_s: float, most: int, tokens: float) -> Service:
    """The chain of what each batch leaves behind, for an engine that takes whoever waits as the next batch."""
    size = np.arange(1, most + 1)
    time = size * tokens / curve.at("tok_s", size)
    load = per_s * time[-1] / most
    if load >= 1:
        return _overloaded(float(load))
    states = 2 * most + 40
    q = np.arange(states)
    batch = np.clip(q, 1, most)
    mean = per_s * time[batch - 1]
    left = np.maximum(q - batch, 0)
    moves = np.zeros((states, states))
    arrivals = np.arange(states)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, states)))])
    for i in range(states):
        p = np.exp(arrivals * np.log(mean[i]) - mean[i] - factorials)
        moves[i, left[i] :] = p[: states - left[i]]
        moves[i, -1] += max(0.0, 1 - moves[i].sum())
    system = np.vstack([(moves.T - np.eye(states))[:-1], np.ones(states)])
    share = np.clip(np.linalg.solve(system, np.append(np.zeros(states - 1), 1.0)), 0, None)
    share /= share.sum()
    busy, idle_s = float(share @ time[batch - 1]), float(share[0] / per_s)
    cycle = busy + idle_s
    u = (np.arange(20) + 0.5) / 20
    back = left[:, None] + per_s * time[batch - 1][:, None] * u
    ahead, last = np.floor(back / most), np.clip(np.round(back % most + per_s * time[batch - 1][:, None] * (1 - u)), 1, most).astype(int)
    latency = time[batch - 1][:, None] * (1 - u) + ahead * time[-1] + time[last - 1]
    weight = np.repeat((share * mean)[:, None] / len(u), len(u), axis=1)
    values = np.append(latency.ravel(), time[0])
    weights = np.append(weight.ravel(), share[0])
    order = np.argsort(values)
    p95 = float(values[order][np.searchsorted(np.cumsum(weights[order]) / weights.sum(), P95)])
    mean_s = float(values @ weights / weights.sum())
    power = curve.at("power_w", size)
    used, idle = float((share * time[batch - 1]) @ power[batch - 1]) / cycle, idle_s / cycle * curve.idle_w
    batch_p95 = float(curve.at("itl_s", np.array([max(1, int(np.searchsorted(np.cumsum(share), P95)))]).clip(max=most))[0])
    return Service(float(load), idle_s / cycle, float(per_s * mean_s), mean_s, p95, p95, batch_p95, used + idle, idle)


def replicas(
    curve: Curve, per_s: float, most: int, tokens: float, limits: dict[str, float], lengths: tuple[int, ...] = (), slow: float = 1.0
) -> tuple[int, Service]:
    """(the fewest replicas that keep the load at or below 80 % and every p95 within its limit, one replica's service).

    `limits`: by attribute of Service, held at `slow` times the expected speed: sized for the slow end of what is expected. Where more
    replicas do not help, those for 80 % are returned: the caller sees what is missed.
    """
    capacity = curve.at("tok_s", np.array([most]))[0] / tokens
    first = min(max(1, int(np.ceil(per_s / capacity / BUSY))), MOST_REPLICAS)
    start = serve(curve, per_s / first, most, tokens, lengths)
    if not limits:
        return first, start
    slowed = curve.faster(slow)
    alone = serve(slowed, 1e-6 * capacity, most, tokens, lengths)
    if any(getattr(alone, name) > limit for name, limit in limits.items()):
        return first, start
    for k in dict.fromkeys([first, first + 1, first + 2, *np.ceil(first * np.array([1.5, 2, 3, 4])).astype(int)]):
        found = serve(slowed, per_s / k, most, tokens, lengths)
        if all(getattr(found, name) <= limit for name, limit in limits.items()):
            return int(k), start if k == first else serve(curve, per_s / k, most, tokens, lengths)
    return first, start


def simulate(curve: Curve, per_s: float, most: int, tokens: int, requests: int, rng: np.random.Generator) -> np.ndarray:
    """Latencies [s] of a discrete-event simulation of one replica, the first tenth left out: what the formulas are tested against."""
    arrivals = np.cumsum(rng.exponential(1 / per_s, requests))
    return (_simulate_continuous if curve.continuous else _simulate_bulk)(curve, arrivals, most, tokens)[requests // 10 :]


def _simulate_continuous(curve: Curve, arrivals: np.ndarray, most: int, tokens: int) -> np.ndarray:
    """Every request in flight makes tokens at X(n) / n; whoever comes beyond `most` waits in line."""
    rate = curve.at("tok_s", np.arange(1, most + 1)) / np.arange(1, most + 1)
    left: dict[int, float] = {}
    line: list[int] = []
    done = np.empty(len(arrivals))
    now, nxt = 0.0, 0
    while nxt < len(arrivals) or left:
        each = rate[len(left) - 1] if left else 0.0
        first = min(left, key=left.get) if left else None
        end = now + left[first] / each if left else np.inf
        come = arrivals[nxt] if nxt < len(arrivals) else np.inf
        step = min(end, come) - now
        left = {i: tokens_left - step * each for i, tokens_left in left.items()}
        now += step
        if come <= end:
            line.append(nxt)
            nxt += 1
        else:
            del left[first]
            done[first] = now
        while line and len(left) < most:
            left[line.pop(0)] = float(tokens)
    return done - arrivals


def _simulate_bulk(curve: Curve, arrivals: np.ndarray, most: int, tokens: int) -> np.ndarray:
    """Whoever waits when a batch ends is the next batch."""
    done, now, first = np.empty(len(arrivals)), 0.0, 0
    while first < len(arrivals):
        now = max(now, arrivals[first])
        last = min(max(int(np.searchsorted(arrivals, now, side="right")), first + 1), first + most)
        size = last - first
        now += size * tokens / curve.at("tok_s", np.array([size]))[0]
        done[first:last] = now
        first = last
    return done - arrivals
