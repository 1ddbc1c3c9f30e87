"""How tasks are divided into splits such that none leaks: a repository is in one split, whole. And whose a dataset is, by name. Pure."""

import hashlib
from collections.abc import Mapping, Sequence

from envfarm.core.errors import UsageError
from envfarm.core.ids import TaskDigest, TenantId
from envfarm.stores.catalogue_datasets import BETWEEN
from envfarm.stores.catalogue_lookup import TaskRow


def by_repository(rows: Sequence[TaskRow], *, eval_share: float, seed: int) -> dict[str, tuple[TaskDigest, ...]]:
    """`train` and `eval`: whole repositories, in an order drawn with the seed, go to `eval` while it stays within its share of tasks."""
    repositories: dict[str, list[TaskDigest]] = {}
    for row in rows:
        repositories.setdefault(_repository(row), []).append(row.digest)
    room, held_out = eval_share * len(rows), set[str]()
    for name in sorted(repositories, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest()):
        if len(repositories[name]) <= room:
            held_out.add(name)
            room -= len(repositories[name])
    splits = {
        "train": tuple(row.digest for row in rows if _repository(row) not in held_out),
        "eval": tuple(row.digest for row in rows if _repository(row) in held_out),
    }
    return {split: tasks for split, tasks in splits.items() if tasks}


def check_no_leak(splits: Mapping[str, Sequence[TaskRow]]) -> None:
    """Raises `UsageError` naming a repository that is in more than one split."""
    home: dict[str, str] = {}
    for split, rows in splits.items():
        for row in rows:
            if home.setdefault(_repository(row), split) != split:
                raise UsageError(
                    f"tasks of {_repository(row)} are in {home[_repository(row)]!r} and in {split!r}",
                    hint="what was learnt of a repository helps with all of its tasks: keep it in one split",
                )


def own_name(tenant: TenantId, name: str) -> str:
    """What a tenant's dataset is called in the catalogue."""
    return f"{tenant}{BETWEEN}{name}"


def shown_name(tenant: TenantId, stored: str) -> str | None:
    """What a tenant sees of a name of the catalogue; None for another tenant's."""
    owner, between, name = stored.rpartition(BETWEEN)
    if not between:
        return stored
    return name if owner == tenant else None


def _repository(row: TaskRow) -> str:
    return row.repository or row.name
