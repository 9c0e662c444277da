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
WEIGHT_ONLY_FP8 = 7.5
"""Compute capability from which vLLM and SGLang run FP8 weights on cards without FP8 products, unpacked to 16 bits (vLLM's page on FP8)."""


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
    if reason := _rule_broken(strategy, device, weights, engine):
        return Refusal("unsupported", reason)
    if model is None:
        return None
    gb = {"weights": footprint.weight_bytes(model, quantization) / 1e9}
    if kv_cache:
        gb["KV cache"] = footprint.kv_cache_bytes(model, input_tokens + output_tokens, batch_size, quantization) / 1e9
    if activations:
        gb["activations"] = footprint.activation_bytes(model, quantization, batch_size, input_tokens) / 1e9
    if device.memory_gb is not None and sum(gb.values()) > device.memory_gb:
        shares = ", ".join(f"{name} {part:.1f}" for name, part in gb.items())
        needs = f"{model.slug} in {strategy.slug} at batch {batch_size} needs at least {sum(gb.values()):.1f} GB ({shares})"
        return Refusal("oom", f"{needs} of the {device.memory_gb:.1f} GB usable on {device.name}")
    tokens = input_tokens + output_tokens
    return Refusal("failed", f"{tokens} tokens exceed the model's context of {model.context}") if tokens > model.context else None


def _rule_broken(strategy: Strategy, device: Device, weights: str, engine: str) -> str:
    """Why the engine, the weights, the device or a library rules the strategy out; empty if none does."""
    slug, name, have, serves = strategy.slug, device.name, device.capability, engine in SERVERS
    makers = (None, "NVIDIA") if engine == "tensorrt-llm" else (None, "NVIDIA", "AMD")
    weight_only = strategy.compute == "float8" and engine in ("vllm", "sglang")
    needed = WEIGHT_ONLY_FP8 if weight_only else strategy.min_capability or 0
    lacks = not device.is_cpu and have is not None and have < needed
    rules = {
        f"{slug} is no format that {engine} runs": engine != "transformers" and not runs(engine, slug),
        f"{engine} does not run on {name}": serves and device.vendor not in makers,
        f"{engine} needs compute capability {SERVER_CAPABILITY:g}, {name} has {have or 0:g}": serves and (have or 9) < SERVER_CAPABILITY,
        f"{slug} on plain random weights: {strategy.note}; use weights random_outliers": weights == "random" and strategy.needs_outliers,
        f"{slug} is a published checkpoint: it cannot be made of {weights} weights": weights != "published" and slug in PUBLISHED_ONLY,
        f"{slug} needs a CUDA device": device.is_cpu and not strategy.on_cpu,
        f"{slug} needs compute capability {needed:g}, {name} has {have or 0:g}": lacks,
    }
    if broken := next((reason for reason, is_broken in rules.items() if is_broken), ""):
        return broken
    if device.peaks_of is not None:
        try:
            footprint.peak_flops(device.peaks_of, slug)
        except UserError as error:
            return str(error)
    missing = device.has_libraries and importlib.util.find_spec(strategy.library) is None
    return f"{slug} needs the library {strategy.library}, which is not installed" if missing else ""
