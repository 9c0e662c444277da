"""What the columns of a recorded power log mean, told from its header or, without one, from its first lines."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

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
    return delimiter, [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]


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
