"""Reported figures -> likely causes with their share of the match, evidence, fixes, verification; healthy only where something was
compared.

Expected figures come from `evidence.cost`, the same as in every other answer, as log-normal energy a token and throughput with their
correlation (power is their product). Each cause shifts them by known or drawn factors; the likelihoods, t distributed, are normalized
with the
stated priors. Without row or prediction only the card's own limits are checked, and the verdict is unknown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln, ndtr

from eai import footprint, strategies
from eai.advise.causes import AS_STATED, CAUSES, NONE, PRIOR_WHY, PRIORS, confusions
from eai.advise.compare import ratio_to_baseline
from eai.advise.evidence import Cost, accuracy, cost_or_reason, expect, from_prediction, idle_w, measure_command, session_spread
from eai.advise.launch import BATCH, LOAD
from eai.advise.page import plain
from eai.advise.request import PRESSED, Configuration, Request, cannot_run, fits, memory
from eai.errors import UserError
from eai.footprint import GIB_PER_GB
from eai.quantity import Quantity
from eai.site import NORMAL_95

AXES = ("energy", "throughput", "power")
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
AGREE = 0.06
"""Three figures agree if energy x throughput / power is within 6 % of 1. Published rows of gross energy: 0.7 % rms, 3.5 % at most."""
MOST_TOK_S, MOST_HOST_W, ROUNDED = 1e6, 500.0, 1.01
HIGH, MEDIUM, LOW = 0.8, 0.5, 0.2
WORTH = 0.05
DF = 8
DRAWS = 400
SEED = 20261122
HOST_W, HOST_SD = 120.0, 0.7
ROUNDING_SD, CLOSURE_SD, MEMORY_SD, NONE_SD = 0.01, 0.02, 0.25, 2.0
OTHER_HOST_SD = np.array([0.15, 0.25])
"""How far another host and software move energy and throughput of a configuration that has a row, beyond what sessions differ by."""
LAUNCH_EXPONENT = (0.45, 0.2)
"""Power goes with throughput to this power where launches slow a step: the slope over rows of several strategies, and its spread."""
SMALL_PARAMS = 4e9
TO_AXES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
UNITS, SCALES = ("J per 1000 tokens", "tok/s", "W"), (1e3, 1.0, 1.0)


def level(p: float) -> str:
    """HIGH from 80 % on, MEDIUM from 50 %, LOW below: how much of the match a cause takes."""
    return "HIGH" if p >= HIGH else "MEDIUM" if p >= MEDIUM else "LOW"


@dataclass(frozen=True)
class Figures:
    """The reported figures; None where one was not given."""

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
    def contradiction(self) -> str:
        """How the three figures contradict each other, empty if they agree or are not all given."""
        if None in (self.throughput_tok_s, self.energy_j_per_token, self.power_w):
            return ""
        implied = self.energy_j_per_token * self.throughput_tok_s
        if abs(math.log(implied / self.power_w)) <= AGREE:
            return ""
        return (
            f"the figures contradict each other: {1e3 * self.energy_j_per_token:,.4g} J/1000 tokens at {self.throughput_tok_s:,.4g} tok/s "
            f"are {implied:,.4g} W, but {self.power_w:,.4g} W are reported ({implied / self.power_w - 1:+.1%})"
        )


def figures(options: dict[str, Any], output_tokens: int) -> Figures:
    """The figures of plain options (None means not given); energy a request is spread over `output_tokens`.

    Raises UserError, one line, for a figure that cannot be, for two energies that disagree, and where nothing was given.
    """
    found = {name: _number(name, options[name]) for name in FIGURES if options.get(name) is not None}
    per_1k, per_request = found.get("energy_j_per_1k"), found.get("energy_j_per_request")
    energy = per_1k / 1e3 if per_1k is not None else None if per_request is None else per_request / output_tokens
    if per_1k is not None and per_request is not None and abs(math.log(per_request / output_tokens * 1e3 / per_1k)) > AGREE:
        raise UserError(
            f"{per_1k:g} J per 1000 tokens and {per_request:g} J a request of {output_tokens} tokens",
            f"{per_1k * output_tokens / 1e3:g} J a request",
            "correct one, or --output-tokens",
        )
    if energy is None and "throughput" not in found:
        raise UserError(
            "no reported figure", "at least throughput or energy", "give --throughput and --energy-j-per-1k, and --power-w if you have it"
        )
    rest = {name: found.get(name) for name in ("power_w", "utilization_pct", "memory_gb", "power_limit_w", "temperature_c")}
    return Figures(found.get("throughput"), energy, **rest)


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


def require_possible(f: Figures, c: Configuration) -> None:
    """Raises UserError for a figure that no machine with these cards can show; power above the cards' own is allowed within a host's."""
    n, gpu = c.num_gpus, c.gpu
    memory_gb, most_w = (gpu.memory_gb or math.inf) * GIB_PER_GB * n, (gpu.tdp_w or math.inf) * n + MOST_HOST_W
    limits = (
        (f.throughput_tok_s, MOST_TOK_S, "throughput", f"{MOST_TOK_S:.0f} tok/s", "output tokens a second of the whole batch"),
        (f.memory_gb, ROUNDED * memory_gb, "memory_gb", f"{memory_gb:.1f} GB of {c.cards}", "GB (not MiB) in use"),
        (f.power_w, most_w, "power_w", f"{most_w:.0f} W, the cards' limit and {MOST_HOST_W:.0f} W of a host", "the mean power in watts"),
    )
    for value, most, name, expected, give in limits:
        if value is not None and value > most:
            raise UserError(f"{name} {value:g} on {c.cards}", f"at most {expected}", f"give {give}, or correct --gpu and --num-gpus")


@dataclass(frozen=True)
class State:
    """Expected log energy a token [J] and log throughput [tok/s], the parts of their error (weight, 2 x 2 covariance), and the cost
    behind."""

    configuration: Configuration
    centre: np.ndarray
    parts: tuple[tuple[float, np.ndarray], ...]
    cost: Cost

    def interval(self, axis: int) -> tuple[float, float, float]:
        """(value, low, high) of an axis, 95 %, in the unit of UNITS; power is cut at the boards' limit."""
        direction = TO_AXES[axis]
        half = NORMAL_95 * math.sqrt(sum(w * direction @ v @ direction for w, v in self.parts))
        value, low, high = (SCALES[axis] * math.exp(direction @ self.centre + d) for d in (0.0, -half, half))
        most = (self.configuration.gpu.tdp_w or math.inf) * self.configuration.num_gpus if axis == 2 else math.inf
        return min(value, most), low, max(min(high, most), min(value, most))


def state(c: Configuration, without: Sequence[str] = ()) -> State | None:
    """The expected state, None where neither row nor prediction tells; `without`: sources whose rows do not count (a test's own)."""
    known, _ = cost_or_reason(c)
    if known is not None and known.kind == "row" and any(s in " ".join(known.evidence) for s in without):
        p = expect([c]).iloc[0].to_dict()
        known = None if p["reason"] else from_prediction(p)
    if known is None or known.throughput_tok_s.value is None or not math.isfinite(known.throughput_tok_s.value):
        return None
    sd = [_sd(getattr(known, name)) for name in ("energy_j_per_token", "throughput_tok_s", "power_w")]
    together = float(np.clip((sd[2] ** 2 - sd[0] ** 2 - sd[1] ** 2) / 2, -0.95 * sd[0] * sd[1], 0.5 * sd[0] * sd[1]))
    covariance = np.array([[sd[0] ** 2, together], [together, sd[1] ** 2]])
    parts: tuple[tuple[float, np.ndarray], ...] = ((1.0, covariance),)
    if known.kind == "row":
        between = max(session_spread()[0], 0.05) ** 2
        near = between * np.array([[2.0, -1.6], [-1.6, 2.0]])
        e, t = OTHER_HOST_SD
        parts = ((0.5, near), (0.5, np.array([[e**2, -0.7 * e * t], [-0.7 * e * t, t**2]]) + near))
    centre = np.log([known.energy_j_per_token.value, known.throughput_tok_s.value])
    return State(c, centre, parts, known)


def _sd(q: Quantity) -> float:
    return 0.1 if q.low is None else max(float(np.log(q.high / q.low)) / 2 / NORMAL_95, 0.02)


@dataclass(frozen=True)
class Hypothesis:
    """One cause: pattern and variant, prior weight, the state it starts from, its shifts (n x 3), memory and utilisation that it
    expects."""

    pattern: str
    variant: str
    prior: float
    state: State
    shifts: np.ndarray
    memory_gb: float | None = None
    utilization: tuple[float, float] = (1.0, 1.0)
    broad: bool = False
    other: bool = False


def hypotheses(here: State, engine_stated: bool) -> list[Hypothesis]:
    """Every cause that is possible for the stated configuration, priors summing to 1."""
    c, still = here.configuration, np.zeros((1, 3))
    need = memory(c)
    busy = (3.0, 1.2) if c.batch_size > 8 else (1.0, 1.0)
    as_stated = PRIORS[AS_STATED] * (1.0 if need.fits else 0.1)
    found = [Hypothesis(AS_STATED, "", as_stated, here, still, need.needed_gb, busy)]
    served = c.with_(engine="vllm")
    if not engine_stated and c.engine == "transformers" and not strategies.get(c.quantization).is_quantized and not cannot_run(served):
        there = state(served)
        if there is not None:
            found = [Hypothesis(AS_STATED, "", 0.7 * as_stated, here, still, need.needed_gb, busy)]
            found.append(Hypothesis(AS_STATED, "run by a serving engine", 0.3 * as_stated, there, still, None, busy, other=True))
    unit = confusions(c)
    found += [
        Hypothesis(
            "unit_error",
            u.name,
            PRIORS["unit_error"] / len(unit),
            here,
            np.array([[u.energy, u.throughput, u.power]]),
            need.needed_gb,
            busy,
        )
        for u in unit
    ]
    found += _boundaries(here, need.needed_gb, busy)
    found += _others(here)
    found += _slowed(here, need)
    found.append(Hypothesis(NONE, "", PRIORS[NONE], here, still, broad=True))
    total = sum(h.prior for h in found)
    return [Hypothesis(**{**vars(h), "prior": h.prior / total}) for h in found]


def _boundaries(here: State, memory_gb: float, busy: tuple[float, float]) -> list[Hypothesis]:
    """Idle power taken off, the host or other cards added, or a peak in place of the mean; with the power at either boundary."""
    rng, c = np.random.default_rng(SEED), here.configuration
    watts = here.interval(2)[0]
    q = idle_w(c.gpu)
    idles = c.num_gpus * q.value * np.exp(_sd(q) * rng.standard_normal(DRAWS))
    net = np.log1p(-np.minimum(idles / watts, 0.95))
    host = np.log1p(HOST_W * np.exp(HOST_SD * rng.standard_normal(DRAWS)) / watts)
    cards = rng.choice([2, 4, 8], DRAWS)
    others = np.where(rng.random(DRAWS) < 0.5, np.log(cards), np.log1p((cards - 1) * idles / watts))
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
    prior = PRIORS["wrong_boundary"]
    return [
        Hypothesis("wrong_boundary", name, prior * share, here, np.c_[e, zero, p], memory_gb, busy)
        for name, (share, e, p) in columns.items()
    ]


def _others(here: State) -> list[Hypothesis]:
    """What else may have run under the stated name, where it fits the card and can run there."""
    c, wanted = here.configuration, []
    stated = strategies.get(c.quantization) if c.quantization != "mxfp4" else None
    if stated is None or stated.is_quantized:
        wanted.append(
            ("quantization_not_applied", "16-bit weights ran", c.with_(quantization="fp16" if c.engine == "transformers" else "bf16"), 0.8)
        )
    elif stated.other_bits == 16 and c.engine == "transformers":
        wanted.append(("quantization_not_applied", "32-bit weights ran", c.with_(quantization="fp32"), 0.2))
    if c.quantization != "int8_default" and c.engine == "transformers":
        wanted.append(
            (
                "int8_decomposition",
                "LLM.int8() ran with its default threshold",
                c.with_(quantization="int8_default"),
                1.0 if c.quantization == "int8_pure" else 0.15,
            )
        )
    if c.batch_size > 1:
        wanted.append(("batch_not_applied", "requests ran one by one", c.with_(batch_size=1), 1.0))
    made, still = [], np.zeros((1, 3))
    for pattern, variant, other, share in wanted:
        if cannot_run(other) or not fits(other):
            continue
        there = _fp32(here, other) if other.quantization == "fp32" else state(other)
        if there is not None:
            busy = (3.0, 1.2) if other.batch_size > 8 else (1.0, 1.0)
            made.append(Hypothesis(pattern, variant, share * PRIORS[pattern], there, still, memory(other).needed_gb, busy, other=True))
    return made


def _fp32(here: State, other: Configuration) -> State | None:
    """The state with 32-bit weights: a row or prediction, else half precision with twice the bytes."""
    known = state(other)
    if known is not None:
        return known
    return State(other, here.centre + np.log([1.7, 1 / 1.7]), tuple((w, v + 0.04 * np.eye(2)) for w, v in here.parts), here.cost)


def _slowed(here: State, need) -> list[Hypothesis]:
    """A card that runs slower than it should: capped or hot (power falls more than speed), waiting for launches (less), or for memory.

    Clocks: dynamic power goes with f V^2, so power falls with an exponent of 1 to 2.5. Launches: the exponent of the rows. Spill: bytes
    that
    cross PCIe take 2 to 50 times the step, at 30 to 100 % of the power; only where the card is full or does not hold the configuration.
    """
    rng = np.random.default_rng(SEED + 1)
    exponent, spread = LAUNCH_EXPONENT
    clocks, clocks_a = rng.uniform(np.log(0.25), np.log(0.93), DRAWS), rng.uniform(1.0, 2.5, DRAWS)
    launches, launches_a = rng.uniform(np.log(0.1), np.log(0.75), DRAWS), np.clip(rng.normal(exponent, spread, DRAWS), 0.05, 0.95)
    spill, spill_power = rng.uniform(np.log(0.02), np.log(0.5), DRAWS), rng.uniform(np.log(0.3), 0.0, DRAWS)
    priors = {"vram_spill": 0.25 if not need.fits else 0.05 if need.needed_gb > PRESSED * need.available_gb else PRIORS["vram_spill"]}
    rows = {
        "power_cap_or_throttle": (clocks, clocks_a * clocks, need.needed_gb, (8.0, 1.5)),
        "cpu_bound": (launches, launches_a * launches, need.needed_gb, (2.0, 5.0)),
        "vram_spill": (spill, spill_power, need.available_gb, (2.0, 3.0)),
    }
    return [
        Hypothesis(name, "", priors.get(name, PRIORS[name]), here, np.c_[power - speed, speed, power], gb, busy)
        for name, (speed, power, gb, busy) in rows.items()
    ]


@dataclass(frozen=True)
class Weighed:
    """A cause with its posterior probability and the posterior weights of its shifts."""

    hypothesis: Hypothesis
    probability: float
    weights: np.ndarray


def weigh(found: list[Hypothesis], f: Figures) -> list[Weighed]:
    """Every cause with its probability, which sum to 1, most probable first; without those that move no given figure."""
    seen = ~np.isnan(f.logs)
    found = [h for h in found if h.pattern == AS_STATED or h.broad or h.other or np.any(h.shifts[:, seen])]
    scores = [_density(h, f, seen) - np.log(len(h.shifts)) + _context(h, f) + np.log(h.prior) for h in found]
    top = max(s.max() for s in scores)
    totals = np.array([np.exp(s - top).sum() for s in scores])
    made = [
        Weighed(h, float(t / totals.sum()), np.exp(s - s.max()) / np.exp(s - s.max()).sum())
        for h, s, t in zip(found, scores, totals, strict=True)
    ]
    return sorted(made, key=lambda w: -w.probability)


def _density(h: Hypothesis, f: Figures, seen: np.ndarray) -> np.ndarray:
    """The log density of the given figures at every shift: a mixture of multivariate t about the state that the cause starts from."""
    deviation = f.logs[seen] - (TO_AXES @ h.state.centre)[seen] - h.shifts[:, seen]
    noise = np.diag([ROUNDING_SD, ROUNDING_SD, CLOSURE_SD]) ** 2
    parts = [(1.0, np.eye(3) * NONE_SD**2, 30)] if h.broad else [(w, TO_AXES @ v @ TO_AXES.T + noise, DF) for w, v in h.state.parts]
    return np.logaddexp.reduce([np.log(w) + _t_logpdf(deviation, v[np.ix_(seen, seen)], df) for w, v, df in parts], axis=0)


def _t_logpdf(x: np.ndarray, scale: np.ndarray, df: float) -> np.ndarray:
    """Log density of the rows of `x` under a multivariate t about 0 (Kotz and Nadarajah 2004, eq. 1.1)."""
    d = x.shape[1]
    distance = np.einsum("ij,jk,ik->i", x, np.linalg.inv(scale), x)
    norm = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df * np.pi) - np.linalg.slogdet(scale)[1] / 2
    return norm - (df + d) / 2 * np.log1p(distance / df)


def _context(h: Hypothesis, f: Figures) -> float:
    """The log likelihood of memory, utilisation, power limit and temperature, as far as given.

    A mean power at its limit, or a temperature at which cards slow down, speaks for a cap: odds of 12 and 8 to 1, else 1 to 4 and 3.
    """
    total = 0.0
    if f.memory_gb is not None:
        sd, centre = (NONE_SD, 10.0) if h.memory_gb is None else (MEMORY_SD, h.memory_gb)
        total -= (math.log(f.memory_gb / centre) / sd) ** 2 / 2 + math.log(sd)
    if f.utilization_pct is not None:
        u, (a, b) = float(np.clip(f.utilization_pct / 100, 0.01, 0.99)), h.utilization
        total += (a - 1) * math.log(u) + (b - 1) * math.log1p(-u) - float(betaln(a, b))
    slowed = h.pattern == "power_cap_or_throttle"
    if f.power_limit_w is not None and f.mean_power_w is not None:
        lowered = f.power_limit_w < 0.97 * (h.state.configuration.gpu.tdp_w or 0)
        at = f.mean_power_w >= 0.95 * f.power_limit_w and lowered
        total += math.log((0.6 if at else 0.24) if slowed else (0.05 if at else 0.95))
    if f.temperature_c is not None:
        hot = f.temperature_c >= 83.0
        total += math.log((0.7 if hot else 0.3) if slowed else (0.09 if hot else 0.91))
    return total


def impossible(f: Figures, c: Configuration) -> list[str]:
    """Figures beyond the card's own limits: mean power above the boards', and more bytes a second than the memory moves; empty if none."""
    found, watts = [], f.mean_power_w
    limit = (c.gpu.tdp_w or math.inf) * c.num_gpus
    if watts is not None and watts > 1.1 * limit:
        found.append(f"{watts:,.0f} W on {c.cards}, whose limit is {limit:,.0f} W")
    share = roof_share(f, c)
    if share is not None and share > 1.05:
        found.append(f"{f.throughput_tok_s:,.3g} tok/s is {share:.2g} times what the memory's bandwidth allows")
    return found


def roof_share(f: Figures, c: Configuration) -> float | None:
    """The throughput over what the memory's bandwidth allows at this batch, None without a throughput; of a mixture the active weights
    count."""
    if f.throughput_tok_s is None or not c.gpu.bandwidth_gb_s:
        return None
    slug = "nf4" if c.quantization == "mxfp4" else c.quantization
    parts = footprint.footprint(c.model, slug, c.batch_size, c.input_tokens, c.output_tokens)
    step = parts.step_bytes - parts.weight_bytes * (1 - c.active_params / c.model.params_total)
    return f.throughput_tok_s / (c.batch_size * c.num_gpus * c.gpu.bandwidth_gb_s * 1e9 / step)


def diagnose(r: Request, f: Figures, without: Sequence[str] = ()) -> dict[str, Any]:
    """What the figures say of the stated configuration.

    Keys: verdict (healthy | fault | costly_choice | undecided | unknown), summary, patterns (by share, from 20 % on, with level),
    probabilities, expected (deviations from the stated configuration), evidence, contradiction, undecided, measure, assumptions, warnings.
    """
    c = r.now
    beyond = impossible(f, c)
    here = state(c, without)
    if here is None:
        total: dict[str, float] = {}
        found = [_impossible(beyond, c)] if beyond else []
    else:
        weighed = weigh(hypotheses(here, "engine" in r.given), f)
        total = by_pattern(weighed)
        stated = [w.hypothesis.state for w in weighed if w.hypothesis.pattern == AS_STATED]
        here = stated[0]
        found = [_fault(name, p, weighed, here, f, r) for name, p in total.items() if p >= LOW and name not in (AS_STATED, NONE)]
        found += [x for x in (_strategy(c, f, total, r), _batch(c, f, total, r)) if x is not None and x["confidence"] >= LOW]
        found += [_impossible(beyond, c)] if beyond and not any(p["kind"] == "fault" and p["named"] for p in found) else []
        found.sort(key=lambda p: -p["confidence"])
    expected = deviations(f, here) if here else []
    if here is not None and len(stated) > 1:
        expected = [_widened(d, s) for d, s in zip(expected, deviations(f, stated[1]), strict=True)]
    outside = [d for d in expected if d["outside"]]
    verdict = _verdict(found, total, outside, here)
    return {
        "configuration": c.to_json(),
        "figures": _given(f),
        "verdict": verdict,
        "summary": _summary(verdict, found, total, outside, here, f, c),
        "patterns": found,
        "probabilities": total,
        "expected": expected,
        "evidence": list(here.cost.evidence) if here else [],
        "contradiction": f.contradiction,
        "undecided": _undecided(total, f),
        "measure": measure_command(c) if fits(c) and not cannot_run(c) else "",
        "assumptions": [
            *r.assumptions,
            *({"name": f"prior of {n}", "value": p, "reason": PRIOR_WHY.get(n) or CAUSES[n].why} for n, p in PRIORS.items() if here),
        ],
        "warnings": [*r.warnings, *_memory_words(c), *(here.cost.warnings if here else ())],
    }


def by_pattern(weighed: list[Weighed]) -> dict[str, float]:
    """Pattern -> probability, most probable first."""
    total: dict[str, float] = {}
    for w in weighed:
        total[w.hypothesis.pattern] = total.get(w.hypothesis.pattern, 0.0) + w.probability
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _given(f: Figures) -> dict[str, float]:
    """The given figures under the names of their options."""
    named = {"throughput": f.throughput_tok_s, "energy_j_per_1k": None if f.energy_j_per_token is None else 1e3 * f.energy_j_per_token}
    named |= {name: getattr(f, name) for name in ("power_w", "utilization_pct", "memory_gb", "power_limit_w", "temperature_c")}
    return {name: value for name, value in named.items() if value is not None}


def deviations(f: Figures, s: State) -> list[dict[str, Any]]:
    """Every given figure: reported, expected with its 95 % interval, deviation in per cent, and what the expectation rests on."""
    found = []
    for axis in range(3):
        if np.isnan(f.logs[axis]):
            continue
        value, low, high = s.interval(axis)
        reported = float(np.exp(f.logs[axis])) * SCALES[axis]
        found.append(
            {
                "figure": ("energy_j_per_1k_tok", "throughput_tok_s", "power_w")[axis],
                "reported": reported,
                "expected": Quantity(value, low, high, UNITS[axis]).to_json(),
                "deviation_pct": 100 * (reported / value - 1),
                "outside": not low <= reported <= high,
                "basis": s.cost.basis,
            }
        )
    return found


def _widened(d: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A deviation whose interval spans both engines that may have run: neither was named."""
    q, low, high = d["expected"], *(f(d["expected"][end], other["expected"][end]) for f, end in ((min, "low"), (max, "high")))
    return d | {"expected": q | {"low": low, "high": high}, "outside": not low <= d["reported"] <= high}


def _line(d: dict[str, Any], name: str) -> str:
    """`throughput 9.87 tok/s: -73 % against fp16 at batch 1 (36.9 [25 to 54])`."""
    q, word = d["expected"], {"energy_j_per_1k_tok": "energy", "throughput_tok_s": "throughput", "power_w": "power"}[d["figure"]]
    mark = ", outside" if d["outside"] else ""
    return (
        f"{word} {plain(d['reported'])} {q['unit']}: {round(d['deviation_pct']):+d} % against {name} "
        f"({plain(q['value'])} [{plain(q['low'])} to {plain(q['high'])}]{mark}; {d['basis']})"
    )


def entry(
    name: str, p: float, c: Configuration | None, cited: list[str], fixes: list[dict], variant: str = "", kind: str = ""
) -> dict[str, Any]:
    """One pattern as it stands in answers; the first fix's impact is the expected improvement. Without a configuration no NVIDIA tool."""
    cause = CAUSES[name]
    steps = [v for v in cause.verify if c is not None or "nvidia-smi" not in v]
    return {
        "name": name,
        "title": cause.title,
        "kind": kind or cause.kind,
        "confidence": float(p),
        "level": level(p),
        "named": p >= MEDIUM,
        "variant": variant,
        "root_cause": cause.root_cause,
        "evidence": cited,
        "fixes": fixes,
        "expected_improvement": next((x["expected_impact"] for x in fixes if x["expected_impact"]), None),
        "verification": steps,
    }


def fix(
    text: str, code: str = "", impact: Quantity | None = None, now: dict | None = None, then: dict | None = None, **more: Any
) -> dict[str, Any]:
    """One fix as it stands in answers: `now` and `then` are tokens/s, J per 1000 tokens, watts; `expected_impact` the energy saved."""
    made = {"fix": text, "code": code, "expected_impact": impact.to_json() if impact else None, "now": now, "then": then}
    return made | {"usd_a_month": None, "evidence": [], "warnings": [], "accuracy": None} | more


def _figures_of(k: Cost) -> dict[str, float]:
    return {"throughput_tok_s": k.throughput_tok_s.value, "energy_j_per_1k_tok": k.energy_j_per_1k_tok.value, "power_w": k.power_w.value}


def _reported(f: Figures) -> dict[str, float | None]:
    energy = f.energy_j_per_token
    return {
        "throughput_tok_s": f.throughput_tok_s,
        "energy_j_per_1k_tok": None if energy is None else 1e3 * energy,
        "power_w": f.mean_power_w,
    }


def _changed(f: Figures, before: Cost, after: Cost, energy_ratio: float) -> dict[str, float]:
    """The reported figures after a change, moved as the two costs differ: what was off before stays off by as much."""
    rate = (f.throughput_tok_s or before.throughput_tok_s.value) * after.throughput_tok_s.value / before.throughput_tok_s.value
    energy = (f.energy_j_per_token or before.energy_j_per_token.value) * energy_ratio
    return {"throughput_tok_s": rate, "energy_j_per_1k_tok": 1e3 * energy, "power_w": energy * rate}


def _usd(r: Request, joules: float | None) -> float | None:
    """USD of electricity a month of an energy a token at the request's rate."""
    if joules is None or r.site.price is None:
        return None
    return joules * r.output_tokens * r.requests * r.site.pue.value * r.site.price.value / 3.6e6


def _saved_usd(r: Request, f: Figures, then: Cost) -> float | None:
    if f.energy_j_per_token is None:
        return None
    before, after = _usd(r, f.energy_j_per_token), _usd(r, then.energy_j_per_token.value)
    return None if before is None else before - after


def _fault(name: str, p: float, weighed: list[Weighed], here: State, f: Figures, r: Request) -> dict[str, Any]:
    """A cause that makes figures deviate, by its most probable variant."""
    best = next(w for w in weighed if w.hypothesis.pattern == name)
    h, c = best.hypothesis, here.configuration
    cited = [_line(d, f"{c.quantization} at batch {c.batch_size} as stated") for d in deviations(f, here)]
    if h.other:
        there = h.state.configuration
        cited += [_line(d, f"{there.quantization} at batch {there.batch_size}") for d in deviations(f, h.state)]
    cited += _context_words(h, f) + ([f.contradiction] if f.contradiction else [])
    impact = None
    if f.energy_j_per_token is not None and name not in ("unit_error", "wrong_boundary"):
        value, low, high = (1 - x / 1e3 / f.energy_j_per_token for x in here.interval(0))
        impact = Quantity(value, min(high, value), max(low, value), "fraction of the energy saved")
    cause, fixes = CAUSES[name], []
    code = (
        (cause.code or LOAD.get(c.quantization, ""))
        .replace("{batch_size}", str(c.batch_size))
        .replace("{output_tokens}", str(c.output_tokens))
    )
    if name in ("unit_error", "wrong_boundary"):
        fixes.append(fix(f"{cause.fix}: {corrected(best, f)}", cause.code))
    elif name == "int8_decomposition":
        fixes += _strategy_fixes(h.state.configuration, r, f)
    elif name == "quantization_not_applied" and impact is not None and impact.value < 0:
        fixes.append(fix(f"leave it unquantized: {c.quantization} would cost {-impact.value:.0%} more energy here", LOAD["fp16"]))
    else:
        if name == "vram_spill":
            fixes += _smaller(c)
        slower = (
            ["the figures show less energy a token than expected: the fix brings back speed, and need not save energy"]
            if impact is not None and impact.value < 0
            else []
        )
        fixes.append(
            fix(
                cause.fix,
                code,
                impact,
                _reported(f),
                _figures_of(here.cost),
                usd_a_month=_saved_usd(r, f, here.cost),
                evidence=list(here.cost.evidence[:1]),
                warnings=slower,
            )
        )
    return entry(name, p, c, cited, fixes, h.variant)


def corrected(w: Weighed, f: Figures) -> str:
    """The reported figures with the cause taken out, at its posterior mean, and the 95 % range over its sizes."""
    parts = []
    for axis, name in enumerate(AXES):
        shift = w.hypothesis.shifts[:, axis]
        if np.isnan(f.logs[axis]) or not shift.any():
            continue
        values = SCALES[axis] * np.exp(f.logs[axis] - shift)
        order = np.argsort(values)
        low, high = values[order][np.searchsorted(np.cumsum(w.weights[order]), (0.025, 0.975)).clip(max=len(values) - 1)]
        parts.append(
            f"{name} {plain(float(w.weights @ values))}{f' [{plain(low)} to {plain(high)}]' if len(values) > 1 else ''} {UNITS[axis]}"
        )
    return f"({w.hypothesis.variant}) it would be " + " and ".join(parts)


def _context_words(h: Hypothesis, f: Figures) -> list[str]:
    """Memory, utilisation, limit and temperature, where they were given."""
    found = []
    if f.memory_gb is not None and h.memory_gb is not None:
        found.append(f"memory {plain(f.memory_gb)} GB, computed for this cause: {plain(h.memory_gb)} GB")
    if f.utilization_pct is not None:
        found.append(f"utilisation {f.utilization_pct:.0f} %")
    if f.power_limit_w is not None and f.mean_power_w is not None:
        found.append(f"mean power is {f.mean_power_w / f.power_limit_w:.0%} of the limit of {f.power_limit_w:.0f} W")
    if f.temperature_c is not None:
        found.append(f"temperature {f.temperature_c:.0f} C")
    return found


def _smaller(c: Configuration) -> list[dict[str, Any]]:
    """What would fit instead, where the stated configuration does not."""
    if fits(c):
        return []
    small = ("int8_pure", "nf4") if c.engine == "transformers" else ("fp8", "awq")
    options = [c.with_(quantization=q) for q in small] + [c.with_(batch_size=b) for b in (32, 16, 8, 4, 2, 1) if b < c.batch_size]
    found = next((o for o in options if fits(o) and not cannot_run(o)), None)
    return [fix(f"{found.quantization} at batch {found.batch_size} fits", LOAD.get(found.quantization, ""))] if found else []


def pattern_of(c: Configuration) -> str:
    """The name of the paradox that a quantized strategy stands for."""
    if c.quantization == "int8_default":
        return "int8_decomposition"
    bits = 4 if c.quantization == "mxfp4" else strategies.get(c.quantization).weight_bits
    return "small_model_4bit" if bits == 4 and c.model.params_total < SMALL_PARAMS else "quantization_overhead"


def _p_above(q: Quantity) -> float:
    """The probability that a ratio with this 95 % interval exceeds 1.05."""
    sd = _sd(q) if q.low is not None and q.high > q.low else 0.05
    return float(ndtr((np.log(q.value) - np.log1p(WORTH)) / sd))


def _strategy(c: Configuration, f: Figures, total: dict[str, float], r: Request) -> dict[str, Any] | None:
    """A quantized strategy that ran as stated against half precision; None for others, and where half precision cannot run or be told."""
    if (
        c.quantization == "mxfp4"
        or not strategies.get(c.quantization).is_quantized
        or pattern_of(c) in [n for n, p in total.items() if p >= LOW]
    ):
        return None
    base = "fp16" if c.engine == "transformers" else "bf16"
    other = c.with_(quantization=base)
    if cannot_run(other) or not fits(other):
        return None
    known = {q: k for q in (c.quantization, base) if (k := cost_or_reason(c.with_(quantization=q))[0]) is not None}
    if len(known) < 2:
        return None
    q, how = ratio_to_baseline(c, known, base)
    p = total.get(AS_STATED, 0.0) * _p_above(q)
    text = (
        f"{c.quantization} costs {q.value - 1:+.0%} [{q.low - 1:+.0%} to "
        f"{q.high - 1:+.0%}] energy a token against {base} at batch {c.batch_size} ({how})"
    )
    here = state(c)
    cited = [text, *(_line(d, f"{c.quantization} at batch {c.batch_size}") for d in (deviations(f, here) if here else []))]
    return entry(pattern_of(c), p, c, cited, _strategy_fixes(c, r, f), kind="costly_choice")


def _strategy_fixes(ran: Configuration, r: Request, f: Figures) -> list[dict[str, Any]]:
    """Other strategies of the engine that are expected to cost less than the one that ran: known accuracy first, then by saving."""
    before, _ = cost_or_reason(ran)
    found = []
    for name in ("fp16", "int8_pure", "nf4") if ran.engine == "transformers" else ("bf16", "fp8"):
        c = ran.with_(quantization=name)
        if name == ran.quantization or cannot_run(c) or not fits(c) or before is None:
            continue
        known, _ = cost_or_reason(c)
        if known is None:
            continue
        known_pair = {ran.quantization: before, name: known}
        q, how = ratio_to_baseline(ran, known_pair, name)
        if q.value <= 1:
            continue
        quality = accuracy(c.model, name, r.min_accuracy)
        saved = Quantity(1 - 1 / q.value, 1 - 1 / q.low, 1 - 1 / q.high, "fraction of the energy saved") if q.low is not None else None
        unsure = [] if quality.acceptable else [f"accuracy {quality.status}: {quality.note}"]
        made = fix(
            f"{name} instead of {ran.quantization}",
            LOAD.get(name, ""),
            saved,
            _reported(f),
            _changed(f, before, known, 1 / q.value),
            usd_a_month=None if f.energy_j_per_token is None else _usd(r, f.energy_j_per_token * (1 - 1 / q.value)),
            evidence=[how],
            warnings=unsure,
            accuracy=quality.to_json(),
        )
        found.append((not quality.acceptable, -(1 - 1 / q.value) - (0.05 if quality.status == "reference" else 0.0), made))
    return [made for *_, made in sorted(found, key=lambda x: x[:2])]


def _batch(c: Configuration, f: Figures, total: dict[str, float], r: Request) -> dict[str, Any] | None:
    """A batch of one against the batch of 8 or the nearest that fits; whether the card idles is told by its utilisation alone.

    Without a utilisation the same figures come from a card that serves one user as it should and from one that lets others wait: even odds.
    """
    if c.batch_size > 1 or total.get(AS_STATED, 0.0) < MEDIUM:
        return None
    now, _ = cost_or_reason(c)
    for batch in (8, 16, 4, 2):
        then, _ = cost_or_reason(c.with_(batch_size=batch))
        if now is None or then is None:
            continue
        value = then.energy_j_per_token.value / now.energy_j_per_token.value
        sd = float(np.hypot(now.sd_own or _sd(now.energy_j_per_token), then.sd_own or _sd(then.energy_j_per_token)))
        low, high = value * np.exp(-NORMAL_95 * sd), value * np.exp(NORMAL_95 * sd)
        idle = 0.5 if f.utilization_pct is None else float(ndtr((50.0 - f.utilization_pct) / 5.0))
        if r.use == "chat" and f.utilization_pct is None:
            idle = 0.3
        p = total[AS_STATED] * idle * _p_above(Quantity(1 / value, 1 / high, 1 / low, ""))
        saved = Quantity(1 - value, float(1 - high), float(1 - low), "fraction of the energy saved")
        text = f"batch {batch} takes {1 - value:.0%} [{1 - high:.0%} to {1 - low:.0%}] less energy a token ({then.basis})"
        text += "" if f.utilization_pct is not None else "; give --utilization-pct: below 50 % the card has room for more sequences"
        code = BATCH.replace("{batch_size}", str(batch)).replace("{output_tokens}", str(c.output_tokens))
        change = fix(
            f"batch concurrent requests: {batch} at once",
            code,
            saved,
            _reported(f),
            _changed(f, now, then, value),
            usd_a_month=None if f.energy_j_per_token is None else _usd(r, f.energy_j_per_token * (1 - value)),
            evidence=list(then.evidence[:1]),
        )
        return entry("batch_1_waste", p, c, [text], [change])
    return None


def _impossible(beyond: list[str], c: Configuration) -> dict[str, Any]:
    return entry("impossible_figures", 0.95, c, beyond, [fix(CAUSES["impossible_figures"].fix)])


def _verdict(found: list[dict], total: dict[str, float], outside: list[dict], here: State | None) -> str:
    """The word for the whole; healthy only where figures were compared and lie inside their intervals."""
    named = [p for p in found if p["named"]]
    if named:
        return "fault" if any(p["kind"] == "fault" for p in named) else "costly_choice"
    if here is None:
        return "unknown"
    if total[AS_STATED] >= MEDIUM:
        return "undecided" if outside else "healthy"
    return "unknown" if total.get(NONE, 0.0) >= MEDIUM else "undecided"


def _summary(
    verdict: str, found: list[dict], total: dict[str, float], outside: list[dict], here: State | None, f: Figures, c: Configuration
) -> str:
    """One or two sentences: what was found, how sure, and what is left open."""
    named = ", ".join(f"{p['title']} ({p['level']}, {p['confidence']:.0%} of the match)" for p in found if p["named"])
    if verdict == "unknown" and here is None:
        known, reason = cost_or_reason(c)
        share, watts = roof_share(f, c), f.mean_power_w
        words = [f"{share:.0%} of what the memory's bandwidth allows"] if share is not None else []
        words += [f"{watts / (c.gpu.tdp_w * c.num_gpus):.0%} of the power limit"] if watts is not None and c.gpu.tdp_w else []
        lies = f"; within the card's limits: {', '.join(words)}" if words else ""
        return f"nothing to compare with: {reason.rstrip('.') if known is None else 'no throughput is known'}{lies}"
    texts = {
        "fault": f"the figures do not fit the configuration as stated: {named}",
        "costly_choice": f"the figures fit the configuration as stated, and it costs more than it must: {named}",
        "healthy": f"the figures fit the configuration as stated ({total.get(AS_STATED, 0):.0%} of the match)",
        "unknown": f"no known pattern explains the figures ({total.get(NONE, 0):.0%} for none of these)",
        "undecided": f"the figures fit best as stated ({total.get(AS_STATED, 0):.0%} of the match)"
        if total.get(AS_STATED, 0) >= MEDIUM
        else "the figures fit several causes: " + ", ".join(f"{_title(n)} {p:.0%}" for n, p in list(total.items())[:3]),
    }
    but = ", ".join(
        (
            f"{d['figure'].split('_')[0]} {plain(d['reported'])} is outside "
            f"{plain(d['expected']['low'])} to {plain(d['expected']['high'])} {d['expected']['unit']}"
        )
        for d in outside
    )
    return (
        texts[verdict]
        + (f"; {but}" if but and verdict in ("undecided", "costly_choice") else "")
        + (f"; {f.contradiction}" if f.contradiction else "")
    )


def _title(name: str) -> str:
    return {AS_STATED: "as stated", NONE: "none of these"}.get(name) or CAUSES[name].title


def _undecided(total: dict[str, float], f: Figures) -> list[dict[str, Any]]:
    """Pairs that these figures cannot tell apart, and a figure that would help."""
    if not total:
        return []
    first, *others = total
    missing = [
        name
        for name, value in (
            ("--power-w", f.power_w),
            ("--energy-j-per-1k", f.energy_j_per_token),
            ("--memory-gb", f.memory_gb),
            ("--utilization-pct", f.utilization_pct),
        )
        if value is None
    ]
    return [
        {"patterns": [first, other], "would_decide": missing[0] if missing else None}
        for other in others
        if total[other] >= max(0.1, 0.1 * total[first])
    ]


def _memory_words(c: Configuration) -> list[str]:
    """A card that is full, or nearly."""
    need = memory(c)
    if not need.fits:
        return [need.explained]
    return [f"{need.needed_gb:.1f} of {need.available_gb:.1f} GB: a longer prompt or another process spills"] if need.pressed else []
