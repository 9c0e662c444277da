"""The whole bill of a month: energy in use and idle, electricity, rent or ownership, carbon with what making the cards cost.

energy [kWh] = energy an output token [J] x output tokens x requests x PUE / 3.6e6, gross at the GPUs' boards: the host's CPU and memory
are not in it. Cards that are kept ready are idle for the rest of the month. A rented card costs its hour whether it works or not.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from eai import tables
from eai.advise.evidence import Cost, cost, idle_w, scaled
from eai.advise.request import Configuration, Request, require_fit
from eai.errors import UserError
from eai.quantity import Quantity
from eai.site import DRAWS, HOURS_A_MONTH, SEED, Factor, drawn, interval
from eai.site import bill as electricity

HOURS_A_YEAR = HOURS_A_MONTH * 12
READY = 0.8
EMBODIED = Factor(
    "embodied carbon of a card",
    164.0,
    100.0,
    320.0,
    "kg",
    "NVIDIA's product carbon footprint of HGX H100 (1,312 kg a board of eight); 318 kg an A100 with its share of the server: "
    "Chien et al. 2023, doi:10.1145/3604930.3605705; consumer cards less",
)
LIFETIME = Factor("life of a card", 4.0, 3.0, 6.0, "years", "usual depreciation of servers, 3 to 6 years")


@dataclass(frozen=True)
class Work:
    """A month of a configuration: boards kept, hours they work, energy in use and idle at the boards [J] as quantities, hours paid."""

    boards: int
    busy_hours: float
    used: Quantity
    idle: Quantity
    paid_hours: float

    @property
    def used_j(self) -> float:
        """Energy in use [J]."""
        return self.used.value

    @property
    def idle_j(self) -> float:
        """Energy of cards that wait [J]."""
        return self.idle.value


def work(r: Request, c: Configuration, known: Cost) -> Work:
    """The month of a configuration at its stated batch: its cards are added until they work at most 80 % of the month.

    Where a rate of requests was given, cards wait for the rest of the month; otherwise (and offline) only the hours worked count.
    """
    tokens = c.output_tokens * r.requests
    rate = known.throughput_tok_s.value
    hours = tokens / rate / 3600 if rate and np.isfinite(rate) else float("nan")
    replicas = max(1, int(np.ceil(hours / HOURS_A_MONTH / (READY if r.is_served else 1.0)))) if np.isfinite(hours) else 1
    boards = replicas * c.num_gpus
    still = max(0.0, replicas * HOURS_A_MONTH - hours) * c.num_gpus if r.is_served and np.isfinite(hours) else 0.0
    paid = boards * HOURS_A_MONTH if r.is_served else hours * c.num_gpus
    return Work(boards, hours * c.num_gpus, scaled(known.energy_j_per_token, tokens, "J"), scaled(idle_w(c.gpu), still * 3600, "J"), paid)


def draw_energy(known: Cost, rng: np.random.Generator, common: np.ndarray | None = None) -> np.ndarray:
    """Draws of the energy a token [J]; `common`: standard normal draws of the error shared with another prediction."""
    total, z = float(np.hypot(known.sd_own, known.sd_shared)), rng.standard_normal(DRAWS)
    if common is not None and known.sd_shared and total:
        z = (known.sd_own * z + known.sd_shared * common) / total
    return drawn(known.energy_j_per_token, z)


def bill(r: Request, c: Configuration, known: Cost, done: Work | None = None) -> dict[str, Any]:
    """The month of one configuration as it stands in answers; what is not known is None.

    Keys beside the configuration and its figures: energy_kwh, cost_usd and carbon_kg of the energy in use; `idle` (the same of the cards
    that wait); `cards` (their number, hours, what they cost); embodied_kg; total_usd; usd_per_million_tokens; energy_j_per_request.
    """
    done = done or work(r, c, known)
    rng = np.random.default_rng(SEED)
    used = electricity(done.used_j, drawn(done.used, rng.standard_normal(DRAWS)), r.site, rng)
    waiting = drawn(done.idle, rng.standard_normal(DRAWS)) if done.idle_j else np.zeros(DRAWS)
    idle = electricity(done.idle_j, waiting, r.site, rng)
    hourly, how = card_hour(r, c)
    cards = hourly and Quantity(*(None if v is None else v * done.paid_hours for v in (hourly.value, hourly.low, hourly.high)), "USD")
    rented = how.startswith("rent")
    parts = [cards] if rented else [cards, used["cost_usd"], idle["cost_usd"]]
    total = (
        _sum(parts, "USD")
        if all(q and q.value is not None for q in parts if q is not cards) and (cards or not rented)
        else Quantity(None, unit="USD")
    )
    millions = c.output_tokens * r.requests / 1e6
    life_draws = EMBODIED.draw(rng) / (LIFETIME.draw(rng) * HOURS_A_YEAR) * done.paid_hours
    point = EMBODIED.value / (LIFETIME.value * HOURS_A_YEAR) * done.paid_hours
    embodied = interval(point, life_draws, "kg") if np.isfinite(point) else Quantity(None, unit="kg")
    return {
        "configuration": c.to_json(),
        **{name: q.to_json() for name, q in used.items()},
        "idle": {name: q.to_json() for name, q in idle.items()},
        "cards": {
            "number": done.boards,
            "hours": Quantity(done.busy_hours, unit="h").to_json(),
            "usd": cards.to_json() if cards else None,
            "how": how,
        },
        "embodied_kg": embodied.to_json(),
        "total_usd": total.to_json(),
        "usd_per_million_tokens": Quantity(
            *(None if v is None else v / millions for v in (total.value, total.low, total.high)), "USD"
        ).to_json(),
        "energy_j_per_request": Quantity(
            *(None if v is None else v * c.output_tokens for v in _ends(known.energy_j_per_token)), "J"
        ).to_json(),
        **known.to_json(),
    }


def _ends(q: Quantity) -> tuple[float | None, float | None, float | None]:
    return q.value, q.low, q.high


def _sum(parts: list[Quantity | None], unit: str) -> Quantity:
    """The sum; ends are added to ends, which is wide."""
    known = [q for q in parts if q is not None]
    ends = [sum(q.value if getattr(q, name) is None else getattr(q, name) for q in known) for name in ("value", "low", "high")]
    return Quantity(*map(float, ends), unit)


def card_hour(r: Request, c: Configuration) -> tuple[Quantity | None, str]:
    """(what one board costs an hour [USD], how it is known): the stated rent, the share of a stated price, else the catalog's rent.

    Owned: price / lifetime for every hour that the card is kept, and for hours worked alone over the share of its hours that work. None
    where nothing is known.
    """
    if r.rent_usd_h is not None:
        return Quantity(r.rent_usd_h, unit="USD/h"), "rent as given"
    if r.gpu_price is not None:
        hours = r.lifetime_years * HOURS_A_YEAR * (1.0 if r.is_served else r.card_utilisation)
        return Quantity(r.gpu_price / hours, unit="USD/h"), f"owned: {r.gpu_price:,.0f} USD over {r.lifetime_years:g} years"
    row = rents().get(c.gpu.slug)
    if row is None:
        return None, "no rent or price known: give --rent or --gpu-price"
    return Quantity(
        row["usd_per_hour"], row["usd_per_hour_low"], row["usd_per_hour_high"], "USD/h"
    ), f"rent, {row['date']}: {row['source']}"


@cache
def rents() -> dict[str, dict]:
    """GPU slug -> its row of data/catalog/rent.csv; empty where the table does not exist."""
    try:
        return tables.read_catalog("rent").set_index("slug").to_dict("index")
    except (UserError, OSError):
        return {}


def break_even(r: Request, c: Configuration, other: Configuration, other_price_usd: float) -> dict[str, Any]:
    """From how many requests a month on one whole card each, bought for this work alone, the dearer card is the cheaper choice.

    Both cards are paid for whether they work or not; a request costs only its electricity, and the price of electricity and the PUE are
    the site's and common to both. `requests`: the crossing with the 2.5 and 97.5 percentiles of the draws in which there is one;
    `p_crosses`: their share, None-valued below one half. `served`: what one card of each can serve a month: a crossing beyond needs more
    cards.
    Raises UserError where no price of electricity or of the first card is known, and for a card that cannot run the request.
    """
    price = r.site.price
    if r.gpu_price is None or price is None:
        what = "the price of the card" if r.gpu_price is None else f"the price of electricity for region {r.site.region}"
        raise UserError(f"no {what.removeprefix('the ')}", what, f"give {'--gpu-price' if r.gpu_price is None else '--price'}")
    require_fit(other)
    rng = np.random.default_rng(SEED)
    pair = ((c, cost(c)), (other, cost(other)))
    usd_a_j = r.site.pue.draw(rng) * price.draw(rng) / 3.6e6
    fixed = [p / (r.lifetime_years * 12) for p in (r.gpu_price, other_price_usd)]
    per_request = [draw_energy(known, rng) * each.output_tokens * usd_a_j for each, known in pair]
    points = [known.energy_j_per_token.value * each.output_tokens * r.site.pue.value * price.value / 3.6e6 for each, known in pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = (fixed[1] - fixed[0]) / (per_request[0] - per_request[1])
        point = (fixed[1] - fixed[0]) / (points[0] - points[1]) if points[0] != points[1] else np.nan
    real = crossing[np.isfinite(crossing) & (crossing > 0)]
    share = len(real) / DRAWS
    served = [known.throughput_tok_s.value * 3600 * HOURS_A_MONTH / each.output_tokens for each, known in pair]
    answer = {"other": bill(r, *pair[1]), "served": served, "p_crosses": share}
    if share < 0.5 or not point > 0:
        return answer | {"requests": None, "why": "the card that costs more to own does not save enough electricity a request"}
    return answer | {"requests": interval(float(point), real, "requests").to_json(), "why": ""}
