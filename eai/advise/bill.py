"""The whole bill of a month: energy [kWh] = energy an output token [J] x output tokens x requests x PUE / 3.6e6, gross at the GPUs' boards,
in use and idle; electricity, rent or ownership, carbon with what making cards and servers cost."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from eai import tables
from eai.advise.evidence import Cost, cost, idle_w, scaled
from eai.advise.request import Configuration, Request, is_module, require_fit
from eai.errors import UserError
from eai.quantity import Quantity
from eai.site import DRAWS, HOURS_A_MONTH, J_PER_KWH, SEED, Factor, drawn, interval
from eai.site import bill as electricity

HOURS_A_YEAR = HOURS_A_MONTH * 12
READY = 0.8
EMBODIED = Factor(
    "embodied carbon of a card",
    164.0,
    100.0,
    320.0,
    "kg",
    "NVIDIA's product carbon footprint of HGX H100, 1,312 kg per board of eight (cited by others); 150 kg per card: Luccioni et al. 2022, "
    "arXiv:2211.02001, and Cloud Carbon Footprint; 318 kg with a share of the server: Chien et al. 2023, doi:10.1145/3604930.3605705; "
    "consumer cards less",
)
SERVER = Factor(
    "embodied carbon of a card's share of its server",
    312.0,
    150.0,
    1080.0,
    "kg",
    "2,500 kg a server without cards (HPE's ProLiant DL345 Gen10 Plus, taken by Luccioni et al. 2022), eight cards a server; lower end: "
    "1,200 kg; upper end: the parts of a Dell PowerEdge R740 (its life cycle assessment, 2019: 4,288 kg, 3,443 of them SSDs), four cards",
)
LIFETIME = Factor("life of cards and servers", 4.0, 3.0, 6.0, "years", "usual depreciation of servers, 3 to 6 years")

MAKING = (EMBODIED, SERVER, LIFETIME)


@dataclass(frozen=True)
class Work:
    """A month of a configuration: boards kept, hours they work, energy in use and idle at the boards [J] as quantities, hours paid."""

    boards: int
    busy_hours: float
    used: Quantity
    idle: Quantity
    paid_hours: float

    @property
    def energy_j(self) -> float:
        """Energy in use and of cards that wait [J]."""
        return self.used.value + self.idle.value


def work(r: Request, c: Configuration | None, known: Cost) -> Work:
    """The month of a configuration at its stated batch. With a rate of requests its cards work at most 80 % of the month and wait for the
    rest of it; else only the hours worked count (without a configuration, of one unnamed card)."""
    tokens, n = r.output_tokens * r.requests, c.num_gpus if c else 1
    rate = known.throughput_tok_s.value
    hours = tokens / rate / 3600 if rate and np.isfinite(rate) else float("nan")
    replicas = max(1, int(np.ceil(hours / HOURS_A_MONTH / (READY if r.is_served else 1.0)))) if np.isfinite(hours) else 1
    waits = r.is_served and c is not None and np.isfinite(hours)
    still = max(0.0, replicas * HOURS_A_MONTH - hours) * n if waits else 0.0
    paid = replicas * n * HOURS_A_MONTH if r.is_served else hours * n
    idle = scaled(idle_w(c.gpu), still * 3600, "J") if c else Quantity(0.0, unit="J")
    return Work(replicas * n, hours * n, scaled(known.energy_j_per_token, tokens, "J"), idle, paid)


def draw_energy(known: Cost, rng: np.random.Generator, common: np.ndarray | None = None) -> np.ndarray:
    """Draws of the energy per token [J]; `common`: standard normal draws of the error shared with another prediction."""
    total, z = float(np.hypot(known.sd_own, known.sd_shared)), rng.standard_normal(DRAWS)
    if common is not None and known.sd_shared and total:
        z = (known.sd_own * z + known.sd_shared * common) / total
    return drawn(known.energy_j_per_token, z)


def bill(r: Request, c: Configuration | None, known: Cost, done: Work | None = None) -> dict[str, Any]:
    """The month of one configuration as it stands in answers: of the energy in use, `idle` (the same of cards that wait), `cards`,
    `life_cycle`, total_usd, usd_per_million_tokens, energy_j_per_request and its figures. What is not known is None."""
    done = done or work(r, c, known)
    rng = np.random.default_rng(SEED)
    draws = drawn(done.used, rng.standard_normal(DRAWS))
    waiting = drawn(done.idle, rng.standard_normal(DRAWS)) if done.idle.value else np.zeros(DRAWS)
    used, idle = electricity(done.used.value, draws, r.site, rng), electricity(done.idle.value, waiting, r.site, rng)
    both = electricity(done.energy_j, draws + waiting, r.site, rng) if done.idle.value else used
    hourly, how = card_hour(r, c)
    cards = scaled(hourly, done.paid_hours, "USD") if hourly and np.isfinite(done.paid_hours) else None
    total = cards or Quantity(None, unit="USD") if how.startswith("rent") else _sum([both["cost_usd"], cards], "USD")
    carbon, years = {"in_use_and_idle_kg": both["carbon_kg"]}, done.paid_hours / HOURS_A_YEAR
    for name, made in (("cards_kg", EMBODIED), ("servers_kg", SERVER)) if c else ():
        carbon[name] = Quantity(None, unit="kg")
        if np.isfinite(years):
            carbon[name] = interval(made.value / LIFETIME.value * years, made.draw(rng) / LIFETIME.draw(rng) * years, "kg")
    if c and is_module(c.gpu):
        carbon["servers_kg"] = Quantity(0.0, unit="kg")
    carbon["total_kg"] = _sum(list(carbon.values()), "kg")
    return {
        "configuration": c.to_json() if c else dict.fromkeys(("gpu", "model", "quantization", "batch_size", "engine", "num_gpus")),
        **{name: q.to_json() for name, q in used.items()},
        "idle": {name: q.to_json() for name, q in idle.items()},
        "cards": {
            "number": done.boards if c else None,
            "hours": Quantity(done.busy_hours, unit="h").to_json(),
            "usd": cards.to_json() if cards else None,
            "how": how,
        },
        "life_cycle": {name: q.to_json() for name, q in carbon.items()},
        "total_usd": total.to_json(),
        "usd_per_million_tokens": scaled(total, 1e6 / (r.output_tokens * r.requests), "USD").to_json(),
        "energy_j_per_request": (known.energy_j_per_token * r.output_tokens).to_json(),
        **known.to_json(),
    }


def _sum(parts: list[Quantity | None], unit: str) -> Quantity:
    """The sum of what is there; ends are added to ends, which is wide; empty where a part is not known."""
    known = [q for q in parts if q is not None]
    if any(q.value is None for q in known):
        return Quantity(None, unit=unit)
    ends = [sum(q.value if getattr(q, name) is None else getattr(q, name) for q in known) for name in ("value", "low", "high")]
    return Quantity(*map(float, ends), unit)


def card_hour(r: Request, c: Configuration | None) -> tuple[Quantity | None, str]:
    """(what one board costs an hour [USD], how it is known): the stated rent, the share of a stated price (for hours worked alone over the
    share of its hours that work), else the catalog's rent. None where nothing is known."""
    if r.rent_usd_h is not None:
        return Quantity(r.rent_usd_h, unit="USD/h"), "rent as given"
    if r.gpu_price is not None:
        hours = r.lifetime_years * HOURS_A_YEAR * (1.0 if r.is_served else r.card_utilisation)
        return Quantity(r.gpu_price / hours, unit="USD/h"), f"owned: {r.gpu_price:,.0f} USD over {r.lifetime_years:g} years"
    row = rents().get(c.gpu.slug) if c else None
    if row is None:
        return None, "no rent or price of the card is known: give --rent or --gpu-price"
    return Quantity(*(row[f"usd_per_hour{end}"] for end in ("", "_low", "_high")), "USD/h"), f"rent, {row['date']}: {row['source']}"


@cache
def rents() -> dict[str, dict]:
    """GPU slug -> its row of data/catalog/rent.csv."""
    return tables.read_catalog("rent").set_index("slug").to_dict("index")


def break_even(r: Request, c: Configuration, other: Configuration, other_price_usd: float) -> dict[str, Any]:
    """From how many requests per month on one whole card each, bought for this work alone, the more expensive card is the cheaper choice.

    `requests`: the crossing with its 95 % interval; `p_crosses`: the share of draws that have one, no crossing below one half; `served`:
    what one card of each serves a month. Raises UserError where no price is known, and for a card that cannot run the request."""
    price = r.site.price
    for known, what, option in ((r.gpu_price, "price of the card", "--gpu-price"), (price, "price of electricity", "--price")):
        if known is None:
            raise UserError(f"no {what}", f"the {what}", f"give {option}")
    require_fit(other)
    rng = np.random.default_rng(SEED)
    pair = ((c, cost(c)), (other, cost(other)))
    usd_a_j = r.site.pue.draw(rng) * price.draw(rng) / J_PER_KWH
    apart = (other_price_usd - r.gpu_price) / (r.lifetime_years * 12)
    draws = [draw_energy(known, rng) * each.output_tokens * usd_a_j for each, known in pair]
    points = [known.energy_j_per_token.value * each.output_tokens * r.site.pue.value * price.value / J_PER_KWH for each, known in pair]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = apart / (draws[0] - draws[1])
        point = float(np.divide(apart, points[0] - points[1]))
    real = crossing[np.isfinite(crossing) & (crossing > 0)]
    served = [known.throughput_tok_s.value * 3600 * HOURS_A_MONTH / each.output_tokens for each, known in pair]
    answer = {"other": bill(r, *pair[1]), "served": served, "p_crosses": len(real) / DRAWS, "requests": None, "why": ""}
    if len(real) < DRAWS / 2 or not point > 0:
        return answer | {"why": "the card that costs more to own does not save enough electricity a request"}
    return answer | {"requests": interval(point, real, "requests").to_json()}
