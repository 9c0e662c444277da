"""The command `eai audit`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit


def audit(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH ...", help="Code, notebooks, configurations, or folders.")],
    as_json: Json = False,
) -> None:
    """What is wasteful in inference code and configurations; files are read, never run. Exit 1 on a critical finding."""
    from eai.audit import report, run

    answer = run.audit(paths)
    emit(answer, as_json, report.markdown(answer))
    if answer["counts"]["critical"]:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("audit")(audit)
