"""The protocol's part of the conformance suite on simulated boxes, as the other providers pass it."""

from collections.abc import AsyncIterator

import pytest

from envfarm.core import digest
from envfarm.core.image import ImageRef
from envfarm.testing.boxd_simulator.ledger import broken_promises
from envfarm.testing.boxd_simulator.provider import SimulatedProvider
from envfarm.testing.boxd_simulator.server import BoxdSimulator
from envfarm.testing.conformance import PROTOCOL, Check
from tests.contract.conftest import Factory


@pytest.fixture
def factory() -> Factory:
    return Factory(ImageRef(kind="host", digest=digest.of_bytes(b"simulated")))


@pytest.fixture
async def provider(factory: Factory) -> AsyncIterator[SimulatedProvider]:
    simulator = await BoxdSimulator().start()
    provider = SimulatedProvider(simulator.port, factory.blobs)
    factory.look = lambda: {page.address for page in simulator.pages if page.ended is None}
    yield provider
    await provider.aclose()
    await simulator.close()
    assert list(broken_promises(simulator.pages)) == []


@pytest.mark.parametrize("check", PROTOCOL, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: SimulatedProvider, factory: Factory) -> None:
    await check.run(provider, factory)
