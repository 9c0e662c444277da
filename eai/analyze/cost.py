"""The cost and the speed of one unit of work in a summary: an output token, or an item where a task ran as its items come."""

import numpy as np
import pandas as pd

from eai.analyze.selection import as_run

ENDS = ("", "_low", "_high")
TOKEN = ("energy_j_per_token", "throughput_tok_s")
ITEM = ("energy_j_per_request", "requests_per_second")
UNITS = {"token": "energy per output token [J]", "item": "energy per item of the task [J]", "both": "energy per output token or item [J]"}
SPEEDS = {"token": "output tokens per second [tok/s]", "item": "items per second [1/s]", "both": "output tokens or items per second"}


def costed(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `unit` (token | item), `unit_energy_j` and `units_per_s`, each with `_low` and `_high` where they are known.

    Tokens and items never beat each other: whoever compares stays within a task.
    """
    items = as_run(summary)
    found = {"unit": np.where(items, "item", "token")}
    for name, token, item in zip(("unit_energy_j", "units_per_s"), TOKEN, ITEM, strict=True):
        for end in ENDS:
            own, other = (summary.get(f"{column}{end}", pd.Series(np.nan, index=summary.index)) for column in (token, item))
            found[f"{name}{end}"] = own.mask(items, other).astype(float)
    return summary.assign(**found)


def label(table: pd.DataFrame, words: dict[str, str] = UNITS) -> str:
    """The axis label of the units that stand in a table: `energy per output token [J]`."""
    units = set(table["unit"])
    return words["both"] if len(units) > 1 else words[units.pop()] if units else ""
