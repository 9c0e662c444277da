"""How sure every pattern is: the probabilities of the causes, and of the costly choices in what may have run."""

from collections import defaultdict
from dataclasses import dataclass

from eai.advise.diagnose.choices import Choice, choices
from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.hypotheses import AS_STATED, FP32_WEIGHTS, NONE, hypotheses
from eai.advise.diagnose.posterior import Weighed, by_pattern, weigh
from eai.advise.diagnose.states import Known
from eai.advise.parameters import Request

NAMED = 0.5
"""A pattern is named from this confidence on: more likely than not."""

SHOWN = 0.05


@dataclass(frozen=True)
class Confidences:
    """`weighed`: every cause by probability; `total`: by pattern, summing to 1; `costly`: choice -> (confidence, its likeliest one)."""

    weighed: list[Weighed]
    total: dict[str, float]
    costly: dict[str, tuple[float, Choice]]

    @property
    def faults(self) -> list[str]:
        """The causes that are named."""
        return [name for name, p in self.total.items() if p >= NAMED and name not in (AS_STATED, NONE)]

    @property
    def choices(self) -> list[str]:
        """The costly choices that are named."""
        return [name for name, (p, _) in self.costly.items() if p >= NAMED]


def confidences(r: Request, f: Figures, k: Known | None = None) -> Confidences:
    """The confidence of every pattern that reaches 5 %; a choice that is shown as a fault already is not repeated."""
    weighed = weigh(hypotheses(r, k), f)
    total = by_pattern(weighed)
    faults = {name for name, p in total.items() if p >= SHOWN}
    return Confidences(weighed, total, {n: found for n, found in _costly(weighed, r, f, k).items() if n not in faults})


def _costly(weighed: list[Weighed], r: Request, f: Figures, k: Known | None) -> dict[str, tuple[float, Choice]]:
    """The costly choices in what ran, summed over the strategies that may have run, at the stated batch."""
    ran: dict[str, float] = defaultdict(float)
    for w in weighed:
        if w.hypothesis.pattern != NONE:
            ran[w.hypothesis.state.request.quantization] += w.probability
    found: dict[str, list[tuple[float, Choice]]] = defaultdict(list)
    for quantization, p in ran.items():
        if p >= SHOWN and quantization != FP32_WEIGHTS:
            for c in choices(r.with_(quantization=quantization), f, k):
                found[c.pattern].append((p * c.p_costly, c))
    sums = {name: (min(sum(p for p, _ in each), 1.0), max(each, key=lambda x: x[0])[1]) for name, each in found.items()}
    return {name: pair for name, pair in sums.items() if pair[0] >= SHOWN}
