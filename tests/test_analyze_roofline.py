"""The roofline places each phase where arithmetic from the model's shapes puts it, and invents no roof."""

import math

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment

from eai.analyze.roofline import ABOVE, NO_ROOF, Roofs, measured_roofs, roofline
from eai.analyze.selection import select

QWEN = "qwen2.5-7b-instruct"
LAYERS, HIDDEN, KV, MLP, VOCAB, INPUT, OUTPUT = 28, 3584, 512, 18944, 152064, 512, 256
LINEAR = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV + 3 * HIDDEN * MLP)
SMALL = LAYERS * (2 * HIDDEN + HIDDEN + 2 * KV) + HIDDEN  # norms and biases of queries, keys and values
CONTEXT = INPUT + (OUTPUT - 1) / 2
A100_FLOP_S, A100_BYTE_S = 312e12, 1555e9


def selected(batch=1, blocks=4, **columns):
    """One fp16 configuration of Qwen2.5-7B on an A100 with the given columns in its windows."""
    truth = Truth(gpus={"a100_pcie": 1.0}, models={QWEN: 1.0}, quantizations={"fp16": 1.0}, batches={batch: 1.0})
    windows, energies = experiment(truth, blocks, np.random.default_rng(0))
    return select(windows.assign(**columns), energies)


def decode_step(batch):
    """Flops and bytes of a decode step, written out: 2 a weight and token, every weight once, the cache read and one position written."""
    flops = batch * (2 * (LINEAR + VOCAB * HIDDEN) + 4 * LAYERS * HIDDEN * CONTEXT)
    cache = batch * 2 * LAYERS * KV * 2 * (CONTEXT + 1)
    return flops, 2 * (LINEAR + SMALL + VOCAB * HIDDEN + batch * HIDDEN) + cache


@pytest.mark.parametrize("batch", [1, 64])
def test_a_step_at_half_speed_has_half_the_roof(batch):
    flops, moved = decode_step(batch)
    roof_s = max(flops / A100_FLOP_S, moved / A100_BYTE_S)
    table = roofline(selected(batch, ttft_s=1.0, step_time_s=2 * roof_s)).set_index("phase")
    row = table.loc["decode"]
    assert row["intensity_flop_per_byte"] == pytest.approx(flops / moved, rel=1e-9)
    assert row["share_of_roof"] == pytest.approx(0.5, rel=1e-9) and row["bound"] == "memory"
    assert row["achieved_flop_s"] == pytest.approx(flops / (2 * roof_s), rel=1e-9)


def test_a_prefill_is_bound_by_arithmetic():
    flops = 2 * LINEAR * INPUT + 2 * LAYERS * HIDDEN * INPUT * (INPUT + 1) + 2 * VOCAB * HIDDEN
    row = roofline(selected(ttft_s=0.1, step_time_s=0.1)).set_index("phase").loc["prefill"]
    assert (row["achieved_flop_s"], row["bound"]) == (pytest.approx(flops / 0.1, rel=1e-9), "compute")
    assert row["share_of_roof"] == pytest.approx(flops / 0.1 / A100_FLOP_S, rel=1e-9)


def test_the_interval_is_the_t_interval_of_the_blocks():
    times = np.array([0.010, 0.011, 0.012, 0.0105])
    row = roofline(selected(ttft_s=0.1, step_time_s=times)).set_index("phase").loc["decode"]
    half = 3.182446305 * np.log(times).std(ddof=1) / 2  # t(0.975, 3)
    assert math.log(row["share_of_roof_high"] / row["share_of_roof"]) == pytest.approx(half, rel=1e-6)
    assert row["n_blocks"] == 4


def test_without_times_of_the_phases_the_whole_call_stands_for_both():
    chosen = selected()
    row = roofline(chosen).iloc[0]
    flops, moved = decode_step(1)
    prefill = 2 * LINEAR * INPUT + 2 * LAYERS * HIDDEN * INPUT * (INPUT + 1) + 2 * VOCAB * HIDDEN
    call_s = np.exp(np.log(chosen.rows["duration_s"] / 8).mean())
    weights = 2 * (LINEAR + SMALL + 2 * VOCAB * HIDDEN)
    assert row["phase"] == "whole" and row["achieved_flop_s"] == pytest.approx((prefill + 255 * flops) / call_s, rel=1e-9)
    assert row["intensity_flop_per_byte"] == pytest.approx((prefill + 255 * flops) / (weights + 255 * moved), rel=1e-9)


def test_faster_than_the_roof_is_called_wrong():
    moved = decode_step(1)[1]
    table = roofline(selected(ttft_s=1.0, step_time_s=0.5 * moved / A100_BYTE_S)).set_index("phase")
    assert table.loc["decode", "reason"] == ABOVE and table.loc["prefill", "reason"] == ""


def test_a_processor_has_the_roofs_that_its_job_recorded_and_no_other():
    chosen = selected(ttft_s=1.0, step_time_s=1.0)
    rows = chosen.rows.assign(gpu="cpu", quantization="fp32")
    chosen = type(chosen)(rows, chosen.excluded, "cpu_package", "estimated", "gross")
    assert set(roofline(chosen)["reason"]) == {NO_ROOF} and roofline(chosen)["share_of_roof"].isna().all()
    recorded = {"gpu": "cpu", "roofs": {"peak_flop_s": {"float32": 1e11}, "bandwidth_byte_s": 2e10}}
    slower = {"gpu": "cpu", "roofs": {"peak_flop_s": {"float32": 9e10}, "bandwidth_byte_s": 1e10}}
    roofs = measured_roofs([slower, recorded, slower, {"gpu": "cpu"}])
    assert roofs[("cpu", "fp32")] == Roofs(1e11, 2e10) and ("cpu", "bf16") not in roofs
    found = roofline(chosen, roofs)
    assert found["peak_flop_s"].eq(1e11).all() and set(found["basis"]) == {"measured"}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"model": "nobody/knows-it"}, "knows-it"),
        ({"quantization": "unspecified_int8"}, "unspecified_int8"),
        ({"task": "gsm8k"}, "lengths of gsm8k vary"),
        ({"options": '{"kv_cache":false}'}, "without a KV cache"),
    ],
)
def test_what_cannot_be_counted_says_why(columns, reason):
    chosen = selected()
    table = roofline(type(chosen)(chosen.rows.assign(**columns), chosen.excluded, "gpu", "simulated", "gross"))
    assert len(table) == 1 and reason in table["reason"].iloc[0] and pd.isna(table["achieved_flop_s"].iloc[0])


def test_a_simulated_card_has_the_roofs_of_the_card_it_stands_for():
    chosen = selected()
    rows = chosen.rows.assign(gpu="simulated_a100_pcie")
    assert roofline(type(chosen)(rows, chosen.excluded, "gpu", "simulated", "gross"))["peak_flop_s"].tolist() == [A100_FLOP_S]


def test_a_time_below_zero_is_no_time():
    """The step time is a difference: where other work disturbed the first token it can fall below zero."""
    flops, _ = decode_step(1)
    row = roofline(selected(1, ttft_s=1.0, step_time_s=[0.02, -0.01, 0.02, 0.02])).set_index("phase").loc["decode"]
    assert row["n_blocks"] == 3 and row["achieved_flop_s"] == pytest.approx(flops / 0.02)
