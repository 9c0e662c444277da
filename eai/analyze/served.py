"""Which rows are of a server, and how many requests their windows hold."""

import json

import pandas as pd

VARIES = {"length_varies", "tokens_from_pieces"}


def is_served(table: pd.DataFrame) -> pd.Series:
    """For each row, window or configuration, whether it is one of a server: whether its options name a load."""
    named = {text: "load" in json.loads(text) for text in table["options"].unique() if isinstance(text, str) and text}
    return table["options"].map(lambda text: named.get(text, False)).astype(bool)


def requests(windows: pd.DataFrame) -> pd.Series:
    """The requests of each window, NaN where they were not counted.

    Of a server with replies of fixed length it is the tokens that arrived over the tokens of a reply: tokens are counted where they
    arrive and requests where they end, so whole requests counted at the edges of a short window would add scatter of their own.
    """
    counted = windows["requests"].astype(float)
    if "options" not in windows or "flags" not in windows:
        return counted
    fixed = is_served(windows) & ~windows["flags"].map(lambda flags: bool(VARIES & set(flags))).astype(bool)
    return counted.mask(fixed, windows["tokens_out"] / windows["output_tokens"]) if fixed.any() else counted
