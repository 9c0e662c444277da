"""The main job: the notebooks of a sweep, one after the other, and what they found in one table."""

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from eai import jobs, notebooks, order, paths, tables
from eai.settings import Sweep

STEPS = ("analyze", "compare", "plot")


def run(sweep: Sweep, out: Path | None = None, say: Callable[[str], None] | None = None) -> dict:
    """Measure, analyze, compare and plot; returns `{experiment, rows, figures, seconds, status_counts}`.

    With `out` everything goes there: the data under it and the executed notebooks with the figures in its folder figures/.
    Notebooks and figures of a run otherwise lie side by side in figures/<experiment>/.
    """
    began_s = time.monotonic()
    experiment = Path(out).resolve() if out else tables.experiment_dir(sweep.experiment)
    folder = experiment / "figures" if out else paths.figures() / experiment.name
    notebooks.execute("measure", sweep.model_dump(exclude={"baseline"}) | {"experiment": str(experiment)}, folder, say)
    for name in STEPS:
        if say:
            say(f"notebook {name}")
        notebooks.execute(name, _parameters(name, experiment, folder, sweep), folder)
    windows = tables.read_windows(experiment)
    return {
        "experiment": str(experiment),
        "rows": len(tables.read_result(experiment, "summary")),
        "figures": str(folder),
        "seconds": round(time.monotonic() - began_s, 1),
        "status_counts": {str(k): int(v) for k, v in windows["status"].value_counts().items()},
    }


def _parameters(name: str, experiment: Path, folder: Path, sweep: Sweep) -> dict:
    """What each notebook of the main job needs to know."""
    figures = {"figures_dir": str(folder)} if name == "plot" else {}
    return {"experiment": str(experiment), **figures} | ({} if name == "plot" else {"baseline": sweep.baseline})


def describe(sweep: Sweep, out: Path | None = None) -> dict:
    """What a run would do, without doing it: jobs with their windows and model loads.

    Raises UserError for whatever `run` would refuse before it measures.
    """
    experiment = Path(out).resolve() if out else tables.experiment_dir(sweep.experiment)
    planned = []
    for asked in sweep.gpus:
        gpu = jobs.resolve_gpu(asked)
        for model in sweep.models:
            plan = order.job_order(sweep, gpu, model)
            done = jobs.finished_job(experiment, sweep, gpu, model) is not None
            loads = len({(w.block, w.load) for w in plan})
            planned.append({"gpu": gpu, "model": model, "windows": len(plan), "loads": loads, "done": done})
    lines = [
        f"{j['gpu']} x {j['model']}: {j['windows']} windows on {j['loads']} loads{', all on disk' if j['done'] else ''}" for j in planned
    ]
    return {"experiment": str(experiment), "jobs": planned, "lines": lines}


def human_table(experiment: str | Path) -> str:
    """The summary of an experiment for a terminal: strategy, batch, cost per token, throughput, ratio, gate and basis."""
    summary = tables.read_result(experiment, "summary")
    estimated = (summary["basis"] == "estimated").all()
    cost = "J/token (estimated)" if estimated else "J/token"

    def interval(row: pd.Series, name: str, digits: str) -> str:
        if pd.isna(row[name]):
            return "-"
        text = format(row[name], digits)
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        return text if pd.isna(low) else f"{text} [{low:{digits}}, {high:{digits}}]"

    shown = pd.DataFrame(
        {
            "strategy": summary["quantization"],
            "batch": summary["batch_size"],
            cost: [interval(r, "energy_j_per_token", ".3g") for _, r in summary.iterrows()],
            "tok/s": [interval(r, "throughput_tok_s", ".1f") for _, r in summary.iterrows()],
            "ratio to baseline": [interval(r, "ratio_to_baseline", ".2f") for _, r in summary.iterrows()],
            "gate": summary["gate"],
            "n": summary["n_blocks"],
            "basis": summary["basis"],
        }
    )
    return shown.to_string(index=False)
