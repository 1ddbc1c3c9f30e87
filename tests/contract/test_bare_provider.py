"""The protocol's part of the conformance suite on boxes without walls."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.testing.bare import BareProvider
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.conformance import CHECKS, Check

HAS = frozenset({"fencing"})


class Factory:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.blobs = MemoryBlobs()
        self._count = itertools.count()

    def spec(self) -> SandboxSpec:
        image = ImageRef(kind="host", digest=digest.of_bytes(b"bare"))
        return SandboxSpec(environment=Environment(image=image, work_dir=str(self.home / f"work-{next(self._count)}")))

    async def blob(self, archive: bytes) -> BlobRef:
        return await self.blobs.put(archive)


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return Factory(tmp_path)


@pytest.fixture
async def provider(boxd: Path, factory: Factory) -> AsyncIterator[BareProvider]:
    provider = BareProvider(factory.home, boxd, factory.blobs)
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", [check for check in CHECKS if check.needs <= HAS], ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: BareProvider, factory: Factory) -> None:
    await check.run(provider, factory)
