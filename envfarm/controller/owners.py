"""Which processes of this machine still live, by locks that the kernel drops when a process ends, however it ends.

Used by the local pool: an episode that is marked as running by a dead owner is taken up again. Not for farms of several machines;
they have leases.
"""

import fcntl
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envfarm.core.errors import StoreError, boundary


class Owners:
    """A directory with one locked file per live owner."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(self) -> Iterator[str]:
        """Be an owner until the block ends; gives the name that others may ask for. Raises `StoreError` when no file can be made."""
        with boundary(StoreError, "taking an owner's lock"):
            self._directory.mkdir(parents=True, exist_ok=True)
            path, fd = self._locked_file()
        try:
            yield path.stem
        finally:
            path.unlink(missing_ok=True)
            os.close(fd)

    def collect(self) -> int:
        """Remove the files of dead owners; how many. Raises `StoreError`."""
        with boundary(StoreError, "looking for dead owners"):
            names = [path.stem for path in self._directory.glob("*.lock")]
        return sum(not self.alive(name) for name in names)

    def _locked_file(self) -> tuple[Path, int]:
        """A new file and its locked descriptor. A collector may have taken it before it was locked: then it has no name any more."""
        while True:
            # The name is unique for all time, so that a later process with the same number is never taken for this one.
            path = self._directory / f"{self._machine()}-{os.getpid()}-{secrets.token_hex(8)}.lock"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink > 0:
                return path, fd
            os.close(fd)

    def known_dead(self, name: str) -> bool:
        """Whether it was an owner of this directory, and its process died. False for names of other machines."""
        return name.startswith(f"{self._machine()}-") and not self.alive(name)

    @staticmethod
    def _machine() -> str:
        return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

    def alive(self, name: str) -> bool:
        """Whether the owner's process still lives. A name that was never one is dead."""
        path = self._directory / f"{name}.lock"
        if path.parent != self._directory:
            return False
        with boundary(StoreError, "asking for an owner's lock"):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            else:
                path.unlink(missing_ok=True)
                return False
            finally:
                os.close(fd)
