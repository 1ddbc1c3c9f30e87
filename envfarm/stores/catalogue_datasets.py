"""Datasets: immutable lists of tasks, `name@version`, with splits. A part of the catalogue."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from envfarm.core import digest
from envfarm.core.errors import Conflict, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.stores.catalogue_schema import DATASET_TASKS, DATASETS, TASKS
from envfarm.stores.sql import Sql

BETWEEN = "__"
"""Between a tenant and its dataset's name. Datasets of an operator have no such mark, and every tenant reads them."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Dataset(Frozen):
    """A dataset's manifest."""

    name: str
    version: str
    created_at: datetime
    splits: dict[str, tuple[TaskDigest, ...]]

    @property
    def digest(self) -> Digest:
        """The identity of what it lists."""
        return manifest_digest(self.splits)

    def __str__(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def manifest_digest(splits: Mapping[str, Sequence[TaskDigest]]) -> Digest:
    """The digest of splits, whatever the order of their tasks."""
    return digest.of_json({split: sorted(tasks) for split, tasks in splits.items()})


class Datasets:
    """The catalogue's datasets."""

    def __init__(self, sql: Sql, now: Callable[[], datetime]) -> None:
        self._sql, self._now = sql, now

    async def create(self, name: str, version: str, splits: Mapping[str, Sequence[TaskDigest]], *, most: int | None = None) -> Dataset:
        """Make a dataset. The same one again is no error; raises `UsageError` for another content under a known name and version.

        Raises `Conflict` where its owner (what is before the last `BETWEEN` of the name) has `most` of them.
        """
        for word in (name, version, *splits):
            if not NAME.fullmatch(word):
                raise UsageError(f"{word!r} is no name for a dataset, a version or a split", hint="letters, digits, '.', '_' and '-'")
        seen = Counter(task for tasks in splits.values() for task in set(tasks))
        twice = sorted(task for task, splits_of_it in seen.items() if splits_of_it > 1)
        if twice:
            raise UsageError(f"{len(twice)} tasks are in more than one split, {twice[0]} first", hint="a task belongs to one split")
        tasks = {task: split for split, members in splits.items() for task in members}
        rows = [{"name": name, "version": version, "task": task, "split": split} for task, split in sorted(tasks.items())]
        dataset = {"name": name, "version": version, "digest": manifest_digest(splits), "created_at": self._now()}

        def work(c: sa.Connection) -> None:
            stands = c.scalar(sa.select(DATASETS.c.digest).where(DATASETS.c.name == name, DATASETS.c.version == version))
            if stands == dataset["digest"]:
                return
            if stands:
                raise UsageError(
                    f"dataset {name}@{version} is there with other tasks, and datasets never change", hint="choose a new version"
                )
            owner = name.rpartition(BETWEEN)[0]
            if most is not None and sum(one.rpartition(BETWEEN)[0] == owner for one in c.scalars(sa.select(DATASETS.c.name))) >= most:
                raise Conflict(f"there are {most} datasets of {owner!r}, which is its quota", hint="the operator may give a larger one")
            if unknown := sorted(set(tasks) - set(c.scalars(sa.select(TASKS.c.digest)))):
                raise UsageError(f"{len(unknown)} tasks are not in the catalogue, {unknown[0]} first")
            c.execute(sa.insert(DATASETS).values(**dataset))
            if rows:
                c.execute(sa.insert(DATASET_TASKS), rows)

        await self._sql.write("create a dataset", work)
        return await self.get(name, version)

    async def get(self, name: str, version: str) -> Dataset:
        """A dataset. Raises `UsageError` with the ones that there are."""
        made_at = sa.select(DATASETS.c.created_at).where(DATASETS.c.name == name, DATASETS.c.version == version)
        members = sa.select(DATASET_TASKS.c.split, DATASET_TASKS.c.task).where(
            DATASET_TASKS.c.name == name, DATASET_TASKS.c.version == version
        )
        members = members.order_by(DATASET_TASKS.c.task)
        made, rows = await self._sql.read("dataset", lambda c: (c.scalar(made_at), c.execute(members).all()))
        if made is None:
            there = ", ".join(f"{n}@{v}" for n, v in await self.names()) or "there is none yet"
            raise UsageError(f"no dataset {name}@{version}", hint=f"datasets: {there}")
        found: dict[str, list[TaskDigest]] = {}
        for split, task in rows:
            found.setdefault(split, []).append(TaskDigest(task))
        splits = {split: tuple(tasks) for split, tasks in found.items()}
        return Dataset(name=name, version=version, created_at=made.replace(tzinfo=made.tzinfo or UTC), splits=splits)

    async def names(self) -> list[tuple[str, str]]:
        """Name and version of each."""
        query = sa.select(DATASETS.c.name, DATASETS.c.version).order_by(DATASETS.c.name, DATASETS.c.version)
        return await self._sql.read("datasets", lambda c: [(name, version) for name, version in c.execute(query)])
