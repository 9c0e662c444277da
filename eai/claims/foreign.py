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
from eai.claims.tabular import KEYS, KNOWN, QUANTITIES, build, mapped
from eai.errors import UserError
from eai.importers import cells, mappings, names, reading
from eai.importers.mappings import PER, Mapping

WHOLE_ROWS = 1_000_000
PARTS = {"gpu": "energy_gpu_j", "cpu_package": "energy_cpu_j", "dram": "energy_ram_j", "machine": "energy_j"}
OURS = {"score": "accuracy", "power_mean_w": "power_w", "memory_peak_gb": "memory_gb"}
LONG = {"columns", "energies", "constants", "units", "split", "fill_down", "rows", "source"}


def read_mapping(path: str | Path) -> Mapping:
    """The mapping file: that of `eai import`, or shorter our name -> their column. Raises UserError for anything but known names."""
    document = mappings.read_document(Path(path))
    if isinstance(document, dict) and not {*document} & LONG:
        document = {"columns": document}
    if not isinstance(document, dict) or not isinstance(document.get("columns", {}), dict):
        raise UserError(f"{path} holds {str(document)[:40]}", "pairs of our name: their column", "docs/importing.md shows them")
    columns, known = {str(k): v for k, v in document.get("columns", {}).items()}, {*KNOWN, *mappings.OURS}
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
    if mapping is None:
        tool = mappings.recognise(layout.names)
        mapping = mappings.tools()[tool] if tool else Mapping("", ())
    else:  # a column that is not there is sentence before the file is read
        made = [a or b for pattern in mapping.split.values() for a, b in re.findall(r"\{(\w+)\}|\(\?P<(\w+)>", pattern)]
        for theirs in mapping.columns.values():
            mappings.evaluate(theirs, pd.DataFrame([dict.fromkeys([*layout.names, *made], "1")]))
    columns, bad = plan(mapping)[0], reading.BadRows(layout.line)
    whole, parts, found, total = [], [], {}, 0
    for batch in reading.csv_blocks(path, layout, bad):
        frame, issues = _plain(batch, bad.numbers(total, batch.num_rows), columns)
        for finding in issues:
            found.setdefault((finding.check, finding.name), finding)
        if total < WHOLE_ROWS:
            whole.append(frame)
        else:
            later = checks.rowwise(build(_ours(frame, mapping), path.name, bad.numbers(total, len(frame)), limits))
            parts.append(later[later["verdict"] == "inconsistent"])
        total += len(frame)
    wrong = sum(bad.widths.values())
    if not total:
        reason = f"{wrong} rows have not the header's {len(layout.names)} fields" if wrong else "no row below the header"
        raise UserError(f"{path}: {reason}", "rows with as many fields as the header", "quote fields that hold the separator")
    frame, found = reading.filled(pd.concat(whole, ignore_index=True) if len(whole) > 1 else whole[0]), list(found.values())
    if wrong:
        widths = ", ".join(f"{n} with {w}" for w, n in bad.widths.most_common(3))
        reason = (
            f"{wrong} rows have another number of fields than the header ({widths}), the first in line {bad.lines[0]}: they were left out"
        )
        reason, claim = f"{reason}; an unquoted separator shifts columns", f"every row has {len(layout.names)} fields"
        found.insert(0, Finding(claim, "inconsistent", reason, check="layout"))
    if total > len(frame):
        reason = f"{total:,} rows: checks that compare rows saw the first {len(frame):,}"
        found.append(Finding("every check applies", "untested", reason, name="rows", check="size"))
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
    return _checked(frame.drop(columns=texts).join(plain), path, mapping, limits, numbers, found)


def _checked(frame, path: Path, mapping: Mapping, limits, numbers, found: list[Finding], parts=(), bad_lines=()) -> pd.DataFrame:
    """The findings on a frame that was read, with those on its layout and on what was not read; each id once."""
    frame, name = _ours(frame, mapping), path.name
    result = checks.check_table(frame, name=name, limits=limits, line_numbers=numbers)
    found, columns = list(found), list(map(str, frame.columns))
    for column in columns:
        if why := names.ambiguous(column):
            reason = f"column '{column}' was not checked: {why}"
            found.append(Finding(f"{column} can be read", "untested", reason, name=column, check="columns"))
    if other := [c for c in columns if not names.ambiguous(c) and names.our_column(c)[0] not in KNOWN]:
        shown = ", ".join(o[:40] for o in other[:10]) + (f" and {len(other) - 10} more" if len(other) > 10 else "")
        reason = f"{len(other)} columns were not read: {shown}"
        found.append(Finding("every column means something here", "untested", reason, name="other", check="columns"))
    where = lines(name, np.array(bad_lines) - 2) if len(bad_lines) else name
    rows = to_frame([f.row(name, where if f.check == "layout" else name) for f in found])
    frame = pd.concat([p for p in (rows, result, *parts) if len(p)], ignore_index=True)
    order = np.argsort(frame["verdict"].map(checks.ORDER.index).to_numpy(), kind="stable")
    return frame.iloc[order].drop_duplicates("id").reset_index(drop=True)


def _ours(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """The table with our names where the mapping gives them; what a known tool's mapping names and this table lacks is left out."""
    if not (mapping.columns or mapping.energies or mapping.check):
        return frame
    frame = mappings.prepared(frame, mapping)
    columns, units = plan(mapping)
    return mapped(frame, {k: v for k, v in columns.items() if not mapping.known or mappings.is_readable(v, frame)}, units)


def _plain(batch, numbers: np.ndarray, columns: dict[str, object]) -> tuple[pd.DataFrame, list[Finding]]:
    """An Arrow batch with its quantities as numbers, and findings on mixed units and on cells that are no numbers.

    A column whose cells all carry one unit is renamed as if its header did.
    """
    out, found = {}, []
    named = {str(theirs): ours for ours, theirs in columns.items() if isinstance(theirs, str)}
    for name in batch.schema.names:
        target = named.get(name) or names.meant(name)[0]
        carrying = target and target not in KNOWN and any(q.startswith(f"{target}_") for q in QUANTITIES)
        values = None if target in KEYS and target not in QUANTITIES else _cast(batch.column(name))
        if values is not None or not (target in QUANTITIES or carrying):
            out[name] = batch.column(name).to_pandas() if values is None else values
            continue
        text = batch.column(name).to_pandas()
        values, units, unread = cells.numeric(text)
        stated = {u: n for u, n in units.items() if n}
        if len(stated) > 1:
            shown = ", ".join(f"{n} in '{u}'" if u else f"{n} without a unit" for u, n in stated.items())
            reason = f"column '{name}' mixes units: {shown}"
            found.append(Finding(f"{name} has one unit", "inconsistent", reason, name=name, check="units"))
        if len(unread) and (target in QUANTITIES or len(unread) < len(values)):
            first = f"the first '{str(text.iloc[unread[0]])[:30]}' in line {numbers[unread[0]]}"
            reason = f"column '{name}': {len(unread)} cells are no number, {first}"
            found.append(Finding(f"{name} is a number", "inconsistent", reason, name=name, check="cells"))
        unit = max((u for u in stated if u), key=lambda u: stated[u], default="")
        renamed = f"{name} ({unit})"
        out[renamed if unit and name not in named and names.meant(renamed)[0] in QUANTITIES else name] = values
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
