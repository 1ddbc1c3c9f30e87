"""Modules of copies of which some are not asked for."""

from task_builders.languages.python import copies

TEMPLATE = b'''"""About {token}."""
import pytest


def helper():
    return "{token}"


@pytest.mark.parametrize("x", [1, 2])
def test_{token}_one(x):
    assert helper()  # "{token}"


class TestThings:
    @staticmethod
    def test_{token}_two():
        assert True

    async def test_{token}_three(self):
        assert True


class TestOthers:
    def test_{token}_four(self):
        assert True
'''


def test_a_module_has_only_the_copies_that_are_asked_for() -> None:
    left = copies.only(TEMPLATE, {"test_{token}_one", "test_{token}_three"}).decode()
    assert "def helper" in left
    assert '# "{token}"' in left
    assert "test_{token}_one" in left
    assert "parametrize" in left
    assert "test_{token}_three" in left
    assert "test_{token}_two" not in left
    assert "staticmethod" not in left
    assert "test_{token}_four" not in left
    compile(left.replace("{token}", "word"), "copies.py", "exec")


def test_a_module_whose_copies_are_all_asked_for_stays_as_it_is() -> None:
    names = {f"test_{{token}}_{n}" for n in ("one", "two", "three", "four")}
    assert copies.only(TEMPLATE, names) == TEMPLATE
