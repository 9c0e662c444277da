"""Figures that no device can produce, and gross figures among net ones.

Gross energy per token is power / throughput. If idle power was subtracted, power - energy x throughput is that idle power. Whoever
compares a gross figure with a net one compares two quantities. `limits` is a table of gpu, tdp_w and idle_power_w; where it says nothing
about a card, the catalog does, else the widest sensible bounds stand in. Deterministic: a sensor's error of 5 % (one standard
uncertainty) is allowed for twice.
"""

import re
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd

from eai import catalog
from eai.claims.findings import Finding, check, judged, number, span
from eai.claims.quantities import BASELINES, ENERGIES
from eai.claims.relations import MOST_NAMED, TO_J, references, values
from eai.claims.tabular import Table, same_or_less_specific
from eai.errors import UserError
from eai.importers.names import boards

GROSS_SHARE = 0.03  # an integral and mean power x time differ by up to 2 % in careful runs


def implied_idle(table: Table) -> np.ndarray:
    """Idle power [W] that each row subtracted: power - energy per token x throughput; NaN where not computable."""
    return table.kept("idle", lambda: table.column("power_w") - values(table, "energy_j_per_token") * table.column("throughput_tok_s"))


def kinds(table: Table) -> np.ndarray:
    """`gross`, `net` or "" for each row, by session (else by location, else the whole table).

    A set is gross if the median of |implied idle| is within 3 % of power, net if it lies between 3 % and half of it.
    """
    share = implied_idle(table) / table.column("power_w")
    names = [k for k in ("session", "gpu") if k in table.words] or [k for k in ("location",) if k in table.words]
    middle = pd.Series(share).groupby(table.groups(names)).transform("median").to_numpy()
    known = np.isfinite(share)
    gross, net = known & (np.abs(middle) <= GROSS_SHARE), known & (middle > GROSS_SHARE) & (middle <= 0.5)
    return np.where(gross, "gross", np.where(net, "net", "")).astype(object)


@check("power_w, throughput_tok_s and energy_j_per_1k_tok")
def accounting(table: Table) -> list[Finding]:
    """Labels that the figures contradict, tables that mix both under one label, and signs that depend on it. Deterministic."""
    if not (table.has("power_w", "throughput_tok_s") and np.isfinite(implied_idle(table)).any()):
        return []
    idle, kind, label = implied_idle(table), kinds(table), table.key("accounting")
    place = table.key("session" if table.has("session") else "location")
    claim, found = "the figures are accounted as stated", []
    wrong = (kind != "") & table.is_in("accounting", ("net", "gross")) & (kind != label)
    for name in list(dict.fromkeys(place[wrong]))[:MOST_NAMED]:
        rows = np.flatnonzero(wrong & (place == name))
        stated = table.column("idle_stated_w")[rows]
        asked = f" of {number(np.nanmedian(stated))} W idle" if np.isfinite(stated).any() else ""
        reason = (
            f"{name or table.name}: stated to be {label[rows[0]]}{asked}, but power - energy x throughput is "
            f"{number(np.median(idle[rows]), 3)} W (median of {len(rows)} rows): the figures are {kind[rows[0]]}"
        )
        found.append(Finding("accounting", claim, "inconsistent", reason, str(label[rows[0]]), str(kind[rows[0]]), rows, f"label:{name}"))
    found += _impossible(table, idle)
    mixed = []
    for name in table.words["accounting"][1] if "accounting" in table.words else [""]:
        gross, net = ((label == name) & (kind == k) for k in ("gross", "net"))
        if gross.any() and net.any():
            reason = (
                f"of the rows labelled '{name or 'nothing'}', {gross.sum()} are gross (power / throughput) and "
                f"{net.sum()} are net of idle: they must not be compared with each other"
            )
            one = "one label means one accounting"
            mixed += judged("accounting", one, gross | net, gross, reason, "", str(name), "gross and net", f"mixed:{name}")
    found += mixed + (_signs(table, idle, kind) if mixed else [])
    seen = kind != ""
    return found or judged("accounting", claim, seen & ~seen, seen, "", "{n} rows are accounted alike or as labelled", name="label")


def _impossible(table: Table, idle: np.ndarray) -> list[Finding]:
    """Rows where power / throughput is no energy per token at all: neither gross nor net of an idle power that a card may have."""
    power, rate = table.column("power_w"), table.column("throughput_tok_s")
    share = idle / power
    step = table.step("power_w") / power + table.step("throughput_tok_s") / rate
    off = np.isfinite(share) & ((share < -GROSS_SHARE - step) | (share > 0.5 + step))
    if not off.any():
        return []
    i = int(np.argmax(np.where(off, np.abs(share), -1)))
    gross, energy = power[i] / rate[i], (power[i] - idle[i]) / rate[i]
    reason = (
        f"{off.sum()} of {np.isfinite(share).sum()} rows: {number(power[i])} W / {number(rate[i])} tok/s is {number(gross)} J per token, "
        f"and {number(energy)} J is printed, x {number(energy / gross, 3)}; subtracting idle explains 0.5 to 1"
    )
    claim = "energy per token = power / throughput"
    return judged("accounting", claim, off, off, reason, "", number(energy), number(gross), "power over rate")


def _signs(table: Table, idle: np.ndarray, kind: np.ndarray) -> list[Finding]:
    """Net rows whose change against their reference has the other sign when both are counted gross."""
    energy, power, rate = table.column("energy_j_per_1k_tok"), table.column("power_w"), table.column("throughput_tok_s")
    base, names = (kind == "net") & table.is_in("quantization", BASELINES), table.key("quantization")
    claim, found = "the direction of the change holds gross as well", []
    for i, j in references(table, np.flatnonzero((kind == "net") & ~base), base, energy).items():
        stated, gross = 100 * (energy[i] / energy[j] - 1), 100 * (power[i] / rate[i] / (power[j] / rate[j]) - 1)
        if stated * gross < 0:
            name = ", ".join(f"{k}={table.key(k)[i]}" for k in ("gpu", "model", "quantization") if k in table.words)
            reason = (
                f"{name}: {stated:+.1f} % energy against {names[j]} net of {number(idle[i], 3)} W "
                f"idle, but {gross:+.1f} % gross: the sign rests on the accounting"
            )
            found.append(Finding("accounting", claim, "inconsistent", reason, f"{stated:+.1f} %", f"{gross:+.1f} %", (i, j), f"sign:{i}"))
    return found


LARGEST_BOARD_W = 1500.0
SENSOR = 0.10
MACHINE = ("machine", "wall", "system", "node", "server")
LEAST_SHARE_OF_TDP = 0.05  # an accelerator that decodes draws more than this share of its board limit
POSITIVE = (*ENERGIES, "energy_kwh", "energy_gpu_j", "power_w", "throughput_tok_s", "duration_s")


def _limits(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest TDP and lowest idle power [W] of each row's boards together, NaN where unknown, and the number of boards.

    The table's own columns go first, then `limits`, then the catalog. `8 x NVIDIA A40` is eight boards, as is num_gpus 8.
    """
    tdp, idle = table.column("tdp_w").copy(), table.column("idle_power_w").copy()
    count = np.where(table.column("num_gpus") >= 1, table.column("num_gpus"), np.nan)
    codes, texts = table.words.get("gpu", (np.zeros(len(table), np.int64), np.array([""], dtype=object)))
    known = np.array([_board(name, table.limits) for name in texts], dtype=float)[codes]
    count, tdp, idle = (np.where(np.isnan(own), known[:, k], own) for k, own in enumerate((count, tdp, idle)))
    return tdp * count, idle * count, count


def _board(name: str, limits: pd.DataFrame | None) -> tuple[float, float, float]:
    """How many boards a name speaks of, and the highest limit and lowest idle power [W] of one; NaN where unknown."""
    count, board = boards(name) if name else (1, "")
    if not board or limits is None:
        return count, np.nan, np.nan
    fits = limits[[same_or_less_specific(board, g) for g in limits["gpu"].astype(str)]]
    tdp, idle = (pd.to_numeric(fits.get(c, pd.Series(dtype=float)), errors="coerce").dropna() for c in ("tdp_w", "idle_power_w"))
    return count, tdp.max() if len(tdp) else _catalog_tdp(board), idle.min() if len(idle) else np.nan


@cache
def _catalog_tdp(name: str) -> float:
    """The highest board limit [W] of the boards that a name may mean, NaN where the catalog knows none."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    found = [g.tdp_w for g in catalog.gpus() if g.tdp_w and (same_or_less_specific(key, g.slug) or same_or_less_specific(g.slug, key))]
    with suppress(UserError):
        found += [catalog.gpu(name).tdp_w or np.nan]
    return float(np.nanmax(found)) if np.isfinite(found).any() else np.nan


def _power(table: Table, power: np.ndarray, what: str, most: np.ndarray, floor: np.ndarray, count: np.ndarray) -> list[Finding]:
    """Power [W] against the boards' limit and their idle power; net-labelled rows have no lower bound, machines no board's limit."""
    seen = (power > 0) & ~table.is_in("boundary", MACHINE)
    bounded = seen & np.isfinite(floor) & ~table.is_in("accounting", lambda text: text.startswith("net"))

    def above(r: np.ndarray) -> str:
        boards_ = f" of {np.nanmax(count[r]):.0f} boards" if np.nanmax(count[r]) > 1 else ""
        times = np.nanmedian(power[r] / most[r])
        more = f", x {times:.1f}: the energy may cover more boards, or be a sum over processes that each counted all of them"
        return (
            f"{what} of {span(power[r], 'W', 3)} in {len(r)} rows, where the board limit is {span(most[r], 'W', 3)}{boards_}"
            f"{more if times > 1.5 else ''}"
        )

    def below(r: np.ndarray) -> str:
        return (
            f"{what} of {span(power[r], 'W', 3)} in {len(r)} of {bounded.sum()} rows, where the card draws at least "
            f"{span(floor[r], 'W', 3)} idle or {LEAST_SHARE_OF_TDP:.0%} of its limit"
        )

    top, right = seen & (power > most * (1 + SENSOR)), "{n} figures are possible"
    found = judged("physical", f"{what} is within the board's power limit", top, seen, above, right, name=f"{what} above limit")
    low = bounded & (power < floor * (1 - SENSOR))
    return found + judged("physical", f"{what} is above idle", low, bounded, below, right, name=f"{what} below idle")


@check("power, energy, throughput or a score")
def physical(table: Table) -> list[Finding]:
    """Shares, signs, stated power, power implied by energy and throughput, and power implied by energy and the time behind a TWEOR."""
    tdp, idle, count = _limits(table)
    most, floor = np.where(np.isnan(tdp), LARGEST_BOARD_W * count, tdp), np.where(np.isnan(idle), tdp * LEAST_SHARE_OF_TDP, idle)
    score, right = table.column("accuracy"), "{n} figures are possible"
    seen = np.isfinite(score)
    found = judged(
        "physical", "scores are fractions of 1, or all in percent", seen & ((score < 0) | (score > 1)), seen,
        lambda r: f"{len(r)} of {seen.sum()} scores lie outside 0 to 1 ({span(score[r], '', 3)}): fractions and percents may be mixed",
        right, name="score",
    )  # fmt: skip
    for name, off in table.infinite.items():
        reason = f"{off.sum()} figures of {name} are infinite or beyond 1e100"
        found += judged("physical", f"{name} is finite", off, off, reason, "", name=f"{name} infinite")
    for name in (n for n in POSITIVE if n in table.printed):
        off = table.column(name) <= 0
        found += judged("physical", f"{name} is positive", off, off, f"{off.sum()} figures of {name} are zero or negative", "", name=name)
    rate, time = table.column("throughput_tok_s"), table.column("duration_s")
    found += _power(table, table.column("power_w"), "stated power", most, floor, count)
    if table.has("throughput_tok_s"):
        implied = values(table, "energy_j_per_token") * rate
        found += _power(table, implied, "power implied by energy per token and throughput", most, floor, count)
    energy = table.first("energy_gpu_j", "energy_j", "energy_wh", "energy_kwh")
    if energy and table.has("duration_s"):
        found += _power(table, table.column(energy) * TO_J[energy] / time, "power implied by energy and time", most, floor, count)
    if table.has("eor", "tweor", "energy_wh"):
        wh, time = table.column("energy_wh"), table.column("eor") / table.column("tweor")
        power = wh * 3600 / time
        seen = np.isfinite(power)
        found += judged(
            "physical", "the time that EOR / TWEOR implies is possible", seen & (power > most * (1 + SENSOR)), seen,
            lambda r: (
                f"EOR / TWEOR implies {span(time[r], 's', 3)} for {span(wh[r], 'Wh', 3)}, that is {span(power[r], 'W', 3)}; at the board "
                f"limit the energy takes at least {span(wh[r] * 3600 / most[r], 's', 3)}"
            ),
            right, name="time behind tweor",
        )  # fmt: skip
    return found
