"""Tar archives that are the same bytes for the same content: sorted, one time, one owner. Pure; for whatever fills boxes and images."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envfarm.core.errors import ImageError

AGENT_UID = 1000
"""The agent's user and group in every archive. Providers whose boxes number it otherwise give the files to their own agent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, symbolic link or directory of an archive. `path` is relative to `/`, without `..`."""

    path: str
    mode: int = 0o644
    content: bytes | None = None
    link: str | None = None

    @property
    def is_dir(self) -> bool:
        """Neither content nor target: a directory."""
        return self.content is None and self.link is None


def pack(entries: Iterable[Entry], *, mtime_s: int = 0, owner: int = AGENT_UID) -> bytes:
    """One archive, rooted at `/`, of entries in any order. Of two with the same path the later one counts.

    GNU headers: names are bytes there, so that a file name which is no UTF-8 survives.
    """
    last = {entry.path: entry for entry in entries}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        for path in sorted(last, key=lambda p: p.split("/")):
            entry = last[path]
            info = tarfile.TarInfo(path)
            info.mtime, info.uid, info.gid = mtime_s, owner, owner
            info.mode = entry.mode & 0o777
            if entry.link is not None:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
            elif entry.content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(entry.content)
            tar.addfile(info, io.BytesIO(entry.content or b""))
    return buffer.getvalue()


def unpack(archive: bytes) -> Iterator[tuple[Entry, int]]:
    """Every entry with its mtime in seconds; hard links become files. Raises `ImageError` for what is no tar archive of plain files."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            for info in tar:
                yield _entry(tar, info), int(info.mtime)
    except tarfile.TarError as e:
        raise ImageError(f"a tree's archive cannot be read: {e}") from e


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    path = info.name.removeprefix("./").strip("/")
    if ".." in path.split("/"):
        raise ImageError(f"an archive's entry leaves the archive: {info.name!r}")
    if info.issym():
        return Entry(path, 0o777, link=info.linkname)
    if info.isdir():
        return Entry(path, info.mode)
    if info.isreg() or info.islnk():
        file = tar.extractfile(info)
        return Entry(path, info.mode, content=file.read() if file else b"")
    raise ImageError(f"an archive holds what is neither file, link nor directory: {info.name!r}")
