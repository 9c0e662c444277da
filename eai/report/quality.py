"""The sections on quality: scores with their metrics, what they lose against the baseline, and what is kept for the energy saved."""

from eai import plots
from eai.analyze.deployment import KEPT
from eai.plots.ratios import names
from eai.plots.style import percent
from eai.report import wording as w
from eai.report.elements import Element, Picture, Prose, Section, Table
from eai.report.facts import Facts
from eai.report.format import interval, number, p_value
from eai.report.phrases import caption, cut, head, named, picture_caption, say

SURE = 0.95
UNKNOWN = percent(float("nan"))
WORTH_NAMING = 8


def scores(facts: Facts, language: str) -> Section:
    """Scores, EOR and TWEOR where they were measured, against the baseline and against the energy; else that they were not."""
    table = facts.scored
    if table.empty:
        return Section([head("scores", language, 3), Prose((say("no_scores", language),))])
    columns = {"configuration": names(table)} | {c: [interval(r, c) for r in table.to_dict("records")] for c in ("score", "eor", "tweor")}
    listed = Table(named(columns, language), caption("scores", language), cut("summary", language))
    return Section(
        [head("scores", language, 3), Prose((score_sentence(facts, language),)), listed, *_pairs(facts, language), *_kept(facts, language)]
    )


def score_sentence(facts: Facts, language: str) -> str:
    """How many losses and gains of score are shown, and how small a difference the items could have shown."""
    tested = facts.pairs[facts.pairs["outcome"] != "not_testable"] if len(facts.pairs) else facts.pairs
    if tested.empty:
        return say("scores_unpaired", language, n=int(facts.scored["n_items"].max()) if facts.scored["n_items"].notna().any() else 0)
    shown = {outcome: int((tested["outcome"] == outcome).sum()) for outcome in ("lower", "higher", "inconclusive")}
    least = number(100 * (tested["detectable"].median() - 1), 2)
    return say("scores", language, n=len(tested), items=int(tested["n_items"].median()), least=least, **shown)


def _pairs(facts: Facts, language: str) -> list[Element]:
    """Each strategy against the baseline on the same items."""
    if facts.pairs.empty:
        return []
    rows = facts.pairs.to_dict("records")
    columns = {
        "configuration": names(facts.pairs),
        "difference": [interval(r, "score_difference") for r in rows],
        "retained": [interval(r, "score_retained") for r in rows],
        "eor_ratio": [interval(r, "eor_ratio") for r in rows],
        "n_items": [r["n_items"] for r in rows],
        "p": [p_value(r["p_holm"]) for r in rows],
        "outcome": [w.say(w.OUTCOME, r["outcome"], language) for r in rows],
    }
    return [Table(named(columns, language), caption("pairs", language), cut("comparisons", language))]


def _kept(facts: Facts, language: str) -> list[Element]:
    """The share of the score kept against the energy saved, as a picture."""
    if facts.kept.empty:
        return []
    fig, ax = plots.figure()
    plots.retention(facts.kept, ax)
    return [Picture(fig, picture_caption(facts.kept, language, scores=True))]


def choices(facts: Facts, language: str) -> list[Element]:
    """The deployment matrix as a table, where a stratum was measured on everything."""
    if facts.choices.empty:
        return []
    said = [_choice(row, language, facts.scored.empty) for row in facts.choices.to_dict("records")]
    keys = ("scenario", "choice", "saved", "retained", "speed_units", "probability")
    words = dict(zip(keys, (list(column) for column in zip(*said, strict=True)), strict=True))
    counts = {name: int(facts.choices[name].max()) for name in ("n_rejected", "n_cells")}
    left_out = say("left_out_cells", language, **counts) if counts["n_rejected"] else ""
    basis = w.say(w.BASIS_WORD, facts.selection.basis, language)
    return [Table(named(words, language), caption("choices", language, basis=basis) + left_out, cut("summary", language))]


def _choice(row: dict, language: str, unscored: bool) -> list[str]:
    """The texts of one scenario; a condition on scores says that none was measured, and a lone candidate has no probability."""
    _, choice, saved, kept, speed, sure = plots.matrix_texts(row)
    if not row["candidates"]:
        choice = say("no_score_known" if unscored and row["scenario"].startswith("keeps") else "no_candidate", language)
    elif row["candidates"] == 1:
        sure = say("only_candidate", language)
    sure = say("unknown", language) if sure == UNKNOWN else sure
    kept = say("not_measured", language) if kept == "not measured" else kept
    return [scenario(row["scenario"], language), choice, saved, kept, speed, sure]


def lowest_sentence(facts: Facts, language: str) -> str:
    """The choice of the matrix's first scenario, the lowest energy, in a sentence."""
    row = facts.choices.iloc[0].to_dict()
    _, choice, saved, kept, _, sure = _choice(row, language, facts.scored.empty)
    if row["candidates"] == 1:
        return say("only_cell", language, cells=int(row["n_cells"]), choice=choice)
    return say("lowest", language, choice=choice, saved=saved, kept=kept, sure=sure, n=int(row["candidates"]), cells=int(row["n_cells"]))


def scenario(name: str, language: str) -> str:
    """A scenario of the deployment matrix in words."""
    key = next(k for k in w.SCENARIO if name.startswith(k))
    return w.say(w.SCENARIO, key, language).format(level=name.removeprefix(key).strip(), kept=f"{100 * KEPT:.0f}")


def front(facts: Facts, language: str) -> list[Element]:
    """The Pareto front: who is surely on it, and the picture; the score beside the energy where there is one."""
    table = facts.front
    fig, ax = plots.figure()
    plots.pareto(table, ax)
    pictures = [Picture(fig, picture_caption(facts.usable, language, plots.DRAWN))]
    if len(facts.scored):
        fig, ax = plots.figure()
        plots.quality(table, ax)
        pictures.append(Picture(fig, picture_caption(facts.scored, language, plots.DRAWN, scores=True)))
    return [Prose((front_sentence(facts, language),)), *pictures]


def front_sentence(facts: Facts, language: str) -> str:
    """Who is surely on the Pareto front, of those whose probability is known; how many are unknown."""
    table = facts.front
    known = table["p_front"].notna()
    unknown = {"all": len(table), "unknown": int((~known).sum())}
    objectives = w.say(w.OBJECTIVES, table["objectives"].iloc[0] if table["objectives"].nunique() == 1 else "mixed", language)
    if not known.any():
        return say("front_all_unknown", language, all=len(table), objectives=objectives)
    sure = [f"`{name}`" for name, p in zip(names(table), table["p_front"], strict=True) if p > SURE]
    name = w.joined(sure if len(sure) <= WORTH_NAMING else [], language)
    words = {"n": len(sure), "known": int(known.sum()), "names": (": " if not w.place(language) else "：") + name if name else ""}
    told = say("front", language, **words, objectives=objectives, sure=percent(SURE))
    return w.both(language, told, say("front_unknown", language, **unknown) if unknown["unknown"] else "")
