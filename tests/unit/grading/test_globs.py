import pytest

from envfarm.grading.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("conftest.py", "conftest.py", True),
        ("conftest.py", "a/conftest.py", False),
        ("**/conftest.py", "conftest.py", True),
        ("**/conftest.py", "a/b/conftest.py", True),
        ("**/conftest.py", "a/b/xconftest.py", False),
        ("tests/**", "tests/a/b.py", True),
        ("tests/*", "tests/a", True),
        ("*.ini", "a/b.ini", False),
        ("**/__pycache__", "a/__pycache__/b.pyc", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].py", "a.py", True),
        ("[!ab].py", "a.py", False),
        ("a.py", "aXpy", False),
        ("a[", "a[", True),
    ],
)
def test_a_glob_matches(pattern: str, path: str, matches: bool) -> None:  # noqa: FBT001
    assert matcher([pattern])(path) is matches


def test_no_pattern_matches_nothing() -> None:
    assert not matcher([])("a")
