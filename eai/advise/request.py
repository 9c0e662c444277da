"""One request for advice, validated once: what runs today, the workload, the limits, the site, and the set of cards to choose from. Names
are resolved, defaults explained, contradictions refused with one line; names of the advisor's protocol (model_id, ...) are aliases."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from eai import catalog, footprint, strategies
from eai.advise import ALIASES, DEFAULTS, GROUPS, OPTIONS, checked
from eai.catalog import HOURS_A_MONTH, Gpu, Model, Site, intensity
from eai.errors import UserError
from eai.footprint import ENGINES, GGUF_ENGINES, SERVERS, Device, runs, supports
from eai.quantity import plain, shortest

TIMES = ("max_latency_s", "latency_p95_s", "ttft_p95_s", "itl_p95_s")
A_MONTH = {"requests_per_hour": HOURS_A_MONTH, "requests_per_day": HOURS_A_MONTH / 24, "requests": 1.0}
SHAPE = ("params_b", "active_params_b", "layers", "hidden", "kv_heads")
STATED = "stated shapes"
HALF = ("fp16", "bf16")
A_GPU = "choose fp16, or a GPU that supports it"
MOST_BATCH, MOST_IN_FLIGHT = 64, 512
LONG_PROMPT_TOKENS, CHUNK_TOKENS = 4096, 8192
MOST_HOST_W = 500.0
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

    with_ = replace

    def to_json(self) -> dict[str, Any]:
        names = ("num_gpus", "quantization", "engine", "batch_size", "input_tokens", "output_tokens")
        return {"gpu": self.gpu.slug, "model": self.model.slug} | {name: getattr(self, name) for name in names}

    @property
    def cards(self) -> str:
        return f"{self.num_gpus} x {self.gpu.name}" if self.num_gpus > 1 else self.gpu.name

    @property
    def is_server(self) -> bool:
        """Whether the engine batches continuously: requests join and leave at every step."""
        return self.engine != "transformers"

    @property
    def half(self) -> "Configuration":
        """The same in half precision, as the engine loads it."""
        return self.with_(quantization="fp16" if self.engine == "transformers" or (self.gpu.compute_capability or 8.0) < 8.0 else "bf16")


@dataclass(frozen=True)
class Request:
    """What is asked. `now`: the configuration that runs today or is asked about, None where only own figures are given; `gpus`: the cards
    to choose from; `num_gpus` and `engine`: None where free; `answers`: lengths, where they vary; `given`: what was not a default."""

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
    assumptions: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def per_s(self) -> float:
        return self.requests / HOURS_A_MONTH / 3600

    @property
    def is_served(self) -> bool:
        """Whether a rate of requests was given, so that waiting counts; otherwise the requests are a number to scale from."""
        return self.use != "offline" and "requests" in self.given

    @property
    def limits(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in TIMES if getattr(self, name) is not None}


NUMBERS = tuple(name for name in Request.__dataclass_fields__ if name in {*GROUPS["load"], *GROUPS["own"]} and name != "goal")


def request(**options: Any) -> Request:
    """The validated request of plain options (None means not given). Raises UserError, one line, for whatever cannot be answered."""
    given = _given(options)
    values = {name: value for name, (value, _) in DEFAULTS.items()} | given
    if not {"model", "params_b", "energy_j_per_1k"} & set(given):
        raise UserError("no model", OPTIONS["model"].expected, "name one with --model")
    if any_gpu := str(values["gpu"]).strip().lower() == "any":
        known = (g for g in catalog.gpus() if g.memory_gb and g.bandwidth_gb_s and g.tdp_w and g.fp16_tflops)
        found = [(g, "") for g in known if (g.compute_capability or 0) >= 7.0]
    else:
        found = [catalog.nearest_gpu(name.strip()) for name in str(values["gpu"]).split(",") if name.strip()]
    gpus, remarks = tuple(dict.fromkeys(gpu for gpu, _ in found)), [remark for _, remark in found]
    if not gpus:
        raise UserError(f"gpu '{values['gpu']}'", "names of data/catalog/gpus.csv, or any", "name one with --gpu")
    if any(gpu.slug == "cpu" for gpu in gpus):
        raise UserError("gpu cpu", "a GPU of data/catalog/gpus.csv: no published row is of a CPU", "measure this machine with `eai run`")
    counts = {name: values[name] for name in ("batch_size", "input_tokens", "output_tokens")}
    now, quantization, engine = None, *_strategy(values, "quantization" in given, gpus[0])
    if "model" in given or "params_b" in given:
        model, active, remark = _model(given)
        remarks.append(remark)
        ran = engine or default_engine(quantization)
        now = Configuration(gpus[0], values.get("num_gpus", 1), model, active, quantization, ran, **counts)
        most = MOST_IN_FLIGHT if now.is_server else MOST_BATCH
        if now.batch_size > most:
            raise UserError(f"batch_size {now.batch_size}", f"at most {most}, the largest measured", "measure it: `eai measure -- COMMAND`")
        if engine in SERVERS and model.heads % now.num_gpus:
            raise UserError(cannot_run(now), "a number that divides them", "correct --num-gpus")
    limits = {name: values[name] for name in NUMBERS if name in given}
    taken = values | {"quantization": quantization}
    assumptions = [{"name": k, "value": taken[k], "reason": why} for k, (_, why) in DEFAULTS.items() if k not in given]
    if now and "quantization" not in given and quantization == _published(str(given.get("model"))):
        next(a for a in assumptions if a["name"] == "quantization")["reason"] = "the format in which its authors publish it"
    name, value, why = "itl_p95_s", CHAT_ITL_S, "a chat streams: ten tokens per second are faster than people read"
    wanted = values["use"] == "chat" and name not in given
    if values["use"] == "api" and "requests" in given and not set(TIMES) & set(given):
        wanted, name, value = True, "latency_p95_s", API_S[0] + API_S[1] * counts["output_tokens"]
        why = "no limit was given: 5 s and 0.05 s per token of the answer"
    if wanted:
        limits[name] = value
        assumptions.append({"name": name.removesuffix("_s"), "value": value, "unit": "s", "reason": why})
    try:
        region = catalog.region(str(values["region"])).region
    except UserError:
        known = ", ".join(r.region for r in catalog.regions())
        raise UserError(f"unknown region '{values['region']}'", f"one of {known}", "take the nearest, with --price and --carbon") from None
    site = Site(region, values.get("pue"), values.get("price"), intensity(values.get("carbon")))
    plain = {name: values[name] for name in ("use", "requests", "output_tokens", "goal")} | limits
    plain |= {"answers": _lengths(given.get("lengths")), "given": frozenset(given), "assumptions": tuple(assumptions)}
    made = Request(now, gpus, any_gpu, given.get("num_gpus"), engine, site=site, **plain)
    return replace(made, warnings=tuple(r for r in (*remarks, *_remarks(made)) if r))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The given options under our names, checked, rates per month. Raises UserError for unknown and contradicting ones."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        own = ALIASES.get(name, name)
        if own not in OPTIONS:
            raise UserError(f"unknown parameter '{name}'", f"one of {', '.join(sorted(OPTIONS))}", "correct the name")
        if value is None:
            continue
        if own in given and given[own] != value:
            raise UserError(f"{own} is given twice, as {given[own]} and {value}", "one value", "leave one out")
        given[own] = checked(own, value)
    if len(rates := [name for name in A_MONTH if name in given]) > 1:
        raise UserError(f"{' and '.join(rates)}", "one rate", "leave the others out")
    for name in rates:
        given["requests"] = given.pop(name) * A_MONTH[name]
    if precision := given.pop("precision", None):
        strategy = strategies.get(given.setdefault("quantization", precision))
        agree = strategy.slug == precision if not strategy.is_quantized else precision in HALF and strategy.other_bits == 16
        if not agree and strategy.slug not in ("dynamic", "fp16_mixed"):
            do = "leave precision out: it follows from the quantization"
            raise UserError(f"quantization {strategy.slug} with precision {precision}", "a quantized strategy with fp16 or bf16", do)
    return given


def _model(given: dict[str, Any]) -> tuple[Model, float, str]:
    """(model, active parameters, remark): of the catalog, else a gated decoder of the shape that a list, a config.json, the name or the
    options state, vocabulary and context as the catalog's nearest. Raises UserError for a name that states no size."""
    name, stated = str(given.get("model", "")), {n: given[n] for n in SHAPE if n in given}
    if not stated or ("params_b" not in stated and set(stated) == {"active_params_b"}):
        try:
            slug, note = catalog.resolve("model", name)
            found = catalog.model(slug)
            active = stated.get("active_params_b", found.params_total / 1e9)
            return found, active * 1e9, f"'{name}' is {note}" if note else ""
        except UserError:
            pass
    if (active := stated.get("active_params_b", 0)) > (total := stated.get("params_b", math.inf)):
        raise UserError(f"active_params_b {active:g} of {total:g}", "at most as many as in all", "correct one")
    try:
        shape = catalog.shape(name or None, **stated)
    except UserError:
        if name and Path(name).expanduser().exists():  # a config.json that cannot be used says why itself
            raise
        do = "give --params-b (and --active-params-b of a mixture of experts, --layers, --hidden, --kv-heads if you know them)"
        expected = "a name of data/catalog, a folder with config.json, or a name that states its size (7B, 8x7B, 30B-A3B)"
        raise UserError(f"unknown model '{name}' that states no size", expected, do) from None
    listed = not stated and not shape.origin.startswith("layers and width")
    said = f", {shortest(shape.active_params_b)} B of them a token" if shape.active_params_b < shape.params_b else ""
    remark = f"'{name}' {catalog.NOT_THERE}: taken as {shortest(shape.params_b)} B parameters{said}, {shape.origin}"
    short = name.rpartition("/")[2].lower()
    if shape.origin.startswith("the shape of"):
        remark = f"'{name}' {catalog.NOT_THERE}: it has the shape of {shape.name}, its accuracy is not known"
        if known := next((m for m in catalog.models() if m.hf_id == shape.name), None):
            return replace(known, slug=short, hf_id=name), known.params_total, remark
    dense = (m for m in catalog.models() if m.architecture == "llama")
    near = min(dense, key=lambda m: abs(math.log(m.params_total / shape.params_b / 1e9)))
    attention = shape.hidden * shape.head_dim * 2 * (shape.heads + shape.kv_heads)
    rest = shape.params_b * 1e9 - 2 * near.vocab * shape.hidden - shape.layers * attention
    if stated and shape.layers * attention > shape.params_b * 1e9:
        found = f"{shape.layers} layers of width {shape.hidden} with {shape.kv_heads} key-value heads"
        found += f" hold {shortest(shape.layers * attention / 1e9)} B parameters in the attention alone"
        raise UserError(found, f"at most {shortest(shape.params_b)} B in all", "correct --params-b, --layers or --hidden")
    made = replace(
        near,
        slug=short or f"{shape.params_b:g}b",
        hf_id=name,
        params_total=round(shape.params_b * 1e9),
        params_embedding=near.vocab * shape.hidden,
        intermediate=max(1, round(rest / (3 * shape.layers * shape.hidden))),
        tie_embeddings=False,
        source=shape.origin if listed else STATED,
        **{field: getattr(shape, field) for field in ("layers", "hidden", "heads", "kv_heads", "head_dim")},
    )
    return made, shape.active_params_b * 1e9, remark if name and (not listed or shape.origin.startswith("the shape of")) else ""


def _strategy(values: dict, is_given: bool, gpu: Gpu) -> tuple[str, str | None]:
    """(strategy, engine or None). Raises UserError for an engine that does not run the strategy."""
    engine = str(values["engine"]).lower() if "engine" in values else None
    if engine is not None and engine not in ENGINES:
        raise UserError(f"engine '{engine}'", f"one of {', '.join(ENGINES)}", "correct the name")
    quantization = strategies.get(strategies.canonical(values["quantization"])).slug
    if not is_given:
        published = _published(str(values.get("model", "")))
        if engine in GGUF_ENGINES:
            quantization = "gguf_mxfp4" if published == "mxfp4" else "gguf_q4_k_m"
        elif published and (engine is None or runs(engine, published)):
            quantization = published
        elif engine not in (None, "transformers"):
            quantization = "bf16" if (gpu.compute_capability or 8.0) >= 8.0 else "fp16"
    if engine and not runs(engine, quantization):
        do = f"use --engine {default_engine(quantization)}, or another strategy"
        raise UserError(f"{quantization} on engine {engine}", f"a strategy that {engine} runs", do)
    return quantization, engine


def native(model: Model) -> str | None:
    """The format below 16 bits in which a model is published, None for most."""
    return _published(catalog.PRECISION.sub("", model.hf_id or model.slug))


@lru_cache(maxsize=20_000)
def _published(name: str) -> str | None:
    """The format below 16 bits of a checkpoint, by its list or its own name (-AWQ); scales by blocks count as FP8."""
    try:
        return catalog.shape(name, params_b=1).published.removesuffix("_block") or None
    except UserError:
        return None


def default_engine(quantization: str) -> str:
    """The engine that a strategy is usually run by, where none is named."""
    if quantization.startswith(strategies.GGUF):
        return "llama.cpp"
    return "vllm" if quantization in ("awq", "gptq", "fp8", *strategies.SERVED) else "transformers"


def _lengths(path: Any) -> tuple[int, ...]:
    """The answers' lengths of a CSV file with a column output_tokens, at most a thousand of them; empty without a file."""
    if path is None:
        return ()
    import pandas as pd

    try:
        found = pd.read_csv(path)["output_tokens"].dropna().astype(float)
    except (OSError, KeyError, ValueError):
        raise UserError(f"lengths {path}", "a CSV file with a column output_tokens (and input_tokens)", "correct the file") from None
    if found.empty or not found.between(1, 1e9).all():
        raise UserError(f"lengths {path}", "at least one row, each of 1 token or more", "correct the file")
    return tuple(round(x) for x in sorted(found)[:: max(1, -(-len(found) // 1000))])


@lru_cache(maxsize=20_000)
def _refused(quantization: str, engine: str, gpu: Gpu) -> str:
    found = supports(quantization, Device.of_catalog(gpu), engine=engine)
    return found.reason if found else ""


def cannot_run(c: Configuration) -> str:
    """What the strategy or the engine needs and the card lacks, or why the cards cannot share the model; empty if nothing."""
    if lacks := _refused(c.quantization, c.engine, c.gpu):
        return lacks
    if c.engine in SERVERS and c.model.heads % c.num_gpus:
        return f"{c.engine} gives each card as many attention heads: {c.num_gpus} cards cannot share the {c.model.heads} of {c.model.slug}"
    few = f"{c.engine} gives each card whole layers: {c.num_gpus} cards cannot share the {c.model.layers} of {c.model.slug}"
    return few if c.num_gpus > c.model.layers else ""


def is_module(gpu: Gpu) -> bool:
    """Whether it is a computer of its own (Jetson, Spark, Apple, Strix Halo): several of them do not share a model as boards do."""
    return "LPDDR" in str(gpu.memory_type)


@dataclass(frozen=True)
class Memory:
    """Memory of one board [1e9 bytes]: weights, cache, activations, and what a program can use. Messages are in GiB, as drivers count."""

    configuration: Configuration
    weights_gb: float
    cache_gb: float
    activations_gb: float
    available_gb: float

    @property
    def needed_gb(self) -> float:
        return self.weights_gb + self.cache_gb + self.activations_gb

    @property
    def fits(self) -> bool:
        return self.needed_gb <= self.available_gb

    @property
    def pressed(self) -> bool:
        return self.fits and self.needed_gb > PRESSED * self.available_gb

    @property
    def explained(self) -> str:
        c = self.configuration
        parts = (self.needed_gb, self.weights_gb, self.cache_gb, self.activations_gb, self.available_gb)
        need, weights, cache, active, usable = (f"{gb / footprint.GIB_PER_GB:.1f}" for gb in parts)
        what = f"{c.model.slug} in {c.quantization} at batch {c.batch_size} needs {need} GiB{' on each card' if c.num_gpus > 1 else ''}"
        parts = f"(weights {weights}, KV cache {cache}, activations {active})"
        return f"{what} {parts} and {'fits' if self.fits else 'does not fit'} in the {usable} GiB usable on {c.gpu.name}"

    @property
    def remarks(self) -> list[str]:
        if not self.fits:
            return [self.explained]
        used, usable = (f"{gb / footprint.GIB_PER_GB:.1f}" for gb in (self.needed_gb, self.available_gb))
        return [f"{used} of {usable} GiB: a longer prompt or another process spills"] if self.pressed else []


@lru_cache(maxsize=20_000)
def _parts(model: Model, quantization: str, batch_size: int, input_tokens: int, output_tokens: int) -> tuple[float, float, float]:
    """(weights, KV cache, activations) [1e9 bytes] of the whole model."""
    weights = footprint.weight_bytes(model, quantization)
    cache = footprint.kv_cache_bytes(model, input_tokens + output_tokens, batch_size, quantization)
    return weights / 1e9, cache / 1e9, footprint.activation_bytes(model, quantization, batch_size, input_tokens) / 1e9


def memory(c: Configuration) -> Memory:
    """What each board holds: weights and cache split over the boards, activations whole, of a mixture those of the experts that a token
    passes. A serving engine reads prompts in chunks of at most 8,192 tokens, so its activations stop growing there."""
    weights, cache, _ = _parts(c.model, c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
    chunk = max(1, min(c.batch_size, CHUNK_TOKENS // c.input_tokens)) if c.is_server else c.batch_size
    passed = replace(c.model, intermediate=round(c.model.intermediate * min(1.0, c.active_params / c.model.params_total)))
    activations = _parts(passed, c.quantization, chunk, c.input_tokens, c.output_tokens)[2]
    return Memory(c, weights / c.num_gpus, cache / c.num_gpus, activations, footprint.available_gb(c.gpu))


def fits(c: Configuration) -> bool:
    """Whether weights, KV cache and activations fit in the boards' memory."""
    return memory(c).fits


def roof_share(rate: float | None, c: Configuration) -> float | None:
    """A throughput over what the memory's bandwidth allows at this batch, None without one; of a mixture the active weights count."""
    if rate is None or not c.gpu.bandwidth_gb_s:
        return None
    parts = footprint.footprint(c.model, c.quantization, c.batch_size, c.input_tokens, c.output_tokens)
    step = parts.step_bytes - parts.weight_bytes * (1 - c.active_params / c.model.params_total)
    return rate / (c.batch_size * c.num_gpus * c.gpu.bandwidth_gb_s * 1e9 / step)


def beyond_the_card(gpu: Gpu, num_gpus: int, watts: float | None, rate: float | None, share: float | None) -> list[str]:
    """Power over 1.1 times the boards' limit (sensors, factory limits), throughput over 1.05 times the bandwidth's (best row: 0.86)."""
    found, limit = [], (gpu.tdp_w or math.inf) * num_gpus
    if watts is not None and watts > 1.1 * limit:
        found.append(f"{watts:,.0f} W on {f'{num_gpus} x ' if num_gpus > 1 else ''}{gpu.name}, whose limit is {limit:,.0f} W")
    if share is not None and share > 1.05:
        found.append(f"{plain(rate)} tok/s is {shortest(share, 2)} times what the memory's bandwidth allows")
    return found


def smaller(c: Configuration) -> list[Configuration]:
    """Fewer bits or a smaller batch that would fit and can run, in this order; empty where the configuration fits."""
    if fits(c):
        return []
    bits = ("fp8", "awq") if c.is_server else ("int8_pure", "nf4")
    ways = [c.with_(quantization=q) for q in bits] + [c.with_(batch_size=b) for b in (32, 16, 8, 4, 2, 1) if b < c.batch_size]
    return [w for w in ways if fits(w) and not cannot_run(w)]


def require_fit(c: Configuration) -> None:
    """Raises UserError, with what would fit, if the card cannot run the configuration or it does not fit in the memory."""
    if lacks := cannot_run(c):
        raise UserError(lacks, "", A_GPU)
    if fits(c):
        return
    ways = [w.quantization if w.batch_size == c.batch_size else f"batch {w.batch_size}" for w in smaller(c)]
    more = next((n for n in (2, 4, 8) if n > c.num_gpus and not is_module(c.gpu) and fits(c.with_(num_gpus=n))), None)
    ways = ways[:3] + ([f"{more} cards (--num-gpus {more})"] if more else [])
    raise UserError(memory(c).explained, "", f"use {' or '.join([*ways, 'a larger GPU'])}")


def _remarks(r: Request) -> list[str]:
    """What is allowed and still deserves a word. Raises UserError for what no named card can run, and for a model that fits on none."""
    c, found = r.now, []
    if c is None:
        return []
    if "quantization" in r.given and all(cannot_run(c.with_(gpu=gpu)) for gpu in r.gpus):
        raise UserError(cannot_run(c), "", A_GPU)
    small = c.with_(quantization="nf4", batch_size=1, num_gpus=r.num_gpus or (1 if is_module(c.gpu) else 8))
    free = r.any_gpu or (r.num_gpus is None and len(r.gpus) > 1)
    if not free and not any(fits(small.with_(gpu=gpu)) for gpu in r.gpus):
        n, half = small.num_gpus, small.with_(quantization="fp16")
        gigabytes = n * memory(small).needed_gb, n * memory(half).needed_gb, memory(small).available_gb
        in_4_bit, whole, usable = (gb / footprint.GIB_PER_GB for gb in gigabytes)
        need = f"{c.model.slug} needs {in_4_bit:.0f} GiB in 4 bit and does not fit in {n} x {c.gpu.name} of {usable:.1f} usable GiB each"
        raise UserError(need, "a model that fits", f"choose a smaller model or GPUs with {whole:.0f} GiB in all for fp16")
    if c.batch_size & (c.batch_size - 1):
        found.append(f"batch {c.batch_size} is no power of two: kernels are tuned for those")
    if c.input_tokens + c.output_tokens > c.model.context:
        found.append(f"{c.input_tokens} + {c.output_tokens} tokens exceed the model's context of {c.model.context}")
    if c.input_tokens > LONG_PROMPT_TOKENS:
        found.append(f"prompts above {LONG_PROMPT_TOKENS} tokens are hardly measured: measure them")
    if "batch_size" in r.given and c.batch_size == 1 and r.use != "chat":
        found.append("batch 1 leaves the card waiting for kernel launches: batch concurrent requests in production")
    return found
