"""vLLM's offline engine in Python: the same decisions as on a server's command line."""

from collections.abc import Iterator

from eai.audit import evidence as numbers
from eai.audit.code import Code, params_b
from eai.audit.evidence import SMALL_PARAMS_B, Evidence
from eai.audit.finding import Hit, rule
from eai.audit.values import Built


def _model(engine: Built) -> str:
    """The name of an engine's model, empty if the file does not tell it."""
    given = engine.kwargs.get("model", engine.args[0] if engine.args else "")
    return given if type(given) is str else ""


@rule(
    "engine-fp32",
    "python",
    "A vLLM engine with FP32 weights",
    hit="""
from vllm import LLM
llm = LLM(model="org/Foo-7B", dtype="float32")
""",
    miss="""
from vllm import LLM
llm = LLM(model="org/Foo-7B", dtype="auto")
""",
)
def fp32(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Decoding is bound by the bytes of the weights; FP32 moves twice those of 16 bit."""
    for engine in code.engines:
        if engine.kwargs.get("dtype") in ("float32", "float", "torch.float32", "torch.float"):
            waste = None if code.is_option(engine.node) else numbers.fp32_weights()
            yield Hit(engine.node.lineno, "the engine holds its weights in float32", 'dtype="bfloat16"', waste)


@rule(
    "engine-eager",
    "python",
    "A vLLM engine without CUDA graphs",
    hit="""
from vllm import LLM
llm = LLM("org/Foo-7B", enforce_eager=True)
""",
    miss="""
from vllm import LLM
llm = LLM("org/Foo-7B")
""",
)
def eager(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Without CUDA graphs every kernel of every step is launched from the CPU; at small batches the GPU waits at power. What it costs
    depends on the model: measure it."""
    for engine in code.engines:
        if engine.kwargs.get("enforce_eager") is True:
            yield Hit(engine.node.lineno, "CUDA graphs are switched off", "remove enforce_eager=True once debugging is over")


@rule(
    "engine-4bit-small-model",
    "python",
    "A vLLM engine with 4-bit bitsandbytes on a small model",
    hit="""
from vllm import LLM
llm = LLM(model="Qwen/Qwen2-1.5B", quantization="bitsandbytes")
""",
    miss="""
from vllm import LLM
llm = LLM(model="mistralai/Mistral-7B-v0.1", quantization="bitsandbytes")
""",
)
def small_4bit(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """As 4bit-small-model: on models up to about 3 billion parameters 4-bit weights cost more energy than they save."""
    for engine in code.engines:
        size = params_b(_model(engine)) if _model(engine) else None
        if engine.kwargs.get("quantization") == "bitsandbytes" and size is not None and size <= SMALL_PARAMS_B:
            waste = evidence.quantization("nf4", "fp16", SMALL_PARAMS_B)
            yield Hit(engine.node.lineno, f"4-bit weights on a model of {size:.2g} billion parameters", "serve it in 16 bit", waste)


@rule(
    "engine-one-sequence",
    "python",
    "A vLLM engine limited to one sequence",
    hit="""
from vllm import LLM
llm = LLM("org/Foo-7B", max_num_seqs=1)
""",
    miss="""
from vllm import LLM
llm = LLM("org/Foo-7B", max_num_seqs=64)
""",
)
def one_sequence(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """An engine that admits one sequence at a time decodes at batch 1 however many prompts it is given."""
    for engine in code.engines:
        limit = engine.kwargs.get("max_num_seqs")
        if limit == 1 and limit is not True:
            fix = "raise max_num_seqs to what the KV cache allows"
            yield Hit(engine.node.lineno, "the engine admits one sequence at a time: batch 1", fix, evidence.batch_1())


@rule(
    "engine-cpu-offload",
    "python",
    "A vLLM engine that spills weights to the host",
    hit="""
from vllm import LLM
llm = LLM("org/Foo-70B", cpu_offload_gb=40)
""",
    miss="""
from vllm import LLM
llm = LLM("org/Foo-7B", cpu_offload_gb=0)
""",
)
def cpu_offload(code: Code, evidence: Evidence) -> Iterator[Hit]:
    """Offloaded layers cross the PCIe bus for every token while the GPU waits at power."""
    for engine in code.engines:
        size = engine.kwargs.get("cpu_offload_gb")
        if isinstance(size, int | float) and size > 0:
            yield Hit(engine.node.lineno, f"{size:g} GB of weights live on the host", "choose a quantization or model that fits")
