"""The one reader of YAML that people write: sweeps, profiles, `-p KEY=VALUE`. What could be meant in two ways is refused, not guessed.

YAML 1.1 reads `010` as 8, `1:30` as 90, `no` as false and 2026-11-30 as a date, lets the last of several equal keys win, and expands a
line of aliases into gigabytes. Here numbers are decimal, only true and false are truth values, dates are text, a key stands once, and
aliases, tags of other languages, and files that nest too deep or are too large end as one line.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from eai.errors import UserError

MOST_BYTES = 1_000_000
_FLOAT = r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_PLAIN = {
    "bool": ("true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": ("[-+]?(?:0|[1-9][0-9]*)", [*"-+0123456789"]),
    "float": (_FLOAT, [*"-+0123456789."]),
    "null": ("~|null|Null|NULL|", [*"~nN", ""]),
}
"""YAML's types with the texts that are of it, and their first letters."""
_TWO_WAYS = re.compile(r"[-+]?0[0-9_]+|[-+]?0[xobXOB][0-9a-fA-F_]+|[-+]?[0-9]+(?:_[0-9]+)+|[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?")
"""Numbers that other readers take for octal, hexadecimal, binary, of base 60, or with digits in groups."""


class _Reader(yaml.SafeLoader):
    """YAML without its surprises."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (PyYAML's own name)

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        """The next node. Raises UserError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise UserError(f"{self._where(self.peek_event())}: an alias (*)", "the value itself", "write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """The mapping. Raises UserError for a key that it names twice."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise UserError(f"{self._where(key)}: '{_short(key.value)}' is given twice", "each parameter once", "take one of them out")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.Node) -> Any:
        """The text of a scalar. Raises UserError for a number that has two readings."""
        if isinstance(node, yaml.ScalarNode) and node.style is None and _TWO_WAYS.fullmatch(node.value):
            text = _short(node.value)
            raise UserError(f"{self._where(node)}: {text} has more than one reading", "a decimal number", f'or "{text}" for text')
        return super().construct_scalar(node)

    def _where(self, node: Any) -> str:
        line = node.start_mark.line + 1
        return f"{self.name}, line {line}" if self.name else f"line {line}"


for _type, (_pattern, _first) in _PLAIN.items():
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", re.compile(rf"^(?:{_pattern})$"), _first)


def yaml_value(text: str, name: str = "") -> Any:
    """The value of a YAML text; `name` says in errors where it stands. Raises UserError for what is none or can be read twice."""
    if len(text) > MOST_BYTES:
        raise UserError(f"{name or 'a value'} has {len(text)} characters", f"at most {MOST_BYTES}")
    try:
        loader = _Reader(text)
        loader.name = name
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"{name or _short(text)} is not YAML{where}", "keys and values", "see README.md for an example") from None
    except RecursionError:
        raise UserError(f"{name or 'a value'} nests too deep", "keys with values or lists of values") from None
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError(f"{name or 'a value'} holds what is no value ({_short(str(error))})", "numbers, names and lists of them") from None


def yaml_mapping(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds, `what` it should be (`a sweep.yaml`).

    Raises UserError if it is missing, no file, too large, not text, not YAML, or no mapping.
    """
    try:
        if not path.is_file():
            raise UserError(f"cannot read {path} ({'no file' if path.exists() else 'no such file'})", what, "check the path")
        with open(path, "rb") as file:
            content = yaml_value(file.read(MOST_BYTES + 1).decode(), str(path))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise UserError(f"cannot read {_short(str(path))} ({why})", what, "check the path") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}", "a mapping of names to values", "see README.md for an example")
    return {str(name): value for name, value in content.items()}


def documents(text: str, where: object) -> list:
    """The documents of a JSON text: one, one a line, or one after the other, as a tool in a loop prints them. Raises UserError, with the
    line, for text that is none."""
    found, at, decoder, text = [], 0, json.JSONDecoder(), text.strip()
    try:
        while at < len(text):
            one, at = decoder.raw_decode(text, at)
            found.append(one)
            at += len(text[at : at + 80]) - len(text[at : at + 80].lstrip())
        return found
    except RecursionError:
        raise UserError(f"{where} is nested too deeply", "a table of rows") from None
    except ValueError as error:
        line, why = getattr(error, "lineno", 1), getattr(error, "msg", error)
        raise UserError(f"{where}, line {line} is not JSON ({why})", "one JSON document, or one a line", "write it again") from None


def too_long(name: str) -> bool:
    """Whether a file system refuses a path: 255 bytes a part, 4,096 in all (limits.h)."""
    return len(name.encode(errors="replace")) > 4095 or any(len(part.encode(errors="replace")) > 255 for part in name.split("/"))


def _short(text: str) -> str:
    line = " ".join(text[:200].split())
    return line if len(line) <= 60 else line[:57] + "..."
