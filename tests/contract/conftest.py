"""Arguments of the conformance checks for the tests of providers."""

import asyncio
from collections.abc import Callable, Collection

from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.testing.blobs import MemoryBlobs


class Factory:
    """Small boxes from one image, and blobs in memory."""

    look: Callable[[], Collection[str]]
    """See `SpecFactory.boxes`: set with the provider."""

    def __init__(self, image: ImageRef) -> None:
        self.blobs = MemoryBlobs()
        self.work_dir = "/testbed"
        self._image = image

    def spec(self) -> SandboxSpec:
        return SandboxSpec(environment=Environment(image=self._image, work_dir=self.work_dir), disk_mib=256, memory_mib=512, pids=256)

    async def blob(self, archive: bytes) -> BlobRef:
        return await self.blobs.put(archive)

    async def boxes(self) -> Collection[str]:
        return await asyncio.to_thread(self.look)
