"""Whether a sensor that looks at part of the time can be fooled by work that repeats at the pace of its updates."""

import math

import numpy as np

from eai.power.spec import DeviceSpec

HARMONICS = 8
BANDWIDTH = 1.5
ALIASED_REL = 0.25
"""Standard uncertainty of an aliased reading, relative: 16 to 23 % are published (arXiv:2312.02741), the simulator's worst is 25 %.
It cannot be read off the trace: perfectly aliased readings are all alike."""


def duty(spec: DeviceSpec) -> float:
    """The share of time that the power sensor sees, 1 where it averages without holes."""
    return min(spec.averaging_s / spec.update_s, 1.0) if spec.update_s > 0 and spec.averaging_s > 0 else 1.0


def is_aliased(spec: DeviceSpec, step_time_s: float | None, duration_s: float) -> bool:
    """Whether steps of this length beat with the sensor so slowly that the window does not average the beat away.

    With updates every T, a periodic load of step p is seen at the same phase each time if m / p = k / T; the beat is not
    averaged out within a window W if |m / p - k / T| < 1.5 / W. Harmonics m of which little is left (a rectangular load has 1 / m of
    the fundamental, the sensor's own averaging passes |sinc(m a / p)|; together < 0.1) do not count, nor does a sensor without holes.
    """
    if step_time_s is None:
        return False
    for m in range(1, HARMONICS + 1):
        frequency_hz = m / step_time_s
        k = round(frequency_hz * spec.update_s)
        seen = abs(np.sinc(frequency_hz * spec.averaging_s)) / m
        if k >= 1 and seen >= 0.1 and abs(frequency_hz - k / spec.update_s) < BANDWIDTH / duration_s:
            return True
    return False


def sampling_u_w(power_w: np.ndarray, duration_s: float, spec: DeviceSpec, aliased: bool) -> float:
    """Standard uncertainty [W] of mean power from a sensor with holes: scatter x sqrt(share unseen / updates); a quarter if aliased.

    The scatter is taken from differences of readings one update apart (von Neumann's successive differences), so that a ramp
    or a throttle step, which the sensor follows, does not count as noise.
    """
    stride = max(round(spec.update_s / spec.sample_s), 1) if spec.sample_s > 0 else 1
    readings = power_w[::stride]
    if len(readings) < 3 or duty(spec) > 0.95:
        return 0.0
    scatter_w = math.sqrt(float(np.mean(np.diff(readings) ** 2)) / 2)
    if aliased:
        return max(scatter_w, ALIASED_REL * abs(float(readings.mean())))
    return scatter_w * math.sqrt((1 - duty(spec)) / (duration_s / spec.update_s))
