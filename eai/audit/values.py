"""What an expression is worth, as far as the file itself tells: names followed through assignments, dictionaries, argparse and environment
defaults.

A value is a Python constant, list or dict, a `Symbol` (a dotted name such as torch.float16), a `Built` (a call with its arguments) or
`UNKNOWN`. Nothing is guessed: a name bound twice to different values, or under a condition, is UNKNOWN. Pattern engines (semgrep,
ast-grep) stop at the expression; half of the planted defects stand in a name, a dictionary or a default, so this layer is our own.
"""

import ast
from dataclasses import dataclass, field

_DEPTH = 12
_MOST_ITEMS = 400  # a list of lists of lists doubles with each line that names it twice
_BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.ExceptHandler, ast.AsyncFor, ast.Match)
_ARGS_NAMES = {"args", "opt", "opts", "options", "flags", "cli_args", "parsed"}
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module, ast.ClassDef)


class _Unknown:
    """The value that the file does not tell; false, and equal to nothing but itself."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


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


class Bindings:
    """The nodes of one parsed module, their parents, and every binding of a name."""

    def __init__(self, tree: ast.Module):
        self.parent: dict[ast.AST, ast.AST] = {}
        self.bound: dict[tuple[ast.AST, str], list[tuple[ast.AST, ast.AST | None]]] = {}
        self.updates: dict[tuple[ast.AST, str], list[tuple[ast.AST, object, ast.AST]]] = {}
        self.argparse: dict[str, object] = {}
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
        return next((a for a in self.ancestors(node) if isinstance(a, SCOPES)), node)

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
        elif isinstance(node, ast.AugAssign):
            self._add(node, node.target, self._longer(node) if isinstance(node.target, ast.Name) else None)
        elif isinstance(node, ast.For | ast.AsyncFor):
            self._add(node, node.target, None)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if item.optional_vars is not None:
                    self._add(node, item.optional_vars, None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._bind_parameters(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            self._bind_argument(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            self._bind_update(node)

    def _longer(self, node: ast.AugAssign) -> ast.BinOp:
        """`x += y` as the expression `x + y` at the same place."""
        before = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        whole = ast.copy_location(ast.BinOp(before, node.op, node.value), node)
        self.parent[before], self.parent[whole] = whole, node
        return whole

    def _bind_update(self, node: ast.Call):
        """`d.update(key=value)` and `d.update({"key": value})` as assignments to the keys."""
        name = dotted(node.func.value)
        given = [(k.arg, k.value) for k in node.keywords if k.arg]
        for argument in node.args:
            if isinstance(argument, ast.Dict):
                given += [(k.value, v) for k, v in zip(argument.keys, argument.values, strict=True) if isinstance(k, ast.Constant)]
        for key, value in given if name else ():
            self.updates.setdefault((self._home(node, name), name), []).append((node, key, value))

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


class Symbol(str):
    """A dotted name that is not bound to a constant: `torch.float16`, `prompt`."""


def _is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and small enough to multiply."""
    return type(value) in (int, float) and abs(value) < 1e15


def _size(value: object) -> int:
    """How many items a value holds, nested ones included, counted no further than the limit."""
    if not isinstance(value, list | dict):
        return 1 if not isinstance(value, str) else 1 + len(value) // 100
    total = 1
    for item in value.values() if isinstance(value, dict) else value:
        total += _size(item)
        if total > _MOST_ITEMS:
            break
    return total


def _bounded(value):
    """A list or text, UNKNOWN where it has grown beyond what any command or configuration needs."""
    return value if _size(value) <= _MOST_ITEMS else UNKNOWN


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
            return _bounded([self.resolve(e, depth + 1) for e in node.elts])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -node.operand.value if isinstance(node.operand.value, int | float) else UNKNOWN
        if isinstance(node, ast.IfExp):
            taken = self.resolve(node.test, depth + 1)
            return self.resolve(node.body if taken else node.orelse, depth + 1) if isinstance(taken, bool) else UNKNOWN
        if isinstance(node, ast.Subscript):
            base, key = self.resolve(node.value, depth + 1), self.resolve(node.slice, depth + 1)
            return base.get(key, UNKNOWN) if isinstance(base, dict) and isinstance(key, str | int) else UNKNOWN
        if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Compare):
            return self._computed(node, depth)
        return UNKNOWN

    def _dictionary(self, node: ast.Dict, depth: int):
        """A dictionary display; `**other` is merged where its content is known, else the result has an UNKNOWN key."""
        entries = {}
        for key, value in zip(node.keys, node.values, strict=True):
            known = self.resolve(value, depth + 1)
            if key is None and isinstance(known, dict):
                entries.update(known)
            else:
                entries[key.value if isinstance(key, ast.Constant) else UNKNOWN] = known
        return _bounded(entries)

    def _computed(self, node: ast.AST, depth: int):
        """A text put together from known parts, a union of dictionaries, or `a == b` of known constants; else UNKNOWN."""
        if isinstance(node, ast.JoinedStr):
            parts = [self.resolve(v.value if isinstance(v, ast.FormattedValue) else v, depth + 1) for v in node.values]
            return _bounded("".join(map(str, parts))) if all(type(p) in (str, int) for p in parts) else UNKNOWN
        if isinstance(node, ast.BinOp):
            left, right = self.resolve(node.left, depth + 1), self.resolve(node.right, depth + 1)
            if isinstance(node.op, ast.BitOr) and isinstance(left, dict) and isinstance(right, dict):
                return left | right
            if isinstance(node.op, ast.Add) and type(left) is type(right) and type(left) in (str, list):
                return _bounded(left + right)
            return left * right if isinstance(node.op, ast.Mult) and _is_number(left) and _is_number(right) else UNKNOWN
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
        if name in ("os.environ.get", "os.getenv", "environ.get", "getenv") and len(node.args) == 2:
            return self.resolve(node.args[1], depth + 1)
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "join"
            and node.args
            and isinstance(getattr(node.func.value, "value", None), str)
        ):
            words = self.resolve(node.args[0], depth + 1)
            return node.func.value.value.join(str(w) for w in words) if isinstance(words, list) else UNKNOWN
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
