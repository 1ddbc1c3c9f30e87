"""A database behind stores: how it is opened, how work reaches it from async code, and its own clock.

SQLite (WAL) for the catalogue and in a farm of one machine, PostgreSQL in a cluster; the stores that use it speak both alike. Every write
begins with its writing statement or a lock, so that no reader ever has to become a writer. It knows no table.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, Float, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, DBAPIError, NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from envfarm.core.errors import EnvfarmError, StoreError, UsageError, boundary
from envfarm.core.observing import Observer
from envfarm.core.uninterrupted import in_thread

T = TypeVar("T")
BUSY_MS = 30_000
"""How long a writer waits for another one: far longer than any transaction here takes."""
PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""What SQLite says where another process is at the file. A full or broken disk is worth no wait."""
CONNECTIONS = 8
"""Open to PostgreSQL at once, per process."""
THREADS = 3
"""At work at once for one store. A process has few stores; together they ask for no more connections than there are."""
CHUNK = 500
"""Ids per query: below SQLite's smallest limit of bound variables."""
PAGE_CHARS = 32 << 20
"""The most characters of stored JSON that one answer is made of, save where a single item has more."""
TRIES = 3
COLLISIONS = frozenset({"40001", "40P01"})
"""What PostgreSQL says of transactions that it ended for others' sake: serialization failure and deadlock."""
DAMAGED = "the file is damaged: move it away, with the runs that it holds, or bring it back from a backup"


class db_now(FunctionElement[float]):  # noqa: N801 - an SQL function
    """The database's clock, in seconds since 1970: the one clock that all hosts of a farm share."""

    type = Float()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"


def open_sqlite(path: Path) -> Engine:
    """An engine for a SQLite file (made if need be) that several processes may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own: `_on_begin` does
        _keep_a_log(connection)
        for pragma in (f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("envfarm_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _keep_a_log(connection: Any) -> None:
    """Have the database write ahead. Of processes that do it to a new file at once SQLite lets some fail, and makes none wait."""
    end = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF not in PASSING or time.monotonic() > end:
                raise
            time.sleep(0.01)  # in one of the store's threads
        else:
            return


def _end_what_sleeps(connection: Any, _: Any) -> None:
    """Have the server end a transaction whose process was stopped in it: its locks would hold up all others for as long as it sleeps."""
    connection.execute(f"SET idle_in_transaction_session_timeout = {BUSY_MS}")
    connection.commit()


def open_database(url: str) -> Engine:
    """An engine for `postgresql://…` (through psycopg 3) or `sqlite:///…`. Raises `UsageError` for anything else."""
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername == "postgresql+psycopg":
            engine = create_engine(parsed, pool_size=CONNECTIONS, max_overflow=CONNECTIONS, pool_pre_ping=True)
            event.listen(engine, "connect", _end_what_sleeps)
            return engine
    except (ArgumentError, NoSuchModuleError) as e:
        raise UsageError(f"the database's address cannot be read: {e}", hint="postgresql://user@host/name") from e
    except ModuleNotFoundError as e:
        raise UsageError("PostgreSQL needs the driver psycopg", hint="pip install 'envfarm[postgres]'") from e
    if parsed.drivername != "sqlite" or not parsed.database:
        raise UsageError(f"no database of the kind {parsed.drivername!r}", hint="sqlite:///FILE or postgresql://user@host/name")
    return open_sqlite(Path(parsed.database))


VERBS = frozenset({"select", "insert", "update", "delete", "begin", "create", "pragma"})


def count_statements(engine: Engine, observer: Observer) -> None:
    """Tell of each statement from now on, by its verb alone."""

    @event.listens_for(engine, "before_cursor_execute")
    def _on_statement(*about: Any) -> None:
        statement: str = about[2]
        verb = statement.lstrip()[:8].split(None, 1)[0].lower()
        observer.count("statement", verb=verb if verb in VERBS else "other")


class Sql:
    """Runs functions of a connection in threads, each in one transaction. Each store has one of its own."""

    def __init__(self, engine: Engine, *, store: str = "episode store", damaged: str = DAMAGED) -> None:
        self._store, self._damaged = store, damaged
        self._read_engine = engine
        self._write_engine = engine.execution_options(envfarm_write=True)
        # Its own: a host's lease must not wait in line behind the journals of thousands of episodes, nor behind their outcomes.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sql")

    async def write(self, what: str, work: Callable[[Connection], T]) -> T:
        """One writing transaction: all of `work`, or nothing. Raises `StoreError` and whatever `work` raises of the farm's errors.

        `UsageError` for a text that PostgreSQL cannot hold.
        """
        return await self._in_thread(self._write_engine, what, work)

    async def read(self, what: str, work: Callable[[Connection], T]) -> T:
        """One reading transaction. Raises as `write` does."""
        return await self._in_thread(self._read_engine, what, work)

    async def close(self) -> None:
        """Let go of the database's files and connections."""
        await asyncio.to_thread(self._read_engine.dispose)

    def write_here(self, what: str, work: Callable[[Connection], T]) -> T:
        """As `write`, in the thread that calls."""
        return self._do(self._write_engine, what, work)

    async def _in_thread(self, engine: Engine, what: str, work: Callable[[Connection], T]) -> T:
        return await in_thread(lambda: self._do(engine, what, work), self._threads)

    def _do(self, engine: Engine, what: str, work: Callable[[Connection], T]) -> T:
        path = Path(engine.url.database or "the database")
        with boundary(StoreError, f"{self._store}: {what}"), store_errors(path, damaged=self._damaged), _texts():
            for _ in range(TRIES - 1):
                with suppress(_Collided), _collisions(), engine.begin() as connection:
                    return work(connection)
            with engine.begin() as connection:
                return work(connection)


class _Collided(Exception):  # noqa: N818 - a state of the world
    """PostgreSQL rolled a transaction back because of another one's: the same again may succeed."""


@contextmanager
def _collisions() -> Iterator[None]:
    try:
        yield
    except DBAPIError as e:
        if getattr(e.orig, "sqlstate", None) in COLLISIONS:
            raise _Collided from e
        raise


@contextmanager
def _texts() -> Iterator[None]:
    """PostgreSQL keeps no NUL and compares with none: whoever gave such a name is told so, whatever it was to name."""
    try:
        yield
    except DataError as e:
        if "NUL" in str(e.orig):
            raise UsageError("a text holds the character NUL, which no name and no id does") from e
        raise


@contextmanager
def store_errors(path: Path, *, damaged: str = "") -> Iterator[None]:
    """Attribute whatever fails around a database or an archive to the store, and say what a person can do about it (`damaged`: then)."""
    try:
        yield
    except EnvfarmError:
        raise
    except (DatabaseError, OSError) as e:
        detail = str(e.orig) if isinstance(e, DatabaseError) else str(e)
        raise StoreError(f"{path}: {detail}", hint=_advice(detail, damaged)) from e


@contextmanager
def noting(errors: list[StoreError]) -> Iterator[None]:
    """Go on after this block where a store's file fails it, and note the error."""
    try:
        yield
    except StoreError as e:
        errors.append(e)


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
        return "another process holds the database: try again when it is done"
    return ""


def until_full(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[T]:
    """The first of these, up to the one with which all together have `most` or more."""
    total = 0
    for item in items:
        yield item
        total += size(item)
        if total >= most:
            return


def insert_new(c: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, save those whose key is there."""
    if rows:
        c.execute(_insert(c, table).on_conflict_do_nothing(), list(rows))


def insert_if_new(c: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless its key is there; whether it was inserted. (Of many rows, PostgreSQL's driver does not tell how many were.)"""
    return c.execute(_insert(c, table).values(**row).on_conflict_do_nothing()).rowcount == 1


def insert_or_replace(c: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row, or put it in place of the one with the same primary key."""
    keys = table.primary_key.columns.keys()
    rest = {k: v for k, v in row.items() if k not in keys}
    c.execute(_insert(c, table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


def _insert(c: Connection, table: Table) -> Any:  # two classes without a common base that has `on_conflict_…`
    return (postgresql if c.dialect.name == "postgresql" else sqlite).insert(table)
