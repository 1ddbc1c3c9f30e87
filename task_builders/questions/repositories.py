"""Draws repositories for questions that are about one and show none, as scripts of git commands. Pure and seeded.

Each has what a used repository has: branches, one of them of a remote, a tag, stashes, staged and unstaged changes, untracked files. So one
can see both what a command changes and what it leaves alone. Dates are fixed, so that hashes are the same wherever the script runs.
"""

import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from task_builders.questions.git_commands import Role
from task_builders.questions.joining import InputFile

SCRIPT = "repository.sh"
FOLDER = "repository"
"""Directory that the script creates beside itself."""
VOWELS, CONSONANTS = "aeiou", "bdfgklmnprstv"
PEOPLE = (("Ada Moor", "ada"), ("Ben Hale", "ben"), ("Cleo Voss", "cleo"))
KINDS = (".txt", ".md", ".cfg", ".py")
HEAD = f"""#!/bin/sh
# Makes the repository anew: the folder `{FOLDER}` beside this file.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
rm -rf "$here/{FOLDER}"
git init -q -b {{current}} "$here/{FOLDER}"
cd "$here/{FOLDER}"
git config user.name 'Dana Reed'
git config user.email 'dana@example.org'
git config advice.detachedHead false
day=10
record() {{{{ # whose name, whose address, what
  day=$((day + 1))
  when="2024-03-${{{{day}}}}T10:00:00+00:00"
  git add -A
  GIT_AUTHOR_NAME="$1" GIT_AUTHOR_EMAIL="$2" GIT_AUTHOR_DATE="$when" GIT_COMMITTER_DATE="$when" git commit -q -m "$3"
}}}}
export GIT_AUTHOR_DATE='2024-05-01T10:00:00+00:00' GIT_COMMITTER_DATE='2024-05-01T10:00:00+00:00'
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """What commands name."""

    current: str = ""
    """The branch that is checked out; drawn if empty."""
    branches: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    remote_branches: tuple[str, ...] = ()
    commits: int = 4
    """Minimum number of commits of the branch that is checked out."""
    parameters: tuple[tuple[str, Role], ...] = ()
    """Files that hold a name, and the role of that name."""
    busy: bool = True
    """Whether there are uncommitted changes."""


class _Drawn:
    """Draws words that are all different."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a draw that can be repeated, no secret
        self._given: set[str] = set()

    def word(self, syllables: int = 2) -> str:
        while True:
            parts = [self.random.choice(CONSONANTS) + self.random.choice(VOWELS) for _ in range(syllables)]
            word = "".join(parts) + self.random.choice(CONSONANTS)
            if word not in self._given:
                self._given.add(word)
                return word

    def line(self) -> str:
        return " ".join(self.word() for _ in range(3))

    def file(self) -> str:
        return self.word() + self.random.choice(KINDS)


def draw(needs: Needs, seed: int) -> tuple[InputFile, ...]:
    """The script that makes a repository, and the parameter files, of one line each."""
    drawn = _Drawn(seed)
    current = needs.current or drawn.word(3)
    tracked = [*needs.files, *(drawn.file() for _ in range(3)), f"{drawn.word()}/{drawn.file()}"]
    others = [*needs.branches, *(drawn.word(3) for _ in range(2))]
    remote = [*needs.remote_branches, f"{drawn.word()}/{drawn.word(3)}"]
    values = {
        Role.NEW: [f"{drawn.word()}-{drawn.word()}" for _ in range(3)],
        Role.BRANCH: [current, *others],
        Role.UPSTREAM: remote[::-1],
        Role.FILE: tracked[len(needs.files) :],
        Role.MESSAGE: [drawn.line().capitalize() for _ in range(3)],
    }
    lines: list[str] = []
    files: list[InputFile] = []
    back = iter((3, 1, 2))
    for name, role in needs.parameters:
        if role is Role.COMMIT:
            lines.append(f'git rev-parse HEAD~{next(back, 1)} > "$here/{name}"')
        else:
            files.append(InputFile(name, values[role].pop(0) + "\n"))
    script = [HEAD.format(current=current), *_history(drawn, needs, tracked, others, seed), *_remotes(remote)]
    script += [*_stashes(drawn, tracked), *(_work(drawn, needs, tracked, seed) if needs.busy else ()), *lines]
    return (InputFile(SCRIPT, "\n".join([*script, ""])), *files)


def _write(path: str, *lines: str) -> str:
    folder = f"mkdir -p {shlex.quote(path.rpartition('/')[0])} && " if "/" in path else ""
    return f"{folder}printf '%s\\n' {' '.join(map(shlex.quote, lines))} > {shlex.quote(path)}"


def _append(drawn: _Drawn, path: str) -> str:
    return f"printf '%s\\n' '{drawn.line()}' >> {shlex.quote(path)}"


def _record(drawn: _Drawn, what: str) -> str:
    name, address = drawn.random.choice(PEOPLE)
    return f"record '{name}' {address}@example.org {shlex.quote(what)}"


def _history(drawn: _Drawn, needs: Needs, tracked: list[str], others: list[str], seed: int) -> Iterator[str]:
    """Commits of the current branch, in some repositories with a merge; then the other branches, each with commits of its own."""
    ignored = f"*.{drawn.word()}"
    yield _write(".gitignore", ignored)
    yield _write(ignored.replace("*", drawn.word()), drawn.line())
    for path in tracked:
        yield _write(path, *(drawn.line() for _ in range(3)))
    yield _record(drawn, f"Begin with {drawn.word()}")
    if seed % 3 == 2:  # noqa: PLR2004 - every third
        merged = drawn.word(3)
        yield f"git checkout -q -b {merged}\n{_write(drawn.file(), drawn.line())}\n{_record(drawn, f'Try {drawn.word()}')}"
        yield f"git checkout -q - && git merge -q --no-ff -m 'Merge {merged}' {merged}"
    for _ in range(needs.commits + 1 + seed % 3):
        changed = drawn.random.sample(tracked, 2)
        yield f"{_write(changed[0], *(drawn.line() for _ in range(3)))}\n{_append(drawn, changed[1])}"
        yield _record(drawn, f"Change {drawn.word()} and {drawn.word()}")
    yield "git tag -m 'A release' v1.0 HEAD~1"
    for branch in others:
        yield f"git checkout -q -b {shlex.quote(branch)}"
        for path in (*needs.files, drawn.random.choice(tracked)):
            yield _write(path, *(drawn.line() for _ in range(2)))
        yield f"{_record(drawn, f'Rework {drawn.word()}')}\ngit checkout -q -"


def _remotes(branches: list[str]) -> Iterator[str]:
    for name in dict.fromkeys(each.partition("/")[0] for each in branches):
        yield f"git config remote.{name}.url https://example.org/{name}.git"
        yield f"git config remote.{name}.fetch '+refs/heads/*:refs/remotes/{name}/*'"
    for each in branches:
        yield f"git update-ref refs/remotes/{shlex.quote(each)} HEAD~1"


def _stashes(drawn: _Drawn, tracked: list[str]) -> Iterator[str]:
    for _ in range(2):
        yield _append(drawn, drawn.random.choice(tracked))
        yield f"git stash push -q -m 'Later: {drawn.word()}'"


def _work(drawn: _Drawn, needs: Needs, tracked: list[str], seed: int) -> Iterator[str]:
    """Uncommitted changes. Files that commands name are changed in some repositories only, since git refuses some commands then."""
    free = tracked[len(needs.files) :]
    staged, unstaged = drawn.random.sample(free, 2)
    yield f"{_write(staged, drawn.line(), drawn.line())}\ngit add -A"
    yield _append(drawn, unstaged)
    if seed % 2:
        for path in needs.files:
            yield _append(drawn, path)
    yield _write(drawn.file(), drawn.line())
    yield _write(f"{drawn.word()}/{drawn.file()}", drawn.line())
