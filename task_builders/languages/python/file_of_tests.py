"""A Python test file taken apart: its tests, what they depend on, and which names lead to the project. Pure."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from task_builders.languages.python.named_tests import TestNames
from task_builders.languages.python.syntax import tree_of

SOURCE_ROOTS = frozenset({"src", "lib"})
"""Directories that are not part of a module's name."""


@dataclass
class TestFile:
    """The contents of one test file."""

    __test__ = False  # pytest collects classes by name

    tree: ast.Module
    tests: TestNames
    shared: dict[str, ast.AST] = field(default_factory=dict)
    """Top-level definitions and assignments by name: fixtures, constants, classes that tests depend on."""
    project_names: set[str] = field(default_factory=set)
    """Names that an import binds to something in the project."""
    foreign_names: set[str] = field(default_factory=set)
    asked: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Names that an import takes from the project, by the id of the import's node."""
    star: bool = False
    """Whether the file imports everything of a project module (`from project import *`)."""
    foreign_star: bool = False
    bound: frozenset[str] = frozenset()
    """Every name that the file binds, imports included."""

    @property
    def asked_at_the_top(self) -> frozenset[str]:
        """Names that top-level imports take from the project. Imports inside `try` have an alternative and do not count."""
        return frozenset(name for node in self.tree.body for name in self.asked.get(id(node), ()))

    def reached(self, test: str) -> list[ast.AST]:
        """The nodes of a test (its id) and, transitively, of everything in its file that it names, fixtures included. The whole file if
        its function is not found.
        """
        named = self.tests.find(test)
        if named is None:
            return [self.tree]
        start = [named.function, *(node for one in named.lineage for node in _around(one))]
        reached, queue, seen = list(start), list(start), set()
        while queue:
            for node in ast.walk(queue.pop()):
                name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
                found = self.shared.get(name)
                if found is not None and name not in seen:
                    seen.add(name)
                    if not any(found is r for r in reached):
                        reached.append(found)
                        queue.append(found)
        return reached


def take_apart(text: str, path: str, *, project: frozenset[str], tests: frozenset[str]) -> TestFile:
    """Take a file apart. Raises `SyntaxError` if this Python cannot parse it.

    Args:
        text: the file's text.
        path: where it lies, to resolve relative imports.
        project: the project's import names.
        tests: names of modules among the test files, which the grader provides.
    """
    tree = tree_of(text)
    file = TestFile(tree, TestNames(tree))
    for statement in file.tree.body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                file.shared[statement.name] = statement
            case ast.Assign() | ast.AnnAssign():
                for name in (n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)):
                    file.shared[name] = statement
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _take_import(file, node, path, project, tests)
    file.bound = frozenset({*bound_in(file.tree), *file.project_names, *file.foreign_names})
    return file


def _around(node: ast.ClassDef) -> list[ast.AST]:
    """What each method of a class depends on: the class's decorators, attributes, set-up methods, and nested classes without tests."""
    own = [n for n in node.body if not (isinstance(n, ast.ClassDef) and n.name.startswith("Test")) and not _is_test(n)]
    return [*own, *node.decorator_list]


def _is_test(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def _take_import(file: TestFile, node: ast.Import | ast.ImportFrom, path: str, project: frozenset[str], tests: frozenset[str]) -> None:
    asked: list[str] = []
    for alias in node.names:
        parts = _parts(node, alias.name, path)
        name = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
        of_project = bool(parts) and parts[0] in project and not (set(parts) & tests)
        if name == "*":
            file.star, file.foreign_star = file.star or of_project, file.foreign_star or not of_project
        else:
            (file.project_names if of_project else file.foreign_names).add(name)
        if of_project:
            asked += [part for part in parts[1:] if part != "*"]
    file.asked[id(node)] = tuple(asked)


def _parts(node: ast.Import | ast.ImportFrom, name: str, path: str) -> list[str]:
    """The full dotted name of an import. A relative import is resolved by the file's path."""
    if isinstance(node, ast.Import):
        return name.split(".")
    module = node.module.split(".") if node.module else []
    if node.level:
        folders = [part for part in PurePosixPath(path).parts[:-1] if part not in SOURCE_ROOTS]
        module = [*folders[: len(folders) - node.level + 1], *module]
    return [*module, name]


def bound_in(*nodes: ast.AST) -> Iterator[str]:
    """Names that code binds: definitions, assignments, parameters."""
    for root in nodes:
        for node in ast.walk(root):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    yield name
                case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                    yield name
                case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    yield name


def set_on_objects(nodes: Sequence[ast.AST]) -> Iterator[ast.Attribute]:
    """Attributes that code assigns."""
    for root in nodes:
        yield from (node for node in ast.walk(root) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))


def fields_in(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names that class bodies bind: keywords that the tests' own classes may take."""
    for root in nodes:
        for node in ast.walk(root):
            for statement in node.body if isinstance(node, ast.ClassDef) else ():
                yield from (n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
                if isinstance(statement, ast.FunctionDef) and statement.name in {"__init__", "__new__"}:
                    yield from (a.arg for a in ast.walk(statement) if isinstance(a, ast.arg))


def libraries_in(texts: Iterable[str]) -> frozenset[str]:
    """Top-level modules that source code imports absolutely, the project's own included."""
    found: set[str] = set()
    for text in texts:
        try:
            tree = tree_of(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return frozenset(found)
