"""What tox, nox and CI files say."""

from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.python import ci, tox_nox

TOX = """
[tox]
envlist = lint, py{37,38}-{plain,fast}, docs
[testenv]
deps =
    runner>=2
    fast: speed ; python_version > "3"
    -r{toxinidir}/requirements/more.txt
    lint: linter
extras = tests
setenv =
    MODE = strict
    FOLDER = {toxinidir}
commands = python -m pytest -m "not slow" {posargs:tests/unit}
[testenv:lint]
commands = linter
"""


def test_the_main_environment_of_tox() -> None:
    found = tox_nox.read(MemoryTree({"tox.ini": TOX, "requirements/more.txt": "alpha\n"}))
    assert found.wishes.requirements == ["runner>=2", "alpha"]
    assert found.wishes.extras == ["tests"]
    assert found.env == {"MODE": "strict"}
    assert found.tests == [["-m", "not slow", "tests/unit"]]
    assert found.pythons == ["3.7", "3.8"]


def test_braces_and_ranges_are_expanded() -> None:
    assert tox_nox.expand("py{36,37}-{a,b}, 3.1{0-2}") == ["py36-a", "py36-b", "py37-a", "py37-b", "3.10", "3.11", "3.12"]


def test_native_tox_tables() -> None:
    text = (
        "[tool.tox]\n"
        'env_list = ["3.12", "lint"]\n'
        "[tool.tox.env_run_base]\n"
        'dependency_groups = ["tests"]\n'
        'commands = [["pytest", "-q", {replace = "posargs", default = []}]]\n'
    )
    found = tox_nox.read(MemoryTree({"pyproject.toml": text}))
    assert (found.wishes.groups, found.tests, found.pythons) == (["tests"], [["-q"]], ["3.12"])


def test_a_nox_session_is_read_and_not_run() -> None:
    text = (
        "import nox\n"
        "raise SystemExit\n"
        '@nox.session(python=["3.9", "3.10"])\n'
        "def tests(session):\n"
        '    session.install("runner", ".[extra]")\n'
        '    session.run("pytest", "tests", *session.posargs)\n'
    )
    found = tox_nox.read(MemoryTree({"noxfile.py": text}))
    assert found.wishes.requirements == ["runner"]
    assert found.wishes.extras == ["extra"]
    assert found.tests == [["tests"]]
    assert found.pythons == ["3.9", "3.10"]


WORKFLOW = """
on: push
env: {MODE: strict}
jobs:
  lint: {runs-on: ubuntu-latest, steps: [{run: ruff check}]}
  test:
    strategy:
      matrix:
        python-version: [3.9, 3.10, "3.11"]
        include:
          - {os: windows-latest, python: "3.12"}
    services: {redis: {image: redis}}
    steps:
      - uses: actions/setup-python@v5
      - run: sudo apt-get install -y libfoo-dev
      - run: |
          pip install -U pip && pip install -e '.[tests]' "runner; python_version > '3'" \\
            -c pins.txt
          python -m pytest tests --maxfail 3
"""


def test_a_workflow() -> None:
    found = ci.read(MemoryTree({".github/workflows/ci.yml": WORKFLOW, "pins.txt": "runner==1\n"}))
    assert found.pythons == ["3.9", "3.10", "3.11"]
    assert found.env == {"MODE": "strict"}
    assert found.script.apt == ["libfoo-dev"]
    assert found.script.wishes.extras == ["tests"]
    assert "pip" in found.script.wishes.requirements
    assert 'runner; python_version > "3"' in found.script.wishes.requirements
    assert found.script.wishes.constraints == ["runner==1"]
    assert found.script.tests == [["tests", "--maxfail", "3"]]


def test_travis() -> None:
    text = (
        "language: python\n"
        "python: ['2.7', 3.6]\n"
        "matrix: {include: [{python: 3.7, env: TOXENV=py37}]}\n"
        "install: pip install runner\n"
        "script: py.test\n"
    )
    found = ci.read(MemoryTree({".travis.yml": text}))
    assert set(found.pythons) == {"3.6", "3.7"}
    assert found.script.wishes.requirements == ["runner"]
    assert found.script.tests == [[]]


def test_hostile_yaml_is_not_read() -> None:
    bomb = "a0: &a0 [{python: 3.9, script: tox}]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    assert ci.read(MemoryTree({".travis.yml": "a: &a [*a]\npython: 3.9\nscript: tox"})).pythons == []
    assert ci.read(MemoryTree({".travis.yml": bomb})).pythons == []
    assert ci.read(MemoryTree({".travis.yml": "!!python/object/apply:os.system ['x']"})).pythons == []
