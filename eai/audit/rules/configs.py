"""Settings in JSON and YAML files that waste energy: the same decisions as in code, written down elsewhere."""

import re
from collections.abc import Iterator

from eai.audit import evidence as numbers
from eai.audit.code import params_b
from eai.audit.configs import Config, Mapping
from eai.audit.evidence import SMALL_PARAMS_B, Evidence
from eai.audit.finding import Hit, rule

_TRAINING = re.compile(
    r"learning_rate|num_train_epochs|gradient_checkpointing|gradient_accumulation|lora_r\b|warmup_steps|optimizer|per_device_train"
)
_OTHER_RUNTIME = re.compile(r"openvino|onnx|tensorrt|\bipex\b|exllama", re.IGNORECASE)
_MODEL_KEYS = ("model", "model_id", "model_name", "model_name_or_path", "base_model", "pretrained_model_name_or_path", "pretrained")


def _model(mapping: Mapping) -> str:
    """The model that a mapping names, empty if none."""
    entry = mapping.first(*_MODEL_KEYS)
    return entry.value if entry is not None and isinstance(entry.value, str) else ""


@rule(
    "config-int8-default",
    "config",
    "load_in_8bit without a threshold in a config",
    hit="""
model: org/Foo-7B
load_in_8bit: true
""",
    miss="""
model: org/Foo-7B
load_in_8bit: true
llm_int8_threshold: 6.0
""",
)
def int8_default(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """As int8-default-threshold: the default decomposition was measured to cost more energy than FP16."""
    if _TRAINING.search(config.unit.text) or _OTHER_RUNTIME.search(config.unit.text):
        return
    for mapping in config.mappings:
        flag = mapping.first("load_in_8bit")
        if flag is not None and flag.value is True and "llm_int8_threshold" not in mapping.entries:
            waste = evidence.quantization("int8_default", "fp16")
            yield Hit(
                flag.line,
                "load_in_8bit without llm_int8_threshold: the default 6.0 decomposes every product",
                "dtype: bfloat16, or decide the threshold",
                waste,
            )


@rule(
    "config-int8-pure",
    "config",
    "Threshold 0.0 in a config",
    hit="""
model: org/Foo-7B
load_in_8bit: true
llm_int8_threshold: 0.0
""",
    miss="""
model: org/Foo-7B
load_in_8bit: true
llm_int8_threshold: 6.0
""",
)
def int8_pure(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """As int8-pure-unchecked: without the decomposition outliers are quantized too, and a config cannot show that anyone looked at the
    answers."""
    for mapping in config.mappings:
        flag, threshold = mapping.first("load_in_8bit"), mapping.first("llm_int8_threshold")
        if flag is not None and flag.value is True and threshold is not None and threshold.value == 0 and threshold.value is not False:
            fix = "measure perplexity or task accuracy against the 16-bit model before relying on it"
            yield Hit(threshold.line, "llm_int8_threshold is 0: outliers are quantized", fix)


@rule(
    "config-eager",
    "config",
    "Eager attention, or no CUDA graphs, in a config",
    hit="""
model: org/Foo-7B
attn_implementation: eager
""",
    miss="""
model: org/Foo-7B
attn_implementation: sdpa
""",
)
def eager(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """As eager-attention and server-eager: slow paths for looking into a model and for debugging."""
    if _TRAINING.search(config.unit.text):
        return
    for mapping in config.mappings:
        attention, graphs = mapping.first("attn_implementation"), mapping.first("enforce_eager")
        if attention is not None and attention.value == "eager":
            yield Hit(attention.line, "attn_implementation: eager", "attn_implementation: sdpa")
        if graphs is not None and graphs.value is True:
            yield Hit(graphs.line, "enforce_eager: CUDA graphs are switched off", "enforce_eager: false")


@rule(
    "config-4bit-small-model",
    "config",
    "4-bit weights on a small model in a config",
    hit="""
model: Qwen/Qwen2-1.5B
load_in_4bit: true
""",
    miss="""
model: mistralai/Mistral-7B-v0.1
load_in_4bit: true
""",
)
def small_4bit(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """As 4bit-small-model: on models up to about 3 billion parameters 4-bit weights cost more energy than they save."""
    if _TRAINING.search(config.unit.text) or _OTHER_RUNTIME.search(config.unit.text):
        return
    for mapping in config.mappings:
        flag, size = mapping.first("load_in_4bit"), params_b(_model(mapping)) if _model(mapping) else None
        if flag is not None and flag.value is True and size is not None and size <= SMALL_PARAMS_B:
            waste = evidence.quantization("nf4", "fp16", SMALL_PARAMS_B)
            yield Hit(flag.line, f"4-bit weights on a model of {size:.2g} billion parameters", "dtype: bfloat16", waste)


@rule(
    "config-kv-cache-off",
    "config",
    "use_cache: false for generation",
    hit="""
max_new_tokens: 200
use_cache: false
""",
    miss="""
max_new_tokens: 200
use_cache: true
""",
)
def cache_off(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """As kv-cache-off, in a generation config: a mapping that also sets a generation length. Training configs switch it off rightly."""
    if _TRAINING.search(config.unit.text):
        return
    for mapping in config.mappings:
        flag = mapping.first("use_cache")
        length = mapping.first("max_new_tokens", "max_length", "min_new_tokens")
        if flag is not None and flag.value is False and length is not None:
            tokens = length.value if isinstance(length.value, int) and "max_new_tokens" in mapping.entries else 256
            waste = numbers.no_cache(tokens)
            if waste is not None:
                yield Hit(flag.line, "generation without the KV cache", "use_cache: true", waste)


@rule(
    "config-one-sequence",
    "config",
    "A server limited to one sequence",
    hit="""
model: org/Foo-7B
max_num_seqs: 1
""",
    miss="""
model: org/Foo-7B
max_num_seqs: 64
""",
)
def one_sequence(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """A server that admits one sequence at a time decodes at batch 1 under any load."""
    for mapping in config.mappings:
        limit = mapping.first("max_num_seqs", "max_batch_size", "max_concurrent_requests", "max_batch_total_sequences")
        named = _model(mapping) or mapping.first("engine", "tensor_parallel_size", "gpu_memory_utilization", "max_model_len")
        if limit is not None and limit.value == 1 and limit.value is not True and named:
            yield Hit(
                limit.line,
                "the server admits one sequence at a time: batch 1",
                "raise the limit to what the KV cache allows",
                evidence.batch_1(),
            )
