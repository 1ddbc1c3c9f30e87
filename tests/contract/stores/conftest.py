"""Every test of the SQL stores runs twice: on SQLite, and on a real PostgreSQL (`url`)."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from sqlalchemy import Engine

from envfarm.core.rollout import Quota
from envfarm.stores.sql import open_database
from tests.contract.stores.one_process import A, B, Stores


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Engine]]:
    """A further engine of the same database, as another process would have it."""
    engines: list[Engine] = []

    def another() -> Engine:
        engines.append(open_database(url))
        return engines[-1]

    yield another
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(opened: Callable[[], Engine]) -> Engine:
    return opened()


@pytest.fixture
async def farm(engine: Engine) -> AsyncIterator[Stores]:
    stores = Stores(engine)
    await stores.episodes.open()
    for tenant in (A, B):
        await stores.access.add_tenant(tenant, Quota())
    stores.lease = await stores.leases.take("host", lease_s=60.0)
    yield stores
    await stores.episodes.close()
