"""Making a terminal task from a question and its trial, and the gates that need no box."""

from dataclasses import replace

import pytest

from envfarm.core.plan import Relation
from envfarm.core.question import Question
from envfarm.core.task import Task
from envfarm.grading import outputs
from task_builders.questions.joining import InputFile
from task_builders.questions.trial import Decided, Trial
from task_builders.questions.understanding import Understood, understand
from task_builders.terminal import derived_programs, gates, giveaways, leaks, make, sought, sufficiency
from tests.unit.questions.asked import ASKED, SORTED, TABLE, pre, question

BODY = ASKED + "<p>See https://example.org/thread/9 for more.</p>" + pre("sort x.txt | head")


def understood(asked: Question) -> Understood:
    found = understand(asked)
    assert isinstance(found, Understood)
    return found


def made(*outputs: str) -> tuple[str, Task]:
    asked = question(BODY, pre("sort x.txt\n"), title="How to sort a file?")
    found = understand(asked)
    assert isinstance(found, Understood)
    decided = {f"v{n}": Decided(inputs=(("x.txt", text[::-1]),), output=text, by="two answers agree") for n, text in enumerate(outputs)}
    trial = Trial(runs=(), reproduced=True, program="#!/bin/bash\nsort x.txt\n", output=SORTED, witness="asker", decided=decided)
    task = make.task(asked, found, trial, make.recipe(found, "3.11.9"), "example/sort-abc")
    return task.instruction, task


def test_the_instruction_stands_on_its_own_and_gives_nothing_away() -> None:
    text, task = made("c\nd\n")
    assert "`/app/solve`" in text
    assert "`/app/x.txt`" in text
    assert TABLE.strip() in text
    assert SORTED.strip() in text
    assert "example.org/thread" not in text
    assert "sort x.txt" not in text
    assert "c\nd" not in text
    assert task.attribution.licence == "CC-BY-SA-4.0"
    assert (task.kind, task.plan.mode) == ("terminal", "replayed")


def test_the_cases_are_the_visible_one_and_what_is_decided() -> None:
    _, task = made("c\nd\n", "e\nf\n")
    assert [case.visible for case in task.plan.cases] == [True, False, False]
    assert task.tests["cases/00/expected"].decode() == SORTED
    assert task.plan.fail_to_pass == tuple(case.id for case in task.plan.cases)


def test_words_that_nobody_tells_are_not_asked_for() -> None:
    assert sufficiency.judge(made("c\nd\n")[1]).passed
    _, task = made("c\nd\n")
    untold = {**task.tests, "cases/01/input/x.txt": b"1 2\n", "cases/01/expected": b"unheard 3\n"}
    assert not sufficiency.judge(task.model_copy(update={"tests": untold})).passed
    shown = {**task.tests, "cases/00/expected": b"appended 3\n"}
    example = task.instruction + "\n```\nappended 3\n```\n"
    assert not sufficiency.judge(task.model_copy(update={"tests": shown, "instruction": example})).passed
    rule = "Write appended before each number.\n" + example
    assert sufficiency.judge(task.model_copy(update={"tests": shown, "instruction": rule})).passed


def test_the_cases_that_are_kept_must_be_enough_and_differ() -> None:
    _, task = made("c\nd\n", "e\nf\n", "g\nh\n", "i\nj\n")
    assert gates.with_cases(task, task.plan.fail_to_pass) is not None
    kept = gates.with_cases(task, task.plan.fail_to_pass[:-1])
    assert kept is not None
    assert "cases/04/expected" not in kept.tests
    assert gates.with_cases(task, task.plan.fail_to_pass[1:]) is None
    assert gates.with_cases(task, task.plan.fail_to_pass[:3]) is None
    names = dict(zip(task.plan.fail_to_pass[1:], ("other values", "other words", "other words again", "unusual characters"), strict=True))
    cases = tuple(replace(c, id=f"{make.CASE}{names[c.id]}") if c.id in names else c for c in task.plan.cases)
    renamed = task.model_copy(update={"plan": replace(task.plan, cases=cases)})
    assert gates.with_cases(renamed, [case.id for case in cases]) is None
    same = made("c\n", "c\n", "c\n", "c\n")[1]
    assert gates.with_cases(same, same.plan.fail_to_pass) is None


def test_a_task_as_it_stands_is_judged_by_its_cases_too() -> None:
    assert gates.sufficient(made("c\nd\n", "e\nf\n", "g\nh\n")[1]).passed
    found = gates.sufficient(made("c\nd\n", "e\nf\n")[1])
    assert (found.passed, found.detail) == (False, gates.FEW_CASES)
    table = made("b 2\n", "b 2\na 1\n", "a 1\na 1\n")[1]
    kept = {path: b"a 1\nb 2\n" if "/input/" in path else data for path, data in table.tests.items()}
    assert gates.sufficient(table.model_copy(update={"tests": kept})).detail == gates.FEW_CASES


def test_outputs_that_the_relation_does_not_tell_apart_are_one() -> None:
    rows = ("1 x", "2 y", "3 z")
    tables = ["\n".join(("n name", *(rows[n:] + rows[:n]), "")) for n in range(3)]
    alike = made(*tables, "name n\nx 1\nz 3\ny 2\n")[1]
    for relation, enough in (("lines", True), ("table", False)):
        cases = tuple(replace(case, relation=relation) for case in alike.plan.cases)  # type: ignore[arg-type]
        task = alike.model_copy(update={"plan": replace(alike.plan, cases=cases)})
        assert (gates.with_cases(task, task.plan.fail_to_pass) is not None) == enough


@pytest.mark.parametrize("relation", ["lines", "columns"])
def test_each_case_gets_the_output_of_another_one_that_its_relation_tells_apart(relation: Relation) -> None:
    task = made("c\nd\n", "c\nd\n", "e f\n", "e   f\n", "g\n")[1]
    cases = tuple(replace(case, relation=relation) for case in task.plan.cases)
    task = task.model_copy(update={"plan": replace(task.plan, cases=cases)})
    given = gates.turned(task)
    assert set(given.values()) <= {task.tests[path] for path in given}
    assert len(given) == len(cases)
    assert not [path for path, data in given.items() if outputs.same(data, task.tests[path], relation)]


def test_leaks_are_lines_of_the_program_and_of_hidden_outputs() -> None:
    long = "a line that is long enough to be of its own\n"
    assert leaks.lines(made(long)[1]) == (long.strip(),)


def test_every_attack_leaves_a_program_and_names_why_it_must_fail() -> None:
    _, task = made("c\nd\n")
    found = derived_programs.attacks(task)
    assert len({attack.name for attack in found}) == len(found) >= 8
    assert all(attack.aims or attack.cannot_reach for attack in found)
    assert set(derived_programs.mutants(task)) >= {"first line alone", "the input itself"}


def test_files_that_no_block_shows_are_shown_by_the_instruction() -> None:
    asked = question(ASKED, pre("sort x.txt\n"))
    found = understand(asked)
    assert isinstance(found, Understood)
    trial = Trial(runs=(), reproduced=True, output=SORTED)
    short = replace(found, inputs=(InputFile("names.json", '["kim"]\n'),))
    assert '`names.json`:\n```\n["kim"]\n```' in make.instruction(asked, short, trial)
    long = replace(found, inputs=(InputFile("n.txt", "".join(f"<{n}>\n" for n in range(99))),))
    text = make.instruction(asked, long, trial)
    assert "`n.txt` is in `/app`, and begins so:\n```\n<0>\n" in text
    assert "<98>" not in text


def test_sentences_about_code_that_was_left_out_go() -> None:
    tried = "<p>Sort it by name. I tried this:</p>" + pre("sort -k2 x.txt\n")
    tried += "<p>What I did then is</p>" + pre("sort -k3 x.txt\n")
    after = "<p>But it did not help. Ties keep their order.</p><p>This code did not help me. I need a script that sorts.</p>"
    asked = question(ASKED + tried + after, pre("sort x.txt\n"))
    found = understand(asked)
    assert isinstance(found, Understood)
    text = make.instruction(asked, found, Trial(runs=(), reproduced=True, output=SORTED))
    for gone in ("I tried this", "it did not help", "What I did then", "This code", "sort -k2"):
        assert gone not in text
    for stays in ("Sort it by name.", "Ties keep their order.", "I need a script that sorts."):
        assert stays in text


def test_headings_and_names_whose_block_was_left_out_go() -> None:
    tried = "<h2>My attempts</h2><p>Here is what I tried, with its output</p>" + pre("sort -k2 x.txt\n") + pre("sort -k3 x.txt\n")
    tried += "<p>d1</p>" + pre("sort -k4 x.txt\n") + "<p>The following code did not help.</p>"
    kept = "<h2>What I want</h2><p>Ties keep their order</p><p><b>Why</b></p><p>It is for a <b>report</b>.</p>"
    asked = question(ASKED + kept + tried, pre("sort x.txt\n"))
    text = make.instruction(asked, understood(asked), Trial(runs=(), reproduced=True, output=SORTED))
    for gone in ("My attempts", "what I tried", "d1", "did not help"):
        assert gone not in text
    for stays in ("What I want\n\nTies keep their order\n\nWhy\n\nIt is for a report.",):
        assert stays in text


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ('<p>Related:</p><ul><li><a href="u">How to sort names</a></li><li><a href="u">And numbers</a></li></ul>', ""),
        ('<p>Read the <a href="u">manual</a>.</p>', "Read the manual."),
        ("<p>Ties keep their order. One way is: <code>sort -s x.txt | uniq -c</code>.</p>", "Ties keep their order."),
        ("<p>Ties keep their order.</p><p>My command:</p><p><code>sort -s x.txt | uniq -c</code></p>", "Ties keep their order."),
        (f"<p>It is like this:</p><p>One of them, x.sh:</p>{pre('sort -k2 x.txt | head')}<p>Ties stay.</p>", "Ties stay."),
        (f"<p>Ties stay.</p><p>and z.txt</p>{pre('sort -k2 x.txt | head')}", "Ties stay."),
        ("<p>Ties stay.</p><p>Input:</p><p><b>Wanted output:</b></p>", "Ties stay."),
        ("<p>Ties keep their order, as the names of the table do here:</p>", "Ties keep their order, as the names of the table do here:"),
    ],
)
def test_nothing_stays_of_what_introduces_what_is_left_out(more: str, left: str) -> None:
    asked = question(ASKED + more, pre("sort x.txt\n"))
    found, trial = understood(asked), Trial(runs=(), reproduced=True, output=SORTED, program="#!/bin/sh\nsort -s x.txt | uniq -c\n")
    plain = make.instruction(question(ASKED, pre("sort x.txt\n")), found, trial).partition(giveaways.TO_WRITE)[0]
    text = make.instruction(asked, found, trial).partition(giveaways.TO_WRITE)[0]
    assert text.removeprefix(plain.rstrip()).strip() == left


def test_what_a_session_shows_of_the_data_is_shown_without_its_commands() -> None:
    body = f"<p>This is my file:</p>{pre('$ cat x.txt' + chr(10) + TABLE)}<p>I want to receive this:</p>"
    asked = question(f"{body}{pre('$ cat x.txt | some_command' + chr(10) + SORTED)}", pre("sort x.txt\n"))
    text = make.instruction(asked, understood(asked), Trial(runs=(), reproduced=True, output=SORTED)).partition("## What")[0]
    assert f"This is my file:\n\n`x.txt`:\n```\n{TABLE}```" in text
    assert f"I want to receive this:\n\n```\n{SORTED}```" in text
    assert "some_command" not in text


def test_words_that_an_attempt_alone_tells_are_named_and_the_attempt_is_not_told() -> None:
    body = f"{ASKED}<p>I tried:</p>{pre('sed s/b/zebra/ x.txt')}"
    asked = question(body, pre("sort x.txt\n"), title="How to sort a file?")
    trial = Trial(runs=(), reproduced=True, program="#!/bin/bash\nsort x.txt\n", output="a 1\nzebra 2\n")
    found = understood(asked)
    task = make.task(asked, found, trial, make.recipe(found, "3.11.9"), "example/sort-abc")
    assert "sed s/b" not in task.instruction
    assert "these stand in no file: zebra." in task.instruction
    assert sufficiency.untold(task) == {}
    assert "zebra" not in make.instruction(asked, found, trial.model_copy(update={"output": SORTED}))


SUM = "awk '{ s += $2; print } END { print \"Total\", s }'"


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        (f"EDIT: thanks, I solved it with <code>{SUM} x.txt</code>. Ties stay.", True),
        ("Now I use <code>awk '{ print; sum[1] += $NF } END { printf \"Total %d\", sum[1] }' x.txt</code>. Ties stay.", True),
        ("I know that <code>awk</code> can print <code>Total</code>. Ties stay.", False),
        ("I tried <code>grep -c Total x.txt</code>. Ties stay.", False),
        ("I tried <code>grep -v 'Total. A' x.txt | sed 's/: B/C/'</code>. Ties stay.", False),
    ],
)
def test_no_sentence_tells_a_program_that_solves_it(said: str, *, gone: bool) -> None:
    asked = question(f"{ASKED}<p>{said}</p>", pre(f"{SUM} x.txt\n"), title="How to add a sum?")
    found = understood(asked)
    own = "awk '{ print; sum[1] += $NF } END { printf \"Total %d\", sum[1] }' x.txt\n"
    trial = Trial(runs=(), reproduced=True, program=f"#!/bin/bash\n{SUM} x.txt\n", askers=(own,), output=SORTED)
    text = make.instruction(asked, found, trial)
    assert ("awk '" in text) is False
    assert (said.partition("</code>. Ties")[0].rpartition("<code>")[2] in text) is not gone
    assert "Ties stay." in text


def test_a_task_whose_instruction_tells_its_program_is_refused() -> None:
    _, task = made("c\nd\n")
    program = "#!/bin/bash\nsort -k2,2n x.txt | uniq -c | head -n 5\n"
    for told, passed in (
        ("`sort -k2,2n x.txt | uniq -c | head -n 9`", False),
        ("Just sort -k2,2n x.txt | uniq -c | head -n 5 helps.", False),
        ("```shell\nsort -k2,2n y.txt | uniq -c | head -n 5\n```", False),
        ("`sort`, `uniq -c`", True),
    ):
        changed = {"solution": {**task.solution, "program": program.encode()}, "instruction": f"Five or 5:\n{told}\n{task.instruction}"}
        found = sufficiency.judge(task.model_copy(update=changed))
        assert (found.detail == sufficiency.TOLD) is not passed, told


@pytest.mark.parametrize(
    ("program", "told", "hidden"),
    [
        ("#!/bin/bash\nawk '$2 > 7' x.txt\n", "", ["7"]),
        ("#!/bin/bash\nawk '$2 > 7' x.txt\n", "Only those above seven.", []),
        ("#!/bin/bash\nawk '$2 > 1 { print }' x.txt\n", "", []),
        ("#!/bin/bash\ncut -c 1-40 x.txt\n", "", []),
        ("#!/bin/bash\nawk '$2 < -7' x.txt\n", "", ["7"]),
        ("#!/bin/bash\nawk '$2 > 2.0' x.txt\n", "Above 2.", []),
        ("#!/usr/bin/env python3\nprint(df[df.n.ge(3)])\n", "", ["3"]),
        ("#!/usr/bin/env python3\nprint(df[df.n > 1000000], df[df.m > 1234567])\n", "Above 1000000 and 1,234,567.", []),
        ("#!/usr/bin/env python3\nprint(df[df.n > 1e6], df[df.m < 5.0], df[df.k > 0.00001])\n", "", ["0.00001", "1000000", "5"]),
        ("#!/usr/bin/env python3\nprint(df[df.n > -4], df[df.n.between(-5, 9)])\n", "", ["4", "5", "9"]),
        ("#!/usr/bin/env python3\nprint(df.query('n > 12').nlargest(4, 'n'))\n", "", ["12", "4"]),
        ("#!/usr/bin/env python3\nprint(pd.cut(df.n, bins=[0, 18, 65]), df.n.clip(lower=7), df.m.isin([8]))\n", "", ["18", "65", "7", "8"]),
        ("#!/usr/bin/env python3\nprint(df.n.round(3).head(len(df) // 2), x.split(',', 4))\n", "", []),
        ("#!/usr/bin/env python3\nprint([x for x in xs if len(x) == 12])\n", "Words of 12 letters.", []),
    ],
)
def test_a_threshold_that_the_program_alone_knows_is_hidden(program: str, told: str, hidden: list[str]) -> None:
    _, task = made("c\nd\n")
    changed = {"solution": {**task.solution, "program": program.encode()}, "instruction": f"{told}\n{task.instruction}"}
    found = sufficiency.judge(task.model_copy(update=changed))
    assert found.evidence["thresholds"] == hidden
    assert found.passed == (not hidden)


def test_an_example_alone_says_too_little() -> None:
    _, task = made("c\nd\n")
    bare = f"# Help\n\n```\n{TABLE}```\n\nto `x y z a b c d`\n\n" + task.instruction[task.instruction.index(giveaways.TO_WRITE) :]
    found = sufficiency.judge(task.model_copy(update={"instruction": bare}))
    assert (found.passed, found.detail) == (False, sufficiency.SAYS_TOO_LITTLE)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("#!/bin/bash\nawk '$2 == \"red\" && $1 ~ /^dark\\s+[a-z]/' x.txt\n", {"red", "dark"}),
        ('#!/bin/bash\njq \'.[] | select(.kind=="red" or (.name | test("blue"))) | .x = "new"\' x.json\n', {"red", "blue"}),
        ("#!/bin/bash\ngrep -v -i 'red' x.txt | grep blue | [ \"$x\" = green ]\n", {"red", "blue", "green"}),
        ('#!/bin/bash\nx="red" awk -F: \'{ print $1, "blue" }\' x.txt\n', set()),
        ("#!/bin/bash\nsed 's/red/blue/' x.txt\n", set()),
        (
            "#!/usr/bin/env python3\nprint(df[df.a.eq('red') | df.b.str.contains('blue.*ish') | (df.c == 'x-1')])\n",
            {"red", "blue", "ish", "x", "1"},
        ),
        ("#!/usr/bin/env python3\nprint([w for w in ws if w not in ['red', 'blue']], x.split(','), d['green'])\n", {"red", "blue"}),
    ],
)
def test_what_a_program_looks_for_are_the_words_that_it_compares_with(program: str, words: set[str]) -> None:
    assert sought.words(program) == words


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("# How to list the red ones?\n\nI have a file with colours of things.", ""),
        ("# Listing\n\nI have a file with colours of things, and I want all reddish ones of them.", ""),
        ("# How to list these?\n\nI have a file with colours of things.", sufficiency.HIDDEN_WORD),
        ("# How to list these?\n\n`error: no red thing`\n\nI have a file with colours of things.", sufficiency.HIDDEN_WORD),
        ("# Listing\n\nThere are red things of many sizes in a file.", sufficiency.ASKS_NOTHING),
        ("# ValueError: what should red be?\n\nThe red things are listed wrongly since yesterday.", sufficiency.ASKS_NOTHING),
        ("# TypeError: cannot list the red things, want other ones\n\nTraceback says so.", sufficiency.SAYS_TOO_LITTLE),
    ],
)
def test_what_is_wanted_and_looked_for_must_be_said_and_not_by_a_message(asked: str, fault: str) -> None:
    _, task = made("c\nd\n")
    rest = task.instruction[task.instruction.index(giveaways.TO_WRITE) :]
    program = b"#!/bin/bash\nawk '$1 == \"red\"' x.txt\n"
    changed = task.model_copy(update={"solution": {**task.solution, "program": program}, "instruction": f"{asked}\n\n{rest}"})
    found = sufficiency.judge(changed)
    assert (found.passed, "" if found.passed else found.detail) == (not fault, fault)


def test_a_sentence_that_says_something_of_its_own_stays_before_what_is_left_out() -> None:
    for lead, kept in (("I want the counts in columns named Xcount Ycount", True), ("What I tried so far is this code", False)):
        asked = question(f"<p>{lead}</p>{pre('sort x.txt | head')}{ASKED}", pre("sort x.txt\n"))
        found = understood(asked)
        trial = Trial(runs=(), reproduced=True, output=SORTED)
        assert (lead in make.instruction(asked, found, trial)) == kept


def test_authors_are_named_with_their_links_and_editors() -> None:
    asked = question(ASKED, pre("sort x.txt\n"))
    shown = {"author": "Ann", "author_url": "https://example.org/users/7", "editors": ("Bo", "Cy")}
    credited = asked.model_copy(update={"credit": asked.credit.model_copy(update=shown)})
    named = make.attribution(credited, 10)
    assert named.author == ("question: Ann (https://example.org/users/7), edited by Bo, Cy; answer, https://example.org/a/10: unknown")


def test_how_missing_values_are_written_is_told() -> None:
    asked = question(ASKED, pre("sort x.txt\n"))
    assert "`NaN`" in make.instruction(asked, understood(asked), Trial(runs=(), reproduced=True, output="a NaN\n"))
    assert "`NaN`" not in make.instruction(asked, understood(asked), Trial(runs=(), reproduced=True, output="a NaNs\n"))
