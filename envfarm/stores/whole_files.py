"""Files that appear whole or not at all, and what killed writers left of them. Called by the stores and by builders' notes.

A fresh file is locked as long as its writer lives, so that a collector can tell the dead's from the living's. It must not decide what a
file holds, nor name errors: callers know what could not be kept.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FRESH = ".new-"


def write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put a file in its place, durable when this returns. Raises `OSError`, and then nothing of it is left."""
    with writing(path, mode=mode) as file:
        file.write(content)


@contextmanager
def writing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file that is put in its place, durable, when the block ends; where the block raises, nothing of it is left. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, fd = _fresh_beside(path, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def kept_first(path: Path, content: bytes) -> bytes:
    """What a secret file holds: `content`, unless somebody was earlier. All who ask get the same. Raises `OSError`."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh, fd = _fresh_beside(path, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileExistsError):
                    path.hardlink_to(fresh)
        finally:
            fresh.unlink()
    return path.read_bytes()


def collect(candidates: Iterable[Path]) -> int:
    """Of these fresh files, remove those whose writers are dead; how many. Others are left alone, and so is what is no fresh file."""
    removed = 0
    for fresh in candidates:
        if not fresh.name.startswith(FRESH):
            continue
        with suppress(OSError):
            fd = os.open(fresh, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fresh.unlink()
                removed += 1
            finally:
                os.close(fd)
    return removed


def _fresh_beside(path: Path, mode: int) -> tuple[Path, int]:
    """A new file and its locked descriptor. A collector may have taken it before it was locked: then it has no name any more."""
    while True:
        fresh = path.parent / f"{FRESH}{secrets.token_hex(8)}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink > 0:
            return fresh, fd
        os.close(fd)
