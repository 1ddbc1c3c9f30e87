"""Which file or variable of a program is which block, for typical posts."""

import pytest

from task_builders.questions import free_names, joining, literals, python_code, scripts
from task_builders.questions.joining import table, with_tabs
from task_builders.questions.programs import Program, parse
from task_builders.questions.understanding import Understood, understand
from tests.unit.questions.asked import ASKED, SORTED, pre, question

TABLE = "name v\na 1\nb 2\n"
OTHER = "name w\na 3\nb 4\n"


def understood(body: str, *answers: str) -> Understood:
    found = understand(question(body, *answers))
    assert isinstance(found, Understood), found
    return found


def asks(*blocks: tuple[str, str]) -> str:
    return "".join(f"<p>{lead}</p>{pre(text)}" for lead, text in blocks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curl -s 'http://example.org/x?a=1' | jq length\n", "jq length\n"),
        ("some-command | sort\n", "sort\n"),
        ("cat x.txt | sort\n", "cat x.txt | sort\n"),
    ],
)
def test_what_brings_the_input_stands_for_it(text: str, expected: str) -> None:
    assert joining.without_stand_in(Program("shell", text)).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sort /tmp/in.txt", "sort in.txt"),
        ("sort ~/work/in.txt ../b.csv ./c.log", "sort in.txt b.csv c.log"),
        ("open('/home/me/data.json')", "open('data.json')"),
        ("awk -F/ '{print $1/2}' x", "awk -F/ '{print $1/2}' x"),
        ("sort /etc/passwd", "sort /etc/passwd"),
    ],
)
def test_files_lie_where_the_program_is_started(text: str, expected: str) -> None:
    assert joining.here(Program("shell", text)).text == expected


def test_blanks_may_have_been_tabs_where_the_program_speaks_of_tabs() -> None:
    body = asks(("I have a file x.txt:", "a  1\nb c  2\n"), ("expected output:", "1\n2\n"))
    found = understood(body, pre("awk -F'\\t' '{print $2}' x.txt\n"))
    assert [each.inputs[0].text for each in (found, *found.otherwise)] == ["a  1\nb c  2\n", "a\t1\nb c\t2\n"]
    assert understood(body, pre("awk '{print $2}' x.txt\n")).otherwise == ()
    assert with_tabs("  a b    c\n") == "  a b\tc\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TABLE, (".txt", TABLE)),
        ("  v w\n0 1 2\n1 3 4\n", (".txt", "  v w\n0 1 2\n1 3 4\n")),
        ("id  name\n1   ann lee\n2   bob\n", (".tsv", "id\tname\n1\tann lee\n2\tbob\n")),
        ("some words\nthat are no table at all\n", None),
        ("one row\n", None),
    ],
)
def test_what_a_table_is(text: str, expected: tuple[str, str] | None) -> None:
    assert table(text) == expected


def test_two_tables_and_one_variable_are_as_many_readings() -> None:
    body = asks(("I have a dataframe:", TABLE), ("and a table of names is", OTHER), ("expected output", "a\n"))
    found = understood(body, pre("df[df.v > 1]\n"))
    assert [each.inputs[0].text for each in (found, *found.otherwise)] == [TABLE, OTHER]


def test_pieces_of_python_go_on_where_the_one_before_ended() -> None:
    body = asks(("I have a dataframe <code>df</code>:", TABLE), ("expected output", "2\n"))
    found = understood(body, pre("m = df.v > 1\nprint(m)\n") + "<p>then</p>" + pre("df[m]\n"))
    assert "m = df.v > 1\ndf[m]\n" in [s.program.text for s in found.solutions]


def test_code_with_outputs_between_is_taken_apart() -> None:
    text = "df['a'] = 1\nprint(df)\n   v  a\n0  1  1\n\ndf = df[df.a > 0]\nprint(df)\n   v  a\n0  1  1\n"
    first, second = parse(text)
    assert first.printed == "   v  a\n0  1  1\n\n"
    assert second.text == "df['a'] = 1\ndf = df[df.a > 0]\nprint(df)\n"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("df.groupby('a').sum()", True),
        ("s=df.v.str.split(',',expand=True).max(1)", True),
        ("[sorted(i)[1] for i in zip(*a)]", True),
        ("(df.a\n   .max())", True),
        ("length", False),
        ("f(1)", False),
        ("a = 1", False),
        ("sort x.txt | uniq", False),
    ],
)
def test_an_expression_of_python_is_told_from_data(text: str, *, is_one: bool) -> None:
    assert python_code.is_expression(text) is is_one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("df = pd.read_excel('a.xlsx')\nprint(df.a)\n", "print(df.a)\n"),
        ("df = pd.read_csv('a.csv', index_col=0)\ndf.T\n", "df = df.set_index(df.columns[0])\ndf.T\n"),
        ("df.T\n", None),
    ],
)
def test_a_table_may_be_given_in_the_place_of_a_file_that_is_read(text: str, expected: str | None) -> None:
    found = literals.without_readers(Program("python", text))
    assert (found.text if found else None) == expected


def test_a_question_with_code_and_tables_in_one_block_sets_what_its_code_does() -> None:
    assert set(literals.set_by(["df = DataFrame([{'a': 1}])\ndf\n   a\n0  1\n\nxs = [1, 2]\nxs\n"])) == {"df", "xs"}


def test_outputs_set_nothing_and_the_first_value_stays() -> None:
    body = asks(("I have a list", "xs = [1, 2, 3]\n"), ("expected output:", "xs = [3]\n"))
    assert understood(body, pre("[x for x in xs if x > 2]\n")).inputs[0].text == "[\n  1,\n  2,\n  3\n]\n"


def test_the_questions_data_come_before_the_answers_own() -> None:
    body = asks(("I have a list", "xs = [1, 2]\n"), ("expected output:", "[2]\n"))
    found = understood(body, pre("xs = [5, 6]\nprint([x for x in xs if x > 1])\n"))
    assert ["5" in each.inputs[0].text for each in (found, *found.otherwise)] == [False, True]


def test_what_only_shows_its_data_is_no_program_for_it() -> None:
    body = "<p>How can I filter it?</p>" + pre("df = pd.DataFrame({'a': [1, 2]})\n")
    answer = pre("df = pd.DataFrame({'a': [1, 2]})\nprint(df)\n   a\n0  1\n1  2\n\nprint(df[df.a > 1])\n   a\n1  2\n")
    assert [s.program.text for s in understood(body, answer).solutions] == ["print(df[df.a > 1])\n"]


def test_another_answer_may_have_the_program() -> None:
    found = understood(ASKED, "<p>Sort it.</p>", pre("sort x.txt\n"))
    assert [s.answer for s in found.solutions] == [11]


def test_a_program_that_prints_an_ellipsis_abbreviates_nothing() -> None:
    body = asks(("I have a file x.txt:", "1\n2\n3\n"), ("expected output:", "1\n...\n3\n"))
    assert understood(body, pre("head -n1 x.txt; echo '...'; tail -n1 x.txt\n")).desired == "1\n...\n3\n"
    assert "..." not in SORTED


def test_a_block_that_is_called_a_column_is_a_table_of_it() -> None:
    body = asks(("I have <code>df['kind']</code>", "b\na\n"), ("Expected output:", "a\nb\n"))
    found = understood(body, pre("df.sort_values('kind')\n"))
    assert [tuple(each) for each in found.inputs] == [("df.csv", "kind\nb\na\n")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id  kind   n\na   x\nb          2\n", (".csv", "id,kind,n\na,x,\nb,,2\n")),
        ("   id  made        n\n0  a   12 May      1\n1  b               2\n", (".csv", "id,made,n\na,12 May,1\nb,,2\n")),
        ("Name  A    B    C\nx    CAT       DOG\ny         TIGERS\n", (".csv", "Name,A,B,C\nx,CAT,,DOG\ny,,TIGERS,\n")),
        (
            "id name          day\n1  Old big wheel  3 May\n2  New set bell   4 May\n3  Red hub        5 May\n",
            (".csv", "id,name,day\n1,Old big wheel,3 May\n2,New set bell,4 May\n3,Red hub,5 May\n"),
        ),
        ("First name   n\nKim Lee      1\nAnn          2\n", (".tsv", "First name\tn\nKim Lee\t1\nAnn\t2\n")),
        ("a sentence\nis\nno table of any kind\n", None),
    ],
)
def test_cells_that_stand_below_each_other(text: str, expected: tuple[str, str] | None) -> None:
    assert table(text) == expected


def test_files_that_are_opened_in_turn_are_those_of_the_list() -> None:
    body = asks(("a.txt", "1\n"), ("b.txt", "2\n"), ("Expected output:", "1\n2\n"))
    code = "for name in ['a.txt', 'b.txt']:\n    print(open(name).read().strip())\n"
    assert [each.name for each in understood(body, pre(code)).inputs] == ["a.txt", "b.txt"]


def test_a_variable_that_nothing_sets_is_the_input() -> None:
    body = asks(("I have this list:", "c:a:b\n"), ("Expected output:", "c\na\nb\n"))
    found = understood(body, pre("echo \"$LIST\" | tr : '\\n'\n"))
    assert found.solutions[0].program.text == "tr : '\\n'\n"
    assert found.solutions[0].reads == "standard input"


def test_a_program_that_sets_a_column_may_show_it_alone() -> None:
    body = asks(("df", "name v\na 1\nb 2\n"), ("Expected output:", "2\n4\n"))
    (solution, *_) = understood(body, pre("df['w'] = df['v'] * 2\nprint(df)\n")).solutions
    assert "column" in scripts.displays(solution)
    assert scripts.executable(solution, "column").endswith("result = df['w']\nprint(*result, sep='\\n')\n")


def test_the_first_column_may_name_the_rows() -> None:
    body = asks(
        ("I have a table", "name  A    B    C\nx    CAT       DOG\ny         TIGERS\n"),
        ("expected output:", "name A B C\nx 1 0 1\ny 0 1 0\n"),
    )
    programs = [s.program.text for s in understood(body, pre("df = df.notna().astype(int)\n")).solutions]
    assert programs == ["df = df.notna().astype(int)\n", "df = df.set_index(df.columns[0])\ndf = df.notna().astype(int)\n"]
    numbers = asks(("I have a table", "n v\n1 2\n3 4\n"), ("expected output:", "n v\n3 4\n"))
    assert len(understood(numbers, pre("df[df.v > 2]\n")).solutions) == 1


def test_a_header_of_two_words_is_taken_apart_where_its_cells_are() -> None:
    text = "part_id part_name    made         n\n1       Left wheel   3 May 2010   7\n2       Bell of tin  12 May 2011  8\n"
    assert table(text) == (".csv", "part_id,part_name,made,n\n1,Left wheel,3 May 2010,7\n2,Bell of tin,12 May 2011,8\n")
    assert table("A = [[1, 2],\n     [3, 4]]\n") is None


def test_the_order_in_which_programs_name_their_tables_does_not_part_them() -> None:
    asked = asks(("df1", TABLE), ("df2", OTHER), ("expected output:", "name v w\na 1 3\nb 2 4\n"))
    code = pre("df2 = pd.DataFrame({'name': ['a', 'b'], 'w': [3, 4]})\ndf1 = pd.DataFrame({'name': ['a', 'b'], 'v': [1, 2]})\n")
    found = understood(code + asked, pre("df1.merge(df2)\n"), pre("m = df2.set_index('name')['w']\ndf1.assign(w=df1['name'].map(m))\n"))
    assert [{solution.answer for solution in each.solutions} for each in (found, *found.otherwise)] == [{10, 11}, {10, 11}]
    for each in (found, *found.otherwise):
        assert {dict(zip(s.names, s.texts, strict=True))[s.names[0]] for s in each.solutions} == {each.inputs[0].text}


def test_what_the_questions_code_sets_is_another_reading_of_its_tables() -> None:
    asked = asks(("df", "  name v\n0 a 1\n1 b 2\n"), ("expected output:", "b 2\n"))
    found = understood(pre("df = pd.DataFrame({'name': ['a', 'b'], 'v': [1, 2]})\n") + asked, pre("df.tail(1)\n"))
    assert [each.inputs[0].name for each in (found, *found.otherwise)] == ["df.txt", "df.csv"]


def test_the_reading_that_most_answers_share_comes_first() -> None:
    asked = asks(("df1", "  name v\n0 a 1\n1 b 2\n"), ("df2", "  name w\n0 b 3\n"), ("expected output:", "b 2 3\n"))
    own = "df1 = pd.DataFrame({'name': ['a', 'b'], 'v': [1, 2]})\ndf2 = pd.DataFrame({'name': ['b'], 'w': [3]})\n"
    found = understood(pre(own) + asked, pre("df1.merge(df2)\n"), pre(f"{own}print(pd.merge(df1, df2))\n"))
    assert [each.inputs[0].name for each in (found, *found.otherwise)] == ["df1.csv", "df1.txt"]
    assert found.independent == 2
    assert found.solutions[0].answer == 10


def test_files_are_found_by_their_names_among_more_blocks() -> None:
    asked = asks(("a.txt", "x\ny\n"), ("b.txt", "1\n2\n"), ("c.txt", "u\nv\n"), ("expected output:", "y\nx\n"))
    assert understood(asked, pre("sort -r a.txt\n")).inputs == (("a.txt", "x\ny\n"),)
    found = understood(asked, pre("paste c.txt a.txt\n"))
    assert found.inputs == (("a.txt", "x\ny\n"), ("c.txt", "u\nv\n"))


def test_a_file_that_nobody_names_may_be_any_of_the_blocks() -> None:
    asked = asks(("I have a file:", "x\ny\n"), ("I also have this file:", "1\n2\n"), ("expected output:", "y\nx\n"))
    found = understood(asked, pre("sort -r it.txt\n"))
    assert [each.inputs for each in (found, *found.otherwise)] == [(("it.txt", "x\ny\n"),), (("it.txt", "1\n2\n"),)]


def test_what_one_answer_sets_is_the_input_of_others_if_the_question_shows_none() -> None:
    asked = "<p>How do I get the name without quotes?</p>" + asks(("I expect the output:", "Ann\n"))
    found = understood(asked, pre("jq -r .name it.json\n"), pre("echo '{\"name\": \"Ann\"}' | jq -r '.[]'\n"))
    assert [(s.answer, s.names, s.texts) for s in found.solutions] == [
        (10, ("it.json",), ('{"name": "Ann"}\n',)),
        (11, ("input.txt",), ('{"name": "Ann"}\n',)),
    ]
    with_input = asks(("My file:", '{"name": "Bob"}\n')) + asked
    assert understood(with_input, pre("jq -r .name it.json\n")).inputs == (("it.json", '{"name": "Bob"}\n'),)


def test_tables_are_loaded_before_the_program_imports_its_library() -> None:
    asked = asks(("df", TABLE), ("expected output:", "b 2\n"))
    (solution, *_) = understood(asked, pre("import pandas as pd\nprint(df.tail(1))\n")).solutions
    text = scripts.executable(solution)
    assert text.index("import pandas as pd") < text.index("pd.read_csv") < text.rindex("import pandas as pd")


@pytest.mark.parametrize("name", free_names.USUAL_IMPORTS)
def test_what_counts_as_given_is_imported(name: str) -> None:
    asked = asks(("df", TABLE), ("expected output:", "b 2\n"))
    (solution, *_) = understood(asked, pre(f"{name}\ndf.tail(1)\n")).solutions
    assert free_names.USUAL_IMPORTS[name] in scripts.executable(solution).splitlines()


def test_a_list_of_some_of_the_files_stands_for_all_of_them() -> None:
    asked = asks(("a.txt", "x\ny\n"), ("b.txt", "1\n2\n"), ("c.txt", "u\nv\n"), ("expected output:", "x\n1\nu\n"))
    code = "for name in {}:\n    print(open(name).readline().strip())\n"
    found = understood(asked, pre(code.format("['a.txt', 'b.txt']")), pre(code.format("['c.txt', 'd.txt']")))
    assert [(s.answer, s.names) for s in found.solutions] == [(10, ("a.txt", "b.txt", "c.txt"))]
    assert found.solutions[0].program.text == code.format("['a.txt', 'b.txt', 'c.txt']")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("echo '2 1' | tr ' ' '\\n'\n", "cat input.txt | tr ' ' '\\n'\n"),
        ("sort <<< '3 2'\n", "cat input.txt |sort\n"),
        ('sort <<< "$words"\n', "sort\n"),
        ('printf "%s\\n" "$words" | sort\n', "sort\n"),
    ],
)
def test_a_program_that_is_fed_an_example_also_reads_what_the_question_shows(code: str, text: str) -> None:
    asked = asks(("I have a file:", "b\na\n"), ("expected output:", "a\nb\n"))
    found = understood(asked, pre(code))
    assert found.solutions[0].program.text == text
    assert found.inputs[0].text == "b\na\n"


def test_a_program_with_a_table_of_its_own_also_works_on_the_questions() -> None:
    asked = asks(("I have a data frame:", TABLE), ("expected output:", "b 2\n"))
    found = understood(asked, pre("t = pd.DataFrame({'name': ['x', 'y'], 'v': [8, 9]})\nprint(t.tail(1))\n"))
    assert found.inputs == (("t.txt", TABLE),)
    assert found.otherwise[-1].inputs == (("t.csv", "name,v\nx,8\ny,9\n"),)
