"""What each task is: plain generation, a benchmark of the catalog, an offline set of ours, or a user's file of items.

Task, version, few-shot setting and limit are part of a configuration's key: scores and EORs of different keys are never compared.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from eai.errors import UserError

GENERATE = "generate"
KIND_METRICS = {"choice": "acc", "open": "exact_match", "text": "word_perplexity"}
SETS = Path(str(files("eai"))) / "workload" / "sets"


@dataclass(frozen=True)
class TaskCard:
    """One task as it is run.

    `metric`: what its score is; `version`: as lm-eval or we count it, of a user's file its digest; `few_shot`: worked examples in the
    prompt unless the sweep says otherwise; `examples`: how many there are (None: as many as asked for); `path`: a user's file, else None;
    `harness`: lm-eval's own name where it brings the items, else empty; `chance`: expected score of a guess (None: varies, or no score).
    """

    name: str
    metric: str
    version: str
    few_shot: int
    examples: int | None
    path: Path | None = None
    harness: str = ""
    chance: float | None = None

    def options(self, limit: int | None, few_shot: int | None) -> dict[str, int | str]:
        """What makes one score of this task comparable with another, for the key of a configuration.

        Tasks that take no examples stay at none. Raises UserError where more examples are asked for than there are.
        """
        wanted = self.few_shot if few_shot is None or self.examples == 0 else few_shot
        if self.examples is not None and wanted > self.examples:
            raise UserError(f"fewshot {wanted} of task '{self.name}'", f"at most {self.examples}, the examples it has", "lower fewshot")
        return {"fewshot": wanted, "version": self.version} | ({} if limit is None else {"limit": limit})


def get(asked: str) -> TaskCard:
    """The task called `asked`: a name of data/catalog/tasks.csv, or the path of a JSONL file (docs/tasks.md documents its fields).

    Raises UserError with the nearest names for one that is not known, and for a file that cannot be used, with its line.
    """
    if asked.endswith(".jsonl") or "/" in asked:
        return _of_file(Path(asked).expanduser())
    from eai import catalog  # reads tables with pandas: too slow for a command line that runs no task

    try:
        task = catalog.task(asked)
    except UserError as error:
        near = str(error).partition("such as ")[2].partition(";")[0] or "mmlu"
        raise UserError(f"unknown task '{asked}'", f"{GENERATE}, {near}, or the path of a .jsonl file of your own") from None
    own = SETS / f"{task.slug}.yaml"
    if not own.exists():
        examples = 0 if task.few_shot == 0 else None
        return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, harness=task.lm_eval, chance=task.chance)
    stored = SETS / f"{task.slug}.jsonl"
    examples = len(read_items(stored).examples) if stored.exists() else task.few_shot
    return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, chance=task.chance)


def _of_file(path: Path) -> TaskCard:
    """The task of a user's file; its name is the file's, its version the digest of its content.

    Raises UserError for the name of a benchmark: scores of other items would stand under it.
    """
    found = read_items(path)
    if known := _benchmark(path.stem):
        raise UserError(f"{path} would be scored as {known}, which it is not", "a name of its own", f"rename it, such as my-{path.name}")
    chance = sum(1 / len(row["choices"]) for row in found.items) / len(found.items) if found.kind == "choice" else None
    return TaskCard(path.stem, KIND_METRICS[found.kind], f"sha256:{found.digest}", 0, len(found.examples), path, chance=chance)


def _benchmark(name: str) -> str:
    """The benchmark or set of ours that goes by this name, empty if none does."""
    from eai import catalog

    try:
        return catalog.task(name).name
    except UserError:
        return ""


def cards(asked: list[str]) -> dict[str, TaskCard]:
    """The tasks by name, `generate` left out. Raises UserError where two of them would have one name."""
    found: dict[str, TaskCard] = {}
    for each in asked:
        if each != GENERATE:
            card = get(each)
            if card.name in found or card.name == GENERATE:
                raise UserError(f"two tasks are called '{card.name}'", "one name a task", "rename the file")
            found[card.name] = card
    return found


# Items of a task as JSON lines, read and checked: one question, or one text, a line.
#
# Three kinds; all lines of a file are of the kind of its first line::
#
#     choice  {"question": "The sky is", "choices": ["blue", "wooden"], "answer": 0}     which choice fits best; answer counts from 0
#     open    {"question": "2 + 2 =", "answer": "4"}                                      the answer is generated and compared as a whole
#     text    {"text": "It was late when ..."}                                            how well the text is predicted: perplexity
#
# Further fields are kept: `id` names the item (default: its line number), `"example": true` makes the line a worked example for few-shot
# prompts instead of an item, `source` says where the answer is from.


@dataclass(frozen=True)
class Items:
    """What a file holds: the kind, the items and the worked examples in order, each with an `id`; `digest`: 8 hex of its SHA-256."""

    kind: str
    items: tuple[dict, ...]
    examples: tuple[dict, ...]
    digest: str


def _text(row: dict, name: str) -> str | None:
    """What is wrong with a text field; None if nothing."""
    value = row.get(name)
    return None if isinstance(value, str) and value.strip() else f"{name} is {_shown(value)}; expected a text that is not empty"


def _shown(value: Any) -> str:
    """A value for an error message; a missing one by that word."""
    return "missing" if value is None else f"{value!r:.60}"


def _choice(row: dict) -> str | None:
    """What is wrong with an item of four-choice kind."""
    choices, answer = row.get("choices"), row.get("answer")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        return f"choices is {_shown(choices)}; expected a list of two texts or more"
    if len(set(choices)) < len(choices):
        return f"choices names '{next(c for c in choices if choices.count(c) > 1)}' twice; expected different texts"
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        return f"answer is {_shown(answer)}; expected the number of a choice, 0 to {len(choices) - 1}"
    return _text(row, "question")


KINDS: dict[str, Callable[[dict], str | None]] = {
    "choice": _choice,
    "open": lambda row: _text(row, "question") or _text(row, "answer"),
    "text": lambda row: _text(row, "text"),
}


def _kind(row: dict) -> str:
    """The kind that a line's fields say."""
    return "text" if "text" in row else "choice" if "choices" in row else "open"


def read_items(path: Path) -> Items:
    """The items of a JSON-lines file.

    Raises UserError, which names the line, for a file that cannot be read or is empty, a line that is not an object or lacks a field, an
    answer that is none of the choices, a name that stands twice, and lines of two kinds.
    """
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold U+2028, which ends no line of JSON
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path} ({getattr(error, 'strerror', None) or 'not UTF-8'})", "a JSONL file in UTF-8", "check the path"
        ) from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    items = [row for row in rows if not row["example"]]
    if not items:
        only = f": all of its {len(rows)} lines are worked examples" if rows else ": it is empty"
        raise UserError(f"{path} holds no items{only}", "one JSON object a line", "see docs/tasks.md for the fields")
    kind = _kind(items[0])
    seen: set[str] = set()
    for row in rows:
        problem = (
            KINDS[kind](row) if _kind(row) == kind else f"a line of kind {_kind(row)} in a file of kind {kind}; expected one kind a file"
        )
        if problem or row["id"] in seen:
            raise UserError(f"{path}, line {row['line']}: {problem or 'id ' + repr(row['id']) + ' stands twice'}", do="correct that line")
        seen.add(row["id"])
    return Items(kind, tuple(items), tuple(row for row in rows if row["example"]), hashlib.sha256(content).hexdigest()[:8])


def _row(path: Path, number: int, line: str) -> dict:
    """One line as an object with `id`, `line` and `example`. Raises UserError if it is not JSON, or not an object."""
    try:
        row = json.loads(line)
    except ValueError as error:
        what = getattr(error, "msg", "not JSON")
        raise UserError(f"{path}, line {number} is not JSON ({what})", "one object a line", "correct that line") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{path}, line {number} is {_shown(row)}", 'an object such as {"question": ..., "answer": ...}', "correct that line"
        )
    return row | {"id": str(row.get("id", number)), "line": number, "example": row.get("example") is True}
