"""The questions as the command line asks them: plain options in, a JSON-able answer out."""

from typing import Any

from eai.advise.compare import compare as _compare
from eai.advise.estimate import estimate as _estimate
from eai.advise.optimize import optimize as _optimize
from eai.advise.parameters import request


def optimize(**options: Any) -> dict:
    """`eai optimize`: the ranking of configurations. Options as in `parameters.request`."""
    return _optimize(request(**options))


def compare(**options: Any) -> dict:
    """`eai compare --model ...`: strategies side by side."""
    return _compare(request(**options))


def estimate(**options: Any) -> dict:
    """`eai estimate`: the monthly bill now and optimized."""
    return _estimate(request(**options))
