"""Tasks through lm-eval on a real model: answers, likelihoods and tokens agree with transformers used directly, and damage shows."""

import json
import math
from collections import Counter

import pytest

from eai import settings
from eai.errors import UserError
from eai.settings import EMBEDDED_MODEL
from eai.stats.intervals import wilson_interval
from eai.stats.scores import mcnemar_p, pair
from eai.workload import models, tasks
from eai.workload.tasks import Passes, until_stop

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
LIMITS = {"facts": 20, "continuations": 12, "arithmetic": 12}


@pytest.fixture(scope="module")
def loaded():
    return models.load(EMBEDDED_MODEL, "fp32", "cpu")


def scored(loaded, task, limit, batch_size=8, few_shot=None):
    card = settings.task_card(task)
    options = card.options(limit, few_shot)
    passes = Passes(loaded, card, batch_size, options["fewshot"], options.get("limit"))
    passes.run()
    return passes.scored()


@pytest.fixture(scope="module")
def rows(loaded):
    return {task: scored(loaded, task, limit) for task, limit in LIMITS.items()}


def log_likelihood(loaded, prompt, continuation):
    """Sum of the log probabilities of the continuation's tokens, by one forward pass."""
    import torch

    before = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole = loaded.tokenizer(prompt + continuation, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(logits[i - 1, whole[i]].item() for i in range(len(before), len(whole)))


def test_the_full_precision_score_excludes_chance_on_every_task(rows):
    for task, found in rows.items():
        low = float(wilson_interval(sum(row["score"] for row in found), len(found)).low)
        assert len(found) == LIMITS[task] and low > settings.task_card(task).chance + 0.1, (task, low)


def test_the_chosen_answer_is_that_of_the_likelihoods(loaded, rows):
    """acc: the likeliest choice; acc_norm: the likeliest a character."""
    for task, normal in (("facts", False), ("continuations", True)):
        items = tasks.task_objects(settings.task_card(task))[task].dataset["test"]
        for row, doc in list(zip(rows[task], items, strict=False))[:6]:
            own = [log_likelihood(loaded, doc["question"], f" {c}") / (len(c) if normal else 1) for c in doc["choices"]]
            assert row["item"] == doc["id"] and row["target"] == str(doc["answer"])
            assert row["answer"] == str(max(range(4), key=own.__getitem__))
            assert row["score"] == (row["answer"] == row["target"])


def test_a_generated_answer_and_its_tokens_are_those_of_plain_generation(loaded, rows):
    import torch

    examples = "12 + 3 = 15\n4 + 11 = 15\n10 + 10 = 20\n20 + 5 = 25\n13 + 6 = 19\n"
    items = tasks.task_objects(settings.task_card("arithmetic"))["arithmetic"].dataset["test"]
    for row, doc in list(zip(rows["arithmetic"], items, strict=False))[:4]:
        ids = loaded.tokenizer(examples + doc["question"], return_tensors="pt", add_special_tokens=False)["input_ids"]
        assert row["tokens_in"] == ids.shape[1]
        text, n = "", 0
        with torch.no_grad():
            while "\n" not in text:
                ids = torch.cat([ids, loaded.model(ids).logits[:, -1:].argmax(-1)], dim=1)
                n, text = n + 1, text + loaded.tokenizer.decode(ids[0, -1:])
        assert row["answer"] == text.partition("\n")[0].strip() and row["tokens_out"] == n
        assert row["score"] == (row["answer"] == doc["answer"])


def test_perplexity_is_that_of_a_forward_pass(loaded):
    found = scored(loaded, "perplexity", 2)
    for row, doc in zip(found, tasks.task_objects(settings.task_card("perplexity"))["perplexity"].dataset["test"], strict=False):
        start = loaded.tokenizer.bos_token or loaded.tokenizer.eos_token
        assert row["score"] == pytest.approx(-log_likelihood(loaded, start, doc["text"]), rel=1e-4)
        assert row["words"] == len(doc["text"].split())
        assert row["tokens_in"] == len(loaded.tokenizer(doc["text"], add_special_tokens=False)["input_ids"])
        assert row["metric"] == "word_perplexity_nats" and row["tokens_out"] == 0
        assert 1 < math.exp(row["score"] / row["words"]) < 1000


def test_tokens_are_those_that_are_processed(loaded, rows):
    """lm-eval reads several one-token continuations of a prompt off one forward pass: that pass counts once."""
    items = tasks.task_objects(settings.task_card("facts"))["facts"].dataset["test"]
    for row, doc in zip(rows["facts"], items, strict=False):
        passes = {tuple(loaded.tokenizer(f"{doc['question']} {c}", add_special_tokens=False)["input_ids"][:-1]) for c in doc["choices"]}
        assert row["tokens_in"] == sum(map(len, passes))
    assert len({row["tokens_in"] for row in rows["facts"]}) > 3


def test_the_batch_changes_no_answer(loaded, rows):
    for task, limit in (("facts", 8), ("arithmetic", 4)):
        alone = scored(loaded, task, limit, batch_size=1)
        assert [(r["item"], r["answer"], r["tokens_out"]) for r in alone] == [
            (r["item"], r["answer"], r["tokens_out"]) for r in rows[task][:limit]
        ]


def test_examples_come_before_the_question(loaded):
    card = settings.task_card("facts")
    prompt = Passes(loaded, card, 1, 2, 1)._all[0].args[0]
    assert prompt == "One day is equal to 24 hours.\nThe last month of the year is December.\nThe capital of Cuba is"


def test_a_users_file_is_scored_like_any_task(loaded, tmp_path):
    """Of each kind, with answers that leave no doubt."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"question": "One, two, three, four,", "choices": c, "answer": a}) + "\n"
                            for c, a in ((["five", "purple table"], 0), (["purple table", "five"], 1))))  # fmt: skip
    assert [(r["item"], r["answer"], r["score"]) for r in scored(loaded, str(path), None)] == [("1", "0", 1.0), ("2", "1", 1.0)]
    pairs = (("big", "small"), ("tall", "short"), ("old", "young"), ("hot", "COLD!"))
    lines = [{"question": f"The opposite of {q}:", "answer": a, "example": q != "hot"} for q, a in pairs]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (row,) = scored(loaded, str(path), None, few_shot=3)
    assert (row["answer"], row["score"]) == ("cold", 1.0), "compared without regard to case and punctuation"
    path.write_text(json.dumps({"text": "The cat sat on the mat."}) + "\n")
    assert scored(loaded, str(path), None)[0]["words"] == 6


def test_a_damaged_model_scores_worse(loaded, rows):
    """Noise as large as the weights: McNemar's test on the same items tells the two apart on every task, and perplexity soars."""
    import torch

    before = sum(row["score"] for row in scored(loaded, "perplexity", 1))
    kept = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            for name, p in loaded.model.named_parameters():
                if "mlp" in name:
                    p.add_(torch.randn_like(p) * p.std())
        for task, limit in LIMITS.items():
            damaged = scored(loaded, task, limit)
            counts = pair([row["score"] for row in damaged], [row["score"] for row in rows[task]])
            assert counts.first < counts.second and mcnemar_p(counts) < 0.05, task
        assert sum(row["score"] for row in scored(loaded, "perplexity", 1)) > 1.3 * before
    finally:
        for name, p in loaded.model.named_parameters():
            p.data = kept[name]


def test_a_hub_that_cannot_be_reached_is_one_line_and_asked_once(monkeypatch):
    import datasets

    asked = Counter()

    def unreachable(path, *_, **__):
        asked[path] += 1
        raise ConnectionError(f"Couldn't reach '{path}' on the Hub\nmore of it")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    tasks._objects.cache_clear()
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"the items of gsm8k cannot be loaded \(Couldn't reach 'openai/gsm8k' on the Hub\); expected a model hub"
        ):
            tasks.task_objects(settings.task_card("gsm8k"))
    assert asked["openai/gsm8k"] == 1
    tasks._objects.cache_clear()


HUB = {
    "arc_challenge": ("allenai/ai2_arc", {"answerKey": "B", "choices": {"text": ["a horse", "four"], "label": ["A", "B"]}}),
    "hellaswag": (
        "Rowan/hellaswag",
        {
            "activity_label": "Cooking",
            "ctx_a": "A man cuts an onion.",
            "ctx_b": "he",
            "endings": ["marries the moon.", "cooks."],
            "label": "1",
        },
    ),
    "truthfulqa": ("truthfulqa/truthful_qa", {"mc1_targets": {"choices": ["A purple horse of nine", "Four"], "labels": [0, 1]}}),
    "gsm8k": ("openai/gsm8k", {"answer": "2 + 2 = 4.\n#### 4"}),
    "mmlu": ("cais/mmlu", {"choices": ["one", "four", "nine", "six"], "answer": 1}),
}


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds three items of ours, in its own format, for each benchmark."""
    import datasets

    def stored(path, *_, **__):
        row = next(row for name, row in HUB.values() if name == path)
        rows = {
            split: [row | {"id": f"{split}{i}", "ind": i, "question": f"{split} {i}: what is two plus two?"} for i in range(3)]
            for split in ("train", "validation", "test", "dev")
        }
        return datasets.DatasetDict({split: datasets.Dataset.from_list(rows[split]) for split in rows})

    monkeypatch.setattr(datasets, "load_dataset", stored)
    tasks._objects.cache_clear()
    yield
    tasks._objects.cache_clear()


@pytest.mark.parametrize(
    ("task", "metric", "target", "answer"),
    [
        ("arc_challenge", "acc_norm", "1", "1"),
        ("hellaswag", "acc_norm", "1", "1"),
        ("truthfulqa", "acc", "0", "1"),  # lm-eval's target is the first choice; the model prefers the sensible one
    ],
)
def test_a_benchmark_of_the_hub_runs_from_its_items(loaded, hub, task, metric, target, answer):
    (row,) = scored(loaded, task, 1, few_shot=1)
    assert (row["task"], row["metric"], row["target"], row["answer"]) == (task, metric, target, answer)
    assert row["score"] == (answer == target) and row["tokens_out"] == 0


def test_gsm8k_is_judged_by_the_number_after_its_mark(loaded, hub):
    """Strict match, the first of lm-eval's two filters: what follows ####, which the worked example teaches."""
    (row,) = scored(loaded, "gsm8k", 1, few_shot=1)
    assert row["metric"] == "exact_match" and row["answer"].isdigit() and row["tokens_out"] > 4
    assert row["score"] == (row["answer"] == "4")


def test_mmlu_is_its_57_subjects(tiny_model, hub):
    """The limit is of each subject, as lm-eval has it, and an item is named by its subject."""
    found = scored(models.load(str(tiny_model), "fp32", "cpu"), "mmlu", 2, batch_size=32, few_shot=0)
    assert len(found) == 2 * 57 == len({row["item"] for row in found}) and {"mmlu_anatomy/0", "mmlu_anatomy/1"} < {
        row["item"] for row in found
    }
    assert {row["task"] for row in found} == {"mmlu"} and {row["target"] for row in found} == {"1"}


def test_another_version_than_the_catalogs_is_refused(monkeypatch):
    class Other:
        VERSION = 9.0

    monkeypatch.setattr(tasks, "_benchmark", lambda card: {"gsm8k": Other})
    tasks._objects.cache_clear()
    with pytest.raises(UserError, match=r"lm-eval's gsm8k has version 9.0; expected 3.0"):
        tasks.task_objects(settings.task_card("gsm8k"))
    tasks._objects.cache_clear()


@pytest.mark.parametrize(
    ("row", "own"),
    [(["a", "b", "\n", "c"], 3), (["a", "</s>", "a"], 2), (["a", "b"], 2), (["\n"], 1), ([], 0), (["a", "Ques", "tion:", "b"], 3)],
)
def test_a_row_ends_at_its_own_stop(row, own):
    class Words:
        def decode(self, tokens, skip_special_tokens):
            return "".join(tokens)

    assert until_stop(Words(), row, ["\n", "Question:"], {"</s>"}) == own
