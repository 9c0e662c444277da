"""What was requested is what runs: module classes, data types and bytes, read from the loaded model itself.

A library that falls back in silence would be measured under the wrong name, so any difference is an error.
"""

from collections import Counter
from typing import Any

from eai.errors import UserError
from eai.strategies import Strategy
from eai.workload.formats import PUBLISHED_ONLY


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
        dynamic = getattr(weight, "act_quant_kwargs", None) is not None
        return f"{name}({type(weight).__name__}, {weight.qdata.dtype}, dynamic activations {dynamic})"
    if name == "Linear8bitLt":
        return f"Linear8bitLt({weight.dtype}, threshold {module.state.threshold:g})"
    if name == "Linear4bit":
        state = weight.quant_state
        return f"Linear4bit({state.quant_type}, double {bool(state.nested)}, compute {module.compute_dtype})"
    return f"{name}({weight.dtype})"


_TORCHAO = {
    "dynamic": "Linear(Int8Tensor, torch.int8, dynamic activations True)",
    "fp8": "Linear(Float8Tensor, torch.float8_e4m3fn, dynamic activations True)",
    "int4_wo": "Linear(Int4TilePackedTo4dTensor, torch.int32, dynamic activations False)",
}


def _expected(strategy: Strategy, dtype: Any) -> str:
    """How every linear layer of the strategy must describe itself."""
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
    """What runs: `{linears: {description: count}, dtypes: {dtype: tensors}, model_bytes}`.

    Raises UserError if any linear layer is not what the strategy says, or a float parameter has another dtype than requested.
    """
    kinds = Counter(_describe(module) for module in _linears(model).values())
    expected = _expected(strategy, dtype)
    if set(kinds) != {expected}:
        raise UserError(
            f"asked for {strategy.slug}, but the model has {dict(kinds)}",
            expected,
            "the strategy did not take effect: nothing was measured",
        )
    others = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {str(dtype)}
    if others:
        raise UserError(f"asked for {strategy.slug}, but some parameters are {', '.join(sorted(others))}", str(dtype))
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in _tensors(model).values())
    return {"linears": dict(kinds), "dtypes": dict(dtypes), "model_bytes": model_bytes(model)}
