"""What each quantization strategy means: bits, what is stored, what computes, which hardware and library it needs.

The strategies are lines of eai/strategies.csv: facts from the methods' papers (LLM.int8(): arXiv 2208.07339; NF4, FP4 and double
quantization: arXiv 2305.14314; OCP Microscaling Formats v1.0) and the documentation of bitsandbytes 0.50, torchao 0.18 and NVIDIA (NVFP4).
Only linear layers inside the transformer blocks are quantized: embeddings, norms and the language-model head keep `other_bits`.
"""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

from eai.errors import UserError


@dataclass(frozen=True)
class Strategy:
    """One quantization strategy. `weight_bits`: stored bits a weight of a quantized linear layer, scales not counted; `scale_bits`: further
    bits a weight for block or row scales (a row scale of LLM.int8() is spread over thousands of weights: 0); `other_bits`: stored bits of
    all other parameters; `stored`: data type of the quantized weights; `compute`: what the matrix product runs in; `threshold`:
    LLM.int8()'s outlier threshold; `attention_bits`: of the attention's linear layers where they differ from `weight_bits`;
    `min_capability`: the lowest CUDA compute capability, None if any GPU will do."""

    slug: str
    title: str
    library: str
    weight_bits: float
    other_bits: int
    stored: str
    compute: str
    on_cpu: bool
    min_capability: float | None = None
    scale_bits: float = 0.0
    threshold: float | None = None
    needs_outliers: bool = False
    attention_bits: float | None = None
    note: str = ""

    @property
    def is_quantized(self) -> bool:
        """Whether linear layers are stored in another format than the rest of the model."""
        return self.stored not in ("float32", "float16", "bfloat16")


def _cell(text: str) -> str | float | bool | None:
    """A cell of the table as what it stands for: a number, a truth value, a text."""
    if re.fullmatch(r"[\d.]+", text):
        return float(text) if "." in text else int(text)
    return {"true": True, "false": False}.get(text, text)


with Path(__file__).with_suffix(".csv").open(newline="", encoding="utf-8") as _file:
    _KNOWN = [Strategy(**{name: _cell(text) for name, text in row.items() if text}) for row in csv.DictReader(_file)]
STRATEGIES = {s.slug: s for s in _KNOWN if s.library != "vllm"}
SERVED = {s.slug: s for s in _KNOWN if s.library == "vllm"}
"""Formats that only a server runs: they can be read and predicted, never loaded here."""
UNSPECIFIED, GGUF = "unspecified_", "gguf_"
GGUF_BITS = {
    "q2_k": 2.625, "q3_k": 3.4375, "q4_0": 4.5, "q4_1": 5.0, "q4_k": 4.5, "q5_0": 5.5, "q5_1": 6.0, "q5_k": 5.5, "q6_k": 6.5625,
    "q8_0": 8.5, "iq1_s": 1.5625, "iq1_m": 1.75, "iq2_xxs": 2.0625, "iq2_xs": 2.3125, "iq2_s": 2.5625, "iq3_xxs": 3.0625,
    "iq3_s": 3.4375, "iq4_nl": 4.5, "iq4_xs": 4.25, "mxfp4": 4.25,
}  # fmt: skip
"""Bits of a weight with the scales of its block, of each block format of GGUF files (ggml-common.h of llama.cpp)."""
GGUF_MIXTURES = {
    "q2_k_s": 2.97, "q2_k_m": 3.16, "q3_k_s": 3.64, "q3_k_m": 4.0, "q3_k_l": 4.3, "q4_k_s": 4.67, "q4_k_m": 4.89, "q4_k_l": 5.0,
    "q5_k_s": 5.57, "q5_k_m": 5.7, "q5_k_l": 5.8, "q6_k_l": 6.7, "iq2_m": 2.93, "iq3_xs": 3.5, "iq3_m": 3.76,
}  # fmt: skip
"""The same of whole files that hold some layers in wider blocks: file size over weights of an 8 B model (tools/quantize of llama.cpp)."""
_GGUF_NOTE = "run by a server (llama.cpp, Ollama), never loaded here; a mixture (_S, _M, _L) holds some layers in wider blocks"


def canonical(name: str) -> str:
    """The slug of a format as checkpoints and engines write it: `Q4_K_M`, `FP8`, `bfloat16`; any other name as it is."""
    key = str(name).strip().lower().replace("-", "_")
    key = {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}.get(key, key)
    if key in STRATEGIES or key in SERVED:
        return key
    kind = key.removeprefix(GGUF)
    return GGUF + kind if kind in GGUF_BITS or kind in GGUF_MIXTURES or kind in ("f16", "bf16") else str(name)


def get(slug: str) -> Strategy:
    """The strategy called `slug`; `int8_t<x>` is LLM.int8() with outlier threshold x, `gguf_<type>` a GGUF file as llama.cpp runs it.
    Raises UserError for a name that is not in the vocabulary, published names like `int8` included: they do not say which method ran."""
    if known := STRATEGIES.get(slug) or SERVED.get(slug):
        return known
    if match := re.fullmatch(r"int8_t(\d+(?:\.\d+)?)", slug):
        x = float(match[1])
        title = f"LLM.int8(), threshold {x:g}"
        return replace(STRATEGIES["int8_default"], slug=slug, title=title, threshold=x, needs_outliers=x > 0)
    kind, title = slug.removeprefix(GGUF), f"GGUF {slug.removeprefix(GGUF).upper()}"
    if slug.startswith(GGUF) and (stored_bits := GGUF_MIXTURES.get(kind) or GGUF_BITS.get(kind)):
        bits, compute = int(re.search(r"\d", kind)[0]), "int8 with a scale a block"
        return Strategy(slug, title, "llama_cpp", bits, 8, kind, compute, True, scale_bits=stored_bits - bits, note=_GGUF_NOTE)
    if slug in ("gguf_f16", "gguf_bf16"):
        return replace(STRATEGIES["fp16" if kind == "f16" else kind], slug=slug, title=title, library="llama_cpp")
    hint = {"int8": "int8_default or int8_pure", "int4": "nf4, nf4_dq, fp4 or int4_wo", "baseline": "fp16 or fp32", "mixed": "fp16_mixed"}
    expected = f"one of {', '.join(STRATEGIES)}, int8_t<threshold>, or of a server gguf_<type> such as gguf_q4_k_m"
    do = f"'{slug}' does not say which method ran, use {hint[slug]}" if slug in hint else ""
    raise UserError(f"unknown quantization '{slug}'", expected, do)


def default_baseline(gpu: str) -> str:
    """The strategy that ratios refer to unless another is named: fp32 on a CPU, fp16 on a GPU."""
    return "fp32" if gpu == "cpu" else "fp16"
