"""Advice on deployments: what to run on which card, what it costs, what goes wrong.

commands    the questions as Python asks them and as the command line does, with the options below (options.toml)
request     what is asked, validated: model, workload, limits, site, and a set of cards
evidence    what a configuration is expected to cost: a row, else a prediction; its accuracy; what to type to run and to verify it
month       a month of a service: queueing and cards needed, electricity, rent or ownership, carbon of the whole life
optimize    a workload -> ranked plans over card, number, engine, precision and concurrency
compare     strategies side by side, with paradoxes and crossing sizes; the bill now and optimized, by lever
diagnose    reported figures -> causes with level and fixes (causes.toml: the patterns)
experiment  every configuration of an experiment diagnosed; two experiments: shown worse, shown not worse, or undecided
page        an answer as Markdown, for a terminal or as HTML (folder templates: one an answer), and its chart
"""

import math
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eai.errors import UserError

_READ = tomllib.loads(Path(__file__).with_name("options.toml").read_text())
DEFAULTS, QUESTIONS, _UNLESS = (_READ.pop(name) for name in ("defaults", "questions", "unless_named"))
"""Option -> (what is taken where it is not given, why)."""


def _option(o: dict) -> SimpleNamespace:
    return SimpleNamespace(**_UNLESS["any"] | (_UNLESS["count"] if o.get("kind") == "int" else {}) | o)


GROUPS = {group: {name: _option(o) for name, o in each.items()} for group, each in _READ.items()}
FIGURES = GROUPS["own"] | GROUPS["figures"]
OF = {question: {name: o for g in each["options"] for name, o in GROUPS[g].items()} for question, each in QUESTIONS.items()}
"""Question -> its options."""
OPTIONS = {name: o for each in GROUPS.values() for name, o in each.items()}
ALIASES = {flag.lstrip("-").replace("-", "_"): name for name, o in OPTIONS.items() for flag in o.flags}
ALIASES["energy_j_per_1k_tok"] = "energy_j_per_1k"


def checked(name: str, value: Any) -> Any:
    """The value as the option's kind: a number in its range, one of its choices. Raises UserError, one line, for another."""
    o, text, unit = OPTIONS[name], str(value).strip(), 1.0
    if o.choices and value not in o.choices:
        raise UserError(f"{name} '{value}'", f"one of {', '.join(o.choices)}", f"correct {name}")
    if name == "power_budget_w" and (found := re.fullmatch(r"([\d.]+)\s*(k|M)?W", text)):
        text, unit = found[1], {"k": 1e3, "M": 1e6, None: 1.0}[found[2]]
    elif o.kind in ("str", "list") and name != "power_budget_w":
        return value
    try:
        number = float(text) * unit
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and o.low <= number <= o.high and (o.kind != "int" or number.is_integer())):
        raise UserError(f"{name} {value}", o.expected, f"correct {name}")
    return int(number) if o.kind == "int" else number
