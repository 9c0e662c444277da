"""What the written tables of an experiment carry, gathered once: the only source of the sentences of its report and talk.

Costs, ratios, intervals and outcomes are those that the notebooks analyze and compare write. Where their tables are missing, older than the
windows, or of another baseline than asked for, those notebooks run first. Interactions are tested on the blocks, as in the notebook plot.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eai import notebooks, paths, plots, tables
from eai.analyze import comparison, selection
from eai.analyze.deployment import at_chance
from eai.errors import UserError
from eai.plots.style import word
from eai.report.pages import Words, code, unmarked

FACTORS = ("gpu", "model", "engine", "task", "batch_size", "input_tokens", "output_tokens", "weights")
SETTING = ("gpu", "model", "weights", "engine", "task", "input_tokens", "output_tokens", "batch_size")
COSTS = ("energy_j_per_token", "energy_j_per_request")
OWN_ENGINE = "transformers"


@dataclass(frozen=True)
class Facts:
    """An experiment in its written tables; a table that it does not have is empty.

    `table`: the usable rows of the summary with their cost by unit of work (`columns`); `comparisons`: the paired ratios of the cost to the
    baseline; `loads`: what a server's tokens and requests cost at each load; `left_out`: status, reason and number of the windows that
    could not be used; `provenance`: one entry a job; `answers`: scores against the baseline's on the same items; `ratios`: the log ratio
    to the baseline of every block (analyze.comparison.block_ratios).
    """

    experiment: str
    table: pd.DataFrame
    comparisons: pd.DataFrame
    loads: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["status", "reason", "n"]))
    provenance: list[dict] = field(default_factory=list)
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    ratios: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def basis(self) -> str:
        return str(self.table["basis"].iloc[0])

    @property
    def own(self) -> pd.DataFrame:
        """The rows of a model in this process, not of a server under load."""
        return self.table[self.table["load"] == ""]

    @property
    def only_served(self) -> bool:
        return self.own.empty

    @property
    def scored(self) -> pd.DataFrame:
        return self.table[self.table["score"].notna()]

    @property
    def baseline(self) -> str:
        """The strategy that ratios refer to; empty where none was measured."""
        named = self.comparisons["baseline"].dropna().unique() if len(self.comparisons) else []
        return str(named[0]) if len(named) and named[0] in set(self.table["quantization"]) else ""

    @property
    def tested(self) -> pd.DataFrame:
        """The comparisons with a ratio."""
        return self.comparisons[self.comparisons["ratio_to_baseline"].notna()] if self.baseline else self.comparisons.iloc[:0]

    @property
    def is_foreign(self) -> bool:
        """Whether others measured some of it: nobody here knows how their runs were ordered and loaded."""
        return not self.provenance or any(job.get("imported_from") for job in self.provenance)

    def best(self) -> dict | None:
        """The comparison with the largest saving that is shown and whose score is above chance; None where there is none."""
        if self.tested.empty:
            return None
        shown = self.tested[(self.tested["outcome"] == "lower") & ~self.tested["at_chance"]]
        return shown.loc[shown["ratio_to_baseline"].idxmin()].to_dict() if len(shown) else None

    def levels(self, factor: str) -> list:
        """The levels of a factor in the order of the table; 0 tokens stand for a task's own lengths and are no level."""
        rows = self.table if factor != "batch_size" else self.own
        return [level for level in dict.fromkeys(rows[factor]) if not (factor.endswith("_tokens") and level == 0)]


def gather(experiment: str | Path, baseline: str | None = None, say: Callable[[str], None] | None = None) -> Facts:
    """The facts of an experiment; ratios to `baseline`, by default to the experiment's own.

    Raises UserError where it has no usable window or the baseline was not measured.
    """
    root, windows, provenance = tables.experiment_dir(experiment), tables.read_windows(experiment), tables.read_provenance(experiment)
    baseline = baseline or next((b for job in provenance if (b := job.get("baseline"))), None)  # said at import
    with tempfile.TemporaryDirectory() as scratch:
        source = _written(root, baseline, Path(scratch), say or (lambda line: None))
        summary, comparisons, loads, answers = (
            tables.read_result(source, name, optional=True) for name in ("summary", "comparisons", "loads", "score_comparisons")
        )
    if summary.empty or not (summary["n_blocks"] > 0).any():
        raise UserError(f"{root.name} has no usable window", "at least one with status ok", "see `status` and `reason` in its windows")
    bad = windows[windows["status"] != "ok"].fillna({"reason": ""})
    left_out = bad.groupby(["status", "reason"]).size().rename("n").reset_index()
    found = replace(from_tables(root.name, summary, comparisons, loads, provenance, left_out), answers=answers)
    if found.tested.empty:
        return found
    row = found.table.iloc[0]
    chosen = selection.select(windows, tables.read_energies(experiment), row["boundary"], row["basis"], row["energy_kind"] == "net")
    ratios = comparison.block_ratios(chosen, found.baseline)
    return replace(found, ratios=ratios.assign(**{c: ratios[c].map(unmarked) for c in ("gpu", "model", "quantization", "task")}))


def _written(root: Path, baseline: str | None, scratch: Path, say: Callable[[str], None]) -> Path:
    """The folder whose tables hold the wanted ratios: the experiment's own, or for another baseline a copy with links to its readings.

    What is packaged is never rewritten; other tables are where windows were added after they were written.
    """
    summary = tables.read_result(root, "summary", optional=True)
    if baseline and len(summary) and baseline not in set(summary["quantization"]):
        known = ", ".join(dict.fromkeys(summary["quantization"]))
        raise UserError(f"baseline '{baseline}' was not measured", f"one of {known}")
    if baseline and (summary.empty or set(summary["baseline"].dropna()) != {baseline}):
        source = scratch / root.name
        source.mkdir()
        for job in root.glob("*/windows.jsonl"):
            (source / job.parent.name).symlink_to(job.parent.resolve())
    else:
        source, newest = root, max((path.stat().st_mtime for path in root.glob("*/windows.jsonl")), default=0.0)
        packaged = root == paths.SAMPLE or root.parent == paths.MEASURED
        if len(summary) and (packaged or newest <= (root / "summary.csv").stat().st_mtime + 1):
            return root
    for name in ("analyze", "compare"):
        say(f"notebook {name}")
        try:
            notebooks.execute(name, {"experiment": str(source), "baseline": "auto" if source == root else baseline}, scratch)
        except (UserError, notebooks.NotebookFailed):
            if name == "analyze":  # an experiment with nothing to compare has no comparisons
                raise
    return source


def from_tables(
    name: str, summary: pd.DataFrame, comparisons: pd.DataFrame, loads: pd.DataFrame | None = None, provenance: list[dict] | None = None,
    left_out: pd.DataFrame | None = None,
) -> Facts:  # fmt: skip
    """The facts of tables that are at hand."""
    table = columns(summary[summary["n_blocks"] > 0]).reset_index(drop=True)
    table = comparison.with_ratios(table, comparisons) if len(comparisons) else table
    table = table.assign(at_chance=at_chance(table) != "")
    loads = pd.DataFrame() if loads is None or loads.empty else columns(loads)
    if len(comparisons):
        comparisons = columns(comparisons[comparisons["metric"].isin(COSTS)])
        comparisons = comparisons.join(table.set_index("configuration_id")["at_chance"], on="configuration_id").reset_index(drop=True)
        comparisons["at_chance"] = comparisons["at_chance"].fillna(False).astype(bool)
    more = {} if left_out is None else {"left_out": left_out.assign(reason=left_out["reason"].map(unmarked))}
    return Facts(unmarked(name), table, comparisons, loads, provenance=json.loads(unmarked(json.dumps(provenance or []))), **more)


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with what their options say (`engine`, `load`) and the cost and speed of their unit of work (analyze.selection.costed)."""
    options = table["options"].fillna("{}").map(json.loads) if "options" in table else pd.Series([{}] * len(table), index=table.index)
    engine = options.map(lambda o: str(o.get("server") or o.get("engine") or OWN_ENGINE))
    out = selection.costed(table).assign(engine=engine, load=options.map(lambda o: str(o.get("load", ""))))
    text = [c for c in ("gpu", "model", "quantization", "task", "engine", "load", "reason") if c in out]
    return out.assign(**{c: out[c].map(unmarked, na_action="ignore") for c in text})


def names(table: pd.DataFrame, t: Words) -> list[str]:
    """The name of each row as code: its strategy and whatever else varies between the rows."""
    with plots.language(t, False):
        return list(map(code, plots.names(table.drop(columns="options", errors="ignore"))))


def level(column: str, value: object, t: Words) -> str:
    """A value of a column in words: `batch 4`; nothing for a task's own lengths."""
    with plots.language(t, False):
        return word(column, value)


def where(row: dict, columns: list[str] | tuple[str, ...], t: Words) -> str:
    """The levels of a row in words; those of its model where there is nothing to name."""
    return t.join(filter(None, (level(c, row[c], t) for c in columns))) or level("model", row["model"], t)


def varied(table: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """The columns that tell rows apart; 0 tokens stand for a task's own lengths and are no level."""
    return [c for c in columns if table[c][table[c] != 0].nunique() > 1]


def interactions(facts: Facts, factor: str) -> pd.DataFrame:
    """Whether a strategy's ratio depends on a factor, tested on the blocks with Holm's correction (analyze.comparison.synergy).

    One row a strategy and level beside the factor's first one; empty where the factor was not crossed with the strategies.
    """
    if facts.ratios.empty or factor not in comparison.FACTORS:
        return pd.DataFrame()
    ratios = facts.ratios[facts.ratios[factor] != 0]  # a task's own lengths are no level of a length
    return comparison.synergy(ratios, factor).assign(basis=facts.basis) if ratios[factor].nunique() > 1 else pd.DataFrame()


def effects(facts: Facts, factor: str) -> dict | None:
    """What a factor does to the cost with everything else the same: ratio of each level's cost to that at the factor's first level.

    `{reference, level, low, high, mean, n}` for the last level: smallest, largest and geometric mean ratio of n pairs; None without one.
    """
    table, held = facts.own[facts.own["unit_energy_j"] > 0], [c for c in ("quantization", "options", *SETTING) if c != factor]
    levels = sorted(facts.levels(factor))
    if len(levels) < 2:
        return None
    base = table[table[factor] == levels[0]].set_index(held)["unit_energy_j"].rename("base")
    pairs = table[table[factor] == levels[-1]].join(base, on=held, how="inner")
    ratios = pairs["unit_energy_j"] / pairs["base"]
    found = {"reference": levels[0], "level": levels[-1], "low": ratios.min(), "high": ratios.max(), "n": len(ratios)}
    return found | {"mean": float(np.exp(np.log(ratios).mean()))} if len(ratios) else None


def recommended(facts: Facts) -> pd.DataFrame:
    """One row a setting (hardware, model, task, lengths, batch): the strategy to choose, by the page's own paired comparisons.

    `choice`: the lowest ratio among those shown to be lower than the baseline whose score is above chance, with its `ratio`; the baseline
    where none is (`shown` is False); nothing where the baseline's own score is at chance too. `rival`: the next one, where its interval
    overlaps that of the choice. The gate on the spread between blocks takes no part: a paired ratio holds without it.
    """
    rows = []
    chance = set(facts.table.loc[facts.table["at_chance"], "configuration_id"])
    bases = facts.own[facts.own["quantization"] == facts.baseline].set_index(list(SETTING))["configuration_id"]
    tested = facts.tested[facts.tested["load"] == ""] if len(facts.tested) else facts.tested
    for key, group in tested.groupby(list(SETTING), sort=False) if len(tested) else ():
        able = group[~group["at_chance"]].sort_values("ratio_to_baseline")
        shown = able[able["outcome"] == "lower"].head(1)
        row = dict(zip(SETTING, key, strict=True)) | {"shown": len(shown) > 0, "rival": ""}
        if shown.empty:
            own = bases.loc[[key]] if key in bases.index else bases.iloc[:0]
            rows.append(row | {"choice": "" if len(own) and set(own) <= chance else facts.baseline})
            continue
        best = shown.iloc[0]
        rival = able[(able["quantization"] != best["quantization"]) & (able["ratio_to_baseline_low"] <= best["ratio_to_baseline_high"])]
        row |= {f"ratio{end}": best[f"ratio_to_baseline{end}"] for end in ("", "_low", "_high")}
        rows.append(row | {"choice": best["quantization"], "rival": "" if rival.empty else rival["quantization"].iloc[0]})
    return pd.DataFrame(rows, columns=None if rows else [*SETTING, "choice", "shown"])
