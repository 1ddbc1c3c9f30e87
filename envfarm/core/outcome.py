"""What an episode comes to. Validity is a type: a fault of the infrastructure cannot become a number. Standard library only, Python 3.8 on.

Made by grading (`Scored`) and by the runner (`Invalid`, `Censored`); what a trainer receives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Union

from envfarm.core.plan import Mode

TestStatus = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed"]


@dataclass(frozen=True)
class Finding:
    """One check of a grading's integrity: what was looked for, and what was seen."""

    check: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Integrity:
    """Whether a grading can be believed. A grading with a failed finding scores 0, and says which."""

    mode: Mode
    findings: tuple[Finding, ...] = ()
    dropped: tuple[str, ...] = ()
    """Paths of the agent's change that were not applied, because they decide what tests do."""

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(f.ok for f in self.findings)


@dataclass(frozen=True)
class Mismatch:
    """What a visible case wants, and what the program printed for it instead; long ones are cut."""

    case: str
    wanted: str
    printed: str
    exit_code: int | None
    """None if a signal ended the program."""


@dataclass(frozen=True)
class TestReport:
    """What the sealed tests said, by stable id."""

    statuses: dict[str, TestStatus] = field(default_factory=dict)
    fail_to_pass: dict[str, bool] = field(default_factory=dict)
    pass_to_pass: dict[str, bool] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    exit_codes: tuple[int | None, ...] = ()
    duration_s: float = 0.0
    log_tail: str = ""
    """What the tests printed last: their inputs and expected values, among others. For operators and gates alone, see `public`."""
    mismatch: Mismatch | None = None
    """Of the first visible case that fails, if no case that is held out ran before it. For operators and gates alone."""


@dataclass(frozen=True)
class Scored:
    """The agent's work was graded."""

    reward: float
    """0 to 1. For repository tasks 1 only when every FAIL_TO_PASS and PASS_TO_PASS test passes and the integrity holds."""
    components: dict[str, float]
    """`f2p` and `p2p`: shares of tests that pass; `integrity`: 1 or 0."""
    report: TestReport
    integrity: Integrity
    why: str
    """One sentence for people: why the reward is what it is."""
    kind: Literal["scored"] = "scored"


@dataclass(frozen=True)
class Invalid:
    """The infrastructure's fault, with evidence from outside the box. Never a zero."""

    cause: str
    retryable: bool
    detail: str
    kind: Literal["invalid"] = "invalid"


@dataclass(frozen=True)
class Censored:
    """The agent ran out of a budget; whether and how the sample counts is the trainer's choice."""

    budget: Literal["turns", "tokens", "seconds", "idle"]
    """`idle`: nobody called for a step-driven episode for so long."""
    partial: Scored | None
    """What the work at the end of the budget scores, where it was graded."""
    kind: Literal["censored"] = "censored"


Outcome = Union[Scored, Invalid, Censored]


def public(outcome: Outcome) -> Outcome:
    """The outcome as a trainer and its policy may see it: without what code beside the sealed tests can write into it.

    That is what was printed, and the ids of tests that the plan does not expect.
    """
    if isinstance(outcome, Scored):
        return _public(outcome)
    if isinstance(outcome, Censored) and outcome.partial is not None:
        return replace(outcome, partial=_public(outcome.partial))
    return outcome


def _public(scored: Scored) -> Scored:
    report = scored.report
    expected = {**report.fail_to_pass, **report.pass_to_pass}
    statuses = {test: status for test, status in report.statuses.items() if test in expected}
    return replace(scored, report=replace(report, statuses=statuses, log_tail="", mismatch=None))
