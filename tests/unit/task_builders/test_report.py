"""Task cards and the yield table report what was seen."""

import io
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from envfarm.core import digest, plan
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.ids import TaskDigest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.task import Attribution, Task
from envfarm.core.validation import AttackResult, Cost, Flake, GateResult, StateRun, ValidationReport
from envfarm.testing.factories import make_plan, make_task, passed_gates
from task_builders import build_display, progress, report
from task_builders.journal import ItemFailed, ItemRejected, ItemValid, Reached

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
COST = Cost(build_s=60, checkout_s=1, validate_s=120, layer_bytes=30 << 20, checkout_bytes=2 << 20)


def valid(number: int, project: str = "acme/rockets") -> ItemValid:
    return ItemValid(
        source_digest=digest.of_json(number),
        project=project,
        url="u",
        task=TaskDigest("t"),
        task_name="acme/rockets-x",
        seconds=90,
        cost=COST,
    )


def rejected(number: int, reached: Reached = "set up", reason: str = "no FAIL_TO_PASS test") -> ItemRejected:
    rejection = Rejection(source_digest=digest.of_json(number), name="acme/rockets", url="u", gate=Gate.STATES, reason=reason, seconds=30)
    return ItemRejected(rejection=rejection, reached=reached)


def failed(number: int) -> ItemFailed:
    return ItemFailed(source_digest=digest.of_json(number), project="acme/sails", url="u", error="no daemon\nmore", hint="start it")


def test_yield_counts_every_record_by_how_far_it_came() -> None:
    found = report.yield_of([valid(1), rejected(2), rejected(3, "candidate"), rejected(4, "record", "a bot made the change")], [failed(5)])
    rockets, sails = found.rows
    assert (rockets.records, rockets.candidates, rockets.set_up, rockets.valid, rockets.failed) == (4, 3, 2, 1, 0)
    assert (sails.records, sails.failed, sails.minutes_per_task) == (1, 1, None)
    assert rockets.minutes_per_task == 3.0
    assert rockets.own_mib_per_task == 2.0
    assert [(r.reason, r.count) for r in found.rejected] == [("no FAIL_TO_PASS test", 2), ("a bot made the change", 1)]
    assert found.total.records == 5
    assert report.yield_rows(found)[-1][0] == "all"
    assert "| acme/sails | 1 | 1 | 0 | 0 | 0 | 1 | – | – | 0.0 |" in report.yield_markdown(found)


def test_each_record_is_told_with_what_became_of_it() -> None:
    entries: list[ItemValid | ItemRejected | ItemFailed] = [
        valid(1).model_copy(update={"title": "Sums are wrong"}),
        valid(2).model_copy(update={"not_asked": (Gate.ATTACKS, Gate.MUTATION)}),
        rejected(3).model_copy(update={"title": "Sums are slow"}),
        failed(4),
    ]
    rows = [report.record_row(entry) for entry in entries]
    assert report.record_rows(rows) == [
        ("u", "Sums are wrong", "task acme/rockets-x", ""),
        ("u", "", "unchecked task acme/rockets-x", "left out: attacks, mutation score"),
        ("u", "Sums are slow", "rejected at three states", "no FAIL_TO_PASS test"),
        ("u", "", "not judged", "no daemon"),
    ]
    assert (rows[3].reason, rows[3].detail) == ("no daemon\nmore", "start it")


def guarded_task(*, canaries: bool = True) -> Task:
    canary = plan.Canary(kind="inverted", template="0.py", destination="tests/test_{token}.py", id="x", origin="tests/a.py::test_a")
    made = make_plan(
        fail_to_pass=("tests/a.py::test_a",),
        pass_to_pass=("tests/a.py::test_b",),
        canaries=(canary,) if canaries else (),
        skipped=(plan.Skipped("tests/a.py::test_c", 'flaky in "base": passed 4, failed 1'),),
    )
    author = Attribution(licence="MIT", author="Ada", url="https://example.org/rockets")
    return make_task(name="acme/rockets-x", instruction="Launch.", created_at=WHEN, attribution=author, plan=made)


def make_report(task: Task, *, good: bool = True) -> ValidationReport:
    run = StateRun(state="base", repeat=4, variation={"TZ": "UTC0"}, statuses={}, exit_codes=(0,), seconds=1.0)
    return ValidationReport(
        task=task.digest,
        environment=Environment(image=ImageRef(kind="host", digest=digest.of_bytes(b"host"))),
        provider="local",
        created_at=WHEN,
        gates=(GateResult(gate=Gate.STATES, passed=True, detail="1 | 1"), GateResult(gate=Gate.GOLD, passed=good, detail="5 of 5 score 1")),
        runs=(run,),
        flakes=(Flake(id="tests/a.py::test_c", state="base", counts={"passed": 4, "failed": 1}),),
        attacks=(AttackResult(attack="conftest", defence="drop influencing", reward=0.0, reward_undefended=1.0),),
        gold=(1.0,) * 5,
        nop=(0.0,) * 5,
        cost=COST,
    )


def test_card_says_why_a_task_can_be_believed() -> None:
    task = guarded_task()
    text = report.card_markdown(task, make_report(task))
    assert "The solution scored 1 in 5 of 5 gradings and doing nothing 0 in 5 of 5" in text
    assert "5 fresh offline boxes of each state" in text
    assert "1 of 1 exploits scored 0" in text
    assert "| conftest | 0 | 1 | drop influencing |" in text
    assert "| three states | yes | 1 / 1 |" in text
    assert 'flaky in "base": passed 4, failed 1' in text
    assert "MIT · Ada" in text


def test_tasks_that_were_spared_a_gate_are_not_counted_as_valid() -> None:
    spared = valid(2).model_copy(update={"not_asked": (Gate.ATTACKS,)})
    (row,) = report.yield_of([valid(1), spared]).rows
    assert (row.records, row.set_up, row.valid, row.unchecked) == (2, 2, 1, 1)


def test_card_of_an_unfinished_task_names_what_was_not_asked() -> None:
    task = guarded_task()
    gates = tuple(gate for gate in passed_gates() if gate.gate not in {Gate.ATTACKS, Gate.MUTATION})
    seen = make_report(task).model_copy(update={"gates": gates})
    assert "unchecked: not tried: attacks, mutation score in `local` boxes" in report.card_markdown(task, seen)
    card = report.card(task, seen)
    assert (card["valid"], card["not_asked"]) == (False, ["attacks", "mutation score"])
    assert "\nvalid in `local` boxes" in report.card_markdown(task, seen.model_copy(update={"gates": passed_gates()}))


def test_card_says_which_tests_graded_and_in_which_mode() -> None:
    task = guarded_task()
    whole, narrow = (make_report(task).model_copy(update={"narrow": narrow}) for narrow in (False, True))
    assert "Graded isolated, by the fix's own test files and 1 more; every gate by the whole plan." in report.card_markdown(task, whole)
    assert "nop, attacks and equivalents by the fix's own test files." in report.card_markdown(task, narrow)
    own = task.model_copy(update={"plan": replace(task.plan, test_files=("tests/a.py",))})
    card = report.card(own, narrow)
    assert (card["mode"], card["graded"], card["narrow"]) == ("isolated", "isolated, by the fix's own test files alone", True)


def test_card_of_a_bad_task_names_the_gate_and_what_is_weak() -> None:
    task = guarded_task(canaries=False)
    text = report.card_markdown(task, make_report(task, good=False))
    assert "not valid: gold" in text
    assert "have no canary" in text


def test_card_as_json_has_every_part() -> None:
    task = guarded_task()
    card = report.card(task, make_report(task))
    assert card["canaries"] == {"inverted": 1}
    assert card["variations"] == [{"state": "base", "repeat": 4, "seconds": 1.0, "TZ": "UTC0"}]
    assert card["skipped"]["tests/a.py::test_c"].startswith("flaky")
    assert [g["gate"] for g in card["gates"]] == ["three states", "gold"]


def test_piped_progress_is_one_plain_line_for_each_thing_worth_telling() -> None:
    text = io.StringIO()
    with build_display.watching(Console(file=text, force_terminal=False, width=300)) as watch:
        watch(progress.ItemStarted(item=digest.of_json(1), title="acme/rockets: Launch [now]"))
        watch(progress.ItemDone(item=digest.of_json(4), result=rejected(4, "record")))
        watch(progress.ItemDone(item=digest.of_json(1), result=valid(1)))
        watch(progress.ItemDone(item=digest.of_json(5), result=failed(5)))
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert "Launch [now]" in lines[0]
    assert "VALID acme/rockets-x in 90 s" in lines[1]
    assert lines[2].endswith("not judged: no daemon (start it)")


def test_a_task_that_was_spared_a_gate_is_not_called_valid() -> None:
    line = build_display.result_line(valid(1).model_copy(update={"not_asked": (Gate.ATTACKS,)}))
    assert line.endswith("UNCHECKED (without attacks) acme/rockets-x in 90 s")


def test_terminal_progress_shows_the_stage_and_drops_what_is_done() -> None:
    text = io.StringIO()
    with build_display.watching(Console(file=text, force_terminal=True, width=120)) as watch:
        watch(progress.ItemStarted(item=digest.of_json(1), title="acme/rockets: Launch"))
        watch(progress.ItemAt(item=digest.of_json(1), stage="gold, 5 times"))
        watch(progress.ItemDone(item=digest.of_json(1), result=valid(1)))
    assert "VALID acme/rockets-x" in text.getvalue()
    assert "1 valid, 0 rejected, 0 not judged" in text.getvalue()
