"""What can be measured on this machine, how well, and what to do about the rest: the meters' part of `eai doctor`."""

import math

from eai.errors import UserError
from eai.power.choice import MAKERS, NAMES
from eai.power.energy import interval
from eai.power.meter import Meter
from eai.power.spec import DeviceSpec

WINDOW_S = 10.0
TYPICAL_W = {"gpu": 250.0, "cpu_package": 60.0, "dram": 5.0}
"""Loads for which the interval of a 10 s window is stated: a GPU under decode, one socket with a few busy threads, its memory."""


def survey(gpu: str = "auto") -> list[dict]:
    """One row a meter: name, basis, usable, why, do, devices, interval_10s, within_card_10s, limitations.

    A GPU's device says where the knowledge of its `sensor` is from: published, probed or unknown.

    The two intervals are relative, `{"low": -0.11, "high": 0.12}`: of a typical 10 s window against the true energy, and for comparisons on
    one card. They are None where the meter cannot be used.
    """
    return [_row(name, gpu) for name in NAMES]


def _row(name: str, gpu: str) -> dict:
    basis = "estimated" if name == "estimate" else "measured"
    row = {"name": name, "basis": basis, "usable": False, "why": "", "do": "", "devices": [], "limitations": []}
    row |= {"interval_10s": None, "within_card_10s": None}
    try:
        meter = MAKERS[name](gpu)
        meter.open()
    except UserError as error:
        found, _, rest = str(error).rstrip(".").partition("; ")
        return row | {"why": found, "do": rest.rpartition("; ")[2]}
    try:
        return row | _usable(meter)
    finally:
        meter.close()


def _usable(meter: Meter) -> dict:
    devices = meter.devices()
    sensors = {c["uuid"]: c["sensor"]["source"] for c in meter.metadata().get("cards", [])}
    primary = [d for d in meter.spec().devices if d.boundary == meter.boundary]
    absolute, within = zip(*(expected(d) for d in primary), strict=True)
    return {
        "usable": True,
        "why": ", ".join(d.name for d in devices),
        "do": advice(primary),
        "devices": [
            {"device_id": d.device_id, "name": d.name, "boundary": d.boundary, "sensor": sensors.get(d.device_id)} for d in devices
        ],
        "limitations": meter.limitations(),
        "interval_10s": max(absolute, key=lambda i: i["high"]),
        "within_card_10s": max(within, key=lambda i: i["high"]),
    }


def expected(device: DeviceSpec, duration_s: float = WINDOW_S) -> tuple[dict, dict]:
    """(absolute, within-card) relative 95 % intervals that a window of a typical load will get from this device, before it is measured."""
    energy_j = TYPICAL_W[device.boundary] * duration_s
    edge_w = TYPICAL_W[device.boundary] / 3 if device.boundary == "gpu" else TYPICAL_W[device.boundary]
    tick_s = device.tick_s if device.counter_field else device.update_s if device.power_field else 0.0
    within_j = math.hypot(edge_w * tick_s / math.sqrt(6), device.offset_w * duration_s)
    result = []
    for u_j in (math.hypot(within_j, device.gain_rel * energy_j), within_j):
        q = interval(energy_j, u_j)
        result.append({"low": q.low / energy_j - 1, "high": q.high / energy_j - 1})
    return result[0], result[1]


def advice(devices: list[DeviceSpec]) -> str:
    """The step that would help most, empty if there is none."""
    if any(d.boundary == "gpu" and d.full_rate is None for d in devices):
        return "probe the sensor once with `eai doctor --probe`: whether its counter sees all of the time is not known"
    if any(d.watts_per_thread for d in devices):
        return "run where RAPL or NVML can be read: this is CPU time in joules"
    if any(d.boundary == "gpu" and d.gain_rel >= 0.05 for d in devices):
        return "calibrate against a wall meter to shrink the 5 % gain term"
    return ""
