"""Each configuration against the baseline of its stratum: ratio with interval, tests and what may be said.

A stratum is everything that must be the same for a ratio to mean quantization: GPU, model, weights, batch, input and output
tokens, task. Pairs are blocks of one job, that is of one card, so the gain of its sensor cancels; its offset does not: it moves
both energies by the same watts, which is a different share of each.
"""

import numpy as np
import pandas as pd

from eai import schema, strategies
from eai.analyze.blocks import block_means
from eai.analyze.selection import CONFIGURATION, as_run, in_order, select
from eai.errors import UserError
from eai.stats import comparisons as tests

STRATUM = [c for c in CONFIGURATION if c not in ("quantization", "options")]
AS_RUN = {
    "energy_j_per_token": "energy_j_per_request",
    "throughput_tok_s": "requests_per_second",
    "cpu_s_per_token": "cpu_s_per_request",
}
"""What is compared where a task ran over its items as they come: an item, whose tokens are the model's choice."""
METRICS = ("energy_j_per_token", "throughput_tok_s", "power_mean_w", "cpu_s_per_token", "window_energy_j", *AS_RUN.values())
ENERGY_METRICS = ("energy_j_per_token", "energy_j_per_request", "power_mean_w", "window_energy_j")


def compare(
    windows: pd.DataFrame,
    energies: pd.DataFrame,
    baseline: str | None = None,
    metric: str = "energy_j_per_token",
    margin: float = tests.MARGIN,
    boundary: str | None = None,
    basis: str | None = None,
    net: bool = False,
) -> pd.DataFrame:
    """The comparisons table (schema.COMPARISONS) of an experiment: one row for each configuration that is not a baseline.

    `baseline` is a strategy; by default fp16 on a GPU and fp32 on a CPU. The family of Holm's correction is all testable rows of
    the table. A row that cannot be compared is not_testable and says why. Of tasks items are compared and not tokens (AS_RUN): the column
    `metric` says so. Raises UserError where nothing is usable, for a metric that is not one of METRICS, and for a baseline that the
    experiment does not have.
    """
    selection = select(windows, energies, boundary, basis, net)
    tried = windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table = compare_blocks(block_means(selection.rows), tried, baseline, metric, margin)
    table = table.assign(basis=selection.basis)
    return in_order(table.reindex(columns=[c.name for c in schema.COMPARISONS]))


def compare_blocks(
    blocks: pd.DataFrame,
    configurations: pd.DataFrame,
    baseline: str | None = None,
    metric: str = "energy_j_per_token",
    margin: float = tests.MARGIN,
) -> pd.DataFrame:
    """The comparisons of block means; `configurations` names every configuration that was tried."""
    if metric not in METRICS:
        raise UserError(f"metric {metric}", f"one of {', '.join(METRICS)}")
    table = match_baselines(configurations, baseline)
    table = table[table["configuration_id"] != table["baseline_id"]].reset_index(drop=True)
    logs = log_values(blocks, metric)
    table = with_differences(table, logs)
    table = judged(table, metric, margin)
    tasks = as_run(table)
    if tasks.any() and metric in AS_RUN:
        named = AS_RUN[metric] if tasks.all() else f"{metric} or {AS_RUN[metric]}"
        table["family"] = table["family"].str.replace(metric, named, n=1, regex=False)
    return table.assign(metric=np.where(tasks, AS_RUN.get(metric, metric), metric))


def match_baselines(configurations: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """The configurations with `baseline` (a strategy), `baseline_id` and, where there is none, `reason`.

    Where a stratum holds the baseline strategy under several options, the one with the same options is taken, else the one with
    none; where neither is unique there is no baseline. A task's options (version, examples, limit) must be the same. Raises UserError for
    a named baseline that no stratum has.
    """
    table = configurations[["configuration_id", *CONFIGURATION]].reset_index(drop=True)
    if baseline is not None and baseline not in set(table["quantization"]):
        raise UserError(
            f"baseline {baseline} was not measured", f"one of {', '.join(sorted(set(table['quantization'])))}", "name another baseline"
        )
    table["baseline"] = baseline or table["gpu"].map(strategies.default_baseline)
    candidates = table[table["quantization"] == table["baseline"]]
    plain = candidates[candidates["options"].fillna("{}").isin(("{}", ""))]
    same = _lookup(table, candidates, [*STRATUM, "options"])
    default = _lookup(table, candidates, STRATUM).fillna(_lookup(table, plain, STRATUM)).mask(as_run(table))
    table["baseline_id"] = same.fillna(default)
    is_candidate = table["quantization"] == table["baseline"]
    table.loc[is_candidate, "baseline_id"] = default[is_candidate].fillna(table["configuration_id"])
    several = _lookup(table, candidates.drop_duplicates(STRATUM), STRATUM).notna() & ~as_run(table)
    missing = "no " + table["baseline"] + " in this stratum"
    table["reason"] = np.where(table["baseline_id"].notna(), "", np.where(several, "several baselines that differ in options", missing))
    return table


def _lookup(table: pd.DataFrame, candidates: pd.DataFrame, on: list[str]) -> pd.Series:
    """The configuration_id of the only candidate that agrees in `on`, NaN where there is none or more than one."""
    unique = candidates[~candidates.duplicated(on, keep=False)][[*on, "configuration_id"]]
    found = table[on].merge(unique, on=on, how="left")["configuration_id"]
    return found.set_axis(table.index)


def log_values(blocks: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The logarithm of the metric (of a task: of its AS_RUN) by configuration, job and block.

    The sensor's relative uncertainties stand beside it where it is an energy.
    """
    frame = blocks[["configuration_id", "job", "block"]].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (
            blocks[metric].mask(blocks["as_run"], blocks[AS_RUN[metric]]) if metric in AS_RUN and "as_run" in blocks else blocks[metric]
        )
        frame["log"] = np.log(values.astype(float))
    for term in ("u_offset_relative", "u_gain_relative"):
        frame[term] = blocks[term] if metric in ENERGY_METRICS else 0.0
    return frame[np.isfinite(frame["log"])]


def with_differences(table: pd.DataFrame, logs: pd.DataFrame) -> pd.DataFrame:
    """Adds mean, se, df, u, n_pairs, method and sd of each comparison: paired on job and block where two blocks pair, else Welch."""
    table = table.join(_pair_moments(table, logs), on="configuration_id")
    own, other = _moments(logs), _moments(logs).add_suffix("_base")
    table = table.join(own, on="configuration_id").join(other, on="baseline_id")
    table["n_pairs"] = table["n_pairs"].fillna(0).astype(int)
    pairs = tests.paired(table["mean_pair"], table["sd_pair"], table["n_pairs"], table["u_pair"].fillna(0.0))
    apart = tests.welch(table["mean"], table["sd"], table["n"], table["mean_base"], table["sd_base"], table["n_base"], _unpaired_u(table))
    use_pairs = np.isfinite(table["mean_pair"]) & (table["n_pairs"] >= 2)
    chosen = {name: np.where(use_pairs, getattr(pairs, name), getattr(apart, name)) for name in ("mean", "se", "df", "u")}
    table["method"] = np.select([~np.isfinite(chosen["se"]), use_pairs], ["not_testable", "paired_t"], default="welch")
    one_pair = (table["n_pairs"] == 1) & (table["method"] == "not_testable")
    chosen["mean"] = np.where(one_pair, table["mean_pair"], chosen["mean"])
    table["reason"] = _why_not_testable(table)
    return table.assign(log_ratio=chosen["mean"], se_log=chosen["se"], df=chosen["df"], u_log=chosen["u"])


def _pair_moments(table: pd.DataFrame, logs: pd.DataFrame) -> pd.DataFrame:
    """Mean, sd and number of the log ratios of blocks that hold both, and what the common offset does to their ratio.

    One card's offset shifts both energies by the same watts: relative shifts subtract, u = |u_offset/E - u_offset/E_base|.
    """
    links = table.loc[table["baseline_id"].notna(), ["configuration_id", "baseline_id"]]
    own = links.merge(logs, on="configuration_id")
    base = logs.rename(columns={"configuration_id": "baseline_id"})
    both = own.merge(base, on=["baseline_id", "job", "block"], suffixes=("", "_base"))
    both["ratio"] = both["log"] - both["log_base"]
    both["shift"] = both["u_offset_relative"] - both["u_offset_relative_base"]
    groups = both.groupby("configuration_id")
    frame = groups.agg(mean_pair=("ratio", "mean"), sd_pair=("ratio", "std"), n_pairs=("ratio", "size"), u_pair=("shift", "mean"))
    return frame.assign(u_pair=frame["u_pair"].abs())


def _moments(logs: pd.DataFrame) -> pd.DataFrame:
    """Mean, sd and number of the logarithms of each configuration, with its sensor terms and job."""
    groups = logs.groupby("configuration_id")
    return groups.agg(mean=("log", "mean"), sd=("log", "std"), n=("log", "size"), u_offset=("u_offset_relative", "mean"),
                      u_gain=("u_gain_relative", "mean"), first_job=("job", "min"), last_job=("job", "max"))  # fmt: skip


def _unpaired_u(table: pd.DataFrame) -> pd.Series:
    """Systematic uncertainty of an unpaired log ratio: on one job the card's offset is common; on two cards nothing cancels."""
    jobs = table[["first_job", "last_job", "first_job_base", "last_job_base"]]
    one_card = jobs.nunique(axis=1) == 1
    common = (table["u_offset"] - table["u_offset_base"]).abs()
    terms = table[["u_offset", "u_offset_base", "u_gain", "u_gain_base"]].astype(float)
    apart = np.sqrt(np.log1p(terms**2).sum(axis=1))  # of logarithms, as in `summary`
    return common.where(one_card, apart).fillna(0.0)


def _why_not_testable(table: pd.DataFrame) -> np.ndarray:
    """Why each comparison that is not testable is not; why a Welch test was used; else an empty string."""
    n, n_base = table["n"].fillna(0), table["n_base"].fillna(0)
    failed = table["method"] == "not_testable"
    conditions = [failed & (table["reason"] != ""), failed & (n_base == 0), failed & (n == 0), failed & ((n < 2) | (n_base < 2))]
    reasons = [table["reason"], "the baseline has no usable block", "no usable block", "one block: a ratio without a spread"]
    why = np.select(conditions, reasons, default="")
    why = np.where(failed & (why == ""), "the blocks do not vary: constants, not repeated measurements", why)
    return np.where(table["method"] == "welch", "fewer than two blocks pair: unpaired test", why)


def judged(table: pd.DataFrame, metric: str, margin: float) -> pd.DataFrame:
    """Adds ratio, interval, p values, equivalence, family and outcome."""
    d = tests.Difference(*(table[c].to_numpy(float) for c in ("log_ratio", "se_log", "df", "u_log", "n_pairs")))
    interval = tests.ratio_interval(d)
    table["ratio_to_baseline"], table["ratio_to_baseline_low"], table["ratio_to_baseline_high"] = interval
    table["p"] = tests.p_value(d)
    table["p_holm"] = tests.adjust(table["p"])
    table["tost_p"] = tests.tost_p(d, margin)
    table["tost_power"] = _planned_power(table, margin)
    table["outcome"] = tests.outcome(d, table["p_holm"], table["tost_p"], table["tost_power"])
    family = f"{metric} against the baseline, {int(np.isfinite(table['p']).sum())} comparisons"
    return table.assign(metric=metric, margin=margin, family=family)


def _planned_power(table: pd.DataFrame, margin: float) -> np.ndarray:
    """Power to show equivalence with the spread and number of blocks at hand."""
    paired = table["method"] == "paired_t"
    harmonic = 1 / (1 / table["n"] + 1 / table["n_base"])
    sd_apart = np.sqrt(table["sd"] ** 2 / table["n"] + table["sd_base"] ** 2 / table["n_base"]) * np.sqrt(harmonic)
    sd = np.where(paired, table["sd_pair"], sd_apart)
    n = np.where(paired, table["n_pairs"], harmonic)
    df = np.where(paired, table["n_pairs"] - 1, table["n"] + table["n_base"] - 2)
    testable = table["method"] != "not_testable"
    return tests.tost_power(np.where(testable, sd, np.nan), np.nan_to_num(n), margin, u_log=table["u_log"].fillna(0), df=np.nan_to_num(df))
