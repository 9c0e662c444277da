"""The registry of columns, read from data/schema.csv: validates tables, labels axes, writes the data dictionary.

A column has one meaning, type and unit wherever it stands. Units are part of the name; `unit` repeats them for axis labels.
A new column is a line of data/schema.csv: table, name, kind, unit, allowed values (separated by spaces), meaning.
"""

import csv
from dataclasses import dataclass

from eai import paths

VERSION = 1
"""Of the tables below; raised when a column changes its meaning or goes, not when one is added."""

CONFIGURATION = ("gpu", "model", "weights", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "options")
WINDOW_KEY = ("job", "block", "configuration_id", "repeat")


@dataclass(frozen=True)
class Column:
    """One column: its name, type (str, int, float, bool, list), unit, meaning and, where closed, its allowed values."""

    name: str
    kind: str
    unit: str
    meaning: str
    allowed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """An axis label: `energy per output token [J]`."""
        words = self.meaning.split(";")[0].split(". ")[0]
        return f"{words} [{self.unit}]" if self.unit else words


TABLES: dict[str, tuple[Column, ...]] = {}
"""The columns of each table, in order."""
with paths.SCHEMA.open(newline="", encoding="utf-8") as _file:
    for _row in csv.DictReader(_file):
        _column = Column(_row["name"], _row["kind"], _row["unit"], _row["meaning"], tuple(_row["allowed"].split()))
        TABLES[_row["table"]] = (*TABLES.get(_row["table"], ()), _column)
WINDOWS, ENERGIES, SAMPLES, SCORES, SUMMARY = (TABLES[name] for name in ("windows", "energies", "samples", "scores", "summary"))


def column(name: str, table: str | None = None) -> Column:
    """The column called `name`, from `table` or from whichever table has it first. Raises KeyError for a column that is not registered: a
    number without a registered unit is a defect."""
    found = [c for each in ([table] if table else TABLES) for c in TABLES[each] if c.name == name]
    if not found:
        raise KeyError(f"column '{name}' is not in the registry data/schema.csv")
    return found[0]


BASES = column("basis", "windows").allowed
BOUNDARIES = column("boundary", "energies").allowed


def problems(table: str, rows: list[dict]) -> list[str]:
    """What is wrong with `rows` of `table`: unregistered or missing columns, values outside their closed vocabulary."""
    known, found = {c.name: c for c in TABLES[table]}, []
    for i, row in enumerate(rows):
        found += [f"row {i}: column '{name}' is not registered" for name in row.keys() - known.keys()]
        found += [f"row {i}: column '{name}' is missing" for name in known.keys() - row.keys()]
        for name, allowed in ((c.name, c.allowed) for c in known.values() if c.allowed):
            if row.get(name) not in (None, *allowed):
                found.append(f"row {i}: {name} is '{row[name]}', expected one of {', '.join(allowed)}")
    return found


def dictionary() -> str:
    """The data dictionary as Markdown: one table a table, one line a column."""
    parts = []
    for table, columns in TABLES.items():
        values = [f" ({', '.join(c.allowed)})" if c.allowed else "" for c in columns]
        lines = [f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning}{said} |" for c, said in zip(columns, values, strict=True)]
        parts.append("\n".join([f"## {table}\n\n| column | type | unit | meaning |\n|---|---|---|---|", *lines]))
    return "\n\n".join(parts) + "\n"
