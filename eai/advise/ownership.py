"""Total cost of ownership of a month of work on a card, and from how many requests on one card is cheaper than another.

A month costs its share of the card's price, card_price / (lifetime x utilisation) for every hour the work needs, and the electricity.
Prices of cards move and differ by buyer, so they are asked for and have no default.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eai import catalog
from eai.advise import site
from eai.advise.bill import DRAWS, J_PER_KWH, SEED, draw_energy, drawn_at
from eai.advise.evidence import Cost, cost
from eai.advise.parameters import Request, cannot_run, require_fit
from eai.errors import UserError
from eai.quantity import Quantity

HOURS_A_YEAR = 365.25 * 24
OWNING = ("gpu_price", "lifetime_years", "card_utilisation", "other_gpu", "other_gpu_price")


@dataclass(frozen=True)
class Card:
    """What owning a card costs: its price with everything around it [USD], years of use, and the share of its hours that is worked.

    Raises UserError for a negative price, no lifetime, or a utilisation outside (0, 1].
    """

    price_usd: float
    lifetime_years: float = 4.0
    utilisation: float = 0.5

    def __post_init__(self):
        if not self.price_usd >= 0:
            raise UserError(f"card price {self.price_usd}", "a price in USD, 0 or more", "correct it")
        if not self.lifetime_years > 0 or not 0 < self.utilisation <= 1:
            raise UserError(
                f"lifetime {self.lifetime_years} years at utilisation {self.utilisation}",
                "years above 0 and a share in (0, 1]",
                "correct them",
            )

    @property
    def usd_per_hour(self) -> float:
        """The card's price a worked hour."""
        return self.price_usd / (self.lifetime_years * HOURS_A_YEAR * self.utilisation)


def ownership(r: Request, card: Card) -> dict:
    """The month's total cost with its parts as quantities, and the hours of the card it takes (more than a month has: several cards)."""
    known = cost(r)
    rng = np.random.default_rng(SEED)
    point_h, point_usd = _points(r, known)
    hours = r.output_tokens * r.requests / 3600 / drawn_at(known.throughput_tok_s, rng.standard_normal(DRAWS))
    energy_usd = _usd_a_request(r, known, rng, _usd_a_kwh(r, rng)) * r.requests
    total = hours * card.usd_per_hour + energy_usd
    return {
        "configuration": r.configuration,
        "total_usd": _quantity(point_h * card.usd_per_hour + point_usd, total, "USD"),
        "card_usd": _quantity(point_h * card.usd_per_hour, hours * card.usd_per_hour, "USD"),
        "energy_usd": _quantity(point_usd, energy_usd, "USD"),
        "card_hours": _quantity(point_h, hours, "h"),
        "evidence": list(known.evidence),
        "warnings": list(known.warnings),
    }


def break_even(first: Request, card: Card, second: Request, other: Card) -> dict:
    """From how many requests a month on one whole card each, bought for this work alone, the dearer card is the cheaper choice.

    Both cards are paid for whether they work or not; a request costs only its electricity. `requests`: the crossing with the 2.5 and 97.5
    percentiles of the draws in which there is one; `p_crosses`: their share. None below one half: then there is no such point. PUE and
    price are the site's and common to both.
    """
    rng = np.random.default_rng(SEED)
    fixed = [c.price_usd / (c.lifetime_years * 12) for c in (card, other)]
    costs = [cost(first), cost(second)]
    points = [_points(r, c)[1] / r.requests for r, c in zip((first, second), costs, strict=True)]
    usd_a_kwh = _usd_a_kwh(first, rng)
    per_request = [_usd_a_request(r, c, rng, usd_a_kwh) for r, c in zip((first, second), costs, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = (fixed[1] - fixed[0]) / (per_request[0] - per_request[1])
        point = (fixed[1] - fixed[0]) / (points[0] - points[1]) if points[0] != points[1] else np.nan
    real = crossing[np.isfinite(crossing) & (crossing > 0)]
    share = len(real) / DRAWS
    if share < 0.5 or not point > 0:
        return {"requests": None, "p_crosses": share, "why": "the card that costs more to own does not save enough electricity a request"}
    return {"requests": _quantity(float(point), real, "requests"), "p_crosses": share, "why": ""}


def _points(r: Request, c: Cost) -> tuple[float, float]:
    """(hours of the card, USD of electricity) of the month at the point values. Raises UserError where no price is known."""
    price = site.price(r)
    if price is None:
        raise UserError(f"no price of electricity for region {r.region}", "a price in USD/kWh", "give --price")
    tokens = r.output_tokens * r.requests
    usd = c.energy_j_per_token.value * tokens * site.pue(r).value * price.value / J_PER_KWH
    return tokens / c.throughput_tok_s.value / 3600, usd


def _usd_a_kwh(r: Request, rng: np.random.Generator) -> np.ndarray:
    """Draws of what a kWh of the board costs at the site, everything around the board included."""
    return site.pue(r).draw(rng, DRAWS) * site.price(r).draw(rng, DRAWS)


def _usd_a_request(r: Request, c: Cost, rng: np.random.Generator, usd_a_kwh: np.ndarray) -> np.ndarray:
    """Draws of a request's electricity [USD]."""
    return draw_energy(c, rng) * r.output_tokens * usd_a_kwh / J_PER_KWH


def _quantity(value: float, drawn: np.ndarray, unit: str) -> dict:
    """The point value with the 2.5 and 97.5 percentiles of the draws."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Quantity(float(value), float(min(low, value)), float(max(high, value)), unit).to_json()


def owned(r: Request, owning: dict[str, Any]) -> dict[str, Any]:
    """`ownership` and `break_even` of the requested card and, if named, another one that runs the same request; None where not asked for.

    `owning`: the options named in OWNING. The break-even carries the other card's `ownership` as `other` and, as `served`, the requests
    that one card of each can serve a month: a crossing beyond them needs more cards.

    Raises UserError for an option without the price it needs, and for a card that cannot run the request.
    """
    given = [name for name, value in owning.items() if value is not None]
    if not given:
        return {"ownership": None, "break_even": None}
    if owning["gpu_price"] is None:
        raise UserError(f"{given[0]} without the price of the card", "its price in USD with everything around it", "give --gpu-price")
    if (owning["other_gpu"] is None) != (owning["other_gpu_price"] is None):
        raise UserError("one of other_gpu and other_gpu_price", "both, or none", "give --other-gpu and --other-gpu-price")
    terms = {"lifetime_years": owning["lifetime_years"], "utilisation": owning["card_utilisation"]}
    terms = {name: value for name, value in terms.items() if value is not None}
    first = ownership(r, Card(owning["gpu_price"], **terms))
    if owning["other_gpu"] is None:
        return {"ownership": first, "break_even": None}
    (second, remark), other = _on(r, str(owning["other_gpu"])), Card(owning["other_gpu_price"], **terms)
    crossing = break_even(r, Card(owning["gpu_price"], **terms), second, other) | {"other": ownership(second, other)}
    crossing["other"]["warnings"] += [remark] if remark else []
    served = [r.requests * HOURS_A_YEAR / 12 / found["card_hours"]["value"] for found in (first, crossing["other"])]
    return {"ownership": first, "break_even": crossing | {"served": served}}


def _on(r: Request, gpu: str) -> tuple[Request, str]:
    """(the same request on another card, the remark if that card stands for the one named).

    Raises UserError if that card lacks what the strategy needs, or the memory.
    """
    found, remark = catalog.nearest_gpu(gpu)
    second = replace(r, gpu=found)
    unsupported = cannot_run(second.gpu, second.quantization)
    if unsupported:
        raise UserError(f"{second.quantization} on {second.gpu.name}", unsupported, "choose fp16, or a GPU that supports it")
    require_fit(second)
    return second, remark
