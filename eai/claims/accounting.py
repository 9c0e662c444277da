"""Gross or net: the idle power that energy, power and throughput imply, against what the table says of itself.

Gross energy per token is power / throughput. If idle power was subtracted, power - energy x throughput is that idle power. Whoever
compares a gross figure with a net one compares two quantities.
"""

import numpy as np
import pandas as pd

from eai.claims.derived import references
from eai.claims.findings import Finding, number
from eai.claims.relations import complete
from eai.claims.tabular import Table

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
                    tuple(map(int, rows)),
                    f"label:{name}",
                )
            )
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
                positions=tuple(map(int, rows)),
                name="label",
            )
        )
    return found


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
