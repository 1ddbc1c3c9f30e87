"""`/v1/rewards`: a finished change, graded like any agent's."""

from http import HTTPStatus

from fastapi import APIRouter, Response

from envfarm.api.access import Farm, Key, Waits, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.api.episodes import Wait
from envfarm.core.rollout import RewardRequest, RewardView

router = APIRouter(route_class=PlainJson, prefix="/v1/rewards", tags=["rewards"], dependencies=[scope("rewards")])


@router.post("", responses={202: {"model": RewardView}})
async def reward(
    farm: Farm, who: Who, waits: Waits, request: RewardRequest, response: Response, key: Key = None, wait_s: Wait = 60.0
) -> RewardView:
    """Apply a patch in a fresh box and grade it. 202 while it is graded: send the same with the same Idempotency-Key again."""
    async with waits.one(who.tenant):
        view = await farm.steps.reward(who.tenant, request, key=key, wait_s=min(wait_s, farm.options.most_wait_s))
    if view.outcome is None:
        response.status_code = HTTPStatus.ACCEPTED
    return view
