"""The rows of an experiment that may speak about a published claim, and the ratios and differences between them.

A claim names hardware, models and strategies loosely (`int8`, `a100_pcie`); an experiment names them exactly. Energy must have been
measured by a sensor on an accelerator and have passed the gate; a score is measured wherever a published model answered, whatever the
energy beside it rests on.
"""

import numpy as np
import pandas as pd

from eai import catalog
from eai.analyze.scores import retention
from eai.claims.configuration import same_or_less_specific
from eai.claims.scope import meets
from eai.errors import UserError
from eai.stats.intervals import Interval
from eai.stats.scores import difference_of

ENERGY = "energy_j_per_token"
SCORES = ("score", "score_retained")
QUANTITIES = {
    "energy_j_per_1k_tok": ENERGY,
    "energy_j_per_request": ENERGY,
    "energy_wh": ENERGY,
    "tokens_per_j": ENERGY,
    "throughput_tok_s": "throughput_tok_s",
    "eor": "eor",
    "accuracy": "score",
    "accuracy_pct": "score",
    "accuracy_retained_pct": "score_retained",
}
STRATEGIES = {
    "unspecified_fp16_mixed": ("fp16_mixed",),
    "unspecified_dynamic": ("dynamic",),
    "unspecified_int8": ("int8_default", "int8_pure"),
    "unspecified_baseline": ("fp32",),
}
KEYS = (
    "gpu",
    "model",
    "weights",
    "quantization",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "task",
    "boundary",
    "energy_kind",
    "options",
)
SCOPE = ("gpu", "model", "quantization", "task", "params_b", "batch_size", "input_tokens", "output_tokens", "accounting")
NEEDED = ("gpu", "model", "quantization", "batch_size", "basis", "gate", ENERGY)


def summary_of(measured) -> pd.DataFrame | None:
    """The summary frame of whatever was given, with models by their catalog slug. Raises UserError if it is not one."""
    frame = measured.get("summary") if isinstance(measured, dict) else measured
    if frame is None:
        return None
    if absent := [c for c in NEEDED if c not in frame]:
        raise UserError(
            f"the experiment's summary lacks '{absent[0]}'",
            f"columns {', '.join(NEEDED)}",
            "run `eai report` or the analyze notebook on it first",
        )
    slugs = {name: _slug(name) for name in frame["model"].unique()}
    return frame.reset_index(drop=True).assign(model=lambda t: t["model"].map(slugs))


def _slug(model: str) -> str:
    try:
        return catalog.resolve("model", str(model))[0]
    except UserError:
        return str(model)


def usable(frame: pd.DataFrame, quantity: str, claim: pd.Series) -> pd.DataFrame:
    """The rows that may speak about this claim: the right basis, weights with what the claim needs, in the claim's scope."""
    weights = frame["weights"] if "weights" in frame else pd.Series("published", index=frame.index)
    touched = {str(claim["level"]), str(claim["reference"]), str(claim["statistic"])}
    if quantity in SCORES:
        keep = frame["basis"].isin(("measured", "estimated")) & (weights == "published")
    else:
        keep = (frame["gate"] != "rejected") & (frame["basis"] == "measured")
        keep &= (frame["gpu"] != "cpu") | (quantity == "throughput_tok_s")
        keep &= (weights != "random") | (not touched & {"int8_default", "unspecified_int8"})
    frame = with_retained(frame[keep]) if quantity == "score_retained" else frame[keep]
    return _in_scope(frame, claim)


def _in_scope(use: pd.DataFrame, claim: pd.Series) -> pd.DataFrame:
    """The rows that meet the claim's conditions, as far as they are about what an experiment varies."""
    for condition in filter(None, (c.strip() for c in str(claim["where"] if isinstance(claim["where"], str) else "").split("&"))):
        name = condition.split("=")[0].split("<")[0].split(">")[0].strip()
        if name not in SCOPE or not len(use):
            continue
        if name in ("gpu", "model", "quantization"):
            wanted = [t.strip() for t in condition.split("=", 1)[1].split("|")]
            use = use[[any(w and is_named(w, str(v)) for w in wanted) for v in use[name].astype(str)]]
        elif name == "params_b":
            use = use[meets(use.assign(params_b=use["model"].map(_params_b)), condition)]
        elif name == "accounting":
            use = use[meets(use.assign(accounting=use["energy_kind"]), condition)] if "energy_kind" in use else use[:0]
        elif name in use:
            use = use[meets(use, condition)]
    return use


def is_named(claimed: str, own: str) -> bool:
    """Whether a claim's name of a card, model or strategy covers ours: equal, less specific, or a loose strategy's several readings."""
    return own in STRATEGIES.get(claimed, ()) or same_or_less_specific(claimed, own)


def _params_b(model: str) -> float:
    """Billions of parameters of a catalog model, NaN for another."""
    try:
        return catalog.model(model).params_total / 1e9
    except UserError:
        return float("nan")


def with_retained(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose score has a baseline, with the share of it that they keep; the baseline's own rows fall away."""
    if "score" not in frame or frame["score"].isna().all():
        return frame[:0].assign(score_retained=np.nan)
    kept = retention(frame.assign(n_items=frame.get("n_items", np.nan)))
    columns = [c for c in KEYS if c in kept]
    shares = ["score_retained", "score_retained_low", "score_retained_high"]
    return frame.reset_index().merge(kept[[*columns, *shares]], on=columns).set_index("index").rename_axis(None)


def pairs(use: pd.DataFrame, factor: str, level: str, reference: str) -> list[tuple[pd.Series, pd.Series]]:
    """Rows of the level with the reference row that equals them in everything else."""
    keys = [c for c in KEYS if c in use and c != factor]
    text = use[factor].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
    own, base = (use[[is_named(name, t) for t in text]] for name in (level, reference))
    found = []
    for _, row in own.iterrows():
        same = base
        for key in keys:
            same = same[(same[key] == row[key]) | (same[key].isna() & pd.isna(row[key]))]
        if len(same):
            found.append((row, same.iloc[0]))
    return found


def interval_of(row: pd.Series, quantity: str, between_cards: bool = False) -> Interval:
    """The quantity with its 95 % interval; between two cards that of the true energy, because the gains of two sensors do not cancel."""
    ends = ("_abs_low", "_abs_high") if between_cards and quantity == ENERGY else ("_low", "_high")
    return Interval(*(float(row.get(f"{quantity}{end}", np.nan)) for end in ("", *ends)))


def ratio(level: pd.Series, reference: pd.Series, quantity: str) -> Interval:
    """Ratio with its 95 % interval: the paired one of the summary where one is the other's baseline, else from both intervals."""
    if quantity == ENERGY and _is_baseline_of(reference, level):
        return Interval(*(float(level[f"ratio_to_baseline{end}"]) for end in ("", "_low", "_high")))
    if quantity == ENERGY and _is_baseline_of(level, reference):
        return Interval(*(1 / float(reference[f"ratio_to_baseline{end}"]) for end in ("", "_high", "_low")))
    apart = level["gpu"] != reference["gpu"]
    a, b = (_logs(interval_of(row, quantity, apart)) for row in (level, reference))
    half = np.hypot(a.high - a.low, b.high - b.low) / 2
    return Interval(*np.exp([a.value - b.value, a.value - b.value - half, a.value - b.value + half]))


def _is_baseline_of(base: pd.Series, row: pd.Series) -> bool:
    """Whether the row's paired ratio is to this one: its baseline strategy, all else the same."""
    same = all(
        base[k] == row[k] or (pd.isna(base[k]) and pd.isna(row[k])) for k in KEYS if k in row and k not in ("quantization", "options")
    )
    return same and row.get("baseline") == base["quantization"] != row["quantization"] and pd.notna(row.get("ratio_to_baseline_low"))


def _logs(interval: Interval) -> Interval:
    """The logarithms of an interval of a positive quantity; NaN where an end is not above zero."""
    return Interval(*(np.log(x) if x > 0 else np.nan for x in interval))


def difference(level: pd.Series, reference: pd.Series, quantity: str) -> Interval:
    """Difference of two scores with its interval, as for different items: wide, and safe where the items were the same."""
    return difference_of(interval_of(level, quantity), interval_of(reference, quantity))
