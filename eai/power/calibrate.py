"""A card's gain, found against a meter at the wall: the one term of the budget that no repetition removes."""

import itertools
import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from eai.errors import UserError
from eai.power import sensor as sensors
from eai.power.logs import LoggedGpu, read_log
from eai.power.nvml import Card, NvmlMeter
from eai.power.trace import integrate

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


def apply(card: Card, calibration: Calibration) -> bool:
    """Remember a calibration for this card under its driver and VBIOS; False where the cache cannot be written."""
    card.sensor = replace(card.sensor, scale=calibration.scale, gain_rel=calibration.gain_rel)
    return sensors.remember(card.uuid, card.driver, card.vbios, card.sensor)


def remember(uuid: str, calibration: Calibration, meter: NvmlMeter | None = None) -> bool:
    """Remember a calibration for the card of this machine with that UUID. Raises UserError if there is no such card."""
    with meter or NvmlMeter() as opened:
        cards = {card.uuid: card for card in opened.cards}
        if uuid not in cards:
            raise UserError(f"no card {uuid} here", f"one of {', '.join(cards) or 'none'}", "see `nvidia-smi -L`")
        return apply(cards[uuid], calibration)
