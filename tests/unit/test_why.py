"""Outcomes in words."""

from dataclasses import replace

from envfarm.core import why
from envfarm.core.outcome import Finding
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
