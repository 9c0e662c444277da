"""A load kept up on a thread of its own, so that the one that measures only waits, and when the requests of an open load are due."""

import asyncio
import contextlib
import itertools
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eai.servers import Load
from eai.serving.client import REFUSED, TIMEOUT, Reply


def arrivals_s(rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
    """Times of a Poisson process from 0 on [s]: the gaps are independent and exponential with mean 1 / rate."""
    return itertools.accumulate(rng.exponential(1.0 / rate_per_s) for _ in itertools.count())


Seed = int | Sequence[int]
Ask = Callable[[int, float], Awaitable[Reply]]

IN_FLIGHT_CAP = 2048
DEAD_AFTER = 5
PAUSE_S, PAUSE_CAP_S = 0.05, 2.0
BEAT_S = 0.01
SWITCH_S = 0.0005
"""How long another thread of this process may keep Python from the traffic's, while it runs; Python's own 5 ms are a token's time."""


class Beat(NamedTuple):
    """One look of the traffic's thread at itself: when, how late it woke [s], and the CPU time it had used [s]."""

    moment_s: float
    late_s: float
    cpu_s: float


class Traffic:
    """Requests under `load` from `start` until `stop`; `replies` holds those that have ended, whatever became of them.

    `ask(number, due_s)` sends request `number` and returns its reply; it is called on this object's thread only, `opening` before the
    first request. `fault` says why the traffic ended by itself, `fault_status` the status of its window: the server is gone, nothing but
    failures comes back, or an error of ours. `beats` tells how late this thread itself was.
    """

    def __init__(
        self,
        load: Load,
        ask: Ask,
        now_s: Callable[[], float],
        seed: Seed = 0,
        opening: Callable[[], Awaitable[None]] | None = None,
        closing: Callable[[], Awaitable[None]] | None = None,
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
        """Requests that are due and have not ended."""
        return len(self.due_s) - len(self.replies)

    @property
    def is_running(self) -> bool:
        """Whether requests are still sent."""
        return self._thread.is_alive() and not self._halt.is_set()

    def start(self) -> None:
        """Begin."""
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
            if self._closing:
                await self._closing()

    async def _all(self) -> None:
        if self._opening:
            await self._opening()
        await (self._closed() if self.load.concurrency else self._open())

    async def _beat(self) -> None:
        """Note how late this thread wakes and what it has used: a client that cannot keep up makes a server look slow."""
        while True:
            due_s = self._loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.beats.append(Beat(self._now_s(), max(self._loop.time() - due_s, 0.0), time.thread_time()))

    async def _one(self, due_s: float) -> Reply:
        """Send the next request and note its reply; a server that refuses every connection ends the traffic."""
        number, self._asked = self._asked, self._asked + 1
        self.due_s.append(due_s)
        reply = await self._ask(number, due_s)
        self.replies.append(reply)
        self._failed_in_a_row = 0 if reply.ok else self._failed_in_a_row + 1
        if self._failed_in_a_row >= (DEAD_AFTER if reply.failure == REFUSED else max(DEAD_AFTER, self.in_flight)):
            self._give_up(reply)
        return reply

    def _give_up(self, last: Reply) -> None:
        """End the traffic: a server of which nothing but failures comes is not loaded by them."""
        if last.failure == REFUSED:
            self.fault = self.fault or f"the server is gone: {last.reason}"
        elif not self.fault:
            none = "no request succeeded" if not any(r.ok for r in self.replies) else f"the last {self._failed_in_a_row} requests failed"
            self.fault = f"{none}: {last.reason}"
            self.fault_status = TIMEOUT if last.failure == TIMEOUT else "failed"
        self._halt.set()

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
            if self._halt.is_set():
                break
            if self.in_flight >= IN_FLIGHT_CAP:
                self.fault = f"more than {IN_FLIGHT_CAP} requests in flight: the server cannot keep up with {self.load}"
                self._halt.set()
                break
            tasks.add(task := asyncio.ensure_future(self._one(begin_s + arrival_s)))
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _wait(self, duration_s: float) -> None:
        """Sleep, but not past the end of the traffic by more than a moment."""
        until_s = self._now_s() + duration_s
        while not self._halt.is_set() and (left_s := until_s - self._now_s()) > 0:
            await asyncio.sleep(min(left_s, 0.1))
