"""All tries of all recipes, one JSON line each, whatever became of the record. Written by `environments`, read by the report of the yield.

Append-only; any number of builds may write to one file. A killed one leaves at most one torn line at the end, which readers leave out and
the next writer cuts off.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from envfarm.core.errors import StoreError, boundary
from envfarm.stores import json_lines
from task_builders.environment_attempts import Attempt


class AttemptLedger:
    """One file of tries."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, attempt: Attempt) -> None:
        """Keep a try. Raises `StoreError` when it cannot be written."""
        with boundary(StoreError, f"writing {self._path}"):
            json_lines.append(self._path, attempt.model_dump_json().encode() + b"\n", durable=False, shared=True)

    def read(self) -> Iterator[Attempt]:
        """Every try that was written whole. Raises `StoreError` for a line that is none."""
        with boundary(StoreError, f"reading {self._path}"):
            for number, line in enumerate(json_lines.read(self._path), start=1):
                try:
                    yield Attempt.model_validate_json(line)
                except ValidationError as e:
                    hint = "the ledger is damaged or another version's: move it away, nothing but this report needs it"
                    raise StoreError(f"{self._path}:{number}: not a try", hint=hint) from e
