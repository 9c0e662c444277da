"""The commands of the advisor: optimize, compare, estimate, diagnose. Each option is written once, in the tables below."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.errors import UserError
from eai.terminal import Json


def _option(kind: Any, help: str, *names: str) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=help)]


REQUEST: dict[str, Any] = {
    "model": _option(str, "Hugging Face id or catalog name.", "--model", "--model-id"),
    "gpu": _option(str, "A card, several (h100,l40s,rtx4090) or any; default rtx4090d.", "--gpu", "--hardware-platform"),
    "num_gpus": _option(int, "Boards a replica; default 1, or what optimize finds."),
    "engine": _option(str, "transformers, vllm, sglang, tensorrt-llm, llama.cpp or ollama."),
    "quantization": _option(str, "Strategy; default fp16."),
    "batch_size": _option(int, "Sequences at once; default 1.", "--batch-size", "--concurrency"),
    "input_tokens": _option(int, "Prompt length; default 512.", "--input-tokens", "--sequence-length"),
    "output_tokens": _option(int, "Answer length; default 256.", "--output-tokens", "--generation-length"),
    "params_b": _option(float, "Parameters in 1e9, of a model that the catalog does not have.", "--params-b"),
    "active_params_b": _option(float, "Parameters in 1e9 that a token uses, of a mixture of experts.", "--active-params-b"),
    "layers": _option(int, "Layers of such a model."),
    "hidden": _option(int, "Hidden size of such a model."),
    "kv_heads": _option(int, "Key-value heads of such a model."),
}
LOAD: dict[str, Any] = {
    "use": _option(str, "api, chat or offline; default api."),
    "requests": _option(float, "Requests a month; default 1,000,000 to scale from.", "--requests", "--requests-per-month"),
    "requests_per_hour": _option(float, "Requests an hour."),
    "requests_per_day": _option(float, "Requests a day."),
    "lengths": _option(str, "CSV file with a column output_tokens: how the answers' lengths vary."),
    "goal": _option(str, "energy, cost or carbon."),
    "pue": _option(float, "Power usage effectiveness of the site."),
    "price": _option(float, "USD a kWh."),
    "region": _option(str, "us, cn or a country code: price and carbon intensity."),
    "carbon": _option(str, "g CO2e a kWh, or a CSV file with a row an hour and a column g_per_kwh (and requests)."),
    "max_latency": _option(float, "Longest time for a request, in seconds."),
    "latency_p95": _option(float, "p95 of a request's time, in seconds.", "--latency-p95"),
    "ttft_p95": _option(float, "p95 of the time to the first token, in seconds.", "--ttft-p95"),
    "itl_p95": _option(float, "p95 of the time between tokens, in seconds.", "--itl-p95"),
    "min_accuracy": _option(float, "Least share of the unquantized score."),
    "budget": _option(float, "Most USD a month for cards."),
    "power_budget": _option(str, "Most power of the cards, such as 10kW."),
    "rent": _option(float, "USD a card and hour."),
    "gpu_price": _option(float, "USD of a card with its share of the machine: owned, not rented."),
    "lifetime_years": _option(float, "Years that an owned card is used; default 4."),
    "card_utilisation": _option(float, "Share of an owned card's hours that work; default 0.5."),
    "evidence": _option(list[str], "Your measured experiment: its rows come first, and correct predictions of its card.", "--evidence"),
}
OWN: dict[str, Any] = {
    "throughput": _option(float, "Your own output tokens a second."),
    "energy_j_per_1k": _option(float, "Your own joules per 1000 output tokens.", "--energy-j-per-1k"),
}
OTHER: dict[str, Any] = {
    "other_gpu": _option(str, "Another card: from how many requests on is the dearer cheaper?"),
    "other_gpu_price": _option(float, "USD of the other card."),
}
FIGURES: dict[str, Any] = OWN | {
    "energy_j_per_request": _option(float, "Your own joules a request."),
    "power_w": _option(float, "Mean power in watts.", "--power-w"),
    "utilization_pct": _option(float, "GPU utilisation, 0 to 100.", "--utilization-pct"),
    "memory_gb": _option(float, "Memory in use in GB.", "--memory-gb"),
    "power_limit_w": _option(float, "Power limit in force in watts.", "--power-limit-w"),
    "temperature_c": _option(float, "GPU temperature in degrees Celsius.", "--temperature-c"),
}
BILLED = ("use", "requests", "requests_per_hour", "requests_per_day", "price", "pue", "region", "carbon")
SHOW: dict[str, Any] = {
    "explain": Annotated[bool, typer.Option("--explain", help="Reasons, evidence and assumptions too.")],
    "form": Annotated[str | None, typer.Option("--format", help="terminal, markdown or html; default terminal, markdown into a pipe.")],
    "plot": Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .svg or .png.")],
}


def _taking(options: dict[str, Any], name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command `name` with `options`, not given unless asked, beside the function's own parameters; `what` is its help."""

    def give(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [
            inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=False if k == "explain" else None, annotation=kind)
            for k, kind in options.items()
        ]
        function.__signature__ = inspect.Signature([*own, *shared])
        function.__name__, function.__doc__ = name, what
        return function

    return give


def _asking(question: str, options: dict[str, Any], what: str) -> Callable[..., None]:
    """A command that asks the advisor `question` with `options` and prints the answer."""

    @_taking(options | SHOW, question, what)
    def command(as_json: Json = False, **given: Any) -> None:
        _answer(question, given, as_json)

    return command


@_taking(
    REQUEST | LOAD | OWN | SHOW,
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
    show = {name: given.pop(name) for name in SHOW}
    if extra := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
        raise UserError(
            f"two experiments with {', '.join(extra)}", "one or the other", "leave the options out: the experiments have their own"
        )
    from eai.advise.regression import regression_gate

    before, after = (str(Path(e)) if Path(e).is_dir() else e for e in experiments)
    answer = regression_gate(before, after, max_regression)
    _print(answer, as_json, **show)
    if answer["failed"]:
        raise typer.Exit(1)


@_taking(
    REQUEST | FIGURES | {k: LOAD[k] for k in BILLED} | SHOW,
    "diagnose",
    "Reported figures in, likely causes out: how sure, evidence, fixes, verification; or every configuration of --experiment.",
)
def diagnose(
    experiment: Annotated[str | None, typer.Option(metavar="DIR", help="Check every configuration of an experiment instead.")] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """`eai diagnose`."""
    if experiment is None:
        return _answer("diagnose", given, as_json)
    show = {name: given.pop(name) for name in SHOW}
    if extra := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
        raise UserError(f"--experiment with {', '.join(extra)}", "one or the other", "leave the figures out: the experiment has its own")
    from eai.advise.experiment import diagnose_experiment

    _print(diagnose_experiment(experiment), as_json, **show)


def _answer(question: str, options: dict[str, Any], as_json: bool) -> None:
    """Ask the advisor with the options that were given."""
    from eai.advise import ask

    show = {name: options.pop(name) for name in SHOW}
    given = {name: value for name, value in options.items() if value is not None}
    _print(getattr(ask, question)(**given), as_json, **show)


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
    if as_json:
        return typer.echo(json.dumps(answer, allow_nan=False))
    at_terminal = sys.stdout.isatty()
    form = form or ("terminal" if at_terminal else "markdown")
    if form == "html":
        return typer.echo(page.as_html(answer))
    if form == "markdown":
        return typer.echo(page.markdown(answer, explain))
    typer.echo(page.terminal(answer, shutil.get_terminal_size((100, 24)).columns, explain, at_terminal), nl=False)


def add_to(app: typer.Typer) -> None:
    """Add the four commands to the application."""
    ranked = "A workload in, ranked plans out: card, number, engine, precision, concurrency, with capacity, bill and what to type."
    app.command("optimize")(_asking("optimize", REQUEST | LOAD | OWN, ranked))
    billed = "Energy, cost and carbon a month, now and optimized, by lever; your own figures need no model."
    app.command("estimate")(_asking("estimate", REQUEST | LOAD | OWN | OTHER, billed))
    app.command("compare")(compare)
    app.command("diagnose")(diagnose)
