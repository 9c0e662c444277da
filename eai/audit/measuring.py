"""Checks of energy, time and tokens measured wrongly: the figure misleads whatever the code saves."""

import ast
import re
from collections.abc import Iterator

from eai.audit.checks import Hit, check
from eai.audit.code import Code
from eai.audit.evidence import FIGURE, Evidence, Waste, slow_sampling
from eai.audit.values import Built, Symbol

_POWER_CALLS = {"nvmlDeviceGetPowerUsage", "power_draw", "nvmlDeviceGetPowerUsage_v2"}
_COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
_STORES = ("append", "put", "put_nowait", "write", "writerow", "extend", "add", "send", "record", "observe")
_CLOCK = ("time", "perf_counter", "monotonic", "perf_counter_ns", "time_ns", "monotonic_ns", "default_timer")
_SYNC = re.compile(r"synchronize|\.item\(|\.cpu\(|\.tolist\(|\.numpy\(|cuda\.Event|block_until_ready|do_bench|benchmark\.Timer")
_TOKENS = re.compile(r"(^|_)(n_?|num_?)?tok(en)?s?(_|$|count|per)", re.IGNORECASE)
_COUNTS = re.compile(r"(^|_)(count|num|n|total|tokens?_?(per|count|used))(_|$)|token_?count|tokencount", re.IGNORECASE)
_INTERVAL = re.compile(r"interval|period|^dt$|delta_?t|sampl\w*_(s|time|rate)|step_s|poll", re.IGNORECASE)


def _reads_power(call: Built) -> bool:
    """Whether a call reads the GPU's power: NVML, or nvidia-smi with power.draw."""
    is_run = call.last in ("run", "check_output", "Popen", "getoutput", "popen", "system")
    return call.last in _POWER_CALLS or (is_run and "power.draw" in ast.unparse(call.node))


def _helpers(code: Code) -> set[str]:
    """Functions of the file that read the power."""
    return {getattr(code.function(c.node), "name", "") for c in code.calls if _reads_power(c)} - {""}


def _power_reads(code: Code) -> list[Built]:
    """Calls that read the power, directly or through a function of the file."""
    helpers = _helpers(code)
    return [c for c in code.calls if _reads_power(c) or c.last in helpers]


@check("power-sampled-slowly")
def sampled_slowly(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Loops that keep power readings and sleep a second or longer between them."""
    for call in code.named("sleep"):
        interval = call.args[0] if call.args else None
        loop = next((x for x in code.loops_around(call.node) if isinstance(x, ast.While | ast.For)), None)
        if type(interval) not in (int, float) or not 1 <= interval <= 60 or loop is None:
            continue
        works = any(loop in code.loops_around(c.node) for c in code.generations)
        if any(loop in code.loops_around(c.node) for c in _power_reads(code)) and not works and _keeps(loop):
            yield Hit(call.node.lineno, {"interval": f"{interval:g}"}, slow_sampling(interval))


def _keeps(loop: ast.AST) -> bool:
    """Whether a loop keeps what it reads: appends, adds or writes it; one that only waits or logs measures no energy."""
    stores = (n for n in ast.walk(loop) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _STORES)
    return any(stores) or any(isinstance(n, ast.AugAssign) for n in ast.walk(loop))


@check("power-read-after-work")
def read_after(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Functions whose only power reading comes after their last generation."""
    if re.search(rf"Thread|Process\(|{_COUNTER}|Popen", code.unit.text):
        return
    reads, helpers = _power_reads(code), _helpers(code)
    for function, generations in code.generations_in.items() if reads else ():
        own = [r for r in reads if code.function(r.node) is function]
        if getattr(function, "name", "") in helpers and not any(_reads_power(r) for r in own):
            continue
        work = [c.node.lineno for c in generations]
        lines = [r.node.lineno for r in own]
        if lines and min(lines) > max(work):
            note = (
                "an A100 idles at 80 W with a CUDA context; 110 to 220 W (150 in the middle) were published while its sibling A800 decodes"
            )
            low, value, high = (100 * (1 - 80 / load_w) for load_w in (110, 150, 220))
            yield Hit(min(lines), {}, Waste(value, low, high, "estimate", note, unit=FIGURE))


@check("idle-before-load")
def idle_before_load(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Idle powers read before the model is loaded in the same function."""
    for load in code.model_loads:
        for read in _power_reads(code):
            name = code.assigned_name(read.node) or _assigned_arithmetic(code, read.node)
            is_before = code.function(read.node) is code.function(load.node) and read.node.lineno < load.node.lineno
            if is_before and re.search(r"idle|baseline", name, re.IGNORECASE):
                note = "an A100's 26 W between bare and context idle, in a net power of 110 to 220 W (150 in the middle) less 54 W"
                low, value, high = (100 * 26 / (load_w - 54) for load_w in (220, 150, 110))
                yield Hit(read.node.lineno, {"name": name}, Waste(value, low, high, "estimate", note, unit=FIGURE))
                return


def _assigned_arithmetic(code: Code, node: ast.AST) -> str:
    """The name that an arithmetic expression around a call is assigned to, empty if none."""
    for a in code.values.ancestors(node):
        if isinstance(a, ast.Assign) and len(a.targets) == 1:
            return ast.unparse(a.targets[0])
        if not isinstance(a, ast.BinOp | ast.Call | ast.Attribute | ast.GeneratorExp | ast.ListComp):
            return ""
    return ""


@check("all-gpus-billed")
def all_gpus(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Sums over every GPU of the host in a file whose model runs on cuda:0."""
    text = code.unit.text
    if not re.search(r"[\"']cuda:0[\"']", text):
        return
    for tracker in code.named("EmissionsTracker", "OfflineEmissionsTracker"):
        if "gpu_ids" not in tracker.kwargs and not tracker.is_open:
            yield Hit(tracker.node.lineno, {"what": f"{tracker.last} reads every visible GPU"})
            return
    for call in code.named("run", "check_output", "getoutput"):
        command = ast.unparse(call.node)
        is_summed = "sum(" in code.source(code.function(call.node))
        if "nvidia-smi" in command and "power.draw" in command and not re.search(r"-i\b|--id", command) and is_summed:
            yield Hit(call.node.lineno, {"what": "nvidia-smi lists every GPU and the powers are summed"})
            return
    if not re.search(r"nvmlDeviceGetCount|device_count\(\)", text):
        return
    for call in (c for c in code.calls if _reads_power(c) or c.last == _COUNTER):
        around = list(code.values.ancestors(call.node))
        is_summed = any(isinstance(a, ast.AugAssign) or (isinstance(a, ast.Call) and ast.unparse(a.func) == "sum") for a in around)
        if is_summed and any(_over_all(code, x) for x in code.loops_around(call.node)):
            yield Hit(call.node.lineno, {"what": "the power of all GPUs is summed"})
            return


def _over_all(code: Code, loop: ast.AST) -> bool:
    """Whether a loop or comprehension runs over every GPU of the host, by number or by a list of handles made of them."""
    if isinstance(loop, ast.While):
        return False
    iterable = loop.iter if isinstance(loop, ast.For | ast.AsyncFor) else loop.generators[0].iter
    sources = code.bound(iterable.id) if isinstance(iterable, ast.Name) else [iterable]
    return any(re.search(r"nvmlDeviceGetCount|device_count", ast.unparse(s)) for s in sources)


@check("timed-without-sync")
def without_sync(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Forward passes on a GPU between two readings of a clock or counter, without anything that waits for them."""
    if "cuda" not in code.unit.text:
        return
    on_gpu = {code.assigned_name(load.node) for load in code.model_loads if code.on_gpu(load)}
    models = (on_gpu | (code.model_names - {code.assigned_name(x.node) for x in code.model_loads})) - {""}
    models |= {
        a.arg
        for n in code.values.nodes
        if isinstance(n, ast.FunctionDef) and re.search("bench|latency|time", n.name)
        for a in n.args.args
        if a.arg == "model"
    }
    clocks = [c for c in code.calls if c.last in _CLOCK and c.name.rpartition(".")[0] in ("time", "timeit", "")]
    waits: dict[int, bool] = {}
    for call in (c for c in code.calls if c.name in models):
        function = code.function(call.node)
        if id(function) not in waits:
            waits[id(function)] = _SYNC.search(code.source(function)) is not None
        if waits[id(function)]:
            continue
        lines = [c.node.lineno for c in [*clocks, *code.named(_COUNTER)] if code.function(c.node) is function]
        if any(x < call.node.lineno for x in lines) and any(x > call.node.lineno for x in lines):
            yield Hit(call.node.lineno, {"name": call.name})
            return


@check("tokens-counted-as-words")
def words_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Counts of a text's words that go into a name for tokens, or that a function for counting tokens returns."""
    for node in code.values.nodes:
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "len" or len(node.args) != 1 or not _are_words(code, node.args[0]):
            continue
        name, factor = _counter(code, node)
        if _TOKENS.search(name.rpartition(".")[2]) and not re.search(
            "estimat|approx|rough|fallback", name + code.source(code.function(node))[:400] if name else ""
        ):
            missed = 100 * (1 - 0.75 * factor)
            note = f"0.75 English words a token (OpenAI's rule of thumb), range 0.6 to 0.85{f', times {factor:g}' if factor != 1 else ''}"
            bounds = sorted(abs(100 * (1 - w * factor)) for w in (0.6, 0.85))
            yield Hit(
                node.lineno,
                {"name": name},
                Waste(abs(missed), min(bounds[0], abs(missed)), max(bounds[1], abs(missed)), "estimate", note, unit=FIGURE),
            )


def _are_words(code: Code, node: ast.AST, depth: int = 0) -> bool:
    """Whether an expression is a text split at spaces, directly, filtered, or through the name it was given just before."""
    if depth > 3:
        return False
    if isinstance(node, ast.Name):
        values = code.bound(node.id)
        return len(values) == 1 and isinstance(values[0], ast.Call | ast.ListComp) and _are_words(code, values[0], depth + 1)
    if isinstance(node, ast.ListComp):
        return isinstance(node.elt, ast.Name) and len(node.generators) == 1 and _are_words(code, node.generators[0].iter, depth + 1)
    if not isinstance(node, ast.Call):
        return False
    if ast.unparse(node.func) in ("re.findall", "re.split") and node.args and isinstance(node.args[0], ast.Constant):
        return node.args[0].value in (r"\w+", r"\b\w+\b", r"\s+", r"\S+")
    if not isinstance(node.func, ast.Attribute) or node.func.attr != "split":
        return False
    return not node.args or (isinstance(node.args[0], ast.Constant) and node.args[0].value == " ")


def _counter(code: Code, node: ast.AST) -> tuple[str, float]:
    """(name that a count goes into, the constant it is multiplied by): by assignment, addition, keyword or return."""
    factor = 1.0
    for a in code.values.ancestors(node):
        if isinstance(a, ast.BinOp) and isinstance(a.op, ast.Mult | ast.Div):
            constant = next((x.value for x in (a.left, a.right) if isinstance(x, ast.Constant) and type(x.value) in (int, float)), None)
            factor *= constant if constant and isinstance(a.op, ast.Mult) else 1 / constant if constant and constant < 5 else 1.0
        if isinstance(a, ast.Assign) and len(a.targets) == 1:
            return ast.unparse(a.targets[0]), factor
        if isinstance(a, ast.AugAssign):
            return ast.unparse(a.target), factor
        if isinstance(a, ast.keyword):
            return a.arg or "", factor
        if isinstance(a, ast.Dict):
            key = next((k for k, v in zip(a.keys, a.values, strict=True) if any(x is node for x in ast.walk(v))), None)
            return (key.value, factor) if isinstance(key, ast.Constant) and isinstance(key.value, str) else ("", factor)
        if isinstance(a, ast.Return):
            name = getattr(code.function(a), "name", "")
            return (name if "per" in name.split("_") or _COUNTS.search(name) else ""), factor
        is_sum = isinstance(a, ast.Call) and ast.unparse(a.func) in (
            "sum",
            "int",
            "round",
            "floor",
            "math.floor",
            "ceil",
            "math.ceil",
            "max",
        )
        if not is_sum and not isinstance(a, ast.BinOp | ast.GeneratorExp | ast.ListComp):
            return "", factor
    return "", factor


@check("padding-counted-as-tokens")
def padding_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Counts of generated tokens by the width of a batch that was padded."""
    for call in code.generations:
        function = code.function(call.node)
        text = code.source(function)
        if not re.search(r"padding\s*=\s*(True|[\"'](longest|max_length)[\"'])", text) or re.search(
            r"pad_token_id\)|attention_mask.*sum|eos_token_id\)|!= ?\w*pad|ne\(", text
        ):
            continue
        output = code.assigned_name(call.node)
        for node in ast.walk(function) if output else ():
            if not isinstance(node, ast.Assign | ast.AugAssign) or getattr(node, "lineno", 0) <= call.node.lineno:
                continue
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            value = ast.unparse(node.value)
            counts = re.search(r"\.shape\[|\.size\(|\.numel\(|len\(", value) and re.search(rf"\b{re.escape(output)}\b", value)
            if _TOKENS.search(target.rpartition(".")[2]) and counts and not re.search(r"decode|skip_special", value):
                note = "answers of a batch end at different lengths: 10 to 50 % (25 in the middle) of the rows' ends are padding"
                yield Hit(node.lineno, {"name": target}, Waste(25.0, 10.0, 50.0, "estimate", note, unit=FIGURE))
                break


@check("seconds-from-samples")
def seconds_from_samples(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Energies from a number or sum of power readings times the nominal interval between them."""
    reads = [c for c in code.calls if _reads_power(c)]
    if not reads:
        return
    pauses = [c for c in code.named("sleep", "wait") if c.args]
    nominal = {ast.unparse(c.node.args[0]) for c in pauses}
    own_s = (0.06, 0.03, 0.3) if any("nvidia-smi" in ast.unparse(c.node) for c in reads) else (0.002, 0.0003, 0.01)
    for node in code.values.nodes:
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
            continue
        sides = [ast.unparse(node.left), ast.unparse(node.right)]
        step = next((s for s in sides if s in nominal or _INTERVAL.search(s.rpartition(".")[2])), "")
        other = sides[1 - sides.index(step)] if step else ""
        if (
            not re.search(r"(\b|\.)(len|sum|np\.sum)\(", other)
            or re.search(r"time|stamp", other)
            or not re.search(r"watt|power|sampl|reading|\bw\b|ws\b", other, re.IGNORECASE)
        ):
            continue
        seconds = next((c.args[0] for c in pauses if type(c.args[0]) in (int, float)), None)
        value = code.values.resolve(node.right if sides[1] == step else node.left)
        seconds = value if type(value) in (int, float) and not isinstance(value, Symbol) else seconds
        waste = None
        if seconds and 0 < seconds <= 60:
            shares = [100 * s / (seconds + s) for s in own_s]
            middle, low, high = (1e3 * s for s in own_s)
            note = f"a reading takes {low:g} to {high:g} ms ({middle:g} in the middle) beside the pause of {1e3 * seconds:g} ms"
            waste = Waste(*shares, "estimate", note, unit=FIGURE)
        yield Hit(node.lineno, {"step": step}, waste)
        return
