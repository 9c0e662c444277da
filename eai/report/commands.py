"""The commands `eai report` and `eai explore`."""

from pathlib import Path
from typing import Annotated

import typer

from eai.terminal import Json, emit, say


def report(
    experiment: Annotated[str, typer.Argument(help="Name or folder of an experiment, or `study`: the published study.")],
    out: Annotated[str | None, typer.Option(help="Folder; default figures/<name>/report, of a folder elsewhere report/ in it.")] = None,
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    baseline: Annotated[str | None, typer.Option(help="Strategy that ratios refer to; default: the experiment's own.")] = None,
    as_json: Json = False,
) -> None:
    """Report and talk: one self-contained HTML page, Markdown, LaTeX, slides, a timed script and a cheat sheet."""
    from eai.report.publishing import export

    say(f"report of {experiment}")
    answer = export(experiment, out, language, baseline, say)
    emit(answer, as_json, "\n".join(f"{kind:<13}{path}" for kind, path in answer["files"].items()))


def explore(
    experiments: Annotated[list[str] | None, typer.Argument(help="Names or folders; none: the sample and the published evidence.")] = None,
    evidence: Annotated[bool, typer.Option("--evidence", help="Add every published row with an energy.")] = False,
    predicted: Annotated[bool, typer.Option("--predicted", help="Add predictions for the cards of the catalog.")] = False,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("explore.html"),
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    as_json: Json = False,
) -> None:
    """One self-contained HTML page to filter, plot, sort and download rows: no server, no network."""
    from eai.report.explore import explore as written

    nothing = not experiments and not evidence and not predicted
    answer = written(experiments or (["sample"] if nothing else []), evidence or nothing, predicted, out, say, language)
    bases = ", ".join(f"{n:,} {basis}" for basis, n in answer["bases"].items())
    left_out = f"; {answer['left_out']:,} rows without an energy are left out" if answer["left_out"] else ""
    emit(answer, as_json, f"{answer['file']}: {answer['rows']:,} rows ({bases}){left_out}. Open it in a browser.")


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("report")(report)
    app.command("explore")(explore)
