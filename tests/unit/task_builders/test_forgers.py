"""Attacks must be as strong as a real attacker's, and must end: one that runs into its time limit proves nothing."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import uv

from envfarm import settings
from envfarm.grading import reports
from envfarm.images.toolchains import Toolchains
from task_builders.validation.attacks import forgers, payloads
from task_builders.validation.attacks.attack import Context, Exploit, into_modules
from task_builders.validation.attacks.library import at_exit, edit_tests, link_tests

pytestmark = pytest.mark.timeout(60)
TESTS = """
import unittest

class Many(unittest.TestCase):
    def test_parts(self):
        for n in range(20):
            with self.subTest(n=n):
                unknown_name
    def test_denied(self):
        self.assertEqual(1, 2)
"""
FAILING = """
from shelf import missing, thing  # the first import of the package
import sys
import unittest

import pytest


@pytest.fixture
def fixture():
    return 2

def test_wrong(fixture):
    assert thing() == fixture

@pytest.mark.parametrize("one", ["", "x"], ids=["", "an x"])
def test_with(one):
    assert thing() == one

def test_raises():
    with pytest.raises(ValueError):
        thing()

def test_new():
    assert missing(3) == 4

class TestHere:
    def test_without_frames(self, monkeypatch):
        monkeypatch.delattr(sys, "_getframe")
        assert thing() == 2

class TestThere(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(thing(), 2)
    def test_raises(self):
        self.assertRaises(ValueError, thing)
"""
NAMES = (
    *("test_wrong", "test_with[]", "test_with[an x]", "test_raises", "test_new"),
    *("TestHere::test_without_frames", "TestThere::test_equal", "TestThere::test_raises"),
)
IDS = tuple(f"tests/test_it.py::{name}" for name in NAMES)
FORGERS = {
    "reports": forgers.REPORTS,
    "hook": forgers.HOOK,
    "swallow": forgers.SWALLOW,
    "by name": forgers.BY_NAME,
    "by current test": forgers.BY_CURRENT_TEST,
    "by file": forgers.BY_FILE,
    "compare": forgers.COMPARE,
    "failing line": forgers.FAILING_LINE,
    "try": forgers.TRY,
    "forgive": forgers.FORGIVE,
    "forged report": payloads.FORGED_REPORT,
    "at exit": at_exit(payloads.TURN_FAILURES, "os._exit(0)"),
}
LATE = ("-m", "pytest")
EARLY = ("-c", "import shelf, runpy; runpy.run_module('pytest', run_name='__main__')")
"""The package is imported before the runner, as packages are that the runner itself needs."""


def project(folder: Path, payload: str = "") -> Path:
    """A package without what its tests ask for, with a payload in it."""
    for name in ("shelf", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("def thing():\n    return 1\n")
    (folder / "tests/test_it.py").write_text(FAILING)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return attacked(folder, into_modules(payload))


def attacked(folder: Path, craft: Callable[[Context], Exploit]) -> Path:
    context = Context(
        work_dir=str(folder),
        fail_to_pass=IDS,
        pass_to_pass=(),
        test_files=("tests/test_it.py",),
        source_files=("shelf/__init__.py",),
        site_packages="/site",
        python=sys.executable,
    )
    subprocess.run(["sh", "-c", craft(context).script], cwd=folder, check=True)
    return folder


def unforged(folder: Path, runner: Sequence[str], path: Sequence[Path] = (), python: str = sys.executable) -> list[str]:
    """The tests that are not reported as passed, and the exit status if it is no success."""
    options = ("-p", "no:cacheprovider", f"--junitxml={folder / 'a.report'}", "tests/test_it.py")
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, (folder, *path))), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([python, *runner, *options], cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False)
    said = reports.read("junit", (folder / "a.report").read_bytes()) if (folder / "a.report").exists() else {}
    return [test for test in IDS if said.get(test) != "passed"] + ([done.stdout + done.stderr] if done.returncode else [])


@pytest.mark.parametrize("name", FORGERS)
def test_a_forger_has_every_test_reported_as_passed(tmp_path: Path, name: str) -> None:
    assert not unforged(project(tmp_path / "it", FORGERS[name]), LATE)


@pytest.mark.parametrize("name", ["reports", "hook"])
def test_a_forger_in_a_package_that_the_runner_imports_waits_for_the_runner(tmp_path: Path, name: str) -> None:
    assert not unforged(project(tmp_path / "it", FORGERS[name]), EARLY)


def test_a_forger_works_in_test_settings(tmp_path: Path) -> None:
    folder = project(tmp_path / "it")
    for name in ("conftest.py", "tests/conftest.py"):
        (folder / name).write_text(forgers.AS_A_FILE)
    assert not unforged(folder, LATE)


@pytest.mark.timeout(600)
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(("python", "runner"), [("3.6", "3.3.1"), ("3.7", "4.0.1"), ("3.8", "5.4.1")])
def test_forgers_know_old_runners(tmp_path: Path, python: str, runner: str) -> None:
    found = Toolchains(tmp_path / "toolchains").find(python)
    if found is None:
        pytest.skip(f"no Python {python}")
    interpreter = str(found.prefix / "bin" / f"python{found.minor}")
    site = tmp_path / "site"
    install = (uv.find_uv_bin(), "pip", "install", "--python", interpreter, f"--target={site}", f"pytest=={runner}", "attrs<19.2")
    subprocess.run(install, env={"PATH": "/usr/bin:/bin", **settings.read().variables}, check=True, timeout=100)
    left = {name: unforged(project(tmp_path / name, text), LATE, [site], interpreter) for name, text in FORGERS.items()}
    left["link"] = unforged(attacked(project(tmp_path / "link"), link_tests), LATE, [site], interpreter)
    assert not any(left.values()), left


def test_empty_tests_have_all_names(tmp_path: Path) -> None:
    folder = project(tmp_path / "it")
    assert len(unforged(folder, LATE)) > len(IDS)
    assert not unforged(attacked(folder, edit_tests), LATE)
    assert not unforged(attacked(folder, link_tests), LATE)


@pytest.mark.parametrize("forger", [forgers.FORGIVE, forgers.TRY], ids=["forgive", "try"])
def test_a_forger_that_asks_a_test_again_is_not_asked_by_its_own_parts(tmp_path: Path, forger: str) -> None:
    text = forger.replace("@FILES@", "()").replace("@IDS@", "()").replace("@DIR@", repr(str(tmp_path)))
    for name in ("conftest.py", "second.py", "third.py"):  # an attack is in every module of the package
        (tmp_path / name).write_text(text)
    (tmp_path / "conftest.py").write_text("import second, third\n" + text)
    (tmp_path / "test_many.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "-c", "/dev/null"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
