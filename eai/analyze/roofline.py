"""Where each configuration stands under the roofs of its card, what prefill and decode cost apart, and what a task's energy is made of.

Roofline: Williams et al. 2009 (doi:10.1145/1498765.1498785). Flops and bytes are counted from the model's shapes (`eai.footprint`), times
are measured: a prefill is the time to first token, a decode step the median step of a window, else the whole call stands for both phases.

Prefill and decode: a request of n output tokens is one prefill, which gives the first of them, and n - 1 decode steps::

    E(n) = prefill + decode (n - 1) + growth (n - 1)^2

fitted over output lengths that include 1 (without it the intercept is an extrapolation). Noise of windows is relative, so each point weighs
1 / E^2. Every block is fitted by itself and is one replicate; the last term, a KV cache that grows, is kept only where it shows.

A task, priced by plain generation of the same experiment, strategy and batch size::

    energy per item = tokens in x prefill an input token + (tokens out - 1) x decode a token + the rest

The rest, in either direction, is what such prices do not know: padding, rows that wait for the last of their batch, logits of choices.
"""

import contextlib
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from eai import catalog, footprint, strategies
from eai.analyze.selection import CONFIGURATION, ENDS, Selection, as_run, energy_per_request, in_order
from eai.errors import UserError
from eai.stats.comparisons import ALPHA
from eai.stats.intervals import Interval, combine, log_t_from_moments, t_quantile

SIMULATED = "simulated_"
NO_ROOF = "no peak is known for this hardware: no roof"
ABOVE = "above its roof: a time, a count or a peak is wrong"
TIMES = {"prefill": "ttft_s", "decode": "step_time_s", "whole": "call_s"}


@dataclass(frozen=True)
class Roofs:
    """The two roofs of one strategy on one card: compute [flop/s] and memory [byte/s]; NaN where nobody states or measured them."""

    peak_flop_s: float = float("nan")
    bandwidth_byte_s: float = float("nan")


def roofline(selection: Selection, measured: dict[tuple[str, str], Roofs] | None = None) -> pd.DataFrame:
    """One row a configuration and phase: intensity, achieved flop/s, its roof and the share of it, the last three with intervals.

    `measured`: roofs by (gpu, quantization) that were measured on the machine; without them the vendor's peaks of the catalog. A
    configuration that cannot be counted (a model or strategy of unknown shape, a task whose lengths vary) has one row with its reason and
    no numbers.
    """
    rows = selection.rows
    calls = rows["tokens_out"] / (rows["batch_size"] * rows["output_tokens"])
    times = rows.assign(call_s=rows["duration_s"] / calls).reindex(columns=["configuration_id", "job", "block", *TIMES.values()])
    times[[*TIMES.values()]] = times[[*TIMES.values()]].where(times[[*TIMES.values()]] > 0)  # a difference of two disturbed times
    blocks = times.groupby(["configuration_id", "job", "block"]).mean().reset_index().set_index("configuration_id")
    found = []
    for c in rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id").to_dict("records"):
        own = blocks.loc[[c.pop("configuration_id")]]
        try:
            work = _work(c, measured or {})
        except UserError as error:
            found.append(c | {"phase": "", "n_blocks": 0, "reason": str(error)})
            continue
        timed = [p for p in ("prefill", "decode") if own[TIMES[p]].gt(0).any()]
        phases = timed if len(timed) == 2 or (timed and c["output_tokens"] == 1) else ["whole"]
        found += [c | _point(phase, work[phase], own[TIMES[phase]].dropna()) for phase in phases]
    columns = [*CONFIGURATION, "phase", "n_blocks", "intensity_flop_per_byte"]
    columns += [f"{name}{end}" for name in ("achieved_flop_s", "share_of_roof") for end in ENDS]
    columns += ["roof_flop_s", "peak_flop_s", "bandwidth_byte_s", "bound", "basis", "reason"]
    basis = "measured" if selection.basis == "estimated" else selection.basis  # an estimate is of the energy: times are measured
    return in_order(pd.DataFrame(found).assign(basis=basis).reindex(columns=columns))


def measured_roofs(provenance: list[dict]) -> dict[tuple[str, str], Roofs]:
    """The roofs that jobs recorded with their windows, by (gpu, quantization): of a processor, which no catalog can list.

    Of several jobs on one kind of hardware the highest counts.
    """
    found: dict[tuple[str, str], Roofs] = {}
    for job in provenance:
        recorded = job.get("roofs") or {}
        for name, strategy in strategies.STRATEGIES.items():
            peak = recorded.get("peak_flop_s", {}).get(strategy.compute.split(" ")[0])
            if peak and peak > found.get((job["gpu"], name), Roofs(0.0)).peak_flop_s:
                found[job["gpu"], name] = Roofs(peak, recorded["bandwidth_byte_s"])
    return found


def _work(c: dict, measured: dict) -> dict[str, dict]:
    """Flops, bytes, shortest time and roofs (NaN for hardware without them) of each phase of one call; whole = a prefill and the decode
    steps after it. Raises UserError where the shapes do not decide what ran.
    """
    if c["task"] != "generate":
        raise UserError(f"the lengths of {c['task']} vary: its flops are not counted")
    if json.loads(c["options"] or "{}").get("kv_cache") is False:
        raise UserError("without a KV cache every step computes the whole context again: its flops are not counted")
    counted = footprint.footprint(*(c[name] for name in ("model", "quantization", "batch_size", "input_tokens", "output_tokens")))
    roofs = Roofs()
    with contextlib.suppress(UserError):
        gpu = catalog.gpu(c["gpu"].removeprefix(SIMULATED))
        roofs = Roofs(footprint.peak_flops(gpu, c["quantization"]), gpu.bandwidth_gb_s * 1e9)
    roofs = measured.get((c["gpu"], c["quantization"]), roofs)
    found = {}
    phases = {"prefill": (counted.prefill_flops, counted.weight_bytes), "decode": (counted.step_flops, counted.step_bytes)}
    for phase, (flops, moved) in phases.items():
        roof_s = float(np.maximum(flops / roofs.peak_flop_s, moved / roofs.bandwidth_byte_s))  # under both; NaN without roofs
        found[phase] = {"flops": flops, "moved_bytes": moved, "roof_s": roof_s, **vars(roofs)}
    steps, parts = c["output_tokens"] - 1, ("flops", "moved_bytes", "roof_s")
    return found | {"whole": found["decode"] | {k: found["prefill"][k] + steps * found["decode"][k] for k in parts}}


def _point(phase: str, work: dict, times_s: pd.Series) -> dict:
    """One phase's place: achieved flop/s over blocks, its roof at that intensity, the share of it and which roof is the lower."""
    logs = np.log(times_s)
    time = log_t_from_moments(logs.mean(), logs.std(ddof=1), len(logs))
    point = {"phase": phase, "n_blocks": len(logs), "intensity_flop_per_byte": work["flops"] / work["moved_bytes"]}
    for name, amount in (("achieved_flop_s", work["flops"]), ("share_of_roof", work["roof_s"])):
        point |= {name: amount / time.value, f"{name}_low": amount / time.high, f"{name}_high": amount / time.low}
    known = np.isfinite(work["roof_s"])
    bound = "memory" if work["moved_bytes"] / work["bandwidth_byte_s"] > work["flops"] / work["peak_flop_s"] else "compute"
    reason = NO_ROOF if not known else ABOVE if point["share_of_roof_low"] > 1 else ""
    roofs = {c: work[c] for c in ("peak_flop_s", "bandwidth_byte_s")}
    return point | roofs | {"roof_flop_s": work["flops"] / work["roof_s"], "bound": bound if known else "", "reason": reason}


QUANTITIES = {"energy_j": "j", "duration_s": "s"}


class Split(NamedTuple):
    """Prefill a request and decode a token, each with its 95 % interval, in the unit of the values.

    `decode` is the mean step between 1 and the longest output; `model`: line or curve (kept where `p_curvature` <= 0.05). NaN:
    `p_curvature` with fewer than three lengths, the intervals' ends where there is neither a second block nor a third length.
    """

    prefill: Interval
    decode: Interval
    p_curvature: float
    model: str
    blocks: int


def split(output_tokens, values, blocks, u_relative: float = 0.0) -> Split:
    """Prefill and decode of one configuration from values a request (J or s) at several output lengths; blocks without every length are
    left out. `u_relative`: relative standard uncertainty of the sensor, which no repeat removes. Raises UserError with fewer than two
    lengths, no complete block, or a value that is not positive.
    """
    lengths, column = np.unique(np.asarray(output_tokens), return_inverse=True)
    names, row = np.unique(np.asarray(blocks), return_inverse=True)
    sums, counts = np.zeros((2, len(names), len(lengths)))
    np.add.at(sums, (row, column), np.asarray(values, float))
    np.add.at(counts, (row, column), 1)
    complete = counts.all(axis=1)
    table = sums[complete] / counts[complete]
    if len(lengths) < 2 or not len(table):
        found = f"{len(lengths)} output lengths in {len(table)} complete blocks"
        raise UserError(found, "two lengths or more, 1 among them", "add lengths")
    if not (table > 0).all():
        raise UserError(f"a value of {table.min():g} a request", "positive values", "leave the window out")
    steps, weights = lengths - 1.0, 1 / table.mean(0)
    line, line_se, line_df = _estimates(steps, table, weights, 1)
    p_curvature, model = np.nan, "line"
    if len(steps) > 2:
        curve, curve_se, curve_df = _estimates(steps, table, weights, 2)
        if curve_df > 0 and curve_se[2] > 0:
            p_curvature = 2 * special.stdtr(curve_df, -abs(curve[2]) / curve_se[2])
        if p_curvature <= ALPHA:
            model, line, line_se, line_df = "curve", curve, curve_se, curve_df
    combined, df = combine(line_se[:2], line_df, np.abs(line[:2]) * u_relative)
    half = t_quantile(df) * combined
    intervals = (Interval(*map(float, ends)) for ends in zip(line[:2], line[:2] - half, line[:2] + half, strict=True))
    return Split(*intervals, float(p_curvature), model, len(table))


def _estimates(steps: np.ndarray, values: np.ndarray, weights: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(estimates, standard errors, degrees of freedom) of intercept, mean slope over the range and, for degree 2, the last term: means over
    the blocks' own weighted fits; one block alone has the standard errors of its regression.
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


def prefill_and_decode(selection: Selection, quantity: str = "energy_j") -> pd.DataFrame:
    """One row a configuration without its output length: prefill a request and an input token, decode a token, intervals and curvature, of
    one sequence of the batch. `quantity`: energy_j or duration_s. `reason` says why a row has no numbers, or that its prefill is
    extrapolated (no length 1). Raises UserError for another quantity.
    """
    if quantity not in QUANTITIES:
        raise UserError(f"quantity '{quantity}'", f"one of {', '.join(QUANTITIES)}")
    unit, keys, rows = QUANTITIES[quantity], [*(c for c in CONFIGURATION if c != "output_tokens"), "job"], []
    for key, cell in selection.rows[~as_run(selection.rows)].groupby(keys, sort=False):
        sums = cell.groupby(["block", "output_tokens"])[[quantity, "requests"]].sum().reset_index()
        lengths = sorted(sums["output_tokens"].unique())
        row = dict(zip(keys, key, strict=True)) | {"lengths": " ".join(map(str, lengths)), "n_blocks": sums["block"].nunique()}
        sensor = cell[["u_offset_j", "u_gain_j"]].fillna(0.0).sum() / cell["energy_j"].sum()
        try:
            u_relative = float(np.hypot(*sensor)) if unit == "j" else 0.0
            found = split(sums["output_tokens"], sums[quantity] / sums["requests"], sums["block"], u_relative)
        except UserError as error:
            rows.append(row | {"reason": str(error)})
            continue
        row |= {f"prefill_{unit}_per_request{end}": v for end, v in zip(ENDS, found.prefill, strict=True)}
        row |= {f"prefill_{unit}_per_input_token": found.prefill.value / float(cell["input_tokens"].iloc[0])}
        row |= {f"decode_{unit}_per_token{end}": v for end, v in zip(ENDS, found.decode, strict=True)}
        reason = "" if lengths[0] == 1 else f"prefill is extrapolated from {lengths[0]} output tokens"
        row |= {"p_curvature": found.p_curvature, "model_fitted": found.model, "n_blocks": found.blocks, "reason": reason}
        rows.append(row)
    return pd.DataFrame(rows)


SAME = ["gpu", "model", "weights", "quantization", "batch_size", "job"]
NUMBERS = ["tokens_in_per_item", "tokens_out_per_item", "energy_j_per_request", "prefill_j", "decode_j"]


def decompose(selection: Selection) -> pd.DataFrame:
    """One row a task and configuration: tokens and energy [J] of an item, its prefill and decode part, and the share they explain, with its
    t interval over blocks; a share above 1 says that the prices are too high. `input_tokens_priced`: the length at which prefill was
    measured, of several the nearest.
    """
    tasks, plain = selection.rows[as_run(selection.rows)], selection.rows[~as_run(selection.rows)]
    cells = dict(list(plain.groupby(SAME, sort=False)))
    keys = ["configuration_id", "job"]
    rows = [_decomposed_row(rows, cells.get(tuple(rows[SAME].iloc[0]))) for _, rows in tasks.groupby(keys, sort=False)]
    numbers = [*NUMBERS, *(f"explained_share{end}" for end in ENDS), "rest_share"]
    columns = [*CONFIGURATION, "input_tokens_priced", *numbers, "n_blocks", "reason"]
    return in_order(pd.DataFrame(rows, columns=columns)) if rows else pd.DataFrame(columns=columns)


def _decomposed_row(task: pd.DataFrame, generation: pd.DataFrame | None) -> dict:
    """The numbers of one task and configuration: each block is priced by its own fit over the output lengths."""
    row, prices, why = task[CONFIGURATION].iloc[0].to_dict(), {}, "no block holds both"
    sums = task.groupby("block")[["energy_j", "tokens_in", "tokens_out", "requests"]].sum()
    if generation is None:
        return row | {"n_blocks": 0, "reason": "no plain generation with this strategy and batch size: add generate to the tasks"}
    per_item = sums.div(sums["requests"], axis=0)
    wanted = max(per_item["tokens_in"].mean(), 1.0)
    length = int(min(generation["input_tokens"].unique(), key=lambda n: abs(np.log(n / wanted))))  # the nearest by ratio
    for block, rows in generation[generation["input_tokens"] == length].groupby("block"):
        totals = rows.groupby("output_tokens")[["energy_j", "requests"]].sum()
        try:
            fit = split(totals.index, totals["energy_j"] / totals["requests"], np.ones(len(totals)))
            prices[block] = fit.prefill.value / length, fit.decode.value
        except UserError as error:
            why = str(error)
    both = per_item.join(pd.DataFrame.from_dict(prices, orient="index", columns=["prefill", "decode"]), how="inner")
    if both.empty:
        return row | {"n_blocks": 0, "reason": why}
    both["prefill_j"] = both["tokens_in"] * both["prefill"]
    both["decode_j"] = (both["tokens_out"] - 1).clip(lower=0) * both["decode"]
    share = (both["prefill_j"] + both["decode_j"]) / energy_per_request(both["energy_j"], 1)
    half = float(t_quantile(len(share) - 1)) * share.std(ddof=1) / np.sqrt(len(share)) if len(share) > 1 else np.nan
    found = dict(zip(NUMBERS, both[["tokens_in", "tokens_out", "energy_j", "prefill_j", "decode_j"]].mean(), strict=True))
    found |= {f"explained_share{end}": share.mean() + step for end, step in zip(ENDS, (0.0, -half, half), strict=True)}
    return row | found | {"input_tokens_priced": length, "rest_share": 1 - share.mean(), "n_blocks": len(both), "reason": ""}
