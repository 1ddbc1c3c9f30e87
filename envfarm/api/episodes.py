"""`/v1/episodes`: episodes whose actions the trainer chooses, and what happened in any episode of the tenant."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from envfarm.api.access import Farm, Key, Waits, Who, scope
from envfarm.core.action import Finish
from envfarm.core.errors import NotFound
from envfarm.core.ids import EpisodeId
from envfarm.core.rollout import EpisodeRequest, EpisodeView, StepRequest, StepView
from envfarm.core.trajectory import Trajectory

router = APIRouter(prefix="/v1/episodes", tags=["episodes"], dependencies=[scope("episodes")])
Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the answer; the answer says where it was not enough.")]
GRADE = "grade"
"""The step id of the end that `POST …/grade` asks for."""


@router.post("", status_code=HTTPStatus.CREATED)
async def create(farm: Farm, who: Who, waits: Waits, request: EpisodeRequest, key: Key = None, wait_s: Wait = 30.0) -> EpisodeView:
    """Begin an episode. `queued` is a good answer: it has no box yet; ask again."""
    async with waits.one(who.tenant):
        return await farm.steps.create(who.tenant, request, key=key, wait_s=min(wait_s, farm.options.most_wait_s))


@router.get("/{episode}")
async def get(farm: Farm, who: Who, waits: Waits, episode: EpisodeId, wait_s: Wait = 0.0) -> EpisodeView:
    """Where it stands. With `wait_s` the call waits until it wants an action or is over."""
    async with waits.one(who.tenant):
        return await farm.steps.get(who.tenant, episode, wait_s=min(wait_s, farm.options.most_wait_s))


@router.post("/{episode}/steps", responses={202: {"model": StepView}})
async def step(
    farm: Farm, who: Who, waits: Waits, episode: EpisodeId, step: StepRequest, response: Response, wait_s: Wait = 60.0
) -> StepView:
    """Carry an action out. The same step id never runs twice: 202 means that it still runs, and to ask again with it."""
    async with waits.one(who.tenant):
        view = await farm.steps.step(who.tenant, episode, step, wait_s=min(wait_s, farm.options.most_wait_s))
    if not view.done:
        response.status_code = HTTPStatus.ACCEPTED
    return view


@router.post("/{episode}/grade", responses={202: {"model": EpisodeView}})
async def grade(farm: Farm, who: Who, waits: Waits, episode: EpisodeId, response: Response, wait_s: Wait = 60.0) -> EpisodeView:
    """End the episode and have it graded; of one that is over, its outcome. 202 while the grading runs."""
    async with waits.one(who.tenant):
        view = await farm.steps.get(who.tenant, episode)
        if view.state != "ended":
            end = StepRequest(step_id=GRADE, action=Finish())
            view = (await farm.steps.step(who.tenant, episode, end, wait_s=min(wait_s, farm.options.most_wait_s))).episode
    if view.state != "ended":
        response.status_code = HTTPStatus.ACCEPTED
    return view


@router.post("/{episode}/snapshot", status_code=HTTPStatus.CREATED)
async def snapshot(farm: Farm, who: Who, episode: EpisodeId) -> EpisodeView:
    """Keep the box as it is, where the sandbox can; 501 where it cannot."""
    return await farm.steps.branch(who.tenant, episode, "snapshot")


@router.post("/{episode}/fork", status_code=HTTPStatus.CREATED)
async def fork(farm: Farm, who: Who, episode: EpisodeId) -> EpisodeView:
    """Another episode that goes on from here, where the sandbox can; 501 where it cannot."""
    return await farm.steps.branch(who.tenant, episode, "fork")


@router.delete("/{episode}")
async def close(farm: Farm, who: Who, episode: EpisodeId) -> EpisodeView:
    """Call it off, with its box. Safe to repeat."""
    return await farm.steps.close(who.tenant, episode)


@router.get("/{episode}/trajectory")
async def trajectory(farm: Farm, who: Who, episode: EpisodeId) -> Trajectory:
    """What happened, step by step, also of a rollout's episode."""
    row = await farm.listing.episode(who.tenant, episode)
    found = await farm.trajectories.last(row.spec.episode_id)
    if found is None:
        raise NotFound(f"nothing happened in {episode} yet")
    return found
