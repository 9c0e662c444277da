"""What is said on each slide: the script that fits what the slide shows, in words that can be spoken, within its seconds."""

import re
from dataclasses import dataclass

from eai.plots.ratios import names
from eai.report import causes, loads, phrases, quality, sections, speech
from eai.report import wording as w
from eai.report.elements import Element
from eai.report.facts import Facts
from eai.report.format import interval

SECONDS = {"opening": 60, "method": 90, "strategies": 60, "where": 60, "synergy": 60, "guidance": 60, "closing": 30}
WORDS_PER_S = 132 / 60
CHARACTERS_PER_S = 216 / 60
SPELLED_OUT = 4
RULES_SPOKEN = 1
MOST_SHOWN = 24
SERVED = {
    "opening": "opening_loads",
    "strategies": "loads",
    "where": "waits",
    "synergy": "one_setting",
    "guidance": "guidance_loads",
    "closing": "closing_loads",
}


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


def notes(name: str, facts: Facts, language: str) -> Notes:
    """What is said on a slide, and in how many seconds."""
    said = w.say(speech.SCRIPTS, variant(name, facts), language).format(**_told(facts, language))
    return Notes(SECONDS[name], spoken(said, language))


def variant(name: str, facts: Facts) -> str:
    """Which title and script of a slide fit what it shows: of a server, of many comparisons, of none."""
    if facts.only_served:
        return SERVED.get(name, name)
    if name == "strategies" and not facts.has_baseline:
        return "no_strategies"
    if name == "strategies" and len(facts.comparisons) > MOST_SHOWN:
        return "many_strategies"
    if name == "synergy" and _factor_of_synergy(facts) is None:
        return "one_setting"
    if name == "guidance" and facts.rules.empty:
        return "no_guidance"
    return "matrix" if name == "guidance" and shows_matrix(facts) else name


def shows_matrix(facts: Facts) -> bool:
    """Whether the guidance is the deployment matrix: where tasks were scored and something meets its first scenario."""
    return len(facts.scored) > 0 and len(facts.choices) > 0 and bool(facts.choices["candidates"].iloc[0])


def main_factor(facts: Facts) -> str | None:
    """The factor that the talk shows beside the strategy: hardware if it varied, else the first that did."""
    order = ("gpu", "task", "batch_size", "model", "input_tokens", "output_tokens")
    return next((f for f in order if f in facts.contrasts), None)


def _factor_of_synergy(facts: Facts) -> str | None:
    """The main factor, where its interaction with the strategy can be shown."""
    factor = main_factor(facts)
    return factor if factor in facts.synergies else None


def _told(facts: Facts, language: str) -> dict[str, str]:
    """What the tables say, for the scripts."""
    factor, crossed, ours = main_factor(facts), _factor_of_synergy(facts), "ours" if facts.provenance else "foreign"
    has_loads = len(facts.loads) > 0
    return {
        "basis": w.say(speech.SHORT_BASIS, facts.selection.basis, language),
        "again": w.say(speech.SPOKEN_AGAIN, "ours", language) if facts.provenance else "",
        "best": best(facts, language),
        "counted": counted(facts, language),
        "largest": largest(facts, language),
        "protocol": w.say(speech.PROTOCOL, "served" if facts.only_served and facts.provenance else ours, language),
        "boundary": sections.boundary(facts, language),
        "counts": sections.counts(facts, language),
        "range": "" if facts.only_served else without_intervals(sections.cost_range(facts, language)),
        "gates": sections.gates(facts, language),
        "contrast": causes.contrast_sentence(facts.contrasts[factor], factor, language) if factor else "",
        "synergy": causes.synergy_sentence(facts.synergies[crossed], crossed, language) if crossed else "",
        "rules": w.both(language, *sections.rules(facts, language)[:RULES_SPOKEN]),
        "lowest": quality.lowest_sentence(facts, language) if shows_matrix(facts) else "",
        "scores": scores(facts, language),
        "reach": phrases.say("guidance_limit", language),
        "by_load": without_intervals(loads.cost_range(facts, language)) if has_loads else "",
        "untested": w.say(w.LOADS, "untested", language),
        "failures": loads.failures(facts, language) if has_loads else "",
        "waits": without_intervals(loads.wait_range(facts, language)) if has_loads else "",
    }


def best(facts: Facts, language: str) -> str:
    """The largest shown saving, or why there is none."""
    return sections.best(facts, language) if facts.has_baseline else sections.counts(facts, language)


def counted(facts: Facts, language: str) -> str:
    """How many comparisons show a lower cost, in a short sentence; why there are none."""
    if not facts.has_baseline:
        return sections.counts(facts, language)
    return w.say(speech.LARGEST, "counted", language, n=len(facts.comparisons), lower=facts.counts.get("lower", 0))


def largest(facts: Facts, language: str) -> str:
    """The largest shown saving in a short sentence; nothing where nothing was compared."""
    row = facts.best()
    if row is None or not facts.has_baseline:
        return sections.best(facts, language) if facts.has_baseline else ""
    name = names(facts.comparisons)[row.name]
    return w.say(speech.LARGEST, "shown", language, name=name, ratio=interval(row, "ratio_to_baseline", 2))


def scores(facts: Facts, language: str) -> str:
    """How many scores are shown to differ from the baseline's; nothing where items are not known."""
    if facts.scored.empty:
        return phrases.say("no_scores_short", language)
    tested = facts.pairs[facts.pairs["outcome"] != "not_testable"] if len(facts.pairs) else facts.pairs
    if tested.empty:
        return ""
    shown = {outcome: int((tested["outcome"] == outcome).sum()) for outcome in ("lower", "inconclusive")}
    return phrases.say("scores_short", language, n=len(tested), items=int(tested["n_items"].median()), **shown)


def without_intervals(text: str) -> str:
    """A sentence whose numbers stand on the slide with their intervals: a listener keeps the two ends of a range, not six numbers."""
    return re.sub(r" \[[^\]]+\]", "", text)


def spoken(text: str, language: str) -> str:
    """A sentence as it is said: without marks, an interval as `between a and b`, units as words."""
    between, joules, seconds = (w.say(speech.SPOKEN, word, language) for word in ("between", "joules", "seconds"))
    text = text.replace("**", "").replace("`", "").replace("× ", "")
    text = re.sub(r"([\d.]+)( \[[^\]]+\])? J\b", rf"\1 {joules}\2", text)
    text = re.sub(r"([\d.]+) s\b", rf"\1 {seconds}", text)
    text = re.sub(r" ?\[([^,\]]+), ([^\]]+)\]", between, text)
    return re.sub(r"\s+", " ", text).strip()


def spoken_s(script: str) -> float:
    """The seconds that a script takes, numbers spoken digit by digit and names like nf4 letter by letter.

    English at 132 words a minute: people in the United States usually speak at 125 to 150 (S. E. Lucas, The Art of Public Speaking, 8th
    ed., 2004, p. 300). Chinese at 216 characters a minute, 3.6 a second: readers take 5.18 syllables a second without their long pauses
    (Pellegrino, Coupé and Marsico, Language 87, 2011, doi:10.1353/lan.2011.0057), which leaves three tenths of the time for pauses.
    """
    chinese = re.findall(r"[\u4e00-\u9fff]", script)
    digits = sum(len(number) for number in re.findall(r"\d+(?:\.\d+)?", script))
    words = sum(_words(word) for word in re.findall(r"[A-Za-z]+|%", script))
    if chinese:
        return (len(chinese) + digits) / CHARACTERS_PER_S + words / WORDS_PER_S
    return (digits + words) / WORDS_PER_S


def _words(word: str) -> int:
    """As how many words a word is spoken: letter by letter where it is short and has no vowel, `nf`, or is in capitals, `GPU`."""
    is_spelled = len(word) <= SPELLED_OUT and (word.isupper() or not re.search("[aeiouyAEIOUY]", word))
    return len(word) if is_spelled else 1


def script(facts: Facts, language: str) -> str:
    """The speaker's script as Markdown: slide by slide, with the minute at which each begins."""
    parts, begins_s = [], 0
    for name in SECONDS:
        said = notes(name, facts, language)
        clock = f"{begins_s // 60}:{begins_s % 60:02d}"
        parts.append(f"## {clock} {title(name, facts, language)} ({said.seconds} s)\n\n{said.script}")
        begins_s += said.seconds
    return "\n\n".join(parts) + "\n"


def title(name: str, facts: Facts, language: str) -> str:
    """The title of a slide."""
    key = variant(name, facts)
    return w.say(speech.TITLES, key if key in speech.TITLES else name, language)
