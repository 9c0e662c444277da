"""What to type: the command that starts a configuration, the one that verifies it, and the code of strategies and fixes."""

from typing import Any

from eai import strategies
from eai.advise.evidence import UNQUANTIZED, Cost, measure_command, served_name
from eai.advise.request import Configuration, native
from eai.footprint import PUBLISHED_ONLY

_LOAD = 'model = AutoModelForCausalLM.from_pretrained(model_id, {}device_map={{"": 0}})'
_QUANTIZED = "config = BitsAndBytesConfig({})\n" + _LOAD.replace("{}", "quantization_config=config, ")
_NF4 = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16'
LOAD = {
    **{q: _LOAD.format(f"dtype=torch.{name}, ") for q, name in UNQUANTIZED.items()},
    "int8_default": _QUANTIZED.format("load_in_8bit=True"),
    "int8_pure": _QUANTIZED.format("load_in_8bit=True, llm_int8_threshold=0.0"),
    "nf4": _QUANTIZED.format(_NF4),
    "nf4_dq": _QUANTIZED.format(_NF4 + ", bnb_4bit_use_double_quant=True"),
    "fp4": _QUANTIZED.format(_NF4.replace("nf4", "fp4")),
}
BATCH = (
    'inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)  # {batch_size} prompts\n'
    "outputs = model.generate(**inputs, max_new_tokens={output_tokens})"
)
_IMPORTS = "import torch\nfrom transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig\n\n"


def batch_code(batch_size: int, output_tokens: int | str) -> str:
    """The code that generates for so many prompts at once."""
    return BATCH.format(batch_size=batch_size, output_tokens=output_tokens)


def launch(c: Configuration, replicas: int = 1) -> str:
    """The command, or for transformers the Python code, that runs a configuration; a checkpoint to be chosen is in capitals. Options as of
    vLLM 0.11, SGLang 0.5, TensorRT-LLM 1.0, llama.cpp b6000 and Ollama 0.12; a comment says how several replicas are run.
    """
    name, context, n, extra = served_name(c), c.input_tokens + c.output_tokens, c.batch_size, ""
    if c.engine == "transformers":
        if c.quantization in PUBLISHED_ONLY:
            code = _LOAD.format("")
        elif c.quantization.startswith("int8_t"):
            code = _QUANTIZED.format(f"load_in_8bit=True, llm_int8_threshold={c.quantization.removeprefix('int8_t')}")
        else:
            code = LOAD.get(c.quantization, f"# quantized to {c.quantization} with torchao after loading\n{LOAD['bf16']}")
        name = name if c.quantization in PUBLISHED_ONLY else c.model.hf_id or c.model.slug
        tokenizer = 'tokenizer = AutoTokenizer.from_pretrained(model_id, padding_side="left")'
        return f'{_IMPORTS}model_id = "{name}"\n{tokenizer}\n{code}\n{batch_code(n, c.output_tokens)}'
    if c.engine == "llama.cpp":
        file = f"{c.model.slug}-{c.quantization.removeprefix(strategies.GGUF).upper()}.gguf"
        return f"llama-server -m {file} -ngl 99 --parallel {n} -c {context * n}"
    if c.engine == "ollama":
        return f"OLLAMA_NUM_PARALLEL={n} OLLAMA_CONTEXT_LENGTH={context} ollama serve\nollama run {name}"
    if name == (c.model.hf_id or c.model.slug) and c.quantization != native(c.model):
        kind = UNQUANTIZED.get(c.quantization)
        extra = f"--dtype {kind}" if kind else f"--quantization {c.quantization}"
    if c.engine == "tensorrt-llm":
        command = f"trtllm-serve {name} --tp_size {c.num_gpus} --max_batch_size {n} --max_seq_len {context}"
    elif c.engine == "sglang":
        command = f"python -m sglang.launch_server --model-path {name} --tp {c.num_gpus} --max-running-requests {n} {extra}"
    else:
        split = f"--tensor-parallel-size {c.num_gpus} " if c.num_gpus > 1 else ""
        command = f"vllm serve {name} {split}{extra + ' ' if extra else ''}--max-model-len {max(2048, context)} --max-num-seqs {n}"
    each = f"# {replicas} of these behind a load balancer, each on its own {c.num_gpus} card(s)\n" if replicas > 1 else ""
    return each + command.rstrip()


def verify(c: Configuration, known: Cost, rival: str | None = None) -> dict[str, Any]:
    """`command` that measures the configuration, what it should read, and what to conclude if it reads something else."""
    error = known.stated_error
    wide = "the stated error" if error is None else f"a factor of {1 + error:.2g}"
    expected = {name: getattr(known, name).to_json() for name in ("throughput_tok_s", "power_w", "energy_j_per_1k_tok")}
    conclude = (
        f"inside the intervals: the answer stands. Off by more than {wide}: trust your measurement, and give it with --throughput and "
        "--energy-j-per-1k to `eai diagnose`, which says why, and to `eai estimate` for the bill"
    )
    return {"command": measure_command(c, rival), "expected": expected, "conclude": conclude}
