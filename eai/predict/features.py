"""What one decode step of a configuration must do: the inputs of both models, from shapes and datasheets alone."""

import pandas as pd

from eai import catalog, footprint
from eai.catalog import Gpu, Model

SAME_ENERGY = {"bf16": "fp16", "int8_t0": "int8_pure", "int8_t6": "int8_default"}
LINEARS = {"phi3": 4, "bloom": 4}
DEFAULT_LINEARS = 7


def canonical(quantization: str) -> str:
    """The strategy whose rows stand for this one: bf16 moves and computes what fp16 does, int8_t0 is int8_pure."""
    return SAME_ENERGY.get(quantization, quantization)


def linears_a_layer(model: Model) -> int:
    """Linear modules in one block: 7, or 4 where queries, keys and values (and gate and up) are one matrix.

    A quantized module costs kernel launches of its own, so their number decides what quantization adds to a launch-bound step.
    """
    return LINEARS.get(model.architecture, DEFAULT_LINEARS)


def shape(model: Model) -> str:
    """The model's shape as text: models of one shape (Mistral v0.1, v0.2, v0.3) do the same work and count as one."""
    return f"{model.architecture}-{model.layers}x{model.hidden}x{model.intermediate}"


def features(gpu: Gpu, model: Model, quantization: str, batch_size: int, input_tokens: int, output_tokens: int) -> dict:
    """The features of a configuration: gpu, model shape, canonical strategy, batch, bytes [GB] and flops [GFLOP] a step, roofline [s]."""
    strategy = canonical(quantization)
    parts = footprint.footprint(model, strategy, batch_size, input_tokens, output_tokens)
    return {
        "gpu": gpu.slug,
        "shape": shape(model),
        "quantization": strategy,
        "batch_size": int(batch_size),
        "params": model.params_total,
        "layers": model.layers,
        "modules": model.layers * linears_a_layer(model),
        "step_gb": parts.step_bytes / 1e9,
        "step_gflop": parts.step_flops / 1e9,
        "bandwidth_gb_s": gpu.bandwidth_gb_s,
        "tdp_w": gpu.tdp_w,
        "roofline_s": parts.step_bytes / (gpu.bandwidth_gb_s * 1e9),
    }


def feature_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`features` of every row (gpu, model, quantization, batch_size, input_tokens, output_tokens by name), one row each."""
    columns = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"]
    made = [
        features(catalog.gpu(gpu), catalog.model(model), quantization, batch, tokens_in, tokens_out)
        for gpu, model, quantization, batch, tokens_in, tokens_out in rows[columns].itertuples(index=False)
    ]
    return pd.DataFrame(made, index=rows.index)
