"""Checks of energy, time and tokens measured wrongly: the figure misleads whatever the code saves."""

import ast
import re
from collections.abc import Iterator

from eai.audit.checks import Hit, check, source_of
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
_ESTIMATED = re.compile(r"estimat|approx|rough|fallback|mock|fake|dummy|stub")
_TOKENIZED = re.compile(r"tokeniz|tiktoken|\.encode\(", re.IGNORECASE)
_SIMULATED = re.compile(r"\bsimulat(or|ed|es|ion)\b|dummy_text", re.IGNORECASE)
_BUDGETED = re.compile(r"budget|chunk|truncat|context|window|limit", re.IGNORECASE)
_MEASURED = re.compile(r"joule|watt|energy|kwh|throughput|per_tok|per_s|tok/s|tokens/s|\btps\b|emission", re.IGNORECASE)
_COUNTED = re.compile(r"usage|tiktoken|tokenizer|encoding|count|tokens? is", re.IGNORECASE)
_INTERVAL = re.compile(r"interval|period|^dt$|delta_?t|sampl\w*_(s|time|rate)|step_s|poll", re.IGNORECASE)
_POWERS = re.compile(r"watt|power|sampl|reading|\bw\b|ws\b", re.IGNORECASE)
_PADDED = re.compile(r"padding\s*=\s*(True|[\"'](longest|max_length)[\"'])")
_UNPADDED = re.compile(r"pad_token_id\)|attention_mask.*sum|eos_token_id\)|!= ?\w*pad|ne\(")
_WHOLE = re.compile(r"\.numel\(|\.size\(0\)|\.shape\[0\]|len\(\w+\[\w*[a-z]\w*\]\)|\.shape\[-?1\].*\*|\*.*\.shape\[-?1\]")  # over all rows
_ROUNDING = ("sum", "int", "round", "floor", "math.floor", "ceil", "math.ceil", "max")


def _reads_power(call: Built) -> bool:
    """Whether a call reads the GPU's power: NVML, or nvidia-smi with power.draw."""
    is_run = call.last in ("run", "check_output", "Popen", "getoutput", "popen", "system")
    return call.last in _POWER_CALLS or (is_run and "power.draw" in ast.unparse(call.node))


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
        is_kept = bool(inside & set(_STORES)) or any(isinstance(n, ast.AugAssign) for n in ast.walk(loop))  # else it waits or logs
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
        what = ((c.node.lineno, _bills_all(code, c)) for c in code.calls)
        yield from (Hit(line, {"what": text}) for line, text in [next(((n, w) for n, w in what if w), (0, ""))] if text)


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
    given = {n.args for n in code.nodes(ast.FunctionDef) if re.search("bench|latency|time", n.name)}
    models = {name for name in code.model_names if name not in loaded or code.on_gpu(loaded[name])}
    models |= {"model"} if any(a.arg == "model" for spec in given for a in spec.args) else set()
    readings = [c for c in code.calls if c.last in _CLOCK and c.name.rpartition(".")[0] in ("time", "timeit", "")] + code.named(_COUNTER)
    for call in (c for c in code.calls if c.name in models):
        function, line = code.function(call.node), call.node.lineno
        lines = [c.node.lineno for c in readings if code.function(c.node) is function]
        if lines and min(lines) < line < max(lines) and not _SYNC.search(code.source(function)):
            yield Hit(line, {"name": call.name})
            return


@check("tokens-counted-as-words")
def words_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Counts of a text's words that go into a name for tokens, or that a function for counting tokens returns."""
    for node in code.nodes(ast.Call):
        if ast.unparse(node.func) != "len" or len(node.args) != 1 or not _are_words(code, node.args[0]):
            continue
        name, factor = _counter(code, node)
        if not _TOKENS.search(name.rpartition(".")[2]) or _is_fallback(code, node, name):
            continue
        note = f"0.75 English words a token (OpenAI's rule of thumb), range 0.6 to 0.85{f', times {factor:g}' if factor != 1 else ''}"
        missed = [abs(100 * (1 - words * factor)) for words in (0.75, 0.6, 0.85)]
        yield Hit(node.lineno, {"name": name}, Waste(missed[0], min(missed), max(missed), "estimate", note, unit=FIGURE))


def _is_fallback(code: Code, node: ast.AST, name: str) -> bool:
    """Whether a count says of itself that it is an estimate, keeps a text short, or stands in where a real count is missing."""
    function = code.function(node)
    text = code.source(function)
    if _SIMULATED.search(code.unit.text) or (getattr(function, "name", None) == name and _TOKENIZED.search(text)):
        return True
    owner = getattr(code.values.around(node, ast.ClassDef), "name", "")
    comment = "\n".join(code.lines[max(0, node.lineno - 3) : node.lineno])
    if _ESTIMATED.search(f"{owner} {name} {text[:400]} {comment}".lower()) or (_BUDGETED.search(text) and not _MEASURED.search(text)):
        return True
    around = [a for a in code.values.ancestors(node) if isinstance(a, ast.If | ast.IfExp | ast.ExceptHandler)]
    return any(isinstance(a, ast.ExceptHandler) or _COUNTED.search(ast.unparse(a.test)) for a in around)


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
                return (name if "per" in name.split("_") or _COUNTS.search(name) else ""), factor
            case ast.BinOp() | ast.GeneratorExp() | ast.ListComp() | ast.IfExp():
                pass
            case ast.Call(func=function) if ast.unparse(function) in _ROUNDING:
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
        if not _PADDED.search(text) or _UNPADDED.search(text):
            continue
        for node in sorted((n for n in ast.walk(function) if isinstance(n, ast.Assign | ast.AugAssign)), key=lambda n: n.lineno):
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            value = ast.unparse(node.value)
            if node.lineno <= call.node.lineno or not any(re.search(rf"\b{re.escape(o)}\b", value) for o in outputs):
                continue
            if re.match(rf"({'|'.join(map(re.escape, outputs))})\[:, .*:\]$", value):
                outputs.add(target)  # the answers without their prompts
            is_whole = _WHOLE.search(value) and "decode" not in value
            if is_whole and _TOKENS.search(target.rpartition(".")[2]):
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
        step = next((s for s in sides if s in nominal or _INTERVAL.search(s.rpartition(".")[2])), "")
        other = next((s for s in sides if s != step), "") if step else ""
        is_added = isinstance(code.values.parent.get(node), ast.AugAssign) and step in nominal
        if isinstance(code.values.around(node, (ast.stmt, ast.Compare)), ast.Compare):
            continue
        if (
            not (is_added or re.search(r"(\b|\.)(len|sum|np\.sum)\(", other))
            or re.search(r"time|stamp", other)
            or not _POWERS.search(other)
        ):
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
