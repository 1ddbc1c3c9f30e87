"""A complete small task, written by hand: an invented package with a bug, its sealed tests, its solution.

For tests of grading, attacks, formats and whole episodes. It has no canaries, since builders make them.
"""

import io
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime

from envfarm.core.plan import TestCommand, TestPlan
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.task import Attribution, Limits, Task

WORK_DIR = "/testbed"
AGENT = 1000

LABELS = '''"""Labels for shelves."""

from shelf.signs import SIGNS


class LabelError(ValueError):
    """A label that cannot be read."""


def slug(text):
    """Lower case, words joined by dashes."""
    return "-".join(text.lower().split(" "))


def parse(label):
    """`row:place` to a pair of whole numbers."""
    row, _, place = label.partition(":")
    if not place:
        raise LabelError(label)
    return int(row), int(place)


def sign(kind):
    return SIGNS.get(kind, "?")
'''
FIXED = LABELS.replace('"-".join(text.lower().split(" "))', '"-".join(word for word in text.lower().split() if word.strip("-"))')

TESTS = """import pytest

from shelf.labels import LabelError, parse, sign, slug


def test_slug():
    assert slug("Old Maps") == "old-maps"


@pytest.mark.parametrize(("label", "expected"), [("1:2", (1, 2)), ("10:0", (10, 0))])
def test_parse(label, expected):
    assert parse(label) == expected


def test_parse_refuses():
    with pytest.raises(LabelError):
        parse("12")


class TestSign:
    def test_known(self, kind):
        assert sign(kind) == "#"

    def test_unknown(self):
        assert sign("nothing") == "?"
"""
NEW_TESTS = (
    TESTS
    + """

def test_slug_of_many_spaces():
    assert slug("Old   Maps") == "old-maps"


@pytest.mark.parametrize("text", [" Old Maps", "Old Maps ", "Old\\tMaps"])
def test_slug_strips(text):
    assert slug(text) == "old-maps"
    assert " " not in slug(text)


class TestDashes:
    def test_alone(self):
        assert slug("Old - Maps") == "old-maps"

    def test_nothing_left(self):
        assert not slug(" - ")

    def test_kept_within(self):
        assert slug("Old-Maps  of sea") == "old-maps-of-sea"
"""
)
CONFTEST = """import pytest


@pytest.fixture
def kind():
    return "number"
"""
TREE = {
    "shelf/__init__.py": "",
    "shelf/signs.py": 'SIGNS = {"number": "#"}\n',
    "shelf/labels.py": LABELS,
    "tests/conftest.py": CONFTEST,
    "tests/test_labels.py": TESTS,
    "pyproject.toml": '[project]\nname = "shelf"\nversion = "1.0"\n',
    "README.md": "Labels for shelves.\n",
}
"""The contents of the work dir."""

SOLVE = """#!/bin/sh
set -e
cd /testbed
cat > shelf/labels.py <<'END'
"""
FAIL_TO_PASS = (
    "tests/test_labels.py::test_slug_of_many_spaces",
    "tests/test_labels.py::test_slug_strips[ Old Maps]",
    "tests/test_labels.py::test_slug_strips[Old Maps ]",
    "tests/test_labels.py::test_slug_strips[Old\\tMaps]",
    "tests/test_labels.py::TestDashes::test_alone",
    "tests/test_labels.py::TestDashes::test_nothing_left",
    "tests/test_labels.py::TestDashes::test_kept_within",
)
PASS_TO_PASS = (
    "tests/test_labels.py::test_slug",
    "tests/test_labels.py::test_parse[1:2-expected0]",
    "tests/test_labels.py::test_parse[10:0-expected1]",
    "tests/test_labels.py::test_parse_refuses",
    "tests/test_labels.py::TestSign::test_known",
    "tests/test_labels.py::TestSign::test_unknown",
)
INFLUENCING = (
    "**/conftest.py",
    "pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "**/*.pth",
    "**/sitecustomize.py",
    "**/usercustomize.py",
)


def make(python: str = "python", **changes: object) -> Task:
    """The task; `python` is the interpreter with pytest in the box."""
    argv = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=native", "-o", "junit_family=xunit1", "--junitxml={report}")
    plan = TestPlan(
        work_dir=WORK_DIR,
        commands=(TestCommand((*argv, "tests/test_labels.py", "{canaries}"), "junit", 60.0, {"PYTHONDONTWRITEBYTECODE": "1"}),),
        fail_to_pass=FAIL_TO_PASS,
        pass_to_pass=PASS_TO_PASS,
        test_files=("tests/test_labels.py",),
        influencing=INFLUENCING,
    )
    task = Task(
        name="envfarm/shelf-labels",
        kind="repo",
        language="python",
        instruction="`slug` should treat any run of white space as one gap, and drop words that are only dashes.\n",
        created_at=datetime(2024, 5, 1, tzinfo=UTC),
        attribution=Attribution(licence="Apache-2.0", url="https://example.org/shelf"),
        recipe=recipe(),
        plan=plan,
        limits=Limits(agent_s=300.0, verifier_s=120.0),
        solution={"solve.sh": f"{SOLVE}{FIXED}END\n".encode()},
        tests={"files/tests/test_labels.py": NEW_TESTS.encode()},
        keywords=("text",),
    )
    return task.model_copy(update=changes)


def recipe() -> Recipe:
    """The recipe of its environment."""
    return Recipe(
        language="python",
        toolchain=Toolchain(name="python", version="3.11"),
        env={"PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"},
        dependencies=(
            InstallStep(run="uv venv --python $PYTHON /opt/venv", why="the environment"),
            InstallStep(run="uv pip install --python /opt/venv/bin/python 'pytest==8.3.5'", why="the test command"),
        ),
        work_dir=WORK_DIR,
        resolved_at=datetime(2025, 4, 1, tzinfo=UTC),
    )


def checkout_archive(tree: Mapping[str, str] = TREE) -> bytes:
    """The tree (path in the work dir → text) as a checkout blob: a tar archive rooted at `/`."""
    top = WORK_DIR.strip("/")
    folders = sorted({top, *(f"{top}/{path.rpartition('/')[0]}" for path in tree if "/" in path)})
    entries = [(folder, None) for folder in folders] + [(f"{top}/{path}", text.encode()) for path, text in sorted(tree.items())]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in entries:
            member = tarfile.TarInfo(name)
            member.uid = member.gid = AGENT
            member.type, member.mode, member.size = (tarfile.DIRTYPE, 0o755, 0) if data is None else (tarfile.REGTYPE, 0o644, len(data))
            tar.addfile(member, io.BytesIO(data or b""))
    return buffer.getvalue()
