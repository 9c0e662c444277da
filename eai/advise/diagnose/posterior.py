"""The probability of every cause given the figures, and which figure would tell two of them apart.

Likelihood: a mixture of multivariate t densities of the logarithms of energy a token, throughput and power around each cause's shifts.
Power is energy times throughput up to 2 %, so three figures weigh whether they agree. Memory, utilisation, a power limit and a
temperature multiply it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats

from eai.advise.diagnose.figures import AXES, Figures
from eai.advise.diagnose.hypotheses import AS_STATED, NONE_SD, Hypothesis

ROUNDING_SD = 0.01
CLOSURE_SD = 0.02
MEMORY_SD = 0.25
ANY_MEMORY_GB = 10.0
HOT_C = 83.0
TO_AXES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
OPTIONS = {
    "energy": "--energy-j-per-1k",
    "throughput": "--throughput",
    "power": "--power-w",
    "utilization": "--utilization-pct",
    "memory": "--memory-gb",
}


@dataclass(frozen=True)
class Weighed:
    """A cause with its posterior probability and the posterior weights of its shifts."""

    hypothesis: Hypothesis
    probability: float
    weights: np.ndarray


def weigh(found: list[Hypothesis], f: Figures) -> list[Weighed]:
    """Every cause with its probability, which sum to 1, most probable first; without those that move no given figure."""
    found = [h for h in found if h.pattern == AS_STATED or h.broad or _is_visible(h, f)]
    scores = [terms + np.log(h.prior) for h, terms in zip(found, log_terms(found, f), strict=True)]
    top = max(s.max() for s in scores)
    totals = np.array([np.exp(s - top).sum() for s in scores])
    weighed = [
        Weighed(h, float(t / totals.sum()), np.exp(s - s.max()) / np.exp(s - s.max()).sum())
        for h, s, t in zip(found, scores, totals, strict=True)
    ]
    return sorted(weighed, key=lambda w: -w.probability)


def _is_visible(h: Hypothesis, f: Figures) -> bool:
    """Whether a cause changes any given figure: it starts from another configuration, or shifts a figure that was given."""
    return not h.starts_as_stated or bool(np.any(h.shifts[:, ~np.isnan(f.logs)]))


def log_terms(found: list[Hypothesis], f: Figures) -> list[np.ndarray]:
    """The logarithm of each shift's share of each cause's likelihood; causes that start from one state are evaluated together."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for i, h in enumerate(found):
        groups.setdefault((id(h.state), h.broad), []).append(i)
    terms: list[np.ndarray] = [np.empty(0)] * len(found)
    for members in groups.values():
        sizes = np.cumsum([len(found[i].shifts) for i in members])[:-1]
        density = _density(found[members[0]], np.vstack([found[i].shifts for i in members]), f)
        for i, own in zip(members, np.split(density, sizes), strict=True):
            terms[i] = own - np.log(len(own)) + _others(found[i], f)
    return terms


def _density(h: Hypothesis, shifts: np.ndarray, f: Figures) -> np.ndarray:
    """The log density of the given figures at every shift (n x 3) of the state that a cause starts from."""
    seen = ~np.isnan(f.logs)
    deviation = f.logs[seen] - _centre(h)[seen] - shifts[:, seen]
    parts = [np.log(w) + _t_logpdf(deviation, c[np.ix_(seen, seen)], df) for w, c, df in _parts(h)]
    return np.logaddexp.reduce(parts, axis=0)


def _t_logpdf(deviation: np.ndarray, scale: np.ndarray, df: float) -> np.ndarray:
    """Log density of deviations (n x d) under a multivariate t about 0, as an array also for one row."""
    return np.atleast_1d(stats.multivariate_t.logpdf(deviation, np.zeros(len(scale)), scale, df))


def _centre(h: Hypothesis) -> np.ndarray:
    return TO_AXES @ h.state.centre


def _parts(h: Hypothesis) -> list[tuple[float, np.ndarray, float]]:
    """(weight, 3 x 3 scale, degrees of freedom) of each part of the expected figures."""
    if h.broad:
        return [(1.0, np.eye(3) * NONE_SD**2, 30.0)]
    noise = np.diag([ROUNDING_SD, ROUNDING_SD, CLOSURE_SD]) ** 2
    return [(p.weight, TO_AXES @ p.covariance @ TO_AXES.T + noise, p.df) for p in h.state.parts]


def _others(h: Hypothesis, f: Figures) -> float:
    """The logarithm of the likelihood of memory, utilisation, power limit and temperature, as far as given."""
    found = 0.0
    if f.memory_gb is not None:
        found += float(_memory(h).logpdf(np.log(f.memory_gb)))
    if f.utilization_pct is not None:
        found += float(stats.beta(*h.utilization).logpdf(np.clip(f.utilization_pct / 100, 0.01, 0.99)))
    return found + _limits(h, f)


def _memory(h: Hypothesis):
    """The distribution of log memory: around what the cause needs; for a cause that needs nothing certain, about 10 GB and very wide."""
    return stats.norm(np.log(ANY_MEMORY_GB), NONE_SD) if h.memory_gb is None else stats.norm(np.log(h.memory_gb), MEMORY_SD)


def _limits(h: Hypothesis, f: Figures) -> float:
    """A mean power at its limit, or a temperature at which cards slow down, speaks for a cap: odds of 12 and 8 to 1, else 1 to 4 and 3."""
    slowed, found = h.pattern == "power_cap_or_throttle", 0.0
    if f.power_limit_w is not None and f.mean_power_w is not None:
        at_limit = f.mean_power_w >= 0.95 * f.power_limit_w
        found += np.log((0.6 if at_limit else 0.24) if slowed else (0.05 if at_limit else 0.95))
    if f.temperature_c is not None:
        hot = f.temperature_c >= HOT_C
        found += np.log((0.7 if hot else 0.3) if slowed else (0.09 if hot else 0.91))
    return float(found)


def by_pattern(weighed: list[Weighed]) -> dict[str, float]:
    """Pattern -> probability, most probable first."""
    total: dict[str, float] = {}
    for w in weighed:
        total[w.hypothesis.pattern] = total.get(w.hypothesis.pattern, 0.0) + w.probability
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def deciding_figure(one: Weighed, two: Weighed, f: Figures) -> tuple[str, float] | None:
    """(the figure not given that separates two causes best, share of cases it would decide), None if all were given.

    The share is the total variation distance of the two predicted distributions of that figure, the given figures taken into account.
    """
    distances = {}
    for axis, name in enumerate(AXES):
        if np.isnan(f.logs[axis]):
            distances[name] = _normal_distance(_predicted(one, f, axis), _predicted(two, f, axis))
    if f.utilization_pct is None:
        distances["utilization"] = _beta_distance(one.hypothesis.utilization, two.hypothesis.utilization)
    if f.memory_gb is None and one.hypothesis.memory_gb and two.hypothesis.memory_gb:
        apart = abs(np.log(one.hypothesis.memory_gb / two.hypothesis.memory_gb))
        distances["memory"] = float(2 * stats.norm.cdf(apart / MEMORY_SD / 2) - 1)
    if not distances:
        return None
    best = max(distances, key=lambda name: distances[name])
    return OPTIONS[best], distances[best]


def _predicted(w: Weighed, f: Figures, axis: int) -> tuple[float, float]:
    """(mean, standard deviation) of one figure's logarithm given the others, under one cause: conditional normal, averaged over shifts."""
    h, seen = w.hypothesis, ~np.isnan(f.logs)
    scale = sum(weight * c for weight, c, _ in _parts(h))
    gain = scale[axis, seen] @ np.linalg.inv(scale[np.ix_(seen, seen)])
    mean = _centre(h)[axis] + h.shifts[:, axis] + (f.logs[seen] - _centre(h)[seen] - h.shifts[:, seen]) @ gain
    centre = float(w.weights @ mean)
    spread = float(w.weights @ (mean - centre) ** 2)
    return centre, float(np.sqrt(scale[axis, axis] - gain @ scale[seen, axis] + spread))


def _normal_distance(one: tuple[float, float], two: tuple[float, float]) -> float:
    """Total variation distance of two normal distributions, by the trapezoid rule."""
    low, high = (min(m - 6 * s for m, s in (one, two)), max(m + 6 * s for m, s in (one, two)))
    x = np.linspace(low, high, 4001)
    return float(integrate.trapezoid(np.abs(stats.norm.pdf(x, *one) - stats.norm.pdf(x, *two)), x) / 2)


def _beta_distance(one: tuple[float, float], two: tuple[float, float]) -> float:
    """Total variation distance of two beta distributions, by the trapezoid rule."""
    x = np.linspace(0.001, 0.999, 999)
    return float(integrate.trapezoid(np.abs(stats.beta.pdf(x, *one) - stats.beta.pdf(x, *two)), x) / 2)
