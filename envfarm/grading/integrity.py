"""The defences of a grading, and the checks that decide whether its reports can be believed. Pure.

The agent's code runs inside the test process, so forgery cannot be prevented. It is detected by canaries, exit statuses and expected ids;
docs/grading.md lists what remains possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from envfarm.core.outcome import Finding, TestStatus
from envfarm.core.plan import Canary, TestCommand


class Defence(Enum):
    """The switches of a grading.

    All are on in every grading that counts. The attack gate and tests switch some off, to show that an attack which scores 0 would score 1
    without them; the gate "mutation score" leaves out the canaries where the tests alone give 0.
    """

    FRESH_BOX = "fresh box"
    """Grade in a new box in which the agent never ran; off: in the agent's own box."""
    QUIESCE = "quiesce"
    """Kill every running process before a report is taken."""
    DROP_INFLUENCING = "drop influencing"
    """Changes to files that decide what tests do are dropped."""
    SAFE_PATHS = "safe paths"
    """Changes outside the work dir, below `.git`, through links or with `..` are dropped."""
    RESTORE_TESTS = "restore tests"
    """Sealed test files are put in place, whatever the agent did to them."""
    SECRET_REPORT = "secret report"  # noqa: S105 - a defence's name
    """Reports go to a path drawn anew for each grading."""
    CANARIES = "canaries"
    """Renamed and altered copies of tests, whose honest results are known."""
    BLIND_CANARIES = "blind canaries"
    """Canaries also run alone, before the sealed tests are in the box, so that copies cannot be compared with originals."""
    EXIT_AGREES = "exit agrees"
    """A command's exit status must fit its report."""
    ALL_IDS = "all ids"
    """A test that is not in a report has failed."""
    OFFLINE = "offline"
    """Boxes have no network."""
    SEALED = "sealed"
    """The agent's box holds neither the tests, nor the solution, nor later history."""
    CLEAN_ENV = "clean environment"
    """Commands start without a shell, and variables that change runners or loaders are blanked."""
    OWN_SETTINGS = "own settings"
    """Commands name the runner's settings themselves; off: the runner reads the settings of the tree."""
    HELD_OUT = "held-out cases"
    """Programs are run on inputs that the agent was not shown; off: on the visible input alone."""
    OUTSIDE_PARSER = "outside parser"
    """Only reports are read, and they are parsed outside the box."""


ALL = frozenset(Defence)

IN_TIME = "command ends in time"
"""The name of the finding on a command's time limit."""

SETTLED = (("-c", "/dev/null"), ("--override-ini=addopts=",), ("-o", "addopts="))
"""Arguments by which plans keep runners from reading the settings of the tree, in both spellings."""

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
"""Variables that make a loader, a shell or a runner run something else. All of these treat a blank value as unset."""

BAD = frozenset({"failed", "error"})


def exit_agrees(command: TestCommand, exit_code: int | None, statuses: Mapping[str, TestStatus], *, all_passed: bool) -> Finding:
    """Whether an exit status fits the report that came with it.

    A run that honestly broke off (a crash, a module that cannot be imported) has an unusual status and passes nothing. Only two cases
    contradict: a success status with failures in the report, and an unusual status with every expected test passed.
    """
    failures = sum(status in BAD for status in statuses.values())
    allowed = command.failed_exit_codes if failures else command.ok_exit_codes
    detail = f"status {exit_code} with {failures} failed of {len(statuses)} tests"
    excused = exit_code not in command.ok_exit_codes and not all_passed
    return Finding("exit status agrees with the report", exit_code in allowed or excused, detail)


def canaries_answered(canaries: Iterable[Canary], copies: Mapping[str, TestStatus], real: Mapping[str, TestStatus], where: str) -> Finding:
    """Whether every canary has the status that its kind calls for. `copies` are the statuses of the run that held the canaries."""
    wrong, asked = [], 0
    for canary in canaries:
        if canary.origin and real.get(canary.origin) != "passed":
            continue  # the original does not pass: the reward is 0 already, and the status of a copy proves nothing
        asked += 1
        status = copies.get(canary.id)
        if not (status == "passed" if canary.kind == "renamed" else status in BAD):
            wrong.append(f"{canary.kind} {status or 'missing'}")
    detail = f"{asked - len(wrong)} of {asked} as expected" + (f"; wrong: {', '.join(sorted(set(wrong)))}" if wrong else "")
    return Finding(f"canaries {where}", not wrong, detail)
