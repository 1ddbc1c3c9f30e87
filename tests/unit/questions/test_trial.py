"""How a trial counts outputs, by the relation that compares them. Trials in boxes: tests/integration/test_question_trials.py."""

import pytest

from envfarm.core.plan import Relation
from task_builders.questions.box_runs import Run
from task_builders.questions.joining import ASKER, InputFile
from task_builders.questions.trial import (
    ASKERS,
    FORETOLD,
    SAME_LINES,
    TWO_ANSWERS,
    TWO_WAYS,
    Decided,
    Trial,
    decision,
)
from task_builders.questions.variants import Variant

SHOWN = "name n\nann 1\nbob 2\n"


def trial(relation: Relation, *outputs: str) -> Trial:
    decided = {f"v{n}": Decided(inputs=(("x", text),), output=text, by=TWO_ANSWERS) for n, text in enumerate(outputs)}
    return Trial(runs=(), reproduced=True, output=SHOWN, relation=relation, decided=decided)


@pytest.mark.parametrize(("relation", "enough"), [("lines", True), ("table", False)])
def test_outputs_that_are_the_same_by_the_relation_count_once(relation: Relation, *, enough: bool) -> None:
    others = ("name n\nbob 3\nann 1\n", "n name\n1 ann\n3 bob\n", "n name\n3 bob\n1 ann\n")
    assert trial(relation, *others).enough == enough
    assert trial(relation, *others, "name n\nkim 3\n", "name n\nlee 4\n", "name n\nmax 5\n").enough


@pytest.mark.parametrize(
    ("output", "free"),
    [
        ("name n\nkim 3\nlee 4\n", True),
        ("name n\nkim jones 3\nlee 4\n", False),
        ("name n\nkim jones 3\nlee smith 4\n", False),
        ("name n\n", False),
        ("name name\nkim 3\n", False),
    ],
)
def test_a_variant_whose_output_is_no_such_table_is_not_asked_for_as_one(output: str, *, free: bool) -> None:
    found = [Run(case="v", answer=answer, output=output) for answer in (1, 2)]
    variant = Variant("v", ())
    assert decision(found, variant, trial("lines"), by_records=False) == TWO_ANSWERS
    assert decision(found, variant, trial("table"), by_records=False) == (TWO_ANSWERS if free else "")


@pytest.mark.parametrize(
    ("shown", "output", "asked"),
    [
        (SHOWN, "name n\nkim 3\n", True),
        (SHOWN, "name n\nkim 3\nlee\n", False),
        (SHOWN, "Empty DataFrame\nColumns: [name, n]\nIndex: []\n", False),
        ("name n\nann 1\nbob\n", "name n\nkim 3\nlee\n", True),
        ("name n\n0 ann 1\n1 bob 2\n", "name n\n0 kim 3\n", True),
        ("name n\n0 ann 1\n1 bob 2\n", "name n\nkim 3\n", False),
    ],
)
def test_a_data_frame_keeps_the_visible_form(shown: str, output: str, *, asked: bool) -> None:
    found = [Run(case="v", answer=answer, output=output) for answer in (1, 2)]
    begun = trial("rows").model_copy(update={"output": shown, "frame": True})
    assert decision(found, Variant("v", ()), begun, by_records=False) == (TWO_ANSWERS if asked else "")


@pytest.mark.parametrize(
    ("output", "asked"), [("name n\nkim 3.5\nlee 4.0\n", True), ("name n\nkim NaN\nlee 4.0\n", True), ("name n\nkim 3\nlee 4\n", False)]
)
def test_decimals_do_not_become_whole_numbers(output: str, *, asked: bool) -> None:
    found = [Run(case="v", answer=answer, output=output) for answer in (1, 2)]
    begun = trial("rows").model_copy(update={"output": "name n\nann 1.0\nbob 2.5\n", "frame": True})
    assert decision(found, Variant("v", ()), begun, by_records=False) == (TWO_ANSWERS if asked else "")


def test_repeated_rows_of_a_data_frame_need_two_answers() -> None:
    found = [Run(case="v", answer=answer, output="name n\nann 1\nann 1\n") for answer in (1, 2)]
    repeated = Variant("records twice", (), lambda _: found[0].output)
    for frame, by in ((False, FORETOLD), (True, "")):
        begun = trial("rows").model_copy(update={"frame": frame})
        assert decision(found[:1], repeated, begun, by_records=True) == by
        assert decision(found, repeated, begun, by_records=True) == TWO_ANSWERS


@pytest.mark.parametrize(
    ("others", "by"),
    [
        ([Run(case="v", answer=1, output="x\n")], TWO_WAYS),
        ([Run(case="v", answer=ASKER, output="x\n")], ASKERS),
        ([Run(case="v", answer=1, output="x\n"), Run(case="v", answer=1, output="y\n")], ""),
        ([Run(case="v", answer=ASKER, output="", failed="status 1")], ""),
        ([Run(case="v", answer=2, output="x\n"), Run(case="v", answer=1, output="x\n")], TWO_ANSWERS),
        ([Run(case="v", answer=2, output="x\n"), Run(case="v", answer=1, output="y\n")], ""),
        ([Run(case="v", answer=2, output="y\n"), Run(case="v", answer=1, output="x\n")], ""),
    ],
)
def test_another_answer_is_heard_before_ways_and_the_asker(others: list[Run], by: str) -> None:
    found = [Run(case="v", answer=1, output="x\n"), *others]
    assert decision(found, Variant("v", ()), trial("lines"), by_records=False) == by


def test_an_equal_program_of_another_answer_can_only_contradict() -> None:
    found = [Run(case="v", answer=1, output="x\n"), Run(case="v", answer=2, output="x\n")]
    foretold = Variant("v", (), lambda _: "x\n")
    assert decision(found, Variant("v", ()), trial("lines"), by_records=False, echoes=1) == ""
    assert decision(found, foretold, trial("lines"), by_records=False, echoes=1) == FORETOLD
    found[1] = found[1].model_copy(update={"output": "y\n"})
    assert decision(found, foretold, trial("lines"), by_records=False, echoes=1) == ""


def test_what_is_foretold_needs_no_other_way() -> None:
    found = [Run(case="v", answer=1, output=SHOWN), Run(case="v", answer=1, output="", failed="status 1")]
    assert decision(found, Variant("v", (), lambda text: text), trial("lines"), by_records=False) == FORETOLD


def test_what_a_way_of_the_same_answer_contradicts_is_not_foretold() -> None:
    found = [Run(case="v", answer=1, output=SHOWN), Run(case="v", answer=1, output="y\n")]
    assert decision(found, Variant("v", (), lambda text: text), trial("lines"), by_records=False) == ""


@pytest.mark.parametrize(("output", "by"), [("x\nx\ny\ny\n", SAME_LINES), ("a\na\nb\nb\n", ""), ("x\ny\n", "")])
def test_copies_with_other_values_are_foretold_with_these(output: str, by: str) -> None:
    repeated = Variant("v", (), lambda text: text.replace("a", "x").replace("b", "y"), copies=2)
    begun = trial("lines").model_copy(update={"output": "a\nb\n"})
    assert decision([Run(case="v", answer=1, output=output)], repeated, begun, by_records=False) == by
    assert decision([Run(case="v", answer=1, output=output)], repeated, begun, by_records=True) == ""


@pytest.mark.parametrize(
    ("given", "output", "by"),
    [
        ("1\n2\n3\n", "1\n2\n...\n2\n3\n", ""),
        ("1\n2\n", "1\n2\n...\n1\n2\n", ""),
        ("1\n2\n3\n4\n", "1\n2\n...\n3\n4\n", TWO_ANSWERS),
        ("1\n2\n3\n", "1\n2\n3\n", TWO_ANSWERS),
        ("1\n2\n2\n3\n4\n5\n6\n", "1\n2\n...\n2\n2\n2\n", TWO_ANSWERS),
    ],
)
def test_what_overlaps_because_little_is_left_is_not_decided_by_answers(given: str, output: str, by: str) -> None:
    shown = trial("lines").model_copy(update={"inputs": (("x", "1\n2\n3\n4\n5\n6\n"),), "output": "1\n2\n...\n5\n6\n"})
    found = [Run(case="v", answer=answer, output=output) for answer in (1, 2)]
    variant = Variant("v", (InputFile("x", given),))
    assert decision(found, variant, shown, by_records=False) == by
    said = variant._replace(foretold=lambda _: output)
    assert decision(found, said, shown, by_records=False) == TWO_ANSWERS
    assert decision(found[:1], said, shown, by_records=False) == FORETOLD


@pytest.mark.parametrize(
    ("given", "by"), [("b\na\nx\n", SAME_LINES), ("a\nb\nx\n", ""), ('["b", "a"]\n', SAME_LINES), ('["a", "b"]\n', "")]
)
def test_lines_in_the_order_of_the_input_may_follow_it(given: str, by: str) -> None:
    reordered = Variant("v", (), copies=1)
    shown = trial("lines").model_copy(update={"inputs": (("x", given),), "output": "a\nb\n"})
    found = [Run(case="v", answer=1, output="a\nb\n")]
    assert decision(found, reordered, shown, by_records=False) == by
    assert decision(found, reordered, shown.model_copy(update={"relation": "table"}), by_records=False) == SAME_LINES
