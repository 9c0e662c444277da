"""The commands `eai claims` and `eai check`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.errors import UserError
from eai.terminal import Json, emit, records

All = Annotated[bool, typer.Option("--all", help="Every one, with what was not checked or not decided, in full.")]


def claims(
    against: Annotated[str | None, typer.Option(metavar="EXPERIMENT", help="Measured experiment to test the claims against.")] = None,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Every published claim with its computed verdict, and what the checks find in the published tables."""
    from eai import tables
    from eai.claims import cached, screen

    if against is not None and not against.strip():
        raise UserError("--against is empty", "an experiment", "name one, or leave --against out")
    measured = tables.read_result(against, "summary") if against else None
    found = cached.verdicts(measured)
    answer = {"claims": records(found), "counts": screen.counted(found)}
    emit(answer, as_json, "" if as_json else screen.everything(found) if every else screen.claims(found, against))


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, JSON, Parquet or Markdown.")],
    mapping: Annotated[Path | None, typer.Option(help="JSON or YAML as `eai import` reads it, or short: our name: their column.")] = None,
    every: All = False,
    as_json: Json = False,
) -> None:
    """The general checks on any table of results. Exit 1 if something in it contradicts itself, 2 if nothing could be checked."""
    from eai import tables
    from eai.claims import foreign, screen

    found = foreign.check_file(table, foreign.read_mapping(mapping) if mapping else None, tables.read_published("gpu_specifications"))
    answer = {"findings": records(found), "counts": screen.counted(found)}
    emit(answer, as_json, "" if as_json else screen.everything(found) if every else screen.findings(found))
    if (found["verdict"] == "inconsistent").any():
        raise typer.Exit(1)
    if not found["verdict"].isin(("consistent", "not decided")).any():
        typer.echo(
            f"eai: nothing could be checked in {table}; expected columns that bear on each other; name them with --mapping.", err=True
        )
        raise typer.Exit(2)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("claims")(claims)
    app.command("check")(check)
