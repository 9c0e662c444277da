"""One measured interval: `with window(meter) as w:` around the work, the numbers on `w` afterwards.

meter.start            work                     meter.stop
| pad, edge reading | ######################## | pad, edge reading |
                    start_s              stop_s
"""

import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pandas as pd

from eai.power.choice import best_meter
from eai.power.derive import Derived, derive
from eai.power.energy import NOT_A_NUMBER, Energy, total
from eai.power.meter import Baseline, Meter
from eai.power.spec import Spec
from eai.quantity import Quantity

OWN_COLUMNS = ("started_at", "start_s", "stop_s", "duration_s", "meter", "basis", "status", "reason")
CONTEXT_COLUMNS = ("power_mean_w", "temperature_mean_c", "sm_clock_mean_mhz", "power_limit_w", "throttle_fraction")


@dataclass
class Window:
    """What was measured. Filled when the `with` block ends; before, `status` is `running`.

    Times are monotonic seconds (`started_at` is UTC wall time); `context` has None for what was not sensed. `stream` and
    `spec` are all that `derive` needs to find the same numbers again.
    """

    name: str = ""
    started_at: str = ""
    start_s: float = math.nan
    stop_s: float = math.nan
    meter: str = ""
    basis: str = ""
    boundary: str = ""
    status: str = "running"
    flags: list[str] = field(default_factory=list)
    reason: str = ""
    energies: list[Energy] = field(default_factory=list)
    context: dict = field(default_factory=dict)
    stream: pd.DataFrame | None = field(default=None, repr=False)
    spec: Spec | None = field(default=None, repr=False)

    @property
    def duration_s(self) -> float:
        """Seconds between the edges of the work."""
        return self.stop_s - self.start_s

    @property
    def gpu_energy_j(self) -> Quantity | None:
        """Gross energy of all GPUs with its absolute 95 % interval; None if it was not measured, never 0."""
        return self._total("gpu")

    @property
    def cpu_energy_j(self) -> Quantity | None:
        """Gross energy of the CPU packages with its absolute 95 % interval; None if it was not measured."""
        return self._total("cpu_package")

    def _total(self, boundary: str) -> Quantity | None:
        return None if self.status in NOT_A_NUMBER else total(self.energies, (boundary,))

    def to_row(self) -> dict:
        """The meter's columns of the windows table; `meter_spec` is the JSON that replay reads."""
        row = {key: getattr(self, key) for key in OWN_COLUMNS}
        row |= {key: self.context.get(key) for key in CONTEXT_COLUMNS}
        return row | {"flags": list(self.flags), "meter_spec": self.spec.to_json() if self.spec else ""}

    def take(self, derived: Derived) -> None:
        """Take over what `derive` found."""
        self.energies, self.context = list(derived.energies), derived.context
        self.status, self.reason = derived.status, derived.reason
        self.flags = list(dict.fromkeys([*self.flags, *derived.flags]))


@contextlib.contextmanager
def window(
    meter: Meter | str | None = None,
    baseline: Baseline | None = None,
    step_time_s: float | None = None,
    name: str = "",
    pads_loaded: bool = False,
) -> Iterator[Window]:
    """A `Window` around the work in the block; `meter` defaults to the best one here, a string is the window's name.

    `step_time_s` is the period of the work (one decode step), for the alias check; `pads_loaded` says that the work is going on already
    and goes on after the block, as a server's does. A meter that was not open is opened and
    closed; GPU work still queued by torch is waited for at both edges. An exception in the block propagates, after the
    meter has stopped sampling: the windows before it are untouched and the meter can be used again.
    """
    if isinstance(meter, str):
        meter, name = None, meter
    if meter is None:
        meter = best_meter()[0]
    opened_here = not meter.is_open
    if opened_here:
        meter.open()
    w = Window(name=name, meter=meter.name, basis=meter.basis, boundary=meter.boundary)
    try:
        _drain()
        w.spec = meter.spec(baseline, step_time_s)
        if pads_loaded:
            w.spec = replace(w.spec, devices=tuple(replace(d, pads_loaded=True) for d in w.spec.devices))
        meter.start()
        w.started_at, w.start_s = datetime.now(UTC).isoformat(timespec="milliseconds"), meter.clock.now_s()
        try:
            yield w
            _drain()
        except BaseException as error:
            w.stop_s, w.status, w.reason = meter.clock.now_s(), "failed", type(error).__name__
            w.stream = meter.stop()
            raise
        w.stop_s = meter.clock.now_s()
        w.stream = meter.stop()
        w.take(derive(w.stream, w.start_s, w.stop_s, w.spec))
    finally:
        if opened_here:
            meter.close()


def _drain() -> None:
    """Wait for queued GPU work: a kernel that runs on past the block would be counted for whoever comes next."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
