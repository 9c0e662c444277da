"""The four questions, asked in Python (`commands.optimize(model=...)`) or on the command line, with the options of options.toml."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.advise import ALIASES, FIGURES, OF, OPTIONS, QUESTIONS
from eai.errors import UserError
from eai.terminal import Json

KINDS = {"str": str, "int": int, "float": float, "list": list[str]}


def optimize(**options: Any) -> dict[str, Any]:
    """`eai optimize`: ranked plans."""
    from eai.advise.optimize import optimize as answer

    return answer(_asked(options))


def compare(**options: Any) -> dict[str, Any]:
    """`eai compare --model ...`: strategies side by side."""
    from eai.advise.compare import compare as answer

    return answer(_asked(options, cards="one card"))


def estimate(**options: Any) -> dict[str, Any]:
    """`eai estimate`: the bill now and optimized; with `other_gpu` and `other_gpu_price` the break-even of two cards."""
    from eai import catalog
    from eai.advise.compare import estimate as answer

    other, price = options.pop("other_gpu", None), options.pop("other_gpu_price", None)
    if (other is None) != (price is None):
        raise UserError("one of other_gpu and other_gpu_price", "both, or none", "give --other-gpu and --other-gpu-price")
    asked = _asked(options, "today's card first, then others", of_a_model=other is not None)
    return answer(asked, other and (asked.now.with_(gpu=catalog.nearest_gpu(str(other))[0]), float(price)))


def diagnose(**options: Any) -> dict[str, Any]:
    """`eai diagnose`: what reported figures say of a configuration."""
    from eai.advise import diagnose as diagnosis

    options = {ALIASES.get(name, name): value for name, value in options.items()}
    reported = {name: options.pop(name, None) for name in FIGURES}
    asked = _asked(options, cards="one card")
    found = diagnosis.figures(reported, asked.output_tokens)
    diagnosis.require_possible(found, asked.now)
    return diagnosis.diagnose(asked, found)


def _asked(options: dict[str, Any], cards: str = "", of_a_model: bool = True):
    """The request, own experiments among the evidence. Raises UserError where it names no model, or not the `cards` it is about."""
    from eai.advise.evidence import use
    from eai.advise.request import request

    use(options.pop("evidence", None) or [])
    asked = request(**options)
    if of_a_model and asked.now is None:
        raise UserError("no model", OPTIONS["model"].expected, "name one with --model")
    if cards and (asked.any_gpu or (cards == "one card" and len(asked.gpus) > 1)):
        named = "any" if asked.any_gpu else ", ".join(gpu.slug for gpu in asked.gpus)
        raise UserError(f"gpu {named}", cards, "name the card that runs with --gpu; `eai optimize` chooses among several")
    return asked


def frame(entries: list[dict]):
    """A ranking or comparison as a data frame: configuration, `name`, `name_low`, `name_high` of each quantity; lists joined by "; "."""
    import pandas as pd

    rows = []
    for entry in entries:
        rows.append(row := dict(entry.get("configuration", {})))
        for name, value in entry.items():
            if name == "accuracy":
                row |= {"accuracy": value["status"], "acceptable": value["acceptable"], "accuracy_note": value["note"]}
            elif isinstance(value, dict) and "unit" in value:
                row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
            elif name != "configuration" and not isinstance(value, dict):
                row[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
    return pd.DataFrame(rows)


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
ASK = {question.__name__: question for question in (optimize, compare, estimate, diagnose)}


def add_to(app: typer.Typer) -> None:
    """Add the four commands to the application."""
    for question, each in QUESTIONS.items():
        _add(app, question, each["what"])


def _add(app: typer.Typer, question: str, what: str) -> None:
    """Add the command that asks `question` with its options, None where not given, and prints the answer."""
    flags = {name: o.flags or (f"--{name.replace('_', '-')}",) for name, o in OF[question].items()}

    def command(as_json: bool = False, experiments: Any = None, max_regression: str = "3%", **given: Any) -> None:
        show = {name: given.pop(name) for name in SHOW}
        given = {name: value for name, value in given.items() if value is not None}
        if not experiments:
            return _print(ASK[question](**given), as_json, **show)
        from eai.advise.experiment import diagnose_experiment, regression_gate

        if extra := [flags[name][0] for name in given]:
            do = "leave the options out: experiments have their own"
            raise UserError(f"{' '.join(map(str, experiments))} with {', '.join(extra)}", "one or the other", do)
        if question == "diagnose":
            return _print(diagnose_experiment(experiments), as_json, **show)
        if len(experiments) != 2:
            raise UserError(f"{len(experiments)} experiment(s)", "two, A and B, or none and --model", "eai compare A B --max-regression 3%")
        answer = regression_gate(*(str(Path(e)) if Path(e).is_dir() else e for e in experiments), max_regression)
        _print(answer, as_json, **show)
        if answer["failed"]:
            raise typer.Exit(1)

    taken: dict[str, Any] = {"as_json": Json} | OTHERWISE.get(question, {})
    taken |= {name: Annotated[KINDS[o.kind] | None, typer.Option(*flags[name], help=o.help)] for name, o in OF[question].items()} | SHOW
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
        page.draw(answer, plot)
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
