"""Blocks of git commands, and the roles of their words."""

import pytest

from task_builders.questions import git_commands
from task_builders.questions.git_commands import Role


def words(text: str) -> list[tuple[str, Role]]:
    """The words of a block that have a role."""
    way = git_commands.parse(text)
    assert way is not None
    return [(word.before + word.text + word.behind, word.role) for command in way.commands for word in command if word.role]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("git branch -m old new", [("old", Role.BRANCH), ("new", Role.NEW)]),
        ("git branch -m <newname>", [("newname", Role.NEW)]),
        ("git checkout -b topic 1a2b3c4d~2", [("topic", Role.NEW), ("1a2b3c4d~2", Role.COMMIT)]),
        ("git checkout topic -- a.txt b/c.txt", [("topic", Role.BRANCH), ("a.txt", Role.FILE), ("b/c.txt", Role.FILE)]),
        ("git restore --source topic -- a.txt", [("--source=topic", Role.BRANCH), ("a.txt", Role.FILE)]),
        ("git branch -u origin/topic", [("-u origin/topic", Role.UPSTREAM)]),
        ("git branch --set-upstream-to=origin/topic mine", [("--set-upstream-to=origin/topic", Role.UPSTREAM), ("mine", Role.BRANCH)]),
        ("git commit -m 'a message'", [("-m a message", Role.MESSAGE)]),
        ("git reset --hard [commit]", [("commit", Role.COMMIT)]),
        ("git rm --cached <file>", [("file", Role.FILE)]),
        ("$ git show 1a2b3c4d\ncommit 1a2b3c4d\nAuthor: Ann\n", [("1a2b3c4d", Role.COMMIT)]),
        ("git log -1 HEAD~3  # it's the third\n", []),
    ],
)
def test_words_stand_for_branches_commits_and_files(text: str, found: list[tuple[str, Role]]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "git push origin topic",
        "git add -p a.txt",
        "git commit --amend",
        "git branch | grep topic",
        "git diff a..b",
        "git log && rm -rf x",
        "git checkout $BRANCH",
        "cd x\ngit status",
        "Show the changes",
        "git rebase -i HEAD~3",
    ],
)
def test_what_needs_a_remote_a_person_or_more_of_the_shell_is_no_way(text: str) -> None:
    assert git_commands.parse(text) is None


@pytest.mark.parametrize(
    ("text", "prints"), [("git stash show -p", True), ("git branch", True), ("git branch topic", False), ("git stash", False)]
)
def test_commands_tell_or_change(text: str, *, prints: bool) -> None:
    way = git_commands.parse(text)
    assert way is not None
    assert way.prints is prints
