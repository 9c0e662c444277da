"""The published study as a report and a talk: its tables as printed, what follows from them by our definitions, a verdict on every claim.

`templates/said/study*.txt` has the sentences. The study's two parts were run apart: nothing here joins them. A number that is computed
stands beside the printed one and says so.
"""

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, footprint, machine, plots, tables
from eai.analyze.selection import eor, tweor
from eai.errors import UserError
from eai.plots import style
from eai.report.pages import CALLED, Document, Picture, Table, Words, composed, number
from eai.report.sections import written_by
from eai.stats import comparisons

NAME = "study"
NORMAL_95 = 1.96
TOGETHER_BATCH = 8
COMBINED = ["gpu", "model", "quantization", "batch_size"]
STRATEGIES, GPUS, CARDS, MODELS, TASKS, SCENARIOS, WORDS, UNITS, METHODS, LIMITS, DIAGRAMS = CALLED["study"].values()
PLAIN = GPUS | CARDS | MODELS | TASKS
CROSSED = "qwen2.5-7b-instruct"
COMPARED = ["fp16", "fp16_mixed", "int8_default", "int8_pure", "dynamic", "nf4"]
VERDICTS = ("consistent", "reproduced", "mixed", "not decided", "inconsistent", "contradicted", "untested")


@dataclass(frozen=True)
class Study:
    """The study's published tables by name without their prefix, the same as `printed` (texts with all their digits), and its claims with
    a computed verdict each (`verdict`, `reason`).
    """

    tables: dict[str, pd.DataFrame]
    claims: pd.DataFrame
    printed: dict[str, pd.DataFrame]

    def verdict(self, claim: str, t: Words) -> str:
        return t(self.about(claim)["verdict"].iloc[0])

    def about(self, *ids: str) -> pd.DataFrame:
        """The claims of these ids, in their order, that are registered."""
        return self.claims.set_index("id").reindex(ids).dropna(subset=["claim"]).reset_index()

    def cells(self) -> pd.DataFrame:
        """The energy of MMLU of one model by card and strategy, with what was never measured left empty [Wh]."""
        by_gpu = self.tables["mmlu_by_gpu"].query("model == @CROSSED").set_index("gpu")["energy_wh"]
        by_strategy = self.tables["quantization_strategies"].query("model == @CROSSED").set_index("quantization")["energy_wh"]
        cells = pd.DataFrame(float("nan"), index=[*GPUS, "card not stated"], columns=list(STRATEGIES))
        cells.loc[by_gpu.index, "unspecified_baseline"] = by_gpu
        cells.loc["card not stated", by_strategy.index] = by_strategy
        return cells


def is_study(experiment: str | Path) -> bool:
    """Whether a name means the published study: `study`, unless an experiment of that name was recorded."""
    if str(experiment) != NAME:
        return False
    try:
        return not any(tables.experiment_dir(NAME).glob("*/windows.jsonl"))
    except UserError:
        return True


def gather(t: Words) -> Study:
    """The study's tables with EOR and implied time by our definition, and the verdicts on its claims, reasons in the page's language."""
    from eai.claims.tabular import spoken
    from eai.claims.verdicts import all_verdicts

    names = [name for name in tables.published_names() if name.startswith("study_") or name.endswith("specifications")]
    published = {name: tables.read_published(name) for name in names}
    registry = tables.read_published("claims")
    registry = registry[registry["source"] == NAME].reset_index(drop=True)
    with spoken(t):
        found = all_verdicts(published | {"claims": registry, "sources": tables.read_published("sources")}, None)
    found["reason"] = [readable(reason, registry["quantity"], t) for reason in found["reason"]]
    claims = found[found["id"].isin(set(registry["id"]))].merge(registry[["id", "location"]], on="id", how="left")
    own = {n.removeprefix("study_"): table.assign(line=range(2, len(table) + 2)) for n, table in published.items() if n[:6] == "study_"}
    for table in own.values():
        if {"eor", "energy_wh"} <= set(table):
            table["eor_computed"] = eor(table["accuracy"] if "accuracy" in table else table["accuracy_pct"] / 100, table["energy_wh"])
            if "tweor" in table:
                table["time_implied_s"] = table["eor"] / table["tweor"]
    return Study(own, claims, {name: tables.read_published(f"study_{name}", as_text=True) for name in own})


def readable(reason: str, quantities: pd.Series, t: Words) -> str:
    """A reason with quantities by their labels, cards, models, tasks and strategies by their names, and tables as code."""
    from eai.claims.tabular import LABELS

    def said(found: re.Match) -> str:
        name, stem, unit = found[0], *found[0].rpartition("_")[::2]
        if name in PLAIN or name.startswith("study_"):
            return PLAIN.get(name, f"`{name}`")
        words = {**LABELS, **STRATEGIES, **WORDS}.get(name) or (stem and unit in UNITS and f"{stem.replace('_', ' ')} [{UNITS[unit]}]")
        return t(words) if words else t.catalogue.get(name, name)

    for name in quantities.dropna().astype(str):
        reason = reason.replace(name.replace("_", " "), name)
    reason = re.sub(r"[A-Za-z](?:[\w.-]*[A-Za-z0-9])?", said, reason, flags=re.A)
    return re.sub(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])", "", reason)  # no space between Chinese characters


def cells(
    gpus: list[str], models: list[str], strategies: list[str], batches: list[int], tokens: tuple[int, int] = (256, 256)
) -> pd.DataFrame:
    """Every combination with its energy, time and score, one row each; `reason` says why one cannot run (`runs`) or be predicted.

    `basis` of energy and speed: published where a row was measured on that card with a model of those shapes, strategy and batch (median of
    the rows, the width of a prediction), else predicted. `score`: the study's for that model and strategy (`score_basis` published; it
    states no card), or its score of the model times `kept`, the mean share that it prints for the strategy (computed); NaN without a
    printed one.
    """
    from eai.predict import predict, sources, work
    from eai.predict.sources import SAME_WORK

    known = catalog.gpu
    grid = pd.DataFrame(itertools.product((known(g).slug for g in gpus), models, strategies, batches), columns=COMBINED)
    grid = predict(grid.assign(input_tokens=tokens[0], output_tokens=tokens[1]))
    refused = [
        footprint.supports(c.quantization, footprint.Device.of_catalog(known(c.gpu)), "published", catalog.model(c.model), c.batch_size)
        for c in grid.itertuples()
    ]
    grid["runs"] = [r is None for r in refused]
    grid["reason"] = [r.reason if r else reason for r, reason in zip(refused, grid["reason"], strict=True)]
    ends = [f"{c}{end}" for c in ("energy_j_per_token", "throughput_tok_s") for end in ("", "_low", "_high")]
    grid.loc[grid["reason"] != "", ends] = float("nan")

    rows = sources.evidence(extras=True)
    rows = rows[rows["learned"].astype(bool) & (rows["doubt"].fillna("") == "") & (rows["num_gpus"].fillna(1) == 1)]
    rows = rows[(rows["accounting"] != "net") & rows["boundary"].isin(sources.BOARDS)]
    done = work.table(rows)[0]
    rows = rows.assign(gpu=done["gpu"], shape=done["shape"], quantization=rows["quantization"].replace(SAME_WORK))
    shapes = {m: catalog.shape(m).key for m in models}
    keys = ["gpu", "shape", "quantization", "batch_size"]
    own = grid.assign(shape=grid["model"].map(shapes))[keys].join(rows.groupby(keys)[[ends[0], ends[3]]].median(), on=keys)
    for column in (ends[0], ends[3]):
        factor = (own[column] / grid[column]).fillna(1.0)
        grid[[c for c in ends if c.startswith(column)]] = grid[[c for c in ends if c.startswith(column)]].mul(factor, axis=0)
    grid["basis"] = np.where(own[ends[0]].notna(), "published", "predicted")
    grid["itl_s"] = grid["batch_size"] / grid["throughput_tok_s"]

    printed = tables.read_published("study_quantization_strategies").pivot_table("accuracy_pct", "model", "quantization") / 100
    share = printed.div(printed["unspecified_baseline"], axis=0).mean()
    method = {strategy: slug for slug, several in METHODS.items() for strategy in several}
    base = tables.read_published("study_mmlu_by_gpu").groupby("model")["accuracy"].median()
    slugs = grid["quantization"].map(method)
    grid["kept"] = slugs.map(share)
    grid["score"] = [
        printed[s].get(m, float("nan")) if isinstance(s, str) else float("nan") for m, s in zip(grid["model"], slugs, strict=True)
    ]
    grid["score_basis"] = np.where(grid["score"].notna(), "published", np.where(grid["kept"].notna(), "computed", ""))
    grid["score"] = grid["score"].fillna(grid["model"].map(base) * grid["kept"])
    grid["usd_an_hour"] = grid["gpu"].map(tables.read_catalog("rent").set_index("slug")["usd_per_hour"])
    return grid.assign(watts=[known(g).tdp_w for g in grid["gpu"]])


def decided(grid: pd.DataFrame, limits: dict[str, dict], model: str, rng: np.random.Generator) -> pd.DataFrame:
    """The study's three steps for each scenario: one row each with how many `cells` of a model are left after every step, and the choice.

    `asked`; `hardware`: it can run; `need`: least share `kept` of the score, most `itl_s`; `cost`: most `usd_an_hour` (a rent that nobody
    lists excludes nothing) and `watts`. The choice has the lowest energy of what is left, and `p_best` the probability that it has; empty
    where nothing is left. `advised`: the study's choice, `advised_ratio` its energy over that of ours, `misses` the limits it misses.
    """
    advice = tables.read_published("study_deployment_matrix").set_index("scenario")
    found = []
    for scenario, limit in limits.items():
        asked = grid[(grid["batch_size"] == limit["batch_size"]) & (grid["model"] == model)]
        able = asked[asked["reason"] == ""]
        useful = able[(able["kept"] >= limit["kept"]) & (able["itl_s"] <= limit["itl_s"])]
        most = {"usd_an_hour": limit["usd_an_hour"], "watts": limit.get("watts", np.inf)}
        paid = useful[~(useful[list(most)] > pd.Series(most)).any(axis=1)].sort_values("energy_j_per_token").reset_index(drop=True)
        row = {"scenario": scenario, "asked": len(asked), "hardware": len(able), "need": len(useful), "cost": len(paid)}
        if len(paid):
            se = np.log(paid["energy_j_per_token_high"] / paid["energy_j_per_token_low"]) / (2 * NORMAL_95)
            drawn = comparisons.draw(np.log(paid["energy_j_per_token"]), se, np.inf, rng, 2000)
            row |= paid.iloc[0].to_dict() | {"p_best": float(np.mean(drawn.argmin(axis=1) == 0))}
        said = advice.loc[scenario]
        own = asked[asked["gpu"].str.startswith(said["gpu"]) & asked["quantization"].isin(METHODS[said["quantization"]])]
        own = own.dropna(subset="energy_j_per_token").sort_values("energy_j_per_token").head(1)
        over = [c for c, end in (most | {"itl_s": limit["itl_s"]}).items() if (own[c] > end).any()]
        missed = over + ["kept"] * bool((own["kept"] < limit["kept"]).any()) if len(own) else ["cannot run"]
        ratio = own["energy_j_per_token"].sum() / row["energy_j_per_token"] if len(own) and len(paid) else float("nan")
        found.append(row | {"advised": f"{said['gpu']}, {said['quantization']}", "advised_ratio": ratio, "misses": ", ".join(missed)})
    return pd.DataFrame(found)


def report(found: Study, t: Words) -> Document:
    """The whole study."""
    abstract, *sections = composed("study.txt", t, s=Said(found, t))
    title = t("Quantization and hardware in the energy of LLM inference: a published study, recomputed")
    return Document(title, tuple(p for block in abstract.blocks for p in block.texts), tuple(sections), meta(t))


def talk(found: Study, t: Words) -> tuple[Document, Document]:
    """The study in seven minutes, and a cheat sheet."""
    content = {"found": found, "s": Said(found, t), "n": found.claims["verdict"].value_counts().to_dict()}
    slides, sheet = (composed(name, t, **content) for name in ("study-talk.txt", "study-cheat.txt"))
    titles = (t("A published study, recomputed"), t("Cheat sheet: {name}", name=NAME))
    return Document(titles[0], (), slides, meta(t)), Document(titles[1], (), sheet, meta(t))


def meta(t: Words) -> str:
    """Where the figures come from, and what wrote the page when."""
    commit = (machine.commit() or "").replace("+changed", "")[:8]
    return written_by(t, NAME, t("published figures, retrieved as printed; nothing was measured here"),
                      t("commit {commits}", commits=commit) if commit else t("commit unknown"))  # fmt: skip


def plain(value: object) -> str:
    """A text as it is, a number with three digits, `-` for neither."""
    return "-" if pd.isna(value) else value if isinstance(value, str) else number(value)


def saved(energy: pd.Series, base: pd.Series | float) -> pd.Series:
    """The energy saved against a baseline [%]."""
    return 100 * (1 - energy / base)


@dataclass(frozen=True)
class Said:
    """What is said of the study in a language: tables, figures and the sentences with numbers in them."""

    found: Study
    t: Words

    def name(self, value: str) -> str:
        """A card, model, task, strategy or scenario as a page names it."""
        words = (STRATEGIES | SCENARIOS).get(value, value)
        return PLAIN.get(value) or self.t.catalogue.get(words, words)

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the names of its rows and columns in the language of the figure that is being drawn."""
        shown = Said(self.found, Words("en")) if style.t("baseline") == "baseline" else self
        return frame.rename(index=shown.name, columns=shown.name)

    def source(self, name: str) -> str:
        """Where every figure of a table stands."""
        line = self.found.tables[name]["line"]
        known = "Source: `data/published/study_{name}.csv`, lines {low} to {high}, as printed in the study."
        return self.t(known, name=name, low=line.min(), high=line.max())

    def counts(self) -> str:
        n = self.found.claims["verdict"].value_counts()
        listed = self.t.join(f"{n[v]} {self.t(v)}" for v in VERDICTS if n.get(v))
        return self.t("Verdicts on {n} claims: {listed}.", n=len(self.found.claims), listed=listed)

    def table(self, name: str, columns: dict[str, str], caption: str) -> Table:
        """A published table: figures with the digits that the study prints, computed ones with three."""
        shown = {head: lambda r, c=column: self.name(plain(r[c])) for head, column in columns.items()}
        return self.t.table(self.worked(name), shown, self.t.sentences(caption, self.source(name)))

    def worked(self, name: str) -> pd.DataFrame:
        """A published table as printed with what follows from it: scores in percent, savings and ratios to the baseline, J per token."""
        table, printed = self.found.tables[name].copy(), self.found.printed[name]
        if "accuracy" in table:
            table["score"] = [s if pd.isna(s) else str(Decimal(s).scaleb(2)) for s in printed["accuracy"]]
        if name == "platforms_measured":
            table["j_per_token"] = table["power_w"] / table["throughput_tok_s"]
        if name == "quantization_strategies":
            is_base = table["quantization"] == "unspecified_baseline"
            base = table[is_base].set_index("model").loc[table["model"]].set_index(table.index)
            table["points"] = (table["accuracy_pct"] - base["accuracy_pct"]).map("{:.1f}".format)
            table["saved"] = saved(table["energy_wh"], base["energy_wh"]).mask(is_base)
            table["eor_ratio"] = table["eor_computed"] / base["eor_computed"]
        if name == "gsm8k_distillation":
            base = table[table["reduction_against"].isna()].set_index("gpu")["energy_wh"]
            table["saved"] = saved(table["energy_wh"], table["gpu"].map(base)).where(table["energy_reduction_pct"].notna())
        if name == "strategy_slide":
            table["lost"] = list(map(self.t.span, printed["accuracy_loss_low_pct"], printed["accuracy_loss_high_pct"]))
        table[printed.columns] = printed
        if name == "deployment_matrix":
            table["deployment_cost"] = table["deployment_cost"].str.replace("_", " to ")
        if name == "precision_draft":
            table["precision"] = table["precision"].str.upper()
        return table

    def claims(self, columns: list[str], table: pd.DataFrame, caption: str, csv: str = "", **more) -> Table:
        return self.t.table(table, dict(zip(columns, columns, strict=True)), caption, csv, **more)

    def verdicts(self, *ids: str) -> list[Table]:
        """The headline claims of a section with their verdicts and reasons."""
        table, caption = self.found.about(*ids), self.t("What the study states, and the verdict computed from its tables.")
        return [self.claims(["claim", "verdict", "reason"], table, caption, appendix=True)] if len(table) else []

    def examples(self, caption: str) -> Table:
        """The study's two worked examples of EOR and TWEOR."""
        worked = (("71.8", "42.29", "3600", "1.698", "0.000472"), ("70.9", "31.72", "2876", "2.236", "0.000777"))
        head = ("score [%]", "Wh", "s", "EOR, printed (0 to 100)", "EOR, computed", "TWEOR, printed (0 to 100)", "TWEOR, computed")
        rows = []
        for score, wh, s, per_wh, per_wh_s in worked:
            share, numbers = float(score) / 100, (float(wh), float(s))
            rows.append((score, wh, s, per_wh, number(eor(share, numbers[0])), per_wh_s, number(tweor(share, *numbers))))
        return Table(tuple(map(self.t, head)), tuple(rows), caption)

    def diagram(self, name: str, caption: str) -> Picture:
        return self.t.figure(name, caption, lambda ax: plots.framework(ax, DIAGRAMS[name]), 1.9, wide=True)

    def platforms(self, sentence: str) -> str:
        """The cheapest and the most expensive card of the draft."""
        drawn = self.worked("platforms_measured")
        cost = drawn.set_index(drawn["gpu"].map(GPUS))["j_per_token"].sort_values()
        ends = {"low": number(cost.iloc[0]), "best": cost.index[0], "high": number(cost.iloc[-1]), "worst": cost.index[-1]}
        n, first = self.found.tables["platforms_spec"]["architecture"].nunique(), GPUS["a100_pcie"]
        return self.t(sentence, n=n, first=first, own=number(cost[first]), **ends)

    def mmlu(self, sentence: str) -> str:
        """The range of the energy of MMLU, and how many printed EORs follow."""
        known = self.found.tables["mmlu_by_gpu"].dropna(subset=["energy_wh"]).sort_values("energy_wh")
        ends = {"low": number(known["energy_wh"].iloc[0]), "high": number(known["energy_wh"].iloc[-1])}
        for end, i in (("best", 0), ("worst", -1)):
            ends[end] = self.t.join(map(self.name, known.iloc[i][["model", "gpu"]]))
        follows = int(((known["eor"] - known["eor_computed"]).abs() <= 0.00005001).sum())
        return self.t(sentence, k=follows, n=len(known), **ends)

    def savings(self, sentence: str) -> str:
        """What each strategy saves on MMLU."""
        found = self.worked("quantization_strategies").groupby("quantization", sort=False)["saved"]
        ranges = [f"{self.name(q)} {self.t.span(number(g.min()), number(g.max()))} %" for q, g in found if g.any()]
        return self.t(sentence, ranges="; ".join(ranges))

    def by_task(self) -> pd.DataFrame:
        """The energy of each task by strategy [Wh]."""
        grid = self.found.tables["energy_by_task"].pivot_table(index="task", columns="quantization", values="energy_wh")
        return grid.loc[list(TASKS), [s for s in STRATEGIES if s in grid]]

    def tasks(self, sentence: str) -> str:
        """What tasks and strategies do to the energy."""
        grid = self.by_task()
        base = grid["unspecified_baseline"]
        most = saved(grid.div(base, axis=0).min().min(), 1)
        over = {name: number(base[task] / base["mmlu"]) for name, task in (("gsm", "gsm8k"), ("truth", "truthfulqa"))}
        return self.t(sentence, most=number(most, 2), **over)

    def task_table(self, caption: str) -> Table:
        """Energy by task and strategy with the savings, printed and computed."""
        t, grid, table = self.t, self.by_task(), self.found.printed["energy_by_task"].set_index(["task", "quantization"])
        base, printed, marked = grid["unspecified_baseline"], table["energy_wh"], table["energy_reduction_pct"]
        complexity = table.groupby("task")["complexity"].first()
        heads = {t("{strategy} saved [%], printed / computed", strategy=self.name(q)): q for q in grid if q != "unspecified_baseline"}
        columns = {
            "task": lambda r: TASKS[r["task"]], "complexity": lambda r: t(complexity[r["task"]].replace("_", " ")),
            **{f"{self.name(q)} [Wh]": (lambda r, q=q: printed[r["task"], q]) for q in grid},
            "baseline over MMLU's": lambda r: number(base[r["task"]] / base["mmlu"]),
            **{head: (lambda r, q=q: f"{marked[r['task'], q]} / {number(saved(r[q], base[r['task']]))}") for head, q in heads.items()},
        }  # fmt: skip
        return t.table(grid.reset_index(), columns, t.sentences(caption, self.source("energy_by_task")))

    def distilled(self, sentence: str) -> str:
        """What distillation saves, and what the score does."""
        pairs = self.found.tables["gsm8k_distillation"].groupby("gpu", sort=False)[["energy_wh", "accuracy"]]
        base, own = pairs.nth(0).reset_index(drop=True), pairs.nth(1).reset_index(drop=True)
        found = {"energy": saved(own["energy_wh"], base["energy_wh"]), "score": 100 * (own["accuracy"] - base["accuracy"])}
        return self.t(sentence, n=len(own), **{k: self.t.span(f"{v.min():.1f}", f"{v.max():.1f}") for k, v in found.items()})

    def bars(self, name: str, caption: str) -> Picture:
        """The energy of a task or of each task, as grouped bars."""
        frames = {
            "mmlu": ("mmlu_by_gpu", "energy of MMLU [Wh]", ("model", "gpu")),
            "strategies": ("quantization_strategies", "energy of MMLU [Wh]", ("model", "quantization")),
            "distillation": ("gsm8k_distillation", "energy of GSM8K [Wh]", ("gpu", "model")),
            "complexity": ("energy_by_task", "energy per task [Wh]", ("task", "quantization")),
        }
        table, label, (index, columns) = frames[name]
        grid = self.found.tables[table].pivot_table(index=index, columns=columns, values="energy_wh").dropna(how="all")
        if columns == "quantization":
            grid = grid[[q for q in STRATEGIES if q in grid]]
        grid = self.by_task() if name == "complexity" else grid
        caption = self.t.sentences(caption, self.source(table))
        return self.t.figure(name, caption, lambda ax: plots.bars(self.named(grid), ax, label, name == "complexity"), 2.8)

    def crossed(self, name: str, caption: str) -> Picture:
        """The cells of card and strategy that the study measured."""
        draw = lambda ax: plots.heatmap(self.named(self.found.cells()), ax, "energy of MMLU [Wh]")  # noqa: E731
        return self.t.figure(name, caption, draw, 3.4)

    @cached_property
    def combined(self) -> pd.DataFrame:
        """`cells` of the study's cards and models at the batch sizes of the scenarios."""
        cards = [*CARDS, *(g for g in GPUS if not any(c.startswith(g) for c in CARDS))]
        return cells(cards, list(MODELS), COMPARED, sorted({limit["batch_size"] for limit in LIMITS.values()}))

    def together(self, seen: str, listed: str) -> list:
        """Energy, score and their basis for every card, strategy and model at one batch size: a figure of one model, a table of all."""
        t, grid = self.t, self.combined[self.combined["batch_size"] == TOGETHER_BATCH]
        known, letters = grid["reason"] == "", grid["basis"].map({"published": "m", "predicted": "p"})
        score = [number(100 * s) + ("~" if b == "computed" else "") for s, b in zip(grid["score"], grid["score_basis"], strict=True)]
        notes = pd.Series([s + " %, " if s != "-" else "" for s in score], grid.index) + letters
        text = grid["energy_j_per_token"].map(number) + " " + letters + " / " + pd.Series(score, grid.index)
        missing = grid["runs"].map({True: "not predicted", False: "cannot run"})
        table = grid.assign(note=notes.where(known, missing), text=text.where(known, missing.map(t)))
        one = table[table["model"] == CROSSED]
        cost, note = (one.pivot_table(v, "gpu", "quantization", "first", sort=False) for v in ("energy_j_per_token", "note"))
        cost, note = cost.reindex(index=note.index, columns=COMPARED), note[COMPARED]
        wide = table.pivot_table("text", ["gpu", "model"], "quantization", "first", sort=False)[COMPARED]
        rows = tuple((*map(self.name, key), *texts) for key, texts in zip(wide.index, wide.to_numpy(), strict=True))
        reach = number((grid["energy_j_per_token_high"] / grid["energy_j_per_token"]).median(), 2)
        values = {"batch": TOGETHER_BATCH, "reach": reach, "model": MODELS[CROSSED]}
        draw = lambda ax: plots.heatmap(self.named(cost), ax, "energy per output token [J]", notes=note)  # noqa: E731
        picture = t.figure("together", t(seen, **values), draw, 3.6, wide=True)
        return [picture, Table((t("GPU"), t("model"), *COMPARED), rows, t(listed, **values))]

    @cached_property
    def choices(self) -> pd.DataFrame:
        """`decided` for the study's first model."""
        return decided(self.combined, LIMITS, CROSSED, np.random.default_rng(0))

    def pair(self, gpu: object, strategy: object) -> str:
        """A card with a strategy in words."""
        return self.t.join((self.name(str(gpu)), self.name(str(strategy)))) if isinstance(gpu, str) else self.t("nothing meets the limits")

    def computed(self, caption: str) -> Table:
        """What the limits of each scenario leave, and the choice."""
        t = self.t
        limit = lambda c, factor=1: lambda r: f"{factor * LIMITS[r['scenario']][c]:.4g}" if c in LIMITS[r["scenario"]] else "-"  # noqa: E731
        columns = {
            "scenario": lambda r: self.name(r["scenario"]), "lowest score kept [%]": limit("kept", 100),
            "longest time per token [s]": limit("itl_s"), "highest rent [USD/h]": limit("usd_an_hour"), "highest power [W]": limit("watts"),
            "left after hardware, need, cost": lambda r: t.join((f"{r['hardware']} / {r['asked']}", r["need"], r["cost"])),
            "choice": lambda r: self.pair(r["gpu"], r["quantization"]), "J per output token": "energy_j_per_token",
            "probability": lambda r: plots.percent(r["p_best"]), "basis": "basis",
        }  # fmt: skip
        return t.table(self.choices, columns, t(caption, model=MODELS[CROSSED]))

    def advised(self, caption: str) -> Table:
        """The study's choice for each scenario beside the computed one, under the same limits."""
        missed = {"itl_s": "time per token", "usd_an_hour": "rent", "watts": "power", "kept": "score", "cannot run": "cannot run"}
        columns = {
            "scenario": lambda r: self.name(r["scenario"]), "the study's choice": lambda r: self.pair(*r["advised"].split(", ")),
            "computed choice": lambda r: self.pair(r["gpu"], r["quantization"]), "its energy over the computed": "advised_ratio",
            "limits it misses": lambda r: self.t.join(self.t(missed[m]) for m in filter(None, r["misses"].split(", "))) or "-",
        }  # fmt: skip
        return self.t.table(self.choices, columns, caption)
