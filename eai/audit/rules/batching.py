"""Requests that run one by one though they could share a batch: the largest waste there is."""

import ast
import re
from collections.abc import Iterator

from eai.audit.code import Code
from eai.audit.evidence import Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built

_BATCHED_NAME = re.compile(r"batch|chunk|loader|bucket|shard", re.IGNORECASE)
_FIX = "tokenize a list of prompts with padding=True, padding_side='left' and generate them together, for example 8 at a time"
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp)


def _names(node: ast.AST) -> set[str]:
    """The names read or bound anywhere in a node."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _source(loop: ast.AST) -> tuple[ast.AST, ast.AST] | None:
    """(target, iterable) of a for loop, comprehension or mapped lambda, None for a while loop."""
    if isinstance(loop, ast.Lambda):
        return loop.args, loop.args
    if isinstance(loop, ast.For | ast.AsyncFor):
        return loop.target, loop.iter
    return (loop.generators[0].target, loop.generators[0].iter) if isinstance(loop, _COMPREHENSIONS) else None


def _steps(iterable: ast.AST) -> bool:
    """Whether an iterable already hands out several items at a time: a range with a step, or something named after batches."""
    if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range" and len(iterable.args) == 3:
        return True
    return bool(_BATCHED_NAME.search(ast.unparse(iterable)))


def _tainted(body: ast.AST, seeds: set[str]) -> set[str]:
    """`seeds` and every name computed from them inside `body`."""
    tainted = set(seeds)
    flows = [flow for n in ast.walk(body) if (flow := _flow(n))]
    for _ in range(3):
        for sources, targets in flows:
            if sources & tainted:
                tainted |= targets
    return tainted


def _flow(node: ast.AST) -> tuple[set[str], set[str]] | None:
    """(names read, names changed) of an assignment, or of a method call as a statement: `chat.append(question)` changes chat."""
    if isinstance(node, ast.Assign):
        return _names(node.value), {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        arguments = set().union(*map(_names, node.value.args)) if node.value.args else set()
        return arguments, _names(node.value.func.value)
    return None


def _is_one_text(node: ast.AST, tainted: set[str]) -> bool:
    """Whether an expression is one item made from the loop's item: its name, a field of it, an f-string of it, or a list of just that."""
    if isinstance(node, ast.List):
        return len(node.elts) == 1 and _is_one_text(node.elts[0], tainted)
    one = isinstance(node, ast.Name | ast.Subscript | ast.JoinedStr | ast.BinOp | ast.Call)
    return one and bool(_names(node) & tainted) and not _BATCHED_NAME.search(ast.unparse(node))


def _tokenizes_one(body: ast.AST, tainted: set[str]) -> bool:
    """Whether `body` tokenizes a single text derived from the loop's item."""
    for node in ast.walk(body):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func).rpartition(".")[2].lower()
        if name in ("tokenizer", "tok", "processor", "encode", "encode_plus", "apply_chat_template") and _is_one_text(
            node.args[0], tainted
        ):
            return True
    return False


def _pipelines(code: Code) -> set[str]:
    """Names of transformers pipelines that generate text, and of vLLM engines."""
    made = [
        c
        for c in code.calls
        if c.last == "pipeline" and c in code.model_loads and c.args[:1] in (["text-generation"], ["text2text-generation"])
    ]
    return {name for c in made + code.engines if (name := code.assigned_name(c.node))}


def _generates_one(code: Code, call: Built, body: ast.AST, tainted: set[str], direct: set[str]) -> bool:
    """Whether a call generates for one item of the loop."""
    given = (
        set().union(*(_names(a) for a in [*call.node.args, *(k.value for k in call.node.keywords)]))
        if call.node.args or call.node.keywords
        else set()
    )
    if not given & tainted or "streamer" in call.kwargs:
        return False
    owner = call.name.rpartition(".")[0] if call.last == "generate" else call.name
    if owner in direct:
        return bool(call.node.args) and _is_one_text(call.node.args[0], tainted) and not _is_list(code, call.node.args[0])
    return call.last == "generate" and _tokenizes_one(body, tainted)


def _is_list(code: Code, node: ast.AST) -> bool:
    """Whether an expression is a name that the file binds to a list made of several items."""
    bound = [
        v for (_, name), all_bound in code.values.bound.items() if isinstance(node, ast.Name) and name == node.id for _, v in all_bound
    ]
    return any(isinstance(v, ast.ListComp) for v in bound)


def _single_prompt_helpers(code: Code, direct: set[str]) -> set[str]:
    """Functions of the file that tokenize one text they are given and generate for it."""
    helpers = set()
    for node in code.values.nodes:
        if isinstance(node, ast.FunctionDef):
            seeds = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} - {"self", "model", "tokenizer", "config", "args", "device"}
            tainted = _tainted(node, {s for s in seeds if not _BATCHED_NAME.search(s) and not s.endswith("s")})
            inside = [c for c in code.generations if code.function(c.node) is node and not code.loops_around(c.node)]
            if any(_generates_one(code, c, node, tainted, direct) for c in inside):
                helpers.add(node.name)
    return helpers


def _items(code: Code, iterable: ast.AST) -> int | None:
    """How many items the loop runs over where the file tells, else None."""
    value = code.values.resolve(iterable)
    if isinstance(value, Built) and value.name in ("enumerate", "tqdm", "zip", "list") and value.args:
        value = value.args[0]
    if isinstance(value, Built) and value.name == "range" and len(value.args) == 1 and isinstance(value.args[0], int):
        return value.args[0]
    return len(value) if isinstance(value, list) else None


@rule(
    "batch-1-loop",
    "python",
    "A loop that generates one prompt at a time",
    hit="""
from transformers import AutoModelForCausalLM
for prompt in prompts:
    inputs = tokenizer(prompt, return_tensors="pt")
    outputs.append(model.generate(**inputs, max_new_tokens=64))
""",
    miss="""
from transformers import AutoModelForCausalLM
for i in range(0, len(prompts), 8):
    inputs = tokenizer(prompts[i:i + 8], return_tensors="pt", padding=True)
    outputs.extend(model.generate(**inputs, max_new_tokens=64))
""",
)
def batch_1_loop(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """A decode step reads every weight whatever the batch size: at batch 1 one prompt pays for all of it. Loops over independent
    prompts can share
    a batch; interactive loops, streamed answers and calibration cannot and are left alone. Where the file trains, a look at a few
    samples is no waste to speak of: it is named without a number."""
    direct = _pipelines(code)
    if not direct and not code.generations:
        return
    helpers = _single_prompt_helpers(code, direct)
    candidates = [
        *code.generations,
        *(c for c in code.calls if c.name in direct or c.name in helpers or c.name.removeprefix("self.") in helpers),
    ]
    seen = set()
    for call in candidates:
        loops = [*code.loops_around(call.node), *_mapped(code, call.node)]
        loop = next((x for x in loops if _source(x) and _could_batch(code, call, x, direct, helpers)), None)
        if loop is not None and id(loop) not in seen:
            seen.add(id(loop))
            waste = None if code.trains else evidence.batch_1(_items(code, _source(loop)[1]))
            yield Hit(call.node.lineno, f"{call.name or 'generate'} runs for one prompt in each turn of a loop: batch 1", _FIX, waste)


def _mapped(code: Code, node: ast.AST) -> list[ast.Lambda]:
    """The lambda around a node that `.apply(...)` or `.map(...)` calls for each row."""
    around = next((a for a in code.values.ancestors(node) if isinstance(a, ast.Lambda)), None)
    call = code.values.parent.get(around) if around is not None else None
    is_row = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("apply", "map", "progress_apply")
    return [around] if is_row and not any(k.arg == "batched" for k in call.keywords) else []


def _could_batch(code: Code, call: Built, loop: ast.AST, direct: set[str], helpers: set[str]) -> bool:
    """Whether `call` works on one item in each turn of `loop`, and the turns do not need each other."""
    return _one_a_turn(code, call, loop, direct, helpers) and not _is_no_work(code, loop) and not _feeds_back(code, call, loop)


def _is_no_work(code: Code, loop: ast.AST) -> bool:
    """Whether a loop warms up, or collects calibration data: its samples pass one by one so that each is seen as it is."""
    return bool(re.search("calibrat|warm_?up", getattr(code.function(loop), "name", "") + ast.unparse(_source(loop)[1]), re.IGNORECASE))


def _feeds_back(code: Code, call: Built, loop: ast.AST) -> bool:
    """Whether what one turn generates goes into the next: a name that the prompt is made of and that the answer is added to.

    Only names that are bound before the loop count; one made anew in each turn cannot carry an answer over.
    """
    answer = code.assigned_name(call.node)
    if not answer or isinstance(loop, ast.Lambda):
        return False
    answers = _tainted(loop, {answer})
    changed = {n for node in ast.walk(loop) if isinstance(node, ast.Expr) and (f := _flow(node)) and f[0] & answers for n in f[1]}
    changed |= {n.target.id for n in ast.walk(loop) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
    made = {t.id for n in ast.walk(loop) if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    given = set().union(*(_names(a) for a in [*call.node.args, *(k.value for k in call.node.keywords)]), set())
    return any(given & _tainted(loop, {name}) for name in changed - made)


def _one_a_turn(code: Code, call: Built, loop: ast.AST, direct: set[str], helpers: set[str]) -> bool:
    """Whether `call` generates for one item in each of several turns of `loop`."""
    target, iterable = _source(loop)
    items = _items(code, iterable)
    if _steps(iterable) or _BATCHED_NAME.search(ast.unparse(target)) or (items is not None and items < 2):
        return False
    tainted = _tainted(loop, _names(target) | {n.arg for n in ast.walk(target) if isinstance(n, ast.arg)})
    if call.name.removeprefix("self.") in helpers:
        return any(_is_one_text(a, tainted) for a in call.node.args)
    return _generates_one(code, call, loop, tainted, direct)


def _is_text(code: Code, call: Built) -> bool:
    """Whether a call's first argument is one string: a constant, an f-string, a sum with a string, or a parameter annotated `str`."""
    given = call.node.args[0]
    if type(call.args[0]) is str or isinstance(given, ast.JoinedStr):
        return True
    if isinstance(given, ast.BinOp):
        return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in (given.left, given.right))
    spec = getattr(code.function(call.node), "args", None)
    typed = {a.arg for a in spec.args if a.annotation is not None and ast.unparse(a.annotation) == "str"} if spec else set()
    return isinstance(given, ast.Name) and given.id in typed


@rule(
    "batch-size-of-one-text",
    "python",
    "batch_size given, one text passed",
    hit="""
from transformers import pipeline
pipe = pipeline("text-generation", model="gpt2", batch_size=8)
print(pipe("Once upon a time"))
""",
    miss="""
from transformers import pipeline
pipe = pipeline("text-generation", model="gpt2", batch_size=8)
print(pipe(["Once upon", "a time"]))
""",
)
def batch_size_unused(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """batch_size groups the items of a list or dataset; one string is one item, so the batch stays 1."""
    sizes = {code.assigned_name(c.node): c.kwargs.get("batch_size") for c in code.model_loads if c.last == "pipeline"}
    for call in code.calls:
        size = call.kwargs.get("batch_size", sizes.get(call.name)) if call.name in sizes else None
        if isinstance(size, int) and size > 1 and call.name and call.args and _is_text(code, call):
            yield Hit(call.node.lineno, f"batch_size={size}, but one string is passed: the batch is 1", "pass a list of prompts")
