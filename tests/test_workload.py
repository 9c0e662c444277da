"""What runs while we measure is what was asked for: format, length, counts, bytes."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eai import catalog, jobs, settings, strategies
from eai.errors import UserError
from eai.footprint import CannotRun
from eai.measure import job
from eai.workload import device, generation, models, sources

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
QUANTIZED_WEIGHTS = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
OTHER_WEIGHTS = 128 * 64 + 5 * 64


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return {
        q: models.load(str(tiny_model), q, "cpu")
        for q in ("fp32", "bf16", "int8_default", "int8_pure", "nf4", "nf4_dq", "fp4", "int8_t3.5")
    }


def test_bytes_of_each_strategy_follow_from_the_shapes(loaded):
    """Weights counted by hand from the config; rotary buffers (2 x 8 float32) on top; int8 keeps one float32 scale a row."""
    rows = 2 * (64 + 32 + 32 + 64 + 128 + 128 + 64)
    rotary = 2 * 8 * 4
    assert loaded["fp32"].model_bytes == 4 * (QUANTIZED_WEIGHTS + OTHER_WEIGHTS) + rotary
    assert loaded["bf16"].model_bytes == 2 * (QUANTIZED_WEIGHTS + OTHER_WEIGHTS) + rotary
    assert loaded["int8_pure"].model_bytes == QUANTIZED_WEIGHTS + 2 * OTHER_WEIGHTS + 4 * rows + rotary
    assert loaded["nf4_dq"].model_bytes < loaded["int8_pure"].model_bytes


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("fp32", "Linear(torch.float32)"),
        ("bf16", "Linear(torch.bfloat16)"),
        ("int8_default", "threshold 6)"),
        ("int8_pure", "threshold 0)"),
        ("int8_t3.5", "threshold 3.5)"),
        ("nf4", "nf4, double False"),
        ("nf4_dq", "nf4, double True"),
        ("fp4", "fp4, double False"),
    ],
)
def test_what_runs_is_recorded(loaded, slug, words):
    (description,) = loaded[slug].report["linears"]
    assert words in description
    assert loaded[slug].report["linears"][description] == 14


def test_a_strategy_that_did_not_take_effect_is_an_error(loaded):
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(loaded["bf16"].model, strategies.get("int8_pure"), torch.bfloat16)
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(loaded["int8_default"].model, strategies.get("int8_pure"), torch.bfloat16)
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(loaded["nf4"].model, strategies.get("nf4_dq"), torch.bfloat16)


def test_one_layer_left_unquantized_is_an_error(tiny_model):
    model = models.load(str(tiny_model), "nf4", "cpu").model
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(64, 128, bias=False, dtype=torch.bfloat16)
    with pytest.raises(UserError, match="did not take effect"):
        models.verify(model, strategies.get("nf4"), torch.bfloat16)


def test_parameters_of_another_dtype_are_an_error(loaded):
    with pytest.raises(UserError, match=r"float32|bfloat16"):
        models.verify(loaded["fp32"].model, strategies.get("bf16"), torch.bfloat16)


@pytest.mark.parametrize("slug", ["tf32", "fp16_mixed", "fp8", "gptq"])
def test_what_cannot_run_here_says_so_before_loading(slug):
    with pytest.raises(CannotRun):
        models.load("no/such-model", slug, "cpu")


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(UserError, match="safetensors"):
        models.load(str(tmp_path), "fp32", "cpu")


def test_a_model_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match="not a folder"):
        models.load("./nowhere", "fp32", "cpu")
    with pytest.raises(UserError, match="cannot load") as caught:
        models.load("nobody/no-such-model", "fp32", "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kv_cache", [True, False])
def test_tokens_are_counted_from_what_was_produced(loaded, batch_size, kv_cache):
    produced = generation.Generation(loaded["fp32"], batch_size, 9, 5, kv_cache).run()
    assert (produced.requests, produced.tokens_in, produced.tokens_out) == (batch_size, 9 * batch_size, 5 * batch_size)
    assert produced.duration_s > 0


def test_the_end_token_does_not_shorten_a_generation(loaded):
    """A head that always prefers the end token stops bare `generate` after one token, and not a measured generation."""

    def prefer_the_end(module, arguments, logits):
        logits[..., 2] = 1000.0
        return logits

    model, work = loaded["fp32"].model, generation.Generation(loaded["fp32"], 2, 4, 6)
    hook = model.lm_head.register_forward_hook(prefer_the_end)
    try:
        with torch.inference_mode():
            bare = model.generate(**work._inputs, max_new_tokens=6, do_sample=False, pad_token_id=0)
        produced = work.run()
    finally:
        hook.remove()
    assert bare.shape[1] - 4 == 1
    assert produced.tokens_out == 12


def test_a_model_that_ends_early_is_an_error(loaded, monkeypatch):
    work = generation.Generation(loaded["fp32"], 2, 4, 6)
    monkeypatch.setattr(loaded["fp32"].model, "generate", lambda input_ids, **_: torch.zeros(2, 7, dtype=torch.long))
    with pytest.raises(UserError, match="produced 6 tokens"):
        work.run()


def test_longer_than_the_context_is_refused(loaded):
    with pytest.raises(UserError, match="at most 256"):
        generation.Generation(loaded["fp32"], 1, 200, 100)


@given(st.lists(st.integers(0, 999), min_size=2, max_size=50), st.integers(1, 9), st.integers(1, 200))
def test_prompts_have_exactly_the_length_asked_for(ids, batch_size, input_tokens):
    made = generation.prompts(ids, batch_size, input_tokens)
    assert [len(prompt) for prompt in made] == [input_tokens] * batch_size
    assert set().union(*made) <= set(ids)


def test_the_same_tokens_come_out_with_and_without_a_cache(loaded):
    """Greedy decoding does not depend on whether keys and values are kept: the independent check of the option."""
    outputs = []
    for use_cache in (True, False):
        work = generation.Generation(loaded["fp32"], 2, 12, 8, use_cache)
        with torch.inference_mode():
            outputs.append(loaded["fp32"].model.generate(**work._inputs, generation_config=work._settings(8)))
    assert torch.equal(*outputs)


def test_the_same_tokens_come_out_of_a_static_cache(loaded):
    work = [generation.Generation(loaded["fp32"], 2, 12, 8, cache=cache) for cache in ("dynamic", "static")]
    with torch.inference_mode():
        outputs = [loaded["fp32"].model.generate(**w._inputs, generation_config=w._settings(8)) for w in work]
    assert torch.equal(*outputs)


def test_a_compiled_step_runs_and_gives_the_same_tokens(tiny_model, monkeypatch):
    """The graph is captured and run by torch.compile's `eager` backend: generating machine code takes half a minute on a CPU."""
    real, compiled = torch.compile, []

    def compile(function, **options):
        compiled.append(options)
        return real(function, backend="eager")

    monkeypatch.setattr(torch, "compile", compile)
    model = models.load(str(tiny_model), "fp32", "cpu")
    plain = generation.Generation(model, 2, 12, 4, cache="static")
    plain.run()
    assert not compiled
    work = generation.Generation(model, 2, 12, 4, cache="static", compile=True)
    assert work.run().tokens_out == 8 and len(compiled) == 1
    with torch.inference_mode():
        outputs = [model.model.generate(**w._inputs, generation_config=w._settings(4)) for w in (plain, work)]
    assert torch.equal(*outputs)


def test_a_format_that_is_left_uncompiled_in_silence_is_an_error(loaded):
    """bitsandbytes runs LLM.int8() on a CPU in a way that the library does not compile; it says so on a log only."""
    with pytest.raises(UserError, match="no compiled step ran"):
        generation.Generation(loaded["int8_pure"], 1, 8, 4, cache="static", compile=True).run()


@pytest.mark.parametrize(("options", "words"), [({"compile": True}, "cache static"), ({"cache": "static", "kv_cache": False}, "kv_cache")])
def test_a_sweep_with_such_options_stops_before_it_starts(options, words):
    with pytest.raises(UserError, match=words) as caught:
        settings.sweep(**options)
    assert "\n" not in str(caught.value)


def test_options_at_their_default_leave_the_configurations_name_alone():
    """Ids of campaigns measured before an option existed stay theirs."""
    before = settings.Sweep().configurations("cpu", "m")[0]
    assert before.options == {}
    changed = settings.sweep(cache="static", compile=True).configurations("cpu", "m")[0]
    assert changed.options == {"cache": "static", "compile": True}
    assert changed.configuration_id != before.configuration_id


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_token_has_its_time(loaded, batch_size):
    """One time a token of the batch, rising, the last one within the call's own duration."""
    work = generation.Generation(loaded["fp32"], batch_size, 9, 6)
    work.run()
    started = time.perf_counter()
    times = work.run(timed=True).token_s
    assert len(times) == 6
    assert list(times) == sorted(times) and times[0] > 0 and times[-1] <= time.perf_counter() - started


def test_token_times_are_the_works_own(loaded, monkeypatch):
    """A forward pass that takes 20 ms longer moves every token by that: TTFT by one, the last token by one a token."""
    model = loaded["fp32"].model
    work = generation.Generation(loaded["fp32"], 1, 9, 5)
    plain = np.min([work.run(timed=True).token_s for _ in range(3)], axis=0)
    real = type(model).forward

    def slow(self, *arguments, **named):
        time.sleep(0.02)
        return real(self, *arguments, **named)

    monkeypatch.setattr(type(model), "forward", slow)
    slowed = np.min([work.run(timed=True).token_s for _ in range(3)], axis=0)  # the machine is shared: the fastest of three
    added = [b - a for a, b in zip(plain, slowed, strict=True)]
    assert all(0.02 * i - 0.01 <= each < 0.02 * i + 0.5 for i, each in enumerate(added, start=1))
    assert len(work.inter_token_s()) == 4 and min(work.inter_token_s()) >= 0.02


def test_peak_memory_sees_an_allocation():
    device.reset_peak("cpu")
    before = device.peak_gb("cpu")
    block = torch.ones(60_000_000)
    peak = device.peak_gb("cpu")
    assert peak - before == pytest.approx(0.24, abs=0.03)
    assert block.sum() > 0


def test_the_embedded_model_speaks():
    """Facts of the model card: 134,515,008 parameters in bf16, and it knows the capital of France."""
    loaded = models.load("embedded/SmolLM2-135M-Instruct", "bf16", "cpu")
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = loaded.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        answer = loaded.model.generate(**inputs, max_new_tokens=10, do_sample=False)
    assert "Paris" in loaded.tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :])


def test_a_changed_model_file_is_refused(tmp_path, monkeypatch):
    file = tmp_path / sources.GGUF_NAME
    file.write_bytes(b"something else")
    monkeypatch.setenv("EAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "gguf_file", lambda: file)
    with pytest.raises(UserError, match="SHA-256"):
        sources.embedded_folder()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="make install"):
        sources.gguf_file()


def test_a_hub_model_is_read_at_the_revision_that_is_asked_for(tiny_model, tmp_path, monkeypatch):
    """A cache as the hub's client keeps it: two commits of one repository, `main` at the second; the names are of nobody."""
    import huggingface_hub.constants

    commits = {"1" * 40: 4, "2" * 40: 8}
    repository = tmp_path / "models--org--tiny"
    for commit, heads in commits.items():
        folder = repository / "snapshots" / commit
        shutil.copytree(tiny_model, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": heads, "num_key_value_heads": heads // 2}))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("2" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert [sources.revision(name) for name in ("org/tiny", f"org/tiny@{'1' * 40}")] == ["2" * 40, "1" * 40]
    assert sources.revision(str(tiny_model)) is None and sources.revision("org/nothing") is None
    assert sources.config(f"org/tiny@{'1' * 40}").num_attention_heads == 4 and sources.config("org/tiny").num_attention_heads == 8
    assert models.load(f"org/tiny@{'1' * 40}", "fp32", "cpu").model.config.num_attention_heads == 4
    with pytest.raises(UserError, match="cannot load 'org/tiny@nothing'"):
        models.load("org/tiny@nothing", "fp32", "cpu")
    assert catalog.model("Qwen/Qwen2-7B@abc") == catalog.model("Qwen/Qwen2-7B")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    jobs.require_model(f"org/tiny@{'1' * 40}", "published")
    with pytest.raises(UserError, match="'org/tiny@nothing' is not in the local cache"):
        jobs.require_model("org/tiny@nothing", "published")


def test_a_job_goes_on_with_the_revision_that_it_began_with(tmp_path):
    (tmp_path / "provenance.jsonl").write_text(json.dumps({"revision": "1" * 40}) + "\n")
    job._require_revision(tmp_path, "org/tiny", "1" * 40)
    job._require_revision(tmp_path, "org/tiny", None)
    with pytest.raises(UserError, match=f"measure org/tiny@{'1' * 40}"):
        job._require_revision(tmp_path, "org/tiny@main", "2" * 40)
