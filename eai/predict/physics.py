"""The physics of a decode step: its time and the boards' power, each a few constants an engine and a format, fitted to all rows at once.

Time [s] of a step of b sequences on n GPUs, with ~ a constant of the engine:

    launches  = layers x (lay~ + modules of the format) + fix~        memory = (weights touched + KV cache) / share~ / (n x bandwidth)
    compute   = flops / share~ / (n x peak) + unpacking of blocks     body   = launches + hypot(memory, compute)          (a server)
    body      = (launches^4 + (memory + compute)^4)^(1/4)             (launches overlap the GPU's work: plain transformers)
    sequences = b x (seq~ + logits~ x vocabulary / bandwidth)
    step      = body + prompts' flops / share~ + sequences + layers x (latency + bytes / link) of communication between GPUs

A step never takes less than its bytes at 90 % of the bandwidth. transformers copies the KV cache every step (it reads, appends and reads:
three times its bytes, and expands grouped heads), which the memory's time and power both count.

Priors from others' figures: vLLM's host needs some 40 us a sequence and step (a 1 B model at 400 in flight on an A100: 12,850 tok/s,
78 us, half of it the GPU's; vllm pull 12287), its sampler 370 bytes of bandwidth a logit (256 x 131,072 logits sorted in 3.8 ms; vllm pull
32558). Experts, and FP8 of activations, take five more kernels of 5 us a layer. llama.cpp replays CUDA graphs on NVIDIA cards from Ampere
on and nowhere else: `no_graphs` is what its launches take longer there.

transformers and llama.cpp hold a share of the layers on each of n GPUs and run one GPU at a time: for them n is 1, and the others idle.

Power, as a share of n boards' limit, from the share of bandwidth u and of the peak f (of prompts p) that the step reaches:

    idle + (1 - idle) x cap(active~ + byte x bandwidth / limit x u^r + flop x f^q + prefill x p^q + busy + format)
    cap(x) = x / (1 + x^6)^(1/6)

Chips, hosts, sessions, models and unstated prompts have effects, shrunken to none: a chip never seen has none, its bandwidth, peak and
limit speak for it. All constants have wide priors (a factor of two), so a term that the rows say nothing of keeps a sensible size. Fitted
by the posterior mode on log errors (least squares with the priors as further rows; Gelman et al., Bayesian Data Analysis, 3rd ed., section
14.8). The posterior's curvature there, and the spread of every effect that a row has not been seen with, give the standard deviation of a
prediction: a launch-bound step on an unknown host, or a term that few rows decide, is uncertain, and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai.predict.work import ENGINES, LLAMA, NVLINK_GB_S, PLAIN, SERVED, SERVED_2024

TIME = {
    "fix": ("log", (2e-3, 2e-3, 5e-3, 5e-4), 0.7),
    "lay": ("log", (7e-4, 4e-5, 2e-4, 2e-5), 0.7),
    "seq": ("log", (1e-5, 4e-5, 2e-4, 1e-5), 0.8),
    "logits": ("log", (370.0,), 0.5),
    "no_graphs": ("log", (1.5,), 0.4),
    "memory": ("share", (0.75, 0.85, 0.75, 0.75), 0.5),
    "cache": ("share", (0.48, 0.6, 0.4, 0.4), 0.7),
    "compute": ("share", (0.5, 0.65, 0.5, 0.4), 0.7),
    "prefill": ("share", (0.45, 0.6, 0.5, 0.35), 0.4),
    "experts": ("share", (0.75, 0.5, 0.7), 0.6),
    "expert_lay": ("log", (3e-5,), 0.8),
    "latency": ("log", (3e-5, 5e-5, 6e-5), 0.8),
    "traffic": ("log", (2.0, 2.0), 0.6),
    "modules": ("log", (0.07, 0.1, 0.4, 0.2), 0.8),
    "dequantize": ("log", (16.0, 4.0), 0.6),
    "unpack": ("log", (8.0,), 0.7),
    "fp8_lay": ("log", (2e-5, 2.5e-5, 5e-5), 0.5),
    "formats": ("share", (0.8, 0.75, 0.75, 0.75), 0.5),
}
POWER = {
    "active": ("log", (0.12, 0.25, 0.15, 0.2), 0.6),
    "byte": ("log", (0.18, 0.33, 0.08), 0.35),
    "byte_power": ("log", (0.85,), 0.2),
    "flop": ("log", (0.9,), 0.4),
    "prefill": ("log", (0.9,), 0.4),
    "flop_power": ("log", (0.8,), 0.2),
    "idle": ("log", (0.14, 0.07, 0.15), 0.3),
    "dequantize": ("log", (0.5,), 0.6),
    "block": ("log", (0.15,), 0.8),
    "busy": ("log", (0.1, 0.1, 0.5), 0.8),
    "room": ("plain", (0.5, 0.3), 0.15),
    "node": ("plain", (0.6,), 0.3),
}
"""Constant -> (scale, prior of each entry, standard deviation on that scale). Entries go by engine, memory (HBM, GDDR, LPDDR) or format."""
TABLES = {"time": TIME, "power": POWER}
NOISE, STEP = {"time": 0.1, "power": 0.08}, 1e-5
EFFECTS = {
    "time": {"chip": 0.06, "host": {PLAIN: 0.25, LLAMA: 0.4}, "session": 0.15, "model": 0.12, "prompt": 0.5},
    "power": {"chip": 0.1, "session": 0.08, "model": 0.1},
}
"""Effect -> standard deviation of its levels [log]; the level "" (nothing named) has none."""
PCIE_TRAFFIC = 1.3
"""Bytes that two all-reduces a layer move over PCIe, over 4 a value: no row measures it. Over NVLink it is fitted."""
MOST_BANDWIDTH = 0.9
"""Share of the datasheet's bandwidth that no step exceeds (the best row reaches 0.86): refresh and row changes of DRAM take the rest."""
HBM, GDDR, LPDDR = range(3)
BANDWIDTH_PER_WATT = np.array([4.6, 2.6, 2.6])
FORMATS = {"fp8": 0, "mxfp4": 1, "nvfp4": 1, "gguf_mxfp4": 1, "fp8_block": 2, "awq": 3, "gptq": 3, "int4_wo": 3}
"""Format -> its share of the 16-bit kernels' bandwidth; the last, 4-bit weights unpacked to 16 bits, is a share of their peak too."""
QUANTITIES = ("energy", "throughput", "power", "itl")
_IN = {"log": np.log, "share": lambda p: np.log(p / (1 - p)), "plain": lambda x: x}
_OUT = {"log": np.exp, "share": lambda x: 1 / (1 + np.exp(-x)), "plain": lambda x: x}


@dataclass
class Fitted:
    """Constants of `target` (time or power) on their scales with their covariance, and the effects of named levels (log) with their sd."""

    target: str
    theta: np.ndarray
    covariance: np.ndarray
    effects: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def constants(self) -> dict[str, np.ndarray]:
        return unpacked(self.target, self.theta)

    def to_json(self) -> dict:
        """A JSON document that `from_json` reads back."""
        numbers = {"theta": [float(f"{x:.6g}") for x in self.theta]}
        numbers["covariance"] = [[float(f"{x:.3g}") for x in row[: i + 1]] for i, row in enumerate(self.covariance)]
        return {"target": self.target, **numbers, "effects": self.effects}

    @classmethod
    def from_json(cls, document: dict) -> "Fitted":
        lower = np.array([row + [0.0] * (len(document["theta"]) - len(row)) for row in document["covariance"]])
        return cls(document["target"], np.array(document["theta"]), lower + np.tril(lower, -1).T, document["effects"])

    def of(self, effect: str, names: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """(effect, its standard deviation) [log] of each row's level; 0 and the spread of all levels for one that was not fitted."""
        known = self.effects.get(effect, {})
        found = np.array([known.get(v) or (0.0, spread(self.target, effect, v)) for v in names], float).reshape(-1, 2)
        return found[:, 0], found[:, 1]


def spread(target: str, effect: str, level: str) -> float:
    """The standard deviation [log] of an effect's levels; none of "", nor of the hosts of an engine whose steps no host decides."""
    found = EFFECTS[target][effect]
    return (found if level else 1e-3) if isinstance(found, float) else found.get(level.rpartition("|")[2], 1e-3)


def unpacked(target: str, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Constant -> its entries in their own units, from all constants on their scales."""
    at, out = 0, {}
    for name, (scale, prior, _) in TABLES[target].items():
        out[name] = _OUT[scale](theta[at : at + len(prior)])
        at += len(prior)
    return out


class Arrays:
    """The work of each row as arrays, once a fit or prediction."""

    def __init__(self, work: pd.DataFrame):
        for name in work.columns:
            if pd.api.types.is_numeric_dtype(work[name]):
                setattr(self, name, work[name].to_numpy(float))
        self.engine = work["engine"].map({e: i for i, e in enumerate(ENGINES)}).to_numpy(int)
        self.overlaps = work["engine"].isin((PLAIN, SERVED_2024)).to_numpy()
        self.hosted = work["engine"].isin((PLAIN, LLAMA)).to_numpy(float)
        self.special, self.dequantized = self.special.astype(int), self.dequantized.astype(int)
        self.memory, self.expands = self.memory.astype(int), (self.dequantized >= 0) & (self.batch > 1)
        self.format = work["quantization"].map(FORMATS).mask(work["kernel"] == "w8a16", 3).fillna(-1).to_numpy(int)
        self.served = self.engine > 0
        self.samples = work["engine"].isin((SERVED, SERVED_2024)).to_numpy(float)
        self.no_graphs = (self.graphs == 0) & (work["engine"] == LLAMA).to_numpy()
        self.lanes = np.where(self.hosted > 0, 1.0, self.n)
        self.mixture_kernel = np.select([work["engine"] == SERVED_2024, work["engine"] == LLAMA], [1, 2], 0)


def step_parts(k: dict, a: Arrays, chip=0.0, host=0.0, session=0.0, model=0.0, prompt=0.0) -> dict[str, np.ndarray]:
    """Seconds of a step: `step` whole, `itl` without the prompts' share, `gpu` what the GPU itself is busy, from constants and effects."""
    e, rate = a.engine, a.bandwidth_gb_s * a.lanes * np.exp(chip)
    share = np.where(a.format >= 0, k["formats"][a.format], 1.0) * k["memory"][e]
    experts = a.expert_gb / k["experts"][a.mixture_kernel] / share / rate
    memory = a.dense_gb / share / rate + experts + a.cache_gb * a.copies / k["cache"][e] / rate
    memory = memory + a.params_b * np.where(a.dequantized >= 0, k["dequantize"][a.dequantized], 0.0) * a.expands / rate
    peak = a.lanes * a.peak_gflop_s * np.where(a.format == 3, k["formats"][3], 1.0)
    compute, prefill = (x / k[name][e] / peak for x, name in ((a.gflop, "compute"), (a.prefill_gflop, "prefill")))
    compute, prefill = compute + k["unpack"][0] * a.unpacked_b / (a.lanes * a.fp32_gflop_s), prefill * np.exp(prompt)
    modules = 7 * np.where(a.special >= 0, k["modules"][a.special], 0.0)
    lay = k["lay"][e] * (1 + modules) + a.mixture * a.served * k["expert_lay"][0]
    dense, mixed, block = k["fp8_lay"]
    lay = lay + np.select([a.format == 2, a.format == 0], [block, dense + a.mixture * (mixed - dense)], 0.0)
    launches = (a.layers * lay + k["fix"][e]) * np.exp((host + session) * a.hosted) * np.where(a.no_graphs, k["no_graphs"][0], 1.0)
    busiest = memory + experts * (a.imbalance - 1)
    body = np.where(a.overlaps, (launches**4 + (busiest + compute) ** 4) ** 0.25, launches + np.hypot(busiest, compute))
    split = (a.expert_parallel > 1).astype(int)
    latency = np.where(e == ENGINES.index(SERVED_2024), k["latency"][2], k["latency"][split])
    traffic = np.where(a.link_gb_s < NVLINK_GB_S, PCIE_TRAFFIC, k["traffic"][split])
    between = (a.lanes > 1) * a.layers * (latency + traffic * 4 * a.hidden * a.batch / (a.link_gb_s * 1e9))
    sampled = k["logits"][0] * a.vocab * a.samples / (a.bandwidth_gb_s * 1e9)
    itl = body + between + (k["seq"][e] + sampled) * a.batch
    roof = (a.dense_gb + a.expert_gb * a.imbalance + a.cache_gb) / (MOST_BANDWIDTH * a.lanes * a.bandwidth_gb_s)
    itl, prefill = np.maximum(itl * np.exp(model), roof), prefill * np.exp(model)
    return {"step": itl + prefill, "itl": itl, "gpu": (memory + compute) * np.exp(model) + prefill}


def power_share(k: dict, a: Arrays, step_s: np.ndarray, gpu_s: np.ndarray, chip=0.0, session=0.0, model=0.0, prompt=0.0) -> np.ndarray:
    """Mean power of the boards as a share of their limits, during steps of `step_s` of which the GPUs are busy `gpu_s`."""
    u = np.clip((a.dense_gb + a.expert_gb + a.cache_gb * a.copies) / (a.lanes * a.bandwidth_gb_s) / step_s, 1e-6, 1.1)
    f, p = (np.clip(x / (a.lanes * a.peak_gflop_s) / step_s, 1e-6, 1.1) for x in (a.gflop, a.prefill_gflop * np.exp(prompt)))
    x = k["active"][a.engine] + k["byte"][a.memory] * a.byte_cost * a.gb_s_per_w * u ** k["byte_power"][0]
    x += k["flop"][0] * f ** k["flop_power"][0] + k["prefill"][0] * p ** k["flop_power"][0]
    x += k["busy"][a.memory] * np.clip(gpu_s / step_s, 0, 1) + k["block"][0] * (a.format == 2)
    x += k["dequantize"][0] * (a.dequantized == 0) * a.expands
    room = np.where(a.memory == LPDDR, 1.0, (a.gb_s_per_w / BANDWIDTH_PER_WATT[a.memory]) ** k["room"][np.minimum(a.memory, GDDR)])
    x = x * np.exp(chip + session + model) * room * np.where(a.memory == GDDR, (a.node / 5) ** k["node"][0], 1.0)
    idle = k["idle"][a.memory]
    return idle + (1 - idle) * x / (1 + x**6) ** (1 / 6) * a.lanes / a.n


def levels(work: pd.DataFrame, effect: str) -> pd.Series:
    """Whose effect each row has: its chip, session or unstated prompt; under one engine the hosts of its chip and its model's shape."""
    if effect == "host":
        return work["chip"] + "|" + work["engine"]
    if effect == "model":  # the steps of transformers are launches: hosts differ there, not models
        return (work["shape"] + "|" + work["engine"]).where(work["engine"] != PLAIN, "")
    return work[effect] if effect in work else pd.Series("", index=work.index)


def fit(rows: pd.DataFrame, target: str, timed: Fitted | None = None, widths: float = 1.0) -> Fitted:
    """The constants and effects of `target` from rows of `sources.learned`; `timed`: the fitted time, for how long the GPUs are busy in the
    measured steps; `widths`: a factor on the priors' standard deviations."""
    means = np.concatenate([_IN[scale](np.array(prior)) for scale, prior, _ in TABLES[target].values()])
    sds = np.concatenate([np.full(len(prior), widths * s) for _, prior, s in TABLES[target].values()])
    a, constants, n, at = Arrays(rows), len(means), len(rows), len(means)
    groups: dict[str, tuple[list[str], int, np.ndarray]] = {}
    for name in EFFECTS[target]:
        named = levels(rows, name)
        names = sorted(named.unique())
        groups[name] = names, at, at + named.map({v: i for i, v in enumerate(names)}).to_numpy()
        at, sds = at + len(names), np.r_[sds, [spread(target, name, v) for v in names]]
    means = np.r_[means, np.zeros(at - constants)]
    step_s = rows["step_s"].to_numpy(float)
    measured = np.log(step_s if target == "time" else rows["power_share"].to_numpy(float))
    noise = NOISE[target] * rows["vague"].to_numpy(float)
    if timed:
        effects = {name: timed.of(name, levels(rows, name))[0] for name in EFFECTS["time"]}
        prompt, gpu_s = effects["prompt"], step_parts(timed.constants, a, **effects)["gpu"]

    def errors(theta: np.ndarray) -> np.ndarray:
        k, effects = unpacked(target, theta), {name: theta[index] for name, (_, _, index) in groups.items()}
        said = power_share(k, a, step_s, gpu_s, prompt=prompt, **effects) if timed else step_parts(k, a, **effects)["step"]
        return (np.log(said) - measured) / noise

    def jacobian(theta: np.ndarray) -> np.ndarray:
        """Forward differences; all levels of one effect at once, as each row has one of them."""
        found, base = np.zeros((n + len(theta), len(theta))), errors(theta)
        for i in range(constants):
            found[:n, i] = (errors(theta + STEP * (np.arange(len(theta)) == i)) - base) / STEP
        for names, start, index in groups.values():
            moved = theta.copy()
            moved[start : start + len(names)] += STEP
            found[np.arange(n), index] = (errors(moved) - base) / STEP
        found[n:] = np.diag(1 / sds)
        return found

    best, curvature = _minimum(lambda t: np.r_[errors(t), (t - means) / sds], jacobian, means)
    covariance = np.linalg.inv(curvature)
    sd = np.sqrt(np.diag(covariance))
    of = lambda start, i: [round(float(best[start + i]), 5), round(float(sd[start + i]), 4)]  # noqa: E731
    effects = {name: {v: of(start, i) for i, v in enumerate(names)} for name, (names, start, _) in groups.items()}
    return Fitted(target, best[:constants], covariance[:constants, :constants], effects)


def _minimum(errors: Callable, jacobian: Callable, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(theta with the least sum of squared errors, J'J there), by Levenberg-Marquardt on the normal equations (Nocedal, Wright: Numerical
    Optimization, 2nd ed., section 10.3; the priors keep J'J well conditioned, and scipy's QR takes four times as long)."""
    now, damping = errors(theta), 1e-2
    for _ in range(60):
        j = jacobian(theta)
        curvature, gradient = j.T @ j, j.T @ now
        while damping < 1e6:
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
            new = errors(theta + step)
            if new @ new < now @ now:
                break
            damping *= 4
        else:
            return theta, curvature
        gain, theta, now, damping = 1 - new @ new / (now @ now), theta + step, new, damping / 6
        if gain < 1e-5:
            break
    return theta, curvature


@dataclass
class Fit:
    """The fitted time and power of a step."""

    time: Fitted
    power: Fitted

    @classmethod
    def to(cls, rows: pd.DataFrame, widths: float = 1.0) -> "Fit":
        """The fits of `sources.learned` rows: time from those whose speed is sound, power from those whose boards were metered."""
        time = fit(rows[rows["vague"] == 1], "time", widths=widths)
        return cls(time, fit(rows[rows["power_share"].notna()], "power", time, widths))

    def log_predictions(self, work: pd.DataFrame) -> pd.DataFrame:
        """Natural logs of energy a token [J], throughput [tok/s], power [W] and time between tokens [s] of rows of work, each with its
        standard deviation `sd_...`, by first differences in all constants and effects."""
        a, limit, batch = Arrays(work), np.log((work["n"] * work["tdp_w"]).to_numpy(float)), np.log(work["batch"].to_numpy(float))
        late, strong = ({name: part.of(name, levels(work, name)) for name in EFFECTS[part.target]} for part in (self.time, self.power))

        def logs(time: np.ndarray, power: np.ndarray, moved: str = "") -> np.ndarray:
            t = {name: v[0] + STEP * (moved == f"time {name}") for name, v in late.items()}
            p = {name: v[0] + STEP * (moved == f"power {name}") for name, v in strong.items()}
            parts = step_parts(unpacked("time", time), a, **t)
            share = power_share(unpacked("power", power), a, parts["step"], parts["gpu"], prompt=t["prompt"], **p)
            rate, watts = batch - np.log(parts["step"]), np.log(share) + limit
            return np.array([watts - rate, rate, watts, np.log(parts["itl"])])

        time, power = self.time.theta, self.power.theta
        base = logs(time, power)
        slope = lambda moved: (moved - base) / STEP  # noqa: E731
        by_time = np.array([slope(logs(time + STEP * row, power)) for row in np.eye(len(time))])
        by_power = np.array([slope(logs(time, power + STEP * row)) for row in np.eye(len(power))])
        variance = np.einsum("iqr,ij,jqr->qr", by_time, self.time.covariance, by_time, optimize=True)
        variance += np.einsum("iqr,ij,jqr->qr", by_power, self.power.covariance, by_power, optimize=True)
        for name, (_, sd) in late.items():
            variance += (slope(logs(time, power, f"time {name}")) * sd) ** 2
        for name, (_, sd) in strong.items():
            variance += (slope(logs(time, power, f"power {name}")) * sd) ** 2
        noise = np.array([np.hypot(NOISE["time"], NOISE["power"]), NOISE["time"], NOISE["power"], NOISE["time"]])
        variance += noise[:, None] ** 2
        made = dict(zip(QUANTITIES, base, strict=True)) | {f"sd_{q}": v for q, v in zip(QUANTITIES, np.sqrt(variance), strict=True)}
        return pd.DataFrame(made, index=work.index)
