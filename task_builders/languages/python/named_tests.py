"""Which function of its module a test id names. Pure; from the module's syntax, as runners collect it.

A test may stand under a condition, be inherited from a class of the module, be a second name of a function, or be generated of one by a
decorator, which adds an ending to the name.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TestFunction = ast.FunctionDef | ast.AsyncFunctionDef
Definition = TestFunction | ast.ClassDef
Space = dict[str, Definition | None]
"""What a body defines, by name; None where that depends on which branch is taken."""
KEEPING_NAMES = frozenset({
    "abc", "abstractmethod", "asyncio", "classmethod", "contextlib", "example", "expectedFailure", "fixture", "functools", "given",
    "hypothesis", "mark", "mock", "override", "parametrize", "patch", "property", "pytest", "settings", "skip", "skipIf", "skipUnless",
    "staticmethod", "unittest", "wraps",
})  # fmt: skip
"""Decorators, and modules of decorators, that generate no tests of other names."""


@dataclass(frozen=True)
class Named:
    """The function that a test id names."""

    function: TestFunction
    name: str
    """As the runner finds it, without what is added: not the function's own if a second name was assigned to it."""
    classes: tuple[str, ...]
    """Names of the classes in the id, the outermost first."""
    rest: str
    """What the id has after the name: a generated ending, parameters."""
    lineage: tuple[ast.ClassDef, ...]
    """The innermost of these classes, and its bases in the module."""


class TestNames:
    """The tests of one module."""

    __test__ = False  # pytest collects classes by name

    def __init__(self, tree: ast.Module) -> None:
        self._top = _space(tree.body, {})
        self._known: dict[int, tuple[Space, tuple[ast.ClassDef, ...]]] = {}

    def find(self, test: str) -> Named | None:
        """The function of a test id (`path::Class::name[parameters]`); None if the module's text does not tell."""
        qualified, bracket, parameters = test.partition("::")[2].partition("[")
        *classes, name = qualified.split("::")
        space, lineage = self._top, tuple[ast.ClassDef, ...]()
        for part in classes:
            _, one = _named(space, part, ())
            if not isinstance(one, ast.ClassDef):
                return None
            space, lineage = self._members(one, space)
        known, function = _named(space, name, lineage)
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        return Named(function, known, tuple(classes), name[len(known) :] + bracket + parameters, lineage)

    def _members(self, one: ast.ClassDef, outer: Space) -> tuple[Space, tuple[ast.ClassDef, ...]]:
        """What a class has, from its bases in the module too; and these classes."""
        if id(one) not in self._known:
            own = _space(one.body, {})
            self._known[id(one)] = own, (one,)  # a class that names itself as its base has no more
            inherited: Space = {}
            lineage = {id(one): one}
            for base in reversed(one.bases):
                name = base.value if isinstance(base, ast.Subscript) else base
                found = (outer.get(name.id) or self._top.get(name.id)) if isinstance(name, ast.Name) else None
                if isinstance(found, ast.ClassDef):
                    members, classes = self._members(found, outer)
                    inherited |= members
                    lineage |= {id(other): other for other in classes}
            self._known[id(one)] = inherited | own, tuple(lineage.values())
        return self._known[id(one)]


def blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The bodies of a compound statement whose names belong to the scope around it."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    for part in ("body", "orelse", "finalbody"):
        if inner := getattr(statement, part, None):
            yield inner
    for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield branch.body


def second_name(statement: ast.stmt) -> tuple[str, str] | None:
    """The new and the old name of a statement like `new = old`."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=new)], value=ast.Name(id=old)):
            return new, old
    return None


def _space(body: Sequence[ast.stmt], outer: Space) -> Space:
    found: Space = {}
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif (names := second_name(statement)) is not None:
            found[names[0]] = found.get(names[1], outer.get(names[1]))
        for inner in blocks(statement):
            for name, one in _space(inner, outer | found).items():
                found[name] = one if name not in found else None
    return found


def _named(space: Space, word: str, around: Sequence[ast.ClassDef]) -> tuple[str, Definition | None]:
    """The definition that a word names, itself or with an ending that a decorator adds; and its name."""
    if word in space:
        return word, space[word]
    of_classes = [decorator for one in around for decorator in one.decorator_list]
    generating = [
        name
        for name, one in space.items()
        if one is not None and word.startswith(name) and not word[len(name)].isalnum()
        if any(may_generate(decorator) for decorator in (*one.decorator_list, *of_classes))
    ]
    name = max(generating, key=len, default=word)
    return name, space.get(name)


def may_generate(decorator: ast.expr) -> bool:
    """Whether it may make tests of other names of what it decorates."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return not KEEPING_NAMES & {getattr(node, "attr", "") or getattr(node, "id", "") for node in ast.walk(called)}
