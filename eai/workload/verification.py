"""What was requested is what runs: module classes, data types and bytes, read from the loaded model itself.

A library that falls back in silence would be measured under the wrong name, so any difference is an error.
"""

from collections import Counter
from typing import Any

from eai.errors import UserError
from eai.strategies import Strategy


def _tensors(model: Any) -> dict[int, Any]:
    """Every stored tensor of the model once, by address: parameters, buffers, and the scales bitsandbytes keeps beside them."""
    found = {}
    for tensor in (*model.parameters(), *model.buffers()):
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
    """The linear layers inside the transformer blocks by name: every torch.nn.Linear but the language-model head."""
    import torch

    head = model.get_output_embeddings()
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head}


def _describe(module: Any) -> str:
    """What a linear layer is: class, stored type, and the settings that decide its arithmetic."""
    name, weight = type(module).__name__, module.weight
    if name == "Linear8bitLt":
        return f"Linear8bitLt({weight.dtype}, threshold {module.state.threshold:g})"
    if name == "Linear4bit":
        state = weight.quant_state
        return f"Linear4bit({state.quant_type}, double {bool(state.nested)}, compute {module.compute_dtype})"
    return f"{name}({weight.dtype})"


def _expected(strategy: Strategy, dtype: Any) -> str:
    """How every linear layer of the strategy must describe itself."""
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
