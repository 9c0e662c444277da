"""Energy of a recorded power log, with its interval, the terms of that interval, and everything that a reader should doubt."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from eai.errors import UserError
from eai.power import cpu, readings
from eai.power.logs import LoggedGpu, PowerLog
from eai.power.nvml import ARCHITECTURES, GAIN_REL, OFFSET_W, prior
from eai.quantity import Quantity, plain

JITTER_FACTOR = 1.5
"""A pause is a gap beyond 2.5 usual steps and 1.5 times the step that one in twenty exceeds: a logger that jitters leaves no gaps."""

FLAT_SHARE, IDLE_SHARE, IDLE_W = 0.10, 0.30, 250.0
"""A flat log below 30 % of the board's limit may be a card that does nothing (H100 of 700 W: 122 W, MI300X of 750 W: 140 W, L40S of 350
W: 102 W); below 250 W where the board is not known: the largest boards idle there."""

UNUSED_SHARE = 0.8
HIGHEST_W, ABOVE_LIMIT = 2000.0, 1.6
"""No board of the catalog draws 2,000 W; a reading may exceed a board's limit for a moment, not by more than 60 %."""

HIGHEST_MACHINE_W = 20_000.0
"""Nor a machine of eight such boards 20,000 W."""

SMALL_W = 60.0
"""Below this power a sensor's offset is taken in proportion: it was measured on boards of 60 to 450 W."""

SLOW_S, SLOWER = 0.5, 1.5
MANY = 100_000
"""Readings from which on quantiles are taken of every n-th: they are looked at for what cannot be, not for the energy."""

EPOCH_S = 1e8
"""Instants below are offsets, those above are seconds since 1970: no log lasts three years."""

READ_LAG_S = 0.09
"""How much later than (update + averaging) / 2 single readings of a 100 / 25 ms sensor show the load: 0.13 to 0.17 s were seen on A100
logs."""

UNKNOWN_STEP_REL = 0.16
"""Standard deviation of an aliased integral (arXiv:2312.02741: 16 to 23 %, less for steps that are nearly all busy)."""


@dataclass(frozen=True)
class Board:
    """What is known of the card of a log: its limit [W] and its sensor as published, None where nobody says."""

    name: str = ""
    limit_w: float | None = None
    sensor: readings.DeviceSpec | None = None

    @property
    def lag_s(self) -> float:
        """How much later a reading shows the load [s]: half of what it averages and holds, and the reading itself."""
        if self.sensor is None:
            return 0.0
        extra_s = READ_LAG_S if readings.duty(self.sensor) < readings.FULL_DUTY else 0.0
        return (self.sensor.update_s + self.sensor.averaging_s) / 2 + extra_s


def board_of(product: str, column: str, logged_limit_w: float | None = None, strict: bool = False) -> Board:
    """What the catalog and the published sensors say of a product, for a column of this name. Raises UserError if `strict` and unknown."""
    if not product:
        return Board("", logged_limit_w)
    from eai import catalog

    try:
        gpu = catalog.gpu(product)
    except UserError:
        if strict:
            raise
        gpu = None
    if gpu is None or gpu.slug == "cpu":
        return Board(product, logged_limit_w)
    low = column.lower()
    field = "power_instant_w" if "instant" in low else "power_average_w" if "average" in low else "power_usage_w"
    known = prior(gpu.name, ARCHITECTURES.get(gpu.architecture, 0), "", field)
    sensor = None
    if known.source == "published":
        sensor = readings.DeviceSpec("", "gpu", "measured", power_field=field, update_s=known.update_s, averaging_s=known.averaging_s)
    return Board(gpu.name, logged_limit_w or gpu.tdp_w, sensor)


def summarize_trace(log: PowerLog, window: tuple[float, float] | None = None, gpu: str = "", step_s: float | None = None) -> dict:
    """Energy, duration, power, samples, gaps, sensor period, status and warnings of a log; quantities are `Quantity`.

    `window`: two instants, offsets from the first reading or epochs [s]. `gpu`: the card where the log does not name it; `step_s`: one
    decode step, which tells whether the sensor aliases. `energy_j` is the sum over `gpus` with the interval against the true energy,
    `energy_within_card_j` for comparisons on the same cards; `others` are in no sum. Raises UserError for a window outside the log, and for
    watts no board draws.
    """
    if step_s is not None and not 0 < step_s < 3600:
        raise UserError(f"--step {step_s:g}", "seconds of one decode step, for instance 0.025", "leave it out if it is not known")
    warnings = list(log.warnings)
    first_s, last_s = min(g.t_s.min() for g in log.gpus), max(g.t_s.max() for g in log.gpus)
    if last_s <= first_s:
        raise UserError("all readings have the same time", "a log over some time", "log timestamps with milliseconds")
    if last_s - first_s > EPOCH_S:
        raise UserError(f"a log over {plain((last_s - first_s) / 3.15576e7)} years", "hours or days", "check its times for a changed unit")
    start_s, stop_s = _edges(window, float(first_s), float(last_s), log.zone)
    several, cut = len(log.gpus) > 1, window is not None
    rows, terms, clean = [], [], []
    for one in log.gpus:
        board = board_of(gpu or one.name, log.power_name, one.limit_w, bool(gpu))
        who = f"{f'GPU {one.index}' if one.boundary == 'gpu' else one.index}: " if several else ""
        one = _plausible(one, board, who, warnings)
        row, terms_j = _one(one, board, (start_s, stop_s), cut, step_s, who, warnings)
        rows.append(row), terms.append(terms_j), clean.append(one)
    if log.assumed and not gpu:
        warnings.append(f"the log does not say whose power `{log.power_name}` is: it is taken for a GPU's; name the card with --gpu")
    others = []
    for one in log.others:
        try:
            others.append(_one(one, Board(), (start_s, stop_s), cut, None, "", [])[0])
        except UserError:
            continue  # it has no readings in this window, and is in no sum
    if "average" in log.power_name.lower() and not cut:
        warnings.append(f"{log.power_name} lags behind the load: readings right after it still belong to it")
    joint_j = _joint_scatter_j(clean, start_s, stop_s) if several else terms[0]["statistical"]
    rest = [v for t in terms for k, v in t.items() if k not in ("gain", "statistical")]
    within_j = math.hypot(joint_j, *rest)
    energy_j = sum(r["energy_j"] for r in rows)
    energy = readings.interval(energy_j, math.hypot(within_j, *(t["gain"] for t in terms)))
    statuses = [r["status"] for r in rows]
    return {
        "gpus": rows,
        "others": others,
        "energy_j": energy,
        "energy_within_card_j": readings.interval(energy_j, within_j),
        "energy_wh": Quantity(energy.value / 3600, energy.low / 3600, energy.high / 3600, "Wh"),
        "duration_s": max(r["duration_s"] for r in rows),
        "start_s": start_s,
        "stop_s": stop_s,
        "boundary": log.gpus[0].boundary,
        "power_field": log.power_name,
        "time": log.zone,
        "status": next((s for s in ("invalid", "aliased") if s in statuses), "ok"),
        "warnings": list(dict.fromkeys(warnings)),
    }


def _edges(window: tuple[float, float] | None, first_s: float, last_s: float, zone: str) -> tuple[float, float]:
    """Start and stop [s] on the log's own time. Raises UserError for a window that the log does not touch."""
    if window is None:
        return first_s, last_s
    start_s, stop_s = window
    if not -math.inf < start_s < stop_s < math.inf:
        raise UserError(f"--window {start_s:g} {stop_s:g}", "two finite numbers, the end after the start", "correct them")
    if stop_s < EPOCH_S or first_s < EPOCH_S:
        start_s, stop_s = (
            s + first_s if s < EPOCH_S <= first_s or (first_s < EPOCH_S and stop_s <= last_s - first_s) else s for s in (start_s, stop_s)
        )
    if stop_s <= first_s or start_s >= last_s:
        hours = round((start_s - first_s) / 3600)
        found = f"the window {start_s:.3f} to {stop_s:.3f} s lies outside the log, {first_s:.3f} to {last_s:.3f} s ({zone})"
        do = f"they are about {hours} h apart: check the time zone" if hours else "check the two numbers"
        raise UserError(found, "a window inside it", do)
    return start_s, stop_s


def _plausible(gpu: LoggedGpu, board: Board, who: str, warnings: list[str]) -> LoggedGpu:
    """The card without readings that no board draws: negative ones, and spikes far above its limit. Raises UserError where most of them
    are: then the unit is another."""
    power_w = gpu.power_w
    highest_w = ABOVE_LIMIT * board.limit_w if board.limit_w and gpu.boundary == "gpu" else HIGHEST_W
    if gpu.boundary not in ("gpu", "cpu_package", "dram"):
        highest_w = HIGHEST_MACHINE_W
    whose = f"the {board.name} of {board.limit_w:,.0f} W" if board.limit_w and board.name else f"{who}a board"
    if (middle_w := float(np.median(_some(power_w)))) < 0:
        raise UserError(f"{who}half of the readings are below 0 W", "power that is drawn", "check the sign, or name another column")
    if middle_w > highest_w:
        found = f"{who}half of the readings are above {middle_w:,.0f} W"
        raise UserError(found, f"at most {highest_w:,.0f} W of {whose}", "if these are milliwatts, say so: --power COLUMN:mW")
    if gpu.boundary == "gpu" and not gpu.unit_said and 0 < float(power_w.max()) < 1.5:
        found = f"{who}no reading is above {plain(power_w.max())} W"
        raise UserError(found, "the watts of a card", "name the unit: --power COLUMN:kW, or COLUMN:W")
    bad = (power_w < 0) | (power_w > highest_w)
    if not bad.any():
        return gpu
    worst_w = power_w[bad][np.argmax(np.abs(power_w[bad]))]
    warnings.append(f"{who}{int(bad.sum())} readings such as {worst_w:,.0f} W are none that {whose} can have, and are left out")
    return replace(gpu, t_s=gpu.t_s[~bad], power_w=power_w[~bad], left_out=float(bad.mean()))


def _one(
    gpu: LoggedGpu, board: Board, asked: tuple[float, float], cut: bool, step_s: float | None, who: str, warnings: list[str]
) -> tuple[dict, dict[str, float]]:
    """(row, standard uncertainties [J] by term) of one card over the part of `asked` that its readings cover. Terms: scatter between
    readings, the edges of a cut window, aliasing, a sensor's usual offset and gain, what gaps may hide."""
    t_s, power_w, backwards = gpu.t_s, gpu.power_w, int((np.diff(gpu.t_s) < 0).sum())
    if backwards:
        order = np.argsort(t_s, kind="stable")
        t_s, power_w = t_s[order], power_w[order]
        warnings.append(f"{who}time goes backwards {backwards} time(s): the clock was set, or two logs were joined")
    steps = np.diff(t_s)
    if not (steps > 0).any():
        raise UserError(f"{who}all readings have the same time", "a log over some time", "log timestamps with milliseconds")
    some = _some(steps)
    period_s = float(np.median(some[some > 0] if (some > 0).any() else steps[steps > 0]))
    start_s, stop_s = max(asked[0], float(t_s[0])), min(asked[1], float(t_s[-1]))
    inside = slice(int(np.searchsorted(t_s, start_s, "left")), int(np.searchsorted(t_s, stop_s, "right")))
    if inside.stop <= inside.start or stop_s <= start_s:
        raise UserError(f"{who}no reading lies in the window", "at least one", "choose a longer window")
    duration_s, seen = stop_s - start_s, power_w[inside]
    lag_s = board.lag_s if cut and not gpu.held else 0.0
    energy_j = readings.integrate(t_s, power_w, start_s + lag_s, stop_s + lag_s)
    missing_s, gaps, beyond_s = _missing_s(t_s, asked, period_s, gpu.held)
    missing = missing_s / (asked[1] - asked[0])
    row = {"index": gpu.index, "boundary": gpu.boundary, "name": board.name or gpu.name}
    row |= {"energy_j": energy_j, "energy_wh": energy_j / 3600, "duration_s": duration_s, "power_mean_w": energy_j / duration_s}
    row |= {"power_min_w": float(seen.min()), "power_max_w": float(seen.max()), "samples": len(seen) // 2 if gpu.held else len(seen)}
    row |= {"sample_s": period_s, "gaps": gaps, "missing_fraction": missing}
    row |= {"sensor_period_s": None if gpu.held else sensor_period_s(t_s[inside], seen), "lag_s": lag_s}
    sensor = board.sensor
    if sensor is not None and period_s > SLOWER * sensor.update_s and step_s is not None:
        sensor = replace(sensor, update_s=period_s)  # a slow logger looks away longer than the sensor
    aliased = sensor is not None and not gpu.held and readings.is_aliased(sensor, step_s, duration_s, seen)
    if beyond_s > period_s:
        warnings.append(f"{who}the window reaches {plain(beyond_s)} s beyond the log: that part is left out")
    warnings += [who + doubt for doubt in _doubts(row, seen, gpu, board.limit_w)]
    has_holes = sensor is not None and readings.duty(sensor) <= readings.FULL_DUTY and not gpu.held
    sees = f"sees {readings.duty(sensor):.0%} of every {1e3 * sensor.update_s:g} ms" if has_holes else ""
    if sensor is None and step_s is not None:
        warnings.append(f"{who}whether steps of {step_s * 1e3:g} ms alias is not known: name the card with --gpu")
    elif has_holes and aliased:
        warnings.append(f"{who}steps of {step_s * 1e3:g} ms beat with the sensor, which {sees}: aliased")
    elif has_holes and step_s is None:
        doubt = "steps near a multiple or a half of that alias by 16 to 23 %, and the log cannot show it"
        warnings.append(f"{who}the sensor of the {board.name} {sees}: {doubt}; give the time of a decode step with --step")
    zeros = gpu.boundary == "gpu" and float(np.mean(seen == 0)) > readings.MISSING_SHARE
    bad = bool(backwards) or missing > readings.MISSING_SHARE or gpu.left_out > readings.MISSING_SHARE or zeros
    row["status"] = "invalid" if bad else "aliased" if aliased else "ok"
    share = 0.0
    if has_holes and step_s is None:
        share = UNKNOWN_STEP_REL * math.sqrt(min(2 * readings.UNREAD_BEATS * sensor.update_s / duration_s, 1.0))
    elif has_holes and (aliased or readings.beats(sensor, step_s, duration_s) < readings.NEAR_BEATS):
        share = readings.ALIASED_REL if aliased else readings.wave_rel(seen) / 2
    stride = max(round((row["sensor_period_s"] or 0.0) / period_s), 1)
    stretch_s = 0.0 if sensor is None else (sensor.update_s + sensor.averaging_s) / 2
    offset_w = OFFSET_W * min(row["power_max_w"] / SMALL_W, 1.0) if gpu.boundary in ("gpu", "part") else 0.0
    low, high = np.quantile(power_w, [0.02, 0.98]) if missing_s else (0.0, 0.0)
    terms_j = {
        "statistical": (0.0 if gpu.held else scatter(seen[::stride])) * math.sqrt(duration_s * period_s * stride),
        "granularity": float(np.ptp(seen)) * math.hypot(period_s, stretch_s) / math.sqrt(6) if cut else 0.0,
        "aliasing": abs(energy_j) * share,
        "offset": offset_w * duration_s,
        "gain": cpu.GAIN_REL.get(gpu.boundary, GAIN_REL) * abs(energy_j),
        "gap": missing_s * float(high - low) / math.sqrt(12),
    }
    within_j = math.hypot(*(v for k, v in terms_j.items() if k != "gain"))
    absolute = readings.interval(energy_j, math.hypot(within_j, terms_j["gain"]))
    return row | {"terms_j": terms_j, "within_card_j": readings.interval(energy_j, within_j), "absolute_j": absolute}, terms_j


def _some(values: np.ndarray) -> np.ndarray:
    """Every n-th value of very many."""
    return values[:: len(values) // MANY + 1]


def _missing_s(t_s: np.ndarray, asked: tuple[float, float], period_s: float, held: bool) -> tuple[float, int, float]:
    """(seconds of the window that no reading tells of, number of gaps, seconds beyond the log's ends). A pause counts for what it lacks
    beyond one period, as far as it lies in the window, at its edges too."""
    beyond_s = max(t_s[0] - asked[0], 0.0) + max(asked[1] - t_s[-1], 0.0)
    first, last = max(int(np.searchsorted(t_s, asked[0], "right")) - 1, 0), int(np.searchsorted(t_s, asked[1], "left")) + 1
    known = t_s[first:last]
    forward = np.diff(t_s) if len(t_s) < MANY else _some(np.diff(known))
    forward = forward[forward > 0]
    usual_s = max(readings.GAP_FACTOR * period_s, JITTER_FACTOR * float(np.quantile(forward, 0.95))) if len(forward) else math.inf
    left_s, right_s = (known[:-1], known[1:]) if not held else (t_s[1:-1:2], t_s[2::2])
    wide = right_s - left_s > usual_s if not held else (right_s > left_s) & (left_s < asked[1]) & (right_s > asked[0])
    left_s, right_s = left_s[wide], right_s[wide]
    lacking_s = np.minimum(right_s, asked[1]) - np.maximum(left_s, asked[0])
    lacking_s = lacking_s if held else lacking_s * (1 - period_s / (right_s - left_s))
    outside_s = beyond_s if beyond_s > usual_s else max(beyond_s - 2 * period_s, 0.0)
    return float(lacking_s.sum() + outside_s), len(lacking_s), float(beyond_s)


def sensor_period_s(t_s: np.ndarray, power_w: np.ndarray) -> float | None:
    """How often the sensor itself seems to update [s]: median time between changes; None where the log is no faster than it."""
    changes = np.flatnonzero(np.diff(power_w)) + 1
    if len(changes) < 5 or len(changes) > 0.8 * len(power_w):
        return None
    return float(np.median(np.diff(t_s[changes])))


def _doubts(row: dict, power_w: np.ndarray, gpu: LoggedGpu, limit_w: float | None) -> Iterator[str]:
    """What a reader should doubt of a card's readings, whatever the load was."""
    if row["gaps"]:
        yield f"{row['gaps']} gap(s), {row['missing_fraction']:.1%} of the time has no reading"
    if row["missing_fraction"] > readings.MISSING_SHARE:
        yield f"more than {readings.MISSING_SHARE:.0%} is missing: this is not a measurement of the whole time"
    if row["sample_s"] > SLOW_S and not gpu.held:
        yield f"one reading every {row['sample_s']:.2g} s: what happens in between is not seen"
    if gpu.boundary != "gpu":
        return
    if (power_w == 0).any():
        yield f"{int((power_w == 0).sum())} readings of 0 W: no powered card draws nothing"
    low, middle, high = np.quantile(_some(power_w), [0.05, 0.5, 0.95])
    idle_w = IDLE_SHARE * limit_w if limit_w else IDLE_W
    check = "check that the work ran on this card while the log was taken"
    if gpu.utilization_pct == 0:
        yield f"idle: utilization is 0 throughout; {check}"
    elif gpu.unused_share is not None and gpu.unused_share >= UNUSED_SHARE:
        yield f"idle: utilization is 0 in {gpu.unused_share:.0%} of the readings, {middle:.0f} W; {check}"
    elif gpu.unused_share is None and high - low <= FLAT_SHARE * middle and middle < idle_w:
        yield f"may be idle: flat at {middle:.0f} W; {check}"


def scatter(power_w: np.ndarray) -> float:
    """Standard deviation [W] of readings about a load that drifts: from successive differences, whose variance is twice theirs (von
    Neumann)."""
    changes_w = np.diff(power_w)
    return math.sqrt(float(np.dot(changes_w, changes_w)) / (2 * max(len(changes_w), 1)))


def _joint_scatter_j(gpus: list[LoggedGpu], start_s: float, stop_s: float) -> float:
    """The statistical term [J] of the sum of several cards, from the scatter of their sum: cards that work in turn scatter against each
    other, and cards in step together."""
    base = max(gpus, key=lambda g: len(g.t_s))
    t_s = base.t_s[(base.t_s >= start_s) & (base.t_s <= stop_s)]
    if len(t_s) < 3 or any(g.held for g in gpus):
        return 0.0
    total_w = sum(np.interp(t_s, g.t_s, g.power_w) for g in gpus)
    steps = np.diff(t_s)
    return scatter(total_w) * math.sqrt((stop_s - start_s) * float(np.median(steps[steps > 0]))) if (steps > 0).any() else 0.0


def phase_energies(log: PowerLog, gpu: str = "") -> Callable[[float, float], list[dict]]:
    """What integrates the log between two instants, seconds from the first reading or since 1970: one row a card, with device_id, energy_j,
    the terms of its uncertainty, and status. Raises UserError for a phase that reaches beyond the log."""
    first_s, last_s = float(min(g.t_s.min() for g in log.gpus)), float(max(g.t_s.max() for g in log.gpus))
    boards = [board_of(gpu or g.name, log.power_name, g.limit_w) for g in log.gpus]
    cards = [_plausible(g, b, "", []) for g, b in zip(log.gpus, boards, strict=True)]

    def energies(start_s: float, stop_s: float) -> list[dict]:
        shift_s = first_s if stop_s < EPOCH_S <= first_s else 0.0
        start_s, stop_s = start_s + shift_s, stop_s + shift_s
        if start_s < first_s - SLOW_S or stop_s > last_s + SLOW_S:
            found = f"a phase from {start_s - first_s:.1f} to {stop_s - first_s:.1f} s of a power log of {last_s - first_s:.1f} s"
            raise UserError(found, "phases inside the log", f"its time was read as {log.zone}: check the clocks and how long it ran")
        found = []
        for card, board in zip(cards, boards, strict=True):
            row, terms_j = _one(card, board, (start_s, stop_s), True, None, "", [])
            kept = {f"u_{k}_j": terms_j[k] for k in ("granularity", "aliasing", "gain", "offset")}
            kept["u_statistical_j"] = math.hypot(terms_j["statistical"], terms_j["gap"])
            device = f"gpu{row['index']}" if isinstance(row["index"], int) else str(row["index"])
            found.append({"device_id": device, "energy_j": row["energy_j"], "status": row["status"]} | kept)
        return found

    return energies
