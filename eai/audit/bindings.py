"""What the names of a module are bound to: assignments, dictionary updates, parameters and argparse options, by scope."""

import ast

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
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            self._bind_update(node)

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
