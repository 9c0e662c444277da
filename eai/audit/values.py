"""What an expression is worth, as far as the file itself states: names followed through assignments, dictionaries, argparse and environment
defaults.

A value is a Python constant, list or dict, a `Symbol` (a dotted name such as torch.float16), a `Built` (a call with its arguments) or
`UNKNOWN`. Nothing is guessed: a name bound twice to different values, or under a condition, is UNKNOWN. Pattern engines (semgrep,
ast-grep) stop at the expression; half of the planted defects stand in a name, a dictionary or a default, so this layer is our own.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

_DEPTH = 12
_MOST_ITEMS = 400  # a list of lists of lists doubles with each line that names it twice
_BLOCKS = (ast.If, ast.For, ast.While, ast.Try, ast.ExceptHandler, ast.AsyncFor, ast.Match)
_PARSED = {"args", "opt", "opts", "options", "flags", "cli_args", "parsed"}
_LEAVES = ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop
_CHOICES = ("eager", "float32", "fp32", "float", 0)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.Lambda, ast.Module, ast.ClassDef)
UNKNOWN = type("Unknown", (), {"__bool__": lambda _: False, "__repr__": lambda _: "UNKNOWN"})()
"""The value that the file does not state; false, and equal to nothing but itself."""


class Symbol(str):
    """A dotted name that is not bound to a constant: `torch.float16`, `prompt`."""


@dataclass
class Built:
    """A call's name and resolved arguments. `is_open`: a ** argument of unknown content is among them; `chosen`: the arguments that are
    left to callers outside this file."""

    name: str
    args: list
    kwargs: dict
    is_open: bool
    node: ast.Call = field(repr=False)
    chosen: set[str] = field(default_factory=set)

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute chain; a call or subscript inside it is left out as `()`; empty if it is neither."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name | ast.Call | ast.Subscript):
        return ""
    return ".".join([node.id if isinstance(node, ast.Name) else "()", *reversed(parts)])


def _bounded(value: list | dict | str):
    """A list, mapping or text, UNKNOWN where it has grown beyond what any command or configuration needs."""
    total, stack = 0, [value]
    while stack and total <= _MOST_ITEMS:
        item = stack.pop()
        total += 1 + (len(item) // 100 if isinstance(item, str) else 0)
        stack += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return value if total <= _MOST_ITEMS else UNKNOWN


class Values:
    """The nodes of one parsed module with their parents, every binding of a name, and what an expression is worth. `bound` and `updates`
    (of dictionaries): by (scope, name), the statements that bind it with what they bind it to, None if that is not followed."""

    def __init__(self, tree: ast.Module):
        self.parent: dict[ast.AST, ast.AST] = {}
        self.bound: dict[tuple[ast.AST, str], list[tuple[ast.AST, ast.AST | None]]] = {}
        self.updates: dict[tuple[ast.AST, str], list[tuple[ast.AST, object, ast.AST | None]]] = {}
        self.argparse: dict[str, object] = {}
        self.nodes: list[ast.AST] = [tree]
        self._known: dict[int, object] = {}
        self._left_open: set[int] = set()
        self._is_left_open = False
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, _LEAVES):
                    self.parent[child] = node
                    self.nodes.append(child)
        for node in self.nodes:
            self._bind(node)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parent:
            node = self.parent[node]
            yield node

    def around(self, node: ast.AST, kinds: type | tuple) -> ast.AST | None:
        return next((a for a in self.ancestors(node) if isinstance(a, kinds)), None)

    def _home(self, node: ast.AST, name: str) -> ast.AST:
        """Where a name is kept: `self.x` belongs to the class, others to the innermost function, class or module."""
        return (self.around(node, ast.ClassDef) if name.startswith("self.") else None) or self.around(node, SCOPES) or node

    @cached_property
    def used(self) -> set[str]:
        """Names of the functions and classes that this file calls, passes on or decorates: what their defaults say holds."""
        names = {n.id for n in self.nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        names |= {n.attr for n in self.nodes if isinstance(n, ast.Attribute)}
        return names | {n.name for n in self.nodes if isinstance(n, FUNCTIONS) and n.decorator_list}

    def _add(self, node: ast.AST, target: ast.AST, value: ast.AST | None):
        """Note that `target`, a name or a key of a dictionary, is bound at `node`; value None: to something that is not followed."""
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                is_same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(parts)
                for part, item in zip(parts, value.elts if is_same else [None] * len(parts), strict=True):
                    self._add(node, part, item)
            case ast.Starred(value=inner):
                self._add(node, inner, None)
            case ast.Subscript(value=base, slice=key):
                self._update(node, dotted(base), getattr(key, "value", UNKNOWN), value)
            case _ if name := dotted(target):
                self.bound.setdefault((self._home(node, name), name), []).append((node, value))

    def _update(self, node: ast.AST, name: str, key: object, value: ast.AST | None):
        self.updates.setdefault((self._home(node, name), name), []).append((node, key, value))

    def _bind(self, node: ast.AST):
        """Enter what a statement binds; of an argparse option its default, False for store_true, None where none is given."""
        match node:
            case ast.Assign():
                for target in node.targets:
                    self._add(node, target, node.value)
            case ast.AnnAssign(value=ast.expr()) | ast.NamedExpr():
                self._add(node, node.target, node.value)
            case ast.AugAssign(target=ast.Name(id=name)):  # `x += y` as `x = x + y`
                before = ast.copy_location(ast.Name(name, ast.Load()), node)
                whole = ast.copy_location(ast.BinOp(before, node.op, node.value), node)
                self.parent[before], self.parent[whole] = whole, node
                self._add(node, node.target, whole)
            case ast.AugAssign() | ast.For() | ast.AsyncFor():
                self._add(node, node.target, None)
            case ast.withitem(optional_vars=ast.expr()):
                self._add(self.parent[node], node.optional_vars, None)
            case ast.FunctionDef(args=spec) | ast.AsyncFunctionDef(args=spec):
                names = spec.posonlyargs + spec.args
                defaults = [None] * (len(names) - len(spec.defaults)) + list(spec.defaults)
                for argument, default in zip(names + spec.kwonlyargs, defaults + spec.kw_defaults, strict=True):
                    self.bound.setdefault((node, argument.arg), []).append((argument, default))
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=args):
                flags = [a.value for a in args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                given = {k.arg: getattr(k.value, "value", UNKNOWN) for k in node.keywords}
                name = given.get("dest") or max(flags, key=len, default="").lstrip("-").replace("-", "_")
                is_switch = given.get("action") in ("store_true", "store_false")
                self.argparse[str(name)] = given.get("default", False if is_switch else None)
            case ast.Call(func=ast.Attribute(value=target, attr="update")) if name := dotted(target):
                given = [(k.arg, k.value) for k in node.keywords if k.arg]
                for each in (a for a in node.args if isinstance(a, ast.Dict)):
                    given += [(k.value, v) for k, v in zip(each.keys, each.values, strict=True) if isinstance(k, ast.Constant)]
                for key, value in given:
                    self._update(node, name, key, value)

    def _conditional(self, node: ast.AST, use: ast.AST) -> bool:
        """Whether `node` sits in a block (if, loop, try) of its function that `use` is not in."""
        inside = set(map(id, self.ancestors(use)))
        for around in self.ancestors(node):
            if isinstance(around, SCOPES):
                return False
            if isinstance(around, _BLOCKS) and id(around) not in inside:
                return True
        return False

    def lookup(self, name: str, use: ast.AST, depth: int = 0):
        """The value of a name where it is used: of the last unconditional binding before it, or of all bindings if they agree."""
        scope = self._home(use, name)
        while scope is not None and (scope, name) not in self.bound:
            scope = next((a for a in self.ancestors(scope) if isinstance(a, SCOPES) and not isinstance(a, ast.ClassDef)), None)
        if scope is None:
            return Symbol(name)
        found, line = self.bound[scope, name], getattr(use, "lineno", 0)
        is_own = scope is (self.around(use, SCOPES) or use)
        before = [b for b in found if getattr(b[0], "lineno", 0) < line] if is_own else []
        candidates = before[-1:] if before and not self._conditional(before[-1][0], use) else before or found
        first, *others = (self._default(at, v, depth) if isinstance(at, ast.arg) else self.resolve(v, depth + 1) for at, v in candidates)
        if any(type(v) is not type(first) or (v is not first and v != first) for v in others):
            return UNKNOWN
        if isinstance(first, dict):
            first = dict(first)
            for node, key, new in self.updates.get((scope, name), []):  # `d[key] = value` before the use; a conditional one is unknown
                if node.lineno < line or not is_own:
                    first[key] = UNKNOWN if self._conditional(node, use) else self.resolve(new, depth + 1)
        return first

    def _default(self, argument: ast.arg, default: ast.AST | None, depth: int):
        """A parameter's default. Where nothing here uses the function, its callers outside decide on a switch, a data type or a zero."""
        value = self.resolve(default, depth + 1)
        if isinstance(value, bool | Symbol) or value in _CHOICES:
            function = self.around(argument, FUNCTIONS)
            owner = self.parent[function] if function.name == "__init__" else function
            self._is_left_open |= getattr(owner, "name", "") not in self.used
        return value

    def resolve(self, node: ast.AST | None, depth: int = 0):
        """The value of an expression; UNKNOWN where the file does not state it, or where it depends on itself."""
        if node is None or depth > _DEPTH:
            return UNKNOWN
        if id(node) not in self._known:
            self._known[id(node)] = UNKNOWN
            before, self._is_left_open = self._is_left_open, False
            self._known[id(node)] = self._resolve(node, depth, depth + 1)
            if self._is_left_open:
                self._left_open.add(id(node))
            self._is_left_open = before
        self._is_left_open |= id(node) in self._left_open
        return self._known[id(node)]

    def _resolve(self, node: ast.AST, depth: int, deeper: int):
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.lookup(name, node, depth)
            case ast.Attribute():
                return self._attribute(node, depth)
            case ast.Call():
                return self._call(node, deeper + 1)
            case ast.Dict(keys=keys, values=values):
                entries = {}
                for key, value in zip(keys, (self.resolve(v, deeper) for v in values), strict=True):
                    entries |= value if key is None and isinstance(value, dict) else {getattr(key, "value", UNKNOWN): value}
                return _bounded(entries)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return _bounded([self.resolve(e, deeper) for e in elements])
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.IfExp(test=test, body=body, orelse=orelse):
                taken = self.resolve(test, deeper)
                return self.resolve(body if taken else orelse, deeper) if isinstance(taken, bool) else UNKNOWN
            case ast.Subscript(value=base, slice=key):
                base, key = self.resolve(base, deeper), self.resolve(key, deeper)
                return base.get(key, UNKNOWN) if isinstance(base, dict) and isinstance(key, str | int) else UNKNOWN
            case ast.JoinedStr(values=parts):
                texts = [self.resolve(v.value if isinstance(v, ast.FormattedValue) else v, deeper) for v in parts]
                return _bounded("".join(map(str, texts))) if all(type(t) in (str, int) for t in texts) else UNKNOWN
            case ast.BinOp(left=left, op=operator, right=right):
                left, right = self.resolve(left, deeper), self.resolve(right, deeper)
                kinds = {type(left), type(right)}
                if isinstance(operator, ast.BitOr) and kinds == {dict}:
                    return left | right
                if isinstance(operator, ast.Add) and kinds in ({str}, {list}):
                    return _bounded(left + right)
                if isinstance(operator, ast.Mult) and kinds <= {int, float} and max(abs(left), abs(right)) < 1e15:
                    return left * right
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                left, right = self.resolve(left, deeper), self.resolve(right, deeper)
                return left == right if type(left) is type(right) and type(left) in (str, int, bool) else UNKNOWN
        return UNKNOWN

    def _attribute(self, node: ast.Attribute, depth: int):
        """`args.x` as argparse gives it, `self.x` as the class binds it, else the dotted name."""
        name = dotted(node)
        base, _, attribute = name.rpartition(".")
        made = [v for _, v in self.bound.get((self.around(node, SCOPES) or node, base), [])] if self.argparse else []
        is_parsed = len(made) == 1 and isinstance(made[0], ast.Call) and dotted(made[0].func).endswith("parse_args")
        if self.argparse and (base.rpartition(".")[2] in _PARSED or is_parsed):
            return self.argparse.get(attribute, UNKNOWN)
        if name.startswith("self.") and name.count(".") == 1:
            value = self.lookup(name, node, depth)
            found = self.bound.get((self.around(node, ast.ClassDef), attribute), [])  # what the body of the class binds
            return value if not isinstance(value, Symbol) else self.resolve(found[0][1], depth + 1) if len(found) == 1 else UNKNOWN
        return Symbol(name) if name and "()" not in name else UNKNOWN

    def _call(self, node: ast.Call, deeper: int):
        """A call with its arguments resolved; `dict(...)`, copies, joined words, defaults of the environment are what they give."""
        kwargs, is_open, chosen = {}, False, set()
        for keyword in node.keywords:
            value = self.resolve(keyword.value, deeper)
            known = {keyword.arg: value} if keyword.arg else value if isinstance(value, dict) else {UNKNOWN: None}
            given = {k: v for k, v in known.items() if isinstance(k, str)}
            kwargs |= given
            is_open |= len(given) < len(known)
            chosen |= set(given) if id(keyword.value) in self._left_open else set()
        name, args, owner = dotted(node.func), node.args, getattr(node.func, "value", None)
        last = getattr(node.func, "attr", name)
        if name == "getattr" and len(args) >= 2:
            attribute = self.resolve(args[1], deeper)
            return Symbol(f"torch.{attribute}") if dotted(args[0]) == "torch" and type(attribute) is str else UNKNOWN
        if name in ("os.environ.get", "os.getenv", "environ.get", "getenv") and len(args) == 2:
            return self.resolve(args[1], deeper)
        if last == "join" and args and isinstance(text := getattr(owner, "value", None), str):
            words = self.resolve(args[0], deeper)
            return text.join(map(str, words)) if isinstance(words, list) else UNKNOWN
        if last in ("dict", "copy", "deepcopy") and len(args) <= 1 and not is_open:
            source = self.resolve(args[0] if args else owner, deeper) if name != "dict" or args else {}
            if isinstance(source, dict):
                return {**source, **kwargs}
        return Built(name, [self.resolve(a, deeper) for a in args], kwargs, is_open, node, chosen)
