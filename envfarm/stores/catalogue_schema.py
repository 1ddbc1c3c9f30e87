"""The tables of the catalogue's SQL index. It holds no task: those are archives beside it, with what else makes the index anew."""

import sqlalchemy as sa

from envfarm.stores.migrations import Schema

METADATA = sa.MetaData()

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
    sa.Column("title", sa.Text, nullable=False, server_default=""),
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


def _titles(c: sa.Connection) -> None:
    c.execute(sa.text("ALTER TABLE tasks ADD COLUMN title TEXT NOT NULL DEFAULT ''"))


SCHEMA = Schema(
    METADATA,
    first=2,
    advice="move the file away and run `envfarm tasks reindex`, which makes it anew; then `envfarm tasks validate`, for the reports",
    steps=(_titles,),
)
