"""A writer's programs in real boxes: what they agree on becomes cases, and one program alone decides nothing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.protocols import Box
from envfarm.core.question import Question
from task_builders.questions.trial import Trial
from task_builders.questions.understanding import Understood, understand
from task_builders.terminal import sufficiency
from task_builders.writing import trial
from task_builders.writing.proposal import Proposal, parse
from tests.integration.host_box import host_box
from tests.unit.questions.asked import ASKED, SORTED, TABLE, pre, question
from tests.unit.writing.proposals import BY_NUMBER, GOOD

SHELL, PYTHON = GOOD["programs"]
POST = question(f"<p>I want to order my stock.</p>{pre(BY_NUMBER)}", "<p>Use sort.</p>")


@pytest.fixture
async def box(tmp_path: Path, boxd: Path) -> AsyncIterator[Box]:
    async with host_box(tmp_path / "home", boxd) as opened:
        yield opened


async def tried(box: Box, asked: Question = POST, found: Understood | None = None, **changes: Any) -> tuple[Understood, Trial]:
    proposal = parse(json.dumps(GOOD | changes))
    assert isinstance(proposal, Proposal)
    return await trial.run(box, proposal, asked, found)


async def test_what_two_programs_agree_on_becomes_cases(box: Box) -> None:
    reading, found = await tried(box)
    assert found.enough
    assert found.fault == ""
    assert {each.by for each in found.decided.values()} == {trial.BY_WRITER}
    assert (len(found.decided), found.witness, found.agreed) == (4, "post", False)
    assert found.program.startswith("#!/bin/bash\nsort")
    assert (reading.tools, reading.packages) == (("sort", "python"), ("coreutils", "python3"))


async def test_an_output_that_the_post_does_not_show_is_the_writers(box: Box) -> None:
    _, found = await tried(box, asked=question("<p>How?</p>", "<p>So.</p>"))
    assert found.witness == "writer"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"programs": [SHELL]}, trial.ALONE),
        ({"programs": [SHELL, {"language": "shell", "text": "sort -s -n -k2 stock.txt"}]}, trial.ALONE),
        ({"programs": [SHELL, {"language": "shell", "text": "tac stock.txt"}]}, trial.ALONE),
        ({"programs": [SHELL, {"language": "shell", "text": "echo fig 2; echo pear 3; echo apple 10"}]}, trial.TOO_FEW),
        ({"output": "pear 3\n"}, trial.PRINTS_OTHERS),
        ({"instruction": f"{GOOD['instruction']} As in `{SHELL['text'].strip()}`."}, sufficiency.TOLD),
        ({"held_out": [GOOD["held_out"][0]] * 4}, trial.TOO_FEW),
        ({"held_out": [{**each, "output": "another 1\n"} for each in GOOD["held_out"]]}, trial.TOO_FEW),
    ],
    ids=[
        "one",
        "one way twice",
        "another output",
        "disagree",
        "not the output",
        "gives away",
        "one input",
        "claims others",
    ],
)
async def test_programs_that_do_not_show_the_task_to_be_right_reject_it(box: Box, changes: dict[str, Any], fault: str) -> None:
    _, found = await tried(box, **changes)
    assert found.verdict == fault


async def test_a_program_that_is_like_the_tasks_own_can_only_contradict(box: Box) -> None:
    like = {"language": "shell", "text": "sort -s -n -k 2,2 stock.txt | grep -v 5"}
    _, found = await tried(box, programs=[SHELL, PYTHON, like])
    assert (found.undecided, len(found.others)) == (("other input 2",), 1)


async def test_an_input_that_the_instruction_shows_is_not_held_out(box: Box) -> None:
    shown = GOOD["held_out"][0]["files"]["stock.txt"]
    _, found = await tried(box, instruction=f"{GOOD['instruction']}\n```\n{shown}```")
    assert found.undecided == ("other input 1",)


async def test_programs_of_answers_that_read_the_same_files_are_witnesses(box: Box) -> None:
    asked = question(ASKED, pre("sort x.txt"))
    found = understand(asked)
    assert isinstance(found, Understood)
    others = [{"files": {"x.txt": text}} for text in ("d 4\nc 3\n", "f 1\ne 1\ng 1\n", "k 9\nh 1\n")]
    own = {"language": "python", "text": "for line in sorted(open('x.txt')):\n    print(line.rstrip())\n"}
    files = {"files": {"x.txt": TABLE}, "output": SORTED, "programs": [own], "held_out": others}
    _, decided = await tried(box, asked, found, **files)
    assert decided.enough
    assert {each.by for each in decided.decided.values()} == {trial.BY_ANSWER}
    _, alone = await tried(box, asked, None, **files)
    assert alone.verdict == trial.ALONE
    _, copied = await tried(box, asked, found, **files | {"programs": [{"language": "shell", "text": "sort x.txt\n"}]})
    assert copied.verdict == trial.ALONE, "the writer saw the answer"
