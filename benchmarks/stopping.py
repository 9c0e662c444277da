"""Seconds of measuring that two designs need to know a ratio of two strategies to +-2 %; prints one JSON line.

    python benchmarks/stopping.py [--experiment NAME] [--figure FILE.svg]

Paired blocks with Stein's two-stage stopping stand against unpaired runs of a fixed number (10, and as many as give +-2 %), over the
correlation of two strategies inside a block. Model loads are counted: both designs load both models once a replicate. `--experiment`
adds where recorded blocks lie on the curve.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from scipy import stats

from eai import plots, tables
from eai.analyze.comparison import block_ratios, compare
from eai.analyze.selection import select
from eai.stats import planning

LOAD_S, WARMUP_S, WINDOW_S = 30.0, 10.0, 10.0
SD_LOG = 0.03
HALF_WIDTH = 0.02
FIXED_N = 10
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 0.9)
PLAN = planning.Stopping(half_width=HALF_WIDTH, n_first=5, cap=200)
SECONDS_A_REPLICATE = 2 * (LOAD_S + WARMUP_S + WINDOW_S)


def paired(correlation: float, rng: np.random.Generator, draws: int) -> dict:
    """Mean seconds, coverage and share that reached +-2 % of paired blocks with Stein's stopping; truth: ratio 1."""
    differences = rng.normal(0, SD_LOG * math.sqrt(2 * (1 - correlation)), (draws, PLAN.cap))
    n = np.array([planning.stein_blocks(sd, PLAN) for sd in differences[:, : PLAN.n_first].std(axis=1, ddof=1)])
    intervals = [planning.stein_interval(d[:k], PLAN.n_first) for d, k in zip(differences, n, strict=True)]
    reached = [high / value - 1 <= HALF_WIDTH * (1 + 1e-9) for value, _, high in intervals]
    covered = [low <= 1 <= high for _, low, high in intervals]
    return {"seconds": n.mean() * SECONDS_A_REPLICATE, "blocks": n.mean(), "coverage": np.mean(covered), "reached": np.mean(reached)}


def unpaired(n: int, rng: np.random.Generator, draws: int) -> dict:
    """Seconds, coverage and reached half-width of n unpaired runs of each strategy (Welch); correlation cannot help them."""
    a, b = rng.normal(0, SD_LOG, (2, draws, n))
    test = stats.ttest_ind(a, b, axis=1, equal_var=False)
    interval = test.confidence_interval(0.95)
    half = np.expm1((interval.high - interval.low) / 2)
    covered = (interval.low <= 0) & (interval.high >= 0)
    return {
        "seconds": n * SECONDS_A_REPLICATE,
        "half_width": np.mean(half),
        "coverage": np.mean(covered),
        "reached": np.mean(half <= HALF_WIDTH),
    }


def unpaired_n() -> int:
    """The fixed number of unpaired runs whose interval is +-2 % or narrower in 80 % of experiments (chi-square of the pooled sd)."""
    for n in range(2, 1000):
        df = 2 * n - 2
        sd = SD_LOG * math.sqrt(stats.chi2.ppf(0.8, df) / df)
        if math.expm1(stats.t.ppf(0.975, df) * sd * math.sqrt(2 / n)) <= HALF_WIDTH:
            return n
    raise RuntimeError("more than 1000 runs")


def recorded(experiment: str) -> dict:
    """The block correlation of log energies of each strategy with its baseline in a recorded experiment: n, median, range."""
    windows, energies = tables.read_windows(experiment), tables.read_energies(experiment)
    ratios = block_ratios(select(windows, energies))
    found = []
    for _, rows in ratios.groupby("configuration_id"):
        if len(rows) >= 3:
            found.append(np.corrcoef(np.log(rows["energy_j_per_token"]), np.log(rows["base_j_per_token"]))[0, 1])
    blocks = int(compare(windows, energies)["n_pairs"].max())
    if not found:
        return {"experiment": experiment, "pairs": 0, "blocks": blocks}
    return {
        "experiment": experiment,
        "pairs": len(found),
        "blocks": blocks,
        "median": np.median(found),
        "min": min(found),
        "max": max(found),
    }


def draw(rows: list[dict], fixed: dict, enough: dict, path: Path) -> None:
    """Seconds against block correlation, both designs."""
    fig, ax = plots.figure(width="column")
    plots.style.tidy(ax)
    ax.plot(
        [r["correlation"] for r in rows],
        [r["seconds"] for r in rows],
        marker="o",
        color=plots.style.PALETTE[0],
        label="paired, Stein to 2 %",
    )
    for i, (row, words) in enumerate(
        ((fixed, f"unpaired, n = {FIXED_N}: {100 * fixed['half_width']:.1f} %"), (enough, "unpaired to 2 %")), start=1
    ):
        ax.axhline(row["seconds"], color=plots.style.PALETTE[i], linestyle="--", linewidth=1, label=words)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("correlation of two strategies inside a block")
    ax.set_ylabel("time to measure, loads counted [s]")
    ax.legend(frameon=False, fontsize="small")
    plots.save(fig, path)


def rounded(value):
    """Numbers to four digits, through lists and dictionaries."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


def main() -> None:
    """Simulate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--experiment")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    started = time.perf_counter()
    rng = np.random.default_rng(0)
    rows = [{"correlation": c} | paired(c, rng, args.draws) for c in CORRELATIONS]
    fixed, enough = unpaired(FIXED_N, rng, args.draws), unpaired(unpaired_n(), rng, args.draws)
    if args.figure:
        draw(rows, fixed, enough, args.figure)
    result = {"benchmark": "stopping", "sd_log": SD_LOG, "half_width": HALF_WIDTH, "draws": args.draws, "paired_stein": rows}
    result |= {"unpaired_fixed_10": fixed, "unpaired_to_half_width": enough | {"n": unpaired_n()}}
    result |= {"speedup_vs_unpaired_to_half_width": {str(r["correlation"]): enough["seconds"] / r["seconds"] for r in rows}}
    if args.experiment:
        result["recorded"] = recorded(args.experiment)
    print(json.dumps(rounded(result | {"seconds": time.perf_counter() - started})))


if __name__ == "__main__":
    main()
