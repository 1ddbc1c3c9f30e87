"""Temporary directories that outlive no process for long: each is locked by its maker, and whoever comes later removes the dead's.

Used by what works on files before there is a box: checkouts, proofs, locks of dependencies. Directories of other users are never touched.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "envfarm-scratch-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A fresh directory where the system keeps temporary files, removed at the end of the block."""
    place, lock = _locked_directory()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def collect() -> int:
    """Remove this user's directories whose makers were killed; how many."""
    removed = 0
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(place)
                    removed += 1
            finally:
                os.close(lock)
    return removed


def _locked_directory() -> tuple[Path, int]:
    """A new directory and its locked descriptor. A collector may have taken it before it was locked: then it is gone."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if place.exists():
                return place, lock
            os.close(lock)
