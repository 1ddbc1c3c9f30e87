"""The difference between the archive of a work dir after an agent's work and the original tree. Standard library, Python 3.8 on.

Only the verifier archive uses it; in the farm boxd computes differences. The archive is hostile: nothing in it is unpacked to disk.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

from envfarm.core.change import CHANGE_BYTES, Change, ChangedFile

BYTES_MAX = 1 << 30
ENTRIES_MAX = 500_000


class TreeError(ValueError):
    """The archive is invalid or too large, or the tree was changed too much."""


def difference(archive: str, root: str) -> Change:
    """What the archive (of `root`, names relative to `/`) changes in the tree at `root` (absolute). `.git` is left out.

    Raises `TreeError` if the archive cannot be read, `OSError` if the tree cannot be read.
    """
    files: list[ChangedFile] = []
    special: list[str] = []
    seen = set()
    changed_bytes = 0
    for name, entry in _entries(archive, root.strip("/")):
        seen.add(name)
        if entry is None:
            special.append(name)
        elif not entry.is_dir and not _is_same(entry):
            files.append(entry)
            changed_bytes += len(entry.content or b"")
            if changed_bytes > CHANGE_BYTES:
                raise TreeError(f"too much was changed: more than {CHANGE_BYTES} bytes")
    deleted = [path for path in _walk(root) if path not in seen]
    return Change(tuple(files), tuple(deleted), tuple(special))


def _entries(archive: str, prefix: str) -> Iterator[tuple[str, ChangedFile | None]]:
    """Each name below the prefix with its entry; None for special files, which are never carried over."""
    try:
        with tarfile.open(archive, mode="r:", errors="surrogateescape") as tar:
            for member, held in _resolved(tar):
                name = member.name[2:] if member.name.startswith("./") else member.name
                if name.startswith(prefix + "/") and not _in_git(name[len(prefix) + 1 :]):
                    yield name, _entry(tar, member, held, name)
    except TreeError:
        raise
    except Exception as e:  # the archive is hostile, and tarfile raises more than its own errors for a malformed one
        raise TreeError(f"the archive of the work dir cannot be read: {type(e).__name__}: {e}") from e


def _resolved(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarInfo | None]]:
    """Each member with the member that holds its content: for a hard link the earlier one of its target's name, or None without one.

    A hard link counts with its target's size. tarfile's own search for a target goes through all members.
    """
    known: dict[str, tarfile.TarInfo] = {}
    total = 0
    for number, member in enumerate(tar):
        held = known.get(os.path.normpath(member.linkname)) if member.islnk() else member
        if held is not None:
            known[os.path.normpath(member.name)] = held
            total += held.size
        if number > ENTRIES_MAX or total > BYTES_MAX:
            raise TreeError("the archive of the work dir is too large")
        yield member, held


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, held: tarfile.TarInfo | None, name: str) -> ChangedFile | None:
    if member.isdir():
        return ChangedFile(name, member.mode & 0o777)
    if held is not None and held.issym():
        return ChangedFile(name, 0o777, link=held.linkname)
    if held is None or not held.isreg():
        return None
    if held.size > CHANGE_BYTES and not _is_as_large(name, held.size):  # no change may have so much, and memory may not, either
        raise TreeError(f"too much was changed: {name} alone has {held.size} bytes")
    stream = tar.extractfile(held)
    return ChangedFile(name, member.mode & 0o777, content=stream.read()) if stream is not None else None


def _is_as_large(name: str, size: int) -> bool:
    return os.path.isfile("/" + name) and os.stat("/" + name).st_size == size


def _is_same(file: ChangedFile) -> bool:
    path = "/" + file.path
    if os.path.islink(path):
        return file.link == os.readlink(path)
    if file.link is not None or not os.path.isfile(path):
        return False
    with open(path, "rb") as stream:
        return (os.stat(path).st_mode & 0o111 != 0) == (file.mode & 0o111 != 0) and stream.read() == file.content


def _walk(root: str) -> list[str]:
    found = []
    for folder, folders, names in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        links = [f for f in folders if os.path.islink(os.path.join(folder, f))]
        found += [os.path.join(folder, name).lstrip("/") for name in [*names, *links] if name != ".git"]
    return sorted(found)


def _in_git(path: str) -> bool:
    return path == ".git" or path.startswith(".git/")
