"""What is audited: files as text that can be parsed, opened as bytes and never imported or run; and subjects, what a rule looks at.

A subject is a server's launch, an engine or model load in Python, a generate call, a mapping of a configuration: options with a value and a
place. Spellings differ (`--max-num-seqs`, `maxNumSeqs`, MAX_CONCURRENT_REQUESTS); the table `rules/names.yaml` gives each option one name,
and says how the engines are recognised.
"""

import ast
import io
import json
import math
import operator
import os
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace

import yaml

from eai import catalog, footprint, strategies
from eai.audit.values import UNKNOWN, Symbol
from eai.errors import UserError

RULES = Path(__file__).parent / "rules"
NAMES = yaml.safe_load((RULES / "names.yaml").read_text())
WORDS = SimpleNamespace(**{name: re.compile(pattern) for name, pattern in NAMES["patterns"].items()})
WORDS.__dict__.update({name: tuple(words) for name, words in NAMES["words"].items()})
"""Patterns and lists of words by which code and deployments are read."""
_SPELLINGS = {spelling: name for name, spellings in NAMES["options"].items() for spelling in spellings}
_DTYPES = {spelling: dtype for dtype, spellings in NAMES["dtypes"].items() for spelling in spellings}
_PROGRAMS = {engine: re.compile(rf"^(?:{x['program']})$", re.IGNORECASE) for engine, x in NAMES["engines"].items() if "program" in x}
_IMAGES = {engine: re.compile(x["image"], re.IGNORECASE) for engine, x in NAMES["engines"].items() if "image" in x}
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Option:
    """One option's value, the line it stands in, and in Python the call that gives it."""

    value: object
    line: int
    node: object = None


def canonical(name: str) -> str:
    """The one name of an option: dashes and camel case as underscores, then the table of spellings."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.lstrip("-")).replace("-", "_").replace(".", "_").lower()
    return _SPELLINGS.get(snake, snake)


def engine_of(program: str = "", image: str = "") -> str:
    """The engine that a program or Python module is, or that a container image holds; empty if none."""
    patterns, name = (_IMAGES, image) if image else (_PROGRAMS, program.rpartition("/")[2])
    return next((engine for engine, pattern in patterns.items() if pattern.search(name)), "")


@cache
def params_b(name: str) -> float | None:
    """Parameters [1e9] of a model called `name`: from the catalog, else from the size in its name, else None."""
    try:
        return catalog.model(name).params_total / 1e9
    except UserError:
        stated = catalog.params_in_name(name.rpartition("/")[2].replace(":", "-"))
        return stated / 1e9 if stated else None


@cache
def card(name: str) -> catalog.Gpu | None:
    """The catalog's GPU of that name, however it is decorated (`nvidia-l4`, `NVIDIA-A100-SXM4-80GB`), None if it lists none."""
    whole = re.sub(r"(?i)nvidia[-_ ]?(tesla[-_ ]?)?|tesla[-_ ]|geforce[-_ ]", "", name)
    found = WORDS.cards.search(whole)
    for spelling in (whole, found.group() if found else ""):
        try:
            return catalog.gpu(spelling)
        except UserError:
            continue
    return None


def card_in_text(text: str) -> catalog.Gpu | None:
    """The one card that a text names, None if it names none or several; a line that mentions it in passing names none."""
    if WORDS.several.search(text):
        return None
    text = "\n".join(line for line in text.splitlines() if not WORDS.aside.search(line)) if WORDS.cards.search(text) else ""
    cards = {g.slug: g for word in set(WORDS.cards.findall(text)) if (g := card(word)) is not None}
    return next(iter(cards.values())) if len(cards) == 1 else None


@dataclass
class Subject:
    """One thing with options. `place`: server | engine | load | generate | request | config; `facts`: what else the file states; `is_open`:
    further options may come from elsewhere, so that an absent one is no default."""

    place: str
    engine: str
    line: int
    options: dict[str, Option] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    is_open: bool = False

    def add(self, name: str, value: object, line: int, node: object = None) -> None:
        """Give an option its value; data types in their one spelling."""
        name = canonical(name)
        if name in ("dtype", "compute_dtype", "bnb_4bit_compute_dtype") and isinstance(value, str):
            value = _DTYPES.get(value.removeprefix("torch.").lower(), value.removeprefix("torch."))
        self.options[name] = Option(value, line, node)

    def get(self, name: str) -> object:
        if name in self.options:
            return self.options[name].value
        if name in self.facts:
            return self.facts[name]
        return getattr(self, name) if name in ("engine", "place", "size_b", "spills", "capability", "fits_one", "bits") else None

    @cached_property
    def model(self) -> str:
        given = next((self.options[n].value for n in WORDS.model_places if n in self.options), self.facts.get("model", ""))
        return given if isinstance(given, str) and not isinstance(given, Symbol) else ""

    @cached_property
    def size_b(self) -> float | None:
        return params_b(self.model) if self.model else None

    @cached_property
    def gpu(self) -> catalog.Gpu | None:
        named = self.options.get("gpu")
        known = card(named.value) if named is not None and isinstance(named.value, str) else None
        return known or self.facts.get("gpu")

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether published and computed figures apply: of text that a GPU decodes to be read; not of a CPU, an encoder, a benchmark."""
        task = " ".join(str(self.get(name) or "") for name in ("task", "runner", "convert"))
        is_measured = self.get("device") not in ("cpu", "mps") and not self.facts.get("benchmarks")
        return is_measured and not WORDS.encoders.search(f"{task} {self.model}")

    @property
    def capability(self) -> float | None:
        return self.gpu.compute_capability if self.gpu else None

    @property
    def cards(self) -> int | None:
        """How many cards share the model, None where the file states no number."""
        given = [self.options[n].value for n in ("tensor_parallel_size", "num_gpus", "pipeline_parallel_size") if n in self.options]
        known = [int(str(x)) for x in given if str(x).isdigit()]
        return max(known) if known else (None if given or self.facts.get("several_cards") else 1)

    @property
    def strategy(self) -> str:
        """The strategy that flags, data type and the model's name amount to; 16 bit where they say nothing."""
        quantization = str(self.get("quantization") or "")
        if self.get("load_in_4bit") is True or WORDS.four_bits.search(f"-{quantization}") or WORDS.four_bits.search(self.model):
            return "nf4"
        if self.get("load_in_8bit") is True or WORDS.eight_bits.search(f"-{quantization}") or WORDS.eight_bits.search(self.model):
            return "int8_default"
        if quantization in strategies.STRATEGIES:
            return quantization
        if quantization in ("bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4"):
            return "int8_default" if self.engine == "tgi" and quantization == "bitsandbytes" else "nf4"
        return "fp32" if self.get("dtype") == "float32" else "fp16"

    @property
    def bits(self) -> float:
        return strategies.get(self.strategy).weight_bits

    @cached_property
    def need(self) -> tuple[float, float] | None:
        """(memory needed at batch 1, memory usable on one card) in GB; None where model or card are not known."""
        if self.gpu is None or self.gpu.memory_gb is None or not self.model:
            return None
        available = footprint.available_gb(self.gpu)
        try:
            return footprint.footprint(self.model, self.strategy).memory_gb, available
        except UserError:
            weights = self.size_b * strategies.get(self.strategy).weight_bits / 8 if self.size_b else None
            return (weights, available) if weights else None

    @property
    def spills(self) -> bool:
        return self.need is not None and self.cards == 1 and self.need[0] > self.need[1]

    @property
    def fits_one(self) -> bool | None:
        """Whether one card holds the model with a third of its memory left for the KV cache, None where that is unknown."""
        return None if self.need is None else self.need[0] <= 0.67 * self.need[1]


def meets(value: object, wanted: object, is_open: bool) -> bool:
    """Whether an option's value is what a rule wants: a value, one of a list, present, absent, unknown, `{not: [...]}` or `< 16`."""
    if isinstance(wanted, dict):
        if "all" in wanted:
            return all(meets(value, w, is_open) for w in wanted["all"])
        return not meets(value, wanted["not"], is_open)
    if isinstance(wanted, list):
        return any(meets(value, w, is_open) for w in wanted)
    if wanted in ("absent", "unknown"):
        is_unknown = value is UNKNOWN or isinstance(value, Symbol)
        return is_unknown if wanted == "unknown" else value is None and not is_open
    if value is None or value is UNKNOWN or wanted == "present":
        return value is not None and value is not UNKNOWN
    if isinstance(wanted, bool):
        return value is wanted or (isinstance(value, str) and value.lower() in (("true", "1", "") if wanted else ("false", "0")))
    if isinstance(wanted, str) and wanted.startswith("~"):
        return re.search(wanted[1:], str(value)) is not None
    comparison = re.fullmatch(r"([<>]=?) *(\S+)", wanted) if isinstance(wanted, str) else None
    if comparison or isinstance(wanted, int | float):
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except ValueError:
            return False
        return _COMPARE[comparison[1] if comparison else "=="](number, float(comparison[2] if comparison else wanted))
    return str(value).lower() == wanted.lower()


MAX_BYTES, MAX_NOTEBOOK_BYTES = 2_000_000, 100_000_000  # a notebook's pictures are large, its code is not
READS = "Python, notebooks, JSON, YAML, TOML, Triton's pbtxt, shell, systemd, Terraform, Dockerfile, Makefile, Procfile or Modelfile"
_KINDS = {name: kind for kind, names in NAMES["files"].items() for name in names}


def _words(*groups: str) -> tuple[bytes, ...]:
    """The words of some groups of `relevant` in rules/names.yaml, as bytes."""
    return tuple(w.encode() for g in groups for item in NAMES["relevant"][g] for w in (item if isinstance(item, list) else [item]))


_RELEVANT = dict.fromkeys(("python", "notebook"), _words("code")) | dict.fromkeys(("config", "settings"), _words("servers", "settings"))


@dataclass(frozen=True)
class Unit:
    """One piece of text to check: a file, or a notebook's code cells joined. `cell_starts`: each cell's first line (from 1) in `text`;
    `shell_lines`: (line, text) of a notebook's `!` lines and shell cells; `unread`: (line, reason) of cells that do not parse."""

    path: str
    kind: str
    text: str
    cell_starts: tuple[tuple[int, int], ...] = ()
    shell_lines: tuple[tuple[int, str], ...] = ()
    unread: tuple[tuple[int, str], ...] = ()
    transformers_4: bool = False

    @cached_property
    def is_test(self) -> bool:
        """Whether the file holds tests, named or placed as pytest and unittest expect them, or settings for them."""
        path = Path(self.path)
        is_placed = bool({"tests", "test_data"} & set(path.parts))
        if self.kind not in ("python", "notebook"):
            return is_placed
        is_named = is_placed or path.stem.startswith("test_") or path.stem.endswith("_test")
        return is_named and re.search(r"^\s*(async )?def test_", self.text, re.MULTILINE) is not None

    def where(self, line: int) -> tuple[int, int | None]:
        """(line, cell) of a line of `text`: for a notebook the line inside its cell and the cell's number from 1, else (line, None)."""
        if not self.cell_starts:
            return line, None
        start, cell = max((s for s in self.cell_starts if s[0] <= line), default=self.cell_starts[0])
        return line - start + 1, cell

    def environment(self, name: str) -> dict[str, str]:
        """The variables of an environment file, looked for where it is named and beside this file; empty where there is none."""
        folder = Path(self.path).parent
        for path in (folder / name.lstrip("-"), folder / Path(name).name):
            try:
                if path.stat().st_size < 200_000:
                    pairs = re.findall(r"(?m)^\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*$", path.read_text())
                    return {variable: value.strip("\"'") for variable, value in pairs}
            except (OSError, ValueError):
                continue
        return {}


class Unreadable(Exception):
    """Why a file cannot be audited, in words for the report."""


def kind_of(path: Path) -> str | None:
    """What the file is audited as, by its suffix or the beginning of its name (`files` in rules/names.yaml); None if that names none."""
    name = path.name.lower()
    start = ".env" if name.startswith(".env.") else name.partition(".")[0]
    return _KINDS.get(name) or _KINDS.get(path.suffix.lower()) or _KINDS.get(start)


def find(paths: list[str | Path]) -> Iterator[Path]:
    """Every auditable file under `paths`, sorted, links to folders apart. Raises UserError for a path that is empty or does not exist."""
    for given in paths:
        if not str(given).strip():
            raise UserError("an empty path", "a file or folder to audit", "name it; . is the current folder")
        path = Path(given)
        if not path.exists():
            raise UserError(f"{path} does not exist", "a file or folder to audit", "check the path")
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            names[:] = sorted(n for n in names if n not in WORDS.skipped_folders)
            yield from (Path(folder, f) for f in sorted(files) if kind_of(Path(f)))


def parse(text: str) -> ast.Module:
    """The syntax tree of a file or of a notebook's cells, which may `await` outside a function. Raises SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, "<audited>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def decode(data: bytes, is_python: bool) -> str:
    """The text of a file: as its Python coding line says, else UTF-8. Raises Unreadable for binary or wrongly encoded bytes."""
    if b"\0" in data:
        raise Unreadable("binary: it contains null bytes")
    try:
        return data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0] if is_python else "utf-8-sig")
    except (SyntaxError, LookupError, UnicodeDecodeError) as error:
        raise Unreadable(f"not readable as text: {error}") from None


def notebook(path: str, text: str, transformers_4: bool = False) -> Unit:
    """The code cells of a notebook as one text; what does not parse is left out and named. Raises Unreadable if it is no notebook."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(n, "".join(c["source"])) for n, c in enumerate(cells, start=1) if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"not a notebook of format 4: {type(error).__name__} {error}") from None
    lines: list[str] = []
    starts, commands, unread = [], [], []
    for number, source in sources:
        first, cell = len(lines) + 1, source.splitlines() or [""]
        starts.append((first, number))
        magic = re.match(r"\s*%%(\w+)", source)
        if magic and magic[1] in ("bash", "sh", "script"):
            commands.append((first + 1, "\n".join(cell[1:])))
        if magic and magic[1] not in ("time", "timeit", "capture"):
            lines += [f"# {line}" for line in cell]
            continue
        continued, plain = False, []
        for at, line in enumerate(cell):
            shell = re.match(r"\s*(?:\w+\s*=\s*)?!(.*)", line)
            if continued:
                commands[-1] = (commands[-1][0], f"{commands[-1][1]}\n{line}")
            elif shell:
                commands.append((first + at, shell[1]))
            elif match := re.match(r"\s*%(?:set_)?env\s+(\w+)[= ](.*)", line):
                commands.append((first + at, f"export {match[1]}={match[2]}"))
            if match := re.match(r"(\s*)%(?:time|timeit)\s+(?:-\w+\s*\d*\s+)*(.+)", line):  # what they run
                plain.append(match[1] + match[2])
            elif match := re.match(r"(\s*)((?:\w+\s*=\s*)?[%!]|\?|%%)", line):  # other magics: a comment, `pass` inside a block
                plain.append(f"{match[1]}pass  # {line.strip()}")
            else:
                plain.append(f"# {line}" if continued or line.rstrip().endswith("?") else line)
            continued = line.rstrip().endswith("\\") and (continued or shell is not None)
        try:
            parse("\n".join(plain))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            unread.append((first, f"line {error.lineno}, {error.msg}" if isinstance(error, SyntaxError) else type(error).__name__))
            plain = [f"# {line}" for line in plain]
        lines += plain
    return Unit(path, "notebook", "\n".join(lines) + "\n", tuple(starts), tuple(commands), tuple(unread), transformers_4)


def _mentions(data: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether one of `words` stands in a line that is neither a comment nor a doctest: most files need no parsing at all."""
    data = data.lower()
    for word in words:
        at = data.find(word)
        while at >= 0:
            line = data[data.rfind(b"\n", 0, at) + 1 : at].lstrip()
            if not line.startswith((b">>>", b"...", b"#")):
                return True
            at = data.find(word, data.find(b"\n", at) + 1 or len(data))
    return False


@cache
def _pins_transformers_4(folder: Path) -> bool:
    """Whether the requirements beside a file, or one folder up, hold transformers below version 5."""
    for path in (place / name for place in (folder, folder.parent) for name in ("requirements.txt", "pyproject.toml", "environment.yml")):
        try:
            if path.stat().st_size < 200_000 and WORDS.pinned.search(path.read_text()):
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False


def read(path: Path) -> Unit | None:
    """The file as a unit, None where nothing in it concerns inference. Raises Unreadable with the reason if it cannot be read."""
    kind = kind_of(path)
    try:
        if not path.is_file():
            raise Unreadable("not a regular file")
        limit = MAX_NOTEBOOK_BYTES if kind == "notebook" else MAX_BYTES
        if path.stat().st_size > limit:
            raise Unreadable(f"{path.stat().st_size / 1e6:.1f} MB: larger than {limit / 1e6:.0f} MB")
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from None
    kind = kind or _guess(data)
    if b"\0" not in data and not _mentions(data, _RELEVANT.get(kind, _words("servers"))):
        return None
    text = decode(data, kind == "python")
    pinned = kind in ("python", "notebook") and _pins_transformers_4(path.resolve().parent)
    return notebook(str(path), text, pinned) if kind == "notebook" else Unit(str(path), kind, text, transformers_4=pinned)


def _guess(data: bytes) -> str:
    """The kind of a file whose name states none, by its first line or its imports. Raises Unreadable for data, prose and anything else."""
    first = data.lstrip()[:200]
    if first.startswith((b"#!/bin", b"#!/usr/bin/env bash", b"#!/usr/bin/env sh", b"[Unit]", b"[Service]")):
        return "shell"
    if re.match(rb"(?i)from\s+\S+(\s+as\s+\S+)?\s*\n", first):
        return "dockerfile"
    if first.startswith((b"{", b"apiVersion", b"services:", b"---")):
        return "config"
    if b"python" in first.partition(b"\n")[0] or re.search(rb"(?m)^(from [\w.]+ import|import) \w", data):
        return "python"
    raise Unreadable(f"not something the audit reads; it reads {READS}")
