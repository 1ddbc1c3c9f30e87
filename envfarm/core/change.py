"""A change to a tree of files: what an agent did, as the farm carries it between boxes. Standard library only, Python 3.8 on.

Made from what boxd's diff returns, filtered by grading, restored into a fresh box. Paths are relative to `/`, have no `..` and no
leading slash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

CHANGE_BYTES = 128 << 20
"""The most that the files of an agent's change may hold together: the farm has all of it in memory, once per episode. More is the agent's
doing, and is not graded."""


@dataclass(frozen=True)
class ChangedFile:
    """A file or symbolic link as it now is. Exactly one of `content` and `link` is set; a directory has neither."""

    path: str
    mode: int
    content: bytes | None = None
    link: str | None = None

    @property
    def is_dir(self) -> bool:
        """An (empty) directory that was made."""
        return self.content is None and self.link is None


@dataclass(frozen=True)
class Change:
    """Files as they now are, and paths that are gone."""

    files: tuple[ChangedFile, ...] = ()
    deleted: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    """Sockets, devices and pipes that were seen, and are never carried."""

    def __bool__(self) -> bool:
        """Whether there is anything to carry."""
        return bool(self.files or self.deleted)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that is touched, sorted."""
        return tuple(sorted({*(f.path for f in self.files), *self.deleted}))

    def only(self, keep: Callable[[str], bool]) -> Change:
        """The part of the change whose paths `keep` accepts."""
        return Change(
            tuple(f for f in self.files if keep(f.path)),
            tuple(p for p in self.deleted if keep(p)),
            tuple(p for p in self.special if keep(p)),
        )

    @property
    def digest(self) -> str:
        """`sha256:` of what the change does."""
        h = hashlib.sha256()
        for f in sorted(self.files, key=lambda f: f.path):
            kind = "d" if f.is_dir else "l" if f.link is not None else "f"
            h.update(f"{kind} {f.mode:o} {f.path}\0".encode(errors="surrogateescape"))
            h.update(hashlib.sha256(f.content or (f.link or "").encode(errors="surrogateescape")).digest())
        for path in sorted(self.deleted):
            h.update(f"- {path}\0".encode(errors="surrogateescape"))
        return "sha256:" + h.hexdigest()
