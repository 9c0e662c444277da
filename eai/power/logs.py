"""Power logs that others recorded, in the formats of `eai.power.formats`, as readings by device.

Delimited tables of any length are read by Arrow in blocks; what is no table is read line by line. No Python function is handed to Arrow: a
thread of it would free the function while the interpreter ends, which aborts the process.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from eai.errors import UserError
from eai.power import formats
from eai.power.formats import Choice, Reading, listed, plain

BLOCK_BYTES, HEAD_BYTES = 1 << 22, 1 << 17
DAY_S = 86400.0
BURST_SHARE, WHOLE_ROUNDS = 0.25, 0.9
POWER_FIELDS = ("power_instant_w", "power_usage_w", "power_average_w")
MISSING = {"", "-", "--", "n/a", "na", "nan", "none", "null", "not supported", "unknown error", "gpu requires reset", "err!", "unknown"}
MISSING |= {"insufficient permissions", "no permission", "undefined", "inf", "+inf", "-inf"}
NUMBER = re.compile(r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?$")
WITH_UNIT = re.compile(r"^[-+]?\d+([.,]\d*)? ?[mkuµ]?[wW](atts?)?$")
CLOCK = re.compile(r"^\d{1,2}:\d{2}:\d{2}([.,]\d+)?$")
DATE = re.compile(
    r"^\d{4}[-/]?\d{2}[-/]?\d{2}[ T]\d{1,2}:\d{2}|^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}[ T,]|^\w{3},? +\w{3} +\d+ [\d:]+ |^\w{3} \d+, \d{4}"
)
CARD = re.compile(r"^(GPU-)?[0-9a-fA-F-]{36}$|^GPU-\w+|^[0-9a-fA-F]{8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d$")
STAMPS = (
    "%Y%m%d %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Y %z", "%a %b %d %H:%M:%S %Z %Y",
    "%b %d, %Y @ %H:%M:%S.%f", "%a %d %b %H:%M:%S %Z %Y", "%a %d %b %Y %H:%M:%S %Z", "%a %b %d %I:%M:%S %p %Z %Y",
    "%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S",
)  # fmt: skip
"""Stamps beside ISO 8601 and nvidia-smi's YYYY/MM/DD: dmon, tegrastats, ctime and date in two zones' orders, Kibana, German."""

EITHER = (
    ("%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S"),
    ("%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p"),
    ("%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M"),
)


@dataclass(frozen=True)
class LoggedGpu:
    """The readings of one device: its index or UUID as logged, seconds, watts.

    `utilization_pct` is its highest, `unused_share` how much of the readings had none (None: not logged). `name` is the product and
    `limit_w` its limit where the log says so. `held`: each value is the mean since the reading before, and stands there twice.
    `unit_said`: whether a unit of power was written anywhere; `left_out`: the share of readings that no board draws.
    """

    index: int | str
    t_s: np.ndarray
    power_w: np.ndarray
    utilization_pct: float | None = None
    unused_share: float | None = None
    name: str = ""
    limit_w: float | None = None
    boundary: str = "gpu"
    held: bool = False
    unit_said: bool = True
    left_out: float = 0.0


@dataclass(frozen=True)
class PowerLog:
    """A log's devices and what was noticed while reading it. `zone` says how its stamps were understood; `missing` counts [N/A].

    `gpus` are what the log is about; `others` have power columns too, and are in no sum.
    """

    gpus: tuple[LoggedGpu, ...]
    power_name: str
    zone: str
    missing: int = 0
    warnings: list[str] = field(default_factory=list)
    others: tuple[LoggedGpu, ...] = ()


def read_log(path: str | Path, gpus: int | None = None, power: str | list[str] = "", time: str = "", card: str = "") -> PowerLog:
    """The readings of a power log by device; `-` is standard input, gzip, zstd and bz2 are unpacked.

    `gpus`: how many cards take turns in a log without an index column. `power`: the columns of power, as NAME or NAME:UNIT, separated by
    commas; `time` and `card` likewise name columns. Raises UserError for what cannot be integrated: no file, empty, no power or time
    column, several that could be it, power [N/A] throughout, fewer than two readings, or cards taking turns that cannot be told apart.
    """
    if gpus is not None and gpus < 1:
        raise UserError(f"--gpus {gpus}", "a positive number", "say how many cards the log holds")
    wanted = next(csv.reader([power], skipinitialspace=True), []) if isinstance(power, str) else list(power)
    source, where = _source(path)
    try:
        start = source[:HEAD_BYTES] if isinstance(source, bytes) else _first_bytes(source)
        if start[:4] == b"PAR1":
            return _read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source, where)
        encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        if encoding == "utf-16":
            source = (source if isinstance(source, bytes) else source.read_bytes()).decode("utf-16", "replace").encode()
            start, encoding = source[:HEAD_BYTES], "utf-8-sig"
        text = start.decode(encoding, "replace")
        lines = text.splitlines()
        head = (lines[:-1] if len(start) == HEAD_BYTES and len(lines) > 1 else lines)[:400]
        if not any(line.strip() for line in head):
            example = "nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100 -f LOG"
            raise UserError(f"{where} is empty", "a power log", f"record one: {example}")
        if readings := _not_a_table(head, source, where):
            return _from_readings(*readings, where, wanted)
        return _read_table(head, source, where, gpus, wanted, time, card)
    except (pa.ArrowException, UnicodeError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise UserError(
            f"{where} is damaged ({why})", "a whole log, its text in UTF-8", "record it again, or cut the damaged lines"
        ) from None


def options_of(mapping: Path | None) -> dict:
    """What a mapping file says of a power log: power (names, or {name: unit}), time, card, gpu, step. Raises UserError for one that is
    none."""
    if mapping is None:
        return {}
    try:
        said = yaml.safe_load(mapping.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{mapping} cannot be read ({str(error).splitlines()[0]})", "YAML or JSON", "see docs/power-logs.md") from None
    allowed = {"power", "time", "card", "gpu", "step"}
    if not isinstance(said, dict) or set(said) - allowed:
        raise UserError(
            f"{mapping} holds {listed(map(str, said)) if isinstance(said, dict) else 'no mapping'}",
            f"keys among {', '.join(sorted(allowed))}",
        )
    power = said.get("power", [])
    names = [f"{k}:{v}" if v else k for k, v in power.items()] if isinstance(power, dict) else [power] if isinstance(power, str) else power
    return said | {"power": names}


def _source(path: str | Path) -> tuple[Path | bytes, str]:
    """(a plain file, or the content of a compressed one or of standard input; what messages call it)."""
    if str(path) == "-":
        content, where = sys.stdin.buffer.read(), "standard input"
    else:
        path, where = Path(path), str(path)
        if not path.is_file():
            raise UserError(f"no file {path}", "a power log", "check the path")
        with open(path, "rb") as file:
            content = file.read(4)
        if content[:2] != b"\x1f\x8b" and content != b"\x28\xb5\x2f\xfd" and content[:3] != b"BZh":
            return path, where
        content = path.read_bytes()
    packed = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bz2"}.get(content[:2])
    if packed and (packed != "bz2" or content[2:3] == b"h"):
        try:
            content = pa.CompressedInputStream(pa.BufferReader(content), packed).read()
        except OSError as error:
            raise UserError(
                f"{where} cannot be unpacked ({str(error).splitlines()[0]})", f"a whole {packed} file", "copy it again"
            ) from None
    return content, where


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def _text(source: Path | bytes) -> str:
    return (source if isinstance(source, bytes) else source.read_bytes()).decode("utf-8-sig", "replace")


def _not_a_table(head: list[str], source: Path | bytes, where: str) -> tuple[Iterator[Reading], str, str, bool] | None:
    """(readings, kind, advice where they have no time, whether all are power) of a log that is no table; None for a table."""
    first = next(line for line in head if line.strip()).lstrip()
    if first[0] in "{[" and not first.startswith("[N/A"):
        return formats.read_json(_text(source), where), "instant", "log it with time stamps", False
    if found := formats.line_format(head):
        return formats.read_lines(found, _text(source).splitlines()), found.kind, found.advice, True
    if formats.is_influx(head):
        return formats.read_influx(_text(source).splitlines()), "instant", "write the points with their time", False
    if formats.is_prometheus(head):
        return (
            formats.read_prometheus(_text(source).splitlines()),
            "instant",
            "ask Prometheus for a range (query_range): one scrape has no time",
            False,
        )
    return None


def _from_readings(readings: Iterable[Reading], kind: str, advice: str, is_power: bool, where: str, wanted: list[str]) -> PowerLog:
    """The log of single readings: one series a field of power and card."""
    series: dict[tuple[str, str | None], list[Reading]] = {}
    for one in readings:
        series.setdefault((one.field, formats.card_of(one.labels)), []).append(one)
    if not series:
        raise UserError(f"{where} holds no power", "readings of power", "add power to what is logged")
    chosen, others = formats.choose(dict.fromkeys(name for name, _ in series), where, wanted, is_power)
    names = formats.numbered(card for _, card in series)
    found: dict[bool, list[LoggedGpu]] = {True: [], False: []}
    missing, zones, warnings = 0, [], []
    for choice in (*chosen, *others):
        for (name, card), mine in series.items():
            if name != choice.column:
                continue
            if not mine[0].time and not any(one.time for one in mine):
                raise UserError(f"{where} has no time", "readings with their time", advice)
            stamps, _, elapsed = zip(*(one.time.partition("\x00") for one in mine), strict=True)
            t_s, zone = _seconds(pa.array(stamps, pa.string()), None)
            value = _watts(pa.array([one.value for one in mine], pa.string()), choice.scale, where, joules=kind == "energy")
            zones.append(zone)
            good = np.isfinite(t_s) & np.isfinite(value)
            missing += int((~good).sum())
            if card is not None:
                index = names[card]
            elif (is_power and len(series) > 1) or choice in others:
                index = name
            else:
                index = len(found[True]) if choice.index is None else choice.index
            if kind != "instant":
                before = float(elapsed[0]) / 1e3 if elapsed[0] else None
                t_s, value = _held(t_s[good], value[good], 0.0 if kind == "energy" else None, before, kind == "energy")
            else:
                t_s, value = t_s[good], value[good]
            product = next((mine[0].labels[k] for k in formats.PRODUCT_NAMES if mine[0].labels.get(k)), "")
            found[choice in chosen].append(LoggedGpu(index, t_s, value, name=product, boundary=choice.boundary, held=kind != "instant"))
    if missing:
        warnings.append(f"{missing} readings are [N/A] or broken")
    if kind == "instant" and not any(len(g.t_s) for g in found[True]):
        raise UserError(f"power is [N/A] in every reading of {where}", "power readings", "these readings say nothing")
    log = PowerLog(
        _enough(found[True], where),
        listed(c.column for c in chosen),
        zones[0],
        missing,
        warnings,
        tuple(g for g in found[False] if len(g.t_s) > 1),
    )
    return log


def _held(t_s: np.ndarray, value: np.ndarray, zero_s: float | None, first_s: float | None, joules: bool) -> tuple[np.ndarray, np.ndarray]:
    """Means over the time since the reading before (or joules since then) as a curve of steps: each value at both ends of its time."""
    if not len(t_s):
        return t_s, value
    begin_s = zero_s if zero_s is not None else t_s[0] - (first_s or (float(np.median(np.diff(t_s))) if len(t_s) > 1 else 0.0))
    left = np.concatenate([[begin_s], t_s[:-1]])
    if joules:
        value = np.divide(value, t_s - left, out=np.full(len(value), np.nan), where=t_s > left)
    keep = np.isfinite(value) & (t_s > left)
    return np.column_stack([left[keep], t_s[keep]]).ravel(), np.repeat(value[keep], 2)


def _read_parquet(source, where: str) -> PowerLog:
    """Our own samples, long and tidy, one row a reading; read in batches, of which only the power readings are kept."""
    file = parquet.ParquetFile(source)
    if not {"t_s", "device_id", "field", "value"} <= set(file.schema_arrow.names):
        raise UserError(
            f"{where} has columns {listed(file.schema_arrow.names)}", "t_s, device_id, field, value", "pass a CSV or our samples"
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
        raise UserError(f"{where} holds no power readings", f"a field among {', '.join(POWER_FIELDS)}", "take samples of a power meter")
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
    return PowerLog(_enough(found, where), present, "monotonic seconds")


# Tables


@dataclass(frozen=True)
class Layout:
    """Where to find what in a table: names of columns (empty: there is none), how it is cut, and how many lines stand before the first
    reading."""

    delimiter: str
    names: list[str]
    skip: int
    time: list[str]
    chosen: list[Choice]
    others: list[Choice]
    card: list[str]
    host: str = ""
    utilization: str = ""
    product: str = ""
    limit: Choice | None = None
    time_unit: float | None = None
    comma_space: bool = False
    kind: str = "instant"
    only: tuple[str, str] | None = None


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter in (" ", "  "):
        return re.split(r"\s+" if delimiter == " " else r"\s{2,}|\t", line.strip())
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


def _is_value(cell: str) -> bool:
    return cell.strip("[]").lower() in MISSING or any(p.match(cell) for p in (NUMBER, WITH_UNIT, CLOCK, DATE, CARD))


def _layout(head: list[str], where: str, wanted: list[str], time: str, card: str) -> Layout:
    """The layout of a table from its first lines. Raises UserError, with what was found, where time or power cannot be told."""
    rows = [(i, line) for i, line in enumerate(head) if line.strip() and not re.match(r"^sep=.$|^#(group|datatype|default)", line)]
    hashed = [(i, line) for i, line in rows if line.startswith("#")]
    header = next(((i, line) for i, line in hashed if re.search(r"\b(gpu|time|timestamp|entity|pwr|power)\b", line, re.I)), None)
    body = [(i, line) for i, line in rows if not line.startswith("#")]
    if header is None and not body:
        raise UserError(f"{where} holds comments alone", "readings", "check that the logger ran")
    place, first = header or body[0]
    first = first.lstrip("#") if header else first
    delimiter = max(",;\t|", key=first.count)
    if not first.count(delimiter):
        samples = [line for _, line in body[:20] if line != first]
        delimiter = "  " if samples and all(len(_cells(s, "  ")) == len(_cells(first, "  ")) > 1 for s in samples) else " "
    cells = _cells(first, delimiter)
    has_header = bool(header) or not any(_is_value(c) for c in cells if c)
    names = _unique(cells) if has_header else [f"column {i + 1}" for i in range(len(cells))]
    skip = 0 if not has_header else place + 1
    body = [line for i, line in body if i >= skip]
    sample = [row for row in (_cells(line, delimiter) for line in body) if len(row) == len(names)]
    comma_space = False
    if not sample and delimiter == "," and body:
        pieces = [line.split(", ") for line in body]
        if all(len(p) == len(names) for p in pieces) and all(re.search(r"\d,\d", line) for line in body[:3]):
            sample, comma_space = [[c.strip() for c in p] for p in pieces], True
        elif all(re.search(r"\d,\d", line) and len(_cells(line, ",")) > len(names) for line in body[:3]):
            raise UserError(
                f"{where} has decimal commas between columns cut by commas",
                "points, or columns cut by semicolons",
                "record it with LC_ALL=C",
            )
    if not sample:
        raise UserError(f"{where} has a header and no readings", "at least two readings", "check that the logger ran")
    columns = {name: [row[i] for row in sample] for i, name in enumerate(names)}
    shape = _by_name(columns, where, wanted, time, card) if has_header else _by_content(columns, where, wanted, time, card)
    return Layout(delimiter, names, skip, comma_space=comma_space, **shape)


def _unique(names: list[str]) -> list[str]:
    """Names of columns, each once: a second `power` becomes `power (2)`."""
    seen: dict[str, int] = {}
    result = []
    for i, name in enumerate(names):
        name = name or f"column {i + 1}"
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _column(name: str, names: Iterable[str], option: str) -> str:
    """The column that an option names. Raises UserError where there is none."""
    names = list(names)
    fits = [n for n in names if n.strip().lower() == name.strip().lower()] or [n for n in names if plain(n)[0] == plain(name)[0]]
    if len(fits) != 1:
        raise UserError(f"{option} {name} names {len(fits)} columns", f"one of {listed(names)}", "copy the name from the header")
    return fits[0]


def _time_of(columns: dict[str, list[str]], where: str, time: str) -> tuple[list[str], float | None]:
    """(the columns that make up the time, the seconds of its unit if its name says one)."""
    if time:
        name = _column(time, columns, "--time")
        return [name], plain(name)[1]
    known = {}
    for name in columns:
        short, unit = plain(name)
        short = re.sub(r"_(utc|local|unix|epoch|iso|iso8601|posix|stamp)$", "", short)
        known.setdefault(short, (name, unit))
    if {"date", "time"} <= known.keys() and any(CLOCK.match(v) for v in columns[known["time"][0]][:5]):
        return [known["date"][0], known["time"][0]], None
    name, unit = next((known[n] for n in formats.TIME_NAMES if n in known), ("", None))
    if not name:
        raise UserError(
            f"{where} has no time column (found {listed(columns)})",
            "timestamp or seconds",
            "name it with --time, or add timestamp to the query",
        )
    return [name], unit


def _by_name(columns: dict[str, list[str]], where: str, wanted: list[str], time: str, card: str) -> dict:
    """The parts of a layout from the header."""
    short = {plain(n)[0]: n for n in reversed(columns)}
    kind, only = "instant", None
    if {"duration", "emissions", "gpu_energy", "cpu_energy"} <= short.keys():
        return {"time": [short["duration"]], "chosen": [], "others": [], "card": [], "kind": "codecarbon", "time_unit": 1.0}
    if "pkg_watt" in short or "cor_watt" in short or "ramwatt" in {n.lower() for n in columns}:
        kind, cpu = "mean", short.get("cpu")
        only = (cpu, "-") if cpu and "-" in columns[cpu] else None
        if not ({"time_of_day"} & short.keys()) and not time:
            raise UserError(f"{where} is turbostat's and has no time", "Time_Of_Day_Seconds", "turbostat --enable Time_Of_Day_Seconds")
        if cpu and only is None and len(set(columns[cpu])) > 1:
            raise UserError(f"{where} has no summary line", "CPU -", "run turbostat with --Summary")
    if re.fullmatch(r"time(,gpu\d+)+", ",".join(columns).lower()) and not wanted and next(iter(columns)) == "time":
        wanted = list(columns)[1:]  # Zeus writes watts a card under these names
    chosen, others = formats.choose(columns, where, wanted)
    stamps, unit = _time_of(columns, where, time)
    taken = {*stamps, *(c.column for c in (*chosen, *others))}
    cards = [_column(card, columns, "--card")] if card else _card_of(columns, short, taken)
    if any(c.index is not None for c in chosen if c.boundary == "gpu") and not card:
        cards = []
    pick = lambda test: next((n for n in columns if n not in taken and test(n)), "")  # noqa: E731
    utilization = pick(
        lambda n: (
            plain(n)[0] in ("sm", "gpu_util", "gpu_utilization", "utilization", "dcgm_fi_dev_gpu_util")
            or n.lower().startswith("utilization.gpu")
            or re.fullmatch(r"gpu[ _]utilization.*", n.lower())
        )
    )
    limit = pick(lambda n: plain(n)[0].removesuffix("_w") in ("power_limit", "enforced_power_limit", "power_cap", "current_power_limit"))
    product = pick(lambda n: plain(n)[0] in formats.PRODUCT_NAMES)
    host = pick(lambda n: plain(n)[0] in formats.HOST_NAMES)
    limit_of = Choice(limit, "gpu", None, formats.WATTS.get(formats.words(limit)[-1])) if limit else None
    return {"time": stamps, "time_unit": unit, "chosen": chosen, "others": others, "card": cards, "host": host, "utilization": utilization,
            "product": product, "limit": limit_of, "kind": kind, "only": only}  # fmt: skip


def _card_of(columns: dict[str, list[str]], short: dict[str, str], taken: set[str]) -> list[str]:
    """The columns that say which card a line is of, the surest name first; a number has to be one that cards have."""
    for name in formats.CARD_NAMES:
        column = short.get(name)
        if column is None or column in taken:
            continue
        values = {v.strip() for v in columns[column]}
        if all(v.isdigit() and int(v) < 64 for v in values) or all(re.search(r"[A-Za-z]|:", v) for v in values):
            tile = [short[t] for t in ("tile_id", "tile", "gpu_instance_id") if t in short and short[t] != column]
            return [column, *tile[:1]]
    return []


def _by_content(columns: dict[str, list[str]], where: str, wanted: list[str], time: str, card: str) -> dict:
    """The parts of a layout without a header: by stamps, units and UUIDs, and else by the place in two columns."""
    names = list(columns)
    stamp = time or next((n for n in names if all(DATE.match(v) or CLOCK.match(v) for v in columns[n])), None)
    cards = card or next((n for n in names if all(CARD.match(v) for v in columns[n])), None)
    powers = wanted or [n for n in names if any(WITH_UNIT.match(v) and not NUMBER.match(v) for v in columns[n])][:1]
    rest = [n for n in names if n not in (stamp, cards, *powers) and any(NUMBER.match(v) for v in columns[n])]
    if stamp is None and rest and len(names) >= 2:
        stamp = rest.pop(0)
    if cards is None and (powers or len(rest) > 1):
        cards = next((n for n in rest if all(v.isdigit() and int(v) < 64 for v in columns[n])), None)
        rest = [n for n in rest if n != cards]
    if not powers:
        if len(rest) > 1:
            raise UserError(
                f"{where} has no header and {len(rest)} columns that may be power",
                "one",
                "record it with its header, or name it with --power",
            )
        powers = rest[:1]
    if not powers or stamp is None:
        missing = "power" if not powers else "time"
        raise UserError(f"{where} has no {missing} column (found {listed(names)})", "a power log", "record it with its header")
    chosen = [
        Choice(c.column, "gpu", None if len(powers) == 1 else i, c.scale)
        for i, c in enumerate(formats.choose(names, where, list(powers))[0])
    ]
    return {"time": [stamp], "chosen": chosen, "others": [], "card": [cards] if cards else []}


def _read_table(head: list[str], source: Path | bytes, where: str, gpus: int | None, wanted: list[str], time: str, card: str) -> PowerLog:
    long = _long_columns(head)
    if long and not wanted:
        return _from_readings(_read_long(_text(source), *long), "instant", "log it with time stamps", False, where, wanted)
    shape = _layout(head, where, wanted, time, card)
    if shape.kind == "codecarbon":
        return _read_codecarbon(_text(source), where)
    table = _Table(shape, where)
    for block in _blocks(source, shape, where, table):
        table.take(block)
    return table.log(gpus)


class _Table:
    """A table as it is read block by block: text becomes numbers at once, so that a long log is in memory once."""

    def __init__(self, shape: Layout, where: str):
        self.shape, self.where, self.zone, self.dropped, self.cells_say = shape, where, "", 0, False
        self.t_s: list[np.ndarray] = []
        self.values: dict[str, list[np.ndarray]] = {}
        self.codes: list[np.ndarray] = []
        self.names: dict[str, int] = {}
        self.products: dict[int, str] = {}

    def take(self, block: dict[str, pa.Array]) -> None:
        """Add the columns of a block."""
        s = self.shape
        if s.only:
            wanted = pc.equal(pc.utf8_trim_whitespace(block[s.only[0]]), s.only[1])
            block = {name: column.filter(wanted) for name, column in block.items()}
        text = (
            block[s.time[0]] if len(s.time) == 1 else pc.binary_join_element_wise(*(pc.utf8_trim_whitespace(block[c]) for c in s.time), " ")
        )
        t_s, self.zone = _seconds(text, s.time_unit)
        if np.isnan(t_s).any():  # headers that are printed again, as dmon does, are no broken lines
            again = pc.or_(pc.starts_with(text, "#"), pc.equal(pc.utf8_trim_whitespace(block[s.time[0]]), s.time[0])).to_numpy(
                zero_copy_only=False
            )
            if again.any():
                block, t_s = {name: column.filter(pa.array(~again)) for name, column in block.items()}, t_s[~again]
        self.t_s.append(t_s)
        self.cells_say = self.cells_say or any(
            block[c.column][0].as_py().strip()[-1:] in ("W", "w") for c in s.chosen if len(block[c.column])
        )
        for choice in (*s.chosen, *s.others, *([s.limit] if s.limit else [])):
            self.values.setdefault(choice.column, []).append(_watts(block[choice.column], choice.scale, self.where))
        if s.utilization:
            self.values.setdefault(s.utilization, []).append(_numbers(block[s.utilization]))
        if s.card:
            names = [pc.utf8_trim_whitespace(block[c]) for c in (*([s.host] if s.host else []), *s.card)]
            codes = _codes(names[0] if len(names) == 1 else pc.binary_join_element_wise(*names, " "), self.names)
            self.codes.append(codes)
        if s.product:
            for code in np.unique(self.codes[-1]) if s.card else [0]:
                row = int(np.argmax(self.codes[-1] == code)) if s.card else 0
                self.products.setdefault(int(code), block[s.product][row].as_py().strip())

    def log(self, gpus: int | None) -> PowerLog:
        """The log, when all blocks are in."""
        s, where = self.shape, self.where
        if not self.t_s:
            raise UserError(f"{where} has no readings", "a power log", "check that the logger ran")
        t_s, values = _joined(self.t_s), {name: _joined(parts) for name, parts in self.values.items()}
        card = _joined(self.codes) if self.codes else None
        header_again = np.isnan(t_s) & np.logical_and.reduce([np.isnan(values[c.column]) for c in s.chosen])
        if header_again.any():
            self.dropped += int(header_again.sum())
            t_s, card = t_s[~header_again], None if card is None else card[~header_again]
            values = {name: v[~header_again] for name, v in values.items()}
        warnings = [f"{self.dropped} line(s) were broken or cut off at the end and left out"] if self.dropped else []
        if self.zone == "time of day":
            t_s = _unwrap_days(t_s)
        bad_time = np.isnan(t_s)
        missing = int(np.logical_or.reduce([np.isnan(values[c.column]) | bad_time for c in s.chosen]).sum())
        if missing == len(t_s) and not any(np.isfinite(values[c.column] + t_s).any() for c in s.chosen):
            raise UserError(
                f"power is [N/A] in every line of {where}", "power readings", "take another column with --power, or another meter"
            )
        if missing:
            warnings.append(f"{missing} of {len(t_s)} readings are [N/A]")
        labels = formats.numbered(self.names) if card is not None else {}
        names = [labels[n] for n in self.names]
        if card is None and len(s.chosen) == 1 and s.chosen[0].index is None and s.kind == "instant":
            card = _turns(t_s, gpus, where, warnings)
            names = list(range(int(card.max()) + 1))
        elif gpus is not None and gpus != (found := max(len(names), len(s.chosen))):
            raise UserError(f"{where} names {found} cards and --gpus says {gpus}", "the same number", "leave --gpus out")
        if (
            card is not None
            and self.names
            and all(isinstance(n, int) for n in names)
            and plain(s.card[0])[0] in ("gpu", "device", "card", "id")
        ):
            counts = np.bincount(card[card >= 0])
            if len(counts) > 1 and counts.max() > 3 * counts.min():
                raise UserError(
                    f"column {s.card[0]} of {where} has values {listed(map(str, names))}, not equally often",
                    "numbers of cards",
                    "say which column names the card: --card COLUMN",
                )
        found = [g for i, c in enumerate(s.chosen) for g in self._series(c, i, t_s, values, card, names, c.boundary == "gpu")]
        silent = [str(g.index) for g in found if not len(g.t_s)]
        if silent and len(silent) < len(found):
            warnings.append(f"no reading of GPU {', '.join(silent)}: its energy is not in the sum")
        others = [g for c in s.others for g in self._series(c, c.column, t_s, values, card, names, False)]
        return PowerLog(
            _enough(found, where),
            listed(c.column for c in s.chosen),
            self.zone,
            missing,
            warnings,
            tuple(g for g in others if len(g.t_s) > 1),
        )

    def _series(self, choice: Choice, place, t_s, values, card, names, by_card: bool) -> Iterator[LoggedGpu]:
        """The readings of a column, one series a card where lines are of cards; of another device those of the first card's lines."""
        s, power_w = self.shape, values[choice.column]
        good = np.isfinite(power_w) & np.isfinite(t_s)
        used = values.get(s.utilization)
        limit = values[s.limit.column] if s.limit else None
        for code in range(len(names) if by_card and card is not None else 1):
            mine = good if card is None else good & (card == code)
            mine = slice(None) if mine.all() else mine
            index = names[code] if by_card and card is not None else place if choice.index is None else choice.index
            busy = used[mine] if used is not None and np.isfinite(used[mine]).any() else None
            t, p = t_s[mine], power_w[mine]
            if s.kind == "mean":
                t, p = _held(t, p, None, None, False)
            top = None if limit is None or not np.isfinite(limit[mine]).any() else float(np.nanmax(limit[mine]))
            highest, unused = (None, None) if busy is None else (float(np.nanmax(busy)), float(np.mean(np.nan_to_num(busy) == 0)))
            name = self.products.get(code if s.card else 0, "")
            yield LoggedGpu(
                index, t, p, highest, unused, name, top, choice.boundary, s.kind == "mean", choice.scale is not None or self.cells_say
            )


def _blocks(source: Path | bytes, shape: Layout, where: str, table: _Table) -> Iterator[dict[str, pa.Array]]:
    """The needed columns of a table, block by block, as text; `table.dropped` counts the lines that are none."""
    wanted = [*shape.time, *(c.column for c in (*shape.chosen, *shape.others)), *shape.card, shape.host, shape.utilization, shape.product]
    wanted = list(dict.fromkeys(c for c in (*wanted, shape.limit.column if shape.limit else "", shape.only[0] if shape.only else "") if c))
    if shape.delimiter in (" ", "  "):
        lines = _text(source).splitlines()[shape.skip :]
        rows = [
            r for r in (_cells(line, shape.delimiter) for line in lines if line.strip() and not line.startswith("#")) if r != shape.names
        ]
        whole = [r for r in rows if len(r) == len(shape.names)]
        table.dropped += sum(len(r) != len(shape.names) for r in rows)
        if whole:
            yield {c: pa.array([r[shape.names.index(c)] for r in whole], pa.string()) for c in wanted}
        return
    if shape.comma_space:
        source = re.sub(rb"(?<=\d),(?=\d)", b".", source if isinstance(source, bytes) else source.read_bytes())
    whole, table.dropped = _whole_lines(source, where)
    read = arrow_csv.ReadOptions(column_names=shape.names, skip_rows=shape.skip, block_size=BLOCK_BYTES)
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted, strings_can_be_null=False, check_utf8=False
    )
    parse = arrow_csv.ParseOptions(delimiter=shape.delimiter)
    begun = False
    try:
        for block in arrow_csv.open_csv(whole if not isinstance(whole, bytes) else pa.BufferReader(whole), read, parse, convert):
            begun = True
            yield {c: block[c] for c in wanted}
        return
    except pa.ArrowInvalid:
        if begun:
            _restart(table)
    content = source if isinstance(source, bytes) else source.read_bytes()
    kept, dropped = _lines_with(content, shape)
    table.dropped = dropped
    read = arrow_csv.ReadOptions(column_names=shape.names, block_size=BLOCK_BYTES)
    for block in arrow_csv.open_csv(pa.BufferReader(kept), read, parse, convert):
        yield {c: block[c] for c in wanted}


def _restart(table: _Table) -> None:
    """Forget the blocks taken so far: a line further on has too few or too many cells, so the file is read again without such lines."""
    table.t_s.clear(), table.codes.clear(), table.values.clear(), table.names.clear(), table.products.clear()


def _lines_with(content: bytes, shape: Layout) -> tuple[bytes, int]:
    """(the lines after the header that have all cells, how many have not)."""
    cut = shape.delimiter.encode()
    lines = content.split(b"\n")[shape.skip : -1]
    kept, dropped = [], 0 if content.endswith(b"\n") else 1
    for line in lines:
        if line.count(cut) == len(shape.names) - 1 or (
            b'"' in line and len(_cells(line.decode("utf-8", "replace"), shape.delimiter)) == len(shape.names)
        ):
            kept.append(line)
        else:
            dropped += bool(line.strip())
    if not kept:
        raise UserError("no line of the log has all columns of its header", "whole lines", "record it again")
    return b"\n".join(kept) + b"\n", dropped


def _whole_lines(source: Path | bytes, where: str) -> tuple[Path | bytes, int]:
    """(the source, 0), or (its whole lines, 1) where the last line has no end and may be cut off: half a number is still a number."""
    if isinstance(source, Path):
        with open(source, "rb") as file:
            file.seek(-1, 2)
            if file.read() == b"\n":
                return source, 0
        source = source.read_bytes()
    if source.endswith(b"\n"):
        return source, 0
    cut = source.rfind(b"\n")
    if cut < 0:
        raise UserError(f"{where} has one line that was cut off", "at least two readings", "log for longer")
    return source[: cut + 1], 1


def _long_columns(head: list[str]) -> tuple[str, str, str, str] | None:
    """(delimiter, columns of time, of the name of what was read, of its value) of a table with one value a line; None for another."""
    line = next((x for x in head if x.strip() and not x.startswith("#")), "")
    delimiter = max(",;\t", key=line.count)
    short = {plain(n)[0] if not n.startswith("_") else n: n for n in _cells(line, delimiter)}
    named = next((short[n] for n in ("_field", "metric", "field", "series", "metric_name", "variable") if n in short), None)
    value = next((short[n] for n in ("_value", "value") if n in short), None)
    time = next((short[n] for n in formats.TIME_NAMES if n in short), None)
    return (delimiter, time, named, value) if named and value and time else None


def _read_long(text: str, delimiter: str, time: str, named: str, value: str) -> Iterator[Reading]:
    """The readings of a table with one value a line, as InfluxDB's annotated CSV has them; a repeated header begins anew."""
    header: list[str] = []
    for line in text.splitlines():
        cells = _cells(line, delimiter) if line.strip() and not line.startswith("#") else []
        if named in cells and value in cells:
            header = cells
        elif header and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            metric, labels = formats.labels_of(row[named])
            rest = {plain(k)[0]: v for k, v in row.items() if k not in (time, named, value) and k}
            yield Reading(row[time], metric or row[named], row[value], labels or rest)


def _read_codecarbon(text: str, where: str) -> PowerLog:
    """CodeCarbon's emissions.csv: one run, whose rows are cumulative energies [kWh] after `duration` seconds."""
    table = pd.read_csv(io.StringIO(text))
    if "run_id" in table and table["run_id"].nunique() > 1:
        raise UserError(
            f"{where} holds {table['run_id'].nunique()} runs of CodeCarbon", "one run", "import them: eai import --format codecarbon"
        )
    table = table.sort_values("duration")
    t_s = np.concatenate([[0.0], table["duration"].to_numpy(float)])
    found, others = [], []
    for column, boundary in (("gpu_energy", "gpu"), ("cpu_energy", "cpu_package"), ("ram_energy", "dram")):
        joules = np.diff(np.concatenate([[0.0], table[column].to_numpy(float) * 3.6e6])) if column in table else np.empty(0)
        if np.nansum(joules) > 0:
            power = joules / np.diff(t_s)
            one = LoggedGpu(
                0 if boundary == "gpu" else column,
                *_held(t_s[1:], power, 0.0, None, False),
                name=_one_of(table, "gpu_model"),
                boundary=boundary,
                held=True,
            )
            (found if not found else others).append(one)
    if not found:
        raise UserError(f"{where} holds no energy", "gpu_energy or cpu_energy", "check that CodeCarbon saw the device")
    warnings = ["CodeCarbon reads the GPU; its CPU and memory may be estimates from constants (see cpu_power, ram_power)"]
    return PowerLog(
        tuple(found), "gpu_energy" if found[0].boundary == "gpu" else "cpu_energy", "seconds of the run", 0, warnings, tuple(others)
    )


def _one_of(table: pd.DataFrame, column: str) -> str:
    """The product of a column such as `2 x NVIDIA A100`, empty where there are several cards of it."""
    text = str(table[column].iloc[0]) if column in table else ""
    count, _, name = text.partition(" x ")
    return name if count == "1" else ""


def _enough(found: list[LoggedGpu], where: str) -> tuple[LoggedGpu, ...]:
    found = [g for g in found if len(g.t_s)] or found
    short = [g for g in found if len(g.t_s) < 2]
    if short or not found:
        which = f" of GPU {short[0].index}" if short and len(found) > 1 else ""
        raise UserError(f"{where} has {len(short[0].t_s) if short else 0} reading(s){which}", "at least two", "log for longer")
    return tuple(found)


def _turns(t_s: np.ndarray, gpus: int | None, where: str, warnings: list[str]) -> np.ndarray:
    """Which card each line belongs to when none says, or -1: by its place in a burst of stamps; one card where there are no bursts.

    Cards that take turns are read one right after the other, so the stamps come in bursts, and the bursts tell how many cards there are.
    `gpus` is held against them. A burst that lacks a line is left out: nobody knows which card's it was.
    """
    one = np.zeros(len(t_s), dtype=np.int16)
    steps = np.diff(t_s)
    forward = steps[steps >= 0]
    long_s = 0.2 * float(np.quantile(forward, 0.95)) if len(forward) >= 3 else 0.0
    bursts = len(forward) >= 3 and long_s > 0 and float(np.mean(forward < long_s)) > BURST_SHARE
    if not bursts:
        if gpus is not None and gpus > 1:
            raise UserError(
                f"the stamps of {where} come one by one, as of one card, and --gpus says {gpus}",
                f"bursts of {gpus}",
                "leave --gpus out, or add index to the query",
            )
        return one
    begins = np.concatenate([[True], ~((steps >= 0) & (steps < long_s))])
    sizes = np.diff(np.append(np.flatnonzero(begins), len(t_s)))
    usual = int(np.bincount(sizes).argmax())
    share = float(np.mean(sizes == usual))
    coarse = bool(np.all(t_s == np.round(t_s)))
    if gpus is None:
        raise UserError(
            f"the stamps of {where} come in bursts of {usual}, as of several GPUs without an index column",
            "one card, or an index or uuid column",
            f"pass --gpus {usual} (or 1 if it is one card), or add index to the query",
        )
    if gpus == 1:
        if coarse or share < WHOLE_ROUNDS:
            return one
        raise UserError(
            f"the stamps of {where} come in bursts of {usual} and --gpus says 1",
            f"{usual} cards",
            f"pass --gpus {usual}, or add index to the query",
        )
    if gpus != usual or share < 0.5:
        raise UserError(
            f"the stamps of {where} come in bursts of {usual} and --gpus says {gpus}",
            "the number of cards in the log",
            "add index to the query",
        )
    whole = np.repeat(sizes == gpus, sizes)
    if not whole.all():
        warnings.append(f"{int(np.sum(sizes != gpus))} rounds have no line of some card and are left out: whose is missing is not known")
    place = np.arange(len(t_s)) - np.repeat(np.flatnonzero(begins), sizes)
    return np.where(whole, place, -1).astype(np.int16)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """The parts as one array; the list is emptied, so that a long log is in memory once."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return whole


# Cells


def _numbers(column: pa.Array) -> np.ndarray:
    """Floats of a column of text with or without a unit; NaN for [N/A], inf and anything that is no number."""
    text = pc.utf8_trim_whitespace(column)
    if not all(NUMBER.match(v) for v in text[:50].to_pylist()):
        text = pc.ascii_rtrim(text, " mkuWwats%J")
    try:
        numbers = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        text = _with_points(text)
        text = pc.if_else(pc.match_substring_regex(text, r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"), text, None)
        numbers = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False).astype(float)
    return np.where(np.isfinite(numbers), numbers, np.nan) if not np.isfinite(numbers).all() else numbers


def _with_points(text: pa.Array) -> pa.Array:
    """Numbers with decimal points. A comma is one too; where it may also part thousands (1,234) nothing is assumed.

    Raises UserError for numbers that can be read in two ways.
    """
    commas = [v for v in text[:2000].to_pylist() if v and re.fullmatch(r"[-+]?\d[\d.,]*", v) and "," in v]
    if not commas:
        return text
    if all("." in v and v.rindex(".") > v.rindex(",") for v in commas if "." in v) and any("." in v for v in commas):
        return pc.replace_substring(text, ",", "")
    if any(v.count(",") > 1 for v in commas):
        return pc.replace_substring(text, ",", "")
    if all(re.fullmatch(r"[-+]?\d{1,3},\d{3}", v) for v in commas) and max(float(v.replace(",", "")) for v in commas) < 20_000:
        raise UserError(
            f"{commas[0]} may be {commas[0].replace(',', '.')} or {commas[0].replace(',', '')}",
            "a decimal point",
            "record it with LC_ALL=C",
        )
    return pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")


def _watts(column: pa.Array, scale: float | None, where: str, joules: bool = False) -> np.ndarray:
    """Watts (or joules) of a column: a unit in its cells goes before the one in its name."""
    if joules:
        return _numbers(column)
    text = pc.utf8_trim_whitespace(column)
    first = text[:50].to_pylist()
    units = {m[1].lower() for v in first if v and (m := re.search(r"\d ?([mkuµ]?[wW])(?:atts?)?$", v))}
    if not units and not any(v and v[-1:] in "Ww" for v in first):
        return _numbers(text) * (scale or 1.0)
    ends = {u: pc.match_substring_regex(text, rf"(?i)\d ?{u}(atts?)?$") for u in ("mw", "kw", "uw", "µw")} if units != {"w"} or pc.any(
        pc.match_substring_regex(text, r"[mkuµ][Ww]")
    ).as_py() else {}  # fmt: skip
    numbers = _numbers(text)
    for unit, mask in ends.items():
        numbers = np.where(mask.to_numpy(zero_copy_only=False), numbers * formats.WATTS[unit], numbers)
    return numbers


def _codes(column: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Small integers for the cards' names, in the order in which they first appear."""
    encoded = pc.dictionary_encode(pc.utf8_trim_whitespace(column))
    table = np.array([names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int16)
    return table[encoded.indices.to_numpy()]


def _seconds(column: pa.Array, unit_s: float | None) -> tuple[np.ndarray, str]:
    """Seconds of a time column and how it was understood: numbers, time of day, stamps with a zone, or local stamps."""
    text = pc.utf8_trim_whitespace(column)
    first = next((v for v in text[:50].to_pylist() if v and v.strip("[]").lower() not in MISSING), "")
    if NUMBER.match(first):
        number = float(first.replace(",", "."))
        scale = unit_s or (1e-9 if number > 1e17 else 1e-6 if number > 1e14 else 1e-3 if number > 1e11 else 1.0)
        return _numbers(text) * scale, "seconds"
    if CLOCK.match(first):
        parts = pc.split_pattern(pc.replace_substring(text, ",", "."), ":")
        whole = pc.equal(pc.list_value_length(parts), 3)
        if not pc.all(whole).as_py():
            parts = pc.split_pattern(pc.if_else(whole, pc.replace_substring(text, ",", "."), "x:x:x"), ":")
        hours, minutes, seconds = (_numbers(pc.list_element(parts, i)) for i in range(3))
        return hours * 3600 + minutes * 60 + seconds, "time of day"
    text = pc.replace_substring(text, "/", "-") if re.match(r"\d{4}/", first) else text
    text = pc.replace_substring(text, ",", ".") if re.search(r":\d\d,\d+", first) else text
    zoned = bool(re.search(r"(Z|[+-]\d\d:?\d\d)( \d{4})?$|UTC|GMT", first)) and not re.match(r"\d\d-\d\d-\d{4}", first)
    kind = pa.timestamp("us", tz="UTC") if zoned else pa.timestamp("us")
    note = ""
    try:
        stamps = pc.cast(text, kind)
    except pa.ArrowInvalid:
        stamps, note = _any_stamps(text.to_pandas(), first, zoned)
        stamps = pa.array(stamps, type=kind)
    micros = pc.cast(stamps, pa.int64()).to_numpy(zero_copy_only=False).astype(float)
    if zoned:
        return micros / 1e6, "stamps with a time zone"
    known = micros[~np.isnan(micros)]
    offset_s = _local_offset_s(known[0] / 1e6) if len(known) else 0.0
    return micros / 1e6 - offset_s, f"local stamps, read as UTC{offset_s / 3600:+g} h{note}"


def _any_stamps(text: pd.Series, first: str, zoned: bool) -> tuple[pd.Series, str]:
    """(stamps in one of the known notations, a note where day and month could be exchanged)."""
    if re.match(r"\d{1,2}/\d{1,2}/\d{4}", first):
        for both in EITHER:
            month, day = (pd.to_datetime(text, format=f, errors="coerce") for f in both)
            if month.notna().sum() or day.notna().sum():
                least = min((month, day), key=lambda s: (s.isna().sum(), (s.max() - s.min())))
                return least, ", month and day as they fit" if month.notna().all() and day.notna().all() else ""
    named = text.str.replace(r"\b[A-Z]{3,4}\b(?= \d{4}$)", "UTC", regex=True) if zoned is False else text
    for form in STAMPS:
        found = pd.to_datetime(named, format=form, errors="coerce")
        if found.notna().mean() > 0.5:
            return (
                found.dt.tz_convert("UTC")
                if zoned and found.dt.tz is not None
                else found.dt.tz_localize(None)
                if found.dt.tz is not None
                else found
            ), ""
    return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=zoned), ""


def _local_offset_s(naive_s: float) -> float:
    """This machine's offset from UTC [s] at a local time given as if it were UTC."""
    naive = datetime(1970, 1, 1) + timedelta(seconds=float(naive_s))
    return naive.astimezone().utcoffset().total_seconds()


def _unwrap_days(t_s: np.ndarray) -> np.ndarray:
    """Times of day that run on past midnight."""
    jumps = np.concatenate([[0], np.nan_to_num(np.diff(t_s))])
    return t_s + DAY_S * np.cumsum(jumps < -DAY_S / 2)
