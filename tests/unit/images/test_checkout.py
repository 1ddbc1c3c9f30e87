"""A checkout is the commit's tree, clean to git, and tells nothing else of the repository."""

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.errors import SourceError
from envfarm.images.checkout import checkout_archive
from envfarm.images.history_proof import QUESTIONS, Answer, judge

TIME_S = 1_500_000_000


def asked_git(where: Path, *args: str) -> subprocess.CompletedProcess[str]:
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ann"), ("EMAIL", "ann@example.com"), ("DATE", f"{TIME_S} +0200"))
    }
    env = {"PATH": os.defpath, "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1", **who}
    return subprocess.run(["git", "-C", str(where), *args], check=False, capture_output=True, text=True, env=env)


def run_git(where: Path, *args: str) -> str:
    done = asked_git(where, *args)
    done.check_returncode()
    return done.stdout.strip()


def history_proof_of_tree(work_dir: Path) -> dict[str, Any]:
    asked = {name: asked_git(work_dir, *args) for name, args in QUESTIONS.items()}
    answers = {name: Answer(done.returncode, done.stderr if done.returncode else done.stdout) for name, done in asked.items()}
    folders = (work_dir / ".git", work_dir / ".git/objects/info")
    return judge(answers, [entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir()])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    repo.mkdir()
    run_git(repo, "init", "-q", "-b", "trunk")
    (repo / "pkg").mkdir()
    (repo / "pkg/code.py").write_text("old = 1\n")
    (repo / "pkg/löwe.txt").write_text("$Format:%H$\n")
    (repo / "tool").write_text("#!/bin/sh\n")
    (repo / "tool").chmod(0o755)
    (repo / "link").symlink_to("../outside")
    (repo / "dos.bat").write_text("echo\n")
    (repo / "tests").mkdir()
    (repo / "tests/test_code.py").write_text("def test(): ...\n")
    (repo / "big.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    (repo / ".gitattributes").write_text("tests export-ignore\n*.txt export-subst\n*.bat eol=crlf\n*.bin filter=lfs diff=lfs\n")
    run_git(repo, "add", "-A")
    run_git(repo, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    run_git(repo, "commit", "-qm", "Before")
    run_git(repo, "tag", "-a", "v1", "-m", "tag")
    run_git(repo, "remote", "add", "origin", "https://example.com/x.git")
    (repo / "pkg/code.py").write_text("fixed = 'the answer'\n")
    run_git(repo, "commit", "-qam", "The fix")
    return repo


@pytest.fixture
def unpacked(repository: Path, tmp_path: Path) -> Path:
    target = tmp_path / "box"
    target.mkdir()
    subprocess.run(["tar", "--no-same-owner", "-xf", "-", "-C", target], input=checkout_archive(repository, "HEAD~1"), check=True)
    return target / "testbed"


def test_the_tree_is_whole(unpacked: Path) -> None:
    assert (unpacked / "tests/test_code.py").exists(), "export-ignore has no effect"
    assert (unpacked / "pkg/löwe.txt").read_text() == "$Format:%H$\n", "export-subst has no effect"
    assert (unpacked / "pkg/code.py").read_text() == "old = 1\n"
    assert (unpacked / "dos.bat").read_bytes() == b"echo\r\n"
    assert (unpacked / "big.bin").read_text().startswith("version https://git-lfs")
    assert (unpacked / "link").readlink() == Path("../outside")
    assert os.access(unpacked / "tool", os.X_OK)
    assert list((unpacked / "vendored").iterdir()) == []


def test_every_entry_has_the_commits_time_and_no_persons_id(repository: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(checkout_archive(repository, "v1", work_dir="/srv/work"))) as tar:
        entries = tar.getmembers()
    assert {(e.mtime, e.uid, e.gid, e.uname) for e in entries} == {(TIME_S, 1000, 1000, "")}
    assert entries[0].name == "srv/work"
    assert [e.name for e in entries] == sorted((e.name for e in entries), key=lambda n: n.split("/"))


def test_git_finds_it_clean_and_with_one_neutral_commit(unpacked: Path) -> None:
    assert run_git(unpacked, "status", "--porcelain") == ""
    assert run_git(unpacked, "log", "--all", "--format=%an %ae %at %s") == f"envfarm envfarm@localhost {TIME_S} Start"
    (unpacked / "pkg/code.py").write_text("new = 2\n")
    assert "-old = 1" in run_git(unpacked, "diff")
    run_git(unpacked, "commit", "-qam", "an agent may commit")


def test_nothing_of_the_future_is_in_it(repository: Path) -> None:
    archive = checkout_archive(repository, "HEAD~1")
    future = run_git(repository, "rev-parse", "HEAD")
    for leak in (b"the answer", b"example.com/x", b"ann@example", b"v1\x00", future.encode(), bytes.fromhex(future)):
        assert leak not in archive


def test_the_same_commit_gives_the_same_bytes(repository: Path) -> None:
    first = checkout_archive(repository, "HEAD~1")
    run_git(repository, "gc", "-q", "--aggressive")
    assert checkout_archive(repository, "HEAD~1") == first


def test_the_proof_is_clean_for_a_fresh_checkout(unpacked: Path) -> None:
    proof = history_proof_of_tree(unpacked)
    assert proof["findings"] == []
    assert proof["clean"] is True
    assert proof["objects"]["commit"] == 1


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (("tag", "v9"), "reference: refs/tags/v9"),
        (("remote", "add", "origin", "https://example.com"), "remotes: origin"),
        (("commit", "-q", "--allow-empty", "-m", "more"), "ancestors_of_head"),
        (("stash", "store", "HEAD"), "refs/stash"),
        (("-c", "core.logAllRefUpdates=true", "commit", "-q", "--amend", "--allow-empty", "-m", "x"), "2 commits"),
    ],
)
def test_the_proof_finds_what_was_left(unpacked: Path, spoil: tuple[str, ...], finding: str) -> None:
    run_git(unpacked, *spoil)
    proof = history_proof_of_tree(unpacked)
    assert proof["clean"] is False
    assert any(finding in found for found in proof["findings"]), proof["findings"]


def test_the_proof_finds_a_dangling_object(unpacked: Path) -> None:
    (unpacked / "secret").write_text("dangling")
    run_git(unpacked, "hash-object", "-w", "secret")
    assert any("unreachable blob" in found for found in history_proof_of_tree(unpacked)["findings"])


def test_the_proof_of_no_repository_is_not_clean(tmp_path: Path) -> None:
    assert history_proof_of_tree(tmp_path)["clean"] is False


@pytest.mark.parametrize("commit", ["0" * 40, "no-such-branch", "--all"])
def test_an_unknown_commit_is_a_source_error(repository: Path, commit: str) -> None:
    with pytest.raises(SourceError):
        checkout_archive(repository, commit)
