"""Content-addressed bytes in files: checkouts, archives, and what records refer to, kept once however often they are put.

Made by `envfarm.wiring`; used by image builders, box providers and records of episodes. What is put is kept for good, save what somebody
held: that goes when its last holder lets go (docs/adr/0055).
"""

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import zstandard

from envfarm.core import digest
from envfarm.core.errors import StoreError, UsageError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef
from envfarm.stores import whole_files

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
HELD = "held"
"""A folder per holder, with a link to each file that it holds: the file system counts them."""
LEVEL = 3
"""zstd's own default: checkouts shrink to a third at several hundred MB/s."""


class FileBlobStore:
    """A `BlobStore` of zstd-compressed files below one directory, spread over 256 folders.

    Any number of processes may share the directory: a blob appears whole, by rename, or not at all.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, data: bytes) -> BlobRef:
        """Keep them; durable when it returns. Raises `StoreError` when the disk is full or cannot be written; nothing half is left."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, digest: Digest) -> bytes:
        """Raises `StoreError` when they are missing, cannot be read, or do not have the digest."""
        return await asyncio.to_thread(self._get, digest)

    async def take(self, wanted: Digest, chunks: AsyncIterator[bytes]) -> BlobRef:
        """Keep what comes in pieces, without holding all of it in memory.

        Raises `UsageError` where it does not have the digest, and as `put` does; nothing half is left.
        """
        target = self.path(wanted)
        if await self.holds(wanted):
            return BlobRef(digest=wanted, size_bytes=len(await self.get(wanted)))
        seen, size = hashlib.sha256(), 0
        with self._kept(wanted), whole_files.writing(target, mode=0o600) as file:
            with zstandard.ZstdCompressor(level=LEVEL).stream_writer(file, closefd=False) as packed:
                async for chunk in chunks:
                    seen.update(chunk)
                    size += len(chunk)
                    await asyncio.to_thread(packed.write, chunk)
            if f"sha256:{seen.hexdigest()}" != wanted:
                raise UsageError(f"what was sent as blob {wanted} has the digest sha256:{seen.hexdigest()}")
        return BlobRef(digest=wanted, size_bytes=size)

    async def holds(self, digest: Digest) -> bool:
        """Whether there is such a blob. Raises `StoreError` for what is no sha256 digest."""
        return await asyncio.to_thread(self.path(digest).exists)

    def path(self, digest: Digest) -> Path:
        """Where a blob's file is, or would be. Raises `StoreError` for what is no sha256 digest."""
        match = DIGEST.fullmatch(digest)
        if match is None:
            raise StoreError(f"{digest!r} is not a sha256 digest")
        return self._root / match[1][:2] / f"{match[1]}.zst"

    def hold(self, holder: str, digests: Sequence[Digest]) -> None:
        """Keep those of these that are here until the holder lets go. Blocking. Raises `OSError`."""
        folder = self._root / HELD / holder
        folder.mkdir(parents=True, exist_ok=True)
        for path in map(self.path, digests):
            with suppress(FileNotFoundError, FileExistsError):
                os.link(path, folder / path.name)

    async def is_held(self, holder: str, digest: Digest) -> bool:
        """Whether this holder holds such a blob, and it is there. Raises `StoreError` for what is no sha256 digest."""
        path = self.path(digest)
        return await asyncio.to_thread(lambda: (self._root / HELD / holder / path.name).exists() and path.exists())

    def let_go(self, holder: str) -> None:
        """Remove what this holder held last, and nobody has put since. Blocking. Raises `OSError`."""
        folder = self._root / HELD / holder
        with suppress(FileNotFoundError):  # also where another process lets go of the same
            held_at = folder.stat().st_mtime_ns
            for link in list(folder.iterdir()):
                link.unlink(missing_ok=True)
                blob = self._root / link.name[:2] / link.name
                found = blob.stat()
                if found.st_nlink == 1 and found.st_mtime_ns <= held_at:
                    blob.unlink(missing_ok=True)
            folder.rmdir()

    def collect(self) -> int:
        """Remove what killed writers left half written; how many. Blocking."""
        return whole_files.collect(self._root.glob(f"*/{whole_files.FRESH}*"))

    def _put(self, data: bytes) -> BlobRef:
        ref = BlobRef(digest=digest.of_bytes(data), size_bytes=len(data))
        target = self.path(ref.digest)
        with suppress(FileNotFoundError):
            with suppress(PermissionError):
                os.utime(target)  # whoever lets go of it meanwhile sees that it is wanted
            return ref
        with self._kept(ref.digest):
            whole_files.write(target, zstandard.ZstdCompressor(level=LEVEL).compress(data), mode=0o600)
        return ref

    @contextmanager
    def _kept(self, digest: Digest) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            if e.errno in FULL:
                message = f"the disk that holds {self._root} is full: blob {digest} was not kept"
                raise StoreError(message, hint="free space there, or move ENVFARM_HOME") from e
            raise StoreError(f"blob {digest} cannot be written below {self._root}: {e}") from e

    def _get(self, wanted: Digest) -> bytes:
        path = self.path(wanted)
        try:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        except FileNotFoundError as e:
            raise StoreError(f"blob {wanted} is not in {self._root}") from e
        except (OSError, zstandard.ZstdError) as e:
            raise StoreError(f"blob {wanted} cannot be read from {path}: {e}") from e
        if digest.of_bytes(data) != wanted:
            raise StoreError(f"blob {wanted} is damaged: {path} holds other bytes", hint="remove that file and make the blob anew")
        return data
