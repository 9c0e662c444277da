"""How a card's own sensor behaves, measured with a load that we switch: what no table tells, and what tables get wrong.

Random switching shows when the sensor updates and how long it averages; a steady load how often the counter ticks and how its gain compares
with the integral's; a square wave of the sensor's own period, at eight phases, whether the counter sees all of the time or is fed by the
same sampling sensor (then both agree and both are wrong). A card's gain is found against a meter at the wall (`calibrate`).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from eai.errors import UserError
from eai.power.logs import LoggedGpu, read_log
from eai.power.nvml import Card, NvmlMeter, Sensor, remember
from eai.power.readings import integrate

FAST_S = 0.005
FIT_S = 0.001
RISES_S = (0.001, 0.008, 0.015, 0.025, 0.040)
CREEP_S = 0.4
DELAYS_S = np.arange(0.0, 0.101, 0.01)
"""What the fit of the averaging tries: time constants of a card's rise, one of its creep, and delays of its sensor [s]."""
PHASES, PERIODS, REPEATS, HOLD_S, SWITCHED_S = 8, 40, 4, 2.5, 12.0
COUNTER_S = 1.037
"""Spacing of counter readings [s]: not faster than 1 Hz, which corrupts some counters, and no multiple of a likely tick."""
FULL_BELOW, FED_ABOVE = 0.15, 0.30

Busy = Callable[[float], None]
Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Probe:
    """The sensor as probed, the levels of power [W] it was probed between, and the spreads over the phases of a square wave, as shares of
    the rise: of the counter (None without one), which decides whether it sees everything, and of the readings, which shows whether they
    have holes."""

    sensor: Sensor
    idle_w: float
    load_w: float
    counter_spread: float | None
    power_spread: float


def probe(card: Card, busy: Busy, steady_reads: int = 40, keep: bool = True, seed: int = 0) -> Probe:
    """What is found out about `card` with `busy(duration_s)`, which loads it for that long and returns when it is done. Takes about two
    minutes. With `keep` the result is remembered for this UUID, driver and VBIOS. A hole that is published for the sensor stays unless the
    square wave shows that there is none: a wrong fit must not close it. Raises UserError where the card has no power reading or the load
    does not move it."""
    if card.power_field is None:
        raise UserError(f"GPU {card.uuid} reports no power", "a card with a power sensor", "its counter alone cannot be probed")
    t_s, power_w, loads = switched(card, busy, np.random.default_rng(seed))
    update_s = update_period(card, t_s, power_w)
    idle_w, load_w = levels(card, busy)
    found = replace(card.sensor, update_s=update_s, averaging_s=averaging(t_s, power_w, loads, update_s), source="probed")
    if card.has_counter:
        found = replace(found, **counter(card, busy, steady_reads, found.update_s))
    spread, power_spread = spreads(card, busy, found, load_w - idle_w)
    if spread is not None:
        found = replace(found, full_rate=True if spread < FULL_BELOW else False if spread > FED_ABOVE else None)
    known = card.sensor
    if known.source == "published" and known.averaging_s < 0.95 * known.update_s <= found.averaging_s and power_spread > FULL_BELOW:
        found = replace(found, averaging_s=known.averaging_s * found.update_s / known.update_s)
    if keep:
        remember(card.uuid, card.driver, card.vbios, found)
    card.sensor = found
    return Probe(found, idle_w, load_w, spread, power_spread)


def _counter_now(card: Card) -> list[tuple[float, float]]:
    """[(time, J)] of a reading of the counter; empty if it failed."""
    return [(r[0], r[4]) for r in card.edge() if r[3] == "energy_counter_j"]


def _answered(card: Card, what: str, readings: list, least: int = 1) -> list:
    """The readings. Raises UserError for too few of them."""
    if len(readings) < least:
        raise UserError(f"the {what} of GPU {card.uuid} stopped answering", "a reading", "see nvidia-smi -q")
    return readings


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
        found = f"GPU {card.uuid} gave {len(readings)} power readings while it was probed"
        raise UserError(found, "a steady stream", "see nvidia-smi -q -d POWER")
    t_s, power_w = np.array(readings).T
    return t_s, power_w


def switched(card: Card, busy: Busy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(t_s, power_w, begin and end of each load [s]) under a load that is switched at random every 10 to 60 ms."""
    loads: list[tuple[float, float]] = []

    def work():
        end_s = card.clock.now_s() + SWITCHED_S
        while (begin_s := card.clock.now_s()) < end_s:
            busy(rng.uniform(0.01, 0.06))
            loads.append((begin_s, card.clock.now_s()))
            card.clock.sleep(rng.uniform(0.01, 0.06))

    return *_watch(card, FAST_S, work), np.array(loads)


def update_period(card: Card, t_s: np.ndarray, power_w: np.ndarray) -> float:
    """Seconds between updates of the power field, from the times at which it changes under a load switched at random."""
    changes_s = t_s[1:][np.diff(power_w) != 0]
    if len(changes_s) < 10:
        found = f"the power of GPU {card.uuid} does not follow the load"
        raise UserError(found, "readings that change", "check that the load runs on this card")
    gaps_s = np.diff(changes_s)
    periods = np.round(gaps_s / float(np.median(gaps_s)))
    return float(gaps_s[periods >= 1].sum() / periods[periods >= 1].sum())


def levels(card: Card, busy: Busy) -> tuple[float, float]:
    """(idle W, load W) of the card, from loads held long enough for a lagging sensor. Raises UserError for a load that hardly moves it."""
    lows, highs = [], []
    for _ in range(REPEATS):
        card.clock.sleep(HOLD_S)
        begin_s = card.clock.now_s()
        lows.append(_answered(card, "power", [r[4] for r in card.power() if r[3] == card.power_field])[0])
        t_s, power_w = _watch(card, FAST_S, lambda: busy(HOLD_S))
        highs.append(float(np.mean(power_w[t_s > begin_s + 0.8 * HOLD_S])))
    idle_w, load_w = float(np.median(lows)), float(np.median(highs))
    if load_w < 1.2 * idle_w:
        found = f"the load moves GPU {card.uuid} from {idle_w:.0f} to {load_w:.0f} W only"
        raise UserError(found, "20 % more than idle", "probe it with a heavier load")
    return idle_w, load_w


def averaging(t_s: np.ndarray, power_w: np.ndarray, loads: np.ndarray, update_s: float) -> float:
    """Seconds that a reading averages: the boxcar that makes the readings of a switched load out of the load itself, by least squares. A
    card does not step: it rises within some 50 ms and creeps for a second more. So the load passes a fast and a slow first-order filter
    before the boxcar, the fast time constant, a delay and the two levels being fitted too. The lag of a step, which would be simpler, takes
    the creep for averaging: 25 ms become 100."""
    from scipy.signal import lfilter

    changed = np.flatnonzero(np.diff(power_w)) + 1
    seen_s, seen_w = (t_s[changed] + t_s[changed - 1]) / 2, power_w[changed]
    begin_s = float(min(t_s[0], loads[0, 0])) - 2.0
    grid_s = np.arange(begin_s, float(t_s[-1]) + FIT_S, FIT_S)
    load = np.zeros(len(grid_s))
    for first, last in loads:
        load[int((first - begin_s) / FIT_S) : int((last - begin_s) / FIT_S)] = 1.0
    keep = seen_s > begin_s + 2.0
    seen_s, seen_w = seen_s[keep], seen_w[keep]

    def filtered(constant_s: float) -> np.ndarray:
        weight = 1 - np.exp(-FIT_S / constant_s)
        return np.concatenate([[0.0], np.cumsum(lfilter([weight], [1, weight - 1], load))]) * FIT_S

    fast, slow = [filtered(c) for c in RISES_S], filtered(CREEP_S)
    edges_s = np.append(grid_s, grid_s[-1] + FIT_S)

    def residual(tried: tuple[float, float, int]) -> float:
        window_s, delay_s, rise = tried
        ends = seen_s - delay_s
        means = [(np.interp(ends, edges_s, c) - np.interp(ends - window_s, edges_s, c)) / window_s for c in (fast[rise], slow)]
        design = np.column_stack([np.ones(len(ends)), *means])
        fit = np.linalg.lstsq(design, seen_w, rcond=None)[0]
        return float(np.sum((seen_w - design @ fit) ** 2))

    best = min(itertools.product(np.geomspace(0.005, 1.6, 40), DELAYS_S, range(len(fast))), key=residual)
    near = [(best[0] * f, best[1] + d, best[2]) for f in np.linspace(0.85, 1.17, 17) for d in (-0.004, -0.002, 0.0, 0.002, 0.004)]
    return max(float(min(near, key=residual)[0]), 0.05 * update_s)


def counter(card: Card, busy: Busy, reads: int, update_s: float) -> dict:
    """`tick_s`, `gain_ratio`, `u_gain_ratio` from slow counter readings beside the power trace under a steady load. Readings of a counter
    that ticks every T scatter below the line of a constant load by a uniform [0, T] x power: their standard deviation is T P / sqrt(12)."""
    readings: list[tuple[float, float]] = []
    slow = card.clock.sampler(lambda: readings.extend(_counter_now(card)) or [], COUNTER_S)

    def work():
        busy(2.0)
        slow.start()
        busy(reads * COUNTER_S)
        slow.stop()

    t_s, power_w = _watch(card, update_s / 2, work)
    times, joules = np.array(_answered(card, "energy counter", readings, 3)).T
    slope_w, intercept = np.polyfit(times - times[0], joules - joules[0], 1)
    scatter_j = float(np.std(joules - joules[0] - intercept - slope_w * (times - times[0]), ddof=2))
    span_s = float(times[-1] - times[0])
    mean_w = integrate(t_s, power_w, float(times[0]), float(times[-1])) / span_s
    u_slope_w = scatter_j / np.sqrt(np.sum((times - times.mean()) ** 2))
    u_mean_w = float(np.std(power_w[t_s > times[0]])) / np.sqrt(span_s / update_s)
    ratio, u_ratio = float(slope_w / mean_w), float(np.hypot(u_slope_w, u_mean_w) / mean_w)
    return {"tick_s": float(np.sqrt(12) * scatter_j / slope_w), "gain_ratio": ratio, "u_gain_ratio": u_ratio}


def spreads(card: Card, busy: Busy, found: Sensor, rise_w: float) -> tuple[float | None, float]:
    """How much the mean power by the counter (None without one) and by the readings depends on the phase of a square wave of the sensor's
    own period, as shares of the rise. 0 for what sees everything (each wave costs the same), up to 1 for a sensor that looks at a quarter
    of each period, and a counter fed by it."""
    clock, period_s = card.clock, found.update_s
    base_s, by_counter, by_readings = clock.now_s(), [], []

    def counter_j() -> float:
        return _answered(card, "energy counter", _counter_now(card))[0][1]

    for phase in range(PHASES):
        clock.sleep(max(found.tick_s, found.update_s) + found.averaging_s + 1.0)
        clock.sleep((base_s + phase * period_s / PHASES - clock.now_s()) % period_s)
        begin_s, first = clock.now_s(), counter_j() if card.has_counter else 0.0

        def wave(begin_s: float = begin_s) -> None:
            for k in range(PERIODS):
                busy(period_s / 2)
                clock.sleep(begin_s + (k + 1) * period_s - clock.now_s())

        t_s, power_w = _watch(card, period_s / 2, wave)
        inside = t_s > begin_s + min(found.averaging_s + 2 * period_s, 0.5 * PERIODS * period_s)
        by_readings.append(float(power_w[inside].mean()))
        clock.sleep(1.0)
        if card.has_counter:
            by_counter.append((counter_j() - first) / (PERIODS * period_s))
    return float(np.ptp(by_counter) / rise_w) if by_counter else None, float(np.ptp(by_readings) / rise_w)


def probe_cards(meter: NvmlMeter, load_of: Callable[[int], Busy] | None = None) -> list[dict]:
    """One row a card of a meter, probed with `load_of(index in CUDA's order)`; the default is torch's matrix products."""
    rows = []
    for index, card in enumerate(meter.cards):
        found = probe(card, (load_of or torch_load)(index))
        rows.append({"device_id": card.uuid, "name": card.name} | vars(found) | asdict(found.sensor))
        del rows[-1]["sensor"]
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


BIN_S, LAG_LIMIT_S = 10.0, 5.0
LEAST_BINS, LEAST_SWING, LEVEL_SHARE = 8, 0.3, 0.1


@dataclass(frozen=True)
class Calibration:
    """`scale` turns the card's readings into true watts, with relative standard uncertainty `gain_rel` (k = 1). `host_w` is what the wall
    shows beside the card, its offset included; `lag_s` is how much later the wall meter shows the load."""

    scale: float
    gain_rel: float
    host_w: float
    lag_s: float
    bins: int
    r_squared: float


def calibrate(wall: LoggedGpu, card: LoggedGpu, efficiency: float = 1.0, u_efficiency: float = 0.0) -> Calibration:
    """The gain of a card from a wall meter's log and the card's own, recorded together over loads of different power while the host does
    the same throughout: wall = host + card / efficiency, so the slope of 10 s means is scale / efficiency. `efficiency` is that of the
    power supply (1 for a meter in the card's own supply lines), with its standard uncertainty. Raises UserError for logs that do not
    overlap, are too short, or in which the card's power hardly changes."""
    if not 0.5 <= efficiency <= 1 or not 0 <= u_efficiency < 0.2:
        found = f"efficiency {efficiency:g} +- {u_efficiency:g}"
        raise UserError(found, "0.5 to 1, known to better than 0.2", "see the power supply's data sheet")

    def overlap(lag_s: float) -> tuple[float, float]:
        start_s = max(float(card.t_s[0]), float(wall.t_s[0]) - lag_s)
        stop_s = min(float(card.t_s[-1]), float(wall.t_s[-1]) - lag_s)
        if stop_s - start_s < LEAST_BINS * BIN_S:
            found = f"the two logs overlap by {max(stop_s - start_s, 0):.0f} s"
            raise UserError(found, f"{LEAST_BINS * BIN_S:.0f} s at least", "record both at once; check their clocks")
        return start_s, stop_s

    def means(log: LoggedGpu, edges_s: np.ndarray) -> np.ndarray:
        return np.array([integrate(log.t_s, log.power_w, a, b) / (b - a) for a, b in itertools.pairwise(edges_s)])

    start_s, stop_s = overlap(0.0)
    grid_s, lag_s = np.arange(start_s + LAG_LIMIT_S, stop_s - LAG_LIMIT_S, 0.1), 0.0
    own = np.interp(grid_s, card.t_s, card.power_w)
    if own.std() > 0 and np.ptp(wall.power_w) > 0:  # the shift at which the two series go together best, to a tenth of a second
        lags_s = np.round(np.arange(-LAG_LIMIT_S, LAG_LIMIT_S + 0.05, 0.1), 1)
        fits = [np.corrcoef(own, np.interp(grid_s + lag, wall.t_s, wall.power_w))[0, 1] for lag in lags_s]
        lag_s = float(lags_s[int(np.nanargmax(fits))])
    start_s, stop_s = overlap(lag_s)
    edges_s = start_s + BIN_S * np.arange(int((stop_s - start_s) / BIN_S) + 1)
    margins_s = np.column_stack([edges_s[:-1] - 1.0, edges_s[:-1] + BIN_S / 3, edges_s[1:] - BIN_S / 3, edges_s[1:] + 1.0])
    thirds = np.array([means(card, np.clip(m, card.t_s[0], card.t_s[-1] + 1e-9)) for m in margins_s])
    level = np.ptp(thirds, axis=1) <= LEVEL_SHARE * max(np.ptp(thirds), 1e-9)  # at a jump the two disagree by what the lag is off
    if level.sum() < LEAST_BINS:
        found = f"{level.sum()} spans of {BIN_S:.0f} s with level power"
        raise UserError(found, f"at least {LEAST_BINS}", "hold each load for half a minute")
    x, y = means(card, edges_s)[level], means(wall, edges_s + lag_s)[level]
    if np.ptp(x) < LEAST_SWING * x.mean():
        found = f"the card's power changes by {np.ptp(x):.0f} W around {x.mean():.0f} W only"
        raise UserError(found, "idle and load", "record both, each for a minute")
    slope, host_w = np.polyfit(x, y, 1)
    residual = y - host_w - slope * x
    u_slope = math.sqrt(float(residual @ residual) / (len(x) - 2) / float(np.sum((x - x.mean()) ** 2)))
    r_squared = 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2)) if np.ptp(y) else 0.0
    if not r_squared > 0.9:
        found = f"the wall follows the card badly (r2 {r_squared:.2f})"
        raise UserError(found, "one load that moves both", "stop what else runs on the machine")
    gain_rel = math.hypot(u_slope / slope, u_efficiency / efficiency)
    return Calibration(float(slope * efficiency), gain_rel, float(host_w), lag_s, len(x), r_squared)


def calibrate_logs(wall_path: str, card_path: str, efficiency: float = 1.0, u_efficiency: float = 0.0) -> Calibration:
    """The calibration from two recorded logs. Raises UserError for a log that holds several cards."""
    logs = [read_log(path).gpus for path in (wall_path, card_path)]
    for path, found in zip((wall_path, card_path), logs, strict=True):
        if len(found) != 1:
            raise UserError(f"{path} holds {len(found)} cards", "one series", "record the one card that is calibrated")
    return calibrate(logs[0][0], logs[1][0], efficiency, u_efficiency)


def remember_calibration(uuid: str, calibration: Calibration, meter: NvmlMeter | None = None) -> bool:
    """Remember a calibration for the card of this machine with that UUID, under its driver and VBIOS; False where the cache cannot be
    written. Raises UserError if there is no such card."""
    with meter or NvmlMeter() as opened:
        cards = {card.uuid: card for card in opened.cards}
        if (card := cards.get(uuid)) is None:
            raise UserError(f"no card {uuid} here", f"one of {', '.join(cards) or 'none'}", "see `nvidia-smi -L`")
        card.sensor = replace(card.sensor, scale=calibration.scale, gain_rel=calibration.gain_rel)
        return remember(card.uuid, card.driver, card.vbios, card.sensor)
