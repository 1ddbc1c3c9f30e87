"""Failures, and the repairs that the rules propose."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from envfarm.core.recipe import Recipe, Toolchain
from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.profile import Failure, Repair, Stage
from task_builders.languages.project import Project
from task_builders.languages.python import facts, recipe, repair

FILES = {
    "setup.py": "from setuptools import setup\nsetup(name='made-up')",
    "pkg/core.py": "",
    "tests/helping.py": "",
    "tests/test_a.py": "",
}


def ask(stage: Stage, log: str, *, changed: Recipe | None = None, files: Mapping[str, str] = FILES) -> Repair | None:
    project = Project("made/up", MemoryTree(files))
    read = facts.read(project)
    first = recipe.ladder(project, read, datetime(2023, 1, 1, tzinfo=UTC), [Toolchain(name="python", version="3.10.1")])[0]
    return repair.repair(project, read, changed or first, Failure(stage, log))


@pytest.mark.parametrize(
    ("log", "requirement"),
    [
        ("E   ModuleNotFoundError: No module named 'yaml'", "pyyaml"),
        ("ImportError: No module named some_thing.inner", "some-thing"),
        ('ImportError: Error importing plugin "pytest_asyncio"', "pytest-asyncio"),
        ("error: unrecognized arguments: --cov-branch --x", "pytest-cov"),
        ("pytest.py: error: unrecognized arguments: --rootdir=/testbed", "pytest>=3.4,<5"),
        ("E       fixture 'mocker' not found", "pytest-mock"),
        ("E   ModuleNotFoundError: No module named 'pkg_resources'", "setuptools<81"),
        ("AttributeError: 'Function' object has no attribute 'get_marker'", "pytest<8"),
    ],
)
def test_a_missing_package_joins_the_requirements(log: str, requirement: str) -> None:
    found = ask("tests", log)
    assert found is not None
    assert requirement in recipe.requirements_of(found.recipe)


def test_a_module_of_the_checkout_is_looked_for_there_and_not_in_an_index() -> None:
    found = ask("tests", "ModuleNotFoundError: No module named 'helping'")
    assert found is not None
    assert found.recipe.env["PYTHONPATH"] == "/testbed/tests"
    assert "helping" not in recipe.requirements_of(found.recipe)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("Pipfile", '[packages]\nsome-fork = {git = "https://elsewhere.invalid/some-fork"}\n'),
        ("requirements-dev.txt", "git+https://elsewhere.invalid/some-fork\n"),
    ],
)
def test_what_the_project_takes_from_another_address_is_not_asked_of_the_index(path: str, text: str) -> None:
    files = {**FILES, path: text}
    assert ask("tests", "ModuleNotFoundError: No module named 'some_fork'", files=files) is None


@pytest.mark.parametrize(
    ("log", "package"),
    [
        ("x.c:1:10: fatal error: libpq-fe.h: No such file", "libpq-dev"),
        ("error: command 'gcc' failed: No such file or directory", "build-essential"),
        ("error: [Errno 2] No such file or directory: 'gcc'", "build-essential"),
        ("meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "build-essential"),
        ("error: linker `cc` not found", "build-essential"),
        ("configure: error: no acceptable C compiler found in $PATH", "build-essential"),
        ("  No CMAKE_CXX_COMPILER could be found.", "build-essential"),
    ],
)
def test_a_missing_header_or_program_becomes_a_system_package(log: str, package: str) -> None:
    found = ask("build", log)
    assert found is not None
    assert package in found.recipe.system_packages


def test_an_editable_install_that_the_back_end_cannot_do_becomes_a_path() -> None:
    found = ask("build", "step (`python -m pip install -e .`) ended 1: build backend is missing the 'build_editable' hook")
    assert found is not None
    assert "path_install" in found.recipe.project[0].run
    assert ask("build", "step (`pip install -e .`) ended 1: Directory '.' is not installable. File 'setup.py' not found.") == found


def test_warnings_made_errors_are_ignored_once() -> None:
    found = ask("tests", "E   DeprecationWarning: gone soon\n")
    assert found is not None
    assert "ignore::DeprecationWarning" in found.recipe.env["PYTEST_ADDOPTS"]
    assert ask("tests", "E   DeprecationWarning: gone soon\n", changed=found.recipe) is None


def test_the_runner_is_lowered_step_by_step_and_then_given_up() -> None:
    log = 'Fixture "a" called directly. Fixtures are not meant to be called directly'
    bounds = []
    current: Recipe | None = None
    while (found := ask("tests", log, changed=current)) is not None:
        current = found.recipe
        bounds += [w for w in recipe.requirements_of(current) if w.startswith("pytest")]
    assert bounds == ["pytest<8", "pytest<7", "pytest<5", "pytest<4"]


@pytest.mark.parametrize("log", ["socket.gaierror: Name or service not known", "AssertionError: 1 != 2", ""])
def test_what_no_rule_knows_is_not_repaired(log: str) -> None:
    assert ask("tests", log) is None
