"""JSON and YAML files as mappings with line numbers; parsed into nodes only, so no tag is ever constructed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import yaml

from eai.audit.files import Unit, Unreadable

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_NODES = 200_000
_MAX_DEPTH = 1000
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True)
class Entry:
    """One scalar of a mapping: its value (bool, int, float, str or None) and its line."""

    value: object
    line: int


@dataclass(frozen=True)
class Mapping:
    """The scalar entries of one mapping, keys with dashes as underscores; `lists`: its lists of scalars."""

    entries: dict[str, Entry]
    lists: dict[str, tuple[list, int]]

    def first(self, *names: str) -> Entry | None:
        """The entry of the first of `names` that is there."""
        return next((self.entries[n] for n in names if n in self.entries), None)


class Config:
    """A JSON or YAML file. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        is_json = unit.path.endswith(".json")
        text = _as_yaml(unit.text) if is_json else unit.text
        if _depth(text) > _MAX_DEPTH:
            raise Unreadable(f"nested deeper than {_MAX_DEPTH}")
        try:
            self.roots = [n for n in yaml.compose_all(text, Loader=_LOADER) if n is not None]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise Unreadable(f"does not parse as {'JSON' if is_json else 'YAML'}: {' '.join(str(error).split())[:120]}") from None

    def _nodes(self) -> Iterator[yaml.Node]:
        """Every node once; an anchor used many times is visited once."""
        stack, seen = list(self.roots), set()
        while stack and len(seen) < _MAX_NODES:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node, yaml.MappingNode):
                stack += [v for _, v in node.value]
            elif isinstance(node, yaml.SequenceNode):
                stack += node.value

    @cached_property
    def mappings(self) -> list[Mapping]:
        """Every mapping of the file, in no particular order."""
        return [_mapping(n) for n in self._nodes() if isinstance(n, yaml.MappingNode)]

    @cached_property
    def commands(self) -> list[tuple[str, int]]:
        """Every text that may be a command line, with its line: strings, and lists of scalars joined by spaces."""
        found = []
        for node in self._nodes():
            if isinstance(node, yaml.ScalarNode) and " " in node.value:
                found.append((node.value, node.start_mark.line + 1))
            elif isinstance(node, yaml.SequenceNode) and node.value and all(isinstance(v, yaml.ScalarNode) for v in node.value):
                found.append((" ".join(v.value for v in node.value), node.start_mark.line + 1))
        return found


def _as_yaml(text: str) -> str:
    """JSON as YAML reads it: no tabs, no escaped surrogates."""
    return _SURROGATE.sub("?", text.replace("\t", " "))


def _depth(text: str) -> int:
    """An upper bound of the nesting: brackets open at once, or the longest run of indentation and dashes that starts a line.

    libyaml's composer recurses in C: at some tens of thousands of levels it would end the process, not raise.
    """
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return max([deepest, *(len(line) - len(line.lstrip(" -?")) for line in text.splitlines())])


def _mapping(node: yaml.MappingNode) -> Mapping:
    """The scalars and scalar lists of a mapping node."""
    entries, lists = {}, {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name = key.value.replace("-", "_")
        if isinstance(value, yaml.ScalarNode):
            entries[name] = Entry(_scalar(value), key.start_mark.line + 1)
        elif isinstance(value, yaml.SequenceNode):
            lists[name] = ([_scalar(v) for v in value.value if isinstance(v, yaml.ScalarNode)], key.start_mark.line + 1)
    return Mapping(entries, lists)


def _scalar(node: yaml.ScalarNode):
    """A scalar as bool, int, float, None or text, by the tag YAML gives it."""
    kind = node.tag.rpartition(":")[2]
    if kind == "bool":
        return node.value.lower() in ("true", "yes", "on")
    if kind in ("int", "float"):
        try:
            return int(node.value) if kind == "int" else float(node.value)
        except ValueError:
            return node.value
    return None if kind == "null" else node.value
