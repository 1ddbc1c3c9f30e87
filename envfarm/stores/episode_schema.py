"""The tables of the episode store, and the numbered steps that bring a database to them. SQLite and PostgreSQL alike.

Used by `episodes.py` alone. A step that was ever released is never edited: a change is a further step.
"""

from sqlalchemy import Column, Connection, Float, Integer, MetaData, Table, Text, insert, select, text

METADATA = MetaData()

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("created_at", Text, nullable=False),
    Column("note", Text, nullable=False),
)

EPISODES = Table(
    "episodes",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("member", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", Text, nullable=True),
    Column("epoch", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("position", Integer, nullable=False),
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("episode_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("reward", Float, nullable=True),
    Column("outcome", Text, nullable=False),
    Column("committed_at", Text, nullable=False),
)

VERSION = Table("schema_version", METADATA, Column("version", Integer, nullable=False))

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE runs (id TEXT PRIMARY KEY, created_at TEXT NOT NULL, note TEXT NOT NULL)",
        (
            "CREATE TABLE episodes (id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id), task TEXT NOT NULL,"
            " member INTEGER NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL"
            " CHECK (state IN ('pending', 'running', 'done', 'poisoned')), attempts INTEGER NOT NULL, owner TEXT,"
            " epoch INTEGER NOT NULL, detail TEXT NOT NULL, position INTEGER NOT NULL)"
        ),
        "CREATE INDEX episodes_by_state ON episodes (run_id, state, position)",
        "CREATE INDEX episodes_by_owner ON episodes (owner)",
        (
            "CREATE TABLE outcomes (episode_id TEXT PRIMARY KEY REFERENCES episodes (id), kind TEXT NOT NULL,"
            " reward DOUBLE PRECISION, outcome TEXT NOT NULL, committed_at TEXT NOT NULL)"
        ),
    ),
)


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the caller's write transaction. A newer database is refused with `ValueError`."""
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"))
    found = connection.execute(select(VERSION.c.version)).scalar()
    if found is None:
        connection.execute(insert(VERSION).values(version=0))
    if (found or 0) > len(MIGRATIONS):
        raise ValueError(f"the database has schema {found}, this program knows {len(MIGRATIONS)}: a newer envfarm made it")
    for statements in MIGRATIONS[found or 0 :]:
        for statement in statements:
            connection.execute(text(statement))
    if (found or 0) < len(MIGRATIONS):
        connection.execute(VERSION.update().values(version=len(MIGRATIONS)))
