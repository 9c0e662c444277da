"""What runs on a simulated card: generation that loads no model and takes the time and power its shapes suggest.

    eai run with gpus: [simulated_h200_sxm]     no GPU, no weights, basis `simulated`; any model whose shapes are known
    EAI_SIMULATED_GPUS=2                        two cards on this machine (see eai.power.simulated)
    EAI_SIMULATED_PACE=0.1                      a 10 s window takes a second of the host's time

Times come from the roofline of `footprint`, with a share of the peak that is reached, a cost a layer and a factor a strategy; powers
from how busy that makes the board. They are round figures chosen to be plausible: nothing is to be learned from them. A window varies
with a random part drawn from the seed and its key alone, so a sweep that was killed and resumed gives the energies of one that was not.
"""

import math
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import numpy as np

from eai import catalog, footprint
from eai.errors import UserError
from eai.footprint import Device, Refusal, supports
from eai.jobs import PlannedWindow
from eai.measure.work import FixedGeneration
from eai.power.simulated import CONTEXT_SHARE, SimulatedClock, model_of
from eai.settings import Configuration, Sweep
from eai.workload import models
from eai.workload.generation import Produced

REACHED = 0.65
LAYER_S = 60e-6
SLOWDOWN = {"int8_default": 4.0, "int8_pure": 1.8, "nf4": 1.5, "nf4_dq": 1.6, "fp4": 1.5, "dynamic": 1.7, "fp16_mixed": 1.4}
SLOWDOWN |= {"static": 1.6, "int8_ffn": 1.5, "int8_wo": 1.5, "int8_wo_affine": 1.5}
BUSY_W, MOVING_W, COMPUTING_W = 0.15, 0.45, 0.50
"""Shares of the power above idle: for being busy at all, at full bandwidth, and at full matrix throughput."""

BLOCK_SD, WINDOW_SD, CALL_SD = 0.004, 0.006, 0.002
"""Relative standard deviations of a block, of a window's speed and power, and of single calls."""

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
    model, gpu = shapes(c.model), model_of(c.gpu)
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


def shapes(model: str) -> catalog.Model:
    """The model's shapes. Raises UserError where neither the catalog nor a configuration at hand tells them."""
    found = models.shapes(model)
    if found is None:
        raise UserError(f"the shapes of {model} are not known", "a model of data/catalog/models.csv", "add it there, or choose another")
    return found


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
        """One batch, `output_tokens` each unless `new_tokens` says otherwise."""
        wanted, began_s = new_tokens or self.output_tokens, self._clock.now_s()
        slow = self._slow * float(np.exp(self._rng.normal(0, CALL_SD)))
        self._clock.work(self._pace.prefill_s * slow, self._pace.prefill_w * self._hungry)
        if wanted > 1:
            self._clock.work((wanted - 1) * self._pace.step_s * slow, self._pace.step_w * self._hungry)
        batch = self._c.batch_size
        return Produced(batch, batch * self._c.input_tokens, batch * wanted, self._clock.now_s() - began_s)

    def first_token_s(self, calls: int = 3, cap_s: float = math.inf) -> float:
        """Time to first token of the whole batch [s]: the median of calls that produce one token; virtual time has no cap."""
        return sorted(self.run(new_tokens=1).duration_s for _ in range(calls))[calls // 2]

    def inter_token_s(self) -> list[float]:
        """Inter-token latencies of one batch [s], one fewer than output tokens."""
        return [self._pace.step_s * self._slow] * (self.output_tokens - 1)


def refusal(c: Configuration, model: catalog.Model | None = None) -> Refusal | None:
    """Why the card could not run a configuration, by its data sheet and the model's shapes; None if it could."""
    if c.task != "generate" or c.options.keys() - OPTIONS:
        return Refusal("unsupported", "a simulated card generates at fixed length and does nothing else")
    gpu = model_of(c.gpu)
    card = replace(Device.of_catalog(gpu), peaks_of=gpu)
    sizes = (c.batch_size, c.input_tokens, c.output_tokens, c.options.get("kv_cache", True))
    return supports(c.quantization, card, c.weights, model or shapes(c.model), *sizes, activations=True)


class SimulatedWork(FixedGeneration):
    """Fixed generation of which nothing is left but the time and the power it takes: the same loop, warm-up and window, and no model."""

    def __init__(self, w: PlannedWindow, sweep: Sweep, clock: SimulatedClock):
        clock.begin()
        c = w.configuration
        found = footprint.footprint(shapes(c.model), c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
        nothing = SimpleNamespace(device="simulated", report={"linears": {}}, model_bytes=int(found.weight_bytes))
        super().__init__(SimulatedGeneration(w, sweep, clock), nothing, clock)
        self._memory_gb = found.memory_gb

    def columns(self) -> dict:
        """The window's columns about the work, memory as the shapes say."""
        return super().columns() | {"memory_peak_gb": self._memory_gb}
