"""Encodes and decodes changes as boxd transfers them: a tar whose first entry lists what was deleted. Pure.

The tar comes out of a hostile box: nothing in it is trusted.
"""

import io
import json
import stat
import tarfile
from typing import Any

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import SandboxError

BLOCK = tarfile.BLOCKSIZE
INDEX = ".envfarm/diff.json"
"""The first entry, which lists deletions and special files."""


def decode(archive: bytes) -> Change:
    """Decode boxd's diff. Raises `SandboxError` for an invalid one."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
            first = tar.next()
            if first is None or first.name != INDEX:
                raise SandboxError("the box's diff has no index")
            index = json.loads(_content(tar, first))
            files = tuple(_file(tar, entry) for entry in tar if entry.name != INDEX)
    except (tarfile.TarError, ValueError, EOFError) as e:
        raise SandboxError(f"the box's diff cannot be parsed: {e}") from e
    return Change(files, _paths(index, "deleted"), _paths(index, "special"))


def encode(change: Change, owner: tuple[int, int] = (0, 0), *, modified: int = 0) -> list[bytes]:
    """The tar for boxd's restore, in pieces, without copying contents. A boxd that is root gives every file to `owner` (uid, gid).

    `modified` is the modification time of every file, in seconds since 1970. Build tools compare times: it must be later than the time
    of whatever was built from the files that the change replaces.
    """
    index: dict[str, Any] = {"deleted": list(change.deleted), "changed": [], "added": [f.path for f in change.files]}
    first = ChangedFile(INDEX, 0o600, json.dumps(index, ensure_ascii=True).encode())
    pieces = [piece for file in (first, *sorted(change.files, key=lambda f: f.path)) for piece in _entry(file, owner, modified)]
    return [*pieces, bytes(2 * BLOCK)]


def _entry(file: ChangedFile, owner: tuple[int, int], modified: int) -> list[bytes]:
    _check(file.path)
    entry = tarfile.TarInfo(file.path)
    entry.mode, entry.mtime = file.mode, modified
    entry.uid, entry.gid = owner
    content = file.content or b""
    if file.is_dir:
        entry.type = tarfile.DIRTYPE
    elif file.link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, file.link
    else:
        entry.size = len(content)
    head = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return [head, content, bytes(-len(content) % BLOCK)] if content else [head]


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> ChangedFile:
    path = _check(entry.name.rstrip("/"))
    mode = stat.S_IMODE(entry.mode)
    if entry.isdir():
        return ChangedFile(path, mode)
    if entry.issym():
        return ChangedFile(path, mode, link=entry.linkname)
    if entry.isreg():
        return ChangedFile(path, mode, content=_content(tar, entry))
    raise SandboxError(f"the box's diff has an entry that is neither a file, a link nor a directory: {path!r}")


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    if stream is None:
        raise SandboxError(f"the box's diff has a file entry without content: {entry.name!r}")
    return stream.read()


def _paths(index: Any, key: str) -> tuple[str, ...]:
    names = index.get(key) if isinstance(index, dict) else None
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SandboxError(f"the index of the box's diff has no list of paths under {key!r}")
    return tuple(_check(name) for name in names)


def _check(path: str) -> str:
    if not path or path.startswith("/") or "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise SandboxError(f"not a path below the box's root: {path!r}")
    return path
