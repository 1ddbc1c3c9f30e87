"""Tasks that a catalogue has already, from whatever sources they came."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.ids import Digest
from envfarm.core.task import Task
from envfarm.stores.catalogue import Origin, TaskCatalogue
from task_builders.candidates.dedup import NEARLY_THE_SAME
from task_builders.questions.alike import SAME_EXAMPLE
from task_builders.questions.repositories import SCRIPT
from task_builders.terminal.earlier import EarlierTasks
from tests.unit.terminal.test_make import made

RECORD = digest.of_bytes(b"a record")
OTHER_WORDS = "# Rows\n\nWhich program puts the rows of my file into the order of their first words, whatever rows there are?\n"
SPOKEN = """# How to sort a file?

I have a file of some hundred rows, and each of them begins with a word. The rows stand in the order in which they were written. I would
like to have them in the order of these words, with nothing else changed.

## What to write
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[TaskCatalogue]:
    opened = TaskCatalogue(tmp_path / "catalogue")
    yield opened
    opened.close()


def task(**changes: object) -> Task:
    return made("c\nd\n", "e\nf\n")[1].model_copy(update={"instruction": SPOKEN, **changes})


def with_output(output: str) -> Task:
    first = task()
    return first.model_copy(update={"tests": {**first.tests, "cases/00/expected": output.encode()}})


async def kept(catalogue: TaskCatalogue, first: Task) -> EarlierTasks:
    await catalogue.add(first, origin=Origin(repository="example.org", source_digest=RECORD))
    return EarlierTasks(catalogue)


async def test_nearly_the_same_words_are_found_with_their_task(catalogue: TaskCatalogue) -> None:
    earlier = await kept(catalogue, task(name="example/sort-first"))
    later = with_output("other\n").model_copy(update={"instruction": SPOKEN.replace("hundred", "thousand")})
    found = await earlier.like(later)
    assert found is not None
    assert (found.reason, found.row.name, found.row.source_digest) == (NEARLY_THE_SAME, "example/sort-first", RECORD)
    assert 0.8 < found.alike < 1


async def test_the_same_example_in_other_words_is_the_same_task(catalogue: TaskCatalogue) -> None:
    earlier = await kept(catalogue, task())
    found = await earlier.like(task(instruction=OTHER_WORDS))
    assert found is not None
    assert found.reason == SAME_EXAMPLE
    assert await earlier.like(with_output("other\n").model_copy(update={"instruction": OTHER_WORDS})) is None


async def test_records_of_the_same_build_are_passed_over(catalogue: TaskCatalogue) -> None:
    earlier = await kept(catalogue, task())
    assert await earlier.like(task(), {RECORD}) is None
    assert await earlier.like(task(), {Digest("sha256:another")}) is not None


async def test_what_a_person_put_away_does_not_come_back(catalogue: TaskCatalogue) -> None:
    first = task()
    earlier = await kept(catalogue, first)
    await catalogue.quarantine(first.digest, "unfair")
    found = await earlier.like(task())
    assert found is not None
    assert (found.row.state, found.row.why) == ("quarantined", "unfair")


async def test_generated_files_make_no_two_questions_alike(catalogue: TaskCatalogue) -> None:
    file = "```\n" + "record 'Ada' ada@example.org 'Begin'\n" * 40 + "echo one and two and three and four\n" * 40 + "```\n"
    given = {"cases/00/input/" + SCRIPT: b"#!/bin/sh\n"}
    first = task(tests={**task().tests, **given}, instruction=f"{SPOKEN.partition('##')[0]}\n{file}")
    earlier = await kept(catalogue, first)
    later = with_output("other\n")
    assert await earlier.like(later.model_copy(update={"tests": {**later.tests, **given}, "instruction": f"{OTHER_WORDS}\n{file}"})) is None


async def test_tasks_without_an_example_are_no_same_example(catalogue: TaskCatalogue) -> None:
    plan = replace(task().plan, cases=())
    earlier = await kept(catalogue, task(plan=plan))
    half = SPOKEN.replace("I would\nlike to have them in the order of these words, with nothing else changed.", OTHER_WORDS)
    assert await earlier.like(task(plan=plan, instruction=half)) is None


async def test_a_damaged_task_is_passed_over(catalogue: TaskCatalogue) -> None:
    first = task()
    earlier = await kept(catalogue, first)
    catalogue.archive_path(first.digest).write_bytes(b"torn")
    assert await earlier.like(task()) is None
