"""Which output is wanted, and whether its layout counts."""

import pytest

from envfarm.grading import outputs
from task_builders.questions.wanted import Asked, Printed, Wanted, choose, in_any_order, relations

FRAME = "   name  n\n0   ann  1\n1   bob  2\n"
NESTED = "a:\n  b: 1\n  c: 2\n"


def test_tables_are_compared_by_columns_where_no_word_asks_for_a_layout() -> None:
    found = choose([("asker", FRAME)], [Printed(1, FRAME)], 1)
    assert found is not None
    assert found.relation == "columns"
    assert outputs.same(FRAME.encode(), b"name n\n0 ann 1\n1 bob 2\n", found.relation)


def test_a_data_frames_print_is_compared_by_columns_however_narrow_it_is() -> None:
    narrow = "a b\n1 2\n"
    assert relations(narrow) == ("lines",)
    found = choose([("asker", narrow)], [Printed(1, narrow, table=True)], 1)
    assert found is not None
    assert found.relation == "columns"


def test_layout_counts_where_the_asker_speaks_of_it_or_the_input_has_it() -> None:
    for asked in (
        Asked("How to align the columns?"),
        Asked(inputs=("name n\n0 ann 1\n1 bob 2\n",)),
        Asked(inputs=(FRAME + "2   eve  3\n",)),
    ):
        found = choose([("asker", FRAME)], [Printed(1, FRAME)], 1, asked)
        assert found is not None
        assert found.relation == "lines"
    kept = choose([("asker", "  b: 1\n")], [Printed(1, "  b: 1\n")], 1, Asked(inputs=(NESTED,)))
    assert kept is not None
    assert kept.relation == "lines"


def test_json_is_compared_by_values_unless_its_layout_is_asked_for() -> None:
    assert relations('{"a": 1}\n')[0] == "json"
    assert relations('{"a": 1}\n', laid_out=True)[0] == "lines"


def test_an_array_may_be_shown_as_numpy_prints_it() -> None:
    for shown in ("A = [54 -3 1.5]\n", "[[1 2]\n [3 4]]\n"):
        found = choose([("asker", shown)], [Printed(1, "[54, -3, 1.5]\n" if "=" in shown else "[[1, 2], [3, 4]]\n")], 1)
        assert found is not None
        assert found.relation == "json"
    assert relations("[one two]\n") == ("lines",)


def test_another_answer_may_print_what_the_asker_shows_and_no_other_transcript() -> None:
    printed = [Printed(2, "x\n"), Printed(1, "y\n")]
    assert choose([("asker", "x\n")], printed, 1) == Wanted("x\n", "lines", "asker")
    assert choose([("answer", "x\n")], printed, 1) is None
    assert choose([("answer", "y\n")], printed, 1) == Wanted("y\n", "lines", "answer")
    assert choose([("answer", "y\n"), ("asker", "z\n")], printed, 1) is None  # it contradicts what the asker shows


def test_a_table_that_was_accepted_in_another_order_is_compared_without_one() -> None:
    shown = [("asker", "name n\nann 1\nbob 2\n")]
    found = choose(shown, [Printed(1, "n name\n2 bob\n1 ann\n", table=True)], 1)
    assert found is not None
    assert found.relation == "table"
    assert outputs.same(found.text.encode(), b"name n\nbob 2\nann 1\n", "table")
    assert choose(shown, [Printed(1, "n name\n2 ann\n1 bob\n", table=True)], 1) is None  # other cells
    assert choose(shown, [Printed(2, "n name\n2 bob\n1 ann\n", table=True)], 1) is None  # nobody accepted it
    assert choose(shown, [Printed(1, "n name\n2 bob\n1 ann\n", table=True)], 1, Asked("How to sort the rows?")) is None


def test_another_order_is_no_other_layout() -> None:
    assert choose([("asker", "a 1\nb 2\n")], [Printed(1, " a 1\n b 2\n")], 1) is None
    assert choose([("asker", "a 1\nb 2\nc 3\n")], [Printed(1, "a 1\nc 3\nb 2\n")], 1) is None


def test_an_index_that_only_counts_is_the_librarys() -> None:
    found = choose([("asker", "   name n\n0  bob  2\n1  ann  1\n")], [Printed(1, "name n\nann 1\nbob 2\n", table=True)], 1)
    assert found is not None
    assert found.relation == "table"
    assert choose([("asker", "   name n\n4  bob  2\n1  ann  1\n")], [Printed(1, "name n\nann 1\nbob 2\n", table=True)], 1) is None


def test_quotes_around_one_line_are_the_askers() -> None:
    assert choose([("asker", '"hi all"\n')], [Printed(1, "hi all\n")], 1) == Wanted("hi all\n", "lines", "asker")
    assert choose([("asker", '"hi all"\n')], [Printed(1, '"hi all"\n')], 1) == Wanted('"hi all"\n', "lines", "asker")
    assert choose([("asker", '"hi", "all"\n')], [Printed(1, 'hi", "all\n')], 1) is None


def test_blanks_of_the_askers_table_may_be_written_as_nan() -> None:
    frame = "   a    b\n0  x    y\n1  z  NaN\n"
    assert choose([("asker", "   a  b\n0  x  y\n1  z\n")], [Printed(1, frame, table=True)], 1) == Wanted(frame, "columns", "asker")
    assert choose([("asker", "   a  b\n0  x  y\n1  z\n")], [Printed(1, frame)], 1) is None
    assert choose([("asker", "   a  b\n0  x  y\n1  z  w\n")], [Printed(1, frame, table=True)], 1) is None


@pytest.mark.parametrize(
    ("output", "words", "relation"),
    [
        ("name n\nann 1\nbob 2\n", "count the names", "table"),
        ("name n\nann lee 1\nbob 2\n", "count the names", "rows"),
        ("name n\nann 1\nbob 2\n", "count the names in order to pay them", "table"),
        ("name n\nann 1\nbob 2\n", "count the names, in ascending order", "columns"),
    ],
)
def test_a_data_frame_is_in_any_order_unless_the_asker_speaks_of_order(output: str, words: str, relation: str) -> None:
    assert in_any_order(output, words) == relation


def test_json_is_compared_by_its_values_if_nobody_asks_for_a_layout() -> None:
    given = '{\n  "a": 1,\n  "b": 2\n}\n'
    output = '{\n  "a": 1\n}\n'
    asked = Asked("only the first one", (given,))
    assert choose([("asker", output)], [Printed(1, '{"a": 1}\n')], 1, asked) == Wanted(output, "json", "asker")
    two = [Printed(1, output), Printed(2, '{"a": 1}\n')]
    assert choose([], two, 1, asked) == Wanted(output, "json", "two answers")
    assert choose([], two, 1, Asked("pretty-print it", (given,))) is None
