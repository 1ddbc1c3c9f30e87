"""The pipeline finishes every record exactly once, whatever happens to the record or the build."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.errors import BoxBroken, ImageError, SandboxError, SourceError
from envfarm.core.source import SourceRecord
from envfarm.stores.catalogue import TaskCatalogue
from task_builders import progress
from task_builders.journal import ItemRejected, Journal
from task_builders.pipeline import SCREENING_FAILED, NamedSource, Pipeline, Record
from tests.unit.task_builders.number_stages import NumberStages, build, numbered, record


async def names(home: Path) -> list[str]:
    catalogue = TaskCatalogue(home / "catalogue")
    rows = [row.name for row in await catalogue.rows()]
    catalogue.close()
    return sorted(rows)


EXPECTED = sorted(f"acme/rockets-Record{n}" for n in range(1, 21) if n % 3 and n % 5)


async def test_every_record_ends_as_task_or_rejection(tmp_path: Path) -> None:
    stages = NumberStages()
    result = await build(tmp_path, stages)
    kinds = [item.kind for item in result.finished]
    assert (kinds.count("valid"), kinds.count("rejected"), result.new) == (len(EXPECTED), 20 - len(EXPECTED), 20)
    assert result.complete
    assert await names(tmp_path) == EXPECTED
    assert stages.most_at_once <= 3


async def test_every_entry_of_the_journal_has_its_records_title(tmp_path: Path) -> None:
    def trouble(number: int) -> None:
        if number == 7:
            raise SandboxError("no box to be had")

    result = await build(tmp_path, NumberStages(trouble))
    assert {entry.kind for entry in [*result.finished, *result.failed]} == {"valid", "rejected", "failed"}
    assert {entry.title for entry in [*result.finished, *result.failed]} == {f"Record {n}" for n in range(1, 21)}


async def test_second_build_does_nothing_again(tmp_path: Path) -> None:
    first = await build(tmp_path, NumberStages())
    again = NumberStages()
    second = await build(tmp_path, again)
    assert again.minted == []
    assert second.new == 0
    assert sorted(i.source_digest for i in second.finished) == sorted(i.source_digest for i in first.finished)


async def test_what_a_gate_rejected_is_judged_again_when_asked(tmp_path: Path) -> None:
    await build(tmp_path, NumberStages())
    again = NumberStages()
    result = await build(tmp_path, again, again=[Gate.STATES])
    assert sorted(again.minted) == [5, 10, 20]
    assert result.new == 3
    assert len(result.finished) == 20


async def test_fault_of_the_infrastructure_is_no_rejection_and_is_tried_again(tmp_path: Path) -> None:
    def trouble(number: int) -> None:
        if number == 7:
            raise SandboxError("no box to be had", hint="start the daemon")

    result = await build(tmp_path, NumberStages(trouble))
    assert [(f.error, f.hint) for f in result.failed] == [("no box to be had", "start the daemon")]
    assert not result.complete
    again = NumberStages()
    assert (await build(tmp_path, again)).complete
    assert again.minted == [7]
    assert await names(tmp_path) == EXPECTED


async def test_bug_in_one_item_does_not_end_the_build(tmp_path: Path) -> None:
    def trouble(number: int) -> None:
        if number == 8:
            raise KeyError("a bug")

    result = await build(tmp_path, NumberStages(trouble))
    assert len(result.failed) == 1
    assert "KeyError" in result.failed[0].error
    assert len(result.finished) == 19


async def test_a_record_that_screening_fails_at_is_refused_and_ends_no_build(tmp_path: Path) -> None:
    class FailingStages(NumberStages):
        def screen(self, record: Record) -> Candidate | Rejection:
            if numbered(record).title == "Record 7":
                raise RecursionError("too deep")
            return super().screen(record)

    result = await build(tmp_path, FailingStages())
    (refused,) = [i.rejection for i in result.finished if isinstance(i, ItemRejected) and i.rejection.reason == SCREENING_FAILED]
    assert refused.detail == "screening: RecursionError: too deep"
    assert result.complete
    assert await names(tmp_path) == [name for name in EXPECTED if not name.endswith("Record7")]


async def test_build_stops_when_nothing_works_in_any_source(tmp_path: Path) -> None:
    tried: list[int] = []

    def trouble(number: int) -> None:
        tried.append(number)
        raise SandboxError(f"no box for {number}")

    with pytest.raises(SandboxError, match="no box for 11"):
        await build(tmp_path, NumberStages(trouble), parallel=1, per_source=5)
    assert tried == [1, 2, 4, 7, 8, 10, 11]


async def test_one_source_ends_no_build_of_others_and_is_left_to_the_next(tmp_path: Path) -> None:
    def trouble(number: int) -> None:
        if number <= 10:
            raise SandboxError("no box to be had", hint="start the daemon")

    first = NumberStages(trouble)
    result = await build(tmp_path, first, parallel=1, per_source=10)
    assert first.minted == [11, 13, 14, 16, 17, 19, 20]
    assert [f.error for f in result.failed] == ["no box to be had"] * 3
    assert result.sources_failed == (
        "numbers from 1: left to the next build after 3 faults of the infrastructure in a row: no box to be had",
    )
    assert not result.complete
    second = NumberStages()
    assert (await build(tmp_path, second, parallel=1, per_source=10)).complete
    assert sorted(second.minted) == [1, 2, 4, 5, 7, 8, 10]


@pytest.mark.parametrize("error", [BoxBroken("its tests broke the box"), KeyError("a bug"), ImageError("gone")], ids=repr)
async def test_failures_that_the_next_project_would_not_meet_never_stop_a_build(tmp_path: Path, error: Exception) -> None:
    def trouble(number: int) -> None:
        if number < 12:
            raise error

    stages = NumberStages(trouble)
    result = await build(tmp_path, stages, parallel=1)
    assert stages.minted == [n for n in range(12, 21) if n % 3]
    assert len(result.failed) == len([n for n in range(1, 12) if n % 3])


async def test_limit_bounds_candidates_over_all_builds(tmp_path: Path) -> None:
    first = NumberStages()
    await build(tmp_path, first, limit=4)
    assert len(first.minted) == 4
    second = NumberStages()
    await build(tmp_path, second, limit=4)
    assert second.minted == []


async def test_source_that_breaks_off_keeps_what_it_gave_and_leaves_the_others(tmp_path: Path) -> None:
    def broken() -> Iterator[SourceRecord]:
        yield record(1)
        raise SourceError("the page is gone", hint="look elsewhere")

    catalogue = TaskCatalogue(tmp_path / "catalogue")
    events: list[progress.Event] = []
    with Journal(tmp_path / "journal.jsonl") as journal:
        pipeline = Pipeline(NumberStages(), catalogue, journal, provider="local", watch=events.append)
        result = await pipeline.run([NamedSource("broken", broken), NamedSource("good", lambda: [record(2)])])
    catalogue.close()
    assert result.sources_failed == ("broken: the page is gone",)
    assert any(isinstance(e, progress.SourceFailed) and e.hint == "look elsewhere" for e in events)
    assert [i.source_digest for i in result.finished] == [record(1).digest, record(2).digest]


KILLED = textwrap.dedent("""
    import asyncio, os, signal, sys
    from pathlib import Path
    from tests.unit.task_builders.number_stages import NumberStages, build
    def trouble(number):
        if number == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(build(Path({home!r}), NumberStages(trouble)))
""")


@pytest.mark.parametrize("at", [1, 8, 19])
async def test_killed_build_goes_on_where_it_was(tmp_path: Path, at: int) -> None:
    argv = [sys.executable, "-W", "ignore", "-c", KILLED.format(at=at, home=str(tmp_path))]
    root = Path(__file__).parents[3]
    done = await asyncio.to_thread(subprocess.run, argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Journal(tmp_path / "journal.jsonl") as journal:
        before = journal.finished
    again = NumberStages()
    result = await build(tmp_path, again)
    assert result.complete
    assert await names(tmp_path) == EXPECTED
    assert not {digest_of_number(n) for n in again.minted} & set(before)


def digest_of_number(number: int) -> str:
    return record(number).digest


async def test_task_in_the_catalogue_and_not_yet_in_the_journal_is_not_minted_again(tmp_path: Path) -> None:
    await build(tmp_path, NumberStages())
    os.unlink(tmp_path / "journal.jsonl")  # noqa: PTH108 - as a kill before the journal's line would leave it
    again = NumberStages()
    result = await build(tmp_path, again)
    assert sorted(again.minted) == [5, 10, 20], "those that are no tasks, and no others"
    assert len(result.finished) == 20
    assert await names(tmp_path) == EXPECTED


async def test_task_of_another_sandbox_is_checked_here_and_not_minted_twice(tmp_path: Path) -> None:
    await build(tmp_path, NumberStages())
    again = NumberStages()
    catalogue = TaskCatalogue(tmp_path / "catalogue")
    with Journal(tmp_path / "docker.jsonl") as journal:
        pipeline = Pipeline(again, catalogue, journal, provider="docker")
        result = await pipeline.run([NamedSource("numbers", lambda: [record(n) for n in range(1, 21)])])
    reasons = {i.rejection.reason for i in result.finished if i.kind == "rejected" and i.reached == "set up"}
    assert sorted(again.checked) == EXPECTED
    assert reasons == {"divisible", "valid elsewhere, and not in docker"}
    assert [row.providers for row in await catalogue.rows() if row.name.endswith("Record8")] == [("docker", "local")]
    catalogue.close()
    assert await names(tmp_path) == EXPECTED
