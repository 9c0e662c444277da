"""What each task is: plain generation, a benchmark of the catalog, an offline set of ours, or a user's file of items.

Task, version, few-shot setting and limit are part of a configuration's key: scores and EORs of different keys are never compared.

Items are JSON lines, one question, or one text, a line. Three kinds; all lines of a file are of the kind of its first line::

    choice  {"question": "The sky is", "choices": ["blue", "wooden"], "answer": 0}     which choice fits best; answer counts from 0
    open    {"question": "2 + 2 =", "answer": "4"}                                      the answer is generated and compared as a whole
    text    {"text": "It was late when ..."}                                            how well the text is predicted: perplexity

Further fields are kept: `id` names the item (default: its line number), `"example": true` makes the line a worked example for few-shot
prompts instead of an item, `source` says where the answer is from.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from eai.errors import UserError

GENERATE = "generate"
KIND_METRICS = {"choice": "acc", "open": "exact_match", "text": "word_perplexity"}
TEXTS = {"choice": ("question",), "open": ("question", "answer"), "text": ("text",)}
"""The fields of each kind that hold a text."""
SETS = Path(str(files("eai"))) / "workload" / "sets"


@dataclass(frozen=True)
class TaskCard:
    """One task as it is run. `metric`: what its score is; `version`: as lm-eval or we count it, of a user's file its digest; `few_shot`:
    worked examples in the prompt unless the sweep says otherwise; `examples`: how many there are (None: as many as asked for); `path`: a
    user's file, else None; `harness`: lm-eval's own name where it brings the items; `chance`: score of a guess (None: varies, or none)."""

    name: str
    metric: str
    version: str
    few_shot: int
    examples: int | None
    path: Path | None = None
    harness: str = ""
    chance: float | None = None

    def options(self, limit: int | None, few_shot: int | None) -> dict[str, int | str]:
        """What makes one score of this task comparable with another, for the key of a configuration; tasks that take no examples stay at
        none. Raises UserError where more examples are asked for than there are."""
        wanted = self.few_shot if few_shot is None or self.examples == 0 else few_shot
        if self.examples is not None and wanted > self.examples:
            raise UserError(f"fewshot {wanted} of task '{self.name}'", f"at most {self.examples}, the examples it has", "lower fewshot")
        return {"fewshot": wanted, "version": self.version} | ({} if limit is None else {"limit": limit})


def get(asked: str) -> TaskCard:
    """The task called `asked`: a name of data/catalog/tasks.csv, or the path of a JSONL file (docs/tasks.md documents its fields).

    Raises UserError with the nearest names for one that is not known, and for a file that cannot be used, with its line.
    """
    from eai import catalog  # reads tables with pandas: too slow for a command line that runs no task

    if asked.endswith(".jsonl") or "/" in asked:
        path = Path(asked).expanduser()
        found = read_items(path)
        try:  # scores of other items would stand under the benchmark's name
            known = catalog.task(path.stem).name
        except UserError:
            chance = sum(1 / len(row["choices"]) for row in found.items) / len(found.items) if found.kind == "choice" else None
            return TaskCard(path.stem, KIND_METRICS[found.kind], f"sha256:{found.digest}", 0, len(found.examples), path, chance=chance)
        raise UserError(f"{path} would be scored as {known}, which it is not", "a name of its own", f"rename it, such as my-{path.name}")
    try:
        task = catalog.task(asked)
    except UserError as error:
        near = str(error).partition("such as ")[2].partition(";")[0] or "mmlu"
        raise UserError(f"unknown task '{asked}'", f"{GENERATE}, {near}, or the path of a .jsonl file of your own") from None
    is_own, stored = (SETS / f"{task.slug}.yaml").exists(), SETS / f"{task.slug}.jsonl"
    examples = len(read_items(stored).examples) if stored.exists() else task.few_shot if is_own or not task.few_shot else None
    harness = "" if is_own else task.lm_eval
    return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, harness=harness, chance=task.chance)


def cards(asked: list[str]) -> dict[str, TaskCard]:
    """The tasks by name, `generate` left out. Raises UserError where two of them would have one name."""
    found: dict[str, TaskCard] = {}
    for card in (get(each) for each in asked if each != GENERATE):
        if card.name in found or card.name == GENERATE:
            raise UserError(f"two tasks are called '{card.name}'", "one name a task", "rename the file")
        found[card.name] = card
    return found


class Items(NamedTuple):
    """What a file holds: the kind, the items and the worked examples in order, each with an `id`; `digest`: 8 hex of its SHA-256."""

    kind: str
    items: tuple[dict, ...]
    examples: tuple[dict, ...]
    digest: str


def _shown(value: Any) -> str:
    """A value for an error message; a missing one by that word."""
    return "missing" if value is None else f"{value!r:.60}"


def _kind(row: dict) -> str:
    """The kind that a line's fields say."""
    return "text" if "text" in row else "choice" if "choices" in row else "open"


def _problem(row: dict, kind: str) -> str:
    """What is wrong with a line in a file of a kind; empty if nothing."""
    choices, answer = row.get("choices"), row.get("answer")
    if _kind(row) != kind:
        return f"a line of kind {_kind(row)} in a file of kind {kind}; expected one kind a file"
    if kind == "choice":
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
            return f"choices is {_shown(choices)}; expected a list of two texts or more"
        if twice := [c for c in choices if choices.count(c) > 1]:
            return f"choices names '{twice[0]}' twice; expected different texts"
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
            return f"answer is {_shown(answer)}; expected the number of a choice, 0 to {len(choices) - 1}"
    for name in TEXTS[kind]:
        if not isinstance(row.get(name), str) or not row[name].strip():
            return f"{name} is {_shown(row.get(name))}; expected a text that is not empty"
    return ""


def read_items(path: Path) -> Items:
    """The items of a JSON-lines file.

    Raises UserError, which names the line, for a file that cannot be read or is empty, a line that is not an object or lacks a field, an
    answer that is none of the choices, a name that stands twice, and lines of two kinds.
    """
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold U+2028, which ends no line of JSON
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"cannot read {path} ({why})", "a JSONL file in UTF-8", "check the path") from None
    rows: list[dict] = []
    for number, line in ((number, line) for number, line in enumerate(lines, start=1) if line.strip()):
        where, do = f"{path}, line {number}", "correct that line"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({getattr(error, 'msg', 'not JSON')})", "one object a line", do) from None
        if not isinstance(row, dict):
            raise UserError(f"{where} is {_shown(row)}", 'an object such as {"question": ..., "answer": ...}', do)
        rows.append(row | {"id": str(row.get("id", number)), "line": number, "example": row.get("example") is True})
    items, examples = (tuple(row for row in rows if row["example"] is wanted) for wanted in (False, True))
    if not items:
        only = f": all of its {len(rows)} lines are worked examples" if rows else ": it is empty"
        raise UserError(f"{path} holds no items{only}", "one JSON object a line", "see docs/tasks.md for the fields")
    kind, seen = _kind(items[0]), set()
    for row in rows:
        problem = _problem(row, kind) or (f"id {row['id']!r} stands twice" if row["id"] in seen else "")
        if problem:
            raise UserError(f"{path}, line {row['line']}: {problem}", do="correct that line")
        seen.add(row["id"])
    return Items(kind, items, examples, hashlib.sha256(content).hexdigest()[:8])
