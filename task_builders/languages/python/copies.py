"""Copies of test functions within their module: renamed, altered, or with one statement run alone. Pure; used to make canaries."""

import ast
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from random import Random

from task_builders.languages.python.assertions import inner_bodies, raised, statements
from task_builders.languages.python.named_tests import TestFunction, TestNames, blocks, second_name
from task_builders.languages.python.source_edits import Edit, Source
from task_builders.languages.python.stand_ins import ANY_NAME
from task_builders.languages.python.syntax import tree_of

HITS = "_hits"
TOKEN = "{token}"  # noqa: S105 - a placeholder's name
HELD = "TOKEN_IN_A_NAME"
"""In its place where a text is parsed."""
WORDS = (
    "again basic both case direct extra first inner late long many mixed more nested "
    "other outer plain second short simple single small third twice wide"
)


@dataclass(frozen=True)
class Case:
    """What the id of a test has besides its file and its function: a copy of the function has the same cases."""

    classes: tuple[str, ...] = ()
    rest: str = ""
    """A generated ending, parameters."""

    def id(self, path: str, name: str) -> str:
        """The id of this case of a function."""
        return "::".join((path, *self.classes, name + self.rest))


@dataclass(frozen=True)
class Expected:
    """A test function or method, and its cases that are expected to pass."""

    node: TestFunction
    name: str
    """What its copies are named after: see `Named.name`."""
    cases: Mapping[str, Case]
    """By id."""

    def copy_of(self, name: str) -> str:
        """A copy's name for `Canary.copy`: needed if more than one test of the module is made of this function."""
        stems = {(case.classes, case.rest.partition("[")[0]) for case in self.cases.values()}
        return name if len(stems) > 1 or any(rest for _, rest in stems) else ""


@dataclass(frozen=True)
class Copy:
    """A copy of a test to be written."""

    name: str
    edits: tuple[Edit, ...] = ()
    alone: int | None = None
    """Index (in `statements`) of a statement that is run alone: the copy passes if it never succeeds, whatever else fails."""
    breaks: bool = False
    """Whether the copy is skipped where it breaks, which is to end by anything but a failed assertion: a third result beside two."""


def module(source: Source, copies: Sequence[tuple[TestFunction, Sequence[Copy]]], *, lenient: bool = False) -> bytes:
    """The module with copies in place of its tests; tests without copies are removed.

    With `lenient`, it can be loaded even if what it imports does not exist yet.
    """
    edits = _removals(source, {id(node) for node, _ in copies})
    for node, wanted in copies:
        start, end = _full_span(source, node)
        written = [_copy_text(source, node, copy) for copy in wanted]
        edits.append(Edit(start, end, ("\n\n" + " " * node.col_offset).join(written)))
    if lenient:
        place = _after_header(source)
        edits.append(Edit(place, place, ANY_NAME + "\n"))
    return source.edited(edits)


def only(template: bytes, names: Collection[str]) -> bytes:
    """A module of copies without those that have other names: what nobody asks for is not run, since it may do anything."""
    source = Source(template.replace(TOKEN.encode(), HELD.encode()))
    functions = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    kept = {id(node) for node in functions if node.name.replace(HELD, TOKEN) in names}
    return source.edited(_removals(source, kept)).replace(HELD.encode(), TOKEN.encode())


def unexplained(source: Source, text: bytes) -> bytes:
    """The text, derived from this module, with pytest's assertion rewriting off.

    For hundreds of copies the rewriting takes minutes, and nobody reads its explanations.
    """
    first = source.tree.body[:2]
    has_docstring = bool(first) and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant)
    if text.startswith(b"#!") or (has_docstring and isinstance(first[-1], ast.ImportFrom) and first[-1].module == "__future__"):
        return text
    return b'"""PYTEST_DONT_REWRITE"""\n' + text


def _full_span(source: Source, node: TestFunction) -> tuple[int, int]:
    """The span of a function, decorators included."""
    start, end = source.span(node)
    return min([start, *(source.span(d)[0] - 1 for d in node.decorator_list)]), end


def _copy_text(source: Source, node: TestFunction, copy: Copy) -> str:
    start, end = _full_span(source, node)
    edits = sorted((*copy.edits, _rename(source, node, copy.name)), key=lambda e: (e.start, e.end))
    out, position = [], start
    for edit in edits:
        out += [source.data[position : edit.start].decode(), edit.text]
        position = edit.end
    text = "".join([*out, source.data[position:end].decode()])
    if copy.alone is not None:
        return _rewritten(text, node.col_offset, partial(_alone, copy.alone))
    return _rewritten(text, node.col_offset, _skipped_where_it_breaks) if copy.breaks else text


def _rename(source: Source, node: TestFunction, name: str) -> Edit:
    start, end = source.span(node)
    found = re.compile(rb"def\s+" + node.name.encode() + rb"\b").search(source.data, start, end)
    if found is None:
        raise ValueError(f"the definition of {node.name} is not where the syntax tree says")
    return Edit(found.end() - len(node.name.encode()), found.end(), name)


def _rewritten(text: str, indent: int, body: Callable[[TestFunction], list[ast.stmt]]) -> str:
    """A function's text with another body."""
    text = text.replace(TOKEN, HELD)
    tree = tree_of(f"class _:\n{' ' * indent}{text}" if indent else text)
    top = tree.body[0]
    function = top.body[0] if isinstance(top, ast.ClassDef) else top
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        raise ValueError("the copy is not a function")  # noqa: TRY004 - the text's fault
    function.body = body(function)
    said = ast.unparse(ast.fix_missing_locations(function)).replace(HELD, TOKEN)
    return textwrap.indent(said, " " * indent).lstrip()


def _alone(statement: int, function: TestFunction) -> list[ast.stmt]:
    wanted = statements(function)[statement]
    return [*tree_of(f"{HITS} = []").body, *_continuing(function.body, wanted), *tree_of(f"assert not {HITS}").body]


def _skipped_where_it_breaks(function: TestFunction) -> list[ast.stmt]:
    (shell,) = tree_of(
        "try:\n    pass\nexcept (AssertionError, __import__('pytest').fail.Exception):\n    raise\n"
        "except BaseException:\n    __import__('pytest').skip('it breaks')\n"
    ).body
    if isinstance(shell, ast.Try):
        shell.body = function.body
    return [shell]


def _continuing(body: Sequence[ast.stmt], wanted: ast.stmt) -> list[ast.stmt]:
    """The statements, each continuing after a failure; the wanted one is counted if it succeeds."""
    out: list[ast.stmt] = []
    for statement in body:
        tried = [statement, *(tree_of(f"{HITS}.append(1)").body if statement is wanted else ())]
        if not (isinstance(statement, ast.With | ast.AsyncWith) and raised(statement) is not None):
            for inner in inner_bodies(statement):
                inner[:] = _continuing(inner, wanted)
        caught = ast.ExceptHandler(type=ast.Name("BaseException", ast.Load()), name=None, body=[ast.Pass()])
        out.append(ast.Try(body=tried, handlers=[caught], orelse=[], finalbody=[]))
    return out


def _after_header(source: Source) -> int:
    """The position after the module's docstring and `__future__` imports."""
    end = 0
    for n, node in enumerate(source.tree.body):
        docstring = n == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        end = source.span(node)[1]
    return source.data.find(b"\n", end) + 1 if end else 0


def _removals(source: Source, kept: Collection[int]) -> list[Edit]:
    """Edits that remove the tests that are not copied."""
    edits: list[Edit] = []
    functions = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    gone = {node.name for node in functions if id(node) in kept or node.name.startswith("test")}
    _collect_removals(source, source.tree.body, kept, gone, edits, inner=False)
    return edits


def _collect_removals(
    source: Source, body: Sequence[ast.stmt], kept: Collection[int], gone: Collection[str], edits: list[Edit], *, inner: bool
) -> None:
    left = len(body)
    for node in body:
        for block in (node.body,) if isinstance(node, ast.ClassDef) else blocks(node):
            _collect_removals(source, block, kept, gone, edits, inner=True)
        if id(node) not in kept and _is_test(source, node, gone):
            left -= 1
            span = _full_span(source, node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else source.span(node)
            edits.append(Edit(*span, "pass" if inner and left == 0 else ""))


def _is_test(source: Source, node: ast.stmt, gone: Collection[str]) -> bool:
    """Whether a statement defines a test, or gives a test's name to a function that is no longer there."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        fixture = any(isinstance(d, ast.Attribute | ast.Name | ast.Call) and "fixture" in source.text(d) for d in node.decorator_list)
        return node.name.startswith("test") and not fixture
    names = second_name(node)
    return names is not None and names[0].startswith("test") and names[1] in gone


def by_module(ids: Iterable[str]) -> dict[str, list[str]]:
    """Test ids by the path of their file."""
    found: dict[str, list[str]] = {}
    for test in dict.fromkeys(ids):
        found.setdefault(test.split("::", 1)[0], []).append(test)
    return found


def expected_in(source: Source, ids: Iterable[str]) -> list[Expected]:
    """The functions of a module that these ids name, in its order. Ids whose function its text does not tell are left out."""
    names = TestNames(source.tree)
    found: dict[int, tuple[TestFunction, str, dict[str, Case]]] = {}
    for test in ids:
        named = names.find(test)
        if named is not None:
            _, name, cases = found.setdefault(id(named.function), (named.function, named.name, {}))
            if name == named.name:
                cases[test] = Case(named.classes, named.rest)
    return [Expected(*one) for one in sorted(found.values(), key=lambda one: one[0].lineno)]


def sharing(texts: Mapping[str, bytes], failing: Iterable[str], tests: Iterable[str]) -> set[str]:
    """Those of the tests that are made of the same function as a failing one."""
    found: set[str] = set()
    mine = by_module(tests)
    for path, bad in by_module(failing).items():
        try:
            names: TestNames | None = TestNames(tree_of(texts.get(path, b"")))
        except (SyntaxError, ValueError):
            names = None
        spoilt = {_function_of(names, test) for test in bad}
        found |= {test for test in mine.get(path, ()) if _function_of(names, test) in spoilt}
    return found


def _function_of(names: TestNames | None, test: str) -> int | str:
    named = names.find(test) if names else None
    return id(named.function) if named else test.partition("[")[0]


def drawn_words(chance: Random) -> Iterator[str]:
    """Words for the names of copies and their files, without repetition: word pairs in random order, then longer combinations."""
    for length in count(2):
        some = ["_".join(words) for words in product(WORDS.split(), repeat=length)]
        yield from chance.sample(some, len(some))


def destination_of(path: str, word: str) -> str:
    """The path of a copy of a test module: beside it, under a new name that a runner collects."""
    folder, _, file = path.rpartition("/")
    own = f"{TOKEN}_{word}"
    name = f"{own}_test.py" if file.endswith("_test.py") else f"test_{own}.py"
    return f"{folder}/{name}" if folder else name


def new_name(name: str, word: str) -> str:
    """A copy's name: it has a test's prefix, and does not reveal the original."""
    prefix = re.match(r"test_?|[^_]*_?", name)
    start = prefix.group(0) if prefix else ""
    return f"{start if start.endswith('_') else start + '_'}{TOKEN}_{word}"


def cases(answers: Mapping[str, str], path: str, places: Iterable[tuple[str, ...]], name: str) -> list[tuple[Case, str]]:
    """The results of a function's cases, in order. `places` are the classes in which it is a test."""
    found: list[tuple[Case, str]] = []
    stems = {classes: Case(classes).id(path, name) for classes in places}
    for test, said in answers.items():
        for classes, stem in stems.items():
            rest = test.removeprefix(stem)
            if test.startswith(stem) and not rest[:1].isalnum():
                found.append((Case(classes, rest), said))
    return found
