"""One request for advice, validated once: what runs today, the workload, the limits, the site, and the set of cards to choose from.

Names are resolved, defaults explained, contradictions refused with one line. The names of the advisor's protocol (model_id,
hardware_platform, sequence_length, generation_length, precision) are accepted as aliases of ours.
"""

import math
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from eai import catalog, footprint, strategies, tables
from eai.catalog import Gpu, Model
from eai.errors import UserError
from eai.site import HOURS_A_MONTH, Site

ALIASES = {
    "model_id": "model",
    "hardware_platform": "gpu",
    "sequence_length": "input_tokens",
    "generation_length": "output_tokens",
    "energy_j_per_1k_tok": "energy_j_per_1k",
    "requests_per_month": "requests",
    "concurrency": "batch_size",
    "max_latency": "max_latency_s",
    "latency_p95": "latency_p95_s",
    "ttft_p95": "ttft_p95_s",
    "itl_p95": "itl_p95_s",
    "budget": "budget_usd",
    "power_budget": "power_budget_w",
    "rent": "rent_usd_h",
}
DEFAULTS = {
    "gpu": ("rtx4090d", "default card"),
    "quantization": ("fp16", "unquantized half precision, the baseline of every ratio"),
    "batch_size": (1, "one request at a time: the costliest case; batch concurrent requests where there are some"),
    "input_tokens": (512, "default prompt"),
    "output_tokens": (256, "default answer; the usual length of the published rows"),
    "requests": (1_000_000, "requests a month, a round number to scale from"),
    "use": ("api", "requests come one by one, at random times"),
    "goal": ("energy", "energy decides cost and carbon once site and card are fixed"),
    "region": ("us", "default site"),
}
CHOICES = {"goal": ("energy", "cost", "carbon"), "use": ("api", "chat", "offline")}
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
TRANSFORMERS = (
    "fp32",
    "tf32",
    "bf16",
    "fp16",
    "fp16_mixed",
    "int8_default",
    "int8_pure",
    "nf4",
    "nf4_dq",
    "fp4",
    "dynamic",
    "int4_wo",
    "fp8",
)
SERVER = ("bf16", "fp16", "fp32", "fp8", "awq", "gptq", "mxfp4")
ENGINES = {
    "transformers": (*TRANSFORMERS, "gptq", "awq"),
    "vllm": SERVER,
    "sglang": SERVER,
    "tensorrt-llm": SERVER,
    "llama.cpp": (strategies.GGUF,),
    "ollama": (strategies.GGUF,),
}
"""Engine -> the strategies that it runs; a GGUF engine runs every `gguf_` type."""
SERVERS = tuple(e for e in ENGINES if e != "transformers")
MOST_BATCH = {"transformers": 64}
MOST_IN_FLIGHT = 512
LONG_PROMPT_TOKENS = 4096
PRESSED = 0.9
"""Above this share of the usable memory a card is pressed: one longer prompt spills or fails. The same limit in every answer."""
CHAT_ITL_S = 0.1
API_S = (5.0, 0.05)
"""Without a limit of time a served request must end in 95 % of cases within 5 s and 0.05 s a token: nobody waits for a batch forever."""


@dataclass(frozen=True)
class Configuration:
    """What runs: a model on `num_gpus` boards of one card, a strategy, an engine, sequences in flight, prompt and answer length."""

    gpu: Gpu
    num_gpus: int
    model: Model
    active_params: float
    quantization: str
    engine: str
    batch_size: int
    input_tokens: int
    output_tokens: int

    def with_(self, **changes: Any) -> "Configuration":
        """The same with something changed."""
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The configuration as it stands in answers."""
        names = {"gpu": self.gpu.slug, "num_gpus": self.num_gpus, "model": self.model.slug, "quantization": self.quantization}
        names |= {"engine": self.engine, "batch_size": self.batch_size}
        return names | {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}

    @property
    def cards(self) -> str:
        """`2 x H100 SXM5 80 GB`, or the card's name alone."""
        return f"{self.num_gpus} x {self.gpu.name}" if self.num_gpus > 1 else self.gpu.name

    @property
    def is_server(self) -> bool:
        """Whether the engine batches continuously: requests join and leave at every step."""
        return self.engine in SERVERS


@dataclass(frozen=True)
class Request:
    """What is asked. `assumptions`: defaults taken, each with its reason; `given`: the names of what was not a default.

    `now`: the configuration that runs today, or that is asked about, None where only own figures are given and no model; `gpus`: the cards
    to choose from; `num_gpus` and `engine`: None where they are free.
    """

    now: Configuration | None
    gpus: tuple[Gpu, ...]
    any_gpu: bool
    num_gpus: int | None
    engine: str | None
    use: str
    requests: float
    output_tokens: int
    goal: str
    site: Site
    max_latency_s: float | None = None
    latency_p95_s: float | None = None
    ttft_p95_s: float | None = None
    itl_p95_s: float | None = None
    min_accuracy: float | None = None
    budget_usd: float | None = None
    power_budget_w: float | None = None
    rent_usd_h: float | None = None
    gpu_price: float | None = None
    lifetime_years: float = 4.0
    card_utilisation: float = 0.5
    throughput: float | None = None
    energy_j_per_1k: float | None = None
    answers: tuple[int, ...] = ()
    given: frozenset[str] = frozenset()
    assumptions: tuple[dict[str, Any], ...] = field(default=())
    warnings: tuple[str, ...] = ()

    @property
    def per_s(self) -> float:
        """Requests a second, spread over the month."""
        return self.requests / HOURS_A_MONTH / 3600

    @property
    def is_served(self) -> bool:
        """Whether a rate of requests was given, so that waiting counts; otherwise the requests are a number to scale from."""
        return self.use != "offline" and "requests" in self.given


def request(**options: Any) -> Request:
    """The validated request of plain options (None means not given). Raises UserError, one line, for whatever cannot be answered."""
    given = _given(options)
    _settle_rate(given)
    _settle_precision(given)
    own = {"throughput", "energy_j_per_1k"} <= set(given) or "energy_j_per_1k" in given
    if "model" not in given and "params_b" not in given and not own:
        raise UserError("no model", "a Hugging Face id or a name of data/catalog/models.csv, or --params-b", "name one with --model")
    values = {k: v for k, (v, _) in DEFAULTS.items()} | given
    gpus, any_gpu, remarks = _gpus(str(values["gpu"]))
    numbers = {name: _count(values, name) for name in ("batch_size", "input_tokens", "output_tokens")}
    model, active, remark = _model(given) if "model" in given or "params_b" in given else (None, 0.0, "")
    quantization, engine = _strategy(given, values, gpus, model)
    now = None
    if model is not None:
        most = MOST_BATCH.get(engine or default_engine(quantization), MOST_IN_FLIGHT)
        if numbers["batch_size"] > most:
            raise UserError(
                f"batch_size {numbers['batch_size']}",
                f"at most {most}, the largest measured",
                "measure larger ones: `eai measure -- COMMAND`",
            )
        many = _count(values, "num_gpus") if "num_gpus" in given else 1
        now = Configuration(gpus[0], many, model, active, quantization, engine or default_engine(quantization), **numbers)
    site = Site(catalog.region(str(values["region"])).region, *(_number(values, n) for n in ("pue", "price")))
    limits = ("max_latency_s", "latency_p95_s", "ttft_p95_s", "itl_p95_s", "min_accuracy", "budget_usd", "power_budget_w", "rent_usd_h")
    settled = {name: _number(values, name) for name in (*limits, "gpu_price", "throughput", "energy_j_per_1k")}
    owned = {name: _number(values, name) for name in ("lifetime_years", "card_utilisation") if name in given}
    use = _choice(values, "use")
    assumptions = [{"name": k, "value": v, "reason": why} for k, (v, why) in DEFAULTS.items() if k not in given]
    assumptions = [a | {"value": quantization} if a["name"] == "quantization" else a for a in assumptions]
    if use == "chat" and settled["itl_p95_s"] is None:
        settled["itl_p95_s"] = CHAT_ITL_S
        assumptions.append(
            {
                "name": "itl_p95",
                "value": CHAT_ITL_S,
                "unit": "s",
                "reason": "a chat streams: ten tokens a second are faster than people read",
            }
        )
    timed = ("max_latency_s", "latency_p95_s", "ttft_p95_s", "itl_p95_s")
    if use == "api" and "requests" in given and not any(settled[name] for name in timed):
        settled["latency_p95_s"] = API_S[0] + API_S[1] * numbers["output_tokens"]
        why = "no limit of time was given: 5 s and 0.05 s a token of the answer; give --latency-p95"
        assumptions.append({"name": "latency_p95", "value": settled["latency_p95_s"], "unit": "s", "reason": why})
    made = Request(
        now,
        gpus,
        any_gpu,
        _count(values, "num_gpus") if "num_gpus" in given else None,
        engine,
        use,
        _positive(values, "requests"),
        numbers["output_tokens"],
        _choice(values, "goal"),
        site,
        **settled,
        **owned,
        answers=_lengths(given.get("lengths")),
        given=frozenset(given),
        assumptions=tuple(assumptions),
        warnings=tuple(r for r in (*remarks, remark) if r),
    )
    _check(made)
    return replace(made, warnings=made.warnings + tuple(_remarks(made)))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, under our names. Raises UserError for an unknown one and for one given under two names."""
    known = {*DEFAULTS, *Request.__dataclass_fields__, *SHAPE, "model", "precision", "pue", "price", "lengths"}
    known |= {"requests_per_hour", "requests_per_day"}
    known -= {"given", "assumptions", "warnings", "now", "gpus", "any_gpu", "site", "answers"}
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


def _settle_rate(given: dict[str, Any]) -> None:
    """Requests an hour, a day or a month as requests a month. Raises UserError where two are given."""
    rates = {"requests_per_hour": HOURS_A_MONTH, "requests_per_day": HOURS_A_MONTH / 24, "requests": 1.0}
    found = [name for name in rates if name in given]
    if len(found) > 1:
        raise UserError(f"{' and '.join(found)}", "one rate", "leave the others out")
    if found and found[0] != "requests":
        given["requests"] = _positive(given, found[0]) * rates[found[0]]
        del given[found[0]]


def _settle_precision(given: dict[str, Any]) -> None:
    """Fold `precision` into `quantization`. Raises UserError where the two contradict each other."""
    if "precision" not in given:
        return
    precision = str(given.pop("precision"))
    if precision not in PRECISIONS:
        raise UserError(f"precision '{precision}'", f"one of {', '.join(PRECISIONS)}", "correct precision")
    if "quantization" not in given:
        given["quantization"] = precision
        return
    strategy = strategies.get(str(given["quantization"]))
    agree = strategy.slug == precision if not strategy.is_quantized else precision in ("fp16", "bf16") and strategy.other_bits == 16
    if not agree and strategy.slug not in ("dynamic", "fp16_mixed"):
        raise UserError(
            f"quantization {strategy.slug} with precision {precision}",
            "a quantized strategy with fp16 or bf16, or the same name twice",
            "leave precision out: it follows from the quantization",
        )


def _gpus(text: str) -> tuple[tuple[Gpu, ...], bool, list[str]]:
    """(the cards, whether any is allowed, remarks) of `h100,l40s` or `any`. Raises UserError for a CPU and unknown names."""
    if text.strip().lower() == "any":
        usable = [
            g
            for g in catalog.gpus()
            if g.memory_gb and g.bandwidth_gb_s and g.tdp_w and g.fp16_tflops and (g.compute_capability or 0) >= 7.0
        ]
        return tuple(usable), True, []
    found = [catalog.nearest_gpu(name.strip()) for name in text.split(",") if name.strip()]
    if not found:
        raise UserError(f"gpu '{text}'", "names of data/catalog/gpus.csv, or any", "name one with --gpu")
    for gpu, _ in found:
        if gpu.slug == "cpu":
            raise UserError(
                "gpu cpu", "a GPU of data/catalog/gpus.csv: no published row is of a CPU", "measure this machine with `eai run`"
            )
    cards = tuple(dict.fromkeys(gpu for gpu, _ in found))
    return cards, False, [remark for _, remark in found if remark]


STATED = "stated shapes"
SHAPE = ("params_b", "active_params_b", "layers", "hidden", "kv_heads")
_MIXTURE = re.compile(r"(\d+)x(\d+(?:\.\d+)?)b|-a(\d+(?:\.\d+)?)b\b", re.IGNORECASE)


def _model(given: dict[str, Any]) -> tuple[Model, float, str]:
    """(model, active parameters, remark): of the catalog, of stated shapes, or for a name that states its size, shapes of that size.

    Raises UserError for a name that tells no size, and for a mixture of experts whose active parameters are not known.
    """
    name = str(given.get("model", ""))
    if "params_b" not in given:
        try:
            slug, note = catalog.resolve("model", name)
            found = catalog.model(slug)
            active = _positive(given, "active_params_b") * 1e9 if "active_params_b" in given else active_params(found)
            return found, active, f"'{name}' is {note}" if note else ""
        except UserError:
            listed = _listed(name)
            if listed is not None and "active_params_b" not in given:
                return listed
            params = catalog.params_in_name(name)
            if _MIXTURE.search(name) and "active_params_b" not in given:
                raise UserError(
                    f"'{name}' is a mixture of experts and {catalog.NOT_THERE}",
                    "its active parameters beside the total",
                    "give --params-b and --active-params-b (and --layers, --hidden, --kv-heads if you know them)",
                ) from None
            if params is None:
                raise
    else:
        params = _positive(given, "params_b") * 1e9
    active = _positive(given, "active_params_b") * 1e9 if "active_params_b" in given else params
    if active > params:
        raise UserError(f"active_params_b {active / 1e9:g} of params_b {params / 1e9:g}", "at most as many as in all", "correct one")
    made, near = sized(params, active, given, name or f"{params / 1e9:g}b")
    missing = [n for n in ("layers", "hidden", "kv_heads") if n not in given]
    said = f"'{name or made.slug}' {catalog.NOT_THERE}: " if name else ""
    return (
        made,
        active,
        f"{said}{', '.join(missing)} taken as in {near.slug} ({near.params_total / 1e9:.2f} B), the nearest in size" if missing else "",
    )


def _listed(name: str) -> tuple[Model, float, str] | None:
    """(model, active parameters, remark) of a name of data/catalog/shapes.csv, mixtures among them; None for others."""
    try:
        found = catalog.shape(name)
    except UserError:
        return None
    if found.key not in {catalog.shape(n).key for n in _shape_names()}:
        return None
    given = {n: getattr(found, n) for n in ("layers", "hidden", "kv_heads")}
    made, _ = sized(found.params_b * 1e9, found.active_params_b * 1e9, given, name)
    return replace(made, hf_id=name, source="shapes.csv"), found.active_params_b * 1e9, ""


@lru_cache(maxsize=1)
def _shape_names() -> tuple[str, ...]:
    return tuple(tables.read_catalog("shapes")["hf_id"])


def active_params(model: Model) -> float:
    """The parameters that one token uses: of a mixture of experts the catalog's figure, of others all."""
    return float(getattr(model, "params_active", None) or model.params_total)


def sized(params: float, active: float, given: dict[str, Any], name: str) -> tuple[Model, Model]:
    """(a model of this size, the catalog's usual dense decoder nearest in active size, whose shapes stand for what is not given)."""
    usual = [
        m
        for m in catalog.models()
        if m.architecture in footprint.LAYOUTS and footprint.layout(m).gated and active_params(m) == m.params_total
    ]
    near = min(usual, key=lambda m: abs(math.log(m.params_total / active)))
    layers, hidden, kv = (_count(given, n) if n in given else getattr(near, n) for n in ("layers", "hidden", "kv_heads"))
    heads = max(1, round(hidden / near.head_dim))
    attention = hidden * near.head_dim * 2 * (heads + kv)
    rest = params - 2 * near.vocab * hidden - layers * attention
    intermediate = max(1, round(rest / (3 * layers * hidden)))
    made = replace(
        near,
        slug=name.rpartition("/")[2].lower(),
        hf_id=name,
        params_total=int(params),
        params_embedding=near.vocab * hidden,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv,
        intermediate=intermediate,
        tie_embeddings=False,
        architecture="llama",
        source=STATED,
    )
    return made, near


def _strategy(given: dict, values: dict, gpus: tuple[Gpu, ...], model: Model | None) -> tuple[str, str | None]:
    """(strategy, engine or None). Raises UserError for an engine that does not run the strategy."""
    engine = str(given["engine"]).lower() if "engine" in given else None
    if engine is not None and engine not in ENGINES:
        raise UserError(f"engine '{engine}'", f"one of {', '.join(ENGINES)}", "correct the name")
    quantization = str(values["quantization"])
    if quantization != "mxfp4":
        quantization = strategies.get(quantization).slug
    if engine in SERVERS and "quantization" not in given:
        half = "bf16" if (gpus[0].compute_capability or 0) >= 8.0 else "fp16"
        quantization = "gguf_q4_k_m" if strategies.GGUF in ENGINES[engine] else half
    if engine and not runs(engine, quantization):
        do = f"use --engine {default_engine(quantization)}, or another strategy"
        raise UserError(f"{quantization} on engine {engine}", f"a strategy that {engine} runs: {', '.join(ENGINES[engine])}", do)
    return quantization, engine


def runs(engine: str, quantization: str) -> bool:
    """Whether an engine runs a strategy."""
    own = ENGINES[engine]
    return (
        quantization.startswith(strategies.GGUF)
        if own == (strategies.GGUF,)
        else quantization in own or (quantization.startswith("int8_t") and engine == "transformers")
    )


def default_engine(quantization: str) -> str:
    """The engine that a strategy is usually run by, where none is named."""
    if quantization.startswith(strategies.GGUF):
        return "llama.cpp"
    return "vllm" if quantization in ("awq", "gptq", "fp8", "mxfp4") else "transformers"


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


def _positive(values: dict, name: str) -> float:
    """A number above 0."""
    found = _number(values, name)
    if found is None:
        raise UserError(f"no {name}", "a number above 0", f"give {name}")
    return found


def _number(values: dict, name: str) -> float | None:
    """A number in the range of its name, None if not given. A power may be `10kW`; price may be 0; PUE starts at 1; shares end at 1."""
    if name not in values:
        return None
    low, high, expected = {
        "pue": (1.0, 10.0, "a PUE of 1.0 or more (total over IT energy)"),
        "price": (0.0, math.inf, "a price in USD/kWh, 0 or more"),
        "gpu_price": (0.0, math.inf, "a price in USD, 0 or more"),
        "rent_usd_h": (0.0, math.inf, "USD a card and hour, 0 or more"),
        "min_accuracy": (0.0, 1.0, "a fraction of the unquantized score, 0 to 1"),
        "card_utilisation": (1e-9, 1.0, "a share above 0, up to 1"),
        "power_budget_w": (0.0, math.inf, "a power such as 10kW or 800W"),
    }.get(name, (0.0, math.inf, "a number above 0"))
    text, unit = str(values[name]).strip(), 1.0
    if name == "power_budget_w" and (found := re.fullmatch(r"([\d.]+)\s*(k|M)?W", text)):
        text, unit = found[1], {"k": 1e3, "M": 1e6, None: 1.0}[found[2]]
    try:
        number = float(text) * unit
    except (TypeError, ValueError):
        number = math.nan
    above = name in ("pue", "price", "min_accuracy", "gpu_price", "rent_usd_h") or number > 0
    if isinstance(values[name], bool) or not (math.isfinite(number) and low <= number <= high and above):
        raise UserError(f"{name} {values[name]}", expected, f"correct {name}")
    return number


def _choice(values: dict, name: str) -> str:
    """One of the allowed words."""
    if str(values[name]) not in CHOICES[name]:
        raise UserError(f"{name} '{values[name]}'", f"one of {', '.join(CHOICES[name])}", f"correct {name}")
    return str(values[name])


def _lengths(path: Any) -> tuple[int, ...]:
    """The answers' lengths of a CSV file with a column output_tokens, at most a thousand of them; empty without a file."""
    if path is None:
        return ()
    import pandas as pd

    try:
        table = pd.read_csv(path)
        found = table["output_tokens"].dropna().astype(float)
    except (OSError, KeyError, ValueError):
        raise UserError(f"lengths {path}", "a CSV file with a column output_tokens (and input_tokens)", "correct the file") from None
    if found.empty or (found < 1).any():
        raise UserError(f"lengths {path}: no answer of 1 token or more", "numbers of tokens", "correct the file")
    step = max(1, -(-len(found) // 1000))
    return tuple(round(x) for x in sorted(found)[::step])


def _check(r: Request) -> None:
    """Raises UserError for what no named card can run, and for a model that fits on none of them in any strategy."""
    if r.now is None:
        return
    reasons = {gpu.name: cannot_run(r.now.with_(gpu=gpu)) for gpu in r.gpus}
    if "quantization" in r.given and all(reasons.values()):
        raise UserError(f"{r.now.quantization} on {r.now.gpu.name}", reasons[r.now.gpu.name], "choose fp16, or a GPU that supports it")
    if r.any_gpu or (r.num_gpus is None and len(r.gpus) > 1):
        return
    if not any(fits(r.now.with_(gpu=gpu, quantization="nf4", batch_size=1, num_gpus=r.num_gpus or 8)) for gpu in r.gpus):
        n = r.num_gpus or 8
        small, whole = (memory(r.now.with_(quantization=q, batch_size=1, num_gpus=n)) for q in ("nf4", "fp16"))
        many = f"{n} x {r.now.gpu.name}"
        raise UserError(
            (
                f"{r.now.model.slug} needs {n * small.needed_gb:.0f} GB in 4 bit and "
                f"does not fit in {many} of {small.available_gb:.1f} usable GB each"
            ),
            "a model that fits",
            f"choose a smaller model or GPUs with {n * whole.needed_gb:.0f} GB in all for fp16",
        )


def cannot_run(c: Configuration) -> str:
    """What the strategy or the engine needs and the card lacks, empty if nothing."""
    if not runs(c.engine, c.quantization):
        return f"a strategy that {c.engine} runs"
    needed = 10.0 if c.quantization == "mxfp4" else strategies.get(c.quantization).min_capability
    if c.quantization == "mxfp4":
        needed = 9.0
    if c.engine in ("vllm", "sglang", "tensorrt-llm"):
        needed = max(needed or 0.0, 7.0)
    have = c.gpu.compute_capability
    if not needed:
        return ""
    if have is None:
        return f"a CUDA device of compute capability {needed:g}"
    return f"compute capability {needed:g} or newer (this has {have:g})" if have < needed else ""


@dataclass(frozen=True)
class Memory:
    """Memory of one board [1e9 bytes]: needed, usable, and whether the one holds the other."""

    needed_gb: float
    available_gb: float
    explained: str

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.needed_gb <= self.available_gb

    @property
    def pressed(self) -> bool:
        """Whether it fits with less than a tenth to spare."""
        return self.fits and self.needed_gb > PRESSED * self.available_gb


@lru_cache(maxsize=20_000)
def _parts(model: Model, quantization: str, batch_size: int, input_tokens: int, output_tokens: int) -> tuple[float, float, float]:
    """(weights, KV cache, activations) [1e9 bytes] of the whole model; prompts are read eight at a time at most."""
    slug = "nf4" if quantization == "mxfp4" else quantization
    weights = footprint.weight_bytes(model, slug)
    cache = footprint.kv_cache_bytes(model, input_tokens + output_tokens, batch_size, slug)
    return weights / 1e9, cache / 1e9, footprint.activation_bytes(model, slug, batch_size, input_tokens) / 1e9


def memory(c: Configuration) -> Memory:
    """What each board holds: the weights and the cache split over the boards, the activations whole.

    A serving engine reads prompts in chunks of at most 8,192 tokens, so its activations stop growing there; transformers reads all.
    """
    weights, cache, activations = _parts(c.model, c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
    if c.is_server:
        chunk = max(1, min(c.batch_size, 8192 // c.input_tokens))
        activations = _parts(c.model, c.quantization, chunk, c.input_tokens, c.output_tokens)[2]
    needed = (weights + cache) / c.num_gpus + activations
    available = footprint.available_gb(c.gpu)
    each = " on each of them" if c.num_gpus > 1 else ""
    verdict = "fits in" if needed <= available else "does not fit in"
    explained = (
        f"{c.model.slug} in {c.quantization} at batch {c.batch_size} needs {needed:.1f} GB{each} (weights {weights / c.num_gpus:.1f}, "
        f"KV cache {cache / c.num_gpus:.1f}, activations {activations:.1f}) and {verdict} the {available:.1f} GB usable on {c.gpu.name}"
    )
    return Memory(needed, available, explained)


def fits(c: Configuration) -> bool:
    """Whether weights, KV cache and activations fit in the boards' memory."""
    return memory(c).fits


def require_fit(c: Configuration) -> None:
    """Raises UserError, with what would fit, if the card cannot run the configuration or it does not fit in the memory."""
    lacks = cannot_run(c)
    if lacks:
        raise UserError(f"{c.quantization} on {c.gpu.name}", lacks, "choose fp16, or a GPU that supports it")
    if fits(c):
        return
    small = ("int8_pure", "nf4") if c.engine == "transformers" else ("fp8", "awq")
    others = [q for q in small if fits(c.with_(quantization=q)) and not cannot_run(c.with_(quantization=q))]
    more = next((n for n in (2, 4, 8) if n > c.num_gpus and fits(c.with_(num_gpus=n))), None)
    ways = [*others, *([f"{more} cards (--num-gpus {more})"] if more else [])]
    ways += ["a smaller batch"] if c.batch_size > 1 and fits(c.with_(batch_size=1)) else []
    raise UserError(memory(c).explained, "", f"use {' or '.join([*ways, 'a larger GPU'])}")


def _remarks(r: Request) -> list[str]:
    """What is allowed and still deserves a word."""
    c, found = r.now, []
    if c is None:
        return found
    if c.batch_size & (c.batch_size - 1):
        found.append(f"batch {c.batch_size} is no power of two: kernels are tuned for those")
    if c.input_tokens + c.output_tokens > c.model.context:
        found.append(f"{c.input_tokens} + {c.output_tokens} tokens exceed the model's context of {c.model.context}")
    if c.input_tokens > LONG_PROMPT_TOKENS:
        found.append(f"prompts above {LONG_PROMPT_TOKENS} tokens are hardly measured: measure them")
    if "batch_size" in r.given and c.batch_size == 1 and r.use != "chat":
        found.append("batch 1 leaves the card waiting for kernel launches: batch concurrent requests in production")
    return found
