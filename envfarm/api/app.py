"""`create_app`: the API as one ASGI application. The only place where its parts are put together."""

from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from envfarm import __version__
from envfarm.api import (
    catalogue,
    datasets,
    engines,
    episodes,
    metrics,
    policies,
    problems,
    results,
    rewards,
    rollouts,
    tasks,
    tenants,
    usage,
)
from envfarm.api.access import Authentication, Farm, Waiting
from envfarm.api.body_limit import BodyLimit, Bound
from envfarm.api.links import operation_id
from envfarm.api.measured import Measured
from envfarm.api.services import Services
from envfarm.core.frozen import Frozen

RESOURCES = (rollouts, results, episodes, rewards, tasks, catalogue, datasets, policies, engines, tenants, usage, metrics)
health = APIRouter(tags=["health"])


class Health(Frozen):
    """Whether the farm answers."""

    ok: bool = True
    version: str = __version__


@health.get("/healthz")
async def alive() -> Health:
    """The process lives."""
    return Health()


@health.get("/readyz")
async def ready(farm: Farm) -> Health:
    """The database answers, too; 503 where it does not."""
    await farm.access.quotas()
    return Health()


def create_app(services: Services) -> FastAPI:
    """The application."""
    problem = {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    app = FastAPI(
        title="envfarm",
        version=__version__,
        summary="Episodes, rewards and trajectories for trainers",
        responses={"4XX": problem, "5XX": problem},
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )
    app.state.services = services
    app.state.waiting = Waiting(services.options.waiting_calls)
    problems.install(app)
    for resource in RESOURCES:
        app.include_router(resource.router)
    app.include_router(health)
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=5)
    options = services.options
    below = {catalogue.BLOBS: Bound(options.max_blob_bytes, held=False), episodes.router.prefix: Bound(options.max_step_bytes)}
    app.add_middleware(BodyLimit, options=options, below=below)
    app.add_middleware(Authentication, access=services.access)
    app.add_middleware(Measured, observer=services.observer)
    return app
