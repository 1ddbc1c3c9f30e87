"""Answers' programs in real boxes: those that do what is wanted, and those that misbehave."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core.protocols import Box
from task_builders.questions import box_runs, trial
from task_builders.questions.understanding import Understood, understand
from tests.integration.host_box import host_box
from tests.unit.questions.asked import ASKED, TABLE, pre, question

SORTED = 'python3 -c \'print(*sorted(open("x.txt")), sep="", end="")\''


@pytest.fixture
async def box(tmp_path: Path, boxd: Path) -> AsyncIterator[Box]:
    async with host_box(tmp_path / "home", boxd) as opened:
        yield opened


def understood(*answers: str) -> Understood:
    found = understand(question(ASKED, *answers))
    assert isinstance(found, Understood), found
    return found


async def test_two_answers_that_agree_decide_the_variants(box: Box) -> None:
    _, found = await trial.run(box, understood(pre("sort x.txt"), pre(SORTED)))
    assert found.reproduced
    assert found.enough
    assert "one line" in found.decided
    assert found.undecided == ()
    assert found.verdict == trial.GOOD


async def test_answers_that_disagree_are_evidence(box: Box) -> None:
    _, found = await trial.run(box, understood(pre("sort x.txt"), pre("sort -u x.txt")))
    assert "repeated" in found.undecided
    assert "repeated" not in found.decided
    assert {r.answer for r in found.runs if r.case == "repeated"} == {10, 11}


async def test_of_one_answer_alone_only_what_is_foretold_counts(box: Box) -> None:
    _, found = await trial.run(box, understood(pre("sort x.txt"), pre("sort -r x.txt")))
    assert found.reproduced
    assert found.others == ()
    assert {each.by for each in found.decided.values()} <= {trial.FORETOLD, trial.SAME_LINES}
    assert "large" in found.undecided


async def test_words_of_the_asker_stay_in_other_inputs(box: Box) -> None:
    for said, stays in (("", False), ("Where does `a` stand?", True)):
        _, found = await trial.run(box, replace(understood(pre("sort x.txt")), plain_words=said))
        assert ("a" in found.decided["other words"].output.split()) is stays


async def test_an_output_that_is_not_wanted_is_told(box: Box) -> None:
    _, found = await trial.run(box, understood(pre("sort -r x.txt")))
    assert (found.reproduced, found.verdict) == (False, trial.PRINTS_OTHERS)


async def test_where_the_accepted_answer_prints_something_else_another_may_print_what_the_asker_shows(box: Box) -> None:
    _, found = await trial.run(box, understood(pre("sort -r x.txt"), pre("sort x.txt"), pre(SORTED)))
    assert (found.reproduced, found.answer, len(found.others)) == (True, 11, 1)


async def test_the_files_are_named_as_the_chosen_program_reads_them(box: Box) -> None:
    asked = understood(pre("cat x.txt | tail -n 1"), pre("sort y.txt"))
    reading, found = await trial.run(box, asked)
    assert found.reproduced
    assert found.answer == 11
    assert [each.name for each in asked.inputs] == ["x.txt"]
    assert [each.name for each in reading.inputs] == ["y.txt"]
    assert all(name == "y.txt" for each in found.decided.values() for name, _ in each.inputs)


async def test_what_comes_of_each_record_foretells_what_comes_of_others(box: Box) -> None:
    body = f"<p>I have a file <code>x.txt</code>:</p>{pre(TABLE)}<p>The expected output is:</p>{pre('2' + chr(10) + '1' + chr(10))}"
    found = understand(question(body, pre("awk '{print $2}' x.txt")))
    assert isinstance(found, Understood)
    _, tried = await trial.run(box, found)
    by = {name: each.by for name, each in tried.decided.items()}
    assert by["many records"] == by["one record"] == trial.RECORD_BY_RECORD
    assert tried.enough


async def test_of_several_readings_the_one_that_prints_what_is_wanted_counts(box: Box) -> None:
    body = f"<p>I have a file x.txt:</p>{pre('a b  1' + chr(10) + 'c  2')}<p>expected output:</p>{pre('1' + chr(10) + '2')}"
    found = understand(question(body, pre("awk -F'\\t' '{print $2}' x.txt\n")))
    assert isinstance(found, Understood)
    reading, tried = await trial.run(box, found)
    assert reading.inputs[0].text == "a b\t1\nc\t2\n"
    assert tried.reproduced


async def test_white_space_at_ends_alone_makes_no_difference(box: Box) -> None:
    for how, same in (("s/$/  /'; echo", True), ("s/^/ /'", False)):
        _, found = await trial.run(box, understood(pre(f"sort x.txt | sed '{how}")))
        assert found.reproduced is same


@pytest.mark.parametrize(
    ("program", "failed"),
    [
        ("sort x.txt; exit 3", "status 3"),
        ("yes | sort x.txt -; cat x.txt", "too much|does not end|status"),
        ("f() { f | f & }; f; sort x.txt; sort missing", "does not end|status"),
        ("python3 -c 'while 1: pass' x.txt; sort x.txt", "does not end"),
    ],
)
async def test_programs_that_misbehave_are_outcomes(box: Box, program: str, failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_runs, "TIMEOUT_S", 2)
    outcome = understood(pre("sort x.txt"))
    solution = outcome.solutions[0]
    changed = replace(solution, program=type(solution.program)("shell", program))
    _, found = await trial.run(box, replace(outcome, solutions=(changed,)))
    assert not found.reproduced
    assert any(word in found.runs[0].failed for word in failed.split("|"))


async def test_another_way_of_the_same_answer_decides_what_nothing_foretells(box: Box) -> None:
    one = pre("sort x.txt") + "<p>Or in Python:</p>" + pre("print(''.join(sorted(open('x.txt'))), end='')\n")
    _, found = await trial.run(box, understood(one))
    assert found.reproduced
    assert found.decided["large"].by == trial.TWO_WAYS
    assert not found.agreed


async def test_two_ways_of_git_decide_in_drawn_repositories(box: Box) -> None:
    ways = pre("git switch -c <new-branch>") + pre("git checkout -b <new-branch>") + pre("git branch <new-branch>")
    asked = understand(question("<p>How do I go on in a branch of its own?</p>", ways, tags=("git",)))
    assert isinstance(asked, Understood)
    reading, found = await trial.run(box, asked)
    assert found.enough
    assert (found.witness, found.relation) == (trial.TWO_WAYS, "lines")
    assert {each.by for each in found.decided.values()} == {trial.TWO_WAYS}
    assert [each.name for each in reading.inputs] == ["repository.sh", "new-branch"]
    assert len(found.others) == 1


async def test_ways_that_do_different_things_or_nothing_are_no_task(box: Box) -> None:
    for ways in (("git switch -c <name>", "git branch <name>"), ("git add .gitignore", "git rm --cached nothing.txt --ignore-unmatch")):
        asked = understand(question("<p>How?</p>", "".join(map(pre, ways)), tags=("git",)))
        assert isinstance(asked, Understood)
        _, found = await trial.run(box, asked)
        assert found.verdict == trial.DISAGREE
        assert {run.case for run in found.runs} == {trial.VISIBLE}, "no other repository is tried"


SLEEP = """awk 'BEGIN { system("sleep 0.4") }'"""


async def test_a_question_whose_programs_take_long_is_refused(box: Box) -> None:
    _, found = await trial.run(box, understood(pre(f"{SLEEP}; sort x.txt"), pre(f"{SLEEP}; cat x.txt | sort")), within_s=1.0)
    assert (found.verdict, found.enough) == (trial.TAKES_TOO_LONG, False)


async def test_a_slow_program_is_tried_on_no_record(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"<p>I have a file <code>x.txt</code>:</p>{pre(TABLE)}<p>The expected output is:</p>{pre('2' + chr(10) + '1' + chr(10))}"
    found = understand(question(body, pre(f"{SLEEP}; awk '{{print $2}}' x.txt")))
    assert isinstance(found, Understood)
    monkeypatch.setattr(trial, "SLOW_S", 0.1)
    _, tried = await trial.run(box, found)
    assert trial.RECORD_BY_RECORD not in {each.by for each in tried.decided.values()}
    assert tried.reproduced
