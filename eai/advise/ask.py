"""The questions as the command line asks them: plain options in, a JSON-able answer out."""

from typing import Any

from eai import catalog
from eai.advise.request import Request, request
from eai.errors import UserError


def optimize(**options: Any) -> dict[str, Any]:
    """`eai optimize`: ranked plans. Options as in `request.request`."""
    from eai.advise import optimize as plans
    from eai.advise.evidence import use

    use(options.pop("evidence", None) or [])
    return plans.optimize(_with_model(request(**options)))


def compare(**options: Any) -> dict[str, Any]:
    """`eai compare --model ...`: strategies side by side."""
    from eai.advise import compare as comparison
    from eai.advise.evidence import use

    use(options.pop("evidence", None) or [])
    return comparison.compare(_with_model(request(**options)))


def estimate(**options: Any) -> dict[str, Any]:
    """`eai estimate`: the bill now and optimized; with `other_gpu` and `other_gpu_price` the break-even of two cards."""
    from eai.advise import estimate as bills
    from eai.advise.evidence import use

    use(options.pop("evidence", None) or [])
    other, price = options.pop("other_gpu", None), options.pop("other_gpu_price", None)
    if (other is None) != (price is None):
        raise UserError("one of other_gpu and other_gpu_price", "both, or none", "give --other-gpu and --other-gpu-price")
    asked = request(**options)
    if other is None:
        return bills.estimate(asked)
    card = catalog.nearest_gpu(str(other))[0]
    return bills.estimate(asked, (_with_model(asked).now.with_(gpu=card), float(price)))


def diagnose(**options: Any) -> dict[str, Any]:
    """`eai diagnose`: what reported figures say of a configuration. Options as in `request.request` and `diagnose.FIGURES`."""
    from eai.advise import diagnose as diagnosis

    if "energy_j_per_1k_tok" in options:
        options["energy_j_per_1k"] = options.pop("energy_j_per_1k_tok")
    reported = {name: options.pop(name, None) for name in diagnosis.FIGURES}
    asked = _with_model(request(**options))
    found = diagnosis.figures(reported, asked.output_tokens)
    diagnosis.require_possible(found, asked.now)
    return diagnosis.diagnose(asked, found)


def _with_model(asked: Request) -> Request:
    """The request, if it names a model. Raises UserError otherwise."""
    if asked.now is None:
        raise UserError("no model", "a Hugging Face id or a name of data/catalog/models.csv, or --params-b", "name one with --model")
    return asked


def frame(entries: list[dict]):
    """A ranking or comparison as a data frame: the configuration's columns, and `name`, `name_low`, `name_high` of every quantity.

    `accuracy` and `acceptable` come from the entry's accuracy; lists (evidence, warnings) are joined by "; ".
    """
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
