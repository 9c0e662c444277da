"""How a card's own sensor behaves, measured with a load that we switch: what no table tells, and what tables get wrong.

Four experiments: random switching shows when the sensor updates; steps from idle show how long it averages; a steady load shows how
often the counter ticks and how its gain compares with the integral's; a square wave of the sensor's own period, at eight phases, shows
whether the counter sees all of the time or is fed by the same sampling sensor (then both agree and both are wrong). A card's gain is found
against a meter at the wall (`calibrate`): the one term of the budget that no repetition removes.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from eai.errors import UserError
from eai.power import sensor as sensors
from eai.power.logs import LoggedGpu, read_log
from eai.power.nvml import Card, NvmlMeter
from eai.power.readings import integrate
from eai.power.sensor import Sensor

FAST_S = 0.005
PHASES, PERIODS = 8, 40
COUNTER_S = 1.037
"""Spacing of counter readings [s]: not faster than 1 Hz, which corrupts some counters, and no multiple of a likely tick."""

FULL_BELOW, FED_ABOVE = 0.15, 0.30

Busy = Callable[[float], None]
Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Probe:
    """The sensor as probed, the levels of power [W] it was probed between, and the spread that decided about the counter."""

    sensor: Sensor
    idle_w: float
    load_w: float
    counter_spread: float | None


def probe(card: Card, busy: Busy, steady_reads: int = 40, keep: bool = True, seed: int = 0) -> Probe:
    """What is found out about `card` with `busy(duration_s)`, which loads it for that long and returns when it is done.

    Takes about two minutes. With `keep` the result is remembered for this UUID, driver and VBIOS. Raises UserError where the card has no
    power reading or the load does not move it.
    """
    if card.power_field is None:
        raise UserError(f"GPU {card.uuid} reports no power", "a card with a power sensor", "its counter alone cannot be probed")
    rng = np.random.default_rng(seed)
    update_s = update_period(card, busy, rng)
    steps, idle_w, load_w = step_response(card, busy, rng)
    found = replace(card.sensor, update_s=update_s, averaging_s=averaging(steps, update_s), source="probed")
    spread = None
    if card.has_counter:
        found = replace(found, **counter(card, busy, steady_reads, found.update_s))
        spread = counter_spread(card, busy, found, load_w - idle_w)
        found = replace(found, full_rate=True if spread < FULL_BELOW else False if spread > FED_ABOVE else None)
    if keep:
        sensors.remember(card.uuid, card.driver, card.vbios, found)
    card.sensor = found
    return Probe(found, idle_w, load_w, spread)


def _watch(card: Card, period_s: float, work: Callable[[], None]) -> Series:
    """(t_s, power_w) read every `period_s` while `work` runs. Raises UserError if the readings fail."""
    sampler = card.clock.sampler(card.power, period_s)
    sampler.start()
    try:
        work()
    finally:
        rows = sampler.stop()
    readings = [(r[0], r[4]) for r in rows if r[3] == card.power_field]
    if len(readings) < 10:
        raise UserError(
            f"GPU {card.uuid} gave {len(readings)} power readings while it was probed", "a steady stream", "see nvidia-smi -q -d POWER"
        )
    t_s, power_w = np.array(readings).T
    return t_s, power_w


def update_period(card: Card, busy: Busy, rng: np.random.Generator, duration_s: float = 6.0) -> float:
    """Seconds between updates of the power field, from the times at which it changes under a load switched at random."""

    def work():
        end_s = card.clock.now_s() + duration_s
        while card.clock.now_s() < end_s:
            busy(rng.uniform(0.01, 0.06))
            card.clock.sleep(rng.uniform(0.01, 0.06))

    t_s, power_w = _watch(card, FAST_S, work)
    changes_s = t_s[1:][np.diff(power_w) != 0]
    if len(changes_s) < 10:
        raise UserError(
            f"the power of GPU {card.uuid} does not follow the load", "readings that change", "check that the load runs on this card"
        )
    gaps_s = np.diff(changes_s)
    rough_s = float(np.median(gaps_s))
    periods = np.round(gaps_s / rough_s)
    return float(gaps_s[periods >= 1].sum() / periods[periods >= 1].sum())


def step_response(
    card: Card, busy: Busy, rng: np.random.Generator, repeats: int = 8, hold_s: float = 2.5
) -> tuple[list[Series], float, float]:
    """(responses to a step from idle as (time since the step, share of the rise), idle W, load W)."""
    responses, lows, highs = [], [], []
    for _ in range(repeats):
        card.clock.sleep(hold_s + rng.uniform(0, 0.2))
        begin_s = card.clock.now_s()
        before = [r[4] for r in card.power() if r[3] == card.power_field]
        t_s, power_w = _watch(card, FAST_S, lambda: busy(hold_s))
        plateau_w = float(np.mean(power_w[t_s > begin_s + 0.8 * hold_s]))
        lows.append(before[0])
        highs.append(plateau_w)
        responses.append((t_s - begin_s, (power_w - before[0]) / (plateau_w - before[0])))
    idle_w, load_w = float(np.median(lows)), float(np.median(highs))
    if load_w < 1.2 * idle_w:
        raise UserError(
            f"the load moves GPU {card.uuid} from {idle_w:.0f} to {load_w:.0f} W only",
            "20 % more than idle",
            "probe it with a heavier load",
        )
    return responses, idle_w, load_w


def averaging(responses: list[Series], update_s: float) -> float:
    """Seconds that a reading averages: a boxcar of length a, held for one update T, lags a step by (a + T) / 2 on average.

    The lag is the area between the step and the response, averaged over steps at random phases.
    """
    lags_s = [float(np.trapezoid(1 - share, t_s) + (1 - share[0]) * t_s[0]) for t_s, share in responses]
    return max(2 * float(np.mean(lags_s)) - update_s, 0.1 * update_s)


def counter(card: Card, busy: Busy, reads: int, update_s: float) -> dict:
    """`tick_s`, `gain_ratio`, `u_gain_ratio` from slow counter readings beside the power trace under a steady load.

    Readings of a counter that ticks every T scatter below the line of a constant load by a uniform [0, T] x power: their standard
    deviation is T P / sqrt(12).
    """
    readings: list[tuple[float, float]] = []

    def read_counter():
        readings.extend((r[0], r[4]) for r in card.edge() if r[3] == "energy_counter_j")
        return []

    slow = card.clock.sampler(read_counter, COUNTER_S)

    def work():
        busy(2.0)
        slow.start()
        busy(reads * COUNTER_S)
        slow.stop()

    t_s, power_w = _watch(card, update_s / 2, work)
    times, joules = np.array(readings).T
    slope_w, intercept = np.polyfit(times - times[0], joules - joules[0], 1)
    scatter_j = float(np.std(joules - joules[0] - intercept - slope_w * (times - times[0]), ddof=2))
    span_s = float(times[-1] - times[0])
    mean_w = integrate(t_s, power_w, float(times[0]), float(times[-1])) / span_s
    u_slope_w = scatter_j / np.sqrt(np.sum((times - times.mean()) ** 2))
    u_mean_w = float(np.std(power_w[t_s > times[0]])) / np.sqrt(span_s / update_s)
    return {
        "tick_s": float(np.sqrt(12) * scatter_j / slope_w),
        "gain_ratio": float(slope_w / mean_w),
        "u_gain_ratio": float(np.hypot(u_slope_w, u_mean_w) / mean_w),
    }


def counter_spread(card: Card, busy: Busy, found: Sensor, rise_w: float) -> float:
    """How much the counter's mean power depends on the phase of a square wave of the sensor's own period, as a share of the rise.

    0 for a counter that sees everything (each wave costs the same), up to 1 for one fed by a sensor that looks at a quarter of each period.
    """
    clock, period_s = card.clock, found.update_s
    base_s, means_w = clock.now_s(), []
    for phase in range(PHASES):
        clock.sleep(max(found.tick_s, found.update_s) + found.averaging_s + 1.0)
        clock.sleep((base_s + phase * period_s / PHASES - clock.now_s()) % period_s)
        begin_s, first = clock.now_s(), _counter_j(card)
        for k in range(PERIODS):
            busy(period_s / 2)
            clock.sleep(begin_s + (k + 1) * period_s - clock.now_s())
        clock.sleep(1.0)
        means_w.append((_counter_j(card) - first) / (PERIODS * period_s))
    return float(np.ptp(means_w) / rise_w)


def _counter_j(card: Card) -> float:
    readings = [r[4] for r in card.edge() if r[3] == "energy_counter_j"]
    if not readings:
        raise UserError(f"the energy counter of GPU {card.uuid} stopped answering", "a reading", "see nvidia-smi -q")
    return readings[0]


def probe_cards(meter: NvmlMeter, load_of: Callable[[int], Busy] | None = None) -> list[dict]:
    """One row a card of a meter, probed with `load_of(index in CUDA's order)`; the default is torch's matrix products."""
    load_of = load_of or torch_load
    rows = []
    for index, card in enumerate(meter.cards):
        found = probe(card, load_of(index))
        levels = {"idle_w": found.idle_w, "load_w": found.load_w, "counter_spread": found.counter_spread}
        rows.append({"device_id": card.uuid, "name": card.name, **levels, **found.sensor.to_dict()})
    return rows


def torch_load(index: int = 0, size: int = 4096) -> Busy:
    """`busy(duration_s)` for a real card: matrix products of half precision, waited for one by one so that it ends on time."""
    import time

    import torch

    a = torch.randn(size, size, device=f"cuda:{index}", dtype=torch.float16)

    def busy(duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            torch.mm(a, a)
            torch.cuda.synchronize(index)

    return busy


BIN_S = 10.0
LAG_LIMIT_S = 5.0
LEAST_BINS = 8
LEAST_SWING = 0.3
LEVEL_SHARE = 0.1


@dataclass(frozen=True)
class Calibration:
    """`scale` turns the card's readings into true watts, with relative standard uncertainty `gain_rel` (k = 1).

    `host_w` is what the wall shows beside the card; the card's offset is part of it and cannot be told apart. `lag_s` is how much later
    the wall meter's clock or averaging shows the load.
    """

    scale: float
    gain_rel: float
    host_w: float
    lag_s: float
    bins: int
    r_squared: float

    def to_dict(self) -> dict:
        return asdict(self)


def calibrate(wall: LoggedGpu, card: LoggedGpu, efficiency: float = 1.0, u_efficiency: float = 0.0) -> Calibration:
    """The gain of a card from a wall meter's log and the card's own, recorded together over loads of different power.

    wall = host + card / efficiency: the slope of 10 s means is scale / efficiency. `efficiency` is that of the power supply (1 for a
    meter in the card's own supply lines), with its standard uncertainty: a gain is not known better than the supply. The host must be
    doing the same throughout. Raises UserError for logs that do not overlap, are too short, or in which the card's power hardly changes.
    """
    if not 0.5 <= efficiency <= 1 or not 0 <= u_efficiency < 0.2:
        raise UserError(
            f"efficiency {efficiency:g} +- {u_efficiency:g}", "0.5 to 1, known to better than 0.2", "see the power supply's data sheet"
        )
    lag_s = _lag_s(wall, card)
    x, y = _bins(wall, card, lag_s)
    if np.ptp(x) < LEAST_SWING * x.mean():
        raise UserError(
            f"the card's power changes by {np.ptp(x):.0f} W around {x.mean():.0f} W only", "idle and load", "record both, each for a minute"
        )
    slope, host_w = np.polyfit(x, y, 1)
    residual = y - host_w - slope * x
    u_slope = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(np.sum((x - x.mean()) ** 2)))
    r_squared = 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2))
    if not r_squared > 0.9:
        raise UserError(
            f"the wall follows the card badly (r2 {r_squared:.2f})", "one load that moves both", "stop what else runs on the machine"
        )
    gain_rel = math.hypot(u_slope / slope, u_efficiency / efficiency)
    return Calibration(float(slope * efficiency), gain_rel, float(host_w), lag_s, len(x), r_squared)


def _overlap(wall: LoggedGpu, card: LoggedGpu, lag_s: float) -> tuple[float, float]:
    start_s = max(float(card.t_s[0]), float(wall.t_s[0]) - lag_s)
    stop_s = min(float(card.t_s[-1]), float(wall.t_s[-1]) - lag_s)
    if stop_s - start_s < LEAST_BINS * BIN_S:
        raise UserError(
            f"the two logs overlap by {max(stop_s - start_s, 0):.0f} s",
            f"{LEAST_BINS * BIN_S:.0f} s at least",
            "record both at once; check their clocks",
        )
    return start_s, stop_s


def _means(log: LoggedGpu, edges_s: np.ndarray) -> np.ndarray:
    return np.array([integrate(log.t_s, log.power_w, a, b) / (b - a) for a, b in itertools.pairwise(edges_s)])


def _bins(wall: LoggedGpu, card: LoggedGpu, lag_s: float) -> tuple[np.ndarray, np.ndarray]:
    """(card W, wall W) in 10 s means, the wall's shifted by its lag, of the bins in which the card's power is level.

    In a bin with a jump the two disagree by what the lag is off, which would pull the slope down.
    """
    start_s, stop_s = _overlap(wall, card, lag_s)
    edges_s = start_s + BIN_S * np.arange(int((stop_s - start_s) / BIN_S) + 1)
    margins_s = np.column_stack([edges_s[:-1] - 1.0, edges_s[:-1] + BIN_S / 3, edges_s[1:] - BIN_S / 3, edges_s[1:] + 1.0])
    thirds = np.array([_means(card, np.clip(m, card.t_s[0], card.t_s[-1] + 1e-9)) for m in margins_s])
    level = np.ptp(thirds, axis=1) <= LEVEL_SHARE * max(np.ptp(thirds), 1e-9)
    if level.sum() < LEAST_BINS:
        raise UserError(
            f"{level.sum()} spans of {BIN_S:.0f} s with level power", f"at least {LEAST_BINS}", "hold each load for half a minute"
        )
    return _means(card, edges_s)[level], _means(wall, edges_s + lag_s)[level]


def _lag_s(wall: LoggedGpu, card: LoggedGpu) -> float:
    """The shift within +-5 s at which the two series go together best, to a tenth of a second."""
    start_s, stop_s = _overlap(wall, card, 0.0)
    grid_s = np.arange(start_s + LAG_LIMIT_S, stop_s - LAG_LIMIT_S, 0.1)
    own = np.interp(grid_s, card.t_s, card.power_w)
    if own.std() == 0:
        return 0.0
    lags_s = np.round(np.arange(-LAG_LIMIT_S, LAG_LIMIT_S + 0.05, 0.1), 1)
    fits = [np.corrcoef(own, np.interp(grid_s + lag, wall.t_s, wall.power_w))[0, 1] for lag in lags_s]
    return float(lags_s[int(np.nanargmax(fits))])


def calibrate_logs(wall_path: str, card_path: str, efficiency: float = 1.0, u_efficiency: float = 0.0) -> Calibration:
    """The calibration from two recorded logs. Raises UserError for a log that holds several cards."""
    logs = [read_log(path) for path in (wall_path, card_path)]
    for log, path in zip(logs, (wall_path, card_path), strict=True):
        if len(log.gpus) != 1:
            raise UserError(f"{path} holds {len(log.gpus)} cards", "one series", "record the one card that is calibrated")
    return calibrate(logs[0].gpus[0], logs[1].gpus[0], efficiency, u_efficiency)


def apply_calibration(card: Card, calibration: Calibration) -> bool:
    """Remember a calibration for this card under its driver and VBIOS; False where the cache cannot be written."""
    card.sensor = replace(card.sensor, scale=calibration.scale, gain_rel=calibration.gain_rel)
    return sensors.remember(card.uuid, card.driver, card.vbios, card.sensor)


def remember_calibration(uuid: str, calibration: Calibration, meter: NvmlMeter | None = None) -> bool:
    """Remember a calibration for the card of this machine with that UUID. Raises UserError if there is no such card."""
    with meter or NvmlMeter() as opened:
        cards = {card.uuid: card for card in opened.cards}
        if uuid not in cards:
            raise UserError(f"no card {uuid} here", f"one of {', '.join(cards) or 'none'}", "see `nvidia-smi -L`")
        return apply_calibration(cards[uuid], calibration)
