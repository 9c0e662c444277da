"""What every meter is: something that records a stream between `start` and `stop`, on a clock, and says what it cannot know."""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from eai.power.derive import derive
from eai.power.readings import LABELS, NOT_A_NUMBER, DeviceSpec, Row, Spec, row, to_stream

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[], list[Row]]


class Clock:
    """Time, waiting, and something that calls a reader at a steady pace: the host's monotonic clock, which no correction of the wall clock
    moves. Simulated cards bring their own."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        time.sleep(max(duration_s, 0))

    def sampler(self, read: Read, period_s: float) -> Sampler:
        return Sampler(read, period_s, self)


class Sampler:
    """Calls `read() -> rows` every `period_s` on a thread of its own and collects the rows. The schedule is fixed in advance (start + k *
    period): a late read does not delay the following ones, missed beats are skipped and show as a gap. An exception in `read` ends the
    sampling and leaves a `sampler_error` row."""

    def __init__(self, read: Read, period_s: float, clock: Clock):
        self.read, self.period_s, self.clock = read, period_s, clock
        self.failure: Exception | None = None
        self._rows: list[Row] = []
        self._halt, self._thread = threading.Event(), None

    def start(self) -> None:
        self.stop()
        self._halt.clear()
        self._thread = threading.Thread(target=self._run, name="eai-power-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> list[Row]:
        """The rows since the start; returns only when the thread has ended."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        rows, self._rows = self._rows, []
        return rows

    def beat(self) -> bool:
        """One read; False, with a `sampler_error` row and `failure` set, if the reader broke."""
        try:
            self._rows.extend(self.read())
        except Exception as error:  # whatever broke the reader must end up in the window's status, not on a thread's stderr
            self.failure = error
            self._rows.append(row(self.clock.now_s(), "", "", "sampler_error", 1.0))
            return False
        return True

    def _run(self) -> None:
        due_s = self.clock.now_s()
        while not self._halt.is_set() and self.beat():
            now_s = self.clock.now_s()
            due_s = next_beat(due_s, self.period_s, now_s)
            self._halt.wait(due_s - now_s)


def next_beat(due_s: float, period_s: float, now_s: float) -> float:
    """The first beat of the fixed schedule after now: beats that are over are not made up for."""
    return due_s + period_s * (max((now_s - due_s) // period_s, 0.0) + 1)


@dataclass(frozen=True)
class Device:
    """One thing whose energy is measured: a card by its UUID, a CPU package, its DRAM."""

    device_id: str
    name: str
    boundary: str


@dataclass(frozen=True)
class Baseline:
    """Idle power of each device [W] and its standard uncertainty (k = 1), measured over `duration_s`. `kind`: bare (nothing loaded),
    context (model loaded, settled), context_after. An unmeasured device has no entry."""

    kind: str
    duration_s: float
    power_w: dict[str, float] = field(default_factory=dict)
    u_power_w: dict[str, float] = field(default_factory=dict)


class Meter(abc.ABC):
    """A source of energy readings. `basis`: measured | estimated | simulated. `boundary`: its primary one. `start` returns when the work
    may begin and `stop` is called when it has ended: pads and edge readings lie outside. A meter of one's own gives `devices`, `start`,
    `stop`, `device_specs`, `limitations` and `metadata`."""

    name = basis = boundary = ""

    def __init__(self, clock: Clock | None = None):
        self.clock, self.is_open, self._sampler = clock or Clock(), False, None

    def __enter__(self):
        return self.open()

    def __exit__(self, *_) -> None:
        self.close()

    @abc.abstractmethod
    def devices(self) -> list[Device]:
        """What is measured."""

    @abc.abstractmethod
    def start(self) -> None:
        """Begin to record."""

    @abc.abstractmethod
    def stop(self) -> pd.DataFrame:
        """What was recorded since the start."""

    @abc.abstractmethod
    def device_specs(self) -> Iterable[DeviceSpec]:
        """How the stream of each device is read, without its idle power."""

    def open(self):
        self.is_open = True
        return self

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        self.is_open = False

    def spec(self, baseline: Baseline | None = None, step_time_s: float | None = None) -> Spec:
        """The instructions by which `derive` reads the stream."""
        idle_w, u_w = (baseline.power_w, baseline.u_power_w) if baseline else ({}, {})
        known = (replace(d, idle_w=idle_w.get(d.device_id), u_idle_w=u_w.get(d.device_id, 0.0)) for d in self.device_specs())
        return Spec(self.boundary, tuple(known), step_time_s)

    def limitations(self) -> list[str]:
        """What its numbers leave out, a sentence each."""
        return []

    def metadata(self) -> dict:
        """What describes it in the provenance."""
        return {"meter": self.name}

    def idle(self, duration_s: float = 5.0, kind: str = "context") -> Baseline:
        """Power of each device over `duration_s` of waiting, by the same rules as any window. `kind`: see Baseline."""
        if not self.is_open:
            with self:
                return self.idle(duration_s, kind)
        self.start()
        start_s = self.clock.now_s()
        self.clock.sleep(duration_s)
        stop_s = self.clock.now_s()
        found = derive(self.stop(), start_s, stop_s, self.spec()).energies
        good = [e for e in found if e.primary and e.energy_j is not None and e.status not in NOT_A_NUMBER]
        span_s = stop_s - start_s
        u_power_w = {e.device_id: e.u_reading_j / span_s for e in good}
        return Baseline(kind, span_s, {e.device_id: e.energy_j / span_s for e in good}, u_power_w)

    def power_w(self) -> float | None:
        """Power right now [W], all devices of the primary boundary; None where it is not sensed. For warm-up, never for energy."""
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.basis} {[d.device_id for d in self.devices()]}>"


class AbsentMeter(Meter):
    """A place for energies that stay empty. Every window of it is `invalid`: unmeasured is never 0, and never another machine's. `mark`
    stands for the device that is out of sight; `reason` says why it is."""

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

    def device_specs(self) -> Iterable[DeviceSpec]:
        return [DeviceSpec(self.mark, self.boundary, self.basis)]

    def limitations(self) -> list[str]:
        return [f"energy is not measured: {self.reason}"]

    def metadata(self) -> dict:
        return {"meter": self.name, "why": self.reason}


class JointMeter(Meter):
    """A primary meter, whose boundary the window is about, with others beside it. Their energies are never added to each other. The others
    are read closest to the work: the primary's pads would otherwise be counted as the processor's."""

    def __init__(self, primary, *others):
        super().__init__(primary.clock)
        self.meters = (primary, *others)
        self.name, self.basis, self.boundary = "+".join(m.name for m in self.meters), primary.basis, primary.boundary

    def devices(self) -> list[Device]:
        return [d for m in self.meters for d in m.devices()]

    def power_w(self) -> float | None:
        return self.meters[0].power_w()

    def open(self) -> JointMeter:
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
        import pandas as pd

        streams = [meter.stop() for meter in reversed(self.meters)]
        joined = pd.concat([s.astype(dict.fromkeys(LABELS, "str")) for s in streams], ignore_index=True)
        return joined.astype(dict.fromkeys(LABELS, "category"))

    def device_specs(self) -> list[DeviceSpec]:
        return [d for m in self.meters for d in m.device_specs()]

    def limitations(self) -> list[str]:
        return [note for m in self.meters for note in m.limitations()]

    def metadata(self) -> dict:
        return {"meter": self.name, "parts": [m.metadata() for m in self.meters]}
