"""Two meters over one window: the GPUs, and beside them the processor's own counters, each in rows of its own boundary."""

import pandas as pd

from eai.power.meter import Device, MeterBase
from eai.power.spec import Spec


class JointMeter(MeterBase):
    """A primary meter, whose boundary the window is about, with others beside it. Their energies are never added to each other.

    The others are read closest to the work: the primary's pads would otherwise be counted as the processor's.
    """

    def __init__(self, primary, *others):
        super().__init__(primary.clock)
        self.meters = (primary, *others)
        self.name, self.basis, self.boundary = "+".join(m.name for m in self.meters), primary.basis, primary.boundary

    def devices(self) -> list[Device]:
        return [d for m in self.meters for d in m.devices()]

    def power_w(self) -> float | None:
        return self.meters[0].power_w()

    def open(self) -> "JointMeter":
        for meter in self.meters:
            meter.open()
        return super().open()

    def close(self) -> None:
        for meter in self.meters:
            meter.close()
        super().close()

    def start(self) -> None:
        for meter in self.meters:
            meter.start()

    def stop(self) -> pd.DataFrame:
        streams = [meter.stop() for meter in reversed(self.meters)]
        labels = ("device_id", "boundary", "field")
        joined = pd.concat([s.astype(dict.fromkeys(labels, "str")) for s in streams], ignore_index=True)
        return joined.astype(dict.fromkeys(labels, "category"))

    def spec(self, baseline=None, step_time_s=None) -> Spec:
        devices = tuple(d for m in self.meters for d in m.spec(baseline, step_time_s).devices)
        return Spec(self.boundary, devices, step_time_s)

    def limitations(self) -> list[str]:
        return [note for m in self.meters for note in m.limitations()]

    def metadata(self) -> dict:
        return {"meter": self.name, "parts": [m.metadata() for m in self.meters]}
