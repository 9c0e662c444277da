"""Find a model and load it under a strategy: safetensors only, and no code from a model repository unless asked."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from eai import catalog, footprint, strategies
from eai.errors import UserError
from eai.footprint import CannotRun, Device, supports
from eai.settings import EMBEDDED_MODEL, Configuration
from eai.workload import device, formats, sources
from eai.workload.device import torch_device

CALIBRATION_TOKENS = 256
"""Tokens at the end of the prompt text that fix the activation ranges of `static`; prompts are cut from its beginning on."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate: `report` says what was verified to run, `model_bytes` what its tensors occupy. `tokenizer` is None with
    random weights, whose prompts are token ids drawn from `seed`."""

    model: Any
    tokenizer: Any
    strategy: strategies.Strategy
    device: str
    model_bytes: int
    context_tokens: int | None
    report: dict = field(default_factory=dict)
    seed: int = 0


def locate(model: str, weights: str = "published") -> str:
    """Where `from_pretrained` finds the model: a folder, or a hub id; random weights need no more than its shapes. `org/name@revision` is a
    branch, tag or commit of the hub's repository. Raises UserError for a folder without safetensors (other formats can carry code), and for
    shapes that are not known."""
    if weights != "published":
        sources.config(model)
        return model
    if model == EMBEDDED_MODEL:
        return str(sources.embedded_folder())
    directory = Path(model).expanduser()
    if directory.is_dir():
        if not any(directory.glob("*.safetensors")):
            do = "convert them; pickled weights are not loaded"
            raise UserError(f"{directory} holds no .safetensors file", "weights as safetensors", do)
        return str(directory)
    if model.startswith(("/", "./", "../", "~")):
        raise UserError(f"{model} is not a folder", "a model folder or a hub id such as org/name", "check the path")
    return model


def passage_tokens(tokenizer: Any) -> list[int]:
    """The token ids of the prompt text. Raises UserError if the tokenizer makes nothing of it."""
    ids = tokenizer(files("eai.workload").joinpath("passage.txt").read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    if len(ids) < 2:
        raise UserError("the tokenizer turned the prompt text into fewer than two tokens", "a tokenizer for written language")
    return ids


def here(gpu: str) -> Device:
    """The device that a gpu slug means on this machine, with the memory that is free now. Raises UserError without a CUDA device."""
    place = torch_device(gpu)
    if place == "cpu":
        return Device("this machine", is_cpu=True, memory_gb=device.free_gb("cpu"))
    import torch

    major, minor = torch.cuda.get_device_capability(place)
    return Device(f"this GPU ({place})", capability=major + minor / 10, memory_gb=device.free_gb(place))


def refusal(c: Configuration, shapes: catalog.Model | None = None) -> CannotRun | None:
    """CannotRun for a configuration that certainly cannot run here, else None; without `shapes` the strategy alone is judged."""
    kv_cache = c.options.get("kv_cache", True)
    found = supports(c.quantization, here(c.gpu), c.weights, shapes, c.batch_size, c.input_tokens, c.output_tokens, kv_cache)
    return CannotRun(found) if found else None


def load(
    model: str, quantization: str, gpu: str, weights: str = "published", trust_remote_code: bool = False, seed: int = 0
) -> LoadedModel:
    """Load `model` under `quantization` on `gpu` and verify that what was asked for is what runs. Random weights are made from `seed` in
    the model's shapes and need no tokenizer. Raises CannotRun before anything is loaded, UserError if the model cannot be loaded or another
    format came out than was requested."""
    if found := supports(quantization, here(gpu), weights):
        raise CannotRun(found)
    strategy, place = strategies.get(quantization), torch_device(gpu)
    transformers = device.imported("transformers", "transformers.quantizers.auto")[0]  # they warn of extensions for other hardware
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # and log once a layer; errors still show
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if place != "cpu":  # TF32 where the strategy is tf32 alone: torch's default differs between releases
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = strategy.slug == "tf32"
    dtype = formats.rest_dtype(strategy, place)
    if weights == "published":
        loaded, tokenizer = _published(model, strategy, place, dtype, trust_remote_code)
    else:
        shapes = sources.config(model)
        quantizer = formats.quantization_config(strategy, dtype)
        loaded, tokenizer = sources.build_random(shapes, weights, place, dtype, quantizer, seed).eval(), None
    if strategy.slug == "static":
        ids = passage_tokens(tokenizer)[-CALIBRATION_TOKENS:] if tokenizer else range(min(CALIBRATION_TOKENS, loaded.config.vocab_size))
        formats.set_static(loaded, list(ids))
    report = formats.verify(loaded, strategy, dtype)
    if weights == "random_outliers":
        ids = np.random.default_rng(seed).integers(loaded.get_input_embeddings().weight.shape[0], size=(8, 1)).tolist()
        report["outlier_shares"] = sources.outlier_shares(loaded, ids)  # as a decode step sees them
        if not any(report["outlier_shares"].values()):
            wanted = f"magnitudes of {sources.THRESHOLD:g} and more"
            raise UserError("the planted outlier channels do not reach the projections", wanted)
    return LoadedModel(loaded, tokenizer, strategy, place, report["model_bytes"], sources.context_tokens(loaded.config), report, seed)


def _published(model: str, strategy: strategies.Strategy, device: str, dtype: Any, trust_remote_code: bool) -> tuple[Any, Any]:
    """(model, tokenizer) of published weights; the checkpoint's own format is checked before its weights are read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source, pinned = sources.at_revision(locate(model))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, **pinned)
        formats.require_checkpoint(model, config, strategy)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **pinned)
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            quantization_config=formats.quantization_config(strategy, dtype),
            **pinned,
        ).eval()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise UserError(f"cannot load '{model}' ({first})", "a hub id that can be reached, or a folder with safetensors") from error
    for parameter in loaded.parameters():  # out of the memory-mapped file, whose pages the kernel may take back during a measurement
        if parameter.device.type == "cpu" and type(parameter) is torch.nn.Parameter:
            parameter.data = parameter.data.clone()
    return loaded, tokenizer


def shapes(model: str, config: Any = None) -> catalog.Model | None:
    """The model's shapes from the catalog, else from its configuration; None where the family's layout is not known."""
    try:
        return catalog.model(model)
    except UserError:
        pass
    try:
        return footprint.from_config((config or sources.config(model)).to_dict(), model)
    except (UserError, KeyError, ZeroDivisionError):
        return None


def layer_errors(model: str, quantizations: Sequence[str], gpu: str = "cpu") -> Any:
    """How far each layer's output is from that of fp32 under each strategy: a table with one row a strategy and layer. Columns:
    quantization, layer (0: the embeddings, the last: after the final norm) and error, |h - h_fp32| over |h_fp32|: Frobenius norms of the
    hidden states of the first CALIBRATION_TOKENS tokens of the prompt text. Raises CannotRun and UserError as `load`."""
    import pandas as pd
    import torch

    def states(quantization: str) -> list:
        loaded = load(model, quantization, gpu)
        ids = torch.tensor([passage_tokens(loaded.tokenizer)[:CALIBRATION_TOKENS]], device=loaded.device)
        with torch.inference_mode():
            found = loaded.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        return [h.float().cpu() for h in found]

    exact, rows = states("fp32"), []
    for quantization in quantizations:
        for layer, (own, true) in enumerate(zip(states(quantization), exact, strict=True)):
            rows.append({"quantization": quantization, "layer": layer, "error": float((own - true).norm() / true.norm())})
        device.release()
    return pd.DataFrame(rows)
