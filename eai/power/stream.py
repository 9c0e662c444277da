"""The raw record of a window, every reading as one row, and the instructions by which it is read.

A stream is the only thing a meter produces and, with its `Spec`, the only thing `derive` reads, so storing both is enough to replay a
measurement bit for bit. Columns: `t_s` (monotonic clock of the host, s), `device_id`, `boundary` (gpu | cpu_package |
dram), `field` (its unit is in its name), `value`, and, where the driver tells them, `driver_t_us` and `latency_us`.
A failed read is a row too: field `error`, value the driver's code; a dead sampler is a row of field `sampler_error`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("t_s", "device_id", "boundary", "field", "value", "driver_t_us", "latency_us")
LABELS = ("device_id", "boundary", "field")
NAN = float("nan")

Row = tuple[float, str, str, str, float, float, float]


def row(t_s: float, device_id: str, boundary: str, field: str, value: float, driver_t_us: float = NAN, latency_us: float = NAN) -> Row:
    """One reading, in the order of `COLUMNS`."""
    return (t_s, device_id, boundary, field, float(value), driver_t_us, latency_us)


def to_stream(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a stream; labels are categories, which a long recording needs (20 bytes a row instead of 150)."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = [c for c in COLUMNS if c not in LABELS]
    frame[numbers] = frame[numbers].astype("float64")
    return frame.astype(dict.fromkeys(LABELS, "category"))


def split(stream: pd.DataFrame) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]:
    """`{(device_id, boundary, field): (t_s, value)}`, each in the order of time.

    One pass over integer codes: a comparison of strings for each field would dominate the replay of a long campaign.
    """
    import pandas as pd

    codes, names = [], []
    for label in LABELS:
        column = stream[label]
        if isinstance(column.dtype, pd.CategoricalDtype):
            codes.append(column.cat.codes.to_numpy().astype(np.int64))
            names.append(column.cat.categories.tolist())
        else:
            code, values = pd.factorize(column)
            codes.append(code.astype(np.int64))
            names.append(list(values))
    if not len(stream):
        return {}
    sizes = [max(len(n), 1) for n in names]
    key = (codes[0] * sizes[1] + codes[1]) * sizes[2] + codes[2]
    t_s, value = stream["t_s"].to_numpy(), stream["value"].to_numpy()
    order = np.lexsort((t_s, key))
    ends = np.flatnonzero(np.diff(key[order])) + 1
    parts = {}
    for block in np.split(order, ends):
        device, rest = divmod(int(key[block[0]]), sizes[1] * sizes[2])
        boundary, field = divmod(rest, sizes[2])
        parts[names[0][device], names[1][boundary], names[2][field]] = (t_s[block], value[block])
    return parts


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
    def from_json(cls, text: str) -> Spec:
        """The spec written by `to_json`. Raises ValueError or TypeError if the text is none."""
        raw = json.loads(text)
        return cls(raw["boundary"], tuple(DeviceSpec(**d) for d in raw["devices"]), raw["step_time_s"])
