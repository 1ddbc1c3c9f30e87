"""Sidecars: what the index alone knows of a task, in a file beside its archive, from which the index is made anew. A part of the catalogue.

They are written from the index's rows before the transaction that changes these ends, and read only for tasks that the index lacks.
"""

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError

from envfarm.core.errors import StoreError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import TaskDigest
from envfarm.core.image import Environment
from envfarm.stores import whole_files
from envfarm.stores.catalogue_schema import ENVIRONMENTS, REPORTS, TASKS
from envfarm.stores.sql import insert_new, store_errors


class KeptReport(Frozen):
    """A report's row."""

    provider: str
    passed: bool
    created_at: datetime
    body: bytes


class Sidecar(Frozen):
    """The rows of a task, without what its archive says."""

    task: TaskDigest
    repository: str
    source_digest: str
    added_at: datetime
    quarantine: str | None
    """A person's reason; none where there is no quarantine."""
    reports: tuple[KeptReport, ...]
    environments: dict[str, Environment]
    """By provider."""


def keep(connection: sa.Connection, task: TaskDigest, path: Path) -> None:
    """Write what the index knows of a task of its own, durable when this returns, unless the file says it already."""
    write_changed(path, _of(connection, task).model_dump_json().encode())


def read(path: Path, task: TaskDigest) -> Sidecar | None:
    """A task's sidecar, None where there is none. Raises `StoreError` for a damaged one."""
    try:
        with store_errors(path):
            found = Sidecar.model_validate_json(path.read_bytes()) if path.exists() else None
    except ValidationError as e:
        raise _damaged(path, e.errors()[0]["msg"]) from e
    if found is not None and found.task != task:
        raise _damaged(path, f"it is about {found.task}")
    return found


def restore(connection: sa.Connection, sidecar: Sidecar) -> None:
    """Put what a sidecar says into the rows of its task, which was just added. The state is left to the caller, save a quarantine."""
    state = {} if sidecar.quarantine is None else {"state": "quarantined", "why": sidecar.quarantine}
    row = sidecar.model_dump(include={"repository", "source_digest", "added_at"}) | state
    connection.execute(sa.update(TASKS).where(TASKS.c.digest == sidecar.task).values(**row))
    insert_new(connection, REPORTS, [{"task": sidecar.task, **report.model_dump()} for report in sidecar.reports])
    insert_new(connection, ENVIRONMENTS, [environment_row(sidecar.task, *one) for one in sidecar.environments.items()])


def environment_row(task: TaskDigest, provider: str, environment: Environment) -> dict[str, object]:
    """An environment as the index has it."""
    return {"task": task, "provider": provider, "digest": environment.digest, "body": environment.model_dump_json()}


def write_changed(path: Path, content: bytes) -> None:
    """Put a file in its place, unless it has this content."""
    with store_errors(path):
        if not path.exists() or path.read_bytes() != content:
            whole_files.write(path, content)


def _of(connection: sa.Connection, task: TaskDigest) -> Sidecar:
    row = connection.execute(sa.select(TASKS).where(TASKS.c.digest == task)).one()
    reports = connection.execute(sa.select(REPORTS).where(REPORTS.c.task == task).order_by(REPORTS.c.provider))
    environments = connection.execute(sa.select(ENVIRONMENTS).where(ENVIRONMENTS.c.task == task).order_by(ENVIRONMENTS.c.provider))
    return Sidecar(
        task=task,
        repository=row.repository,
        source_digest=row.source_digest,
        added_at=_utc(row.added_at),
        quarantine=row.why if row.state == "quarantined" else None,
        reports=tuple(KeptReport(provider=r.provider, passed=r.passed, created_at=_utc(r.created_at), body=r.body) for r in reports),
        environments={e.provider: Environment.model_validate_json(e.body) for e in environments},
    )


def _utc(time: datetime) -> datetime:
    """SQLite forgets time zones; all that is stored is UTC."""
    return time.replace(tzinfo=UTC)


def _damaged(path: Path, detail: str) -> StoreError:
    hint = "bring it back from a backup; without one `envfarm tasks reindex` adds the task as unchecked: validate, and quarantine, it again"
    return StoreError(f"{path}: not the sidecar of this task: {detail}", hint=hint)
