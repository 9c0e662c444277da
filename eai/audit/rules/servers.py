"""Command lines of inference servers and power loggers: vLLM, TGI, llama.cpp, Ollama, nvidia-smi."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from eai.audit import evidence as numbers
from eai.audit.code import params_b
from eai.audit.evidence import SMALL_PARAMS_B, Evidence
from eai.audit.finding import Hit, rule
from eai.audit.rules.measuring import slow_sampling

_SERVERS = re.compile(
    r"\bvllm\b|text-generation-(launcher|inference)|\bllama-(server|cli|bench)\b|\bollama\b|nvidia-smi|sglang|^PARAMETER num_gpu",
    re.IGNORECASE,
)


_LOOP, _DONE = re.compile(r"\s*(for|while|until)\b.*"), re.compile(r"\s*done\b")
_FEWEST_LAYERS = 16  # of the catalog's models no one has fewer, so a smaller count leaves layers on the CPU


@dataclass(frozen=True)
class Command:
    """One command line of a script, Dockerfile or config: its text, line, and options (`--name value`, `--name=value`, `-n value`)."""

    text: str
    line: int
    in_loop: bool = False

    @property
    def words(self) -> list[str]:
        """The words of the command; quotes that do not close are split at spaces."""
        try:
            return shlex.split(self.text, comments=True)
        except ValueError:
            return self.text.split()

    def option(self, *names: str) -> str | None:
        """The value of the first option found, "" for a flag without a value, None if it is not there."""
        words = self.words
        for position, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name in names:
                following = words[position + 1] if position + 1 < len(words) else ""
                return value if equals else "" if following.startswith("--") else following
        return None

    def runs(self, *programs: str) -> bool:
        """Whether one of the programs is run or served here."""
        return any(p in self.text for p in programs)


def commands(text: str) -> list[Command]:
    """The command lines of a script that concern inference, lines ending in a backslash joined."""
    found, start, joined, depth = [], 0, "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        start = start or number
        joined += line.rstrip("\\") + " "
        if line.endswith("\\"):
            continue
        if _SERVERS.search(joined) or "OLLAMA_" in joined:
            found.append(Command(joined.strip().strip("\"',"), start, depth > 0))
        depth += bool(_LOOP.match(joined)) - bool(_DONE.match(joined))
        start, joined = 0, ""
    return [c for c in found if not c.text.startswith(("#", "//"))]


@rule(
    "server-one-sequence",
    "shell",
    "A server limited to one sequence",
    hit="vllm serve org/Foo-7B --max-num-seqs 1",
    miss="vllm serve org/Foo-7B --max-num-seqs 64",
)
def one_sequence(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """A server that admits one sequence at a time decodes at batch 1 under any load."""
    if command.runs("llama-server") and command.option("--parallel", "-np") == "1":
        yield Hit(command.line, "the server has one slot: batch 1", "--parallel 8, with the context to share", evidence.batch_1())
    limits = ("--max-num-seqs", "--max-running-requests", "--max-concurrent-requests", "--max-batch-size")
    is_ollama = "OLLAMA_NUM_PARALLEL=1" in command.text.replace('"', "").split()
    if command.option(*limits) == "1" or is_ollama or re.search(r"OLLAMA_NUM_PARALLEL=1\b", command.text):
        yield Hit(
            command.line,
            "the server admits one sequence at a time: batch 1",
            "raise the limit to what the KV cache allows",
            evidence.batch_1(),
        )


@rule(
    "server-int8-default",
    "shell",
    "TGI with --quantize bitsandbytes",
    hit="text-generation-launcher --model-id org/Foo-7B --quantize bitsandbytes",
    miss="text-generation-launcher --model-id org/Foo-7B --quantize bitsandbytes-nf4",
)
def tgi_int8(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """TGI's `bitsandbytes` is LLM.int8() with its default threshold, which was measured to cost more energy than FP16."""
    if command.runs("text-generation-") and command.option("--quantize", "-q") == "bitsandbytes":
        waste = evidence.quantization("int8_default", "fp16")
        yield Hit(command.line, "--quantize bitsandbytes is LLM.int8() with threshold 6.0", "drop it, or use eetq, fp8, awq or gptq", waste)


@rule(
    "server-4bit-small-model",
    "shell",
    "A server with 4-bit bitsandbytes on a small model",
    hit="text-generation-launcher --model-id Qwen/Qwen2-1.5B --quantize bitsandbytes-nf4",
    miss="text-generation-launcher --model-id org/Foo-7B --quantize bitsandbytes-nf4",
)
def small_4bit(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """As 4bit-small-model: on models up to about 3 billion parameters 4-bit weights cost more energy than they save."""
    quantized = (
        command.option("--quantize") in ("bitsandbytes-nf4", "bitsandbytes-fp4") or command.option("--quantization") == "bitsandbytes"
    )
    name = command.option("--model-id", "--model") or next((w for w in command.words[2:3] if "serve" in command.words[:2]), "")
    size = params_b(name) if name else None
    if quantized and size is not None and size <= SMALL_PARAMS_B:
        waste = evidence.quantization("nf4", "fp16", SMALL_PARAMS_B)
        yield Hit(command.line, f"4-bit weights on a model of {size:.2g} billion parameters", "serve it in 16 bit", waste)


@rule(
    "server-fp32",
    "shell",
    "A server with FP32 weights",
    hit="vllm serve org/Foo-7B --dtype float32",
    miss="vllm serve org/Foo-7B --dtype bfloat16",
)
def fp32(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """Decoding is bound by the bytes of the weights; FP32 moves twice those of 16 bit."""
    if command.runs("vllm", "text-generation-", "sglang") and command.option("--dtype") in ("float32", "float"):
        yield Hit(command.line, "the server holds its weights in float32", "--dtype bfloat16", numbers.fp32_weights())


@rule(
    "server-eager",
    "shell",
    "A server without CUDA graphs",
    hit="vllm serve org/Foo-7B --enforce-eager",
    miss="vllm serve org/Foo-7B",
)
def eager(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """Without CUDA graphs every kernel of every step is launched from the CPU; at small batches the GPU waits at power. What it costs
    depends on the
    model: measure it."""
    if command.runs("vllm", "sglang") and command.option("--enforce-eager", "--disable-cuda-graph") is not None:
        yield Hit(command.line, "CUDA graphs are switched off", "remove the flag once debugging is over")


@rule(
    "server-cpu-offload",
    "shell",
    "A server that spills weights to the host",
    hit="vllm serve org/Foo-70B --cpu-offload-gb 40",
    miss="vllm serve org/Foo-7B --gpu-memory-utilization 0.9",
)
def cpu_offload(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """Offloaded layers cross the PCIe bus for every token while the GPU waits at power."""
    size = command.option("--cpu-offload-gb")
    if size not in (None, "", "0"):
        yield Hit(command.line, f"{size} GB of weights live on the host", "choose a quantization or model that fits")
    layers = command.option("-ngl", "--n-gpu-layers", "--gpu-layers") if command.runs("llama-server", "llama-cli") else None
    layers = command.words[2] if command.text.startswith("PARAMETER num_gpu ") else layers
    if layers is not None and layers.isdigit() and int(layers) < _FEWEST_LAYERS:
        yield Hit(command.line, f"{layers} layers are on the GPU, the rest runs on the CPU", "-ngl 99 where the model fits")


@rule(
    "server-reloads-model",
    "shell",
    "A server that unloads the model after each request",
    hit="OLLAMA_KEEP_ALIVE=0 ollama serve",
    miss="OLLAMA_KEEP_ALIVE=30m ollama serve",
)
def reloads(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """With a keep-alive of 0, or with llama-cli in a loop, the weights are read from disk again for every request."""
    if command.in_loop and command.runs("llama-cli"):
        fix = "start llama-server once and send it the prompts, several at a time"
        yield Hit(command.line, "llama-cli loads the model in each turn of the loop", fix, numbers.reload_each_time())
    if re.search(r"OLLAMA_KEEP_ALIVE=[\"']?0[smh]?[\"']?(\s|$)", command.text):
        yield Hit(command.line, "the model is unloaded after each request", "keep it alive between requests", numbers.reload_each_time())


@rule(
    "power-log-slow",
    "shell",
    "nvidia-smi logging power once a second or slower",
    hit="nvidia-smi --query-gpu=power.draw --format=csv -l 1 > power.csv",
    miss="nvidia-smi --query-gpu=power.draw --format=csv -lms 100 > power.csv",
)
def slow_log(command: Command, evidence: Evidence) -> Iterator[Hit]:
    """At one sample a second the start and end of the work are missed by up to a second each."""
    interval = command.option("-l", "--loop")
    if command.runs("nvidia-smi") and "power" in command.text and interval and interval.isdigit() and int(interval) >= 1:
        yield Hit(
            command.line, f"power is logged every {interval} s", "-lms 100, or read the energy counter", slow_sampling(float(interval))
        )
