"""Requests: defaults are explained, aliases mean what they say, and every contradiction gets one line that says what to do."""

import pytest

from eai.advise.parameters import ALIASES, DEFAULTS, cannot_run, find_model, fits, request, require_fit
from eai.errors import UserError

EXAMPLES = [
    {"model_id": "mistralai/Mistral-7B-Instruct-v0.2"},
    {"model_id": "Qwen/Qwen2-7B", "hardware_platform": "a800", "batch_size": 16, "quantization": "fp16"},
    {
        "model_id": "meta-llama/Llama-3-8B",
        "hardware_platform": "h100",
        "quantization": "int8_pure",
        "batch_size": 32,
        "sequence_length": 1024,
        "generation_length": 512,
    },
]


def test_defaults_are_taken_and_explained():
    r = request(**EXAMPLES[0])
    assert (r.gpu.slug, r.quantization, r.batch_size, r.input_tokens, r.output_tokens) == ("rtx4090d", "fp16", 1, 512, 256)
    assert {a["name"] for a in r.assumptions} == set(DEFAULTS) and all(len(a["reason"]) > 10 for a in r.assumptions)


def test_the_protocols_names_are_aliases_of_ours():
    theirs = request(**EXAMPLES[2])
    ours = request(**{ALIASES.get(k, k): v for k, v in EXAMPLES[2].items()})
    assert theirs == ours and theirs.input_tokens == 1024 and theirs.output_tokens == 512 and theirs.gpu.slug == "h100_sxm"
    assert {a["name"] for a in theirs.assumptions} == {"requests", "goal", "region"}, "what was given is no assumption"


def test_what_a_name_was_taken_for_is_said():
    assert any("SXM" in w for w in request(model="mistral-7b", gpu="a800").warnings)
    with pytest.raises(UserError, match="unknown gpu"):
        request(model="mistral-7b", gpu="RTX 4075")


def test_an_unknown_model_that_states_its_size_gets_the_nearest_shapes():
    model, remark = find_model("acme/Foo-7B-chat")
    assert 5.6e9 < model.params_total < 8.75e9 and "not in the catalog" in remark
    with pytest.raises(UserError, match="unknown model 'acme/Foo'"):
        find_model("acme/Foo")
    with pytest.raises(UserError, match="400 B"):
        find_model("acme/Foo-400B")


def test_precision_follows_from_quantization_or_contradicts_it():
    assert request(model="mistral-7b", precision="bf16").quantization == "bf16"
    assert request(model="mistral-7b", quantization="nf4", precision="bf16").quantization == "nf4"
    for quantization, precision in (("nf4", "fp32"), ("fp16", "bf16"), ("int8_pure", "tf32")):
        with pytest.raises(UserError, match="leave precision out"):
            request(model="mistral-7b", quantization=quantization, precision=precision)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ("no model", "--model")),
        ({"model": "nonsense"}, ("unknown model", "models.csv")),
        ({"model": "mistral-7b", "gpu": "fantasy"}, ("unknown gpu 'fantasy'",)),
        ({"model": "mistral-7b", "gpu": "v100", "quantization": "bf16"}, ("bf16 on V100", "compute capability 8", "fp16")),
        ({"model": "mistral-7b", "gpu": "v100", "quantization": "int8_pure"}, ("compute capability 7.5",)),
        ({"model": "llama-3-70b-instruct", "gpu": "rtx4090"}, ("does not fit", "smaller model", "141 GB")),
        ({"model": "mistral-7b", "batch_size": 0}, ("batch_size 0", "1 or more")),
        ({"model": "mistral-7b", "batch_size": 2.5}, ("batch_size 2.5",)),
        ({"model": "mistral-7b", "batch_size": True}, ("batch_size True",)),
        ({"model": "mistral-7b", "batch_size": 65}, ("batch_size 65", "at most 64", "`eai run`")),
        ({"model": "mistral-7b", "output_tokens": "many"}, ("output_tokens many",)),
        ({"model": "mistral-7b", "price": -0.1}, ("price -0.1", "0 or more")),
        ({"model": "mistral-7b", "price": float("nan")}, ("price nan",)),
        ({"model": "mistral-7b", "pue": 0.9}, ("pue 0.9", "1.0 or more")),
        ({"model": "mistral-7b", "min_accuracy": 95}, ("min_accuracy 95", "fraction")),
        ({"model": "mistral-7b", "max_latency_s": 0}, ("max_latency_s 0", "above 0")),
        ({"model": "mistral-7b", "quantization": "int8"}, ("int8_default or int8_pure",)),
        ({"model": "mistral-7b", "goal": "speed"}, ("goal 'speed'", "energy, cost, carbon")),
        ({"model": "mistral-7b", "region": "atlantis"}, ("unknown region",)),
        ({"model": "mistral-7b", "batchsize": 3}, ("unknown parameter 'batchsize'",)),
        ({"model": "mistral-7b", "model_id": "qwen2-7b"}, ("given twice",)),
        ({"model": "mistral-7b", "gpu": "cpu"}, ("gpu cpu", "`eai run`")),
    ],
)
def test_bad_input_gets_one_line(options, words):
    with pytest.raises(UserError) as error:
        request(**options)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_what_does_not_fit_is_refused_with_what_would():
    r = request(model="qwen2.5-14b", gpu="rtx4090d")
    assert not fits(r) and fits(r.with_(quantization="nf4"))
    with pytest.raises(UserError, match="use int8_pure or nf4"):
        require_fit(r)


def test_hardware_limits_are_those_of_the_strategy():
    volta, ada = request(model="mistral-7b", gpu="v100").gpu, request(model="mistral-7b").gpu
    assert cannot_run(volta, "bf16") and not cannot_run(volta, "fp16") and not cannot_run(ada, "fp8")


def test_doubtful_choices_are_allowed_and_flagged():
    assert any("power of two" in w for w in request(model="mistral-7b", batch_size=6).warnings)
    assert any("exceed the model's context of 4096" in w for w in request(model="phi-3-mini", input_tokens=4000).warnings)
    assert any("never measured" in w for w in request(model="qwen2-7b", input_tokens=5000).warnings)
    assert any("batch concurrent" in w for w in request(model="qwen2-7b", batch_size=1).warnings)
