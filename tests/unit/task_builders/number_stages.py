"""Stages of the pipeline whose verdicts depend on a record's number, for tests of builds, including killed ones."""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from envfarm.core import digest
from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.image import Environment, ImageRef
from envfarm.core.source import SourceKind, SourceRecord
from envfarm.core.task import Task
from envfarm.core.validation import GateResult, ValidationReport
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.testing.factories import make_task, passed_gates
from task_builders import progress
from task_builders.journal import Journal
from task_builders.pipeline import BuildResult, Drafted, Minted, NamedSource, Pipeline, Record, Refused, Stage

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


def numbered(record: Record) -> SourceRecord:
    assert isinstance(record, SourceRecord)
    return record


def task_of(source: SourceRecord) -> Task:
    return make_task(name="acme/rockets-" + source.title.replace(" ", ""), instruction=source.title)


class NumberStages:
    """Records whose number is divisible by 3 are no candidates, by 5 no tasks; `trouble` may raise for any record."""

    def __init__(self, trouble: Callable[[int], None] = lambda _n: None) -> None:
        self.trouble = trouble
        self.minted: list[int] = []
        self.checked: list[str] = []
        self.at_once = self.most_at_once = 0

    def screen(self, record: Record) -> Candidate | Rejection:
        source = numbered(record)
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

    async def mint(self, record: Record, candidate: Drafted, stage: Stage) -> Minted | Refused:
        source = numbered(record)
        assert isinstance(candidate, Candidate)
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
        gates=passed_gates(GateResult(gate=Gate.GOLD, passed=passed)),
    )


def number_of(source: SourceRecord) -> int:
    return int(source.title.split()[1])


def refusal(source: SourceRecord, gate: Gate) -> Rejection:
    return Rejection(source_digest=source.digest, name=source.name, url=source.url, gate=gate, reason="divisible")


def numbers(first: int, last: int) -> NamedSource:
    return NamedSource(f"numbers from {first}", lambda: [record(n) for n in range(first, last + 1)])


async def build(
    home: Path, stages: NumberStages, count: int = 20, *, again: Collection[Gate] = (), per_source: int = 20, **options: int
) -> BuildResult:
    events: list[progress.Event] = []
    catalogue = TaskCatalogue(home / "catalogue")
    try:
        with Journal(home / "journal.jsonl") as journal:
            pipeline = Pipeline(stages, catalogue, journal, provider="local", again=again, watch=events.append)
            sources = [numbers(first, min(first + per_source - 1, count)) for first in range(1, count + 1, per_source)]
            return await pipeline.run(sources, **{"parallel": 3, **options})
    finally:
        catalogue.close()
