"""How a strategy is asked of the libraries: whether it can run here, the dtype of what is not quantized, the configuration to load with."""

import importlib.util
import warnings
from typing import Any

from eai.errors import UserError
from eai.strategies import Strategy

INT4_GROUP = 128
PUBLISHED_ONLY = ("gptq", "awq")


class Unsupported(UserError):
    """A strategy that cannot run here: becomes a row with status `unsupported`, and the sweep goes on."""


def unsupported_reason(strategy: Strategy, device: str, weights: str) -> str | None:
    """Why the strategy cannot run on this device with these weights, or None if it can; nothing is loaded to find out."""
    if reason := weights_reason(strategy, weights):
        return reason
    if device == "cpu":
        if not strategy.on_cpu:
            return f"{strategy.slug} needs a CUDA device"
    elif reason := _capability_reason(strategy, device):
        return reason
    return library_reason(strategy)


def weights_reason(strategy: Strategy, weights: str) -> str | None:
    """Why these weights rule out the strategy, or None."""
    if weights == "random" and strategy.needs_outliers:
        return f"{strategy.slug} on plain random weights: {strategy.note}; use weights random_outliers"
    if weights != "published" and strategy.slug in PUBLISHED_ONLY:
        return f"{strategy.slug} is a published checkpoint: it cannot be made of {weights} weights"
    return None


def library_reason(strategy: Strategy) -> str | None:
    """Which library the strategy lacks in this environment, or None."""
    if importlib.util.find_spec(strategy.library) is None:
        return f"{strategy.slug} needs the library {strategy.library}, which is not installed"
    return None


def _capability_reason(strategy: Strategy, device: str) -> str | None:
    """Why this CUDA device cannot run the strategy, or None."""
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    if strategy.min_capability and major + minor / 10 < strategy.min_capability:
        return f"{strategy.slug} needs compute capability {strategy.min_capability}, this GPU has {major}.{minor}"
    return None


def rest_dtype(strategy: Strategy, device: str) -> Any:
    """The dtype of what is not quantized.

    LLM.int8() computes in float16 on CUDA and bfloat16 on a CPU; `dynamic` leaves the rest in float32; GPTQ and AWQ kernels take
    float16; every other format computes in bfloat16.
    """
    import torch

    if not strategy.is_quantized:
        return getattr(torch, strategy.stored)
    if strategy.slug == "dynamic":
        return torch.float32
    half = strategy.slug in PUBLISHED_ONLY or (strategy.library == "bitsandbytes" and strategy.stored == "int8" and device != "cpu")
    return torch.float16 if half else torch.bfloat16


def quantization_config(strategy: Strategy, dtype: Any) -> Any:
    """What `from_pretrained` needs to quantize while it loads, or None if nothing is quantized or the checkpoint already is."""
    if strategy.library == "bitsandbytes":
        return _bitsandbytes(strategy, dtype)
    if strategy.library == "torchao":
        return _torchao(strategy)
    return None


def _bitsandbytes(strategy: Strategy, dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    if strategy.stored == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=strategy.threshold)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=strategy.stored,
        bnb_4bit_use_double_quant=strategy.slug.endswith("_dq"),
        bnb_4bit_compute_dtype=dtype,
    )


def _torchao(strategy: Strategy) -> Any:
    """The torchao configuration: the packings that stock torch has kernels for, and no change of the compiler's global settings."""
    from transformers import TorchAoConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao import quantization as ao

    if strategy.slug == "dynamic":
        return TorchAoConfig(ao.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    if strategy.slug == "fp8":
        return TorchAoConfig(ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow(), set_inductor_config=False))
    packed = {"group_size": INT4_GROUP, "int4_packing_format": "tile_packed_to_4d"}
    return TorchAoConfig(ao.Int4WeightOnlyConfig(**packed, set_inductor_config=False))
