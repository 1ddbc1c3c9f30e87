"""The difference between an archive of a work dir, as an agent left it, and the tree that it began with. Standard library, Python 3.8 on.

Used by the verifier archive only; in the farm boxd makes differences. The archive is hostile: nothing of it is unpacked here.
"""

from __future__ import annotations

import os
import tarfile

from envfarm.core.change import Change, ChangedFile

BYTES_MAX = 1 << 30
ENTRIES_MAX = 500_000


class TreeError(ValueError):
    """An archive that is none, or too large."""


def difference(archive: str, root: str) -> Change:
    """What the archive (of `root`, names relative to `/`) changes about the tree at `root` (absolute). `.git` is left out.

    Raises `TreeError` for what is no archive, `OSError` when the tree cannot be read.
    """
    prefix = root.strip("/")
    files: list[ChangedFile] = []
    special: list[str] = []
    seen = set()
    total = 0
    try:
        with tarfile.open(archive, mode="r:*", errors="surrogateescape") as tar:
            for number, member in enumerate(tar):
                total += member.size
                if number > ENTRIES_MAX or total > BYTES_MAX:
                    raise TreeError("the archive of the work dir is too large")
                name = member.name[2:] if member.name.startswith("./") else member.name
                if not name.startswith(prefix + "/") or _in_git(name[len(prefix) + 1 :]):
                    continue
                seen.add(name)
                if member.isdir():
                    continue
                changed = _changed(tar, member, name)
                if changed is None:
                    special.append(name)
                elif not _is_same(changed):
                    files.append(changed)
    except (tarfile.TarError, EOFError) as e:
        raise TreeError(f"the archive of the work dir cannot be read: {e}") from e
    deleted = [path for path in _walk(root) if path not in seen]
    return Change(tuple(files), tuple(deleted), tuple(special))


def _changed(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> ChangedFile | None:
    if member.issym():
        return ChangedFile(name, 0o777, link=member.linkname)
    if not (member.isreg() or member.islnk()):
        return None
    try:
        stream = tar.extractfile(member)
    except KeyError:  # a hard link to something outside the archive
        return None
    return ChangedFile(name, member.mode & 0o777, content=stream.read()) if stream is not None else None


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
