"""The audit of files and folders: every rule on every file, collected into one report."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from eai.audit import evidence as numbers
from eai.audit import files, rules
from eai.audit.code import Code
from eai.audit.configs import Config
from eai.audit.evidence import Evidence
from eai.audit.files import Unit, Unreadable
from eai.audit.finding import Finding, Rule
from eai.audit.practices import good_practices
from eai.audit.rules.servers import Command, commands

_ORDER = {"critical": 0, "warning": 1, "info": 2}
_RUNNERS = {"run", "Popen", "check_output", "check_call", "call", "system", "getoutput"}


def _of_kind(kind: str) -> list[Rule]:
    """The registered rules that look at `kind`."""
    return [r for r in rules.ALL if r.kind == kind]


def _shell_of_code(code: Code) -> Iterator[Command]:
    """Command lines that Python code runs through subprocess or os.system, and a notebook's `!` lines."""
    for call in code.calls:
        if call.last in _RUNNERS and call.args:
            given = call.args[0]
            words = " ".join(str(w) for w in given) if isinstance(given, list) else given
            if isinstance(words, str):
                yield from (Command(c.text, call.node.lineno) for c in commands(words))
    if code.unit.kind == "notebook":
        for number, line in enumerate(code.unit.text.splitlines(), start=1):
            if match := re.match(r"\s*#\s*!(.*)", line):
                yield from (Command(c.text, number) for c in commands(match[1]))


def _subjects(unit: Unit) -> Iterator[tuple[str, object]]:
    """(kind of rule, what it is given) of a unit. Raises Unreadable if it does not parse."""
    if unit.kind in ("python", "notebook"):
        code = Code(unit)
        if not code.is_relevant:
            return
        yield "python", code
        yield from (("shell", c) for c in _shell_of_code(code))
    elif unit.kind == "config":
        config = Config(unit)
        yield "config", config
        yield from (("shell", Command(c.text, line)) for text, line in config.commands for c in commands(text))
    else:
        yield from (("shell", c) for c in commands(unit.text))


def findings_of(unit: Unit, evidence: Evidence) -> list[Finding]:
    """What the rules find in one unit, in the order of its lines. Raises Unreadable if it does not parse.

    A test exercises the wasteful path on purpose and on a small scale: its findings carry no number.
    """
    found = []
    for kind, subject in _subjects(unit):
        for rule in _of_kind(kind):
            for hit in rule.check(subject, evidence):
                line, cell = unit.where(hit.line)
                message, waste = (f"{hit.message}, in a test", None) if unit.is_test else (hit.message, hit.waste)
                found.append(Finding(unit.path, line, rule.slug, message, hit.fix, waste, cell))
    unique = {(f.rule, f.cell, f.line): f for f in found}
    return sorted(unique.values(), key=lambda f: (f.cell or 0, f.line, f.rule))


def audit(paths: Iterable[str | Path], published: pd.DataFrame | None = None) -> dict:
    """The report on files and folders: `{findings, good_practices, skipped, counts, files}`, the most wasteful finding first.

    `findings`: `{path, line, cell, rule, severity, message, expected_waste, fix}`; `skipped`: `{path, reason}` of what could not be read;
    `files`: how many were looked at. `published` replaces the published rows as evidence. Raises UserError for a path that does not exist.
    """
    evidence = Evidence(numbers.published() if published is None else published)
    findings, practices, skipped, count = [], [], [], 0
    for path in files.find(list(paths)):
        count += 1
        try:
            unit = files.read(path)
            if unit is not None:
                findings += findings_of(unit, evidence)
                practices += good_practices(unit)
        except Unreadable as reason:
            skipped.append({"path": str(path), "reason": str(reason)})
        except RecursionError:
            skipped.append({"path": str(path), "reason": "nested too deeply to be followed"})
    rows = sorted((f.to_json() for f in findings), key=lambda f: (_ORDER[f["severity"]], f["path"], f["cell"] or 0, f["line"], f["rule"]))
    counts = {s: sum(f["severity"] == s for f in rows) for s in _ORDER}
    return {"findings": rows, "good_practices": practices, "skipped": skipped, "counts": counts, "files": count}
