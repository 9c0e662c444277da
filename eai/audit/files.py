"""Files to audit as text that can be parsed: found, decoded, and notebooks taken apart; whatever cannot be read is skipped with a reason.

Nothing is imported or run: files are opened as bytes only.
"""

import io
import json
import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from eai.errors import UserError

MAX_BYTES = 2_000_000
KINDS = {
    ".py": "python",
    ".ipynb": "notebook",
    ".json": "config",
    ".yaml": "config",
    ".yml": "config",
    ".toml": "shell",
    ".sh": "shell",
    ".bash": "shell",
    ".service": "shell",
    ".env": "shell",
}
NAMED = {"Dockerfile": "shell", "Modelfile": "shell", "Makefile": "shell"}
_SKIPPED_FOLDERS = {".git", ".hg", "node_modules", "__pycache__", ".ipynb_checkpoints", ".venv", "venv", ".tox"}
_SERVERS = (b"vllm", b"text-generation-", b"nvidia-smi", b"llama-", b"ollama", b"OLLAMA", b"sglang", b"PARAMETER num_gpu")
_CODE = (
    b"from_pretrained(",
    b".generate(",
    b"BitsAndBytesConfig",
    b"nvmlDeviceGet",
    b"pipeline(",
    b"AutoTokenizer",
    b"load_in_8bit",
    b"load_in_4bit",
)
_SETTINGS = (
    b"load_in_8bit",
    b"load_in_4bit",
    b"use_cache",
    b"max_num_seqs",
    b"max-num-seqs",
    b"max_batch_size",
    b"max_concurrent_requests",
    b"bfloat16",
    b"bf16",
    b"attn_implementation",
    b"enforce_eager",
    b"quantization",
)
_CODE += (
    b"max_new_tokens",
    b"per_token",
    b"generated_text",
    b"import ollama",
    b"api/generate",
    b"EmissionsTracker",
    b"power.draw",
    b"nvidia-smi",
    b"vllm serve",
    b"from vllm",
    b"import vllm",
    b"text-generation-launcher",
    b"llama-server",
    b"ollama serve",
)
_RELEVANT = {"python": _CODE, "notebook": _CODE, "config": _SETTINGS + _SERVERS, "shell": _SERVERS}


@dataclass(frozen=True)
class Unit:
    """One piece of text to check: a file, or a notebook's code cells joined; `cell_starts` gives each cell's first line (1-based) in
    `text`."""

    path: str
    kind: str
    text: str
    cell_starts: tuple[tuple[int, int], ...] = ()

    @cached_property
    def is_test(self) -> bool:
        """Whether the file holds tests: named or placed as pytest and unittest expect them, with test functions in it."""
        path = Path(self.path)
        is_named = path.stem.startswith("test_") or path.stem.endswith("_test") or "tests" in path.parts
        return is_named and re.search(r"^\s*(async )?def test_", self.text, re.MULTILINE) is not None

    def where(self, line: int) -> tuple[int, int | None]:
        """(line, cell) of a line of `text`: for a notebook the line inside its cell and the cell's number from 1, else (line, None)."""
        if not self.cell_starts:
            return line, None
        start, cell = max((s for s in self.cell_starts if s[0] <= line), default=self.cell_starts[0])
        return line - start + 1, cell


class Unreadable(Exception):
    """Why a file cannot be audited, in words for the report."""


def kind_of(path: Path) -> str | None:
    """What the file is audited as: python, notebook, config or shell; None if it is none of them."""
    return KINDS.get(path.suffix.lower()) or NAMED.get(path.name)


def find(paths: list[str | Path]) -> Iterator[Path]:
    """Every auditable file under `paths`, sorted within a folder; links to folders are not followed.

    A file named directly is yielded whatever its suffix. Raises UserError for a path that does not exist.
    """
    for given in map(Path, paths):
        if not given.exists():
            raise UserError(f"{given} does not exist", "a file or folder to audit", "check the path")
        if not given.is_dir():
            yield given
            continue
        for folder, names, files in os.walk(given):
            names[:] = sorted(n for n in names if n not in _SKIPPED_FOLDERS)
            yield from (Path(folder, f) for f in sorted(files) if kind_of(Path(f)))


def decode(data: bytes, is_python: bool) -> str:
    """The text of a file: as its Python coding line says, else UTF-8. Raises Unreadable for binary or wrongly encoded bytes."""
    if b"\0" in data:
        raise Unreadable("binary: it contains null bytes")
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0] if is_python else "utf-8-sig"
        return data.decode(encoding)
    except (SyntaxError, LookupError, UnicodeDecodeError) as error:
        raise Unreadable(f"not readable as text: {error}") from None


def _notebook(path: str, text: str) -> Unit:
    """The code cells of a notebook as one text, magics and shell lines turned into comments. Raises Unreadable if it is no notebook."""
    try:
        cells = json.loads(text)["cells"]
        sources = [(n, "".join(c["source"])) for n, c in enumerate(cells, start=1) if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"not a notebook of format 4: {type(error).__name__} {error}") from None
    lines, starts = [], []
    for number, source in sources:
        starts.append((len(lines) + 1, number))
        foreign = source.lstrip().startswith("%%")
        lines += [f"#{line}" if foreign or line.lstrip().startswith(("%", "!", "?")) else line for line in source.split("\n")]
    return Unit(path, "notebook", "\n".join(lines) + "\n", tuple(starts))


def _mentions(data: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether one of `words` stands in a line that is neither a comment nor a doctest: most files need no parsing at all."""
    for word in words:
        at = data.find(word)
        while at >= 0:
            line = data[data.rfind(b"\n", 0, at) + 1 : at].lstrip()
            if not line.startswith((b">>>", b"...", b"#")):
                return True
            at = data.find(word, at + 1)
    return False


def read(path: Path) -> Unit | None:
    """The file as a unit, None where nothing in it concerns inference. Raises Unreadable with the reason if it cannot be read."""
    kind = kind_of(path) or "python"
    try:
        if not path.is_file():
            raise Unreadable("not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable(f"{path.stat().st_size / 1e6:.1f} MB: larger than {MAX_BYTES / 1e6:.0f} MB")
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from None
    if b"\0" not in data and not _mentions(data, _RELEVANT[kind]):
        return None
    text = decode(data, kind == "python")
    return _notebook(str(path), text) if kind == "notebook" else Unit(str(path), kind, text)
