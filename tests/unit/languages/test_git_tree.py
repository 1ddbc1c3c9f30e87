"""Trees of commits in real repositories."""

from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from envfarm.testing.git_repository import Repository
from task_builders.languages.git_tree import GitTree


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    made = Repository.make(tmp_path / "repository")
    (made.path / "link").symlink_to("/etc/passwd")
    first = made.commit("one", {"a b.txt": "é", "raw.bin": b"\xff\x00"})
    made.git("tag", "v1.2.0")
    made.git("tag", "nightly")
    made.commit("two", {"later.txt": "later"})
    made.git("tag", "v9.0")
    return made.path, first


def test_reads_the_commit_and_not_the_folder(repository: tuple[Path, str]) -> None:
    tree = GitTree(*repository)
    assert list(tree.paths()) == ["a b.txt", "raw.bin"]
    assert tree.read("a b.txt") == "é"
    assert tree.read("raw.bin") == "�\x00"
    assert tree.read_all(["raw.bin", "gone", "a b.txt"]) == {"raw.bin": "�\x00", "a b.txt": "é"}
    assert tree.read("later.txt") == tree.read("link") == ""


def test_the_latest_release_is_an_ancestor(repository: tuple[Path, str]) -> None:
    assert GitTree(*repository).latest_release() == "1.2.0"


def test_says_what_is_wrong(repository: tuple[Path, str]) -> None:
    with pytest.raises(SourceError, match="not a commit hash"):
        GitTree(repository[0], "--output=/tmp/x")
    with pytest.raises(SourceError, match="ls-tree"):
        GitTree(repository[0], "0" * 40).paths()
