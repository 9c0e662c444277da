"""Where each configuration stands under the roofs of its card: achieved flop/s against arithmetic intensity, phase by phase.

The roofline model is Williams et al. 2009 (doi:10.1145/1498765.1498785). Flops and bytes are counted from the model's shapes
(`eai.footprint`), times are measured: a prefill is the time to first token, a decode step the median step of a window. Where a
source gives neither, the whole call stands for both phases and its roof is the time that both need at least. Counts leave out
what no shape decides, so a share of the roof is of the useful work.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai import catalog, footprint, strategies
from eai.analyze.selection import CONFIGURATION, Selection, in_order
from eai.errors import UserError
from eai.stats.intervals import log_t_from_moments

PHASES = ("prefill", "decode", "whole")
SIMULATED = "simulated_"
NO_ROOF = "no peak is known for this hardware: no roof"
ABOVE = "above its roof: a time, a count or a peak is wrong"
_TIMES = {"prefill": "ttft_s", "decode": "step_time_s", "whole": "call_s"}


@dataclass(frozen=True)
class Roofs:
    """The two roofs of one strategy on one card: compute [flop/s] and memory [byte/s]; NaN where nobody states or measured them."""

    peak_flop_s: float = float("nan")
    bandwidth_byte_s: float = float("nan")


def roofline(selection: Selection, measured: dict[tuple[str, str], Roofs] | None = None) -> pd.DataFrame:
    """One row a configuration and phase: intensity, achieved flop/s, its roof and the share of it, the last three with intervals.

    Columns: the configuration, phase, n_blocks, intensity_flop_per_byte, achieved_flop_s, share_of_roof (each with `_low`, `_high`: 95 %
    t over blocks), roof_flop_s, peak_flop_s, bandwidth_byte_s, bound (memory | compute), basis, reason. `measured`: roofs by (gpu,
    quantization) that were measured on the machine; without them the vendor's peaks of the catalog. A configuration that cannot be
    counted (a model or strategy of unknown shape, a task whose lengths vary) has one row with its reason and no numbers.
    """
    rows = selection.rows.reset_index(drop=True)
    configurations = rows[["configuration_id", *CONFIGURATION]].drop_duplicates("configuration_id")
    times = _times(rows)
    found = [row for c in configurations.to_dict("records") for row in _of_configuration(c, times, measured or {})]
    columns = [*CONFIGURATION, "phase", "n_blocks", "intensity_flop_per_byte"]
    columns += [f"{name}{end}" for name in ("achieved_flop_s", "share_of_roof") for end in ("", "_low", "_high")]
    columns += ["roof_flop_s", "peak_flop_s", "bandwidth_byte_s", "bound", "basis", "reason"]
    basis = "measured" if selection.basis == "estimated" else selection.basis  # an estimate is of the energy: times are measured
    return in_order(pd.DataFrame(found).assign(basis=basis).reindex(columns=columns))


def measured_roofs(provenance: list[dict]) -> dict[tuple[str, str], Roofs]:
    """The roofs that jobs recorded with their windows, by (gpu, quantization): of a processor, which no catalog can list.

    Of several jobs on one kind of hardware the highest counts. A strategy whose products run in a type that was not measured has none.
    """
    found: dict[tuple[str, str], Roofs] = {}
    for job in provenance:
        recorded = job.get("roofs") or {}
        for name, strategy in strategies.STRATEGIES.items():
            peak = recorded.get("peak_flop_s", {}).get(strategy.compute.split(" ")[0])
            if peak and peak > found.get((job["gpu"], name), Roofs(0.0)).peak_flop_s:
                found[job["gpu"], name] = Roofs(peak, recorded["bandwidth_byte_s"])
    return found


def _times(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean time [s] of a prefill, a decode step and a whole call of each block, by configuration; NaN where it was not taken."""
    calls = rows["tokens_out"] / (rows["batch_size"] * rows["output_tokens"])
    taken = rows.assign(call_s=rows["duration_s"] / calls).reindex(columns=["configuration_id", "job", "block", *_TIMES.values()])
    times = list(_TIMES.values())
    taken[times] = taken[times].where(taken[times] > 0)  # a difference of two disturbed times
    return taken.groupby(["configuration_id", "job", "block"]).mean().reset_index().set_index("configuration_id")


def _of_configuration(configuration: dict, times: pd.DataFrame, measured: dict) -> list[dict]:
    """The rows of one configuration: prefill and decode where both were timed, else the whole call, else why not."""
    key = configuration.pop("configuration_id")
    blocks = times.loc[[key]]
    try:
        _check_countable(configuration)
        work = _work(configuration, measured)
    except UserError as error:
        return [configuration | {"phase": "", "n_blocks": 0, "reason": str(error)}]
    timed = [p for p in ("prefill", "decode") if blocks[_TIMES[p]].gt(0).any()]
    phases = timed if len(timed) == 2 or (timed and configuration["output_tokens"] == 1) else ["whole"]
    return [configuration | _point(phase, work[phase], blocks[_TIMES[phase]].dropna()) for phase in phases]


def _check_countable(configuration: dict) -> None:
    """Raise UserError where the shapes do not decide what ran."""
    options = json.loads(configuration["options"] or "{}")
    if configuration["task"] != "generate":
        raise UserError(f"the lengths of {configuration['task']} vary: its flops are not counted")
    if options.get("kv_cache") is False:
        raise UserError("without a KV cache every step computes the whole context again: its flops are not counted")


def _work(configuration: dict, measured: dict) -> dict[str, dict]:
    """Flops, bytes, shortest time and roofs of each phase of one call; whole = a prefill and the decode steps after it."""
    shape = [configuration[c] for c in ("model", "quantization", "batch_size", "input_tokens", "output_tokens")]
    counted = footprint.footprint(*shape)
    roofs = measured.get((configuration["gpu"], configuration["quantization"])) or _catalog_roofs(configuration)
    steps = configuration["output_tokens"] - 1
    phases = {"prefill": (counted.prefill_flops, counted.weight_bytes), "decode": (counted.step_flops, counted.step_bytes)}
    found = {
        phase: {"flops": flops, "moved_bytes": moved, "roof_s": _roof_s(flops, moved, roofs), **vars(roofs)}
        for phase, (flops, moved) in phases.items()
    }
    parts = ("flops", "moved_bytes", "roof_s")
    return found | {"whole": found["decode"] | {c: found["prefill"][c] + steps * found["decode"][c] for c in parts}}


def _catalog_roofs(configuration: dict) -> Roofs:
    """The vendor's peaks, also of the card that a simulated one stands for; NaN for hardware without them."""
    try:
        gpu = catalog.gpu(configuration["gpu"].removeprefix(SIMULATED))
        return Roofs(footprint.peak_flops(gpu, configuration["quantization"]), gpu.bandwidth_gb_s * 1e9)
    except UserError:
        return Roofs()


def _roof_s(flops: float, moved_bytes: float, roofs: Roofs) -> float:
    """The least time [s] under both roofs; NaN without roofs."""
    return float(np.maximum(flops / roofs.peak_flop_s, moved_bytes / roofs.bandwidth_byte_s))


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
