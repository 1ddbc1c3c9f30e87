"""Episodes that a trainer drives step by step, and rewards for finished patches.

Both are rollouts of one episode: queued, admitted, journalled, graded and recovered like all others.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from envfarm.controller.bells import Bells
from envfarm.controller.seats import POLICY, Seat, Seats
from envfarm.controller.service import PATCH, Fork, RolloutService, until
from envfarm.core import why
from envfarm.core.action import Bash, Finish
from envfarm.core.episode import Budgets, EpisodeSpec, PolicySpec
from envfarm.core.errors import Conflict, NotFound, UsageError
from envfarm.core.ids import EpisodeId, RunId, TenantId
from envfarm.core.model_call import ModelCall
from envfarm.core.outcome import Censored, Outcome, Scored
from envfarm.core.rollout import (
    BranchView,
    EpisodeRequest,
    EpisodeView,
    Kind,
    RewardRequest,
    RewardView,
    RolloutRequest,
    StepRequest,
    StepView,
    TaskSelector,
)
from envfarm.core.trajectory import BareStep, CallName, Excerpt, Step, Trajectory
from envfarm.policies.patch import APPLIES
from envfarm.stores.episodes import EpisodeRow, SqlEpisodes
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.trajectories import FileTrajectories

SENT_BYTES = 32 << 20
"""The most that an episode's steps may have of their trainer, as JSON with each token once: they are in memory while it is played."""
POLICY_NAME = "step-driven"
"""Whose versions nobody moves on: a trainer's own episodes are never begun anew under it."""


class Turns:
    """At most `most` at once of all tenants, and one of each. Others wait in order; one that is cancelled leaves."""

    def __init__(self, most: int = 2) -> None:
        self._all = asyncio.Semaphore(most)
        self._each: WeakValueDictionary[TenantId, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, tenant: TenantId) -> AsyncIterator[None]:
        """Have a turn."""
        own = self._each.setdefault(tenant, asyncio.Semaphore(1))
        async with own, self._all:
            yield


@dataclass(frozen=True, slots=True)
class StepParts:
    """What it is made of."""

    service: RolloutService
    rollouts: SqlRollouts
    episodes: SqlEpisodes
    trajectories: FileTrajectories
    seats: Seats
    bells: Bells
    recheck_s: float = 2.0
    sent_bytes: int = SENT_BYTES
    reading: Turns = field(default_factory=Turns)
    """Of records, for tenants' calls: a long one takes a core, and memory where it is read whole."""


class StepEpisodes:
    """Those of all tenants. `wait_s` bounds how long a call waits; the view says what then is the case."""

    def __init__(self, parts: StepParts) -> None:
        self._parts = parts

    async def create(self, tenant: TenantId, request: EpisodeRequest, *, key: str | None, wait_s: float) -> EpisodeView:
        """Begin one. Raises as `RolloutService.submit` does."""
        return await self.get(tenant, await self.begin(tenant, request, key=key), wait_s=wait_s)

    async def begin(self, tenant: TenantId, request: EpisodeRequest, *, key: str | None, fork: Fork | None = None) -> EpisodeId:
        """Ask for an episode, or for one that goes on from another; which it is."""
        asked = RolloutRequest(
            tasks=TaskSelector(names=(request.task,)),
            policy=PolicySpec(name=POLICY),
            policy_name=POLICY_NAME,
            budgets=request.budgets,
            sandbox=request.sandbox,
            seed=request.seed,
            metadata=request.metadata,
        )
        return await self._ask(tenant, asked, key, "episode", fork)

    async def known(self, tenant: TenantId, key: str, asked: str) -> EpisodeId | None:
        """The episode that this key was used for; None where it is new. Raises `Conflict` when it was for something else."""
        run = await self._parts.rollouts.known(tenant, key, asked)
        return None if run is None else await self._only(tenant, run)

    async def get(self, tenant: TenantId, episode: EpisodeId, *, wait_s: float = 0.0, parent: EpisodeId | None = None) -> EpisodeView:
        """Where it stands. Raises `NotFound`.

        Whoever waits for a fork is there for its `parent`, too, which has to be the tenant's own.
        """
        seen: list[EpisodeView] = []

        async def look() -> bool:
            if parent is not None:
                self._parts.seats.called(parent)
            seen[:] = [await self._view(tenant, episode)]
            return seen[0].state in {"ready", "ended"}

        await until(self._parts.bells, episode, look, wait_s=wait_s, recheck_s=self._parts.recheck_s)
        return seen[0]

    async def step(self, tenant: TenantId, episode: EpisodeId, step: StepRequest, *, wait_s: float) -> StepView:
        """Carry an action out, once per step id.

        Raises `NotFound`, and `Conflict` after the end, beside another step, or where another policy chooses the actions.
        """
        player = (await self._parts.rollouts.episode(tenant, episode)).spec.policy.name
        if player != POLICY:
            raise Conflict(f"the policy {player!r} chooses its actions", hint="POST /v1/episodes begins one that is driven step by step")
        seen: list[StepView] = []

        async def look() -> bool:
            seen[:] = [await self._step(tenant, episode, step)]
            return seen[0].done

        await until(self._parts.bells, episode, look, wait_s=wait_s, recheck_s=self._parts.recheck_s)
        return seen[0]

    async def close(self, tenant: TenantId, episode: EpisodeId) -> EpisodeView:
        """Call it off; safe to say again. Raises `NotFound`, and `Conflict` for one of several that were asked for together."""
        run = (await self._parts.rollouts.episode(tenant, episode)).spec.run_id
        if (kind := await self._parts.rollouts.kind(tenant, run)) != "episode":
            raise Conflict(f"it is a {kind}'s, which is called off as a whole", hint=f"DELETE /v1/rollouts/{run}")
        await self._parts.service.cancel(tenant, run)
        return await self._view(tenant, episode)

    async def reward(self, tenant: TenantId, request: RewardRequest, *, key: str | None, wait_s: float) -> RewardView:
        """Grade a patch. Raises as `RolloutService.submit` does."""
        asked = RolloutRequest(
            tasks=TaskSelector(names=(request.task,)),
            policy=PolicySpec(name=PATCH, options={"patch": request.patch}),
            policy_name=POLICY_NAME,
            budgets=Budgets(turns=1000),
            sandbox=request.sandbox,
            metadata=request.metadata,
        )
        episode = await self._ask(tenant, asked, key, "reward")
        outcome = (await self.get(tenant, episode, wait_s=wait_s)).outcome
        view = RewardView(id=episode, outcome=outcome)
        if outcome is not None:
            excerpt = await self._excerpt(tenant, episode)
            last = excerpt.last if excerpt is not None else ()
            if tries := [s.observation for s in last if isinstance(s.action, Bash) and APPLIES in s.action.command]:
                applied = tries[-1].exit_code == 0
                view = view.model_copy(update={"applied": applied, "refusal": "" if applied else tries[-1].text})
        return view

    async def trajectory(self, tenant: TenantId, episode: EpisodeId) -> Trajectory | None:
        """What happened in an episode that is known to be the tenant's; None before its first box."""
        async with self._parts.reading.one(tenant):
            return await self._parts.trajectories.last(episode)

    async def record(self, tenant: TenantId, episode: EpisodeId) -> Iterator[bytes]:
        """What happened in any episode of the tenant, a `Trajectory` as JSON, in pieces that block. Raises `NotFound`."""
        spec = (await self._parts.rollouts.episode(tenant, episode)).spec
        async with self._parts.reading.one(tenant):
            found = await self._parts.trajectories.json(spec.episode_id)
        if found is None:
            raise NotFound(f"nothing happened in {episode} yet")
        return found

    async def _ask(self, tenant: TenantId, asked: RolloutRequest, key: str | None, kind: Kind, fork: Fork | None = None) -> EpisodeId:
        return await self._only(tenant, await self._parts.service.ask(tenant, asked, key=key, kind=kind, fork=fork))

    async def _only(self, tenant: TenantId, run: RunId) -> EpisodeId:
        ((_, row),) = await self._parts.rollouts.episodes(tenant, run, after=-1, limit=1)
        return row.spec.episode_id

    async def _step(self, tenant: TenantId, episode: EpisodeId, step: StepRequest) -> StepView:
        """How the step stands; begins it where it can begin. Raises `Conflict`."""
        view = await self._view(tenant, episode)
        seat = self._parts.seats.of(episode)
        done: Step | BareStep | None
        if seat is not None and view.state != "ended":
            done = next((s for s in seat.history if s.call is not None and s.call.call_id == step.step_id), None)
        else:
            excerpt = await self._excerpt(tenant, episode, step.step_id)
            done = excerpt.called if excerpt is not None else None
        if done is not None and done.action != step.action:
            raise Conflict(f"the step {step.step_id!r} was another action", hint="a step id names one action for ever")
        if done is not None and _sampled(step.call) not in {None, _sampled(done.call)}:
            raise Conflict(f"other tokens were sent with the step {step.step_id!r}", hint="the first ones are kept; choose another step id")
        if done is not None and not (isinstance(done.action, Finish) and view.state != "ended"):
            return StepView(step_id=step.step_id, done=True, observation=done.observation, episode=view)
        if view.state == "ended":
            raise Conflict(
                f"the episode is over: {why.reason(view.outcome) or 'called off'}", hint="its outcome is in GET /v1/episodes/{id}"
            )
        if seat is not None and seat.deciding and seat.deciding != step.step_id:
            raise Conflict(f"the step {seat.deciding!r} is being carried out", hint="one step at a time: wait for its observation")
        if seat is not None and seat.asked:
            _check_room(seat, step, self._parts.sent_bytes)
            seat.decide(step.step_id, step.action, step.call)
        return StepView(step_id=step.step_id, done=False, episode=view)

    async def _excerpt(self, tenant: TenantId, episode: EpisodeId, step_id: str | None = None) -> Excerpt | None:
        async with self._parts.reading.one(tenant):
            return await self._parts.trajectories.excerpt(episode, call_id=step_id)

    async def _view(self, tenant: TenantId, episode: EpisodeId) -> EpisodeView:
        row = await self._parts.rollouts.episode(tenant, episode)
        if row.state in {"done", "poisoned", "cancelled"}:
            outcomes = await self._parts.episodes.outcomes([episode])
            return _ended(row, outcomes.get(episode), await self._excerpt(tenant, episode))
        seat = self._parts.seats.of(episode)
        if row.state == "pending" or seat is None:
            return EpisodeView(id=episode, state="queued", task=row.spec.task, branch=await self._told(tenant, row.spec))
        # Whoever waits looks again and again, and so is never taken for gone; another tenant does not come to here.
        seat.called()
        history = seat.history
        return EpisodeView(
            id=episode,
            state="ready" if seat.asked else "busy" if seat.instruction else "queued",
            task=row.spec.task,
            instruction=seat.instruction,
            turns=len(history),
            observation=history[-1].observation if history else None,
            branch=await self._seated(tenant, seat, row.spec),
        )

    async def _seated(self, tenant: TenantId, seat: Seat, spec: EpisodeSpec) -> BranchView | None:
        """As `_told`; from the first question on the attempt's record says what will always be the case."""
        if not seat.instruction:
            return await self._told(tenant, spec)
        if seat.branch is None:
            seat.branch = await self._told(tenant, spec)
        return seat.branch

    async def _told(self, tenant: TenantId, spec: EpisodeSpec) -> BranchView | None:
        return None if spec.branch is None else _branch(spec, await self._excerpt(tenant, spec.episode_id))


def _sampled(call: ModelCall | CallName | None) -> tuple[int, ...] | None:
    return call.completion_ids if call is not None else None


def _ended(row: EpisodeRow, outcome: Outcome | None, excerpt: Excerpt | None) -> EpisodeView:
    return EpisodeView(
        id=row.spec.episode_id,
        state="ended",
        task=row.spec.task,
        instruction=excerpt.header.instruction if excerpt is not None else "",
        turns=excerpt.turns if excerpt is not None else 0,
        observation=excerpt.last[-1].observation if excerpt is not None and excerpt.last else None,
        terminated=isinstance(outcome, Scored),
        truncated=isinstance(outcome, Censored),
        outcome=outcome,
        branch=_branch(row.spec, excerpt),
    )


def _branch(spec: EpisodeSpec, last: Excerpt | None) -> BranchView | None:
    """Where a fork came from, and what came of it as its record says."""
    if spec.branch is None:
        return None
    came_of = {"agreed": last.header.agreed, "detail": last.header.started_because} if last else {"agreed": None, "detail": ""}
    return BranchView.model_validate({"episode": spec.branch.episode, "turns": spec.branch.turns} | came_of)


def _check_room(seat: Seat, step: StepRequest, most: int) -> None:
    if seat.kept_bytes >= most and not isinstance(step.action, Finish):
        raise Conflict(f"the actions and calls of the episode's steps have {most} bytes already", hint="finish or grade it")
    before = any(s.call is not None and s.call.prompt_ids is not None for s in seat.history)
    if step.call is not None and step.call.continues and not (before and step.call.prompt_ids is not None):
        raise UsageError("a call `continues` only with `prompt_ids`, behind a step that has some", hint="send the whole prompt")
