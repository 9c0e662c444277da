"""What was reported, checked and in our units, and whether the figures agree with each other.

Energy a token is mean power over throughput, so any two of the three give the third. Three that disagree contain an error of unit or
boundary, whatever the configuration.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from eai.catalog import Gpu
from eai.errors import UserError
from eai.footprint import GIB_PER_GB

AXES = ("energy", "throughput", "power")
AGREE = 0.06
"""Three figures agree if energy x throughput / power is within 6 % of 1. Published rows of gross energy: 0.7 % rms, 3.5 % at most."""

MOST_TOK_S = 1e6
"""More output tokens a second than any one card makes."""

MOST_HOST_W = 500.0
"""What a host may draw beside one card: a machine's power is a boundary to diagnose, no figure to refuse. Above the 95 % of HOST_W."""

ROUNDED = 1.01
"""Memory in use is often given in three digits: a full card may read a little more than it has."""

FIGURES = {
    "throughput": "output tokens a second of the whole batch",
    "energy_j_per_1k": "joules per 1000 output tokens",
    "energy_j_per_request": "joules a request",
    "power_w": "mean power in watts",
    "utilization_pct": "GPU utilisation in per cent, 0 to 100",
    "memory_gb": "memory in use in GB",
    "power_limit_w": "power limit in force in watts",
    "temperature_c": "GPU temperature in degrees Celsius",
}


@dataclass(frozen=True)
class Figures:
    """The reported figures; None where one was not given. `energy_j_per_token` is gross if the reporter did as we do.

    Raises UserError for a number that cannot be one of its kind, and where nothing is reported that speaks of speed or energy.
    """

    throughput_tok_s: float | None = None
    energy_j_per_token: float | None = None
    power_w: float | None = None
    utilization_pct: float | None = None
    memory_gb: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None

    @property
    def logs(self) -> np.ndarray:
        """Logarithms of energy a token [J], throughput [tok/s] and power [W], NaN where not given."""
        values = (self.energy_j_per_token, self.throughput_tok_s, self.power_w)
        return np.array([math.nan if v is None else math.log(v) for v in values])

    @property
    def mean_power_w(self) -> float | None:
        """Mean power as given, else energy a token times throughput, None without either."""
        if self.power_w is not None or self.energy_j_per_token is None or self.throughput_tok_s is None:
            return self.power_w
        return self.energy_j_per_token * self.throughput_tok_s

    @property
    def closure(self) -> float | None:
        """Energy a token x throughput / power: 1 where the three agree, None without all three."""
        logs = self.logs
        return None if np.isnan(logs).any() else float(np.exp(logs[0] + logs[1] - logs[2]))

    @property
    def contradiction(self) -> str:
        """How the three figures contradict each other, empty if they agree or are not all given."""
        ratio = self.closure
        if ratio is None or abs(math.log(ratio)) <= AGREE:
            return ""
        implied = self.energy_j_per_token * self.throughput_tok_s
        return (
            f"the figures contradict each other: {1e3 * self.energy_j_per_token:.4g} J/1000 tokens at {self.throughput_tok_s:.4g} tok/s "
            f"are {implied:.4g} W, but {self.power_w:.4g} W are reported ({ratio - 1:+.1%})"
        )

    def to_json(self) -> dict:
        """The given figures under the names of their options."""
        energy = None if self.energy_j_per_token is None else 1e3 * self.energy_j_per_token
        named = {"throughput": self.throughput_tok_s, "energy_j_per_1k": energy}
        named |= {name: getattr(self, name) for name in ("power_w", "utilization_pct", "memory_gb", "power_limit_w", "temperature_c")}
        return {name: value for name, value in named.items() if value is not None}


def figures(options: dict[str, Any], output_tokens: int) -> Figures:
    """The figures of plain options (None means not given); energy a request is spread over `output_tokens`.

    Raises UserError, one line, for a figure that cannot be, for two energies that disagree, and where nothing was given.
    """
    given = {name: _number(name, options[name]) for name in FIGURES if options.get(name) is not None}
    energy = _energy(given, output_tokens)
    if energy is None and "throughput" not in given:
        raise UserError(
            "no reported figure",
            "at least throughput or energy",
            "give --throughput and --energy-j-per-1k, and --power-w if you have it",
        )
    rest = {name: given.get(name) for name in ("power_w", "utilization_pct", "memory_gb", "power_limit_w", "temperature_c")}
    return Figures(given.get("throughput"), energy, **rest)


def require_possible(f: Figures, gpu: Gpu) -> None:
    """Raises UserError, one line, for a figure that no machine with one such card can show: in throughput, memory or mean power.

    Power above the card's own is allowed within the host's: raised limits, peaks and whole machines are diagnosed.
    """
    memory, most_w = (gpu.memory_gb or math.inf) * GIB_PER_GB, (gpu.tdp_w or math.inf) + MOST_HOST_W
    limits = (
        (f.throughput_tok_s, MOST_TOK_S, "throughput", f"{MOST_TOK_S:.0f} tok/s", "output tokens a second of one card's whole batch"),
        (f.memory_gb, ROUNDED * memory, "memory_gb", f"the card's {memory:.1f} GB", "GB (not MiB) in use on one card"),
        (f.power_w, most_w, "power_w", f"{most_w:.0f} W, its limit and {MOST_HOST_W:.0f} W of a host", "one card's mean power in watts"),
    )
    for value, most, name, expected, give in limits:
        if value is not None and value > most:
            raise UserError(f"{name} {value:g} on one {gpu.name}", f"at most {expected}", f"give {give}, or correct --gpu")


def _energy(given: dict[str, float], output_tokens: int) -> float | None:
    """Energy a token [J] of whichever was given."""
    per_1k, per_request = given.get("energy_j_per_1k"), given.get("energy_j_per_request")
    if per_request is None:
        return None if per_1k is None else per_1k / 1e3
    if per_1k is not None and abs(math.log(per_request / output_tokens * 1e3 / per_1k)) > AGREE:
        raise UserError(
            f"{per_1k:g} J per 1000 tokens and {per_request:g} J a request of {output_tokens} tokens",
            f"{per_1k * output_tokens / 1e3:g} J a request",
            "correct one, or --output-tokens",
        )
    return per_request / output_tokens


def _number(name: str, value: Any) -> float:
    """A finite number above 0; a utilisation from 0 to 100; a temperature that a card can have."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    low, high = {"utilization_pct": (0.0, 100.0), "temperature_c": (-20.0, 150.0)}.get(name, (0.0, math.inf))
    allowed = low <= number <= high if name in ("utilization_pct", "temperature_c") else number > 0
    if isinstance(value, bool) or not (math.isfinite(number) and allowed):
        expected = FIGURES[name] if name in ("utilization_pct", "temperature_c") else f"{FIGURES[name]}, above 0"
        raise UserError(f"{name} {value}", expected, f"correct {name}, or leave it out if it was not measured")
    return number
