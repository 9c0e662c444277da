"""Tables that other tools wrote, as data frames: CSV with any usual separator, JSON, JSON lines, Parquet.

Nested JSON becomes columns with dots, `report.decode.energy.gpu`. What cannot be read is one line, never a guess.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eai.errors import UserError

DELIMITERS = ",;\t|"
KINDS = ".csv, .tsv, .txt, .json, .jsonl or .parquet"


def read_tables(files: Sequence[str | Path]) -> pd.DataFrame:
    """The rows of several files of one tool, one below the other. Raises UserError for the first that cannot be read."""
    return pd.concat([read_table(file) for file in files], ignore_index=True)


def read_table(file: str | Path) -> pd.DataFrame:
    """The rows of a file. Raises UserError for one that is missing, empty, binary, ragged, or not what its name says."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no file {path}", f"a table: {KINDS}", "check the path")
    if path.suffix == ".parquet":
        return _parquet(path)
    text = read_text(path)
    if not text.strip(" \t\r\n,;"):
        raise UserError(f"{path} is empty", "a table with a header line")
    return _json(path, text) if path.suffix in (".json", ".jsonl") else _csv(path, text)


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


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0][:80]})", "a Parquet table") from None


def _document(path: Path, text: str, line: int = 0) -> object:
    """One JSON document; `line` is the line of the file that it stands in, 0 for the whole file."""
    try:
        return json.loads(text)
    except ValueError as error:
        where = line or getattr(error, "lineno", 1)
        raise UserError(f"{path}, line {where} is not JSON ({getattr(error, 'msg', error)})", "a JSON document") from None


def _json(path: Path, text: str) -> pd.DataFrame:
    """A list of objects, one object, or one a line, flattened."""
    if path.suffix == ".jsonl":
        found = [_document(path, line, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    else:
        found = _document(path, text)
    rows = found if isinstance(found, list) else [found]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no rows", "an object, or a list of objects")
    return pd.json_normalize(rows)


def _csv(path: Path, text: str) -> pd.DataFrame:
    """The rows below the header; with a semicolon between fields, a comma is a decimal point. Raises UserError for a ragged row."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        numbered = [(rows.line_num, [cell.strip() for cell in row]) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}", "a CSV table", "repair that line") from None
    header = numbered[0][1]
    for line, row in numbered[1:]:
        if len(row) != len(header):
            expected = f"{len(header)}, as the header has"
            raise UserError(f"{path}, line {line} has {len(row)} fields", expected, "quote fields that hold the separator")
    named = [name or f"column {i}" for i, name in enumerate(header, start=1)]
    frame = pd.DataFrame([row for _, row in numbered[1:]], columns=named)
    return _with_points(frame) if _delimiter(text) == ";" else frame


def _delimiter(text: str) -> str:
    """What separates the fields of the header."""
    first = next(line for line in text.splitlines() if line.strip())
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark))))


def _with_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with `0,5` as `0.5` in every cell that is a number so written."""
    return frame.replace(r"^\s*([+-]?\d+),(\d+(?:[eE][+-]?\d+)?)\s*$", r"\1.\2", regex=True)
