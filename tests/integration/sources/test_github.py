"""Issues and fixes of a made-up project, from an API on loopback and a repository on disk."""

from pathlib import Path
from typing import Any

import pytest

from envfarm.core.candidate import Rejection
from envfarm.core.source import SourceKind, SourceRecord
from envfarm.testing.git_repository import Repository
from envfarm.testing.scripted_server import Reply, ScriptedServer
from task_builders.sources import github
from task_builders.sources.github import GithubAccess
from task_builders.sources.path_rules import PathRules
from task_builders.sources.source_models import GithubSource
from tests.integration.sources.conftest import HeldClock

ISSUES = "/repos/acme/frob/issues?state=closed&sort=created&direction=asc&per_page=100"
PULLS = "/repos/acme/frob/pulls?state=closed&sort=created&direction=asc&per_page=100"
DAY = "2024-03-0{}T00:00:00Z"


def issue(number: int, **more: Any) -> dict[str, Any]:
    url = f"https://github.com/acme/frob/issues/{number}"
    return {"number": number, "title": f"issue {number}", "body": "words", "html_url": url, "user": {"login": "ann"}, "comments": 0, **more}


def pull(number: int, merge_commit: str, day: int = 1) -> dict[str, Any]:
    return {"number": number, "merge_commit_sha": merge_commit, "merged_at": DAY.format(day), "updated_at": DAY.format(day)}


@pytest.fixture
def project(server: ScriptedServer, upstream: Repository) -> dict[str, str]:
    """A project with a squashed, a merged and a rebased pull request, and a commit that closed an issue."""
    git = upstream.git

    def commit(message: str, **files: str) -> str:
        paths = {"source": "src/a.py", "test": "tests/a.py", "text": "README"}
        return upstream.commit(message, {paths[name]: content for name, content in files.items()})

    made = {"start": commit("start", source="0", test="0")}
    made["squashed"] = commit("Squashed (#11)", source="1", test="1")
    git("checkout", "--quiet", "-b", "merged")
    commit("half", source="2")
    made["head"] = commit("other half", test="2")
    git("checkout", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "-m", "Merge pull request #12 from ann/merged", "merged")
    made["merged"] = git("rev-parse", "HEAD")
    git("checkout", "--quiet", "-b", "rebased", made["squashed"])
    git("update-ref", "refs/pull/13/head", git("rev-parse", "HEAD"))
    git("checkout", "--quiet", "main")
    commit("rebased one", source="3")
    made["rebased"] = commit("rebased two", test="3")
    git("checkout", "--quiet", "-b", "before-rebase", made["squashed"])
    commit("rebased one", source="3")
    commit("rebased two", test="3")
    git("update-ref", "refs/pull/13/head", "HEAD")
    git("checkout", "--quiet", "main")
    made["closing"] = commit("Do it at last", source="4", test="4")
    made["text"] = commit("Words (#14)", text="x")
    server.on(
        "/repos/acme/frob",
        Reply(body={"full_name": "acme/frob", "clone_url": f"file://{upstream.path}", "license": {"spdx_id": "MIT"}}),
    )
    server.on(
        ISSUES,
        Reply(
            body=[
                *(issue(n) for n in (1, 2, 3, 4)),
                issue(11, pull_request={}, body="Fixes #1"),
                issue(12, pull_request={}, body="closes acme/frob#2"),
                issue(13, pull_request={}, title="The rebased request", body="no issue"),
                issue(14, pull_request={}, body="resolves #3"),
            ]
        ),
    )
    server.on(
        PULLS, Reply(body=[pull(11, made["squashed"]), pull(12, made["merged"]), pull(13, made["rebased"]), pull(14, made["text"], 9)])
    )
    closed = {"event": "closed", "commit_id": made["closing"], "created_at": DAY.format(5)}
    server.on("/repos/acme/frob/issues/4/timeline?per_page=100", Reply(body=[{"event": "labeled"}, closed]))
    said = {"user": {"login": "bob"}, "body": "me too", "created_at": DAY.format(1)}
    for number in (1, 2, 3, 4):
        server.on(f"/repos/acme/frob/issues/{number}/comments?per_page=100", Reply(body=[said]))
    return made


def read(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock, **more: Any) -> list[SourceRecord | Rejection]:
    source = GithubSource.model_validate({"repository": "acme/frob", "base_url": server.url, **more})
    return list(github.read(source, rules, tmp_path / "kept", GithubAccess("t0ken", patience=clock.patience())))


def test_fixes_are_joined_to_their_issues(
    server: ScriptedServer, project: dict[str, str], rules: PathRules, tmp_path: Path, clock: HeldClock
) -> None:  # fmt: skip
    found = read(server, rules, tmp_path, clock)
    records = {r.title: r for r in found if isinstance(r, SourceRecord)}
    assert set(records) == {"issue 1", "issue 2", "issue 4", "The rebased request"}
    assert [r.reason for r in found if isinstance(r, Rejection)] == ["the change touches neither"]
    squashed, merged, rebased = records["issue 1"], records["issue 2"], records["The rebased request"]
    assert (squashed.kind, squashed.fix_commit, squashed.base_commit) == (SourceKind.GITHUB, project["squashed"], project["start"])
    assert (squashed.licence, squashed.author, squashed.body_is_issue) == ("MIT", "ann", True)
    assert [c.body for c in squashed.comments] == ["me too"]
    assert (merged.fix_commit, merged.base_commit) == (project["merged"], project["squashed"])
    assert "src/a.py" in merged.patch
    assert "tests/a.py" in merged.patch
    assert (rebased.fix_commit, rebased.base_commit, rebased.body_is_issue) == (project["rebased"], project["merged"], False)
    assert records["issue 4"].fix_commit == project["closing"]


def test_a_second_run_asks_only_for_what_may_have_changed(
    server: ScriptedServer, project: dict[str, str], rules: PathRules, tmp_path: Path, clock: HeldClock
) -> None:  # fmt: skip
    first = read(server, rules, tmp_path, clock)
    asked = len(server.asked)
    assert read(server, rules, tmp_path, clock) == first
    assert server.paths()[asked:] == ["/repos/acme/frob", ISSUES, PULLS]


def test_since_and_limit_bound_what_is_read(
    server: ScriptedServer, project: dict[str, str], rules: PathRules, tmp_path: Path, clock: HeldClock
) -> None:  # fmt: skip
    recent = read(server, rules, tmp_path, clock, since="2024-03-04")
    assert [r.title for r in recent if isinstance(r, SourceRecord)] == ["issue 4"]
    assert sum(isinstance(r, SourceRecord) for r in read(server, rules, tmp_path, clock, limit=2)) == 2


def test_a_renamed_repository_is_read_under_its_new_name(
    server: ScriptedServer, project: dict[str, str], rules: PathRules, tmp_path: Path, clock: HeldClock
) -> None:  # fmt: skip
    server.on("/repos/old/frob", Reply(301, {}, {"Location": f"{server.url}/repos/acme/frob"}))
    found = read(server, rules, tmp_path, clock, repository="old/frob")
    assert {r.name for r in found} == {"acme/frob"}
    assert sum(isinstance(r, SourceRecord) for r in found) == 4


def test_a_commit_that_is_not_in_the_repository_is_told(
    server: ScriptedServer, project: dict[str, str], rules: PathRules, tmp_path: Path, clock: HeldClock
) -> None:  # fmt: skip
    server.on(PULLS, Reply(body=[pull(11, "f" * 40)]))
    reasons = [r.reason for r in read(server, rules, tmp_path, clock, limit=1) if isinstance(r, Rejection)]
    assert reasons == ["the merged commit is not in the repository"]
