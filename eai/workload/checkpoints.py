"""Checkpoints that come quantized (GPTQ, AWQ): what they say they are, checked against what was asked for before anything is loaded."""

from typing import Any

from eai.errors import UserError
from eai.strategies import Strategy
from eai.workload.formats import PUBLISHED_ONLY


def declared(config: Any) -> dict | None:
    """The checkpoint's own `quantization_config` as a dict, or None for a checkpoint that is not quantized."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    return dict(found) if isinstance(found, dict) else found.to_dict()


def _bits(quantization: dict) -> int | None:
    """Bits a weight as the checkpoint states them: `bits` (GPTQ, AWQ) or `w_bit` (AWQ's own files)."""
    found = quantization.get("bits", quantization.get("w_bit"))
    return None if found is None else int(found)


def describe(quantization: dict) -> str:
    """The checkpoint's format in a few words: `gptq, 4 bit, group 128`."""
    method = str(quantization.get("quant_method", "unknown")).lower()
    group = quantization.get("group_size", quantization.get("q_group_size"))
    return f"{method}, {_bits(quantization)} bit" + (f", group {group}" if group is not None else "")


def check(model: str, config: Any, strategy: Strategy) -> None:
    """Nothing, if the checkpoint is in the format that the strategy names.

    Raises UserError if a quantized checkpoint is asked for under another name (it would be measured as what it is not), or the
    other way round, or if it stores another number of bits.
    """
    quantization = declared(config)
    if quantization is None:
        if strategy.slug in PUBLISHED_ONLY:
            raise UserError(
                f"asked for {strategy.slug}, but '{model}' is not a quantized checkpoint", f"a {strategy.slug.upper()} checkpoint"
            )
        return
    method = str(quantization.get("quant_method", "unknown")).lower()
    if method != strategy.slug:
        raise UserError(
            f"asked for {strategy.slug}, but '{model}' is already quantized ({describe(quantization)})",
            "a checkpoint in 16 or 32 bit",
            f"ask for {method}, or give the original model" if method in PUBLISHED_ONLY else "give the original model",
        )
    if _bits(quantization) != strategy.weight_bits:
        raise UserError(
            f"asked for {strategy.slug}, but '{model}' says {describe(quantization)}", f"{strategy.weight_bits:g} bit", "give another one"
        )
