"""The contents of a setup.py, read from its syntax tree; it is never run. Pure."""

import ast
import re
from typing import Any

from task_builders.languages.project import ProjectTree
from task_builders.languages.python import syntax

UNKNOWN = object()


def read(tree: ProjectTree, path: str = "setup.py") -> dict[str, Any]:
    """The keywords of its `setup(...)` call that are constants or can be computed from constants. Empty if it cannot be parsed."""
    module = syntax.parse(tree.read(path))
    if module is None:
        return {}
    reader = _Reader(tree)
    found: dict[str, Any] = {}
    for statement in ast.walk(module):
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr):
            reader.statement(statement)
    for call in (n for n in ast.walk(module) if isinstance(n, ast.Call)):
        if _called(call) == "setup":
            found.update(_keywords(call, reader))
    return found


def _keywords(call: ast.Call, reader: "_Reader") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in call.keywords:
        value = reader.value(keyword.value)
        if value is UNKNOWN:
            continue
        if keyword.arg is None and isinstance(value, dict):
            found.update({k: v for k, v in value.items() if isinstance(k, str)})
        elif keyword.arg is not None:
            found[keyword.arg] = value
    return found


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


class _Reader:
    """Constants of a module, collected statement by statement."""

    def __init__(self, tree: ProjectTree) -> None:
        self._tree = tree
        self._names: dict[str, Any] = {}

    def statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, self.value(node.value))
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._assign(node.target, self.value(node.value))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self._assign(node.target, _added(self._names.get(node.target.id, UNKNOWN), self.value(node.value)))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            self._method(node.value.func, node.value)

    def _assign(self, target: ast.AST, value: Any) -> None:
        if value is UNKNOWN:
            return
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, ast.Subscript):
            holder, key = self.value(target.value), self.value(target.slice)
            if isinstance(holder, dict) and isinstance(key, str):
                holder[key] = value

    def _method(self, func: ast.Attribute, call: ast.Call) -> None:
        holder = self.value(func.value)
        args = [self.value(a) for a in call.args]
        if isinstance(holder, list) and args and args[0] is not UNKNOWN:
            if func.attr == "append":
                holder.append(args[0])
            elif func.attr == "extend" and isinstance(args[0], list):
                holder.extend(args[0])
        elif isinstance(holder, dict) and func.attr == "update" and args and isinstance(args[0], dict):
            holder.update(args[0])

    def value(self, node: ast.AST) -> Any:  # noqa: C901, PLR0911 - one branch per kind of node
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._names.get(node.id, UNKNOWN)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            items = [self.value(e.value) if isinstance(e, ast.Starred) else self.value(e) for e in node.elts]
            flat: list[Any] = []
            for element, item in zip(node.elts, items, strict=True):
                if isinstance(element, ast.Starred):
                    flat.extend(item if isinstance(item, list) else [])
                elif item is not UNKNOWN:
                    flat.append(item)
            return flat
        if isinstance(node, ast.Dict):
            return self._dict(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return _added(self.value(node.left), self.value(node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return _formatted(self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Subscript):
            holder, key = self.value(node.value), self.value(node.slice)
            return holder.get(key, UNKNOWN) if isinstance(holder, dict) and isinstance(key, str) else UNKNOWN
        if isinstance(node, ast.JoinedStr):
            return self._joined(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        return UNKNOWN

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = [self.value(v.value) if isinstance(v, ast.FormattedValue) else self.value(v) for v in node.values]
        return UNKNOWN if any(p is UNKNOWN for p in parts) else "".join(str(p) for p in parts)

    def _dict(self, node: ast.Dict) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            value = self.value(item)
            name = self.value(key) if key is not None else None
            if key is None and isinstance(value, dict):
                found.update(value)
            elif isinstance(name, str) and value is not UNKNOWN:
                found[name] = value
        return found

    def _call(self, node: ast.Call) -> Any:
        name = _called(node)
        if name == "dict":
            return {k.arg: v for k in node.keywords if k.arg and (v := self.value(k.value)) is not UNKNOWN}
        if name in {"list", "sorted", "tuple", "set"} and node.args:
            return self.value(node.args[0])
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"strip", "split", "splitlines"}:
            value = self.value(node.func.value)
            return UNKNOWN if not isinstance(value, str) else value.strip() if node.func.attr == "strip" else value.split()
        # A call that reads a requirements file: the file's name is among the call's constants.
        texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        for text in texts:
            if re.search(r"require[^/]*\.(?:txt|in|pip)$", text):
                path = next((p for p in self._tree.paths() if p == text or p.endswith("/" + text)), "")
                return [
                    line.strip() for line in self._tree.read(path).splitlines() if line.strip() and not line.lstrip().startswith(("#", "-"))
                ]
        return UNKNOWN


def _added(left: Any, right: Any) -> Any:
    if isinstance(left, list):
        return left + right if isinstance(right, list) else left
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    return right if left is UNKNOWN and isinstance(right, list) else UNKNOWN


def _formatted(template: Any, values: Any) -> Any:
    if not isinstance(template, str) or not isinstance(values, str | list):
        return UNKNOWN
    try:
        return template % (tuple(values) if isinstance(values, list) else values)
    except (TypeError, ValueError):
        return UNKNOWN
