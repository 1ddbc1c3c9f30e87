"""Trees of commits in real repositories."""

from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from envfarm.testing.git_repository import Repository
from task_builders.languages.git_tree import GitTree
from task_builders.sources.git import GitRepository


@pytest.fixture
def repository(tmp_path: Path) -> tuple[GitRepository, str]:
    made = Repository.make(tmp_path / "repository")
    (made.path / "link").symlink_to("/etc/passwd")
    first = made.commit("one", {"a b.txt": "é", "raw.bin": b"\xff\x00"})
    made.git("tag", "v1.2.0")
    made.git("tag", "nightly")
    made.commit("two", {"later.txt": "later"})
    made.git("tag", "v9.0")
    return GitRepository(made.path), first


def test_reads_the_commit_and_not_the_folder(repository: tuple[GitRepository, str]) -> None:
    tree = GitTree(*repository)
    assert list(tree.paths()) == ["a b.txt", "raw.bin"]
    assert tree.read("a b.txt") == "é"
    assert tree.read("raw.bin") == "�\x00"
    assert tree.read_all(["raw.bin", "gone", "a b.txt"]) == {"raw.bin": "�\x00", "a b.txt": "é"}
    assert tree.read("later.txt") == tree.read("link") == ""


def test_the_latest_release_is_an_ancestor(repository: tuple[GitRepository, str]) -> None:
    assert GitTree(*repository).latest_release() == "1.2.0"


def test_says_what_is_wrong(repository: tuple[GitRepository, str]) -> None:
    with pytest.raises(SourceError, match="not a commit hash"):
        GitTree(repository[0], "--output=/tmp/x")
    with pytest.raises(SourceError, match="ls-tree"):
        GitTree(repository[0], "0" * 40).paths()


def test_a_blob_that_is_missing_is_not_fetched_by_a_program_of_the_repositorys(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "repository")
    commit = made.commit("one", {"a": "text"})
    blob = made.git("rev-parse", "HEAD:a")
    (made.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    witness = tmp_path / "ran"
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": "ssh://made.invalid/up",
        "core.sshCommand": f"touch '{witness}'; false",
    }.items():
        made.git("config", key, value)
    with pytest.raises(SourceError):
        GitTree(GitRepository(made.path), commit).read("a")
    assert not witness.exists()
