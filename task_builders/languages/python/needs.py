"""What an agent must know to satisfy sealed Python tests: names, keyword arguments, options and messages. Pure.

Reads the tests' syntax trees. What the standard library, third parties or the tests themselves define need not be guessed and is left out.
The rest must be found in the base tree or the instruction.
"""

import ast
import builtins
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from task_builders.languages.python.file_of_tests import TestFile, bound_in, fields_in, set_on_objects, take_apart
from task_builders.languages.python.syntax import tree_of
from task_builders.languages.vocabulary import IDENTIFIER, WORD, Need, in_order, phrase_known

BUILT_IN_TYPES = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, BaseException, OSError, type, object, property)
BUILT_IN_NAMES = frozenset(dir(builtins)) | frozenset(name for kind in BUILT_IN_TYPES for name in dir(kind))
OPTION_TEXT = re.compile(r"--[A-Za-z][\w-]+")
MESSAGE_WORDS = 3
"""Shorter texts are values, not messages."""
OWN_TEXT_CHARS = 200
"""Longer texts are documents, whose words name nothing."""
MESSAGE_ATTRIBUTES = frozenset(
    {"output", "stdout", "stderr", "err", "out", "message", "messages", "msg", "value", "exception", "args", "text", "match"}
)
"""Attributes through which a test reads the program's messages."""
EXPECTING = frozenset({"raises", "warns", "deprecated_call", "assertRaisesRegex", "assertWarnsRegex", "assertRaisesRegexp"})
DEFINING = frozenset({"option", "argument", "add_argument", "add_option", "addoption", "Option", "Argument", "parametrize"})
MODULE_NAMES = frozenset({"__file__", "__name__", "__doc__", "__path__", "__spec__", "__package__", "__loader__"})


def needs(
    text: str, test_ids: Sequence[str], *, project_modules: frozenset[str], test_modules: frozenset[str]
) -> dict[str, frozenset[Need]]:
    """The needs of each test of one file. Raises `SyntaxError` if this Python cannot parse the file.

    `project_modules` are the project's import names; `test_modules` are modules among the sealed files, which the grader provides.
    """
    path = test_ids[0].partition("::")[0] if test_ids else ""
    file = take_apart(text, path, project=project_modules - test_modules, tests=test_modules)
    # A failing import at the top of the file fails every test in it, whether the test uses the name or not.
    imports = frozenset(Need("name", name, of_project=True) for name in file.asked_at_the_top)
    result: dict[str, frozenset[Need]] = {}
    for test_id in test_ids:
        nodes = file.reached(test_id)
        result[test_id] = imports | {need for node in nodes for need in _Reader(file, nodes).read(node)}
    return result


def bound_names(path: str, text: str) -> set[str]:
    """Names that a Python file binds or accesses as attributes. All identifiers if this Python cannot parse the file."""
    if PurePosixPath(path).suffix not in {".py", ".pyi"}:
        return set()
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(IDENTIFIER.findall(text))
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name):
                # An attribute that code accesses exists, even if no statement binds it (lazy attributes, compiled modules).
                found.add(name)
            case ast.arg(arg=name):
                found.add(name)
            case ast.alias(name=name, asname=alias):
                found.update([*name.split("."), *([alias] if alias else [])])
            case ast.Constant(value=str(value)) if value.isidentifier():
                # `__all__`, `setattr` and lazy tables bind names given as strings.
                found.add(value)
    return found


class _Reader:
    """Reads the needs of nodes, given what the tests themselves define.

    A name used of the project directly is a need, even if the tests define one of the same name. A name used of an unknown object is a
    need only if the tests neither define it nor mention it.
    """

    def __init__(self, file: TestFile, nodes: Sequence[ast.AST]) -> None:
        self._file = file
        self._set = {node.attr for node in set_on_objects(nodes)}
        bound = set(bound_in(*nodes))
        self._own = {*bound, *self._set, *_words_of_texts(nodes), *file.shared}
        self._defined = {n.name for n in _all_nodes(nodes) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        self._fields = set(fields_in(nodes))
        self._project = file.project_names - bound
        self._foreign = file.foreign_names - file.project_names - bound
        self._input_words = _words_of_inputs(nodes)
        self._defined_options = {text for node in nodes for text in _defined_texts(node) if OPTION_TEXT.fullmatch(text)}

    def read(self, root: ast.AST) -> Iterator[Need]:
        for node in ast.walk(root):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                yield from self._attribute(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield from self._starred(node)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                yield from (Need("name", name, of_project=True) for name in self._file.asked.get(id(node), ()))
            elif isinstance(node, ast.Call):
                yield from self._call(node)
                yield from (Need("option", text) for text in _options(node) if text not in self._defined_options)
            elif isinstance(node, ast.Compare):
                yield from self._unknown_messages(_compared_messages(node))

    def _attribute(self, node: ast.Attribute) -> Iterator[Need]:
        root, direct = _root(node)
        if node.attr in BUILT_IN_NAMES or root in self._foreign:
            return
        if root in self._project and direct:
            if node.attr not in self._set:
                yield Need("name", node.attr, of_project=True)
        elif node.attr not in self._own:
            yield Need("attribute", node.attr)

    def _starred(self, node: ast.Name) -> Iterator[Need]:
        """A name that the file binds nowhere comes from a star import, if there is one."""
        if self._file.star and node.id not in self._file.bound | BUILT_IN_NAMES | MODULE_NAMES:
            yield Need("attribute", node.id) if self._file.foreign_star else Need("name", node.id, of_project=True)

    def _call(self, node: ast.Call) -> Iterator[Need]:
        root, _ = _root(node.func)
        yield from self._unknown_messages(_expected_messages(node))
        if root in self._foreign or root in BUILT_IN_NAMES or root in self._defined:
            return
        if isinstance(node.func, ast.Name) and root in self._own and root not in self._project:
            return  # the tests' own callable: a factory, a partial function
        own = self._fields if root in self._project else self._own
        yield from (Need("keyword", k.arg) for k in node.keywords if k.arg and k.arg not in own)

    def _unknown_messages(self, expected: Iterator[Need]) -> Iterator[Need]:
        """Expected messages that do not occur among the tests' own inputs."""
        return (need for need in expected if not phrase_known(need.text.split(), self._input_words))


def _options(call: ast.Call) -> Iterator[str]:
    """Options in command lines that a call passes on. Single strings and assertions' arguments may be any values, so they do not count."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    for line in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if isinstance(line, ast.List | ast.Tuple) and not called.startswith("assert") and called not in DEFINING:
            words = [word.value for word in line.elts if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            yield from (option for option in (word.partition("=")[0] for word in words) if OPTION_TEXT.fullmatch(option))


def _root(node: ast.AST) -> tuple[str, bool]:
    """The name at the root of a chain, and whether the chain consists of attributes only (no call or index)."""
    direct = True
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        direct = direct and isinstance(node, ast.Attribute)
        node = node.func if isinstance(node, ast.Call) else node.value
    return (node.id if isinstance(node, ast.Name) else ""), direct


def _words_of_texts(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Words of strings that tests pass on, such as field names of classes made from lists of names."""
    for node in _all_nodes(nodes):
        match node:
            case ast.Constant(value=str(value)):
                yield from IDENTIFIER.findall(value) if len(value) < OWN_TEXT_CHARS else ()
            case ast.Dict(keys=keys):
                yield from (k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str))


def _all_nodes(nodes: Sequence[ast.AST]) -> list[ast.AST]:
    return [node for root in nodes for node in ast.walk(root)]


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
    """Texts that are compared with the program's messages."""
    for text in _compared_texts(node):
        yield from _message(str(text.value))


def _compared_texts(node: ast.Compare) -> list[ast.Constant]:
    sides = [node.left, *node.comparators]
    return [text for side in sides for text in _texts(side)] if any(_reads_messages(side) for side in sides) else []


def _words_of_inputs(nodes: Sequence[ast.AST]) -> str:
    """The words of all strings of the tests, except those that they expect as messages."""
    every = _all_nodes(nodes)
    expected = {id(text) for node in every if isinstance(node, ast.Compare) for text in _compared_texts(node)}
    expected |= {id(text) for node in every if isinstance(node, ast.Call) for value in _expectations(node) for text in _texts(value)}
    return "".join(
        in_order(node.value)
        for node in every
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in expected
    )


def _reads_messages(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and inner.attr in MESSAGE_ATTRIBUTES:
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
