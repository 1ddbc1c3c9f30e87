"""`/metrics`: what the farm counts, for Prometheus. Tenants' names are in it: it wants a token with the scope `metrics` (or `admin`)."""

from fastapi import APIRouter, Response

from envfarm.api.access import Farm, scope
from envfarm.core.errors import NotFound

router = APIRouter(tags=["health"], dependencies=[scope("metrics", "admin")])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(farm: Farm) -> Response:
    """What the whole farm counted, in Prometheus' text format: as all its hosts last told, living ones and ended ones."""
    if farm.metrics is None:
        raise NotFound("this service counts nothing")
    body, media_type = await farm.metrics()
    return Response(body, headers={"Content-Type": media_type})
