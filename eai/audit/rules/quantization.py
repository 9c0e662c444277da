"""Quantization that costs more energy than it saves, or accuracy that nobody looked at."""

from collections.abc import Iterator

from eai.audit.bindings import UNKNOWN
from eai.audit.code import Code
from eai.audit.evidence import SMALL_PARAMS_B, Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built, Symbol

_FIX_INT8 = (
    "load in 16 bit where it fits (dtype=torch.bfloat16), or decide the threshold: "
    "BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0) avoids the decomposition, then measure its accuracy"
)


def _configs(code: Code, flag: str) -> Iterator[Built]:
    """Calls that switch `flag` on for inference: a BitsAndBytesConfig, or a model load with the flag itself."""
    if code.trains:
        return
    loads = {id(load.node) for load in code.model_loads}
    for call in code.calls:
        settings = call.kwargs
        if id(call.node) in loads and isinstance(settings.get("model_kwargs"), dict):
            settings = {**settings["model_kwargs"], **settings}
        if settings.get(flag) is True and (call.last == "BitsAndBytesConfig" or id(call.node) in loads):
            yield call


@rule(
    "int8-default-threshold",
    "python",
    "LLM.int8() with its default threshold",
    hit="""
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("org/Foo-7B", load_in_8bit=True)
""",
    miss="""
from transformers import BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
""",
)
def int8_default(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Without a threshold, bitsandbytes takes 6.0: every product is split into int8 and 16-bit outlier columns, which was measured to
    cost more
    energy than FP16. Naming the threshold makes it a decision. Where the file offers INT8 as one choice of several, no number is given."""
    for call in _configs(code, "load_in_8bit"):
        if "llm_int8_threshold" in call.kwargs or call.is_open:
            continue
        if isinstance(call.kwargs.get("model_kwargs"), dict) and "llm_int8_threshold" in call.kwargs["model_kwargs"]:
            continue
        if code.is_option(call.node):
            yield Hit(call.node.lineno, "load_in_8bit=True without a threshold, in a branch that this file does not decide", _FIX_INT8)
            continue
        waste = evidence.quantization("int8_default", "fp16")
        yield Hit(call.node.lineno, "load_in_8bit=True without a threshold: the default 6.0 decomposes every product", _FIX_INT8, waste)


@rule(
    "int8-pure-unchecked",
    "python",
    "LLM.int8() with threshold 0.0 and no accuracy check",
    hit="""
from transformers import BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
""",
    miss="""
import lm_eval
from transformers import BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
""",
)
def int8_pure(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Threshold 0.0 removes the decomposition's cost but quantizes outliers too; about 25 % worse perplexity was reported. It saves
    nothing if
    the answers are wrong, so its accuracy must be measured."""
    if code.checks_quality:
        return
    for call in _configs(code, "load_in_8bit"):
        if call.kwargs.get("llm_int8_threshold") == 0 and call.kwargs["llm_int8_threshold"] is not UNKNOWN:
            fix = "measure perplexity or task accuracy against the 16-bit model before relying on it"
            yield Hit(call.node.lineno, "llm_int8_threshold=0.0, and nothing in this file looks at accuracy", fix)


@rule(
    "4bit-small-model",
    "python",
    "4-bit weights on a small model",
    hit="""
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_4bit=True)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2-1.5B", quantization_config=c)
""",
    miss="""
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", quantization_config=c)
""",
)
def small_4bit(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """On models up to about 3 billion parameters, expanding 4-bit blocks costs more energy than reading fewer bytes saves; the
    crossover depends on
    the GPU."""
    if code.trains:
        return
    for load in code.model_loads:
        config, size = code.quantization_config(load), code.params_b(load)
        is_4bit = load.kwargs.get("load_in_4bit") is True or (config is not None and config.kwargs.get("load_in_4bit") is True)
        if is_4bit and size is not None and size <= SMALL_PARAMS_B:
            waste = evidence.quantization("nf4", "fp16", SMALL_PARAMS_B)
            fix = "load it in 16 bit (dtype=torch.bfloat16): it is small enough"
            yield Hit(load.node.lineno, f"4-bit weights on a model of {size:.2g} billion parameters", fix, waste)


@rule(
    "4bit-fp32-compute",
    "python",
    "4-bit weights computed in FP32",
    hit="""
from transformers import BitsAndBytesConfig
c = BitsAndBytesConfig(load_in_4bit=True)
""",
    miss="""
from transformers import BitsAndBytesConfig
import torch
c = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
""",
)
def fp32_compute(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """bnb_4bit_compute_dtype is float32 unless it is set: products then miss the 16-bit tensor cores. No published row says what that
    costs."""
    for call in _configs(code, "load_in_4bit"):
        compute = call.kwargs.get("bnb_4bit_compute_dtype", Symbol("torch.float32"))
        is_default = call.last == "BitsAndBytesConfig" and "bnb_4bit_compute_dtype" not in call.kwargs and not call.is_open
        if is_default or (str(compute).rpartition(".")[2] == "float32" and call.last == "BitsAndBytesConfig" and not call.is_open):
            yield Hit(call.node.lineno, "4-bit products are computed in float32", "set bnb_4bit_compute_dtype=torch.bfloat16")


@rule(
    "quantization-not-known",
    "python",
    "Quantization decided outside the file",
    hit="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained(name, load_in_8bit=flag)
""",
    miss="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained(name, load_in_8bit=False)
""",
)
def not_known(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Whether quantization saves or wastes depends on the method and the model's size. Where the file does not tell them, nothing is
    guessed: the
    place is named so that a reader can look."""
    if code.trains:
        return
    for call in {id(c.node): c for c in [*code.model_loads, *code.named("BitsAndBytesConfig")]}.values():
        open_flags = [
            f for f in ("load_in_8bit", "load_in_4bit") if call.kwargs.get(f) is UNKNOWN or isinstance(call.kwargs.get(f), Symbol)
        ]
        for flag in open_flags:
            yield Hit(
                call.node.lineno, f"{flag} is decided outside this file", "see the rules on int8 and 4-bit weights before switching it on"
            )
        config = code.quantization_config(call)
        is_4bit = call.kwargs.get("load_in_4bit") is True or (config is not None and config.kwargs.get("load_in_4bit") is True)
        if is_4bit and call in code.model_loads and code.params_b(call) is None:
            fix = "prefer 16 bit on models up to about 3 billion parameters"
            yield Hit(call.node.lineno, "4-bit weights on a model whose size this file does not tell", fix)
