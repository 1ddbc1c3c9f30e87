"""`/v1/engines`: which engines sample for the programs in boxes. For the operator alone, since their addresses and keys are the farm's."""

from typing import Annotated

from fastapi import APIRouter, Body

from envfarm.api.access import Farm, scope
from envfarm.api.bodies import PlainJson
from envfarm.core.engine import EngineSpec
from envfarm.core.errors import UsageError

router = APIRouter(route_class=PlainJson, prefix="/v1/engines", tags=["engines"], dependencies=[scope("admin")])


@router.get("", response_model_exclude={"__all__": {"api_key"}})
async def get(farm: Farm) -> tuple[EngineSpec, ...]:
    """The farm's engines, without their keys."""
    return await farm.engines.get()


@router.put("", response_model_exclude={"__all__": {"api_key"}})
async def put(farm: Farm, engines: Annotated[tuple[EngineSpec, ...], Body(max_length=1000)]) -> tuple[EngineSpec, ...]:
    """These engines from now on, in every process of the farm. Calls that run go on; an episode stays with an engine that is listed.

    An engine without `api_key` keeps the key of the one that has its name and url now; `""` is no key.
    """
    if len({e.name for e in engines}) != len(engines):
        raise UsageError("two engines have one name")
    if wrong := next((e.url for e in engines if not e.url.startswith(("http://", "https://"))), None):
        raise UsageError(f"{wrong[:200]!r} is no http(s) address")
    keys = {(e.name, e.url): e.api_key for e in await farm.engines.get()}
    kept = tuple(
        e if "api_key" in e.model_fields_set else e.model_copy(update={"api_key": keys.get((e.name, e.url), e.api_key)}) for e in engines
    )
    await farm.engines.replace(kept)
    return kept
