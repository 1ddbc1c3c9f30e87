"""Outcomes in words for people: in a cell, in a line, and in full. Called by commands and the API; prints nothing."""

from envfarm.core.errors import Cause
from envfarm.core.outcome import Censored, Integrity, Invalid, Mismatch, Outcome, Scored, TestReport

TESTS_SHOWN = 10
LOG_LINES = 25
CANARIES = "canaries, if this grading made any up, are among them: some must fail"
FAILED_PART = {
    "usage": "what was asked for",
    "task": "reading the task",
    "image": "making the environment",
    "sandbox": "the box",
    "policy": "the policy's endpoint",
    "gateway": "the model proxy",
    "grader": "grading",
    "store": "keeping what happened",
    "farm": "the farm's own process",
}
"""What failed, by an `Invalid`'s cause."""
IN_A_CELL = {"policy": "endpoint"}
"""A cause in another word for people, who would read `invalid (policy)` as the policy's own failure."""


def verdict(outcome: Outcome | None) -> str:
    """An outcome in a cell of a table."""
    match outcome:
        case None:
            return "not finished"
        case Scored():
            return f"{outcome.reward:g}"
        case Censored():
            return f"censored ({outcome.budget})"
        case Invalid():
            return f"invalid ({IN_A_CELL.get(outcome.cause, outcome.cause)})"


def reason(outcome: Outcome | None) -> str:
    """Why it is what it is, in a line."""
    match outcome:
        case None:
            return ""
        case Scored():
            return outcome.why
        case Invalid():
            return first_line(outcome.detail)
        case Censored():
            left = f"what was left scores {outcome.partial.reward:g}" if outcome.partial else "what was left was not graded"
            return f"{_cut(outcome)}; {left}"


def first_line(text: str) -> str:
    """The first line that says something."""
    return next((line for line in text.splitlines() if line.strip()), "")


def counted(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_full(outcome: Outcome) -> list[str]:
    """The verdict first, then what it rests on."""
    match outcome:
        case Scored():
            return [f"reward {outcome.reward:g}: {outcome.why}", *_tests(outcome.report), *_integrity(outcome.integrity)]
        case Invalid(cause=Cause.CANCELLED):
            return ["invalid, and not a zero: it was called off", outcome.detail]
        case Invalid():
            again = "it was tried as often as may help" if outcome.retryable else "trying again would not help by itself"
            return [f"invalid, and not a zero: {FAILED_PART.get(outcome.cause, outcome.cause)} failed ({again})", outcome.detail]
        case Censored():
            partial = in_full(outcome.partial) if outcome.partial else ["what was left was not graded"]
            return [f"censored: {_cut(outcome)}; whether what follows counts is the trainer's choice", *partial]


def _cut(outcome: Censored) -> str:
    return "nobody called for it any more" if outcome.budget == "idle" else f"the budget of {outcome.budget} ran out"


def _tests(report: TestReport) -> list[str]:
    lines = [f"{_share(report.fail_to_pass)} fail-to-pass tests pass, {_share(report.pass_to_pass)} pass-to-pass tests pass"]
    verdicts = {**report.fail_to_pass, **report.pass_to_pass}
    bad = [test for test, good in verdicts.items() if not good]
    lines += [f"  {report.statuses.get(test, 'not run')}: {test}" for test in bad[:TESTS_SHOWN]]
    if len(bad) > TESTS_SHOWN:
        lines.append(f"  and {len(bad) - TESTS_SHOWN} more")
    if report.mismatch is not None:
        lines += _mismatch(report.mismatch)
    if bad and report.log_tail.strip():
        lines += [f"the end of the tests' log ({CANARIES}):", *(f"  {line}" for line in report.log_tail.rstrip().splitlines()[-LOG_LINES:])]
    return lines


def _mismatch(seen: Mismatch) -> list[str]:
    ended = "ended by a signal" if seen.exit_code is None else f"exit status {seen.exit_code}"
    return [f"{seen.case} wants:", *_excerpt(seen.wanted), f"the program printed ({ended}):", *_excerpt(seen.printed)]


def _excerpt(text: str) -> list[str]:
    lines = text.rstrip("\n").split("\n")
    more = [f"  … {counted(len(lines) - LOG_LINES, 'more line')}"] if len(lines) > LOG_LINES else []
    return [*(f"  {line}" for line in lines[:LOG_LINES]), *more] if text else ["  nothing"]


def _share(verdicts: dict[str, bool]) -> str:
    return f"{sum(verdicts.values())} of {len(verdicts)}"


def _integrity(integrity: Integrity) -> list[str]:
    """What failed line by line; what held by name alone."""
    lines = [f"integrity check failed: {f.check}{f' ({f.detail})' if f.detail else ''}" for f in integrity.findings if not f.ok]
    if held := list(dict.fromkeys(f.check for f in integrity.findings if f.ok)):
        lines.append(f"integrity checks that held: {', '.join(held)}")
    if told := [path for path in integrity.dropped if not _is_by_product(path)]:
        lines.append(f"left out of the graded change, because it can alter the tests: {', '.join(told)}")
    return lines


def _is_by_product(path: str) -> bool:
    """Whether it is what running tests, or asking git, leaves behind in every work dir."""
    return "__pycache__/" in path or path.endswith("/.git/index")
