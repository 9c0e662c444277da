"""Affine and symmetric 8-bit quantization, the reference: q = clamp(round(x / step) + zero point).

Formulas: Jacob et al. 2018 (arXiv 1712.05877), equation 1; symmetric: Wu et al. 2020 (arXiv 2004.09602), equation 8. A worked
example's `scale` is often 1 / step, the factor that x is multiplied by; that is what `scale` means here.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantizer:
    """q = clamp(round(scale x + zero_point), q_min, q_max), and back."""

    scale: float
    zero_point: float
    q_min: int
    q_max: int

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """Integer codes of x, ties to even as IEEE 754 and torch round."""
        return np.clip(np.round(self.scale * np.asarray(x, dtype=float) + self.zero_point), self.q_min, self.q_max).astype(np.int64)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """The values that the codes stand for."""
        return (np.asarray(q, dtype=float) - self.zero_point) / self.scale

    @property
    def step(self) -> float:
        """The distance of neighbouring values; inside the range the error is at most half of it."""
        return 1.0 / self.scale


def affine(low: float, high: float, bits: int = 8) -> Quantizer:
    """The unsigned affine quantizer whose range covers [low, high] and holds 0 exactly.

    Raises ValueError for an empty or unbounded range.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if not np.isfinite([low, high]).all() or low == high:
        raise ValueError(f"the range [{low}, {high}] cannot be quantized: it must be finite and not empty")
    top = 2**bits - 1
    scale = top / (high - low)
    return Quantizer(scale, float(np.clip(np.round(-low * scale), 0, top)), 0, top)


def symmetric(largest: float, bits: int = 8) -> Quantizer:
    """The signed symmetric quantizer with zero point 0 that covers [-largest, largest] (codes -127 to 127 for 8 bits).

    Raises ValueError unless `largest` is positive and finite.
    """
    if not (np.isfinite(largest) and largest > 0):
        raise ValueError(f"the largest magnitude is {largest}: it must be positive and finite")
    top = 2 ** (bits - 1) - 1
    return Quantizer(top / largest, 0.0, -top, top)
