"""Outcomes in words."""

from dataclasses import replace

from envfarm.core import why
from envfarm.core.errors import Cause
from envfarm.core.outcome import Finding, Invalid
from envfarm.testing.factories import make_scored


def test_integrity_is_a_line_of_what_held_and_one_for_each_check_that_did_not() -> None:
    scored = make_scored(0.0)
    findings = (
        Finding("canaries (blind)", ok=True),
        Finding("exit status", ok=False, detail="status 1"),
        Finding("canaries (blind)", ok=True),
    )
    dropped = ("testbed/conftest.py", "testbed/shelf/__pycache__/labels.cpython-39.pyc", "testbed/.git/index")
    told = why.in_full(replace(scored, integrity=replace(scored.integrity, findings=findings, dropped=dropped)))
    assert "integrity check failed: exit status (status 1)" in told
    assert "integrity checks that held: canaries (blind)" in told
    assert told[-1] == "left out of the graded change, because it can alter the tests: testbed/conftest.py"


def test_a_failed_endpoint_does_not_read_as_the_policys_own_failure() -> None:
    assert why.verdict(Invalid("policy", retryable=True, detail="down")) == "invalid (endpoint)"
    assert why.verdict(Invalid("grader", retryable=True, detail="down")) == "invalid (grader)"


def test_one_is_no_plural() -> None:
    assert [why.counted(number, "episode") for number in (0, 1, 2)] == ["0 episodes", "1 episode", "2 episodes"]


def test_what_was_called_off_did_not_fail() -> None:
    told = why.in_full(Invalid(Cause.CANCELLED.value, retryable=False, detail="its tenant called it off"))
    assert told == ["invalid, and not a zero: it was called off", "its tenant called it off"]
    assert why.in_full(Invalid("store", retryable=True, detail=""))[0].startswith("invalid, and not a zero: keeping what happened failed")
