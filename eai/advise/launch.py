"""What to type: the command that starts a configuration, the one that verifies it, and the code of strategies and fixes."""

from typing import Any

from eai import strategies
from eai.advise.evidence import Cost, measure_command
from eai.advise.request import Configuration

LOAD = {
    "fp16": 'model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.float16, device_map={"": 0})',
    "bf16": 'model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.bfloat16, device_map={"": 0})',
    "int8_default": (
        "config = BitsAndBytesConfig(load_in_8bit=True)\n"
        'model = AutoModelForCausalLM.from_pretrained(model_id, quantization_config=config, device_map={"": 0})'
    ),
    "int8_pure": (
        "config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)\n"
        'model = AutoModelForCausalLM.from_pretrained(model_id, quantization_config=config, device_map={"": 0})'
    ),
    "nf4": (
        'config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)\n'
        'model = AutoModelForCausalLM.from_pretrained(model_id, quantization_config=config, device_map={"": 0})'
    ),
}
LOAD["nf4_dq"] = LOAD["nf4"].replace('"nf4",', '"nf4", bnb_4bit_use_double_quant=True,')
LOAD["fp4"] = LOAD["nf4"].replace('"nf4"', '"fp4"')
BATCH = (
    'inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)  # {batch_size} prompts\n'
    "outputs = model.generate(**inputs, max_new_tokens={output_tokens})"
)
_DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_CHECKPOINTS = {
    "awq": "an AWQ checkpoint of the model",
    "gptq": "a GPTQ checkpoint of the model",
    "mxfp4": "the model's own MXFP4 checkpoint",
}


def launch(c: Configuration) -> str:
    """The command, or for transformers the Python code, that runs a configuration."""
    name, context = c.model.hf_id or c.model.slug, c.input_tokens + c.output_tokens
    if c.engine == "transformers":
        code = LOAD.get(c.quantization, f"# load {name} in {c.quantization}")
        batch = BATCH.format(batch_size=c.batch_size, output_tokens=c.output_tokens)
        return f'model_id = "{name}"\n{code}\n{batch}'
    if c.engine in ("llama.cpp", "ollama"):
        file = f"{c.model.slug}-{c.quantization.removeprefix(strategies.GGUF).upper()}.gguf"
        return f"llama-server -m {file} -ngl 99 --parallel {c.batch_size} -c {context * c.batch_size}"
    if c.engine == "tensorrt-llm":
        return f"trtllm-serve {name} --tp_size {c.num_gpus} --max_batch_size {c.batch_size} --max_seq_len {context}"
    if c.engine == "sglang":
        extra = f" --quantization {c.quantization}" if c.quantization not in _DTYPES else f" --dtype {_DTYPES[c.quantization]}"
        return f"python -m sglang.launch_server --model-path {name} --tp {c.num_gpus} --max-running-requests {c.batch_size}{extra}"
    extra = f" --dtype {_DTYPES[c.quantization]}" if c.quantization in _DTYPES else f" --quantization {c.quantization}"
    note = f"  # name {_CHECKPOINTS[c.quantization]}" if c.quantization in _CHECKPOINTS else ""
    split = f" --tensor-parallel-size {c.num_gpus}" if c.num_gpus > 1 else ""
    return f"vllm serve {name}{split}{extra} --max-model-len {max(2048, context)} --max-num-seqs {c.batch_size}{note}"


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
