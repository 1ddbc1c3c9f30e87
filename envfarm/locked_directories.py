"""Directories that outlive their maker no longer than until somebody collects: each is locked by the process that made it. Those of other
users are never touched.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked_directory(make: Callable[[], Path]) -> Iterator[Path]:
    """A directory that `make` makes anew under a name of its own, removed at the end of the block. Raises `OSError`."""
    path, lock = _made_and_locked(make)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def collect(directories: Iterable[Path]) -> int:
    """Remove those of this user whose makers were killed; how many."""
    removed = 0
    for path in directories:
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                    removed += 1
            finally:
                os.close(lock)
    return removed


def _made_and_locked(make: Callable[[], Path]) -> tuple[Path, int]:
    """A new directory and its locked descriptor. A collector may have taken it before it was locked: then the next is tried."""
    while True:
        path = make()
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)
