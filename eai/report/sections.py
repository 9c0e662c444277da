"""Facts to the sections of the report: every function returns elements, and says only what a table carries."""

import pandas as pd

from eai import plots
from eai.analyze import comparison
from eai.plots.costs import MOST_SERIES, series, word
from eai.plots.ratios import names
from eai.plots.style import MOST_LINES, percent
from eai.report import quality
from eai.report import wording as w
from eai.report.causes import factors, roof, steady
from eai.report.elements import Picture, Points, Prose, Section, Table
from eai.report.facts import LENGTHS, Facts, configurations
from eai.report.format import interval, number, short
from eai.report.loads import cost_range as cost_by_load
from eai.report.loads import loads
from eai.report.phrases import (
    basis_sentence,
    caption,
    cost_words,
    cut,
    first_up,
    head,
    named,
    picture_caption,
    plain,
    ratio_table,
    say,
    unit_word,
)
from eai.report.setting import method, setup

FEW_BLOCKS = 5
FEW_STRATA = 3
WORTH_NAMING = 8
MOST_RULES = 12


def abstract(facts: Facts, language: str) -> Section:
    """Title, scope, basis and the outcome of all comparisons."""
    texts = [scope(facts, language), w.both(language, basis_sentence(facts, language), boundary(facts, language))]
    return Section(
        [head("title", language, 1, experiment=facts.experiment), head("abstract", language), Prose((*texts, findings(facts, language)))]
    )


def scope(facts: Facts, language: str) -> str:
    """How many configurations of what were measured."""
    levels = {f: w.joined(map(str, facts.levels(f)), language) for f in ("quantization", "gpu")}
    return say(
        "scope", language, configurations=configurations(facts.windows), strategies=levels["quantization"],
        models=w.joined(map(short, facts.levels("model")), language), gpus=levels["gpu"], blocks=int(facts.summary["n_blocks"].max()),
        windows=len(facts.selection.rows), tried=len(facts.windows),
    )  # fmt: skip


def boundary(facts: Facts, language: str) -> str:
    """What the energy covers."""
    chosen = facts.selection
    kind = "busy" if chosen.basis == "estimated" and chosen.kind == "gross" else chosen.kind
    return say("boundary", language, boundary=w.say(w.BOUNDARY, chosen.boundary, language), kind=say(kind, language))


def findings(facts: Facts, language: str) -> str:
    """The outcome of the comparisons and the largest shown saving; the range over the loads of a server."""
    range_ = cost_by_load(facts, language) if len(facts.loads) else ""
    return w.both(language, range_, counts(facts, language), best(facts, language) if facts.has_baseline else "")


def counts(facts: Facts, language: str) -> str:
    """How many comparisons there were, by outcome; why there are none."""
    if facts.comparisons.empty:
        return say("no_comparison", language)
    if not facts.has_baseline:
        return say("no_baseline", language, baseline=w.joined(sorted(set(facts.comparisons["baseline"])), language))
    numbers = {outcome: facts.counts.get(outcome, 0) for outcome in w.OUTCOME}
    margin = number(100 * facts.comparisons["margin"].max(), 1)
    baseline = w.joined(sorted(set(facts.comparisons["baseline"])), language)
    return say("counts", language, n=len(facts.comparisons), baseline=baseline, cost=cost_words(facts, language), margin=margin, **numbers)


def best(facts: Facts, language: str) -> str:
    """The largest shown saving in a sentence."""
    row = facts.best()
    if row is None:
        return say("no_best" if set(facts.comparisons["outcome"]) - {"not_testable"} else "nothing_tested", language)
    name = f"`{names(facts.comparisons)[row.name]}`"
    ratio, cost = interval(row, "ratio_to_baseline", 2), cost_words(facts, language, facts.unit_of(row))
    return say("best", language, name=name, ratio=ratio, cost=cost, n=int(row["n_pairs"]))


def cost(facts: Facts, language: str) -> Section:
    """Cost per token, or per item of a task: what was found, table and figure; of a server alone, the section on loads has them."""
    if facts.only_served:
        return Section([head("results", language), Prose((gates(facts, language),))])
    table, words = facts.usable.reset_index(drop=True), cost_words(facts, language)
    return Section([
        head("results", language), head("cost", language, 3, unit=unit_word(facts, language)),
        Prose((w.both(language, *(cost_range(facts, language, u) for u in units(table)), gates(facts, language)),)),
        Table(cost_table(facts, language), first_up(caption("cost", language, cost=words)), cut("summary", language)),
        *_cost_picture(table, language),
    ])  # fmt: skip


def units(table: pd.DataFrame) -> list[str]:
    """The units of work that the table has costs of."""
    return list(dict.fromkeys(table.loc[table["unit_energy_j"].notna(), "unit"]))


def _cost_picture(table: pd.DataFrame, language: str) -> list[Picture]:
    """The cost by strategy and series; none where there are more series than an eye can tell apart."""
    if len(list(series(table))) > MOST_SERIES:
        return []
    fig, ax = plots.figure()
    plots.cost(table, ax)
    return [Picture(fig, picture_caption(table, language))]


def cost_range(facts: Facts, language: str, unit: str | None = None) -> str:
    """The lowest and the highest cost of a unit of work (by default the first that there is) with their configurations."""
    table = facts.usable.reset_index(drop=True)
    unit = unit or units(table)[0]
    labels, energy = names(table), table["unit_energy_j"].where(table["unit"] == unit)
    ends = {"low": energy.idxmin(), "high": energy.idxmax()}
    told = {end: interval(table.loc[i], "unit_energy_j") + " J" for end, i in ends.items()}
    told |= {f"{end}_name": f"`{labels[i]}`" for end, i in ends.items()}
    return first_up(say("range", language, cost=cost_words(facts, language, unit), **told))


def gates(facts: Facts, language: str) -> str:
    """How many configurations were steady."""
    return say("gates", language, **{gate: int((facts.usable["gate"] == gate).sum()) for gate in ("ok", "noisy", "rejected")})


def cost_table(facts: Facts, language: str) -> pd.DataFrame:
    """The texts of the cost table."""
    table = facts.usable.reset_index(drop=True)
    rows = table.to_dict("records")
    columns = {
        "configuration": names(table),
        "cost": [interval(r, "unit_energy_j") for r in rows],
        "speed_units" if "item" in units(table) else "throughput": [interval(r, "units_per_s") for r in rows],
        "n": [int(r["n_blocks"]) for r in rows],
        "gate": [r["gate"] for r in rows],
    }
    return named(columns, language, unit=unit_word(facts, language))


def ratios(facts: Facts, language: str) -> Section:
    """Ratios to the baseline: what is shown, what is not decided, table and forest plot."""
    table = facts.comparisons.reset_index(drop=True)
    if not facts.has_baseline:
        return Section([head("ratios", language, 3), Prose((counts(facts, language),))])
    labels = pd.Series(names(table))
    told = [findings(facts, language)]
    for outcome, key in (("inconclusive", "undecided"), ("not_testable", "untestable")):
        if (of := labels[table["outcome"] == outcome].tolist()) and len(of) <= WORTH_NAMING:
            told.append(say(key, language, names=w.joined([f"`{name}`" for name in of], language)))
    fig, ax = plots.figure(height_in=1.2 + 0.22 * min(len(table), MOST_LINES))
    plots.forest(table, ax)
    under = first_up(caption("ratios", language, cost=cost_words(facts, language)))
    return Section([
        head("ratios", language, 3), Prose((w.both(language, *told),)),
        Table(ratio_table(table, language), under, cut("comparisons", language)), *by_strategy(facts, language),
        Picture(fig, picture_caption(table, language)),
    ])  # fmt: skip


def by_strategy(facts: Facts, language: str) -> list[Table]:
    """The strategies over all strata, where there are enough strata for a mean to say something."""
    table = comparison.strategy_ratios(facts.selection, facts.baseline)
    table = table[table["n_strata"] >= FEW_STRATA] if len(table) else table
    if table.empty:
        return []
    rows = table.to_dict("records")
    columns = {"strategy": [r["quantization"] for r in rows], "ratio": [interval(r, "energy_ratio") for r in rows]}
    columns |= {"speed": [interval(r, "throughput_ratio") for r in rows], "strata": [r["n_strata"] for r in rows]}
    columns["shown"] = [f"{r['lower']} / {r['higher']}" for r in rows]
    return [Table(named(columns, language), caption("strategies", language))]


def guidance(facts: Facts, language: str) -> Section:
    """The computed rules with their probability, the deployment matrix, the Pareto front, and how far they reach."""
    told = [head("guidance", language), Points(tuple(rules(facts, language)))]
    if facts.only_served:
        return Section(told)
    told += [*quality.choices(facts, language), *quality.front(facts, language)]
    return Section([*told, Prose((say("guidance_limit", language),))])


def rules(facts: Facts, language: str) -> list[str]:
    """One sentence a decision rule; where there are many, one a strategy with the number of settings it holds for."""
    if facts.rules.empty:
        return [w.say(w.LOADS, "no_rule", language) if facts.only_served else say("no_rule", language)]
    return _each_rule(facts, language) if len(facts.rules) <= MOST_RULES else _counted_rules(facts, language)


def _each_rule(facts: Facts, language: str) -> list[str]:
    """Every rule in a sentence."""
    varied = [c for c in ("gpu", "model", *LENGTHS, "task") if facts.rules[c].nunique() > 1] or ["gpu", "model"]
    sentences = []
    for r in facts.rules.to_dict("records"):
        condition = say("rule_batch" if r["from"] == r["to"] else "rule_batches", language, low=r["from"], high=r["to"])
        where = w.joined(list(filter(None, (short(word(c, r[c])) for c in varied))), language)
        cost = cost_words(facts, language, "item" if facts.unit_of(r) == "item" else "token")
        words = {"where": where, "strategy": r["quantization"], "cost": cost, "condition": condition}
        steady, tried = facts.strategies_of(r)
        key = "only_steady" if steady == 1 < tried else "rule_unknown" if pd.isna(r["confidence"]) else "rule"
        sentences.append(say(key, language, **words, n=tried, confidence=percent(r["confidence"])))
    return sentences


def _counted_rules(facts: Facts, language: str) -> list[str]:
    """In how many settings each strategy has the lowest cost, and how sure the least sure of them is: unknown, where one of them is."""
    confidences = facts.rules.groupby("quantization")["confidence"]
    counted = confidences.agg(size="size", min=lambda c: c.min(skipna=False)).sort_values("size", ascending=False)
    words = {"cost": cost_words(facts, language), "n": len(facts.rules)}
    return [
        say("rules_counted", language, strategy=name, k=int(row["size"]), confidence=percent(row["min"]), **words)
        for name, row in counted.iterrows()
    ]


def limits(facts: Facts, language: str) -> Section:
    """What these data cannot say, computed from them, and how to do it again."""
    points = Points(tuple(limit_points(facts, language)))
    return Section([head("limits", language), points, head("again", language), Prose((again(facts, language),))])


def again(facts: Facts, language: str) -> str:
    """How to do it again: replay only where raw readings were recorded with it."""
    return say("again" if facts.provenance else "again_foreign", language, experiment=facts.experiment)


def limit_points(facts: Facts, language: str) -> list[str]:
    """The limits as sentences, the gravest first."""
    basis = facts.selection.basis
    points = [] if basis == "measured" else [w.say(w.BASIS, basis, language)]
    single = [f for f in ("gpu", "model", "task", "input_tokens", "output_tokens", "batch_size") if len(facts.levels(f)) == 1]
    points += [say("one_level", language, factor=first_up(w.say(w.FACTOR, f, language)), level=plain(facts.levels(f)[0])) for f in single]
    n_blocks = int(facts.summary["n_blocks"].max())
    points += [say("single_block", language)] if n_blocks == 1 else []
    points += [say("few_blocks", language, n=n_blocks)] if 1 < n_blocks < FEW_BLOCKS else []
    points += [say("largest", language)] if (facts.comparisons["outcome"] == "lower").sum() > 1 else []
    points += [say("random_weights", language)] if set(facts.levels("weights")) - {"published"} else []
    points += [w.say(w.LOADS, "stated", language)] if len(facts.loads) else []
    points += [say("no_scores", language)] if facts.usable["score"].isna().all() else []
    points.append(say("one_machine", language, jobs=facts.windows["job"].nunique()))
    return [*points, say("figures_english", language)] if say("figures_english", language) else points


def report(facts: Facts, language: str) -> list[Section]:
    """The whole report in order."""
    parts = (abstract, setup, method, cost, loads, ratios, factors, quality.scores, roof, steady, guidance, limits)
    return [part(facts, language) for part in parts]
