"""All tries of all recipes, one JSON line each, whatever became of the record. Written by `environments`, read by the report of the yield.

Append-only; any number of builds may write to one file. A killed one leaves at most one torn line at the end, which readers leave out and
the next writer cuts off.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from envfarm.core.errors import StoreError, boundary
from task_builders.environment_attempts import Attempt

LINE_BYTES_MAX = 1 << 20


class AttemptLedger:
    """One file of tries."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, attempt: Attempt) -> None:
        """Keep a try. Raises `StoreError` when it cannot be written."""
        with boundary(StoreError, f"writing {self._path}"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _cut_torn_line(file)
                file.write(attempt.model_dump_json().encode() + b"\n")

    def read(self) -> Iterator[Attempt]:
        """Every try that was written whole. Raises `StoreError` for a line that is none."""
        if not self._path.exists():
            return
        with boundary(StoreError, f"reading {self._path}"), self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Attempt.model_validate_json(line)
                except ValidationError as e:
                    hint = "the ledger is damaged or another version's: move it away, nothing but this report needs it"
                    raise StoreError(f"{self._path}:{number}: not a try", hint=hint) from e


def _cut_torn_line(file: BinaryIO) -> None:
    """Whoever holds the lock finds a last line without its end only where its writer is dead."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read(1) in {b"", b"\n"}:
        return
    start = max(0, size - LINE_BYTES_MAX)
    file.seek(start)
    tail = file.read(size - start)
    os.ftruncate(file.fileno(), start + tail.rfind(b"\n") + 1)
