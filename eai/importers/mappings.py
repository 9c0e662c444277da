"""The mapping language: what another table calls the things that we name. `import` and `check` read the same file.

One direction, ours to theirs, and theirs is a column or an expression over columns (eai/expressions.py); docs/importing.md explains every
key. Nothing is guessed: a boundary, a basis and every part of the configuration has to be said.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

import pandas as pd

from eai import schema
from eai.errors import UserError
from eai.expressions import LONGEST, column_of, evaluate, nearest, read_document  # noqa: F401 (windows and imports read them here)
from eai.importers import cells

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
UNITS = {"_s": "s", "_w": "W", "_gb": "GB"}


def unit_of(name: str) -> str:
    """The unit that our name is in, a key of cells.KINDS; "" for a count or a rate."""
    if name == "score":
        return "fraction"
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "") if not name.endswith("tok_s") else ""


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
    document = read_document(Path(__file__).with_name("formats.yaml"))
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
