"""Histories of small real repositories."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.candidate import Rejection
from envfarm.core.errors import SourceError
from envfarm.core.source import SourceRecord
from envfarm.testing.git_repository import Repository
from task_builders.sources import clone, git_history
from task_builders.sources.git import GitRepository, NoSuchCommit
from task_builders.sources.path_rules import PathRules
from task_builders.sources.source_models import GitSource

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files, "
    "to deal in the Software without restriction. The above copyright notice and this permission notice shall be included in all copies.\n"
)


def source(path: Path, commits: dict[str, Any], **more: Any) -> GitSource:
    return GitSource.model_validate({"repository": str(path), "name": "acme/frob", "commits": commits, **more})


def read(given: GitSource, rules: PathRules, tmp_path: Path) -> list[SourceRecord | Rejection]:
    return list(git_history.read(given, rules, tmp_path / "mirrors"))


def records(given: GitSource, rules: PathRules, tmp_path: Path) -> list[SourceRecord]:
    return [r for r in read(given, rules, tmp_path) if isinstance(r, SourceRecord)]


def both(n: int) -> dict[str, str | bytes | None]:
    return {"src/a.py": f"a = {n}\n", "tests/test_a.py": f"assert {n}\n"}


def test_newest_counts_fitting_commits_and_accounts_for_the_others(
    repository: Callable[[], Repository], rules: PathRules, tmp_path: Path
) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    first, second = made.commit("one", both(1)), made.commit("two\n\nIt is better.", both(2))
    made.commit("docs", {"README": "x"})
    made.commit("source alone", {"src/a.py": "a = 9\n"})
    made.commit("tests alone", {"tests/b.py": ""})
    made.commit("tests and docs", {"tests/b.py": "b = 1\n", "README": "y"})
    found = read(source(made.path, {"newest": 1}), rules, tmp_path)
    assert [r.reason for r in found if isinstance(r, Rejection)] == [
        "the change touches tests, but no source",
        "the change touches tests alone",
        "the change touches no test",
        "the change touches neither",
    ]
    (record,) = [r for r in found if isinstance(r, SourceRecord)]
    assert (record.fix_commit, record.base_commit) == (second, first)
    assert (record.title, record.body, record.body_is_issue) == ("two", "It is better.", False)
    assert (record.licence, record.author, record.name) == ("MIT", "Ann", "acme/frob")
    assert record.url == f"{made.path}@{second}"


def test_a_draw_depends_on_its_seed_and_its_date_alone(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    commits = [made.commit(f"change {n}", both(n)) for n in range(8)]

    def drawn(**how: Any) -> set[str]:
        return {r.fix_commit for r in records(source(made.path, how), rules, tmp_path)}

    assert drawn(sample=3, seed=1) == drawn(sample=3, seed=1)
    assert len({frozenset(drawn(sample=3, seed=s)) for s in range(6)}) > 1
    day_of_the_sixth = "2020-09-20"
    assert drawn(sample=100, since=day_of_the_sixth) == set(commits[5:])


def test_lists_and_ranges_take_what_they_name(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    root = made.commit("start", both(0))
    one, two = made.commit("one", both(1)), made.commit("two", both(2))
    assert [r.fix_commit for r in records(source(made.path, {"list": [one[:9], two]}), rules, tmp_path)] == [one, two]
    assert [r.fix_commit for r in records(source(made.path, {"range": f"{root}.."}), rules, tmp_path)] == [two, one]
    (told,) = read(source(made.path, {"list": [root]}), rules, tmp_path)
    assert isinstance(told, Rejection)
    assert told.reason == "the commit has no parent to start from"


def test_odd_names_and_bytes_come_through_and_apply(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    base = made.commit("start", {"src/x y.py": "a\n", "tests/t.py": ""})
    changes: dict[str, str | bytes | None] = {
        "src/x y.py": b"\xff\xfe latin \xe9\r\n",
        os.fsdecode(b"src/\xe9t\xe9.py"): "new\n",
        "tests/tab\there.py": "t\n",
        'tests/quo"te.py': "q\n",
        "tests/data.bin": b"\0\1\2" * 50,
    }
    fix = made.commit("odd", changes)
    (record,) = records(source(made.path, {"newest": 1}), rules, tmp_path)
    assert record.digest.startswith("sha256:")
    made.git("checkout", "--quiet", base)
    subprocess.run(["git", "-C", made.path, "apply", "--index", "-"], input=record.patch.encode(errors="surrogateescape"), check=True)
    assert made.git("write-tree") == made.git("rev-parse", f"{fix}^{{tree}}")


def issues_file(tmp_path: Path, *rows: dict[str, Any]) -> str:
    file = tmp_path / "issues.jsonl"
    file.write_text("".join(json.dumps({"repo": "acme/frob", "title": f"title {r['number']}", "body": "words", **r}) + "\n" for r in rows))
    return str(file)


@pytest.mark.parametrize(
    ("message", "rows", "title"),
    [
        ("Do it\n\nFixes #5", [{"number": 5}], "title 5"),
        ("Do it\n\nResolves acme/frob#5", [{"number": 5}], "title 5"),
        ("Do it\n\ncloses https://github.com/acme/frob/issues/5", [{"number": 5}], "title 5"),
        ("Do it\n\nFixes other/thing#5", [{"number": 5}], "Do it"),
        ("Do it\n\n<!-- fixes #5 -->", [{"number": 5}], "Do it"),
        ("Do it, see #5", [{"number": 5}], "Do it, see #5"),
        ("Do it (#7)", [{"number": 7, "pull_request": {}, "body": "fixes #5"}, {"number": 5}], "title 5"),
        ("Do it (#7)", [{"number": 5, "pull_request": 7}], "title 5"),
        ("Do it (#7)", [{"number": 7, "pull_request": {}, "title": "The request"}], "The request"),
        ("Do it (#5)", [{"number": 5}], "title 5"),
    ],
)
def test_a_commit_finds_its_issue(
    repository: Callable[[], Repository], rules: PathRules, tmp_path: Path, message: str, rows: list[dict[str, Any]], title: str
) -> None:  # fmt: skip
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    made.commit(message, both(1))
    (record,) = records(source(made.path, {"newest": 1}, issues=issues_file(tmp_path, *rows)), rules, tmp_path)
    assert record.title == title
    assert record.body_is_issue == title.startswith("title")


def test_a_merge_and_a_pull_requests_head_lead_to_the_issue(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    made.git("checkout", "--quiet", "-b", "topic")
    merged = made.commit("work", both(1))
    made.git("checkout", "--quiet", "main")
    made.day = 3
    made.git("merge", "--quiet", "--no-ff", "-m", "Merge pull request #7 from ann/topic", "topic")
    headed = made.commit("more work", both(2))
    made.git("update-ref", "refs/pull/8/head", headed)
    rows = [{"number": 5, "pull_request": 7}, {"number": 6, "pull_request": 8}]
    found = {r.fix_commit: r.title for r in records(source(made.path, {"newest": 9}, issues=issues_file(tmp_path, *rows)), rules, tmp_path)}
    assert found == {merged: "title 5", headed: "title 6"}


def test_one_fix_of_two_issues_tells_both(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    made.commit("Do it\n\nFixes #5, #6", both(1))
    (record,) = records(source(made.path, {"newest": 1}, issues=issues_file(tmp_path, {"number": 5}, {"number": 6})), rules, tmp_path)
    assert record.title == "title 5"
    assert "## title 6" in record.body


def test_what_cannot_be_read_is_told_with_a_hint(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", both(0))
    made.commit("one", both(1))
    shallow = tmp_path / "shallow"
    made.git("clone", "--quiet", "--depth", "1", f"file://{made.path}", str(shallow))
    (tmp_path / "plain").mkdir()
    (made.path / "empty").mkdir()
    made.git("init", "--quiet", "--object-format=sha256", str(tmp_path / "sha256"))
    for path, complaint in (
        (tmp_path / "none", "no such repository"),
        (tmp_path / "plain", "not a git repository"),
        (made.path / "empty", "not a git repository, but inside one"),
        (made.path / ".git" / "objects", "not a git repository, but inside one"),
        (tmp_path / "sha256", "named by sha256"),
        (shallow, "shallow"),
    ):
        with pytest.raises(SourceError, match=complaint) as told:
            read(source(path, {"newest": 1}), rules, tmp_path)
        assert told.value.hint
    for commits in ({"list": ["0" * 40]}, {"range": "nothing..main"}):
        with pytest.raises(SourceError, match="no such commit"):
            read(source(made.path, commits), rules, tmp_path)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"number": 1}\n\n{"title": "x"}\n')
    with pytest.raises(SourceError, match=r"broken\.jsonl:3: .*`number` is missing"):
        read(source(made.path, {"newest": 1}, issues=str(broken)), rules, tmp_path)


def test_an_address_is_mirrored_and_serves_when_it_is_gone(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    fix = made.commit("one", both(1))
    made.git("update-ref", "refs/pull/3/head", fix)
    address = f"file://{made.path}"
    said: list[str] = []
    mirror = clone.open_repository(address, tmp_path / "mirrors", said.append)
    assert mirror.run("rev-parse", "refs/pull/3/head").decode().strip() == fix
    newer = made.commit("two", both(2))
    assert clone.open_repository(address, tmp_path / "mirrors").resolve("HEAD") == newer
    made.path.rename(tmp_path / "gone")
    assert clone.open_repository(address, tmp_path / "mirrors", said.append).resolve("HEAD") == newer
    assert "cannot be reached" in said[-1]
    with pytest.raises(SourceError, match="cannot be fetched"):
        clone.open_repository(f"file://{tmp_path}/never", tmp_path / "mirrors")


def test_what_a_commit_has_not_is_told_by_its_listing(repository: Callable[[], Repository]) -> None:
    made = repository()
    odd = {"a dir/x\ny": "1", ":(top)z": "2", "[ab]": "3"}
    commit = made.commit("start", odd)
    git = GitRepository(made.path)
    assert {path: git.read(commit, path) for path in odd} == {path: text.encode() for path, text in odd.items()}
    for missing in ("a dir", "a dir/x", "a", "*", ":(top)*", "no\nne", "a dir/x\ny/z"):
        assert git.read(commit, missing) is None, missing
    with pytest.raises(SourceError, match="not a tree object"):
        git.read("0" * 40, "a")
    assert git.resolve("main") == commit
    for missing in ("main~1", "0" * 40, "main:a dir", f"x\n{commit}", "--all"):
        with pytest.raises(NoSuchCommit):
            git.resolve(missing)


@pytest.mark.parametrize("command", ["cat-file blob", "diff --no-color", "cat-file --batch-check"])
def test_a_git_that_is_killed_says_nothing_of_a_commit(
    repository: Callable[[], Repository], rules: PathRules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT})
    fix = made.commit("one", both(1))
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh\ncase "$*" in *"{command}"*) kill -9 $$;; esac\nexec {shutil.which("git")} "$@"\n""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(SourceError, match="failed: status -9") as told:
        read(source(made.path, {"list": [fix]}), rules, tmp_path)
    assert not isinstance(told.value, NoSuchCommit)


def test_a_hostile_repository_runs_nothing(repository: Callable[[], Repository], rules: PathRules, tmp_path: Path) -> None:
    made = repository()
    made.commit("start", {"LICENSE": MIT, ".gitattributes": "*.py diff=evil filter=evil\n"})
    made.commit("one", both(1))
    witness = tmp_path / "ran"
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.fsmonitor", "core.pager", "filter.evil.smudge"):
        made.git("config", key, f"touch '{witness}'; cat")
    made.git("config", "diff.noprefix", "true")
    (record,) = records(source(made.path, {"newest": 1}), rules, tmp_path)
    assert "diff --git a/src/a.py b/src/a.py" in record.patch
    assert not witness.exists()


@pytest.mark.parametrize(
    ("repository_address", "expected"),
    [
        ("https://forge.example/acme/frob.git", "acme/frob"),
        ("git@forge.example:acme/frob", "acme/frob"),
        ("/srv/git/frob.git", "frob"),
        ("/srv/frob/.git", "frob"),
    ],
)
def test_names_follow_from_addresses(repository_address: str, expected: str) -> None:
    assert clone.name_of(repository_address) == expected
