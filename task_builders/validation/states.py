"""The gate of the three states: which tests the fix makes pass, and which it must not break. Pure.

Input are runs of the suite at the base, with the fix's tests, and with the fix. A test counts only if all repeats of a state agree; flaky
tests are recorded in the ledger and left out of the plan, with the reason.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import TypeAdapter

from envfarm.core.candidate import Gate
from envfarm.core.frozen import Frozen
from envfarm.core.plan import Skipped
from envfarm.core.validation import Flake, GateResult, State, StateRun
from task_builders.validation import flakes
from task_builders.validation.flakes import ABSENT
from task_builders.validation.statistics import wilson_lower

BASE: State = "base"
WITH_TESTS: State = "base + tests"
WITH_FIX: State = "base + tests + fix"
ORDER: tuple[State, ...] = (BASE, WITH_TESTS, WITH_FIX)
NO_F2P = "no FAIL_TO_PASS test"
NO_STEADY_F2P = "no FAIL_TO_PASS test is stable over all repeats"
CHANGEABLE = "in a file that the agent may change"
EVIDENCE_IDS = 20
"""Maximum number of ids of each kind in a rejection's evidence."""
EVIDENCE_LOG_CHARS = 4000


def every(_path: str) -> bool:
    """Accepts every file: for a finished plan, whose tests are already selected."""
    return True


class Verdict(Frozen):
    """The result of the three states for each test."""

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    left_out: dict[str, str]
    """Test id → why it is not in the plan."""
    ledger: tuple[Flake, ...]
    repeats: int

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The tests left out, in the plan's form."""
        return tuple(Skipped(test, why) for test, why in sorted(self.left_out.items()))

    @property
    def figures(self) -> dict[str, Any]:
        """Counts for the report, and the confidence that the repeats give."""
        return {
            "fail_to_pass": len(self.fail_to_pass),
            "pass_to_pass": len(self.pass_to_pass),
            "left_out": dict(Counter(why.split(":")[0] for why in self.left_out.values())),
            "flakes": len(self.ledger),
            "repeats": self.repeats,
            "pass_rate_at_least": round(wilson_lower(self.repeats, self.repeats), 3),
            "confidence": 0.95,
            "rule": "a test counts when every repeat of a state agrees; the bound is Wilson's for a single test",
        }


def decide(runs: Sequence[StateRun], *, sealed_files: frozenset[str], is_test: Callable[[str], bool] = every) -> Verdict:
    """Judge every test that was seen with the fix in place.

    `sealed_files` are the files of the fix's test part: if they cannot be collected before the fix, their tests count as failing there.
    A test in a file that is neither sealed nor a test file by `is_test` (a doctest in a source file) is left out, since agents must be able
    to change that file.
    """
    seen = flakes.tallies(runs)
    broken = {run.state for run in runs if not run.statuses}
    ledger = flakes.ledger(runs)
    flaky = {flake.id: flakes.in_words(flake) for flake in ledger}
    fail_to_pass, pass_to_pass, left_out = [], [], {}
    for test in sorted(seen.get(WITH_FIX, {})):
        before = _steady(seen, WITH_TESTS, test)
        at_base = _steady(seen, BASE, test)
        after = _steady(seen, WITH_FIX, test)
        file = test.partition("::")[0]
        sealed = file in sealed_files
        if not sealed and not is_test(file):
            left_out[test] = CHANGEABLE
        elif test in flaky:
            left_out[test] = flaky[test]
        elif after != "passed":
            left_out[test] = f"{after} with the fix"
        elif before in {"failed", "error"} or (before == ABSENT and (sealed or WITH_TESTS not in broken)):
            fail_to_pass.append(test)
        elif before == "passed" and (sealed or at_base in {"passed", ABSENT}):
            pass_to_pass.append(test)
        else:
            left_out[test] = f"{before} before the fix"
    return Verdict(
        fail_to_pass=tuple(fail_to_pass),
        pass_to_pass=tuple(pass_to_pass),
        left_out=left_out,
        ledger=ledger,
        repeats=min(Counter(run.state for run in runs).values(), default=0),
    )


def failing_with_fix(runs: Sequence[StateRun]) -> frozenset[str]:
    """The tests that failed in any run with the fix in place."""
    statuses = [item for run in runs if run.state == WITH_FIX for item in run.statuses.items()]
    return frozenset(test for test, status in statuses if status in {"failed", "error"})


def gate_result(verdict: Verdict, runs: Sequence[StateRun]) -> GateResult:
    """At least one test must fail before the fix and pass with it, in every repeat."""
    figures = verdict.figures
    if verdict.fail_to_pass:
        detail = f"{len(verdict.fail_to_pass)} fail to pass, {len(verdict.pass_to_pass)} pass to pass, {in_repeats(verdict.repeats)}"
        return GateResult(gate=Gate.STATES, passed=True, detail=detail, evidence=figures)
    return GateResult(gate=Gate.STATES, passed=False, detail=_why_none(verdict, runs), evidence={**figures, **_evidence(verdict, runs)})


def reason(repeats: int) -> str:
    """The reason for the table of rejections."""
    return NO_STEADY_F2P if repeats > 1 else NO_F2P


def in_repeats(repeats: int) -> str:
    """How often the states were run, as text."""
    return f"{repeats} repeats of each state" if repeats > 1 else "one run of each state"


def _steady(seen: dict[State, dict[str, Counter[str]]], state: State, test: str) -> str:
    """A test's status in a state; the most frequent one if it varies (the caller has set flaky tests aside)."""
    counts = seen.get(state, {}).get(test)
    return counts.most_common(1)[0][0] if counts else ABSENT


def _why_none(verdict: Verdict, runs: Sequence[StateRun]) -> str:
    with_fix = [run for run in runs if run.state == WITH_FIX]
    if not any(run.statuses for run in with_fix):
        return "the suite gives no report with the fix in place"
    if not any("passed" in run.statuses.values() for run in with_fix):
        return "no test passes with the fix in place"
    doctests = sum(why == CHANGEABLE for why in verdict.left_out.values())
    others = f"; {doctests} tests {CHANGEABLE} do not count" if doctests else ""
    failing = sum(why.endswith("with the fix") and not why.startswith(("skipped", "xfailed")) for why in verdict.left_out.values())
    if failing:
        return f"every test that passes with the fix passes without it too; {failing} fail with the fix{others}"
    return f"every test that passes with the fix passes without it too{others}"


def _evidence(verdict: Verdict, runs: Sequence[StateRun]) -> dict[str, Any]:
    logs = {run.state: run.log_tail[-EVIDENCE_LOG_CHARS:] for run in runs}
    counts = [{"state": r.state, "repeat": r.repeat, "exit_codes": r.exit_codes, **Counter(r.statuses.values())} for r in runs]
    flips = TypeAdapter(tuple[Flake, ...]).dump_python(verdict.ledger[:EVIDENCE_IDS], mode="json")
    return {"runs": counts, "flakes_seen": flips, "left_out_first": dict(list(verdict.left_out.items())[:EVIDENCE_IDS]), "logs": logs}
