"""When a window may begin: the work runs until its speed and power have settled, or its time is up."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from eai.power.meter import Clock, MonotonicClock
from eai.power.window import GROUP_STEPS, GROUPS, power_settled, until_steady
from eai.workload.generation import Produced


class Steppable(Protocol):
    """Work that decodes in steps: a call makes `output_tokens` of each sequence, the first of them after `first_token_s`."""

    output_tokens: int

    def first_token_s(self) -> float: ...
    def run(self) -> Produced: ...


@dataclass(frozen=True)
class Warm:
    """What the warm-up found: seconds spent, coefficient of variation of the last groups (None: too few), steady, TTFT, step time [s].

    `keeps_running`: the work is still going on, and will go on after the window, as a server's does.
    """

    duration_s: float
    cv: float | None
    steady: bool
    ttft_s: float | None
    step_time_s: float | None
    keeps_running: bool = False

    def columns(self) -> dict:
        """The warm-up's columns of the windows table."""
        return {"ttft_s": self.ttft_s, "warmup_s": self.duration_s, "warmup_cv": self.cv}


def warm_up(work: Steppable, cap_s: float, power_w: Callable[[], float | None] = lambda: None, clock: Clock | None = None) -> Warm:
    """Run the work until its speed and power have settled, or for `cap_s` seconds; at least once, and three times for the first token.

    Speed: the coefficient of variation of the last 5 groups of at least 16 decode steps is <= 2 %. Power, where `power_w` tells it:
    no slope over the last 5 groups.
    """
    clock = clock or MonotonicClock()
    start_s, ttft_s = clock.now_s(), work.first_token_s()
    groups_s: list[float] = []
    readings: list[tuple[float, float]] = []

    def group() -> float:
        calls = [work.run() for _ in range(max(1, -(-GROUP_STEPS // work.output_tokens)))]
        groups_s.append(statistics.mean(call.duration_s for call in calls))
        if (watts := power_w()) is not None:
            readings.append((clock.now_s(), watts))
        return groups_s[-1]

    def settled() -> bool:
        return not readings or power_settled(*zip(*readings[-GROUPS:], strict=True))

    verdict, _ = until_steady(group, clock.now_s, cap_s - (clock.now_s() - start_s), settled, group_steps=1)
    steps = work.output_tokens - 1
    step_time_s = (groups_s[-1] - ttft_s) / steps if steps and groups_s[-1] > ttft_s else None
    return Warm(clock.now_s() - start_s, verdict.cv, verdict.steady and settled(), ttft_s, step_time_s)
