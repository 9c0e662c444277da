"""Figures that no device can produce, and gross figures among net ones.

Gross energy per token is power / throughput. If idle power was subtracted, power - energy x throughput is that idle power. Whoever
compares a gross figure with a net one compares two quantities. `limits` is a table of gpu, tdp_w and idle_power_w; where it says nothing
about a card, the catalog does, else the widest sensible bounds stand in. Deterministic: a sensor's error of 5 % (k = 1) is allowed twice.
"""

import re
from contextlib import suppress
from functools import cache

import numpy as np
import pandas as pd

from eai import catalog
from eai.claims.findings import Finding, check, judged, number, say, span
from eai.claims.relations import MOST_NAMED, TO_J, references, values
from eai.claims.tabular import BASELINES, ENERGIES, Table, same_or_less_specific
from eai.errors import UserError
from eai.importers.names import boards

GROSS_SHARE = 0.03  # an integral and mean power x time differ by up to 2 % in careful runs


def kinds(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """`gross`, `net` or "" for each row, by session and card (else by location, else the whole table), and the idle power [W] subtracted.

    A set is gross if the median of |implied idle| is within 3 % of power, net if it lies between 3 % and half of it.
    """
    idle = table.column("power_w") - values(table, "energy_j_per_token") * table.column("throughput_tok_s")
    share = idle / table.column("power_w")
    place = table.groups(["session", "gpu"] if table.first("session", "gpu") else ["location"])
    middle = pd.Series(share).groupby(place).transform("median").to_numpy()
    gross, net = np.isfinite(share) & (np.abs(middle) <= GROSS_SHARE), np.isfinite(share) & (middle > GROSS_SHARE) & (middle <= 0.5)
    return np.where(gross, "gross", np.where(net, "net", "")).astype(object), idle


@check("power_w, throughput_tok_s and energy_j_per_1k_tok")
def accounting(table: Table) -> list[Finding]:
    """Labels that the figures contradict, tables that mix both under one label, and signs that depend on it. Deterministic."""
    kind, idle = kinds(table)
    if not np.isfinite(idle).any():
        return []
    label, place = table.key("accounting"), table.key("session" if table.has("session") else "location")
    claim, found = "the figures are accounted as stated", []
    wrong = (kind != "") & table.is_in("accounting", ("net", "gross")) & (kind != label)
    for name in list(dict.fromkeys(place[wrong]))[:MOST_NAMED]:
        rows = np.flatnonzero(wrong & (place == name))
        stated = table.column("idle_stated_w")[rows]
        asked = f" of {number(np.nanmedian(stated))} W idle" if np.isfinite(stated).any() else ""
        implied = f"{number(np.median(idle[rows]), 3)} W (median of {len(rows)} rows): the figures are {kind[rows[0]]}"
        reason = f"{name or table.name}: stated to be {label[rows[0]]}{asked}, but power - energy x throughput is {implied}"
        found.append(Finding(claim, "inconsistent", reason, rows, str(label[rows[0]]), str(kind[rows[0]]), f"label:{name}"))
    found += _impossible(table, idle)
    mixed = []
    for name in table.words["accounting"][1] if table.has("accounting") else [""]:
        gross, net = ((label == name) & (kind == k) for k in ("gross", "net"))
        if gross.any() and net.any():
            both, which = gross | net, f"{gross.sum()} are gross (power / throughput) and {net.sum()} are net of idle"
            reason = f"of the rows labelled '{name or 'nothing'}', {which}: they must not be compared with each other"
            mixed += judged("one label means one accounting", both, both, reason, "", str(name), "gross and net", f"mixed:{name}")
    found += mixed + (_signs(table, idle, kind) if mixed else [])
    return found or judged(claim, (), kind != "", "", "{n} rows are accounted alike or as labelled", name="label")


def _impossible(table: Table, idle: np.ndarray) -> list[Finding]:
    """Rows where power / throughput is no energy per token at all: neither gross nor net of an idle power that a card may have."""
    power, rate = table.column("power_w"), table.column("throughput_tok_s")
    share, step = idle / power, table.step("power_w") / power + table.step("throughput_tok_s") / rate
    off = np.isfinite(share) & ((share < -GROSS_SHARE - step) | (share > 0.5 + step))
    i = int(np.argmax(np.where(off, np.abs(share), -1)))
    gross, energy = power[i] / rate[i], (power[i] - idle[i]) / rate[i]
    reason = (
        f"{off.sum()} of {np.isfinite(share).sum()} rows: {number(power[i])} W / {number(rate[i])} tok/s is {number(gross)} J per token, "
        f"and {number(energy)} J is printed, x {number(energy / gross, 3)}; subtracting idle explains 0.5 to 1"
    )
    return judged("energy per token = power / throughput", off, off, reason, "", number(energy), number(gross), "power over rate")


def _signs(table: Table, idle: np.ndarray, kind: np.ndarray) -> list[Finding]:
    """Net rows whose change against their reference has the other sign when both are counted gross."""
    energy, power, rate = table.column("energy_j_per_1k_tok"), table.column("power_w"), table.column("throughput_tok_s")
    base, names, found = (kind == "net") & table.is_in("quantization", BASELINES), table.key("quantization"), []
    for i, j in references(table, np.flatnonzero((kind == "net") & ~base), base, energy).items():
        stated, gross = 100 * (energy[i] / energy[j] - 1), 100 * (power[i] / rate[i] / (power[j] / rate[j]) - 1)
        if stated * gross < 0:
            name = ", ".join(f"{k}={table.key(k)[i]}" for k in ("gpu", "model", "quantization") if table.has(k))
            net = f"{stated:+.1f} % energy against {names[j]} net of {number(idle[i], 3)} W idle"
            reason = f"{name}: {net}, but {gross:+.1f} % gross: the sign rests on the accounting"
            both = (f"{stated:+.1f} %", f"{gross:+.1f} %", f"sign:{i}")
            found.append(Finding("the direction of the change holds gross as well", "inconsistent", reason, (i, j), *both))
    return found


LARGEST_BOARD_W = 1500.0
SENSOR = 0.10
MACHINE = ("machine", "wall", "system", "node", "server")
LEAST_SHARE_OF_TDP = 0.05  # an accelerator that decodes draws more than this share of its board limit
POSITIVE = (*ENERGIES, "energy_kwh", "energy_gpu_j", "power_w", "throughput_tok_s", "duration_s")


def _board(name: str, limits: pd.DataFrame | None) -> tuple[float, float, float]:
    """How many boards a name states (`8 x NVIDIA A40`: eight), and the highest limit and lowest idle power [W] of one; NaN: unknown."""
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
    found = [g.tdp_w for g in catalog.gpus() if g.tdp_w and same_or_less_specific(key, g.slug)]
    with suppress(UserError):
        found += [catalog.gpu(name).tdp_w or np.nan]
    return float(np.nanmax(found)) if np.isfinite(found).any() else np.nan


@check("power, energy, throughput or a score")
def physical(table: Table) -> list[Finding]:
    """Shares, signs, stated power, power implied by energy and throughput, and power implied by energy and the time behind a TWEOR.

    Limits are those of a row's boards together: the table's own columns go first, then `limits`, then the catalog.
    """
    codes, texts = table.words.get("gpu", (np.zeros(len(table), np.int64), np.array([""], dtype=object)))
    boards_ = np.array([_board(name, table.limits) for name in texts], dtype=float)[codes]
    own = (np.where(table.column("num_gpus") >= 1, table.column("num_gpus"), np.nan), table.column("tdp_w"), table.column("idle_power_w"))
    count, tdp, idle = (np.where(np.isnan(x), boards_[:, k], x) for k, x in enumerate(own))
    tdp, idle = tdp * count, idle * count
    most, floor = np.where(np.isnan(tdp), LARGEST_BOARD_W * count, tdp), np.where(np.isnan(idle), tdp * LEAST_SHARE_OF_TDP, idle)
    score, right = table.column("accuracy"), "{n} figures are possible"
    seen = np.isfinite(score)
    found = judged(
        "scores are fractions of 1, or all in percent", seen & ((score < 0) | (score > 1)), seen,
        lambda r: f"{len(r)} of {seen.sum()} scores lie outside 0 to 1 ({span(score[r], '', 3)}): fractions and percents may be mixed",
        right, name="score",
    )  # fmt: skip
    for name, off in table.infinite.items():
        found += judged(
            f"{name} is finite", off, off, f"{off.sum()} figures of {name} are infinite or beyond 1e100", name=f"{name} infinite"
        )
    for name in (n for n in POSITIVE if table.has(n)):
        off = table.column(name) <= 0
        found += judged(f"{name} is positive", off, off, f"{off.sum()} figures of {name} are zero or negative", name=name)

    def held(power: np.ndarray, what: str) -> list[Finding]:
        """Power [W] against the boards' limit and their idle power; net-labelled rows have no lower bound, machines no board's limit."""
        seen = (power > 0) & ~table.is_in("boundary", MACHINE)
        bounded = seen & np.isfinite(floor) & ~table.is_in("accounting", lambda text: text.startswith("net"))

        def above(r: np.ndarray) -> str:
            of = f" of {np.nanmax(count[r]):.0f} boards" if np.nanmax(count[r]) > 1 else ""
            times = np.nanmedian(power[r] / most[r])
            more = f", x {times:.1f}: the energy may cover more boards, or be a sum over processes that each counted all of them"
            limit = f"where the board limit is {span(most[r], 'W', 3)}{of}{more if times > 1.5 else ''}"
            return f"{what} of {span(power[r], 'W', 3)} in {len(r)} rows, {limit}"

        def below(r: np.ndarray) -> str:
            least = f"{span(floor[r], 'W', 3)} idle or {LEAST_SHARE_OF_TDP:.0%} of its limit"
            return f"{what} of {span(power[r], 'W', 3)} in {len(r)} of {bounded.sum()} rows, where the card draws at least {least}"

        top, low = seen & (power > most * (1 + SENSOR)), bounded & (power < floor * (1 - SENSOR))
        high = judged(f"{what} is within the board's power limit", top, seen, above, right, name=f"{what} above limit")
        return high + judged(f"{what} is above idle", low, bounded, below, right, name=f"{what} below idle")

    found += held(table.column("power_w"), "stated power")
    if table.has("throughput_tok_s"):
        implied = values(table, "energy_j_per_token") * table.column("throughput_tok_s")
        found += held(implied, "power implied by energy per token and throughput")
    if energy := table.first("energy_gpu_j", "energy_j", "energy_wh", "energy_kwh"):
        found += held(table.column(energy) * TO_J[energy] / table.column("duration_s"), "power implied by energy and time")
    wh, time = table.column("energy_wh"), table.column("eor") / table.column("tweor")
    power = wh * 3600 / time

    def too_short(r: np.ndarray) -> str:
        sentence = "EOR / TWEOR implies {time} for {energy}, that is {power}; at the board limit the energy takes at least {least}"
        given = {"energy": span(wh[r], "Wh", 3), "power": span(power[r], "W", 3), "least": span(wh[r] * 3600 / most[r], "s", 3)}
        return say(sentence, time=span(time[r], "s", 3), **given)

    claim, off = "the time that EOR / TWEOR implies is possible", np.isfinite(power) & (power > most * (1 + SENSOR))
    return found + judged(claim, off, np.isfinite(power), too_short, right, name="time behind tweor")
