"""One energy of one device in one window, with every term of its uncertainty, and the intervals made from them."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from eai.quantity import Budget, Quantity

NOT_A_NUMBER = ("disputed", "counter_reset", "invalid", "lost")
COVERAGE_FACTOR = 1.959963984540054


@dataclass(frozen=True)
class Energy:
    """`energy_j` is gross; `net_energy_j` has the context idle removed (None without a baseline). u_* are k = 1, in J.

    `method`: counter | power | estimate. `energy_j` is None where the reading failed: unmeasured is never 0.
    `u_net_j` is what subtracting the idle power over the whole window adds to the uncertainty of the net energy.
    """

    device_id: str
    boundary: str
    method: str
    primary: bool
    energy_j: float | None
    net_energy_j: float | None = None
    u_statistical_j: float = 0.0
    u_granularity_j: float = 0.0
    u_aliasing_j: float = 0.0
    u_idle_j: float = 0.0
    u_offset_j: float = 0.0
    u_gain_j: float = 0.0
    u_net_j: float | None = None
    basis: str = "measured"
    status: str = "ok"
    field: str = ""

    @property
    def budget(self) -> Budget:
        """The uncertainty budget in joules."""
        return Budget(self.u_statistical_j, self.u_granularity_j, self.u_aliasing_j, self.u_idle_j, self.u_offset_j, self.u_gain_j)

    @property
    def u_reading_j(self) -> float:
        """Standard uncertainty [J] of the reading itself, without the offset and the gain of the card."""
        return math.hypot(self.u_statistical_j, self.u_granularity_j, self.u_aliasing_j, self.u_idle_j)

    def net(self) -> Quantity:
        """Net energy with its 95 % interval on one card; the offset cancels, as it is in the idle power too."""
        return interval(self.net_energy_j, math.hypot(self.u_reading_j, self.u_net_j or 0.0))

    def within_card(self) -> Quantity:
        """Gross energy with the 95 % interval for comparisons on one card."""
        return interval(self.energy_j, self.budget.within_card)

    def absolute(self) -> Quantity:
        """Gross energy with the 95 % interval against the true energy."""
        return interval(self.energy_j, self.budget.absolute)

    def to_row(self) -> dict:
        """The columns of the energies table, without the window's key."""
        return asdict(self)


def interval(energy_j: float | None, u_j: float) -> Quantity:
    """The energy with its 95 % interval, log-normal because an energy is positive.

    Matching moments, sigma = sqrt(ln(1 + (u/E)^2)): for the few percent of a sensor it is E +- 1.96 u to three digits,
    for an estimate good to a factor it does not reach below zero. A net energy <= 0 gets the normal interval.
    """
    if energy_j is None or not math.isfinite(energy_j):
        return Quantity(None, unit="J")
    if energy_j <= 0:
        return Quantity(energy_j, energy_j - COVERAGE_FACTOR * u_j, energy_j + COVERAGE_FACTOR * u_j, "J")
    factor = math.exp(COVERAGE_FACTOR * math.sqrt(math.log1p((u_j / energy_j) ** 2)))
    return Quantity(energy_j, energy_j / factor, energy_j * factor, "J")


def total(energies: Iterable[Energy], boundaries: tuple[str, ...]) -> Quantity | None:
    """Sum of the primary energies within these boundaries, or None if one of them is missing or not a number.

    Cards are independent, so their uncertainties (gain included) add in quadrature.
    """
    chosen = [e for e in energies if e.primary and e.boundary in boundaries]
    if not chosen or any(e.energy_j is None or e.status in NOT_A_NUMBER for e in chosen):
        return None
    return interval(sum(e.energy_j for e in chosen), math.hypot(*(e.budget.absolute for e in chosen)))
