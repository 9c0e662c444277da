"""A number that never travels without its interval and unit, and the budget that interval comes from."""

import math
from dataclasses import dataclass, replace

SMALLEST = 1e-6
"""Below it a person reads nothing from the digits."""
_LADDERS = ({"d": 86_400.0, "h": 3_600.0, "min": 60.0, "s": 1.0}, {"MWh": 1e6, "kWh": 1e3, "Wh": 1.0}, {"t": 1e6, "kg": 1e3, "g": 1.0})
"""Units of one kind with their sizes, largest first."""


def plain(value: float | None, digits: int = 3) -> str:
    """A number in plain digits: `6,260`, `0.0123`, a dash for what is not known; never an exponent."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    if abs(value) < SMALLEST:
        return f"< {SMALLEST:.6f}"
    rounded = float(f"{value:.{digits}g}")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and abs(value) < 1 else text


def shortest(value: float, digits: int = 3) -> str:
    """A number of so many digits without trailing zeros or an exponent: `70`, `8.03`, `1,030`."""
    return f"{float(f'{value:.{digits}g}'):,.10g}"


@dataclass(frozen=True)
class Quantity:
    """An estimate with its 95 % interval and unit. `low` and `high` are None where no interval can be stated (one block, a count); they are
    never made up. Raises ValueError if the interval does not contain the estimate."""

    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""

    def __post_init__(self):
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval needs both ends, found low={self.low} high={self.high}")
        if self.value is not None and self.low is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} lies outside its own interval [{self.low}, {self.high}]")

    def __mul__(self, number: float) -> "Quantity":
        """The quantity times a number that is known exactly; its interval goes with it."""
        if not isinstance(number, int | float):
            return NotImplemented
        value, *ends = (None if v is None else v * number for v in (self.value, self.low, self.high))
        return Quantity(value, *(ends if number >= 0 else ends[::-1]), self.unit)

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> "Quantity":
        """The quantity divided by a number that is known exactly: `w.gpu_energy_j / 64`."""
        return self * (1 / number) if isinstance(number, int | float) else NotImplemented

    def in_readable_unit(self) -> "Quantity":
        """The same quantity in the largest unit of its kind that leaves at least 1: 0.0636 h becomes 3.82 min, 0.004 kWh 4 Wh."""
        ladder = next((units for units in _LADDERS if self.unit in units), None)
        if ladder is None or not self.value:
            return self
        unit = next((u for u, factor in ladder.items() if abs(self.value) * ladder[self.unit] >= factor), list(ladder)[-1])
        return replace(self * (ladder[self.unit] / ladder[unit]), unit=unit)

    def to_json(self) -> dict:
        """`{"value", "low", "high", "unit"}`, with None for what is not finite: JSON has no NaN."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in vars(self).items()}

    def __format__(self, spec: str) -> str:
        """`12.3 [11.9 to 12.7] J` in plain digits; a `spec` applies to each of the three numbers."""
        if self.value is None or not math.isfinite(self.value):
            return "not measured"
        known = [v for v in (self.value, self.low, self.high) if v is not None]
        texts = [format(v, spec) if spec else plain(v, 4) for v in known]
        value, *ends = (text.rstrip("0").rstrip(".") if "." in text and not spec else text for text in texts)
        return f"{value}{' [{} to {}]'.format(*ends) if ends else ''} {self.unit}".rstrip()

    def __str__(self) -> str:
        return format(self, "")


@dataclass(frozen=True)
class Budget:
    """Standard uncertainties (k = 1) of one energy, in joules, by where they come from. `gain` is common to everything measured on one card
    and cancels in a ratio on it; the others do not."""

    statistical: float = 0.0
    granularity: float = 0.0
    aliasing: float = 0.0
    idle: float = 0.0
    offset: float = 0.0
    gain: float = 0.0

    def __post_init__(self):
        if wrong := [name for name, term in vars(self).items() if not term >= 0]:
            raise ValueError(f"the {wrong[0]} term must be >= 0 J, found {getattr(self, wrong[0])}")

    @property
    def within_card(self) -> float:
        """Combined standard uncertainty [J] of comparisons on one card: everything but the gain."""
        return math.sqrt(sum(term**2 for name, term in vars(self).items() if name != "gain"))

    @property
    def absolute(self) -> float:
        """Combined standard uncertainty [J] against the true energy: the gain included (GUM, eq. 10)."""
        return math.hypot(self.within_card, self.gain)
