"""Stored windows derived again from their raw readings: every number must come out the same, bit for bit."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from eai.power.derive import Derived, derive
from eai.power.stream import Spec

NUMBERS = (
    "energy_j",
    "net_energy_j",
    "u_statistical_j",
    "u_granularity_j",
    "u_aliasing_j",
    "u_idle_j",
    "u_offset_j",
    "u_gain_j",
    "u_net_j",
)
METER_STATUSES = ("ok", "disputed", "throttled", "aliased", "short_window", "counter_reset", "invalid", "lost")


def replay(windows: pd.DataFrame, energies: pd.DataFrame, samples: pd.DataFrame) -> tuple[int, list[dict]]:
    """(windows derived again, mismatches) of tables as `tables` reads them; a mismatch says attempt, what, stored and derived.

    Windows that the meter did not judge (out of memory, failed) have nothing to derive. A judged window without samples is a
    mismatch: what cannot be derived again is not replayed. Samples of a window need not be in order, but stand together.
    """
    try:
        blocks = dict(blocks_of(samples))
    except ValueError as error:
        return 0, [{"attempt": "", "what": "samples", "stored": str(error), "derived": "each window's together"}]
    stored: dict[str, list[dict]] = {}
    for row in energies.to_dict("records"):
        stored.setdefault(row["attempt"], []).append(row)
    done, mismatches = 0, []
    for window in windows.to_dict("records"):
        if window["status"] not in METER_STATUSES or not isinstance(window.get("meter_spec"), str):  # imported: nothing was read here
            continue
        attempt = window["attempt"]
        if attempt not in blocks:
            mismatches.append({"attempt": attempt, "what": "samples", "stored": "none", "derived": ""})
            continue
        begin, end = blocks[attempt]
        mismatches += doubled(samples.iloc[begin:end], attempt)
        try:
            derived = derive(samples.iloc[begin:end], window["start_s"], window["stop_s"], Spec.from_json(window["meter_spec"]))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            mismatches.append({"attempt": attempt, "what": "meter_spec and samples", "stored": "cannot be derived from", "derived": what})
            continue
        mismatches += compare(window, stored.get(attempt, []), derived)
        done += 1
    return done, mismatches


def blocks_of(samples: pd.DataFrame) -> Iterator[tuple[str, tuple[int, int]]]:
    """(attempt, (first row, last row + 1)) of each window's samples; no copy of the table is made.

    Raises ValueError if a window's samples are scattered over the table.
    """
    if not len(samples):
        return
    column = samples["attempt"]
    codes, names = (
        (column.cat.codes.to_numpy(), column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else pd.factorize(column)
    )
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]])
    seen = codes[cuts[:-1]]
    if len(np.unique(seen)) != len(seen):
        raise ValueError("the samples of a window are scattered over the table: sort it by attempt, keeping the order")
    for begin, end in itertools.pairwise(cuts):
        yield str(names[codes[begin]]), (int(begin), int(end))


def doubled(samples: pd.DataFrame, attempt: str) -> list[dict]:
    """A mismatch where a window holds the same reading twice: a sensor's clock does not stand still."""
    again = int(samples.duplicated(["t_s", "device_id", "boundary", "field"]).sum())
    return [{"attempt": attempt, "what": "samples", "stored": f"{again} readings twice", "derived": "each once"}] if again else []


def compare(window: dict, rows: list[dict], derived: Derived) -> list[dict]:
    """Every stored number of a window that `derived` does not repeat exactly."""
    attempt = window["attempt"]
    found = []

    def check(what: str, stored, again) -> None:
        if not same(stored, again):
            found.append({"attempt": attempt, "what": what, "stored": stored, "derived": again})

    check("status", window["status"], derived.status)
    before = {(r["device_id"], r["boundary"], r["method"]): r for r in rows}
    after = {(e.device_id, e.boundary, e.method): e for e in derived.energies}
    for key in before.keys() | after.keys():
        if key not in before or key not in after:
            check("/".join(key), "missing" if key not in before else "present", "missing" if key not in after else "present")
            continue
        for name in (*NUMBERS, "primary", "status"):
            check(f"{'/'.join(key)} {name}", before[key][name], getattr(after[key], name))
    return found


def same(stored, again) -> bool:
    """Whether two values are the same to the last bit; None and NaN are both "no number"."""

    def absent(value) -> bool:
        return value is None or (isinstance(value, float) and math.isnan(value))

    return (absent(stored) and absent(again)) or (not absent(stored) and not absent(again) and stored == again)
