"""The questions as the command line asks them: plain options in, a JSON-able answer out."""

from typing import Any

from eai.advise.compare import compare as _compare
from eai.advise.diagnose.answer import diagnose as _diagnose
from eai.advise.diagnose.figures import FIGURES, figures, require_possible
from eai.advise.estimate import estimate as _estimate
from eai.advise.optimize import optimize as _optimize
from eai.advise.ownership import OWNING, owned
from eai.advise.parameters import request


def optimize(**options: Any) -> dict:
    """`eai optimize`: the ranking of configurations. Options as in `parameters.request`."""
    return _optimize(request(**options))


def compare(**options: Any) -> dict:
    """`eai compare --model ...`: strategies side by side."""
    return _compare(request(**options))


def estimate(**options: Any) -> dict:
    """`eai estimate`: the monthly bill now and optimized; with a card's price also its ownership, with another card's the break-even.

    `ownership` and `break_even` are None where not asked for. Raises UserError for an option of owning without the price it belongs to.
    """
    owning = {name: options.pop(name, None) for name in OWNING}
    asked = request(**options)
    return _estimate(asked) | owned(asked, owning)


def diagnose(**options: Any) -> dict:
    """`eai diagnose`: what reported figures say of a configuration. Options as in `parameters.request` and `figures.FIGURES`.

    Raises UserError for figures that no such card can show.
    """
    if "energy_j_per_1k_tok" in options:
        options["energy_j_per_1k"] = options.pop("energy_j_per_1k_tok")
    reported = {name: options.pop(name, None) for name in FIGURES}
    asked = request(**options)
    found = figures(reported, asked.output_tokens)
    require_possible(found, asked.gpu)
    return _diagnose(asked, found)
