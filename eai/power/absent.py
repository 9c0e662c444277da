"""The meter of what cannot be seen from here: it measures nothing, and says why."""

import pandas as pd

from eai.power.clock import Clock
from eai.power.meter import Device, MeterBase
from eai.power.spec import DeviceSpec, Spec
from eai.power.stream import to_stream


class AbsentMeter(MeterBase):
    """A place for energies that stay empty. Every window of it is `invalid`: unmeasured is never 0, and never another machine's.

    `mark` stands for the device that is out of sight; `reason` says why it is.
    """

    name, basis, boundary = "none", None, "cpu_package"

    def __init__(self, mark: str, reason: str, clock: Clock | None = None):
        super().__init__(clock)
        self.mark, self.reason = mark, reason

    def devices(self) -> list[Device]:
        return [Device(self.mark, "out of sight", self.boundary)]

    def start(self) -> None:
        """There is nothing to record."""

    def stop(self) -> pd.DataFrame:
        return to_stream([])

    def spec(self, baseline=None, step_time_s=None) -> Spec:
        return Spec(self.boundary, (DeviceSpec(self.mark, self.boundary, self.basis),), step_time_s)

    def limitations(self) -> list[str]:
        return [f"energy is not measured: {self.reason}"]

    def metadata(self) -> dict:
        return {"meter": self.name, "why": self.reason}
