"""One attempt at one claimed episode: cast it, play it, and say what it came to. Shared by the local pool and the service's hosts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import Cause, EnvfarmError, NotFound, boundary
from envfarm.core.image import Environment
from envfarm.core.outcome import Invalid, Outcome
from envfarm.core.protocols import Player, TrajectoryStore
from envfarm.core.storable import storable, told
from envfarm.core.task import Task
from envfarm.core.trajectory import Step, Trajectory, record_digest
from envfarm.core.usage import Bill
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.stores.episodes import DIED, Claim


@dataclass(frozen=True, slots=True)
class Role:
    """What an episode is played with."""

    task: Task
    environment: Environment
    policy: Player
    agents_environment: Environment | None = None
    """What the agent's box is made of where that is more than the task's own, which alone grading has."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where episodes are played."""

    trajectories: TrajectoryStore
    runner: EpisodeRunner
    cast: Callable[[EpisodeSpec], Awaitable[Role]]
    """Finds task and environment and makes a fresh policy. Raises `EnvfarmError`s."""


async def attempt(
    stage: Stage,
    claim: Claim,
    *,
    retries: int,
    deaths: int = 0,
    cancel: asyncio.Event | None = None,
    handed_over: asyncio.Event | None = None,
    bill: Bill | None = None,
) -> Outcome:
    """Play once, on from where an earlier attempt broke off; what its boxes used goes on the bill. Raises nothing but cancellation."""
    spec = claim.spec
    try:
        with boundary(EnvfarmError, f"playing {spec.episode_id}"):
            role = await stage.cast(spec)
            earlier = await stage.trajectories.last(spec.episode_id)
            tries = claim.attempts + claim.deaths
            if (claim.attempts > retries or claim.deaths > deaths) and (earlier is None or earlier.end is None):
                return Invalid(Cause.FARM.value, retryable=True, detail=f"{DIED}, and {tries} tries came to nothing")
            fork = await _parents(stage, spec, earlier)
            cast = (spec, role.task, role.environment, role.policy, role.agents_environment)
            job = Assignment(
                *cast, epoch=claim.epoch, earlier=earlier, fork=fork, cancel=cancel, handed_over=handed_over, bill=bill or Bill()
            )
            return storable(await stage.runner.run(job))
    except EnvfarmError as e:
        return Invalid(cause=e.policy.cause.value, retryable=e.policy.retry, detail=told(str(e)))


async def _parents(stage: Stage, spec: EpisodeSpec, earlier: Trajectory | None) -> tuple[Step, ...] | None:
    """What a fork goes on from; None once it has that in its own record, or began at the first step. Raises `NotFound`."""
    if spec.branch is None or (earlier is not None and (not earlier.header.agreed or len(earlier.steps) >= spec.branch.turns)):
        return None
    parent = await stage.trajectories.last(spec.branch.episode)
    steps = parent.steps[: spec.branch.turns] if parent is not None else ()
    if record_digest(steps) != spec.branch.record:
        raise NotFound(f"the steps of {spec.branch.episode} that this is a fork of are gone")
    return steps
