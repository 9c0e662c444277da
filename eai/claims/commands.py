"""The commands `eai claims` and `eai check`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit, records


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
    answer = {"claims": records(found), "counts": {str(k): int(v) for k, v in found["verdict"].value_counts().items()}}
    shown = sorted(set(found["verdict"])) if every else ["inconsistent", "contradicted", "reproduced"]
    emit(answer, as_json, terminal.findings_text(found, shown))


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv")],
    mapping: Annotated[Path | None, typer.Option(help="JSON or YAML: their column -> our name, where the header does not say it.")] = None,
    as_json: Json = False,
) -> None:
    """The general checks on any table of results. Exit 1 if something in it contradicts itself."""
    from eai import tables, terminal
    from eai.claims import foreign

    found = foreign.check_file(table, foreign.read_mapping(mapping) if mapping else None, tables.read_published("gpu_specifications"))
    answer = {"findings": records(found), "counts": {str(k): int(v) for k, v in found["verdict"].value_counts().items()}}
    emit(answer, as_json, terminal.findings_text(found, ["inconsistent"]))
    if (found["verdict"] == "inconsistent").any():
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("claims")(claims)
    app.command("check")(check)
