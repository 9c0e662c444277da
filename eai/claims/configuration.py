"""When two rows speak of the same configuration: names that are equal, not stated, or one a less specific form of the other."""

import re

import numpy as np
import pandas as pd

_BOUNDARY = re.compile(r"[-_ .]")
MOST_COMPARED = 1500


def same_or_less_specific(a: str, b: str) -> bool:
    """Whether one name is the other, or its beginning up to a separator: `a800` and `a800_sxm_80gb`, never `rtx4090` and `rtx4090d`."""
    if a == b:
        return True
    short, long = sorted((a, b), key=len)
    return bool(short) and long.startswith(short) and bool(_BOUNDARY.match(long[len(short) :]))


def _relation(column: pd.Series, test) -> np.ndarray:
    """A square matrix over the rows of `column`: `test` of each pair of its distinct values."""
    codes, names = pd.factorize(column.astype(object))
    table = np.array([[test(str(a), str(b)) for b in names] for a in names])
    return table[np.ix_(codes, codes)]


def compatible(keys: pd.DataFrame) -> np.ndarray:
    """Which pairs of rows may be the same configuration: no key that both state differs. At most MOST_COMPARED rows."""
    out = np.ones((len(keys), len(keys)), dtype=bool)
    for column in keys:
        numeric = column in ("batch_size", "input_tokens", "output_tokens", "params_b", "power_limit_w")
        out &= _relation(keys[column], lambda a, b, n=numeric: not a or not b or a == b or (not n and same_or_less_specific(a, b)))
    return out


def differ(keys: pd.DataFrame) -> np.ndarray:
    """Which pairs of rows are different configurations for certain: a key that both state differs."""
    return ~compatible(keys)


def both_state(column: pd.Series) -> np.ndarray:
    """Which pairs of rows both state this key."""
    known = (column.astype(object) != "").to_numpy()
    return known[:, None] & known[None, :]
