"""Models loaded again and again: in a loop, for each web request, in a function that a loop calls."""

import ast
from collections.abc import Iterator

from eai.audit import evidence as numbers
from eai.audit.bindings import UNKNOWN
from eai.audit.code import Code
from eai.audit.evidence import Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built


def _changing_names(loop: ast.AST) -> set[str]:
    """Names that may differ between the turns of a loop: its targets and whatever is bound inside it."""
    names = set()
    for node in ast.walk(loop):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def _same_each_turn(load: Built, loop: ast.AST) -> bool:
    """Whether a load's arguments cannot change between the turns of a loop, and the loop does not end after it."""
    changing = _changing_names(loop)
    used = {n.id for a in [*load.node.args, *(k.value for k in load.node.keywords)] for n in ast.walk(a) if isinstance(n, ast.Name)}
    used |= {n.attr for a in [*load.node.args, *(k.value for k in load.node.keywords)] for n in ast.walk(a) if isinstance(n, ast.Attribute)}
    owner = {n.id for n in ast.walk(load.node.func) if isinstance(n, ast.Name)}
    ends = any(isinstance(n, ast.Break | ast.Return) for n in ast.walk(loop))
    return not ((used | owner) & changing) and not ends


@rule(
    "model-reloaded-in-loop",
    "python",
    "The same model loaded in every turn of a loop",
    hit="""
from transformers import AutoModelForCausalLM
for prompt in prompts:
    model = AutoModelForCausalLM.from_pretrained("org/model")
    model.generate(**tokenizer(prompt))
""",
    miss="""
from transformers import AutoModelForCausalLM
for name in names:
    model = AutoModelForCausalLM.from_pretrained(name)
""",
)
def reloaded(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Reading the weights from disk takes longer than generating with them, at idle power; the loop only needs one copy."""
    if code.trains:
        return
    for load in (*code.model_loads, *code.engines):
        where = _repeated(code, load)
        if where:
            fix = "load the model once, before the loop or when the server starts"
            yield Hit(load.node.lineno, f"the model is loaded again {where}", fix, numbers.reload_each_time())


def _repeated(code: Code, load: Built) -> str:
    """In words, what loads the same model again and again to generate with it; empty if nothing does."""
    works = [c.node for c in code.generations] + [c.node for c in code.calls if c.name and c.name == code.assigned_name(load.node)]
    loop = next((x for x in code.loops_around(load.node) if isinstance(x, ast.For | ast.AsyncFor | ast.While)), None)
    if loop is not None:
        inside = _same_each_turn(load, loop) and any(loop in code.loops_around(node) for node in works)
        return "in each turn of the loop that generates" if inside else ""
    function = code.function(load.node)
    if code.is_option(load.node) or not _is_fixed(load) or not any(code.function(node) is function for node in works):
        return ""
    if code.is_handler(function):
        return "for each request"
    calls = [c for c in code.calls if c.name and c.name == getattr(function, "name", None)]
    return f"in each call of {function.name}, which a loop makes" if any(code.loops_around(c.node) for c in calls) else ""


def _is_fixed(load: Built) -> bool:
    """Whether a load names its model by a constant, so that each call of its function loads the same one."""
    names = [v for v in (*load.args, *load.kwargs.values()) if type(v) is str]
    return any("/" in name for name in names)


@rule(
    "request-unloads-model",
    "python",
    "Ollama asked to unload the model after each request",
    hit="""
import requests
for prompt in prompts:
    requests.post("http://localhost:11434/api/generate", json={"model": "llama3", "prompt": prompt, "keep_alive": 0})
""",
    miss="""
import requests
for prompt in prompts:
    requests.post("http://localhost:11434/api/generate", json={"model": "llama3", "prompt": prompt, "keep_alive": "5m"})
""",
)
def unloads(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """With a keep-alive of 0 the weights are read from disk again for every request of the loop."""
    for call in code.calls:
        body = call.kwargs.get("json") if isinstance(call.kwargs.get("json"), dict) else call.kwargs
        keep = body.get("keep_alive", UNKNOWN)
        if keep in (0, "0", "0s", "0m") and keep is not False and "prompt" in {*body} | {*_messages(body)} and code.loops_around(call.node):
            fix = "drop keep_alive, or give it the pause between requests"
            yield Hit(call.node.lineno, "the model is unloaded after each request of the loop", fix, numbers.reload_each_time())


def _messages(body: dict) -> set[str]:
    """`prompt` for a request that carries chat messages: it generates, where one without either only unloads."""
    return {"prompt"} if "messages" in body else set()
