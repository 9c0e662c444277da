"""What the tables of an experiment carry, gathered once: the only source of every sentence of the report and the talk."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from eai import tables
from eai.analyze import comparison, deployment, roofline, scores, summary
from eai.analyze.metrics import costed
from eai.analyze.selection import CONFIGURATION, Selection, is_served, select
from eai.analyze.summary import loads
from eai.errors import UserError

FACTORS = ("batch_size", "gpu", "model", "task", "input_tokens", "output_tokens")
LENGTHS = ("input_tokens", "output_tokens")
SETTING = ("gpu", "model", "weights", "input_tokens", "output_tokens", "task")
STUDY_TASK = "mmlu"


@dataclass(frozen=True)
class Facts:
    """An experiment in tables; a table that the experiment cannot support is empty.

    `summary`, `comparisons`: as analyze and compare write them, the summary with its costs by unit of work; `contrasts`, `synergies`: by
    factor that was varied; `rules`: the computed decision rules; `choices`: the deployment matrix; `front`: the summary with the
    probability of being on the Pareto front; `pairs`, `kept`: scores against the baseline's on the same items, and the share kept
    against the energy saved; `roof`: places under the roofs; `loads`: what a server's tokens and requests cost at each load; `effects`,
    `outliers`: whether the experiment was steady; `provenance`: one entry a job.
    """

    experiment: str
    baseline: str | None
    windows: pd.DataFrame
    selection: Selection
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    contrasts: dict[str, pd.DataFrame]
    synergies: dict[str, pd.DataFrame]
    rules: pd.DataFrame
    choices: pd.DataFrame
    front: pd.DataFrame
    pairs: pd.DataFrame
    kept: pd.DataFrame
    roof: pd.DataFrame
    loads: pd.DataFrame
    effects: pd.DataFrame
    outliers: pd.DataFrame
    provenance: list[dict]

    @property
    def usable(self) -> pd.DataFrame:
        """The rows of the summary that have a number."""
        return self.summary[self.summary["n_blocks"] > 0]

    @property
    def scored(self) -> pd.DataFrame:
        """The usable rows that have a task score."""
        return self.usable[self.usable["score"].notna()].reset_index(drop=True)

    @property
    def only_served(self) -> bool:
        """Whether every usable row is one of a server."""
        return bool(is_served(self.usable).all())

    @property
    def has_baseline(self) -> bool:
        """Whether there is anything to compare and a baseline was measured to compare it with."""
        return bool(set(self.comparisons["baseline"]) & set(self.usable["quantization"]))

    @property
    def counts(self) -> dict[str, int]:
        """The number of comparisons by outcome."""
        return {str(k): int(v) for k, v in self.comparisons["outcome"].value_counts().items()}

    def levels(self, factor: str) -> list:
        """The levels of a factor among the usable configurations, in the order of the summary; of those that it means something for."""
        return list(dict.fromkeys(_with_levels(self.usable, factor)[factor]))

    def unit_of(self, row: pd.Series | dict) -> str:
        """What a cost in the row is per: an item where the task ran as its items come, else a token."""
        return "item" if (row["input_tokens"], row["output_tokens"]) == (0, 0) else "token"

    def strategies_of(self, rule: dict) -> tuple[int, int]:
        """How many strategies were steady in the setting of a rule, and how many were measured there."""
        rows = self.usable[~is_served(self.usable)]
        for name in SETTING:
            rows = rows[rows[name] == rule[name]]
        rows = rows[rows["batch_size"].between(rule["from"], rule["to"])]
        return rows.loc[rows["gate"] != "rejected", "quantization"].nunique(), rows["quantization"].nunique()

    def best(self) -> pd.Series | None:
        """The comparison with the largest shown saving; None where no saving was shown."""
        shown = self.comparisons[self.comparisons["outcome"] == "lower"]
        return shown.loc[shown["ratio_to_baseline"].idxmin()] if len(shown) else None


def gather(experiment: str, baseline: str | None = None) -> Facts:
    """The facts of an experiment. Raises UserError where it has no usable window or the baseline was not measured."""
    windows, energies = tables.read_windows(experiment), tables.read_energies(experiment)
    name, items = tables.experiment_dir(experiment).name, tables.read_scores(experiment)
    return from_tables(name, windows, energies, tables.read_provenance(experiment), baseline, items=items)


def from_tables(
    name: str, windows: pd.DataFrame, energies: pd.DataFrame, provenance: list[dict] | None = None, baseline: str | None = None,
    scored: pd.DataFrame | None = None, items: pd.DataFrame | None = None,
) -> Facts:  # fmt: skip
    """The facts of windows and energies that are at hand, measured, imported or simulated.

    `items`: scores item by item (schema.SCORES); `scored`: scores of whole configurations where the items are not known.
    """
    selection, rng = select(windows, energies), np.random.default_rng(0)
    has_items = items is not None and len(items) > 0
    table = costed(summary.summarize_selection(selection, windows, baseline, items if has_items else scored))
    pairs = scores.against_baseline(selection, items, rng, baseline) if has_items else pd.DataFrame()
    kept = scores.retention(table, pairs)
    comparisons = comparison.compare(windows, energies, baseline, boundary=selection.boundary, basis=selection.basis)
    varied = [f for f in FACTORS if _with_levels(table[table["n_blocks"] > 0], f)[f].nunique() > 1]
    ratios = comparison.block_ratios(selection, baseline)
    own = replace(selection, rows=selection.rows[~is_served(selection.rows)])
    chosen_among = table[~is_served(table)]
    return Facts(
        experiment=name,
        baseline=baseline,
        windows=windows,
        selection=selection,
        summary=table,
        comparisons=comparisons,
        contrasts={f: found for f in varied if len(found := _contrast(selection, table, f))},
        synergies={f: found for f in varied if len(found := _synergy(ratios, f))},
        rules=deployment.decisions(chosen_among, rng),
        choices=deployment.matrix(chosen_among, rng, kept),
        front=deployment.pareto(table, rng),
        pairs=pairs,
        kept=kept,
        roof=roofline.roofline(own, roofline.measured_roofs(provenance or [])) if len(own.rows) else pd.DataFrame(),
        loads=loads(windows, energies, selection.boundary, selection.basis),
        effects=summary.disturbances(selection),
        outliers=summary.outliers(selection),
        provenance=provenance or [],
    )


def _or_empty(analysis: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of an analysis, empty where the experiment cannot support it."""
    try:
        return analysis()
    except UserError:
        return pd.DataFrame()


def _with_levels(table: pd.DataFrame, factor: str) -> pd.DataFrame:
    """The rows that have a level of the factor: a task that ran as its items come has no lengths, a server no batch size of ours."""
    if factor == "batch_size":
        return table[~is_served(table)] if "options" in table else table
    return table[table[factor] > 0] if factor in LENGTHS else table


def _contrast(selection: Selection, table: pd.DataFrame, factor: str) -> pd.DataFrame:
    """The ratios of the factor's levels to its reference; empty where no two configurations differ in it alone."""
    found = _with_levels(comparison.contrast(selection, factor, _reference(_with_levels(table, factor), factor)), factor)
    return found if found["ratio"].notna().any() else found.iloc[:0]


def _synergy(ratios: pd.DataFrame, factor: str) -> pd.DataFrame:
    """How the factor acts together with the strategy; empty where the experiment cannot tell."""
    rows = _with_levels(ratios, factor)
    return _or_empty(lambda: comparison.synergy(rows, factor, _reference(rows, factor)))


def _reference(table: pd.DataFrame, factor: str):
    """The level that the others are compared with: MMLU among tasks, else the smallest or the first by name.

    Raises UserError where no level has a ratio, because the baseline was not measured.
    """
    levels = sorted(table.loc[table["n_blocks"] > 0, factor].unique() if "n_blocks" in table else table[factor].unique())
    if not levels:
        raise UserError(f"no ratio at any {factor}", "a baseline that was measured", "measure it, or name another")
    return STUDY_TASK if STUDY_TASK in levels else levels[0]


def configurations(windows: pd.DataFrame) -> int:
    """The number of configurations that were tried."""
    return len(windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id"))
