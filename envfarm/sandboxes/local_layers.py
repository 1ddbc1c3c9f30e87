"""Unpacked layers and checkouts of local boxes, by digest: `<home>/layers/<hex>/{tree,meta.json}`.

A layer appears whole or not at all: it is unpacked next to its final place and then renamed. Archives are hostile: nothing is written
outside the tree.
"""

import contextlib
import fcntl
import io
import json
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from envfarm.core.errors import ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest
from envfarm.sandboxes.local_plan import Tree

UNFINISHED = ".unpacking-"
MAX_ENTRIES = 1_000_000
MAX_BYTES = 32 << 30


class LayerTrees:
    """The layer store, for boxes. Its methods block; `unpack` must run in a thread."""

    def __init__(self, layers: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._layers = layers
        self._faults = faults

    def find(self, digest: Digest) -> Tree | None:
        """The layer's tree, or None if it is not on this machine."""
        place = self._layers / digest.removeprefix("sha256:")
        path = place / "tree"
        try:
            tops = frozenset(entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
        except OSError:
            return None
        meta: Any = {}
        with contextlib.suppress(FileNotFoundError):
            meta = json.loads((place / "meta.json").read_bytes())
        known = meta if isinstance(meta, dict) else {}
        return Tree(path, tops, root=known.get("root") is True, system=known.get("system") is True)

    def below_opt(self, digests: Iterable[Digest]) -> dict[str, Path]:
        """Paths of the attached layers' directories below /opt, by name. Raises `ImageError` for a layer that is not on this machine."""
        found: dict[str, Path] = {}
        for digest in digests:
            tree = self.find(digest)
            if tree is None:
                raise ImageError(
                    f"the attached layer {digest} is not on this machine", hint="`envfarm scaffolds build` makes the layers of scaffolds"
                )
            found |= {path.name: path for path in (tree.path / "opt").glob("*") if path.is_dir() and not path.is_symlink()}
        return found

    def unpack(self, digest: Digest, archive: bytes) -> Tree:
        """Unpack a tar rooted at `/`, once per digest. Raises `ImageError` for an invalid archive or one that would leave its tree."""
        self._layers.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh, lock = self._fresh()
        tree = fresh / "tree"
        try:
            tree.mkdir()
            extract(archive, tree)
            (fresh / "meta.json").write_text(json.dumps({"kind": "checkout"}))
            self._faults.reach("layer build")
            with contextlib.suppress(OSError):  # another process was first; its tree is the same
                fresh.rename(self._layers / digest.removeprefix("sha256:"))
        except (tarfile.TarError, EOFError, ValueError, OSError) as e:
            raise ImageError(f"the archive {digest} cannot be unpacked: {e}") from e
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            os.close(lock)
        found = self.find(digest)
        if found is None:
            raise ImageError(f"the layer {digest} vanished while it was unpacked")
        return found

    def _fresh(self) -> tuple[Path, int]:
        """A new directory and its locked descriptor. A collector may remove the directory before it is locked; then the next is tried."""
        while True:
            fresh = self._layers / f"{UNFINISHED}{secrets.token_hex(8)}"
            fresh.mkdir()
            with contextlib.suppress(FileNotFoundError):
                lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if fresh.exists():
                    return fresh, lock
                os.close(lock)

    def collect_unfinished(self) -> int:
        """Remove what killed processes left half unpacked. Returns how many there were."""
        removed = 0
        for fresh in self._layers.glob(f"{UNFINISHED}*"):
            with contextlib.suppress(OSError):
                lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(fresh)
                    removed += 1
                finally:
                    os.close(lock)
        return removed


def extract(archive: bytes, tree: Path) -> None:
    """Unpack into an empty directory that nobody else writes to. Owners and set-user bits are dropped; modes, times and links are kept.

    Raises `ValueError` for names that leave the tree, entries through a link, devices and bombs; `tarfile.TarError` for an invalid tar.
    """
    total = 0
    directories: list[tuple[Path, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*", errors="surrogateescape") as tar:
        for count, entry in enumerate(tar):
            total += entry.size
            if count >= MAX_ENTRIES or total > MAX_BYTES:
                raise ValueError("the archive has more entries or bytes than an environment may have")
            path = _place(tree, entry.name)
            if path == tree:
                continue
            _make_parents(tree, path)
            if entry.isdir():
                _make_parents(tree, path / "inside")
                directories.append((path, entry))
            else:
                _extract_leaf(tar, entry, tree, path)
    for path, entry in reversed(directories):
        path.chmod(stat.S_IMODE(entry.mode) & 0o1777 | 0o700)
        os.utime(path, (entry.mtime, entry.mtime))


def _place(tree: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} is outside the archive's tree")
    return tree.joinpath(*parts)


def _make_parents(tree: Path, path: Path) -> None:
    """Create the directories above `path`. None of them may be a link."""
    parent = tree
    for part in path.relative_to(tree).parts[:-1]:
        parent = parent / part
        with contextlib.suppress(FileExistsError):
            parent.mkdir()
            continue
        if not stat.S_ISDIR(parent.lstat().st_mode):
            raise ValueError(f"an entry is below {parent.relative_to(tree)}, which is not a directory")


def _extract_leaf(tar: tarfile.TarFile, entry: tarfile.TarInfo, tree: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # a later entry replaces an earlier one; raises for a directory
    if entry.issym():
        path.symlink_to(entry.linkname)
        os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
        return
    if entry.islnk():
        target = _place(tree, entry.linkname)
        _make_parents(tree, target)
        if not stat.S_ISREG(target.lstat().st_mode):
            raise ValueError(f"{entry.name!r} is a hard link to something other than a file")
        os.link(target, path, follow_symlinks=False)
        return
    stream = tar.extractfile(entry) if entry.isreg() else None
    if stream is None:
        raise ValueError(f"{entry.name!r} is a device or a pipe")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        os.fchmod(fd, stat.S_IMODE(entry.mode) & 0o777)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
