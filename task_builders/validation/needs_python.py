"""What sealed Python tests need to be told: names, keyword arguments, options and messages. Pure; used by the gate of sufficiency.

Reads the tests' syntax trees and resolves what can be resolved: what the standard library, third parties or the tests themselves define
is nobody's to guess and is left out. What is left is asked of the base tree and the instruction.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from task_builders.validation.vocabulary import BUILT_IN_NAMES, IDENTIFIER, WORD, in_order, phrase_known

NeedKind = Literal["name", "attribute", "keyword", "option", "message"]
OPTION_TEXT = re.compile(r"--[A-Za-z][\w-]+")
MESSAGE_WORDS = 3
"""Shorter texts are values, not messages."""
OWN_TEXT_CHARS = 200
"""Longer texts are documents, whose words name nothing."""
SPEAKING = frozenset(
    {"output", "stdout", "stderr", "err", "out", "message", "messages", "msg", "value", "exception", "args", "text", "match"}
)
"""Attributes through which a test reads what the program says."""
EXPECTING = frozenset({"raises", "warns", "deprecated_call", "assertRaisesRegex", "assertWarnsRegex", "assertRaisesRegexp"})
DEFINING = frozenset({"option", "argument", "add_argument", "add_option", "addoption", "Option", "Argument", "parametrize"})


@dataclass(frozen=True, order=True)
class Need:
    """One thing that a test uses and that somebody must know."""

    kind: NeedKind
    text: str
    of_project: bool = False
    """Reached through an import of the project: it must be bound there."""


@dataclass
class _Module:
    """A test file, taken apart."""

    tree: ast.Module
    tests: dict[str, list[ast.AST]] = field(default_factory=dict)
    """`Class::function` → the nodes that belong to it alone."""
    shared: dict[str, ast.AST] = field(default_factory=dict)
    """Top-level definitions and assignments by name: fixtures, constants, classes that tests lean on."""
    project_names: set[str] = field(default_factory=set)
    foreign_names: set[str] = field(default_factory=set)


def needs(
    text: str, test_ids: Sequence[str], *, project_modules: frozenset[str], test_modules: frozenset[str]
) -> dict[str, frozenset[Need]]:
    """The needs of each test of one file.

    `project_modules` are the project's import names; `test_modules` are those of the sealed tests' own files, which come with them.
    Raises `SyntaxError` for a file that this Python cannot read.
    """
    module = _take_apart(ast.parse(text), project_modules - test_modules)
    imports = frozenset(_import_needs(module.tree, project_modules, test_modules))
    result: dict[str, frozenset[Need]] = {}
    for test_id in test_ids:
        nodes = _reached(module, _qualified(test_id))
        used = {need for node in nodes for need in _Reader(module, nodes).read(node)}
        # An import at the top of the file fails every test of it, whether the test uses the name or not.
        result[test_id] = frozenset(used) | imports
    return result


def _qualified(test_id: str) -> str:
    return test_id.partition("::")[2].split("[")[0]


def _take_apart(tree: ast.Module, project: frozenset[str]) -> _Module:
    module = _Module(tree)
    for statement in tree.body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                module.tests[statement.name] = [statement]
                module.shared[statement.name] = statement
            case ast.ClassDef():
                _take_class_apart(module, statement, statement.name)
                module.shared[statement.name] = statement
            case ast.Assign() | ast.AnnAssign():
                for name in (n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)):
                    module.shared[name] = statement
    for node in ast.walk(tree):
        for name, root in _imported(node):
            (module.project_names if root in project else module.foreign_names).add(name)
    return module


def _take_class_apart(module: _Module, node: ast.ClassDef, prefix: str) -> None:
    """Each method is a test that leans on the class's decorators, attributes, set-up methods, and classes that hold no tests."""
    functions = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    collected = [n for n in node.body if isinstance(n, ast.ClassDef) and n.name.startswith("Test")]
    tests = {id(n) for n in (*collected, *(f for f in functions if f.name.startswith("test")))}
    around: list[ast.AST] = [n for n in node.body if id(n) not in tests]
    for function in functions:
        module.tests[f"{prefix}::{function.name}"] = [function, *around, *node.decorator_list]
    for inner in collected:
        _take_class_apart(module, inner, f"{prefix}::{inner.name}")


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(name in the file, first part of the module) of an import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname or alias.name.partition(".")[0]), alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield (alias.asname or alias.name), "" if node.level else (node.module or "").partition(".")[0]


def _import_needs(tree: ast.Module, project: frozenset[str], tests: frozenset[str]) -> Iterator[Need]:
    """Names that the file's top-level imports ask of the project. Imports inside `try` have an alternative."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            wanted = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            wanted = [[*node.module.split("."), alias.name] for alias in node.names]
        else:
            continue
        for parts in wanted:
            if parts[0] in project and not (set(parts) & tests):
                yield from (Need("name", part, of_project=True) for part in parts[1:] if part != "*")


def _reached(module: _Module, qualified: str) -> list[ast.AST]:
    """The nodes of a test and of everything of its file that it names, fixtures included; the whole file for an unknown test."""
    start = module.tests.get(qualified) or module.tests.get(qualified.rpartition("::")[2])
    if start is None:
        return [module.tree]
    reached, queue, seen = list(start), list(start), set()
    while queue:
        for node in ast.walk(queue.pop()):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else ""
            found = module.shared.get(name)
            if found is not None and name not in seen:
                seen.add(name)
                if not any(found is r for r in reached):
                    reached.append(found)
                    queue.append(found)
    return reached


class _Reader:
    """Reads the needs of nodes, knowing what the tests themselves define."""

    def __init__(self, module: _Module, nodes: Sequence[ast.AST]) -> None:
        self._module = module
        self._own = _own_names(nodes) | set(module.shared)
        self._told = _told_by_the_tests(nodes)
        self._defined_options = {text for node in nodes for text in _defined_texts(node) if OPTION_TEXT.fullmatch(text)}

    def read(self, root: ast.AST) -> Iterator[Need]:
        for node in ast.walk(root):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                yield from self._attribute(node)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                yield from self._inner_import(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
                yield from (Need("option", text) for text in _options(node) if text not in self._defined_options)
            elif isinstance(node, ast.Compare):
                yield from self._untold(_compared_messages(node))

    def _attribute(self, node: ast.Attribute) -> Iterator[Need]:
        root, direct = _root(node)
        if node.attr in self._own or node.attr in BUILT_IN_NAMES or root in self._module.foreign_names - self._module.project_names:
            return
        if root in self._module.project_names and direct:
            yield Need("name", node.attr, of_project=True)
        else:
            yield Need("attribute", node.attr)

    def _inner_import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Need]:
        for name, _root_module in _imported(node):
            if name in self._module.project_names and isinstance(node, ast.ImportFrom):
                yield from (Need("name", alias.name, of_project=True) for alias in node.names if alias.name != "*")

    def _call(self, node: ast.Call) -> Iterator[Need]:
        root, _ = _root(node.func)
        yield from self._untold(_expected_messages(node))
        foreign = root in self._module.foreign_names and root not in self._module.project_names
        if foreign or root in BUILT_IN_NAMES or root in self._own:
            return
        yield from (Need("keyword", k.arg) for k in node.keywords if k.arg and k.arg not in self._own)

    def _untold(self, expected: Iterator[Need]) -> Iterator[Need]:
        """Expected messages that the tests do not themselves hand in."""
        return (need for need in expected if not phrase_known(need.text.split(), self._told))


def _options(call: ast.Call) -> Iterator[str]:
    """The options of command lines that are handed in: texts that stand alone, or in a table of cases, are any function's values."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    for line in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if isinstance(line, ast.List | ast.Tuple) and not called.startswith("assert") and called not in DEFINING:
            words = [word.value for word in line.elts if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            yield from (option for option in (word.partition("=")[0] for word in words) if OPTION_TEXT.fullmatch(option))


def _root(node: ast.AST) -> tuple[str, bool]:
    """The name at the root of a chain, and whether the chain is of attributes alone (no call or index between)."""
    direct = True
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        direct = direct and isinstance(node, ast.Attribute)
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id if isinstance(node, ast.Name) else ""), direct


def _own_names(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that the tests' own code defines, and words of texts that it passes on (fields of classes made from lists of names)."""
    own: set[str] = set()
    for root in nodes:
        for node in ast.walk(root):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                    own.add(name)
                case ast.Constant(value=str(value)):
                    own.update(IDENTIFIER.findall(value) if len(value) < OWN_TEXT_CHARS else ())
                case ast.Dict(keys=keys):
                    own.update(k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str))
    return own


def _defined_texts(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
            if name in DEFINING:
                yield from (a.value for a in ast.walk(call) if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _expected_messages(node: ast.Call) -> Iterator[Need]:
    for value in _expectations(node):
        for text in _texts(value):
            yield from _message(re.sub(r"\\[A-Za-z]", " ", str(text.value)))


def _expectations(node: ast.Call) -> list[ast.expr]:
    last = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    return [k.value for k in node.keywords if k.arg in {"match", "expected_regex"}] + node.args[1:2] if last in EXPECTING else []


def _compared_messages(node: ast.Compare) -> Iterator[Need]:
    """Texts that are compared with what the program said."""
    for text in _compared_texts(node):
        yield from _message(str(text.value))


def _compared_texts(node: ast.Compare) -> list[ast.Constant]:
    sides = [node.left, *node.comparators]
    return [text for side in sides for text in _texts(side)] if any(_speaks(side) for side in sides) else []


def _told_by_the_tests(nodes: Sequence[ast.AST]) -> str:
    """Words of every text of the tests that is not one they expect."""
    every = [node for root in nodes for node in ast.walk(root)]
    expected = {id(text) for node in every if isinstance(node, ast.Compare) for text in _compared_texts(node)}
    expected |= {id(text) for node in every if isinstance(node, ast.Call) for value in _expectations(node) for text in _texts(value)}
    return "".join(
        in_order(node.value)
        for node in every
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in expected
    )


def _speaks(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and inner.attr in SPEAKING:
            return True
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "str":
            return True
    return False


def _texts(node: ast.AST) -> Iterator[ast.Constant]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str))


def _message(text: str) -> Iterator[Need]:
    for line in text.splitlines():
        words = WORD.findall(line.lower())
        if len(words) >= MESSAGE_WORDS:
            yield Need("message", " ".join(words))
