"""The conformance suite on local boxes, as whoever runs the tests: root or an ordinary user."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.conformance import CHECKS, Check


class Factory:
    def __init__(self, blobs: MemoryBlobs) -> None:
        self._blobs = blobs

    def spec(self) -> SandboxSpec:
        image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
        return SandboxSpec(environment=Environment(image=image, work_dir="/testbed"), disk_mib=256, memory_mib=512, pids=256)

    async def blob(self, archive: bytes) -> BlobRef:
        return await self._blobs.put(archive)


@pytest.fixture
def factory() -> Factory:
    return Factory(MemoryBlobs())


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, factory: Factory) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, factory._blobs)
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: LocalProvider, factory: Factory) -> None:
    await check.run(provider, factory)
