"""The command `eai import`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit, pairs


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
    from eai import plan as preflight
    from eai import tables
    from eai.importers import reading as imports
    from eai.power import logs, trace

    asked = imports.Asked(tuple(files), tool, mapping, pairs(parameter), phases, power)
    found = imports.read(asked, lambda log: trace.phase_energies(logs.read_log(log)))
    preflight.require_new(tables.experiment_dir(out))
    answer = {"experiment": str(tables.write_experiment(out, found.windows, found.energies, found.scores))} | imports.account(found)
    emit(answer, as_json, imports.text(answer))


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("import")(import_)
