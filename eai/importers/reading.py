"""Tables that other tools wrote, as data frames of text and numbers: CSV with any usual separator, Markdown, JSON, JSON lines, Parquet.

Nested JSON becomes columns with dots, `report.decode.energy.gpu`; `rows` says where its rows stand. What cannot be read is one line, never
a guess: a row with too many fields is reported with its line, since nobody can say which comma was meant as part of a number.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from eai.errors import UserError

DELIMITERS = ",;\t|"
KINDS = ".csv, .tsv, .txt, .md, .json, .jsonl or .parquet"
ROWS_A_BLOCK = 50_000
BLOCK_BYTES = 64 << 20
MOST_BAD_LINES = 1_000
MLLOG = ":::MLLOG "
FILE = "file."
"""What the names of a file say stands in columns `file.name`, `file.stem` and `file.path`."""


def read_table(file: str | Path, rows: str = "") -> pd.DataFrame:
    """The rows of a file. Raises UserError for one that is missing, empty, binary, ragged, or not what its name says."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no file {path}", f"a table: {KINDS}", "check the path")
    if path.suffix == ".parquet":
        frame = _parquet(path)
    elif path.suffix in (".json", ".jsonl"):
        frame = flat(read_documents(path), rows, path)
    else:
        frame = _text(path)
    return frame.assign(**{f"{FILE}name": path.name, f"{FILE}stem": path.stem, f"{FILE}path": str(path)})


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark, or in Latin-1. Raises UserError for what is no text."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})", "a file of text", "check the path") from None
    if b"\0" in content:
        raise UserError(f"{path} is not text", f"a table: {KINDS}, text in UTF-8", "save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_json(path: Path) -> object:
    """The document of a JSON file. Raises UserError where it is none, with the line."""
    if not path.is_file():
        raise UserError(f"no file {path}", "a JSON document", "check the path")
    return _document(path, read_text(path))


def read_documents(path: Path) -> list:
    """The documents of a JSON file: one, or one a line."""
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path} is empty", "a JSON document")
    if path.suffix == ".jsonl":
        return [_document(path, line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return [_document(path, text)]


def _document(path: Path, text: str, line: int = 0) -> object:
    """One JSON document; `line` is the line of the file that it stands in, 0 for the whole file."""
    try:
        return json.loads(text)
    except ValueError as error:
        where = line or getattr(error, "lineno", 1)
        raise UserError(f"{path}, line {where} is not JSON ({getattr(error, 'msg', error)})", "a JSON document") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply", "a table of rows") from None


def flat(documents: list, rows: str, path: Path) -> pd.DataFrame:
    """The rows of JSON documents as a table: objects, a list of objects, or what stands at `rows`; `*` takes the values of an object, each
    named by its key in a column `key`. Scalars beside the rows become columns too."""
    found = []
    for document in documents:
        found += _rows_at(document, [part for part in rows.split(".") if part], path, rows)
    if not found or not all(isinstance(row, dict) for row in found):
        raise UserError(f"{path} holds no rows{f' at {rows}' if rows else ''}", "an object, or a list of objects", "say where with `rows`")
    try:
        return pd.json_normalize(found)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply", "a table of rows") from None


def _rows_at(node: object, parts: list[str], path: Path, rows: str) -> list:
    """The rows below a node, with the scalars that stand beside the way to them."""
    if isinstance(node, list):
        return [row for each in node for row in _rows_at(each, parts, path, rows)] if parts else node
    if not parts or not isinstance(node, dict):
        return [node]
    if parts[0] == "*":
        return [{"key": key} | row for key, each in node.items() for row in _rows_at(each, parts[1:], path, rows) if isinstance(row, dict)]
    if parts[0] not in node:
        raise UserError(f"{path} has nothing at {rows}", f"one of {', '.join(map(str, list(node)[:8]))}", "correct `rows`")
    beside = {k: v for k, v in node.items() if k != parts[0] and not isinstance(v, list | dict)}
    return [beside | row if isinstance(row, dict) else row for row in _rows_at(node[parts[0]], parts[1:], path, rows)]


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0][:80]})", "a Parquet table") from None


def _text(path: Path) -> pd.DataFrame:
    """A file of text: LoadGen's log, a Markdown table or CSV. Raises UserError for a ragged row."""
    with path.open("rb") as f:
        start = f.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
    if start.startswith(MLLOG.encode()):
        lines = [line.removeprefix(MLLOG) for line in read_text(path).splitlines() if line.startswith(MLLOG)]
        events = [_document(path, line, n) for n, line in enumerate(lines, start=1)]
        return flat([{e["key"]: e.get("value") for e in events if isinstance(e, dict) and "key" in e}], "", path)
    if start.startswith(b"|"):
        return _markdown(path, read_text(path))
    layout = csv_layout(path)
    bad = BadRows(layout.line)
    frames = [block.to_pandas() for block in csv_blocks(path, layout, bad)]
    if bad.first:
        line, width = bad.first
        raise UserError(
            f"{path}, line {line} has {width} fields", f"{len(layout.names)}, as the header has", "quote fields that hold the separator"
        )
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=layout.names)
    frame = frame[frame.ne("").any(axis=1)].reset_index(drop=True)
    return _with_points(frame) if layout.delimiter == ";" else frame


def _markdown(path: Path, text: str) -> pd.DataFrame:
    """The first table of a Markdown file."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.strip().startswith("|")]
    cells = [[cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter="|"))] for line in lines]
    rows = [row for row in cells[1:] if not all(set(cell) <= set("-: ") and cell for cell in row)]
    if wrong := next((row for row in rows if len(row) != len(cells[0])), None):
        raise UserError(f"{path}: the row '{' | '.join(wrong)[:50]}' has {len(wrong)} fields", f"{len(cells[0])}, as the header has")
    return pd.DataFrame(rows, columns=cells[0], dtype=object)


def _with_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with `0,5` as `0.5` in every cell that is a number so written."""
    return frame.replace(r"^\s*([+-]?\d+),(\d+(?:[eE][+-]?\d+)?)\s*$", r"\1.\2", regex=True)


@dataclass(frozen=True)
class Layout:
    """The header of a CSV file: its columns, delimiter, encoding and line."""

    names: list[str]
    delimiter: str
    encoding: str
    line: int


def csv_layout(path: Path) -> Layout:
    """How a CSV file is laid out; lines of remarks (`# ...`) above the header are passed over.

    Raises UserError for a file that is missing, empty, no text, or has two columns of one name.
    """
    if not path.is_file():
        raise UserError(f"no file {path}", "a CSV table")
    with path.open("rb") as f:
        start = f.read(1 << 18)
    if not start.strip(b"\xef\xbb\xbf\r\n\t ,;"):
        raise UserError(f"{path} is empty", "a CSV table with a header line")
    if b"\0" in start:
        raise UserError(f"{path} is not text", "a CSV table in UTF-8")
    try:
        text, encoding = start[: start.rfind(b"\n") + 1 or len(start)].decode("utf-8-sig"), "utf8"
    except UnicodeDecodeError:
        text, encoding = start.decode("latin-1"), "latin1"
    lines = [(n, line) for n, line in enumerate(text.splitlines()) if line.strip()]
    at, first = next(((n, line) for n, line in lines if not line.startswith("#")), lines[0])
    delimiter = max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d))))
    names = [n.strip() for n in next(csv.reader([first], delimiter=delimiter))]
    if twice := [n for n, k in Counter(n for n in names if n).items() if k > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'", "one name a column", "rename one of them")
    return Layout([n or f"column {i + 1}" for i, n in enumerate(names)], delimiter, encoding, at + 1)


@dataclass
class BadRows:
    """Rows whose number of fields is not the header's: how many of each width, and the lines of the first ones."""

    header_line: int
    widths: Counter = field(default_factory=Counter)
    lines: list[int] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    first: tuple[int, int] | None = None

    def note(self, number: int, width: int, is_blank: bool) -> None:
        """Take down a row of `width` cells on line `number` of the file."""
        if is_blank:
            self.blank.append(number)
            return
        self.widths[width] += 1
        self.first = self.first or (number, width)
        if len(self.lines) < MOST_BAD_LINES:
            self.lines.append(number)

    def numbers(self, first: int, rows: int) -> np.ndarray:
        """File lines of `rows` good rows, the first of which is good row number `first` (0-based)."""
        number = np.arange(first, first + rows) + self.header_line + 1
        for line in sorted(self.lines + self.blank):
            number[number >= line] += 1
        return number


def csv_blocks(path: Path, layout: Layout, bad: BadRows) -> Iterator:
    """The file in Arrow batches of text columns, cells without spaces around them; rows of another width go to `bad`.

    Arrow reads until it meets such a row; from there Python's csv module does. (Arrow could call `bad` itself, but a thread of its own
    would free that function while the interpreter ends, and abort.) Raises UserError for what is no CSV.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as arrow_csv

    names, good = layout.names, 0
    read = arrow_csv.ReadOptions(
        column_names=names, skip_rows=layout.line, block_size=BLOCK_BYTES, encoding=layout.encoding, use_threads=False
    )
    parse = arrow_csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True, ignore_empty_lines=len(names) == 1)
    convert = arrow_csv.ConvertOptions(column_types={n: pa.string() for n in names}, strings_can_be_null=False)
    try:
        with arrow_csv.open_csv(path, read, parse, convert) as reader:
            for batch in reader:
                good += batch.num_rows
                yield pa.RecordBatch.from_arrays([pc.utf8_trim_whitespace(column) for column in batch.columns], names=names)
    except pa.ArrowInvalid as error:
        text = str(error)
        if "Empty CSV" in text or "no rows" in text.lower():
            return
        if "columns, got" not in text:
            raise UserError(f"{path}: {text.splitlines()[0]}", "a CSV table", "repair that line") from None
        for rows in _ragged_rows(path, layout, bad, good):
            columns = zip(*rows, strict=True)
            yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names=names)


def _ragged_rows(path: Path, layout: Layout, bad: BadRows, skip: int) -> Iterator[list[list[str]]]:
    """Blocks of rows of the header's width, without the first `skip` of them; every other row goes to `bad`."""
    names, rows, seen = layout.names, [], 0
    with path.open(encoding="utf-8-sig" if layout.encoding == "utf8" else layout.encoding, newline="", errors="replace") as file:
        for _ in range(layout.line):
            next(file)
        reader = csv.reader(file, delimiter=layout.delimiter)
        try:
            for row in reader:
                number = layout.line + reader.line_num
                if not row and len(names) == 1:
                    continue
                if len(row) != len(names):
                    bad.note(number, len(row), is_blank=not any(cell.strip() for cell in row) and len(row) <= 1)
                    continue
                seen += 1
                if seen > skip:
                    rows.append([cell.strip() for cell in row])
                if len(rows) == ROWS_A_BLOCK:
                    yield rows
                    rows = []
        except csv.Error as error:
            raise UserError(f"{path}, line {layout.line + reader.line_num}: {error}", "a CSV table", "repair that line") from None
    if rows:
        yield rows


def read_tables(files: Sequence[str | Path], rows: str = "") -> pd.DataFrame:
    """The rows of several files of one tool, one below the other. Raises UserError for the first that cannot be read."""
    return pd.concat([read_table(file, rows) for file in files], ignore_index=True)
