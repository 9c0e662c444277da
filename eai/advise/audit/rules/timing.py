"""Time and tokens counted wrongly: what energy per token divides by."""

import ast
import re
from collections.abc import Iterator

from eai.advise.audit.code import Code
from eai.advise.audit.evidence import Evidence
from eai.advise.audit.finding import FIGURE, Hit, Waste, rule

_CLOCK = ("time", "perf_counter", "monotonic", "perf_counter_ns", "time_ns", "monotonic_ns", "default_timer")
_SYNC = re.compile(r"synchronize|\.item\(|\.cpu\(|\.tolist\(|\.numpy\(|cuda\.Event|block_until_ready|do_bench|benchmark\.Timer")
_TOKENS = re.compile(r"(^|_)(n_?|num_?)?tok(en)?s?(_|$|count|per)", re.IGNORECASE)


def _clock_reads(code: Code, function: ast.AST) -> list[ast.Call]:
    """The clock readings of a function, in line order."""
    modules = ("time", "timeit", "")
    reads = [c.node for c in code.calls if c.last in _CLOCK and c.name.rpartition(".")[0] in modules and code.function(c.node) is function]
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
    if _SYNC.search(code.unit.text) or "cuda" not in code.unit.text:
        return
    models = {code.assigned_name(load.node) for load in code.model_loads if code.on_gpu(load)} - {""}
    for call in code.calls:
        if call.name not in models:
            continue
        lines = [n.lineno for n in _clock_reads(code, code.function(call.node))]
        if any(x < call.node.lineno for x in lines) and any(x > call.node.lineno for x in lines):
            yield Hit(
                call.node.lineno,
                f"{call.name}(...) is timed without synchronizing",
                "torch.cuda.synchronize() before each reading of the clock",
            )
            return


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
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "len" or len(node.args) != 1:
            continue
        split = node.args[0]
        is_words = isinstance(split, ast.Call) and isinstance(split.func, ast.Attribute) and split.func.attr == "split" and not split.args
        name = _counter_name(code, node) if is_words else ""
        if is_words and _TOKENS.search(name.rpartition(".")[2]) and "estimate" not in name and "approx" not in name:
            note = "0.75 English words a token (OpenAI's rule of thumb), range 0.6 to 0.85"
            waste = Waste(25.0, 15.0, 40.0, "estimate", note, unit=FIGURE)
            yield Hit(
                node.lineno, f"{name} counts words, not tokens", "count the ids that generate() returned, without the prompt's", waste
            )


def _counter_name(code: Code, node: ast.AST) -> str:
    """The name that a count goes into: by assignment, addition, or as a keyword or dictionary entry."""
    for a in code.values.ancestors(node):
        if isinstance(a, ast.Assign) and len(a.targets) == 1:
            return ast.unparse(a.targets[0])
        if isinstance(a, ast.AugAssign):
            return ast.unparse(a.target)
        if isinstance(a, ast.keyword):
            return a.arg or ""
        if not isinstance(a, ast.BinOp):
            return ""
    return ""
