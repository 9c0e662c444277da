"""A server under test: somebody else's process, driven from outside at a stated load, its energy taken where it runs.

    ramp: until every slot has answered   warm up: until steady   window   drain: outside the window, so that straddling replies are counted

What runs in it cannot be verified through its protocol: model and quantization are as stated, and every window says so (`unverified`);
where the server's list of models tells a format (llama.cpp's does), the statement must agree with it.
The server's processes are billed, never this one's: its own CPU time is beside the energy as `client_cpu_s`.
"""

import json
import math
import statistics
import time
from collections.abc import Callable

from eai.errors import UserError
from eai.jobs import PlannedWindow
from eai.measure.work import Warm
from eai.power.estimate import ServerProcesses, trees_cpu_s
from eai.power.meter import Clock
from eai.power.window import Steadiness, power_settled, steadiness
from eai.servers import load, told_quantization
from eai.serving import whereabouts
from eai.serving.endpoint import endpoint
from eai.serving.reply import TIMEOUT
from eai.serving.session import Session
from eai.serving.tally import Tally
from eai.serving.traffic import Traffic
from eai.settings import Configuration, Sweep

POLL_S = 0.02
RAMP_LATENCIES, CYCLES = 2.0, 2.0
IDLE_SHARE = 0.01
FAILURES = 5
UNVERIFIED = "unverified"


class ServerFault(Exception):
    """The server is gone, or nothing of what it was asked came back; `status` is the window's."""

    def __init__(self, reason: str, status: str = "failed"):
        super().__init__(reason)
        self.status = status


def require(sweep: Sweep, model: str) -> None:
    """Raise UserError where nobody answers at the server's address, or its list of models contradicts the sweep: another name or format."""
    session = Session(endpoint(sweep.server), sweep.server_model or model, sweep.server_timeout_s)
    session.look_up()
    (stated,), told = sweep.quantizations, told_quantization(session.listed)
    if told and told != stated:
        raise UserError(f"quantization '{stated}' was stated but the server says its model is {told}", told, "set quantizations to it")


class ServedSystem:
    """A server, spoken to once for all windows of a load."""

    def __init__(self, first: Configuration, sweep: Sweep):
        self._sweep, self._model = sweep, sweep.server_model or first.model
        self._traffic: Traffic | None = None

    def refusal(self, c: Configuration) -> Exception | None:
        """None: what a server cannot do it says itself."""
        return None

    def open(self) -> None:
        """Find out how to talk to the server. Raises UserError where it does not answer or does not know the model."""
        sweep = self._sweep
        self._found = whereabouts.find(sweep)
        self._session = Session(endpoint(sweep.server), self._model, sweep.server_timeout_s, sweep.seed).open()

    def work(self, w: PlannedWindow, clock: Clock) -> "ServedWork":
        """The work of one window: traffic of its own, whose arrivals and prompts are the same whenever this window is measured."""
        self.close()
        c, seed = w.configuration, [self._sweep.seed, w.block, w.order]
        self._traffic = self._session.traffic(load(c.options["load"]), c.input_tokens, c.output_tokens, clock.now_s, seed)
        return ServedWork(c, self._traffic, clock, self._ran(), self._found)

    def close(self) -> None:
        """End what a window that failed may have left running."""
        if self._traffic is not None:
            self._traffic.stop(drain_s=0.0)

    def _ran(self) -> str:
        """What is known of what ran, as JSON: what the server says of itself, without the folder that its model may lie in."""
        listed = {k: v for k, v in self._session.listed.items() if k in ("owned_by", "max_model_len", "meta") and v}
        told = {"model": whereabouts.shown(self._model), "dialect": self._session.dialect.name, "verified": False} | listed
        return json.dumps(told, sort_keys=True)


class ServedWork:
    """One window of a load on a server, whose processes are `found` or out of sight."""

    def __init__(self, c: Configuration, traffic: Traffic, clock: Clock, ran: str, found: ServerProcesses):
        self._c, self._traffic, self._clock, self._ran, self._found = c, traffic, clock, ran, found

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Start the load and keep it up until it is steady, or `cap_s` is over; but never before every slot has answered once.

        A closed load is steady when the mean times of the last five groups of requests, a group being one of each slot, vary by at most
        2 %; an open one, whose requests queue by chance, when it has lasted twice its median latency. Raises ServerFault where nothing
        answers.
        """
        begin_s = self._clock.now_s()
        self._traffic.start()
        self._keep_up(lambda: self._is_ramped(begin_s))
        readings: list[tuple[float, float]] = []

        def settled() -> bool:
            if (watts := power_w()) is not None:
                readings.append((self._clock.now_s(), watts))
            verdict = self._steadiness()
            return verdict.steady and (not readings or power_settled(*zip(*readings[-100:], strict=True)))

        done = False
        while not done and self._clock.now_s() - begin_s < cap_s:
            done = settled()
            self._keep_up(self._pause(10 * POLL_S))
        steps = [r.step_time_s for r in self._traffic.replies if r.step_time_s]
        verdict = self._steadiness()
        step_time_s = statistics.median(steps) if steps else None
        return Warm(self._clock.now_s() - begin_s, verdict.cv, done or settled(), None, step_time_s, keeps_running=True)

    def _steadiness(self) -> Steadiness:
        """Whether the times of the requests so far are steady."""
        latencies_s = [r.latency_s for r in self._traffic.replies if r.ok]
        if self._traffic.load.concurrency is None:
            return Steadiness(True, None, "an open load")
        return steadiness(latencies_s, group_steps=self._traffic.load.concurrency)

    def _is_ramped(self, begin_s: float) -> bool:
        """Whether each slot has answered, or an open load has lasted twice its median latency."""
        ended = [r for r in self._traffic.replies if r.ok]
        if concurrency := self._traffic.load.concurrency:
            return len(ended) >= concurrency
        return bool(ended) and self._clock.now_s() - begin_s >= RAMP_LATENCIES * statistics.median(r.latency_s for r in ended)

    def _pause(self, duration_s: float) -> Callable[[], bool]:
        until_s = self._clock.now_s() + duration_s
        return lambda: self._clock.now_s() >= until_s

    def _keep_up(self, over: Callable[[], bool]) -> None:
        """Wait under load until `over()`. Raises ServerFault where the traffic has ended by itself, or only failures come back."""
        while not over():
            replies = self._traffic.replies
            if self._traffic.fault or not self._traffic.is_running:
                self._traffic.stop()
                raise ServerFault(self._traffic.fault or "the traffic ended by itself")
            if len(replies) >= min(self._traffic.load.concurrency or FAILURES, FAILURES) and not any(r.ok for r in replies):
                self._traffic.stop(drain_s=0.0)
                slow = all(r.failure == TIMEOUT for r in replies)
                raise ServerFault(f"no request succeeded: {replies[-1].reason}", "timeout" if slow else "failed")
            self._clock.sleep(POLL_S)

    def run_for(self, duration_s: float) -> None:
        """Let the load go on for `whole_cycles_s(duration_s)`, and until one request has been completed."""
        before, client_s, server_s = len(self._traffic.replies), time.process_time(), trees_cpu_s(self._found.processes)
        self._start_s = self._clock.now_s()
        self._keep_up(self._pause(self.whole_cycles_s(duration_s)))
        self._keep_up(lambda: len(self._traffic.replies) > before)
        self._stop_s = self._clock.now_s()
        self._server_s, self._client_s = trees_cpu_s(self._found.processes) - server_s, time.process_time() - client_s

    def whole_cycles_s(self, duration_s: float) -> float:
        """`duration_s` [s], but at least twice the median latency so far; of a closed load a whole multiple of it.

        Requests of equal length that started together stay together: prefill for all, decode for all, and again. A window that cut such a
        cycle would hold more of one than of the other. Its end is set before it begins: one that waited for a reply would end where
        tokens have just been paid for.
        """
        latencies_s = [r.latency_s for r in self._traffic.replies if r.ok]
        if not latencies_s:
            return duration_s
        cycle_s = statistics.median(latencies_s)
        least_s = max(duration_s, CYCLES * cycle_s)
        return least_s if self._traffic.load.concurrency is None else math.ceil(least_s / cycle_s) * cycle_s

    def columns(self) -> dict:
        """The window's columns, once everything under way has ended: a reply's usage comes with its end."""
        self._traffic.stop()
        tally = Tally(self._traffic.replies, self._start_s, self._stop_s, self._traffic.load)
        flags = [UNVERIFIED, *tally.flags(self._c.input_tokens, self._c.output_tokens)]
        seen = {"cpu_time_s": self._server_s} if self._found.processes else {}
        told = {"client_cpu_s": self._client_s, "ran": self._ran, "flags": flags}
        return tally.columns() | seen | told | (tally.verdict() or self._unbelievable())

    def _unbelievable(self) -> dict:
        """Status and reason where no process could be billed, or those that were can not have done the work; else nothing."""
        if not self._found.processes:
            return {"status": "invalid", "reason": f"energy is not measured: {self._found.reason}"}
        duration_s = self._stop_s - self._start_s
        if self._c.gpu != "cpu" or self._server_s > IDLE_SHARE * duration_s:
            return {}
        busy = f"{self._server_s / duration_s:.2%} of one thread"
        return {"status": "invalid", "reason": f"the server's processes used {busy}: something else computes; name it with server_pid"}

    def scores(self) -> list[dict]:
        """None: a fixed number of tokens has no right answer."""
        return []
