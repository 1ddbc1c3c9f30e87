"""Names of libraries: names that imported libraries bind are known; words that merely occur somewhere are not."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core.errors import GraderError
from envfarm.core.plan import TestPlan as Plan
from envfarm.testing.factories import make_plan
from task_builders.languages.python.syntax import tree_of
from task_builders.validation import library_probe
from task_builders.validation.library_names import bound_by_libraries
from task_builders.validation.sufficiency import Name
from tests.unit.task_builders.machine_box import machine_box

pytestmark = pytest.mark.timeout(60)  # interpreters start, and import
LIBRARY = '''
"""Words of a docstring, such as glimmer."""
from collections import namedtuple
Point = namedtuple("Point", "abscissa ordinate")
SETTING = 1
class Sparkler:
    __slots__ = ("fuse",)
    colour: str = "red"
    def burn(self, brightly):
        self.ash = brightly
        ember = self.smoke
        return ember
'''
ATTRIBUTES = {"Point", "abscissa", "SETTING", "Sparkler", "fuse", "colour", "burn", "ash"}
KEYWORDS = {"abscissa", "fuse", "colour", "brightly", "self"}
NEITHER = {"glimmer", "Words", "ember", "smoke", "red"}


def plan_of(python: str = sys.executable) -> Plan:
    plan = make_plan()
    return replace(plan, commands=(replace(plan.commands[0], argv=("sh", "-c", 'exec "$@"', "sh", python, "-m", "pytest")),))


def pairs(kind: str, names: set[str]) -> set[tuple[str, str]]:
    return {(kind, name) for name in names}


def test_what_a_file_binds_can_be_asked_for_or_given() -> None:
    found = library_probe.bound_by(tree_of(LIBRARY))
    assert found >= pairs("attribute", ATTRIBUTES) | pairs("keyword", KEYWORDS)
    assert not found & (pairs("attribute", NEITHER | {"brightly"}) | pairs("keyword", NEITHER | {"burn", "Sparkler", "ash"}))


def test_only_imported_modules_and_the_runner_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("fireworks", "unrelated", "project"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(f"def of_{module}(): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = [("attribute", f"of_{module}") for module in ("fireworks", "unrelated", "project")]
    found = library_probe.known([*asked, ("attribute", "readouterr")], ["fireworks", "project"], str(tmp_path / "project"))
    assert found == [("attribute", "of_fireworks"), ("attribute", "readouterr")]


def test_modules_without_source_bind_names_too() -> None:
    asked = [("attribute", "tb_frame"), ("attribute", "monotonic_ns"), ("attribute", "certainly_nobodys")]
    assert library_probe.known(asked, ["time", "no_such_module"], "/nowhere") == asked[1::-1]


async def test_a_box_is_asked_with_the_interpreter_of_the_tests() -> None:
    names: list[Name] = [("attribute", "raw_decode"), ("keyword", "object_pairs_hook"), ("attribute", "zarbling")]
    box = machine_box()
    assert await bound_by_libraries(box, names, ["json"], plan_of()) == set(names[:2])
    assert box.requests[0].argv[0] == sys.executable
    assert await bound_by_libraries(box, names[:1], ["csv"], plan_of()) == set()


async def test_a_search_that_breaks_says_nothing_of_the_task(tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 2\n")
    broken.chmod(0o755)
    with pytest.raises(GraderError, match="search for names in the libraries failed"):
        await bound_by_libraries(machine_box(), [("attribute", "x")], [], plan_of(str(broken)))
