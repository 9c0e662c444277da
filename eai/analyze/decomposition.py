"""What a task's energy is made of: its input tokens at the price of prefill, its output tokens at that of decode, and what that leaves.

The prices are those of plain generation in the same experiment, under the same strategy and batch size (`prefill`)::

    energy an item = tokens in x prefill an input token + (tokens out - 1) x decode a token + the rest

The first output token belongs to the prefill; an item whose continuations were only scored has none. The rest, in either
direction, is what such prices do not know: items padded to the longest of their batch, rows that wait for the last one of it, logits of
every position where choices are scored, tokenization.
"""

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.analyze.prefill import split
from eai.analyze.selection import CONFIGURATION, Selection, as_run, in_order
from eai.errors import UserError
from eai.stats.intervals import t_quantile

SAME = ["gpu", "model", "weights", "quantization", "batch_size", "job"]
NUMBERS = ["tokens_in_per_item", "tokens_out_per_item", "energy_j_per_request", "prefill_j", "decode_j"]
ENDS = ("", "_low", "_high")


def decompose(selection: Selection) -> pd.DataFrame:
    """One row a task and configuration: tokens and energy of an item, its prefill and decode part, and the share they explain.

    Columns: the configuration, input_tokens_priced (the length at which prefill was measured; of several the nearest), NUMBERS
    [tokens, J], explained_share with `_low` and `_high` (t interval over blocks, each priced by its own fit), rest_share (1 - explained),
    n_blocks and reason. Energies are of one item; a share above 1 says that the prices are too high for it.
    """
    tasks, plain = selection.rows[as_run(selection.rows)], selection.rows[~as_run(selection.rows)]
    cells = dict(list(plain.groupby(SAME, sort=False)))
    keys = ["configuration_id", "job"]
    rows = [_row(rows, cells.get(tuple(rows[SAME].iloc[0]))) for _, rows in tasks.groupby(keys, sort=False)]
    numbers = [*NUMBERS, *(f"explained_share{end}" for end in ENDS), "rest_share"]
    columns = [*CONFIGURATION, "input_tokens_priced", *numbers, "n_blocks", "reason"]
    return in_order(pd.DataFrame(rows, columns=columns)) if rows else pd.DataFrame(columns=columns)


def _row(task: pd.DataFrame, generation: pd.DataFrame | None) -> dict:
    """The numbers of one task and configuration."""
    row = task[CONFIGURATION].iloc[0].to_dict()
    sums = task.groupby("block")[["energy_j", "tokens_in", "tokens_out", "requests"]].sum()
    if generation is None:
        return row | {"n_blocks": 0, "reason": "no plain generation with this strategy and batch size: add generate to the tasks"}
    per_item = sums.div(sums["requests"], axis=0)
    length = _nearest(generation["input_tokens"].unique(), per_item["tokens_in"].mean())
    prices, why = _prices(generation[generation["input_tokens"] == length])
    both = per_item.join(prices, how="inner")
    if both.empty:
        return row | {"n_blocks": 0, "reason": why or "no block holds both"}
    both["prefill_j"] = both["tokens_in"] * both["prefill_j_per_token"]
    both["decode_j"] = (both["tokens_out"] - 1).clip(lower=0) * both["decode_j_per_token"]
    share = (both["prefill_j"] + both["decode_j"]) / metrics.energy_per_request(both["energy_j"], 1)
    half = float(t_quantile(len(share) - 1)) * share.std(ddof=1) / np.sqrt(len(share)) if len(share) > 1 else np.nan
    found = dict(zip(NUMBERS, both[["tokens_in", "tokens_out", "energy_j", "prefill_j", "decode_j"]].mean(), strict=True))
    found |= {f"explained_share{end}": share.mean() + step for end, step in zip(ENDS, (0.0, -half, half), strict=True)}
    return row | found | {"input_tokens_priced": length, "rest_share": 1 - share.mean(), "n_blocks": len(both), "reason": ""}


def _nearest(lengths: np.ndarray, wanted: float) -> int:
    """The input length nearest to that of the items, by ratio."""
    return int(min(lengths, key=lambda n: abs(np.log(n / max(wanted, 1.0)))))


def _prices(cell: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """(prefill_j_per_token and decode_j_per_token by block, why a block has none): each block's own fit over the output lengths."""
    found, why = {}, ""
    for block, rows in cell.groupby("block"):
        sums = rows.groupby("output_tokens")[["energy_j", "requests"]].sum()
        try:
            fit = split(sums.index, sums["energy_j"] / sums["requests"], np.ones(len(sums)))
        except UserError as error:
            why = str(error)
            continue
        input_tokens = float(rows["input_tokens"].iloc[0])
        found[block] = {"prefill_j_per_token": float(fit.prefill.value) / input_tokens, "decode_j_per_token": float(fit.decode.value)}
    return pd.DataFrame.from_dict(found, orient="index", columns=["prefill_j_per_token", "decode_j_per_token"]), why
