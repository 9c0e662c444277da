"""Queues: against closed forms, against a simulation, and what more cards and more load do."""

import numpy as np
import pytest

from eai.advise.month import BUSY, Curve, replicas, serve
from eai.errors import UserError

N = np.array([1, 2, 4, 8, 16, 32, 64.0])
TOKENS = 256


def curve(continuous=True, power=0.75) -> Curve:
    """50 tokens per second alone, growing with the requests in flight to the given power; 300 to 380 W; 60 W idle."""
    rate = 50 * N**power
    return Curve(N, rate, 300 + 20 * np.log(N), N / rate, 60.0, 0.1, continuous)


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


def most_per_s(c: Curve, most: int) -> float:
    return c.at("tok_s", np.array([most]))[0] / TOKENS


@pytest.mark.parametrize("most", [8, 32])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.9])
def test_continuous_batching_agrees_with_a_simulation(most, load):
    """20,000 requests: mean within 4 %, p95 within 8 %."""
    c = curve()
    rate = load * most_per_s(c, most)
    seen, found = simulate(c, rate, most, TOKENS, 20_000, np.random.default_rng(1)), serve(c, rate, most, TOKENS)
    assert found.latency_mean_s == pytest.approx(seen.mean(), rel=0.04)
    assert found.latency_p95_s == pytest.approx(np.quantile(seen, 0.95), rel=0.08)


@pytest.mark.parametrize(("most", "load"), [(8, 0.3), (8, 0.6), (8, 0.8), (8, 0.9), (32, 0.3), (32, 0.6), (32, 0.8)])
def test_batches_of_whoever_waits_agree_with_a_simulation(most, load):
    """Mean and p95 within 5 %."""
    c = curve(continuous=False)
    rate = load * most_per_s(c, most)
    seen, found = simulate(c, rate, most, TOKENS, 20_000, np.random.default_rng(1)), serve(c, rate, most, TOKENS)
    assert found.latency_mean_s == pytest.approx(seen.mean(), rel=0.05)
    assert found.latency_p95_s == pytest.approx(np.quantile(seen, 0.95), rel=0.05)


def test_requests_that_do_not_slow_each_other_are_erlangs_queue():
    """X(n) proportional to n is M/M/c: the probability of waiting is Erlang's C; with answers of one length the wait is half of it."""
    c, most, load = curve(power=1.0), 4, 0.7
    mu = 50 / TOKENS
    a = load * most
    terms = [a**k / np.prod(np.arange(1, k + 1)) if k else 1.0 for k in range(most)]
    last = a**most / np.prod(np.arange(1, most + 1)) / (1 - load)
    erlang_c = last / (sum(terms) + last)
    wait = erlang_c / (most * mu - a * mu) / 2
    assert serve(c, a * mu, most, TOKENS).latency_mean_s == pytest.approx(1 / mu + wait, rel=1e-6)


def test_the_power_is_the_mixture_of_busy_and_idle():
    c = curve(power=1.0)
    s = serve(c, 0.02, 1, TOKENS)
    busy = 0.02 * TOKENS / 50
    assert s.idle_share == pytest.approx(1 - busy) and s.power_w == pytest.approx(busy * 300 + (1 - busy) * 60)
    assert s.idle_power_w == pytest.approx((1 - busy) * 60)


def test_lengths_that_vary_make_a_longer_tail():
    c = curve()
    rate = 0.6 * most_per_s(c, 16)
    assert serve(c, rate, 16, TOKENS, (64, 64, 64, 832)).latency_p95_s > 2 * serve(c, rate, 16, TOKENS).latency_p95_s


def test_too_many_requests_are_overload_and_not_a_number():
    c = curve()
    s = serve(c, 1.01 * most_per_s(c, 8), 8, TOKENS)
    assert not s.stable and s.latency_p95_s == np.inf
    with pytest.raises(UserError, match="requests per second"):
        serve(c, 0.0, 8, TOKENS)


def test_cards_are_added_until_load_and_limit_hold():
    c = curve()
    rate = 3.3 * most_per_s(c, 16)
    k, s = replicas(c, rate, 16, TOKENS, {})
    assert k == np.ceil(3.3 / BUSY) and s.load <= BUSY
    more, quick = replicas(c, rate, 16, TOKENS, {"latency_p95_s": 0.8 * s.latency_p95_s})
    assert more > k and quick.latency_p95_s <= 0.8 * s.latency_p95_s
    assert replicas(c, rate, 16, TOKENS, {"latency_p95_s": 1.0})[0] == k, "what no card can do is not bought"


@pytest.mark.parametrize("continuous", [True, False])
def test_a_replica_of_one_slot_is_idle_when_nothing_is_there(continuous):
    """One request at a time: busy for the load, idle for the rest, and 60 W for that part, whatever the queue (Little's law)."""
    c = curve(continuous)
    found = serve(c, 0.4 * most_per_s(c, 1), 1, TOKENS)
    assert found.idle_share == pytest.approx(0.6, rel=0.02) and found.idle_power_w == pytest.approx(0.6 * 60, rel=0.02)


@pytest.mark.parametrize("continuous", [True, False])
def test_what_is_overloaded_is_never_idle(continuous):
    c = curve(continuous)
    found = serve(c, 1.5 * most_per_s(c, 8), 8, TOKENS)
    assert not found.stable and found.idle_share == 0.0 and np.isinf(found.latency_p95_s)
