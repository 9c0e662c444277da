"""The mapping language: what another table calls the things that we name. `import` and `check` read the same file.

One direction, ours to theirs, and theirs is a column or an expression over columns::

    source: my power logger
    energies:
      - {column: gpu_kwh, unit: kWh, boundary: gpu, basis: measured, words: NVML counter}
    columns:
      quantization: method
      duration_s: mean_ms * batches / 1000        # arithmetic
      tokens_out: first(new_tokens, `tokens / s` * seconds)   # the first that is stated; odd names in backticks
      score: exact_match
    units: {score: percent}
    constants: {gpu: rtx4090, batch_size: 1, input_tokens: 512, output_tokens: 256}
    options: {engine: framework, num_gpus: gpus, temperature: temp}
    block: run              # only where the source measured every configuration once a run
    ignore: [note]          # differs within a configuration and is no factor
    rows: results.runs      # where the rows stand in nested JSON; fill_down and split repair what people type

Nothing is guessed: a boundary, a basis and every part of the configuration has to be said. An expression is parsed and walked here; it can
name columns, reckon and call the functions below, and nothing else.
"""

import ast
import difflib
import fnmatch
import re
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from eai import schema
from eai.errors import UserError
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
UNITS = {"_s": "s", "_w": "W", "_gb": "GB"}


def unit_of(name: str) -> str:
    """The unit that our name is in, a key of cells.KINDS; "" for a count or a rate."""
    if name == "score":
        return "fraction"
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "") if not name.endswith("tok_s") else ""


def nearest(name: str, known) -> str:
    """`; the nearest: a, b` for a message, "" where nothing is near."""
    lower = {str(k).lower(): str(k) for k in known}
    near = [lower[k] for k in difflib.get_close_matches(str(name).lower(), list(lower), 3, 0.5)]
    inside = [k for low, k in lower.items() if str(name).lower().rsplit(".", 1)[-1] in low]
    found = list(dict.fromkeys([*near, *inside]))[:3]
    return f"; the nearest: {', '.join(f[:60] for f in found)}" if found else ""


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
        if self.unit and self.unit not in cells.ENERGY_UNITS:
            cells.conversion(self.unit, "J", f"energy column {self.column}")


@dataclass(frozen=True)
class Mapping:
    """How to read one foreign table; the fields are the keys of a mapping file, explained above.

    `columns`, `options`: our name -> their column or an expression; `values`: our name -> their value -> ours; `failed`: a column that is
    not empty, or not among `passed`, where the row failed. `same_machine`: a column and the value that says that a row counted the whole
    machine, so that rows of one time are one run; `check`: what `eai check` reads beside. `known`: a tool's own
    mapping, whose absent columns are left out.
    """

    source: str
    energies: tuple[Energy, ...]
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    values: dict[str, dict] = field(default_factory=dict)
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
    wrong = sorted(set(document) - known)
    if wrong:
        do = "our name stands left and theirs right, under `columns`" if set(map(str, document.values())) & set(OURS) else ""
        raise UserError(f"mapping keys {', '.join(wrong)}", f"some of {', '.join(sorted(known))}", do)
    if not (base or document.get("energies")):
        raise UserError("a mapping without energies", f"some of {', '.join(sorted(known))}, energies among them")
    for name in _DICTS:
        if not isinstance(document.get(name, {}), dict):
            raise UserError(f"{name} of the mapping is {str(document[name])[:40]!r}", "pairs of our name: theirs")
    for name in _LISTS:
        if not isinstance(document.get(name, []), list):
            raise UserError(f"{name} of the mapping is {str(document[name])[:40]!r}", "a list in [ ]")
    rest = {k: tuple(str(v) for v in document[k]) for k in _LISTS if k in document}
    rest |= {k: document[k] for k in document if k not in (*_LISTS, "energies")}
    if "energies" in document:
        rest["energies"] = _energies(document["energies"])
    if base is None:
        return _checked(Mapping(**({"source": "unnamed"} | rest)))
    merged = {name: getattr(base, name) | rest.get(name, {}) for name in _DICTS} | {"ignore": base.ignore + rest.get("ignore", ())}
    return _checked(replace(base, **(rest | merged)))


def _checked(mapping: Mapping) -> Mapping:
    """The mapping, with names that are ours. Raises UserError for one that is not."""
    for name in (*mapping.columns, *mapping.constants, *mapping.units):
        if name not in OURS:
            raise UserError(f"mapped to {name}", f"one of our names{nearest(name, OURS)}", "other factors go under `options`")
    return mapping


def _energies(entries: object) -> tuple[Energy, ...]:
    """The energy columns of a mapping. Raises UserError for an entry that is none."""
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"energies of the mapping: {str(entries)[:40]!r}", "a list of {column: ..., unit: ..., boundary: ..., basis: ...}")
    try:
        return tuple(Energy(**({"unit": ""} | e)) for e in entries)
    except TypeError as error:
        raise UserError(f"an energy of the mapping: {error}", f"{', '.join(f.name for f in fields(Energy))}") from None


def with_constants(mapping: Mapping, constants: dict[str, object]) -> Mapping:
    """The mapping with values that hold for every row; they go before a column for the same."""
    columns = {ours: theirs for ours, theirs in mapping.columns.items() if ours not in constants}
    options = {ours: theirs for ours, theirs in mapping.options.items() if ours not in constants}
    return _checked(replace(mapping, columns=columns, options=options, constants=mapping.constants | constants))


def read_document(path: Path) -> object:
    """The document of a mapping file, YAML or JSON. Raises UserError for one that is missing or neither."""
    import yaml

    if not path.is_file():
        raise UserError(f"no mapping file {path}", "YAML or JSON as docs/importing.md shows", "check the path")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{where} is neither YAML nor JSON", "keys and values as docs/importing.md shows", "correct that line"
        ) from None


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


# --- expressions

_PLACE = re.compile(r"`([^`]+)`")
_BINARY = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.true_divide, ast.Pow: np.power}
_COMPARED = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne"}
LONGEST = 500


def column_of(text: object, frame: pd.DataFrame) -> str | None:
    """The column that a mapping's right side names as it stands; None where it is an expression or a number."""
    return str(text) if isinstance(text, str) and text in frame.columns else None


def evaluate(text: object, frame: pd.DataFrame, used: set | None = None) -> pd.Series:
    """The column or the expression `text` over the rows of `frame`; the columns that it reads are added to `used`.

    Raises UserError for a name that is no column, with the nearest, and for anything that is no arithmetic, comparison, choice
    (`a if b == 'x' else c`), element (`names[0]`) or call of first, seconds, total, min, max, abs, round, lower or text.
    """
    if (name := column_of(text, frame)) is not None:
        (set() if used is None else used).add(name)
        return frame[name]
    if isinstance(text, bool | int | float):
        return pd.Series(text, index=frame.index)
    return _Walk(str(text), frame, set() if used is None else used).value()


class _Walk:
    """One expression over one table."""

    def __init__(self, text: str, frame: pd.DataFrame, used: set):
        self.text, self.frame, self.used, self.quoted = text, frame, used, {}
        if len(text) > LONGEST:
            raise self.wrong("is too long")
        plain = _PLACE.sub(self._placeholder, text)
        try:
            self.tree = ast.parse(plain.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise UserError(
                f"no column '{text[:60]}', and it is no expression{nearest(text, frame.columns)}", "a column or arithmetic"
            ) from None

    def _placeholder(self, match: re.Match) -> str:
        name = f"_q{len(self.quoted)}"
        self.quoted[name] = match[1]
        return name

    def wrong(self, what: str) -> UserError:
        """The error of this expression."""
        return UserError(
            f"the expression '{self.text[:60]}' {what}", "columns, numbers, + - * / and first, seconds, total, min, max, round"
        )

    def value(self) -> pd.Series:
        """The value row by row."""
        found = self.walk(self.tree)
        return found if isinstance(found, pd.Series) else pd.Series(found, index=self.frame.index)

    def name(self, node: ast.AST) -> str | None:
        """The dotted name that a node spells, None where it spells none."""
        if isinstance(node, ast.Name):
            return self.quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (head := self.name(node.value)) is not None:
            return f"{head}.{node.attr}"
        return None

    def column(self, name: str) -> pd.Series:
        """A column of the table. Raises UserError with the nearest names where there is none."""
        if name not in self.frame.columns:
            raise UserError(
                f"no column {name}", f"a column of the table{nearest(name, self.frame.columns)}", "backticks go around odd names"
            )
        self.used.add(name)
        return self.frame[name]

    def number(self, node: ast.AST):
        """A node as numbers."""
        found = self.walk(node)
        is_text = isinstance(found, pd.Series) and not pd.api.types.is_numeric_dtype(found)
        return pd.Series(cells.floats(found), index=found.index) if is_text else found

    def walk(self, node: ast.AST):
        """The value of a node: a Series, a number or a text."""
        if (name := self.name(node)) is not None:
            return self.column(name)
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as constant):
                return constant
            case ast.UnaryOp(op=ast.USub()):
                return -self.number(node.operand)
            case ast.BinOp() if type(node.op) in _BINARY:
                left, right = self.number(node.left), self.number(node.right)
                if isinstance(left, str) or isinstance(right, str):
                    raise self.wrong("reckons with text")
                with np.errstate(all="ignore"):
                    return _BINARY[type(node.op)](np.float64(left) if np.isscalar(left) else left, right)
            case ast.Compare(ops=[op]) if type(op) in _COMPARED:
                left, right = self.walk(node.left), self.walk(node.comparators[0])
                left = left if isinstance(left, pd.Series) else pd.Series(left, index=self.frame.index)
                if not isinstance(right, str):
                    left, right = pd.Series(cells.floats(left), index=left.index), self.number(node.comparators[0])
                return getattr(left.astype(str) if isinstance(right, str) else left, _COMPARED[type(op)])(right)
            case ast.IfExp():
                test = self.walk(node.test)
                a, b = (
                    x if isinstance(x, pd.Series) else pd.Series(x, index=self.frame.index)
                    for x in map(self.walk, (node.body, node.orelse))
                )
                return a.where(test.astype(bool), b)
            case ast.Subscript(slice=ast.Constant(value=int() as place)):
                return self.walk(node.value).map(
                    lambda cell: cell[place] if isinstance(cell, list | tuple) and -len(cell) <= place < len(cell) else np.nan
                )
            case ast.Call(func=ast.Name(id=called), keywords=[]) if hasattr(self, f"do_{called}"):
                return getattr(self, f"do_{called}")(*node.args)
        raise self.wrong("cannot be read")

    def do_first(self, *nodes):
        """The first of several that is stated; a column that the table lacks counts as not stated."""
        parts = []
        for node in nodes:
            try:
                parts.append(self.walk(node))
            except UserError as error:
                if not str(error).startswith("no column"):
                    raise
        if not parts:
            raise UserError(f"no column of '{self.text[:60]}'", f"one of them{nearest(self.text, self.frame.columns)}")
        found = pd.Series(np.nan, index=self.frame.index, dtype=object)
        for part in parts:
            found = found.where(found.notna(), part)
        return found.infer_objects()

    def do_seconds(self, node):
        """Seconds of `00:16:07`."""
        return self.walk(node).map(lambda cell: cells.clock_seconds(str(cell)))

    def do_total(self, node):
        """The sum of a list in a cell."""
        return self.walk(node).map(lambda cell: float(np.sum(cell)) if isinstance(cell, list) and cell else np.nan)

    def do_min(self, *nodes):
        """The least of several, row by row."""
        return pd.concat([pd.Series(self.number(n), index=self.frame.index) for n in nodes], axis=1).min(axis=1)

    def do_max(self, *nodes):
        """The greatest of several, row by row."""
        return pd.concat([pd.Series(self.number(n), index=self.frame.index) for n in nodes], axis=1).max(axis=1)

    def do_abs(self, node):
        """Without its sign."""
        return abs(self.number(node))

    def do_round(self, node):
        """The nearest whole number."""
        return np.round(self.number(node))

    def do_lower(self, node):
        """A text in lower case."""
        return self.walk(node).astype(str).str.lower()

    def do_text(self, *nodes):
        """Several joined to one text."""
        parts = [self.walk(n) for n in nodes]
        return sum((p.astype(str) if isinstance(p, pd.Series) else p for p in parts), pd.Series("", index=self.frame.index))


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
                raise UserError(
                    f"the pattern '{pattern}' fits no cell of {name}, such as '{str(frame[name].iloc[0])[:40]}'", "a pattern with {name}"
                )
            for part in parts:
                frame[part] = parts[part].str.strip()
    return frame


def _pattern(text: str) -> str:
    """The regular expression of a pattern. Raises UserError for one that has no part, or is none."""
    found = (
        text
        if "(?P<" in text
        else "".join(
            f"(?P<{piece[1:-1]}>.+?)" if re.fullmatch(r"\{[A-Za-z_]\w*\}", piece) else re.escape(piece)
            for piece in re.split(r"(\{\w+\})", text)
        )
        + "$"
    )
    try:
        if len(text) <= LONGEST and re.compile(found).groupindex:
            return found
    except re.error:
        pass
    raise UserError(f"the pattern '{text[:60]}'", "text with {name} for each part, or a regular expression with named groups")


def expanded(energies: tuple[Energy, ...], frame: pd.DataFrame) -> tuple[Energy, ...]:
    """The energies with a pattern such as `gpu*_energy` as one entry a column, its device named after the column."""
    found = []
    for energy in energies:
        pattern = "*" in energy.column and energy.column not in frame
        names = [str(c) for c in frame.columns if fnmatch.fnmatchcase(str(c), energy.column)] if pattern else []
        found += [replace(energy, column=name, device_id=name) for name in names] or [energy]
    return tuple(found)
