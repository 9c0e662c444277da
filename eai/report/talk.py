"""Facts to a talk of seven minutes and a cheat sheet: `templates/said/talk.txt` has what each slide shows and what is said on it.

The slides carry intervals and numbers of blocks; the script does not: a listener keeps "a third less", not six digits.
"""

import re
from dataclasses import dataclass

import pandas as pd

from eai import plots, strategies
from eai.errors import UserError
from eai.report.facts import Facts, effects, interactions, level, names, recommended
from eai.report.pages import Document, Picture, Section, Table, Words, code, composed, number
from eai.report.sections import FACTOR, Said, meta

WORDS_PER_S = 132 / 60
CHARACTERS_PER_S = 216 / 60
SPELLED_OUT = 4
MOST_LINES = 16
CROSSED = ("gpu", "batch_size", "model", "task", "input_tokens", "output_tokens")
BASES = {
    "measured": "The energy was measured by a sensor.",
    "estimated": "The energy is estimated from processor time, not measured.",
    "simulated": "Nothing was measured: this is a simulation.",
    "published": "These are published figures, not ours.",
    "predicted": "The energy is predicted, not measured.",
}


def talk(facts: Facts, t: Words, s: Said | None = None) -> tuple[Document, Document]:
    """The seven slides with their script, and the cheat sheet; `s` has the figures of the report."""
    s = s or Said(facts, t)
    said = Spoken(facts, t, s)
    factor = next((f for f in CROSSED if len(interactions(facts, f))), "")
    slides = composed("talk.txt", t, facts=facts, s=s, said=said, factor=factor, chosen=recommended(facts))
    line = meta(facts, t)
    sheet = composed("cheat.txt", t, facts=facts, s=s, said=said, timetable=timetable(slides, t))
    title, cheat = (t(known, name=facts.experiment) for known in ("Energy of LLM inference: {name}", "Cheat sheet: {name}"))
    return Document(title, (), slides, line), Document(cheat, (), sheet, line)


def timed(slides: tuple[Section, ...]) -> list[tuple[Section, str]]:
    """Pairs (slide, minute at which it begins)."""
    begins = [sum(slide.seconds for slide in slides[:i]) for i in range(len(slides))]
    return [(slide, f"{s // 60}:{s % 60:02d}") for slide, s in zip(slides, begins, strict=True)]


def timetable(slides: tuple[Section, ...], t: Words) -> Table:
    """When each slide begins."""
    rows = tuple((begins, slide.title, str(slide.seconds)) for slide, begins in timed(slides))
    return Table((t("minute"), t("slide"), t("seconds")), rows, t("Seven minutes."))


def spoken(strategy: str) -> str:
    """The name of a strategy as one says it."""
    try:
        return strategies.get(strategy).title
    except (UserError, AttributeError):
        return strategy.replace("_", " ")


@dataclass(frozen=True)
class Spoken:
    """What one says of an experiment, without intervals, and the figures of the slides."""

    facts: Facts
    t: Words
    s: Said

    def share(self, ratio: float) -> str:
        """A ratio as one says it: `27 percent less`, `2.5 times as much`."""
        percent = round(100 * abs(1 - ratio))
        if ratio >= 1.5:
            return self.t("{n} times as much", n=number(ratio, 2))
        return self.t("{n} percent less" if ratio < 1 else "{n} percent more", n=percent) if percent else self.t("as much")

    def answer(self) -> str:
        """The largest saving, or of a server what the load does; why there is none."""
        t, row = self.t, self.facts.best()
        if self.facts.only_served:
            energy = self.facts.loads["energy_j_per_token"]
            known = "From the cheapest load to the most expensive one, the energy of a token differs by a factor of {factor}."
            return t(known, factor=number(energy.max() / energy.min(), 2))
        if row is None:
            return t("No strategy is shown to save energy.") if self.facts.baseline else t("These data compare no strategies.")
        known = "In the best case {strategy} takes {share} energy than {baseline}."
        ratio = self.share(row["ratio_to_baseline"])
        return t(known, strategy=spoken(row["quantization"]), share=ratio, baseline=spoken(self.facts.baseline))

    def basis(self) -> str:
        """Where the energy comes from."""
        return self.t(BASES[self.facts.basis])

    def framework(self) -> Picture:
        """The way from choices to guidance."""
        return self.t.figure(
            "framework", self.t("From the choices through the measurement to the guidance."), plots.framework, 1.9, wide=True
        )

    def ratios(self) -> list:
        """The ratios as a figure, or where they are many each strategy over all settings."""
        summed = self.s.by_strategy()
        return [*summed, self.s.counts()] if len(self.facts.comparisons) > MOST_LINES and summed else self.s.forest("ratios")

    def outcomes(self, counted: str, still_open: str) -> str:
        """How the comparisons came out."""
        table = self.facts.comparisons
        lower, higher = ((table["outcome"] == outcome).sum() for outcome in ("lower", "higher"))
        left = len(table) - lower - higher
        known = self.t(counted, baseline=spoken(self.facts.baseline), n=len(table), lower=lower, higher=higher)
        return self.t.sentences(known, self.t(still_open, n=left) if left else "")

    def moved(self, sentence: str) -> str:
        """What the first two factors do to the cost."""
        t = self.t
        found = [(f, e) for f in ("batch_size", "gpu", "model", "input_tokens", "output_tokens") if (e := effects(self.facts, f))][:2]
        ends = [{end: level(f, e[end], t) or str(e[end]) for end in ("level", "reference")} for f, e in found]
        return t.sentences(*(t(sentence, share=self.share(e["mean"]), **w) for (_, e), w in zip(found, ends, strict=True)))

    def crossed(self, factor: str) -> pd.Series:
        """Which interactions with a factor are shown."""
        return interactions(self.facts, factor)["outcome"].isin(["lower", "higher"])

    def clear(self, factor: str, sentence: str) -> str:
        """In how many cases an interaction is shown."""
        shown = self.crossed(factor)
        return self.t(sentence, factor=self.t(FACTOR[factor]), k=int(shown.sum()), n=len(shown))

    def together(self, factor: str) -> Picture:
        """The interactions with a factor, those farthest from 1."""
        t, table = self.t, interactions(self.facts, factor)
        shown = table.assign(gap=(table["synergy"] - 1).abs()).nlargest(12, "gap").sort_values("synergy")
        more = t("The {n} farthest from 1.", n=len(shown)) if len(shown) < len(table) else ""
        seen = t.sentences(
            Said(self.facts, t).interaction_words(table, factor), t("Bars: 95 % intervals; at 1 the two just multiply."), more
        )
        return t.figure("talk-together", seen, lambda ax: plots.synergy(shown, ax), 1.1 + 0.25 * len(shown))

    def choices(self, caption: str) -> Table:
        """In how many settings each strategy is chosen."""
        table = recommended(self.facts)
        rows = tuple((code(name), f"{k} / {len(table)}") for name, k in table.loc[table["shown"], "choice"].value_counts().items())
        return Table((self.t("strategy"), self.t("chosen in settings")), rows, caption)

    def choice(self, most: str, none: str) -> str:
        """The strategy that is chosen most often."""
        table = recommended(self.facts)
        chosen = table.loc[table["shown"], "choice"].value_counts()
        return self.t(most, k=int(chosen.iloc[0]), n=len(table), strategy=spoken(chosen.index[0])) if len(chosen) else self.t(none)

    def quality(self) -> str:
        """What the scores say."""
        t, facts = self.t, self.facts
        if facts.scored.empty:
            return t("No task was scored, so nothing is said about quality. A cheaper strategy may be a worse one.")
        poor = t.join(spoken(name) for name in facts.scored.loc[facts.scored["at_chance"], "quantization"].unique())
        named = t("Careful with {names}: somewhere its score is no better than guessing.", names=poor) if poor else ""
        known = "The scores rest on {n} questions each, so small losses of quality stay hidden."
        return t.sentences(named, t(known, n=int(facts.scored["n_items"].median())))

    def numbers(self, caption: str) -> Table:
        """The smallest and the largest ratios, as one says them and with their intervals."""
        t, table = self.t, self.facts.comparisons
        table = table.assign(name=names(table, t)).sort_values("ratio_to_baseline")
        shown = pd.concat([table.head(3), table.tail(2)]) if len(table) > 5 else table
        columns = {"configuration": "name", "in words": lambda r: self.share(r["ratio_to_baseline"]), "ratio": "ratio_to_baseline",
                   "outcome": Said(self.facts, t).outcome}  # fmt: skip
        return t.table(shown, columns, caption)


def spoken_s(script: str) -> float:
    """The seconds that a script takes, numbers spoken digit by digit and names like nf4 letter by letter.

    English at 132 words a minute: people in the United States usually speak at 125 to 150 (S. E. Lucas, The Art of Public Speaking, 8th
    ed., 2004, p. 300). Chinese at 216 characters a minute, 3.6 per second: readers take 5.18 syllables per second without their long pauses
    (Pellegrino, Coupé and Marsico, Language 87, 2011, doi:10.1353/lan.2011.0057), which leaves three tenths of the time for pauses.
    """
    chinese = len(re.findall(r"[\u4e00-\u9fff]", script))
    digits = sum(len(n) for n in re.findall(r"\d+(?:\.\d+)?", script))
    words = re.findall(r"[A-Za-z]+|%", script)
    spelled = [w for w in words if len(w) <= SPELLED_OUT and (w.isupper() or not re.search("[aeiouyAEIOUY]", w))]  # nf, GPU
    spoken = len(words) - len(spelled) + sum(map(len, spelled))
    return (chinese + digits) / CHARACTERS_PER_S + spoken / WORDS_PER_S if chinese else (digits + spoken) / WORDS_PER_S
