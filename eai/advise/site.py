"""What a site adds to energy: PUE, price and carbon intensity, each a value with a range, a date and a source."""

from dataclasses import dataclass

import numpy as np

from eai import catalog
from eai.advise.parameters import Request

PUE_ON_PREMISES = 1.0
PUE_CLOUD = 1.1
NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class Factor:
    """A factor with the range inside which it lies (low = value = high: taken as exact), its unit, and where it comes from.

    It is drawn from a triangle with its mode at `value`: the least that a range and a most likely value say.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """`n` draws."""
        return np.full(n, self.value) if self.low == self.high else rng.triangular(self.low, self.value, self.high, n)

    @property
    def sd_log(self) -> float:
        """Standard deviation of the logarithm of the draws, by quadrature over the triangle's quantiles; 0 if taken as exact.

        The triangle's own standard deviation over its mode is not that: these triangles are wide and lopsided.
        """
        if self.low == self.high:
            return 0.0
        share, rank = (self.value - self.low) / (self.high - self.low), (NODES + 1) / 2
        rising = self.low + np.sqrt(rank * (self.high - self.low) * (self.value - self.low))
        falling = self.high - np.sqrt((1 - rank) * (self.high - self.low) * (self.high - self.value))
        logs = np.log(np.where(rank < share, rising, falling))
        return float(np.sqrt((logs - logs @ WEIGHTS / 2) ** 2 @ WEIGHTS / 2))

    def assumption(self) -> dict:
        """The factor as it stands among an answer's assumptions."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "reason": self.source}


def pue(r: Request) -> Factor:
    """Power usage effectiveness: as given, else 1.0 (on premises, nothing but the board) with the cloud's 1.1 as upper end."""
    if r.pue is not None:
        return Factor("pue", r.pue, r.pue, r.pue, "", "given")
    source = "the protocol's default on premises (1.0); its default for a cloud (1.1) as upper end"
    return Factor("pue", PUE_ON_PREMISES, PUE_ON_PREMISES, PUE_CLOUD, "", source)


def price(r: Request) -> Factor | None:
    """Price of electricity: as given, else the region's; None where the catalog has none."""
    if r.price is not None:
        return Factor("price", r.price, r.price, r.price, "USD/kWh", "given")
    site = catalog.region(r.region)
    if site.price_usd_per_kwh is None:
        return None
    low, high = site.price_usd_per_kwh_low, site.price_usd_per_kwh_high
    return _ranged("price", site.price_usd_per_kwh, low, high, "USD/kWh", site)


def carbon(r: Request) -> Factor:
    """Carbon intensity of the region's electricity."""
    site = catalog.region(r.region)
    return _ranged("carbon", site.carbon_g_per_kwh, site.carbon_g_per_kwh_low, site.carbon_g_per_kwh_high, "g/kWh", site)


def _ranged(name: str, value: float, low: float | None, high: float | None, unit: str, site: catalog.Electricity) -> Factor:
    """A factor of the catalog; without both ends it is taken as exact and says so."""
    known = low is not None and high is not None
    source = f"{site.name}, {site.date}: {site.source}" + ("" if known else "; no sourced range: taken as exact")
    return Factor(name, value, low if known else value, high if known else value, unit, source)
