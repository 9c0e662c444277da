"""Whole passes over a task's items on a loaded model, and what they scored.

Prompts are built before the first pass and answers are judged after the last one, so that a pass holds tokenization and the
model's own work and nothing else.
"""

import io
import time
from contextlib import redirect_stderr
from typing import Any

import numpy as np

from eai.taskcards import TaskCard
from eai.workload.models import LoadedModel
from eai.workload.tasks import definitions
from eai.workload.tasks.harness import answer, harness, until_stop

FEW = 4
"""Items of a warm-up step, or one batch of them where that is more."""


class Passes:
    """A task's items on a loaded model: run as often as wanted, then scored once.

    `few_shot` and `limit` as in `TaskCard.options`; `seed` draws the examples of benchmarks that draw them, anew for every object, so that
    all strategies see the same prompts. Raises UserError where the items cannot be had.
    """

    def __init__(self, loaded: LoadedModel, card: TaskCard, batch_size: int, few_shot: int, limit: int | None, seed: int = 0):
        self._loaded, self._card, self._limit = loaded, card, limit
        self._model = harness(loaded, batch_size)
        self._tasks = definitions.objects(card)
        self._requests = {name: _requests(task, few_shot, limit, seed) for name, task in self._tasks.items()}
        self._answers: list = []
        self.items = sum(len({request.doc_id for request in own}) for own in self._requests.values())
        self._few = max(FEW, batch_size)

    @property
    def _all(self) -> list:
        """Every request of a pass; those of a group's subjects in one list, as lm-eval runs them."""
        return [request for own in self._requests.values() for request in own]

    def _run(self, requests: list) -> tuple[list, float]:
        """(answers, seconds) of some requests; ends when the device has finished."""
        self._model.reset()
        start_s = time.perf_counter()
        answers = answer(self._model, requests[0].request_type, requests)
        return answers, time.perf_counter() - start_s

    def run_few(self) -> float:
        """Seconds for a few items, which are not counted."""
        first = next(iter(self._requests.values()))
        return self._run([request for request in first if request.doc_id < self._few])[1]

    def run(self) -> float:
        """Seconds of one pass over all items."""
        self._answers, duration_s = self._run(self._all)
        return duration_s

    def scored(self) -> list[dict]:
        """One row an item of the last pass: task, item, metric, score, target, answer, tokens_in, tokens_out, words.

        Greedy answers are the same in every pass. `score` is a fraction; of a text it is its negative log likelihood [nats] over `words`.
        """
        tokens = iter(self._tokens())
        answers = iter(self._answers)
        rows = []
        for name, task in self._tasks.items():
            for request in self._requests[name]:
                request.resps = [next(answers)]
            task._instances = self._requests[name]
            task.apply_filters()
            rows += self._rows(name, task, tokens)
        return rows

    def _rows(self, name: str, task: Any, tokens: Any) -> list[dict]:
        """The rows of one lm-eval task; of several filters the first counts (GSM8K: strict match)."""
        by_item: dict[int, list] = {}
        for request in self._requests[name]:
            by_item.setdefault(request.doc_id, []).append((request, next(tokens)))
        rows = []
        for number, doc in task.doc_iterator(limit=self._limit):
            requests, counts = zip(*by_item[number], strict=True)
            responses = [next(iter(request.filtered_resps.values())) for request in requests]
            row = {"task": self._card.name, "item": f"{name}/{number}" if self._card.harness else doc["id"]}
            row |= _judged(task, doc, responses, self._card.metric)
            tokens_in, tokens_out = (sum(column) for column in zip(*counts, strict=True))
            rows.append(row | {"tokens_in": tokens_in, "tokens_out": tokens_out})
        return rows

    def _tokens(self) -> list[tuple[int, int]]:
        """(input tokens, output tokens) of each request of the last pass."""
        kind = self._all[0].request_type
        if kind == "loglikelihood":
            return [(n, 0) for n in self._model.scored_tokens]
        if kind == "loglikelihood_rolling":
            return [(len(self._model.tok_encode(request.args[0])), 0) for request in self._all]
        ends = _end_tokens(self._loaded.model, self._model)
        found = (self._model.generated[request.args[0]] for request in self._all)
        return [(tokens_in, until_stop(self._loaded.tokenizer, row, stops, ends)) for tokens_in, row, stops in found]


def _requests(task: Any, few_shot: int, limit: int | None, seed: int) -> list:
    """The lm-eval requests of one task object, in the order of its items."""
    task.set_config("num_fewshot", few_shot)
    task.set_fewshot_seed(seed)
    with redirect_stderr(io.StringIO()):  # draws a progress bar
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def _judged(task: Any, doc: dict, responses: list, metric: str) -> dict:
    """metric, score, target, answer and words of one item, as lm-eval judges it."""
    judged = task.process_results(doc, responses)
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        likelihood, words = judged["word_perplexity"]
        return {"metric": f"{metric}_nats", "score": -float(likelihood), "target": "", "answer": "", "words": words}
    row = {"metric": metric, "score": float(judged[metric]), "target": str(task.doc_to_target(doc)), "words": None}
    if task.OUTPUT_TYPE != "multiple_choice":
        return row | {"answer": str(responses[0])}
    likelihoods = np.array([likelihood for likelihood, _ in responses])
    lengths = [len(choice) for choice in task.doc_to_choice(doc)] if metric == "acc_norm" else 1
    return row | {"answer": str(int(np.argmax(likelihoods / lengths)))}


def _end_tokens(model: Any, harnessed: Any) -> set[int]:
    """The tokens that end a generated text."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return {harnessed.eot_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
