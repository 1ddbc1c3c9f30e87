"""`/metrics`: what the farm counts, for Prometheus. Tenants' names are in it: it wants a token with the scope `metrics` (or `admin`)."""

from fastapi import APIRouter, Response

from envfarm.api.access import Farm, scope
from envfarm.core.errors import NotFound

router = APIRouter(tags=["health"], dependencies=[scope("metrics", "admin")])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(farm: Farm) -> Response:
    """Everything of this process in Prometheus' text format."""
    if farm.metrics is None:
        raise NotFound("this service counts nothing")
    body, media_type = farm.metrics()
    return Response(body, headers={"Content-Type": media_type})
