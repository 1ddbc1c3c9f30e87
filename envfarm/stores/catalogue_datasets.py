"""Datasets: immutable lists of tasks, `name@version`, with splits. A part of the catalogue.

Each is in the index and in a file of its own, from which the index is made anew.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError

from envfarm.core import digest
from envfarm.core.errors import Conflict, StoreError, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.stores.catalogue_schema import DATASET_TASKS, DATASETS, TASKS
from envfarm.stores.catalogue_sidecars import write_changed
from envfarm.stores.sql import Sql, insert_new, noting, store_errors

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


class Manifest(Frozen):
    """A dataset's file."""

    dataset: Dataset
    digest: Digest
    """Of the splits that it was made with: one without tasks counts here, and is in no row."""


def manifest_digest(splits: Mapping[str, Sequence[TaskDigest]]) -> Digest:
    """The digest of splits, whatever the order of their tasks."""
    return digest.of_json({split: sorted(tasks) for split, tasks in splits.items()})


class Datasets:
    """The catalogue's datasets."""

    def __init__(self, sql: Sql, now: Callable[[], datetime], directory: Path) -> None:
        self._sql, self._now, self._directory = sql, now, directory

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
        sorted_splits = {split: tuple(sorted(set(tasks))) for split, tasks in splits.items() if tasks}
        dataset = Dataset(name=name, version=version, created_at=self._now(), splits=sorted_splits)
        made = Manifest(dataset=dataset, digest=manifest_digest(splits))

        def work(c: sa.Connection) -> None:
            stands = c.scalar(sa.select(DATASETS.c.digest).where(*_is(name, version)))
            if stands == made.digest:
                return
            if stands:
                raise UsageError(
                    f"dataset {name}@{version} is there with other tasks, and datasets never change", hint="choose a new version"
                )
            owner = name.rpartition(BETWEEN)[0]
            if most is not None and sum(one.rpartition(BETWEEN)[0] == owner for one in c.scalars(sa.select(DATASETS.c.name))) >= most:
                raise Conflict(f"there are {most} datasets of {owner!r}, which is its quota", hint="the operator may give a larger one")
            if unknown := _unknown(c, dataset):
                raise UsageError(f"{len(unknown)} tasks are not in the catalogue, {unknown[0]} first")
            _insert(c, made)
            self._keep(made)

        await self._sql.write("create a dataset", work)
        return await self.get(name, version)

    async def get(self, name: str, version: str) -> Dataset:
        """A dataset. Raises `UsageError` with the ones that there are."""
        found = await self._sql.read("dataset", lambda c: _manifest(c, name, version))
        if found is None:
            there = ", ".join(f"{n}@{v}" for n, v in await self.names()) or "there is none yet"
            raise UsageError(f"no dataset {name}@{version}", hint=f"datasets: {there}")
        return found.dataset

    async def names(self) -> list[tuple[str, str]]:
        """Name and version of each."""
        query = sa.select(DATASETS.c.name, DATASETS.c.version).order_by(DATASETS.c.name, DATASETS.c.version)
        return await self._sql.read("datasets", lambda c: [(name, version) for name, version in c.execute(query)])

    async def reindex(self, damaged: list[StoreError]) -> int:
        """Bring index and files together, as the catalogue does: how many datasets were missing. Files that are damaged are noted."""
        for name, version in await self.names():
            if known := await self._sql.read("dataset", partial(_manifest, name=name, version=version)):
                await asyncio.to_thread(self._keep, known)
        added = 0
        for path in await asyncio.to_thread(lambda: sorted(self._directory.glob("*.json"))):
            with noting(damaged):
                added += await self._sql.write("reindex", partial(_put_back, manifest=await asyncio.to_thread(_read, path), path=path))
        return added

    def _keep(self, manifest: Manifest) -> None:
        dataset = manifest.dataset
        key = digest.of_json([dataset.name, dataset.version]).removeprefix("sha256:")
        write_changed(self._directory / f"{key}.json", manifest.model_dump_json().encode())


def _is(name: str, version: str) -> tuple[sa.ColumnElement[bool], ...]:
    return DATASETS.c.name == name, DATASETS.c.version == version


def _manifest(c: sa.Connection, name: str, version: str) -> Manifest | None:
    row = c.execute(sa.select(DATASETS).where(*_is(name, version))).one_or_none()
    if row is None:
        return None
    members = sa.select(DATASET_TASKS.c.split, DATASET_TASKS.c.task).order_by(DATASET_TASKS.c.task)
    found: dict[str, list[TaskDigest]] = {}
    for split, task in c.execute(members.where(DATASET_TASKS.c.name == name, DATASET_TASKS.c.version == version)):
        found.setdefault(split, []).append(TaskDigest(task))
    splits = {split: tuple(tasks) for split, tasks in found.items()}
    dataset = Dataset(name=name, version=version, created_at=row.created_at.replace(tzinfo=UTC), splits=splits)
    return Manifest(dataset=dataset, digest=row.digest)


def _unknown(c: sa.Connection, dataset: Dataset) -> list[TaskDigest]:
    """Its tasks that the catalogue lacks."""
    return sorted({task for tasks in dataset.splits.values() for task in tasks} - set(c.scalars(sa.select(TASKS.c.digest))))


def _insert(c: sa.Connection, manifest: Manifest) -> None:
    dataset = manifest.dataset
    key = {"name": dataset.name, "version": dataset.version}
    c.execute(sa.insert(DATASETS).values(**key, digest=manifest.digest, created_at=dataset.created_at))
    insert_new(c, DATASET_TASKS, [{**key, "task": task, "split": split} for split, tasks in dataset.splits.items() for task in tasks])


def _read(path: Path) -> Manifest:
    try:
        with store_errors(path):
            return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as e:
        hint = "bring the file back from a backup, or make the dataset anew"
        raise StoreError(f"{path}: not a dataset's file: {e.errors()[0]['msg']}", hint=hint) from e


def _put_back(c: sa.Connection, manifest: Manifest, path: Path) -> bool:
    dataset = manifest.dataset
    if c.scalar(sa.select(DATASETS.c.digest).where(*_is(dataset.name, dataset.version))):
        return False
    if unknown := _unknown(c, dataset):
        lacking = f"{len(unknown)} tasks of the dataset {dataset} are not in the catalogue, {unknown[0]} first"
        raise StoreError(f"{path}: {lacking}", hint="bring their archives back and run `envfarm tasks reindex` again")
    _insert(c, manifest)
    return True
