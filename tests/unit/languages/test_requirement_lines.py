"""Requirement files and single lines."""

import pytest

from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.python.requirement_lines import address_of, local_extras, plain, read_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha>=1.0  # why", "alpha>=1.0"),
        ("alpha[x,y]==2; python_version < '3.8'", 'alpha[x,y]==2; python_version < "3.8"'),
        ("alpha @ https://elsewhere.invalid/alpha.zip", None),
        ("git+https://elsewhere.invalid/o/alpha.git#egg=alpha-kit", None),
        ("alpha @ file:libs/alpha", None),
        ("file:///${PROJECT_ROOT}/alpha#egg=alpha", None),
        ("alpha==1 --hash=sha256:00", "alpha==1"),
        ("./local", None),
        ("--index-url https://elsewhere.invalid", None),
        ("", None),
    ],
)
def test_only_what_an_index_has_is_a_requirement(text: str, expected: str | None) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha>=1; python_version < '3'", None),
        ("alpha[x] @ https://elsewhere.invalid/a.zip", ("alpha", False, "")),
        ("git+ssh://git@elsewhere.invalid/o/Alpha_kit.git@main", ("alpha-kit", False, "")),
        ("-e git+https://elsewhere.invalid/o/a.git#egg=alpha&subdirectory=b", ("alpha", False, "")),
        ("alpha @ file:libs/../alpha", ("alpha", True, "alpha")),
        ("alpha @ {root:uri}/libs/alpha", ("alpha", True, "libs/alpha")),
        ("-e file:///${PROJECT_ROOT}/sub#egg=alpha", ("alpha", True, "sub")),
        ("alpha @ file:///etc", ("alpha", True, "")),
        ("alpha @ file://localhost/etc", ("alpha", True, "")),
        ("../alpha", ("", True, "")),
        ("./wheels/alpha-1.0-py3-none-any.whl", ("alpha", True, "wheels/alpha-1.0-py3-none-any.whl")),
    ],
)
def test_an_address_is_told_with_its_name_and_place(text: str, expected: tuple[str, bool, str] | None) -> None:
    assert address_of(text) == expected


def test_files_include_files_and_constraints() -> None:
    tree = MemoryTree({
        "requirements/tests.txt": "-r base.txt\n-c pins.txt\n-e .[fast]\nrunner \\\n  >=2\n--extra-index-url https://elsewhere.invalid\n",
        "requirements/base.txt": "alpha\n-r tests.txt\n",
        "requirements/pins.txt": "alpha==3\n",
    })  # fmt: skip
    found = read_file(tree, "requirements/tests.txt")
    assert found.requirements == ["alpha", "runner>=2"]
    assert found.constraints == ["alpha==3"]
    assert found.extras == ["fast"]


def test_files_outside_the_tree_are_not_read() -> None:
    assert read_file(MemoryTree({"r.txt": "-r ../../etc/passwd\n-r /etc/passwd\n"}), "r.txt").requirements == []


def test_the_project_itself_is_known_by_its_address() -> None:
    assert local_extras(".[a, b]") == ["a", "b"]
    assert local_extras(".") == []
    assert local_extras("alpha[a]") is None
