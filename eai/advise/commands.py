"""The commands of the advisor: optimize, compare, estimate, diagnose. Apart from `cli` because they share a dozen options.

Each option is written once, in the tables below; `_taking` gives them to a command through its signature, which is all typer reads.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.errors import UserError
from eai.terminal import Json

REQUEST: dict[str, Any] = {
    "model": Annotated[str | None, typer.Option("--model", "--model-id", help="Hugging Face id or catalog name.")],
    "gpu": Annotated[str | None, typer.Option("--gpu", "--hardware-platform", help="Catalog name; default rtx4090d.")],
    "quantization": Annotated[str | None, typer.Option(help="Strategy; default fp16.")],
    "batch_size": Annotated[int | None, typer.Option(help="Sequences at once; default 1.")],
    "input_tokens": Annotated[int | None, typer.Option("--input-tokens", "--sequence-length", help="Prompt length; default 512.")],
    "output_tokens": Annotated[int | None, typer.Option("--output-tokens", "--generation-length", help="Answer length; default 256.")],
}
LOAD: dict[str, Any] = {
    "requests": Annotated[int | None, typer.Option(help="Requests a month; default 1,000,000.")],
    "goal": Annotated[str | None, typer.Option(help="energy, cost or carbon.")],
    "pue": Annotated[float | None, typer.Option(help="Power usage effectiveness of the site.")],
    "price": Annotated[float | None, typer.Option(help="USD a kWh.")],
    "region": Annotated[str | None, typer.Option(help="us, cn or a country code: price and carbon intensity.")],
    "max_latency": Annotated[float | None, typer.Option("--max-latency", help="Longest time for a request, in seconds.")],
    "min_accuracy": Annotated[float | None, typer.Option(help="Least share of the unquantized score.")],
}
OWN: dict[str, Any] = {
    "throughput": Annotated[float | None, typer.Option(help="Your own output tokens a second.")],
    "energy_j_per_1k": Annotated[float | None, typer.Option("--energy-j-per-1k", help="Your own joules per 1000 output tokens.")],
}
CARD: dict[str, Any] = {
    "gpu_price": Annotated[
        float | None, typer.Option("--gpu-price", help="USD of the card with its share of the machine: adds ownership.")
    ],
    "lifetime_years": Annotated[float | None, typer.Option("--lifetime-years", help="Years that the card is used; default 4.")],
    "card_utilisation": Annotated[float | None, typer.Option("--card-utilisation", help="Share of its hours that work; default 0.5.")],
    "other_gpu": Annotated[str | None, typer.Option("--other-gpu", help="Another card: from how many requests on is the dearer cheaper?")],
    "other_gpu_price": Annotated[float | None, typer.Option("--other-gpu-price", help="USD of the other card.")],
}
FIGURES: dict[str, Any] = OWN | {
    "energy_j_per_request": Annotated[float | None, typer.Option(help="Your own joules a request.")],
    "power_w": Annotated[float | None, typer.Option("--power-w", help="Mean power in watts.")],
    "utilization_pct": Annotated[float | None, typer.Option("--utilization-pct", help="GPU utilisation, 0 to 100.")],
    "memory_gb": Annotated[float | None, typer.Option("--memory-gb", help="Memory in use in GB.")],
    "power_limit_w": Annotated[float | None, typer.Option("--power-limit-w", help="Power limit in force in watts.")],
    "temperature_c": Annotated[float | None, typer.Option("--temperature-c", help="GPU temperature in degrees Celsius.")],
}


def _taking(options: dict[str, Any], name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command `name` with `options`, all None unless given, beside the function's own parameters; `what` is its help."""

    def give(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for key, kind in options.items()]
        function.__signature__ = inspect.Signature([*own, *shared])
        function.__name__, function.__doc__ = name, what
        return function

    return give


def _asking(question: str, options: dict[str, Any], what: str) -> Callable[..., None]:
    """A command that asks the advisor `question` with `options` and prints the answer."""

    @_taking(options, question, what)
    def command(as_json: Json = False, **given: Any) -> None:
        _answer(question, given, as_json)

    return command


@_taking(
    REQUEST | LOAD | OWN,
    "compare",
    "Strategies side by side for --model and --gpu; or two experiments A B, exit 1 if B is shown to cost more than the limit.",
)
def compare(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[A B]", help="Two experiments, for the regression gate.")] = None,
    max_regression: Annotated[str, typer.Option(help="With A B: the largest rise that is still accepted.")] = "3%",
    as_json: Json = False,
    **given: Any,
) -> None:
    """`eai compare`."""
    if not experiments:
        return _answer("compare", given, as_json)
    if len(experiments) != 2:
        raise UserError(f"{len(experiments)} experiment(s)", "two, A and B, or none and --model", "eai compare A B --max-regression 3%")
    from eai.advise.regression import regression_gate

    before, after = (str(Path(e)) if Path(e).is_dir() else e for e in experiments)
    answer = regression_gate(before, after, max_regression)
    _print(answer, as_json)
    if answer["failed"]:
        raise typer.Exit(1)


@_taking(
    REQUEST | FIGURES,
    "diagnose",
    "Reported figures in, likely causes out: confidence, evidence, fixes, verification; or every configuration of --experiment.",
)
def diagnose(
    experiment: Annotated[str | None, typer.Option(metavar="DIR", help="Check every configuration of an experiment instead.")] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """`eai diagnose`."""
    if experiment is None:
        return _answer("diagnose", given, as_json)
    extra = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if extra:
        raise UserError(f"--experiment with {', '.join(extra)}", "one or the other", "leave the figures out: the experiment has its own")
    from eai.advise.diagnose.experiment import diagnose_experiment

    _print(diagnose_experiment(experiment), as_json)


def _answer(question: str, options: dict[str, Any], as_json: bool) -> None:
    """Ask the advisor with the options that were given."""
    from eai.advise import ask

    given = {name: value for name, value in options.items() if value is not None}
    if "max_latency" in given:
        given["max_latency_s"] = given.pop("max_latency")
    _print(getattr(ask, question)(**given), as_json)


def _print(answer: dict, as_json: bool) -> None:
    """The answer as one JSON document, or as Markdown."""
    import json

    from eai.advise.markdown import to_markdown

    typer.echo(json.dumps(answer) if as_json else to_markdown(answer))


def add_to(app: typer.Typer) -> None:
    """Add the four commands to the application."""
    ranked = "A scenario in, ranked configurations out, each number with its row, its prediction error or its stated default."
    app.command("optimize")(_asking("optimize", REQUEST | LOAD | OWN, ranked))
    bill = "Energy, cost and carbon a month, now and optimized, with intervals; with --gpu-price what owning the card costs."
    app.command("estimate")(_asking("estimate", REQUEST | LOAD | OWN | CARD, bill))
    app.command("compare")(compare)
    app.command("diagnose")(diagnose)
