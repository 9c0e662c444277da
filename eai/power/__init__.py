"""Joules that can be trusted: meters, windows and the uncertainty budget.

    meter -> stream -> derive(stream, edges, spec) -> energies, context, status

Recording and reading are apart: a meter only writes down what the sensors said, and `derive` is a pure function of that record, so a
stored window can be derived again bit for bit (`replay`).

    with eai.power.window(meter, baseline) as w:
        work()
    w.gpu_energy_j        # value, 95 % interval, unit; None if unmeasured

    meter      what every meter is, its clock       stream     the raw record of a window and how it is read
    nvml       NVIDIA GPUs                          rapl       CPU packages and DRAM
    estimate   CPU time x watts, where no counter   sensor     what is known of a card's sensor
    readings   counter, integral, estimate: an energy with its budget
    derive     the rules: statuses, cross-check     replay     the same numbers from what was stored
    window     the context manager, the best meter  probe      a card's sensor and its gain, found on the card
    logs       power logs of others                 trace      their energy
    fake       simulated sensors and a fake NVML    simulated  a whole card in software, for the pipeline without a GPU
"""

from eai.power.derive import derive
from eai.power.meter import Baseline, Device, Meter
from eai.power.readings import Energy
from eai.power.stream import Spec
from eai.power.window import Window, best_meter, window

__all__ = ["Baseline", "Device", "Energy", "Meter", "Spec", "Window", "best_meter", "derive", "window"]
