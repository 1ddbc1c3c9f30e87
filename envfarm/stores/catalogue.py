"""The catalogue: archives of tasks by their digest, and an SQL index of what is known of each.

Called by the task builders, the controller, the API and the command line. Archives never change. What the index alone knows is kept in
files, too (sidecars, datasets), so that it can be made anew from files. What became no task is in builds' journals. Many processes may
use one catalogue at once. It must not build, run or judge anything.
"""

import asyncio
import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import methodcaller
from pathlib import Path

import sqlalchemy as sa
import zstandard

from envfarm.core.errors import StoreError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.core.image import Environment
from envfarm.core.task import Task
from envfarm.core.uninterrupted import in_thread
from envfarm.core.validation import ValidationReport
from envfarm.stores import bounded_zstd, catalogue_archive, catalogue_lookup, catalogue_sidecars, whole_files
from envfarm.stores.catalogue_datasets import Datasets
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow, TaskState
from envfarm.stores.catalogue_schema import ENVIRONMENTS, REPORTS, SCHEMA, TASKS
from envfarm.stores.catalogue_sidecars import environment_row
from envfarm.stores.migrations import migrate
from envfarm.stores.sql import Sql, insert_if_new, insert_or_replace, noting, open_sqlite, store_errors

ARCHIVE_SUFFIX = ".tar.zst"
SIDECAR_SUFFIX = ".json"
MAX_REPORT_BYTES = 1 << 30
DAMAGED = "the index is damaged: move the file away and run `envfarm tasks reindex`, which makes it anew, and says what was lost"


class Origin(Frozen):
    """Where a task came from, beside what its archive says."""

    repository: str
    source_digest: Digest = Digest("")


@dataclass(frozen=True)
class Reindexed:
    """What came back into the index, and what did not."""

    tasks: int
    bare: int
    """Of these tasks those without a sidecar: an earlier version kept none. They are unchecked."""
    datasets: int
    titles: int
    """Of tasks that an earlier version had added."""
    damaged: tuple[StoreError, ...]
    """Files that could not be read. A task with a damaged sidecar is added all the same."""


class TaskCatalogue:
    """Tasks, their environments and reports, below one directory."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.directory = directory
        self.index = directory / "index.sqlite"
        self._now = now
        with store_errors(directory):
            (directory / "archives").mkdir(parents=True, exist_ok=True)
        self._engine = open_sqlite(self.index)
        self._sql = Sql(self._engine, store="catalogue", damaged=DAMAGED)
        self._sql.write_here("open", lambda c: migrate(c, SCHEMA))
        self.datasets = Datasets(self._sql, now, directory / "datasets")

    def close(self) -> None:
        """Give the index's connections back."""
        self._engine.dispose()

    def collect(self) -> int:
        """Remove files that killed writers left half written; how many. Blocking."""
        return whole_files.collect(self.directory.rglob(f"{whole_files.FRESH}*"))

    async def add(self, task: Task, *, origin: Origin | None = None) -> TaskDigest:
        """Keep a task; a known one is left alone (save that a missing or damaged archive is written again)."""
        return await self._add(task, origin)

    async def add_validated(self, task: Task, report: ValidationReport, *, origin: Origin | None = None) -> TaskDigest:
        """Keep a task with its first report, both or neither: a killed process leaves no task that nobody has checked."""
        return await self._add(task, origin, report)

    async def get(self, digest: TaskDigest) -> Task:
        """The task. Raises `StoreError` for an unknown one, and for a damaged archive, naming the file."""
        return await asyncio.to_thread(self._get, digest)

    async def find(self, text: str, *, hint: str = catalogue_lookup.IN_A_SHELL) -> TaskRow:
        """The one task whose name or digest begins with `text`. Raises `UsageError` with what may be meant, or else with the hint."""
        return await self._sql.read("find a task", lambda c: catalogue_lookup.find(c, text, hint=hint))

    async def find_all(self, texts: Collection[str]) -> dict[str, TaskRow]:
        """The one task of each of these texts, 10,000 at most. Raises `UsageError` as `find` does, and for many that are no whole names."""
        return await self._sql.read("find tasks", lambda c: catalogue_lookup.find_all(c, texts))

    async def rows(self, wanted: TaskFilter | None = None) -> list[TaskRow]:
        """The tasks that pass a filter, by name."""
        return await self._sql.read("tasks", lambda c: catalogue_lookup.rows(c, wanted or TaskFilter()))

    async def names(self, tasks: Collection[str]) -> dict[str, str]:
        """The names of those of these digests, 30,000 at most, that are tasks of the catalogue."""
        query = sa.select(TASKS.c.digest, TASKS.c.name).where(TASKS.c.digest.in_(tasks))
        return await self._sql.read("names of tasks", lambda c: {row.digest: row.name for row in c.execute(query)})

    async def of_source(self, source: Digest) -> TaskDigest | None:
        """The task that a source record became, if it became one."""
        query = sa.select(TASKS.c.digest).where(TASKS.c.source_digest == source)
        found = await self._sql.read("task of a source", lambda c: c.scalar(query))
        return None if found is None else TaskDigest(found)

    async def add_report(self, report: ValidationReport, *, environment: bool = True) -> bool:
        """Keep a validation's report and environment in place of the provider's earlier ones; the task's state follows from all reports.

        False, and nothing changes, where no gate failed and some were left out that the provider's earlier report went through.
        Without the `environment` where it was another farm's, and says nothing of what boxes are made of here.
        """

        def work(c: sa.Connection) -> bool:
            kept = self._put_report(c, report, environment=environment)
            if kept:
                self._settle(c, report.task)
            return kept

        return await self._sql.write("add a report", work)

    async def reports(self, task: TaskDigest) -> list[ValidationReport]:
        """A task's reports, one per provider."""
        query = sa.select(REPORTS.c.body).where(REPORTS.c.task == task).order_by(REPORTS.c.provider)
        bodies = await self._sql.read("reports", lambda c: c.scalars(query).all())
        return [self._report(body, task) for body in bodies]

    async def environment(self, task: TaskDigest, provider: str) -> Environment | None:
        """The environment that the task was validated in with this provider."""
        query = sa.select(ENVIRONMENTS.c.body).where(ENVIRONMENTS.c.task == task, ENVIRONMENTS.c.provider == provider)
        body = await self._sql.read("environment", lambda c: c.scalar(query))
        return None if body is None else Environment.model_validate_json(body)

    async def add_environment(self, task: TaskDigest, provider: str, environment: Environment) -> None:
        """Remember in which environment a provider runs the task, in place of an earlier one."""

        def work(c: sa.Connection) -> None:
            insert_or_replace(c, ENVIRONMENTS, environment_row(task, provider, environment))
            self._settle(c, task)

        await self._sql.write("add an environment", work)

    async def quarantine(self, task: TaskDigest, why: str) -> None:
        """Take a task out of what is handed out, whatever its reports say, until a person lifts it."""

        def put_away(c: sa.Connection) -> None:
            if c.execute(sa.update(TASKS).where(TASKS.c.digest == task).values(state="quarantined", why=why)).rowcount:
                self._settle(c, task)

        await self._sql.write("quarantine", put_away)

    async def lift_quarantine(self, task: TaskDigest) -> bool:
        """Give a quarantined task the state that its reports stand for. False where it is not quarantined."""

        def lift(c: sa.Connection) -> bool:
            quarantined = (TASKS.c.digest == task, TASKS.c.state == "quarantined")
            lifted = c.execute(sa.update(TASKS).where(*quarantined).values(state="unchecked", why="")).rowcount == 1
            if lifted:
                self._settle(c, task)
            return lifted

        return await self._sql.write("lift a quarantine", lift)

    async def reindex(self) -> Reindexed:
        """Bring index and files together: first files say what the index knows, then tasks and datasets that it lacks are put back."""
        known = await self._sql.read(
            "tasks", lambda c: {row.digest: row.title for row in c.execute(sa.select(TASKS.c.digest, TASKS.c.title))}
        )
        damaged: list[StoreError] = []
        for digest in sorted(known):
            with noting(damaged):
                await self._sql.write("reindex", partial(self._settle, task=digest))
        sidecars = set(await asyncio.to_thread(self._kept, SIDECAR_SUFFIX))
        tasks = bare = titles = 0
        for digest in await asyncio.to_thread(self._kept, ARCHIVE_SUFFIX):
            with noting(damaged):
                row = await asyncio.to_thread(self._row_of, digest)
                if digest not in known:
                    await self._bring_back(row, damaged)
                    tasks, bare = tasks + 1, bare + (digest not in sidecars)
                elif known[digest] != row["title"]:
                    titled = sa.update(TASKS).where(TASKS.c.digest == digest).values(title=row["title"])
                    await self._sql.write("reindex", methodcaller("execute", titled))
                    titles += 1
        datasets = await self.datasets.reindex(damaged)
        return Reindexed(tasks, bare, datasets, titles, tuple(damaged))

    async def _bring_back(self, row: dict[str, object], damaged: list[StoreError]) -> None:
        """Insert a task's row with what its sidecar says, without that where it is damaged."""
        with noting(damaged):
            await self._sql.write("reindex", partial(self._insert, row=row))
            return
        await self._sql.write("reindex", partial(insert_if_new, table=TASKS, row=row))

    def archive_path(self, digest: TaskDigest) -> Path:
        """Where a task's archive is kept."""
        return self._file(digest, ARCHIVE_SUFFIX)

    def sidecar_path(self, digest: TaskDigest) -> Path:
        """Where what is known of a task is kept, beside its archive."""
        return self._file(digest, SIDECAR_SUFFIX)

    def _file(self, digest: TaskDigest, suffix: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.directory / "archives" / name[:2] / (name + suffix)

    async def _add(self, task: Task, origin: Origin | None, report: ValidationReport | None = None) -> TaskDigest:
        # The archive first: an archive without a row is found by reindex, a row without an archive would be a lie.
        row = await in_thread(lambda: self._archived(task, origin or _origin_of(task)))

        def work(c: sa.Connection) -> None:
            changed = self._insert(c, row)
            if report is not None:
                changed |= self._put_report(c, report)
            if changed:
                self._settle(c, task.digest)

        await self._sql.write("add a task", work)
        return task.digest

    def _insert(self, c: sa.Connection, row: dict[str, object]) -> bool:
        """Insert a task's row unless it is there, with what its sidecar says; whether it was inserted.

        Raises `StoreError` for a damaged sidecar.
        """
        digest = TaskDigest(str(row["digest"]))
        if not insert_if_new(c, TASKS, row):
            return False
        if sidecar := catalogue_sidecars.read(self.sidecar_path(digest), digest):
            catalogue_sidecars.restore(c, sidecar)
            self._settle(c, digest)
        return True

    def _put_report(self, c: sa.Connection, report: ValidationReport, *, environment: bool = True) -> bool:
        """Put a report in place of the provider's earlier one, unless it says less than that; whether it was put there."""
        body = c.scalar(sa.select(REPORTS.c.body).where(REPORTS.c.task == report.task, REPORTS.c.provider == report.provider))
        if body is not None and not report.failed:
            with suppress(StoreError):  # a damaged one is replaced
                if not set(report.missing) <= set(self._report(body, report.task).missing):
                    return False
        row = {"passed": report.passed, "created_at": report.created_at, "body": pack_report(report)}
        insert_or_replace(c, REPORTS, {"task": report.task, "provider": report.provider, **row})
        if environment:
            insert_or_replace(c, ENVIRONMENTS, environment_row(report.task, report.provider, report.environment))
        return True

    def _settle(self, c: sa.Connection, task: TaskDigest) -> None:
        """After a change: give a task the state that its reports stand for, unless a person put it away, and bring its sidecar up to date.

        The sidecar is written before the change is committed: a file that says more is no lie, one that says less would be a loss.
        """
        if c.scalar(sa.select(TASKS.c.state).where(TASKS.c.digest == task)) != "quarantined":
            state = self._state(c, task)
            c.execute(sa.update(TASKS).where(TASKS.c.digest == task, TASKS.c.state != state).values(state=state))
        catalogue_sidecars.keep(c, task, self.sidecar_path(task))

    def _state(self, c: sa.Connection, task: TaskDigest) -> TaskState:
        kept = c.execute(sa.select(REPORTS.c.passed, REPORTS.c.body).where(REPORTS.c.task == task))
        standings = {"valid" if row.passed else self._report(row.body, task).standing for row in kept}
        return "suspect" if "suspect" in standings else "valid" if "valid" in standings else "unchecked"

    def _archived(self, task: Task, origin: Origin) -> dict[str, object]:
        """See to the task's archive; its row."""
        digest = task.digest
        path = self.archive_path(digest)
        if not self._archive_is_sound(path, digest):
            with store_errors(path):
                whole_files.write(path, catalogue_archive.pack(task))
        return self._row(task, digest, origin)

    def _archive_is_sound(self, path: Path, digest: TaskDigest) -> bool:
        try:
            catalogue_archive.unpack(path.read_bytes(), expected=digest, where=str(path))
        except (OSError, StoreError):
            return False
        return True

    def _row(self, task: Task, digest: TaskDigest, origin: Origin) -> dict[str, object]:
        return {
            "digest": digest,
            "name": task.name,
            "kind": task.kind,
            "language": task.language,
            "licence": task.attribution.licence,
            "repository": origin.repository,
            "source_digest": origin.source_digest,
            "source_url": task.attribution.url,
            "created_at": task.created_at,
            "added_at": self._now(),
            "archive_bytes": self.archive_path(digest).stat().st_size,
            "title": task.title,
        }

    def _get(self, digest: TaskDigest) -> Task:
        path = self.archive_path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError as e:
            raise StoreError(f"no task {digest} in {self.directory}", hint="`envfarm tasks list` shows those that are there") from e
        except OSError as e:
            raise StoreError(f"{path}: {e.strerror}") from e
        return catalogue_archive.unpack(data, expected=digest, where=str(path))

    def _report(self, body: bytes, task: TaskDigest) -> ValidationReport:
        try:
            return unpack_report(body)
        except (zstandard.ZstdError, ValueError) as e:
            hint = "run `envfarm tasks validate` to make it anew"
            raise StoreError(f"{self.index}: the report of task {task} is damaged: {str(e).splitlines()[0]}", hint=hint) from e

    def _row_of(self, digest: TaskDigest) -> dict[str, object]:
        task = self._get(digest)
        return self._row(task, digest, _origin_of(task))

    def _kept(self, suffix: str) -> list[TaskDigest]:
        """The tasks that have a file with this suffix."""
        paths = sorted((self.directory / "archives").glob(f"*/*{suffix}"))
        return [TaskDigest("sha256:" + path.name.removesuffix(suffix)) for path in paths]


def pack_report(report: ValidationReport) -> bytes:
    """A report as it is kept and sent: JSON, compressed with zstd."""
    return zstandard.compress(json.dumps(report.model_dump(mode="json")).encode())


def unpack_report(body: bytes, *, most_bytes: int = MAX_REPORT_BYTES) -> ValidationReport:
    """Raises `zstandard.ZstdError` and `ValueError` for what is none, or has more bytes than that."""
    return ValidationReport.model_validate(json.loads(bounded_zstd.decompress(body, most_bytes=most_bytes)))


def _origin_of(task: Task) -> Origin:
    return Origin(repository=task.name.rpartition("-")[0] or task.name)
