"""The conformance suite on local boxes, as whoever runs the tests: root or an ordinary user."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import ImageRef
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_ownership import Ownership
from envfarm.testing.conformance import CHECKS, Check
from tests.contract.conftest import Factory


@pytest.fixture
def factory() -> Factory:
    return Factory(ImageRef(kind="host", digest=digest.of_bytes(b"host")))


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, factory: Factory) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, factory.blobs)
    factory.look = lambda: set(Ownership(tmp_path / "home" / "boxes").known())
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: LocalProvider, factory: Factory) -> None:
    await check.run(provider, factory)
