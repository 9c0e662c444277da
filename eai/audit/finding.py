"""What the audit says: findings with their expected waste, good practices, and the registry of rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

CRITICAL_PCT = 30.0
WARNING_PCT = 10.0
ENERGY = "% of the energy"
FIGURE = "% of the figure"


@dataclass(frozen=True)
class Waste:
    """Expected waste: the share [%] of the energy spent that the fix would save, or by which a measured figure is wrong.

    `basis`: published (ratios of published rows, `rows` names them), computed (bytes and flops of a roofline) or estimate
    (assumptions stated in `note`).
    """

    value: float
    low: float
    high: float
    basis: str
    note: str
    rows: tuple[str, ...] = ()
    unit: str = ENERGY

    def to_json(self) -> dict:
        """A quantity `{value, low, high, unit}` with its basis, note, and the rows behind it."""
        numbers = {"value": round(self.value, 1), "low": round(self.low, 1), "high": round(self.high, 1)}
        return {**numbers, "unit": self.unit, "basis": self.basis, "note": self.note, "rows": list(self.rows)}


def severity(waste: Waste | None) -> str:
    """critical above 30 %, warning from 10 %, else info; info too where no number stands behind the finding."""
    if waste is None or waste.value < WARNING_PCT:
        return "info"
    return "critical" if waste.value > CRITICAL_PCT else "warning"


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
        head = {"path": self.path, "line": self.line, "cell": self.cell, "rule": self.rule, "severity": severity(self.waste)}
        return {**head, "message": self.message, "expected_waste": self.waste.to_json() if self.waste else None, "fix": self.fix}


@dataclass(frozen=True)
class Hit:
    """What a rule returns: where, what, how to repair it, and the expected waste (None: no number is known)."""

    line: int
    message: str
    fix: str
    waste: Waste | None = None


@dataclass(frozen=True)
class Rule:
    """One check: a slug, what it looks at (python | config | shell), why it matters, an example that it hits and one that it misses."""

    slug: str
    kind: str
    title: str
    why: str
    hit: str
    miss: str
    check: Callable[..., Iterator[Hit]] = field(repr=False)


RULES: dict[str, Rule] = {}


def rule(slug: str, kind: str, title: str, hit: str, miss: str):
    """Decorator that registers a check; its docstring is the `why` of the rule's documentation.

    Raises ValueError if the slug is taken.
    """

    def register(check):
        if slug in RULES:
            raise ValueError(f"two rules are called {slug}")
        RULES[slug] = Rule(slug, kind, title, " ".join((check.__doc__ or "").split()), hit.strip() + "\n", miss.strip() + "\n", check)
        return check

    return register
