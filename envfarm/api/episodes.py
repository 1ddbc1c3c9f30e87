"""`/v1/episodes`: episodes whose actions the trainer chooses, and what happened in any episode of the tenant."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from envfarm.api.access import Farm, Key, Waits, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.api.cursors import decode, encode
from envfarm.api.links import leads_to
from envfarm.core import why
from envfarm.core.action import Finish
from envfarm.core.errors import NotFound
from envfarm.core.ids import Digest, EpisodeId
from envfarm.core.listing import DIGEST, EpisodePage, Explanation
from envfarm.core.rollout import EpisodeRequest, EpisodeView, ForkRequest, SnapshotView, StepRequest, StepView
from envfarm.core.trajectory import Trajectory
from envfarm.stores.episode_lists import EpisodePlace

router = APIRouter(route_class=PlainJson, prefix="/v1/episodes", tags=["episodes"], dependencies=[scope("episodes")])
Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the answer; the answer says where it was not enough.")]
BYTES = "application/octet-stream"
GRADE = "grade"
"""The step id of the end that `POST …/grade` asks for."""
CALLS = ("get", "step", "grade", "snapshot", "fork", "close", "trajectory", "explanation")
NEXT = leads_to("episode", *(f"episodes.{call}" for call in CALLS))
State = Literal["pending", "running", "done", "poisoned", "cancelled"]
_PLACE = TypeAdapter(EpisodePlace)


@router.get("")
async def listed(
    farm: Farm,
    who: Who,
    state: Annotated[tuple[State, ...], Query(max_length=5)] = (),
    rollout: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[str, Query(max_length=1000)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> EpisodePage:
    """The tenant's episodes with what became of them, of all rollouts or of one."""
    after = decode(_PLACE, cursor, None)
    items, last = await farm.lists.episodes(who.tenant, limit=limit, after=after, states=state, rollout=rollout)
    names = await farm.catalogue.names({item.task for item in items})
    named = tuple(item.model_copy(update={"task_name": names.get(item.task, "")}) for item in items)
    return EpisodePage(items=named, next=encode(last) if last else None)


@router.post("", status_code=HTTPStatus.CREATED, responses={201: NEXT})
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
async def snapshot(farm: Farm, who: Who, episode: EpisodeId) -> SnapshotView:
    """A name for what the episode has come to, to fork from later. Costs nothing, and lasts as long as the episode's record."""
    return await farm.forks.snapshot(who.tenant, episode)


@router.post("/{episode}/fork", status_code=HTTPStatus.CREATED, responses={201: NEXT})
async def fork(
    farm: Farm, who: Who, waits: Waits, episode: EpisodeId, request: ForkRequest, key: Key = None, wait_s: Wait = 30.0
) -> EpisodeView:
    """Another episode that goes on from here, or from a snapshot: in a box of its own, where the steps so far are done again.

    `branch.agreed` says whether they were answered as before. Where not, it began at the first step.
    """
    async with waits.one(who.tenant):
        return await farm.forks.fork(who.tenant, episode, request, key=key, wait_s=min(wait_s, farm.options.most_wait_s))


@router.delete("/{episode}")
async def close(farm: Farm, who: Who, episode: EpisodeId) -> EpisodeView:
    """Call it off, with its box. Safe to repeat. A rollout's or a reward's is 409: those are called off as a whole."""
    return await farm.steps.close(who.tenant, episode)


@router.get("/{episode}/trajectory", response_model=Trajectory)
async def trajectory(farm: Farm, who: Who, episode: EpisodeId) -> Response:
    """What happened, step by step, also of a rollout's episode."""
    return StreamingResponse(await farm.steps.record(who.tenant, episode), media_type="application/json")


@router.get("/{episode}/blobs/{digest}", response_class=Response, responses={200: {"content": {BYTES: {}}}})
async def blob(farm: Farm, who: Who, episode: EpisodeId, digest: Annotated[Digest, Path(pattern=DIGEST)]) -> Response:
    """What the episode's record keeps by reference: a call's routed experts, as the engine gave them. No other blob is there."""
    row = await farm.listing.episode(who.tenant, episode)
    if not await farm.blobs.is_held(row.spec.episode_id, digest):
        raise NotFound(f"{episode} keeps no blob {digest}")
    # Said not to be packed, so that nobody packs it here: it takes long, and gains nothing.
    return Response(await farm.blobs.get(digest), media_type=BYTES, headers={"Content-Encoding": "identity"})


@router.get("/{episode}/explanation")
async def explanation(farm: Farm, who: Who, episode: EpisodeId) -> Explanation:
    """Why its reward is what it is, in words; with the end of the tests' log for a token with the scope `admin`."""
    row = await farm.listing.episode(who.tenant, episode)
    outcomes = await farm.episodes.outcomes([row.spec.episode_id], whole="admin" in who.scopes)
    outcome = outcomes.get(row.spec.episode_id)
    lines = tuple(why.in_full(outcome)) if outcome else ()
    names = await farm.catalogue.names([row.spec.task])
    return Explanation(
        spec=row.spec,
        task_name=names.get(row.spec.task, ""),
        state=row.state,
        attempts=row.attempts,
        detail=row.detail,
        verdict=why.verdict(outcome),
        why=lines,
    )
