"""Which tasks a rollout is about: named ones, or those of the catalogue that pass a selector. Drawn the same for the same seed."""

import random
from collections.abc import Mapping, Sequence

from envfarm.core.errors import UsageError
from envfarm.core.ids import TaskDigest
from envfarm.core.rollout import TaskSelector
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow, check_playable, listed
from envfarm.stores.rollout_results import PassRate


async def select(catalogue: TaskCatalogue, wanted: TaskSelector, rates: Mapping[str, PassRate]) -> list[TaskRow]:
    """The tasks, by name. Raises `UsageError` for a name or dataset that there is not, and for a quarantined task that is named.

    An empty answer is no error.
    """
    if wanted.names:
        check_alone(wanted)
        found = await catalogue.find_all(wanted.names)
        rows = list({found[name].digest: found[name] for name in wanted.names}.values())
        check_playable(rows)
    else:
        rows = [row for row in await catalogue.rows(as_filter(wanted)) if in_band(row.digest, wanted, rates)]
    return drawn(rows, wanted)


async def nothing_selected(catalogue: TaskCatalogue, wanted: TaskSelector) -> UsageError:
    """Why a selector that names no task takes none, with those that only lack a verdict."""
    unchecked = [row.name for row in await catalogue.rows(as_filter(wanted, state="unchecked"))]
    told = f"; {len(unchecked)} unchecked ones do, and are played only by name: {listed(unchecked)}" if unchecked else ""
    return UsageError(f"no valid task passes this selection{told}", hint="GET /v1/tasks shows what is valid")


def check_alone(wanted: TaskSelector) -> None:
    """Whoever names tasks selects no others. Raises `UsageError` for a field that would say nothing."""
    with_names = {"names", "limit", "seed"}
    if beside := next((field for field in sorted(wanted.model_fields_set - with_names) if getattr(wanted, field) not in {"", None}), None):
        raise UsageError(f"`names` and `{beside}` do not go together", hint="name tasks or select them; `limit` and `seed` go with both")


def as_filter(wanted: TaskSelector, *, state: str = "valid") -> TaskFilter:
    """The part of a selector that the catalogue knows. Raises `UsageError` for a dataset that is no `name@version`."""
    name, at, version = wanted.dataset.partition("@")
    if wanted.dataset and not (name and at and version):
        raise UsageError(f"{wanted.dataset!r} is no dataset", hint="name@version")
    if wanted.split and not wanted.dataset:
        raise UsageError("a split is of a dataset", hint="give `dataset`, too")
    return TaskFilter(
        kind=wanted.kind,
        language=wanted.language,
        provider=wanted.provider,
        state=state,
        dataset=(name, version) if wanted.dataset else None,
        split=wanted.split,
    )


def in_band(task: TaskDigest, wanted: TaskSelector, rates: Mapping[str, PassRate]) -> bool:
    """Whether a task's pass rate lies within the selector's bounds."""
    if wanted.min_pass_rate is None and wanted.max_pass_rate is None:
        return True
    rate = rates.get(task)
    low, high = wanted.min_pass_rate or 0.0, 1.0 if wanted.max_pass_rate is None else wanted.max_pass_rate
    return rate is not None and low <= rate.mean <= high


def drawn(rows: Sequence[TaskRow], wanted: TaskSelector) -> list[TaskRow]:
    """As many as are wanted, in their old order."""
    if wanted.limit is None or len(rows) <= wanted.limit:
        return list(rows)
    kept = random.Random(wanted.seed).sample(range(len(rows)), wanted.limit)  # noqa: S311 - a draw that can be repeated, no secret
    return [rows[n] for n in sorted(kept)]
