"""`/v1/policies`: a trainer moves its policy on, pauses it, and aborts what is in flight. One call each."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from envfarm.api.access import Farm, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.core.frozen import Frozen
from envfarm.core.rollout import NAME, PolicyState

router = APIRouter(route_class=PlainJson, prefix="/v1/policies", tags=["policies"], dependencies=[scope("policies")])
Name = Annotated[str, Path(pattern=NAME)]


class NewVersion(Frozen):
    """The version that the policy's endpoint serves from now on."""

    version: int = Field(ge=0, lt=2**31)


@router.get("/{name}")
async def get(farm: Farm, who: Who, name: Name) -> PolicyState:
    """A policy's version, and whether it is paused."""
    return await farm.versions.get(who.tenant, name)


@router.post("/{name}/version")
async def move_on(farm: Farm, who: Who, name: Name, new: NewVersion) -> PolicyState:
    """A new version came. Groups that fall out of their window begin anew; so does one whose members could no longer share a version."""
    return await farm.versions.move_on(who.tenant, name, new.version)


@router.post("/{name}/pause")
async def pause(farm: Farm, who: Who, name: Name) -> PolicyState:
    """Start no further episode of it. What is in flight goes on: see `abort`."""
    return await farm.versions.pause(who.tenant, name, paused=True)


@router.post("/{name}/resume")
async def resume(farm: Farm, who: Who, name: Name) -> PolicyState:
    """Start episodes again."""
    return await farm.versions.pause(who.tenant, name, paused=False)


@router.post("/{name}/abort")
async def abort(farm: Farm, who: Who, name: Name) -> PolicyState:
    """Groups that are in flight begin anew (once it is resumed, where it is paused)."""
    return await farm.versions.abort(who.tenant, name)
