"""Which windows an analysis may use, and the means of blocks that every interval and comparison is built on.

One boundary, one basis, gross or net: two numbers of different boundaries (a GPU's board against a whole machine) or bases (measured
against estimated) are two quantities, so nothing is ever averaged or compared across them. What is left out stays visible in
`Selection.excluded`. The block is the replicate: windows of one block ran on one load of the model.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai import schema, strategies
from eai.analyze import metrics
from eai.analyze.metrics import as_run
from eai.errors import UserError

KEY = list(schema.WINDOW_KEY)
JOIN = [*KEY, "attempt"]
CONFIGURATION = list(schema.CONFIGURATION)
BOUNDARY_ORDER = ("gpu", "cpu_package", "machine")
RANDOM_TERMS = ("u_statistical_j", "u_granularity_j", "u_aliasing_j", "u_idle_j")
SYSTEMATIC_TERMS = ("u_offset_j", "u_gain_j")


@dataclass(frozen=True)
class Selection:
    """The windows of one boundary and basis, each with its energy, and what was left out.

    `rows`: window columns plus `energy_j` (all devices of the boundary summed), its uncertainty terms [J], `boundary`, `basis`.
    `excluded`: configuration_id, status, reason, n; `kind`: gross or net.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    boundary: str
    basis: str
    kind: str


def select(
    windows: pd.DataFrame, energies: pd.DataFrame, boundary: str | None = None, basis: str | None = None, net: bool = False
) -> Selection:
    """The usable windows with their energies, and the table of the others.

    Boundary and basis default to the best that a usable window has: gpu, else cpu_package, else machine; measured, else estimated,
    and so on down the registry. Raises UserError where nothing is usable, or not on the boundary or basis asked for.
    """
    windows = _last_attempts(windows)
    ok = windows["status"] == "ok"
    usable = windows[ok].reset_index(drop=True)
    not_ok = windows[~ok].assign(why=lambda w: w["reason"].replace("", "no reason given"))
    primary = energies[energies["primary"].astype(bool)].merge(usable[JOIN].assign(window=usable.index), on=JOIN)
    boundary = _choose("boundary", primary, BOUNDARY_ORDER, boundary)
    primary = primary[primary["boundary"] == boundary]
    basis = _choose("basis", primary, schema.BASES, basis)
    kind = "net" if net else "gross"
    summed = _sum_devices(primary, "net_energy_j" if net else "energy_j", basis)
    joined = usable.drop(columns="basis", errors="ignore").join(summed)
    joined["why"] = _why_not(joined, boundary, basis, kind)
    rows = joined[joined["why"] == ""].drop(columns="why").assign(boundary=boundary, basis=basis)
    excluded = _count(pd.concat([not_ok, joined[joined["why"] != ""]], ignore_index=True))
    if rows.empty:
        raise UserError(
            f"no usable window ({_say(excluded)})", f"windows of status ok with {kind} {basis} {boundary} energy", "measure again"
        )
    return Selection(rows.reset_index(drop=True), excluded, boundary, basis, kind)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The table sorted by configuration, strategies in the registry's order (full precision first) and not by alphabet."""
    known = list(strategies.STRATEGIES)
    places = {name: known.index(name) if name in known else len(known) for name in table["quantization"].unique()}
    by = table[CONFIGURATION].assign(place=table["quantization"].map(places))
    order = by.sort_values([c if c != "quantization" else "place" for c in CONFIGURATION] + ["quantization"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _last_attempts(windows: pd.DataFrame) -> pd.DataFrame:
    """The last attempt of each window key; raises UserError for an empty table or one that lacks key columns."""
    missing = [c for c in [*JOIN, *CONFIGURATION, "status", "duration_s", "tokens_out"] if c not in windows]
    if missing:
        raise UserError(
            f"windows without {', '.join(missing)}",
            "the columns of eai/schema.py",
            "read them with eai.tables or import them with a mapping",
        )
    if windows.empty:
        raise UserError("no windows", "an experiment that has measured at least one", "run `eai run` first")
    return windows.drop_duplicates(KEY, keep="last").assign(reason=_words(windows, "reason"))


def _words(table: pd.DataFrame, name: str) -> pd.Series:
    """A text column with an empty string for what is missing, also where the column is empty or absent."""
    column = table[name] if name in table else pd.Series(index=table.index, dtype=object)
    return column.astype(object).where(column.notna(), "").astype(str)


def _choose(name: str, primary: pd.DataFrame, order: tuple[str, ...], asked: str | None) -> str:
    """The value of `name` to analyze: the one asked for, or the first of `order` that a row of status ok has."""
    present = set(primary.loc[primary["status"] == "ok", name].unique()) or set(primary[name].unique())
    if asked is not None and asked not in present:
        found = ", ".join(sorted(map(str, present))) or "none"
        raise UserError(f"no usable window with {name} {asked}; found {found}", "", f"ask for another {name} or measure it")
    return asked or next((value for value in order if value in present), order[0])


def _sum_devices(primary: pd.DataFrame, energy: str, basis: str) -> pd.DataFrame:
    """One row a window (its place among the usable ones): the energies of its devices summed, and what speaks against using the sum.

    A sum over cards of which one failed would be too low, so the worst card decides. Random terms add in quadrature;
    offset and gain add linearly, because cards of one kind may err alike. What subtracting idle adds to a net energy acts like an
    offset: the same watts off every window.
    """
    terms = primary.reindex(columns=[*RANDOM_TERMS, *SYSTEMATIC_TERMS]).astype(float).fillna(0.0)
    if energy == "net_energy_j" and "u_net_j" in primary:
        terms["u_offset_j"] = np.hypot(terms["u_offset_j"], primary["u_net_j"].astype(float).fillna(0.0))
    terms[list(RANDOM_TERMS)] **= 2
    energy_j, twice = primary[energy].astype(float), primary.duplicated(["window", "device_id"])
    flags = {"n_twice": twice, "n_devices": ~twice, "n_other_basis": primary["basis"] != basis}
    summed = terms.assign(energy_j=energy_j, **flags).groupby(primary["window"]).sum()
    summed[list(RANDOM_TERMS)] **= 0.5
    summed["energy_low_j"] = energy_j.fillna(-np.inf).groupby(primary["window"]).min()
    bad = primary[primary["status"] != "ok"].groupby("window")["status"].first()
    return summed.assign(not_ok=bad.reindex(summed.index).astype(object))


def _why_not(joined: pd.DataFrame, boundary: str, basis: str, kind: str) -> np.ndarray:
    """Why each window of status ok is not used after all; an empty string where it is."""
    devices = joined.groupby(["job", "configuration_id"])["n_devices"].transform("max")
    tasks = as_run(joined)
    done = (_units(joined, tasks) > 0) & (joined["duration_s"].astype(float) > 0)
    conditions = {
        f"no {boundary} energy": joined["n_devices"].isna(),
        "two primary energies of one device": joined["n_twice"] > 0,
        "energy not usable": joined["not_ok"].notna(),
        f"basis is not {basis}": joined["n_other_basis"] > 0,
        f"no {kind} energy": joined["energy_low_j"].eq(-np.inf),
        f"{kind} energy not above zero": joined["energy_low_j"] <= 0,
        "energy of a device is missing": joined["n_devices"] < devices,
        "no output tokens or no duration": ~done & ~tasks,
        "no items or no duration": ~done & tasks,
    }
    why = np.select(list(conditions.values()), list(conditions), default="")
    return np.where(why == "energy not usable", "energy is " + _words(joined, "not_ok"), why)


def _count(left_out: pd.DataFrame) -> pd.DataFrame:
    """The table of what was left out: configuration_id, status, reason and the number of windows."""
    columns = ["configuration_id", "status", "reason"]
    frame = left_out.drop(columns="reason").rename(columns={"why": "reason"})
    return frame.groupby(columns, sort=True).size().rename("n").reset_index()


def _say(excluded: pd.DataFrame) -> str:
    """What was left out in a few words: `3 oom: out of memory, 2 ok: no gpu energy`."""
    counts = excluded.groupby(["status", "reason"])["n"].sum()
    return ", ".join(f"{n} {status}: {reason}" for (status, reason), n in counts.items()) or "none at all"


VARIES = {"length_varies", "tokens_from_pieces"}


def is_served(table: pd.DataFrame) -> pd.Series:
    """For each row, window or configuration, whether it is one of a server: whether its options name a load."""
    named = [text for text in table["options"].unique() if isinstance(text, str) and text and "load" in json.loads(text)]
    return table["options"].isin(named)


def requests_of(windows: pd.DataFrame) -> pd.Series:
    """The requests of each window, NaN where they were not counted.

    Of a server with replies of fixed length it is the tokens that arrived over the tokens of a reply: tokens are counted where they
    arrive and requests where they end, so whole requests counted at the edges of a short window would add scatter of their own.
    """
    counted = windows["requests"].astype(float)
    if "options" not in windows or "flags" not in windows:
        return counted
    served = is_served(windows)
    if not served.any():
        return counted
    fixed = served & ~windows["flags"].map(lambda flags: bool(VARIES & set(flags))).astype(bool)
    return counted.mask(fixed, windows["tokens_out"] / windows["output_tokens"])


BLOCK = ["configuration_id", "job", "block"]
NOMINAL = "nominal_window"
SHARED_BLOCK = "shared_block"
"""Flag of windows whose block names the same work in every job, such as the same prompts on two cards: it pairs across jobs."""
TASK_OPTIONS = ("fewshot", "limit", "version")


def split_options(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `task_options` (what makes a score comparable) and `setup` (where and how it ran): canonical JSON, `setup` empty for
    none.

    Rows that differ in `setup` (engine, number of GPUs, parallelism, cache, load of a server) are other choices, never one.
    """
    texts = table["options"].fillna("{}").astype(str) if "options" in table else pd.Series("{}", index=table.index)
    parts = {}
    for text in texts.unique():
        options = json.loads(text or "{}")
        own = {k: v for k, v in options.items() if k in TASK_OPTIONS}
        rest = {k: v for k, v in options.items() if k not in TASK_OPTIONS}
        parts[text] = [json.dumps(each, sort_keys=True, separators=(",", ":")) if each else "" for each in (own, rest)]
    return table.assign(task_options=texts.map(lambda t: parts[t][0]), setup=texts.map(lambda t: parts[t][1]))


def unit_energy(rows: pd.DataFrame) -> pd.Series:
    """Energy of one unit of work of each window [J]: of an item where a task ran as it comes, of an output token otherwise."""
    return rows["energy_j"].astype(float) / _units(rows, as_run(rows))


def _units(rows: pd.DataFrame, tasks: pd.Series) -> pd.Series:
    """The units of work of each window: items of tasks run as they come, output tokens otherwise."""
    tokens = rows["tokens_out"].astype(float)
    return tokens.mask(tasks, rows["requests"].astype(float)) if tasks.any() else tokens


def block_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into ratios, so that long windows weigh more.

    `window_energy_j` and `window_s` are the energy and time of one task as run: means over windows, and over the passes of a window that
    holds several; NaN for a nominal window, which stands for rates of a source that states no totals. `unit_energy_j` is the
    compared cost: of an item of a task, of an output token otherwise. Per token is NaN where no token was produced.
    """
    tasks, totals = as_run(rows), ["energy_j", "duration_s", "tokens_out", "u_offset_j", "u_gain_j", "cpu_time_s"]
    means, peaks = ["ttft_s"], ["memory_peak_gb", "model_bytes"]
    known = rows.reindex(columns=[*totals, *means, *peaks, "requests", "calls"]).astype(float)
    known = known.assign(requests=requests_of(rows.assign(requests=known["requests"])), as_run=tasks)
    known["passes"] = known["calls"].where(tasks, 1.0).fillna(1.0)
    known = known.assign(nominal=_flagged(rows, NOMINAL), shared=_flagged(rows, SHARED_BLOCK))
    groups = known.groupby([rows[c] for c in BLOCK], sort=False)
    sums = groups[[*totals, "requests", "passes"]].sum(min_count=1)
    energy_j, seconds = sums["energy_j"], sums["duration_s"]
    tokens, requests = (sums[c].where(sums[c] > 0) for c in ("tokens_out", "requests"))
    blocks = groups[means].mean().join(groups[[*peaks, "as_run", "nominal"]].max())
    blocks = blocks.assign(n_windows=groups.size(), shared=groups["shared"].min())
    blocks["energy_j_per_token"] = metrics.energy_per_token(energy_j, tokens)
    blocks["throughput_tok_s"] = metrics.throughput(tokens, seconds)
    blocks["power_mean_w"] = metrics.mean_power(energy_j, seconds)
    blocks["cpu_s_per_token"] = sums["cpu_time_s"] / tokens
    blocks["energy_j_per_request"] = metrics.energy_per_request(energy_j, requests)
    blocks["requests_per_second"] = requests / seconds
    blocks["cpu_s_per_request"] = sums["cpu_time_s"] / requests
    blocks["unit_energy_j"] = blocks["energy_j_per_token"].mask(blocks["as_run"], blocks["energy_j_per_request"])
    blocks["window_energy_j"] = (energy_j / sums["passes"]).mask(blocks.pop("nominal"))
    blocks["window_s"] = seconds / sums["passes"]
    for term in ("offset", "gain"):
        blocks[f"u_{term}_relative"] = sums[f"u_{term}_j"] / energy_j
    return blocks.reset_index()


def _flagged(rows: pd.DataFrame, flag: str) -> pd.Series:
    """Which windows carry a flag."""
    return pd.Series([flag in flags for flags in rows["flags"]] if "flags" in rows else False, index=rows.index, dtype=bool)
