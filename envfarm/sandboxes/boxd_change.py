"""Changes as boxd carries them: a tar whose first entry lists what was deleted. Used by `boxd_client`; pure.

The tar comes out of a hostile box: nothing in it is trusted.
"""

import io
import json
import stat
import tarfile
from typing import Any

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import SandboxError

INDEX = ".envfarm/diff.json"
"""The entry that lists deletions and special files; it comes first."""


def decode(archive: bytes) -> Change:
    """What boxd's diff says. Raises `SandboxError` for a tar that boxd does not make."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
            first = tar.next()
            if first is None or first.name != INDEX:
                raise SandboxError("a diff without its index")
            index = json.loads(_content(tar, first))
            files = tuple(_file(tar, entry) for entry in tar if entry.name != INDEX)
    except (tarfile.TarError, ValueError, EOFError) as e:
        raise SandboxError(f"a diff that is not one: {e}") from e
    return Change(files, _paths(index, "deleted"), _paths(index, "special"))


def encode(change: Change, owner: tuple[int, int] = (0, 0)) -> bytes:
    """The tar that boxd's restore takes. A boxd that is root gives every file to `owner`, uid and gid."""
    out = io.BytesIO()
    index: dict[str, Any] = {"deleted": list(change.deleted), "changed": [], "added": [f.path for f in change.files]}
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        _add(tar, ChangedFile(INDEX, 0o600, json.dumps(index, ensure_ascii=True).encode()), owner)
        for file in sorted(change.files, key=lambda f: f.path):
            _add(tar, file, owner)
    return out.getvalue()


def _add(tar: tarfile.TarFile, file: ChangedFile, owner: tuple[int, int]) -> None:
    _check(file.path)
    entry = tarfile.TarInfo(file.path)
    entry.mode = file.mode
    entry.uid, entry.gid = owner
    if file.is_dir:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    elif file.link is not None:
        entry.type, entry.linkname = tarfile.SYMTYPE, file.link
        tar.addfile(entry)
    else:
        content = file.content or b""
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> ChangedFile:
    path = _check(entry.name.rstrip("/"))
    mode = stat.S_IMODE(entry.mode)
    if entry.isdir():
        return ChangedFile(path, mode)
    if entry.issym():
        return ChangedFile(path, mode, link=entry.linkname)
    if entry.isreg():
        return ChangedFile(path, mode, content=_content(tar, entry))
    raise SandboxError(f"a diff that carries neither a file, a link nor a directory: {path!r}")


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    if stream is None:
        raise SandboxError(f"a diff entry without content: {entry.name!r}")
    return stream.read()


def _paths(index: Any, key: str) -> tuple[str, ...]:
    names = index.get(key) if isinstance(index, dict) else None
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SandboxError(f"a diff whose index has no list of paths under {key!r}")
    return tuple(_check(name) for name in names)


def _check(path: str) -> str:
    if not path or path.startswith("/") or "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise SandboxError(f"not a path below the box's root: {path!r}")
    return path
