"""How a strategy is asked of the libraries: whether it can run here, the dtype of what is not quantized, the configuration to load with."""

import re
from collections import Counter
from typing import Any

from eai.errors import UserError
from eai.footprint import PUBLISHED_ONLY
from eai.strategies import Strategy
from eai.workload import device

INT4_GROUP = 128
FEED_FORWARD = r"re:.*\.mlp\..*"
"""The linear layers of the feed-forward part by name, in the families that the catalog knows."""


def rest_dtype(strategy: Strategy, place: str) -> Any:
    """The dtype of what is not quantized. LLM.int8() computes in float16 on CUDA and bfloat16 on a CPU; torchao's INT8 leaves the rest in
    float32, but for `int8_ffn`, whose rest is the 16 bits of its attention; GPTQ and AWQ kernels take float16; every other format computes
    in bfloat16."""
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
    """The torchao configuration: the packings that stock torch has kernels for, and no change of the compiler's global settings."""
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
    """Quantize weights and activations of the blocks' linear layers to INT8, each layer's activation range fixed beforehand. The range is
    the largest magnitude that the layer reads while `ids` run through the model once (calibration), symmetric, one for the whole tensor;
    weights have a scale a row, as under `dynamic`, which finds a range anew for every token."""
    import torch

    largest: dict[str, float] = {}
    linears = _linears(model)

    def watch(name: str):
        def record(_, inputs):
            largest[name] = max(largest.get(name, 0.0), float(inputs[0].detach().abs().max()))

        return record

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in linears.items()]
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor([ids], device=next(model.parameters()).device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    ao = device.imported("torchao.quantization")[0]
    for name, layer in linears.items():
        scale = torch.full((1, 1, 1), largest[name] / 127, device=layer.weight.device)
        granularity = [ao.PerTensor(), ao.PerRow()]
        ao.quantize_(layer, ao.Int8StaticActivationInt8WeightConfig(scale, granularity=granularity, set_inductor_config=False))


# Checkpoints that come quantized (GPTQ, AWQ): what they say they are, checked against what was asked for before anything is loaded.


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


# What was requested is what runs: module classes, data types and bytes, read from the loaded model itself.
#
# A library that falls back in silence would be measured under the wrong name, so any difference is an error.


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


def _linears(model: Any) -> dict[str, Any]:
    """The linear layers inside the transformer blocks by name: every torch.nn.Linear but the head, and every GPTQ or AWQ layer."""
    import torch

    head = model.get_output_embeddings()
    named = ((name, module) for name, module in model.named_modules() if module is not head)
    return {name: module for name, module in named if isinstance(module, torch.nn.Linear) or hasattr(module, "qweight")}


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
    found = {name: _describe(module) for name, module in _linears(model).items()}
    expected, kinds = {name: _expected(strategy, dtype, name) for name in found}, Counter(found.values())
    if found != expected:
        found = f"asked for {strategy.slug}, but the model has {dict(kinds)}"
        raise UserError(found, ", ".join(sorted(set(expected.values()))), "the strategy did not take effect: nothing was measured")
    others = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {str(dtype)}
    if others:
        raise UserError(f"asked for {strategy.slug}, but some parameters are {', '.join(sorted(others))}", str(dtype))
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in _tensors(model).values())
    return {"linears": dict(kinds), "dtypes": dict(dtypes), "model_bytes": model_bytes(model)}
