"""Perplexity of texts: one figure a configuration, and its ratio to the baseline's on the same texts.

A perplexity is exp(nats / words) over all texts together. Words are those between spaces, so that models with different tokenizers can be
compared; per token is the figure that papers print, and belongs to one tokenizer. It is no fraction: it enters no EOR.
"""

import numpy as np
import pandas as pd

from eai.analyze.comparison import match_baselines
from eai.analyze.selection import CONFIGURATION, Selection, in_order
from eai.stats import comparisons as tests
from eai.stats.totals import quotient_of_totals

METRIC = "word_perplexity_nats"
SIZES = {"word_perplexity": "words", "token_perplexity": "tokens_in"}
ENDS = ("", "_low", "_high")


def of_texts(items: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration that was given texts: word_perplexity and token_perplexity with `_low` and `_high`, and n_items, its texts.

    `items`: schema.SCORES. Texts that ran in several blocks count once. Intervals say how far other texts like these would move the figure.
    """
    rows = [{"configuration_id": i, "n_items": len(texts)} | _figures(texts) for i, texts in _texts(items).groupby(level=0)]
    return pd.DataFrame(rows, columns=["configuration_id", "n_items", *(f"{name}{end}" for name in SIZES for end in ENDS)])


def _texts(items: pd.DataFrame) -> pd.DataFrame:
    """score [nats], words and tokens_in by configuration and text."""
    texts = items.reindex(columns=["configuration_id", "item", "metric", "score", *SIZES.values()])
    texts = texts[texts["metric"] == METRIC]
    return texts.groupby(["configuration_id", "item"])[["score", *SIZES.values()]].mean()


def _figures(texts: pd.DataFrame) -> dict[str, float]:
    """The perplexities of one configuration."""
    found = {name: np.exp(quotient_of_totals(texts["score"], texts[size])) for name, size in SIZES.items()}
    return {f"{name}{end}": float(v) for name, interval in found.items() for end, v in zip(ENDS, interval, strict=True)}


def against_baseline(selection: Selection, items: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Each configuration's word perplexity over its baseline's, paired on the texts that both were given; one row a configuration.

    Columns: the configuration, metric, baseline, ratio_to_baseline with `_low` and `_high`, n_pairs (texts), p, p_holm over the table,
    outcome (higher is worse), basis (measured, whatever that of the energy is), reason.
    """
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    texts = _texts(items)
    known = set(texts.index.get_level_values(0))
    table = match_baselines(configurations, baseline)
    table = table[table["configuration_id"].isin(known) & (table["configuration_id"] != table["baseline_id"])]
    rows = [row | _compared(row, texts, known) for row in table.to_dict("records")]
    columns = [
        *CONFIGURATION,
        "metric",
        "baseline",
        *(f"ratio_to_baseline{end}" for end in ENDS),
        "n_pairs",
        "p",
        "p_holm",
        "outcome",
        "reason",
    ]
    found = pd.DataFrame(rows, columns=[*columns, "log_ratio", "se_log"])
    found["p_holm"] = tests.adjust(found["p"].to_numpy(float))
    d = tests.Difference(*(found[c].to_numpy(float) for c in ("log_ratio", "se_log")), found["n_pairs"] - 1, 0.0, found["n_pairs"])
    found["outcome"] = tests.outcome(d, found["p_holm"], np.nan, np.nan)
    return in_order(found[columns].assign(basis="measured"))


def _compared(row: dict, texts: pd.DataFrame, known: set[str]) -> dict:
    """Ratio, interval and p of one configuration."""
    found = {"metric": "word_perplexity", "n_pairs": 0}
    if row["baseline_id"] not in known:
        return found | {"reason": row["reason"] or "the baseline was given no text"}
    both = texts.loc[row["configuration_id"]].merge(texts.loc[row["baseline_id"]], on="item", suffixes=("", "_base"))
    if len(both) < 2:
        return found | {"n_pairs": len(both), "reason": "fewer than two texts that both were given"}
    difference = quotient_of_totals(both["score"] - both["score_base"], both["words"])
    found |= {f"ratio_to_baseline{end}": float(np.exp(v)) for end, v in zip(ENDS, difference, strict=True)}
    half = float(difference.high - difference.value)
    se = half / float(tests.t_quantile(len(both) - 1))
    d = tests.Difference(difference.value, se if se > 0 else np.nan, len(both) - 1, 0.0, len(both))
    reason = "" if se > 0 else "the texts do not vary: constants, not measurements"
    return found | {"n_pairs": len(both), "p": float(tests.p_value(d)), "log_ratio": d.mean, "se_log": d.se, "reason": reason}
