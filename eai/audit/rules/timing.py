"""Time and tokens counted wrongly: what energy per token divides by."""

import ast
import re
from collections.abc import Iterator

from eai.audit.code import Code
from eai.audit.evidence import Evidence
from eai.audit.finding import FIGURE, Hit, Waste, rule

_CLOCK = ("time", "perf_counter", "monotonic", "perf_counter_ns", "time_ns", "monotonic_ns", "default_timer")
_COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
_SYNC = re.compile(r"synchronize|\.item\(|\.cpu\(|\.tolist\(|\.numpy\(|cuda\.Event|block_until_ready|do_bench|benchmark\.Timer")
_TOKENS = re.compile(r"(^|_)(n_?|num_?)?tok(en)?s?(_|$|count|per)", re.IGNORECASE)


def _clock_reads(code: Code, function: ast.AST) -> list[ast.Call]:
    """The readings of the clock or of the energy counter in a function, in line order."""
    modules = ("time", "timeit", "")
    clocks = [c for c in code.calls if c.last in _CLOCK and c.name.rpartition(".")[0] in modules]
    reads = [c.node for c in [*clocks, *code.named(_COUNTER)] if code.function(c.node) is function]
    return sorted(reads, key=lambda n: n.lineno)


@rule(
    "timed-without-sync",
    "python",
    "GPU work timed without waiting for it",
    hit="""
import time, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("org/model").to("cuda")
start = time.perf_counter()
out = model(**inputs)
seconds = time.perf_counter() - start
""",
    miss="""
import time, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("org/model").to("cuda")
start = time.perf_counter()
out = model(**inputs)
torch.cuda.synchronize()
seconds = time.perf_counter() - start
""",
)
def without_sync(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """CUDA calls return before the GPU has worked: without torch.cuda.synchronize() the clock measures how fast kernels are queued.
    generate() reads
    each token back and is left alone."""
    if "cuda" not in code.unit.text:
        return
    on_gpu = {code.assigned_name(load.node) for load in code.model_loads if code.on_gpu(load)}
    models = (on_gpu | (code.model_names - {code.assigned_name(x.node) for x in code.model_loads})) - {""}
    for call in code.calls:
        function = code.function(call.node)
        if call.name not in models or _SYNC.search(_source(code, function)):
            continue
        lines = [n.lineno for n in _clock_reads(code, function)]
        if any(x < call.node.lineno for x in lines) and any(x > call.node.lineno for x in lines):
            fix = "torch.cuda.synchronize() before each reading of the clock or counter"
            yield Hit(call.node.lineno, f"{call.name}(...) is measured without synchronizing", fix)
            return


def _source(code: Code, function: ast.AST) -> str:
    """The text of a function, of the whole file for a module."""
    if isinstance(function, ast.Module):
        return code.unit.text
    return "\n".join(code.unit.text.splitlines()[function.lineno - 1 : function.end_lineno])


@rule(
    "tokens-counted-as-words",
    "python",
    "Tokens counted by splitting at spaces",
    hit="""
from transformers import AutoTokenizer
num_tokens = len(text.split())
""",
    miss="""
from transformers import AutoTokenizer
num_tokens = len(tokenizer(text)["input_ids"])
""",
)
def words_as_tokens(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """English text has about 1.3 tokens a word, code and other languages more: energy per token comes out too high by that factor."""
    for node in code.values.nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "len" or len(node.args) != 1:
            continue
        name = _counter_name(code, node) if _are_words(code, node.args[0]) else ""
        if _TOKENS.search(name.rpartition(".")[2]) and "estimate" not in name and "approx" not in name:
            note = "0.75 English words a token (OpenAI's rule of thumb), range 0.6 to 0.85"
            waste = Waste(25.0, 15.0, 40.0, "estimate", note, unit=FIGURE)
            yield Hit(
                node.lineno, f"{name} counts words, not tokens", "count the ids that generate() returned, without the prompt's", waste
            )


def _are_words(code: Code, node: ast.AST) -> bool:
    """Whether an expression is a text split at spaces, directly or through the name it was given just before."""
    if isinstance(node, ast.Name):
        values = [v for (_, name), bound in code.values.bound.items() if name == node.id for _, v in bound]
        return len(values) == 1 and isinstance(values[0], ast.Call) and _are_words(code, values[0])
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "split"):
        return False
    return not node.args or (isinstance(node.args[0], ast.Constant) and node.args[0].value == " ")


def _counter_name(code: Code, node: ast.AST) -> str:
    """The name that a count goes into: by assignment, addition, as a keyword, or as the rate that its function returns."""
    for a in code.values.ancestors(node):
        if isinstance(a, ast.Assign) and len(a.targets) == 1:
            return ast.unparse(a.targets[0])
        if isinstance(a, ast.AugAssign):
            return ast.unparse(a.target)
        if isinstance(a, ast.keyword):
            return a.arg or ""
        if isinstance(a, ast.Return):
            name = getattr(code.function(a), "name", "")
            return name if "per" in name.split("_") else ""
        is_sum = isinstance(a, ast.Call) and isinstance(a.func, ast.Name) and a.func.id == "sum"
        if not is_sum and not isinstance(a, ast.BinOp | ast.GeneratorExp | ast.ListComp):
            return ""
    return ""
