"""Find a model and load it under a strategy: safetensors only, and no code from a model repository unless asked."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from eai import catalog, footprint, strategies
from eai.errors import UserError
from eai.footprint import PUBLISHED_ONLY, CannotRun, Device, supports
from eai.settings import EMBEDDED_MODEL, Configuration
from eai.strategies import Strategy
from eai.workload import device, sources
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
    """Where `from_pretrained` finds the model: a folder, or a hub id such as `org/name@revision`; random weights need no more than its
    shapes. Raises UserError for a folder without safetensors (other formats can carry code), and for shapes that are not known."""
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
    the model's shapes. Raises CannotRun before anything is loaded, UserError if it cannot be loaded or another format came out."""
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
    dtype = rest_dtype(strategy, place)
    if weights == "published":
        loaded, tokenizer = _published(model, strategy, place, dtype, trust_remote_code)
    else:
        shapes = sources.config(model)
        quantizer = quantization_config(strategy, dtype)
        loaded, tokenizer = sources.build_random(shapes, weights, place, dtype, quantizer, seed).eval(), None
    if strategy.slug == "static":
        ids = passage_tokens(tokenizer)[-CALIBRATION_TOKENS:] if tokenizer else range(min(CALIBRATION_TOKENS, loaded.config.vocab_size))
        set_static(loaded, list(ids))
    report = verify(loaded, strategy, dtype)
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
        require_checkpoint(model, config, strategy)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **pinned)
        loaded = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            quantization_config=quantization_config(strategy, dtype),
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


def known_shapes(model: str) -> catalog.Model:
    """The model's shapes. Raises UserError where neither the catalog nor a configuration at hand tells them."""
    if found := shapes(model):
        return found
    raise UserError(f"the shapes of {model} are not known", "a model of data/catalog/models.csv", "add it there, or choose another")


def layer_errors(model: str, quantizations: Sequence[str], gpu: str = "cpu", weights: str = "published") -> Any:
    """How far each layer's output is from that of fp32 under each strategy, a row a strategy and layer (0: the embeddings, the last: after
    the final norm): |h - h_fp32| over |h_fp32|, Frobenius norms of the hidden states of the first CALIBRATION_TOKENS tokens of the prompt
    text, or of as many token ids where `weights` are random."""
    import pandas as pd
    import torch

    def states(quantization: str) -> list:
        loaded = load(model, quantization, gpu, weights)
        tokens = passage_tokens(loaded.tokenizer) if loaded.tokenizer else range(loaded.model.config.vocab_size)
        ids = torch.tensor([list(tokens)[:CALIBRATION_TOKENS]], device=loaded.device)
        with torch.inference_mode():
            found = loaded.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
        return [h.float().cpu() for h in found]

    exact, rows = states("fp32"), []
    for quantization in quantizations:
        for layer, (own, true) in enumerate(zip(states(quantization), exact, strict=True)):
            rows.append({"quantization": quantization, "layer": layer, "error": float((own - true).norm() / true.norm())})
        device.release()
    return pd.DataFrame(rows)


INT4_GROUP = 128
FEED_FORWARD = r"re:.*\.mlp\..*"
"""The linear layers of the feed-forward part by name, in the families that the catalog knows."""


def rest_dtype(strategy: Strategy, place: str) -> Any:
    """The dtype of what is not quantized. LLM.int8() computes in float16 on CUDA and bfloat16 on a CPU; torchao's INT8 leaves the rest in
    float32, but for `int8_ffn`; GPTQ and AWQ kernels take float16; every other format computes in bfloat16."""
    import torch

    if not strategy.is_quantized:
        return getattr(torch, strategy.stored)
    if strategy.other_bits == 32:
        return torch.float32
    half = strategy.slug in PUBLISHED_ONLY or (strategy.library == "bitsandbytes" and strategy.stored == "int8" and place != "cpu")
    return torch.float16 if half else torch.bfloat16


def quantization_config(strategy: Strategy, dtype: Any) -> Any:
    """What `from_pretrained` needs to quantize while it loads, or None if nothing is quantized or the checkpoint already is. None too for
    `static`, which is quantized after loading (`set_static`): its ranges come from running the model."""
    if strategy.library == "bitsandbytes":
        from transformers import BitsAndBytesConfig

        if strategy.stored == "int8":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=strategy.threshold)
        four = {"bnb_4bit_quant_type": strategy.stored, "bnb_4bit_use_double_quant": strategy.slug.endswith("_dq")}
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype, **four)
    return _torchao(strategy) if strategy.library == "torchao" and strategy.slug != "static" else None


def _torchao(strategy: Strategy) -> Any:
    """The packings that stock torch has kernels for, and no change of the compiler's global settings."""
    import torch
    from transformers import TorchAoConfig

    ao, keep = device.imported("torchao.quantization")[0], {"set_inductor_config": False}
    mapping = ao.MappingType.ASYMMETRIC if strategy.slug == "int8_wo_affine" else ao.MappingType.SYMMETRIC
    weights = {
        "dynamic": lambda: ao.Int8DynamicActivationInt8WeightConfig(**keep),
        "int8_ffn": lambda: ao.FqnToConfig({FEED_FORWARD: ao.Int8DynamicActivationInt8WeightConfig(**keep)}),
        **dict.fromkeys(("int8_wo", "int8_wo_affine"), lambda: ao.IntxWeightOnlyConfig(torch.int8, ao.PerAxis(0), mapping)),
        "fp8": lambda: ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow(), **keep),
        "int4_wo": lambda: ao.Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d", **keep),
    }
    return TorchAoConfig(weights[strategy.slug]())


def set_static(model: Any, ids: list[int]) -> None:
    """Quantize weights and activations of the blocks' linear layers to INT8, each layer's activation range fixed beforehand: the largest
    magnitude that it reads while `ids` run through the model once (calibration), symmetric. Weights have a scale a row, as under
    `dynamic`."""
    import torch

    largest, ao = sources.largest_inputs(model, [ids]), device.imported("torchao.quantization")[0]
    for name, layer in sources.linears(model).items():
        scale = torch.full((1, 1, 1), float(largest[name].max()) / 127, device=layer.weight.device)
        granularity = [ao.PerTensor(), ao.PerRow()]
        ao.quantize_(layer, ao.Int8StaticActivationInt8WeightConfig(scale, granularity=granularity, set_inductor_config=False))


def describe_quantization(quantization: dict) -> tuple[str, str, int | None]:
    """(method, the checkpoint's format in a few words: `gptq, 4 bit, group 128`, bits a weight). AWQ's own files say `w_bit`."""
    method = str(quantization.get("quant_method", "unknown")).lower()
    group = quantization.get("group_size", quantization.get("q_group_size"))
    bits = quantization.get("bits", quantization.get("w_bit"))
    bits = None if bits is None else int(bits)
    return method, f"{method}, {bits} bit" + (f", group {group}" if group is not None else ""), bits


def require_checkpoint(model: str, config: Any, strategy: Strategy) -> None:
    """Nothing, if the checkpoint is in the format that the strategy names. Raises UserError if a quantized checkpoint is asked for under
    another name (it would be measured as what it is not), or the other way round, or if it stores another number of bits."""
    found, asked = getattr(config, "quantization_config", None), f"asked for {strategy.slug}, but '{model}'"
    if found is None:
        if strategy.slug in PUBLISHED_ONLY:
            raise UserError(f"{asked} is not a quantized checkpoint", f"a {strategy.slug.upper()} checkpoint")
        return
    method, said, bits = describe_quantization(found if isinstance(found, dict) else found.to_dict())
    if method != strategy.slug:
        do = f"ask for {method}, or give the original model" if method in PUBLISHED_ONLY else "give the original model"
        raise UserError(f"{asked} is already quantized ({said})", "a checkpoint in 16 or 32 bit", do)
    if bits != strategy.weight_bits:
        raise UserError(f"{asked} says {said}", f"{strategy.weight_bits:g} bit", "give another one")


def _parts(tensor: Any) -> list[Any]:
    """What a tensor stores: itself, or codes and scales where it is one of torchao's wrappers, which store nothing under their own name."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [part for name in tensor.__tensor_flatten__()[0] for part in _parts(getattr(tensor, name))]


def _tensors(model: Any) -> dict[int, Any]:
    """Every stored tensor of the model once, by address: parameters, buffers, and the scales that the libraries keep beside them."""
    found = {}
    for tensor in (part for each in (*model.parameters(), *model.buffers()) for part in _parts(each)):
        state = getattr(tensor, "quant_state", None)
        nested = getattr(state, "state2", None)
        scales = [getattr(tensor, "SCB", None)]
        for each in (state, nested):
            scales += [getattr(each, name, None) for name in ("absmax", "code", "offset")]
        for each in (tensor, *scales):
            if hasattr(each, "data_ptr") and each.numel():
                found[each.data_ptr()] = each
    return found


def model_bytes(model: Any) -> int:
    """Bytes of all stored tensors, tied ones counted once."""
    return sum(t.numel() * t.element_size() for t in _tensors(model).values())


def _describe(module: Any) -> str:
    """What a linear layer is: class, stored type, and the settings that decide its arithmetic."""
    if hasattr(module, "qweight"):
        return f"qweight({module.qweight.dtype}, {module.bits} bit)"
    name, weight = type(module).__name__, module.weight
    if hasattr(weight, "qdata"):
        fixed, found = getattr(weight, "act_quant_scale", None), getattr(weight, "act_quant_kwargs", None)
        activations = "static" if fixed is not None else "dynamic" if found is not None else "unquantized"
        zero_point = getattr(weight, "zero_point", None)
        mapping = "affine" if zero_point is not None and bool(zero_point.any()) else "symmetric"
        return f"{name}({type(weight).__name__}, {weight.qdata.dtype}, {mapping}, {activations} activations)"
    if name == "Linear8bitLt":
        return f"Linear8bitLt({weight.dtype}, threshold {module.state.threshold:g})"
    if name == "Linear4bit":
        state = weight.quant_state
        return f"Linear4bit({state.quant_type}, double {bool(state.nested)}, compute {module.compute_dtype})"
    return f"{name}({weight.dtype})"


_TORCHAO = {
    "dynamic": "Linear(Int8Tensor, torch.int8, symmetric, dynamic activations)",
    "static": "Linear(Int8Tensor, torch.int8, symmetric, static activations)",
    "int8_wo": "Linear(IntxUnpackedToInt8Tensor, torch.int8, symmetric, unquantized activations)",
    "int8_wo_affine": "Linear(IntxUnpackedToInt8Tensor, torch.int8, affine, unquantized activations)",
    "fp8": "Linear(Float8Tensor, torch.float8_e4m3fn, symmetric, dynamic activations)",
    "int4_wo": "Linear(Int4TilePackedTo4dTensor, torch.int32, symmetric, unquantized activations)",
}


def _expected(strategy: Strategy, dtype: Any, name: str = "") -> str:
    """How the linear layer of this name must describe itself under the strategy."""
    if strategy.slug == "int8_ffn":
        return _TORCHAO["dynamic"] if re.fullmatch(FEED_FORWARD.removeprefix("re:"), name) else f"Linear({dtype})"
    if strategy.slug in _TORCHAO:
        return _TORCHAO[strategy.slug]
    if strategy.slug in PUBLISHED_ONLY:
        return f"qweight(torch.int32, {strategy.weight_bits:g} bit)"
    if strategy.stored == "int8":
        return f"Linear8bitLt(torch.int8, threshold {strategy.threshold:g})"
    if strategy.stored in ("nf4", "fp4"):
        return f"Linear4bit({strategy.stored}, double {strategy.slug.endswith('_dq')}, compute {dtype})"
    return f"Linear({dtype})"


def verify(model: Any, strategy: Strategy, dtype: Any) -> dict:
    """What runs: `{linears: {description: count}, dtypes: {dtype: tensors}, model_bytes}`. Raises UserError if any linear layer is not what
    the strategy says, or a float parameter has another dtype than requested."""
    found = {name: _describe(module) for name, module in sources.linears(model).items()}
    expected, kinds = {name: _expected(strategy, dtype, name) for name in found}, Counter(found.values())
    if found != expected:
        found = f"asked for {strategy.slug}, but the model has {dict(kinds)}"
        raise UserError(found, ", ".join(sorted(set(expected.values()))), "the strategy did not take effect: nothing was measured")
    others = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {str(dtype)}
    if others:
        raise UserError(f"asked for {strategy.slug}, but some parameters are {', '.join(sorted(others))}", str(dtype))
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in _tensors(model).values())
    return {"linears": dict(kinds), "dtypes": dict(dtypes), "model_bytes": model_bytes(model)}
