import ast

import pytest

from envfarm.core.plan import Canary
from envfarm.testing import small_task
from task_builders.languages.python import canaries
from task_builders.languages.python.canaries import CanarySet

FILES = {"tests/test_labels.py": small_task.NEW_TESTS.encode()}


def made(seed: str = "a seed") -> CanarySet:
    return canaries.make(FILES, small_task.FAIL_TO_PASS, small_task.PASS_TO_PASS, seed=seed)


def copies_in(text: bytes) -> dict[str, str]:
    tree = ast.parse(text.replace(b"{token}", b"WORD"))
    return {n.name: ast.unparse(ast.Module(n.body, [])) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and "WORD" in n.name}


def real_bodies() -> dict[str, str]:
    tree = ast.parse(small_task.NEW_TESTS)
    return {n.name: ast.unparse(ast.Module(n.body, [])) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def of_template(name: str) -> list[Canary]:
    return [c for c in made().canaries if c.template == name]


def test_the_same_seed_makes_the_same_and_another_others() -> None:
    assert made() == made()
    assert made() != made("another")
    assert made().notes == ()


@pytest.mark.parametrize("template", sorted(made().templates))
def test_a_template_is_python_without_an_original_name(template: str) -> None:
    copies = copies_in(made().templates[template])
    assert copies
    assert not set(copies) & set(real_bodies())
    named = {c.id.rpartition("::")[2].partition("[")[0].replace("{token}", "WORD") for c in of_template(template)}
    assert named == set(copies)


@pytest.mark.parametrize("template", sorted(made().templates))
def test_the_tests_that_must_come_to_pass_are_shown_both_ways_in_one_file(template: str) -> None:
    kinds = {c.kind for c in of_template(template) if c.origin in small_task.FAIL_TO_PASS}
    assert kinds == {"inverted", "renamed"}


def test_an_inversion_changes_one_assertion_and_each_test_is_inverted_somewhere() -> None:
    real = real_bodies()
    inverted = set()
    for canary in made().canaries:
        name = canary.id.rpartition("::")[2].partition("[")[0].replace("{token}", "WORD")
        copy = copies_in(made().templates[canary.template])[name].splitlines()
        original = real[canary.origin.rpartition("::")[2].partition("[")[0]].splitlines()
        changed = [(a, b) for a, b in zip(original, copy, strict=True) if a != b]
        assert len(changed) <= 1
        if canary.kind == "inverted":
            assert len(changed) == 1
            inverted.add(canary.origin)
    assert inverted == {*small_task.FAIL_TO_PASS, *small_task.PASS_TO_PASS}


def test_parameters_are_kept_in_ids() -> None:
    origins = {c.origin: c.id for c in of_template("0-0.py")}
    assert origins["tests/test_labels.py::test_parse[1:2-expected0]"].endswith("[1:2-expected0]")
    assert origins["tests/test_labels.py::TestSign::test_known"].split("::")[1] == "TestSign"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (b"def test_a(:\n", "not read by this Python"),
        (b'def test_a():\n    assert "{token}"\n', "holds the text"),
        (b"def test_a():\n    check()\n", "no test could be inverted"),
    ],
)
def test_what_cannot_be_had_is_noted(text: bytes, note: str) -> None:
    one = canaries.make({"test_m.py": text}, ["test_m.py::test_a"], [], seed="s")
    assert any(note in n for n in one.notes)


UNITTEST = b"""import unittest

class TestM(unittest.TestCase):
    def test_a(self):
        self.assertEqual(f(), "word")

    def test_b(self):
        self.assertTrue(f())

    async def test_c(self):
        with self.assertRaises(ValueError):
            f()

    def test_left_out(self):
        pass
"""


def test_methods_of_unittest_are_inverted_too() -> None:
    ids = [f"test_m.py::TestM::test_{letter}" for letter in "abc"]
    one = canaries.make({"test_m.py": UNITTEST}, ids, [], seed="s")
    text = b"".join(one.templates.values()).decode()
    assert "assertFalse(f())" in text
    assert "left_out" not in text
    assert {c.origin for c in one.canaries if c.kind == "inverted"} == set(ids)
    assert all(c.destination == "test_{token}.py" for c in one.canaries)
