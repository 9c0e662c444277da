"""The reported figures against the rows: each deviation in per cent, from the stated configuration and from the one that explains it."""

from typing import Any

import numpy as np

from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.hypotheses import AS_STATED, Hypothesis
from eai.advise.diagnose.posterior import Weighed
from eai.advise.diagnose.states import State
from eai.quantity import Quantity

NAMES = ("energy_j_per_1k_tok", "throughput_tok_s", "power_w")
WORDS = ("energy", "throughput", "power")
UNITS = ("J per 1000 tokens", "tok/s", "W")
SCALES = (1e3, 1.0, 1.0)


def deviations(f: Figures, s: State) -> list[dict[str, Any]]:
    """One entry a given figure: reported, expected with its 95 % interval, deviation in per cent, and what the expectation rests on."""
    return [_deviation(f, s, axis) for axis in range(3) if not np.isnan(f.logs[axis])]


def _deviation(f: Figures, s: State, axis: int) -> dict[str, Any]:
    value, low, high = _expected(s, axis)
    reported = float(np.exp(f.logs[axis])) * SCALES[axis]
    return {
        "figure": NAMES[axis],
        "reported": reported,
        "expected": Quantity(value, low, high, UNITS[axis]).to_json(),
        "deviation_pct": 100 * (reported / value - 1),
        "outside": not low <= reported <= high,
        "configuration": s.name,
        "basis": s.basis,
        "rows": s.rows,
    }


def _expected(s: State, axis: int) -> tuple[float, float, float]:
    """(value, low, high) of a figure in its unit; power from energy and throughput, its variance with their covariance."""
    if axis < 2:
        return tuple(SCALES[axis] * x for x in s.interval(axis))
    half = 1.96 * float(np.sqrt(sum(p.weight * p.covariance.sum() for p in s.parts)))
    return tuple(s.power_w * float(np.exp(d)) for d in (0.0, -half, half))


def line(d: dict[str, Any], against: str = "") -> str:
    """`throughput 9.87 tok/s, -73 % against fp16 at batch 1 (36.9 [25, 54] tok/s; rows ...)`."""
    axis = NAMES.index(d["figure"])
    q = d["expected"]
    mark = ", outside the interval" if d["outside"] else ""
    return (
        f"{WORDS[axis]} {d['reported']:.4g} {UNITS[axis]}: {d['deviation_pct']:+.0f} % against {against or d['configuration']} "
        f"({q['value']:.4g} [{q['low']:.4g}, {q['high']:.4g}]{mark}; {d['basis']}: {d['rows']})"
    )


def outlier(d: dict[str, Any]) -> str:
    """`throughput 55 tok/s is outside its 95 % expected interval [20, 41.5]`."""
    axis, q = NAMES.index(d["figure"]), d["expected"]
    return f"{WORDS[axis]} {d['reported']:.4g} {UNITS[axis]} is outside its 95 % expected interval [{q['low']:.3g}, {q['high']:.3g}]"


def of_hypothesis(w: Weighed, here: State, f: Figures) -> list[str]:
    """What speaks for a cause: the deviations from the stated configuration, and how well the cause explains them."""
    h = w.hypothesis
    found = [line(d, f"the {here.name} as stated") for d in deviations(f, here)]
    if h.state is not here and h.state.request != here.request:
        found += [line(d) for d in deviations(f, h.state)]
    elif h.pattern != AS_STATED and not h.broad:
        found.append(explained(w, f))
    return [*found, *_context(h, f), *([f.contradiction] if f.contradiction else [])]


def explained(w: Weighed, f: Figures) -> str:
    """The shift that the cause would make, at its posterior mean, as factors."""
    mean = w.weights @ w.hypothesis.shifts
    given = ~np.isnan(f.logs)
    factors = [f"{WORDS[a]} x {np.exp(mean[a]):.3g}" for a in range(3) if given[a] and abs(mean[a]) > 1e-9]
    return f"{w.hypothesis.variant or 'this cause'}: would make {', '.join(factors)}"


def _context(h: Hypothesis, f: Figures) -> list[str]:
    """Memory, utilisation, limit and temperature, where they were given."""
    found = []
    if f.memory_gb is not None and h.memory_gb is not None:
        found.append(f"memory {f.memory_gb:.3g} GB, computed for this cause: {h.memory_gb:.3g} GB")
    if f.utilization_pct is not None:
        found.append(f"utilisation {f.utilization_pct:.0f} %")
    if f.power_limit_w is not None and f.mean_power_w is not None:
        found.append(f"mean power is {f.mean_power_w / f.power_limit_w:.0%} of the limit of {f.power_limit_w:.0f} W")
    if f.temperature_c is not None:
        found.append(f"temperature {f.temperature_c:.0f} C")
    return found
