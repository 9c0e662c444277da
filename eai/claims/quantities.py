"""The names and units that the checks work in, and how a table's column names are brought to them.

A table keeps its own columns; here `accuracy_pct` becomes `accuracy`, `Energy (Wh)` becomes `energy_wh`, `latency_ms` seconds.

Cells that a person typed: thousands separators, percent signs, decimal commas and units, brought to plain numbers.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Quantity:
    """One physical quantity: its name with unit, whether more is better (None: neither), and whether it is measured with noise."""

    name: str
    higher_is_better: bool | None = None
    noisy: bool = False


_ALL = (
    Quantity("energy_wh", False, True),
    Quantity("energy_j", False, True),
    Quantity("energy_kwh", False),
    Quantity("energy_j_per_1k_tok", False, True),
    Quantity("energy_j_per_token", False, True),
    Quantity("energy_j_per_request", False, True),
    Quantity("tokens_per_j", True),
    Quantity("power_w", None, True),
    Quantity("throughput_tok_s", True, True),
    Quantity("duration_s", False, True),
    Quantity("latency_s", False, True),
    Quantity("tokens_out"),
    Quantity("output_tokens"),
    Quantity("input_tokens"),
    Quantity("batch_size"),
    Quantity("requests"),
    Quantity("n_items"),
    Quantity("n_runs"),
    Quantity("n_blocks"),
    Quantity("n_windows"),
    Quantity("accuracy", True),
    Quantity("accuracy_retained_pct", True),
    Quantity("eor", True),
    Quantity("tweor", True),
    Quantity("perplexity", False),
    Quantity("energy_reduction_pct", True),
    Quantity("energy_change_pct", False),
    Quantity("ratio_to_baseline", False),
    Quantity("cost_usd", False),
    Quantity("price_usd_per_kwh"),
    Quantity("carbon_kg", False),
    Quantity("carbon_g_per_kwh"),
    Quantity("pue"),
    Quantity("tdp_w"),
    Quantity("idle_power_w"),
    Quantity("idle_stated_w"),
    Quantity("memory_gb", False),
    Quantity("memory_bandwidth_gb_s", True),
    Quantity("gpu_utilisation_pct"),
    Quantity("gpu_utilisation"),
    Quantity("throughput_std_tok_s"),
    Quantity("power_std_w"),
    Quantity("energy_std_j_per_1k_tok"),
    Quantity("params_b"),
    Quantity("run"),
    Quantity("x"),
    Quantity("q"),
    Quantity("scale"),
    Quantity("zero_point"),
    Quantity("q_min"),
    Quantity("q_max"),
)
QUANTITIES = {q.name: q for q in _ALL}
ENERGIES = ("energy_wh", "energy_j_per_1k_tok", "energy_j_per_token", "energy_j_per_request", "energy_j")
SPREADS = {"throughput_tok_s": "throughput_std_tok_s", "power_w": "power_std_w", "energy_j_per_1k_tok": "energy_std_j_per_1k_tok"}
KEYS = (
    "gpu",
    "architecture",
    "model",
    "weights",
    "quantization",
    "precision",
    "task",
    "options",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "params_b",
    "power_limit_w",
    "session",
    "location",
    "accounting",
    "basis",
    "best",
    "reduction_against",
)
FACTORS = (
    "gpu",
    "model",
    "quantization",
    "precision",
    "task",
    "options",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "params_b",
    "power_limit_w",
)

# A column in another unit: its name here and what to multiply its values by.
CONVERSIONS = {
    "accuracy_pct": ("accuracy", 0.01),
    "energy_kj": ("energy_j", 1e3),
    "energy_mj": ("energy_j", 1e-3),
    "energy_mwh": ("energy_wh", 1e-3),
    "power_mw": ("power_w", 1e-3),
    "power_kw": ("power_w", 1e3),
    "latency_ms": ("latency_s", 1e-3),
    "duration_ms": ("duration_s", 1e-3),
    "duration_min": ("duration_s", 60.0),
    "duration_h": ("duration_s", 3600.0),
    "carbon_g": ("carbon_kg", 1e-3),
}
_UNITS = {
    "tokens/s": "tok_s",
    "tok/s": "tok_s",
    "t/s": "tok_s",
    "%": "pct",
    "percent": "pct",
    "j/token": "j_per_token",
    "j/tok": "j_per_token",
}
_UNITS |= {
    "j/1k": "j_per_1k_tok",
    "j/1k tok": "j_per_1k_tok",
    "j/1k tokens": "j_per_1k_tok",
    "j/request": "j_per_request",
    "$": "usd",
    "kgco2": "kg",
}
_WORDS = {
    "device": "gpu",
    "hardware": "gpu",
    "platform": "gpu",
    "card": "gpu",
    "gpu_name": "gpu",
    "model_name": "model",
    "quantisation": "quantization",
    "quant": "quantization",
    "config": "quantization",
    "method": "quantization",
    "strategy": "quantization",
    "benchmark": "task",
    "dataset": "task",
    "batch": "batch_size",
    "bs": "batch_size",
    "score": "accuracy",
    "acc": "accuracy",
    "score_pct": "accuracy_pct",
    "acc_pct": "accuracy_pct",
    "throughput": "throughput_tok_s",
    "tok_s": "throughput_tok_s",
    "tokens_per_s": "throughput_tok_s",
    "tokens_per_second": "throughput_tok_s",
    "power": "power_w",
    "avg_power_w": "power_w",
    "power_mean_w": "power_w",
    "mean_power_w": "power_w",
    "time_s": "duration_s",
    "runtime_s": "duration_s",
    "inference_time_s": "duration_s",
    "j_per_token": "energy_j_per_token",
    "j_per_1k_tok": "energy_j_per_1k_tok",
    "energy_per_token_j": "energy_j_per_token",
    "energy_per_1k_tokens_j": "energy_j_per_1k_tok",
    "j_per_request": "energy_j_per_request",
    "energy_reduction": "energy_reduction_pct",
    "reduction_pct": "energy_reduction_pct",
    "energy_saving_pct": "energy_reduction_pct",
    "energy_ratio": "ratio_to_baseline",
    "tdp": "tdp_w",
    "cost": "cost_usd",
    "items": "n_items",
    "n": "n_runs",
    "runs": "n_runs",
}


def plain_name(column: str) -> str:
    """The registered name for a printed column header: `Energy (Wh)` is `energy_wh`, `Tokens/s` is `throughput_tok_s`.

    A header that means nothing here comes back in snake case and is ignored by the checks.
    """
    text = str(column).strip().lower().removeprefix("\ufeff")
    unit = ""
    if match := re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]\s*", text):
        text, unit = match[1], match[2].strip()
    elif text.endswith("%"):
        text, unit = text[:-1], "%"
    text = _UNITS.get(text.strip(), text)
    words = re.sub(r"[^a-z0-9.]+", "_", text).strip("_")
    if unit:
        words += "_" + re.sub(r"[^a-z0-9]+", "_", _UNITS.get(unit, unit)).strip("_")
    return _WORDS.get(words, words)


MISSING = ("", "nan", "na", "n/a", "none", "null", "-", "\u2014")
_NUMBER = re.compile(r"^([-+\u2212]?[\d.,'\u00a0\u202f ]*\d(?:[eE][-+]?\d+)?)\s*([^\d\s].*)?$")
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?(?:[eE][-+]?\d+)?")
_SPACES = {ord(c): None for c in "'\u00a0\u202f "}
# What a unit is a multiple of; Wh and J are brought to each other as well.
_CELL_UNITS = {
    "j": ("j", 1.0),
    "kj": ("j", 1e3),
    "mj": ("j", 1e-3),
    "wh": ("j", 3600.0),
    "kwh": ("j", 3.6e6),
    "mwh": ("j", 3.6),
    "w": ("w", 1.0),
    "kw": ("w", 1e3),
    "mw": ("w", 1e-3),
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "%": ("%", 1.0),
    "tok/s": ("tok/s", 1.0),
    "tokens/s": ("tok/s", 1.0),
}


def plain_number(text: str, decimal_comma: bool = False) -> tuple[float, str]:
    """The number in a cell and what follows it: `1,234.5 Wh` is (1234.5, "wh"), `25 %` is (25, "%"), text is (nan, "").

    `12,5` is a number only where commas are decimal; a comma that groups anything but three digits makes the cell unreadable.
    """
    match = _NUMBER.match(text.strip())
    if not match:
        return float("nan"), ""
    digits = match[1].replace("\u2212", "-").translate(_SPACES)
    if decimal_comma and digits.count(",") == 1:
        digits = digits.replace(".", "").replace(",", ".")
    elif "," in digits:
        if not _GROUPED.fullmatch(digits):
            return float("nan"), ""
        digits = digits.replace(",", "")
    try:
        return float(digits), (match[2] or "").strip().lower()
    except ValueError:
        return float("nan"), ""


def _converted(value: float, unit: str, wanted: str) -> float:
    """A value brought to the wanted unit; NaN where the two have nothing in common."""
    own, base = _CELL_UNITS.get(unit), _CELL_UNITS.get(wanted)
    if unit == wanted or not unit or base is None or own is None:
        return value if unit == wanted or not unit else float("nan")
    return value * own[1] / base[1] if own[0] == base[0] else float("nan")


def numeric(cells: pd.Series, decimal_comma: bool) -> tuple[np.ndarray, Counter, np.ndarray]:
    """A column as numbers in its commonest unit, how many cells stood in which unit ("" = none), and positions of unreadable cells."""
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
    odd = np.flatnonzero(np.isnan(values))
    odd = odd[~cells.iloc[odd].str.strip().str.lower().isin(MISSING).to_numpy(dtype=bool)]
    seen: Counter = Counter({"": int(np.isfinite(values).sum())})
    if not len(odd):
        return values, seen, odd
    texts = cells.iloc[odd].to_numpy(dtype=object)
    parsed = {t: plain_number(t, decimal_comma) for t in pd.unique(texts)}
    seen.update(u for u in (parsed[t][1] for t in texts if np.isfinite(parsed[t][0])))
    commonest = next((u for u, _ in seen.most_common() if u), "")
    values[odd] = [_converted(*parsed[t], commonest) for t in texts]
    return values, seen, odd[[not np.isfinite(parsed[t][0]) for t in texts]]
