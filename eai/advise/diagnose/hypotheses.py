"""What may have happened to a deployment or to its figures: each cause as a prior and a distribution of shifts of the expected figures.

A shift is (energy a token, throughput, power) on the log scale; a cause whose size is not known has many, drawn over its stated range.
The priors are judgements, not frequencies: they are printed with every answer, and with two figures off by a third or more the figures
decide, not they.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from eai import footprint, strategies, tables
from eai.advise.diagnose.states import Known, State, state
from eai.advise.diagnose.units import confusions
from eai.advise.parameters import Request, cannot_run, fits
from eai.predict.features import canonical, feature_table
from eai.predict.prediction import judged

DRAWS = 400
SEED = 20261122
AS_STATED, NONE = "as_stated", "none_of_these"
NONE_SD = 2.0
HOST_W, HOST_SD = 120.0, 0.7
IDLE_SHARE, IDLE_SD, STATED_IDLE_SD = 0.1, 0.4, 0.15
FP32_WEIGHTS = "fp32"
UNLIKELY = 0.1

PRIORS = {
    AS_STATED: (0.50, "most deployments run as stated; a tenth of it where the configuration does not fit in the card's memory"),
    "unit_error": (0.10, "spread evenly over the confusions that are possible"),
    "wrong_boundary": (0.12, "idle power subtracted, whole machine, other cards, a peak for a mean"),
    "quantization_not_applied": (0.06, "a quantized strategy was stated, or half precision and 32-bit weights loaded"),
    "int8_decomposition": (0.06, "another strategy than LLM.int8() with its default threshold was stated"),
    "batch_not_applied": (0.05, "a batch above 1 was stated"),
    "vram_spill": (0.002, "0.25 where weights, cache and activations do not fit, 0.05 where they take over 90 % of the memory"),
    "power_cap_or_throttle": (0.04, "the card runs below its clocks"),
    "cpu_bound": (0.05, "launches from the host limit the step more than in the rows"),
    NONE: (0.03, "anything else, within a factor of 50 either way"),
}


@dataclass(frozen=True)
class Hypothesis:
    """One cause: `pattern` and `variant`, prior weight, the state it starts from, its shifts (n x 3), and what it says of other figures.

    `broad`: nothing is expected, so three figures need not agree; `starts_as_stated`: its shifts are from the
    configuration as stated. `memory_gb`: expected memory, None if it says nothing;
    `utilization`: (a, b) of a beta distribution of the driver's utilisation.
    """

    pattern: str
    variant: str
    prior: float
    state: State
    shifts: np.ndarray
    memory_gb: float | None = None
    utilization: tuple[float, float] = (1.0, 1.0)
    broad: bool = False
    starts_as_stated: bool = True


def hypotheses(r: Request, k: Known | None = None) -> list[Hypothesis]:
    """Every cause that is possible for the stated configuration, priors summing to 1."""
    here = state(r, k)
    fit = _memory_gb(r)
    as_stated = PRIORS[AS_STATED][0] * (1.0 if fits(r) else UNLIKELY)
    found = [Hypothesis(AS_STATED, "", as_stated, here, np.zeros((1, 3)), fit, _busy(r))]
    found += _units(r, here, fit)
    found += _boundaries(r, here, fit)
    found += _other_configurations(r, k)
    found += _slowed(r, here, fit)
    found.append(Hypothesis(NONE, "", PRIORS[NONE][0], here, np.zeros((1, 3)), broad=True))
    total = sum(h.prior for h in found)
    return [replace(h, prior=h.prior / total) for h in found]


def _memory_gb(r: Request) -> float:
    return footprint.footprint(r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens).memory_gb


def _busy(r: Request) -> tuple[float, float]:
    """Utilisation of a healthy run: anything at small batches (45 to 51 % were published up to batch 8), mostly high in large ones."""
    return (3.0, 1.2) if r.batch_size > 8 else (1.0, 1.0)


def _units(r: Request, here: State, memory_gb: float) -> list[Hypothesis]:
    known = confusions(r)
    each = PRIORS["unit_error"][0] / len(known)
    return [Hypothesis("unit_error", c.name, each, here, np.array([[c.energy, c.throughput, c.power]]), memory_gb, _busy(r)) for c in known]


def idle_w(r: Request) -> tuple[float, float]:
    """(idle power of the card [W], standard deviation of its logarithm): as published for the card, else a tenth of the board's limit."""
    stated = _stated_idle().get(r.gpu.slug)
    return (stated, STATED_IDLE_SD) if stated else (IDLE_SHARE * r.gpu.tdp_w, IDLE_SD)


@cache
def _stated_idle() -> dict[str, float]:
    raw = tables.read_published("ecocompute_measurements").dropna(subset=["idle_stated_w"])
    return raw.groupby("gpu")["idle_stated_w"].median().to_dict()


def _boundaries(r: Request, here: State, memory_gb: float) -> list[Hypothesis]:
    """Idle power taken off, the host or other cards added, or a peak in place of the mean; with the power at either boundary."""
    rng = np.random.default_rng(SEED)
    idle, sd = idle_w(r)
    idles = idle * np.exp(sd * rng.standard_normal(DRAWS))
    net = np.log1p(-np.minimum(idles / here.power_w, 0.95))
    host = np.log1p(HOST_W * np.exp(HOST_SD * rng.standard_normal(DRAWS)) / here.power_w)
    cards = rng.choice([2, 4, 8], DRAWS)
    others_idle = np.log1p((cards - 1) * idles / here.power_w)
    others = np.where(rng.random(DRAWS) < 0.5, np.log(cards), others_idle)
    peak, zero = rng.uniform(np.log(1.15), np.log(3), DRAWS), np.zeros(DRAWS)
    columns = {
        "idle power subtracted from the energy, not from the power": (0.2, net, zero),
        "idle power subtracted": (0.2, net, net),
        "energy of the whole machine, power of the card": (0.1, host, zero),
        "the whole machine instead of the card": (0.15, host, host),
        "energy of all cards, power of one": (0.1, others, zero),
        "all cards of the machine billed": (0.15, others, others),
        "a peak or the power limit given as mean power": (0.1, zero, peak),
    }
    prior = PRIORS["wrong_boundary"][0]
    return [
        Hypothesis("wrong_boundary", name, prior * share, here, np.c_[energy, zero, power], memory_gb, _busy(r))
        for name, (share, energy, power) in columns.items()
    ]


def _other_configurations(r: Request, k: Known | None) -> list[Hypothesis]:
    """What else may have run under the stated name: unquantized or 32-bit weights, the default INT8 threshold, a batch of one."""
    same, own, stated = np.zeros((1, 3)), canonical(r.quantization), strategies.get(r.quantization)
    wanted = []
    if stated.is_quantized:
        wanted.append(("quantization_not_applied", "16-bit weights ran", r.with_(quantization="fp16"), 0.8))
    elif stated.other_bits == 16:
        wanted.append(("quantization_not_applied", "32-bit weights ran", r.with_(quantization=FP32_WEIGHTS), 0.2))
    if own != "int8_default" and not cannot_run(r.gpu, "int8_default"):
        share = 1.0 if own == "int8_pure" else 0.15
        wanted.append(("int8_decomposition", "LLM.int8() ran with its default threshold", r.with_(quantization="int8_default"), share))
    if r.batch_size > 1:
        wanted.append(("batch_not_applied", "requests ran one by one", r.with_(batch_size=1), 1.0))
    made = []
    for pattern, variant, other, share in wanted:
        there = _fp32(r, k) if other.quantization == FP32_WEIGHTS else state(other, k)
        made.append(
            Hypothesis(pattern, variant, share * PRIORS[pattern][0], there, same, _memory_gb(other), _busy(other), starts_as_stated=False)
        )
    return made


def _fp32(r: Request, k: Known | None) -> State:
    """The state with 32-bit weights: no row has one, so the half-precision state with twice the bytes where the physics count them."""
    here, known = state(r, k), judged()
    table = pd.DataFrame([{**r.configuration, "quantization": q} for q in ("fp16", FP32_WEIGHTS)])
    energy, time = (known.fitted("physics", t).step(feature_table(table)) for t in ("energy", "time"))
    shift = np.log([energy[1] / energy[0], time[0] / time[1]])
    return State(
        r.with_(quantization=FP32_WEIGHTS), here.centre + shift, here.parts, "computed", (*here.sources, "bytes of 32-bit weights")
    )


@cache
def launch_exponent() -> tuple[float, float]:
    """(a, its spread): power goes with throughput to the power a where strategies slow a step by launches, within session and model.

    The slope of log power on log throughput over the clean rows; the spread is between cards.
    """
    table = judged().rows
    logs = np.log(pd.DataFrame({"t": table["throughput_tok_s"], "p": table["energy_j_per_token"] * table["throughput_tok_s"]}))
    keys = [table[c] for c in ("session", "gpu", "shape", "batch_size")]
    within = logs - logs.groupby(keys).transform("mean")
    product = (within["t"] * within["p"]).groupby(table["gpu"]).sum()
    square = (within["t"] ** 2).groupby(table["gpu"]).sum()
    return float(product.sum() / square.sum()), float((product / square).std(ddof=1))


def _slowed(r: Request, here: State, memory_gb: float) -> list[Hypothesis]:
    """A card that runs slower than it should: capped or hot (power falls more than speed), waiting for launches (less), or for memory.

    Clocks: dynamic power goes with f V^2, so power falls with an exponent of 1 to 2.5. Launches: the exponent of the rows. Spill: the bytes
    that cross PCIe take 2 to 50 times the step, at 30 to 100 % of the power.
    """
    rng = np.random.default_rng(SEED + 1)
    exponent, spread = launch_exponent()
    clocks, clocks_a = rng.uniform(np.log(0.25), np.log(0.93), DRAWS), rng.uniform(1.0, 2.5, DRAWS)
    launches, launches_a = rng.uniform(np.log(0.1), np.log(0.75), DRAWS), np.clip(rng.normal(exponent, spread, DRAWS), 0.05, 0.95)
    spill, spill_power = rng.uniform(np.log(0.02), np.log(0.5), DRAWS), rng.uniform(np.log(0.3), 0.0, DRAWS)
    full = footprint.available_gb(r.gpu)
    rows = {
        "power_cap_or_throttle": (clocks, clocks_a * clocks, memory_gb, (8.0, 1.5)),
        "cpu_bound": (launches, launches_a * launches, memory_gb, (2.0, 5.0)),
        "vram_spill": (spill, spill_power, full, (2.0, 3.0)),
    }
    priors = {name: PRIORS[name][0] for name in rows} | {"vram_spill": _spill_prior(r, memory_gb, full)}
    return [
        Hypothesis(name, "", priors[name], here, np.c_[power - speed, speed, power], memory, busy)
        for name, (speed, power, memory, busy) in rows.items()
    ]


def _spill_prior(r: Request, memory_gb: float, available_gb: float) -> float:
    if not fits(r):
        return 0.25
    return 0.05 if memory_gb > 0.9 * available_gb else PRIORS["vram_spill"][0]
