"""The outputs of other selections of records, if the visible output is made up of the records' outputs."""

import json

import pytest

from task_builders.questions.joining import InputFile
from task_builders.questions.records import Pieces, Records, pieces, readings
from task_builders.questions.variants import of_records

LINES = "a 1\nb 2\nc 3\n"


def reading(text: str, form: str) -> Records:
    return next(each for each in readings([InputFile("x", text)]) if each.form == form)


def found(text: str, form: str, printed: list[str], visible: str, relation: str = "lines") -> Pieces | None:
    return pieces(reading(text, form), printed, visible, relation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        (LINES, {"lines", "lines with a header"}),
        ("a\nb\n\nc\n", {"paragraphs", "lines", "lines with a header"}),
        ("x a\nx b\ny c\n", {"lines", "lines with a header", "groups"}),
        ("x a\ny b\nx c\n", {"lines", "lines with a header"}),
        ("[1, 2]", {"elements"}),
        ('{"a": 1, "b": 2}', {"members"}),
        ('{"a": [1, 2], "b": [3, 4]}', {"members", "places"}),
        ('{"a": [1, 2], "b": [3]}', {"members"}),
        ('{"a": [1], "b": [3]}', {"members"}),
        ("one\n", set()),
        ("a b\n", set()),
        ("a, b, c\n", {"cells"}),
        ("x\n" * 500, set()),
        ("3", set()),
    ],
)
def test_what_records_could_be(text: str, forms: set[str]) -> None:
    assert {each.form for each in readings([InputFile("x", text)])} == forms


def test_lines_of_which_each_gives_its_own() -> None:
    known = found(LINES, "lines", ["1\n", "2\n", "3\n"], "1\n2\n3\n")
    assert known is not None
    assert known.output([2, 0, 0]) == "3\n1\n1\n"
    assert known.records.of([2, 0])[0].text == "c 3\na 1\n"


def test_records_that_give_nothing_are_foretold_too() -> None:
    known = found(LINES, "lines", ["1\n", "", "3\n"], "1\n3\n")
    assert known is not None
    assert known.output([1, 2]) == "3\n"


def test_a_header_comes_once() -> None:
    text = "n v\na 1\nb 2\n"
    known = found(text, "lines with a header", ["n\na\n", "n\nb\n"], "n\na\nb\n")
    assert known is not None
    assert known.output([1, 1]) == "n\nb\nb\n"
    assert known.records.of([1])[0].text == "n v\nb 2\n"


@pytest.mark.parametrize(
    ("printed", "visible", "numbered", "of_last"),
    [
        (["n\n0 a\n", "n\n0 b\n"], "n\n0 a\n1 b\n", "in sequence", "n\n0 b\n"),
        (["n\n0 a\n", "n\n", "n\n0 c\n"], "n\n0 a\n2 c\n", "by line", "n\n0 c\n"),
    ],
)
def test_tables_with_an_index_are_numbered_anew(printed: list[str], visible: str, numbered: str, of_last: str) -> None:
    text = "n v\n" + "".join(f"{c} {n}\n" for n, c in enumerate("abc"[: len(printed)]))
    known = found(text, "lines with a header", printed, visible, "columns")
    assert known is not None
    assert known.numbered == numbered
    assert known.output([len(printed) - 1]) == of_last


def test_groups_of_lines_give_a_piece_each() -> None:
    text = "k v\nx 1\nx 2\ny 3\n"
    seen = [each for each in readings([InputFile("t", text)]) if each.form == "groups" and each.head]
    assert [each.parts for each in seen] == [("x 1\nx 2\n", "y 3\n")]
    made = pieces(seen[0], ["k s\nx 3\n", "k s\ny 3\n"], "k s\nx 3\ny 3\n", "lines")
    assert made is not None
    assert made.output([1, 0]) == "k s\ny 3\nx 3\n"
    assert not made.records.repeatable


def test_rows_numbered_by_the_inputs_lines() -> None:
    records = next(each for each in readings([InputFile("t", "k v\nx 1\nx 2\ny 3\ny 4\n")]) if each.form == "groups" and each.head)
    made = pieces(records, ["k\n1 x\n", "k\n0 y\n1 y\n"], "k\n1 x\n2 y\n3 y\n", "columns")
    assert made is not None
    assert made.output([1, 0]) == "k\n0 y\n1 y\n3 x\n"


@pytest.mark.parametrize(
    ("text", "form", "printed", "visible", "last"),
    [
        ("[1, 2]", "elements", ["[2]", "[3]"], "[2, 3]", [3]),
        ("[1, 2]", "elements", ['"a"\n', '"b"\n'], '"a"\n"b"\n', "b"),
        ('{"a": 1, "b": 2}', "members", ['{"a": 2}', '{"b": 3}'], '{"a": 2, "b": 3}', {"b": 3}),
    ],
)
def test_json(text: str, form: str, printed: list[str], visible: str, last: object) -> None:
    known = found(text, form, printed, visible, "json")
    assert known is not None
    assert json.loads(known.output([1])) == last


@pytest.mark.parametrize(
    ("printed", "visible"),
    [
        (["1\n", "2\n", "3\n"], "3\n2\n1\n"),  # another order than the records'
        (["1\n", "1\n", "1\n"], "3\n"),  # a count
        (["x\n", "x\n", "x\n"], "x\nx\nx\n"),  # the records cannot be distinguished
    ],
)
def test_what_is_no_sum_of_its_records_is_not_foretold(printed: list[str], visible: str) -> None:
    assert found(LINES, "lines", printed, visible) is None


def test_variants_of_records_say_what_must_come_of_them() -> None:
    known = found(LINES, "lines", ["a\n", "b\n", "c\n"], "a\nb\nc\n")
    assert known is not None
    made = {each.name: each for each in of_records(known, kept=())}
    others = {"other records", "other records, other numbers", "some other records"}
    assert set(made) == {"records in another order", "one record", "some records", "records twice", "many records", *others}
    for each in made.values():
        assert each.foretold is not None
        assert each.foretold("") == "".join(f"{line.split()[0]}\n" for line in each.inputs[0].text.splitlines())


def test_a_list_in_one_line_has_cells() -> None:
    known = found("/a:/b:/c\n", "cells", ["/a\n", "/b\n", "/c\n"], "/a\n/b\n/c\n")
    assert known is not None
    assert known.records.of([2, 0])[0].text == "/c:/a\n"
    assert known.output([2, 0]) == "/c\n/a\n"


def test_what_stands_at_one_place_of_each_list_is_a_record() -> None:
    text = json.dumps({"n": [1, -2, 3], "word": ["a", "b", "c"]})
    printed = ['{"n": [1], "word": ["a"]}', '{"n": [], "word": []}', '{"n": [3], "word": ["c"]}']
    known = found(text, "places", printed, '{"n": [1, 3], "word": ["a", "c"]}', "json")
    assert known is not None
    assert json.loads(known.records.of([2, 1])[0].text) == {"n": [3, -2], "word": ["c", "b"]}
    assert json.loads(known.output([2, 1, 2])) == {"n": [3, 3], "word": ["c", "c"]}
    assert json.loads(known.output([1])) == {"n": [], "word": []}
    assert found(text, "places", printed, '{"n": [3, 1], "word": ["c", "a"]}', "json") is None
