"""Facts to a talk of seven minutes: seven slides, each with its seconds and a script that fits them."""

import re
from dataclasses import dataclass

import numpy as np

from eai import plots
from eai.errors import UserError
from eai.report import causes, phrases, sections, speech
from eai.report import wording as w
from eai.report.elements import Element, Heading, Picture, Points, Prose, Section
from eai.report.facts import Facts
from eai.report.format import interval

SECONDS = {"opening": 60, "method": 90, "strategies": 60, "where": 60, "synergy": 60, "guidance": 60, "closing": 30}
WORDS_PER_S = 2.2
CHARACTERS_PER_S = 3.6
RULES_SPOKEN = 1
MOST_SHOWN = 24


@dataclass(frozen=True)
class Notes(Element):
    """What the speaker says on a slide, and in how many seconds."""

    seconds: int
    script: str
    kind = "notes"

    def markdown(self) -> str:
        return f"> **{self.seconds} s.** {self.script}"

    def tex(self) -> str:
        return ""


def spoken_s(script: str) -> float:
    """The seconds that a script takes: 2.2 English words or 3.6 Chinese characters a second, a usual pace of conference talks."""
    chinese = len(re.findall(r"[\u4e00-\u9fff]", script))
    return chinese / CHARACTERS_PER_S + len(re.findall(r"[A-Za-z0-9.]+", script)) / WORDS_PER_S


def talk(facts: Facts, language: str) -> list[Section]:
    """The seven slides in order."""
    return [slide(name, facts, language) for name in SECONDS]


def slide(name: str, facts: Facts, language: str) -> Section:
    """One slide: heading, what is shown, and the speaker's notes. Raises UserError for a name that is not one of SECONDS."""
    if name not in SECONDS:
        raise UserError(f"slide '{name}'", f"one of {', '.join(SECONDS)}")
    shown = {"opening": _opening, "method": _method, "strategies": _strategies, "where": _where, "synergy": _synergy,
             "guidance": _guidance, "closing": _closing}[name]  # fmt: skip
    return Section([Heading(w.say(speech.TITLES, name, language)), *shown(facts, language), notes(name, facts, language)])


def notes(name: str, facts: Facts, language: str) -> Notes:
    """What is said on a slide, and in how many seconds."""
    return Notes(SECONDS[name], spoken(w.say(speech.SCRIPTS, name, language).format(**_told(facts, language))))


def spoken(text: str) -> str:
    """A sentence as it is said: without marks."""
    return re.sub(r"\s+", " ", text.replace("**", "").replace("`", "")).strip()


def _told(facts: Facts, language: str) -> dict[str, str]:
    """What the tables say, for the scripts."""
    factor = _factor(facts)
    told = {
        "basis": _basis(facts, language),
        "again": w.say(speech.SPOKEN_AGAIN, "ours", language) if facts.provenance else "",
        "best": _best(facts, language),
        "protocol": w.say(speech.PROTOCOL, "ours" if facts.provenance else "foreign", language),
        "boundary": sections.boundary(facts, language),
        "counts": sections.counts(facts, language),
        "range": sections.cost_range(facts, language),
        "gates": sections.gates(facts, language),
        "contrast": causes.contrast_sentence(facts.contrasts[factor], factor, language) if factor else "",
        "synergy": causes.synergy_sentence(facts.synergies[factor], factor, language) if factor in facts.synergies else "",
        "rules": w.both(language, *sections.rules(facts, language)[:RULES_SPOKEN]),
        "scores": phrases.say("no_scores_short", language) if facts.scored.empty else _score(facts, language),
        "reach": phrases.say("guidance_limit", language),
    }
    return told | {"synergy": told["synergy"] or w.say(speech.POINTS, "not_one_factor", language)}


def _factor(facts: Facts) -> str | None:
    """The factor that the talk shows beside the strategy: hardware if it varied, else the first that did."""
    order = ("gpu", "task", "batch_size", "model", "input_tokens", "output_tokens")
    return next((f for f in order if f in facts.contrasts), None)


def _basis(facts: Facts, language: str) -> str:
    return w.say(speech.SHORT_BASIS, facts.selection.basis, language)


def _best(facts: Facts, language: str) -> str:
    return sections.best(facts, language) if len(facts.comparisons) else phrases.say("no_comparison", language)


def _score(facts: Facts, language: str) -> str:
    """How many scores are shown to differ from the baseline's; nothing where items are not known."""
    tested = facts.pairs[facts.pairs["outcome"] != "not_testable"] if len(facts.pairs) else facts.pairs
    return phrases.say("scores_short", language, n=len(tested), lower=int((tested["outcome"] == "lower").sum())) if len(tested) else ""


def _opening(facts: Facts, language: str) -> list[Element]:
    """The question's answer in one number, what was measured, and where the energy comes from."""
    row = facts.best()
    big = [Heading(f"× {interval(row, 'ratio_to_baseline', 2)}", 3)] if row is not None else []
    return [*big, Prose((_best(facts, language), sections.scope(facts, language), phrases.basis_sentence(facts, language)))]


def _method(facts: Facts, language: str) -> list[Element]:
    """The framework's diagram and the rules."""
    fig, ax = plots.figure(height_in=2.0)
    plots.framework(ax)
    keys = ("replicate", "paired", "verified") if facts.provenance else ("repeats", "paired")
    points = Points(tuple(w.say(speech.POINTS, key, language) for key in keys))
    return [Picture(fig, ""), points]


def _strategies(facts: Facts, language: str) -> list[Element]:
    """The forest plot of the comparisons, beside the score kept where tasks were scored; means where they are too many for a slide."""
    table = facts.comparisons.reset_index(drop=True)
    if table.empty:
        return [Prose((phrases.say("no_comparison", language),))]
    if len(table) > MOST_SHOWN:
        return [*sections.by_strategy(facts, language), Prose((sections.counts(facts, language),))]
    fig, axes = plots.figure(1, 1 + (len(facts.kept) > 0), height_in=max(1.2 + 0.16 * len(table), 2.6 * (len(facts.kept) > 0)))
    for draw, drawn, ax in zip((plots.forest, plots.retention), (table, facts.kept), np.ravel(axes), strict=False):
        draw(drawn, ax)
    kept = [phrases.picture_caption(facts.kept, language, scores=True)] if len(facts.kept) else []
    return [Picture(fig, w.both(language, phrases.picture_caption(table, language), *kept))]


def _where(facts: Facts, language: str) -> list[Element]:
    """Hardware x strategy where hardware was varied and crossed, else the cost by strategy and batch size."""
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
    factor = _factor(facts)
    if factor not in facts.synergies:
        return [Prose((w.say(speech.POINTS, "not_one_factor", language),))]
    table = facts.synergies[factor].head(24)
    fig, ax = plots.figure(height_in=1.2 + 0.18 * len(table))
    plots.synergy(table, ax)
    plots.watermark(ax, facts.usable)
    return [Picture(fig, ""), Prose((causes.synergy_sentence(facts.synergies[factor], factor, language),))]


def _guidance(facts: Facts, language: str) -> list[Element]:
    """The deployment matrix where tasks were scored, else the decision tree that the rules make."""
    if facts.rules.empty:
        return [Prose((phrases.say("no_rule", language),))]
    if len(facts.scored) and len(facts.choices):
        fig, ax = plots.figure(height_in=0.5 + 0.25 * len(facts.choices))
        plots.deployment_matrix(facts.choices, ax)
        return [Picture(fig, ""), Prose((phrases.say("guidance_limit", language),))]
    if len(facts.rules) > sections.MOST_RULES:
        return [Points(tuple(sections.rules(facts, language))), Prose((phrases.say("guidance_limit", language),))]
    fig, ax = plots.figure(height_in=min(0.9 + 0.38 * len(facts.rules), 5.0))
    plots.decision_tree(facts.rules, ax)
    plots.watermark(ax, facts.usable)
    return [Picture(fig, ""), Prose((phrases.say("guidance_limit", language),))]


def _closing(facts: Facts, language: str) -> list[Element]:
    """What was found, where the energy comes from, and that it can be done again."""
    points = (sections.counts(facts, language), _best(facts, language), phrases.basis_sentence(facts, language))
    return [Points(points), Prose((sections.again(facts, language),))]


def script(facts: Facts, language: str) -> str:
    """The speaker's script as Markdown: slide by slide, with the minute at which each begins."""
    parts, begins_s = [], 0
    for name in SECONDS:
        said = notes(name, facts, language)
        clock = f"{begins_s // 60}:{begins_s % 60:02d}"
        parts.append(f"## {clock} {w.say(speech.TITLES, name, language)} ({said.seconds} s)\n\n{said.script}")
        begins_s += said.seconds
    return "\n\n".join(parts) + "\n"
