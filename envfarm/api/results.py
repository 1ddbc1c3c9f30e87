"""`/v1/results`: finished groups across all of a tenant's rollouts, at least once, until they are acknowledged."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from envfarm.api.access import Farm, Waits, Who, scope
from envfarm.api.bodies import PlainJson, in_pieces
from envfarm.core.frozen import Frozen
from envfarm.core.rollout import Acknowledged, Leased, LeasedGroup, LeaseRequest

router = APIRouter(route_class=PlainJson, prefix="/v1/results", tags=["results"], dependencies=[scope("rollouts")])


SLICE_S = 1.0


class Acknowledge(Frozen):
    """Which leases are done with."""

    leases: tuple[Annotated[str, Field(max_length=100)], ...] = Field(max_length=1000)


@router.post("/lease", response_model=Leased)
async def lease(farm: Farm, who: Who, waits: Waits, ask: LeaseRequest, request: Request) -> Response:
    """The next finished groups, fewer where they are large. With `wait_s` the call waits for the first one."""
    left_s = min(ask.wait_s, farm.options.most_wait_s)
    async with waits.one(who.tenant):
        while True:
            # In slices: a trainer that hung up must not be given groups that nobody else then sees until the lease lapses.
            slice_s = min(left_s, SLICE_S)
            groups = await farm.rollouts.lease_results(who.tenant, ask.model_copy(update={"wait_s": slice_s}))
            left_s -= slice_s
            if groups or left_s <= 0 or await request.is_disconnected():
                break
    names = await farm.catalogue.names({group.result.task for group in groups}) if groups else {}
    texts = [await asyncio.to_thread(_told, group, names) for group in groups]
    separated = [text for group in texts for text in (",", group)][1:]
    return in_pieces('{"groups":[', *separated, "]}")


@router.post("/acknowledge")
async def acknowledge(farm: Farm, who: Who, done: Acknowledge) -> Acknowledged:
    """They are never given out again. Safe to repeat."""
    return await farm.rollouts.acknowledge(who.tenant, done.leases)


def _told(group: LeasedGroup, names: Mapping[str, str]) -> str:
    result = group.result.model_copy(update={"task_name": names.get(group.result.task, "")})
    return group.model_copy(update={"result": result}).model_dump_json()
