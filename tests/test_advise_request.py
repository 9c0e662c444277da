"""One request: defaults explained, names resolved, mixtures told by their active parameters, contradictions refused in one line."""

import pytest

from eai import catalog
from eai.advise.request import PRESSED, cannot_run, fits, memory, native, request
from eai.catalog import HOURS_A_MONTH
from eai.errors import UserError

MISTRAL = {"model": "mistralai/Mistral-7B-Instruct-v0.2"}


def test_the_protocols_example_has_every_default_explained():
    r = request(model_id="mistralai/Mistral-7B-Instruct-v0.2")
    c = r.now
    assert (c.gpu.slug, c.quantization, c.batch_size, c.input_tokens, c.output_tokens, c.engine) == (
        "rtx4090d",
        "fp16",
        1,
        512,
        256,
        "transformers",
    )
    named = {a["name"]: a for a in r.assumptions}
    assert {"gpu", "quantization", "batch_size", "input_tokens", "output_tokens", "requests", "region"} <= set(named)
    assert all(a["reason"] for a in r.assumptions) and not r.is_served


def test_the_protocols_other_names_mean_the_same():
    one = request(
        model_id="meta-llama/Llama-3-8B", hardware_platform="h100", quantization="int8_pure", sequence_length=1024, generation_length=512
    )
    two = request(model="meta-llama/Llama-3-8B", gpu="h100", quantization="int8_pure", input_tokens=1024, output_tokens=512)
    assert one.now == two.now


@pytest.mark.parametrize(
    ("name", "a_month"), [("requests_per_hour", HOURS_A_MONTH), ("requests_per_day", HOURS_A_MONTH / 24), ("requests", 1.0)]
)
def test_a_rate_may_be_an_hours_a_days_or_a_months(name, a_month):
    r = request(**MISTRAL, **{name: 50})
    assert r.requests == pytest.approx(50 * a_month) and r.is_served


def test_a_set_of_cards_and_any():
    r = request(**MISTRAL, gpu="h100,l40s, rtx4090")
    assert [g.slug for g in r.gpus] == ["h100_sxm", "l40s", "rtx4090"] and not r.any_gpu
    everything = request(**MISTRAL, gpu="any")
    assert everything.any_gpu and len(everything.gpus) > 20 and "cpu" not in {g.slug for g in everything.gpus}


def test_an_engine_follows_from_a_strategy_and_a_strategy_from_an_engine():
    assert request(**MISTRAL, quantization="gguf_q4_k_m").now.engine == "llama.cpp"
    assert request(**MISTRAL, quantization="awq").now.engine == "vllm"
    assert request(**MISTRAL, engine="vllm").now.quantization == "bf16"
    assert request(**MISTRAL, engine="llama.cpp").now.quantization == "gguf_q4_k_m"


def test_a_model_of_stated_shapes_has_the_parameters_that_were_stated():
    c = request(params_b=20, layers=40, hidden=5120, kv_heads=8, gpu="h100").now
    assert c.model.params_total == 20_000_000_000 and (c.model.layers, c.model.hidden, c.model.kv_heads) == (40, 5120, 8)
    assert memory(c).needed_gb == pytest.approx(40, rel=0.05), "20e9 parameters of 2 bytes, and a small cache"


def test_a_mixture_moves_its_active_weights_and_holds_all_of_them():
    c = request(model="nobody/Some-30B-A3B", params_b=30.5, active_params_b=3.3, gpu="h100").now
    assert c.active_params == pytest.approx(3.3e9) and memory(c).needed_gb > 60


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [("nobody/Some-30B-A3B", 30, 3), ("nobody/New-8x7B-Instruct", 46.7, 12.9), ("nobody/Big-8x22B", 140.6, 39.1)],
)
def test_a_mixtures_name_states_its_active_parameters(name, total, active):
    """A dense model of the same total would be nine times slower; Mixtral 8x7B and 8x22B hold 46.7 of 12.9 and 140.6 of 39.1."""
    r = request(model=name, gpu="h100")
    assert r.now.model.params_total / 1e9 == pytest.approx(total, rel=0.05) and r.now.active_params / 1e9 == pytest.approx(active, rel=0.1)
    assert any(catalog.NOT_THERE in w and "a token" in w for w in r.warnings)


def test_a_listed_mixture_needs_no_remark():
    r = request(model="Qwen/Qwen3-30B-A3B", gpu="h100")
    assert r.now.active_params / 1e9 == pytest.approx(3.3, rel=0.1) and not any(catalog.NOT_THERE in w for w in r.warnings)


def test_messages_of_memory_are_in_gib_as_drivers_count():
    """80 GiB less 0.7 of the context: never more than the card has."""
    text = memory(request(model="meta-llama/Meta-Llama-3-70B-Instruct", gpu="h100", num_gpus=1).now).explained
    assert "79.3 GiB usable" in text and "GB usable" not in text


def test_a_region_that_is_not_known_is_answered_with_all_that_are():
    with pytest.raises(UserError, match=r"one of us, .*--price and --carbon"):
        request(**MISTRAL, region="moon")


def test_carbon_comes_from_a_number_or_a_file_of_hours(tmp_path):
    """Hours of 100 and 500 g/kWh, three of four requests in the clean one: 200; unweighted 300."""
    assert request(**MISTRAL, carbon="55").site.carbon.value == 55
    path = tmp_path / "hours.csv"
    path.write_text("hour,g_per_kwh\n0,100\n1,500\n")
    assert request(**MISTRAL, carbon=path).site.carbon.value == 300
    path.write_text("g_per_kwh,requests\n100,3\n500,1\n")
    found = request(**MISTRAL, carbon=path).site.carbon
    assert found.value == 200 and "cleanest quarter has 100" in found.source
    for text in ("a\n1\n", "g_per_kwh\n-5\n", "g_per_kwh\nmany\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="carbon"):
            request(**MISTRAL, carbon=path)


@pytest.mark.parametrize(
    ("gpu", "engine", "words"),
    [
        ("m2_max", "vllm", "does not run on Apple M2 Max"),
        ("mi300x", "tensorrt-llm", "does not run on Instinct"),
        ("p100", "vllm", "needs compute capability 7"),
    ],
)
def test_what_an_engine_cannot_run_on_is_one_answer_for_all(gpu, engine, words):
    with pytest.raises(UserError, match=words):
        request(**MISTRAL, gpu=gpu, engine=engine, quantization="fp16")
    assert request(**MISTRAL, gpu="mi300x", engine="vllm").now.quantization == "bf16", "ROCm runs vLLM"


def test_an_unknown_dense_model_is_sized_by_its_name_and_says_so():
    r = request(model="nobody/Foo-20B", gpu="h100")
    assert r.now.model.params_total == 20_000_000_000 and catalog.NOT_THERE in r.warnings[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no model"),
        (MISTRAL | {"gpu": "cpu"}, "gpu cpu"),
        (MISTRAL | {"gpu": "abacus"}, "abacus"),
        (MISTRAL | {"batch_size": 65}, "at most 64"),
        (MISTRAL | {"batch_size": 2.5}, "batch_size 2.5"),
        (MISTRAL | {"use": "fun"}, "one of api, chat, offline"),
        (MISTRAL | {"requests_per_hour": 5, "requests_per_day": 5}, "one rate"),
        (MISTRAL | {"engine": "vllm", "quantization": "nf4"}, "use --engine transformers"),
        (MISTRAL | {"power_budget": "ten"}, "10kW"),
        (MISTRAL | {"min_accuracy": 2}, "0 to 1"),
        (MISTRAL | {"pue": 0.9}, "PUE of 1.0"),
        (MISTRAL | {"precision": "bf16", "quantization": "fp32"}, "leave precision out"),
        (MISTRAL | {"quantization": "bf16", "gpu": "v100"}, "capability 8"),
        (MISTRAL | {"colour": "red"}, "unknown parameter 'colour'"),
        ({"model": "70B", "gpu": "rtx4090", "num_gpus": 1}, "does not fit"),
        ({"params_b": 3, "active_params_b": 5}, "at most as many"),
    ],
)
def test_what_cannot_be_is_one_line(options, words):
    with pytest.raises(UserError) as error:
        request(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_powers_have_units():
    assert request(**MISTRAL, power_budget="10kW").power_budget_w == 10_000
    assert request(**MISTRAL, power_budget="800W").power_budget_w == 800


def test_boards_share_weights_and_cache():
    """70.6e9 parameters of 2 bytes: 141 GB; on four boards a quarter each."""
    c = request(model="meta-llama/Meta-Llama-3-70B-Instruct", gpu="h100", engine="vllm", num_gpus=4).now
    assert memory(c).needed_gb == pytest.approx(141.1 / 4, rel=0.12) and fits(c) and not fits(c.with_(num_gpus=1))


def test_nine_tenths_of_a_card_is_pressed():
    c = request(model="qwen2.5-14b", gpu="rtx5090").now
    full = next(b for b in range(1, 65) if memory(c.with_(batch_size=b)).pressed)
    m = memory(c.with_(batch_size=full))
    assert PRESSED * m.available_gb < m.needed_gb <= m.available_gb


def test_a_chat_streams_and_an_api_does_not_wait_forever():
    assert request(**MISTRAL, use="chat").itl_p95_s == 0.1
    assert request(**MISTRAL, requests=1000).latency_p95_s == pytest.approx(5 + 0.05 * 256)
    assert request(**MISTRAL, requests=1000, max_latency=9).latency_p95_s is None


def test_lengths_come_from_a_file(tmp_path):
    (tmp_path / "l.csv").write_text("input_tokens,output_tokens\n5,10\n6,300\n")
    assert request(**MISTRAL, lengths=str(tmp_path / "l.csv")).answers == (10, 300)
    with pytest.raises(UserError, match="output_tokens"):
        request(**MISTRAL, lengths=str(tmp_path / "none.csv"))


def test_what_is_published_below_16_bits_is_asked_so_and_said():
    """gpt-oss in MXFP4, DeepSeek in FP8, with the reason; -AWQ in a name claims no accuracy; FP8 on an A100 is answered."""
    for name, quantization in (("openai/gpt-oss-120b", "mxfp4"), ("deepseek-ai/DeepSeek-R1", "fp8"), ("Qwen/Qwen3-32B-AWQ", "awq")):
        r = request(model=name, gpu="h200", num_gpus=8)
        (why,) = [a["reason"] for a in r.assumptions if a["name"] == "quantization"]
        assert r.now.quantization == quantization and r.now.engine == "vllm" and "authors publish" in why
    assert native(r.now.model) is None and native(request(model="openai/gpt-oss-20b", gpu="h100").now.model) == "mxfp4"
    assert request(model="openai/gpt-oss-20b", gpu="h100", engine="ollama").now.quantization == "gguf_mxfp4"
    assert request(model="meta-llama/Llama-3.1-8B-Instruct", gpu="a100", engine="vllm", quantization="fp8").now.quantization == "fp8"
    one = request(model="openai/gpt-oss-120b", gpu="h100", engine="vllm", batch_size=32)
    assert fits(one.now), "it runs on one H100 at 64 in flight (ML.ENERGY v3): a token passes 4 of 128 experts"


@pytest.mark.parametrize(
    ("text", "says"), [("{", "cannot read"), ("[1]", "has no hidden_size"), ('{"vocab_size": 9}', "has no hidden_size")]
)
def test_a_config_that_cannot_be_used_says_why_in_one_line(tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        request(model=str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({**MISTRAL, "gpu": "h100", "engine": "vllm", "num_gpus": 3}, "3 cards cannot share the 32"),
        ({"params_b": 7, "layers": 100_000}, "in the attention alone; expected at most 7 B"),
        ({"model": ""}, "states no size"),
    ],
)
def test_what_cannot_be_is_refused(options, says):
    with pytest.raises(UserError, match=says):
        request(**options)


def test_a_number_of_cards_that_does_not_divide_the_heads_leaves_vllm_out():
    """vLLM does not start then; transformers splits by layers."""
    r = request(**MISTRAL, gpu="h100", num_gpus=3)
    assert "3 cards" in cannot_run(r.now.with_(engine="vllm", quantization="bf16")) and not cannot_run(r.now)
    assert not cannot_run(r.now.with_(engine="vllm", quantization="bf16", num_gpus=4))
    assert "cannot share the 32" in cannot_run(r.now.with_(num_gpus=33)), "32 layers"


@pytest.mark.parametrize("rows", ["inf", "0", "", "abc"])
def test_lengths_that_are_none_are_refused(tmp_path, rows):
    (tmp_path / "lengths.csv").write_text(f"output_tokens\n{rows}\n")
    with pytest.raises(UserError, match=r"lengths .*lengths\.csv"):
        request(**MISTRAL, lengths=str(tmp_path / "lengths.csv"))


def test_hours_without_an_intensity_are_refused(tmp_path):
    (tmp_path / "hours.csv").write_text("g_per_kwh\n100\nnan\n")
    with pytest.raises(UserError, match="without gaps"):
        request(**MISTRAL, carbon=str(tmp_path / "hours.csv"))
