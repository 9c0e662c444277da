"""The documentation page of the patterns, generated from what the diagnosis uses: causes, priors, variants, steps to verify."""

import numpy as np

from eai.advise.diagnose.choices import STRATEGY_CHOICES, WORTH
from eai.advise.diagnose.confidence import NAMED
from eai.advise.diagnose.hypotheses import HOST_SD, HOST_W, PRIORS, hypotheses
from eai.advise.diagnose.posterior import CLOSURE_SD
from eai.advise.diagnose.snippets import CAUSES, VERIFY
from eai.advise.parameters import request

HEAD = """# Patterns of the diagnosis

Generated from the code (`eai/advise/diagnose/`). `eai diagnose` compares reported figures with what published rows, campaigns and
predictions expect under every cause below, on the log scale, and normalizes the likelihoods with the priors. A pattern is named from a
probability of {named} on. Energy a token is mean power over throughput, so three figures must agree within about {closure} % or a cause
must say why they do not.

A **fault** makes the figures deviate from the configuration as stated. A **costly choice** is none: the figures are what the
configuration costs, and in sessions that ran both it costs over {worth} % more than another one. A batch of one is named only where the
card's utilisation shows that it waits: one user served at a time is no waste.
"""
COSTLY = (*STRATEGY_CHOICES, "batch_1_waste")
EXAMPLE = {"model": "mistral-7b-instruct-v0.2", "gpu": "a800", "quantization": "int8_pure", "batch_size": 8}


def patterns_page() -> str:
    """The page as Markdown."""
    parts = [HEAD.format(named=NAMED, closure=f"{200 * CLOSURE_SD:.0f}", worth=f"{100 * WORTH:.0f}"), _priors(), "## Patterns\n"]
    return "\n".join([*parts, *(_pattern(name) for name in CAUSES)]).rstrip() + "\n"


def _priors() -> str:
    rows = "\n".join(f"| `{name}` | {p:.3g} | {why} |" for name, (p, why) in PRIORS.items())
    return (
        "## Priors\n\nJudgements, not frequencies; causes that a configuration cannot have are left out, the others scaled to 1.\n"
        f"A host is taken to draw about {HOST_W:.0f} W beside the card, within a factor of {np.exp(1.96 * HOST_SD):.0f} either way.\n\n"
        f"| cause | prior | |\n|---|---|---|\n{rows}\n"
    )


def _pattern(name: str) -> str:
    """One pattern: kind, cause, the variants that are told apart, and how to verify it."""
    kinds = [kind for kind, holds in (("fault", name in PRIORS), ("costly choice", name in COSTLY)) if holds] or ["fault"]
    variants = [f"- {v}" for v in _variants().get(name, [])]
    shown = ["\nVariants:\n", *variants] if variants else []
    steps = ["\nVerify:\n", *(f"- {step}" for step in VERIFY[name])]
    return "\n".join([f"### `{name}` ({' or '.join(kinds)})\n", f"{CAUSES[name][0].upper()}{CAUSES[name][1:]}.", *shown, *steps, ""])


def _variants() -> dict[str, list[str]]:
    """The variants of each cause for a quantized configuration in batches, which has most of them."""
    found: dict[str, list[str]] = {}
    for h in hypotheses(request(**EXAMPLE)):
        if h.variant:
            found.setdefault(h.pattern, []).append(h.variant)
    return found


if __name__ == "__main__":
    print(patterns_page(), end="")
