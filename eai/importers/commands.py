"""The command `eai import`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit, pairs


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE ...", help="What another tool wrote: CSV, JSON, Parquet, Markdown, or a power log.")
    ],
    out: Annotated[str, typer.Option(metavar="NAME", help="Name or folder of the new experiment.")] = "",
    tool: Annotated[
        str, typer.Option("--format", metavar="TOOL", help="The tool, if its columns do not show it; docs/importing.md lists them.")
    ] = "",
    mapping: Annotated[Path | None, typer.Option(help="YAML or JSON: which column is which (docs/importing.md).")] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="What holds for every row: -p gpu=a100.")] = None,
    phases: Annotated[Path | None, typer.Option(help="Table of what ran when, for a power log.")] = None,
    power: Annotated[Path | None, typer.Option(help="Power log that was recorded beside the results.")] = None,
    scores: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="lm-eval results of the same models and tasks.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Column that differs and is no factor.")] = None,
    guess: Annotated[bool, typer.Option("--guess", help="Print a first mapping to correct; nothing is imported.")] = False,
    as_json: Json = False,
) -> None:
    """What another tool measured as an experiment that every notebook reads; says which rows were left out, and why."""
    from eai import tables
    from eai.errors import UserError
    from eai.importers import imports
    from eai.power import logs, trace

    if guess:
        typer.echo(imports.guess(tuple(files)), nl=False)
        return
    if not out:
        raise UserError("no --out", "the name of the new experiment", "say --out NAME")
    asked = imports.Asked(tuple(files), tool, mapping, pairs(parameter), phases, power, tuple(scores or ()), tuple(ignore or ()))
    tables.require_new(tables.experiment_dir(out))
    found = imports.read(asked, lambda log: trace.phase_energies(logs.read_log(log)))
    provenance = found.provenance((*files, *(p for p in (phases, power, *(scores or ())) if p)))
    folder = tables.write_experiment(out, found.windows, found.energies, found.scores, provenance)
    answer = {"experiment": str(folder)} | imports.account(found)
    emit(answer, as_json, imports.text(answer))


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("import")(import_)
