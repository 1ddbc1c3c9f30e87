import ast
from typing import Any

import pytest

from task_builders.languages.python.mutants import equivalents, mutants
from task_builders.languages.python.syntax import tree_of
from task_builders.languages.variant import Variant

BEFORE = b'''def grade(points):
    """A grade.

    Twelve is most.
    """
    return points


def total(a, b=1):
    return a + b
'''
AFTER = b'''def grade(points):
    """A grade.

    Twelve is most.
    """
    limit = 12  # the most
    if points > limit and points is not None:
        shown = limit
    else:
        shown = points
    return shown + 0


def total(a, b=1):
    return a + b
'''


def run(variant: Variant, points: int) -> object:
    names: dict[str, object] = {}
    exec(variant.files["m.py"], names)  # noqa: S102 - our own text
    grade = names["grade"]
    assert callable(grade)
    return grade(points)


def wrong() -> tuple[Variant, ...]:
    return mutants({"m.py": BEFORE}, {"m.py": AFTER, "notes.txt": b"x"}, seed="s", limit=30)


def equal() -> tuple[Variant, ...]:
    return equivalents({"m.py": BEFORE}, {"m.py": AFTER}, seed="s", limit=30)


def test_mutants_are_of_every_kind() -> None:
    assert {v.kind for v in wrong()} == {
        "hunk dropped",
        "condition inverted",
        "return changed",
        "comparison swapped",
        "condition joined otherwise",
        "number changed",
    }
    assert all(v.files["notes.txt"] == b"x" for v in wrong())


def test_a_dropped_hunk_is_as_before() -> None:
    assert [v.files["m.py"] for v in wrong() if v.kind == "hunk dropped"] == [BEFORE]


@pytest.mark.parametrize("variant", wrong(), ids=lambda v: f"{v.kind} {v.line}")
def test_a_mutant_is_other_python(variant: Variant) -> None:
    assert ast.dump(tree_of(variant.files["m.py"])) != ast.dump(tree_of(AFTER))


@pytest.mark.parametrize("variant", equal(), ids=lambda v: f"{v.kind} {v.line}")
def test_an_equivalent_is_other_python_that_does_the_same(variant: Variant) -> None:
    assert ast.dump(tree_of(variant.files["m.py"])) != ast.dump(tree_of(AFTER))
    assert [run(variant, p) for p in (3, 12, 40)] == [3, 12, 12]
    tree = tree_of(variant.files["m.py"])
    grade = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "grade")
    assert ast.get_docstring(grade, clean=False) == ast.get_docstring(tree_of(AFTER).body[0], clean=False)  # type: ignore[arg-type]


def test_equivalents_are_of_every_kind() -> None:
    assert {v.kind for v in equal()} == {"branches swapped", "local renamed", "result named", "definitions reordered"}


SHAPES = {
    "annotation of the same name": (
        "from datetime import date\nclass T:\n    def set(self, value: date) -> None:\n        date = value\n        self.day = date\n"
        "def probe():\n    t = T()\n    t.set(3)\n    return t.day\n"
    ),
    "property of the same name": (
        "class T:\n    @property\n    def name(self):\n        return self._n\n    @name.setter\n    def name(self, value):\n"
        "        name = value.strip()\n        self._n = name\ndef probe():\n    t = T()\n    t.name = ' a '\n    return t.name\n"
    ),
    "comprehension's own": (
        "def unit(x):\n    return x * 2\ndef f(rows):\n    if rows:\n        return sum(unit for unit in rows)\n    return unit(1)\n"
        "def probe():\n    return f([1]), f([])\n"
    ),
    "read in a comprehension": "def probe():\n    rows = [1]\n    more = [row for row in rows for _ in rows]\n    return more\n",
    "read within": (
        "def probe():\n    one = 1\n    def inner():\n        nonlocal one\n        one += 1\n        return one\n    return inner()\n"
    ),
    "in an f-string": "def probe():\n    é = 2\n    there = 3\n    return f'{there} {there if there > é else é}', there\n",
    "by name": "def probe():\n    one = 1\n    return dict(locals())\n",
    "declared": "X = 1\ndef probe():\n    global X\n    X = 2\n    kept = X\n    return kept + 1\n",
    "caught": (
        "def probe():\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n        error = str(error)\n"
        "        return error + '!'\n"
    ),
    "defined twice": "def check(v):\n    return 1\ndef check(v):\n    return v + 2\ndef probe():\n    return check(1)\n",
    "annotated with the other": (
        "class T:\n    def set(self):\n        return 1 + 1\n    def put(self, values: 'x' and set):\n        return 2 + 1\n"
        "def probe():\n    return T().set(), T().put(1), type(T.put.__annotations__['values']).__name__\n"
    ),
    "branches of odd layout": (
        "def probe(x=3):\n    if not x: y = 1\n    else:\n        y = 2; z = 3  # a comment\n"
        "    k = (lambda: 1) if (x and\n        y) else lambda: 2\n    if x: return (k(),\n        y)\n    return -1 * 2\n"
    ),
    "lines": "import inspect\ndef probe():\n    # a comment\n    line = inspect.stack()[0].lineno\n    return line + (\n        0)\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_equivalents_do_the_same(shape: str) -> None:
    def probed(text: str) -> object:
        names: dict[str, Any] = {}
        exec(text, names)  # noqa: S102 - our own text
        return names["probe"]()

    text = SHAPES[shape]
    for seed in "abc":
        for variant in equivalents({}, {"m.py": text.encode()}, seed=seed, limit=30):
            assert probed(variant.files["m.py"].decode()) == probed(text), variant


def test_a_limit_keeps_the_kinds_mixed() -> None:
    assert len({v.kind for v in mutants({"m.py": BEFORE}, {"m.py": AFTER}, seed="s", limit=4)}) == 4


def test_files_that_are_no_python_give_nothing() -> None:
    assert mutants({}, {"m.py": b"def (", "n.c": b"int x;"}, seed="s") == ()
    latin = "# -*- coding: latin-1 -*-\ndef f(a):\n    y = 'é'\n    return y + 'é' if a else 'b'\n".encode("latin-1")
    assert mutants({}, {"m.py": latin}, seed="s") == equivalents({}, {"m.py": latin}, seed="s") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('def f(x):\n    """Old."""\n    return x\n', 'def f(x):\n    """New."""\n    return x\n'),
        ("def f(x: int) -> int:\n    return x\n", "def f(x: 'int | str') -> 'int | str':\n    return x\n"),
        ("def f(x):\n    y: int = x\n    return y\n", "def f(x):\n    y: str = x\n    return y\n"),
        ("import typing as t\ndef f(x): return x\n", "import typing as t\n@t.overload\ndef f(x: int) -> int: ...\ndef f(x): return x\n"),
        ("import typing\nx = 1\n", "import typing\nif typing.TYPE_CHECKING:\n    import os\nx = 1\n"),
    ],
    ids=["docstring", "annotations", "annotation of a local", "overload", "for type checkers"],
)
def test_what_no_run_sees_is_no_mutant(old: str, new: str) -> None:
    found = mutants({"m.py": old.encode()}, {"m.py": new.encode()}, seed="s")
    assert not any(v.kind == "hunk dropped" for v in found)


def test_a_classs_annotation_is_seen() -> None:
    found = mutants({"m.py": b"class C:\n    x: int\n"}, {"m.py": b"class C:\n    x: int\n    y: int\n"}, seed="s")
    assert [v.kind for v in found] == ["hunk dropped"]
