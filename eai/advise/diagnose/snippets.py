"""What each pattern is, the code of its fixes and the steps that verify it, as text."""

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

BATCH = (
    "inputs = tokenizer(prompts, return_tensors=\"pt\", padding=True).to(model.device)  # {batch_size} prompts, padding_side='left'\n"
    "outputs = model.generate(**inputs, max_new_tokens=max_new_tokens)"
)

SNIPPETS: dict[str, tuple[str, str]] = {
    "unit_error": (
        "correct the unit",
        "energy_j_per_1k_tok = 1000 * mean_power_w * duration_s / output_tokens_of_all_sequences",
    ),
    "wrong_boundary": (
        "take gross energy of the cards that work, and no others",
        "energy_j = counter_end_mj / 1e3 - counter_start_mj / 1e3  # nvmlDeviceGetTotalEnergyConsumption of each card that works",
    ),
    "quantization_not_applied: 16-bit weights ran": ("pass the quantization to from_pretrained", ""),
    "quantization_not_applied: 32-bit weights ran": ("load 16-bit weights", LOAD["fp16"]),
    "batch_not_applied": ("pass all prompts in one call, padded on the left", BATCH),
    "vram_spill": (
        "keep every layer on the card: better no start than one layer on the host",
        'model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.float16, device_map={"": 0})  # fails instead of spilling',
    ),
    "power_cap_or_throttle": (
        "give the card its power and air back, then measure again",
        "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER  # the active reasons; nvidia-smi -pl WATTS sets the limit",
    ),
    "cpu_bound": (
        "take launches off the host: a compiled decode step with a static cache (or a serving engine with CUDA graphs), and a larger batch",
        'model.generation_config.cache_implementation = "static"\n'
        'model.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)',
    ),
}

_RAN = "print the class and dtype of model.model.layers[0].mlp.down_proj: it says what ran"
_WATCH = "watch `nvidia-smi dmon -s pucm` through one generation: power, utilisation, clocks, memory"

VERIFY: dict[str, list[str]] = {
    "int8_decomposition": [
        _RAN + "; its `state.threshold` is 6.0 where the decomposition runs",
        "run once more with llm_int8_threshold=0.0: throughput should about double; check the task's accuracy on the same run",
    ],
    "small_model_4bit": [_RAN, "run fp16 and the 4-bit model in turn on the same prompts, five blocks each"],
    "quantization_overhead": [_RAN, "run fp16 and the quantized model in turn on the same prompts, five blocks each"],
    "batch_1_waste": [_WATCH + "; a card below 50 % utilisation has room", "count the requests that wait while one is served"],
    "batch_not_applied": [
        "print inputs['input_ids'].shape: its first number is the batch that runs",
        "count the output tokens of all sequences: those of one sequence, counted for a whole batch that did run, give the same figures",
    ],
    "quantization_not_applied": [_RAN, "print model.get_memory_footprint() / 1e9 and compare it with the bytes that the strategy stores"],
    "vram_spill": [
        "print model.hf_device_map: no entry may say cpu or disk",
        _WATCH + "; PCIe traffic during decoding (dmon -s t) is the spill",
    ],
    "power_cap_or_throttle": [
        "nvidia-smi --query-gpu=clocks.sm,clocks_event_reasons.active,temperature.gpu,power.limit,power.draw --format=csv -l 1",
        "compare the SM clock under load with the card's boost clock",
    ],
    "cpu_bound": [_WATCH + "; low utilisation at full clocks is waiting", "profile ten decode steps: gaps between kernels are the host's"],
    "wrong_boundary": [
        "measure idle power for a minute with the model loaded, and the power of every card in the machine",
        "say which meter gave each figure; energy x throughput must equal mean power at the same boundary",
    ],
    "unit_error": [
        "divide the energy of one whole run by the output tokens of all its sequences, by hand",
        "check that energy a token x tokens a second gives the watts that the card draws",
    ],
    "contradicting_figures": ["measure energy, tokens, seconds and mean power over one and the same window"],
}

CAUSES: dict[str, str] = {
    "int8_decomposition": (
        "LLM.int8() with its default threshold of 6.0 splits every product into int8 and 16-bit outlier columns: several kernels and "
        "conversions a layer, at small batches far more time than the smaller weights save (arXiv 2208.07339 describes the split)"
    ),
    "small_model_4bit": (
        "a small model's decode step is spent in launching kernels, not in moving weights: 4-bit weights save bytes that cost little "
        "and add dequantization kernels"
    ),
    "quantization_overhead": "the quantized layers' extra kernels cost more energy than their smaller weights save here",
    "batch_1_waste": "one sequence leaves most of the hardware waiting, at standing power, while the same weights could serve several",
    "batch_not_applied": "the figures are those of one sequence at a time: the batch never reached the model",
    "quantization_not_applied": "the figures are those of other weights than stated",
    "vram_spill": "part of the model lies in host memory and crosses PCIe for every token",
    "power_cap_or_throttle": "the card runs below its clocks, by a power limit or heat: speed falls, power falls with it or more",
    "cpu_bound": "the host launches kernels too slowly: the card waits at standing power, so speed falls more than power",
    "wrong_boundary": "the energy is not the gross energy of the cards that did the work",
    "unit_error": "a figure is off by the factor of a confused unit or count",
    "contradicting_figures": "energy a token times throughput is not the reported power, and no known confusion explains by how much",
}
