"""The month of one configuration: energy, cost and carbon with Monte Carlo intervals, and the draws behind them.

energy [kWh] = energy an output token [J] x output tokens x requests x PUE / 3.6e6. Gross energy of the GPU's board: the host's CPU and
memory are not in it.
"""

import numpy as np

from eai.advise import site
from eai.advise.accuracy import accuracy
from eai.advise.evidence import Cost, scaled
from eai.advise.parameters import Request
from eai.quantity import Quantity

J_PER_KWH = 3.6e6
DRAWS = 20_000
SEED = 20261122
NORMAL_95 = 1.96


def bill(r: Request, c: Cost) -> dict:
    """The month of one configuration: energy, cost and carbon as quantities, and what they rest on."""
    rng = np.random.default_rng(SEED)
    tokens = r.output_tokens * r.requests
    drawn = draw_energy(c, rng) * tokens * site.pue(r).draw(rng, DRAWS) / J_PER_KWH
    point = c.energy_j_per_token.value * tokens * site.pue(r).value / J_PER_KWH
    price, carbon = site.price(r), site.carbon(r)
    exact, quality = c.energy_j_per_token.low is None, accuracy(r, r.min_accuracy)
    unsure = [] if quality.acceptable else [f"accuracy {quality.status}: {quality.note}"]
    return {
        "configuration": r.configuration,
        "energy_kwh": interval(point, drawn, "kWh"),
        "cost_usd": interval(point * price.value, drawn * price.draw(rng, DRAWS), "USD") if price else Quantity(None, unit="USD").to_json(),
        "carbon_kg": interval(point * carbon.value / 1e3, drawn * carbon.draw(rng, DRAWS) / 1e3, "kg"),
        "energy_j_per_request": scaled(c.energy_j_per_token, r.output_tokens, "J").to_json(),
        "energy_j_per_1k_tok": c.energy_j_per_1k_tok.to_json(),
        "energy_j_per_1k_tok_runs": c.runs_only and scaled(c.runs_only, 1e3, "J").to_json(),
        "throughput_tok_s": c.throughput_tok_s.to_json(),
        "card_hours": card_hours(r, c),
        "accuracy": quality.to_json(),
        "basis": c.basis,
        "evidence": list(c.evidence),
        "warnings": [
            *unsure,
            *c.warnings,
            *(["your figure carries no interval: its own uncertainty is not in the result"] if exact else []),
        ],
    }


def card_hours(r: Request, c: Cost) -> dict:
    """Hours of one card a month that the requests take, back to back."""
    rate, tokens = c.throughput_tok_s, r.output_tokens * r.requests / 3600
    if not np.isfinite(rate.value):
        return Quantity(None, unit="h").to_json()
    low, high = (None, None) if rate.low is None else (tokens / rate.high, tokens / rate.low)
    return Quantity(tokens / rate.value, low, high, "h").to_json()


def sd_log(q: Quantity) -> float:
    """The standard deviation of the logarithm that a 95 % interval stands for; 0 where there is none."""
    return 0.0 if q.low is None else float(np.log(q.high / q.low) / (2 * NORMAL_95))


def draw_energy(c: Cost, rng: np.random.Generator, common: np.ndarray | None = None) -> np.ndarray:
    """Draws of the energy a token; `common`: standard normal draws of the error shared with another cost."""
    total, z = sd_log(c.energy_j_per_token), rng.standard_normal(DRAWS)
    if common is not None and total:
        own = min(c.sd_own / total, 1.0)
        z = own * z + np.sqrt(1 - own**2) * common
    return drawn_at(c.energy_j_per_token, z)


def drawn_at(q: Quantity, z: np.ndarray) -> np.ndarray:
    """What a quantity is at standard normal draws `z`: log-normal, each side as wide as its own end of the 95 % interval."""
    if q.low is None:
        return np.full(len(z), q.value)
    down, up = np.log(q.value / q.low) / NORMAL_95, np.log(q.high / q.value) / NORMAL_95
    return q.value * np.exp(z * np.where(z < 0, down, up))


def interval(value: float, drawn: np.ndarray, unit: str) -> dict:
    """The value with the 2.5 and 97.5 percentiles of the draws."""
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Quantity(float(value), float(min(low, value)), float(max(high, value)), unit).to_json()
