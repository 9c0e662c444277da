"""Tables that other tools wrote, as data frames of text and numbers: CSV with any usual separator, Markdown, JSON, JSON lines, Parquet.

Nested JSON becomes columns with dots, `report.decode.energy.gpu`; `rows` says where its rows stand. What cannot be read is one line, never
a guess: a row with too many fields is reported with its line, since nobody can say which comma was meant as part of a number.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import pandas as pd

from eai import cells
from eai.errors import UserError
from eai.importers import mappings
from eai.inputs import documents

DELIMITERS = ",;\t|"
KINDS = ".csv, .tsv, .txt, .md, .json, .jsonl or .parquet"
ROWS_A_BLOCK = 50_000
BLOCK_BYTES = 64 << 20
MOST_BAD_LINES = 1_000
SNIFFED = 400
TELLING = ("energy_", "power_w", "throughput_tok_s", "tokens_per_j")
UNNAMED = "column "
MLLOG = ":::MLLOG "
FILE = "file."
SHARES = frozenset(("cpu", "gpu", "ram", "dram", "total", "prefill", "decode"))  # parts of one result, no results of their own
"""What the names of a file say stands in columns `file.name`, `file.stem` and `file.path`."""


def read_table(file: str | Path, rows: str = "") -> pd.DataFrame:
    """The rows of a file. Raises UserError for one that is missing, empty, binary, ragged, or not what its name says."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no file {path}", f"a table: {KINDS}", "check the path")
    if path.suffix == ".parquet":
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise UserError(f"{path} cannot be read ({str(error).splitlines()[0][:80]})", "a Parquet table") from None
    elif path.suffix in (".json", ".jsonl"):
        frame = flat(read_documents(path), rows, path)
    else:
        frame = _text(path, rows)
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


def read_documents(path: Path) -> list:
    """The documents of a JSON file: one, or one a line. Raises UserError where there is none, with the line."""
    if not (text := read_text(path)).strip():
        raise UserError(f"{path} is empty", "a JSON document")
    return documents(text, path)


def flat(documents: list, rows: str, path: Path) -> pd.DataFrame:
    """The rows of JSON documents as a table: objects, a list of objects, or what stands at `rows`; `*` takes the values of an object, each
    named by its key in a column `key`. What stands beside the rows becomes columns too."""
    found = [row for document in documents for row in _rows_at(document, [part for part in rows.split(".") if part], path, rows)]
    if not found or not all(isinstance(row, dict) for row in found):
        raise UserError(f"{path} holds no rows{f' at {rows}' if rows else ''}", "an object, or a list of objects", "say where with `rows`")
    try:
        return pd.json_normalize(found)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply", "a table of rows") from None


def _rows_at(node: object, parts: list[str], path: Path, rows: str) -> list:
    """The rows below a node, with what stands beside the way to them; a second `*` names its rows in `key2`."""
    if isinstance(node, list):
        return [row for each in node for row in _rows_at(each, parts, path, rows)] if parts else node
    if not parts or not isinstance(node, dict):
        return [node]
    if parts[0] == "*":
        stars = rows.split(".").count("*") - parts.count("*")
        name = f"key{stars + 1}" if stars else "key"
        below = [(key, row) for key, each in node.items() for row in _rows_at(each, parts[1:], path, rows)]
        return [{name: key} | row for key, row in below if isinstance(row, dict)]
    if parts[0] not in node:
        raise UserError(f"{path} has nothing at {rows}", f"one of {', '.join(map(str, list(node)[:8]))}", "correct `rows`")
    beside = {k: v for k, v in node.items() if k != parts[0] and not isinstance(v, list)}
    return [beside | row if isinstance(row, dict) else row for row in _rows_at(node[parts[0]], parts[1:], path, rows)]


def rows_in(path: Path) -> str:
    """Where the rows stand in a JSON file that is no table by itself, "" where that is not plain: at its one list of objects, at most two
    steps down, or in values that have the same keys, three steps down (`mmlu.*`, `*.*`)."""
    found = read_documents(path) if path.suffix == ".json" and path.is_file() else []
    document = found[0] if len(found) == 1 else None
    found = []
    for key, node in document.items() if isinstance(document, dict) else ():
        below = {f"{key}.{k}": v for k, v in node.items()} if isinstance(node, dict) else {key: node}
        found += [k for k, v in below.items() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)]
    return found[0] if len(found) == 1 else _keyed(document, 3)


def _keyed(node: object, deep: int) -> str:
    """The way to objects named by their keys: two or more with the same keys, whose values are no such objects themselves."""
    if not deep or not isinstance(node, dict) or not node:
        return ""
    values = list(node.values())
    below = {_keyed(v, deep - 1) for v in values if isinstance(v, dict)} - {""}
    alike = len(values) > 1 and all(isinstance(v, dict) and set(v) == set(values[0]) for v in values) and not set(node) & SHARES
    if len(below) == 1 and len(values) > 1 and all(isinstance(v, dict) for v in values):
        return f"*.{below.pop()}"
    if len(below) == 1:
        return next(f"{k}.{_keyed(v, deep - 1)}" for k, v in node.items() if _keyed(v, deep - 1))
    return "*" if alike else ""


def _text(path: Path, rows: str) -> pd.DataFrame:
    """A file of text: LoadGen's log, a Markdown table or CSV. Raises UserError for a ragged row."""
    with path.open("rb") as f:
        start = f.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
    if start.startswith(MLLOG.encode()):
        lines = [line.removeprefix(MLLOG) for line in read_text(path).splitlines() if line.startswith(MLLOG)]
        events = documents("\n".join(lines), path)
        return flat([{e["key"]: e.get("value") for e in events if isinstance(e, dict) and "key" in e}], "", path)
    if start.startswith(b"|") or path.suffix == ".md":
        return _markdown(path, read_text(path), rows)
    layout = csv_layout(path)
    bad = BadRows(layout.line)
    frames = [block.to_pandas() for block in csv_blocks(path, layout, bad)]
    if bad.first:
        found = "{}, line {} has {} fields".format(path, *bad.first)
        raise UserError(found, f"{len(layout.names)}, as the header has", "quote fields that hold the separator")
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=layout.names)
    return filled(frame[frame.ne("").any(axis=1)].reset_index(drop=True))


def filled(frame: pd.DataFrame) -> pd.DataFrame:
    """The table without columns that have neither a name nor a cell."""
    return frame.drop(columns=[c for c in frame if str(c).startswith(UNNAMED) and (frame[c].isna() | frame[c].eq("")).all()])


def _markdown(path: Path, text: str, number: str) -> pd.DataFrame:
    """The table of a Markdown file: the one of that number, else the one that has an energy, a power or a throughput.

    Raises UserError where it has none, where several would do, and for a row of another width.
    """
    lines = [line.strip() for line in text.splitlines()]
    is_rule = [bool(line) and set(line) <= set("|-: ") and "|" in line and "-" in line for line in lines]
    tables = []
    for at in (n for n in range(len(lines) - 1) if is_rule[n + 1] and "|" in lines[n]):
        end = next((n for n in range(at, len(lines)) if "|" not in lines[n]), len(lines))
        plain = [re.sub(r"\*\*|`", "", line.strip("|")) for line in lines[at:end]]  # bold figures are figures
        rows = [[re.sub(r"^([*_])(.+)\1$", r"\2", cell.strip()) for cell in next(csv.reader([line], delimiter="|"))] for line in plain]
        tables.append([[re.sub(r"\\([^\w\s])", r"\1", cell).strip() for cell in row] for row in rows])
    telling = [t for t in tables if any(mappings.meant(c)[0].startswith(TELLING) for c in t[0])]
    if number.isdecimal() and 1 <= int(number) <= len(tables):
        telling = [tables[int(number) - 1]]
    if not tables or len(telling) > 1:
        several = "; ".join(f"{tables.index(t) + 1}: {', '.join(t[0])[:60]}, {len(t) - 2} rows" for t in telling[:4])
        held = f"{len(telling)} tables with energies, powers or rates" if tables else "no table"
        do = f"say in a mapping which is meant, `rows: 1` ({several})" if tables else ""
        raise UserError(f"{path} holds {held}", "one table: a line of names, a line of dashes, rows", do)
    header, _, *rows = (telling or tables)[0]
    if wrong := next((row for row in rows if len(row) != len(header)), None):
        raise UserError(f"{path}: the row '{' | '.join(wrong)[:50]}' has {len(wrong)} fields", f"{len(header)}, as the header has")
    commas = decimal_commas(header, rows)
    return pd.DataFrame(rows, columns=header, dtype=object).apply(lambda c: c.map(with_point) if c.name in commas else c)


_COMMA = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:e[-+]?\d+)?(?: ?[^\d\s.,]\S*)?", re.I)
_POINT = re.compile(r"[-+]?\d*\.\d+(?:e[-+]?\d+)?(?: ?[^\d\s.,]\S*)?", re.I)
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:[.,]\d{3})+")


def decimal_commas(header: list[str], rows: list[list[str]], delimiter: str = ",") -> frozenset[str]:
    """The columns in which a comma is the decimal mark: they have such cells, `0,5`, and none with a point, `0.5`.

    `1.234` may be either: it follows the rest of the table, `1,234` too, and semicolons between the fields say that commas are decimal.
    """
    columns = dict(zip(header, ([c.strip() for c in column] for column in zip(*rows, strict=True)), strict=True)) if rows else {}
    grouped = {n: any(map(_GROUPS.fullmatch, cells_)) for n, cells_ in columns.items()}
    plain = {n: [c for c in cells_ if not _GROUPS.fullmatch(c)] for n, cells_ in columns.items()}
    comma, point = ({n for n, cells_ in plain.items() if any(map(mark.fullmatch, cells_))} for mark in (_COMMA, _POINT))
    if not comma - point and (delimiter != ";" or point):
        return frozenset()
    return frozenset((comma - point) | {n for n in columns if grouped[n] and n not in comma | point})


def with_point(cell: str) -> str:
    """`12.345,6` as `12345.6`; what is no number with a decimal comma stays as it is."""
    is_number = isinstance(cell, str) and (_COMMA.fullmatch(cell.strip()) or _GROUPS.fullmatch(cell.strip()))
    return cell.replace(".", "").replace(",", ".") if is_number else cell


@dataclass(frozen=True)
class Layout:
    """The header of a CSV file: its columns, delimiter, encoding, the line it ends on, and the columns with decimal commas."""

    names: list[str]
    delimiter: str
    encoding: str
    line: int
    commas: frozenset[str] = frozenset()


def csv_layout(path: Path) -> Layout:
    """How a CSV file is laid out. Lines of remarks (`# ...`), Excel's `sep=;` and a title above the header are passed over; a header of two
    rows (merged cells over names) is read as its names, a row of units below the header goes into the names.

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
    said = re.fullmatch(r"sep=(.)\s*", lines[0][1], re.I)
    lines = lines[1:] if said else lines
    lines = [pair for pair in lines if not pair[1].startswith("#")] or lines
    delimiter = said[1] if said else _delimiter([line for _, line in lines[:20]])
    rows = list(csv.reader([line for _, line in lines[:SNIFFED]], delimiter=delimiter))
    at = 1 if len(rows) > 2 and len([c for c in rows[0] if c.strip()]) == 1 < len(rows[1]) == len(rows[2]) else 0
    names, used = _header(rows[at:])
    if twice := [n for n, k in Counter(n for n in names if n).items() if k > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'", "one name a column", "rename one of them")
    names = [n or f"{UNNAMED}{i + 1}" for i, n in enumerate(names)]
    body = [row for row in rows[at + used :] if len(row) == len(names)]
    return Layout(names, delimiter, encoding, lines[at + used - 1][0] + 1, decimal_commas(names, body, delimiter))


def _delimiter(lines: list[str]) -> str:
    """The delimiter by which most lines have one width, of two fields or more; the wider where that decides nothing."""
    widths = {d: Counter(len(row) for row in csv.reader(lines, delimiter=d)) for d in DELIMITERS}
    return max(DELIMITERS, key=lambda d: max(((n, width) for width, n in widths[d].items() if width > 1), default=(0, 1)))


def _header(rows: list[list[str]]) -> tuple[list[str], int]:
    """The names of the columns and how many rows they take: merged cells above the names, and units below them, are part of the header."""
    names, used = [n.strip() for n in rows[0]], 1
    is_name = [bool(c.strip()) and not re.match(r"\s*[-+]?[.,]?\d", c) for c in rows[1]] if len(rows) > 2 else []
    if len(is_name) == len(names) and "" in names[:-1] and all(is_name):
        above = list(accumulate(names, lambda a, b: b or a))
        below, used = [c.strip() for c in rows[1]], 2
        names = [f"{over} {name}".strip() if below.count(name) > 1 else name for over, name in zip(above, below, strict=True)]
    units = [c.strip().strip("[]()") for c in rows[used]] if len(rows) > used + 1 else []
    if len(units) == len(names) and any(units) and all(not u or cells.is_unit(u) for u in units):
        names, used = [f"{n} ({u})" if u else n for n, u in zip(names, units, strict=True)], used + 1
    return names, used


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

    def pointed(name: str, column: pa.Array) -> pa.Array:
        return pa.array([with_point(c) for c in column.to_pylist()], pa.string()) if name in layout.commas else column

    read = arrow_csv.ReadOptions(
        column_names=names, skip_rows=layout.line, block_size=BLOCK_BYTES, encoding=layout.encoding, use_threads=False
    )
    parse = arrow_csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True, ignore_empty_lines=len(names) == 1)
    convert = arrow_csv.ConvertOptions(column_types={n: pa.string() for n in names}, strings_can_be_null=False)
    try:
        with arrow_csv.open_csv(path, read, parse, convert) as reader:
            for batch in reader:
                good += batch.num_rows
                columns = [pc.utf8_trim_whitespace(column) for column in batch.columns]
                yield pa.RecordBatch.from_arrays([pointed(n, c) for n, c in zip(names, columns, strict=True)], names=names)
    except pa.ArrowInvalid as error:
        text = str(error)
        if "Empty CSV" in text or "no rows" in text.lower():
            return
        if "columns, got" not in text:
            raise UserError(f"{path}: {text.splitlines()[0]}", "a CSV table", "repair that line") from None
        for rows in _ragged_rows(path, layout, bad, good):
            columns = zip(names, zip(*rows, strict=True), strict=True)
            yield pa.RecordBatch.from_arrays([pointed(n, pa.array(column, pa.string())) for n, column in columns], names=names)


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
