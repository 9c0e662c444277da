"""Find a model and load it under a strategy: safetensors only, and no code from a model repository unless asked."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eai import strategies
from eai.errors import UserError
from eai.settings import EMBEDDED_MODEL
from eai.workload import embedded, verification
from eai.workload.device import torch_device


class Unsupported(UserError):
    """A strategy that cannot run here: becomes a row with status `unsupported`, and the sweep goes on."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate: `report` says what was verified to run, `model_bytes` what its tensors occupy."""

    model: Any
    tokenizer: Any
    strategy: strategies.Strategy
    device: str
    model_bytes: int
    context_tokens: int | None
    report: dict = field(default_factory=dict)


def locate(model: str) -> str:
    """Where `from_pretrained` finds the model: a folder, or a hub id.

    Raises UserError for a folder without safetensors: other formats can carry code.
    """
    if model == EMBEDDED_MODEL:
        return str(embedded.folder())
    directory = Path(model).expanduser()
    if directory.is_dir():
        if not any(directory.glob("*.safetensors")):
            raise UserError(
                f"{directory} holds no .safetensors file", "weights as safetensors", "convert them; pickled weights are not loaded"
            )
        return str(directory)
    if model.startswith(("/", "./", "../", "~")):
        raise UserError(f"{model} is not a folder", "a model folder or a hub id such as org/name", "check the path")
    return model


def unsupported_reason(strategy: strategies.Strategy, device: str, weights: str) -> str | None:
    """Why the strategy cannot run on this device with these weights, or None if it can; nothing is loaded to find out."""
    if weights != "published":
        return f"{weights} weights cannot be built by this version"
    if strategy.library not in ("torch", "bitsandbytes"):
        return f"{strategy.slug} needs {strategy.library}, which this version does not load"
    if device == "cpu":
        return None if strategy.on_cpu else f"{strategy.slug} needs a CUDA device"
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    capability = major + minor / 10
    if strategy.min_capability and capability < strategy.min_capability:
        return f"{strategy.slug} needs compute capability {strategy.min_capability}, this GPU has {capability}"
    return None


def _dtype(strategy: strategies.Strategy, device: str) -> Any:
    """The dtype of what is not quantized: LLM.int8() computes in float16 on CUDA and bfloat16 on a CPU, NF4 and FP4 in bfloat16."""
    import torch

    if not strategy.is_quantized:
        return getattr(torch, strategy.stored)
    return torch.float16 if strategy.stored == "int8" and device != "cpu" else torch.bfloat16


def _quantization_config(strategy: strategies.Strategy, dtype: Any) -> Any:
    """The bitsandbytes configuration of a strategy, or None if nothing is quantized."""
    from transformers import BitsAndBytesConfig

    if strategy.stored == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=strategy.threshold)
    if strategy.stored in ("nf4", "fp4"):
        double = strategy.slug.endswith("_dq")
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=strategy.stored, bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=dtype
        )
    return None


def _quiet() -> None:
    """Silence what would be logged once per layer and step, or is drawn on a terminal; errors still show."""
    import transformers

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _set_precision(strategy: strategies.Strategy, device: str) -> None:
    """Let float32 products use TF32 only where the strategy is tf32: torch's default differs between releases."""
    if device != "cpu":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = strategy.slug == "tf32"
        torch.backends.cudnn.allow_tf32 = strategy.slug == "tf32"


def _own_memory(model: Any) -> None:
    """Copy float parameters out of the memory-mapped file, whose pages the kernel may take back during a measurement."""
    import torch

    for parameter in model.parameters():
        if parameter.device.type == "cpu" and type(parameter) is torch.nn.Parameter:
            parameter.data = parameter.data.clone()


def load(model: str, quantization: str, gpu: str, weights: str = "published", trust_remote_code: bool = False) -> LoadedModel:
    """Load `model` under `quantization` on `gpu` and verify that what was asked for is what runs.

    Raises Unsupported before anything is loaded, UserError if the model cannot be had or another format came out than was requested.
    """
    strategy, device = strategies.get(quantization), torch_device(gpu)
    if reason := unsupported_reason(strategy, device, weights):
        raise Unsupported(reason)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _quiet()
    _set_precision(strategy, device)
    dtype, source = _dtype(strategy, device), locate(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            quantization_config=_quantization_config(strategy, dtype),
        ).eval()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise UserError(f"cannot load '{model}' ({first})", "a hub id that can be reached, or a folder with safetensors") from error
    _own_memory(loaded)
    report = verification.verify(loaded, strategy, dtype)
    context = getattr(loaded.config, "max_position_embeddings", None)
    return LoadedModel(loaded, tokenizer, strategy, device, report["model_bytes"], context, report)
