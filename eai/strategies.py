"""What each quantization strategy means: bits, what is stored, what computes, which hardware and library it needs.

Facts from the methods' papers (LLM.int8(): arXiv 2208.07339; NF4, FP4 and double quantization: arXiv 2305.14314) and the
documentation of bitsandbytes 0.50 and torchao 0.18. Only linear layers inside the transformer blocks are quantized: embeddings,
norms and the language-model head keep `other_bits`.
"""

import re
from dataclasses import dataclass, replace

from eai.errors import UserError

HALF_PRECISION_CAPABILITY = 7.0
BF16_CAPABILITY = 8.0


@dataclass(frozen=True)
class Strategy:
    """One quantization strategy.

    `weight_bits`: stored bits a weight of a quantized linear layer, scales not counted; `scale_bits`: further bits a weight for
    block or row scales (a row scale of LLM.int8() is spread over thousands of weights: 0); `other_bits`: stored bits of all other
    parameters; `stored`: data type of the quantized weights; `compute`: what the matrix product runs in; `threshold`: LLM.int8()'s
    outlier threshold; `attention_bits`: of the attention's linear layers where they differ from `weight_bits`; `min_capability`: the
    lowest CUDA compute capability, None if any GPU will do.
    """

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


_INT8 = Strategy(
    "int8_default",
    "LLM.int8(), threshold 6.0",
    "bitsandbytes",
    8,
    16,
    "int8",
    "int8 + outlier columns in 16 bit",
    on_cpu=True,
    min_capability=7.5,
    threshold=6.0,
    needs_outliers=True,
    note="the cost of its decomposition depends on activation outliers, which plain random weights do not have",
)
_NF4 = Strategy(
    "nf4", "NF4", "bitsandbytes", 4, 16, "nf4", "bfloat16", on_cpu=True, scale_bits=0.5, note="one float32 scale a block of 64 weights"
)
_DOUBLE_QUANTIZED = {"scale_bits": 8 / 64 + 32 / (64 * 256), "note": "block scales quantized to 8 bit"}

_ALL = (
    Strategy("fp32", "FP32", "torch", 32, 32, "float32", "float32", on_cpu=True),
    Strategy("tf32", "TF32", "torch", 32, 32, "float32", "tf32", on_cpu=False, min_capability=8.0, note="FP32 storage, TF32 tensor cores"),
    Strategy("bf16", "BF16", "torch", 16, 16, "bfloat16", "bfloat16", on_cpu=True, min_capability=BF16_CAPABILITY),
    Strategy("fp16", "FP16", "torch", 16, 16, "float16", "float16", on_cpu=True, note="very slow on most CPUs"),
    Strategy(
        "fp16_mixed",
        "FP16 mixed precision",
        "torch",
        32,
        32,
        "float32",
        "float16",
        on_cpu=False,
        min_capability=7.0,
        note="autocast over FP32 weights",
    ),
    _INT8,
    replace(
        _INT8,
        slug="int8_pure",
        title="LLM.int8(), threshold 0.0",
        compute="int8",
        threshold=0.0,
        needs_outliers=False,
        note="no decomposition",
    ),
    _NF4,
    replace(_NF4, slug="nf4_dq", title="NF4, double quantization", **_DOUBLE_QUANTIZED),
    replace(_NF4, slug="fp4", title="FP4", stored="fp4"),
    Strategy("dynamic", "INT8, activations quantized at run time", "torchao", 8, 32, "int8", "int8", on_cpu=True, min_capability=8.0),
    Strategy(
        "static",
        "INT8, activation ranges fixed by calibration",
        "torchao",
        8,
        32,
        "int8",
        "int8",
        on_cpu=True,
        min_capability=8.0,
        note="one range a layer, the largest magnitude that a calibration text reaches there",
    ),
    Strategy("int8_wo", "INT8 weights, symmetric", "torchao", 8, 32, "int8", "float32", on_cpu=True, note="a scale a row"),
    Strategy(
        "int8_wo_affine", "INT8 weights, affine", "torchao", 8, 32, "int8", "float32", on_cpu=True, note="a scale and a zero point a row"
    ),
    Strategy(
        "int8_ffn",
        "INT8 feed-forward part, 16-bit attention",
        "torchao",
        8,
        16,
        "int8",
        "int8 + attention in 16 bit",
        on_cpu=True,
        min_capability=8.0,
        attention_bits=16,
        note="per-layer mixed precision; the feed-forward part as under dynamic",
    ),
    Strategy("int4_wo", "INT4 weight-only", "torchao", 4, 16, "int4", "bfloat16", on_cpu=False, min_capability=8.0, scale_bits=0.25),
    Strategy("fp8", "FP8 (E4M3)", "torchao", 8, 16, "float8_e4m3fn", "float8", on_cpu=False, min_capability=8.9),
    Strategy("gptq", "GPTQ checkpoint", "gptqmodel", 4, 16, "int4", "float16", on_cpu=False, min_capability=7.0, scale_bits=0.15),
    Strategy("awq", "AWQ checkpoint", "gptqmodel", 4, 16, "int4", "float16", on_cpu=False, min_capability=7.5, scale_bits=0.15),
)
STRATEGIES: dict[str, Strategy] = {s.slug: s for s in _ALL}
_SERVED = (
    Strategy(
        "fp8_block", "FP8, a scale a block", "vllm", 8, 16, "float8_e4m3fn", "float8", on_cpu=False, min_capability=8.9, scale_bits=0.03
    ),
    Strategy("int8_w8a8", "INT8 weights and activations", "vllm", 8, 16, "int8", "int8", on_cpu=False, min_capability=7.5),
    Strategy("mxfp4", "MXFP4", "vllm", 4, 16, "float4_e2m1", "bfloat16", on_cpu=False, min_capability=8.0, scale_bits=0.25),
    Strategy("nvfp4", "NVFP4", "vllm", 4, 16, "float4_e2m1", "bfloat16", on_cpu=False, min_capability=8.0, scale_bits=0.5),
)
SERVED: dict[str, Strategy] = {s.slug: s for s in _SERVED}
"""Formats that only a server runs: they can be read and predicted, never loaded here (OCP Microscaling Formats v1.0; NVIDIA NVFP4)."""
UNSPECIFIED = "unspecified_"
_THRESHOLD = re.compile(r"int8_t(\d+(?:\.\d+)?)")

GGUF = "gguf_"
GGUF_BITS = {
    "q2_k": 2.625, "q3_k": 3.4375, "q4_0": 4.5, "q4_1": 5.0, "q4_k": 4.5, "q5_0": 5.5, "q5_1": 6.0, "q5_k": 5.5, "q6_k": 6.5625,
    "q8_0": 8.5,
    "iq1_s": 1.5625, "iq1_m": 1.75, "iq2_xxs": 2.0625, "iq2_xs": 2.3125, "iq2_s": 2.5625, "iq3_xxs": 3.0625, "iq3_s": 3.4375, "iq4_nl": 4.5,
    "iq4_xs": 4.25, "mxfp4": 4.25,
}  # fmt: skip
"""Bits of a weight with the scales of its block, of each block format of GGUF files (ggml-common.h of llama.cpp)."""
GGUF_MIXTURES = {
    "q2_k_s": 2.97, "q2_k_m": 3.16, "q3_k_s": 3.64, "q3_k_m": 4.0, "q3_k_l": 4.3, "q4_k_s": 4.67, "q4_k_m": 4.89, "q4_k_l": 5.0,
    "q5_k_s": 5.57, "q5_k_m": 5.7, "q5_k_l": 5.8, "q6_k_l": 6.7, "iq2_m": 2.93, "iq3_xs": 3.5, "iq3_m": 3.76,
}  # fmt: skip
"""The same of whole files that hold some layers in wider blocks: file size over weights of an 8 B model (tools/quantize of llama.cpp)."""


def get(slug: str) -> Strategy:
    """The strategy called `slug`; `int8_t<x>` is LLM.int8() with outlier threshold x, `gguf_<type>` a GGUF file as llama.cpp runs it.

    Raises UserError for a name that is not in the vocabulary, published names like `int8` included: they do not say which method ran.
    """
    if slug in STRATEGIES or slug in SERVED:
        return STRATEGIES.get(slug) or SERVED[slug]
    if match := _THRESHOLD.fullmatch(slug):
        x = float(match[1])
        return replace(_INT8, slug=slug, title=f"LLM.int8(), threshold {x:g}", threshold=x, needs_outliers=x > 0)
    kind = slug.removeprefix(GGUF)
    if slug.startswith(GGUF) and kind in GGUF_BITS | GGUF_MIXTURES:
        return _gguf(slug, kind)
    if slug in ("gguf_f16", "gguf_bf16"):
        return replace(STRATEGIES["fp16" if kind == "f16" else kind], slug=slug, title=f"GGUF {kind.upper()}", library="llama_cpp")
    hint = {"int8": "int8_default or int8_pure", "int4": "nf4, nf4_dq, fp4 or int4_wo", "baseline": "fp16 or fp32", "mixed": "fp16_mixed"}
    raise UserError(
        f"unknown quantization '{slug}'",
        f"one of {', '.join(STRATEGIES)}, int8_t<threshold>, or of a server gguf_<type> such as gguf_q4_k_m",
        f"'{slug}' does not say which method ran, use {hint[slug]}" if slug in hint else "",
    )


def _gguf(slug: str, kind: str) -> Strategy:
    """A GGUF file whose weights are in one block format, or a mixture of them."""
    bits, mean = int(re.search(r"\d", kind)[0]), GGUF_MIXTURES.get(kind) or GGUF_BITS[kind]
    return Strategy(
        slug,
        f"GGUF {kind.upper()}",
        "llama_cpp",
        bits,
        8,
        kind,
        "int8 with a scale a block",
        on_cpu=True,
        scale_bits=mean - bits,
        note="run by a server (llama.cpp, Ollama), never loaded here; a mixture (_S, _M, _L) holds some layers in wider blocks",
    )


def default_baseline(gpu: str) -> str:
    """The strategy that ratios refer to unless another is named: fp32 on a CPU, fp16 on a GPU."""
    return "fp32" if gpu == "cpu" else "fp16"
