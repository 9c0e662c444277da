"""Published claims against an experiment's summary: reproduced, contradicted, or not covered.

A claim about a change of energy or throughput between strategies (or batch sizes) is about what the ratio is; it is reproduced if
the measured 95 % interval lies within the claim's range widened by its tolerance and the measured half-width, contradicted if the
interval lies outside, and otherwise the measurement cannot tell. Rows must be measured on the hardware and models of the claim.
"""

import numpy as np
import pandas as pd

from eai.claims.configuration import same_or_less_specific
from eai.claims.evaluate import Outcome, bounds, stated
from eai.claims.findings import number
from eai.claims.scope import _meets
from eai.errors import UserError

_QUANTITIES = {
    "energy_j_per_1k_tok": "energy_j_per_token",
    "energy_j_per_request": "energy_j_per_token",
    "energy_wh": "energy_j_per_token",
    "throughput_tok_s": "throughput_tok_s",
}
_ENERGY = "energy_j_per_token"
_STRATEGIES = {
    "unspecified_fp16_mixed": ("fp16_mixed",),
    "unspecified_dynamic": ("dynamic",),
    "unspecified_int8": ("int8_default", "int8_pure"),
    "unspecified_baseline": ("fp32",),
}
_CONFIGURATION = ("gpu", "model", "weights", "batch_size", "input_tokens", "output_tokens", "task")
_SCOPE = ("gpu", "model", "params_b", "batch_size")
NEEDED = ("gpu", "model", "quantization", "batch_size", "basis", "gate", _ENERGY)


def _summary(measured) -> pd.DataFrame | None:
    """The summary frame of whatever was given. Raises UserError if it is not one."""
    frame = measured.get("summary") if isinstance(measured, dict) else measured
    if frame is None:
        return None
    if absent := [c for c in NEEDED if c not in frame]:
        raise UserError(
            f"the experiment's summary lacks '{absent[0]}'",
            f"columns {', '.join(NEEDED)}",
            "run `eai report` or the analyze notebook on it first",
        )
    return frame.reset_index(drop=True)


def _usable(frame: pd.DataFrame, quantity: str, claim: pd.Series) -> pd.DataFrame:
    """Measured rows that may speak about this claim: gate not rejected, real basis, weights with what the claim needs, in its scope."""
    use = frame[(frame["gate"] != "rejected") & (frame["basis"] == "measured")]
    weights = use["weights"] if "weights" in use else pd.Series("published", index=use.index)
    touched = {str(claim["level"]), str(claim["reference"]), str(claim["statistic"])}
    if touched & {"int8_default", "unspecified_int8"}:
        use = use[weights != "random"]
    for condition in filter(None, (c.strip() for c in str(claim["where"] if isinstance(claim["where"], str) else "").split("&"))):
        name = condition.split("=")[0].split("<")[0].split(">")[0].strip()
        if name not in _SCOPE or not len(use):
            continue
        if name in ("gpu", "model"):
            wanted = [t.strip() for t in condition.split("=", 1)[1].split("|")]
            use = use[[any(w and same_or_less_specific(w, str(v)) for w in wanted) for v in use[name].astype(str)]]
        elif name in use:
            use = use[_meets(use, condition)]
    return use[use["gpu"] != "cpu"] if quantity == _ENERGY else use


def _log_interval(row: pd.Series, quantity: str) -> tuple[float, float]:
    """Log value and the half-width of its 95 % interval; a row without an interval gets NaN."""
    low, high = row.get(f"{quantity}_low", np.nan), row.get(f"{quantity}_high", np.nan)
    return float(np.log(row[quantity])), float((np.log(high) - np.log(low)) / 2) if low > 0 and high > 0 else float("nan")


def _ratio(level: pd.Series, reference: pd.Series, quantity: str) -> tuple[float, float, float]:
    """Ratio with its 95 % interval: the paired one of the summary where its baseline is the reference, else from both intervals."""
    if quantity == _ENERGY and level.get("baseline") == reference["quantization"] and pd.notna(level.get("ratio_to_baseline_low")):
        return tuple(float(level[c]) for c in ("ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"))
    (a, u), (b, v) = _log_interval(level, quantity), _log_interval(reference, quantity)
    half = np.hypot(u, v)
    return float(np.exp(a - b)), float(np.exp(a - b - half)), float(np.exp(a - b + half))


def _pairs(use: pd.DataFrame, factor: str, level: str, reference: str) -> list[tuple[pd.Series, pd.Series]]:
    """Rows of the level with the reference row that equals them in everything else."""
    keys = [c for c in (*_CONFIGURATION, "quantization", "boundary", "options") if c in use and c != factor]
    text = use[factor].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
    wanted, base = _STRATEGIES.get(level, (level,)), _STRATEGIES.get(reference, (reference,))
    found = []
    for _, row in use[text.isin(wanted)].iterrows():
        same = use[text.isin(base)]
        for key in keys:
            same = same[(same[key] == row[key]) | (same[key].isna() & pd.isna(row[key]))]
        if len(same):
            found.append((row, same.iloc[0]))
    return found


def judge(claim: pd.Series, measured) -> Outcome | None:
    """The measured outcome of a claim, or None where the experiment does not cover it (the published verdict then stands)."""
    if measured is None or claim["kind"] not in ("change", "range") or claim["quantity"] not in _QUANTITIES:
        return None
    frame = _summary(measured)
    if frame is None or claim["factor"] not in ("quantization", "batch_size"):
        return None
    quantity = _QUANTITIES[claim["quantity"]]
    use = _usable(frame, quantity, claim)
    pairs = _pairs(use, claim["factor"], str(claim["level"]), str(claim["reference"]))
    ratios = [r for r in (_ratio(a, b, quantity) for a, b in pairs) if np.isfinite(r).all()]
    if not ratios:
        return None
    percent = 100 * (np.array(ratios) - 1)
    low, high, tolerance = bounds(claim)
    outside = (percent[:, 1] > high + tolerance) | (percent[:, 2] < low - tolerance)
    half = (percent[:, 2] - percent[:, 1]) / 2
    inside = (
        (percent[:, 1] >= low - tolerance - half)
        & (percent[:, 2] <= high + tolerance + half)
        & (percent[:, 0] >= low - tolerance)
        & (percent[:, 0] <= high + tolerance)
    )
    wide = half > np.maximum(tolerance, max((high - low) / 2, 1.0))
    worst = int(np.argmax(np.where(outside, np.maximum(percent[:, 1] - high, low - percent[:, 2]), -np.inf))) if outside.any() else 0
    shown = "{:+.1f} [{:+.1f}, {:+.1f}] %".format(*percent[worst])
    rows = tuple(("measured", tuple(sorted({int(r.name) + 2 for pair in pairs for r in pair}))) for _ in range(1))
    who = ", ".join(str(pairs[worst][0][k]) for k in ("gpu", "model", "quantization", "batch_size") if k in pairs[worst][0])
    text = f"measured {shown} (95 %; {who}); {stated(claim)} is stated"
    if outside.any():
        return Outcome("contradicted", f"{text}; {int(outside.sum())} of {len(ratios)} measured ratios exclude it", shown, rows)
    if inside.all() and not wide.any():
        return Outcome(
            "reproduced", f"{text}; all {len(ratios)} measured ratios agree, half-width at most {number(half.max(), 2)} points", shown, rows
        )
    return Outcome(
        "untested", f"{text}; the interval of {int((~inside | wide).sum())} of {len(ratios)} ratios is too wide to tell", shown, rows
    )
