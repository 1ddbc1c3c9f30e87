import ast

import pytest

from task_builders.languages.python.mutants import Variant, equivalents, mutants
from task_builders.languages.python.syntax import tree_of

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


def test_a_limit_keeps_the_kinds_mixed() -> None:
    assert len({v.kind for v in mutants({"m.py": BEFORE}, {"m.py": AFTER}, seed="s", limit=4)}) == 4


def test_files_that_are_no_python_give_nothing() -> None:
    assert mutants({}, {"m.py": b"def (", "n.c": b"int x;"}, seed="s") == ()


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
