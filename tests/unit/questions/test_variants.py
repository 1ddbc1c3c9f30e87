"""Other inputs of the same form."""

import json

import pytest

from task_builders.questions.joining import InputFile
from task_builders.questions.python_code import named
from task_builders.questions.records import Pieces, readings
from task_builders.questions.variants import LARGE, RENAMINGS, TOKEN, Values, Variant, distinct, of_records, variants

REST = ("one line", "large", "unusual characters", "recombined")
BOTH = ("reordered, other values", "reordered, other words", "repeated, other values")
IN_ORDER = ("ordered numbers", "ordered numbers again", "reordered, ordered numbers")
LINES = "name count\nann 3\nbob 12\ncarl 7\n"
JSON = '{"people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 41}], "ok": true}'


def made(text: str, *others: str, kept: tuple[str, ...] = (), seed: int = 0) -> dict[str, Variant]:
    inputs = [InputFile(f"{n}.txt", each) for n, each in enumerate((text, *others))]
    return {v.name: v for v in variants(inputs, kept, seed)}


def texts(found: dict[str, Variant]) -> dict[str, str]:
    return {name: v.inputs[0].text for name, v in found.items()}


def test_lines_change_and_the_header_stays() -> None:
    found = texts(made(LINES))
    assert set(found) == {"reordered", "repeated", "other values", "other words", "other words again", *REST, *BOTH, *IN_ORDER}
    assert sorted(found["reordered"].splitlines()) == sorted(LINES.splitlines())
    assert found["repeated"].splitlines()[1:3] == ["ann 3", "ann 3"]
    assert found["one line"] == "name count\nann 3\n"
    assert len(found["large"].splitlines()) == 1 + 3 * LARGE
    assert all(text.startswith("name count\n") for name, text in found.items() if name in ("reordered", "repeated", "one line", "large"))


@pytest.mark.parametrize(
    "text", [LINES, 'name,count\nann,3\n"b, b",12\ncarl,7\n', '[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]']
)
def test_recombined_records_are_new_and_have_the_old_values(text: str) -> None:
    found = texts(made(text))["recombined"]
    assert sorted(TOKEN.findall(found)) == sorted(TOKEN.findall(text))
    rows = (sorted(map(str, json.loads(each))) if text[0] == "[" else sorted(each.split("\n")[1:]) for each in (found, text))
    assert next(rows) != next(rows)


def test_ragged_lines_are_not_recombined() -> None:
    assert "recombined" not in made("a b\nc d e\nf g\nh\n")


def test_numbers_come_near_those_that_a_program_names() -> None:
    found = texts(made(LINES, kept=("10", "0")))["numbers at limits"]
    given = {token for token in TOKEN.findall(found) if token.isdigit()}
    assert found.startswith("name count\n")
    assert given <= {"3", "12", "7", "9", "10", "11"}
    assert given & {"9", "10", "11"}
    assert "numbers at limits" not in made(LINES, kept=("1",))


def test_values_keep_their_shape_and_words_of_the_program_stay() -> None:
    found = texts(made(LINES, kept=("bob", "name")))["other values"]
    assert [len(line) for line in found.splitlines()] == [len(line) for line in LINES.splitlines()]
    assert "bob" in found
    assert found.startswith("name ")
    assert "carl" not in found


def test_json_keeps_its_keys_and_stays_json() -> None:
    found = {name: json.loads(text) for name, text in texts(made(JSON)).items()}
    assert len(found["repeated"]["people"]) == 4
    assert all(set(person) == {"name", "age"} for person in found["other values"]["people"])
    assert found["other values"]["ok"] is True
    assert found["other values"]["people"][0]["name"] != "Ann"
    assert not found["unusual characters"]["people"][0]["name"].isascii()


def test_what_joined_still_joins() -> None:
    one, two = made("ann 1\nbob 2\n", "bob x1\nann x2\n")["other values"].inputs
    assert {line.split()[0] for line in one.text.splitlines()} == {line.split()[0] for line in two.text.splitlines()}


def test_equal_seeds_give_equal_variants_and_nothing_that_changes_nothing() -> None:
    assert texts(made(LINES, seed=3)) == texts(made(LINES, seed=3))
    assert texts(made(LINES, seed=3)) != texts(made(LINES, seed=4))
    assert "reordered" not in made("one\n")
    assert "one line" not in made("one\n")


def test_what_comes_of_other_values_is_foretold() -> None:
    found = made(LINES)["other values"]
    assert found.foretold is not None
    assert found.foretold(LINES) == found.inputs[0].text
    assert found.foretold("never seen\n") == "never seen\n"
    assert made(LINES)["large"].foretold is None


@pytest.mark.parametrize("token", ["true", "NULL", "kept"])
def test_words_that_mean_something_stay(token: str) -> None:
    assert Values(("kept",), 1)(token) == token


def test_different_values_stay_different() -> None:
    values = Values((), 1)
    drawn = [values(str(n)) for n in range(10, 60)]
    assert len(set(drawn)) == 50


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "[]", "{}", "[[[[]]]]", '"x"', "1", "\x00\t", "{", "[{}, {}]", 'a,"b\nc,d\ne,f\n', "a\n\n\n", "1" * 5000 + "\n2\n3\n"],
)
def test_odd_inputs_give_variants_that_differ_or_none(text: str) -> None:
    assert text not in texts(made(text, kept=("7", "1" * 5000))).values()


def test_renamings_are_told_from_variants_of_another_structure() -> None:
    found = made(LINES)
    assert found.keys() - RENAMINGS == {"reordered", "repeated", "one line", "large", "recombined", *BOTH, "reordered, ordered numbers"}
    assert (found["reordered"].copies, found["repeated"].copies, found["large"].copies) == (1, 2, 0)


def test_objects_have_fewer_and_more_members_but_for_those_that_the_program_names() -> None:
    found = texts(made('{"id": 1, "name": "Ann", "tags": ["x"]}', kept=("name",)))
    assert json.loads(found["fewer members"]) == {"id": 1, "name": "Ann"}
    assert json.loads(found["more members"]) == {"id": 1, "name": "Ann", "tags": ["x"], "id2": 1}
    assert "fewer members" not in made('{"name": "Ann"}', kept=("name",))
    assert "more members" not in made(LINES)


def test_letters_that_stand_alone_are_words_and_keep_their_order() -> None:
    found = texts(made("a,1\nb,2\nc,3\n", kept=("d",)))
    for name in ("other words", "other words again"):
        letters = [line[0] for line in found[name].splitlines()]
        assert letters == sorted(set(letters))
        assert not {"d"} & set(letters)
        assert letters != ["a", "b", "c"]
    assert Values((), 1, numbers=False)("v") != "v"
    assert TOKEN.findall("v1 2020-01-01T00:00:00Z") == ["1", "2020-01-01", "00:00:00"]


@pytest.mark.parametrize("date", ["2009-05-23 0:00", "3/14/2019", "23:59:07", "12 May 2011", "27 JUN", "Fri"])
def test_dates_stay_since_others_may_not_exist(date: str) -> None:
    text = f"v,day\nann 77,{date}\nbob 88,{date}\n"
    for name in ("other values", "other words", "ordered numbers", "unusual characters", "large"):
        changed = texts(made(text, kept=("12", "2011", "27")))[name]
        assert changed.count(date) == changed.count("\n") - 1
        assert "ann 77" not in changed


def test_ordered_numbers_change_and_keep_their_order() -> None:
    shown = ["7", "31", "450", "12", "8", "451", "99"]
    for name in ("ordered numbers", "ordered numbers again"):
        *changed, zeros = texts(made("\n".join([*shown, "007"]) + "\n"))[name].split()
        assert changed != shown
        assert [len(each) for each in changed] == [len(each) for each in shown]
        assert sorted(range(7), key=lambda n: int(changed[n])) == sorted(range(7), key=lambda n: int(shown[n]))
        assert zeros == "007"
    assert "ordered numbers" not in made("ann\nbob\n")
    assert texts(made("5 61\n", kept=("61",)))["ordered numbers"].endswith(" 61\n")


def test_no_two_variants_are_the_same() -> None:
    pieces = Pieces(readings([InputFile("x", "12 34\n56 78\n90 11\n")])[0], "lines", (), (("12",), ("56",), ("90",)), "lines")
    found = of_records(pieces, ())
    assert len({each.inputs for each in found}) == len(found)
    assert "other records" not in {each.name for each in found}
    assert {"other records, other numbers", "some other records"} <= {each.name for each in found}
    assert distinct([*found, *found], pieces.records.inputs) == found


def test_what_remarks_and_tables_say_is_not_what_a_program_looks_for() -> None:
    text = "df = pd.DataFrame({'n': ['kim', 'lee']})\n# kim comes first\nx = df[df.n.isin(['max'])].m(pd.DataFrame([1]))\n"
    assert not {"kim", "lee"} & set(TOKEN.findall(named(text)))
    assert {"df", "isin", "max", "x"} <= set(TOKEN.findall(named(text)))
    assert named("df[") == "df["


@pytest.mark.parametrize(
    ("text", "reorders"),
    [("one two\n", False), ('[{"name": "ann"}]\n', False), ('[{"name": "ann"}, {"name": "bob"}]\n', True), (LINES, True)],
)
def test_what_has_one_part_is_not_reordered_with_other_values(text: str, *, reorders: bool) -> None:
    found = {name for seed in range(5) for name in made(text, seed=seed)}
    assert ("reordered, other values" in found) is reorders


def test_records_in_another_order_are_never_in_the_same() -> None:
    pieces = Pieces(readings([InputFile("x", "ann 34\nbob 78\n")])[0], "lines", (), (("34",), ("78",)), "lines")
    for seed in range(6):
        assert "records in another order" in {each.name for each in of_records(pieces, (), seed)}


def test_members_of_objects_have_no_order() -> None:
    found = made('[{"name": "ann", "age": 31}]\n')["members reordered, other values"]
    (person,) = json.loads(found.inputs[0].text)
    assert list(person) == ["age", "name"]
    assert person["name"] != "ann"
    assert found.foretold is not None
    assert found.foretold("ann\n") == f"{person['name']}\n"
    assert found.copies == 0
    assert "members reordered, other values" not in made('[{"name": "ann"}]\n')
    assert "members reordered, other values" not in made(LINES)
