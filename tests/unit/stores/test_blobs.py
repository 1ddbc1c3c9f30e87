"""The blob store keeps bytes once, whole or not at all."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import StoreError
from envfarm.core.ids import Digest
from envfarm.stores.blobs import FileBlobStore


@pytest.fixture
def store(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")


@contextmanager
def small_files() -> Iterator[None]:
    """Files of this process may not grow beyond 4 KiB, a log of these tests included: the nearest to a full disk that needs no mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


def files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file()]


async def test_what_is_put_is_got(store: FileBlobStore) -> None:
    ref = await store.put(b"\x00tar" * 1000)
    assert (ref.digest, ref.size_bytes) == (digest.of_bytes(b"\x00tar" * 1000), 4000)
    assert await store.get(ref.digest) == b"\x00tar" * 1000


async def test_the_same_bytes_are_kept_once(store: FileBlobStore, tmp_path: Path) -> None:
    assert await store.put(b"x") == await store.put(b"x")
    assert len(files(tmp_path)) == 1


async def test_nothing_can_be_kept(store: FileBlobStore) -> None:
    assert await store.get((await store.put(b"")).digest) == b""


async def test_a_missing_blob_is_named(store: FileBlobStore) -> None:
    with pytest.raises(StoreError, match="is not in"):
        await store.get(digest.of_bytes(b"never put"))


@pytest.mark.parametrize("name", ["sha256:../../etc/passwd", "", "sha256:" + "A" * 64, "md5:00"])
async def test_what_is_no_digest_reaches_no_file(store: FileBlobStore, name: str) -> None:
    with pytest.raises(StoreError, match="not a sha256 digest"):
        await store.get(Digest(name))


async def test_a_damaged_blob_is_refused(store: FileBlobStore) -> None:
    ref, other = await store.put(b"one"), await store.put(b"two")
    store.path(ref.digest).write_bytes(store.path(other.digest).read_bytes())
    with pytest.raises(StoreError, match="damaged"):
        await store.get(ref.digest)
    store.path(ref.digest).write_bytes(b"not zstd")
    with pytest.raises(StoreError, match="cannot be read"):
        await store.get(ref.digest)


async def test_a_write_that_fails_leaves_nothing(store: FileBlobStore, tmp_path: Path) -> None:
    noise = b"".join(digest.of_bytes(bytes([n % 256, n // 256])).encode() for n in range(2000))
    with small_files(), pytest.raises(StoreError, match="cannot be written"):
        await store.put(noise)
    assert files(tmp_path) == []


async def test_what_is_held_goes_with_its_last_holder_and_all_else_stays(store: FileBlobStore) -> None:
    shared, alone, checkout = [(await store.put(data)).digest for data in (b"shared", b"alone", b"checkout")]
    missing = Digest("sha256:" + "0" * 64)
    store.hold("one", [shared, alone, missing])
    store.hold("one", [shared])
    store.hold("two", [shared])
    store.let_go("one")
    store.let_go("one")
    assert [await store.holds(blob) for blob in (shared, alone, checkout)] == [True, False, True]
    store.let_go("two")
    assert [await store.holds(blob) for blob in (shared, checkout)] == [False, True]
    store.let_go("nobody")


async def test_what_was_put_since_it_was_held_stays_for_whoever_put_it(store: FileBlobStore, tmp_path: Path) -> None:
    blob = (await store.put(b"again")).digest
    store.hold("one", [blob])
    os.utime(tmp_path / "blobs" / "held" / "one", (0, 0))
    await store.put(b"again")
    store.let_go("one")
    assert await store.get(blob) == b"again"
    store.hold("two", [blob])
    store.let_go("two")
    assert not await store.holds(blob)
