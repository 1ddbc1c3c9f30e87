"""Trees of commits in real repositories."""

import subprocess
from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from task_builders.languages.git_tree import GitTree


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    def git(*args: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
        return subprocess.run(["git", *identity, "-C", str(tmp_path), *args], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a b.txt").write_text("é")
    (tmp_path / "raw.bin").write_bytes(b"\xff\x00")
    (tmp_path / "link").symlink_to("/etc/passwd")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1.2.0")
    git("tag", "nightly")
    (tmp_path / "later.txt").write_text("later")
    git("add", ".")
    git("commit", "-qm", "two")
    git("tag", "v9.0")
    return tmp_path, git("rev-parse", "HEAD~1")


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
