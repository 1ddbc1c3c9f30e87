"""What shapes the git program, and what does not: a stranger's repository, this machine's configuration, the caller's environment."""

import os
from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from envfarm.images.git_program import Git
from envfarm.testing.git_repository import Repository


@pytest.fixture
def made(tmp_path: Path) -> Repository:
    repository = Repository.make(tmp_path / "made")
    repository.commit("one", {"a": "text"})
    return repository


def test_it_is_given_bytes_and_gives_bytes(made: Repository) -> None:
    git = Git(made.path)
    stored = git.run("hash-object", "-w", "--stdin", stdin=b"\xff\x00\n" * 100_000).decode().strip()
    assert git.run("cat-file", "blob", stored) == b"\xff\x00\n" * 100_000
    with pytest.raises(SourceError, match=r"`git cat-file` in .*made failed: fatal: Not a valid object name nothing"):
        git.run("cat-file", "blob", "nothing")


@pytest.mark.parametrize("arguments", [("status",), ("update-ref", "refs/heads/other", "HEAD"), ("log", "-1", "--format=%H", "HEAD")])
def test_a_repository_runs_nothing(made: Repository, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    witness = tmp_path / "ran"
    program = tmp_path / "hooks/reference-transaction"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{witness}'\n")
    program.chmod(0o755)
    for key, value in {"core.fsmonitor": str(program), "core.pager": str(program), "core.hooksPath": str(program.parent)}.items():
        made.git("config", key, value)
    Git(made.path).run(*arguments)
    assert not witness.exists()


@pytest.mark.parametrize("address", ["file://{path}", "{path}", "ext::touch% {path}/ran"])
def test_reading_reaches_nowhere(made: Repository, address: str) -> None:
    with pytest.raises(SourceError, match="not allowed"):
        Git(made.path).run("-c", "protocol.allow=always", "ls-remote", address.format(path=made.path))
    assert not (made.path / "ran").exists()


def test_a_replaced_object_is_read_as_it_was(made: Repository) -> None:
    first = made.git("rev-parse", "HEAD")
    made.git("replace", first, made.commit("two", {"a": "other"}))
    assert Git(made.path).run("show", "-s", "--format=%s", first) == b"one\n"


def test_neither_the_users_settings_nor_the_environment_count(made: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Repository.make(tmp_path / "other")
    (tmp_path / ".gitconfig").write_text("[log]\n\tdate = unix\n[user]\n\tname = Home\n")
    bent = {
        "HOME": str(tmp_path),
        "GIT_DIR": str(other.path / ".git"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "user.email",
        "GIT_CONFIG_VALUE_0": "told",
        "TZ": "Asia/Tokyo",
    }
    for name, value in bent.items():
        monkeypatch.setenv(name, value)
    git = Git(made.path)
    assert git.run("rev-list", "--count", "HEAD") == b"1\n"
    for key in ("log.date", "user.name", "user.email"):
        with pytest.raises(SourceError, match="status 1"):
            git.run("config", key)
    assert git.run("log", "-1", "--date=local", "--format=%cd") == git.run(
        "log", "-1", "--date=format:%a %b %-d %H:%M:%S %Y", "--format=%cd"
    )
    assert git.run("var", "GIT_EDITOR", env={"GIT_EDITOR": "given"}) == b"given\n"


def test_a_fetch_is_the_users_and_lands_where_it_is_told(made: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Repository.make(tmp_path / "other")
    (tmp_path / "config").write_text(f'[url "file://{made.path}"]\n\tinsteadOf = short:\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    place = tmp_path / "mirror"
    place.mkdir()
    git = Git(place)
    git.run("init", "--quiet", "--bare")
    git.run("fetch", "--quiet", "short:", "+refs/heads/*:refs/heads/*", as_user=True)
    monkeypatch.delenv("GIT_DIR")
    assert git.run("rev-parse", "main").decode().strip() == made.git("rev-parse", "HEAD")
    assert other.git("for-each-ref") == ""
    with pytest.raises(SourceError, match="not allowed"):
        git.run("ls-remote", "ext::true", as_user=True)


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"`git hash-object` in .* took more than 0 s"):
        Git(tmp_path).run("hash-object", str(tmp_path / "pipe"), timeout_s=0.05)


def test_a_machine_without_git_is_told_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git is not on PATH"):
        Git(tmp_path).run("version")
