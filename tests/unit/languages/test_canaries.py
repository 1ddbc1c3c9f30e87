"""Canaries of small modules, really run: a few lines that run tests replace boxes and their runner."""

import ast
import builtins
import inspect
import re
import sys
import unittest
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from envfarm.core.plan import Canary
from envfarm.grading import guesses
from envfarm.testing import small_task
from task_builders.languages.canary_set import CanarySet
from task_builders.languages.python import canaries
from task_builders.languages.python.named_tests import TestNames
from task_builders.languages.python.rule_bits import rule_bits
from task_builders.languages.python.syntax import tree_of
from task_builders.validation import canary_gate

FILES = {"tests/test_labels.py": small_task.NEW_TESTS.encode()}
FIXED = {**small_task.TREE, "shelf/labels.py": small_task.FIXED}


def run(folder: Path, tree: Mapping[str, str], templates: Mapping[str, bytes], place: str) -> dict[str, str]:
    """The result of each test in the templates in a tree, by its id with the placeholder."""
    for path, text in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    kept, honest = dict(sys.modules), builtins.__import__
    sys.path.insert(0, str(folder))
    try:
        said: dict[str, str] = {}
        for text_ in templates.values():
            names: dict[str, Any] = {"__name__": "test_copies", "__file__": str(folder / "test_copies.py")}
            exec(compile(text_.replace(b"{token}", b"WORD"), names["__file__"], "exec"), names)  # noqa: S102 - made here
            said |= {f"{place}::{test}".replace("WORD", "{token}"): status for test, status in outcomes_of(names)}
    finally:
        builtins.__import__ = honest
        sys.path.remove(str(folder))
        sys.__dict__.pop("any_name", None)
        for name in set(sys.modules) - set(kept):
            del sys.modules[name]
    return said


def outcomes_of(names: Mapping[str, Any], classes: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Run the tests of a module like the runner: functions, methods, unittest cases, parameters, one fixture."""
    for name, value in list(names.items()):
        if isinstance(value, type) and name.startswith("Test"):
            one = value("run") if issubclass(value, unittest.TestCase) and hasattr(value, "run") else value()
            methods = {n: getattr(one, n) for n in dir(value) if n.startswith("test")}
            yield from outcomes_of({n: method for n, method in methods.items() if callable(method)}, (*classes, name))
        elif name.startswith("test_"):
            marks = [mark for mark in getattr(value, "pytestmark", []) if mark.name == "parametrize"]
            rows = [(mark.args[0], row) for mark in marks for row in mark.args[1]] or [((), ())]
            for n, (columns, row) in enumerate(rows):
                known = [c.strip() for c in columns.split(",")] if isinstance(columns, str) else list(columns)
                given = dict(zip(known, [row] if len(known) == 1 else row, strict=True))
                part = "-".join(str(v) if isinstance(v, str | int) else f"{k}{n}" for k, v in given.items()).replace("\t", "\\t")
                if "kind" in inspect.signature(value).parameters:
                    given["kind"] = "number"
                try:
                    value(**given)
                    status = "passed"
                except pytest.skip.Exception:
                    status = "skipped"
                except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a test raises
                    status = "failed"
                yield "::".join([*classes, name]) + (f"[{part}]" if part else ""), status


def settle(folder: Path, files: Mapping[str, bytes], wanted: list[str], others: list[str], trees: Sequence[Mapping[str, str]]) -> CanarySet:
    """Canaries of `files`, tried in two trees: with and without the fix."""
    draft = canaries.draft(files, wanted, others, base=trees[1], seed="a seed")
    said = []
    for name, tree, trial in (("fix", trees[0], draft.at_fix), ("base", trees[1], draft.at_base)):
        (folder / name).mkdir()
        said.append(run(folder / name, tree, trial.templates, trial.canaries[0].destination) if trial.canaries else {})
    return draft.settled(*said)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CanarySet:
    trees = [FIXED, small_task.TREE]
    return settle(tmp_path_factory.mktemp("made"), FILES, list(small_task.FAIL_TO_PASS), list(small_task.PASS_TO_PASS), trees)


def copies_in(text: bytes) -> dict[str, ast.FunctionDef]:
    tree = tree_of(text.replace(b"{token}", b"WORD"))
    return {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and "WORD" in n.name}


def function_of(test: str) -> str:
    return test.rpartition("::")[2].partition("[")[0].replace("{token}", "WORD")


def of_template(made: CanarySet, name: str) -> list[Canary]:
    return [c for c in made.canaries if c.template == name]


def test_the_same_seed_drafts_the_same_and_another_another() -> None:
    def text(seed: str) -> bytes:
        drafted = canaries.draft(FILES, small_task.FAIL_TO_PASS, small_task.PASS_TO_PASS, base=small_task.TREE, seed=seed)
        return b"".join(drafted.at_fix.templates.values())

    assert text("a") == text("a")
    assert text("a") != text("b")


def test_templates_show_copies_alone_and_both_kinds_of_what_must_come_to_pass(made: CanarySet) -> None:
    real = {n.name for n in ast.walk(tree_of(small_task.NEW_TESTS)) if isinstance(n, ast.FunctionDef)}
    assert made.templates
    for name, text in made.templates.items():
        assert not set(copies_in(text)) & real
        assert {function_of(c.id) for c in of_template(made, name)} == set(copies_in(text))
        assert {c.kind for c in of_template(made, name) if c.origin in small_task.FAIL_TO_PASS} == {"inverted", "renamed"}


@pytest.mark.parametrize("tree", [FIXED, small_task.TREE], ids=["fixed", "unfixed"])
def test_right_code_alone_tells_the_copies_apart(made: CanarySet, tmp_path: Path, tree: Mapping[str, str]) -> None:
    right = tree is FIXED
    outcomes: dict[tuple[str, bool], set[str]] = {}
    for name, text in made.templates.items():
        said = run(tmp_path, tree, {name: text}, made.canaries[0].destination)
        for canary in of_template(made, name):
            if canary.origin not in small_task.FAIL_TO_PASS or "nothing_left" in canary.origin:
                continue
            status = said[canary.id]
            turned = any(isinstance(n, ast.NotEq) for n in ast.walk(copies_in(text)[function_of(canary.id)]))
            assert not right or (status == "passed") == (canary.kind == "renamed")
            outcomes.setdefault((canary.origin, turned), set()).add(status)
    assert right or all(len(seen) == 1 for seen in outcomes.values()), "on unfixed code a copy's outcome follows from its form alone"
    assert {turned for _, turned in outcomes} == {True, False}


def test_no_word_stands_in_a_copy_that_the_project_does_not_use(made: CanarySet) -> None:
    known = set(re.findall(r"[a-z]{2,}", (small_task.NEW_TESTS + "".join(small_task.TREE.values())).lower()))
    for text in made.templates.values():
        for node in copies_in(text).values():
            said = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            assert set(re.findall(r"[a-z]{2,}", " ".join(said).lower())) <= known


@pytest.mark.parametrize(
    ("text", "note"), [(b"def test_a(:\n", "cannot be parsed by this Python"), (b'def test_a():\n    f("{token}")\n', "contains the text")]
)
def test_what_cannot_be_had_is_noted(text: bytes, note: str) -> None:
    one = canaries.draft({"test_m.py": text}, ["test_m.py::test_a"], [], base={}, seed="s").settled({}, {})
    assert any(note in n for n in one.notes)
    assert one.canaries == ()


SHAPES = {
    "loop": "def test_a():\n    for given, wanted in [(1, 2), (5, 6)]:\n        assert m.up(given) == wanted\n",
    "with": "def test_a():\n    with __import__('contextlib').nullcontext():\n        assert m.up(1) == 2\n",
    "if": "def test_a():\n    if m:\n        assert m.up(1) == 2\n",
    "try": "def test_a():\n    try:\n        assert m.up(1) == 2\n    finally:\n        pass\n",
    "assigned": "def test_a():\n    wanted = [2]\n    assert [m.up(1)] == wanted\n",
    "calling": "def check(given, wanted):\n    assert m.up(given) == wanted\n\ndef test_a():\n    check(1, 2)\n",
    "raises": "import pytest\n\ndef test_a():\n    with pytest.raises(KeyError):\n        m.up(None)\n",
    "warns": "import pytest\n\ndef test_a():\n    with pytest.warns(DeprecationWarning):\n        m.old()\n",
    "parameters": "import pytest\n\n@pytest.mark.parametrize('n, to', [(1, 2), (5, 6)])\ndef test_a(n, to):\n    assert m.up(n) == to\n",
    "unittest": "import unittest\n\nclass TestM(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(m.up(1), 2)\n",
    "call compared": "def test_a():\n    assert m.up(m.one()) == m.two()\n\ndef test_b():\n    assert m.three()\n",
    "parameter that a call takes": (
        "import pytest\n\n@pytest.mark.parametrize('n, to', [(1, 2), (5, 6)])\ndef test_a(n, to):\n    assert m.goes_up(n, to)\n"
    ),
    "no assertion": (
        "import pytest\n\n@pytest.mark.parametrize('n', [m.Kind.GOOD])\ndef test_a(n):\n    class C:\n        x = m.allowed(n)\n\n"
        "def test_b():\n    assert not m.Kind.BAD\n"
    ),
    "new name": "from m import down\n\ndef test_a():\n    assert down(1) == 0\n",
}
OLD = "import warnings\n\ndef old():\n    warnings.warn('old', DeprecationWarning)\n\n"
SAME = """
def one(): return 1
def two(): return 2
def three(): return 3
def goes_up(n, to): return up(n) == to
class Kind:
    GOOD, BAD = 1, 0
"""
RIGHT = (
    OLD + SAME + "def up(n):\n    return {}[n] if n is None else n + 1\n\ndef down(n):\n    return n - 1\n\ndef allowed(n):\n    1 / n\n"
)
WRONG = SAME + "def up(n):\n    return n\n\ndef old():\n    pass\n\ndef allowed(n):\n    1 / 0\n"


@pytest.mark.parametrize("shape", SHAPES)
def test_tests_of_many_shapes_bound_a_guess(shape: str, tmp_path: Path) -> None:
    text = "import m\n" + SHAPES[shape]
    case = "TestM::test_a" if "class TestM" in text else "test_a"
    parts = ["[1]"] if shape == "no assertion" else ["[1-2]", "[5-6]"] if "parameter" in shape else [""]
    ids = [f"test_m.py::{case}{part}" for part in parts]
    one = settle(tmp_path, {"test_m.py": text.encode()}, ids, [], [{"m.py": RIGHT}, {"m.py": WRONG}])
    bound = canary_gate.binding(one.canaries, ids)
    assert {c.kind for c in bound if c.origin in ids} == {"inverted", "renamed"}, one.notes
    assert len({c.template for c in bound}) == canaries.ARRANGEMENTS_OF_FEW


GENERATE = """
import sys

def rows(*given):
    def generate(function):
        for n, (left, right) in enumerate(given):
            sys._getframe(1).f_locals[f"{function.__name__}_{n}_{left}"] = lambda self, a=left, b=right: function(self, a, b)
    return generate

def all_rows(one):
    for name, method in list(vars(one).items()):
        for n, row in enumerate(getattr(method, "rows", ()), 1):
            setattr(one, f"{name}_{n}_{row[0]}", lambda self, method=method, row=row: method(self, *row))
        if hasattr(method, "rows"):
            delattr(one, name)
    return one

def data(*given):
    return lambda method: setattr(method, "rows", given) or method

def twice(one):
    for n, name in enumerate(("plain", "other")):
        sys._getframe(1).f_globals[f"{one.__name__}_{n}_{name}"] = type(one.__name__, (one,), {"arg": n + 1})

"""
MIXIN = "class Mixin:\n    arg = 1\n    def test_x(self):\n        assert m.up(self.arg) == self.arg + 1\n        assert m.up(7) == 8\n\n"
STYLES = {
    "inherited": (MIXIN + "class TestA(Mixin):\n    pass\n\nclass TestB(Mixin):\n    arg = 4\n", ["TestA::test_x", "TestB::test_x"]),
    "inherited twice": (
        MIXIN + "class Between(Mixin, dict[str, int]):\n    arg = 3\n\nclass TestA(Between, dict[str, int]):\n    pass\n",
        ["TestA::test_x"],
    ),
    "if": (
        "if m:\n    def test_x():\n        assert m.up(1) == 2\n\n    def test_y():\n        assert m.up(5) == 6\n",
        ["test_x", "test_y"],
    ),
    "try": (
        "try:\n    import os\nfinally:\n    class TestA:\n        def test_x(self):\n            assert m.up(1) == 2\n",
        ["TestA::test_x"],
    ),
    "with": ("with open(__import__('os').devnull):\n    def test_x():\n        assert m.up(1) == 2\n", ["test_x"]),
    "helper of a test's name": (
        "def one():\n    return 1\n\ntest_data = one\n\ndef test_x():\n    assert m.up(test_data()) == 2\n",
        ["test_x"],
    ),
    "second name": ("def _check():\n    assert m.up(1) == 2\n\ntest_x = _check\n", ["test_x"]),
    "decorated": (
        GENERATE + "class TestA:\n    @rows((1, 2), (5, 6))\n    def test_x(self, a, b):\n        assert m.up(a) == b\n",
        ["TestA::test_x_0_1", "TestA::test_x_1_5"],
    ),
    "in a decorated class": (
        GENERATE + "@all_rows\nclass TestA:\n    @data((1, 2), (5, 6))\n    def test_x(self, a, b):\n        assert m.up(a) == b\n",
        ["TestA::test_x_1_1", "TestA::test_x_2_5"],
    ),
    "class generated": (
        GENERATE
        + "@twice\nclass TestA:\n    def test_x(self):\n        assert m.up(self.arg) == self.arg + 1\n        assert m.up(7) == 8\n",
        ["TestA_0_plain::test_x", "TestA_1_other::test_x"],
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_tests_in_many_styles_have_copies_that_behave(style: str, tmp_path: Path) -> None:
    text, names = STYLES[style]
    ids = [f"test_m.py::{name}" for name in names]
    trees = [{"m.py": RIGHT}, {"m.py": WRONG}]
    one = settle(tmp_path, {"test_m.py": f"import m\n{text}".encode()}, ids, [], trees)
    bound = canary_gate.binding(one.canaries, ids)
    assert {c.origin for c in bound} == set(ids)
    assert {c.kind for c in bound} == {"inverted", "renamed"}, one.notes
    for name in {c.template for c in bound}:
        said = run(tmp_path / "fix", trees[0], {name: one.templates[name]}, one.canaries[0].destination)
        assert {c.id: said.get(c.id) == "passed" for c in of_template(one, name)} == {
            c.id: c.kind == "renamed" for c in of_template(one, name)
        }
        assert not any(f"::{original}" in test for test in said for original in names), "no original stands beside its copies"
    shared = len({test.rpartition("::")[2].rstrip("0123456789_") for test in ids}) < len(ids)
    assert len(set(guesses.tests_of(one.canaries).values())) == (1 if shared else len(ids))
    assert rule_bits(one.canaries, one.templates, ids) >= 1


@pytest.mark.parametrize("style", STYLES)
def test_unaltered_copies_of_tests_in_many_styles_pass(style: str, tmp_path: Path) -> None:
    text, names = STYLES[style]
    ids = [f"test_m.py::{name}" for name in names]
    draft = canaries.draft({"test_m.py": f"import m\n{text}".encode()}, ids, [], base={"m.py": WRONG}, seed="a seed")
    made = draft.unaltered(())
    assert (sorted(c.origin for c in made.canaries), made.notes) == (sorted(ids), ())
    said = run(tmp_path, {"m.py": RIGHT}, made.templates, made.canaries[0].destination)
    assert {said.get(c.id) for c in made.canaries} == {"passed"}
    assert draft.unaltered(ids[:1]).canaries or len(ids) == 1


def test_tests_whose_functions_are_not_found_are_told() -> None:
    text = "import m\nfrom elsewhere import Base\n\nclass TestA(Base):\n    def test_x(self):\n        assert m.up(1) == 2\n"
    text += "\nif m:\n    def test_y(): pass\nelse:\n    def test_y(): pass\n"
    unknown = ["test_m.py::TestA::test_x_of_base", "test_m.py::test_y"]
    draft = canaries.draft({"test_m.py": text.encode()}, unknown[:1], ["test_m.py::TestA::test_x", unknown[1]], base={}, seed="a seed")
    (note,) = [one for one in draft.settled({}, {}).notes if "hence no copy" in one]
    assert "for 2 expected tests" in note
    assert note.endswith(", ".join(unknown))


@pytest.mark.parametrize(
    "decorator", ["pytest.mark.skipif(m, reason='')", "mark.parametrize('n', [1])", "patch('m.up')", "given(st.text())"]
)
def test_decorators_that_keep_names_generate_no_tests(decorator: str) -> None:
    names = TestNames(tree_of(f"@{decorator}\ndef test_a(n): pass\n"))
    assert names.find("test_m.py::test_a[1]") is not None
    assert names.find("test_m.py::test_a_1") is None


def test_a_function_that_fails_in_one_class_is_not_copied_for_another() -> None:
    text = "import m\n" + STYLES["inherited"][0] + "def test_y():\n    assert m.up(1) == 2\n"
    wanted = ["test_m.py::test_y", "test_m.py::TestA::test_x"]
    draft = canaries.draft(
        {"test_m.py": text.encode()}, wanted, [], failing=["test_m.py::TestB::test_x"], base={"m.py": WRONG}, seed="a seed"
    )
    assert {c.origin for c in (*draft.settled({}, {}).canaries, *draft.unaltered(()).canaries)} == {wanted[0]}


def test_one_value_of_many_is_right(tmp_path: Path) -> None:
    text = "import m\n\ndef test_a():\n    assert m.up(1) == 2\n    assert m.up(5) == 6\n"
    ids = ["test_m.py::test_a"]
    one = settle(tmp_path, {"test_m.py": text.encode()}, ids, [], [{"m.py": RIGHT}, {"m.py": WRONG}])
    for name in one.templates:
        own = of_template(one, name)
        assert len(own) >= 4, "values of one place"
        assert {c.kind for c in own} == {"inverted", "renamed"}
        odd = [c.kind for c in own]
        assert min(odd.count("inverted"), odd.count("renamed")) == 1, "one form for all: it does not tell which value is right"
    plan = replace(small_task.make().plan, fail_to_pass=tuple(ids), canaries=one.canaries)
    assert guesses.blind_bits(plan) >= 2
    bits = rule_bits(one.canaries, one.templates, ids)
    assert bits > guesses.blind_bits(plan), "templates show other values"
    first = {name: text for name, text in one.templates.items() if name == one.canaries[0].template}
    assert rule_bits([c for c in one.canaries if c.template in first], first, ids) < bits
    assert rule_bits([replace(c, secret=False) for c in one.canaries], one.templates, ids) == 0


def test_a_negation_is_no_value() -> None:
    forms = ("assert m.up(1) == 2", "assert m.up(1) != 2", "assert m.up(1) == 3", "assert m.up(1) != 3")
    text = "\n".join(f"def test_{{token}}_{n}():\n    {form}\n" for n, form in enumerate(forms))
    kinds: list[Literal["inverted", "renamed"]] = ["renamed", "inverted", "inverted", "renamed"]
    copies = [Canary(kind, "0.py", "t.py", f"t.py::test_{{token}}_{n}", "test_m.py::test_a", secret=True) for n, kind in enumerate(kinds)]
    assert rule_bits(copies, {"0.py": text.encode()}, ["test_m.py::test_a"]) == 1


def test_a_parameter_that_keeps_the_module_from_being_loaded_is_given_up() -> None:
    text = "import m, pytest\n\n@pytest.mark.parametrize('n', [int('1')])\ndef test_a(n):\n    assert m.up(n) == 2\n"
    draft = canaries.draft({"test_m.py": text.encode()}, ["test_m.py::test_a[1]"], [], base={"m.py": WRONG}, seed="a seed")
    place = draft.at_fix.canaries[0].destination

    def altered(text: bytes) -> bool:
        return text.count(b"[int('1')]") < text.count(b"parametrize")

    assert altered(b"".join(draft.at_fix.templates.values()))
    assert not draft.plainer({f"{place}::test_x[1]": "passed"})
    assert draft.plainer({})
    assert draft.at_fix.canaries
    assert not altered(b"".join(draft.at_fix.templates.values()))
    assert not draft.plainer({})


def test_a_function_with_a_case_that_fails_with_the_fix_is_not_copied() -> None:
    tests = ["def test_a():\n    assert m.up(1) == 2\n", "def test_b(n):\n    assert m.up(n)\n", "def test_c():\n    assert m.up(5) == 6\n"]
    text = "\n".join(["import m\n", *tests])
    wanted, others = ["test_m.py::test_a"], ["test_m.py::test_b[1]", "test_m.py::test_c"]

    def copied(failing: list[str], wanted: list[str]) -> set[str]:
        draft = canaries.draft({"test_m.py": text.encode()}, wanted, others, failing=failing, base={"m.py": WRONG}, seed="a seed")
        return {c.origin for c in (*draft.settled({}, {}).canaries, *draft.unaltered(()).canaries)}

    assert copied([], wanted) == {*wanted, *others}
    assert copied(["test_m.py::test_b[2]"], wanted) == {*wanted, "test_m.py::test_c"}
    assert "test_m.py::test_b[1]" in copied(["test_m.py::test_b[2]"], ["test_m.py::test_b[1]"]), "nothing else tells right code"


NEXT_BEST = "but 1 of these only such as unfixed code or the agent's tests reveal"


def test_what_the_agents_own_tests_tell_serves_where_nothing_else_does(tmp_path: Path) -> None:
    text = "import m\n\ndef test_a():\n    assert m.up(1) == 2\n"
    base = {"m.py": WRONG, "test_old.py": text}
    one = settle(tmp_path, {"test_m.py": text.encode()}, ["test_m.py::test_a"], [], [{"m.py": RIGHT}, base])
    assert {c.kind for c in one.canaries} == {"inverted", "renamed"}
    assert NEXT_BEST in one.notes[-1]
    more = text + "    assert m.up(5) == 6\n"
    (tmp_path / "more").mkdir()
    two = settle(tmp_path / "more", {"test_m.py": more.encode()}, ["test_m.py::test_a"], [], [{"m.py": RIGHT}, base])
    assert {c.kind for c in two.canaries} == {"inverted", "renamed"}
    assert NEXT_BEST not in two.notes[-1]
    assert all(b"assert m.up(1) == 2" in template for template in two.templates.values())


def test_a_statement_that_holds_on_unfixed_code_serves_where_nothing_else_does(tmp_path: Path) -> None:
    text = "import m\n\ndef test_a():\n    m.down(1)\n    assert m.same(7) == 7\n"
    same = "def same(n):\n    return n\n"
    one = settle(tmp_path, {"test_m.py": text.encode()}, ["test_m.py::test_a"], [], [{"m.py": RIGHT + same}, {"m.py": WRONG + same}])
    assert {c.kind for c in one.canaries} == {"inverted", "renamed"}
    assert NEXT_BEST in one.notes[-1]


def test_a_copy_that_fails_where_the_test_breaks_serves_where_nothing_else_does(tmp_path: Path) -> None:
    test = "def test_a():\n    with pytest.raises(KeyError):\n        m.deep(40)\n\n"
    text = f"import m, pytest\n\n{test}def test_b():\n    assert m.up(3) == 4\n"
    deep = "def deep(n):\n    if n > 20:\n        raise {}\n"
    wanted = ["test_m.py::test_a"]
    for error, next_best in (("IndexError", True), ("AssertionError", False)):
        trees = [{"m.py": RIGHT + deep.format("KeyError")}, {"m.py": WRONG + deep.format(error)}]
        (tmp_path / error).mkdir()
        one = settle(tmp_path / error, {"test_m.py": text.encode()}, wanted, [], trees)
        assert {c.kind for c in one.canaries} == {"inverted", "renamed"}
        assert (NEXT_BEST in one.notes[-1]) == next_best, "unfixed code tells copies that break from copies that fail"


def test_what_has_no_altered_copy_has_an_unaltered_one_and_every_case_that_must_come_to_pass_is_asked(tmp_path: Path) -> None:
    cases = "\n".join(f"    ({n}, {n + 1})," for n in range(20))
    new = f"import m, pytest\n\n@pytest.mark.parametrize('n, to', [\n{cases}\n])\ndef test_a(n, to):\n    assert m.up(n) == to\n"
    old = "import m\n\nclass TestOld:\n    def test_same(self):\n        assert m.same() == 1\n\ndef test_gone():\n    assert m.gone()\n"
    wanted = [f"test_m.py::test_a[{n}-{n + 1}]" for n in range(20)]
    known = "tests/test_old.py::TestOld::test_same"
    right = "def up(n):\n    return n + 1\n\ndef same():\n    return 1\n"
    wrong = "def up(n):\n    return n\n\ndef same():\n    return 1\n"
    trees = [{"m.py": right, "tests/test_old.py": old}, {"m.py": wrong, "tests/test_old.py": old}]
    one = settle(tmp_path, {"test_m.py": new.encode()}, wanted, [known], trees)
    bound = canary_gate.binding(one.canaries, wanted)
    by_template = {t: {c.origin for c in bound if c.template == t} for t in {c.template for c in bound if not c.unaltered}}
    assert by_template
    assert all(origins == set(wanted) for origins in by_template.values())
    (whole,) = [c for c in bound if c.unaltered]
    assert (whole.origin, whole.kind) == (known, "renamed")
    text = one.templates[whole.template].decode()
    assert whole.id.startswith(f"{whole.destination}::TestOld::test_{{token}}_")
    assert "test_same" not in text
    assert "test_gone" not in text, "it is not expected to pass"
    assert whole.destination.startswith("tests/test_{token}_")
