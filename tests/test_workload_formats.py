"""Formats of torchao and of published checkpoints: asked for, verified, and refused with one line where they are not what they say."""

from types import SimpleNamespace

import pytest
import torch

from eai import footprint, strategies
from eai.errors import UserError
from eai.footprint import CannotRun, Device, supports
from eai.workload import models

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
QUANTIZED_WEIGHTS = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
OTHER_WEIGHTS = 128 * 64 + 5 * 64
ROWS = 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)


@pytest.fixture(scope="module")
def dynamic(tiny_model):
    return models.load(str(tiny_model), "dynamic", "cpu")


def test_dynamic_runs_in_int8_on_both_sides(dynamic):
    """Bytes by hand: an int8 code a weight, a float32 scale and an int8 zero point a row, the rest in float32, two rotary buffers."""
    assert dynamic.report["linears"] == {"Linear(Int8Tensor, torch.int8, symmetric, dynamic activations)": 14}
    assert dynamic.model_bytes == QUANTIZED_WEIGHTS + 5 * ROWS + 4 * OTHER_WEIGHTS + 2 * 8 * 4


@pytest.mark.parametrize("slug", ["fp8", "int4_wo", "int8_pure", "gptq", "static", "int8_wo", "int8_ffn"])
def test_another_format_than_the_one_that_ran_is_an_error(dynamic, slug):
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(dynamic.model, strategies.get(slug), torch.float32)


def test_weight_only_int8_does_not_pass_for_dynamic(tiny_model):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = models.load(str(tiny_model), "fp32", "cpu").model
    quantize_(model.model.layers, Int8WeightOnlyConfig(set_inductor_config=False))
    with pytest.raises(UserError, match="unquantized activations"):
        models.verify(model, strategies.get("dynamic"), torch.float32)


INPUT_IDS = torch.arange(40).reshape(1, 40)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=INPUT_IDS).logits


def test_affine_weights_have_zero_points_and_symmetric_ones_have_none(tiny_model):
    """A row that lies on one side of zero uses all codes only with a zero point: the error is at most half of the symmetric one's."""
    errors = {}
    for slug in ("int8_wo", "int8_wo_affine"):
        loaded = models.load(str(tiny_model), slug, "cpu")
        mapping = "affine" if slug == "int8_wo_affine" else "symmetric"
        assert loaded.report["linears"] == {f"Linear(IntxUnpackedToInt8Tensor, torch.int8, {mapping}, unquantized activations)": 14}
        whole = models.load(str(tiny_model), "fp32", "cpu").model
        errors[slug] = float((logits(loaded.model) - logits(whole)).norm() / logits(whole).norm())
    assert 0 < errors["int8_wo_affine"] < 0.02 and 0 < errors["int8_wo"] < 0.02
    symmetric, affine = (loaded_as(torch.rand(4, 64) + 1, slug) for slug in ("int8_wo", "int8_wo_affine"))
    assert affine < symmetric / 2


def loaded_as(weight: torch.Tensor, slug: str) -> float:
    """The largest error of a weight under the strategy's own configuration."""
    from torchao.quantization import quantize_

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    quantize_(layer, models.quantization_config(strategies.get(slug), torch.float32).quant_type)
    return float((layer.weight.dequantize() - weight).abs().max())


def test_static_ranges_come_from_calibration_and_clip_what_lies_beyond(tiny_model):
    """Independent check: codes are round(x / (largest / 127)); an input three times as large as any seen is cut to the largest."""
    loaded = models.load(str(tiny_model), "static", "cpu")
    assert loaded.report["linears"] == {"Linear(Int8Tensor, torch.int8, symmetric, static activations)": 14}
    whole, model = models.load(str(tiny_model), "fp32", "cpu").model, models.load(str(tiny_model), "fp32", "cpu").model
    models.set_static(model, INPUT_IDS[0].tolist())
    error = float((logits(model) - logits(whole)).norm() / logits(whole).norm())
    assert 0 < error < 0.05
    layer, plain = model.model.layers[0].mlp.up_proj, whole.model.layers[0].mlp.up_proj
    step = float(layer.weight.act_quant_scale)
    x = torch.full((1, 1, plain.in_features), 3 * 127 * step)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain(torch.full_like(x, 127 * step)), rtol=0.02, atol=0.02 * float(plain(x).abs().max()))


def test_per_layer_mixed_precision_keeps_the_attention_in_16_bit(tiny_model):
    """Four attention projections and three of the feed-forward part in each of two layers; bytes as the footprint counts them."""
    loaded = models.load(str(tiny_model), "int8_ffn", "cpu")
    assert loaded.report["linears"] == {
        "Linear(torch.bfloat16)": 8,
        "Linear(Int8Tensor, torch.int8, symmetric, dynamic activations)": 6,
    }
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(loaded.model, strategies.get("dynamic"), torch.bfloat16)
    scales = 5 * 2 * (128 + 128 + 64)  # a float32 scale and an int8 zero point a row
    counted = footprint.weight_bytes(models.shapes(str(tiny_model), loaded.model.config), "int8_ffn")
    assert loaded.model_bytes == pytest.approx(counted + scales, rel=0.02)


def test_the_names_that_verification_expects_exist_in_torchao():
    """Formats for CUDA cannot run here: at least their tensor classes are those of the installed library."""
    from torchao.quantization.quantize_.workflows import Float8Tensor, Int4TilePackedTo4dTensor

    for slug, kind in (("fp8", Float8Tensor), ("int4_wo", Int4TilePackedTo4dTensor)):
        assert f"({kind.__name__}, " in models._expected(strategies.get(slug), torch.bfloat16)
        assert "qdata" in kind.tensor_data_names


@pytest.mark.parametrize(
    ("slug", "kind"),
    [("int4_wo", "Int4WeightOnlyConfig"), ("fp8", "Float8DynamicActivationFloat8WeightConfig"), ("bf16", None), ("gptq", None)],
)
def test_the_configuration_asks_for_the_strategys_format(slug, kind):
    asked = models.quantization_config(strategies.get(slug), torch.bfloat16)
    assert (asked and type(asked.quant_type).__name__) == kind


@pytest.mark.parametrize(
    ("slug", "capability", "words"),
    [
        ("fp8", (8, 0), "8.9"),
        ("fp8", (9, 0), None),
        ("int4_wo", (7, 5), "8,"),
        ("int4_wo", (8, 6), None),
        ("dynamic", (8, 0), None),
        ("bf16", (7, 5), "8,"),
        ("tf32", (7, 0), "8,"),
        ("gptq", (8, 0), "gptqmodel, which is not installed"),
        ("gptq", (6, 1), "7,"),
    ],
)
def test_compute_capability_and_library_decide_on_a_gpu(monkeypatch, slug, capability, words):
    """FP8 tensor cores came with 8.9, TF32 and BF16 with 8.0 (CUDA C++ programming guide, table of features by capability)."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gptqmodel" else object())
    refused = supports(slug, Device("this GPU", capability=capability[0] + capability[1] / 10))
    assert refused is None if words is None else refused.kind == "unsupported" and words in refused.reason


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CannotRun, match="needs the library torchao"):
        models.load("no/such-model", "dynamic", "cpu")


def config(**quantization):
    return SimpleNamespace(quantization_config=quantization) if quantization else SimpleNamespace()


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_checkpoint_in_the_format_that_was_asked_for_passes(method):
    models.require_checkpoint("org/model", config(quant_method=method, bits=4, group_size=128), strategies.get(method))
    assert models.describe_quantization({"quant_method": method, "bits": 4, "group_size": 128})[1] == f"{method}, 4 bit, group 128"


@pytest.mark.parametrize(
    ("slug", "quantization", "words"),
    [
        ("gptq", {}, "not a quantized checkpoint"),
        ("fp16", {"quant_method": "gptq", "bits": 4}, "already quantized.*ask for gptq"),
        ("nf4", {"quant_method": "awq", "bits": 4}, "already quantized.*ask for awq"),
        ("gptq", {"quant_method": "awq", "bits": 4}, "already quantized"),
        ("gptq", {"quant_method": "gptq", "bits": 8, "group_size": 32}, "says gptq, 8 bit, group 32"),
        ("awq", {"quant_method": "awq", "w_bit": 3, "q_group_size": 128}, "says awq, 3 bit, group 128"),
        ("fp16", {"quant_method": "fp8"}, "give the original model"),
    ],
)
def test_a_checkpoint_under_another_name_is_refused(slug, quantization, words):
    with pytest.raises(UserError, match=words):
        models.require_checkpoint("org/model", config(**quantization), strategies.get(slug))


def test_the_checkpoints_own_word_is_read_before_its_weights(tiny_model, tmp_path):
    """A folder that says it is GPTQ, under another name: refused by its config.json, though its weights could be loaded."""
    import json
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "gptq")
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(UserError, match=r"already quantized \(gptq, 4 bit\)"):
        models.load(str(folder), "fp32", "cpu")


class PackedLayer(torch.nn.Module):
    """The outside of a GPTQ or AWQ layer: packed codes and the bits they stand for."""

    def __init__(self, bits: int):
        super().__init__()
        self.bits = bits
        self.register_buffer("qweight", torch.zeros(4, 4, dtype=torch.int32))


@pytest.mark.parametrize(("bits", "left", "ok"), [(4, False, True), (8, False, False), (4, True, False)])
def test_packed_layers_are_recognized_and_leftovers_found(bits, left, ok):
    model = torch.nn.Sequential(PackedLayer(bits), PackedLayer(4), *([torch.nn.Linear(2, 2)] if left else []))
    model.get_output_embeddings = lambda: None
    if ok:
        assert models.verify(model, strategies.get("awq"), torch.float16)["linears"] == {"qweight(torch.int32, 4 bit)": 2}
        return
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(model, strategies.get("awq"), torch.float16)


def test_errors_by_layer_compare_the_same_weights_in_both_formats(tiny_model):
    """fp32 against itself is exact. BF16 keeps 8 bits, so each rounding is off by 2^-9 at most: per cent, where other random weights would
    be off by 1.4 (two independent vectors of one length)."""
    found = models.layer_errors(str(tiny_model), ["fp32", "bf16"], "cpu", "random_outliers")
    by_strategy = found.groupby("quantization")["error"]
    assert by_strategy.max()["fp32"] == 0.0 and 2**-12 < by_strategy.max()["bf16"] < 0.1
