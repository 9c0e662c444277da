"""Bytes, flops and the roofline of one configuration, from a model's shapes alone: what it must move and compute, and whether it fits.

Nothing here is measured. The counts follow the decoder's layout: every weight once a decode step, the KV cache of all
sequences once a step, two flops a weight and token. Overheads that no shape decides (kernel launches, caches missed, dequantized
copies inside a kernel) are left out, so the times are lower bounds.

`supports` says whether a configuration can run on a device, and if not, why: one answer for a run, its forecast, simulated cards and the
advice. Only what is certain counts. What cannot be judged (a model of unknown shapes, a card of unknown capability) is not refused: it is
tried, and becomes a row with its status where it fails.
"""

import importlib.util
from dataclasses import dataclass, replace

from eai import catalog, strategies
from eai.catalog import Gpu, Model, sizes_of_config
from eai.errors import UserError

GIB_PER_GB = 1.073741824
CONTEXT_GB = 0.75
INLINE_ECC_SHARE = 1 / 16
_PEAKS = {"float32": "fp32_tflops", "tf32": "tf32_tflops", "float16": "fp16_tflops", "bfloat16": "bf16_tflops"}
_PEAKS |= {"int8": "int8_tops", "float8": "fp8_tflops"}


@dataclass(frozen=True)
class Layout:
    """How one family of decoders is built: gated MLP, which projections carry a bias, norms with a bias, norms of queries and keys."""

    gated: bool = True
    qkv_bias: bool = False
    other_bias: bool = False
    norm_bias: bool = False
    qk_norm: bool = False
    embedding_norm: bool = False


LAYOUTS = {
    "llama": Layout(),
    "mistral": Layout(),
    "phi3": Layout(),
    "qwen2": Layout(qkv_bias=True),
    "qwen3": Layout(qk_norm=True),
    "bloom": Layout(gated=False, qkv_bias=True, other_bias=True, norm_bias=True, embedding_norm=True),
}


@dataclass(frozen=True)
class Parameters:
    """Parameter counts by role: `linear` weights inside the blocks (the ones that get quantized), `attention` those of them that are the
    attention's, `embedding` table once, `head` (0 if tied), `other` norms and biases."""

    linear: int
    attention: int
    embedding: int
    head: int
    other: int

    @property
    def total(self) -> int:
        """All parameters; tied ones once."""
        return self.linear + self.embedding + self.head + self.other


@dataclass(frozen=True)
class Footprint:
    """Bytes and flops of one configuration; a step is one decode step of the whole batch, at the mean context of the generation; the times
    are None without a GPU."""

    weight_bytes: float
    kv_cache_bytes: float
    activation_bytes: float
    prefill_flops: float
    step_flops: float
    step_bytes: float
    prefill_s: float | None = None
    step_s: float | None = None

    @property
    def memory_gb(self) -> float:
        """Memory that the configuration needs at its longest context [1e9 bytes], without the driver's context."""
        return (self.weight_bytes + self.kv_cache_bytes + self.activation_bytes) / 1e9

    @property
    def intensity_flop_per_byte(self) -> float:
        """Arithmetic intensity of a decode step [flop/byte]."""
        return self.step_flops / self.step_bytes


def parameters(model: Model) -> Parameters:
    """Parameter counts by role, computed from the shapes. Raises UserError for an unknown architecture."""
    if (family := LAYOUTS.get(model.architecture)) is None:
        found = f"architecture '{model.architecture}' of {model.hf_id}"
        raise UserError(found, f"one of {', '.join(LAYOUTS)}", "choose another model or add its layout")
    q_dim, kv_dim = model.heads * model.head_dim, model.kv_heads * model.head_dim
    attention = model.layers * model.hidden * (2 * q_dim + 2 * kv_dim)
    linear = attention + model.layers * (3 if family.gated else 2) * model.hidden * model.intermediate
    norm = model.hidden * (2 if family.norm_bias else 1)
    per_block = 2 * norm + family.qkv_bias * (q_dim + 2 * kv_dim) + family.qk_norm * 2 * model.head_dim
    per_block += family.other_bias * (2 * model.hidden + model.intermediate)
    other = model.layers * per_block + norm + family.embedding_norm * norm
    table = model.vocab * model.hidden
    return Parameters(linear, attention, table, 0 if model.tie_embeddings else table, other)


def from_config(config: dict, name: str) -> Model:
    """A Model of a Hugging Face `config.json` (as a dict), for a model that the catalog does not list. Raises UserError for an architecture
    whose layout is not known, or a missing field."""
    hidden, layers, heads, vocab, kv_heads, head_dim, intermediate = sizes_of_config(config, name).values()
    family = config["model_type"]
    tied = bool(config.get("tie_word_embeddings", family == "bloom"))
    context = config.get("max_position_embeddings") or config.get("seq_length") or 2048
    shape = (vocab * hidden, layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, context, tied, family)
    model = Model(name.rpartition("/")[2].lower(), name, 0, *shape, licence=None, base=None, source="config.json", retrieved="")
    return replace(model, params_total=parameters(model).total)


def weight_bytes(model: Model, quantization: str, other_bits: int | None = None) -> float:
    """Bytes of the stored weights, block scales included. Linear layers of the blocks are stored in the strategy's bits; embeddings, head,
    norms and biases keep `other_bits` (by default the strategy's; 32 where a CPU computes in FP32)."""
    strategy, count = strategies.get(quantization), parameters(model)
    rest = count.total - count.linear
    kept = count.attention if strategy.attention_bits else 0
    bits = (count.linear - kept) * (strategy.weight_bits + strategy.scale_bits) + kept * (strategy.attention_bits or 0)
    return (bits + rest * (other_bits or strategy.other_bits)) / 8


def activation_bytes_per_value(quantization: str) -> int:
    """Bytes of one activation or cached key: 4 where the strategy computes in FP32 or TF32, else 2."""
    strategy = strategies.get(quantization)
    return 4 if strategy.other_bits == 32 and strategy.compute != "float16" else 2


def kv_cache_bytes(model: Model, tokens: int, batch_size: int = 1, quantization: str = "fp16") -> int:
    """Bytes of keys and values of `tokens` positions in `batch_size` sequences: 2 x layers x kv_heads x head_dim a position."""
    return 2 * model.layers * model.kv_heads * model.head_dim * activation_bytes_per_value(quantization) * tokens * batch_size


def activation_bytes(model: Model, quantization: str, batch_size: int, input_tokens: int) -> float:
    """Estimate of the largest transient memory: one block's prefill, the last position's logits, one dequantized weight. Counts the MLP's
    three intermediates, four hidden-sized tensors and FP32 logits beside their native copy; fused attention keeps no score matrix. A
    block-quantized weight (NF4, FP4, INT4) is expanded to 16 bits one at a time for a prefill."""
    width = activation_bytes_per_value(quantization)
    block = batch_size * input_tokens * (3 * model.intermediate + 4 * model.hidden) * width
    logits = batch_size * model.vocab * (4 + width)
    expanded = 2 * model.hidden * model.intermediate if strategies.get(quantization).weight_bits < 8 else 0
    return block + logits + expanded


def prefill_flops(model: Model, input_tokens: int, batch_size: int = 1) -> float:
    """Flops of reading the prompts: 2 a linear weight and token, causal attention, the head for the last position only."""
    attention = 2 * model.layers * model.heads * model.head_dim * input_tokens * (input_tokens + 1)
    return batch_size * (2 * parameters(model).linear * input_tokens + attention + 2 * model.vocab * model.hidden)


def decode_flops(model: Model, context_tokens: float, batch_size: int = 1) -> float:
    """Flops of one decode step: 2 a linear weight and head entry, 4 a query entry and position of the context."""
    attention = 4 * model.layers * model.heads * model.head_dim * context_tokens
    return batch_size * (2 * parameters(model).linear + 2 * model.vocab * model.hidden + attention)


def peak_flops(gpu: Gpu, quantization: str) -> float:
    """Dense peak [flop/s] of what the strategy's matrix products run in. Raises UserError if the GPU's figure is not known."""
    compute = strategies.get(quantization).compute.split(" ")[0]
    if (tera := getattr(gpu, _PEAKS[compute])) is None:
        do = "choose a strategy that this GPU supports" if gpu.slug != "cpu" else "name a GPU: a CPU's peaks depend on the host"
        raise UserError(f"no {compute} peak known for {gpu.name}", f"a GPU whose {_PEAKS[compute]} is in data/catalog/gpus.csv", do)
    return tera * 1e12


def roofline_s(flops: float, moved_bytes: float, gpu: Gpu, quantization: str) -> float:
    """Lower bound of the time [s]: the larger of flops over peak and bytes over bandwidth (Williams et al. 2009,
    doi:10.1145/1498765.1498785)."""
    return max(flops / peak_flops(gpu, quantization), moved_bytes / (gpu.bandwidth_gb_s * 1e9))


def footprint(
    model: Model | str,
    quantization: str,
    batch_size: int = 1,
    input_tokens: int = 512,
    output_tokens: int = 256,
    gpu: Gpu | str | None = None,
) -> Footprint:
    """Bytes, flops and, on a GPU, roofline times of one configuration; memory at the last token, a step at the mean context. A decode step
    moves every weight once (of an untied embedding only the rows looked up), reads the KV cache and writes one position."""
    model = catalog.model(model) if isinstance(model, str) else model
    gpu = catalog.gpu(gpu) if isinstance(gpu, str) else gpu
    mean_context = input_tokens + (output_tokens - 1) / 2
    weights = weight_bytes(model, quantization)
    reading, step = prefill_flops(model, input_tokens, batch_size), decode_flops(model, mean_context, batch_size)
    rows = 0.0 if model.tie_embeddings else (model.vocab - batch_size) * model.hidden * strategies.get(quantization).other_bits / 8
    moved = weights - max(rows, 0.0) + kv_cache_bytes(model, 1, batch_size, quantization) * (mean_context + 1)
    cache = kv_cache_bytes(model, input_tokens + output_tokens, batch_size, quantization)
    times = [roofline_s(*part, gpu, quantization) if gpu else None for part in ((reading, weights), (step, moved))]
    return Footprint(weights, cache, activation_bytes(model, quantization, batch_size, input_tokens), reading, step, moved, *times)


def available_gb(gpu: Gpu) -> float:
    """Memory that a program can use [1e9 bytes]: the board's GiB, less inline ECC on GDDR boards without spare chips, less the CUDA
    context. Data-centre GDDR6 boards keep a sixteenth for ECC (a 48 GB L40S reports 46,068 MiB); the context and library workspaces take
    about 0.75 GB. Raises UserError for a CPU, whose memory the host decides."""
    if gpu.memory_gb is None:
        raise UserError(f"no memory size for {gpu.name}", "a GPU of data/catalog/gpus.csv", "name a GPU")
    ecc = INLINE_ECC_SHARE if gpu.memory_type == "GDDR6" and "RTX" not in gpu.name else 0.0
    return gpu.memory_gb * GIB_PER_GB * (1 - ecc) - CONTEXT_GB


# Whether it can run

PUBLISHED_ONLY = ("gptq", "awq")
"""Strategies that exist as published checkpoints only."""
SERVERS = ("vllm", "sglang", "tensorrt-llm")
GGUF_ENGINES = ("llama.cpp", "ollama")
ENGINES = ("transformers", *SERVERS, *GGUF_ENGINES)
SERVER_FORMATS = ("bf16", "fp16", "fp32", "fp8", "awq", "gptq", *strategies.SERVED)
SERVER_CAPABILITY = 7.0
WEIGHT_ONLY_FP8 = 7.5
"""Compute capability from which vLLM and SGLang run FP8 weights on cards without FP8 products, unpacked to 16 bits (vLLM's page on FP8)."""


def runs(engine: str, quantization: str) -> bool:
    """Whether an engine has kernels for a strategy at all, whatever the card."""
    if engine in GGUF_ENGINES:
        return quantization.startswith(strategies.GGUF)
    if engine in SERVERS:
        return quantization in SERVER_FORMATS
    return quantization in strategies.STRATEGIES or quantization.startswith("int8_t")


@dataclass(frozen=True)
class Device:
    """What a configuration would run on; None for what is not known. `capability`: CUDA compute capability; `memory_gb`: what a program can
    use [1e9 bytes]; `peaks_of`: the catalog's line of a card that runs by its peaks alone (a simulated one), so that a missing peak rules a
    strategy out; `has_libraries`: whether the libraries of this process decide; `vendor`: who makes it."""

    name: str
    is_cpu: bool = False
    capability: float | None = None
    memory_gb: float | None = None
    peaks_of: Gpu | None = None
    has_libraries: bool = True
    vendor: str | None = None

    @classmethod
    def of_catalog(cls, gpu: Gpu, has_libraries: bool = False) -> "Device":
        """A GPU by its line of the catalog; a memory that the catalog does not know is not judged."""
        memory_gb = available_gb(gpu) if gpu.memory_gb else None
        return cls(gpu.name, False, gpu.compute_capability, memory_gb, None, has_libraries, gpu.vendor)


@dataclass(frozen=True)
class Refusal:
    """Why a configuration cannot run: `kind` is the status its row gets (unsupported, oom, failed), `reason` the sentence."""

    kind: str
    reason: str


class CannotRun(UserError):
    """A configuration that cannot run here: becomes a row with the status `kind` and the reason, and the sweep goes on."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal.reason)
        self.kind = refusal.kind


def supports(
    quantization: str,
    device: Device,
    weights: str = "published",
    model: Model | None = None,
    batch_size: int = 1,
    input_tokens: int = 0,
    output_tokens: int = 0,
    kv_cache: bool = True,
    activations: bool = False,
    engine: str = "transformers",
) -> Refusal | None:
    """Why the configuration cannot run on the device, None if it may. Asked in this order: the engine, weights, device and library against
    the strategy; weights and KV cache (with `activations` their estimate too) against the memory; tokens against the model's context.
    Nothing is loaded. Raises UserError for an unknown strategy."""
    strategy = strategies.get(quantization)
    slug, name, have, serves = strategy.slug, device.name, device.capability, engine in SERVERS
    makers = (None, "NVIDIA") if engine == "tensorrt-llm" else (None, "NVIDIA", "AMD")
    weight_only = strategy.compute == "float8" and engine in ("vllm", "sglang")
    needed = WEIGHT_ONLY_FP8 if weight_only else strategy.min_capability or 0
    lacks = not device.is_cpu and have is not None and have < needed
    rules = {
        f"{slug} is no format that {engine} runs": engine != "transformers" and not runs(engine, slug),
        f"{engine} does not run on {name}": serves and device.vendor not in makers,
        f"{engine} needs compute capability {SERVER_CAPABILITY:g}, {name} has {have or 0:g}": serves and (have or 9) < SERVER_CAPABILITY,
        f"{slug} on plain random weights: {strategy.note}; use weights random_outliers": weights == "random" and strategy.needs_outliers,
        f"{slug} is a published checkpoint: it cannot be made of {weights} weights": weights != "published" and slug in PUBLISHED_ONLY,
        f"{slug} needs a CUDA device": device.is_cpu and not strategy.on_cpu,
        f"{slug} needs compute capability {needed:g}, {name} has {have or 0:g}": lacks,
    }
    if broken := [reason for reason, is_broken in rules.items() if is_broken]:
        return Refusal("unsupported", broken[0])
    if device.peaks_of is not None:
        try:
            peak_flops(device.peaks_of, slug)
        except UserError as error:
            return Refusal("unsupported", str(error))
    if device.has_libraries and importlib.util.find_spec(strategy.library) is None:
        return Refusal("unsupported", f"{slug} needs the library {strategy.library}, which is not installed")
    if model is None:
        return None
    tokens, gb = input_tokens + output_tokens, {"weights": weight_bytes(model, slug) / 1e9}
    if kv_cache:
        gb["KV cache"] = kv_cache_bytes(model, tokens, batch_size, slug) / 1e9
    if activations:
        gb["activations"] = activation_bytes(model, slug, batch_size, input_tokens) / 1e9
    if device.memory_gb is not None and sum(gb.values()) > device.memory_gb:
        shares = ", ".join(f"{part} {size:.1f}" for part, size in gb.items())
        needs = f"{model.slug} in {slug} at batch {batch_size} needs at least {sum(gb.values()):.1f} GB ({shares})"
        return Refusal("oom", f"{needs} of the {device.memory_gb:.1f} GB usable on {name}")
    return Refusal("failed", f"{tokens} tokens exceed the model's context of {model.context}") if tokens > model.context else None
