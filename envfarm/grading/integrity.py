"""The defences of a grading, and the checks that say whether its reports can be believed. Pure.

Used by the procedure and by the grader. Forgery cannot be prevented while the agent's code runs inside the test process; it is found:
by canaries, by exit statuses, by expected ids. What remains possible is told in docs/grading.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from envfarm.core.outcome import Finding, TestStatus
from envfarm.core.plan import Canary, TestCommand


class Defence(Enum):
    """The switches of a grading.

    All are on in every grading that counts. Only the attack gate and tests ever switch one off, to show that an attack which scores 0
    would have scored 1 without it.
    """

    FRESH_BOX = "fresh box"
    """Graded in a new box that the agent never was in; off: in the agent's own."""
    QUIESCE = "quiesce"
    """Everything that still runs is killed before a report is taken."""
    DROP_INFLUENCING = "drop influencing"
    """Changes to files that decide what tests do are dropped."""
    SAFE_PATHS = "safe paths"
    """Changes outside the work dir, below `.git`, through links or with `..` are dropped."""
    RESTORE_TESTS = "restore tests"
    """Sealed test files are put in place, whatever the agent made of them."""
    SECRET_REPORT = "secret report"  # noqa: S105 - a defence's name
    """Reports go to a path drawn anew for each grading."""
    CANARIES = "canaries"
    """Tests in disguise whose honest answers are known."""
    BLIND_CANARIES = "blind canaries"
    """They are also run alone, before the sealed tests are in the box, so that there is nothing to compare them with."""
    EXIT_AGREES = "exit agrees"
    """A command's exit status must fit its report."""
    ALL_IDS = "all ids"
    """A test that is not in a report has failed."""
    OFFLINE = "offline"
    """Boxes reach no network."""
    SEALED = "sealed"
    """The agent's box holds neither the tests, nor the solution, nor a later history."""
    CLEAN_ENV = "clean environment"
    """Commands start without a shell and with variables that change runners or loaders blanked."""
    OWN_SETTINGS = "own settings"
    """Commands name the runner's settings themselves; off: it reads those of the tree."""
    HELD_OUT = "held-out cases"
    """Programs are run on inputs that the agent was not shown; off: on the shown one alone."""
    OUTSIDE_PARSER = "outside parser"
    """Reports, and nothing else that the box says, are read, outside of it."""


ALL = frozenset(Defence)

IN_TIME = "command ends in time"
"""The name of the finding on a command's time limit."""

SETTLED = (("-c", "/dev/null"), ("--override-ini=addopts=",), ("-o", "addopts="))
"""Arguments by which plans keep runners from the settings of the tree, in either way of writing them."""

BLANKED = (
    "BASH_ENV",
    "ENV",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "PYTHONINSPECT",
    "PYTHONSTARTUP",
)
"""Variables that make a loader, a shell or a runner run something else. Blank means unset to all of them."""

BAD = frozenset({"failed", "error"})


def exit_agrees(command: TestCommand, exit_code: int | None, statuses: Mapping[str, TestStatus], *, all_passed: bool) -> Finding:
    """Whether an exit status fits the report that came with it.

    A run that honestly broke off (a crash, a module that cannot be imported) has an odd status and passes nothing: only a status that
    says success beside failures, or an odd one beside complete success, is a contradiction.
    """
    failures = sum(status in BAD for status in statuses.values())
    allowed = command.failed_exit_codes if failures else command.ok_exit_codes
    said = f"status {exit_code} beside {failures} failed of {len(statuses)} tests"
    excused = exit_code not in command.ok_exit_codes and not all_passed
    return Finding("exit status agrees with the report", exit_code in allowed or excused, said)


def canaries_answered(canaries: Iterable[Canary], copies: Mapping[str, TestStatus], real: Mapping[str, TestStatus], where: str) -> Finding:
    """Whether every canary answered as its original makes one expect. `copies` are the statuses of the run that held the canaries."""
    wrong, asked = [], 0
    for canary in canaries:
        if canary.origin and real.get(canary.origin) != "passed":
            continue  # the original fails honestly: the reward is 0 already, and what a copy of it says proves nothing
        asked += 1
        status = copies.get(canary.id)
        if not (status == "passed" if canary.kind == "renamed" else status in BAD):
            wrong.append(f"{canary.kind} {status or 'missing'}")
    detail = f"{asked - len(wrong)} of {asked} as expected" + (f"; wrong: {', '.join(sorted(set(wrong)))}" if wrong else "")
    return Finding(f"canaries {where}", not wrong, detail)
