"""Figures that no device can produce: shares outside 0 to 1, power above the board's limit or below idle, implied times.

`limits` is a table of gpu, tdp_w and idle_power_w; where it says nothing about a card, the widest sensible bounds stand in.
Deterministic: a sensor's error of 5 % (one standard uncertainty) is allowed for twice.
"""

import numpy as np
import pandas as pd

from eai.claims.configuration import same_or_less_specific
from eai.claims.findings import Finding, number
from eai.claims.relations import complete
from eai.claims.tabular import Table

LARGEST_BOARD_W = 1500.0
SENSOR = 0.10
LEAST_SHARE_OF_TDP = 0.05  # an accelerator that decodes draws more than this share of its board limit


def _limits(table: Table, limits: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray]:
    """Highest TDP and lowest idle power [W] that fit each row's GPU; its own columns first, NaN where unknown."""
    tdp, idle = table.column("tdp_w").copy(), table.column("idle_power_w").copy()
    if limits is None or not table.has("gpu"):
        return tdp, idle
    gpu = table.key("gpu")
    for name in pd.unique(gpu):
        fits = limits[[same_or_less_specific(name, g) for g in limits["gpu"].astype(str)]] if name else limits[:0]
        rows = gpu == name
        for out, column, pick in ((tdp, "tdp_w", "max"), (idle, "idle_power_w", "min")):
            figures = pd.to_numeric(fits.get(column, pd.Series(dtype=float)), errors="coerce").dropna()
            if len(figures):
                out[rows & np.isnan(out)] = getattr(figures, pick)()
    return tdp, idle


def _many(name: str, claim: str, off: np.ndarray, seen: np.ndarray, reason, stated="", computed="") -> list[Finding]:
    """One finding over all rows that fail, or one that all pass."""
    if not seen.any():
        return []
    rows = np.flatnonzero(off)
    if not len(rows):
        return [
            Finding(
                "physical",
                claim,
                "consistent",
                f"{seen.sum()} figures are possible",
                positions=tuple(map(int, np.flatnonzero(seen))),
                name=name,
            )
        ]
    return [Finding("physical", claim, "inconsistent", reason(rows), stated, computed, tuple(map(int, rows)), name)]


def _span(values: np.ndarray, unit: str) -> str:
    """`7.4 to 11 W`, or one figure."""
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{number(low, 3)} {unit}" if low == high else f"{number(low, 3)} to {number(high, 3)} {unit}"


def _power(table: Table, power: np.ndarray, tdp: np.ndarray, idle: np.ndarray, what: str) -> list[Finding]:
    """Power [W] against the board's limit and its idle power; net-labelled rows have no lower bound."""
    net = np.char.startswith(table.key("accounting").astype(str), "net")
    top = np.where(np.isnan(tdp), LARGEST_BOARD_W, tdp) * (1 + SENSOR)
    floor = np.where(np.isnan(idle), tdp * LEAST_SHARE_OF_TDP, idle) * (1 - SENSOR)
    seen = np.isfinite(power)
    found = _many(
        f"{what} above limit",
        f"{what} is within the board's power limit",
        seen & (power > top),
        seen,
        lambda r: (
            f"{what} of {_span(power[r], 'W')} in {len(r)} rows, where the board limit is "
            f"{_span(np.where(np.isnan(tdp), LARGEST_BOARD_W, tdp)[r], 'W')}"
        ),
    )
    bounded = seen & np.isfinite(floor) & ~net
    return found + _many(
        f"{what} below idle",
        f"{what} is above idle",
        bounded & (power < floor),
        bounded,
        lambda r: (
            f"{what} of {_span(power[r], 'W')} in {len(r)} of {bounded.sum()} rows, where the card draws at "
            f"least {_span((floor / (1 - SENSOR))[r], 'W')} idle or {LEAST_SHARE_OF_TDP:.0%} of its limit"
        ),
    )


def physical(table: Table, limits: pd.DataFrame | None = None) -> list[Finding]:
    """Shares, signs, stated power, power implied by energy and throughput, and power implied by energy and the time behind a TWEOR."""
    known = complete(table)
    tdp, idle = _limits(table, limits)
    found = []
    accuracy = table.column("accuracy")
    seen = np.isfinite(accuracy)
    mixed = seen & ((accuracy < 0) | (accuracy > 1))
    found += _many(
        "score",
        "scores are fractions of 1, or all in percent",
        mixed,
        seen,
        lambda r: f"{len(r)} of {seen.sum()} scores lie outside 0 to 1 ({_span(accuracy[r], '')}): fractions and percents may be mixed",
    )
    for name in ("energy_wh", "energy_j", "energy_j_per_1k_tok", "energy_j_per_token", "power_w", "throughput_tok_s", "duration_s"):
        x = table.column(name)
        found += _many(
            name,
            f"{name} is positive",
            np.isfinite(x) & (x <= 0),
            np.isfinite(x),
            lambda r, n=name: f"{len(r)} figures of {n} are zero or negative",
        )
    found = [f for f in found if f.verdict == "inconsistent" or f.name == "score"]
    found += _power(table, table.column("power_w"), tdp, idle, "stated power")
    if table.has("throughput_tok_s") and "energy_j_per_token" in known:
        implied = known["energy_j_per_token"].value * table.column("throughput_tok_s")
        found += _power(table, implied, tdp, idle, "power implied by energy per token and throughput")
    if table.has("eor", "tweor", "energy_wh"):
        with np.errstate(divide="ignore", invalid="ignore"):
            time = table.column("eor") / table.column("tweor")
            power = table.column("energy_wh") * 3600 / time
        limit = np.where(np.isnan(tdp), LARGEST_BOARD_W, tdp)
        seen = np.isfinite(power)
        found += _many(
            "time behind tweor",
            "the time that EOR / TWEOR implies is possible",
            seen & (power > limit * (1 + SENSOR)),
            seen,
            lambda r: (
                f"EOR / TWEOR implies {_span(time[r], 's')} for {_span(table.column('energy_wh')[r], 'Wh')}, "
                f"that is {_span(power[r], 'W')}; at the board limit the energy takes at least "
                f"{_span(table.column('energy_wh')[r] * 3600 / limit[r], 's')}"
            ),
        )
    return found
