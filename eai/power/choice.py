"""Which meter to use here, and what each of them can or cannot do on this machine."""

from eai.errors import UserError
from eai.power import rapl, simulated
from eai.power.estimate import EstimateMeter
from eai.power.joint import JointMeter
from eai.power.meter import Meter
from eai.power.rapl import RaplMeter

NAMES = ("nvml", "rapl", "estimate")


def _nvml(gpu: str, shared: bool = False, processes: frozenset[int] = frozenset()) -> Meter:
    from eai.power.nvml import NvmlMeter

    return NvmlMeter(gpu=gpu, shared=shared, ours=processes)


def _rapl(gpu: str, shared: bool = False, processes: frozenset[int] = frozenset()) -> Meter:
    if error := rapl.refusal():
        raise error
    return RaplMeter()


def _estimate(gpu: str, shared: bool = False, processes: frozenset[int] = frozenset()) -> Meter:
    return EstimateMeter(processes=processes)


def _simulated(gpu: str, name: str) -> Meter:
    if name not in ("auto", "nvml"):
        raise UserError(f"meter {name} for {gpu}", "meter auto", "a simulated card is seen by its own meter alone")
    return simulated.SimulatedMeter(gpu)


MAKERS = {"nvml": _nvml, "rapl": _rapl, "estimate": _estimate}


def best_meter(gpu: str = "auto", name: str = "auto", shared: bool = False, processes: frozenset[int] = frozenset()) -> tuple[Meter, str]:
    """The best meter for a card's UUID or slug (`cpu`: the processor; `auto`: a GPU if there is one) and one sentence why.

    `name` forces one of nvml, rapl, estimate. The work decides what is measured: a GPU slug is never answered with a CPU meter, and
    `cpu` never with NVML. A slug means all visible cards, a UUID that card alone; `shared` accepts other processes on it. Beside NVML
    the processor's counters are read too where they can be. A simulated card has a meter of its own. `processes`: those of
    a server, whose work is billed in place of this process's.

    Raises UserError for an unknown name or where the wanted meter cannot be had.
    """
    if name not in ("auto", *NAMES):
        raise UserError(f"meter {name!r}", f"one of auto, {', '.join(NAMES)}", "leave it at auto")
    if simulated.is_simulated(gpu):
        return _simulated(gpu, name), "nothing is measured: the card is simulated."
    billed = {"processes": processes} if processes else {}
    if name != "auto":
        return MAKERS[name](gpu, shared, **billed), f"{name} was asked for."
    order = ["rapl", "estimate"] if gpu == "cpu" else ["nvml"] if gpu != "auto" else list(NAMES)
    refused = []
    for candidate in order:
        try:
            meter = MAKERS[candidate](gpu, shared, **billed)
        except UserError as error:
            if len(order) == 1:
                raise
            refused.append(f"{candidate}: {error}")
            continue
        if candidate == "nvml" and rapl.refusal() is None:
            return JointMeter(meter, RaplMeter()), "nvml is the best here, with rapl beside it for the processor."
        return meter, f"{candidate} is the best here" + (f"; refused {' '.join(refused)}" if refused else ".")
    raise UserError("; ".join(refused), "a meter")
