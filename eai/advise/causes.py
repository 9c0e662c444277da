"""What can be wrong with a deployment or with its figures: causes, the steps that verify each, and the code of the fixes, as text."""

from dataclasses import dataclass
from math import log

from eai.advise.launch import BATCH, LOAD
from eai.advise.request import Configuration


@dataclass(frozen=True)
class Cause:
    """One pattern: its words for a person, root cause, prior and why, the fix with code, and steps to verify it. `kind`: fault |
    costly_choice; `served_fix`: the fix where a serving engine runs."""

    title: str
    root_cause: str
    prior: float
    why: str
    fix: str
    code: str
    verify: tuple[str, ...]
    kind: str = "fault"
    served_fix: str = ""


_RAN = "print the class and dtype of model.model.layers[0].mlp.down_proj: it says what ran"
_WATCH = "watch `nvidia-smi dmon -s pucm` through one generation: power, utilisation, clocks, memory"
_TURNS = "run half precision and the quantized model in turn on the same prompts, five blocks each"

AS_STATED, NONE = "as_stated", "none_of_these"
CAUSES: dict[str, Cause] = {
    "unit_error": Cause(
        "a confused unit",
        "one figure is in another unit, or counts other tokens, than the rest",
        0.10,
        "spread evenly over the confusions that are possible",
        "correct the unit",
        "energy_j_per_1k_tok = 1000 * mean_power_w * duration_s / output_tokens_of_all_sequences",
        (
            "compute mean power x duration / output tokens of all sequences by hand for one run",
            "compare with the unit in the tool's documentation",
        ),
    ),
    "wrong_boundary": Cause(
        "another boundary",
        "the energy or power is not the gross figure of the boards that work: "
        "idle taken off, the machine or other cards added, a peak for a mean",
        0.12,
        "idle power subtracted, whole machine, other cards, a peak for a mean",
        "take gross energy of the cards that work, and no others",
        "energy_j = counter_end_mj / 1e3 - counter_start_mj / 1e3  # nvmlDeviceGetTotalEnergyConsumption of each card that works",
        (
            "read the board's energy counter before and after one run and compare",
            "list which devices the tool sums, and whether it subtracts idle",
        ),
    ),
    "quantization_not_applied": Cause(
        "the quantization never ran",
        "the figures are those of other weights than stated",
        0.06,
        "a quantized strategy was stated, or half precision and 32-bit weights loaded",
        "pass the quantization to the loader",
        "",
        (_RAN, "print model.get_memory_footprint() / 1e9 and compare it with the bytes that the strategy stores"),
    ),
    "int8_decomposition": Cause(
        "LLM.int8() with its default threshold",
        "LLM.int8() with its default threshold of 6.0 splits every product into int8 and 16-bit outlier columns: several kernels and "
        "conversions a layer, at small batches far more time than the smaller weights save (arXiv 2208.07339)",
        0.06,
        "another strategy than LLM.int8() with its default threshold was stated",
        "set the threshold to 0, or load half precision",
        LOAD["int8_pure"],
        (
            _RAN + "; its `state.threshold` is 6.0 where the decomposition runs",
            "run once more with llm_int8_threshold=0.0: throughput should about double; check the task's accuracy on the same run",
        ),
    ),
    "batch_not_applied": Cause(
        "the batch never reached the model",
        "the figures are those of one sequence at a time",
        0.05,
        "a batch above 1 was stated",
        "pass all prompts in one call, padded on the left",
        BATCH,
        (
            "print inputs['input_ids'].shape: its first number is the batch that runs",
            "count the output tokens of all sequences: those of one, counted for a whole batch that did run, give the same figures",
        ),
        served_fix="send as many requests at once as stated (the load test's --max-concurrency), and let the engine take them (its limit)",
    ),
    "vram_spill": Cause(
        "weights or cache on the host",
        "what does not fit in the card's memory is read over PCIe at every step",
        0.002,
        "0.25 where weights, cache and activations do not fit, 0.05 where they take over 90 % of the memory",
        "keep every layer on the card: better no start than one layer on the host",
        'model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.float16, device_map={"": 0})  # fails instead of spilling',
        ("print model.hf_device_map: no entry may say cpu or disk", _WATCH + "; PCIe traffic while decoding (dmon -s t) is the spill"),
        served_fix="keep weights and cache on the card: no --cpu-offload-gb, no --swap-space, every layer with -ngl",
    ),
    "power_cap_or_throttle": Cause(
        "a power cap or throttling",
        "the card runs below its clocks: a lowered power limit, or heat",
        0.04,
        "the card runs below its clocks",
        "give the card its power and air back, then measure again",
        "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER  # the active reasons; nvidia-smi -pl WATTS sets the limit",
        (
            "nvidia-smi -q -d PERFORMANCE while it runs: SW Power Cap, HW Thermal Slowdown",
            _WATCH + "; clocks below the boost clock at full utilisation",
        ),
    ),
    "cpu_bound": Cause(
        "the host is too slow",
        "the card waits for kernel launches: a slow or busy CPU, no CUDA graphs",
        0.05,
        "launches from the host limit the step more than in the rows",
        "take launches off the host: a compiled decode step with a static cache (or a serving engine with CUDA graphs), and a larger batch",
        'model.generation_config.cache_implementation = "static"\n'
        'model.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)',
        (_WATCH + "; a busy CPU core and a card below 50 % say so", "py-spy or `top -H`: one thread at 100 % while it generates"),
        served_fix="take launches off the host: no --enforce-eager, cores of its own for the server, the load test on another machine",
    ),
    "small_model_4bit": Cause(
        "4-bit weights on a small model",
        "a small model's decode step is spent in launching kernels, not in "
        "moving weights: 4-bit weights save bytes that cost little and add "
        "dequantization kernels",
        0.0,
        "",
        "load half precision",
        LOAD["fp16"],
        (_RAN, _TURNS),
        "costly_choice",
    ),
    "quantization_overhead": Cause(
        "a quantization that costs more than it saves",
        "the quantized layers' extra kernels cost more energy than their smaller weights save here",
        0.0,
        "",
        "load half precision",
        LOAD["fp16"],
        (_RAN, _TURNS),
        "costly_choice",
    ),
    "batch_1_waste": Cause(
        "one request at a time",
        "one sequence leaves most of the hardware waiting, at standing power, while the same weights could serve several",
        0.0,
        "",
        "batch concurrent requests",
        BATCH,
        (_WATCH + "; a card below 50 % utilisation has room", "count the requests that wait while one is served"),
        "costly_choice",
    ),
    "one_kernel": Cause(
        "several labels, one kernel",
        "configurations with different strategies have the same figures: one and the same weights ran under all these names",
        0.0,
        "",
        "load each strategy and print what ran",
        "",
        (_RAN,),
    ),
    "impossible_figures": Cause(
        "figures that no such card can show",
        "a figure lies beyond a limit of the card: its power, or the bytes that its memory can move",
        0.0,
        "",
        "correct the figure, or name the card that ran",
        "",
        ("check the unit, the number of cards and the tokens that were counted",),
    ),
}
PRIORS = {AS_STATED: 0.50, NONE: 0.03} | {name: c.prior for name, c in CAUSES.items() if c.prior}
PRIOR_WHY = {
    AS_STATED: "most deployments run as stated; a tenth of it where the configuration does not fit",
    NONE: "anything else, within a factor of 50",
}


def confusions(c: Configuration) -> list[tuple[str, float, float, float]]:
    """The confusions of units and counts that are possible for these token counts and this batch: what was confused, and the logarithm of
    the exact factor that it puts on energy a token, throughput and power."""
    out, total = log(c.output_tokens), log((c.input_tokens + c.output_tokens) / c.output_tokens)
    batch, request = log(c.batch_size), log(c.output_tokens / 1e3)
    found = [
        ("energy given per token, not per 1000 tokens", -log(1e3), 0.0, 0.0),
        ("energy multiplied by 1000 twice", log(1e3), 0.0, 0.0),
        ("watt hours given as joules", -log(3600), 0.0, 0.0),
        ("joules multiplied by 3600", log(3600), 0.0, 0.0),
        ("energy too large by 3.6 (kilojoules and watt hours confused)", log(3.6), 0.0, 0.0),
        ("energy too small by 3.6 (kilojoules and watt hours confused)", -log(3.6), 0.0, 0.0),
        ("energy a request given as energy per 1000 tokens", request, 0.0, 0.0),
        ("power samples at 10 Hz summed without their interval", log(10), 0.0, 0.0),
        ("requests a second given as tokens a second", 0.0, -out, 0.0),
        ("prompt tokens counted as output tokens in both figures", -total, total, 0.0),
        ("prompt tokens counted in the throughput", 0.0, total, 0.0),
        ("prompt tokens counted in the energy's tokens", -total, 0.0, 0.0),
        ("milliwatts given as watts", 0.0, 0.0, log(1e3)),
        ("kilowatts given as watts", 0.0, 0.0, -log(1e3)),
    ]
    if c.batch_size > 1:
        found += [
            ("throughput of one sequence given for the whole batch", 0.0, -batch, 0.0),
            ("throughput multiplied by the batch size twice", 0.0, batch, 0.0),
            ("energy of the whole batch given for one sequence's tokens", batch, 0.0, 0.0),
            ("energy divided by the batch size twice", -batch, 0.0, 0.0),
            ("tokens of one sequence counted for the whole batch", batch, -batch, 0.0),
        ]
    return found


def patterns_page() -> str:
    """docs/diagnosis-patterns.md: causes, priors and steps to verify, generated from this table."""
    head = (
        "# Patterns of the diagnosis\n\nGenerated by `python -m eai.advise.causes`. `eai "
        "diagnose` compares reported figures with what rows and predictions expect\n"
        "under every cause below, on the log scale, and normalizes the "
        "likelihoods with the priors. From 80 % on a pattern is HIGH, from 50 %\n"
        "MEDIUM, from 20 % LOW; only HIGH and MEDIUM are named in the verdict. Energy a token is mean power over throughput, so three\n"
        "figures must agree or a cause must say why they do not.\n\nA **fault** makes the "
        "figures deviate from the configuration as stated. A **costly choice** is none: "
        "the figures are what the configuration\ncosts, and rows know something that costs over "
        "5 % less. Without a row or prediction to compare with the verdict is **unknown**: the\n"
        "card's own limits (power, bytes a second) are all that is checked. Causes whose weights do not fit the card are never named.\n"
    )
    rows = [f"| `{AS_STATED}` | {PRIORS[AS_STATED]:g} | {PRIOR_WHY[AS_STATED]} |"]
    rows += [f"| `{name}` | {c.prior:g} | {c.why} |" for name, c in CAUSES.items() if c.prior]
    rows.append(f"| `{NONE}` | {PRIORS[NONE]:g} | {PRIOR_WHY[NONE]} |")
    priors = (
        "## Priors\n\nJudgements, not frequencies; what a configuration cannot have "
        "is left out, the others scaled to 1.\n\n| cause | prior | |\n|---|---|---|\n"
    )
    parts = [
        f"### `{name}`: {c.title}\n\n{c.root_cause[0].upper()}{c.root_cause[1:]}.\n\nVerify:\n\n" + "\n".join(f"- {v}" for v in c.verify)
        for name, c in CAUSES.items()
    ]
    return head + "\n" + priors + "\n".join(rows) + "\n\n## Patterns\n\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(patterns_page(), end="")
