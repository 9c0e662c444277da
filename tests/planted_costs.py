"""A predictor of a few lines that stands in for the fitted one, so that answers can be checked against hand calculation."""

import numpy as np
import pandas as pd
import pytest

from eai import catalog
from eai.advise import evidence, optimize

BYTES = {"fp16": 2.0, "bf16": 2.0, "fp32": 4.0, "fp8": 1.0, "awq": 0.55, "gptq": 0.55, "nf4": 0.55, "nf4_dq": 0.53, "int8_pure": 1.0}
LAUNCH_S = {"transformers": 0.02, "vllm": 0.004}
FACTOR = 1.3


def seconds_a_step(gpu, row) -> float:
    """Launches, weights over 60 % of the bandwidth, and 20 us a sequence."""
    active_b = row["active_params_b"] if row.get("params_b", np.nan) > 0 else catalog.shape(row["model"]).active_params_b
    moved = active_b * 1e9 * BYTES.get(row["quantization"], 1.0)
    extra = 0.08 if row["quantization"] == "int8_default" else 0.02 if row["quantization"] == "int8_pure" else 0.0
    return (
        LAUNCH_S.get(row["engine"], 0.006) + extra + moved / (0.6 * row["num_gpus"] * gpu.bandwidth_gb_s * 1e9) + 2e-5 * row["batch_size"]
    )


def predict(table: pd.DataFrame, own: list | None = None) -> pd.DataFrame:
    """Energy, power, throughput and time between tokens of every row, each within a factor of 1.3; `tf32` is refused."""
    made = []
    for row in table.to_dict("records"):
        gpu = catalog.gpu(row["gpu"])
        t = seconds_a_step(gpu, row)
        watts = gpu.tdp_w * row["num_gpus"] * min(0.9, 0.45 + 0.06 * np.log2(row["batch_size"]))
        values = {
            "energy_j_per_token": watts * t / row["batch_size"],
            "power_w": watts,
            "throughput_tok_s": row["batch_size"] / t,
            "itl_s": t,
        }
        one = {"kind": "new_card", "calibrated": "", "remark": ""}
        one["reason"] = "strategy tf32 was never measured" if row["quantization"] == "tf32" else ""
        for name, value in values.items():
            value = np.nan if one["reason"] else value
            one |= {name: value, f"{name}_low": value / FACTOR, f"{name}_high": value * FACTOR}
        made.append(one)
    return pd.DataFrame(made, index=table.index)


@pytest.fixture
def planted(monkeypatch):
    """The stand-in predictor, and no rows beside it."""
    empty = evidence.rows().head(0)
    monkeypatch.setattr(evidence, "predict", predict)
    monkeypatch.setattr(evidence, "rows", lambda: empty)
    monkeypatch.setattr(evidence, "by_key", dict)
    monkeypatch.setattr(evidence, "session_spread", lambda: (0.1, 8))
    monkeypatch.setattr(optimize, "session_spread", lambda: (0.1, 8))
    evidence._seen.clear()
    optimize.searched.cache_clear()
    yield
    evidence._seen.clear()
    optimize.searched.cache_clear()
