"""Gross or net: the idle power that energy, power and throughput imply, against what the table says of itself.

Gross energy per token is power / throughput. If idle power was subtracted, power - energy x throughput is that idle power. Whoever
compares a gross figure with a net one compares two quantities.

Figures that no device can produce: shares outside 0 to 1, power above the board's limit or below idle, implied times.

`limits` is a table of gpu, tdp_w and idle_power_w; where it says nothing about a card, the widest sensible bounds stand in.
Deterministic: a sensor's error of 5 % (one standard uncertainty) is allowed for twice.
"""

import re
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd

from eai import catalog
from eai.claims.findings import Finding, number
from eai.claims.relations import complete, references
from eai.claims.tabular import Table, same_or_less_specific
from eai.errors import UserError
from eai.importers.names import boards

MOST_NAMED = 20
GROSS_SHARE = 0.03  # an integral and mean power x time differ by up to 2 % in careful runs


def implied_idle(table: Table) -> np.ndarray:
    """Idle power [W] that each row subtracted: power - energy per token x throughput; NaN where not computable."""
    known = complete(table)
    if "energy_j_per_token" not in known:
        return np.full(len(table), np.nan)
    return table.column("power_w") - known["energy_j_per_token"].value * table.column("throughput_tok_s")


def kinds(table: Table) -> np.ndarray:
    """`gross`, `net` or "" for each row, by session (else by location, else the whole table).

    A set is gross if the median of |implied idle| is within 3 % of power, net if it lies between 3 % and half of it.
    """
    idle, power = implied_idle(table), table.column("power_w")
    share = idle / power
    names = [k for k in ("session", "gpu") if k in table.keys] or [k for k in ("location",) if k in table.keys]
    group = table.groups(names)
    middle = pd.Series(share).groupby(group).transform("median").to_numpy()
    known = np.isfinite(share)
    out = np.full(len(table), "", dtype=object)
    out[known & (np.abs(middle) <= GROSS_SHARE)] = "gross"
    out[known & (middle > GROSS_SHARE) & (middle <= 0.5)] = "net"
    return out


def accounting(table: Table) -> list[Finding]:
    """Labels that the figures contradict, tables that mix both under one label, and signs that depend on it. Deterministic."""
    if not (table.has("power_w", "throughput_tok_s") and np.isfinite(implied_idle(table)).any()):
        return []
    idle, kind, label = implied_idle(table), kinds(table), table.key("accounting")
    place = table.key("session") if table.has("session") else table.key("location")
    found = []
    wrong = np.flatnonzero((kind != "") & np.isin(label, ("net", "gross")) & (kind != label))
    for name in list(dict.fromkeys(place[wrong]))[:MOST_NAMED]:
        rows = wrong[place[wrong] == name]
        if len(rows):
            stated = table.column("idle_stated_w")[rows]
            asked = f" of {number(np.nanmedian(stated))} W idle" if np.isfinite(stated).any() else ""
            reason = (
                f"{name or table.name}: stated to be {label[rows[0]]}{asked}, but power - energy x throughput is "
                f"{number(np.median(idle[rows]), 3)} W (median of {len(rows)} rows): the figures are "
                f"{kind[rows[0]]}"
            )
            found.append(
                Finding(
                    "accounting",
                    "the figures are accounted as stated",
                    "inconsistent",
                    reason,
                    str(label[rows[0]]),
                    str(kind[rows[0]]),
                    tuple(np.asarray(rows, dtype=np.int64).tolist()),
                    f"label:{name}",
                )
            )
    found += _impossible(table, idle)
    mixed = _mixed(kind, label)
    found += mixed
    if mixed:
        found += _signs(table, idle, kind)
    if not found:
        rows = np.flatnonzero(kind != "")
        found.append(
            Finding(
                "accounting",
                "the figures are accounted as stated",
                "consistent",
                f"{len(rows)} rows are accounted alike or as labelled",
                positions=tuple(np.asarray(rows, dtype=np.int64).tolist()),
                name="label",
            )
        )
    return found


def _impossible(table: Table, idle: np.ndarray) -> list[Finding]:
    """Rows where power / throughput is no energy per token at all: neither gross nor net of an idle power that a card may have."""
    share = idle / table.column("power_w")
    step = table.step("power_w") / table.column("power_w") + table.step("throughput_tok_s") / table.column("throughput_tok_s")
    off = np.flatnonzero(np.isfinite(share) & ((share < -GROSS_SHARE - step) | (share > 0.5 + step)))
    if not len(off):
        return []
    i = int(off[np.argmax(np.abs(share[off]))])
    rate, power = table.column("throughput_tok_s")[i], table.column("power_w")[i]
    energy = (power - idle[i]) / rate
    reason = (
        f"{len(off)} of {np.isfinite(share).sum()} rows: {number(power)} W / {number(rate)} tok/s is {number(power / rate)} J a token, and "
        f"{number(energy)} J is printed, x {number(energy / (power / rate), 3)}; subtracting idle explains 0.5 to 1"
    )
    claim = "energy per token = power / throughput"
    return [
        Finding(
            "accounting",
            claim,
            "inconsistent",
            reason,
            number(energy),
            number(power / rate),
            tuple(np.asarray(off, dtype=np.int64).tolist()),
            "power over rate",
        )
    ]


def _mixed(kind: np.ndarray, label: np.ndarray) -> list[Finding]:
    """One finding for each label under which both gross and net figures stand."""
    found = []
    for name in dict.fromkeys(label):
        gross, net = (np.flatnonzero((label == name) & (kind == k)) for k in ("gross", "net"))
        if len(gross) and len(net):
            reason = (
                f"of the rows labelled '{name or 'nothing'}', {len(gross)} are gross (power / throughput) and "
                f"{len(net)} are net of idle: they must not be compared with each other"
            )
            found.append(
                Finding(
                    "accounting",
                    "one label means one accounting",
                    "inconsistent",
                    reason,
                    str(name),
                    "gross and net",
                    tuple(map(int, [*gross, *net])),
                    f"mixed:{name}",
                )
            )
    return found


def _signs(table: Table, idle: np.ndarray, kind: np.ndarray) -> list[Finding]:
    """Net rows whose change against their reference has the other sign when both are counted gross."""
    if not table.has("quantization"):
        return []
    net = kind == "net"
    energy, power, rate = table.column("energy_j_per_1k_tok"), table.column("power_w"), table.column("throughput_tok_s")
    quantization = table.key("quantization")
    base = net & np.isin(quantization, ("fp16", "bf16", "fp32", "unspecified_baseline"))
    pairs = references(table, np.flatnonzero(net & ~base), base, energy)
    found = []
    for i, j in pairs.items():
        stated, gross = energy[i] / energy[j] - 1, power[i] / rate[i] / (power[j] / rate[j]) - 1
        if stated * gross < 0:
            name = ", ".join(f"{k}={table.keys[k].iloc[i]}" for k in ("gpu", "model", "quantization") if k in table.keys)
            reason = (
                f"{name}: {100 * stated:+.1f} % energy against {quantization[j]} net of {number(idle[i], 3)} W "
                f"idle, but {100 * gross:+.1f} % gross: the sign rests on the accounting"
            )
            found.append(
                Finding(
                    "accounting",
                    "the direction of the change holds gross as well",
                    "inconsistent",
                    reason,
                    f"{100 * stated:+.1f} %",
                    f"{100 * gross:+.1f} %",
                    (i, j),
                    f"sign:{i}",
                )
            )
    return found


LARGEST_BOARD_W = 1500.0
SENSOR = 0.10
MACHINE = ("machine", "wall", "system", "node", "server")
LEAST_SHARE_OF_TDP = 0.05  # an accelerator that decodes draws more than this share of its board limit


def _limits(table: Table, limits: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest TDP and lowest idle power [W] of each row's boards together, NaN where unknown, and the number of boards.

    The table's own columns go first, then `limits`, then the catalog. `8 x NVIDIA A40` is eight boards, as is num_gpus 8.
    """
    tdp, idle = table.column("tdp_w").copy(), table.column("idle_power_w").copy()
    count = np.where(table.column("num_gpus") >= 1, table.column("num_gpus"), np.nan)
    gpu = table.key("gpu")
    for name in pd.unique(gpu):
        n, board = boards(name) if name else (1, "")
        rows = gpu == name
        count[rows & np.isnan(count)] = n
        fits = (
            limits[[same_or_less_specific(board, g) for g in limits["gpu"].astype(str)]] if board and limits is not None else pd.DataFrame()
        )
        for out, column, pick in ((tdp, "tdp_w", "max"), (idle, "idle_power_w", "min")):
            figures = pd.to_numeric(fits.get(column, pd.Series(dtype=float)), errors="coerce").dropna()
            value = (
                getattr(figures, pick)() if len(figures) else _catalog_tdp(board) if column == "tdp_w" and limits is not None else np.nan
            )
            out[rows & np.isnan(out)] = value
    count = np.where(np.isnan(count), 1.0, count)
    return tdp * count, idle * count, count


@cache
def _catalog_tdp(name: str) -> float:
    """The highest board limit [W] of the boards that a name may mean, NaN where the catalog knows none."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    found = [g.tdp_w for g in catalog.gpus() if g.tdp_w and (same_or_less_specific(key, g.slug) or same_or_less_specific(g.slug, key))]
    with suppress(UserError):
        found += [catalog.gpu(name).tdp_w or np.nan] if name else []
    return float(np.nanmax(found)) if name and np.isfinite(found).any() else np.nan


def _many(name: str, claim: str, off: np.ndarray, seen: np.ndarray, reason, stated="", computed="") -> list[Finding]:
    """One finding over all rows that fail, or one that all pass."""
    if not seen.any():
        return []
    rows = np.flatnonzero(off)
    if not len(rows):
        return [
            Finding(
                "physical",
                claim,
                "consistent",
                f"{seen.sum()} figures are possible",
                positions=tuple(np.flatnonzero(seen).tolist()),
                name=name,
            )
        ]
    return [
        Finding("physical", claim, "inconsistent", reason(rows), stated, computed, tuple(np.asarray(rows, dtype=np.int64).tolist()), name)
    ]


def _span(values: np.ndarray, unit: str) -> str:
    """`7.4 to 11 W`, or one figure."""
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{number(low, 3)} {unit}" if low == high else f"{number(low, 3)} to {number(high, 3)} {unit}"


def _power(table: Table, power: np.ndarray, tdp: np.ndarray, idle: np.ndarray, count: np.ndarray, what: str) -> list[Finding]:
    """Power [W] against the board's limit and its idle power; net-labelled rows have no lower bound."""
    net = np.char.startswith(table.key("accounting").astype(str), "net")
    machine = np.isin(table.key("boundary").astype(str), MACHINE)
    power = np.where(machine, np.nan, power)  # a machine has no board's limit
    most = np.where(np.isnan(tdp), LARGEST_BOARD_W * count, tdp)
    top = most * (1 + SENSOR)
    floor = np.where(np.isnan(idle), tdp * LEAST_SHARE_OF_TDP, idle) * (1 - SENSOR)
    seen = np.isfinite(power)
    found = _many(
        f"{what} above limit",
        f"{what} is within the board's power limit",
        seen & (power > top),
        seen,
        lambda r: (
            f"{what} of {_span(power[r], 'W')} in {len(r)} rows, where the board limit is "
            f"{_span(most[r], 'W')}{_boards(count[r])}{_times(power[r] / most[r])}"
        ),
    )
    bounded = seen & np.isfinite(floor) & ~net
    return found + _many(
        f"{what} below idle",
        f"{what} is above idle",
        bounded & (power < floor),
        bounded,
        lambda r: (
            f"{what} of {_span(power[r], 'W')} in {len(r)} of {bounded.sum()} rows, where the card draws at "
            f"least {_span((floor / (1 - SENSOR))[r], 'W')} idle or {LEAST_SHARE_OF_TDP:.0%} of its limit"
        ),
    )


def _boards(count: np.ndarray) -> str:
    """` of 8 boards`, nothing for one."""
    return f" of {np.nanmax(count):.0f} boards" if np.nanmax(count) > 1 else ""


def _times(ratio: np.ndarray) -> str:
    """A remark where the power is more than the boards can draw by a factor: several processes may each have counted all of them."""
    times = np.nanmedian(ratio)
    return (
        f", x {times:.1f}: the energy may cover more boards, or be a sum over processes that each counted all of them"
        if times > 1.5
        else ""
    )


def physical(table: Table, limits: pd.DataFrame | None = None) -> list[Finding]:
    """Shares, signs, stated power, power implied by energy and throughput, and power implied by energy and the time behind a TWEOR."""
    known = complete(table)
    tdp, idle, count = _limits(table, limits)
    found = []
    accuracy = table.column("accuracy")
    seen = np.isfinite(accuracy)
    mixed = seen & ((accuracy < 0) | (accuracy > 1))
    found += _many(
        "score",
        "scores are fractions of 1, or all in percent",
        mixed,
        seen,
        lambda r: f"{len(r)} of {seen.sum()} scores lie outside 0 to 1 ({_span(accuracy[r], '')}): fractions and percents may be mixed",
    )
    for name, rows in table.infinite.items():
        if len(rows):
            found.append(
                Finding(
                    "physical",
                    f"{name} is finite",
                    "inconsistent",
                    f"{len(rows)} figures of {name} are infinite or beyond 1e100",
                    positions=tuple(np.asarray(rows, dtype=np.int64).tolist()),
                    name=f"{name} infinite",
                )
            )
    for name in (
        "energy_wh",
        "energy_j",
        "energy_kwh",
        "energy_gpu_j",
        "energy_j_per_request",
        "energy_j_per_1k_tok",
        "energy_j_per_token",
        "power_w",
        "throughput_tok_s",
        "duration_s",
    ):
        x = table.column(name)
        found += _many(
            name,
            f"{name} is positive",
            np.isfinite(x) & (x <= 0),
            np.isfinite(x),
            lambda r, n=name: f"{len(r)} figures of {n} are zero or negative",
        )
    found = [f for f in found if f.verdict == "inconsistent" or f.name == "score"]
    found += _power(table, table.column("power_w"), tdp, idle, count, "stated power")
    if table.has("throughput_tok_s") and "energy_j_per_token" in known:
        implied = known["energy_j_per_token"].value * table.column("throughput_tok_s")
        found += _power(table, implied, tdp, idle, count, "power implied by energy per token and throughput")
    energy = next((e for e in ("energy_gpu_j", "energy_j", "energy_wh", "energy_kwh") if table.has(e)), None)
    if energy and table.has("duration_s"):
        joules = table.column(energy) * {"energy_wh": 3600.0, "energy_kwh": 3.6e6}.get(energy, 1.0)
        found += _power(table, joules / table.column("duration_s"), tdp, idle, count, "power implied by energy and time")
    if table.has("eor", "tweor", "energy_wh"):
        with np.errstate(divide="ignore", invalid="ignore"):
            time = table.column("eor") / table.column("tweor")
            power = table.column("energy_wh") * 3600 / time
        limit = np.where(np.isnan(tdp), LARGEST_BOARD_W * count, tdp)
        seen = np.isfinite(power)
        found += _many(
            "time behind tweor",
            "the time that EOR / TWEOR implies is possible",
            seen & (power > limit * (1 + SENSOR)),
            seen,
            lambda r: (
                f"EOR / TWEOR implies {_span(time[r], 's')} for {_span(table.column('energy_wh')[r], 'Wh')}, "
                f"that is {_span(power[r], 'W')}; at the board limit the energy takes at least "
                f"{_span(table.column('energy_wh')[r] * 3600 / limit[r], 's')}"
            ),
        )
    return found
