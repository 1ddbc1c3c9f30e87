"""`/v1/engines`: which engines sample for the programs in boxes. For the operator alone, since their addresses and keys are the farm's."""

from typing import Annotated

from fastapi import APIRouter, Body

from envfarm.api.access import Farm, scope
from envfarm.core.errors import NotFound, UsageError
from envfarm.gateway.engines.engine import EngineSpec
from envfarm.gateway.service import Gateway

router = APIRouter(prefix="/v1/engines", tags=["engines"], dependencies=[scope("admin")])


def _gateway(farm: Farm) -> Gateway:
    if farm.gateway is None:
        raise NotFound("no model is served here", hint="`envfarm serve --model DIR --engine …`")
    return farm.gateway


@router.get("", response_model_exclude={"__all__": {"api_key"}})
async def get(farm: Farm) -> tuple[EngineSpec, ...]:
    """The engines of this process, without their keys."""
    return _gateway(farm).engines


@router.put("", response_model_exclude={"__all__": {"api_key"}})
async def put(farm: Farm, engines: Annotated[tuple[EngineSpec, ...], Body(max_length=1000)]) -> tuple[EngineSpec, ...]:
    """These engines from now on. Calls that run go on; an episode stays with its engine as long as that is listed."""
    gateway = _gateway(farm)
    if len({e.name for e in engines}) != len(engines):
        raise UsageError("two engines have one name")
    if wrong := next((e.url for e in engines if not e.url.startswith(("http://", "https://"))), None):
        raise UsageError(f"{wrong[:200]!r} is no http(s) address")
    gateway.set_engines(engines)
    return gateway.engines
