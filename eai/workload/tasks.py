"""Tasks with right answers, run by lm-eval on the model that is loaded and quantized already: items, prompts, counted tokens, scores.

Our sets and users' files become lm-eval tasks like any other: a YAML configuration of lm-eval's, and the items as they were read and
checked by `eai.settings`. Nothing is downloaded for them and nothing is written.
"""

import importlib.util
import io
import logging
import os
import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from eai import settings
from eai.errors import UserError
from eai.settings import SETS, TaskCard
from eai.workload import device
from eai.workload.models import LoadedModel

HUB_TIMEOUT_S = 5.0
DATA_SETS = {
    "mmlu": ("cais/mmlu", ""),
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge"),
    "hellaswag": ("Rowan/hellaswag", ""),
    "truthfulqa_mc1": ("truthfulqa/truthful_qa", "multiple_choice"),
    "gsm8k": ("openai/gsm8k", "main"),
}
"""By lm-eval's name: the data set that lm-eval 0.4.13 loads, and its part where it takes only one."""
HOMES = {"mmlu": "mmlu", "arc_challenge": "arc", "hellaswag": "hellaswag", "truthfulqa_mc1": "truthfulqa", "gsm8k": "gsm8k"}
"""The folder of lm-eval's task library that holds each of the benchmarks: indexing one takes no time, all of them 15 s."""

OURS = "or run a task that needs no hub: arithmetic, facts, continuations, perplexity"


def is_cached(harness: str) -> bool:
    """Whether the items of a benchmark lie in the local cache, ready to be read without the hub."""
    from huggingface_hub import constants

    name, part = DATA_SETS[harness]
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    return any((cache / name.replace("/", "___")).glob(f"{part or '*'}/*/*/*.arrow"))


def require(task: str, harness: str, may_be_elsewhere: bool = False) -> None:
    """Nothing if the items of benchmark `task` are at hand; one small request to the hub at most, before a sweep begins.
    `may_be_elsewhere`: a hub that cannot be reached from here may be reachable where the sweep runs. Raises UserError otherwise."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if harness not in DATA_SETS or is_cached(harness):
        return
    found = f"the items of {task} (data set {DATA_SETS[harness][0]}) are not in the local cache"
    expected = "a data set in the local cache, or one that can be downloaded"
    try:
        if not constants.HF_HUB_OFFLINE:
            get_hf_file_metadata(hf_hub_url(DATA_SETS[harness][0], "README.md", repo_type="dataset"), timeout=HUB_TIMEOUT_S)
            return
        why, do = "the hub is switched off", "switch HF_HUB_OFFLINE off"
    except GatedRepoError:
        why, do = "the hub gives them only to users who are logged in", "log in with `hf auth login`"
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "an error"
        why, do = f"the hub answers {code}", "try again later"
    except Exception:  # the hub's clients raise a dozen unrelated classes for "not reachable"
        why, do = "the hub cannot be reached", "connect this machine"
    if not may_be_elsewhere:
        raise UserError(f"{found}, and {why}", expected, f"{do}, {OURS}")


def quiet() -> None:
    """Import lm-eval, and let it log errors only."""
    device.imported("lm_eval.api.task", "lm_eval.models.huggingface")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def task_objects(card: TaskCard) -> dict[str, Any]:
    """lm-eval's task objects by name: one, or a subject each for a group such as MMLU; made once a process. Raises UserError where the
    items cannot be loaded, and where lm-eval counts another version than the catalog; the hub is asked once."""
    found = _objects(card)
    if isinstance(found, UserError):
        raise found
    return found


@cache
def _objects(card: TaskCard) -> dict[str, Any] | UserError:
    """The objects, or why there are none: a hub that does not answer is not asked again before each load."""
    quiet()
    try:
        found = _benchmark(card) if card.harness else {card.name: _own(card)}
    except UserError as error:
        return error
    versions = {str(task.VERSION) for task in found.values()}
    if card.harness and versions != {card.version}:
        seen = f"lm-eval's {card.name} has version {', '.join(sorted(versions))}"
        return UserError(seen, f"{card.version}, the catalog's", "install lm_eval==0.4.13")
    return found


def _benchmark(card: TaskCard) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    package = Path(importlib.util.find_spec("lm_eval").origin).parent
    try:
        manager = TaskManager(include_path=str(package / "tasks" / HOMES[card.harness]), include_defaults=False)
        return manager.load([card.harness])["tasks"]
    except Exception as error:  # the hub's clients raise a dozen unrelated classes for "not reachable"
        wanted = "a model hub that can be reached, or the data set in its local cache"
        raise UserError(f"the items of {card.name} cannot be loaded ({_words(error)})", wanted, OURS.removeprefix("or ")) from error


def _words(error: Exception) -> str:
    """The first line of an error in its own words, without the names of classes."""
    first = next(iter(str(error).strip().splitlines()), "")[:160]
    return re.sub(r"\s*\(?\b\w+(Error|Exception)\b\)?:?", "", first).strip() or "no reason given"


def _own(card: TaskCard) -> Any:
    """The object of a set of ours or of a user's file, with the fields that lm-eval's templates use."""
    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    read = settings.read_items(card.path or SETS / f"{card.name}.jsonl")
    template = SETS / (f"_{read.kind}.yaml" if card.path else f"{card.name}.yaml")
    fields = ("id", "question", "choices", "answer", "text")
    splits = {"test": read.items} | ({"examples": read.examples} if read.examples else {})
    splits = {name: [{f: row[f] for f in fields if f in row} for row in split] for name, split in splits.items()}
    configuration = yaml.safe_load(template.read_text()) | {
        "task": card.name,
        "custom_dataset": lambda **_: {name: Dataset.from_list(split) for name, split in splits.items()},
        "test_split": "test",
        "metadata": {"version": card.version},
    }
    if read.examples:
        configuration |= {"fewshot_split": "examples", "fewshot_config": {"sampler": "first_n"}}
    return TaskManager(include_defaults=False).load([configuration])["tasks"][card.name]


def harness(loaded: LoadedModel, batch_size: int) -> Any:
    """An lm-eval model around `loaded`, every token counted where it is processed. `scored_tokens`: input tokens of each scored request, 0
    where lm-eval reads several one-token continuations off one pass. `generated`: by prompt, (input tokens, new token ids, stop
    strings)."""
    quiet()
    from lm_eval.models.huggingface import HFLM

    class Counted(HFLM):
        """lm-eval's model for transformers, which says nothing on a terminal and keeps account of tokens."""

        def reset(self) -> None:
            self.scored_tokens: list[int] = []
            self.generated: dict[str, tuple[int, list[int], list[str]]] = {}

        def _loglikelihood_tokens(self, requests: Sequence, disable_tqdm: bool = False, override_bs: int | None = None) -> list:
            seen: set[tuple] = set()
            for _, context, continuation in requests:
                inputs = tuple((context + continuation)[-(self.max_length + 1) :][:-1])
                self.scored_tokens.append(0 if inputs in seen else len(inputs))
                seen.add(inputs)
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

        def tok_batch_encode(self, strings: list[str], *arguments: Any, **named: Any) -> Any:
            self._prompts = strings
            return super().tok_batch_encode(strings, *arguments, **named)

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **named: Any) -> Any:
            result = super()._model_generate(context, max_length, stop, **named)
            rows = result[:, context.shape[1] :].tolist()
            for prompt, mask, row in zip(self._prompts, named["attention_mask"].tolist(), rows, strict=True):
                self.generated[prompt] = (sum(mask), row, list(stop))
            return result

    model = Counted(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        mixed_precision_dtype="float16" if loaded.strategy.slug == "fp16_mixed" else None,
    )
    model.reset()
    return model


def answer(model: Any, kind: str, requests: list) -> list:
    """What the model answers to requests of one kind (loglikelihood, loglikelihood_rolling, generate_until), in their order."""
    if kind != "loglikelihood_rolling":
        return getattr(model, kind)(requests, disable_tqdm=True)
    with redirect_stderr(io.StringIO()):  # draws a bar whatever it is told
        return model.loglikelihood_rolling(requests, disable_tqdm=True)


def until_stop(tokenizer: Any, row: list[int], stops: list[str], end_tokens: set[int]) -> int:
    """How many tokens of a generated row are its own: up to the end token or the first stop string, that one included. What a batch decodes
    for a finished row while others go on is nobody's output."""
    row = row[: next((i + 1 for i, token in enumerate(row) if token in end_tokens), len(row))]

    def stopped(n: int) -> bool:
        text = tokenizer.decode(row[:n], skip_special_tokens=False)
        return any(stop in text for stop in stops)

    return min(bisect_left(range(1, len(row) + 1), True, key=stopped) + 1, len(row))


FEW = 4  # items of a warm-up step, or one batch of them where that is more


class Passes:
    """A task's items on a loaded model: run as often as wanted, then scored once. Prompts are built before the first pass and answers
    judged after the last one, so that a pass holds the model's own work. `seed` draws the examples of benchmarks that draw them, alike for
    all strategies."""

    def __init__(self, loaded: LoadedModel, card: TaskCard, batch_size: int, few_shot: int, limit: int | None, seed: int = 0):
        self._loaded, self._card, self._limit = loaded, card, limit
        self._model = harness(loaded, batch_size)
        self._tasks = task_objects(card)
        self._requests = {name: _requests(task, few_shot, limit, seed) for name, task in self._tasks.items()}
        self._all = [request for own in self._requests.values() for request in own]  # a group's subjects in one list, as lm-eval runs them
        self._answers: list = []
        self.items = sum(len({request.doc_id for request in own}) for own in self._requests.values())
        self._few = max(FEW, batch_size)

    def run(self, requests: list | None = None) -> float:
        """Seconds of one pass over all items; ends when the device has finished."""
        requests = self._all if requests is None else requests
        self._model.reset()
        start_s = time.perf_counter()
        self._answers = answer(self._model, requests[0].request_type, requests)
        return time.perf_counter() - start_s

    def run_few(self) -> float:
        first = next(iter(self._requests.values()))
        return self.run([request for request in first if request.doc_id < self._few])

    def scored(self) -> list[dict]:
        """One row an item of the last pass; greedy answers are the same in every one. `score` is a fraction; of a text it is its negative
        log likelihood [nats] over `words`. Of several filters of lm-eval's the first counts (GSM8K: strict match)."""
        tokens, answers, rows = iter(self._tokens()), iter(self._answers), []
        for name, task in self._tasks.items():
            by_item: dict[int, list] = {}
            for request in self._requests[name]:
                request.resps = [next(answers)]
                by_item.setdefault(request.doc_id, []).append((request, next(tokens)))
            task._instances = self._requests[name]
            task.apply_filters()
            for number, doc in task.doc_iterator(limit=self._limit):
                requests, counts = zip(*by_item[number], strict=True)
                responses = [next(iter(request.filtered_resps.values())) for request in requests]
                row = {"task": self._card.name, "item": f"{name}/{number}" if self._card.harness else doc["id"]}
                row |= _judged(task, doc, responses, self._card.metric)
                tokens_in, tokens_out = (sum(column) for column in zip(*counts, strict=True))
                rows.append(row | {"tokens_in": tokens_in, "tokens_out": tokens_out, "items": None})
        return rows

    def _tokens(self) -> list[tuple[int, int]]:
        """(input tokens, output tokens) of each request of the last pass."""
        kind = self._all[0].request_type
        if kind == "loglikelihood":
            return [(n, 0) for n in self._model.scored_tokens]
        if kind == "loglikelihood_rolling":
            return [(len(self._model.tok_encode(request.args[0])), 0) for request in self._all]
        ids = getattr(self._loaded.model.generation_config, "eos_token_id", None)
        ends = {self._model.eot_token_id, *(ids if isinstance(ids, list) else [ids])} - {None}
        found = (self._model.generated[request.args[0]] for request in self._all)
        return [(tokens_in, until_stop(self._loaded.tokenizer, row, stops, ends)) for tokens_in, row, stops in found]


def _requests(task: Any, few_shot: int, limit: int | None, seed: int) -> list:
    task.set_config("num_fewshot", few_shot)
    task.set_fewshot_seed(seed)
    with redirect_stderr(io.StringIO()):  # draws a progress bar
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def _judged(task: Any, doc: dict, responses: list, metric: str) -> dict:
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
