"""What an expression is worth, as far as the file itself tells: constants followed through assignments, dictionaries and argparse defaults.

A value is a Python constant, list or dict, a `Symbol` (a dotted name such as torch.float16), a `Built` (a call with its
arguments) or `UNKNOWN`. Nothing is guessed: a name bound twice to different values, or under a condition, is UNKNOWN.
"""

import ast
from dataclasses import dataclass, field

_DEPTH = 12
_BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.ExceptHandler, ast.AsyncFor, ast.Match)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module, ast.ClassDef)
_ARGS_NAMES = {"args", "opt", "opts", "options", "flags", "cli_args", "parsed"}


class _Unknown:
    """The value that the file does not tell; false, and equal to nothing but itself."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


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


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute chain; a call or subscript inside it is left out as `()`; empty if it is neither."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif isinstance(node, ast.Call | ast.Subscript):
        parts.append("()")
    else:
        return ""
    return ".".join(reversed(parts))


class Values:
    """Resolves expressions of one parsed module."""

    def __init__(self, tree: ast.Module):
        self.parent: dict[ast.AST, ast.AST] = {}
        self.bound: dict[tuple[ast.AST, str], list[tuple[ast.AST, ast.AST | None]]] = {}
        self.updates: dict[tuple[ast.AST, str], list[tuple[ast.AST, object, ast.AST]]] = {}
        self.argparse: dict[str, object] = {}
        self._known: dict[int, object] = {}
        self.nodes: list[ast.AST] = [tree]
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop):
                    self.parent[child] = node
                    self.nodes.append(child)
        for node in self.nodes:
            self._bind(node)

    def ancestors(self, node: ast.AST):
        """The nodes around `node`, from the inside out."""
        while node in self.parent:
            node = self.parent[node]
            yield node

    def scope(self, node: ast.AST) -> ast.AST:
        """The innermost function, class or module around `node`."""
        return next((a for a in self.ancestors(node) if isinstance(a, _SCOPES)), node)

    def _home(self, node: ast.AST, name: str) -> ast.AST:
        """Where a name is kept: `self.x` belongs to the class, others to the scope."""
        if name.startswith("self."):
            return next((a for a in self.ancestors(node) if isinstance(a, ast.ClassDef)), self.scope(node))
        return self.scope(node)

    def _add(self, node: ast.AST, target: ast.AST, value: ast.AST | None):
        """Note that `target` is bound at `node`; value None: to something that is not followed."""
        if isinstance(target, ast.Tuple | ast.List):
            pairs = (
                value.elts if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts) else [None] * len(target.elts)
            )
            for part, item in zip(target.elts, pairs, strict=True):
                self._add(node, part, item)
        elif isinstance(target, ast.Starred):
            self._add(node, target.value, None)
        elif isinstance(target, ast.Subscript):
            key = target.slice.value if isinstance(target.slice, ast.Constant) else UNKNOWN
            name = dotted(target.value)
            self.updates.setdefault((self._home(node, name), name), []).append((node, key, value))
        elif name := dotted(target):
            self.bound.setdefault((self._home(node, name), name), []).append((node, value))

    def _bind(self, node: ast.AST):
        """Enter what a statement binds."""
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._add(node, target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._add(node, node.target, node.value)
        elif isinstance(node, ast.AugAssign | ast.For | ast.AsyncFor):
            self._add(node, node.target, None)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if item.optional_vars is not None:
                    self._add(node, item.optional_vars, None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._bind_parameters(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            self._bind_argument(node)

    def _bind_parameters(self, node: ast.FunctionDef):
        """A function's parameters: their constant defaults are followed, others are unknown."""
        spec = node.args
        names = spec.posonlyargs + spec.args
        defaults = [None] * (len(names) - len(spec.defaults)) + list(spec.defaults)
        for argument, default in [*zip(names, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]:
            self.bound.setdefault((node, argument.arg), []).append((argument, default))

    def _bind_argument(self, node: ast.Call):
        """One argparse option: its default, False for store_true, None where none is given."""
        flags = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if not flags:
            return
        keywords = {k.arg: k.value for k in node.keywords}
        action = getattr(keywords.get("action"), "value", None)
        name = (
            keywords["dest"].value if isinstance(keywords.get("dest"), ast.Constant) else max(flags, key=len).lstrip("-").replace("-", "_")
        )
        default = keywords.get("default", ast.Constant({"store_true": False, "store_false": True}.get(action)))
        self.argparse[str(name)] = default.value if isinstance(default, ast.Constant) else UNKNOWN

    def _conditional(self, node: ast.AST, use: ast.AST) -> bool:
        """Whether `node` sits in a block (if, loop, try) that `use` is not in."""
        around = set(map(id, self.ancestors(use)))
        for a in self.ancestors(node):
            if isinstance(a, _SCOPES):
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
            outer = next((a for a in self.ancestors(scope) if isinstance(a, _SCOPES) and not isinstance(a, ast.ClassDef)), None)
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
            return {
                k.value if isinstance(k, ast.Constant) else UNKNOWN: self.resolve(v, depth + 1)
                for k, v in zip(node.keys, node.values, strict=True)
            }
        if isinstance(node, ast.List | ast.Tuple):
            return [self.resolve(e, depth + 1) for e in node.elts]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, int | float) else UNKNOWN
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            base = self.resolve(node.value, depth + 1)
            return base.get(node.slice.value, UNKNOWN) if isinstance(base, dict) else UNKNOWN
        return UNKNOWN

    def _attribute(self, node: ast.Attribute, depth: int):
        """`args.x` as argparse gives it, `self.x` as the class binds it, else the dotted name."""
        name = dotted(node)
        base, _, attribute = name.rpartition(".")
        if base.rpartition(".")[2] in _ARGS_NAMES and self.argparse:
            return self.argparse.get(attribute, UNKNOWN)
        if name.startswith("self.") and name.count(".") == 1:
            value = self.lookup(name, node, depth)
            return UNKNOWN if isinstance(value, Symbol) else value
        return Symbol(name) if name and "()" not in name else UNKNOWN

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
        if name == "dict" and not node.args and not is_open:
            return kwargs
        return Built(name, [self.resolve(a, depth + 1) for a in node.args], kwargs, is_open, node)
