"""Every option of the advisor, written once: its kind, help and flags for the command line, its range and default for the request."""

import math
import re
from dataclasses import dataclass
from typing import Any

from eai.errors import UserError


@dataclass(frozen=True)
class Option:
    """One option: `flags` where they are not its name; `low`, `high` and `expected` (in words) of a number; `choices` of a word."""

    kind: type
    help: str
    flags: tuple[str, ...] = ()
    low: float = 1e-12
    high: float = math.inf
    expected: str = "a number above 0"
    choices: tuple[str, ...] = ()


def _count(help: str, *flags: str, **more: Any) -> Option:
    return Option(int, help, flags, low=1, expected="a whole number, 1 or more", **more)


A_MODEL = "a Hugging Face id or a name of data/catalog/models.csv, or --params-b"
PRICE = {"low": 0.0, "expected": "a price in USD, 0 or more"}
REQUEST = {
    "model": Option(str, "Hugging Face id or catalog name.", ("--model", "--model-id"), expected=A_MODEL),
    "gpu": Option(str, "A card, several (h100,l40s,rtx4090) or any; default rtx4090d.", ("--gpu", "--hardware-platform")),
    "num_gpus": _count("Boards per replica; default 1, or what optimize finds."),
    "engine": Option(str, "transformers, vllm, sglang, tensorrt-llm, llama.cpp or ollama."),
    "quantization": Option(str, "Strategy; default fp16."),
    "batch_size": _count("Sequences at once; default 1.", "--batch-size", "--concurrency"),
    "input_tokens": _count("Prompt length; default 512.", "--input-tokens", "--sequence-length"),
    "output_tokens": _count("Answer length; default 256.", "--output-tokens", "--generation-length"),
    "params_b": Option(float, "Parameters in 1e9, of a model that the catalog does not have."),
    "active_params_b": Option(float, "Parameters in 1e9 that a token uses, of a mixture of experts."),
    "layers": _count("Layers of such a model."),
    "hidden": _count("Hidden size of such a model."),
    "kv_heads": _count("Key-value heads of such a model."),
}
RATES = {
    "use": Option(str, "api, chat or offline; default api.", choices=("api", "chat", "offline")),
    "requests": Option(float, "Requests per month; default 1,000,000 to scale from.", ("--requests", "--requests-per-month")),
    "requests_per_hour": Option(float, "Requests per hour."),
    "requests_per_day": Option(float, "Requests per day."),
}
SITE = {
    "pue": Option(float, "Power usage effectiveness of the site.", (), 1.0, 10.0, "a PUE of 1.0 or more (total over IT energy)"),
    "price": Option(float, "USD per kWh.", low=0.0, expected="a price in USD/kWh, 0 or more"),
    "region": Option(str, "us, cn or a country code: price and carbon intensity."),
    "carbon": Option(str, "g CO2e per kWh, or a CSV file with one row per hour and a column g_per_kwh (and requests)."),
}
LOAD = {
    "lengths": Option(str, "CSV file with a column output_tokens: how the answers' lengths vary."),
    "goal": Option(str, "energy, cost or carbon.", choices=("energy", "cost", "carbon")),
    "max_latency_s": Option(float, "Longest time for a request, in seconds.", ("--max-latency",)),
    "latency_p95_s": Option(float, "p95 of a request's time, in seconds.", ("--latency-p95",)),
    "ttft_p95_s": Option(float, "p95 of the time to the first token, in seconds.", ("--ttft-p95",)),
    "itl_p95_s": Option(float, "p95 of the time between tokens, in seconds.", ("--itl-p95",)),
    "min_accuracy": Option(
        float, "Lowest share of the unquantized score to keep.", (), 0.0, 1.0, "a fraction of the unquantized score, 0 to 1"
    ),
    "budget_usd": Option(float, "Highest cost of the cards, USD per month.", ("--budget",)),
    "power_budget_w": Option(
        str, "Highest power of the cards, such as 10kW.", ("--power-budget",), expected="a power such as 10kW or 800W"
    ),
    "rent_usd_h": Option(float, "USD per card and hour.", ("--rent",), low=0.0, expected="USD per card and hour, 0 or more"),
    "gpu_price": Option(float, "USD of a card with its share of the machine: owned, not rented.", **PRICE),
    "lifetime_years": Option(float, "Years that an owned card is used; default 4."),
    "card_utilisation": Option(float, "Share of an owned card's hours that work; default 0.5.", (), 1e-9, 1.0, "a share above 0, up to 1"),
    "evidence": Option(list[str], "Your measured experiment: its rows come first, and correct predictions of its card."),
}
OWN = {
    "throughput": Option(float, "Your own output tokens per second.", expected="output tokens per second of the whole batch, above 0"),
    "energy_j_per_1k": Option(float, "Your own joules per 1000 output tokens."),
}
OTHER = {
    "other_gpu": Option(str, "Another card: from how many requests on is the more expensive one cheaper?"),
    "other_gpu_price": Option(float, "USD of the other card.", **PRICE),
}
FIGURES = OWN | {
    "energy_j_per_request": Option(float, "Your own joules per request."),
    "power_w": Option(float, "Mean power in watts."),
    "utilization_pct": Option(float, "GPU utilisation, 0 to 100.", (), 0.0, 100.0, "GPU utilisation in per cent, 0 to 100"),
    "memory_gb": Option(float, "Memory in use in GB."),
    "power_limit_w": Option(float, "Power limit in force in watts."),
    "temperature_c": Option(float, "GPU temperature in degrees Celsius.", (), -20.0, 150.0, "GPU temperature in degrees Celsius"),
}
OF = {
    "optimize": REQUEST | RATES | SITE | LOAD | OWN,
    "compare": REQUEST | RATES | SITE | LOAD | OWN,
    "estimate": REQUEST | RATES | SITE | LOAD | OWN | OTHER,
    "diagnose": REQUEST | FIGURES | RATES | SITE,
}
"""Question -> its options."""
DEFAULTS = {
    "gpu": ("rtx4090d", "default card"),
    "quantization": ("fp16", "unquantized half precision, the baseline of every ratio"),
    "batch_size": (1, "one request at a time: the costliest case; batch concurrent requests where there are some"),
    "input_tokens": (512, "default prompt"),
    "output_tokens": (256, "default answer; the usual length of the published rows"),
    "requests": (1_000_000, "requests per month, a round number to scale from"),
    "use": ("api", "requests come one by one, at random times"),
    "goal": ("energy", "energy decides cost and carbon once site and card are fixed"),
    "region": ("us", "default site"),
}
OPTIONS = OF["estimate"] | FIGURES | {"precision": Option(str, "", choices=("fp32", "tf32", "bf16", "fp16"))}
ALIASES = {flag.lstrip("-").replace("-", "_"): name for name, o in OPTIONS.items() for flag in o.flags} | {
    "energy_j_per_1k_tok": "energy_j_per_1k"
}


def checked(name: str, value: Any) -> Any:
    """The value as the option's kind: a number in its range, one of its choices. Raises UserError, one line, for another."""
    o, text, unit = OPTIONS[name], str(value).strip(), 1.0
    if o.choices and value not in o.choices:
        raise UserError(f"{name} '{value}'", f"one of {', '.join(o.choices)}", f"correct {name}")
    if name == "power_budget_w" and (found := re.fullmatch(r"([\d.]+)\s*(k|M)?W", text)):
        text, unit = found[1], {"k": 1e3, "M": 1e6, None: 1.0}[found[2]]
    elif o.kind not in (int, float) and name != "power_budget_w":
        return value
    try:
        number = float(text) * unit
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and o.low <= number <= o.high and (o.kind is not int or number.is_integer())):
        raise UserError(f"{name} {value}", o.expected, f"correct {name}")
    return int(number) if o.kind is int else number
