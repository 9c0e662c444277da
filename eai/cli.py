"""The command line: each command is a few lines around one function or one notebook.

Plug-ins add theirs by the entry points of the group `eai.commands`: a function that takes the application.

Exit codes: 0 done; 1 the answer is no, or a run is partial; 2 bad input, one line on stderr.
"""

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from eai import __version__, terminal
from eai.errors import UserError
from eai.terminal import Json, emit, pairs, say

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

INTERRUPTED = 130
PANELS = {
    "Measure": ("run", "measure", "watch", "window", "doctor", "calibrate", "merge"),
    "Read and check results": ("trace", "import", "check", "claims", "replay", "audit"),
    "Analyze and show": ("notebook", "report", "explore", "export"),
    "Ask before you deploy": ("optimize", "compare", "estimate", "diagnose"),
}
"""The commands of `eai --help` by what one wants to do."""


Experiment = Annotated[str, Argument(help="Name or folder of an experiment.")]
Step = Annotated[float | None, Option(metavar="SECONDS", help="Time of one decode step: shows whether the sensor aliases.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eai {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Energy of LLM inference, measured so that it can be trusted."""


@app.command()
def run(
    sweep_yaml: Annotated[Path | None, Argument(metavar="[SWEEP.yaml]", help="Settings of the sweep; none: the embedded model.")] = None,
    out: Annotated[str | None, Option(metavar="PATH", help="Folder for data, notebooks and figures.")] = None,
    profile: Annotated[str | None, Option(metavar="local|slurm|DIR", help="Run the jobs with the engine, here or on Slurm.")] = None,
    jobs: Annotated[int | None, Option(help="Measurements at once, each on a card of its own; here 1: they disturb each other.")] = None,
    timeout: Annotated[
        float | None, Option(metavar="SECONDS", help="Longest time per job; what it did not reach becomes rows with a reason.")
    ] = None,
    exclusive: Annotated[bool, Option("--exclusive", help="On Slurm: whole nodes.")] = False,
    hours: Annotated[float | None, Option(help="Device time to spend: the blocks, items and configurations that show most in it.")] = None,
    region: Annotated[str, Option(help="For the cost and carbon of --dry-run.")] = "us",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print what would be measured, with hours, energy and cost; measure nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The main job: measure, analyze, compare, plot. Run again, it finishes what is missing. Exit 1 if some windows are not ok."""
    from eai import runs, settings

    if out is not None and not out.strip():
        raise UserError("--out is empty", "a folder", "name one, or leave --out away")
    folder = Path(out) if out else None
    sweep = settings.read_sweep(sweep_yaml) if sweep_yaml else settings.sweep()
    options = runs.options(profile, jobs, timeout, exclusive)
    sweep, shows = runs.within(sweep, folder, options, hours) if hours is not None else (sweep, [])
    if dry_run:
        plan = runs.describe(sweep, folder, options, region)
        plan |= {"within_hours": shows, "lines": [*shows, *plan["lines"]]} if shows else {}
        return emit(plan, as_json, "\n".join(plan["lines"]))
    for line in shows:
        say(line)
    result = runs.run(sweep, folder, say, options)
    if not as_json:
        typer.echo(terminal.folded(runs.human_summary(result)))
    typer.echo(json.dumps(result))
    if set(result["status_counts"]) != {"ok"} or "failed" in result:
        raise typer.Exit(1)


@app.command()
def notebook(
    name: Annotated[str, Argument(help="measure, analyze, compare, plot ...")],
    parameter: Annotated[
        list[str] | None, Option("-p", metavar="KEY=VALUE", help="A parameter; lists as YAML: -p batch_sizes=[1,8].")
    ] = None,
    out: Annotated[Path | None, Option(help="Folder for the executed copy.")] = None,
    as_json: Json = False,
) -> None:
    """One notebook with parameters, through the guard: an unknown parameter exits 2."""
    from eai import notebooks, paths

    parameters = pairs(parameter)
    executed = notebooks.execute(name, parameters, out or paths.figures() / "notebooks", say)
    emit({"notebook": name, "executed": str(executed), "parameters": parameters}, as_json, str(executed))


@app.command()
def doctor(
    probe: Annotated[bool, Option("--probe", help="First load each GPU for two minutes to learn what its sensor does.")] = False,
    as_json: Json = False,
) -> None:
    """What can be measured on this machine, how well, and what to do about the rest."""
    from eai import machine

    report = machine.examine(probe)
    emit(report, as_json, machine.to_text(report))


@app.command()
def trace(
    log: Annotated[Path, Argument(help="A power log (docs/power-logs.md lists the formats); - reads standard input.")],
    power: Annotated[str, Option(metavar="COLUMN[,COLUMN]", help="The column of power: NAME, NAME:UNIT, a pattern, an expression.")] = "",
    time: Annotated[str, Option(metavar="COLUMN", help="The column of time.")] = "",
    card: Annotated[str, Option(metavar="COLUMN", help="The column with the name of the card.")] = "",
    mapping: Annotated[Path | None, Option(help="A file of `import` and `check`: columns power_w, time_s, card, and units.")] = None,
    gpus: Annotated[int | None, Option(help="How many cards take turns in a log without an index column.")] = None,
    gpu: Annotated[str, Option(metavar="NAME", help="The card, for its limit and its sensor, where the log does not name it.")] = "",
    step: Step = None,
    window: Annotated[tuple[float, float] | None, Option(help="Only this part: seconds from the start, or epoch seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Energy of a recorded power log, with its interval and what is wrong with the log. Exit 1 if the total cannot be trusted."""
    from eai.power.logs import options_of, read_log
    from eai.power.trace import summarize_trace

    said = options_of(mapping) | {k: v for k, v in {"power": power, "time": time, "card": card, "gpu": gpu, "step": step}.items() if v}
    read = read_log(log, gpus, said.get("power", ""), said.get("time", ""), said.get("card", ""))
    answer = summarize_trace(read, window, said.get("gpu", ""), said.get("step"))
    emit(answer, as_json, terminal.trace_text(answer))
    if answer["status"] == "invalid":
        raise typer.Exit(1)


@app.command()
def measure(
    command: Annotated[list[str], Argument(metavar="-- COMMAND ...", help="What to run, after two dashes.")],
    tokens: Annotated[int | None, Option(min=1, help="Output tokens of the command, for J per token.")] = None,
    result: Annotated[Path | None, Option(help="Or its result file: vllm bench serve, guidellm, aiperf, llama-bench.")] = None,
    step: Step = None,
    as_json: Json = False,
) -> None:
    """The energy of any command: its GPUs, the processor, or an estimate from CPU time. Exits with its exit code."""
    import time

    from eai.power import live

    begin_s = time.time()
    w, code = live.measure_command(command, quiet=as_json, step_s=step)
    w.tokens = tokens if tokens or result is None or code else live.tokens_of(result, begin_s)
    answer = live.window_answer(w, code, command)
    if as_json:
        emit(answer, True, "")
    else:
        typer.echo(terminal.folded(terminal.measured_text(answer)), err=True)
    raise typer.Exit(code)


@app.command()
def watch(
    interval: Annotated[float, Option(help="Seconds between readings.")] = 1.0,
    duration: Annotated[float | None, Option(help="Seconds until it ends; none: until Ctrl-C.")] = None,
    csv: Annotated[Path | None, Option("--csv", help="Log what is shown, in a form that `eai trace` reads.")] = None,
    as_json: Json = False,
) -> None:
    """Live power of the cards and the processor, with the energy so far. Ends with Ctrl-C."""
    from eai.power import live
    from eai.power.window import best_meter

    with best_meter(shared=True)[0] as meter:
        gauges = terminal.live_gauges(lambda show: live.watch(meter, interval, duration, csv, show), live.table_of, as_json)
    emit({"devices": [g.to_dict() for g in gauges]}, as_json, "\n".join(map(str, gauges)))


@app.command()
def calibrate(
    wall: Annotated[Path, Option(help="Log of a wall meter, recorded beside the card over idle and load.")],
    card: Annotated[Path, Option(help="The card's own power log over the same time.")],
    efficiency: Annotated[float, Option(help="Of the power supply; 1 for a meter in the card's own supply lines.")] = 1.0,
    u_efficiency: Annotated[float, Option(help="Its standard uncertainty.")] = 0.0,
    remember: Annotated[str | None, Option(metavar="UUID", help="Use it from now on for this card of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """The gain of a card's power sensor against a wall meter: shrinks the term that no repetition removes."""
    from eai.power import probe

    found = probe.calibrate_logs(str(wall), str(card), efficiency, u_efficiency)
    kept = probe.remember_calibration(remember, found) if remember else False
    text = f"true power = {found.scale:.4f} x the card's reading, +- {196 * found.gain_rel:.2f} % (95 %), {found.bins} means of 10 s"
    emit(vars(found) | {"remembered": kept}, as_json, text + (", remembered" if kept else ""))


@app.command()
def replay(experiment: Experiment, as_json: Json = False) -> None:
    """Compare an experiment's files with each other, and derive every energy again from its raw readings. Exit 1 if a number differs."""
    from eai import store, tables
    from eai.power.derive import replay

    contradictions, notes = store.check(experiment)
    windows, mismatches = replay(tables.read_windows(experiment), tables.read_energies(experiment), tables.read_samples(experiment))
    if not windows:
        notes = [*notes, "NO ENERGY WAS DERIVED AGAIN: no window here has raw readings (imported, or none was measured)"]
    answer = {"experiment": str(tables.experiment_dir(experiment)), "windows": windows, "mismatches": contradictions + mismatches}
    answer["notes"] = notes
    emit(answer, as_json, terminal.mismatches_text(answer))
    if answer["mismatches"]:
        raise typer.Exit(1)


@app.command()
def export(
    experiment: Experiment,
    to: Annotated[str, Option(metavar="parquet|csv|hf|mlflow|croissant", help="What to write.")] = "parquet",
    out: Annotated[Path | None, Option(help="New folder; default <name>-<format> in the current folder.")] = None,
    licence: Annotated[str, Option(help="SPDX name of the data's licence, for the card and the metadata.")] = "",
    as_json: Json = False,
) -> None:
    """Hand an experiment over: tables as Parquet or CSV, a data set for the hub, Croissant metadata, or a local MLflow store."""
    from eai import tables
    from eai.export import export

    folder = out or Path(f"{tables.experiment_dir(experiment).name}-{to}")
    answer = export(experiment, to, folder, licence)
    rows = "\n".join(f"  {name}: {n} rows" for name, n in answer["tables"].items())
    emit(answer, as_json, f"{answer['out']}: {len(answer['files'])} files\n{rows}")


for plug_in in sorted(entry_points(group="eai.commands"), key=lambda each: each.name):
    plug_in.load()(app)
for command in app.registered_commands:
    name = command.name or command.callback.__name__
    command.rich_help_panel = next((panel for panel, names in PANELS.items() if name in names), None)


def main() -> None:
    """Entry point: turns every expected error into one line and an exit code."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer has caught the interrupt itself
            _fail("interrupted; what was measured is kept, run again to go on", INTERRUPTED)
        sys.exit(code)
    except UserError as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        if not (message := error.format_message()):  # bare `eai` has printed the help
            sys.exit(2)
        _fail(f"{message} See `eai --help`.", 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; what was measured is kept, run again to go on", INTERRUPTED)
    except ModuleNotFoundError as error:
        if (extra := terminal.extra_of(error.name or "")) is None:
            raise
        _fail(f"the package {error.name} is not installed; this needs the extra '{extra}': pip install 'eai[{extra}]'.", 2)
    except Exception as error:
        if not {"NotebookFailed", "EngineFailed"} & {each.__name__ for each in type(error).__mro__}:
            raise
        _fail(str(error), 1)


def _fail(line: str, code: int) -> None:
    typer.echo(f"eai: {' '.join(line.split())}", err=True)
    sys.exit(code)
