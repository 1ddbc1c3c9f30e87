"""Finds the names that a piece of Python uses but never sets: the question must provide them. Pure."""

import ast
import builtins

USUAL_IMPORTS = {
    "pd": "import pandas as pd",
    "np": "import numpy as np",
    **{name: f"import {name}" for name in ("re", "os", "sys", "json", "csv", "math", "itertools", "collections", "datetime")},
    "defaultdict": "from collections import defaultdict",
    "Counter": "from collections import Counter",
}
"""Imports that answers use without showing them, by the name that they bring."""


def of(tree: ast.Module) -> tuple[str, ...]:
    """The names in order of appearance. A name that is set anywhere earlier in the text counts as set."""
    found = _Found()
    found.visit(tree)
    return tuple(name for name in dict.fromkeys(found.free) if name not in USUAL_IMPORTS)


class _Found(ast.NodeVisitor):
    """Visits in evaluation order where it matters: values before the names assigned to them."""

    def __init__(self) -> None:
        self.known = {*dir(builtins), "__file__"}
        self.free: list[str] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.known.add(node.id)
        elif node.id not in self.known:
            self.free.append(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        for each in (*node.body, *node.orelse):
            self.visit(each)

    def visit_Import(self, node: ast.Import) -> None:
        self.known.update((alias.asname or alias.name).split(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.known.update(alias.asname or alias.name for alias in node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.known.add(node.name)
        self._scope(node.args, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._scope(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.known.add(node.name)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.known.update([node.name] if node.name else [])
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._comprehension(node.generators, [node.elt])

    visit_SetComp = visit_GeneratorExp = visit_ListComp  # noqa: N815 - ast's names

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node.generators, [node.key, node.value])

    def _comprehension(self, generators: list[ast.comprehension], results: list[ast.expr]) -> None:
        outer = set(self.known)
        for generator in generators:
            self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for result in results:
            self.visit(result)
        self.known = outer

    def _scope(self, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        outer = set(self.known)
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self.known.update(argument.arg for argument in named if argument is not None)
        for each in (*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None), *body):
            self.visit(each)
        self.known = outer
