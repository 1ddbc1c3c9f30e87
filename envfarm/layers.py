"""The directory of unpacked layers, `<root>/<hex>/{tree,meta.json}`, shared by any number of processes.

`images` writes layers of environments here, `sandboxes` unpacks checkouts and mounts both; its form is known nowhere else. A layer is
there whole or not at all, also after a power loss. One that is damaged is not there: whoever makes it again puts it in its place. It must
not decide what a layer holds.
"""

import ctypes
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from envfarm import locked_directories
from envfarm.core.errors import ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest

FRESH = ".new-"
TREE = "tree"
META = "meta.json"


class Layer(NamedTuple):
    """A whole layer. What else was noted of it is for people."""

    tree: Path
    """This directory is seen as `/`."""
    root: bool
    """Whether it is a complete root, which replaces the host's."""
    system: bool
    """Whether it is a base system."""
    size_bytes: int


class LayerDirectory:
    """Layers by digest below one directory. Its methods block."""

    def __init__(self, root: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self.root = root
        self._faults = faults

    def tree(self, digest: Digest) -> Path:
        """Where the layer's files are, or would be."""
        return self._place(digest) / TREE

    def find(self, digest: Digest) -> Layer | None:
        """The layer; None when there is none, or a damaged one. Raises `ImageError` when that cannot be told."""
        place = self._place(digest)
        try:
            meta = json.loads((place / META).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as e:
            hint = f"make it readable; or end the farms of this home and remove {place}: it is made again when it is next needed"
            raise ImageError(f"layer {digest} cannot be read: {e}", hint=hint) from e
        if not isinstance(meta, dict) or not (place / TREE).is_dir():
            return None
        size = meta.get("bytes")
        return Layer(place / TREE, meta.get("root") is True, meta.get("system") is True, size if isinstance(size, int) else 0)

    def fresh(self, digest: Digest) -> AbstractContextManager[Path]:
        """A new directory for making this layer. It is removed at the end, and by `collect` when its maker was killed. Raises `OSError`."""

        def make() -> Path:
            self.root.mkdir(parents=True, exist_ok=True)
            path = self.root / f"{FRESH}{hex_of(digest)}-{secrets.token_hex(8)}"
            path.mkdir(mode=0o700)
            return path

        return locked_directories.locked_directory(make)

    def publish(self, digest: Digest, fresh: Path, meta: Mapping[str, Any]) -> None:
        """Put `fresh`, whose `tree` is made, in the layer's place, durable when this returns. Raises `OSError`.

        Another process's whole layer stays, since living boxes may use it. The whole file system is synced: one call, where syncing each
        of thousands of files would wait for the disk as often.
        """
        (fresh / META).write_text(json.dumps(meta, indent=1))
        fresh.chmod(0o755)
        sync_file_system(fresh)
        self._faults.reach("layer build")
        place = self._place(digest)
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # one looks and renames at a time
            if self.find(digest) is None:
                with self.fresh(digest) as aside:
                    with suppress(FileNotFoundError):
                        place.rename(aside / "damaged")
                    fresh.rename(place)
            os.fsync(folder)
        finally:
            os.close(folder)

    def collect(self) -> int:
        """Remove what killed processes left half made; how many there were. What a living one makes is left alone."""
        return locked_directories.collect(self.root.glob(f"{FRESH}*"))

    def _place(self, digest: Digest) -> Path:
        return self.root / hex_of(digest)


def sync_file_system(path: Path) -> None:
    """Have the disk keep all that was written to the file system of `path`. Raises `OSError`, also when an earlier write failed."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(folder)


def hex_of(digest: Digest) -> str:
    """A layer's name as a file. Raises `ImageError` for what is no sha256 digest."""
    name = digest.removeprefix("sha256:")
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):  # noqa: PLR2004 - a sha256
        raise ImageError(f"{digest!r} is not a sha256 digest")
    return name
