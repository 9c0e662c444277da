"""Parameters are checked once, errors are one line, and a configuration's id is the hash the contract states."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import settings
from eai.errors import UserError

BASE = {
    "gpu": "cpu",
    "model": "m",
    "quantization": "fp32",
    "batch_size": 1,
    "input_tokens": 64,
    "output_tokens": 16,
}
SERVED = {"server": "http://127.0.0.1:8000", "server_name": "vllm-0.11", "models": ["m"], "quantizations": ["bf16"]}


def test_configuration_id_is_the_hash_of_its_canonical_json():
    """Computed here with json and hashlib alone, from the contract's wording."""
    content = {**BASE, "weights": "published", "task": "generate", "options": {}}
    expected = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]
    assert settings.Configuration(**BASE).configuration_id == expected


def test_an_option_at_its_default_does_not_change_the_id():
    plain = settings.Configuration(**BASE)
    assert settings.Configuration(**BASE, options={"kv_cache": True}) == plain
    assert settings.Configuration(**BASE, options={"kv_cache": False}).configuration_id != plain.configuration_id


@given(st.sampled_from(["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"]))
def test_every_field_is_part_of_the_id(name):
    other = BASE | {name: "other" if isinstance(BASE[name], str) else BASE[name] + 1}
    assert settings.Configuration(**other).configuration_id != settings.Configuration(**BASE).configuration_id


@pytest.mark.parametrize(
    ("text", "expected"), [('["nf4_dq"]', ["nf4_dq"]), ("fp32,bf16", ["fp32", "bf16"]), ("nf4", ["nf4"]), (["fp4"], ["fp4"])]
)
def test_lists_are_parsed_from_the_strings_papermill_passes(text, expected):
    assert settings.sweep(quantizations=text).quantizations == expected


def test_numbers_in_a_string_list():
    assert settings.sweep(batch_sizes="[1,8]").batch_sizes == [1, 8]
    assert settings.sweep(batch_sizes=8).batch_sizes == [8]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"quantisations": ["fp32"]}, "did you mean 'quantizations'"),
        ({"quantizations": ["int8"]}, "use int8_default or int8_pure"),
        ({"quantizations": []}, "quantizations"),
        ({"batch_sizes": [0]}, "batch_sizes"),
        ({"batch_sizes": [1, 1]}, "twice"),
        ({"batch_sizes": "[1, two]"}, "batch_sizes"),
        ({"blocks": 0}, "blocks"),
        ({"window_s": -1}, "window_s"),
        ({"weights": "borrowed"}, "weights"),
        ({"tasks": ["mmul"]}, "mmlu"),
        ({"limit": 5}, "tasks"),
        ({"experiment": ""}, "folder name"),
        ({"baseline": "half"}, "half"),
        ({"tasks": []}, "tasks = []; expected a list of 1 or more; correct"),
        ({"blocks": "three"}, "blocks = 'three'; expected a whole number; correct"),
        ({"blocks": None}, "blocks = None; expected a whole number; correct"),
        ({"blocks": 1.5}, "blocks = 1.5; expected a whole number; correct"),
        ({"blocks": 0}, "blocks = 0; expected 1 or more; correct"),
        ({"window_s": "ten"}, "window_s = 'ten'; expected a number; correct"),
        ({"window_s": 0}, "window_s = 0; expected more than 0; correct"),
        ({"shared": "perhaps"}, "shared = 'perhaps'; expected true or false; correct"),
        ({"models": [""]}, "models.0 = ''; expected a name; correct"),
        ({"models": [7]}, "models.0 = 7; expected text; correct"),
        ({"weights": "borrowed"}, "expected 'published', 'random' or 'random_outliers'; correct"),
        ({"experiment": "../../evil"}, "'../../evil' climbs out"),
        ({"experiment": "/tmp/../evil"}, "climbs out"),
        ({"loads": ["closed:2"]}, "loads is of a server"),
        (SERVED | {"batch_sizes": [2]}, "take batch_sizes out and set loads"),
    ],
)
def test_bad_parameters_are_one_line(parameters, words):
    with pytest.raises(UserError) as caught:
        settings.sweep(**parameters)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters", [{}, SERVED, SERVED | {"batch_sizes": [1], "loads": ["open:2"]}, {"experiment": "/a/b"}, {"experiment": "a/b..c"}]
)
def test_every_parameter_written_out_is_what_was_given(parameters):
    """The notebooks write every parameter down, those at their default too."""
    sweep = settings.sweep(**parameters)
    assert settings.sweep(**sweep.model_dump()) == sweep


def test_the_grid_is_complete():
    sweep = settings.sweep(quantizations=["fp32", "nf4"], batch_sizes=[1, 2, 4], input_tokens=[8, 16])
    cells = {(c.quantization, c.batch_size, c.input_tokens) for c in sweep.configurations("cpu", "m")}
    assert cells == {(q, b, i) for q in ("fp32", "nf4") for b in (1, 2, 4) for i in (8, 16)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n- b", "a mapping"),
        ("a: [", "not YAML"),
        ("window: 3", "did you mean 'window_s'"),
        ("", "a mapping"),
        ("blocks: 3\nseed: 1\nblocks: 4", r"sweep.yaml, line 3: 'blocks' is given twice"),
        ("1: 2", "unknown parameter '1'"),
        ("? [a]\n: 2", "not YAML"),
        ('tasks: "010"', "more than one reading"),
        ("tasks: " + "x" * 300 + ".jsonl", "too long"),
    ],
)
def test_a_bad_sweep_file_is_one_line(tmp_path, content, words):
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        settings.read_sweep(path)


def test_a_missing_sweep_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        settings.read_sweep(tmp_path / "nowhere.yaml")


def test_the_notebooks_names_make_a_sweep():
    assert settings.sweep_from({"blocks": 7, "something": "else"}).blocks == 7
