"""Arguments of the conformance checks for the tests of providers."""

from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.testing.blobs import MemoryBlobs


class Factory:
    """Small boxes from one image, and blobs in memory."""

    def __init__(self, image: ImageRef) -> None:
        self.blobs = MemoryBlobs()
        self._image = image

    def spec(self) -> SandboxSpec:
        return SandboxSpec(environment=Environment(image=self._image, work_dir="/testbed"), disk_mib=256, memory_mib=512, pids=256)

    async def blob(self, archive: bytes) -> BlobRef:
        return await self.blobs.put(archive)
