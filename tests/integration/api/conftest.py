"""A service with fake boxes, served on a real socket, with two tenants."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from envfarm import dashboard
from envfarm.api.app import create_app
from envfarm.api.services import ApiOptions
from envfarm.stores.access import SCOPES
from envfarm.telemetry.prometheus import PrometheusObserver
from envfarm.testing.served import served
from envfarm.testing.small_service import A, B, SmallService

SCOPES_OF_TENANTS = SCOPES - {"admin", "metrics"}


@dataclass
class Site:
    """A served farm."""

    farm: SmallService
    url: str
    token: str
    other_token: str
    admin_token: str
    http: httpx.AsyncClient
    """As tenant `a`."""
    metrics: PrometheusObserver

    def as_tenant(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    metrics = PrometheusObserver()
    held_s = getattr(request, "param", 60.0)
    farm = SmallService(tmp_path, observer=metrics, counts=metrics, api=ApiOptions(most_wait_s=held_s, most_stream_s=held_s))
    await farm.open(tasks=4)
    token = await farm.access.issue(A, "t", SCOPES_OF_TENANTS)
    other = await farm.access.issue(B, "t", SCOPES_OF_TENANTS)
    admin = await farm.access.issue(A, "admin", SCOPES)
    async with AsyncExitStack() as held:
        await held.enter_async_context(farm.playing())
        app = create_app(farm.services)
        dashboard.install(app)
        url = await held.enter_async_context(served(app))
        http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        yield Site(farm, url, token, other, admin, await held.enter_async_context(http), metrics)
    await farm.close()
