"""Do two factors act together more than each by itself? Synergy as the interaction term of a two-way model on log energy.

Energy is multiplicative: if quantization saves 20 % and a GPU saves 30 %, independence means 1 - 0.8 x 0.7 = 44 % together, not
50 %. On the logarithm that is a sum, so an interaction of zero (a factor of 1) says "they just multiply". A claim of synergy
needs an interval that leaves out 1, on the side that saves.
"""

import numpy as np
import pandas as pd

from eai.analyze.blocks import block_means
from eai.analyze.comparison import STRATUM, match_baselines
from eai.analyze.selection import CONFIGURATION, Selection
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats.interactions import Crossover, crossover, interaction

FACTORS = ("gpu", "model", "batch_size", "input_tokens", "output_tokens", "task")
COLUMNS = ["quantization", "factor", "level", "reference", "ratio_at_level", "ratio_at_reference", "synergy", "synergy_low", "synergy_high",
           "n", "n_reference", "method", "p", "p_holm", "outcome"]  # fmt: skip


def block_ratios(selection: Selection, baseline: str | None = None) -> pd.DataFrame:
    """One row a (configuration, job, block): `log_ratio` of its energy per token (of a task: per item) to the baseline's in the same block.

    The common material of interactions and crossovers; columns: configuration_id, the configuration, job, block, log_ratio.
    """
    configurations = selection.rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    matched = match_baselines(configurations, baseline).dropna(subset="baseline_id")
    matched = matched[matched["configuration_id"] != matched["baseline_id"]]
    blocks = block_means(selection.rows)[["configuration_id", "job", "block", "unit_energy_j"]]
    own = matched.merge(blocks, on="configuration_id")
    base = blocks.rename(columns={"configuration_id": "baseline_id", "unit_energy_j": "base_energy_j"})
    both = own.merge(base, on=["baseline_id", "job", "block"])
    return both.assign(log_ratio=np.log(both["unit_energy_j"] / both["base_energy_j"]))


def synergy(ratios: pd.DataFrame, factor: str, reference=None) -> pd.DataFrame:
    """Interaction of quantization with `factor`: for each level, its ratio to the baseline over the ratio at the reference level.

    `reference` defaults to the first level. Strata that differ in anything else are averaged within a
    block first. Levels that share blocks (batch, task) are paired on block, levels on different cards are compared by Welch's test.
    synergy < 1: the strategy saves more there. The family of Holm's correction is the table. Raises UserError for an unknown factor or
    reference and for fewer than two levels.
    """
    levels = _levels(ratios, factor, reference)
    reference = levels[0]
    means = ratios.groupby(["quantization", factor, "job", "block"], sort=True)["log_ratio"].mean().reset_index()
    rows = [_contrast(rows, q, factor, level, reference) for q, rows in means.groupby("quantization", sort=False) for level in levels[1:]]
    table = pd.DataFrame(rows)
    difference = tests.Difference(*(table[c].to_numpy(float) for c in ("mean", "se", "df", "u", "n_used")))
    table["synergy"], table["synergy_low"], table["synergy_high"] = tests.ratio_interval(difference)
    table["p"] = tests.p_value(difference)
    table["p_holm"] = tests.adjust(table["p"])
    table["outcome"] = tests.outcome(difference, table["p_holm"], np.full(len(table), np.nan), np.zeros(len(table)))
    return table[COLUMNS]


def _levels(ratios: pd.DataFrame, factor: str, reference) -> list:
    """The levels of a factor, the reference first."""
    if factor not in FACTORS:
        raise UserError(f"factor {factor}", f"one of {', '.join(FACTORS)}")
    levels = sorted(ratios[factor].unique())
    if len(levels) < 2:
        raise UserError(f"only one {factor} with a baseline", "at least two", "an interaction needs both factors varied in one experiment")
    if reference is not None and reference not in levels:
        raise UserError(f"{factor} {reference} was not measured", f"one of {', '.join(map(str, levels))}")
    first = levels[0] if reference is None else reference
    return [first, *(level for level in levels if level != first)]


def _contrast(rows: pd.DataFrame, quantization: str, factor: str, level, reference) -> dict:
    """One interaction contrast: paired where the levels share blocks of a job, else Welch."""
    a, b = (rows[rows[factor] == value].set_index(["job", "block"])["log_ratio"] for value in (level, reference))
    shared = a.index.intersection(b.index)
    if len(shared) >= 2:
        d = (a[shared] - b[shared]).to_numpy()
        difference, method = tests.paired(d.mean(), d.std(ddof=1), len(d)), "paired_t"
    elif len(a) and len(b):
        difference, method = interaction(a, b), "welch"
    else:
        difference, method = tests.Difference(*[np.nan] * 3, 0.0, 0), "not_testable"
    method = method if np.isfinite(difference.se) else "not_testable"
    ratios = {"ratio_at_level": np.exp(a.mean()) if len(a) else np.nan, "ratio_at_reference": np.exp(b.mean()) if len(b) else np.nan}
    numbers = {name: float(getattr(difference, name)) for name in ("mean", "se", "df", "u")}
    where = {"quantization": quantization, "factor": factor, "level": level, "reference": reference}
    return where | ratios | numbers | {"n": len(a), "n_reference": len(b), "n_used": float(difference.n), "method": method}


def crossovers(ratios: pd.DataFrame, x: str, sizes: dict[str, float] | None = None) -> pd.DataFrame:
    """Where each strategy's ratio to its baseline passes through 1 along `x`: `batch_size`, a token count, or `model`.

    For `model` give `sizes` (parameters a model). One row a strategy, GPU and whatever else is held fixed: crossover with
    Fieller's 95 % interval, slope of the log ratio for a doubling, p of the slope, whether it lies within the measured range, n.
    """
    if x == "model" and sizes is None:
        raise UserError("no model sizes", "parameters of each model", "pass sizes={model: parameters}")
    position = ratios["model"].map(sizes) if x == "model" else ratios[x]
    table = ratios.assign(position=position.astype(float)).dropna(subset="position")
    held = ["quantization", *(c for c in STRATUM if c != x and (c != "weights" or x != "model"))]
    rows = []
    for key, group in table.groupby(held, sort=True):
        found = crossover(np.log(group["position"]), group["log_ratio"])
        rows.append(dict(zip(held, key, strict=True)) | _crossover_row(found, group["position"], x))
    return pd.DataFrame(rows)


def _crossover_row(found: Crossover, position: pd.Series, x: str) -> dict:
    """The columns of one crossover on its own scale."""
    with np.errstate(over="ignore"):
        at, low, high = (float(np.exp(v)) for v in (found.x, found.low, found.high))
    within = bool(found.bounded and position.min() <= at <= position.max())
    return {
        "x": x, "crossover": at if found.bounded else np.nan, "crossover_low": low, "crossover_high": high, "bounded": found.bounded,
        "within_range": within, "slope_per_doubling": found.slope * np.log(2), "p_slope": found.p_slope, "n": len(position),
    }  # fmt: skip
