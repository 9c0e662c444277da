"""How a stream is to be read: everything `derive` knows besides the readings, small enough to store with each window."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class DeviceSpec:
    """The reading instructions of one device; JSON-able, so a stored window carries its own.

    counter_field, wrap_j, tick_s   cumulative energy [J], where it wraps (None: it never does), how often it advances
    power_field, update_s, averaging_s, sample_s   power [W]: how often the sensor updates, what span a reading averages, our period
    watts_per_thread                the estimate: power of one busy thread [W]
    full_rate                       True where the counter is proven to integrate every instant, None where nobody knows
    gain_ratio, u_gain_ratio        counter / integral on a steady load, as probed; divided out before they are compared
    idle_w, u_idle_w                context idle [W], None where no baseline was measured
    gain_rel, offset_w              standard uncertainties (k = 1) of this card's gain [1] and offset [W]
    scale, shift_w                  calibration against a wall meter: true = scale * reading + shift_w * time
    shared                          whether other processes on the card are accepted
    pads_loaded                     whether the work went on before and after the window, as a server's does, so that no pad is idle
    """

    device_id: str
    boundary: str
    basis: str
    counter_field: str | None = None
    wrap_j: float | None = None
    tick_s: float = 0.0
    power_field: str | None = None
    update_s: float = 0.0
    averaging_s: float = 0.0
    sample_s: float = 0.0
    watts_per_thread: float | None = None
    full_rate: bool | None = None
    gain_ratio: float = 1.0
    u_gain_ratio: float = 0.0
    idle_w: float | None = None
    u_idle_w: float = 0.0
    gain_rel: float = 0.0
    offset_w: float = 0.0
    scale: float = 1.0
    shift_w: float = 0.0
    shared: bool = False
    pads_loaded: bool = False


@dataclass(frozen=True)
class Spec:
    """The specs of a meter's devices, the boundary it is about, and the period of the work's steps [s] if known."""

    boundary: str
    devices: tuple[DeviceSpec, ...]
    step_time_s: float | None = None

    def to_json(self) -> str:
        """One line of JSON; Python writes the shortest digits that read back to the same float, so nothing is lost."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """The spec written by `to_json`. Raises ValueError or TypeError if the text is none."""
        raw = json.loads(text)
        return cls(raw["boundary"], tuple(DeviceSpec(**d) for d in raw["devices"]), raw["step_time_s"])
