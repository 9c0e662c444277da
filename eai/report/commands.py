"""The command `eai report`."""

from typing import Annotated

import typer

from eai.terminal import Json, emit


def report(
    experiment: Annotated[str, typer.Argument(help="Name or folder of an experiment.")],
    out: Annotated[str | None, typer.Option(help="Folder; default figures/<name>/report, of a folder elsewhere report/ in it.")] = None,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    as_json: Json = False,
) -> None:
    """Report and talk of an experiment: one self-contained HTML page, Markdown, LaTeX, slides and a timed script."""
    from eai.report.publishing import export

    answer = export(experiment, out, language)
    emit(answer, as_json, "\n".join(f"{kind:<10}{path}" for kind, path in answer["files"].items()))


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("report")(report)
