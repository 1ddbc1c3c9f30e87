"""The pipeline: source records in, each of them a validated task in the catalogue or a rejection out. Called by `envfarm build`.

Resumable: an item is finished when the catalogue and then the journal say so; a build that was killed anywhere goes on with the items that
are not. The stages themselves are handed in. A fault of the infrastructure is neither a task nor a rejection: it is told, and the item
is taken up again by the next build.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.errors import (
    BuildOutage,
    ClusterError,
    EnvfarmError,
    SandboxError,
    SourceError,
    StoreError,
    TaskError,
    UsageError,
    boundary,
)
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.question import Question
from envfarm.core.source import SourceRecord
from envfarm.core.task import Task
from envfarm.core.validation import Cost, GateResult, ValidationReport
from envfarm.stores.catalogue import Origin, TaskCatalogue
from task_builders import progress
from task_builders.concurrency import first_of
from task_builders.journal import Finished, ItemFailed, ItemRejected, ItemValid, Journal, Reached
from task_builders.progress import Watch
from task_builders.questions.screening import NotUnderstood
from task_builders.questions.understanding import Understood

RECORDS_AT_ONCE = 64
"""Records that are read and screened together: their rejections are written in one go."""
FAULTS_IN_A_ROW = 3
"""After so many faults of the infrastructure in a row the rest of a source is left to the next build; after faults in so many sources in a
row the build stops. One source alone cannot end a build of many.
"""
FAULTS_OF_ALL = (SandboxError, StoreError, BuildOutage, ClusterError)
"""What an item of another project would meet as well. Any other failure may be of one item alone, and is not counted."""
SCREENING_FAILED = "screening failed"
"""A reason: what screening raised is the detail."""

Drafted = Candidate | Understood | NotUnderstood
"""What screening makes of them."""
Record = SourceRecord | Question
"""What sources yield, beside rejections."""


class Minted(Frozen):
    """A task that passed every gate."""

    task: Task
    report: ValidationReport


class Refused(Frozen):
    """A candidate that did not, and how far it came."""

    rejection: Rejection
    reached: Reached = "candidate"
    cost: Cost = Cost()


Stage = Callable[[str], None]
_Queue = asyncio.Queue[tuple[str, Record, Drafted] | None]
"""Candidates on their way to the workers, with the names of their sources; None ends a worker."""


class Stages(Protocol):
    """What the pipeline is made of; `task_builders.stages` is the real thing."""

    def screen(self, record: Record) -> Drafted | Rejection:
        """Make a candidate. Called for every record, in order, finished ones included: it may remember, to find duplicates. Runs in a
        thread, never twice at once. What it raises rejects the record, but for errors that are classified otherwise than as the task's.
        """
        ...

    async def mint(self, record: Record, candidate: Drafted, stage: Stage) -> Minted | Refused:
        """Set up, measure and check. Raises `EnvfarmError` for faults that are not the candidate's."""
        ...

    async def check(self, task: Task, stage: Stage) -> ValidationReport:
        """Put a task that another sandbox knows through the gates in this one. Raises as `mint`."""
        ...


@dataclass(frozen=True)
class NamedSource:
    """One entry of a sources file."""

    name: str
    read: Callable[[], Iterable[Record | Rejection]]
    """Blocking; called in a thread. Raises `SourceError`."""


class BuildResult(Frozen):
    """What a build came to."""

    finished: tuple[ItemValid | ItemRejected, ...]
    """Of these sources, by this build and the ones before."""
    failed: tuple[ItemFailed, ...]
    sources_failed: tuple[str, ...]
    new: int
    """Items that this build finished."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left for another build."""
        return not self.failed and not self.sources_failed


@dataclass
class _Tally:
    seen: dict[Digest, None] = field(default_factory=dict)
    sources_failed: list[str] = field(default_factory=list)
    candidates: int = 0
    new: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Of the infrastructure since an item was finished, by source."""
    left: set[str] = field(default_factory=set)
    """Sources whose remaining items are left to the next build."""


class Pipeline:
    """One build."""

    def __init__(
        self,
        stages: Stages,
        catalogue: TaskCatalogue,
        journal: Journal,
        *,
        provider: str,
        again: Collection[Gate] = (),
        watch: Watch = progress.nobody,
    ) -> None:
        """A build that takes up again what earlier ones rejected at the gates `again`, and what they did not finish."""
        self._stages = stages
        self._catalogue = catalogue
        self._journal = journal
        self._provider = provider
        self._watch = watch
        rejected_there = {d for d, item in journal.finished.items() if isinstance(item, ItemRejected) and item.rejection.gate in again}
        self._done = journal.finished.keys() - rejected_there
        self._tally = _Tally()

    async def run(self, sources: Sequence[NamedSource], *, parallel: int = 1, limit: int | None = None) -> BuildResult:
        """Carry every record to its end, `parallel` candidates at once; with a limit, no more than so many candidates.

        Raises what stops a build as a whole: a journal or catalogue that cannot be written, and the infrastructure's fault when several
        sources in a row meet it.
        """
        queue: _Queue = asyncio.Queue(maxsize=parallel)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(parallel):
                    group.create_task(self._work(queue))
                await self._feed(sources, queue, limit)
                for _ in range(parallel):
                    await queue.put(None)
        except BaseExceptionGroup as failures:
            raise first_of(failures) from failures
        finished = self._journal.finished
        return BuildResult(
            finished=tuple(finished[item] for item in self._tally.seen if item in finished),
            failed=tuple(entry for item, entry in self._journal.failed.items() if item in self._tally.seen),
            sources_failed=tuple(self._tally.sources_failed),
            new=self._tally.new,
        )

    async def _feed(self, sources: Sequence[NamedSource], queue: _Queue, limit: int | None) -> None:
        for source in sources:
            try:
                await self._feed_one(source, queue, limit)
            except SourceError as e:
                self._give_up(source.name, str(e), e.hint)

    def _give_up(self, source: str, error: str, hint: str) -> None:
        self._tally.sources_failed.append(f"{source}: {error}")
        self._watch(progress.SourceFailed(source=source, error=error, hint=hint))

    async def _feed_one(self, source: NamedSource, queue: _Queue, limit: int | None) -> None:
        batches = _batches(source)
        read = rejected = 0
        while batch := await asyncio.to_thread(next, batches, None):
            screened = await asyncio.to_thread(lambda some: [self._screen(record) for record in some], batch)
            refusals = [
                ItemRejected(rejection=result, reached="record", title="" if isinstance(record, Rejection) else record.title)
                for record, result in screened
                if isinstance(result, Rejection)
            ]
            read, rejected = read + len(batch), rejected + len(refusals)
            await self._refuse([item for item in refusals if item.source_digest not in self._done])
            for record, result in screened:
                if isinstance(record, Rejection) or isinstance(result, Rejection):
                    continue
                if source.name in self._tally.left or (limit is not None and self._tally.candidates >= limit):
                    return
                self._tally.candidates += 1
                self._tally.seen[record.digest] = None
                if record.digest not in self._done:
                    await queue.put((source.name, record, result))
        self._watch(progress.SourceRead(source=source.name, records=read, rejected=rejected))

    def _screen(self, record: Record | Rejection) -> tuple[Record | Rejection, Drafted | Rejection]:
        started = time.monotonic()
        result = record if isinstance(record, Rejection) else self._screened(record)
        if isinstance(result, Rejection):
            self._tally.seen[result.source_digest] = None
            result = result.model_copy(update={"seconds": result.seconds or round(time.monotonic() - started, 3)})
        return record, result

    def _screened(self, record: Record) -> Drafted | Rejection:
        """What screening makes of a record. A record that it fails at is refused, and ends no build: it would fail there every time."""
        try:
            with boundary(TaskError, "screening"):
                return self._stages.screen(record)
        except TaskError as e:
            return Rejection.of(record, Gate.CANDIDATE, SCREENING_FAILED, str(e)[:500])

    async def _refuse(self, items: Sequence[ItemRejected]) -> None:
        if not items:
            return
        await asyncio.to_thread(self._journal.append, *items)
        for item in items:
            self._tally.new += 1
            self._watch(progress.ItemDone(item=item.source_digest, result=item))

    async def _work(self, queue: _Queue) -> None:
        while (item := await queue.get()) is not None:
            source, record, candidate = item
            if source in self._tally.left:
                continue
            digest = record.digest
            self._watch(progress.ItemStarted(item=digest, title=f"{record.name}: {record.title}"))
            started = time.monotonic()
            try:
                with boundary(TaskError, f"minting from {record.url}"):
                    result = await self._known(record) or await self._mint(record, candidate)
            except UsageError:
                raise
            except EnvfarmError as e:
                await self._fail(source, record, e, time.monotonic() - started)
                continue
            self._tally.faults.clear()
            self._tally.new += 1
            self._watch(progress.ItemDone(item=digest, result=result))

    async def _known(self, record: Record) -> Finished | None:
        """The item of a record that is a task already: of a killed build, or of one with another sandbox, whose task is checked here."""
        task = await self._catalogue.of_source(record.digest)
        if task is None:
            return None
        started = time.monotonic()
        report = next((r for r in await self._catalogue.reports(task) if r.provider == self._provider and r.passed), None)
        if report is None:
            report = await self._stages.check(await self._catalogue.get(task), self._stage(record))
            await self._catalogue.add_report(report)
            seconds = round(time.monotonic() - started, 1)
        else:
            seconds = round(report.cost.build_s + report.cost.checkout_s + report.cost.validate_s, 1)
        if failed := next((gate for gate in report.gates if not gate.passed), None):
            return await self._refused_again(record, failed, report.cost, seconds)
        return await self._keep(record, (await self._catalogue.find(task)).name, report, seconds)

    async def _refused_again(self, record: Record, failed: GateResult, cost: Cost, seconds: float) -> ItemRejected:
        reason = f"valid elsewhere, and not in {self._provider}"
        rejection = Rejection.of(record, failed.gate, reason, failed.detail, evidence=failed.evidence, seconds=seconds)
        item = ItemRejected(rejection=rejection, reached="set up", cost=cost, title=record.title)
        await asyncio.to_thread(self._journal.append, item)
        return item

    def _stage(self, record: Record) -> Stage:
        return lambda words: self._watch(progress.ItemAt(item=record.digest, stage=words))

    async def _mint(self, record: Record, candidate: Drafted) -> Finished:
        started = time.monotonic()
        result = await self._stages.mint(record, candidate, self._stage(record))
        seconds = round(time.monotonic() - started, 1)
        if isinstance(result, Refused):
            rejection = result.rejection.model_copy(update={"seconds": seconds})
            refused = ItemRejected(rejection=rejection, reached=result.reached, cost=result.cost, title=record.title)
            await asyncio.to_thread(self._journal.append, refused)
            return refused
        origin = Origin(repository=record.name, source_digest=record.digest)
        await self._catalogue.add_validated(result.task, result.report, origin=origin)
        return await self._keep(record, result.task.name, result.report, seconds)

    async def _keep(self, record: Record, name: str, report: ValidationReport, seconds: float) -> ItemValid:
        item = ItemValid(
            source_digest=record.digest,
            project=record.name,
            url=record.url,
            task=report.task,
            task_name=name,
            seconds=seconds,
            cost=report.cost,
            not_asked=report.missing,
            title=record.title,
        )
        await asyncio.to_thread(self._journal.append, item)
        return item

    async def _fail(self, source: str, record: Record, error: EnvfarmError, seconds: float) -> None:
        item = ItemFailed(
            source_digest=record.digest,
            project=record.name,
            url=record.url,
            error=str(error),
            hint=error.hint,
            seconds=round(seconds, 1),
            title=record.title,
        )
        await asyncio.to_thread(self._journal.append, item)
        self._watch(progress.ItemDone(item=record.digest, result=item))
        if not isinstance(error, FAULTS_OF_ALL):
            return
        self._tally.faults[source] += 1
        if len(self._tally.faults) >= FAULTS_IN_A_ROW:
            raise error
        if self._tally.faults[source] >= FAULTS_IN_A_ROW and source not in self._tally.left:
            self._tally.left.add(source)
            self._give_up(
                source, f"left to the next build after {FAULTS_IN_A_ROW} faults of the infrastructure in a row: {error}", error.hint
            )


def _batches(source: NamedSource) -> Iterator[list[Record | Rejection]]:
    """What a source yields, in batches. What came before an error is a batch of its own, and the error comes after it."""
    batch: list[Record | Rejection] = []
    try:
        with boundary(SourceError, f"reading {source.name}"):
            for record in source.read():
                batch.append(record)
                if len(batch) == RECORDS_AT_ONCE:
                    yield batch
                    batch = []
    except SourceError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
