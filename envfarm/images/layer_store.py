"""Unpacked layers in `<root>/<hex>/{tree,meta.json}`, shared by any number of processes. Used by the local layer builder.

A layer appears whole, by rename, or not at all; what a killed process left is told by its lock and removed by `collect`. It must not
follow a link that a layer holds, nor write where a box could have put one.
"""

import asyncio
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from envfarm.core.errors import ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest
from envfarm.images.tarball import Entry

FRESH = ".new-"
LOCK = ".lock-"
WAIT_S = 0.1


class LayerStore:
    """Layers by digest below one directory."""

    def __init__(self, root: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._root = root
        self._faults = faults

    def tree(self, digest: Digest) -> Path:
        """Where the layer's files are, or would be: this directory is seen as `/`."""
        return self._folder(digest) / "tree"

    def meta(self, digest: Digest) -> dict[str, Any] | None:
        """What was published beside the layer; None when there is no such layer."""
        try:
            value = json.loads((self._folder(digest) / "meta.json").read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) and self.tree(digest).is_dir() else None

    @asynccontextmanager
    async def claim(self, digest: Digest) -> AsyncIterator[None]:
        """Be the only one, of all processes and tasks, that makes this layer.

        The lock is asked for again and again: a thread that sleeps in it could not be cancelled, and a hundred waiters would hold
        every thread that the one builder needs.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / f"{LOCK}{_hex(digest)}"
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
        fresh = self._root / f"{FRESH}{_hex(digest)}-{uuid.uuid4().hex[:8]}"
        try:
            (fresh / "tree").mkdir(parents=True)
            fresh.chmod(0o755)
            size = write_tree(fresh / "tree", entries)
            if finish is not None:
                size += finish(fresh / "tree")
            (fresh / "meta.json").write_text(json.dumps({"root": False, **meta, "bytes": size}, indent=1))
            target = self._folder(digest)
            self._faults.reach("layer build")
            if target.exists():
                target.rename(fresh / "replaced")
            fresh.rename(target)
            shutil.rmtree(target / "replaced", ignore_errors=True)
        except OSError as e:
            raise ImageError(f"layer {digest} cannot be written below {self._root}: {e}", hint="is the disk full?") from e
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return size

    @contextmanager
    def scratch(self, digest: Digest) -> Iterator[Path]:
        """A directory for making this layer's files, within `claim`; `collect` removes it when its maker was killed."""
        with TemporaryDirectory(prefix=f"{FRESH}{_hex(digest)}-", dir=self._root) as folder:
            yield Path(folder)

    def collect(self) -> int:
        """Remove what killed processes left, half layers and locks; how many layers. Those that a living process makes are left alone."""
        removed = 0
        halves = [path.name.removeprefix(FRESH).partition("-")[0] for path in self._root.glob(f"{FRESH}*")]
        locks = [path.name.removeprefix(LOCK) for path in self._root.glob(f"{LOCK}*")]
        for name in dict.fromkeys([*halves, *locks]):
            lock_path = self._root / f"{LOCK}{name}"
            lock = _try_lock(lock_path)
            if lock is None:
                continue
            # Only now: its maker may have finished, and another one begun, since the names were read.
            for path in self._root.glob(f"{FRESH}{name}-*"):
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
            lock_path.unlink(missing_ok=True)
            os.close(lock)
        return removed

    def _folder(self, digest: Digest) -> Path:
        return self._root / _hex(digest)


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


def _hex(digest: Digest) -> str:
    name = digest.removeprefix("sha256:")
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):  # noqa: PLR2004 - a sha256
        raise ImageError(f"{digest!r} is not a sha256 digest")
    return name
