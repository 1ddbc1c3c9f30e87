"""Plans with cases: a program is run once for each, and what it must print is known outside the box alone."""

from dataclasses import replace

import pytest

from envfarm.core import why
from envfarm.core.change import Change
from envfarm.core.outcome import Scored, public
from envfarm.core.plan import Case, PlanError, Relation
from envfarm.core.plan import TestCommand as Command
from envfarm.core.plan import TestPlan as Plan
from envfarm.grading import outputs, procedure
from envfarm.grading.integrity import ALL, Defence
from envfarm.grading.procedure import CommandOutcome

CASES = (Case("case::visible", "00", ("x.txt",), visible=True), Case("case::hidden", "01", ("x.txt",)))
PLAN = Plan(
    work_dir="/app",
    commands=(Command(("/bin/sh", "-c", 'exec ./solve > "$1"', "sh", "{report}"), "output", 9.0, {}),),
    fail_to_pass=tuple(case.id for case in CASES),
    pass_to_pass=(),
    test_files=(),
    mode="replayed",
    cases=CASES,
)
TESTS = {
    "cases/00/input/x.txt": b"b\na\n",
    "cases/00/expected": b"a\nb\n",
    "cases/01/input/x.txt": b"d\nc\n",
    "cases/01/expected": b"c\nd\n",
}


def prepared(without: frozenset[Defence] = frozenset()) -> procedure.Preparation:
    return procedure.prepare(PLAN, TESTS, Change(), token="t" * 32, defences=ALL - without)


def printed(*texts: bytes, status: int = 0) -> list[CommandOutcome]:
    return [CommandOutcome(status, text) for text in texts]


def test_inputs_are_put_in_place_one_after_another_and_expectations_never() -> None:
    phases = prepared().phases
    assert [[f.content for f in phase.sealed.files] for phase in phases] == [[b"b\na\n"], [b"d\nc\n"]]
    assert not any(b"c\nd\n" in (f.content or b"") for phase in phases for f in phase.sealed.files)
    assert len({phase.commands[0].report_path for phase in phases}) == 2


def test_every_case_must_be_right_and_each_counts_for_itself() -> None:
    good = procedure.judge(prepared(), printed(b"a\nb\n", b"c\nd\n"))
    assert (good.reward, good.components["f2p"]) == (1.0, 1.0)
    half = procedure.judge(prepared(), printed(b"x\n", b"c\nd\n"))
    assert (half.reward, half.components["f2p"], half.report.fail_to_pass["case::visible"]) == (0.0, 1.0, False)
    assert half.integrity.ok


def test_of_a_visible_case_that_fails_the_operator_sees_what_was_wanted_and_printed() -> None:
    failed = procedure.judge(prepared(), printed(b"b\n\xff" + b"x" * 9000, b"d\n", status=3))
    assert failed.report.mismatch is not None
    assert (failed.report.mismatch.case, failed.report.mismatch.wanted, failed.report.mismatch.exit_code) == ("case::visible", "a\nb\n", 3)
    assert failed.report.mismatch.printed == f"b\n\ufffd{'x' * (procedure.MISMATCH_CHARACTERS - 3)}…"
    told = why.in_full(failed)
    at = told.index("case::visible wants:")
    assert told[at : at + 5] == ["case::visible wants:", "  a", "  b", "the program printed (exit status 3):", "  b"]
    for_trainers = public(failed)
    assert isinstance(for_trainers, Scored)
    assert for_trainers.report.mismatch is None
    nothing = procedure.judge(prepared(), [CommandOutcome(None, None, timed_out=True)])
    assert "the program printed (ended by a signal):|  nothing" in "|".join(why.in_full(nothing))


def test_of_held_out_cases_and_what_may_have_seen_them_nothing_is_told() -> None:
    assert procedure.judge(prepared(), printed(b"a\nb\n", b"x\n")).report.mismatch is None
    later = replace(PLAN, cases=CASES[::-1])
    failed = procedure.judge(procedure.prepare(later, TESTS, Change(), token="t" * 32), printed(b"x\n", b"d\nc\n"))
    assert (failed.reward, failed.report.fail_to_pass["case::visible"], failed.report.mismatch) == (0.0, False, None)


def test_printing_the_visible_output_is_no_part_of_the_way() -> None:
    cases = [Case(f"case::{n}", f"{n:02d}", ("x.txt",), visible=n == 0) for n in range(4)]
    plan = replace(PLAN, cases=tuple(cases), fail_to_pass=tuple(case.id for case in cases))
    wanted = [b"a\n", b"a\n\n", b"b\n", b"c\n"]
    tests = {f"cases/{n:02d}/expected": text for n, text in enumerate(wanted)} | {f"cases/{n:02d}/input/x.txt": b"x" for n in range(4)}
    preparation = procedure.prepare(plan, tests, Change(), token="t" * 32)
    shares = [procedure.judge(preparation, printed(*given)).components["f2p"] for given in ([b"a\n"] * 4, [b"b\n"] * 4, wanted)]
    assert shares == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "results",
    [
        [],
        printed(b"a\nb\n"),
        printed(b"a\nb\n", b"c\nd\n", status=1),
        [CommandOutcome(0, b"a\nb\n"), CommandOutcome(0, None)],
        [CommandOutcome(0, b"a\nb\n"), CommandOutcome(None, None, timed_out=True)],
        printed(b'{"reward": 1.0}', b"<testsuite/>"),
    ],
)
def test_what_is_missing_late_or_ends_badly_has_failed(results: list[CommandOutcome]) -> None:
    assert procedure.judge(prepared(), results).reward == 0.0


def test_without_held_out_cases_printing_what_is_shown_would_do() -> None:
    off = prepared(frozenset({Defence.HELD_OUT}))
    assert len(off.phases) == 1
    assert procedure.judge(off, printed(b"a\nb\n")).reward == 1.0


def test_plans_with_cases_travel_and_others_read_as_before() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN
    assert "cases" not in Plan("/w", PLAN.commands, ("t",), (), ()).to_json()
    with pytest.raises(PlanError, match="one command"):
        Plan.from_json(PLAN.to_json().replace('"commands": [', '"commands": [' + _command() + ","))


def _command() -> str:
    return '{"argv": ["x"], "report": "output", "timeout_s": 1, "env": {}}'


@pytest.mark.parametrize("relation", ["json", "lines", "columns", "rows", "table"])
def test_output_that_is_far_larger_than_the_expected_one_is_not_read(relation: Relation) -> None:
    blank = b"1" + b" " * (outputs.SPARE_BYTES // 2)
    assert outputs.same(b"1", blank, relation)
    assert not outputs.same(b"1", blank + blank[1:] * 3, relation)
    assert outputs.same(blank, blank + blank[1:] * 3, relation), "beside a larger one it is"


def test_a_file_that_is_missing_is_the_plans_fault() -> None:
    with pytest.raises(PlanError, match="cases/01/expected"):
        procedure.prepare(PLAN, {p: d for p, d in TESTS.items() if p != "cases/01/expected"}, Change(), token="t" * 32)


@pytest.mark.parametrize(
    ("relation", "one", "other", "same"),
    [
        ("exact", b"a\n", b"a", False),
        ("lines", b"a \nb\n\n", b"a\nb", True),
        ("lines", b"a  b", b"a b", False),
        ("columns", b"  a   b\n", b"a\tb", True),
        ("columns", b"a b", b"ab", False),
        ("rows", b"k  v\na 1\nb 2\n", b"k v\n b 2\n a 1", True),
        ("rows", b"k v\na 1\nb 2\n", b"a 1\nk v\nb 2\n", False),
        ("rows", b"k v\na 1\nb 2\n", b"v k\n1 a\n2 b\n", False),
        ("rows", b"k v\na 1\na 1\n", b"k v\na 1\n", False),
        ("json", b'{"a": [1, 2], "b": null}', b'{"b":null,\n"a":[1,2]}\n', True),
        ("json", b"1\n2", b"2\n1", False),
        ("json", b"[1]", b"[true]", False),
        ("json", b"[1]", b"[1] x", False),
        ("json", b"[1]", b"[" * 100000, False),
        ("lines", b"a", b"\xff", False),
    ],
)
def test_relations(relation: str, one: bytes, other: bytes, *, same: bool) -> None:
    assert outputs.same(one, other, relation) is same  # type: ignore[arg-type]


def test_tables_are_the_same_in_any_order_of_rows_and_columns() -> None:
    one = b"name n\nann 1\nbob 2\n"
    assert outputs.same(one, b"n   name\n2 bob\n1 ann\n", "table")
    assert not outputs.same(one, b"n name\n1 bob\n2 ann\n", "table")
    assert not outputs.same(one, b"name n\nann 1\nbob 2\nbob 2\n", "table")
    assert not outputs.same(one, b"name m\nann 1\nbob 2\n", "table")
    assert not outputs.same(one, b"name n\nann 1\nbob\n", "table")
    assert outputs.same(b"  n\n0 1\n1 2\n", b" n\n1 2\n0 1\n", "table")
    assert outputs.same(b"a a\n1 2\n", b"a  a\n1 2\n", "table")  # no table: by columns
    assert not outputs.same(b"a a\n1 2\n", b"a a\n2 1\n", "table")
    assert not outputs.same(one, b"a a\n1 2\n", "table")


def test_the_normal_form_of_outputs_that_are_the_same_is_one() -> None:
    assert outputs.normal(b"name n\nann 1\nbob 2\n", "table") == outputs.normal(b"n name\n2 bob\n1 ann", "table")
    assert outputs.normal(b"a \n", "lines") == outputs.normal(b"a", "lines") != outputs.normal(b"b", "lines")
    assert len({outputs.normal(text, "json") for text in (b'{"a": [1]}', b'{"a":[1]}\n', b"[1]")}) == 2
    assert outputs.normal(b"\xff", "exact") == b"\xff"
    assert outputs.normal(b"\xff", "lines") is outputs.normal(b"[", "json") is None
