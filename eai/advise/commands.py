"""The commands of the advisor: optimize, compare, estimate, diagnose. Each option stands in `eai.advise.options`."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.advise.options import OF
from eai.errors import UserError
from eai.terminal import Json

SHOW: dict[str, Any] = {
    "explain": Annotated[bool, typer.Option("--explain", help="Reasons, evidence and assumptions too.")],
    "form": Annotated[str | None, typer.Option("--format", help="terminal, markdown or html; default terminal, markdown into a pipe.")],
    "plot": Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .svg or .png.")],
}
A_B = Annotated[list[str] | None, typer.Argument(metavar="[A B]", help="Two experiments, for the regression gate.")]
LIMIT = Annotated[str, typer.Option(help="With A B: the largest rise that is still accepted.")]
DIR = Annotated[str | None, typer.Option("--experiment", metavar="DIR", help="Check every configuration of an experiment instead.")]
OTHERWISE: dict[str, Any] = {"compare": {"experiments": A_B, "max_regression": LIMIT}, "diagnose": {"experiments": DIR}}
"""What two of the commands take instead of a configuration."""
WHAT = {
    "optimize": "A workload in, ranked plans out: card, number, engine, precision, concurrency, with capacity, bill and what to type.",
    "estimate": "Energy, cost and carbon per month, now and optimized, by lever; your own figures need no model.",
    "compare": "Strategies side by side for --model and --gpu; or two experiments A B, exit 1 if B is shown to cost more than the limit.",
    "diagnose": "Reported figures in, likely causes out: how sure, evidence, fixes, verification; or every configuration of --experiment.",
}


def add_to(app: typer.Typer) -> None:
    """Add the four commands to the application."""
    for question, what in WHAT.items():
        _add(app, question, what)


def _add(app: typer.Typer, question: str, what: str) -> None:
    """Add the command that asks the advisor `question` with its options, not given unless asked, and prints the answer."""
    flags = {name: o.flags or (f"--{name.replace('_', '-')}",) for name, o in OF[question].items()}

    def command(as_json: bool = False, experiments: Any = None, max_regression: str = "3%", **given: Any) -> None:
        show = {name: given.pop(name) for name in SHOW}
        given = {name: value for name, value in given.items() if value is not None}
        if not experiments:
            from eai.advise import ask

            return _print(getattr(ask, question)(**given), as_json, **show)
        if extra := [flags[name][0] for name in given]:
            do = "leave the options out: experiments have their own"
            raise UserError(f"{' '.join(map(str, experiments))} with {', '.join(extra)}", "one or the other", do)
        if question == "diagnose":
            from eai.advise.experiment import diagnose_experiment

            return _print(diagnose_experiment(experiments), as_json, **show)
        if len(experiments) != 2:
            raise UserError(f"{len(experiments)} experiment(s)", "two, A and B, or none and --model", "eai compare A B --max-regression 3%")
        from eai.advise.experiment import regression_gate

        answer = regression_gate(*(str(Path(e)) if Path(e).is_dir() else e for e in experiments), max_regression)
        _print(answer, as_json, **show)
        if answer["failed"]:
            raise typer.Exit(1)

    taken: dict[str, Any] = {"as_json": Json} | OTHERWISE.get(question, {})
    taken |= {name: Annotated[o.kind | None, typer.Option(*flags[name], help=o.help)] for name, o in OF[question].items()} | SHOW
    defaults, keyword = {"as_json": False, "explain": False, "max_regression": "3%"}, inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=defaults.get(name), annotation=a) for name, a in taken.items()]
    command.__signature__ = inspect.Signature(parameters)
    app.command(question, help=what)(command)


def _print(answer: dict, as_json: bool, explain: bool = False, form: str | None = None, plot: Path | None = None) -> None:
    """The answer as one JSON document, for a terminal, as Markdown or as HTML; with `plot` its chart as a file."""
    import json
    import shutil
    import sys

    from eai.advise import page

    if form not in (None, "terminal", "markdown", "html"):
        raise UserError(f"format '{form}'", "terminal, markdown or html", "correct --format")
    if plot is not None:
        from eai.advise.chart import draw

        draw(answer, plot)
    at_terminal = sys.stdout.isatty()
    form = "json" if as_json else form or ("terminal" if at_terminal else "markdown")
    if form == "json":
        text = json.dumps(answer, allow_nan=False)
    elif form == "html":
        text = page.as_html(answer)
    elif form == "markdown":
        text = page.markdown(answer, explain)
    else:
        text = page.terminal(answer, shutil.get_terminal_size((100, 24)).columns, explain, at_terminal).removesuffix("\n")
    typer.echo(text)
