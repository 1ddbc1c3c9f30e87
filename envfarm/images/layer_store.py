"""Makes layers in the directory of layers: one maker at a time, of all processes. Used by the local layer builder.

It must not follow a link that a layer holds, nor write where a box could have put one.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from envfarm.core.errors import ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest
from envfarm.images.tarball import Entry
from envfarm.layers import TREE, Layer, LayerDirectory, hex_of

LOCK = ".lock-"
WAIT_S = 0.1


class LayerStore:
    """Layers by digest below one directory."""

    def __init__(self, root: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._layers = LayerDirectory(root, faults=faults)

    def tree(self, digest: Digest) -> Path:
        """Where the layer's files are, or would be: this directory is seen as `/`."""
        return self._layers.tree(digest)

    def find(self, digest: Digest) -> Layer | None:
        """The layer; None when there is none that is whole. Raises `ImageError` when that cannot be told."""
        return self._layers.find(digest)

    @asynccontextmanager
    async def claim(self, digest: Digest) -> AsyncIterator[None]:
        """Be the only one, of all processes and tasks, that makes this layer.

        The lock is asked for again and again: a thread that sleeps in it could not be cancelled, and a hundred waiters would hold
        every thread that the one builder needs.
        """
        self._layers.root.mkdir(parents=True, exist_ok=True)
        path = self._layers.root / f"{LOCK}{hex_of(digest)}"
        lock = await _locked(path)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
            os.close(lock)

    def publish(
        self,
        digest: Digest,
        entries: Iterable[tuple[Entry, int]],
        meta: Mapping[str, Any],
        *,
        finish: Callable[[Path], int] | None = None,
    ) -> int:
        """Write a layer of entries and their mtimes; its size in bytes. Call it within `claim`. Raises `ImageError`; blocks.

        `finish` adds to the tree what can only be made of the whole, and says how many bytes that are.
        """
        try:
            with self._layers.fresh(digest) as fresh:
                tree = fresh / TREE
                tree.mkdir()
                size = write_tree(tree, entries)
                if finish is not None:
                    size += finish(tree)
                self._layers.publish(digest, fresh, {"root": False, **meta, "bytes": size})
        except OSError as e:
            raise ImageError(f"layer {digest} cannot be written below {self._layers.root}: {e}", hint="is the disk full?") from e
        return size

    @contextmanager
    def scratch(self, digest: Digest) -> Iterator[Path]:
        """A directory for making this layer's files, within `claim`; `collect` removes it when its maker was killed."""
        with self._layers.fresh(digest) as folder:
            yield folder

    def collect(self) -> int:
        """Remove what killed processes left, half layers and locks; how many layers. Those that a living process makes are left alone."""
        for path in self._layers.root.glob(f"{LOCK}*"):
            lock = _try_lock(path)
            if lock is not None:
                path.unlink(missing_ok=True)
                os.close(lock)
        return self._layers.collect()


def write_tree(root: Path, entries: Iterable[tuple[Entry, int]]) -> int:
    """Write entries below an empty directory that nobody else writes to; bytes of the files. Everyone may read what is written.

    Raises `ImageError` when an entry would be written through a link, and `OSError`.
    """
    size, made, directories = 0, {root}, []
    for entry, mtime_s in entries:
        target = root / entry.path
        _make_parents(target.parent, made, entry.path)
        if entry.link is not None:
            target.symlink_to(entry.link)
            os.utime(target, (mtime_s, mtime_s), follow_symlinks=False)
        elif entry.content is None:
            _make_parents(target, made, entry.path)
            directories.append((target, mtime_s))
        else:
            with target.open("xb") as file:
                file.write(entry.content)
            target.chmod(0o755 if entry.mode & 0o111 else 0o644)
            os.utime(target, (mtime_s, mtime_s))
            size += len(entry.content)
    for directory, mtime_s in reversed(directories):
        os.utime(directory, (mtime_s, mtime_s))
    return size


def _make_parents(folder: Path, made: set[Path], what: str) -> None:
    if folder in made:
        return
    _make_parents(folder.parent, made, what)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ImageError(f"a layer's entry lies behind a link: {what!r}")
    folder.mkdir(mode=0o755, exist_ok=True)
    made.add(folder)


async def _locked(path: Path) -> int:
    while (lock := _try_lock(path)) is None:  # noqa: ASYNC110 - other processes set no event of ours
        await asyncio.sleep(WAIT_S)
    return lock


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None. The file may be removed by its holder: then the lock is on nothing, and is not taken."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None
