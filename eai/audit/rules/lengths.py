"""What a generation is asked for and how often: more tokens than are used, the same small steps again and again."""

import ast
import re
from collections.abc import Iterator

from eai.audit.code import Code
from eai.audit.evidence import SMALL_PARAMS_B, Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built

_SHORT_ANSWER = 8


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
        given = _sampling(call)
        tokens = _new_tokens(given)
        if tokens is None or tokens <= _SHORT_ANSWER * 4 or {"stop", "stop_strings", "stopping_criteria"} & set(given):
            continue
        use = next((n for n in ast.walk(code.function(call.node)) if _keeps_the_start(n) and n.lineno >= call.node.lineno), None)
        if use is not None:
            fix = "lower max_new_tokens to what is used, or give stop_strings and the tokenizer"
            yield Hit(call.node.lineno, f"max_new_tokens={tokens}, but line {use.lineno} keeps only the start of the answer", fix)


def _new_tokens(given: dict) -> int | None:
    """max_new_tokens of transformers, max_tokens of vLLM, where the call tells it, else None."""
    value = given.get("max_new_tokens", given.get("max_tokens"))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sampling(call: Built) -> dict:
    """The keywords that decide a generation's length: its own and those of the configuration object it is given."""
    configs = [v for v in [*call.args, *call.kwargs.values()] if isinstance(v, Built) and v.last in ("SamplingParams", "GenerationConfig")]
    return {**(configs[0].kwargs if configs else {}), **call.kwargs}


def _keeps_the_start(node: ast.AST) -> bool:
    """Whether an expression is the first character, word or line of a generated text."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == 0):
        return False
    value = node.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "split":
        separator = value.args[0].value if value.args and isinstance(value.args[0], ast.Constant) else None
        if not value.args or separator in (" ", ".", "\n"):
            return True
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in ("strip", "split", "splitlines")
        and bool(re.search(r"decode|generated_text|outputs\[0\]\.text", ast.unparse(value)))
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
    A model of a few billion parameters that generates again and again decodes at the speed of kernel launches, which a static cache
    and compilation remove. What it saves depends on model and GPU: measure it."""
    if "compile" in code.unit.text or code.trains:
        return
    yield from _small_and_repeated(code)
    for node in code.values.nodes:
        if isinstance(node, ast.Constant) and node.value == "static" and "cache_implementation" in code.line(node.lineno):
            loops = [c for c in code.calls if (c.last == "generate" or c.name == "model") and code.loops_around(c.node)]
            if loops and not code.named("generate"):
                yield Hit(
                    node.lineno,
                    "a static cache without torch.compile",
                    "model.forward = torch.compile(model.forward, mode='reduce-overhead')",
                )


def _small_and_repeated(code: Code) -> Iterator[Hit]:
    """A small 16-bit model of transformers on a GPU that generates in a loop or for a web server's requests, once a file."""
    sizes = [code.params_b(x) for x in code.model_loads if x.last == "from_pretrained" and code.on_gpu(x) and not _is_quantized(code, x)]
    if not sizes or any(size is None or size > SMALL_PARAMS_B for size in sizes):
        return
    repeated = [c for c in code.generations if code.loops_around(c.node) or code.is_handler(code.function(c.node))]
    if repeated and not any("cache_implementation" in c.kwargs for c in code.generations):
        fix = "cache_implementation='static' in generate() compiles the decode step; measure it, prompts of many lengths compile again"
        yield Hit(repeated[0].node.lineno, "a small model generates again and again without torch.compile", fix)


def _is_quantized(code: Code, load: Built) -> bool:
    """Whether a model is loaded in 8 or 4 bit."""
    flags = (load.kwargs.get("load_in_8bit"), load.kwargs.get("load_in_4bit"))
    return "quantization_config" in load.kwargs or any(f not in (None, False) for f in flags)
