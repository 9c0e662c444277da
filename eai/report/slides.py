"""Facts to a talk of seven minutes: what each of its seven slides shows, with the notes of `script`."""

import numpy as np

from eai import plots
from eai.errors import UserError
from eai.report import causes, loads, phrases, quality, sections, speech
from eai.report import wording as w
from eai.report.elements import Element, Heading, Picture, Points, Prose, Section
from eai.report.facts import Facts
from eai.report.format import interval
from eai.report.script import MOST_SHOWN, SECONDS, best, main_factor, notes, shows_matrix, title


def talk(facts: Facts, language: str) -> list[Section]:
    """The seven slides in order."""
    return [slide(name, facts, language) for name in SECONDS]


def slide(name: str, facts: Facts, language: str) -> Section:
    """One slide: heading, what is shown, and the speaker's notes. Raises UserError for a name that is not one of SECONDS."""
    if name not in SECONDS:
        raise UserError(f"slide '{name}'", f"one of {', '.join(SECONDS)}")
    shown = {"opening": _opening, "method": _method, "strategies": _strategies, "where": _where, "synergy": _synergy,
             "guidance": _guidance, "closing": _closing}[name]  # fmt: skip
    return Section([Heading(title(name, facts, language)), *shown(facts, language), notes(name, facts, language)])


def _opening(facts: Facts, language: str) -> list[Element]:
    """The question's answer in one number, what was measured, and where the energy comes from."""
    row = facts.best()
    big = [Heading(f"× {interval(row, 'ratio_to_baseline', 2)}", 3)] if row is not None else []
    found = loads.cost_range(facts, language) if facts.only_served else best(facts, language)
    return [*big, Prose((found, sections.scope(facts, language), phrases.basis_sentence(facts, language)))]


def _method(facts: Facts, language: str) -> list[Element]:
    """The framework's diagram and the rules."""
    fig, ax = plots.figure(height_in=2.0)
    plots.framework(ax)
    ran = ("replicate_loads", "stated") if facts.only_served else ("replicate", "paired", "verified")
    keys = ran if facts.provenance else ("repeats", "paired")
    billed = [loads.billed(facts, language)] if len(facts.loads) else []
    points = Points((*(w.say(speech.POINTS, key, language) for key in keys), *billed))
    return [Picture(fig, ""), points]


def _strategies(facts: Facts, language: str) -> list[Element]:
    """The forest plot of the comparisons, beside the score kept where tasks were scored; means where they are too many for a slide."""
    if facts.only_served:
        return [loads.picture(facts, language, ("energy_j_per_token", "energy_j_per_request"))]
    table = facts.comparisons.reset_index(drop=True)
    if not facts.has_baseline:
        return [Prose((sections.counts(facts, language),))]
    if len(table) > MOST_SHOWN:
        return [*sections.by_strategy(facts, language), Prose((sections.counts(facts, language),))]
    fig, axes = plots.figure(1, 1 + (len(facts.kept) > 0), height_in=max(1.2 + 0.16 * len(table), 2.6 * (len(facts.kept) > 0)))
    for draw, drawn, ax in zip((plots.forest, plots.retention), (table, facts.kept), np.ravel(axes), strict=False):
        draw(drawn, ax)
    kept = [phrases.picture_caption(facts.kept, language, scores=True)] if len(facts.kept) else []
    return [Picture(fig, w.both(language, phrases.picture_caption(table, language), *kept))]


def _where(facts: Facts, language: str) -> list[Element]:
    """Hardware x strategy where they were crossed, else the cost by strategy and batch size; of a server, how long requests wait."""
    if facts.only_served:
        return [loads.picture(facts, language, ("ttft_s", "itl_s"))]
    table = facts.usable.reset_index(drop=True)
    fig, ax = plots.figure(height_in=2.8)
    grid = causes.grid(facts)
    if grid is None:
        plots.cost(table, ax)
    else:
        plots.heatmap(grid, ax, basis=table)
    return [Picture(fig, phrases.picture_caption(table, language))]


def _synergy(facts: Facts, language: str) -> list[Element]:
    """The interaction of the strategies with the factor that was varied."""
    factor = main_factor(facts)
    if factor not in facts.synergies:
        return [Prose((w.say(speech.POINTS, "not_crossed", language),))]
    table = facts.synergies[factor].head(24)
    fig, ax = plots.figure(height_in=1.2 + 0.18 * len(table))
    plots.synergy(table, ax)
    plots.watermark(ax, facts.usable)
    return [
        Picture(fig, phrases.caption("synergy", language)),
        Prose((causes.synergy_sentence(facts.synergies[factor], factor, language),)),
    ]


def _guidance(facts: Facts, language: str) -> list[Element]:
    """The deployment matrix where tasks were scored, else the decision tree that the rules make."""
    if facts.rules.empty:
        return [Prose(tuple(sections.rules(facts, language)))]
    if shows_matrix(facts):
        return [*quality.choices(facts, language), Prose((phrases.say("guidance_limit", language),))]
    if len(facts.rules) > sections.MOST_RULES:
        return [Points(tuple(sections.rules(facts, language))), Prose((phrases.say("guidance_limit", language),))]
    fig, ax = plots.figure(height_in=min(0.9 + 0.38 * len(facts.rules), 5.0))
    plots.decision_tree(facts.rules, ax)
    plots.watermark(ax, facts.usable)
    return [Picture(fig, ""), Prose((phrases.say("guidance_limit", language),))]


def _closing(facts: Facts, language: str) -> list[Element]:
    """What was found, where the energy comes from, and that it can be done again."""
    found = (
        (loads.cost_range(facts, language), loads.failures(facts, language)) if facts.only_served else (sections.counts(facts, language),)
    )
    shown = (best(facts, language),) if facts.has_baseline else ()
    points = (*found, *shown, phrases.basis_sentence(facts, language))
    return [Points(points), Prose((sections.again(facts, language),))]
