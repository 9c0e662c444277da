"""Configurations that do what they should and still cost more than another one: the three paradoxes, told from rows.

A choice is no fault: the figures are what it costs. Its confidence is the probability that the configuration ran, times the probability
that it costs over 5 % more than the alternative in a session of its own.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from eai import strategies
from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.ratios import ratio
from eai.advise.diagnose.states import Known
from eai.advise.parameters import Request, cannot_run, fits
from eai.errors import UserError
from eai.predict.features import canonical
from eai.quantity import Quantity

STRATEGY_CHOICES = ("int8_decomposition", "small_model_4bit", "quantization_overhead")
WORTH = 0.05
DF = 10
SMALL_PARAMS = 4e9
BATCHES = (8, 16, 4, 32, 2)
IDLE_BELOW_PCT, U_UTILIZATION_PCT = 50.0, 5.0


@dataclass(frozen=True)
class Choice:
    """One costly choice: `pattern`, what ran and what costs less, the log ratio of their energies with its spread, and the rows.

    `p_costly`: probability that it costs over 5 % more and, for a batch of one, that the card idles; `undecided` names a figure that
    would settle the latter, empty if nothing is open.
    """

    pattern: str
    ran: Request
    instead: Request
    log_ratio: float
    sd: float
    rows: tuple[str, ...]
    p_costly: float
    undecided: str = ""

    @property
    def excess(self) -> Quantity:
        """What it costs more, as a fraction of the alternative's energy, with its 95 % interval."""
        half = stats.t.ppf(0.975, DF) * self.sd
        return Quantity(*(float(np.expm1(self.log_ratio + d)) for d in (0.0, -half, half)), unit="fraction")


def p_above(log_ratio: float, sd: float) -> float:
    """The probability that a ratio exceeds 1.05, its logarithm being t distributed."""
    return float(stats.t.sf((np.log1p(WORTH) - log_ratio) / sd, DF))


def choices(ran: Request, f: Figures, k: Known | None = None) -> list[Choice]:
    """The costly choices in a configuration that ran: its strategy against fp16, its batch against a larger one."""
    return [c for c in (strategy_choice(ran, k), _batch(ran, f, k)) if c is not None]


def pattern_of(r: Request) -> str:
    """The name of the paradox that a quantized strategy stands for."""
    strategy = canonical(r.quantization)
    if strategy == "int8_default":
        return "int8_decomposition"
    small_4bit = strategies.get(strategy).weight_bits == 4 and r.model.params_total < SMALL_PARAMS
    return "small_model_4bit" if small_4bit else "quantization_overhead"


def strategy_choice(ran: Request, k: Known | None) -> Choice | None:
    """A quantized strategy against fp16; None where it is none, fp16 does not fit, or no ratio is known."""
    instead = ran.with_(quantization="fp16")
    if not strategies.get(ran.quantization).is_quantized or not fits(instead):
        return None
    found = _ratio(ran, instead, k)
    return found and Choice(pattern_of(ran), ran, instead, *found, p_above(*found[:2]))


def _batch(ran: Request, f: Figures, k: Known | None) -> Choice | None:
    """A batch of one against the batch of 8 or the nearest that fits; whether the card idles is told by its utilisation alone.

    The protocol's limit is 50 %. Without a utilisation the same figures come from a card that serves one user as it should and from one
    that lets others wait: even odds.
    """
    if ran.batch_size > 1:
        return None
    for batch in BATCHES:
        instead = ran.with_(batch_size=batch)
        found = _ratio(ran, instead, k) if fits(instead) else None
        if found:
            given = f.utilization_pct
            idle = 0.5 if given is None else float(stats.norm.cdf((IDLE_BELOW_PCT - given) / U_UTILIZATION_PCT))
            open_ = "--utilization-pct" if given is None else ""
            return Choice("batch_1_waste", ran, instead, *found, idle * p_above(*found[:2]), open_)
    return None


def _ratio(ran: Request, instead: Request, k: Known | None) -> tuple[float, float, tuple[str, ...]] | None:
    """`ratios.ratio`, None where it cannot be told or one of the two cannot run on the card."""
    if cannot_run(ran.gpu, ran.quantization) or cannot_run(instead.gpu, instead.quantization):
        return None
    try:
        return ratio(ran, instead, k)
    except UserError:
        return None
