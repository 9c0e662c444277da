"""Numbers as text: estimate and interval with as many digits as they are worth."""

import math

import pandas as pd


def number(value: float, digits: int = 3) -> str:
    """The value with `digits` significant digits and no exponent where it can be read without: `0.0621`, `1530`, `-` if missing."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}" if 1e-4 <= abs(value) < 1e7 else f"{value:.{digits - 1}e}"


def interval(row: pd.Series | dict, name: str, digits: int = 3) -> str:
    """`0.621 [0.603, 0.639]`: the estimate and its interval, the estimate alone where there is none."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    text = number(row[name], digits)
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{text} [{number(low, digits)}, {number(high, digits)}]" if known else text


def p_value(p: float) -> str:
    """`0.003`, `< 0.001`, `-` where not testable."""
    return "-" if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def short(model: str) -> str:
    """The model's name without its owner."""
    return model.rsplit("/", 1)[-1]
