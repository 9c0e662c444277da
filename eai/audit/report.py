"""The audit's report as Markdown text, and the documentation page of its rules."""

from eai.audit import rules
from eai.audit.finding import CRITICAL_PCT, WARNING_PCT, Rule

_FENCE = {"python": "python", "config": "yaml", "shell": "sh"}
_HEADINGS = {"critical": "Critical issues", "warning": "Warnings", "info": "Without a number, or below 10 %"}


def _waste_text(waste: dict | None) -> str:
    """`57.0 [28.6, 62.7] % of the energy (published: ...)`, or that no number is known."""
    if waste is None:
        return "expected waste: no number is known, measure it"
    numbers = f"{waste['value']:.0f} [{waste['low']:.0f}, {waste['high']:.0f}] {waste['unit']}"
    return f"expected waste: {numbers} ({waste['basis']}: {waste['note']})"


def _finding_text(finding: dict) -> str:
    """One finding as a list item: place, rule, message, waste, fix."""
    cell = f" cell {finding['cell']}" if finding["cell"] else ""
    place = f"{finding['path']}{cell}:{finding['line']}"
    return f"- {place}: {finding['message']} [{finding['rule']}]\n  {_waste_text(finding['expected_waste'])}\n  fix: {finding['fix']}"


def markdown(report: dict) -> str:
    """The report of `audit` as Markdown: issues by severity, good practices, what was skipped."""
    lines = [f"{report['files']} files: " + ", ".join(f"{n} {s}" for s, n in report["counts"].items())]
    for severity, heading in _HEADINGS.items():
        found = [f for f in report["findings"] if f["severity"] == severity]
        lines += ["", f"## {heading}", *map(_finding_text, found)] if found else []
    if report["good_practices"]:
        lines += ["", "## Good practices", *(f"- {p['path']}:{p['line']}: {p['practice']}" for p in report["good_practices"])]
    if report["skipped"]:
        lines += ["", "## Skipped", *(f"- {s['path']}: {s['reason']}" for s in report["skipped"])]
    return "\n".join(lines) + "\n"


def _rule_text(rule: Rule) -> str:
    """One rule as a section: why, what it hits, what it leaves alone."""
    fence = _FENCE[rule.kind]
    examples = [f"{says}:\n\n```{fence}\n{code}```" for says, code in (("Found", rule.hit), ("Left alone", rule.miss))]
    return "\n\n".join([f"### `{rule.slug}`: {rule.title}", rule.why, *examples]) + "\n"


def rules_page() -> str:
    """The documentation of all rules as Markdown, by what they look at."""
    head = (
        "# Rules of the audit\n\n"
        "Generated from the rules themselves (`eai/audit/rules/`). Severity follows from the expected waste: critical above "
        f"{CRITICAL_PCT:.0f} %, warning from {WARNING_PCT:.0f} %, else info; info as well where no number is known. Waste is the share "
        "of the energy spent that the fix would save, or the share by which a measured figure is wrong. Files are read, never imported "
        "or run.\n"
    )
    titles = {"python": "Python and notebooks", "config": "JSON and YAML", "shell": "Command lines"}
    parts = [head]
    for kind, title in titles.items():
        parts += [f"\n## {title}\n", *(_rule_text(r) for r in rules.ALL if r.kind == kind)]
    return "\n".join(parts)


if __name__ == "__main__":
    print(rules_page(), end="")
