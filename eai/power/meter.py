"""What every meter is: something that records a stream between `start` and `stop` and says what it cannot know."""

from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from eai.power.clock import Clock, MonotonicClock
from eai.power.derive import derive
from eai.power.energy import NOT_A_NUMBER
from eai.power.spec import Spec

IDLE_KINDS = ("bare", "context", "context_after")


@dataclass(frozen=True)
class Device:
    """One thing whose energy is measured: a card by its UUID, a CPU package, its DRAM."""

    device_id: str
    name: str
    boundary: str


@dataclass(frozen=True)
class Baseline:
    """Idle power of each device [W] and its standard uncertainty (k = 1), measured over `duration_s`.

    `kind`: bare (nothing loaded), context (model loaded, settled), context_after. An unmeasured device has no entry.
    """

    kind: str
    duration_s: float
    power_w: dict[str, float] = field(default_factory=dict)
    u_power_w: dict[str, float] = field(default_factory=dict)


class Meter(Protocol):
    """A source of energy readings. `basis`: measured | estimated | simulated. `boundary`: its primary one.

    `start` returns when the work may begin and `stop` is called when it has ended: pads and edge readings lie outside.
    `spec` says how the stream is to be read, so that `derive(stream, start_s, stop_s, spec)` needs nothing else.
    """

    name: str
    basis: str
    boundary: str
    clock: Clock
    is_open: bool

    def devices(self) -> list[Device]: ...
    def open(self) -> "Meter": ...
    def close(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> pd.DataFrame: ...
    def idle(self, duration_s: float = 5.0, kind: str = "context") -> Baseline: ...
    def spec(self, baseline: Baseline | None = None, step_time_s: float | None = None) -> Spec: ...
    def power_w(self) -> float | None: ...
    def limitations(self) -> list[str]: ...
    def metadata(self) -> dict: ...


class MeterBase:
    """What the meters share: the context manager, the clock, and idle power as an ordinary window of doing nothing."""

    name = basis = boundary = ""

    def __init__(self, clock: Clock | None = None):
        self.clock = clock or MonotonicClock()
        self.is_open = False

    def __enter__(self):
        return self.open()

    def __exit__(self, *_) -> None:
        self.close()

    def open(self):
        self.is_open = True
        return self

    def close(self) -> None:
        self.is_open = False

    def idle(self, duration_s: float = 5.0, kind: str = "context") -> Baseline:
        """Power of each device over `duration_s` of waiting, by the same rules as any window.

        Raises ValueError for an unknown kind.
        """
        if kind not in IDLE_KINDS:
            raise ValueError(f"idle kind {kind!r}, expected one of {IDLE_KINDS}")
        if not self.is_open:
            with self:
                return self.idle(duration_s, kind)
        self.start()
        start_s = self.clock.now_s()
        self.clock.sleep(duration_s)
        stop_s = self.clock.now_s()
        found = derive(self.stop(), start_s, stop_s, self.spec())
        good = [e for e in found.energies if e.primary and e.energy_j is not None and e.status not in NOT_A_NUMBER]
        span_s = stop_s - start_s
        power_w, u_power_w = ({e.device_id: value(e) / span_s for e in good} for value in (lambda e: e.energy_j, lambda e: e.u_reading_j))
        return Baseline(kind, span_s, power_w, u_power_w)

    def power_w(self) -> float | None:
        """Power right now [W], all devices of the primary boundary; None where it is not sensed. For warm-up, never for energy."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.basis} {[d.device_id for d in self.devices()]}>"
