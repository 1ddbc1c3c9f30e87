"""Append-only files of JSON lines, as trajectories, journals and ledgers are. A crash in the middle of a write leaves a torn last line,
which was never acknowledged: readers leave it out, and who appends next removes it. Must not know what the lines say.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from envfarm.core.errors import StoreError

BUFFER = 1 << 20


def append(
    path: Path,
    data: bytes,
    *,
    durable: bool = True,
    shared: bool = False,
    at: int | None = None,
    is_sound: Callable[[bytes], bool] = lambda line: True,  # noqa: ARG005 - asked by name
) -> int:
    """Write whole lines behind the last whole one; where the file then ends. A write that fails leaves nothing of them.

    Args:
        path: of the file, made with its directories where it is missing.
        data: lines, each with its end.
        durable: whether they survive a power loss once this returns.
        shared: whether others append to the file, too: it is locked meanwhile. Without it only one thread may append at a time.
        at: where the last line of this caller ends, if it has written any: nobody else may have written since.
        is_sound: asked of the last line, unless it is this caller's: one that is not is removed like a torn one.

    Raises:
        OSError: a full disk, no permission.
        StoreError: somebody else has written.
    """
    fd = _opened(path)
    try:
        if shared:
            fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        end = size if size == at else _line_end_before(fd, size)
        if at is not None and end != at:
            raise StoreError(f"{path}: another process goes on with it")
        if at is None and end > 0:
            start = _line_end_before(fd, end - 1)
            if not is_sound(os.pread(fd, end - 1 - start, start)):
                end = start
        if end < size:
            os.ftruncate(fd, end)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(fd, data[written:], end + written)
            if durable:
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
    finally:
        os.close(fd)
    if durable and size == 0:
        _keep_name(path)
    return end + len(data)


def read(path: Path) -> Iterator[bytes]:
    """Every whole line, without its end; none where there is no file. Raises `OSError`."""
    try:
        file = path.open("rb", buffering=BUFFER)  # each read of it waits for the interpreter's lock: few, where lines are long
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _keep_name(path: Path) -> None:
    """The name itself must survive a power loss, too."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _line_end_before(fd: int, end: int) -> int:
    """The offset behind the last line end of so many bytes; 0 where there is none."""
    while end > 0:
        start = max(end - 65536, 0)
        at = os.pread(fd, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
