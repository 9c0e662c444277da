"""What the windows of a configuration say themselves: sensors, flags, statuses and what the linear layers were verified to be.

These are readings, not inferences: a card under thermal violation was throttled. Only how far the finding explains the figures is open.
"""

import json
import re
from typing import Any

import numpy as np
import pandas as pd

from eai import catalog, footprint, strategies
from eai.errors import UserError

THROTTLED_SHARE = 0.01
CAPPED_SHARE = 0.05
FULL_SHARE = 0.97
WORDS_OF = {
    "int8": r"Linear8bitLt|Int8Tensor",
    "nf4": r"Linear4bit\(nf4",
    "fp4": r"Linear4bit\(fp4",
    "float32": r"Linear\(torch\.float32\)",
    "float16": r"Linear\(torch\.float16\)",
    "bfloat16": r"Linear\(torch\.bfloat16\)",
}


def remarks(windows: pd.DataFrame) -> list[tuple[str, str]]:
    """(pattern, what was read) of every reading that speaks for a pattern, from all windows of one configuration."""
    checks = (_throttled, _capped, _spilled, _ran)
    return [found for check in checks if (found := check(windows)) is not None]


def unusable(windows: pd.DataFrame) -> str:
    """The windows that may not be used, by status, empty if all may: `2 oom: out of memory`."""
    bad = windows[windows["status"] != "ok"]
    reasons = bad["reason"].fillna("").replace("", "no reason given")
    counts = (bad["status"] + ": " + reasons).value_counts()
    return ", ".join(f"{n} {what}" for what, n in counts.items())


def _mean(windows: pd.DataFrame, name: str) -> float:
    """The mean of a sensor column over the windows, NaN where nothing was read."""
    return float(pd.to_numeric(windows[name], errors="coerce").mean()) if name in windows else float("nan")


def mean_or_none(windows: pd.DataFrame, name: str) -> float | None:
    """The mean of a sensor column, None where nothing was read."""
    value = _mean(windows, name)
    return value if np.isfinite(value) else None


def _throttled(windows: pd.DataFrame) -> tuple[str, str] | None:
    share, hot = _mean(windows, "throttle_fraction"), int((windows["status"] == "throttled").sum())
    if not hot and not share > THROTTLED_SHARE:
        return None
    read = f"{share:.0%} of the time" if np.isfinite(share) else "no share recorded"
    return "power_cap_or_throttle", f"under thermal violation: {read}, {hot} of {len(windows)} windows barred for it"


def _capped(windows: pd.DataFrame) -> tuple[str, str] | None:
    share = _mean(windows, "power_capped_fraction")
    flagged = int(windows["flags"].map(lambda flags: "power_capped" in (flags or [])).sum())
    if not flagged and not share > CAPPED_SHARE:
        return None
    limit = _mean(windows, "power_limit_w")
    at = f" of {limit:.0f} W" if np.isfinite(limit) else ""
    read = f"{share:.0%} of the time" if np.isfinite(share) else "share not recorded"
    return "power_cap_or_throttle", f"at the power limit{at}: {read}, {flagged} of {len(windows)} windows flagged"


def _spilled(windows: pd.DataFrame) -> tuple[str, str] | None:
    """A card whose memory is full: the next token's cache has nowhere to go but the host."""
    gpu, used = str(windows["gpu"].iloc[0]), _mean(windows, "memory_used_peak_gb")
    oom = int((windows["status"] == "oom").sum())
    if oom:
        return "vram_spill", f"{oom} of {len(windows)} windows ran out of memory"
    if gpu == "cpu" or not np.isfinite(used):
        return None
    try:
        full = footprint.available_gb(catalog.gpu(gpu)) + footprint.CONTEXT_GB
    except UserError:
        return None  # a card that the catalog does not have, or a simulated one
    return ("vram_spill", f"{used:.1f} of {full:.1f} GB in use: the card is full") if used > FULL_SHARE * full else None


def _ran(windows: pd.DataFrame) -> tuple[str, str] | None:
    """Linear layers that are not what the strategy stores."""
    recorded = sorted({str(x) for x in windows["ran"].dropna() if str(x)})
    stated = strategies.get(str(windows["quantization"].iloc[0]))
    words = WORDS_OF.get(stated.stored)
    if not recorded or words is None:
        return None
    wrong = sorted({kind for text in recorded for kind in _kinds(text) if not re.search(words, kind)})
    if wrong:
        return "quantization_not_applied", f"{stated.slug} was asked for, the linear layers were {', '.join(wrong)}"
    thresholds = {float(x) for text in recorded for x in re.findall(r"threshold ([\d.]+)", text)}
    if stated.threshold is not None and thresholds - {stated.threshold}:
        name = "int8_decomposition" if stated.threshold == 0 else "quantization_not_applied"
        return name, f"{stated.slug} was asked for, the layers ran with threshold {', '.join(f'{t:g}' for t in sorted(thresholds))}"
    return None


def _kinds(text: str) -> list[str]:
    """The descriptions of linear layers in a `ran` column; none where a server told what runs in it and nobody could look."""
    try:
        told = json.loads(text)
    except json.JSONDecodeError:
        return [text]
    return [] if told.get("verified") is False else list(told)


def figures_of(row: dict[str, Any], windows: pd.DataFrame) -> dict[str, float | None]:
    """The figures of a summary row with the sensors of its usable windows, under the names of the options."""
    ok = windows[windows["status"] == "ok"]
    gross = row["energy_j_per_token"] if row.get("energy_kind") == "gross" else None
    found = {
        "throughput": row["throughput_tok_s"],
        "energy_j_per_1k": None if gross is None else 1e3 * gross,
        "power_w": row["power_mean_w"],
        "utilization_pct": mean_or_none(ok, "utilization_mean_pct"),
        "memory_gb": row["memory_peak_gb"],
        "power_limit_w": mean_or_none(ok, "power_limit_w"),
        "temperature_c": mean_or_none(ok, "temperature_mean_c"),
    }
    return {name: float(v) for name, v in found.items() if v is not None and np.isfinite(v)}
