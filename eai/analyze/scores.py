"""Item-level scores to one score a configuration, each configuration against its baseline on the same items, and all tasks together.

The same items are easy or hard for both, so differences are paired: McNemar's test and a bootstrap over items for the difference,
Bonett and Price's interval for the share of the score that is kept. The energy of an EOR ratio is that of the whole task as run,
paired on block.

A perplexity is exp(nats / words) over all texts together. Words are those between spaces, so that models with different tokenizers can be
compared; per token is the figure that papers print, and belongs to one tokenizer. It is no fraction: it enters no EOR.

Over several tasks the score is the weighted mean of the tasks' scores; energy and time are those of every task once, as run. Only
configurations that ran all tasks, in the same versions and settings, are given a figure: an easier mixture is no efficiency.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from eai.analyze import metrics
from eai.analyze.comparison import match_baselines, ratios
from eai.analyze.metrics import ENDS
from eai.analyze.selection import CONFIGURATION, Selection, as_run, block_means, in_order
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats.intervals import Interval, log_t_interval, quotient_of_totals, wilson_interval
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

    `items`: schema.SCORES, one row an item and block. An item that ran in several blocks counts once, with its mean: repeating a
    question makes no new question. A row that stands for several items (column `items`, where only their mean is stated) weighs as
    many; where their number is not known, n_items is NaN. Likelihoods of texts are no scores and are left out. Raises UserError for a score
    that is no fraction and for a configuration with two tasks.
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
    metrics.checked_score(table["score"])
    return table


def against_baseline(selection: Selection, items: pd.DataFrame, rng: np.random.Generator, baseline: str | None = None) -> pd.DataFrame:
    """Each scored configuration against the scored baseline of its stratum, on the items that both ran; one row a configuration.

    Columns: the configuration, baseline, n_items, score, score_baseline, score_difference, score_retained and eor_ratio (each with
    `_low`, `_high`), p (McNemar), p_holm over the table, detectable (the smallest score ratio above 1 that so many items can show),
    outcome (lower | higher | inconclusive | not_testable), basis, reason. Scores with partial credit have no McNemar test and no
    interval of the ratio; below 20 items there is no interval of the difference.
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
    table["p_holm"] = tests.adjust(table["p"].to_numpy(float))
    direction = np.where(table["score_difference"] < 0, "lower", "higher")
    table["outcome"] = np.select([~tested, table["p_holm"] <= tests.ALPHA], ["not_testable", direction], "inconclusive")
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

    `items`: schema.SCORES. Texts that ran in several blocks count once. Intervals say how far other texts like these would move the figure.
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
    """Each configuration's word perplexity over its baseline's, paired on the texts that both were given; one row a configuration.

    Columns: the configuration, metric, baseline, ratio_to_baseline with `_low` and `_high`, n_pairs (texts), p, p_holm over the table,
    outcome (higher is worse), basis (measured, whatever that of the energy is), reason.
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
    found["p_holm"] = tests.adjust(found["p"].to_numpy(float))
    d = tests.Difference(*(found[c].to_numpy(float) for c in ("log_ratio", "se_log")), found["n_pairs"] - 1, 0.0, found["n_pairs"])
    found["outcome"] = tests.outcome(d, found["p_holm"], np.nan, np.nan)
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
    se = half / float(tests.t_quantile(len(both) - 1))
    d = tests.Difference(difference.value, se if se > 0 else np.nan, len(both) - 1, 0.0, len(both))
    reason = "" if se > 0 else "the texts do not vary: constants, not measurements"
    return found | {"n_pairs": len(both), "p": float(tests.p_value(d)), "log_ratio": d.mean, "se_log": d.se, "reason": reason}


def over_tasks(selection: Selection, items: pd.DataFrame, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a strategy and batch size: score, energy, EOR, TWEOR and energy per correct answer over all scored tasks together.

    `items`: schema.SCORES; texts have no score and stay outside. `weights`: of each task's score, equal by default. Columns: gpu, model,
    weights, quantization, batch_size, tasks, n_blocks, n_items, score, energy_wh, duration_s, eor, tweor, energy_j_per_correct (each with
    `_low`, `_high`), basis, reason. Raises UserError for weights of other tasks than those that were scored.
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
    placed = in_order(found.assign(input_tokens=0, output_tokens=0, task="", options=""))
    return placed[columns]


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
    energy_wh = metrics.watt_hours(totals["energy_j"])
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
    """Score retained against energy saved: one row a configuration with score and baseline in its stratum.

    Columns: the configuration, score_retained (ratio of scores with `_low`, `_high`), energy_saved (1 - ratio, `_low`, `_high`), n_blocks,
    n_items, basis. Intervals of the score are paired on the items where `pairs` (against_baseline) has them; else they are as for different
    items: wide, and safe where the items were the same.
    """
    table = summary.dropna(subset=["score", "ratio_to_baseline"])
    named = table["baseline"].unique()
    matched = match_baselines(table, named[0] if len(named) == 1 else None)[["configuration_id", "baseline_id"]]
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
