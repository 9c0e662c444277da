"""How long each part of a measurement lasts: a sensor needs time that an exact counter of CPU time does not."""

from dataclasses import dataclass

from eai.power.meter import Meter
from eai.settings import Sweep


@dataclass(frozen=True)
class Protocol:
    """The durations, resolved for the meter at hand.

    Seconds: `window_s` of work, at most `warmup_cap_s` of warm-up, `idle_s` of each idle measurement (0: none).
    """

    window_s: float
    warmup_cap_s: float
    idle_s: float

    @classmethod
    def of(cls, sweep: Sweep, meter: Meter) -> "Protocol":
        """The sweep's own figures where it gives them, else 10 / 60 / 5 s with a sensor and 2 / 1 / 0 s with the estimate."""
        window_s, warmup_cap_s, idle_s = (2.0, 1.0, 0.0) if meter.basis == "estimated" else (10.0, 60.0, 5.0)
        given = (sweep.window_s, sweep.warmup_cap_s, sweep.idle_s)
        return cls(*(default if asked is None else asked for asked, default in zip(given, (window_s, warmup_cap_s, idle_s), strict=True)))
