"""Facts to a talk of seven minutes: what each slide shows, what is said on it within its seconds, and a cheat sheet for the speaker.

The slides carry intervals and numbers of blocks; the script does not: a listener keeps "a third less", not six digits.
"""

import re

from eai import strategies
from eai.errors import UserError
from eai.report import figures, sections
from eai.report.facts import Facts, effects, level, names, recommended, together
from eai.report.pages import Big, Document, Picture, Points, Prose, Section, Slide, Table, Talk, Words, code, number

SECONDS = {"opening": 60, "method": 90, "strategies": 60, "where": 60, "together": 60, "guidance": 60, "closing": 30}
WORDS_PER_S = 132 / 60
CHARACTERS_PER_S = 216 / 60
SPELLED_OUT = 4
MOST_LINES = 16
MOST_POINTS = 6


def talk(facts: Facts, t: Words) -> Talk:
    """The seven slides with their script, and the cheat sheet."""
    made = (opening, method, strategies_slide, where, both, guidance, closing)
    slides = tuple(
        Slide(title, tuple(blocks), t.sentences(*said), seconds)
        for (title, blocks, said), seconds in zip((part(facts, t) for part in made), SECONDS.values(), strict=True)
    )
    meta = sections.meta(facts, t)
    return Talk(t("Energy of LLM inference: {name}", name=facts.experiment), slides, meta, cheat_sheet(facts, t, meta))


def spoken(strategy: str) -> str:
    """The name of a strategy as one says it."""
    try:
        return strategies.get(strategy).title
    except (UserError, AttributeError):
        return strategy.replace("_", " ")


def share(ratio: float, t: Words) -> str:
    """A ratio as one says it: `27 percent less`."""
    percent = round(100 * abs(1 - ratio))
    if percent == 0:
        return t("as much")
    return t("{n} percent less", n=percent) if ratio < 1 else t("{n} percent more", n=percent)


def best_said(facts: Facts, t: Words) -> str:
    """The largest saving as one says it; why there is none."""
    row = facts.best()
    if row is None:
        return t("No strategy is shown to save energy.") if facts.baseline else t("These data compare no strategies.")
    return t("In the best case {strategy} takes {share} energy than {baseline}.", strategy=spoken(row["quantization"]),
             share=share(row["ratio_to_baseline"], t), baseline=spoken(facts.baseline))  # fmt: skip


def basis_said(facts: Facts, t: Words) -> str:
    """Where the energy comes from, as one says it."""
    return t({
        "measured": "The energy was measured by a sensor.", "estimated": "The energy is estimated from processor time, not measured.",
        "simulated": "Nothing was measured: this is a simulation.", "published": "These are published figures, not ours.",
        "predicted": "The energy is predicted, not measured.",
    }[facts.basis])  # fmt: skip


def opening(facts: Facts, t: Words):
    """The answer in one number, what was measured, where the energy comes from."""
    row = facts.best()
    big = [Big(t("{percent} % less energy", percent=number(100 * (1 - row["ratio_to_baseline"]), 2)))] if row else []
    found = sections.load_range(facts, t) if facts.only_served else t.sentences(sections.best(facts, t)) or sections.counts(facts, t)
    said = [t("Whoever runs a language model pays for it in energy. Advice is easy to find: use fewer bits, use larger batches, buy the "
        "newer "
              "card. But published figures contradict each other, and few come with an error. So our question is simple. What does one "
                  "token "
              "cost, under each choice, and how sure are we?"),
            load_said(facts, t) if facts.only_served else best_said(facts, t), basis_said(facts, t),
            t("Where the data do not decide, I will say so.")]  # fmt: skip
    return (
        t("What does a token cost, and how sure is that?"),
        [*big, Prose((found, sections.scope(facts, t), sections.basis_sentence(facts, t)))],
        said,
    )


def load_said(facts: Facts, t: Words) -> str:
    """How the cost of a token falls with load, as one says it."""
    energy = facts.loads["energy_j_per_token"]
    return t("From the cheapest load to the most expensive one, the energy of a token differs by a factor of {factor}.",
             factor=number(energy.max() / energy.min(), 2))  # fmt: skip


def method(facts: Facts, t: Words):
    """The framework and the three rules."""
    rules = [t("The replicate is a block: everything once, in random order."), t("Compare within a block: drift and sensor gain cancel."),
             t("Correct for the number of comparisons; “equal” needs a test of its own.")]  # fmt: skip
    said = [t("Here is how we measure. A configuration is one choice of strategy, hardware, batch and task. Each is run in blocks: every "
              "configuration once, in random order. Ten calls in a row are one observation, not ten. Then we compare within a block. If "
                  "the "
              "machine drifts, it drifts for both, and the error of the sensor cancels in the ratio. Finally, we correct for the number of "
              "comparisons. With twenty tests at five percent, one would be positive by chance. And we call two strategies equal only if "
                  "a test "
              "for equality says so. A missing difference is not equality; it may only be a small experiment. What was not measured "
                  "stays empty. "
              "It is never a zero."), basis_said(facts, t),
            "" if facts.provenance else t("How these repeats were run is not recorded with the data.")]  # fmt: skip
    figure = figures.flow(figures.FRAMEWORK, t)
    return (
        t("From a choice to advice"),
        [Picture("framework", figure, t("From choices over measurement to guidance.")), Points(tuple(rules))],
        said,
    )


def strategies_slide(facts: Facts, t: Words):
    """The strategies against the baseline."""
    title = t("Result 1: the strategies")
    if facts.only_served:
        metrics = (("energy_j_per_token", "energy per output token [J]"), ("energy_j_per_request", "energy per request [J]"))
        said = [t("The first result: the price of a token depends on the load. A server that batches reads its weights once for many "
            "requests. So "
                  "the more requests share a pass, the less each token costs. A figure per token without its load means little. The left "
                      "side "
                  "shows the energy of a token, the right side that of a whole request."), load_said(facts, t),
                t("These are estimates side by side; we do not test whether two loads differ.")]  # fmt: skip
        return (
            t("Result 1: the load sets the price"),
            [Picture("load-costs", figures.loads(facts, metrics, t), t("Energy against requests completed per second."))],
            said,
        )
    if not facts.baseline:
        said = [sections.counts(facts, t).replace("`", ""), t("So I show no ratio. A comparison needs two strategies in the same setting "
            "and the same "
                "blocks, because machines drift. Figures from two days or two machines differ for reasons that have nothing to do with "
                "quantization. What these data do carry is the cost of each configuration by itself, on the next slide.")]  # fmt: skip
        return title, [Prose((sections.counts(facts, t),))], said
    lower, higher = ((facts.comparisons["outcome"] == outcome).sum() for outcome in ("lower", "higher"))
    open_ = len(facts.comparisons) - lower - higher
    said = [t("The first result: the strategies. One is the baseline, {baseline}; to the left is cheaper. We made {n} comparisons. In "
        "{lower} the "
              "saving is shown, in {higher} the strategy costs "
                  "more.", baseline=spoken(facts.baseline), n=len(facts.comparisons), lower=lower,
              higher=higher),
            t("{n} are open. Open does not mean equal: it means more blocks are needed.", n=open_) if open_ else "", best_said(facts, t),
            t("Fewer bits alone save nothing: what counts is whether the kernels are fast on this hardware.") if higher else "",
            t("The report has every number with its interval, and the speed beside the energy.")]  # fmt: skip
    summed = sections.by_strategy(facts, t)
    if len(facts.comparisons) > MOST_LINES and summed:
        return title, [*summed, Prose((sections.counts(facts, t),))], said
    return title, [Picture("talk-ratios", figures.forest(facts, t, MOST_LINES), sections.counts(facts, t))], said


def where(facts: Facts, t: Words):
    """Where the cost lies: the cost itself; of a server, how long requests wait."""
    if facts.only_served:
        metrics = (("ttft_s", "time to first token [s]"), ("itl_s", "time between tokens [s]"))
        failed = int(facts.loads["requests_failed"].sum())
        said = [t("The second result: waiting. What sharing saves, somebody may pay for by waiting. On the left is the time to the first "
            "token, on "
                  "the right the time between tokens. A wait counts from when a request was due, not from when it was sent. Otherwise a "
                      "queue "
                  "could hide in the client. These times come from a clock, wherever the energy comes from."),
                t("All requests succeeded.") if not failed else t("{n} requests failed.", n=failed),
                t("So read the two curves together: one is the price, the other is what the user feels.")]  # fmt: skip
        return (
            t("Result 2: how long a request waits"),
            [Picture("load-waits", figures.loads(facts, metrics, t), t("Median waiting against requests completed per second."))],
            said,
        )
    unit = "token" if (facts.own["unit"] == "token").any() else "item"
    found = [(f, effects(facts, f)) for f in ("batch_size", "gpu", "model", "input_tokens", "output_tokens")]
    moved = [t("With everything else the same, {level} instead of {reference} makes the energy {share}, as a geometric mean.",
               level=said_level(f, e["level"], t), reference=said_level(f, e["reference"], t), share=changed(e["mean"],
                   t)) for f, e in found if e]  # fmt: skip
    figure = figures.cost(facts, unit, t)
    blocks = (
        [Picture("talk-cost", figure, sections.cost(facts, t)[0].blocks[1].paragraphs[0])] if figure else sections.by_strategy(facts, t)
    )
    said = [t("The second result: where the energy goes. This figure shows the cost itself, not a ratio."), *moved[:2],
            t("Batch size and hardware often matter as much as the format of the weights, so a saving quoted without them says little. "
                "And a word of "
              "care: joules depend on the machine and its sensor. The ratio within one machine is far more certain than its joules. If "
                  "you want to "
              "carry something home, carry the ratio.")]  # fmt: skip
    return t("Result 2: where the energy goes"), blocks, said


def said_level(factor: str, value: object, t: Words) -> str:
    """A level of a factor as one says it."""
    return level(factor, value, t) or str(value)


def changed(ratio: float, t: Words) -> str:
    """A change as one says it: `38 percent less`, `2.5 times as much`."""
    return t("{n} times as much", n=number(ratio, 2)) if ratio >= 1.5 else share(ratio, t)


def both(facts: Facts, t: Words):
    """Whether the saving of a strategy depends on where it runs."""
    title = t("Result 3: does it depend on the setting?")
    why = t("The third question: does the saving of a strategy depend on where it runs? Energies multiply. If a strategy saves a fifth, "
        "and a "
            "setting halves the cost, then together they leave forty percent, not thirty.")  # fmt: skip
    for factor in ("gpu", "batch_size", "model", "task", "input_tokens", "output_tokens"):
        crossed = together(facts, factor)
        if len(crossed):
            clear = int(((crossed["quotient_low"] > 1) | (crossed["quotient_high"] < 1)).sum())
            shown = crossed.assign(gap=(crossed["quotient"].map(lambda q: abs(q - 1)))).nlargest(12, "gap").sort_values("quotient")
            labels = [name.strip("`") for name in sections.interaction_names(crossed, factor, figures.words_for(t))]
            figure = figures.synergy(shown, facts.basis, [labels[i] for i in shown.index], t)
            seen = t.sentences(
                sections.synergy_sentence(crossed, factor, t),
                t("The {n} farthest from 1.", n=len(shown)) if len(shown) < len(crossed) else "",
            )
            said = [why, t("Then every point would lie on the line at one. We crossed the strategies with the {factor}. In {k} of {n} "
                "cases the "
                           "interval leaves the line.", factor=t(sections.FACTOR[factor]), k=clear, n=len(crossed)),
                    t("So do not carry a saving from one setting to another: measure it there.") if clear else t(
                        "So the data do not contradict plain multiplication, but they exclude only what lies outside the intervals."),
                    t("To the left of the line, the strategy saves more in that setting than in the reference.")]  # fmt: skip
            return title, [Picture("talk-together", figure, seen)], said
    told = t("Not measured: strategy and setting were never crossed in the same blocks, so nothing is claimed about it.")
    said = [why, t("These data cannot answer the question. It takes two strategies in two settings, crossed in the same blocks. So "
        "nothing is claimed "
                   "about it here, and any figure that joins two separate experiments would be invented.")]  # fmt: skip
    return title, [Prose((told,))], said


def guidance(facts: Facts, t: Words):
    """What to choose."""
    title = t("What should you deploy?")
    reach = t("It holds for this hardware, this model and these lengths. Elsewhere, measure first.")
    if facts.only_served:
        said = [t("What follows? Nothing about strategies: the rows of a server are loads, and loads are not chosen, they come. What you "
            "can choose is "
                  "how many requests share a pass. These curves price that choice: less energy on one, longer waits on the other. Decide "
                      "how long "
                  "your users may wait, find that point on the curve, and read off what a token costs there."), reach]  # fmt: skip
        return title, [*[Prose(tuple(b.paragraphs)) for b in sections.guidance(facts, t)[0].blocks], Prose((reach,))], said
    table = recommended(facts)
    told = sections.rules(facts, t)
    if table.empty:
        said = [t("What should you deploy? These data do not say. A recommendation needs a comparison with a baseline in the same "
            "blocks, and there is "
                  "none here. Naming a winner would be a guess with a number on it. Measure the baseline in the same blocks, and this "
                      "slide will "
                  "have an answer."), score_said(facts, t), reach]  # fmt: skip
        return title, [Points(tuple(told[:MOST_POINTS]))], said
    chosen = table[table["why"] == "shown"]["choice"].value_counts()
    first = t("In {k} of {n} settings the choice is "
        "{strategy}.", k=int(chosen.iloc[0]), n=len(table), strategy=spoken(chosen.index[0])) if len(chosen) else (
        t("In no setting is a strategy shown to beat the baseline, so stay with it."))  # fmt: skip
    said = [t("What should you deploy? These rules are computed from the comparisons you have just seen. For each setting we take the "
        "strategy with "
              "the largest saving that is shown, and never one whose score is no better than guessing."), first, score_said(facts, t),
            t("Where two intervals overlap, take the one that is easier to run."), reach]  # fmt: skip
    if len(told) > MOST_POINTS:
        rows = tuple((code(name), f"{k} / {len(table)}") for name, k in chosen.items())
        shown = [Table((t("strategy"), t("chosen in settings")), rows, t("By the largest saving that is shown; scores above chance only."))]
    else:
        shown = [Points(tuple(told))]
    return title, [*shown, Prose((reach,))], said


def score_said(facts: Facts, t: Words) -> str:
    """What the scores say, as one says it."""
    if facts.scored.empty:
        return t("No task was scored, so nothing is said about quality. A cheaper strategy may be a worse one.")
    poor = facts.table[facts.table["at_chance"]]["quantization"].unique()
    listed = t.join(spoken(name) for name in poor)
    named = t("Careful with {names}: somewhere its score is no better than guessing.", names=listed) if len(poor) else ""
    return t.sentences(
        named, t("The scores rest on {n} questions each, so small losses of quality stay hidden.", n=int(facts.scored["n_items"].median()))
    )


def closing(facts: Facts, t: Words):
    """What to take home."""
    found = (
        (sections.load_range(facts, t), sections.wait_range(facts, t))
        if facts.only_served
        else (sections.counts(facts, t), sections.best(facts, t))
    )
    again = t("`eai report {name}` writes these pages again.", name=facts.experiment.replace("`", ""))
    said = [t("To sum up."), load_said(facts, t) if facts.only_served else best_said(facts, t), basis_said(facts, t),
            t("Everything can be computed again from the recorded readings.") if facts.provenance else "",
            t("A number without its load, its batch and its error is not a result. Thank you.")]  # fmt: skip
    return t("To take home"), [Points((*filter(None, found), sections.basis_sentence(facts, t))), Prose((again,))], said


def cheat_sheet(facts: Facts, t: Words, meta: str) -> Document:
    """One page for the speaker: the numbers to know, what to answer, what not to say."""
    rows = []
    if len(facts.tested):
        table = facts.comparisons.reset_index(drop=True)
        order = table.sort_values("ratio_to_baseline").index
        labels = names(table, t)
        for i in [*order[:3], *order[-2:]] if len(order) > 5 else order:
            row = table.loc[i].to_dict()
            rows.append(
                (labels[i], share(row["ratio_to_baseline"], t), t.of(row, "ratio_to_baseline"), t(sections.OUTCOMES[row["outcome"]]))
            )
    numbers = [Table((t("configuration"), t("in words"), t("ratio"), t("outcome")), tuple(rows), t("The numbers to know."))] if rows else [
        Prose((sections.load_range(facts, t) if len(facts.loads) else sections.counts(facts, t),))]  # fmt: skip
    plan = Table((t("minute"), t("slide"), t("seconds")),
                 tuple((f"{sum(list(SECONDS.values())[:i]) // 60}:{sum(list(SECONDS.values())[:i]) % 60:02d}", t(SLIDES[name]), str(s))
                       for i, (name, s) in enumerate(SECONDS.items())), t("Seven minutes."))  # fmt: skip
    answers = [
        t("How was it measured? {basis}", basis=sections.basis_sentence(facts, t)),
        t("Why not just average ten runs? Runs in one process share their luck; the block is the replicate."),
        t("Is it the same on my machine? The ratio may carry over, the joules do not. Measure there."),
        t("What about quality? {answer}", answer=score_said(facts, t)),
    ]
    never = [t("“No difference” where the answer is “not decided”."), t("A cost per token without batch or load."),
             *([t("“Measured”: this energy is not.")] if facts.basis != "measured" else [])]  # fmt: skip
    sheet = (Section(t("Numbers"), tuple(numbers)), Section(t("Time"), (plan,)), Section(t("If they ask"), (Points(tuple(answers)),)),
             Section(t("Do not say"), (Points(tuple(never)),)))  # fmt: skip
    return Document(t("Cheat sheet: {name}", name=facts.experiment), (), sheet, meta)


SLIDES = {"opening": "opening", "method": "method", "strategies": "result 1", "where": "result 2", "together": "result 3",
          "guidance": "guidance", "closing": "closing"}  # fmt: skip


def spoken_s(script: str) -> float:
    """The seconds that a script takes, numbers spoken digit by digit and names like nf4 letter by letter.

    English at 132 words a minute: people in the United States usually speak at 125 to 150 (S. E. Lucas, The Art of Public Speaking, 8th
    ed., 2004, p. 300). Chinese at 216 characters a minute, 3.6 per second: readers take 5.18 syllables per second without their long pauses
    (Pellegrino, Coupé and Marsico, Language 87, 2011, doi:10.1353/lan.2011.0057), which leaves three tenths of the time for pauses.
    """
    chinese = re.findall(r"[\u4e00-\u9fff]", script)
    digits = sum(len(n) for n in re.findall(r"\d+(?:\.\d+)?", script))
    words = sum(_words(word) for word in re.findall(r"[A-Za-z]+|%", script))
    if chinese:
        return (len(chinese) + digits) / CHARACTERS_PER_S + words / WORDS_PER_S
    return (digits + words) / WORDS_PER_S


def _words(word: str) -> int:
    """As how many words a word is spoken: letter by letter where it is short and has no vowel, `nf`, or is in capitals, `GPU`."""
    is_spelled = len(word) <= SPELLED_OUT and (word.isupper() or not re.search("[aeiouyAEIOUY]", word))
    return len(word) if is_spelled else 1
