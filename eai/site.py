"""What a site adds to energy: PUE, price and carbon intensity, each with a range, a date and a source; and the bill of an energy.

The arithmetic that the forecast of a sweep and the advisor share: energy [kWh] = energy at the board [J] x PUE / 3.6e6, cost = energy x
price, carbon = energy x intensity, with Monte Carlo intervals.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from eai import catalog
from eai.errors import UserError
from eai.quantity import Quantity

PUE_ON_PREMISES = 1.0
PUE_CLOUD = 1.1
J_PER_KWH = 3.6e6
HOURS_A_MONTH = 365.25 * 24 / 12
NORMAL_95 = 1.959964
DRAWS = 4_000
SEED = 20261122

quadrature = cache(lambda: np.polynomial.legendre.leggauss(64))  # when first asked for: start-up stays short


@dataclass(frozen=True)
class Factor:
    """A factor with the range inside which it lies (low = value = high: taken as exact), its unit, and where it comes from. It is drawn
    from a triangle with its mode at `value`: the least that a range and a most likely value say."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str

    def draw(self, rng: np.random.Generator, n: int = DRAWS) -> np.ndarray:
        """`n` draws."""
        return np.full(n, self.value) if self.low == self.high else rng.triangular(self.low, self.value, self.high, n)

    @property
    def sd_log(self) -> float:
        """Standard deviation of the logarithm of the draws, by quadrature over the triangle's quantiles; 0 if taken as exact."""
        if self.low == self.high:
            return 0.0
        nodes, weights = quadrature()
        share, rank = (self.value - self.low) / (self.high - self.low), (nodes + 1) / 2
        rising = self.low + np.sqrt(rank * (self.high - self.low) * (self.value - self.low))
        falling = self.high - np.sqrt((1 - rank) * (self.high - self.low) * (self.high - self.value))
        logs = np.log(np.where(rank < share, rising, falling))
        return float(np.sqrt((logs - logs @ weights / 2) ** 2 @ weights / 2))

    def assumption(self) -> dict:
        """The factor as it stands among an answer's assumptions."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "reason": self.source}


@dataclass(frozen=True)
class Site:
    """Where the electricity comes from: a region of the catalog, and a PUE, a price [USD/kWh] and a carbon intensity where they are
    known."""

    region: str = "us"
    pue_given: float | None = None
    price_given: float | None = None
    carbon_given: Factor | None = None

    @property
    def pue(self) -> Factor:
        """Power usage effectiveness: as given, else 1.0 (on premises) with the cloud's 1.1 as upper end."""
        if (given := self.pue_given) is not None:
            return Factor("pue", given, given, given, "", "given")
        source = "default on premises (1.0), with the usual value of a cloud (1.1) as upper end"
        return Factor("pue", PUE_ON_PREMISES, PUE_ON_PREMISES, PUE_CLOUD, "", source)

    @property
    def price(self) -> Factor | None:
        """Price of electricity: as given, else the region's; None where the catalog has none."""
        if (given := self.price_given) is not None:
            return Factor("price", given, given, given, "USD/kWh", "given")
        return self._of_region("price", "price_usd_per_kwh", "USD/kWh")

    @property
    def carbon(self) -> Factor:
        """Carbon intensity of the electricity: as given, else the region's."""
        return self.carbon_given or self._of_region("carbon", "carbon_g_per_kwh", "g/kWh")

    def _of_region(self, name: str, column: str, unit: str) -> Factor | None:
        """A factor of the catalog, None where it has none; without both ends it is taken as exact and says so."""
        found = catalog.region(self.region)
        value, low, high = (getattr(found, f"{column}{end}") for end in ("", "_low", "_high"))
        known = low is not None and high is not None
        source = f"{found.name}, {found.date}: {found.source}" + ("" if known else "; no sourced range: taken as exact")
        return None if value is None else Factor(name, value, low if known else value, high if known else value, unit, source)

    @property
    def factors(self) -> list[Factor]:
        """The factors that are known."""
        return [f for f in (self.pue, self.price, self.carbon) if f]


def intensity(given: object) -> Factor | None:
    """Carbon intensity [g/kWh] as given: a number, or a CSV file with a row an hour (or any time of equal length): its column g_per_kwh,
    weighted by a column requests where there is one. What the cleanest quarter of the rows has stands in the source. Raises UserError for a
    file or a number that is none."""
    if given is None:
        return None
    try:
        value, source = float(str(given)), "given"
    except ValueError:
        import pandas as pd

        try:
            table = pd.read_csv(str(given), comment="#")
            grams = table["g_per_kwh"].astype(float)
            weights = table["requests"].astype(float) if "requests" in table else grams * 0 + 1
            value = float((grams * weights).sum(skipna=False) / weights.sum(skipna=False))
        except (OSError, KeyError, ValueError, ZeroDivisionError):
            raise UserError(f"carbon {given}", "g/kWh, or a CSV file with a column g_per_kwh (and requests)", "correct it") from None
        clean = grams.nsmallest(max(1, len(grams) // 4)).mean()
        source = f"{given}: {len(grams)} rows of {grams.min():.0f} to {grams.max():.0f} g/kWh; the cleanest quarter has {clean:.0f}"
    if not (np.isfinite(value) and value >= 0):
        raise UserError(f"carbon {given}", "g/kWh, 0 or more, without gaps", "correct it")
    return Factor("carbon", value, value, value, "g/kWh", source)


def drawn(q: Quantity, z: np.ndarray) -> np.ndarray:
    """What a positive quantity is at standard normal draws `z`: log-normal, each side as wide as its own end of the 95 % interval."""
    if q.low is None:
        return np.full(len(z), float(q.value))
    down, up = np.log(q.value / q.low) / NORMAL_95, np.log(q.high / q.value) / NORMAL_95
    return q.value * np.exp(z * np.where(z < 0, down, up))


def interval(value: float, draws: np.ndarray, unit: str) -> Quantity:
    """The value with the 2.5 and 97.5 percentiles of the draws; without spread, no interval."""
    low, high = np.quantile(draws, (0.025, 0.975))
    if np.isclose(low, high, rtol=1e-12, atol=0.0):
        return Quantity(float(value), unit=unit)
    return Quantity(float(value), float(min(low, value)), float(max(high, value)), unit)


def bill(point_j: float, draws_j: np.ndarray, site: Site, rng: np.random.Generator) -> dict[str, Quantity]:
    """`energy_kwh`, `cost_usd` (value None where no price is known) and `carbon_kg` of an energy at the boards [J] and its draws."""
    pue, price, carbon = site.pue, site.price, site.carbon
    point, draws = point_j * pue.value / J_PER_KWH, draws_j * pue.draw(rng, len(draws_j)) / J_PER_KWH
    money = interval(point * price.value, draws * price.draw(rng, len(draws)), "USD") if price else Quantity(None, unit="USD")
    carbon_kg = interval(point * carbon.value / 1e3, draws * carbon.draw(rng, len(draws)) / 1e3, "kg")
    return {"energy_kwh": interval(point, draws, "kWh"), "cost_usd": money, "carbon_kg": carbon_kg}
