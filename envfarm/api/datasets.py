"""`/v1/datasets`: immutable lists of tasks, `name@version`, whose splits share no repository."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import APIRouter

from envfarm.api.access import Farm, Waits, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.api.services import Services
from envfarm.core.errors import NotFound, UsageError
from envfarm.core.ids import TaskDigest
from envfarm.core.listing import DatasetView, NewDataset
from envfarm.stores.catalogue_datasets import BETWEEN, Dataset
from envfarm.stores.catalogue_lookup import check_playable
from envfarm.stores.dataset_splits import by_repository, check_no_leak, own_name, shown_name

router = APIRouter(route_class=PlainJson, prefix="/v1/datasets", tags=["datasets"], dependencies=[scope("datasets")])


@router.post("", status_code=HTTPStatus.CREATED)
async def create(farm: Farm, who: Who, waits: Waits, asked: NewDataset) -> DatasetView:
    """Make one. The same again is no error; other tasks under a known name and version are."""
    if BETWEEN in asked.name:
        raise UsageError(f"{asked.name!r} holds {BETWEEN!r}, which no dataset's name does", hint="one '_', or '-'")
    if (asked.tasks is None) == (not asked.splits):
        raise UsageError("either `splits` or `tasks` is needed")
    async with waits.one(who.tenant):
        if asked.tasks is None:
            splits = await _named(farm, asked.splits)
        else:
            rows = await farm.rollouts.choose(who.tenant, asked.tasks)
            splits = by_repository(rows, eval_share=asked.eval_share, seed=asked.seed)
        most = (await farm.access.quotas())[who.tenant].datasets
        return view(await farm.datasets.create(own_name(who.tenant, asked.name), asked.version, splits, most=most))


@router.get("")
async def listed(farm: Farm, who: Who) -> list[str]:
    """`name@version` of each: the tenant's own, and the operator's."""
    names = await farm.datasets.names()
    return [f"{shown}@{version}" for name, version in names if (shown := shown_name(who.tenant, name)) is not None]


@router.get("/{name}@{version}")
async def get(farm: Farm, who: Who, name: str, version: str) -> DatasetView:
    """One dataset with its splits."""
    known = await farm.datasets.names()
    for stored in (own_name(who.tenant, name), name):
        if (stored, version) in known and shown_name(who.tenant, stored) is not None:
            return view(await farm.datasets.get(stored, version))
    raise NotFound(f"no dataset {name}@{version}")


def view(dataset: Dataset) -> DatasetView:
    """A dataset as a tenant sees it."""
    return DatasetView(name=dataset.name.rpartition("__")[2], version=dataset.version, digest=dataset.digest, splits=dataset.splits)


async def _named(farm: Services, asked: Mapping[str, Sequence[str]]) -> dict[str, tuple[TaskDigest, ...]]:
    found = await farm.catalogue.find_all({task for tasks in asked.values() for task in tasks})
    rows = {split: [found[task] for task in tasks] for split, tasks in asked.items()}
    check_playable(list(found.values()))
    check_no_leak(rows)
    return {split: tuple(dict.fromkeys(row.digest for row in some)) for split, some in rows.items()}
