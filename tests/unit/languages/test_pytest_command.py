"""The command that runs the tests."""

from envfarm.core.recipe import InstallStep
from envfarm.testing.factories import make_recipe
from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.project import Project
from task_builders.languages.python import facts, pytest_command


def argv(files: dict[str, str], *test_files: str) -> list[str]:
    project = Project("made/up", MemoryTree(files))
    recipe = make_recipe(project=(InstallStep(run="install it"),))
    return list(pytest_command.command(project, facts.read(project), test_files, recipe).argv)


def ini(command: list[str], key: str) -> str | None:
    return next((a.split("=", 2)[2] for a in command if a.startswith(f"--override-ini={key}=")), None)


TEST = {"tests/test_a.py": "def test_a(): pass\n", "tests/unit/test_b.py": "class TestB: pass\n"}


def test_no_configuration_of_the_checkout_is_read() -> None:
    command = argv(
        {**TEST, "pytest.ini": "[pytest]\nfilterwarnings =\n    error\n    ignore::UserWarning\nminversion = 3\npythonpath = src lib\n"}
    )
    assert command[command.index("-c") + 1] == "/dev/null"
    assert ini(command, "filterwarnings") == "error\nignore::UserWarning"
    assert ini(command, "pythonpath") == "/testbed/src /testbed/lib"
    assert ini(command, "minversion") is None


def test_options_that_choose_stay_and_reporting_goes() -> None:
    options = "-ra -q --cov=pkg --cov-report term -n auto --strict-markers --import-mode=importlib -m 'not slow'"
    options += " -p no:cacheprovider -p pytester --doctest-modules -vv --my-own --style ndiff --flag tests/unit"
    text = f'[tool.pytest.ini_options]\naddopts = "{options}"\n'
    command = argv({**TEST, "pyproject.toml": text})
    after = command[command.index("--override-ini=addopts=") + 1 :]
    assert after == [
        "--import-mode=importlib",
        "-m",
        "not slow",
        "-p",
        "pytester",
        "--doctest-modules",
        "--my-own",
        "--style",
        "ndiff",
        "--flag",
        "tests",
    ]


def test_the_choice_of_the_test_run_is_kept() -> None:
    tox = "[testenv]\ncommands = pytest -m 'not slow' --cov x --durations 5 {posargs:tests/unit}\n"
    command = argv({**TEST, "tox.ini": tox})
    assert command[command.index("--override-ini=addopts=") + 1 :] == ["-m", "not slow", "tests/unit"]


def test_files_that_hold_tests_are_named_whole() -> None:
    files = {**TEST, "tests/conftest.py": "", "tests/data.json": "{}"}
    assert argv(files, "tests/test_a.py", "tests/conftest.py", "tests/data.json")[-1] == "tests/test_a.py"
    assert argv(files, "tests/conftest.py")[-1] == "tests"


def test_where_the_configuration_names_the_suite_nothing_else_does() -> None:
    command = argv({**TEST, "setup.cfg": "[tool:pytest]\ntestpaths = tests/unit\n"})
    assert ini(command, "testpaths") == "tests/unit"
    assert command[-1] == "--override-ini=addopts="


def test_modules_of_another_name_are_found_where_there_are_no_others() -> None:
    assert "tests.py" in (ini(argv({"pkg/tests/tests.py": "def test_a(): pass\n"}), "python_files") or "")
    assert ini(argv({**TEST, "pkg/tests.py": ""}), "python_files") is None


def test_unittest_suites_bring_their_pattern() -> None:
    command = argv(
        {
            "checks/a_check.py": "import unittest\n",
            "tox.ini": "[testenv]\ncommands = python -m unittest discover -s checks -p '*_check.py'\n",
        }
    )
    assert "*_check.py" in (ini(command, "python_files") or "")
    assert command[-1] == "checks"


def test_compiled_sources_are_built_anew_before_the_tests() -> None:
    command = argv({**TEST, "pkg/fast.c": ""})
    assert command[:2] == ["sh", "-c"]
    assert "install it" in command[2]
    assert command[4:7] == [pytest_command.VENV_PYTHON, "-m", "pytest"]
    assert argv({**TEST, "tests/fast.c": ""})[0] == pytest_command.VENV_PYTHON


def test_what_measures_coverage_is_loaded_only_for_tests_that_speak_of_it() -> None:
    assert "no:pytest_cov" in argv(TEST)
    assert "no:pytest_cov" not in argv({**TEST, "tests/test_c.py": "@pytest.mark.no_cover\ndef test_c(): pass\n"})
    assert "no:pytest_cov" not in argv({**TEST, "tests/conftest.py": "def test_d(cov): pass\n"})
