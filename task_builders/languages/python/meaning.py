"""What a Python module does: its syntax without what tests cannot observe. Pure.

Left out are docstrings, annotations of functions and inside them, overloads, and code for type checkers only. A class's own annotations
stay: records are made from them.
"""

import ast
from typing import TypeVar

Definition = TypeVar("Definition", ast.FunctionDef, ast.AsyncFunctionDef)


def meaning(tree: ast.Module) -> str:
    """A text that is equal for two modules which differ only in such things. Changes the tree."""
    return ast.dump(_Bare().visit(tree))


class _Bare(ast.NodeTransformer):
    def __init__(self) -> None:
        self._in_function = False

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = _without_docstring(node.body)
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = _without_docstring(node.body)
        outer, self._in_function = self._in_function, False
        self.generic_visit(node)
        self._in_function = outer
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | None:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef | None:
        return self._function(node)

    def _function(self, node: Definition) -> Definition | None:
        if any(_last_name(d) == "overload" for d in node.decorator_list):
            return None
        node.body, node.returns = _without_docstring(node.body), None
        outer, self._in_function = self._in_function, True
        self.generic_visit(node)
        self._in_function = outer
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        if self._in_function:
            node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if _last_name(node.test) == "TYPE_CHECKING" and not node.orelse:
            return None
        self.generic_visit(node)
        return node


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if is_docstring else body


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
