"""Facts to the sections of the report: every function returns elements, and says only what a table carries."""

import pandas as pd

from eai import plots
from eai.analyze import study
from eai.plots.costs import MOST_SERIES, series
from eai.plots.ratios import names
from eai.plots.style import MOST_LINES, percent
from eai.report import quality
from eai.report import wording as w
from eai.report.causes import factors, roof, steady
from eai.report.elements import Picture, Points, Prose, Section, Table
from eai.report.facts import Facts, configurations
from eai.report.format import interval, number, short
from eai.report.phrases import (
    basis_sentence,
    caption,
    column,
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
    """The outcome of the comparisons and the largest shown saving."""
    return w.both(language, counts(facts, language), best(facts, language)) if len(facts.comparisons) else say("no_comparison", language)


def counts(facts: Facts, language: str) -> str:
    """How many comparisons there were, by outcome."""
    if facts.comparisons.empty:
        return say("no_comparison", language)
    numbers = {outcome: facts.counts.get(outcome, 0) for outcome in w.OUTCOME}
    margin = number(100 * facts.comparisons["margin"].max(), 1)
    baseline = w.joined(sorted(set(facts.comparisons["baseline"])), language)
    return say("counts", language, n=len(facts.comparisons), baseline=baseline, cost=cost_words(facts, language), margin=margin, **numbers)


def best(facts: Facts, language: str) -> str:
    """The largest shown saving in a sentence."""
    row = facts.best()
    if row is None:
        return say("no_best", language)
    name = f"`{names(facts.comparisons)[row.name]}`"
    ratio = interval(row, "ratio_to_baseline", 2)
    return say("best", language, name=name, ratio=ratio, cost=cost_words(facts, language), n=int(row["n_pairs"]))


def setup(facts: Facts, language: str) -> Section:
    """Factors and levels, machine, software, meter and what was left out."""
    rows = [(w.say(w.FACTOR, f, language), w.joined(map(plain, facts.levels(f)), language)) for f in w.FACTOR]
    table = pd.DataFrame(rows, columns=[column("factor", language), column("levels", language)])
    excluded = facts.selection.excluded.groupby(["status", "reason"])["n"].sum()
    lines = w.joined([f"{n} × {status} ({reason})" for (status, reason), n in excluded.items()], language)
    left_out = say("excluded", language, lines=lines) if lines else say("nothing_excluded", language)
    return Section([head("setup", language), Table(table, caption("setup", language)), Points((*machines(facts, language), left_out))])


def machines(facts: Facts, language: str) -> list[str]:
    """Machine, software, meter and recorded limits of the jobs; one line a distinct value."""
    if not facts.provenance:
        return [say("no_provenance", language)]
    lines = []
    for job in facts.provenance:
        machine, versions = job.get("machine", {}), job.get("versions", {})
        gpu = f", {job['gpu']}" if job.get("gpu", "cpu") != "cpu" else ""
        known = [
            f"{name} {version}"
            for name, version in versions.items()
            if version and name in ("python", "torch", "transformers", "bitsandbytes")
        ]
        words = {"cpu": machine.get("cpu", "?"), "cores": machine.get("cores", "?"), "memory": machine.get("memory_gb", "?")}
        lines.append(say("machine", language, **words, gpu=gpu))
        lines.append(say("versions", language, versions=w.joined(known, language)))
        lines.append(say("meter", language, meter=f"`{(job.get('meter') or {}).get('meter', '?')}`"))
        if job.get("limitations"):
            lines.append(say("recorded", language, lines="; ".join(job["limitations"])))
    return list(dict.fromkeys(lines))


def method(facts: Facts, language: str) -> Section:
    """How the numbers were obtained."""
    return Section(
        [head("method", language), Prose((say("replicate" if facts.provenance else "replicate_foreign", language), say("tests", language)))]
    )


def cost(facts: Facts, language: str) -> Section:
    """Cost per token, or per item of a task: what was found, table and figure."""
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
    if table.empty:
        return Section([head("ratios", language, 3), Prose((say("no_comparison", language),))])
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
    table = study.strategies(facts.selection, facts.baseline)
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
    told = [Points(tuple(rules(facts, language))), *quality.choices(facts, language), *quality.front(facts, language)]
    return Section([head("guidance", language), *told, Prose((say("guidance_limit", language),))])


def rules(facts: Facts, language: str) -> list[str]:
    """One sentence a decision rule; where there are many, one a strategy with the number of settings it holds for."""
    if facts.rules.empty:
        return [say("no_rule", language)]
    return _each_rule(facts, language) if len(facts.rules) <= MOST_RULES else _counted_rules(facts, language)


def _each_rule(facts: Facts, language: str) -> list[str]:
    """Every rule in a sentence."""
    varied = [c for c in ("gpu", "model", "input_tokens", "output_tokens", "task") if facts.rules[c].nunique() > 1] or ["gpu", "model"]
    sentences = []
    for r in facts.rules.to_dict("records"):
        condition = say("rule_batch" if r["from"] == r["to"] else "rule_batches", language, low=r["from"], high=r["to"])
        where = w.joined([short(str(r[c])) for c in varied], language)
        words = {"where": where, "strategy": r["quantization"], "cost": cost_words(facts, language), "condition": condition}
        sentences.append(say("rule", language, **words, confidence=percent(r["confidence"])))
    return sentences


def _counted_rules(facts: Facts, language: str) -> list[str]:
    """In how many settings each strategy has the lowest cost, and how sure the least sure of them is."""
    counted = facts.rules.groupby("quantization")["confidence"].agg(["size", "min"]).sort_values("size", ascending=False)
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
    points += [say("few_blocks", language, n=n_blocks)] if n_blocks < FEW_BLOCKS else []
    points += [say("largest", language)] if (facts.comparisons["outcome"] == "lower").sum() > 1 else []
    points += [say("random_weights", language)] if set(facts.levels("weights")) - {"published"} else []
    points += [say("no_scores", language)] if facts.usable["score"].isna().all() else []
    points.append(say("one_machine", language, jobs=facts.windows["job"].nunique()))
    return [*points, say("figures_english", language)] if say("figures_english", language) else points


def report(facts: Facts, language: str) -> list[Section]:
    """The whole report in order."""
    parts = (abstract, setup, method, cost, ratios, factors, quality.scores, roof, steady, guidance, limits)
    return [part(facts, language) for part in parts]
