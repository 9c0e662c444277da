"""The vocabulary of strategies: facts from the papers, and names that say which method ran."""

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from eai import strategies
from eai.errors import UserError


def test_the_vocabulary_is_the_contracts():
    names = ["fp32", "tf32", "bf16", "fp16", "fp16_mixed", "int8_default", "int8_pure", "nf4", "nf4_dq", "fp4"]
    names += ["dynamic", "static", "int8_wo", "int8_wo_affine", "int8_ffn", "int4_wo", "fp8", "gptq", "awq"]
    assert list(strategies.STRATEGIES) == names
    assert strategies.get("mxfp4").weight_bits + strategies.get("mxfp4").scale_bits == 4.25, "an 8-bit scale a block of 32"
    assert strategies.get("nvfp4").weight_bits + strategies.get("nvfp4").scale_bits == 4.5, "an 8-bit scale a block of 16"
    assert strategies.get("int8_w8a8").is_quantized and not set(strategies.SERVED) & set(names)


@pytest.mark.parametrize(
    ("slug", "bits"),
    [("fp32", 32), ("bf16", 16), ("int8_pure", 8), ("nf4", 4.5), ("nf4_dq", 4.127)],
)
def test_stored_bits_a_weight(slug, bits):
    """NF4 with a float32 scale a block of 64 is 4.5 bits; double quantization saves 0.373 bits a parameter (QLoRA, section 3)."""
    s = strategies.get(slug)
    assert s.weight_bits + s.scale_bits == pytest.approx(bits, abs=1e-3)


def test_the_threshold_is_in_the_name():
    assert strategies.get("int8_default").threshold == 6.0
    assert strategies.get("int8_pure").threshold == 0.0
    assert strategies.get("int8_t3.5").threshold == 3.5
    assert strategies.get("int8_t0").needs_outliers is False


@given(st.floats(0, 100).map(lambda x: round(x, 3)))
def test_any_threshold_is_a_strategy(x):
    assert strategies.get(f"int8_t{x:.3f}").threshold == pytest.approx(x)


@pytest.mark.parametrize(
    ("name", "hint"), [("int8", "int8_default or int8_pure"), ("int4", "nf4"), ("mixed", "fp16_mixed"), ("nfour", "one of fp32")]
)
def test_a_name_that_does_not_say_which_method_is_refused(name, hint):
    with pytest.raises(UserError, match=hint):
        strategies.get(name)


@pytest.mark.parametrize("block", strategies.GGUF_BITS)
def test_gguf_formats_hold_the_bits_that_the_format_says(block):
    """Against the gguf package: bytes of a block over the weights in it."""
    weights, size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[block.upper()]]
    s = strategies.get(strategies.GGUF + block)
    assert s.weight_bits + s.scale_bits == 8 * size_bytes / weights and 0 < s.scale_bits <= 1
    assert s.is_quantized and s.slug not in strategies.STRATEGIES


def test_a_mixture_of_gguf_formats_keeps_its_name():
    assert strategies.get("gguf_q4_k_m").title == "GGUF Q4_K_M"
    for kind, block in (("q4_k_m", "q4_k"), ("q3_k_s", "q3_k"), ("iq3_m", "iq3_s")):
        mixed, plain = strategies.get(f"gguf_{kind}"), strategies.get(f"gguf_{block}")
        assert plain.weight_bits == mixed.weight_bits and plain.scale_bits < mixed.scale_bits < plain.scale_bits + 1, (
            "wider blocks among them"
        )
    assert strategies.get("gguf_f16").weight_bits == 16 and not strategies.get("gguf_f16").is_quantized


@pytest.mark.parametrize("name", ["gguf", "gguf_", "gguf_q4", "gguf_q9_0", "gguf_q4_k_x", "q4_k_m", "gguf_Q4_1"])
def test_what_is_no_gguf_format_is_refused(name):
    with pytest.raises(UserError, match="gguf_<type> such as gguf_q4_k_m"):
        strategies.get(name)


def test_baselines():
    assert strategies.default_baseline("cpu") == "fp32"
    assert strategies.default_baseline("h200") == "fp16"


def test_only_formats_below_sixteen_bits_count_as_quantized():
    quantized = {s.slug for s in strategies.STRATEGIES.values() if s.is_quantized}
    assert quantized == {"int8_default", "int8_pure", "nf4", "nf4_dq", "fp4", "dynamic", "int4_wo", "fp8", "gptq", "awq"} | {
        "static",
        "int8_wo",
        "int8_wo_affine",
        "int8_ffn",
    }


@pytest.mark.parametrize(
    ("written", "slug"),
    [
        ("Q4_K_M", "gguf_q4_k_m"),
        ("q8_0", "gguf_q8_0"),
        ("IQ4_XS", "gguf_iq4_xs"),
        ("gguf_q4_k_m", "gguf_q4_k_m"),
        ("FP8", "fp8"),
        ("NF4-DQ", "nf4_dq"),
        ("bfloat16", "bf16"),
        ("mxfp4", "mxfp4"),
        ("INT8", "INT8"),  # says no method: it stays what it is, and is refused
        ("q9_k", "q9_k"),
    ],
)
def test_formats_as_checkpoints_write_them(written, slug):
    assert strategies.canonical(written) == slug
