"""Power logs that others recorded, as readings by device: tables, lines and documents of the tools that write them (logs.yaml).

A column is taken because it *is* power of a device. Its name is cut into words; a word of power or a unit of it has to be there, and no
word that makes it something else (a limit, a state, a reason). Other words say whose power it is and which card's. Where two columns
would do, none is taken: `choose` refuses and lists them. Delimited tables of any length are read by Arrow in blocks; what is no table is
read line by line. No Python function is handed to Arrow: a thread of it would free the function while the interpreter ends, which aborts.
"""

import csv
import fnmatch
import io
import plistlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from xml.parsers.expat import ExpatError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow import csv as arrow_csv

from eai.errors import UserError
from eai.inputs import documents, yaml_mapping

BLOCK_BYTES, HEAD_BYTES = 1 << 22, 1 << 17
DAY_S = 86400.0
BURST_SHARE, WHOLE_ROUNDS = 0.25, 0.9
FALLS, FEWEST = 0.01, 5
POWER_FIELDS = ("power_instant_w", "power_usage_w", "power_average_w")
MISSING = {"", "-", "--", "n/a", "na", "nan", "none", "null", "not supported", "unknown error", "gpu requires reset", "err!", "unknown"}
MISSING |= {"insufficient permissions", "no permission", "undefined", "inf", "+inf", "-inf", "unavailable"}
NUMBER = re.compile(r"^[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?$")
WITH_UNIT = re.compile(r"^[-+]?\d+([.,]\d*)? ?[mkuµ]?[wW](atts?)?$")
CLOCK = re.compile(r"^\d{1,2}:\d{2}:\d{2}([.,]\d+|:\d{3})?$")
DATE = re.compile(
    r"^\d{4}[-/]?\d{2}[-/]?\d{2}[ T]\d{1,2}:\d{2}|^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}[ T,]|^\w{3},? +\w{3} +\d+ [\d:]+ |^\w{3} \d+, \d{4}"
)
ZONE = r"(?:Z|[+-]\d\d:?\d\d)(?: \d{4})?$|UTC|GMT"
CARD = re.compile(r"^(GPU-)?[0-9a-fA-F-]{36}$|^GPU-\w+|^[0-9a-fA-F]{8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.\d$")
PLAIN = r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"
STAMPS = (
    "%Y%m%d %H:%M:%S", "%Y%m%d-%H%M%S", "%m-%d-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S.%f", "%m/%d/%Y - %H:%M:%S", "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %Y %z", "%a %b %d %H:%M:%S %Z %Y", "%b %d, %Y @ %H:%M:%S.%f", "%a %d %b %H:%M:%S %Z %Y",
    "%a %d %b %Y %H:%M:%S %Z", "%a %b %d %I:%M:%S %p %Z %Y", "%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S",
)  # fmt: skip
"""Stamps beside ISO 8601 and nvidia-smi's YYYY/MM/DD: dmon, vLLM, tegrastats, PTDaemon, FreeIPMI, ctime and date, Kibana, German."""

EITHER = [(f"%m/%d/%Y {clock}", f"%d/%m/%Y {clock}") for clock in ("%H:%M:%S", "%H:%M:%S.%f", "%I:%M:%S %p", "%H:%M")]
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
WATTS = {
    **dict.fromkeys(("w", "watt", "watts", "wattage"), 1.0),
    **dict.fromkeys(("mw", "milliwatt", "milliwatts"), 1e-3),
    **dict.fromkeys(("uw", "µw", "microwatt", "microwatts"), 1e-6),
    **dict.fromkeys(("kw", "kilowatt", "kilowatts"), 1e3),
}
JOULES = {"j": 1.0, "joule": 1.0, "joules": 1.0, "uj": 1e-6, "µj": 1e-6, "microjoules": 1e-6, "kj": 1e3, "wh": 3600.0, "kwh": 3.6e6}
"""Units of a counter. `mj` and `mwh` are none of them: they may be milli or mega."""

TIME_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "min": 60.0}
FLAVOURS = {"instant": 0, "instantaneous": 0, "current": 0, "average": 2, "avg": 2, "mean": 2}
"""Instant power before `power.draw` before the 1 s average: the average lags behind the load."""

_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GPU, CPU, CORES, MEMORY, MACHINE, PARTS = (
    frozenset(_TABLE["words"][key].split()) for key in ("gpu", "cpu", "cores", "memory", "machine", "parts")
)
POWER = {*_TABLE["words"]["power"].split(), *(word for word in WATTS if len(word) > 2)}
NOT_POWER = frozenset(_TABLE["words"]["not_power"].split())
CARD_NAMES, HOST_NAMES, PRODUCT_NAMES, TIME_NAMES, LONG_NAMES, LONG_VALUES = (
    tuple(_TABLE["names"][key].split()) for key in ("card", "host", "product", "time", "long", "value")
)
LABELLED = re.compile(r"^\s*([\w:.]*)\s*\{(.*)\}\s*$", re.S)
LABEL = re.compile(r'([\w.]+)\s*[=:]\s*"?([^",}]*)"?')
UTILIZATION = re.compile(r"(sm|gpu_util|gpu_utilization|utilization|dcgm_fi_dev_gpu_util|utilization_gpu.*|gpu_utilization.*|gputl)")
SCOPE = re.compile(r"^(kepler_node|scaph_host)_(?!power|energy|platform)")
"""What Kepler and Scaphandre put before the part of the machine that is meant."""

RAIL = re.compile(r"(^|[ _])(VDD|POM|VIN)_|^Power TOT$")
"""What the power rails of a Jetson are called, which jtop logs in mW without saying so."""

COUNTED = re.compile(r"_joules_total(?=\{|$)")
LIMIT = re.compile(r"(enforced_|current_)?power_(limit|cap)(_w)?|max_power")


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
    commas, patterns (`gpu*`) or expressions (`eai.cells`); `time` and `card` likewise name columns. Raises UserError for what cannot be
    integrated: no file, no power or time, several columns that could be it, fewer than two readings, cards that cannot be separated.
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
        if start[:6] == b"bplist" or (start.lstrip()[:5] == b"<?xml" and b"<plist" in start):
            return _from_readings(Readings(read_plist(_content(source), where), "a property list", "mean"), where, wanted)
        head = _head(source)
        if not any(line.strip() for line in head):
            example = "nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100 -f LOG"
            raise UserError(f"{where} is empty", "a power log", f"record one: {example}")
        first = next(line for line in head if line.strip()).lstrip()
        is_json = first[0] in "{[" and not first.startswith("[N/A")
        if (
            is_json and (wanted or time or card) and not re.search('"(result|timestamps)"', "".join(head[:20]))
        ):  # rows whose columns somebody names: a table
            import pandas as pd

            rows = [record for document in documents(_text(source), where) for record in _records(document)]
            source, is_json = pd.json_normalize(rows).to_csv(index=False).encode(), False
            head = _head(source)
        if readings := not_a_table(head, is_json, lambda: _text(source), where):
            if time or card:
                raise UserError(f"{where} is {readings.format}", "no --time or --card: its lines say both", "leave them out")
            return _from_readings(readings, where, wanted, gpus)
        if stamped := with_stamps(head, lambda: _text(source).splitlines()):
            source = "\n".join(stamped).encode() + b"\n"
            head = _head(source)
        shape = _layout(head, where, wanted, time, card)
        if shape.kind == "long":
            return _from_readings(Readings(_read_long(_text(source), shape.delimiter, *shape.time), is_power=False), where, wanted, gpus)
        if shape.kind == "codecarbon":
            return _read_codecarbon(_text(source), shape.delimiter, where)
        return _Table(shape, source, where).log(gpus)
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
    from eai.cells import nearest

    document, known = yaml_mapping(mapping, "a mapping as docs/power-logs.md shows"), [*OURS, *LANGUAGE.split()]
    if wrong := [k for k in document if k not in known]:
        raise UserError(
            f"{mapping} has a key {wrong[0]}{nearest(wrong[0], known)}",
            f"keys among {', '.join(OURS)}, columns, units, constants",
            "see docs/power-logs.md",
        )
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
    if unit and str(unit).lower() not in WATTS:
        raise UserError(f"units of {mapping}: power_w in {unit}", "W, mW, kW or uW")
    return said


def _source(path: str | Path) -> tuple[Path | bytes, str]:
    """(a plain file, or the content of a compressed one or of standard input; what messages call it)."""
    source, where = (sys.stdin.buffer.read(), "standard input") if str(path) == "-" else (Path(path), str(Path(path)))
    if isinstance(source, Path) and not source.is_file():
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


# Names of columns


@dataclass(frozen=True)
class Choice:
    """A column, or an expression, that is power of a device: whose (`boundary` gpu | cpu_package | dram | machine | part of another | sum |
    unknown), which one, and what turns it into watts (None: the cells have to say). `assumed`: nothing says whose power it is."""

    column: str
    boundary: str
    index: int | str | None
    scale: float | None = None
    assumed: bool = False
    flavour: int = 1


def words(name: str) -> list[str]:
    """The words of a column's name in lower case: `GPU_0_power_mW` -> gpu 0 power mw."""
    name = re.sub(r"(?<![A-Za-z])([mkuµ])W(?![A-Za-z])", r"\1w", name)
    for cut in (r"([a-z])([A-Z])", r"([A-Z]+)([A-Z][a-z])", r"([A-Za-zµ])(\d)", r"(\d)([A-Za-zµ])"):
        name = re.sub(cut, r"\1 \2", name)
    return re.findall(r"[a-zµ]+|\d+|%", name.lower())


def plain(name: str) -> tuple[str, float | None]:
    """(a name in lower case with underscores, without its unit; that unit as seconds if it is one of time)."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name.strip().lstrip("#").strip())
    text = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or name.lower()
    text = "_" + text if name.strip().startswith("_") else text
    head, _, unit = text.rpartition("_")
    return (head, TIME_UNITS[unit]) if head and unit in TIME_UNITS else (text, None)


def labels_of(name: str) -> tuple[str, dict[str, str]]:
    """(metric, labels) of `metric{label="value", ...}`, as Prometheus and Grafana write it; a plain name has no labels."""
    match = LABELLED.match(name)
    return (match[1], {k.lower(): v for k, v in LABEL.findall(match[2])}) if match else (name, {})


def card_of(labels: dict[str, str]) -> str | None:
    """Which card a set of labels names, a UUID or `host card` where that is known; None where it names none."""
    card = next((labels[k] for k in CARD_NAMES if labels.get(k)), None)
    host = next((labels[k] for k in HOST_NAMES if labels.get(k)), "")
    return card if card is None or card.startswith("GPU-") or not host else f"{host} {card}"


def numbered(cards: Iterable[str | int | None]) -> dict:
    """{card: its number or name}: without the host where all are on one, whole numbers as such."""
    cards = list(dict.fromkeys(cards))
    hosts = {c.rpartition(" ")[0] for c in cards if isinstance(c, str)}
    short = {c: c.rpartition(" ")[2] if isinstance(c, str) and len(hosts) == 1 else c for c in cards}
    return {c: int(s) if isinstance(s, str) and s.isdigit() else s for c, s in short.items()}


def meaning(name: str, is_power: bool = False) -> Choice | None:
    """What power a column holds by its name; None if it is no power. `is_power`: the format says so, the name only whose. Raises UserError
    where the unit may be milli or mega."""
    metric, labels = labels_of(name)
    if re.search(r"(?<![A-Za-z])MW(?![A-Za-z])", metric) and metric.upper() != metric:
        found = f"the unit of {metric} may be mW or MW"
        raise UserError(found, "mW, W or kW", f"choose with --power, for instance --power {quote(metric + ':mW')}")
    found = words(SCOPE.sub("", metric))
    have, unit = set(found), next((w for w in reversed(found) if w in WATTS), None)
    says = have & POWER or (len(found) > 1 and found[-1] in WATTS) or metric.strip().lower() == "p"
    if not is_power and (not says or have & NOT_POWER or "%" in have):
        return None
    gpu, memory, machine, cores = have & GPU, have & MEMORY, have & MACHINE, have & CORES
    cpu = have & CPU and not (gpu and have & CPU <= {"package", "pkg"})
    if have == {"gfx", "watt"}:  # turbostat's: the graphics inside the package
        boundary = "part"
    elif gpu and (cpu or (is_power and "energy" in have)):  # a rail that feeds both; the graphics inside a package
        boundary = "part" if is_power or have & PARTS else "machine"
    elif gpu:
        boundary = "part" if memory or cores else "sum" if have & {"total", "sum", "combined"} else "gpu"
        boundary = "machine" if boundary == "gpu" and machine - {"in"} and not have & {"system"} else boundary
    elif cpu or cores:
        boundary = "part" if cores and not cpu else "sum" if have & {"total", "sum"} else "cpu_package"
    else:
        machine |= have & {"pwr"} if "consumption" in have else set()
        named = {"gpu": found[:2] == ["power", "draw"], "dram": memory, "machine": machine, "part": have & PARTS}
        boundary = next((b for b, says in named.items() if says), "unknown")
    index = card_of(labels)
    if index is None:
        numbers = [(i, w) for i, w in enumerate(found) if w.isdigit()]
        near = [w for i, w in numbers if i and found[i - 1] in GPU | CPU | CORES | MEMORY | POWER | {"rank", "index", "idx", "draw", "w"}]
        index = near[0] if near else numbers[-1][1] if numbers else None
    index = int(index) if index is not None and index.isdigit() else index
    flavour = next((FLAVOURS[w] for w in found if w in FLAVOURS), 1)
    return Choice(name, boundary, index, WATTS[unit] if unit else 1e-3 if RAIL.search(metric) else None, flavour=flavour)


def choose(
    names: Iterable[str], where: str, wanted: list[str] | None = None, is_power: bool = False, expression: Callable | None = None
) -> tuple[list[Choice], list[Choice]]:
    """(columns whose energy is the answer, other columns of power) among `names`; `wanted` settles it, as `NAME`, `NAME:UNIT`, a pattern
    with `*`, or what `expression` accepts; `is_power`: all of them are power by their format. Counters of energy stand in where there is no
    power. Raises UserError where no column is power, or where several could be it: all of them are listed."""
    names = list(names)
    if wanted:
        each = [n for w in wanted for n in (fnmatch.filter(names, w) if "*" in w and w not in names else []) or [w]]
        return [_wanted(w, names, where, expression) for w in each], []
    known = counters(names) or {name: m for name in names if (m := meaning(name, is_power))}
    if not known:
        bare = [n for n in names if re.fullmatch(r"(gpu|card|cuda|device)[ _:]?\d+", n.strip(), re.I)]
        do = f"say which are power: --power {quote(','.join(bare)) if bare else 'COLUMN, or add power.draw to the query'}"
        raise UserError(f"{where} has no power column (found {listed(names)})", "one such as power.draw [W]", do)

    def refused(members: list[Choice]) -> UserError:
        found = f"{len(members)} columns of {where} could be the power ({listed(c.column for c in members)})"
        return UserError(found, "one of a device", f"choose with --power, for instance --power {quote(members[0].column)}")

    groups: dict[tuple, list[Choice]] = {}
    for m in known.values():
        groups.setdefault((m.boundary, m.index), []).append(m)
    by: dict[str, list[Choice]] = {b: [] for b in ("gpu", "cpu_package", "unknown", "machine", "dram", "part", "sum")}
    for (boundary, _), members in groups.items():
        best = [m for m in members if m.flavour == min(m.flavour for m in members)]
        if len(best) > 1 and boundary not in ("machine", "part", "sum"):
            raise refused(best)
        by[boundary] += best
    if len(by["gpu"]) > 1 and any(c.index is None for c in by["gpu"]):
        raise refused(by["gpu"])
    if not by["gpu"] and by["unknown"]:
        everything = [c for (boundary, _), members in groups.items() for c in by[boundary] if c in members]
        if len(by["unknown"]) < len(everything) or (len(everything) > 1 and any(c.index is None for c in by["unknown"])):
            raise refused(everything)
        by["gpu"], by["unknown"] = [replace(c, boundary="gpu", assumed=True) for c in by["unknown"]], []
    if not by["gpu"] and len(by["sum"]) == 1:
        by["gpu"], by["sum"] = by["sum"], []
    first = next(b for b in by if by[b])
    if first in ("machine", "part", "sum") and len(by[first]) > 1:
        raise refused(by[first])
    return by[first], [c for b in by if b != first for c in by[b]]


def counters(names: Iterable[str]) -> dict[str, Choice]:
    """The counters of energy among columns without power: those of xpu-smi and powercap, `package-0_energy_uj`, with joules a unit."""
    names, found = list(names), {}
    for name in [] if any(meaning(n) for n in names) else names:
        cells = words(name)
        unit = next((w for w in reversed(cells) if w in JOULES), None)
        if match := re.fullmatch(r"intel-rapl:(\d+)((?::\d+)?)", name):
            found[name] = Choice(name, "part" if match[2] else "cpu_package", int(match[1]), 1e-6)
        elif unit and ({"energy", "consumed"} & set(cells) or COUNTED.search(name)) and not {"per", "efficiency", "delta"} & set(cells):
            power = COUNTED.sub("_power", re.sub(r"(?i)energy|consumed", "power", name))
            whose = meaning(power + " w") or Choice(name, "unknown", None)
            found[name] = Choice(name, whose.boundary, whose.index, JOULES[unit])
    return found


def _wanted(text: str, names: list[str], where: str, expression: Callable | None) -> Choice:
    """The column or the expression that the user names."""
    column, _, unit = text.rpartition(":")
    scale = WATTS.get(unit.strip().lower()) if column else None
    column = column if scale is not None else text
    fits = [n for n in names if n.strip().lower() == column.strip().lower()] or [
        n for n in names if plain(n)[0] == plain(column)[0] or labels_of(n)[0].lower() == column.lower()
    ]
    if not fits and expression and re.search(r"[-+*/(]", column):
        return Choice(expression(column), "gpu", None, scale)
    if len(fits) != 1:
        found = f"--power {column} names {len(fits)} columns of {where}"
        raise UserError(found, f"one of {listed(names)}", "copy the name from the header")
    m = counters(fits).get(fits[0]) or (meaning(fits[0]) if scale is None else None)
    index = m.index if m else card_of(labels_of(fits[0])[1]) or next(iter(re.findall(r"\d+", fits[0])[-1:]), None)
    index = int(index) if isinstance(index, str) and index.isdigit() else index
    boundary = "gpu" if not m or m.boundary in ("unknown", "sum") else m.boundary
    return Choice(fits[0], boundary, index, scale or (m.scale if m else None))


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message: short ones, not more than a dozen."""
    names = [n if len(n) <= 60 else n[:57] + "..." for n in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# Lines and documents


@dataclass(frozen=True)
class Reading:
    """One value as a log says it: the text of its time, what it is, whose (labels), the value with its unit, the time of its mean."""

    time: str
    field: str
    value: str
    labels: dict = field(default_factory=dict)
    elapsed_ms: str = ""


@dataclass(frozen=True)
class Readings:
    """The readings of a log that is no table. `kind`: instant, mean (over the time since the reading before), or energy (joules since
    then); `advice` where they have no time; `is_power`: whether all are power by their format."""

    each: Iterable[Reading]
    format: str = ""
    kind: str = "instant"
    advice: str = "log it with time stamps"
    is_power: bool = True


@dataclass(frozen=True)
class LineFormat:
    """A log of lines that are no table. Groups of `reading`: value, and unit, field, card, time where the line has them.

    `time` and `card` find the lines that say so for all that follow (`after`: for all since the last one); lines after one that fits
    `skip` do not count until one fits `resume`. `kind` and `advice` as in `Readings`; `unit` where lines have none.
    """

    name: str
    sign: str
    reading: str
    field: str = "power.draw"
    time: str = ""
    card: str = ""
    skip: str = ""
    resume: str = ""
    kind: str = "instant"
    unit: str = "W"
    after: bool = False
    advice: str = "log it with time stamps"


CTIME = r"\w{3} \w{3} +\d+ [\d:]+ (?:\w+ )?\d{4}"
STAMP_ALONE = r"\d{4}-\d\d-\d\d[T ][\d:.,]+\S*|\d{9,}(?:\.\d+)?"
STAMP = r"(?:\w{3},? )?\w{3} +\d+ [\d:.]+ .*\d{4}|\d{4}-\d\d-\d\d[T ][\d:.,]+\S*|\d{9,}(?:\.\d+)?|\w{3} +\d+ +\w{3} +\d{4} .*"
_PATTERNS = {"CTIME": CTIME, "STAMP": STAMP, "EPOCH": STAMP_ALONE}


def _spelt(text: object) -> object:
    return re.sub(r"\{([A-Z]+)\}", lambda name: _PATTERNS[name[1]], text) if isinstance(text, str) else text


LINE_FORMATS = tuple(LineFormat(**{k: _spelt(v) for k, v in entry.items()}) for entry in _TABLE["lines"])
SAMPLE = r"^[A-Za-z_:][\w:]*(?:\{.*\})? +[-+\d.eEnaN]+"
INFLUX = re.compile(r'^([^,\s#{}"]+(?:,(?:[^\\, =]|\\.)+=(?:[^\\, =]|\\.)+)+) ((?:[^ "]|"[^"]*")+)(?: (-?\d{6,}))?\s*$')
PROMETHEUS = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*(?:\{.*\})?) +(?P<value>\S+)(?: +(?P<time>\d{9,}(?:\.\d+)?))?\s*$")


def not_a_table(head: list[str], is_json: bool, text: Callable[[], str], where: str) -> Readings | None:
    """The readings of a log that is no table; None for a table."""
    if found := next((f for f in LINE_FORMATS if any(re.search(f.sign, line) for line in head)), None):
        return Readings(read_lines(found, text().splitlines()), found.name, found.kind, found.advice)
    if is_json:
        return Readings(read_json(text(), where), "JSON", is_power=False)
    lines = [line for line in head if line.strip() and not line.startswith("#")]
    if lines and all(INFLUX.match(line) for line in lines[:5]):
        return Readings(_apart(read_influx(text().splitlines())), "InfluxDB's", advice="write the points with their time", is_power=False)
    if lines and all(PROMETHEUS.match(s) for s in lines[:5]) and any("{" in s or re.match(SAMPLE, s) for s in lines):
        advice = "ask Prometheus for a range (query_range): one scrape has no time"
        return Readings(_apart(read_prometheus(text().splitlines())), "Prometheus'", advice=advice, is_power=False)
    return None


def read_lines(found: LineFormat, lines: Iterable[str]) -> Iterator[Reading]:
    """The readings of a log of lines, in order; time is empty where the log does not say it."""
    patterns = (found.reading, found.time, found.card, found.skip, found.resume)
    reading, time, card, skip, resume = (re.compile(p) if p else None for p in patterns)
    now, elapsed, whose, counts, waiting = "", "", "", True, []
    for line in lines:
        if time and (match := time.search(line)):
            now, elapsed = match[1].strip(), match[2] if match.re.groups > 1 else ""
            yield from (replace(one, time=now) for one in waiting)
            waiting = []
        if card and (match := card.search(line)):
            whose = match[1]
        counts = True if resume and resume.search(line) else False if skip and skip.search(line) else counts
        for match in reading.finditer(line) if counts else ():
            groups = match.groupdict()
            owner, value = groups.get("card") or whose, f"{groups['value']} {groups.get('unit') or found.unit}"
            labels = {"index": owner} if owner else {}
            one = Reading(groups.get("time") or now, groups.get("field") or found.field, value, labels, elapsed)
            if found.after:
                waiting.append(one)
            else:
                yield one


def read_plist(content: bytes, where: str) -> Iterator[Reading]:
    """The powers [mW] of the samples of `powermetrics -f plist`, which a zero byte parts. Raises UserError for broken ones."""
    for part in filter(bytes.strip, content.split(b"\0")):
        try:
            sample = plistlib.loads(part.strip())
        except (ValueError, ExpatError) as error:
            raise UserError(f"{where} is no property list ({str(error)[:60]})", "samples of powermetrics", "record it again") from None
        for name, value in sample.get("processor", {}).items():
            if name.endswith("_power"):
                elapsed_ms = str(sample.get("elapsed_ns", 0) / 1e6)
                yield Reading(f"{sample['timestamp'].isoformat()}Z", name, f"{value} mW", {}, elapsed_ms)


def with_stamps(head: list[str], lines: Callable[[], list[str]]) -> list[str]:
    """A table whose times stand on lines of their own, as `date; nvidia-smi --format=csv` in a loop writes it, with a column of time. Empty
    for any other log."""
    alone = re.compile(rf"^\s*({STAMP}|\d\d:\d\d:\d\d(?:[.,]\d+)?)\s*$")
    if sum(bool(alone.match(line)) for line in head) < 2:
        return []
    rest = [line for line in head if line.strip() and not alone.match(line)]
    header = next((line for line in rest if rest.count(line) > 1 and any(meaning(cell) for cell in re.split(r"[,;\t]|\s{2,}", line))), "")
    if not header:
        return []
    delimiter = max(",;\t", key=header.count)
    result, now = [f"time{delimiter}{header.lstrip('#')}"], ""
    for line in lines():
        if match := alone.match(line):
            now = match[1].replace(delimiter, ".")
        elif line.strip() and line != header and now:
            result.append(f"{now}{delimiter}{line}")
    return result


def read_prometheus(lines: Iterable[str]) -> Iterator[Reading]:
    """Every sample whose name is of power, with the time [ms since 1970] that the exporter gave it."""
    for line in lines:
        if (match := PROMETHEUS.match(line)) and (meaning(match["name"]) or COUNTED.search(match["name"])):
            name, labels = labels_of(match["name"])
            yield Reading(match["time"] or "", name, match["value"], labels)


def read_influx(lines: Iterable[str]) -> Iterator[Reading]:
    """Every field of power in a log of InfluxDB's line protocol: measurement,tag=a,tag=b field=1,field=2 time_ns."""
    for match in filter(None, map(INFLUX.match, lines)):
        measurement, *tags = re.split(r"(?<!\\),", match[1])
        labels = {k.lower(): re.sub(r"\\(.)", r"\1", v) for k, _, v in (t.partition("=") for t in tags)}
        for name, _, value in (f.partition("=") for f in re.findall(r'[^,="]+=(?:"[^"]*"|[^,]*)', match[2])):
            full = name if meaning(name) or name != "value" else measurement
            yield Reading(match[3] or "", full, value.rstrip("iu"), labels)


def read_json(text: str, where: str) -> Iterator[Reading]:
    """Every value of a JSON document or of JSON lines: Prometheus' query_range, rocm-smi, amd-smi, Scaphandre, records of a logger. Raises
    UserError for text that is no JSON, and for a Prometheus answer that is an error."""
    found = documents(text, where)
    if all(isinstance(d, dict) and {"metric", "values", "timestamps"} <= d.keys() for d in found):  # VictoriaMetrics' export
        series = [{"metric": d["metric"], "values": list(zip(d["timestamps"], d["values"], strict=True))} for d in found]
        found = [{"data": {"result": series}}]
    for document in found:
        data = document.get("data") if isinstance(document, dict) else None
        if isinstance(document, dict) and document.get("status") == "error":
            raise UserError(f"{where} is an error of Prometheus: {str(document.get('error'))[:100]}", "the answer to query_range")
        if isinstance(data, dict) and "result" in data:
            each = [({k.lower(): v for k, v in series.get("metric", {}).items()}, series) for series in data["result"]]
            yield from _apart(
                Reading(repr(time), labels.get("__name__", "value"), str(value), {k: v for k, v in labels.items() if k != "__name__"})
                for labels, series in each
                for time, value in series.get("values") or [series["value"]]
            )
            continue
        for record in document if isinstance(document, list) else [document]:
            host = record.get("host") if isinstance(record, dict) else None
            if isinstance(host, dict) and "consumption" in host:  # Scaphandre, in microwatts
                yield Reading(str(host["timestamp"]), "host power", f"{host['consumption']} uW")
                for socket in record.get("sockets", []):
                    yield Reading(str(socket["timestamp"]), f"cpu {socket['id']} power", f"{socket['consumption']} uW")
                continue
            for each in _records(record):
                yield from _flat(each, "", {})


def _apart(readings: Iterable[Reading]) -> list[Reading]:
    """The readings, with series of one name and card that state two values at one time told apart by the labels in which they differ; a
    value that is stated twice counts once."""
    kept, first, several = [], {}, defaultdict(set)
    for one in readings:
        key = one.field, card_of(one.labels)
        other = first.setdefault((*key, one.time), one)
        if other is one or other.labels == one.labels or other.value != one.value:
            kept.append((key, one))
        if other.value != one.value and other.labels != one.labels:
            several[key] |= {frozenset(other.labels.items()), frozenset(one.labels.items())}
    shared = {key: frozenset.intersection(*sets) for key, sets in several.items()}

    def name(key: tuple, one: Reading) -> str:
        own = sorted(f'{k}="{v}"' for k, v in one.labels.items() if (k, v) not in shared[key])
        return f"{one.field}{{{', '.join(own)}}}"

    return [replace(one, field=name(key, one)) if key in shared else one for key, one in kept]


def _records(document: object) -> Iterator[dict]:
    """The records of a document: those of a list, of a list inside, or the document itself. Devices of one time that no record names are
    numbered."""
    if isinstance(document, list):
        for item in document:
            yield from _records(item)
    elif isinstance(document, dict):
        inner = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        rest = {k: v for k, v in document.items() if not isinstance(v, (list, dict))}
        if isinstance(names := document.get("columns"), list) and isinstance(each := document.get("values", document.get("data")), list):
            tags = document.get("tags") or {}  # InfluxDB's answers, pandas' orient="split"
            yield from (rest | tags | dict(zip(names, row, strict=False)) for row in each)
            return
        named = {plain(k)[0] for item in (inner[0] if inner else ()) if isinstance(item, dict) for k in item}
        many = len(inner[0]) > 1 if inner and not named & {*TIME_NAMES, *CARD_NAMES} else False
        has_time = {plain(k)[0] for k in rest} & set(TIME_NAMES)
        for place, item in enumerate(inner[0] if inner else ()):
            yield from _records(rest | ({"index": place} if many and has_time else {}) | item)
        if not inner:
            yield document


def _flat(node: dict, prefix: str, outer: dict) -> Iterator[Reading]:
    """The values of a record; a key such as card0 or gpu:1 that holds a record names the card."""
    labels = outer | {plain(k.lower())[0]: str(v) for k, v in node.items() if not isinstance(v, (dict, list))}
    time = next((labels[n] for n in TIME_NAMES if n in labels), "")
    for key, value in node.items():
        name = key if meaning(key) and not meaning(f"{prefix} {key}") else f"{prefix} {key}".strip()
        if isinstance(value, dict) and {"value", "unit"} <= set(value):
            yield Reading(time, name, f"{value['value']} {value['unit']}", labels)
        elif isinstance(value, dict):
            card = re.fullmatch(r"(?:card|gpu|device)[ _:]?(\d+)", key, re.I)
            yield from _flat(value, prefix if card else name, labels | ({"index": card[1]} if card else {}))
        elif not isinstance(value, list):
            yield Reading(time, name, str(value), labels)


def _read_long(text: str, delimiter: str, time: str, named: str, value: str) -> Iterator[Reading]:
    """The readings of a table with one value a line, as InfluxDB's annotated CSV has them; a repeated header begins anew."""
    header: list[str] = []
    for line in text.splitlines():
        cells = _cells(line, delimiter) if line.strip() and not line.startswith("#") else []
        if named in cells and value in cells:
            header = cells
        elif header and len(cells) == len(header):
            row = dict(zip(header, cells, strict=True))
            metric, labels = labels_of(row[named])
            rest = {plain(k)[0]: v for k, v in row.items() if k not in (time, named, value) and k}
            if row[value].strip("[]").lower() not in MISSING:
                yield Reading(row[time], metric or row[named], row[value], labels or rest)


def _from_readings(readings: Readings, where: str, wanted: list[str], gpus: int | None = None) -> PowerLog:
    """The log of single readings: one series a field of power and card."""
    kind, is_power, joules = readings.kind, readings.is_power, readings.kind == "energy"
    series: dict[tuple[str, str | None], list[Reading]] = {}
    for one in readings.each:
        series.setdefault((one.field, card_of(one.labels)), []).append(one)
    if not series:
        raise UserError(f"{where} holds no power", "readings of power", "add power to what is logged")
    chosen, others = choose(dict.fromkeys(name for name, _ in series), where, wanted, is_power)
    kind = "counter" if not is_power and counters(c.column for c in chosen) else kind
    names = numbered(card for _, card in series)
    main, rest, missing, zones = [], [], 0, []
    for choice in (*chosen, *others):
        found = rest if choice in others else main
        for card, mine in [(card, mine) for (name, card), mine in series.items() if name == choice.column]:
            if not any(one.time for one in mine):
                raise UserError(f"{where} has no time", "readings with their time", readings.advice)
            t_s, zone = seconds(pa.array([one.time for one in mine], pa.string()), None)
            text = pa.array([one.value for one in mine], pa.string())
            value = _numbers(text) if joules else _watts(text, choice.scale)  # of a counter, its joules
            good = _readable(t_s, mine[0].time, where) & np.isfinite(value)
            missing += int((~good).sum())
            zones.append(zone)
            several = (is_power and len(series) > 1) or choice in others
            index = choice.column if several else len(main) if choice.index is None else choice.index
            t_s, value = t_s[good], value[good]
            at_once = int(np.count_nonzero((np.diff(t_s) == 0) & (np.diff(value) != 0)))
            if gpus != 1 and not is_power and card is None and at_once > BURST_SHARE * len(t_s):
                found = f"{where} states several values of {choice.column} at one time, as of several devices that nothing names"
                raise UserError(found, "an index or uuid in every record", "pass --gpus 1 if it is one device")
            if kind == "counter":
                t_s, value = _counted(t_s, value, choice.column if choice in chosen else "")
            elif kind != "instant":
                before_s = float(mine[0].elapsed_ms) / 1e3 if mine[0].elapsed_ms else None
                t_s, value = _held(t_s, value, 0.0 if joules else None, before_s, joules)
            product = next((mine[0].labels[k] for k in PRODUCT_NAMES if mine[0].labels.get(k)), "")
            index = index if card is None else names[card]
            found.append(LoggedGpu(index, t_s, value, name=product, boundary=choice.boundary, held=kind != "instant"))
    if kind == "instant" and not any(len(g.t_s) for g in main):
        raise UserError(f"power is [N/A] in every reading of {where}", "power readings", "these readings say nothing")
    warnings = [f"{missing} readings are [N/A] or broken"] if missing else []
    assumed = any(c.assumed for c in chosen) and all(card is None for _, card in series)
    return _whole(main, rest, where, listed(c.column for c in chosen), zones[0], missing, warnings, assumed)


def _whole(
    gpus: list[LoggedGpu], rest: list[LoggedGpu], where: str, name: str, zone: str, missing=0, warnings=(), assumed=False
) -> PowerLog:
    """The log of the devices with readings. Raises UserError where one has a single reading, or none has any."""
    found = [g for g in gpus if len(g.t_s)] or gpus
    short = [g for g in found if len(g.t_s) < 2]
    if short or not found:
        which = f" of GPU {short[0].index}" if short and len(found) > 1 else ""
        raise UserError(f"{where} has {len(short[0].t_s) if short else 0} reading(s){which}", "at least two", "log for longer")
    return PowerLog(tuple(found), name, zone, missing, list(warnings), tuple(g for g in rest if len(g.t_s) > 1), assumed)


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
        mine = mine[np.argsort(t_s[mine], kind="stable")]
        found.append(LoggedGpu(name, t_s[mine], power_w[mine]))
    return _whole(found, [], where, present, "monotonic seconds")


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


# Tables: where to find what


@dataclass(frozen=True)
class Layout:
    """Where to find what in a table: names of columns (empty: there is none), how it is cut, and how many lines stand before the first
    reading. `kind`: instant, mean, counter, or another reader's; `only`: a column and the value of the lines that count; `reads`: columns
    that expressions read."""

    delimiter: str
    names: list[str]
    skip: int
    time: list[str]
    chosen: list[Choice] = field(default_factory=list)
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


def _in_watts(cell: str) -> bool:
    return bool(WITH_UNIT.match(cell)) and not NUMBER.match(cell)


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
        named = any(plain(c)[0] in TIME_NAMES for c in cells)
        if whole and named and any(meaning(c) for c in cells if not _is_value(c)):
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
    names = [(name if has_header else "") or f"column {i + 1}" for i, name in enumerate(cells)]
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


def _by_name(columns: dict[str, list[str]], where: str, wanted: list[str], time: str, card: str) -> dict:
    """The parts of a layout from the header. Raises UserError where an option names no column, and where there is no time."""
    short = {plain(n)[0]: n for n in reversed(columns)}
    kind, only, reads = "instant", None, []

    def expression(text: str) -> str:
        """The expression, if it can be evaluated; the columns that it needs are added to `reads`."""
        import pandas as pd

        from eai.cells import evaluate

        used: set[str] = set()
        evaluate(text, pd.DataFrame(columns), used)
        reads.extend(n for n in columns if n in used)
        return text

    def named(name: str, option: str) -> str:
        """The column, or the expression, that an option names."""
        fits = [n for n in columns if n.strip().lower() == name.strip().lower()] or [n for n in columns if plain(n)[0] == plain(name)[0]]
        if not fits and re.search(r"[-+*/(]", name):
            return expression(name)
        if len(fits) != 1:
            raise UserError(f"{option} {name} names {len(fits)} columns", f"one of {listed(columns)}", "copy the name from the header")
        return fits[0]

    def pick(test: Callable) -> str:
        return next((n for n in columns if n not in taken and test(plain(n)[0])), "")

    long = [next((short[n] for n in names if n in short), "") for names in (TIME_NAMES, LONG_NAMES, LONG_VALUES)]
    if all(long) and not wanted:  # one value a line
        return {"time": long, "kind": "long"}
    if {"duration", "emissions", "gpu_energy", "cpu_energy"} <= short.keys():
        return {"time": [short["duration"]], "kind": "codecarbon"}
    if "pkg_watt" in short or "cor_watt" in short or "ramwatt" in {n.lower() for n in columns}:
        kind, cpu = "mean", short.get("cpu")
        only = (cpu, "-") if cpu and "-" in columns[cpu] else None
        if "time_of_day" not in short and not time:
            raise UserError(f"{where} is turbostat's and has no time", "Time_Of_Day_Seconds", "turbostat --enable Time_Of_Day_Seconds")
        if cpu and only is None and len(set(columns[cpu])) > 1:
            raise UserError(f"{where} has no summary line", "CPU -", "run turbostat with --Summary")
    if re.fullmatch(r"time(,gpu\d+)+", ",".join(columns).lower()) and not wanted:
        wanted = list(columns)[1:]  # Zeus writes watts per card under these names
    if not wanted and not any(meaning(n) for n in columns):
        wanted = [n for n, cells in columns.items() if meaning(f"{n} power") and all(_in_watts(c) for c in cells)]
    kind = "counter" if not wanted and counters(columns) else kind
    chosen, others = choose(columns, where, wanted, expression=expression)
    if time:
        stamps = [named(time, "--time")]
        unit = plain(stamps[0])[1] if stamps[0] in columns else 1.0
    else:
        known = {}
        for name in columns:
            bare, its_unit = plain(name)
            known.setdefault(re.sub(r"_(utc|local|unix|epoch|iso|iso8601|posix|stamp)$", "", bare), (name, its_unit))
        name, unit = next((known[n] for n in TIME_NAMES if n in known), ("", None))
        stamps = [name]
        if {"date", "time"} <= known.keys() and any(CLOCK.match(v) for v in columns[known["time"][0]][:5]):
            stamps, unit = [known["date"][0], known["time"][0]], None
        if not name:
            do = "name it with --time, or add timestamp to the query"
            raise UserError(f"{where} has no time column (found {listed(columns)})", "timestamp or seconds", do)
    taken = {*stamps, *(c.column for c in (*chosen, *others))}
    cards = [named(card, "--card")] if card else []
    if not card and not any(c.index is not None for c in chosen if c.boundary == "gpu"):  # the surest name whose numbers cards have
        for column in (short[n] for n in CARD_NAMES if n in short and short[n] not in taken):
            values = {v.strip() for v in columns[column]}
            if all(v.isdigit() and int(v) < 64 for v in values) or all(re.search(r"[A-Za-z]|:", v) for v in values):
                tile = [short[t] for t in ("tile_id", "tile", "gpu_instance_id") if t in short and short[t] != column]
                cards = [column, *tile[:1]]
                break
    limit = pick(LIMIT.fullmatch)
    return {
        **{
            "time": stamps,
            "time_unit": unit,
            "chosen": chosen,
            "others": others,
            "card": cards,
            "kind": kind,
            "only": only,
            "reads": reads,
        },
        **{"host": pick(HOST_NAMES.__contains__), "product": pick(PRODUCT_NAMES.__contains__), "utilization": pick(UTILIZATION.fullmatch)},
        "limit": Choice(limit, "gpu", None, WATTS.get(words(limit)[-1])) if limit else None,
    }


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
    named = choose(names, where, list(powers))[0]
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
        if isinstance(source, Path):
            with open(source, "rb") as file:
                file.seek(-1, 2)
                is_whole = file.read() == b"\n"
            source = source if is_whole else _content(source)
        if isinstance(source, bytes) and not source.endswith(b"\n"):  # the last line may be cut off, and half a number is still a number
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

            from eai.cells import evaluate

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
            t_s, self.zone = seconds(text, s.time_unit)
            self.example = self.example or (text[0].as_py() if len(text) else "")
            if np.isnan(t_s).any():  # headers that are printed again, as dmon does, are no broken lines
                same = pc.equal(pc.utf8_trim_whitespace(block[s.time[0]]), s.time[0])
                again = pc.or_(pc.starts_with(text, "#"), same).to_numpy(zero_copy_only=False)
                for name, column in block.items():
                    other = column.filter(same)[0].as_py().strip() if pc.any(same).as_py() and s.skip else name
                    if other != name and not name.startswith("column ") and not name.endswith(")"):
                        raise UserError(
                            f"{self.where} has another header further on, with {other} for {name}", "one order of columns", "cut it there"
                        )
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
        names = []
        if card is not None:
            labels = numbered(self.names)
            names, column = [labels[n] for n in self.names], s.card[0]
            counts = np.bincount(card)
            cards = all(isinstance(n, int) for n in names) and plain(column)[0] in ("gpu", "device", "card", "id")
            if cards and len(counts) > 1 and counts.max() > 3 * counts.min():
                found = f"column {column} of {where} has values {listed(map(str, names))}, not equally often"
                raise UserError(found, "numbers of cards", "say which column names the card: --card COLUMN")
        if card is None and len(s.chosen) == 1 and s.chosen[0].index is None and s.kind == "instant":
            card = _turns(t_s, gpus, where, warnings)
            names = list(range(int(card.max()) + 1))
        elif gpus is not None and gpus != (count := max(len(names), len(s.chosen))):
            raise UserError(f"{where} names {count} cards and --gpus says {gpus}", "the same number", "leave --gpus out")
        used, limit = values.get(s.utilization), values[s.limit.column] if s.limit else None

        def series(choice: Choice, place: int | str, known: np.ndarray, by_card: bool) -> Iterator[LoggedGpu]:
            """The readings of a column, one series a card where lines are of cards; of another device those of the first card's lines."""
            for code in range(len(names) if by_card and card is not None else 1):
                mine = known if card is None else known & (card == code)
                mine = slice(None) if mine.all() else mine
                index = names[code] if by_card and card is not None else place if choice.index is None else choice.index
                busy = used[mine] if used is not None and np.isfinite(used[mine]).any() else None
                is_mean = s.kind == "mean" or "interval_mean" in choice.column  # as `eai watch` logs a counter
                t, p = t_s[mine], values[choice.column][mine]
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
        assumed = any(c.assumed for c in s.chosen) and not s.card and not s.product
        return _whole(found, rest, where, power_name, self.zone, missing, warnings, assumed)


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


def _numbers(column: pa.Array, scale: float = 1.0) -> np.ndarray:
    """Floats of a column of text with or without a unit; NaN for [N/A], inf and anything that is no number."""
    text = pc.utf8_trim_whitespace(column)
    if not all(NUMBER.match(v) for v in text[:50].to_pylist()):
        text = pc.ascii_rtrim(text, " mkuWwats%J")
    try:
        numbers = _array(pc.cast(text, pa.float64()), np.float64)
    except pa.ArrowInvalid:
        text = _with_points(text, scale)
        text = pc.if_else(pc.match_substring_regex(text, PLAIN), text, None)
        numbers = _array(pc.cast(text, pa.float64()), np.float64).astype(float)
    return np.where(np.isfinite(numbers), numbers, np.nan) if not np.isfinite(numbers).all() else numbers


def _with_points(text: pa.Array, scale: float) -> pa.Array:
    """Numbers with decimal points. A comma is one too; where it may also part thousands (1,234 W, below 20 kW by `scale`) nothing is
    assumed. Raises UserError for numbers that can be read in two ways."""
    commas = [v for v in text[:2000].to_pylist() if v and re.fullmatch(r"[-+]?\d[\d.,]*", v) and "," in v]
    if not commas:
        return text
    points = [v for v in commas if "." in v]
    if (points and all(v.rindex(".") > v.rindex(",") for v in points)) or any(v.count(",") > 1 for v in commas):
        return pc.replace_substring(text, ",", "")
    if all(re.fullmatch(r"[-+]?\d{1,3},\d{3}", v) for v in commas) and scale * max(float(v.replace(",", "")) for v in commas) < 20_000:
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
        return _numbers(text, scale or 1.0) * (scale or 1.0)
    numbers = _numbers(text, min(WATTS[u] for u in units or ("w",)))
    for unit in ("mw", "kw", "uw", "µw"):
        mask = pc.match_substring_regex(text, rf"(?i)\d ?{unit}(atts?)?$").to_numpy(zero_copy_only=False)
        numbers = np.where(mask, numbers * WATTS[unit], numbers)
    return numbers


def _codes(column: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Small integers for the cards' names, in the order in which they first appear."""
    encoded = pc.dictionary_encode(column)
    table = np.array([names.setdefault(name.strip(), len(names)) for name in encoded.dictionary.to_pylist()], dtype=np.int16)
    return table[_array(encoded.indices, np.int32)]


def seconds(column: pa.Array, unit_s: float | None) -> tuple[np.ndarray, str]:
    """Seconds of a time column and how it was understood: numbers, time of day, stamps with a zone, or local stamps."""
    text = pc.ascii_trim_whitespace(column)
    first = next((v for v in text[:50].to_pylist() if v and v.strip("[]").lower() not in MISSING), "")
    if NUMBER.match(first):
        number = float(first.replace(",", "."))
        scale = unit_s or (1e-9 if number > 1e17 else 1e-6 if number > 1e14 else 1e-3 if number > 1e11 else 1.0)
        return _numbers(text) * scale, "seconds"
    if CLOCK.match(first):
        text = pc.replace_substring_regex(pc.replace_substring(text, ",", "."), r"^(\d+:\d+:\d+):(\d{3})$", r"\1.\2")
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
    zoned = bool(re.search(ZONE, first)) and not re.match(r"\d\d-\d\d-\d{4}", first)
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
    has_zone = text[~text.str.strip("[]").str.lower().isin(MISSING)].str.contains(ZONE)
    if has_zone.any() and not has_zone.all():
        raise UserError(f"some times have a zone and some have none, such as {text[has_zone.idxmin()]}", "one or the other", "mend the log")
    named = text if zoned else text.str.replace(r"\b[A-Z]{3,4}\b(?= \d{4}$)", "UTC", regex=True)
    for form in STAMPS:
        found = pd.to_datetime(named, format=form, errors="coerce")
        if found.notna().mean() > 0.5:
            return (found if found.dt.tz is None else found.dt.tz_convert("UTC") if zoned else found.dt.tz_localize(None)), ""
    return pd.to_datetime(text, format="ISO8601", errors="coerce", utc=zoned), ""
