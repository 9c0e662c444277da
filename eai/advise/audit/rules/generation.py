"""How text is generated: cache, precision, padding, length, compilation."""

import ast
from collections.abc import Iterator

from eai.advise.audit import evidence as numbers
from eai.advise.audit.code import Code
from eai.advise.audit.evidence import Evidence
from eai.advise.audit.finding import Hit, rule
from eai.advise.audit.values import UNKNOWN

_TYPICAL_TOKENS = 256
_SHORT_ANSWER = 8


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
    for call in code.generations:
        if call.kwargs.get("use_cache") is False:
            tokens = _new_tokens(call.kwargs)
            waste = numbers.no_cache(_TYPICAL_TOKENS if tokens is None else tokens)
            if waste is not None:
                length = f"{tokens} new tokens" if tokens else f"{_TYPICAL_TOKENS} new tokens assumed"
                yield Hit(call.node.lineno, f"generate with use_cache=False ({length})", "remove use_cache=False", waste)


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
        if dtype in ("float32", "torch.float32", "torch.float") and code.quantization_config(load) is None and code.on_gpu(load):
            yield Hit(load.node.lineno, "the model is loaded in float32 onto a GPU", "dtype=torch.bfloat16", numbers.fp32_weights())


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
        name = code.assigned_name(load.node) if load.last == "from_pretrained" else ""
        forward = next((c for c in code.calls if name and c.name == name), None)
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
    if code.trains or not code.generations:
        return
    functions = {id(code.function(c.node)) for c in code.generations}
    for call in code.calls:
        if call.kwargs.get("padding") == "max_length" and id(code.function(call.node)) in functions:
            yield Hit(call.node.lineno, 'padding="max_length" before generate', "padding=True pads to the longest prompt of the batch")


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


@rule(
    "more-tokens-than-used",
    "python",
    "Many tokens generated, a few characters used",
    hit="""
from transformers import AutoModelForCausalLM
out = model.generate(**inputs, max_new_tokens=512)
answer = tokenizer.decode(out[0]).strip()[0]
""",
    miss="""
from transformers import AutoModelForCausalLM
out = model.generate(**inputs, max_new_tokens=1)
answer = tokenizer.decode(out[0]).strip()[0]
""",
)
def more_than_used(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Each decoded token costs the same whether it is used or not. Where only the first letter or line of the answer is kept, a short
    limit or a stop
    string saves the rest; how much depends on where the model would have stopped."""
    for call in code.generations:
        tokens = _new_tokens(call.kwargs)
        if tokens is None or tokens <= _SHORT_ANSWER * 4 or {"stop_strings", "stopping_criteria"} & set(call.kwargs):
            continue
        use = next((n for n in ast.walk(code.function(call.node)) if _keeps_the_start(n) and n.lineno >= call.node.lineno), None)
        if use is not None:
            fix = "lower max_new_tokens to what is used, or give stop_strings and the tokenizer"
            yield Hit(call.node.lineno, f"max_new_tokens={tokens}, but line {use.lineno} keeps only the start of the answer", fix)


def _keeps_the_start(node: ast.AST) -> bool:
    """Whether an expression is the first character of a decoded, stripped text."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == 0):
        return False
    value = node.value
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr == "strip"
        and "decode" in ast.unparse(value)
    )


@rule(
    "no-compile",
    "python",
    "Fixed shapes, many turns, no compilation",
    hit="""
import torch
from transformers import AutoModelForCausalLM
model.generation_config.cache_implementation = "static"
for batch in batches:
    out = model(**batch)
""",
    miss="""
import torch
from transformers import AutoModelForCausalLM
model = torch.compile(model)
for batch in batches:
    out = model(**batch)
""",
)
def no_compile(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """A static KV cache fixes the shapes so that torch.compile can fuse kernels and capture CUDA graphs; without compilation it only
    holds more memory.
    What it saves depends on model and GPU: measure it."""
    if "compile" in code.unit.text or code.trains:
        return
    for node in code.values.nodes:
        if isinstance(node, ast.Constant) and node.value == "static" and "cache_implementation" in code.line(node.lineno):
            loops = [c for c in code.calls if (c.last == "generate" or c.name == "model") and code.loops_around(c.node)]
            if loops and not code.named("generate"):
                yield Hit(
                    node.lineno,
                    "a static cache without torch.compile",
                    "model.forward = torch.compile(model.forward, mode='reduce-overhead')",
                )
