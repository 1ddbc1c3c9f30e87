"""The catalogue's SQL index: tables, migrations, and the engine that opens it. Used by `envfarm.stores.catalogue*` alone.

Written for SQLite (WAL) and PostgreSQL alike: no type and no statement here belongs to one of them only, save the pragmas. It holds no
task: those are archives beside it, and the index can be made anew from them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from envfarm.core.errors import EnvfarmError, StoreError

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another process's write: longer than any transaction of this package by far."""

METADATA = sa.MetaData()

SCHEMA_VERSION = sa.Table("schema_version", METADATA, sa.Column("version", sa.Integer, primary_key=True))

TASKS = sa.Table(
    "tasks",
    METADATA,
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("licence", sa.Text, nullable=False),
    sa.Column("repository", sa.Text, nullable=False, index=True),
    sa.Column("source_digest", sa.String(71), nullable=False, index=True),
    sa.Column("source_url", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="unchecked"),
    sa.Column("why", sa.Text, nullable=False, server_default=""),
    sa.Column("archive_bytes", sa.BigInteger, nullable=False),
)

ENVIRONMENTS = sa.Table(
    "environments",
    METADATA,
    sa.Column("task", sa.String(71), sa.ForeignKey("tasks.digest", ondelete="CASCADE"), primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

REPORTS = sa.Table(
    "reports",
    METADATA,
    sa.Column("task", sa.String(71), sa.ForeignKey("tasks.digest", ondelete="CASCADE"), primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

REJECTIONS = sa.Table(
    "rejections",
    METADATA,
    sa.Column("source_digest", sa.String(71), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("gate", sa.Text, nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("rejected_at", sa.DateTime(timezone=True), nullable=False),
)

DATASETS = sa.Table(
    "datasets",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

DATASET_TASKS = sa.Table(
    "dataset_tasks",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("task", sa.String(71), sa.ForeignKey("tasks.digest"), primary_key=True),
    sa.Column("split", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["name", "version"], ["datasets.name", "datasets.version"]),
)


def _create_tables(connection: sa.Connection) -> None:
    METADATA.create_all(connection)


def _add_reason_of_quarantine(connection: sa.Connection) -> None:
    # The first step makes new tables as they are now: there the column is already.
    if "why" not in {column["name"] for column in sa.inspect(connection).get_columns("tasks")}:
        connection.execute(sa.text("ALTER TABLE tasks ADD COLUMN why TEXT NOT NULL DEFAULT ''"))


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_create_tables, _add_reason_of_quarantine)
"""In order. A migration that has been released is never changed: the next one mends it."""


def open_engine(path: Path) -> sa.Engine:
    """The engine of an index file, made or brought up to date. Raises `StoreError` when it is no index or a newer program's."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    sa.event.listen(engine, "connect", _set_pragmas)
    sa.event.listen(engine, "begin", _begin_immediately)
    with store_errors(path):
        migrate(engine, path)
    return engine


def migrate(engine: sa.Engine, path: Path) -> None:
    """Bring the tables up to date; safe while another process does the same."""
    with engine.begin() as connection:
        SCHEMA_VERSION.create(connection, checkfirst=True)
        known = connection.scalar(sa.select(sa.func.max(SCHEMA_VERSION.c.version))) or 0
        if known > len(MIGRATIONS):
            raise StoreError(
                f"{path}: the catalogue's index has version {known}, this program knows {len(MIGRATIONS)}", hint="update envfarm"
            )
        for number, step in enumerate(MIGRATIONS[known:], start=known + 1):
            step(connection)
            connection.execute(sa.insert(SCHEMA_VERSION).values(version=number))


def insert_if_new(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its primary key is there; whether it was inserted."""
    flavour = postgresql if connection.dialect.name == "postgresql" else sqlite
    return connection.execute(flavour.insert(table).values(**row).on_conflict_do_nothing()).rowcount == 1


def insert_or_replace(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert a row, or put it in place of the one with the same primary key."""
    flavour = postgresql if connection.dialect.name == "postgresql" else sqlite
    keys = [c.name for c in table.primary_key]
    rest = {k: v for k, v in row.items() if k not in keys}
    connection.execute(flavour.insert(table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


DAMAGED = "the index is damaged: move the file away and run `envfarm tasks reindex`, which makes it anew from the archives"


@contextmanager
def store_errors(path: Path, *, damaged: str = DAMAGED) -> Iterator[None]:
    """Attribute whatever fails around a database or an archive to the store, and say what a person can do about it (`damaged`: then)."""
    try:
        yield
    except EnvfarmError:
        raise
    except (sa.exc.DatabaseError, OSError) as e:
        detail = str(e.orig) if isinstance(e, sa.exc.DatabaseError) else str(e)
        raise StoreError(f"{path}: {detail}", hint=_advice(detail, damaged)) from e


def _advice(detail: str, damaged: str) -> str:
    text = detail.lower()
    if "no space left" in text or "disk is full" in text:
        return "the disk is full: free some space and run the same command again, nothing half was kept"
    if "malformed" in text or "not a database" in text:
        return damaged
    if "disk i/o error" in text or "unable to open" in text:
        return "the disk is full, failing or not to be written: see `df`, then run the same command again, nothing half was kept"
    if "readonly" in text or "permission denied" in text:
        return "this user may not write there: set ENVFARM_HOME to a directory of your own"
    if "locked" in text:
        return "another process holds the index: try again when it is done"
    return ""


def _set_pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # Transactions are begun by _begin_immediately: the driver's own lazy BEGIN would let two writers deadlock on upgrading a read lock.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediately(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("read_only") else "BEGIN IMMEDIATE")
