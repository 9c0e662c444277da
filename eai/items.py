"""Items of a task as JSON lines, read and checked: one question, or one text, a line.

Three kinds; all lines of a file are of one kind, told by the first::

    choice  {"question": "The sky is", "choices": ["blue", "wooden"], "answer": 0}     which choice fits best; answer counts from 0
    open    {"question": "2 + 2 =", "answer": "4"}                                      the answer is generated and compared as a whole
    text    {"text": "It was late when ..."}                                            how well the text is predicted: perplexity

Further fields are kept: `id` names the item (default: its line number), `"example": true` makes the line a worked example for few-shot
prompts instead of an item, `source` says where the answer is from.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eai.errors import UserError


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


def read(path: Path) -> Items:
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
