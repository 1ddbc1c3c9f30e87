"""How a database comes to the tables that its stores expect: made anew, brought up to date step by step, or refused."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select

from envfarm.core.errors import StoreError


@dataclass(frozen=True)
class Schema:
    """A database's tables as they are now, and the steps that bring an older one to them: a change is made to both.

    A step that was ever released is never edited. A new database gets the tables alone.
    """

    tables: MetaData
    first: int
    """The oldest version that can be brought up to date. Numbers go on from the time before releases, so that none means two layouts."""
    advice: str
    """What a person may do with an older database."""
    steps: tuple[Callable[[Connection], object], ...] = ()
    """To version `first` + 1, and so on."""


VERSION = Table("schema_version", MetaData(), Column("version", Integer, primary_key=True, autoincrement=False))
MIGRATION_LOCK = 7_305_202
"""PostgreSQL's advisory lock for whoever migrates: two processes may start at once."""


def migrate(c: Connection, schema: Schema) -> None:
    """Make the tables, or bring them up to date, in the caller's write transaction. Raises `StoreError` for what is too old, or newer."""
    if c.dialect.name == "postgresql":
        c.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    VERSION.create(c, checkfirst=True)
    found, newest = c.scalar(select(func.max(VERSION.c.version))), schema.first + len(schema.steps)
    if found is None:
        schema.tables.create_all(c, checkfirst=False)
    elif found > newest:
        raise StoreError(
            f"{c.engine.url.database}: it has version {found}, this program knows {newest}: a newer envfarm made it", hint="update envfarm"
        )
    elif found < schema.first:
        raise StoreError(
            f"{c.engine.url.database}: it has version {found}, from before the first release, which nothing reads", hint=schema.advice
        )
    else:
        for step in schema.steps[found - schema.first :]:
            step(c)
    if found != newest:
        c.execute(insert(VERSION).values(version=newest))
