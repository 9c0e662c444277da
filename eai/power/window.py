"""One measured interval: `with window(meter) as w:` around the work, the numbers on `w` afterwards.

meter.start            work                     meter.stop
| pad, edge reading | ######################## | pad, edge reading |
                    start_s              stop_s

Which meter is the best here, what each can do on this machine (`survey`), and when a workload is steady enough to begin stand here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from eai.errors import UserError
from eai.power import cpu
from eai.power.cpu import EstimateMeter, RaplMeter
from eai.power.derive import Derived, derive
from eai.power.meter import Baseline, JointMeter, Meter
from eai.power.nvml import NvmlMeter
from eai.power.readings import NOT_A_NUMBER, DeviceSpec, Energy, Spec, interval, total
from eai.power.simulated import SimulatedMeter, is_simulated
from eai.quantity import Quantity

if TYPE_CHECKING:
    import pandas as pd


def _rapl(gpu: str, shared: bool = False, processes: frozenset[int] = frozenset()) -> Meter:
    if error := cpu.rapl_refusal():
        raise error
    return RaplMeter()


MAKERS = {
    "nvml": lambda gpu, shared=False, processes=frozenset(): NvmlMeter(gpu=gpu, shared=shared, ours=processes),
    "rapl": _rapl,
    "estimate": lambda gpu, shared=False, processes=frozenset(): EstimateMeter(processes=processes),
}
"""What makes each meter from a gpu, whether others may use the card, and the processes that are billed."""


def best_meter(gpu: str = "auto", name: str = "auto", shared: bool = False, processes: frozenset[int] = frozenset()) -> tuple[Meter, str]:
    """The best meter for a card's UUID or slug (`cpu`: the processor; `auto`: a GPU if there is one) and one sentence why. `name` forces
    one of nvml, rapl, estimate. A GPU is never answered with a CPU meter, nor `cpu` with NVML; beside NVML the processor's counters are
    read where they can be. A slug means all visible cards; `shared` accepts other processes on them. `processes`: those of a server, billed
    in place of this one's. Raises UserError for an unknown name or where the wanted meter cannot be opened."""
    if name not in ("auto", *MAKERS):
        raise UserError(f"meter {name!r}", f"one of auto, {', '.join(MAKERS)}", "leave it at auto")
    if is_simulated(gpu):
        if name not in ("auto", "nvml"):
            raise UserError(f"meter {name} for {gpu}", "meter auto", "a simulated card is seen by its own meter alone")
        return SimulatedMeter(gpu), "nothing is measured: the card is simulated."
    billed = {"processes": processes} if processes else {}
    if name != "auto":
        return MAKERS[name](gpu, shared, **billed), f"{name} was asked for."
    order = ["rapl", "estimate"] if gpu == "cpu" else ["nvml"] if gpu != "auto" else list(MAKERS)
    refused = []
    for candidate in order:
        try:
            meter = MAKERS[candidate](gpu, shared, **billed)
        except UserError as error:
            if len(order) == 1:
                raise
            refused.append(f"{candidate}: {error}")
            continue
        if candidate == "nvml" and cpu.rapl_refusal() is None:
            return JointMeter(meter, RaplMeter()), "nvml is the best here, with rapl beside it for the processor."
        return meter, f"{candidate} is the best here" + (f"; refused {' '.join(refused)}" if refused else ".")
    raise UserError("; ".join(refused), "a meter")


WINDOW_S = 10.0
TYPICAL_W = {"gpu": 250.0, "cpu_package": 60.0, "dram": 5.0}
"""Loads for which the interval of a 10 s window is stated: a GPU under decode, one socket with a few busy threads, its memory."""


def survey(gpu: str = "auto") -> list[dict]:
    """One row a meter: name, basis, usable, why, do, devices, interval_10s, within_card_10s, limitations. The two intervals are relative,
    `{"low": -0.11, "high": 0.12}`: of a typical 10 s window against the true energy, and for comparisons on one card; None where the meter
    cannot be used. A device's `sensor` says where the knowledge of it is from: published, probed or unknown. `do`: the step that would help
    most."""
    rows = []
    for name, make in MAKERS.items():
        row = {"name": name, "basis": "estimated" if name == "estimate" else "measured", "usable": False, "why": "", "do": ""}
        row |= {"devices": [], "limitations": [], "interval_10s": None, "within_card_10s": None}
        rows.append(row)
        try:
            opened = make(gpu).open()
        except UserError as error:
            row["why"], _, rest = str(error).rstrip(".").partition("; ")
            row["do"] = rest.rpartition("; ")[2]
            continue
        with contextlib.closing(opened) as meter:
            sensors = {c["uuid"]: c["sensor"]["source"] for c in meter.metadata().get("cards", [])}
            primary = [d for d in meter.spec().devices if d.boundary == meter.boundary]
            row |= {"usable": True, "why": ", ".join(d.name for d in meter.devices()), "limitations": meter.limitations()}
            row["devices"] = [vars(d) | {"sensor": sensors.get(d.device_id)} for d in meter.devices()]
            both = zip(*map(expected, primary), strict=True)
            row["interval_10s"], row["within_card_10s"] = (max(each, key=lambda i: i["high"]) for each in both)
        cards = [d for d in primary if d.boundary == "gpu"]
        if any(d.full_rate is None for d in cards):
            row["do"] = "probe the sensor once with `eai doctor --probe`: whether its counter sees all of the time is not known"
        elif any(d.watts_per_thread for d in primary):
            row["do"] = "run where RAPL or NVML can be read: this is CPU time in joules"
        elif any(d.gain_rel >= 0.05 for d in cards):
            row["do"] = "calibrate against a wall meter to shrink the 5 % gain term"
    return rows


def expected(device: DeviceSpec, duration_s: float = WINDOW_S) -> tuple[dict, dict]:
    """(absolute, within-card) relative 95 % intervals that a window of a typical load will get from this device, before it is measured."""
    typical_w = TYPICAL_W[device.boundary]
    energy_j, edge_w = typical_w * duration_s, typical_w / 3 if device.boundary == "gpu" else typical_w
    tick_s = device.tick_s if device.counter_field else device.update_s if device.power_field else 0.0
    within_j = math.hypot(edge_w * tick_s / math.sqrt(6), device.offset_w * duration_s)
    both = [interval(energy_j, u_j) / energy_j for u_j in (math.hypot(within_j, device.gain_rel * energy_j), within_j)]
    absolute, within = ({"low": q.low - 1, "high": q.high - 1} for q in both)
    return absolute, within


OWN_COLUMNS = ("started_at", "start_s", "stop_s", "duration_s", "meter", "basis", "status", "reason")
CONTEXT_COLUMNS = ("power_mean_w", "temperature_mean_c", "sm_clock_mean_mhz", "power_limit_w", "throttle_fraction")


@dataclass
class Window:
    """What was measured. Filled when the `with` block ends; before, `status` is `running`. Times are monotonic seconds (`started_at` is UTC
    wall time); `context` has None for what was not sensed. `stream` and `spec` are all that `derive` needs to find the same numbers again.
    `tokens` may be set in the block."""

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
    tokens: int | None = None

    @property
    def duration_s(self) -> float:
        """Seconds between the edges of the work."""
        return self.stop_s - self.start_s

    @property
    def gpu_energy_j(self) -> Quantity | None:
        """Gross energy of all GPUs with its absolute 95 % interval; None if it was not measured, never 0."""
        return self.total("gpu")

    @property
    def cpu_energy_j(self) -> Quantity | None:
        """Gross energy of the CPU packages with its absolute 95 % interval; None if it was not measured."""
        return self.total("cpu_package")

    def total(self, boundary: str) -> Quantity | None:
        """Gross energy of a boundary (gpu, cpu_package, dram), None if it was not measured."""
        return None if self.status in NOT_A_NUMBER else total(self.energies, boundary)

    def meter_columns(self) -> dict:
        """The meter's columns of the windows table; `meter_spec` is the JSON that replay reads."""
        row = {key: getattr(self, key) for key in OWN_COLUMNS} | {key: self.context.get(key) for key in CONTEXT_COLUMNS}
        return row | {"flags": list(self.flags), "meter_spec": self.spec.to_json() if self.spec else ""}

    def to_row(self) -> dict:
        """One row for a DataFrame: name, tokens, duration, status, and each energy [J] with the ends of its 95 % interval and per token."""
        row = {name: getattr(self, name) for name in ("name", "tokens", "duration_s", "status", "reason")}
        row |= {"flags": ",".join(self.flags), "meter": self.meter, "basis": self.basis, "power_mean_w": self.context.get("power_mean_w")}
        for name, boundary in (("gpu", "gpu"), ("cpu", "cpu_package"), ("dram", "dram")):
            energy = self.total(boundary)
            each = None if energy is None or not self.tokens else energy / self.tokens
            for suffix, q in (("energy", energy), ("energy_per_token", each)):
                for end, which in (("", "value"), ("_low", "low"), ("_high", "high")):
                    row[f"{name}_{suffix}{end}_j"] = getattr(q, which, None)
        return row

    def take(self, derived: Derived) -> None:
        """Take over what `derive` found."""
        self.energies, self.context = list(derived.energies), derived.context
        self.status, self.reason = derived.status, derived.reason
        self.flags = list(dict.fromkeys([*self.flags, *derived.flags]))


class window(contextlib.AbstractContextManager):
    """A `Window` around the work in a `with` or `async with` block, or around every call of a function that it decorates (`.windows`).
    `meter` defaults to the best one here, a string is the window's name. `step_time_s` is the period of the work (one decode step), for the
    alias check; `pads_loaded` says that the work goes on before and after the block, as a server's does; `tokens` is the number of output
    tokens. A meter that was not open is opened and closed; GPU work still queued by torch is waited for at both edges. An exception in the
    block propagates after the meter has stopped: the windows before it are untouched and the meter can be used again."""

    def __init__(
        self,
        meter: Meter | str | None = None,
        baseline: Baseline | None = None,
        step_time_s: float | None = None,
        name: str = "",
        pads_loaded: bool = False,
        tokens: int | None = None,
    ):
        self._meter, self._name = (None, meter) if isinstance(meter, str) else (meter, name)
        self._baseline, self._step_time_s, self._pads_loaded, self._tokens = baseline, step_time_s, pads_loaded, tokens

    def __enter__(self) -> Window:
        meter = self._used = self._meter if self._meter is not None else best_meter()[0]
        self._opened_here = not meter.is_open
        if self._opened_here:
            meter.open()
        w = self._window = Window(self._name, meter=meter.name, basis=meter.basis, boundary=meter.boundary, tokens=self._tokens)
        try:
            _drain()
            w.spec = meter.spec(self._baseline, self._step_time_s)
            if self._pads_loaded:
                w.spec = replace(w.spec, devices=tuple(replace(d, pads_loaded=True) for d in w.spec.devices))
            meter.start()
        except BaseException:
            self._close()
            raise
        w.started_at, w.start_s = datetime.now(UTC).isoformat(timespec="milliseconds"), meter.clock.now_s()
        return w

    def __exit__(self, kind, error, trace) -> None:
        w, meter = self._window, self._used
        try:
            if kind is None:
                try:
                    _drain()
                except BaseException as queued:
                    kind, error = type(queued), queued
            w.stop_s = meter.clock.now_s()
            w.stream = meter.stop()
            if kind is None:
                w.take(derive(w.stream, w.start_s, w.stop_s, w.spec))
            else:
                w.status, w.reason = "failed", kind.__name__
                if trace is None:
                    raise error
        finally:
            self._close()

    def _close(self) -> None:
        if self._opened_here:
            self._used.close()

    async def __aenter__(self) -> Window:
        return await asyncio.to_thread(self.__enter__)  # the event loop runs on while the meter waits for its first reading

    async def __aexit__(self, *failed) -> None:
        await asyncio.to_thread(self.__exit__, *failed)

    def __call__(self, function: Callable) -> Callable:
        """The function with a window around each call."""
        windows: list[Window] = []
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            do = "put `with eai.window(...)` around the loop that reads it"
            raise UserError(f"{function.__name__} yields: its work is not done when it returns", "a function that returns", do)
        name = self._name or function.__name__
        again = functools.partial(window, self._meter, self._baseline, self._step_time_s, name, self._pads_loaded, self._tokens)

        @functools.wraps(function)
        def measured(*args, **kwargs):
            with again() as w:
                windows.append(w)
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def measured_async(*args, **kwargs):
            async with again() as w:
                windows.append(w)
                return await function(*args, **kwargs)

        wrapper = measured_async if inspect.iscoroutinefunction(function) else measured
        wrapper.windows = windows
        return wrapper


def _drain() -> None:
    """Wait for queued GPU work: a kernel that runs on past the block would be counted for whoever comes next."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


GROUPS, GROUP_STEPS, CV_LIMIT, SLOPE_LIMIT_PER_S = 5, 16, 0.02, 0.002


@dataclass(frozen=True)
class Steadiness:
    """Whether the last groups are steady, and their coefficient of variation (None: too few)."""

    steady: bool
    cv: float | None


def steadiness(latencies_s: Sequence[float], group_steps: int = GROUP_STEPS) -> Steadiness:
    """Whether the means of the last five groups of `group_steps` latencies vary by at most 2 % (sample sd / mean). Single steps jitter for
    harmless reasons; a group's mean moves only while clocks, caches or compilers still do."""
    needed = GROUPS * group_steps
    if len(latencies_s) < needed:
        return Steadiness(False, None)
    means = np.asarray(latencies_s[-needed:], dtype=float).reshape(GROUPS, group_steps).mean(axis=1)
    cv = float(means.std(ddof=1) / means.mean())
    return Steadiness(cv <= CV_LIMIT, cv)


def power_settled(t_s: Sequence[float], power_w: Sequence[float]) -> bool:
    """Whether power has no slope: less than 0.2 % of its mean a second, by least squares. Needs three readings."""
    t_s, power_w = np.asarray(t_s, dtype=float), np.asarray(power_w, dtype=float)
    if len(t_s) < 3 or np.ptp(t_s) == 0:
        return False
    slope_w_per_s = np.polyfit(t_s - t_s.mean(), power_w, 1)[0]
    return bool(abs(slope_w_per_s) <= SLOPE_LIMIT_PER_S * abs(power_w.mean()))
