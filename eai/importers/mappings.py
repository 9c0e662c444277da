"""The mapping language: what another table calls the things that we name. `import` and `check` read the same file.

One direction, ours to theirs, and theirs is a column or an expression over columns (eai/expressions.py); docs/importing.md explains every
key. Nothing is guessed: a boundary, a basis and every part of the configuration has to be said.
"""

import ast
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from eai import cells, schema
from eai.cells import LONGEST, column_of, evaluate, nearest  # noqa: F401 (windows and imports read them here)
from eai.errors import UserError

PER = {"run": "run", "window": "run", "token": "token", "output_token": "token", "request": "request"}
PARALLEL = ("num_gpus", "tensor_parallel", "pipeline_parallel", "expert_parallel", "data_parallel")
PLACES = ("engine", "engine_version", *PARALLEL)
"""Where a configuration ran; these go to its options."""

INSTANTS = ("started_at", "ended_at")
SCORED = ("score", "n_items")
NUMBERS = tuple(
    c.name
    for c in schema.WINDOWS
    if c.kind in ("int", "float") and c.name not in (*schema.WINDOW_KEY, *schema.CONFIGURATION, "order", "load", "samples")
)
OURS = (*schema.CONFIGURATION, *NUMBERS, "throughput_tok_s", *SCORED, *PLACES, *INSTANTS)
TAGGED = r"(?i)(?P<base>.+?)[-_.](?P<tag>i?q\d(?:_\w+)*|f16|fp16|bf16|f32|fp32|int8|int4|awq|gptq|nf4|fp8|mxfp4)(?:\.gguf)?$"
"""A model's name with the strategy at its end: `qwen3:4b-instruct-q4_K_M`."""


@dataclass(frozen=True)
class Energy:
    """One energy: a column, a pattern such as `gpu*_energy` (one device a column) or an expression; its unit, what it covers, where it
    comes from, in the source's own `words` too, and per what it is stated: run, token or request."""

    column: str
    unit: str
    boundary: str
    basis: str
    per: str = "run"
    device_id: str = ""
    words: str = ""

    def __post_init__(self):
        for name, allowed in (("boundary", schema.BOUNDARIES), ("basis", schema.BASES), ("per", PER)):
            if getattr(self, name) not in allowed:
                raise UserError(f"energy column {self.column}: {name} '{getattr(self, name)}'", f"one of {', '.join(allowed)}")
        if "?" in (self.column, self.unit):
            raise UserError(f"energy column {self.column}, unit {self.unit}", "a column of energies and its unit", "fill in the '?'")
        if self.unit and self.unit not in cells.ENERGY_UNITS:
            cells.conversion(self.unit, "J", f"energy column {self.column}")


@dataclass(frozen=True)
class Mapping:
    """How to read one foreign table; the fields are the keys of a mapping file, as docs/importing.md explains them.

    `per`: what one row is; requests of one configuration and block are added up to one run.
    `columns`, `options`: our name -> their column or an expression; `values`: our name -> their value -> ours; `failed`: a column that is
    not empty, or not among `passed`, where the row failed. `same_machine`: a column and the value that says that a row counted the whole
    machine, so that rows of one time are one run; `log_boundary`: what a power log beside the rows covers; `check`: what `eai check`
    reads beside. `known`: a tool's own mapping, whose absent columns are left out.
    """

    source: str
    energies: tuple[Energy, ...]
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    values: dict[str, dict] = field(default_factory=dict)
    per: str = "run"
    block: str | None = None
    failed: str | None = None
    passed: tuple[str, ...] = ()
    baseline: str | None = None
    ignore: tuple[str, ...] = ()
    rows: str = ""
    fill_down: tuple[str, ...] = ()
    split: dict[str, str] = field(default_factory=dict)
    match: tuple[str, ...] = ()
    same_machine: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    check: dict[str, str] = field(default_factory=dict)
    log_boundary: str = "gpu"
    known: bool = False


_LISTS = ("passed", "ignore", "fill_down", "match", "notes")
_DICTS = ("columns", "constants", "units", "options", "values", "split", "same_machine", "check")


def mapping_from(document: object, base: Mapping | None = None) -> Mapping:
    """The mapping in a parsed YAML document; on top of `base`, a known tool's, whose entries it completes or replaces.

    Raises UserError for unknown, missing or misshapen keys.
    """
    known = {f.name for f in fields(Mapping)} - {"known"}
    if not isinstance(document, dict):
        raise UserError(f"a mapping that is {str(document)[:40]!r}", f"keys among {', '.join(sorted(known))}")
    document = {str(k): v for k, v in document.items()}
    document |= {"units": document.get("units", {}) | {"score": document.pop("score_unit")}} if "score_unit" in document else {}
    if wrong := sorted(set(document) - known):
        do = "our name stands left and theirs right, under `columns`" if set(map(str, document.values())) & set(OURS) else ""
        raise UserError(f"mapping keys {', '.join(wrong)}", f"some of {', '.join(sorted(known))}", do)
    if not (base or document.get("energies")):
        raise UserError("a mapping without energies", f"some of {', '.join(sorted(known))}, energies among them")
    shapes = [(n, dict, "pairs of our name: theirs") for n in _DICTS] + [(n, list, "a list in [ ]") for n in _LISTS]
    for name, shape, expected in shapes:
        if not isinstance(document.get(name, shape()), shape):
            raise UserError(f"{name} of the mapping is {str(document[name])[:40]!r}", expected)
    rest = {k: tuple(str(v) for v in document[k]) for k in _LISTS if k in document}
    rest |= {k: document[k] for k in document if k not in (*_LISTS, "energies")}
    rest |= {"rows": str(document["rows"])} if "rows" in document else {}
    if "energies" in document:
        entries = document["energies"]
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            expected = "a list of {column: ..., unit: ..., boundary: ..., basis: ...}"
            raise UserError(f"energies of the mapping: {str(entries)[:40]!r}", expected)
        try:
            rest["energies"] = tuple(Energy(**({"unit": ""} | e)) for e in entries)
        except TypeError as error:
            raise UserError(f"an energy of the mapping: {error}", f"{', '.join(f.name for f in fields(Energy))}") from None
    if base is None:
        return _checked(Mapping(**({"source": "unnamed"} | rest)))
    merged = {name: getattr(base, name) | rest.get(name, {}) for name in _DICTS} | {"ignore": base.ignore + rest.get("ignore", ())}
    return _checked(replace(base, **(rest | merged)))


def _checked(mapping: Mapping) -> Mapping:
    """The mapping, with names that are ours. Raises UserError for one that is not."""
    if mapping.per not in ("run", "request"):
        raise UserError(f"per: {mapping.per}", "run or request: what one row of the table is", "correct the mapping")
    if mapping.log_boundary not in schema.BOUNDARIES:
        raise UserError(f"log_boundary: {mapping.log_boundary}", f"one of {', '.join(schema.BOUNDARIES)}", "correct the mapping")
    for name in (*mapping.columns, *mapping.constants, *mapping.units):
        if name not in OURS:
            raise UserError(f"mapped to {name}", f"one of our names{nearest(name, OURS)}", "other factors go under `options`")
    return mapping


def complete(mapping: Mapping) -> Mapping:
    """The mapping. Raises UserError where a `?` of a guess still stands in it."""
    asked = [k for part in ("columns", "constants", "units", "options") for k, v in getattr(mapping, part).items() if v == "?"]
    asked += [str(theirs) for values in mapping.values.values() for theirs, ours in values.items() if ours == "?"]
    if asked:
        found = f"{', '.join(asked[:6])} {'is' if len(asked) == 1 else 'are'} still '?'"
        raise UserError(found, "what the guess could not know", "fill it in")
    return mapping


def with_constants(mapping: Mapping, constants: dict[str, object]) -> Mapping:
    """The mapping with values that hold for every row, which go before a column for the same, and with `per`, `block`, `baseline` or
    `score_unit` where they are among them."""
    said = {k: str(v) for k, v in constants.items() if k in ("per", "block", "baseline", "score_unit")}
    constants = {k: v for k, v in constants.items() if k not in said}
    units = mapping.units | ({"score": said.pop("score_unit")} if "score_unit" in said else {})
    columns, options = ({k: v for k, v in part.items() if k not in constants} for part in (mapping.columns, mapping.options))
    return _checked(replace(mapping, columns=columns, options=options, constants=mapping.constants | constants, units=units, **said))


@cache
def tools() -> dict[str, Mapping]:
    """The mappings of the tools that are known, by name, from formats.yaml."""
    document = yaml.safe_load(Path(__file__).with_name("formats.yaml").read_text(encoding="utf-8"))
    return {name: replace(mapping_from(body, Mapping("", ())), known=True) for name, body in document.items()}


def recognise(columns) -> str | None:
    """The tool whose marks (`match`) are all among the columns, the one with most marks; None for a table of no known tool."""
    present = set(map(str, columns))
    fits = [name for name, m in tools().items() if m.match and set(m.match) <= present]
    return max(fits, key=lambda name: len(tools()[name].match), default=None)


def is_readable(text: object, frame: pd.DataFrame) -> bool:
    """Whether a column or expression of a known tool can be read from this table."""
    try:
        return bool(evaluate(text, frame.head(1)).shape)
    except UserError:
        return False


# --- a table repaired before it is mapped


def prepared(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """The table with merged cells filled down and columns split by their patterns.

    A pattern is text with `{name}` for each part, `bs{bs}+tp{tp}`, or a regular expression with named groups. Raises UserError for a column
    that is not there and for a pattern that fits no row.
    """
    if absent := [c for c in (*mapping.fill_down, *mapping.split) if c not in frame and not mapping.known]:
        raise UserError(f"no column {absent[0]}", f"a column of the table{nearest(absent[0], frame.columns)}", "correct the mapping")
    frame = frame.copy(deep=False)
    for name in mapping.fill_down:
        cells_ = frame[name]
        frame[name] = cells_.mask(cells_.isna() | cells_.astype(str).str.strip().eq("")).ffill()
    for name, pattern in mapping.split.items():
        if name in frame:
            parts = frame[name].astype(str).str.extract(_pattern(pattern))
            if parts.isna().all(axis=None) and not mapping.known:
                example = f"{name}, such as '{str(frame[name].iloc[0])[:40]}'"
                raise UserError(f"the pattern '{pattern}' fits no cell of {example}", "a pattern with {name}")
            for part in parts:
                frame[part] = parts[part].str.strip()
    return frame


def _pattern(text: str) -> str:
    """The regular expression of a pattern. Raises UserError for one that has no part, or is none."""
    pieces = [re.escape(p) if not re.fullmatch(r"\{[A-Za-z_]\w*\}", p) else f"(?P<{p[1:-1]}>.+?)" for p in re.split(r"(\{\w+\})", text)]
    found = text if "(?P<" in text else "".join(pieces) + "$"
    with suppress(re.error):
        if len(text) <= LONGEST and re.compile(found).groupindex:
            return found
    raise UserError(f"the pattern '{text[:60]}'", "text with {name} for each part, or a regular expression with named groups")


# --- headers: `Energy (MWh)` is megawatt hours, `Tokens/s` a throughput, `latency_ms` a time in seconds

_READ = yaml.load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_WORDS, _ENDINGS, _UNITS, _ABROAD = (
    {theirs: ours for ours, several in _READ[part].items() for theirs in several} for part in ("words", "endings", "units", "abroad")
)
CONVERSIONS = {theirs: (ours, times) for theirs, (ours, times) in _READ["conversions"].items()}
NOT_MEANT, MACHINE = frozenset(_READ["not_meant"].split()), frozenset(_READ["machine"])
PARTS, STEMS = ({name: set(words) for name, words in _READ[part].items()} for part in ("parts", "stems"))
RECOGNISED = frozenset((*_READ["words"], *(name for name, _ in CONVERSIONS.values()), *_READ["more"]))
BOARDS = re.compile(r"(?:(\d{1,3})\s*[x×]\s*)?(.+?)(?:(?:(?<=\d)|\s|\s?\()[x×]\s?(\d{1,3})\)?)?")  # A100x4, A40 (x8), not rtx4090

PER_TOKEN = re.compile(
    r"(?:(?i:energy) )?(?P<unit>[mkM]?(?:[jJ]|[wW][hH])) ?(?i:/|per) ?(?P<n>(?i:(?:[1-9]\d*)? ?[km]?|million|thousand)) ?"
    r"(?i:(?:output|generated) )?(?i:tok(?:en)?s?)"
)
"""Energy per so many tokens in any unit: `mJ/token`, `Wh/1k tokens`, `kWh per million tokens`."""


def words_of(column: str) -> list[str]:
    """The words of a header, in English where they are of another language: `Energía (J/token gen)` is energy, j, per, token, gen."""
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", "_", str(column)).replace("/", " per ")
    return [_ABROAD.get(word, word) for word in re.sub(r"[^\w.]+", "_", text.lower()).strip("_").split("_") if word]


def meaning(column: str) -> tuple[str, str]:
    """What a header names by its words, without unit, and its unit: `avg_gpu_energy_joules` is ("energy_gpu", "J"); "" for neither."""
    words = words_of(column)
    have, at = set(words), words.index("per") if "per" in words else len(words)
    over, under = set(words[:at]), set(words[at + 1 :])
    unit = next((_UNITS[w] for w in reversed(words[:at]) if w in _UNITS), "")
    tokens, energy = have & {"token", "tokens", "tok", "toks"}, over & {"energy", "joule", "joules"}
    if tokens & over and over & {"input", "prompt"} and not under:
        return "tokens_in", ""
    if (have & NOT_MEANT and not {"end", "to"} <= have) or any(re.fullmatch(r"\d+[km]?", w) for w in under):  # end to end is the whole
        return "", ""
    if tokens & over and "per" in under and under & {"w", "watt", "watts"}:
        return "tokens_per_j", ""
    if ({*tokens, "tps", "throughput"} & over) and under & {"gpu", "card", "device", "user", "client", "stream"}:
        return "", ""
    if (tokens and "first" in have) or "ttft" in have:
        return "ttft", unit
    if "tps" in have or "throughput" in have or (tokens & over and _UNITS.get(words[at + 1] if under else "") == "s"):
        return "" if have & {"request", "requests", "req", "items", "total"} else "throughput_tok_s", ""
    if tokens & over and under & {"joule", "joules", "j"}:
        return "tokens_per_j", ""
    if under:
        per = "token" if tokens & under else "request" if under & {"request", "query", "inference"} else ""
        if per and (energy or unit == "J"):
            return f"energy_per_{per}", unit
        return ("itl", unit) if per == "token" and over & {"tpot", "time", "latency"} else ("", "")
    if energy or unit in ("Wh", "kWh"):
        return "energy" + next((f"_{part}" for part, marks in PARTS.items() if have & marks), ""), unit
    for name, marks in STEMS.items():
        if have & marks:
            return ("", "") if have & (PARTS["cpu"] | PARTS["ram"]) or (name == "duration" and have & PARTS["gpu"]) else (name, unit)
    if tokens and have & {"output", "generated", "completion", "gen"}:
        return "tokens_out", ""
    if have & {"count", "number", "num", "total", "n"} and (named := have & {"request", "requests", "items"}):
        return "n_items" if "items" in named else "requests", ""
    return "", ""


def our_name(text: str) -> str:
    """A header in snake case, with its usual synonyms as our names."""
    words = "_".join(words_of(text))
    words = re.sub(r"[^a-z0-9._]+", "_", words).strip("_")
    plain = re.sub(r"^(avg|mean|average)_", "", words)
    return _WORDS.get(words, _WORDS.get(plain, plain if plain in ("energy_j", "energy_wh", "output_tokens", "throughput_tok_s") else words))


@cache
def our_column(column: str) -> tuple[str, float]:
    """Our name for a printed header, and what its figures are multiplied by: `Energy (kJ)` is (`energy_j`, 1000).

    What no synonym covers is read by its words. A header that means nothing here comes back in snake case. Raises UserError for a unit that
    may be two, such as `mwh`.
    """
    if match := PER_TOKEN.fullmatch(re.sub(r"[\s_()\[\]]+", " ", str(column)).strip()):
        many = match["n"].lower().replace("million", "1m").replace("thousand", "1k")
        count = float(many.rstrip("km ") or 1) * {"k": 1e3, "m": 1e6}.get(many[-1:], 1)
        if (joules := cells.factor(match["unit"], "J")) is not None:
            return ("energy_j_per_1k_tok", joules) if count == 1e3 else ("energy_j_per_token", joules / count)
    found = spelt_out(column)
    if found[0] in RECOGNISED or set(words_of(column)) & MACHINE:
        return found
    name, unit = meaning(column)
    by_words = _with_unit(name, unit) if unit else (name, 1.0)
    return by_words if by_words[0] in RECOGNISED else found


@cache
def spelt_out(column: str) -> tuple[str, float]:
    """`our_column` of a header that has the usual spelling. Raises UserError for a unit that may be two."""
    text = str(column).strip().removeprefix("\ufeff")
    unit = ""
    if match := re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]\s*", text):
        text, unit = match[1], match[2].strip()
    elif text.endswith("%"):
        text, unit = text[:-1], "%"
    text = _ENDINGS.get(text.strip().lower(), text)
    if not unit and re.search(r"_(mj|mwh|mw)$", text, re.I):
        text, unit = text.rsplit("_", 1)
    name = our_name(text)
    if unit.lower() in _ENDINGS:
        suffix = _ENDINGS[unit.lower()]
        name = name if name.endswith(f"_{suffix}") else our_name(f"{name}_{suffix}")
    elif unit:
        return _with_unit(name, unit)
    return CONVERSIONS.get(name, (name, 1.0))


def _with_unit(name: str, unit: str) -> tuple[str, float]:
    """A name with a physical unit, brought to ours."""
    stem = re.sub(r"_(j|wh|kwh|s|w|gb)$", "", name)
    spelt = cells.spelt(unit)
    if spelt in ("Wh", "kWh"):
        name = our_name(f"{stem}_{spelt.lower()}")
        return CONVERSIONS.get(name, (name, 1.0))
    for ours, ends in (("J", "wh" if spelt.endswith("Wh") else "j"), ("s", "s"), ("W", "w"), ("GB", "gb")):
        if (times := cells.factor(unit, ours)) is not None:
            return our_name(f"{stem}_{ends}"), times / 3600 if ends == "wh" else times
    plain = our_name(f"{name}_{re.sub(r'[^a-z0-9]+', '_', unit.lower()).strip('_')}")
    return CONVERSIONS.get(plain, (plain, 1.0))


def ambiguous(column: str) -> str:
    """Why a header cannot be read, "" where it can."""
    try:
        our_column(column)
    except UserError as error:
        return str(error)
    return ""


def meant(column: object) -> tuple[str, float]:
    """`our_column`, with "" for a header whose unit may be two."""
    return ("", 1.0) if ambiguous(str(column)) else our_column(str(column))


def unit_of(name: str) -> tuple[str, float]:
    """The kind of unit (a key of cells.KINDS) of one of our quantities and what it is a multiple of: `energy_wh` is ("J", 3600)."""
    if name in ("accuracy", "score"):
        return "fraction", 1.0
    if name.startswith(("energy_", "idle_energy")) and not name.endswith("pct"):
        return "J", {"energy_wh": 3600.0, "energy_kwh": 3.6e6}.get(name, 1.0)
    return next(((unit, 1.0) for end, unit in (("tok_s", ""), ("_s", "s"), ("_w", "W"), ("_gb", "GB")) if name.endswith(end)), ("", 1.0))


def boards(name: object) -> tuple[int, str]:
    """How many cards a name states, and the card: `8 x NVIDIA A40`, `A40 (x8)`, `['A10G', 'A10G']`. 1 where it says none."""
    if isinstance(name, str) and name.strip().startswith("["):
        try:
            name = ast.literal_eval(name.strip())
        except (ValueError, SyntaxError):
            name = str(name)
    if isinstance(name, list | tuple):
        if len(set(map(str, name))) == 1:
            return len(name), str(name[0])
        return 1, ", ".join(map(str, name))
    match = BOARDS.fullmatch(" ".join(str(name).split()))
    return (int(match[1] or match[3] or 1), match[2]) if match else (1, str(name))
