"""A request for advice, validated once: names resolved, defaults explained, contradictions refused with one line.

The names of the advisor's protocol (model_id, hardware_platform, sequence_length, generation_length, precision) are accepted as
aliases of ours.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from eai import catalog, footprint, strategies
from eai.catalog import Gpu, Model
from eai.errors import UserError

ALIASES = {
    "model_id": "model",
    "hardware_platform": "gpu",
    "sequence_length": "input_tokens",
    "generation_length": "output_tokens",
    "energy_j_per_1k_tok": "energy_j_per_1k",
}
DEFAULTS = {
    "gpu": ("rtx4090d", "the protocol's default platform"),
    "quantization": ("fp16", "unquantized half precision, the baseline of every ratio"),
    "batch_size": (1, "one request at a time: the costliest case; batch concurrent requests where there are some"),
    "input_tokens": (512, "the protocol's default prompt"),
    "output_tokens": (256, "the protocol's default answer; the published rows' usual length"),
    "requests": (1_000_000, "requests a month, a round number to scale from"),
    "goal": ("energy", "energy decides cost and carbon once site and card are fixed"),
    "region": ("us", "the protocol's default site"),
}
GOALS = ("energy", "cost", "carbon")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MOST_BATCH = 64
LONG_PROMPT_TOKENS = 4096
SAME_SIZE = 1.25


@dataclass(frozen=True)
class Request:
    """What is asked: a configuration, its load and site, and limits. `assumptions`: defaults taken, each with its reason; `warnings`."""

    model: Model
    gpu: Gpu
    quantization: str
    batch_size: int
    input_tokens: int
    output_tokens: int
    requests: int
    goal: str
    region: str
    pue: float | None = None
    price: float | None = None
    throughput: float | None = None
    energy_j_per_1k: float | None = None
    max_latency_s: float | None = None
    min_accuracy: float | None = None
    given: frozenset[str] = frozenset()
    assumptions: tuple[dict[str, Any], ...] = field(default=())
    warnings: tuple[str, ...] = ()

    @property
    def configuration(self) -> dict[str, Any]:
        """The configuration as it stands in answers."""
        names = {"gpu": self.gpu.slug, "model": self.model.slug, "quantization": self.quantization, "batch_size": self.batch_size}
        return names | {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}

    def with_(self, **changes: Any) -> "Request":
        """The same request with another strategy or batch size."""
        return replace(self, **changes)


def request(**options: Any) -> Request:
    """The validated request of plain options (None means not given). Raises UserError, one line, for whatever cannot be answered."""
    given = _given(options)
    if "model" not in given:
        raise UserError("no model", "a Hugging Face id or a name of data/catalog/models.csv", "name one with --model")
    _settle_precision(given)
    assumptions = [{"name": k, "value": v, "reason": why} for k, (v, why) in DEFAULTS.items() if k not in given]
    values = {k: v for k, (v, _) in DEFAULTS.items()} | given
    gpu, remark_gpu = catalog.nearest_gpu(str(values["gpu"]))
    model, remark_model = find_model(str(values["model"]))
    made = Request(
        model,
        gpu,
        strategies.get(str(values["quantization"])).slug,
        *(_count(values, name) for name in ("batch_size", "input_tokens", "output_tokens", "requests")),
        _choice(values, "goal", GOALS),
        catalog.region(str(values["region"])).region,
        *(_number(values, name) for name in ("pue", "price", "throughput", "energy_j_per_1k", "max_latency_s", "min_accuracy")),
        frozenset(given),
        tuple(assumptions),
        tuple(r for r in (remark_gpu, remark_model) if r),
    )
    _check(made)
    return replace(made, warnings=made.warnings + tuple(_remarks(made)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under our names. Raises UserError for an unknown one and for one given under two names."""
    known = {*DEFAULTS, *Request.__dataclass_fields__, "precision"} - {"given", "assumptions", "warnings"}
    given: dict[str, Any] = {}
    for name, value in options.items():
        own = ALIASES.get(name, name)
        if own not in known:
            raise UserError(f"unknown parameter '{name}'", f"one of {', '.join(sorted(known))}", "correct the name")
        if value is None:
            continue
        if own in given and given[own] != value:
            raise UserError(f"{own} is given twice, as {given[own]} and {value}", "one value", "leave one out")
        given[own] = value
    return given


def _settle_precision(given: dict[str, Any]) -> None:
    """Fold `precision` into `quantization`. Raises UserError where the two contradict each other."""
    if "precision" not in given:
        return
    precision = _choice(given, "precision", PRECISIONS)
    del given["precision"]
    if "quantization" not in given:
        given["quantization"] = precision
        return
    strategy = strategies.get(str(given["quantization"]))
    fits = strategy.slug == precision if not strategy.is_quantized else precision in ("fp16", "bf16") and strategy.other_bits == 16
    if not fits and strategy.slug not in ("dynamic", "fp16_mixed"):
        raise UserError(
            f"quantization {strategy.slug} with precision {precision}",
            "a quantized strategy with fp16 or bf16, or the same name twice",
            "leave precision out: it follows from the quantization",
        )


def find_model(name: str) -> tuple[Model, str]:
    """(model, remark): the catalog's model, or for an unknown name that states its size the usual (gated) decoder nearest in size.

    Raises UserError where the name tells neither.
    """
    try:
        slug, note = catalog.resolve("model", name)
        return catalog.model(slug), f"'{name}' is {note}" if note else ""
    except UserError:
        params = catalog.params_in_name(name)
        if params is None:
            raise
    usual = [m for m in catalog.models() if footprint.layout(m).gated]
    best = min(usual, key=lambda m: abs(math.log(m.params_total / params)))
    if not 1 / SAME_SIZE <= best.params_total / params <= SAME_SIZE:
        raise UserError(
            f"unknown model '{name}' of {params / 1e9:g} B", "a size that data/catalog/models.csv has", "add its shapes to models.csv"
        )
    return (
        best,
        f"'{name}' {catalog.NOT_THERE}: its shapes are taken as {best.slug}'s, the nearest in size ({best.params_total / 1e9:.2f} B)",
    )


def _count(values: dict, name: str) -> int:
    """A positive whole number."""
    value = values[name]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer() or number < 1:
        raise UserError(f"{name} {value}", "a whole number, 1 or more", f"correct {name}")
    return int(number)


def _number(values: dict, name: str) -> float | None:
    """A number in the range of its name, None if not given. Price may be 0; PUE starts at 1; an accuracy is a fraction."""
    if name not in values:
        return None
    low, high, expected = {
        "pue": (1.0, 10.0, "a PUE of 1.0 or more (total over IT energy)"),
        "price": (0.0, math.inf, "a price in USD/kWh, 0 or more"),
        "min_accuracy": (0.0, 1.0, "a fraction of the unquantized score, 0 to 1"),
    }.get(name, (0.0, math.inf, "a number above 0"))
    try:
        number = float(values[name])
    except (TypeError, ValueError):
        number = math.nan
    above_zero = name in ("pue", "price", "min_accuracy") or number > 0
    if isinstance(values[name], bool) or not (math.isfinite(number) and low <= number <= high and above_zero):
        raise UserError(f"{name} {values[name]}", expected, f"correct {name}")
    return number


def _choice(values: dict, name: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words."""
    if str(values[name]) not in allowed:
        raise UserError(f"{name} '{values[name]}'", f"one of {', '.join(allowed)}", f"correct {name}")
    return str(values[name])


def _check(r: Request) -> None:
    """Raises UserError for what the GPU cannot do, what does not fit in any strategy, and batches that nobody measured."""
    if r.gpu.slug == "cpu":
        raise UserError("gpu cpu", "a GPU of data/catalog/gpus.csv: no published row is of a CPU", "measure this machine with `eai run`")
    if r.batch_size > MOST_BATCH:
        raise UserError(
            f"batch_size {r.batch_size}", f"at most {MOST_BATCH}, the largest measured", "measure larger batches with `eai run`"
        )
    unsupported = cannot_run(r.gpu, r.quantization)
    if unsupported:
        raise UserError(f"{r.quantization} on {r.gpu.name}", unsupported, "choose fp16, or a GPU that supports it")
    smallest = footprint.fit(r.model, "nf4", r.gpu, 1, r.input_tokens, r.output_tokens)
    if not smallest.fits:
        needed = footprint.fit(r.model, "fp16", r.gpu, 1, r.input_tokens, r.output_tokens).needed_gb
        raise UserError(
            smallest.explained, "a model that fits in 4 bit", f"choose a smaller model or GPUs with {needed:.0f} GB in all for fp16"
        )


def cannot_run(gpu: Gpu, quantization: str) -> str:
    """What the strategy needs and the GPU lacks, empty if nothing."""
    strategy = strategies.get(quantization)
    have = gpu.compute_capability
    if not strategy.min_capability:
        return ""
    if have is None:
        return f"a CUDA device of compute capability {strategy.min_capability:g}"
    return f"compute capability {strategy.min_capability:g} or newer (this has {have:g})" if have < strategy.min_capability else ""


def require_fit(r: Request) -> None:
    """Raises UserError, with what would fit, if the requested configuration does not fit in the GPU's memory."""
    fit = footprint.fit(r.model, r.quantization, r.gpu, r.batch_size, r.input_tokens, r.output_tokens)
    if fit.fits:
        return
    others = [q for q in ("int8_pure", "nf4") if fits(r.with_(quantization=q)) and not cannot_run(r.gpu, q)]
    do = f"use {' or '.join(others)}, a smaller batch or a larger GPU" if others else "use a smaller batch or a larger GPU"
    raise UserError(fit.explained, "", do)


def fits(r: Request) -> bool:
    """Whether weights, KV cache and activations fit in the GPU's memory."""
    return footprint.fit(r.model, r.quantization, r.gpu, r.batch_size, r.input_tokens, r.output_tokens).fits


def _remarks(r: Request) -> list[str]:
    """What is allowed and still deserves a word."""
    found = []
    if r.batch_size & (r.batch_size - 1):
        found.append(f"batch {r.batch_size} is no power of two: kernels are tuned for those")
    if r.input_tokens + r.output_tokens > r.model.context:
        found.append(f"{r.input_tokens} + {r.output_tokens} tokens exceed the model's context of {r.model.context}")
    if r.input_tokens > LONG_PROMPT_TOKENS:
        found.append(f"prompts above {LONG_PROMPT_TOKENS} tokens were never measured: measure them")
    if "batch_size" in r.given and r.batch_size == 1:
        found.append("batch 1 leaves the card waiting for kernel launches: batch concurrent requests in production")
    return found
