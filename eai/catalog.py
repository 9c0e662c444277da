"""GPUs, language models, tasks and electricity by region: sourced facts under stable slugs, found by any usual name.

The tables are data/catalog/*.csv. A name is matched without case, spaces, punctuation and vendor words, so `RTX 4090D`,
`rtx4090d` and NVML's `NVIDIA GeForce RTX 4090 D` are one card. A fact that the table leaves empty is None: nothing is filled in.

What a site adds to energy stands at the end: PUE, price and carbon intensity, each with a range, a date and a source, and the bill of an
energy: energy [kWh] = energy at the board [J] x PUE / 3.6e6, cost = energy x price, carbon = energy x intensity, with Monte Carlo
intervals. The forecast of a sweep and the advisor share it.
"""

import difflib
import json
import math
import re
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from eai import tables
from eai.errors import UserError
from eai.quantity import Quantity

NOT_THERE = "is not in the catalog"
"""The words of every remark that says that another entry stands for the one named."""


@dataclass(frozen=True)
class Gpu:
    """One accelerator. Peaks are dense; fp16, bf16 and fp8 are tensor-core peaks with FP32 accumulation; `cpu` has no figures."""

    slug: str
    name: str
    vendor: str | None
    architecture: str
    compute_capability: float | None
    memory_gb: float | None
    memory_type: str | None
    bandwidth_gb_s: float | None
    fp32_tflops: float | None
    tf32_tflops: float | None
    fp16_tflops: float | None
    bf16_tflops: float | None
    int8_tops: float | None
    fp8_tflops: float | None
    tdp_w: float | None
    release_year: int | None
    source: str
    retrieved: str


@dataclass(frozen=True)
class Model:
    """One decoder-only language model: the shapes that decide its bytes and flops. `params_embedding`: entries of the input embedding
    table; an untied output head has as many again. `architecture`: model_type of its config.json. `base`: catalog slug of the model it was
    trained from, None where that is not listed."""

    slug: str
    hf_id: str
    params_total: int
    params_embedding: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    tie_embeddings: bool
    architecture: str
    licence: str | None
    base: str | None
    source: str
    retrieved: str


@dataclass(frozen=True)
class Task:
    """One benchmark: its lm-eval name, version, metric, number of items, few-shot examples, and the score of a uniform guess (`chance`,
    None where it varies from item to item, and where the metric is no score)."""

    slug: str
    name: str
    lm_eval: str
    version: str
    metric: str
    items: int
    few_shot: int
    chance: float | None
    source: str
    retrieved: str


@dataclass(frozen=True)
class Electricity:
    """Price and carbon intensity of a region; low and high span sites inside it. None where no sourced figure is at hand."""

    region: str
    name: str
    price_usd_per_kwh_low: float | None
    price_usd_per_kwh: float | None
    price_usd_per_kwh_high: float | None
    carbon_g_per_kwh_low: float | None
    carbon_g_per_kwh: float
    carbon_g_per_kwh_high: float | None
    date: str
    source: str
    retrieved: str


_KINDS = {"gpu": ("gpus", Gpu), "model": ("models", Model), "task": ("tasks", Task), "region": ("electricity", Electricity)}
PRECISION = re.compile(r"(?i)[-_](fp8|bf16|awq|gptq|int[48]|w[48]a\d+|nvfp4|mxfp4|gguf|quantized|dynamic|bnb|4bit|8bit)+(?=$|[-_.])")
_FORMATS = {name: name for name in ("fp8", "awq", "gptq", "nvfp4", "mxfp4")}
_FORMATS |= {"bnb": "nf4", "gguf": "gguf_q4_k_m", "w4a16": "gptq", "w8a8": "int8_w8a8"}
"""What the end of a checkpoint's name says, and the format that it is published in."""


def _key(name: str) -> str:
    """`name` without case, vendor words and punctuation: what two spellings of one thing share."""
    words = re.sub(r"\b(nvidia|geforce|tesla|amd|instinct|graphics|gpu)\b", " ", name.lower().replace("_", " "))
    return re.sub(r"[^a-z0-9]", "", words)


@cache
def _entries(kind: str) -> dict:
    """Slug -> entry, in the table's order; an empty cell is None."""
    table, record = _KINDS[kind]
    types = {f.name: next((t for t in (bool, int, float) if t in (f.type, *get_args(f.type))), str) for f in fields(record)}
    rows = tables.read_catalog(table).to_dict("records")
    entries = [record(**{name: None if pd.isna(row[name]) else cast(row[name]) for name, cast in types.items()}) for row in rows]
    return {getattr(e, fields(record)[0].name): e for e in entries}


@cache
def _index(kind: str) -> dict[str, list[tuple[str, str]]]:
    """Key of every slug, name, hub id and alias -> [(slug, note)], the preferred one first."""
    index: dict[str, list[tuple[str, str]]] = {}
    names = []
    for slug, e in _entries(kind).items():
        hub = getattr(e, "hf_id", "")
        names += [(name, slug, "") for name in (slug, getattr(e, "name", ""), hub, hub.rpartition("/")[2]) if name]
    aliases = tables.read_catalog("aliases").fillna("").to_dict("records")
    for name, slug, note in names + [(row["alias"], row["slug"], row["note"]) for row in aliases if row["kind"] == kind]:
        known = index.setdefault(_key(name), [])
        known += [(slug, note)] * all(slug != other for other, _ in known)
    return index


def resolve(kind: str, name: str) -> tuple[str, str]:
    """(slug, note) of a `kind` (gpu | model | task | region) called `name`; the note says what an unqualified name was taken for. Raises
    UserError with near names if there is no such entry. A model's revision (`name@revision`) is no part of its name."""
    name = str(name).partition("@")[0] if kind == "model" else name
    index, key = _index(kind), _key(str(name))
    if key and key in index:
        return index[key][0]
    near = dict.fromkeys(slug for k in difflib.get_close_matches(key, list(index), n=4, cutoff=0.5) for slug, _ in index[k])
    expected = f"a name from data/catalog, such as {', '.join(near or list(_entries(kind))[:6])}"
    raise UserError(f"unknown {kind} '{name}'", expected, f"name one of these, or add it to {_KINDS[kind][0]}.csv")


def gpu(name: str, memory_gb: float | None = None) -> Gpu:
    """The accelerator called `name`; `memory_gb` (as read from the board) decides between boards that share a name. Raises UserError."""
    alike = [resolve("gpu", name)] if memory_gb is None else _index("gpu").get(_key(name)) or [resolve("gpu", name)]
    return min((_entries("gpu")[slug] for slug, _ in alike), key=lambda g: abs((g.memory_gb or 0) - (memory_gb or 0)))


def _named(kind: str, name: str):
    """The entry with this slug, name or alias. Raises UserError with near names if it is unknown."""
    return _entries(kind)[resolve(kind, name)[0]]


model, task, region = (partial(_named, kind) for kind in ("model", "task", "region"))
"""Of a slug, hub id (with or without its owner) or alias; of a slug or lm-eval name; of a country code or name."""
gpus, models, tasks, regions = (partial(lambda kind: list(_entries(kind).values()), kind) for kind in _KINDS)
"""All entries, in the table's order."""


def nearest_gpu(name: str, memory_gb: float | None = None, bandwidth_gb_s: float | None = None) -> tuple[Gpu, str]:
    """(GPU, remark): the card itself, or where it is unknown the nearest one, if memory and bandwidth are given and within 15 % of it.
    Raises UserError for an unknown card whose memory and bandwidth are not given, or that no card is near to."""
    try:
        slug, note = resolve("gpu", name)
        return _entries("gpu")[slug], f"'{name}' is {note}" if note else ""
    except UserError:
        if memory_gb is None or bandwidth_gb_s is None:
            raise
    distance = {g: max(abs(g.memory_gb / memory_gb - 1), abs(g.bandwidth_gb_s / bandwidth_gb_s - 1)) for g in gpus() if g.memory_gb}
    best = min(distance, key=distance.get)
    if distance[best] > 0.15:
        found = f"unknown gpu '{name}' of {memory_gb:g} GB and {bandwidth_gb_s:g} GB/s"
        raise UserError(found, "a card whose memory and bandwidth are within 15 % of one in data/catalog/gpus.csv", "add it to gpus.csv")
    return best, f"'{name}' {NOT_THERE}: taken as {best.name}, whose memory and bandwidth are within 15 %"


@dataclass(frozen=True)
class Shape:
    """What decides a model's bytes and flops: parameters [1e9] without an untied input table, layers, heads, experts. `attention_layers` of
    the layers attend, `window_layers` of them within a window; `state_gb`: recurrent state that a sequence reads and writes a step;
    `vocab`: tokens, 128,000 where not listed; `key` joins models of one shape; `origin` says where the shape comes from."""

    name: str
    params_b: float
    active_params_b: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    attention_layers: int
    window_layers: int = 0
    window: int = 0
    experts: int = 0
    experts_active: int = 0
    expert_layers: int = 0
    vocab: int = 128_000
    published: str = ""
    state_gb: float = 0.0
    origin: str = ""

    @property
    def key(self) -> str:
        """One text for all models of this shape."""
        return f"{self.params_b:.3g}b-a{self.active_params_b:.3g}b-{self.layers}x{self.hidden}"

    @property
    def expert_params_b(self) -> float:
        """Parameters inside the experts [1e9]: what a token leaves out is (1 - k / E) of them."""
        return (self.params_b - self.active_params_b) / (1 - self.experts_active / self.experts) if self.experts else 0.0

    def touched(self, batch_size: float) -> float:
        """Share of the experts that a batch reads, its tokens choosing independently: 1 - (1 - k / E)^batch."""
        return 1 - (1 - self.experts_active / self.experts) ** batch_size if self.experts else 0.0

    def imbalance(self, batch_size: float, num_gpus: float) -> float:
        """Experts that the busiest of `num_gpus` GPUs reads over their mean: binomial counts, the largest of n is sqrt(2 ln n) sd off."""
        if not self.experts or num_gpus <= 1:
            return 1.0
        own, share = self.experts / num_gpus, self.touched(batch_size)
        mean = own * share
        return min(own, mean + math.sqrt(2 * math.log(num_gpus) * mean * (1 - share))) / mean

    def cache_gb(self, context_tokens: float) -> float:
        """Keys, values and state that one sequence reads a step [1e9 bytes], 16 bit."""
        full = (self.attention_layers - self.window_layers) * context_tokens
        near = self.window_layers * min(context_tokens, self.window or context_tokens)
        return 4 * self.kv_heads * self.head_dim * (full + near) / 1e9 + self.state_gb


@cache
def _shapes() -> dict[str, Shape]:
    """Key of every id -> Shape: data/catalog/shapes.csv, then models.csv without an untied input table."""
    found = {}
    for row in tables.read_catalog("shapes").to_dict("records"):
        values = {f.name: row[f.name] for f in fields(Shape) if f.name in row and not pd.isna(row[f.name])}
        shape = Shape(name=row["hf_id"], origin=row["source"], **values)
        for name in (row["hf_id"], *([] if pd.isna(row["names"]) else row["names"].split(";"))):
            found[_key(name.rpartition("/")[2])] = shape
    for key, ((slug, _), *_) in _index("model").items():
        m = _entries("model")[slug]
        params = (m.params_total - (0 if m.tie_embeddings else m.params_embedding)) / 1e9
        sizes = (params, params, m.layers, m.hidden, m.heads, m.kv_heads, m.head_dim, m.layers)
        found.setdefault(key, Shape(m.hf_id, *sizes, vocab=m.vocab, origin=m.source))
    return found


def shape(name: str | None = None, **given: float | None) -> Shape:
    """The shape of a model: of the catalog, of a local config.json, or of its size (given, or in its name), what is given replacing.
    `given`: params_b, active_params_b, layers, hidden, kv_heads; None means not given. Layers and width that nobody states are those of the
    listed model nearest in size. Raises UserError where not even a size is known."""
    given: dict = {k: float(v) for k, v in given.items() if v is not None and not pd.isna(v)}
    for size, value in given.items():
        if not size.endswith("_b") and not (math.isfinite(value) and value >= 1):
            raise UserError(f"{size} {value:g}", "a whole number, 1 or more", "correct it")
    given = {k: v if k.endswith("_b") else int(v) for k, v in given.items()}
    given |= {"attention_layers": given["layers"]} if "layers" in given else {}  # layers given replace the attending ones too
    if isinstance(name, str) and name:
        short = PRECISION.sub("", name)  # a precision at its end: -FP8, -AWQ, -GPTQ-Int4, -GGUF
        words = re.split("[-_.]", name.rpartition("/")[2].lower())
        if published := next((f for word, f in _FORMATS.items() if word in words), None):
            given["published"] = published
        keys = [_key(part) for n in (name, short, short.replace("Meta-Llama", "Llama")) for part in (n.rpartition("/")[2], n)]
        keys += [re.sub(r"(instruct|it|chat|base|hf)+$", "", key) for key in keys]  # tuned or not, the shape is the same
        longer = {k: {s.key: s for other, s in _shapes().items() if len(k) > 5 and other.startswith(k)} for k in keys}
        found = next((_shapes()[key] for key in keys if key in _shapes()), None)
        alike = next((s for of_key in longer.values() if len(of_key) == 1 for s in of_key.values()), None)
        found = found or (alike and replace(alike, origin=f"the shape of {alike.name}"))
        path = Path(name).expanduser()
        path = path / "config.json" if path.is_dir() else path
        if not found and path.suffix == ".json" and path.is_file():
            try:
                found = shape_of_config(json.loads(path.read_text()), name)
            except (OSError, ValueError) as error:
                raise UserError(f"cannot read {path}: {error}", "a config.json of Hugging Face", "correct it") from None
        if found:
            return replace(found, **given)
        total, active = sizes_in_name(name)
        given = {k: v for k, v in (("params_b", total), ("active_params_b", active)) if v} | given
    if "params_b" not in given:
        known = "an id of data/catalog, a folder with config.json, or params_b"
        raise UserError(f"unknown model '{name}' that states no size", known, "give its size")
    total, active = given["params_b"], given.setdefault("active_params_b", given["params_b"])
    if not 0 < active <= total:
        raise UserError(f"{active:g} B active of {total:g} B parameters", "0 < active <= total", "correct the sizes")
    is_mixture = active < 0.9 * total
    listed = [s for s in dict.fromkeys(_shapes().values()) if (s.experts > 0) == is_mixture and not s.state_gb]
    near = min(listed, key=lambda s: abs(math.log(s.params_b / total)) + abs(math.log(s.active_params_b / active)))
    origin = f"layers and width as {near.name}, the listed model nearest in size"
    return replace(near, name=str(name or f"{total:g}B"), origin=origin, **{"published": ""} | given)


_FIELDS = {"hidden": ("hidden_size", "n_embd", "n_embed"), "layers": ("num_hidden_layers", "n_layer")}
_FIELDS |= {"heads": ("num_attention_heads", "n_head"), "vocab": ("vocab_size",)}


def sizes_of_config(config: dict, name: str) -> dict[str, int]:
    """hidden, layers, heads, vocab, kv_heads, head_dim and intermediate of a Hugging Face config.json, by either spelling. Raises UserError
    for a missing field."""
    c = config.get("text_config", config) if isinstance(config, dict) else {}
    found = {size: next((c[field] for field in fields if c.get(field)), None) for size, fields in _FIELDS.items()}
    if lacking := [_FIELDS[size][0] for size, value in found.items() if type(value) is not int]:
        do = "give another model, or --params-b, --layers and --hidden"
        raise UserError(f"the config of {name} has no {' and no '.join(lacking)}", "a decoder's config.json", do)
    found |= {
        "kv_heads": c.get("num_key_value_heads") or found["heads"],
        "head_dim": c.get("head_dim") or found["hidden"] // found["heads"],
    }
    return found | {"intermediate": c.get("intermediate_size") or 4 * found["hidden"]}


def shape_of_config(config: dict, name: str) -> Shape:
    """The Shape of a Hugging Face config.json (dict), mixtures of experts included. Raises UserError for a missing field."""
    hidden, layers, heads, vocab, kv, width, inner = sizes_of_config(config, name).values()
    c = config.get("text_config", config)
    experts = c.get("num_local_experts") or c.get("num_experts") or c.get("n_routed_experts") or 0
    active = c.get("num_experts_per_tok") or c.get("num_experts_per_token") or 0
    gates = 2 if c.get("model_type") in ("gpt2", "gpt_neox", "opt", "falcon", "starcoder2", "bloom", "phi", "gptj") else 3
    attention = layers * hidden * width * (2 * heads + 2 * kv)
    expert = gates * hidden * (c.get("moe_intermediate_size") or inner)
    mlp = layers * (expert * experts if experts else gates * hidden * inner)
    shared = layers * expert * (c.get("n_shared_experts") or 0)
    total = (attention + mlp + shared + vocab * hidden) / 1e9
    used = total - (layers * expert * (experts - active) / 1e9 if experts else 0)
    quantized = config.get("quantization_config") or {}
    published = _FORMATS.get(quantized.get("quant_method"), "")
    published += "_block" if published == "fp8" and "weight_block_size" in quantized else ""
    routed = {"experts": experts, "experts_active": active, "expert_layers": layers if experts else 0, "published": published}
    return Shape(name, total, used, layers, hidden, heads, kv, width, layers, vocab=vocab, origin="config.json", **routed)


def sizes_in_name(name: str) -> tuple[float | None, float | None]:
    """(total, active) parameters [1e9] that a name states: `30B-A3B` -> (30, 3), `8x7B` -> (46.7, 12.9), `Foo-7B` -> (7, None)."""
    text = name.lower().replace("_", "-")
    if found := re.search(r"(\d+)x(\d+(?:\.\d+)?)b", text):
        count, each = int(found[1]), float(found[2])
        total = 0.83 * count * each  # attention and embedding are shared: Mixtral 8x7B holds 46.7, 8x22B 140.6
        return total, (0.034 + 0.966 * 2 / count) * total if count > 2 else None
    active = re.search(r"(?<![a-z0-9.])a(\d+(?:\.\d+)?)b(?![a-z])", text)
    sizes = re.findall(r"(?<![a-z0-9.])e?(\d+(?:\.\d+)?)([bmt])(?![a-z])", text)
    scale = {"b": 1.0, "m": 1e-3, "t": 1e3}
    return (float(sizes[0][0]) * scale[sizes[0][1]] if sizes else None), (float(active[1]) if active else None)


def params_in_name(name: str) -> float | None:
    """The parameter count that a model's name states (`Foo-7B` -> 7e9, `x-135M` -> 135e6), None if it states none or an 8x7B mixture."""
    total = sizes_in_name(name)[0]
    return None if total is None or re.search(r"\d+x\d", name.lower()) else round(total * 1e9, 3)


# What a site adds to energy


PUE_ON_PREMISES = 1.0
PUE_CLOUD = 1.1
J_PER_KWH = 3.6e6
HOURS_A_MONTH = 365.25 * 24 / 12
NORMAL_95 = 1.959964
DRAWS = 4_000
SEED = 20261122

quadrature = cache(lambda: np.polynomial.legendre.leggauss(64))  # when first asked for: start-up stays short


@dataclass(frozen=True)
class Factor:
    """A factor with the range inside which it lies (low = value = high: taken as exact), its unit, and where it comes from. It is drawn
    from a triangle with its mode at `value`: the least that a range and a most likely value say."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    def draw(self, rng: np.random.Generator, n: int = DRAWS) -> np.ndarray:
        """`n` draws."""
        return np.full(n, self.value) if self.low == self.high else rng.triangular(self.low, self.value, self.high, n)

    @property
    def sd_log(self) -> float:
        """Standard deviation of the logarithm of the draws, by quadrature over the triangle's quantiles; 0 if taken as exact."""
        if self.low == self.high:
            return 0.0
        nodes, weights = quadrature()
        share, rank = (self.value - self.low) / (self.high - self.low), (nodes + 1) / 2
        rising = self.low + np.sqrt(rank * (self.high - self.low) * (self.value - self.low))
        falling = self.high - np.sqrt((1 - rank) * (self.high - self.low) * (self.high - self.value))
        logs = np.log(np.where(rank < share, rising, falling))
        return float(np.sqrt((logs - logs @ weights / 2) ** 2 @ weights / 2))

    def assumption(self) -> dict:
        """The factor as it stands among an answer's assumptions."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "reason": self.source}


@dataclass(frozen=True)
class Site:
    """Where the electricity comes from: a region of the catalog, and a PUE, a price [USD/kWh] and a carbon intensity where they are
    known."""

    region: str = "us"
    pue_given: float | None = None
    price_given: float | None = None
    carbon_given: Factor | None = None

    @property
    def pue(self) -> Factor:
        """Power usage effectiveness: as given, else 1.0 (on premises) with the cloud's 1.1 as upper end."""
        if (given := self.pue_given) is not None:
            return Factor("pue", given, given, given, "", "given")
        source = "default on premises (1.0), with the usual value of a cloud (1.1) as upper end"
        return Factor("pue", PUE_ON_PREMISES, PUE_ON_PREMISES, PUE_CLOUD, "", source)

    @property
    def price(self) -> Factor | None:
        """Price of electricity: as given, else the region's; None where the catalog has none."""
        if (given := self.price_given) is not None:
            return Factor("price", given, given, given, "USD/kWh", "given")
        return self._of_region("price", "price_usd_per_kwh", "USD/kWh")

    @property
    def carbon(self) -> Factor:
        """Carbon intensity of the electricity: as given, else the region's."""
        return self.carbon_given or self._of_region("carbon", "carbon_g_per_kwh", "g/kWh")

    def _of_region(self, name: str, column: str, unit: str) -> Factor | None:
        """A factor of the catalog, None where it has none; without both ends it is taken as exact and says so."""
        found = region(self.region)
        value, low, high = (getattr(found, f"{column}{end}") for end in ("", "_low", "_high"))
        known = low is not None and high is not None
        source = f"{found.name}, {found.date}: {found.source}" + ("" if known else "; no sourced range: taken as exact")
        return None if value is None else Factor(name, value, low if known else value, high if known else value, unit, source)

    @property
    def factors(self) -> list[Factor]:
        """The factors that are known."""
        return [f for f in (self.pue, self.price, self.carbon) if f]


def intensity(given: object) -> Factor | None:
    """Carbon intensity [g/kWh] as given: a number, or a CSV file with a row an hour (or any time of equal length): its column g_per_kwh,
    weighted by a column requests where there is one. What the cleanest quarter of the rows has stands in the source. Raises UserError for a
    file or a number that is none."""
    if given is None:
        return None
    try:
        value, source = float(str(given)), "given"
    except ValueError:
        try:
            table = pd.read_csv(str(given), comment="#")
            grams = table["g_per_kwh"].astype(float)
            weights = table["requests"].astype(float) if "requests" in table else grams * 0 + 1
            value = float((grams * weights).sum(skipna=False) / weights.sum(skipna=False))
        except (OSError, KeyError, ValueError, ZeroDivisionError):
            raise UserError(f"carbon {given}", "g/kWh, or a CSV file with a column g_per_kwh (and requests)", "correct it") from None
        clean = grams.nsmallest(max(1, len(grams) // 4)).mean()
        source = f"{given}: {len(grams)} rows of {grams.min():.0f} to {grams.max():.0f} g/kWh; the cleanest quarter has {clean:.0f}"
    if not (np.isfinite(value) and value >= 0):
        raise UserError(f"carbon {given}", "g/kWh, 0 or more, without gaps", "correct it")
    return Factor("carbon", value, value, value, "g/kWh", source)


def drawn(q: Quantity, z: np.ndarray) -> np.ndarray:
    """What a positive quantity is at standard normal draws `z`: log-normal, each side as wide as its own end of the 95 % interval."""
    if q.low is None:
        return np.full(len(z), float(q.value))
    down, up = np.log(q.value / q.low) / NORMAL_95, np.log(q.high / q.value) / NORMAL_95
    return q.value * np.exp(z * np.where(z < 0, down, up))


def interval(value: float, draws: np.ndarray, unit: str) -> Quantity:
    """The value with the 2.5 and 97.5 percentiles of the draws; without spread, no interval."""
    low, high = np.quantile(draws, (0.025, 0.975))
    if np.isclose(low, high, rtol=1e-12, atol=0.0):
        return Quantity(float(value), unit=unit)
    return Quantity(float(value), float(min(low, value)), float(max(high, value)), unit)


def bill(point_j: float, draws_j: np.ndarray, site: Site, rng: np.random.Generator) -> dict[str, Quantity]:
    """`energy_kwh`, `cost_usd` (value None where no price is known) and `carbon_kg` of an energy at the boards [J] and its draws."""
    pue, price, carbon = site.pue, site.price, site.carbon
    point, draws = point_j * pue.value / J_PER_KWH, draws_j * pue.draw(rng, len(draws_j)) / J_PER_KWH
    money = interval(point * price.value, draws * price.draw(rng, len(draws)), "USD") if price else Quantity(None, unit="USD")
    carbon_kg = interval(point * carbon.value / 1e3, draws * carbon.draw(rng, len(draws)) / 1e3, "kg")
    return {"energy_kwh": interval(point, draws, "kWh"), "cost_usd": money, "carbon_kg": carbon_kg}
