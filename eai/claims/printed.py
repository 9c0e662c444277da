"""How finely figures are printed, and so what range of true values each may stand for.

Only numbers reach a reader of a data frame, not their text: `0.0170` is 0.017. The decimals and the significant digits of a
whole column give the step back, because a column is printed in one format.
"""

import numpy as np

MOST_DECIMALS = 12
FULL_PRECISION = 15


def _fewest(values: np.ndarray, most: int) -> int:
    """The fewest decimals that reproduce every value, at most `most`."""
    for decimals in range(most):
        if np.all(np.abs(np.round(values, decimals) - values) <= 1e-12 * np.maximum(np.abs(values), 1e-3)):
            return decimals
    return most


def half_steps(values: np.ndarray) -> np.ndarray:
    """Half the printed step of each value: a figure printed as 42.29 stands for 42.285 to 42.295, so 0.005.

    The step is the coarser of the column's last decimal and of its last significant digit, which serves columns printed with
    fixed decimals and columns printed with, say, six digits. Unrounded floating point gives 0; NaN stays NaN.
    """
    out = np.full(len(values), np.nan)
    known = np.isfinite(values)
    x = values[known]
    if not len(x):
        return out
    decimals = _fewest(x, MOST_DECIMALS)
    size = np.floor(np.log10(np.abs(np.where(x == 0, 1.0, x))))
    digits = 1 + _fewest(x / 10.0**size, FULL_PRECISION - 1)
    step = np.maximum(10.0**-decimals, np.where(x == 0, 0.0, 10.0 ** (size + 1 - digits)))
    out[known] = 0.0 if decimals >= MOST_DECIMALS and digits >= FULL_PRECISION - 2 else step / 2
    return out


def significant_digits(value: float, half_step: float) -> int:
    """How many significant digits a figure shows: 42.29 has 4, 0.0170 (printed to 0.0001) has 3."""
    if not np.isfinite(value) or value == 0:
        return 0
    if half_step <= 0:
        return FULL_PRECISION
    return max(0, int(np.floor(np.log10(abs(value)) + 1e-12) - np.floor(np.log10(2 * half_step) + 1e-9)) + 1)
