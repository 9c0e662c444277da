"""The command `eai merge`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit


def merge(
    sources: Annotated[list[str], typer.Argument(metavar="DIR ...", help="Experiments: names or folders, from any machines.")],
    out: Annotated[Path, typer.Option(help="New folder of the merged experiment.")],
    as_json: Json = False,
) -> None:
    """Several machines' results as one experiment: every line kept, the same window once, every contradiction refused."""
    from eai import terminal
    from eai.cluster.merge import merge

    answer = merge(sources, out)
    emit(answer, as_json, terminal.merged_text(answer))


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("merge")(merge)
