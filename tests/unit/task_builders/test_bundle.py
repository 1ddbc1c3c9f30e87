"""A repository that goes to another machine as one value, and what has grown since."""

from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from envfarm.testing.git_repository import Repository
from task_builders.sources import bundle
from task_builders.sources.git import GitRepository


def brought(repository: Repository, mirrors: Path) -> GitRepository:
    here = GitRepository(repository.path)
    return bundle.unpack(bundle.state_of(here, str(repository.path)), bundle.bundle(here), mirrors)


def test_commits_tags_and_side_branches_are_there(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "maps")
    first = made.commit("Start", {"a.py": "1\n"})
    here = GitRepository(made.path)
    here.run("tag", "v1", first)
    here.run("update-ref", "refs/pull/7/head", first)
    second = made.commit("Go on", {"a.py": "2\n"})
    there = brought(made, tmp_path / "mirrors")
    assert there.resolve(second) == second
    assert there.run("for-each-ref") == here.run("for-each-ref")


def test_the_same_state_is_found_and_a_newer_one_is_not(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "maps")
    made.commit("Start", {"a.py": "1\n"})
    here, address, mirrors = GitRepository(made.path), str(made.path), tmp_path / "mirrors"
    before = bundle.state_of(here, address)
    assert bundle.find(before, mirrors) is None
    brought(made, mirrors)
    assert bundle.find(before, mirrors) is not None
    newer = made.commit("Go on", {"a.py": "2\n"})
    after = bundle.state_of(here, address)
    assert bundle.find(after, mirrors) is None
    there = brought(made, mirrors)
    assert there.resolve(newer) == newer
    assert bundle.find(after, mirrors) is not None
    assert [path.suffix for path in mirrors.iterdir()] == [".git"]
    assert not list(there.path.glob("*.bundle"))


def test_two_repositories_of_one_name_stay_apart(tmp_path: Path) -> None:
    one, other = Repository.make(tmp_path / "a" / "maps"), Repository.make(tmp_path / "b" / "maps")
    commits = [made.commit("Start", {"a.py": text}) for made, text in ((one, "1\n"), (other, "2\n"))]
    places = [brought(made, tmp_path / "mirrors") for made in (one, other)]
    assert places[0].path != places[1].path
    assert [there.resolve(commit) for there, commit in zip(places, commits, strict=True)] == commits


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "maps")
    made.commit("Start", {"a.py": "1\n"})
    state = bundle.state_of(GitRepository(made.path), "maps")
    with pytest.raises(SourceError, match="git fetch"):
        bundle.unpack(state, b"cut off", tmp_path / "mirrors")
    assert bundle.find(state, tmp_path / "mirrors") is None
