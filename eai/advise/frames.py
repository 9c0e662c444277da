"""Answers as data frames, for figures and tables: one row an entry, each quantity as three columns."""

import pandas as pd


def frame(entries: list[dict]) -> pd.DataFrame:
    """One row an entry of a ranking or comparison: the configuration's columns, `name`, `name_low`, `name_high` of every quantity.

    `accuracy` and `acceptable` come from the entry's accuracy; lists (evidence, warnings) are joined by "; ".
    """
    return pd.DataFrame([_flat(entry) for entry in entries])


def _flat(entry: dict) -> dict:
    """One entry as a flat dictionary."""
    row: dict = dict(entry.get("configuration", {}))
    for name, value in entry.items():
        if name == "configuration":
            continue
        if name == "accuracy":
            row |= {"accuracy": value["status"], "acceptable": value["acceptable"], "accuracy_note": value["note"]}
        elif isinstance(value, dict) and "unit" in value:
            row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        else:
            row[name] = "; ".join(value) if isinstance(value, list) else value
    return row
