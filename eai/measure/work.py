"""What one window does: warm up, keep working for as long as the window lasts, then say what was done."""

import json
import statistics
from collections.abc import Callable
from typing import Protocol

import numpy as np

from eai.measure.warmup import Steppable, Warm, warm_up
from eai.power.meter import Clock
from eai.workload import memory
from eai.workload.generation import Produced
from eai.workload.models import LoadedModel


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
        """Run until steady, then time the tokens of one batch."""
        self._warm = warm_up(self._generation, cap_s, power_w, self._clock)
        self._gaps_s = self._generation.inter_token_s()
        memory.reset_peak(self._loaded.device)
        return self._warm

    def run_for(self, duration_s: float) -> None:
        """Whole calls until `duration_s` has passed, at least one."""
        end_s = self._clock.now_s() + duration_s
        while not self._calls or self._clock.now_s() < end_s:
            self._calls.append(self._generation.run())

    def columns(self) -> dict:
        """The window's columns about the work: counted, not assumed."""
        steps = self._calls[0].tokens_out // self._calls[0].requests - 1
        decode_s = statistics.median(call.duration_s for call in self._calls) - self._warm.ttft_s
        return {
            "calls": len(self._calls),
            **{name: sum(getattr(call, name) for call in self._calls) for name in ("requests", "tokens_in", "tokens_out")},
            "step_time_s": decode_s / steps if steps and decode_s > 0 else None,
            "itl_s": statistics.median(self._gaps_s) if self._gaps_s else None,
            "itl_p95_s": float(np.quantile(self._gaps_s, 0.95)) if self._gaps_s else None,
            "memory_peak_gb": memory.peak_gb(self._loaded.device),
            "model_bytes": self._loaded.model_bytes,
            "ran": json.dumps(self._loaded.report["linears"], sort_keys=True),
        }

    def scores(self) -> list[dict]:
        """None: a fixed number of tokens has no right answer."""
        return []
