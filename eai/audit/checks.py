"""Checks of how Python code generates that no single option shows: prompts one by one, models loaded again, tokens nobody uses.

A check is a function from a parsed file and the evidence to hits; its rule in `rules/` holds title, reason, message, fix and examples.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eai.audit import evidence as wastes
from eai.audit.code import MODEL_CLASS, TEXT_TASKS, Code, body, configured, task_of
from eai.audit.evidence import SMALL_PARAMS_B, Evidence, Waste
from eai.audit.subjects import Subject
from eai.audit.values import FUNCTIONS, Built

_BATCHED = re.compile(r"batch|chunk|loader|bucket|shard", re.IGNORECASE)
_PLURAL = re.compile(r"^(prompts|texts|queries|questions|documents|batch\w*|sentences|requests|inputs_list)$")
_LISTED = re.compile(r"(typing\.)?(list|List|Sequence)\b(?!.*(dict|Dict|Message|tuple|Tuple))")
_OTHER_MEDIA = re.compile(  # no text decoding alone
    r"\bPIL\b|torchaudio|librosa|soundfile|ForVision|ImageProcessor|Blip|\bTTS\b|mel\b|[Tt]ranscrib|\bASR\b|[wW]hisper|[sS]peech|\b[aA]udio"
    r"|type[\"']: [\"'](audio|image|video)"
)
_NOT_TORCH = re.compile(r"(^|\.)(OV|ORT|TF|Flax|Neuron|RKNN)\w*\.from_pretrained$")
_CONCURRENT = re.compile(r"ThreadPool|ProcessPool|gather\(|as_completed|TaskGroup|Semaphore|concurrent|streamlit|locust")
_BATCHING = re.compile(r"serve\.batch|batchable\s*=\s*True|LitServer\([^)]*max_batch_size|dynamic_batch|Async(LLM|Engine)")
_BENCHMARK = re.compile(r"bench|latency|throughput|profil", re.IGNORECASE)  # one stream at a time is what it measures
_QUIET = ("no_grad", "inference_mode", "set_grad_enabled", "requires_grad_", "grad")
_MODULE_METHODS = ("forward", "compute_loss", "training_step")
_NO_PROMPTS = {"self", "model", "tokenizer", "config", "args", "device", "llm", "pipe"}
_PROMPT_KEYWORDS = ("prompt", "prompts", "messages", "text_inputs", "text")
_ROWS = ("apply", "map", "progress_apply")
_SHORT_ANSWER = 8
_TOKENIZERS = ("tokenizer", "tok", "processor", "encode", "encode_plus", "apply_chat_template")


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
    """The names read or bound anywhere in some nodes."""
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def _last(call: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


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
    return one and bool(_names(node) & tainted) and not _BATCHED.search(ast.unparse(node))


def _generates_one(code: Code, call: Built, inside: ast.AST, tainted: set[str]) -> bool:
    """Whether a call generates for one item of the loop, or of the function, that it stands in."""
    if not _names(*given(call)) & tainted or {"streamer", "request_id"} & set(call.kwargs):  # an asynchronous engine batches by itself
        return False
    if not code.is_prompted(call):
        tokenized = (n for n in ast.walk(inside) if isinstance(n, ast.Call) and n.args and _last(n).lower() in _TOKENIZERS)
        return call.last == "generate" and any(_is_one_text(n.args[0], tainted) for n in tokenized)
    first = next(iter([*call.node.args, *(k.value for k in call.node.keywords if k.arg in _PROMPT_KEYWORDS)]), None)
    return first is not None and _is_one_text(first, tainted) and not _is_list(code, first)


def _is_list(code: Code, node: ast.AST) -> bool:
    """Whether an expression is a name that the file binds to a list made of several items."""
    return isinstance(node, ast.Name) and any(isinstance(v, ast.ListComp) for v in code.bound[node.id])


def _single_prompt_helpers(code: Code) -> dict[str, bool]:
    """Functions of the file, of a name of their own, that generate for one text they are given: whether by more than one token."""
    helpers: dict[str, list[list[Built]]] = {}
    for node in code.nodes(*FUNCTIONS):
        seeds = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} - _NO_PROMPTS
        tainted = _tainted(node, {s for s in seeds if (not _BATCHED.search(s) and not s.endswith("s")) or s == "messages"})
        inside = [c for c in code.generations_in.get(node, ()) if not code.loops_around(c.node)]
        helpers.setdefault(node.name, []).append([c for c in inside if _generates_one(code, c, node, tainted)])
    return {name: any(_decodes(c) for calls in every for c in calls) for name, every in helpers.items() if all(every)}


def _decodes(call: Built) -> bool:
    """Whether a generation may give more than one token: the numbers are of decoding."""
    return call.kwargs.get("max_new_tokens") != 1


def _items(code: Code, iterable: ast.AST) -> int | None:
    """How many items the loop runs over where the file states, else None."""
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
            is_open = code.trains or code.is_in_branch(loop) or bool(_OTHER_MEDIA.search(code.unit.text)) or _measures(code, loop)
            is_decoding = helpers.get(call.name.removeprefix("self."), _decodes(call))
            waste = evidence.batch_1(_items(code, source_of(loop)[1]), _subject(code)) if is_decoding and not is_open else None
            yield Hit(call.node.lineno, {"call": call.name or "generate"}, waste)
    pipes = {code.assigned_name(c.node): c for c in code.model_loads if c.last == "pipeline" and task_of(c) in TEXT_TASKS}
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
            return _PLURAL.match(name) is not None or _is_list(code, node)
    return False


def _mapped(code: Code, node: ast.AST) -> list[ast.Lambda]:
    """The lambda around a node that `.apply(...)` or `.map(...)` calls for each row."""
    around = code.values.around(node, ast.Lambda)
    call = code.values.parent.get(around)
    is_row = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _ROWS
    return [around] if is_row and not any(k.arg == "batched" for k in call.keywords) else []


def _given_to_rows(code: Code, helpers: Iterable[str]) -> list[Built]:
    """The calls `.apply(helper)` and `.map(helper)` that hand a function to each row."""
    return [c for c in code.named(*_ROWS) if "." in c.name and c.args and str(c.args[0]) in helpers and "batched" not in c.kwargs]


def _measures(code: Code, node: ast.AST) -> bool:
    """Whether a node stands in a function or file that measures one stream at a time on purpose, by its name."""
    return bool(_BENCHMARK.search(f"{getattr(code.function(node), 'name', '')} {Path(code.unit.path).stem}"))


def _could_batch(code: Code, call: Built, loop: ast.AST, helpers: dict[str, bool]) -> bool:
    """Whether `call` works on one item in each turn of `loop`, the turns do not need each other, and it is no warm-up or calibration."""
    target, iterable = source_of(loop)
    is_stepped = isinstance(iterable, ast.Call) and ast.unparse(iterable.func) == "range" and len(iterable.args) == 3
    if is_stepped or _BATCHED.search(f"{ast.unparse(iterable)} {ast.unparse(target)}") or (_items(code, iterable) or 2) < 2:
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
    """Whether what one turn generates goes into the next: a name bound before the loop, that the prompt is made of and the answer is added
    to."""
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
    for handler, kind in code.handlers.items() if not code.trains and not _BATCHING.search(code.unit.text) else ():
        local = [(c, f) for f in _reached(code, handler) for c in code.generations_in.get(f, ()) if _is_own_model(code, c, f)]
        call = next((c for c, f in sorted(local, key=lambda x: x[0].node.lineno) if _takes_one(code, c, f, handler)), None)
        if call is not None:
            waste = None if _OTHER_MEDIA.search(code.unit.text) else evidence.batch_1(None, _subject(code))
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
        calls = [n for n in inside if isinstance(n, ast.Call)]
        named = [n for c in calls for n in [c.func, *c.args] if isinstance(n, ast.Name | ast.Attribute)]
        called = {n.attr if isinstance(n, ast.Attribute) else n.id for n in named}
        reached |= {n for n in inside if isinstance(n, FUNCTIONS)} | {code.defined[name] for name in called & set(code.defined)}
    return reached


def _takes_one(code: Code, call: Built, function: ast.AST, handler: ast.AST) -> bool:
    """Whether a generation in a handler serves one prompt: no list of texts among the parameters or the request's fields, none made."""
    specs = [f.args for f in (function, handler) if hasattr(f, "args")]
    if any(_LISTED.match(ast.unparse(a.annotation)) for spec in specs for a in spec.args if a.annotation is not None):
        return False
    calls = (n for n in ast.walk(function) if isinstance(n, ast.Call) and n.args)
    prompts = [n.args[0] for n in calls if _last(n).lower() in _TOKENIZERS] or call.node.args[:1]
    for node in prompts:
        name = ast.unparse(node).rpartition(".")[2].strip("[]'\"")
        made = [x for x in code.bound[node.id] if isinstance(x, ast.List)] if isinstance(node, ast.Name) else []
        is_several = any(len(x.elts) > 1 and not all(isinstance(e, ast.Dict) for e in x.elts) for x in made)
        if is_several or _PLURAL.match(name) or _is_list(code, node) or any(_LISTED.match(ast.unparse(f)) for f in code.bound[f".{name}"]):
            return False
    return True


@check("requests-in-sequence")
def in_sequence(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops that wait for each answer of a server on this machine before they send the next prompt, directly or through a function."""
    text = code.unit.text
    is_local = re.search(r"(localhost|127\.0\.0\.1|0\.0\.0\.0)[:/]", text) or "ollama" in code.modules
    if not is_local or _CONCURRENT.search(text):
        return
    asking = [c for c in code.calls if _asks(code, c)]
    through = {getattr(code.function(c.node), "name", "") for c in asking if not code.loops_around(c.node)} - {""}
    for call in [*asking, *(c for c in code.calls if c.last in through)]:
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.For | ast.ListComp)), None)
        target, iterable = source_of(loop) if loop else (None, None)
        if loop is None or not _names(*given(call)) & _tainted(loop, _names(target)) or _feeds_back(code, call, loop):
            continue
        items = _items(code, iterable)
        if not (_BATCHED.search(ast.unparse(iterable)) or (items or 2) < 2 or {"n", "best_of", "num_samples"} & set(call.kwargs)):
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


def _named(nodes: list[ast.AST]) -> set[str]:
    """The names and attributes among some nodes."""
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
    if "compile" in code.unit.text or code.trains or _OTHER_MEDIA.search(code.unit.text):
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
    if code.trains or any(q in code.unit.text for q in _QUIET) or "ctransformers" in code.modules:
        return
    for load in code.model_loads:
        name = code.assigned_name(load.node) if MODEL_CLASS.search(load.name) and not _NOT_TORCH.search(load.name) else ""
        for call in (c for c in code.calls if name and c.name == name):
            function, home = code.function(call.node), code.function(load.node)
            is_same = name.startswith("self.") or home in (function, code.values.nodes[0])
            if is_same and getattr(function, "name", "") not in _MODULE_METHODS:
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
