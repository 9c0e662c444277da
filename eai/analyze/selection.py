"""Which windows an analysis may use, the means of blocks that every interval and comparison is built on, and the formulas of the
repository, each of which stands here and nowhere else.

Numbers of different boundaries (a GPU's board, a whole machine) or bases (measured, estimated) are different quantities: nothing is
averaged or compared across them. The block is the replicate: windows of one block ran on one load of the model. "Per token" means output
tokens that were produced and counted; a unit of work is an output token, or an item where a task ran as its items come.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai import schema, strategies
from eai.errors import UserError
from eai.stats.intervals import Interval, log_t_from_moments, wilson_interval
from eai.stats.scores import quotient

J_PER_WH = 3600.0


def _positive(**quantities) -> None:
    """Raise UserError unless every value is above zero: a zero or negative energy, time or count was not measured."""
    for name, values in quantities.items():
        array = np.asarray(values, float)
        if np.any(array <= 0):
            raise UserError(f"{name} of {np.nanmin(array):g}", "a value above zero", "treat it as not measured and leave the row out")


def energy_per_token(energy_j, tokens_out):
    """Energy per output token [J/tok]: energy over the output tokens counted in the same window."""
    _positive(energy_j=energy_j, tokens_out=tokens_out)
    return energy_j / tokens_out


def energy_per_request(energy_j, requests):
    """Energy per request [J], of a task per item: energy over the requests completed in the same window, whatever they produced."""
    _positive(energy_j=energy_j, requests=requests)
    return energy_j / requests


def tokens_per_joule(energy_j_per_token):
    """Output tokens per joule [tok/J], the inverse of the energy per output token."""
    _positive(energy_j_per_token=energy_j_per_token)
    return 1.0 / energy_j_per_token


def throughput(tokens_out, duration_s):
    """Output tokens per second [tok/s] over the whole window, all sequences of the batch together."""
    _positive(tokens_out=tokens_out, duration_s=duration_s)
    return tokens_out / duration_s


def mean_power(energy_j, duration_s):
    """Mean power [W]: energy over time, so that it has the energy's boundary and basis."""
    _positive(duration_s=duration_s)
    return energy_j / duration_s


def watt_hours(energy_j):
    """Energy in Wh; 1 Wh = 3600 J."""
    return energy_j / J_PER_WH


def checked_score(score):
    """The score, unchanged. Raises UserError unless it is a fraction in [0, 1]: with a percentage every EOR would be 100 times too high."""
    array = np.asarray(score, float)
    outside = array[(array < 0) | (array > 1)]
    if outside.size:
        raise UserError(f"score {outside.flat[0]:g}", "a fraction in [0, 1]", "divide percentages by 100 before importing them")
    return score


def eor(score, energy_wh):
    """Energy-to-Output Ratio [1/Wh]: score over the energy of the whole task as run; higher is better.

    Comparable only where task, version, few-shot setting and items are the same. Raises UserError for a score that is no fraction and for
    an energy that is not above zero.
    """
    _positive(energy_wh=energy_wh)
    return checked_score(score) / energy_wh


def tweor(score, energy_wh, duration_s):
    """Time-Weighted EOR [1/(Wh s)]: score over energy times the time of the whole task as run; higher is better."""
    _positive(duration_s=duration_s)
    return eor(score, energy_wh) / duration_s


def energy_per_correct(eor, n_items):
    """Energy per correct answer [J] of a task as run: its energy over the items it got right, score x n; infinite where that is none."""
    with np.errstate(divide="ignore"):
        return J_PER_WH / (np.asarray(eor, float) * np.asarray(n_items, float))


ENDS = ("", "_low", "_high")
TOKEN = ("energy_j_per_token", "throughput_tok_s")
ITEM = ("energy_j_per_request", "requests_per_second")
UNITS = {"token": "energy per output token [J]", "item": "energy per item of the task [J]", "both": "energy per output token or item [J]"}
SPEEDS = {"token": "output tokens per second [tok/s]", "item": "items per second [1/s]", "both": "output tokens or items per second"}


def as_run(table: pd.DataFrame) -> pd.Series:
    """Which rows are of a task run over its items as they come: those have no lengths of their own, and are costed by the item."""
    return table.reindex(columns=["input_tokens", "output_tokens"]).eq(0).all(axis=1)


def costed(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `unit` (token | item), `unit_energy_j` and `units_per_s`, each with `_low` and `_high` where they are known."""
    items = as_run(summary)
    found = {"unit": np.where(items, "item", "token")}
    for name, token, item in zip(("unit_energy_j", "units_per_s"), TOKEN, ITEM, strict=True):
        for end in ENDS:
            own, other = (summary.get(f"{column}{end}", pd.Series(np.nan, index=summary.index)) for column in (token, item))
            found[f"{name}{end}"] = own.mask(items, other).astype(float)
    return summary.assign(**found)


def unit_label(table: pd.DataFrame, words: dict[str, str] = UNITS) -> str:
    """The axis label of the units that stand in a table: `energy per output token [J]`."""
    units = set(table["unit"])
    return words["both"] if len(units) > 1 else words[units.pop()] if units else ""


def over_blocks(values: pd.DataFrame, configuration: pd.Series) -> pd.DataFrame:
    """Geometric mean of each column over a configuration's blocks in which it is known, with its t interval (`name`, `name_low`,
    `name_high`), and the moments of its logarithm (`name_mean_log`, `name_sd_log`)."""
    groups = np.log(values).groupby(configuration, sort=False)
    mean, sd = groups.mean(), groups.std(ddof=1)
    found = zip((*log_t_from_moments(mean, sd, groups.count()), mean, sd), (*ENDS, "_mean_log", "_sd_log"), strict=True)
    return pd.concat([pd.DataFrame(numbers, mean.index, mean.columns).add_suffix(end) for numbers, end in found], axis=1)


def with_scores(table: pd.DataFrame, scores: pd.DataFrame | None) -> pd.DataFrame:
    """Adds, where a score was measured, score, EOR, TWEOR and energy per correct answer with intervals; NaN where it was not.

    `table`: with `energy_wh`, `energy_wh_s` and `window_s` of the whole task (`over_blocks`). `scores`: configuration_id, score and, for
    intervals, n_items. The score's uncertainty comes from items (Wilson), the energy's from blocks: a bootstrap over blocks alone would
    leave out nearly all of it. Raises UserError for a score that is no fraction, for two of one configuration, and for no items.
    """
    scores = pd.DataFrame(columns=["configuration_id", "score"]) if scores is None else scores
    if scores["configuration_id"].duplicated().any():
        raise UserError("two scores of one configuration", "one row a configuration", "choose one task version and few-shot setting")
    checked_score(scores["score"])
    own = scores.set_index("configuration_id").reindex(table["configuration_id"]).reindex(columns=["score", "n_items"])
    score, n_items = own["score"].to_numpy(float), own["n_items"].to_numpy(float)
    if np.any(n_items <= 0):
        raise UserError(f"a score over {np.nanmin(n_items):g} items", "at least one item", "leave the score out")
    known = np.isfinite(score) & np.isfinite(n_items)
    limits = wilson_interval(np.where(known, score * n_items, 0.0), np.where(known, n_items, 1.0))
    interval = Interval(score, np.where(known, limits.low, np.nan), np.where(known, limits.high, np.nan))
    energy, energy_time = (Interval(*(table[f"{name}{end}"].to_numpy(float) for end in ENDS)) for name in ("energy_wh", "energy_wh_s"))
    per_wh = quotient(interval, energy)._replace(value=eor(score, energy.value))
    per_wh_s = quotient(interval, energy_time)._replace(value=tweor(score, energy.value, table["window_s"].to_numpy(float)))
    correct = Interval(*(energy_per_correct(end, n_items) for end in (per_wh.value, per_wh.high, per_wh.low)))  # its ends change places
    found = {"score": interval, "eor": per_wh, "tweor": per_wh_s, "energy_j_per_correct": correct}
    ends = {f"{name}{end}": values for name, each in found.items() for end, values in zip(ENDS, each, strict=True)}
    return table.assign(n_items=n_items, **ends)


KEY = list(schema.WINDOW_KEY)
JOIN = [*KEY, "attempt"]
CONFIGURATION = list(schema.CONFIGURATION)
BOUNDARY_ORDER = ("gpu", "cpu_package", "machine")
RANDOM_TERMS = ("u_statistical_j", "u_granularity_j", "u_aliasing_j", "u_idle_j")
SYSTEMATIC_TERMS = ("u_offset_j", "u_gain_j")


@dataclass(frozen=True)
class Selection:
    """The windows of one boundary and basis and what was left out. `rows`: window columns plus `energy_j` (all devices of the boundary
    summed) and its uncertainty terms [J]; `excluded`: configuration_id, status, reason, n; `kind`: gross or net.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    boundary: str
    basis: str
    kind: str


def select(
    windows: pd.DataFrame, energies: pd.DataFrame, boundary: str | None = None, basis: str | None = None, net: bool = False
) -> Selection:
    """The last attempt of each usable window with its energy, and the table of the others.

    Boundary and basis default to the best that a usable window has: gpu, else cpu_package, else machine; measured, else estimated, and so
    on. Raises UserError for an empty table or one without key columns, and where nothing is usable or of the boundary or basis asked for.
    """
    if missing := [c for c in [*JOIN, *CONFIGURATION, "status", "duration_s", "tokens_out"] if c not in windows]:
        found, hint = f"windows without {', '.join(missing)}", "read them with eai.tables or import them with a mapping"
        raise UserError(found, "the columns of eai/schema.py", hint)
    if windows.empty:
        raise UserError("no windows", "an experiment that has measured at least one", "run `eai run` first")
    windows = windows.drop_duplicates(KEY, keep="last").assign(reason=_words(windows, "reason"))
    ok = windows["status"] == "ok"
    usable = windows[ok].reset_index(drop=True)
    primary = energies[energies["primary"].astype(bool)].merge(usable[JOIN].assign(window=usable.index), on=JOIN)
    boundary = _choose("boundary", primary, BOUNDARY_ORDER, boundary)
    primary = primary[primary["boundary"] == boundary]
    basis, kind = _choose("basis", primary, schema.BASES, basis), "net" if net else "gross"
    joined = usable.drop(columns="basis", errors="ignore").join(_sum_devices(primary, net, basis))
    joined["why"] = _why_not(joined, boundary, basis, kind)
    rows = joined[joined["why"] == ""].drop(columns="why").assign(boundary=boundary, basis=basis)
    left_out = pd.concat([windows[~ok].assign(why=windows["reason"].replace("", "no reason given")), joined[joined["why"] != ""]])
    left_out = left_out.drop(columns="reason").rename(columns={"why": "reason"})
    excluded = left_out.groupby(["configuration_id", "status", "reason"], sort=True).size().rename("n").reset_index()
    if rows.empty:
        counts = excluded.groupby(["status", "reason"])["n"].sum()
        said = ", ".join(f"{n} {status}: {reason}" for (status, reason), n in counts.items()) or "none at all"
        raise UserError(f"no usable window ({said})", f"windows of status ok with {kind} {basis} {boundary} energy", "measure again")
    return Selection(rows.reset_index(drop=True), excluded, boundary, basis, kind)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The table sorted by configuration, strategies in the registry's order (full precision first) and not by alphabet."""
    known = list(strategies.STRATEGIES)
    places = {name: known.index(name) if name in known else len(known) for name in table["quantization"].unique()}
    by = table[CONFIGURATION].assign(place=table["quantization"].map(places))
    order = by.sort_values([c if c != "quantization" else "place" for c in CONFIGURATION] + ["quantization"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _words(table: pd.DataFrame, name: str) -> pd.Series:
    """A text column with an empty string for what is missing, also where the column is empty or absent."""
    return table.reindex(columns=[name])[name].astype(object).fillna("").astype(str)


def _choose(name: str, primary: pd.DataFrame, order: tuple[str, ...], asked: str | None) -> str:
    """The value of `name` to analyze: the one asked for, or the first of `order` that a row of status ok has."""
    present = set(primary.loc[primary["status"] == "ok", name].unique()) or set(primary[name].unique())
    if asked is not None and asked not in present:
        found = ", ".join(sorted(map(str, present))) or "none"
        raise UserError(f"no usable window with {name} {asked}; found {found}", "", f"ask for another {name} or measure it")
    return asked or next((value for value in order if value in present), order[0])


def _sum_devices(primary: pd.DataFrame, net: bool, basis: str) -> pd.DataFrame:
    """One row a window (its place among the usable ones): the energies of its devices summed, and what speaks against using the sum.

    A sum over cards of which one failed would be too low, so the worst card decides. Random terms add in quadrature; offset and gain add
    linearly, because cards of one kind may err alike. What subtracting idle adds to a net energy acts like an offset.
    """
    terms = primary.reindex(columns=[*RANDOM_TERMS, *SYSTEMATIC_TERMS]).astype(float).fillna(0.0)
    if net and "u_net_j" in primary:
        terms["u_offset_j"] = np.hypot(terms["u_offset_j"], primary["u_net_j"].astype(float).fillna(0.0))
    terms[list(RANDOM_TERMS)] **= 2
    energy_j, twice = primary["net_energy_j" if net else "energy_j"].astype(float), primary.duplicated(["window", "device_id"])
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


def is_served(table: pd.DataFrame) -> pd.Series:
    """For each row, window or configuration, whether it is one of a server: whether its options name a load."""
    named = [text for text in table["options"].unique() if isinstance(text, str) and text and "load" in json.loads(text)]
    return table["options"].isin(named)


def requests_of(windows: pd.DataFrame) -> pd.Series:
    """The requests of each window, NaN where they were not counted; of a server with replies of fixed length the tokens that arrived over
    those of a reply: whole requests counted at the edges of a short window would add scatter of their own.
    """
    counted = windows["requests"].astype(float)
    if not {"options", "flags"} <= set(windows) or not (served := is_served(windows)).any():
        return counted
    fixed = served & ~_flagged(windows, "length_varies", "tokens_from_pieces")
    return counted.mask(fixed, windows["tokens_out"] / windows["output_tokens"])


BLOCK = ["configuration_id", "job", "block"]
NOMINAL = "nominal_window"
SHARED_BLOCK = "shared_block"
"""Flag of windows whose block names the same work in every job, such as the same prompts on two cards: it pairs across jobs."""
TASK_OPTIONS = ("fewshot", "limit", "version")


def split_options(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `task_options` (what makes a score comparable) and `setup` (engine, GPUs, cache, load: other choices, never one):
    canonical JSON, "" for none."""
    texts = table["options"].fillna("{}").astype(str) if "options" in table else pd.Series("{}", index=table.index)

    def part(text: str, own: bool) -> str:
        found = {k: v for k, v in json.loads(text or "{}").items() if (k in TASK_OPTIONS) == own}
        return json.dumps(found, sort_keys=True, separators=(",", ":")) if found else ""

    own, rest = ({text: part(text, which) for text in texts.unique()} for which in (True, False))
    return table.assign(task_options=texts.map(own), setup=texts.map(rest))


def unit_energy(rows: pd.DataFrame) -> pd.Series:
    """Energy of one unit of work of each window [J]: of an item where a task ran as it comes, of an output token otherwise."""
    return rows["energy_j"].astype(float) / _units(rows, as_run(rows))


def _units(rows: pd.DataFrame, tasks: pd.Series) -> pd.Series:
    """The units of work of each window: items of tasks run as they come, output tokens otherwise."""
    tokens = rows["tokens_out"].astype(float)
    return tokens.mask(tasks, rows["requests"].astype(float)) if tasks.any() else tokens


def block_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into ratios, so that long windows weigh more.

    `window_energy_j` and `window_s`: energy and time of one task as run, means over windows and the passes of a window; NaN for a nominal
    window, which stands for rates of a source that states no totals. `unit_energy_j`: of an item of a task, of an output token otherwise.
    """
    tasks, totals = as_run(rows), ["energy_j", "duration_s", "tokens_out", "u_offset_j", "u_gain_j", "cpu_time_s"]
    peaks = ["memory_peak_gb", "model_bytes"]
    known = rows.reindex(columns=[*totals, "ttft_s", *peaks, "requests", "calls"]).astype(float)
    known = known.assign(
        requests=requests_of(rows.assign(requests=known["requests"])), passes=known["calls"].where(tasks, 1.0).fillna(1.0),
        as_run=tasks, nominal=_flagged(rows, NOMINAL), shared=_flagged(rows, SHARED_BLOCK),
    )  # fmt: skip
    groups = known.groupby([rows[c] for c in BLOCK], sort=False)
    sums = groups[[*totals, "requests", "passes"]].sum(min_count=1)
    energy_j, seconds = sums["energy_j"], sums["duration_s"]
    tokens, requests = (sums[c].where(sums[c] > 0) for c in ("tokens_out", "requests"))
    blocks = groups[["ttft_s"]].mean().join(groups[[*peaks, "as_run", "nominal"]].max())
    blocks = blocks.assign(n_windows=groups.size(), shared=groups["shared"].min())
    blocks["energy_j_per_token"] = energy_per_token(energy_j, tokens)
    blocks["throughput_tok_s"] = throughput(tokens, seconds)
    blocks["power_mean_w"] = mean_power(energy_j, seconds)
    blocks["cpu_s_per_token"] = sums["cpu_time_s"] / tokens
    blocks["energy_j_per_request"] = energy_per_request(energy_j, requests)
    blocks["requests_per_second"] = requests / seconds
    blocks["cpu_s_per_request"] = sums["cpu_time_s"] / requests
    blocks["unit_energy_j"] = blocks["energy_j_per_token"].mask(blocks["as_run"], blocks["energy_j_per_request"])
    blocks["window_energy_j"] = (energy_j / sums["passes"]).mask(blocks.pop("nominal"))
    blocks["window_s"] = seconds / sums["passes"]
    for term in ("offset", "gain"):
        blocks[f"u_{term}_relative"] = sums[f"u_{term}_j"] / energy_j
    return blocks.reset_index()


def _flagged(rows: pd.DataFrame, *wanted: str) -> pd.Series:
    """Which windows carry one of these flags."""
    marks = [not set(wanted).isdisjoint(flags) for flags in rows["flags"]] if "flags" in rows else False
    return pd.Series(marks, index=rows.index, dtype=bool)
