"""Prefill and decode apart: energy of a request over its output length, fitted with a line whose intercept is the prefill.

A request of n output tokens is one prefill, which gives the first of them, and n - 1 decode steps::

    E(n) = prefill + decode (n - 1) + growth (n - 1)^2

The same prompts at several output lengths that include 1 give both; without the 1 the intercept is an extrapolation. Noise of
windows of equal length is relative, so each point weighs 1 / E^2. Every block is fitted by itself and is one replicate; the last term
is tested, since a step reads a KV cache that grows, and kept only where it shows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from eai.analyze.selection import CONFIGURATION, Selection, as_run
from eai.errors import UserError
from eai.stats.comparisons import ALPHA
from eai.stats.intervals import Interval, combine, t_quantile

QUANTITIES = {"energy_j": "j", "duration_s": "s"}
CELL = [column for column in CONFIGURATION if column != "output_tokens"]


@dataclass(frozen=True)
class Split:
    """Prefill a request and decode a token, each with its 95 % interval, in the unit of the values.

    `decode` is the mean step between 1 and the longest output; `model`: line or curve (kept where `p_curvature` <= 0.05);
    `p_curvature` is NaN with fewer than three lengths, the intervals' ends where there is neither a second block nor a third length.
    """

    prefill: Interval
    decode: Interval
    p_curvature: float
    model: str
    blocks: int


def split(output_tokens, values, blocks, u_relative: float = 0.0) -> Split:
    """Prefill and decode of one configuration from values a request (J or s) at several output lengths.

    `u_relative`: relative standard uncertainty of the sensor, which no repeat removes. Blocks without every length are left out.
    Raises UserError with fewer than two lengths, no complete block, or a value that is not positive.
    """
    lengths, table = _by_block(output_tokens, values, blocks)
    if len(lengths) < 2 or not len(table):
        raise UserError(
            f"{len(lengths)} output lengths in {len(table)} complete blocks", "two lengths or more, 1 among them", "add lengths"
        )
    if not (table > 0).all():
        raise UserError(f"a value of {table.min():g} a request", "positive values", "leave the window out")
    steps = lengths - 1.0
    weights = 1 / table.mean(0)
    line, line_se, line_df = _estimates(steps, table, weights, 1)
    p_curvature, model = np.nan, "line"
    if len(steps) > 2:
        curve, curve_se, curve_df = _estimates(steps, table, weights, 2)
        p_curvature = _p_of_zero(curve[2], curve_se[2], curve_df)
        if p_curvature <= ALPHA:
            model, line, line_se, line_df = "curve", curve, curve_se, curve_df
    return Split(*(_interval(line[i], line_se[i], line_df, u_relative) for i in (0, 1)), float(p_curvature), model, len(table))


def _by_block(output_tokens, values, blocks) -> tuple[np.ndarray, np.ndarray]:
    """(output lengths, mean values as blocks x lengths); blocks that miss a length are left out."""
    lengths, column = np.unique(np.asarray(output_tokens), return_inverse=True)
    names, row = np.unique(np.asarray(blocks), return_inverse=True)
    sums, counts = np.zeros((len(names), len(lengths))), np.zeros((len(names), len(lengths)))
    np.add.at(sums, (row, column), np.asarray(values, float))
    np.add.at(counts, (row, column), 1)
    complete = counts.all(axis=1)
    return lengths, sums[complete] / counts[complete]


def _estimates(steps: np.ndarray, values: np.ndarray, weights: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(estimates, standard errors, degrees of freedom) of intercept, mean slope over the range and, for degree 2, the last term.

    Means over the blocks' own weighted fits; one block alone has the standard errors of its regression.
    """
    design = np.vander(steps, degree + 1, increasing=True)
    solve = np.linalg.pinv(design * weights[:, None])
    to_mean_slope = np.eye(degree + 1)
    if degree == 2:
        to_mean_slope[1, 2] = steps.max()
    solve = to_mean_slope @ solve
    fits = (values * weights) @ solve.T
    if len(values) > 1:
        return fits.mean(0), fits.std(0, ddof=1) / np.sqrt(len(values)), len(values) - 1
    df = len(steps) - degree - 1
    fitted = design @ np.linalg.inv(to_mean_slope) @ fits[0]
    variance = np.sum(((values[0] - fitted) * weights) ** 2) / df if df > 0 else np.nan
    return fits[0], np.sqrt(variance * np.sum(solve**2, axis=1)), df


def _p_of_zero(estimate: float, se: float, df: int) -> float:
    """Two-sided p of a zero by Student's t; NaN without a degree of freedom."""
    return float(2 * stats.t.sf(abs(estimate) / se, df)) if df > 0 and se > 0 else np.nan


def _interval(estimate: float, se: float, df: int, u_relative: float) -> Interval:
    """The estimate with its 95 % interval; a sensor's relative uncertainty is added in quadrature."""
    combined, df_combined = combine(se, df, abs(estimate) * u_relative)
    half = float(t_quantile(df_combined)) * float(combined)
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half)


def prefill_and_decode(selection: Selection, quantity: str = "energy_j") -> pd.DataFrame:
    """One row a configuration without its output length: prefill a request, decode a token, intervals, curvature and what is missing.

    `quantity`: energy_j or duration_s. `reason` says why a row has no numbers, or that its prefill is extrapolated (no length 1).
    Values are of one sequence of the batch: prefill also a token of input. Raises UserError for another quantity.
    """
    if quantity not in QUANTITIES:
        raise UserError(f"quantity '{quantity}'", f"one of {', '.join(QUANTITIES)}")
    unit = QUANTITIES[quantity]
    keys = [*CELL, "job"]
    plain = selection.rows[~as_run(selection.rows)]
    rows = [dict(zip(keys, key, strict=True)) | _row(cell, quantity, unit) for key, cell in plain.groupby(keys, sort=False)]
    return pd.DataFrame(rows)


def _row(cell: pd.DataFrame, quantity: str, unit: str) -> dict:
    """The numbers of one cell."""
    sums = cell.groupby(["block", "output_tokens"])[[quantity, "requests"]].sum().reset_index()
    lengths = sorted(sums["output_tokens"].unique())
    described = {"lengths": " ".join(map(str, lengths)), "n_blocks": sums["block"].nunique()}
    u_relative = _sensor_relative(cell) if quantity == "energy_j" else 0.0
    try:
        found = split(sums["output_tokens"], sums[quantity] / sums["requests"], sums["block"], u_relative)
    except UserError as error:
        return described | {"reason": str(error)}
    per_input = found.prefill.value / float(cell["input_tokens"].iloc[0])
    numbers = {f"prefill_{unit}_per_request{end}": v for end, v in zip(("", "_low", "_high"), found.prefill, strict=True)}
    numbers |= {f"prefill_{unit}_per_input_token": per_input}
    numbers |= {f"decode_{unit}_per_token{end}": v for end, v in zip(("", "_low", "_high"), found.decode, strict=True)}
    reason = "" if lengths[0] == 1 else f"prefill is extrapolated from {lengths[0]} output tokens"
    return described | numbers | {"p_curvature": found.p_curvature, "model_fitted": found.model, "n_blocks": found.blocks, "reason": reason}


def _sensor_relative(cell: pd.DataFrame) -> float:
    """Relative systematic uncertainty of a cell's energies: offset and gain in quadrature."""
    total = float(cell["energy_j"].sum())
    return float(np.hypot(*(cell[name].fillna(0.0).sum() / total for name in ("u_offset_j", "u_gain_j"))))
