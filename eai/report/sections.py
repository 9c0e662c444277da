"""Facts to the report: every sentence is used only where a table carries it, and every number in it stands in a written table."""

import datetime

import pandas as pd

from eai import __version__
from eai.report import figures
from eai.report.facts import FACTORS, Facts, deployment, effects, level, names, recommended, together
from eai.report.pages import Document, Picture, Points, Prose, Section, Table, Words, code, number, p_value

FEW_BLOCKS = 5
MOST_NAMED = 6
OUTCOMES = figures.SHOWN
BASES = {
    "measured": "Energy was **measured** by a sensor.",
    "stated": "Energy was **measured** by a sensor, as its source states.",
    "estimated": "**No energy was measured here.** Energy is estimated: CPU time × a stated power of one thread. Ratios are ratios of CPU "
    "time; absolute joules are good to a factor of about two and say nothing about a GPU.",
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
    "client_late": "At {names} the client was late by more than a tenth of a request's time: waiting there is partly its own.",
    "tokens_from_pieces": "At {names} the server gave no number of tokens; pieces of text were counted instead.",
    "length_varies": "At {names} replies differ in length: compare the cost of a token there, not of a request.",
    "not_steady": "At {names} the speed was not shown to be steady before the window began.",
}


def report(facts: Facts, t: Words) -> Document:
    """The whole report."""
    parts = (related, setup, method, cost, loads, ratios, factors, scores, guidance, limits)
    sections = tuple(section for part in parts for section in part(facts, t) if section.blocks)
    return Document(t("Energy of LLM inference: experiment {name}", name=facts.experiment), abstract(facts, t), sections, meta(facts, t))


def meta(facts: Facts, t: Words) -> str:
    """When, on what and with what it was recorded, and what wrote the page when."""
    jobs = facts.provenance
    days = sorted({str(job["at"])[:10] for job in jobs if job.get("at")})
    machines = sorted(
        {str(job.get("machine", {}).get("cpu", "")) + (f", {job['gpu']}" if job.get("gpu", "cpu") != "cpu" else "") for job in jobs}
    )
    commits = sorted({str(job["commit"])[:8] for job in jobs if job.get("commit")})
    when = t("recorded {days} on {machines}", days=t.join(days), machines=t.join(machines)) if days else t("no record of date and machine")
    by = t("commit {commits}", commits=t.join(commits)) if commits else t("commit unknown")
    return written_by(t, facts.experiment, when, by)


def written_by(t: Words, *what: str) -> str:
    """The line of date, version, commit and machine."""
    return " · ".join((*what, t("eai {version}, page of {day}", version=__version__, day=datetime.date.today().isoformat())))


def cost_name(facts: Facts, unit: str, t: Words) -> str:
    """What is compared, in words that say where the energy comes from."""
    word = {"token": "energy per output token", "item": "energy per item of a task", "both": "energy per output token or item"}[unit]
    return t(word) if facts.basis == "measured" else t("{basis} {quantity}", basis=t(facts.basis), quantity=t(word))


def unit_of(table: pd.DataFrame) -> str:
    """The unit of work of a table: token, item or both."""
    units = set(table["unit"])
    return units.pop() if len(units) == 1 else "both"


def basis_sentence(facts: Facts, t: Words) -> str:
    """Where the energy comes from; measured by others where no provenance of ours says so."""
    return t(BASES["stated" if facts.basis == "measured" and not facts.provenance else facts.basis])


def abstract(facts: Facts, t: Words) -> tuple[str, ...]:
    """What was measured, what was found, and where the energy comes from."""
    found = t.sentences(counts(facts, t), best(facts, t)) if not facts.only_served else ""
    ranges = load_range(facts, t) if len(facts.loads) else ""
    poor = chance_sentence(facts, t)
    return tuple(filter(None, (scope(facts, t), t.sentences(ranges, found), poor, basis_sentence(facts, t))))


def scope(facts: Facts, t: Words) -> str:
    """How many configurations of what were measured."""
    listed = {name: t.join(level(column, v, t) for v in facts.levels(column)) for name, column in
              (("strategies", "quantization"), ("models", "model"), ("gpus", "gpu"))}  # fmt: skip
    blocks = facts.table["n_blocks"]
    return t(
        "{n} configurations: {strategies}; models: {models}; hardware: {gpus}; {blocks} blocks each.", n=len(facts.table), **listed,
        blocks=int(blocks.max()) if blocks.min() == blocks.max() else t("{low} to {high}", low=int(blocks.min()), high=int(blocks.max())),
    )  # fmt: skip


def counts(facts: Facts, t: Words) -> str:
    """How the comparisons with the baseline came out; why there are none."""
    if facts.comparisons.empty:
        return t("Nothing is compared: only one strategy was measured.") if facts.table["quantization"].nunique() == 1 else t(
            "Strategies are not compared: no baseline was measured in the same settings.")  # fmt: skip
    if not facts.baseline:
        return t("Strategies are not compared: the baseline {name} was not measured.", name=code(facts.comparisons["baseline"].iloc[0]))
    n = facts.comparisons["outcome"].value_counts()
    quantity = cost_name(facts, unit_of(facts.comparisons), t)
    told = [t("Of {n} comparisons with {baseline}, {lower} show a lower {quantity} and {higher} a higher one.", n=len(facts.comparisons),
              baseline=code(facts.baseline), lower=n.get("lower", 0), higher=n.get("higher", 0), quantity=quantity)]  # fmt: skip
    for outcome, sentence in (
        ("equivalent", "{n} are equivalent within the margin."), ("inconclusive", "{n} are not decided: more blocks are needed."),
        ("not_testable", "{n} could not be tested."),
    ):  # fmt: skip
        told += [t(sentence, n=n[outcome])] if n.get(outcome) else []
    return t.sentences(*told)


def best(facts: Facts, t: Words) -> str:
    """The largest saving that is shown."""
    row = facts.best()
    if row is None:
        return t("No saving is shown.") if len(facts.tested) else ""
    name = names(facts.comparisons, t)[facts.comparisons.index[facts.comparisons["configuration_id"] == row["configuration_id"]][0]]
    return t("The largest saving shown: {name} takes {percent} % less, × {ratio} (95 % interval, n = {n} paired blocks).", name=name,
             percent=number(100 * (1 - row["ratio_to_baseline"]), 2), ratio=t.of(row, "ratio_to_baseline"),
                 n=int(row["n_pairs"]))  # fmt: skip


def chance_sentence(facts: Facts, t: Words) -> str:
    """The configurations whose score is not shown above what guessing scores."""
    poor = facts.table[facts.table["at_chance"]] if "at_chance" in facts.table else facts.table.iloc[:0]
    if poor.empty:
        return ""
    listed = names(poor, t)
    shown = t.join(listed[:MOST_NAMED]) + (t(" and {n} more", n=len(listed) - MOST_NAMED) if len(listed) > MOST_NAMED else "")
    return t("**Not shown to score above chance: {names}.** They are recommended nowhere.", names=shown)


def related(facts: Facts, t: Words) -> list[Section]:
    """Related work, for the paper form; the template adds the citations."""
    return [Section(t("Introduction and related work"), (Prose((t(INTRODUCTION),)),), "paper")]


INTRODUCTION = (
    "Over the life of a deployed model, inference can take more energy than training [luccioni2024], which is large itself [strubell2019]. "
    "Measured costs differ by an order of magnitude between models, hardware and batch sizes [samsi2023; mlenergy2025], and quantization "
    "[llmint8; qlora] changes what a token costs by its kernels as much as by its bits. Software counters of power are coarse [yang2024]; "
    "we therefore pair within blocks, correct for the number of comparisons [holm1979], and call two costs equal only after an equivalence "
    "test [schuirmann1987]."
)


def setup(facts: Facts, t: Words) -> list[Section]:
    """Factors and levels, machine, software, meter, and what was left out."""
    rows = [(t(FACTOR[f]), t.join(bare(f, v, t) for v in facts.levels(f))) for f in ("quantization", *FACTORS) if facts.levels(f)]
    traffic = [v for v in facts.levels("load") if v]
    rows += [(t("load"), t.join(traffic))] if traffic else []
    told = list(dict.fromkeys(line for job in facts.provenance for line in job_lines(job, t)))
    told = told or [t("No provenance was recorded: machine and software are unknown.")]
    left_out = facts.left_out.sort_values("n", ascending=False).to_dict("records")
    reasons = [f"{r['n']} {r['status']}" + (f" ({r['reason']})" if r["reason"] else "") for r in left_out]
    used = t("Windows left out: {lines}.", lines="; ".join(reasons)) if reasons else t("No window was left out.")
    table = Table((t("factor"), t("levels")), tuple(rows), t("What was varied, and between which levels."))
    return [Section(t("What was measured, and on what"), (table, Points((*told, used))))]


def job_lines(job: dict, t: Words) -> list[str]:
    """Machine, software and meter of a job; of one that drove a server the software is the client's."""
    machine, versions = job.get("machine", {}), job.get("versions", {})
    if not machine:  # imported: what the source says of its energies stands in its own words
        said = [f"{boundary}: {words}" for boundary, words in (job.get("basis_words") or {}).items() if words]
        unknown = t("No provenance was recorded: machine and software are unknown.")
        return [unknown, *([t("Recorded with the data: {lines}.", lines="; ".join(said))] if said else [])]
    known = [f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "bitsandbytes") if versions.get(name)]
    gpu = f", {job['gpu']}" if job.get("gpu", "cpu") != "cpu" else ""
    software = "Software of the client, not of the server: {versions}." if job.get("server") else "Software: {versions}."
    return [
        t("Machine: {cpu}, {cores} cores, {memory} GB of memory{gpu}.", cpu=machine.get("cpu", "?"), cores=machine.get("cores", "?"),
          memory=machine.get("memory_gb", "?"), gpu=gpu),
        t(software, versions=t.join(known)), t("Meter: {meter}.", meter=code((job.get("meter") or {}).get("meter", "?"))),
        *([t("Recorded with the data: {lines}.", lines="; ".join(job["limitations"]))] if job.get("limitations") else []),
    ]  # fmt: skip


def method(facts: Facts, t: Words) -> list[Section]:
    """The replicate, the intervals and the tests."""
    kind = str(facts.table["energy_kind"].iloc[0])
    told = [t(BOUNDARIES.get(str(facts.table["boundary"].iloc[0]), "What the energy covers is not recorded."))]
    if facts.basis == "measured":
        told.append(t("Idle power is included.") if kind == "gross" else t("Idle power is subtracted."))
    if not facts.provenance:
        told.append(t("A block is a repeat as the source states it; how the repeats were run is not recorded with the data."))
    if facts.provenance and not facts.only_served:
        told.append(t("The replicate is a block: every configuration once, in random order, on a freshly loaded model."))
    if facts.provenance and len(facts.loads):
        told.append(t("Of a server, a block is every load once, in random order; the server is not restarted between blocks."))
    told.append(
        t("Windows of one block are averaged first. Intervals are 95 % t intervals of block means on the log scale (geometric means).")
    )
    if facts.baseline:
        told.append(t("Ratios are paired within blocks and tested by a t test on log ratios with Holm's correction. “Equivalent” needs an "
                      "equivalence test with enough power; otherwise the answer is “not decided”."))  # fmt: skip
    if len(facts.scored):
        told.append(t("Scores are fractions of right answers with Wilson's 95 % interval over items. EOR is score per watt-hour, TWEOR "
            "is EOR "
                      "per second, both over the whole task as run."))  # fmt: skip
    return [Section(t("Method"), (Prose((t.sentences(*told),)),))]


def steadiness(facts: Facts, t: Words) -> str:
    """How steady the configurations were across blocks."""
    n = facts.table["gate"].value_counts()
    told = t("Spread between blocks: up to 2 % for {ok} configurations, up to 5 % or a single block for {noisy}, more for {rejected}.",
             **{g: n.get(g, 0) for g in ("ok", "noisy", "rejected")})  # fmt: skip
    more = t("Absolute costs of the last are rough; their paired ratios still hold.") if n.get("rejected") else ""
    return t.sentences(told, more)


def cost(facts: Facts, t: Words) -> list[Section]:
    """Cost and speed of every configuration of a model in this process, by unit of work."""
    blocks = []
    for unit in ("token", "item"):
        table = facts.own[(facts.own["unit"] == unit) & facts.own["unit_energy_j"].notna()].reset_index(drop=True)
        if table.empty:
            continue
        labels, rows = names(table, t), table.to_dict("records")
        low, high = table["unit_energy_j"].idxmin(), table["unit_energy_j"].idxmax()
        blocks.append(Prose((t(
            "The {quantity} runs from {low} J ({low_name}) to {high} J ({high_name}).", quantity=cost_name(facts, unit, t),
            low=t.of(rows[low], "unit_energy_j"), low_name=labels[low], high=t.of(rows[high], "unit_energy_j"), high_name=labels[high],
        ),)))  # fmt: skip
        per, speed = (t("J per item"), t("items/s")) if unit == "item" else (t("J per output token"), t("output tokens/s"))
        texts = tuple((name, t.of(r, "unit_energy_j"), t.of(r, "units_per_s"), number(r["memory_peak_gb"]),
            str(int(r["n_blocks"])), t(r["gate"]))
                      for name, r in zip(labels, rows, strict=True))  # fmt: skip
        head = (t("configuration"), per, speed, t("peak memory [GB]"), "n", t("spread"))
        caption = t("{quantity} and speed with 95 % intervals; n: blocks; spread between blocks: ok up to 2 %, noisy up to 5 %.",
                    quantity=first_up(cost_name(facts, unit, t)))  # fmt: skip
        blocks.append(Table(head, texts, caption, "summary.csv"))
        if (figure := figures.cost(facts, unit, t)) is not None:
            lowest = table.loc[low, "quantization"]
            seen = t("The lowest point belongs to {name}; bars are 95 % intervals of block means.", name=code(lowest))
            blocks.append(Picture(f"cost-{unit}", figure, t.sentences(first_up(cost_name(facts, unit, t)) + t("."), seen)))
    if blocks:
        blocks.insert(0, Prose((steadiness(facts, t),)))
    return [Section(t("Cost"), tuple(blocks))]


def ratios(facts: Facts, t: Words) -> list[Section]:
    """Ratios to the baseline: what is shown, what is not decided, by strategy over all settings, table and figure."""
    if facts.only_served:
        return []
    told = [t.sentences(counts(facts, t), best(facts, t))]
    table = facts.comparisons.reset_index(drop=True)
    if not facts.baseline:
        return [Section(t("Against the baseline"), (Prose(tuple(told)),))]
    labels = names(table, t)
    undecided = [name for name, outcome in zip(labels, table["outcome"], strict=True) if outcome == "inconclusive"]
    if 0 < len(undecided) <= MOST_NAMED:
        told.append(t("Not decided: {names}. That is not “no difference”.", names=t.join(undecided)))
    untested = table[table["outcome"] == "not_testable"]
    for row in untested.head(MOST_NAMED).to_dict("records"):
        told.append(t("{name} could not be tested: {reason}.", name=code(row["quantization"]), reason=str(row["reason"]).rstrip(".")))
    texts = tuple((name, t.of(r, "ratio_to_baseline"), str(int(r["n_pairs"])), p_value(r["p_holm"]), t(OUTCOMES[r["outcome"]]))
                  for name, r in zip(labels, table.to_dict("records"), strict=True))  # fmt: skip
    caption = t("{quantity}: ratio to {baseline} with its 95 % interval, n paired blocks, p after Holm's correction.",
                quantity=first_up(cost_name(facts, unit_of(table), t)), baseline=code(facts.baseline))  # fmt: skip
    drawn = min(len(table), figures.MOST_LINES)
    seen = t("The {shown} lowest of {all} ratios; all stand in the table.", shown=drawn, all=len(table)) if drawn < len(table) else ""
    picture = t.sentences(t("Ratios to {baseline}: left of 1 is less energy; grey band: equivalence margin; bars: 95 % intervals.",
                            baseline=code(facts.baseline)), seen)  # fmt: skip
    return [Section(t("Against the baseline"), (
        Prose(tuple(told)), *by_strategy(facts, t), Picture("ratios", figures.forest(facts, t), picture),
        Table((t("configuration"), t("ratio"), "n", t("p (Holm)"), t("outcome")), texts, caption, "comparisons.csv"),
    ))]  # fmt: skip


def by_strategy(facts: Facts, t: Words) -> list[Table]:
    """Each strategy over all settings: geometric mean and range of its ratios, and how many are shown."""
    table = facts.tested
    if len(table) < 2 or table.groupby("quantization").size().max() < 2:
        return []
    rows = []
    for name, group in table.groupby("quantization", sort=False):
        r = group["ratio_to_baseline"]
        mean = float(r.prod() ** (1 / len(r)))
        shown = [(group["outcome"] == outcome).sum() for outcome in ("lower", "higher")]
        rows.append(
            (
                code(name),
                number(mean),
                t("{low} to {high}", low=number(r.min()), high=number(r.max())),
                str(len(r)),
                f"{shown[0]} / {shown[1]}",
            )
        )
    head = (t("strategy"), t("geometric mean of ratios"), t("range"), t("settings"), t("lower / higher, shown"))
    return [
        Table(
            head, tuple(rows), t("Each strategy over all settings in which it was compared with {baseline}.", baseline=code(facts.baseline))
        )
    ]


def factors(facts: Facts, t: Words) -> list[Section]:
    """What each varied factor does to the cost, and whether a strategy's ratio depends on it."""
    blocks = []
    for factor in [f for f in ("gpu", "model", "engine", "batch_size", "input_tokens", "output_tokens") if len(facts.levels(f)) > 1]:
        found = effects(facts, factor)
        if found:
            blocks.append(Prose((t(
                "**{factor}** {level} against {reference}, everything else the same: the cost is × {low} to × {high} over {n} pairs "
                    "(geometric mean "
                "× {mean}).", factor=first_up(t(FACTOR[factor])), level=level(factor, found["level"], t) or found["level"],
                reference=level(factor, found["reference"], t) or found["reference"], n=found["n"],
                **{k: number(found[k]) for k in ("low", "high", "mean")},
            ),)))  # fmt: skip
        crossed = together(facts, factor)
        if len(crossed):
            blocks += interaction(facts, factor, crossed, t)
    return [Section(t("What else decides the cost"), tuple(blocks))]


def synergy_sentence(crossed: pd.DataFrame, factor: str, t: Words) -> str:
    """Whether the saving of a strategy depends on the factor."""
    clear = int(((crossed["quotient_low"] > 1) | (crossed["quotient_high"] < 1)).sum())
    return t("Does a strategy's saving depend on the {factor}? {k} of {n} intervals leave out 1 (not corrected for their number).",
             factor=t(FACTOR[factor]), k=clear, n=len(crossed))  # fmt: skip


def interaction_names(crossed: pd.DataFrame, factor: str, t: Words) -> list[str]:
    """The names of the rows of `together`."""
    return names(crossed, t)if crossed[factor].nunique() > 1 else [
        code(t.join((name.strip("`"), level(factor, v, t)))) for name, v in zip(names(crossed, t), crossed[factor], strict=True)
    ]  # fmt: skip


def interaction(facts: Facts, factor: str, crossed: pd.DataFrame, t: Words) -> list:
    """How a factor acts together with the strategy."""
    labels = interaction_names(crossed, factor, t)
    rows = tuple((name, number(r["ratio"]), number(r["at_reference"]), t.of(r, "quotient"))
                 for name, r in zip(labels, crossed.to_dict("records"), strict=True))  # fmt: skip
    reference = level(factor, crossed["reference"].iloc[0], t) or crossed["reference"].iloc[0]
    head = (t("configuration"), t("ratio there"), t("ratio at {reference}", reference=reference), t("quotient"))
    caption = t("Ratio to {baseline} there and at {reference}; below 1 the strategy saves more there. 95 % intervals.",
                baseline=code(facts.baseline), reference=reference)  # fmt: skip
    return [Prose((synergy_sentence(crossed, factor, t),)), Table(head, rows, caption)]


def scores(facts: Facts, t: Words) -> list[Section]:
    """Scores, EOR and TWEOR where tasks were scored."""
    table = facts.scored.reset_index(drop=True)
    if table.empty:
        return [] if facts.only_served else [Section(t("Scores"), (Prose((t(
            "No task score was measured: nothing is said about accuracy, EOR or TWEOR. A cheaper strategy may be a worse "
                "one."),)),))]  # fmt: skip
    rows = tuple(
        (name, percent(r, "score", t), t.of(r, "eor"), t.of(r, "tweor"), t.of(r, "energy_j_per_correct"), str(int(r["n_items"])),
         t("not above chance") if r["at_chance"] else "")
        for name, r in zip(names(table, t), table.to_dict("records"), strict=True)
    )  # fmt: skip
    head = (t("configuration"), t("score [%]"), "EOR [1/Wh]", "TWEOR [1/(Wh s)]", t("J per right answer"), t("items"), t("remark"))
    caption = t("Scores with EOR and TWEOR, 95 % intervals. Compare within a task only.")
    told = [t("Each score is over {items} items.", items=span(table["n_items"], t)), chance_sentence(facts, t)]
    narrow = (table["score_high"] - table["score_low"]).median()
    told.append(t("An interval is {points} percentage points wide (median): smaller differences in score are not decided.",
                  points=number(100 * narrow, 2)))  # fmt: skip
    tasks = table["task"].nunique()
    cut = t("The first 3 of {n} tasks; all stand in the table.", n=tasks) if tasks > 3 else ""
    seen = t.sentences(
        t("Score against energy: up and left is better; hollow: not shown above chance; bars: 95 % intervals over items."), cut
    )
    return [Section(t("Scores"), (Prose((t.sentences(*told),)), Picture("quality", figures.quality(facts, t), seen),
                                  Table(head, rows, caption, "summary.csv")))]  # fmt: skip


def percent(row: dict, name: str, t: Words) -> str:
    """A fraction with its interval as percent: `60 [45 to 74]`."""
    return t.interval(*(100 * row[name + end] if pd.notna(row.get(name + end)) else None for end in ("", "_low", "_high")), digits=2)


def span(values: pd.Series, t: Words) -> str:
    """`40`, or `40 to 100`."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else t("{low} to {high}", low=f"{low:,}", high=f"{high:,}")


def loads(facts: Facts, t: Words) -> list[Section]:
    """What each load of a server costs and how long its requests wait."""
    table = facts.loads.reset_index(drop=True)
    if table.empty:
        return []
    labels, rows = names(table, t), table.to_dict("records")
    failed, everything = int(table["requests_failed"].sum()), int(table[["requests", "requests_failed"]].sum().sum())
    told = t("{failed} of {all} requests failed; their energy is counted, their tokens are "
        "not.", failed=failed, all=f"{everything:,}") if failed else (
        t("All {n} requests succeeded.", n=f"{everything:,}"))  # fmt: skip
    costs = tuple((name, t.of(r, "energy_j_per_token"), t.of(r, "energy_j_per_request"), t.of(r, "throughput_tok_s"),
                   number(r["requests_per_s"]), str(int(r["n_blocks"]))) for name, r in zip(labels, rows, strict=True))  # fmt: skip
    waits = tuple((name, *(t.of(r, c) for c in ("ttft_s", "ttft_p95_s", "itl_s", "latency_s")), f"{r['requests_failed']} / "
                   f"{r['requests'] + r['requests_failed']}") for name, r in zip(labels, rows, strict=True))  # fmt: skip
    seen = t("Energy per output token and median time to the first token against requests completed per second; the numbers are requests "
        "in "
             "flight (closed) or arriving per second (open).")  # fmt: skip
    metrics = (("energy_j_per_token", "energy per output token [J]"), ("ttft_s", "time to first token [s]"))
    return [Section(t("What each load costs"), (
        Prose((t.sentences(load_range(facts, t), t("Loads are not compared by a test.")), t.sentences(wait_range(facts, t), told),
               t.sentences(billed(facts, t), t("Name, model and strategy of a server are as stated: its protocol cannot confirm them.")),
               t.sentences(*remarks(table, labels, t)))),
        Picture("loads", figures.loads(facts, metrics, t), seen),
        Table((t("load"), t("J per output token"), t("J per request"), t("output tokens/s"), t("requests/s"), "n"), costs,
              t("Energy and throughput at each load, 95 % intervals of block means; closed:N keeps N requests in flight, open:R sends R "
                  "per second."),
              "loads.csv"),
        Table((t("load"), "TTFT [s]", "TTFT p95 [s]", "ITL [s]", t("request [s]"), t("failed / all")), waits,
              t("Time to first token, inter-token latency and whole request: medians (p95: 95th percentile), geometric means over blocks "
                  "with "
                "95 % intervals, counted from when a request was due."), "loads.csv"),
    ))]  # fmt: skip


def load_range(facts: Facts, t: Words) -> str:
    """The loads at which a token costs least and most."""
    table = facts.loads.reset_index(drop=True)
    labels, rows = names(table, t), table.to_dict("records")
    low, high = table["energy_j_per_token"].idxmin(), table["energy_j_per_token"].idxmax()
    return t("Over {n} loads the {quantity} runs from {low} J ({low_name}) to {high} J ({high_name}).", n=len(table),
             quantity=cost_name(facts, "token", t), low=t.of(rows[low], "energy_j_per_token"), low_name=labels[low],
             high=t.of(rows[high], "energy_j_per_token"), high_name=labels[high])  # fmt: skip


def wait_range(facts: Facts, t: Words) -> str:
    """The loads at which a request waits least and most."""
    table = facts.loads.reset_index(drop=True)
    if table["ttft_s"].isna().all():
        return ""
    labels, rows = names(table, t), table.to_dict("records")
    low, high = table["ttft_s"].idxmin(), table["ttft_s"].idxmax()
    return t("The median time to the first token runs from {low} s ({low_name}) to {high} s ({high_name}).", low=t.of(rows[low], "ttft_s"),
             low_name=labels[low], high=t.of(rows[high], "ttft_s"), high_name=labels[high])  # fmt: skip


def billed(facts: Facts, t: Words) -> str:
    """Whose processes the energy of a server is of; that this is unknown where no provenance says so."""
    if not any(job.get("server") for job in facts.provenance):
        return t("Whose processes are counted is not recorded with the data.")
    if facts.basis == "estimated":
        return t("Counted is the CPU time of the server's own processes, not that of the client.")
    if facts.table["boundary"].iloc[0] == "gpu":
        return t("Counted are the cards that the server's processes are on; the client uses none.")
    return t("Counted is the whole processor or machine, so the client on the same machine is in it (column `client_cpu_s`).")


def remarks(table: pd.DataFrame, labels: list[str], t: Words) -> list[str]:
    """A sentence for each remark on windows that changes what may be concluded."""
    flags = table["flags"].fillna("").astype(str)
    found = {flag: [name for name, text in zip(labels, flags, strict=True) if flag in text] for flag in REMARKS}
    return [t(REMARKS[flag], names=t.join(of)) for flag, of in found.items() if of]


def guidance(facts: Facts, t: Words) -> list[Section]:
    """What to choose in each setting, the deployment matrix within each model and task, and how far both reach."""
    if facts.only_served:
        return [Section(t("What to deploy, from these data alone"), (Prose((t(
            "No strategy is recommended: the rows of a server are loads, and loads are not chosen. What can be chosen is how many "
                "requests share "
            "a pass; the load curves price that choice."),)),))]  # fmt: skip
    blocks = [Points(tuple(rules(facts, t))), *matrix(facts, t)]
    blocks.append(
        Prose((t("This holds for what was measured here. Measure again before you carry it over to other hardware, models or lengths."),))
    )
    return [Section(t("What to deploy, from these data alone"), tuple(blocks))]


def rules(facts: Facts, t: Words) -> list[str]:
    """A sentence a setting: the strategy to take by the paired comparisons of this page, what it saves, and whether another is close."""
    table = recommended(facts)
    if table.empty:
        return [t("No recommendation: nothing was compared with a baseline.")]
    varying = [
        c
        for c in ("gpu", "model", "engine", "task", "input_tokens", "output_tokens", "batch_size")
        if table[c][table[c] != 0].nunique() > 1
    ]
    told = []
    for r in table.to_dict("records"):
        where = t.join(filter(None, (level(c, r[c], t) for c in varying))) or level("model", r["model"], t)
        if r["why"] == "all_at_chance":
            told.append(t("{where}: no recommendation, no score is shown above chance.", where=first_up(where)))
        elif r["why"] == "none_shown":
            told.append(
                t("{where}: stay with **{choice}**; no strategy is shown to take less energy.", where=first_up(where), choice=r["choice"])
            )
        else:
            next_one = t("{rival} is close: the intervals overlap.", rival=code(r["rival"])) if not r["decided"] else ""
            told.append(t.sentences(t("{where}: **{choice}** takes {percent} % less energy than {baseline} (× "
                "{ratio}).", where=first_up(where),
                                      choice=r["choice"], percent=number(100 * (1 - r["ratio"]), 2), baseline=code(facts.baseline),
                                      ratio=t.of(r, "ratio")), next_one, score_remark(facts, r, t)))  # fmt: skip
    return told


def score_remark(facts: Facts, rule: dict, t: Words) -> str:
    """What a choice scores beside the baseline, where the task was scored."""
    keys = ["gpu", "model", "weights", "engine", "task", "input_tokens", "output_tokens", "batch_size"]
    rows = facts.scored[(facts.scored[keys] == pd.Series({k: rule[k] for k in keys})).all(axis=1)].set_index("quantization")
    if rule["choice"] not in rows.index or facts.baseline not in rows.index:
        return ""
    own, base = (rows.loc[[name]].iloc[0].to_dict() for name in (rule["choice"], facts.baseline))
    if own["score_low"] <= base["score_high"] and base["score_low"] <= own["score_high"]:
        return t("Score {own} % against {base} %: {items} items do not decide between them.", own=number(100 * own["score"], 2),
                 base=number(100 * base["score"], 2), items=int(own["n_items"]))  # fmt: skip
    return t("Score {own} % against {base} %.", own=percent(own, "score", t), base=percent(base, "score", t))


def matrix(facts: Facts, t: Words) -> list[Table]:
    """The deployment matrix as a table: scenarios within each model and task."""
    table = deployment(facts)
    if table.empty:
        return []
    varying = [c for c in ("model", "task", "input_tokens", "output_tokens") if table[c][table[c] != 0].nunique() > 1]
    rows = []
    for r in table.to_dict("records"):
        work = t.join(filter(None, (level(c, r[c], t) for c in varying))) or level("model", r["model"], t)
        if not r["n"]:
            empty = t("no score measured") if r["scenario"].startswith("keeps") and r["unscored"] else t("nothing measured meets it")
            rows.append((work, t(r["scenario"]), empty, "-", "-", "-", "-"))
            continue
        choice = t.join(
            filter(
                None,
                (
                    r["gpu"],
                    r["engine"] if len(facts.levels("engine")) > 1 else "",
                    r["quantization"],
                    level("batch_size", r["batch_size"], t),
                ),
            )
        )
        saved = number(100 * (1 - r["ratio_to_baseline"]), 2) if pd.notna(r["ratio_to_baseline"]) else "-"
        score = number(100 * r["score"], 2) if pd.notna(r["score"]) else t("not measured")
        sure = t("only candidate") if r["n"] == 1 else t("yes") if r["decided"] else t("no, intervals overlap")
        rows.append((work, t(r["scenario"]), code(choice), t.of(r, "unit_energy_j"), saved, score, sure))
    head = (
        t("work"),
        t("scenario"),
        t("hardware, strategy, batch"),
        t("J per token or item"),
        t("energy saved [%]"),
        t("score [%]"),
        t("clear of the next"),
    )
    caption = t("Deployment matrix within each model and task: the best of what was measured there. Energy saved: against {baseline} at "
        "the same "
                "batch. Basis: {basis}.", baseline=code(facts.baseline or "-"), basis=t(facts.basis))  # fmt: skip
    return [Table(head, tuple(rows), caption, "summary.csv")]


def limits(facts: Facts, t: Words) -> list[Section]:
    """What these data cannot say, and how to do it again."""
    known = "`eai replay {name}` derives every energy again from its raw readings; `eai report {name}` writes this page again."
    again = t(known if facts.provenance else "`eai report {name}` writes this page again.", name=facts.experiment.replace("`", ""))
    return [Section(t("Limits"), (Points(tuple(limit_points(facts, t))), Prose((again,))))]


def limit_points(facts: Facts, t: Words) -> list[str]:
    """The limits as sentences, the gravest first."""
    points = [] if facts.basis == "measured" else [basis_sentence(facts, t)]
    single = [t("{factor}: only {level}", factor=t(FACTOR[f]), level=bare(f, facts.levels(f)[0], t))
              for f in ("gpu", "model", "task", "input_tokens", "output_tokens", "batch_size") if len(facts.levels(f)) == 1]  # fmt: skip
    points += [t("Not varied, so nothing is said about it: {levels}.", levels="; ".join(single))] if single else []
    n = int(facts.table["n_blocks"].max())
    if n == 1:
        points.append(t("One block: every number is a single observation, without interval or test."))
    elif n < FEW_BLOCKS:
        points.append(t("At most {n} blocks: intervals are wide, small differences cannot be shown.", n=n))
    if (facts.comparisons["outcome"] == "lower").sum() > 1 if len(facts.comparisons) else False:
        points.append(t("The largest of several savings was picked afterwards: a repetition will on average find it a little smaller."))
    if set(facts.table["weights"]) - {"published"}:
        points.append(t("Weights are random: energy and speed are those of the shapes, scores are not measured."))
    if len(facts.scored) == 0 and not facts.only_served:
        points.append(t("No task score was measured: a cheaper strategy may be a worse one."))
    points.append(t("Another card or machine of the same kind may differ by its sensor's gain and its own make."))
    if figures.words_for(t).language != t.language:
        points.append(t("Figures are in English: no font with Chinese characters is installed."))
    return points


def bare(factor: str, value: object, t: Words) -> str:
    """A level beside the name of its factor: a number alone."""
    return str(value) if factor == "batch_size" or factor.endswith("_tokens") else level(factor, value, t)


def first_up(text: str) -> str:
    """The text with its first letter as a capital; a text that begins with code stays."""
    return text[:1].upper() + text[1:]
