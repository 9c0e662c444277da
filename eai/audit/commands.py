"""The command `eai audit`."""

from typing import Annotated

import typer

from eai.terminal import Json, emit


def audit(
    paths: Annotated[list[str], typer.Argument(metavar="PATH ...", help="Code, notebooks, configurations, or folders.")],
    as_json: Json = False,
) -> None:
    """Finds waste in inference code and deployments without running them. Exit 1 on a critical finding, 2 if nothing could be read."""
    from eai.audit import report, run

    answer = run.audit(paths)
    emit(answer, as_json, "" if as_json else report.text(answer))
    if answer["counts"]["critical"]:
        raise typer.Exit(1)
    if answer["skipped"] and not answer["read"]:
        raise typer.Exit(2)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("audit")(audit)
