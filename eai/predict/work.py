"""What one decode step of a configuration must move, compute and launch: the inputs of the predictor, from shapes and datasheets alone.

A table of configurations becomes a table of work, a row each: bytes of dense weights, of the experts that a batch touches, and of the KV
cache [GB]; flops of decoding and of the prompts' share [GFLOP]; layers, sequences and GPUs; bandwidth, peak and limit of the card.
"""

import numpy as np
import pandas as pd

from eai import catalog, strategies
from eai.errors import UserError
from eai.footprint import WEIGHT_ONLY_FP8

SERVED, SERVED_2024, PLAIN, LLAMA = "vllm", "vllm_2024", "transformers", "llama.cpp"
ENGINES = (PLAIN, SERVED, SERVED_2024, LLAMA)
SAME = dict.fromkeys(("huggingface", "hf", "torch", "pytorch"), PLAIN)
SAME |= dict.fromkeys(("ollama", "lm-studio", "llama-cpp", "llamacpp", "llama_cpp"), LLAMA)
"""Other names of measured engines."""
ALIKE = dict.fromkeys(
    ("sglang", "tensorrt-llm", "trt-llm", "tensorrt_llm", "tensorrtllm", "tgi", "lmdeploy", "mlc-llm", "aphrodite"), SERVED
)
ALIKE |= dict.fromkeys(("exllama", "exllamav2", "mlx", "ktransformers", "llamafile"), LLAMA)
"""Engines that no row measures, and the measured one whose constants stand for them."""
DEQUANTIZED = {"nf4": 0, "nf4_dq": 0, "int8_default": 1}
SPECIAL = {"nf4": 0, "nf4_dq": 1, "int8_default": 2, "int8_pure": 3}
UNMEASURED = {"dynamic": "int8_w8a8", "static": "int8_w8a8", "int8_ffn": "int8_w8a8", "int8_wo": "int8_pure", "int8_wo_affine": "int8_pure"}
"""INT8 of torchao, whose steps on a GPU no source gives, and the nearest format that is predicted."""
TWINS = {"a800": "a100", "h200": "h100", "gh200": "h100", "h20": "h100", "rtx4090d": "rtx4090", "rtx3090ti": "rtx3090"}
DEFAULTS = {"num_gpus": 1, "batch_size": 1, "input_tokens": 256, "output_tokens": 256}
BLACKWELL = 10.0
"""Compute capability from which 4-bit floats are multiplied as such, at twice the rate of FP8 (NVIDIA Blackwell architecture brief)."""
HBM_GAIN, HBM_YEAR = 0.13, 2020
_TWIN_YEARS = {"a800_sxm_80gb": 2020, "a800_pcie_80gb": 2021}  # the A100s that they are
NODES = {"Pascal": 16, "Volta": 12, "Turing": 12, "Ampere": 8, "GCN 5": 7, "RDNA 2": 7, "CDNA": 7, "CDNA 2": 6, "Xe HPG": 6}
"""Process of a chip's architecture [nm], 5 (or 4) where not listed; GA100 was made at 7 nm, the other Ampere chips at 8."""
NVLINK_GB_S, PCIE_GB_S = 450.0, 25.0
COLUMNS = ("gpu", "model", "quantization", "engine", *DEFAULTS)


def silicon(slug: str) -> str:
    """Name of the chip behind a card: boards of one chip share what was learned of it (A100 and A800, H100 and H200, 4090 and 4090 D)."""
    chip = slug.split("_")[0]
    return TWINS.get(chip, chip)


MEMORY_KINDS = ("HBM", "GDDR", "LPDDR")


def memory_kind(card: catalog.Gpu) -> int:
    """The place in MEMORY_KINDS of a card's memory; plain cards count as GDDR."""
    return next((i for i in (0, 2) if MEMORY_KINDS[i] in str(card.memory_type)), 1)


def bits(quantization: str) -> tuple[float, float, str]:
    """(bits of a quantized weight with its scales, of the others, data type whose peak its products reach) of a format. bitsandbytes and
    torchao convert around every INT8 product and count as 16 bit. Raises UserError for a name that is none."""
    known = strategies.get(quantization)
    width = known.weight_bits + known.scale_bits
    rest = 8.5 if quantization == "gguf_mxfp4" else width if quantization.startswith(strategies.GGUF) else known.other_bits
    return width, rest, "float16" if "int8" in known.compute and known.library != "vllm" else known.compute


def kernel(quantization: str) -> str:
    """The kernels that a format runs: 16 bits of either kind are one, all GGUF blocks are one, LLM.int8() with any threshold above 0."""
    if quantization.startswith(("gguf", "int8_t")):
        return "gguf" if quantization.startswith("gguf") else "int8_default"
    return {"bf16": "fp16", "fp8_block": "fp8", "fp4": "nf4", "tf32": "fp32"}.get(quantization, quantization)


def engine(name: object, quantization: str, num_gpus: float, version: object = None) -> tuple[str, bool]:
    """(measured engine whose constants are used, whether rows measure this very engine); without a name llama.cpp for GGUF, transformers
    for torch's and bitsandbytes' formats on one GPU, else vLLM."""
    if not isinstance(name, str) or not name.strip():
        if quantization.startswith("gguf"):
            return LLAMA, True
        plain = strategies.get(quantization).library in ("torch", "bitsandbytes")
        return (PLAIN if plain and num_gpus <= 1 else SERVED), True
    key = name.strip().lower().replace(" ", "-")
    old = isinstance(version, str) and ("2024" in version or version.lstrip("v").startswith(("0.2", "0.3", "0.4", "0.5")))
    if key in ("vllm_2024", "vllm") and (old or key == "vllm_2024"):
        return SERVED_2024, True
    if key in ENGINES or key in SAME:
        return SAME.get(key, key), True
    if key in ALIKE:
        return ALIKE[key], False
    raise UserError(
        f"unknown engine '{name}'", f"one of {', '.join(sorted({*ENGINES, *SAME, *ALIKE} - {SERVED_2024}))}", "name the nearest"
    )


def _format(named: str, engine_used: str, shape: catalog.Shape, is_given: bool) -> str:
    """The format that runs: of llama.cpp its own, Q4_K_M where none is named; FP8 by blocks for a model whose authors scale it so."""
    if engine_used == LLAMA and named == "mxfp4":
        return "gguf_mxfp4"
    if engine_used == LLAMA and not is_given and not named.startswith("gguf"):
        return "gguf_q4_k_m"
    return shape.published if shape.published == f"{named}_block" else named


def _peak(card: catalog.Gpu, kind: str) -> float:
    """Dense peak [GFLOP/s] of a format's products; where the card has none of its own, of FP16, then of FP32."""
    own = {
        "float4": 2 * (card.fp8_tflops or 0),
        "float8": card.fp8_tflops,
        "int8": card.int8_tops,
        "float32": card.fp32_tflops,
        "tf32": card.tf32_tflops,
    }.get(kind)
    return 1e3 * (own or card.fp16_tflops or card.fp32_tflops)


def _progress(card: catalog.Gpu) -> float:
    """Gain of bandwidth a watt since 2020 with stacked memory: 3 GB/s (V100), 5 (A100), 7 to 8 (MI300X, H200, B200): 13 % a year."""
    year = _TWIN_YEARS.get(card.slug) or card.release_year or HBM_YEAR
    return float(np.exp(HBM_GAIN * (year - HBM_YEAR))) if memory_kind(card) == 0 else 1.0


def of(row: dict) -> dict:
    """The work of one configuration (a dict of the columns of `predict`). Raises UserError for what it cannot resolve."""
    row = {k: (None if v is None or (isinstance(v, float) and np.isnan(v)) else v) for k, v in row.items()}
    card = row["gpu"] if isinstance(row["gpu"], catalog.Gpu) else catalog.nearest_gpu(str(row["gpu"]))[0]
    if card.bandwidth_gb_s is None or card.tdp_w is None:
        raise UserError(f"no bandwidth or power limit of {card.name}", "a GPU of data/catalog/gpus.csv", "name a GPU")
    n, batch, tokens_in, tokens_out = (float(row.get(k) if row.get(k) is not None else v) for k, v in DEFAULTS.items())
    if min(n, batch, tokens_out) <= 0 or tokens_in < 0:
        raise UserError("a count below its least", "num_gpus, batch_size and output_tokens above 0, input_tokens from 0", "correct the row")
    shape = catalog.shape(row.get("model"), **{k: row.get(k) for k in ("params_b", "active_params_b", "layers", "hidden", "kv_heads")})
    quantization = str(row.get("quantization") or shape.published or "bf16").lower()
    which, measured = engine(row.get("engine"), quantization, n, row.get("engine_version"))
    quantization = _format(quantization, which, shape, bool(row.get("quantization")))
    weights_only = quantization.startswith("fp8") and not card.fp8_tflops
    if weights_only and (card.compute_capability or 0) < WEIGHT_ONLY_FP8:
        expected = f"FP8 products, or compute capability {WEIGHT_ONLY_FP8} for kernels that unpack FP8 weights"
        raise UserError(f"{quantization} on {card.name}, which has none", expected, "name another format")
    if nearest := UNMEASURED.get(quantization):
        raise UserError(f"no source measures {quantization} on a GPU", "a format that is predicted", f"the nearest is {nearest}")
    width, rest, kind = bits(quantization)
    kind = "float4" if quantization == "nvfp4" and (card.compute_capability or 0) >= BLACKWELL else kind
    experts, touched = shape.expert_params_b, shape.touched(batch)
    parallel = float(row.get("expert_parallel") or (n if shape.experts and which == SERVED and n > 1 and quantization != "mxfp4" else 1))
    dense = shape.params_b - experts
    # the output head is not quantized; of mixtures in MXFP4 the experts alone are
    plain = dense if "mxfp4" in quantization and experts else min(0.2 * dense, shape.vocab * shape.hidden / 1e9)
    dense_gb = ((dense - plain) * width + plain * rest) / 8
    # autocast reads 32 bits of a weight, writes 16 and reads them, every step
    moved = 2.0 if quantization == "fp16_mixed" else 1.0
    context = tokens_in + tokens_out / 2
    cache = shape.cache_gb(context) * batch
    attention = 4 * shape.attention_layers * shape.heads * shape.head_dim * context * batch / 1e9
    repeats = shape.heads / shape.kv_heads
    ahead = (8 if which == PLAIN else 2) * shape.attention_layers * shape.heads * shape.head_dim * tokens_in / 1e9
    return {
        "gpu": card.slug, "chip": silicon(card.slug), "model": shape.name, "shape": shape.key, "quantization": quantization,
        "kernel": "w8a16" if weights_only else kernel(quantization), "remark": _remark(row, quantization, weights_only, card),
        "engine": which, "measured_engine": measured, "n": n, "batch": batch, "dense_gb": dense_gb * moved,
        "expert_gb": experts * touched * width / 8,
        "imbalance": shape.imbalance(batch, n) if parallel > 1 else 1.0, "cache_gb": cache, "params_b": shape.params_b,
        "gflop": 2 * shape.active_params_b * batch + attention,
        "prefill_gflop": (2 * shape.active_params_b + ahead) * batch * tokens_in / tokens_out,
        "unpacked_b": dense + experts * touched if which == LLAMA and width < 16 else 0.0,
        "graphs": float(card.vendor == "NVIDIA" and (card.compute_capability or 0) >= 8),
        "fp32_gflop_s": 1e3 * (card.fp32_tflops or card.fp16_tflops / 2),
        "copies": (3.0 if repeats == 1 else 3 + 2 * repeats) if which == PLAIN else 1.0, "node": NODES.get(card.architecture, 5.0),
        "layers": shape.layers, "hidden": shape.hidden, "vocab": float(shape.vocab),
        "mixture": min(1.0, shape.expert_layers / shape.layers), "expert_parallel": parallel,
        "bandwidth_gb_s": card.bandwidth_gb_s, "peak_gflop_s": _peak(card, kind), "tdp_w": card.tdp_w,
        "gb_s_per_w": card.bandwidth_gb_s / card.tdp_w / _progress(card), "memory_gb": card.memory_gb,
        "byte_cost": 0.8 if card.memory_type == "GDDR7" else 1.0,
        "link_gb_s": NVLINK_GB_S if memory_kind(card) == 0 and "pcie" not in card.slug else PCIE_GB_S,
        "memory": memory_kind(card),
        "weights_gb": dense_gb + experts * width / 8,
        "dequantized": DEQUANTIZED.get(kernel(quantization), -1), "special": SPECIAL.get(kernel(quantization), -1),
    }  # fmt: skip


def _remark(row: dict, quantization: str, weights_only: bool, card: catalog.Gpu) -> str:
    """What was taken that the row does not name, and what a format becomes on this card; empty if nothing."""
    said = [] if row.get("quantization") else [f"no format named: taken as {quantization}"]
    return "; ".join(said + [f"FP8 as weights alone, unpacked to 16 bits: {card.name} has no FP8 products"] * weights_only)


def table(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """(work of each row that resolves, reason of each row, empty if it does); equal configurations are resolved once."""
    seen: dict[tuple, dict | str] = {}
    found, reasons = [], []
    for row in rows.to_dict("records"):
        key = tuple(sorted((k, str(v)) for k, v in row.items()))
        if key not in seen:
            try:
                seen[key] = of(row)
            except UserError as error:
                seen[key] = str(error)
        made = seen[key]
        reasons.append(made if isinstance(made, str) else "")
        found.append({} if isinstance(made, str) else made)
    reason = pd.Series(reasons, index=rows.index, dtype=object)
    return pd.DataFrame([f for f in found if f], index=rows.index[(reason == "").to_numpy()]), reason
