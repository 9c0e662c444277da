"""The commands of the advisor: optimize, compare, estimate. Apart from `cli` because they share a dozen options."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from eai.errors import UserError

Model = Annotated[str | None, typer.Option("--model", "--model-id", help="Hugging Face id or catalog name.")]
Gpu = Annotated[str | None, typer.Option("--gpu", "--hardware-platform", help="Catalog name; default rtx4090d.")]
Quantization = Annotated[str | None, typer.Option(help="Strategy; default fp16.")]
BatchSize = Annotated[int | None, typer.Option(help="Sequences at once; default 1.")]
InputTokens = Annotated[int | None, typer.Option("--input-tokens", "--sequence-length", help="Prompt length; default 512.")]
OutputTokens = Annotated[int | None, typer.Option("--output-tokens", "--generation-length", help="Answer length; default 256.")]
Requests = Annotated[int | None, typer.Option(help="Requests a month; default 1,000,000.")]
Goal = Annotated[str | None, typer.Option(help="energy, cost or carbon.")]
Pue = Annotated[float | None, typer.Option(help="Power usage effectiveness of the site.")]
Price = Annotated[float | None, typer.Option(help="USD a kWh.")]
Region = Annotated[str | None, typer.Option(help="us, cn or a country code: price and carbon intensity.")]
Throughput = Annotated[float | None, typer.Option(help="Your own output tokens a second.")]
Energy = Annotated[float | None, typer.Option("--energy-j-per-1k", help="Your own joules per 1000 output tokens.")]
MaxLatency = Annotated[float | None, typer.Option("--max-latency", help="Longest time for a request, in seconds.")]
MinAccuracy = Annotated[float | None, typer.Option(help="Least share of the unquantized score.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]


def _question(name: str, what: str) -> Callable[..., None]:
    """The command `name`, which takes every option of a request; `what` is its help."""

    def command(
        model: Model = None,
        gpu: Gpu = None,
        quantization: Quantization = None,
        batch_size: BatchSize = None,
        input_tokens: InputTokens = None,
        output_tokens: OutputTokens = None,
        requests: Requests = None,
        goal: Goal = None,
        pue: Pue = None,
        price: Price = None,
        region: Region = None,
        throughput: Throughput = None,
        energy_j_per_1k: Energy = None,
        max_latency: MaxLatency = None,
        min_accuracy: MinAccuracy = None,
        as_json: Json = False,
    ) -> None:
        _answer(name, {key: value for key, value in locals().items() if key != "name"})

    command.__doc__ = what
    return command


def compare(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[A B]", help="Two experiments, for the regression gate.")] = None,
    max_regression: Annotated[str, typer.Option(help="With A B: the largest rise that is still accepted.")] = "3%",
    model: Model = None,
    gpu: Gpu = None,
    quantization: Quantization = None,
    batch_size: BatchSize = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    requests: Requests = None,
    goal: Goal = None,
    pue: Pue = None,
    price: Price = None,
    region: Region = None,
    throughput: Throughput = None,
    energy_j_per_1k: Energy = None,
    max_latency: MaxLatency = None,
    min_accuracy: MinAccuracy = None,
    as_json: Json = False,
) -> None:
    """Strategies side by side for --model and --gpu; or two experiments A B, exit 1 if B is shown to cost more than the limit."""
    if not experiments:
        return _answer("compare", locals())
    if len(experiments) != 2:
        raise UserError(f"{len(experiments)} experiment(s)", "two, A and B, or none and --model", "eai compare A B --max-regression 3%")
    from eai.advise.regression import regression_gate

    before, after = (str(Path(e)) if Path(e).is_dir() else e for e in experiments)
    answer = regression_gate(before, after, max_regression)
    _print(answer, as_json)
    if answer["failed"]:
        raise typer.Exit(1)


def _answer(question: str, options: dict) -> None:
    """Ask the advisor with the options that were given."""
    from eai.advise import ask

    others = ("as_json", "experiments", "max_regression")
    given = {name: value for name, value in options.items() if value is not None and name not in others}
    if "max_latency" in given:
        given["max_latency_s"] = given.pop("max_latency")
    _print(getattr(ask, question)(**given), options["as_json"])


def _print(answer: dict, as_json: bool) -> None:
    """The answer as one JSON document, or as Markdown."""
    import json

    from eai.advise.markdown import to_markdown

    typer.echo(json.dumps(answer) if as_json else to_markdown(answer))


def add_to(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    ranked = "A scenario in, ranked configurations out, each number with its row, its prediction error or its stated default."
    app.command("optimize")(_question("optimize", ranked))
    app.command("estimate")(_question("estimate", "Energy, cost and carbon a month, now and optimized, with intervals."))
    app.command()(compare)
