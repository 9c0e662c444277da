"""What another tool measured, as tables of ours, and what became of each of its rows: the work of `eai import`.

A table needs a mapping: that of a known tool, one of the user's, or the former completed by the latter. A power log needs the phases that
cut it: a table of them, or lm-eval's results, which say when they were made. Nothing is filled in: what neither file, mapping nor the
caller says is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from eai import schema
from eai.analyze.selection import BOUNDARY_ORDER
from eai.errors import UserError
from eai.importers import evaluations, mappings
from eai.importers.foreign_tables import read_table, read_tables, read_text
from eai.importers.mappings import Energy, Mapping
from eai.importers.tools import NUMBERS, import_phases, import_table

FORMATS = {each.replace("-", ""): mapping for each, mapping in mappings.EXAMPLES.items()}
LOGS = {"lmeval": evaluations.SOURCE, "nvidiasmi": "power log and a table of phases"}
NAMES = "codecarbon, optimum-benchmark, mlenergy, lm-eval, nvidia-smi"
BOARD = Energy("power log", "J", "gpu", "measured")
MOST_SHOWN = 6

EnergyOf = Callable[[float, float], list[dict]]
"""Joules of each device between two instants of a power log, as `importers.import_phases` asks for them."""


@dataclass(frozen=True)
class Asked:
    """What an import is told: files, the tool's name, a mapping file, values that hold for every row, a table of phases, a power log."""

    files: tuple[Path, ...]
    tool: str = ""
    mapping: Path | None = None
    constants: dict[str, object] = field(default_factory=dict)
    phases: Path | None = None
    power: Path | None = None

    @property
    def document(self) -> object:
        """The document of the mapping file, empty where there is none. Raises UserError where it cannot be read."""
        return _read_mapping(self.mapping) if self.mapping else {}


@dataclass(frozen=True)
class Imported:
    """The tables of an experiment, the mapping that made them, and the source's columns that nothing was taken from."""

    windows: pd.DataFrame
    energies: pd.DataFrame
    scores: pd.DataFrame
    mapping: Mapping
    unused: tuple[str, ...] = ()


def _read_mapping(path: Path) -> object:
    """The document of a mapping file, JSON or YAML."""
    import yaml

    if not path.is_file():
        raise UserError(f"no mapping file {path}", "YAML or JSON as docs/importing.md shows", "check the path")
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise UserError(
            f"{path}{where} is neither YAML nor JSON", "keys and values as docs/importing.md shows", "correct that line"
        ) from None


def read(asked: Asked, read_power: Callable[[Path], EnergyOf]) -> Imported:
    """The tables of what was asked for; `read_power` reads a power log.

    Raises UserError for a tool nobody knows, files that cannot be read, what is not said, and where no row can be used.
    """
    tool = asked.tool.lower().replace("-", "").replace("_", "")
    if tool and tool not in FORMATS and tool not in LOGS:
        raise UserError(f"format '{asked.tool}'", f"one of {NAMES}", "or say with --mapping which column is which")
    if not tool and asked.mapping is None:
        raise UserError("neither --format nor --mapping", f"a known tool ({NAMES}) or a mapping file", "see docs/importing.md")
    found = _phases(asked, tool, read_power) if tool in LOGS else _table(asked, FORMATS.get(tool))
    if found.windows["status"].ne("ok").all():
        why = found.windows["reason"].value_counts()
        raise UserError(f"none of the {len(found.windows)} rows can be used ({why.index[0]})", "a measured energy", "nothing was written")
    return found


def _table(asked: Asked, base: Mapping | None) -> Imported:
    """A table of rows with their energies in it."""
    frame = read_tables(asked.files)
    mapping = mappings.with_constants(mappings.mapping_from(asked.document, base), asked.constants)
    windows, energies = import_table(frame, mapping)
    used = {e.column for e in mapping.energies} | set(mapping.columns.values()) | {mapping.block, mapping.failed}
    return Imported(windows, energies, pd.DataFrame(), mapping, tuple(str(c) for c in frame.columns if c not in used))


def _phases(asked: Asked, tool: str, read_power: Callable[[Path], EnergyOf]) -> Imported:
    """A power log cut by a table of phases, or by evaluations that say when they ran."""
    if tool == "lmeval" and asked.power is None:
        raise UserError("lm-eval's results hold no energy", "the power log that was recorded beside them", "name it with --power")
    if tool == "nvidiasmi" and asked.phases is None:
        raise UserError("a power log alone", "a table of what ran when, with start_s and stop_s", "name it with --phases")
    if tool == "nvidiasmi" and len(asked.files) > 1:
        raise UserError(
            f"{len(asked.files)} power logs", "one log, which may hold several cards", "import them one by one, then `eai merge`"
        )
    phases = read_table(asked.phases) if tool == "nvidiasmi" else pd.DataFrame([evaluations.phase(path) for path in asked.files])
    energy_of = read_power(asked.power or asked.files[0])
    own = [c for c in phases.columns if c in (*schema.CONFIGURATION, *NUMBERS) and c not in ("duration_s", *asked.constants)]
    base = Mapping(LOGS[tool], (BOARD,), {c: c for c in own})
    mapping = mappings.with_constants(mappings.mapping_from(asked.document, base), asked.constants)
    windows, energies = import_phases(_in_seconds(phases), energy_of, mapping)
    scores = pd.DataFrame()
    if tool == "lmeval":
        scores = pd.concat([evaluations.items(path, windows.iloc[[i]]) for i, path in enumerate(asked.files)], ignore_index=True)
    used = {"start_s", "stop_s", mapping.block, mapping.failed, *mapping.columns.values()}
    return Imported(windows, energies, scores, mapping, tuple(str(c) for c in phases.columns if c not in used))


def _in_seconds(phases: pd.DataFrame) -> pd.DataFrame:
    """The phases with numbers for instants. Raises UserError for one that is none."""
    edges = {c: pd.to_numeric(phases[c], errors="coerce") for c in ("start_s", "stop_s") if c in phases}
    for name, values in edges.items():
        if values.isna().any():
            at = int(values.isna().to_numpy().argmax())
            found = f"{name} of phase {at + 1} is '{phases[name].iloc[at]}'"
            raise UserError(found, "seconds from the log's start, or since 1970", "correct the phases table")
    return phases.assign(**edges)


def account(found: Imported) -> dict:
    """What became of the source's rows: `{source, rows, used, configurations, blocks, energies, dropped, unused_columns, scores, notes}`.

    `energies`: boundary, basis and number of windows that have one; `dropped`: each reason with its rows, counted from 1.
    """
    windows, energies = found.windows, found.energies
    kinds = energies.groupby(["boundary", "basis"], sort=False)["attempt"].nunique().reset_index(name="windows")
    out = windows.reset_index(drop=True)
    dropped = [
        {"status": status, "reason": reason, "rows": [int(i) + 1 for i in rows.index]}
        for (status, reason), rows in out[out["status"] != "ok"].groupby(["status", "reason"], sort=False)
    ]
    return {
        "source": found.mapping.source,
        "rows": len(windows),
        "used": int(windows["status"].eq("ok").sum()),
        "configurations": int(windows["configuration_id"].nunique()),
        "blocks": int(windows["block"].nunique()),
        "energies": kinds.to_dict("records"),
        "dropped": dropped,
        "unused_columns": list(found.unused),
        "scores": len(found.scores),
        "notes": _notes(found),
    }


def _notes(found: Imported) -> list[str]:
    """What a reader of the numbers should know beforehand."""
    notes, flags = [], found.windows["flags"].map(list).explode()
    if found.windows["block"].nunique() < 2:
        notes.append("one block: ratios get no interval and no test; name the source's runs with `block` if each ran every configuration")
    boundary = next(b for b in BOUNDARY_ORDER + schema.BOUNDARIES if found.energies["boundary"].eq(b).any())
    with_it = found.energies.loc[found.energies["boundary"] == boundary, "attempt"]
    if without := int((found.windows["status"].eq("ok") & ~found.windows["attempt"].isin(with_it)).sum()):
        notes.append(f"{without} of these rows have no energy of boundary {boundary}, which an analysis takes: it leaves them out")
    if flags.eq("nominal_window").any():
        notes.append("the source states rates only: a window stands for one second of them, and totals are not stated")
    if found.mapping.source == evaluations.SOURCE:
        notes.append("energy and duration are of the whole evaluation, load of the model included")
        if found.scores.empty:
            notes.append("no scores: there are no samples_*.jsonl beside the results; lm_eval --log_samples writes them")
    return notes


def text(answer: dict) -> str:
    """The account for a terminal."""
    lines = [f"{answer['used']} of {answer['rows']} rows of {answer['source']}", f"  -> {answer['experiment']}"]
    lines.append(f"{answer['configurations']} configurations in {answer['blocks']} block(s)")
    lines += [f"energy: {e['boundary']}, {e['basis']}, of {e['windows']} windows" for e in answer["energies"]]
    lines += [f"scores: {answer['scores']} items"] if answer["scores"] else []
    for each in answer["dropped"]:
        shown = ", ".join(map(str, each["rows"][:MOST_SHOWN])) + (", ..." if len(each["rows"]) > MOST_SHOWN else "")
        lines.append(f"not used: {len(each['rows'])} row(s) ({shown}): {each['reason']}")
    if answer["unused_columns"]:
        lines.append(f"columns that nothing was taken from: {', '.join(answer['unused_columns'])}")
    return "\n".join([*lines, *(f"note: {note}" for note in answer["notes"])])
