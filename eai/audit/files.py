"""Files to audit as text that can be parsed: found, decoded, and notebooks taken apart; whatever cannot be read is skipped with a reason.

Nothing is imported or run: files are opened as bytes only.
"""

import ast
import io
import json
import os
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from eai.audit.subjects import NAMES
from eai.errors import UserError

MAX_BYTES, MAX_NOTEBOOK_BYTES = 2_000_000, 100_000_000  # a notebook's pictures are large, its code is not
READS = "Python, notebooks, JSON, YAML, TOML, Triton's pbtxt, shell, systemd, Terraform, Dockerfile, Makefile, Procfile or Modelfile"
_KINDS = {name: kind for kind, names in NAMES["files"].items() for name in names}
_SKIPPED_FOLDERS = {".git", ".hg", "node_modules", "__pycache__", ".ipynb_checkpoints", ".venv", "venv", ".tox"}
_PINNED = re.compile(r"(?m)^[ \t\"'-]*transformers(\[[\w,]*\])?[\s\"']*(==|~=|<=?)[\s\"']*[34]\.|transformers[^\n]{0,40}<\s*5")


def _words(*groups: str) -> tuple[bytes, ...]:
    """The words of some groups of `relevant` in rules/names.yaml, as bytes."""
    return tuple(w.encode() for g in groups for item in NAMES["relevant"][g] for w in (item if isinstance(item, list) else [item]))


_RELEVANT = dict.fromkeys(("python", "notebook"), _words("code")) | dict.fromkeys(("config", "settings"), _words("servers", "settings"))
_RELEVANT["modelfile"] = (b"parameter",)


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
    """Every auditable file under `paths`, sorted within a folder, and files named directly whatever their suffix; links to folders are not
    followed. Raises UserError for a path that is empty or does not exist."""
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
            names[:] = sorted(n for n in names if n not in _SKIPPED_FOLDERS)
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
    """The code cells of a notebook as one text; magics are taken off, shell lines kept apart, cells that do not parse left out and named.
    Raises Unreadable if it is no notebook."""
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
            if path.stat().st_size < 200_000 and _PINNED.search(path.read_text()):
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
