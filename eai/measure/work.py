"""When a window may begin: the work runs until its speed and power have settled, or its time is up."""

import itertools
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from eai.power.meter import Clock, MonotonicClock
from eai.power.window import GROUP_STEPS, GROUPS, Steadiness, power_settled, steadiness
from eai.taskcards import TaskCard
from eai.workload import device
from eai.workload.generation import Produced
from eai.workload.models import LoadedModel
from eai.workload.tasks import Passes


class Steppable(Protocol):
    """Work that decodes in steps: a call makes `output_tokens` of each sequence, the first of them after `first_token_s`."""

    output_tokens: int
    times_tokens: bool

    def first_token_s(self, calls: int = 3, cap_s: float = math.inf) -> float: ...
    def least_s(self) -> float: ...
    def run(self) -> Produced: ...


@dataclass(frozen=True)
class Warm:
    """What the warm-up found: seconds spent, coefficient of variation of the last groups (None: too few), steady, TTFT, step time [s].
    `keeps_running`: the work is still going on, and will go on after the window, as a server's does."""

    duration_s: float
    cv: float | None
    steady: bool
    ttft_s: float | None
    step_time_s: float | None
    keeps_running: bool = False

    def columns(self) -> dict:
        """The warm-up's columns of the windows table."""
        return {"ttft_s": self.ttft_s, "warmup_s": self.duration_s, "warmup_cv": self.cv}


def settle(step: Callable[[], float], cap_s: float, power_w: Callable[[], float | None], clock: Clock) -> Steadiness:
    """Run `step() -> duration_s` until speed and power have settled, or for `cap_s` seconds; once at least. Speed: the coefficient of
    variation of the last 5 steps is <= 2 %. Power, where `power_w` tells it: no slope over the last 5."""
    begin_s, latencies_s, readings = clock.now_s(), [], []
    while True:
        latencies_s.append(step())
        if (watts := power_w()) is not None:
            readings.append((clock.now_s(), watts))
        verdict = steadiness(latencies_s, group_steps=1)
        steady = verdict.steady and (not readings or power_settled(*zip(*readings[-GROUPS:], strict=True)))
        if steady or clock.now_s() - begin_s >= cap_s:
            return replace(verdict, steady=steady)


def warm_up(work: Steppable, cap_s: float, power_w: Callable[[], float | None] = lambda: None, clock: Clock | None = None) -> Warm:
    """Run the work until it has settled in groups of at least 16 decode steps, or for `cap_s` seconds, after calls for the first token."""
    clock = clock or MonotonicClock()
    start_s, ttft_s, least_s = clock.now_s(), None, 0.0
    if work.times_tokens:  # those of the window are timed: here a short call will do, where a whole one takes longer than the cap
        least_s = work.least_s()
    else:
        ttft_s = work.first_token_s(cap_s=cap_s)
    if (spent_s := clock.now_s() - start_s) + least_s >= cap_s:
        return Warm(spent_s, None, False, ttft_s, None)
    groups_s: list[float] = []

    def group() -> float:
        calls = [work.run() for _ in range(max(1, -(-GROUP_STEPS // work.output_tokens)))]
        groups_s.append(statistics.mean(call.duration_s for call in calls))
        return groups_s[-1]

    verdict, steps = settle(group, cap_s - spent_s, power_w, clock), work.output_tokens - 1
    step_time_s = (groups_s[-1] - ttft_s) / steps if steps and ttft_s is not None and groups_s[-1] > ttft_s else None
    return Warm(clock.now_s() - start_s, verdict.cv, verdict.steady, ttft_s, step_time_s)


# What one window does: warm up, keep working for as long as the window lasts, then say what was done.


class Work(Protocol):
    """One window's work. The job calls these in this order, `run_for` inside the measured window and the others outside."""

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm: ...
    def run_for(self, duration_s: float) -> None: ...
    def columns(self) -> dict: ...
    def scores(self) -> list[dict]: ...


class FixedGeneration:
    """Batches of fixed shape, again and again: the work of the task `generate`."""

    def __init__(self, generation: Steppable, loaded: LoadedModel, clock: Clock):
        self._generation, self._loaded, self._clock = generation, loaded, clock
        self._calls: list[Produced] = []

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Run until steady. Where reading tokens would slow the work, those of one more batch are timed, whatever the cap."""
        self._warm = warm_up(self._generation, cap_s, power_w, self._clock)
        self._gaps_s = [] if self._generation.times_tokens else self._generation.inter_token_s()
        if self._warm.step_time_s is None and self._gaps_s:
            self._warm = replace(self._warm, step_time_s=statistics.median(self._gaps_s))
        device.reset_peak(self._loaded.device)
        return self._warm

    def run_for(self, duration_s: float) -> None:
        """Whole calls until `duration_s` has passed, at least one."""
        end_s = self._clock.now_s() + duration_s
        while not self._calls or self._clock.now_s() < end_s:
            self._calls.append(self._generation.run())

    def columns(self) -> dict:
        """The window's columns about the work: counted, not assumed."""
        steps = self._calls[0].tokens_out // self._calls[0].requests - 1
        timed = [call.token_s for call in self._calls if call.token_s]
        ttft_s = statistics.median(moments[0] for moments in timed) if timed else self._warm.ttft_s
        self._gaps_s += [after - before for moments in timed for before, after in itertools.pairwise(moments)]
        decode_s = statistics.median(call.duration_s for call in self._calls) - ttft_s
        return {
            "ttft_s": ttft_s,
            "calls": len(self._calls),
            **{name: sum(getattr(call, name) for call in self._calls) for name in ("requests", "tokens_in", "tokens_out")},
            "step_time_s": decode_s / steps if steps and decode_s > 0 else None,
            "itl_s": statistics.median(self._gaps_s) if self._gaps_s else None,
            "itl_p95_s": float(np.quantile(self._gaps_s, 0.95)) if self._gaps_s else None,
            "memory_peak_gb": device.peak_gb(self._loaded.device),
            "model_bytes": self._loaded.model_bytes,
            "ran": json.dumps(self._loaded.report["linears"], sort_keys=True),
        }

    def scores(self) -> list[dict]:
        """None: a fixed number of tokens has no right answer."""
        return []


# The work of a task's window: whole passes over its items, scored when the window is over.


class TaskPasses:
    """One pass at least, more until the window's time is over, never a part of one: the energy is that of the task as run."""

    def __init__(self, passes: Passes, loaded: LoadedModel, clock: Clock):
        self._passes, self._loaded, self._clock = passes, loaded, clock
        self._done = 0

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Run a few items until they have settled, or for `cap_s` seconds; once at least."""
        start_s = self._clock.now_s()
        verdict = settle(self._passes.run_few, cap_s, power_w, self._clock)
        device.reset_peak(self._loaded.device)
        return Warm(self._clock.now_s() - start_s, verdict.cv, verdict.steady, None, None)

    def run_for(self, duration_s: float) -> None:
        """Whole passes until `duration_s` has passed, at least one."""
        end_s = self._clock.now_s() + duration_s
        while not self._done or self._clock.now_s() < end_s:
            self._passes.run()
            self._done += 1
        self._peak_gb = device.peak_gb(self._loaded.device)

    def columns(self) -> dict:
        """The window's columns about the work; tokens are counted in the last pass, and greedy passes are alike."""
        self._rows = self._passes.scored()
        tokens = {name: self._done * sum(row[name] for row in self._rows) for name in ("tokens_in", "tokens_out")}
        return {
            "calls": self._done,
            "requests": self._done * len(self._rows),
            **tokens,
            "memory_peak_gb": self._peak_gb,
            "model_bytes": self._loaded.model_bytes,
            "ran": json.dumps(self._loaded.report["linears"], sort_keys=True),
        }

    def scores(self) -> list[dict]:
        """One row an item."""
        return self._rows


def task_passes(loaded: LoadedModel, card: TaskCard, batch_size: int, options: dict, seed: int, clock: Clock) -> TaskPasses:
    """The window of a task on a loaded model; `options` as in the configuration's key."""
    return TaskPasses(Passes(loaded, card, batch_size, options["fewshot"], options.get("limit"), seed), loaded, clock)
