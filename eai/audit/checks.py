"""Checks of how Python code generates that no single option shows: prompts one by one, models loaded again, tokens nobody uses.

A check is a function from a parsed file and the evidence to hits; its rule in `rules/` holds title, reason, message, fix and examples.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from eai.audit import evidence as wastes
from eai.audit.code import MODEL_CLASS, Code
from eai.audit.evidence import SMALL_PARAMS_B, Evidence, Waste
from eai.audit.subjects import Subject, params_b
from eai.audit.values import UNKNOWN, Built, Symbol

_BATCHED_NAME = re.compile(r"batch|chunk|loader|bucket|shard", re.IGNORECASE)
_PLURAL = re.compile(r"^(prompts|texts|queries|questions|documents|batch\w*|sentences|requests|inputs_list)$")
_LISTED = re.compile(r"(typing\.)?(list|List|Sequence)\b(?!.*(dict|Dict|Message|tuple|Tuple))")
_OTHER_MEDIA = re.compile(r"\bPIL\b|torchaudio|librosa|soundfile|ForVision|ImageProcessor|Blip|\bTTS\b|mel\b")  # no text decoding alone
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp)
_NOT_TORCH = re.compile(r"(^|\.)(OV|ORT|TF|Flax|Neuron|RKNN)\w*\.from_pretrained$")
_MODULE_METHODS = ("forward", "compute_loss", "training_step")
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

    def register(function):
        CHECKS[slug] = function
        return function

    return register


def _names(node: ast.AST) -> set[str]:
    """The names read or bound anywhere in a node."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _given(call: Built) -> set[str]:
    """The names that a call's arguments are made of."""
    return set().union(*(_names(a) for a in [*call.node.args, *(k.value for k in call.node.keywords)]), set())


def _source(loop: ast.AST) -> tuple[ast.AST, ast.AST] | None:
    """(target, iterable) of a for loop, comprehension or mapped lambda, None for a while loop."""
    if isinstance(loop, ast.Lambda):
        return loop.args, loop.args
    if isinstance(loop, ast.For | ast.AsyncFor):
        return loop.target, loop.iter
    return (loop.generators[0].target, loop.generators[0].iter) if isinstance(loop, _COMPREHENSIONS) else None


def _flow(node: ast.AST) -> tuple[set[str], set[str]] | None:
    """(names read, names changed) of an assignment, or of a method call as a statement: `chat.append(question)` changes chat."""
    if isinstance(node, ast.Assign):
        return _names(node.value), {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        return set().union(*map(_names, node.value.args), set()), _names(node.value.func.value)
    return None


def _tainted(body: ast.AST, seeds: set[str]) -> set[str]:
    """`seeds` and every name computed from them inside `body`."""
    tainted = set(seeds)
    flows = [flow for n in ast.walk(body) if (flow := _flow(n))]
    for _ in range(3):
        for sources, targets in flows:
            if sources & tainted:
                tainted |= targets
    return tainted


def _is_one_text(node: ast.AST, tainted: set[str]) -> bool:
    """Whether an expression is one item made from the loop's item: its name, a field of it, an f-string of it, or a list of just that."""
    if isinstance(node, ast.List):
        return len(node.elts) == 1 and _is_one_text(node.elts[0], tainted)
    one = isinstance(node, ast.Name | ast.Subscript | ast.JoinedStr | ast.BinOp | ast.Call | ast.Attribute | ast.Dict)
    return one and bool(_names(node) & tainted) and not _BATCHED_NAME.search(ast.unparse(node))


def _tokenizes_one(body: ast.AST, tainted: set[str]) -> bool:
    """Whether `body` tokenizes a single text derived from the loop's item."""
    for node in ast.walk(body):
        if (
            isinstance(node, ast.Call)
            and node.args
            and ast.unparse(node.func).rpartition(".")[2].lower() in _TOKENIZERS
            and _is_one_text(node.args[0], tainted)
        ):
            return True
    return False


def _generates_one(code: Code, call: Built, body: ast.AST, tainted: set[str]) -> bool:
    """Whether a call generates for one item of the loop."""
    if not _given(call) & tainted or "streamer" in call.kwargs:
        return False
    if code.is_prompted(call):
        first = (
            call.node.args
            or [k.value for k in call.node.keywords if k.arg in ("prompt", "prompts", "messages", "text_inputs", "text")]
            or [None]
        )[0]
        return first is not None and (_is_one_text(first, tainted) or _is_chat(first, tainted)) and not _is_list(code, first)
    return call.last == "generate" and _tokenizes_one(body, tainted)


def _is_chat(node: ast.AST, tainted: set[str]) -> bool:
    """Whether an expression is one conversation: a list of `{"role": ..., "content": ...}` made from the loop's item."""
    is_list = isinstance(node, ast.List) and bool(node.elts) and all(isinstance(e, ast.Dict) for e in node.elts)
    return is_list and bool(_names(node) & tainted) and "role" in ast.unparse(node)


def _is_list(code: Code, node: ast.AST) -> bool:
    """Whether an expression is a name that the file binds to a list made of several items."""
    return isinstance(node, ast.Name) and any(isinstance(v, ast.ListComp) for v in code.bound(node.id))


def _single_prompt_helpers(code: Code) -> set[str]:
    """Functions of the file that tokenize one text they are given and generate for it."""
    helpers = set()
    for node in code.values.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            seeds = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} - {
                "self",
                "model",
                "tokenizer",
                "config",
                "args",
                "device",
                "llm",
                "pipe",
            }
            tainted = _tainted(node, {s for s in seeds if (not _BATCHED_NAME.search(s) and not s.endswith("s")) or s == "messages"})
            inside = [c for c in code.generations_in.get(node, ()) if not code.loops_around(c.node)]
            if any(_generates_one(code, c, node, tainted) for c in inside):
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


def _subject(code: Code) -> Subject:
    """The file's one model and card, for the evidence."""
    names = {s.model for s in code.subjects if s.place in ("load", "engine") and s.model}
    subject = Subject("load", "", 1, facts={"gpu": code.facts["gpu"]})
    if len(names) == 1:
        subject.facts["model"] = names.pop()
    return subject


@check("batch-1-loop")
def batch_1_loop(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops over independent prompts that generate one at a time."""
    if not code.generations:
        return
    helpers = _single_prompt_helpers(code)
    seen = set()
    for call in [*code.generations, *(c for c in code.calls if c.name.removeprefix("self.") in helpers)]:
        loops = [*code.loops_around(call.node), *_mapped(code, call.node)]
        loop = next((x for x in loops if _source(x) and _could_batch(code, call, x, helpers)), None)
        if loop is not None and id(loop) not in seen:
            seen.add(id(loop))
            is_open = (
                code.trains
                or code.is_in_branch(loop)
                or bool(_OTHER_MEDIA.search(code.unit.text))
                or call.kwargs.get("max_new_tokens") == 1
            )  # the number is one of decoding
            waste = None if is_open else evidence.batch_1(_items(code, _source(loop)[1]), _subject(code))
            yield Hit(call.node.lineno, {"call": call.name or "generate"}, waste)


def _mapped(code: Code, node: ast.AST) -> list[ast.Lambda]:
    """The lambda around a node that `.apply(...)` or `.map(...)` calls for each row."""
    around = next((a for a in code.values.ancestors(node) if isinstance(a, ast.Lambda)), None)
    call = code.values.parent.get(around) if around is not None else None
    is_row = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("apply", "map", "progress_apply")
    return [around] if is_row and not any(k.arg == "batched" for k in call.keywords) else []


def _could_batch(code: Code, call: Built, loop: ast.AST, helpers: set[str]) -> bool:
    """Whether `call` works on one item in each turn of `loop`, the turns do not need each other, and it is no warm-up or calibration."""
    target, iterable = _source(loop)
    items = _items(code, iterable)
    is_stepped = isinstance(iterable, ast.Call) and ast.unparse(iterable.func) == "range" and len(iterable.args) == 3
    if is_stepped or _BATCHED_NAME.search(f"{ast.unparse(iterable)} {ast.unparse(target)}") or (items is not None and items < 2):
        return False
    if re.search("calibrat|warm_?up", getattr(code.function(loop), "name", "") + ast.unparse(iterable), re.IGNORECASE):
        return False
    tainted = _tainted(loop, _names(target) | {n.arg for n in ast.walk(target) if isinstance(n, ast.arg)})
    if call.name.removeprefix("self.") in helpers:
        is_one = any(_is_one_text(a, tainted) for a in [*call.node.args, *(k.value for k in call.node.keywords)])
    else:
        is_one = _generates_one(code, call, loop, tainted)
    return is_one and not _feeds_back(code, call, loop)


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
    return any(_given(call) & _tainted(loop, {name}) for name in changed - made)


@check("endpoint-one-prompt")
def endpoint(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Handlers of web requests that generate in their own process for the one prompt they were sent."""
    if code.trains or re.search(r"serve\.batch|batchable\s*=\s*True|LitServer\([^)]*max_batch_size|dynamic_batch", code.unit.text):
        return
    if re.search(r"Async(LLM|Engine)", code.unit.text):  # an engine that batches what comes in
        return
    for handler, kind in code.handlers.items():
        local = [(c, f) for f in _reached(code, handler) for c in code.generations_in.get(f, ()) if _is_own_model(code, c, f)]
        call = next((c for c, f in sorted(local, key=lambda x: x[0].node.lineno) if _takes_one(code, c, f, handler)), None)
        if call is not None:
            waste = evidence.batch_1(None, _subject(code))
            yield Hit(handler.lineno, {"name": handler.name, "kind": kind, "line": call.node.lineno}, waste)


def _is_own_model(code: Code, call: Built, function: ast.AST) -> bool:
    """Whether a generation runs a model of this process: a pipeline, engine or thread, or generate() on ids; not awaited or iterated."""
    if isinstance(code.values.parent.get(call.node), ast.Await) or any(isinstance(n, ast.AsyncFor) for n in ast.walk(function)):
        return False
    given = " ".join(map(ast.unparse, [*call.node.args, *(k.value for k in call.node.keywords)]))
    return call.last != "generate" or code.is_prompted(call) or call.is_open or bool(re.search(r"input|ids|tok|enc", given))


def _reached(code: Code, handler: ast.AST) -> set[ast.AST]:
    """A handler, the functions inside it, and those of this file that it calls, two steps deep."""
    reached = {handler}
    for _ in range(2):
        inner = {n for f in reached for n in ast.walk(f) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        called = {ast.unparse(n.func).rpartition(".")[2] for f in reached for n in ast.walk(f) if isinstance(n, ast.Call)}
        called |= {
            n.attr if isinstance(n, ast.Attribute) else n.id
            for f in reached
            for c in ast.walk(f)
            if isinstance(c, ast.Call)
            for n in c.args
            if isinstance(n, ast.Name | ast.Attribute)
        }
        reached |= inner | {code.defined[name] for name in called if name in code.defined}
    return reached


def _takes_one(code: Code, call: Built, function: ast.AST, handler: ast.AST) -> bool:
    """Whether a generation in a handler serves one prompt: no list of texts among the parameters or the request's fields, none made."""
    specs = [f.args for f in (function, handler) if hasattr(f, "args")]
    if any(_LISTED.match(ast.unparse(a.annotation)) for spec in specs for a in spec.args if a.annotation is not None):
        return False
    calls = (n for n in ast.walk(function) if isinstance(n, ast.Call) and n.args)
    prompts = [n.args[0] for n in calls if ast.unparse(n.func).rpartition(".")[2].lower() in _TOKENIZERS] or call.node.args[:1]
    for node in prompts:
        name = ast.unparse(node).rpartition(".")[2].strip("[]'\"")
        made = [x for x in code.bound(node.id) if isinstance(x, ast.List)] if isinstance(node, ast.Name) else []
        is_several = any(len(x.elts) > 1 and not all(isinstance(e, ast.Dict) for e in x.elts) for x in made)
        if is_several or _PLURAL.match(name) or _is_list(code, node) or any(_LISTED.match(ast.unparse(f)) for f in code.bound(f".{name}")):
            return False
    return True


@check("requests-in-sequence")
def in_sequence(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops that wait for each answer of a server on this machine before they send the next prompt, directly or through a function."""
    if re.search(r"ThreadPool|ProcessPool|gather\(|as_completed|TaskGroup|Semaphore|concurrent|streamlit|locust", code.unit.text):
        return
    is_local = re.search(r"(localhost|127\.0\.0\.1|0\.0\.0\.0)[:/]", code.unit.text) or "ollama" in code.modules
    asking = [c for c in code.calls if _asks(code, c)] if is_local else []
    asking_functions = {getattr(code.function(c.node), "name", "") for c in asking if not code.loops_around(c.node)} - {""}
    for call in [*asking, *(c for c in code.calls if c.last in asking_functions)]:
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.For | ast.ListComp)), None)
        if loop is None or not _given(call) & _tainted(loop, _names(_source(loop)[0])) or _feeds_back(code, call, loop):
            continue
        items = _items(code, _source(loop)[1])
        if _BATCHED_NAME.search(ast.unparse(_source(loop)[1])) or (items is not None and items < 2):
            continue
        yield Hit(call.node.lineno, {"call": call.name}, evidence.batch_1(items, _subject(code)))


def _asks(code: Code, call: Built) -> bool:
    """Whether a call sends one prompt to a server and waits for the answer."""
    if call.name in ("ollama.generate", "ollama.chat") or re.search(r"(chat\.)?completions\.create$", call.name):
        return True
    return (
        call.last == "post"
        and "embed" not in ast.unparse(call.node).lower()
        and bool({str(k) for k in code.body(call)} & {"prompt", "messages", "inputs"})
    )


@check("batch-size-of-one-text")
def batch_size_unused(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Pipelines with a batch size that are given one string."""
    sizes = {code.assigned_name(c.node): c.kwargs.get("batch_size") for c in code.model_loads if c.last == "pipeline"}
    for call in code.calls:
        size = call.kwargs.get("batch_size", sizes.get(call.name)) if call.name in sizes else None
        if isinstance(size, int) and size > 1 and call.name and call.args and _is_text(code, call):
            yield Hit(call.node.lineno, {"size": size})


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


@check("model-reloaded-in-loop")
def reloaded(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loads of the same model in each turn of a loop, for each request, or in a function that a loop calls."""
    if code.trains:
        return
    for load in (*code.model_loads, *(c for c, _ in code.engines)):
        where = _repeated(code, load)
        if where:
            yield Hit(load.node.lineno, {"where": where}, wastes.reload_each_time(gpu=code.facts["gpu"]))


def _repeated(code: Code, load: Built) -> str:
    """In words, what loads the same model again and again to generate with it; empty if nothing does."""
    works = [c.node for c in code.generations] + [c.node for c in code.calls if c.name and c.name == code.assigned_name(load.node)]
    loop = next((x for x in code.loops_around(load.node) if isinstance(x, ast.For | ast.AsyncFor | ast.While)), None)
    if loop is not None:
        inside = _same_each_turn(load, loop) and any(loop in code.loops_around(node) for node in works)
        return "in each turn of the loop that generates" if inside else ""
    function = code.function(load.node)
    is_fixed = any("/" in name for name in (*load.args, *load.kwargs.values()) if type(name) is str)
    if code.is_option(load.node) or not is_fixed or not any(code.function(node) is function for node in works):
        return ""
    if any(
        isinstance(a, ast.If) and re.search(r"is None|not in|not \w+$|not self", ast.unparse(a.test))
        for a in code.values.ancestors(load.node)
    ):
        return ""
    if function in code.handlers:
        return "for each request"
    calls = [c for c in code.calls if c.name and c.name == getattr(function, "name", None)]
    return f"in each call of {function.name}, which a loop makes" if any(code.loops_around(c.node) for c in calls) else ""


def _same_each_turn(load: Built, loop: ast.AST) -> bool:
    """Whether a load's arguments cannot change between the turns of a loop, and the loop does not end after it."""
    stored = [n for n in ast.walk(loop) if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Store)]
    changing = {n.id if isinstance(n, ast.Name) else n.attr for n in stored}
    read = [n for a in [load.node.func, *load.node.args, *(k.value for k in load.node.keywords)] for n in ast.walk(a)]
    used = {n.id for n in read if isinstance(n, ast.Name)} | {
        n.attr for n in read if isinstance(n, ast.Attribute) and n is not load.node.func
    }
    return not used & changing and not any(isinstance(n, ast.Break | ast.Return) for n in ast.walk(loop))


@check("more-tokens-than-used")
def more_than_used(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Generations of many tokens of which the file keeps the first letter, word or line."""
    for call in code.generations:
        configs = [
            v for v in [*call.args, *call.kwargs.values()] if isinstance(v, Built) and v.last in ("SamplingParams", "GenerationConfig")
        ]
        given = {**(configs[0].kwargs if configs else {}), **call.kwargs}
        tokens = given.get("max_new_tokens", given.get("max_tokens"))
        if type(tokens) is not int or tokens <= _SHORT_ANSWER * 4 or {"stop", "stop_strings", "stopping_criteria"} & set(given):
            continue
        use = next((n for n in ast.walk(code.function(call.node)) if _keeps_the_start(n) and n.lineno >= call.node.lineno), None)
        if use is not None:
            yield Hit(call.node.lineno, {"tokens": tokens, "line": use.lineno})


def _keeps_the_start(node: ast.AST) -> bool:
    """Whether an expression is the first character, word or line of a generated text."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == 0):
        return False
    value = node.value
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)):
        return False
    if value.func.attr == "split" and (not value.args or getattr(value.args[0], "value", None) in (" ", ".", "\n")):
        return True
    return value.func.attr in ("strip", "split", "splitlines") and bool(
        re.search(r"decode|generated_text|outputs\[0\]\.text", ast.unparse(value))
    )


@check("no-compile")
def no_compile(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Static caches without compilation, and small models on a GPU that generate again and again."""
    if "compile" in code.unit.text or code.trains:
        return
    loads = [s for s in code.subjects if s.place == "load" and s.get("on_gpu") and not s.get("quantized")]
    repeated = [c for c in code.generations if code.loops_around(c.node) or code.function(c.node) in code.handlers]
    is_small = bool(loads) and all(s.size_b is not None and s.size_b <= SMALL_PARAMS_B for s in loads)
    if is_small and repeated and not any("cache_implementation" in c.kwargs for c in code.generations):
        yield Hit(repeated[0].node.lineno, {"what": "a small model generates again and again without torch.compile"})
    lines = code.unit.text.splitlines()
    for node in code.values.nodes:
        if isinstance(node, ast.Constant) and node.value == "static" and "cache_implementation" in lines[node.lineno - 1]:
            loops = [c for c in code.calls if c.name == "model" and code.loops_around(c.node)]
            if loops and not code.named("generate"):
                yield Hit(node.lineno, {"what": "a static cache without torch.compile"})


@check("no-inference-mode")
def no_inference_mode(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Forward passes of a loaded model in a file that never switches gradients off."""
    quiet = ("no_grad", "inference_mode", "set_grad_enabled", "requires_grad_", "grad")
    if code.trains or any(q in code.unit.text for q in quiet):
        return
    for load in code.model_loads:
        name = code.assigned_name(load.node) if MODEL_CLASS.search(load.name) and not _NOT_TORCH.search(load.name) else ""
        calls = (c for c in code.calls if name and c.name == name and not code.modules & {"ctransformers"})
        forward = next((c for c in calls if getattr(code.function(c.node), "name", "") not in _MODULE_METHODS), None)
        if forward is not None:
            yield Hit(forward.node.lineno, {"name": name})
            return


@check("pad-to-max-length")
def pad_to_max(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Prompts padded to a fixed length in a function that runs a model on them."""
    if code.trains or "CLIP" in code.unit.text:  # CLIP's text encoder takes 77 tokens, no fewer
        return
    forwards = [c for c in code.calls if c.name and c.name in code.model_names]
    functions = {id(code.function(c.node)) for c in (*code.generations, *forwards)}
    for call in code.calls:
        padded = call.kwargs.get("padding") == "max_length" or call.kwargs.get("pad_to_max_length") is True
        if padded and id(code.function(call.node)) in functions:
            yield Hit(call.node.lineno)


@check("quantization-not-known")
def not_known(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loads whose quantization or whose 4-bit model's size the file does not tell."""
    if code.trains:
        return
    for call in {id(c.node): c for c in [*code.model_loads, *code.named("BitsAndBytesConfig")]}.values():
        for flag in ("load_in_8bit", "load_in_4bit"):
            if call.kwargs.get(flag) is UNKNOWN or isinstance(call.kwargs.get(flag), Symbol):
                yield Hit(call.node.lineno, {"what": f"{flag} is decided outside this file"})
    for subject in code.subjects:
        if (
            subject.place == "load"
            and subject.get("load_in_4bit") is True
            and subject.facts.get("on_gpu") is not None
            and params_b(subject.model) is None
        ):
            yield Hit(subject.line, {"what": "4-bit weights on a model whose size this file does not tell"})


@check("offloaded-by-accelerate")
def offloaded(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """accelerate's cpu_offload and disk_offload, in a file that does not train."""
    for call in code.named("cpu_offload", "disk_offload") if "accelerate" in code.modules and not code.trains else ():
        yield Hit(call.node.lineno, {"what": f"accelerate's {call.last} keeps the weights off the GPU"})
