"""Predictions of any configuration: the contract, physics that no fit may break, errors from groups left out, the user's own rows."""

import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from eai import catalog, paths, strategies
from eai.errors import UserError
from eai.predict import evidence, physics, predict, predictor, sources, stated_errors, work
from eai.quantity import Quantity

sys.path.append(str(paths.ROOT / "benchmarks"))
prediction = importlib.import_module("prediction")
QUANTITIES = ("energy_j_per_token", "power_w", "throughput_tok_s", "itl_s")
LLAMA, MISTRAL = "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-7B-v0.1"


def ask(**columns) -> pd.DataFrame:
    """The predictions of a table given by columns, every scalar repeated."""
    n = max(len(v) for v in columns.values() if isinstance(v, list)) if any(isinstance(v, list) for v in columns.values()) else 1
    return predict(pd.DataFrame({k: v if isinstance(v, list) else [v] * n for k, v in columns.items()}))


def energy(**columns) -> np.ndarray:
    found = ask(**columns)
    assert (found["reason"] == "").all(), found["reason"].tolist()
    return found["energy_j_per_token"].to_numpy()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return sources.learned()


ORDINARY = [
    *({"gpu": "H100", "model": LLAMA, "quantization": q, "engine": "vllm", "batch_size": b} for q in ("bf16", "fp8") for b in (8, 64, 256)),
    *({"gpu": "H100", "model": "acme/New-70B", "quantization": "bf16", "engine": "vllm", "num_gpus": n, "batch_size": 32} for n in (2, 4)),
    {"gpu": "H100", "model": "acme/New-30B-A3B", "quantization": "bf16", "engine": "vllm", "batch_size": 64},
    *({"gpu": g, "model": LLAMA, "quantization": "gguf_q4_k_m", "engine": "llama.cpp"} for g in ("orin", "RTX 3090", "4060 Ti", "m2 max")),
    *({"gpu": g, "model": MISTRAL, "quantization": "fp16", "batch_size": 4} for g in ("T4", "L4", "L40S", "V100", "MI300X", "B200")),
    *({"gpu": "A100 PCIe 80GB", "model": MISTRAL, "quantization": q, "batch_size": 8} for q in ("fp16", "nf4", "int8_default")),
    *({"gpu": "H100", "params_b": 30, "active_params_b": 3, "layers": 48, "quantization": q, "engine": "sglang"} for q in ("fp8", "awq")),
]  # fmt: skip


def test_nothing_ordinary_is_refused_and_every_answer_has_an_interval():
    found = predict(pd.DataFrame(ORDINARY))
    assert (found["reason"] == "").all(), found["reason"].tolist()
    assert set(found["kind"]) <= set(predictor.KINDS) and {"known", "new_card", "new_engine", "new_model"} <= set(found["kind"])
    for name in QUANTITIES:
        assert (found[f"{name}_low"] > 0).all() and found[f"{name}_high"].notna().all()
        assert ((found[f"{name}_low"] <= found[name]) & (found[name] <= found[f"{name}_high"])).all(), name
    product = found["power_w"] / found["throughput_tok_s"]
    assert np.allclose(product, found["energy_j_per_token"])


def test_power_stays_between_idle_and_the_boards_limits():
    found = predict(pd.DataFrame(ORDINARY))
    limit = found["num_gpus"].fillna(1) * [catalog.gpu(g).tdp_w for g in found["gpu"]]
    idle = predictor._model()[0].power.constants["idle"][[work.memory_kind(catalog.gpu(g)) for g in found["gpu"]]]
    assert (found["power_w_low"] >= np.minimum(idle * limit, found["power_w"]) * (1 - 1e-9)).all()
    assert (
        (found["power_w"] <= limit * (1 + 1e-9)).all()
        and (found["power_w_high"] <= limit * (1 + 1e-9)).all()
        and (found["power_w_low"] >= 0.03 * limit).all()
    )


def test_what_is_refused_says_why():
    table = pd.DataFrame(
        [
            {"gpu": "t4", "model": "acme/New-70B", "quantization": "fp16"},
            {"gpu": "banana", "model": LLAMA, "quantization": "fp16"},
            {"gpu": "h100", "model": "acme/nameless", "quantization": "fp16"},
            {"gpu": "h100", "model": LLAMA, "quantization": "int5"},
            {"gpu": "h100", "model": LLAMA, "quantization": "fp16", "engine": "banana"},
            {"gpu": "h100", "model": LLAMA, "quantization": "fp16", "batch_size": -1},
            {"gpu": "a100", "model": LLAMA, "quantization": "int8_wo_affine"},
            {"gpu": "v100", "model": LLAMA, "quantization": "fp8", "engine": "vllm"},
            {"gpu": "mi250x", "model": LLAMA, "quantization": "fp8", "engine": "vllm"},
        ]
    )
    found = predict(table)
    expected = (
        "do not fit",
        "unknown gpu",
        "no size",
        "unknown quant",
        "unknown engine",
        "count",
        "nearest is int8_pure",
        *("unpack FP8 weights",) * 2,
    )
    for reason, words in zip(found["reason"], expected, strict=True):
        assert words in reason, reason
    assert found[list(QUANTITIES)].isna().all(axis=None)
    with pytest.raises(UserError, match="without a column gpu"):
        predict(pd.DataFrame({"model": [LLAMA]}))


def test_a_format_that_nobody_names_is_the_published_one():
    """gpt-oss in MXFP4, DeepSeek-R1 in FP8 by blocks, what a checkpoint's name or config.json says, Q4_K_M of llama.cpp, else 16 bits."""
    asked = [
        ("openai/gpt-oss-120b", "vllm", "mxfp4"), ("openai/gpt-oss-20b", None, "mxfp4"), ("openai/gpt-oss-20b", "ollama", "gguf_mxfp4"),
        ("deepseek-ai/DeepSeek-R1-0528", "sglang", "fp8_block"), ("Qwen/Qwen3-32B-AWQ", "vllm", "awq"), ("acme/New-8B-FP8", "vllm", "fp8"),
        (LLAMA, "llama.cpp", "gguf_q4_k_m"), (LLAMA, "vllm", "bf16"), ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "vllm", "bf16"),
        ("google/gemma-3n-E4B-it", "vllm", "bf16"),
    ]  # fmt: skip
    table = pd.DataFrame([{"gpu": "h200", "num_gpus": 8, "model": m, "engine": e, "batch_size": 16} for m, e, _ in asked])
    found, named = predict(table), predict(table.assign(quantization=[q for *_, q in asked]))
    assert (found["reason"] == "").all(), found["reason"].tolist()
    assert found["remark"].tolist() == [f"no format named: taken as {q}" for *_, q in asked] and (named["remark"] == "").all()
    assert np.allclose(found["energy_j_per_token"], named["energy_j_per_token"])
    as_fp8 = predict(table[3:4].assign(quantization="fp8"))
    assert as_fp8["energy_j_per_token"].item() == found["energy_j_per_token"][3], "its FP8 is by blocks"
    config = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 128_256}
    quantized = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    assert [catalog.shape_of_config(config | more, "x").published for more in ({}, quantized)] == ["", "fp8_block"]


def test_fp8_without_fp8_products_is_its_weights_alone():
    """vLLM on Ampere and Turing: half the bytes, unpacked to 16 bits, so faster at batch 1 and no faster at 256 than bf16; said so."""
    a100 = ask(gpu="a100", model=LLAMA, quantization=["bf16", "fp8"] * 2, engine="vllm", batch_size=[1, 1, 256, 256])
    rate = a100["throughput_tok_s"].to_numpy()
    assert 1.2 < rate[1] / rate[0] < 2 and 0.7 < rate[3] / rate[2] < 1.05
    assert a100["kind"][1] == "new_engine" and "weights alone" in a100["remark"][1] and a100["remark"][0] == ""
    own = work.of({"gpu": "l40s", "model": LLAMA, "quantization": "fp8", "engine": "vllm"})
    assert own["kernel"] == "fp8" and own["remark"] == "" and own["peak_gflop_s"] == 1e3 * catalog.gpu("l40s").fp8_tflops


def test_a_larger_vocabulary_takes_longer_to_sample():
    """256 x 131,072 logits sorted as PyTorch does: 3.8 ms on a card of 3.35 TB/s (vllm pull 32558), within a factor of two."""
    k = physics.Fitted.from_json(predictor.document()["time"]).constants
    row = work.of({"gpu": "h100", "model": LLAMA, "quantization": "bf16", "engine": "vllm", "batch_size": 256})
    rows = pd.DataFrame([row | {"vocab": v} for v in (0.0, 131_072.0)])
    none, sorted_ = physics.step_parts(k, physics.Arrays(rows))["itl"]
    assert 1.9e-3 < sorted_ - none < 7.6e-3


def test_a_thousand_rows_take_less_than_five_seconds():
    table = pd.DataFrame([ORDINARY[i % len(ORDINARY)] | {"input_tokens": 100 + i} for i in range(1000)])
    predict(table[:1])
    begun = time.process_time()
    assert len(predict(table)) == 1000 and time.process_time() - begun < 5


def test_equal_silicon_equal_answer():
    a100, a800 = energy(gpu=["a100_sxm_80gb", "a800_sxm_80gb"], model=MISTRAL, quantization="fp16", batch_size=4)
    assert a100 == pytest.approx(a800)


def test_the_card_is_in_the_energy():
    found = ask(gpu=["h200", "v100", "t4", "l4"], model=MISTRAL, quantization="fp16", engine="vllm", batch_size=8)
    assert found["energy_j_per_token"].nunique() == 4 and found["throughput_tok_s"].max() / found["throughput_tok_s"].min() > 5


def test_fewer_bytes_are_never_slower_where_the_memory_decides():
    gguf = ["gguf_q4_k_m", "gguf_q5_k_m", "gguf_q6_k", "gguf_q8_0", "gguf_f16"]
    speed = ask(gpu="rtx3090", model=LLAMA, quantization=gguf, engine="llama.cpp")["throughput_tok_s"].to_numpy()
    assert (np.diff(speed) < 0).all()
    width = [work.bits(q)[0] for q in gguf]
    assert (np.diff(width) > 0).all()


def test_a_batch_never_costs_more_a_token_on_a_server_and_a_longer_answer_never_less_a_request():
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256]
    for card in ("h100", "l40s", "a100", "rtx4090"):
        joules = energy(gpu=card, model=LLAMA, quantization="fp8", engine="vllm", batch_size=batches, output_tokens=256)
        assert (np.diff(joules) < 0).all(), card
    lengths = [32, 64, 128, 256, 512, 1024]
    per_request = energy(gpu="h100", model=LLAMA, quantization="bf16", engine="vllm", batch_size=16, output_tokens=lengths) * lengths
    assert (np.diff(per_request) > 0).all()


def test_bitsandbytes_as_published():
    """NF4 costs 3 to 5 times FP16 at batch 4 to 16 on an A100 and int8_default about twice (JouleBench, energy-bench); dq more than nf4."""
    at = lambda q, b: energy(gpu="a100_pcie_80gb", model=LLAMA, quantization=q, batch_size=b)[0]  # noqa: E731
    for batch in (4, 8, 16):
        assert 2.8 < at("nf4", batch) / at("fp16", batch) < 5.5
        assert 1.6 < at("int8_default", batch) / at("fp16", batch) < 3.2
    assert 0.8 < at("nf4", 1) / at("fp16", 1) < 1.3
    assert at("nf4_dq", 1) >= at("nf4", 1) and at("nf4_dq", 8) >= at("nf4", 8)
    small, large = (energy(gpu="rtx4090d", model=m, quantization=["nf4", "fp16"]) for m in ("Qwen2-1.5B", "Qwen2-7B"))
    assert small[0] > small[1] and large[0] < large[1], "NF4 saves at batch 1 from some size up (EcoCompute, RTX 4090 D)"


def test_a_step_is_never_faster_than_the_memory():
    found = predict(pd.DataFrame(ORDINARY))
    done, _ = work.table(pd.DataFrame(ORDINARY))
    roof = (done["dense_gb"] + done["expert_gb"]) / done["n"] / done["bandwidth_gb_s"]
    assert (found["itl_s"] > roof).all()


def test_the_physics_by_hand(rows):
    """One served step, one GPU, a dense model: the formula of the docstring written out with the fitted constants."""
    fit = physics.Fitted.from_json(predictor.document()["time"])
    k, row = fit.constants, work.of({"gpu": "l40s", "model": LLAMA, "quantization": "bf16", "engine": "vllm", "batch_size": 16})
    e = work.ENGINES.index("vllm")
    shape = catalog.shape(LLAMA)
    cache = 16 * 2 * 2 * 32 * 8 * 128 * (256 + 128) / 1e9
    memory = (shape.params_b * 2 / k["memory"][e] + cache / k["cache"][e]) / 864
    flops = 16 * (2 * shape.params_b + 4 * 32 * 32 * 128 * (256 + 128) / 1e9)
    sampled = k["logits"][0] * 128_256 / 864e9
    itl = 32 * k["lay"][e] + k["fix"][e] + np.hypot(memory, flops / k["compute"][e] / 362e3) + 16 * (k["seq"][e] + sampled)
    step = itl + (2 * shape.params_b + 2 * 32 * 32 * 128 * 256 / 1e9) * 16 / k["prefill"][e] / 362e3
    said = physics.step_parts(k, physics.Arrays(pd.DataFrame([row])))
    assert said["itl"][0] == pytest.approx(itl, rel=1e-6) and said["step"][0] == pytest.approx(step, rel=1e-6)


def test_copies_of_the_cache_and_the_busiest_expert_are_in_the_step():
    """transformers: eleven times Mistral's cache in the memory's time. vLLM: the experts of the GPU that got most tokens."""
    k = physics.Fitted.from_json(predictor.document()["time"]).constants
    long = {"gpu": "a100_pcie_80gb", "model": MISTRAL, "quantization": "fp16", "batch_size": 8, "input_tokens": 4096}
    row = work.of(long | {"engine": "transformers"})
    parts = physics.step_parts(k, physics.Arrays(pd.DataFrame([row])))
    memory = (row["dense_gb"] / k["memory"][0] + 11 * row["cache_gb"] / k["cache"][0]) / row["bandwidth_gb_s"]
    busy = memory + row["gflop"] / k["compute"][0] / row["peak_gflop_s"]
    prefill = row["prefill_gflop"] / k["prefill"][0] / row["peak_gflop_s"]
    assert parts["gpu"][0] == pytest.approx(busy + prefill, rel=1e-6)
    row = work.of({"gpu": "h100_sxm", "model": "mistralai/Mixtral-8x7B-v0.1", "quantization": "bf16", "engine": "vllm", "num_gpus": 2})
    assert row["expert_parallel"] == 2
    even, uneven = (physics.step_parts(k, physics.Arrays(pd.DataFrame([row | {"imbalance": i}]))) for i in (1.0, 1.5))
    e, rate = work.ENGINES.index("vllm"), 2 * row["bandwidth_gb_s"]
    compute = row["gflop"] / k["compute"][e] / (2 * row["peak_gflop_s"])
    memory, half_more = (
        even["gpu"][0] - (even["step"] - even["itl"])[0] - compute,
        row["expert_gb"] / k["experts"][0] / k["memory"][e] / rate / 2,
    )
    assert (uneven["itl"] - even["itl"])[0] == pytest.approx(np.hypot(memory + half_more, compute) - np.hypot(memory, compute), rel=1e-6)
    for quantization, parallel in (("mxfp4", 1), ("bf16", 2)):
        at = {"gpu": "h100_sxm", "model": "openai/gpt-oss-20b", "engine": "vllm", "num_gpus": 2}
        assert work.of(at | {"quantization": quantization})["expert_parallel"] == parallel


def test_priors_hold_a_constant_that_no_row_decides_to_about_a_factor_of_two():
    """The median of their standard deviations is log 2; none lets a constant wander by more than a factor of e, or pins it within 10 %."""
    for table in (physics.TIME, physics.POWER):
        sds = np.array([sd for _, _, sd in table.values()])
        assert (sds > 0.1).all() and (sds < 1).all() and 0.3 < np.median(sds) < 0.8


def test_constants_are_recovered_from_steps_that_they_made(rows):
    """Times simulated from known constants, with 3 % noise, give the constants back where the rows decide them."""
    true = physics.Fitted.from_json(predictor.document()["time"])
    bare = rows.assign(step_s=physics.step_parts(true.constants, physics.Arrays(rows))["step"])
    bare["step_s"] *= np.exp(0.03 * np.random.default_rng(1).standard_normal(len(bare)))
    found = physics.fit(bare, "time").constants
    for name, entry in (("lay", 0), ("memory", 1), ("seq", 1), ("seq", 2), ("modules", 0), ("dequantize", 0)):
        assert found[name][entry] == pytest.approx(true.constants[name][entry], rel=0.15), name


def test_evidence_is_one_tidy_table():
    found = evidence()
    assert list(found) == list(sources.COLUMNS)
    assert {"vllm", "transformers", "llama.cpp", "tensorrt-llm"} <= set(found["engine"]) and len(found) > 1500
    assert {"fp8", "mxfp4", "nf4", "gguf_q4_k_m"} <= set(found["quantization"]) and found["num_gpus"].max() == 16
    assert found["row"].is_unique and (found["accounting"] == "gross").all()
    boards = found[found["boundary"] == "gpu"].dropna(subset=["power_w"])
    limit = boards["num_gpus"] * boards["gpu"].map(lambda g: catalog.gpu(g).tdp_w)
    assert (boards["power_w"] <= 1.05 * limit).all()


def test_what_breaks_the_physics_is_kept_and_not_learned_from(rows):
    table = evidence()
    for words in ("offloaded", "fused", "speculative", "Raspberry", "MaxQ"):
        assert table["doubt"].str.contains(words).any(), words
    full = sources.evidence(extras=True)
    broken = full["doubt"].str.contains("offloaded|without a fused|speculative|MaxQ")
    assert not full.loc[broken, "learned"].any() and (~full["learned"].astype(bool)).sum() < 350
    slow = full["doubt"].str.contains("Raspberry")
    assert full.loc[slow & full["learned"].astype(bool), "board_w"].notna().all() and (rows["vague"] == 2).sum() == 11, (
        "for their power alone"
    )
    keys = ["source", "session", "gpu", "model", "engine", "throughput_tok_s", "energy_j_per_token"]
    twice = full[full["energy_j_per_token"].notna() & full.duplicated(keys)]
    assert len(twice) == 10 and twice["doubt"].str.contains("same run filed under another").all() and not twice["learned"].any()
    limit = rows["tdp_w"] * rows["n"]
    assert (rows["power_w"] < limit)[rows["vague"] == 2].all()
    assert (rows["step_s"] > (rows["dense_gb"] + rows["expert_gb"]) / rows["n"] / rows["bandwidth_gb_s"]).mean() > 0.99


def test_half_widths_count_groups_alike():
    """Ninety small errors of one group and one large of another: each group is half of the evidence."""
    errors = pd.DataFrame({"group": ["a"] * 90 + ["b"], "energy": [0.1] * 90 + [1.0]})
    assert prediction.quantile(errors, "energy", 0.4) == 0.1 and prediction.quantile(errors, "energy", 0.9) == 1.0


def test_the_form_is_chosen_by_rows_inside_the_fold(rows, monkeypatch):
    """Two forms, one right and one three times off: the right one is chosen, and the rows left out are in no fit that chooses."""
    out = next(o for kind, _, o in prediction.folds(rows) if kind == "new_card")
    seen = []

    class Fixed:
        def __init__(self, train, off=0.0):
            self.off = off
            seen.append(set(train.index))

        def log_predictions(self, work):
            rate, watts = np.log(rows.loc[work.index, "throughput_tok_s"]), np.log(rows.loc[work.index, "power_w"])
            return pd.DataFrame({"energy": watts - rate + self.off, "throughput": rate, "power": watts})

    monkeypatch.setattr(prediction, "FORMS", {"wrong": lambda train: Fixed(train, 1.1), "right": Fixed})
    assert prediction.choice(rows[~out]) == "right" and seen
    assert not set().union(*seen) & set(rows.index[out])


def test_who_knows_less_has_the_wider_interval():
    sd = pd.Series([0.1, 0.5, 0.1, 0.5, 0.1, 0.5, 0.1])
    kind = pd.Series(["known", "known", "new_model", "new_model", "new_card", "new_card", "new_engine"])
    half = predictor.half_width(stated_errors(), kind, "energy", sd)
    assert half[0] < half[1] and half[2] < half[3] and half[0] < half[2] < half[4] and half[6] >= half[2]
    found = ask(gpu=["h100_sxm", "mi300x"], model=MISTRAL, quantization="fp16", engine="transformers", batch_size=1)
    wide = found["throughput_tok_s_high"] / found["throughput_tok_s_low"]
    busy = ask(gpu="t4", model=MISTRAL, quantization="fp16", engine="transformers", batch_size=1)
    assert (wide > 1.3 * (busy["throughput_tok_s_high"] / busy["throughput_tok_s_low"])[0]).all(), "a launch-bound step hangs on its host"


def test_one_card_at_a_time_for_engines_that_split_layers():
    """llama.cpp on two cards: the speed of one, and the second card idles (llama.cpp, split mode layer; accelerate's device_map)."""
    one, two = (ask(gpu="rtx3090", model=LLAMA, quantization="gguf_q4_k_m", engine="llama.cpp", num_gpus=n).iloc[0] for n in (1, 2))
    assert two["throughput_tok_s"] == pytest.approx(one["throughput_tok_s"])
    assert one["power_w"] < two["power_w"] < 1.3 * one["power_w"]
    one, two = (ask(gpu="l40s", model=LLAMA, quantization="bf16", engine="vllm", num_gpus=n).iloc[0] for n in (1, 2))
    assert two["throughput_tok_s"] > 1.2 * one["throughput_tok_s"]


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """3,000 random questions over the whole catalog that are answered, with the board's limit `limit_w` and the work of each."""
    rng, n = np.random.default_rng(7), 3000
    cards = [g.slug for g in catalog.gpus() if g.tdp_w]
    models = ["meta-llama/Llama-3.1-70B-Instruct", LLAMA, MISTRAL, "gpt2", "acme/New-30B-A3B", "acme/Tiny-0.5B", "openai/gpt-oss-20b"]
    formats = [*strategies.STRATEGIES, *strategies.SERVED, *(f"gguf_{k}" for k in strategies.GGUF_MIXTURES | strategies.GGUF_BITS)]
    formats = [f for f in formats if f not in work.UNMEASURED]
    engines = np.array(["vllm", "transformers", "llama.cpp", "sglang", None], object)
    columns = {"gpu": cards, "model": models, "quantization": formats, "engine": engines, "num_gpus": [1, 1, 2, 8]}
    table = pd.DataFrame({name: rng.choice(np.array(values, object), n) for name, values in columns.items()})
    table["batch_size"] = np.round(2 ** rng.uniform(0, 10, n))
    table["input_tokens"], table["output_tokens"] = np.round(2 ** rng.uniform(0, 15, n)), np.round(2 ** rng.uniform(3, 13, n))
    found = predict(table)
    refused = found["reason"] != ""
    assert found.loc[refused, "reason"].str.contains("do not fit|unpack FP8").all() and refused.mean() < 0.35
    done, _ = work.table(table[~refused])
    return found[~refused].join(done[["dense_gb", "expert_gb", "gflop", "peak_gflop_s", "bandwidth_gb_s", "tdp_w"]])


def test_no_answer_of_the_whole_catalog_is_absurd(many):
    n = many["num_gpus"].astype(float)
    for name in QUANTITIES:
        value, low, high = many[name], many[f"{name}_low"], many[f"{name}_high"]
        assert (np.isfinite(value) & (low > 0) & (low <= value) & (value <= high)).all(), name
        assert (high / low).max() < 20, name
    assert (many["power_w_high"] <= n * many["tdp_w"] * (1 + 1e-9)).all()
    memory = (many["dense_gb"] + many["expert_gb"]) / n / many["bandwidth_gb_s"]
    assert (many["itl_s"] > memory).all() and (many["itl_s"] > many["gflop"] / n / many["peak_gflop_s"]).all()


@pytest.mark.parametrize("column", ["batch_size", "output_tokens", "num_gpus"])
def test_more_sequences_or_cards_are_never_slower_and_longer_answers_never_cost_less(many, column):
    """Twice of each, everything else alike: throughput of a batch and of more cards of a server rises, the energy of a longer answer too.

    Not bitsandbytes from one sequence on: with two it expands the weights (its cliff). Not small models on more cards: they wait for links.
    """
    served, plain = many["engine"].isin(["vllm", "sglang"]), ~many["quantization"].str.contains("nf4|fp4|int8|dynamic|gguf")
    large = many["model"].isin(["meta-llama/Llama-3.1-70B-Instruct", LLAMA]) & (many["batch_size"] < 64)
    some = {"num_gpus": served & plain & large & (many["num_gpus"] < 8), "batch_size": plain | (many["batch_size"] > 1)}.get(column)
    some = many if some is None else many[some]
    asked = some[["gpu", "model", "quantization", "engine", "num_gpus", "batch_size", "input_tokens", "output_tokens"]]
    twice = predict(asked.assign(**{column: asked[column].astype(float) * 2}))
    fits = twice["reason"] == ""  # twice the cache need not
    some, twice = some[fits], twice[fits]
    name, least = ("energy_j_per_token", 0.5) if column == "output_tokens" else ("throughput_tok_s", 1.0)
    assert len(some) > 10 and (twice[name] > least * some[name]).all(), some[twice[name] <= least * some[name]].head()


def test_the_machine_at_the_wall():
    """MLPerf's servers: eight H200 under a limit of 500 W draw 6,150 to 6,280 W at the wall, 2,460 to 2,550 W idle (75 W per card)."""
    h200 = catalog.gpu("h200_sxm")
    loaded = predictor.wall(h200, 8, Quantity(8 * 500.0, 8 * 450.0, 8 * 500.0, "W"))
    idle = predictor.wall(h200, 8, Quantity(8 * 75.0, 8 * 60.0, 8 * 90.0, "W"))
    assert loaded.low < 6150 < loaded.high and loaded.value == pytest.approx(6215, rel=0.05)
    assert idle.low < 2500 < idle.high and idle.value == pytest.approx(2500, rel=0.1)
    assert predictor.wall(catalog.gpu("m4"), 1, Quantity(18.0, unit="W")).value < 40, "a Mac mini (30 W at the wall)"
    beside = predictor.wall(catalog.gpu("m4"), 1, Quantity(0.0, unit="W"))
    assert (beside.value, beside.low, beside.high) == pytest.approx((8 / 0.9, 4 / 0.9, 16 / 0.9)), "8 W, half to double"
    pairs = np.log([30.3 + 12, 21.7 + 12, 48.4 + 12, 66.7 + 12, 106.5 + 12, 36.4 + 12])  # PC less Raspberry Pi: 3060 (3), 4090, A4000 (2)
    value, low, high = sources.rest_of_pc_w()
    assert value == pytest.approx(np.exp(pairs.mean()), rel=1e-3)
    assert high / value == pytest.approx(value / low) == pytest.approx(np.exp(2.571 * pairs.std(ddof=1) * np.sqrt(7 / 6)), rel=1e-3)


def test_physical_facts_of_formats():
    """Four bits are fastest at batch 1 and slower at 256 on a server; autocast is slower than the FP32 weights that it converts each step;
    fp8 of a small dense model is faster than bf16; no step exceeds nine tenths of the bandwidth."""
    rate = lambda q, b, **more: ask(gpu="a100", model=LLAMA, quantization=q, batch_size=b, **more)["throughput_tok_s"][0]  # noqa: E731
    gain = [rate("awq", b, engine="vllm") / rate("bf16", b, engine="vllm") for b in (1, 16, 256)]
    assert gain[0] > 1.5 and gain[0] > gain[1] > 1 > gain[2]
    assert rate("fp16_mixed", 1) < rate("fp32", 1) < rate("fp16", 1)
    h100 = ask(gpu="h100", model=LLAMA, quantization=["bf16", "fp8"], engine="vllm", batch_size=1)["throughput_tok_s"]
    assert 1.05 < h100[1] / h100[0] < 2
    l4 = work.of({"gpu": "l4", "model": LLAMA, "quantization": "bf16", "engine": "vllm"})
    assert ask(gpu="l4", model=LLAMA, quantization="bf16", engine="vllm")["itl_s"][0] >= (l4["dense_gb"] + l4["cache_gb"]) / 0.9 / 300


def test_the_cache_that_transformers_copies_is_in_the_power():
    """Contexts of 4,096 tokens draw 217 to 291 W of an A100 (energy-bench), those of 256 143 to 173 W; Mistral's four heads a key and value
    head are read, appended, read, written out and read again: 3 + 2 x 4 times the cache."""
    for batch, short_w, long_w in ((1, 143.3, 217.3), (4, 151.0, 271.6), (8, 173.2, 290.6)):
        at = {"gpu": "a100_pcie_80gb", "model": MISTRAL, "quantization": "fp16", "batch_size": batch, "output_tokens": 128}
        found = ask(**at, input_tokens=[256, 4096])
        assert (found["power_w_low"] < [short_w, long_w]).all() and (found["power_w_high"] > [short_w, long_w]).all()
    done = work.of(at | {"input_tokens": 4096})
    assert done["copies"] == 11
    fit = physics.Fitted.from_json(predictor.document()["power"])
    once, copied = (physics.power_share(fit.constants, physics.Arrays(pd.DataFrame([done | {"copies": c}])), 0.1, 0.05)[0] for c in (1, 11))
    assert copied > 1.1 * once


def test_coverage_of_a_group_is_by_the_errors_of_the_others(rows, monkeypatch):
    """Three rows of a group with small errors and one of a group with large ones: the first are covered, the last is not."""
    errors = pd.DataFrame({"kind": "known", "group": list("aaab"), "sd_energy": 0.1, "energy": [0.01, -0.02, 0.03, 0.5]})
    errors = errors.assign(**{f"{p}{t}": np.nan for t in ("throughput", "power", "itl") for p in ("", "sd_")})
    assert prediction.stated(errors)["known"]["energy"]["coverage"] == 0.75
    one = ("model", "m", np.zeros(len(rows), bool))
    monkeypatch.setattr(prediction, "folds", lambda _: [one])
    monkeypatch.setattr(prediction, "errors_of", lambda rows, fold, form: pd.DataFrame({"energy": [0.0], "form": [form]}))
    assert [prediction.fold_errors(rows, form)["form"][0] for form in ("ridge", {"model m": "nearest"}, {})] == [
        "ridge",
        "nearest",
        "physics",
    ]


def test_folds_leave_whole_groups_out(rows):
    made = prediction.folds(rows)
    for kind, group, out in made:
        assert 0 < out.sum() < len(rows), (kind, group)
        if kind == "new_model":
            assert not set(rows.loc[out, "family"]) & set(rows.loc[~out, "family"])
        if kind == "new_engine":
            assert not set(rows.loc[out, "engine"]) & set(rows.loc[~out, "engine"])
    assert {k for k, _, _ in made} == {"known", "session", "new_model", "new_card", "new_engine"}
    joined = prediction.folds(rows, prediction.INNER)
    assert len(joined) == sum(prediction.INNER.values())
    families = [out for kind, _, out in joined if kind == "new_model"]
    assert (np.sum(families, axis=0) == 1).all(), "every family is left out once"


def test_stated_errors_are_those_of_folds_and_the_physics_beats_the_baselines(rows):
    """One fold computed here against the stated document's kind: a card left out, by an independent sum."""
    stated = stated_errors()
    assert list(stated) == list(predictor.KINDS)
    assert 0.93 <= stated["known"]["energy"]["coverage"] <= 0.98 and stated["known"]["energy"]["width"] < 2.5
    assert all(stated[kind]["energy"]["coverage"] >= 0.93 and stated[kind]["energy"]["width"] < 2.5 for kind in predictor.KINDS)
    out = (rows["gpu"] == "a800_sxm_80gb").to_numpy()
    size = {}
    for form, make in (prediction.FORMS | {b.__name__: b for b in prediction.BASELINES}).items():
        said = make(rows[~out]).log_predictions(rows[out])["energy"]
        size[form] = float(np.median(np.abs(said - np.log(rows.loc[out, "power_w"] / rows.loc[out, "throughput_tok_s"]))))
    assert size["physics"] < 0.2 and all(size["physics"] < size[b] for b in ("LogLinear", "Nearest", "Trees")), size


def test_own_measurements_sharpen_the_predictions_of_ones_card(rows, monkeypatch):
    """Half of the RTX 5090's rows as the user's own, the model fitted without that card: the other half is predicted better."""
    strange = rows["gpu"] == "rtx5090"
    fit, kernels = physics.Fit.to(rows[~strange]), predictor.document()["kernels"]
    monkeypatch.setattr(predictor, "_model", lambda: (fit, set(), {("rtx5090", "llama.cpp")}, {tuple(k) for k in kernels}))
    full = sources.evidence(extras=True)
    mine = full[(full["gpu"] == "rtx5090") & (full["engine"] == "transformers") & full["learned"].astype(bool)]
    own, rest = mine.iloc[::2], mine.iloc[1::2]
    monkeypatch.setattr(sources, "evidence", lambda *_, **__: own.assign(basis="measured"))
    measured = rest["energy_j_per_token"].to_numpy(float)
    columns = [c for c in work.COLUMNS if c in rest]
    plain, sharp = predict(rest[columns]), predict(rest[columns], evidence=["my-experiment"])
    error = lambda p: float(np.median(np.abs(np.log(p["energy_j_per_token"].to_numpy() / measured))))  # noqa: E731
    assert error(sharp) < 0.6 * error(plain) and error(sharp) < 0.2
    assert set(sharp["kind"]) <= {"known", "new_model"} and (plain["kind"] == "new_card").all()
    width = lambda p: float((p["energy_j_per_token_high"] / p["energy_j_per_token_low"]).median())  # noqa: E731
    assert width(sharp) < 0.8 * width(plain) and (plain["calibrated"] == "").all()
    assert sharp["calibrated"].str.match(r"7 own rows: step x 0\.\d\d, power x ").all(), sharp["calibrated"].tolist()
    other = own[columns].assign(gpu="rtx4090d")
    assert predict(other, evidence=["my-experiment"]).equals(predict(other)), "another card learns nothing from them, whatever the format"


def test_edited_evidence_is_fitted_anew_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_CACHE", str(tmp_path))
    monkeypatch.setattr(predictor, "digest", lambda: "0" * 16)
    calls = []
    monkeypatch.setattr(predictor, "fitted", lambda rows, form: calls.append(1) or {"digest": "0" * 16, "rows": 3})
    predictor.document.cache_clear()
    try:
        assert predictor.document()["rows"] == 3 and "stated" in predictor.document()
        predictor.document.cache_clear()
        assert predictor.document()["rows"] == 3 and calls == [1]
    finally:
        predictor.document.cache_clear()


def test_the_shipped_constants_belong_to_the_evidence():
    """data/predictor.json was written for these rows, this catalog and this physics: else run benchmarks/prediction.py --write."""
    assert json.loads(predictor.SHIPPED.read_text())["digest"] == predictor.digest()


def test_the_figures_draw_every_kind():
    import matplotlib.pyplot as plt

    errors = pd.DataFrame({"kind": ["known", "new_card"], "energy": [0.1, -0.2], "measured": [0.0, 1.0]})
    _, axes = plt.subplots(1, 2)
    assert len(prediction.draw(errors, axes[0])) == 3 and len(prediction.draw_residuals(errors, axes[1])) == 1 + 2 * 2
    assert np.allclose(axes[1].collections[1].get_offsets()[0, 1], np.exp(-0.2))
    offsets = axes[0].collections[1].get_offsets()
    assert np.allclose(offsets[0], [np.e, np.exp(0.8)])
    plt.close("all")


def test_a_row_with_no_number_has_a_reason_and_the_others_their_figures():
    table = pd.DataFrame({"gpu": "h100", "model": LLAMA, "engine": "vllm", "batch_size": [8, "abc", float("inf"), None, "8"]}, dtype=object)
    found = predict(table)
    assert found["reason"].str.startswith("batch_size").tolist() == [False, True, True, False, False]
    good = found["reason"] == ""
    assert good.tolist() == [True, False, False, True, True] and found["energy_j_per_token"].notna().tolist() == good.tolist()
    assert found["energy_j_per_token"][0] == found["energy_j_per_token"][4]


@pytest.mark.parametrize("size", ["layers", "hidden", "kv_heads"])
def test_a_size_of_zero_is_refused(size):
    assert f"{size} 0" in predict(pd.DataFrame([{"gpu": "h100", "params_b": 7, size: 0}]))["reason"].item()


def test_a_cache_that_no_card_holds_is_refused():
    """Llama-3.1-8B keeps 0.13 MB a token: a billion tokens are 131 TB, and 65,536 sequences of 384 tokens 3.3 TB."""
    asked = pd.DataFrame({"gpu": "h100", "model": LLAMA, "engine": "vllm", "batch_size": [1, 65_536, 256], "input_tokens": [1e9, 256, 256]})
    reasons = predict(asked)["reason"].tolist()
    assert ["and a cache of" in r for r in reasons] == [True, True, False] and reasons[2] == ""


def test_the_digest_is_of_the_models_code_without_its_text(monkeypatch, tmp_path):
    """A moved import or another docstring needs no new fit; another constant does."""
    code, before = Path(physics.__file__).read_text(), predictor.digest()
    reworded = code.replace("The physics", "Physics").replace("import numpy as np", "import json\nimport numpy as np")
    for text, same in ((reworded, True), (code.replace("PCIE_TRAFFIC = 1.3", "PCIE_TRAFFIC = 1.4"), False)):
        assert text != code
        (tmp_path / "physics.py").write_text(text)
        monkeypatch.setattr(predictor, "physics", SimpleNamespace(__file__=str(tmp_path / "physics.py")))
        assert (predictor.digest() == before) is same
