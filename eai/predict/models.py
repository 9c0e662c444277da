"""Two models of the energy and time of a decode step, fitted to clean rows: physics with card and session effects, and log-linear.

Physics, energy of one step [J], x exp(card + session):

    launch_j x (layers + modules x cost[strategy])  +  byte_share x tdp_w / bandwidth x bytes  +  flop_j x flops

A small-batch step of a general-purpose library is spent in launching kernels: its energy is the board's standing power over a
fixed time a layer, and a quantized module adds launches of its own. Moving a byte costs at most the board's full power for the time
the memory needs; every sequence of the batch adds its flops. Its time is the smooth maximum of launches and bytes over bandwidth.

The card and session effects are shrunk towards 0 (ridge, the posterior mode of normal effects), so a card or session that was never
seen is predicted without one. Priors of the physical constants are wide (a factor of e) and only matter where the rows say nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from eai.predict.features import UNQUANTIZED

RESIDUAL_SD = 0.1
CARD_SD = {"energy": 0.12, "time": 0.3}
SESSION_SD = {"energy": 0.1, "time": 0.15}
PRIOR_SD = 1.0
ENERGY_PRIOR = {"launch_j": 0.06, "byte_share": 0.75, "flop_nj": 0.01}
TIME_PRIOR = {"launch_s": 7e-4}
COST_PRIOR = 0.15
GROWTH_SD = 0.1
SHARPNESS = 4


class Design(NamedTuple):
    """The rows as arrays: what the equations need, once, so that fitting costs milliseconds."""

    work: dict[str, np.ndarray]
    strategies: np.ndarray
    cards: np.ndarray
    sessions: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A fitted model: `target` is energy (J a step) or time (s a step); `constants`, strategy `costs`, `cards` and `sessions` effects."""

    target: str
    constants: dict[str, float]
    costs: dict[str, float]
    cards: dict[str, float]
    sessions: dict[str, float]

    def step(self, table: pd.DataFrame) -> np.ndarray:
        """The target of one decode step of each row; a card or session that was not fitted has no effect."""
        design = _design(table, list(self.costs), list(self.cards), list(self.sessions))
        parts = [np.fromiter(part.values(), float) for part in (self.costs, self.cards, self.sessions)]
        return _EQUATIONS[self.target](design, self.constants, *parts)


@dataclass(frozen=True)
class LogLinear:
    """The baseline: log target a step on strategy, log size (parameters for energy, layers for time) and log batch."""

    target: str
    size: str
    coefficients: dict[str, float]

    def step(self, table: pd.DataFrame) -> np.ndarray:
        """The target of one decode step of each row."""
        return np.exp(_log_design(table, self.size, list(self.coefficients)) @ np.array(list(self.coefficients.values())))


def _design(table: pd.DataFrame, strategies: list[str], cards: list[str], sessions: list[str]) -> Design:
    """The rows as arrays; a strategy, card or session that is not named has a row of zeros."""
    numbers = ("layers", "modules", "step_gb", "step_gflop", "bandwidth_gb_s", "tdp_w", "roofline_s", "batch_size")
    work = {name: table[name].to_numpy(float) for name in numbers}
    session = table["session"] if "session" in table else pd.Series("", index=table.index)
    columns = ((table["quantization"], strategies), (table["gpu"], cards), (session, sessions))
    return Design(work, *(values.to_numpy(object)[:, None] == np.array(levels, object) for values, levels in columns))


def _energy(design: Design, k: dict, costs: np.ndarray, cards: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Energy of a step [J]."""
    w = design.work
    launches = w["layers"] + w["modules"] * (design.strategies @ costs)
    moving = k["byte_share"] * w["tdp_w"] / w["bandwidth_gb_s"] * w["step_gb"]
    return (k["launch_j"] * launches + moving + k["flop_nj"] * w["step_gflop"]) * np.exp(design.cards @ cards + design.sessions @ sessions)


def _time(design: Design, k: dict, costs: np.ndarray, cards: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Time of a step [s]: a launch overlaps with the work of the last one, so the longer of the two decides."""
    w = design.work
    launches = w["layers"] + w["modules"] * (design.strategies @ costs)
    host = k["launch_s"] * launches * np.exp(design.cards @ cards + design.sessions @ sessions) * w["batch_size"] ** k["growth"]
    return (host**SHARPNESS + w["roofline_s"] ** SHARPNESS) ** (1 / SHARPNESS)


_EQUATIONS = {"energy": _energy, "time": _time}


def target_values(table: pd.DataFrame, target: str) -> np.ndarray:
    """The measured target of a step of the whole batch: energy [J] or time [s]."""
    if target == "time":
        return table["step_s"].to_numpy(float)
    return (table["energy_j_per_token"] * table["batch_size"]).to_numpy(float)


def fit_physics(table: pd.DataFrame, target: str) -> Fitted:
    """The physics of `target` (energy | time) fitted to clean rows by least squares on logarithms with ridge priors. Deterministic."""
    prior = ENERGY_PRIOR if target == "energy" else TIME_PRIOR
    levels = [_levels(table["quantization"], without=UNQUANTIZED), _levels(table["gpu"]), _levels(table["session"])]
    ends = np.cumsum([len(prior), *map(len, levels)])
    start = np.log([*prior.values(), *[COST_PRIOR] * len(levels[0])])
    free = np.r_[[CARD_SD[target]] * len(levels[1]), [SESSION_SD[target]] * len(levels[2]), [GROWTH_SD] * (target == "time")]
    centre, spread = np.r_[start, np.zeros(len(free))], np.r_[[PRIOR_SD] * len(start), free]
    design, logs = _design(table, *levels), np.log(target_values(table, target))

    def parts(p: np.ndarray) -> tuple:
        constants = dict(zip(prior, np.exp(p[: ends[0]]), strict=True)) | ({"growth": p[-1]} if target == "time" else {})
        return constants, np.exp(p[ends[0] : ends[1]]), p[ends[1] : ends[2]], p[ends[2] : ends[3]]

    def residuals(p: np.ndarray) -> np.ndarray:
        return np.r_[(np.log(_EQUATIONS[target](design, *parts(p))) - logs) / RESIDUAL_SD, (p - centre) / spread]

    constants, *effects = parts(least_squares(residuals, centre).x)
    named = [dict(zip(names, map(float, values), strict=True)) for names, values in zip(levels, effects, strict=True)]
    return Fitted(target, {k: float(v) for k, v in constants.items()}, *named)


def fit_log_linear(table: pd.DataFrame, target: str) -> LogLinear:
    """The baseline of `target` fitted by ordinary least squares; what the rows cannot tell (one batch size only) gets coefficient 0."""
    size = "params" if target == "energy" else "layers"
    names = ["intercept", "size", "batch", *_levels(table["quantization"], without=UNQUANTIZED)]
    if table["batch_size"].nunique() < 2:
        names.remove("batch")
    design = _log_design(table, size, names)
    found = np.linalg.lstsq(design, np.log(target_values(table, target)), rcond=None)[0]
    return LogLinear(target, size, dict(zip(names, found, strict=True)))


def _levels(column: pd.Series, without: str | None = None) -> list[str]:
    """The distinct values, sorted, without one."""
    return sorted(set(column) - {without})


def _log_design(table: pd.DataFrame, size: str, names: list[str]) -> np.ndarray:
    """The design matrix with the named columns."""
    columns = {"intercept": np.ones(len(table)), "size": np.log(table[size]), "batch": np.log(table["batch_size"])}
    return np.column_stack([columns[n] if n in columns else (table["quantization"] == n) for n in names]).astype(float)


FITS = {"physics": fit_physics, "log_linear": fit_log_linear}
