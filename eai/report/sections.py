"""Facts to the report: the sentences and tables that `templates/said/report.txt` puts in order, each only where a table carries it."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from eai import __version__, plots
from eai.analyze import deployment
from eai.analyze import scores as task_scores
from eai.plots.style import chinese_font
from eai.report.facts import FACTORS, SETTING, Facts, effects, interactions, level, names, recommended, varied, where
from eai.report.pages import Document, Picture, Table, Words, code, composed, number, p_value

FEW_BLOCKS = 5
MOST_NAMED = 6
MOST_LINES = 24
BASES = {
    "measured": "Energy was **measured** by a sensor.",
    "stated": "Energy was **measured** by a sensor, as its source states.",
    "estimated": "**No energy was measured here.** Energy is estimated: CPU time × a stated power of one thread. Ratios are ratios of CPU "
    "time; absolute joules are good to a factor of about two and say nothing about a GPU.",
    "elsewhere": "**No energy was measured here.** Energy is an estimate that its source made; ratios are ratios of that estimate, and "
    "absolute joules are as good as its model.",
    "simulated": "**Nothing was measured here.** The energies are simulated from planted effects.",
    "published": "**Not our measurement.** The energies are figures that others published.",
    "predicted": "**Not measured.** The energies are predicted.",
}
BOUNDARIES = {
    "gpu": "Energy covers the GPU's board: host, fans and power supply are not included.",
    "cpu_package": "Energy covers the processor: mainboard, memory, fans and power supply are not included.",
    "dram": "Energy covers the memory modules alone.",
    "machine": "Energy covers the whole machine.",
}
FACTOR = {"gpu": "hardware", "model": "model", "engine": "engine", "task": "task", "batch_size": "batch size", "weights": "weights",
          "input_tokens": "input tokens", "output_tokens": "output tokens", "quantization": "strategy", "load": "load"}  # fmt: skip
REMARKS = {
    "overloaded": "More requests came than the server could complete at {names}: waiting there grows with the length of the window.",
    "client_late": "At {names} the client itself was late: waiting there is partly its own.",
    "tokens_from_pieces": "At {names} the server gave no number of tokens; pieces of text were counted instead.",
    "length_varies": "At {names} replies differ in length: compare the cost of a token there, not of a request.",
    "not_steady": "At {names} the speed was not shown to be steady before the window began.",
}
SHOWN = {"lower": "lower, shown", "higher": "higher, shown", "equivalent": "equivalent", "inconclusive": "not decided",
         "not_testable": "not testable"}  # fmt: skip


def report(facts: Facts, t: Words, said: "Said | None" = None) -> Document:
    """The whole report."""
    abstract, *sections = composed("report.txt", t, facts=facts, s=said or Said(facts, t))
    title = t("Energy of LLM inference: experiment {name}", name=facts.experiment)
    return Document(title, tuple(p for block in abstract.blocks for p in block.texts), tuple(sections), meta(facts, t))


def meta(facts: Facts, t: Words) -> str:
    """When, on what and with what it was recorded, and what wrote the page when."""
    jobs = facts.provenance
    days = sorted({str(job["at"])[:10] for job in jobs if job.get("at")})
    machines = sorted({", ".join(filter(None, (str(job.get("machine", {}).get("cpu", "")), card(job)))) for job in jobs})
    commits = sorted({str(job["commit"])[:8] for job in jobs if job.get("commit")})
    when = t("recorded {days} on {machines}", days=t.join(days), machines=t.join(machines)) if days else t("no record of date and machine")
    by = t("commit {commits}", commits=t.join(commits)) if commits else t("commit unknown")
    return written_by(t, facts.experiment, when, by)


def card(job: dict) -> str:
    """The card of a job; empty for a processor."""
    return "" if job.get("gpu", "cpu") == "cpu" else str(job["gpu"])


def written_by(t: Words, *what: str) -> str:
    """The line of date, version, commit and machine."""
    return " · ".join((*what, t("eai {version}, page of {day}", version=__version__, day=datetime.date.today().isoformat())))


def first_up(text: str) -> str:
    """The text with its first letter as a capital; a text that begins with code stays."""
    return text[:1].upper() + text[1:]


def bare(factor: str, value: object, t: Words) -> str:
    """A level beside the name of its factor: a number alone."""
    if factor == "weights":
        return t(str(value))
    return str(value) if factor == "batch_size" or factor.endswith("_tokens") else level(factor, value, t)


def p_holm(row: dict) -> str:
    """The p value of a row after Holm's correction."""
    return p_value(row["p_holm"])


def percent(row: dict, name: str, t: Words) -> str:
    """A fraction with its interval as percent: `60 [45 to 74]`."""
    return t.interval(*(100 * row[name + end] if pd.notna(row.get(name + end)) else None for end in ("", "_low", "_high")), digits=2)


@dataclass(frozen=True)
class Said:
    """What may be said of an experiment in a language: each method gives a sentence, a table or a figure; nothing where none carries it."""

    facts: Facts
    t: Words
    drawn: dict[str, Picture] = field(default_factory=dict)

    def figure(self, name: str, caption: str, draw: Callable, height_in: float, columns: int = 1, wide: bool = False) -> Picture:
        """A figure, drawn once for all pages."""
        if name not in self.drawn:
            self.drawn[name] = self.t.figure(name, caption, draw, height_in, columns, wide)
        return self.drawn[name]

    def cost_name(self, unit: str) -> str:
        """What is compared, in words that say where the energy comes from; `unit`: token, item or both."""
        word = {"token": "energy per output token", "item": "energy per item of a task", "both": "energy per output token or item"}[unit]
        basis = self.facts.basis
        return self.t(word) if basis == "measured" else self.t("{basis} {quantity}", basis=self.t(basis), quantity=self.t(word))

    def compared(self) -> str:
        """`cost_name` of what the comparisons compare."""
        units = set(self.facts.comparisons["unit"])
        return self.cost_name(units.pop() if len(units) == 1 else "both")

    def basis(self) -> str:
        """Where the energy comes from; measured or estimated by others where no provenance of ours says so."""
        elsewhere = {"measured": "stated", "estimated": "elsewhere"} if self.facts.is_foreign else {}
        return self.t(BASES[elsewhere.get(self.facts.basis, self.facts.basis)])

    @property
    def boundary(self) -> str:
        """What the energy covers."""
        return BOUNDARIES.get(str(self.facts.table["boundary"].iloc[0]), "What the energy covers is not recorded.")

    def scope(self) -> str:
        """How many configurations of what were measured."""
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
        shown = {"lower": n.get("lower", 0), "higher": n.get("higher", 0), "quantity": self.compared()}
        rest = {"equivalent": "{n} are equivalent within the margin.", "inconclusive": "{n} are not decided: more blocks are needed.",
                "not_testable": "{n} could not be tested."}  # fmt: skip
        return t.sentences(t(known, n=len(table), baseline=code(self.facts.baseline), **shown),
                           *(t(words, n=n[outcome]) for outcome, words in rest.items() if n.get(outcome)))  # fmt: skip

    def best(self) -> str:
        """The largest saving that is shown."""
        row, t, table = self.facts.best(), self.t, self.facts.comparisons
        if row is None:
            return t("No saving is shown.") if len(self.facts.tested) else ""
        name = names(table, t)[table.index[table["configuration_id"] == row["configuration_id"]][0]]
        known = "The largest saving shown: {name} takes {percent} % less, × {ratio} (95 % interval, n = {n} paired blocks)."
        saved = number(100 * (1 - row["ratio_to_baseline"]), 2)
        return t(known, name=name, percent=saved, ratio=t.of(row, "ratio_to_baseline"), n=int(row["n_pairs"]))

    def headline(self) -> str:
        """The largest saving in one number."""
        row, basis = self.facts.best(), self.facts.basis
        if row is None:
            return ""
        energy = self.t("energy") if basis == "measured" else self.t("{basis} {quantity}", basis=self.t(basis), quantity=self.t("energy"))
        return self.t("{percent} % less {energy}", percent=number(100 * (1 - row["ratio_to_baseline"]), 2), energy=energy)

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

    def setup_table(self) -> Table:
        """Factors and levels."""
        t, facts = self.t, self.facts
        rows = [(t(FACTOR[f]), t.join(bare(f, v, t) for v in facts.levels(f))) for f in ("quantization", *FACTORS) if facts.levels(f)]
        traffic = [v for v in facts.levels("load") if v]
        rows += [(t("load"), t.join(traffic))] if traffic else []
        return Table((t("factor"), t("levels")), tuple(rows), t("What was varied, and between which levels."))

    def machines(self) -> list[str]:
        """Machine, software and meter of each job; of one that drove a server the software is the client's."""
        t, unknown = self.t, self.t("No provenance was recorded: machine and software are unknown.")
        lines = []
        for job in self.facts.provenance:
            machine, versions = job.get("machine", {}), job.get("versions", {})
            words = [f"{boundary}: {words}" for boundary, words in (job.get("basis_words") or {}).items() if words]
            if not machine:  # imported: what the source says of its energies stands in its own words
                lines += [unknown, *([t("Recorded with the data: {lines}.", lines="; ".join(words))] if words else [])]
                continue
            known = [f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "bitsandbytes") if versions.get(name)]
            software = "Software of the client, not of the server: {versions}." if job.get("server") else "Software: {versions}."
            parts = {"cpu": machine.get("cpu", "?"), "cores": machine.get("cores", "?"), "memory": machine.get("memory_gb", "?")}
            lines += [
                t("Machine: {cpu}, {cores} cores, {memory} GB of memory{gpu}.", **parts, gpu=f", {card(job)}" if card(job) else ""),
                t(software, versions=t.join(known)),
                t("Meter: {meter}.", meter=code((job.get("meter") or {}).get("meter", "?"))),
                *([t("Recorded with the data: {lines}.", lines="; ".join(job["limitations"]))] if job.get("limitations") else []),
            ]
        return list(dict.fromkeys(lines)) or [unknown]

    def left_out(self) -> str:
        """What was left out, by status and reason."""
        rows = self.facts.left_out.sort_values("n", ascending=False).to_dict("records")
        reasons = [f"{r['n']} {r['status'].replace('_', ' ')}" + (f" ({r['reason']})" if r["reason"] else "") for r in rows]
        return self.t("Windows left out: {lines}.", lines="; ".join(reasons)) if reasons else self.t("No window was left out.")

    def steadiness(self) -> str:
        """How steady the configurations were across blocks."""
        n = self.facts.table["gate"].value_counts()
        known = "Configurations by their spread between blocks: {ok} up to 2 %, {noisy} up to 5 % or of a single block, {rejected} more."
        more = self.t("Absolute costs of the last are rough; their paired ratios still hold.") if n.get("rejected") else ""
        return self.t.sentences(self.t(known, **{g: n.get(g, 0) for g in ("ok", "noisy", "rejected")}), more)

    def units(self) -> list[str]:
        """The units of work in which a model in this process was costed."""
        return [unit for unit in ("token", "item") if len(self.costs(unit))]

    def costs(self, unit: str) -> pd.DataFrame:
        """The rows of a model in this process by unit of work."""
        table = self.facts.own
        return table[(table["unit"] == unit) & table["unit_energy_j"].notna()].reset_index(drop=True)

    def cost_range(self, unit: str) -> str:
        """The cheapest and the most expensive configuration."""
        t, table = self.t, self.costs(unit)
        ends = {
            f"{end}{part}": words
            for end, i in (("low", table["unit_energy_j"].idxmin()), ("high", table["unit_energy_j"].idxmax()))
            for part, words in (("", t.of(table.loc[i].to_dict(), "unit_energy_j")), ("_name", names(table, t)[i]))
        }
        return t("The {quantity} runs from {low} J ({low_name}) to {high} J ({high_name}).", quantity=self.cost_name(unit), **ends)

    def cost_table(self, unit: str, caption: str) -> Table:
        """Cost and speed of every configuration."""
        t, table = self.t, self.costs(unit)
        per, speed = ("J per item", "items/s") if unit == "item" else ("J per output token", "output tokens/s")
        columns = {"configuration": "name", per: "unit_energy_j", speed: "units_per_s", "peak memory [GB]": "memory_peak_gb"}
        columns |= {"n": "n_blocks", "spread": "gate"}
        caption = t(caption, quantity=first_up(self.cost_name(unit)))
        return t.table(table.assign(name=names(table, t)), columns, caption, "summary.csv")

    def cost_picture(self, unit: str) -> Picture:
        """Cost by strategy."""
        t, table = self.t, self.costs(unit)
        cheapest = code(table.loc[table["unit_energy_j"].idxmin(), "quantization"])
        seen = t("{quantity} by strategy. The lowest point belongs to {name}.", quantity=first_up(self.cost_name(unit)), name=cheapest)
        crowded = plots.crowded(table)
        bars = (
            "Large: the median of many series, whose intervals stand in the table." if crowded else "Bars: 95 % intervals of block means."
        )
        hollow = t("Hollow: the blocks spread by more than 5 %.") if (table["gate"] == "rejected").any() and not crowded else ""
        rows = -(-table["task"].nunique() // 3)
        height_in = rows * (1.0 + 0.28 * table["quantization"].nunique()) + 0.3
        return self.figure(
            f"cost-{unit}",
            t.sentences(seen, t(bars), hollow),
            lambda ax: plots.cost(table, ax),
            height_in,
            wide=table["task"].nunique() > 1,
        )

    def undecided(self) -> list[str]:
        """What was not decided, and what could not be tested and why."""
        t, table = self.t, self.facts.comparisons.reset_index(drop=True)
        if not self.facts.baseline or table.empty:
            return []
        undecided = [name for name, outcome in zip(names(table, t), table["outcome"], strict=True) if outcome == "inconclusive"]
        lines = []
        if 0 < len(undecided) <= MOST_NAMED:
            lines.append(t("Not decided: {names}. That is not “no difference”.", names=t.join(undecided)))
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
        head = (t("strategy"), t("geometric mean of ratios"), t("range"), t("settings"), t("lower / higher, shown"))
        known = t("Each strategy over all settings in which it was compared with {baseline}.", baseline=code(self.facts.baseline))
        return [Table(head, tuple(rows), known)]

    def forest(self, name: str, most: int = MOST_LINES) -> list[Picture]:
        """Every ratio to the baseline with its interval, the strongest saving first."""
        t, baseline = self.t, code(self.facts.baseline)
        table = self.facts.comparisons
        if not self.facts.baseline or table.empty:
            return []
        table = table.sort_values("ratio_to_baseline", na_position="last").assign(basis=self.facts.basis)
        drawn = min(len(table), most)
        seen = t("The {shown} lowest of {all} ratios; all stand in the table.", shown=drawn, all=len(table)) if drawn < len(table) else ""
        known = "Ratios to {baseline}: left of 1 is less energy; grey band: equivalence margin; bars: 95 % intervals."
        caption = t.sentences(t(known, baseline=baseline), seen)
        return [self.figure(name, caption, lambda ax: plots.forest(table, ax, most), 0.9 + 0.2 * drawn)]

    def ratio_table(self, caption: str) -> list[Table]:
        """Every comparison with its test."""
        t, table = self.t, self.facts.comparisons
        if not self.facts.baseline or table.empty:
            return []
        columns = {"configuration": "name", "ratio": "ratio_to_baseline", "n": "n_pairs", "p (Holm)": p_holm, "outcome": self.outcome}
        caption = t(caption, quantity=first_up(self.compared()), baseline=code(self.facts.baseline))
        return [t.table(table.assign(name=names(table, t)), columns, caption, "comparisons.csv")]

    def outcome(self, row: dict) -> str:
        """What a test says of a row."""
        return self.t(SHOWN[row["outcome"]])

    def factors(self) -> list[str]:
        """The factors that were varied."""
        known = ("gpu", "model", "engine", "task", "batch_size", "input_tokens", "output_tokens")
        return [f for f in known if len(self.facts.levels(f)) > 1]

    def effect(self, factor: str, sentence: str) -> str:
        """What a factor does to the cost."""
        t, found = self.t, effects(self.facts, factor) if factor != "task" else None
        if not found:
            return ""
        ends = {end: level(factor, found[end], t) or found[end] for end in ("level", "reference")}
        return t(
            sentence, factor=first_up(t(FACTOR[factor])), n=found["n"], **ends, **{k: number(found[k]) for k in ("low", "high", "mean")}
        )

    def interaction(self, factor: str, caption: str) -> list:
        """Whether a strategy's saving depends on a factor, with its table."""
        t, table = self.t, interactions(self.facts, factor)
        if table.empty:
            return []
        reference = level(factor, table["reference"].iloc[0], t)
        columns = {
            "configuration": lambda r: code(f"{r['quantization']}, {level(factor, r['level'], t)}"), "ratio there": "ratio_at_level",
            "ratio at the reference": "ratio_at_reference", "quotient": "synergy", "p (Holm)": p_holm,
            "outcome": self.outcome,
        }  # fmt: skip
        caption = t(caption, baseline=code(self.facts.baseline), reference=reference)
        return [self.interaction_words(table, factor), t.table(table, columns, caption, appendix=True)]

    def interaction_words(self, table: pd.DataFrame, factor: str) -> str:
        """How many interactions are shown."""
        clear = int(table["outcome"].isin(["lower", "higher"]).sum())
        known = "Does a strategy's saving depend on the {factor}? {k} of {n} interactions are shown (Holm's correction)."
        return self.t(known, factor=self.t(FACTOR[factor]), k=clear, n=len(table))

    def score_words(self) -> str:
        """On how many items the scores rest, and how wide their intervals are."""
        t, table = self.t, self.facts.scored
        items = t.span(f"{int(table['n_items'].min()):,}", f"{int(table['n_items'].max()):,}")
        wide = number(100 * (table["score_high"] - table["score_low"]).median(), 2)
        known = "An interval is {points} percentage points wide (median): smaller differences in score are not decided."
        return t.sentences(t("Each score is over {items} items.", items=items), t(known, points=wide))

    def quality(self, caption: str) -> Picture:
        """Score against energy."""
        table = self.facts.scored
        front, rows = deployment.pareto(table, np.random.default_rng(0)), -(-table["task"].nunique() // 3)
        return self.figure("quality", caption, lambda ax: plots.quality(front, ax), 1.0 + 2.4 * rows, wide=table["task"].nunique() > 1)

    def score_table(self, caption: str) -> Table:
        """Scores, EOR and TWEOR."""
        t, table = self.t, self.facts.scored
        columns = {
            "configuration": "name", "score [%]": lambda r: percent(r, "score", t), "EOR [1/Wh]": "eor", "TWEOR [1/(Wh s)]": "tweor",
            "J per right answer": "energy_j_per_correct", "items": lambda r: str(int(r["n_items"])),
        }  # fmt: skip
        if table["at_chance"].any():
            columns["remark"] = lambda r: t("not above chance") if r["at_chance"] else ""
        return t.table(table.assign(name=names(table, t)), columns, caption, "summary.csv")

    def answer_table(self, caption: str) -> list[Table]:
        """Scores against the baseline's on the same items."""
        t, table = self.t, self.facts.answers
        columns = {
            "configuration": "name", "score [%]": lambda r: number(100 * r["score"], 2),
            "baseline [%]": lambda r: number(100 * r["score_baseline"], 2), "score kept [%]": lambda r: percent(r, "score_retained", t),
            "p (Holm)": p_holm, "outcome": self.outcome,
        }  # fmt: skip
        return [t.table(table.assign(name=names(table, t)), columns, caption, "score_comparisons.csv", appendix=True)] if len(table) else []

    def rules(self) -> list[str]:
        """A sentence a setting: the strategy to take by the paired comparisons, what it saves, and whether another is close."""
        t, table = self.t, recommended(self.facts)
        if table.empty:
            return [t("No recommendation: nothing was compared with a baseline.")]
        varying = varied(table, ("gpu", "model", "engine", "task", "input_tokens", "output_tokens", "batch_size"))
        lines = []
        for r in table.to_dict("records"):
            place = first_up(where(r, varying, t))
            if not r["choice"]:
                lines.append(t("{where}: no recommendation, no score is shown above chance.", where=place))
            elif not r["shown"]:
                lines.append(
                    t("{where}: stay with **{choice}**; no strategy is shown to take less energy.", where=place, choice=r["choice"])
                )
            else:
                known = "{where}: **{choice}** takes {percent} % less energy than {baseline} (× {ratio})."
                saved, close = number(100 * (1 - r["ratio"]), 2), "{rival} is close: the intervals overlap."
                lines.append(t.sentences(
                    t(known, where=place, choice=r["choice"], percent=saved, baseline=code(self.facts.baseline), ratio=t.of(r, "ratio")),
                    t(close, rival=code(r["rival"])) if r["rival"] else "", self.score_remark(r),
                ))  # fmt: skip
        return lines

    def score_remark(self, rule: dict) -> str:
        """What a choice scores beside the baseline, where the task was scored."""
        t, scored = self.t, self.facts.scored
        rows = scored[(scored[list(SETTING)] == pd.Series({k: rule[k] for k in SETTING})).all(axis=1)].set_index("quantization")
        if rule["choice"] not in rows.index or self.facts.baseline not in rows.index:
            return ""
        own, base = (rows.loc[[name]].iloc[0].to_dict() for name in (rule["choice"], self.facts.baseline))
        if own["score_low"] <= base["score_high"] and base["score_low"] <= own["score_high"]:
            known = "Score {own} % against {base} %: {items} items do not decide between them."
            ends = {"own": number(100 * own["score"], 2), "base": number(100 * base["score"], 2)}
            return t(known, **ends, items=int(own["n_items"]))
        return t("Score {own} % against {base} %.", own=percent(own, "score", t), base=percent(base, "score", t))

    def matrix(self, caption: str) -> list[Table]:
        """The deployment matrix within each model and task, as the notebook plot computes it (analyze.deployment.matrix)."""
        t, own = self.t, self.facts.own
        table = (
            deployment.matrix(own, np.random.default_rng(0), task_scores.retention(own, self.facts.answers)) if len(own) > 1 else own[:0]
        )
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

    def load_table(self, columns: dict[str, str], caption: str) -> Table:
        """Columns of each load."""
        table = self.facts.loads
        failed = table["requests_failed"].astype(str) + " / " + (table["requests"] + table["requests_failed"]).astype(str)
        return self.t.table(table.assign(name=names(table, self.t), failed=failed), {"load": "name", **columns}, caption, "loads.csv")

    def load_range(self) -> str:
        """The loads at which a token costs least and most."""
        known = "Over {n} loads the {quantity} runs from {low} J ({low_name}) to {high} J ({high_name})."
        return self._over_loads("energy_j_per_token", known, quantity=self.cost_name("token"))

    def wait_range(self) -> str:
        """The loads at which a request waits least and most."""
        return self._over_loads("ttft_s", "The median time to the first token runs from {low} s ({low_name}) to {high} s ({high_name}).")

    def _over_loads(self, column: str, sentence: str, **values: str) -> str:
        """A sentence on the loads at which a column is lowest and highest; empty where it is not known."""
        t, table = self.t, self.facts.loads.reset_index(drop=True)
        if table.empty or table[column].isna().all():
            return ""
        ends = {"low": table[column].idxmin(), "high": table[column].idxmax()}
        labels = names(table, t)
        texts = {end: t.of(table.loc[i].to_dict(), column) for end, i in ends.items()} | {f"{e}_name": labels[i] for e, i in ends.items()}
        return t(sentence, n=len(table), **texts, **values)

    def failures(self, some: str, none: str) -> str:
        """How many requests failed."""
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
        table = self.facts.loads
        labels, flags = names(table, self.t), table["flags"].fillna("").astype(str)
        found = {flag: [name for name, text in zip(labels, flags, strict=True) if flag in text] for flag in REMARKS}
        every = self.t("every load")
        return [self.t(REMARKS[flag], names=self.t.join(of) if len(of) < len(labels) else every) for flag, of in found.items() if of]

    def limits(self) -> list[str]:
        """What these data cannot say, the gravest first."""
        facts, t = self.facts, self.t
        points = [] if facts.basis == "measured" else [self.basis()]
        alone = [f for f in ("gpu", "model", "task", "input_tokens", "output_tokens", "batch_size") if len(facts.levels(f)) == 1]
        single = [t("{factor}: only {level}", factor=t(FACTOR[f]), level=bare(f, facts.levels(f)[0], t)) for f in alone]
        n = int(facts.table["n_blocks"].max())
        savings = (facts.comparisons["outcome"] == "lower").sum() if len(facts.comparisons) else 0
        said = {
            t("Not varied, so nothing is said about it: {levels}.", levels="; ".join(single)): bool(single),
            t("One block: every number is a single observation, without interval or test."): n == 1,
            t("At most {n} blocks: intervals are wide, small differences cannot be shown.", n=n): 1 < n < FEW_BLOCKS,
            t("The largest of several savings was picked afterwards: a repetition will on average find it a little smaller."): savings > 1,
            t("Weights are random: energy and speed are those of the shapes, scores are not measured."): bool(
                set(facts.table["weights"]) - {"published"}
            ),
            t("No task score was measured: a cheaper strategy may be a worse one."): facts.scored.empty and not facts.only_served,
            t("Another card or machine of the same kind may differ by its sensor's gain and its own make."): True,
            t("Figures are in English: no font with Chinese characters is installed."): t.language == "zh" and not chinese_font(),
        }
        return points + [sentence for sentence, holds in said.items() if holds]

    def again(self) -> str:
        """How to write the page again."""
        known = "`eai replay {name}` derives every energy again from its raw readings; `eai report {name}` writes this page again."
        sentence = "`eai report {name}` writes this page again." if self.facts.is_foreign else known
        return self.t(sentence, name=self.facts.experiment.replace("`", ""))
