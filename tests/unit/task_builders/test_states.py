"""The three states: which tests count, what is a flake, and how a broken state is recognized."""

import pytest

from envfarm.core.outcome import TestStatus
from envfarm.core.validation import State, StateRun
from envfarm.testing import small_task
from task_builders.validation import states
from task_builders.validation.repeat_conditions import STATES, order_of_states, record, variation
from task_builders.validation.statistics import wilson_lower

SEALED = frozenset({"tests/test_a.py"})
A, B = "tests/test_a.py::test_new", "tests/test_b.py::test_old"


def run(state: State, statuses: dict[str, TestStatus], repeat: int = 0) -> StateRun:
    return StateRun(state=state, repeat=repeat, statuses=statuses, exit_codes=(0,), seconds=1.0)


def decide(base: dict[str, TestStatus], tests: dict[str, TestStatus], fix: dict[str, TestStatus]) -> states.Verdict:
    runs = [run("base", base), run("base + tests", tests), run("base + tests + fix", fix)]
    return states.decide(runs, sealed_files=SEALED)


@pytest.mark.parametrize("before", ["failed", "error", None])
def test_fails_or_is_absent_before_and_passes_after(before: TestStatus | None) -> None:
    tests: dict[str, TestStatus] = {B: "passed"}
    if before:
        tests[A] = before
    verdict = decide({B: "passed"}, tests, {A: "passed", B: "passed"})
    assert verdict.fail_to_pass == (A,)
    assert verdict.pass_to_pass == (B,)
    assert states.gate_result(verdict, []).passed


@pytest.mark.parametrize(
    ("base", "tests", "fix", "why"),
    [
        ("passed", "passed", "failed", "failed with the fix"),
        ("passed", "passed", "skipped", "skipped with the fix"),
        ("skipped", "skipped", "passed", "skipped before the fix"),
        ("failed", "passed", "passed", "passed before the fix"),
    ],
)
def test_left_out_with_its_reason(base: TestStatus, tests: TestStatus, fix: TestStatus, why: str) -> None:
    verdict = decide({B: base}, {B: tests}, {B: fix})
    assert verdict.left_out == {B: why}
    assert (verdict.fail_to_pass, verdict.pass_to_pass) == ((), ())
    assert [s.reason for s in verdict.skipped] == [why]


def test_new_test_that_passes_before_the_fix_must_go_on_passing() -> None:
    assert decide({}, {A: "passed"}, {A: "passed"}).pass_to_pass == (A,)


def test_state_without_any_report_makes_only_sealed_tests_fail() -> None:
    verdict = decide({B: "passed"}, {}, {A: "passed", B: "passed"})
    assert verdict.fail_to_pass == (A,)
    assert verdict.left_out == {B: "absent before the fix"}


def test_one_flip_in_any_state_puts_a_test_in_the_ledger_and_out_of_the_plan() -> None:
    for flipping in STATES:
        runs = []
        for repeat in range(3):
            for state in STATES:
                flips = state == flipping and repeat == 2
                steady: TestStatus = "passed" if state == "base + tests + fix" else "failed"
                other: TestStatus = "failed" if steady == "passed" else "passed"
                runs.append(run(state, {A: other if flips else steady, B: "passed"}, repeat))
        verdict = states.decide(runs, sealed_files=SEALED)
        assert verdict.pass_to_pass == (B,)
        assert verdict.fail_to_pass == ()
        assert [(f.id, f.state) for f in verdict.ledger] == [(A, flipping)]
        assert "flaky" in verdict.left_out[A]
        assert states.reason(verdict.repeats) == states.NO_STEADY_F2P


def test_rejection_says_why_no_test_counts() -> None:
    passing = decide({A: "passed"}, {A: "passed"}, {A: "passed"})
    assert states.reason(passing.repeats) == "no FAIL_TO_PASS test"
    assert "passes without it too" in states.gate_result(passing, [run("base + tests + fix", {A: "passed"})]).detail
    silent = decide({}, {}, {})
    assert "no report" in states.gate_result(silent, [run("base + tests + fix", {})]).detail


def test_evidence_has_counts_and_logs_of_each_state() -> None:
    runs = [run(state, {A: "passed"}) for state in STATES]
    evidence = states.gate_result(states.decide(runs, sealed_files=SEALED), runs).evidence
    assert [row["passed"] for row in evidence["runs"]] == [1, 1, 1]
    assert set(evidence["logs"]) == set(STATES)


def test_five_of_five_is_worth_fifty_seven_percent() -> None:
    assert wilson_lower(5, 5) == pytest.approx(0.566, abs=0.001)
    assert wilson_lower(0, 5) == 0
    assert wilson_lower(0, 0) == 0
    assert wilson_lower(100, 100) > wilson_lower(5, 5)


def test_repeats_differ_in_seed_zone_cores_and_order_and_each_state_is_first_in_turn() -> None:
    drawn = [variation(n, (0, 1)) for n in range(5)]
    assert drawn[0].env == {}
    assert len({v.env.get("PYTHONHASHSEED") for v in drawn}) == 5
    assert len({v.env.get("TZ") for v in drawn}) == 5
    assert {len(v.cores) for v in drawn} == {0, 1}
    assert {order_of_states(n)[0] for n in range(6)} == set(STATES)
    assert all(sorted(order_of_states(n)) == sorted(STATES) for n in range(6))
    assert record(drawn[1], small_task.make().plan)["clock"] == "not shifted"


def test_a_doctest_of_a_source_file_is_no_test_of_the_task() -> None:
    doctest = "shelf/labels.py::shelf.labels.slug"
    runs = [
        run("base", {B: "passed", doctest: "passed"}),
        run("base + tests", {A: "failed", B: "passed", doctest: "failed"}),
        run("base + tests + fix", {A: "passed", B: "passed", doctest: "passed"}),
    ]
    verdict = states.decide(runs, sealed_files=SEALED, is_test=lambda path: path.startswith("tests/"))
    assert (verdict.fail_to_pass, verdict.pass_to_pass) == ((A,), (B,))
    assert verdict.left_out == {doctest: "in a file that the agent may change"}
