"""Outcomes in words."""

import pytest

from envfarm.cli import run_summary
from envfarm.core.outcome import Invalid
from envfarm.core.why import counted, verdict


def test_a_failed_endpoint_does_not_read_as_the_policys_own_failure() -> None:
    assert verdict(Invalid("policy", retryable=True, detail="down")) == "invalid (endpoint)"
    assert verdict(Invalid("grader", retryable=True, detail="down")) == "invalid (grader)"


def test_one_is_no_plural() -> None:
    assert [counted(number, "episode") for number in (0, 1, 2)] == ["0 episodes", "1 episode", "2 episodes"]


def test_episodes_without_a_verdict_are_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    run_summary.say_invalid(0, 3, what_to_do="nothing")
    run_summary.say_invalid(1, 1, what_to_do="once more")
    assert capsys.readouterr().err.splitlines() == [
        "error: 1 of 1 episode ended without a verdict (infrastructure failure, not a reward of 0)",
        "hint: fix the causes shown in the table; then once more",
    ]
