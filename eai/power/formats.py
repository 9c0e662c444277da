"""What the columns and lines of a power log mean: the one table of the formats that tools write.

A column is taken because it *is* power of a device. Its name is cut into words; a word of power or a unit of it has to be there, and no
word that makes it something else (a limit, a state, a reason). Other words say whose power it is and which card's. Where two columns
would do, none is taken: `choose` refuses and lists them.
"""

import fnmatch
import functools
import json
import plistlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.parsers.expat import ExpatError

import yaml

from eai.errors import UserError

WATTS = {
    **dict.fromkeys(("w", "watt", "watts", "wattage"), 1.0),
    **dict.fromkeys(("mw", "milliwatt", "milliwatts"), 1e-3),
    **dict.fromkeys(("uw", "µw", "microwatt", "microwatts"), 1e-6),
    **dict.fromkeys(("kw", "kilowatt", "kilowatts"), 1e3),
}
_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
GPU, CPU, CORES, MEMORY, MACHINE, PARTS = (
    frozenset(_TABLE["words"][key].split()) for key in ("gpu", "cpu", "cores", "memory", "machine", "parts")
)
POWER = {*_TABLE["words"]["power"].split(), *(word for word in WATTS if len(word) > 2)}
NOT_POWER = frozenset(_TABLE["words"]["not_power"].split())
CARD_NAMES, HOST_NAMES, PRODUCT_NAMES, TIME_NAMES, LONG_NAMES, LONG_VALUES = (
    tuple(_TABLE["names"][key].split()) for key in ("card", "host", "product", "time", "long", "value")
)
JOULES = {"j": 1.0, "joule": 1.0, "joules": 1.0, "uj": 1e-6, "µj": 1e-6, "microjoules": 1e-6, "kj": 1e3, "wh": 3600.0, "kwh": 3.6e6}
"""Units of a counter. `mj` and `mwh` are none of them: they may be milli or mega."""

FLAVOURS = {"instant": 0, "instantaneous": 0, "current": 0, "average": 2, "avg": 2, "mean": 2}
"""Instant power before `power.draw` before the 1 s average: the average lags behind the load."""

LABELLED = re.compile(r"^\s*([\w:.]*)\s*\{(.*)\}\s*$", re.S)
LABEL = re.compile(r'([\w.]+)\s*[=:]\s*"?([^",}]*)"?')
TIME_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0, "min": 60.0}


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

    @property
    def is_mean(self) -> bool:
        """Whether each value is the mean since the reading before, as `eai watch` logs a counter."""
        return "interval_mean" in self.column


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
        raise UserError(found, "mW, W or kW", f"choose with --power, for instance --power {quoted(metric + ':mW')}")
    found = words(metric)
    have, unit = set(found), next((w for w in reversed(found) if w in WATTS), None)
    last = found[-1] if found else ""
    says = have & POWER or (last in WATTS and len(found) > 1) or metric.strip().lower() == "p"
    if not is_power and (not says or have & NOT_POWER or "%" in have):
        return None
    flavour = next((FLAVOURS[w] for w in found if w in FLAVOURS), 1)
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
        named = {
            "gpu": found[:2] == ["power", "draw"],
            "dram": memory,
            "machine": machine | (have & {"pwr"} if "consumption" in have else set()),
            "part": have & PARTS,
        }
        boundary = next((b for b, says in named.items() if says), "unknown")
    index = card_of(labels)
    if index is None:
        numbers = [(i, w) for i, w in enumerate(found) if w.isdigit()]
        near = [w for i, w in numbers if i and found[i - 1] in GPU | CPU | CORES | MEMORY | POWER | {"rank", "index", "idx", "draw", "w"}]
        index = near[0] if near else numbers[-1][1] if numbers else None
    index = int(index) if index is not None and index.isdigit() else index
    return Choice(name, boundary, index, WATTS.get(unit) if unit else None, flavour=flavour)


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
        do = f"say which are power: --power {quoted(','.join(bare)) if bare else 'COLUMN, or add power.draw to the query'}"
        raise UserError(f"{where} has no power column (found {listed(names)})", "one such as power.draw [W]", do)
    groups: dict[tuple, list[Choice]] = {}
    for m in known.values():
        groups.setdefault((m.boundary, m.index), []).append(m)
    by: dict[str, list[Choice]] = {b: [] for b in ("gpu", "cpu_package", "unknown", "machine", "dram", "part", "sum")}
    for (boundary, _), members in groups.items():
        best = [m for m in members if m.flavour == min(m.flavour for m in members)]
        if len(best) > 1 and boundary not in ("machine", "part", "sum"):
            _refuse(best, where)
        by[boundary] += best
    if len(by["gpu"]) > 1 and any(c.index is None for c in by["gpu"]):
        _refuse(by["gpu"], where)
    if not by["gpu"] and by["unknown"]:
        everything = [c for (boundary, _), members in groups.items() for c in by[boundary] if c in members]
        if len(by["unknown"]) < len(everything) or (len(everything) > 1 and any(c.index is None for c in by["unknown"])):
            _refuse(everything, where)
        by["gpu"], by["unknown"] = [replace(c, boundary="gpu", assumed=True) for c in by["unknown"]], []
    if not by["gpu"] and len(by["sum"]) == 1:
        by["gpu"], by["sum"] = by["sum"], []
    first = next(b for b in by if by[b])
    if first in ("machine", "part", "sum") and len(by[first]) > 1:
        _refuse(by[first], where)
    return by[first], [c for b in by if b != first for c in by[b]]


def _refuse(members: list[Choice], where: str) -> None:
    found = f"{len(members)} columns of {where} could be the power ({listed(c.column for c in members)})"
    raise UserError(found, "one of a device", f"choose with --power, for instance --power {quoted(members[0].column)}")


def counters(names: Iterable[str]) -> dict[str, Choice]:
    """The counters of energy among columns without power: those of xpu-smi and powercap, `package-0_energy_uj`, with joules a unit."""
    names, found = list(names), {}
    for name in [] if any(meaning(n) for n in names) else names:
        cells = words(name)
        unit = next((w for w in reversed(cells) if w in JOULES), None)
        if match := re.fullmatch(r"intel-rapl:(\d+)((?::\d+)?)", name):
            found[name] = Choice(name, "part" if match[2] else "cpu_package", int(match[1]), 1e-6)
        elif unit and {"energy", "consumed"} & set(cells) and not {"per", "efficiency", "delta"} & set(cells):
            whose = meaning(re.sub(r"(?i)energy|consumed", "power", name) + " w") or Choice(name, "unknown", None)
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
    numbers = re.findall(r"\d+", fits[0])
    index = m.index if m else card_of(labels_of(fits[0])[1]) or (numbers[-1] if numbers else None)
    index = int(index) if isinstance(index, str) and index.isdigit() else index
    boundary = "gpu" if not m or m.boundary in ("unknown", "sum") else m.boundary
    return Choice(fits[0], boundary, index, scale or (m.scale if m else None))


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a message: short ones, not more than a dozen."""
    names = [n if len(n) <= 60 else n[:57] + "..." for n in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def quoted(name: str) -> str:
    """A name as a shell takes it."""
    return name if re.fullmatch(r"[\w.:,/-]+", name) else f"'{name}'"


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
class LineFormat:
    """A log of lines that are no table. Groups of `reading`: value, and unit, field, card, time where the line has them.

    `time` and `card` find the lines that say so for all that follow (`after`: for all since the last one); lines after one that fits
    `skip` do not count until one fits `resume`.
    `kind`: instant, mean (over the time since the reading before), or energy (joules since then). `unit` where lines have none.
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
STAMPS = {"{CTIME}": CTIME, "{STAMP}": STAMP, "{EPOCH}": STAMP_ALONE}


for _entry in _TABLE["lines"]:
    _entry |= {k: functools.reduce(lambda text, each: text.replace(*each), STAMPS.items(), v) for k, v in _entry.items() if type(v) is str}
LINE_FORMATS = tuple(LineFormat(**entry) for entry in _TABLE["lines"])
SAMPLE = r"^[A-Za-z_:][\w:]*(?:\{.*\})? +[-+\d.eEnaN]+"
INFLUX = re.compile(r'^([^,\s#{}"]+(?:,(?:[^\\, =]|\\.)+=(?:[^\\, =]|\\.)+)+) ((?:[^ "]|"[^"]*")+)(?: (-?\d{6,}))?\s*$')
PROMETHEUS = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*(?:\{.*\})?) +(?P<value>\S+)(?: +(?P<time>\d{9,}(?:\.\d+)?))?\s*$")


def not_a_table(head: list[str], is_json: bool, text: Callable[[], str], where: str) -> tuple | None:
    """(readings, what it is, kind, advice where they have no time, whether all are power) of a log that is no table; None for a table."""
    if is_json:
        return read_json(text(), where), "JSON", "instant", "log it with time stamps", False
    if found := next((f for f in LINE_FORMATS if any(re.search(f.sign, line) for line in head)), None):
        return read_lines(found, text().splitlines()), found.name, found.kind, found.advice, True
    lines = [line for line in head if line.strip() and not line.startswith("#")]
    if lines and all(INFLUX.match(line) for line in lines[:5]):
        return read_influx(text().splitlines()), "InfluxDB's", "instant", "write the points with their time", False
    if lines and all(PROMETHEUS.match(s) for s in lines[:5]) and any("{" in s or re.match(SAMPLE, s) for s in lines):
        advice = "ask Prometheus for a range (query_range): one scrape has no time"
        return read_prometheus(text().splitlines()), "Prometheus'", "instant", advice, False
    return None


def read_lines(found: LineFormat, lines: Iterable[str]) -> Iterator[Reading]:
    """The readings of a log of lines, in order; time is empty where the log does not say it."""
    reading, time, card, skip, resume = (
        re.compile(p) if p else None for p in (found.reading, found.time, found.card, found.skip, found.resume)
    )
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


def is_plist(start: bytes) -> bool:
    """Whether a log is property lists, as `powermetrics -f plist` writes them."""
    return start[:6] == b"bplist" or (start.lstrip()[:5] == b"<?xml" and b"<plist" in start)


def read_plist(content: bytes, where: str) -> Iterator[Reading]:
    """The powers [mW] of the samples of `powermetrics -f plist`, which a zero byte parts. Raises UserError for broken ones."""
    for part in content.split(b"\0"):
        if part.strip():
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
        if (match := PROMETHEUS.match(line)) and meaning(match["name"]):
            name, labels = labels_of(match["name"])
            yield Reading(match["time"] or "", name, match["value"], labels)


def read_influx(lines: Iterable[str]) -> Iterator[Reading]:
    """Every field of power in a log of InfluxDB's line protocol: measurement,tag=a,tag=b field=1,field=2 time_ns."""
    for line in lines:
        if not (match := INFLUX.match(line)):
            continue
        measurement, *tags = re.split(r"(?<!\\),", match[1])
        labels = {k.lower(): re.sub(r"\\(.)", r"\1", v) for k, _, v in (t.partition("=") for t in tags)}
        for name, _, value in (f.partition("=") for f in re.findall(r'[^,="]+=(?:"[^"]*"|[^,]*)', match[2])):
            full = name if meaning(name) or name != "value" else measurement
            yield Reading(match[3] or "", full, value.rstrip("iu"), labels)


def documents(text: str) -> list:
    """The documents of JSON or JSON lines. Raises ValueError for text that is neither."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _documents(text: str, where: str) -> list:
    try:
        return documents(text)
    except ValueError as error:
        raise UserError(f"{where} is no JSON ({error})", "one document, or one a line", "record it again") from None


def json_as_csv(text: str, where: str) -> str:
    """The records of JSON as a table whose columns have dots, `ENERGY.Power`."""
    import pandas as pd

    return pd.json_normalize([r for d in _documents(text, where) for r in _records(d)]).to_csv(index=False)


def read_json(text: str, where: str) -> Iterator[Reading]:
    """Every value of a JSON document or of JSON lines: Prometheus' query_range, rocm-smi, amd-smi, Scaphandre, records of a logger. Raises
    UserError for text that is no JSON, and for a Prometheus answer that is an error."""
    for document in _documents(text, where):
        data = document.get("data") if isinstance(document, dict) else None
        if isinstance(document, dict) and document.get("status") == "error":
            raise UserError(f"{where} is an error of Prometheus: {str(document.get('error'))[:100]}", "the answer to query_range")
        if isinstance(data, dict) and "result" in data:
            for series in data["result"]:
                labels = {k.lower(): v for k, v in series.get("metric", {}).items()}
                name = labels.pop("__name__", "value")
                for time, value in series.get("values") or [series["value"]]:
                    yield Reading(repr(time), name, value, labels)
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


def _records(document: object) -> Iterator[dict]:
    """The records of a document: those of a list, of a list inside, or the document itself."""
    if isinstance(document, list):
        for item in document:
            yield from _records(item)
    elif isinstance(document, dict):
        inner = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if inner:
            rest = {k: v for k, v in document.items() if not isinstance(v, (list, dict))}
            for item in inner[0]:
                yield from _records(rest | item)
        else:
            yield document


def _flat(node: dict, prefix: str, outer: dict) -> Iterator[Reading]:
    """The values of a record; a key such as card0 or gpu:1 that holds a record names the card."""
    scalars = {k.lower(): str(v) for k, v in node.items() if not isinstance(v, (dict, list))}
    labels = outer | {plain(k)[0]: v for k, v in scalars.items()}
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
