"""Finished groups for trainers that are programs on Ray: the records of a group's episodes as objects of Ray's.

The trainer's driver gets references, and hands them to its learners. What they stand for, megabytes of tokens, goes from the farm to the
node that reads it, and from there to the learners: never through the driver. Reading is a task that may run again, so an object that was
lost with its node is read anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import ray
from ray import ObjectRef

from envfarm.client import Client
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import GroupResult, Member
from envfarm.core.trajectory import Trajectory

T = TypeVar("T")
READING: Mapping[str, Any] = {"num_cpus": 0, "max_retries": -1}
"""It mostly waits, and must find room where the learners have reserved all processors."""


@dataclass(frozen=True, slots=True)
class GroupOnRay(Generic[T]):
    """A finished group, and the records of its episodes on Ray."""

    result: GroupResult
    records: "tuple[tuple[Member, ObjectRef[T]], ...]"
    """Of each member that counts: one that is `Invalid` is not to be learned from, and may have no record."""


def groups(
    farm: Callable[[], Client],
    *,
    read: Callable[[Trajectory], T],
    rollouts: Sequence[str] = (),
    lease_s: float = 300.0,
    options: Mapping[str, Any] = READING,
) -> Iterator[GroupOnRay[T]]:
    """As `Client.groups`, with what `read` makes of each record (`Trajectory.rows`, for one) as an object on Ray.

    `farm` makes a client, here and on the nodes: `functools.partial(Client, url, token)`. Ray keeps that token for as long as the objects.
    `options` are those of the task that reads a group. Whoever gets an object is raised what reading it raised, as Ray's `RayTaskError`.
    """
    with farm() as client:
        for result in client.groups(rollouts=rollouts, lease_s=lease_s):
            counting = [member for member in result.members if not isinstance(member.outcome, Invalid)]
            task: Any = ray.remote(_read).options(**options, num_returns=len(counting))
            made: Any = task.remote(farm, read, [member.episode for member in counting]) if counting else []
            objects = cast("list[ObjectRef[T]]", made if isinstance(made, list) else [made])
            yield GroupOnRay(result, tuple(zip(counting, objects, strict=True)))


def _read(farm: Callable[[], Client], read: Callable[[Trajectory], T], episodes: Sequence[EpisodeId]) -> T | list[T]:
    """A list is for Ray one object for each of its items, but the one item of a task that has one object."""
    with farm() as client:
        made = [read(client.trajectory(episode)) for episode in episodes]
    return made if len(made) > 1 else made[0]
