"""Joules that can be trusted: meters, windows, the uncertainty budget, and a truth to test them against.

    meter -> stream -> derive(stream, edges, spec) -> energies, context, status

Recording and reading are apart: a meter only writes down what the sensors said, and `derive` is a pure function of that record, so a
stored window can be derived again bit for bit (`replay`).

    with eai.power.window(meter, baseline) as w:
        work()
    w.gpu_energy_j        # value, 95 % interval, unit; None if unmeasured

    meter      what every meter is                  clock      time and the pace of sampling
    nvml       NVIDIA GPUs (cards: which ones)      rapl       CPU packages and DRAM
    estimate   CPU time x watts, where no counter   joint      GPU and CPU counters over one window
    listener   which processes are a server         absent     what cannot be seen from here
    choice     the best of them                     survey     what each can do on this machine
    stream     the raw record of a window           spec       how it is to be read
    derive     the rules: statuses, cross-check     readings   counter, integral, estimate, each with its terms
    trace      integrals and counters               alias      beats between steps and sensor updates
    energy     one energy and its budget            context    temperature, clocks, throttling
    window     the context manager                  steady     when to begin
    sensor     priors and cache                     probe      the same, found out on the card; calibrate: its gain
    logs       recorded logs (logcolumns: layout)   logsummary their energy
    truth, simulate, fake, virtual, foils           known energy, simulated sensors, a fake NVML, methods seen failing
    simulated  a whole card in software, for the pipeline without a GPU
"""

from eai.power.choice import best_meter
from eai.power.derive import derive
from eai.power.energy import Energy
from eai.power.meter import Baseline, Device, Meter
from eai.power.spec import Spec
from eai.power.window import Window, window

__all__ = ["Baseline", "Device", "Energy", "Meter", "Spec", "Window", "best_meter", "derive", "window"]
