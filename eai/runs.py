"""The main job: a sweep's jobs measured, then the notebooks of the analysis, and what they found in one table."""

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eai import notebooks, paths, plugins, tables, taskcards
from eai import plan as preflight
from eai.errors import UserError
from eai.inputs import too_long
from eai.lease import NotHere
from eai.plan import Failure, Freshness, Job, named_gpus, plan
from eai.quantity import plain
from eai.settings import Sweep
from eai.terminal import table_text

STEPS = ("analyze", "compare", "plot")
EXTRAS = {"measure": "torch", "notebooks": "papermill"}
"""The extras that a run needs, each with a module that it brings."""
MOST_REASONS = 3
BUSY_SHARE = 0.9
"""Of a thread's time: one that computes all along has more than this on a quiet machine."""
Say = Callable[[str], None]


def run(sweep: Sweep, out: Path | None = None, say: Say | None = None, options: Any = None) -> dict:
    """Measure, analyze, compare and plot; returns `{experiment, rows, figures, seconds, status_counts}`, and `failed` if a job failed.

    With `out` everything goes there: the data under it and the executed notebooks with the figures in its folder figures/.
    Notebooks and figures of a run otherwise lie side by side in figures/<experiment>/. One job is measured in this process; several, or
    `options`, are measured by the engine, and then claims and report are written too. What is on disk is not done again.
    Raises UserError, before anything is measured, for whatever can be known to stop it.
    """
    began_s = time.monotonic()
    missing = [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]
    if missing:
        found = "a run measures and executes notebooks, and the extras for it are not installed"
        raise UserError(found, do=f"pip install 'eai[{','.join(missing)}]'")
    experiment, folder = _places(sweep, out)
    planned = _planned(sweep, experiment, options)
    preflight.check(sweep, planned, experiment, folder, options)
    failures = _measure(sweep, planned, experiment, folder, say, options)
    rows, counts = 0, {}
    try:
        counts = {str(k): int(v) for k, v in tables.read_windows(experiment)["status"].value_counts().items()}
        _analyze(sweep, experiment, folder, say, len(planned) > 1 or options is not None)
        rows = len(tables.read_result(experiment, "summary"))
    except (UserError, notebooks.NotebookFailed) as error:
        if not failures:
            raise
        failures = [*failures, Failure("analysis", str(error), str(folder))]
    seconds = round(time.monotonic() - began_s, 1)
    found = {"experiment": str(experiment), "rows": rows, "figures": str(folder), "seconds": seconds, "status_counts": counts}
    return found | ({"failed": [vars(f) for f in failures]} if failures else {})


def options(profile: str | None, jobs: int | None, timeout_s: float | None, exclusive: bool) -> Any:
    """How to run the jobs, None where nothing was asked for: a single job then needs no engine."""
    if (profile, jobs, timeout_s, exclusive) == (None, None, None, False):
        return None
    if profile == "":
        raise UserError("--profile is empty", "local, slurm, or a folder with a config.yaml")
    return plugins.engine().Options(profile or "local", jobs, timeout_s, exclusive)


def _places(sweep: Sweep, out: Path | None) -> tuple[Path, Path]:
    """The experiment's folder and the one of its executed notebooks and figures."""
    if out and too_long(str(out)):
        raise UserError(f"--out {str(out)[:60]}... is too long", "at most 255 characters a folder", "choose another")
    experiment = Path(out).resolve() if out else tables.experiment_dir(sweep.experiment)
    return experiment, experiment / "figures" if out else paths.figures() / experiment.name


def _planned(sweep: Sweep, experiment: Path, options: Any) -> list[Job]:
    """The jobs; a cluster's cards are named, since nobody can look for them from here."""
    return plan(sweep, experiment, plugins.engine().gpus(sweep) if options and options.is_slurm else None)


def _planned_anywhere(sweep: Sweep, experiment: Path, options: Any) -> tuple[list[Job], str]:
    """(the jobs, why a run would refuse): cards that are elsewhere are planned as if they were here."""
    try:
        return _planned(sweep, experiment, options), ""
    except NotHere as error:
        return plan(sweep, experiment, named_gpus(sweep)), str(error)


def within(sweep: Sweep, out: Path | None, options: Any, hours: float) -> tuple[Sweep, list[str]]:
    """The part of the sweep that shows most in so many hours of device time, and what it can show; the same part whatever is on disk."""
    planned, not_here = _planned_anywhere(sweep, _places(sweep, out)[0], options)
    return plugins.engine().within(sweep, planned, hours, bool(not_here) or bool(options and options.is_slurm))


def _measure(sweep: Sweep, planned: Sequence[Job], experiment: Path, folder: Path, say: Say | None, options: Any) -> list[Failure]:
    """Measure the jobs that are not done; returns those that failed."""
    left = [job for job in planned if not job.is_done]
    if not left:
        return []
    if len(planned) == 1 and options is None:
        notebooks.execute("measure", sweep.model_dump(exclude={"baseline"}) | {"experiment": str(experiment)}, folder, say)
        return []
    return plugins.engine().run(sweep, left, experiment, folder, options)


def _analyze(sweep: Sweep, experiment: Path, folder: Path, say: Say | None, is_sweep: bool) -> None:
    """The notebooks of the analysis, each only if something that goes into it or came out of it has changed, or one before it ran."""
    fresh, again, shown = Freshness(experiment, folder), False, {"figures_dir": str(folder)}
    needed = {"plot": {"experiment": str(experiment)} | shown, "claims": {"against": str(experiment)} | shown}
    for name in (*STEPS, *(("claims",) if is_sweep else ())):
        parameters = needed.get(name, {"experiment": str(experiment), "baseline": sweep.baseline})
        if not fresh.is_fresh(name, parameters) or again:
            again = True
            if say:
                say(f"notebook {name}")
            notebooks.execute(name, parameters, folder)
            fresh.remember(name, parameters)
    if is_sweep and (not fresh.is_fresh("report", {}) or again):
        if say:
            say("report and talk")
        try:
            plugins.report().export(str(experiment), folder / "report")
        except UserError as error:  # no usable window yet
            if say:
                say(f"no report: {error}")
        fresh.remember("report", {})


def describe(sweep: Sweep, out: Path | None = None, options: Any = None, region: str = "us") -> dict:
    """What a run would do, without doing it: `{experiment, jobs, cannot_run, forecast, not_here, lines}`.

    Jobs with their windows and model loads; configurations that cannot run, with the reason; hours, energy, cost and carbon of what is
    left, predicted, with intervals. Cards that are elsewhere are planned as if they were here, and `not_here` says why a run would
    refuse. Raises UserError for whatever else `run` would refuse before it measures.
    """
    experiment, folder = _places(sweep, out)
    planned, not_here = _planned_anywhere(sweep, experiment, options)
    preflight.check(sweep, planned, experiment, folder, options, elsewhere=bool(not_here))
    elsewhere = bool(not_here) or (options is not None and options.is_slurm)
    found = plugins.engine().outlook(sweep, planned, elsewhere, region)
    listed, lines = [], []
    for j in planned:
        said = {name: getattr(j, name) for name in ("gpu", "model", "windows", "windows_done", "loads")}
        listed.append(said | {"done": j.is_done})
        state = ", all on disk" if j.is_done else f", {j.windows_done} on disk" if j.windows_done else ""
        lines.append(f"{j.gpu} x {j.model}: {j.windows} windows on {j.loads} loads{state}")
    lines += [*found["lines"], *([f"to plan only: {not_here}"] if not_here else [])]
    return {"experiment": str(experiment), "jobs": listed} | found | {"not_here": not_here, "lines": lines}


def human_summary(result: dict) -> str:
    """The end of a run for a terminal: the table, its doubts, where everything lies, and every job that failed with its notebook."""
    parts = [human_table(result["experiment"]), *_doubts(result["experiment"])] if result["rows"] else []
    for failure in result.get("failed", []):
        parts.append(f"failed: {failure['job']}: {failure['error']}\n  read on in {failure['notebook']}")
    return "\n".join([*parts, f"executed notebooks and figures: {result['figures']}"])


def human_table(experiment: str | Path) -> str:
    """The summary of an experiment for a terminal, a table a task: what tells its rows apart, energy per token or item, score or
    perplexity, throughput, ratio to the baseline, gate, and blocks and basis where they differ."""
    summary = tables.read_result(experiment, "summary")
    options = pd.DataFrame([json.loads(each) for each in summary["options"]], index=summary.index)
    summary = summary.join(options[[c for c in options if c not in (*summary, "limit", "fewshot", "version")]].astype(object))
    return "\n".join(_task_table(str(task), rows) for task, rows in summary.groupby("task", sort=False))


def _task_table(task: str, rows: pd.DataFrame) -> str:
    """The table of one task."""
    known = set(tables.schema.CONFIGURATION) | {c.name for c in tables.schema.SUMMARY}
    factors = ["gpu", "model", "quantization", *(c for c in rows if c not in known), "batch_size", "input_tokens", "output_tokens"]
    shown = [c for c in factors if c == "quantization" or rows[c].nunique(dropna=False) > 1]
    names = {"quantization": "strategy", "batch_size": "batch", "input_tokens": "tokens in", "output_tokens": "tokens out"}
    names["server"] = "engine"
    energy, unit = ("energy_j_per_token", "J/token") if task == taskcards.GENERATE else ("energy_j_per_request", "J/item")
    figures = {energy: unit, "score": "score", "word_perplexity": "word perplexity"}
    figures |= ({"throughput_tok_s": "tokens/s"} if task == taskcards.GENERATE else {}) | {"ratio_to_baseline": "ratio"}

    def cell(row: pd.Series, name: str) -> str:
        ends = [row.get(f"{name}_{end}", float("nan")) for end in ("low", "high")]
        interval = "" if pd.isna(ends[0]) else f" [{plain(ends[0])} to {plain(ends[1])}]"
        return plain(row[name]) + interval

    table = pd.DataFrame({names.get(c, c): rows[c].map(lambda v: "-" if pd.isna(v) else str(v).rpartition("/")[2]) for c in shown})
    for name, head in figures.items():
        if name in rows and rows[name].notna().any():
            table[head] = [cell(row, name) for _, row in rows.iterrows()]
    table["gate"], same = rows["gate"], []
    for name, said in (("n_blocks", "n = {} blocks"), ("basis", "energy {}")):
        if rows[name].nunique() == 1:
            same.append(said.format(rows[name].iloc[0]))
        else:
            table[name] = rows[name].astype(str)
    return table_text(table, f"{task}: {', '.join([*same, '95 % intervals'])}")


def _doubts(experiment: str | Path) -> list[str]:
    """Why rows are not `ok`, how many windows began before the work had settled, and whether other work had the processor meanwhile."""
    summary, windows = tables.read_result(experiment, "summary"), tables.read_windows(experiment)
    rejected = summary.loc[summary["gate"] == "rejected", "reason"].astype(object).fillna("its blocks differ too much")
    reasons = rejected.value_counts()
    found = [f"rejected: {n} of {len(summary)} rows: {reason}" for reason, n in reasons[:MOST_REASONS].items()]
    found += [f"  and {len(reasons) - MOST_REASONS} more reasons, in summary.csv"] if len(reasons) > MOST_REASONS else []
    capped = windows[windows["flags"].map(lambda flags: "not_steady" in flags) & windows["status"].eq("ok")]
    if len(capped):
        longest, n = f"{capped['warmup_s'].max():.1f} s", (windows["status"] == "ok").sum()
        found.append(f"warm-up: its cap ended it before the speed had settled in {len(capped)} of {n} windows (after {longest} at most)")
    threads = {line["settings"].get("threads") for line in tables.read_provenance(experiment) if "settings" in line}
    share = windows.loc[windows["gpu"].eq("cpu") & windows["status"].eq("ok"), "cpu_threads_busy"].dropna()
    if threads == {1} and len(share) and (waited := (share < BUSY_SHARE)).any():
        less, median = f"{100 * BUSY_SHARE:.0f} %", f"{100 * share[waited].median():.0f} %"
        found.append(
            f"busy machine: in {waited.sum()} of {len(share)} windows the work had its thread for less than {less} of the time (median of "
            f"these {median}); other programs had the rest. Stop them and measure again under another name"
        )
    return found
