"""Random weights in real shapes: counted, seeded, quantized on the way, with as many outlier channels as were planted; and what fits."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from eai import catalog, measure, settings, tables
from eai.errors import UserError
from eai.footprint import CannotRun
from eai.workload import device, generation, models, sources

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
SHAPES = {
    "vocab_size": 256, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a config.json and no weights."""
    from transformers import LlamaConfig

    target = tmp_path_factory.mktemp("shapes")
    LlamaConfig(**SHAPES, tie_word_embeddings=True).save_pretrained(target)
    return str(target)


def smallest_of_each_family() -> list[catalog.Model]:
    """The smallest catalog model of every architecture."""
    ordered = sorted(catalog.models(), key=lambda m: -m.params_total)
    return list({m.architecture: m for m in ordered}.values())


@pytest.mark.parametrize("model", smallest_of_each_family(), ids=lambda m: m.slug)
def test_shapes_from_the_catalog_count_the_published_parameters(model):
    """The catalog's totals are those of the model cards."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(sources.config(model.hf_id))
    assert sum(p.numel() for p in empty.parameters()) == model.params_total
    assert sources.context_tokens(empty.config) == model.context


@pytest.mark.parametrize("weights", ["random", "random_outliers"])
@pytest.mark.parametrize("slug", ["fp32", "bf16", "int8_pure", "nf4_dq", "dynamic"])
def test_random_weights_take_the_same_path(folder, slug, weights):
    loaded = models.load(folder, slug, "cpu", weights)
    assert len(loaded.report["linears"]) == 1 and sum(loaded.report["linears"].values()) == 3 * 7
    assert loaded.tokenizer is None and loaded.context_tokens == 128
    produced = generation.Generation(loaded, 2, 9, 5).run()
    assert (produced.tokens_in, produced.tokens_out) == (18, 10)
    with torch.inference_mode():
        assert torch.isfinite(loaded.model(torch.arange(20)[None]).logits).all()


def test_rotary_frequencies_are_the_formulas(folder):
    """theta^(-2 i / d) (arXiv 2104.09864, section 3.2.2): uninitialised buffers would make attention blind to position."""
    model = models.load(folder, "bf16", "cpu", "random").model
    expected = 10000.0 ** (-np.arange(0, 64, 2) / 64)
    assert model.model.rotary_emb.inv_freq.numpy() == pytest.approx(expected, rel=1e-6)


def test_the_head_is_tied_where_the_shapes_say_so(folder):
    model = models.load(folder, "nf4", "cpu", "random").model
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_the_seed_decides_the_weights(folder):
    first, again, other = (models.load(folder, "fp32", "cpu", "random", seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.layers.1.mlp.up_proj.weight"
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first["model.layers.2.mlp.up_proj.weight"])
    assert float(first[name].std()) == pytest.approx(0.02, rel=0.02)


def test_a_quantized_model_never_exists_in_sixteen_bits(folder, monkeypatch):
    """At most two unquantized tensors are alive at any time while the model is built."""
    import weakref

    made: list[weakref.ref] = []
    largest_alive = 0
    make = sources.RandomTensor.__getitem__

    def watched(self, index):
        nonlocal largest_alive
        tensor = make(self, index)
        if "_proj" in self.name:
            made.append(weakref.ref(tensor))
            largest_alive = max(largest_alive, sum(ref() is not None for ref in made))
        return tensor

    monkeypatch.setattr(sources.RandomTensor, "__getitem__", watched)
    models.load(folder, "int8_pure", "cpu", "random")
    assert len(made) == 21
    assert largest_alive <= 2


def test_plain_random_weights_have_no_outliers_and_planted_ones_as_many_as_planned(folder):
    """A decode step sees the planted channels in q, k, v, gate, up and down of every layer, and nowhere else."""
    ids = np.random.default_rng(1).integers(256, size=(8, 1)).tolist()
    plain = sources.outlier_shares(models.load(folder, "fp32", "cpu", "random").model, ids)
    assert set(plain.values()) == {0.0}
    planted = sources.outlier_shares(models.load(folder, "fp32", "cpu", "random_outliers").model, ids)
    hidden, inner = 1 / 256, 1 / 512
    expected = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), hidden) | {"down_proj": inner, "o_proj": 0.0}
    assert planted == pytest.approx(expected, rel=1e-6)


def test_planting_leaves_what_follows_as_it_was(folder):
    """What makes a channel is multiplied and what reads it divided: greedy outputs hardly differ in 32 bits."""
    plain, planted = (models.load(folder, "fp32", "cpu", weights).model for weights in ("random", "random_outliers"))
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        logits = [model(ids).logits for model in (plain, planted)]
    assert torch.allclose(*logits, atol=0.02 * float(logits[0].std()))


def test_int8_default_needs_outliers_to_be_representative():
    with pytest.raises(CannotRun, match="random_outliers"):
        models.load("qwen2-0.5b", "int8_default", "cpu", weights="random")
    with pytest.raises(CannotRun, match="published checkpoint"):
        models.load("qwen2-0.5b", "gptq", "cpu", weights="random")


def test_a_family_without_the_norms_is_refused(folder, monkeypatch):
    monkeypatch.setattr(sources, "_NORMS", ("no_such_norm.weight",))
    with pytest.raises(UserError, match="cannot plant outlier channels in the family 'llama'"):
        models.load(folder, "fp32", "cpu", "random_outliers")


def test_planted_channels_that_do_not_arrive_are_an_error(folder, monkeypatch):
    monkeypatch.setattr(sources, "NORM_WEIGHT", 1.0)
    monkeypatch.setattr(sources, "PRODUCT_SCALE", 1.0)
    with pytest.raises(UserError, match="do not reach"):
        models.load(folder, "fp32", "cpu", "random_outliers")


def test_shapes_nobody_knows_are_one_line():
    for name, words in (("./nowhere", "not a folder"), ("nobody/no-such-model", "no shapes known")):
        with pytest.raises(UserError, match=words) as caught:
            models.locate(name, "random")
        assert "\n" not in str(caught.value)


def configuration(**changes) -> settings.Configuration:
    base = {"gpu": "cpu", "model": "mistral-7b-v0.1", "quantization": "fp16", "batch_size": 1, "input_tokens": 512, "output_tokens": 256}
    return settings.Configuration(**(base | changes))


@pytest.mark.parametrize(
    ("free_gb", "changes", "fits"),
    [
        (14.0, {}, False),
        (15.0, {}, True),
        (15.0, {"batch_size": 8}, False),
        (15.0, {"batch_size": 8, "options": {"kv_cache": False}}, True),
    ],
)
def test_what_certainly_does_not_fit_is_told(monkeypatch, free_gb, changes, fits):
    """Mistral 7B: 7,241,732,096 parameters x 2 bytes = 14.48 GB; 131,072 bytes of keys and values a token = 0.10 GB at 768 tokens."""
    monkeypatch.setattr(device, "free_gb", lambda place: free_gb)
    refused = models.refusal(configuration(**changes), catalog.model("mistral-7b-v0.1"))
    if fits:
        assert refused is None
    else:
        assert refused.kind == "oom" and re.search(r"needs at least 1[45]\.[0-9] GB .* of the 1[45]\.0 GB usable", str(refused))


def test_the_hosts_own_memory_is_read():
    assert 0.05 < device.free_gb("cpu") < 1e5


def test_too_small_a_memory_is_a_row_and_nothing_is_loaded(folder, scratch, monkeypatch):
    """The weights take 0.006 GB in fp32 and half of it in bf16, a cached token 3,072 bytes in fp32: 4.5 MB leave room for one of four."""
    monkeypatch.setattr(device, "free_gb", lambda device: 0.0045)
    loads = []
    real = models.load
    monkeypatch.setattr(models, "load", lambda *arguments: loads.append(arguments[1]) or real(*arguments))
    sweep = settings.sweep(
        experiment="small", models=[folder], weights="random", quantizations=["fp32", "bf16", "int8_default"], batch_sizes=[1, 64],
        blocks=1, window_s=0.02, warmup_cap_s=0.0, idle_s=0.0, input_tokens=[16], output_tokens=[4], meter="estimate",
    )  # fmt: skip
    windows = tables.read_windows(measure.run(sweep, lambda line: None)).set_index(["quantization", "batch_size"])
    assert windows["status"].to_dict() == {
        ("fp32", 1): "oom", ("fp32", 64): "oom", ("bf16", 1): "ok", ("bf16", 64): "oom",
        ("int8_default", 1): "unsupported", ("int8_default", 64): "unsupported",
    }  # fmt: skip
    assert loads == ["bf16"]
    assert windows.loc[("fp32", 1), "reason"].startswith(f"{Path(folder).name} in fp32 at batch 1 needs at least 0.0 GB")
