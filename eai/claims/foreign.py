"""A stranger's table, read defensively and in pieces: shifted columns, odd numbers, mixed units, any size, known tools' own formats.

What cannot be read is a finding with its line, never a guess: a row with too many fields is left out, since nobody can say which comma
was meant as part of a number. A mapping file is the one that `import` reads.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eai.claims import checks
from eai.claims.findings import Finding, lines, to_frame
from eai.claims.quantities import KEYS, KNOWN, QUANTITIES
from eai.claims.tabular import build, mapped
from eai.errors import UserError
from eai.importers import cells, mappings, names, reading
from eai.importers.mappings import PER, Mapping

WHOLE_ROWS = 1_000_000
PARTS = {"gpu": "energy_gpu_j", "cpu_package": "energy_cpu_j", "dram": "energy_ram_j", "machine": "energy_j"}
OURS = {"score": "accuracy", "power_mean_w": "power_w", "memory_peak_gb": "memory_gb"}


def read_mapping(path: str | Path) -> Mapping:
    """The mapping file: that of `eai import`, or shorter our name -> their column. Raises UserError for anything but known names."""
    document = mappings.read_document(Path(path))
    if isinstance(document, dict) and not {*document} & {
        "columns",
        "energies",
        "constants",
        "units",
        "split",
        "fill_down",
        "rows",
        "source",
    }:
        document = {"columns": document}
    if not isinstance(document, dict) or not isinstance(document.get("columns", {}), dict):
        raise UserError(f"{path} holds {str(document)[:40]}", "pairs of our name: their column", "docs/importing.md shows them")
    columns = {str(k): v for k, v in document.get("columns", {}).items()}
    known = {*KNOWN, *mappings.OURS}
    for ours, theirs in columns.items():
        if ours not in known:
            turned = "; our name stands left and theirs right" if str(theirs) in known else mappings.nearest(ours, known)
            raise UserError(f"the mapping names '{ours}'", f"a known name{turned}", "correct the mapping")
    units = {str(k): str(v) for k, v in document.get("units", {}).items()}
    units |= {"score": str(document["score_unit"])} if "score_unit" in document else {}
    for ours, unit in units.items():
        if kind := names.unit_of(ours)[0]:
            cells.conversion(unit, kind, ours)
    rest = {k: v for k, v in document.items() if k not in ("columns", "units", "score_unit")}
    return replace(mappings.mapping_from(rest, Mapping("", ())), columns=columns, units=units)


def plan(mapping: Mapping) -> tuple[dict[str, object], dict[str, str]]:
    """What the checks take from a mapping: our quantity -> their column or expression, and the units that it states."""
    columns = {OURS.get(k, k): v for k, v in mapping.columns.items()} | {k: v for k, v in mapping.options.items() if k in KNOWN}
    units = {OURS.get(k, k): v for k, v in mapping.units.items()}
    for energy in mapping.energies:
        name = PARTS[energy.boundary] if PER[energy.per] == "run" else f"energy_j_per_{PER[energy.per]}"
        columns.setdefault(name, energy.column)
        units.setdefault(name, energy.unit)
    columns |= {k: v if isinstance(v, int | float) else repr(str(v)) for k, v in mapping.constants.items() if k in KNOWN and v != "?"}
    return {k: v for k, v in columns.items() if k in KNOWN} | mapping.check, units


def check_file(path: str | Path, mapping: Mapping | None = None, limits: pd.DataFrame | None = None) -> pd.DataFrame:
    """The findings on a file, one row each, inconsistent ones first; the table of a known tool is read by its own mapping.

    The first million rows get every check; what follows gets the checks that look at one row at a time, block by block, so memory
    stays bounded. Raises UserError, in one line, for a file without a readable row.
    """
    path = Path(path)
    if path.suffix in (".json", ".jsonl", ".parquet", ".md"):
        return _check_whole(path, mapping, limits)
    layout = reading.csv_layout(path)
    if len(layout.names) < 2:
        raise UserError(f"{path} has one column, '{layout.names[0][:40]}'", "columns separated by comma, semicolon, tab or bar")
    mapping = _completed(mapping, layout.names)
    columns = plan(mapping)[0]
    bad = reading.BadRows(layout.line)
    whole, parts, found, total, kept = [], [], [], 0, 0
    for batch in reading.csv_blocks(path, layout, bad):
        frame, issues = _plain(batch, bad.numbers(total, batch.num_rows), columns)
        found += [f for f in issues if (f.check, f.name) not in {(g.check, g.name) for g in found}]
        if total < WHOLE_ROWS:
            whole.append(frame)
            kept += len(frame)
        else:
            parts.append(_later(frame, bad.numbers(total, len(frame)), path.name, mapping, limits))
        total += len(frame)
    if not total:
        reason = (
            f"{sum(bad.widths.values())} rows have not the header's {len(layout.names)} fields" if bad.widths else "no row below the header"
        )
        raise UserError(f"{path}: {reason}", "rows with as many fields as the header", "quote fields that hold the separator")
    frame = reading.filled(pd.concat(whole, ignore_index=True) if len(whole) > 1 else whole[0])
    found = _layout(bad, len(layout.names)) + found
    if total > kept:
        found.append(
            Finding(
                "size", "every check applies", "untested", f"{total:,} rows: checks that compare rows saw the first {kept:,}", name="rows"
            )
        )
    return _checked(frame, path, mapping, limits, bad.numbers(0, len(frame)), found, parts, bad.lines)


def _check_whole(path: Path, mapping: Mapping | None, limits: pd.DataFrame | None) -> pd.DataFrame:
    """The findings on a file that is read at once: JSON, Parquet, Markdown."""
    import pyarrow as pa

    from eai.importers.imports import load

    frame, base = load([path], "", {"rows": mapping.rows} if mapping else {})
    mapping = mapping or base or Mapping("", ())
    frame = frame[[c for c in frame if not str(c).startswith(reading.FILE)]]
    numbers = np.arange(len(frame)) + 2
    texts = [c for c in frame if frame[c].map(lambda cell: isinstance(cell, str) or cell is None).all()]
    batch = pa.RecordBatch.from_arrays([pa.array(frame[c].fillna(""), pa.string()) for c in texts], names=list(map(str, texts)))
    plain, found = _plain(batch, numbers, plan(mapping)[0]) if texts else (frame[[]], [])
    return _checked(frame.drop(columns=texts).join(plain), path, mapping, limits, numbers, found, [], [])


def _completed(mapping: Mapping | None, columns: list[str]) -> Mapping:
    """The user's mapping, or that of the tool whose columns these are. Raises UserError for a column that is not there."""
    if mapping is None:
        tool = mappings.recognise(columns)
        return mappings.tools()[tool] if tool else Mapping("", ())
    row = pd.DataFrame([dict.fromkeys([*columns, *_parts(mapping)], "1")])
    for theirs in mapping.columns.values():
        mappings.evaluate(theirs, row)
    return mapping


def _parts(mapping: Mapping) -> list[str]:
    """The columns that splitting makes."""
    return [a or b for pattern in mapping.split.values() for a, b in re.findall(r"\{(\w+)\}|\(\?P<(\w+)>", pattern)]


def _checked(frame, path: Path, mapping: Mapping, limits, numbers, found: list[Finding], parts: list, bad_lines: list[int]) -> pd.DataFrame:
    """The findings on a frame that was read, with those on its layout and on what was not read."""
    frame = _ours(frame, mapping)
    result = checks.check_table(frame, name=path.name, limits=limits, line_numbers=numbers)
    return _together(path.name, [*found, *_meaningless(frame)], bad_lines, [result, *parts])


def _ours(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """The table with our names where the mapping gives them; what a known tool's mapping names and this table lacks is left out."""
    if not (mapping.columns or mapping.energies or mapping.check):
        return frame
    frame = mappings.prepared(frame, mapping)
    columns, units = plan(mapping)
    return mapped(frame, {k: v for k, v in columns.items() if not mapping.known or _has(v, frame)}, units)


def _has(text: object, frame: pd.DataFrame) -> bool:
    try:
        return len(mappings.evaluate(text, frame.head(1))) >= 0
    except UserError:
        return False


def _meaningless(frame: pd.DataFrame) -> list[Finding]:
    """What no check could read: columns whose unit may be two, and columns that mean nothing here."""
    found = []
    for column in map(str, frame.columns):
        if why := names.ambiguous(column):
            found.append(Finding("columns", f"{column} can be read", "untested", f"column '{column}' was not checked: {why}", name=column))
    other = [c for c in map(str, frame.columns) if not names.ambiguous(c) and names.our_column(c)[0] not in KNOWN]
    if other:
        shown = ", ".join(o[:40] for o in other[:10]) + (f" and {len(other) - 10} more" if len(other) > 10 else "")
        found.append(
            Finding(
                "columns", "every column means something here", "untested", f"{len(other)} columns were not read: {shown}", name="other"
            )
        )
    return found


def _plain(batch, numbers: np.ndarray, columns: dict[str, object]) -> tuple[pd.DataFrame, list[Finding]]:
    """An Arrow batch with its quantities as numbers, and findings on mixed units and on cells that are no numbers.

    A column whose cells all carry one unit is renamed as if its header did.
    """
    known, out, found = QUANTITIES, {}, []
    named = {str(theirs): ours for ours, theirs in columns.items() if isinstance(theirs, str)}
    for name in batch.schema.names:
        cells_ = batch.column(name)
        target = named.get(name) or ("" if names.ambiguous(name) else names.our_column(name)[0])
        carrying = target and target not in known and target not in KEYS and any(q.startswith(f"{target}_") for q in known)
        if target not in known and not carrying:
            out[name] = cells_.to_pandas() if target in KEYS else _typed(cells_)
            continue
        values = _cast(cells_)
        if values is not None:
            out[name] = values
            continue
        text = cells_.to_pandas()
        values, units, unread = cells.numeric(text)
        stated = {u: n for u, n in units.items() if n}
        if len(stated) > 1:
            shown = ", ".join(f"{n} in '{u}'" if u else f"{n} without a unit" for u, n in stated.items())
            found.append(Finding("units", f"{name} has one unit", "inconsistent", f"column '{name}' mixes units: {shown}", name=name))
        if len(unread) and (target in known or len(unread) < len(values)):
            first = f"the first '{str(text.iloc[unread[0]])[:30]}' in line {numbers[unread[0]]}"
            reason = f"column '{name}': {len(unread)} cells are no number, {first}"
            found.append(
                Finding(
                    "cells",
                    f"{name} is a number",
                    "inconsistent",
                    reason,
                    positions=tuple(np.asarray(unread, dtype=np.int64).tolist()),
                    name=name,
                )
            )
        unit = max((u for u in stated if u), key=lambda u: stated[u], default="")
        renamed = f"{name} ({unit})"
        fits = unit and name not in named and not names.ambiguous(renamed) and names.our_column(renamed)[0] in known
        out[renamed if fits else name] = values
    return pd.DataFrame(out), found


def _cast(column) -> np.ndarray | None:
    """An Arrow column of text as floats, empty cells as NaN; None where a cell is something else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        filled = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        return pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _typed(column) -> object:
    """An Arrow column of text as numbers where all of it is, else as text."""
    found = _cast(column)
    return column.to_pandas() if found is None else found


def _layout(bad: reading.BadRows, fields: int) -> list[Finding]:
    """The finding on rows of another width, if there are any."""
    if not bad.widths:
        return []
    widths = ", ".join(f"{n} with {w}" for w, n in bad.widths.most_common(3))
    where = f", the first in line {bad.lines[0]}" if bad.lines else ""
    reason = f"{sum(bad.widths.values())} rows have another number of fields than the header ({widths}){where}: they were left out"
    return [Finding("layout", f"every row has {fields} fields", "inconsistent", f"{reason}; an unquoted separator shifts columns")]


def _later(frame, numbers, name: str, mapping: Mapping, limits: pd.DataFrame | None) -> pd.DataFrame:
    """What the row-by-row checks find wrong in a later block."""
    rows = checks.rowwise(build(_ours(frame, mapping), name, numbers, limits))
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
    order = frame["verdict"].map({"inconsistent": 0, "not decided": 1, "consistent": 2, "untested": 3}).to_numpy()
    return frame.iloc[np.argsort(order, kind="stable")].drop_duplicates("id").reset_index(drop=True)
