"""Layers and checkouts as boxes mount them. Checkouts are unpacked here, when a box first needs them.

Archives are hostile: nothing is written outside the tree.
"""

import contextlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest
from envfarm.layers import TREE, LayerDirectory
from envfarm.sandboxes.local_plan import Tree

MAX_ENTRIES = 1_000_000
MAX_BYTES = 32 << 30


class LayerTrees:
    """The directory of layers, for boxes. Its methods block; `unpack` must run in a thread."""

    def __init__(self, layers: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._layers = LayerDirectory(layers, faults=faults)

    def find(self, digest: Digest) -> Tree | None:
        """The layer's tree, or None if it is not on this machine, whole. Raises `ImageError` if that cannot be told."""
        layer = self._layers.find(digest)
        if layer is None:
            return None
        try:
            tops = frozenset(entry.name for entry in os.scandir(layer.tree) if entry.is_dir(follow_symlinks=False))
        except OSError as e:
            raise ImageError(f"layer {digest} cannot be read: {e}", hint=f"make {layer.tree} readable for this farm") from e
        return Tree(layer.tree, tops, root=layer.root, system=layer.system)

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
        try:
            with self._layers.fresh(digest) as fresh:
                tree = fresh / TREE
                tree.mkdir()
                extract(archive, tree)
                self._layers.publish(digest, fresh, {"kind": "checkout"})
        except (tarfile.TarError, EOFError, ValueError, OSError) as e:
            raise ImageError(f"the archive {digest} cannot be unpacked: {e}") from e
        found = self.find(digest)
        if found is None:
            raise BuildOutage(f"the layer {digest} vanished while it was unpacked")
        return found


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
