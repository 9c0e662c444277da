"""Each strategy's layer against float64: the same codes as an independent quantizer, and an error of the size its bits say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from quantizers import affine, symmetric
from scipy.stats import norm

from eai import strategies
from eai.footprint import Device, supports
from eai.workload import models

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
UNIT_ROUNDOFF = {"fp32": 2.0**-24, "bf16": 2.0**-8, "fp16": 2.0**-11}
ROUNDING_RMS = np.sqrt(3 / (8 * np.log(2)) / 3)
"""RMS relative error of rounding in units of the unit roundoff: uniform error, mantissa spread as 1 / m (Benford)."""


@pytest.fixture(scope="module")
def layer(tiny_model):
    """(layer as the strategy loads it, its published weights in float64): the first block's down projection, 128 -> 64."""
    exact = models.load(str(tiny_model), "fp32", "cpu").model.model.layers[0].mlp.down_proj.weight.detach().double()

    def get(slug):
        return models.load(str(tiny_model), slug, "cpu").model.model.layers[0].mlp.down_proj, exact

    return get


def inputs(rows: int = 256, outlier: float = 0.0) -> torch.Tensor:
    """Standard normal activations of 128 features that bfloat16 holds exactly; the fifth feature is constant if `outlier` is given."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, 128))).bfloat16()
    if outlier:
        x[:, 5] = outlier
    return x


def output(module, x) -> np.ndarray:
    dtype = module.weight.dtype if module.weight.dtype.is_floating_point else torch.bfloat16
    with torch.inference_mode():
        return module(x.to(dtype)).double().numpy()


def relative_rms(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))


def product(x, weight) -> np.ndarray:
    return x.double().numpy() @ weight.numpy().T


@pytest.mark.parametrize("slug", ["bf16", "fp16"])
def test_sixteen_bits_round_weights_and_output(layer, slug):
    """x is exact in bfloat16 (and, to a sliver, in float16): the weight's and the output's rounding remain, of equal size."""
    module, exact = layer(slug)
    x = inputs()
    expected = np.sqrt(2) * ROUNDING_RMS * UNIT_ROUNDOFF[slug]
    assert relative_rms(output(module, x), product(x, exact)) == pytest.approx(expected, rel=0.25)


def test_thirty_two_bits_are_limited_by_the_sum(layer):
    """The stored weights are exact; a sum of 128 terms errs between one rounding and 128 of them (Higham 2002, section 4.2)."""
    module, exact = layer("fp32")
    x = inputs()
    error = relative_rms(output(module, x), product(x, exact))
    assert ROUNDING_RMS * UNIT_ROUNDOFF["fp32"] / 4 < error < 128 * UNIT_ROUNDOFF["fp32"]


def rows_quantized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values after symmetric 8-bit quantization row by row, step of each row)."""
    quantizers = [symmetric(float(np.abs(row).max())) for row in values]
    restored = [q.dequantize(q.quantize(row)) for q, row in zip(quantizers, values, strict=True)]
    return np.array(restored), np.array([q.step for q in quantizers])


def int8_rms(x: np.ndarray, weight: np.ndarray) -> float:
    """RMS error of an 8-bit product relative to its RMS: a step errs by step / sqrt(12), errors of features add up in square."""
    steps = [rows_quantized(values)[1][:, None] for values in (x, weight)]
    variance = (steps[0] ** 2 / 12) @ (weight**2).sum(1)[None, :] + (x**2).sum(1)[:, None] @ (steps[1] ** 2 / 12).T
    return float(np.sqrt(variance.mean() / np.mean((x @ weight.T) ** 2)))


@pytest.mark.parametrize("slug", ["int8_pure", "int8_default", "dynamic"])
def test_int8_errs_as_its_steps_say(layer, slug):
    """Without outliers all three are row-wise symmetric int8 on both sides; the threshold then changes nothing."""
    module, exact = layer(slug)
    x = inputs()
    expected = int8_rms(x.double().numpy(), exact.numpy())
    assert relative_rms(output(module, x), product(x, exact)) == pytest.approx(expected, rel=0.15)


def test_int8_pure_is_the_reference_quantizer(layer):
    module, exact = layer("int8_pure")
    x = inputs()
    reference = rows_quantized(x.double().numpy())[0] @ rows_quantized(exact.bfloat16().double().numpy())[0].T
    assert relative_rms(output(module, x), reference) < 1.5 * ROUNDING_RMS * UNIT_ROUNDOFF["bf16"]


def test_an_outlier_spoils_pure_int8_and_not_the_decomposition(layer):
    """With one feature at 40 the step of every row is 40 / 127; LLM.int8() takes that feature out and keeps its small steps."""
    x = inputs(outlier=40.0)
    errors = {}
    for slug in ("int8_pure", "int8_default", "int8_t50"):
        module, exact = layer(slug)
        errors[slug] = np.sqrt(np.mean((output(module, x) - product(x, exact)) ** 2))
    x64, w64 = x.double().numpy(), exact.numpy()
    scale = np.sqrt(np.mean((x64 @ w64.T) ** 2))
    assert errors["int8_pure"] == pytest.approx(int8_rms(x64, w64) * scale, rel=0.15)
    assert errors["int8_t50"] == pytest.approx(errors["int8_pure"], rel=0.02)
    assert errors["int8_default"] < errors["int8_pure"] / 3


@pytest.mark.parametrize(("slug", "made"), [
    ("int8_wo", lambda row: symmetric(float(np.abs(row).max()))),
    ("int8_wo_affine", lambda row: affine(min(float(row.min()), 0.0), max(float(row.max()), 0.0))),
])  # fmt: skip
def test_weight_only_int8_stores_the_reference_quantizers_values(layer, slug, made):
    """Row by row the values of the reference quantizer, within one step where a value lies between two codes; a mean error as it has."""
    module, exact = layer(slug)
    quantizers = [made(row) for row in exact.numpy()]
    wanted = np.array([q.dequantize(q.quantize(row)) for q, row in zip(quantizers, exact.numpy(), strict=True)])
    steps = np.array([q.step for q in quantizers])[:, None]
    stored = module.weight.dequantize().double().numpy()
    assert (np.abs(stored - wanted) < 1.03 * steps).all()
    assert relative_rms(stored, exact.numpy()) == pytest.approx(relative_rms(wanted, exact.numpy()), rel=0.1)
    x = inputs()
    assert relative_rms(output(module, x), product(x, torch.from_numpy(stored))) < 1e-5, "the product itself runs in 32 bits"


def test_static_and_dynamic_ranges_differ_only_in_the_activations_step(layer):
    """A fixed range errs by its own step, largest / 127 / sqrt(12) a value, whatever the row; a dynamic one by the row's."""
    module, exact = layer("static")
    step = float(module.weight.act_quant_scale)
    x = torch.from_numpy(np.random.default_rng(0).uniform(-127, 127, (256, 128)) * step).float()
    x64, w64 = x.double().numpy(), exact.numpy()
    weight_steps = rows_quantized(w64)[1]
    variance = step**2 / 12 * (w64**2).sum(1)[None, :] + (x64**2).sum(1)[:, None] * (weight_steps**2 / 12)[None, :]
    expected = np.sqrt(variance.mean() / np.mean((x64 @ w64.T) ** 2))
    with torch.inference_mode():
        got = module(x.unsqueeze(0))[0].double().numpy()  # one range for the whole tensor, as it comes: sequences x tokens x features
    assert relative_rms(got, x64 @ w64.T) == pytest.approx(expected, rel=0.15)


def test_the_feed_forward_part_of_int8_ffn_is_the_layer_of_dynamic(layer):
    """The same codes of weights that were rounded to bfloat16 first, and an output rounded to it."""
    module, exact = layer("int8_ffn")
    x = inputs()
    expected = np.hypot(int8_rms(x.double().numpy(), exact.numpy()), 2 * ROUNDING_RMS * UNIT_ROUNDOFF["bf16"])
    assert relative_rms(output(module, x), product(x, exact)) == pytest.approx(expected, rel=0.15)


def nf4_codes() -> np.ndarray:
    """NF4's 16 values from their definition: quantiles of the normal distribution, 8 above zero, 7 below (QLoRA, section 3)."""
    offset = (1 - 1 / 32 + 1 - 1 / 30) / 2
    above = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    codes = np.sort([*above, 0.0, *below])
    return codes / codes.max()


FP4_MAGNITUDES = np.array([0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1])
CODES = {"nf4": nf4_codes(), "fp4": np.unique([*FP4_MAGNITUDES, *-FP4_MAGNITUDES])}


def blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights of each block of 64 over its largest magnitude, that magnitude)."""
    rows = weight.reshape(-1, 64)
    largest = np.abs(rows).max(1, keepdims=True)
    return rows / largest, largest


def dequantized(module) -> np.ndarray:
    """What a fresh layer stores; the first product on a CPU may pack the codes anew, and then they cannot be read this way."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, module.weight.quant_state).double().numpy()


@pytest.mark.parametrize("slug", ["nf4", "fp4"])
def test_four_bits_are_the_nearest_codes_of_their_blocks(layer, slug):
    """Distances are compared, not codes: ratios of bfloat16 values fall exactly between two of FP4's codes now and then."""
    module, exact = layer(slug)
    ratio, largest = blocks(exact.bfloat16().double().numpy())
    stored = dequantized(module).reshape(-1, 64) / largest
    tolerance = UNIT_ROUNDOFF["bf16"]
    assert np.abs(stored[..., None] - CODES[slug]).min(-1).max() < tolerance
    assert (np.abs(stored - ratio) <= np.abs(ratio[..., None] - CODES[slug]).min(-1) + tolerance).all()
    assert len(np.unique(np.abs(stored[..., None] - CODES[slug]).argmin(-1))) == len(CODES[slug])


def test_double_quantization_errs_in_its_scales_only(layer):
    """Scales of 8 bits differ from the exact ones by a few percent at most, the codes under them not at all (QLoRA, section 3)."""
    plain, double = (dequantized(layer(slug)[0]).reshape(-1, 64) for slug in ("nf4", "nf4_dq"))
    scales = np.abs(double).max(1) / np.abs(plain).max(1)
    assert np.abs(scales - 1).max() < 0.04 and (scales != 1).any()
    assert np.allclose(double, plain * scales[:, None], atol=2 * UNIT_ROUNDOFF["bf16"] * np.abs(plain).max())


@pytest.mark.parametrize("slug", ["nf4", "nf4_dq", "fp4"])
def test_a_four_bit_layer_multiplies_by_what_it_stores(layer, slug):
    module, exact = layer(slug)
    x, stored = inputs(), torch.from_numpy(dequantized(module))
    noise = np.sqrt(2) * ROUNDING_RMS * UNIT_ROUNDOFF["bf16"]
    assert relative_rms(output(module, x), product(x, stored)) < 1.5 * noise
    assert relative_rms(output(module, x), product(x, exact)) > 0.05


def test_nf4_beats_fp4_on_normal_weights(layer):
    """QLoRA, section 3: NF4 is made for normally distributed weights."""
    x = inputs()
    errors = [relative_rms(output(module, x), product(x, exact)) for module, exact in map(layer, ("nf4", "fp4"))]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("slug", [s for s, strategy in strategies.STRATEGIES.items() if strategy.on_cpu])
def test_every_strategy_of_a_cpu_is_compared_here(slug):
    """No strategy may be added without its comparison."""
    text = Path(__file__).read_text()
    assert f'"{slug}"' in text
    assert supports(slug, Device("a CPU", is_cpu=True)) is None
