"""Snapshots and forks of episodes: names for a place in a record, and other episodes that go on from there.

A fork's box is made as every box is and brought to its place by the runner, which replays the parent's steps and says
whether they were answered as before (docs/adr/0030). No sandbox needs to know of it.
"""

from envfarm.controller.service import Fork
from envfarm.controller.step_episodes import StepEpisodes, StepParts
from envfarm.core import digest
from envfarm.core.action import Finish
from envfarm.core.episode import Branch, EpisodeSpec
from envfarm.core.errors import Unsupported, UsageError
from envfarm.core.ids import EpisodeId, TenantId
from envfarm.core.rollout import EpisodeRequest, EpisodeView, ForkRequest, SnapshotView
from envfarm.core.trajectory import Step, record_digest


class Forks:
    """The forks of all tenants."""

    def __init__(self, parts: StepParts, steps: StepEpisodes) -> None:
        self._parts = parts
        self._steps = steps

    async def snapshot(self, tenant: TenantId, episode: EpisodeId) -> SnapshotView:
        """A name for the record as it is now. Raises `NotFound`."""
        steps = await self._record(tenant, (await self._own(tenant, episode)).episode_id)
        return SnapshotView(episode=episode, snapshot=_name(steps), turns=len(steps))

    async def fork(self, tenant: TenantId, episode: EpisodeId, request: ForkRequest, *, key: str | None, wait_s: float) -> EpisodeView:
        """A step-driven episode behind the same steps.

        Raises `UsageError` for steps or a snapshot that there are not, `Unsupported` for a program's episode, and as `StepEpisodes.create`.
        """
        spec = await self._own(tenant, episode)
        asked = digest.of_json({"fork": episode, "request": request.model_dump(mode="json")})
        known = await self._steps.known(tenant, key, asked) if key is not None else None
        begun = known or await self._begin(tenant, spec, request, key, asked)
        return await self._steps.get(tenant, begun, wait_s=wait_s, parent=episode)

    async def _begin(self, tenant: TenantId, parent: EpisodeSpec, request: ForkRequest, key: str | None, asked: str) -> EpisodeId:
        past = _chosen(await self._record(tenant, parent.episode_id), request)
        branch = Branch(episode=parent.episode_id, turns=len(past), record=record_digest(past))
        same = EpisodeRequest(task=parent.task, budgets=parent.budgets, sandbox=parent.sandbox, seed=parent.seed)
        return await self._steps.begin(tenant, same, key=key, fork=Fork(branch=branch, asked=asked))

    async def _own(self, tenant: TenantId, episode: EpisodeId) -> EpisodeSpec:
        spec = (await self._parts.rollouts.episode(tenant, episode)).spec
        self._parts.seats.called(episode)
        return spec

    async def _record(self, tenant: TenantId, episode: EpisodeId) -> tuple[Step, ...]:
        """What can be gone on from: all steps but the end."""
        async with self._parts.reading.one(tenant):
            last = await self._parts.trajectories.last(episode)
        if last is None:
            return ()
        if last.sampled is not None:
            raise Unsupported("an agent that is a program has no steps to go on from")
        ended = bool(last.steps) and isinstance(last.steps[-1].action, Finish)
        return last.steps[:-1] if ended else last.steps


def _name(steps: tuple[Step, ...]) -> str:
    return f"{len(steps)}-{record_digest(steps)}"


def _chosen(steps: tuple[Step, ...], request: ForkRequest) -> tuple[Step, ...]:
    turns = request.turns
    if request.snapshot:
        told = request.snapshot.partition("-")[0]
        turns = int(told) if told.isascii() and told.isdigit() else -1
        if request.turns not in {None, turns} or _name(steps[: max(turns, 0)]) != request.snapshot:
            raise UsageError("the episode has no such snapshot", hint="an episode that began anew has another past: take another one")
    turns = len(steps) if turns is None else turns
    if turns > len(steps):
        raise UsageError(f"the episode has {len(steps)} steps to go on from, not {turns}")
    return steps[:turns]
