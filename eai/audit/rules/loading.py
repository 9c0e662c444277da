"""Weights that do not fit: spilled to the host, or larger than the card."""

from collections.abc import Iterator

from eai import catalog, footprint, strategies
from eai.audit import evidence as numbers
from eai.audit.code import Code, params_b
from eai.audit.configs import Config, Entry, Mapping
from eai.audit.evidence import Evidence
from eai.audit.finding import Hit, rule
from eai.errors import UserError


@rule(
    "cpu-offload",
    "python",
    "Weights spilled to the host",
    hit="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", device_map="auto", offload_folder="off")
""",
    miss="""
from transformers import AutoModelForCausalLM
m = AutoModelForCausalLM.from_pretrained("x/y", device_map="auto")
""",
)
def cpu_offload(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Offloaded layers cross the PCIe bus for every token, at a fiftieth of the GPU memory's rate: the GPU idles at power. How much is
    spilled depends
    on the card; 4-bit weights or a smaller model may avoid it."""
    if code.trains:
        return
    for call in code.calls:
        if call.kwargs.get("llm_int8_enable_fp32_cpu_offload") is True:
            yield Hit(
                call.node.lineno, "llm_int8_enable_fp32_cpu_offload=True runs layers on the CPU", "choose a model or quantization that fits"
            )
    for call in (c for name in ("cpu_offload", "disk_offload") for c in code.named(name) if "accelerate" in code.modules):
        yield Hit(call.node.lineno, f"accelerate's {call.last} keeps the weights off the GPU", "choose a quantization or model that fits")
    for load in code.model_loads:
        memory = load.kwargs.get("max_memory")
        spills = isinstance(memory, dict) and "cpu" in memory and memory["cpu"] not in (0, "0", "0GB", "0GiB")
        if {"offload_folder", "offload_state_dict"} & set(load.kwargs) or spills:
            fix = "choose a quantization that fits (nf4 from about 6 billion parameters), or a smaller model"
            yield Hit(load.node.lineno, "device_map may spill layers to the CPU or disk", fix)


def _gpu(mapping: Mapping) -> catalog.Gpu | None:
    """The GPU that a mapping names, None if it names none or one that the catalog does not list."""
    entry = mapping.first("gpu", "gpu_name", "gpu_type", "accelerator")
    try:
        return catalog.gpu(entry.value) if entry is not None and isinstance(entry.value, str) else None
    except UserError:
        return None


def _strategy(mapping: Mapping) -> str:
    """The strategy that a mapping's flags and dtype amount to; 16 bit where it says nothing."""
    flags = {name: entry.value for name, entry in mapping.entries.items()}
    if flags.get("load_in_4bit") is True:
        return "nf4"
    if flags.get("load_in_8bit") is True:
        return "int8_default"
    if flags.get("quantization") in strategies.STRATEGIES:
        return flags["quantization"]
    return "fp32" if flags.get("dtype", flags.get("torch_dtype")) in ("float32", "fp32") else "fp16"


@rule(
    "model-exceeds-gpu",
    "config",
    "A model larger than the card's memory",
    hit="""
engine: vllm
model: mistralai/Mistral-7B-Instruct-v0.2
gpu: RTX 4060 Ti 8 GB
""",
    miss="""
engine: vllm
model: mistralai/Mistral-7B-Instruct-v0.2
gpu: RTX 4090
""",
)
def exceeds_gpu(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """What does not fit is spilled to the host, or does not start at all. Sizes are computed from the catalog's shapes at batch 1;
    several cards
    (tensor_parallel_size, num_gpus) are left alone."""
    for mapping in config.mappings:
        gpu, model = _gpu(mapping), mapping.first("model", "model_id", "model_name", "model_name_or_path")
        several = mapping.first("tensor_parallel_size", "num_gpus", "gpus", "pipeline_parallel_size")
        if gpu is None or gpu.memory_gb is None or model is None or (several is not None and several.value != 1):
            continue
        fix = "choose nf4 from about 6 billion parameters up, a smaller model, or a larger card"
        try:
            fit = footprint.fit(str(model.value), _strategy(mapping), gpu)
        except UserError:
            yield from _weights_alone(model, mapping, gpu, fix)
            continue
        if not fit.fits:
            yield Hit(model.line, fit.explained, fix, numbers.spilled(fit.needed_gb, fit.available_gb, gpu))


def _weights_alone(model: Entry, mapping: Mapping, gpu: catalog.Gpu, fix: str) -> Iterator[Hit]:
    """A model that the catalog does not list, but whose name tells its size: its weights alone exceed the card."""
    size = params_b(str(model.value))
    needed = size * strategies.get(_strategy(mapping)).weight_bits / 8 if size else 0.0
    available = footprint.available_gb(gpu)
    if needed > available:
        message = f"the weights of {size:.3g} billion parameters take {needed:.0f} GB, {gpu.name} has {available:.0f} GB to use"
        yield Hit(model.line, message, fix, numbers.spilled(needed, available, gpu))


@rule(
    "bf16-before-ampere",
    "config",
    "BF16 on a card that has none",
    hit="""
gpu: V100
dtype: bfloat16
engine: vllm
""",
    miss="""
gpu: A100
dtype: bfloat16
engine: vllm
""",
)
def bf16_before_ampere(config: Config, evidence: Evidence) -> Iterator[Hit]:
    """Cards before Ampere have no BF16 tensor cores: it is emulated or refused. FP16 runs on their tensor cores."""
    for mapping in config.mappings:
        known, dtype = _gpu(mapping), mapping.first("dtype", "torch_dtype", "precision")
        if known is not None and dtype is not None and dtype.value in ("bfloat16", "bf16") and (known.compute_capability or 99) < 8:
            yield Hit(dtype.line, f"{dtype.value} on {known.name} ({known.architecture})", "dtype: float16")
