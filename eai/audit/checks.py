"""Checks of Python code that no single option shows: prompts one by one, models loaded again, tokens nobody uses, and energy, time and
tokens measured wrongly.

A check is a function from a parsed file and the evidence to hits; its rule in `rules/` holds title, reason, message, fix and examples.
"""

import ast
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eai.audit import evidence as wastes
from eai.audit.code import Code, body, configured, task_of
from eai.audit.evidence import FIGURE, SMALL_PARAMS_B, Evidence, Waste, slow_sampling
from eai.audit.subjects import WORDS, Subject
from eai.audit.values import FUNCTIONS, Built, Symbol

_SHORT_ANSWER = 8


@dataclass(frozen=True)
class Hit:
    """What a check returns: the line, what the rule's message needs to know, and the expected waste (None: no number is known)."""

    line: int
    values: dict[str, object] = field(default_factory=dict)
    waste: Waste | None = None


CHECKS: dict[str, Callable[[Code, Evidence], Iterator[Hit]]] = {}


def check(slug: str):
    """Decorator that registers a function as the check of the rule `slug`."""
    return lambda function: CHECKS.setdefault(slug, function)


def given(call: Built) -> list[ast.AST]:
    """The expressions that a call is given."""
    return [*call.node.args, *(k.value for k in call.node.keywords)]


def _names(*nodes: ast.AST) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _tokenized(inside: ast.AST) -> list[ast.AST]:
    """What is given to a tokenizer inside a node."""
    calls = (n for n in ast.walk(inside) if isinstance(n, ast.Call) and n.args)
    return [n.args[0] for n in calls if ast.unparse(n.func).rpartition(".")[2].lower() in WORDS.tokenizers]


def source_of(loop: ast.AST) -> tuple[ast.AST, ast.AST] | None:
    """(target, iterable) of a for loop, comprehension or mapped lambda, None for a while loop."""
    if isinstance(loop, ast.Lambda):
        return loop.args, loop.args
    each = loop.generators[0] if hasattr(loop, "generators") else loop
    return None if isinstance(each, ast.While) else (each.target, each.iter)


def _flow(node: ast.AST) -> tuple[set[str], set[str]] | None:
    """(names read, names changed) of an assignment, or of a method call as a statement: `chat.append(question)` changes chat."""
    if isinstance(node, ast.Assign):
        return _names(node.value), _names(*node.targets)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        return _names(*node.value.args), _names(node.value.func.value)
    return None


def _tainted(inside: ast.AST, seeds: set[str]) -> set[str]:
    """`seeds` and every name computed from them inside a node."""
    tainted = set(seeds)
    flows = [flow for n in ast.walk(inside) if (flow := _flow(n))]
    for _ in range(3):
        for sources, targets in flows:
            tainted |= targets if sources & tainted else set()
    return tainted


def _is_one_text(node: ast.AST, tainted: set[str]) -> bool:
    """Whether an expression is one item made from the loop's item: its name, a field of it, an f-string of it, a conversation with it."""
    if isinstance(node, ast.List):
        is_chat = bool(node.elts) and all(isinstance(e, ast.Dict) for e in node.elts) and "role" in ast.unparse(node)
        return (is_chat and bool(_names(node) & tainted)) or (len(node.elts) == 1 and _is_one_text(node.elts[0], tainted))
    one = isinstance(node, ast.Name | ast.Subscript | ast.JoinedStr | ast.BinOp | ast.Call | ast.Attribute | ast.Dict)
    return one and bool(_names(node) & tainted) and not WORDS.batched.search(ast.unparse(node))


def _generates_one(code: Code, call: Built, inside: ast.AST, tainted: set[str]) -> bool:
    """Whether a call generates for one item of the loop, or of the function, that it stands in."""
    if not _names(*given(call)) & tainted or {"streamer", "request_id"} & set(call.kwargs):  # an asynchronous engine batches by itself
        return False
    if not code.is_prompted(call):
        return call.last == "generate" and any(_is_one_text(text, tainted) for text in _tokenized(inside))
    first = next(iter([*call.node.args, *(k.value for k in call.node.keywords if k.arg in WORDS.prompt_keywords)]), None)
    return first is not None and _is_one_text(first, tainted) and not _is_list(code, first)


def _is_list(code: Code, node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and any(isinstance(v, ast.ListComp) for v in code.bound[node.id])


def _single_prompt_helpers(code: Code) -> dict[str, bool]:
    """Functions of the file, of a name of their own, that generate for one text they are given: whether by more than one token."""
    helpers: dict[str, list[list[Built]]] = {}
    for node in code.nodes(*FUNCTIONS):
        seeds = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} - set(WORDS.no_prompts)
        tainted = _tainted(node, {s for s in seeds if (not WORDS.batched.search(s) and not s.endswith("s")) or s == "messages"})
        inside = [c for c in code.generations_in.get(node, ()) if not code.loops_around(c.node)]
        helpers.setdefault(node.name, []).append([c for c in inside if _generates_one(code, c, node, tainted)])
    alone = {name: [c.kwargs.get("max_new_tokens") for calls in every for c in calls] for name, every in helpers.items() if all(every)}
    return {name: any(n != 1 for n in tokens) for name, tokens in alone.items()}


def _items(code: Code, iterable: ast.AST) -> int | None:
    value = code.values.resolve(iterable)
    if isinstance(value, Built) and value.name in ("enumerate", "tqdm", "zip", "list") and value.args:
        value = value.args[0]
    if isinstance(value, Built) and value.name == "range" and len(value.args) == 1 and isinstance(value.args[0], int):
        return value.args[0]
    return len(value) if isinstance(value, list) else None


def _subject(code: Code) -> Subject:
    """The file's one model and card, for the evidence."""
    names = {s.model for s in code.subjects if s.place in ("load", "engine") and s.model}
    return Subject("load", "", 1, facts={"gpu": code.facts["gpu"]} | ({"model": names.pop()} if len(names) == 1 else {}))


@check("batch-1-loop")
def batch_1_loop(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops over independent prompts that generate one at a time."""
    helpers = _single_prompt_helpers(code) if code.generations else {}
    seen = set()
    for call in [*code.generations, *(c for c in code.calls if c.name.removeprefix("self.") in helpers)]:
        loops = [*code.loops_around(call.node), *_mapped(code, call.node)]
        loop = next((x for x in loops if source_of(x) and _could_batch(code, call, x, helpers)), None)
        if loop is not None and id(loop) not in seen:
            seen.add(id(loop))
            is_open = code.trains or code.is_in_branch(loop) or bool(WORDS.other_media.search(code.unit.text)) or _measures(code, loop)
            is_decoding = helpers.get(call.name.removeprefix("self."), call.kwargs.get("max_new_tokens") != 1)
            waste = evidence.batch_1(_items(code, source_of(loop)[1]), _subject(code)) if is_decoding and not is_open else None
            yield Hit(call.node.lineno, {"call": call.name or "generate"}, waste)
    pipes = {code.assigned_name(c.node): c for c in code.model_loads if c.last == "pipeline" and task_of(c) in WORDS.text_tasks}
    for call in code.calls if not code.trains else ():
        made = pipes.get(call.name) if call.name and call.args else None
        is_one = made and call.kwargs.get("batch_size", made.kwargs.get("batch_size", 1)) == 1 and not made.is_open | call.is_open
        if is_one and _are_many(code, call.node.args[0]):
            what = f"{call.name} with batch_size 1, which is its default,"
            yield Hit(call.node.lineno, {"call": what}, evidence.batch_1(None, _subject(code)))
    for call in _given_to_rows(code, helpers):
        is_decoding = helpers[str(call.args[0])] and not code.trains and not code.is_in_branch(call.node)
        yield Hit(call.node.lineno, {"call": str(call.args[0])}, evidence.batch_1(None, _subject(code)) if is_decoding else None)


def _are_many(code: Code, node: ast.AST) -> bool:
    """Whether an expression is several texts: a list or comprehension of them, a dataset's column, a name in the plural."""
    match node:
        case ast.List(elts=elements):
            return len(elements) > 3 and not any(isinstance(e, ast.Dict) for e in elements)
        case ast.ListComp(elt=element):
            return not isinstance(element, ast.Dict)
        case ast.Subscript(slice=ast.Constant(value=str()), value=base):
            return re.search(r"(^|_)(dataset|ds|df|data)$", ast.unparse(base)) is not None
        case ast.Call(func=function):
            return ast.unparse(function).endswith(("KeyDataset", ".tolist"))
        case ast.Name(id=name):
            return WORDS.plural.match(name) is not None or _is_list(code, node)
    return False


def _mapped(code: Code, node: ast.AST) -> list[ast.Lambda]:
    """The lambda around a node that `.apply(...)` or `.map(...)` calls for each row."""
    around = code.values.around(node, ast.Lambda)
    call = code.values.parent.get(around)
    is_row = isinstance(call, ast.Call) and getattr(call.func, "attr", "") in WORDS.row_methods
    return [around] if is_row and not any(k.arg == "batched" for k in call.keywords) else []


def _given_to_rows(code: Code, helpers: Iterable[str]) -> list[Built]:
    """The calls `.apply(helper)` and `.map(helper)` that hand a function to each row."""
    rows = (c for c in code.named(*WORDS.row_methods) if "." in c.name and c.args and "batched" not in c.kwargs)
    return [c for c in rows if str(c.args[0]) in helpers]


def _measures(code: Code, node: ast.AST) -> bool:
    return bool(WORDS.benchmark.search(f"{getattr(code.function(node), 'name', '')} {Path(code.unit.path).stem}"))


def _could_batch(code: Code, call: Built, loop: ast.AST, helpers: dict[str, bool]) -> bool:
    """Whether `call` works on one item in each turn of `loop`, the turns do not need each other, and it is no warm-up or calibration."""
    target, iterable = source_of(loop)
    is_stepped = isinstance(iterable, ast.Call) and ast.unparse(iterable.func) == "range" and len(iterable.args) == 3
    if is_stepped or WORDS.batched.search(f"{ast.unparse(iterable)} {ast.unparse(target)}") or (_items(code, iterable) or 2) < 2:
        return False
    if re.search("calibrat|warm_?up", getattr(code.function(loop), "name", "") + ast.unparse(iterable), re.IGNORECASE):
        return False
    tainted = _tainted(loop, _names(target) | {n.arg for n in ast.walk(target) if isinstance(n, ast.arg)})
    if call.name.removeprefix("self.") in helpers:
        is_one = any(_is_one_text(a, tainted) for a in given(call))
    else:
        is_one = _generates_one(code, call, loop, tainted)
    return is_one and not _feeds_back(code, call, loop)


def _feeds_back(code: Code, call: Built, loop: ast.AST) -> bool:
    """Whether what one turn generates goes into the next: a name bound before the loop, in the prompt, that the answer is added to."""
    answer = code.assigned_name(call.node)
    if not answer or isinstance(loop, ast.Lambda):
        return False
    answers, inside = _tainted(loop, {answer}), list(ast.walk(loop))
    changed = {n for node in inside if isinstance(node, ast.Expr) and (f := _flow(node)) and f[0] & answers for n in f[1]}
    changed |= {n.target.id for n in inside if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}
    made = {t.id for n in inside if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    first: dict[str, bool] = {}  # whether a name is read before it is made: then the last turn's value comes in
    for n in sorted((n for n in inside if isinstance(n, ast.Name)), key=lambda n: (n.lineno, isinstance(n.ctx, ast.Store))):
        first.setdefault(n.id, isinstance(n.ctx, ast.Load))
    carried = {name for name in answers & made if first.get(name)}
    changed, made = changed | carried, made - carried
    return any(_names(*given(call)) & _tainted(loop, {name}) for name in changed - made)


@check("endpoint-one-prompt")
def endpoint(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Handlers of web requests that generate in their own process for the one prompt they were sent."""
    for handler, kind in code.handlers.items() if not code.trains and not WORDS.batching.search(code.unit.text) else ():
        local = [(c, f) for f in _reached(code, handler) for c in code.generations_in.get(f, ()) if _is_own_model(code, c, f)]
        call = next((c for c, f in sorted(local, key=lambda x: x[0].node.lineno) if _takes_one(code, c, f, handler)), None)
        if call is not None:
            waste = None if WORDS.other_media.search(code.unit.text) else evidence.batch_1(None, _subject(code))
            yield Hit(handler.lineno, {"name": handler.name, "kind": kind, "line": call.node.lineno}, waste)


def _is_own_model(code: Code, call: Built, function: ast.AST) -> bool:
    """Whether a generation runs a model of this process: a pipeline, engine or thread, or generate() on ids; not awaited or iterated."""
    if isinstance(code.values.parent.get(call.node), ast.Await) or any(isinstance(n, ast.AsyncFor) for n in ast.walk(function)):
        return False
    is_on_ids = re.search(r"input|ids|tok|enc", " ".join(map(ast.unparse, given(call))))
    return call.last != "generate" or code.is_prompted(call) or call.is_open or bool(is_on_ids)


def _reached(code: Code, handler: ast.AST) -> set[ast.AST]:
    """A handler, the functions inside it, and those of this file that it calls or hands on, two steps deep."""
    reached = {handler}
    for _ in range(2):
        inside = [n for f in reached for n in ast.walk(f)]
        called = _named(n for c in inside if isinstance(c, ast.Call) for n in (c.func, *c.args))
        reached |= {n for n in inside if isinstance(n, FUNCTIONS)} | {code.defined[name] for name in called & set(code.defined)}
    return reached


def _takes_one(code: Code, call: Built, function: ast.AST, handler: ast.AST) -> bool:
    """Whether a generation in a handler serves one prompt: no list of texts among the parameters or the request's fields, none made."""
    specs = [f.args for f in (function, handler) if hasattr(f, "args")]
    if any(WORDS.listed.match(ast.unparse(a.annotation)) for spec in specs for a in spec.args if a.annotation is not None):
        return False
    for node in _tokenized(function) or call.node.args[:1]:
        name = ast.unparse(node).rpartition(".")[2].strip("[]'\"")
        made = [x for x in code.bound[node.id] if isinstance(x, ast.List)] if isinstance(node, ast.Name) else []
        is_several = any(len(x.elts) > 1 and not all(isinstance(e, ast.Dict) for e in x.elts) for x in made)
        is_several |= any(WORDS.listed.match(ast.unparse(field)) is not None for field in code.bound[f".{name}"])
        if is_several or WORDS.plural.match(name) or _is_list(code, node):
            return False
    return True


@check("requests-in-sequence")
def in_sequence(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops that wait for each answer of a server on this machine before they send the next prompt, directly or through a function."""
    text = code.unit.text
    is_local = re.search(r"(localhost|127\.0\.0\.1|0\.0\.0\.0)[:/]", text) or "ollama" in code.modules
    if not is_local or WORDS.concurrent.search(text):
        return
    asking = [c for c in code.calls if _asks(code, c)]
    through = {getattr(code.function(c.node), "name", "") for c in asking if not code.loops_around(c.node)} - {""}
    for call in [*asking, *(c for c in code.calls if c.last in through)]:
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.For | ast.ListComp)), None)
        target, iterable = source_of(loop) if loop else (None, None)
        if loop is None or not _names(*given(call)) & _tainted(loop, _names(target)) or _feeds_back(code, call, loop):
            continue
        items = _items(code, iterable)
        if not (WORDS.batched.search(ast.unparse(iterable)) or (items or 2) < 2 or {"n", "best_of", "num_samples"} & set(call.kwargs)):
            waste = None if _measures(code, loop) else evidence.batch_1(items, _subject(code))
            yield Hit(call.node.lineno, {"call": call.name}, waste)
    for call in _given_to_rows(code, through):
        yield Hit(call.node.lineno, {"call": str(call.args[0])}, evidence.batch_1(None, _subject(code)))


def _asks(code: Code, call: Built) -> bool:
    """Whether a call sends one prompt to a server and waits for the answer."""
    if call.name in ("ollama.generate", "ollama.chat") or re.search(r"(chat\.)?completions\.create$", call.name):
        return call.kwargs.get("n", 1) == 1
    if call.last == "urlopen":
        return bool(re.search(r"[\"'](prompt|messages)[\"']", code.source(code.function(call.node))))
    is_embedding = "embed" in ast.unparse(call.node).lower()
    return call.last == "post" and not is_embedding and bool({str(k) for k in body(call)} & {"prompt", "messages", "inputs"})


@check("batch-size-of-one-text")
def batch_size_unused(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Pipelines with a batch size that are given one string."""
    sizes = {code.assigned_name(c.node): c.kwargs.get("batch_size") for c in code.model_loads if c.last == "pipeline"}
    for call in (c for c in code.calls if c.name in sizes and c.name and c.args):
        size, first = call.kwargs.get("batch_size", sizes[call.name]), call.node.args[0]
        parts = (first.left, first.right) if isinstance(first, ast.BinOp) else ()
        arguments = getattr(getattr(code.function(call.node), "args", None), "args", ())
        typed = {a.arg for a in arguments if a.annotation is not None and ast.unparse(a.annotation) == "str"}
        is_text = type(call.args[0]) is str or isinstance(first, ast.JoinedStr) or (isinstance(first, ast.Name) and first.id in typed)
        is_text = is_text or any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in parts)
        if isinstance(size, int) and size > 1 and is_text:
            yield Hit(call.node.lineno, {"size": size})


@check("model-reloaded-in-loop")
def reloaded(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loads of the same model in each turn of a loop, for each request, or in a function that a loop calls."""
    for load in (*code.model_loads, *(c for c, _ in code.engines)) if not code.trains else ():
        if where := _repeated(code, load):
            yield Hit(load.node.lineno, {"where": where}, wastes.reload_each_time(gpu=code.facts["gpu"]))


def _named(nodes: Iterable[ast.AST]) -> set[str]:
    return {n.id if isinstance(n, ast.Name) else n.attr for n in nodes if isinstance(n, ast.Name | ast.Attribute)}


def _repeated(code: Code, load: Built) -> str:
    """In words, what loads the same model again and again to generate with it; empty if nothing does."""
    works = [c.node for c in code.generations] + [c.node for c in code.calls if c.name and c.name == code.assigned_name(load.node)]
    loop = next((x for x in code.loops_around(load.node) if isinstance(x, ast.For | ast.AsyncFor | ast.While)), None)
    if loop is not None:
        inside = list(ast.walk(loop))
        changing = [n for n in inside if isinstance(getattr(n, "ctx", None), ast.Store)]
        used = [n for a in [load.node.func, *given(load)] for n in ast.walk(a) if n is not load.node.func]
        is_fixed = not _named(changing) & _named(used) and not any(isinstance(n, ast.Break | ast.Return) for n in inside)
        is_same = is_fixed and any(loop in code.loops_around(node) for node in works)
        return "in each turn of the loop that generates" if is_same else ""
    function = code.function(load.node)
    is_fixed = any("/" in name for name in (*load.args, *load.kwargs.values()) if type(name) is str)
    if code.is_option(load.node) or not is_fixed or not any(code.function(node) is function for node in works):
        return ""
    tests = (ast.unparse(a.test) for a in code.values.ancestors(load.node) if isinstance(a, ast.If))
    if any(re.search(r"is None|not in|not \w+$|not self", test) for test in tests):
        return ""
    if function in code.handlers:
        return "for each request"
    calls = [c for c in code.calls if c.name and c.name == getattr(function, "name", None)]
    return f"in each call of {function.name}, which a loop makes" if any(code.loops_around(c.node) for c in calls) else ""


@check("more-tokens-than-used")
def more_than_used(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Generations of many tokens of which the file keeps the first letter, word or line."""
    for call in code.generations:
        options = configured(call) | call.kwargs
        tokens = options.get("max_new_tokens", options.get("max_tokens"))
        if type(tokens) is not int or tokens <= _SHORT_ANSWER * 4 or {"stop", "stop_strings", "stopping_criteria"} & set(options):
            continue
        use = next((n for n in ast.walk(code.function(call.node)) if _keeps_the_start(n) and n.lineno >= call.node.lineno), None)
        if use is not None:
            yield Hit(call.node.lineno, {"tokens": tokens, "line": use.lineno})


def _keeps_the_start(node: ast.AST) -> bool:
    """Whether an expression is the first character, word or line of a generated text."""
    match node:
        case ast.Subscript(slice=ast.Constant(value=0), value=ast.Call(func=ast.Attribute(attr=method), args=args) as text):
            if method == "split" and (not args or getattr(args[0], "value", None) in (" ", ".", "\n")):
                return True
            is_answer = re.search(r"decode|generated_text|outputs\[0\]\.text", ast.unparse(text))
            return method in ("strip", "split", "splitlines") and bool(is_answer)
    return False


@check("no-compile")
def no_compile(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Static caches without compilation, and small models on a GPU that generate again and again."""
    if "compile" in code.unit.text or code.trains or WORDS.other_media.search(code.unit.text):
        return
    loads = [s for s in code.subjects if s.place == "load" and s.get("on_gpu") and not s.get("quantized")]
    repeated = [c for c in code.generations if code.loops_around(c.node) or code.function(c.node) in code.handlers]
    is_small = bool(loads) and all(s.size_b is not None and s.size_b <= SMALL_PARAMS_B for s in loads)
    if is_small and repeated and not any("cache_implementation" in c.kwargs for c in code.generations):
        yield Hit(repeated[0].node.lineno, {"what": "a small model generates again and again without torch.compile"})
    is_stepped = any(c.name == "model" and code.loops_around(c.node) for c in code.calls) and not code.named("generate")
    for node in code.nodes(ast.Constant) if is_stepped else ():
        if node.value == "static" and "cache_implementation" in code.lines[node.lineno - 1]:
            yield Hit(node.lineno, {"what": "a static cache without torch.compile"})


@check("no-inference-mode")
def no_inference_mode(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Forward passes of a loaded model in a file that never switches gradients off."""
    if code.trains or any(q in code.unit.text for q in WORDS.quiet) or "ctransformers" in code.modules:
        return
    for load in code.model_loads:
        name = code.assigned_name(load.node) if WORDS.model_class.search(load.name) and not WORDS.not_torch.search(load.name) else ""
        for call in (c for c in code.calls if name and c.name == name):
            function, home = code.function(call.node), code.function(load.node)
            is_same = name.startswith("self.") or home in (function, code.values.nodes[0])
            if is_same and getattr(function, "name", "") not in WORDS.module_methods:
                yield Hit(call.node.lineno, {"name": name})
                return


@check("pad-to-max-length")
def pad_to_max(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Texts padded to a fixed length in a function that generates for them, or gives them to a model with a head."""
    headed = {code.assigned_name(c.node) for c in code.model_loads if re.search(r"For[A-Z]\w*\.from_pretrained$", c.name)} - {""}
    working = {code.function(c.node) for c in code.calls if c.name in headed} | set(code.generations_in)
    for call in code.calls if not code.trains and "CLIP" not in code.unit.text else ():  # CLIP's encoder takes 77 tokens, no fewer
        padded = call.kwargs.get("padding") == "max_length" or call.kwargs.get("pad_to_max_length") is True
        if padded and code.function(call.node) in working:
            yield Hit(call.node.lineno)


_COUNTER = "nvmlDeviceGetTotalEnergyConsumption"


def _reads_power(call: Built) -> bool:
    is_run = call.last in ("run", "check_output", "Popen", "getoutput", "popen", "system")
    return call.last in WORDS.power_calls or (is_run and "power.draw" in ast.unparse(call.node))


def _power_reads(code: Code) -> tuple[list[Built], set[str]]:
    """(calls that read the power, directly or through a function of the file; the names of those functions)."""
    helpers = {getattr(code.function(c.node), "name", "") for c in code.calls if _reads_power(c)} - {""}
    return [c for c in code.calls if _reads_power(c) or c.last in helpers], helpers


@check("power-sampled-slowly")
def sampled_slowly(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops that keep power readings and sleep a second or longer between them."""
    for call in code.named("sleep", "wait"):  # time.sleep(1), event.wait(timeout=1)
        interval = next(iter([*call.args, *call.kwargs.values()]), None)
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.While | ast.For)), None)
        if type(interval) not in (int, float) or not 1 <= interval <= 60 or loop is None:
            continue
        inside = {n.func.attr for n in ast.walk(loop) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        is_kept = bool(inside & set(WORDS.stores)) or any(isinstance(n, ast.AugAssign) for n in ast.walk(loop))  # else it waits or logs
        works = any(loop in code.loops_around(c.node) for c in code.generations)
        if is_kept and not works and any(loop in code.loops_around(c.node) for c in _power_reads(code)[0]):
            yield Hit(call.node.lineno, {"interval": f"{interval:g}"}, slow_sampling(interval))


@check("power-read-after-work")
def read_after(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Functions that read the power before or after their generations, never during them, the last time after the last one."""
    if re.search(rf"Thread|Process\(|{_COUNTER}|Popen", code.unit.text):
        return
    reads, helpers = _power_reads(code)
    for function, generations in code.generations_in.items() if reads else ():
        own = [r for r in reads if code.function(r.node) is function]
        is_helper = getattr(function, "name", "") in helpers and not any(_reads_power(r) for r in own)
        lines = [r.node.lineno for r in own]
        if lines and not is_helper and max(lines) > max(c.node.lineno for c in generations):
            note = "an A100 idles at 80 W with a CUDA context; 110 to 220 W (150) were published while its sibling A800 decodes"
            low, value, high = (100 * (1 - 80 / load_w) for load_w in (110, 150, 220))
            yield Hit(max(lines), {}, Waste(value, low, high, "estimate", note, unit=FIGURE))


@check("idle-before-load")
def idle_before_load(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Idle powers read before the model is loaded in the same function."""
    places = [(code.function(load.node), load.node.lineno) for load in code.model_loads]
    for read in _power_reads(code)[0] if places else ():
        statement = code.values.around(read.node, ast.stmt)
        name = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else ""
        is_before = any(f is code.function(read.node) and read.node.lineno < line for f, line in places)
        if is_before and re.search(r"idle|baseline", name, re.IGNORECASE):
            note = "an A100's 26 W between bare and context idle, in a net power of 110 to 220 W (150 in the middle) less 54 W"
            low, value, high = (100 * 26 / (load_w - 54) for load_w in (220, 150, 110))
            yield Hit(read.node.lineno, {"name": name}, Waste(value, low, high, "estimate", note, unit=FIGURE))
            return


@check("all-gpus-billed")
def all_gpus(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Sums over every GPU of the host in a file whose model runs on cuda:0."""
    if re.search(r"[\"']cuda:0[\"']", code.unit.text):
        found = (Hit(c.node.lineno, {"what": what}) for c in code.calls if (what := _bills_all(code, c)))
        yield from itertools.islice(found, 1)


def _bills_all(code: Code, call: Built) -> str:
    """In words, how a call adds up the power of every GPU; empty if it does not."""
    command = ast.unparse(call.node)
    if call.last in ("EmissionsTracker", "OfflineEmissionsTracker"):
        return f"{call.last} reads every visible GPU" if "gpu_ids" not in call.kwargs and not call.is_open else ""
    if call.last in ("run", "check_output", "getoutput") and "nvidia-smi" in command and "power.draw" in command:
        is_summed = "sum(" in code.source(code.function(call.node)) and not re.search(r"-i\b|--id", command)
        return "nvidia-smi lists every GPU and the powers are summed" if is_summed else ""
    if not _reads_power(call) and call.last != _COUNTER:
        return ""
    around = code.values.ancestors(call.node)
    is_summed = any(isinstance(a, ast.AugAssign) or (isinstance(a, ast.Call) and ast.unparse(a.func) == "sum") for a in around)
    for loop in code.loops_around(call.node) if is_summed else ():  # over the host's GPUs by number, or a list of their handles
        _, over = source_of(loop) or (None, None)
        sources = code.bound[over.id] if isinstance(over, ast.Name) else [over] if over is not None else []
        if any(re.search(r"nvmlDeviceGetCount|device_count", ast.unparse(s)) for s in sources):
            return "the power of all GPUs is summed"
    return ""


@check("timed-without-sync")
def without_sync(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Forward passes on a GPU between two readings of a clock or counter, without anything that waits for them."""
    if "cuda" not in code.unit.text:
        return
    loaded = {code.assigned_name(x.node): x for x in code.model_loads}
    models = {name for name, load in loaded.items() if name and code.on_gpu(load)}
    given = {a.arg for n in code.nodes(*FUNCTIONS) for a in n.args.args} & {"model", "llm", "lm"}
    models |= given - set(loaded) if "torch" in code.modules else set()
    timed = (n.args for n in code.nodes(ast.FunctionDef) if re.search("bench|latency|time", n.name))
    models |= {"model"} if any(a.arg == "model" for spec in timed for a in spec.args) else set()
    clocks = (c for c in code.calls if c.last in WORDS.clock)
    readings = [c for c in clocks if c.name.rpartition(".")[0] in ("time", "timeit", "")] + code.named(_COUNTER)
    for call in (c for c in code.calls if c.name in models):
        function, line = code.function(call.node), call.node.lineno
        lines = [c.node.lineno for c in readings if code.function(c.node) is function]
        if lines and min(lines) < line < max(lines) and not WORDS.sync.search(code.source(function)):
            yield Hit(line, {"name": call.name})
            return


@check("tokens-counted-as-words")
def words_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Counts of a text's words that go into a name for tokens, or that a function for counting tokens returns."""
    for node in code.nodes(ast.Call):
        if ast.unparse(node.func) != "len" or len(node.args) != 1 or not _are_words(code, node.args[0]):
            continue
        name, factor = _counter(code, node)
        if not WORDS.tokens.search(name.rpartition(".")[2]) or _is_fallback(code, node, name):
            continue
        note = f"0.75 English words a token (OpenAI's rule of thumb), range 0.6 to 0.85{f', times {factor:g}' if factor != 1 else ''}"
        missed = [abs(100 * (1 - words * factor)) for words in (0.75, 0.6, 0.85)]
        yield Hit(node.lineno, {"name": name}, Waste(missed[0], min(missed), max(missed), "estimate", note, unit=FIGURE))


def _is_fallback(code: Code, node: ast.AST, name: str) -> bool:
    """Whether a count says of itself that it is an estimate, keeps a text short, or stands in where a real count is missing."""
    function = code.function(node)
    text = code.source(function)
    if WORDS.simulated.search(code.unit.text) or (getattr(function, "name", None) == name and WORDS.tokenized.search(text)):
        return True
    owner = getattr(code.values.around(node, ast.ClassDef), "name", "")
    comment = "\n".join(code.lines[max(0, node.lineno - 3) : node.lineno])
    is_short = WORDS.budgeted.search(text) and not WORDS.measured.search(text)
    if is_short or WORDS.estimated.search(f"{owner} {name} {text[:400]} {comment}".lower()):
        return True
    around = [a for a in code.values.ancestors(node) if isinstance(a, ast.If | ast.IfExp | ast.ExceptHandler)]
    return any(isinstance(a, ast.ExceptHandler) or WORDS.counted.search(ast.unparse(a.test)) for a in around)


def _are_words(code: Code, node: ast.AST, depth: int = 0) -> bool:
    """Whether an expression is a text split at spaces, directly, filtered, or through the name it was given just before."""
    match node:
        case ast.Name(id=name) if depth < 4:
            values = code.bound[name]
            return len(values) == 1 and isinstance(values[0], ast.Call | ast.ListComp) and _are_words(code, values[0], depth + 1)
        case ast.ListComp(elt=ast.Name(), generators=[each]) if depth < 4:
            return _are_words(code, each.iter, depth + 1)
        case ast.Call(func=function, args=[ast.Constant(value=pattern), *_]) if ast.unparse(function) in ("re.findall", "re.split"):
            return pattern in (r"\w+", r"\b\w+\b", r"\s+", r"\S+")
        case ast.Call(func=ast.Attribute(attr="split"), args=[] | [ast.Constant(value=" ")]):
            return True
    return False


def _counter(code: Code, node: ast.AST) -> tuple[str, float]:
    """(name that a count goes into, the constant it is multiplied by): by assignment, addition, keyword or return."""
    factor, inner = 1.0, node
    for a in code.values.ancestors(node):
        match a:
            case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as operator, right=right):
                constant = next((x.value for x in (left, right) if isinstance(x, ast.Constant) and type(x.value) in (int, float)), None)
                factor *= constant if constant and isinstance(operator, ast.Mult) else 1 / constant if constant and constant < 5 else 1.0
            case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
                return ast.unparse(target), factor
            case ast.keyword(arg=name):
                return name or "", factor
            case ast.Dict(keys=keys, values=values):
                key = next((getattr(k, "value", "") for k, v in zip(keys, values, strict=True) if v is inner), "")
                return str(key), factor
            case ast.Return():
                name = getattr(code.function(a), "name", "")
                return (name if "per" in name.split("_") or WORDS.counts.search(name) else ""), factor
            case ast.BinOp() | ast.GeneratorExp() | ast.ListComp() | ast.IfExp():
                pass
            case ast.Call(func=function) if ast.unparse(function) in WORDS.rounding:
                pass
            case _:
                return "", factor
        inner = a
    return "", factor


@check("padding-counted-as-tokens")
def padding_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Counts of generated tokens by the width of a batch that was padded, over its rows."""
    for call in code.generations:
        function, outputs = code.function(call.node), {code.assigned_name(call.node)} - {""}
        text = code.source(function)
        if not WORDS.padded.search(text) or WORDS.unpadded.search(text):
            continue
        for node in sorted((n for n in ast.walk(function) if isinstance(n, ast.Assign | ast.AugAssign)), key=lambda n: n.lineno):
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            value = ast.unparse(node.value)
            if node.lineno <= call.node.lineno or not any(re.search(rf"\b{re.escape(o)}\b", value) for o in outputs):
                continue
            if re.match(rf"({'|'.join(map(re.escape, outputs))})\[:, .*:\]$", value):
                outputs.add(target)  # the answers without their prompts
            is_whole = WORDS.whole.search(value) and "decode" not in value
            if is_whole and WORDS.tokens.search(target.rpartition(".")[2]):
                note = "answers of a batch end at different lengths: 10 to 50 % (25 in the middle) of the rows' ends are padding"
                yield Hit(node.lineno, {"name": target}, Waste(25.0, 10.0, 50.0, "estimate", note, unit=FIGURE))
                break


@check("seconds-from-samples")
def seconds_from_samples(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Energies from powers, or a number or sum of them, times the nominal interval between readings."""
    reads = [c for c in code.calls if _reads_power(c)]
    pauses = [c for c in code.named("sleep", "wait") if c.args]
    nominal = {ast.unparse(c.node.args[0]) for c in pauses}
    own_s = (0.06, 0.03, 0.3) if any("nvidia-smi" in ast.unparse(c.node) for c in reads) else (0.002, 0.0003, 0.01)
    for node in (n for n in code.nodes(ast.BinOp) if reads and isinstance(n.op, ast.Mult)):
        sides = {ast.unparse(node.left): node.left, ast.unparse(node.right): node.right}
        step = next((s for s in sides if s in nominal or WORDS.interval.search(s.rpartition(".")[2])), "")
        other = next((s for s in sides if s != step), "") if step else ""
        if isinstance(code.values.around(node, (ast.stmt, ast.Compare)), ast.Compare):
            continue
        is_added = isinstance(code.values.parent.get(node), ast.AugAssign) and step in nominal
        is_total = is_added or re.search(r"(\b|\.)(len|sum|np\.sum)\(", other)
        if not is_total or re.search(r"time|stamp", other) or not WORDS.powers.search(other):
            continue
        value = code.values.resolve(sides[step])
        is_known = type(value) in (int, float) and not isinstance(value, Symbol)
        seconds = value if is_known else next((c.args[0] for c in pauses if type(c.args[0]) in (int, float)), None)
        waste = None
        if seconds and 0 < seconds <= 60:
            middle, low, high = (1e3 * s for s in own_s)
            note = f"a reading takes {low:g} to {high:g} ms ({middle:g} in the middle) beside the pause of {1e3 * seconds:g} ms"
            waste = Waste(*(100 * s / (seconds + s) for s in own_s), "estimate", note, unit=FIGURE)
        yield Hit(node.lineno, {"step": step}, waste)
        return
