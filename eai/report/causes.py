"""The sections on causes: what each varied factor did, how it acts together with the strategy, the roofs, and disturbances."""

import pandas as pd

from eai import plots
from eai.analyze import deployment
from eai.errors import UserError
from eai.report import wording as w
from eai.report.elements import Element, Picture, Prose, Section, Table
from eai.report.facts import Facts
from eai.report.format import interval, number, p_value
from eai.report.phrases import caption, cost_words, cut, first_up, head, named, picture_caption, ratio_table, say


def factors(facts: Facts, language: str) -> Section:
    """What each varied factor did to the cost, everything else the same, and how it acts together with the strategy."""
    elements: list[Element] = []
    for factor, table in facts.contrasts.items():
        elements += _contrast(facts, factor, table.reset_index(drop=True), language)
        elements += _heatmap(facts, language) if factor == "gpu" else []
        if factor in facts.synergies:
            elements += _synergy(factor, facts.synergies[factor], language)
    return Section(elements)


def _contrast(facts: Facts, factor: str, table: pd.DataFrame, language: str) -> list[Element]:
    """A factor's ratios in a sentence and a table."""
    word, reference = w.say(w.FACTOR, factor, language), table["reference"].iloc[0]
    told = contrast_sentence(table, factor, language)
    under = first_up(caption("contrast", language, cost=cost_words(facts, language), factor=word, reference=reference))
    return [
        head("contrast", language, 3, factor=word), Prose((told,)),
        Table(ratio_table(table.assign(options="{}"), language, "ratio", "n"), under, cut("summary", language)),
    ]  # fmt: skip


def contrast_sentence(table: pd.DataFrame, factor: str, language: str) -> str:
    """The range of a factor's ratios and how many were shown."""
    numbers = {"low": number(table["ratio"].min(), 2), "high": number(table["ratio"].max(), 2), "n": int(table["ratio"].notna().sum())}
    shown = {outcome: int((table["outcome"] == outcome).sum()) for outcome in ("lower", "higher")}
    return say("contrast", language, factor=w.say(w.FACTOR, factor, language), reference=table["reference"].iloc[0], **numbers, **shown)


def _synergy(factor: str, table: pd.DataFrame, language: str) -> list[Element]:
    """The interaction of a factor with the strategy."""
    word = w.say(w.FACTOR, factor, language)
    rows = table.to_dict("records")
    columns = {
        "configuration": [f"{r['quantization']}, {r['level']}" for r in rows],
        "at_level": [number(r["ratio_at_level"]) for r in rows],
        "at_reference": [number(r["ratio_at_reference"]) for r in rows],
        "synergy": [interval(r, "synergy") for r in rows],
        "outcome": [w.say(w.OUTCOME, r["outcome"], language) for r in rows],
    }
    texts = named(columns, language, reference=table["reference"].iloc[0])
    return [
        head("synergy", language, 3, factor=word),
        Prose((synergy_sentence(table, factor, language),)),
        Table(texts, caption("synergy", language)),
    ]


def synergy_sentence(table: pd.DataFrame, factor: str, language: str) -> str:
    """How many interactions were shown."""
    shown, testable = int(table["outcome"].isin(["lower", "higher"]).sum()), int((table["outcome"] != "not_testable").sum())
    return say("synergy", language, factor=w.say(w.FACTOR, factor, language), shown=shown, n=len(table), testable=testable)


def grid(facts: Facts) -> pd.DataFrame | None:
    """Energy by hardware and strategy over complete strata; None where there is no such stratum or one GPU only."""
    if len(facts.levels("gpu")) < 2:
        return None
    try:
        return deployment.heatmap(facts.usable)
    except UserError:
        return None


def _heatmap(facts: Facts, language: str) -> list[Element]:
    """Hardware x strategy as a picture, where both were crossed."""
    table = grid(facts)
    if table is None:
        return []
    fig, ax = plots.figure(height_in=1.5 + 0.32 * len(table))
    plots.heatmap(table, ax, basis=facts.usable)
    return [Picture(fig, first_up(caption("heatmap", language, cost=cost_words(facts, language))))]


def roof(facts: Facts, language: str) -> Section:
    """How much of the roofs of memory and arithmetic the phases reach; that no roof is known where none is."""
    if facts.roof.empty:
        return Section()
    placed = facts.roof[facts.roof["phase"] != ""]
    if placed.empty:
        return Section([head("roof", language, 3), Prose((say("roof_uncounted", language, reason=facts.roof["reason"].iloc[0]),))])
    fig, ax = plots.figure()
    plots.roofline(facts.roof, ax)
    told = w.both(language, *(roof_sentence(rows, phase, language) for phase, rows in placed.groupby("phase", sort=False)))
    return Section([head("roof", language, 3), Prose((told,)), Picture(fig, picture_caption(placed, language))])


def roof_sentence(rows: pd.DataFrame, phase: str, language: str) -> str:
    """The range of a phase's share of its roof and which roof that is; its range of speeds where no roof is known."""
    word = w.say(w.PHASE, phase, language)
    known = rows.dropna(subset="share_of_roof")
    if known.empty:
        speeds = {
            end: number(value / 1e9, 2) for end, value in (("low", rows["achieved_flop_s"].min()), ("high", rows["achieved_flop_s"].max()))
        }
        return say("no_roof", language, phase=word, **speeds)
    shares = {"low": number(100 * known["share_of_roof"].min(), 2), "high": number(100 * known["share_of_roof"].max(), 2)}
    memory = int((known["bound"] == "memory").sum())
    return first_up(say("roof", language, phase=word, memory=memory, n=len(known), **shares))


def steady(facts: Facts, language: str) -> Section:
    """Whether order, load, temperature or warm-up moved the energies, and whether windows stand out."""
    tested = facts.effects.dropna(subset="p").assign(disturbance=lambda t: t["disturbance"].map(lambda d: _disturbance(d, language)))
    shown = tested[tested["p_holm"] <= 0.05]["disturbance"].tolist()
    words = w.joined(shown, language) or say("none", language)
    told = say("steady", language, n=len(tested), names=words, outliers=len(facts.outliers))
    if tested.empty:
        return Section([head("steady", language, 3), Prose((told,))])
    columns = {
        "disturbance": tested["disturbance"].tolist(),
        "effect": [interval(r | {"effect_low": r["low"], "effect_high": r["high"]}, "effect", 2) for r in tested.to_dict("records")],
        "n": tested["n"].tolist(),
        "p": [p_value(p) for p in tested["p_holm"]],
    }
    return Section([head("steady", language, 3), Prose((told,)), Table(named(columns, language), caption("steady", language))])


def _disturbance(words: str, language: str) -> str:
    """The name of a disturbance in the language."""
    return (words, w.DISTURBANCE[words])[w.place(language)]
