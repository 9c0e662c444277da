"""What one window does: warm up until speed and power have settled, keep working for as long as the window lasts, say what was done.

A simulated card loads no model and takes the time and power that its shapes suggest::

    eai run with gpus: [simulated_h200_sxm]     no GPU, no weights, basis `simulated`; any model whose shapes are known
    EAI_SIMULATED_GPUS=2                        two cards on this machine (see eai.power.simulated)
    EAI_SIMULATED_PACE=0.1                      a 10 s window takes a second of the host's time

Times come from the roofline of `footprint`, with a share of the peak that is reached, a cost a layer and a factor a strategy; powers from
how busy that makes the board. They are round figures chosen to be plausible. A window varies with a random part drawn from the seed and
its key alone, so a sweep that was killed and resumed gives the energies of one that was not.
"""

import itertools
import json
import math
import statistics
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np

from eai import catalog, footprint
from eai.footprint import Device, Refusal, supports
from eai.jobs import PlannedWindow
from eai.power.meter import Clock
from eai.power.simulated import CONTEXT_SHARE, SimulatedClock, model_of
from eai.power.window import GROUP_STEPS, GROUPS, Steadiness, power_settled, steadiness
from eai.settings import Configuration, Sweep
from eai.workload import device, models
from eai.workload.generation import Produced
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
    """Run a generation until it has settled in groups of at least 16 decode steps, or for `cap_s` s, after calls for the first token."""
    clock = clock or Clock()
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
    """One window's work: the job calls `warm_up`, `run_for` (inside the measured window), `columns` and `scores`, in this order."""

    def __init__(self, does, loaded: LoadedModel, clock: Clock):
        self._does, self._loaded, self._clock, self._calls = does, loaded, clock, []

    def run_for(self, duration_s: float) -> None:
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
        self._rows, passes = self._does.scored(), len(self._calls)
        counts = {name: passes * sum(row[name] for row in self._rows) for name in ("tokens_in", "tokens_out")}
        return self._columns(counts | {"requests": passes * len(self._rows)})

    def scores(self) -> list[dict]:
        return self._rows


REACHED = 0.65
LAYER_S = 60e-6
SLOWDOWN = {"int8_default": 4.0, "int8_pure": 1.8, "nf4": 1.5, "nf4_dq": 1.6, "fp4": 1.5, "dynamic": 1.7, "fp16_mixed": 1.4}
SLOWDOWN |= {"static": 1.6, "int8_ffn": 1.5, "int8_wo": 1.5, "int8_wo_affine": 1.5}
BUSY_W, MOVING_W, COMPUTING_W = 0.15, 0.45, 0.50  # of the power above idle: being busy at all, full bandwidth, full matrix throughput
BLOCK_SD, WINDOW_SD, CALL_SD = 0.004, 0.006, 0.002  # relative, of a block, of a window's speed and power, and of single calls
OPTIONS = {"kv_cache", "cache", "compile"}


@dataclass(frozen=True)
class Pace:
    """How fast and how hungry one configuration is: seconds of prefill and of a decode step, and the power [W] of each."""

    prefill_s: float
    step_s: float
    prefill_w: float
    step_w: float


def pace(c: Configuration) -> Pace:
    """The undisturbed pace of a configuration on the card that its gpu simulates."""
    model, gpu = models.known_shapes(c.model), model_of(c.gpu)
    parts = footprint.footprint(model, c.quantization, c.batch_size, c.input_tokens, c.output_tokens, gpu)
    layers_s = LAYER_S * model.layers * SLOWDOWN.get(c.quantization, 1.0)
    prefill_s = max(layers_s, parts.prefill_s / REACHED)
    step_s = max(layers_s, parts.step_s / REACHED) if c.options.get("kv_cache", True) else prefill_s
    peak, bandwidth = footprint.peak_flops(gpu, c.quantization), gpu.bandwidth_gb_s * 1e9
    context_w = CONTEXT_SHARE * gpu.tdp_w

    def power_w(flops: float, moved_bytes: float, duration_s: float) -> float:
        load = BUSY_W + MOVING_W * min(moved_bytes / duration_s / bandwidth, 1.0) + COMPUTING_W * min(flops / duration_s / peak, 1.0)
        return context_w + (gpu.tdp_w - context_w) * min(load, 1.0)

    prefill_w = power_w(parts.prefill_flops, parts.weight_bytes, prefill_s)
    return Pace(prefill_s, step_s, prefill_w, power_w(parts.step_flops, parts.step_bytes, step_s) if step_s != prefill_s else prefill_w)


class SimulatedGeneration:
    """Generation of fixed shape on a simulated card; what it does is make virtual time pass."""

    times_tokens = False

    def __init__(self, w: PlannedWindow, sweep: Sweep, clock: SimulatedClock):
        self._c, self._clock, self.output_tokens = w.configuration, clock, w.configuration.output_tokens
        block = np.random.default_rng([sweep.seed, w.block, zlib.crc32(self._c.gpu.encode())])
        self._rng = np.random.default_rng([sweep.seed, w.block, int(self._c.configuration_id, 16), w.repeat])
        self._slow, self._hungry = np.exp(block.normal(0, BLOCK_SD, 2) + self._rng.normal(0, WINDOW_SD, 2)).tolist()

    @cached_property
    def _pace(self) -> Pace:
        return pace(self._c)

    def run(self, new_tokens: int | None = None) -> Produced:
        wanted, began_s = new_tokens or self.output_tokens, self._clock.now_s()
        slow = self._slow * float(np.exp(self._rng.normal(0, CALL_SD)))
        self._clock.work(self._pace.prefill_s * slow, self._pace.prefill_w * self._hungry)
        if wanted > 1:
            self._clock.work((wanted - 1) * self._pace.step_s * slow, self._pace.step_w * self._hungry)
        batch = self._c.batch_size
        return Produced(batch, batch * self._c.input_tokens, batch * wanted, self._clock.now_s() - began_s)

    def first_token_s(self, calls: int = 3, cap_s: float = math.inf) -> float:
        return sorted(self.run(new_tokens=1).duration_s for _ in range(calls))[calls // 2]

    def inter_token_s(self) -> list[float]:
        return [self._pace.step_s * self._slow] * (self.output_tokens - 1)


def simulated_refusal(c: Configuration, model: catalog.Model | None = None) -> Refusal | None:
    """Why the card could not run a configuration, by its data sheet and the model's shapes; None if it could."""
    if c.task != "generate" or c.options.keys() - OPTIONS:
        return Refusal("unsupported", "a simulated card generates at fixed length and does nothing else")
    gpu = model_of(c.gpu)
    card = replace(Device.of_catalog(gpu), peaks_of=gpu)
    sizes = (c.batch_size, c.input_tokens, c.output_tokens, c.options.get("kv_cache", True))
    return supports(c.quantization, card, c.weights, model or models.known_shapes(c.model), *sizes, activations=True)


class SimulatedWork(FixedGeneration):
    """Fixed generation of which nothing is left but the time and the power it takes: the same loop, warm-up and window, and no model."""

    def __init__(self, w: PlannedWindow, sweep: Sweep, clock: SimulatedClock):
        clock.begin()
        c = w.configuration
        found = footprint.footprint(models.known_shapes(c.model), c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
        nothing = SimpleNamespace(device="simulated", report={"linears": {}}, model_bytes=int(found.weight_bytes))
        super().__init__(SimulatedGeneration(w, sweep, clock), nothing, clock)
        self._memory_gb = found.memory_gb

    def columns(self) -> dict:
        return super().columns() | {"memory_peak_gb": self._memory_gb}
