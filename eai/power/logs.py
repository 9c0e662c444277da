"""Power logs that others recorded, in the formats of `eai.power.formats`, as readings by device.

Delimited tables of any length are read by Arrow in blocks; what is no table is read line by line. No Python function is handed to Arrow: a
thread of it would free the function while the interpreter ends, which aborts the process.
"""

import csv
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from eai.errors import UserError
from eai.power import formats
from eai.power.formats import Choice, Reading, listed, plain

BLOCK_BYTES, HEAD_BYTES = 1 << 22, 1 << 17
DAY_S = 86400.0
BURST_SHARE, WHOLE_ROUNDS = 0.25, 0.9
FALLS, FEWEST = 0.01, 5
POWER_FIELDS = ("power_instant_w", "power_usage_w", "power_average_w")
MISSING = {"", "-", "--", "n/a", "na", "nan", "none", "null", "not supported", "unknown error", "gpu requires reset", "err!", "unknown"}
MISSING |= {"insufficient permissions", "no permission", "undefined", "inf", "+inf", "-inf", "unavailable"}
NUMBER = re.compile(r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?$")
WITH_UNIT = re.compile(r"^[-+]?\d+([.,]\d*)? ?[mkuµ]?[wW](atts?)?$")
CLOCK = re.compile(r"^\d{1,2}:\d{2}:\d{2}([.,]\d+)?$")
DATE = re.compile(
    r"^\d{4}[-/]?\d{2}[-/]?\d{2}[ T]\d{1,2}:\d{2}|^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}[ T,]|^\w{3},? +\w{3} +\d+ [\d:]+ |^\w{3} \d+, \d{4}"
)
CARD = re.compile(r"^(GPU-)?[0-9a-fA-F-]{36}$|^GPU-\w+|^[0-9a-fA-F]{8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d$")
PLAIN = r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"
STAMPS = (
    "%Y%m%d %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S.%f", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %Y %z",
    "%a %b %d %H:%M:%S %Z %Y", "%b %d, %Y @ %H:%M:%S.%f", "%a %d %b %H:%M:%S %Z %Y", "%a %d %b %Y %H:%M:%S %Z",
    "%a %b %d %I:%M:%S %p %Z %Y", "%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S",
)  # fmt: skip
"""Stamps beside ISO 8601 and nvidia-smi's YYYY/MM/DD: dmon, tegrastats, PTDaemon, ctime and date in two zones' orders, Kibana, German."""

EITHER = [(f"%m/%d/%Y {clock}", f"%d/%m/%Y {clock}") for clock in ("%H:%M:%S", "%I:%M:%S %p", "%H:%M")]
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


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
    """A log's devices and what was noticed while reading it. `zone` says how its stamps were understood; `missing` counts [N/A]. `gpus` are
    what the log is about; `others` have power columns too, and are in no sum. `assumed`: nothing says that it is a GPU's power."""

    gpus: tuple[LoggedGpu, ...]
    power_name: str
    zone: str
    missing: int = 0
    warnings: list[str] = field(default_factory=list)
    others: tuple[LoggedGpu, ...] = ()
    assumed: bool = False


def read_log(path: str | Path, gpus: int | None = None, power: str | list[str] = "", time: str = "", card: str = "") -> PowerLog:
    """The readings of a power log by device; `-` is standard input, gzip, zstd and bz2 are unpacked.

    `gpus`: how many cards take turns in a log without an index column. `power`: the columns of power, as NAME or NAME:UNIT separated by
    commas, patterns (`gpu*`) or expressions (`eai.expressions`); `time` and `card` likewise name columns. Raises UserError for what cannot
    be integrated: no file, no power or time, several columns that could be it, fewer than two readings, cards that cannot be separated.
    """
    if gpus is not None and gpus < 1:
        raise UserError(f"--gpus {gpus}", "a positive number", "say how many cards the log holds")
    wanted = next(csv.reader([power], skipinitialspace=True), []) if isinstance(power, str) else list(power)
    source, where = _source(path)
    try:
        start = _content(source, HEAD_BYTES)
        if start[:4] == b"PAR1":
            return _read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source, where)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            source = _content(source).decode("utf-16", "replace").encode()
        if formats.is_plist(start):
            return _from_readings(formats.read_plist(_content(source), where), "mean", "log it with time stamps", True, where, wanted)
        head = _head(source)
        if not any(line.strip() for line in head):
            example = "nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100 -f LOG"
            raise UserError(f"{where} is empty", "a power log", f"record one: {example}")
        first = next(line for line in head if line.strip()).lstrip()
        is_json = first[0] in "{[" and not first.startswith("[N/A")
        if is_json and (wanted or time or card):  # rows whose columns somebody names: a table like any other
            source, is_json = formats.json_as_csv(_text(source), where).encode(), False
            head = _head(source)
        if readings := formats.not_a_table(head, is_json, lambda: _text(source), where):
            if time or card:
                raise UserError(f"{where} is {readings[1]}", "no --time or --card: its lines say both", "leave them out")
            return _from_readings(readings[0], *readings[2:], where, wanted)
        if stamped := formats.with_stamps(head, lambda: _text(source).splitlines()):
            source = "\n".join(stamped).encode() + b"\n"
            head = _head(source)
        line = next((x for x in head if x.strip() and not x.startswith("#")), "")
        delimiter = max(",;\t", key=line.count)
        short = {plain(n)[0] if not n.startswith("_") else n: n for n in _cells(line, delimiter)}
        kinds = (formats.TIME_NAMES, formats.LONG_NAMES, formats.LONG_VALUES)
        long = [next((short[n] for n in names if n in short), None) for names in kinds]  # of a table with one value a line
        if all(long) and not wanted:
            return _from_readings(_read_long(_text(source), delimiter, *long), "instant", "log it with time stamps", False, where, wanted)
        shape = _layout(head, where, wanted, time, card)
        return (
            _read_codecarbon(_text(source), shape.delimiter, where)
            if shape.kind == "codecarbon"
            else _Table(shape, source, where).log(gpus)
        )
    except (pa.ArrowException, OSError, UnicodeError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        do = "record it again, or cut the damaged lines"
        raise UserError(f"{where} is damaged ({why})", "a whole log, its text in UTF-8", do) from None


OURS = {"power": ("power", "power_w"), "time": ("time", "time_s", "timestamp"), "card": ("card", "gpu_index", "device_id"),
        "gpu": ("gpu",), "step": ("step", "step_s", "step_time_s")}  # fmt: skip
"""What a mapping may call the options of `trace`."""

LANGUAGE = "source energies columns constants units options values block failed passed baseline ignore rows fill_down split match"
LANGUAGE += " same_machine notes check"


def options_of(mapping: Path | None) -> dict:
    """What a mapping file of `import` and `check` says of a power log, in `columns`, `units` and `constants` or at its top: power, time,
    card, gpu, step. Raises UserError for one that is none, or names no power."""
    if mapping is None:
        return {}
    from eai.expressions import nearest, read_document

    document, known = read_document(mapping), [*OURS, *LANGUAGE.split()]
    if not isinstance(document, dict) or (wrong := [k for k in map(str, document) if k not in known]):
        found = f"a key {wrong[0]}{nearest(wrong[0], known)}" if isinstance(document, dict) else "no mapping"
        raise UserError(f"{mapping} has {found}", f"keys among {', '.join(OURS)}, columns, units, constants", "see docs/power-logs.md")
    parts = [{k: v for k, v in document.items() if k in OURS}, document.get("columns") or {}, document.get("constants") or {}]
    if not all(isinstance(p, dict) for p in parts):
        raise UserError(f"columns or constants of {mapping} hold no pairs", "our name: theirs, for instance power_w: watts")
    said = {ours: part[n] for part in reversed(parts) for ours, names in OURS.items() for n in names if n in part}
    units, power = document.get("units") or {}, said.get("power", [])
    unit = next((units[n] for n in OURS["power"] if n in units), "")
    pairs = power.items() if isinstance(power, dict) else [(p, unit) for p in ([power] if isinstance(power, str) else power)]
    said["power"] = [f"{name}:{its}" if its else str(name) for name, its in pairs]
    if document.get("energies") and not said["power"]:
        raise UserError(f"{mapping} maps energies and no power", "columns: {power_w: ..., time_s: ...}", "see docs/power-logs.md")
    if unit and str(unit).lower() not in formats.WATTS:
        raise UserError(f"units of {mapping}: power_w in {unit}", "W, mW, kW or uW")
    return said


def _source(path: str | Path) -> tuple[Path | bytes, str]:
    """(a plain file, or the content of a compressed one or of standard input; what messages call it)."""
    if str(path) == "-":
        source, where = sys.stdin.buffer.read(), "standard input"
    elif (source := Path(path)).is_file():
        where = str(source)
    else:
        raise UserError(f"no file {source}", "a power log", "check the path")
    start = _content(source, 4)
    packed = next((name for magic, name in PACKED.items() if start.startswith(magic)), "")
    try:
        return pa.CompressedInputStream(pa.BufferReader(_content(source)), packed).read() if packed else source, where
    except OSError as error:
        raise UserError(f"{where} cannot be unpacked ({str(error).splitlines()[0]})", f"a whole {packed} file", "copy it again") from None


def _content(source: Path | bytes, most: int | None = None) -> bytes:
    if isinstance(source, bytes):
        return source[:most]
    with open(source, "rb") as file:
        return file.read(most)


def _text(source: Path | bytes) -> str:
    return _content(source).decode("utf-8-sig", "replace")


def _head(source: Path | bytes) -> list[str]:
    """The first lines, without one that the head cuts off."""
    start = _content(source, HEAD_BYTES)
    lines = start.decode("utf-8-sig", "replace").splitlines()
    return (lines[:-1] if len(start) == HEAD_BYTES and len(lines) > 1 else lines)[:400]


def _from_readings(readings: Iterable[Reading], kind: str, advice: str, is_power: bool, where: str, wanted: list[str]) -> PowerLog:
    """The log of single readings: one series a field of power and card. `kind` as in `formats.LineFormat`."""
    series: dict[tuple[str, str | None], list[Reading]] = {}
    for one in readings:
        series.setdefault((one.field, formats.card_of(one.labels)), []).append(one)
    if not series:
        raise UserError(f"{where} holds no power", "readings of power", "add power to what is logged")
    chosen, others = formats.choose(dict.fromkeys(name for name, _ in series), where, wanted, is_power)
    names = formats.numbered(card for _, card in series)
    gpus, rest, missing, zones, joules = [], [], 0, [], kind == "energy"
    for choice in (*chosen, *others):
        found = rest if choice in others else gpus
        for card, mine in [(card, mine) for (name, card), mine in series.items() if name == choice.column]:
            if not any(one.time for one in mine):
                raise UserError(f"{where} has no time", "readings with their time", advice)
            t_s, zone = _seconds(pa.array([one.time for one in mine], pa.string()), None)
            text = pa.array([one.value for one in mine], pa.string())
            value = _numbers(text) if joules else _watts(text, choice.scale)
            good = _readable(t_s, mine[0].time, where) & np.isfinite(value)
            missing += int((~good).sum())
            zones.append(zone)
            several = (is_power and len(series) > 1) or choice in others
            index = choice.column if several else len(gpus) if choice.index is None else choice.index
            t_s, value = t_s[good], value[good]
            if kind != "instant":
                before_s = float(mine[0].elapsed_ms) / 1e3 if mine[0].elapsed_ms else None
                t_s, value = _held(t_s, value, 0.0 if joules else None, before_s, joules)
            product = next((mine[0].labels[k] for k in formats.PRODUCT_NAMES if mine[0].labels.get(k)), "")
            index = index if card is None else names[card]
            found.append(LoggedGpu(index, t_s, value, name=product, boundary=choice.boundary, held=kind != "instant"))
    if kind == "instant" and not any(len(g.t_s) for g in gpus):
        raise UserError(f"power is [N/A] in every reading of {where}", "power readings", "these readings say nothing")
    warnings = [f"{missing} readings are [N/A] or broken"] if missing else []
    assumed = any(c.assumed for c in chosen) and all(card is None for _, card in series)
    others = tuple(g for g in rest if len(g.t_s) > 1)
    return PowerLog(_enough(gpus, where), listed(c.column for c in chosen), zones[0], missing, warnings, others, assumed)


def _readable(t_s: np.ndarray, example: str, where: str) -> np.ndarray:
    """Which times are numbers. Raises UserError where none is."""
    good = np.isfinite(t_s)
    if len(t_s) and not good.any():
        found = f"the times of {where} cannot be read, such as '{example.strip()[:40]}'"
        raise UserError(found, "seconds or a date and time", "name it with --time")
    return good


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


def _counted(t_s: np.ndarray, joules: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A counter as a curve of steps. A step down is a range that wrapped or a driver that was loaded anew: that time has no reading.
    Raises UserError where one with a name falls too often, or rises too seldom, to be a counter."""
    used = np.diff(joules)
    falls, rises = float(np.mean(used < 0)) if len(used) else 1.0, np.count_nonzero(used)
    if name and (falls > FALLS or len(used) < FEWEST or not rises):
        found = f"{name} falls in {falls:.0%} of its steps" if falls > FALLS else f"{name} rises in {rises} of {len(used)} steps"
        raise UserError(found, "a counter of energy that rises", "name the power with --power")
    return _held(t_s[1:], np.where(used < 0, np.nan, used), float(t_s[0]) if len(t_s) else 0.0, None, True)


def _read_parquet(source, where: str) -> PowerLog:
    """Our own samples, long and tidy, one row a reading; read in batches, of which only the power readings are kept."""
    from pyarrow import parquet

    file = parquet.ParquetFile(source)
    columns = ["t_s", "device_id", "field", "value"]
    if not set(columns) <= set(file.schema_arrow.names):
        raise UserError(f"{where} has columns {listed(file.schema_arrow.names)}", ", ".join(columns), "pass a CSV or our samples")
    parts, names = defaultdict(list), {}
    for batch in file.iter_batches(columns=columns):
        fields = pc.cast(batch["field"], pa.string())
        for name in set(pc.unique(fields).to_pylist()) & set(POWER_FIELDS):
            part = batch.filter(pc.equal(fields, name))
            parts[name].append((part["t_s"].to_numpy(), part["value"].to_numpy(), _codes(pc.cast(part["device_id"], pa.string()), names)))
    present = next((f for f in POWER_FIELDS if f in parts), None)
    if present is None:
        raise UserError(f"{where} holds no power readings", f"a field among {', '.join(POWER_FIELDS)}", "take samples of a power meter")
    t_s, power_w, card = (_joined(list(column)) for column in zip(*parts.pop(present), strict=True))
    found = []
    for code, name in enumerate(names):
        mine = np.flatnonzero(card == code)
        if np.any(np.diff(t_s[mine]) < 0):
            mine = mine[np.argsort(t_s[mine], kind="stable")]
        if len(mine):
            found.append(LoggedGpu(name, t_s[mine], power_w[mine]))
    return PowerLog(_enough(found, where), present, "monotonic seconds")


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
            if row[value].strip("[]").lower() not in MISSING:
                yield Reading(row[time], metric or row[named], row[value], labels or rest)


def _read_codecarbon(text: str, delimiter: str, where: str) -> PowerLog:
    """CodeCarbon's emissions.csv: one run, whose rows are cumulative energies [kWh] after `duration` seconds."""
    import pandas as pd

    table = pd.read_csv(io.StringIO(text), sep=delimiter)
    if "run_id" in table and (runs := table["run_id"].nunique()) > 1:
        raise UserError(f"{where} holds {runs} runs of CodeCarbon", "one run", "import them: eai import --format codecarbon")
    table = table.sort_values("duration")
    t_s = table["duration"].to_numpy(float)
    count, _, product = str(table["gpu_model"].iloc[0] if "gpu_model" in table else "").partition(" x ")
    found = []
    for column, boundary in (("gpu_energy", "gpu"), ("cpu_energy", "cpu_package"), ("ram_energy", "dram")):
        used_j = np.diff(table[column].to_numpy(float) * 3.6e6, prepend=0.0) if column in table else np.zeros(1)
        if np.nansum(used_j) > 0:
            index, name = (0, product if count == "1" else "") if boundary == "gpu" else (column, "")
            found.append(LoggedGpu(index, *_held(t_s, used_j, 0.0, None, True), name=name, boundary=boundary, held=True))
    if not found:
        raise UserError(f"{where} holds no energy", "gpu_energy or cpu_energy", "check that CodeCarbon saw the device")
    warnings = ["CodeCarbon reads the GPU; its CPU and memory may be estimates from constants (see cpu_power, ram_power)"]
    main = "gpu_energy" if found[0].boundary == "gpu" else "cpu_energy"
    return PowerLog(tuple(found[:1]), main, "seconds of the run", 0, warnings, tuple(found[1:]))


def _enough(found: list[LoggedGpu], where: str) -> tuple[LoggedGpu, ...]:
    """Those with readings. Raises UserError where one has a single reading, or none has any."""
    found = [g for g in found if len(g.t_s)] or found
    short = [g for g in found if len(g.t_s) < 2]
    if short or not found:
        which = f" of GPU {short[0].index}" if short and len(found) > 1 else ""
        raise UserError(f"{where} has {len(short[0].t_s) if short else 0} reading(s){which}", "at least two", "log for longer")
    return tuple(found)


# Tables: where to find what


@dataclass(frozen=True)
class Layout:
    """Where to find what in a table: names of columns (empty: there is none), how it is cut, and how many lines stand before the first
    reading. `kind`: instant, mean, counter; `only`: a column and the value of the lines that count; `reads`: columns that expressions read.
    """

    delimiter: str
    names: list[str]
    skip: int
    time: list[str]
    chosen: list[Choice]
    others: list[Choice] = field(default_factory=list)
    card: list[str] = field(default_factory=list)
    host: str = ""
    utilization: str = ""
    product: str = ""
    limit: Choice | None = None
    time_unit: float | None = None
    comma_space: bool = False
    kind: str = "instant"
    only: tuple[str, str] | None = None
    reads: list[str] = field(default_factory=list)

    @property
    def powers(self) -> list[Choice]:
        """All columns of watts, the limit's too."""
        return [*self.chosen, *self.others, *([self.limit] if self.limit else [])]


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter in (" ", "  "):
        line = re.sub(r"^\s*GPU +(?=\d)", "", line)  # dcgmi dmon writes `GPU 0` in its one column of cards
        return re.split(r"\s+" if delimiter == " " else r"\s{2,}|\t", line.strip())
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


def _is_value(cell: str) -> bool:
    return cell.strip("[]").lower() in MISSING or any(p.match(cell) for p in (NUMBER, WITH_UNIT, CLOCK, DATE, CARD))


def _delimiter(line: str, after: list[str]) -> str:
    """What parts the cells of a line; the lines after it tell two spaces from one."""
    found = max(",;\t|", key=line.count)
    if line.count(found):
        return found
    return "  " if after and all(len(_cells(a, "  ")) == len(_cells(line, "  ")) > 1 for a in after) else " "


def _header(rows: list[tuple[int, str]]) -> tuple[int, str] | None:
    """(place, line) of the header: a comment or a line after some introduction that names a time and a power; None where none does."""
    for place, line in rows:
        if line.startswith("#") and re.search(r"\b(gpu|time|timestamp|entity|pwr|power)\b", line, re.I):
            return place, line.lstrip("#")
    for n, (place, line) in enumerate(rows[:60]):
        after = [a for _, a in rows[n + 1 : n + 20] if a != line]
        delimiter = _delimiter(line, after)
        cells = _cells(line, delimiter)
        whole = len(cells) > 1 and any(len(_cells(a, delimiter)) == len(cells) for a in after)
        named = any(plain(c)[0] in formats.TIME_NAMES for c in cells)
        if whole and named and any(formats.meaning(c) for c in cells if not _is_value(c)):
            return place, line
    return None


def _layout(head: list[str], where: str, wanted: list[str], time: str, card: str) -> Layout:
    """The layout of a table from its first lines. Raises UserError, with what was found, where no column is a time or a power."""
    rows = [(i, line) for i, line in enumerate(head) if line.strip() and not re.match(r"^sep=.$|^#(group|datatype|default)", line)]
    header = _header(rows)
    body = [(i, line) for i, line in rows if not line.startswith("#")]
    if header is None and not body:
        raise UserError(f"{where} holds comments alone", "readings", "check that the logger ran")
    place, first = header or body[0]
    delimiter = _delimiter(first, [line for i, line in body if i > place and line != first][:20])
    cells = _cells(first, delimiter)
    has_header = bool(header) or not any(_is_value(c) for c in cells if c)
    names = [name or f"column {i + 1}" for i, name in enumerate(cells)] if has_header else [f"column {i + 1}" for i in range(len(cells))]
    again = [names[: i + 1].count(name) for i, name in enumerate(names)]
    names = [name if n == 1 else f"{name} ({n})" for name, n in zip(names, again, strict=True)]
    skip = place + 1 if has_header else 0
    body = [line for i, line in body if i >= skip]
    sample, comma_space = [row for row in (_cells(line, delimiter) for line in body) if len(row) == len(names)], False
    if not sample and delimiter == "," and body and all(re.search(r"\d,\d", line) for line in body[:3]):
        pieces = [line.split(", ") for line in body]
        if all(len(p) == len(names) for p in pieces):
            sample, comma_space = [[c.strip() for c in p] for p in pieces], True
        elif all(len(_cells(line, ",")) > len(names) for line in body[:3]):
            do = "record it with LC_ALL=C"
            raise UserError(f"{where} has decimal commas between columns cut by commas", "points, or columns cut by semicolons", do)
    if not sample:
        raise UserError(f"{where} has a header and no readings", "at least two readings", "check that the logger ran")
    columns = {name: [row[i] for row in sample] for i, name in enumerate(names)}
    parts = (_by_name if has_header else _by_content)(columns, where, wanted, time, card)
    return Layout(delimiter, names, skip, comma_space=comma_space, **parts)


UTILIZATION = re.compile(r"(sm|gpu_util|gpu_utilization|utilization|dcgm_fi_dev_gpu_util|utilization_gpu.*|gpu_utilization.*|gputl)")
LIMIT = re.compile(r"(enforced_|current_)?power_(limit|cap)(_w)?|max_power")


def _by_name(columns: dict[str, list[str]], where: str, wanted: list[str], time: str, card: str) -> dict:
    """The parts of a layout from the header. Raises UserError where an option names no column, and where there is no time."""
    short = {plain(n)[0]: n for n in reversed(columns)}
    kind, only, reads = "instant", None, []

    def expression(text: str) -> str:
        """The expression, if it can be evaluated; the columns that it needs are added to `reads`."""
        import pandas as pd

        from eai.expressions import evaluate

        used: set[str] = set()
        evaluate(text, pd.DataFrame(columns), used)
        reads.extend(n for n in columns if n in used)
        return text

    def named(name: str, option: str) -> str:
        """The column, or the expression, that an option names."""
        fits = [n for n in columns if n.strip().lower() == name.strip().lower()] or [n for n in columns if plain(n)[0] == plain(name)[0]]
        if len(fits) == 1:
            return fits[0]
        if not fits and re.search(r"[-+*/(]", name):
            return expression(name)
        raise UserError(f"{option} {name} names {len(fits)} columns", f"one of {listed(columns)}", "copy the name from the header")

    def pick(test) -> str:
        return next((n for n in columns if n not in taken and test(plain(n)[0])), "")

    if {"duration", "emissions", "gpu_energy", "cpu_energy"} <= short.keys():
        return {"time": [short["duration"]], "chosen": [], "kind": "codecarbon"}
    if "pkg_watt" in short or "cor_watt" in short or "ramwatt" in {n.lower() for n in columns}:
        kind, cpu = "mean", short.get("cpu")
        only = (cpu, "-") if cpu and "-" in columns[cpu] else None
        if "time_of_day" not in short and not time:
            raise UserError(f"{where} is turbostat's and has no time", "Time_Of_Day_Seconds", "turbostat --enable Time_Of_Day_Seconds")
        if cpu and only is None and len(set(columns[cpu])) > 1:
            raise UserError(f"{where} has no summary line", "CPU -", "run turbostat with --Summary")
    if re.fullmatch(r"time(,gpu\d+)+", ",".join(columns).lower()) and not wanted and next(iter(columns)) == "time":
        wanted = list(columns)[1:]  # Zeus writes watts per card under these names
    if not wanted and not any(formats.meaning(n) for n in columns):
        wanted = [n for n, cells in columns.items() if formats.meaning(f"{n} power") and all(_in_watts(c) for c in cells)]
    kind = "counter" if not wanted and formats.counters(columns) else kind
    chosen, others = formats.choose(columns, where, wanted, expression=expression)
    stamps, unit = _time_of(columns, where)[:2] if not time else ([named(time, "--time")], 1.0)
    if time and stamps[0] in columns:
        unit = plain(stamps[0])[1]
    taken = {*stamps, *(c.column for c in (*chosen, *others))}
    cards = [named(card, "--card")] if card else [] if any(c.index is not None for c in chosen if c.boundary == "gpu") else None
    if cards is None:
        cards = _cards_of(columns, short, taken)
    limit = pick(LIMIT.fullmatch)
    return {
        **{"time": stamps, "time_unit": unit, "chosen": chosen, "others": others, "card": cards, "kind": kind, "only": only},
        **{"host": pick(formats.HOST_NAMES.__contains__), "product": pick(formats.PRODUCT_NAMES.__contains__)},
        "utilization": pick(UTILIZATION.fullmatch),
        "limit": Choice(limit, "gpu", None, formats.WATTS.get(formats.words(limit)[-1])) if limit else None,
        "reads": reads,
    }


def _time_of(columns: dict[str, list[str]], where: str) -> tuple[list[str], float | None]:
    """(the columns that make up the time, the seconds of its unit if its name says one)."""
    known = {}
    for name in columns:
        short, unit = plain(name)
        known.setdefault(re.sub(r"_(utc|local|unix|epoch|iso|iso8601|posix|stamp)$", "", short), (name, unit))
    if {"date", "time"} <= known.keys() and any(CLOCK.match(v) for v in columns[known["time"][0]][:5]):
        return [known["date"][0], known["time"][0]], None
    name, unit = next((known[n] for n in formats.TIME_NAMES if n in known), ("", None))
    if not name:
        do = "name it with --time, or add timestamp to the query"
        raise UserError(f"{where} has no time column (found {listed(columns)})", "timestamp or seconds", do)
    return [name], unit


def _in_watts(cell: str) -> bool:
    return bool(WITH_UNIT.match(cell)) and not NUMBER.match(cell)


def _cards_of(columns: dict[str, list[str]], short: dict[str, str], taken: set[str]) -> list[str]:
    """The columns that say which card a line is of, the surest name first; a number has to be one that cards have."""
    for column in (short[n] for n in formats.CARD_NAMES if n in short and short[n] not in taken):
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
    powers = wanted or [n for n in names if any(_in_watts(v) for v in columns[n])][:1]
    rest = [n for n in names if n not in (stamp, cards, *powers) and any(NUMBER.match(v) for v in columns[n])]
    if stamp is None and rest and len(names) >= 2:
        stamp = rest.pop(0)
    if cards is None and (powers or len(rest) > 1):
        cards = next((n for n in rest if all(v.isdigit() and int(v) < 64 for v in columns[n])), None)
        rest = [n for n in rest if n != cards]
    if not powers and len(rest) > 1:
        do = "record it with its header, or name it with --power"
        raise UserError(f"{where} has no header and {len(rest)} columns that may be power", "one", do)
    powers = powers or rest[:1]
    if not powers or stamp is None:
        missing = "power" if not powers else "time"
        raise UserError(f"{where} has no {missing} column (found {listed(names)})", "a power log", "record it with its header")
    named = formats.choose(names, where, list(powers))[0]
    assumed = not (cards or wanted or any(_in_watts(v) for n in powers for v in columns[n]))
    chosen = [Choice(c.column, "gpu", None if len(powers) == 1 else i, c.scale, assumed) for i, c in enumerate(named)]
    return {"time": [stamp], "chosen": chosen, "card": [cards] if cards else []}


# Tables: the numbers


class _Table:
    """The columns of a table as numbers. Text becomes numbers block by block, so that a long log is in memory once."""

    def __init__(self, shape: Layout, source: Path | bytes, where: str):
        self.shape, self.where, cut, width = shape, where, shape.delimiter, len(shape.names)
        if cut in (" ", "  "):
            lines = [line for line in _text(source).splitlines()[shape.skip :] if line.strip() and not line.startswith("#")]
            rows = [r for r in (_cells(line, cut) for line in lines) if r != shape.names]
            whole = [r for r in rows if len(r) == width]
            return self._read("".join("\t".join(r) + "\n" for r in whole).encode(), 0, "\t", len(rows) - len(whole))
        if shape.comma_space:
            source = re.sub(rb"(?<=\d),(?=\d)", b".", _content(source))
        dropped = 0
        if isinstance(source, bytes) or not _ends(source):
            source = _content(source)
            if not source.endswith(b"\n"):  # the last line may be cut off, and half a number is still a number
                source, dropped = source[: source.rfind(b"\n") + 1], 1
            if not source:
                raise UserError(f"{where} has one line that was cut off", "at least two readings", "log for longer")
        try:
            self._read(source, shape.skip, cut, dropped)
        except pa.ArrowInvalid:  # a line further on has too few or too many cells: once more, without such lines
            kept = []
            for line in _content(source).split(b"\n")[shape.skip : -1]:
                quoted = b'"' in line and len(_cells(line.decode("utf-8", "replace"), cut)) == width
                if quoted or line.count(cut.encode()) == width - 1:
                    kept.append(line + b"\n")
                else:
                    dropped += bool(line.strip())
            if not kept:
                raise UserError("no line of the log has all columns of its header", "whole lines", "record it again") from None
            self._read(b"".join(kept), 0, cut, dropped)

    def _read(self, source: Path | bytes, skip: int, cut: str, dropped: int) -> None:
        """Take all blocks; `dropped` lines were none."""
        s = self.shape
        self.zone, self.dropped, self.cells_say, self.example = "", dropped, False, ""
        self.t_s: list[np.ndarray] = []
        self.values: dict[str, list[np.ndarray]] = defaultdict(list)
        self.codes: list[np.ndarray] = []
        self.names: dict[str, int] = {}
        self.products: dict[int, str] = {}
        asked = [*s.time, *(c.column for c in s.powers), *s.card, s.host, s.utilization, s.product, *(s.only or ())[:1], *s.reads]
        wanted = [c for c in dict.fromkeys(asked) if c in s.names]
        texts = dict.fromkeys(wanted, pa.string())
        convert = arrow_csv.ConvertOptions(column_types=texts, include_columns=wanted, strings_can_be_null=False, check_utf8=False)
        parse = arrow_csv.ParseOptions(delimiter=cut, quote_char=False if s.delimiter in (" ", "  ") else '"')
        options = arrow_csv.ReadOptions(column_names=s.names, skip_rows=skip, block_size=BLOCK_BYTES)
        for block in arrow_csv.open_csv(source if isinstance(source, Path) else pa.BufferReader(source), options, parse, convert):
            self._take({c: block[c] for c in wanted})

    def _take(self, block: dict[str, pa.Array]) -> None:
        """Add the columns of a block."""
        s = self.shape

        def evaluated(text: str):
            import pandas as pd

            from eai.expressions import evaluate

            return evaluate(text, pd.DataFrame({c: pc.ascii_trim_whitespace(block[c]).to_pandas() for c in s.reads}))

        if s.only:
            wanted = pc.equal(pc.utf8_trim_whitespace(block[s.only[0]]), s.only[1])
            block = {name: column.filter(wanted) for name, column in block.items()}
        if s.time[0] not in block:
            t_s, self.zone = evaluated(s.time[0]).to_numpy(float), "seconds"
        else:
            text = block[s.time[0]]
            if len(s.time) > 1:
                text = pc.binary_join_element_wise(*(pc.utf8_trim_whitespace(block[c]) for c in s.time), " ")
            t_s, self.zone = _seconds(text, s.time_unit)
            self.example = self.example or (text[0].as_py() if len(text) else "")
            if np.isnan(t_s).any():  # headers that are printed again, as dmon does, are no broken lines
                same = pc.equal(pc.utf8_trim_whitespace(block[s.time[0]]), s.time[0])
                again = pc.or_(pc.starts_with(text, "#"), same).to_numpy(zero_copy_only=False)
                block, t_s = {name: column.filter(pa.array(~again)) for name, column in block.items()}, t_s[~again]
        self.t_s.append(t_s)
        for choice in s.powers:
            if (column := block.get(choice.column)) is None:
                value = evaluated(choice.column).to_numpy(float) * (choice.scale or 1.0)
            else:
                value = _watts(column, choice.scale)
                self.cells_say = self.cells_say or (len(value) > 0 and column[0].as_py().strip()[-1:] in ("W", "w"))
            self.values[choice.column].append(value)
        if s.utilization:
            self.values[s.utilization].append(_numbers(block[s.utilization]))
        if s.card:
            named = [*filter(None, [s.host]), *s.card]
            columns = [block[c] if c in block else pa.array(evaluated(c).astype(str)) for c in named]
            joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*map(pc.utf8_trim_whitespace, columns), " ")
            self.codes.append(_codes(joined, self.names))
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
        good_time = _readable(t_s, self.example, where)
        lines = np.logical_or.reduce([good_time, *(np.isfinite(values[c.column]) for c in s.chosen)])
        dropped = self.dropped + int((~lines).sum())
        if not lines.all():  # neither a time nor a power: a header that is printed again
            t_s, good_time, card = t_s[lines], good_time[lines], None if card is None else card[lines]
            values = {name: v[lines] for name, v in values.items()}
        good = {c.column: np.isfinite(values[c.column]) & good_time for c in s.chosen}
        warnings = [f"{dropped} line(s) were broken or cut off at the end and left out"] if dropped and not s.only else []
        if self.zone == "time of day":  # runs on past midnight
            t_s = t_s + DAY_S * np.cumsum(np.concatenate([[0], np.nan_to_num(np.diff(t_s))]) < -DAY_S / 2)
        missing = int((~np.logical_and.reduce(list(good.values()))).sum())
        if not any(k.any() for k in good.values()):
            do = "take another column with --power, or another meter"
            raise UserError(f"power is [N/A] in every line of {where}", "power readings", do)
        if missing:
            warnings.append(f"{missing} of {len(t_s)} readings are [N/A]")
        names = self._card_names(card)
        if card is None and len(s.chosen) == 1 and s.chosen[0].index is None and s.kind == "instant":
            card = _turns(t_s, gpus, where, warnings)
            names = list(range(int(card.max()) + 1))
        elif gpus is not None and gpus != (count := max(len(names), len(s.chosen))):
            raise UserError(f"{where} names {count} cards and --gpus says {gpus}", "the same number", "leave --gpus out")
        used, limit = values.get(s.utilization), values[s.limit.column] if s.limit else None

        def series(choice: Choice, place, known: np.ndarray, by_card: bool) -> Iterator[LoggedGpu]:
            """The readings of a column, one series a card where lines are of cards; of another device those of the first card's lines."""
            for code in range(len(names) if by_card and card is not None else 1):
                mine = known if card is None else known & (card == code)
                mine = slice(None) if mine.all() else mine
                index = names[code] if by_card and card is not None else place if choice.index is None else choice.index
                busy = used[mine] if used is not None and np.isfinite(used[mine]).any() else None
                t, p, is_mean = t_s[mine], values[choice.column][mine], s.kind == "mean" or choice.is_mean
                if is_mean:
                    t, p = _held(t, p, None, None, False)
                if s.kind == "counter":
                    t, p = _counted(t, p, choice.column if choice in s.chosen else "")
                top = None if limit is None or not np.isfinite(limit[mine]).any() else float(np.nanmax(limit[mine]))
                highest, unused = (None, None) if busy is None else (float(np.nanmax(busy)), float(np.mean(np.nan_to_num(busy) == 0)))
                name, said = self.products.get(code if s.card else 0, ""), choice.scale is not None or self.cells_say
                yield LoggedGpu(index, t, p, highest, unused, name, top, choice.boundary, is_mean or s.kind != "instant", said)

        found = [g for i, c in enumerate(s.chosen) for g in series(c, i, good[c.column], c.boundary == "gpu")]
        silent = [str(g.index) for g in found if not len(g.t_s)]
        if silent and len(silent) < len(found):
            warnings.append(f"no reading of GPU {', '.join(silent)}: its energy is not in the sum")
        power_name = listed(c.column for c in s.chosen)
        if s.kind == "counter":
            warnings.append(f"{power_name} is read as a counter, whose differences are the energy")
        rest = [g for c in s.others for g in series(c, c.column, np.isfinite(values[c.column]) & np.isfinite(t_s), False)]
        others = tuple(g for g in rest if len(g.t_s) > 1)
        assumed = any(c.assumed for c in s.chosen) and not s.card and not s.product
        return PowerLog(_enough(found, where), power_name, self.zone, missing, warnings, others, assumed)

    def _card_names(self, card: np.ndarray | None) -> list:
        """The cards' names. Raises UserError for numbers that do not look like cards: they are not equally often there."""
        if card is None:
            return []
        labels = formats.numbered(self.names)
        names, column = [labels[n] for n in self.names], self.shape.card[0]
        if all(isinstance(n, int) for n in names) and plain(column)[0] in ("gpu", "device", "card", "id"):
            counts = np.bincount(card)
            if len(counts) > 1 and counts.max() > 3 * counts.min():
                found = f"column {column} of {self.where} has values {listed(map(str, names))}, not equally often"
                raise UserError(found, "numbers of cards", "say which column names the card: --card COLUMN")
        return names


def _ends(path: Path) -> bool:
    """Whether the last line of a file has its end."""
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _turns(t_s: np.ndarray, gpus: int | None, where: str, warnings: list[str]) -> np.ndarray:
    """Which card each line belongs to when none says, or -1: by its place in a burst of stamps; one card where there are no bursts. Cards
    that take turns are read one right after the other, so the stamps come in bursts, and the bursts tell how many cards there are. `gpus`
    is held against them. A burst that lacks a line is left out: nobody knows which card's it was."""
    one = np.zeros(len(t_s), dtype=np.int16)
    steps = np.diff(t_s)
    forward = steps[steps >= 0]
    long_s = 0.2 * float(np.quantile(forward[:: len(forward) // 100_000 + 1], 0.95)) if len(forward) >= 3 else 0.0
    stamps = f"the stamps of {where} come"
    if not (long_s > 0 and float(np.mean(forward < long_s)) > BURST_SHARE):
        if gpus is not None and gpus > 1:
            found = f"{stamps} one by one, as of one card, and --gpus says {gpus}"
            raise UserError(found, f"bursts of {gpus}", "leave --gpus out, or add index to the query")
        return one
    begins = np.concatenate([[True], ~((steps >= 0) & (steps < long_s))])
    sizes = np.diff(np.append(np.flatnonzero(begins), len(t_s)))
    usual = int(np.bincount(sizes).argmax())
    share = float(np.mean(sizes == usual))
    if gpus is None:
        do = f"pass --gpus {usual} (or 1 if it is one card), or add index to the query"
        found = f"{stamps} in bursts of {usual}, as of several GPUs without an index column"
        raise UserError(found, "one card, or an index or uuid column", do)
    if gpus == 1 and (share < WHOLE_ROUNDS or bool(np.all(t_s == np.round(t_s)))):
        return one
    if gpus != usual or share < 0.5:
        do = f"pass --gpus {usual}, or add index to the query" if gpus == 1 else "add index to the query"
        raise UserError(f"{stamps} in bursts of {usual} and --gpus says {gpus}", f"{usual} cards", do)
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


def _array(values: pa.Array, kind: type) -> np.ndarray:
    """Numbers of Arrow as an array, without a copy where none is missing: Arrow's own way loads pandas, which takes half a second."""
    if values.null_count:
        return values.to_numpy(zero_copy_only=False)
    return np.frombuffer(values.buffers()[1], kind)[values.offset : values.offset + len(values)] if len(values) else np.empty(0, kind)


def _numbers(column: pa.Array) -> np.ndarray:
    """Floats of a column of text with or without a unit; NaN for [N/A], inf and anything that is no number."""
    text = pc.utf8_trim_whitespace(column)
    if not all(NUMBER.match(v) for v in text[:50].to_pylist()):
        text = pc.ascii_rtrim(text, " mkuWwats%J")
    try:
        numbers = _array(pc.cast(text, pa.float64()), np.float64)
    except pa.ArrowInvalid:
        text = _with_points(text)
        text = pc.if_else(pc.match_substring_regex(text, PLAIN), text, None)
        numbers = _array(pc.cast(text, pa.float64()), np.float64).astype(float)
    return np.where(np.isfinite(numbers), numbers, np.nan) if not np.isfinite(numbers).all() else numbers


def _with_points(text: pa.Array) -> pa.Array:
    """Numbers with decimal points. A comma is one too; where it may also part thousands (1,234) nothing is assumed. Raises UserError for
    numbers that can be read in two ways."""
    commas = [v for v in text[:2000].to_pylist() if v and re.fullmatch(r"[-+]?\d[\d.,]*", v) and "," in v]
    if not commas:
        return text
    points = [v for v in commas if "." in v]
    if (points and all(v.rindex(".") > v.rindex(",") for v in points)) or any(v.count(",") > 1 for v in commas):
        return pc.replace_substring(text, ",", "")
    if all(re.fullmatch(r"[-+]?\d{1,3},\d{3}", v) for v in commas) and max(float(v.replace(",", "")) for v in commas) < 20_000:
        found = f"{commas[0]} may be {commas[0].replace(',', '.')} or {commas[0].replace(',', '')}"
        raise UserError(found, "a decimal point", "record it with LC_ALL=C")
    return pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")


def _watts(column: pa.Array, scale: float | None) -> np.ndarray:
    """Watts of a column: a unit in its cells goes before the one in its name."""
    first = [v.strip() for v in column[:50].to_pylist() if v]
    units = {m[1].lower() for v in first if (m := re.search(r"\d ?([mkuµ]?[wW])(?:atts?)?$", v))}
    if units == {"w"}:
        try:  # watts throughout, as nvidia-smi writes them: any other unit or word ends in the longer way below
            return _array(pc.cast(pc.ascii_trim(column, " W"), pa.float64()), np.float64)
        except pa.ArrowInvalid:
            pass
    text = pc.utf8_trim_whitespace(column)
    if not units and not any(v[-1:] in ("W", "w") for v in first):
        return _numbers(text) * (scale or 1.0)
    numbers = _numbers(text)
    for unit in ("mw", "kw", "uw", "µw"):
        mask = pc.match_substring_regex(text, rf"(?i)\d ?{unit}(atts?)?$").to_numpy(zero_copy_only=False)
        numbers = np.where(mask, numbers * formats.WATTS[unit], numbers)
    return numbers


def _codes(column: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Small integers for the cards' names, in the order in which they first appear."""
    encoded = pc.dictionary_encode(column)
    table = np.array([names.setdefault(name.strip(), len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int16)
    return table[_array(encoded.indices, np.int32)]


def _seconds(column: pa.Array, unit_s: float | None) -> tuple[np.ndarray, str]:
    """Seconds of a time column and how it was understood: numbers, time of day, stamps with a zone, or local stamps."""
    text = pc.ascii_trim_whitespace(column)
    first = next((v for v in text[:50].to_pylist() if v and v.strip("[]").lower() not in MISSING), "")
    if NUMBER.match(first):
        number = float(first.replace(",", "."))
        scale = unit_s or (1e-9 if number > 1e17 else 1e-6 if number > 1e14 else 1e-3 if number > 1e11 else 1.0)
        return _numbers(text) * scale, "seconds"
    if CLOCK.match(first):
        text = pc.replace_substring(text, ",", ".")
        parts = pc.split_pattern(text, ":")
        whole = pc.equal(pc.list_value_length(parts), 3)
        if not pc.all(whole).as_py():
            parts = pc.split_pattern(pc.if_else(whole, text, "x:x:x"), ":")
        hours, minutes, seconds = (_numbers(pc.list_element(parts, i)) for i in range(3))
        return hours * 3600 + minutes * 60 + seconds, "time of day"
    if re.match(r"\d{4}/", first):
        if text.offset or text.null_count:
            text = pc.replace_substring(text, "/", "-")
        else:  # in the bytes of the whole column: four times as fast as text by text
            _, ends, content = text.buffers()
            dashed = pa.py_buffer(content.to_pybytes().replace(b"/", b"-"))
            text = pa.Array.from_buffers(text.type, len(text), [None, ends, dashed])
    text = pc.replace_substring(text, ",", ".") if re.search(r":\d\d,\d+", first) else text
    zoned = bool(re.search(r"(Z|[+-]\d\d:?\d\d)( \d{4})?$|UTC|GMT", first)) and not re.match(r"\d\d-\d\d-\d{4}", first)
    kind = pa.timestamp("us", tz="UTC") if zoned else pa.timestamp("us")
    note = ""
    try:
        stamps = pc.cast(text, kind)
    except pa.ArrowInvalid:
        stamps, note = _any_stamps(text.to_pandas(), first, zoned)
        stamps = pa.array(stamps, type=kind)
    micros = _array(pc.cast(stamps, pa.int64()), np.int64)
    if zoned:
        return micros / 1e6, "stamps with a time zone"
    known = micros[np.isfinite(micros)]
    offset_s = 0.0
    if len(known):  # this machine's from UTC at that local time
        naive = datetime(1970, 1, 1) + timedelta(microseconds=float(known[0]))
        offset_s = naive.astimezone().utcoffset().total_seconds()
    return micros / 1e6 - offset_s, f"local stamps, read as UTC{offset_s / 3600:+g} h{note}"


def _any_stamps(text, first: str, zoned: bool) -> tuple:
    """(stamps of a pandas Series in one of the known notations, a note where day and month could be exchanged)."""
    import pandas as pd

    if re.match(r"\d{1,2}/\d{1,2}/\d{4}", first):
        for both in EITHER:
            month, day = (pd.to_datetime(text, format=f, errors="coerce") for f in both)
            if month.notna().sum() or day.notna().sum():
                least = min((month, day), key=lambda s: (s.isna().sum(), (s.max() - s.min())))
                return least, ", month and day as they fit" if month.notna().all() and day.notna().all() else ""
    named = text if zoned else text.str.replace(r"\b[A-Z]{3,4}\b(?= \d{4}$)", "UTC", regex=True)
    for form in STAMPS:
        found = pd.to_datetime(named, format=form, errors="coerce")
        if found.notna().mean() > 0.5:
            return (found if found.dt.tz is None else found.dt.tz_convert("UTC") if zoned else found.dt.tz_localize(None)), ""
    return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=zoned), ""
