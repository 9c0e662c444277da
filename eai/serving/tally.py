"""What a server did between two instants of a steady load, from the replies to everything sent before and after them.

Tokens count where they arrive: a request that began before the window or ends after it adds the output tokens that arrived inside, and its
prompt counts where its first token arrives, when the prompt has been read. A request is completed where its reply ends. Over a steady
load what is cut off at one edge is made up for at the other. Tokens of replies that failed are not counted, the energy spent on them is.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eai.servers import Load
from eai.serving.client import TIMEOUT, Reply
from eai.serving.traffic import BEAT_S, Beat

FAILED_SHARE = 0.05
LATE_S, LATE_SHARE, LATE_QUANTILE = 0.005, 0.05, 0.99
BUSY_SHARE = 0.9
LENGTH_TOLERANCE = CACHED_SHARE = 0.05
GROWTH_SIGMAS = 3.0


@dataclass(frozen=True)
class Tally:
    """The replies to a load, the window [s] that is looked at, and how the client's thread fared meanwhile.

    `count` tells how many tokens a text is, where the model's tokenizer is at hand.
    """

    replies: Sequence[Reply]
    start_s: float
    stop_s: float
    load: Load
    beats: Sequence[Beat] = ()
    count: Callable[[str], int] | None = None

    @cached_property
    def completed(self) -> list[Reply]:
        """Requests whose whole reply had arrived by an instant inside."""
        return [r for r in self.replies if r.ok and self._holds(r.ended_s)]

    @cached_property
    def failed(self) -> list[Reply]:
        """Requests that failed inside."""
        return [r for r in self.replies if not r.ok and self._holds(r.ended_s)]

    @cached_property
    def begun(self) -> list[Reply]:
        """Completed requests whose first token arrived inside."""
        return [r for r in self.replies if r.ok and r.moments_s and self._holds(r.moments_s[0])]

    @cached_property
    def arrivals(self) -> int:
        """Requests that fell due inside."""
        return sum(self._holds(r.due_s) for r in self.replies)

    def _holds(self, moment_s: float) -> bool:
        return self.start_s < moment_s <= self.stop_s

    @property
    def tokens_out(self) -> float:
        """Output tokens that arrived inside; a fraction where pieces of text hold no whole number of tokens."""
        return sum(r.tokens_between(self.start_s, self.stop_s) for r in self.replies if r.ok)

    def in_flight_at(self, moment_s: float) -> int:
        """Requests that were due and had not ended."""
        return sum(r.due_s <= moment_s < r.ended_s for r in self.replies)

    def columns(self) -> dict:
        """The window's columns of the windows table about the work of a server."""
        gaps_s = [gap for r in self.replies if r.ok for gap in r.gaps_between_s(self.start_s, self.stop_s)]
        ttft_s = [r.ttft_s for r in self.begun]
        latency_s = [r.latency_s for r in self.completed]
        tokens_in, seconds = [r.tokens_in for r in self.begun], self.stop_s - self.start_s
        return {
            "calls": len(self.completed) + len(self.failed),
            "requests": len(self.completed),
            "requests_failed": len(self.failed),
            "requests_retried": sum(r.retries > 0 for r in self.completed + self.failed),
            "arrivals": self.arrivals,
            "in_flight_mean": sum(max(min(r.ended_s, self.stop_s) - max(r.due_s, self.start_s), 0.0) for r in self.replies) / seconds,
            "tokens_in": None if None in tokens_in else sum(tokens_in),
            "tokens_out": round(self.tokens_out),
            "ttft_s": quantile(ttft_s, 0.5),
            "ttft_p95_s": quantile(ttft_s, 0.95),
            "itl_s": quantile(gaps_s, 0.5),
            "itl_p95_s": quantile(gaps_s, 0.95),
            "step_time_s": quantile([r.step_time_s for r in self.completed if r.step_time_s], 0.5),
            "latency_s": quantile(latency_s, 0.5),
            "latency_p95_s": quantile(latency_s, 0.95),
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
        """The remarks that hold."""
        return [name for name, holds in self.remarks(input_tokens, output_tokens).items() if holds]

    def is_overloaded(self) -> bool:
        """Whether an open load outran the server: the requests in flight grew by more than chance, three times the root of the arrivals."""
        if self.load.rate_per_s is None:
            return False
        grown = self.in_flight_at(self.stop_s) - self.in_flight_at(self.start_s)
        return grown > GROWTH_SIGMAS * math.sqrt(max(self.arrivals, 1))

    def is_client_late(self) -> bool:
        """Whether this side was the slow one, so that the server looks slower than it is.

        A request leaves late and its first token is read late: the 99th percentiles of the delay between due and sent, and of the time
        by which the client's thread woke late, exceed together 5 ms and 5 % of the median time to first token; or that thread was busy
        for nine tenths of the window. A look that is late by 50 ms hides what came in all of them, so that it counts for as long.
        """
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
        wrong = _most(filter(None, (r.miscount(self.count) for r in adding)))
        return {"status": "invalid", "reason": f"counts that cannot be: {wrong}"} if wrong else {}


def _most(reasons: Iterable[str]) -> str:
    """The three most frequent reasons with their numbers; "" of none."""
    return "; ".join(f"{n} x {why}" for why, n in Counter(reasons).most_common(3))


def quantile(values: Sequence[float], q: float) -> float | None:
    """The q-quantile, linear between order statistics; None of nothing."""
    return float(np.quantile(values, q)) if len(values) else None
