"""Each configuration against the baseline of its stratum; levels of a factor and two experiments alike; synergy, crossovers, power.

A stratum is everything that must be the same for a ratio to mean quantization: GPU, model, weights, batch, lengths, task, and where and
how it ran. Pairs are blocks of one job, that is of one card, so the gain of its sensor cancels; its offset does not: the same watts are a
different share of each energy. Blocks that name the same work on two cards pair across them, and then nothing cancels.
"""

import json

import numpy as np
import pandas as pd

from eai import schema, strategies
from eai.analyze.selection import CONFIGURATION, Selection, as_run, block_means, in_order, select, split_options
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats import planning

STRATUM = [c for c in CONFIGURATION if c not in ("quantization", "options")]
AS_RUN = {
    "energy_j_per_token": "energy_j_per_request",
    "throughput_tok_s": "requests_per_second",
    "cpu_s_per_token": "cpu_s_per_request",
}
"""What is compared where a task ran over its items as they come: an item, whose tokens are the model's choice."""
WHERE = {"engine", "engine_version", "num_gpus", "gpus", "tp", "pp", "dp", "ep", "tensor_parallel", "expert_parallel", "data_parallel"}
WHERE |= {"pipeline_parallel", "server", "load", "kv_cache", "cache", "compile", "fewshot", "limit", "version"}
"""Options that say where and how it ran, or which items: rows that differ in one of them are never compared as strategies."""
METRICS = ("energy_j_per_token", "throughput_tok_s", "power_mean_w", "cpu_s_per_token", "window_energy_j", *AS_RUN.values())
ENERGY_METRICS = ("energy_j_per_token", "energy_j_per_request", "power_mean_w", "window_energy_j")
RATIOS = ["baseline", "ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"]


def compare(
    windows: pd.DataFrame, energies: pd.DataFrame, baseline: str | None = None, metric: str = "energy_j_per_token",
    margin: float = tests.MARGIN, boundary: str | None = None, basis: str | None = None, net: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """The comparisons table (schema.TABLES["comparisons"]) of an experiment: one row for each configuration that is not a baseline.

    `baseline` is a strategy; by default fp16 on a GPU and fp32 on a CPU. The family of Holm's correction is all testable rows of the table.
    A row that cannot be compared is not_testable and says why. Of tasks items are compared and not tokens (AS_RUN). Raises UserError where
    nothing is usable, for a metric that is not one of METRICS, and for a baseline that the experiment does not have.
    """
    selection = select(windows, energies, boundary, basis, net)
    tried = windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table = judged(ratios(block_means(selection.rows), tried, baseline, metric), metric, margin).assign(basis=selection.basis)
    return in_order(table.reindex(columns=[c.name for c in schema.TABLES["comparisons"]]))


def ratios(
    blocks: pd.DataFrame, configurations: pd.DataFrame, baseline: str | None = None, metric: str = "energy_j_per_token"
) -> pd.DataFrame:
    """`with_differences` of block means to the baseline; `configurations` names every one that was tried, the baselines have no row."""
    logs = log_values(blocks, metric)
    table = match_baselines(configurations, baseline)
    return with_differences(table[table["configuration_id"] != table["baseline_id"]].reset_index(drop=True), logs)


def match_baselines(configurations: pd.DataFrame, baseline: str | None = None, stratum: list[str] | None = None) -> pd.DataFrame:
    """The configurations with `baseline` (a strategy), `baseline_id` and, where there is none, `reason`.

    `stratum`: the columns that must agree (STRATUM by default). Options must agree too: those that say where and how it ran (WHERE),
    those of a task, and whatever else the baseline's own rows state; an option that only the other strategy knows is part of that
    strategy. A baseline under another option is compared with the plain one. Raises UserError for a baseline that was not measured.
    """
    stratum = STRATUM if stratum is None else list(stratum)
    table = configurations[["configuration_id", *CONFIGURATION]].reset_index(drop=True)
    if baseline is not None and baseline not in set(table["quantization"]):
        known = ", ".join(sorted(set(table["quantization"])))
        raise UserError(f"baseline {baseline} was not measured", f"one of {known}", "name another baseline")
    table["baseline"] = baseline or table["gpu"].map(strategies.default_baseline)
    is_base = table["quantization"] == table["baseline"]
    options = {text: json.loads(text or "{}") for text in table["options"].fillna("{}").unique()}
    shared = WHERE | {k for text in table.loc[is_base, "options"].fillna("{}").unique() for k in options[text]}
    where = {text: json.dumps({k: v for k, v in o.items() if k in shared}, sort_keys=True) for text, o in options.items()}
    table["where"] = table["options"].fillna("{}").map(where)
    candidates = table[is_base]

    def only(on: list[str], among: pd.DataFrame) -> pd.Series:
        """The configuration_id of the one candidate that agrees in `on`, NaN where there is none or more than one."""
        unique = among[~among.duplicated(on, keep=False)][[*on, "configuration_id"]]
        return table[on].merge(unique, on=on, how="left")["configuration_id"]

    table["baseline_id"] = only([*stratum, "where"], candidates)
    plain = only(stratum, candidates[candidates["where"] == "{}"]).mask(as_run(table))
    table.loc[is_base, "baseline_id"] = plain[is_base].fillna(table["configuration_id"])
    several = table.merge(candidates[stratum].drop_duplicates(), on=stratum, how="left", indicator=True)["_merge"].eq("both").to_numpy()
    why = "no " + table["baseline"] + np.where(several, " with the same options in this stratum", " in this stratum")
    table["reason"] = why.where(table["baseline_id"].isna(), "")
    return table.drop(columns="where")


def log_values(blocks: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The logarithm of the metric (of a task: of its AS_RUN) by configuration, job and block, with the sensor's relative uncertainties.

    Two rows of one `place` and `block` are a pair: the place is the job, or nothing where the block names the same work in every job.
    Raises UserError for a metric that is not one of METRICS.
    """
    if metric not in METRICS:
        raise UserError(f"metric {metric}", f"one of {', '.join(METRICS)}")
    frame = blocks[["configuration_id", "job", "block"]].copy()
    frame["place"] = blocks["job"].mask(blocks["shared"], "") if "shared" in blocks else blocks["job"]
    values = blocks[metric]
    if metric in AS_RUN and "as_run" in blocks:
        values = values.mask(blocks["as_run"], blocks[AS_RUN[metric]])
    with np.errstate(divide="ignore", invalid="ignore"):
        frame["log"] = np.log(values.astype(float))
    for term in ("u_offset_relative", "u_gain_relative"):
        frame[term] = blocks[term] if metric in ENERGY_METRICS else 0.0
    return frame[np.isfinite(frame["log"])]


def with_differences(table: pd.DataFrame, logs: pd.DataFrame) -> pd.DataFrame:
    """Adds each comparison's difference of logarithms and its ratio: paired on place and block where two blocks pair, else Welch's.

    `method`: paired_t, welch or not_testable; mean, sd and n are of both sides' logarithms (`_base`).
    """
    groups = pairs(table, logs).groupby("configuration_id")
    paired = groups.agg(mean_pair=("log_ratio", "mean"), sd_pair=("log_ratio", "std"), n_pairs=("log_ratio", "size"), u=("u_log", "mean"))
    groups = logs.groupby("configuration_id")
    own = groups.agg(mean=("log", "mean"), sd=("log", "std"), n=("log", "size"), u_offset=("u_offset_relative", "mean"),
                     u_gain=("u_gain_relative", "mean"), first_job=("job", "min"), last_job=("job", "max"))  # fmt: skip
    table = table.join(paired, on="configuration_id").join(own, on="configuration_id").join(own.add_suffix("_base"), on="baseline_id")
    table["n_pairs"] = table["n_pairs"].fillna(0).astype(int)
    together = tests.paired(table["mean_pair"], table["sd_pair"], table["n_pairs"], table.pop("u").abs().fillna(0.0))
    one_card = table[["last_job", "first_job_base", "last_job_base"]].eq(table["first_job"], axis=0).all(axis=1)
    u_apart = _sensor_u(table["u_offset"], table["u_offset_base"], table["u_gain"], table["u_gain_base"], one_card).abs().fillna(0.0)
    apart = tests.welch(table["mean"], table["sd"], table["n"], table["mean_base"], table["sd_base"], table["n_base"], u_apart)
    use_pairs = np.isfinite(table["mean_pair"]) & (table["n_pairs"] >= 2)
    d = tests.Difference(*(np.where(use_pairs, *both) for both in zip(together, apart, strict=True)))
    failed = ~np.isfinite(d.se)
    table["method"] = np.select([failed, use_pairs], ["not_testable", "paired_t"], default="welch")
    d = d._replace(mean=np.where((table["n_pairs"] == 1) & failed, table["mean_pair"], d.mean), n=table["n_pairs"].to_numpy(float))
    n, n_base = table["n"].fillna(0), table["n_base"].fillna(0)
    why = {
        "fewer than two blocks pair: unpaired test": table["method"] == "welch",
        "": ~failed,
        "known": table["reason"] != "",
        "the baseline has no usable block": n_base == 0,
        "no usable block": n == 0,
        "one block: a ratio without a spread": (n < 2) | (n_base < 2),
    }
    constants = "the blocks do not vary: constants, not repeated measurements"
    reason = np.select(list(why.values()), list(why), default=constants)
    table["reason"] = np.where(reason == "known", table["reason"], reason)
    for name, values in zip(RATIOS[1:], tests.ratio_interval(d), strict=True):
        table[name] = values
    return table.assign(log_ratio=d.mean, se_log=d.se, df=d.df, u_log=d.u)


def pairs(table: pd.DataFrame, logs: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of blocks: configuration_id, baseline_id (of `table`), job, block, log_ratio, u_log."""
    links = table.loc[table["baseline_id"].notna(), ["configuration_id", "baseline_id"]]
    links = links[links["configuration_id"] != links["baseline_id"]]
    place = ["place", "block"]
    if logs.duplicated(["configuration_id", *place]).any():
        keep = {"job": "first", "log": "mean", "u_offset_relative": "mean", "u_gain_relative": "mean"}
        logs = logs.groupby(["configuration_id", *place], sort=False).agg(keep).reset_index()
    base = logs.rename(columns={"configuration_id": "baseline_id"})
    both = links.merge(logs, on="configuration_id").merge(base, on=["baseline_id", *place], suffixes=("", "_base"))
    terms = [both[f"u_{term}_relative{side}"] for term in ("offset", "gain") for side in ("", "_base")]
    both = both.assign(log_ratio=both["log"] - both["log_base"], u_log=_sensor_u(*terms, both["job"] == both["job_base"]))
    return both[["configuration_id", "baseline_id", "job", "block", "log_ratio", "u_log"]]


def _sensor_u(u_offset, u_offset_base, u_gain, u_gain_base, one_card: pd.Series) -> pd.Series:
    """What the sensors add to a log ratio that no repeat removes: one card's offset shifts both energies by the same watts, so relative
    shifts subtract; between two cards offset and gain of both remain.
    """
    apart = np.sqrt(sum(np.log1p(u.astype(float).fillna(0.0) ** 2) for u in (u_offset, u_offset_base, u_gain, u_gain_base)))
    return (u_offset - u_offset_base).where(one_card, apart)


def judged(table: pd.DataFrame, metric: str, margin: float) -> pd.DataFrame:
    """Adds to `with_differences` the p values, equivalence within `margin`, family and outcome; the family is the table."""
    d = _difference(table)
    p, metrics = tests.p_value(d), compared(table, metric)
    family = f"{' or '.join(sorted(set(metrics), reverse=True))} against the baseline, {int(np.isfinite(p).sum())} comparisons"
    found = {"p": p, "p_holm": tests.adjust(p), "tost_p": tests.tost_p(d, margin), "tost_power": planned_power(table, margin)}
    outcome = tests.outcome(d, found["p_holm"], found["tost_p"], found["tost_power"])
    return table.assign(**found, outcome=outcome, metric=metrics, margin=margin, family=family)


def _difference(table: pd.DataFrame) -> tests.Difference:
    """The differences of `with_differences` as arrays."""
    return tests.Difference(*(table[c].to_numpy(float) for c in ("log_ratio", "se_log", "df", "u_log", "n_pairs")))


def planned_power(table: pd.DataFrame, margin: float) -> np.ndarray:
    """Power to show equivalence of each row of `with_differences`, with the spread and number of blocks at hand; NaN where not testable."""
    paired = table["method"] == "paired_t"
    harmonic = 1 / (1 / table["n"] + 1 / table["n_base"])
    sd_apart = np.sqrt(table["sd"] ** 2 / table["n"] + table["sd_base"] ** 2 / table["n_base"]) * np.sqrt(harmonic)
    sd = np.where(paired, table["sd_pair"], sd_apart)
    n = np.where(paired, table["n_pairs"], harmonic)
    df = np.where(paired, table["n_pairs"] - 1, table["n"] + table["n_base"] - 2)
    testable = table["method"] != "not_testable"
    return tests.tost_power(np.where(testable, sd, np.nan), np.nan_to_num(n), margin, u_log=table["u_log"].fillna(0), df=np.nan_to_num(df))


def compared(table: pd.DataFrame, metric: str) -> pd.Series:
    """The metric that each row is really compared in: of a task run as its items come that of an item (AS_RUN)."""
    return pd.Series(np.where(as_run(table), AS_RUN.get(metric, metric), metric), table.index)


FACTORS = ("gpu", "model", "batch_size", "input_tokens", "output_tokens", "task")
SYNERGY_COLUMNS = ["quantization", "factor", "level", "reference", "ratio_at_level", "ratio_at_reference"]
SYNERGY_COLUMNS += ["synergy", "synergy_low", "synergy_high", "n", "n_reference", "method", "p", "p_holm", "outcome", "setup"]


def block_ratios(selection: Selection, baseline: str | None = None) -> pd.DataFrame:
    """One row a (configuration, job, block): `log_ratio` of its energy per token (or item) to the baseline's in the same block."""
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    matched = match_baselines(configurations, baseline)
    found = pairs(matched, log_values(block_means(selection.rows), "energy_j_per_token"))
    return matched.merge(found.drop(columns="baseline_id"), on="configuration_id")


def synergy(ratios: pd.DataFrame, factor: str, reference=None) -> pd.DataFrame:
    """Interaction of quantization with `factor`: for each level, its ratio to the baseline over the ratio at the reference level.

    `reference` defaults to the first level. Strata that differ in anything else but the setup (engine, number of GPUs, ...) are averaged
    within a block first. Levels that share blocks are paired on block, others compared by Welch's test. Below 1 the strategy saves more
    there; at 1 the two just multiply. Raises UserError for an unknown factor or reference and for fewer than two levels.
    """
    if factor not in FACTORS:
        raise UserError(f"factor {factor}", f"one of {', '.join(FACTORS)}")
    levels = sorted(ratios[factor].unique())
    if len(levels) < 2:
        raise UserError(f"only one {factor} with a baseline", "at least two", "an interaction needs both factors varied in one experiment")
    if reference is not None and reference not in levels:
        raise UserError(f"{factor} {reference} was not measured", f"one of {', '.join(map(str, levels))}")
    reference = levels[0] if reference is None else reference
    means = split_options(ratios).groupby(["setup", "quantization", factor, "job", "block"], sort=True)["log_ratio"].mean().reset_index()
    rows = []
    for (setup, strategy), own in means.groupby(["setup", "quantization"], sort=False):
        logs = {level: own[own[factor] == level].set_index(["job", "block"])["log_ratio"] for level in levels}
        key = {"quantization": strategy, "factor": factor, "reference": reference, "setup": setup}
        rows += [key | {"level": level} | _contrast(logs[level], logs[reference]) for level in levels if level != reference]
    table = pd.DataFrame(rows)
    difference = tests.Difference(*(table[c].to_numpy(float) for c in ("mean", "se", "df", "u", "n_used")))
    table["synergy"], table["synergy_low"], table["synergy_high"] = tests.ratio_interval(difference)
    table["p"] = tests.p_value(difference)
    table["p_holm"] = tests.adjust(table["p"])
    table["outcome"] = tests.outcome(difference, table["p_holm"], np.nan, 0.0)
    return table[SYNERGY_COLUMNS]


def _contrast(a: pd.Series, b: pd.Series) -> dict:
    """The log ratios of one level against those of the reference: paired where both share blocks of a job, else Welch."""
    shared = a.index.intersection(b.index)
    difference, method = tests.Difference(*[np.nan] * 3, 0.0, 0), "not_testable"
    if len(shared) >= 2:
        d = (a[shared] - b[shared]).to_numpy()
        difference, method = tests.paired(d.mean(), d.std(ddof=1), len(d)), "paired_t"
    elif len(a) and len(b):
        difference, method = tests.interaction(a, b), "welch"
    numbers = {name: float(getattr(difference, name)) for name in ("mean", "se", "df", "u")} | {"n_used": float(difference.n)}
    numbers |= {f"ratio_at_{end}": np.exp(logs.mean()) if len(logs) else np.nan for end, logs in (("level", a), ("reference", b))}
    return numbers | {"n": len(a), "n_reference": len(b), "method": method if np.isfinite(difference.se) else "not_testable"}


def crossovers(ratios: pd.DataFrame, x: str, sizes: dict[str, float] | None = None) -> pd.DataFrame:
    """Where each strategy's ratio to its baseline passes through 1 along `x`: `batch_size`, a token count, or `model`.

    For `model` give `sizes` (parameters a model). One row a strategy, GPU and whatever else is held fixed, with Fieller's 95 % interval.
    """
    if x == "model" and sizes is None:
        raise UserError("no model sizes", "parameters of each model", "pass sizes={model: parameters}")
    position = ratios["model"].map(sizes) if x == "model" else ratios[x]
    table = ratios.assign(position=position.astype(float))[position.astype(float) > 0]  # a task as it comes has no length of its own
    held = ["quantization", *(c for c in STRATUM if c != x and (c != "weights" or x != "model"))]
    rows = []
    for key, group in table.groupby(held, sort=True):
        position = group["position"]
        found = tests.crossover(np.log(position), group["log_ratio"])
        with np.errstate(over="ignore"):
            at, low, high = (float(np.exp(v)) for v in (found.x, found.low, found.high))
        within = bool(found.bounded and position.min() <= at <= position.max())
        rows.append(dict(zip(held, key, strict=True)) | {
            "x": x, "crossover": at if found.bounded else np.nan, "crossover_low": low, "crossover_high": high, "bounded": found.bounded,
            "within_range": within, "slope_per_doubling": found.slope * np.log(2), "p_slope": found.p_slope, "n": len(group),
        })  # fmt: skip
    return pd.DataFrame(rows)


BLOCKS = (3, 5, 10, 20)
TRUE_RATIOS = np.round(np.concatenate([np.arange(0.80, 0.99, 0.01), [0.99, 0.995, 1.0]]), 3)


def power_curves(ratios: pd.DataFrame, blocks: tuple[int, ...] = BLOCKS, basis: str = "measured") -> pd.DataFrame:
    """The power to show each true ratio with each number of blocks; columns: n, ratio, power, sd_log, family, basis.

    The spread is the root mean square over configurations of the sd of their log `ratios` (block_ratios), the risk alpha over the family,
    the first and hardest step of Holm. Raises UserError where no configuration has two paired blocks, or none of them vary.
    """
    groups = ratios.groupby("configuration_id")["log_ratio"]
    variances, sizes = groups.var(ddof=1), groups.size()
    known = sizes >= 2
    if not known.any():
        raise UserError("no spread of paired blocks", "two blocks of one configuration and its baseline", "measure more blocks")
    sd_log = float(np.sqrt(np.average(variances[known], weights=sizes[known] - 1)))
    family = int(known.sum())
    if sd_log == 0:
        raise UserError("paired blocks that do not vary", "repeated measurements", "look at the source of these numbers")
    rows = [(n, float(r), planning.power(sd_log, n, float(r), planning.ALPHA / family)) for n in blocks for r in TRUE_RATIOS]
    return pd.DataFrame(rows, columns=["n", "ratio", "power"]).assign(sd_log=sd_log, family=family, basis=basis)


LOWER_IS_BETTER = {"energy_j_per_token": True, "cpu_s_per_token": True, "throughput_tok_s": False}


def regressions(before: Selection, after: Selection, limit: float = 0.03, metric: str = "energy_j_per_token") -> pd.DataFrame:
    """One row a configuration of both experiments: after over before with interval, p of "no worse than the limit", Holm's p, verdict.

    `limit`: a fraction, 0.03 allows 3 % more energy (or 3 % less throughput). regression: the ratio is shown to lie beyond the limit
    (one-sided, Holm over the table); no_regression: it is shown to lie within. Blocks are paired where they name the same work. Raises
    UserError if boundaries, bases or gross and net differ, for an unknown metric, and if no configuration is in both.
    """
    for name in ("boundary", "basis", "kind"):
        if getattr(before, name) != getattr(after, name):
            raise UserError(f"{name} {getattr(before, name)} against {getattr(after, name)}", f"the same {name}", "ask for one explicitly")
    if metric not in LOWER_IS_BETTER:
        raise UserError(f"metric {metric}", f"one of {', '.join(LOWER_IS_BETTER)}")
    table = pd.concat([before.rows, after.rows])[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table["baseline_id"], table["reason"] = "before " + table["configuration_id"], ""
    first, second = (log_values(block_means(s.rows), metric) for s in (before, after))
    first["configuration_id"] = "before " + first["configuration_id"]
    first["place"] = first["place"].where(first["place"] == "", "before " + first["place"])
    table = with_differences(table, pd.concat([first, second], ignore_index=True))
    table["n_after"], table["n_before"] = table["n"].fillna(0).astype(int), table["n_base"].fillna(0).astype(int)
    in_both = (table["n_before"] > 0) & (table["n_after"] > 0)
    if not in_both.any():
        raise UserError("no configuration is in both experiments", "the same models, strategies, batches and lengths", "run the same sweep")
    table["reason"] = table["reason"].mask(~in_both, "only in one experiment").where(table["method"] != "welch", "")
    d = _difference(table)
    distance = ((1.0 if LOWER_IS_BETTER[metric] else -1.0) * d.mean - np.log1p(limit)) / d.se
    table["p_regression"], table["p_no_regression"] = (tests.adjust(tests.one_sided_p(x, d.df)) for x in (distance, -distance))
    conditions = [~np.isfinite(d.se), table["p_regression"] <= tests.ALPHA, table["p_no_regression"] <= tests.ALPHA]
    table["verdict"] = np.select(conditions, ["not_testable", "regression", "no_regression"], default="inconclusive")
    kept = ["ratio", "ratio_low", "ratio_high", "n_before", "n_after", "method", "u_log"]
    kept += ["p_regression", "p_no_regression", "verdict", "reason"]
    return in_order(table.rename(columns=RATIO_NAMES)[["configuration_id", *CONFIGURATION, *kept]].assign(metric=metric, limit=limit))


RATIO = ["ratio", "ratio_low", "ratio_high", "n", "method", "p", "p_holm", "outcome", "reason"]
RATIO_NAMES = dict(zip(RATIOS[1:], RATIO, strict=False))


def contrast(
    selection: Selection, column: str, reference, levels: list | None = None, metric: str = "energy_j_per_token",
    margin: float = tests.MARGIN,
) -> pd.DataFrame:  # fmt: skip
    """The ratio of each level of a configuration column to a reference level, everything else the same; one row a stratum and level.

    `task` answers task complexity (by the item where tasks ran as they come; their own options are not held equal), `gpu` hardware, `model`
    distillation, `batch_size` batching. Blocks of one job are paired; across cards Welch's test holds the gain of both sensors. Raises
    UserError for a column or reference that the experiment does not have.
    """
    if column not in CONFIGURATION:
        raise UserError(f"column {column}", f"one of {', '.join(CONFIGURATION)}")
    table = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id").reset_index(drop=True)
    if reference not in set(table[column]):
        raise UserError(f"{column} {reference} was not measured", f"one of {', '.join(map(str, sorted(set(table[column]))))}")
    own = ("task", "options") if column == "task" else (column,)
    stratum = [c for c in CONFIGURATION if c not in own]
    base = table[table[column] == reference].rename(columns={"configuration_id": "baseline_id"})[[*stratum, "baseline_id"]]
    wanted = (table[column] != reference) & (table[column].isin(levels) if levels is not None else True)
    table = table[wanted].merge(base[~base.duplicated(stratum, keep=False)], on=stratum, how="left")
    table["reason"] = np.where(table["baseline_id"].isna(), f"no {column} {reference} with everything else the same", "")
    table = judged(with_differences(table, log_values(block_means(selection.rows), metric)), metric, margin)
    table["n"] = np.where(table["method"] == "welch", np.fmin(table["n"], table["n_base"]), table["n_pairs"]).astype(int)
    return table.rename(columns=RATIO_NAMES).assign(reference=reference)[[*CONFIGURATION, "reference", *RATIO]]


def with_ratios(summary: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """The summary with the ratios of a comparisons table (or of `ratios`) in place of its own. A configuration that no comparison names is
    a baseline: ratio 1 without an interval, or it was never usable.
    """
    if "metric" in comparisons:
        comparisons = comparisons[comparisons["metric"].isin(["energy_j_per_token", "energy_j_per_request"])]
        if comparisons.empty:
            return summary
    summary = summary.drop(columns=RATIOS, errors="ignore")
    table = summary.merge(comparisons[["configuration_id", *RATIOS]], on="configuration_id", how="left")
    ratio = table["ratio_to_baseline"].mask(table["baseline"].isna() & (table["n_blocks"] > 0), 1.0)
    return table.assign(ratio_to_baseline=ratio, baseline=table["baseline"].fillna(table["quantization"]))
