"""Questions about a repository that show none: which ways of an answer are compared, and in what repositories."""

import shutil
import subprocess
from pathlib import Path

import pytest

from task_builders.questions import repositories, repository_ways, starting
from task_builders.questions.git_commands import Role
from task_builders.questions.joining import Misfit
from task_builders.questions.repositories import FOLDER, Needs
from task_builders.questions.understanding import Understood, understand
from task_builders.terminal import repository_words, sufficiency
from tests.unit.questions.asked import pre, question

ASKED = "<p>How do I rename the branch that I am on? It is called wrongname.</p>"


def programs(*answer: str, body: str = ASKED) -> list[str]:
    found = repository_ways.read(question(body, "".join(answer), tags=("git",)))
    return [] if isinstance(found, Misfit) or not found else [each.program.text.removeprefix("set -e\n") for each in found[0].solutions]


def printed(place: Path, *argv: str) -> str:
    return subprocess.run(argv, cwd=place, capture_output=True, text=True, check=True).stdout


def test_two_ways_are_compared_and_names_that_the_answer_alone_knows_are_read_from_files() -> None:
    found = programs(pre("git branch -m rightname"), "<p>Or:</p>", pre("git branch -m wrongname rightname"))
    assert found == ['git branch -m "$(cat ../new-branch)"\n', 'git branch -m wrongname "$(cat ../new-branch)"\n']


def test_the_same_command_with_another_name_of_a_commit_is_no_other_way() -> None:
    assert programs(pre("git reset --hard HEAD~1"), pre("git reset --hard <sha1>")) == []


def test_what_changes_something_is_what_the_answer_begins_with_and_no_step() -> None:
    assert programs(pre("git push origin x"), pre("git switch -c x"), pre("git checkout -b x")) == []
    assert (
        programs(
            pre("git reset --soft HEAD^"), "<p>Then take it out:</p>", pre("git reset HEAD <file>"), pre("git restore --staged <file>")
        )
        == []
    )
    assert len(programs(pre("git fetch origin"), pre("git rev-parse --abbrev-ref HEAD"), pre("git branch --show-current"))) == 2


def test_another_name_of_an_option_is_another_way() -> None:
    found = programs(pre("git diff --cached"), "<p><code>--staged</code> is a synonym for <code>--cached</code>.</p>")
    assert found == ["git diff --cached\n", "git diff --staged\n"]


def test_a_question_about_a_repository_has_repositories_as_its_variants() -> None:
    found = understand(question(ASKED, pre("git switch -c x") + pre("git checkout -b x"), tags=("git",)))
    assert isinstance(found, Understood)
    assert (found.state, found.tools, found.packages) == ("repository", ("git",), ("git",))
    assert [each.name for each in found.inputs] == ["repository.sh", "new-branch"]
    assert len({each.inputs for each in found.variants} | {found.inputs}) == len(found.variants) + 1


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("seed", range(3))
def test_a_repository_is_made_the_same_each_time_and_has_what_commands_name(tmp_path: Path, seed: int) -> None:
    needs = Needs(
        current="main",
        branches=("topic",),
        files=("app.js",),
        remote_branches=("origin/far",),
        parameters=(("commit", Role.COMMIT), ("branch", Role.BRANCH), ("file", Role.FILE)),
    )
    made = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        for each in repositories.draw(needs, seed):
            (place / each.name).write_text(each.text)
        (place / "solve").write_text("#!/bin/sh\n:\n")
        (place / "solve").chmod(0o755)
        made.append(printed(place, "/bin/sh", "-c", starting.shell("repository", "solve", "")))
        assert (place / "commit").read_text() == printed(place / FOLDER, "git", "rev-parse", "HEAD~3")
    assert made[0] == made[1]
    told = made[0].splitlines()
    assert told[0] == "checked out: main"
    assert sum(line.startswith("stash: ") for line in told) == 2
    assert any(line.startswith("commits of refs/heads/topic: ") for line in told)
    assert any(line.startswith("commits of refs/remotes/origin/far: ") for line in told)
    assert any(line.startswith("in the index app.js: ") for line in told)
    given = [each.text for each in repositories.draw(needs, seed)]
    assert sufficiency.unheard(made[0], given, repository_words.STATE) == []
