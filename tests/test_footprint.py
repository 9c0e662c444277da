"""Footprints against measured sizes, textbook KV caches and independent counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import catalog, footprint
from eai.errors import UserError

SMOLLM2 = catalog.model("smollm2-135m-instruct")
LLAMA2 = catalog.model("llama-2-7b")
MISTRAL = catalog.model("mistral-7b-instruct-v0.2")


@pytest.mark.parametrize(
    ("quantization", "other_bits", "measured_mb"),
    [("fp32", None, 538), ("bf16", None, 269), ("int8_default", None, 163), ("int8_pure", 32, 220), ("nf4", None, 110)],
)
def test_weights_match_the_footprint_that_transformers_reports(quantization, other_bits, measured_mb):
    """get_memory_footprint() of the loaded model, MB; it leaves the block scales out, so they are taken off here."""
    scales = footprint.parameters(SMOLLM2).linear * footprint.strategies.get(quantization).scale_bits / 8
    assert (footprint.weight_bytes(SMOLLM2, quantization, other_bits) - scales) / 1e6 == pytest.approx(measured_mb, rel=0.005)


def test_double_quantization_saves_what_its_paper_says():
    """QLoRA (arXiv 2305.14314, section 3): 0.5 bits a parameter of scales become 0.127."""
    linear = footprint.parameters(LLAMA2).linear
    saved_bits = 8 * (footprint.weight_bytes(LLAMA2, "nf4") - footprint.weight_bytes(LLAMA2, "nf4_dq")) / linear
    assert saved_bits == pytest.approx(0.373, abs=0.0005)


def test_kv_cache_of_llama_2_is_half_a_mebibyte_a_token():
    assert footprint.kv_cache_bytes(LLAMA2, 1) == 512 * 1024
    assert footprint.kv_cache_bytes(MISTRAL, 1) == 128 * 1024
    assert footprint.kv_cache_bytes(LLAMA2, 1, quantization="fp32") == 1024 * 1024


def test_decode_flops_are_two_a_parameter_plus_attention():
    """Kaplan et al. (arXiv 2001.08361, section 2.1): 2 N + 2 n_layer n_ctx d_attn multiply-adds counted as 2 flops each, without the
    embedding."""
    n = footprint.parameters(LLAMA2)
    assert footprint.decode_flops(LLAMA2, 0) == 2 * (n.linear + n.head)
    assert footprint.decode_flops(LLAMA2, 1000) - footprint.decode_flops(LLAMA2, 0) == 2 * 2 * 32 * 1000 * 4096


def test_prefill_equals_the_decode_steps_that_it_replaces():
    tokens = 37
    head = 2 * LLAMA2.vocab * LLAMA2.hidden
    stepwise = sum(footprint.decode_flops(LLAMA2, context) - head for context in range(1, tokens + 1)) + head
    assert footprint.prefill_flops(LLAMA2, tokens) == pytest.approx(stepwise, rel=1e-12)


def test_decode_at_batch_1_is_bound_by_memory_and_stays_below_published_speed():
    """Mistral-7B, FP16, batch 1: 37.7 tok/s were published for an A800; the roofline bound (2,039 GB/s over 14.3 GB) must be above it."""
    bound = footprint.footprint(MISTRAL, "fp16", gpu="a800_sxm_80gb")
    assert 1 / bound.step_s == pytest.approx(2039e9 / 14.3e9, rel=0.01)
    assert 1 / bound.step_s > 37.7
    assert bound.step_s == pytest.approx(bound.step_bytes / 2039e9)


@given(
    st.sampled_from(catalog.models()), st.sampled_from(["fp32", "fp16", "int8_pure", "nf4_dq"]), st.integers(1, 64), st.integers(1, 4096)
)
def test_footprints_grow_with_batch_and_context(model, quantization, batch, tokens):
    small, big = (footprint.footprint(model, quantization, b, tokens, 16) for b in (batch, 2 * batch))
    assert big.kv_cache_bytes == 2 * small.kv_cache_bytes
    assert big.prefill_flops == pytest.approx(2 * small.prefill_flops)
    assert big.weight_bytes == small.weight_bytes
    assert big.intensity_flop_per_byte > small.intensity_flop_per_byte
    assert small.memory_gb < big.memory_gb
    assert small.step_bytes < 2 * model.params_total * 4 + 2 * small.kv_cache_bytes


@pytest.mark.parametrize(
    ("slug", "reported_mib"),
    [
        ("t4", 15360),
        ("l4", 23034),
        ("a10", 23028),
        ("l40s", 46068),
        ("a100_sxm_80gb", 81920),
        ("h100_sxm", 81559),
        ("h200_sxm", 143771),
        ("rtx4090", 24564),
    ],
)
def test_usable_memory_is_what_boards_report_less_the_context(slug, reported_mib):
    assert footprint.available_gb(catalog.gpu(slug)) + footprint.CONTEXT_GB == pytest.approx(reported_mib * 2**20 / 1e9, rel=0.007)


@pytest.mark.parametrize(
    ("model", "quantization", "gpu", "batch", "fits"),
    [
        ("llama-3-70b-instruct", "nf4_dq", "rtx4090", 1, False),
        ("llama-3-70b-instruct", "nf4_dq", "l40s", 1, True),
        ("llama-3-70b-instruct", "fp16", "h100", 1, False),
        ("llama-3-70b-instruct", "fp32", "h200", 1, False),
        ("mistral-7b-instruct-v0.2", "fp16", "rtx4060ti_16gb", 1, True),
        ("mistral-7b-instruct-v0.2", "fp32", "rtx4090", 1, False),
        ("llama-2-7b", "fp16", "rtx4090", 64, False),
        ("mistral-7b-instruct-v0.2", "int8_pure", "a800", 64, True),
    ],
)
def test_what_fits(model, quantization, gpu, batch, fits):
    needed_gb = footprint.footprint(model, quantization, batch).memory_gb
    assert (needed_gb <= footprint.available_gb(catalog.gpu(gpu))) is fits


def test_measured_peak_memory_of_a_batch_sweep_is_predicted():
    """Mistral-7B, INT8, A800, 256 in / 256 out: 8.38 GB at batch 1 and 14.64 GB at batch 64 were published (raw runs of the batch
    sweep)."""
    for batch, peak_gb in ((1, 8.376), (64, 14.636)):
        predicted = footprint.footprint(MISTRAL, "int8_pure", batch, 256, 256).memory_gb
        assert predicted == pytest.approx(peak_gb, rel=0.1)


def test_a_config_gives_the_same_shapes_as_the_catalog():
    config = {
        "model_type": "llama",
        "hidden_size": 576,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    built = footprint.from_config(config, "me/copy")
    assert (built.slug, built.hf_id, footprint.from_config(config, "Plain").slug) == ("copy", "me/copy", "plain")
    assert built.params_total == 134_515_008
    assert footprint.kv_cache_bytes(built, 7) == footprint.kv_cache_bytes(SMOLLM2, 7)
    both = {"hidden": 64, "layers": 2, "heads": 4, "vocab": 9, "kv_heads": 4, "head_dim": 16, "intermediate": 256}
    for width in ("n_embd", "n_embed", "hidden_size"):
        assert catalog.sizes_of_config({width: 64, "n_layer": 2, "num_attention_heads": 4, "vocab_size": 9}, "m") == both
    bloom = {"model_type": "bloom", "n_embed": 4096, "n_head": 32, "n_layer": 30, "vocab_size": 250880}
    assert footprint.from_config(bloom, "b").params_total == catalog.model("bloomz-7b1").params_total


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: footprint.footprint(MISTRAL, "bf16", gpu="v100"), "no bfloat16 peak"),
        (lambda: footprint.available_gb(catalog.gpu("cpu")), "no memory size"),
        (lambda: footprint.footprint(MISTRAL, "fp32", gpu="cpu"), "name a GPU"),
        (lambda: footprint.footprint(MISTRAL, "int8"), "int8_default or int8_pure"),
        (
            lambda: footprint.from_config(
                {"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}, "m"
            ),
            "mamba",
        ),
        (lambda: footprint.from_config({"model_type": "llama"}, "m"), "has no"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
