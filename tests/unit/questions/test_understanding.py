"""What a task could be made of in a question, or the reason why not."""

import re

import pytest

from envfarm.core.candidate import Gate, Rejection
from task_builders.questions import screening, scripts
from task_builders.questions.blocks import pieces
from task_builders.questions.joining import ASKER, InputFile, Misfit, Solution
from task_builders.questions.programs import Program
from task_builders.questions.roles import Role, with_roles
from task_builders.questions.tally import tally
from task_builders.questions.understanding import Understood, understand
from task_builders.questions.unfit import ENDLESS, unfit
from tests.unit.questions.asked import ASKED, SORTED, TABLE, pre, question


def understood(body: str, *answers: str) -> Understood:
    found = understand(question(body, *answers))
    assert isinstance(found, Understood), found
    return found


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("I have a file like this:", Role.INPUT),
        ("<code>data.csv</code>", Role.INPUT),
        ("Given the following JSON:", Role.INPUT),
        ("file1:", Role.INPUT),
        ("JSON string:", Role.INPUT),
        ("Here's my CSV file:", Role.INPUT),
        ("I want to read a file that contains:", Role.INPUT),
        ("The expected output is:", Role.OUTPUT),
        ("Now I want to append all and create a new file as follows", Role.OUTPUT),
        ("Desired result:", Role.OUTPUT),
        ("and I want to convert it to:", Role.OUTPUT),
        ("But what I want is as follows:", Role.OUTPUT),
        ("The output should look like this:", Role.OUTPUT),
        ("I have a table by `Sample`, and the output will look like:", Role.OUTPUT),
        ("I'm aiming for something like:", Role.OUTPUT),
        ("and generate this output:", Role.OUTPUT),
        ("How can I get only the names, like so?", Role.OUTPUT),
        ("But I get this:", Role.ACTUAL),
        ("which gives:", Role.ACTUAL),
        ("I'm getting this JSON reply from a <code>curl</code> command:", Role.INPUT),
        ("<code>df2</code>", Role.INPUT),
        ("My code so far:", Role.ATTEMPT),
        ("Thanks.", Role.UNKNOWN),
    ],
)
def test_the_words_before_a_block_tell_its_role(words: str, role: Role) -> None:
    (found,) = with_roles(pieces(f"<p>{words}</p>{pre('x 1' + chr(10) + 'y 2')}"))
    assert found.role is role


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("Traceback (most recent call last):\n  x\n", Role.ERROR),
        ("bash: foo: command not found\n", Role.ERROR),
        ("$ frob x\n1\n", Role.SESSION),
        ("awk '{print}' x\n", Role.ATTEMPT),
    ],
)
def test_a_blocks_own_look_comes_first(text: str, role: Role) -> None:
    assert [each.role for each in with_roles(pieces(pre(text)))] == [role]


def test_a_session_shows_files_and_the_wanted_output() -> None:
    shown = pre("$ cat x.txt\n" + TABLE)
    wanted = pre("$ cat x.txt | some_command\n" + SORTED)
    found = with_roles(pieces(f"<p>This is the file:</p>{shown}<p>so I get</p>{wanted}"))
    assert [(each.role, each.block.text) for each in found] == [(Role.INPUT, TABLE), (Role.OUTPUT, SORTED)]


def test_a_filter_of_a_file() -> None:
    found = understood(ASKED, pre("sort x.txt\n"), pre("$ awk '1' x.txt | sort\n" + SORTED))
    assert found.inputs == (InputFile("x.txt", TABLE),)
    assert (found.desired, found.witness, found.state) == (SORTED, "asker", "standard output")
    assert (found.tools, found.independent) == (("sort",), 2)
    assert found.packages == ("coreutils", "gawk")


def test_packages_are_those_of_every_command() -> None:
    assert "moreutils" in understood(ASKED, pre("sort x.txt | sponge x.txt\n")).packages


def test_a_program_that_reads_standard_input_is_fed() -> None:
    found = understood(ASKED, pre("sort | uniq\n"))
    assert [s.reads for s in found.solutions] == ["standard input"]


def test_a_command_that_stands_for_the_input_is_left_out() -> None:
    found = understood(ASKED, pre("your_command | sort\n"))
    assert [(s.program.text, s.reads) for s in found.solutions] == [("sort\n", "standard input")]


def test_a_bare_program_takes_the_names_of_the_text() -> None:
    assert understood(ASKED, pre("{ print $1 }\n")).inputs[0].name == "x.txt"


def test_two_files_are_told_apart_by_name_and_not_by_order() -> None:
    body = f"<p>File1.txt</p>{pre('a 1')}<p>File2.txt</p>{pre('a 2')}<p>expected output</p>{pre('a 2 1')}"
    assert [i.name for i in understood(body, pre("join file2 file1\n")).inputs] == ["file1", "file2"]
    assert [i.name for i in understood(body, pre("join p q\n")).inputs] == ["p", "q"]


def test_files_that_a_program_changes_are_what_is_compared() -> None:
    assert understood(ASKED, pre("sed -i s/a/b/ x.txt\n")).state == "files"
    assert understood(ASKED, pre("sort x.txt > y.txt\n")).state == "files"


def test_where_the_asker_shows_no_output_the_answers_transcript_does() -> None:
    body = f"<p>I have a file x.txt:</p>{pre(TABLE)}<p>It must be sorted. Thanks.</p>"
    assert understood(body, pre("$ sort x.txt\n" + SORTED)).witness == "answer"
    assert understood(body, pre("sort x.txt\n") + "<p>prints</p>" + pre(SORTED)).desired == SORTED


def test_a_part_of_a_program_works_on_the_tables_that_are_shown() -> None:
    body = f"<p>I have a dataframe <code>df</code>:</p>{pre('a b' + chr(10) + '1 2' + chr(10) + '3 4')}<p>expected output</p>{pre('3 4')}"
    found = understood(body, pre("df[df.a > 1]\n"))
    assert (found.solutions[0].names, found.solutions[0].reads, found.state) == (("df.txt",), "variables", "standard output")


NOTHING = "<p>It cannot be done.</p>"


@pytest.mark.parametrize(
    ("body", "answer", "reason"),
    [
        (NOTHING, pre("sort x"), "the question has no block of code"),
        (ASKED, NOTHING, "the accepted answer has no code"),
        (ASKED, pre("some words of no language"), "the answer's code is not a program in a known language"),
        (f"<p>expected output:</p>{pre(SORTED)}", pre("sort x.txt"), "no input is shown"),
        (f"<p>expected output:</p>{pre(SORTED)}", pre("git log"), "it is about a repository, and the answer gives only one way"),
        (f"<p>expected output:</p>{pre(SORTED)}", pre("git log | cat"), "it is about a repository's state, but shows none"),
        (f"<p>I have a file:</p>{pre(TABLE)}<p>Thanks.</p>", pre("sort x.txt"), "no desired output is shown"),
        (ASKED.replace("b 2\na 1", "b 2\n...\na 1"), pre("sort x.txt"), "input or output is abbreviated"),
        (ASKED, pre("frobnicate x.txt | sort x.txt"), "it uses an unknown command"),
        (ASKED, pre("sort /etc/passwd"), "it reads files of the writer's machine"),
        (ASKED, pre("sort a b c"), "it is unclear which block is which file"),
        (ASKED, pre("echo a b c"), "the program reads nothing that the question shows"),
        (ASKED, pre("print(frob(x), y)"), "the program is a fragment: it uses variables that it does not set"),
        (ASKED, pre("sudo sort x.txt"), "the answer's program: it asks for a password or another user's rights"),
        (ASKED, pre("mkfs.ext4 /dev/sda"), "the answer's program: it destroys the machine"),
        (ASKED, pre(":(){ :|:& };:"), "the answer's program: it is a fork bomb"),
        (ASKED, pre("while true; do sort x.txt; done"), "the answer's program: it does not end by itself"),
        (ASKED, pre("curl -O http://example.org/x.txt; sort x.txt"), "the answer's program: it needs the network"),
        (ASKED, pre("Get-Content x.txt | Sort-Object"), "the answer's program: it is for another system"),
    ],
)
def test_why_a_question_is_no_task(body: str, answer: str, reason: str) -> None:
    found = understand(question(body, answer))
    assert isinstance(found, Misfit)
    assert found.reason == reason


def test_screening_rejects_with_the_reason_or_with_what_was_understood() -> None:
    refused = screening.judge(question(ASKED, NOTHING))
    assert isinstance(refused, Rejection)
    assert (refused.gate, refused.reason) == (Gate.CANDIDATE, "the accepted answer has no code")
    known = screening.judge(question(ASKED, pre("sort x.txt")))
    assert isinstance(known, Understood)
    assert [each.name for each in known.inputs] == ["x.txt"]


def test_a_tally_counts_every_question_once() -> None:
    found = tally([question(ASKED, pre("sort x.txt"), pre("awk 1 x.txt")), question(ASKED, NOTHING), question(NOTHING, NOTHING)])
    assert (found.questions, found.understood, found.two_answers, sum(found.reasons.values())) == (3, 1, 1, 2)
    assert found.tools == {"sort": 1}


def test_the_only_data_before_the_output_is_the_input_whatever_its_words() -> None:
    body = f"<p>My command prints</p>{pre(TABLE)}<p>The expected output is:</p>{pre(SORTED)}"
    assert [each.role for each in with_roles(pieces(body))] == [Role.INPUT, Role.OUTPUT]
    two = f"<p>Hello.</p>{pre(TABLE)}<p>Well.</p>{pre(SORTED)}"
    assert Role.INPUT not in [each.role for each in with_roles(pieces(two))]


def test_data_in_a_sentence_are_blocks_where_they_follow_a_colon() -> None:
    body = "<p>Input: <code>[5, 8, 8]</code></p><p>Expected output: <code>[8, 8]</code></p><p>See <code>max(a, b, c)</code>.</p>"
    assert [(each.role, each.block.text) for each in with_roles(pieces(body))] == [
        (Role.INPUT, "[5, 8, 8]\n"),
        (Role.OUTPUT, "[8, 8]\n"),
    ]


def test_a_whole_command_in_a_sentence_is_a_program_where_the_answer_has_no_block() -> None:
    found = understood(ASKED, "<p>Use <code>sort</code>: <code>awk '{print}' x.txt | sort</code> does it.</p>")
    assert [each.program.text for each in found.solutions] == ["awk '{print}' x.txt | sort\n"]


def test_is_there_a_way_asks() -> None:
    (found,) = with_roles(pieces(f"<p>Is there any way to print them line by line? Like this:</p>{pre('x' + chr(10) + 'y')}"))
    assert found.role is Role.OUTPUT


def test_the_askers_own_program_is_a_witness_and_no_answer() -> None:
    asked = f"{ASKED}<p>I get it by this, but is there a better way?</p>{pre('sort x.txt | cat')}"
    found = understand(question(asked, pre("sort x.txt")))
    assert isinstance(found, Understood)
    assert [each.answer for each in found.solutions] == [10, ASKER]
    assert found.independent == 1
    assert isinstance(understand(question(asked, pre("frobnicate x.txt"))), Misfit)


def test_a_piece_of_shell_comes_with_the_functions_that_it_calls() -> None:
    define = "upper() {\n  tr a-z A-Z\n}\n"
    found = understood(ASKED, pre(define) + "<p>Then:</p>" + pre("other < x.txt\n") + pre("sort x.txt | upper\n"))
    assert [each.program.text for each in found.solutions] == [f"{define}sort x.txt | upper\n"]


@pytest.mark.parametrize(
    ("loop", "name"),
    [
        ("for n in numbers:\n    if n > 1:\n        found.append(n)\n", "found"),
        ("for name in names:\n    df[name] = df[name].fillna(0)\n", "df"),
        ("while total < 9:\n    total += 1\n", "total"),
    ],
)
def test_a_loop_at_the_end_leaves_its_result_in_what_it_fills(loop: str, name: str) -> None:
    solution = Solution(10, Program("python", loop), ("numbers.json",), ("[1, 2]\n",), reads="variables")
    assert "plain" in scripts.displays(solution)
    assert scripts.executable(solution, "plain").endswith(f"{loop}result = {name}\nprint(result)\n")
    assert scripts.displays(Solution(10, Program("python", "for n in numbers:\n    print(n)\n"), (), ())) == ("itself",)


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("while true; do sort x.txt; done", True),
        ("while true; do sort x.txt; break; done", False),
        ("while :; do break; done; while 1:\n  f()", True),
        ("exit 0; while True:\n  f()", True),
        ("while read -r x; do echo; done", False),
    ],
)
def test_what_never_leaves_its_loop_does_not_end(text: str, *, endless: bool) -> None:
    assert (unfit(text) == ENDLESS) is endless


@pytest.mark.parametrize(
    "answer",
    [
        pre("while true;\n" * 700 + "break\n"),
        pre("sort x.txt\n" * 800),
        pre("print(open('x.txt').read())\n") * 400,
        pre("rm -" + "r" * 9_000 + "\n"),
        pre("dd " * 3_000),
        pre(":(){" * 2_400),
        pre("sort x.txt\n" * 30_000),
        pre("sort x.txt\n") * 2_000,
        "<p><code>sed 's/a/b/' x.txt</code></p>" * 2_000,
    ],
)
def test_hostile_answers_are_read_within_the_time_of_a_test(answer: str) -> None:
    assert understand(question(ASKED, answer))
    assert understand(question(answer + ASKED, pre("sort x.txt\n")))


def test_data_in_a_sentence_are_not_the_askers_words() -> None:
    body = ASKED + "<p>Count <code>T</code> of <code>T D N</code>; for <code>[5, 6]</code> the result is: <code>8</code></p>"
    found = understand(question(body, pre("sort x.txt")))
    assert isinstance(found, Understood)
    assert {"5", "6", "8", "D"} & set(re.findall(r"\w+", found.plain_words)) == set()
    assert "Count `T` of" in found.plain_words
    assert "[5, 6]" in found.words
