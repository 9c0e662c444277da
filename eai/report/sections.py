"""Facts to the report, the talk of seven minutes and the cheat sheet: what `templates/said/*.txt` puts in order, each only where a table
carries it. Slides have intervals and numbers of blocks, the script has none: a listener keeps "a third less", not six digits.
"""

import datetime
import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai import __version__, plots, strategies
from eai.analyze import deployment
from eai.analyze.summary import retention
from eai.errors import UserError
from eai.plots.style import chinese_font
from eai.report.facts import FACTORS, SETTING, Facts, effects, interactions, level, names, recommended, varied, where
from eai.report.pages import CALLED, Document, Picture, Section, Table, Words, code, composed, number

FEW_BLOCKS = 5
MOST_NAMED = 6
MOST_LINES = 24
MOST_ON_A_SLIDE = 16
CROSSED = ("gpu", "batch_size", "model", "task", "input_tokens", "output_tokens")


def report(facts: Facts, t: Words, said: "Said | None" = None) -> Document:
    """The whole report."""
    abstract, *sections = composed("report.txt", t, facts=facts, s=said or Said(facts, t))
    title = t("Energy of LLM inference: experiment {name}", name=facts.experiment)
    return Document(title, tuple(p for block in abstract.blocks for p in block.texts), tuple(sections), meta(facts, t))


def talk(facts: Facts, t: Words, s: "Said | None" = None) -> tuple[Document, Document]:
    """The seven slides with their script, and the cheat sheet; `s` has the figures of the report."""
    s = s or Said(facts, t)
    said, factor = Spoken(facts, t, s), next((f for f in CROSSED if len(interactions(facts, f))), "")
    slides = composed("talk.txt", t, facts=facts, s=s, said=said, factor=factor, chosen=recommended(facts))
    rows = tuple((begins, slide.title, str(slide.seconds)) for slide, begins in timed(slides))
    timetable = Table((t("minute"), t("slide"), t("seconds")), rows, t("Seven minutes."))
    sheet = composed("cheat.txt", t, facts=facts, s=s, said=said, timetable=timetable)
    title, cheat = (t(known, name=facts.experiment) for known in ("Energy of LLM inference: {name}", "Cheat sheet: {name}"))
    return Document(title, (), slides, meta(facts, t)), Document(cheat, (), sheet, meta(facts, t))


def meta(facts: Facts, t: Words) -> str:
    """When, on what and with what it was recorded, and what wrote the page when."""
    jobs = facts.provenance
    days = sorted({str(job["at"])[:10] for job in jobs if job.get("at")})
    machines = sorted({", ".join(filter(None, (str(job.get("machine", {}).get("cpu", "")), card(job)))) for job in jobs})
    commits = sorted({str(job["commit"])[:8] for job in jobs if job.get("commit")})
    when = t("recorded {days} on {machines}", days=t.join(days), machines=t.join(machines)) if days else t("no record of date and machine")
    return written_by(t, facts.experiment, when, t("commit {commits}", commits=t.join(commits)) if commits else t("commit unknown"))


def card(job: dict) -> str:
    """The card of a job; empty for a processor."""
    return "" if job.get("gpu", "cpu") == "cpu" else str(job["gpu"])


def written_by(t: Words, *what: str) -> str:
    """The line of date, version, commit and machine."""
    return " · ".join((*what, t("eai {version}, page of {day}", version=__version__, day=datetime.date.today().isoformat())))


def first_up(text: str) -> str:
    """The text with its first letter as a capital; a text that begins with code stays."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Said:
    """What may be said of an experiment in a language: each method gives a sentence, a table or a figure; nothing where none carries it."""

    facts: Facts
    t: Words
    drawn: dict[str, Picture] = field(default_factory=dict)

    def figure(self, name: str, *how, **more) -> Picture:
        """A figure (Words.figure), drawn once for all pages."""
        if name not in self.drawn:
            self.drawn[name] = self.t.figure(name, *how, **more)
        return self.drawn[name]

    def table(self, frame: pd.DataFrame, columns: dict, caption: str, csv: str, **more) -> list[Table]:
        """A table of a frame whose rows have their names; none without rows."""
        return [self.t.table(frame.assign(name=names(frame, self.t)), columns, caption, csv, **more)] if len(frame) else []

    def named_ends(self, table: pd.DataFrame, column: str) -> dict[str, str]:
        """The lowest and the highest value of a column with the names of their rows: low, low_name, high, high_name."""
        labels, found = names(table, self.t), {}
        for end, i in (("low", table[column].idxmin()), ("high", table[column].idxmax())):
            found |= {end: self.t.of(table.loc[i].to_dict(), column), f"{end}_name": labels[i]}
        return found

    @property
    def base(self) -> str:
        return code(self.facts.baseline)

    def quantity(self, words: str) -> str:
        """A quantity in words that say where the energy comes from."""
        basis = self.facts.basis
        return self.t(words) if basis == "measured" else self.t("{basis} {quantity}", basis=self.t(basis), quantity=self.t(words))

    def compared(self) -> str:
        """What the comparisons compare."""
        units = set(self.facts.comparisons["unit"])
        return self.quantity(CALLED["compared"][units.pop() if len(units) == 1 else "both"])

    def captioned(self, sentence: str, unit: str = "", **values: str) -> str:
        """A caption that begins with what is shown: the energy of a unit of work, or what the comparisons compare."""
        quantity = self.quantity(CALLED["compared"][unit]) if unit else self.compared()
        return self.t(sentence, quantity=first_up(quantity), baseline=self.base, **values)

    def basis(self) -> str:
        """Where the energy comes from; measured or estimated by others where no provenance of ours says so."""
        elsewhere = {"measured": "stated", "estimated": "elsewhere"} if self.facts.is_foreign else {}
        return self.t(CALLED["bases"][elsewhere.get(self.facts.basis, self.facts.basis)])

    @property
    def boundary(self) -> str:
        return CALLED["boundaries"].get(str(self.facts.table["boundary"].iloc[0]), "What the energy covers is not recorded.")

    def scope(self) -> str:
        t, blocks = self.t, self.facts.table["n_blocks"]
        listed = {name: t.join(level(column, v, t) for v in self.facts.levels(column)) for name, column in
                  (("strategies", "quantization"), ("models", "model"), ("gpus", "gpu"))}  # fmt: skip
        known = "{n} configurations: {strategies}; models: {models}; hardware: {gpus}; {blocks} blocks each."
        return t(known, n=len(self.facts.table), **listed, blocks=t.span(int(blocks.min()), int(blocks.max())))

    def counts(self) -> str:
        """How the comparisons with the baseline came out; why there are none."""
        t, table = self.t, self.facts.comparisons
        if table.empty:
            alone = self.facts.table["quantization"].nunique() == 1
            none = "Strategies are not compared: no baseline was measured in the same settings."
            return t("Nothing is compared: only one strategy was measured." if alone else none)
        if not self.facts.baseline:
            return t("Strategies are not compared: the baseline {name} was not measured.", name=code(table["baseline"].iloc[0]))
        n = table["outcome"].value_counts()
        known = "Of {n} comparisons with {baseline}, {lower} show a lower {quantity} and {higher} a higher one."
        rest = {"equivalent": "{n} are equivalent within the margin.", "inconclusive": "{n} are not decided: more blocks are needed.",
                "not_testable": "{n} could not be tested."}  # fmt: skip
        shown = {"lower": n.get("lower", 0), "higher": n.get("higher", 0), "quantity": self.compared()}
        return t.sentences(t(known, n=len(table), baseline=self.base, **shown),
                           *(t(words, n=n[outcome]) for outcome, words in rest.items() if n.get(outcome)))  # fmt: skip

    def best(self) -> str:
        """The largest saving that is shown."""
        row, t, table = self.facts.best(), self.t, self.facts.comparisons
        if row is None:
            return t("No saving is shown.") if len(self.facts.tested) else ""
        name = names(table, t)[table.index[table["configuration_id"] == row["configuration_id"]][0]]
        known = "The largest saving shown: {name} takes {percent} % less than {baseline}, × {ratio} (95 % interval, n = {n} paired blocks)."
        ends = {"percent": number(100 * (1 - row["ratio_to_baseline"]), 2), "ratio": t.of(row, "ratio_to_baseline")}
        return t(known, name=name, baseline=self.base, n=int(row["n_pairs"]), **ends)

    def headline(self) -> str:
        """The largest saving in one number."""
        row = self.facts.best()
        saved = row and number(100 * (1 - row["ratio_to_baseline"]), 2)
        return self.t("{percent} % less {energy}", percent=saved, energy=self.quantity("energy")) if row else ""

    def chance(self) -> str:
        """The configurations whose score is not shown above what guessing scores."""
        poor = self.facts.scored[self.facts.scored["at_chance"]]
        if poor.empty:
            return ""
        listed = names(self.facts.table, self.t)
        found = [listed[i] for i in poor.index]
        more = self.t(" and {n} more", n=len(found) - MOST_NAMED) if len(found) > MOST_NAMED else ""
        known = "**Not shown to score above chance: {names}.** They are recommended nowhere."
        return self.t(known, names=self.t.join(found[:MOST_NAMED]) + more)

    def bare(self, factor: str, value: object) -> str:
        """A level beside the name of its factor: a number alone."""
        if factor == "weights":
            return self.t(str(value))
        return str(value) if factor == "batch_size" or factor.endswith("_tokens") else level(factor, value, self.t)

    def setup_table(self) -> Table:
        t, facts = self.t, self.facts
        rows = [
            (t(CALLED["factors"][f]), t.join(self.bare(f, v) for v in facts.levels(f)))
            for f in ("quantization", *FACTORS)
            if facts.levels(f)
        ]
        traffic = [v for v in facts.levels("load") if v]
        rows += [(t("load"), t.join(traffic))] if traffic else []
        return Table((t("factor"), t("levels")), tuple(rows), t("What was varied, and between which levels."))

    def machines(self) -> list[str]:
        """Machine, software and meter of each job; of one that drove a server the software is the client's."""
        t, unknown = self.t, self.t("No provenance was recorded: machine and software are unknown.")
        lines = []
        for job in self.facts.provenance:
            machine, versions = job.get("machine", {}), job.get("versions", {})
            said = job.get("limitations") or []
            if machine:
                known = [f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "bitsandbytes") if versions.get(name)]
                software = "Software of the client, not of the server: {versions}." if job.get("server") else "Software: {versions}."
                parts = {"cpu": machine.get("cpu", "?"), "cores": machine.get("cores", "?"), "memory": machine.get("memory_gb", "?")}
                lines += [
                    t("Machine: {cpu}, {cores} cores, {memory} GB of memory{gpu}.", **parts, gpu=f", {card(job)}" if card(job) else ""),
                    t(software, versions=t.join(known)),
                    t("Meter: {meter}.", meter=code((job.get("meter") or {}).get("meter", "?"))),
                ]
            else:  # imported: what the source says of its energies stands in its own words
                said = [f"{boundary}: {words}" for boundary, words in (job.get("basis_words") or {}).items() if words]
                lines.append(unknown)
            lines += [t("Recorded with the data: {lines}.", lines="; ".join(said))] if said else []
        return list(dict.fromkeys(lines)) or [unknown]

    def left_out(self) -> str:
        rows = self.facts.left_out.sort_values("n", ascending=False).to_dict("records")
        reasons = [f"{r['n']} {r['status'].replace('_', ' ')}" + (f" ({r['reason']})" if r["reason"] else "") for r in rows]
        return self.t("Windows left out: {lines}.", lines="; ".join(reasons)) if reasons else self.t("No window was left out.")

    def steadiness(self) -> str:
        n = self.facts.table["gate"].value_counts()
        known = "Configurations by their spread between blocks: {ok} up to 2 %, {noisy} up to 5 % or of a single block, {rejected} more."
        more = self.t("Absolute costs of the last are rough; their paired ratios still hold.") if n.get("rejected") else ""
        return self.t.sentences(self.t(known, **{g: n.get(g, 0) for g in ("ok", "noisy", "rejected")}), more)

    def costs(self, unit: str) -> pd.DataFrame:
        """The rows of a model in this process by unit of work."""
        table = self.facts.own
        return table[(table["unit"] == unit) & table["unit_energy_j"].notna()].reset_index(drop=True)

    def units(self) -> list[str]:
        return [unit for unit in ("token", "item") if len(self.costs(unit))]

    def cost_range(self, unit: str) -> str:
        known = "The {quantity} runs from {low} J ({low_name}) to {high} J ({high_name})."
        return self.t(known, quantity=self.quantity(CALLED["compared"][unit]), **self.named_ends(self.costs(unit), "unit_energy_j"))

    def cost_picture(self, unit: str) -> Picture:
        t, table = self.t, self.costs(unit)
        cheapest, crowded = code(table.loc[table["unit_energy_j"].idxmin(), "quantization"]), plots.crowded(table)
        seen = self.captioned("{quantity} by strategy. The lowest point belongs to {name}.", unit, name=cheapest)
        many = "Large: the median of many series, whose intervals stand in the table."
        hollow = t("Hollow: the blocks spread by more than 5 %.") if (table["gate"] == "rejected").any() and not crowded else ""
        caption, tasks = t.sentences(seen, t(many if crowded else "Bars: 95 % intervals of block means."), hollow), table["task"].nunique()
        height_in = -(-tasks // 3) * (1.0 + 0.28 * table["quantization"].nunique()) + 0.3
        return self.figure(f"cost-{unit}", caption, lambda ax: plots.cost(table, ax), height_in, wide=tasks > 1)

    def undecided(self) -> list[str]:
        """What was not decided, and what could not be tested and why."""
        t, table = self.t, self.facts.comparisons.reset_index(drop=True)
        if not self.facts.baseline or table.empty:
            return []
        undecided = [name for name, outcome in zip(names(table, t), table["outcome"], strict=True) if outcome == "inconclusive"]
        lines = [t("Not decided: {names}. That is not “no difference”.", names=t.join(undecided))] * (0 < len(undecided) <= MOST_NAMED)
        for row in table[table["outcome"] == "not_testable"].head(MOST_NAMED).to_dict("records"):
            lines.append(t("{name} could not be tested: {reason}.", name=code(row["quantization"]), reason=str(row["reason"]).rstrip(".")))
        return lines

    def by_strategy(self) -> list[Table]:
        """Each strategy over all settings: geometric mean and range of its ratios, and how many are shown."""
        t, table = self.t, self.facts.tested
        if len(table) < 2 or table.groupby("quantization").size().max() < 2:
            return []
        rows = []
        for name, group in table.groupby("quantization", sort=False):
            r, shown = group["ratio_to_baseline"], [(group["outcome"] == outcome).sum() for outcome in ("lower", "higher")]
            mean, ends = number(float(r.prod() ** (1 / len(r)))), t.span(number(r.min()), number(r.max()))
            rows.append((code(name), mean, ends, str(len(r)), f"{shown[0]} / {shown[1]}"))
        head = ("strategy", "geometric mean of ratios", "range", "settings", "lower / higher, shown")
        known = t("Each strategy over all settings in which it was compared with {baseline}.", baseline=self.base)
        return [Table(tuple(map(t, head)), tuple(rows), known)]

    def forest(self, name: str) -> list[Picture]:
        """Every ratio to the baseline with its interval, the strongest saving first."""
        t, table = self.t, self.facts.comparisons
        if not self.facts.baseline or table.empty:
            return []
        table = table.sort_values("ratio_to_baseline", na_position="last").assign(basis=self.facts.basis)
        drawn = min(len(table), MOST_LINES)
        seen = t("The {shown} lowest of {all} ratios; all stand in the table.", shown=drawn, all=len(table)) if drawn < len(table) else ""
        known = "Ratios to {baseline}: left of 1 is less energy; grey band: equivalence margin; bars: 95 % intervals."
        caption = t.sentences(t(known, baseline=self.base), seen)
        return [self.figure(name, caption, lambda ax: plots.forest(table, ax, MOST_LINES), 0.9 + 0.2 * drawn)]

    def factors(self) -> list[str]:
        return [f for f in FACTORS if f != "weights" and len(self.facts.levels(f)) > 1]

    def effect(self, factor: str, sentence: str) -> str:
        """What a factor does to the cost."""
        t, found = self.t, effects(self.facts, factor) if factor != "task" else None
        if not found:
            return ""
        ends = {end: level(factor, found[end], t) or found[end] for end in ("level", "reference")}
        numbers = {k: number(found[k]) for k in ("low", "high", "mean")}
        return t(sentence, factor=first_up(t(CALLED["factors"][factor])), n=found["n"], **ends, **numbers)

    def interaction(self, factor: str, caption: str) -> list:
        """Whether a strategy's saving depends on a factor, with its table."""
        t, table = self.t, interactions(self.facts, factor)
        if table.empty:
            return []
        columns = {
            "configuration": lambda r: code(f"{r['quantization']}, {level(factor, r['level'], t)}"), "ratio there": "ratio_at_level",
            "ratio at the reference": "ratio_at_reference", "quotient": "synergy", "p (Holm)": "p_holm", "outcome": "outcome",
        }  # fmt: skip
        caption = t(caption, baseline=self.base, reference=level(factor, table["reference"].iloc[0], t))
        return [self.interaction_words(table, factor), t.table(table, columns, caption, appendix=True)]

    def interaction_words(self, table: pd.DataFrame, factor: str) -> str:
        """How many interactions are shown."""
        clear = int(table["outcome"].isin(["lower", "higher"]).sum())
        known = "Does a strategy's saving depend on the {factor}? {k} of {n} interactions are shown (Holm's correction)."
        return self.t(known, factor=self.t(CALLED["factors"][factor]), k=clear, n=len(table))

    def score_words(self) -> str:
        """On how many items the scores rest, and how wide their intervals are."""
        t, table = self.t, self.facts.scored
        items = t.span(f"{int(table['n_items'].min()):,}", f"{int(table['n_items'].max()):,}")
        wide = number(100 * (table["score_high"] - table["score_low"]).median(), 2)
        known = "An interval is {points} percentage points wide (median): smaller differences in score are not decided."
        return t.sentences(t("Each score is over {items} items.", items=items), t(known, points=wide))

    def quality(self, caption: str) -> Picture:
        table = self.facts.scored
        front, tasks = deployment.pareto(table, np.random.default_rng(0)), table["task"].nunique()
        return self.figure("quality", caption, lambda ax: plots.quality(front, ax), 1.0 + 2.4 * -(-tasks // 3), wide=tasks > 1)

    def scores(self) -> pd.DataFrame:
        """The scored rows, with a remark on those that only guess."""
        table = self.facts.scored
        return table.assign(remark=table["at_chance"].map({True: self.t("not above chance"), False: ""}))

    def rules(self) -> list[str]:
        """A sentence a setting: the strategy to take by the paired comparisons, what it saves, and whether another is close."""
        t, table = self.t, recommended(self.facts)
        if table.empty:
            return [t("No recommendation: nothing was compared with a baseline.")]
        varying = varied(table, ("gpu", "model", "engine", "task", "input_tokens", "output_tokens", "batch_size"))
        lines = []
        for r in table.to_dict("records"):
            words = {"where": first_up(where(r, varying, t)), "choice": r["choice"]}
            if not r["choice"]:
                lines.append(t("{where}: no recommendation, no score is shown above chance.", **words))
            elif not r["shown"]:
                lines.append(t("{where}: stay with **{choice}**; no strategy is shown to take less energy.", **words))
            else:
                words |= {"percent": number(100 * (1 - r["ratio"]), 2), "baseline": self.base, "ratio": t.of(r, "ratio")}
                known = t("{where}: **{choice}** takes {percent} % less energy than {baseline} (× {ratio}).", **words)
                close = t("{rival} is close: the intervals overlap.", rival=code(r["rival"])) if r["rival"] else ""
                lines.append(t.sentences(known, close, self.score_remark(r)))
        return lines

    def score_remark(self, rule: dict) -> str:
        """What a choice scores beside the baseline, where the task was scored."""
        t, scored = self.t, self.facts.scored
        rows = scored[(scored[list(SETTING)] == pd.Series({k: rule[k] for k in SETTING})).all(axis=1)].set_index("quantization")
        if not {rule["choice"], self.facts.baseline} <= set(rows.index):
            return ""
        own, base = (rows.loc[[name]].iloc[0].to_dict() for name in (rule["choice"], self.facts.baseline))
        if own["score_low"] <= base["score_high"] and base["score_low"] <= own["score_high"]:
            known = "Score {own} % against {base} %: {items} items do not decide between them."
            ends = {"own": number(100 * own["score"], 2), "base": number(100 * base["score"], 2)}
            return t(known, **ends, items=int(own["n_items"]))
        return t("Score {own} % against {base} %.", own=t.percent(own, "score"), base=t.percent(base, "score"))

    def matrix(self, caption: str) -> list[Table]:
        """The deployment matrix within each model and task, as the notebook plot computes it (analyze.deployment.matrix)."""
        t, own = self.t, self.facts.own
        if len(own) < 2:
            return []
        table = deployment.matrix(own, np.random.default_rng(0), retention(own, self.facts.answers))
        varying = varied(table, ("model", "task", "input_tokens", "output_tokens"))
        with plots.language(t, False):
            rows = [(where(r, varying, t), *(text or "-" for text in plots.matrix_texts(r))) for r in table.to_dict("records")]
        head = ("work", "scenario", "hardware, strategy, batch", "energy saved", "score kept", "units/s", "probability")
        caption = t(caption, baseline=code(self.facts.baseline or "-"), basis=t(self.facts.basis))
        return [Table(tuple(map(t, head)), tuple(rows), caption, "deployment_matrix.csv")] if rows else []

    def load_picture(self, name: str, metrics: list[str], caption: str) -> Picture:
        """Load curves against requests completed per second, one panel a metric."""

        def draw(axes) -> None:
            for ax, metric in zip(axes, metrics, strict=True):
                plots.load_curve(self.facts.loads, ax, metric)

        return self.figure(name, caption, draw, 2.9, len(metrics))

    def loads(self) -> pd.DataFrame:
        """The loads, with how many of all requests failed."""
        table = self.facts.loads
        failed = table["requests_failed"].astype(str) + " / " + (table["requests"] + table["requests_failed"]).astype(str)
        return table.assign(failed=failed)

    def over_loads(self, column: str, sentence: str) -> str:
        """A sentence on the loads at which a column is lowest and highest; empty where it is not known."""
        table = self.facts.loads.reset_index(drop=True)
        if table.empty or table[column].isna().all():
            return ""
        return self.t(sentence, n=len(table), quantity=self.quantity(CALLED["compared"]["token"]), **self.named_ends(table, column))

    def load_range(self) -> str:
        known = "Over {n} loads the {quantity} runs from {low} J ({low_name}) to {high} J ({high_name})."
        return self.over_loads("energy_j_per_token", known)

    def wait_range(self) -> str:
        return self.over_loads("ttft_s", "The median time to the first token runs from {low} s ({low_name}) to {high} s ({high_name}).")

    def failures(self, some: str, none: str) -> str:
        table = self.facts.loads
        failed, everything = int(table["requests_failed"].sum()), int(table[["requests", "requests_failed"]].sum().sum())
        return self.t(some if failed else none, failed=failed, all=f"{everything:,}")

    def billed(self) -> str:
        """Whose processes the energy of a server is of; that this is unknown where no provenance says so."""
        if not any(job.get("server") for job in self.facts.provenance):
            return self.t("Whose processes are counted is not recorded with the data.")
        if self.facts.basis == "estimated":
            return self.t("Counted is the CPU time of the server's own processes, not that of the client.")
        if self.facts.table["boundary"].iloc[0] == "gpu":
            return self.t("Counted are the cards that the server's processes are on; the client uses none.")
        return self.t("Counted is the whole processor or machine, so the client on the same machine is in it (column `client_cpu_s`).")

    def remarks(self) -> list[str]:
        """A sentence for each remark on windows that changes what may be concluded."""
        table, every = self.facts.loads, self.t("every load")
        labels, flags = names(table, self.t), table["flags"].fillna("").astype(str)
        found = {flag: [name for name, text in zip(labels, flags, strict=True) if flag in text] for flag in CALLED["remarks"]}
        return [
            self.t(CALLED["remarks"][flag], names=self.t.join(of) if len(of) < len(labels) else every) for flag, of in found.items() if of
        ]

    def limits(self) -> list[str]:
        """What these data cannot say, the gravest first."""
        facts, t = self.facts, self.t
        alone = [f for f in ("gpu", "model", "task", "input_tokens", "output_tokens", "batch_size") if len(facts.levels(f)) == 1]
        single = [t("{factor}: only {level}", factor=t(CALLED["factors"][f]), level=self.bare(f, facts.levels(f)[0])) for f in alone]
        n = int(facts.table["n_blocks"].max())
        savings = (facts.comparisons["outcome"] == "lower").sum() if len(facts.comparisons) else 0
        said = {
            self.basis(): facts.basis != "measured",
            t("Not varied, so nothing is said about it: {levels}.", levels="; ".join(single)): single,
            t("One block: every number is a single observation, without interval or test."): n == 1,
            t("At most {n} blocks: intervals are wide, small differences cannot be shown.", n=n): 1 < n < FEW_BLOCKS,
            t("The largest of several savings was picked afterwards: a repetition will on average find it a little smaller."): savings > 1,
            t("Weights are random: energy and speed are those of the shapes, scores are not measured."): set(facts.table["weights"])
            - {"published"},
            t("No task score was measured: a cheaper strategy may be a worse one."): facts.scored.empty and not facts.only_served,
            t("Another card or machine of the same kind may differ by its sensor's gain and its own make."): True,
            t("Figures are in English: no font with Chinese characters is installed."): t.language == "zh" and not chinese_font(),
        }
        return [sentence for sentence, holds in said.items() if holds]

    def again(self) -> str:
        """How to write the page again."""
        known = "`eai replay {name}` derives every energy again from its raw readings; `eai report {name}` writes this page again."
        sentence = "`eai report {name}` writes this page again." if self.facts.is_foreign else known
        return self.t(sentence, name=self.facts.experiment.replace("`", ""))


@dataclass(frozen=True)
class Spoken:
    """What one says of an experiment, without intervals, and the figures of the slides."""

    facts: Facts
    t: Words
    s: Said

    def strategy(self, slug: str) -> str:
        """The name of a strategy as one says it."""
        try:
            title = strategies.get(slug).title
        except (UserError, AttributeError):
            title = slug.replace("_", " ")
        return self.t.catalogue.get(title, title)

    def share(self, ratio: float) -> str:
        """A ratio as one says it: `27 percent less`, `2.5 times as much`."""
        percent = round(100 * abs(1 - ratio))
        if ratio >= 1.5:
            return self.t("{n} times as much", n=number(ratio, 2))
        return self.t("{n} percent less" if ratio < 1 else "{n} percent more", n=percent) if percent else self.t("as much")

    def answer(self) -> str:
        """The largest saving, or of a server what the load does; why there is none."""
        t, row = self.t, self.facts.best()
        if self.facts.only_served and (energy := self.facts.loads["energy_j_per_token"]).notna().any():
            known = "From the cheapest load to the most expensive one, the energy of a token differs by a factor of {factor}."
            return t(known, factor=number(energy.max() / energy.min(), 2))
        if row is None:
            return t("No strategy is shown to save energy.") if self.facts.baseline else t("These data compare no strategies.")
        names = {"strategy": self.strategy(row["quantization"]), "baseline": self.strategy(self.facts.baseline)}
        return t("In the best case {strategy} takes {share} energy than {baseline}.", share=self.share(row["ratio_to_baseline"]), **names)

    def basis(self) -> str:
        return self.t(CALLED["spoken_bases"][self.facts.basis])

    def framework(self) -> Picture:
        caption = self.t("From the choices through the measurement to the guidance.")
        return self.t.figure("framework", caption, plots.framework, 1.9, wide=True)

    def ratios(self) -> list:
        """The ratios as a figure, or where they are many each strategy over all settings."""
        summed = self.s.by_strategy()
        return [*summed, self.s.counts()] if len(self.facts.comparisons) > MOST_ON_A_SLIDE and summed else self.s.forest("ratios")

    def outcomes(self, counted: str, still_open: str) -> str:
        """How the comparisons came out."""
        outcomes = list(self.facts.comparisons["outcome"])
        lower, higher, n = outcomes.count("lower"), outcomes.count("higher"), len(outcomes)
        known = self.t(counted, baseline=self.strategy(self.facts.baseline), n=n, lower=lower, higher=higher)
        return self.t.sentences(known, self.t(still_open, n=n - lower - higher) if n > lower + higher else "")

    def moved(self, sentence: str) -> str:
        """What the first two factors do to the cost."""
        t, factors = self.t, ("batch_size", "gpu", "model", "input_tokens", "output_tokens")
        found = [(f, e) for f in factors if (e := effects(self.facts, f))][:2]
        ends = [{end: level(f, e[end], t) or str(e[end]) for end in ("level", "reference")} for f, e in found]
        return t.sentences(*(t(sentence, share=self.share(e["mean"]), **w) for (_, e), w in zip(found, ends, strict=True)))

    def crossed(self, factor: str) -> pd.Series:
        """Which interactions with a factor are shown."""
        return interactions(self.facts, factor)["outcome"].isin(["lower", "higher"])

    def clear(self, factor: str, sentence: str) -> str:
        shown = self.crossed(factor)
        return self.t(sentence, factor=self.t(CALLED["factors"][factor]), k=int(shown.sum()), n=len(shown))

    def together(self, factor: str) -> Picture:
        """The interactions with a factor, those farthest from 1."""
        t, table = self.t, interactions(self.facts, factor)
        shown = table.assign(gap=(table["synergy"] - 1).abs()).nlargest(12, "gap").sort_values("synergy")
        more = t("The {n} farthest from 1.", n=len(shown)) if len(shown) < len(table) else ""
        seen = t.sentences(self.s.interaction_words(table, factor), t("Bars: 95 % intervals; at 1 the two just multiply."), more)
        return t.figure("talk-together", seen, lambda ax: plots.synergy(shown, ax), 1.1 + 0.25 * len(shown))

    def chosen(self) -> pd.Series:
        """In how many settings each strategy is chosen."""
        table = recommended(self.facts)
        return table.loc[table["shown"], "choice"].value_counts()

    def choices(self, caption: str) -> Table:
        rows = tuple((code(name), f"{k} / {len(recommended(self.facts))}") for name, k in self.chosen().items())
        return Table((self.t("strategy"), self.t("chosen in settings")), rows, caption)

    def choice(self, most: str, none: str) -> str:
        """The strategy that is chosen most often."""
        chosen = self.chosen()
        words = {"k": int(chosen.iloc[0]), "strategy": self.strategy(chosen.index[0])} if len(chosen) else {}
        return self.t(most, n=len(recommended(self.facts)), **words) if words else self.t(none)

    def quality(self) -> str:
        """What the scores say."""
        t, facts = self.t, self.facts
        if facts.scored.empty:
            return t("No task was scored, so nothing is said about quality. A cheaper strategy may be a worse one.")
        poor = t.join(self.strategy(name) for name in facts.scored.loc[facts.scored["at_chance"], "quantization"].unique())
        named = t("Careful with {names}: somewhere its score is no better than guessing.", names=poor) if poor else ""
        known = "The scores rest on {n} questions each, so small losses of quality stay hidden."
        return t.sentences(named, t(known, n=int(facts.scored["n_items"].median())))

    def numbers(self, caption: str) -> Table:
        """The smallest and the largest ratios, as one says them and with their intervals."""
        t, table = self.t, self.facts.comparisons
        table = table.assign(name=names(table, t)).sort_values("ratio_to_baseline")
        shown = pd.concat([table.head(3), table.tail(2)]) if len(table) > 5 else table
        say = lambda r: t("{share} energy", share=self.share(r["ratio_to_baseline"]))  # noqa: E731
        columns = {"configuration": "name", "in words": say, "ratio": "ratio_to_baseline", "outcome": "outcome"}
        return t.table(shown, columns, t(caption, quantity=self.s.compared(), baseline=self.s.base))


def timed(slides: tuple[Section, ...]) -> list[tuple[Section, str]]:
    """Pairs (slide, minute at which it begins)."""
    begins = [sum(slide.seconds for slide in slides[:i]) for i in range(len(slides))]
    return [(slide, f"{s // 60}:{s % 60:02d}") for slide, s in zip(slides, begins, strict=True)]


def spoken_s(script: str) -> float:
    """The seconds that a script takes, numbers spoken digit by digit and names like nf4 letter by letter.

    English at 132 words a minute: people in the United States usually speak at 125 to 150 (S. E. Lucas, The Art of Public Speaking, 8th
    ed., 2004, p. 300). Chinese at 216 characters a minute, 3.6 per second: readers take 5.18 syllables per second without their long pauses
    (Pellegrino, Coupé and Marsico, Language 87, 2011, doi:10.1353/lan.2011.0057), which leaves three tenths of the time for pauses.
    """
    chinese = len(re.findall(r"[\u4e00-\u9fff]", script))
    digits = sum(len(n) for n in re.findall(r"\d+(?:\.\d+)?", script))
    words = re.findall(r"[A-Za-z]+|%", script)
    spelled = [w for w in words if len(w) <= 4 and (w.isupper() or not re.search("[aeiouyAEIOUY]", w))]  # nf, GPU
    words_s = (len(words) - len(spelled) + sum(map(len, spelled))) * 60 / 132
    return words_s + ((chinese + digits) * 60 / 216 if chinese else digits * 60 / 132)
