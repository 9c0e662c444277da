"""How text is generated: cache, precision, gradients, padding, attention."""

import ast
import re
from collections.abc import Iterator

from eai.audit import evidence as numbers
from eai.audit.bindings import UNKNOWN
from eai.audit.code import Code
from eai.audit.evidence import Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built

_TYPICAL_TOKENS = 256
_NOT_TORCH = re.compile(r"(^|\.)(OV|ORT|TF|Flax|Neuron|RKNN)\w*\.from_pretrained$")
_MODULE_METHODS = ("forward", "compute_loss", "training_step")


def _new_tokens(kwargs: dict) -> int | None:
    """max_new_tokens where the call tells it, else None."""
    value = kwargs.get("max_new_tokens")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@rule(
    "kv-cache-off",
    "python",
    "Generation without the KV cache",
    hit="""
from transformers import AutoModelForCausalLM
model.generate(**inputs, use_cache=False, max_new_tokens=200)
""",
    miss="""
from transformers import AutoModelForCausalLM
logits = model(**inputs, use_cache=False).logits
""",
)
def cache_off(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Without the cache every new token reads the whole context again. A single forward pass needs no cache and is left alone."""
    if code.trains:
        return
    for line in _settings_off(code):
        yield Hit(line, "config.use_cache = False, and the file generates", "leave use_cache at True", numbers.no_cache())
    for call in code.generations:
        config = call.kwargs.get("generation_config")
        given = {**config.kwargs, **call.kwargs} if isinstance(config, Built) else call.kwargs
        if given.get("use_cache") is False:
            tokens = _new_tokens(given)
            waste = numbers.no_cache(_TYPICAL_TOKENS if tokens is None else tokens)
            if waste is not None:
                length = f"{tokens} new tokens" if tokens else f"{_TYPICAL_TOKENS} new tokens assumed"
                yield Hit(call.node.lineno, f"generate with use_cache=False ({length})", "remove use_cache=False", waste)


def _settings_off(code: Code) -> Iterator[int]:
    """Lines that switch the cache of a model loaded here off, `model.config.use_cache = False`, where the file then generates."""
    models = {code.assigned_name(load.node) for load in code.model_loads} - {""}
    for (_, name), bound in code.values.bound.items():
        owner, _, setting = name.rpartition(".")
        model, _, config = owner.rpartition(".")
        if setting == "use_cache" and model in models and config in ("config", "generation_config") and code.generations:
            values = [v.value if isinstance(v, ast.Constant) else None for _, v in bound]
            if values and all(v is False for v in values) and not code.is_option(bound[0][0]):
                yield bound[0][0].lineno


@rule(
    "fp32-on-gpu",
    "python",
    "FP32 weights on a GPU",
    hit="""
import torch
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", dtype=torch.float32, device_map="cuda")
""",
    miss="""
import torch
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", dtype=torch.float32)
""",
)
def fp32_on_gpu(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Decoding is bound by the bytes of the weights; FP32 moves twice those of FP16 or BF16 for answers that are seldom better."""
    if code.trains:
        return
    for load in code.model_loads:
        dtype = next((load.kwargs[k] for k in ("dtype", "torch_dtype") if k in load.kwargs), UNKNOWN)
        is_fp32 = dtype in ("float32", "torch.float32", "torch.float") or _is_raised(code, load)
        if is_fp32 and code.quantization_config(load) is None and code.on_gpu(load):
            open_ = code.is_option(load.node) or code.is_left_to_callers(load.node, ("dtype", "torch_dtype"))
            waste = None if open_ else numbers.fp32_weights()
            yield Hit(load.node.lineno, "the model is loaded in float32 onto a GPU", "dtype=torch.bfloat16", waste)


def _is_raised(code: Code, load: Built) -> bool:
    """Whether a loaded model is made float32 in the same chain of calls: `from_pretrained(...).float()` or `.to(torch.float32)`."""
    for a in code.values.ancestors(load.node):
        if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute):
            to_fp32 = a.func.attr == "to" and any(ast.unparse(x) in ("torch.float32", "torch.float") for x in a.args)
            if to_fp32 or (a.func.attr == "float" and not a.args):
                return True
        elif not isinstance(a, ast.Attribute):
            return False
    return False


@rule(
    "no-inference-mode",
    "python",
    "Forward passes that record gradients",
    hit="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y")
out = m(**inputs)
""",
    miss="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y")
with torch.inference_mode():
    out = m(**inputs)
""",
)
def no_inference_mode(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Outside no_grad every activation is kept for a backward pass that never comes: memory that a larger batch could use. generate()
    switches
    gradients off itself."""
    quiet = ("no_grad", "inference_mode", "set_grad_enabled", "requires_grad_", "grad")
    if code.trains or any(q in code.unit.text for q in quiet):
        return
    for load in code.model_loads:
        is_torch = load.last == "from_pretrained" and not _NOT_TORCH.search(load.name)
        name = code.assigned_name(load.node) if is_torch else ""
        calls = (c for c in code.calls if name and c.name == name)
        forward = next((c for c in calls if getattr(code.function(c.node), "name", "") not in _MODULE_METHODS), None)
        if forward is not None:
            yield Hit(forward.node.lineno, f"{name}(...) runs outside torch.inference_mode()", "with torch.inference_mode(): ...")
            return


@rule(
    "pad-to-max-length",
    "python",
    "Prompts padded to the maximum length",
    hit="""
from transformers import AutoTokenizer
inputs = tokenizer(prompts, padding="max_length", max_length=2048)
model.generate(**inputs)
""",
    miss="""
from transformers import AutoTokenizer
inputs = tokenizer(prompts, padding=True)
model.generate(**inputs)
""",
)
def pad_to_max(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Padding tokens are read and attended to like real ones; padding to the longest prompt of the batch is enough for generation."""
    if code.trains or "CLIP" in code.unit.text:  # CLIP's text encoder takes 77 tokens, no fewer
        return
    forwards = [c for c in code.calls if c.name and c.name in code.model_names]
    functions = {id(code.function(c.node)) for c in (*code.generations, *forwards)}
    for call in code.calls:
        padded = call.kwargs.get("padding") == "max_length" or call.kwargs.get("pad_to_max_length") is True
        if padded and id(code.function(call.node)) in functions:
            yield Hit(call.node.lineno, "prompts are padded to max_length", "padding=True pads to the longest prompt of the batch")


@rule(
    "eager-attention",
    "python",
    "Eager attention",
    hit="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", attn_implementation="eager")
m.generate(**i)
""",
    miss="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", attn_implementation="sdpa")
m.generate(**i)
""",
)
def eager_attention(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Eager attention writes the score matrix to memory and reads it back; fused kernels do not. It is needed only to look at
    attention weights."""
    if code.trains or "output_attentions" in code.unit.text:
        return
    for load in code.model_loads:
        if load.kwargs.get("attn_implementation") == "eager" and code.generations:
            yield Hit(load.node.lineno, 'attn_implementation="eager"', 'attn_implementation="sdpa" or "flash_attention_2"')
