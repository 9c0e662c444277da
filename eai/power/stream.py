"""The raw record of a window: every reading as one row, long and tidy.

A stream is the only thing a meter produces and the only thing `derive` reads, so storing it is enough to replay a
measurement bit for bit. Columns: `t_s` (monotonic clock of the host, s), `device_id`, `boundary` (gpu | cpu_package |
dram), `field` (its unit is in its name), `value`, and, where the driver tells them, `driver_t_us` and `latency_us`.
A failed read is a row too: field `error`, value the driver's code; a dead sampler is a row of field `sampler_error`.
"""

from collections.abc import Iterable

import numpy as np
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
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = [c for c in COLUMNS if c not in LABELS]
    frame[numbers] = frame[numbers].astype("float64")
    return frame.astype(dict.fromkeys(LABELS, "category"))


def split(stream: pd.DataFrame) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]:
    """`{(device_id, boundary, field): (t_s, value)}`, each in the order of time.

    One pass over integer codes: a comparison of strings for each field would dominate the replay of a long campaign.
    """
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
