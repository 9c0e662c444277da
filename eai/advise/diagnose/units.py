"""The confusions of units and of what is counted: each multiplies a reported figure by an exact factor."""

from dataclasses import dataclass
from math import log

from eai.advise.parameters import Request


@dataclass(frozen=True)
class Confusion:
    """One confusion: what was confused, and the logarithm of the factor it puts on energy a token, throughput and power."""

    name: str
    energy: float = 0.0
    throughput: float = 0.0
    power: float = 0.0


def confusions(r: Request) -> list[Confusion]:
    """The confusions that are possible for a request of these token counts and this batch size.

    Energy and throughput are per output token of the whole batch. A confused count of tokens that both figures share leaves power, their
    product, as it was.
    """
    out, total, batch = log(r.output_tokens), log((r.input_tokens + r.output_tokens) / r.output_tokens), log(r.batch_size)
    request = log(r.output_tokens / 1e3)
    found = [
        Confusion("energy given per token, not per 1000 tokens", energy=-log(1e3)),
        Confusion("energy multiplied by 1000 twice", energy=log(1e3)),
        Confusion("watt hours given as joules", energy=-log(3600)),
        Confusion("joules multiplied by 3600", energy=log(3600)),
        Confusion("energy too large by 3.6 (kilojoules and watt hours confused)", energy=log(3.6)),
        Confusion("energy too small by 3.6 (kilojoules and watt hours confused)", energy=-log(3.6)),
        Confusion("energy a request given as energy per 1000 tokens", energy=request),
        Confusion("power samples at 10 Hz summed without their interval", energy=log(10)),
        Confusion("requests a second given as tokens a second", throughput=-out),
        Confusion("prompt tokens counted as output tokens in both figures", energy=-total, throughput=total),
        Confusion("prompt tokens counted in the throughput", throughput=total),
        Confusion("prompt tokens counted in the energy's tokens", energy=-total),
        Confusion("milliwatts given as watts", power=log(1e3)),
        Confusion("kilowatts given as watts", power=-log(1e3)),
    ]
    if r.batch_size > 1:
        found += [
            Confusion("throughput of one sequence given for the whole batch", throughput=-batch),
            Confusion("throughput multiplied by the batch size twice", throughput=batch),
            Confusion("energy of the whole batch given for one sequence's tokens", energy=batch),
            Confusion("energy divided by the batch size twice", energy=-batch),
            Confusion("tokens of one sequence counted for the whole batch", energy=batch, throughput=-batch),
        ]
    return found
