"""The audit of files and folders: every rule on every file, collected into one report.

Rules are data (`rules/*.yaml`): what options must hold (`when`), where to point (`at`), message, fix, the waste to compute, and examples
that are hit and missed, which are their tests and their documentation. What no option shows is a check in Python of the same name.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from eai.audit import deployments, evidence
from eai.audit import subjects as files
from eai.audit.checks import CHECKS
from eai.audit.code import Code
from eai.audit.evidence import Evidence, Waste
from eai.audit.subjects import NAMES, RULES, Option, Subject, Unit, Unreadable, meets
from eai.errors import UserError

GROUPS = NAMES["groups"]
"""File of rules -> its title."""
FAILED = "the audit itself failed on it"
_ORDER = {"critical": 0, "warning": 1, "info": 2}
_PRACTICES = yaml.safe_load((RULES / "practices.yaml").read_text())  # word that must occur, pattern, text


@dataclass(frozen=True)
class Rule:
    """One rule as its file gives it. `ids`: its name for each place (`code` for a check); `decided`: nothing is said of an open choice."""

    group: str
    ids: dict[str, str]
    title: str
    why: str
    message: str
    fix: str
    hit: list[dict[str, str]]
    miss: list[dict[str, str]]
    when: list[dict] = field(default_factory=list)
    at: list[str] = field(default_factory=list)
    waste: str | None = None
    number_if: dict = field(default_factory=dict)
    decided: bool = False


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of its files. Raises TypeError for a field that no rule has."""
    found = []
    for group in GROUPS:
        for raw in yaml.safe_load((RULES / f"{group}.yaml").read_text()):
            name, places = raw.pop("id", None), [p for w in raw.get("when", ()) for p in np.atleast_1d(w["place"])]
            ids = raw.pop("ids", None) or dict.fromkeys(["code"] if raw.pop("check", False) else map(str, places), name)
            found.append(Rule(group, ids, **raw))
    return tuple(found)


@dataclass(frozen=True)
class Finding:
    """One place that wastes energy or measures it wrongly; `line` counts inside the notebook cell where `cell` is not None."""

    path: str
    line: int
    rule: str
    message: str
    fix: str
    waste: Waste | None = None
    cell: int | None = None

    def to_json(self) -> dict:
        """The finding as the command line prints it with --json."""
        head = {"path": self.path, "line": self.line, "cell": self.cell, "rule": self.rule, "severity": evidence.severity(self.waste)}
        return {**head, "message": self.message, "expected_waste": self.waste.to_json() if self.waste else None, "fix": self.fix}


class _View(dict):
    """What a message may name: a subject's options, then its properties."""

    def __missing__(self, name: str) -> object:
        subject = self["subject"]
        value = subject.gpu if name == "card" else subject.get(name)
        return getattr(subject, name, "") if value is None else value


def _of_subject(subject: Subject, known: Evidence, code: Code | None) -> Iterator[tuple[Rule, str, int, str, Waste | None]]:
    """(rule, its name, line, message, waste) of each rule that a subject meets; a choice that the file does not decide has no number."""

    def holds(conditions: dict) -> bool:
        return all(meets(subject.get(name), wanted, subject.is_open) for name, wanted in conditions.items())

    for rule in rules() if not subject.facts.get("trains") else ():
        if subject.place not in rule.ids or not any(holds(w) for w in rule.when):
            continue
        at = next((n for n in rule.at if n in subject.options), "")
        option = subject.options.get(at, Option(None, subject.line))
        is_open = at in subject.facts.get("chosen", ()) or (code is not None and option.node is not None and code.is_option(option.node))
        if is_open and rule.decided:
            continue
        message, waste = rule.message.format_map(_View(subject=subject)), None
        if is_open:
            message += ", in a choice that this file does not decide"
        elif rule.waste and subject.decodes_on_gpu and holds(rule.number_if):
            waste = evidence.of_rule(rule.waste, subject, known)
        yield rule, rule.ids[subject.place], option.line, message, waste


def findings_of(unit: Unit, known: Evidence) -> list[Finding]:
    """What the rules find in one unit, by line; in a test without numbers. Raises Unreadable if it does not parse."""
    code = Code(unit) if unit.kind in ("python", "notebook") else None
    subjects = code.subjects if code else deployments.subjects(unit)
    found = [hit for s in subjects for hit in _of_subject(s, known, code)]
    for rule in rules() if code is not None else ():
        if name := rule.ids.get("code"):
            found += [(rule, name, hit.line, rule.message.format_map(hit.values), hit.waste) for hit in CHECKS[name](code, known)]
    unique: dict[tuple, Finding] = {}
    for rule, name, at, message, waste in found:
        line, cell = unit.where(at)
        message, waste = (f"{message}, in a test", None) if unit.is_test else (message, waste)
        kept = unique.get((name, cell, line))
        if kept is None or (kept.waste is None and waste is not None):
            unique[name, cell, line] = Finding(unit.path, line, name, message, rule.fix, waste, cell)
    return sorted(unique.values(), key=lambda f: (f.cell or 0, f.line, f.rule))


def good_practices(unit: Unit) -> list[dict]:
    """One `{path, line, cell, practice}` for each practice found in the code of a unit, at its first line; comments do not count."""
    found = []
    for row in _PRACTICES:
        starts = (m.start() for m in re.finditer(row["pattern"], unit.text if row["word"] in unit.text else "", re.MULTILINE))
        start = next((s for s in starts if "#" not in unit.text[unit.text.rfind("\n", 0, s) + 1 : s]), None)
        if start is not None:
            line, cell = unit.where(unit.text.count("\n", 0, start) + 1)
            found.append({"path": unit.path, "line": line, "cell": cell, "practice": row["text"]})
    return found


def audit(paths: Iterable[str | Path]) -> dict:
    """The report on files and folders: `{findings, good_practices, skipped, counts, files, read, concerned}`, the worst finding first.

    `files`: how many there are; `read`: how many could be read; `concerned`: how many of those speak of inference. Raises UserError for a
    path that does not exist, and where there is no file to audit."""
    known, paths = Evidence(), list(paths)
    findings, practices, skipped, count, read, concerned = [], [], [], 0, 0, 0
    for path in files.find(paths):
        count += 1
        try:
            if unit := files.read(path):
                findings += [f.to_json() for f in findings_of(unit, known)]
                practices += good_practices(unit)
                cells = ((unit.where(at)[1], reason) for at, reason in unit.unread)
                skipped += [{"path": f"{path} cell {cell}", "reason": f"does not parse: {reason}"} for cell, reason in cells]
                concerned += 1
            read += 1
        except Unreadable as reason:
            skipped.append({"path": str(path), "reason": str(reason)})
        except RecursionError:
            skipped.append({"path": str(path), "reason": "nested too deeply to be followed"})
        except Exception as error:  # one file that no one foresaw must not hide the findings in all others
            skipped.append({"path": str(path), "reason": f"{FAILED} ({type(error).__name__}: {str(error)[:80]})"})
    if count == 0:
        found = f"nothing to audit in {', '.join(map(str, paths)) or 'no path'}"
        raise UserError(found, f"files of {files.READS}", "name a folder that holds some")

    def order(f: dict) -> tuple:
        waste = f["expected_waste"] or {"value": 0}
        return _ORDER[f["severity"]], -waste["value"], f["path"], f["cell"] or 0, f["line"], f["rule"]

    findings.sort(key=order)
    counts = {s: sum(f["severity"] == s for f in findings) for s in _ORDER}
    numbers = {"counts": counts, "files": count, "read": read, "concerned": concerned}
    return {"findings": findings, "good_practices": practices, "skipped": skipped} | numbers
