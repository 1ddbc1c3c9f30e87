"""The shell text that starts a program and prints what is compared; trials and a task's plan use the same. Pure.

Its standard output is compared; its exit status is nonzero if the program's is. A program about a repository is started in one that its
script has just made; the repository's state is printed without hashes and times, which are not the program's doing.
"""

import shlex
from typing import Literal

from task_builders.questions.repositories import FOLDER, SCRIPT

State = Literal["standard output", "files", "repository", "about a repository"]
"""What is compared: standard output, the file that a program leaves, the repository's state, or what it prints about a repository."""
IN_REPOSITORIES: tuple[State, ...] = ("repository", "about a repository")
PRINT_STATE = """
printf 'checked out: %s\\n' "$(git symbolic-ref -q --short HEAD || echo 'no branch')"
for ref in HEAD $(git for-each-ref --format='%(refname)' refs/heads refs/tags refs/remotes); do
  printf 'commits of %s: ' "$ref"; git log --format='%an: %B' "$ref" -- | tr -s '\\n' ' '; echo
done
git stash list --format='%gd' | while read -r stash; do
  printf 'stash: '; git stash show --include-untracked --name-only "$stash" | tr '\\n' ' '; git log -1 --format=%s "$stash" --
done
git ls-files -v | sed 's/^/index: /'
git ls-files | while read -r path; do printf 'in the index %s: ' "$path"; git show ":$path" | tr '\\n' '|'; echo; done
find . -path ./.git -prune -o -type f -print | sort | while read -r path; do printf 'file %s: ' "$path"; tr '\\n' '|' < "$path"; echo; done
git config --local --list | grep -E '^(branch|remote)[.]' | sort | sed 's/^/setting: /'
"""
"""Prints a repository's state. The instruction must contain its words, too (`terminal.make`)."""


def shell(state: State, program: str, output: str) -> str:
    """The shell text.

    Args:
        state: what is compared.
        program: the program's name in the directory where the text is run.
        output: the file that is compared; empty if there is none.
    """
    if state in IN_REPOSITORIES:
        begin = f"sh ./{SCRIPT} > /dev/null 2>&1 && cd {FOLDER} || exit 1\n"
        started = f"../{program} < /dev/null"
        return (
            f"{begin}exec {started}"
            if state == "about a repository"
            else f"{begin}{started} > /dev/null 2>&1 || exit $?\n{PRINT_STATE.strip()}"
        )
    shown = f" && cat -- {shlex.quote(output)}" if output else ""
    return f"./{program} < /dev/null{shown}"
