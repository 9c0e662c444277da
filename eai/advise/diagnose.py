"""Reported figures -> likely causes with their share of the match, evidence, fixes, verification.

Expected figures (`evidence.cost`) are log-normal in energy per token and throughput. Each cause shifts them by known or drawn factors; the
likelihoods, t distributed, are normalized with the stated priors. Without row or prediction the card's own limits alone are checked.
"""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from eai import strategies
from eai.advise import checked, evidence
from eai.advise.compare import WORTH, ratio_to_baseline
from eai.advise.evidence import (
    BATCH,
    LOAD,
    Cost,
    accuracy,
    can_measure,
    cost_or_reason,
    idle_w,
    inverse,
    launch,
    measure_command,
    sd_log,
    within,
)
from eai.advise.page import environment, percent, signed
from eai.advise.request import MOST_HOST_W, PRESSED, Configuration, Request, beyond_the_card, memory, roof_share, smaller
from eai.catalog import J_PER_KWH, NORMAL_95
from eai.errors import UserError
from eai.footprint import GIB_PER_GB
from eai.quantity import Quantity, plain

AS_STATED, NONE = "as_stated", "none_of_these"
AXES, UNITS, SCALES = ("energy", "throughput", "power"), ("J per 1000 tokens", "tok/s", "W"), (1e3, 1.0, 1.0)
TO_AXES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
CONTEXT = ("utilization_pct", "memory_gb", "power_limit_w", "temperature_c")
AGREE = 0.06
"""Three figures agree if energy x throughput / power is within 6 % of 1. Published rows of gross energy: 0.7 % rms, 3.5 % at most."""
MOST_TOK_S, ROUNDED = 1e6, 1.01
HIGH, MEDIUM, LOW = 0.8, 0.5, 0.2
DF, DRAWS, SEED = 8, 400, 20261122
HOST_W, HOST_SD = 120.0, 0.7
ROUNDING_SD, CLOSURE_SD, MEMORY_SD, NONE_SD = 0.01, 0.02, 0.25, 2.0
OTHER_HOST_SD = (0.15, 0.25)
"""How far another host and software move energy and throughput of a configuration that has a row, beyond what sessions differ by."""
LAUNCH_EXPONENT = (0.45, 0.2)
"""Power goes with throughput to this power where launches slow a step: the slope over rows of several strategies, and its spread."""
SMALL_PARAMS, LIGHT = 4e9, 0.5


@dataclass(frozen=True)
class Cause:
    """One cause of causes.toml: its words for a person, root cause, the fix with code, steps to verify it, prior and why. `kind`: fault |
    costly_choice; `served_fix`: the fix where a serving engine runs."""

    title: str
    root_cause: str = ""
    fix: str = ""
    verify: tuple[str, ...] = ()
    code: str = ""
    prior: float = 0.0
    why: str = ""
    kind: str = "fault"
    served_fix: str = ""


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("causes.toml").read_text())


@cache
def causes() -> dict[str, Cause]:
    """Name -> cause; `code` may name a strategy's loader or `batch`."""
    codes, found = LOAD | {"batch": BATCH}, {name: c for name, c in _read().items() if name != "confusions"}
    return {name: Cause(**c | {"code": codes.get(c.get("code"), c.get("code", ""))}) for name, c in found.items()}


def confusions(c: Configuration) -> list[tuple[str, list[float]]]:
    """Each possible confusion of units and counts with the logarithms of the exact factors on energy per token, throughput and power."""
    known = {"out": log(c.output_tokens), "out/1000": log(c.output_tokens / 1e3), "batch": log(c.batch_size)}
    known["total"] = log((c.input_tokens + c.output_tokens) / c.output_tokens)

    def shift(factor: str) -> float:
        name = factor.lstrip("-")
        return (-1 if factor[:1] == "-" else 1) * (known[name] if name in known else log(float(name or 1)))

    possible = [row for row in _read()["confusions"] if c.batch_size > 1 or not any("batch" in factor for factor in row[1:])]
    return [(what, [shift(factor) for factor in factors]) for what, *factors in possible]


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
        """Logarithms of energy per token [J], throughput [tok/s] and power [W], NaN where not given."""
        values = (self.energy_j_per_token, self.throughput_tok_s, self.power_w)
        return np.array([math.nan if v is None else math.log(v) for v in values])

    @property
    def mean_power_w(self) -> float | None:
        if self.power_w is not None or self.energy_j_per_token is None or self.throughput_tok_s is None:
            return self.power_w
        return self.energy_j_per_token * self.throughput_tok_s

    @property
    def energy_j_per_1k(self) -> float | None:
        return None if self.energy_j_per_token is None else 1e3 * self.energy_j_per_token

    @property
    def contradiction(self) -> str:
        """How the three figures contradict each other, empty if they agree or are not all given."""
        if np.isnan(self.logs).any():
            return ""
        implied = self.energy_j_per_token * self.throughput_tok_s
        if abs(math.log(implied / self.power_w)) <= AGREE:
            return ""
        made = f"{plain(self.energy_j_per_1k)} J per 1000 tokens at {plain(self.throughput_tok_s)} tok/s are {plain(implied)} W"
        reported = f"{plain(self.power_w)} W are reported ({signed(implied / self.power_w - 1)})"
        return f"the figures contradict each other: {made}, but {reported}"

    def to_json(self) -> dict[str, float]:
        named = {"throughput": self.throughput_tok_s, "energy_j_per_1k": self.energy_j_per_1k}
        named |= {name: getattr(self, name) for name in ("power_w", *CONTEXT)}
        return {name: value for name, value in named.items() if value is not None}


def figures(options: dict[str, Any], output_tokens: int) -> Figures:
    """The figures of plain options. Raises UserError for two energies that disagree, one that cannot be, and where nothing was given."""
    found = {name: checked(name, value) for name, value in options.items() if value is not None}
    rate, per_1k, per_request = (found.pop(name, None) for name in ("throughput", "energy_j_per_1k", "energy_j_per_request"))
    spread = per_request and per_request / output_tokens * 1e3
    if per_1k and spread and abs(math.log(spread / per_1k)) > AGREE:
        both = f"{per_1k:g} J per 1000 tokens and {per_request:g} J per request of {output_tokens} tokens"
        raise UserError(both, f"{per_1k * output_tokens / 1e3:g} J per request", "correct one, or --output-tokens")
    energy = per_1k or spread
    if energy is None and rate is None:
        do = "give --throughput and --energy-j-per-1k, and --power-w if you have it"
        raise UserError("no reported figure", "at least throughput or energy", do)
    return Figures(rate, energy and energy / 1e3, **found)


def require_possible(f: Figures, c: Configuration) -> None:
    """Raises UserError for a figure that no machine with these cards can show; power above the cards' own is allowed within a host's."""
    memory_gb = (c.gpu.memory_gb or math.inf) * GIB_PER_GB * c.num_gpus
    most_w = (c.gpu.tdp_w or math.inf) * c.num_gpus + MOST_HOST_W
    limits = (
        (f.throughput_tok_s, MOST_TOK_S, "throughput", f"{MOST_TOK_S:.0f} tok/s", "output tokens per second of the whole batch"),
        (f.memory_gb, ROUNDED * memory_gb, "memory_gb", f"{memory_gb:.1f} GB of {c.cards}", "GB (not MiB) in use"),
        (f.power_w, most_w, "power_w", f"{most_w:.0f} W, the cards' limit and {MOST_HOST_W:.0f} W of a host", "the mean power in watts"),
    )
    for value, most, name, expected, give in limits:
        if value is not None and value > most:
            raise UserError(f"{name} {value:g} on {c.cards}", f"at most {expected}", f"give {give}, or correct --gpu and --num-gpus")


@dataclass(frozen=True)
class State:
    """Expected log energy per token [J] and log throughput [tok/s], the parts of their error (weight, covariance), and the cost behind."""

    configuration: Configuration
    centre: np.ndarray
    parts: tuple[tuple[float, np.ndarray], ...]
    cost: Cost

    def interval(self, axis: int) -> Quantity:
        """The expected value of an axis with its 95 % interval, in the unit of UNITS; power is cut at the boards' limit."""
        direction = TO_AXES[axis]
        half = NORMAL_95 * math.sqrt(sum(w * direction @ v @ direction for w, v in self.parts))
        q = within(SCALES[axis] * math.exp(direction @ self.centre), half, UNITS[axis])
        most = (self.configuration.gpu.tdp_w or math.inf) * self.configuration.num_gpus if axis == 2 else math.inf
        value = min(q.value, most)
        return Quantity(value, min(q.low, value), max(min(q.high, most), value), q.unit)


def state(c: Configuration, without: Sequence[str] = ()) -> State | None:
    """The expected state, None where neither row nor prediction gives it; `without`: sources whose rows do not count (a test's own)."""
    known, _ = cost_or_reason(c)
    if known is not None and known.kind == "row" and any(s in " ".join(known.evidence) for s in without):
        (p,) = evidence.expect([c])
        known = None if p["reason"] else evidence.from_prediction(p)
    if known is None or known.throughput_tok_s.value is None or not math.isfinite(known.throughput_tok_s.value):
        return None
    e, t, p = (0.1 if q.low is None else sd_log(q, 0.02) for q in (known.energy_j_per_token, known.throughput_tok_s, known.power_w))
    together = float(np.clip((p**2 - e**2 - t**2) / 2, -0.95 * e * t, 0.5 * e * t))
    parts: tuple[tuple[float, np.ndarray], ...] = ((1.0, np.array([[e**2, together], [together, t**2]])),)
    if known.kind == "row":
        near = max(evidence.session_spread()[0], 0.05) ** 2 * np.array([[2.0, -1.6], [-1.6, 2.0]])
        e, t = OTHER_HOST_SD
        parts = ((0.5, near), (0.5, np.array([[e**2, -0.7 * e * t], [-0.7 * e * t, t**2]]) + near))
    return State(c, np.log([known.energy_j_per_token.value, known.throughput_tok_s.value]), parts, known)


@dataclass(frozen=True)
class Hypothesis:
    """One cause: pattern and variant, prior weight, the state it starts from, its shifts of energy, throughput and power (n x 3), memory
    and utilisation that it expects (beta distribution); `broad`: anything within NONE_SD; `other`: another configuration than stated; once
    weighed its probability and the posterior weights of its shifts."""

    pattern: str
    variant: str
    prior: float
    state: State
    shifts: np.ndarray
    memory_gb: float | None = None
    utilization: tuple[float, float] = (1.0, 1.0)
    broad: bool = False
    other: bool = False
    probability: float = 0.0
    weights: np.ndarray | None = None


def hypotheses(here: State, engine_stated: bool) -> list[Hypothesis]:
    """Every cause that is possible for the stated configuration, priors summing to 1."""
    c, need = here.configuration, memory(here.configuration)
    found: list[Hypothesis] = []

    def add(pattern: str, variant: str, share: float, shifts: Any = ((0.0, 0.0, 0.0),), state: State = here, **more: Any) -> None:
        busy = (3.0, 1.2) if state.configuration.batch_size > 8 else (1.0, 1.0)  # many in flight keep a card busy, few anything
        more = {"memory_gb": need.needed_gb, "utilization": busy} | more
        found.append(Hypothesis(pattern, variant, share * causes()[pattern].prior, state, np.array(shifts), **more))

    share, stated = 1.0 if need.fits else 0.1, strategies.get(c.quantization)
    is_open = not engine_stated and c.engine == "transformers" and not stated.is_quantized
    served = state(c.with_(engine="vllm").half) if is_open else None
    add(AS_STATED, "", share * (0.7 if served else 1.0))
    if served:
        add(AS_STATED, "run by a serving engine", 0.3 * share, state=served, memory_gb=None, other=True)
    units = confusions(c)
    for name, shift in units:
        add("unit_error", name, 1 / len(units), [shift])
    for name, share, shifts in _boundaries(here):
        add("wrong_boundary", name, share, shifts)
    others = []  # (pattern, variant, share, what else may have run under the stated name)
    if stated.is_quantized:
        others.append(("quantization_not_applied", "16-bit weights ran", 0.8, c.half))
    elif stated.other_bits == 16 and c.engine == "transformers":
        others.append(("quantization_not_applied", "32-bit weights ran", 0.2, c.with_(quantization="fp32")))
    if c.quantization != "int8_default" and c.engine == "transformers":
        share = 1.0 if c.quantization == "int8_pure" else 0.15
        others.append(("int8_decomposition", "LLM.int8() ran with its default threshold", share, c.with_(quantization="int8_default")))
    wanted = (1, c.batch_size // 16, c.batch_size // 4) if c.is_server else (1,)
    fewer = dict.fromkeys(b for b in wanted if 1 <= b < c.batch_size)
    for b in fewer:
        variant = "requests ran one by one" if b == 1 else f"about {b} in flight"
        others.append(("batch_not_applied", variant, 1 / len(fewer), c.with_(batch_size=b)))
    for pattern, variant, share, other in others:
        if not can_measure(other):  # it does not fit the card or cannot run there
            continue
        there = state(other)
        if there is None and other.quantization == "fp32":  # half precision with twice the bytes
            there = State(other, here.centre + np.log([1.7, 1 / 1.7]), tuple((w, v + 0.04 * np.eye(2)) for w, v in here.parts), here.cost)
        if there is not None:
            add(pattern, variant, share, state=there, memory_gb=memory(other).needed_gb, other=True)
    usual = causes()["vram_spill"].prior
    spill = 0.25 if not need.fits else 0.05 if need.needed_gb > PRESSED * need.available_gb else usual
    shares, busy = {"vram_spill": spill / usual}, {"power_cap_or_throttle": (8.0, 1.5), "cpu_bound": (2.0, 5.0)}
    for pattern, shifts in _slowed().items():
        gb = need.available_gb if pattern == "vram_spill" else need.needed_gb
        add(pattern, "", shares.get(pattern, 1.0), shifts, memory_gb=gb, utilization=busy.get(pattern, (2.0, 3.0)))
    add(NONE, "", 1.0, broad=True, memory_gb=None, utilization=(1.0, 1.0))
    total = sum(h.prior for h in found)
    return [replace(h, prior=h.prior / total) for h in found]


def _boundaries(here: State) -> list[tuple[str, float, np.ndarray]]:
    """(variant, share, shifts): idle power taken off, host or other cards added, a peak for the mean; the power at either boundary."""
    rng, c, watts, q = np.random.default_rng(SEED), here.configuration, here.interval(2).value, idle_w(here.configuration.gpu)
    idles = c.num_gpus * q.value * np.exp(sd_log(q, 0.02) * rng.standard_normal(DRAWS))
    net = np.log1p(-np.minimum(idles / watts, 0.95))
    host = np.log1p(HOST_W * np.exp(HOST_SD * rng.standard_normal(DRAWS)) / watts)
    cards = rng.choice([2, 4, 8], DRAWS)
    others = np.where(rng.random(DRAWS) < 0.5, np.log(cards), np.log1p((cards - 1) * idles / watts))
    peak, zero = rng.uniform(np.log(1.15), np.log(3), DRAWS), np.zeros(DRAWS)
    rows = (
        ("idle power subtracted from the energy, not from the power", 0.2, net, zero),
        ("idle power subtracted", 0.2, net, net),
        ("energy of the whole machine, power of the card", 0.1, host, zero),
        ("the whole machine instead of the card", 0.15, host, host),
        ("energy of all cards, power of one", 0.1, others, zero),
        ("all cards of the machine billed", 0.15, others, others),
        ("a peak or the power limit given as mean power", 0.1, zero, peak),
    )
    return [(name, share, np.c_[energy, zero, power]) for name, share, energy, power in rows]


def _slowed() -> dict[str, np.ndarray]:
    """Pattern -> shifts of a card that is slower than it should be. Clocks: dynamic power goes with f V^2, so power falls with an exponent
    of 1 to 2.5. Spill: bytes that cross PCIe take 2 to 50 times the step, at 30 to 100 % of the power."""
    rng = np.random.default_rng(SEED + 1)
    clocks, exponent = rng.uniform(np.log(0.25), np.log(0.93), DRAWS), rng.uniform(1.0, 2.5, DRAWS)
    pairs = {"power_cap_or_throttle": (clocks, exponent * clocks)}
    launches, exponent = rng.uniform(np.log(0.1), np.log(0.75), DRAWS), np.clip(rng.normal(*LAUNCH_EXPONENT, DRAWS), 0.05, 0.95)
    pairs |= {"cpu_bound": (launches, exponent * launches)}
    pairs["vram_spill"] = rng.uniform(np.log(0.02), np.log(0.5), DRAWS), rng.uniform(np.log(0.3), 0.0, DRAWS)
    return {name: np.c_[power - speed, speed, power] for name, (speed, power) in pairs.items()}


def weigh(found: list[Hypothesis], f: Figures) -> list[Hypothesis]:
    """Every cause with its probability, which sum to 1, most probable first; without those that move no given figure. The density of the
    given figures is a mixture of multivariate t about the state that a cause starts from, at each of its shifts."""
    seen = ~np.isnan(f.logs)
    found = [h for h in found if h.pattern == AS_STATED or h.broad or h.other or np.any(h.shifts[:, seen])]
    noise, scores = np.diag([ROUNDING_SD, ROUNDING_SD, CLOSURE_SD]) ** 2, []
    for h in found:
        off = f.logs[seen] - (TO_AXES @ h.state.centre)[seen] - h.shifts[:, seen]
        parts = [(1.0, np.eye(3) * NONE_SD**2, 30)] if h.broad else [(w, TO_AXES @ v @ TO_AXES.T + noise, DF) for w, v in h.state.parts]
        density = np.logaddexp.reduce([np.log(w) + _t_logpdf(off, v[np.ix_(seen, seen)], df) for w, v, df in parts], axis=0)
        scores.append(density - np.log(len(h.shifts)) + _context(h, f) + np.log(h.prior))
    top = max(s.max() for s in scores)
    totals = np.array([np.exp(s - top).sum() for s in scores])
    weights = [np.exp(s - s.max()) / np.exp(s - s.max()).sum() for s in scores]
    made = [replace(h, probability=float(t / totals.sum()), weights=w) for h, t, w in zip(found, totals, weights, strict=True)]
    return sorted(made, key=lambda h: -h.probability)


def _t_logpdf(x: np.ndarray, scale: np.ndarray, df: float) -> np.ndarray:
    """Log density of the rows of `x` under a multivariate t about 0 (Kotz and Nadarajah 2004, eq. 1.1; scipy's takes 0.3 s to load)."""
    d = x.shape[1]
    distance = np.einsum("ij,jk,ik->i", x, np.linalg.inv(scale), x)
    norm = math.lgamma((df + d) / 2) - math.lgamma(df / 2) - d / 2 * np.log(df * np.pi) - np.linalg.slogdet(scale)[1] / 2
    return norm - (df + d) / 2 * np.log1p(distance / df)


def _context(h: Hypothesis, f: Figures) -> float:
    """The log likelihood of memory, utilisation, power limit and temperature, as far as given; the odds of a cap are judgements."""
    total, slowed = 0.0, h.pattern == "power_cap_or_throttle"
    if f.memory_gb is not None:
        sd, centre = (NONE_SD, 10.0) if h.memory_gb is None else (MEMORY_SD, h.memory_gb)
        total -= (math.log(f.memory_gb / centre) / sd) ** 2 / 2 + math.log(sd)
    if f.utilization_pct is not None:
        u, (a, b) = float(np.clip(f.utilization_pct / 100, 0.01, 0.99)), h.utilization
        total += (a - 1) * math.log(u) + (b - 1) * math.log1p(-u) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    if f.power_limit_w is not None and f.mean_power_w is not None:
        lowered = f.power_limit_w < 0.97 * (h.state.configuration.gpu.tdp_w or 0)
        at = f.mean_power_w >= 0.95 * f.power_limit_w and lowered
        total += math.log((0.6 if at else 0.24) if slowed else (0.05 if at else 0.95))
    if f.temperature_c is not None:
        hot = f.temperature_c >= 83.0
        total += math.log((0.7 if hot else 0.3) if slowed else (0.09 if hot else 0.91))
    return total


def diagnose(r: Request, f: Figures, without: Sequence[str] = ()) -> dict[str, Any]:
    """What the figures say of the stated configuration. Keys: verdict (healthy | fault | costly_choice | undecided | unknown), summary,
    patterns (from 20 % on, with level), probabilities, expected (deviations), notes, evidence, contradiction, undecided, measure."""
    c, total, found, expected, notes = r.now, {}, [], [], []
    others = [{"quantization": q} for q in (c.half.quantization, "fp32", "int8_default", "int8_pure", "nf4", "fp8", "bf16")]
    others += [{"batch_size": b} for b in (1, 2, 4, 8, 16)]
    evidence.costs([c, c.with_(engine="vllm").half, *(c.with_(**each) for each in others)])  # at once: faster
    here = state(c, without)
    if here is not None:
        weighed = weigh(hypotheses(here, "engine" in r.given), f)
        for h in weighed:
            total[h.pattern] = total.get(h.pattern, 0.0) + h.probability
        total = dict(sorted(total.items(), key=lambda item: -item[1]))
        here, *served = [h.state for h in weighed if h.pattern == AS_STATED]
        found = [_fault(name, p, weighed, here, f, r) for name, p in total.items() if p >= LOW and name not in (AS_STATED, NONE)]
        found += [x for x in (_strategy(c, f, total, r), _batch(c, f, total, r)) if x is not None and x["confidence"] >= LOW]
        expected = deviations(f, here)
        if served:
            for d, other in zip(expected, deviations(f, served[0]), strict=True):
                q, ends = d["expected"], other["expected"]
                q |= {"low": min(q["low"], ends["low"]), "high": max(q["high"], ends["high"])}
                d["outside"] = not q["low"] <= d["reported"] <= q["high"]
            ran = f"{here.configuration.engine} and {served[0].configuration.engine}"
            notes.append(f"no engine was named: the expected range spans {ran}; --engine narrows it")
    beyond = beyond_the_card(c.gpu, c.num_gpus, f.mean_power_w, f.throughput_tok_s, roof_share(f.throughput_tok_s, c))
    if beyond and named_kind(found) != "fault":
        found.append(entry("impossible_figures", 0.95, c, beyond, [fix(causes()["impossible_figures"].fix)]))
    found.sort(key=lambda p: -p["confidence"])
    outside = [d for d in expected if d["outside"]]
    verdict = named_kind(found)
    light = f.memory_gb is not None and f.memory_gb < LIGHT * memory(c).weights_gb
    if light:
        notes.append(f"memory {plain(f.memory_gb)} GB is less than half of the weights: other weights ran, or not on the card")
    if not verdict and here is not None and total[AS_STATED] >= MEDIUM:
        verdict = "undecided" if outside or light else "healthy"
    elif not verdict:
        verdict = "unknown" if here is None or total.get(NONE, 0.0) >= MEDIUM else "undecided"
    assumed = [{"name": f"prior of {x.title}", "value": x.prior, "reason": x.why} for x in causes().values() if x.prior and here]
    first, *rest = total or (None,)
    close = [n for n in rest if total[n] >= max(0.1, 0.1 * total[first])]
    helps = ("power_w", "energy_j_per_1k", "memory_gb", "utilization_pct")
    missing = next((f"--{name.replace('_', '-')}" for name in helps if getattr(f, name) is None), None)
    return {
        "configuration": c.to_json(),
        "figures": f.to_json(),
        "verdict": verdict,
        "summary": _summary(verdict, found, total, outside, here, f, c),
        "patterns": found,
        "probabilities": total,
        "expected": expected,
        "notes": notes,
        "evidence": list(here.cost.evidence) if here else [],
        "contradiction": f.contradiction,
        "undecided": [{"patterns": [first, other], "would_decide": missing} for other in close],
        "measure": measure_command(c) if can_measure(c) else "",
        "assumptions": [*r.assumptions, *assumed],
        "warnings": [*r.warnings, *memory(c).remarks, *(here.cost.warnings if here else ())],
    }


def _summary(verdict: str, found: list[dict], total: dict, outside: list[dict], here: State | None, f: Figures, c: Configuration) -> str:
    """One or two sentences: what was found, how sure, and what is left open."""
    if verdict == "unknown" and here is None:
        known, reason = cost_or_reason(c)
        share, watts = roof_share(f.throughput_tok_s, c), f.mean_power_w
        words = [f"{percent(share)} of what the memory's bandwidth allows"] if share is not None else []
        words += [f"{percent(watts / (c.gpu.tdp_w * c.num_gpus))} of the power limit"] if watts is not None and c.gpu.tdp_w else []
        lies = f"; within the card's limits: {', '.join(words)}" if words else ""
        return f"nothing to compare with: {reason.rstrip('.') if known is None else 'no throughput is known'}{lies}"
    named = ", ".join(f"{p['title']} ({p['level']}, {percent(p['confidence'])} of the match)" for p in found if p["named"])
    stated = f"{percent(total.get(AS_STATED, 0))} of the match"
    several = ", ".join(f"{causes()[n].title} {percent(p)}" for n, p in list(total.items())[:3])
    fits_best = total.get(AS_STATED, 0) >= MEDIUM
    text = {
        "fault": f"the figures do not fit the configuration as stated: {named}",
        "costly_choice": f"the figures fit the configuration as stated, and it costs more than it must: {named}",
        "healthy": f"the figures fit the configuration as stated ({stated})",
        "unknown": f"no known pattern explains the figures ({percent(total.get(NONE, 0))} for none of these)",
        "undecided": f"the figures fit best as stated ({stated})" if fits_best else f"the figures fit several causes: {several}",
    }[verdict]
    for d in outside if verdict in ("undecided", "costly_choice") else ():
        q = d["expected"]
        text += f"; {d['figure'].split('_')[0]} {plain(d['reported'])} is outside {plain(q['low'])} to {plain(q['high'])} {q['unit']}"
    return text + (f"; {f.contradiction}" if f.contradiction else "")


def named_kind(patterns: list[dict]) -> str:
    """`fault` or `costly_choice`, as the named patterns say; empty if none is named."""
    kinds = {p["kind"] for p in patterns if p["named"]}
    return "fault" if "fault" in kinds else "costly_choice" if kinds else ""


def deviations(f: Figures, s: State) -> list[dict[str, Any]]:
    """Every given figure: reported, expected with its 95 % interval, deviation in per cent, and what the expectation rests on."""
    found = []
    for axis, name in enumerate(("energy_j_per_1k_tok", "throughput_tok_s", "power_w")):
        if np.isnan(f.logs[axis]):
            continue
        q, reported = s.interval(axis), float(np.exp(f.logs[axis])) * SCALES[axis]
        off = {"deviation_pct": 100 * (reported / q.value - 1), "outside": not q.low <= reported <= q.high, "basis": s.cost.basis}
        found.append({"figure": name, "reported": reported, "expected": q.to_json(), **off})
    return found


def _lines(f: Figures, s: State, suffix: str = "") -> list[str]:
    """`throughput 9.87 tok/s: -73 % against fp16 at batch 1 (36.9 [25 to 54])`, a line a figure."""
    found, name = [], f"{s.configuration.quantization} at batch {s.configuration.batch_size}{suffix}"
    for d in deviations(f, s):
        q, mark = d["expected"], ", outside" if d["outside"] else ""
        seen = f"{d['figure'].split('_')[0]} {plain(d['reported'])} {q['unit']}: {d['deviation_pct']:+.0f} % against {name}"
        found.append(f"{seen} ({plain(q['value'])} [{plain(q['low'])} to {plain(q['high'])}]{mark}; {d['basis']})")
    return found


def entry(name: str, p: float, c: Configuration | None, cited: list[str], fixes: list[dict], **more: Any) -> dict[str, Any]:
    """One pattern as it stands in answers; the first fix's impact is the expected improvement. Without a configuration no NVIDIA tool."""
    cause = causes()[name]
    return {
        "name": name,
        "title": cause.title,
        "kind": cause.kind,
        "confidence": float(p),
        "level": "HIGH" if p >= HIGH else "MEDIUM" if p >= MEDIUM else "LOW",
        "named": p >= MEDIUM,
        "variant": "",
        "root_cause": cause.root_cause,
        "evidence": cited,
        "fixes": fixes,
        "expected_improvement": next((x["expected_impact"] for x in fixes if x["expected_impact"]), None),
        "verification": [v for v in cause.verify if c is not None or "nvidia-smi" not in v],
    } | more


def fix(text: str, code: str = "", impact: Quantity | None = None, **more: Any) -> dict[str, Any]:
    """One fix as it stands in answers: `now` and `then` are tokens/s, J per 1000 tokens, watts; `expected_impact` the energy saved."""
    made = {"fix": text, "code": code, "expected_impact": impact.to_json() if impact else None, "now": None, "then": None}
    return made | {"usd_a_month": None, "evidence": [], "warnings": [], "accuracy": None} | more


def saving(ratio: Quantity) -> Quantity:
    """The fraction of the energy saved by a change whose energy ratio, after over before, is this."""
    ends = (None, None) if ratio.low is None else (1 - ratio.high, 1 - ratio.low)
    return Quantity(1 - ratio.value, *ends, "fraction of the energy saved")


def _change(text: str, code: str, impact: Quantity | None, then: dict, saved_j: float | None, f: Figures, r: Request, **more: Any) -> dict:
    """A fix with the figures now and then, and the USD of electricity that so many joules per token save a month."""
    usd = None
    if f.energy_j_per_token is not None and saved_j is not None and r.site.price is not None:
        usd = saved_j * r.output_tokens * r.requests * r.site.pue.value * r.site.price.value / J_PER_KWH
    now = {"throughput_tok_s": f.throughput_tok_s, "energy_j_per_1k_tok": f.energy_j_per_1k, "power_w": f.mean_power_w}
    return fix(text, code, impact, now=now, then=then, usd_a_month=usd, **more)


def _other(text: str, code: str, ratio: Quantity, before: Cost, after: Cost, f: Figures, r: Request, **more: Any) -> dict[str, Any]:
    """A fix that changes the configuration: the reported figures move as the two costs differ, so what was off stays off by as much."""
    rate = (f.throughput_tok_s or before.throughput_tok_s.value) * after.throughput_tok_s.value / before.throughput_tok_s.value
    was = f.energy_j_per_token or before.energy_j_per_token.value
    then = {"throughput_tok_s": rate, "energy_j_per_1k_tok": 1e3 * was * ratio.value, "power_w": was * ratio.value * rate}
    return _change(text, code, saving(ratio), then, was * (1 - ratio.value), f, r, **more)


def _fault(name: str, p: float, weighed: list[Hypothesis], here: State, f: Figures, r: Request) -> dict[str, Any]:
    """A cause that makes figures deviate, by its most probable variant."""
    h = next(w for w in weighed if w.pattern == name)
    c, cause = here.configuration, causes()[name]
    cited = _lines(f, here, " as stated") + (_lines(f, h.state) if h.other else [])
    if f.memory_gb is not None and h.memory_gb is not None:
        cited.append(f"memory {plain(f.memory_gb)} GB, computed for this cause: {plain(h.memory_gb)} GB")
    cited += [] if f.utilization_pct is None else [f"utilisation {f.utilization_pct:.0f} %"]
    if f.power_limit_w is not None and f.mean_power_w is not None:
        cited.append(f"mean power is {percent(f.mean_power_w / f.power_limit_w)} of the limit of {f.power_limit_w:.0f} W")
    cited += [] if f.temperature_c is None else [f"temperature {f.temperature_c:.0f} C"]
    cited += [f.contradiction] if f.contradiction else []
    impact = None if f.energy_j_per_token is None else saving(here.interval(0) / f.energy_j_per_1k)
    costs_more = impact is not None and impact.value < 0
    if name in ("unit_error", "wrong_boundary"):
        fixes = [fix(f"{cause.fix}: {_corrected(h, f)}", cause.code)]
    elif name == "int8_decomposition":
        fixes = _strategy_fixes(h.state.configuration, r, f)
    elif name == "quantization_not_applied" and costs_more:
        fixes = [fix(f"leave it unquantized: {c.quantization} would cost {percent(-impact.value)} more energy here", LOAD["fp16"])]
    else:
        fitting = smaller(c)[:1] if name == "vram_spill" else []
        fixes = [fix(f"{x.quantization} at batch {x.batch_size} fits", LOAD.get(x.quantization, "")) for x in fitting]
        text, code = (cause.served_fix or cause.fix, launch(c)) if c.is_server else (cause.fix, cause.code or LOAD.get(c.quantization, ""))
        code = code.replace("{batch_size}", str(c.batch_size)).replace("{output_tokens}", str(c.output_tokens))
        then = {figure: getattr(here.cost, figure).value for figure in ("throughput_tok_s", "energy_j_per_1k_tok", "power_w")}
        saved = f.energy_j_per_token and f.energy_j_per_token - here.cost.energy_j_per_token.value
        slower = "the figures show less energy per token than expected: the fix brings back speed, and need not save energy"
        more = {"evidence": list(here.cost.evidence[:1]), "warnings": [slower] if costs_more else []}
        fixes.append(_change(text, code, impact, then, saved, f, r, **more))
    return entry(name, p, c, cited, fixes, variant=h.variant)


def _corrected(h: Hypothesis, f: Figures) -> str:
    """The reported figures with the cause taken out, at its posterior mean, and the 95 % range over its sizes."""
    parts = []
    for axis, name in enumerate(AXES):
        shift = h.shifts[:, axis]
        if np.isnan(f.logs[axis]) or not shift.any():
            continue
        values = SCALES[axis] * np.exp(f.logs[axis] - shift)
        order = np.argsort(values)
        low, high = values[order][np.searchsorted(np.cumsum(h.weights[order]), (0.025, 0.975)).clip(max=len(values) - 1)]
        ends = f" [{plain(low)} to {plain(high)}]" if len(values) > 1 else ""
        parts.append(f"{name} {plain(float(h.weights @ values))}{ends} {UNITS[axis]}")
    return f"({h.variant}) it would be " + " and ".join(parts)


def pattern_of(c: Configuration) -> str:
    """The name of the paradox that a quantized strategy stands for."""
    if c.quantization == "int8_default":
        return "int8_decomposition"
    small = strategies.get(c.quantization).weight_bits == 4 and c.model.params_total < SMALL_PARAMS
    return "small_model_4bit" if small else "quantization_overhead"


def p_above(ratio: Quantity) -> float:
    """The probability that a ratio with this 95 % interval exceeds 1.05."""
    sd = sd_log(ratio, 0.02) if ratio.low is not None and ratio.high > ratio.low else 0.05
    return NormalDist().cdf(float((np.log(ratio.value) - np.log1p(WORTH)) / sd))


def _strategy(c: Configuration, f: Figures, total: dict[str, float], r: Request) -> dict[str, Any] | None:
    """A quantized strategy that ran as stated against half precision; None for others and where half precision cannot run or is unknown."""
    other, name = c.half, pattern_of(c)
    known = {x.quantization: k for x in (c, other) if (k := cost_or_reason(x)[0]) is not None}
    if not strategies.get(c.quantization).is_quantized or total.get(name, 0.0) >= LOW or not can_measure(other) or len(known) < 2:
        return None
    q, how = ratio_to_baseline(c, known, other.quantization)
    ends = f"{signed(q.value - 1)} [{signed(q.low - 1)} to {signed(q.high - 1)}]"
    text = f"{c.quantization} costs {ends} energy per token against {other.quantization} at batch {c.batch_size} ({how})"
    here = state(c)
    cited = [text, *(_lines(f, here) if here else [])]
    return entry(name, total.get(AS_STATED, 0.0) * p_above(q), c, cited, _strategy_fixes(c, r, f), kind="costly_choice")


def _strategy_fixes(ran: Configuration, r: Request, f: Figures) -> list[dict[str, Any]]:
    """Other strategies of the engine that are expected to cost less than the one that ran: known accuracy first, then by saving."""
    before, found = cost_or_reason(ran)[0], []
    for name in ("bf16", "fp8") if ran.is_server else ("fp16", "int8_pure", "nf4"):
        c = ran.with_(quantization=name)
        after = cost_or_reason(c)[0] if name != ran.quantization else None
        if before is None or after is None:
            continue
        q, how = ratio_to_baseline(ran, {ran.quantization: before, name: after}, name)
        if q.value <= 1:
            continue
        kept, quality = inverse(1, q, ""), accuracy(c.model, name, r.min_accuracy)
        code = launch(c) if c.is_server else LOAD.get(name, "")
        more = {"evidence": [how], "warnings": quality.warnings, "accuracy": quality.to_json()}
        made = _other(f"{name} instead of {ran.quantization}", code, kept, before, after, f, r, **more)
        found.append((not quality.acceptable, kept.value - (0.05 if quality.status == "reference" else 0.0), made))
    return [made for *_, made in sorted(found, key=lambda x: x[:2])]


def _batch(c: Configuration, f: Figures, total: dict[str, float], r: Request) -> dict[str, Any] | None:
    """A batch of one against the batch of 8 or the nearest that fits; only its utilisation says whether the card idles, else even odds."""
    if c.batch_size > 1 or total.get(AS_STATED, 0.0) < MEDIUM:
        return None
    now, then, batch = cost_or_reason(c)[0], None, 0
    for batch in (8, 16, 4, 2):
        if then := cost_or_reason(c.with_(batch_size=batch))[0]:
            break
    if now is None or then is None:
        return None
    sds = [k.sd_own or sd_log(k.energy_j_per_token, 0.02) for k in (now, then)]
    ratio = within(then.energy_j_per_token.value / now.energy_j_per_token.value, NORMAL_95 * float(np.hypot(*sds)))
    text, idle = "; give --utilization-pct: below 50 % the card has room for more sequences", 0.3 if r.use == "chat" else 0.5
    if f.utilization_pct is not None:
        text, idle = "", NormalDist(50.0, 5.0).cdf(100.0 - f.utilization_pct)
    p, q = total[AS_STATED] * idle * p_above(inverse(1, ratio, "")), saving(ratio)
    text = f"batch {batch} takes {percent(q.value)} [{percent(q.low)} to {percent(q.high)}] less energy per token ({then.basis})" + text
    code = launch(c.with_(batch_size=batch)) if c.is_server else BATCH.format(batch_size=batch, output_tokens=c.output_tokens)
    change = _other(f"batch concurrent requests: {batch} at once", code, ratio, now, then, f, r, evidence=list(then.evidence[:1]))
    return entry("batch_1_waste", p, c, [text], [change])


def patterns_page() -> str:
    """docs/diagnosis-patterns.md: causes, priors and steps to verify, generated from causes.toml."""
    return environment().get_template("patterns.md.j2").render(causes=causes()).strip() + "\n"


if __name__ == "__main__":
    print(patterns_page(), end="")
