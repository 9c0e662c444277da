"""The command `eai audit`: its report for a person, and the documentation page of its rules."""

import os
from typing import Annotated

import typer

from eai.terminal import Json, emit

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_FENCE = {"shell": "sh", "modelfile": "dockerfile", "json": "json"}
_MOST = 10
_HEADINGS = {"critical": "Critical: above 30 %", "warning": "Warnings: 10 to 30 %", "info": "Without a number, or below 10 %"}


def audit(
    paths: Annotated[list[str], typer.Argument(metavar="PATH ...", help="Code, notebooks, configurations, or folders.")],
    as_json: Json = False,
) -> None:
    """Finds waste in inference code and deployments without running them. Exit 1 on a critical finding, 2 if nothing could be read."""
    from eai.audit import run

    answer = run.audit(paths)
    emit(answer, as_json, "" if as_json else text(answer))
    if answer["counts"]["critical"]:
        raise typer.Exit(1)
    if answer["skipped"] and not answer["read"]:
        raise typer.Exit(2)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("audit")(audit)


def _base(report: dict) -> str:
    """The folder that all places have in common, empty where it would save nothing; places are shown below it."""
    paths = {f["path"] for f in report["findings"]} | {p["path"] for p in report["good_practices"]}
    folders = {os.path.dirname(p) for p in paths}
    base = os.path.commonpath(folders) if folders and len({os.path.isabs(f) for f in folders}) == 1 else ""
    return base + os.sep if base and base != os.sep else ""


def _place(row: dict, base: str) -> str:
    """`path:line`, or `path cell n:line` in a notebook."""
    return f"{row['path'].removeprefix(base)}{' cell ' + str(row['cell']) if row['cell'] else ''}:{row['line']}"


def _waste(waste: dict | None) -> str:
    """`57 % [29 to 63]`, or a dash."""
    return f"{waste['value']:.0f} % [{waste['low']:.0f} to {waste['high']:.0f}]" if waste else "-"


def headline(report: dict) -> str:
    """The answer in one or two lines: counts, the worst waste, and what was not read."""
    counts = report["counts"]
    if report["skipped"] and not report["read"]:
        first = report["skipped"][0]
        return f"Nothing was checked. {first['path']}: {first['reason']}."
    found = ", ".join(f"{n} {severity}" for severity, n in counts.items() if n) or "no finding"
    line = f"{found} in {report['files']} {'file' if report['files'] == 1 else 'files'}, {report['concerned']} about inference"
    worst = next((f for f in report["findings"] if f["expected_waste"]), None)
    if worst and worst["severity"] != "info":
        waste = worst["expected_waste"]
        line += f". Worst: {waste['value']:.0f} {waste['unit']}, {worst['rule']} at {_place(worst, _base(report))}"
    if report["skipped"]:
        line += f". Not read: {len(report['skipped'])}"
    return line + "."


def text(report: dict, width: int | None = None) -> str:
    """The report as plain text of a width [columns; None: the terminal's, at most 140]."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    base, parts = _base(report), [Text(headline(report), style="bold")]
    if report["findings"]:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("severity", no_wrap=True)
        table.add_column("waste", no_wrap=True)
        table.add_column("rule", overflow="fold")
        table.add_column(f"where, in {base}" if base else "where", overflow="fold")
        for f in report["findings"]:
            table.add_row(Text(f["severity"], style=_STYLES[f["severity"]]), _waste(f["expected_waste"]), f["rule"], Text(_place(f, base)))
        parts += [Text(), table]
    alike: dict[tuple, list[dict]] = {}
    for f in report["findings"]:
        alike.setdefault((f["severity"], f["rule"], f["message"], _waste(f["expected_waste"]), f["fix"]), []).append(f)
    before = ""
    for (severity, rule, message, number, fix), found in alike.items():
        if severity != before:
            parts += [Text(), Text(_HEADINGS[severity], style=_STYLES[severity])]
        before, waste = severity, found[0]["expected_waste"]
        if waste:
            number += f" {waste['unit'].removeprefix('% ')}, {waste['basis']}: {waste['note']}"
        places = ", ".join(_place(f, base) for f in found)
        details = f"{places}\nwaste: {number if waste else 'not known, measure it'}\nfix: {fix}"
        parts += [Text(f"{rule}: {message}"), Padding(Text(details), (0, 0, 0, 4))]
    for key, title, what in (("good_practices", "Good practices", "practice"), ("skipped", "Not read", "reason")):
        rows = [f"{_place(r, base) if 'line' in r else r['path']}: {r[what]}" for r in report[key]]
        if rows and (len(rows) > 1 or report["read"]):
            rest = [f"and {len(rows) - _MOST} more (--json lists them)"] if len(rows) > _MOST else []
            parts += [Text(), Text(title, style="bold"), *map(Text, rows[:_MOST] + rest)]
    console = Console(width=width or min(Console().width, 140), highlight=False)
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def rules_page() -> str:
    """The documentation of all rules as Markdown, by group."""
    from eai.audit.evidence import CRITICAL_PCT, WARNING_PCT
    from eai.audit.run import GROUPS, rules

    head = (
        "# Rules of the audit\n\n"
        "Generated from the rules (`eai/audit/rules/`). Severity follows from the expected waste, computed for the model and "
        f"card that the file names: critical above {CRITICAL_PCT:.0f} %, warning from {WARNING_PCT:.0f} %, else info; info as well where "
        "no number is known. Waste is the share of the energy spent that the fix would save, or by which a measured figure is wrong. "
        "Files are read, never imported or run.\n"
    )
    parts = [head]
    for group, title in GROUPS.items():
        parts.append(f"\n## {title}\n")
        for rule in (r for r in rules() if r.group == group):  # why, what it says, what it hits, what it leaves alone
            names = ", ".join(f"`{name}`" for name in dict.fromkeys(rule.ids.values()))
            lines = [f"### {rule.title}", names, " ".join(rule.why.split()), f"Fix: {rule.fix}."]
            for says, examples in (("Found", rule.hit), ("Left alone", rule.miss)):
                blocks = [f"```{_FENCE.get(kind, kind)}\n{code.rstrip()}\n```" for example in examples for kind, code in example.items()]
                lines.append(f"{says}:\n\n" + "\n\n".join(blocks))
            parts.append("\n\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(rules_page(), end="")
