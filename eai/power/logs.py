"""Power logs that others recorded: nvidia-smi's CSV in its variants, two-column CSV, and our own Parquet."""

import csv as lines_of
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from eai.errors import UserError

MISSING = (
    "",
    "[n/a]",
    "n/a",
    "nan",
    "none",
    "null",
    "[not supported]",
    "[unknown error]",
    "[gpu requires reset]",
    "err!",
    "[insufficient permissions]",
)
NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?([eE][-+]?\d+)?$")
WATTS = re.compile(r"^[-+]?\d+(\.\d*)? ?m?W$")
CLOCK = re.compile(r"^\d{1,2}:\d{2}:\d{2}(\.\d+)?$")
DATE = re.compile(r"^\d{4}[-/]\d{2}[-/]\d{2}[ T]\d{1,2}:\d{2}:\d{2}")
CARD = re.compile(r"^(GPU-)?[0-9a-fA-F-]{36}$|^GPU-\w+|^[0-9a-fA-F]{8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d$")

POWER_ORDER = ("instant", "", "average")
"""Instant power before `power.draw` before the 1 s average: the average lags behind the load."""


@dataclass(frozen=True)
class Layout:
    """Where to find time, power and card (None: there is none) among `columns`; `power_scale` turns the column into watts.

    `power_name` is the column's own name; limit and utilization tell an idle log from a working one.
    """

    delimiter: str
    columns: tuple[str, ...]
    has_header: bool
    time: str
    power: str
    card: str | None
    power_scale: float
    time_scale: float
    power_name: str
    utilization: str | None
    encoding: str


def _encoding(path: Path) -> str:
    """The encoding by its byte-order mark: a redirected nvidia-smi on Windows writes UTF-16."""
    with open(path, "rb") as file:
        start = file.read(2)
    return "utf16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf8"


def _first_rows(path: Path, encoding: str) -> tuple[str, list[list[str]]]:
    with open(path, encoding="utf-16" if encoding == "utf16" else "utf-8-sig", errors="replace", newline="") as file:
        lines = [line for _, line in zip(range(60), file, strict=False) if line.strip() and not line.startswith("#")]
    if not lines:
        raise UserError(
            f"{path} is empty", "a power log", "record one: nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100 -f LOG"
        )
    delimiter = max(",;\t", key=lines[0].count)
    return delimiter, [[cell.strip() for cell in row] for row in lines_of.reader(lines, delimiter=delimiter)]


def _is_value(cell: str) -> bool:
    return cell.lower() in MISSING or any(p.match(cell) for p in (NUMBER, WATTS, CLOCK, DATE, CARD))


def layout(path: Path) -> Layout:
    """The layout of a CSV power log. Raises UserError, with what was found, where time or power cannot be told."""
    encoding = _encoding(path)
    delimiter, rows = _first_rows(path, encoding)
    has_header = not any(_is_value(cell) for cell in rows[0] if cell)
    names = rows[0] if has_header else [f"column {i + 1}" for i in range(len(rows[0]))]
    body = [r for r in rows[has_header:] if len(r) == len(names)]
    if not body:
        raise UserError(f"{path} has a header and no readings", "at least two readings", "check that the logger ran")
    columns = {name: [row[i] for row in body] for i, name in enumerate(names)}
    time, power, card = _by_name(columns) if has_header else _by_content(columns, path)
    if power is None:
        raise UserError(
            f"{path} has no power column (found {', '.join(names)})", "one such as power.draw [W]", "add power.draw to the query"
        )
    if time is None:
        raise UserError(f"{path} has no time column (found {', '.join(names)})", "timestamp or seconds", "add timestamp to the query")
    utilization = next((n for n in names if has_header and n.lower().startswith("utilization.gpu")), None)
    milli = re.search(r"\bmw\b|_mw$|milliwatt", power.lower()) or any(c.endswith("mW") for c in columns[power])
    return Layout(
        delimiter,
        tuple(names),
        has_header,
        time,
        power,
        card,
        1e-3 if milli else 1.0,
        _time_scale(time, columns[time]),
        power if has_header else "power",
        utilization,
        encoding,
    )


def _time_scale(name: str, values: list[str]) -> float:
    """Seconds per unit of a numeric time column, by its name or the size of an epoch; 1 for stamps."""
    if suffix := re.search(r"(?:_|\(|\[|\b)(ns|us|ms)\b", name.lower()):
        return {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[suffix.group(1)]
    number = next((float(v) for v in values if NUMBER.match(v)), 0.0)
    return 1e-9 if number > 1e17 else 1e-6 if number > 1e14 else 1e-3 if number > 1e11 else 1.0


def _by_name(columns: dict[str, list[str]]) -> tuple[str | None, str | None, str | None]:
    """(time, power, card) from the header."""
    lower = {name: name.lower() for name in columns}
    powers = [
        n for n, low in lower.items() if re.search(r"power|watt|^p$|^p_w$", low) and not re.search(r"limit|state|cap|management", low)
    ]
    powers.sort(key=lambda n: next((i for i, word in enumerate(POWER_ORDER) if word and word in lower[n]), 1))
    time = next((n for n, low in lower.items() if re.match(r"time|date|epoch|t$|t[_ (\[]|elapsed|seconds", low)), None)
    cards = [n for word in ("uuid", "index", "pci", "gpu", "device") for n, low in lower.items() if re.match(rf"(gpu[_ .]?)?{word}", low)]
    cards = [n for n in cards if n not in powers and not lower[n].startswith("utilization")]
    return time, powers[0] if powers else None, cards[0] if cards else None


def _by_content(columns: dict[str, list[str]], path: Path) -> tuple[str | None, str | None, str | None]:
    """(time, power, card) without a header: by stamps, units and UUIDs, and else by the place in two columns."""
    names = list(columns)
    time = next((n for n in names if all(DATE.match(v) or CLOCK.match(v) for v in columns[n])), None)
    card = next((n for n in names if all(CARD.match(v) for v in columns[n])), None)
    power = next((n for n in names if any(WATTS.match(v) for v in columns[n])), None)
    rest = [n for n in names if n not in (time, card, power) and any(NUMBER.match(v) for v in columns[n])]
    if time is None and rest and len(names) >= 2:
        time = rest.pop(0)
    if (card is None and power is not None) or (card is None and len(rest) > 1):
        small = [n for n in rest if all(v.isdigit() and int(v) < 64 for v in columns[n])]
        card = small[0] if small else None
        rest = [n for n in rest if n != card]
    if power is None:
        if len(rest) > 1:
            raise UserError(f"{path} has no header and {len(rest)} columns that may be power", "one", "record it with its header")
        power = rest[0] if rest else None
    return time, power, card


BLOCK_BYTES = 1 << 22
DAY_S = 86400.0
INTERLEAVED_SHARE = 0.25
POWER_FIELDS = ("power_instant_w", "power_usage_w", "power_average_w")


@dataclass(frozen=True)
class LoggedGpu:
    """The readings of one card: its index or UUID as logged, seconds, watts; `utilization_pct` its highest, None if not logged."""

    index: int | str
    t_s: np.ndarray
    power_w: np.ndarray
    utilization_pct: float | None = None


@dataclass(frozen=True)
class PowerLog:
    """A log's cards and what was noticed while reading it. `zone` says how its stamps were understood; `missing` counts [N/A]."""

    gpus: tuple[LoggedGpu, ...]
    power_name: str
    zone: str
    missing: int = 0
    warnings: list[str] = field(default_factory=list)


def read_log(path: str | Path, gpus: int | None = None) -> PowerLog:
    """The readings of a power log by card; `gpus` says how many cards take turns in a log without an index column.

    Raises UserError for what cannot be integrated: no file, empty, no power or time column, power [N/A] throughout, fewer than two
    readings, or several cards taking turns without an index.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}", "a power log", "check the path")
    if gpus is not None and gpus < 1:
        raise UserError(f"--gpus {gpus}", "a positive number", "say how many cards the log holds")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty", "a power log", "check that the logger ran")
    if path.suffix == ".parquet":
        return _read_parquet(path)
    return _read_csv(path, gpus)


def _read_parquet(path: Path) -> PowerLog:
    """Our own samples, long and tidy, one row a reading; read in batches, of which only the power readings are kept."""
    file = parquet.ParquetFile(path)
    if not {"t_s", "device_id", "field", "value"} <= set(file.schema_arrow.names):
        raise UserError(
            f"{path} has columns {', '.join(file.schema_arrow.names)}", "t_s, device_id, field, value", "pass a CSV or our samples"
        )
    parts: dict[str, list] = {}
    names: dict[str, int] = {}
    for batch in file.iter_batches(columns=["t_s", "device_id", "field", "value"]):
        fields = pc.cast(batch["field"], pa.string())
        for name in pc.unique(fields).to_pylist():
            if name in POWER_FIELDS:
                part = batch.filter(pc.equal(fields, name))
                card = _codes(pc.cast(part["device_id"], pa.string()), names)
                parts.setdefault(name, []).append((part["t_s"].to_numpy(), part["value"].to_numpy(), card))
    present = next((f for f in POWER_FIELDS if f in parts), None)
    if present is None:
        raise UserError(f"{path} holds no power readings", f"a field among {', '.join(POWER_FIELDS)}", "take samples of a power meter")
    t_s, power_w, card = (_joined(list(column)) for column in zip(*parts.pop(present), strict=True))
    found = []
    for code, name in enumerate(names):
        mine = slice(None) if (card == code).all() else card == code
        times, powers = t_s[mine], power_w[mine]
        if np.any(np.diff(times) < 0):
            order = np.argsort(times, kind="stable")
            times, powers = times[order], powers[order]
        if len(times):
            found.append(LoggedGpu(name, times, powers))
    return PowerLog(_enough(found, path), present, "monotonic seconds")


def _read_csv(path: Path, gpus: int | None) -> PowerLog:
    shape = layout(path)
    t_s, power_w, card, names, utilization, dropped, zone = _columns(path, shape)
    warnings = [f"{dropped} line(s) were broken or cut off at the end and left out"] if dropped else []
    good = ~np.isnan(power_w) & ~np.isnan(t_s)
    if not good.any():
        raise UserError(f"power is [N/A] in every line of {path}", "power readings", "this card has no power sensor: take another meter")
    missing = int((~good).sum())
    if missing:
        warnings.append(f"{missing} of {len(good)} readings are [N/A]")
    if card is None:
        card, names = _turns(t_s, gpus, path, warnings), None
    elif gpus is not None and len(names) != gpus:
        raise UserError(f"{path} names {len(names)} cards and --gpus says {gpus}", "the same number", "leave --gpus out")
    found = []
    for code in range(int(card.max()) + 1):
        mine = good & (card == code)
        if mine.all():
            mine = slice(None)
        name = names[code] if names is not None else int(code)
        highest = None if utilization is None or np.isnan(utilization[mine]).all() else float(np.nanmax(utilization[mine]))
        found.append(LoggedGpu(name, t_s[mine], power_w[mine], highest))
    return PowerLog(_enough(found, path), shape.power_name, zone, missing, warnings)


def _enough(found: list[LoggedGpu], path: Path) -> tuple[LoggedGpu, ...]:
    short = [g for g in found if len(g.t_s) < 2]
    if short or not found:
        which = f" of GPU {short[0].index}" if short and len(found) > 1 else ""
        raise UserError(f"{path} has {len(short[0].t_s) if short else 0} reading(s){which}", "at least two", "log for longer")
    return tuple(found)


def _turns(t_s: np.ndarray, gpus: int | None, path: Path, warnings: list[str]) -> np.ndarray:
    """Which card each line belongs to when none says: in turns of `gpus`, or one card if the stamps do not come in bursts."""
    if gpus is not None:
        if len(t_s) % gpus:
            warnings.append(f"{len(t_s)} lines are no whole number of rounds of {gpus} cards: the last round is incomplete")
        return (np.arange(len(t_s)) % gpus).astype(np.int16)
    steps = np.diff(t_s)
    steps = steps[steps >= 0]
    if len(steps) >= 3 and np.mean(steps < 0.2 * np.quantile(steps, 0.95)) > INTERLEAVED_SHARE:
        raise UserError(
            f"the stamps of {path} come in bursts, as of several GPUs without an index column",
            "one card, or an index or uuid column",
            "pass --gpus N (1 if it is one card), or add index to the query",
        )
    return np.zeros(len(t_s), dtype=np.int16)


def _columns(path: Path, shape: Layout):
    """(t_s, power_w, card codes or None, card names, utilization or None, broken lines, zone), read in blocks to bound the memory."""
    source, dropped = _whole_lines(path, shape)

    def skip(row) -> str:
        nonlocal dropped
        dropped += 1
        return "skip"

    wanted = [c for c in (shape.time, shape.power, shape.card, shape.utilization) if c]
    reader = csv.open_csv(
        source,
        csv.ReadOptions(column_names=list(shape.columns), skip_rows=int(shape.has_header), block_size=BLOCK_BYTES, encoding=shape.encoding),
        csv.ParseOptions(delimiter=shape.delimiter, invalid_row_handler=skip),
        csv.ConvertOptions(column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False),
    )
    times, powers, cards, loads, zone = [], [], [], [], ""
    names: dict[str, int] = {}
    for block in reader:
        stamps, zone = _seconds(block[shape.time], shape)
        times.append(stamps)
        powers.append(_numbers(block[shape.power]) * shape.power_scale)
        if shape.card:
            cards.append(_codes(block[shape.card], names))
        if shape.utilization:
            loads.append(_numbers(block[shape.utilization]))
    if not times:
        raise UserError(f"{path} has no readings", "a power log", "check that the logger ran")
    t_s, power_w = _joined(times), _joined(powers)
    card = _joined(cards) if cards else None
    utilization = _joined(loads) if loads else None
    labels = [int(n) if n.isdigit() else n for n in names]
    header_again = np.isnan(t_s) & np.isnan(power_w)
    if header_again.any():
        dropped += int(header_again.sum())
        t_s, power_w, card, utilization = (None if c is None else c[~header_again] for c in (t_s, power_w, card, utilization))
    if zone == "time of day":
        t_s = _unwrap_days(t_s)
    return t_s, power_w, card, labels, utilization, dropped, zone


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; the list is emptied, so that a long log is in memory once."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _whole_lines(path: Path, shape: Layout):
    """(the file, 0), or (its whole lines, 1) where the last line has no end and may be cut off: half a number is still a number."""
    with open(path, "rb") as file:
        file.seek(-min(2, path.stat().st_size), 2)
        if b"\n" in file.read():
            return path, 0
    content = path.read_bytes()
    newline = "\n".encode("utf-16-le") if shape.encoding == "utf16" else b"\n"
    cut = content.rfind(newline)
    if cut < 0:
        raise UserError(f"{path} has one line that was cut off", "at least two readings", "log for longer")
    return pa.BufferReader(content[: cut + len(newline)]), 1


def _numbers(column: pa.Array) -> np.ndarray:
    """Floats of a column of text with or without units; NaN for [N/A] and anything that is no number."""
    text = pc.ascii_trim_whitespace(column)
    if not all(NUMBER.match(v) for v in text[:50].to_pylist()):
        text = pc.ascii_rtrim(text, " mW%")
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        text = pc.ascii_rtrim(text, " mW%")
        text = pc.if_else(pc.match_substring_regex(text, NUMBER.pattern), text, None)
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False).astype(float)


def _codes(column: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Small integers for the cards' names, in the order in which they first appear."""
    encoded = pc.dictionary_encode(pc.ascii_trim_whitespace(column))
    table = np.array([names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int16)
    return table[encoded.indices.to_numpy()]


def _seconds(column: pa.Array, shape: Layout) -> tuple[np.ndarray, str]:
    """Seconds of a time column and how it was understood: numbers, time of day, stamps with a zone, or local stamps."""
    text = pc.ascii_trim_whitespace(column)
    first = next((v for v in text[:50].to_pylist() if v and v.lower() not in MISSING), "")
    if NUMBER.match(first):
        return _numbers(text) * shape.time_scale, "seconds"
    if CLOCK.match(first):
        parts = pc.split_pattern(text, ":")
        hours, minutes, seconds = (_numbers(pc.list_element(parts, i)) for i in range(3))
        return hours * 3600 + minutes * 60 + seconds, "time of day"
    if "/" in first:
        text = pc.replace_substring(text, "/", "-")
    zoned = bool(pc.any(pc.match_substring_regex(text[:1], r"(Z|[+-]\d\d:?\d\d)$")).as_py())
    kind = pa.timestamp("us", tz="UTC") if zoned else pa.timestamp("us")
    try:
        stamps = pc.cast(text, kind)
    except pa.ArrowInvalid:
        stamps = pa.array(pd.to_datetime(text.to_pandas(), errors="coerce", utc=zoned), type=kind)
    micros = pc.cast(stamps, pa.int64()).to_numpy(zero_copy_only=False).astype(float)
    if zoned:
        return micros / 1e6, "stamps with a time zone"
    known = micros[~np.isnan(micros)]
    offset_s = _local_offset_s(known[0] / 1e6) if len(known) else 0.0
    return micros / 1e6 - offset_s, f"local stamps, read as UTC{offset_s / 3600:+g} h"


def _local_offset_s(naive_s: float) -> float:
    """This machine's offset from UTC [s] at a local time given as if it were UTC."""
    naive = datetime(1970, 1, 1) + timedelta(seconds=float(naive_s))
    return naive.astimezone().utcoffset().total_seconds()


def _unwrap_days(t_s: np.ndarray) -> np.ndarray:
    """Times of day that run on past midnight."""
    jumps = np.concatenate([[0], np.nan_to_num(np.diff(t_s))])
    return t_s + DAY_S * np.cumsum(jumps < -DAY_S / 2)
