"""The work of a task's window: whole passes over its items, scored when the window is over."""

import json
from collections.abc import Callable

from eai.measure.warmup import Warm
from eai.power.meter import Clock
from eai.power.window import GROUPS, power_settled, until_steady
from eai.taskcards import TaskCard
from eai.workload import memory
from eai.workload.models import LoadedModel
from eai.workload.tasks.passes import Passes


class TaskPasses:
    """One pass at least, more until the window's time is over, never a part of one: the energy is that of the task as run."""

    def __init__(self, passes: Passes, loaded: LoadedModel, clock: Clock):
        self._passes, self._loaded, self._clock = passes, loaded, clock
        self._done = 0

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Run a few items until their speed and the power have settled, or for `cap_s` seconds; once at least."""
        start_s = self._clock.now_s()
        readings: list[tuple[float, float]] = []

        def step() -> float:
            duration_s = self._passes.run_few()
            if (watts := power_w()) is not None:
                readings.append((self._clock.now_s(), watts))
            return duration_s

        def settled() -> bool:
            return not readings or power_settled(*zip(*readings[-GROUPS:], strict=True))

        verdict, _ = until_steady(step, self._clock.now_s, cap_s, settled, group_steps=1)
        memory.reset_peak(self._loaded.device)
        return Warm(self._clock.now_s() - start_s, verdict.cv, verdict.steady and settled(), None, None)

    def run_for(self, duration_s: float) -> None:
        """Whole passes until `duration_s` has passed, at least one."""
        end_s = self._clock.now_s() + duration_s
        while not self._done or self._clock.now_s() < end_s:
            self._passes.run()
            self._done += 1
        self._peak_gb = memory.peak_gb(self._loaded.device)

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
