"""The commands of the advisor: optimize, compare, estimate, diagnose. Each option stands in `eai.advise.options`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.advise.options import OF, Option
from eai.errors import UserError
from eai.terminal import Json

SHOW: dict[str, Any] = {
    "explain": Annotated[bool, typer.Option("--explain", help="Reasons, evidence and assumptions too.")],
    "form": Annotated[str | None, typer.Option("--format", help="terminal, markdown or html; default terminal, markdown into a pipe.")],
    "plot": Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .svg or .png.")],
}
OTHERWISE: dict[str, Any] = {
    "compare": (list[str], typer.Argument(metavar="[A B]", help="Two experiments, for the regression gate.")),
    "diagnose": (str, typer.Option("--experiment", metavar="DIR", help="Check every configuration of an experiment instead.")),
}
"""What two of the commands take instead of a configuration."""
LIMIT = Annotated[str, typer.Option(help="With A B: the largest rise that is still accepted.")]
WHAT = {
    "optimize": "A workload in, ranked plans out: card, number, engine, precision, concurrency, with capacity, bill and what to type.",
    "estimate": "Energy, cost and carbon per month, now and optimized, by lever; your own figures need no model.",
    "compare": "Strategies side by side for --model and --gpu; or two experiments A B, exit 1 if B is shown to cost more than the limit.",
    "diagnose": "Reported figures in, likely causes out: how sure, evidence, fixes, verification; or every configuration of --experiment.",
}


def add_to(app: typer.Typer) -> None:
    """Add the four commands to the application."""
    for question, what in WHAT.items():
        app.command(question, help=what)(_command(question, OF[question]))


def _command(question: str, options: dict[str, Option]) -> Callable[..., None]:
    """The command that asks the advisor `question` with `options`, not given unless asked, and prints the answer."""

    def command(as_json: bool = False, experiments: Any = None, max_regression: str = "3%", **given: Any) -> None:
        show = {name: given.pop(name) for name in SHOW}
        given = {name: value for name, value in given.items() if value is not None}
        if not experiments:
            from eai.advise import ask

            return _print(getattr(ask, question)(**given), as_json, **show)
        if extra := [(options[name].flags or (f"--{name.replace('_', '-')}",))[0] for name in given]:
            do = "leave the options out: experiments have their own"
            raise UserError(f"{' '.join(map(str, experiments))} with {', '.join(extra)}", "one or the other", do)
        if question == "diagnose":
            from eai.advise.experiment import diagnose_experiment

            return _print(diagnose_experiment(experiments), as_json, **show)
        if len(experiments) != 2:
            raise UserError(f"{len(experiments)} experiment(s)", "two, A and B, or none and --model", "eai compare A B --max-regression 3%")
        from eai.advise.regression import regression_gate

        answer = regression_gate(*(str(Path(e)) if Path(e).is_dir() else e for e in experiments), max_regression)
        _print(answer, as_json, **show)
        if answer["failed"]:
            raise typer.Exit(1)

    taken: dict[str, Any] = {"as_json": Json}
    if question in OTHERWISE:
        kind, given = OTHERWISE[question]
        taken["experiments"] = Annotated[kind | None, given]
    if question == "compare":
        taken["max_regression"] = LIMIT
    for name, o in options.items():
        taken[name] = Annotated[o.kind | None, typer.Option(*(o.flags or (f"--{name.replace('_', '-')}",)), help=o.help)]
    defaults = {"as_json": False, "explain": False, "max_regression": "3%"}
    command.__signature__ = inspect.Signature(
        [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(k), annotation=v) for k, v in (taken | SHOW).items()]
    )
    return command


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
