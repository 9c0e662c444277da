"""The command line: each command is a few lines around one function or one notebook.

Exit codes: 0 done; 1 the answer is no, or a run is partial; 2 bad input, one line on stderr.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from eai import advice_commands
from eai.errors import UserError
from eai.quantity import Quantity

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Energy of LLM inference, measured so that it can be trusted.",
)

INTERRUPTED = 130
Json = advice_commands.Json


def _say(line: str) -> None:
    """Progress, on stderr, only where a person looks at it."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def _plain(value: object) -> object:
    """What JSON knows: quantities as their four keys."""
    return value.to_json() if isinstance(value, Quantity) else value.item()  # the rest are NumPy numbers


def _emit(document: dict, as_json: bool, text: str) -> None:
    """The answer on stdout: one JSON document, or text for a person."""
    typer.echo(json.dumps(document, default=_plain) if as_json else text)


def _table(frame) -> list[dict]:
    """The rows of a data frame, with None for what is missing."""
    return json.loads(frame.to_json(orient="records"))


def _pairs(given: list[str] | None) -> dict[str, object]:
    """The values of `-p KEY=VALUE`, read as YAML. Raises UserError for one that is no pair, or no YAML."""
    import yaml

    pairs = [text.partition("=") for text in given or []]
    if bare := [key for key, equals, _ in pairs if not equals]:
        raise UserError(f"-p {bare[0]}", "-p KEY=VALUE")
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError:
        raise UserError(f"a value of {[key for key, _, _ in pairs]} is not YAML", "a number, a name or a list such as [1, 8]") from None


@app.command()
def run(
    sweep_yaml: Annotated[
        Path | None, typer.Argument(metavar="[SWEEP.yaml]", help="Settings of the sweep; none: the embedded model.")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="PATH", help="Folder for data, notebooks and figures.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="local|slurm|DIR", help="Run the jobs with the engine, here or on Slurm.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Measurements at once, each on a card of its own; here 1: they disturb each other.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest time for a job; the rest becomes rows.")] = None,
    exclusive: Annotated[bool, typer.Option("--exclusive", help="On Slurm: whole nodes.")] = False,
    region: Annotated[str, typer.Option(help="For the cost and carbon of --dry-run.")] = "us",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be measured, with hours, energy and cost; measure nothing.")
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
    if dry_run:
        plan = runs.describe(sweep, folder, options, region)
        return _emit(plan, as_json, "\n".join(plan["lines"]))
    result = runs.run(sweep, folder, _say, options)
    if not as_json:
        typer.echo(runs.human_summary(result))
    typer.echo(json.dumps(result))
    if set(result["status_counts"]) != {"ok"} or "failed" in result:
        raise typer.Exit(1)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="measure, analyze, compare, plot ...")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="A parameter; lists as YAML: -p batch_sizes=[1,8].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed copy.")] = None,
    as_json: Json = False,
) -> None:
    """One notebook with parameters, through the guard: an unknown parameter exits 2."""
    from eai import notebooks, paths

    parameters = _pairs(parameter)
    executed = notebooks.execute(name, parameters, out or paths.figures() / "notebooks", _say)
    _emit({"notebook": name, "executed": str(executed), "parameters": parameters}, as_json, str(executed))


@app.command()
def doctor(
    probe: Annotated[bool, typer.Option("--probe", help="First load each GPU for two minutes to learn what its sensor does.")] = False,
    as_json: Json = False,
) -> None:
    """What can be measured on this machine, how well, and what to do about the rest."""
    from eai import doctor

    report = doctor.examine(probe)
    _emit(report, as_json, doctor.to_text(report))


@app.command()
def trace(
    log: Annotated[Path, typer.Argument(help="nvidia-smi CSV, two-column CSV, or our Parquet samples.")],
    gpus: Annotated[int | None, typer.Option(help="How many cards take turns in a log without an index column.")] = None,
    window: Annotated[tuple[float, float] | None, typer.Option(help="Only this part: seconds from the start, or epoch seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Energy of a recorded power log, with its interval and what is wrong with the log."""
    from eai import terminal
    from eai.power import logs, logsummary

    answer = logsummary.summarize_trace(logs.read_log(log, gpus), window)
    _emit(answer, as_json, terminal.trace_text(answer))


@app.command()
def calibrate(
    wall: Annotated[Path, typer.Option(help="Log of a wall meter, recorded beside the card over idle and load.")],
    card: Annotated[Path, typer.Option(help="The card's own power log over the same time.")],
    efficiency: Annotated[float, typer.Option(help="Of the power supply; 1 for a meter in the card's own supply lines.")] = 1.0,
    u_efficiency: Annotated[float, typer.Option(help="Its standard uncertainty.")] = 0.0,
    remember: Annotated[str | None, typer.Option(metavar="UUID", help="Use it from now on for this card of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """The gain of a card's power sensor against a wall meter: shrinks the term that no repetition removes."""
    from eai.power import calibrate

    found = calibrate.calibrate_logs(str(wall), str(card), efficiency, u_efficiency)
    kept = calibrate.remember(remember, found) if remember else False
    text = f"true power = {found.scale:.4f} x the card's reading, +- {196 * found.gain_rel:.2f} % (95 %), {found.bins} means of 10 s"
    _emit(found.to_dict() | {"remembered": kept}, as_json, text + (", remembered" if kept else ""))


@app.command()
def replay(experiment: Annotated[str, typer.Argument(help="Name or folder of an experiment.")], as_json: Json = False) -> None:
    """Derive every energy again from the stored raw readings, bit for bit. Exit 1 if a number differs."""
    from eai import tables, terminal
    from eai.power.replay import replay

    windows, mismatches = replay(tables.read_windows(experiment), tables.read_energies(experiment), tables.read_samples(experiment))
    answer = {"experiment": str(tables.experiment_dir(experiment)), "windows": windows, "mismatches": mismatches}
    _emit(answer, as_json, terminal.mismatches_text(answer))
    if mismatches:
        raise typer.Exit(1)


@app.command()
def merge(
    sources: Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiments: names or folders, from whichever machine.")],
    out: Annotated[Path, typer.Option(help="New folder of the merged experiment.")],
    as_json: Json = False,
) -> None:
    """Several machines' results as one experiment: every line kept, the same window once, every contradiction refused."""
    from eai import terminal
    from eai.merge import merge

    answer = merge(sources, out)
    _emit(answer, as_json, terminal.merged_text(answer))


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE ...", help="What another tool wrote: CSV, JSON, Parquet, or a power log.")],
    out: Annotated[str, typer.Option(metavar="NAME", help="Name or folder of the new experiment.")],
    tool: Annotated[
        str, typer.Option("--format", metavar="TOOL", help="codecarbon, optimum-benchmark, mlenergy, lm-eval or nvidia-smi.")
    ] = "",
    mapping: Annotated[Path | None, typer.Option(help="YAML or JSON: which column is which (docs/importing.md).")] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="What holds for every row: -p gpu=a100.")] = None,
    phases: Annotated[Path | None, typer.Option(help="Table of what ran when, for a power log.")] = None,
    power: Annotated[Path | None, typer.Option(help="Power log that was recorded beside lm-eval.")] = None,
    as_json: Json = False,
) -> None:
    """What another tool measured as an experiment that every notebook reads; says which rows were left out, and why."""
    from eai import tables
    from eai.analyze import imports
    from eai.power import logs, logsummary
    from eai.sweep import preflight

    asked = imports.Asked(tuple(files), tool, mapping, _pairs(parameter), phases, power)
    found = imports.read(asked, lambda log: logsummary.phase_energies(logs.read_log(log)))
    preflight.require_new(tables.experiment_dir(out))
    answer = {"experiment": str(tables.write_experiment(out, found.windows, found.energies, found.scores))} | imports.account(found)
    _emit(answer, as_json, imports.text(answer))


@app.command()
def claims(
    against: Annotated[str | None, typer.Option(metavar="EXPERIMENT", help="Measured experiment to test the claims against.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the consistent and untested ones too.")] = False,
    as_json: Json = False,
) -> None:
    """Every published claim with its computed verdict, and what the checks find in the published tables."""
    from eai import tables, terminal
    from eai.claims.verdicts import all_verdicts

    measured = tables.read_result(against, "summary") if against else None
    found = all_verdicts({name: tables.read_published(name) for name in tables.published_names()}, measured)
    answer = {"claims": _table(found), "counts": {str(k): int(v) for k, v in found["verdict"].value_counts().items()}}
    shown = sorted(set(found["verdict"])) if every else ["inconsistent", "contradicted", "reproduced"]
    _emit(answer, as_json, terminal.findings_text(found, shown))


@app.command()
def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv")],
    mapping: Annotated[Path | None, typer.Option(help="JSON or YAML: their column -> our name, where the header does not say it.")] = None,
    as_json: Json = False,
) -> None:
    """The general checks on any table of results. Exit 1 if something in it contradicts itself."""
    from eai import tables, terminal
    from eai.claims import foreign

    found = foreign.check_file(table, foreign.read_mapping(mapping) if mapping else None, tables.read_published("gpu_specifications"))
    answer = {"findings": _table(found), "counts": {str(k): int(v) for k, v in found["verdict"].value_counts().items()}}
    _emit(answer, as_json, terminal.findings_text(found, ["inconsistent"]))
    if (found["verdict"] == "inconsistent").any():
        raise typer.Exit(1)


@app.command()
def audit(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH ...", help="Code, notebooks, configurations, or folders.")],
    as_json: Json = False,
) -> None:
    """What is wasteful in inference code and configurations; files are read, never run. Exit 1 on a critical finding."""
    from eai.advise.audit import report, run

    answer = run.audit(paths)
    _emit(answer, as_json, report.markdown(answer))
    if answer["counts"]["critical"]:
        raise typer.Exit(1)


@app.command()
def report(
    experiment: Annotated[str, typer.Argument(help="Name or folder of an experiment.")],
    out: Annotated[str | None, typer.Option(help="Folder; default figures/<name>/report, of a folder elsewhere report/ in it.")] = None,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    as_json: Json = False,
) -> None:
    """Report and talk of an experiment: one self-contained HTML page, Markdown, LaTeX, slides and a timed script."""
    from eai.report.publishing import export

    answer = export(experiment, out, language)
    _emit(answer, as_json, "\n".join(f"{kind:<10}{path}" for kind, path in answer["files"].items()))


advice_commands.add_to(app)


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
        _fail(f"{error.format_message()} See `eai --help`.", 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; what was measured is kept, run again to go on", INTERRUPTED)
    except Exception as error:
        if not {"NotebookFailed", "EngineFailed"} & {each.__name__ for each in type(error).__mro__}:
            raise
        _fail(str(error), 1)


def _fail(line: str, code: int) -> None:
    typer.echo(f"eai: {' '.join(line.split())}", err=True)
    sys.exit(code)
