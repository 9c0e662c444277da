"""A task's lm-eval objects: benchmarks with their items from the hub or its local cache, our sets and users' files without either.

Our sets and users' files become lm-eval tasks like any other: a YAML configuration of lm-eval's, and the items as they were read and
checked by `eai.items`. Nothing is downloaded for them and nothing is written.
"""

import importlib.util
import logging
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eai import items
from eai.errors import UserError
from eai.taskcards import SETS, TaskCard
from eai.workload.tasks import arithmetic, data_sets

HOMES = {"mmlu": "mmlu", "arc_challenge": "arc", "hellaswag": "hellaswag", "truthfulqa_mc1": "truthfulqa", "gsm8k": "gsm8k"}
"""The folder of lm-eval's task library that holds each of the benchmarks: indexing one takes no time, all of them 15 s."""


def quiet() -> None:
    """Import lm-eval without what it and its libraries warn of, and let it log errors only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("lm_eval.api.task")
        importlib.import_module("lm_eval.models.huggingface")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def objects(card: TaskCard) -> dict[str, Any]:
    """lm-eval's task objects by name: one, or a subject each for a group such as MMLU; made once a process.

    Raises UserError where the items cannot be had, and where lm-eval counts another version than the catalog; the hub is asked once.
    """
    found = _objects(card)
    if isinstance(found, UserError):
        raise found
    return found


@cache
def _objects(card: TaskCard) -> dict[str, Any] | UserError:
    """The objects, or why there are none: a hub that does not answer is not asked again before each load."""
    try:
        return _checked(card)
    except UserError as error:
        return error


def _checked(card: TaskCard) -> dict[str, Any]:
    """The objects, of the version that the catalog says."""
    quiet()
    found = _benchmark(card) if card.harness else {card.name: _own(card)}
    versions = {str(task.VERSION) for task in found.values()}
    if card.harness and versions != {card.version}:
        raise UserError(
            f"lm-eval's {card.name} has version {', '.join(sorted(versions))}", f"{card.version}, the catalog's", "install lm_eval==0.4.13"
        )
    return found


def _benchmark(card: TaskCard) -> dict[str, Any]:
    """The objects of a benchmark that lm-eval knows; its items come from the hub, or from the hub's local cache."""
    from lm_eval.tasks import TaskManager

    package = Path(importlib.util.find_spec("lm_eval").origin).parent
    try:
        manager = TaskManager(include_path=str(package / "tasks" / HOMES[card.harness]), include_defaults=False)
        return manager.load([card.harness])["tasks"]
    except Exception as error:  # the hub's clients raise a dozen unrelated classes for "not reachable"
        raise UserError(
            f"the items of {card.name} cannot be had ({_words(error)})",
            "a model hub that can be reached, or the data set in its local cache",
            data_sets.OURS.removeprefix("or "),
        ) from error


def _words(error: Exception) -> str:
    """The first line of an error in its own words, without the names of classes."""
    first = next(iter(str(error).strip().splitlines()), "")[:160]
    return re.sub(r"\s*\(?\b\w+(Error|Exception)\b\)?:?", "", first).strip() or "no reason given"


def _own(card: TaskCard) -> Any:
    """The object of a set of ours or of a user's file."""
    from datasets import Dataset
    from lm_eval.tasks import TaskManager

    kind, rows, examples = _contents(card)
    template = SETS / (f"_{kind}.yaml" if card.path else f"{card.name}.yaml")
    splits = {"test": _plain(rows)} | ({"examples": _plain(examples)} if examples else {})
    configuration = yaml.safe_load(template.read_text()) | {
        "task": card.name,
        "custom_dataset": lambda **_: {name: Dataset.from_list(split) for name, split in splits.items()},
        "test_split": "test",
        "metadata": {"version": card.version},
    }
    if examples:
        configuration |= {"fewshot_split": "examples", "fewshot_config": {"sampler": "first_n"}}
    return TaskManager(include_defaults=False).load([configuration])["tasks"][card.name]


def _contents(card: TaskCard) -> tuple[str, list[dict], list[dict]]:
    """(kind, items, worked examples) of a set of ours or of a user's file."""
    if card.name == "arithmetic" and not card.path:
        return "open", arithmetic.items(), arithmetic.examples()
    found = items.read(card.path or SETS / f"{card.name}.jsonl")
    return found.kind, list(found.items), list(found.examples)


def _plain(rows: list[dict]) -> list[dict]:
    """The fields that lm-eval's templates use; a table needs the same in every row."""
    return [{name: row[name] for name in ("id", "question", "choices", "answer", "text") if name in row} for row in rows]
