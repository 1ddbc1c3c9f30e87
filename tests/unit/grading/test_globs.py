import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.grading import globs
from envfarm.grading.globs import matcher
from tests.unit.grading.counting import lines_run


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


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")  # two brackets or dashes in a set
@given(
    st.lists(st.lists(st.sampled_from(["**/", "**", "*", "?", "/", "a", "b", ".", "[", "]", "[a", "!", "^", "-", "\\", "\n"])), max_size=4),
    st.lists(st.lists(st.sampled_from("aab/.!^-]\\\n")).map("".join), min_size=1, max_size=8),
)
def test_globs_mean_what_their_regular_expressions_mean(pieces: list[list[str]], paths: list[str]) -> None:
    patterns = ["".join(p) for p in pieces]
    try:
        for pattern in patterns:
            re.compile(expression(pattern))
    except re.error:
        with pytest.raises(re.error):
            matcher(patterns)
        return
    matches = matcher(patterns)
    for path in paths:
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        assert matches(path) is any(re.fullmatch(expression(p), prefix, re.DOTALL) for p in patterns for prefix in above)


def expression(pattern: str) -> str:
    """What a glob means: whether it fits a path or a folder above it can be asked of each of them."""
    out, i = [], 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out.append("(?:.*/)?")
            i += 3
        elif pattern.startswith("**", i):
            out.append(".*")
            i += 2
        elif pattern[i] == "*":
            out.append("[^/]*")
            i += 1
        elif pattern[i] == "?":
            out.append("[^/]")
            i += 1
        elif pattern[i] == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            i = end + 1
        else:
            out.append(re.escape(pattern[i]))
            i += 1
    return "".join(out)


NAMES = ["**/conftest.py", "**/a*b/**/c", "**/*a*b*c*.pth", "x/**"]


def test_a_path_costs_its_length_whatever_it_repeats() -> None:
    def cost(depth: int) -> int:
        return lines_run(globs, lambda: matcher(NAMES)("/".join(["aab"] * depth)))

    assert cost(800) < 1.1 * 800 / 400 * cost(400)


def test_files_of_one_deep_folder_cost_their_names() -> None:
    def cost(depth: int, files: int) -> int:
        matches, folder = matcher(NAMES), "/".join(["a"] * depth)
        return lines_run(globs, lambda: [matches(f"{folder}/f{n % 10}") for n in range(files)])

    assert cost(500, 300) - cost(500, 100) == cost(5, 300) - cost(5, 100)


def test_names_beyond_what_is_remembered_are_read_all_the_same() -> None:
    matches = matcher(["**/*[ab]?", "**/x/**/y"])
    names = [chr(0xE000 + n) for n in range(globs.REMEMBERED // 4)]
    assert all(matches(f"x/{name}/{name}b{name}") and not matches(f"x/{name}/{name}c{name}") for name in names)
