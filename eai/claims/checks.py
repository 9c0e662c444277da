"""All checks on one table, on all tables of one source together, and on a stranger's file; the false-alarm rate is shared out here.

Checks that only do arithmetic on printed figures cannot fail on a table that was computed correctly. Those that weigh chance share the
table's rate of 1 % equally, by Bonferroni. A file is read defensively and in pieces: what cannot be read is a finding with its line, never
a guess; a row with too many fields is left out, since nobody can say which comma was meant as part of a number.
"""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eai import cells
from eai.claims import chance, relations
from eai.claims.tabular import KEYS, KNOWN, MOST_COMPARED, QUANTITIES, Finding, build, lines, stack, to_frame
from eai.errors import UserError
from eai.importers import mappings, reading
from eai.importers.mappings import PER, Mapping
from eai.inputs import yaml_mapping

FALSE_ALARM_RATE = 0.01
ROWWISE = (relations.derived, relations.physical, relations.countable, relations.affine)
CHECKS = (
    relations.derived, relations.reductions, relations.ratios, relations.mislabelled, relations.parts, relations.carbon,
    relations.constant_power, relations.countable, relations.ordering, relations.affine, relations.accounting, relations.physical,
    chance.one_value, chance.copied, chance.two_values, chance.two_changes, chance.kernels,
    chance.scores, chance.chance, chance.serial, chance.structure,
)  # fmt: skip
ORDER = ("inconsistent", "not decided", "consistent", "untested")
WHOLE_ROWS = 1_000_000
PARTS = {"gpu": "energy_gpu_j", "cpu_package": "energy_cpu_j", "dram": "energy_ram_j", "machine": "energy_j"}
OURS = {"score": "accuracy", "power_mean_w": "power_w", "memory_peak_gb": "memory_gb"}


def framed(findings: list[Finding], name: str, numbers=None, source: str = "", owner: np.ndarray | None = None) -> pd.DataFrame:
    """Findings as a data frame, inconsistent ones first; `owner` names each row's table where several were stacked."""
    rows = []
    for f in findings:
        where, at = lines(name, f.positions, numbers), np.asarray(f.positions, dtype=np.int64)
        if owner is not None:
            where = "; ".join(lines(n, at[owner[at] == n], numbers) for n in dict.fromkeys(owner[at])) or name
        rows.append(f.row(name, where, source))
    return to_frame(sorted(rows, key=lambda row: ORDER.index(row["verdict"])))


@np.errstate(all="ignore")  # a stranger's figures may be zero or huge; what is not finite is not checked
def check_table(frame: pd.DataFrame, name="table", limits: pd.DataFrame | None = None, line_numbers=None) -> pd.DataFrame:
    """The findings on anyone's table, one row each (tabular.COLUMNS), inconsistent first; a check that lacks its columns is `untested`.
    `limits`: gpu, tdp_w, idle_power_w. Raises UserError if no column is recognised."""
    table, found = build(frame, name, line_numbers, limits), []
    share = FALSE_ALARM_RATE / sum(check.weighs_chance for check in CHECKS)
    if len(table) > MOST_COMPARED:
        pairwise = "equal figures of different configurations and printed reductions are compared pair by pair, which was left out"
        found.append(Finding("every check applies", "untested", f"{len(table):,} rows: {pairwise}", check="size"))
    for check in CHECKS:
        known = check(table, share) if check.weighs_chance else check(table)
        found += known or [Finding(check.__name__, "untested", f"this check needs {check.needs}", check=check.__name__)]
    return framed(found, name, table.lines)


@np.errstate(all="ignore")
def check_source(frames: dict[str, pd.DataFrame], source: str) -> pd.DataFrame:
    """The findings that only several tables of one source together can give: repeated and conflicting figures."""
    if len(frames) < 2:
        return to_frame([])
    table, owner = stack([build(f, n) for n, f in frames.items()], f"{source} together")
    found = [f for each in (chance.one_value, chance.two_values) for f in each(table, FALSE_ALARM_RATE / 2)]
    across = [f for f in found if f.verdict == "consistent" or len(set(owner[np.asarray(f.positions, np.int64)])) > 1]
    return framed([*across, *chance.restated(table, owner)], table.name, table.lines, source, owner)


def read_mapping(path: str | Path) -> Mapping:
    """The mapping file: that of `eai import`, or shorter our name -> their column. Raises UserError for anything but known names."""
    document = yaml_mapping(Path(path), "a mapping as docs/importing.md shows")
    if isinstance(document, dict) and not {*document} & ({f.name for f in fields(Mapping)} - KNOWN):
        document = {"columns": document}
    if not isinstance(document, dict) or not all(isinstance(document.get(k, {}), dict) for k in ("columns", "units")):
        raise UserError(f"{path} holds {str(document)[:40]}", "pairs of our name: their column", "docs/importing.md shows them")
    columns, known = {str(k): v for k, v in document.get("columns", {}).items()}, {*KNOWN, *mappings.OURS}
    units = {str(k): str(v) for k, v in document.get("units", {}).items()}
    units |= {"score": str(document["score_unit"])} if "score_unit" in document else {}
    for ours, theirs in (*columns.items(), *units.items()):
        if ours not in known:
            turned = "; our name stands left and theirs right" if str(theirs) in known else mappings.nearest(ours, known)
            raise UserError(f"the mapping names '{ours}'", f"a known name{turned}", "correct the mapping")
    for ours, unit in units.items():
        if kind := mappings.unit_of(ours)[0]:
            cells.conversion(unit, kind, ours)
    rest = {k: v for k, v in document.items() if k not in ("columns", "units", "score_unit")}
    return replace(mappings.mapping_from(rest, Mapping("", ())), columns=columns, units=units)


def plan(mapping: Mapping) -> tuple[dict[str, object], dict[str, str]]:
    """What the checks take from a mapping: our quantity -> their column or expression, and the units that it states."""
    columns = {OURS.get(k, k): v for k, v in mapping.columns.items()} | mapping.options
    units = {OURS.get(k, k): v for k, v in mapping.units.items()}
    for energy in mapping.energies:
        name = PARTS[energy.boundary] if PER[energy.per] == "run" else f"energy_j_per_{PER[energy.per]}"
        columns.setdefault(name, energy.column)
        units.setdefault(name, energy.unit)
    columns |= {k: v if isinstance(v, int | float) else repr(str(v)) for k, v in mapping.constants.items() if v != "?"}
    return {k: v for k, v in columns.items() if k in KNOWN} | mapping.check, units


def check_file(path: str | Path, mapping: Mapping | None = None, limits: pd.DataFrame | None = None) -> pd.DataFrame:
    """The findings on a file, one row each, inconsistent ones first; the table of a known tool is read by its own mapping. The first
    million rows get every check; what follows gets the checks that look at one row at a time, block by block, so memory stays bounded.
    Raises UserError, in one line, for a file without a readable row."""
    path = Path(path)
    if path.suffix in (".json", ".jsonl", ".parquet", ".md"):
        return _check_whole(path, mapping, limits)
    layout = reading.csv_layout(path)
    if len(layout.names) < 2:
        raise UserError(f"{path} has one column, '{layout.names[0][:40]}'", "columns separated by comma, semicolon, tab or bar")
    if mapping is None:
        tool = mappings.recognise(layout.names)
        mapping = mappings.tools()[tool] if tool else Mapping("", ())
    else:  # a column that is not there is said before the file is read
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
            table = build(_ours(frame, mapping), path.name, bad.numbers(total, len(frame)), limits)
            with np.errstate(all="ignore"):
                later = framed([f for each in ROWWISE for f in each(table)], table.name, table.lines)
            parts.append(later[later["verdict"] == "inconsistent"])
        total += len(frame)
    wrong = sum(bad.widths.values())
    if not total:
        reason = f"{wrong} rows have not the header's {len(layout.names)} fields" if wrong else "no row below the header"
        raise UserError(f"{path}: {reason}", "rows with as many fields as the header", "quote fields that hold the separator")
    frame, found = reading.filled(pd.concat(whole, ignore_index=True)), list(found.values())
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
    numbers = np.arange(len(frame)) + 1  # a record has no header above it
    texts = [c for c in frame if frame[c].map(lambda cell: isinstance(cell, str) or cell is None).all()]
    batch = pa.RecordBatch.from_arrays([pa.array(frame[c].fillna(""), pa.string()) for c in texts], names=list(map(str, texts)))
    plain, found = _plain(batch, numbers, plan(mapping)[0]) if texts else (frame[[]], [])
    return _checked(frame.drop(columns=texts).join(plain), path, mapping, limits, numbers, found)


def _checked(frame, path: Path, mapping: Mapping, limits, numbers, found: list[Finding], parts=(), bad_lines=()) -> pd.DataFrame:
    """The findings on a frame that was read, with those on its layout and on what was not read; each id once."""
    frame, name = _ours(frame, mapping), path.name
    result = check_table(frame, name, limits, numbers)
    found, columns = list(found), list(map(str, frame.columns))
    for column in columns:
        if why := mappings.ambiguous(column):
            reason = f"column '{column}' was not checked: {why}"
            found.append(Finding(f"{column} can be read", "untested", reason, name=column, check="columns"))
    if other := [c for c in columns if not mappings.ambiguous(c) and mappings.our_column(c)[0] not in KNOWN]:
        shown = ", ".join(o[:40] for o in other[:10]) + (f" and {len(other) - 10} more" if len(other) > 10 else "")
        reason = f"{len(other)} columns were not read: {shown}"
        found.append(Finding("every column means something here", "untested", reason, name="other", check="columns"))
    where = lines(name, np.array(bad_lines) - 2) if len(bad_lines) else name
    rows = to_frame([f.row(name, where if f.check == "layout" else name) for f in found])
    frame = pd.concat([p for p in (rows, result, *parts) if len(p)], ignore_index=True)
    order = np.argsort(frame["verdict"].map(ORDER.index).to_numpy(), kind="stable")
    return frame.iloc[order].drop_duplicates("id").reset_index(drop=True)


def _ours(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """The table with our names where the mapping gives them, in our units: an explicit mapping beats a recognised header. What a known
    tool's mapping names and this table lacks is left out. Raises UserError for columns that are not there."""
    if not (mapping.columns or mapping.energies or mapping.check):
        return frame
    frame, found, (columns, units) = mappings.prepared(frame, mapping), {}, plan(mapping)
    columns = {k: v for k, v in columns.items() if not mapping.known or mappings.is_readable(v, frame)}
    for ours, theirs in columns.items():
        if ours not in KNOWN:
            raise UserError(f"the mapping names '{ours}'", f"a known name{mappings.nearest(ours, KNOWN)}", "correct the mapping")
        found[ours] = mappings.evaluate(theirs, frame)
        kind, multiple = mappings.unit_of(ours)
        unit, header = str(units.get(ours, "")), mappings.column_of(theirs, frame)
        if unit := unit or (cells.header_unit(header, kind) if kind and header else ""):
            found[ours] = pd.Series(cells.numbers(found[ours], kind, unit, ours)[0] / multiple, index=frame.index)
    taken = {*found, *(t for t in columns.values() if isinstance(t, str))}
    rest = [c for c in frame if c not in taken and not mappings.ambiguous(str(c)) and mappings.our_column(str(c))[0] not in found]
    return pd.DataFrame(found, index=frame.index).join(frame[rest])


def _plain(batch, numbers: np.ndarray, columns: dict[str, object]) -> tuple[pd.DataFrame, list[Finding]]:
    """An Arrow batch with its quantities as numbers, and findings on mixed units and on cells that are no numbers. A column whose cells all
    carry one unit is renamed as if its header did."""
    import pyarrow as pa
    import pyarrow.compute as pc

    out, found = {}, []
    named = {str(theirs): ours for ours, theirs in columns.items() if isinstance(theirs, str)}
    for name in batch.schema.names:
        target, column = named.get(name) or mappings.meant(name)[0], batch.column(name)
        carrying = target and target not in KNOWN and any(q.startswith(f"{target}_") for q in QUANTITIES)
        if target not in KEYS or target in QUANTITIES:
            try:
                stated = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
                out[name] = pc.cast(stated, pa.float64()).to_numpy(zero_copy_only=False)
                continue
            except pa.ArrowInvalid:
                pass
        text = column.to_pandas()
        if not (target in QUANTITIES or carrying):
            out[name] = text
            continue
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
        out[renamed if unit and name not in named and mappings.meant(renamed)[0] in QUANTITIES else name] = values
    return pd.DataFrame(out), found
