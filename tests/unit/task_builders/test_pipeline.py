"""The pipeline finishes every record exactly once, whatever happens to it or to the build."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.errors import SandboxError, SourceError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.source import SourceKind, SourceRecord
from envfarm.core.task import Task
from envfarm.core.validation import GateResult, ValidationReport
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.testing.factories import make_task
from task_builders import progress
from task_builders.journal import Journal
from task_builders.pipeline import BuildResult, Minted, NamedSource, Pipeline, Refused, Stage

WHEN = datetime(2024, 5, 6, tzinfo=UTC)


def record(number: int) -> SourceRecord:
    return SourceRecord(
        kind=SourceKind.GIT,
        url=f"https://example.org/acme/rockets/{number}",
        repository="/nowhere",
        name="acme/rockets",
        title=f"Record {number}",
        body="",
        body_is_issue=True,
        created_at=WHEN,
        base_commit="a",
        fix_commit="b",
        patch="",
    )


def task_of(source: SourceRecord) -> Task:
    return make_task(name="acme/rockets-" + source.title.replace(" ", ""), instruction=source.title)


class NumberStages:
    """Records whose number is divisible by 3 are no candidates, by 5 no tasks; `trouble` may raise for any."""

    def __init__(self, trouble: Callable[[int], None] = lambda _n: None) -> None:
        self.trouble = trouble
        self.minted: list[int] = []
        self.checked: list[str] = []
        self.at_once = self.most_at_once = 0

    def screen(self, source: SourceRecord) -> Candidate | Rejection:
        if number_of(source) % 3 == 0:
            return refusal(source, Gate.CANDIDATE)
        return Candidate(
            source_digest=source.digest,
            repository=source.repository,
            name=source.name,
            url=source.url,
            language="python",
            instruction=source.title,
            licence="MIT",
            created_at=WHEN,
            base_commit="a",
            fix_commit="b",
            source_patch="",
            test_patch="",
            source_paths=(),
            test_paths=(),
        )

    async def mint(self, source: SourceRecord, candidate: Candidate, stage: Stage) -> Minted | Refused:
        assert candidate.source_digest == source.digest
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        stage("thinking")
        await asyncio.sleep(0)
        self.at_once -= 1
        number = number_of(source)
        self.trouble(number)
        self.minted.append(number)
        if number % 5 == 0:
            return Refused(rejection=refusal(source, Gate.STATES), reached="set up")
        task = task_of(source)
        return Minted(task=task, report=report_of(task, "local"))

    async def check(self, task: Task, stage: Stage) -> ValidationReport:
        stage("checking")
        self.checked.append(task.name)
        return report_of(task, "docker", passed=not task.name.endswith("7"))


def report_of(task: Task, provider: str, *, passed: bool = True) -> ValidationReport:
    return ValidationReport(
        task=task.digest,
        environment=Environment(image=ImageRef(kind="host", digest=digest.of_bytes(b"host"))),
        provider=provider,
        created_at=WHEN,
        gates=(GateResult(gate=Gate.GOLD, passed=passed),),
    )


def number_of(source: SourceRecord) -> int:
    return int(source.title.split()[1])


def refusal(source: SourceRecord, gate: Gate) -> Rejection:
    return Rejection(source_digest=source.digest, name=source.name, url=source.url, gate=gate, reason="divisible")


async def build(home: Path, stages: NumberStages, count: int = 20, **options: int) -> BuildResult:
    events: list[progress.Event] = []
    catalogue = TaskCatalogue(home / "catalogue")
    try:
        with Journal(home / "journal.jsonl") as journal:
            pipeline = Pipeline(stages, catalogue, journal, provider="local", watch=events.append)
            sources = [NamedSource("numbers", lambda: [record(n) for n in range(1, count + 1)])]
            return await pipeline.run(sources, **{"parallel": 3, **options})
    finally:
        catalogue.close()


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


async def test_second_build_does_nothing_again(tmp_path: Path) -> None:
    first = await build(tmp_path, NumberStages())
    again = NumberStages()
    second = await build(tmp_path, again)
    assert again.minted == []
    assert second.new == 0
    assert sorted(i.source_digest for i in second.finished) == sorted(i.source_digest for i in first.finished)


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


async def test_build_stops_when_nothing_works_any_more(tmp_path: Path) -> None:
    def trouble(number: int) -> None:
        raise SandboxError(f"no box for {number}")

    stages = NumberStages(trouble)
    with pytest.raises(SandboxError, match="no box"):
        await build(tmp_path, stages, parallel=1)
    assert stages.minted == []


async def test_limit_bounds_candidates_over_all_builds(tmp_path: Path) -> None:
    first = NumberStages()
    await build(tmp_path, first, limit=4)
    assert len(first.minted) == 4
    second = NumberStages()
    await build(tmp_path, second, limit=4)
    assert second.minted == []


async def test_source_that_cannot_be_read_leaves_the_others(tmp_path: Path) -> None:
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
    assert [i.source_digest for i in result.finished] == [record(2).digest]


KILLED = textwrap.dedent("""
    import asyncio, os, signal, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from tests_pipeline import NumberStages, build
    def trouble(number):
        if number == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(build(Path({home!r}), NumberStages(trouble)))
""")


@pytest.mark.parametrize("at", [1, 8, 19])
async def test_killed_build_goes_on_where_it_was(tmp_path: Path, at: int) -> None:
    (tmp_path / "tests_pipeline.py").symlink_to(__file__)
    code = KILLED.format(path=[str(tmp_path), str(Path(__file__).parents[3])], at=at, home=str(tmp_path))
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
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
