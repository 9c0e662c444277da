"""The command line: each command is a few lines around one function or one notebook.

Exit codes: 0 done; 1 the answer is no, or a run is partial; 2 bad input, one line on stderr.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from eai.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Energy of LLM inference, measured so that it can be trusted.")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]


def _say(line: str) -> None:
    """Progress, on stderr, only where a person looks at it."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def _emit(document: dict, as_json: bool, text: str) -> None:
    """The answer on stdout: one JSON document, or text for a person."""
    typer.echo(json.dumps(document) if as_json else text)


@app.command()
def run(
    sweep_yaml: Annotated[Path | None, typer.Argument(metavar="[SWEEP.yaml]", help="Settings of the sweep; none: the embedded model.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for data, notebooks and figures.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be measured, and measure nothing.")] = False,
    as_json: Json = False,
) -> None:
    """The main job: measure, analyze, compare, plot. Run again, it finishes what is missing. Exit 1 if some windows are not ok."""
    from eai import runs, settings

    sweep = settings.read_sweep(sweep_yaml) if sweep_yaml else settings.sweep()
    if dry_run:
        plan = runs.describe(sweep, out)
        return _emit(plan, as_json, "\n".join(plan["lines"]))
    result = runs.run(sweep, out, _say)
    if not as_json:
        typer.echo(runs.human_table(result["experiment"]))
        typer.echo(f"executed notebooks and figures: {result['figures']}")
    typer.echo(json.dumps(result))
    if set(result["status_counts"]) != {"ok"}:
        raise typer.Exit(1)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="measure, analyze, compare, plot ...")],
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="A parameter; lists as YAML: -p batch_sizes=[1,8].")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the executed copy.")] = None,
    as_json: Json = False,
) -> None:
    """One notebook with parameters, through the guard: an unknown parameter exits 2."""
    import yaml

    from eai import notebooks, paths

    pairs = [text.partition("=") for text in parameter or []]
    for key, equals, _ in pairs:
        if not equals:
            raise UserError(f"-p {key}", "-p KEY=VALUE")
    try:
        parameters = {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError:
        raise UserError(f"a value of {[key for key, _, _ in pairs]} is not YAML", "a number, a name or a list such as [1, 8]") from None
    executed = notebooks.execute(name, parameters, out or paths.figures() / "notebooks", _say)
    _emit({"notebook": name, "executed": str(executed), "parameters": parameters}, as_json, str(executed))


@app.command()
def doctor(as_json: Json = False) -> None:
    """What can be measured on this machine, how well, and what to do about the rest."""
    from eai import doctor

    report = doctor.examine()
    _emit(report, as_json, doctor.to_text(report))


def main() -> None:
    """Entry point: turns every expected error into one line and an exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), 2)
    except typer.TyperException as error:
        _fail(f"{error.format_message()} See `eai --help`.", 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted; what was measured is kept, run again to go on", 130)
    except Exception as error:
        if type(error).__name__ != "NotebookFailed":
            raise
        _fail(str(error), 1)


def _fail(line: str, code: int) -> None:
    typer.echo(f"eai: {' '.join(line.split())}", err=True)
    sys.exit(code)
