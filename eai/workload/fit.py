"""Whether a configuration can fit in the device's free memory, told before anything is loaded.

Only what is certain counts: stored weights, and keys and values of every position. A configuration beyond that is not tried; one
that may fail on its activations is, and a real out-of-memory error is a row like any other.
"""

from typing import Any

from eai import catalog, footprint
from eai.errors import UserError
from eai.settings import Configuration
from eai.workload import memory, random_weights


class DoesNotFit(UserError):
    """A configuration that needs more memory than there is: becomes a row with status `oom`, and the sweep goes on."""


def shapes(model: str, config: Any = None) -> catalog.Model | None:
    """The model's shapes from the catalog, else from its configuration; None where the family's layout is not known."""
    try:
        return catalog.model(model)
    except UserError:
        pass
    try:
        return footprint.from_config((config or random_weights.config(model)).to_dict(), model)
    except (UserError, KeyError, ZeroDivisionError):
        return None


def needed_bytes(model: catalog.Model, c: Configuration) -> float:
    """Bytes that the configuration certainly needs: weights, and the KV cache at its last token if it keeps one."""
    cached = c.input_tokens + c.output_tokens if c.options.get("kv_cache", True) else 0
    return footprint.weight_bytes(model, c.quantization) + footprint.kv_cache_bytes(model, cached, c.batch_size, c.quantization)


def check(model: catalog.Model | None, c: Configuration, device: str) -> None:
    """Nothing, if the configuration may fit or cannot be judged. Raises DoesNotFit if it certainly does not."""
    free_gb = memory.free_gb(device)
    if model is None or free_gb is None:
        return
    needed_gb = needed_bytes(model, c) / 1e9
    if needed_gb > free_gb:
        place = "memory" if device == "cpu" else f"memory on {device}"
        raise DoesNotFit(
            f"{c.model} in {c.quantization} at batch {c.batch_size} needs at least {needed_gb:.1f} GB for weights and KV cache",
            f"at most {free_gb:.1f} GB, the free {place}",
            "choose a smaller model, batch or format; nothing was loaded",
        )
