"""Whether a configuration can run on a device, and if not, why: one answer for a run, its forecast, simulated cards and the advice.

Only what is certain counts. What cannot be judged (a model of unknown shapes, a card of unknown capability) is not refused: it is tried,
and becomes a row with its status where it fails.
"""

import importlib.util
from dataclasses import dataclass

from eai import footprint, strategies
from eai.catalog import Gpu, Model
from eai.errors import UserError
from eai.strategies import Strategy

PUBLISHED_ONLY = ("gptq", "awq")
"""Strategies that exist as published checkpoints only."""
SERVERS = ("vllm", "sglang", "tensorrt-llm")
GGUF_ENGINES = ("llama.cpp", "ollama")
ENGINES = ("transformers", *SERVERS, *GGUF_ENGINES)
SERVER_FORMATS = ("bf16", "fp16", "fp32", "fp8", "awq", "gptq", *strategies.SERVED)
SERVER_CAPABILITY = 7.0


def runs(engine: str, quantization: str) -> bool:
    """Whether an engine has kernels for a strategy at all, whatever the card."""
    if engine in GGUF_ENGINES:
        return quantization.startswith(strategies.GGUF)
    if engine in SERVERS:
        return quantization in SERVER_FORMATS
    return quantization in strategies.STRATEGIES or quantization.startswith("int8_t")


@dataclass(frozen=True)
class Device:
    """What a configuration would run on; None for what is not known.

    `capability`: CUDA compute capability; `memory_gb`: what a program can use [1e9 bytes]; `peaks_of`: the catalog's line of a card that
    runs by its peaks alone (a simulated one), so that a missing peak rules a strategy out; `has_libraries`: whether the libraries of this
    process decide; `vendor`: who makes it.
    """

    name: str
    is_cpu: bool = False
    capability: float | None = None
    memory_gb: float | None = None
    peaks_of: Gpu | None = None
    has_libraries: bool = True
    vendor: str | None = None

    @classmethod
    def of_catalog(cls, gpu: Gpu, has_libraries: bool = False) -> "Device":
        """A GPU by its line of the catalog; a memory that the catalog does not know is not judged."""
        memory_gb = footprint.available_gb(gpu) if gpu.memory_gb else None
        return cls(gpu.name, False, gpu.compute_capability, memory_gb, None, has_libraries, gpu.vendor)


@dataclass(frozen=True)
class Refusal:
    """Why a configuration cannot run: `kind` is the status its row gets (unsupported, oom, failed), `reason` the sentence."""

    kind: str
    reason: str


class CannotRun(UserError):
    """A configuration that cannot run here: becomes a row with the status `kind` and the reason, and the sweep goes on."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal.reason)
        self.kind = refusal.kind


def supports(
    quantization: str,
    device: Device,
    weights: str = "published",
    model: Model | None = None,
    batch_size: int = 1,
    input_tokens: int = 0,
    output_tokens: int = 0,
    kv_cache: bool = True,
    activations: bool = False,
    engine: str = "transformers",
) -> Refusal | None:
    """Why the configuration cannot run on the device, None if it may.

    Asked in this order: the engine, weights, device and library against the strategy; weights and KV cache (with `activations` their
    estimate too) against the memory; tokens against the model's context. Nothing is loaded. Raises UserError for an unknown strategy.
    """
    strategy = strategies.get(quantization)
    if reason := _engine_reason(engine, strategy, device) or _strategy_reason(strategy, device, weights):
        return Refusal("unsupported", reason)
    if model is None:
        return None
    if reason := _memory_reason(strategy, device, model, batch_size, input_tokens, output_tokens, kv_cache, activations):
        return Refusal("oom", reason)
    tokens = input_tokens + output_tokens
    return Refusal("failed", f"{tokens} tokens exceed the model's context of {model.context}") if tokens > model.context else None


def _engine_reason(engine: str, strategy: Strategy, device: Device) -> str:
    """Why the engine rules out the strategy or the device; empty if it does not, and for transformers, which the strategy decides."""
    if engine == "transformers":
        return ""
    if not runs(engine, strategy.slug):
        return f"{strategy.slug} is no format that {engine} runs"
    if engine in SERVERS and device.vendor not in (None, "NVIDIA", *(("AMD",) if engine != "tensorrt-llm" else ())):
        return f"{engine} does not run on {device.name}"
    if engine in SERVERS and (device.capability or SERVER_CAPABILITY) < SERVER_CAPABILITY:
        return f"{engine} needs compute capability {SERVER_CAPABILITY:g}, {device.name} has {device.capability:g}"
    return ""


def _strategy_reason(strategy: Strategy, device: Device, weights: str) -> str:
    """Why weights, device or library rule out the strategy; empty if none does."""
    slug, needed, have = strategy.slug, strategy.min_capability, device.capability
    if weights == "random" and strategy.needs_outliers:
        return f"{slug} on plain random weights: {strategy.note}; use weights random_outliers"
    if weights != "published" and slug in PUBLISHED_ONLY:
        return f"{slug} is a published checkpoint: it cannot be made of {weights} weights"
    if device.is_cpu and not strategy.on_cpu:
        return f"{slug} needs a CUDA device"
    if not device.is_cpu and needed and have is not None and have < needed:
        return f"{slug} needs compute capability {needed:g}, {device.name} has {have:g}"
    if device.peaks_of is not None:
        try:
            footprint.peak_flops(device.peaks_of, slug)
        except UserError as error:
            return str(error)
    if device.has_libraries and importlib.util.find_spec(strategy.library) is None:
        return f"{slug} needs the library {strategy.library}, which is not installed"
    return ""


def _memory_reason(
    strategy: Strategy, device: Device, model: Model, batch: int, tokens_in: int, tokens_out: int, kv_cache: bool, activations: bool
) -> str:
    """Why the configuration cannot fit in the device's memory, with the sum; empty if it may."""
    if device.memory_gb is None:
        return ""
    parts = {"weights": footprint.weight_bytes(model, strategy.slug) / 1e9}
    if kv_cache:
        parts["KV cache"] = footprint.kv_cache_bytes(model, tokens_in + tokens_out, batch, strategy.slug) / 1e9
    if activations:
        parts["activations"] = footprint.activation_bytes(model, strategy.slug, batch, tokens_in) / 1e9
    needed_gb = sum(parts.values())
    if needed_gb <= device.memory_gb:
        return ""
    shares = ", ".join(f"{name} {gb:.1f}" for name, gb in parts.items())
    return (
        f"{model.slug} in {strategy.slug} at batch {batch} needs at least {needed_gb:.1f} GB ({shares}) "
        f"of the {device.memory_gb:.1f} GB usable on {device.name}"
    )
