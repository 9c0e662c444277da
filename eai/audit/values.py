"""What an expression is worth, as far as the file itself tells: constants followed through assignments, dictionaries and argparse defaults.

A value is a Python constant, list or dict, a `Symbol` (a dotted name such as torch.float16), a `Built` (a call with its
arguments) or `UNKNOWN`. Nothing is guessed: a name bound twice to different values, or under a condition, is UNKNOWN.
"""

import ast
from dataclasses import dataclass, field

from eai.audit.bindings import SCOPES, UNKNOWN, Bindings, dotted

_DEPTH = 12
_BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.ExceptHandler, ast.AsyncFor, ast.Match)
_ARGS_NAMES = {"args", "opt", "opts", "options", "flags", "cli_args", "parsed"}


class Symbol(str):
    """A dotted name that is not bound to a constant: `torch.float16`, `prompt`."""


@dataclass
class Built:
    """A call's name and resolved arguments; `is_open` if a ** argument of unknown content is among them."""

    name: str
    args: list
    kwargs: dict
    is_open: bool
    node: ast.Call = field(repr=False)

    @property
    def last(self) -> str:
        """The last part of the dotted name."""
        return self.name.rpartition(".")[2]


class Values(Bindings):
    """Resolves expressions of one parsed module."""

    def __init__(self, tree: ast.Module):
        super().__init__(tree)
        self._known: dict[int, object] = {}

    def _conditional(self, node: ast.AST, use: ast.AST) -> bool:
        """Whether `node` sits in a block (if, loop, try) that `use` is not in."""
        around = set(map(id, self.ancestors(use)))
        for a in self.ancestors(node):
            if isinstance(a, SCOPES):
                return False
            if isinstance(a, _BLOCKS) and id(a) not in around:
                return True
        return False

    def lookup(self, name: str, use: ast.AST, depth: int = 0):
        """The value of a name where it is used: of the last unconditional binding before it, or of all bindings if they agree."""
        scope = self._home(use, name)
        while True:
            found = self.bound.get((scope, name))
            if found:
                return self._choose(found, name, use, scope, depth)
            outer = next((a for a in self.ancestors(scope) if isinstance(a, SCOPES) and not isinstance(a, ast.ClassDef)), None)
            if outer is None:
                return Symbol(name)
            scope = outer

    def _choose(self, found: list, name: str, use: ast.AST, scope: ast.AST, depth: int):
        """One value out of all bindings of a name in a scope, UNKNOWN if they cannot be told apart."""
        line = getattr(use, "lineno", 0)
        before = [b for b in found if getattr(b[0], "lineno", 0) < line] if scope is self.scope(use) else found
        candidates = before or found
        if scope is self.scope(use) and before and not self._conditional(before[-1][0], use):
            candidates = before[-1:]
        values = [UNKNOWN if value is None else self.resolve(value, depth + 1) for _, value in candidates]
        first = values[0]
        if any(type(v) is not type(first) or (v is not first and v != first) for v in values[1:]):
            return UNKNOWN
        return self._updated(first, name, use, scope, depth) if isinstance(first, dict) else first

    def _updated(self, value: dict, name: str, use: ast.AST, scope: ast.AST, depth: int):
        """A dictionary after the `d[key] = value` statements before its use; a conditional one makes the key unknown."""
        value = dict(value)
        for node, key, new in self.updates.get((scope, name), []):
            if node.lineno < getattr(use, "lineno", 0) or scope is not self.scope(use):
                value[key] = UNKNOWN if self._conditional(node, use) or new is None else self.resolve(new, depth + 1)
        return value

    def resolve(self, node: ast.AST | None, depth: int = 0):
        """The value of an expression; UNKNOWN where the file does not tell it, or where it depends on itself."""
        if node is None or depth > _DEPTH:
            return UNKNOWN
        if id(node) not in self._known:
            self._known[id(node)] = UNKNOWN
            self._known[id(node)] = self._resolve(node, depth)
        return self._known[id(node)]

    def _resolve(self, node: ast.AST, depth: int):
        """`resolve` without its memory."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.lookup(node.id, node, depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, depth)
        if isinstance(node, ast.Call):
            return self._call(node, depth + 1)
        if isinstance(node, ast.Dict):
            return self._dictionary(node, depth)
        if isinstance(node, ast.List | ast.Tuple):
            return [self.resolve(e, depth + 1) for e in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, int | float) else UNKNOWN
        if isinstance(node, ast.Subscript):
            base, key = self.resolve(node.value, depth + 1), self.resolve(node.slice, depth + 1)
            return base.get(key, UNKNOWN) if isinstance(base, dict) and isinstance(key, str | int) else UNKNOWN
        if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Compare):
            return self._computed(node, depth)
        return UNKNOWN

    def _dictionary(self, node: ast.Dict, depth: int) -> dict:
        """A dictionary display; `**other` is merged where its content is known, else the result has an UNKNOWN key."""
        entries = {}
        for key, value in zip(node.keys, node.values, strict=True):
            known = self.resolve(value, depth + 1)
            if key is None and isinstance(known, dict):
                entries.update(known)
            else:
                entries[key.value if isinstance(key, ast.Constant) else UNKNOWN] = known
        return entries

    def _computed(self, node: ast.AST, depth: int):
        """A text put together from known parts, a union of dictionaries, or `a == b` of known constants; else UNKNOWN."""
        if isinstance(node, ast.JoinedStr):
            parts = [self.resolve(v.value if isinstance(v, ast.FormattedValue) else v, depth + 1) for v in node.values]
            return "".join(map(str, parts)) if all(type(p) in (str, int) for p in parts) else UNKNOWN
        if isinstance(node, ast.BinOp):
            left, right = self.resolve(node.left, depth + 1), self.resolve(node.right, depth + 1)
            if isinstance(node.op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
                return left | right
            return left + right if isinstance(node.op, ast.Add) and type(left) is type(right) is str else UNKNOWN
        left, right = self.resolve(node.left, depth + 1), self.resolve(node.comparators[0], depth + 1)
        known = len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq) and type(left) is type(right) and type(left) in (str, int, bool)
        return left == right if known else UNKNOWN

    def _attribute(self, node: ast.Attribute, depth: int):
        """`args.x` as argparse gives it, `self.x` as the class binds it, else the dotted name."""
        name = dotted(node)
        base, _, attribute = name.rpartition(".")
        if self.argparse and (base.rpartition(".")[2] in _ARGS_NAMES or self._is_parsed(base, node)):
            return self.argparse.get(attribute, UNKNOWN)
        if name.startswith("self.") and name.count(".") == 1:
            value = self.lookup(name, node, depth)
            return self._class_attribute(node, attribute, depth) if isinstance(value, Symbol) else value
        return Symbol(name) if name and "()" not in name else UNKNOWN

    def _is_parsed(self, name: str, use: ast.AST) -> bool:
        """Whether a name is bound to `parser.parse_args(...)` where it is used."""
        values = [v for _, v in self.bound.get((self.scope(use), name), [])]
        return len(values) == 1 and isinstance(values[0], ast.Call) and dotted(values[0].func).endswith("parse_args")

    def _class_attribute(self, node: ast.AST, name: str, depth: int):
        """What the body of the class around `node` binds a name to, UNKNOWN where it binds none."""
        around = next((a for a in self.ancestors(node) if isinstance(a, ast.ClassDef)), None)
        found = self.bound.get((around, name), [])
        return self.resolve(found[0][1], depth + 1) if len(found) == 1 else UNKNOWN

    def _call(self, node: ast.Call, depth: int = 0):
        """A call with its arguments resolved; `dict(...)` is a dictionary."""
        kwargs, is_open = {}, False
        for keyword in node.keywords:
            value = self.resolve(keyword.value, depth + 1)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value, dict):
                kwargs.update({k: v for k, v in value.items() if isinstance(k, str)})
                is_open |= any(not isinstance(k, str) for k in value)
            else:
                is_open = True
        name = dotted(node.func)
        if name == "getattr" and len(node.args) >= 2:
            return self._getattr(node, depth)
        copied = self._copied(node, name, depth)
        if copied is not None and not is_open:
            return {**copied, **kwargs}
        return Built(name, [self.resolve(a, depth + 1) for a in node.args], kwargs, is_open, node)

    def _copied(self, node: ast.Call, name: str, depth: int) -> dict | None:
        """The dictionary that `dict(...)`, `x.copy()` or `copy.deepcopy(x)` starts from, None for any other call."""
        if name == "dict" and not node.args:
            return {}
        if name.rpartition(".")[2] not in ("dict", "copy", "deepcopy") or len(node.args) > 1:
            return None
        source = node.args[0] if node.args else getattr(node.func, "value", None)
        value = self.resolve(source, depth + 1)
        return value if isinstance(value, dict) else None

    def _getattr(self, node: ast.Call, depth: int):
        """`getattr(torch, "float16")` as torch.float16 where the attribute's name is known, else UNKNOWN."""
        base, name = dotted(node.args[0]), self.resolve(node.args[1], depth + 1)
        return Symbol(f"{base}.{name}") if base == "torch" and type(name) is str else UNKNOWN
