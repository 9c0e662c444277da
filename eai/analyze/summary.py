"""One row a configuration, and one a load of a server: energy, throughput, power and memory with intervals over blocks, and a gate.

The block is the replicate: windows of one block ran on one load of the model and are averaged before anything is estimated.

Beside them the uncertainty budget, and whether the experiment was as random and steady as its intervals assume: order, drift,
temperature, outliers. A drift that randomized blocks spread over all configurations widens the intervals and biases none. Nothing found
here drops a window.
"""

import json

import numpy as np
import pandas as pd

from eai import schema
from eai.analyze import metrics
from eai.analyze.comparison import ratios, with_ratios
from eai.analyze.metrics import over_blocks, with_scores
from eai.analyze.scores import of_items, of_texts
from eai.analyze.selection import CONFIGURATION, Selection, block_means, in_order, is_served, requests_of, select, unit_energy
from eai.errors import UserError
from eai.stats import comparisons, intervals
from eai.stats.intervals import cv_interval, with_systematic

GATE_OK = 0.02
GATE_NOISY = 0.05
MORE_THAN = f" % between blocks, more than {100 * GATE_NOISY:g} %"


def summarize(
    windows: pd.DataFrame,
    energies: pd.DataFrame,
    baseline: str | None = None,
    scores: pd.DataFrame | None = None,
    boundary: str | None = None,
    basis: str | None = None,
    net: bool = False,
) -> pd.DataFrame:
    """The summary table of an experiment (`summarize_selection`). Raises UserError where nothing is usable."""
    return summarize_selection(select(windows, energies, boundary, basis, net), windows, baseline, scores)


def summarize_selection(
    selection: Selection, windows: pd.DataFrame, baseline: str | None = None, scores: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The summary table (schema.SUMMARY) of windows that were selected before: one row for each configuration that `windows` names.

    A configuration without a usable window keeps a row with `n_blocks` 0, no numbers, gate rejected and the reason. `scores`: columns
    configuration_id, score (a fraction) and, for intervals, n_items; or item by item as in schema.SCORES, texts among them. EOR, TWEOR,
    energy per correct answer and perplexity are filled where they are given.
    """
    blocks = block_means(selection.rows)
    tried = windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table = tried.merge(_estimates(blocks), on="configuration_id", how="left")
    table = table.fillna({"n_blocks": 0, "n_windows": 0}).astype({"n_blocks": int, "n_windows": int})
    table = table.assign(basis=selection.basis, boundary=selection.boundary, energy_kind=selection.kind)
    table["gate"] = gate(table["energy_cv"], table["n_blocks"])
    table["reason"] = _reasons(table, selection.excluded)
    items = scores if scores is not None and "item" in scores else None
    table = with_scores(table, scores if items is None else of_items(items))
    if items is not None:
        table = table.merge(of_texts(items), on="configuration_id", how="left", suffixes=("", "_texts"))
        table["n_items"] = table["n_items"].fillna(table["n_items_texts"].astype(float))
    table = with_ratios(table, ratios(blocks, table, baseline))
    return in_order(table.reindex(columns=[c.name for c in schema.SUMMARY]))


def _estimates(blocks: pd.DataFrame) -> pd.DataFrame:
    """Estimates and intervals, one row a configuration.

    The interval against the true energy (`_abs_`) holds offset and gain of the sensor, which no repetition removes, beside the spread of
    blocks; granularity, aliasing and idle are in that spread already. A relative uncertainty u is sqrt(ln(1 + u^2)) on the logarithm: the
    same to four digits for a sensor, not for an estimate good to a factor.
    """
    groups = blocks.groupby("configuration_id", sort=False)
    means = ["cpu_s_per_token", "cpu_s_per_request", "power_mean_w", "ttft_s", "u_offset_relative", "u_gain_relative"]
    cvs = ["unit_energy_j", "throughput_tok_s"]
    mean = groups[[*means, *cvs, "model_bytes"]].mean()
    cv = groups[cvs].std(ddof=1) / mean[cvs]
    wh = metrics.watt_hours(blocks["window_energy_j"])
    costs = ["energy_j_per_token", "energy_j_per_request", "throughput_tok_s", "requests_per_second", "window_s"]
    costs = over_blocks(blocks[costs].assign(energy_wh=wh, energy_wh_s=wh * blocks["window_s"]), blocks["configuration_id"])
    table = mean[means].join(costs).assign(
        n_blocks=groups.size(), n_windows=groups["n_windows"].sum(), memory_peak_gb=groups["memory_peak_gb"].max(),
        n_jobs=groups["job"].nunique(), model_gb=mean["model_bytes"] / 1e9, throughput_cv=cv["throughput_tok_s"],
        tokens_per_j=metrics.tokens_per_joule(costs["energy_j_per_token"]),
    )  # fmt: skip
    table["energy_cv"], table["energy_cv_low"], table["energy_cv_high"] = cv_interval(cv["unit_energy_j"], table["n_blocks"])
    u_log = np.sqrt(np.log1p(table["u_offset_relative"] ** 2 + table["u_gain_relative"] ** 2))
    se_log = table["energy_j_per_token_sd_log"] / np.sqrt(table["n_blocks"])
    absolute = with_systematic(table["energy_j_per_token_mean_log"], se_log, table["n_blocks"] - 1, u_log)
    return table.assign(energy_j_per_token_abs_low=absolute.low, energy_j_per_token_abs_high=absolute.high).reset_index()


def gate(energy_cv, n_blocks) -> np.ndarray:
    """ok (CV <= 2 %), noisy (<= 5 %) or rejected, on the point CV across blocks.

    One block has no spread: it is noisy, because nothing shows that it is not. No block at all is rejected.
    """
    cv, n = np.asarray(energy_cv, float), np.asarray(n_blocks)
    return np.select([n == 0, n == 1, cv <= GATE_OK, cv <= GATE_NOISY], ["rejected", "noisy", "ok", "noisy"], default="rejected")


def _reasons(table: pd.DataFrame, excluded: pd.DataFrame) -> pd.Series:
    """Why a configuration has fewer windows than were tried, or no interval: `2 x oom: out of memory; one block: no spread known`."""
    text = excluded["n"].astype(str) + " x " + excluded["status"] + ": " + excluded["reason"]
    left_out = table["configuration_id"].map(text.groupby(excluded["configuration_id"]).agg("; ".join)).astype(object).fillna("")
    single = np.where(table["n_blocks"] == 1, "one block: no spread known", "")
    cards = np.where(table["n_jobs"] > 1, "blocks of several jobs: their cards' gains differ", "")
    spread = "energy varies by " + (100 * table["energy_cv"]).map("{:.1f}".format) + MORE_THAN
    varies = np.where((table["gate"] == "rejected") & (table["n_blocks"] > 1), spread, "")
    return pd.Series(["; ".join(filter(None, words)) for words in zip(left_out, single, cards, varies, strict=True)], index=table.index)


SENSOR_TERMS = ("granularity", "aliasing", "idle", "offset", "gain")
BUDGET_TERMS = ("blocks", *SENSOR_TERMS)


def budgets(selection: Selection) -> pd.DataFrame:
    """One row a configuration: relative standard uncertainty (k = 1) of its mean energy by source, and combined.

    `blocks`: standard error of the mean over blocks on the log scale, NaN for one block. granularity, aliasing and idle are a priori
    figures for one window divided by the root of the number of windows: they are part of the spread of the blocks and stand here to be
    compared with it. offset and gain are not reduced by repeating. `within_card` = blocks and offset, `absolute` = with the gain.
    """
    rows = selection.rows
    groups = pd.DataFrame({t: rows[f"u_{t}_j"] / rows["energy_j"] for t in SENSOR_TERMS}).groupby(rows["configuration_id"])
    table, random = groups.mean(), ["granularity", "aliasing", "idle"]
    table[random] = table[random].div(np.sqrt(groups.size()), axis=0)
    blocks = block_means(rows)
    logs = np.log(blocks["unit_energy_j"]).groupby(blocks["configuration_id"])
    table["blocks"] = logs.std(ddof=1) / np.sqrt(logs.size())
    table["within_card"] = np.hypot(table["blocks"].fillna(0.0), table["offset"])
    table["absolute"] = np.hypot(table["within_card"], table["gain"])
    configurations = rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    columns = ["configuration_id", *CONFIGURATION, *BUDGET_TERMS, "within_card", "absolute"]
    return in_order(configurations.merge(table.reset_index(), on="configuration_id")[columns].assign(basis=selection.basis))


TIMES = ["ttft_s", "ttft_p95_s", "itl_s", "itl_p95_s", "latency_s", "latency_p95_s"]
RATES = ["energy_j_per_token", "energy_j_per_request", "throughput_tok_s"]
LOAD_COLUMNS = [c.name for c in schema.TABLES["loads"] if c.name not in (*schema.CONFIGURATION, "configuration_id")]


def by_load(windows: pd.DataFrame, energies: pd.DataFrame, *chosen) -> pd.DataFrame:
    """The loads table (schema.TABLES["loads"]) of an experiment: one row for each configuration of a server; `chosen` as for `select`.

    A time that is unknown or zero in a block has no logarithm and no part in the estimates. Raises UserError where no server was
    measured, and where nothing of it is usable.
    """
    served = is_served(windows)
    if not served.any():
        raise UserError("no window of a server", "an experiment measured with the parameter server", "see docs/servers.md")
    selection = select(windows[served], energies, *chosen)
    blocks = _load_blocks(selection.rows)
    groups = blocks.groupby("configuration_id", sort=False)
    table = groups[["in_flight_mean", "requests_per_s"]].mean().assign(n_blocks=groups.size())
    table[["requests", "requests_failed"]] = groups[["requests", "requests_failed"]].sum()
    table["flags"] = groups["flags"].agg(_united)
    values = blocks[RATES].join(blocks[TIMES].where(blocks[TIMES] > 0))
    table = table.join(over_blocks(values, blocks["configuration_id"])).reset_index()
    table = table.merge(windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id"), on="configuration_id")
    of = table["options"].map(json.loads)
    table = table.assign(server=of.map(lambda o: o["server"]), traffic=of.map(lambda o: o["load"]))
    kind, _, level = zip(*table["traffic"].str.partition(":").to_numpy(), strict=True)
    table = table.assign(traffic_kind=kind, traffic_level=np.array(level, float), boundary=selection.boundary, basis=selection.basis)
    table = table.sort_values(["server", "model", "quantization", "input_tokens", "output_tokens", "traffic_kind", "traffic_level"])
    return table[["configuration_id", *CONFIGURATION, *LOAD_COLUMNS]].reset_index(drop=True)


def loads(windows: pd.DataFrame, energies: pd.DataFrame, *chosen) -> pd.DataFrame:
    """The loads table as `by_load` makes it; without rows where no server was measured or nothing of it is usable."""
    try:
        return by_load(windows, energies, *chosen)
    except UserError:
        return pd.DataFrame(columns=["configuration_id", *CONFIGURATION, *LOAD_COLUMNS])


def _load_blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (configuration, job, block): totals over its windows turned into rates, medians averaged."""
    numbers = rows.astype(dict.fromkeys([*TIMES, "in_flight_mean"], float)).assign(served=requests_of(rows))
    groups = numbers.groupby(["configuration_id", "job", "block"], sort=False)
    sums = groups[["energy_j", "duration_s", "tokens_out", "requests", "requests_failed", "served"]].sum()
    blocks = groups[[*TIMES, "in_flight_mean"]].mean().assign(
        energy_j_per_token=metrics.energy_per_token(sums["energy_j"], sums["tokens_out"]),
        energy_j_per_request=metrics.energy_per_request(sums["energy_j"], sums["served"]),
        throughput_tok_s=metrics.throughput(sums["tokens_out"], sums["duration_s"]),
        requests_per_s=sums["served"] / sums["duration_s"], flags=groups["flags"].agg(_united),
    )  # fmt: skip
    blocks[["requests", "requests_failed"]] = sums[["requests", "requests_failed"]].astype(int)
    return blocks.reset_index()


def _united(flags: pd.Series) -> list[str]:
    """All flags of several windows, each once."""
    return sorted(set().union(*flags))


COVARIATES = {
    "order": "a window later in its block",
    "load": "a model load later in its block",
    "temperature_mean_c": "a degree Celsius more",
    "warmup_s": "a second of warm-up more",
}


def disturbances(selection: Selection) -> pd.DataFrame:
    """One row a possible disturbance: what changes, its relative effect on the energy per token or item with 95 % interval, p, p_holm, n.

    Effects are estimated beside configuration and block (of a job). Autocorrelation of consecutive blocks stands in the last row: its
    effect column is the lag-one correlation. Columns: disturbance, effect, low, high, p, p_holm, n.
    """
    rows = selection.rows
    y = np.log(unit_energy(rows))
    block = rows.groupby(["job", "block"]).ngroup()
    found = []
    for name, words in COVARIATES.items():
        x = rows.reindex(columns=[name])[name].astype(float).dropna()
        effect = intervals.covariate_effect(y[x.index], x, rows.loc[x.index, "configuration_id"], block[x.index])
        found.append({"disturbance": words, "effect": effect.slope} | effect._asdict())
    blocks = block_means(rows)
    blocks["log"] = np.log(blocks["unit_energy_j"])
    tables = [t.pivot_table(index="configuration_id", columns="block", values="log").dropna().to_numpy() for _, t in blocks.groupby("job")]
    series = max(tables, key=np.size)  # of the job with the most configurations that have every block
    if series.size:
        series = series - series.mean(axis=0, keepdims=True) - series.mean(axis=1, keepdims=True) + series.mean()
    last = {"disturbance": "the block before (lag-one autocorrelation)", "n": series.shape[0]}
    if series.shape[0] >= 2 and series.shape[1] >= 4 and np.ptp(series) >= 1e-12:
        last |= {"effect": intervals.lag_one(series), "p": intervals.autocorrelation_p(series, np.random.default_rng(0))}
    table = pd.DataFrame([*found, last])
    return table.assign(p_holm=comparisons.adjust(table["p"]))[["disturbance", "effect", "low", "high", "p", "p_holm", "n"]]


OVER_TIME = {"energy": ("energy", "%"), "temperature_mean_c": ("temperature", "degC"), "sm_clock_mean_mhz": ("clock", "MHz")}
"""What is looked at over a run: its name and unit; the energy is that of a token or item over the mean of its configuration."""


def over_time(selection: Selection) -> pd.DataFrame:
    """One row a window in the order of measuring: job, hours since its first window began, energy of a token or item relative to the
    mean of its configuration (1.02: 2 % more), and the sensors' columns of OVER_TIME.

    On a simulated card every window begins at the same second: its hours are the windows and warm-ups before it.
    """
    rows = selection.rows.sort_values(["job", "block", "load", "order", "repeat"], ignore_index=True)
    rows["log"] = np.log(unit_energy(rows))
    rows["energy"] = np.exp(rows["log"] - rows.groupby("configuration_id")["log"].transform("mean"))
    if rows["start_s"].nunique() > 1:
        since = rows["start_s"] - rows.groupby("job")["start_s"].transform("min")
    else:
        each = rows["duration_s"].astype(float) + rows["warmup_s"].astype(float).fillna(0.0)
        since = each.groupby(rows["job"]).cumsum() - each
    rows["hours"] = since / 3600
    return rows.reindex(columns=["job", "configuration_id", "hours", *OVER_TIME])


def trends(points: pd.DataFrame) -> pd.DataFrame:
    """Stability: one row a job and quantity of `over_time`, with its change an hour, 95 % interval and p, against neighbours in time that
    are alike (`intervals.trend`). Columns: job, quantity, unit, hours, change, low, high (an hour, in `unit`), p, p_holm, n."""
    rows = []
    for job, own in points.groupby("job", sort=False):
        for name, (words, unit) in OVER_TIME.items():
            known = own[own[name].notna()]
            if len(known):
                found = intervals.trend((100 if unit == "%" else 1) * known[name].astype(float), known["hours"])
                rows.append({"job": job, "quantity": words, "unit": unit, "hours": known["hours"].max()} | found._asdict())
    table = pd.DataFrame(rows).rename(columns={"slope": "change"})
    return table.assign(p_holm=comparisons.adjust(table["p"]))


def outliers(selection: Selection) -> pd.DataFrame:
    """The windows whose energy per token (of a task: per item) stands out from configuration and block.

    At a 5 % chance of accusing anyone wrongly in a job. Columns: job, block, repeat, configuration, energy_j_per_token, ratio_to_expected
    (to the configuration's median). They stay in every estimate: compare the table with and without them by leaving out their `attempt`.
    """
    tokens = selection.rows["tokens_out"].astype(float)
    rows = selection.rows.assign(energy_j_per_token=metrics.energy_per_token(selection.rows["energy_j"], tokens.where(tokens > 0)))
    unit_j = unit_energy(rows)
    flagged = np.zeros(len(rows), bool)
    for _, job in rows.groupby("job"):
        place = rows.index.get_indexer(job.index)
        flagged[place] = intervals.outliers(np.log(unit_j[job.index]), job["configuration_id"], job["block"])
    rows["ratio_to_expected"] = unit_j / unit_j.groupby(rows["configuration_id"]).transform("median")
    columns = ["job", "block", "repeat", "attempt", "configuration_id", *CONFIGURATION, "energy_j_per_token", "ratio_to_expected"]
    return rows.loc[flagged, columns].reset_index(drop=True)
