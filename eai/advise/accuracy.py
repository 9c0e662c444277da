"""What is known of a strategy's accuracy on a model: a measured score, a perplexity beside the unquantized one, or nothing.

A perplexity is no task score: it shows damage, and never that a score is kept. Perplexities of different sessions are not compared.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from eai import catalog, strategies, tables
from eai.advise.parameters import Request
from eai.errors import UserError
from eai.predict.features import canonical, shape
from eai.predict.rows import TABLE, campaigns
from eai.quantity import Quantity

MILD_PERPLEXITY = 0.05
BETTER_THAN_POSSIBLE = -0.03


@dataclass(frozen=True)
class Accuracy:
    """`status`: reference (unquantized) | score | perplexity | unknown; `retained`: score over the unquantized one, where measured.

    `perplexity_change`: relative to the unquantized model of the same session; `acceptable`: whether it may be recommended unasked.
    """

    status: str
    acceptable: bool
    note: str
    retained: Quantity | None = None
    perplexity_change: float | None = None
    evidence: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """The accuracy as it stands in answers."""
        retained = None if self.retained is None else self.retained.to_json()
        numbers = {"score_retained": retained, "perplexity_change": self.perplexity_change}
        return {"status": self.status, "acceptable": self.acceptable, **numbers, "note": self.note, "evidence": list(self.evidence)}


@cache
def perplexities() -> pd.DataFrame:
    """Relative perplexity changes against fp16 of the same session and model: shape, quantization, change, evidence.

    A session whose quantized model reads clearly better than its unquantized one measured the two differently: its pairs are left out.
    """
    raw = tables.read_published(TABLE)
    raw = raw.assign(source_row=[f"{TABLE}.csv:{line}" for line in range(2, len(raw) + 2)])
    raw = raw.dropna(subset=["perplexity"])
    raw = raw[~raw["session"].str.startswith("dashboard")]
    base = raw[raw["quantization"] == "fp16"]
    pairs = raw[raw["quantization"] != "fp16"].merge(base, on=["session", "model"], suffixes=("", "_fp16"))
    pairs["change"] = pairs["perplexity"] / pairs["perplexity_fp16"] - 1
    pairs["shape"] = [_shape(name) for name in pairs["model"]]
    worst = pairs.groupby(["session", "model"])["change"].transform("min")
    kept = pairs[worst >= BETTER_THAN_POSSIBLE]
    kept = kept.assign(evidence=kept["source_row"] + " against " + kept["source_row_fp16"])
    return kept[["session", "model", "shape", "quantization", "change", "evidence"]].reset_index(drop=True)


def _shape(name: str) -> str:
    try:
        return shape(catalog.model(name))
    except UserError:
        return name


@cache
def scores() -> pd.DataFrame:
    """Scores of our own campaigns with the unquantized score of the same model, task and campaign; empty where none has scores."""
    parts = [tables.read_result(path, "summary").assign(campaign=path.name) for path in campaigns()]
    key = ["campaign", "model", "task", "options"]
    columns = [*key, "quantization", "score", "score_low", "score_high"]
    table = pd.concat(parts)[columns].dropna(subset=["score"]) if parts else pd.DataFrame(columns=columns)
    table = table.drop_duplicates([*key, "quantization"])
    base = table[table["quantization"].isin(("fp16", "bf16"))].drop_duplicates(key)
    return table.merge(base, on=key, suffixes=("", "_base"))


def accuracy(r: Request, min_accuracy: float | None = None) -> Accuracy:
    """What is known for the requested model and strategy; with `min_accuracy` only a measured score, or no quantization, is acceptable."""
    strategy = strategies.get(r.quantization)
    if not strategy.is_quantized and strategy.slug != "fp16_mixed":
        return Accuracy("reference", True, "unquantized: the reference that others are compared with", Quantity(1.0, unit=""))
    measured = _score(r, min_accuracy)
    return measured or _perplexity(r, min_accuracy)


def _score(r: Request, min_accuracy: float | None) -> Accuracy | None:
    """The measured share of the score, its interval from both scores' intervals as if independent; None if nobody measured it."""
    table = scores()
    found = table[[_shape(m) == shape(r.model) for m in table["model"]]] if len(table) else table
    found = found[found["quantization"] == r.quantization]
    if found.empty:
        return None
    ratio = found["score"] / found["score_base"]
    u = sum((np.log(found[f"score_high{s}"] / found[f"score_low{s}"]) / 2) ** 2 for s in ("", "_base")) ** 0.5
    worst = ratio.idxmin()
    kept = Quantity(float(ratio[worst]), float(ratio[worst] * np.exp(-u[worst])), float(ratio[worst] * np.exp(u[worst])), "")
    floor = min_accuracy if min_accuracy is not None else 1 - MILD_PERPLEXITY
    share = f"{kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}]"
    note = f"keeps {share} of the score in {found.loc[worst, 'task']}, the worst of {len(found)} tasks"
    return Accuracy("score", kept.value >= floor, note, kept, None, tuple(f"{c}/summary.csv" for c in sorted(set(found["campaign"]))))


def _perplexity(r: Request, min_accuracy: float | None) -> Accuracy:
    """What perplexities say: of this model's shape where there are some, else of others as a warning."""
    table = perplexities()
    same_method = table[table["quantization"] == canonical(r.quantization)]
    own = same_method[same_method["shape"] == shape(r.model)]
    if own.empty:
        others = same_method["change"]
        seen = f"; other models: perplexity {others.min():+.1%} to {others.max():+.1%}" if len(others) else ""
        return Accuracy(
            "unknown",
            False,
            f"nobody measured the accuracy of {r.quantization} on {r.model.slug}{seen}",
            evidence=tuple(same_method["evidence"]),
        )
    worst = float(own["change"].max())
    ok = worst <= MILD_PERPLEXITY and min_accuracy is None
    note = f"perplexity {worst:+.1%} against fp16 on {own.loc[own['change'].idxmax(), 'model']}; no task score is known"
    if min_accuracy is not None:
        note += f", so that {min_accuracy:.0%} is kept is not shown"
    return Accuracy("perplexity", ok, note, None, worst, tuple(own["evidence"]))
