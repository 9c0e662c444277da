"""Energy of a recorded power log, with its interval and everything about it that a reader should doubt."""

import math
from collections.abc import Callable

import numpy as np

from eai.errors import UserError
from eai.power.logs import LoggedGpu, PowerLog
from eai.power.readings import GAP_FACTOR, integrate, interval
from eai.power.sensor import GAIN_REL, OFFSET_W
from eai.quantity import Quantity

MISSING_SHARE = 0.05
FLAT_SHARE, IDLE_W = 0.10, 130.0
"""A log flat within 10 % below 130 W may be a card that does nothing: an H100 with a CUDA context idles at 122 W."""

SLOW_S = 0.5
EPOCH_S = 1e8
"""Instants below are offsets, those above are seconds since 1970: no log lasts three years."""


def summarize_trace(log: PowerLog, window: tuple[float, float] | None = None) -> dict:
    """Energy, duration, power, samples, gaps, sensor period, status and warnings of a log; quantities are `Quantity`.

    `window` is a pair of seconds, offsets from the first reading or epochs. The interval covers sampling, the edges of a window, and the
    gain and offset of a sensor nobody calibrated. Raises UserError for a window outside the log, saying how its stamps were read.
    """
    warnings = list(log.warnings)
    first_s, last_s = min(g.t_s.min() for g in log.gpus), max(g.t_s.max() for g in log.gpus)
    if last_s <= first_s:
        raise UserError("all readings have the same time", "a log over some time", "log timestamps with milliseconds")
    start_s, stop_s = _edges(window, float(first_s), float(last_s), log.zone, warnings)
    rows, variances, invalid = [], [], []
    for gpu in log.gpus:
        row, terms_j, bad = _one(gpu, start_s, stop_s, window is not None, warnings, len(log.gpus) > 1)
        rows.append(row)
        variances.append(sum(u**2 for u in terms_j.values()))
        invalid.append(bad)
    if "average" in log.power_name.lower():
        warnings.append(f"{log.power_name} lags behind the load: readings right after it still belong to it")
    energy = interval(sum(r["energy_j"] for r in rows), math.sqrt(sum(variances)))
    return {
        "gpus": rows,
        "energy_j": energy,
        "energy_wh": Quantity(energy.value / 3600, energy.low / 3600, energy.high / 3600, "Wh"),
        "duration_s": max(r["duration_s"] for r in rows),
        "start_s": start_s,
        "stop_s": stop_s,
        "power_field": log.power_name,
        "time": log.zone,
        "status": "invalid" if any(invalid) else "ok",
        "warnings": list(dict.fromkeys(warnings)),
    }


def _edges(window: tuple[float, float] | None, first_s: float, last_s: float, zone: str, warnings: list[str]) -> tuple[float, float]:
    """Start and stop [s] on the log's own time. Raises UserError for a window that the log does not touch."""
    if window is None:
        return first_s, last_s
    start_s, stop_s = window
    if not stop_s > start_s:
        raise UserError(f"--window {start_s:g} {stop_s:g}", "an end after the start", "swap them")
    if stop_s < EPOCH_S or first_s < EPOCH_S:
        start_s, stop_s = (
            s + first_s if s < EPOCH_S <= first_s or (first_s < EPOCH_S and stop_s <= last_s - first_s) else s for s in (start_s, stop_s)
        )
    if stop_s <= first_s or start_s >= last_s:
        hours = round((start_s - first_s) / 3600)
        raise UserError(
            f"the window {start_s:.3f} to {stop_s:.3f} s lies outside the log, {first_s:.3f} to {last_s:.3f} s ({zone})",
            "a window inside it",
            f"they are about {hours} h apart: check the time zone" if hours else "check the two numbers",
        )
    if start_s < first_s or stop_s > last_s:
        warnings.append(
            f"the window reaches {max(first_s - start_s, 0) + max(stop_s - last_s, 0):.3g} s beyond the log: that part is left out"
        )
    return max(start_s, first_s), min(stop_s, last_s)


def _one(gpu: LoggedGpu, start_s: float, stop_s: float, cut: bool, warnings: list[str], several: bool) -> tuple[dict, dict, bool]:
    """(row, standard uncertainties [J] by term, whether it is invalid) of one card."""
    who = f"GPU {gpu.index}: " if several else ""
    t_s, power_w, backwards = _in_order(gpu)
    if backwards:
        warnings.append(f"{who}time goes backwards {backwards} time(s): the clock was set, or two logs were joined")
    steps = np.diff(t_s)
    if not (steps > 0).any():
        raise UserError(f"{who}all readings have the same time", "a log over some time", "log timestamps with milliseconds")
    period_s = float(np.median(steps[steps > 0]))
    start_s, stop_s = max(start_s, float(t_s[0])), min(stop_s, float(t_s[-1]))
    inside = slice(int(np.searchsorted(t_s, start_s, "left")), int(np.searchsorted(t_s, stop_s, "right")))
    if inside.stop <= inside.start or stop_s <= start_s:
        raise UserError(f"{who}no reading lies in the window", "at least one", "choose a longer window")
    steps = steps[inside.start : max(inside.stop - 1, inside.start)]
    gaps = steps[steps > GAP_FACTOR * period_s]
    duration_s, seen = stop_s - start_s, power_w[inside]
    missing = float((gaps - period_s).sum() / duration_s)
    energy_j = integrate(t_s, power_w, start_s, stop_s)
    row = {
        "index": gpu.index,
        "energy_j": energy_j,
        "energy_wh": energy_j / 3600,
        "duration_s": duration_s,
        "power_mean_w": energy_j / duration_s,
        "power_min_w": float(seen.min()),
        "power_max_w": float(seen.max()),
        "samples": len(seen),
        "sample_s": period_s,
        "gaps": len(gaps),
        "missing_fraction": missing,
        "sensor_period_s": sensor_period_s(t_s[inside], seen),
    }
    _doubts(row, seen, gpu.utilization_pct, who, warnings)
    terms_j = _uncertainty_j(seen, period_s, duration_s, energy_j, cut)
    return row, terms_j, bool(backwards) or missing > MISSING_SHARE


def _in_order(gpu: LoggedGpu) -> tuple[np.ndarray, np.ndarray, int]:
    """(t_s, power_w, number of steps back), sorted in time."""
    backwards = int((np.diff(gpu.t_s) < 0).sum())
    if not backwards:
        return gpu.t_s, gpu.power_w, 0
    order = np.argsort(gpu.t_s, kind="stable")
    return gpu.t_s[order], gpu.power_w[order], backwards


def sensor_period_s(t_s: np.ndarray, power_w: np.ndarray) -> float | None:
    """How often the sensor itself seems to update [s]: median time between changes; None where the log is no faster than it."""
    changes = np.flatnonzero(np.diff(power_w)) + 1
    if len(changes) < 5 or len(changes) > 0.8 * len(power_w):
        return None
    return float(np.median(np.diff(t_s[changes])))


def _doubts(row: dict, power_w: np.ndarray, utilization_pct: float | None, who: str, warnings: list[str]) -> None:
    if row["gaps"]:
        warnings.append(f"{who}{row['gaps']} gap(s), {row['missing_fraction']:.1%} of the time has no reading")
    if row["missing_fraction"] > MISSING_SHARE:
        warnings.append(f"{who}more than {MISSING_SHARE:.0%} is missing: this is not a measurement of the whole time")
    if row["sample_s"] > SLOW_S:
        warnings.append(f"{who}one reading every {row['sample_s']:.2g} s: what happens in between is not seen")
    if (power_w == 0).any():
        warnings.append(f"{who}{int((power_w == 0).sum())} readings of 0 W: no powered card draws nothing")
    low, middle, high = np.quantile(power_w, [0.05, 0.5, 0.95])
    flat = high - low <= FLAT_SHARE * middle
    if utilization_pct == 0 or (utilization_pct is None and flat and middle < IDLE_W):
        sure = "utilization is 0 throughout" if utilization_pct == 0 else f"flat at {middle:.0f} W"
        warnings.append(f"{who}idle: {sure}; check that the work ran on this card while the log was taken")


def _uncertainty_j(power_w: np.ndarray, period_s: float, duration_s: float, energy_j: float, cut: bool) -> dict[str, float]:
    """Standard uncertainties [J]: scatter between readings, the edges of a cut window, and a sensor's usual gain and offset."""
    changes_w = np.diff(power_w)
    scatter_w = math.sqrt(float(np.dot(changes_w, changes_w)) / (2 * max(len(changes_w), 1)))
    return {
        "u_statistical_j": scatter_w * math.sqrt(duration_s * period_s),
        "u_granularity_j": float(np.ptp(power_w)) * period_s / math.sqrt(6) if cut else 0.0,
        "u_gain_j": GAIN_REL * energy_j,
        "u_offset_j": OFFSET_W * duration_s,
    }


def phase_energies(log: PowerLog) -> Callable[[float, float], list[dict]]:
    """What integrates the log between two instants: one row a card, with device_id, energy_j, the terms of its uncertainty, and status.

    An instant is seconds from the first reading, or since 1970. Raises UserError for a phase that reaches beyond the log: part of its
    energy is nobody's reading.
    """
    first_s, last_s = float(min(g.t_s.min() for g in log.gpus)), float(max(g.t_s.max() for g in log.gpus))

    def energies(start_s: float, stop_s: float) -> list[dict]:
        shift_s = first_s if stop_s < EPOCH_S <= first_s else 0.0
        start_s, stop_s = start_s + shift_s, stop_s + shift_s
        if start_s < first_s - SLOW_S or stop_s > last_s + SLOW_S:
            found = f"a phase from {start_s - first_s:.1f} to {stop_s - first_s:.1f} s of a power log of {last_s - first_s:.1f} s"
            raise UserError(found, "phases inside the log", f"its time was read as {log.zone}: check the clocks and how long it ran")
        return [_phase(gpu, start_s, stop_s) for gpu in log.gpus]

    return energies


def _phase(gpu: LoggedGpu, start_s: float, stop_s: float) -> dict:
    """The energy of one card in one phase."""
    row, terms_j, bad = _one(gpu, start_s, stop_s, True, [], False)
    device = f"gpu{row['index']}" if isinstance(row["index"], int) else str(row["index"])
    return {"device_id": device, "energy_j": row["energy_j"], "status": "invalid" if bad else "ok"} | terms_j
