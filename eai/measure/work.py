"""What one window does: warm up until speed and power have settled, keep working for as long as the window lasts, say what was done."""

import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from eai.power.meter import Clock, MonotonicClock
from eai.power.window import GROUP_STEPS, GROUPS, Steadiness, power_settled, steadiness
from eai.workload import device
from eai.workload.models import LoadedModel


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


def warm_up(generation, cap_s: float, power_w: Callable[[], float | None] = lambda: None, clock: Clock | None = None) -> Warm:
    """Run a generation until it has settled in groups of at least 16 decode steps, or for `cap_s` seconds, after calls for the first
    token."""
    clock = clock or MonotonicClock()
    start_s, ttft_s, least_s = clock.now_s(), None, 0.0
    if generation.times_tokens:  # those of the window are timed: here a short call will do, where a whole one takes longer than the cap
        least_s = generation.least_s()
    else:
        ttft_s = generation.first_token_s(cap_s=cap_s)
    if (spent_s := clock.now_s() - start_s) + least_s >= cap_s:
        return Warm(spent_s, None, False, ttft_s, None)
    groups_s: list[float] = []

    def group() -> float:
        calls = [generation.run() for _ in range(max(1, -(-GROUP_STEPS // generation.output_tokens)))]
        groups_s.append(statistics.mean(call.duration_s for call in calls))
        return groups_s[-1]

    verdict, steps = settle(group, cap_s - spent_s, power_w, clock), generation.output_tokens - 1
    step_time_s = (groups_s[-1] - ttft_s) / steps if steps and ttft_s is not None and groups_s[-1] > ttft_s else None
    return Warm(clock.now_s() - start_s, verdict.cv, verdict.steady, ttft_s, step_time_s)


class Work:
    """One window's work with what it runs. The job calls `warm_up`, `run_for` (inside the measured window), `columns` and `scores`, in this
    order."""

    def __init__(self, does, loaded: LoadedModel, clock: Clock):
        self._does, self._loaded, self._clock, self._calls = does, loaded, clock, []

    def run_for(self, duration_s: float) -> None:
        """Whole calls until `duration_s` has passed, at least one."""
        end_s = self._clock.now_s() + duration_s
        while not self._calls or self._clock.now_s() < end_s:
            self._calls.append(self._does.run())
        self._peak_gb = device.peak_gb(self._loaded.device)

    def _columns(self, counts: dict) -> dict:
        ran = json.dumps(self._loaded.report["linears"], sort_keys=True)
        return counts | {"calls": len(self._calls), "memory_peak_gb": self._peak_gb, "model_bytes": self._loaded.model_bytes, "ran": ran}


class FixedGeneration(Work):
    """Batches of fixed shape, again and again: the work of the task `generate`."""

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Run until steady. Where reading tokens would slow the work, those of one more batch are timed, whatever the cap."""
        self._warm = warm_up(self._does, cap_s, power_w, self._clock)
        self._gaps_s = [] if self._does.times_tokens else self._does.inter_token_s()
        if self._warm.step_time_s is None and self._gaps_s:
            self._warm = replace(self._warm, step_time_s=statistics.median(self._gaps_s))
        device.reset_peak(self._loaded.device)
        return self._warm

    def columns(self) -> dict:
        """The window's columns about the work: counted, not assumed."""
        steps = self._calls[0].tokens_out // self._calls[0].requests - 1
        timed = [call.token_s for call in self._calls if call.token_s]
        ttft_s = statistics.median(moments[0] for moments in timed) if timed else self._warm.ttft_s
        self._gaps_s += [after - before for moments in timed for before, after in itertools.pairwise(moments)]
        decode_s = statistics.median(call.duration_s for call in self._calls) - ttft_s
        counts = {name: sum(getattr(call, name) for call in self._calls) for name in ("requests", "tokens_in", "tokens_out")}
        counts |= {"ttft_s": ttft_s, "step_time_s": decode_s / steps if steps and decode_s > 0 else None}
        counts["itl_s"] = statistics.median(self._gaps_s) if self._gaps_s else None
        counts["itl_p95_s"] = float(np.quantile(self._gaps_s, 0.95)) if self._gaps_s else None
        return self._columns(counts)

    def scores(self) -> list[dict]:
        """None: a fixed number of tokens has no right answer."""
        return []


class TaskPasses(Work):
    """Whole passes over a task's items, never a part of one: the energy is that of the task as run. Scored when the window is over."""

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Run a few items until they have settled, or for `cap_s` seconds; once at least."""
        start_s = self._clock.now_s()
        verdict = settle(self._does.run_few, cap_s, power_w, self._clock)
        device.reset_peak(self._loaded.device)
        return Warm(self._clock.now_s() - start_s, verdict.cv, verdict.steady, None, None)

    def columns(self) -> dict:
        """The window's columns about the work; tokens are counted in the last pass, and greedy passes are alike."""
        self._rows, passes = self._does.scored(), len(self._calls)
        counts = {name: passes * sum(row[name] for row in self._rows) for name in ("tokens_in", "tokens_out")}
        return self._columns(counts | {"requests": passes * len(self._rows)})

    def scores(self) -> list[dict]:
        """One row an item."""
        return self._rows
