"""Programs that contain their data, changed to read it from files."""

import json

import pytest

from task_builders.questions.joining import InputFile
from task_builders.questions.literals import DataFile, lift, set_by, unnamed
from task_builders.questions.programs import Program
from task_builders.questions.understanding import Understood, understand
from tests.unit.questions.asked import pre, question


@pytest.mark.parametrize(
    ("kind", "text", "given", "file", "data", "rest"),
    [
        ("python", "xs = [3, 1]\nprint(sorted(xs))\n", {}, "xs.json", "[\n  3,\n  1\n]\n", "print(sorted(xs))\n"),
        ("python", "import re\nd = {\n 'a': 1}\nprint(d)\n", {}, "d.json", '{\n  "a": 1\n}\n', "import re\nprint(d)\n"),
        ("python", "print(max(xs))\n", {"xs": [1, 2]}, "xs.json", "[\n  1,\n  2\n]\n", "print(max(xs))\n"),
        ("shell", "s='Hi all'\necho \"${s,,}\"\n", {}, "s.txt", "Hi all\n", 's=$(cat s.txt)\necho "${s,,}"\n'),
        ("shell", "echo $s | tr a-z A-Z\n", {"s": "hi"}, "s.txt", "hi\n", "s=$(cat s.txt)\necho $s | tr a-z A-Z\n"),
    ],
)
def test_data_become_a_file(kind: str, text: str, given: dict[str, object], file: str, data: str, rest: str) -> None:
    (found,) = lift(Program(kind, text), given)
    assert found.files == (DataFile(file, data),)
    assert found.program.text == rest


@pytest.mark.parametrize(
    ("kind", "text", "given"),
    [
        ("python", "xs = [3, 1]\nprint('x')\n", {}),  # does not use it
        ("python", "xs = {1, 2}\nprint(xs)\n", {}),  # a set cannot be read back from a file
        ("python", "xs = []\nprint(xs)\n", {}),
        ("python", "print(xs, ys)\n", {"xs": [1]}),
        ("python", "print 1\n", {}),
        ("python", "df = DataFrame({'a': [1]}, index=[7])\nprint(df)\n", {}),  # its index would be lost
        ("shell", 's="$other"\necho $s\n', {}),
        ("shell", "s='x'\necho $s\n", {}),
        ("shell", "s='long enough'\necho\n", {}),
        ("awk", "{print}", {}),
    ],
)
def test_what_has_no_data_stays(kind: str, text: str, given: dict[str, object]) -> None:
    assert lift(Program(kind, text), given) == []


def test_tables_become_csv_and_the_values_they_are_made_of_go_too() -> None:
    text = "data = {'a': [1, np.nan], 'b': ['x', 'y,z']}\ndf = pd.DataFrame(data)\nprint(df.a)\n"
    (found,) = lift(Program("python", text), {})
    assert found.files == (DataFile("df.csv", 'a,b\n1,x\n,"y,z"\n'),)
    assert found.program.text == "print(df.a)\n"


def test_what_a_question_sets() -> None:
    assert set_by(['a="Hi all"\n', "xs = [1, 2]\nn = 3\n", "no program"]) == {"a": "Hi all", "xs": [1, 2]}


def test_a_question_without_an_input_block_is_understood_by_its_data() -> None:
    body = f"<p>I have a string:</p>{pre('a=' + chr(34) + 'Hi all' + chr(34))}<p>expected output:</p>{pre('hi all')}"
    upper = "$ echo \"$a\" | tr '[:upper:]' '[:lower:]'\nhi all\n"
    found = understand(question(body, pre(upper), pre("b='Other'\necho $b | tr A-Z a-z\n")))
    assert isinstance(found, Understood)
    assert found.inputs == (InputFile("a.txt", "Hi all\n"),)
    assert found.tools == ("tr", "cat")
    assert found.independent == 1  # the second works on other data


def test_output_is_read_without_the_marks_before_its_lines() -> None:
    found = understand(question("<p>x</p>" + pre("y"), pre("xs = [1]\nprint(sorted(xs))\n") + pre("> [1]\n")))
    assert isinstance(found, Understood)
    assert (found.desired, found.witness) == ("[1]\n", "answer")


@pytest.mark.parametrize(
    ("text", "data", "rest"),
    [
        ("echo '{\"a\": 1}' | jq .a\n", '{"a": 1}\n', "cat input.txt | jq .a\n"),
        ("jq '.a' <<< '{\"a\": 1}'\n", '{"a": 1}\n', "cat input.txt |jq '.a'\n"),
        ("cat <<EOF | sort -r\nb\na\nEOF\n", "b\na\n", "cat input.txt | sort -r\n"),
        ("awk '{print $1}' <<'X'\na 1\nb 2\nX\n", "a 1\nb 2\n", "cat input.txt |awk '{print $1}'"),
        ("cat <<-EOF | sort\n\tb\n\ta\n\tEOF\n", "b\na\n", "cat input.txt | sort\n"),
    ],
)
def test_a_text_that_a_command_is_fed_becomes_a_file(text: str, data: str, rest: str) -> None:
    (found,) = lift(Program("shell", text), {})
    assert found.files == (DataFile("input.txt", data),)
    assert found.program.text == rest


@pytest.mark.parametrize("text", ['echo "$x" | sort\n', "cat <<EOF | sort\n$x\nEOF\n", "echo 'a'\n"])
def test_what_is_fed_with_a_variable_stays(text: str) -> None:
    assert lift(Program("shell", text), {}) == []


@pytest.mark.parametrize(
    ("call", "rows"),
    [
        ("pd.read_csv(StringIO(text), sep=r'\\s+')", "a b\n1 x\n2 y\n"),
        ("pd.read_csv(io.StringIO(text))", "a,b\n1,x\n2,y\n"),
        ("pd.read_csv(StringIO(text), delim_whitespace=True)", "   a  b\n0  1  x\n1  2  y\n"),
        ("pd.read_table(StringIO(text))", "a\tb\n1\tx\n2\ty\n"),
    ],
)
def test_a_table_that_is_read_from_a_text_becomes_a_file(call: str, rows: str) -> None:
    code = f'import io\nimport pandas as pd\ntext = """{rows}"""\ndf = {call}\nprint(df[df.a > 1])\n'
    (lifted,) = lift(Program("python", code), {})
    assert lifted.files == (("df.csv", "a,b\n1,x\n2,y\n"),)
    assert "text" not in lifted.program.text
    assert lifted.program.text.endswith("print(df[df.a > 1])\n")


@pytest.mark.parametrize(
    "call", ["pd.read_csv('x.csv')", "pd.read_csv(StringIO(text), header=None)", "pd.read_csv(StringIO(text), sep='(a+)+$')"]
)
def test_other_tables_are_not_read(call: str) -> None:
    assert not any(
        "df" in file.name for each in lift(Program("python", f"text = 'a,b,c'\ndf = {call}\nprint(df)\n"), {}) for file in each.files
    )


def test_what_the_question_shows_of_the_same_shape_comes_before_what_the_answer_retyped() -> None:
    program = Program("python", "d = {'n': [1, 2], 'text': ['-1', 'b']}\nprint(d['text'])\n")
    shown = unnamed(['{"n": [3, 4, 5],\n "text": ["a", "b", "c"]}\n', "{'n': [3], 'other': ['a']}\n", "['a']\n", "no literal\n"])
    asked, own = lift(program, {}, shown)
    assert json.loads(asked.files[0].text) == {"n": [3, 4, 5], "text": ["a", "b", "c"]}
    assert json.loads(own.files[0].text) == {"n": [1, 2], "text": ["-1", "b"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a = [1, 2]\nb = [3, 4]\nprint(sum(a), sum(b))\n", ["[5, 6]\n"]),
        ("a = [1, 2]\nprint(sum(a))\n", ["[5, 6]\n", "[7, 8]\n"]),
        ("a = [1, 2]\nprint(sum(a))\n", ["['x', 'y']\n"]),
    ],
)
def test_where_it_is_unclear_what_stands_for_what_the_answers_own_data_stay(text: str, shown: list[str]) -> None:
    assert lift(Program("python", text), {}, unnamed(shown)) == lift(Program("python", text), {})
