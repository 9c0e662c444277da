"""Time and the pace of sampling: the host's clock with a thread here, a virtual clock in the simulator in their place."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from eai.power.stream import Row, row

Read = Callable[[], list[Row]]


class Clock(Protocol):
    """Monotonic time, waiting, and something that calls a reader at a steady pace."""

    def now_s(self) -> float: ...
    def sleep(self, duration_s: float) -> None: ...
    def sampler(self, read: Read, period_s: float) -> "Sampler": ...


class MonotonicClock:
    """The host's monotonic clock: a correction of the wall clock cannot move it."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        if duration_s > 0:
            time.sleep(duration_s)

    def sampler(self, read: Read, period_s: float) -> "Sampler":
        return Sampler(read, period_s, self)


class Sampler:
    """Calls `read() -> rows` every `period_s` on a thread of its own and collects the rows.

    The schedule is fixed in advance (start + k * period), so a late read does not delay the following ones; beats that
    were missed altogether are skipped, and the gap shows in the stream. An exception in `read` ends the sampling and
    leaves a `sampler_error` row: the window then knows that its trace is cut off.
    """

    def __init__(self, read: Read, period_s: float, clock: Clock):
        self.read, self.period_s, self.clock = read, period_s, clock
        self.failure: Exception | None = None
        self._rows: list[Row] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

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

    def _run(self) -> None:
        due_s = self.clock.now_s()
        while not self._halt.is_set() and beat(self.read, self._rows, self.clock, self):
            now_s = self.clock.now_s()
            due_s = next_beat(due_s, self.period_s, now_s)
            self._halt.wait(due_s - now_s)


def next_beat(due_s: float, period_s: float, now_s: float) -> float:
    """The first beat of the fixed schedule after now: beats that are over are not made up for."""
    missed = max((now_s - due_s) // period_s, 0.0)
    return due_s + period_s * (missed + 1)


def beat(read: Read, rows: list[Row], clock: Clock, sampler) -> bool:
    """One read into `rows`; False, with a `sampler_error` row and `sampler.failure` set, if the reader broke."""
    try:
        rows.extend(read())
    except Exception as error:  # whatever broke the reader must end up in the window's status, not on a thread's stderr
        sampler.failure = error
        rows.append(row(clock.now_s(), "", "", "sampler_error", 1.0))
        return False
    return True
