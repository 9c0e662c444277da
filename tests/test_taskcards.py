"""What a task is and what makes two scores of it comparable."""

import json

import pytest

from eai import settings
from eai.errors import UserError


@pytest.mark.parametrize(
    ("asked", "name", "metric", "few_shot"),
    [
        ("mmlu", "mmlu", "acc", 5),
        ("ARC-Challenge", "arc_challenge", "acc_norm", 25),
        ("gsm8k", "gsm8k", "exact_match", 5),
        ("truthfulqa", "truthfulqa", "acc", 0),
        ("arithmetic", "arithmetic", "exact_match", 5),
        ("facts", "facts", "acc", 0),
        ("continuations", "continuations", "acc_norm", 0),
        ("perplexity", "perplexity", "word_perplexity", 0),
    ],
)
def test_a_task_is_found_by_any_name(asked, name, metric, few_shot):
    card = settings.task_card(asked)
    assert (card.name, card.metric, card.few_shot) == (name, metric, few_shot)
    assert bool(card.harness) == (name in ("mmlu", "arc_challenge", "gsm8k", "truthfulqa"))


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown task 'hellaswg'; expected generate, hellaswag.* \.jsonl"):
        settings.task_card("hellaswg")


def test_a_users_file_is_a_task_whose_version_is_its_content(tmp_path):
    path = tmp_path / "mine.jsonl"
    row = {"question": "The sky is", "choices": ["blue", "wooden", "loud"], "answer": 0}
    path.write_text(json.dumps(row))
    card = settings.task_card(str(path))
    assert (card.name, card.metric, card.few_shot, card.path) == ("mine", "acc", 0, path)
    assert card.chance == pytest.approx(1 / 3)
    path.write_text(json.dumps(row | {"answer": 1}))
    assert settings.task_card(str(path)).version != card.version


def test_two_tasks_of_one_name_are_refused(tmp_path):
    files = [tmp_path / folder / "mine.jsonl" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(json.dumps({"text": "a b"}))
    with pytest.raises(UserError, match="two tasks are called 'mine'"):
        settings.sweep(tasks=[str(file) for file in files])


def test_examples_limit_and_version_are_part_of_the_key():
    def ids(**changes):
        asked = {"tasks": ["facts", "perplexity"], "quantizations": ["fp32"], "batch_sizes": [1]} | changes
        return {c.task: c.configuration_id for c in settings.sweep(**asked).configurations("cpu", "m")}

    plain = ids()
    assert ids(limit=20)["facts"] != plain["facts"]
    assert ids(fewshot=2)["facts"] != plain["facts"]
    assert ids(fewshot=2)["perplexity"] == plain["perplexity"], "a text takes no examples"
    with pytest.raises(UserError, match="fewshot 6 of task 'facts'; expected at most 5"):
        ids(fewshot=6)


def test_lengths_are_no_axis_of_a_task():
    sweep = settings.sweep(
        tasks=["generate", "facts"], input_tokens=[8, 16], output_tokens=[1, 4, 8], quantizations=["fp32"], batch_sizes=[1, 2]
    )
    found = sweep.configurations("cpu", "m")
    assert [c.task for c in found].count("generate") == 2 * 2 * 3
    assert [(c.batch_size, c.input_tokens, c.output_tokens) for c in found if c.task == "facts"] == [(1, 0, 0), (2, 0, 0)]


def test_the_key_of_plain_generation_does_not_know_of_tasks():
    """Ids of windows that were measured before tasks existed: they must never change."""
    alone, beside = settings.sweep(), settings.sweep(tasks=["generate", "facts"], limit=5)
    plain = [c.configuration_id for c in beside.configurations("cpu", "m") if c.task == "generate"]
    assert plain == [c.configuration_id for c in alone.configurations("cpu", "m")]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"tasks": ["facts"], "weights": "random"}, "published weights"),
        ({"tasks": ["facts"], "kv_cache": False}, "kv_cache"),
        ({"tasks": ["facts"], "cache": "static"}, "cache"),
        ({"fewshot": 2}, "limit and fewshot are of tasks"),
        ({"tasks": ["facts"], "limit": 0}, "limit"),
    ],
)
def test_what_cannot_be_scored_is_said_before_anything_runs(parameters, words):
    with pytest.raises(UserError, match=words):
        settings.sweep(**parameters)


def test_plain_generation_needs_lengths():
    with pytest.raises(Exception, match="1 or more"):
        settings.Configuration(gpu="cpu", model="m", quantization="fp32", batch_size=1, input_tokens=0, output_tokens=4)
