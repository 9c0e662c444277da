"""One row a configuration: energy per output token or request, throughput, power and memory, with intervals over blocks and a gate.

The block is the replicate: windows of one block ran on one load of the model and are averaged before anything is estimated.
"""

import numpy as np
import pandas as pd

from eai import schema
from eai.analyze import metrics
from eai.analyze.blocks import block_means
from eai.analyze.comparison import compare_blocks
from eai.analyze.efficiency import with_scores
from eai.analyze.perplexity import of_texts
from eai.analyze.scores import of_items
from eai.analyze.selection import CONFIGURATION, Selection, in_order, select
from eai.quantity import Budget
from eai.stats.intervals import cv_interval, log_t_from_moments, with_systematic

GATE_OK = 0.02
GATE_NOISY = 0.05


def summarize(
    windows: pd.DataFrame,
    energies: pd.DataFrame,
    baseline: str | None = None,
    scores: pd.DataFrame | None = None,
    boundary: str | None = None,
    basis: str | None = None,
    net: bool = False,
) -> pd.DataFrame:
    """The summary table (schema.SUMMARY) of an experiment: one row for each configuration that was tried.

    A configuration without a usable window keeps a row with `n_blocks` 0, no numbers, gate rejected and the reason. `scores`: columns
    configuration_id, score (a fraction) and, for intervals, n_items; or item by item as in schema.SCORES, texts among them. EOR, TWEOR,
    energy per correct answer and perplexity are filled where they are given. Raises UserError where nothing is usable.
    """
    selection = select(windows, energies, boundary, basis, net)
    return summarize_selection(selection, windows, baseline, scores)


def summarize_selection(
    selection: Selection, windows: pd.DataFrame, baseline: str | None = None, scores: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The summary table of windows that were selected before; `windows` names the configurations that were tried."""
    blocks = block_means(selection.rows)
    table = _estimates(blocks)
    tried = windows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    table = tried.merge(table, on="configuration_id", how="left")
    table["n_blocks"] = table["n_blocks"].fillna(0).astype(int)
    table["n_windows"] = table["n_windows"].fillna(0).astype(int)
    table = table.assign(basis=selection.basis, boundary=selection.boundary, energy_kind=selection.kind)
    table["gate"] = gate(table["energy_cv"], table["n_blocks"])
    table["reason"] = _reasons(table, selection.excluded)
    items = scores if scores is not None and "item" in scores else None
    table = with_scores(table, blocks, scores if items is None else of_items(items))
    table = _with_perplexity(table, items)
    table = _with_ratios(table, blocks, baseline)
    return in_order(table.reindex(columns=[c.name for c in schema.SUMMARY]))


def _estimates(blocks: pd.DataFrame) -> pd.DataFrame:
    """Estimates and intervals, one row a configuration."""
    groups = blocks.groupby("configuration_id", sort=False)
    table = groups.agg(
        n_blocks=("block", "size"), n_windows=("n_windows", "sum"), n_jobs=("job", "nunique"), memory_peak_gb=("memory_peak_gb", "max")
    )
    means = ["cpu_s_per_token", "cpu_s_per_request", "power_mean_w", "ttft_s", "model_bytes"]
    means += ["u_offset_relative", "u_gain_relative"]
    table = table.join(groups[means].mean())
    table["model_gb"] = table.pop("model_bytes") / 1e9
    for name in ("energy_j_per_token", "energy_j_per_request", "throughput_tok_s", "requests_per_second"):
        table = table.join(_log_t_columns(blocks, name))
    table["energy_cv"], table["energy_cv_low"], table["energy_cv_high"] = cv_interval(_cv(groups["unit_energy_j"]), table["n_blocks"])
    table["throughput_cv"] = _cv(groups["throughput_tok_s"])
    table["tokens_per_j"] = metrics.tokens_per_joule(table["energy_j_per_token"])
    return _with_absolute(table).reset_index()


def _cv(groups) -> pd.Series:
    """The coefficient of variation of each group, NaN for a single block."""
    return groups.std(ddof=1) / groups.mean()


def _log_t_columns(blocks: pd.DataFrame, name: str) -> pd.DataFrame:
    """`name`, `name_low`, `name_high` and the moments of its logarithm, by configuration."""
    logs = np.log(blocks[name]).groupby(blocks["configuration_id"], sort=False)
    frame = pd.DataFrame({f"{name}_mean_log": logs.mean(), f"{name}_sd_log": logs.std(ddof=1), "n": logs.count()})
    interval = log_t_from_moments(frame[f"{name}_mean_log"], frame[f"{name}_sd_log"], frame.pop("n"))
    frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = interval
    return frame


def _with_absolute(table: pd.DataFrame) -> pd.DataFrame:
    """Adds the interval against the true energy: offset and gain of the sensor, which no repetition removes, beside the spread of blocks.

    Granularity, aliasing and idle are in the spread of the blocks already. A relative uncertainty u is sqrt(ln(1 + u^2)) on the logarithm,
    as in `power.energy.interval`: the same to four digits for a sensor, not for an estimate good to a factor.
    """
    terms = zip(table["u_offset_relative"], table["u_gain_relative"], strict=True)
    u_log = np.sqrt(np.log1p([Budget(offset=offset, gain=gain).absolute ** 2 for offset, gain in terms]))
    se_log = table["energy_j_per_token_sd_log"] / np.sqrt(table["n_blocks"])
    absolute = with_systematic(table["energy_j_per_token_mean_log"], se_log, table["n_blocks"] - 1, u_log)
    return table.assign(energy_j_per_token_abs_low=absolute.low, energy_j_per_token_abs_high=absolute.high)


def gate(energy_cv, n_blocks) -> np.ndarray:
    """ok (CV <= 2 %), noisy (<= 5 %) or rejected, on the point CV across blocks.

    One block has no spread: it is noisy, because nothing shows that it is not. No block at all is rejected.
    """
    cv, n = np.asarray(energy_cv, float), np.asarray(n_blocks)
    return np.select([n == 0, n == 1, cv <= GATE_OK, cv <= GATE_NOISY], ["rejected", "noisy", "ok", "noisy"], default="rejected")


def _reasons(table: pd.DataFrame, excluded: pd.DataFrame) -> pd.Series:
    """Why a configuration has fewer windows than were tried, or no interval: `2 x oom: out of memory; one block: no spread known`."""
    text = excluded["n"].astype(str) + " x " + excluded["status"] + ": " + excluded["reason"]
    by_configuration = text.groupby(excluded["configuration_id"]).agg("; ".join).to_dict()
    reasons = [by_configuration.get(c, "") for c in table["configuration_id"]]
    single = np.where(table["n_blocks"] == 1, "one block: no spread known", "")
    cards = np.where(table["n_jobs"] > 1, "blocks of several jobs: their cards' gains differ", "")
    return pd.Series(["; ".join(filter(None, words)) for words in zip(reasons, single, cards, strict=True)], index=table.index)


def _with_perplexity(table: pd.DataFrame, items: pd.DataFrame | None) -> pd.DataFrame:
    """Adds perplexities, and the number of texts where a configuration was given texts."""
    found = of_texts(items) if items is not None else None
    if found is None or found.empty:
        return table
    table = table.merge(found, on="configuration_id", how="left", suffixes=("", "_texts"))
    return table.assign(n_items=table["n_items"].fillna(table.pop("n_items_texts")))


def _with_ratios(table: pd.DataFrame, blocks: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Adds baseline, ratio_to_baseline and its interval; the baseline itself has ratio 1 and no interval."""
    columns = ["configuration_id", "baseline", "ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"]
    comparisons = compare_blocks(blocks, table, baseline)[columns]
    table = table.merge(comparisons, on="configuration_id", how="left")
    is_baseline = table["baseline"].isna() & (table["n_blocks"] > 0)
    table["ratio_to_baseline"] = table["ratio_to_baseline"].mask(is_baseline, 1.0)
    table["baseline"] = table["baseline"].fillna(table["quantization"])
    return table
