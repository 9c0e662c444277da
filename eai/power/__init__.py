"""Joules that can be trusted: meters, windows and the uncertainty budget.

    meter -> stream -> derive(stream, edges, spec) -> energies, context, status

Recording and reading are apart: a meter only writes down what the sensors said, and `derive` is a pure function of that record, so a
stored window can be derived again bit for bit (`replay`).

    with eai.power.window(meter, baseline) as w:
        work()
    w.gpu_energy_j        # value, 95 % interval, unit; None if unmeasured

    meter      what every meter is, its clock       readings   the raw record of a window and the energies in it, each with its budget
    nvml       NVIDIA GPUs and their sensors        derive     the rules: statuses, cross-check; the same numbers again from what was stored
    cpu        CPU packages and DRAM, else CPU time probe      a card's sensor and its gain, found on the card
    window     the context manager, the best meter  logs       power logs of others, by formats
    live       any command, and power as it goes    trace      their energy
    simulated  a whole card in software, for the pipeline without a GPU
"""

from eai.power.derive import derive
from eai.power.meter import Baseline, Device, Meter
from eai.power.readings import Energy, Spec
from eai.power.window import Window, best_meter, window

__all__ = ["Baseline", "Device", "Energy", "Meter", "Spec", "Window", "best_meter", "derive", "window"]
