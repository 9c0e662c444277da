"""GPUs, language models, tasks and electricity by region: sourced facts under stable slugs, found by any usual name.

The tables are data/catalog/*.csv. A name is matched without case, spaces, punctuation and vendor words, so `RTX 4090D`,
`rtx4090d` and NVML's `NVIDIA GeForce RTX 4090 D` are one card. A fact that the table leaves empty is None: nothing is filled in.
"""

import difflib
import re
from dataclasses import dataclass, fields
from functools import cache

import pandas as pd

from eai import tables
from eai.errors import UserError

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
    """One decoder-only language model: the shapes that decide its bytes and flops.

    `params_embedding`: entries of the input embedding table; an untied output head has as many again. `architecture`: model_type of
    its config.json. `base`: catalog slug of the model it was trained from, None where that is not listed.
    """

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
    """One benchmark: its lm-eval name, version, metric, number of items, few-shot examples, and the score of a uniform guess.

    `chance` is None where it varies from item to item, and where the metric is no score.
    """

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
_VENDOR_WORDS = re.compile(r"\b(nvidia|geforce|tesla|amd|instinct|graphics|gpu)\b")
_FAMILIES = (
    (r"rtx50\d\d", "rtx50"),
    (r"rtx40\d\d", "rtx40"),
    (r"rtx30\d\d", "rtx30"),
    (r"rtx20\d\d|gtx16\d\d|rtx[45678]000$|t\d+", "rtx20|t"),
    (r"gb?[23]00|b\d+|gb\d+", "b"),
    (r"gh200|h\d+", "h"),
    (r"l\d+", "l"),
    (r"rtx\d000ada", "rtx6000_ada"),
    (r"(rtx)?a\d+", "a"),
    (r"v\d+|titanv", "v"),
    (r"p\d+", "p"),
    (r"mi\d+", "mi"),
)


def _key(name: str) -> str:
    """`name` without case, vendor words and punctuation: what two spellings of one thing share."""
    words = _VENDOR_WORDS.sub(" ", name.lower().replace("_", " "))
    return re.sub(r"[^a-z0-9]", "", words)


def _value(raw, kind):
    """A table's cell as the field's type, None where it is empty."""
    if pd.isna(raw):
        return None
    text = str(kind)
    if "int" in text:
        return int(raw)
    if "bool" in text:
        return str(raw).lower() == "true"
    return float(raw) if "float" in text else str(raw)


@cache
def _entries(kind: str) -> dict:
    """Slug -> entry, in the table's order."""
    table, record = _KINDS[kind]
    rows = tables.read_catalog(table).to_dict("records")
    entries = [record(**{f.name: _value(row[f.name], f.type) for f in fields(record)}) for row in rows]
    return {getattr(e, fields(record)[0].name): e for e in entries}


@cache
def _index(kind: str) -> dict[str, list[tuple[str, str]]]:
    """Key of every slug, name, hub id and alias -> [(slug, note)], the preferred one first."""
    index: dict[str, list[tuple[str, str]]] = {}

    def add(name: str, slug: str, note: str = ""):
        known = index.setdefault(_key(name), [])
        if slug not in [s for s, _ in known]:
            known.append((slug, note))

    for slug, entry in _entries(kind).items():
        names = [slug, getattr(entry, "name", ""), getattr(entry, "hf_id", ""), getattr(entry, "hf_id", "").rpartition("/")[2]]
        for name in filter(None, names):
            add(name, slug)
    for row in tables.read_catalog("aliases").to_dict("records"):
        if row["kind"] == kind:
            add(row["alias"], row["slug"], "" if pd.isna(row["note"]) else row["note"])
    return index


def _unknown(kind: str, name: str) -> UserError:
    """The error for a name that is not in the catalog, with the names nearest to it."""
    slugs = list(_entries(kind))
    near = difflib.get_close_matches(_key(name), list(_index(kind)), n=4, cutoff=0.5)
    suggestions = list(dict.fromkeys(slug for key in near for slug, _ in _index(kind)[key])) or slugs[:6]
    return UserError(
        f"unknown {kind} '{name}'", f"a name from data/catalog, such as {', '.join(suggestions)}", f"add it to {_KINDS[kind][0]}.csv"
    )


def resolve(kind: str, name: str) -> tuple[str, str]:
    """(slug, note) of a `kind` (gpu | model | task | region) called `name`; the note says what an unqualified name was taken for.

    Raises UserError with near names if there is no such entry.
    """
    found = _index(kind).get(_key(str(name)))
    if not found or not _key(str(name)):
        raise _unknown(kind, str(name))
    return found[0]


def gpu(name: str, memory_gb: float | None = None) -> Gpu:
    """The accelerator called `name`; `memory_gb` (as read from the board) decides between boards that share a name.

    Raises UserError if it is unknown: `nearest_gpu` never does where the architecture can be told.
    """
    slug, _ = resolve("gpu", name)
    candidates = [_entries("gpu")[s] for s, _ in _index("gpu")[_key(name)]]
    if memory_gb is None or len(candidates) == 1:
        return _entries("gpu")[slug]
    return min(candidates, key=lambda g: abs((g.memory_gb or 0) - memory_gb))


def model(name: str) -> Model:
    """The model with this slug, hub id (with or without its owner) or alias. Raises UserError with near names if it is unknown."""
    return _entries("model")[resolve("model", name)[0]]


def task(name: str) -> Task:
    """The benchmark with this slug, lm-eval name or alias. Raises UserError with near names if it is unknown."""
    return _entries("task")[resolve("task", name)[0]]


def region(code: str) -> Electricity:
    """Electricity of a region: two- or three-letter country code or name. Raises UserError if it is unknown."""
    return _entries("region")[resolve("region", code)[0]]


def gpus() -> list[Gpu]:
    """All accelerators, in the table's order."""
    return list(_entries("gpu").values())


def models() -> list[Model]:
    """All language models, in the table's order."""
    return list(_entries("model").values())


def tasks() -> list[Task]:
    """All benchmarks, in the table's order."""
    return list(_entries("task").values())


def regions() -> list[Electricity]:
    """All regions, in the table's order."""
    return list(_entries("region").values())


def _number(key: str) -> int:
    """The first number in a key: 4070 of `rtx4070ti`."""
    return int(re.search(r"\d+", key).group())


def nearest_gpu(name: str) -> tuple[Gpu, str]:
    """(GPU, remark): the card itself, or the nearest one of its architecture, and then the remark says so; empty for an exact name.

    Raises UserError where the name tells no architecture.
    """
    try:
        slug, note = resolve("gpu", name)
        return _entries("gpu")[slug], f"'{name}' is {note}" if note else ""
    except UserError:
        key = _key(name)
        family = next((prefix for pattern, prefix in _FAMILIES if re.match(pattern, key)), None)
        if family is None:
            raise
    known = [g for g in gpus() if re.match(rf"({family})(\d|$)", g.slug)]
    best = min(known, key=lambda g: abs(_number(g.slug) - _number(key)))
    return best, f"'{name}' {NOT_THERE}: taken as {best.name}, the nearest of the {best.architecture} architecture"


def params_in_name(name: str) -> float | None:
    """The parameter count that a model's name states (`Foo-7B` -> 7e9, `x-135M` -> 135e6), None if it states none or an 8x7B mixture."""
    if re.search(r"\d+x\d", name.lower()):
        return None
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z])", name.lower().replace("_", "-"))
    return float(found[0][0]) * (1e9 if found[0][1] == "b" else 1e6) if found else None
