"""Finding programs in blocks: prompts, transcripts, languages, and programs that cannot be tasks."""

import pytest

from task_builders.questions import commands
from task_builders.questions.programs import Program, parse


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("awk '{print $1}' a.txt b.txt", ["a.txt", "b.txt"], []),
        ("awk -F: -v n=2 '{print $n}' OFS=- a.txt", ["a.txt"], []),
        ("awk -f prog.awk a.txt", ["a.txt"], []),
        ("sed -n -e 1p -e '$p' a.txt", ["a.txt"], []),
        ("sed 's/a b/c/' < a.txt > b.txt", ["a.txt"], ["b.txt"]),
        ("grep -v -f patterns a.txt | sort -k 2,2 -t , | uniq -c", ["a.txt"], []),
        ("jq --arg x y -r '.a[] | .b' a.json", ["a.json"], []),
        ("perl -lane 'print $F[0] if /x/' a.txt", ["a.txt"], []),
        ("join -1 2 -2 1 <(sort a) b.txt", ["a", "b.txt"], []),
        ("cat a.txt | \\\n  head -n 3", ["a.txt"], []),
        ("for f in 1 2; do cut -d , -f 2 a.txt; done", ["a.txt"], []),
        ("LC_ALL=C sort a.txt 2>/dev/null", ["a.txt"], []),
        ("tr a-z A-Z <<< word", [], []),
        ('sort "$file" *.txt /dev/stdin -', [], []),
        ("n=`jq length a.json`\necho $n", ["a.json"], []),
        ('all="$(sort "a.txt" | uniq)" && echo "${all}" > b.txt', ["a.txt"], ["b.txt"]),
        ("all=($(cut -d, -f1 a.csv)); echo ${all[0]}", ["a.csv"], []),
        ("x=$(<a.txt); wc -l < b.txt", ["a.txt", "b.txt"], []),
        ("tmp=$(mktemp)\nsort a.txt > $tmp && mv $tmp a.txt", ["a.txt"], ["a.txt"]),
        ("sort a.txt |\n  uniq -c |\n  head -n 3 b.txt", ["a.txt", "b.txt"], []),
        ("cat <<'END' | sort - a.txt\ndon't; cat c.txt\nEND\ncat b.txt", ["a.txt", "b.txt"], []),
        ('both() {\n  paste "$@"\n}\nboth a.txt b.txt > c.txt', ["a.txt", "b.txt"], ["c.txt"]),
        ("for ((i = 0; i < 3; i++)); do echo $((i < 2)); done; sort a.txt", ["a.txt"], []),
        ("case $x in\n  a) sort a.txt;;\nesac", ["a.txt"], []),
        ("(sort a.txt; cat b.txt) | uniq", ["a.txt", "b.txt"], []),
        ("mapfile -t all < <(< a.json jq '.[]')", ["a.json"], []),
    ],
)
def test_what_commands_read_and_write(text: str, reads: list[str], writes: list[str]) -> None:
    found = commands.parse(text)
    assert found is not None
    assert [name for c in found for name in c.reads] == reads
    assert [name for c in found for name in c.writes] == writes


@pytest.mark.parametrize(
    "text", ["echo 'it", "echo `date", "echo $(date", 'echo "it', "cat <<END\nx\n", "echo ${x", "x=(a b", "$(" * 5_000]
)
def test_what_the_shell_would_wait_for_is_no_shell(text: str) -> None:
    assert commands.parse(text) is None


@pytest.mark.parametrize(
    "text", ["$(a " * 2_000 + ")" * 2_000, "((" * 4_000, "`x` " * 2_500, "${x} " * 2_000, "cat <<A\nA\n" * 1_200, "f() {\n" * 1_500]
)
def test_hostile_shell_is_parsed_or_refused(text: str) -> None:
    found = commands.parse(text)
    assert found is None or len(found) <= len(text)


def test_what_a_program_starts_also_counts_in_functions_and_substitutions() -> None:
    text = 'only() { grep -v "$1" "$2"; }\nn=$(only x a.txt | wc -l)\necho "there are `expr $n` of $(frobnicate $(sort b.txt))"\n'
    assert [c.name for c in Program("shell", text).commands] == ["grep", "}", "set", "wc", "set", "expr", "sort", "frobnicate", "echo"]


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("sed -i s/a/b/ a.txt", "a.txt"),
        ("sort a.txt > b.txt", "b.txt"),
        ("jq . a.json | sponge a.json", "a.json"),
        ('sort a.txt > "$tmp" && mv "$tmp" a.txt', "a.txt"),
        ("sort a.txt", ""),
    ],
)
def test_the_file_that_a_program_leaves(text: str, file: str) -> None:
    assert Program("shell", text).leaves == file


def test_a_here_document_belongs_to_its_command_in_a_session() -> None:
    (found,) = parse("$ jq -c . <<END\n> {}\n> END\n{}\n")
    assert found == Program("shell", "jq -c . <<END\n{}\nEND\n", "{}\n")


def test_lines_of_a_session_go_on_by_indentation_and_open_brackets() -> None:
    (found,) = parse(">>> def f(x):\n        return max(x,\n                   2)\n>>> f(\n1)\n2\n")
    assert found == Program("python", "def f(x):\n        return max(x,\n                   2)\nf(\n1)\n", "2\n")
    assert parse(">>> x\n   a  b\n0  1  2\n") == (Program("python", "x\n", "   a  b\n0  1  2\n"),)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("for x in xs:\n    print x\n", "for x in xs:\n    print(x)\n"),
        ("for x in xs: print x, y\n", "for x in xs: print(x, y)\n"),
        ("print '%s' % x,\n", "print('%s' % x, end=' ')\n"),
        ("for k, v in d.iteritems():\n    print k\n", "for k, v in d.items():\n    print(k)\n"),
        ("try:\n    f()\nexcept ValueError, e:\n    print e\n", "try:\n    f()\nexcept ValueError as e:\n    print(e)\n"),
    ],
)
def test_programs_of_python_2_are_read_as_python_3(old: str, new: str) -> None:
    assert parse(f"import sys\n{old}") == (Program("python", f"import sys\n{new}"),)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("awk '{print}' x\n", ["shell"]),
        ("#!/bin/sh\nx=1\necho $x\n", ["shell"]),
        ("#!/usr/bin/env python3\nx\n", ["python"]),
        ("{ print $1 }\n", ["awk"]),
        ("NR==FNR{a[$1];next} $1 in a\n", ["awk"]),
        ("s/a/b/g\n", ["sed"]),
        (".[] | select(.a == 1)\n", ["jq"]),
        ('{"a": [1, 2], "b": {"c": null}}\n', []),
        ("[1, 2, 3]\n", []),
        ("{'a': 1}\n", []),
        ('{\n  "a": ...\n}\n', []),
        ("<a>\n  <b/>\n</a>\n", []),
        ("import re\nprint(re.sub('a', 'b', 'c'))\n", ["python"]),
        ("for x in range(3):\n    print(x)\n", ["python"]),
        ("my $x = shift;\nprint $x;\n", ["perl"]),
        ("SELECT a FROM b\n", ["sql"]),
        ("if (x == 1) {\n  y();\n}\n", []),
        ("10 A B\n11 C D\n", []),
        ("name  age\nann   3\n", []),
        ("# only a comment\n", []),
    ],
)
def test_what_a_block_is(text: str, kinds: list[str]) -> None:
    assert [p.kind for p in parse(text)] == kinds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ sort x\na\nb\n$ wc -l x\n2 x\n", [("sort x\n", "a\nb\n"), ("wc -l x\n", "2 x\n")]),
        ("me@host:~/dir$ cat x\na\n", [("cat x\n", "a\n")]),
        ("$ awk '{\n>   print\n> }' x\na\n", [("awk '{\n  print\n}' x\n", "a\n")]),
        ("$ sort x |\n  uniq\na\n", [("sort x |\n  uniq\n", "a\n")]),
        (">>> import re\n>>> for x in 'ab':\n...     print(x)\n...\na\nb\n", [("import re\nfor x in 'ab':\n    print(x)\n\n", "a\nb\n")]),
        ("sort x\nzebra 1\nyak 2\n", [("sort x\n", "zebra 1\nyak 2\n")]),
        ("print(1 + 1)\nthe result is 2\n", [("print(1 + 1)\n", "the result is 2\n")]),
    ],
)
def test_transcripts_are_taken_apart(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(p.text, p.printed) for p in parse(text)] == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mkfs.ext4 /dev/sda1", "destroys"),
        ("dd if=/dev/zero of=/dev/sda", "destroys"),
        ("rm -rf / ", "destroys"),
        (":(){ :|:& };:", "fork bomb"),
        ("sudo sort x", "password"),
        ("read -s secret", "password"),
        ("curl http://example.org | jq .", "network"),
        ("git clone x y", "network"),
        ("pip install x", "network"),
        ("while true; do date; done", "end by itself"),
        ("tail -f log", "end by itself"),
        ("echo $RANDOM", "same every time"),
        ("sort x | uniq", ""),
        ("rm -rf build/", ""),
        ("awk '{printf \"%s\\n\", $1}' service.txt_old", ""),
        ("# rows with less than three\nsort x", ""),
        ("# a better service for you\nsort x", ""),
        ("echo no more of this", ""),
        ("grep 'nothing less' x | sort", ""),
        ("cat > x <<'EOF'\nless than three\nEOF\nsort x", ""),
        ("words=(less more watch)\necho ${words[0]}", ""),
        ("export EDITOR=vim", ""),
        ("tail -n 2 out-of-date", ""),
        ("read -sp 'Who? ' x", "password"),
        ("tail -n 3 x | less", "waits for a person"),
        ("/usr/bin/less x", "waits for a person"),
        ("select x in a b; do echo $x; done", "waits for a person"),
        ("find . -name x -exec vim {} ';'", "waits for a person"),
        ("echo x | xargs -n 1 curl", "network"),
        ('x="$(wget -qO- http://example.org)"', "network"),
        ("x=`date`", "same every time"),
        ("date -d 2020-01-01 +%s", ""),
        ("bash -c 'sort x; ping example.org'", "network"),
        ("bomb(){ bomb|bomb& };bomb", "fork bomb"),
        ("function grow { sort x\n grow & }\ngrow", "fork bomb"),
        ('f() { f "$1" | f; }', "fork bomb"),
        ("perl -e 'fork while fork'", "fork bomb"),
        ('f() { sort "$1"; }; f x | f y', ""),
        ("f() { sort x & wait; }; f", ""),
        ("f() { f x && echo y; }", ""),
        ("for ((;;)); do sort x; done", "end by itself"),
        ("until false; do sort x; done", "end by itself"),
        ("cat x > /dev/sda", "destroys"),
        ("cat x > /dev/null", ""),
        ('rm -rf "$HOME"', "destroys"),
        ("rm -r -f ~/*", "destroys"),
        ("rm -rf ~/build", ""),
        ("git rm -r build /", ""),
        ("bash -c 'rm -rf /'", "destroys"),
    ],
)
def test_what_no_task_can_be_about(text: str, why: str) -> None:
    unfit = Program("shell", text).unfit
    assert why in unfit
    assert bool(why) == bool(unfit)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = input('name? ')", "waits for a person"),
        ("import fileinput\nfor line in fileinput.input():\n    print(line)\n", ""),
        ("x = 1  # ask with input()\n", ""),
        ("def input_of(x):\n    return x\n", ""),
        ("print(df['watch time'])\n", ""),
        ("# more than one service\nprint(less)\n", ""),
        ("import os\nos.system('rm -rf /')\n", "destroys"),
        ("from urllib.parse import unquote\nprint(unquote(x))\n", ""),
        ("import matplotlib.pyplot as plt\nplt.show()\n", "heavy library"),
        ("print(df.date)\n", ""),
        ("import random\nprint(random.choice(x))\n", "same every time"),
    ],
)
def test_words_of_the_shell_are_no_commands_in_python(text: str, why: str) -> None:
    unfit = Program("python", text).unfit
    assert why in unfit
    assert bool(why) == bool(unfit)


def test_a_loop_that_breaks_off_ends() -> None:
    assert Program("python", "while True:\n    x += 1\n").unfit
    assert not Program("python", "while True:\n    x += 1\n    if x > 3:\n        break\n").unfit


def test_an_assignment_of_python_above_its_output_is_no_shell() -> None:
    found = parse("s=df.v.str.split(',',expand=True).max(1)\n0    1.5\n1    2.5\ndtype: float64\n")
    assert [each.kind for each in found] == ["python"]
    assert found[0].printed.startswith("0    1.5")
