"""The files of a simulated box, in memory: archives in both directions, marks, differences. It uses no HTTP.

Paths are absolute and normalized. What boxd refuses is refused with the same codes; owners and times are not kept.
"""

import io
import posixpath
import tarfile
from collections.abc import Iterable, Sequence
from functools import lru_cache

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import SandboxError
from envfarm.sandboxes import boxd_change

DEFAULT_BYTES = 4 << 30
"""The largest archive if the request sets no limit."""
KEPT_MODE = 0o1777
LINKS_MOST = 40


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A refusal by boxd: a status, its code, and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Tree:
    """One box's files. Directories are separate entries; `/` always exists."""

    def __init__(self) -> None:
        self._entries: dict[str, ChangedFile] = {}
        self._marked: dict[str, ChangedFile] | None = None
        self._roots: tuple[str, ...] = ()
        self._exclude: tuple[str, ...] = ()

    def is_dir(self, path: str) -> bool:
        """Whether it is a directory; links are followed."""
        found = self._resolved(path)
        return found == "/" or (found in self._entries and self._entries[found].is_dir)

    def read(self, path: str) -> bytes | None:
        """A file's contents, following links; None if there is no such file."""
        entry = self._entries.get(self._resolved(path))
        return None if entry is None else entry.content

    def write(self, path: str, content: bytes, *, append: bool = False) -> None:
        """Write a file in an existing directory. Raises `Refused` if the directory is missing or the path is a directory."""
        path = self._resolved(path)
        if not self.is_dir(posixpath.dirname(path)) or self.is_dir(path):
            raise Refused(404, "not_found", f"{path}: no such directory")
        old = self._entries.get(path)
        before = (old.content or b"") if old is not None and append else b""
        self._put(path, ChangedFile(path[1:], old.mode if old else 0o644, before + content))

    def make_dirs(self, path: str) -> None:
        """Create a directory and its parents. Raises `Refused` if a file is in the way."""
        if path == "/" or self.is_dir(path):
            return
        if path in self._entries:
            raise Refused(422, "unsafe_path", f"{path}: no directory")
        self.make_dirs(posixpath.dirname(path))
        self._put(path, ChangedFile(path[1:], 0o755))

    def remove(self, path: str) -> bool:
        """Remove an entry and what is below it. Returns whether there was anything."""
        gone = [name for name in self._entries if _below(name, (path,))]
        for name in gone:
            del self._entries[name]
        return bool(gone)

    def unpack(self, archive: bytes, dest: str, max_bytes: int = DEFAULT_BYTES) -> tuple[int, int]:
        """Unpack a tar. Returns the number of entries and bytes. Entries outside `dest` are refused; earlier ones stay."""
        if dest != posixpath.normpath(dest) or not dest.startswith("/"):
            raise Refused(400, "bad_request", "dest: an absolute path")
        self.make_dirs(dest)
        entries, size = 0, 0
        for file in _unpacked(archive):
            size += len(file.content or b"")
            if size > max_bytes:
                raise Refused(413, "too_large", "the archive is too large")
            self._unpack_one(file, dest)
            entries += 1
        return entries, size

    def pack(self, paths: Sequence[str], max_bytes: int = DEFAULT_BYTES) -> bytes:
        """A tar of these paths and everything below them, with names from `/`."""
        found: list[ChangedFile] = []
        for path in paths:
            if path != "/" and path not in self._entries:
                raise Refused(404, "not_found", f"{path}: no such file or directory")
            found += [self._entries[name] for name in sorted(self._entries) if _below(name, (path,))]
        if sum(len(file.content or b"") for file in found) > max_bytes:
            raise Refused(413, "too_large", "the files are too large")
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for file in found:
                tar.addfile(_header(file), io.BytesIO(file.content or b""))
        return out.getvalue()

    def mark(self, roots: Sequence[str], exclude: Sequence[str]) -> int:
        """Remember the tree. Returns the number of entries."""
        self._marked, self._roots, self._exclude = dict(self._entries), tuple(roots), tuple(exclude)
        return sum(self._is_watched(name) for name in self._entries)

    def diff(self, max_bytes: int = DEFAULT_BYTES) -> list[bytes]:
        """The difference since the mark, as boxd's diff stream."""
        marked = self._marked
        if marked is None:
            raise Refused(409, "no_baseline", "POST /v1/baseline comes first")
        files = [file for name, file in self._entries.items() if marked.get(name) is not file and self._is_watched(name)]
        gone = [name[1:] for name in marked if name not in self._entries and self._is_watched(name)]
        if sum(len(file.content or b"") for file in files) > max_bytes:
            raise Refused(413, "too_large", "the difference is too large")
        return boxd_change.encode(Change(tuple(files), tuple(sorted(gone))))

    def restore(self, stream: bytes) -> dict[str, int]:
        """Apply a change. Returns what boxd's restore reports."""
        try:
            change = boxd_change.decode(stream)
        except SandboxError as e:
            raise Refused(400, "bad_archive", str(e)) from e
        deleted = sum(self.remove(f"/{path}") for path in change.deleted)
        for file in change.files:
            if not file.is_dir:
                self.remove(f"/{file.path}")
            self._unpack_one(file, "/")
        size = sum(len(file.content or b"") for file in change.files)
        return {"deleted": deleted, "kept": 0, "entries": len(change.files), "bytes": size}

    @property
    def size_bytes(self) -> int:
        """The total size of all contents."""
        return sum(len(file.content or b"") for file in self._entries.values())

    def _unpack_one(self, file: ChangedFile, dest: str) -> None:
        path = posixpath.join(dest, file.path)
        above = posixpath.dirname(path)
        if above != self._resolved(above):
            raise Refused(422, "unsafe_path", f"{file.path}: a link is on the way")
        self.make_dirs(above)
        if file.is_dir and self.is_dir(path):
            return
        if self.is_dir(path):
            raise Refused(422, "os_error", f"{file.path}: a directory is in the way")
        # The packed name, if they agree: then boxes of one checkout share its contents.
        self._put(path, file if path == f"/{file.path}" else ChangedFile(path[1:], file.mode, file.content, file.link))

    def _put(self, path: str, file: ChangedFile) -> None:
        self._entries[path] = file

    def _is_watched(self, name: str) -> bool:
        return _below(name, self._roots) and not _below(name, self._exclude)

    def _resolved(self, path: str) -> str:
        """The path with all links resolved."""
        done, left = "/", [part for part in path.split("/") if part]
        for _ in range(LINKS_MOST):
            while left:
                step = posixpath.join(done, left.pop(0))
                link = self._entries[step].link if step in self._entries else None
                if link is not None:
                    left = [part for part in posixpath.normpath(posixpath.join(done, link)).split("/") if part] + left
                    done = "/"
                    break
                done = step
            else:
                return done
        raise Refused(422, "unsafe_path", f"{path}: too many links")


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(root in {"/", path} or path.startswith(root + "/") for root in roots)


@lru_cache(maxsize=32)
def _unpacked(archive: bytes) -> tuple[ChangedFile, ...]:
    """A tar's entries, checked. Cached, since all boxes of a checkout get the same tar."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return tuple(_entry(tar, info) for info in tar)
    except (tarfile.TarError, EOFError, OSError) as e:
        raise Refused(400, "bad_archive", str(e)) from e


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> ChangedFile:
    name = info.name.removeprefix("./").rstrip("/")
    if not name or name.startswith("/") or any(part in {"", ".", ".."} for part in name.split("/")):
        raise Refused(422, "unsafe_path", f"{info.name}: leaves the destination")
    mode = info.mode & KEPT_MODE
    if info.isdir():
        return ChangedFile(name, mode)
    if info.issym():
        return ChangedFile(name, mode, link=info.linkname)
    if info.isreg():
        stream = tar.extractfile(info)
        return ChangedFile(name, mode, stream.read() if stream else b"")
    raise Refused(422, "unsafe_path", f"{info.name}: neither a file, a link nor a directory")


def _header(file: ChangedFile) -> tarfile.TarInfo:
    info = tarfile.TarInfo(file.path)
    info.mode = file.mode
    if file.is_dir:
        info.type = tarfile.DIRTYPE
    elif file.link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, file.link
    else:
        info.size = len(file.content or b"")
    return info
