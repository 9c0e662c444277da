"""The physics of a decode step: its time and the boards' power, each a few constants an engine and a format, fitted to all rows at once.

Time [s] of a step of b sequences on n GPUs, with ~ a constant of the engine:

    launches  = layers x (lay~ + modules of the format) + fix~        memory = (weights touched + KV cache) / share~ / (n x bandwidth)
    compute   = flops / share~ / (n x peak)                           body   = launches + hypot(memory, compute)          (a server)
    body      = (launches^4 + (memory + compute)^4)^(1/4)             (launches overlap the GPU's work: plain transformers)
    step      = body + prompts' flops / share~ + seq~ x b + layers x (latency + bytes / link) of communication between GPUs

Power, as a share of n boards' limit, from the share of bandwidth u and of the peak f that the step reaches:

    idle + (1 - idle) x cap(active~ + byte x bandwidth / limit x u^p + flop x f^q + busy + dequantizing)        cap(x) = x / (1 + x^6)^(1/6)

Chips, sessions and models have effects, shrunken to none: a chip never seen has none, its bandwidth, peak and limit speak
for it. All constants have wide priors (a factor of two), so a term that the rows say nothing of keeps a sensible size. Fitted by the
posterior mode on log errors (least squares with the priors as further rows; Gelman et al., Bayesian Data Analysis, 3rd ed., section 14.8).
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.predict.work import ENGINES, LLAMA, PLAIN, SERVED_2024

TIME = {
    "fix": ("log", (2e-3, 2e-3, 5e-3, 5e-4), 0.7),
    "lay": ("log", (7e-4, 4e-5, 2e-4, 2e-5), 0.7),
    "seq": ("log", (1e-5, 2e-5, 2e-4, 1e-5), 0.8),
    "memory": ("share", (0.75, 0.85, 0.75, 0.75), 0.5),
    "cache": ("share", (0.2, 0.6, 0.4, 0.4), 0.7),
    "compute": ("share", (0.5, 0.65, 0.5, 0.4), 0.7),
    "prefill": ("share", (0.4, 0.5, 0.4, 0.3), 0.7),
    "experts": ("share", (0.75, 0.5, 0.7), 0.6),
    "expert_lay": ("log", (1e-4,), 0.8),
    "latency": ("log", (3e-5, 5e-5, 6e-5), 0.8),
    "traffic": ("log", (2.0, 2.0), 0.6),
    "modules": ("log", (0.07, 0.1, 0.4, 0.2), 0.8),
    "dequantize": ("log", (16.0, 4.0), 0.6),
    "fp8_lay": ("log", (5e-5,), 0.8),
    "formats": ("share", (0.8, 0.75), 0.5),
}
POWER = {
    "active": ("log", (0.12, 0.25, 0.15, 0.2), 0.6),
    "byte": ("log", (0.18, 0.33, 0.4), 0.35),
    "byte_power": ("log", (0.85,), 0.2),
    "flop": ("log", (0.9,), 0.4),
    "flop_power": ("log", (0.8,), 0.2),
    "idle": ("log", (0.14, 0.07, 0.15), 0.3),
    "dequantize": ("log", (0.5,), 0.6),
    "busy": ("log", (0.1,), 0.8),
    "room": ("plain", (0.5,), 0.15),
}
"""Constant -> (scale, prior of each entry, standard deviation on that scale). Entries go by engine, memory (HBM, GDDR, LPDDR) or format."""
TIME_SD, POWER_SD, STEP = 0.1, 0.08, 1e-5
EFFECTS = {
    "time": (("chip", 0.06), ("host", 0.25), ("session", 0.15), ("model", 0.12)),
    "power": (("chip", 0.1), ("session", 0.08), ("model", 0.1)),
}
BANDWIDTH_PER_WATT = np.array([4.6, 2.6, 2.6])
_IN = {"log": np.log, "share": lambda p: np.log(p / (1 - p)), "plain": lambda x: x}
_OUT = {"log": np.exp, "share": lambda x: 1 / (1 + np.exp(-x)), "plain": lambda x: x}


@dataclass
class Fitted:
    """Constants of `target` (time or power) on their scales, and the effects of named chips and sessions (log)."""

    target: str
    theta: np.ndarray
    effects: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """The constants in their own units."""
        blocks, at, out = TIME if self.target == "time" else POWER, 0, {}
        for name, (scale, prior, _) in blocks.items():
            out[name] = _OUT[scale](self.theta[at : at + len(prior)])
            at += len(prior)
        return out

    def to_json(self) -> dict:
        """A JSON document that `from_json` reads back."""
        return {"target": self.target, "theta": [float(f"{x:.6g}") for x in self.theta], "effects": self.effects}

    @classmethod
    def from_json(cls, document: dict) -> "Fitted":
        """The inverse of `to_json`."""
        return cls(document["target"], np.array(document["theta"], float), document["effects"])

    def of(self, effect: str, names: pd.Series) -> np.ndarray:
        """The effect [log] of each row's chip or session, 0 for one that was not fitted."""
        return names.map(self.effects.get(effect, {})).fillna(0.0).to_numpy(float)


class Arrays:
    """The work of each row as arrays, once a fit."""

    def __init__(self, work: pd.DataFrame):
        for name in work.columns:
            if pd.api.types.is_numeric_dtype(work[name]):
                setattr(self, name, work[name].to_numpy(float))
        self.engine = work["engine"].map({e: i for i, e in enumerate(ENGINES)}).to_numpy(int)
        self.overlaps = work["engine"].isin((PLAIN, SERVED_2024)).to_numpy()
        self.hosted = work["engine"].isin((PLAIN, LLAMA)).to_numpy(float)
        self.special, self.dequantized = self.special.astype(int), self.dequantized.astype(int)
        self.memory, self.expands = self.memory.astype(int), (self.dequantized >= 0) & (self.batch > 1)
        self.format = np.where(
            work["quantization"].isin(("fp8", "fp8_block")), 0, np.where(work["quantization"].isin(("mxfp4", "nvfp4")), 1, -1)
        )
        self.served = self.engine > 0
        self.mixture_kernel = np.select([work["engine"] == SERVED_2024, work["engine"] == LLAMA], [1, 2], 0)


def step_parts(k: dict, a: Arrays, chip=0.0, host=0.0, session=0.0, model=0.0) -> dict[str, np.ndarray]:
    """Seconds of a step: `step` whole, `itl` without the prompts' share, `gpu` what the GPU itself is busy, from constants and effects."""
    e, rate = a.engine, a.bandwidth_gb_s * a.n * np.exp(chip)
    share = np.where(a.format >= 0, k["formats"][a.format], 1.0)
    experts = a.expert_gb / k["experts"][a.mixture_kernel] / share / k["memory"][e] / rate
    memory = a.dense_gb / share / k["memory"][e] / rate + experts + a.cache_gb / k["cache"][e] / rate
    memory = memory + a.params_b * np.where(a.dequantized >= 0, k["dequantize"][a.dequantized], 0.0) * a.expands / rate
    compute, prefill = (x / k[name][e] / (a.n * a.peak_gflop_s) for x, name in ((a.gflop, "compute"), (a.prefill_gflop, "prefill")))
    modules = 7 * np.where(a.special >= 0, k["modules"][a.special], 0.0)
    lay = k["lay"][e] * (1 + modules) + a.mixture * a.served * k["expert_lay"][0] + (a.format == 0) * k["fp8_lay"][0]
    launches = (a.layers * lay + k["fix"][e]) * np.exp((host + session) * a.hosted)
    gpu = memory + compute
    busiest = memory + experts * (a.imbalance - 1)
    body = np.where(a.overlaps, (launches**4 + (busiest + compute) ** 4) ** 0.25, launches + np.hypot(busiest, compute))
    split = (a.expert_parallel > 1).astype(int)
    latency = np.where(e == ENGINES.index(SERVED_2024), k["latency"][2], k["latency"][split])
    between = (a.n > 1) * a.layers * (latency + k["traffic"][split] * 4 * a.hidden * a.batch / (a.link_gb_s * 1e9))
    itl = body + between + k["seq"][e] * a.batch
    return {name: part * np.exp(model) for name, part in (("step", itl + prefill), ("itl", itl), ("gpu", gpu + prefill))}


def power_share(k: dict, a: Arrays, step_s: np.ndarray, gpu_s: np.ndarray, chip=0.0, session=0.0, model=0.0) -> np.ndarray:
    """Mean power of the boards as a share of their limits, during steps of `step_s` of which the GPUs are busy `gpu_s`."""
    u = np.clip((a.dense_gb + a.expert_gb + a.cache_gb) / (a.n * a.bandwidth_gb_s) / step_s, 1e-6, 1.1)
    f = np.clip((a.gflop + a.prefill_gflop) / (a.n * a.peak_gflop_s) / step_s, 1e-6, 1.1)
    x = k["active"][a.engine] + k["byte"][a.memory] * a.gb_s_per_w * u ** k["byte_power"][0]
    x = x + k["flop"][0] * f ** k["flop_power"][0] + k["busy"][0] * np.clip(gpu_s / step_s, 0, 1)
    x = x + k["dequantize"][0] * (a.dequantized == 0) * a.expands
    x = x * np.exp(chip + session + model) * (a.gb_s_per_w / BANDWIDTH_PER_WATT[a.memory]) ** k["room"][0]
    idle = k["idle"][a.memory]
    return idle + (1 - idle) * x / (1 + x**6) ** (1 / 6)


def fit(rows: pd.DataFrame, target: str, timed: Fitted | None = None) -> Fitted:
    """The constants and effects of `target` from rows of work with `chip`, `session` and `step_s`, for power also `power_share`.

    `timed`: the fitted time, for how long the GPUs are busy in the measured steps.
    """
    from scipy.optimize import least_squares

    blocks, sd = (TIME, TIME_SD) if target == "time" else (POWER, POWER_SD)
    means = np.concatenate([_IN[scale](np.array(prior)) for scale, prior, _ in blocks.values()])
    sds = np.concatenate([np.full(len(prior), s) for _, prior, s in blocks.values()])
    a, constants, groups, at = Arrays(rows), len(means), [], len(means)
    for name, spread in EFFECTS[target]:
        named = _names(rows, name)
        levels = sorted(named.unique())
        index = named.map({v: i for i, v in enumerate(levels)}).to_numpy()
        groups.append((name, levels, at, at + index))
        at, sds = at + len(levels), np.r_[sds, np.full(len(levels), spread)]
    means = np.r_[means, np.zeros(at - constants)]
    measured = np.log(rows["step_s" if target == "time" else "power_share"].to_numpy(float))
    step_s = rows["step_s"].to_numpy(float)
    gpu_s = times(timed, rows, a)["gpu"] if timed else None

    def errors(theta: np.ndarray) -> np.ndarray:
        k, effects = Fitted(target, theta).constants, {name: theta[index] for name, _, _, index in groups}
        said = step_parts(k, a, **effects)["step"] if target == "time" else power_share(k, a, step_s, gpu_s, **effects)
        return (np.log(said) - measured) / sd

    def jacobian(theta: np.ndarray) -> np.ndarray:
        """Forward differences; all levels of one effect at once, as each row has one of them."""
        found, base, n = np.zeros((len(rows) + len(theta), len(theta))), errors(theta), len(rows)
        for i in range(constants):
            found[:n, i] = (errors(theta + STEP * (np.arange(len(theta)) == i)) - base) / STEP
        for _, levels, start, index in groups:
            moved = theta.copy()
            moved[start : start + len(levels)] += STEP
            found[np.arange(n), index] = (errors(moved) - base) / STEP
        found[n:] = np.diag(1 / sds)
        return found

    best = least_squares(lambda t: np.r_[errors(t), (t - means) / sds], means, jac=jacobian, method="lm", max_nfev=60, ftol=1e-5).x
    effects = {name: {v: round(float(x), 5) for v, x in zip(levels, best[start:], strict=False)} for name, levels, start, _ in groups}
    return Fitted(target, best[:constants], effects)


def _names(work: pd.DataFrame, effect: str) -> pd.Series:
    """Whose effect each row has: its chip, its session, or under one engine the hosts of its chip or its model's shape."""
    if effect == "host":
        return work["chip"] + "|" + work["engine"]
    if effect == "model":
        return (work["shape"] + "|" + work["engine"]).where(
            work["engine"] != PLAIN, PLAIN
        )  # its steps are launches: hosts, not models, differ
    return work[effect] if effect in work else pd.Series("", index=work.index)


def times(fitted: Fitted, work: pd.DataFrame, arrays: Arrays | None = None) -> dict[str, np.ndarray]:
    """`step_parts` of each row of work with what is known of its chip, hosts and session."""
    effects = {name: fitted.of(name, _names(work, name)) for name, _ in EFFECTS["time"]}
    return step_parts(fitted.constants, arrays or Arrays(work), **effects)


def powers(fitted: Fitted, work: pd.DataFrame, step_s: np.ndarray, gpu_s: np.ndarray) -> np.ndarray:
    """Mean power [W] of all boards of each row of work, at the given seconds of a step."""
    effects = {name: fitted.of(name, _names(work, name)) for name, _ in EFFECTS["power"]}
    share = power_share(fitted.constants, Arrays(work), step_s, gpu_s, **effects)
    return share * work["n"].to_numpy(float) * work["tdp_w"].to_numpy(float)
