"""`/v1/rollouts`: ask for groups of episodes, watch them, read what happened, call them off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import FiniteFloat, TypeAdapter

from envfarm.api.access import Farm, Key, Waiting, Waits, Who, scope
from envfarm.api.bodies import PlainJson, in_pieces
from envfarm.api.cursors import COUNT, decode, encode
from envfarm.api.links import leads_to
from envfarm.api.services import ApiOptions
from envfarm.core.frozen import Frozen
from envfarm.core.ids import RunId, TenantId
from envfarm.core.listing import EpisodeRecord, TrajectoryPage
from envfarm.core.rollout import RolloutEvent, RolloutRequest, RolloutView

router = APIRouter(route_class=PlainJson, prefix="/v1/rollouts", tags=["rollouts"], dependencies=[scope("rollouts")])
_PLACE: TypeAdapter[tuple[FiniteFloat, RunId]] = TypeAdapter(tuple[FiniteFloat, RunId])


class RolloutPage(Frozen):
    """Some of a tenant's rollouts, newest first."""

    items: tuple[RolloutView, ...]
    next: str | None
    """The cursor of the next page; null at the end."""


NEXT = leads_to("rollout", "rollouts.get", "rollouts.cancel", "rollouts.trajectories")


@router.post("", status_code=HTTPStatus.ACCEPTED, responses={202: NEXT})
async def submit(farm: Farm, who: Who, request: RolloutRequest, response: Response, key: Key = None) -> RolloutView:
    """Ask for a group of episodes on each selected task."""
    view = await farm.rollouts.submit(who.tenant, request, key=key)
    response.headers["Location"] = f"/v1/rollouts/{view.id}"
    return view


@router.get("")
async def listed(
    farm: Farm, who: Who, cursor: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> RolloutPage:
    """The tenant's rollouts, newest first; fewer than `limit` on a page where what was asked for is long."""
    found, last = await farm.listing.mine(who.tenant, limit=limit, after=decode(_PLACE, cursor, None))
    return RolloutPage(items=found, next=encode(last) if last else None)


@router.get("/{rollout}")
async def get(farm: Farm, who: Who, rollout: RunId, *, whole: bool = False) -> RolloutView:
    """Where a rollout stands. `whole` leaves out nothing of its request, however long."""
    return await farm.rollouts.get(who.tenant, rollout, whole=whole)


@router.delete("/{rollout}")
async def cancel(farm: Farm, who: Who, rollout: RunId) -> RolloutView:
    """Call it off. Safe to repeat; groups that are ready can still be leased."""
    return await farm.rollouts.cancel(who.tenant, rollout)


@router.get(
    "/{rollout}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "The rollout is over, and nothing came after that event."},
    },
)
async def events(
    farm: Farm,
    who: Who,
    waits: Waits,
    rollout: RunId,
    last_event_id: Annotated[str, Header(max_length=20, pattern=r"^[0-9]*$")] = "",
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """What happened and happens, as server-sent events, until the rollout is over. Goes on after `Last-Event-ID` (or `after`).

    A stream may end before: come again with the last event's id, until that is 204.
    """
    since = min(int(last_event_id or after), 2**31 - 1)
    first = await farm.listing.events(who.tenant, rollout, after=since, limit=1)
    waits.check(who.tenant)
    if first.over and not first.events:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    found = farm.rollouts.events(who.tenant, rollout, after=since)
    lines = _counted(waits, who.tenant, _stream(found, farm.options, waits.stopping))
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.get("/{rollout}/trajectories", response_model=TrajectoryPage)
async def trajectories(
    farm: Farm,
    who: Who,
    rollout: RunId,
    group: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> Response:
    """Every episode, or those of one group, with its steps and tokens, page by page. Ask with `Accept-Encoding: gzip`."""
    after = decode(COUNT, cursor, -1)
    rows = await farm.listing.episodes(who.tenant, rollout, after=after, limit=limit, group=group)
    outcomes = await farm.episodes.outcomes([row.spec.episode_id for _, row in rows])
    items: list[str] = []
    size, place = 0, after
    for place, row in rows:  # noqa: B007 - the last place is the next page's cursor
        episode = row.spec.episode_id
        recorded = await farm.steps.trajectory(who.tenant, episode)
        record = EpisodeRecord(spec=row.spec, state=row.state, outcome=outcomes.get(episode), trajectory=recorded)
        items.append(await asyncio.to_thread(record.model_dump_json))
        size += len(items[-1])
        if size >= farm.options.max_page_bytes:
            break
    full = len(items) == limit or len(items) < len(rows)
    following = json.dumps(encode(place) if full else None)
    separated = [text for item in items for text in (",", item)][1:]
    return in_pieces('{"items":[', *separated, f'],"next":{following}}}')


async def _stream(found: AsyncIterator[RolloutEvent], options: ApiOptions, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Events as text; a comment where there is none for a while, so that nothing on the way closes the connection."""
    following: asyncio.Task[RolloutEvent] | None = None
    ending = asyncio.ensure_future(stopping.wait())
    until = monotonic() + options.most_stream_s
    try:
        while not stopping.is_set() and (left_s := until - monotonic()) > 0:
            following = following or asyncio.ensure_future(_next(found))
            wait_s = min(options.keep_alive_s, left_s)
            done, _ = await asyncio.wait({following, ending}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if following not in done:
                yield ": alive\n\n"
                continue
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
    finally:
        ending.cancel()
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await following


async def _counted(waits: Waiting, tenant: TenantId, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    # Counted from its first line on: a stream whose client is gone before that is never begun, nor ended.
    with waits.held(tenant):
        async for line in lines:
            yield line


async def _next(found: AsyncIterator[RolloutEvent]) -> RolloutEvent:
    return await anext(found)
