"""A stranger's CSV, read defensively and in pieces: shifted columns, odd numbers, mixed units, BOM, any size.

What cannot be read is a finding with its line, never a guess: a row with too many fields is left out, since nobody can say which comma
was meant as part of a number.
"""

import csv
import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from eai.claims import checks, quantities
from eai.claims.findings import Finding, lines, to_frame
from eai.claims.quantities import numeric
from eai.claims.tabular import build
from eai.errors import UserError

BLOCK_BYTES = 64 << 20
WHOLE_ROWS = 1_000_000
MOST_BAD_LINES = 1_000
DELIMITERS = ",;\t|"


def read_mapping(path: str | Path) -> dict[str, str]:
    """The mapping file (JSON or YAML): their column to our name. Raises UserError for anything but known names."""
    if not Path(path).is_file():
        raise UserError(f"no mapping file {path}", "a JSON or YAML file {their column: our name}")
    import yaml

    try:
        mapping = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]})", "JSON or YAML {their column: our name}") from None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise UserError(f"{path} holds {json.dumps(mapping)[:40]}", "{their column: our name}, both text")
    known = {*quantities.QUANTITIES, *quantities.KEYS, *quantities.CONVERSIONS}
    for theirs, ours in mapping.items():
        if ours not in known:
            near = difflib.get_close_matches(ours, known, 3)
            raise UserError(f"the mapping sends '{theirs}' to '{ours}'", f"a known name{', perhaps ' + ' or '.join(near) if near else ''}")
    return {str(k): v for k, v in mapping.items()}


def _header(path: Path) -> tuple[list[str], str, str, int]:
    """Column names, delimiter, encoding and the header's line. Raises UserError for a file that is missing, empty or no table."""
    if not path.is_file():
        raise UserError(f"no file {path}", "a CSV table")
    with path.open("rb") as f:
        start = f.read(65536)
    if not start.strip(b"\xef\xbb\xbf\r\n\t ,;"):
        raise UserError(f"{path} is empty", "a CSV table with a header line")
    if b"\0" in start:
        raise UserError(f"{path} is not text", "a CSV table in UTF-8")
    try:
        text, encoding = start[: start.rfind(b"\n") + 1 or len(start)].decode("utf-8-sig"), "utf8"
    except UnicodeDecodeError:
        text, encoding = start.decode("latin-1"), "latin1"
    at, first = next((n, line) for n, line in enumerate(text.splitlines()) if line.strip())
    delimiter = max(DELIMITERS, key=lambda d: len(next(csv.reader([first], delimiter=d))))
    names = [n.strip() for n in next(csv.reader([first], delimiter=delimiter))]
    if len(names) < 2:
        raise UserError(f"{path} has one column, '{first[:40]}'", "columns separated by comma, semicolon, tab or bar")
    if twice := [n for n, k in Counter(n for n in names if n).items() if k > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'", "one name a column", "rename one of them")
    return [n or f"column {i + 1}" for i, n in enumerate(names)], delimiter, encoding, at + 1


class _Bad:
    """Rows whose number of fields is not the header's: how many of each width, and the lines of the first ones."""

    def __init__(self, header_line: int):
        self.header_line = header_line
        self.widths: Counter = Counter()
        self.lines: list[int] = []
        self.blank: list[int] = []

    def __call__(self, row) -> str:
        """What pyarrow calls for such a row; always `skip`."""
        if not row.text.strip():
            self.blank.append(row.number)
            return "skip"
        self.widths[row.actual_columns] += 1
        if len(self.lines) < MOST_BAD_LINES and row.number is not None:
            self.lines.append(row.number)
        return "skip"

    def numbers(self, first: int, rows: int) -> np.ndarray:
        """File lines of `rows` good rows, the first of which is good row number `first` (0-based)."""
        number = np.arange(first, first + rows) + self.header_line + 1
        for line in sorted(self.lines + self.blank):
            number[number >= line] += 1
        return number

    def finding(self, fields: int) -> list[Finding]:
        """The finding on the layout, if there is one."""
        if not self.widths:
            return []
        widths = ", ".join(f"{n} with {w}" for w, n in self.widths.most_common(3))
        where = f", the first in line {self.lines[0]}" if self.lines else ""
        reason = f"{sum(self.widths.values())} rows have another number of fields than the header ({widths}){where}: they were left out"
        return [Finding("layout", f"every row has {fields} fields", "inconsistent", f"{reason}; an unquoted separator shifts columns")]


def _blocks(path: Path, names: list[str], delimiter: str, encoding: str, bad: _Bad) -> Iterator[pd.DataFrame]:
    """The file in blocks of text columns; rows of another width go to `bad`. Raises UserError for what is no CSV."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    read = arrow_csv.ReadOptions(
        column_names=names, skip_rows=bad.header_line, block_size=BLOCK_BYTES, encoding=encoding, use_threads=False
    )
    parse = arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=bad, newlines_in_values=True, ignore_empty_lines=False)
    convert = arrow_csv.ConvertOptions(column_types={n: pa.string() for n in names}, strings_can_be_null=False)
    try:
        with arrow_csv.open_csv(path, read, parse, convert) as reader:
            for batch in reader:
                yield batch.to_pandas()
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error) or "no rows" in str(error).lower():
            return
        raise UserError(f"{path}: {str(error).splitlines()[0]}", "a CSV table", "repair that line") from None


def _plain(block: pd.DataFrame, numbers: np.ndarray, mapping: dict[str, str], decimal_comma: bool) -> tuple[pd.DataFrame, list[Finding]]:
    """A block with its quantities as numbers, and findings on mixed units and on cells that are no numbers.

    A column whose cells all carry one unit is renamed as if its header did.
    """
    known = {*quantities.QUANTITIES, *quantities.CONVERSIONS}
    out, found = {}, []
    for name in block:
        target = mapping.get(name) or quantities.plain_name(name)
        carrying = target not in known and target not in quantities.KEYS and any(q.startswith(f"{target}_") for q in known)
        if target not in known and not carrying:
            out[name] = block[name]
            continue
        values, units, unread = numeric(block[name], decimal_comma)
        stated = {u: n for u, n in units.items() if n}
        if len(stated) > 1:
            shown = ", ".join(f"{n} in '{u}'" if u else f"{n} without a unit" for u, n in stated.items())
            found.append(Finding("units", f"{name} has one unit", "inconsistent", f"column '{name}' mixes units: {shown}", name=name))
        if len(unread) and (target in known or len(unread) < len(values)):
            first = f"the first '{str(block[name].iloc[unread[0]])[:30]}' in line {numbers[unread[0]]}"
            reason = f"column '{name}': {len(unread)} cells are no number, {first}"
            found.append(Finding("cells", f"{name} is a number", "inconsistent", reason, positions=tuple(map(int, unread)), name=name))
        unit = max((u for u in stated if u), key=lambda u: stated[u], default="")
        renamed = f"{name} ({unit})"
        out[renamed if unit and name not in mapping and quantities.plain_name(renamed) in known else name] = values
    return pd.DataFrame(out), found


def check_file(path: str | Path, mapping: dict[str, str] | None = None, limits: pd.DataFrame | None = None) -> pd.DataFrame:
    """The findings on a CSV file, one row each, inconsistent ones first.

    The first million rows get every check; what follows gets the checks that look at one row at a time, block by block, so memory
    stays bounded. Raises UserError, in one line, for a file without a readable row.
    """
    path, mapping = Path(path), mapping or {}
    names, delimiter, encoding, header_line = _header(path)
    if absent := [k for k in mapping if k not in names]:
        raise UserError(f"the mapping names column '{absent[0]}'", f"one of {', '.join(names)}", "correct the mapping file")
    bad = _Bad(header_line)
    whole, parts, layout, total = [], [], [], 0
    for block in _blocks(path, names, delimiter, encoding, bad):
        if total < WHOLE_ROWS:
            whole.append(block)
        else:
            parts.append(_later(block, bad.numbers(total, len(block)), path.name, mapping, delimiter, limits, layout))
        total += len(block)
    if not total:
        reason = f"{sum(bad.widths.values())} rows have not the header's {len(names)} fields" if bad.widths else "no row below the header"
        raise UserError(f"{path}: {reason}", "rows with as many fields as the header", "quote fields that hold the separator")
    block = pd.concat(whole, ignore_index=True)
    numbers = bad.numbers(0, len(block))
    frame, found = _plain(block, numbers, mapping, delimiter == ";")
    layout = bad.finding(len(names)) + found + layout
    if total > len(block):
        reason = f"{total:,} rows: checks that compare rows saw the first {len(block):,}"
        layout.append(Finding("size", "every check applies", "untested", reason, name="rows"))
    return _together(path.name, layout, bad.lines, [checks.check_table(frame, mapping, path.name, limits, numbers), *parts])


def _later(block, numbers, name: str, mapping: dict, delimiter: str, limits: pd.DataFrame | None, layout: list[Finding]) -> pd.DataFrame:
    """What the row-by-row checks find wrong in a later block; new kinds of layout findings are added to `layout`."""
    frame, found = _plain(block, numbers, mapping, delimiter == ";")
    layout += [f for f in found if (f.check, f.name) not in {(g.check, g.name) for g in layout}]
    rows = checks.rowwise(build(frame, name, mapping, numbers), limits)
    return rows[rows["verdict"] == "inconsistent"]


def _together(name: str, layout: list[Finding], bad_lines: list[int], parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Findings on the layout, then those of the checks; each id once."""
    rows = [
        {"id": f"{name}/{f.check}" + (f"/{f.name}" if f.name else ""), "source": name}
        | {k: getattr(f, k) for k in ("claim", "verdict", "reason", "stated", "computed", "check")}
        | {"rows": lines(name, np.array(bad_lines) - 2) if f.check == "layout" and bad_lines else name}
        for f in layout
    ]
    frame = pd.concat([p for p in (to_frame(rows), *parts) if len(p)], ignore_index=True)
    order = frame["verdict"].map({"inconsistent": 0, "consistent": 1, "untested": 2}).to_numpy()
    return frame.iloc[np.argsort(order, kind="stable")].drop_duplicates("id").reset_index(drop=True)
