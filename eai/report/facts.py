"""What the written tables of an experiment carry, gathered once: the only source of the sentences of its report and talk.

Nothing is estimated anew: the costs, ratios, intervals and outcomes are those of `summary.csv`, `comparisons.csv` and `loads.csv`, which
the notebooks analyze and compare write. Where they are missing, older than the windows, or of another baseline than asked for, those
notebooks run first.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, notebooks, paths, tables
from eai.errors import UserError
from eai.report.pages import Words, code, unmarked

FACTORS = ("gpu", "model", "engine", "task", "batch_size", "input_tokens", "output_tokens", "weights")
SETTING = ("gpu", "model", "weights", "engine", "task", "input_tokens", "output_tokens", "batch_size")
WORK = ("model", "weights", "task", "input_tokens", "output_tokens")
COSTS = ("energy_j_per_token", "energy_j_per_request")
OWN_ENGINE = "transformers"


@dataclass(frozen=True)
class Facts:
    """An experiment in its written tables; a table that it does not have is empty.

    `table`: the usable rows of the summary with their cost by unit of work (`columns`); `comparisons`: the paired ratios of the cost to the
    baseline; `loads`: what a server's tokens and requests cost at each load; `left_out`: status, reason and number of the windows that
    could not be used; `provenance`: one entry a job; `baseline`: the strategy that ratios refer to, empty where nothing was compared.
    """

    experiment: str
    table: pd.DataFrame
    comparisons: pd.DataFrame
    loads: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["status", "reason", "n"]))
    provenance: list[dict] = field(default_factory=list)

    @property
    def basis(self) -> str:
        """Where the energy comes from."""
        return str(self.table["basis"].iloc[0])

    @property
    def own(self) -> pd.DataFrame:
        """The rows of a model in this process, not of a server under load."""
        return self.table[self.table["load"] == ""]

    @property
    def scored(self) -> pd.DataFrame:
        """The rows with a task score."""
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
    def only_served(self) -> bool:
        """Whether every row is one of a server."""
        return self.own.empty

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
    root = tables.experiment_dir(experiment)
    windows = tables.read_windows(experiment)
    with tempfile.TemporaryDirectory() as scratch:
        source = written(root, baseline, Path(scratch), say or (lambda line: None))
        summary, comparisons, loads = (_read(source, name) for name in ("summary", "comparisons", "loads"))
    if summary.empty or not (summary["n_blocks"] > 0).any():
        raise UserError(f"{root.name} has no usable window", "at least one with status ok", "see `status` and `reason` in its windows")
    bad = windows[windows["status"] != "ok"].fillna({"reason": ""})
    left_out = bad.groupby(["status", "reason"]).size().rename("n").reset_index()
    return from_tables(root.name, summary, comparisons, loads, tables.read_provenance(experiment), left_out)


def written(root: Path, baseline: str | None, scratch: Path, say: Callable[[str], None]) -> Path:
    """The folder whose tables hold the wanted ratios: the experiment's own, or for another baseline a copy with links to its readings."""
    summary = _read(root, "summary")
    own = set(summary["baseline"].dropna()) if len(summary) else set()
    if baseline and len(summary) and baseline not in set(summary["quantization"]):
        known = ", ".join(dict.fromkeys(summary["quantization"]))
        raise UserError(f"baseline '{baseline}' was not measured", f"one of {known}")
    if baseline and own != {baseline}:
        copy = scratch / root.name
        copy.mkdir()
        for job in root.glob("*/windows.jsonl"):
            (copy / job.parent.name).symlink_to(job.parent.resolve())
        _analyze(copy, baseline, scratch, say)
        return copy
    if summary.empty or _stale(root):
        _analyze(root, "auto", scratch, say)
    return root


def _analyze(root: Path, baseline: str, scratch: Path, say: Callable[[str], None]) -> None:
    """Run the notebooks that write the tables; an experiment with nothing to compare has no comparisons."""
    for name in ("analyze", "compare"):
        say(f"notebook {name}")
        try:
            notebooks.execute(name, {"experiment": str(root), "baseline": baseline}, scratch)
        except (UserError, notebooks.NotebookFailed):
            if name == "analyze":
                raise


def _stale(root: Path) -> bool:
    """Whether windows were added after the tables were written; what is packaged is never rewritten."""
    if root == paths.SAMPLE or root.parent == paths.MEASURED:
        return False
    newest = max((path.stat().st_mtime for path in root.glob("*/windows.jsonl")), default=0.0)
    return newest > (root / "summary.csv").stat().st_mtime + 1


def _read(root: Path, name: str) -> pd.DataFrame:
    """A written table, empty where there is none."""
    return tables.read_result(root, name) if (root / f"{name}.csv").exists() else pd.DataFrame()


def from_tables(
    name: str, summary: pd.DataFrame, comparisons: pd.DataFrame, loads: pd.DataFrame | None = None, provenance: list[dict] | None = None,
    left_out: pd.DataFrame | None = None,
) -> Facts:  # fmt: skip
    """The facts of tables that are at hand."""
    table = columns(summary[summary["n_blocks"] > 0]).reset_index(drop=True)
    loads = pd.DataFrame() if loads is None else loads
    if len(comparisons):
        comparisons = columns(comparisons[comparisons["metric"].isin(COSTS)])
        worth = table.set_index("configuration_id")[["at_chance", "score", "score_low", "score_high"]]
        comparisons = comparisons.join(worth, on="configuration_id").reset_index(drop=True)
        comparisons["at_chance"] = comparisons["at_chance"].fillna(False).astype(bool)
    if len(loads):
        loads = columns(loads)
    more = {} if left_out is None else {"left_out": left_out.assign(reason=left_out["reason"].map(unmarked))}
    return Facts(
        unmarked(name),
        table,
        comparisons,
        loads,
        provenance=json.loads(unmarked(json.dumps(provenance or []))),
        **more,
    )


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with what their options say (`engine`, `load`), and the cost and speed of their unit of work.

    `unit`: item where a task ran as its items come, else token; `unit_energy_j`, `units_per_s` with `_low` and `_high`; `at_chance`: the
    interval of the score reaches down to what guessing scores; False where there is no score or the chance is not known.
    """
    options = table["options"].fillna("{}").map(json.loads) if "options" in table else pd.Series([{}] * len(table), index=table.index)
    out = table.assign(
        engine=options.map(lambda o: str(o.get("server") or o.get("engine") or OWN_ENGINE)),
        load=options.map(lambda o: str(o.get("load", ""))),
        unit=np.where(table["input_tokens"].eq(0) & table["output_tokens"].eq(0), "item", "token"),
    )
    out = out.assign(
        **{
            c: out[c].map(unmarked, na_action="ignore")
            for c in ("gpu", "model", "quantization", "task", "engine", "load", "reason")
            if c in out
        }
    )
    item = out["unit"] == "item"
    for name, token, request in (("unit_energy_j", *COSTS), ("units_per_s", "throughput_tok_s", "requests_per_second")):
        for end in ("", "_low", "_high"):
            if {token + end, request + end} & set(out):
                per_token, per_request = (out[c] if c in out else pd.Series(np.nan, out.index) for c in (token + end, request + end))
                out[name + end] = per_request.where(item, per_token)
    if "score" in out:
        chance = out["task"].map({task: chance_of(task) for task in out["task"].unique()})
        out["at_chance"] = out["score"].notna() & (out["score_low"] <= chance)
    return out


def chance_of(task: str) -> float:
    """What guessing scores on a task; NaN where that is not known."""
    try:
        chance = catalog.task(task).chance
    except UserError:
        return float("nan")
    return float("nan") if chance is None else float(chance)


def names(table: pd.DataFrame, t: Words, fixed: tuple[str, ...] = ()) -> list[str]:
    """The name of each row as code: its strategy and whatever else varies between the rows, but for the columns that are `fixed`."""
    levels = {
        c: table[c][table[c] != 0].nunique() if c.endswith("_tokens") else table[c].nunique() for c in (*FACTORS, "load") if c in table
    }
    varying = [c for c, n in levels.items() if n > 1 and c not in fixed]
    return [code(t.join(filter(None, (row["quantization"], *(level(c, row[c], t) for c in varying))))) for row in table.to_dict("records")]


def level(column: str, value: object, t: Words) -> str:
    """A value of a column in words: `batch 4`; nothing for a task's own lengths."""
    if column.endswith("_tokens"):
        return "" if value == 0 else t("{n} in" if column == "input_tokens" else "{n} out", n=int(value))
    if column == "batch_size":
        return t("batch {n}", n=int(value))
    return str(value).rsplit("/", 1)[-1] if column == "model" else t(str(value)) if column == "weights" else str(value)


def together(facts: Facts, factor: str) -> pd.DataFrame:
    """How a strategy's ratio at each level of a factor compares with that at the factor's first level, everything else the same.

    Columns: quantization, what is held fixed, `reference`, `level`, `ratio`, `at_reference`, `quotient` with its 95 % interval from the two
    intervals on the log scale. 1 where the two just multiply. Not corrected for the number of rows.
    """
    table, held = facts.tested, [c for c in ("quantization", *SETTING) if c != factor]
    if table.empty or table[factor].nunique() < 2:
        return pd.DataFrame()
    logs = {end: np.log(table[f"ratio_to_baseline{end}"]) for end in ("", "_low", "_high")}
    rows = table.assign(log=logs[""], half=(logs["_high"] - logs["_low"]) / 2)
    first = sorted(rows[factor].unique())[0]
    keep = ["log", "half", "ratio_to_baseline"]
    base = rows[rows[factor] == first].set_index(held)[keep].add_suffix("_0")
    found = rows[rows[factor] != first].join(base, on=held, how="inner")
    gap, half = found["log"] - found["log_0"], np.hypot(found["half"], found["half_0"])
    return found.assign(
        reference=first, level=found[factor], ratio=found["ratio_to_baseline"], at_reference=found["ratio_to_baseline_0"],
        quotient=np.exp(gap), quotient_low=np.exp(gap - half), quotient_high=np.exp(gap + half),
    ).reset_index(drop=True)  # fmt: skip


def effects(facts: Facts, factor: str) -> dict | None:
    """What a factor does to the cost with everything else the same: ratio of each level's cost to that at the factor's first level.

    `{reference, level, low, high, mean, n}` for the last level: smallest, largest and geometric mean ratio of n pairs; None without one.
    """
    table, held = facts.own, [c for c in ("quantization", "options", *SETTING) if c != factor]
    levels = sorted(facts.levels(factor))
    if len(levels) < 2:
        return None
    table = table[table["unit_energy_j"] > 0]
    base = table[table[factor] == levels[0]].set_index(held)["unit_energy_j"].rename("base")
    pairs = table[table[factor] == levels[-1]].join(base, on=held, how="inner")
    ratios = pairs["unit_energy_j"] / pairs["base"]
    if ratios.empty:
        return None
    mean = float(np.exp(np.log(ratios).mean()))
    return {"reference": levels[0], "level": levels[-1], "low": ratios.min(), "high": ratios.max(), "mean": mean, "n": len(ratios)}


def recommended(facts: Facts) -> pd.DataFrame:
    """One row a setting (hardware, model, task, lengths, batch): the strategy to choose, by the page's own paired comparisons.

    `choice`: the lowest ratio among those shown to be lower than the baseline whose score is above chance; the baseline where none is, and
    `why` then says so (`none_shown`). `rival`: the next one; `decided`: whether its interval leaves out that of the choice. The gate on
    the spread between blocks takes no part: it is about absolute numbers, and a paired ratio holds without it.
    """
    rows = []
    if facts.tested.empty:
        return pd.DataFrame(rows)
    chance = facts.table.loc[facts.table["at_chance"], "configuration_id"]
    bases = facts.own[facts.own["quantization"] == facts.baseline]
    for key, group in facts.tested[facts.tested["load"] == ""].groupby(list(SETTING), sort=False):
        setting = dict(zip(SETTING, key, strict=True))
        here = bases[(bases[list(SETTING)] == pd.Series(setting)).all(axis=1)]
        able = group[~group["at_chance"]].sort_values("ratio_to_baseline")
        shown = able[able["outcome"] == "lower"]
        row = setting | {"n": len(group) + 1, "at_chance": int(group["at_chance"].sum())}
        if shown.empty:
            poor = len(here) > 0 and here["configuration_id"].isin(chance).all()
            rows.append(row | {"choice": "" if poor else facts.baseline, "why": "all_at_chance" if poor else "none_shown", "ratio": 1.0})
            continue
        best = shown.iloc[0]
        rival = able[able["quantization"] != best["quantization"]].head(1)
        more = {"rival": "", "decided": True}
        if len(rival):
            more = {
                "rival": rival["quantization"].iloc[0],
                "decided": bool(rival["ratio_to_baseline_low"].iloc[0] > best["ratio_to_baseline_high"]),
            }
        ratio = {f"ratio{end}": best[f"ratio_to_baseline{end}"] for end in ("", "_low", "_high")}
        rows.append(row | {"choice": best["quantization"], "why": "shown"} | ratio | more)
    return pd.DataFrame(rows)


def deployment(facts: Facts) -> pd.DataFrame:
    """The deployment matrix within each model and task: for each scenario the hardware, strategy and batch size to take.

    Scenarios: lowest energy, highest throughput, single requests (smallest batch), half the memory, and the lowest energy that keeps 95 %
    of the baseline's score. Scores that are not shown above chance are never chosen. `decided`: whether the interval of the next best
    leaves out that of the choice. Nothing is pooled over models or tasks.
    """
    rows = []
    table = facts.own.assign(memory_gb=facts.own["memory_peak_gb"].where(facts.own["boundary"] == "gpu", facts.own["model_gb"]))
    for key, group in table.groupby(list(WORK), sort=False):
        if len(group) < 2:
            continue
        able = group[~group["at_chance"] & group["unit_energy_j"].notna()]
        base = group.loc[group["quantization"] == facts.baseline, "score"].max()
        kept = able[able["score"] >= 0.95 * base] if pd.notna(base) else able.iloc[:0]
        light = able[able["memory_gb"] <= group["memory_gb"].max() / 2]
        scenarios = {
            "lowest energy": (able, "unit_energy_j", 1),
            "highest throughput": (able, "units_per_s", -1),
            "single requests": (able[able["batch_size"] == group["batch_size"].min()], "unit_energy_j", 1),
            "half the memory": (light, "unit_energy_j", 1),
            "keeps 95 % of the score": (kept, "unit_energy_j", 1),
        }
        if group["batch_size"].nunique() < 2:
            del scenarios["single requests"]
        for scenario, (candidates, by, sign) in scenarios.items():
            row = dict(zip(WORK, key, strict=True)) | {"scenario": scenario, "n": len(candidates), "unscored": bool(pd.isna(base))}
            order = candidates.sort_values(by, ascending=sign > 0)
            if len(order):
                best = order.iloc[0]
                row |= {c: best.get(c) for c in ("gpu", "engine", "quantization", "batch_size", "score", "memory_gb", "ratio_to_baseline")}
                row |= {c: best.get(c) for name in ("unit_energy_j", "units_per_s") for c in (name, f"{name}_low", f"{name}_high")}
                row["unit"] = best["unit"]
                ends = order[[f"{by}_low", f"{by}_high"]].to_numpy(float)
                row["decided"] = len(order) == 1 or bool(ends[0, 1] < ends[1:, 0].min() if sign > 0 else ends[0, 0] > ends[1:, 1].max())
            rows.append(row)
    return pd.DataFrame(rows)
