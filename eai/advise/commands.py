"""The four questions, asked in Python (`commands.optimize(model=...)`) or on the command line; each option is written once."""

import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from eai.errors import UserError
from eai.terminal import Json


@dataclass(frozen=True)
class Option:
    """One option: `flags` where they are not its name; `low`, `high` and `expected` (in words) of a number; `choices` of a word."""

    kind: type
    help: str
    flags: tuple[str, ...] = ()
    low: float = 1e-12
    high: float = math.inf
    expected: str = "a number above 0"
    choices: tuple[str, ...] = ()


def _count(help: str, *flags: str, **more: Any) -> Option:
    return Option(int, help, flags, low=1, expected="a whole number, 1 or more", **more)


A_MODEL = "a Hugging Face id or a name of data/catalog/models.csv, or --params-b"
PRICE = {"low": 0.0, "expected": "a price in USD, 0 or more"}
REQUEST = {
    "model": Option(str, "Hugging Face id or catalog name.", ("--model", "--model-id"), expected=A_MODEL),
    "gpu": Option(str, "A card, several (h100,l40s,rtx4090) or any; default rtx4090d.", ("--gpu", "--hardware-platform")),
    "num_gpus": _count("Boards per replica; default 1, or what optimize finds."),
    "engine": Option(str, "transformers, vllm, sglang, tensorrt-llm, llama.cpp or ollama."),
    "quantization": Option(str, "Strategy; default fp16."),
    "batch_size": _count("Sequences at once; default 1.", "--batch-size", "--concurrency"),
    "input_tokens": _count("Prompt length; default 512.", "--input-tokens", "--sequence-length"),
    "output_tokens": _count("Answer length; default 256.", "--output-tokens", "--generation-length"),
    "params_b": Option(float, "Parameters in 1e9, of a model that the catalog does not have."),
    "active_params_b": Option(float, "Parameters in 1e9 that a token uses, of a mixture of experts."),
    "layers": _count("Layers of such a model."),
    "hidden": _count("Hidden size of such a model."),
    "kv_heads": _count("Key-value heads of such a model."),
}
RATES = {
    "use": Option(str, "api, chat or offline; default api.", choices=("api", "chat", "offline")),
    "requests": Option(float, "Requests per month; default 1,000,000 to scale from.", ("--requests", "--requests-per-month")),
    "requests_per_hour": Option(float, "Requests per hour."),
    "requests_per_day": Option(float, "Requests per day."),
}
SITE = {
    "pue": Option(float, "Power usage effectiveness of the site.", (), 1.0, 10.0, "a PUE of 1.0 or more (total over IT energy)"),
    "price": Option(float, "USD per kWh.", low=0.0, expected="a price in USD/kWh, 0 or more"),
    "region": Option(str, "us, cn or a country code: price and carbon intensity."),
    "carbon": Option(str, "g CO2e per kWh, or a CSV file with one row per hour and a column g_per_kwh (and requests)."),
}
LOAD = {
    "lengths": Option(str, "CSV file with a column output_tokens: how the answers' lengths vary."),
    "goal": Option(str, "energy, cost or carbon.", choices=("energy", "cost", "carbon")),
    "max_latency_s": Option(float, "Longest time for a request, in seconds.", ("--max-latency",)),
    "latency_p95_s": Option(float, "p95 of a request's time, in seconds.", ("--latency-p95",)),
    "ttft_p95_s": Option(float, "p95 of the time to the first token, in seconds.", ("--ttft-p95",)),
    "itl_p95_s": Option(float, "p95 of the time between tokens, in seconds.", ("--itl-p95",)),
    "min_accuracy": Option(
        float, "Lowest share of the unquantized score to keep.", (), 0.0, 1.0, "a fraction of the unquantized score, 0 to 1"
    ),
    "budget_usd": Option(float, "Highest cost of the cards, USD per month.", ("--budget",)),
    "power_budget_w": Option(
        str, "Highest power of the cards, such as 10kW.", ("--power-budget",), expected="a power such as 10kW or 800W"
    ),
    "rent_usd_h": Option(float, "USD per card and hour.", ("--rent",), low=0.0, expected="USD per card and hour, 0 or more"),
    "gpu_price": Option(float, "USD of a card with its share of the machine: owned, not rented.", **PRICE),
    "lifetime_years": Option(float, "Years that an owned card is used; default 4."),
    "card_utilisation": Option(float, "Share of an owned card's hours that work; default 0.5.", (), 1e-9, 1.0, "a share above 0, up to 1"),
    "evidence": Option(list[str], "Your measured experiment: its rows come first, and correct predictions of its card."),
}
OWN = {
    "throughput": Option(float, "Your own output tokens per second.", expected="output tokens per second of the whole batch, above 0"),
    "energy_j_per_1k": Option(float, "Your own joules per 1000 output tokens."),
}
OTHER = {
    "other_gpu": Option(str, "Another card: from how many requests on is the more expensive one cheaper?"),
    "other_gpu_price": Option(float, "USD of the other card.", **PRICE),
}
FIGURES = OWN | {
    "energy_j_per_request": Option(float, "Your own joules per request."),
    "power_w": Option(float, "Mean power in watts."),
    "utilization_pct": Option(float, "GPU utilisation, 0 to 100.", (), 0.0, 100.0, "GPU utilisation in per cent, 0 to 100"),
    "memory_gb": Option(float, "Memory in use in GB."),
    "power_limit_w": Option(float, "Power limit in force in watts."),
    "temperature_c": Option(float, "GPU temperature in degrees Celsius.", (), -20.0, 150.0, "GPU temperature in degrees Celsius"),
}
OF = {
    "optimize": REQUEST | RATES | SITE | LOAD | OWN,
    "compare": REQUEST | RATES | SITE | LOAD | OWN,
    "estimate": REQUEST | RATES | SITE | LOAD | OWN | OTHER,
    "diagnose": REQUEST | FIGURES | RATES | SITE,
}
"""Question -> its options."""
DEFAULTS = {
    "gpu": ("rtx4090d", "default card"),
    "quantization": ("fp16", "unquantized half precision, the baseline of every ratio"),
    "batch_size": (1, "one request at a time: the costliest case; batch concurrent requests where there are some"),
    "input_tokens": (512, "default prompt"),
    "output_tokens": (256, "default answer; the usual length of the published rows"),
    "requests": (1_000_000, "requests per month, a round number to scale from"),
    "use": ("api", "requests come one by one, at random times"),
    "goal": ("energy", "energy decides cost and carbon once site and card are fixed"),
    "region": ("us", "default site"),
}
OPTIONS = OF["estimate"] | FIGURES | {"precision": Option(str, "", choices=("fp32", "tf32", "bf16", "fp16"))}
ALIASES = {flag.lstrip("-").replace("-", "_"): name for name, o in OPTIONS.items() for flag in o.flags} | {
    "energy_j_per_1k_tok": "energy_j_per_1k"
}


def checked(name: str, value: Any) -> Any:
    """The value as the option's kind: a number in its range, one of its choices. Raises UserError, one line, for another."""
    o, text, unit = OPTIONS[name], str(value).strip(), 1.0
    if o.choices and value not in o.choices:
        raise UserError(f"{name} '{value}'", f"one of {', '.join(o.choices)}", f"correct {name}")
    if name == "power_budget_w" and (found := re.fullmatch(r"([\d.]+)\s*(k|M)?W", text)):
        text, unit = found[1], {"k": 1e3, "M": 1e6, None: 1.0}[found[2]]
    elif o.kind not in (int, float) and name != "power_budget_w":
        return value
    try:
        number = float(text) * unit
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and o.low <= number <= o.high and (o.kind is not int or number.is_integer())):
        raise UserError(f"{name} {value}", o.expected, f"correct {name}")
    return int(number) if o.kind is int else number


def optimize(**options: Any) -> dict[str, Any]:
    """`eai optimize`: ranked plans."""
    from eai.advise.optimize import optimize as answer

    return answer(_asked(options))


def compare(**options: Any) -> dict[str, Any]:
    """`eai compare --model ...`: strategies side by side."""
    from eai.advise.compare import compare as answer

    return answer(_asked(options))


def estimate(**options: Any) -> dict[str, Any]:
    """`eai estimate`: the bill now and optimized; with `other_gpu` and `other_gpu_price` the break-even of two cards."""
    from eai import catalog
    from eai.advise.compare import estimate as answer

    other, price = options.pop("other_gpu", None), options.pop("other_gpu_price", None)
    if (other is None) != (price is None):
        raise UserError("one of other_gpu and other_gpu_price", "both, or none", "give --other-gpu and --other-gpu-price")
    asked = _asked(options, of_a_model=other is not None)
    return answer(asked, other and (asked.now.with_(gpu=catalog.nearest_gpu(str(other))[0]), float(price)))


def diagnose(**options: Any) -> dict[str, Any]:
    """`eai diagnose`: what reported figures say of a configuration."""
    from eai.advise import diagnose as diagnosis

    options = {ALIASES.get(name, name): value for name, value in options.items()}
    reported = {name: options.pop(name, None) for name in FIGURES}
    asked = _asked(options)
    found = diagnosis.figures(reported, asked.output_tokens)
    diagnosis.require_possible(found, asked.now)
    return diagnosis.diagnose(asked, found)


def _asked(options: dict[str, Any], of_a_model: bool = True):
    """The request, with the user's experiments among the evidence. Raises UserError where it must name a model and names none."""
    from eai.advise.evidence import use
    from eai.advise.request import request

    use(options.pop("evidence", None) or [])
    asked = request(**options)
    if of_a_model and asked.now is None:
        raise UserError("no model", OPTIONS["model"].expected, "name one with --model")
    return asked


def frame(entries: list[dict]):
    """A ranking or comparison as a data frame: configuration, `name`, `name_low`, `name_high` of each quantity; lists joined by "; "."""
    import pandas as pd

    def flat(entry: dict) -> dict:
        row: dict = dict(entry.get("configuration", {}))
        for name, value in entry.items():
            if name == "accuracy":
                row |= {"accuracy": value["status"], "acceptable": value["acceptable"], "accuracy_note": value["note"]}
            elif isinstance(value, dict) and "unit" in value:
                row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
            elif name != "configuration" and not isinstance(value, dict):
                row[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
        return row

    return pd.DataFrame([flat(e) for e in entries])


ASK = {question.__name__: question for question in (optimize, compare, estimate, diagnose)}


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
            return _print(ASK[question](**given), as_json, **show)
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
        from eai.advise.page import draw

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
