"""One line of a streamed reply: server-sent events as the OpenAI protocol uses them, with what servers do differently.

A reply is a series of `data:` lines, one JSON object each, and ends with `data: [DONE]`. Text comes as `delta` (chat) or `text`; usage
comes with the last piece of text or in a piece of its own without choices; a fault may come as an object with `error` inside a reply that
began well.
"""

import json
from dataclasses import dataclass
from typing import Any

TEXTS = ("content", "reasoning_content", "reasoning", "tool_calls")
"""Keys of a delta that hold what the model wrote; reasoning is produced token by token as the answer is."""


class StreamError(Exception):
    """The reply is not what the protocol says, or the server reported a fault inside it."""


@dataclass(frozen=True)
class Event:
    """What one line said: whether text came with it, the usage if told, whether the text is finished, whether it is the last line."""

    text: bool = False
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    finished: bool = False
    last: bool = False


def event(line: str) -> Event | None:
    """The event of a line; None for blank lines, comments and other fields. Raises StreamError for a line that is none of these."""
    line = line.strip()
    if not line.startswith("data:"):
        if not line or line.startswith((":", "event:", "id:", "retry:")):
            return None
        raise StreamError(f"a line that is no event: {excerpt(line)}")
    payload = line.removeprefix("data:").strip()
    if payload == "[DONE]":
        return Event(last=True)
    try:
        content = json.loads(payload)
    except ValueError:
        raise StreamError(f"an event that is not JSON: {excerpt(payload)}") from None
    return completion(content)


def completion(content: Any) -> Event:
    """What a piece of a completion, or a whole one, says. Raises StreamError for a fault or a shape of another kind."""
    if not isinstance(content, dict) or not isinstance(content.get("choices", []), list):
        raise StreamError(f"an event that is no completion: {excerpt(json.dumps(content))}")
    if content.get("error"):
        raise StreamError(f"the server reports: {message(content)}")
    if "choices" not in content and "usage" not in content:
        raise StreamError(f"an event that is no completion: {excerpt(json.dumps(content))}")
    choice = next(iter(content.get("choices") or []), {})
    try:
        usage = content.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return Event(
            _has_text(choice), usage.get("prompt_tokens"), usage.get("completion_tokens"), cached, bool(choice.get("finish_reason"))
        )
    except AttributeError:
        raise StreamError(f"an event that is no completion: {excerpt(json.dumps(content))}") from None


def _has_text(choice: dict) -> bool:
    """Whether a choice carries something that the model wrote: a role alone is not."""
    delta = choice.get("delta") or choice.get("message") or {}
    return bool(choice.get("text")) or any(delta.get(name) for name in TEXTS)


def message(content: Any) -> str:
    """The words of an error object, whichever of the servers' shapes it has, on one line."""
    found = content
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return excerpt(found if isinstance(found, str) else json.dumps(found))


def excerpt(text: str, length: int = 160) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
