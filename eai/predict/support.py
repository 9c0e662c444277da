"""Where a prediction may be asked for: the strategies, sizes, batches and cards that the rows have seen."""

import pandas as pd

SIZE_MARGIN = 1.25
BANDWIDTH_MARGIN = 2.5
MOST_CONTEXT_TOKENS = 4096


def refusal(rows: pd.DataFrame, wanted: dict) -> str:
    """Why `wanted` (a dict of features) cannot be predicted from `rows`, empty if it can: one sentence with what was seen."""
    same = rows[rows["quantization"] == wanted["quantization"]]
    if same.empty:
        return f"no clean row has strategy {wanted['quantization']} (seen: {', '.join(sorted(rows['quantization'].unique()))})"
    low, high = rows["params"].min() / SIZE_MARGIN, rows["params"].max() * SIZE_MARGIN
    if not low <= wanted["params"] <= high:
        return f"{wanted['params'] / 1e9:.2f} B parameters lie outside the {low / 1e9:.2f} to {high / 1e9:.1f} B that the rows support"
    most = most_batch(rows, wanted["quantization"])
    if wanted["batch_size"] > most:
        return f"batch {wanted['batch_size']} of {wanted['quantization']} lies beyond batch {most}, the largest that the rows support"
    low, high = rows["bandwidth_gb_s"].min() / BANDWIDTH_MARGIN, rows["bandwidth_gb_s"].max() * BANDWIDTH_MARGIN
    if not low <= wanted["bandwidth_gb_s"] <= high:
        return f"{wanted['bandwidth_gb_s']:.0f} GB/s of memory bandwidth lie outside the {low:.0f} to {high:.0f} GB/s that the rows support"
    return ""


def most_batch(rows: pd.DataFrame, quantization: str) -> int:
    """The largest batch size that may be asked for: the largest seen at all if the strategy was seen at two sizes or more, else its own.

    A strategy that was seen at several batch sizes has shown that its batches scale like the others'; one seen at one has not.
    """
    own = rows.loc[rows["quantization"] == quantization, "batch_size"]
    return int(rows["batch_size"].max() if own.nunique() > 1 else own.max())


def beyond_own_batches(rows: pd.DataFrame, wanted: dict) -> bool:
    """Whether the batch lies beyond those seen with this strategy itself."""
    return wanted["batch_size"] > rows.loc[rows["quantization"] == wanted["quantization"], "batch_size"].max()


def unseen(rows: pd.DataFrame, wanted: dict) -> str:
    """What is new about `wanted`: gpu, shape, or session (everything was seen, but not by this user's machine)."""
    if wanted["gpu"] not in set(rows["gpu"]):
        return "gpu"
    return "shape" if wanted["shape"] not in set(rows["shape"]) else "session"
