"""The main job: a sweep's jobs measured, then the notebooks of the analysis, and what they found in one table."""

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from eai import jobs as preflight
from eai import notebooks, paths, schema, tables
from eai.errors import UserError
from eai.inputs import too_long
from eai.jobs import Failure, Freshness, Job, named_gpus, plan
from eai.machine import NotHere
from eai.quantity import plain
from eai.settings import GENERATE, Sweep
from eai.terminal import table_text

EXTRAS = {"measure": "torch", "notebooks": "papermill"}
"""The extras that a run needs, each with a module that it brings."""
MOST_REASONS = 3
BUSY_SHARE = 0.9
"""Of a thread's time: one that computes all along has more than this on a quiet machine."""
HEADS = {"quantization": "strategy", "batch_size": "batch", "input_tokens": "tokens in", "output_tokens": "tokens out", "server": "engine"}
Say = Callable[[str], None]


def run(sweep: Sweep, out: Path | None = None, say: Say = lambda line: None, options: Any = None) -> dict:
    """Measure, analyze, compare and plot; returns `{experiment, rows, figures, seconds, status_counts}`, and `failed` if a job failed. With
    `out` everything goes there: the data under it and the executed notebooks with the figures in its folder figures/. Notebooks and figures
    of a run otherwise lie side by side in figures/<experiment>/. One job is measured in this process; several, or `options`, are measured
    by the engine, and then claims and report are written too. What is on disk is not done again. Raises UserError, before anything is
    measured, for whatever can be known to stop it."""
    began_s = time.monotonic()
    if missing := [extra for extra, module in EXTRAS.items() if importlib.util.find_spec(module) is None]:
        found = "a run measures and executes notebooks, and the extras for it are not installed"
        raise UserError(found, do=f"pip install 'eai[{','.join(missing)}]'")
    experiment, folder = _places(sweep, out)
    planned = _planned(sweep, experiment, options)
    is_sweep = len(planned) > 1 or options is not None
    preflight.check(sweep, planned, experiment, folder, options)
    left, failures = [job for job in planned if not job.is_done], []
    if left and is_sweep:
        failures = paths.engine().run(sweep, left, experiment, folder, options)
    elif left:
        notebooks.execute("measure", sweep.model_dump(exclude={"baseline"}) | {"experiment": str(experiment)}, folder, say)
    rows, counts = 0, {}
    try:
        counts = {str(k): int(v) for k, v in tables.read_windows(experiment)["status"].value_counts().items()}
        _analyze(sweep, experiment, folder, say, is_sweep)
        rows = len(tables.read_result(experiment, "summary"))
    except (UserError, notebooks.NotebookFailed) as error:
        if not failures:
            raise
        failures = [*failures, Failure("analysis", str(error), str(folder))]
    seconds = round(time.monotonic() - began_s, 1)
    found = {"experiment": str(experiment), "rows": rows, "figures": str(folder), "seconds": seconds, "status_counts": counts}
    return found | ({"failed": [f._asdict() for f in failures]} if failures else {})


def options(profile: str | None, jobs: int | None, timeout_s: float | None, exclusive: bool) -> Any:
    """How to run the jobs, None where nothing was asked for: a single job then needs no engine."""
    if (profile, jobs, timeout_s, exclusive) == (None, None, None, False):
        return None
    if profile == "":
        raise UserError("--profile is empty", "local, slurm, or a folder with a config.yaml")
    return paths.engine().Options(profile or "local", jobs, timeout_s, exclusive)


def _places(sweep: Sweep, out: Path | None) -> tuple[Path, Path]:
    """The experiment's folder and the one of its executed notebooks and figures."""
    if out and too_long(str(out)):
        raise UserError(f"--out {str(out)[:60]}... is too long", "at most 255 characters a folder", "choose another")
    experiment = Path(out).resolve() if out else tables.experiment_dir(sweep.experiment)
    return experiment, experiment / "figures" if out else paths.figures() / experiment.name


def _planned(sweep: Sweep, experiment: Path, options: Any) -> list[Job]:
    """The jobs; a cluster's cards are named, since nobody can look for them from here."""
    return plan(sweep, experiment, paths.engine().gpus(sweep) if options and options.is_slurm else None)


def _planned_anywhere(sweep: Sweep, experiment: Path, options: Any) -> tuple[list[Job], str, bool]:
    """(the jobs, why a run would refuse, whether they run elsewhere): cards that are elsewhere are planned as if they were here."""
    try:
        return _planned(sweep, experiment, options), "", options is not None and options.is_slurm
    except NotHere as error:
        return plan(sweep, experiment, named_gpus(sweep)), str(error), True


def within(sweep: Sweep, out: Path | None, options: Any, hours: float) -> tuple[Sweep, list[str]]:
    """The part of the sweep that shows most in so many hours of device time, and what it can show; the same part whatever is on disk."""
    planned, _, elsewhere = _planned_anywhere(sweep, _places(sweep, out)[0], options)
    return paths.engine().within(sweep, planned, hours, elsewhere)


def _analyze(sweep: Sweep, experiment: Path, folder: Path, say: Say, is_sweep: bool) -> None:
    """The notebooks of the analysis, each only if something that goes into it or came out of it has changed, or one before it ran."""
    fresh, again, shown = Freshness(experiment, folder), False, {"figures_dir": str(folder)}
    compared, own = {"experiment": str(experiment), "baseline": sweep.baseline}, {"experiment": str(experiment)} | shown
    claims = [("claims", {"against": str(experiment)} | shown)] if is_sweep else []
    for name, parameters in (("analyze", compared), ("compare", compared), ("plot", own), *claims):
        if not fresh.is_fresh(name, parameters) or again:
            again = True
            say(f"notebook {name}")
            notebooks.execute(name, parameters, folder)
            fresh.remember(name, parameters)
    if is_sweep and (not fresh.is_fresh("report", {}) or again):
        say("report and talk")
        try:
            paths.report().export(str(experiment), folder / "report")
        except UserError as error:  # no usable window yet
            say(f"no report: {error}")
        fresh.remember("report", {})


def describe(sweep: Sweep, out: Path | None = None, options: Any = None, region: str = "us") -> dict:
    """What a run would do, without doing it: `{experiment, jobs, cannot_run, forecast, not_here, lines}`. Jobs with their windows and model
    loads; configurations that cannot run, with the reason; hours, energy, cost and carbon of what is left, predicted, with intervals. Cards
    that are elsewhere are planned as if they were here, and `not_here` says why a run would refuse. Raises UserError for whatever else
    `run` would refuse before it measures."""
    experiment, folder = _places(sweep, out)
    planned, not_here, elsewhere = _planned_anywhere(sweep, experiment, options)
    preflight.check(sweep, planned, experiment, folder, options, elsewhere=bool(not_here))
    found = paths.engine().outlook(sweep, planned, elsewhere, region)
    listed, lines = [], []
    for j in planned:
        listed.append({name: getattr(j, name) for name in ("gpu", "model", "windows", "windows_done", "loads")} | {"done": j.is_done})
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
    options = options[[c for c in options if c not in (*summary, "limit", "fewshot", "version")]].astype(object)
    summary, parts = summary.join(options), []
    added = [c for c in options if c not in schema.CONFIGURATION]
    for task, rows in summary.groupby("task", sort=False):
        is_plain = task == GENERATE
        figures = {"energy_j_per_token": "J/token"} if is_plain else {"energy_j_per_request": "J/item"}
        figures |= {"score": "score", "word_perplexity": "word perplexity"}
        figures |= ({"throughput_tok_s": "tokens/s"} if is_plain else {}) | {"ratio_to_baseline": "ratio"}
        factors = ("gpu", "model", "quantization", *added, "batch_size", "input_tokens", "output_tokens")
        shown = [c for c in factors if c == "quantization" or rows[c].nunique(dropna=False) > 1]
        table = pd.DataFrame({HEADS.get(c, c): rows[c].map(lambda v: "-" if pd.isna(v) else str(v).rpartition("/")[2]) for c in shown})
        for name, head in figures.items():
            if name in rows and rows[name].notna().any():
                cells = zip(*(rows.get(c, pd.Series(float("nan"), rows.index)) for c in (name, f"{name}_low", f"{name}_high")), strict=True)
                table[head] = [plain(v) + ("" if pd.isna(low) else f" [{plain(low)} to {plain(high)}]") for v, low, high in cells]
        table["gate"], same = rows["gate"], []
        for name, said in (("n_blocks", "n = {} blocks"), ("basis", "energy {}")):
            if rows[name].nunique() == 1:
                same.append(said.format(rows[name].iloc[0]))
            else:
                table[name] = rows[name].astype(str)
        parts.append(table_text(table, f"{task}: {', '.join([*same, '95 % intervals'])}"))
    return "\n".join(parts)


def _doubts(experiment: str | Path) -> list[str]:
    """Why rows are not `ok`, how many windows began before the work had settled, and whether other work had the processor meanwhile."""
    summary, windows = tables.read_result(experiment, "summary"), tables.read_windows(experiment)
    rejected = summary.loc[summary["gate"] == "rejected", "reason"].astype(object).fillna("its blocks differ too much")
    reasons, ok = rejected.value_counts(), windows["status"].eq("ok")
    found = [f"rejected: {n} of {len(summary)} rows: {reason}" for reason, n in reasons[:MOST_REASONS].items()]
    found += [f"  and {len(reasons) - MOST_REASONS} more reasons, in summary.csv"] if len(reasons) > MOST_REASONS else []
    capped = windows[windows["flags"].map(lambda flags: "not_steady" in flags) & ok]
    if len(capped):
        where = f"in {len(capped)} of {ok.sum()} windows (after {capped['warmup_s'].max():.1f} s at most)"
        found.append(f"warm-up: its cap ended it before the speed had settled {where}")
    threads = {line["settings"].get("threads") for line in tables.read_provenance(experiment) if "settings" in line}
    share = windows.loc[windows["gpu"].eq("cpu") & ok, "cpu_threads_busy"].dropna()
    if threads == {1} and len(share) and (waited := (share < BUSY_SHARE)).any():
        where = f"in {waited.sum()} of {len(share)} windows the work had its thread for less than {100 * BUSY_SHARE:.0f} % of the time"
        rest = "other programs had the rest. Stop them and measure again under another name"
        found.append(f"busy machine: {where} (median of these {100 * share[waited].median():.0f} %); {rest}")
    return found
