"""A load kept up on a thread of its own, so that the one that measures only waits; and what the server did between two instants of it.

Tokens count where they arrive: a request that began before the window or ends after it adds the output tokens that arrived inside, and its
prompt counts where its first token arrives, when the prompt has been read. A request is completed where its reply ends. Over a steady
load what is cut off at one edge is made up for at the other. Tokens of replies that failed are not counted, the energy spent on them is.
"""

import asyncio
import contextlib
import itertools
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from eai.serving.client import REFUSED, TIMEOUT, Reply
from eai.settings import Load


def arrivals_s(rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
    """Times of a Poisson process from 0 on [s]: the gaps are independent and exponential with mean 1 / rate."""
    return itertools.accumulate(rng.exponential(1.0 / rate_per_s) for _ in itertools.count())


Seed = int | Sequence[int]
Ask = Callable[[int, float], Awaitable[Reply]]
Does = Callable[[], Awaitable[None]]

IN_FLIGHT_CAP = 2048
DEAD_AFTER = 5
PAUSE_S, PAUSE_CAP_S = 0.05, 2.0
BEAT_S = 0.01
SWITCH_S = 0.0005  # how long another thread of this process may keep Python from the traffic's; Python's own 5 ms are a token's time


async def _nothing() -> None:
    pass


class Beat(NamedTuple):
    """One look of the traffic's thread at itself: when, how late it woke [s], and the CPU time it had used [s]."""

    moment_s: float
    late_s: float
    cpu_s: float


class Traffic:
    """Requests under `load` from `start` until `stop`; `replies` holds those that have ended, whatever became of them. `ask(number, due_s)`
    sends request `number` and returns its reply; it is called on this object's thread only, `opening` before the first one. `fault` says
    why the traffic ended by itself, `fault_status` the status of its window. `beats` tells how late this thread itself was."""

    def __init__(
        self, load: Load, ask: Ask, now_s: Callable[[], float], seed: Seed = 0, opening: Does = _nothing, closing: Does = _nothing
    ):
        self.load, self.fault, self.fault_status = load, "", "failed"
        self.beats: list[Beat] = []
        self.replies: list[Reply] = []
        self.due_s: list[float] = []
        self._ask, self._now_s, self._opening, self._closing = ask, now_s, opening, closing
        self._rng = np.random.default_rng(seed)
        self._asked = self._failed_in_a_row = 0
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eai-traffic", daemon=True)

    @property
    def in_flight(self) -> int:
        return len(self.due_s) - len(self.replies)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._halt.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_s: float = math.inf) -> None:
        """Send nothing new and wait until everything under way has ended, or `drain_s` seconds; what is then left is given up."""
        self._halt.set()
        if self._thread.ident is None:
            return
        self._thread.join(None if math.isinf(drain_s) else drain_s)
        while self._thread.is_alive():
            with contextlib.suppress(RuntimeError, AttributeError):  # the loop is closed already, or not there yet
                self._loop.call_soon_threadsafe(self._everything.cancel)
            self._thread.join(0.05)

    def _run(self) -> None:
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            asyncio.run(self._main())
        except Exception as error:  # an error of ours must end up with whoever measures, not on a thread's stderr
            self.fault = self.fault or f"{type(error).__name__}: {error}"
        finally:
            sys.setswitchinterval(switch_s)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        beating = asyncio.ensure_future(self._beat())
        self._everything = asyncio.ensure_future(self._all())
        try:
            await self._everything
        except asyncio.CancelledError:
            self.fault = self.fault or "requests were still under way when the time to drain was over"
        finally:
            beating.cancel()
            await self._closing()

    async def _all(self) -> None:
        await self._opening()
        await (self._closed() if self.load.concurrency else self._open())

    async def _beat(self) -> None:
        """Note how late this thread wakes and what it has used: a client that cannot keep up makes a server look slow."""
        while True:
            due_s = self._loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.beats.append(Beat(self._now_s(), max(self._loop.time() - due_s, 0.0), time.thread_time()))

    async def _one(self, due_s: float) -> Reply:
        """Send the next request and note its reply; a server of which nothing but failures comes is not loaded further."""
        number, self._asked = self._asked, self._asked + 1
        self.due_s.append(due_s)
        reply = await self._ask(number, due_s)
        self.replies.append(reply)
        self._failed_in_a_row = 0 if reply.ok else self._failed_in_a_row + 1
        if self._failed_in_a_row >= (DEAD_AFTER if reply.failure == REFUSED else max(DEAD_AFTER, self.in_flight)):
            lasts = f"the last {self._failed_in_a_row} requests failed" if any(r.ok for r in self.replies) else "no request succeeded"
            if not self.fault:
                self.fault = f"{'the server is gone' if reply.failure == REFUSED else lasts}: {reply.reason}"
                self.fault_status = TIMEOUT if reply.failure == TIMEOUT else "failed"
            self._halt.set()
        return reply

    async def _closed(self) -> None:
        """As many workers as requests in flight; one whose request failed pauses, longer each time, before it asks again."""

        async def worker() -> None:
            pause_s = PAUSE_S
            while not self._halt.is_set():
                if (await self._one(self._now_s())).ok:
                    pause_s = PAUSE_S
                else:
                    await self._wait(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_CAP_S)

        await asyncio.gather(*(worker() for _ in range(self.load.concurrency or 0)))

    async def _open(self) -> None:
        """Each request at its own time, whether earlier ones have ended or not; a request is due then even if it is sent late."""
        begin_s, tasks = self._now_s(), set()
        for arrival_s in arrivals_s(self.load.rate_per_s or 0.0, self._rng):
            await self._wait(begin_s + arrival_s - self._now_s())
            if self.in_flight >= IN_FLIGHT_CAP and not self._halt.is_set():
                self.fault = f"more than {IN_FLIGHT_CAP} requests in flight: the server cannot keep up with {self.load}"
                self._halt.set()
            if self._halt.is_set():
                break
            tasks.add(task := asyncio.ensure_future(self._one(begin_s + arrival_s)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _wait(self, duration_s: float) -> None:
        until_s = self._now_s() + duration_s
        while not self._halt.is_set() and (left_s := until_s - self._now_s()) > 0:
            await asyncio.sleep(min(left_s, 0.1))


FAILED_SHARE = 0.05
LATE_S, LATE_SHARE, LATE_QUANTILE = 0.005, 0.05, 0.99
BUSY_SHARE = 0.9
LENGTH_TOLERANCE = CACHED_SHARE = 0.05
GROWTH_SIGMAS = 3.0


@dataclass(frozen=True)
class Tally:
    """The replies to a load, the window [s] that is looked at, and how the client's thread fared meanwhile; `count` tells how many tokens
    a text is, where the model's tokenizer is at hand."""

    replies: Sequence[Reply]
    start_s: float
    stop_s: float
    load: Load
    beats: Sequence[Beat] = ()
    count: Callable[[str], int] | None = None

    @cached_property
    def completed(self) -> list[Reply]:
        return [r for r in self.replies if r.ok and self._holds(r.ended_s)]

    @cached_property
    def failed(self) -> list[Reply]:
        return [r for r in self.replies if not r.ok and self._holds(r.ended_s)]

    @cached_property
    def begun(self) -> list[Reply]:
        return [r for r in self.replies if r.ok and r.moments_s and self._holds(r.moments_s[0])]

    def _holds(self, moment_s: float) -> bool:
        return self.start_s < moment_s <= self.stop_s

    @property
    def tokens_out(self) -> float:
        return sum(r.tokens_between(self.start_s, self.stop_s) for r in self.replies if r.ok)

    def columns(self) -> dict:
        times_s = {
            "ttft": [r.ttft_s for r in self.begun],
            "itl": [gap for r in self.replies if r.ok for gap in r.gaps_between_s(self.start_s, self.stop_s)],
            "latency": [r.latency_s for r in self.completed],
        }
        found = {f"{name}_{end}s": quantile(each, q) for name, each in times_s.items() for end, q in (("", 0.5), ("p95_", 0.95))}
        tokens_in, seconds = [r.tokens_in for r in self.begun], self.stop_s - self.start_s
        return found | {
            "calls": len(self.completed) + len(self.failed),
            "requests": len(self.completed),
            "requests_failed": len(self.failed),
            "requests_retried": sum(r.retries > 0 for r in self.completed + self.failed),
            "arrivals": sum(self._holds(r.due_s) for r in self.replies),
            "in_flight_mean": sum(max(min(r.ended_s, self.stop_s) - max(r.due_s, self.start_s), 0.0) for r in self.replies) / seconds,
            "tokens_in": None if None in tokens_in else sum(tokens_in),
            "tokens_out": round(self.tokens_out),
            "step_time_s": quantile([r.step_time_s for r in self.completed if r.step_time_s], 0.5),
        }

    def remarks(self, input_tokens: int, output_tokens: int) -> dict[str, bool]:
        """What does not bar the window but must be known, each with whether it holds."""
        tokens_in = [r.tokens_in for r in self.begun if r.tokens_in is not None]
        return {
            "tokens_from_pieces": any(not r.by_usage for r in self.completed),
            "input_length_varies": bool(tokens_in) and abs(np.mean(tokens_in) / input_tokens - 1) > LENGTH_TOLERANCE,
            "length_varies": any(r.by_usage and r.tokens_out != output_tokens for r in self.completed),
            "prefix_cached": sum(r.tokens_cached for r in self.begun) > CACHED_SHARE * sum(tokens_in),
            "requests_failed": bool(self.failed),
            "requests_retried": any(r.retries for r in self.completed),
            "overloaded": self.is_overloaded(),
            "client_late": self.is_client_late(),
        }

    def flags(self, input_tokens: int, output_tokens: int) -> list[str]:
        return [name for name, holds in self.remarks(input_tokens, output_tokens).items() if holds]

    def is_overloaded(self) -> bool:
        """Whether an open load outran the server: the requests in flight grew by more than chance, three times the root of the arrivals."""
        before, after = (sum(r.due_s <= moment_s < r.ended_s for r in self.replies) for moment_s in (self.start_s, self.stop_s))
        arrivals = sum(self._holds(r.due_s) for r in self.replies)
        return self.load.rate_per_s is not None and after - before > GROWTH_SIGMAS * math.sqrt(max(arrivals, 1))

    def is_client_late(self) -> bool:
        """Whether this side was the slow one. A request leaves late and its first token is read late: the 99th percentiles of the delay
        between due and sent, and of the time by which the client's thread woke late, exceed together 5 ms and 5 % of the median time to
        first token; or that thread was busy for nine tenths of the window. A look that is late by 50 ms hides what came in all of them, and
        counts for as long."""
        sent_late_s = quantile([r.sent_s - r.due_s for r in self.completed if not r.retries], LATE_QUANTILE) or 0.0
        beats = [b for b in self.beats if self._holds(b.moment_s)]
        busy = len(beats) > 1 and (beats[-1].cpu_s - beats[0].cpu_s) > BUSY_SHARE * (beats[-1].moment_s - beats[0].moment_s)
        allowed_s = max(LATE_S, LATE_SHARE * (quantile([r.ttft_s for r in self.begun], 0.5) or 0.0))
        after = next((b for b in self.beats if b.moment_s > self.stop_s), None)  # a thread that was held up over the end woke after it
        woke_late_s = np.sort([0.0, *(b.late_s for b in [*beats, *([after] if after else [])])])
        passed_s = np.cumsum(woke_late_s + BEAT_S)
        return bool(busy or sent_late_s + woke_late_s[np.searchsorted(passed_s, LATE_QUANTILE * passed_s[-1])] > allowed_s)

    def verdict(self) -> dict:
        """Status and reason where the window cannot be used, else nothing: nothing completed, more than 5 % of the requests failed, or
        counts that cannot be in a reply that adds to the window."""
        ended = len(self.completed) + len(self.failed)
        if not ended:
            return {"status": "timeout", "reason": f"no request ended within {self.stop_s - self.start_s:.3g} s"}
        if not self.completed or len(self.failed) > FAILED_SHARE * ended:
            status = "timeout" if all(r.failure == TIMEOUT for r in self.failed) else "failed"
            return {"status": status, "reason": f"{len(self.failed)} of {ended} requests failed ({_most(r.reason for r in self.failed)})"}
        adding = (r for r in self.replies if r.due_s <= self.stop_s and r.ended_s > self.start_s)
        if wrong := _most(filter(None, (r.miscount(self.count) for r in adding))):
            return {"status": "invalid", "reason": f"counts that cannot be: {wrong}"}
        if round(self.tokens_out) < 1:  # the end of a reply whose text had come before
            return {"status": "short_window", "reason": f"no text arrived within {self.stop_s - self.start_s:.3g} s"}
        return {}


def _most(reasons: Iterable[str]) -> str:
    return "; ".join(f"{n} x {why}" for why, n in Counter(reasons).most_common(3))


def quantile(values: Sequence[float], q: float) -> float | None:
    """The q-quantile, linear between order statistics; None of nothing."""
    return float(np.quantile(values, q)) if len(values) else None
