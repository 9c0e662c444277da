"""The published study as a report and a talk: its tables as printed, what follows from them by our definitions, a verdict on every claim.

The study's two parts were run apart: nothing here joins them. A number that is computed stands beside the printed one and says so.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from eai import provenance, tables
from eai.analyze import metrics
from eai.errors import UserError
from eai.report import figures
from eai.report.pages import Big, Document, Picture, Points, Prose, Section, Slide, Table, Talk, Words, fixed, number
from eai.report.sections import related, written_by

NAME = "study"
STRATEGIES = {
    "unspecified_baseline": "baseline",
    "unspecified_int8": "INT8",
    "unspecified_fp16_mixed": "FP16 mixed",
    "unspecified_dynamic": "dynamic",
}
GPUS = {
    "a100_pcie": "A100 PCIe",
    "rtx4090": "RTX 4090",
    "rtx3090ti": "RTX 3090 Ti",
    "rtx4060ti_16gb": "RTX 4060 Ti 16 GB",
    "v100": "V100",
    "l40s": "L40S",
}
MODELS = {
    "qwen2.5-7b-instruct": "Qwen2.5-7B",
    "deepseek-r1-distill-qwen-7b": "DeepSeek-R1-Distill-7B",
    "mistral-7b-instruct-v0.2": "Mistral-7B",
}
TASKS = {"mmlu": "MMLU", "arc_challenge": "ARC", "hellaswag": "HellaSwag", "truthfulqa": "TruthfulQA", "gsm8k": "GSM8K"}
SCENARIOS = {"data_center_production": "data centre production", "enterprise_application": "enterprise application",
             "research_and_testing": "research and development", "edge_computing": "edge", "budget_constrained": "budget"}  # fmt: skip
CROSSED = "qwen2.5-7b-instruct"
PREDICTED = ["fp16", "int8_default", "nf4"]
VERDICTS = ("consistent", "reproduced", "mixed", "not decided", "inconsistent", "contradicted", "untested")
FLOW = [
    ("1 hardware", ["Tensor Cores?", "memory bandwidth?", "power limit?"]),
    ("2 application", ["accuracy needed", "latency allowed", "how inputs vary"]),
    ("3 cost", ["ownership", "energy price", "scale"]),
    ("strategy", ["Tensor Cores: FP16", "memory-bound: INT8", "low power: dynamic"]),
]
FRAMEWORK = [
    ("three directions", ["quantization", "hardware", "models, tasks"]),
    ("measuring", ["power at 1 Hz", "task score", "energy per task"]),
    ("metrics", ["EOR: score / Wh", "TWEOR: EOR / s"]),
    ("comparison", ["strategies", "platforms", "complexity"]),
    ("guidance", ["matrix", "decision flow"]),
]


@dataclass(frozen=True)
class Study:
    """The study's published tables by name without their prefix, and its claims with a computed verdict each (`verdict`, `reason`)."""

    tables: dict[str, pd.DataFrame]
    claims: pd.DataFrame

    def verdict(self, claim: str, t: Words) -> str:
        """The verdict on a claim with its reason; that it is not registered, where it is not."""
        row = self.claims[self.claims["id"] == claim]
        return t("not registered") if row.empty else t(row["verdict"].iloc[0])

    def about(self, *ids: str) -> pd.DataFrame:
        """The claims of these ids, in their order, that are registered."""
        return self.claims.set_index("id").reindex(ids).dropna(subset=["claim"]).reset_index()


def is_study(experiment: str | Path) -> bool:
    """Whether a name means the published study: `study`, unless an experiment of that name was recorded."""
    if str(experiment) != NAME:
        return False
    try:
        return not any(tables.experiment_dir(NAME).glob("*/windows.jsonl"))
    except UserError:
        return True


def gather() -> Study:
    """The study's tables with EOR and implied time by our definition, and the verdicts on its claims."""
    from eai.claims.verdicts import all_verdicts

    published = {
        name: tables.read_published(name)
        for name in tables.published_names()
        if name.startswith("study_") or name.endswith("specifications")
    }
    registry = tables.read_published("claims")
    registry = registry[registry["source"] == NAME].reset_index(drop=True)
    found = all_verdicts(published | {"claims": registry, "sources": tables.read_published("sources")}, None)
    claims = found[found["id"].isin(set(registry["id"]))].merge(registry[["id", "location"]], on="id", how="left")
    own = {
        name.removeprefix("study_"): table.assign(line=range(2, len(table) + 2))
        for name, table in published.items()
        if name.startswith("study_")
    }
    for table in own.values():
        if {"eor", "energy_wh"} <= set(table):
            score = table["accuracy"] if "accuracy" in table else table["accuracy_pct"] / 100
            table["eor_computed"] = [
                metrics.eor(s, e) if pd.notna(s) and pd.notna(e) else float("nan") for s, e in zip(score, table["energy_wh"], strict=True)
            ]
            if "tweor" in table:
                table["time_implied_s"] = table["eor"] / table["tweor"]
    return Study(own, claims)


def report(found: Study, t: Words) -> Document:
    """The whole study."""
    parts = (opening, framework, platforms, scores, strategies, complexity, distillation, crossing, deployment, claims, contributions)
    body = (*related(found, t), *(Section(*part(found, t)) for part in parts))
    return Document(
        t("Quantization and hardware in the energy of LLM inference: a published study, recomputed"), abstract(found, t), body, meta(t)
    )


def meta(t: Words) -> str:
    """Where the figures come from, and what wrote the page when."""
    commit = provenance.commit()
    return written_by(t, NAME, t("published figures, retrieved as printed; nothing was measured here"),
                      t("commit {commits}", commits=commit.replace("+changed", "")[:8]) if commit else t("commit unknown"))  # fmt: skip


def counts(found: Study, t: Words) -> str:
    """How the claims came out."""
    n = found.claims["verdict"].value_counts()
    return t("Of {n} claims, {listed}.", n=len(found.claims), listed=t.join(f"{n[v]} {t(v)}" for v in VERDICTS if n.get(v)))


def abstract(found: Study, t: Words) -> tuple[str, ...]:
    """What the study asks, what its own tables say, and what they cannot."""
    return (
        t("The study asks how quantization and the GPU together decide the energy of LLM inference. It reports six GPU platforms, models "
            "of the 7B "
          "class and five tasks. **These are its figures as printed, not measurements of ours.**"),
        t.sentences(counts(found, t), t("Each verdict is computed from the study's own tables: consistent means that the printed figures "
            "follow from each other, "
                                        "untested that no row could decide.")),
        t("Quantization and hardware were measured in two separate experiments. No table crosses them, so a joint effect cannot be read "
            "from the study."),
    )  # fmt: skip


def source(name: str, table: pd.DataFrame, t: Words) -> str:
    """Where every figure of a table stands."""
    return t(
        "Source: `data/published/study_{name}.csv`, lines {low} to {high}, as printed in the study.",
        name=name,
        low=table["line"].min(),
        high=table["line"].max(),
    )


def verdict_table(found: Study, t: Words, *ids: str) -> list:
    """The headline claims of a section with their verdicts and reasons."""
    rows = tuple((r["claim"], t(r["verdict"]), r["reason"]) for r in found.about(*ids).to_dict("records"))
    caption = t("What the study states, and the verdict computed from its tables. Reasons are in English.") if t.language != "en" else (
        t("What the study states, and the verdict computed from its tables."))  # fmt: skip
    return [Table((t("claim"), t("verdict"), t("reason")), rows, caption)] if rows else []


def printed(value: float) -> str:
    """A figure as the study prints it; `-` where it prints none."""
    return "-" if pd.isna(value) else f"{value:,.10g}"


def opening(found: Study, t: Words):
    """The energy statistics that the study opens with."""
    return t("Why energy"), (Prose((t("The study opens with three figures on energy. None of its tables can confirm them."),)),
                             *verdict_table(found, t, "S-training", "S-potential", "S-45000"))  # fmt: skip


def framework(found: Study, t: Words):
    """The framework's diagram and the metrics."""
    told = t("EOR is the task score per watt-hour; TWEOR is EOR per second. Here the score is a fraction between 0 and 1 everywhere. The "
        "study also prints "
             "scores of 0 to 100 and, in a draft, joules per token under the name EOR; they are converted and said to be.")  # fmt: skip
    worked = ((71.8, 42.29, 3600, "1.698", "0.000472"), (70.9, 31.72, 2876, "2.236", "0.000777"))
    examples = Table(
        (t("score [%]"), "Wh", "s", t("EOR, printed (0 to 100)"), t("EOR, computed"), t("TWEOR, printed (0 to 100)"), t("TWEOR, computed")),
        tuple(
            (printed(s), printed(e), printed(d), eor, number(metrics.eor(s / 100, e)), tweor, number(metrics.tweor(s / 100, e, d)))
            for s, e, d, eor, tweor in worked
        ),
        t("The study's two worked examples: its score runs from 0 to 100, ours from 0 to 1, so ours are a hundredth."),
    )
    return t("Framework and metrics"), (
        Picture("framework", figures.flow(FRAMEWORK, t), t("The study's framework: three directions, how they are measured, two metrics, "
            "comparison and guidance.")),
        Prose((told,)), examples, *verdict_table(found, t, "S-eor-example", "S-tweor-example", "S-eor-int8-example",
            "S-tweor-gain", "S-example-gpu"),
    )  # fmt: skip


def platforms(found: Study, t: Words):
    """The six platforms: specification, and the draft table whose "EOR" is joules per token."""
    spec, drawn = found.tables["platforms_spec"], found.tables["platforms_measured"]
    rows = tuple((GPUS[r["gpu"]], r["architecture"], printed(r["memory_gb"]), r["memory_type"], printed(r["tdp_w"]),
        printed(r["memory_bandwidth_gb_s"]))
                 for r in spec.to_dict("records"))  # fmt: skip
    head = ("GPU", t("architecture"), t("memory [GB]"), t("type"), t("power limit [W]"), t("bandwidth [GB/s]"))
    measured = tuple(
        (
            GPUS[r["gpu"]],
            printed(r["power_w"]),
            printed(r["throughput_tok_s"]),
            number(r["power_w"] / r["throughput_tok_s"]),
            printed(r["eor"]),
            printed(r["tweor"]),
        )
        for r in drawn.to_dict("records")
    )
    head2 = ("GPU", t("power [W]"), t("tokens/s"), t("J per token, computed"), t("“EOR”, printed"), t("“TWEOR”, printed"))
    cost = (drawn["power_w"] / drawn["throughput_tok_s"]).set_axis(drawn["gpu"].map(GPUS)).sort_values()
    told = t(
        "Six cards of {n} architectures. In the early draft, power over throughput gives {low} J per token on the {best} and {high} "
        "J on the {worst}; the {first} takes "
        "{own} "
        "J.",
        n=spec["architecture"].nunique(),
        low=number(cost.iloc[0]),
        best=cost.index[0],
        high=number(cost.iloc[-1]),
        worst=cost.index[-1],
        first=GPUS["a100_pcie"],
        own=number(cost[GPUS["a100_pcie"]]),
    )
    return t("Platforms"), (
        Prose((told,)),
        Table(head, rows, t.sentences(t("Specification as the study prints it; “-” where it prints "
            "none."), source("platforms_spec", spec, t)), appendix=True),
        Table(head2, measured, t.sentences(t("The early draft's “EOR” is power over throughput, joules per token: lower is better."),
                                           source("platforms_measured", drawn, t))),
        *verdict_table(found, t, "S-a100-best", "S-bandwidth", "S-ada-operation", "S-a100-40", "S-a100-80", "S-30-turing"),
    )  # fmt: skip


def scores(found: Study, t: Words):
    """MMLU by platform and model, with EOR by our definition beside the printed one."""
    table = found.tables["mmlu_by_gpu"]
    rows = tuple(
        (MODELS[r["model"]], GPUS[r["gpu"]], printed(100 * r["accuracy"]), printed(r["energy_wh"]), printed(r["eor"]),
            number(r["eor_computed"]),
         printed(r["tweor"]), number(r["time_implied_s"]))
        for r in table.to_dict("records")
    )  # fmt: skip
    head = (
        t("model"),
        "GPU",
        t("score [%]"),
        "Wh",
        t("EOR, printed"),
        t("EOR, computed"),
        t("TWEOR, printed"),
        t("time that TWEOR implies [s]"),
    )
    grid = table.pivot_table(index="model", columns="gpu", values="energy_wh").dropna(how="all").rename(index=MODELS, columns=GPUS)
    told = t("EOR per Wh, score as a fraction. The printed TWEOR implies that 14,042 questions took a third of a second; the table "
        "prints no time, so TWEOR cannot "
             "be computed from it.")  # fmt: skip
    known = table.dropna(subset=["energy_wh"])
    low, high = known.loc[known["energy_wh"].idxmin()], known.loc[known["energy_wh"].idxmax()]
    follows = int(((known["eor"] - known["eor_computed"]).abs() <= 0.00005001).sum())
    said = t(
        "One pass over MMLU takes {low} Wh ({best}) to {high} Wh ({worst}). {k} of {n} printed EORs are score over energy within rounding.",
        low=number(low["energy_wh"]),
        best=t.join((MODELS[low["model"]], GPUS[low["gpu"]])),
        high=number(high["energy_wh"]),
        worst=t.join((MODELS[high["model"]], GPUS[high["gpu"]])),
        k=follows,
        n=len(known),
    )
    return t("MMLU by platform"), (
        Prose((said,)),
        Picture("mmlu", figures.bars(grid, t("energy of MMLU [Wh]"), t), t.sentences(t("Energy of one pass over MMLU by model and GPU; a "
            "missing bar was not printed."), source("mmlu_by_gpu", table, t))),
        Table(head, rows, t.sentences(told, source("mmlu_by_gpu", table, t))), *verdict_table(found, t,
            "S-mmlu-distilled-2.1", "S-mmlu-distilled-0.33", "S-six-models", "S-six-gpus"),
    )  # fmt: skip


def strategies(found: Study, t: Words):
    """Table 2: the strategies, with the computed reduction and EOR; the slide's and the draft's versions beside it."""
    table, slide, draft = (found.tables[name] for name in ("quantization_strategies", "strategy_slide", "precision_draft"))
    base = table[table["quantization"] == "unspecified_baseline"].set_index("model")
    rows = tuple(
        (MODELS[r["model"]], t(STRATEGIES[r["quantization"]]), printed(r["accuracy_pct"]),
            fixed(r["accuracy_pct"] - base.loc[r["model"], "accuracy_pct"], 1),
         printed(r["energy_wh"]), printed(r["energy_reduction_pct"]), number(100 * (1 - r["energy_wh"] / base.loc[r["model"],
             "energy_wh"])),
         printed(r["eor"]), number(r["eor_computed"]), number(r["eor_computed"] / base.loc[r["model"], "eor_computed"]))
        for r in table.to_dict("records")
    )  # fmt: skip
    head = (t("model"), t("strategy"), t("score [%]"), t("change [points]"), "Wh", t("saved [%], printed"), t("saved [%], "
        "computed"), t("EOR, printed"), t("EOR, computed"),
            t("EOR ratio"))  # fmt: skip
    told = tuple((t(STRATEGIES[r["quantization"]]), printed(r["energy_reduction_pct"]), t("{low} to "
        "{high}", low=r["accuracy_loss_low_pct"], high=r["accuracy_loss_high_pct"]),
                  t(r["best_for"])) for r in slide.to_dict("records"))  # fmt: skip
    early = tuple((r["precision"].upper(), printed(r["memory_pct_of_fp32"]), printed(r["performance_retained_pct"]),
        printed(r["speedup_pct"]), printed(r["energy_reduction_pct"]))
                  for r in draft.to_dict("records"))  # fmt: skip
    grid = table.pivot_table(index="model", columns="quantization", values="energy_wh")[list(STRATEGIES)].rename(
        index=MODELS, columns={k: t(v) for k, v in STRATEGIES.items()}
    )
    ranges = [
        t("{strategy} {low} to {high} %", strategy=t(STRATEGIES[q]), low=number(g.min()), high=number(g.max()))
        for q, g in (100 * (1 - table["energy_wh"] / table["model"].map(base["energy_wh"]))).groupby(table["quantization"], sort=False)
        if q != "unspecified_baseline"
    ]
    said = t(
        "On MMLU the printed energies give these savings: {ranges}. The slide and an early draft print other figures.",
        ranges="; ".join(ranges),
    )
    return t("Strategies"), (
        Prose((said,)),
        Picture("strategies", figures.bars(grid, t("energy of MMLU [Wh]"), t), t.sentences(t("Energy of one pass over MMLU by strategy; "
            "the card is not stated with this table."), source("quantization_strategies", table, t))),
        Table(head, rows, t.sentences(t("Table 2 of the study: strategies on MMLU."), source("quantization_strategies", table, t))),
        Table((t("strategy"), t("saved [%]"), t("score lost [points]"), t("said to be best for")), told, t.sentences(t("The slide's "
            "version."), source("strategy_slide", slide, t)), appendix=True),
        Table((t("precision"), t("memory [% of FP32]"), t("score kept [%]"), t("faster by [%]"), t("saved "
            "[%]")), early, t.sentences(t("The early draft's version."), source("precision_draft", draft, t)), appendix=True),
        *verdict_table(found, t, "S-int8-energy", "S-fp16-energy", "S-dynamic-energy", "S-int8-accuracy",
            "S-fp16-accuracy-slide", "S-fp16-accuracy-text", "S-int8-memory-half", "S-int8-memory-quarter"),
    )  # fmt: skip


def complexity(found: Study, t: Words):
    """Task complexity against energy, a figure of its own."""
    table = found.tables["energy_by_task"]
    grid = table.pivot_table(index="task", columns="quantization", values="energy_wh").loc[
        list(TASKS), [s for s in STRATEGIES if s in set(table["quantization"])]
    ]
    base = grid["unspecified_baseline"]
    saving = [q for q in grid if q != "unspecified_baseline"]
    shown = grid.rename(index=TASKS, columns={k: t(v) for k, v in STRATEGIES.items()})
    marked = dict(zip(zip(table["task"], table["quantization"], strict=True), table["energy_reduction_pct"], strict=True))
    rows = tuple(
        (TASKS[task], t(str(table[table["task"] == task]["complexity"].iloc[0]).replace("_", " ")), *(printed(grid.loc[task,
            q]) for q in grid),
         number(base[task] / base["mmlu"]),
             *(f"{printed(marked[task, q])} / {number(100 * (1 - grid.loc[task, q] / base[task]))}" for q in saving))
        for task in grid.index
    )  # fmt: skip
    saved = [t("{strategy} saved [%], printed / computed", strategy=t(STRATEGIES[q])) for q in saving]
    head = (t("task"), t("complexity"), *(f"{t(STRATEGIES[q])} [Wh]" for q in grid), t("baseline over MMLU's"), *saved)
    seen = t("Energy of one pass over each task, ordered by the study's complexity (log scale): the step is between the multiple-choice "
        "tasks and the two that it calls "
             "complex. Tasks differ in number of items and length of answers, so this is energy per task, not per question.")  # fmt: skip
    said = t(
        "Under the baseline, GSM8K takes {gsm} times the energy of MMLU and TruthfulQA {truth} times; no strategy changes the "
        "energy of a task by more than {most} %.",
        gsm=number(base["gsm8k"] / base["mmlu"]),
        truth=number(base["truthfulqa"] / base["mmlu"]),
        most=number(100 * (1 - grid[saving].div(base, axis=0).min().min()), 2),
    )
    return t("Task complexity and energy"), (
        Prose((said,)),
        Picture("complexity", figures.bars(shown, t("energy per task "
            "[Wh]"), t, log=True), t.sentences(seen, source("energy_by_task", table, t))),
        Table(head, rows, t.sentences(t("Energy by task and strategy."), source("energy_by_task", table, t))),
        *verdict_table(found, t, "S-gsm8k-7-10", "S-maths-340", "S-common-85", "S-code-180", "S-reasoning-sensitive"),
    )  # fmt: skip


def distillation(found: Study, t: Words):
    """GSM8K: the distilled model against the one it resembles."""
    table = found.tables["gsm8k_distillation"]
    base = table[table["reduction_against"].isna()].set_index("gpu")["energy_wh"]
    rows = tuple(
        (MODELS[r["model"]], GPUS[r["gpu"]], printed(100 * r["accuracy"]), printed(r["energy_wh"]), printed(r["energy_reduction_pct"]),
         number(100 * (1 - r["energy_wh"] / base[r["gpu"]])) if pd.notna(r["energy_reduction_pct"]) else "-",
             printed(r["eor"]), number(r["eor_computed"]))
        for r in table.to_dict("records")
    )  # fmt: skip
    head = (
        t("model"),
        "GPU",
        t("score [%]"),
        "Wh",
        t("saved [%], printed"),
        t("saved [%], computed"),
        t("EOR, printed"),
        t("EOR, computed"),
    )
    grid = table.pivot_table(index="gpu", columns="model", values="energy_wh").rename(index=GPUS, columns=MODELS)
    gap = [
        (100 * (1 - b["energy_wh"] / a["energy_wh"]), 100 * (b["accuracy"] - a["accuracy"]))
        for a, b in ((g.iloc[0], g.iloc[1]) for _, g in table.groupby("gpu", sort=False))
    ]
    said = t(
        "On GSM8K the distilled model takes {energy} % less energy than the model it resembles, at a score that changes by {score} "
        "points, on {n} cards.",
        energy=t("{low} to {high}", low=number(min(e for e, _ in gap)), high=number(max(e for e, _ in gap))),
        score=t("{low} to {high}", low=number(min(d for _, d in gap), 2), high=number(max(d for _, d in gap), 2)),
        n=len(gap),
    )
    return t("Distillation"), (
        Prose((said,)),
        Picture("distillation", figures.bars(grid, t("energy of GSM8K [Wh]"), t), t.sentences(t("Energy of one pass over GSM8K with and "
            "without distillation."), source("gsm8k_distillation", table, t))),
        Table(head, rows, t.sentences(t("Scores and energies on GSM8K."), source("gsm8k_distillation", table, t))),
        *verdict_table(found, t, "S-distill-energy", "S-distill-score", "S-distill-every-gpu", "S-distill-graceful",
            "S-distill-retained", "S-qwen-retained"),
    )  # fmt: skip


def crossing(found: Study, t: Words):
    """Hardware x strategy: what was measured, and that the two were never crossed."""
    figure, cells = cross_figure(found, t)
    told = t("A joint effect needs strategies on several cards in one experiment. The study has {filled} of {all} cells: one column from "
        "the hardware experiment, one row from the "
             "quantization experiment, whose card is not stated. Whether the two effects multiply was never measured, and nothing is "
                 "filled in here.",
             filled=int(cells.notna().sum().sum()), all=cells.size)  # fmt: skip
    seen = t.sentences(t("Energy of MMLU for one model by card and strategy: hatched cells were never measured, so no synergy can be "
        "shown."),
                       t("Sources: `study_mmlu_by_gpu.csv` and `study_quantization_strategies.csv`, which were run apart."))  # fmt: skip
    return t("Hardware and strategy together"), (
        Prose((told,)), Picture("hardware-strategy", figure, seen), *ours(t),
        *verdict_table(found, t, "S-synergy", "S-a100-int8", "S-4090-fp16", "S-98-retained", "S-pairing", "S-ada-int8", "S-ampere-dynamic"),
    )  # fmt: skip


def ours(t: Words) -> list:
    """Our own grid of the same cards: predictions, since nothing of ours was measured on them; nothing where none is answered."""
    from eai.predict import predict

    grid = pd.MultiIndex.from_product([GPUS, PREDICTED], names=["gpu", "quantization"]).to_frame(index=False)
    table = predict(grid.assign(model=CROSSED, batch_size=1, input_tokens=512, output_tokens=256))
    cells = table.pivot_table(index="gpu", columns="quantization", values="energy_j_per_token").reindex(index=GPUS, columns=PREDICTED)
    known = table.dropna(subset=["energy_j_per_token"])
    if known.empty:
        return []
    words = figures.words_for(t)
    figure = figures.heatmap(cells.rename(index=GPUS), words("predicted energy per output token [J]"), words, words("no answer"))
    reach = (known["energy_j_per_token_high"] / known["energy_j_per_token"]).median()
    seen = t(
        "**Predicted by us, not measured**: energy per output token of one 7B model at batch 1, 512 tokens in and 256 out. A 95 % interval "
        "reaches a factor of {reach} to either side (median), so most differences between cells are not decided.",
        reach=number(reach, 2),
    )
    return [Picture("predicted-grid", figure, seen)]


def cross_figure(found: Study, t: Words):
    """The heatmap of the cells that the study measured, and those cells."""
    by_gpu = found.tables["mmlu_by_gpu"].query("model == @CROSSED").set_index("gpu")["energy_wh"]
    by_strategy = found.tables["quantization_strategies"].query("model == @CROSSED").set_index("quantization")["energy_wh"]
    words = figures.words_for(t)
    unstated = words("card not stated")
    cells = pd.DataFrame(float("nan"), index=[*GPUS.values(), unstated], columns=[words(v) for v in STRATEGIES.values()])
    for gpu, energy in by_gpu.items():
        cells.loc[GPUS[gpu], words("baseline")] = energy
    for strategy, energy in by_strategy.items():
        cells.loc[unstated, words(STRATEGIES[strategy])] = energy
    return figures.heatmap(cells, words("energy of MMLU [Wh]"), words, words("not measured")), cells


def deployment(found: Study, t: Words):
    """The deployment matrix by its five scenarios, and the decision flow."""
    table = found.tables["deployment_matrix"]
    return t("Deployment"), (
        matrix_table(found, t), Picture("decision-flow", figures.flow(FLOW, t), t("The study's decision flow: hardware, application, "
            "cost, and the strategy that follows. Each rule has a verdict below.")),
        Prose((t("The study contradicts itself: production is FP16 in its narrative and A100 with INT8 in its matrix; the edge is INT4, "
            "INT8 or dynamic in different places. No "
                 "row of the matrix was measured as a pair of card and strategy."),)),
        *verdict_table(found, t, "S-accuracy-first", "S-energy-first", "S-tensor-fp16", "S-bandwidth-int8", "S-dynamic-rule",
            "S-small-efficiency", "S-small-cost", "S-large-efficiency", "S-large-cost", "S-roi"),
    ) if len(table) else ()  # fmt: skip


def matrix_table(found: Study, t: Words) -> Table:
    """The five scenarios with what the study expects of them."""
    table = found.tables["deployment_matrix"]
    rows = tuple((t(SCENARIOS[r["scenario"]]), GPUS[r["gpu"]], t(STRATEGIES[r["quantization"]]),
        printed(r["expected_accuracy_retained_pct"]),
                  printed(r["expected_efficiency_gain_pct"]), t(r["deployment_cost"].replace("_",
                      " to "))) for r in table.to_dict("records"))  # fmt: skip
    head = (t("scenario"), "GPU", t("strategy"), t("score kept [%], expected"), t("efficiency gained [%], expected"), t("cost"))
    return Table(
        head,
        rows,
        t.sentences(
            t("The study's deployment matrix. These are its expectations, not measurements."), source("deployment_matrix", table, t)
        ),
    )


def claims(found: Study, t: Words):
    """Every claim with its verdict."""
    rows = tuple((r["id"], r["claim"], t(r["verdict"]), r["reason"]) for r in found.claims.to_dict("records"))
    caption = t("Every registered claim of the study with its computed verdict; `eai claims` prints them with their rows.")
    return (
        t("All claims and their verdicts"),
        (Prose((counts(found, t),)), Table((t("id"), t("claim"), t("verdict"), t("reason")), rows, caption, "data/published/claims.csv")),
        "appendix",
    )


def contributions(found: Study, t: Words):
    """What the study contributes, and the limits it admits."""
    return t("Contributions and limits"), (
        Points((
            t("Two metrics that join score and energy, EOR and TWEOR."), t("A comparison of four strategies on one task, and of three on "
                "five tasks."),
            t("A comparison of platforms with the same model and task."), t("Distillation as a way to save energy at nearly the same "
                "score."),
            t("A deployment matrix and a decision flow."),
        )),
        Points((
            t("7B models only, few architectures, few precisions, no test of long runs."),
            t("Number of repeats, spread and meter boundary are not printed: no interval can be given for any of its figures."),
            t("Quantization and hardware were never crossed in one experiment; no significance test was made."),
        )),
    )  # fmt: skip


def talk(found: Study, t: Words) -> Talk:
    """The study in seven minutes, and a cheat sheet."""
    figure, _ = cross_figure(found, t)
    n = found.claims["verdict"].value_counts()
    saved = found.about(
        "S-int8-energy", "S-fp16-energy", "S-dynamic-energy", "S-gsm8k-7-10", "S-distill-energy", "S-a100-best", "S-synergy"
    )
    verdicts = Table(
        (t("claim"), t("verdict")),
        tuple((r["claim"], t(r["verdict"])) for r in saved.to_dict("records")),
        t("Verdicts computed from the study's own tables."),
    )
    stats = found.about("S-training", "S-potential", "S-45000")
    slides = (
        Slide(t("Why energy, and which figures hold?"), (
            Big(t("{n} claims, {k} consistent", n=len(found.claims), k=int(n.get("consistent", 0)))),
            Points(tuple(f"{r['claim']} ({t(r['verdict'])})" for r in stats.to_dict("records"))), Prose((t("Published figures of a "
                "study, not measured by us."),)),
        ), t.sentences(
            t("Training a large model can take more than a million kilowatt-hours, we are told, and energy per token has fallen "
                "forty-five thousand times in eight years. These numbers open "
              "many talks. Can anybody check them? This talk is about a study of quantization and hardware, and about which of its "
                  "figures hold. We took every statement of it, "
              "and computed from its own tables whether it follows."),
            t("Of {n} claims, {k} are consistent. {m} cannot be tested at all, because no table has the "
                "rows.", n=len(found.claims), k=int(n.get("consistent", 0)), m=int(n.get("untested", 0))),
        ), 60),
        Slide(t("From three directions to guidance"), (
            Picture("f", figures.flow(FRAMEWORK, t), ""), Points((t("EOR: score per watt-hour. TWEOR: EOR per second."), t("Score as a "
                "fraction everywhere."), t("Nothing measured apart is joined."))),
        ), t.sentences(
            t("The study starts from three directions: how the weights are stored, which card computes, and which model answers which "
                "task. Power is read once a second while a task runs, and "
              "the integral is its energy. Two metrics join score and energy. The first is the score per watt-hour. The second divides "
                  "by time as well, so that a slow answer counts less. "
              "Both depend on the scale of the score. The study uses zero to one in its tables, and zero to a hundred in its examples; "
                  "one draft even calls joules per token by the same name. We use "
              "one definition, with the score as a fraction, and put our value beside the printed one. One rule matters most: the two "
                  "teams measured apart, so we never combine their numbers."),
        ), 90),
        Slide(t("Result 1: what a strategy saves"), (picture_of(strategies(found, t)),), t.sentences(
            t("The first result: the strategies on one task. INT8 takes about a quarter less energy than the baseline, mixed precision "
                "about a sixth less, and dynamic quantization about a tenth less. The "
              "scores fall by less than one point. Within this table the printed savings follow from the printed energies. But look at "
                  "other tasks: there INT8 saves only a fifth. So the "
              "headline of a quarter holds for one task, not for all. And without repeats, nobody can say how much of the difference "
                  "between strategies is noise."),
        ), 60),
        Slide(t("Result 2: the task decides more than the strategy"), (picture_of(complexity(found, t)),), t.sentences(
            t("The second result: the task. Grade school maths takes about eight times the energy of the knowledge questions. No "
                "strategy changes that by more than a quarter. So shortening the "
              "answers may save more than fewer bits. The same text says elsewhere that maths costs four times as much, and its own "
                  "table refutes that. Remember what the bar means: it is energy for the whole "
              "task. The tasks differ in the number of questions and in the length of the answers."),
        ), 60),
        Slide(t("Result 3: were hardware and strategy crossed?"), (Picture("x", figure, t("Hatched: never measured. Verdict on the "
            "synergy claim: {verdict}.", verdict=found.verdict("S-synergy", t))),), t.sentences(
            t("The third result is one we do not have. The study says that hardware and strategy multiply each other: forty percent more "
                "on one card, thirty-five on another. Look at the cells. One column "
              "comes from the hardware experiment, one row from the quantization experiment, and its card is not named. Every other cell "
                  "is empty. It was never measured. To show a joint effect one must "
              "run each strategy on each card, in the same blocks. We do not fill these cells in, and neither should anybody who quotes "
                  "the study."),
        ), 60),
        Slide(t("What should one deploy?"), (matrix_table(found, t), Prose((t("Expected by the study; no row was measured as a "
            "pair."),))), t.sentences(
            t("What should one deploy? The study gives a matrix of five scenarios, from the data centre to a tight budget, and a flow in "
                "three steps: hardware, application, cost. Treat it as a list of "
              "hypotheses. No row was measured as a pair of card and strategy, and the text contradicts itself on production and on the "
                  "edge. What its tables do support: if energy comes first, "
              "INT8 was lowest on every task; if the score comes first, mixed precision lost least. Measure the pair that you want to "
                  "deploy."),
        ), 60),
        Slide(t("To take home"), (verdicts,), t.sentences(
            t("To sum up. Strategies save something on one task, the task itself decides more, and the joint effect was never measured. "
                "Every verdict here can be computed again from the published "
              "tables. A claim without its rows is a hope. Thank you."),
        ), 30),
    )  # fmt: skip
    return Talk(t("A published study, recomputed"), slides, meta(t), cheat_sheet(found, t))


def picture_of(section: tuple) -> Picture:
    """The first figure of a section."""
    return next(block for block in section[1] if block.kind == "picture")


def cheat_sheet(found: Study, t: Words) -> Document:
    """One page for the speaker: verdicts by headline, what to answer, what not to say."""
    heads = (
        "S-int8-energy",
        "S-fp16-energy",
        "S-dynamic-energy",
        "S-distill-energy",
        "S-gsm8k-7-10",
        "S-a100-best",
        "S-synergy",
        "S-pairing",
    )
    return Document(t("Cheat sheet: {name}", name=NAME), (), (
        Section(t("Headlines and verdicts"), tuple(verdict_table(found, t, *heads))),
        Section(t("If they ask"), (Points((
            t("Did you measure this? No: these are published figures, recomputed."), t("Why is synergy untested? No table crosses card "
                "and strategy."),
            t("How large is the error? Unknown: neither repeats nor spread are printed."), t("Is “inconsistent” an accusation? No: most "
                "slips are of rounding, unit or accounting."),
        )),)),
        Section(t("Do not say"), (Points((t("“INT8 on the A100 gives 40 %”: it was never measured."), t("A joint number from the two "
            "experiments."))),)),
    ), meta(t))  # fmt: skip
