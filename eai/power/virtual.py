"""Time that moves only when someone waits: the simulator's clock, and a sampler without a thread."""

import time

from eai.power.clock import Read, beat, next_beat
from eai.power.stream import Row


class VirtualClock:
    """A clock that moves only when someone waits; samplers beat while it moves, in the order of time.

    `pace`: host seconds that a second of it takes; 0 is as fast as it can.
    """

    def __init__(self, now_s: float = 1000.0, pace: float = 0.0):
        self._now_s, self.pace = now_s, pace
        self._samplers: list[VirtualSampler] = []

    def now_s(self) -> float:
        return self._now_s

    def sampler(self, read: Read, period_s: float) -> "VirtualSampler":
        return VirtualSampler(read, period_s, self)

    def sleep(self, duration_s: float) -> None:
        """Move on, letting every sampler that is due take its reading on the way."""
        end_s = self._now_s + duration_s
        while due := [s for s in self._samplers if s.due_s <= end_s]:
            sampler = min(due, key=lambda s: s.due_s)
            self._now_s = max(self._now_s, sampler.due_s)
            sampler.take()
        self._now_s = end_s
        if self.pace and duration_s > 0:
            time.sleep(self.pace * duration_s)

    def restart(self, now_s: float) -> None:
        """Begin again at `now_s`, without samplers: what follows does not depend on what was before."""
        self._now_s, self._samplers = now_s, []

    def jump(self, by_s: float) -> None:
        """Set the clock by a step, back or forth, as no monotonic clock should."""
        self._now_s += by_s


class VirtualSampler:
    """The sampler of a virtual clock: no thread, the same schedule and the same treatment of a reader that breaks."""

    def __init__(self, read: Read, period_s: float, clock: VirtualClock):
        self.read, self.period_s, self.clock = read, period_s, clock
        self.failure: Exception | None = None
        self.due_s = clock.now_s()
        self._rows: list[Row] = []

    def start(self) -> None:
        self.due_s = self.clock.now_s()
        self.clock._samplers.append(self)

    def take(self) -> None:
        if beat(self.read, self._rows, self.clock, self):
            self.due_s = next_beat(self.due_s, self.period_s, self.clock.now_s())
        else:
            self.clock._samplers.remove(self)

    def stop(self) -> list[Row]:
        if self in self.clock._samplers:
            self.clock._samplers.remove(self)
        rows, self._rows = self._rows, []
        return rows
