"""The questions as the command line asks them: plain options in (as in `eai.advise.options`), a JSON-able answer out."""

from typing import Any

from eai import catalog
from eai.advise.evidence import use
from eai.advise.options import ALIASES, FIGURES, OPTIONS
from eai.advise.request import Request, request
from eai.errors import UserError


def optimize(**options: Any) -> dict[str, Any]:
    """`eai optimize`: ranked plans."""
    from eai.advise.optimize import optimize as answer

    return answer(_asked(options))


def compare(**options: Any) -> dict[str, Any]:
    """`eai compare --model ...`: strategies side by side."""
    from eai.advise.compare import compare as answer

    return answer(_asked(options))


def estimate(**options: Any) -> dict[str, Any]:
    """`eai estimate`: the bill now and optimized; with `other_gpu` and `other_gpu_price` the break-even of two cards."""
    from eai.advise.estimate import estimate as answer

    other, price = options.pop("other_gpu", None), options.pop("other_gpu_price", None)
    if (other is None) != (price is None):
        raise UserError("one of other_gpu and other_gpu_price", "both, or none", "give --other-gpu and --other-gpu-price")
    asked = _asked(options, of_a_model=other is not None)
    return answer(asked, other and (asked.now.with_(gpu=catalog.nearest_gpu(str(other))[0]), float(price)))


def diagnose(**options: Any) -> dict[str, Any]:
    """`eai diagnose`: what reported figures say of a configuration."""
    from eai.advise import diagnose as diagnosis

    options = {ALIASES.get(name, name): value for name, value in options.items()}
    reported = {name: options.pop(name, None) for name in FIGURES}
    asked = _asked(options)
    found = diagnosis.figures(reported, asked.output_tokens)
    diagnosis.require_possible(found, asked.now)
    return diagnosis.diagnose(asked, found)


def _asked(options: dict[str, Any], of_a_model: bool = True) -> Request:
    """The request, with the user's experiments among the evidence. Raises UserError where it must name a model and names none."""
    use(options.pop("evidence", None) or [])
    asked = request(**options)
    if of_a_model and asked.now is None:
        raise UserError("no model", OPTIONS["model"].expected, "name one with --model")
    return asked


def frame(entries: list[dict]):
    """A ranking or comparison as a data frame: configuration, `name`, `name_low`, `name_high` of each quantity; lists joined by "; "."""
    import pandas as pd

    def flat(entry: dict) -> dict:
        row: dict = dict(entry.get("configuration", {}))
        for name, value in entry.items():
            if name == "accuracy":
                row |= {"accuracy": value["status"], "acceptable": value["acceptable"], "accuracy_note": value["note"]}
            elif isinstance(value, dict) and "unit" in value:
                row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
            elif name != "configuration" and not isinstance(value, dict):
                row[name] = "; ".join(map(str, value)) if isinstance(value, list) else value
        return row

    return pd.DataFrame([flat(e) for e in entries])
