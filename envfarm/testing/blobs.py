"""A blob store in memory, for tests."""

from envfarm.core import digest as digests
from envfarm.core.errors import StoreError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef


class MemoryBlobs:
    """A `BlobStore` that keeps blobs in memory only."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}

    async def put(self, data: bytes) -> BlobRef:
        """See `BlobStore.put`."""
        digest = digests.of_bytes(data)
        self._blobs[digest] = data
        return BlobRef(digest=digest, size_bytes=len(data))

    async def get(self, digest: Digest) -> bytes:
        """See `BlobStore.get`."""
        try:
            return self._blobs[digest]
        except KeyError:
            raise StoreError(f"no blob {digest}") from None
