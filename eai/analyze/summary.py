"""One row a configuration with intervals over blocks and a gate; scores item by item; one row a load of a server; what disturbed a run.

Items: the same ones are easy or hard for both strategies, so differences are paired: McNemar's test, a bootstrap over items for the
difference, Bonett and Price's interval for the share of the score that is kept. A perplexity is exp(nats / words) over all texts together:
words are those between spaces, so that models with different tokenizers can be compared; per token is the figure that papers print.

Uncertainty budget, order, drift, temperature and outliers say whether a run was as random and steady as its intervals assume. A drift that
randomized blocks spread over all configurations widens the intervals and biases none. Nothing found here drops a window.
"""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from eai import schema
from eai.analyze.comparison import match_baselines, ratios, with_ratios
from eai.analyze.selection import (
    CONFIGURATION,
    ENDS,
    Selection,
    as_run,
    block_means,
    checked_score,
    energy_per_request,
    energy_per_token,
    in_order,
    is_served,
    over_blocks,
    requests_of,
    select,
    throughput,
    tokens_per_joule,
    unit_energy,
    watt_hours,
    with_scores,
)
from eai.errors import UserError
from eai.stats import comparisons, intervals
from eai.stats.intervals import Interval, cv_interval, log_t_interval, quotient_of_totals, wilson_interval, with_systematic
from eai.stats.planning import detectable_score_ratio
from eai.stats.scores import FEWEST_FOR_BOOTSTRAP, difference_interval, mcnemar_p, pair, quotient, ratio_interval

NOTHING = Interval(np.nan, np.nan, np.nan)
METRIC = "word_perplexity_nats"
SIZES = {"word_perplexity": "words", "token_perplexity": "tokens_in"}
SAME = ["gpu", "model", "weights", "quantization", "batch_size"]
QUANTITIES = ("score_difference", "score_retained", "eor_ratio")
COMPARED = [*CONFIGURATION, "baseline", "n_items", "score", "score_baseline", *(f"{name}{end}" for name in QUANTITIES for end in ENDS)]
COMPARED += ["p", "p_holm", "detectable", "outcome", "basis", "reason"]


def of_items(items: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration: configuration_id, task, score and n_items, for `summarize(scores=...)`.

    `items`: schema.SCORES. An item that ran in several blocks counts once, with its mean: repeating a question makes no new question. A row
    that stands for several items (column `items`, where only their mean is stated) weighs as many; where their number is not known, n_items
    is NaN. Raises UserError for a score that is no fraction and for a configuration with two tasks.
    """
    items = fractions(items)
    stands_for = items["items"].astype(float).fillna(1.0) if "items" in items else pd.Series(1.0, index=items.index)
    groups = items.assign(items=stands_for).groupby(["configuration_id", "task", "item"], sort=False)
    once = groups.agg(score=("score", "mean"), least=("items", "first"))
    once["weight"] = once["least"].where(once["least"] > 0, 1.0)
    once["score"] *= once["weight"]
    sums = once.groupby(["configuration_id", "task"], sort=False).agg({"score": "sum", "weight": "sum", "least": "min"})
    n_items = sums["weight"].where(sums["least"] > 0)
    table = sums[["score"]].div(sums["weight"], axis=0).assign(n_items=n_items).reset_index()
    table["n_items"] = table["n_items"].astype(int) if table["n_items"].notna().all() else table["n_items"]
    if twice := table.loc[table["configuration_id"].duplicated(), "configuration_id"].tolist():
        raise UserError(f"configuration {twice[0]} is scored on two tasks", "one task a configuration")
    return table


def fractions(items: pd.DataFrame) -> pd.DataFrame:
    """The items whose score is a fraction. Raises UserError for one that is not in [0, 1]."""
    table = items[items["metric"] != METRIC] if "metric" in items else items
    checked_score(table["score"])
    return table


def against_baseline(selection: Selection, items: pd.DataFrame, rng: np.random.Generator, baseline: str | None = None) -> pd.DataFrame:
    """Each scored configuration against the scored baseline of its stratum, on the items that both ran; one row a configuration (COMPARED).

    `p`: McNemar's; `detectable`: the smallest score ratio above 1 that so many items can show. Scores with partial credit have no test and
    no interval of the ratio; below 20 items there is no interval of the difference.
    """
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    means = fractions(items).groupby(["configuration_id", "item"])["score"].mean()
    answers = {key: scores.droplevel(0) for key, scores in means.groupby(level=0)}
    table = match_baselines(configurations, baseline)
    table = table[table["configuration_id"].isin(answers) & (table["configuration_id"] != table["baseline_id"])]
    if table.empty:
        return pd.DataFrame(columns=COMPARED)
    energy = ratios(block_means(selection.rows), configurations, baseline, "window_energy_j").set_index("configuration_id")
    table = pd.DataFrame([row | _compared_items(row, answers, energy, rng) for row in table.to_dict("records")]).reindex(columns=COMPARED)
    tested = table["p"].notna()
    table["p_holm"] = comparisons.adjust(table["p"].to_numpy(float))
    direction = np.where(table["score_difference"] < 0, "lower", "higher")
    table["outcome"] = np.select([~tested, table["p_holm"] <= comparisons.ALPHA], ["not_testable", direction], "inconclusive")
    table["reason"] = table["reason"].mask(~tested & (table["reason"] == ""), "partial credit: no test of right against wrong")
    return in_order(table.assign(basis=selection.basis))


def _compared_items(row: dict, answers: dict[str, pd.Series], energy: pd.DataFrame, rng: np.random.Generator) -> dict:
    """What the items that both ran say, and the ratio of the EORs."""
    if row["baseline_id"] not in answers:
        return {"n_items": 0, "reason": row["reason"] or "the baseline has no score"}
    pairs = [answers[row["configuration_id"]], answers[row["baseline_id"]]]
    both = pd.concat(pairs, axis=1, join="inner", keys=["own", "base"])
    if both.empty:
        return {"n_items": 0, "reason": "no item that both ran"}
    own, base = both["own"].to_numpy(), both["base"].to_numpy()
    counts = pair(own, base) if np.isin(both.to_numpy(), (0, 1)).all() else None
    retained = ratio_interval(counts) if counts else NOTHING._replace(value=own.mean() / base.mean() if base.mean() else np.nan)
    found = {"n_items": len(both), "score": own.mean(), "score_baseline": base.mean(), "reason": ""}
    enough = len(own) >= FEWEST_FOR_BOOTSTRAP
    difference = difference_interval(own, base, rng) if enough else NOTHING._replace(value=own.mean() - base.mean())
    found |= _ends("score_difference", difference) | _ends("score_retained", retained)
    cost = energy.loc[row["configuration_id"]]
    ratio = Interval(*(cost[f"ratio_to_baseline{end}"] for end in ENDS))
    found |= _ends("eor_ratio", quotient(retained, ratio)) | {"p": mcnemar_p(counts) if counts else np.nan, "detectable": np.nan}
    if counts and np.ptp(own) and np.ptp(base):  # as alike as the two answer them
        found["detectable"] = float(detectable_score_ratio(len(base), base.mean(), max(np.corrcoef(own, base)[0, 1], 0.0)))
    return found


def _ends(name: str, interval: Interval) -> dict[str, float]:
    """An interval as three columns."""
    return {f"{name}{end}": float(value) for end, value in zip(ENDS, interval, strict=True)}


def of_texts(items: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration that was given texts: word_perplexity and token_perplexity with `_low` and `_high`, and n_items, its texts.

    Texts that ran in several blocks count once. Intervals say how far other texts like these would move the figure.
    """
    rows = []
    for i, texts in _texts(items).groupby(level=0):
        row = {"configuration_id": i, "n_items": len(texts)}
        for name, size in SIZES.items():
            row |= _ends(name, Interval(*np.exp(quotient_of_totals(texts["score"], texts[size]))))
        rows.append(row)
    return pd.DataFrame(rows, columns=["configuration_id", "n_items", *(f"{name}{end}" for name in SIZES for end in ENDS)])


def _texts(items: pd.DataFrame) -> pd.DataFrame:
    """score [nats], words and tokens_in by configuration and text."""
    texts = items.reindex(columns=["configuration_id", "item", "metric", "score", *SIZES.values()])
    texts = texts[texts["metric"] == METRIC]
    return texts.groupby(["configuration_id", "item"])[["score", *SIZES.values()]].mean()


def perplexity_against_baseline(selection: Selection, items: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Each configuration's word perplexity over its baseline's, paired on the texts that both were given; higher is worse. The basis is
    measured, whatever that of the energy is.
    """
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    texts = _texts(items)
    known = set(texts.index.get_level_values(0))
    table = match_baselines(configurations, baseline)
    table = table[table["configuration_id"].isin(known) & (table["configuration_id"] != table["baseline_id"])]
    rows = [row | _compared_texts(row, texts, known) for row in table.to_dict("records")]
    ratio = [f"ratio_to_baseline{end}" for end in ENDS]
    columns = [*CONFIGURATION, "metric", "baseline", *ratio, "n_pairs", "p", "p_holm", "outcome", "reason"]
    found = pd.DataFrame(rows, columns=[*columns, "log_ratio", "se_log"])
    found["p_holm"] = comparisons.adjust(found["p"].to_numpy(float))
    d = comparisons.Difference(*(found[c].to_numpy(float) for c in ("log_ratio", "se_log")), found["n_pairs"] - 1, 0.0, found["n_pairs"])
    found["outcome"] = comparisons.outcome(d, found["p_holm"], np.nan, np.nan)
    return in_order(found[columns].assign(basis="measured"))


def _compared_texts(row: dict, texts: pd.DataFrame, known: set[str]) -> dict:
    """Ratio, interval and p of one configuration."""
    found = {"metric": "word_perplexity", "n_pairs": 0}
    if row["baseline_id"] not in known:
        return found | {"reason": row["reason"] or "the baseline was given no text"}
    both = texts.loc[row["configuration_id"]].merge(texts.loc[row["baseline_id"]], on="item", suffixes=("", "_base"))
    if len(both) < 2:
        return found | {"n_pairs": len(both), "reason": "fewer than two texts that both were given"}
    difference = quotient_of_totals(both["score"] - both["score_base"], both["words"])
    found |= _ends("ratio_to_baseline", Interval(*np.exp(difference)))
    half = float(difference.high - difference.value)
    se = half / float(comparisons.t_quantile(len(both) - 1))
    d = comparisons.Difference(difference.value, se if se > 0 else np.nan, len(both) - 1, 0.0, len(both))
    reason = "" if se > 0 else "the texts do not vary: constants, not measurements"
    return found | {"n_pairs": len(both), "p": float(comparisons.p_value(d)), "log_ratio": d.mean, "se_log": d.se, "reason": reason}


def over_tasks(selection: Selection, items: pd.DataFrame, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a strategy and batch size: score, energy, time, EOR, TWEOR and energy per correct answer over all scored tasks together.

    The score is the mean of the tasks' scores with these `weights`, equal by default; energy and time are those of every task once, as run.
    Only what ran all tasks in the same settings has a figure: an easier mixture is no efficiency. Raises UserError for weights of other
    tasks than those that were scored.
    """
    items = fractions(items)
    rows = selection.rows[as_run(selection.rows) & selection.rows["configuration_id"].isin(items["configuration_id"])]
    names = ["score", "energy_wh", "duration_s", "eor", "tweor", "energy_j_per_correct"]
    columns = [*SAME, "tasks", "n_blocks", "n_items", *(f"{name}{end}" for name in names for end in ENDS), "basis", "reason"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    tasks = rows[["task", "options"]].drop_duplicates().sort_values(["task", "options"]).reset_index(drop=True)
    weights = dict.fromkeys(tasks["task"], 1.0) if weights is None else dict(weights)
    if set(weights) != set(tasks["task"]) or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        known = ", ".join(sorted(set(tasks["task"])))
        raise UserError(f"weights of {', '.join(weights)}", f"one that is not negative for each of {known}")
    shares = {task: weight / sum(weights.values()) for task, weight in weights.items()}
    blocks, scores = block_means(rows), of_items(items).set_index("configuration_id")
    found = [
        dict(zip(SAME, key, strict=True)) | _over_tasks_row(own.drop_duplicates("configuration_id"), tasks, blocks, scores, shares)
        for key, own in rows.groupby(SAME, sort=False)
    ]
    found = pd.DataFrame(found, columns=columns).assign(basis=selection.basis)
    return in_order(found.assign(input_tokens=0, output_tokens=0, task="", options=""))[columns]


def _over_tasks_row(own: pd.DataFrame, tasks: pd.DataFrame, blocks: pd.DataFrame, scores: pd.DataFrame, shares: dict[str, float]) -> dict:
    """The figures of one strategy."""
    named = {"tasks": " ".join(own["task"]), "n_blocks": 0}
    if tasks["task"].duplicated().any():
        return named | {"reason": "a task was run in several settings: name one"}
    if missing := sorted(set(tasks["task"]) - set(own["task"])):
        return named | {"reason": f"not run: {', '.join(missing)}"}
    table = own.set_index("configuration_id").join(scores[["score", "n_items"]])
    mine = blocks[blocks["configuration_id"].isin(table.index)]
    totals = mine.groupby(["job", "block"]).agg(energy_j=("window_energy_j", "sum"), s=("window_s", "sum"), n=("window_s", "size"))
    totals = totals[totals["n"] == len(table)]
    if totals.empty:
        return named | {"reason": "no block holds every task"}
    weights = table["task"].map(shares)
    score = _weighted(table["score"], table["n_items"], weights)
    right = _weighted(table["score"], table["n_items"], table["n_items"])
    energy_wh = watt_hours(totals["energy_j"])
    found = {"score": score, "energy_wh": log_t_interval(energy_wh), "duration_s": log_t_interval(totals["s"])}
    found |= {"eor": quotient(score, found["energy_wh"]), "tweor": quotient(score, log_t_interval(energy_wh * totals["s"]))}
    found |= {"energy_j_per_correct": quotient(log_t_interval(totals["energy_j"]), right)}
    for name, interval in found.items():
        named |= _ends(name, interval)
    return named | {"n_blocks": len(totals), "n_items": table["n_items"].sum(), "reason": ""}


def _weighted(score: pd.Series, n_items: pd.Series, weights: pd.Series) -> Interval:
    """A weighted sum of independent proportions with its interval recovered from Wilson's (MOVER: Zou and Donner 2008)."""
    each = wilson_interval((score * n_items).round(9), n_items)
    value = float((weights * score).sum())
    down, up = (np.sqrt(np.sum((weights.to_numpy() * (end - score.to_numpy())) ** 2)) for end in (each.low, each.high))
    return Interval(value, value - down, value + up)


def retention(summary: pd.DataFrame, pairs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Score retained (ratio of scores) against energy saved (1 - ratio): one row a configuration with score and baseline in its stratum.

    Intervals of the score are paired on the items where `pairs` (against_baseline) has them; else they are as for different items: wide,
    and safe where the items were the same.
    """
    table = summary.dropna(subset=["score", "ratio_to_baseline"])
    named = set(table["baseline"]) & set(table["quantization"])  # a baseline without a score has no row here
    matched = match_baselines(table, named.pop() if len(named) == 1 else None)[["configuration_id", "baseline_id"]]
    scores = [f"score{end}" for end in ENDS]
    base = table[["configuration_id", *scores]].add_suffix("_base").rename(columns={"configuration_id_base": "baseline_id"})
    both = table.merge(matched, on="configuration_id").merge(base, on="baseline_id")
    both = both[both["configuration_id"] != both["baseline_id"]].reset_index(drop=True)
    retained = quotient(*(Interval(*(both[f"{c}{side}"].to_numpy(float) for c in scores)) for side in ("", "_base")))
    saved = Interval(*(1 - both[f"ratio_to_baseline{end}"] for end in ("", "_high", "_low")))
    found = {f"{name}{end}": values for name, interval in (("score_retained", retained), ("energy_saved", saved))
             for end, values in zip(ENDS, interval, strict=True)}  # fmt: skip
    table = both[CONFIGURATION].assign(**found, **{c: both[c] for c in ("n_blocks", "n_items", "basis")})
    if pairs is None or pairs.empty:
        return table
    columns = list(found)[:3]
    paired = table[CONFIGURATION].merge(pairs[[*CONFIGURATION, *columns]], on=CONFIGURATION, how="left")[columns]
    known = paired.notna().all(axis=1)
    return table.assign(**{c: table[c].mask(known, paired[c]) for c in columns})


GATE_OK = 0.02
GATE_NOISY = 0.05
MORE_THAN = f" % between blocks, more than {100 * GATE_NOISY:g} %"


def summarize(
    windows: pd.DataFrame, energies: pd.DataFrame, baseline: str | None = None, scores: pd.DataFrame | None = None,
    boundary: str | None = None, basis: str | None = None, net: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """The summary table of an experiment (`summarize_selection`). Raises UserError where nothing is usable."""
    return summarize_selection(select(windows, energies, boundary, basis, net), windows, baseline, scores)


def summarize_selection(
    selection: Selection, windows: pd.DataFrame, baseline: str | None = None, scores: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The summary table (schema.SUMMARY) of windows that were selected before: one row for each configuration that `windows` names.

    A configuration without a usable window keeps a row with `n_blocks` 0, no numbers, gate rejected and the reason. `scores`: columns
    configuration_id, score (a fraction) and, for intervals, n_items; or item by item as in schema.SCORES, texts among them.
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
    blocks. A relative uncertainty u is sqrt(ln(1 + u^2)) on the logarithm: not the same for an estimate good to a factor.
    """
    groups = blocks.groupby("configuration_id", sort=False)
    means = ["cpu_s_per_token", "cpu_s_per_request", "power_mean_w", "ttft_s", "u_offset_relative", "u_gain_relative"]
    cvs = ["unit_energy_j", "throughput_tok_s"]
    mean = groups[[*means, *cvs, "model_bytes"]].mean()
    cv = groups[cvs].std(ddof=1) / mean[cvs]
    wh = watt_hours(blocks["window_energy_j"])
    costs = ["energy_j_per_token", "energy_j_per_request", "throughput_tok_s", "requests_per_second", "window_s"]
    costs = over_blocks(blocks[costs].assign(energy_wh=wh, energy_wh_s=wh * blocks["window_s"]), blocks["configuration_id"])
    table = mean[means].join(costs).assign(
        n_blocks=groups.size(), n_windows=groups["n_windows"].sum(), memory_peak_gb=groups["memory_peak_gb"].max(),
        n_jobs=groups["job"].nunique(), model_gb=mean["model_bytes"] / 1e9, throughput_cv=cv["throughput_tok_s"],
        tokens_per_j=tokens_per_joule(costs["energy_j_per_token"]),
    )  # fmt: skip
    table["energy_cv"], table["energy_cv_low"], table["energy_cv_high"] = cv_interval(cv["unit_energy_j"], table["n_blocks"])
    u_log = np.sqrt(np.log1p(table["u_offset_relative"] ** 2 + table["u_gain_relative"] ** 2))
    se_log = table["energy_j_per_token_sd_log"] / np.sqrt(table["n_blocks"])
    absolute = with_systematic(table["energy_j_per_token_mean_log"], se_log, table["n_blocks"] - 1, u_log)
    return table.assign(energy_j_per_token_abs_low=absolute.low, energy_j_per_token_abs_high=absolute.high).reset_index()


def gate(energy_cv, n_blocks) -> np.ndarray:
    """ok (CV <= 2 %), noisy (<= 5 %, and one block, whose spread nothing shows) or rejected (also no block), on the CV across blocks."""
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
    figures, part of that spread, for comparison. Repeating does not reduce offset and gain. `within_card`: blocks and offset; `absolute`:
    with the gain.
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
    served, united = is_served(windows), lambda flags: sorted(set().union(*flags))
    if not served.any():
        raise UserError("no window of a server", "an experiment measured with the parameter server", "see docs/servers.md")
    selection = select(windows[served], energies, *chosen)
    rows = selection.rows.astype(dict.fromkeys([*TIMES, "in_flight_mean"], float)).assign(served=requests_of(selection.rows))
    groups = rows.groupby(["configuration_id", "job", "block"], sort=False)
    sums = groups[["energy_j", "duration_s", "tokens_out", "requests", "requests_failed", "served"]].sum()
    blocks = groups[[*TIMES, "in_flight_mean"]].mean().join(sums[["requests", "requests_failed"]].astype(int)).assign(
        energy_j_per_token=energy_per_token(sums["energy_j"], sums["tokens_out"]),
        energy_j_per_request=energy_per_request(sums["energy_j"], sums["served"]),
        throughput_tok_s=throughput(sums["tokens_out"], sums["duration_s"]),
        requests_per_s=sums["served"] / sums["duration_s"], flags=groups["flags"].agg(united),
    ).reset_index()  # fmt: skip
    groups = blocks.groupby("configuration_id", sort=False)
    table = groups[["in_flight_mean", "requests_per_s"]].mean().assign(n_blocks=groups.size())
    table[["requests", "requests_failed"]] = groups[["requests", "requests_failed"]].sum()
    table["flags"] = groups["flags"].agg(united)
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
    """`by_load`, without rows where no server was measured or nothing of it is usable."""
    try:
        return by_load(windows, energies, *chosen)
    except UserError:
        return pd.DataFrame(columns=["configuration_id", *CONFIGURATION, *LOAD_COLUMNS])


COVARIATES = {
    "order": "a window later in its block",
    "load": "a model load later in its block",
    "temperature_mean_c": "a degree Celsius more",
    "warmup_s": "a second of warm-up more",
}


def disturbances(selection: Selection) -> pd.DataFrame:
    """One row a possible disturbance: what changes, its relative effect on the energy per token or item with 95 % interval, p, p_holm, n.

    Effects are estimated beside configuration and block (of a job). The last row is the lag-one correlation of consecutive blocks.
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
    """One row a window in the order of measuring: job, configuration_id, hours since its first window began (on a simulated card, where
    every window begins at the same second, the windows and warm-ups before it), and the columns of OVER_TIME.
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
    """The windows whose energy per token (of a task: per item) stands out from configuration and block, at a 5 % chance of accusing anyone
    wrongly in a job; ratio_to_expected is to the configuration's median. They stay in every estimate.
    """
    tokens = selection.rows["tokens_out"].astype(float)
    rows = selection.rows.assign(energy_j_per_token=energy_per_token(selection.rows["energy_j"], tokens.where(tokens > 0)))
    unit_j = unit_energy(rows)
    flagged = np.zeros(len(rows), bool)
    for _, job in rows.groupby("job"):
        place = rows.index.get_indexer(job.index)
        flagged[place] = intervals.outliers(np.log(unit_j[job.index]), job["configuration_id"], job["block"])
    rows["ratio_to_expected"] = unit_j / unit_j.groupby(rows["configuration_id"]).transform("median")
    columns = ["job", "block", "repeat", "attempt", "configuration_id", *CONFIGURATION, "energy_j_per_token", "ratio_to_expected"]
    return rows.loc[flagged, columns].reset_index(drop=True)
