"""What can be wrong with a deployment or with its figures: causes, the steps that verify each, and the code of the fixes, as text."""

from dataclasses import dataclass
from math import log

from eai.advise.launch import BATCH, LOAD
from eai.advise.page import environment
from eai.advise.request import Configuration


@dataclass(frozen=True)
class Cause:
    """One pattern: its words for a person, root cause, the fix with code, steps to verify it, prior and why. `kind`: fault |
    costly_choice; `served_fix`: the fix where a serving engine runs."""

    title: str
    root_cause: str
    fix: str
    code: str
    verify: tuple[str, ...]
    prior: float = 0.0
    why: str = ""
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
        "correct the unit",
        "energy_j_per_1k_tok = 1000 * mean_power_w * duration_s / output_tokens_of_all_sequences",
        (
            "compute mean power x duration / output tokens of all sequences by hand for one run",
            "compare with the unit in the tool's documentation",
        ),
        0.10,
        "spread evenly over the confusions that are possible",
    ),
    "wrong_boundary": Cause(
        "another boundary",
        "the energy or power is not the gross figure of the boards that work: idle taken off, the machine or other cards added, a peak for "
        "a mean",
        "take gross energy of the cards that work, and no others",
        "energy_j = counter_end_mj / 1e3 - counter_start_mj / 1e3  # nvmlDeviceGetTotalEnergyConsumption of each card that works",
        (
            "read the board's energy counter before and after one run and compare",
            "list which devices the tool sums, and whether it subtracts idle",
        ),
        0.12,
        "idle power subtracted, whole machine, other cards, a peak for a mean",
    ),
    "quantization_not_applied": Cause(
        "the quantization never ran",
        "the figures are those of other weights than stated",
        "pass the quantization to the loader",
        "",
        (_RAN, "print model.get_memory_footprint() / 1e9 and compare it with the bytes that the strategy stores"),
        0.06,
        "a quantized strategy was stated, or half precision and 32-bit weights loaded",
    ),
    "int8_decomposition": Cause(
        "LLM.int8() with its default threshold",
        "LLM.int8() with its default threshold of 6.0 splits every product into int8 and 16-bit outlier columns: several kernels and "
        "conversions a layer, at small batches far more time than the smaller weights save (arXiv 2208.07339)",
        "set the threshold to 0, or load half precision",
        LOAD["int8_pure"],
        (
            _RAN + "; its `state.threshold` is 6.0 where the decomposition runs",
            "run once more with llm_int8_threshold=0.0: throughput should about double; check the task's accuracy on the same run",
        ),
        0.06,
        "another strategy than LLM.int8() with its default threshold was stated",
    ),
    "batch_not_applied": Cause(
        "the batch never reached the model",
        "the figures are those of one sequence at a time",
        "pass all prompts in one call, padded on the left",
        BATCH,
        (
            "print inputs['input_ids'].shape: its first number is the batch that runs",
            "count the output tokens of all sequences: those of one, counted for a whole batch that did run, give the same figures",
        ),
        0.05,
        "a batch above 1 was stated",
        served_fix="send as many requests at once as stated (the load test's --max-concurrency), and let the engine take them (its limit)",
    ),
    "vram_spill": Cause(
        "weights or cache on the host",
        "what does not fit in the card's memory is read over PCIe at every step",
        "keep every layer on the card: better no start than one layer on the host",
        'model = AutoModelForCausalLM.from_pretrained(model_id, dtype=torch.float16, device_map={"": 0})  # fails instead of spilling',
        ("print model.hf_device_map: no entry may say cpu or disk", _WATCH + "; PCIe traffic while decoding (dmon -s t) is the spill"),
        0.002,
        "0.25 where weights, cache and activations do not fit, 0.05 where they take over 90 % of the memory",
        served_fix="keep weights and cache on the card: no --cpu-offload-gb, no --swap-space, every layer with -ngl",
    ),
    "power_cap_or_throttle": Cause(
        "a power cap or throttling",
        "the card runs below its clocks: a lowered power limit, or heat",
        "give the card its power and air back, then measure again",
        "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER  # the active reasons; nvidia-smi -pl WATTS sets the limit",
        (
            "nvidia-smi -q -d PERFORMANCE while it runs: SW Power Cap, HW Thermal Slowdown",
            _WATCH + "; clocks below the boost clock at full utilisation",
        ),
        0.04,
        "the card runs below its clocks",
    ),
    "cpu_bound": Cause(
        "the host is too slow",
        "the card waits for kernel launches: a slow or busy CPU, no CUDA graphs",
        "take launches off the host: a compiled decode step with a static cache (or a serving engine with CUDA graphs), and a larger batch",
        'model.generation_config.cache_implementation = "static"\n'
        'model.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)',
        (_WATCH + "; a busy CPU core and a card below 50 % say so", "py-spy or `top -H`: one thread at 100 % while it generates"),
        0.05,
        "launches from the host limit the step more than in the rows",
        served_fix="take launches off the host: no --enforce-eager, cores of its own for the server, the load test on another machine",
    ),
    "small_model_4bit": Cause(
        "4-bit weights on a small model",
        "a small model's decode step is spent in launching kernels, not in moving weights: 4-bit weights save bytes that cost little and "
        "add dequantization kernels",
        "load half precision",
        LOAD["fp16"],
        (_RAN, _TURNS),
        kind="costly_choice",
    ),
    "quantization_overhead": Cause(
        "a quantization that costs more than it saves",
        "the quantized layers' extra kernels cost more energy than their smaller weights save here",
        "load half precision",
        LOAD["fp16"],
        (_RAN, _TURNS),
        kind="costly_choice",
    ),
    "batch_1_waste": Cause(
        "one request at a time",
        "one sequence leaves most of the hardware waiting, at standing power, while the same weights could serve several",
        "batch concurrent requests",
        BATCH,
        (_WATCH + "; a card below 50 % utilisation has room", "count the requests that wait while one is served"),
        kind="costly_choice",
    ),
    "one_kernel": Cause(
        "several labels, one kernel",
        "configurations with different strategies have the same figures: one and the same weights ran under all these names",
        "load each strategy and print what ran",
        "",
        (_RAN,),
    ),
    "impossible_figures": Cause(
        "figures that no such card can show",
        "a figure lies beyond a limit of the card: its power, or the bytes that its memory can move",
        "correct the figure, or name the card that ran",
        "",
        ("check the unit, the number of cards and the tokens that were counted",),
    ),
}
PRIORS = {AS_STATED: 0.50} | {name: c.prior for name, c in CAUSES.items() if c.prior} | {NONE: 0.03}
PRIOR_WHY = {
    AS_STATED: "most deployments run as stated; a tenth of it where the configuration does not fit",
    NONE: "anything else, within a factor of 50",
}


def confusions(c: Configuration) -> list[tuple[str, float, float, float]]:
    """The confusions of units and counts that are possible for these token counts and this batch: what was confused, and the logarithm of
    the exact factor that it puts on energy a token, throughput and power."""
    out, total = log(c.output_tokens), log((c.input_tokens + c.output_tokens) / c.output_tokens)
    batch, request = log(c.batch_size), log(c.output_tokens / 1e3)
    energy = {
        "energy given per token, not per 1000 tokens": -log(1e3),
        "energy multiplied by 1000 twice": log(1e3),
        "watt hours given as joules": -log(3600),
        "joules multiplied by 3600": log(3600),
        "energy too large by 3.6 (kilojoules and watt hours confused)": log(3.6),
        "energy too small by 3.6 (kilojoules and watt hours confused)": -log(3.6),
        "energy a request given as energy per 1000 tokens": request,
        "power samples at 10 Hz summed without their interval": log(10),
        "prompt tokens counted in the energy's tokens": -total,
    }
    found = [(name, shift, 0.0, 0.0) for name, shift in energy.items()] + [
        ("requests a second given as tokens a second", 0.0, -out, 0.0),
        ("prompt tokens counted as output tokens in both figures", -total, total, 0.0),
        ("prompt tokens counted in the throughput", 0.0, total, 0.0),
        ("milliwatts given as watts", 0.0, 0.0, log(1e3)),
        ("kilowatts given as watts", 0.0, 0.0, -log(1e3)),
    ]
    several = [
        ("throughput of one sequence given for the whole batch", 0.0, -batch, 0.0),
        ("throughput multiplied by the batch size twice", 0.0, batch, 0.0),
        ("energy of the whole batch given for one sequence's tokens", batch, 0.0, 0.0),
        ("energy divided by the batch size twice", -batch, 0.0, 0.0),
        ("tokens of one sequence counted for the whole batch", batch, -batch, 0.0),
    ]
    return found + (several if c.batch_size > 1 else [])


def patterns_page() -> str:
    """docs/diagnosis-patterns.md: causes, priors and steps to verify, generated from this table."""
    why = {name: c.why for name, c in CAUSES.items()} | PRIOR_WHY
    return environment().get_template("patterns.md.j2").render(causes=CAUSES, priors=PRIORS, why=why).strip() + "\n"


if __name__ == "__main__":
    print(patterns_page(), end="")
