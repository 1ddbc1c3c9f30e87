"""Datasets: immutable lists of tasks, `name@version`, with splits. A part of the catalogue."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from envfarm.core import digest
from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.stores.catalogue_schema import DATASET_TASKS, DATASETS, TASKS, store_errors

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

    def __init__(self, engine: sa.Engine, index: Path, now: Callable[[], datetime]) -> None:
        self._engine, self._index, self._now = engine, index, now

    async def create(self, name: str, version: str, splits: Mapping[str, Sequence[TaskDigest]]) -> Dataset:
        """Make a dataset. The same one again is no error; raises `UsageError` for another content under a known name and version."""
        for word in (name, version, *splits):
            if not NAME.fullmatch(word):
                raise UsageError(f"{word!r} is no name for a dataset, a version or a split", hint="letters, digits, '.', '_' and '-'")
        seen = Counter(task for tasks in splits.values() for task in set(tasks))
        twice = sorted(task for task, splits_of_it in seen.items() if splits_of_it > 1)
        if twice:
            raise UsageError(f"{len(twice)} tasks are in more than one split, {twice[0]} first", hint="a task belongs to one split")
        await asyncio.to_thread(self._create, name, version, splits)
        return await self.get(name, version)

    async def get(self, name: str, version: str) -> Dataset:
        """A dataset. Raises `UsageError` with the ones that there are."""
        return await asyncio.to_thread(self._get, name, version)

    async def names(self) -> list[tuple[str, str]]:
        """Name and version of each."""
        return await asyncio.to_thread(self._names)

    def _create(self, name: str, version: str, splits: Mapping[str, Sequence[TaskDigest]]) -> None:
        identity = manifest_digest(splits)
        with store_errors(self._index), self._engine.begin() as connection:
            stands = connection.scalar(sa.select(DATASETS.c.digest).where(DATASETS.c.name == name, DATASETS.c.version == version))
            if stands == identity:
                return
            if stands:
                raise UsageError(
                    f"dataset {name}@{version} is there with other tasks, and datasets never change", hint="choose a new version"
                )
            tasks = {task: split for split, members in splits.items() for task in members}
            known = set(connection.scalars(sa.select(TASKS.c.digest)))
            if unknown := sorted(set(tasks) - known):
                raise UsageError(f"{len(unknown)} tasks are not in the catalogue, {unknown[0]} first")
            connection.execute(sa.insert(DATASETS).values(name=name, version=version, digest=identity, created_at=self._now()))
            members = [{"name": name, "version": version, "task": task, "split": split} for task, split in sorted(tasks.items())]
            if members:
                connection.execute(sa.insert(DATASET_TASKS), members)

    def _get(self, name: str, version: str) -> Dataset:
        with store_errors(self._index), self._engine.connect().execution_options(read_only=True) as connection:
            made = connection.scalar(sa.select(DATASETS.c.created_at).where(DATASETS.c.name == name, DATASETS.c.version == version))
            where = sa.and_(DATASET_TASKS.c.name == name, DATASET_TASKS.c.version == version)
            members = list(
                connection.execute(sa.select(DATASET_TASKS.c.split, DATASET_TASKS.c.task).where(where).order_by(DATASET_TASKS.c.task))
            )
        if made is None:
            there = ", ".join(f"{n}@{v}" for n, v in self._names()) or "there is none yet"
            raise UsageError(f"no dataset {name}@{version}", hint=f"datasets: {there}")
        found: dict[str, list[TaskDigest]] = {}
        for split, task in members:
            found.setdefault(split, []).append(TaskDigest(task))
        splits = {split: tuple(tasks) for split, tasks in found.items()}
        return Dataset(name=name, version=version, created_at=made.replace(tzinfo=made.tzinfo or UTC), splits=splits)

    def _names(self) -> list[tuple[str, str]]:
        with store_errors(self._index), self._engine.connect().execution_options(read_only=True) as connection:
            rows = connection.execute(sa.select(DATASETS.c.name, DATASETS.c.version).order_by(DATASETS.c.name, DATASETS.c.version))
            return [(name, version) for name, version in rows]
