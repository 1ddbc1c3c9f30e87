"""Metadata from the three files."""

from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.python import metadata

SETUP_PY = """
import os, sys
raise SystemExit("must never run")
from setuptools import setup
BASE = ["alpha>=1"]
EXTRAS = {"tests": ["runner"], "docs": ["writer"]}
EXTRAS["dev"] = EXTRAS["tests"] + ["tool"]
BASE.append("beta")
if sys.version_info < (3,):
    BASE += ["old"]
with open("requirements-test.txt") as f:
    pass
setup(name="made-up", version=open("VERSION").read(), install_requires=BASE, extras_require=EXTRAS,
      tests_require=read("requirements-test.txt"),
      python_requires=">=3.6", entry_points={"console_scripts": ["made = made.up:main"]})
"""


def test_setup_py_is_read_and_not_run() -> None:
    found = metadata.read(MemoryTree({"setup.py": SETUP_PY, "requirements-test.txt": "# c\ngamma==2\n"}))
    assert (found.name, found.version, found.requires_python) == ("made-up", "", ">=3.6")
    assert {"alpha>=1", "beta"} <= set(found.requires)
    assert found.extras["dev"] == ("runner", "tool")
    assert found.groups["tests_require"] == ("gamma==2",)
    assert found.entry_points["console_scripts"] == {"made": "made.up:main"}


def test_pyproject_groups_include_each_other_and_rings_end() -> None:
    text = """
[project]
name = "made-up"
dependencies = ["alpha"]
[dependency-groups]
tests = ["runner", {include-group = "more"}]
more = ["beta", {include-group = "tests"}]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
    found = metadata.read(MemoryTree({"pyproject.toml": text}))
    assert set(found.groups["tests"]) == {"runner", "beta"}
    assert found.build_backend == "hatchling.build"


def test_poetry_ranges_become_standard_ones() -> None:
    text = """
[tool.poetry]
name = "made-up"
version = "0.3.0"
[tool.poetry.dependencies]
python = "^3.7"
alpha = "^0.2.3"
beta = {version = "~1.4", optional = true, extras = ["x"]}
gamma = [{version = "1.0", python = "<3.8"}]
[tool.poetry.extras]
all = ["beta"]
[tool.poetry.group.test.dependencies]
runner = "*"
"""
    found = metadata.read(MemoryTree({"pyproject.toml": text}))
    assert found.requires == ("alpha<0.3,>=0.2.3", 'gamma==1.0; python_version < "3.8"')
    assert found.extras["all"] == ("beta[x]<1.5,>=1.4",)
    assert found.groups["test"] == ("runner",)
    assert found.requires_python == ">=3.7,<4"


def test_setup_cfg_completes_setup_py() -> None:
    cfg = (
        "[metadata]\n"
        "name = made-up\n"
        "version = attr: made.version\n"
        "[options]\n"
        "install_requires =\n"
        "  alpha\n"
        "python_requires = >=3.7\n"
        "[options.extras_require]\n"
        "test = runner\n"
    )
    found = metadata.read(MemoryTree({"setup.py": "from setuptools import setup\nsetup()", "setup.cfg": cfg}))
    assert (found.name, found.version, found.requires, found.extras["test"]) == ("made-up", "", ("alpha",), ("runner",))


def test_a_lock_gives_the_versions_that_are_unambiguous() -> None:
    text = (
        "[[package]]\n"
        'name = "a"\n'
        'version = "1"\n'
        "[[package]]\n"
        'name = "b"\n'
        'version = "1"\n'
        "[[package]]\n"
        'name = "b"\n'
        'version = "2"\n'
        "[[package]]\n"
        'name = "me"\n'
        'version = "0"\n'
        'source = {editable = "."}\n'
    )
    assert metadata.locked_versions(MemoryTree({"uv.lock": text})) == {"a": "1"}


def test_broken_files_say_nothing() -> None:
    found = metadata.read(MemoryTree({"pyproject.toml": "[[[", "setup.cfg": "no section", "setup.py": "def ("}))
    assert (found.name, found.requires, found.installable) == ("", (), True)
