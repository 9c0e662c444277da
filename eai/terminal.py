"""What every command shares: options, the answer as one JSON document or as text a person reads."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from eai.errors import UserError
from eai.quantity import Quantity, plain

if TYPE_CHECKING:
    import pandas as pd

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
BOUNDARIES = {"gpu": "GPU", "cpu_package": "processor", "dram": "memory"}


def extra_of(module: str) -> str | None:
    """The extra of `eai` that brings a module, by the package's own metadata; None for a module that no extra brings."""
    top = module.split(".")[0].lower().replace("_", "-")
    wanted = {"sklearn": "scikit-learn", "yaml": "pyyaml", "ipykernel-launcher": "ipykernel"}.get(top, top)
    for line in metadata("eai").get_all("Requires-Dist") or []:
        found = re.match(r"([A-Za-z0-9._-]+).*extra == ['\"](\w+)['\"]", line)
        if found and found[1].lower().replace("_", "-") == wanted and found[2] not in ("all", "dev"):
            return found[2]
    return None


def say(line: str) -> None:
    """Progress, on stderr, only where a person looks at it."""
    if sys.stderr.isatty():
        typer.echo(line, err=True)


def emit(document: dict, as_json: bool, text: str) -> None:
    """The answer on stdout: one JSON document (quantities by their four keys), or text for a person."""

    def known_to_json(value: object) -> object:
        return value.to_json() if isinstance(value, Quantity) else value.item()  # the rest are NumPy numbers

    typer.echo(json.dumps(document, default=known_to_json) if as_json else folded(text))


def width() -> int | None:
    """Columns of the terminal that a person looks at; None where the output goes into a file or another program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def folded(text: str) -> str:
    """The text with lines that are wider than the terminal continued below, indented by two more."""
    if (columns := width()) is None:
        return text
    lines = []
    for line in text.splitlines():
        indent, how = " " * (len(line) - len(line.lstrip()) + 2), {"break_long_words": False, "break_on_hyphens": False}
        lines.append(line if len(line) <= columns else textwrap.fill(line, columns, subsequent_indent=indent, **how))
    return "\n".join(lines)


def records(frame: pd.DataFrame) -> list[dict]:
    """The rows of a data frame, with None for what is missing."""
    return json.loads(frame.to_json(orient="records"))


def table_text(table: pd.DataFrame, title: str = "") -> str:
    """A table of texts as wide as the terminal; where that is narrow, intervals stand below their estimates. A file has whole lines."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = width() or 400
    cells = [list(map(str, row)) for row in table.itertuples(index=False)]
    widths = [max(map(len, column)) for column in zip(map(str, table), *cells, strict=True)]
    if sum(widths) + 2 * len(widths) > columns:
        cells = [[cell.replace(" [", "\n[") for cell in row] for row in cells]
    how = {"title": title or None, "title_justify": "left", "title_style": "bold"}
    made = Table(*map(str, table), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, **how)
    for row in cells:
        made.add_row(*row)
    out = io.StringIO()
    Console(file=out, width=columns, color_system="auto" if sys.stdout.isatty() else None, highlight=False, markup=False).print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def pairs(given: list[str] | None) -> dict[str, object]:
    """The values of `-p KEY=VALUE`, read as YAML. Raises UserError for one that is no pair, or no YAML."""
    from eai.inputs import yaml_value

    parts = [text.partition("=") for text in given or []]
    if bare := [key for key, equals, _ in parts if not equals]:
        raise UserError(f"-p {bare[0]}", "-p KEY=VALUE")
    return {key: yaml_value(value, f"-p {key}") for key, _, value in parts}


def trace_text(answer: dict) -> str:
    """The energy of a log: the sum with its interval, one line a device, then every warning."""
    whole, within = answer["energy_j"], answer["energy_within_card_j"]
    lines = [f"{amount(whole)} in {answer['duration_s']:.3f} s, status {answer['status']}"]
    if whole.value and within.low is not None:
        lines.append(f"  95 % against the true energy; to compare windows on the same cards: {amount(within)}")
    for row in (*answer["gpus"], *answer["others"]):
        power = f"{row['power_mean_w']:,.1f} W mean, {row['power_min_w']:,.1f} to {row['power_max_w']:,.1f} W"
        who = f"GPU {row['index']}" if row["boundary"] == "gpu" else f"{row['index']} ({row['boundary'].replace('_', ' ')})"
        apart = ", not in the sum" if row in answer["others"] else ""
        joules = f"{row['energy_j']:,.1f}" if row["energy_j"] >= 100 else f"{row['energy_j']:.4g}"
        lines.append(f"  {who}: {joules} J over {row['duration_s']:.3f} s, {power}, {row['samples']} samples{apart}")
    lines.append(f"  {answer['power_field']}; {answer['time']}")
    return "\n".join(lines + [f"  warning: {warning}" for warning in answer["warnings"]])


def measured_text(answer: dict) -> str:
    """What a command used: one line a boundary with its interval and J per token, then status and flags."""
    estimated, lines = " (estimated from CPU time)" if answer["basis"] == "estimated" else "", []
    for boundary, energy in answer["energies_j"].items():
        each = answer["energies_per_token_j"].get(boundary)
        per_token = f", {amount(each).partition(' =')[0]} per token" if each else ""
        lines.append(f"{BOUNDARIES[boundary]}: {amount(energy)}{estimated}{per_token}")
    lines = lines or ["not measured" + (f": {answer['reason']}" if answer["reason"] else "")]
    flags = f", {', '.join(answer['flags'])}" if answer["flags"] else ""
    lines.append(f"{answer['duration_s']:.2f} s, status {answer['status']}{flags}, by {answer['meter']}, exit code {answer['exit_code']}")
    return "\n".join(f"eai: {line}" for line in lines)


def live_gauges(run: Callable, table_of: Callable, quiet: bool) -> list:
    """What `run(show)` returns, shown meanwhile as a table that refreshes where a person looks at the terminal."""
    if quiet or not sys.stdout.isatty():
        return run(None)
    from rich.live import Live

    begin_s = time.monotonic()
    with Live(auto_refresh=False, transient=True) as shown:
        return run(lambda gauges: shown.update(table_of(gauges, time.monotonic() - begin_s), refresh=True))


def amount(energy: Quantity) -> str:
    """Joules as a person reads them: `6,260 J [4,520 to 8,670] = 1.74 Wh`."""
    if energy.value is None:
        return "not measured"
    known = [v for v in (energy.value, energy.low, energy.high) if v is not None]
    value, *ends = (f"{v:,.0f}" if abs(v) >= 1000 else plain(v) for v in known)
    text = f"{value} {energy.unit}" + (f" [{ends[0]} to {ends[1]}]" if ends else "")
    return text + (f" = {plain(energy.value / 3600, 4)} Wh" if energy.unit == "J" else "")


def findings_text(findings: pd.DataFrame, verdicts: Iterable[str]) -> str:
    """Findings or claims whose verdict is one of `verdicts`: id and verdict, the statement, the reason, the rows it rests on."""
    lines = []
    for row in findings[findings["verdict"].isin(list(verdicts))].to_dict("records"):
        lines += [f"{row['verdict']:<13}{row['id']}", f"    {row['claim']}", f"    {row['reason']}"]
        lines += [f"    rows: {row['rows']}"] if row["rows"] else []
    counts = ", ".join(f"{n} {verdict}" for verdict, n in findings["verdict"].value_counts().items())
    return "\n".join([*lines, counts])


def mismatches_text(answer: dict) -> str:
    """What a replay found, at most twenty mismatches."""
    lines = [f"{answer['windows']} windows derived again from their raw readings, {len(answer['mismatches'])} numbers differ"]
    lines += [f"  {m['attempt']} {m['what']}: stored {m['stored']}, derived {m['derived']}" for m in answer["mismatches"][:20]]
    return "\n".join(lines + [f"  note: {note}" for note in answer.get("notes", [])])


def merged_text(answer: dict) -> str:
    """What a merge made: one line a job with its sources, the windows found twice, every warning, and what to do next."""
    jobs, twice = answer["jobs"], f"{answer['found_twice']} found twice and kept once"
    lines = [f"{answer['windows']} windows of {len(jobs)} jobs in {answer['experiment']}, {twice}"]
    lines += [f"  {job['job']}: {job['windows']} windows from {', '.join(job['sources'])}" for job in jobs]
    lines += [f"  warning: {warning}" for warning in answer["warnings"]]
    return "\n".join([*lines, f"next: eai notebook analyze -p experiment={answer['experiment']}"])
